"""Every machine operation beside its plain twin in Python integers or numpy."""

from __future__ import annotations

import numpy as np
import pytest

from dataguard import _simd
from dataguard._jit import kernel
from dataguard._simd import (
    any_below,
    block_has,
    block_set,
    load_u32x16,
    load_word,
    lower_words,
    mask_below,
    mask_equal,
    mask_equal_u32,
    mask_within,
    mul_high,
    mul_wide,
    ones,
    prefetch,
    splat_u32x16,
    store_u32x16,
    trailing_zeros,
    vadd,
    vand,
    vmin,
    vmul,
    vor,
    vshl,
    vshr,
    vxor,
    xxh3_block,
    xxh3_load,
    xxh3_store,
    xxh3_stripe,
)

TESTED = {
    "scalars": {"load_word", "mul_high", "mul_wide", "ones", "prefetch", "trailing_zeros"},
    "lanes": {
        "load_u32x16", "splat_u32x16", "store_u32x16",
        "vadd", "vand", "vmin", "vmul", "vor", "vshl", "vshr", "vxor",
    },
    "masks": {"any_below", "mask_below", "mask_equal", "mask_equal_u32", "mask_within"},
    "blocks": {"block_has", "block_set"},
    "text": {"lower_words"},
    "xxh3": {"xxh3_block", "xxh3_load", "xxh3_store", "xxh3_stripe"},
}  # fmt: skip
ALL = 2**64 - 1
WORDS = [0, 1, 2, 3, 2**31, 2**32 - 1, 2**32, 2**63, 2**63 + 5, ALL - 1, ALL, 0x9E3779B97F4A7C15]


def test_no_operation_is_without_a_twin() -> None:
    assert set(_simd.__all__) == set().union(*TESTED.values())


@kernel
def scalars(a, b, data, at, out):
    prefetch(data, at)
    out[0] = mul_high(a, b)
    low, high = mul_wide(a, b)
    out[1], out[2] = low, high
    out[3] = load_word(data, at)
    out[4] = ones(a)
    out[5] = trailing_zeros(b)


def test_products_loads_and_counts() -> None:
    data = np.frombuffer(bytes(range(100, 140)), np.uint8)
    out = np.zeros(6, np.uint64)
    for i, a in enumerate(WORDS):
        for b in WORDS[1:]:
            scalars(np.uint64(a), np.uint64(b), data, np.int64(i), out)
            product = a * b
            word = int.from_bytes(data[i : i + 8].tobytes(), "little")
            zeros = (b & -b).bit_length() - 1
            assert out.tolist() == [product >> 64, product & ALL, product >> 64, word, a.bit_count(), zeros]


@kernel
def lanes(a, b, x, at, out):
    p, q, shift = load_u32x16(a, at), load_u32x16(b, at), splat_u32x16(x)
    store_u32x16(out, np.int64(0), vadd(p, q))
    store_u32x16(out, np.int64(16), vmul(p, q))
    store_u32x16(out, np.int64(32), vand(p, q))
    store_u32x16(out, np.int64(48), vor(p, q))
    store_u32x16(out, np.int64(64), vxor(p, q))
    store_u32x16(out, np.int64(80), vmin(p, q))
    store_u32x16(out, np.int64(96), vshl(p, shift))
    store_u32x16(out, np.int64(112), vshr(p, shift))


@pytest.mark.parametrize("at", [0, 1, 7])
def test_sixteen_lanes(at: int) -> None:
    rng = np.random.default_rng(at)
    a, b = (rng.integers(0, 2**32, 40, dtype=np.uint32) for _ in range(2))
    b[at : at + 4] = a[at : at + 4]
    x, out = np.uint32(3 + at), np.zeros(128, np.uint32)
    lanes(a, b, x, np.int64(at), out)
    p, q = a[at : at + 16], b[at : at + 16]
    twin = [p + q, p * q, p & q, p | q, p ^ q, np.minimum(p, q), p << x, p >> x]
    assert np.array_equal(out.reshape(8, 16), np.array(twin))


@kernel
def masks(a64, a32, a16, at, low, span, v32, v16, out):
    out[0] = mask_below(a64, at, span)
    out[1] = mask_equal_u32(a32, at, v32)
    out[2] = mask_equal(a16, at, v16)
    out[3] = mask_within(a64, at, low, span)
    out[4] = np.uint64(any_below(a64, at, low))


