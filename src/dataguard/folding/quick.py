"""The commonest written numbers and dates, read for whole columns at a time.

Each reading is that of the rules in ``numerals.py`` and ``moments.py``, ten times as fast; what is
not of these shapes is left to them.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

__all__ = ["as_micros", "day_exists", "grouped_numbers", "lone_groups", "matches", "year_first"]

B = NDArray[np.bool_]
I64 = NDArray[np.int64]

_GROUPED = r"^[+-]?[1-9]\d{0,2}(?:,\d{3}){1,5}(?:\.\d*)?$"
_LONE = r"^[+-]?\d+,\d{3}$"
_YEAR_FIRST = (
    r"^(?P<y>\d{4})(?:-(?P<m>\d{1,2})-|/(?P<n>\d{1,2})/)(?P<d>\d{1,2})"
    r"(?:[t ](?P<h>\d{1,2}):(?P<i>\d{2})(?::(?P<s>\d{2}))?z?)?$"
)
_DAYS = np.array([0, 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31])


def matches(texts: pa.Array, pattern: str) -> B:
    """Return which texts a pattern (RE2) is found in."""
    found: B = pc.match_substring_regex(texts, pattern).to_numpy(zero_copy_only=False)
    return found


def grouped_numbers(texts: pa.Array) -> B:
    """Return which texts are numbers with commas between thousands."""
    return matches(texts, _GROUPED)


def lone_groups(texts: pa.Array) -> B:
    """Return which of those would be a number with a decimal comma too."""
    return matches(texts, _LONE)


def day_exists(year: I64, month: I64, day: I64) -> B:
    """Return which days are in the calendar (proleptic Gregorian)."""
    leap = (year % 4 == 0) & ((year % 100 != 0) | (year % 400 == 0))
    days = _DAYS[np.clip(month, 0, 12)] + (leap & (month == 2))
    found: B = (month >= 1) & (month <= 12) & (day >= 1) & (day <= days)
    return found


def as_micros(year: I64, month: I64, day: I64, seconds: I64) -> I64:
    """Return microseconds since 1970 of days that exist, and seconds of the day."""
    months = ((year - 1970) * 12 + month - 1).astype("datetime64[M]")
    days: I64 = months.astype("datetime64[D]").astype(np.int64) + day - 1
    return (days * 86_400 + seconds) * 1_000_000


def year_first(texts: pa.Array) -> tuple[B, I64]:
    """Read 2013-1-5 and 2013/01/05 10:30:15.

    Returns
    -------
    (n,) bool, (k,) int64
        Which texts are such moments; microseconds since 1970 of those, in order.
    """
    found = matches(texts, _YEAR_FIRST)
    some = pc.extract_regex(texts.filter(pa.array(found)), _YEAR_FIRST)

    def part(name: str) -> I64:
        digits = some.field(name)
        numbers: I64 = pc.if_else(pc.equal(digits, ""), "0", digits).cast(pa.int64()).to_numpy()
        return numbers

    year, month, day = part("y"), part("m") + part("n"), part("d")
    hour, minute, second = part("h"), part("i"), part("s")
    # The years 1 and 9999 at their edges are left to the rules.
    sound = day_exists(year, month, day) & (year > 1) & (year < 9999)
    sound &= (hour < 24) & (minute < 60) & (second < 60)
    at = np.flatnonzero(found)
    found[at[~sound]] = False
    return found, as_micros(year, month, day, hour * 3600 + minute * 60 + second)[sound]
