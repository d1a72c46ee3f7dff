"""Weights and decisions of row alignment.

Three explanations compete for a suspect row: it was copied from its best original row,
from another one, or from none. Frequencies tell the first two apart; for the third,
control rows taken from the original itself, each looked up with itself left out, show
how near a row of the same source comes that was not copied.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dataguard.fingerprints.alignment.lookups import Candidates, Lookups, plan_lookups
from dataguard.fingerprints.alignment.outcomes import Linkage, RowMatch
from dataguard.fingerprints.alignment.profiles import near_shares
from dataguard.fingerprints.alignment.sides import Sides, join_sides
from dataguard.values import mix64

__all__ = [
    "CONTROLS",
    "FEW_LOOKUPS",
    "FIT_ROWS",
    "LOOKUPS",
    "accepts_equal",
    "compare_pairs",
    "control_rows",
    "fit_linkage",
    "match_rows",
    "nearest_rows",
    "plain_linkage",
    "weigh",
]

B = NDArray[np.bool_]
F64 = NDArray[np.float64]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
U8 = NDArray[np.uint8]

UNIT = 1024
"""Weights are integers in 1/1024 nat."""

FIT_ROWS = 2048
"""Suspect rows that shares and cut-off are estimated from, at most."""

_FIT_ROUNDS = 4
CONTROLS = 1024
"""Original rows, looked up with themselves left out, that show how near uncopied rows come."""

_CHUNK = 4096
"""Suspect rows looked up at a time."""

LOOKUPS, FEW_LOOKUPS = 96, 24
_MANY_ROWS = 16_384
"""Look-ups per suspect row; and where untouched columns alone would tell rows apart three times over, or there
are so many rows that it does not take every one of them."""

_UNTOUCHED = 0.98
"""Share of equal cells from which on a fitted column counts as untouched."""

_DOUBT = 1e-2
"""A row is matched when all other explanations together have a posterior odds below this, and
the expected share of matched rows that were not copied is too."""

_CHANCE = 1.0
"""Original rows that may fit as well as the best one by chance, on average. Loose, because
columns depend on each other; the control rows draw the real line."""

_BEYOND = np.array([0.5, 1.0, 2.0, 3.0, 4.0, 6.0, 8.0])
"""Cut-offs beyond all controls, in mean excesses."""

_STRICT = 0.01
"""Share of control rows that pass the strict cut-off."""

_FINE = (0.60, 0.26, 0.09, 0.05)
_COARSE = (0.95, 0.0, 0.0, 0.05)
"""Prior shares of equal, close, near and far cells in true matches."""

_STEADY = ((39.88, 0.04, 0.04, 0.04), (39.96, 0.0, 0.0, 0.04))
_MOVED = ((5.0, 3.2, 1.3, 0.5), (5.0, 0.0, 0.0, 5.0))
_SHAKEN = ((0.1, 7.9, 1.5, 0.5), (5.0, 0.0, 0.0, 5.0))
"""What a column may have met, as Dirichlet counts for fine and coarse columns: nothing, a mark, or noise."""


@dataclass(frozen=True, slots=True)
class _Ranked:
    """The best candidate of each of m rows."""

    original: I64  # (m,), -1 where there is none
    levels: U8  # (m, C)
    fits: B  # better than chance, and few enough cells far
    clear: B  # better than all rivals together


def plain_linkage(sides: Sides) -> Linkage:
    """Return the linkage before any row is seen: prior shares, and no cut-off."""
    shares = np.array([_FINE if t >= 0 else _COARSE for t in sides.tau]).reshape(-1, 4)
    return Linkage(shares, shares, -math.inf, -math.inf, -math.inf)


def control_rows(sides: Sides, count: int, skip: int = 0) -> I64:
    """Return `count` original rows, the same for every suspect, spread pseudo-randomly; `skip` that many first."""
    if sides.pool is not None:
        return sides.pool[skip : skip + count]
    n = sides.original.shape[1]
    step = int(mix64(np.array([n], np.uint64))[0] % np.uint64(max(1, n)))
    while math.gcd(step, n) != 1:
        step += 1
    rows: I64 = (np.arange(skip, min(n, skip + count), dtype=np.int64) * step) % max(1, n)
    return rows


def fit_linkage(sides: Sides, limit: int = LOOKUPS, count: int = CONTROLS) -> tuple[Linkage, RowMatch]:
    """Estimate a linkage from confident matches and from control rows, by a few EM rounds.

    Parameters
    ----------
    sides : Sides
        Of more than 2,048 suspect rows a part is used.
    limit : int
        Look-ups per row.
    count : int
        Control rows.

    Returns
    -------
    linkage : Linkage
    match : RowMatch
        Of the rows used.
    """
    if sides.rows > FIT_ROWS:
        sides = sides.take(np.linspace(0, sides.rows - 1, FIT_ROWS).astype(np.int64))
    m, linkage = sides.rows, plain_linkage(sides)
    controls = control_rows(sides, count)
    both = join_sides(sides, sides.controls(controls))
    candidates = plan_lookups(sides, linkage.shares, limit).search(
        both, np.concatenate([np.full(m, -1, np.int64), controls])
    )
    levels = compare_pairs(both, candidates)
    for _ in range(_FIT_ROUNDS):
        ranked = _rank(both, linkage.shares, candidates, levels)
        linkage = _update(sides, linkage, ranked, m)
    found = _decide(_rank(both, linkage.shares, candidates, levels), linkage)
    return linkage, RowMatch(found.original[:m], found.equal[:m], found.ambiguous[:m])


def accepts_equal(sides: Sides, linkage: Linkage) -> B:
    """Return which suspect rows would be matched to a row that equals them in all columns, were it the only one.

    Parameters
    ----------
    sides : Sides
    linkage : Linkage

    Returns
    -------
    (m,) bool
    """
    table = np.log(np.maximum(linkage.shares, 1e-6)) - np.log(np.maximum(linkage.apart, 1e-6))
    if float(table[:, 0].sum()) < linkage.cutoff:
        return np.zeros(sides.rows, np.bool_)
    top, least = np.zeros(sides.rows), 0.5 / max(1, sides.original.shape[1])
    for c, profile in enumerate(sides.profiles):
        worth = np.log(max(linkage.shares[c, 0], 1e-6)) - np.log(np.maximum(profile.share, least))
        ids = sides.suspect[c]
        seen = ids < len(worth)
        top += np.where(seen, worth[np.where(seen, ids, 0)] if len(worth) else 0.0, -np.inf)
    fits: B = math.log(max(1, sides.original.shape[1]) / _CHANCE) <= top
    return fits


def match_rows(sides: Sides, linkage: Linkage, exclude: I64 | None = None) -> RowMatch:
    """Match every suspect row to the original row it was copied from, if one stands out.

    Parameters
    ----------
    sides : Sides
    linkage : Linkage
    exclude : (m,) int64, optional
        One original row per suspect row that does not count (for control rows).
    """
    steady = linkage.shares[:, 0] >= _UNTOUCHED
    bits = float(sides.entropy[steady].sum())
    enough = bits >= 3 * math.log2(max(2, sides.original.shape[1]))
    few = enough or sides.rows > _MANY_ROWS
    lookups = plan_lookups(sides, linkage.shares, FEW_LOOKUPS if few else LOOKUPS)
    parts = [_match_chunk(sides, linkage, exclude, lookups, s) for s in range(0, max(1, sides.rows), _CHUNK)]
    return RowMatch(
        np.concatenate([p.original for p in parts]),
        np.concatenate([p.equal for p in parts]),
        np.concatenate([p.ambiguous for p in parts]),
    )


def nearest_rows(sides: Sides, linkage: Linkage, exclude: I64) -> I64:
    """Return the original row that fits each suspect row best, whether copied or not; -1 where none was met.

    Parameters
    ----------
    sides : Sides
    linkage : Linkage
    exclude : (m,) int64
        One original row per suspect row that does not count.
    """
    candidates = plan_lookups(sides, linkage.shares, LOOKUPS).search(sides, exclude)
    return _rank(sides, linkage.shares, candidates, compare_pairs(sides, candidates)).original


def _match_chunk(
    sides: Sides, linkage: Linkage, exclude: I64 | None, lookups: Lookups, start: int
) -> RowMatch:
    rows = np.arange(start, min(start + _CHUNK, sides.rows))
    part = sides.take(rows)
    candidates = lookups.search(part, None if exclude is None else exclude[rows])
    return _decide(_rank(part, linkage.shares, candidates, compare_pairs(part, candidates)), linkage)


# --- weights ---------------------------------------------------------------------------------------


def weigh(sides: Sides, shares: F64) -> I32:
    """(m, C, 4) int32: log of share / chance for each level, in 1/1024 nat.

    Chance is the share of original rows that would agree so with this very cell: agreement in
    a rare value weighs more. That is also the likelihood ratio of the generative model
    in which a near cell is drawn from the original's values near the true one.
    """
    out = np.zeros((sides.rows, len(sides.tau), 4), np.int32)
    least = 0.5 / max(1, sides.original.shape[1])
    for c, profile in enumerate(sides.profiles):
        ids = sides.suspect[c]
        seen = ids < len(profile.values)
        same = np.where(seen, profile.share[np.where(seen, ids, 0)], 0.0)
        # A control's own cell is in the count; a suspect's is not. Without this, controls fitted less often.
        same = np.maximum(0.0, same - sides.lent / max(1, sides.original.shape[1]))
        close, near = near_shares(profile, sides.numbers[c])
        chance = np.stack([same, close, near, 1 - same - close - near])
        log = np.log(np.maximum(shares[c], 1e-6))[:, None] - np.log(np.maximum(chance, least))
        out[:, c] = np.rint(UNIT * log).T
    return out


def compare_pairs(sides: Sides, candidates: Candidates) -> U8:
    """Return the levels (p, C) of all candidate pairs."""
    from dataguard.fingerprints.alignment._kernels import pair_levels

    levels = np.empty((len(candidates.pairs), len(sides.tau)), np.uint8)
    pair_levels(
        candidates.pairs, np.ascontiguousarray(sides.suspect.T), sides.by_row, np.ascontiguousarray(sides.numbers.T),
        sides.table, sides.offsets, sides.tau, levels,
    )  # fmt: skip
    return levels


def _rank(sides: Sides, shares: F64, candidates: Candidates, levels: U8) -> _Ranked:
    """Find the best candidate of each row and weigh it against all other explanations."""
    from dataguard.fingerprints.alignment._kernels import EQUAL, FAR, best_pairs, pair_scores

    m, n, pairs = sides.rows, sides.original.shape[1], candidates.pairs
    if len(pairs) == 0:
        none = np.zeros(m, np.bool_)
        return _Ranked(np.full(m, -1, np.int64), np.full((m, len(sides.tau)), FAR, np.uint8), none, none)
    weights = weigh(sides, shares)
    score, best = np.empty(len(pairs), np.int64), np.empty(m, np.int64)
    pair_scores(pairs, levels, weights, score)
    best_pairs(pairs, score, best)
    found = best >= 0
    top = np.where(found, score[best], 0)
    # Posterior odds of other rows against the best one.
    rest = np.bincount(pairs[:, 0], _exp((score - top[pairs[:, 0]]) / UNIT), m) - 1
    # Rows not looked at are equal in the columns of that look-up; in the others their likelihood
    # ratio is 1 on average, or the share of true rows they can be where the first look-up,
    # by all steady columns, has not met them.
    unsteady = 1 - float(np.prod(shares[candidates.dropped[0][0], 0]))
    for i, (columns, lost) in enumerate(candidates.dropped):
        crowd = lost * _exp((weights[:, columns, EQUAL].sum(1) - top) / UNIT)
        rest = np.maximum(rest, crowd * (unsteady if i else 1.0))
    chosen = levels[best]
    fits = found & (n * _exp(-top / UNIT) <= _CHANCE) & ((chosen == FAR).sum(1) <= _far_allowed(shares))
    return _Ranked(np.where(found, pairs[best, 1], -1), chosen, fits, rest <= _DOUBT)


def _exp(nats: F64) -> F64:
    """Return e to some nats, within what a float holds."""
    power: F64 = np.exp(np.clip(nats, -700.0, 700.0))
    return power


def _far_allowed(shares: F64) -> int:
    """Far cells of a match at most: as many as the fitted shares explain, and a quarter of the columns."""
    p = shares[:, 3]
    return min(len(p) // 4, math.ceil(float(p.sum()) + 3 * math.sqrt(float((p * (1 - p)).sum()))))


# --- decisions -------------------------------------------------------------------------------------


def _evidence(ranked: _Ranked, linkage: Linkage) -> F64:
    """(m,) nats by which "copied from its best row" explains the levels better than "not copied"."""
    table = np.log(np.maximum(linkage.shares, 1e-6)) - np.log(np.maximum(linkage.apart, 1e-6))
    total: F64 = table[np.arange(len(table)), ranked.levels].sum(1)
    return total


def _decide(ranked: _Ranked, linkage: Linkage) -> RowMatch:
    from dataguard.fingerprints.alignment._kernels import EQUAL

    differs = (ranked.levels != EQUAL).any(1)
    least = np.where(differs, max(linkage.cutoff, linkage.searched), linkage.cutoff)
    accepted = ranked.fits & (_evidence(ranked, linkage) >= least)
    clear = accepted & ranked.clear
    equal = np.where(clear, (ranked.levels == EQUAL).sum(1), 0).astype(np.int64)
    return RowMatch(np.where(clear, ranked.original, -1), equal, accepted & ~clear)


def _update(sides: Sides, linkage: Linkage, ranked: _Ranked, m: int) -> Linkage:
    """One round: shares of the matched suspect rows (the first m) and of the control rows (the others)."""
    from dataguard.fingerprints.alignment._kernels import EQUAL

    mine, others = ranked.levels[:m], ranked.levels[m:]
    # A control row with a twin is a copy in all but name: it says nothing of rows not copied.
    others = others[(others != EQUAL).any(1)]
    matched = _decide(ranked, linkage).original[:m] >= 0
    shares = _posterior(sides, _counts(mine[matched]))
    apart = _counts(others) + 4 * plain_linkage(sides).shares
    apart = apart / apart.sum(1, keepdims=True)
    draft = Linkage(shares, apart, 0.0, 0.0, 0.0)
    evidence = _evidence(ranked, draft)
    fits = ranked.fits & (ranked.original >= 0)
    control = evidence[m:][(ranked.levels[m:] != EQUAL).any(1) & fits[m:]]
    cuts = np.concatenate([[-np.inf], np.sort(control) + 1e-9])
    strict = float(cuts[-1 - min(len(control), int(_STRICT * len(others)))])
    differs = (mine != EQUAL).any(1)
    cutoff = _cutoff(evidence[:m][fits[:m]], control, m, len(others))
    searched = _cutoff(evidence[:m][fits[:m] & differs], control, int(differs.sum()), len(others))
    # Few controls cannot show what one foreign row in a thousand looks like: where there are foreign rows, one that
    # differs must be explained better as a copy than as none.
    searched = searched if searched == -math.inf else max(0.0, searched)
    return Linkage(shares, apart, cutoff, searched, strict)


def _counts(levels: U8) -> I64:
    return np.stack([(levels == k).sum(0) for k in range(4)], axis=1).astype(np.int64)


def _cutoff(mine: F64, control: F64, m: int, controls: int) -> float:
    """Return the least evidence at which few matched rows are expected not to be copied.

    Parameters
    ----------
    mine, control : float64
        Evidence of the suspect and control rows that fit.
    m, controls : int
        Number of suspect and control rows.

    Notes
    -----
    The number of suspect rows that were not copied is estimated from those below the
    controls' median, and from those that do not fit at all, as most controls do not (Storey,
    J. R. Stat. Soc. B 64, 2002, at two points; the smaller counts, one row added). That many
    of them pass a cut-off as controls do. Beyond all controls the share that pass is taken to fall
    exponentially, at the mean excess of the upper tenth of them. Where no cut-off is good enough, a row
    must stand far above all controls. The second point matters where some rows of the original have natural
    twins (a plant's runs before their faults): those controls alone would outdo every copy.
    """
    if len(control) == 0:
        few_wrong = (m - len(mine) + 1) / (controls + 1) <= _DOUBT * len(mine)
        return -math.inf if few_wrong else 0.0
    middle = float(np.median(control))
    below = m - int((mine >= middle).sum())
    unfit = (m - len(mine) + 1) / max(1e-9, 1 - len(control) / max(1, controls))
    foreign = min(m, unfit, below / max(1e-9, 1 - (control >= middle).sum() / max(1, controls)))
    cuts = np.concatenate([[-np.inf], np.sort(control) + 1e-9])
    rate = (np.arange(len(control), -1, -1) + 1) / (controls + 1)
    top = np.sort(control)[-max(1, len(control) // 10) :]
    excess = max(0.1, float(top.mean() - top[0]))
    cuts = np.concatenate([cuts, cuts[-1] + excess * _BEYOND])
    rate = np.concatenate([rate, rate[-1] * np.exp(-_BEYOND)])
    passed = len(mine) - np.searchsorted(np.sort(mine), cuts, "left")
    good = np.flatnonzero(foreign * rate <= _DOUBT * passed)
    return float(cuts[good[0]]) if len(good) else float(cuts[-1])


def _posterior(sides: Sides, counts: I64) -> F64:
    """Return the mean shares after some matches: each column is steady, moved or shaken, even odds before.

    Three kinds instead of one prior let a few rows tell an untouched column (near cells
    impossible) from a marked one. Dirichlet-multinomial likelihoods.
    """
    shares = plain_linkage(sides).shares.copy()
    for c, count in enumerate(counts.tolist()):
        coarse = int(sides.tau[c] < 0)
        kinds = [_STEADY[coarse], _MOVED[coarse], _SHAKEN[coarse]]
        if sum(count):
            fit = np.array([_log_evidence(count, a) for a in kinds])
            weight = np.exp(fit - fit.max())
            means = np.array([[k + a for k, a in zip(count, kind, strict=True)] for kind in kinds])
            shares[c] = weight / weight.sum() @ (means / means.sum(1, keepdims=True))
    return shares


def _log_evidence(count: Sequence[int], prior: Sequence[float]) -> float:
    """Log-likelihood of a sequence with these counts under a Dirichlet prior."""
    total = math.lgamma(sum(prior)) - math.lgamma(sum(prior) + sum(count))
    return total + sum(
        math.lgamma(a + k) - math.lgamma(a) for k, a in zip(count, prior, strict=True) if a > 0
    )
