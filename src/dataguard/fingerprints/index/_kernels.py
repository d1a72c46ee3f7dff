"""Compiled loops of the band index: band hashes, buckets, probes, counts of equal slots.

Only equality of bands is needed, so a band is bucketed by counting, not sorted: 3 ns a key where sorting
takes 20 to 40. Whatever is read from a file is checked against its bounds here, before it is followed.
The slow twin of every kernel lives in ``tests``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dataguard._jit import kernel
from dataguard._simd import mask_equal, prefetch, trailing_zeros

__all__ = [
    "count_equal",
    "distinct_rows",
    "fill_buckets",
    "hash_bands",
    "is_well_formed",
    "probe_band",
    "split_keys",
]

I64 = NDArray[np.int64]
U8 = NDArray[np.uint8]
U16 = NDArray[np.uint16]
U32 = NDArray[np.uint32]
U64 = NDArray[np.uint64]

_MIX = np.uint64(0x9FB21C651E98DF25)
_MIX2 = np.uint64(0xD6E8FEB86659FD93)
_HIGH, _LOW = np.uint64(0xFFFFFFFF00000000), np.uint64(0xFFFFFFFF)
_29, _32, _48, _64 = np.uint64(29), np.uint64(32), np.uint64(48), np.uint64(64)
_TOP = np.uint64(1 << 63)
_0, _1, _2 = np.uint64(0), np.uint64(1), np.uint64(2)
_ONE = np.uint32(1)

_LARGE, _LANES = 32, np.uint64(32)
"""A bucket beyond this is sorted by (tag, row), so that a probe can search in it. Chance fills none so far."""

_MANY, _DIGIT = 2048, 11
"""Rows from which counting by 11 bits, three times, is faster than a heap (16 M: 2.1 s, then 0.2)."""

_AHEAD = 16
"""Queries between the fetch of an entry's line and its use."""


