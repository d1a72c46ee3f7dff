"""Excel workbooks (and other spreadsheets that calamine reads) as a table: one sheet, typed columns.

A workbook is a zip of XML from anywhere: it is checked as an archive, then as a sheet, and only
then handed to calamine. How the sheet lies in the file is remembered for ``excel_splice.py``.
"""

from __future__ import annotations

import hashlib
import posixpath
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast
from xml.etree import ElementTree as ET

import pyarrow as pa

from dataguard.errors import DecodeError, UsageError
from dataguard.formats.excel_cells import MAX_CELLS, SheetCells, dry_run, read_cells
from dataguard.formats.excel_package import Entry, Package, read_package
from dataguard.formats.excel_sheet import SheetFacts, scan_sheet
from dataguard.formats.parts import SeveralTablesError
from dataguard.formats.selection import selected

__all__ = ["ExcelSource", "Workbook", "Worksheet"]

_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_ENCRYPTED = "EncryptedPackage".encode("utf-16-le")
_BATCH = 1 << 16
_MAX_TEXT = 1 << 29
"""Bytes of text that shared strings may come to in calamine, unless a dry run survives it."""
_MAX_FILE = 1 << 30
_FILLED = re.compile(rb"<(?:[\w.-]+:)?(?:v|t)(?:\s[^<>]*)?>[^<]")
_STRING_END = re.compile(rb"</(?:[\w.-]+:)?si\s*>")
_AGAIN = "open it in Excel or LibreOffice and save it again, or save the sheet as CSV"


@dataclass(frozen=True, slots=True)
class Worksheet:
    """A sheet of an Office Open XML workbook.

    Parameters
    ----------
    name : str
        As on its tab.
    part : Entry
        Its XML.
    """

    name: str
    part: Entry


@dataclass(frozen=True, slots=True, eq=False)
class Workbook:
    """Where the cells of one sheet of an xlsx or xlsm file lie.

    Parameters
    ----------
    package : Package
        The checked archive.
    sheets : tuple of Worksheet
        All worksheets, hidden ones too, in workbook order.
    sheet : Worksheet
        The one that is the table.
    facts : SheetFacts
        What its XML holds.
    cells : SheetCells
        What it says; its table belongs to the source.
    """

    package: Package
    sheets: tuple[Worksheet, ...]
    sheet: Worksheet
    facts: SheetFacts
    cells: SheetCells


