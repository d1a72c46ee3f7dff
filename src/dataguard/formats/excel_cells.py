"""From the cells that calamine reads to typed Arrow columns, and a dry run for files that may kill it.

calamine is native code that allocates the whole box of a sheet and one string per cell: a file of
a few hundred bytes can ask for terabytes, and a failed allocation ends the process. What cannot be
bounded beforehand is therefore first read in a child process with limited memory.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pyarrow as pa

from dataguard.errors import DecodeError, UsageError
from dataguard.formats.excel_sheet import cell_name

__all__ = ["MAX_CELLS", "SheetCells", "calamine", "dry_run", "read_cells"]

MAX_CELLS = 1 << 25
"""Cells of a sheet, empty ones within its box included: 33.5 million, 1 GiB in calamine."""
_DRY_MEMORY = 2 << 30
_DRY_SECONDS = 300
_PIECE = 8192
_EXACT = 2.0**53
_AGAIN = "open it in Excel or LibreOffice and save it again, or save the sheet as CSV"

_DRY_RUN = """
import json, sys
try:
    import resource
    for kind, limit in ((resource.RLIMIT_AS, int(sys.argv[3])), (resource.RLIMIT_CPU, int(sys.argv[4]))):
        resource.setrlimit(kind, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
except (ImportError, ValueError, OSError):
    pass
sys.path.append(sys.argv[2])
import python_calamine
answer = {}
try:
    book = python_calamine.load_workbook(open(sys.argv[1], "rb"))
    answer["sheets"] = []
    for sheet in book.sheets_metadata:
        if sheet.typ == python_calamine.SheetTypeEnum.WorkSheet:
            cells = book.get_sheet_by_name(sheet.name)
            for row in cells.iter_rows():
                pass
            answer["sheets"].append([sheet.name, cells.height * cells.width])
except (python_calamine.CalamineError, ValueError, OSError) as error:
    answer["error"] = str(error)
    answer["locked"] = isinstance(error, python_calamine.PasswordError)
sys.stdout.write(json.dumps(answer))
"""


@dataclass(frozen=True, slots=True, eq=False)
class SheetCells:
    """A sheet as a table.

    Parameters
    ----------
    table : pa.Table
        The rows below the header; types as `read_cells` says.
    first_row : int
        Row number, from one, of the first data row; data rows follow each other without gaps.
    columns : dict[str, int]
        Column name -> column number, from one.
    mixed : tuple of str
        Columns that hold values of several types, as text.
    timed : tuple of str
        Columns of dates, times or durations.
    """

    table: pa.Table
    first_row: int
    columns: dict[str, int]
    mixed: tuple[str, ...]
    timed: tuple[str, ...]


def calamine() -> ModuleType:
    """Return the module python_calamine.

    Raises
    ------
    UsageError
        It is not installed.
    """
    try:
        import python_calamine
    except ImportError:
        raise UsageError(
            "Excel and OpenDocument sheets need python-calamine", remedy='pip install "dataguard[excel]"'
        ) from None
    module: ModuleType = python_calamine
    return module


def dry_run(path: Path) -> list[tuple[str, int]]:
    """Read all sheets in a child process of at most 2 GiB and 300 CPU seconds (where the system limits).

    Parameters
    ----------
    path : Path
        Any workbook.

    Returns
    -------
    list of (str, int)
        Worksheet names, and the cells in the box of each.

    Raises
    ------
    DecodeError
        calamine refuses the file, or does not survive it.
    UsageError
        python-calamine is not installed, or there is no Python interpreter to start.
    """
    folder = Path(calamine().__file__ or "").parents[1]
    if not sys.executable:
        raise UsageError("no interpreter to check the file with", where=str(path), remedy="save it as CSV")
    command = [sys.executable, "-I", "-S", "-c", _DRY_RUN, str(path.absolute()), str(folder)]
    command += [str(_DRY_MEMORY), str(_DRY_SECONDS)]
    answer: dict[str, Any] = {}
    with contextlib.suppress(subprocess.TimeoutExpired, json.JSONDecodeError):
        done = subprocess.run(command, capture_output=True, timeout=4 * _DRY_SECONDS, check=False)
        answer = json.loads(done.stdout)
    if answer.get("locked"):
        raise DecodeError(
            "is encrypted with a password", where=str(path), remedy="remove the password in Excel first"
        )
    if "error" in answer or "sheets" not in answer:
        reason = str(
            answer.get("error") or "it stops the reader, or takes more memory or time than any sheet needs"
        )
        raise _unreadable(str(path), reason)
    return [(str(name), int(box)) for name, box in answer["sheets"]]


def _unreadable(where: str, reason: str) -> DecodeError:
    line = " ".join(reason.split())[:200] or "no reason given"
    return DecodeError(f"cannot be read as a workbook ({line})", where=where, remedy=_AGAIN)


@contextlib.contextmanager
def _contained(where: str) -> Iterator[None]:
    """Turn what calamine raises, a Rust panic included, into one line."""
    try:
        yield
    except BaseException as error:
        # pyo3's PanicException derives from BaseException and cannot be imported.
        known = isinstance(error, calamine().CalamineError | ValueError | OverflowError | OSError)
        if not known and type(error).__name__ != "PanicException":
            raise
        raise _unreadable(where, str(error)) from error


def read_cells(path: Path, sheet: str) -> SheetCells:
    """Read one sheet; the first row that is not empty holds the column names.

    A column is int64 when all its numbers are whole and below 2^53 in magnitude, else float64;
    date32 or timestamp[us] when all are dates; bool; everything else is large_string, where
    numbers stand in their shortest form, times as ``HH:MM:SS`` and truth values as TRUE, FALSE.
    Empty cells, empty texts and error values are null. Columns without name and data are left out.
    Memory: the box of the sheet at 32 bytes a cell plus its text, then the table; see `MAX_CELLS`.

    Parameters
    ----------
    path : Path
        A workbook that a check or a `dry_run` has found bounded.
    sheet : str
        Name of the worksheet.

    Returns
    -------
    SheetCells

    Raises
    ------
    DecodeError
        Unreadable file, sheet without rows, too many cells, column names missing or named twice.
    """
    where = f"{path} sheet {sheet!r}"
    with _contained(where):
        with path.open("rb") as file:  # given a path, it believes the suffix
            cells = calamine().load_workbook(file).get_sheet_by_name(sheet)
        start = cells.start
        if start is None:
            raise DecodeError("is empty", where=where, remedy="a header row and data are needed")
        if cells.height * cells.width > MAX_CELLS:
            raise DecodeError(
                f"spans {cells.height * cells.width:,} cells, more than {MAX_CELLS:,}",
                where=where,
                remedy="delete stray cells far from the data, or save it as CSV",
            )
        rows = islice(cells.iter_rows(), start[0], None)  # it counts rows from the top, columns from `start`
        header_row = start[0]
        for header in rows:
            header_row += 1
            if any(value != "" for value in header):
                break
        else:
            raise DecodeError("is empty", where=where, remedy="a header row and data are needed")
        columns = [_Column() for _ in header]
        count = 0
        while piece := list(islice(rows, _PIECE)):
            count += len(piece)
            for column, values in zip(columns, zip(*piece, strict=True), strict=True):
                column.add(values)
    if not count:
        raise DecodeError("no rows below the header", where=where, remedy="data rows are needed")
    names = _names(header, columns, header_row, start[1] + 1, where)
    used = {name: columns[number - start[1] - 1] for name, number in names.items()}
    table = pa.table({name: column.finish().combine_chunks() for name, column in used.items()})
    mixed = tuple(name for name, column in used.items() if column.is_mixed)
    timed = tuple(name for name, column in used.items() if column.kinds & {"date", "datetime", "time"})
    return SheetCells(table, header_row + 1, names, mixed, timed)


def _names(
    header: Sequence[Any], columns: Sequence[_Column], row: int, first: int, where: str
) -> dict[str, int]:
    """Column name -> column number; refuse names that are missing or given twice."""
    names: dict[str, int] = {}
    titles = [_text(value) for value in header]
    for number, (title, column) in enumerate(zip(titles, columns, strict=True), first):
        if title in names and title:
            cells = ", ".join(cell_name(row, first + at) for at, name in enumerate(titles) if name == title)
            raise DecodeError(
                f"duplicate column names {title!r} in {cells}", where=where, remedy="rename them"
            )
        if title:
            names[title] = number
        elif column.kinds:
            raise DecodeError(
                f"cell {cell_name(row, number)} names no column, but there is data below it",
                where=where,
                remedy="let the first row that is not empty hold all column names",
            )
    return names


def _text(value: Any) -> str:
    """Text of a cell of any type."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "TRUE" if value else "FALSE"
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < _EXACT else repr(value)
    if isinstance(value, dt.timedelta):
        micros = abs(value) // dt.timedelta(microseconds=1)
        minutes, micros = divmod(micros, 60_000_000)
        seconds = f"{micros // 1_000_000:02}" + (f".{micros % 1_000_000:06}" if micros % 1_000_000 else "")
        sign = "-" if value < dt.timedelta(0) else ""
        return f"{sign}{minutes // 60}:{minutes % 60:02}:{seconds}"
    return str(value) if isinstance(value, int) else str(value.isoformat())


_KINDS: dict[type, str] = {
    int: "number",
    float: "number",
    bool: "bool",
    dt.date: "date",
    dt.datetime: "datetime",
    dt.time: "time",
    dt.timedelta: "time",
}
_TYPES = {
    "number": pa.float64(),
    "bool": pa.bool_(),
    "date": pa.date32(),
    "datetime": pa.timestamp("us"),
}


class _Column:
    """Pieces of one column, typed as early as possible: a Python object takes 32 bytes, a number 8."""

    def __init__(self) -> None:
        self.kinds: set[str] = set()
        self.pieces: list[pa.Array] = []

    @property
    def is_mixed(self) -> bool:
        return len(self.kinds - {"date"}) > 1 or (len(self.kinds) > 1 and "datetime" not in self.kinds)

    def add(self, values: tuple[Any, ...]) -> None:
        """Append the values of some rows."""
        types = Counter(map(type, values))
        kinds = {_KINDS[kind] for kind in types if kind is not str}
        present: Sequence[Any] = values
        if types[str]:
            present = [None if value == "" else value for value in values]
            if present.count(None) < types[str]:
                kinds.add("text")
        if types[int] and "text" not in kinds:  # of .xls and .xlsb; Arrow refuses inexact conversions
            present = [float(value) if type(value) is int else value for value in present]
        self.kinds |= kinds
        only = next(iter(kinds)) if len(kinds) == 1 else ""
        if not kinds:
            self.pieces.append(pa.nulls(len(values)))
        elif only in _TYPES:
            self.pieces.append(pa.array(present, _TYPES[only]))
        elif kinds == {"date", "datetime"}:
            self.pieces.append(pa.array([_midnight(value) for value in present], _TYPES["datetime"]))
        else:
            texts = [None if value is None else _text(value) for value in present]
            self.pieces.append(pa.array(texts, pa.large_string()))

    def finish(self) -> pa.ChunkedArray:
        """Return the column in its final type."""
        if self.kinds == {"number"}:
            return _numbers(pa.chunked_array([piece.cast(pa.float64()) for piece in self.pieces]))
        final = _TYPES.get(next(iter(self.kinds))) if len(self.kinds) == 1 else None
        if self.kinds == {"date", "datetime"}:
            final = _TYPES["datetime"]
        if final is not None:
            return pa.chunked_array([piece.cast(final) for piece in self.pieces])
        return pa.chunked_array([_as_text(piece) for piece in self.pieces])


def _midnight(value: Any) -> dt.datetime | None:
    if value is None or isinstance(value, dt.datetime):
        return value
    return dt.datetime(value.year, value.month, value.day)  # noqa: DTZ001 - sheets know no time zones


def _as_text(piece: pa.Array) -> pa.Array:
    """Text of a piece that was typed before the column turned out mixed."""
    if piece.type in (pa.null(), pa.large_string()):
        return piece.cast(pa.large_string())
    write: Callable[[Any], str] = _text
    return pa.array([None if v is None else write(v) for v in piece.to_pylist()], pa.large_string())


def _numbers(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """int64 where every number is whole and exact, else float64."""
    for piece in column.chunks:
        values = piece.drop_null().to_numpy()
        if not np.all((np.abs(values) < _EXACT) & (np.trunc(values) == values)):
            return column
    return column.cast(pa.int64())
