"""Tables: rows without a trusted order, columns with facts between them.

The channel is the pair swap: two rows exchange near-equal values of one column (or of a
jointly moved group) or they do not. Every column keeps its multiset of values exactly.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dataguard.carrier import Alignment, Distortion, Engines, Exhibit, Large, Opening
from dataguard.cells import Cell
from dataguard.constraints.facts import Facts
from dataguard.constraints.mine import mine
from dataguard.errors import UsageError
from dataguard.formats.edits import Moves, apply_moves
from dataguard.formats.source import Source
from dataguard.modalities.pairing import RULE, positions, swap_plan
from dataguard.modalities.row_ids import inherit_ids
from dataguard.modalities.table_distortion import Meter
from dataguard.modalities.table_study import study_table
from dataguard.model import VOTE_LIMIT, BiasLaw
from dataguard.slots import Readings, SlotBrief, Slots, Votes
from dataguard.values import CanonicalTable, canonical_table, encode_rows

__all__ = ["CARRIER", "MAX_COLUMNS", "TableCarrier", "TableContent", "TableMeter"]

MAX_COLUMNS = 2000
"""Facts and column matches are looked for between all pairs of columns: 5,000 take more than a minute."""

I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]
U8 = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class TableContent:
    """A decoded table.

    Attributes
    ----------
    table : pyarrow.Table
        As read; the edits refer to its rows.
    canonical : CanonicalTable
    ids : (rows,) uint64
        Row ids given at registration; for a suspect simply the row numbers.
    """

    table: pa.Table
    canonical: CanonicalTable
    ids: U64


@dataclass(frozen=True, slots=True)
class TableCarrier:
    """The carrier contract for tables (see :class:`dataguard.carrier.Carrier`)."""

    kind: str = "table"

    def detect(self, source: Source) -> bool:
        """Return True: everything the formats read today is a table."""
        return len(source.column_names) > 0

    def decode(self, source: Source, ids: U64 | None = None) -> TableContent:
        """Return the source as Arrow and canonical columns."""
        if len(source.column_names) > MAX_COLUMNS:
            raise UsageError(
                f"{len(source.column_names):,} columns; this version handles {MAX_COLUMNS:,}",
                where=source.name,
                remedy="keep the columns that matter, or split the table",
            )
        table = source.table()
        numbers = np.arange(table.num_rows, dtype=np.uint64) if ids is None else ids
        return TableContent(table, canonical_table(table), numbers)

    def extent(self, content: TableContent) -> tuple[int, tuple[str, ...]]:
        """Return the number of rows and the column names."""
        return content.canonical.rows, content.canonical.names

    def ids(self, content: TableContent) -> U64:
        """Return the row ids."""
        return content.ids

    def inherit(self, before: TableContent, after: TableContent, next_id: int) -> TableContent:
        """Return `after` with the ids of the rows it shares with `before`."""
        ids = inherit_ids(before.canonical, before.ids, after.canonical, next_id)
        return TableContent(after.table, after.canonical, ids)

    def take(self, content: TableContent, positions: I64) -> TableContent:
        """Return some rows with their ids."""
        table = content.table.take(positions)
        return TableContent(table, canonical_table(table), content.ids[positions])

    def leaves(self, content: TableContent) -> tuple[U8, I64]:
        """Return the canonical bytes of all rows and their offsets."""
        return encode_rows(content.canonical, content.ids)

    def open_units(self, content: TableContent, positions: Sequence[int]) -> list[tuple[Cell, ...]]:
        """Return the canonical cells of some rows."""
        columns = [c.cells(positions) for c in content.canonical.columns]
        return list(zip(*columns, strict=True))

    def study(self, original: Large[TableContent], brief: SlotBrief) -> dict[str, Any]:
        """Return the facts of a table too large to be mined whole."""
        facts = study_table(_canonical(original), protect=brief.protect, tolerance=brief.tolerance)
        return facts.to_dict()

    def slots(self, original: TableContent, brief: SlotBrief, law: BiasLaw) -> Slots:
        """Return the pair-swap plan, after mining the table's facts where no study of the whole is given."""
        facts = self._facts(original, brief) if brief.study is None else Facts.from_dict(brief.study)
        return swap_plan(original.canonical, original.ids, facts, brief, law)

    def _facts(self, original: TableContent, brief: SlotBrief) -> Facts:
        """Mine the facts, or take those of an earlier version.

        A later version with the same columns keeps the facts of the first: mined anew, a
        borderline fact could flip, and dropped slots would show a recipient of both
        versions what his mark was.
        """
        if brief.frozen is not None and not brief.protect and not brief.tolerance:
            known = Facts.from_dict(brief.frozen.legend["facts"])
            if set(known.columns) == set(original.canonical.names):
                return known
        return mine(original.canonical, protect=brief.protect, tolerance=brief.tolerance)

    def embed(self, original: TableContent, slots: Slots, symbols: U8) -> list[Moves]:
        """Return the exchanges of all slots whose symbol is 1."""
        moves = []
        for members, index in _by_group(slots):
            chosen = index[symbols[index] == 1]
            low = positions(original.ids, slots.place[chosen, 1])
            high = positions(original.ids, slots.place[chosen, 2])
            rows, from_rows = np.concatenate([low, high]), np.concatenate([high, low])
            moves += [Moves(name, rows, from_rows) for name in members]
        return moves

    def mark(self, original: TableContent, edits: Sequence[Moves]) -> TableContent:
        """Return the table with the exchanges done."""
        table = apply_moves(original.table, edits)
        return TableContent(table, canonical_table(table), original.ids)

    def align(self, original: TableContent, suspect: TableContent, engines: Engines) -> Alignment:
        """Return the row alignment of the engine; it sees these two tables and nothing else."""
        return engines.align(original.canonical, suspect.canonical)

    def gather(
        self, original: Large[TableContent], sample: TableContent, suspect: TableContent, engines: Engines
    ) -> I64:
        """Return the engine's candidates."""
        return engines.gather(_canonical(original), sample.canonical, suspect.canonical)

    def votes(
        self, original: TableContent, suspect: TableContent, slots: Slots, alignment: Alignment
    ) -> Readings:
        """Read every slot of every matched row in every visible member column.

        The suspect's cell equals the original's own (symbol 0), its partner's (symbol 1),
        or neither, which says nothing. Exact readings carry the full vote.
        """
        parts = [
            Readings(slot, alignment.suspect_row[match], weight)
            for _, slot, match, weight in self._read(original, suspect, slots, alignment)
        ]
        if not parts:
            empty = np.empty(0, np.int64)
            return Readings(empty, empty, np.empty(0, np.int16))
        return Readings(
            np.concatenate([p.slot for p in parts]),
            np.concatenate([p.unit for p in parts]),
            np.concatenate([p.weight for p in parts]),
        )

    def exhibit(
        self, original: TableContent, suspect: TableContent, slots: Slots, alignment: Alignment, votes: Votes
    ) -> Exhibit:
        """Return all readings behind the votes, with the row ids to open."""
        voted = np.zeros(len(slots), np.bool_)
        voted[votes.slot] = True
        openings: list[Opening] = []
        units: set[int] = set()
        for column, slot, match, _ in self._read(original, suspect, slots, alignment):
            keep = voted[slot]
            rows = alignment.suspect_row[match[keep]]
            own = original.ids[alignment.original_row[match[keep]]]
            seen = suspect.canonical.columns[column.suspect].cells(rows)
            names = suspect.canonical.names[column.suspect], original.canonical.names[column.original]
            openings += [
                Opening(int(s), int(u), names[0], cell, int(o), names[1])
                for s, u, cell, o in zip(slot[keep], suspect.ids[rows], seen, own, strict=True)
            ]
            units.update(slots.place[slot[keep], 1:].ravel().tolist())
        return Exhibit(RULE, tuple(openings), tuple(sorted(units)))

    def compare(
        self,
        original: TableContent,
        suspect: TableContent,
        alignment: Alignment,
        engines: Engines,
        alpha: float,
    ) -> Any:
        """Return the engine's comparison."""
        return engines.compare(original.canonical, suspect.canonical, alignment, alpha)

    def compare_large(
        self, original: Large[TableContent], suspect: Large[TableContent], engines: Engines, alpha: float
    ) -> Any:
        """Return the engine's comparison by samples."""
        return engines.compare_large(_canonical(original), _canonical(suspect), alpha)

    def fingerprint(self, content: TableContent, engines: Engines) -> bytes:
        """Return the engine's sketch of the table."""
        return engines.sketch(content.canonical)

    def distortion(self, legend: Mapping[str, Any]) -> TableMeter:
        """Return a meter for the distortion contract."""
        return TableMeter(legend)

    def sample(self, seed: int, rows: int = 2000) -> TableContent:
        """Return a table of measures, a clock identity, categories and a key, made from `seed`."""
        from dataguard.modalities.table_sample import sample_table

        table = sample_table(seed, rows)
        return TableContent(table, canonical_table(table), np.arange(rows, dtype=np.uint64))

    def grow(self, content: TableContent, seed: int) -> TableContent:
        """Return a later delivery: about a tenth of the rows gone, a fifth new, in another order."""
        rng = np.random.default_rng(seed)
        rows = content.table.num_rows
        kept = content.table.take(np.flatnonzero(rng.random(rows) > 0.1))
        fresh = self.sample(seed + 1, rows // 5).table
        later = pa.concat_tables([kept, fresh]).take(rng.permutation(kept.num_rows + fresh.num_rows))
        return TableContent(later, canonical_table(later), np.arange(later.num_rows, dtype=np.uint64))

    def _read(
        self, original: TableContent, suspect: TableContent, slots: Slots, alignment: Alignment
    ) -> Iterator[tuple[Any, I64, I64, NDArray[np.int16]]]:
        """Yield (column match, slot, index into the alignment, weight) per visible member column."""
        columns = {original.canonical.names[c.original]: c for c in alignment.columns}
        for members, index in _by_group(slots):
            visible = [columns[name] for name in members if name in columns]
            if not visible:
                continue
            slot_of, partner_of = _ends(original.ids, slots, index)
            slot = slot_of[alignment.original_row]
            match = np.flatnonzero(slot >= 0)
            slot, own = slot[match], alignment.original_row[match]
            partner = partner_of[own]
            for column in visible:
                mine = original.canonical.columns[column.original]
                theirs = suspect.canonical.columns[column.suspect]
                rows = alignment.suspect_row[match]
                own_seen, partner_seen = (theirs.equals(rows, mine, at) for at in (own, partner))
                says = partner_seen.astype(np.int16) - own_seen.astype(np.int16)
                read = np.flatnonzero(says)
                yield column, slot[read], match[read], (says[read] * VOTE_LIMIT).astype(np.int16)


class TableMeter:
    """The distortion contract of a table, measured block by block."""

    def __init__(self, legend: Mapping[str, Any]) -> None:
        self._meter = Meter(Facts.from_dict(legend["facts"]))

    def add(self, original: TableContent, edits: Sequence[Moves]) -> None:
        """Add one block and what is done to it; rows of the edits count from the block's first."""
        self._meter.add(original.canonical, CARRIER.mark(original, edits).canonical, edits)

    def result(self) -> Distortion:
        """Return what was measured."""
        return self._meter.result()


CARRIER = TableCarrier()


def _canonical(large: Large[TableContent]) -> Large[CanonicalTable]:
    def blocks() -> Iterator[CanonicalTable]:
        for block in large.blocks():
            yield block.canonical
            del block  # or it would live on while the next one is read

    return Large(large.units, large.room, blocks, lambda rows: large.take(rows).canonical)


def _by_group(slots: Slots) -> Iterator[tuple[list[str], I64]]:
    """Yield (member columns, indices of slots) per swap group."""
    for number, members in slots.legend["groups"].items():
        yield list(members), np.flatnonzero(slots.place[:, 0] == int(number))


def _ends(ids: U64, slots: Slots, index: I64) -> tuple[I64, I64]:
    """Return, by row position, the slot a row is an end of (-1: none) and its partner's position."""
    low, high = positions(ids, slots.place[index, 1]), positions(ids, slots.place[index, 2])
    slot_of, partner_of = np.full(len(ids), -1, np.int64), np.full(len(ids), -1, np.int64)
    slot_of[low], slot_of[high] = index, index
    partner_of[low], partner_of[high] = high, low
    return slot_of, partner_of
