"""What a vault keeps on disk of one dataset version: reference copy, row ids, slot plan.

The registry holds names, digests and roots; the bulk lies here, in open formats, one
folder per version, written once and never changed.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from dataguard.dsse import keyid
from dataguard.errors import DataguardError, DecodeError, SchemeMismatch, UsageError
from dataguard.formats.atomic import (
    atomic_directory,
    claim,
    discard,
    is_abandoned,
    remove_leftovers,
    sync_folder,
    unclaim,
)
from dataguard.formats.blocks import read_blocks
from dataguard.formats.source import Source, open_source
from dataguard.keys import MasterSecret, SigningKey
from dataguard.model import BiasLaw
from dataguard.registry import ledger
from dataguard.registry.store import Dataset, Store
from dataguard.slots import Slots, join_slots

__all__ = ["Block", "Holding", "OpenVault", "Writer", "load", "provisional", "saving"]

I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]

_FORMAT = "dataguard-plan/1"
_PLAN, _IDS = "plan.parquet", "ids.parquet"
_BLOCKS = "dataguard.blocks"
"""Key of the block edges in the plan's file; absent where one block holds everything."""


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
    identity : bytes
        The public key the vault began with; `signing` may have replaced it since.
    """

    folder: Path
    store: Store
    master: MasterSecret = field(repr=False)
    signing: SigningKey = field(repr=False)
    now: Callable[[], str]
    entropy: Callable[[int], bytes]
    identity: bytes

    @property
    def origin(self) -> str:
        """Name of the ledger: the key that signed it first."""
        return f"dataguard/{keyid(self.identity)[:16]}"

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
        """Return a folder name for a new version; never one that a run cut short has left behind: that goes."""
        _clear_abandoned(self)
        return self.folder / "datasets" / lineage / f"v{version}-{self.entropy(4).hex()}"

    def holding(self, dataset: Dataset) -> Holding:
        """Return one registered version from disk, its reference copy checked against its digest."""
        return load(
            self.folder / dataset.meta["folder"],
            self.folder / dataset.path,
            dataset.sha256,
            dataset.meta.get("part"),
        )


@dataclass(frozen=True, slots=True)
class Block:
    """Consecutive rows of one version, with all that belongs to them.

    Attributes
    ----------
    first, first_slot : int
        Position of its first row, and of its first slot in the plan.
    table : pyarrow.Table
    ids : (rows,) uint64
        Row ids, given at first registration and inherited by later versions.
    slots : Slots
        Both rows of a slot lie in the block.
    """

    first: int
    first_slot: int
    table: pa.Table
    ids: U64
    slots: Slots


@dataclass(frozen=True, slots=True)
class Holding:
    """One version of a dataset as the vault holds it; rows, ids and slots are read as they are asked for.

    Attributes
    ----------
    source : Source
        The reference copy, or the user's own file if the vault was told not to keep one.
    folder : Path
    edges : tuple of int
        First row of each block, and the number of rows.
    counts : tuple of int
        Slots of each block.
    frame : Slots
        The plan without its slots: law, channel, legend.
    """

    source: Source
    folder: Path
    edges: tuple[int, ...]
    counts: tuple[int, ...]
    frame: Slots

    @property
    def size(self) -> int:
        """Number of slots."""
        return sum(self.counts)

    @property
    def is_whole(self) -> bool:
        """Whether one block holds everything."""
        return len(self.counts) == 1

    def plan(self) -> Iterator[tuple[U64, Slots]]:
        """Yield ids and slots of each block, without the rows."""
        with _reading(self.folder):
            ids, plan = (pq.ParquetFile(self.folder / name) for name in (_IDS, _PLAN))
            with ids, plan:
                if self.is_whole:
                    yield _ids_of(ids.read()), _slots_of(plan.read(), self.frame)
                    return
                group = 0
                for number, count in enumerate(self.counts):
                    table = plan.read_row_group(group) if count else plan.schema_arrow.empty_table()
                    group += count > 0
                    yield _ids_of(ids.read_row_group(number)), _slots_of(table, self.frame)

    def blocks(self) -> Iterator[Block]:
        """Yield the version block by block."""
        first, first_slot = 0, 0
        plan = self.plan()  # not zipped: zip holds on to what it gave last
        for table in read_blocks(self.source, self.edges):
            ids, slots = next(plan)
            block = Block(first, first_slot, table, ids, slots)
            first, first_slot = first + table.num_rows, first_slot + len(slots)
            del table, ids, slots  # the consumer alone holds the block
            yield block
            del block

    def slots_at(self, ids: U64) -> tuple[Slots, I64]:
        """Return the slots that have an end among some row ids, and their positions in the plan."""
        parts, index, first = [], [], 0
        wanted = ids.astype(np.int64)
        for _, slots in self.plan():
            hit = np.flatnonzero(np.isin(slots.place[:, 1], wanted) | np.isin(slots.place[:, 2], wanted))
            parts.append(slots.take(hit))
            index.append(first + hit)
            first += len(slots)
        return join_slots(parts), np.concatenate(index)

    def positions(self, ids: U64) -> I64:
        """Return the row of each id, -1 where the version has no such row."""
        out, first = np.full(len(ids), -1, np.int64), 0
        order = np.argsort(ids, kind="stable")
        ranked = ids[order]
        for own, _ in self.plan():
            at = np.minimum(np.searchsorted(ranked, own), max(0, len(ids) - 1))
            hit = np.flatnonzero(ranked[at] == own) if len(ids) else np.empty(0, np.int64)
            out[order[at[hit]]] = first + hit
            first += len(own)
        return out

    def ids_at(self, rows: I64) -> U64:
        """Return the ids of some rows (ascending)."""
        parts, first = [], 0
        for own, _ in self.plan():
            low, high = np.searchsorted(rows, [first, first + len(own)])
            parts.append(own[rows[low:high] - first])
            first += len(own)
        return np.concatenate(parts)

    def everything(self) -> tuple[U64, Slots]:
        """Return all ids and all slots: about 50 bytes a row and 40 a slot."""
        parts = list(self.plan())
        return np.concatenate([ids for ids, _ in parts]), join_slots([slots for _, slots in parts])


class Writer:
    """Writes the plan of one version, block by block; made by `saving`."""

    def __init__(self, stage: Path, reference: Path) -> None:
        self.reference = reference
        self._stage = stage
        self._edges, self._counts = [0], list[int]()
        self._writers: list[pq.ParquetWriter] = []

    def add(self, ids: U64, slots: Slots) -> None:
        """Add one block: its row ids and its slots."""
        tables = pa.table({"id": ids}), _plan_table(slots)
        if not self._writers:
            self._writers = [
                pq.ParquetWriter(self._stage / name, table.schema, compression="zstd")
                for name, table in zip((_IDS, _PLAN), tables, strict=True)
            ]
        for writer, table in zip(self._writers, tables, strict=True):
            if table.num_rows:
                writer.write_table(table.cast(writer.schema), row_group_size=table.num_rows)
        self._edges.append(self._edges[-1] + len(ids))
        self._counts.append(len(slots))

    def close(self) -> None:
        """Finish the files."""
        if len(self._counts) > 1:
            blocks = {"edges": self._edges, "counts": self._counts}
            self._writers[1].add_key_value_metadata({_BLOCKS: json.dumps(blocks)})
        for writer in self._writers:
            writer.close()


@contextlib.contextmanager
def saving(folder: Path, source: Source, *, keep: bool) -> Iterator[Writer]:
    """Write one version, whole or not at all: plan and ids through what is yielded, and a reference copy.

    Parameters
    ----------
    folder : Path
        Folder of the version; must not exist.
    source : Source
    keep : bool
        Copy the source's bytes into the vault; otherwise only its path is remembered.

    The folder carries a mark until the registry names it and `provisional` ends.
    """
    folder.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    for above in (folder.parent.parent, folder.parent.parent.parent):
        sync_folder(above)  # else a power cut may take the new folder's name, and all in it
    try:
        with atomic_directory(folder, private=True) as staging:
            stage = Path(staging)
            claim(stage)
            writer = Writer(stage, _reference(folder, source, keep=keep))
            try:
                yield writer
            finally:
                writer.close()
            _copy(source, stage / writer.reference.name, keep=keep)
    except BaseException:
        with contextlib.suppress(OSError):  # as far as nothing else lies in them
            folder.parent.rmdir()
            folder.parent.parent.rmdir()
        raise


def _clear_abandoned(vault: OpenVault) -> None:
    """Remove what registrations that were killed have left: only what carries the mark of a dead process.

    A folder that merely nobody names stays: the registry may have been restored from an older backup.
    """
    with contextlib.suppress(OSError):  # what cannot be removed does no harm but lie there
        lineages = [p for p in (vault.folder / "datasets").iterdir() if p.is_dir()]
        versions = {lineage: [p for p in lineage.iterdir() if is_abandoned(p)] for lineage in lineages}
        # Asked only now: what a dead process has registered, it had registered before it died.
        named = {vault.folder / d.meta["folder"] for d in vault.store.list_datasets()}
        for lineage, found in versions.items():
            is_cleared = remove_leftovers(lineage) or bool(found)
            for version in found:
                (unclaim if version in named else discard)(version)
            if is_cleared and not any(lineage.iterdir()):
                lineage.rmdir()


@contextlib.contextmanager
def provisional(vault: OpenVault, folder: Path, name: str) -> Iterator[None]:
    """Remove a saved version unless the registry names it when the block ends, however that ends."""
    try:
        yield
    except BaseException:
        with contextlib.suppress(OSError, DataguardError):  # then a later registration removes it
            if all(vault.folder / d.meta["folder"] != folder for d in vault.store.list_datasets(name=name)):
                discard(folder)
                folder.parent.rmdir()
        raise
    with contextlib.suppress(OSError):
        unclaim(folder)


def _reference(folder: Path, source: Source, *, keep: bool) -> Path:
    if source.path is None:
        return folder / "original.parquet"
    if keep:
        return folder / f"original{''.join(source.path.suffixes[-2:])}"
    return source.path.resolve()


def _copy(source: Source, target: Path, *, keep: bool) -> None:
    if source.path is None:
        batches = source.batches()
        first = next(batches)
        with pq.ParquetWriter(target, first.schema, compression="zstd") as writer:
            for batch in itertools.chain([first], batches):
                writer.write_batch(batch)
    elif keep and hasattr(
        source, "copy_to"
    ):  # a database with a write-ahead log beside it is more than its file
        with target.open("wb") as file:
            source.copy_to(file)
    elif keep and source.path.is_dir():
        shutil.copytree(source.path, target)
    elif keep:
        shutil.copyfile(source.path, target)


def load(folder: Path, reference: Path, sha256: str, part: str | None = None) -> Holding:
    """Return one version; the reference copy must still have the registered digest.

    Parameters
    ----------
    folder, reference : Path
    sha256 : str
    part : str, optional
        The sheet or table within the reference copy.

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
    source = open_source(reference, part=part)
    if source.sha256() != sha256:
        raise UsageError(
            "the reference copy differs from what was registered",
            where=str(reference),
            remedy="restore the registered bytes, or register it again as a new version",
        )
    with _reading(folder), pq.ParquetFile(folder / _IDS) as ids, pq.ParquetFile(folder / _PLAN) as plan:
        rows, size = ids.metadata.num_rows, plan.metadata.num_rows
        frame = _frame(plan.schema_arrow)
        kept = (plan.metadata.metadata or {}).get(_BLOCKS.encode())
        blocks = json.loads(kept) if kept else {"edges": [0, rows], "counts": [size]}
    return Holding(source, folder, tuple(blocks["edges"]), tuple(blocks["counts"]), frame)


