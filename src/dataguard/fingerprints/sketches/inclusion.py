"""Is a suspect inside a registered table: the two tiers, the cheap one first.

FracMinHash reads the suspect at memory speed and settles the large ones; what it cannot settle, such as a
hundred rows, the Bloom filter of all rows does. Both compare with what chance alone would show.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from dataguard.errors import UsageError
from dataguard.fingerprints.arguments import is_number, is_whole, same_class
from dataguard.fingerprints.sketches.bloom import BITS_PER_ROW, Bloom, blocks_for
from dataguard.fingerprints.sketches.estimate import Estimate, log10_binomial_tail
from dataguard.fingerprints.sketches.frac import SCALED, Frac

__all__ = ["ALPHA", "Inclusion", "InclusionTest", "bytes_needed"]

U64 = NDArray[np.uint64]

ALPHA = 1e-6
"""Chance of "found" when no row is shared: at most this, for each of the two tiers; for rows that nobody chose by
their hashes (see :meth:`InclusionTest.decide`)."""

SHARE = 0.01
"""Share of the suspect below which "not-found" may be said."""


ENOUGH = 100
"""Kept rows of the suspect from which on the first tier may settle it alone: its limits are wide with fewer."""


@dataclass(frozen=True, slots=True)
class Inclusion:
    """What an inclusion test says.

    Attributes
    ----------
    answer : str
        ``found``: more rows of the suspect are in the table than chance shows. ``not-found``: fewer than the
        share asked for are. ``undecided``: neither can be said.
    tier : str
        What settled it, ``frac`` or ``bloom``.
    rows, hits : int
        Distinct rows this tier looked at, and how many of them it found.
    log10_p : float
        Upper bound on log10 of the chance of as many hits if no row were shared; not below -30.
    containment : Estimate
        Share of the suspect's distinct rows that are in the table.
    """

    answer: Literal["found", "not-found", "undecided"]
    tier: Literal["frac", "bloom"]
    rows: int
    hits: int
    log10_p: float
    containment: Estimate


@dataclass(frozen=True, slots=True)
class InclusionTest:
    """Both tiers of one registered table.

    Keep it with ``frac.to_bytes()`` and ``bloom.to_bytes()``, and make it again from the two. Parts that shall be
    merged need the same `expected`, the rows of the whole.

    Parameters
    ----------
    frac : Frac
    bloom : Bloom
    """

    frac: Frac
    bloom: Bloom

    def __post_init__(self) -> None:
        if not isinstance(self.frac, Frac) or not isinstance(self.bloom, Bloom):
            raise UsageError(
                "a Frac and a Bloom are needed", where="InclusionTest", remedy="use InclusionTest.build"
            )
        if self.frac.hash_scheme != self.bloom.hash_scheme:
            raise UsageError(
                "the tiers were hashed differently", where="InclusionTest", remedy="build them together"
            )

    @classmethod
    def build(
        cls,
        hashes: U64,
        expected: int | None = None,
        bits_per_row: float = BITS_PER_ROW,
        scaled: int = SCALED,
        hash_scheme: int = 0,
    ) -> InclusionTest:
        """Return both tiers of a table's row hashes; parameters as in ``Bloom.build`` and ``Frac.build``."""
        return cls(
            Frac.build(hashes, scaled, hash_scheme), Bloom.build(hashes, expected, bits_per_row, hash_scheme)
        )

    def merge(self, other: InclusionTest) -> InclusionTest:
        """Return the test of both tables' rows; refuses what its tiers refuse."""
        same_class(self, other)
        return InclusionTest(self.frac.merge(other.frac), self.bloom.merge(other.bloom))

    def decide(self, hashes: U64, share: float = SHARE, alpha: float = ALPHA) -> Inclusion:
        """Return whether rows of a suspect are in the table.

        Parameters
        ----------
        hashes : ndarray of uint64
            Hashes of the suspect's rows.
        share : float
            "not-found" needs the upper limit of the containment below this.
        alpha : float
            "found" needs a chance of at most this; and the limits miss with a chance of at most this, on each
            side.

        Notes
        -----
        A kept row of the suspect meets a kept one of the table by chance with at most kept * scaled / 2**64.
        With 16 bits a row, 1 % of 10,000 rows (100 of them) or 6 of 100 rows are found at alpha = 1e-6; of 100
        rows a single one is not: 0.13 hits are there by chance.

        Hash and filter are public functions: who has the table, or the filter, can make rows in any number that
        it takes for its own (one candidate in 800 is; 5,000 such rows take a second). So the chances hold for
        rows that came about without regard to their hashes, and "found" is a reason to compare rows, not a
        finding about any suspect whatever. The first tier says "found" only when the share inside is surely as
        large as the one asked for: of many rows it could tell a single shared one, such as one without values.
        """
        if not (is_number(alpha) and is_number(share) and 0 < alpha < 0.5 and 0 < share < 1):
            raise UsageError(
                f"share {share} or alpha {alpha} out of range",
                where="InclusionTest",
                remedy="use a share between 0 and 1, an alpha between 0 and 0.5",
            )
        first = self._by_frac(Frac.build(hashes, self.frac.scaled, self.frac.hash_scheme), share, alpha)
        if first.answer != "undecided" and first.rows >= ENOUGH:
            return first
        seen = self.bloom.hits(hashes, 1 - 2 * alpha)
        answer = _answer(seen.log10_p, seen.containment, share, alpha)
        if answer == "undecided" and first.answer == "found":
            return first
        return Inclusion(answer, "bloom", seen.rows, seen.hits, seen.log10_p, seen.containment)

    def _by_frac(self, suspect: Frac, share: float, alpha: float) -> Inclusion:
        hits, kept, rows = self.frac.shared(suspect)
        log10_p = log10_binomial_tail(hits, rows, kept * self.frac.scaled / 2.0**64)
        containment = self.frac.containment(suspect, confidence=1 - 2 * alpha)
        answer = _answer(log10_p, containment, share, alpha)
        if answer == "found" and containment.low < share:
            answer = "undecided"
        return Inclusion(answer, "frac", rows, hits, log10_p, containment)


def _answer(
    log10_p: float, containment: Estimate, share: float, alpha: float
) -> Literal["found", "not-found", "undecided"]:
    if log10_p <= math.log10(alpha):
        return "found"
    return "not-found" if containment.high < share else "undecided"


def bytes_needed(rows: int, bits_per_row: float = BITS_PER_ROW, scaled: int = SCALED) -> tuple[int, int]:
    """Return the bytes of both tiers, (frac, bloom), for a table of so many rows, before it is built."""
    blocks = blocks_for(rows, bits_per_row)
    if not is_whole(scaled) or scaled < 1:
        raise UsageError(f"scaled {scaled!r} is not positive", where="InclusionTest", remedy="use 1 or more")
    return 8 * math.ceil(rows / scaled), 32 * blocks
