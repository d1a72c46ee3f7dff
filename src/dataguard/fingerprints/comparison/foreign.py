"""Text from outside, made harmless and short before it stands in a sentence, a page or on a terminal.

A suspect chooses its column names and cells. A control or direction character in one could make a
line read differently from its bytes, and a quotation mark could make its words look like ours.
"""

from __future__ import annotations

import math
import unicodedata

__all__ = ["LONGEST_CELL", "LONGEST_NAME", "count_text", "number_text", "quoted", "shown"]

LONGEST_NAME = 60
"""Characters of a column name that are shown."""

LONGEST_CELL = 80
"""Characters of a cell that are shown."""

_HARMFUL = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
_QUOTES = "“”「」"
_MOST_MARKS = 2
"""Combining marks on one character that are passed on: towers of them reach into the lines above."""


def shown(text: str, longest: int = LONGEST_NAME) -> str:
    """Return `text` in at most `longest` characters, with nothing in it that does more than show itself.

    Control, format, direction, private and unassigned characters and typographic quotation marks are
    written as ``<U+XXXX>``, and so is the third combining mark in a row.

    Parameters
    ----------
    text : str
        Anything; only its first `longest` + 1 characters are looked at.
    longest : int
    """
    out: list[str] = []
    length = marks = 0
    for c in text[: longest + 1]:
        kind = unicodedata.category(c)
        marks = marks + 1 if kind in ("Mn", "Me") else 0
        harmless = kind not in _HARMFUL and c not in _QUOTES and marks <= _MOST_MARKS
        piece = c if harmless else f"<U+{ord(c):04X}>"
        out.append(piece)
        length += len(piece)
    if len(text) <= longest and length <= longest:
        return "".join(out)
    while length > longest - 1:
        length -= len(out.pop())
    return "".join(out) + "…"


def quoted(text: str, longest: int = LONGEST_NAME) -> str:
    """Return a name or a value as it stands in a sentence: between typographic quotation marks, and harmless."""
    return f"“{shown(text, longest)}”"


def number_text(value: float) -> str:
    """Return a number for people: integers with commas, others with up to six significant digits."""
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}" if abs(value) < 10**15 else f"{value:.6g}" if abs(value) < 10**300 else "huge"
    if not math.isfinite(value):
        return str(value)
    if value == int(value) and abs(value) < 1e15:
        return f"{int(value):,}"
    return f"{value:.6g}"


def count_text(count: int, noun: str) -> str:
    """Return a number with its English noun, in the plural where there is not one."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
