"""Dates and times as people write them: ISO and its relatives, month names, 年月日, Japanese eras.

A reading is a moment in UTC, with what must be known of the column before it may be believed:
the order of day and month, and whether 2013.1.5 is a date at all.
"""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import dataclass

__all__ = ["COMPACT", "TIME_SHAPES", "Stated", "compact_moment", "read_time"]

COMPACT = r"^(?:1[89]|20|21)\d{2}(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])(?:(?:[01]\d|2[0-3])[0-5]\d[0-5]\d)?(?:\.0*)?$"
"""20130105 and 20130105103000, years 1800 to 2199."""

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_MONTH = (
    "jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?|oct(?:ober)?"
    "|nov(?:ember)?|dec(?:ember)?"
)
_DAY = r"(?:(?:mon|tues?|wed(?:nes)?|thu(?:rs)?|fri|sat(?:ur)?|sun)(?:day)?,? )?"
_ZONE = r"(?: ?(z|utc|gmt|jst|[-+]\d{2}(?::?\d{2})?))?"
_CLOCK = rf"(\d{{1,2}}):(\d{{2}})(?::(\d{{2}})(?:\.(\d{{1,9}}))?)?(?: ?([ap])\.?m\.?)?{_ZONE}"
_TIME = rf"(?:(?:[t ]|, | at ){_CLOCK})?"
_HALF = r"(?: ?(午前|午後|am|pm|) ?"
_KANJI_CLOCK = (
    rf"{_HALF}(?:(\d{{1,2}})時(?:(\d{{1,2}})分(?:(\d{{1,2}})秒)?)?|(\d{{1,2}}):(\d{{2}})(?::(\d{{2}}))?))?"
)
_NUMBER = r"元|\d{1,2}|[〇一二三四五六七八九十]{1,3}"
_WEEKDAY = r"(?: ?\(?[月火水木金土日](?:曜日?)?\)?)?"
_ERAS = {"令和": 2018, "平成": 1988, "昭和": 1925, "大正": 1911, "明治": 1867}
"""Era -> the year before its first."""
_YEAR = rf"\d{{4}}|[〇一二三四五六七八九]{{4}}|(?:{'|'.join(_ERAS)}) ?(?:{_NUMBER})"
_LETTERS = {"r": "令和", "h": "平成", "s": "昭和", "t": "大正", "m": "明治"}
_SOLAR = 6
"""明治 6 (1873) is the first year of the calendar of today; dates before it are other days."""

TIME_SHAPES = (
    rf"^(\d{{4}})([-/.])(\d{{1,2}})([-/.])(\d{{1,2}}){_TIME}$",
    rf"^(\d{{1,2}})([-/.])(\d{{1,2}})([-/.])(\d{{4}}){_TIME}$",
    rf"^{_DAY}(\d{{1,2}})(?:st|nd|rd|th)?[- ]({_MONTH})\.?,?[- ](\d{{4}}){_TIME}$",
    rf"^{_DAY}({_MONTH})\.? (\d{{1,2}})(?:st|nd|rd|th)?,? (\d{{4}}){_TIME}$",
    rf"^([rhstm])\.?(元|\d{{1,2}})([-/.])(\d{{1,2}})([-/.])(\d{{1,2}}){_TIME}$",
    rf"^({_YEAR}) ?年 ?({_NUMBER}) ?月 ?({_NUMBER}) ?日{_WEEKDAY}{_KANJI_CLOCK}$",
    r"^(\d{4})(\d{2})(\d{2})t(\d{2})(\d{2})(\d{2})(z|[-+]\d{2}:?\d{2}|)$",
)
"""What a written date looks like, in the common part of Python's and RE2's languages."""

_SHAPES = tuple(re.compile(shape, re.ASCII) for shape in TIME_SHAPES)
_KANJI = str.maketrans("〇一二三四五六七八九", "0123456789")
_ZONES = {"z": 0, "utc": 0, "gmt": 0, "jst": 540}
_COMPACT = re.compile(COMPACT, re.ASCII)
_FIRST, _LAST = dt.datetime(1, 1, 1, tzinfo=dt.UTC), dt.datetime(9999, 12, 31, tzinfo=dt.UTC)


@dataclass(frozen=True, slots=True)
class Stated:
    """A moment as it was written.

    Attributes
    ----------
    moment : datetime or None
        In UTC; without a zone it counts as UTC, as in `dataguard.cells`. None where the order of day and
        month is not told and both are possible.
    order : str
        "dmy" or "mdy" where the text can be nothing else, "either" where it can be both; else empty.
    doubtful : bool
        Looks like a version number too (2013.1.5, R5.1.5).
    """

    moment: dt.datetime | None
    order: str = ""
    doubtful: bool = False


def read_time(text: str, order: str = "") -> Stated | None:
    """Return how a respelt text reads as a date or a time on a date; None where it is none.

    Parameters
    ----------
    text : str
    order : str
        "dmy", "mdy" or empty: how 05/01/2013 is to be read.
    """
    for number, shape in enumerate(_SHAPES):
        if found := shape.match(text):
            try:
                return _READERS[number](found, order)
            except (ValueError, OverflowError):
                return None
    return None


