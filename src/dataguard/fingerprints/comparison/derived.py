"""Tables derived from an original by aggregation: "group by X, mean of Y", found without names or rows.

Such a table shares no row with its original, so that a comparison of rows says nothing or, joined on the
key, something false. It is named here only if its numbers fit the groups beyond chance, and better than
those of other rows of the same source would.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dataguard.fingerprints.comparison.derived_functions import CODED, FUNCTIONS
from dataguard.fingerprints.comparison.derived_keys import (
    MOST_COLUMNS,
    Folding,
    GroupKey,
    candidate_keys,
    find_pairs,
    has_own_rows,
    joint_keys,
    places,
)
from dataguard.fingerprints.comparison.derived_trial import AggregateColumn, Tested, Trial, screened, tested
from dataguard.model import COMPARE_ALPHA, Finding
from dataguard.stats import round_up
from dataguard.values import CanonicalTable

__all__ = ["Aggregation", "find_aggregation"]

_MOST_KEYS = 16
_WORK = 120_000_000
"""Cells of the original that are looked at while keys are tried: 4 CPU seconds."""


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
                "telling": best.telling,
                "told": best.told,
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
                    "told": f.told,
                    "telling": f.telling,
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
    A function is named if it agrees in 90 % of the groups, and in as many of those in which agreement says
    something: the same function of two disjoint halves of the group's rows, dealt by a public hash, gives different
    values there, so that "other rows of the same source" would seldom agree. One function at least must be
    beyond chance under one of two laws, whichever says more (both are counted as tries): the suspect's numbers
    are paired anew with the groups, or the original's values with their places. It must also be beyond a third:
    that every row of the suspect is one of the rows of its group.
    """
    few = suspect.rows < 2 or len(suspect.columns) < 2
    if few or suspect.rows > original.rows // 2:
        return None
    a, b = Folding(original), Folding(suspect)
    views = [(a, b)]
    if any(len(c.texts) for table in (original, suspect) for c in table.columns[:MOST_COLUMNS]):
        views.append((a.folded(), b.folded()))
    numeric = [s for s in range(min(len(suspect.columns), MOST_COLUMNS)) if b.is_numeric(s)]
    if not numeric:
        return None
    for one, other in views:
        pairs = find_pairs(one, other)
        if has_own_rows(one, other, pairs):
            return None
        found = _in_view(
            one, other, candidate_keys(one, other, pairs, _MOST_KEYS), numeric, len(views), alpha
        )
        if found is not None:
            return found
    return None


def _in_view(
    a: Folding, b: Folding, keys: list[tuple[GroupKey, ...]], numeric: list[int], views: int, alpha: float
) -> Aggregation | None:
    """Try keys one after the other, until one explains all numbers or the work is done; return the best."""
    if not keys:
        return None
    columns = range(min(len(a.table.columns), MOST_COLUMNS))
    sources = {o: a.is_numeric(o) for o in columns}
    functions = 1 + sum(len(FUNCTIONS) if number else len(CODED) for number in sources.values())
    tries = 2 * views * len(keys) * len(numeric) * functions
    best: Aggregation | None = None
    work = 0
    for key in keys:
        trial = Trial.of(a, b, key)
        work += a.table.rows
        if trial is not None:
            work += (len(trial.screen.rows) + 64 * len(numeric)) * len(sources)
            found = _explained(trial, sources, [s for s in numeric if s not in trial.taken], tries, alpha)
            if found is not None and (best is None or _merit(found) > _merit(best)):
                best = found
        if work > _WORK or (best is not None and not set(best.unexplained) & set(numeric)):
            break
    return best


def _merit(found: Aggregation) -> tuple[int, int, float]:
    return len(found.functions), -len(found.by), -found.log10_p


def _explained(
    trial: Trial, sources: Mapping[int, bool], wanted: list[int], tries: int, alpha: float
) -> Aggregation | None:
    """Return what the suspect's columns are under one key; None where nothing is beyond chance."""
    paid = math.log10(max(1, tries))
    columns, fits, nulls = [], [], []
    for s, guesses in screened(trial, sources, wanted).items():
        tests = (tested(trial, s, guess, math.log10(alpha) - paid) for guess in guesses)
        found = _first_telling(tests)
        if found is not None:
            columns.append(found[0])
            fits.append(found[1])
            nulls.append(found[2])
    if not columns or _are_rows(trial, columns, math.log10(alpha) - paid):
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


def _first_telling(tested: Iterable[Tested | None]) -> Tested | None:
    """Return the first function whose agreement says something, else the first that agrees."""
    other = None
    for found in tested:
        if found is not None and found[0].telling > 1:
            return found
        other = found if other is None else other
    return other


def _are_rows(trial: Trial, columns: Sequence[AggregateColumn], enough: float) -> bool:
    """Return whether the functions pick one row per group: one of its own rows is no aggregate of a group."""
    telling = [c for c in columns if c.telling > 1]
    picked = [c for c in telling if c.function in ("min", "max", "first")]
    # No row shows its group's count or sum: a column that is beyond chance as one settles it, whatever stands beside.
    if any(c.log10_p <= enough for c in telling if c not in picked):
        return False
    if len(picked) < 2:
        others = len(trial.suspect.table.columns) - len(trial.by) - 1
        return len(telling) < 2 and (others > 0 or any(c.function == "first" for c in picked))
    mine = [trial.suspect.key(k.suspect) for k in trial.by] + [trial.suspect.key(c.suspect) for c in picked]
    theirs = [trial.original.key(k.original, k.part) for k in trial.by]
    theirs += [trial.original.key(c.original) for c in picked]
    return bool((places(joint_keys(mine), joint_keys(theirs)) >= 0).mean() >= 0.5)
