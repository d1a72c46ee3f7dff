"""Suspect columns that no original column became, but that are made of original ones.

Joined, taken apart or computed: each is a formula that hundreds of rows must keep, and that a shuffled column
would not. Candidates are bounded, so that a table of thousands of columns costs no more than one of a hundred.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dataguard.cells import NULL, TIME
from dataguard.fingerprints.changes.change import Change
from dataguard.fingerprints.changes.formulas import computed_from, date_part
from dataguard.fingerprints.changes.joined import TextColumn, merged_from, split_from
from dataguard.fingerprints.changes.printing import printed, texts_at
from dataguard.folding.columns import fold_column
from dataguard.values import Canonical, CanonicalTable, canonical_column

__all__ = ["composed_columns"]

I64 = NDArray[np.int64]
F64 = NDArray[np.float64]

_ROWS = 384
_LEAST = 16
_OPEN = 64
_SOURCES = 256
"""Original columns that are looked at; an open column is compared with all of them."""


def composed_columns(
    original: CanonicalTable,
    suspect: CanonicalTable,
    open_suspect: Sequence[int],
    original_row: I64,
    suspect_row: I64,
) -> tuple[tuple[int, tuple[int, ...], Change], ...]:
    """Return suspect columns that are made of original ones.

    Parameters
    ----------
    original, suspect : CanonicalTable
    open_suspect : sequence of int
        Suspect columns that hold no original column's values; the first 64 are looked at.
    original_row, suspect_row : (m,) int64
        Rows that belong together; up to a third may be wrong. At least 16 are needed, 384 are looked at.

    Returns
    -------
    tuple of (suspect column, original columns, Change)
        ``merged``, ``split`` and ``computed``; a column that is none of them is left out.
    """
    m = len(original_row)
    if m < _LEAST or not len(open_suspect) or not original.columns:
        return ()
    few = np.arange(min(m, _ROWS)) * m // min(m, _ROWS)
    sources = [_Side.of(c, original_row[few]) for c in original.columns[:_SOURCES]]
    found = []
    for position in list(open_suspect)[:_OPEN]:
        side = _Side.of(suspect.columns[position], suspect_row[few])
        made = _composed(sources, side, original.names)
        if made is not None:
            found.append((position, *made))
    return tuple(found)


@dataclass(frozen=True, slots=True)
class _Side:
    """Some cells of a column: as numbers, as printed, and whether they are moments."""

    number: F64
    texts: list[str]
    time: bool

    @classmethod
    def of(cls, column: Canonical, rows: I64) -> _Side:
        part = canonical_column(column.source.take(pa.array(rows)))
        folded = fold_column(part).column
        present = folded.tag != NULL
        time = bool(present.any()) and float((folded.tag[present] == TIME).mean()) >= 0.9
        texts = texts_at(printed(part), np.arange(len(rows)))
        return cls(folded.number, [t.strip() for t in texts], time)


def _composed(
    sources: list[_Side], side: _Side, names: Sequence[str]
) -> tuple[tuple[int, ...], Change] | None:
    numeric = np.isfinite(side.number)
    held = numeric.sum() >= _LEAST and len(np.unique(side.number[numeric])) >= 2
    texts = TextColumn.of(side.texts)
    for position, source in enumerate(sources):
        if source.time and (part := date_part(source.number, side.number, side.texts, time=side.time)):
            return (position,), Change("split", {"from": names[position], "part": part})
    if held and not side.time:
        columns = np.stack([np.full(len(s.texts), np.nan) if s.time else s.number for s in sources])
        if (formula := computed_from(columns, side.number, names)) is not None:
            positions, text = formula
            return positions, Change("computed", {"from": [names[p] for p in positions], "formula": text})
    if texts is None:
        return None
    columns_ = [TextColumn.of(s.texts) for s in sources]
    if (joined := merged_from(columns_, texts)) is not None:
        positions, separator = joined
        return positions, Change("merged", {"from": [names[p] for p in positions], "separator": separator})
    if (cut := split_from(columns_, texts)) is not None:
        return (cut[0],), Change("split", {"from": names[cut[0]], "part": cut[1]})
    return None
