"""Do the original's own errors stand in the suspect: what copying carries along and observing does not.

Wrong cells are found in the original alone and then looked up in the rows that are matched by other
columns. The counts describe; there is no probability: how often an independent source would be wrong
in the same way cannot be known from the two tables, and both may have their errors from a third.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dataguard.carrier import Alignment, ColumnMatch
from dataguard.fingerprints.alignment.profiles import ColumnProfile, profile_column
from dataguard.fingerprints.comparison.flaws import KINDS, Flaws, find_flaws
from dataguard.fingerprints.comparison.seen import cell_text, see_column
from dataguard.maps import ValueMap
from dataguard.model import Finding
from dataguard.values import CanonicalTable

__all__ = ["LEAST_SUPPORT", "ErrorCell", "ErrorCounts", "SharedErrors", "share_errors"]

B = NDArray[np.bool_]
F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

LEAST_SUPPORT = 3
"""Other columns in which a matched row must be equal before its wrong cell counts."""

_SHOWN, _SHOWN_OF_RULE = 20, 4

_OUTCOMES = ("shared", "corrected", "other")


@dataclass(frozen=True, slots=True)
class ErrorCell:
    """One wrong cell of the original and what the suspect shows in its place.

    Attributes
    ----------
    original_row, suspect_row : int
        Row numbers from 0.
    column : str
        Name in the original.
    kind, rule : str
        What it breaks; see :data:`dataguard.fingerprints.comparison.flaws.KINDS`.
    value, expected, shown : str
        The original's cell, what the rule expects (empty where it names no value), and the suspect's cell.
    outcome : str
        ``shared, corrected`` or ``other``.
    """

    original_row: int
    suspect_row: int
    column: str
    kind: str
    rule: str
    value: str
    expected: str
    shown: str
    outcome: str


@dataclass(frozen=True, slots=True)
class ErrorCounts:
    """Wrong cells of one kind.

    Attributes
    ----------
    kind : str
    found : int
        In the matched columns of the original.
    shared, corrected, other : int
        In matched rows, with support: the same wrong value, the expected value, anything else.
    hidden : int
        In matched rows, with support, but the suspect's rounding or recoding makes wrong and expected equal.
    """

    kind: str
    found: int
    shared: int
    corrected: int
    other: int
    hidden: int


@dataclass(frozen=True, slots=True)
class SharedErrors:
    """The original's errors in the suspect.

    Attributes
    ----------
    found, shared, corrected, other, hidden : int
        As in `ErrorCounts`, over all kinds.
    unsupported : int
        Wrong cells in matched rows that fewer than three other columns support.
    kinds : tuple of ErrorCounts
        Kinds with cells.
    examples : tuple of ErrorCell
        At most 20; shared ones first, kinds in turn.
    finding : Finding
        The counts; without a probability.
    """

    found: int
    shared: int
    corrected: int
    other: int
    hidden: int
    unsupported: int
    kinds: tuple[ErrorCounts, ...]
    examples: tuple[ErrorCell, ...]
    finding: Finding


@dataclass(frozen=True, slots=True)
class _Looked:
    """Wrong cells of one rule that were looked up: rows of both tables, and what was seen."""

    flaws: Flaws
    at: I64  # index into the flaws
    suspect_row: I64
    outcome: I64  # 0 shared, 1 corrected, 2 other, 3 hidden


def share_errors(
    original: CanonicalTable,
    suspect: CanonicalTable,
    alignment: Alignment,
    flaws: Sequence[Flaws] | None = None,
    profiles: Sequence[ColumnProfile] | None = None,
) -> SharedErrors:
    """Return how many errors of the original stand in matched rows of the suspect.

    Parameters
    ----------
    original, suspect : CanonicalTable
        The tables that were aligned (folded, if they were folded for it).
    alignment : Alignment
    flaws : sequence of Flaws, optional
        Found in the original alone; by default they are looked for in the matched columns.
    profiles : sequence of ColumnProfile, optional
        Of all columns of the original.
    """
    matches = {c.original: c for c in alignment.columns}
    if flaws is None:
        flaws = find_flaws(original, list(matches)) if len(alignment.suspect_row) else ()
    flaws = [f for f in flaws if f.column in matches]
    look = _Lookup(original, suspect, alignment, profiles)
    looked, unsupported = [], 0
    for flaw in flaws:
        one, weak = look.up(flaw, matches[flaw.column])
        looked.append(one)
        unsupported += weak
    kinds = tuple(c for c in (_counts(k, looked) for k in KINDS) if c.found)
    found, shared, corrected, other, hidden = (
        sum(getattr(c, name) for c in kinds) for name in ("found", *_OUTCOMES, "hidden")
    )
    counts = {
        "found": found, "shared": shared, "corrected": corrected, "other": other, "hidden": hidden,
        "unsupported": unsupported,
    }  # fmt: skip
    return SharedErrors(
        found, shared, corrected, other, hidden, unsupported, kinds,
        _examples(original, suspect, looked, matches), _finding(counts),
    )  # fmt: skip


def _finding(counts: dict[str, int]) -> Finding:
    return Finding(
        subject="errors of the original that stand in matched rows of the suspect",
        method="cells that break rules of the original, found in it alone/1",
        null_hypothesis="none: how often an independent observer of the same facts would be wrong in the same way is "
        "not known, and both tables may have an error from a third",
        counts=counts,
    )


def _counts(kind: str, looked: Sequence[_Looked]) -> ErrorCounts:
    mine = [x for x in looked if x.flaws.kind == kind]
    seen = (
        np.bincount(np.concatenate([x.outcome for x in mine]), minlength=4) if mine else np.zeros(4, np.int64)
    )
    shared, corrected, other, hidden = seen.tolist()
    return ErrorCounts(kind, sum(len(x.flaws.rows) for x in mine), shared, corrected, other, hidden)


class _Lookup:
    """Aligned rows, ordered by original row; columns are profiled when first asked for."""

    def __init__(
        self,
        original: CanonicalTable,
        suspect: CanonicalTable,
        alignment: Alignment,
        profiles: Sequence[ColumnProfile] | None,
    ) -> None:
        self.original, self.suspect, self.columns = original, suspect, alignment.columns
        order = np.argsort(alignment.original_row, kind="stable")
        self.mine, self.theirs = alignment.original_row[order], alignment.suspect_row[order]
        self.profiles = dict(enumerate(profiles)) if profiles is not None else {}

    def profile(self, at: int) -> ColumnProfile:
        if at not in self.profiles:
            self.profiles[at] = profile_column(self.original.columns[at])
        return self.profiles[at]

    def up(self, flaws: Flaws, match: ColumnMatch) -> tuple[_Looked, int]:
        """Return what stands in place of some wrong cells, and how many were matched without support."""
        first, last = (np.searchsorted(self.mine, flaws.rows, side) for side in ("left", "right"))
        at = np.repeat(np.arange(len(flaws.rows)), last - first)
        within = np.arange(len(at)) - np.repeat(np.cumsum(last - first) - (last - first), last - first)
        theirs = self.theirs[np.repeat(first, last - first) + within]
        supported = self._support(flaws.rows[at], theirs, match) >= LEAST_SUPPORT
        weak = int((~supported).sum())
        at, theirs = at[supported], theirs[supported]
        return _Looked(flaws, at, theirs, self._outcome(flaws, match, at, theirs)), weak

    def _support(self, mine: I64, theirs: I64, without: ColumnMatch) -> I64:
        """(k,) int64: other columns, out of enough of them, in which two rows are equal."""
        equal = np.zeros(len(mine), np.int64)
        for match in self.columns:
            if match is without or not len(mine):
                continue
            if bool((equal >= LEAST_SUPPORT).all()):
                break
            column = self.suspect.columns[match.suspect]
            equal += see_column(self.profile(match.original), column, match, mine, theirs).equal
        return equal

    def _outcome(self, flaws: Flaws, match: ColumnMatch, at: I64, theirs: I64) -> I64:
        profile, column = self.profile(match.original), self.suspect.columns[match.suspect]
        mine, like = flaws.rows[at], flaws.like[at]
        wrong = see_column(profile, column, match, mine, theirs)
        right = see_column(profile, column, match, np.maximum(like, 0), theirs)
        known = like >= 0
        corrected = known & right.equal
        hidden = known & (wrong.codes[mine] == wrong.codes[np.maximum(like, 0)])
        number = flaws.number[at]
        if np.isfinite(number).any():
            shown = column.number[theirs]
            corrected |= _near(_through(number, match), shown)
            hidden |= _near(
                _through(number, match), _through(self.original.columns[match.original].number[mine], match)
            )
        return np.where(hidden, 3, np.where(wrong.equal, 0, np.where(corrected, 1, 2))).astype(np.int64)


def _through(number: F64, match: ColumnMatch) -> F64:
    return match.through.apply(number) if isinstance(match.through, ValueMap) else number


def _near(a: F64, b: F64) -> B:
    """Whether two numbers are equal but for arithmetic; false where one is missing."""
    with np.errstate(invalid="ignore"):
        near: B = np.abs(a - b) <= 1e-9 * np.maximum(1.0, np.maximum(np.abs(a), np.abs(b)))
    return near


# --- what is shown ---------------------------------------------------------------------------------


def _examples(
    original: CanonicalTable,
    suspect: CanonicalTable,
    looked: Sequence[_Looked],
    matches: dict[int, ColumnMatch],
) -> tuple[ErrorCell, ...]:
    """Return shared cells first, then corrected and other ones; four of a rule before more of it."""
    order: list[tuple[int, int, int, int]] = []
    for rule, one in enumerate(looked):
        turn: Counter[int] = Counter()
        for i in np.argsort(one.outcome, kind="stable")[: 3 * _SHOWN].tolist():
            outcome = int(one.outcome[i])
            if outcome < len(_OUTCOMES):
                order.append((outcome, turn[outcome] // _SHOWN_OF_RULE, rule, i))
                turn[outcome] += 1
    out = []
    for outcome, _, rule, i in sorted(order)[:_SHOWN]:
        one, flaws = looked[rule], looked[rule].flaws
        k, row = int(one.at[i]), int(one.suspect_row[i])
        column, like = original.columns[flaws.column], int(flaws.like[k])
        expected = cell_text(column.cells([like])[0]) if like >= 0 else ""
        if np.isfinite(flaws.number[k]):
            expected = f"{flaws.number[k]:.15g}"
        shown = suspect.columns[matches[flaws.column].suspect].cells([row])[0]
        out.append(
            ErrorCell(
                int(flaws.rows[k]), row, original.names[flaws.column], flaws.kind, flaws.rule,
                cell_text(column.cells([int(flaws.rows[k])])[0]), expected, cell_text(shown), _OUTCOMES[outcome],
            )
        )  # fmt: skip
    return tuple(out)
