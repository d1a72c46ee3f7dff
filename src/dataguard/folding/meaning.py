"""What a text means: the rules, in plain Python, that columns are folded by.

The canonical form (``cells.py``) is what is committed, and leaves "1,000.0" a text. For finding,
texts that mean the same must meet; what one text leaves open is decided by its column, or
left a text.

Rules, in order:

1. The text is respelt (``spelling.py``).
2. Signs for nothing (``-``, ``?``, ``#N/A``) are missing; words for it (不明, nil) only where all else in the
   column is numbers or times, for elsewhere they may be a category.
3. What the canonical form takes for a number is that number: 007 is 7 as it is there. Where all cells are
   8 or 14 digits that are dates, they are dates.
4. Written numbers (``numerals.py``). 1,234 is a thousand unless the column decides for the decimal comma:
   some cell can have no other reading (1,5; 0,250; 1.000,5), all cells are numbers so, and none needs the
   point. A column that shows both keeps what has a lone comma as text. Currency signs are dropped where a
   column has one currency. 12 % is 0.12. (1,000) and 1,000- are negative, and kanji digits a number, where
   all cells are numbers; bare (1), (2) only beside numbers without brackets, for else they count items.
   ▲ and △ are minus, as in Japanese accounts, unless ▼ or ▽ shows that they are up and down.
5. Dates (``moments.py``). 05/01/2013 is read where some cell of the column can only be day/month or only
   month/day, and none the other. 2013.1.5 and R5.1.5 are read where all cells are dates: else versions.
   Two-digit years, times of day and months without a day stay texts.
"""

from __future__ import annotations

import datetime as dt
import enum
from collections.abc import Iterable
from dataclasses import dataclass

from dataguard.cells import NUMBER, TEXT, Cell, canonical_cell
from dataguard.folding.moments import compact_moment, read_time
from dataguard.folding.numerals import is_plain, read_number
from dataguard.folding.spelling import MISSING, MISSING_WORDS, respell

__all__ = ["Clue", "Evidence", "Ways", "clues", "fold_cell", "fold_text", "rewrite"]


class Clue(enum.IntFlag):
    """What one text can be, or shows of its column."""

    NUMBER = 1
    """A number with the decimal point."""
    COMMA_NUMBER = 2
    """A number with the decimal comma."""
    NEEDS_POINT = 4
    NEEDS_COMMA = 8
    BARE_BRACKETS = 16
    """(5): a negative number or the fifth item."""
    DOWN = 32
    """▼ or ▽ before a number."""
    TIME = 64
    DAY_FIRST = 128
    MONTH_FIRST = 256
    COMPACT = 512
    """8 or 14 digits that are a date."""
    WORD = 1024
    """A word that may stand for nothing."""