class ExcelSource:
    """One sheet of an xlsx, xlsm, xlsb, xls or ods file.

    The format forces the whole sheet into memory (cells of a column are strewn over the file, and
    its type shows only at the end): it is read once, when the source is made, and kept as Arrow.
    Files beyond 1 GiB, unpacked too, and sheets beyond 33.5 million cells are refused. Types:
    see `read_cells`.

    Never marked are columns of mixed type, and, in xlsx and xlsm files, those with formulas, error
    values, merged cells, links, linked data types, or dates in two notations: all columns if the
    XML of the sheet is not of the plain form that spreadsheet programs write.

    Parameters
    ----------
    path : Path
        The file.
    format : str
        What its name promises; `format` is what it holds: "xlsx", "xlsm", "xlsb", "xls" or "ods".
        Only the first two can be written.
    name : str
        Short display name.
    sheet : str, optional
        Name of the worksheet; needed when several are not empty.

    Attributes
    ----------
    sheet : str
        Name of the worksheet read.
    workbook : Workbook or None
        Places of the cells; None for formats that are only read.

    Raises
    ------
    UsageError
        Several sheets and no choice, no such sheet, python-calamine missing.
    DecodeError
        Encrypted, damaged or hostile file; see `read_package`, `Package.check` and `read_cells`.
    """

    def __init__(
        self,
        path: Path,
        format: str,  # noqa: A002 - the word of the protocol
        name: str,
        sheet: str | None = None,
    ) -> None:
        self.path: Path | None = path
        self.name = name
        self.format = format
        self._file = path
        try:
            cells, self.workbook = self._read(sheet)
        except OSError as error:
            raise DecodeError(f"cannot be read ({error.strerror or error})", where=str(path)) from error
        self._table = cells.table
        self.column_names: tuple[str, ...] = tuple(cells.columns)
        closed = set(cells.mixed)
        if self.workbook is not None:
            closed |= _closed_columns(self.workbook.facts, cells)
        self.nested_columns: tuple[str, ...] = tuple(c for c in self.column_names if c in closed)

    def _read(self, sheet: str | None) -> tuple[SheetCells, Workbook | None]:
        """Check the file, choose the sheet and read it."""
        path = self._file
        with path.open("rb") as file:
            magic = file.read(8)
            size = file.seek(0, 2)
        if size > _MAX_FILE:
            raise DecodeError(
                f"is larger than 1 GiB ({size:,} bytes)", where=str(path), remedy="save it as CSV"
            )
        if magic == _OLE:
            self._refuse_encrypted()
            self.format = "xls"
        elif magic[:4] == b"PK\x03\x04":
            package = read_package(path)
            package.check()
            self.format = _format_of(package)
            if self.format in ("xlsx", "xlsm"):
                return self._read_xlsx(package, sheet)
        else:
            raise DecodeError(
                "is no spreadsheet: neither a zip nor an OLE file",
                where=str(path),
                remedy="give it the suffix of what it is, or fetch it again",
            )
        boxes = dry_run(path)
        self.sheet = self._choose(sheet, [name for name, _ in boxes], [name for name, box in boxes if box])
        return read_cells(path, self.sheet), None

    def _refuse_encrypted(self) -> None:
        """Look for the stream in which an encrypted xlsx lies inside an OLE file (MS-OFFCRYPTO 2.3.4.4)."""
        if _ENCRYPTED in self._file.read_bytes():
            raise DecodeError(
                "is encrypted with a password",
                where=str(self._file),
                remedy="remove the password in Excel first",
            )

    def _read_xlsx(self, package: Package, sheet: str | None) -> tuple[SheetCells, Workbook]:
        sheets = _worksheets(package)
        filled = [
            each.name
            for each in sheets
            if sheet is None and any(map(_FILLED.search, package.blocks(each.part)))
        ]
        self.sheet = self._choose(sheet, [each.name for each in sheets], filled)
        chosen = next(each for each in sheets if each.name == self.sheet)
        facts = scan_sheet(package.blocks(chosen.part))
        where = f"{self._file} sheet {self.sheet!r}"
        if facts.beyond:
            raise DecodeError(
                f"cell {facts.beyond} lies outside of XFD1048576",
                where=where,
                remedy="do not trust this file",
            )
        much = facts.box > MAX_CELLS or facts.texts * _longest_string(package) > _MAX_TEXT
        if facts.irregular or facts.wild or much:
            dry_run(self._file)
        cells = read_cells(self._file, self.sheet)
        return cells, Workbook(package, sheets, chosen, facts, cells)

    def _choose(self, sheet: str | None, names: Sequence[str], filled: Sequence[str]) -> str:
        """Return the sheet asked for, or the only one that holds anything."""
        where, listed = str(self._file), ", ".join(map(repr, filled or names))
        if sheet is not None:
            if sheet not in names:
                raise UsageError(f"no sheet {sheet!r}", where=where, remedy=f"choose one of {listed}")
            return sheet
        if len(filled) > 1:
            raise SeveralTablesError(
                f"holds {len(filled)} sheets: {listed}", filled, where=where, remedy="name it as FILE::SHEET"
            )
        if not filled:
            raise DecodeError("is empty", where=where, remedy="a header row and data are needed")
        return filled[0]

    def batches(self, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
        """Stream record batches of at most 65,536 rows out of memory.

        Parameters
        ----------
        columns : sequence of str, optional
            Columns wanted, in this order; all by default.

        Raises
        ------
        UsageError
            Unknown column.
        """
        yield from self.table(columns).to_batches(max_chunksize=_BATCH)

    def table(self, columns: Sequence[str] | None = None) -> pa.Table:
        """Return whole columns; see `batches`."""
        return self._table.select(selected(self.column_names, columns, str(self._file)))

    def rows(self) -> int:
        """Return the number of rows below the header, blank ones between others included."""
        return cast("int", self._table.num_rows)

    def sha256(self) -> str:
        """Digest of the file, hex."""
        with self._file.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()


def _closed_columns(facts: SheetFacts, cells: SheetCells) -> set[str]:
    """Names of the columns whose cells must stay."""
    if facts.irregular:
        return set(cells.columns)
    closed = {name for name, number in cells.columns.items() if number in facts.closed}
    for name in cells.timed:
        # A serial number is a date by its style, a cell of type "d" by itself: they cannot change places.
        column = cells.table.column(name)
        if facts.iso_dates.get(cells.columns[name], 0) not in (0, len(column) - column.null_count):
            closed.add(name)
    return closed


def _format_of(package: Package) -> str:
    """Tell the spreadsheet formats apart that are zip files."""
    types = package.entry("[Content_Types].xml")
    if package.entry("xl/workbook.xml") and types:
        return "xlsm" if b"sheet.macroEnabled.main+xml" in package.read(types) else "xlsx"
    if package.entry("xl/workbook.bin"):
        return "xlsb"
    if package.entry("content.xml") and package.entry("mimetype"):
        return "ods"
    raise DecodeError(
        "is a zip file without a workbook",
        where=str(package.path),
        remedy="unpack it first, or fetch it again",
    )


def _worksheets(package: Package) -> tuple[Worksheet, ...]:
    """List the worksheets by way of workbook.xml and its relationships (ECMA-376 part 1, 18.2.19)."""
    where = str(package.path)
    targets: dict[str, tuple[str, str]] = {}
    for link in _elements(package, "xl/_rels/workbook.xml.rels", "Relationship"):
        if link.get("TargetMode") != "External" and link.get("Id") not in targets:
            targets[link.get("Id", "")] = (link.get("Type", ""), link.get("Target", ""))
    sheets = []
    for sheet in _elements(package, "xl/workbook.xml", "sheet"):
        identity = next((value for key, value in sheet.attrib.items() if key.endswith("}id")), "")
        kind, target = targets.get(identity, ("", ""))
        if not kind.endswith("/worksheet"):
            continue
        name = target[1:] if target.startswith("/") else posixpath.normpath(posixpath.join("xl", target))
        part = package.entry(name)
        if part is None:
            raise DecodeError(f"sheet part {name!r} is missing", where=where, remedy="fetch it again")
        sheets.append(Worksheet(sheet.get("name", ""), part))
    if not sheets:
        raise DecodeError("holds no worksheet", where=where, remedy=_AGAIN)
    if len({each.name for each in sheets}) < len(sheets) or len({each.part.name for each in sheets}) < len(
        sheets
    ):
        raise DecodeError("names a sheet twice", where=where, remedy=_AGAIN)
    return tuple(sheets)


def _elements(package: Package, part: str, name: str) -> list[ET.Element]:
    """All elements of a small part by local name."""
    entry = package.entry(part)
    if entry is None:
        raise DecodeError(f"part {part!r} is missing", where=str(package.path), remedy="fetch it again")
    try:
        root = ET.fromstring(package.read(entry))  # noqa: S314 - `check` lets no DTD pass
    except (ET.ParseError, ValueError, LookupError) as error:
        raise DecodeError(
            f"part {part!r} is not XML ({error})", where=str(package.path), remedy="fetch it again"
        ) from error
    return [element for element in root.iter() if element.tag.rpartition("}")[2] == name]


def _longest_string(package: Package) -> int:
    """Bytes from one end of a shared string to the next, at most; the whole part if it has comments."""
    longest = 0
    for entry in package.entries:
        if "sharedstrings" not in entry.name.casefold():
            continue
        at, last, odd, rest = 0, 0, False, b""
        for block in package.blocks(entry):
            text = rest + block
            odd = odd or b"<!" in text
            for end in _STRING_END.finditer(text):
                longest, last = max(longest, at + end.end() - last), at + end.end()
            rest = text[-64:] if last < at + len(text) - 64 else text[max(0, last - at) :]
            at += len(text) - len(rest)
        longest = entry.unpacked if odd else max(longest, entry.unpacked - last)
    return longest
