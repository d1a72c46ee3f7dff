"""What a vault keeps on disk of one dataset version: reference copy, row ids, slot plan.

The registry holds names, digests and roots; the bulk lies here, in open formats, one
folder per version, written once and never changed.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from dataguard.dsse import keyid
from dataguard.errors import DecodeError, SchemeMismatch, UsageError
from dataguard.formats.atomic import atomic_directory
from dataguard.formats.source import Source, open_source
from dataguard.keys import MasterSecret, SigningKey
from dataguard.model import BiasLaw
from dataguard.registry import ledger
from dataguard.registry.store import Dataset, Store
from dataguard.slots import Slots

__all__ = ["Holding", "OpenVault", "load", "save"]

U64 = NDArray[np.uint64]

_FORMAT = "dataguard-plan/1"
_PLAN, _IDS = "plan.parquet", "ids.parquet"


@dataclass(frozen=True, slots=True)
class OpenVault:
    """An open vault as the shells see it; clock and entropy come in here and nowhere else.

    Attributes
    ----------
    folder : Path
    store : Store
    master : MasterSecret
    signing : SigningKey
    now : callable
        The time as RFC 3339 text in UTC.
    entropy : callable
        ``entropy(n)`` returns n random bytes.
    """

    folder: Path
    store: Store
    master: MasterSecret = field(repr=False)
    signing: SigningKey = field(repr=False)
    now: Callable[[], str]
    entropy: Callable[[int], bytes]

    @property
    def origin(self) -> str:
        """Name of the ledger: the key that signs it."""
        return f"dataguard/{keyid(self.signing.public_bytes)[:16]}"

    def append(self, kind: str, scope: str, payload: Mapping[str, Any]) -> ledger.Entry:
        """Append a ledger entry with fresh salt and the present time."""
        return ledger.append(self.store, kind, scope, payload, salt=self.entropy(32), time=self.now())

    def is_opened(self, lineage: str, recipient: str, generation: int, before: int | None = None) -> bool:
        """Return whether a report has opened this mark key (before a ledger entry)."""
        wanted = {"lineage": lineage, "recipient": recipient, "generation": generation}
        return any(
            entry.type == "key-opened" and all(entry.payload.get(k) == v for k, v in wanted.items())
            for entry in ledger.entries(self.store, 0, before)
        )

    def fresh_folder(self, lineage: str, version: int) -> Path:
        """Return a folder name for a new version; never one that a run cut short has left behind."""
        return self.folder / "datasets" / lineage / f"v{version}-{self.entropy(4).hex()}"

    def holding(self, dataset: Dataset) -> Holding:
        """Return one registered version from disk, its reference copy checked against its digest."""
        return load(self.folder / dataset.meta["folder"], self.folder / dataset.path, dataset.sha256)


@dataclass(frozen=True, slots=True)
class Holding:
    """One version of a dataset as the vault holds it.

    Attributes
    ----------
    source : Source
        The reference copy, or the user's own file if the vault was told not to keep one.
    ids : (rows,) uint64
        Row ids, given at first registration and inherited by later versions.
    slots : Slots
    """

    source: Source
    ids: U64
    slots: Slots


def save(folder: Path, source: Source, ids: U64, slots: Slots, *, keep: bool) -> Path:
    """Write one version, whole or not at all, and return the path of its reference copy.

    Parameters
    ----------
    folder : Path
        Folder of the version; must not exist.
    source : Source
    ids : (rows,) uint64
    slots : Slots
    keep : bool
        Copy the source's bytes into the vault; otherwise only its path is remembered.
    """
    folder.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with atomic_directory(folder) as staging:
        stage = Path(staging)
        pq.write_table(pa.table({"id": ids}), stage / _IDS, compression="zstd")
        pq.write_table(_plan_table(slots), stage / _PLAN, compression="zstd")
        if source.path is None:
            reference = folder / "original.parquet"
            pq.write_table(source.table(), stage / reference.name, compression="zstd")
        elif keep:
            reference = folder / f"original{''.join(source.path.suffixes[-2:])}"
            shutil.copyfile(source.path, stage / reference.name)
        else:
            reference = source.path.resolve()
    return reference


def load(folder: Path, reference: Path, sha256: str) -> Holding:
    """Return one version; the reference copy must still have the registered digest.

    Raises
    ------
    UsageError
        The reference copy is gone or has changed.
    DecodeError
        The plan cannot be read.
    """
    if not reference.exists():
        raise UsageError(
            "the reference copy is gone", where=str(reference), remedy="put it back where it was registered"
        )
    source = open_source(reference)
    if source.sha256() != sha256:
        raise UsageError(
            "the reference copy differs from what was registered",
            where=str(reference),
            remedy="restore the registered bytes, or register it again as a new version",
        )
    try:
        ids = pq.read_table(folder / _IDS).column("id").to_numpy().astype(np.uint64)
        slots = _plan(pq.read_table(folder / _PLAN))
    except (OSError, pa.ArrowException, KeyError) as error:
        raise DecodeError(
            "the slot plan cannot be read", where=str(folder), remedy="restore the vault"
        ) from error
    return Holding(source, ids, slots)


def _plan_table(slots: Slots) -> pa.Table:
    columns = {"address": slots.address, "level": slots.level}
    columns |= {f"place.{name}": slots.place[:, i] for i, name in enumerate(slots.place_names)}
    law = {"name": slots.law.name, "levels": slots.law.levels, "shares": slots.law.shares}
    meta = {
        "format": _FORMAT, "law": law, "channel": slots.channel.hex(),
        "place_names": slots.place_names, "legend": slots.legend,
    }  # fmt: skip
    return pa.table(columns).replace_schema_metadata(
        {b"dataguard": json.dumps(meta, ensure_ascii=False).encode()}
    )


def _plan(table: pa.Table) -> Slots:
    meta = json.loads((table.schema.metadata or {})[b"dataguard"])
    if meta["format"] != _FORMAT:
        raise SchemeMismatch(
            f"slot plan of format {meta['format']!r}", remedy=f"this version reads {_FORMAT}"
        )
    law = BiasLaw(meta["law"]["name"], tuple(meta["law"]["levels"]), tuple(meta["law"]["shares"]))
    names = tuple(meta["place_names"])
    place = np.stack([table.column(f"place.{n}").to_numpy() for n in names], axis=1).astype(np.int64)
    return Slots(
        law, bytes.fromhex(meta["channel"]), table.column("address").to_numpy().astype(np.uint64),
        table.column("level").to_numpy().astype(np.uint8), place, names, meta["legend"],
    )  # fmt: skip
