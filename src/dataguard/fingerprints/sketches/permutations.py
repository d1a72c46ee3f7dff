"""The three k-minimum schemes of datasketch 2.0, reproduced exactly: permutations, start values, arithmetic.

Few elements are worked out by numpy, so that a small job never starts the compiler; many by compiled
loops. Both give the same bits.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import pairwise
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dataguard.errors import UsageError
from dataguard.fingerprints.arguments import is_whole
from dataguard.fingerprints.sketches.elements import checked_offsets
from dataguard.fingerprints.sketches.tokens import GIVEN, SHA1, hash_lists, starts_compiled

__all__ = [
    "COMPILED",
    "MAX_PERM",
    "PRIME",
    "SCHEMES",
    "Values",
    "empty_values",
    "kmins_lists",
    "kmins_sets",
    "known_size",
    "permutations",
    "value_type",
]

I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]
Values = NDArray[np.unsignedinteger[Any]]

SCHEMES: Final = ("affine32", "affine64", "legacy")
"""datasketch's names: the default since 2.0, its 64-bit form, and the only one before 2.0."""

MAX_PERM: Final = 1 << 16
"""Most permutations of a signature."""

PRIME: Final = (1 << 61) - 1

_COLD, _WARM = 3_000_000, 3_000
"""Elements (at 128 permutations) from which the compiled loops pay, before and after numba is loaded."""
COMPILED: Final = ("affine32", "legacy")
"""Schemes whose compiled loop gives datasketch's bits (tested); the others are worked out by numpy."""
_PART = 1 << 17
"""Products that the plain path holds at a time: they stay in the cache."""
_LONG = 16
"""Elements of a set from which a minimum of its own is faster than numpy's ``reduceat`` over many sets."""


def _known(scheme: str) -> str:
    if scheme not in SCHEMES:
        raise UsageError(
            f"unknown scheme {scheme!r}", where="k-mins", remedy=f"use one of {', '.join(SCHEMES)}"
        )
    return scheme


def value_type(scheme: str) -> np.dtype[Any]:
    """Return the type of the values of a scheme: uint32, or uint64 for ``affine64``."""
    return np.dtype(np.uint64 if _known(scheme) == "affine64" else np.uint32)


def empty_values(scheme: str, num_perm: int) -> Values:
    """Return the signature of the empty set: (num_perm,), every value the greatest of its type."""
    known_size(num_perm)
    kind = value_type(scheme)
    return np.full(num_perm, np.iinfo(kind).max, kind)


def known_size(num_perm: int) -> None:
    """Refuse a number of permutations outside 1 to :data:`MAX_PERM` with UsageError."""
    if not (is_whole(num_perm) and 1 <= num_perm <= MAX_PERM):
        raise UsageError(
            f"{num_perm} permutations", where="k-mins", remedy=f"use 1 to {MAX_PERM}, such as 128"
        )


@lru_cache(maxsize=64)
def permutations(scheme: str, num_perm: int, seed: int) -> tuple[Values, Values]:
    """Return factors a and summands b, (num_perm,) each and read-only, as datasketch 2.0 draws them.

    From ``numpy.random.RandomState(seed)`` (its stream is frozen, NEP 19): ``affine32`` and ``affine64``
    draw all a / 2 below 2**(w-1) (a is odd: the map is a bijection), then all b below 2**w; ``legacy``
    draws a in [1, 2**61 - 1) and b in [0, 2**61 - 1) in turn.

    Raises
    ------
    UsageError
        An unknown scheme, a size out of range, or a seed outside 0 to 2**32 - 1.
    """
    _known(scheme)
    known_size(num_perm)
    if not (is_whole(seed) and 0 <= seed < 1 << 32):
        raise UsageError(f"seed {seed} is out of range", where="k-mins", remedy="use 0 to 4294967295")
    generator = np.random.RandomState(seed)
    a: Values
    b: Values
    if scheme == "legacy":
        pairs = [
            (generator.randint(1, PRIME, dtype=np.uint64), generator.randint(0, PRIME, dtype=np.uint64))
            for _ in range(num_perm)
        ]
        a, b = np.array(pairs, np.uint64).T.copy()
    else:
        kind = value_type(scheme)
        width = 8 * kind.itemsize
        one = kind.type(1)
        a = generator.randint(0, 1 << (width - 1), num_perm, dtype=kind.type) * kind.type(2) + one
        b = generator.randint(0, 1 << width, num_perm, dtype=kind.type)
    a.flags.writeable = b.flags.writeable = False
    return a, b


