"""Moves of cells inside an xlsx or xlsm file, carried out on the bytes of its sheet XML.

A workbook library that loads and saves rewrites the sheet and drops what it does not know; here
one part of the archive changes, and in it only the moved cells: their content and the attribute
``t`` that says how to read it move together, place and style stay.
"""

from __future__ import annotations

import contextlib
import re
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import IO

import numpy as np
from numpy.typing import NDArray

from dataguard.errors import UsageError
from dataguard.formats.edits import Moves, merge_moves
from dataguard.formats.excel import ExcelSource, Workbook
from dataguard.formats.excel_package import read_package
from dataguard.formats.excel_sheet import Grammar, Irregular, SheetStream, cell_name, column_number

__all__ = ["write_xlsx"]

_PLACE = re.compile(rb"""\sr=["']([A-Z]*)([0-9]+)["']""")
_KIND = re.compile(rb"""\s+t\s*=\s*(?:"[^"]*"|'[^']*')""")
_STYLE = re.compile(rb"""\s+s\s*=\s*(?:"[^"]*"|'[^']*')""")
_FORMULA = re.compile(rb"<(?:[\w.-]+:)?f[\s/>]")
_VALUE = re.compile(rb">[^<]")
_CACHES = ("xl/pivotcache/pivotcacherecords", "xl/model/")
"""Parts that hold a second, unmarked copy of a table."""
_LISTED = 5

Merged = dict[str, tuple[NDArray[np.int64], NDArray[np.int64]]]
Edits = dict[int, dict[int, "_Content"]]
"""Row -> column -> what the cell becomes; numbers from one."""


@dataclass(frozen=True, slots=True)
class _Content:
    """What moves: the attribute ``t`` and everything inside the cell; `style` only into empty cells."""

    kind: bytes
    inner: bytes
    style: bytes


_NOTHING = _Content(b"", b"", b"")


def write_xlsx(source: ExcelSource, moves: Sequence[Moves], out: IO[bytes]) -> tuple[int, tuple[str, ...]]:
    """Write the workbook again with cells of its one sheet moved.

    All parts but the sheet are copied as they lie in the archive, compressed bytes, names, times
    and order included; the sheet changes in the moved cells only. Where a value moves into a cell
    that was empty or missing, the cell takes the style too (a date is a number with a style).
    Two passes over the sheet; memory: one block of it plus about 250 bytes per moved cell.

    Parameters
    ----------
    source : ExcelSource
        Of format "xlsx" or "xlsm".
    moves : sequence of Moves
        Without any, the file is copied byte for byte.
    out : IO[bytes]
        Empty, seekable.

    Returns
    -------
    (int, tuple of str)
        Cells whose bytes changed; what the copy could not keep in step: cached formula results
        and charts.

    Raises
    ------
    UsageError
        See `merge_moves`; columns that must stay; formats that are only read; a signed workbook;
        a pivot cache or data model, which would hand out the unmarked original along with the
        marked copy.
    DecodeError
        The file changed since it was opened.
    """
    merged = merge_moves(moves, source.column_names, source.rows())
    path, book = source.path, source.workbook
    assert path is not None
    if not merged:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                out.write(block)
        return 0, ()
    if book is None:
        raise UsageError(
            f"{source.format} files are only read",
            where=str(path),
            remedy="write .csv or .parquet, or save it as xlsx",
        )
    _refuse_unsafe(source, book, list(merged))
    edits, changed = _edits(source, book, merged)
    book.package.rewrite(book.sheet.part, _spliced(book, edits), out)
    return changed, _out_of_step(book)


