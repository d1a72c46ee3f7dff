"""The distortion contract of a table: what an export changes, measured before release."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dataguard.carrier import Distortion, DistortionRow
from dataguard.cells import NULL
from dataguard.constraints.facts import Facts
from dataguard.constraints.mine import violations
from dataguard.formats.edits import Moves
from dataguard.values import Canonical, CanonicalTable

__all__ = ["MAX_CORRELATION_CHANGE", "measure"]

F64 = NDArray[np.float64]

MAX_CORRELATION_CHANGE = 0.01
"""Contract: no Pearson correlation between numeric columns moves by more."""


def measure(
    before: CanonicalTable, after: CanonicalTable, facts: Facts, edits: Sequence[Moves]
) -> Distortion:
    """Return the distortion of an export against its original.

    Parameters
    ----------
    before, after : CanonicalTable
        Same rows in the same order.
    facts : Facts
        Mined facts; none may be newly violated.
    edits : sequence of Moves
        Names the marked columns.
    """
    names = sorted({m.column for m in edits}, key=before.names.index)
    tolerance = {name: t for group in facts.groups for name, t in group.tolerance.items()}
    rows, broken, changed = [], [], 0
    for name in names:
        row, cells = _column(name, before.column(name), after.column(name))
        rows.append(row)
        changed += cells
        if not row.exact or row.ks > 0:
            broken.append(f"{name}: the multiset of values changed")
        if name in tolerance and row.max_abs > tolerance[name] * (1 + 1e-9) + 1e-12:
            broken.append(f"{name}: a value moved by {row.max_abs:g}, tolerance is {tolerance[name]:g}")
    broken += [
        f"{name}: changed although it is not marked"
        for name in before.names
        if name not in names and not np.array_equal(before.column(name).key, after.column(name).key)
    ]
    correlation, pair = _correlation_change(before, after, names)
    if correlation > MAX_CORRELATION_CHANGE:
        broken.append(
            f"the correlation of {pair[0]} and {pair[1]} moved by {correlation:.4f}, "
            f"at most {MAX_CORRELATION_CHANGE} is allowed"
        )
    new = violations(facts, before, after)
    broken += [f"{fact}: {count} new violations" for fact, count in new.items() if count]
    return Distortion(tuple(rows), changed, correlation, new, tuple(broken))


def _column(name: str, before: Canonical, after: Canonical) -> tuple[DistortionRow, int]:
    exact = bool(np.array_equal(np.sort(before.key), np.sort(after.key)))
    cells = int((before.key != after.key).sum())
    share = cells / max(1, len(before))
    if before.kind not in ("number", "time"):
        return DistortionRow(
            name, share, float("nan"), float("nan"), float("nan"), 0.0 if exact else 1.0, exact
        ), cells
    a, b = before.number, after.number
    present = before.tag != NULL
    move = np.abs(a - b)[present & (after.tag != NULL)]
    spread = float(np.std(a[present])) or 1.0
    largest = float(move.max(initial=0.0))
    mean = float(move.mean()) if len(move) else 0.0
    return DistortionRow(name, share, mean / spread, largest / spread, largest, _ks(a, b), exact), cells


def _ks(a: F64, b: F64) -> float:
    """Return the two-sample Kolmogorov-Smirnov distance, by its definition over all observed values."""
    a, b = np.sort(a[~np.isnan(a)]), np.sort(b[~np.isnan(b)])
    if len(a) == 0 or len(b) == 0:
        return 0.0 if len(a) == len(b) else 1.0
    grid = np.unique(np.concatenate([a, b]))
    below_a = np.searchsorted(a, grid, side="right") / len(a)
    below_b = np.searchsorted(b, grid, side="right") / len(b)
    return float(np.abs(below_a - below_b).max())


def _correlation_change(
    before: CanonicalTable, after: CanonicalTable, marked: Sequence[str]
) -> tuple[float, tuple[str, str]]:
    """Return the largest change of a Pearson correlation and whose it is; missing cells count as the mean."""
    numeric = [n for n, c in zip(before.names, before.columns, strict=True) if c.kind in ("number", "time")]
    if len(numeric) < 2 or not set(numeric) & set(marked):
        return 0.0, ("", "")
    old, new = (_correlations(t, numeric) for t in (before, after))
    change = np.abs(old - new)
    row, column = np.unravel_index(int(change.argmax()), change.shape)
    return float(change.max()), (numeric[int(row)], numeric[int(column)])


def _correlations(table: CanonicalTable, names: Sequence[str]) -> F64:
    matrix = np.stack([table.column(n).number for n in names])
    means = np.nanmean(matrix, axis=1, keepdims=True)
    matrix = np.where(np.isnan(matrix), 0.0, matrix - means)
    norm = np.sqrt((matrix**2).sum(axis=1))
    norm[norm == 0] = 1.0
    result: F64 = (matrix @ matrix.T) / np.outer(norm, norm)
    return result
