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
I64 = NDArray[np.int64]
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
    *,
    folds: bool = True,
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
    folds : bool
        Whether other spellings of a value are looked for (some 3 ms a column, whatever its length).

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
    left = np.flatnonzero(state == 3)
    if not len(left):
        return state
    a, b = few(original, left), few(suspect, left)
    if folds and ((a.tag == TEXT).any() or (b.tag == TEXT).any()):
        a, b = _folded(a), _folded(b)
        state[left[(a.key == b.key) & (a.tag != NULL)]] = 1
    sd = _deviation(spread_of or original) or _deviation(a)
    _numbers(state, left, (a.number, b.number), through if isinstance(through, ValueMap) else None, sd)
    return state


def _folded(column: Canonical) -> Canonical:
    """Fold a few rows; how they are read is decided on these rows."""
    where = column.tag == TEXT
    # Without the texts of all other rows: folding costs 5 microseconds a text.
    used, place = np.unique(column.word[where], return_inverse=True)
    word = column.word.copy()
    word[where] = place.astype(np.uint64)
    texts = column.texts.take(pa.array(used.astype(np.int64)))
    return fold_column(Canonical(column.tag, word, column.key, texts, column.source)).column


def _numbers(state: U8, left: I64, values: tuple[F64, F64], through: ValueMap | None, sd: float) -> None:
    """Tell apart numbers that are what the map says, those that are near it, and all others."""
    x, y = values
    with np.errstate(all="ignore"):
        told = x if through is None else through.apply(x)
        if through is not None and through.function:
            finite = told[np.isfinite(told)]
            sd = float(np.std(finite)) if len(finite) > 1 else 0.0
        elif through is not None:
            sd *= abs(through.scale)
        distance = np.abs(told - y)
        exact = distance <= _LAST_PLACES * np.maximum(np.abs(y), sd)
        near = distance <= max(NEAR * sd, 0.0 if through is None else 4 * through.noise)
    state[left[near]] = np.minimum(state[left[near]], 2)
    state[left[exact]] = np.minimum(state[left[exact]], 1)


def _deviation(column: Canonical) -> float:
    """Return the standard deviation of some numbers of a column; 0 without two of them."""
    if len(column) > _SAMPLE:
        at = np.unique(np.linspace(0, len(column) - 1, _SAMPLE).astype(np.int64))
        column = few(column, at)
    values = column.number
    finite = values[np.isfinite(values)]
    if len(finite) < 2:
        return 0.0
    with np.errstate(all="ignore"):
        sd = float(np.std(finite))
    return sd if np.isfinite(sd) else 0.0
