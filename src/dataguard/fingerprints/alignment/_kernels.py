"""Compiled loops of column profiles and row alignment.

They count and look up integers only: dense value ids, buckets, candidate pairs, integer
weights. Whatever needs a logarithm or a probability is worked out by the callers.
The slow twin of every kernel lives in ``tests``.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dataguard._jit import kernel

__all__ = [
    "CLOSE",
    "EQUAL",
    "FAR",
    "NEAR",
    "UNSEEN",
    "assign_ties",
    "best_pairs",
    "bucket_rows",
    "content_hashes",
    "count_agreements",
    "find_values",
    "number_values",
    "pair_levels",
    "pair_scores",
    "probe_rows",
]

I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
U8 = NDArray[np.uint8]
U32 = NDArray[np.uint32]
U64 = NDArray[np.uint64]
F64 = NDArray[np.float64]

UNSEEN = np.uint32(0xFFFFFFFF)
"""Id of a value that does not occur in the original column."""

EQUAL, CLOSE, NEAR, FAR = 0, 1, 2, 3
"""Levels of agreement of two cells: the same value, within half of tau, within tau, beyond."""

_STEP = np.uint64(0x9E3779B97F4A7C15)
_SHIFT = np.uint64(32)
_LAST = np.uint64(1)


@kernel
def _place(key: np.uint64, size: int) -> np.int64:
    # Fibonacci hashing; `size` is a power of two.
    mixed = key * _STEP
    return np.int64((mixed ^ (mixed >> _SHIFT)) & (np.uint64(size) - _LAST))


@kernel
def number_values(keys: U64, slots: U32, ids: U32, values: U64, counts: I64, first: I64) -> int:
    """Give every distinct key a dense id in order of first appearance; -1 when the table is too small.

    ``slots`` (a power of two, zeros) holds id + 1; ``values, counts, first`` have room for
    half as many; ``ids`` is one id per key.
    """
    size, found = len(slots), 0
    for row in range(len(keys)):
        key = keys[row]
        at = _place(key, size)
        while slots[at] != 0 and values[slots[at] - 1] != key:
            at = (at + 1) % size
        if slots[at] == 0:
            if 2 * (found + 1) > size:
                return -1
            values[found] = key
            counts[found] = 0
            first[found] = row
            found += 1
            slots[at] = found
        one = slots[at] - 1
        ids[row] = one
        counts[one] += 1
    return found


@kernel
def find_values(keys: U64, slots: U32, values: U64, ids: U32) -> None:
    """Look keys up among numbered values; UNSEEN where a key is not there."""
    size = len(slots)
    for row in range(len(keys)):
        at = _place(keys[row], size)
        while slots[at] != 0 and values[slots[at] - 1] != keys[row]:
            at = (at + 1) % size
        ids[row] = slots[at] - 1 if slots[at] != 0 else UNSEEN


@kernel
def _row_hash(ids: U32, columns: I64, row: int) -> np.uint64:
    h = _STEP
    for k in range(len(columns)):
        h = (h ^ np.uint64(ids[columns[k], row])) * _STEP
        h ^= h >> _SHIFT
    return h


@kernel
def content_hashes(ids: U32, hashes: U64, known: NDArray[np.bool_]) -> None:
    """Hash the ids of every row in all columns; `known` is False where one of them is UNSEEN."""
    every = np.arange(ids.shape[0])
    for row in range(ids.shape[1]):
        hashes[row] = _row_hash(ids, every, row)
        known[row] = True
        for c in range(ids.shape[0]):
            known[row] = known[row] and ids[c, row] != UNSEEN


@kernel
def assign_ties(group: I64, least: I64, start: I64, members: I64, used: NDArray[np.bool_], out: I64) -> None:
    """Give each tied row the next free member of its group that is at least `least`.

    Rows come in ascending order of group and place; ``members[start[g]:start[g + 1]]`` are the original rows
    of a group, ascending. `used` marks original rows that are taken; ``out`` gets -1 where none is left.
    """
    at, last = 0, -1
    for i in range(len(group)):
        g = group[i]
        if g != last:
            at, last = start[g], g
        out[i] = -1
        while at < start[g + 1] and out[i] < 0:
            row = members[at]
            if row >= least[i] and not used[row]:
                out[i] = row
                used[row] = True
            at += 1


@kernel
def bucket_rows(ids: U32, columns: I64, slots: I32, hashes: U64, bucket: I32) -> int:
    """Sort the rows of a suspect into buckets of equal values in some columns.

    ``slots`` (a power of two, zeros) gets bucket + 1, ``hashes`` one hash per bucket,
    ``bucket`` one bucket per row, -1 where a value is UNSEEN. Returns the number of buckets.
    """
    size, found = len(slots), 0
    for row in range(ids.shape[1]):
        bucket[row] = -1
        known = True
        for k in range(len(columns)):
            known = known and ids[columns[k], row] != UNSEEN
        if known:
            h = _row_hash(ids, columns, row)
            at = _place(h, size)
            while slots[at] != 0 and hashes[slots[at] - 1] != h:
                at = (at + 1) % size
            if slots[at] == 0:
                hashes[found] = h
                found += 1
                slots[at] = found
            bucket[row] = slots[at] - 1
    return found


@kernel
def probe_rows(ids: U32, columns: I64, slots: I32, hashes: U64, counts: I64, found: I32) -> int:
    """Stream the original through the buckets of a suspect.

    ``counts`` (zeros) gets the number of original rows per bucket, ``found``
    (pairs, 2) the pairs bucket and original row; a bucket stops writing when the
    count exceeds its share of ``found``. Returns the number of pairs written.
    """
    size, written = len(slots), 0
    limit = len(found) // len(counts)
    for row in range(ids.shape[1]):
        h = _row_hash(ids, columns, row)
        at = _place(h, size)
        while slots[at] != 0 and hashes[slots[at] - 1] != h:
            at = (at + 1) % size
        if slots[at] != 0:
            one = slots[at] - 1
            counts[one] += 1
            if counts[one] <= limit:
                found[written, 0] = one
                found[written, 1] = row
                written += 1
    return written


@kernel
def pair_levels(
    pairs: I64, suspect: U32, original: U32, numbers: F64, table: F64, offsets: I64, tau: F64, levels: U8
) -> None:
    """Compare the cells of candidate pairs, (pairs, 2) suspect and original row.

    ``suspect`` and ``original`` are (rows, columns) ids, so that a row lies in one or two cache lines (with
    columns first this loop took five times as long); ``numbers`` (rows, columns) are the suspect's numbers,
    ``table[offsets[c] + id]`` the original's; NEAR means a distance of at most ``tau[c]``,
    CLOSE of at most half of it; tau is negative where only equality counts.
    """
    for p in range(len(pairs)):
        s, o = pairs[p, 0], pairs[p, 1]
        for c in range(len(tau)):
            level = FAR
            if suspect[s, c] == original[o, c]:
                level = EQUAL
            elif tau[c] >= 0.0:
                distance = abs(numbers[s, c] - table[offsets[c] + original[o, c]])
                if distance <= tau[c]:
                    level = CLOSE if 2.0 * distance <= tau[c] else NEAR
            levels[p, c] = level


@kernel
def pair_scores(pairs: I64, levels: U8, weights: I32, score: I64) -> None:
    """Add up the weights of candidate pairs: ``weights[suspect row, c, level]``."""
    for p in range(len(pairs)):
        s = pairs[p, 0]
        total = np.int64(0)
        for c in range(levels.shape[1]):
            total += weights[s, c, levels[p, c]]
        score[p] = total


@kernel
def best_pairs(pairs: I64, score: I64, best: I64) -> None:
    """Find the best pair per suspect row, as index into ``pairs``, the first of equals; -1 where none."""
    best[:] = -1
    for p in range(len(pairs)):
        s = pairs[p, 0]
        if best[s] < 0 or score[p] > score[best[s]]:
            best[s] = p


@kernel
def count_agreements(
    suspect: U32, original: U32, own: I64, numbers: F64, table: F64, offsets: I64, tau: F64, totals: I64
) -> None:
    """Count suspect rows that agree with given original rows.

    ``original`` (columns, p) are the original rows, ``own[i]`` the suspect row that row i
    was found for. Two rows agree when at most a quarter of their cells are FAR.
    ``totals`` gets the agreeing pairs among (i, own[i]), and among all pairs.
    """
    allowed = len(tau) // 4
    for i in range(original.shape[1]):
        for j in range(suspect.shape[1]):
            far = 0
            for c in range(len(tau)):
                if suspect[c, j] != original[c, i]:
                    distance = abs(numbers[c, j] - table[offsets[c] + original[c, i]])
                    # Not ">": a missing number has no distance, and is far.
                    far += 0 if distance <= tau[c] else 1
                if far > allowed:
                    break
            if far <= allowed:
                totals[1] += 1
                if own[i] == j:
                    totals[0] += 1
