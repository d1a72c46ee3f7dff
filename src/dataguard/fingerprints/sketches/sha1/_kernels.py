"""SHA-1 (FIPS 180-4, section 6.1) of many strings, sixteen at a time.

datasketch hashes every element with SHA-1 and keeps 4 or 8 bytes of it. Whoever needs the same
numbers needs the same hash; one call into a library per element would be most of the time.
Sixteen strings run side by side in the lanes of one vector, block by block.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dataguard._jit import kernel
from dataguard._simd import load_u32x16, splat_u32x16, store_u32x16, vadd, vand, vor, vshl, vshr, vxor

__all__ = ["LANES", "sha1_words"]

I64 = NDArray[np.int64]
U8 = NDArray[np.uint8]
U32 = NDArray[np.uint32]
U64 = NDArray[np.uint64]

LANES = 16
_SHORT = 55
"""Longest string that fits one block of 64 bytes with its end mark and 8 bytes of length."""

_H0, _H1, _H2 = np.uint32(0x67452301), np.uint32(0xEFCDAB89), np.uint32(0x98BADCFE)
_H3, _H4 = np.uint32(0x10325476), np.uint32(0xC3D2E1F0)
_K0, _K1 = np.uint32(0x5A827999), np.uint32(0x6ED9EBA1)
_K2, _K3 = np.uint32(0x8F1BBCDC), np.uint32(0xCA62C1D6)
_ONE, _TWO, _FIVE, _EIGHT = np.uint32(1), np.uint32(2), np.uint32(5), np.uint32(8)
_W24, _W27, _W30, _W31 = np.uint32(24), np.uint32(27), np.uint32(30), np.uint32(31)
_LOW, _MIDDLE = np.uint32(0xFF00), np.uint32(0xFF0000)


@kernel
def _left1(x: Any) -> Any:
    return vor(vshl(x, splat_u32x16(_ONE)), vshr(x, splat_u32x16(_W31)))


@kernel
def _left5(x: Any) -> Any:
    return vor(vshl(x, splat_u32x16(_FIVE)), vshr(x, splat_u32x16(_W27)))


@kernel
def _left30(x: Any) -> Any:
    return vor(vshl(x, splat_u32x16(_W30)), vshr(x, splat_u32x16(_TWO)))


@kernel
def _swap(x: np.uint32) -> np.uint32:
    return np.uint32((x >> _W24) | ((x >> _EIGHT) & _LOW) | ((x << _EIGHT) & _MIDDLE) | (x << _W24))


@kernel
def _schedule(w: U32) -> None:
    """Words 16 to 79 of sixteen blocks; word t of lane l is ``w[16 t + l]``."""
    for t in range(16, 80):
        at = LANES * t
        x = vxor(load_u32x16(w, at - 3 * LANES), load_u32x16(w, at - 8 * LANES))
        y = vxor(load_u32x16(w, at - 14 * LANES), load_u32x16(w, at - 16 * LANES))
        store_u32x16(w, at, _left1(vxor(x, y)))


@kernel
def _rounds(w: U32, s: U32) -> None:
    """Work sixteen blocks into the five words of state ``s[16 v + l]``."""
    a, b, c = load_u32x16(s, 0), load_u32x16(s, LANES), load_u32x16(s, 2 * LANES)
    d, e = load_u32x16(s, 3 * LANES), load_u32x16(s, 4 * LANES)
    k0, k1, k2, k3 = splat_u32x16(_K0), splat_u32x16(_K1), splat_u32x16(_K2), splat_u32x16(_K3)
    for t in range(20):
        f = vxor(d, vand(b, vxor(c, d)))
        x = vadd(vadd(_left5(a), f), vadd(vadd(e, k0), load_u32x16(w, LANES * t)))
        e, d, c, b, a = d, c, _left30(b), a, x
    for t in range(20, 40):
        f = vxor(vxor(b, c), d)
        x = vadd(vadd(_left5(a), f), vadd(vadd(e, k1), load_u32x16(w, LANES * t)))
        e, d, c, b, a = d, c, _left30(b), a, x
    for t in range(40, 60):
        f = vor(vand(b, c), vand(d, vor(b, c)))
        x = vadd(vadd(_left5(a), f), vadd(vadd(e, k2), load_u32x16(w, LANES * t)))
        e, d, c, b, a = d, c, _left30(b), a, x
    for t in range(60, 80):
        f = vxor(vxor(b, c), d)
        x = vadd(vadd(_left5(a), f), vadd(vadd(e, k3), load_u32x16(w, LANES * t)))
        e, d, c, b, a = d, c, _left30(b), a, x
    store_u32x16(s, 0, vadd(a, load_u32x16(s, 0)))
    store_u32x16(s, LANES, vadd(b, load_u32x16(s, LANES)))
    store_u32x16(s, 2 * LANES, vadd(c, load_u32x16(s, 2 * LANES)))
    store_u32x16(s, 3 * LANES, vadd(d, load_u32x16(s, 3 * LANES)))
    store_u32x16(s, 4 * LANES, vadd(e, load_u32x16(s, 4 * LANES)))


@kernel
def _fill(data: U8, start: int, length: int, block: int, w: U32, lane: int) -> None:
    """Block number `block` of one padded string as sixteen big-endian words of a lane."""
    first = 64 * block
    whole = max(0, min(16, (length - first) >> 2))
    at = start + first
    for t in range(whole):
        p = at + 4 * t
        w[LANES * t + lane] = (
            (np.uint32(data[p]) << _W24)
            | (np.uint32(data[p + 1]) << np.uint32(16))
            | (np.uint32(data[p + 2]) << _EIGHT)
            | np.uint32(data[p + 3])
        )
    for t in range(whole, 16):
        w[LANES * t + lane] = np.uint32(0)
    if whole < 16 and length >= first:
        # The last bytes and the end mark share a word.
        last = np.uint32(0)
        tail = length - first - 4 * whole
        for i in range(tail):
            last |= np.uint32(data[at + 4 * whole + i]) << np.uint32(24 - 8 * i)
        w[LANES * whole + lane] = last | (np.uint32(0x80) << np.uint32(24 - 8 * tail))
    if length + 9 <= first + 64:
        bits = np.uint64(length) << np.uint64(3)
        w[LANES * 14 + lane] = np.uint32(bits >> np.uint64(32))
        w[LANES * 15 + lane] = np.uint32(bits & np.uint64(0xFFFFFFFF))


@kernel
def sha1_words(data: U8, offsets: I64, w: U32, s: U32, out: U64) -> None:
    """First 8 bytes of the SHA-1 of every string, as one little-endian word.

    String i is ``data[offsets[i] : offsets[i + 1]]``. ``w`` (80 times 16) and ``s`` (5 times 16) are scratch.
    """
    for first in range(0, len(out), LANES):
        n = min(LANES, len(out) - first)
        for lane in range(LANES):
            s[lane] = _H0
            s[LANES + lane] = _H1
            s[2 * LANES + lane] = _H2
            s[3 * LANES + lane] = _H3
            s[4 * LANES + lane] = _H4
        most = 0
        for lane in range(n):
            most = max(most, offsets[first + lane + 1] - offsets[first + lane])
        for block in range((most + 8) // 64 + 1):
            for lane in range(n):
                start = offsets[first + lane]
                _fill(data, start, offsets[first + lane + 1] - start, block, w, lane)
            _schedule(w)
            _rounds(w, s)
            for lane in range(n):
                # A string is done with the block that holds its length; later blocks are other lanes' business.
                length = offsets[first + lane + 1] - offsets[first + lane]
                if block == (length + 8) // 64:
                    low, high = _swap(s[lane]), _swap(s[LANES + lane])
                    out[first + lane] = np.uint64(low) | (np.uint64(high) << np.uint64(32))
