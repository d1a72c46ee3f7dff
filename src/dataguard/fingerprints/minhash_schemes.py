"""What signatures of all schemes have in common: names, hashing of elements, values in bulk."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dataguard.errors import SchemeMismatch, UsageError
from dataguard.fingerprints.arguments import is_whole
from dataguard.fingerprints.sketches.permutations import SCHEMES, Values, kmins_sets
from dataguard.fingerprints.sketches.resemblance import sketch_sets
from dataguard.fingerprints.sketches.tokens import GIVEN, SHA1, XXH3, hash_lists, hash_tokens

__all__ = [
    "ALL_SCHEMES",
    "FSS",
    "NAMED",
    "MinHashError",
    "MinHashMismatch",
    "hash_scheme_of",
    "hashes_of",
    "known_seed",
    "rows_of",
    "scheme_type",
    "signatures",
]

I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]

FSS: Final = "fss"
ALL_SCHEMES: Final = (*SCHEMES, FSS)
"""``affine32``, ``affine64``, ``legacy`` (datasketch's) and ``fss`` (Fast Similarity Sketching)."""


class MinHashError(UsageError, ValueError):
    """Wrong use of a MinHash or its index; a ValueError too, as in datasketch."""


class MinHashMismatch(SchemeMismatch, ValueError):  # noqa: N818 - as the class it refines
    """Signatures that cannot be compared; a ValueError too, as in datasketch."""


def scheme_type(scheme: str) -> np.dtype[Any]:
    """Return the type of the values of a scheme: uint32, or uint64 for ``affine64``."""
    if not isinstance(scheme, str) or scheme not in ALL_SCHEMES:
        raise MinHashError(f"unknown scheme {scheme!r}", remedy=f"use one of {', '.join(ALL_SCHEMES)}")
    return np.dtype(np.uint64 if scheme == "affine64" else np.uint32)


def rows_of(hashes: U64, offsets: I64, num_perm: int, seed: int, scheme: str, hash_scheme: int) -> Values:
    """Return the signatures of sets of hashes end to end, (n, num_perm), by any scheme."""
    if scheme == FSS:
        return sketch_sets(hashes, offsets, num_perm)
    return kmins_sets(hashes, offsets, num_perm=num_perm, seed=seed, scheme=scheme, hash_scheme=hash_scheme)


def signatures(
    column: Any,
    *,
    num_perm: int = 128,
    seed: int = 1,
    scheme: str = "affine32",
    hashfunc: str | None = None,
) -> Values:
    """Return the signatures of an Arrow column of lists, one row each.

    Parameters
    ----------
    column : pyarrow list or large_list array
        Lists of strings or binaries; of unsigned integers with ``hashfunc="given"``.
    num_perm, seed, scheme
        As :class:`MinHash`.
    hashfunc : {"sha1", "xxh3", "given"}, optional
        Default as :class:`MinHash`.

    Returns
    -------
    (n, num_perm) uint32 (``affine64``: uint64)

    Raises
    ------
    UsageError
        Not lists, a null element, or parameters out of range.
    """
    scheme_type(scheme)
    known_seed(scheme, seed)
    hash_scheme = hash_scheme_of(hashfunc, scheme)
    hashes, offsets = hash_lists(column, hash_scheme)
    return rows_of(hashes, offsets, num_perm, seed, scheme, hash_scheme)


NAMED: Final = {"sha1": SHA1, "xxh3": XXH3, "given": GIVEN}
"""Name of a hash -> its number in the bytes of sketches."""


def hash_scheme_of(hashfunc: Callable[[Any], int] | str | None, scheme: str) -> int:
    """Return the number of the hash that a `hashfunc` argument names; 0 for a function."""
    if hashfunc is None:
        return XXH3 if scheme == FSS else SHA1
    if isinstance(hashfunc, str):
        if hashfunc not in NAMED:
            raise MinHashError(f"unknown hash {hashfunc!r}", remedy="use 'sha1', 'xxh3', or a function")
        return NAMED[hashfunc]
    if not callable(hashfunc):
        raise MinHashError("hashfunc is no function", remedy="use 'sha1', 'xxh3', or a function")
    return GIVEN


def known_seed(scheme: str, seed: int) -> None:
    """Refuse a seed that a scheme cannot have, with MinHashError."""
    if scheme == FSS and seed != 1:
        raise MinHashError("the fss scheme has no seed", remedy="leave seed out, or use affine32")
    if not (is_whole(seed) and 0 <= seed < 1 << 32):
        raise MinHashError(f"seed {seed} is out of range", remedy="use 0 to 4294967295")


def hashes_of(waiting: list[Any], hash_scheme: int, scheme: str) -> U64:
    """Return elements, or hashes already where the scheme is 0, as (n,) uint64 hashes."""
    if hash_scheme != GIVEN:
        return hash_tokens(waiting, hash_scheme)
    try:
        # Not by numpy, which would cut a real number and read a text as a number.
        hashes = np.fromiter(map(operator.index, waiting), np.uint64, len(waiting))
    except (OverflowError, TypeError, ValueError) as wrong:
        raise MinHashError(
            f"a hash is no unsigned integer of 64 bits ({wrong})", where="hashfunc", remedy="return one"
        ) from wrong
    if scheme == FSS and len(hashes) and not int(hashes.max()) >> 32:
        # Once in 2**32 times wrongly refused, if there is but one; taken, 32-bit hashes would resemble each other.
        raise MinHashError("the fss scheme needs hashes of 64 bits", where="hashfunc", remedy="use affine32")
    if scheme == "affine32" and len(hashes) and int(hashes.max()) >> 32:
        raise MinHashError("a hash has more than 32 bits", where="hashfunc", remedy="cut it, or use affine64")
    return hashes
