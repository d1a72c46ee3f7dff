"""Keyed functions on arrays against the one-key twin without numpy, and against known blocks."""

from __future__ import annotations

import numpy as np
import pytest

from dataguard import keys
from dataguard.model import ONE, BiasLaw
from dataguard.watermarking.symbols import SlotKeys, brief, encrypt_blocks, symbols

KEY = bytes(range(32))
LAW = BiasLaw("mixed", (ONE // 2, 7400, ONE - 7400), (ONE // 2, ONE // 4, ONE // 4))


def test_aes_256_known_answer() -> None:
    """FIPS 197 appendix C.3: plaintext 00112233445566778899aabbccddeeff, key 00..1f."""
    plain = bytes.fromhex("00112233445566778899aabbccddeeff")
    low, high = (np.array([int.from_bytes(plain[i : i + 8], "little")], np.uint64) for i in (0, 8))
    out = encrypt_blocks(KEY, low, high).astype("<u8").tobytes()
    assert out.hex() == "8ea2b7ca516745bfeafc49904b496089"


def test_symbols_equal_the_twin_without_numpy() -> None:
    rng = np.random.default_rng(1)
    address = rng.integers(0, 2**64, 500, np.uint64)
    address[:3] = [0, 2**64 - 1, 2**63]
    bias = rng.choice([ONE // 2, 7400, 60000], 500).astype(np.int64)
    fast = symbols(KEY, address, bias, b"swap/1\0\0")
    slow = keys.symbols(KEY, [int(a) for a in address], [int(b) for b in bias], b"swap/1\0\0")
    assert fast.tolist() == slow


def test_symbols_follow_their_bias() -> None:
    """100,000 coins per bias; the band is 6 standard deviations, false alarm below 1e-8 for all three."""
    n = 100_000
    for p in (7400, ONE // 2, 60000):
        share = symbols(KEY, np.arange(n, dtype=np.uint64), np.full(n, p, np.int64), b"x" * 8).mean()
        assert abs(share - p / ONE) < 6 * np.sqrt(p / ONE * (1 - p / ONE) / n)


def test_addresses_depend_on_every_part_and_not_on_order_of_slots() -> None:
    made = brief(SlotKeys(KEY, KEY[::-1], KEY), LAW)
    place = np.array([[1, 2, 3], [1, 2, 4], [2, 2, 3], [1, 3, 2], [1, 2, 3]], np.int64)
    address = made.address(place, b"swap/1\0\0")
    assert address[0] == address[4]
    assert len(set(address.tolist())) == 4
    assert made.address(place[::-1], b"swap/1\0\0").tolist() == address[::-1].tolist()
    assert not set(made.address(place, b"swap/2\0\0").tolist()) & set(address.tolist())
    other = brief(SlotKeys(KEY[::-1], KEY[::-1], KEY), LAW)
    assert not set(other.address(place, b"swap/1\0\0").tolist()) & set(address.tolist())
    padded = np.column_stack([place, np.zeros(5, np.int64)])
    assert not set(made.address(padded, b"swap/1\0\0").tolist()) & set(address.tolist())


def test_levels_follow_the_shares() -> None:
    """200,000 addresses, three shares; 6 standard deviations, false alarm below 1e-8."""
    n = 200_000
    level = brief(SlotKeys(KEY, KEY, KEY), LAW).level(np.arange(n, dtype=np.uint64))
    counts = np.bincount(level, minlength=3)
    for count, share in zip(counts, LAW.shares, strict=True):
        p = share / ONE
        assert abs(count / n - p) < 6 * np.sqrt(p * (1 - p) / n)


def test_keys_never_show() -> None:
    assert KEY.hex() not in repr(SlotKeys(KEY, KEY, KEY))
    assert "key" not in repr(SlotKeys(KEY, KEY, KEY))


def test_empty_arrays_work() -> None:
    none = np.empty(0, np.uint64)
    assert len(symbols(KEY, none, np.empty(0, np.int64), b"x" * 8)) == 0
    assert len(brief(SlotKeys(KEY, KEY, KEY), LAW).draw("a", none)) == 0


def test_law_rejects_certain_symbols() -> None:
    with pytest.raises(AssertionError):
        BiasLaw("bad", (0,), (ONE,))
