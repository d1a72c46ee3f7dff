"""The canonical byte form of one cell, in plain Python.

Commitments, row openings and the verifier must agree on bytes, on any machine and
without numpy; :mod:`dataguard.values` makes the same bytes for whole columns at once.
"""

from __future__ import annotations

import datetime as dt
import math
import re
import struct
import unicodedata
from dataclasses import dataclass
from decimal import Decimal

from dataguard.errors import EvidenceError

__all__ = [
    "BIG",
    "ISO_TIME",
    "LONGEST",
    "NULL",
    "NULL_WORDS",
    "NUMBER",
    "NUMBER_PATTERN",
    "TEXT",
    "TIME",
    "Cell",
    "canonical_cell",
    "cell_bytes",
    "row_bytes",
]

NULL, NUMBER, BIG, TIME, TEXT = 0, 1, 2, 3, 4
"""Tags: missing; binary64 number; integer beyond 2**53; microseconds since 1970 UTC; text."""

NULL_WORDS = ("", "NA", "N/A", "NaN", "nan", "NULL", "null", "None", "none", "<NA>", "NaT")
"""Texts that stand for a missing value in files without types."""

# Signed decimal with at most 18 digits before the point: longer digit strings are codes, not quantities.
NUMBER_PATTERN = r"^[+-]?(\d{1,18}(\.\d*)?|\.\d+)([eE][+-]?\d{1,3})?$"
ISO_TIME = r"^\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2}(\.\d{1,6})?)?Z?)?$"
LONGEST = 10**18
"""Integers from here on are texts, whether they were read as integers or as digits."""
_NUMBER = re.compile(NUMBER_PATTERN, re.ASCII)
_TIME = re.compile(ISO_TIME, re.ASCII)
_WIDTH = 2**53
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_BLANKS = " \t\n\r\x0b\x0c\u3000"


@dataclass(frozen=True, slots=True)
class Cell:
    """A canonical cell: its tag and its text.

    Attributes
    ----------
    tag : int
        One of ``NULL, NUMBER, BIG, TIME, TEXT``.
    text : str
        Shortest exact decimal (numbers), ``YYYY-MM-DDTHH:MM:SS[.ffffff]Z`` (times),
        the trimmed NFKC form (texts), empty for a missing value.
    """

    tag: int
    text: str


def canonical_cell(value: object) -> Cell:
    """Return the canonical form of one Python value.

    Parameters
    ----------
    value : None, bool, int, float, Decimal, date, datetime or str
        Any other type is taken by its ``str``.
    """
    if value is None:
        return Cell(NULL, "")
    if isinstance(value, bool):
        return Cell(TEXT, "true" if value else "false")
    if isinstance(value, int):
        return _integer(value)
    if isinstance(value, (float, Decimal)):
        return _real(float(value))
    if isinstance(value, dt.datetime):
        return _time(value)
    if isinstance(value, dt.date):
        return _time(dt.datetime(value.year, value.month, value.day, tzinfo=dt.UTC))
    return _text(str(value))


def _integer(value: int) -> Cell:
    if abs(value) >= LONGEST:
        return Cell(TEXT, str(value))
    return Cell(NUMBER if abs(value) <= _WIDTH else BIG, str(value))


def _real(value: float) -> Cell:
    if math.isnan(value):
        return Cell(NULL, "")
    if math.isfinite(value) and abs(value) <= _WIDTH and value == int(value):
        return Cell(NUMBER, str(int(value)))
    return Cell(NUMBER, repr(value))


def _time(value: dt.datetime) -> Cell:
    moment = value.astimezone(dt.UTC) if value.tzinfo else value.replace(tzinfo=dt.UTC)
    return Cell(TIME, moment.replace(tzinfo=None).isoformat() + "Z")


def _text(value: str) -> Cell:
    text = unicodedata.normalize("NFKC", value).strip(_BLANKS)
    if text in NULL_WORDS:
        return Cell(NULL, "")
    if _NUMBER.match(text):
        digits = text.lstrip("+")
        if re.fullmatch(r"-?\d+", digits):
            return _integer(int(digits))
        return _real(float(digits)) if math.isfinite(float(digits)) else Cell(TEXT, text)
    if _TIME.match(text):
        try:
            return _time(dt.datetime.fromisoformat(text))
        except ValueError:
            return Cell(TEXT, text)
    return Cell(TEXT, text)


def cell_bytes(cell: Cell) -> bytes:
    """Return the bytes of one cell: tag, then eight bytes of value or length-prefixed text.

    Raises
    ------
    EvidenceError
        When the text is not of the form its tag promises.
    """
    try:
        if cell.tag == NULL:
            return b"\x00"
        if cell.tag == NUMBER:
            return b"\x01" + struct.pack("<d", float(cell.text))
        if cell.tag == BIG:
            return b"\x02" + struct.pack("<q", int(cell.text))
        if cell.tag == TIME:
            delta = dt.datetime.fromisoformat(cell.text) - _EPOCH
            return b"\x03" + struct.pack("<q", delta // dt.timedelta(microseconds=1))
        if cell.tag == TEXT:
            data = cell.text.encode()
            return b"\x04" + struct.pack("<I", len(data)) + data
    except (ValueError, TypeError, struct.error, OverflowError) as error:
        raise EvidenceError(f"cell text {cell.text[:40]!r} does not fit its tag {cell.tag}") from error
    raise EvidenceError(f"unknown cell tag {cell.tag}")


def row_bytes(row_id: int, cells: tuple[Cell, ...]) -> bytes:
    """Return the bytes of one row: its id (uint64 little-endian), then its cells in column order."""
    return struct.pack("<Q", row_id) + b"".join(map(cell_bytes, cells))
