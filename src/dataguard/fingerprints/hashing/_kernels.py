"""Compiled loops of the internal mixer dgmum-1: short keys inside Arrow buffers, words, rows.

No kernel reads outside the array it is given: a string of at most 16 bytes that starts less
than 16 bytes before the end of its buffer is copied first, and every offset is checked
before it is followed, because a memory-mapped file may hold any. ``tests/test_hashing.py``
has the slow twins; :mod:`dataguard.fingerprints.hashing.schemes` has the definition in words.
"""

from __future__ import annotations

import numpy as np
from llvmlite.binding import get_host_cpu_features
from numpy.typing import NDArray

from dataguard._jit import inlined, kernel
from dataguard._simd import (
    load_u32x16,
    load_word,
    mul_wide,
    splat_u32x16,
    store_u32x16,
    vand,
    vmul,
    vshl,
    vshr,
    vxor,
)

__all__ = [
    "CONSTANTS",
    "STATE",
    "blank",
    "mum_absorb",
    "mum_bytes",
    "mum_last",
    "mum_merge",
    "mum_seed",
    "mum_seeded",
    "mum_strings",
    "mum_words",
]

I64 = NDArray[np.int64]
U8 = NDArray[np.uint8]
U64 = NDArray[np.uint64]

# The first 64 binary digits of the fractions of the square roots of 2, 3, 5, ..., 19 (as in FIPS 180-4, 5.3.5).
_K0, _K1 = np.uint64(0x6A09E667F3BCC908), np.uint64(0xBB67AE8584CAA73B)
_K2, _K3 = np.uint64(0x3C6EF372FE94F82B), np.uint64(0xA54FF53A5F1D36F1)
_K4, _K5 = np.uint64(0x510E527FADE682D1), np.uint64(0x9B05688C2B3E6C1F)
_K6, _K7 = np.uint64(0x1F83D9ABFB41BD6B), np.uint64(0x5BE0CD19137E2179)
_STATE = np.uint64(0x2F8DF4393206AF7A)  # of seed 0: the fold of K6 and K7

CONSTANTS = tuple(int(k) for k in (_K0, _K1, _K2, _K3, _K4, _K5, _K6, _K7))
STATE = int(_STATE)

# Four words for each length of a short key: what is kept of its first and second word, what is added to the
# second (seed 0), nothing. A table, because shifts by a variable amount and their border cases cost twice as
# many instructions; one table, because each one more takes a register away from the loop (both measured).
_BY_LENGTH = np.array(
    [
        [2 ** (8 * min(n, 8)) - 1, 2 ** (8 * max(n - 8, 0)) - 1, (n * CONSTANTS[4] + STATE) % 2**64, 0]
        for n in range(17)
    ],
    np.uint64,
).reshape(-1)

# For eight missing values at a time, as halves: where the bit of each is from the top, and the constant.
_PLACES = np.repeat(np.arange(31, 23, -1), 2).astype(np.uint32)
_MISSING = np.full(8, CONSTANTS[7], "<u8").view(np.uint32)

_ONE, _TWO, _FOUR = np.uint64(1), np.uint64(2), np.uint64(4)
_LOWER, _HALF, _TOP = np.uint64(0xFFFFFFFF), np.uint64(32), np.uint64(63)
_THREE, _SEVEN, _EIGHT = np.uint64(3), np.uint64(7), np.uint64(8)
_SHORT, _PAIR, _STRIPE, _MANY = np.uint64(16), np.uint64(32), np.uint64(64), np.uint64(256)
_B8, _B16, _B24, _B32 = np.int64(8), np.int64(16), np.int64(24), np.int64(32)
_B40, _B48, _B56, _B64 = np.int64(40), np.int64(48), np.int64(56), np.int64(64)


@inlined
def _fold(a: np.uint64, b: np.uint64) -> np.uint64:
    # Both factors are added to their product, so that no factor swallows the other: 0 would in the bare
    # product, 1 where they are combined by exclusive or (low = b, high = 0).
    low, high = mul_wide(a, b)
    return np.uint64((low ^ high) + (a + b))


@inlined
def _halves(a: np.uint64, b: np.uint64, half: np.uint64) -> tuple[np.uint64, np.uint64]:
    # The product of `mul_wide` from products of 32 bits, which the compiler does in lanes, eight at a time:
    # 16 bytes are absorbed in 0.5 ns instead of 1.0, and a word is hashed in 0.85 instead of 2.1 (measured).
    # `half` is 32. The compiler must not know that, or it recognises the scalar instruction and goes back.
    a0, a1, b0, b1 = a & _LOWER, a >> _HALF, b & _LOWER, b >> _HALF
    outer = a0 * b1
    middle = ((a0 * b0) >> _HALF) + (outer & _LOWER) + a1 * b0
    return a * b, a1 * b1 + (outer >> half) + (middle >> half)


