"""FracMinHash: every element whose hash is small, so that a sketch of a part is a part of the sketch.

The compact tier of containment: 8 bytes per `scaled` rows, exact merging, containment both ways, sizes.
Definition: keep h with h * scaled < 2**64 (Irber et al., "Lightweight compositional analysis of metagenomes
with FracMinHash and minimum metagenome covers", bioRxiv 2022.01.11.475838; sourmash's ``scaled``).

Parameter block: uint64 scaled. Payload: strictly ascending uint64, little-endian.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dataguard.errors import DecodeError, UsageError
from dataguard.fingerprints.arguments import is_whole, same_class
from dataguard.fingerprints.sketches.elements import checked_hashes, distinct, frozen
from dataguard.fingerprints.sketches.envelope import FRAC, pack, same_scheme, unpack
from dataguard.fingerprints.sketches.estimate import (
    CONFIDENCE,
    Estimate,
    binomial_limits,
    binomial_lower,
    binomial_upper,
    first,
    hypergeometric_limits,
    miss,
)

__all__ = ["SCALED", "Frac"]

U64 = NDArray[np.uint64]

VERSION = 1
SCALED = 1000

_PARAMS = struct.Struct("<Q")
_ALL = (1 << 64) - 1


@dataclass(frozen=True, slots=True, eq=False)
class Frac:
    """The small hashes of a set.

    Parameters
    ----------
    hashes : ndarray of uint64
        Strictly ascending, all with h * scaled < 2**64. Taken over, and set read-only.
    scaled : int
        One of so many elements is kept, on average; 1 or more.
    hash_scheme : int
        How the elements were hashed.
    """

    hashes: U64
    scaled: int = SCALED
    hash_scheme: int = 0

    def __post_init__(self) -> None:
        checked_hashes(self.hashes, "Frac", whole=False)  # the kept ones are small
        if not (is_whole(self.scaled) and 1 <= self.scaled <= _ALL):
            raise UsageError(f"scaled {self.scaled} is not positive", where="Frac", remedy="use 1 or more")
        if len(self.hashes) and (
            int(self.hashes[-1]) > _most(self.scaled) or not (self.hashes[1:] > self.hashes[:-1]).all()
        ):
            raise UsageError("hashes are not ascending and small", where="Frac", remedy="use Frac.build")
        object.__setattr__(self, "hashes", frozen(self.hashes))

    def __reduce__(self) -> tuple[object, ...]:
        return type(self).from_bytes, (self.to_bytes(),)

    # --- making ---------------------------------------------------------------------------------

    @classmethod
    def build(cls, hashes: U64, scaled: int = SCALED, hash_scheme: int = 0) -> Frac:
        """Return the sketch of some elements; repeated ones count once.

        Parameters
        ----------
        hashes : ndarray of uint64
        scaled : int
        """
        if not (is_whole(scaled) and 1 <= scaled <= _ALL):
            raise UsageError(f"scaled {scaled} is not positive", where="Frac", remedy="use 1 or more")
        flat = checked_hashes(hashes, "Frac", whole=scaled < 1 << 30)  # those kept at such a scale are small
        return cls(distinct(_small(flat, scaled)), scaled, hash_scheme)

    def add(self, hashes: U64) -> Frac:
        """Return this sketch with more elements in it."""
        return self.merge(Frac.build(hashes, self.scaled, self.hash_scheme))

    def merge(self, other: Frac) -> Frac:
        """Return the sketch of the union, the same as if built from all elements.

        Raises
        ------
        SchemeMismatch
            Another scale (see :meth:`downsample`) or hash scheme.
        """
        same_class(self, other)
        same_scheme(
            "Frac",
            hash_schemes=(self.hash_scheme, other.hash_scheme),
            scales=(self.scaled, other.scaled),
        )
        return Frac(distinct(np.concatenate([self.hashes, other.hashes])), self.scaled, self.hash_scheme)

    def downsample(self, scaled: int) -> Frac:
        """Return the sketch that :meth:`build` would have given with a larger `scaled`.

        Raises
        ------
        UsageError
            A smaller one: what was not kept cannot come back.
        """
        if not is_whole(scaled) or scaled < self.scaled:
            raise UsageError(
                f"scaled {scaled} is finer than {self.scaled}", where="Frac", remedy="sketch again"
            )
        end = int(np.searchsorted(self.hashes, np.uint64(_most(scaled)), side="right"))
        return Frac(self.hashes[:end].copy(), scaled, self.hash_scheme)

    # --- estimates ------------------------------------------------------------------------------

    def shared(self, other: Frac) -> tuple[int, int, int]:
        """Return kept elements (in both, in this one, in the other) at the coarser of the two scales.

        Raises
        ------
        SchemeMismatch
            Another hash scheme.
        """
        same_class(self, other)
        same_scheme("Frac", hash_schemes=(self.hash_scheme, other.hash_scheme))
        scaled = max(self.scaled, other.scaled)
        mine, theirs = self.downsample(scaled).hashes, other.downsample(scaled).hashes
        few, many = (mine, theirs) if len(mine) < len(theirs) else (theirs, mine)
        at = np.searchsorted(many, few)
        inside = at < len(many)
        return int((many[at[inside]] == few[inside]).sum()), len(mine), len(theirs)

    def containment(
        self, suspect: Frac, elements: int | None = None, confidence: float = CONFIDENCE
    ) -> Estimate:
        """Return the share of the suspect's elements that are in this set; for the other way swap the two.

        Parameters
        ----------
        suspect : Frac
        elements : int, optional
            Number of distinct elements of the suspect, if known: the interval is then exact for it.
        confidence : float

        Notes
        -----
        The kept elements of the suspect are a random draw without replacement from all of its elements:
        given their number n, those inside are hypergeometric. Without `elements`, the binomial limits of
        Clopper and Pearson are used, which are wider. n = 0 gives value 0 with limits 0 and 1.
        """
        both, _, kept = self.shared(suspect)
        if kept == 0:
            return Estimate(0.0, 0.0, 1.0, confidence)
        if elements is None:
            return Estimate(both / kept, *binomial_limits(both, kept, confidence), confidence)
        if not is_whole(elements) or elements < kept:
            raise UsageError(
                f"{elements} distinct elements, but {kept} in the sketch", where="Frac", remedy="count again"
            )
        low, high = hypergeometric_limits(both, kept, elements, confidence)
        return Estimate(both / kept, low / elements, high / elements, confidence)

    def jaccard(self, other: Frac, confidence: float = CONFIDENCE) -> Estimate:
        """Return |A and B| / |A or B|: of the kept elements of the union, those in both are binomial at most."""
        both, mine, theirs = self.shared(other)
        union = mine + theirs - both
        if union == 0:
            return Estimate(0.0, 0.0, 1.0, confidence)
        return Estimate(both / union, *binomial_limits(both, union, confidence), confidence)

    def cardinality(self, confidence: float = CONFIDENCE) -> Estimate:
        """Return the number of distinct elements, kept * scaled.

        kept ~ Binomial(N, 1 / scaled); the limits are the least and the largest N that neither one-sided
        test rejects.
        """
        kept, chance, tail = len(self.hashes), 1 / self.scaled, miss(confidence)
        value = float(kept * self.scaled)
        if self.scaled == 1:
            return Estimate(value, value, value, confidence)
        beyond = int(4 * value + 100 * self.scaled)
        low = first(kept, beyond, lambda n: binomial_upper(kept, n, chance) > tail)
        high = first(kept, beyond, lambda n: binomial_lower(kept, n, chance) <= tail) - 1
        return Estimate(value, float(low), float(high), confidence)

    # --- bytes ----------------------------------------------------------------------------------

    def to_bytes(self) -> bytes:
        """Return the sketch in the common frame, kind 5."""
        payload = np.ascontiguousarray(self.hashes, "<u8").tobytes()
        return pack(FRAC, VERSION, self.hash_scheme, _PARAMS.pack(self.scaled), payload)

    @classmethod
    def from_bytes(cls, data: bytes | bytearray | memoryview) -> Frac:
        """Return the sketch that some bytes hold.

        Raises
        ------
        DecodeError, SchemeMismatch
            Not such a sketch, damaged, or of a newer version.
        """
        parts = unpack(data, FRAC, VERSION)
        if len(parts.params) != _PARAMS.size or parts.payload.nbytes % 8:
            raise DecodeError("blocks of a wrong length", where="FracMinHash sketch")
        (scaled,) = _PARAMS.unpack(parts.params)
        hashes = np.frombuffer(parts.payload, "<u8").astype(np.uint64)
        try:
            return cls(hashes, scaled, parts.hash_scheme)
        except UsageError as error:
            raise DecodeError(error.what, where="FracMinHash sketch") from error


def _most(scaled: int) -> int:
    """Return the largest hash that is kept."""
    return _ALL // scaled


def _small(hashes: U64, scaled: int) -> U64:
    from dataguard.fingerprints.sketches.counting._kernels import frac_keep

    if scaled == 1:
        return hashes
    bound, parts, at = np.uint64(_most(scaled) + 1), [], 0
    while at < len(hashes):
        rest = (len(hashes) - at) // scaled
        out = np.empty(rest + 8 * int(rest**0.5) + 128, np.uint64)
        kept, at = frac_keep(hashes, bound, at, out)
        parts.append(out[:kept])
    return np.concatenate(parts) if parts else np.empty(0, np.uint64)
