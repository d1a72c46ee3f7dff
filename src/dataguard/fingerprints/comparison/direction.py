"""Which way did the copy go: hints, each with its counts, and never more than that.

Two tables that share rows do not say which was there first; a third may be the source of both. Some
traces point one way, because the other way would have to invent what is missing. Every hint treats the
two tables alike, so that exchanging them turns each hint around.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dataguard.carrier import Alignment, ColumnMatch
from dataguard.cells import NULL, TEXT
from dataguard.constraints.columns import finite, spread
from dataguard.fingerprints.comparison.traces import (
    has_residue,
    is_rounded,
    is_shortened,
    merges,
    on_foreign_grid,
)
from dataguard.values import Canonical, CanonicalTable

__all__ = ["BACKWARD", "EITHER", "FORWARD", "Direction", "Hint", "hint_direction"]

B = NDArray[np.bool_]
F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

FORWARD, BACKWARD, EITHER = "original -> suspect", "suspect -> original", "either"

_MOST_ROWS = 20_000
"""Matched rows that are looked at, at most; chosen by a public hash of their rank."""

_LEAST = 30
"""Matched rows, and cells, below which nothing is hinted."""

_MOST_COLUMNS = 256

_CONTRARY = 0.05
"""Cells that point the other way, for each that points this way, at most."""

_WITHIN = 0.98
"""Share of a table's rows found in the other from which on it may be a part of it."""


@dataclass(frozen=True, slots=True)
class Hint:
    """One trace of the way a copy went.

    Attributes
    ----------
    observation : str
        ``coarser, merged, shortened, blanked, fewer-columns, fewer-rows, residue, foreign-grid, gaps,
        newer-content`` or ``near-values``.
    column : str
        Name in the original; empty for the table as a whole.
    counts : mapping of str to int
        What was counted; ``for`` and ``against`` where cells or values vote.
    points : str
        ``original -> suspect, suspect -> original`` or ``either``.
    """

    observation: str
    column: str
    counts: Mapping[str, int]
    points: str


@dataclass(frozen=True, slots=True)
class Direction:
    """What the hints say together.

    Attributes
    ----------
    hints : tuple of Hint
    counts : mapping of str to int
        Hints per way they point.
    statement : str
        ``consistent with original -> suspect``, ``consistent with suspect -> original`` or ``consistent with
        either direction``: never that it was so.
    """

    hints: tuple[Hint, ...]
    counts: Mapping[str, int]
    statement: str


@dataclass(frozen=True, slots=True)
class _Pair:
    """Two columns of aligned rows, `source` supposed to be the one copied from."""

    source: Canonical
    target: Canonical
    whole_source: Canonical
    whole_target: Canonical

    @property
    def numbers(self) -> tuple[F64, F64]:
        """Both as (k,) float64, where both are finite."""
        x, y = finite(self.source), finite(self.target)
        both = np.isfinite(x) & np.isfinite(y)
        return x[both], y[both]


@dataclass(frozen=True, slots=True)
class _Side:
    """One table as a whole, as the table hints see it."""

    rows: int
    found: int
    columns: int
    matched: int


def hint_direction(original: CanonicalTable, suspect: CanonicalTable, alignment: Alignment) -> Direction:
    """Return hints of the way a copy went.

    Parameters
    ----------
    original, suspect : CanonicalTable
        The tables that were aligned. Column maps are not used: what is lost shows in the cells.
    alignment : Alignment

    Notes
    -----
    Nothing is hinted with fewer than 30 matched rows. Every hint can mislead: a table can be refined, filled up or
    added to by whoever copies it.
    """
    hints: list[Hint] = []
    if len(alignment.suspect_row) >= _LEAST:
        hints += _table_hints(original, suspect, alignment)
        rank = spread(len(alignment.suspect_row), _MOST_ROWS)
        mine, theirs = alignment.original_row[rank], alignment.suspect_row[rank]
        for at in spread(len(alignment.columns), _MOST_COLUMNS).tolist():
            match = alignment.columns[at]
            hints += _column_hints(original, suspect, match, mine, theirs)
    counts = {way: sum(h.points == way for h in hints) for way in (FORWARD, BACKWARD, EITHER)}
    return Direction(tuple(hints), counts, _statement(counts))


def _statement(counts: Mapping[str, int]) -> str:
    forward, backward = counts[FORWARD] > 0, counts[BACKWARD] > 0
    if forward == backward:
        return "consistent with either direction"
    return f"consistent with {FORWARD if forward else BACKWARD}"


# --- the table as a whole --------------------------------------------------------------------------


def _table_hints(original: CanonicalTable, suspect: CanonicalTable, alignment: Alignment) -> Iterator[Hint]:
    matched = len(alignment.columns)
    tied = len(alignment.tied_suspect)
    left = _Side(original.rows, len(np.unique(alignment.original_row)) + tied, len(original.columns), matched)
    right = _Side(suspect.rows, len(alignment.suspect_row) + tied, len(suspect.columns), matched)
    for source, target, way in ((left, right, FORWARD), (right, left, BACKWARD)):
        if target.columns == matched < source.columns:
            yield Hint("fewer-columns", "", {"left_out": source.columns - matched, "kept": matched}, way)
        if target.found >= _WITHIN * target.rows and source.found < _WITHIN * source.rows:
            counts = {"rows": target.rows, "found": target.found, "left_out": source.rows - source.found}
            yield Hint("fewer-rows", "", counts, way)


