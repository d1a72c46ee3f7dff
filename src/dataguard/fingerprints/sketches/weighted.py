"""ProbMinHash: resemblance of weighted sets (bags of tokens, histograms, rows with counts).

It estimates the probability Jaccard similarity J_P, and nothing else: datasketch's WeightedMinHash
estimates the weighted Jaccard similarity J_W, another number, so the two are never compared.
Algorithm 3, in its buffered form 3a: Ertl, "ProbMinHash - A class of locality-sensitive hash algorithms
for the (probability) Jaccard similarity", IEEE Trans. Knowl. Data Eng. 34, 2022 (arXiv 1911.00675).

Parameter block: uint32 slots. Payload: slots x uint64 elements, then slots x float64 points, little-endian.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dataguard.errors import DecodeError, UsageError
from dataguard.fingerprints.arguments import is_whole, same_class
from dataguard.fingerprints.sketches.elements import checked_hashes, checked_offsets, frozen
from dataguard.fingerprints.sketches.envelope import WEIGHTED, pack, same_scheme, unpack
from dataguard.fingerprints.sketches.estimate import CONFIDENCE, Estimate, binomial_limits

__all__ = ["SIZE", "Weighted", "sketch_weighted"]

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]

VERSION = 1
SIZE = 128
_LEAST, _MOST = 16, 4096
_EMPTY = np.uint64(0xFFFFFFFFFFFFFFFF)

_PARAMS = struct.Struct("<I")
_LIGHT, _HEAVY = 1e-100, 1e100


@dataclass(frozen=True, slots=True, eq=False)
class Weighted:
    """The sketch of one weighted set.

    Parameters
    ----------
    elements : ndarray of uint64, shape (size,)
        Per slot the hash of the element that holds it; all ones in the sketch of an empty set.
    points : ndarray of float64, shape (size,)
        Per slot the place of that element's point, 0 or more; infinite in the sketch of an empty set.
    hash_scheme : int
        How the elements were hashed.

    Notes
    -----
    Slot i of a set with weights w is the element d with the least E(d, i) / w(d), where the E are
    exponential and belong to the element alone. Hence P(slot equal) = J_P = sum over d of
    1 / (sum over e of max(w_A(e) / w_A(d), w_B(e) / w_B(d))); scaling all weights of a set changes nothing.
    """

    elements: U64
    points: F64
    hash_scheme: int = 0

    def __post_init__(self) -> None:
        if not isinstance(self.elements, np.ndarray) or not isinstance(self.points, np.ndarray):
            raise UsageError(
                "elements and points are no arrays", where="Weighted", remedy="use Weighted.build"
            )
        size = self.elements.size
        if self.elements.shape != (size,) or self.points.shape != (size,):
            raise UsageError("elements and points differ in shape", where="Weighted")
        if self.elements.dtype != np.uint64 or self.points.dtype != np.float64:
            raise UsageError("elements are uint64, points float64", where="Weighted", remedy="use build")
        _check_size(size)
        if not (self.points >= 0).all():
            raise UsageError(
                "a point is negative or no number", where="Weighted", remedy="use Weighted.build"
            )
        object.__setattr__(self, "elements", frozen(self.elements))
        object.__setattr__(self, "points", frozen(self.points))

    def __reduce__(self) -> tuple[object, ...]:
        return type(self).from_bytes, (self.to_bytes(),)

    @property
    def size(self) -> int:
        """Number of slots."""
        return self.elements.size

    @classmethod
    def build(cls, hashes: U64, weights: F64, size: int = SIZE, hash_scheme: int = 0) -> Weighted:
        """Return the sketch of one set; see :func:`sketch_weighted`."""
        elements, points = sketch_weighted(hashes, weights, np.array([0, np.size(hashes)], np.int64), size)
        return cls(elements[0], points[0], hash_scheme)

    def merge(self, other: Weighted) -> Weighted:
        """Return the sketch of the set with weights max(w_A(d), w_B(d)), bit for bit.

        For parts of one set that share no element this is the sketch of the whole. An element in both parts
        keeps its larger weight: to add counts up, add them before sketching. Per slot the lower point wins,
        of equal points the smaller element.

        Raises
        ------
        SchemeMismatch
            Another size or hash scheme.
        """
        same_class(self, other)
        same_scheme(
            "Weighted",
            hash_schemes=(self.hash_scheme, other.hash_scheme),
            sizes=(self.size, other.size),
        )
        theirs = (other.points < self.points) | (
            (other.points == self.points) & (other.elements < self.elements)
        )
        return Weighted(
            np.where(theirs, other.elements, self.elements),
            np.where(theirs, other.points, self.points),
            self.hash_scheme,
        )

    def probability_jaccard(self, other: Weighted, confidence: float = CONFIDENCE) -> Estimate:
        """Return the probability Jaccard similarity J_P of two sets: the share of slots with the same element.

        Limits: Clopper and Pearson. The slots of algorithm 3 scatter less than independent ones, so the
        interval errs on the wide side. An empty set resembles nothing: value 0, limits 0 and 1 if both are.

        Raises
        ------
        SchemeMismatch
            Another size or hash scheme.
        """
        same_class(self, other)
        same_scheme(
            "Weighted",
            hash_schemes=(self.hash_scheme, other.hash_scheme),
            sizes=(self.size, other.size),
        )
        empty = np.isinf(self.points[0]), np.isinf(other.points[0])
        if any(empty):
            return Estimate(0.0, 0.0, 1.0 if all(empty) else 0.0, confidence)
        same = int((self.elements == other.elements).sum())
        return Estimate(same / self.size, *binomial_limits(same, self.size, confidence), confidence)

    def to_bytes(self) -> bytes:
        """Return the sketch in the common frame, kind 7."""
        payload = (
            np.ascontiguousarray(self.elements, "<u8").tobytes()
            + np.ascontiguousarray(self.points, "<f8").tobytes()
        )
        return pack(WEIGHTED, VERSION, self.hash_scheme, _PARAMS.pack(self.size), payload)

    @classmethod
    def from_bytes(cls, data: bytes | bytearray | memoryview) -> Weighted:
        """Return the sketch that some bytes hold.

        Raises
        ------
        DecodeError, SchemeMismatch
            Not such a sketch, damaged, or of a newer version.
        """
        parts = unpack(data, WEIGHTED, VERSION)
        if len(parts.params) != _PARAMS.size or parts.payload.nbytes != 16 * _PARAMS.unpack(parts.params)[0]:
            raise DecodeError("blocks of a wrong length", where="weighted sketch")
        half = parts.payload.nbytes // 2
        elements = np.frombuffer(parts.payload[:half], "<u8").astype(np.uint64)
        points = np.frombuffer(parts.payload[half:], "<f8").astype(np.float64)
        empty = np.isinf(points)
        if not (points >= 0).all() or (empty.any() and not (empty.all() and (elements == _EMPTY).all())):
            raise DecodeError("points that no set can have", where="weighted sketch")
        try:
            return cls(elements, points, parts.hash_scheme)
        except UsageError as error:
            raise DecodeError(error.what, where="weighted sketch") from error


def sketch_weighted(hashes: U64, weights: F64, offsets: I64, size: int = SIZE) -> tuple[U64, F64]:
    """Return the sketches of many weighted sets: (elements, points), both of shape (sets, size).

    Parameters
    ----------
    hashes : ndarray of uint64, shape (m,)
        Element hashes of all sets, one after the other.
    weights : ndarray of float64, shape (m,)
        0 (the element is not there) or 1e-100 to 1e100. An element that is repeated within a set has its
        largest weight.
    offsets : ndarray of int64, shape (sets + 1,)
        Set i is ``hashes[offsets[i]:offsets[i + 1]]``.
    size : int
        Slots: a power of two from 16 to 4096. The standard error of J is sqrt(J (1 - J) / size) at most.

    Raises
    ------
    UsageError
        Lengths, weights or size out of range.

    Notes
    -----
    Element h places point j = 0, 1, ... at (j + x_j) / w in slot z_j mod size, with z_j the SplitMix64
    finaliser of h + (j + 1) 0xD1342543DE82EF95 and x_j = log(1 - u / size) / log(1 - 1 / size), u the upper 52
    bits of z_j / 2**52; -log(1 - y) is the sum of y**i / i for i = 1 to 12, by Horner's rule in doubles without
    fused operations, times the reciprocal of its value at 1 / size: the same bits on every machine.
    """
    from dataguard.fingerprints.sketches.counting._kernels import weighted_sets

    # Hashes that follow a rule are mixed again: nothing is wrong with small ones.
    flat = checked_hashes(hashes, "Weighted", whole=False)
    try:
        strengths = np.ascontiguousarray(weights, np.float64)
    except (TypeError, ValueError) as wrong:
        raise UsageError(
            "weights are no numbers", where="Weighted", remedy="give one number a hash"
        ) from wrong
    if strengths.shape != flat.shape:
        raise UsageError(f"{len(flat)} hashes, {strengths.size} weights", where="Weighted")
    if not ((strengths == 0) | ((strengths >= _LIGHT) & (strengths <= _HEAVY))).all():
        raise UsageError(
            "a weight is negative, not finite or out of range",
            where="Weighted",
            remedy="use 0 or 1e-100 to 1e100",
        )
    _check_size(size)
    borders = checked_offsets(offsets, len(flat), "Weighted")
    elements = np.empty((len(borders) - 1, size), np.uint64)
    points = np.empty((len(borders) - 1, size), np.float64)
    weighted_sets(flat, strengths, borders, points.view(np.uint64), elements)
    return elements, points


def _check_size(size: int) -> None:
    if not (is_whole(size) and _LEAST <= size <= _MOST) or size & (size - 1):
        raise UsageError(f"size {size}", where="Weighted", remedy="use a power of two from 16 to 4096")