_FMIX = {
    4: (16, 0x85EBCA6B, 13, 0xC2B2AE35, 16),
    8: (33, 0xFF51AFD7ED558CCD, 33, 0xC4CEB9FE1A85EC53, 33),
}
"""Finalisers of MurmurHash3 (A. Appleby), by width in bytes: shift, factor, shift, factor, shift."""


def _mixed(hashes: Values) -> Values:
    kind = hashes.dtype.type
    s1, m1, s2, m2, s3 = (kind(c) for c in _FMIX[hashes.dtype.itemsize])
    x = (hashes ^ (hashes >> s1)) * m1
    x = (x ^ (x >> s2)) * m2
    return x ^ (x >> s3)


def _permuted(hashes: Values, a: Values, b: Values, scheme: str) -> Values:
    """Return all values, (hashes, permutations)."""
    grid = hashes[:, None] * a + b
    if scheme != "legacy":
        return grid
    # Modulo 2**61 - 1 by adding the bits above to those below: numpy's remainder takes ten times as long.
    grid = (grid & np.uint64(PRIME)) + (grid >> np.uint64(61))
    grid = np.where(grid >= np.uint64(PRIME), grid - np.uint64(PRIME), grid)
    return (grid & np.uint64(0xFFFFFFFF)).astype(np.uint32)


