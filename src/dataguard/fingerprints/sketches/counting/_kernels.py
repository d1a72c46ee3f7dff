"""Compiled loops of Bloom filter, FracMinHash, HyperLogLog and ProbMinHash.

They touch every element once; whatever needs a probability is worked out by the callers from a few counts.
The slow twin of every kernel lives in ``tests/test_sketches_counting.py``.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dataguard._jit import kernel
from dataguard._simd import block_has, block_set, mask_below, prefetch, trailing_zeros

__all__ = [
    "bloom_add",
    "bloom_contains",
    "bloom_count",
    "frac_keep",
    "hll_add",
    "weighted_sets",
]

U8 = NDArray[np.uint8]
U32 = NDArray[np.uint32]
U64 = NDArray[np.uint64]
I64 = NDArray[np.int64]
F64 = NDArray[np.float64]

_B32 = np.uint64(32)
_B3 = np.uint64(3)
_LOW = np.uint64(0xFFFFFFFF)

_AHEAD = 32
"""Elements between asking for a block and looking at it: 12 to 64 measure the same at 20 MB, none is 3x slower."""


@kernel
def _place(value: np.uint64, blocks: np.uint64) -> np.int64:
    return np.int64((((value >> _B32) * blocks) >> _B32) << _B3)


@kernel
def bloom_add(words: U32, hashes: U64) -> None:
    """Set the bits of all elements; ``words`` holds the blocks, 8 words each."""
    blocks, n = np.uint64(len(words) >> 3), len(hashes)
    lead = min(_AHEAD, n)
    for i in range(lead):
        prefetch(words, _place(hashes[i], blocks))
    for i in range(n - lead):
        prefetch(words, _place(hashes[i + _AHEAD], blocks))
        block_set(words, _place(hashes[i], blocks), np.uint32(hashes[i] & _LOW))
    for i in range(n - lead, n):
        block_set(words, _place(hashes[i], blocks), np.uint32(hashes[i] & _LOW))


@kernel
def bloom_contains(words: U32, hashes: U64, out: U8) -> None:
    """Write 1 for every element whose bits are all set, else 0."""
    blocks, n = np.uint64(len(words) >> 3), len(hashes)
    lead = min(_AHEAD, n)
    for i in range(lead):
        prefetch(words, _place(hashes[i], blocks))
    for i in range(n - lead):
        prefetch(words, _place(hashes[i + _AHEAD], blocks))
        out[i] = block_has(words, _place(hashes[i], blocks), np.uint32(hashes[i] & _LOW))
    for i in range(n - lead, n):
        out[i] = block_has(words, _place(hashes[i], blocks), np.uint32(hashes[i] & _LOW))


@kernel
def bloom_count(words: U32, hashes: U64) -> int:
    """Return how many elements have all their bits set."""
    blocks, n = np.uint64(len(words) >> 3), len(hashes)
    lead, found = min(_AHEAD, n), 0
    for i in range(lead):
        prefetch(words, _place(hashes[i], blocks))
    for i in range(n - lead):
        prefetch(words, _place(hashes[i + _AHEAD], blocks))
        found += int(block_has(words, _place(hashes[i], blocks), np.uint32(hashes[i] & _LOW)))
    for i in range(n - lead, n):
        found += int(block_has(words, _place(hashes[i], blocks), np.uint32(hashes[i] & _LOW)))
    return found


@kernel
def frac_keep(hashes: U64, bound: np.uint64, begin: int, out: U64) -> tuple[int, int]:
    """Copy elements below `bound` in their order, from element `begin` on; stop when `out` may be full.

    Returns how many were copied and the element to go on from. ``out`` holds at least 64.
    """
    n, kept, i, room = len(hashes), 0, begin, len(out) - 64
    whole = n - 64
    while i <= whole and kept <= room:
        mask = mask_below(hashes, i, bound)
        while mask != np.uint64(0):
            out[kept] = hashes[i + np.int64(trailing_zeros(mask))]
            kept += 1
            mask &= mask - np.uint64(1)
        i += 64
    if i > whole and kept <= room:
        while i < n:
            if hashes[i] < bound:
                out[kept] = hashes[i]
                kept += 1
            i += 1
    return kept, i


@kernel
def hll_add(registers: U8, hashes: U64, precision: int) -> None:
    """Raise register ``h >> (64 - p)`` to 1 + the trailing zeros of h, counted over the lower 64 - p bits."""
    away = np.uint64(64 - precision)
    guard = np.uint64(1) << away
    for i in range(len(hashes)):
        h = hashes[i]
        rank = np.uint8(trailing_zeros(h | guard) + np.uint64(1))
        at = np.int64(h >> away)
        registers[at] = max(registers[at], rank)


_STEP, _MIX1, _MIX2 = (
    np.uint64(0xD1342543DE82EF95),
    np.uint64(0xBF58476D1CE4E5B9),
    np.uint64(0x94D049BB133111EB),
)
_S27, _S30, _S31, _S12 = np.uint64(27), np.uint64(30), np.uint64(31), np.uint64(12)
_EMPTY = np.uint64(0xFFFFFFFFFFFFFFFF)
_ONE_BITS, _INF_BITS = np.uint64(0x3FF0000000000000), np.uint64(0x7FF0000000000000)
_BLOCK = 256
"""Elements whose points are made before any is entered: the making runs in vector registers."""


@kernel
def _log_series(y: float) -> float:
    # -log(1 - y) by its series up to y**12: for y <= 1/16 the rest is below 2**-51 of the sum. Plain sums and
    # products, so that every machine gives the same bits; a library's logarithm would not.
    s = 1 / 12
    s = s * y + 1 / 11
    s = s * y + 1 / 10
    s = s * y + 1 / 9
    s = s * y + 1 / 8
    s = s * y + 1 / 7
    s = s * y + 1 / 6
    s = s * y + 1 / 5
    s = s * y + 1 / 4
    s = s * y + 1 / 3
    s = s * y + 1 / 2
    s = s * y + 1.0
    return s * y


@kernel
def _largest(row: U64) -> np.uint64:
    most = np.uint64(0)
    for i in range(len(row)):
        most = max(most, row[i])
    return most


@kernel
def _points(hashes: U64, weights: F64, number: int, factors: F64, slot: U64, made: F64) -> None:
    """Make point `number` of every element: ``made`` is (number + x) / weight, ``slot`` holds the bits of the slot.

    x = log(1 - u / size) / log(1 - 1 / size), u uniform in [0, 1) from the upper 52 bits. ``factors``: 1 / size,
    1 / -log(1 - 1 / size).
    """
    step, first = _STEP * np.uint64(number + 1), float(number)
    share, scale = factors[0], factors[1]
    bits = made.view(np.uint64)
    for i in range(len(hashes)):
        # The finaliser of SplitMix64 (Steele, Lea, Flood, "Fast splittable pseudorandom number generators",
        # OOPSLA 2014). Its golden-ratio step is a usual hash multiplier too: elements hashed that way would
        # draw each other's numbers. The step here is the multiplier of Steele and Vigna 2021 (arXiv 2001.05304).
        z = hashes[i] + step
        z = (z ^ (z >> _S30)) * _MIX1
        z = (z ^ (z >> _S27)) * _MIX2
        z = z ^ (z >> _S31)
        slot[i] = z
        bits[i] = (z >> _S12) | _ONE_BITS
    for i in range(len(hashes)):
        made[i] = first + _log_series((made[i] - 1.0) * share) * scale
    # As a whole array: the division of single numbers is tested for zero, which keeps it out of vector registers.
    np.divide(made, weights, made)


@kernel
def _enter(hashes: U64, slot: U64, made: F64, limit: np.uint64, least: U64, who: U64) -> None:
    # Doubles that are not negative are ordered as their bits are; an infinite point or 0 / 0 lies above any limit.
    mask, bits = np.uint64(len(least) - 1), made.view(np.uint64)
    for i in range(len(hashes)):
        v = bits[i]
        if v <= limit:
            at = np.int64(slot[i] & mask)
            if v < least[at] or (v == least[at] and hashes[i] < who[at]):
                least[at] = v
                who[at] = hashes[i]


@kernel
def weighted_sets(hashes: U64, weights: F64, offsets: I64, least: U64, who: U64) -> None:
    """ProbMinHash3 of every set: ``least`` (sets, size) takes the bits of the least points, ``who`` their elements.

    Every element places one point into each interval [j, j + 1) / weight. Intervals are gone through for all
    elements at once (variant a of the paper), so that the largest of the least points, beyond which nothing
    can be entered, falls fast: 1,000 elements and 128 slots need about two points per element.
    """
    size, longest = least.shape[1], 0
    factors = np.empty(2, np.float64)
    factors[0] = 1.0 / size
    factors[1] = 1.0 / _log_series(factors[0])
    slot, made = np.empty(_BLOCK, np.uint64), np.empty(_BLOCK, np.float64)
    for s in range(len(offsets) - 1):
        longest = max(longest, offsets[s + 1] - offsets[s])
    rest, rest_weights = np.empty(longest, np.uint64), np.empty(longest, np.float64)
    bound = np.empty(1, np.float64)
    bound_bits = bound.view(np.uint64)
    for s in range(len(offsets) - 1):
        begin, left = offsets[s], offsets[s + 1] - offsets[s]
        elements, strengths = hashes[begin : begin + left], weights[begin : begin + left]
        least[s, :] = _INF_BITS
        who[s, :] = _EMPTY
        bound_bits[0] = _INF_BITS - np.uint64(1)
        number = 0
        while left > 0:
            for b in range(0, left, _BLOCK):
                e = min(b + _BLOCK, left)
                count = e - b
                _points(elements[b:e], strengths[b:e], number, factors, slot[:count], made[:count])
                _enter(elements[b:e], slot[:count], made[:count], bound_bits[0], least[s], who[s])
                bound_bits[0] = min(bound_bits[0], _largest(least[s]))
            number += 1
            keep = 0
            for i in range(left):
                rest[keep], rest_weights[keep] = elements[i], strengths[i]
                # An interval that begins beyond the bound is left out; the factor covers rounding.
                keep += int(number <= bound[0] * strengths[i] * 1.0000001)
            left = keep
            elements, strengths = rest[:left], rest_weights[:left]
