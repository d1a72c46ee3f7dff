"""Looking up queries in a segment: what meets in a band, each row once, compared slot by slot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dataguard.fingerprints.index.segment import Segment
from dataguard.fingerprints.index.store import Live

__all__ = ["Found", "Matches", "joined", "search"]

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
U32 = NDArray[np.uint32]
U64 = NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class Matches:
    """What was found for each query; ids ascend within one.

    Attributes
    ----------
    offsets : (queries + 1,) int64
        Query i has entries ``offsets[i]`` to ``offsets[i + 1] - 1``.
    ids : (m,) uint64
    estimates : (m,) float64
        Share of equal slots, the estimate of the Jaccard similarity; NaN where not verified.
    """

    offsets: I64
    ids: U64
    estimates: F64

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, query: int) -> tuple[U64, F64]:
        if not 0 <= query < len(self):
            raise IndexError(query)
        span = slice(int(self.offsets[query]), int(self.offsets[query + 1]))
        return self.ids[span], self.estimates[span]


Found = tuple[I64, U64, U32]
"""Matches of each query, their ids, their equal slots."""


def search(live: Live[Segment], queries: U32, hashes: U64, found: U64, least: int) -> Found:
    """Return matches per query, their ids ascending within one, and their equal slots."""
    from dataguard.fingerprints.index._kernels import count_equal, distinct_rows

    segment, count = live.segment, len(queries)
    end = segment.probe(hashes, found)
    if end < 0 and count > 1:
        half = count // 2
        parts = [
            search(live, queries[span], np.ascontiguousarray(hashes[:, span]), found, least)
            for span in (slice(0, half), slice(half, count))
        ]
        one, two, three = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        return one, two, three
    if end < 0:  # one query that meets more than there is room for
        found = np.empty(segment.room_for(hashes), np.uint64)
        end = segment.probe(hashes, found)
    offsets, rows = np.zeros(count + 1, np.int64), np.empty(end, np.uint32)
    rows = rows[: distinct_rows(found[:end], offsets, rows)]
    equal = np.zeros(len(rows), np.uint32)
    if least >= 0:
        segment.check_signatures(rows)
        kept = np.zeros(count + 1, np.int64)
        count_equal(queries, segment.signatures, offsets, rows, live.dead, least, kept, equal)
        offsets, rows, equal = kept, rows[: kept[-1]], equal[: kept[-1]]
    elif live.removed:
        alive = ~live.is_dead(rows)
        number = np.repeat(np.arange(count), np.diff(offsets))[alive]
        rows, equal = rows[alive], equal[alive]
        offsets = np.concatenate([[0], np.cumsum(np.bincount(number, minlength=count))])
    sizes, ids = np.diff(offsets), segment.ids(rows)
    return (sizes, ids, equal) if segment.is_numbered else joined([(sizes, ids, equal)], count)


def joined(several: Sequence[Found], count: int) -> Found:
    """Return what several segments found, ordered by query and id."""
    if not several:
        return np.zeros(count, np.int64), np.zeros(0, np.uint64), np.zeros(0, np.uint32)
    query = np.concatenate([np.repeat(np.arange(count), sizes) for sizes, _, _ in several])
    ids, equal = np.concatenate([f[1] for f in several]), np.concatenate([f[2] for f in several])
    order = np.lexsort((ids, query))
    return np.bincount(query, minlength=count), ids[order], equal[order]
