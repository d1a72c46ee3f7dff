"""Hashes of what cells mean, so that "1,000.0", 1000 and the full-width digits of it are one element.

Sets of values are compared across files whose formats differ; a hash of the bytes would see two worlds.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dataguard.fingerprints.hashing.schemes import NULL_HASH
from dataguard.folding.columns import fold_column
from dataguard.folding.meaning import Ways
from dataguard.values import canonical_column, mix64

__all__ = ["hash_meanings"]

U64 = NDArray[np.uint64]

_DOMAIN = np.uint64(0x6467666F_00000001)
"""Public constant of scheme ``folded-1``."""


def hash_meanings(values: pa.Array | pa.ChunkedArray, ways: Ways | None = None) -> U64:
    """Return the hashes of a column's folded values, scheme ``folded-1``.

    Parameters
    ----------
    values : pyarrow.Array or ChunkedArray
        Numbers, times, texts; as :func:`dataguard.values.canonical_column`.
    ways : Ways, optional
        How ambiguous texts are read, from ``dataguard.folding.columns``; what the column itself decides by default.

    Returns
    -------
    (n,) uint64
        ``mix64(key xor 0x6467666F00000001)`` of the key of the folded cell; ``NULL_HASH`` where it is missing.
    """
    key = fold_column(canonical_column(values), ways).column.key
    return np.where(key == 0, np.uint64(NULL_HASH), mix64(key ^ _DOMAIN))