@contextlib.contextmanager
def _reading(folder: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, pa.ArrowException, KeyError, ValueError) as error:
        raise DecodeError(
            "the slot plan cannot be read", where=str(folder), remedy="restore the vault"
        ) from error


def _ids_of(table: pa.Table) -> U64:
    return table.column("id").to_numpy().astype(np.uint64)  # type: ignore[no-any-return]


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


def _frame(schema: pa.Schema) -> Slots:
    """Return the plan without its slots."""
    meta = json.loads((schema.metadata or {})[b"dataguard"])
    if meta["format"] != _FORMAT:
        raise SchemeMismatch(
            f"slot plan of format {meta['format']!r}", remedy=f"this version reads {_FORMAT}"
        )
    law = BiasLaw(meta["law"]["name"], tuple(meta["law"]["levels"]), tuple(meta["law"]["shares"]))
    names = tuple(meta["place_names"])
    return Slots(
        law, bytes.fromhex(meta["channel"]), np.empty(0, np.uint64), np.empty(0, np.uint8),
        np.empty((0, len(names)), np.int64), names, meta["legend"],
    )  # fmt: skip


def _slots_of(table: pa.Table, frame: Slots) -> Slots:
    place = np.stack([table.column(f"place.{n}").to_numpy() for n in frame.place_names], axis=1)
    return replace(
        frame,
        address=table.column("address").to_numpy().astype(np.uint64),
        level=table.column("level").to_numpy().astype(np.uint8),
        place=place.astype(np.int64),
    )
