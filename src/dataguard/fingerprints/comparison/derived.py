"""Tables derived from an original by aggregation: "group by X, mean of Y", found without names or rows.

Such a table shares no row with its original, so that a comparison of rows says nothing or, joined on the
key, something false. It is named here only if its numbers fit the groups beyond chance, and better than
those of other rows of the same source would.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dataguard.cells import NUMBER, TIME
from dataguard.fingerprints.comparison.derived_functions import (
    CODED,
    FUNCTIONS,
    Groups,
    agreement,
    printed_step,
    reach,
    slack,
)
from dataguard.fingerprints.comparison.derived_keys import (
    CONTAINED,
    MOST_COLUMNS,
    Folding,
    GroupKey,
    candidate_keys,
    has_own_rows,
    joint_keys,
    places,
)
from dataguard.fingerprints.comparison.derived_nulls import log10_regrouping, log10_repairing
from dataguard.model import COMPARE_ALPHA, Finding
from dataguard.stats import round_up
from dataguard.values import CanonicalTable, mix64

__all__ = ["AGREE", "AggregateColumn", "Aggregation", "find_aggregation"]

B = NDArray[np.bool_]
F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]

AGREE = 0.9
"""Share of the groups in which a function must agree with the suspect's number to be named."""

_SCREENED = 0.75
_MOST_KEYS = 16
_SCREEN_GROUPS, _SCREEN_ROWS = 64, 60_000
_TESTED = 5000
"""Groups whose numbers are paired anew, at most; chosen by a public hash of the key."""
_WORK = 120_000_000
"""Cells of the original that are looked at while keys are tried: 4 CPU seconds."""

_UNFLOORED = -1e6
"""What many tries cost is paid before the floor of reported values."""

_REPAIRED = "the numbers of the suspect's column are paired with the groups at random"
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
        Groups in which it agrees, as printed, of those in which agreement says something: two halves of
        the group's own rows disagree there.
    log10_p : float
        Of this column, before the number of functions tried is paid; not floored.
    """

    suspect: int
    function: str
    original: int
    agree: int
    groups: int
    log10_p: float


@dataclass(frozen=True, slots=True)
class Aggregation:
    """How a suspect is derived from an original by grouping.

    Attributes
    ----------
    by : tuple of GroupKey
    functions : tuple of AggregateColumn
        By suspect position; at least one.
    groups : int
        Distinct groups of the suspect.
    found : int
        Of these, how many occur in the original.
    agree : int
        Of these, how many agree in all of `functions`.
    unexplained : tuple of int
        Suspect columns that are neither key nor named function.
    tries : int
        Keys, columns and functions that could have been tried.
    log10_p : float
        Of the best function, all tries paid.
    null_hypothesis : str
    """

    by: tuple[GroupKey, ...]
    functions: tuple[AggregateColumn, ...]
    groups: int
    found: int
    agree: int
    unexplained: tuple[int, ...]
    tries: int
    log10_p: float
    null_hypothesis: str

    @property
    def finding(self) -> Finding:
        """The claim as a statement of measurement."""
        best = min(self.functions, key=lambda f: f.log10_p)
        return Finding(
            subject="numbers of the suspect that are functions of groups of the original's rows",
            method="random re-pairing of groups, random regrouping of values/1",
            null_hypothesis=self.null_hypothesis,
            counts={
                "groups": self.groups,
                "found": self.found,
                "tested": best.groups,
                "agreeing": best.agree,
                "columns": len(self.functions),
                "tries": self.tries,
            },
            log10_p=self.log10_p,
        )

    def to_dict(self, original: Sequence[str], suspect: Sequence[str]) -> dict[str, Any]:
        """Return the aggregation as JSON types, with the names of the two tables' columns."""
        return {
            "by": [
                {"original": original[k.original], "suspect": suspect[k.suspect]}
                | ({"part": k.part} if k.part else {})
                for k in self.by
            ],
            "functions": [
                {
                    "suspect": suspect[f.suspect],
                    "function": f.function,
                    "original": original[f.original] if f.original >= 0 else None,
                    "agree": f.agree,
                    "groups": f.groups,
                }
                for f in self.functions
            ],
            "groups": self.groups,
            "found": self.found,
            "agree": self.agree,
            "unexplained": [suspect[s] for s in self.unexplained],
        }