# --- one column ------------------------------------------------------------------------------------


def _column_hints(
    original: CanonicalTable, suspect: CanonicalTable, match: ColumnMatch, mine: I64, theirs: I64
) -> Iterator[Hint]:
    left, right = original.columns[match.original], suspect.columns[match.suspect]
    a, b = _take(left, mine), _take(right, theirs)
    name = original.names[match.original]
    ways = ((_Pair(a, b, left, right), FORWARD), (_Pair(b, a, right, left), BACKWARD))
    for pair, way in ways:
        for observation, counts in _directed(pair):
            yield Hint(observation, name, counts, way)
    yield from _undirected(name, a, b, left, right)


def _take(column: Canonical, rows: I64) -> Canonical:
    """Return some rows; the source, which nobody reads here, stays whole."""
    return Canonical(column.tag[rows], column.word[rows], column.key[rows], column.texts, column.source)


def _directed(pair: _Pair) -> Iterator[tuple[str, dict[str, int]]]:
    """Yield what says that the target was made from the source, with its counts."""
    yield from _named("blanked", _blanked(pair))
    source, target = pair.source.kind, pair.target.kind
    if {source, target} <= {"number", "time"}:
        if source != target or np.array_equal(pair.source.key, pair.target.key):
            yield from _named("gaps", _gaps(pair))
            return
        x, y = pair.numbers
        if len(x) >= _LEAST:
            yield from _named("coarser", is_rounded(x, y))
            yield from _named("foreign-grid", on_foreign_grid(x, y))
            yield from _named("residue", has_residue(x, y))
        return
    if not np.array_equal(pair.source.key, pair.target.key):
        present = (pair.source.key != 0) & (pair.target.key != 0)
        yield from _named("merged", merges(pair.source.key[present], pair.target.key[present]))
        yield from _named("shortened", _shortened(pair))


def _named(name: str, counts: dict[str, int] | None) -> Iterator[tuple[str, dict[str, int]]]:
    if counts is not None:
        yield name, counts


def _blanked(pair: _Pair) -> dict[str, int] | None:
    """Count cells that only the source has: filling them in needs another source, or imagination."""
    only_source = int(((pair.source.tag != NULL) & (pair.target.tag == NULL)).sum())
    only_target = int(((pair.source.tag == NULL) & (pair.target.tag != NULL)).sum())
    if only_source < _LEAST or only_target > _CONTRARY * only_source:
        return None
    return {"for": only_source, "against": only_target}


def _gaps(pair: _Pair) -> dict[str, int] | None:
    """Count the gaps of a running number that has none in the source; over the whole tables."""
    whole = [finite(c) for c in (pair.whole_source, pair.whole_target)]
    span = []
    for value in whole:
        distinct = np.unique(value[np.isfinite(value)])
        if len(distinct) < _LEAST or len(distinct) < 0.98 * len(value) or (distinct % 1 != 0).any():
            return None
        span.append((len(distinct), int(min(distinct[-1] - distinct[0], 2.0**62)) + 1))
    (n, room), (m, wide) = span
    if n < 0.999 * room or m > 0.98 * wide:
        return None
    return {"for": wide - m, "against": room - n}


def _shortened(pair: _Pair) -> dict[str, int] | None:
    text = np.flatnonzero((pair.source.tag == TEXT) & (pair.target.tag == TEXT))
    text = text[spread(len(text), 4000)]
    if len(text) < _LEAST:
        return None
    words = pair.source.word[text].astype(np.int64), pair.target.word[text].astype(np.int64)
    long = [pair.source.texts[i].as_py() for i in words[0].tolist()]
    short = [pair.target.texts[i].as_py() for i in words[1].tolist()]
    return is_shortened(long, short)


def _undirected(name: str, a: Canonical, b: Canonical, left: Canonical, right: Canonical) -> Iterator[Hint]:
    """Yield what was seen and points neither way."""
    if a.kind != b.kind or a.kind not in {"number", "time"}:
        return
    x, y = finite(a), finite(b)
    with np.errstate(over="ignore", invalid="ignore"):
        off = y - x
        near = np.isfinite(off) & (off != 0) & (np.abs(off) <= 0.2 * _sd(x))
    above, below = int((off[near] > 0).sum()), int((off[near] < 0).sum())
    if above + below >= _LEAST and abs(above - below) <= 4 * np.sqrt(above + below):
        yield Hint("near-values", name, {"larger": above, "smaller": below}, EITHER)
    if a.kind == "time":
        last = [finite(c) for c in (left, right)]
        ends = [float(np.nanmax(v)) if np.isfinite(v).any() else 0.0 for v in last]
        newer = [int((v > end).sum()) for v, end in zip(last, reversed(ends), strict=True)]
        if sum(newer):
            # Rows newer than all of the other cannot come from it; the rest may have gone either way.
            yield Hint("newer-content", name, {"original": newer[0], "suspect": newer[1]}, EITHER)


def _sd(x: F64) -> float:
    present = x[np.isfinite(x)]
    with np.errstate(over="ignore", invalid="ignore"):
        return float(np.std(present)) if len(present) else 0.0
