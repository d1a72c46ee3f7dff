"""Compiled loops of the inverted index: postings into buckets, queries against them, exact counts.

Keys are hashes mixed once more by a bijection, so that hashes of any quality fill the buckets evenly and equality
stays what it was. Whatever is read from a file is checked against its bounds before it is followed.
The slow twin of every kernel lives in ``tests``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dataguard._jit import kernel
from dataguard._simd import mask_within, prefetch, trailing_zeros

__all__ = [
    "count_keys",
    "count_shared",
    "count_sizes",
    "distinct_keys",
    "drop_repeats",
    "fill_postings",
    "join_buckets",
    "place_keys",
    "restore_sets",
]

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
U8 = NDArray[np.uint8]
U32 = NDArray[np.uint32]
U64 = NDArray[np.uint64]

_MIX = np.uint64(0x9FB21C651E98DF25)
_MIX2 = np.uint64(0xD6E8FEB86659FD93)
_BACK, _BACK2 = np.uint64(0x2AB9C720D1024AD), np.uint64(0xCFEE444D8B59A89B)
_STEP = np.uint64(0x9E3779B97F4A7C15)
_0, _1, _32, _64 = np.uint64(0), np.uint64(1), np.uint64(32), np.uint64(64)
_2, _3, _4, _7 = np.uint64(2), np.uint64(3), np.uint64(4), np.uint64(7)
_NONE = np.uint64(0xFFFFFFFFFFFFFFFF)
_LANES = np.uint64(8)
_SMALL = np.uint64(24)
"""Entries of a bucket up to which shifting them one by one is the fastest way to sort."""

_PATIENCE = 8
"""Steps a place of a table of keys before these are taken for made to collide, and sorted. Chance takes one or less."""

_AHEAD = 8
"""Hashes between the fetch of a line and its use."""


@kernel
def _mixed(key: np.uint64) -> np.uint64:
    key = (key ^ (key >> _32)) * _MIX
    key = (key ^ (key >> _32)) * _MIX2
    return key ^ (key >> _32)


@kernel
def _unmixed(key: np.uint64) -> np.uint64:
    key = (key ^ (key >> _32)) * _BACK2
    key = (key ^ (key >> _32)) * _BACK
    return key ^ (key >> _32)


@kernel
def count_keys(hashes: U64, most: np.uint64, split: int, ends: I64) -> None:
    """Add to ``ends[part + 1]`` how many keys, of hashes up to `most`, have `part` as top `split` bits."""
    down = np.uint64(64 - split)
    for i in range(len(hashes)):
        ends[(_mixed(hashes[i]) >> down) + _1] += np.int64(hashes[i] <= most)


@kernel
def place_keys(
    hashes: U64, offsets: I64, most: np.uint64, first: int, split: int, ends: I64, keys: U64, sets: U32
) -> None:
    """Write the keys of sets `first`, .. into their parts: behind ``ends[part + 1]``, which moves on."""
    down = np.uint64(64 - split)
    for i in range(len(offsets) - 1):
        own = np.uint32(first + i)
        for j in range(offsets[i], offsets[i + 1]):
            if hashes[j] <= most:
                key = _mixed(hashes[j])
                part = (key >> down) + _1
                place = np.uint64(ends[part])
                keys[place] = key
                sets[place] = own
                ends[part] += 1


@kernel
def _sift(words: U64, root: int, end: int) -> None:
    while 2 * root + 1 < end:
        child = 2 * root + 1
        if child + 1 < end and words[child] < words[child + 1]:
            child += 1
        if words[root] >= words[child]:
            return
        words[root], words[child] = words[child], words[root]
        root = child


@kernel
def _sort_words(words: U64) -> None:
    """Sort a large bucket, n log n whatever its order; it comes sorted when it is one key in many sets."""
    is_sorted = True
    for i in range(1, len(words)):
        is_sorted &= words[i - 1] <= words[i]
    if is_sorted:
        return
    for root in range(len(words) // 2 - 1, -1, -1):
        _sift(words, root, len(words))
    for end in range(len(words) - 1, 0, -1):
        words[0], words[end] = words[end], words[0]
        _sift(words, 0, end)


@kernel
def _sort_four(words: U64, low: np.uint64, high: np.uint64) -> bool:
    """Sort up to four words without a jump; return whether one comes twice. Halves the time of all buckets."""
    size = high - low
    old_b, old_c, old_d = words[low + _1], words[low + _2], words[low + _3]
    a = words[low] if size > _0 else _NONE
    b = old_b if size > _1 else _NONE
    c = old_c if size > _2 else _NONE
    d = old_d if size > _3 else _NONE
    a, b = min(a, b), max(a, b)
    c, d = min(c, d), max(c, d)
    a, c = min(a, c), max(a, c)
    b, d = min(b, d), max(b, d)
    b, c = min(b, c), max(b, c)
    words[low] = a if size > _0 else words[low]
    words[low + _1] = b if size > _1 else old_b
    words[low + _2] = c if size > _2 else old_c
    words[low + _3] = d if size > _3 else old_d
    return ((a == b) & (size > _1)) | ((b == c) & (size > _2)) | ((c == d) & (size > _3))


@kernel
def fill_postings(keys: U64, sets: U32, cuts: I64, split: int, bits: int, starts: U32, words: U64) -> bool:
    """Bucket postings by the top `bits` of their keys; return whether one came twice.

    ``cuts`` (2**split + 1) are where the parts begin, ``starts`` (2**bits + 1) receives where the buckets do. A
    word is the rest of the key over the set; words ascend in a bucket. ``words`` has 8 more than `keys`.
    """
    size, up = 1 << (bits - split), np.uint64(bits)
    down, inside = np.uint64(64 - bits), np.uint64((1 << (bits - split)) - 1)
    ends = np.empty(size + 1, np.int64)
    is_twice = False
    starts[0] = np.uint32(0)
    for part in range(len(cuts) - 1):
        ends[:] = 0
        for i in range(cuts[part], cuts[part + 1]):
            ends[((keys[i] >> down) & inside) + _1] += 1
        total = cuts[part]
        for bucket in range(1, size + 1):
            count = ends[bucket]
            ends[bucket] = total
            total += count
        for i in range(cuts[part], cuts[part + 1]):
            bucket = ((keys[i] >> down) & inside) + _1
            words[np.uint64(ends[bucket])] = (keys[i] << up) | np.uint64(sets[i])
            ends[bucket] += 1
        low = np.uint64(cuts[part])
        for bucket in range(1, size + 1):
            high = np.uint64(ends[bucket])
            if high - low <= _4:
                is_twice |= _sort_four(words, low, high)
            elif high - low <= _SMALL:
                for i in range(low + _1, high):
                    word, j = words[i], np.uint64(i)
                    while j > low and words[j - _1] > word:
                        words[j] = words[j - _1]
                        j -= _1
                    words[j] = word
            else:
                _sort_words(words[low:high])
            if high - low > _4:
                for i in range(low + _1, high):
                    is_twice |= words[i] == words[i - _1]
            low = high
            starts[part * size + bucket] = np.uint32(high)
    return is_twice


@kernel
def drop_repeats(starts: U32, words: U64) -> Any:
    """Keep each posting once; return how many are left."""
    at, low = _0, np.uint64(0)
    for bucket in range(len(starts) - 1):
        high, begin = np.uint64(starts[bucket + 1]), at
        for i in range(low, high):
            if at == begin or words[at - _1] != words[i]:
                words[at] = words[i]
                at += _1
        low = high
        starts[bucket + 1] = np.uint32(at)
    return np.int64(at)


@kernel
def join_buckets(starts: U32, words: U64, bits: int, fewer: int) -> None:
    """Write words anew, where they are, for a directory of `fewer` bits less: these go back into the word."""
    up, kept, top = np.uint64(bits), np.uint64(bits - fewer), np.uint64(64 - fewer)
    mask, inside = (_1 << up) - _1, (_1 << np.uint64(fewer)) - _1
    for bucket in range(len(starts) - 1):
        own = (np.uint64(bucket) & inside) << top
        for i in range(np.uint64(starts[bucket]), np.uint64(starts[bucket + 1])):
            words[i] = own | ((words[i] >> up) << kept) | (words[i] & mask)


@kernel
def count_sizes(words: U64, bits: int, sizes: U32) -> bool:
    """Count the elements of each set; false where a word names a set there is none of."""
    mask = (_1 << np.uint64(bits)) - _1
    for i in range(len(words)):
        row = words[i] & mask
        if row >= np.uint64(len(sizes)):
            return False
        sizes[row] += np.uint32(1)
    return True


@kernel
def restore_sets(starts: U32, words: U64, bits: int, ends: I64, hashes: U64) -> bool:
    """Write every hash back behind the end of its set, which moves on; sets whose end is -1 are left out.

    False where the directory or a word points out of bounds.
    """
    down, up, mask = np.uint64(64 - bits), np.uint64(bits), (_1 << np.uint64(bits)) - _1
    low = _0
    for bucket in range(len(starts) - 1):
        high = np.uint64(starts[bucket + 1])
        if high < low or high > np.uint64(len(words)):
            return False
        for i in range(low, high):
            row = words[i] & mask
            if row >= np.uint64(len(ends)):
                return False
            if ends[row] >= 0:
                if ends[row] >= len(hashes):
                    return False
                hashes[ends[row]] = _unmixed((np.uint64(bucket) << down) | (words[i] >> up))
                ends[row] += 1
        low = high
    return True


@kernel
def _distinct_sorted(hashes: U64, most: np.uint64, keys: U64, at: np.uint64) -> np.uint64:
    """Write the keys of hashes up to `most`, each once, from `at` on: n log n whatever they are."""
    ordered = hashes.copy()
    _sort_words(ordered)
    for i in range(len(ordered)):
        if ordered[i] <= most and (i == 0 or ordered[i - 1] != ordered[i]):
            keys[at] = _mixed(ordered[i])
            at += _1
    return at


@kernel
def distinct_keys(hashes: U64, offsets: I64, most: np.uint64, table: U64, keys: U64, ends: I64) -> None:
    """Write the keys of each query's hashes up to `most`, each once, end to end.

    ``table`` has a power of two of places, twice as many as the longest query; ``ends`` (queries + 1, zeros).
    """
    at = _0
    for query in range(len(offsets) - 1):
        low, high = offsets[query], offsets[query + 1]
        is_ascending = True
        for i in range(low + 1, high):
            is_ascending &= hashes[i - 1] < hashes[i]
        if is_ascending:
            for i in range(low, high):
                keys[at] = _mixed(hashes[i])
                at += np.uint64(hashes[i] <= most)
        else:
            size = 1
            while size < 2 * (high - low):
                size *= 2
            mask, seen_zero, begin = np.uint64(size - 1), False, at
            left = _PATIENCE * size
            table[:size] = _0
            for i in range(low, high):
                if hashes[i] > most:
                    continue
                key = _mixed(hashes[i])
                place = (key * _STEP >> _32) & mask
                while table[place] != _0 and table[place] != key:
                    place = (place + _1) & mask
                    left -= 1
                if left < 0:
                    break
                if table[place] == key and (key != _0 or seen_zero):
                    continue
                seen_zero |= key == _0
                table[place] = key
                keys[at] = key
                at += _1
            if left < 0:
                at = _distinct_sorted(hashes[low:high], most, keys, begin)
        ends[query + 1] = np.int64(at)


@kernel
def _first_word(words: U64, low: np.uint64, high: np.uint64, least: np.uint64) -> np.uint64:
    while low < high:
        middle = (low + high) >> _1
        if words[middle] < least:
            low = middle + _1
        else:
            high = middle
    return low


@kernel
def _sort_found(rows: U32, counts: U32) -> None:
    """Sort by row, in steps that shrink (Ciura, "Best increments for the average case of Shellsort", 2001)."""
    gap = 1
    while gap < len(rows) // 2:
        gap = gap * 9 // 4 + 1
    while gap > 0:
        for i in range(gap, len(rows)):
            row, count = rows[i], counts[i]
            j = i
            while j >= gap and rows[j - gap] > row:
                rows[j], counts[j] = rows[j - gap], counts[j - gap]
                j -= gap
            rows[j], counts[j] = row, count
        gap = gap * 4 // 9


@kernel
def _count(row: np.uint64, counts: U32, touched: U32, met: np.uint64) -> np.uint64:
    touched[met] = np.uint32(row)
    met += np.uint64(counts[row] == 0)
    counts[row] += np.uint32(1)
    return met


@kernel
def count_shared(
    queries: U64, ends: I64, first: int, bits: int, starts: U32, words: U64, sizes: U32, dead: U8,
    of_query: float, of_set: float, scratch: U32, rows: U32, shared: U32, offsets: I64,
) -> tuple[int, Any]:  # fmt: skip
    """Count what each query shares with every set; keep sets with enough, ascending.

    A set is kept when it shares `of_query` of the query's elements or `of_set` of its own. The last 8 of ``words``
    are no postings; ``scratch`` (2 * sets + 1, the first `sets` zeros) is left as it was; ``offsets[query + 1]``
    receives where a query's sets end. Returns the first query that is not done, for want of room in `rows`, and
    the end of what is written; a directory or word out of bounds ends it with -1.
    """
    down, up = np.uint64(64 - bits), np.uint64(bits)
    span = _1 << up
    total, many, at = np.uint64(len(words) - 8), np.uint64(len(sizes)), 0
    counts, touched = scratch[:many], scratch[many:]
    for query in range(first, len(ends) - 1):
        met = _0
        for i in range(ends[query], ends[query + 1]):
            if i + 2 * _AHEAD < len(queries):  # the directory first; what it points at half the way later
                prefetch(starts, np.int64(queries[i + 2 * _AHEAD] >> down))
                prefetch(words, np.int64(starts[queries[i + _AHEAD] >> down]))
            key = queries[i]
            low, high = np.uint64(starts[key >> down]), np.uint64(starts[(key >> down) + _1])
            if low > high or high > total:
                return -1, at
            least = key << up
            if high - low > _LANES:
                low = _first_word(words, low, high, least)
                while low < high and words[low] - least < span:
                    row = words[low] - least
                    if row >= many:
                        return -1, at
                    met = _count(row, counts, touched, met)
                    low += _1
                continue
            same = mask_within(words, np.int64(low), least, span) & ((_1 << (high - low)) - _1)
            while same != _0:
                row = words[low + trailing_zeros(same)] - least
                if row >= many:
                    return -1, at
                met = _count(row, counts, touched, met)
                same &= same - _1
        size, begin = ends[query + 1] - ends[query], at
        is_short = at + np.int64(met) > len(rows)
        for j in range(met):
            row = np.uint64(touched[j])
            count = counts[row]
            counts[row] = np.uint32(0)
            if is_short or (len(dead) > 0 and (dead[row >> _3] >> np.uint8(row & _7)) & np.uint8(1)):
                continue
            if count >= of_query * size or count >= of_set * sizes[row]:
                rows[at], shared[at] = np.uint32(row), count
                at += 1
        if is_short:
            return query, begin
        _sort_found(rows[begin:at], shared[begin:at])
        offsets[query + 1] = at
    return len(ends) - 1, at
