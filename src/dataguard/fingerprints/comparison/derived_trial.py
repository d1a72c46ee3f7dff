"""One possible key of an aggregation, tried: both tables grouped by it, and functions held against numbers.

A few groups are looked at with every function of every column; what agrees there is tested on all of them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dataguard.fingerprints.comparison.derived_functions import (
    CODED,
    FUNCTIONS,
    Groups,
    agreement,
    largest_of,
    printed_step,
    reach,
    slack,
)
from dataguard.fingerprints.comparison.derived_keys import CONTAINED, Folding, GroupKey, joint_keys, places
from dataguard.fingerprints.comparison.derived_nulls import (
    log10_regrouping,
    log10_repairing,
    log10_single_rows,
)
from dataguard.stats import round_up
from dataguard.values import mix64

__all__ = ["AGREE", "AggregateColumn", "Guess", "Tested", "Trial", "screened", "tested"]

B = NDArray[np.bool_]
F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]

AGREE = 0.9
"""Share of the groups in which a function must agree with the suspect's number to be named."""

_SCREENED = 0.75
_GUESSES = 5
_SCREEN_GROUPS, _SCREEN_ROWS = 64, 60_000
_TESTED = 5000
"""Groups whose numbers are paired anew, at most; chosen by a public hash of the key."""

_UNFLOORED = -1e6
"""What many tries cost is paid before the floor of reported values."""

_REPAIRED = "the numbers of the suspect's column are paired with the groups at random"
_SINGLE = "each row of the suspect is one of the rows of its group, drawn at random"
_REGROUPED = "the values of the original's column stand in the groups at random"


@dataclass(frozen=True, slots=True)
class AggregateColumn:
    """A suspect column that is a function of groups of the original's rows.

    Attributes
    ----------
    suspect : int
        Column position.
    function : str
        One of ``count, sum, mean, min, max, median, std, population-std, count-distinct, first``.
    original : int
        Position of the column it is of; -1 for the count of rows.
    agree, groups : int
        Groups in which it agrees, as printed, of those that have a number in both tables.
    told, telling : int
        The same for the groups in which agreement says something: there, two halves of the group's own
        rows disagree.
    log10_p : float
        Of this column, before the number of functions tried is paid; not floored.
    """

    suspect: int
    function: str
    original: int
    agree: int
    groups: int
    told: int
    telling: int
    log10_p: float


@dataclass(frozen=True, slots=True)
class Trial:
    """Two tables grouped by one key.

    Attributes
    ----------
    original, suspect : Folding
    by : tuple of GroupKey
    row : (groups,) int64
        Suspect row of each group.
    hashed : (groups,) uint64
        Public hash of each group's key.
    whole, screen : Groups
        The original's rows by group: all, and those of some groups.
    """

    original: Folding
    suspect: Folding
    by: tuple[GroupKey, ...]
    row: I64
    hashed: U64
    whole: Groups
    screen: Groups

    @property
    def taken(self) -> set[int]:
        """Suspect columns of the key."""
        return {k.suspect for k in self.by}

    @classmethod
    def of(cls, original: Folding, suspect: Folding, by: tuple[GroupKey, ...]) -> Trial | None:
        """Group the tables; None where groups do not occur, or hold one row each."""
        mine = joint_keys([suspect.key(k.suspect) for k in by])
        known, row = np.unique(mine, return_index=True)
        whole = Groups.of(
            places(joint_keys([original.key(k.original, k.part) for k in by]), known), len(known)
        )
        found = int((whole.sizes > 0).sum())
        if found < max(2, CONTAINED * len(known)) or len(whole.rows) < 1.5 * found:
            return None
        hashed = mix64(known)
        return cls(original, suspect, by, row.astype(np.int64), hashed, whole, _some(whole, hashed))

    def numbers(self, position: int) -> F64:
        """Return the suspect's numbers of a column by group."""
        return self.suspect.number(position)[self.row]


def _some(whole: Groups, hashed: U64) -> Groups:
    """Return some groups of two rows or more, with about as many rows as are screened."""
    sizes = whole.sizes
    order = np.argsort(hashed, kind="stable")
    order = order[sizes[order] > 1][:_SCREEN_GROUPS]
    within = np.cumsum(sizes[order]) <= _SCREEN_ROWS
    within[:6] = True
    chosen = np.zeros(whole.count, bool)
    chosen[order[within]] = True
    kept = chosen[whole.group]
    return Groups(whole.rows[kept], whole.group[kept], whole.count)


@dataclass(frozen=True, slots=True, order=True)
class Guess:
    """A function of an original column that a suspect column may be; better ones are smaller."""

    missed: float
    place: int
    unnamed: bool
    original: int
    function: str


def screened(trial: Trial, sources: Mapping[int, bool], wanted: list[int]) -> dict[int, list[Guess]]:
    """Return, per suspect column, the functions that agree in most of the screened groups, best first."""
    guesses: dict[int, list[Guess]] = {s: [] for s in wanted}
    if not wanted:
        return guesses
    sizes = trial.screen.sizes
    at = np.flatnonzero(sizes)
    mine = np.stack([trial.numbers(s)[at] for s in wanted])
    steps = np.array([printed_step(trial.suspect.number(s)) for s in wanted])[:, None]
    names = [trial.suspect.table.names[s].casefold() for s in wanted]

    def look(o: int, values: Mapping[str, F64], largest: float) -> None:
        name = trial.original.table.names[o].casefold() if o >= 0 else ""
        for function, by_group in values.items():
            there = by_group[at]
            both = (~np.isnan(there) & ~np.isnan(mine)).sum(axis=1)
            more = slack(function, largest, sizes[at].astype(np.float64))
            agree = agreement(mine, steps, there, more).sum(axis=1)
            for i in np.flatnonzero((both > 1) & (agree >= _SCREENED * both)).tolist():
                missed, unnamed = 1 - float(agree[i] / both[i]), o < 0 or name not in names[i]
                place = FUNCTIONS.index(function)
                guesses[wanted[i]].append(Guess(round(missed, 1), place, unnamed, o, function))

    look(-1, {"count": np.where(sizes > 0, sizes, np.nan)}, 0.0)
    for o, number in sources.items():
        numbers = _numbers(trial, o, number, trial.screen.rows)
        look(o, trial.screen.values(FUNCTIONS if number else CODED, numbers), largest_of(numbers))
    return {s: sorted(found)[:_GUESSES] for s, found in guesses.items()}


