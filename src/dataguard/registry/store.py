"""What a registry stores and how it is asked: records and the `Store` protocol.

The ledger and the shells see only this file, so PostgreSQL can stand in for SQLite;
one conformance suite runs over every implementation. No record holds a key.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeAlias

__all__ = [
    "CheckpointRow",
    "Dataset",
    "Export",
    "Fingerprint",
    "Json",
    "LedgerRow",
    "MarkKey",
    "Recipient",
    "Run",
    "Store",
]

Json: TypeAlias = Mapping[str, Any]
"""Free-form fields; whatever ``canonical.canonical_json`` accepts."""


@dataclass(frozen=True, slots=True)
class Dataset:
    """One version of a registered original.

    Attributes
    ----------
    id : str
        Unique, given by the caller.
    name, version : str, int
        Together unique; a new version keeps the lineage.
    lineage : str
        What mark keys are derived for; shared by all versions.
    kind : str
        Kind of data (``table``, ``series``, ...).
    rows, columns : int
        Extent; what a row is depends on the kind.
    sha256 : str
        Hex digest of the registered file.
    path : str
        Where the reference copy or the original lies.
    created : str
        RFC 3339 UTC.
    roots : mapping
        Hex Merkle roots and commitments by name.
    meta : mapping
        Anything else.
    """

    id: str
    name: str
    lineage: str
    version: int
    kind: str
    rows: int
    columns: int
    sha256: str
    path: str
    created: str
    roots: Json = field(default_factory=dict)
    meta: Json = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Recipient:
    """Who gets copies: an identifier (normalised by the caller) and when it was first used."""

    id: str
    created: str


@dataclass(frozen=True, slots=True)
class MarkKey:
    """The commitment to one mark key; the key itself is derived when needed and stored nowhere.

    Attributes
    ----------
    lineage, recipient, generation : str, str, int
        Together unique.
    commitment : str
        Hex, ``keys.commit("mark-key", key, salt)``.
    salt : bytes
        Opens the commitment together with the key.
    created : str
        RFC 3339 UTC.
    """

    lineage: str
    recipient: str
    generation: int
    commitment: str
    salt: bytes
    created: str


@dataclass(frozen=True, slots=True)
class Export:
    """One protected copy handed to one recipient.

    Attributes
    ----------
    id : str
        Unique, given by the caller.
    dataset_id, recipient, generation : str, str, int
        What was marked with which mark key.
    sequence : int
        Sequence number of its leaf in the ledger.
    created : str
        RFC 3339 UTC.
    sha256 : str
        Hex digest of the released file.
    out : str
        Where it was written.
    meta : mapping
        Channels, distortion, terms, ...
    """

    id: str
    dataset_id: str
    recipient: str
    generation: int
    sequence: int
    created: str
    sha256: str
    out: str
    meta: Json = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """A key-free content summary: dataset, scheme id, and the sketch bytes of that scheme."""

    dataset_id: str
    scheme: str
    blob: bytes


@dataclass(frozen=True, slots=True)
class Run:
    """One trace run; negatives are kept too.

    Attributes
    ----------
    id : str
        Unique, given by the caller.
    dataset_id : str
        Dataset traced.
    created : str
        RFC 3339 UTC.
    votes_digest : str
        Hex digest of the frozen votes, stored before any mark key is loaded.
    k : int
        Number of the run on this dataset; it spends alpha * 2**-k. Unique per dataset.
    outcome : str
        Empty until `Store.finish_run`.
    meta : mapping
        Anything else.
    """

    id: str
    dataset_id: str
    created: str
    votes_digest: str
    k: int
    outcome: str = ""
    meta: Json = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LedgerRow:
    """One ledger entry as stored: header fields, canonical payload bytes, 32-byte salt, leaf hash."""

    seq: int
    type: str
    scope: str
    payload: bytes
    salt: bytes
    leaf_hash: bytes


@dataclass(frozen=True, slots=True)
class CheckpointRow:
    """One signed tree head as stored: size, when made, and the DSSE envelope as JSON bytes."""

    size: int
    time: str
    envelope: bytes


class Store(Protocol):
    """A registry.

    Every ``add_*`` and ``append_*`` is durable when it returns, or when the outermost
    `transaction` around it ends. Raised are UsageError (unknown or repeated record) and
    LedgerError (the store contradicts itself, is damaged, busy or full). Lists come in order of addition.
    """

    def transaction(self) -> AbstractContextManager[None]:
        """All or nothing for what happens inside; may be nested; writers wait for each other."""
        ...

    def close(self) -> None:
        """Release the connection; the store cannot be used afterwards."""
        ...

    def add_dataset(self, dataset: Dataset) -> None:
        """Add a dataset version; its id and (name, version) must be new."""
        ...

    def get_dataset(self, id: str) -> Dataset:  # noqa: A002
        """Return the dataset with this id."""
        ...

    def latest_dataset(self, name: str) -> Dataset:
        """Return the highest version registered under `name`."""
        ...

    def list_datasets(self, *, name: str | None = None, lineage: str | None = None) -> list[Dataset]:
        """Return all datasets, or those of one name or lineage."""
        ...

    def add_recipient(self, recipient: Recipient) -> None:
        """Add a recipient; its id must be new."""
        ...

    def get_recipient(self, id: str) -> Recipient:  # noqa: A002
        """Return the recipient with this id."""
        ...

    def list_recipients(self) -> list[Recipient]:
        """Return all recipients."""
        ...

    def add_mark_key(self, mark_key: MarkKey) -> None:
        """Add a mark-key commitment of a known recipient; (lineage, recipient, generation) must be new."""
        ...

    def get_mark_key(self, lineage: str, recipient: str, generation: int) -> MarkKey:
        """Return one mark-key commitment."""
        ...

    def list_mark_keys(self, *, lineage: str | None = None, recipient: str | None = None) -> list[MarkKey]:
        """Return the mark-key commitments, all or of one lineage or recipient."""
        ...

    def add_export(self, export: Export) -> None:
        """Add an export of a known dataset to a known recipient."""
        ...

    def get_export(self, id: str) -> Export:  # noqa: A002
        """Return the export with this id."""
        ...

    def list_exports(self, *, dataset_id: str | None = None, recipient: str | None = None) -> list[Export]:
        """Return the exports, all or of one dataset or recipient."""
        ...

    def add_fingerprint(self, fingerprint: Fingerprint) -> None:
        """Add a fingerprint of a known dataset; one per scheme."""
        ...

    def get_fingerprint(self, dataset_id: str, scheme: str) -> Fingerprint:
        """Return one fingerprint."""
        ...

    def list_fingerprints(
        self, *, dataset_id: str | None = None, scheme: str | None = None
    ) -> list[Fingerprint]:
        """Return the fingerprints, all or of one dataset or scheme."""
        ...

    def add_run(self, run: Run) -> None:
        """Add a trace run; its id and (dataset, k) must be new."""
        ...

    def finish_run(self, id: str, outcome: str, meta: Json) -> None:  # noqa: A002
        """Write the outcome of an unfinished run, once."""
        ...

    def get_run(self, id: str) -> Run:  # noqa: A002
        """Return the run with this id."""
        ...

    def list_runs(self, *, dataset_id: str | None = None) -> list[Run]:
        """Return the runs, all or of one dataset."""
        ...

    def append_ledger(self, row: LedgerRow) -> None:
        """Append a ledger row; its seq must be the current size. Rows can never change afterwards."""
        ...

    def ledger_size(self) -> int:
        """Return the number of ledger rows."""
        ...

    def ledger_rows(
        self,
        start: int = 0,
        stop: int | None = None,
        *,
        type: str | None = None,  # noqa: A002
    ) -> list[LedgerRow]:
        """Return rows start..stop-1 in order, all or of one type."""
        ...

    def append_checkpoint(self, row: CheckpointRow) -> None:
        """Append a signed tree head; it can never change afterwards."""
        ...

    def list_checkpoints(self) -> list[CheckpointRow]:
        """Return all checkpoints in order."""
        ...

    def snapshot(self, path: Path) -> None:
        """Write all of it, as it is at one moment, to a new SQLite file of mode 0600, durably."""
        ...

    def damage(self) -> list[str]:
        """Return what the database itself finds wrong with its pages; nothing if it is sound."""
        ...
