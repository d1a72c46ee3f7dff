"""Compiled XXH3 (64 bits, seed 0), bit for bit the hash of the xxhash package, for keys inside Arrow buffers.

Written from the XXH3 section of the xxHash specification (Collet, 2023 edition). Keys of at
most 16 bytes take one path without a branch on their length: the three formulas are worked
out side by side and one is kept, which is cheaper than guessing wrong. Long keys use vectors.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dataguard._jit import inlined, kernel
from dataguard._simd import load_word, mul_wide, xxh3_block, xxh3_load, xxh3_store, xxh3_stripe

__all__ = ["xxh3_bytes", "xxh3_rows", "xxh3_strings", "xxh3_words"]

I64 = NDArray[np.int64]
U8 = NDArray[np.uint8]
U64 = NDArray[np.uint64]

_KEY_HEX = (
    "b8fe6c3923a44bbe7c01812cf721ad1cded46de9839097db7240a4a4b7b3671fcb79e64eccc0e578825ad07dccff7221"
    "b8084674f743248ee03590e6813a264c3c2852bb91c300cb88d0658b1b532ea371644897a20df94e3819ef46a9deacd8"
    "a8fa763fe39c343ff9dcbbc7c70b4f1d8a51e04bcdb45931c89f7ec9d9787364eac5ac8334d3ebc3c581a0fffa1363eb"
    "170ddd51b7f0da49d316552629d4689e2b16be587d47a1fc8ff8b8d17ad031ce45cb3a8f95160428afd7fbcabb4b407e"
)
_RAW = bytes.fromhex(_KEY_HEX)
_SECRET = np.frombuffer(_RAW, np.uint8).copy()


def _word(at: int) -> int:
    return int.from_bytes(_RAW[at : at + 8], "little")


_P32_1, _P32_2, _P32_3 = np.uint64(0x9E3779B1), np.uint64(0x85EBCA77), np.uint64(0xC2B2AE3D)
_P64_1, _P64_2 = np.uint64(0x9E3779B185EBCA87), np.uint64(0xC2B2AE3D27D4EB4F)
_P64_3, _P64_4 = np.uint64(0x165667B19E3779F9), np.uint64(0x85EBCA77C2B2AE63)
_P64_5 = np.uint64(0x27D4EB2F165667C5)
_START = np.array([_P32_3, _P64_1, _P64_2, _P64_3, _P64_4, _P32_2, _P64_5, _P32_1], np.uint64)

_EMPTY = np.uint64(0x2D06800538D394C2)
_FLIP_3 = np.uint64((_word(0) ^ (_word(0) >> 32)) & 0xFFFFFFFF)
_FLIP_8 = np.uint64(_word(8) ^ _word(16))
_FLIP_LOW, _FLIP_HIGH = np.uint64(_word(24) ^ _word(32)), np.uint64(_word(40) ^ _word(48))

_LOW = np.array([2 ** (8 * min(n, 8)) - 1 for n in range(17)], np.uint64)
_AVALANCHE, _RRMXMX = np.uint64(0x165667919E3779F9), np.uint64(0x9FB21C651E98DF25)
_HALF = np.uint64(0xFFFFFFFF)
_S1, _S2, _S3, _S4, _S8, _S56 = (
    np.uint64(1),
    np.uint64(2),
    np.uint64(3),
    np.uint64(4),
    np.uint64(8),
    np.uint64(56),
)
_S16, _S24, _S32, _S33 = np.uint64(16), np.uint64(24), np.uint64(32), np.uint64(33)
_S28, _S29, _S35, _S37 = np.uint64(28), np.uint64(29), np.uint64(35), np.uint64(37)
_S48, _S49, _S15, _S40 = np.uint64(48), np.uint64(49), np.uint64(15), np.uint64(40)
_BYTE, _BYTES, _PAIRS = np.uint64(0xFF), np.uint64(0x00FF00FF00FF00FF), np.uint64(0x0000FFFF0000FFFF)
_SHORT, _MIDDLE, _LONG = np.uint64(16), np.uint64(128), np.uint64(240)


@inlined
def _fold(a: np.uint64, b: np.uint64) -> np.uint64:
    low, high = mul_wide(a, b)
    return np.uint64(low ^ high)


@inlined
def _avalanche(x: np.uint64) -> np.uint64:
    x = (x ^ (x >> _S37)) * _AVALANCHE
    return x ^ (x >> _S32)


@inlined
def _old_avalanche(x: np.uint64) -> np.uint64:
    x = (x ^ (x >> _S33)) * _P64_2
    x = (x ^ (x >> _S29)) * _P64_3
    return x ^ (x >> _S32)


@inlined
def _swap_bytes(x: np.uint64) -> np.uint64:
    x = ((x >> _S8) & _BYTES) | ((x & _BYTES) << _S8)
    x = ((x >> _S16) & _PAIRS) | ((x & _PAIRS) << _S16)
    return (x >> _S32) | (x << _S32)


@inlined
def _up_to_three(low: np.uint64, length: np.uint64) -> np.uint64:
    first, middle = low & _BYTE, (low >> ((length << _S2) & _S56)) & _BYTE
    last = (low >> (((length - _S1) << _S3) & _S56)) & _BYTE
    return _old_avalanche(((first << _S16) | (middle << _S24) | last | (length << _S8)) ^ _FLIP_3)


@inlined
def _up_to_eight(low: np.uint64, length: np.uint64) -> np.uint64:
    # `low` is the whole key, zeros behind; the two halves that the specification reads may overlap.
    x = (low << _S32) + ((low >> (((length - _S4) << _S3) & _S56)) & _HALF) ^ _FLIP_8
    x ^= ((x << _S49) | (x >> _S15)) ^ ((x << _S24) | (x >> _S40))
    x *= _RRMXMX
    x = (x ^ ((x >> _S35) + length)) * _RRMXMX
    return x ^ (x >> _S28)


@inlined
def _up_to_sixteen(low: np.uint64, high: np.uint64, length: np.uint64) -> np.uint64:
    low ^= _FLIP_LOW
    high ^= _FLIP_HIGH
    return _avalanche(length + _swap_bytes(low) + high + _fold(low, high))


@inlined
def _short(data: U8, at: np.int64, length: np.uint64) -> np.uint64:
    # 1 to 16 bytes, 16 readable. The last eight bytes of a short key are not needed: read the first instead.
    low = load_word(data, at)
    more = np.uint64(length > _S8)
    high = load_word(data, at + np.int64((length - _S8) & (np.uint64(0) - more)))
    key = low & _LOW[length]
    few = np.uint64(length < _S4)
    h3, h8 = _up_to_three(key, length), _up_to_eight(key, length)
    h16 = _up_to_sixteen(low, high, length)
    keep_3, keep_16 = np.uint64(0) - few, np.uint64(0) - more
    return (h3 & keep_3) | (h16 & keep_16) | (h8 & ~(keep_3 | keep_16))


@inlined
def _mix(data: U8, at: np.int64, key: np.int64) -> np.uint64:
    return _fold(
        load_word(data, at) ^ load_word(_SECRET, key),
        load_word(data, at + np.int64(8)) ^ load_word(_SECRET, key + np.int64(8)),
    )


@inlined
def _up_to_128(data: U8, at: np.int64, length: np.uint64) -> np.uint64:
    end = at + np.int64(length)
    total = length * _P64_1
    total += _mix(data, at, np.int64(0)) + _mix(data, end - np.int64(16), np.int64(16))
    if length > np.uint64(32):
        total += _mix(data, at + np.int64(16), np.int64(32)) + _mix(data, end - np.int64(32), np.int64(48))
        if length > np.uint64(64):
            total += _mix(data, at + np.int64(32), np.int64(64)) + _mix(
                data, end - np.int64(48), np.int64(80)
            )
            if length > np.uint64(96):
                total += _mix(data, at + np.int64(48), np.int64(96))
                total += _mix(data, end - np.int64(64), np.int64(112))
    return _avalanche(total)


@inlined
def _up_to_240(data: U8, at: np.int64, length: np.uint64) -> np.uint64:
    total = length * _P64_1
    for k in range(8):
        total += _mix(data, at + np.int64(16 * k), np.int64(16 * k))
    total = _avalanche(total)
    for k in range(8, np.int64(length) >> 4):
        total += _mix(data, at + np.int64(16 * k), np.int64(16 * k - 125))
    return _avalanche(total + _mix(data, at + np.int64(length) - np.int64(16), np.int64(119)))


@kernel
def _beyond_240(data: U8, at: np.int64, length: np.uint64, sums: U64) -> np.uint64:
    # `sums`: room for 8 words.
    end = at + np.int64(length)
    acc = xxh3_load(_START, np.int64(0))
    while at + np.int64(1024) < end:
        acc = xxh3_block(acc, data, at, _SECRET)
        at += np.int64(1024)
    key = np.int64(0)
    while at + np.int64(64) < end:
        acc = xxh3_stripe(acc, data, at, _SECRET, key)
        at += np.int64(64)
        key += np.int64(8)
    acc = xxh3_stripe(acc, data, end - np.int64(64), _SECRET, np.int64(121))
    xxh3_store(sums, np.int64(0), acc)
    total = length * _P64_1
    for k in range(np.uint64(4)):
        left = sums[k << _S1] ^ load_word(_SECRET, np.int64(k << _S4) + np.int64(11))
        right = sums[(k << _S1) + _S1] ^ load_word(_SECRET, np.int64(k << _S4) + np.int64(19))
        total += _fold(left, right)
    return _avalanche(total)


@inlined
def _from_17(data: U8, at: np.int64, length: np.uint64, sums: U64) -> np.uint64:
    if length <= _MIDDLE:
        return _up_to_128(data, at, length)
    if length <= _LONG:
        return _up_to_240(data, at, length)
    return _beyond_240(data, at, length, sums)


@kernel
def xxh3_bytes(data: U8, at: np.int64, length: np.int64, sums: U64) -> np.uint64:
    """Return XXH3 of `length` bytes from `at` on; at least 16 must be readable there; `sums` is room for 8 words."""
    if length == 0:
        return _EMPTY
    if np.uint64(length) <= _SHORT:
        return _short(data, at, np.uint64(length))
    return _from_17(data, at, np.uint64(length), sums)


@kernel
def _run(data: U8, offsets: I64, i: np.uint64, sums: U64, out: U64) -> np.uint64:
    # Strings from row i on, up to one that is empty, at the very end of the buffer, or outside of it.
    size = np.int64(len(data))
    safe = size - np.int64(16)
    start = np.int64(offsets[i])
    while i < np.uint64(len(out)):
        end = np.int64(offsets[i + _S1])
        length = np.uint64(end - start)
        if length - _S1 >= _SHORT:
            if length == 0 or length > np.uint64(size - start):
                break
            out[i] = _from_17(data, start, length, sums)
        else:
            if start > safe:
                break
            out[i] = _short(data, start, length)
        start = end
        i += _S1
    return i


@kernel
def xxh3_strings(data: U8, offsets: I64, out: U64) -> np.int64:
    """Fill `out` with XXH3 of the strings between `offsets`; -1, or the row whose offsets are wrong."""
    pad, sums = np.zeros(16, np.uint8), np.zeros(8, np.uint64)
    size = np.int64(len(data))
    if np.int64(offsets[0]) < 0 or np.int64(offsets[0]) > size:
        return np.int64(0)
    i = np.uint64(0)
    while True:
        i = _run(data, offsets, i, sums, out)
        if i == np.uint64(len(out)):
            return np.int64(-1)
        start, end = np.int64(offsets[i]), np.int64(offsets[i + _S1])
        if end < start or end > size:
            return np.int64(i)
        for k in range(min(end - start, np.int64(16))):
            pad[k] = data[start + k]
        out[i] = xxh3_bytes(pad, np.int64(0), end - start, sums)
        i += _S1


@kernel
def xxh3_words(words: U64, out: U64) -> None:
    """Fill `out` with XXH3 of each word as 8 bytes, the low one first."""
    for i in range(np.uint64(len(words))):
        out[i] = _up_to_eight(words[i], _S8)


@kernel
def xxh3_rows(cells: U8, width: np.int64, out: U64) -> None:
    """Fill `out` with XXH3 of rows of `width` bytes, end to end in `cells`; 16 must be readable of the last."""
    sums = np.zeros(8, np.uint64)
    for i in range(np.uint64(len(out))):
        out[i] = xxh3_bytes(cells, np.int64(i) * width, width, sums)
