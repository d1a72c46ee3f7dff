"""Fast Similarity Sketching of a few sets by numpy alone, so that a small job never starts the compiler.

The same slots, bit for bit, as :func:`dataguard.fingerprints.sketches.resemblance.sketch_sets` gives.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dataguard.fingerprints.sketches.resemblance import EMPTY, multipliers, sketch_sets
from dataguard.fingerprints.sketches.tokens import starts_compiled

__all__ = ["sketch_few", "sketch_plain"]

I64 = NDArray[np.int64]
U32 = NDArray[np.uint32]
U64 = NDArray[np.uint64]

_COLD, _WARM = 3_000_000, 2_000
"""Elements from which compiled loops pay, before and after numba is loaded."""
_PART: Final = 4_096


def _slots(z: U64, size: int) -> U32:
    slots = np.full(size, EMPTY, np.uint32)
    if not len(z):
        return slots
    mask = np.uint64(size - 1)
    np.minimum.at(slots, (z & mask).astype(np.intp), (z >> np.uint64(34)).astype(np.uint32))
    if slots.max() < EMPTY:
        return slots
    second = (z << np.uint64(30)) >> np.uint64(34) | np.uint64(1 << 30)
    np.minimum.at(slots, (z >> np.uint64(12) & mask).astype(np.intp), second.astype(np.uint32))
    empty = slots == EMPTY
    if not empty.any():
        return slots
    factors = multipliers(size)[empty]
    for first in range(0, len(z), _PART):
        upper = (z[first : first + _PART] >> np.uint64(32)).astype(np.uint32)
        least = (upper[:, None] * factors).min(axis=0) >> np.uint32(2) | np.uint32(3 << 30)
        slots[empty] = np.minimum(slots[empty], least)
    return slots


def sketch_plain(hashes: U64, offsets: I64, size: int) -> U32:
    """Return the (n, size) sketches of n sets without compiled code; parameters as `sketch_sets`."""
    ends = offsets.tolist()
    out = np.empty((len(ends) - 1, size), np.uint32)
    for i, (start, stop) in enumerate(pairwise(ends)):
        out[i] = _slots(hashes[start:stop], size)
    return out


def sketch_few(hashes: U64, offsets: I64, size: int) -> U32:
    """Return the (n, size) sketches of n sets, compiled where it pays; parameters as `sketch_sets`.

    Raises
    ------
    UsageError
        A size that the sketch cannot have, see :func:`~dataguard.fingerprints.sketches.resemblance.check_size`.
    """
    multipliers(size)
    # A set costs the plain path about as much as 500 elements.
    if starts_compiled(len(hashes) + 500 * len(offsets), _COLD, _WARM):
        return sketch_sets(hashes, offsets, size)
    return sketch_plain(hashes, offsets, size)