def _numbers(trial: Trial, position: int, number: bool, rows: I64 | None = None) -> F64:
    """Return an original column's numbers, or ids of the values of some rows; nan where missing."""
    if number:
        return trial.original.number(position)
    at = np.arange(trial.original.table.rows) if rows is None else rows
    _, ids = np.unique(trial.original.key(position)[at], return_inverse=True)
    out = np.full(trial.original.table.rows, np.nan)
    out[at] = np.where(trial.original.missing(position)[at], np.nan, ids.astype(np.float64))
    return out


@dataclass(frozen=True, slots=True)
class _Whole:
    """A function by group: of all rows, of two halves of them, and how many cells it is of."""

    numbers: F64
    values: F64
    halves: tuple[F64, F64]
    cells: F64


def _whole(trial: Trial, guess: Guess) -> _Whole:
    rows = trial.original.table.rows
    numbers = np.zeros(rows)
    if guess.original >= 0:
        numbers = _numbers(trial, guess.original, trial.original.is_numeric(guess.original))
    odd = (mix64(np.arange(rows, dtype=np.uint64)) & np.uint64(1)).astype(bool)
    one = (guess.function,)
    both = tuple(trial.whole.only(side).values(one, numbers)[guess.function] for side in (odd, ~odd))
    values = trial.whole.values({"count", guess.function}, numbers)
    return _Whole(numbers, values[guess.function], (both[0], both[1]), np.nan_to_num(values["count"]))


Tested = tuple[AggregateColumn, B, str]
"""A named function; (groups,) where it does not disagree; the null hypothesis of its log10 p."""


def tested(trial: Trial, s: int, guess: Guess, enough: float) -> Tested | None:
    """Return a function over all groups, where it does not disagree, and the null hypothesis; None if not named."""
    mine, step = trial.numbers(s), printed_step(trial.suspect.number(s))
    there = _whole(trial, guess)
    more = slack(guess.function, largest_of(there.numbers), there.cells)
    agrees = agreement(mine, step, there.values, more)
    left, right = there.halves
    # A function of rows that no half could do without; which groups these are, the suspect has no say in.
    telling = ~np.isnan(left) & ~np.isnan(right) & ~(np.abs(left - right) <= reach(there.values, step) + more)
    both = ~np.isnan(mine) & ~np.isnan(there.values)
    telling &= both
    groups, agree = int(both.sum()), int(agrees.sum())
    said, told = int(telling.sum()), int((agrees & telling).sum())
    if groups < 2 or agree < AGREE * groups or told < AGREE * said:
        return None
    at = np.flatnonzero(telling)
    at = at[np.argsort(trial.hashed[at], kind="stable")][:_TESTED]
    log10_p = log10_repairing(
        mine[at], reach(mine[at], step) + more[at], there.values[at], int(agrees[at].sum())
    )
    null = _REPAIRED
    if guess.function in ("sum", "mean") and said > 1 and log10_p > enough:
        other = _regrouped(trial, there, guess, mine, reach(mine, step) + more, agrees)
        log10_p, null = (other, _REGROUPED) if other < log10_p else (log10_p, null)
    single = _single_rows(trial, there, guess, reach(there.values, step) + more, telling, told)
    log10_p, null = (single, _SINGLE) if single > log10_p else (log10_p, null)
    column = AggregateColumn(
        s, guess.function, guess.original, agree, groups, told, said, round_up(log10_p, _UNFLOORED)
    )
    return column, agrees | ~both, null


def _single_rows(trial: Trial, there: _Whole, guess: Guess, within: F64, telling: B, told: int) -> float:
    """Bound the chance that rows of the groups agree as often: they do where a column hardly varies in a group."""
    if guess.function in ("count", "count-distinct", "std", "population-std"):
        return -math.inf
    group = trial.whole.group
    y = there.numbers[trial.whole.rows]
    with np.errstate(invalid="ignore"):
        alike = np.abs(y - there.values[group]) <= within[group]
    shares = np.bincount(group, alike, trial.whole.count) / np.maximum(1, there.cells)
    return log10_single_rows(shares[telling], told)


def _regrouped(trial: Trial, there: _Whole, guess: Guess, mine: F64, within: F64, agrees: B) -> float:
    # Groups with a number and with cells: known without looking at where the values stand.
    known = np.flatnonzero(~np.isnan(mine) & (there.cells > 0))
    if len(known) > _TESTED:
        return 0.0
    number = np.full(trial.whole.count, -1, np.int64)
    number[known] = np.arange(len(known))
    group = np.full(len(there.numbers), -1, np.int64)
    group[trial.whole.rows] = number[trial.whole.group]
    present = ~np.isnan(there.numbers)
    width = 2 * within * (there.cells if guess.function == "mean" else 1.0)
    return log10_regrouping(there.numbers[present], group[present], agrees[known], width[known])