# Without lanes that wide the scalar instruction is the faster one.
_LANES = bool(get_host_cpu_features().get("avx512dq"))


@inlined
def _fold_lanes(a: np.uint64, b: np.uint64, half: np.uint64) -> np.uint64:
    low, high = _halves(a, b, half) if _LANES else mul_wide(a, b)
    return np.uint64((low ^ high) + (a + b))


@inlined
def _finish_lanes(low: np.uint64, high: np.uint64, half: np.uint64) -> np.uint64:
    a = low + _K0
    p, q = _halves(a, high, half) if _LANES else mul_wide(a, high)
    return _fold_lanes((p + a) ^ _K2, (q + high) ^ _K3, half)


@inlined
def _half(out: U64) -> np.uint64:
    return _HALF + (np.uint64(len(out)) >> _TOP)  # no array is that long


@inlined
def _finish(low: np.uint64, high: np.uint64) -> np.uint64:
    a = low + _K0
    p, q = mul_wide(a, high)
    return _fold((p + a) ^ _K2, (q + high) ^ _K3)


@inlined
def _short(data: U8, at: np.int64, length: np.uint64, state: np.uint64) -> np.uint64:
    # At most 16 bytes, 16 readable.
    entry = length * _FOUR
    low = load_word(data, at) & _BY_LENGTH[entry]
    high = load_word(data, at + _B8) & _BY_LENGTH[entry + _ONE]
    return _finish(low, high + (_BY_LENGTH[entry + _TWO] + (state - _STATE)))


@inlined
def _absorb(data: U8, at: np.int64, state: np.uint64) -> np.uint64:
    return _fold(load_word(data, at) ^ _K5, load_word(data, at + _B8) ^ state)


@inlined
def _middle(data: U8, at: np.int64, length: np.uint64, state: np.uint64) -> np.uint64:
    # 17 to 64 bytes: two blocks of 16 or four, half of them counted from the end. Two cases instead of
    # four counts of blocks: what costs time here is a branch guessed wrong, not a multiplication.
    end = at + np.int64(length)
    state = _absorb(data, at, state)
    if length > _PAIR:
        state = _absorb(data, end - _B32, _absorb(data, at + _B16, state))
    return _finish(load_word(data, end - _B16), load_word(data, end - _B8) + (length * _K4 + state))


@kernel
def _lanes(data: U8, at: np.int64, end: np.int64, state: np.uint64) -> np.uint64:
    # Four lanes side by side over all but the last 64 bytes. A function of its own: inside the loop over
    # short keys its constants would take registers from it.
    s0, s1, s2, s3 = state ^ _K0, state ^ _K1, state ^ _K2, state ^ _K3
    while at < end - _B64:
        s0 = _fold(load_word(data, at) ^ _K4, load_word(data, at + _B8) ^ s0)
        s1 = _fold(load_word(data, at + _B16) ^ _K5, load_word(data, at + _B24) ^ s1)
        s2 = _fold(load_word(data, at + _B32) ^ _K6, load_word(data, at + _B40) ^ s2)
        s3 = _fold(load_word(data, at + _B48) ^ _K7, load_word(data, at + _B56) ^ s3)
        at += _B64
    return _fold(_fold(s0 ^ _K4, s1) ^ _K6, _fold(s2 ^ _K5, s3))


@inlined
def _long(data: U8, at: np.int64, length: np.uint64, state: np.uint64) -> np.uint64:
    # More than 64 bytes: block after block, all of them only up to 256.
    end = at + np.int64(length)
    if length > _MANY:
        state = _lanes(data, at, end, state)
        at = end - _B64
    while at < end - _B16:
        state = _absorb(data, at, state)
        at += _B16
    return _finish(load_word(data, end - _B16), load_word(data, end - _B8) + (length * _K4 + state))


@inlined
def _any(data: U8, at: np.int64, length: np.uint64, state: np.uint64) -> np.uint64:
    if length <= _SHORT:
        return _short(data, at, length, state)
    if length <= _STRIPE:
        return _middle(data, at, length, state)
    return _long(data, at, length, state)


@inlined
def mum_seed(seed: np.uint64) -> np.uint64:
    """Return the state that dgmum-1 starts from under a seed."""
    return _fold(seed ^ _K6, _K7)


@inlined
def mum_seeded(data: U8, at: np.int64, length: np.int64, state: np.uint64) -> np.uint64:
    """Return dgmum-1 of `length` bytes from `at` on, from a state of :func:`mum_seed`; 16 bytes must be readable."""
    return _any(data, at, np.uint64(length), state)


@inlined
def mum_bytes(data: U8, at: np.int64, length: np.int64) -> np.uint64:
    """Return dgmum-1 (seed 0) of `length` bytes from `at` on; at least 16 bytes must be readable there."""
    return _any(data, at, np.uint64(length), _STATE)