def _refuse_unsafe(source: ExcelSource, book: Workbook, columns: list[str]) -> None:
    """Refuse workbooks in which a move would break something or hide nothing."""
    where = str(source.path)
    facts, cells = book.facts, book.cells
    if facts.irregular:
        raise UsageError(
            f"sheet {source.sheet!r} cannot be rewritten in place: its XML {facts.irregular}",
            where=where,
            remedy="open it in Excel or LibreOffice and save it again, or save the sheet as CSV",
        )
    for column in columns:
        if column in source.nested_columns:
            why = facts.closed.get(cells.columns[column], "values of several types")
            raise UsageError(
                f"column {column!r} holds {why} and must stay", where=where, remedy="leave it out"
            )
    names = [entry.name.casefold() for entry in book.package.entries]
    if any("_xmlsignatures" in name for name in names):
        raise UsageError(
            "is digitally signed, and any change breaks the signature",
            where=where,
            remedy="save an unsigned copy first",
        )
    if any(name.startswith(_CACHES) for name in names):
        raise UsageError(
            "holds a pivot cache or data model, which would hand out unmarked rows",
            where=where,
            remedy="delete the pivot table or data model, or save the sheet as CSV",
        )
    if read_package(book.package.path) != book.package:
        raise UsageError("changed since it was opened", where=where, remedy="run again")


def _edits(source: ExcelSource, book: Workbook, merged: Merged) -> tuple[Edits, int]:
    """First pass: what each target becomes, and how many differ from what they were."""
    first = book.cells.first_row
    wanted: dict[int, set[int]] = {}
    for name, places in merged.items():
        column = book.cells.columns[name]
        for side in places:
            for row in side.tolist():
                wanted.setdefault(row + first, set()).add(column)
    found: Edits = {}
    with _regular(source):
        stream = SheetStream(book.package.blocks(book.sheet.part), checked=True)
        for rows in stream.rows():
            for number, begin, end in _row_bounds(stream.grammar, rows):
                if number in wanted:
                    found[number] = _contents(stream.grammar, rows[begin:end], number, wanted[number], source)
    nothing: dict[int, _Content] = {}
    edits: Edits = {}
    changed = 0
    for name, (targets, origins) in merged.items():
        column = book.cells.columns[name]
        for target, origin in zip((targets + first).tolist(), (origins + first).tolist(), strict=True):
            old = found.get(target, nothing).get(column, _NOTHING)
            new = found.get(origin, nothing).get(column, _NOTHING)
            if (old.kind, old.inner) != (new.kind, new.inner):
                edits.setdefault(target, {})[column] = new
                changed += 1
    return edits, changed


@contextlib.contextmanager
def _regular(source: ExcelSource) -> Iterator[None]:
    """Turn `Irregular` into one line: the sheet was regular when it was opened, so the file changed."""
    try:
        yield
    except Irregular as found:
        raise UsageError(
            f"changed since it was opened: its XML {found}", where=str(source.path), remedy="run again"
        ) from found


def _row_bounds(grammar: Grammar, rows: bytes) -> Iterator[tuple[int, int, int]]:
    """Row number, begin and end of each row element."""
    close = grammar.tag(b"row", close=True)
    for tag in grammar.row_tag.finditer(rows):
        place = _PLACE.search(tag[1])
        assert place is not None  # `scan_sheet` has seen every place
        end = tag.end() if tag[2] else rows.index(close, tag.end()) + len(close)
        yield int(place[2]), tag.start(), end


def _column_of(cell: re.Match[bytes]) -> int:
    place = _PLACE.search(cell[1])
    assert place is not None
    return column_number(place[1])


def _contents(
    grammar: Grammar, row: bytes, number: int, columns: set[int], source: ExcelSource
) -> dict[int, _Content]:
    """Return the wanted cells of a row that exist."""
    found = {}
    for cell in grammar.cell.finditer(row):
        column = _column_of(cell)
        if column not in columns:
            continue
        inner = cell[2] or b""
        if grammar.content.fullmatch(inner) is None:
            raise UsageError(
                f"cell {cell_name(number, column)} holds more than a value",
                where=str(source.path),
                remedy="save the sheet as CSV",
            )
        kind, style = _KIND.search(cell[1]), _STYLE.search(cell[1])
        found[column] = _Content(kind[0] if kind else b"", inner, style[0] if style else b"")
    return found