def _plain(hashes: Values, offsets: I64, a: Values, b: Values, scheme: str, out: Values) -> None:
    """Lower the rows of `out` by the sets, without compiled code, some elements at a time."""
    if scheme != "legacy":
        hashes = _mixed(hashes)
    step = max(1, _PART // len(a))
    begin, end = int(offsets[0]), int(offsets[-1])
    for first in range(begin, end, step):
        last = min(end, first + step)
        grid = _permuted(hashes[first:last], a, b, scheme)
        # Sets that have elements here, and where those begin within this part.
        low = int(np.searchsorted(offsets, first, side="right")) - 1
        high = int(np.searchsorted(offsets, last, side="left"))
        starts = np.maximum(offsets[low:high], first) - first
        filled = np.minimum(offsets[low + 1 : high + 1], last) - first > starts
        rows = np.arange(low, high)[filled]
        if len(grid) >= _LONG * len(rows):
            begins = [*starts[filled].tolist(), len(grid)]
            for row, (start, stop) in zip(rows.tolist(), pairwise(begins), strict=True):
                np.minimum(out[row], grid[start:stop].min(axis=0), out=out[row])
        else:
            out[rows] = np.minimum(out[rows], np.minimum.reduceat(grid, starts[filled], axis=0))


def _compiled(hashes: Values, offsets: I64, a: Values, b: Values, scheme: str, out: Values) -> None:
    from dataguard.fingerprints.sketches._kernels import affine32_sets, legacy_sets

    size = len(a)
    if scheme == "legacy":
        wide = out.astype(np.uint64)
        legacy_sets(hashes, offsets, a, b, size, wide.reshape(-1))
        out[...] = wide
        return
    # The loop works on 64 permutations at a time: other sizes are filled up and cut.
    full = (size + 63) // 64 * 64
    if full != size:
        a, b = (np.concatenate([x, np.zeros(full - size, x.dtype)]) for x in (a, b))
    room = np.empty(4096, np.uint32)
    target = out if full == size else np.full((len(out), full), np.iinfo(np.uint32).max, np.uint32)
    affine32_sets(hashes, offsets, a, b, room, full, target.reshape(-1))
    if full != size:
        np.minimum(out, target[:, :size], out=out)


def _fitting(hashes: ArrayLike, scheme: str, *, cut: bool) -> Values:
    """Return hashes in the type that a scheme works on; `cut` keeps the low half, otherwise it must be all."""
    given = np.ascontiguousarray(hashes)
    if given.ndim != 1 or (given.dtype.kind not in "ui" and given.size):
        raise UsageError(
            "hashes are one row of unsigned integers", where="k-mins", remedy="hash the elements first"
        )
    if given.dtype.kind == "i" and given.size and int(given.min()) < 0:
        raise UsageError("a hash is negative", where="k-mins", remedy="give unsigned integers")
    if scheme == "affine64" or given.dtype == np.uint32:
        return given.astype(np.uint32 if scheme == "affine32" else np.uint64, copy=False)
    if cut:
        given = given.astype(np.uint64, copy=False) & np.uint64(0xFFFFFFFF)
    elif scheme == "affine32" and given.size and int(given.max()) >> 32:
        raise UsageError(
            "a hash has more than 32 bits", where="k-mins affine32", remedy="use 32-bit hashes or affine64"
        )
    return given.astype(np.uint32 if scheme == "affine32" else np.uint64, copy=False)


def kmins_sets(
    hashes: ArrayLike,
    offsets: ArrayLike,
    *,
    num_perm: int = 128,
    seed: int = 1,
    scheme: str = "affine32",
    hash_scheme: int = GIVEN,
    out: Values | None = None,
) -> Values:
    """Return the signatures of many sets, as datasketch gives them for the same hashes.

    Parameters
    ----------
    hashes : (m,) unsigned integers
        Hashes of the elements, sets end to end. Given ones (`hash_scheme` 0) must fit 32 bits with
        ``affine32``; of a named hash the 32-bit schemes use the low half.
    offsets : (n + 1,) integers
        Set i is ``hashes[offsets[i] : offsets[i + 1]]``; ascending.
    num_perm, seed, scheme
        As datasketch names them; see :func:`permutations`.
    out : (n, num_perm) array, optional
        Where to write; C-contiguous, of the scheme's type. Reusing it saves time with short sets.

    Returns
    -------
    (n, num_perm) uint32 (``affine64``: uint64)

    Raises
    ------
    UsageError
        Offsets that do not ascend within the hashes, hashes too wide, or an unfit `out`.
    """
    a, b = permutations(scheme, num_perm, seed)
    ready = _fitting(hashes, scheme, cut=hash_scheme != GIVEN)
    ends = checked_offsets(offsets, len(ready), "k-mins")
    kind = value_type(scheme)
    if out is None:
        out = np.empty((len(ends) - 1, num_perm), kind)
    elif out.shape != (len(ends) - 1, num_perm) or out.dtype != kind or not out.flags.c_contiguous:
        raise UsageError(
            f"the output must be {(len(ends) - 1, num_perm)} {kind}", where="k-mins", remedy="leave it out"
        )
    out[...] = np.iinfo(kind).max
    work = int(ends[-1] - ends[0]) * num_perm // 128
    if scheme in COMPILED and starts_compiled(work, _COLD, _WARM):
        _compiled(ready, ends, a, b, scheme, out)
    else:
        _plain(ready, ends, a, b, scheme, out)
    return out


def kmins_lists(
    column: Any,
    *,
    num_perm: int = 128,
    seed: int = 1,
    scheme: str = "affine32",
    hash_scheme: int = SHA1,
) -> Values:
    """Return the signatures of an Arrow column of lists, one per row; parameters as :func:`kmins_sets`.

    With the defaults, row i equals ``datasketch.MinHash`` fed with the bytes of list i.
    """
    hashes, offsets = hash_lists(column, hash_scheme)
    return kmins_sets(hashes, offsets, num_perm=num_perm, seed=seed, scheme=scheme, hash_scheme=hash_scheme)
