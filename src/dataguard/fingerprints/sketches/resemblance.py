"""How much two sets share, from a few hundred bytes each: the default sketch.

Fast Similarity Sketching (Dahlgaard, Knudsen, Thorup, "Fast similarity sketching", FOCS 2017) in a hybrid of three
rounds. A set of 64-bit hashes z becomes k slots of 32 bits, k a power of two; a slot holds the least value of the
first round in which any element falls into it:

1. slot ``z mod k``, value ``z >> 34``;
2. slot ``(z >> 12) mod k``, value ``2**30 + ((z << 30 mod 2**64) >> 34)``;
3. every slot, value ``3 * 2**30 + ((A[slot] * (z >> 32) mod 2**32) >> 2)``, A odd constants.

A slot that no element reached (the empty set) holds ``2**32 - 1``; a set whose elements share their upper half, such
as one of a single element, comes to that value in a slot of the third round with a chance of 2**-30, and such a slot
counts as unequal. The rounds stand in the top two bits, so that the
slot-wise minimum of sketches of parts is the sketch of the whole, bit for bit. Two sets agree in a slot with a
chance of their Jaccard coefficient; filling slots mostly with different elements, up to about k of them, makes the
error smaller than that of k independent minima (measured: 0.75 of it at k elements).
The hashes must be good in all their bits, and nobody who chooses elements to deceive is kept out: A is public.
"""

from __future__ import annotations

import sys
import threading
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from dataguard.errors import DecodeError, UsageError
from dataguard.fingerprints.arguments import is_whole, same_class
from dataguard.fingerprints.sketches.elements import checked_hashes, checked_offsets
from dataguard.fingerprints.sketches.envelope import RESEMBLANCE, pack, same_scheme, unpack
from dataguard.fingerprints.sketches.estimate import CONFIDENCE, Estimate, binomial_limits
from dataguard.values import mix64

__all__ = [
    "DEFAULT_SIZE",
    "EMPTY",
    "Resemblance",
    "check_size",
    "compare_rows",
    "multipliers",
    "room_for",
    "sketch_sets",
]

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
U32 = NDArray[np.uint32]
U64 = NDArray[np.uint64]

DEFAULT_SIZE = 128
EMPTY = 0xFFFFFFFF
"""A slot of the empty set."""

_LEAST, _MOST = 64, 4096
_SEED = np.uint64(0x64676673_00000001)
"""Public constant of version 1: A[j] is the upper half of mix64(seed + j), with the lowest bit set."""
_VERSION = 1
_BLOCK = 1 << 22
"""Slots compared at a time: 16 MiB on each side."""
_WHERE = "resemblance sketch"
_FEW, _PER_SET = 300_000, 500
"""Work, in elements, that numpy does before the compiler has started (0.5 to 1.5 s); a set counts as so many."""
_PART = 4096
_WORTH, _KEPT = 1 << 20, 1 << 28
"""Bytes of results from which, and up to which, the memory of the last one is kept for the next."""
_UNUSED = 3
_spare: list[U32] = [np.empty(0, np.uint32)]
_lock = threading.Lock()


def check_size(size: int) -> int:
    """Return `size`.

    Raises
    ------
    UsageError
        Not a power of two from 64 to 4096.
    """
    if not (is_whole(size) and _LEAST <= size <= _MOST) or size & (size - 1):
        raise UsageError(f"sketch size {size} is not a power of two from {_LEAST} to {_MOST}",
                         remedy=f"{DEFAULT_SIZE} is usual")  # fmt: skip
    return size


@lru_cache(maxsize=16)
def multipliers(size: int) -> U32:
    """Return the (size,) uint32 odd constants A of the third round."""
    words = mix64(_SEED + np.arange(check_size(size), dtype=np.uint64))
    odd = (words >> np.uint64(32)).astype(np.uint32) | np.uint32(1)
    odd.flags.writeable = False
    return odd


