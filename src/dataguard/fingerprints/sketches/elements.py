"""What every sketch is fed: 64-bit hashes, checked once at the door.

A float or a signed integer that slipped in would be converted without a word, and every number after it
would be wrong without a sign of it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dataguard.errors import UsageError

__all__ = ["checked_hashes", "checked_offsets", "distinct", "frozen"]

_PROBED, _FEWEST = 64, 16
"""Hashes looked at, and the fewest that tell: 16 true ones lack their upper 30 bits once in 10**144."""


def checked_hashes(
    hashes: NDArray[np.uint64], where: str, *, whole: bool = True, fewest: int = _FEWEST
) -> NDArray[np.uint64]:
    """Return element hashes as a contiguous array, not copied when they are one.

    Parameters
    ----------
    hashes : (n,) uint64
    where : str
        Name of the sketch, for the message.
    whole : bool
        Whether all 64 bits must be in use, which the first hashes tell. Row numbers or hashes of 32 bits
        would give numbers that look like an answer: one element instead of a thousand, "not found".
    fewest : int
        Hashes from which on that is looked at.

    Raises
    ------
    UsageError
        Not a flat array of uint64, or hashes with nothing in their upper bits.
    """
    if not isinstance(hashes, np.ndarray) or hashes.dtype != np.uint64 or hashes.ndim != 1:
        found = f"{hashes.dtype} of shape {hashes.shape}" if isinstance(hashes, np.ndarray) else type(hashes)
        raise UsageError(
            f"element hashes must be a flat uint64 array, not {found}",
            where=where,
            remedy="hash the values first, or convert with .astype('uint64')",
        )
    probe = hashes[:_PROBED]
    if whole and len(probe) >= fewest and not (probe >> np.uint64(34)).any():
        raise UsageError(
            "the hashes use their lower bits only",
            where=where,
            remedy="hash the values with hash_column or hash_values, which fill all 64 bits",
        )
    return np.ascontiguousarray(hashes)


def checked_offsets(offsets: ArrayLike, elements: int, where: str) -> NDArray[np.int64]:
    """Return the borders of sets in a flat array: set i is ``[offsets[i], offsets[i + 1])``.

    Raises
    ------
    UsageError
        Not ascending integers within [0, elements].
    """
    borders = np.asarray(offsets)
    if borders.ndim != 1 or len(borders) < 1 or borders.dtype.kind not in "iu":
        raise UsageError("offsets must be a flat array of n + 1 integers", where=where)
    borders = np.ascontiguousarray(borders, np.int64)
    # Compared, not subtracted: a difference of wild offsets may wrap around to a harmless one.
    if borders[0] < 0 or borders[-1] > elements or (borders[1:] < borders[:-1]).any():
        raise UsageError(
            f"offsets do not ascend within the {elements} elements", where=where, remedy="give int64 borders"
        )
    return borders


def distinct(hashes: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return the distinct hashes, ascending.

    Sorting and comparing neighbours: ``numpy.unique`` of numpy 2.4 measures 20 times slower on 10 million.
    """
    ordered = np.sort(hashes)
    if len(ordered) < 2:
        return ordered
    first = np.empty(len(ordered), np.bool_)
    first[0] = True
    np.not_equal(ordered[1:], ordered[:-1], out=first[1:])
    return ordered if first.all() else ordered[first]


def frozen(array: NDArray[Any]) -> NDArray[Any]:
    """Return a copy that nobody can write to, also not by way of the array it was cut from."""
    if not array.flags.writeable and array.base is None and array.flags.c_contiguous:
        return array
    copy = np.array(array, order="C")
    copy.flags.writeable = False
    return copy
