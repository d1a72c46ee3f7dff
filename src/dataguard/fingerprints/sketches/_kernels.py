"""Compiled loops of the resemblance sketches: Fast Similarity Sketching and datasketch's two schemes.

Sets come end to end, set i being elements ``offsets[i]`` to ``offsets[i + 1]``. What the loops
compute is defined in :mod:`dataguard.fingerprints.sketches.resemblance`; measurements beside
the rules are of one core of a Zen 4 server.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dataguard._jit import inlined, kernel
from dataguard._simd import (
    any_below,
    load_u32x16,
    mask_below,
    mask_equal_u32,
    splat_u32x16,
    store_u32x16,
    trailing_zeros,
    vadd,
    vmin,
    vmul,
    vor,
    vshr,
)

__all__ = ["affine32_sets", "count_equal", "legacy_sets", "sketch_one", "sketch_sets"]

I64 = NDArray[np.int64]
U32 = NDArray[np.uint32]
U64 = NDArray[np.uint64]

EMPTY = np.uint32(0xFFFFFFFF)
_VALUE = np.uint64(34)
_HALF = np.uint64(32)
_SLOT1 = np.uint64(12)
_LEFT1 = np.uint64(30)
_ROUND1 = np.uint32(0x40000000)
_LAST = np.uint32(0xC0000000)
_TWO = np.uint32(2)
_ONE = np.uint64(1)
_NONE = np.uint64(0)
_DIRECT = 32
"""Sets of more than 32 k elements skip, 64 at a time, elements that can lower no slot."""
_BOTH = 4
"""Sets of up to 4 k elements leave slots empty (a share of e**-4), and go through both rounds at once."""
_SHORT = 56
"""Sets of up to so many elements work the last round out for all slots, without a list of the empty ones."""


@inlined
def _both_rounds(z: U64, start: int, stop: int, first: U32, second: U32, mask: np.uint64) -> None:
    for i in range(np.uint64(start), np.uint64(stop)):
        x = z[i]
        slot = x & mask
        other = (x >> _SLOT1) & mask
        first[slot] = min(first[slot], np.uint32(x >> _VALUE))
        second[other] = min(second[other], np.uint32((x << _LEFT1) >> _VALUE))


@inlined
def _first_round(z: U64, start: int, stop: int, first: U32, mask: np.uint64) -> None:
    i, end = np.uint64(start), np.uint64(stop)
    whole = i + (end - i) // np.uint64(4) * np.uint64(4)
    while i < whole:
        # Four at a time: the compiler does not unroll loops with stores that may meet.
        w, x, y, v = z[i], z[i + _ONE], z[i + np.uint64(2)], z[i + np.uint64(3)]
        i += np.uint64(4)
        first[w & mask] = min(first[w & mask], np.uint32(w >> _VALUE))
        first[x & mask] = min(first[x & mask], np.uint32(x >> _VALUE))
        first[y & mask] = min(first[y & mask], np.uint32(y >> _VALUE))
        first[v & mask] = min(first[v & mask], np.uint32(v >> _VALUE))
    while i < end:
        w = z[i]
        i += _ONE
        first[w & mask] = min(first[w & mask], np.uint32(w >> _VALUE))


@inlined
def _second_round(z: U64, start: int, stop: int, second: U32, mask: np.uint64) -> None:
    for i in range(np.uint64(start), np.uint64(stop)):
        x = z[i]
        slot = (x >> _SLOT1) & mask
        second[slot] = min(second[slot], np.uint32((x << _LEFT1) >> _VALUE))


@inlined
def _bound(first: U32) -> np.uint64:
    """Elements from here on lower no slot; all slots must be filled."""
    largest = np.uint32(0)
    for j in range(len(first)):
        largest = max(largest, first[j])
    return np.uint64(largest) << _VALUE


@inlined
def _rest_of_large(z: U64, start: int, stop: int, first: U32, mask: np.uint64) -> None:
    """First round of the elements that can still lower some slot: most cannot, once a set is large."""
    bound, hits = _bound(first), 0
    whole = start + (stop - start) // 64 * 64
    for i in range(start, whole, 64):
        if any_below(z, i, bound):
            below = mask_below(z, i, bound)
            while below != _NONE:
                x = z[np.uint64(i) + trailing_zeros(below)]
                below &= below - _ONE
                first[x & mask] = min(first[x & mask], np.uint32(x >> _VALUE))
                hits += 1
            # A new bound costs about as much as a few hits.
            if hits >= 16:
                hits, bound = 0, _bound(first)
    _first_round(z, whole, stop, first, mask)


@inlined
def _minima16(z: U64, start: int, stop: int, a: U32, at: int, out: U32, to: int) -> None:
    """Write the least ``a[j] h`` over the upper halves h of the elements, for 16 multipliers."""
    a0, m0 = load_u32x16(a, at), splat_u32x16(EMPTY)
    for i in range(np.uint64(start), np.uint64(stop)):
        m0 = vmin(m0, vmul(a0, splat_u32x16(np.uint32(z[i] >> _HALF))))
    store_u32x16(out, to, m0)


@inlined
def _minima64(z: U64, start: int, stop: int, a: U32, at: int, out: U32, to: int) -> None:
    """Write the least ``a[j] h`` over the upper halves h of the elements, for 64 multipliers."""
    a0, a1 = load_u32x16(a, at), load_u32x16(a, at + 16)
    a2, a3 = load_u32x16(a, at + 32), load_u32x16(a, at + 48)
    m0 = splat_u32x16(EMPTY)
    m1, m2, m3 = m0, m0, m0
    for i in range(np.uint64(start), np.uint64(stop)):
        x = splat_u32x16(np.uint32(z[i] >> _HALF))
        m0 = vmin(m0, vmul(a0, x))
        m1 = vmin(m1, vmul(a1, x))
        m2 = vmin(m2, vmul(a2, x))
        m3 = vmin(m3, vmul(a3, x))
    store_u32x16(out, to, m0)
    store_u32x16(out, to + 16, m1)
    store_u32x16(out, to + 32, m2)
    store_u32x16(out, to + 48, m3)


@inlined
def _choose(first: U32, second: U32, last: U32, out: U32, at: int, size: int) -> None:
    """Write the rounds of a short set into its slots, and make them empty again for the next."""
    empty, round1, final = splat_u32x16(EMPTY), splat_u32x16(_ROUND1), splat_u32x16(_LAST)
    two = splat_u32x16(_TWO)
    for j in range(0, size, 16):
        # Or-ing the tag leaves an empty slot as it is: all ones.
        value = vmin(load_u32x16(first, j), vor(round1, load_u32x16(second, j)))
        store_u32x16(out, at + j, vmin(value, vor(final, vshr(load_u32x16(last, j), two))))
        store_u32x16(first, j, empty)
        store_u32x16(second, j, empty)


@inlined
def _close(first: U32, second: U32, out: U32, at: int, size: int) -> bool:
    """As `_choose` without a last round; says whether a slot is left empty."""
    empty, round1 = splat_u32x16(EMPTY), splat_u32x16(_ROUND1)
    for j in range(0, size, 16):
        store_u32x16(out, at + j, vmin(load_u32x16(first, j), vor(round1, load_u32x16(second, j))))
        store_u32x16(first, j, empty)
        store_u32x16(second, j, empty)
    left = False
    for j in range(0, size, 64):
        left |= mask_equal_u32(out, at + j, EMPTY) != _NONE
    return left


@inlined
def _fill(z: U64, start: int, stop: int, a: U32, out: U32, at: int, size: int, room: U32) -> None:
    """Last round for the slots that are still empty."""
    packed, where, least = room[:size], room[size : 2 * size], room[2 * size : 3 * size]
    found = _NONE
    for part in range(0, size, 64):
        empty = mask_equal_u32(out, at + part, EMPTY)
        while empty != _NONE:
            j = np.uint64(part) + trailing_zeros(empty)
            empty &= empty - _ONE
            packed[found] = a[j]
            where[found] = np.uint32(j)
            found += _ONE
    n, done = np.int64(found), 0
    while done < n:
        if n - done > 32:
            _minima64(z, start, stop, packed, done, least, done)
            done += 64
        else:
            _minima16(z, start, stop, packed, done, least, done)
            done += 16
    for i in range(found):
        out[np.uint64(at) + np.uint64(where[i])] = _LAST | (least[i] >> _TWO)


@inlined
def _has_empty(first: U32, size: int) -> bool:
    left = False
    for j in range(0, size, 64):
        left |= mask_equal_u32(first, np.int64(j), EMPTY) != _NONE
    return left


@inlined
def _sketch(
    z: U64, start: int, stop: int, a: U32, first: U32, second: U32, room: U32, out: U32, at: int
) -> None:
    """Sketch of ``z[start:stop]`` into ``out[at : at + len(a)]``.

    ``a`` are odd multipliers, as many as slots, a power of two from 64 to 4096. ``first`` and ``second`` are as
    long, empty when the call begins and when it ends; ``room`` is scratch three times as long.
    """
    size, n = len(a), stop - start
    mask = np.uint64(size - 1)
    if n <= _SHORT:
        _both_rounds(z, start, stop, first, second, mask)
        for j in range(0, size, 64):
            _minima64(z, start, stop, a, j, room, j)
        _choose(first, second, room, out, at, size)
        return
    if n <= _BOTH * size:
        _both_rounds(z, start, stop, first, second, mask)
    else:
        left = start
        while left < stop:
            direct = min(stop, left + _DIRECT * size)
            _first_round(z, left, direct, first, mask)
            left = direct
            if left < stop and not _has_empty(first, size):
                _rest_of_large(z, left, stop, first, mask)
                left = stop
        if _has_empty(first, size):
            _second_round(z, start, stop, second, mask)
    if _close(first, second, out, at, size):
        _fill(z, start, stop, a, out, at, size, room)


@kernel
def sketch_one(
    z: U64, start: int, stop: int, a: U32, first: U32, second: U32, room: U32, out: U32, at: int
) -> None:
    """Sketch one set; as :func:`_sketch`, for other kernels."""
    _sketch(z, start, stop, a, first, second, room, out, at)


@kernel
def sketch_sets(z: U64, offsets: I64, a: U32, first: U32, second: U32, room: U32, out: U32) -> None:
    """Sketch every set: ``out[i * size : (i + 1) * size]``, see :func:`_sketch`."""
    for i in range(len(offsets) - 1):
        _sketch(z, offsets[i], offsets[i + 1], a, first, second, room, out, i * len(a))


@inlined
def _affine64(h: U32, n: int, a: U32, b: U32, at: int, out: U32, to: int) -> None:
    a0, b0 = load_u32x16(a, at), load_u32x16(b, at)
    a1, b1 = load_u32x16(a, at + 16), load_u32x16(b, at + 16)
    a2, b2 = load_u32x16(a, at + 32), load_u32x16(b, at + 32)
    a3, b3 = load_u32x16(a, at + 48), load_u32x16(b, at + 48)
    m0, m1 = load_u32x16(out, to), load_u32x16(out, to + 16)
    m2, m3 = load_u32x16(out, to + 32), load_u32x16(out, to + 48)
    for i in range(np.uint64(n)):
        x = splat_u32x16(h[i])
        m0 = vmin(m0, vadd(vmul(a0, x), b0))
        m1 = vmin(m1, vadd(vmul(a1, x), b1))
        m2 = vmin(m2, vadd(vmul(a2, x), b2))
        m3 = vmin(m3, vadd(vmul(a3, x), b3))
    store_u32x16(out, to, m0)
    store_u32x16(out, to + 16, m1)
    store_u32x16(out, to + 32, m2)
    store_u32x16(out, to + 48, m3)


@inlined
def _affine_rest(h: U32, n: int, a: U32, b: U32, start: int, size: int, out: U32, to: int) -> None:
    for j in range(start, size):
        least = out[to + j]
        for i in range(n):
            least = min(least, np.uint32(a[j] * h[i] + b[j]))
        out[to + j] = least


@inlined
def _mix32(x: np.uint32) -> np.uint32:
    # The finaliser of MurmurHash3 (Appleby), which datasketch's affine32 puts before the permutations. Numba
    # works uint32 out in 64 bits: every product is cut back.
    x = np.uint32(x ^ (x >> np.uint32(16)))
    x = np.uint32(x * np.uint32(0x85EBCA6B))
    x = np.uint32(x ^ (x >> np.uint32(13)))
    x = np.uint32(x * np.uint32(0xC2B2AE35))
    return np.uint32(x ^ (x >> np.uint32(16)))


@kernel
def affine32_sets(hashes: U32, offsets: I64, a: U32, b: U32, room: U32, size: int, out: U32) -> None:
    """Lower every set to datasketch's ``affine32``, the least ``a[j] fmix32(h) + b[j]`` modulo 2**32 per slot.

    ``out`` (sets times `size`) holds the values to start from; ``room`` is scratch of any size.
    """
    chunk, whole = len(room), size // 64 * 64
    for i in range(len(offsets) - 1):
        for first in range(offsets[i], offsets[i + 1], chunk):
            n = min(chunk, offsets[i + 1] - first)
            for j in range(n):
                room[j] = _mix32(hashes[first + j])
            for j in range(0, whole, 64):
                _affine64(room, n, a, b, j, out, i * size + j)
            _affine_rest(room, n, a, b, whole, size, out, i * size)


@kernel
def legacy_sets(hashes: U64, offsets: I64, a: U64, b: U64, size: int, out: U64) -> None:
    """Lower every set to datasketch's ``legacy``: least ((a h + b) mod 2**64 mod (2**61 - 1)) & 0xffffffff per slot.

    ``out`` (sets times `size`) holds the values to start from.
    """
    prime, low = np.uint64((1 << 61) - 1), np.uint64(0xFFFFFFFF)
    for i in range(len(offsets) - 1):
        for e in range(offsets[i], offsets[i + 1]):
            h = hashes[e]
            for j in range(size):
                x = a[j] * h + b[j]
                x = (x & prime) + (x >> np.uint64(61))
                x = (x - prime if x >= prime else x) & low
                out[i * size + j] = min(out[i * size + j], x)


@kernel
def count_equal(one: U32, other: U32, size: int, out: I64) -> None:
    """Count, pair by pair of sketches, the slots that are equal and filled."""
    for i in range(len(out)):
        equal = 0
        for j in range(i * size, (i + 1) * size):
            equal += (one[j] == other[j]) & (one[j] != EMPTY)
        out[i] = equal
