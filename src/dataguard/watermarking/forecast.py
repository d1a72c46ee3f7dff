"""How small a leak can be traced: computed from the plan, before anything is released."""

from __future__ import annotations

import math
from dataclasses import dataclass

__all__ = ["Forecast", "forecast", "votes_needed"]


@dataclass(frozen=True, slots=True)
class Forecast:
    """Smallest traceable leak of unchanged rows, in expectation.

    Attributes
    ----------
    slots_per_row : float
        Slots a row is an end of, on average.
    votes_needed : int
        Clean votes that name one of `recipients` at `alpha` in a first run.
    rows : int
        Rows that hold so many slots on average; a given leak may need a few more.
    alpha : float
        Family-wise error.
    recipients : int
    """

    slots_per_row: float
    votes_needed: int
    rows: int
    alpha: float
    recipients: int


def votes_needed(alpha: float, recipients: int, bias_bits: float = 1.0) -> int:
    """Return the least n with 2**(-n * bias_bits) <= alpha / (2 recipients).

    A clean vote of a fair slot agrees with an innocent key with probability one half; the
    first run on a dataset may spend half of alpha.
    """
    return math.ceil(math.log2(2 * recipients / alpha) / bias_bits)


def forecast(slots: int, rows: int, *, alpha: float = 1e-9, recipients: int = 1000) -> Forecast:
    """Return the forecast for a plan of `slots` two-ended slots on `rows` rows."""
    per_row = 2 * slots / max(1, rows)
    needed = votes_needed(alpha, recipients)
    return Forecast(
        round(per_row, 4), needed, math.ceil(needed / per_row) if per_row else 0, alpha, recipients
    )