@dataclass(frozen=True, slots=True)
class Ways:
    """How a column writes what it says: decided by `Evidence.ways`, the same for all its cells.

    Attributes
    ----------
    decimal : str
        "." or ","; empty where the column shows both, and 1,234 stays a text.
    numeric : bool
        All cells are numbers: words for nothing, brackets, trailing minus and kanji digits are read as such.
    brackets : bool
        Bare brackets, as in (5), are negative numbers.
    triangles : bool
        ▲ and △ are minus.
    money : bool
        At most one currency: its sign is dropped.
    temporal : bool
        All cells are dates: 2013.1.5 is one.
    order : str
        "dmy" or "mdy" for 05/01/2013; empty: undecided, and it stays a text.
    compact : bool
        All cells are 8 or 14 digits that are dates.
    """

    decimal: str = "."
    numeric: bool = False
    brackets: bool = False
    triangles: bool = True
    money: bool = True
    temporal: bool = False
    order: str = ""
    compact: bool = False


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the distinct texts of a column show; evidence of its parts adds up to evidence of the whole.

    Attributes
    ----------
    cells : int
        Distinct texts that are not missing.
    counts : tuple of int
        How many of them give each `Clue`, in its order.
    currencies : frozenset of str
    """

    cells: int = 0
    counts: tuple[int, ...] = (0,) * len(Clue)
    currencies: frozenset[str] = frozenset()

    def __add__(self, other: Evidence) -> Evidence:
        counts = tuple(a + b for a, b in zip(self.counts, other.counts, strict=True))
        return Evidence(self.cells + other.cells, counts, self.currencies | other.currencies)

    def count(self, clue: Clue) -> int:
        """Return how many texts give a clue."""
        return self.counts[int(clue).bit_length() - 1]

    @classmethod
    def of(cls, texts: Iterable[str]) -> Evidence:
        """Return the evidence of respelt texts, each given once."""
        cells, counts, currencies = 0, [0] * len(Clue), set()
        for text in texts:
            if text in MISSING:
                continue
            found, currency = clues(text)
            cells += 1
            for bit in range(len(Clue)):
                counts[bit] += found >> bit & 1
            if currency:
                currencies.add(currency)
        return cls(cells, tuple(counts), frozenset(currencies))

    def ways(self) -> Ways:
        """Return what the evidence decides."""
        count = self.count
        said = self.cells - count(Clue.WORD)
        decimal = "."
        if count(Clue.NEEDS_COMMA):
            all_so = count(Clue.COMMA_NUMBER) == said and not count(Clue.NEEDS_POINT)
            decimal = "," if all_so else ""
        numbers = count(Clue.COMMA_NUMBER if decimal == "," else Clue.NUMBER)
        numeric = said > 0 and numbers == said and len(self.currencies) < 2
        temporal = said > 0 and count(Clue.TIME) == said
        day, month = count(Clue.DAY_FIRST), count(Clue.MONTH_FIRST)
        return Ways(
            decimal=decimal,
            numeric=numeric,
            brackets=numeric and count(Clue.BARE_BRACKETS) < said,
            triangles=not count(Clue.DOWN),
            money=len(self.currencies) < 2,
            temporal=temporal,
            order="" if bool(day) == bool(month) else "dmy" if day else "mdy",
            compact=said > 0 and count(Clue.COMPACT) == said,
        )


def clues(text: str) -> tuple[int, str]:
    """Return the clues of a respelt text that is not missing, as bits, and its currency or an empty text."""
    if text in MISSING_WORDS:
        return int(Clue.WORD), ""
    found, extra, currency = 0, 0, ""
    for mark, kind in ((".", Clue.NUMBER), (",", Clue.COMMA_NUMBER)):
        if number := read_number(text, mark):
            found |= kind
            currency = number.currency
            if number.bracketed and not number.grouped:
                extra |= Clue.BARE_BRACKETS
            if number.triangle in ("▼", "▽"):
                extra |= Clue.DOWN
    if found == Clue.NUMBER:
        found |= Clue.NEEDS_POINT
    elif found == Clue.COMMA_NUMBER:
        found |= Clue.NEEDS_COMMA
    if compact_moment(text):
        found |= Clue.COMPACT
    if not found and (stated := read_time(text)):
        found |= Clue.TIME | {"dmy": Clue.DAY_FIRST, "mdy": Clue.MONTH_FIRST}.get(stated.order, 0)
    return int(found | extra), currency


def rewrite(text: str, ways: Ways) -> str | dt.datetime:
    """Return a respelt text as one that the canonical form reads as what it means; times as such.

    Parameters
    ----------
    text : str
        As `respell` returns it.
    ways : Ways
        Of its column.

    Returns
    -------
    str or datetime
        Empty where missing; digits for a number; a moment in UTC; else the text itself.
    """
    if text in MISSING or (text in MISSING_WORDS and (ways.numeric or ways.temporal)):
        return ""
    if ways.compact and (moment := compact_moment(text)):
        return moment
    if is_plain(text) and ways.decimal != ",":
        return text
    number = _number(text, ways)
    if number is not None:
        return number
    stated = read_time(text, ways.order)
    if stated and stated.moment and (ways.temporal or not stated.doubtful):
        return stated.moment
    return text


def _number(text: str, ways: Ways) -> str | None:
    number = read_number(text, ways.decimal or ".")
    if number is None or (number.currency and not ways.money):
        return None
    if not ways.decimal and "," in text and "." not in text:
        return None  # one thousand, or one point two
    if number.triangle and not (ways.triangles and number.triangle in ("▲", "△")):
        return None
    if (number.kanji or number.trailing or number.bracketed) and not ways.numeric:
        return None
    if number.bracketed and not (number.grouped or ways.brackets):
        return None
    return number.decimal


def fold_text(text: str, ways: Ways | None = None) -> Cell:
    """Return the folded cell of one text: the definition that columns are tested against.

    Parameters
    ----------
    text : str
    ways : Ways, optional
        Of its column; by default those of a column that says nothing else.

    Returns
    -------
    Cell
        Equal for texts that mean the same.
    """
    spelling = respell(text)
    return canonical_cell(rewrite(spelling, Evidence.of([spelling]).ways() if ways is None else ways))


def fold_cell(cell: Cell, ways: Ways) -> Cell:
    """Return the folded form of a canonical cell: texts by `fold_text`, compact dates, all else as it is."""
    if cell.tag == TEXT:
        return fold_text(cell.text, ways)
    if cell.tag == NUMBER and ways.compact and (moment := compact_moment(cell.text)):
        return canonical_cell(moment)
    return cell