@kernel
def _run(data: U8, offsets: I64, i: np.uint64, out: U64) -> np.uint64:
    # Strings from row i on, up to one at the very end of the buffer or outside of it. No call inside:
    # with one, half of the registers are saved and restored for every string.
    size = np.int64(len(data))
    safe = size - _B16
    start = np.int64(offsets[i])
    while i < np.uint64(len(out)):
        end = np.int64(offsets[i + _ONE])
        length = np.uint64(end - start)
        if length > _SHORT:
            if length > np.uint64(size - start):
                break
            if length > _STRIPE:
                out[i] = _long(data, start, length, _STATE)
            else:
                out[i] = _middle(data, start, length, _STATE)
        else:
            if start > safe:
                break
            out[i] = _short(data, start, length, _STATE)
        start = end
        i += _ONE
    return i


@kernel
def mum_strings(data: U8, offsets: I64, out: U64) -> np.int64:
    """Fill `out` with dgmum-1 of the strings between `offsets`; -1, or the row whose offsets are wrong."""
    size, pad, i = np.int64(len(data)), np.zeros(16, np.uint8), np.uint64(0)
    if np.int64(offsets[0]) < 0 or np.int64(offsets[0]) > size:
        return np.int64(0)
    while True:
        i = _run(data, offsets, i, out)
        if i == np.uint64(len(out)):
            return np.int64(-1)
        start, end = np.int64(offsets[i]), np.int64(offsets[i + _ONE])
        if end < start or end > size:
            return np.int64(i)
        # Left over: at most 16 bytes, starting so late that 16 cannot be read.
        for k in range(end - start):
            pad[k] = data[start + k]
        out[i] = _short(pad, np.int64(0), np.uint64(end - start), _STATE)
        i += _ONE


@kernel
def mum_words(words: U64, out: U64) -> None:
    """Fill `out` with dgmum-1 of each word as 8 bytes, the low one first."""
    tail, half = _BY_LENGTH[34], _half(out)
    for i in range(np.uint64(len(out))):
        out[i] = _finish_lanes(words[i], tail, half)


@kernel
def mum_absorb(low: U64, high: U64, key: np.uint64, state: U64) -> None:
    """Absorb 16 bytes into every state: two words of each of many keys that are taken in side by side."""
    half = _half(state)
    for i in range(np.uint64(len(state))):
        state[i] = _fold_lanes(low[i] ^ key, high[i] ^ state[i], half)


@kernel
def mum_merge(state: U64, s1: U64, s2: U64, s3: U64) -> None:
    """Bring the four lanes of long keys together, into the first."""
    half = _half(state)
    for i in range(np.uint64(len(state))):
        a, b = _fold_lanes(state[i] ^ _K4, s1[i], half), _fold_lanes(s2[i] ^ _K5, s3[i], half)
        state[i] = _fold_lanes(a ^ _K6, b, half)


@kernel
def mum_last(low: U64, high: U64, length: np.uint64, state: U64) -> None:
    """Turn every state into the hash of a key of `length` bytes; `low` and `high` are its last 16."""
    more, half = length * _K4, _half(state)
    for i in range(np.uint64(len(state))):
        state[i] = _finish_lanes(low[i], high[i] + (more + state[i]), half)


@kernel
def blank(bits: U8, offset: np.uint64, out: U64) -> None:
    """Write the hash of a missing value over ``out[i]`` where bit ``offset + i``, lowest first, is 0."""
    n, i, at, lanes = np.uint64(len(out)), np.uint64(0), offset, out.view(np.uint32)
    places, missing = load_u32x16(_PLACES, np.int64(0)), load_u32x16(_MISSING, np.int64(0))
    top, all_bits = splat_u32x16(np.uint32(31)), splat_u32x16(np.uint32(0xFFFFFFFF))
    while i < n:
        shift = at & _SEVEN
        if (
            n - i >= _EIGHT
        ):  # eight at a time, as pairs of halves: 0.2 ns for each, one by one 0.65 (measured)
            both = np.uint64(bits[at >> _THREE]) | (np.uint64(bits[(at + _SEVEN) >> _THREE]) << _EIGHT)
            one = vshr(vshl(splat_u32x16(np.uint32(both >> shift)), places), top)
            to = np.int64(i + i)
            kept = vand(vxor(load_u32x16(lanes, to), missing), vmul(one, all_bits))
            store_u32x16(lanes, to, vxor(kept, missing))
            i += _EIGHT
            at += _EIGHT
        else:
            if (np.uint64(bits[at >> _THREE]) >> shift) & _ONE == np.uint64(0):
                out[i] = _K7
            i += _ONE
            at += _ONE
