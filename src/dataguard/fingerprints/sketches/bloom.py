"""Split-block Bloom filter: is this row one of a registered table's, at 2 bytes a row.

A sketch of fixed size cannot see a hundred rows in ten million; a filter of all rows can, and one cache line
per question keeps it at memory speed. Block layout, salts and choice of the block are those of the Parquet
format (BloomFilter.md), over any 64-bit hash; the number of blocks is free, not a power of two.

Parameter block: uint64 number of blocks. Payload: blocks x 8 x uint32, little-endian.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass, field
from typing import cast

import numpy as np
from numpy.typing import NDArray

from dataguard.errors import DecodeError, UsageError
from dataguard.fingerprints.arguments import is_number, same_class
from dataguard.fingerprints.sketches.elements import checked_hashes, distinct, frozen
from dataguard.fingerprints.sketches.envelope import BLOOM, pack, same_scheme, unpack
from dataguard.fingerprints.sketches.estimate import (
    CONFIDENCE,
    Estimate,
    binomial_limits,
    binomial_lower,
    binomial_upper,
    first,
    log10_binomial_tail,
    miss,
)

__all__ = ["BITS_PER_ROW", "Bloom", "BloomBuilder", "Hits", "blocks_for", "share_inside"]

U32 = NDArray[np.uint32]
U64 = NDArray[np.uint64]

VERSION = 1
BITS_PER_ROW = 16
"""False positives: 0.13 % of absent rows at 16 bits a row, 3.3 % at 8, 0.013 % at 24 (measured)."""

_BLOCK_BITS = 256
_MOST_BLOCKS = 1 << 32
"""The upper 32 bits of a hash choose the block."""

_PARAMS = struct.Struct("<Q")


@dataclass(frozen=True, slots=True)
class Hits:
    """What a filter says about a set of rows.

    Attributes
    ----------
    rows : int
        Distinct rows asked about.
    hits : int
        Rows whose bits are all set.
    by_chance : float
        Hits expected if none of the rows were in the table.
    log10_p : float
        Upper bound on log10 of the chance of as many hits if none were; rounded up, not below -30.
    containment : Estimate
        Share of these very rows that are in the table.
    """

    rows: int
    hits: int
    by_chance: float
    log10_p: float
    containment: Estimate


@dataclass(frozen=True, slots=True, eq=False)
class Bloom:
    """A set of 64-bit hashes that answers "certainly not" or "probably".

    Parameters
    ----------
    words : ndarray of uint32, shape (blocks, 8)
        Taken over, and set read-only.
    hash_scheme : int
        How the elements were hashed.
    """

    words: U32
    hash_scheme: int = 0
    _rate: float | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        # The type too: compiled loops take eight words of 32 bits from wherever a block begins.
        if not isinstance(self.words, np.ndarray):
            raise UsageError("words are no array", where="Bloom", remedy="use Bloom.build")
        shape, kind = self.words.shape, self.words.dtype
        if len(shape) != 2 or shape[1] != 8 or not 1 <= shape[0] <= _MOST_BLOCKS or kind != np.uint32:
            raise UsageError(f"words {kind} {shape}", where="Bloom", remedy="give (blocks, 8) of uint32")
        object.__setattr__(self, "words", frozen(self.words))

    def __reduce__(self) -> tuple[object, ...]:
        return type(self).from_bytes, (self.to_bytes(),)

    # --- making ---------------------------------------------------------------------------------

    @classmethod
    def build(
        cls,
        hashes: U64,
        expected: int | None = None,
        bits_per_row: float = BITS_PER_ROW,
        hash_scheme: int = 0,
    ) -> Bloom:
        """Return the filter of some rows.

        Parameters
        ----------
        hashes : ndarray of uint64
        expected : int, optional
            Distinct rows to make room for; the number given, by default. Parts that shall be merged need
            the same number here.
        bits_per_row : float
            8 or more; each 8 more divide the false positives by 10 to 25.
        """
        hashes = checked_hashes(hashes, "Bloom")
        builder = BloomBuilder(len(hashes) if expected is None else expected, bits_per_row, hash_scheme)
        builder.add(hashes)
        return builder.finish()

    def add(self, hashes: U64) -> Bloom:
        """Return this filter with more rows in it. To add many times, use :class:`BloomBuilder`."""
        words = self.words.copy()
        _enter(words, hashes)
        return Bloom(words, self.hash_scheme)

    def merge(self, other: Bloom) -> Bloom:
        """Return the filter of both tables' rows, the same bits as if built from all of them.

        Raises
        ------
        SchemeMismatch
            Filters of different size or hash scheme.
        """
        same_class(self, other)
        same_scheme(
            "Bloom",
            hash_schemes=(self.hash_scheme, other.hash_scheme),
            numbers_of_blocks=(len(self.words), len(other.words)),
        )
        return Bloom(self.words | other.words, self.hash_scheme)

    # --- asking ---------------------------------------------------------------------------------

    def contains(self, hashes: U64) -> NDArray[np.bool_]:
        """Return for every row whether it may be in the table; False is certain."""
        from dataguard.fingerprints.sketches.counting._kernels import bloom_contains

        rows = checked_hashes(hashes, "Bloom")
        out = np.empty(len(rows), np.uint8)
        bloom_contains(self.words.reshape(-1), rows, out)
        return out.view(np.bool_)

    def count(self, hashes: U64) -> int:
        """Return for how many of the rows :meth:`contains` holds, repeated ones each time."""
        from dataguard.fingerprints.sketches.counting._kernels import bloom_count

        return int(bloom_count(self.words.reshape(-1), checked_hashes(hashes, "Bloom")))

    @property
    def false_positive_rate(self) -> float:
        """The chance that a row that is not in the table seems to be: from the bits that are set, exactly.

        The mean over blocks of the product over the 8 words of (bits set / 32): a uniform hash picks a block
        and one bit in each of its words. Exact integers up to the final division.
        """
        if self._rate is None:
            # Worked out once: the words are read-only.
            object.__setattr__(self, "_rate", _rate_of(self.words))
        return cast("float", self._rate)

    def containment(self, hashes: U64, confidence: float = CONFIDENCE, *, drawn: bool = False) -> Estimate:
        """Return the share of distinct rows that are in the table; see :meth:`hits`."""
        rows = distinct(checked_hashes(hashes, "Bloom"))
        return share_inside(self.count(rows), len(rows), self.false_positive_rate, confidence, drawn=drawn)

    def hits(self, hashes: U64, confidence: float = CONFIDENCE, *, drawn: bool = False) -> Hits:
        """Return how many distinct rows are found, how many would be by chance, and how unlikely that is.

        Parameters
        ----------
        hashes : ndarray of uint64
            Rows of the suspect; repeated ones count once, as their answers are not independent.
        confidence : float
        drawn : bool
            Whether the rows stand for a larger suspect from which they were drawn at random; the interval
            then covers the share in that.

        Notes
        -----
        A row of the table is always found, another one with chance f (:attr:`false_positive_rate`),
        independently. With m of n rows inside, hits - m ~ Binomial(n - m, f), hence the estimate
        (hits / n - f) / (1 - f). Limits: every m that neither one-sided test at (1 - confidence) / 2 rejects;
        for drawn rows hits ~ Binomial(n, c + (1 - c) f), and the limits are those of Clopper and Pearson for
        its chance, carried over to c. The p-value is P(Binomial(n, f) >= hits): it speaks about the filter
        only. That a row is in the table does not say it was taken from there.
        """
        rows = distinct(checked_hashes(hashes, "Bloom"))
        found, chance = self.count(rows), self.false_positive_rate
        return Hits(
            len(rows),
            found,
            len(rows) * chance,
            log10_binomial_tail(found, len(rows), chance),
            share_inside(found, len(rows), chance, confidence, drawn=drawn),
        )

    # --- bytes ----------------------------------------------------------------------------------

    def to_bytes(self) -> bytes:
        """Return the filter in the common frame of sketches, kind 4."""
        payload = np.ascontiguousarray(self.words, "<u4").data.cast("B")
        return pack(BLOOM, VERSION, self.hash_scheme, _PARAMS.pack(len(self.words)), payload)

    @classmethod
    def from_bytes(cls, data: bytes | bytearray | memoryview) -> Bloom:
        """Return the filter that some bytes hold.

        Raises
        ------
        DecodeError, SchemeMismatch
            Not such a filter, damaged, or of a newer version.
        """
        parts = unpack(data, BLOOM, VERSION)
        if len(parts.params) != _PARAMS.size:
            raise DecodeError("parameter block of a wrong length", where="Bloom filter sketch")
        (blocks,) = _PARAMS.unpack(parts.params)
        if not 1 <= blocks <= _MOST_BLOCKS or parts.payload.nbytes != blocks * 32:
            raise DecodeError(f"{blocks} blocks in {parts.payload.nbytes} bytes", where="Bloom filter sketch")
        words = np.frombuffer(parts.payload, "<u4").astype(np.uint32).reshape(-1, 8)
        return cls(words, parts.hash_scheme)


class BloomBuilder:
    """A filter that is being filled, batch by batch.

    Parameters
    ----------
    expected : int
        Distinct rows to make room for.
    bits_per_row : float
    hash_scheme : int

    Raises
    ------
    UsageError
        Fewer than 1 bit a row, or more rows than 2**32 blocks hold.
    """

    def __init__(self, expected: int, bits_per_row: float = BITS_PER_ROW, hash_scheme: int = 0) -> None:
        known = is_number(expected) and is_number(bits_per_row)
        if not known or expected < 0 or not 1 <= bits_per_row <= 1024:
            raise UsageError(
                f"{expected} rows at {bits_per_row} bits", where="Bloom", remedy="give 1 to 1024 bits a row"
            )
        blocks = blocks_for(expected, bits_per_row)
        self._words: U32 | None = np.zeros((blocks, 8), np.uint32)
        self._hash_scheme = hash_scheme

    def add(self, hashes: U64) -> None:
        """Enter more rows; repeated ones do no harm."""
        if self._words is None:
            raise UsageError("the filter is finished", where="BloomBuilder", remedy="start a new one")
        _enter(self._words, hashes)

    def finish(self) -> Bloom:
        """Return the filter; nothing can be added afterwards."""
        if self._words is None:
            raise UsageError("the filter is finished", where="BloomBuilder", remedy="start a new one")
        done, self._words = Bloom(self._words, self._hash_scheme), None
        return done


def blocks_for(rows: int, bits_per_row: float = BITS_PER_ROW) -> int:
    """Return how many 32-byte blocks a filter for so many rows has.

    Raises
    ------
    UsageError
        More than 2**32.
    """
    if not is_number(rows) or not is_number(bits_per_row):
        raise UsageError(f"{rows!r} rows at {bits_per_row!r} bits", where="Bloom", remedy="give numbers")
    blocks = max(1, math.ceil(rows * bits_per_row / _BLOCK_BITS))
    if blocks > _MOST_BLOCKS:
        raise UsageError(f"{rows} rows need more than 2**32 blocks", where="Bloom", remedy="split the table")
    return blocks


def share_inside(
    found: int, rows: int, chance: float, confidence: float = CONFIDENCE, *, drawn: bool = False
) -> Estimate:
    """Return the share of rows inside, given how many are found; see :meth:`Bloom.hits`."""
    if rows == 0 or chance >= 1:
        return Estimate(0.0, 0.0, 1.0, confidence)
    value = min(1.0, max(0.0, (found / rows - chance) / (1 - chance)))
    if drawn:
        low, high = (max(0.0, (q - chance) / (1 - chance)) for q in binomial_limits(found, rows, confidence))
        return Estimate(value, low, high, confidence)
    tail = miss(confidence)
    # The more rows are inside, the more are found: both tests are monotone in the number inside.
    low = first(0, found, lambda m: binomial_upper(found - m, rows - m, chance) > tail)
    high = first(0, found, lambda m: binomial_lower(found - m, rows - m, chance) <= tail) - 1
    low, high = min(low, found) / rows, max(high, 0) / rows
    return Estimate(min(max(value, low), high), low, high, confidence)


def _enter(words: U32, hashes: U64) -> None:
    from dataguard.fingerprints.sketches.counting._kernels import bloom_add

    bloom_add(words.reshape(-1), checked_hashes(hashes, "Bloom"))


def _rate_of(words: U32) -> float:
    total = 0
    for begin in range(0, len(words), 1 << 16):
        # At most 2**16 blocks of at most 32**8 = 2**40 each: the sum stays below 2**56.
        set_bits = np.bitwise_count(words[begin : begin + (1 << 16)])
        total += int(np.prod(set_bits, axis=1, dtype=np.uint64).sum())
    return total / (len(words) << 40)