def sketch_sets(hashes: U64, offsets: I64, size: int = DEFAULT_SIZE, out: U32 | None = None) -> U32:
    """Return the sketches of many sets.

    Parameters
    ----------
    hashes : (m,) uint64
        Hashes of the elements, set after set; repeats within a set do no harm. They must be as good as those of
        :func:`~dataguard.fingerprints.hashing.columns.hash_column`.
    offsets : (n + 1,) int64
        Set i is ``hashes[offsets[i]:offsets[i + 1]]``.
    size : int
        Slots, a power of two from 64 to 4096; the standard error is at most sqrt(J (1 - J) / size).
    out : (n, size) uint32, optional
        Where to write. Without it, the memory of an earlier result that is no longer held is used again, 256 MiB
        at most; fresh memory costs more than sketching short sets (measured).

    Returns
    -------
    (n, size) uint32
        `out`, or a new matrix.

    Raises
    ------
    UsageError
        Wrong shapes or types, offsets that leave the hashes, or hashes that use their lower half only.
    """
    # Two will do: good hashes are all so small once in 2**60 times. Small ones agree in all slots of round 3.
    hashes = checked_hashes(np.asarray(hashes), _WHERE, fewest=2)
    offsets = checked_offsets(offsets, len(hashes), _WHERE)
    out = room_for(out, len(offsets) - 1, size)
    if len(hashes) + _PER_SET * len(offsets) <= _FEW and "numba" not in sys.modules:
        _sketch_few(hashes, offsets, size, out)
        return out
    from dataguard.fingerprints.sketches import _kernels as kernels

    blank = np.full(2 * size, EMPTY, np.uint32)
    kernels.sketch_sets(
        hashes, offsets, multipliers(size), blank[:size], blank[size:], np.empty(3 * size, np.uint32),
        out.reshape(-1),
    )  # fmt: skip
    return out


def _sketch_few(hashes: U64, offsets: I64, size: int, out: U32) -> None:
    """Sketch a few sets without starting the compiler: the module's definition in numpy."""
    mask, low = np.uint64(size - 1), np.uint64(34)
    for row, start, stop in zip(out, offsets[:-1], offsets[1:], strict=True):
        z = hashes[start:stop]
        second = np.full(size, EMPTY, np.uint32)
        row[:] = EMPTY
        np.minimum.at(row, (z & mask).astype(np.intp), (z >> low).astype(np.uint32))
        np.minimum.at(
            second, ((z >> np.uint64(12)) & mask).astype(np.intp),
            ((z << np.uint64(30)) >> low).astype(np.uint32) | np.uint32(1 << 30),
        )  # fmt: skip
        np.minimum(row, second, out=row)
        empty = np.flatnonzero(row == EMPTY)
        if len(empty) and len(z):
            factors = multipliers(size)[empty]
            for part in range(0, len(z), _PART):
                high = (z[part : part + _PART] >> np.uint64(32)).astype(np.uint32)
                least = (high[:, None] * factors).min(axis=0) >> np.uint32(2) | np.uint32(3 << 30)
                row[empty] = np.minimum(row[empty], least)


def _fresh(sets: int, size: int) -> U32:
    """Return room for sketches: the memory of an earlier result that nobody holds any more, or new memory.

    The system hands out new memory page by page and zeroed, which costs more than sketching short sets does
    (ten elements, 256 values: 0.6 us against 0.13 us).
    """
    words = sets * size
    if not _WORTH <= 4 * words <= _KEPT or not getattr(sys, "_is_gil_enabled", lambda: True)():
        return np.empty((sets, size), np.uint32)
    with _lock:
        spare = _spare[0]
        # Every view of `spare` counts as a reference to it; free means this list, this variable and the call.
        if not words <= spare.size <= 2 * words or sys.getrefcount(spare) > _UNUSED:
            spare = np.empty(words, np.uint32)
            _spare[0] = spare
        return spare[:words].reshape(sets, size)


def room_for(out: U32 | None, sets: int, size: int) -> U32:
    """Return `out` after a check of its shape, or fresh memory.

    Raises
    ------
    UsageError
        Another shape, type or memory order.
    """
    if out is None:
        return _fresh(sets, check_size(size))
    if out.shape != (sets, check_size(size)) or out.dtype != np.uint32 or not out.flags.c_contiguous:
        raise UsageError(f"out must be a C-contiguous uint32 matrix of {sets} x {size}",
                         where=f"out {out.dtype} {out.shape}")  # fmt: skip
    return out


