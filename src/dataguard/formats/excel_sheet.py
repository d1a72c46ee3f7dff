"""The XML of one worksheet as located bytes: what it holds, and where each cell stands.

Nothing is parsed into a tree and nothing is serialised: regular expressions with possessive
repeats (linear time on hostile input) accept exactly the plain form that spreadsheet programs
write, ``sheetData > row > c`` with ``r`` everywhere, ascending. Everything else is *irregular*:
still readable, never rewritten.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from xml.parsers import expat

import numpy as np

__all__ = [
    "MAX_COLUMN",
    "MAX_ROW",
    "Grammar",
    "Irregular",
    "SheetFacts",
    "SheetStream",
    "cell_name",
    "column_number",
    "scan_sheet",
]

MAX_ROW = 1_048_576
MAX_COLUMN = 16_384
"""Limits of a sheet: XFD1048576."""

_NAMESPACES = (
    b"http://schemas.openxmlformats.org/spreadsheetml/2006/main",
    b"http://purl.oclc.org/ooxml/spreadsheetml/main",
)
"""Transitional and strict form (ECMA-376 parts 4 and 1); cells look alike in both."""
_ATTRIBUTES = rb"""(?:\s++[\w:.-]++\s*+=\s*+(?:"[^"<>]*+"|'[^'<>]*+'))*+"""
_ROOT = re.compile(
    rb"(?:\xef\xbb\xbf)?\s*+(?:<\?xml\s[^<>]*+>\s*+)?<(?:([A-Za-z_][\w.-]*+):)?worksheet(%s)\s*+>"
    % _ATTRIBUTES
)
_RANGE = re.compile(rb"\$?([A-Z]{1,3})\$?([0-9]*)(?::\$?([A-Z]{1,3})\$?[0-9]*)?")
_REF = re.compile(rb"""\s(?:ref|sqref)=["']([^"']*)""")
_HINTS = (b":f", b"<f", b"vm", b"cm", b":ext", b"<ext", b'"e"', b"'e'", b'"d"', b"'d'")
"""One of these is in every match of `Grammar.special`; looking for them first is 20 times faster."""
_WILD = re.compile(rb">\s*-(?:[0-9]{11}|[0-9.]*[eE]\+?[0-9]{2}|[iI])")
"""Numbers that make calamine 0.9 panic where the style says date (milliseconds beyond int64)."""
_MAX_HEAD = 1 << 24
_MAX_ROW_BYTES = 1 << 26


class Irregular(ValueError):  # noqa: N818 - a finding, not a failure
    """A sheet whose XML is not of the plain form; the message completes "its XML ..."."""


@lru_cache(maxsize=1 << 15)
def column_number(letters: bytes) -> int:
    """Return 1 for ``A``, 28 for ``AB``; more than `MAX_COLUMN` where no such column exists."""
    number = 0
    for letter in letters:
        number = number * 26 + letter - 64
    return number


def cell_name(row: int, column: int) -> str:
    """Return ``B7`` for row 7, column 2 (both from one)."""
    letters = ""
    while column:
        column, rest = divmod(column - 1, 26)
        letters = chr(65 + rest) + letters
    return f"{letters}{row}"


@dataclass(frozen=True, slots=True, eq=False)
class Grammar:
    """Patterns for one namespace prefix (empty, or as in ``x:c``).

    Parameters
    ----------
    prefix : bytes
        ``b""`` or ``b"x:"``.
    rows : re.Pattern
        Any number of complete, plain rows.
    cell : re.Pattern
        One cell; groups: attributes, content (None when self-closed).
    row_tag : re.Pattern
        A start tag of a row; groups: attributes, ``/`` when self-closed.
    references : re.Pattern
        Start tags of rows and cells; groups: letters (empty for rows), digits.
    special : re.Pattern
        What makes a column unfit for marks; a text may match too.
    formula : re.Pattern
        A formula; group: attributes.
    content : re.Pattern
        What may move: nothing, a value, or an inline string.
    """

    prefix: bytes
    rows: re.Pattern[bytes]
    cell: re.Pattern[bytes]
    row_tag: re.Pattern[bytes]
    references: re.Pattern[bytes]
    special: re.Pattern[bytes]
    formula: re.Pattern[bytes]
    content: re.Pattern[bytes]

    def tag(self, name: bytes, *, close: bool = False) -> bytes:
        """Return the beginning of a start tag, or a whole end tag."""
        return b"</" + self.prefix + name + b">" if close else b"<" + self.prefix + name


@lru_cache(maxsize=64)
def _grammar(prefix: bytes) -> Grammar:
    p, a = re.escape(prefix), _ATTRIBUTES
    inside = rb"[^<]*+(?:<(?!/?%sc[\s/>])[^<]*+)*+" % p
    cell = rb"<%sc(%s)\s*+(?:/>|>(%s)</%sc>)" % (p, a, inside, p)
    plain = cell.replace(b"(" + a + b")", a).replace(b">(" + inside + b")<", b">" + inside + b"<")
    row = rb"\s*+<%srow%s\s*+(?:/>|>(?:\s*+%s)*+\s*+</%srow>)" % (p, a, plain, p)
    text = _inline_text(p)
    value = rb"<%sv%s\s*+(?:/>|>[^<]*+</%sv>)" % (p, a, p)
    return Grammar(
        prefix,
        re.compile(rb"(?:%s)*+\s*+" % row),
        re.compile(cell),
        re.compile(rb"<%srow(%s)\s*+(/?)>" % (p, a)),
        re.compile(rb"""<%s(?:row|c)(?=[\s/>])(?:[^>]*?\sr=["']([A-Z]{0,3})([0-9]{1,7})["'])?""" % p),
        re.compile(rb"""<%s(?:f|ext|extLst)[\s/>]|\s(?:vm|cm)\s*=|\st\s*=\s*["'][ed]["']""" % p),
        re.compile(rb"<%sf(%s)\s*+/?>" % (p, a)),
        re.compile(rb"\s*+(?:%s|%s)?\s*+" % (value, text)),
    )


def _inline_text(p: bytes) -> bytes:
    """Pattern of an inline string: plain, in formatted runs, with phonetic guides (ECMA-376 part 1, 18.3.1.53)."""
    a = _ATTRIBUTES
    plain = rb"<%st%s\s*+(?:/>|>[^<]*+</%st>)" % (p, a, p)
    look = rb"<%srPr\s*+(?:/>|>(?:\s*+<%s\w++%s\s*+/>)*+\s*+</%srPr>)\s*+" % (p, p, a, p)
    run = rb"<%sr\s*+>\s*+(?:%s)?%s\s*+</%sr>" % (p, look, plain, p)
    guide = rb"<%srPh%s\s*+>\s*+%s\s*+</%srPh>|<%sphoneticPr%s\s*+/>" % (p, a, plain, p, p, a)
    return rb"<%sis\s*+>\s*+(?:(?:%s|%s|%s)\s*+)*+</%sis>" % (p, plain, run, guide, p)


class SheetStream:
    """One pass over a worksheet part.

    Parameters
    ----------
    blocks : iterable of bytes
        The part, unpacked.
    checked : bool
        The same part went through a stream before, so its rows need not be checked again.

    Attributes
    ----------
    head, tail : bytes
        Everything before the first row and after the last one; `tail` once `rows` is exhausted.
    grammar : Grammar
        Of the prefix that the root element binds.

    Raises
    ------
    Irregular
        Comments, CDATA, processing instructions, other namespaces, no or several ``sheetData``.
    """

    def __init__(self, blocks: Iterable[bytes], *, checked: bool = False) -> None:
        self._blocks = iter(blocks)
        self._known = checked
        self.tail = b""
        buffer = b""
        opened = root = None
        while opened is None:
            block = next(self._blocks, b"")
            buffer += block
            root = root or _ROOT.match(buffer)
            prefix = root[1] + b":" if root and root[1] else b""
            opened = re.search(rb"<%ssheetData(%s)\s*+(/?)>" % (re.escape(prefix), _ATTRIBUTES), buffer)
            if not block or len(buffer) > _MAX_HEAD:
                break
        if root is None or opened is None or b"xmlns" in opened[1]:
            raise Irregular("is not that of a plain worksheet")
        declared = re.search(
            rb"""\sxmlns%s\s*=\s*["']([^"']*)""" % (b":" + re.escape(root[1]) if root[1] else b""), root[2]
        )
        if declared is None or declared[1] not in _NAMESPACES:
            raise Irregular("is in an unknown namespace")
        self.grammar = _grammar(prefix)
        self.head = buffer[: opened.end()]
        self._rest, self._empty = buffer[opened.end() :], bool(opened[2])
        _refuse_oddities(self.head[root.end() :])

    def rows(self) -> Iterator[bytes]:
        """Yield the rows in pieces, each whole rows with the white space around them.

        Raises
        ------
        Irregular
            See the class, and rows that are not plain (children other than cells, tags that do
            not close) or longer than 64 MiB.
        """
        close, row_close = self.grammar.tag(b"sheetData", close=True), self.grammar.tag(b"row", close=True)
        buffer, seen, end = self._rest, 0, 0 if self._empty else -1
        while end < 0 and (end := buffer.find(close, max(0, seen - len(close)))) < 0:
            cut = buffer.rfind(row_close) + len(row_close)
            if cut >= len(row_close):
                yield self._checked(buffer[:cut])
                buffer = buffer[cut:]
            if len(buffer) > _MAX_ROW_BYTES:
                raise Irregular("holds a row of more than 64 MiB")
            seen = len(buffer)
            block = next(self._blocks, b"")
            if not block:
                raise Irregular("ends within its rows")
            buffer += block
        if end:
            yield self._checked(buffer[:end])
        self.tail = b"".join([buffer[end:], *self._blocks])
        _refuse_oddities(self.tail)
        if self.grammar.tag(b"sheetData") in self.tail:
            raise Irregular("holds its rows in several places")

    def _checked(self, rows: bytes) -> bytes:
        if self._known:
            return rows
        _refuse_oddities(rows)
        if self.grammar.rows.fullmatch(rows) is None:
            raise Irregular("holds rows that are not plain cells")
        if b"xmlns" in rows and re.search(rb"<[^>]*\sxmlns", rows):
            raise Irregular("declares namespaces within its rows")
        return rows


def _refuse_oddities(xml: bytes) -> None:
    if b"<!" in xml or b"<?" in xml:
        raise Irregular("holds comments or processing instructions")


@dataclass(frozen=True, slots=True)
class SheetFacts:
    """What a worksheet holds.

    Parameters
    ----------
    irregular : str
        Why it can be read but not rewritten; empty for a plain one.
    last_row, last_column, first_row, first_column : int
        Box around all cells, empty ones included, from one; zeros when there are none.
    texts : int
        Cells of type ``s`` (at most; text can look like one).
    closed : dict[int, str]
        Column -> why its cells must stay ("formulas", "merged cells", ...).
    iso_dates : dict[int, int]
        Column -> cells of type ``d``.
    beyond : str
        A corner outside the limits of a sheet; empty when all cells are inside.
    wild : bool
        Holds numbers that calamine may not survive as dates.
    """

    irregular: str
    first_row: int
    first_column: int
    last_row: int
    last_column: int
    texts: int
    closed: dict[int, str]
    iso_dates: dict[int, int]
    beyond: str
    wild: bool

    @property
    def box(self) -> int:
        """Cells in the box."""
        return (self.last_row - self.first_row + 1) * (self.last_column - self.first_column + 1)


def scan_sheet(blocks: Iterable[bytes]) -> SheetFacts:
    """Read a worksheet part once; about 2 CPU s for 1 million cells.

    Parameters
    ----------
    blocks : iterable of bytes
        The part, unpacked.

    Returns
    -------
    SheetFacts
        Of an irregular sheet only `irregular` says something.
    """
    box = np.array([MAX_ROW + 1, MAX_COLUMN + 1, 0, 0], np.int64)
    closed: dict[int, str] = {}
    dates: dict[int, int] = {}
    texts = last_row = 0
    wild = False
    try:
        stream = SheetStream(_well_formed(blocks))
        for rows in stream.rows():
            last_row = _extend(box, stream.grammar, rows, last_row)
            texts += rows.count(b'"s"') + rows.count(b"'s'")
            wild = wild or _WILD.search(rows) is not None
            if any(hint in rows for hint in _HINTS) and stream.grammar.special.search(rows):
                _mark_special(stream.grammar, rows, closed, dates)
        for element, why in ((b"mergeCell", "merged cells"), (b"hyperlink", "links")):
            for tag in re.finditer(rb"<(?:[\w.-]+:)?%s(\s[^>]*)>" % element, stream.tail):
                _close_range(tag[1], closed, why)
    except Irregular as found:
        return SheetFacts(str(found), 0, 0, 0, 0, 0, {}, {}, "", False)
    beyond = ""
    if box[2] > MAX_ROW or box[3] > MAX_COLUMN:
        beyond = cell_name(int(box[2]), int(box[3]))
    if not box[2]:
        box[:] = 0
    first_row, first_column, bottom, right = box.tolist()
    return SheetFacts("", first_row, first_column, bottom, right, texts, closed, dates, beyond, wild)


def _well_formed(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """Pass `blocks` on, and have them parsed: in broken XML two readers see different cells."""
    parser = expat.ParserCreate(namespace_separator=" ")
    try:
        for block in blocks:
            parser.Parse(block, False)
            yield block
        parser.Parse(b"", True)
    except expat.ExpatError as error:
        raise Irregular(f"is not well-formed ({error})") from error


def _extend(box: np.ndarray, grammar: Grammar, rows: bytes, last_row: int) -> int:
    """Grow `box` by the cells in `rows`; check that they ascend; return the last row number."""
    found = grammar.references.findall(rows)
    if not found:
        return last_row
    try:
        row = np.array([int(digits) for _, digits in found], np.int64)
    except ValueError:
        raise Irregular("leaves out the places of its rows or cells") from None
    column = np.array([column_number(letters) for letters, _ in found], np.int64)
    ours = np.maximum.accumulate(np.where(column == 0, row, last_row))
    order = row * (1 << 15) + column
    if np.any(row != ours) or np.any(np.diff(order) <= 0) or row[0] <= last_row:
        raise Irregular("names rows or cells out of order or twice")
    row, column = row[column > 0], column[column > 0]
    if row.size:
        box[:2] = np.minimum(box[:2], [row.min(), column.min()])
        box[2:] = np.maximum(box[2:], [row.max(), column.max()])
    return int(ours[-1])


def _mark_special(grammar: Grammar, rows: bytes, closed: dict[int, str], dates: dict[int, int]) -> None:
    """Note the columns of formulas, errors, linked data and ISO dates in `rows`."""
    for cell in grammar.cell.finditer(rows):
        if not grammar.special.search(cell[0]):
            continue
        place = re.search(rb"""\sr=["']([A-Z]+)""", cell[1])
        assert place is not None  # _extend has seen it
        column = column_number(place[1])
        kind = re.search(rb"""\st\s*=\s*["']([ed])["']""", cell[1])
        if kind and kind[1] == b"d":
            dates[column] = dates.get(column, 0) + 1
        elif kind:
            closed.setdefault(column, "error values")
        if re.search(rb"\s(?:vm|cm)\s*=", cell[1]) or re.search(
            rb"<%sext" % re.escape(grammar.prefix), cell[2] or b""
        ):
            closed.setdefault(column, "linked data")
        for formula in grammar.formula.finditer(cell[2] or b""):
            closed[column] = "formulas"
            _close_range(formula[1], closed, "formulas")


def _close_range(attributes: bytes, closed: dict[int, str], why: str) -> None:
    """Close all columns of the ranges in a ``ref`` attribute."""
    ref = _REF.search(attributes)
    for found in _RANGE.finditer(ref[1] if ref else b""):
        first = column_number(found[1])
        last = column_number(found[3]) if found[3] else first
        for column in range(min(first, last), min(max(first, last), MAX_COLUMN) + 1):
            closed.setdefault(column, why)