def find_aggregation(
    original: CanonicalTable, suspect: CanonicalTable, alpha: float = COMPARE_ALPHA
) -> Aggregation | None:
    """Return how the suspect is derived from the original by grouping its rows, if it is.

    Parameters
    ----------
    original, suspect : CanonicalTable
        No alignment is needed, and equal names count as hints only.
    alpha : float
        Largest probability, all tries paid, at which an aggregation is named.

    Returns
    -------
    Aggregation or None
        None also where the suspect has more than half as many rows as the original, holds the original's own
        rows, or was made of some of the original's rows only.

    Notes
    -----
    A function is named if it agrees in `AGREE` of the groups in which agreement says something: the same
    function of two disjoint halves of the group's rows, dealt by a public hash, gives different values, so that
    "other rows of the same source" would seldom agree. One function at least must be beyond chance under
    one of two laws, whichever says more (both are counted as tries): the suspect's numbers are paired anew
    with the groups, or the original's values with their places.
    """
    few = suspect.rows < 2 or len(suspect.columns) < 2
    if few or suspect.rows > original.rows // 2:
        return None
    a, b = Folding(original), Folding(suspect)
    keys = candidate_keys(a, b, _MOST_KEYS)
    if not keys:
        return None
    sources = [o for o in range(min(len(original.columns), MOST_COLUMNS)) if _is_numeric(a, o)]
    coded = [o for o in range(min(len(original.columns), MOST_COLUMNS)) if o not in sources]
    numeric = [s for s in range(min(len(suspect.columns), MOST_COLUMNS)) if _is_numeric(b, s)]
    if not numeric or has_own_rows(a, b):
        return None
    tries = 2 * len(keys) * len(numeric) * (1 + len(FUNCTIONS) * len(sources) + len(CODED) * len(coded))
    best: Aggregation | None = None
    work = 0
    for key in keys:
        trial = _Trial.of(a, b, key)
        if trial is None:
            continue
        work += len(trial.screen.rows) * (len(sources) + len(coded)) + original.rows
        if work > _WORK and best is not None:
            break
        found = _explained(trial, sources, coded, [s for s in numeric if s not in trial.taken], tries, alpha)
        if found is not None and (best is None or _merit(found) > _merit(best)):
            best = found
        if best is not None and not set(best.unexplained) & set(numeric):
            break
        if work > _WORK:
            break
    return best


def _merit(found: Aggregation) -> tuple[int, int, float]:
    return len(found.functions), -len(found.by), -found.log10_p


def _is_numeric(table: Folding, position: int) -> bool:
    tag = table.column(position).tag
    present = tag[tag != 0]
    return len(present) > 0 and bool(np.isin(present[:64], (NUMBER, TIME)).all()) and bool(
        np.mean(np.isin(present, (NUMBER, TIME))) >= 0.99
    )


# --- one key ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Trial:
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
        return {k.suspect for k in self.by}

    @classmethod
    def of(cls, original: Folding, suspect: Folding, by: tuple[GroupKey, ...]) -> _Trial | None:
        """Group the tables; None where groups do not occur, or hold one row each."""
        mine = joint_keys([suspect.key(k.suspect) for k in by])
        known, row = np.unique(mine, return_index=True)
        whole = Groups.of(places(joint_keys([original.key(k.original, k.part) for k in by]), known), len(known))
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
class _Guess:
    """A function of an original column that a suspect column may be; better ones are smaller."""

    missed: float
    place: int
    unnamed: bool
    original: int
    function: str


def _codes(table: Folding, position: int) -> F64:
    """Return the values of any column as float64 ids; nan where missing."""
    _, ids = np.unique(table.key(position), return_inverse=True)
    return np.where(table.column(position).tag == 0, np.nan, ids.astype(np.float64))


def _screened(trial: _Trial, sources: list[int], coded: list[int], wanted: list[int]) -> dict[int, list[_Guess]]:
    """Return, per suspect column, the functions that agree in most of the screened groups, best first."""
    sizes = trial.screen.sizes
    at = np.flatnonzero(sizes)
    mine = {s: trial.numbers(s)[at] for s in wanted}
    steps = {s: printed_step(trial.suspect.number(s)) for s in wanted}
    guesses: dict[int, list[_Guess]] = {s: [] for s in wanted}

    def look(o: int, values: Mapping[str, F64], numbers: F64) -> None:
        for function, by_group in values.items():
            there = by_group[at]
            more = slack(function, numbers, sizes[at].astype(np.float64))
            for s in wanted:
                both = ~np.isnan(there) & ~np.isnan(mine[s])
                missed = 1 - agreement(mine[s], steps[s], there, more)[both].mean() if both.sum() > 1 else 1.0
                if missed <= 1 - _SCREENED:
                    unnamed = o < 0 or trial.original.table.names[o].casefold() not in (
                        trial.suspect.table.names[s].casefold()
                    )
                    guesses[s].append(_Guess(round(missed, 1), FUNCTIONS.index(function), unnamed, o, function))

    rows = trial.original.table.rows
    look(-1, {"count": np.where(sizes > 0, sizes, np.nan)}, np.zeros(1))
    for o in sources + coded:
        chosen = np.full(rows, np.nan)
        if o in sources:
            chosen = trial.original.number(o)
            look(o, trial.screen.values(FUNCTIONS, chosen), chosen)
        else:
            chosen[trial.screen.rows] = _codes_of(trial, o)
            look(o, trial.screen.values(CODED, chosen), chosen)
    return {s: sorted(found)[:8] for s, found in guesses.items()}