def _spliced(book: Workbook, edits: Edits) -> Iterator[bytes]:
    """Second pass: the sheet XML with the cells in `edits` replaced."""
    stream = SheetStream(book.package.blocks(book.sheet.part), checked=True)
    grammar = stream.grammar
    waiting = deque(sorted(edits))
    yield stream.head
    for rows in stream.rows():
        last = 0
        for number, begin, end in _row_bounds(grammar, rows):
            while waiting and waiting[0] < number:  # rows that the file leaves out
                missing = waiting.popleft()
                empty = b'%s r="%d"/>' % (grammar.tag(b"row"), missing)
                yield rows[last:begin] + _edited_row(grammar, empty, missing, edits[missing])
                last = begin
            if waiting and waiting[0] == number:
                waiting.popleft()
                yield rows[last:begin] + _edited_row(grammar, rows[begin:end], number, edits[number])
                last = end
        yield rows[last:]
    yield stream.tail


def _edited_row(grammar: Grammar, row: bytes, number: int, edits: dict[int, _Content]) -> bytes:
    """One row element with the cells in `edits` replaced, or put in where there are none."""
    tag = grammar.row_tag.match(row)
    assert tag is not None
    close = grammar.tag(b"row", close=True)
    head, body = tag[0], row[tag.end() : -len(close)]
    if tag[2]:
        head, body = grammar.tag(b"row") + tag[1] + b">", b""
    waiting = deque(sorted(edits.items()))
    pieces, last, behind = [head], 0, 0
    for cell in grammar.cell.finditer(body):
        column = _column_of(cell)
        while waiting and waiting[0][0] < column:
            pieces += [body[last : cell.start()], _new_cell(grammar, number, *waiting.popleft())]
            last = cell.start()
        if waiting and waiting[0][0] == column:
            pieces += [body[last : cell.start()], _edited_cell(grammar, cell, waiting.popleft()[1])]
            last = cell.end()
        behind = cell.end()
    pieces.append(body[last:behind])
    pieces += [_new_cell(grammar, number, column, content) for column, content in waiting]
    pieces += [body[behind:], close]
    return b"".join(pieces)


def _new_cell(grammar: Grammar, row: int, column: int, content: _Content) -> bytes:
    """Make a cell where the file has none."""
    attributes = b' r="%s"' % cell_name(row, column).encode() + content.style
    return _cell(grammar, attributes + content.kind, content.inner)


def _edited_cell(grammar: Grammar, cell: re.Match[bytes], content: _Content) -> bytes:
    """Give a cell other content: ``t`` is exchanged in place, ``s`` only where the cell was empty."""
    attributes = _exchanged(cell[1], _KIND, content.kind)
    if not _VALUE.search(cell[2] or b"") and _VALUE.search(content.inner):
        attributes = _exchanged(attributes, _STYLE, content.style)
    return _cell(grammar, attributes, content.inner)


def _exchanged(attributes: bytes, pattern: re.Pattern[bytes], new: bytes) -> bytes:
    """`attributes` with the one that `pattern` finds replaced by `new` (nothing, or with leading space)."""
    found = pattern.search(attributes)
    return attributes[: found.start()] + new + attributes[found.end() :] if found else attributes + new


def _cell(grammar: Grammar, attributes: bytes, inner: bytes) -> bytes:
    start = grammar.tag(b"c") + attributes
    return start + b">" + inner + grammar.tag(b"c", close=True) if inner else start + b"/>"


def _out_of_step(book: Workbook) -> tuple[str, ...]:
    """Name what still shows the original: cached results of formulas, charts."""
    package = book.package
    names = [repr(sheet.name) for sheet in book.sheets if _holds_formula(package.blocks(sheet.part))]
    lost = []
    if names:
        more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
        listed = ", ".join(names[:_LISTED]) + more
        lost.append(f"cached results of formulas in sheet {listed}: recalculate in Excel with Ctrl+Alt+F9")
    charts = sum(entry.name.casefold().startswith("xl/charts/chart") for entry in package.entries)
    if charts:
        lost.append(f"values cached in {charts} charts: they show the original until Excel redraws them")
    return tuple(lost)


def _holds_formula(blocks: Iterator[bytes]) -> bool:
    rest = b""
    for block in blocks:
        if _FORMULA.search(rest + block):
            return True
        rest = block[-64:]
    return False
