"""The distortion contract of a table: what an export changes, measured before release."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dataguard.carrier import Distortion, DistortionRow
from dataguard.cells import NULL
from dataguard.constraints.facts import Facts
from dataguard.constraints.mine import violations
from dataguard.formats.edits import Moves
from dataguard.modalities.moments import NUMERIC, Moments, correlation_change
from dataguard.values import Canonical, CanonicalTable

__all__ = ["MAX_CORRELATION_CHANGE", "Meter"]

F64 = NDArray[np.float64]

MAX_CORRELATION_CHANGE = 0.01
"""Contract: no Pearson correlation between numeric columns moves by more."""


@dataclass(slots=True)
class _Column:
    """What is summed of one marked column."""

    changed: int = 0
    moved: int = 0
    moves: float = 0.0
    largest: float = 0.0
    ks: float = 0.0
    exact: bool = True

    def add(self, before: Canonical, after: Canonical) -> None:
        """Add one block; a multiset that stays in every block stays as a whole."""
        self.changed += int((before.key != after.key).sum())
        same = bool(np.array_equal(np.sort(before.key), np.sort(after.key)))
        self.exact &= same
        if before.kind not in NUMERIC:
            self.ks = max(self.ks, 0.0 if same else 1.0)
            return
        a, b = before.number, after.number
        move = np.abs(a - b)[(before.tag != NULL) & (after.tag != NULL)]
        self.moved += len(move)
        self.moves += float(move.sum())
        self.largest = max(self.largest, float(move.max(initial=0.0)))
        self.ks = max(self.ks, _ks(a, b))

    def row(self, name: str, rows: int, spread: float | None) -> DistortionRow:
        """Return the line of the contract; `spread` is the standard deviation, None for categories."""
        share = self.changed / max(1, rows)
        if spread is None:
            nan = float("nan")
            return DistortionRow(name, share, nan, nan, nan, self.ks, self.exact)
        mean, sd = self.moves / max(1, self.moved), spread or 1.0
        return DistortionRow(name, share, mean / sd, self.largest / sd, self.largest, self.ks, self.exact)


class Meter:
    """Measures an export against its original, block by block.

    Parameters
    ----------
    facts : Facts
        Mined facts; none may be newly violated.
    """

    def __init__(self, facts: Facts) -> None:
        self._facts = facts
        self._columns: dict[str, _Column] = {}
        self._untouched: set[str] = set()
        self._rows = 0
        self._new: Counter[str] = Counter()
        self._before, self._after = Moments(), Moments()

    def add(self, before: CanonicalTable, after: CanonicalTable, edits: Sequence[Moves]) -> None:
        """Add one block.

        Parameters
        ----------
        before, after : CanonicalTable
            Same rows in the same order.
        edits : sequence of Moves
            Names the marked columns.
        """
        self._rows += before.rows
        names = {m.column for m in edits} | set(self._columns)
        for name in names:
            self._columns.setdefault(name, _Column()).add(before.column(name), after.column(name))
        self._untouched |= {
            name
            for name in before.names
            if name not in names and not np.array_equal(before.column(name).key, after.column(name).key)
        }
        self._before.add(before)
        self._after.add(after)
        new = violations(self._facts, before, after)
        self._new.update(dict.fromkeys(new, 0))
        self._new.update(new)

    def result(self) -> Distortion:
        """Return the distortion of all blocks together."""
        spread = self._before.spread()
        tolerance = {name: t for group in self._facts.groups for name, t in group.tolerance.items()}
        order = self._before.names
        rows, broken = [], []
        for name in sorted(self._columns, key=order.index):
            row = self._columns[name].row(name, self._rows, spread.get(name))
            rows.append(row)
            if not row.exact or row.ks > 0:
                broken.append(f"{name}: the multiset of values changed")
            if name in tolerance and row.max_abs > tolerance[name] * (1 + 1e-9) + 1e-12:
                broken.append(f"{name}: a value moved by {row.max_abs:g}, tolerance is {tolerance[name]:g}")
        broken += [f"{name}: changed although it is not marked" for name in sorted(self._untouched)]
        correlation, pair = correlation_change(self._before, self._after, set(self._columns))
        if correlation > MAX_CORRELATION_CHANGE:
            broken.append(
                f"the correlation of {pair[0]} and {pair[1]} moved by {correlation:.4f}, "
                f"at most {MAX_CORRELATION_CHANGE} is allowed"
            )
        broken += [f"{fact}: {count} new violations" for fact, count in self._new.items() if count]
        changed = sum(c.changed for c in self._columns.values())
        return Distortion(tuple(rows), changed, correlation, dict(self._new), tuple(broken))


def _ks(a: F64, b: F64) -> float:
    """Return the two-sample Kolmogorov-Smirnov distance, by its definition over all observed values."""
    a, b = np.sort(a[~np.isnan(a)]), np.sort(b[~np.isnan(b)])
    if len(a) == 0 or len(b) == 0:
        return 0.0 if len(a) == len(b) else 1.0
    grid = np.unique(np.concatenate([a, b]))
    below_a = np.searchsorted(a, grid, side="right") / len(a)
    below_b = np.searchsorted(b, grid, side="right") / len(b)
    return float(np.abs(below_a - below_b).max())