def compare_rows(one: U32, other: U32) -> F64:
    """Return the estimated Jaccard coefficient of sketch i of `one` with sketch i of `other`.

    Parameters
    ----------
    one, other : (n, size) uint32

    Returns
    -------
    (n,) float64
        Share of slots that are equal and filled.

    Raises
    ------
    UsageError
        Shapes that differ.
    """
    if one.shape != other.shape or one.ndim != 2:
        raise UsageError(
            f"sketch matrices of shape {one.shape} and {other.shape} cannot be compared row by row"
        )
    out = np.empty(len(one))
    step = max(1, _BLOCK // max(1, one.shape[1]))
    for start in range(0, len(one), step):
        a, b = one[start : start + step], other[start : start + step]
        out[start : start + step] = ((a == b) & (a != EMPTY)).mean(axis=1)
    return out


@dataclass(frozen=True, slots=True, eq=False)
class Resemblance:
    """The sketch of one set.

    Attributes
    ----------
    values : (size,) uint32
        Slots, as the module defines them; read-only.
    hash_scheme : int
        How the elements were hashed, see ``dataguard.fingerprints.hashing.schemes``; sketches of different
        schemes are not compared.
    """

    values: U32
    hash_scheme: int = 0

    def __post_init__(self) -> None:
        given = np.asarray(self.values)
        if given.ndim != 1 or given.dtype != np.uint32:
            # Another type would be converted without a word, a float cut and a negative number wrapped.
            raise UsageError("a sketch is one row of uint32", where=f"values {given.dtype} {given.shape}")
        values = given.copy()
        check_size(len(values))
        values.flags.writeable = False
        object.__setattr__(self, "values", values)

    def __reduce__(self) -> tuple[object, ...]:
        return type(self).from_bytes, (self.to_bytes(),)

    @classmethod
    def of(cls, hashes: U64, size: int = DEFAULT_SIZE, hash_scheme: int = 0) -> Resemblance:
        """Return the sketch of one set of (m,) uint64 hashes; raises as :func:`sketch_sets`."""
        ends = np.array([0, np.size(hashes)], np.int64)
        return cls(sketch_sets(hashes, ends, size)[0], hash_scheme)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Resemblance):
            return NotImplemented
        return self.hash_scheme == other.hash_scheme and bool(np.array_equal(self.values, other.values))

    def __hash__(self) -> int:
        return hash((self.hash_scheme, self.values.tobytes()))

    @property
    def size(self) -> int:
        """Number of slots."""
        return len(self.values)

    @property
    def is_empty(self) -> bool:
        """Whether the set has no element."""
        return bool((self.values == EMPTY).all())

    def merge(self, other: Resemblance) -> Resemblance:
        """Return the sketch of the union.

        Raises
        ------
        SchemeMismatch
            Another size or another hashing of the elements.
        """
        self._check(other)
        return Resemblance(np.minimum(self.values, other.values), self.hash_scheme)

    def jaccard(self, other: Resemblance, confidence: float = CONFIDENCE) -> Estimate:
        """Return the Jaccard coefficient of the two sets; 0 where both are empty.

        The limits are those of a binomial share (Clopper and Pearson 1934). Slots of small sets are filled without
        replacement, which makes their law narrower than the binomial; the sets of a few elements come up to it
        (measured: root mean square 0.74 to 1.00 of it over 1 to 1,000 elements and 64 to 1,024 slots).

        Raises
        ------
        SchemeMismatch
            Another size or another hashing of the elements.
        """
        self._check(other)
        if self.is_empty and other.is_empty:
            return Estimate(0.0, 0.0, 1.0, confidence)
        equal = int(((self.values == other.values) & (self.values != EMPTY)).sum())
        low, high = binomial_limits(equal, self.size, confidence)
        return Estimate(equal / self.size, low, high, confidence)

    def _check(self, other: Resemblance) -> None:
        same_class(self, other)
        same_scheme(_WHERE, size=(self.size, other.size),
                    hash_scheme=(self.hash_scheme, other.hash_scheme))  # fmt: skip

    def to_bytes(self) -> bytes:
        """Return the sketch as bytes: envelope kind 1, no parameters, the slots as little-endian uint32."""
        return pack(RESEMBLANCE, _VERSION, self.hash_scheme, b"", self.values.astype("<u4").tobytes())

    @classmethod
    def from_bytes(cls, data: bytes) -> Resemblance:
        """Return the sketch that some bytes hold.

        Raises
        ------
        DecodeError
            Damaged or contradicting itself.
        SchemeMismatch
            Another kind or version of sketch.
        """
        held = unpack(data, RESEMBLANCE, _VERSION)
        count, rest = divmod(len(held.payload), 4)
        if held.params or rest or not _LEAST <= count <= _MOST or count & (count - 1):
            raise DecodeError(f"{count} slots", where="resemblance sketch", remedy="sketch the data again")
        values = np.frombuffer(held.payload, "<u4").astype(np.uint32)
        return cls(values, held.hash_scheme)