def _codes_of(trial: _Trial, position: int) -> F64:
    rows = trial.screen.rows
    _, ids = np.unique(trial.original.key(position)[rows], return_inverse=True)
    missing = trial.original.column(position).tag[rows] == 0
    return np.where(missing, np.nan, ids.astype(np.float64))


@dataclass(frozen=True, slots=True)
class _Whole:
    """A function by group: of all rows, of two halves of them, and how many cells it is of."""

    numbers: F64
    values: F64
    halves: tuple[F64, F64]
    cells: F64


def _whole(trial: _Trial, guess: _Guess) -> _Whole:
    rows = trial.original.table.rows
    if guess.original < 0:
        numbers = np.zeros(rows)
    elif _is_numeric(trial.original, guess.original):
        numbers = trial.original.number(guess.original)
    else:
        numbers = _codes(trial.original, guess.original)
    odd = (mix64(np.arange(rows, dtype=np.uint64)) & np.uint64(1)).astype(bool)
    one = (guess.function,)
    both = tuple(trial.whole.only(side).values(one, numbers)[guess.function] for side in (odd, ~odd))
    values = trial.whole.values({"count", guess.function}, numbers)
    return _Whole(numbers, values[guess.function], (both[0], both[1]), np.nan_to_num(values["count"]))


def _tested(trial: _Trial, s: int, guess: _Guess, enough: float) -> tuple[AggregateColumn, B, str] | None:
    """Return a function over all groups, where it does not disagree, and the null hypothesis; None if not named."""
    mine, step = trial.numbers(s), printed_step(trial.suspect.number(s))
    there = _whole(trial, guess)
    more = slack(guess.function, there.numbers, there.cells)
    agrees = agreement(mine, step, there.values, more)
    left, right = there.halves
    # A function of rows that no half could do without; which groups these are, the suspect has no say in.
    telling = ~np.isnan(left) & ~np.isnan(right) & ~(np.abs(left - right) <= reach(there.values, step) + more)
    telling &= ~np.isnan(mine)
    groups, agree = int(telling.sum()), int((agrees & telling).sum())
    if groups < 2 or agree < AGREE * groups:
        return None
    at = np.flatnonzero(telling)
    at = at[np.argsort(trial.hashed[at], kind="stable")][:_TESTED]
    log10_p = log10_repairing(mine[at], reach(mine[at], step) + more[at], there.values[at], int(agrees[at].sum()))
    null = _REPAIRED
    if guess.function in ("sum", "mean") and guess.original >= 0 and log10_p > enough:
        other = _regrouped(trial, there, guess, mine, reach(mine, step) + more, agrees)
        log10_p, null = (other, _REGROUPED) if other < log10_p else (log10_p, null)
    column = AggregateColumn(s, guess.function, guess.original, agree, groups, round_up(log10_p, _UNFLOORED))
    return column, agrees | np.isnan(mine) | np.isnan(there.values), null


def _regrouped(trial: _Trial, there: _Whole, guess: _Guess, mine: F64, within: F64, agrees: B) -> float:
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


def _explained(
    trial: _Trial, sources: list[int], coded: list[int], wanted: list[int], tries: int, alpha: float
) -> Aggregation | None:
    """Return what the suspect's columns are under one key; None where nothing is beyond chance."""
    paid = math.log10(max(1, tries))
    columns, fits, nulls = [], [], []
    for s, guesses in _screened(trial, sources, coded, wanted).items():
        for guess in guesses:
            found = _tested(trial, s, guess, math.log10(alpha) - paid)
            if found is not None:
                columns.append(found[0])
                fits.append(found[1])
                nulls.append(found[2])
                break
    if not columns or _are_rows(trial, columns):
        return None
    best = min(range(len(columns)), key=lambda i: columns[i].log10_p)
    log10_p = round_up(columns[best].log10_p + paid)
    if log10_p > math.log10(alpha):
        return None
    found_groups = trial.whole.sizes > 0
    known = trial.taken | {c.suspect for c in columns}
    return Aggregation(
        trial.by,
        tuple(columns),
        len(trial.row),
        int(found_groups.sum()),
        int((np.all(fits, axis=0) & found_groups).sum()),
        tuple(s for s in range(len(trial.suspect.table.columns)) if s not in known),
        tries,
        log10_p,
        nulls[best],
    )


def _are_rows(trial: _Trial, columns: Sequence[AggregateColumn]) -> bool:
    """Return whether the functions pick one row per group: one of its own rows is no aggregate of a group."""
    if any(c.function not in ("min", "max", "first") for c in columns):
        return False
    others = len(trial.suspect.table.columns) - len(trial.by) - len(columns)
    if len(columns) == 1:
        return others > 0 or columns[0].function == "first"
    mine = joint_keys([trial.suspect.key(k.suspect) for k in trial.by] + [trial.suspect.key(c.suspect) for c in columns])
    keys = [trial.original.key(k.original, k.part) for k in trial.by]
    theirs = joint_keys(keys + [trial.original.key(c.original) for c in columns])
    return bool((places(mine, theirs) >= 0).mean() >= 0.5)
