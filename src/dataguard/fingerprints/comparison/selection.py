"""Which rows of an original a copy holds, said in one line: "rows where month = 1; 27,004 of 27,004".

A part that one simple predicate explains was cut out by that predicate, or as good as. A predicate is
named only if rows drawn at random would hardly satisfy one as simple.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dataguard.fingerprints.comparison.predicates import (
    Predicate,
    best_of_column,
    best_of_positions,
    covers,
    holds,
    predicate_words,
)
from dataguard.model import COMPARE_ALPHA, Finding
from dataguard.stats import round_up
from dataguard.values import CanonicalTable, mix64

__all__ = ["FIT", "Selection", "name_selection"]

B = NDArray[np.bool_]
F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

FIT = 0.99
"""Least precision and recall of a predicate: a few rows may be matched wrongly, or not at all."""

_SAMPLE = 10_000
_CELLS = 2_000_000
"""Rows found, and rows not found, by which columns are chosen; and cells of these, in tables of many columns."""
_ROUGH = 0.95
_SHORTLIST = 6
_NULL = "the rows found are drawn at random from the original's rows"


@dataclass(frozen=True, slots=True)
class Selection:
    """A predicate that explains which rows of an original were found.

    Attributes
    ----------
    predicates : tuple of Predicate
        One, or two that both hold.
    rows : int
        Rows of the original.
    selected, found, both : int
        Rows that satisfy the predicate, that were found, and both.
    log10_tries : float
        What this predicate pays for others as simple: log10 of the number of columns, kinds and constants.
    log10_p : float
        log10 of the chance that rows drawn at random fit so well, all tries paid.
    """

    predicates: tuple[Predicate, ...]
    rows: int
    selected: int
    found: int
    both: int
    log10_tries: float
    log10_p: float

    @property
    def finding(self) -> Finding:
        """The claim as a statement of measurement."""
        return Finding(
            subject="rows of the original that satisfy a predicate and were found",
            method="hypergeometric tail, weighted by simplicity/1",
            null_hypothesis=_NULL,
            counts={"rows": self.rows, "selected": self.selected, "found": self.found, "both": self.both},
            log10_p=self.log10_p,
        )

    def words(self, names: Sequence[str]) -> str:
        """Return the selection as a sentence, with the original's column names."""
        said = " and ".join(predicate_words(p, names) for p in self.predicates)
        return f"rows where {said}; {self.both:,} of {self.selected:,}"

    def to_dict(self, names: Sequence[str]) -> dict[str, Any]:
        """Return the selection as JSON types, with the original's column names."""
        return {
            "predicates": [p.to_dict(names) for p in self.predicates],
            "words": self.words(names),
            "rows": self.rows,
            "selected": self.selected,
            "found": self.found,
            "both": self.both,
            "log10_p": self.log10_p,
        }


def name_selection(original: CanonicalTable, found: B, alpha: float = COMPARE_ALPHA) -> Selection | None:
    """Return the predicate that explains which rows were found, if a simple one does.

    Parameters
    ----------
    original : CanonicalTable
    found : (rows,) bool
        Which of its rows are in the suspect.
    alpha : float
        Largest probability, all tries paid, at which a predicate is named.

    Returns
    -------
    Selection or None
        One predicate where one will do, else two: ``column = value``, one of at most five values, between two
        numbers or times, a run of rows, every k-th row.

    Notes
    -----
    Columns are chosen on a sample of rows, evenly spaced among those found and those not, and predicates fitted
    on all rows. For rows drawn at random, the number that satisfy a given predicate is hypergeometric (Fisher,
    "The Design of Experiments", 1935), and its tail is summed exactly. Predicates share the
    allowance by simplicity: every column and kind the same, within it every choice of constants.
    """
    rows, count = len(found), int(found.sum())
    if count in {0, rows} or not original.columns:
        return None
    everything = np.ones(rows, np.bool_)
    best = _best(original, found, _single(original, found, everything), alpha)
    return best or _best(original, found, _double(original, found), alpha)


def _best(
    original: CanonicalTable, found: B, tried: Iterator[tuple[Predicate, ...]], alpha: float
) -> Selection | None:
    """Return the best of some predicates that fit: simplest first, as weighed by what they pay."""
    fitting: list[tuple[float, float, int, Selection]] = []
    for predicates in tried:
        selection = _measured(original, found, predicates)
        fits = selection.both >= FIT * max(selection.selected, selection.found)
        excluded = len(found) - selection.selected >= 0.9 * (len(found) - selection.found)
        if fits and excluded and selection.log10_p <= math.log10(alpha):
            missed = selection.selected + selection.found - 2 * selection.both
            fitting.append(
                (round(missed / selection.found, 3), selection.log10_tries, len(fitting), selection)
            )
    return min(fitting)[-1] if fitting else None


