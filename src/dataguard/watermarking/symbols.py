"""Keyed functions on whole arrays: symbols, addresses, partner draws, bias levels.

All are AES-256 used as a pseudo-random function, because that runs at hardware speed on
arrays and can be recomputed anywhere; the one-key twin without numpy is
:func:`dataguard.keys.symbols`. Never a non-cryptographic hash, never a small seed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from numpy.typing import NDArray

from dataguard.model import ONE, BiasLaw
from dataguard.slots import SlotBrief, Slots

__all__ = ["SlotKeys", "brief", "encrypt_blocks", "symbols"]

I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]
U8 = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class SlotKeys:
    """Three 32-byte keys of one dataset lineage, derived from its secret.

    Attributes
    ----------
    address, pairing, bias : bytes
        For slot addresses, for the draw of partners, for bias levels. Recipients never
        learn them: a coalition that knows the biases defeats the code.
    """

    address: bytes = field(repr=False)
    pairing: bytes = field(repr=False)
    bias: bytes = field(repr=False)


def encrypt_blocks(key: bytes, low: U64, high: U64 | np.uint64) -> U64:
    """Return AES-256 of the blocks (low, high), both little-endian, as (n, 2) uint64 words.

    Parameters
    ----------
    key : bytes
        32 bytes.
    low : (n,) uint64
    high : (n,) uint64 or scalar
    """
    blocks = np.empty((len(low), 2), "<u8")
    blocks[:, 0], blocks[:, 1] = low, high
    encryptor = Cipher(algorithms.AES(key), modes.ECB()).encryptor()  # noqa: S305 - a PRF on distinct blocks
    out = bytearray(blocks.nbytes + 15)
    count = encryptor.update_into(blocks.view(np.uint8).reshape(-1).data, out) if len(low) else 0
    return np.frombuffer(out, "<u8", count // 8).reshape(-1, 2).astype(np.uint64, copy=False)


def symbols(key: bytes, address: U64, bias: I64, channel: bytes) -> U8:
    """Return the symbols a mark key gives some addresses (DESIGN 4.2).

    Parameters
    ----------
    key : bytes
        Mark key, 32 bytes.
    address : (n,) uint64
    bias : (n,) int64
        Numerators P over 65536.
    channel : bytes
        Eight bytes of scheme and channel.

    Returns
    -------
    (n,) uint8
        1 where the first two bytes of AES-256(key, address || channel), read as uint16
        little-endian, are below P.
    """
    words = encrypt_blocks(key, address, np.uint64(int.from_bytes(channel, "little")))
    return ((words[:, 0] & np.uint64(0xFFFF)).astype(np.int64) < bias).astype(np.uint8)


def _address(key: bytes, place: I64, channel: bytes) -> U64:
    """CBC-MAC over (k, channel) and the k place columns, two to a block.

    The first block fixes the number of columns, so no input is a prefix of another; that
    is the condition under which CBC-MAC is a PRF (Bellare, Kilian, Rogaway 2000).
    """
    n, k = place.shape
    words = place.astype(np.int64).view(np.uint64).reshape(n, k)
    if k % 2:
        words = np.concatenate([words, np.zeros((n, 1), np.uint64)], axis=1)
    first = encrypt_blocks(key, np.array([k], np.uint64), np.uint64(int.from_bytes(channel, "little")))
    state = np.repeat(first, n, axis=0)
    for c in range(0, words.shape[1], 2):
        state = encrypt_blocks(key, state[:, 0] ^ words[:, c], state[:, 1] ^ words[:, c + 1])
    return state[:, 0].copy()


def _draw(key: bytes, label: str, ids: U64) -> U64:
    tag = int.from_bytes(hashlib.sha256(b"dataguard/draw/1" + label.encode()).digest()[:8], "little")
    return encrypt_blocks(key, ids, np.uint64(tag))[:, 0].copy()


def _level(key: bytes, law: BiasLaw, address: U64) -> U8:
    if len(law.levels) == 1:
        return np.zeros(len(address), np.uint8)
    tag = int.from_bytes(hashlib.sha256(b"dataguard/level/1" + law.name.encode()).digest()[:8], "little")
    words = encrypt_blocks(key, address, np.uint64(tag))[:, 0] & np.uint64(ONE - 1)
    return np.searchsorted(np.cumsum(law.shares), words.astype(np.int64), side="right").astype(np.uint8)


def brief(
    keys: SlotKeys,
    law: BiasLaw,
    *,
    protect: frozenset[str] = frozenset(),
    tolerance: Mapping[str, float] | None = None,
    frozen: Slots | None = None,
    first_new: int = 0,
) -> SlotBrief:
    """Return what a carrier may know when it lists slots: these keys as functions."""
    return SlotBrief(
        address=lambda place, channel: _address(keys.address, place, channel),
        draw=lambda label, ids: _draw(keys.pairing, label, ids),
        level=lambda address: _level(keys.bias, law, address),
        protect=protect,
        tolerance=dict(tolerance or {}),
        frozen=frozen,
        first_new=first_new,
    )
