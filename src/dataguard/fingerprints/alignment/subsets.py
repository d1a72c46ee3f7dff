"""Which column subsets identify a row.

Rows are looked up by the values of a few columns at a time. A subset is worth looking up
when few rows share its values, and when it is small: a mark or an edit anywhere in it
loses the row for this subset. Measured on a sample of the original, because sums of
entropies mislead where columns depend on each other (month, day and time_hour).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from dataguard.values import mix64

__all__ = ["SAMPLE_ROWS", "draw_subsets", "sample_rows"]

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
U32 = NDArray[np.uint32]
U64 = NDArray[np.uint64]

SAMPLE_ROWS = 4096
"""Rows measured: n = 400,000 rows and 4,096 sampled tell 0.05 expected rivals per row from none."""

_HEAVY = 4
"""A value met this often in the sample is heavy; its rows are found through other subsets."""

_TRIED = 400
"""Subsets measured at most, among the small and among the larger ones; about 0.2 ms each."""

_LARGEST = 10
"""Columns of a subset at most."""

_ENUMERATED = 24
"""Pairs and triples are tried among this many columns, those of the highest entropy."""


def sample_rows(n: int) -> I64:
    """Return evenly spread row positions, at most `SAMPLE_ROWS`."""
    return np.linspace(0, n - 1, min(n, SAMPLE_ROWS)).round().astype(np.int64) if n else np.empty(0, np.int64)


def draw_subsets(ids: U32, entropy: F64, survive: F64, rows: int, rivals: float, limit: int) -> list[I64]:
    """Return up to `limit` small column subsets whose values few rows share.

    Parameters
    ----------
    ids : (columns, sample) uint32
        Value ids of sampled original rows.
    entropy : (columns,) float64
        Bits per column.
    survive : (columns,) float64
        Share of cells expected to be unchanged in a suspect.
    rows : int
        Rows of the original.
    rivals : float
        Other rows that may share a subset's values, on average.
    limit : int

    Returns
    -------
    list of (k,) int64
        Distinct, minimal as far as tried; spread evenly over the columns.
    """
    if not (entropy > 0).any() or ids.shape[1] == 0:
        return []
    meter = _Meter(ids, rows, rivals)
    found: list[tuple[int, ...]] = []
    for subset in _small(entropy, survive, rows, rivals):
        if meter.tried >= _TRIED:
            break
        if not any(set(f) <= set(subset) for f in found) and meter.identifies(subset):
            found.append(subset)
    if len(found) < limit:
        found += [
            s
            for s in dict.fromkeys(_grown(entropy, meter, limit))
            if not any(set(f) <= set(s) for f in found)
        ]
    if not found:
        found = [tuple(np.flatnonzero(entropy > 0).tolist())]
    return [np.array(s, np.int64) for s in _spread(found, survive, limit)]


class _Meter:
    """Measures how many rows share the values of a subset."""

    def __init__(self, ids: U32, rows: int, rivals: float) -> None:
        self.codes = mix64(ids.astype(np.uint64))
        self.scale = max(1.0, rows / ids.shape[1])
        self.rivals = rivals
        self.tried = 0

    def identifies(self, subset: Sequence[int]) -> bool:
        self.tried += 1
        h = np.zeros(self.codes.shape[1], np.uint64)
        for c in subset:
            h = mix64(h ^ self.codes[c])
        h.sort()
        edge = np.flatnonzero(np.concatenate([[True], h[1:] != h[:-1], [True]]))
        run = np.diff(edge)
        light = run[run < _HEAVY]
        share = float(light.sum()) / len(h)
        return share >= 0.5 and float((light * (light - 1)).sum()) / light.sum() * self.scale <= self.rivals


def _small(entropy: F64, survive: F64, rows: int, rivals: float) -> Iterator[tuple[int, ...]]:
    """Singles, pairs and triples that may identify a row: those likely to survive first, else shuffled."""
    least = np.log2(max(2.0, rows / max(1.0, rivals)))
    order = np.argsort(-entropy, kind="stable")[:_ENUMERATED]
    order = np.sort(order[entropy[order] > 0])
    for k in (1, 2, 3):
        subsets = np.array(list(itertools.combinations(order.tolist(), k)), np.int64).reshape(-1, k)
        # The joint entropy is at most the sum: what falls short of it need not be measured.
        subsets = subsets[entropy[subsets].sum(1) >= least]
        loss = np.round(-np.log(survive[subsets]).sum(1), 1)
        for i in np.lexsort((mix64(np.arange(len(subsets), dtype=np.uint64)), loss)):
            yield tuple(subsets[i].tolist())


def _grown(entropy: F64, meter: _Meter, limit: int) -> Iterator[tuple[int, ...]]:
    """Larger subsets: columns in pseudo-random order, informative ones sooner, until rows are identified."""
    columns, last = np.flatnonzero(entropy > 0), meter.tried + _TRIED
    for t in range(4 * limit):
        u = (mix64(np.uint64(t) * np.uint64(4096) + columns.astype(np.uint64)) >> np.uint64(11)) / 2.0**53
        order = columns[np.argsort(-np.log(u) / entropy[columns], kind="stable")].tolist()
        for k in range(4, min(len(order), _LARGEST) + 1):
            if meter.identifies(order[:k]):
                yield tuple(sorted(order[:k]))
                break
            if meter.tried >= last:
                return


def _spread(found: list[tuple[int, ...]], survive: F64, limit: int) -> list[tuple[int, ...]]:
    """Choose subsets that survive and do not lean on the same columns."""
    if len(found) <= limit:
        return found
    member = np.zeros((len(found), len(survive)))
    for i, subset in enumerate(found):
        member[i, list(subset)] = 1
    cost = member @ -np.log(survive)
    usage, chosen = np.zeros(len(survive)), []
    for _ in range(limit):
        i = int(np.argmin(cost + member @ usage / (1 + usage.max())))
        chosen.append(found[i])
        usage += member[i]
        cost[i] = np.inf
    return chosen