def _measured(original: CanonicalTable, found: B, predicates: tuple[Predicate, ...]) -> Selection:
    chosen = np.ones(len(found), np.bool_)
    for predicate in predicates:
        chosen &= holds(original, predicate)
    rows, count = len(found), int(found.sum())
    selected, both = int(chosen.sum()), int((chosen & found).sum())
    columns = math.log10(4 * (len(original.columns) + 1))
    tries = sum(p.log10_choices + columns for p in predicates) + math.log10(2)
    bound = _log10_hypergeometric(both, selected, count, rows)
    return Selection(predicates, rows, selected, count, both, tries, round_up(bound + tries))


def _log10_hypergeometric(both: int, selected: int, found: int, rows: int) -> float:
    """Return log10 P(X >= both) for the number of rows found among those selected, at random."""
    from scipy.special import gammaln

    def log_choose(n: int | I64, k: int | I64) -> F64:
        chosen: F64 = gammaln(np.add(n, 1.0)) - gammaln(np.add(k, 1.0)) - gammaln(np.subtract(n, k) + 1.0)
        return chosen

    if both * rows <= selected * found:
        return 0.0
    x = np.arange(both, min(selected, found) + 1)
    x = x[found - x <= rows - selected]
    terms = log_choose(selected, x) + log_choose(rows - selected, found - x) - log_choose(rows, found)
    largest = float(terms.max())
    return min(0.0, largest + math.log(float(np.exp(terms - largest).sum()))) / math.log(10)


# --- which columns ---------------------------------------------------------------------------------


def _spread(rows: I64, most: int, salt: int) -> I64:
    """Return at most so many of some rows, chosen by a public hash of their positions, ascending."""
    if len(rows) <= most:
        return rows
    order = np.argsort(mix64(rows.astype(np.uint64) + np.uint64(salt)), kind="stable")
    return np.sort(rows[order[:most]])


def _weighted(found: B, among: B, columns: int) -> tuple[I64, F64]:
    """Return some rows, and what each stands for: +1 for rows found, -1 for others, times those left out."""
    yes, no = np.flatnonzero(found & among), np.flatnonzero(~found & among)
    most = min(_SAMPLE, max(500, _CELLS // max(1, columns)))
    some, others = _spread(yes, most, 0), _spread(no, most, 1)
    weight = np.concatenate([
        np.full(len(some), len(yes) / max(1, len(some))), np.full(len(others), -len(no) / max(1, len(others)))
    ])  # fmt: skip
    return np.concatenate([some, others]), weight


def _single(original: CanonicalTable, found: B, among: B) -> Iterator[tuple[Predicate, ...]]:
    """Yield predicates that nearly tell the rows found from the others, among some rows."""
    for predicate in best_of_positions(found, among):
        yield (predicate,)
    sample, weight = _weighted(found, among, len(original.columns))
    total = float(weight[weight > 0].sum())
    rough = []
    for c in range(len(original.columns)):
        for predicate in best_of_column(original, c, sample, weight):
            score = float(weight[holds(original, predicate, sample)].sum()) / max(1.0, total)
            rough.append((-score, predicate.log10_choices, c))
    order = [c for score, _, c in sorted(rough) if -score >= _ROUGH]
    rows = np.flatnonzero(among)
    signs = np.where(found[rows], 1.0, -1.0)
    for c in list(dict.fromkeys(order))[:_SHORTLIST]:
        for predicate in best_of_column(original, c, rows, signs):
            yield (predicate,)


def _double(original: CanonicalTable, found: B) -> Iterator[tuple[Predicate, ...]]:
    """Yield pairs: one that nearly all rows found satisfy and fewest others, and the best within it."""
    everything = np.ones(len(found), np.bool_)
    sample, weight = _weighted(found, everything, len(original.columns))
    rough = []
    for c in range(-1, len(original.columns)):
        for predicate in covers(original, c, sample, weight > 0):
            inside = holds(original, predicate, sample)
            others = float(-weight[inside & (weight < 0)].sum())
            # One that leaves all but a hundredth of the others in says nothing.
            if others < 0.99 * float(-weight[weight < 0].sum()):
                rough.append((others, predicate.log10_choices, c))
    chosen = list(dict.fromkeys(c for _, _, c in sorted(rough)))[:3]
    rows = np.arange(len(found))
    for c in chosen:
        for first in covers(original, c, rows, found):
            inside = holds(original, first)
            if inside.all() or not (found & inside).any() or not (~found & inside).any():
                continue
            for (second,) in _single(original, found, inside):
                yield _tightened(original, found, first, second)


def _tightened(
    original: CanonicalTable, found: B, first: Predicate, second: Predicate
) -> tuple[Predicate, ...]:
    """Return a pair, the first fitted anew within the second; by column."""
    rows = np.flatnonzero(holds(original, second))
    signs = np.where(found[rows], 1.0, -1.0)
    better = best_of_column(original, first.column, rows, signs) if first.column >= 0 else []
    better = [p for p in better if p.kind == first.kind and p.column != second.column]
    pair = (better[0] if better else first, second)
    return tuple(sorted(pair, key=lambda p: (p.column, p.kind)))
