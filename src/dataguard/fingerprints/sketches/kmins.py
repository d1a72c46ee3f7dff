"""Signatures bit-identical to datasketch's: for every permutation of the hashes, the least value of a set.

Existing collections of such signatures stay usable, and new ones can be added to them. For new
collections the resemblance sketch is faster and no less accurate.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Self

import numpy as np
from numpy.typing import ArrayLike

from dataguard.errors import DecodeError, UsageError
from dataguard.fingerprints.arguments import elements_of, is_whole, same_class
from dataguard.fingerprints.sketches.envelope import (
    KMINS_AFFINE32,
    KMINS_LEGACY,
    kind_of,
    pack,
    same_scheme,
    unpack,
)
from dataguard.fingerprints.sketches.estimate import CONFIDENCE, Estimate, binomial_limits
from dataguard.fingerprints.sketches.permutations import MAX_PERM, Values, kmins_sets, known_size, value_type
from dataguard.fingerprints.sketches.tokens import GIVEN, SHA1, hash_tokens

__all__ = ["KMins"]

_VERSION: Final = 1
_PARAMS: Final = struct.Struct("<qIB")


@dataclass(frozen=True, slots=True, eq=False)
class KMins:
    """Signature of a set by k permutations.

    A. Broder, "On the resemblance and containment of documents", 1997: two sets agree in a slot with a
    probability near their Jaccard similarity. ``affine32``: the least a h' + b mod 2**32, h' the hash
    through MurmurHash3's finaliser. ``legacy``: the least ((a h + b) mod 2**64 mod (2**61 - 1)) mod 2**32;
    it overrates the similarity of very large sets.

    Attributes
    ----------
    values : (k,) uint32 (``affine64``: uint64)
        Least value per permutation; read-only.
    scheme : str
        ``affine32``, ``affine64`` or ``legacy``.
    seed : int
        Of the permutations; 64 bits with sign, as datasketch writes it.
    hash_scheme : int
        How elements were hashed: 0 given, 1 xxh3_64, 16 SHA-1.
    """

    values: Values
    scheme: str = "affine32"
    seed: int = 1
    hash_scheme: int = GIVEN

    def __post_init__(self) -> None:
        kind = value_type(self.scheme)
        given = np.asarray(self.values)
        if given.ndim != 1 or given.dtype.kind not in "ui":
            raise UsageError(
                "values are one row of unsigned integers", where="k-mins", remedy="give an array"
            )
        known_size(len(given))
        if given.dtype != kind and (int(given.max()) > np.iinfo(kind).max or int(given.min()) < 0):
            raise UsageError(
                f"values do not fit {kind}", where=f"k-mins {self.scheme}", remedy="check the scheme"
            )
        if not (is_whole(self.seed) and -(1 << 63) <= self.seed < 1 << 63):
            raise UsageError(f"seed {self.seed} is out of range", where="k-mins", remedy="use 64 bits")
        values = given.astype(kind)
        values.flags.writeable = False
        object.__setattr__(self, "values", values)

    def __reduce__(self) -> tuple[object, ...]:
        return type(self).from_bytes, (self.to_bytes(),)

    @classmethod
    def of(
        cls,
        elements: Iterable[object],
        *,
        num_perm: int = 128,
        seed: int = 1,
        scheme: str = "affine32",
        hash_scheme: int = SHA1,
    ) -> Self:
        """Return the signature of a set of bytes or text; with the defaults as ``datasketch.MinHash``."""
        hashes = hash_tokens(elements_of(elements), hash_scheme)
        return cls.of_hashes(hashes, num_perm=num_perm, seed=seed, scheme=scheme, hash_scheme=hash_scheme)

    @classmethod
    def of_hashes(
        cls,
        hashes: ArrayLike,
        *,
        num_perm: int = 128,
        seed: int = 1,
        scheme: str = "affine32",
        hash_scheme: int = GIVEN,
    ) -> Self:
        """Return the signature of a set of (n,) hashes, see :func:`kmins_sets`."""
        given = np.asarray(hashes)
        row = kmins_sets(
            given, [0, given.size], num_perm=num_perm, seed=seed, scheme=scheme, hash_scheme=hash_scheme
        )
        return cls(row[0], scheme, seed, hash_scheme)

    def __len__(self) -> int:
        return len(self.values)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, KMins)
            and (self.scheme, self.seed, self.hash_scheme) == (other.scheme, other.seed, other.hash_scheme)
            and np.array_equal(self.values, other.values)
        )

    def __hash__(self) -> int:
        return hash((self.scheme, self.seed, self.hash_scheme, self.values.tobytes()))

    def _like(self, other: KMins) -> None:
        same_class(self, other)
        same_scheme(
            "k-mins",
            scheme=(self.scheme, other.scheme),
            seed=(self.seed, other.seed),
            number_of_permutations=(len(self), len(other)),
            hash_scheme=(self.hash_scheme, other.hash_scheme),
        )

    def merge(self, other: KMins) -> Self:
        """Return the signature of the union: the same bits as if all had been sketched at once.

        Raises
        ------
        SchemeMismatch
            Scheme, seed, size or element hash differ.
        """
        self._like(other)
        return type(self)(np.minimum(self.values, other.values), self.scheme, self.seed, self.hash_scheme)

    def jaccard(self, other: KMins, confidence: float = CONFIDENCE) -> Estimate:
        """Return the share of equal values, as datasketch estimates it, with exact binomial limits.

        Of two empty sets nothing is known: 0, from 0 to 1. (``MinHash.jaccard`` says 1, as datasketch does.)

        Raises
        ------
        SchemeMismatch
            Scheme, seed, size or element hash differ.
        """
        self._like(other)
        if self.is_empty and other.is_empty:
            return Estimate(0.0, 0.0, 1.0, confidence)
        equal = int(np.count_nonzero(self.values == other.values))
        return Estimate(equal / len(self), *binomial_limits(equal, len(self), confidence), confidence)

    @property
    def is_empty(self) -> bool:
        """Whether the set has no element."""
        return bool((self.values == np.iinfo(self.values.dtype).max).all())

    def to_bytes(self) -> bytes:
        """Return the signature as bytes: kind 2 (affine) or 3 (legacy), see ``docs/formats.md``."""
        kind = KMINS_LEGACY if self.scheme == "legacy" else KMINS_AFFINE32
        values = self.values.astype(self.values.dtype.newbyteorder("<"), copy=False)
        params = _PARAMS.pack(self.seed, len(self), 8 * values.dtype.itemsize)
        return pack(kind, _VERSION, self.hash_scheme, params, values.tobytes())

    @classmethod
    def from_bytes(cls, data: bytes | bytearray | memoryview) -> Self:
        """Return the signature that :meth:`to_bytes` wrote.

        Raises
        ------
        DecodeError
            Cut, altered, or not a sketch.
        SchemeMismatch
            A sketch of another kind or of a newer version.
        """
        kind = KMINS_LEGACY if kind_of(data) == KMINS_LEGACY else KMINS_AFFINE32
        held = unpack(data, kind, _VERSION)
        wrong = DecodeError("parameters do not fit the values", where="k-mins", remedy="check the input")
        if len(held.params) != _PARAMS.size:
            raise wrong
        seed, size, width = _PARAMS.unpack(held.params)
        fits = width in ((32,) if kind == KMINS_LEGACY else (32, 64)) and 1 <= size <= MAX_PERM
        if not fits or held.payload.nbytes != size * width // 8:
            raise wrong
        scheme = "legacy" if kind == KMINS_LEGACY else f"affine{width}"
        return cls(np.frombuffer(held.payload, f"<u{width // 8}"), scheme, seed, held.hash_scheme)
