"""What is known of copied rows, and what row alignment says of each suspect row."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Linkage", "RowMatch"]

B = NDArray[np.bool_]
F64 = NDArray[np.float64]
I64 = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Linkage:
    """What is known of copied rows, and of rows that were not copied.

    Attributes
    ----------
    shares : (C, 4) float64
        Equal, close, near and far cells of a row and the one it was copied from.
    apart : (C, 4) float64
        The same for a row of the same source and its best match among the others.
    cutoff : float
        Nats by which `shares` must explain a row better than `apart`.
    searched : float
        The same for a row that differs in some column: few of those matched may be wrong, too.
    strict : float
        The same, so that hardly any control row passes.
    """

    shares: F64
    apart: F64
    cutoff: float
    searched: float
    strict: float


@dataclass(frozen=True, slots=True)
class RowMatch:
    """The outcome for m suspect rows.

    Attributes
    ----------
    original : (m,) int64
        Matched original row, -1 where none.
    equal : (m,) int64
        Columns that agree exactly; 0 where none is matched.
    ambiguous : (m,) bool
        Whether several original rows fit about equally well.
    """

    original: I64
    equal: I64
    ambiguous: B
