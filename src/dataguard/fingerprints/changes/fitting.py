"""How the suspect's column shows the original's, found from row pairs that are right in two cases of three.

Alignment asks this again and again while it finds out which row is which, naming asks it once for the report.
The simplest map that explains nearly as many rows as the best one is the answer.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from dataguard.fingerprints.changes.constants import near_constants
from dataguard.fingerprints.changes.grids import digits_of, grids_of
from dataguard.fingerprints.changes.lines import (
    Points,
    candidate_lines,
    monotone,
    points_of,
    refined,
    weighted_median,
)
from dataguard.fingerprints.changes.recodings import RecodingFit, divergence, fit_recoding
from dataguard.maps import RULES, ValueMap
from dataguard.values import mix64

__all__ = ["Fit", "RecodingFit", "fit_map", "fit_recoding"]

B = NDArray[np.bool_]
F64 = NDArray[np.float64]

_ENOUGH = 0.95
"""A simpler map is preferred when it explains this share of what a better one explains."""
_ABOVE_CHANCE = 0.3
"""Least share of rows explained beyond those a shuffled column would give (Cohen's kappa)."""
_NATS = 18.0
"""Least evidence against agreement by chance, by Chernoff's bound: e**-18 for each of the thousand lines that are
tried at most, 2e-5 for all. Chance itself is estimated, from 16 shifts of the column against itself."""
_CURVES = ("log", "log1p", "sqrt", "reciprocal", "square", "exp")
_CLEARLY = 0.5
"""The same for a map with noise, of what lies within two standard deviations."""


@dataclass(frozen=True, slots=True)
class Fit:
    """A map, and how well it does.

    Attributes
    ----------
    map : ValueMap
    explained : float
        Share of the pairs that the map explains: exactly, or within four standard deviations of its noise.
    residual : float
        Root mean square of what is left in these, in the suspect's unit.
    """

    map: ValueMap
    explained: float
    residual: float


@dataclass(frozen=True, slots=True)
class _Rated:
    map: ValueMap
    weight: float
    chance: float
    hits: B


def fit_map(x: F64, y: F64) -> Fit | None:
    """Return how a suspect's numbers come from an original's, or None if they do not.

    Parameters
    ----------
    x, y : (m,) float64
        Numbers (or seconds) of the original and of the suspect in paired rows, nan where missing. Up to a
        third of the pairs may be wrong or have moved. At most 4,096 are looked at.

    Returns
    -------
    Fit or None
        None for fewer than 8 pairs, constants, and what chance would explain as well.
    """
    with np.errstate(over="ignore", invalid="ignore", divide="ignore", under="ignore"):
        points = points_of(np.where(np.abs(x) < 1e150, x, np.nan), np.where(np.abs(y) < 1e150, y, np.nan))
        return None if points is None else _fit(points)


def _fit(points: Points) -> Fit | None:
    steps = grids_of(points.y)
    same = _best([_rounded(points, ValueMap(), step) for step in steps])
    if _stands(points, same, free=0) and same.weight >= _ENOUGH:
        return _told(points, same)
    found = [same] if _stands(points, same, free=0) else []
    bound = max(0.2, 3 / math.sqrt(len(points.at)))
    if not found and len(points.at) >= 16 and monotone(points) < bound:
        return None
    noisy: list[ValueMap] = []
    for function in ("", *_CURVES):
        for step in steps:
            best = max((r.weight for r in found), default=0.0)
            exact, rough = _lines(points, function, step, best)
            found += [r for r in exact if _stands(points, r, free=2)]
            noisy += rough
        if function in {"", "log1p"} and max((r.weight for r in found), default=0.0) >= _ENOUGH:
            break
    best = max((r.weight for r in found), default=0.0)
    chosen = next((r for r in found if r.weight >= _ENOUGH * best), None)
    blurred = _noise(points, noisy)
    if chosen is None or (blurred is not None and chosen.hits.mean() < 0.5 * blurred.explained):
        table = _table(points)
        if table is None or (blurred is not None and blurred.map.noise <= 3 * table.residual):
            return blurred
        return table
    return _told(points, chosen)


def _best(rated: list[_Rated]) -> _Rated:
    """Return the first of those that explain nearly as much as the best."""
    most = max(r.weight for r in rated)
    return next(r for r in rated if r.weight >= 0.99 * most)


def _told(points: Points, rated: _Rated) -> Fit:
    moved = rated.map.function or rated.map.scale != 1 or rated.map.shift != 0
    if moved and not (rated.map.step or rated.map.digits):
        rated = _printed(points, rated)
    left = (points.y - rated.map.apply(points.x))[rated.hits]
    # Within the printed precision is exact; what is left are last bits.
    return Fit(
        rated.map, float(rated.hits.mean()), float(np.sqrt(np.mean(left * left))) if len(left) else 0.0
    )


def _printed(points: Points, rated: _Rated) -> _Rated:
    """Return a map that gives the very numbers that are printed: 1.17 * 3 is not 3.51, but for its last bits."""
    on_grid = [
        replace(rated.map, step=step) for step in grids_of(points.y)[:1] if float(f"{step:.1e}") == step > 0
    ]
    same = [r for r in (_rate(points, m, m.step) for m in on_grid) if r.hits.sum() >= rated.hits.sum()]
    return same[0] if same else rated


# --- exact maps ------------------------------------------------------------------------------------


def _slack(points: Points, step: float) -> F64:
    """How far two numbers may be apart and be the same: 1e-9 of their size (less for times), or last bits."""
    size = np.abs(points.y)
    spread = float(np.subtract(*np.quantile(points.y, [0.95, 0.05]))) or float(np.ptp(points.y))
    slack: F64 = 1e-9 * np.minimum(size, 10 * spread) + 1e-14 * float(size.max())
    return np.minimum(slack, 1e-6 * step + 1e-14 * float(size.max())) if step else slack


def _rate(points: Points, candidate: ValueMap, step: float = 0.0) -> _Rated:
    shown = candidate.apply(points.x)
    slack = _slack(points, step)
    hits: B = np.abs(points.y - shown) <= slack
    return _Rated(candidate, float(points.weight[hits].sum()), math.nan, hits)


def _stands(points: Points, rated: _Rated, free: int) -> bool:
    """Whether a map explains more than it would of a shuffled column; `free`: parameters that were fitted."""
    distinct = len(np.unique(points.x[rated.hits]))
    if distinct < 2 + free or len(np.unique(points.y[rated.hits])) < 2 + (free > 0):
        return False
    shown, slack = rated.map.apply(points.x), _slack(points, 0.0)
    return _beats_chance(points, rated.hits, shown, slack, free, _ABOVE_CHANCE)


def _beats_chance(points: Points, hits: B, shown: F64, slack: F64 | float, free: int, least: float) -> bool:
    """Whether what is shown agrees with y more than with y of other rows; `least`: of Cohen's kappa."""
    m, share = len(points.x), float(points.weight[hits].sum())
    turns = 1 + (mix64(np.arange(16, dtype=np.uint64)) % np.uint64(m - 1)).astype(np.int64)
    by_chance = [float(points.weight[np.abs(np.roll(points.y, t) - shown) <= slack].sum()) for t in turns]
    chance = max(float(np.mean(by_chance)), 0.25 / m)
    if chance >= 1 or (share - chance) / (1 - chance) < least:
        return False
    # Weights make some rows count for more: as many rows of equal weight would say as much (Kish 1965).
    rows = min(m, 1 / float(np.sum(points.weight**2)))
    return (max(rows, 8) - free) * divergence(share, chance) >= _NATS


def _rounded(points: Points, plain: ValueMap, step: float) -> _Rated:
    """Return the best of a map as it is, on the suspect's grid by any rule, with few digits, and clipped."""
    best = _rate(points, plain)
    if best.weight >= 0.999:
        return best
    grids = [replace(plain, step=step, rule=rule) for rule in RULES] if step else []
    digits = digits_of(points.y)
    grids += [replace(plain, digits=digits)] if digits else []
    for candidate in grids:
        rated = _rate(points, candidate, step)
        # A column within one power of ten has a step and digits: the step is the plainer word.
        gain = 0.01 if candidate.digits and best.map.step else 0.01 * (1 - best.weight)
        best = rated if rated.weight > best.weight + gain else best
    return _clipped(points, best)


def _clipped(points: Points, rated: _Rated) -> _Rated:
    """Return a map with bounds, where the suspect's extreme values stand for all beyond them."""
    shown = rated.map.apply(points.x)
    bounds = {}
    for name, bound in (("low", float(points.y.min())), ("high", float(points.y.max()))):
        beyond = shown < bound if name == "low" else shown > bound
        held = beyond & (points.y == bound)
        # One value that comes out a little short is no bound: bounds gather several values, some far beyond.
        several = len(np.unique(points.x[held])) >= 3
        far = several and float(np.median(np.abs(shown[held] - bound))) > 2 * rated.map.step
        if far and held.sum() >= max(3, 0.002 * len(points.x)) and held.sum() >= 0.5 * beyond.sum():
            bounds[name] = bound
    if not bounds:
        return rated
    clipped = _rate(points, replace(rated.map, **bounds))  # type: ignore[arg-type]
    return clipped if clipped.weight > rated.weight else rated


def _lines(points: Points, function: str, step: float, bar: float) -> tuple[list[_Rated], list[ValueMap]]:
    """Return exact maps through a function, and maps that may hold but for noise."""
    bare = ValueMap(function)
    u, u_at = bare.apply(points.x), bare.apply(points.at)
    if np.isfinite(u).mean() < 0.5:
        return [], []
    tolerance = np.maximum(0.5 * step * (1 + 1e-6), _slack(points, 0.0))
    lines = candidate_lines(points, u, u_at, tolerance)
    exact = []
    for a, b, share in lines:
        # The sample says how much a line can explain: one that cannot beat the simpler maps is not refined.
        if share >= max(0.2, 0.97 * bar / (_ENOUGH if bar else 1)):
            line = refined(points, u, (a, b), tolerance)
            exact.append(_snapped(points, u, replace(bare, scale=line[0], shift=line[1]), step, tolerance))
    rough = [replace(bare, scale=a, shift=b) for a, b, _ in lines[-1:]]
    exact = [r for r in exact if r.map.scale != 0]
    # Of equals, the one with the shorter constants.
    exact.sort(key=lambda r: len(f"{r.map.scale!r}{r.map.shift!r}"))
    return ([_best(exact)] if exact else []), rough


def _snapped(points: Points, u: F64, found: ValueMap, step: float, tolerance: F64) -> _Rated:
    """Return a map with constants that people use in place of fitted ones, if they explain as much."""
    near = np.abs(points.y - found.scale * u - found.shift) <= 1.05 * tolerance
    if found.scale == 0 or near.sum() < 3:
        return _rounded(points, found, step)
    reach = float(np.ptp(u[near])) or 1.0
    slack = float(np.median(tolerance[near]))
    rated = []
    most = float(points.weight[near].sum())
    for scale in near_constants(found.scale, max(2 * slack / reach, 1e-10 * abs(found.scale))):
        rated.append(_shifted(points, u, near, replace(found, scale=scale), step, slack))
        if rated[-1].weight >= 0.999 * most:
            return rated[-1]
    most = max((r.weight for r in rated), default=0.0)
    return next(r for r in rated if r.weight >= 0.998 * most) if rated else _rounded(points, found, step)


def _shifted(points: Points, u: F64, near: B, found: ValueMap, step: float, slack: float) -> _Rated:
    """Return a map with the simplest shift that fits its scale, by the rule that fits the suspect's grid."""
    left = (points.y - found.scale * u)[near]
    low, high = np.quantile(left, [0.005, 0.995])
    middle = float(low + high) / 2
    best: _Rated | None = None
    # Rounding down looks like a shift by half a step: 0 stands for all rules.
    for shift in near_constants(middle, 1.2 * slack + 1e-12 * abs(middle), offsets=True):
        rated = _rounded(points, replace(found, shift=shift), step)
        if rated.weight >= 0.95:
            return rated
        best = rated if best is None or rated.weight > best.weight + 0.005 else best
    return best if best is not None else _rounded(points, found, step)


# --- maps with noise, and tables --------------------------------------------------------------------


def _noise(points: Points, candidates: list[ValueMap]) -> Fit | None:
    """Return the map with the least robust spread around it, where that is clearly less than around nothing."""
    fits = [_blurred(points, ValueMap())]
    for candidate in candidates:
        u = ValueMap(candidate.function).apply(points.x)
        for _ in range(6):
            noise = _scatter(points, points.y - candidate.scale * u - candidate.shift)
            if not math.isfinite(noise) or candidate.scale == 0:
                break
            a, b = refined(points, u, (candidate.scale, candidate.shift), np.full(len(u), 2.0 * noise))
            candidate = replace(candidate, scale=a, shift=b)  # noqa: PLW2901 - a step of an iteration
        fits.append(_blurred(points, candidate))
    least = min(f.noise for f in fits)
    noisy = next(f for f in fits if f.noise <= 1.1 * least)
    if not 0 < noisy.noise < math.inf or noisy.scale == 0:
        return None
    hits = _hits(points, noisy, 4 * noisy.noise)
    if len(np.unique(points.x[hits])) < 4 or hits.mean() < 0.5:
        return None
    # Half of the noise's reach or less: a band as wide as the column is no map.
    band = _hits(points, noisy, 2 * noisy.noise)
    if not _beats_chance(points, band, noisy.apply(points.x), 2 * noisy.noise, 2, _CLEARLY):
        return None
    return Fit(noisy, float(hits.mean()), noisy.noise)


def _hits(points: Points, made: ValueMap, reach: float) -> B:
    near: B = np.abs(points.y - made.apply(points.x)) <= reach
    return near


def _scatter(points: Points, left: F64) -> float:
    """Return the standard deviation of what is left, wrong pairs kept out; inf where too little is known.

    Starts from the median absolute deviation, which a third of wrong pairs inflates by half, and repeats with
    those within 2.5 standard deviations; 0.9468 is the standard deviation of a Gaussian so truncated.
    """
    known = np.isfinite(left)
    if known.mean() < 0.5:
        return math.inf
    off = np.abs(left[known])
    noise = 1.4826 * weighted_median(off, points.weight[known])
    for _ in range(8):
        near = off[off <= 2.5 * noise]
        if len(near) < 4 or noise == 0:
            break
        noise = float(np.sqrt(np.mean(near * near))) / 0.9468
    return noise


def _blurred(points: Points, candidate: ValueMap) -> ValueMap:
    return replace(candidate, noise=_scatter(points, points.y - candidate.apply(points.x)))


def _table(points: Points) -> Fit | None:
    """Return knots of a monotone relation that has no formula; None unless rank goes with rank throughout."""
    if len(points.at) < 16:
        return None
    rank = [
        np.argsort(np.argsort(v, kind="stable"), kind="stable") / len(v) for v in (points.at, points.value)
    ]
    falls = float(np.corrcoef(rank[0], rank[1])[0, 1]) < 0
    off = np.abs(rank[0] - (1 - rank[1] if falls else rank[1]))
    if np.median(off) > 0.02 or (off <= 0.05).mean() < 0.65:
        return None
    near = np.flatnonzero(off <= 0.05)
    kept = near[np.unique(np.linspace(0, len(near) - 1, 257).astype(np.int64))]
    value = points.value[kept]
    value = np.minimum.accumulate(value) if falls else np.maximum.accumulate(value)
    knots = tuple((float(a), float(b)) for a, b in zip(points.at[kept], value, strict=True))
    if len(np.unique(value)) < 4:
        return None
    left = np.abs(points.y - ValueMap("table", knots=knots).apply(points.x))
    noise = 1.4826 * weighted_median(left, points.weight)
    noise = max(noise, 1e-3 * float(np.ptp(points.y)))
    hits = left <= 4 * noise
    spread = weighted_median(np.abs(points.y - weighted_median(points.y, points.weight)), points.weight)
    if hits.mean() < 0.5 or noise > 0.3 * spread:
        return None
    return Fit(ValueMap("table", noise=noise, knots=knots), float(hits.mean()), noise)
