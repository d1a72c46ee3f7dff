"""Which suspect column holds which original column's values.

Values decide and names only tip the scales: a leaker renames columns at no cost, while
sibling data share names without sharing a row. A wrong column costs more than a missing
one, so look-alikes (0/1 dummies, hour and minute) under opaque names are left open until
aligned rows tell them apart.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dataguard.carrier import ColumnMatch
from dataguard.fingerprints.alignment.profiles import ColumnProfile, profile_column
from dataguard.values import CanonicalTable, mix64

__all__ = ["Proposal", "fold_name", "match_columns", "propose_columns", "refine_columns", "sampled_values"]

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]

_VALUES = 4096
"""Distinct values of a suspect column that are looked up, those with the smallest hashes."""

_MOST_SHARES = 50_000_000
"""Shares of values in columns that are held at once, of 4 bytes each."""

_NOISE = 0.02
"""Share of a true column's cells that may be foreign to it, in the likelihood."""

_NAME_BONUS, _FOLDED_BONUS = 1.0, 0.8
"""What an equal name is worth, in nats per cell; hour against minute differ by 1.1 in values."""

_LEAST = 0.05
"""Share of a suspect column's cells that must occur in the original column."""

_MARGIN = 8.0
"""Nats by which values alone must prefer a column to every other."""

_CELLS_PER_VALUE, _MOST_CELLS = 4, 400
"""Cells that count in the margin: rows of a leak are often neighbours, not independent draws."""