def compact_moment(text: str) -> dt.datetime | None:
    """Return the moment that 8 or 14 digits are, None where they are none."""
    if not _COMPACT.match(text):
        return None
    digits = text.partition(".")[0].ljust(14, "0")
    try:
        return dt.datetime(
            int(digits[:4]), int(digits[4:6]), int(digits[6:8]),
            int(digits[8:10]), int(digits[10:12]), int(digits[12:14]), tzinfo=dt.UTC,
        )  # fmt: skip
    except ValueError:
        return None


def _moment(date: tuple[int, int, int], clock: tuple[str | None, ...]) -> dt.datetime:
    """Return a moment; raises ValueError for what is not in the calendar or on the clock."""
    hour, minute, second, fraction, half, zone = clock
    hours = int(hour or 0)
    if half:
        if not 0 <= hours <= 12:
            raise ValueError(hours)
        hours = hours % 12 + 12 * (half == "p")
    if fraction and fraction[6:].strip("0"):
        raise ValueError(fraction)  # finer than microseconds: no canonical moment
    micros = int((fraction or "0")[:6].ljust(6, "0"))
    local = dt.datetime(*date, hours, int(minute or 0), int(second or 0), micros, tzinfo=dt.UTC)
    moment = local - dt.timedelta(minutes=_offset(zone))
    if not _FIRST <= moment <= _LAST:
        raise ValueError(moment)
    return moment


def _offset(zone: str | None) -> int:
    if not zone:
        return 0
    if zone in _ZONES:
        return _ZONES[zone]
    digits = zone[1:].replace(":", "").ljust(4, "0")
    hours, minutes = int(digits[:2]), int(digits[2:])
    if hours > 14 or minutes > 59:
        raise ValueError(zone)
    return (60 * hours + minutes) * (-1 if zone[0] == "-" else 1)


def _year_first(found: re.Match[str], _order: str) -> Stated | None:
    year, mark, month, other, day, *clock = found.groups()
    if mark != other:
        return None
    return Stated(_moment((int(year), int(month), int(day)), tuple(clock)), doubtful=mark == ".")


def _year_last(found: re.Match[str], order: str) -> Stated | None:
    one, mark, two, other, year, *clock = found.groups()
    if mark != other:
        return None
    first, second = int(one), int(two)
    if max(first, second) > 12 or first == second:
        told = "" if first == second else "dmy" if first > 12 else "mdy"
    else:
        told = "either"
    used = order if told == "either" else told or "dmy"
    if order and used != order and told:
        return None  # the column says otherwise
    if not used:
        _moment((int(year), first, second), tuple(clock))
        return Stated(None, "either")
    month, day = (second, first) if used == "dmy" else (first, second)
    return Stated(_moment((int(year), month, day), tuple(clock)), told)


def _month_named(found: re.Match[str], _order: str) -> Stated | None:
    one, two, year, *clock = found.groups()
    day, name = (one, two) if one.isdecimal() else (two, one)
    return Stated(_moment((int(year), 1 + _MONTHS.index(name[:3]), int(day)), tuple(clock)))


def _era_letter(found: re.Match[str], _order: str) -> Stated | None:
    letter, count, mark, month, other, day, *clock = found.groups()
    if mark != other:
        return None
    year = _era_year(_LETTERS[letter], count)
    return Stated(_moment((year, int(month), int(day)), tuple(clock)), doubtful=True)


def _in_kanji(found: re.Match[str], _order: str) -> Stated | None:
    year, month, day, half, *clock = found.groups()
    hour, minute, second = clock[:3] if clock[0] else clock[3:]
    era, count = year[:2], year[2:].strip(" ")
    number = _era_year(era, count) if era in _ERAS else int(year.translate(_KANJI))
    late = {"午前": "a", "午後": "p", "am": "a", "pm": "p"}.get(half or "")
    if half in ("午前", "午後") and int(hour) == 12:
        raise ValueError(hour)  # noon to some, midnight to others
    return Stated(_moment((number, _small(month), _small(day)), (hour, minute, second, None, late, None)))


def _basic(found: re.Match[str], _order: str) -> Stated | None:
    year, month, day, hour, minute, second, zone = found.groups()
    return Stated(_moment((int(year), int(month), int(day)), (hour, minute, second, None, None, zone)))


_READERS = (_year_first, _year_last, _month_named, _month_named, _era_letter, _in_kanji, _basic)


def _era_year(era: str, count: str) -> int:
    number = 1 if count == "元" else _small(count)
    if number < 1 or (era == "明治" and number < _SOLAR):
        raise ValueError(count)
    return _ERAS[era] + number


def _small(text: str) -> int:
    """Return 1 to 99 in digits or kanji (五, 十二, 二十五, 二五)."""
    if text.isdecimal() and text.isascii():
        return int(text)
    tens, ten, ones = text.partition("十")
    if not ten:
        return int(text.translate(_KANJI))
    return 10 * int(tens.translate(_KANJI) or 1) + int(ones.translate(_KANJI) or 0)
