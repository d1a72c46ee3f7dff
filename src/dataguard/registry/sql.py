"""The registry in SQL, whatever the database: records to rows and back, nested transactions.

SQLite and PostgreSQL differ in how a statement is sent, how writers wait for each other and what
their errors mean; all else is here, once. Statements are written with ``?`` for values.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from dataguard.canonical import canonical_json, parse_json
from dataguard.errors import EvidenceError, LedgerError, UsageError
from dataguard.registry.store import (
    CheckpointRow,
    Dataset,
    Export,
    Fingerprint,
    Json,
    LedgerRow,
    MarkKey,
    Recipient,
    Run,
    Store,
)

__all__ = ["BUSY_SECONDS", "SqlStore", "copy_records"]

BUSY_SECONDS = 30
"""How long a writer waits for another one."""

_TABLES: Mapping[type, str] = {
    Dataset: "datasets",
    Recipient: "recipients",
    MarkKey: "mark_keys",
    Export: "exports",
    Fingerprint: "fingerprints",
    Run: "runs",
    LedgerRow: "ledger",
}
_JSON_COLUMNS = frozenset({"roots", "meta"})
_NOUNS = {"datasets": "dataset", "recipients": "recipient", "mark_keys": "mark key", "exports": "export"}
_END = 2**63 - 1

R = TypeVar("R")


class SqlStore(ABC):
    """What every SQL implementation of `dataguard.registry.store.Store` shares.

    Use it in the thread that made it, closed by a ``with`` block.
    """

    _order: str
    """Column that tells the order of addition."""

    def __init__(self, where: str) -> None:
        self._where, self._depth = where, 0

    # --- what a database must say ----------------------------------------------------------------

    @abstractmethod
    def close(self) -> None:
        """Close the connection."""

    @abstractmethod
    def _ask(self, sql: str, values: Sequence[object] = ()) -> list[Sequence[Any]]:
        """Return the rows of a query; database errors come out as DataguardError."""

    @abstractmethod
    def _change(self, sql: str, values: Sequence[object] = ()) -> int:
        """Run a statement that returns nothing, and return how many rows it touched."""

    @abstractmethod
    def _begin(self) -> None:
        """Begin the outermost transaction, as the only writer."""

    @abstractmethod
    def _undo(self, statements: Sequence[str], error: BaseException) -> None:
        """Undo a transaction or savepoint after `error`, where the database has not done so by itself."""

    @abstractmethod
    def snapshot(self, path: Path) -> None:
        """Write all of it, as it is at one moment, to a new SQLite file of mode 0600, durably."""

    @abstractmethod
    def damage(self) -> list[str]:
        """Return what the database itself finds wrong with its pages; nothing if it is sound."""

    # --- transactions ----------------------------------------------------------------------------

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing for what happens inside; nested ones are savepoints.

        Raises
        ------
        LedgerError
            Another writer held the lock for longer than `BUSY_SECONDS`, or the disk is full.
        """
        name = f"level_{self._depth}"
        end, undo = "COMMIT", ["ROLLBACK"]
        if self._depth:
            end, undo = f"RELEASE SAVEPOINT {name}", [f"ROLLBACK TO SAVEPOINT {name}"]
            undo.append(end)
            self._change(f"SAVEPOINT {name}")
        else:
            self._begin()
        self._depth += 1
        try:
            yield
            self._change(end)
        except BaseException as error:
            self._undo(undo, error)
            raise
        finally:
            self._depth -= 1

    # --- records -----------------------------------------------------------------------------

    def add_dataset(self, dataset: Dataset) -> None:
        """Add a dataset version; its id and (name, version) must be new."""
        self._insert(dataset)

    def get_dataset(self, id: str) -> Dataset:  # noqa: A002
        """Return the dataset with this id."""
        return self._one(Dataset, id=id)

    def latest_dataset(self, name: str) -> Dataset:
        """Return the highest version registered under `name`."""
        found = self.list_datasets(name=name)
        if not found:
            known = sorted({dataset.name for dataset in self.list_datasets()})
            raise UsageError(
                "no dataset of this name is registered",
                where=name,
                remedy=f"registered are: {', '.join(known)}" if known else "register it first",
            )
        return max(found, key=lambda dataset: dataset.version)

    def list_datasets(self, *, name: str | None = None, lineage: str | None = None) -> list[Dataset]:
        """Return all datasets, or those of one name or lineage."""
        return self._select(Dataset, name=name, lineage=lineage)

    def add_recipient(self, recipient: Recipient) -> None:
        """Add a recipient; its id must be new."""
        self._insert(recipient)

    def get_recipient(self, id: str) -> Recipient:  # noqa: A002
        """Return the recipient with this id."""
        return self._one(Recipient, id=id)

    def list_recipients(self) -> list[Recipient]:
        """Return all recipients."""
        return self._select(Recipient)

    def add_mark_key(self, mark_key: MarkKey) -> None:
        """Add a mark-key commitment of a known recipient; (lineage, recipient, generation) must be new."""
        self._insert(mark_key)

    def get_mark_key(self, lineage: str, recipient: str, generation: int) -> MarkKey:
        """Return one mark-key commitment."""
        return self._one(MarkKey, lineage=lineage, recipient=recipient, generation=generation)

    def list_mark_keys(self, *, lineage: str | None = None, recipient: str | None = None) -> list[MarkKey]:
        """Return the mark-key commitments, all or of one lineage or recipient."""
        return self._select(MarkKey, lineage=lineage, recipient=recipient)

    def add_export(self, export: Export) -> None:
        """Add an export of a known dataset to a known recipient."""
        self._insert(export)

    def get_export(self, id: str) -> Export:  # noqa: A002
        """Return the export with this id."""
        return self._one(Export, id=id)

    def list_exports(self, *, dataset_id: str | None = None, recipient: str | None = None) -> list[Export]:
        """Return the exports, all or of one dataset or recipient."""
        return self._select(Export, dataset_id=dataset_id, recipient=recipient)

    def add_fingerprint(self, fingerprint: Fingerprint) -> None:
        """Add a fingerprint of a known dataset; one per scheme."""
        self._insert(fingerprint)

    def get_fingerprint(self, dataset_id: str, scheme: str) -> Fingerprint:
        """Return one fingerprint."""
        return self._one(Fingerprint, dataset_id=dataset_id, scheme=scheme)

    def list_fingerprints(
        self, *, dataset_id: str | None = None, scheme: str | None = None
    ) -> list[Fingerprint]:
        """Return the fingerprints, all or of one dataset or scheme."""
        return self._select(Fingerprint, dataset_id=dataset_id, scheme=scheme)

    def add_run(self, run: Run) -> None:
        """Add a trace run; its id and (dataset, k) must be new."""
        self._insert(run)

    def finish_run(self, id: str, outcome: str, meta: Json) -> None:  # noqa: A002
        """Write the outcome of an unfinished run, once."""
        if not outcome:
            raise UsageError("run without an outcome", where=id, remedy="say 'inconclusive' where that is so")
        sql = "UPDATE runs SET outcome = ?, meta = ? WHERE id = ? AND outcome = ''"
        with self.transaction():
            if self._change(sql, [outcome, self._encode("meta", meta), id]) != 1:
                raise UsageError("no unfinished run of this id", where=id, remedy="start a new run")

    def get_run(self, id: str) -> Run:  # noqa: A002
        """Return the run with this id."""
        return self._one(Run, id=id)

    def list_runs(self, *, dataset_id: str | None = None) -> list[Run]:
        """Return the runs, all or of one dataset."""
        return self._select(Run, dataset_id=dataset_id)

    # --- ledger ------------------------------------------------------------------------------

    def append_ledger(self, row: LedgerRow) -> None:
        """Append a ledger row; its seq must be the current size (a trigger checks it)."""
        self._insert(row)

    def ledger_size(self) -> int:
        """Return the number of ledger rows."""
        return int(self._ask("SELECT COALESCE(MAX(seq) + 1, 0) FROM ledger")[0][0])

    def ledger_rows(
        self,
        start: int = 0,
        stop: int | None = None,
        *,
        type: str | None = None,  # noqa: A002
    ) -> list[LedgerRow]:
        """Return rows start..stop-1 in order, all or of one type."""
        sql = "SELECT seq, type, scope, payload, salt, leaf_hash FROM ledger WHERE seq >= ? AND seq < ?"
        values: list[object] = [start, _END if stop is None else stop]
        if type is not None:
            sql, values = f"{sql} AND type = ?", [*values, type]
        return self._typed(LedgerRow, self._ask(f"{sql} ORDER BY seq", values))

    def append_checkpoint(self, row: CheckpointRow) -> None:
        """Append a signed tree head; it can never change afterwards."""
        with self.transaction():
            number = self._ask("SELECT COALESCE(MAX(number) + 1, 0) FROM checkpoints")[0][0]
            self._change(
                "INSERT INTO checkpoints (number, size, time, envelope) VALUES (?, ?, ?, ?)",
                [number, row.size, row.time, row.envelope],
            )

    def list_checkpoints(self) -> list[CheckpointRow]:
        """Return all checkpoints in order."""
        rows = self._ask("SELECT size, time, envelope FROM checkpoints ORDER BY number")
        return self._typed(CheckpointRow, rows)

    # --- inside ------------------------------------------------------------------------------

    def _insert(self, record: Any) -> None:
        names = [column.name for column in fields(record)]
        columns = ", ".join(f'"{name}"' for name in names)
        sql = f"INSERT INTO {_TABLES[type(record)]} ({columns}) VALUES ({', '.join('?' * len(names))})"  # noqa: S608
        with self.transaction():
            self._change(sql, [self._encode(name, getattr(record, name)) for name in names])

    def _select(self, kind: type[R], **where: object) -> list[R]:
        names = [column.name for column in fields(kind)]  # type: ignore[arg-type]
        asked = {name: value for name, value in where.items() if value is not None}
        columns = ", ".join(f'"{name}"' for name in names)
        condition = " AND ".join(f'"{name}" = ?' for name in asked) or "1 = 1"
        sql = f"SELECT {columns} FROM {_TABLES[kind]} WHERE {condition} ORDER BY {self._order}"  # noqa: S608
        return [
            kind(*(self._decode(name, value) for name, value in zip(names, row, strict=True)))
            for row in self._ask(sql, list(asked.values()))
        ]

    def _typed(self, kind: type[R], rows: Iterable[Sequence[object]]) -> list[R]:
        # SQLite columns hold any type: a row edited by another program must not pass for a record.
        expected = [column.type for column in fields(kind)]  # type: ignore[arg-type]
        records = []
        for i, row in enumerate(rows):
            if [type(value).__name__ for value in row] != expected:
                raise LedgerError(
                    f"{kind.__name__} {i} is damaged", where=self._where, remedy="restore a backup"
                )
            records.append(kind(*row))
        return records

    def _one(self, kind: type[R], **key: object) -> R:
        found = self._select(kind, **key)
        if not found:
            noun = _NOUNS.get(_TABLES[kind], _TABLES[kind].removesuffix("s"))
            where = " ".join(str(part) for part in key.values())
            raise UsageError(f"no such {noun} in the registry", where=where, remedy="check the name")
        return found[0]

    def _encode(self, name: str, value: object) -> object:
        if name in _JSON_COLUMNS:
            return canonical_json(value).decode()
        if isinstance(value, str) and not value.isascii():
            try:
                value.encode()
            except UnicodeEncodeError:
                raise self._unfit() from None
        return value

    def _unfit(self) -> UsageError:
        return UsageError(
            "value the registry cannot hold", where=self._where, remedy="use valid text, integers < 2^63"
        )

    def _decode(self, name: str, value: Any) -> Any:
        if name not in _JSON_COLUMNS:
            return value
        try:
            return parse_json(str(value).encode())
        except EvidenceError as error:
            raise LedgerError(
                f"damaged field {name} ({error.what})", where=self._where, remedy="restore the registry"
            ) from None


def copy_records(source: Store, target: Store) -> None:
    """Copy everything of one registry, as it is at one moment, into another that is empty.

    Raises
    ------
    UsageError
        The target is not empty.
    """
    with source.transaction(), target.transaction():
        if target.ledger_size() or target.list_datasets() or target.list_recipients():
            raise UsageError("registry is not empty", remedy="name another one")
        for dataset in source.list_datasets():
            target.add_dataset(dataset)
        for recipient in source.list_recipients():
            target.add_recipient(recipient)
        for mark_key in source.list_mark_keys():
            target.add_mark_key(mark_key)
        for export in source.list_exports():
            target.add_export(export)
        for fingerprint in source.list_fingerprints():
            target.add_fingerprint(fingerprint)
        for run in source.list_runs():
            target.add_run(run)
        for row in source.ledger_rows():
            target.append_ledger(row)
        for checkpoint in source.list_checkpoints():
            target.append_checkpoint(checkpoint)