@pytest.mark.parametrize("at", [0, 1, 13])
def test_masks(at: int) -> None:
    rng = np.random.default_rng(at)
    a64 = rng.integers(0, 2**64, 100, dtype=np.uint64)
    a32, a16 = (rng.integers(0, 3, 100).astype(kind) for kind in (np.uint32, np.uint16))
    a64[at + 5] = ALL
    for low, span in (
        (2**62, 2**63),
        (int(a64[at : at + 64].min()), 1),
        (int(a64[at : at + 64].min()) + 1, 2**60),
        (ALL, ALL),
    ):
        out = np.zeros(5, np.uint64)
        masks(a64, a32, a16, np.int64(at), np.uint64(low), np.uint64(span), np.uint32(1), np.uint16(2), out)

        def bits(true: np.ndarray) -> int:
            return sum(1 << i for i, t in enumerate(true.tolist()) if t)

        part = a64[at : at + 64]
        assert out.tolist() == [
            bits(part < np.uint64(span)),
            bits(a32[at : at + 64] == 1),
            bits(a16[at : at + 32] == 2),
            bits(part[:8] - np.uint64(low) < np.uint64(span)),
            int((part < np.uint64(low)).any()),
        ]


@kernel
def blocks(words, at, low, out):
    out[0] = block_has(words, at, low)
    block_set(words, at, low)
    out[1] = block_has(words, at, low)


def test_bloom_blocks() -> None:
    """The split block of the Parquet format: bit ``(x * salt_i mod 2**32) >> 27`` of word i."""
    salts = (0x47B6137B, 0x44974D91, 0x8824AD5B, 0xA2B7289D, 0x705495C7, 0x2DF1424B, 0x9EFC4947, 0x5C6BFB31)
    rng = np.random.default_rng(3)
    words, twin, out = np.zeros(24, np.uint32), [0] * 24, np.zeros(2, np.uint8)
    seen = set()
    for x in rng.integers(0, 2**32, 120).tolist():
        bits = [1 << ((x * salt % 2**32) >> 27) for salt in salts]
        had = all(twin[8 + i] & bit for i, bit in enumerate(bits))
        blocks(words, np.int64(8), np.uint32(x), out)
        for i, bit in enumerate(bits):
            twin[8 + i] |= bit
        assert out.tolist() == [int(had), 1]
        assert words.tolist() == twin
        seen.add(had)
    assert seen == {False, True}


@kernel
def text(source, at, target, to):
    return lower_words(source, at, target, to)


def test_lower_case_and_words() -> None:
    """All 256 bytes, at odd places."""
    source = np.concatenate([np.zeros(3, np.uint8), np.arange(256, dtype=np.uint8)])
    word = set(b"abcdefghijklmnopqrstuvwxyz0123456789_") | set(range(128, 256))
    for first in range(0, 256, 64):
        target = np.zeros(70, np.uint8)
        mask = int(text(source, np.int64(3 + first), target, np.int64(5)))
        low = bytes(range(first, first + 64)).lower()
        assert target.tobytes() == bytes(5) + low + bytes(1)
        assert mask == sum(1 << i for i, byte in enumerate(low) if byte in word)


@kernel
def stripe(sums, data, at, secret, key):
    xxh3_store(sums, np.int64(0), xxh3_stripe(xxh3_load(sums, np.int64(0)), data, at, secret, key))


@kernel
def block(sums, data, at, secret):
    xxh3_store(sums, np.int64(0), xxh3_block(xxh3_load(sums, np.int64(0)), data, at, secret))


def plain_stripe(sums: list[int], data: bytes, secret: bytes) -> list[int]:
    out = list(sums)
    for i in range(8):
        value = int.from_bytes(data[8 * i : 8 * i + 8], "little")
        mixed = value ^ int.from_bytes(secret[8 * i : 8 * i + 8], "little")
        out[i ^ 1] = (out[i ^ 1] + value) & ALL
        out[i] = (out[i] + (mixed & 0xFFFFFFFF) * (mixed >> 32)) & ALL
    return out


def test_sums_of_xxh3() -> None:
    rng = np.random.default_rng(5)
    data, secret = (rng.integers(0, 256, n).astype(np.uint8) for n in (1100, 192))
    sums = rng.integers(0, 2**64, 8, dtype=np.uint64)
    twin = plain_stripe(sums.tolist(), data[7:71].tobytes(), secret[11:75].tobytes())
    stripe(sums, data, np.int64(7), secret, np.int64(11))
    assert sums.tolist() == twin
    for k in range(16):
        twin = plain_stripe(
            twin, data[3 + 64 * k : 67 + 64 * k].tobytes(), secret[8 * k : 8 * k + 64].tobytes()
        )
    for i in range(8):
        key = int.from_bytes(secret[128 + 8 * i : 136 + 8 * i].tobytes(), "little")
        twin[i] = ((twin[i] ^ (twin[i] >> 47) ^ key) * 0x9E3779B1) & ALL
    block(sums, data, np.int64(3), secret)
    assert sums.tolist() == twin
