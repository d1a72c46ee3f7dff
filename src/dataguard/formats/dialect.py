"""How a text is cut into a table: separator, a comment on top, header or none.

Decided on a sample with Python's ``csv`` module, whose grammar the scanner follows, so that
separators and newlines inside quotes count for nothing. The sample is read as Latin-1: in
every encoding that is scanned as bytes the ASCII bytes looked for stand for themselves.
"""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from dataclasses import dataclass

__all__ = ["SEPARATORS", "Dialect", "sniff_dialect", "sniff_separator"]

SEPARATORS = (b",", b"\t", b";", b"|")
"""What can be found; a colon is left out, times are full of them."""

_DECIMAL_COMMA = re.compile(r"\s*[-+]?\d*,\d+\s*")
_SEPARATOR_LINE = re.compile(rb"sep=([,\t;|])\r?\n(?=[^\r\n])")
"""First line of files made for Excel."""
_NUMBER = re.compile(r"\s*[-+]?(\d+(\.\d*)?|\.\d+)([eE][-+]?\d+)?\s*")


@dataclass(frozen=True, slots=True)
class Dialect:
    """Layout of a delimited text.

    Parameters
    ----------
    separator : bytes
        One byte.
    comment : bool
        The first line is a remark, no row: it has one cell, all others two or more (or it is
        ``sep=;``, which names the separator).
    header : bool
        The first row holds the column names.
    row_names : bool
        All but the header have one cell more in front, a name of the row, as R writes it.
    """

    separator: bytes
    comment: bool
    header: bool
    row_names: bool = False


def sniff_dialect(
    sample: bytes,
    *,
    cut: bool = False,
    separators: tuple[bytes, ...] = SEPARATORS,
    header: bool | None = None,
) -> Dialect:
    """Find the layout of a text.

    Parameters
    ----------
    sample : bytes
        Beginning of the text without byte order mark; at least one row.
    cut : bool
        The sample ends within the text, so its last row does not count.
    separators : tuple of bytes
        Candidates, the likeliest first.
    header : bool, optional
        What the user says; None decides. "No header" needs strong evidence: half of the cells
        of the first row (empty ones apart) occur again in their column, and never that whole
        row; or it has names twice that are numbers.

    Returns
    -------
    Dialect
    """
    hint = _SEPARATOR_LINE.match(sample)
    if hint:
        separators = (hint[1],)
    separator = sniff_separator(sample, cut=cut, separators=separators)
    rows = _rows(sample, separator, cut=cut)
    comment = len(rows) > 1 and (bool(hint) or _has_comment(rows))
    first, rest = rows[comment], rows[comment + 1 :]
    row_names = header is not False and _has_row_names(first, rest)
    if header is None:
        header = row_names or not _is_data(first, rest)
    return Dialect(separator, comment, header, row_names)


def sniff_separator(sample: bytes, *, cut: bool = False, separators: tuple[bytes, ...] = SEPARATORS) -> bytes:
    """Choose among separators.

    Parameters
    ----------
    sample, cut, separators
        See `sniff_dialect`.

    Returns
    -------
    bytes
        The one that gives every row of the sample the same number of cells, two or more, apart
        from a comment on top, a header without a cell for row names and a last row cut short. If
        several do, the one with the largest number, but not the comma if it only ever stands
        inside numbers between the others. Else the one that cuts the first row into most cells;
        the first where nothing is cut.
    """
    best, best_rank = separators[0], (False, False, False, 1)
    for separator in separators:
        rows = _rows(sample, separator, cut=cut)
        comment = _has_comment(rows)
        rows = rows[comment:]
        row_names = _has_row_names(rows[0], rows[1:])
        if row_names:
            rows[0] = ["", *rows[0]]
        width = len(rows[0])
        even = width > 1 and all(len(row) == width for row in rows[:-1])
        last = len(rows[-1])
        even = even and (last == width or (not cut and last < width and len(rows) > 2))
        decimal = even and separator != b"," and _has_decimal_commas(rows[1:])
        # What needs no excuse for its first line is likelier.
        rank = (even, even and not comment and not row_names, decimal, width)
        if rank > best_rank:
            best, best_rank = separator, rank
    return best


def _rows(sample: bytes, separator: bytes, *, cut: bool) -> list[list[str]]:
    """Cells of the rows of a sample that are not blank."""
    lines = io.StringIO(sample.decode("latin-1"), newline="")
    rows = [row for row in csv.reader(lines, delimiter=separator.decode()) if row]
    if cut and len(rows) > 1:
        rows.pop()
    return rows


def _has_comment(rows: list[list[str]]) -> bool:
    """Whether one cell stands above rows of several, which agree with each other."""
    return len(rows) > 2 and len(rows[0]) == 1 and len(rows[1]) > 1 and _even(rows[1:])


def _has_row_names(first: list[str], rest: list[list[str]]) -> bool:
    """Whether the first row has one cell less than all others, which agree with each other."""
    return len(rest) > 1 and len(rest[0]) == len(first) + 1 and _even(rest)


def _even(rows: list[list[str]]) -> bool:
    return all(len(row) == len(rows[0]) for row in rows[:-1]) and 1 < len(rows[-1]) <= len(rows[0])


def _has_decimal_commas(rows: list[list[str]]) -> bool:
    """Whether commas occur in two rows or more, and only as decimal commas."""
    with_comma = [[cell for cell in row if "," in cell] for row in rows]
    found = [cells for cells in with_comma if cells]
    return len(found) > 1 and all(_DECIMAL_COMMA.fullmatch(cell) for cells in found for cell in cells)


def _is_data(first: list[str], rest: list[list[str]]) -> bool:
    """Whether the first row is strongly like the rows below it."""
    filled = [cell for cell in first if cell]
    twice = [cell for cell, count in Counter(filled).items() if count > 1]
    if twice and all(_NUMBER.fullmatch(cell) for cell in twice):
        return True
    if len(first) < 2 or not filled or first in rest:
        return False
    if filled in ([str(k + start) for k in range(len(filled))] for start in (0, 1)):
        return False  # columns that were never named, as data frames print them
    below = [set(column) for column in zip(*(row for row in rest if len(row) == len(first)), strict=True)]
    again = sum(cell in column for cell, column in zip(first, below, strict=False) if cell)
    return 2 * again >= len(filled)