_AGREE_ROWS = 16
_AGREE_LIFT = 0.25
_AGREE_LEAST = 0.25
"""Aligned rows, and equal cells beyond chance, that it takes to settle a column by rows; and
equal cells without which a column matched by values alone is given up."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """Columns matched before any row is.

    Attributes
    ----------
    columns : tuple of ColumnMatch
        Everything that is clear enough.
    sure : tuple of ColumnMatch
        Those whose values could hardly come from another column.
    """

    columns: tuple[ColumnMatch, ...]
    sure: tuple[ColumnMatch, ...]


def match_columns(original: CanonicalTable, suspect: CanonicalTable) -> tuple[ColumnMatch, ...]:
    """Return the suspect columns that hold an original column's values, one to one.

    Parameters
    ----------
    original, suspect : CanonicalTable

    Returns
    -------
    tuple of ColumnMatch
        In order of the suspect's columns; what is not clear is left out.
    """
    return propose_columns(original, suspect, [profile_column(c) for c in original.columns]).columns


def propose_columns(
    original: CanonicalTable, suspect: CanonicalTable, profiles: Sequence[ColumnProfile]
) -> Proposal:
    """Return the columns matched by values and names; `profiles` are those of the original."""
    from scipy.optimize import linear_sum_assignment

    if not (original.columns and suspect.columns):
        return Proposal((), ())
    tally = _Tally.of(original, suspect, profiles)
    value = tally.gain + tally.bonus
    allowed = (tally.weighted >= _LEAST) | ((tally.bonus > 0) & tally.empty[:, None])
    # A pair that is not allowed must never be preferred to leaving the column open (0 here).
    total = np.where(allowed, value + 10.0, 0.0)
    rows, cols = linear_sum_assignment(total, maximize=True)
    chosen = {int(s): int(o) for s, o in zip(rows, cols, strict=True) if allowed[s, o]}
    columns, sure = [], []
    for s, o in chosen.items():
        named = bool(tally.bonus[s, o] > 0)
        margin = _margin(s, o, chosen, np.where(allowed, value, -np.inf), tally.cells)
        if not named and margin < _MARGIN:
            continue
        match = ColumnMatch(o, s, "name" if named else "values", float(tally.containment[s, o]))
        columns.append(match)
        rival = np.delete(tally.weighted[s], o).max(initial=0.0)
        if tally.bonus[s, o] == _NAME_BONUS or rival <= 0.5 * tally.weighted[s, o]:
            sure.append(match)
    return Proposal(tuple(columns), tuple(sure))


def _margin(s: int, o: int, chosen: dict[int, int], value: F64, cells: I64) -> float:
    """Nats by which the assignment of s to o beats the best alternative: a free column or a swap."""
    holder = {b: a for a, b in chosen.items()}
    least = np.inf
    for other in range(value.shape[1]):
        if other == o or value[s, other] == -np.inf:
            continue
        lead = (value[s, o] - value[s, other]) * cells[s]
        t = holder.get(other)
        if t is not None:
            lead += (value[t, other] - value[t, o]) * cells[t] if value[t, o] > -np.inf else np.inf
        least = min(least, float(lead))
    return least


@dataclass(frozen=True, slots=True)
class _Tally:
    """Per suspect column (rows) and original column (columns of each matrix)."""

    gain: F64  # mean log-likelihood ratio per cell, against the average of all original columns
    weighted: F64  # share of present cells that occur in the original column
    containment: F64  # share of distinct values that do
    bonus: F64  # nats per cell for the name
    cells: I64  # (suspect columns,): cells that count in a margin
    empty: NDArray[np.bool_]  # (suspect columns,): nothing but missing cells

    @classmethod
    def of(
        cls, original: CanonicalTable, suspect: CanonicalTable, profiles: Sequence[ColumnProfile]
    ) -> _Tally:
        shape = (len(suspect.columns), len(original.columns))
        gain, weighted, containment = np.zeros(shape), np.zeros(shape), np.zeros(shape)
        cells, empty = np.zeros(shape[0], np.int64), np.zeros(shape[0], bool)
        samples = [sampled_values(c.key) for c in suspect.columns]
        shares = _Shares(profiles, [values for values, _ in samples])
        for s, (values, counts) in enumerate(samples):
            share = shares.of(s)
            present = values != 0
            empty[s] = not present.any()
            held = (share > 0) & present
            weighted[s] = (held * counts).sum(1) / max(1, counts[present].sum())
            containment[s] = held.sum(1) / max(1, present.sum())
            floor = 1.0 / max(1, original.rows)
            background = share.mean(0) + floor / shape[1]
            ratio = np.log((1 - _NOISE) * share + _NOISE * background) - np.log(background)
            gain[s] = (ratio * counts).sum(1) / max(1, counts.sum())
            cells[s] = min(int(counts.sum()), _CELLS_PER_VALUE * int(present.sum()), _MOST_CELLS)
        bonus = _name_bonus(suspect.names, original.names)
        # A name is no hint when other columns hold these values far better: names can be exchanged.
        bonus[weighted < 0.5 * weighted.max(1, keepdims=True, initial=0.0)] = 0.0
        return cls(gain, weighted, containment, bonus, cells, empty)


def sampled_values(keys: U64) -> tuple[U64, I64]:
    """Return the distinct cell keys of a column that are looked up, and how often each occurs."""
    values, counts = np.unique(keys, return_counts=True)
    if len(values) > _VALUES:
        keep = np.argsort(mix64(values), kind="stable")[:_VALUES]
        values, counts = values[keep], counts[keep]
    return values, counts


class _Shares:
    """Shares of the suspect's sampled values in every original column; all values are found at once where they fit."""

    def __init__(self, profiles: Sequence[ColumnProfile], values: Sequence[U64]) -> None:
        self._profiles, self._values = profiles, values
        every, place = np.unique(np.concatenate(values), return_inverse=True)
        self._ends = np.concatenate([[0], np.cumsum([len(v) for v in values])])
        self._place = place
        fits = len(every) * len(profiles) <= _MOST_SHARES
        self._table = np.stack([_shares(p, every).astype(np.float32) for p in profiles]) if fits else None

    def of(self, s: int) -> F64:
        """Return the (original columns, values of suspect column s) shares."""
        if self._table is None:
            return np.stack([_shares(p, self._values[s]) for p in self._profiles])
        return self._table[:, self._place[self._ends[s] : self._ends[s + 1]]].astype(np.float64)


def _shares(profile: ColumnProfile, values: U64) -> F64:
    ids = profile.find(values)
    seen = ids < len(profile.values)
    return np.where(seen, profile.share[np.where(seen, ids, 0)] if len(profile.values) else 0.0, 0.0)


def fold_name(name: str) -> str:
    """Return a column name without differences of width, case, blanks, hyphens and underscores."""
    folded = unicodedata.normalize("NFKC", name).casefold()
    return "".join(ch for ch in folded if not ch.isspace() and ch not in "_-.")


def _name_bonus(suspect: Sequence[str], original: Sequence[str]) -> F64:
    """Nats per cell for equal names; repeated names say nothing."""
    bonus = np.zeros((len(suspect), len(original)))
    for worth, form in ((_FOLDED_BONUS, fold_name), (_NAME_BONUS, str)):
        left, right = [form(x) for x in suspect], [form(x) for x in original]
        for s, name in enumerate(left):
            if left.count(name) == right.count(name) == 1:
                bonus[s, right.index(name)] = worth
    return bonus


