"""How a cell of the suspect meets the original's: equal, equal after the named change, near or different.

For display alone. A change is undone by the map of the alignment; spellings of one value (thousands
commas, dates, case, widths) are folded together; what is left is near by a rule of thumb.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dataguard.cells import NULL, TEXT
from dataguard.fingerprints.comparison.printed import few
from dataguard.folding.columns import fold_column
from dataguard.maps import Recoding, ValueMap
from dataguard.values import Canonical

__all__ = ["EQUAL", "State", "meet"]

F64 = NDArray[np.float64]
U8 = NDArray[np.uint8]

State = Literal["equal", "mapped", "near", "different"]

EQUAL: tuple[State, State, State, State] = ("equal", "mapped", "near", "different")
"""States by number, from like to unlike."""

NEAR = 0.05
"""Numbers that differ by at most this part of the original column's standard deviation are near."""

_SAMPLE = 4096
_LAST_PLACES = 1e-9


def meet(
    original: Canonical,
    suspect: Canonical,
    through: ValueMap | Recoding | None,
    spread_of: Canonical | None = None,
) -> U8:
    """Return how cells meet, row by row.

    Parameters
    ----------
    original, suspect : Canonical
        As many rows each, row i beside row i.
    through : ValueMap, Recoding or None
        How the suspect shows the original's values.
    spread_of : Canonical, optional
        Where the standard deviation is taken from; by default `original`.

    Returns
    -------
    (n,) uint8
        Indices into `EQUAL`: 0 equal as they stand or both missing, 1 equal after the map or in
        another spelling, 2 near, 3 different.
    """
    state = np.full(len(original), 3, np.uint8)
    missing = (original.tag == NULL) & (suspect.tag == NULL)
    state[(original.key == suspect.key) | missing] = 0
    if isinstance(through, Recoding):
        told = through.apply(original.key)
        state[(state == 3) & (told != 0) & (told == suspect.key)] = 1
    if (state == 3).any():
        _folded(state, original, suspect)
    if (state == 3).any():
        _numbers(
            state,
            original,
            suspect,
            through if isinstance(through, ValueMap) else None,
            spread_of or original,
        )
    return state


def _folded(state: U8, original: Canonical, suspect: Canonical) -> None:
    """Mark cells equal whose spellings mean the same; how they are read is decided on these rows."""
    if not len(original.texts) and not len(suspect.texts):
        return
    left = np.flatnonzero(state == 3)
    a, b = (fold_column(_compact(few(column, left))).column for column in (original, suspect))
    state[left[(a.key == b.key) & (a.tag != NULL)]] = 1


def _numbers(
    state: U8, original: Canonical, suspect: Canonical, through: ValueMap | None, spread: Canonical
) -> None:
    x, y = _read(original), _read(suspect)
    with np.errstate(all="ignore"):
        told = x if through is None else through.apply(x)
        distance = np.abs(told - y)
        scale = 1.0 if through is None or through.function else abs(through.scale)
        sd = _deviation(told if through is not None and through.function else _read(spread)) * scale
        exact = distance <= _LAST_PLACES * np.maximum(np.abs(y), sd)
        noise = 0.0 if through is None else 4 * through.noise
        near = distance <= max(NEAR * sd, noise)
    state[(state == 3) & exact] = 1
    state[(state == 3) & near] = 2


def _read(column: Canonical) -> F64:
    if len(column) > _SAMPLE:
        at = np.unique(np.linspace(0, len(column) - 1, _SAMPLE).astype(np.int64))
        column = few(column, at)
    column = _compact(column)
    return (fold_column(column).column if len(column.texts) else column).number


def _compact(column: Canonical) -> Canonical:
    """Return some rows of a column without the texts of the others: folding costs 5 microseconds a text."""
    where = column.tag == TEXT
    used, place = np.unique(column.word[where], return_inverse=True)
    word = column.word.copy()
    word[where] = place.astype(np.uint64)
    texts = column.texts.take(pa.array(used.astype(np.int64)))
    return Canonical(column.tag, word, column.key, texts, column.source)


def _deviation(values: F64) -> float:
    """Return the standard deviation of the finite values; 0 without two of them."""
    finite = values[np.isfinite(values)]
    if len(finite) < 2:
        return 0.0
    sd = float(np.std(finite))
    return sd if np.isfinite(sd) else 0.0