@kernel
def hash_bands(signatures: U32, keys: U32, first: int, width: Any, at: int, out: U64) -> None:
    """Hash bands ``first, first + 1, ..`` of each signature into the rows of `out`, from column `at` on.

    A band is as wide as `width` is long: a tuple, whose length is known to the compiler, halves the time.
    """
    bands, wide = np.uint64(len(out)), np.uint64(len(width))
    for row in range(len(signatures)):
        signature = signatures[row]
        number = np.uint64(at + row)
        for band in range(bands):
            slot = (np.uint64(first) + band) * wide
            total = _0
            for pair in range(len(width) // 2):
                a = slot + _2 * np.uint64(pair)
                b = a + _1
                one = np.uint64(np.uint32(signature[a] + keys[a]))
                total += one * np.uint64(np.uint32(signature[b] + keys[b]))
            if len(width) % 2:
                a = slot + wide - _1
                total += np.uint64(np.uint32(signature[a] + keys[a])) * np.uint64(keys[a + _1])
            mixed = (total ^ (total >> _32)) * _MIX
            mixed = (mixed ^ (mixed >> _29)) * _MIX2
            out[band, number] = mixed


@kernel
def split_keys(hashes: U64, split: int, cuts: I64, packed: U64) -> None:
    """Part a band by the top `split` bits, so that each part is bucketed within the cache.

    ``cuts`` (2**split + 1, zeros) receives where the parts begin; ``packed`` the 32 bits below, over the row.
    """
    down, up = np.uint64(64 - split), np.uint64(split)
    for i in range(len(hashes)):
        cuts[(hashes[i] >> down) + _1] += 1
    total = 0
    for part in range(1, len(cuts)):
        count = cuts[part]
        cuts[part] = total
        total += count
    for i in range(len(hashes)):
        key = hashes[i]
        part = (key >> down) + _1
        packed[cuts[part]] = ((key << up) & _HIGH) | np.uint64(i)
        cuts[part] += 1


@kernel
def fill_buckets(keys: U64, cuts: I64, bits: int, is_split: bool, starts: U32, rows: U32, tags: U16) -> None:
    """Bucket a band by its upper bits: 2**bits buckets in each part, rows ascending in a bucket.

    ``starts`` (parts * 2**bits + 1, zeros) receives where the buckets begin, ``tags`` the next 16 bits. Keys that were
    split carry their row; else it is their place.
    """
    down, below = np.uint64(64 - bits), np.uint64(48 - bits)
    size = 1 << bits
    for part in range(len(cuts) - 1):
        ends = starts[1 + part * size : 1 + (part + 1) * size]
        for i in range(cuts[part], cuts[part + 1]):
            ends[keys[i] >> down] += _ONE
        total = np.uint32(cuts[part])
        for bucket in range(size):
            count = ends[bucket]
            ends[bucket] = total
            total += count
        for i in range(cuts[part], cuts[part + 1]):
            key = keys[i]
            bucket = key >> down
            place = ends[bucket]
            ends[bucket] = place + _ONE
            rows[place] = np.uint32(key) if is_split else np.uint32(i)
            tags[place] = np.uint16(key >> below)
    for bucket in range(len(starts) - 1):
        if starts[bucket + 1] - starts[bucket] > _LARGE:
            _sort_bucket(rows[starts[bucket] : starts[bucket + 1]], tags[starts[bucket] : starts[bucket + 1]])


@kernel
def _sort_bucket(rows: U32, tags: U16) -> None:
    """Sort by tag, one byte after the other; rows of one tag stay in their order."""
    count = len(rows)
    other_rows, other_tags = np.empty(count, np.uint32), np.empty(count, np.uint16)
    for shift in (0, 8):
        ends = np.zeros(257, np.int64)
        for i in range(count):
            ends[((tags[i] >> shift) & 255) + 1] += 1
        for digit in range(256):
            ends[digit + 1] += ends[digit]
        for i in range(count):
            digit = (tags[i] >> shift) & 255
            other_rows[ends[digit]] = rows[i]
            other_tags[ends[digit]] = tags[i]
            ends[digit] += 1
        for i in range(count):
            rows[i] = other_rows[i]
            tags[i] = other_tags[i]


@kernel
def is_well_formed(starts: U32, count: int) -> bool:
    """Whether a directory ascends from 0 to `count`."""
    if starts[0] != 0 or starts[len(starts) - 1] != count:
        return False
    for i in range(len(starts) - 1):
        if starts[i] > starts[i + 1]:
            return False
    return True


@kernel
def probe_band(
    hashes: U64, begin: int, bits: int, starts: U32, rows: U32, tags: U16, found: U64, at: int
) -> tuple[int, Any]:
    """Write (query, row) of every entry with the bucket and tag of a query, as one word, from `at` on.

    ``tags`` has 32 more than `rows`. Returns the first query that is not done, for want of room in `found`, and
    the end of what is written; a directory or row out of bounds ends it with -1.
    """
    down, below = np.uint64(64 - bits), np.uint64(48 - bits)
    count, room = np.uint64(len(rows)), np.uint64(len(found))
    first = place = np.uint64(at)
    done = len(hashes)
    for i in range(begin, len(hashes)):
        if i + 2 * _AHEAD < len(hashes):  # the directory first; what it points at half the way later
            prefetch(starts, np.int64(hashes[i + 2 * _AHEAD] >> down))
            soon = np.int64(starts[hashes[i + _AHEAD] >> down])
            prefetch(tags, soon)
            prefetch(rows, soon)
        bucket = hashes[i] >> down
        low, high = np.uint64(starts[bucket]), np.uint64(starts[bucket + _1])
        if low > high or high > count:
            return -1, at
        if place + (high - low) >= room:
            done = i
            break
        tag, query = np.uint16(hashes[i] >> below), np.uint64(i) << _32
        if high - low > _LANES:
            place = _write_run(tags, tag, low, high, query, found, place)
            continue
        same = mask_equal(tags, np.int64(low), tag) & ((_1 << (high - low)) - _1)
        found[place] = query | (low + trailing_zeros(same | _TOP))  # written whether there is one or not
        place += np.uint64(same != _0)
        same &= same - _1
        while same != _0:
            found[place] = query | (low + trailing_zeros(same))
            place += _1
            same &= same - _1
    for j in range(first, place):  # in a loop of its own: rows waited for above cost 200 ns a query
        row = rows[found[j] & _LOW]
        if row >= count:
            return -1, at
        found[j] = (found[j] & _HIGH) | np.uint64(row)
    return done, np.int64(place)  # int() would leave it unsigned


@kernel
def _write_run(
    tags: U16, tag: np.uint16, low: np.uint64, high: np.uint64, query: np.uint64, found: U64, place: np.uint64
) -> np.uint64:
    """Append the entries of one tag in a bucket that is sorted by tag."""
    end = high
    while low < end:
        middle = (low + end) >> _1
        if tags[middle] < tag:
            low = middle + _1
        else:
            end = middle
    while low < high and tags[low] == tag:
        found[place] = query | low
        place += _1
        low += _1
    return place


@kernel
def _sift(rows: U32, root: int, end: int) -> None:
    while 2 * root + 1 < end:
        child = 2 * root + 1
        if child + 1 < end and rows[child] < rows[child + 1]:
            child += 1
        if rows[root] >= rows[child]:
            return
        rows[root], rows[child] = rows[child], rows[root]
        root = child


@kernel
def _sort_rows(rows: U32) -> None:
    """Sort in place; n log n whatever the order."""
    for root in range(len(rows) // 2 - 1, -1, -1):
        _sift(rows, root, len(rows))
    for end in range(len(rows) - 1, 0, -1):
        rows[0], rows[end] = rows[end], rows[0]
        _sift(rows, 0, end)


@kernel
def _sort_many_rows(rows: U32) -> None:
    """Sort by 11 bits, the lowest first; rows are below 2**33."""
    size = np.uint32(1 << _DIGIT)
    mask = size - _ONE
    other = np.empty(len(rows), np.uint32)
    for turn in range(3):
        shift = np.uint32(turn * _DIGIT)
        ends = np.zeros(size + _ONE, np.int64)
        for i in range(len(rows)):
            ends[((rows[i] >> shift) & mask) + _ONE] += 1
        for digit in range(size):
            ends[digit + 1] += ends[digit]
        for i in range(len(rows)):
            digit = (rows[i] >> shift) & mask
            other[ends[digit]] = rows[i]
            ends[digit] += 1
        rows[:] = other


@kernel
def _keep_distinct(rows: U32) -> int:
    """Bring the distinct rows to the front, ascending; return how many."""
    kept = 0
    if len(rows) > _LARGE:
        if len(rows) < _MANY:
            _sort_rows(rows)
        else:
            _sort_many_rows(rows)
        for i in range(len(rows)):
            if kept == 0 or rows[kept - 1] != rows[i]:
                rows[kept] = rows[i]
                kept += 1
        return kept
    for i in range(len(rows)):
        row = rows[i]
        place = kept
        while place > 0 and rows[place - 1] > row:
            place -= 1
        if place > 0 and rows[place - 1] == row:
            continue
        for j in range(kept, place, -1):
            rows[j] = rows[j - 1]
        rows[place] = row
        kept += 1
    return kept


@kernel
def distinct_rows(found: U64, offsets: I64, rows: U32) -> int:
    """Order what was found by query, each row once; return how many rows.

    ``offsets`` (queries + 1, zeros) receives where each query's rows begin; ``rows`` is as long as `found`.
    """
    for i in range(len(found)):
        offsets[(found[i] >> _32) + _1] += 1
    total = 0
    for query in range(1, len(offsets)):
        count = offsets[query]
        offsets[query] = total
        total += count
    for i in range(len(found)):
        query = (found[i] >> _32) + _1
        rows[offsets[query]] = np.uint32(found[i])
        offsets[query] += 1
    begin, end = 0, 0
    for query in range(1, len(offsets)):
        size = offsets[query] - begin
        kept = _keep_distinct(rows[begin : begin + size])
        if end != begin:
            for i in range(kept):
                rows[end + i] = rows[begin + i]
        begin += size
        end += kept
        offsets[query] = end
    return end


@kernel
def count_equal(
    queries: U32, signatures: U32, offsets: I64, rows: U32, dead: U8, least: int, kept: I64, counts: U32
) -> None:
    """Count equal slots of each query and its rows; keep rows with at least `least`, compacted in place.

    ``dead`` has a bit for every removed row, or is empty; ``kept`` (queries + 1, zeros) becomes the offsets.
    """
    size = queries.shape[1]
    at, total = 0, len(rows)
    for query in range(len(queries)):
        mine = queries[query]
        for i in range(offsets[query], offsets[query + 1]):
            if i + 4 < total:
                ahead = np.int64(rows[i + 4]) * size
                for line in range(0, size, 16):
                    prefetch(signatures, ahead + line)
            row = np.int64(rows[i])
            if len(dead) > 0 and (dead[row >> 3] >> (row & 7)) & 1:
                continue
            other = signatures[row]
            equal = np.uint32(0)
            for slot in range(size):
                equal += np.uint32(mine[slot] == other[slot])
            if equal >= least:
                rows[at] = rows[i]
                counts[at] = equal
                at += 1
        kept[query + 1] = at