def refine_columns(
    original: CanonicalTable,
    suspect: CanonicalTable,
    columns: Sequence[ColumnMatch],
    suspect_row: I64,
    original_row: I64,
    count: int = 512,
) -> tuple[ColumnMatch, ...]:
    """Correct and complete a column match by the agreement of aligned rows.

    Parameters
    ----------
    original, suspect : CanonicalTable
    columns : sequence of ColumnMatch
        What values and names say.
    suspect_row, original_row : (m,) int64
        Aligned rows; with fewer than 16 nothing is changed.
    count : int
        Of these, how many are looked at.

    Returns
    -------
    tuple of ColumnMatch
        Changed or added entries carry ``by="rows"``: they have seen the row alignment, so a
        test of that alignment must leave them out.
    """
    from scipy.optimize import linear_sum_assignment

    if len(suspect_row) < _AGREE_ROWS:
        return tuple(columns)
    lift, same = _agreement(original, suspect, suspect_row, original_row, count)
    before = {c.suspect: c for c in columns}
    prior = np.zeros_like(lift)
    for c in columns:
        prior[c.suspect, c.original] = 1e-3  # ties stay as they are
    rows, cols = linear_sum_assignment(np.maximum(lift, 0.0) + prior, maximize=True)
    proven = {int(s): int(o) for s, o in zip(rows, cols, strict=True) if _stands_out(lift, s, o)}
    taken = set(proven.values())
    result = []
    for s in range(len(suspect.columns)):
        old, o = before.get(s), proven.get(s)
        if o is not None and (old is None or old.original != o):
            result.append(
                ColumnMatch(o, s, "rows", _contained(original.columns[o].key, suspect.columns[s].key))
            )
        elif old is not None and (o is not None or _stays(old, same, taken)):
            result.append(old)
    return tuple(result)


def _stays(old: ColumnMatch, same: F64, taken: set[int]) -> bool:
    """Whether a match that rows have not proven is kept: no other claims its column, and it is not refuted."""
    return old.original not in taken and (old.by == "name" or same[old.suspect, old.original] >= _AGREE_LEAST)


def _agreement(
    original: CanonicalTable, suspect: CanonicalTable, suspect_row: I64, original_row: I64, count: int
) -> tuple[F64, F64]:
    """Equal cells beyond chance, (c - e) / (1 - e) as Cohen's kappa, and equal cells, per pair of columns."""
    pick = np.linspace(0, len(suspect_row) - 1, min(len(suspect_row), count)).astype(np.int64)
    left = np.stack([c.key[suspect_row[pick]] for c in suspect.columns])
    right = np.stack([c.key[original_row[pick]] for c in original.columns])
    lift, same = np.zeros((len(left), len(right))), np.zeros((len(left), len(right)))
    m = len(pick)
    for s in range(len(left)):
        present = left[s] != 0
        same[s] = ((right == left[s]) & present).sum(1) / max(1, present.sum())
        # Chance: the same cells paired at random, from the frequencies on both sides; of no use below the least lift.
        values, counts = np.unique(left[s][present], return_counts=True)
        chance = np.zeros(len(right))
        for o in np.flatnonzero(same[s] >= _AGREE_LIFT):
            chance[o] = _meet(values, counts, right[o]) / max(1, m * present.sum())
        lift[s] = np.where(chance < 1 - 1e-9, (same[s] - chance) / np.maximum(1e-9, 1 - chance), 0.0)
    return lift, same


def _meet(values: U64, counts: I64, other: U64) -> float:
    at = np.searchsorted(values, other)
    at[at == len(values)] = 0
    return float(np.where(values[at] == other, counts[at], 0).sum()) if len(values) else 0.0


def _stands_out(lift: F64, s: int, o: int) -> bool:
    rivals = max(np.delete(lift[s], o).max(initial=0.0), np.delete(lift[:, o], s).max(initial=0.0))
    return bool(lift[s, o] >= _AGREE_LIFT and lift[s, o] >= rivals + 0.1)


def _contained(original: U64, suspect: U64) -> float:
    values = np.unique(suspect[suspect != 0])
    return float(np.isin(values, original).mean()) if len(values) else 0.0
