"""The one door through which data enters: a file, a database table or an object becomes a `Source`.

The content decides before the name does, so a renamed file is still read. A new format is
one file beside this one and one line in `_OPENERS`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

import pyarrow as pa

from dataguard.errors import DecodeError, UsageError
from dataguard.formats.arrow import ArrowSource
from dataguard.formats.compression import compression_of, open_bytes, reading
from dataguard.formats.csv import CsvSource
from dataguard.formats.parquet import ParquetSource

__all__ = [
    "FORMAT_OF_SUFFIX",
    "PART",
    "Source",
    "format_of_name",
    "is_fetched",
    "open_source",
    "part_of",
    "shown",
    "split_part",
    "suffix_of_content",
]

FORMAT_OF_SUFFIX = {
    ".parquet": "parquet", ".pq": "parquet",
    ".csv": "csv", ".txt": "csv", ".data": "csv", ".tsv": "tsv", ".tab": "tsv",
    ".jsonl": "jsonl", ".ndjson": "jsonl",
    ".arrow": "feather", ".feather": "feather", ".ipc": "feather", ".arrows": "feather",
    ".xlsx": "xlsx", ".xlsm": "xlsx", ".xlsb": "xlsx", ".xls": "xlsx", ".ods": "xlsx",
    ".sqlite": "sqlite", ".sqlite3": "sqlite", ".db": "sqlite", ".db3": "sqlite", ".gpkg": "sqlite",
    ".duckdb": "duckdb", ".ddb": "duckdb",
}  # fmt: skip
"""Lower-case suffix -> format name, for reading and writing."""

PART = "::"
"""Stands between a file and the sheet or table in it."""

_TEXT = {"csv", "tsv", "jsonl"}
_COMPRESSED = {".gz": "gzip", ".zst": "zstd"}
_MAGIC: tuple[tuple[int, bytes, str], ...] = (
    (0, b"PAR1", "parquet"),
    (0, b"PARE", "parquet"),
    (0, b"ARROW1", "feather"),
    (0, b"FEA1", "feather"),
    (0, b"SQLite format 3\x00", "sqlite"),
    (8, b"DUCK", "duckdb"),
    (0, b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "xlsx"),
)
"""Offset, bytes and format; zip archives and streams without a mark are told by their names."""
_HEAD = 4096
_CONTINUED = b"\xff\xff\xff\xff"
"""An Arrow stream begins with this and a length (Arrow columnar format, encapsulated messages)."""


class Source(Protocol):
    """A table somewhere, read as Arrow.

    Attributes
    ----------
    name : str
        Short display name.
    format : str
        As in `FORMAT_OF_SUFFIX`, or "parquet-folder", "postgres", "arrow".
    path : Path or None
        The file or folder; None for objects in memory and database servers.
    nested_columns : tuple of str
        Columns that are carried along and never marked: lists, structs and maps, formulas, blobs, keys of
        a database.
    """

    name: str
    format: str
    path: Path | None
    nested_columns: tuple[str, ...]

    @property
    def column_names(self) -> tuple[str, ...]:
        """Column names in order, each once."""

    def batches(self, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
        """Stream the rows; `columns` selects and orders."""

    def table(self, columns: Sequence[str] | None = None) -> pa.Table:
        """Collect `batches` in memory."""

    def rows(self) -> int:
        """Return the number of rows."""

    def sha256(self) -> str:
        """Hex digest of the file's bytes, or of a canonical stream of the object."""


def _parquet(path: Path, _format: str, name: str, _part: str | None) -> Source:
    return ParquetSource(path, name)


def _csv(path: Path, form: str, name: str, _part: str | None) -> Source:
    return CsvSource(path, form, name)


def _jsonl(path: Path, form: str, name: str, _part: str | None) -> Source:
    from dataguard.formats.jsonl import JsonLinesSource

    return JsonLinesSource(path, form, name)


def _feather(path: Path, form: str, name: str, _part: str | None) -> Source:
    from dataguard.formats.ipc import IpcSource

    return IpcSource(path, form, name)


def _excel(path: Path, form: str, name: str, part: str | None) -> Source:
    from dataguard.formats.excel import ExcelSource

    return ExcelSource(path, form, name, part)


def _sqlite(path: Path, form: str, name: str, part: str | None) -> Source:
    from dataguard.formats.sqlite_file import SqliteSource

    return SqliteSource(path, form, name, part)


def _duckdb(path: Path, form: str, name: str, part: str | None) -> Source:
    from dataguard.formats.duckdb_file import DuckdbSource

    return DuckdbSource(path, form, name, part)


_OPENERS: dict[str, Callable[[Path, str, str, str | None], Source]] = {
    "parquet": _parquet, "csv": _csv, "tsv": _csv, "jsonl": _jsonl, "feather": _feather,
    "xlsx": _excel, "sqlite": _sqlite, "duckdb": _duckdb,
}  # fmt: skip
_SERVERS = ("postgresql://", "postgres://")
_HAVE_PARTS = {"xlsx", "sqlite", "duckdb"}


def open_source(
    data: str | os.PathLike[str] | object,
    *,
    name: str | None = None,
    part: str | None = None,
    called: str | None = None,
) -> Source:
    """Open a file, a folder, a database table or a URI, or wrap an object, as a table.

    Parameters
    ----------
    data : path, URI or object
        A file of a known format (text also gzip- or zstd-compressed), a folder of Parquet files,
        ``FILE::PART`` for a sheet or table in a file, ``postgresql://...::TABLE``, an
        object in cloud storage (``s3:``, ``gs:``, ``abfs:``), an object with the Arrow C stream interface, or
        a Source, which is returned as it is.
    name : str, optional
        Display name; by default the file name or the type of the object.
    part : str, optional
        Sheet or table, instead of ``::PART``.
    called : str, optional
        Name that tells the format where the content does not; by default the file's own.

    Returns
    -------
    Source

    Raises
    ------
    UsageError
        No such file, an unknown suffix, an object that is no table.
    DecodeError
        A file that cannot be read as what it claims to be.
    """
    if hasattr(data, "batches") and hasattr(data, "nested_columns"):
        return data  # type: ignore[return-value]
    if not isinstance(data, str | os.PathLike):
        if not hasattr(data, "__arrow_c_stream__"):
            raise UsageError(
                f"cannot read a table from a {type(data).__name__}",
                where=name or "",
                remedy="pass a path or an object with __arrow_c_stream__",
            )
        return ArrowSource(data, name or type(data).__name__)
    text = os.fsdecode(data)
    if "\0" in text:
        raise UsageError("a NUL byte in its name", where=repr(text), remedy="check the name")
    if "://" in text:
        return _from_uri(text, name, part)
    path, found = split_part(Path(text))
    return _open_path(path, name or path.name, part or found, called)


def part_of(source: Source, copy: str | None = None) -> str | None:
    """Return the sheet or table that a source is in its file, None where the file is the table.

    Parameters
    ----------
    source : Source
    copy : str, optional
        Name of a copy of it: there it is the same part, or the whole of a file of another format.
    """
    if copy is not None and format_of_name(copy)[0] not in _HAVE_PARTS:
        return None
    found = getattr(source, "sheet", None) or getattr(source, "table_name", None)
    return found if source.format in (*_HAVE_PARTS, "xlsm", "xlsb", "xls", "ods") else None


def suffix_of_content(path: Path) -> str:
    """Return the suffix that tells what a file without a name holds, compression included; ".csv" if nothing else.

    Parameters
    ----------
    path : Path
        An existing file.

    Raises
    ------
    DecodeError
        A file that cannot be read.
    """
    packed = compression_of(path)
    with reading(path), open_bytes(path, packed) as stream:
        head = stream.read(_HEAD) or b""
    for offset, magic, form in _MAGIC:
        if head[offset:].startswith(magic):
            return f".{form}"
    behind = next((suffix for suffix, kind in _COMPRESSED.items() if kind == packed), "")
    if head.startswith(b"PK\x03\x04"):
        return ".xlsx"
    if head.startswith(_CONTINUED):
        return ".arrows"
    is_json = head.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"{")
    return (".jsonl" if is_json else ".csv") + behind


def split_part(path: Path) -> tuple[Path, str | None]:
    """Return file and part of ``FILE::PART``; a file that has ``::`` in its own name is taken as it is."""
    if PART not in path.name or path.exists():
        return path, None
    file, _, part = path.name.partition(PART)
    return path.with_name(file) if file else path, part or None


def shown(data: str | os.PathLike[str]) -> str:
    """Return a path as it is, and a URI without password, key and query: fit for screens and logs."""
    text = str(data)
    if "://" not in text:
        return text
    from dataguard.formats.postgres_link import masked
    from dataguard.formats.remote import shown_uri

    return masked(text) if text.startswith(_SERVERS) else shown_uri(text)


def is_fetched(data: object) -> bool:
    """Whether data lies in cloud storage: what is read is a temporary copy."""
    return isinstance(data, str) and "://" in data and not data.startswith((*_SERVERS, "file://"))


def _from_uri(text: str, name: str | None, part: str | None) -> Source:
    from dataguard.formats.remote import fetch, is_uri

    if text.startswith(_SERVERS):
        from dataguard.formats.postgres import PostgresSource

        url, _, table = text.partition(PART)
        return PostgresSource(url, part or table or None, name or url)
    if not is_uri(text):
        return _open_path(Path(text), name or text, part)
    uri, _, found = text.partition(PART)
    path, shown = fetch(uri)
    return _open_path(path, name or shown, part or found or None)


def _open_path(path: Path, name: str, part: str | None, called: str | None = None) -> Source:
    if path.is_dir():
        from dataguard.formats.parquet_folder import ParquetFolderSource

        return ParquetFolderSource(path, name)
    form = _format_of(path, called or path.name)
    if part is not None and form not in _HAVE_PARTS:
        raise UsageError(f"has no part {part!r}", where=str(path), remedy=f"leave {PART}{part} out")
    return _OPENERS[form](path, form, name, part)


def format_of_name(name: str) -> tuple[str | None, str | None]:
    """Return what a file name promises: format and compression, each None if it says nothing."""
    suffixes = [suffix.lower() for suffix in Path(name).suffixes]
    packed = _COMPRESSED.get(suffixes[-1]) if suffixes else None
    if packed:
        suffixes.pop()
    return (FORMAT_OF_SUFFIX.get(suffixes[-1]) if suffixes else None), packed


def _format_of(path: Path, name: str) -> str:
    """Decide the format of a file: magic bytes first, then the suffix."""
    where = str(path)
    try:
        with path.open("rb") as file:
            head = file.read(16)
    except FileNotFoundError:
        raise UsageError("no such file", where=where, remedy="check the name") from None
    except OSError as error:
        raise UsageError(f"cannot be opened ({error.strerror})", where=where) from error
    if not head:
        raise DecodeError("is empty", where=where, remedy="fetch it again")
    promised, _ = format_of_name(name)
    for offset, magic, form in _MAGIC:
        if head[offset:].startswith(magic):
            return form
    if promised is None:
        raise UsageError(
            f"unknown kind of file {path.suffix or path.name!r}",
            where=where,
            remedy=f"known suffixes are {', '.join(FORMAT_OF_SUFFIX)}, and .gz or .zst behind text",
        )
    if promised == "parquet":
        packed = compression_of(path)
        found = f"{packed}-compressed" if packed else "not Parquet"
        raise DecodeError(f"{found}: it does not start with PAR1", where=where, remedy="fetch it again")
    if promised in _TEXT and (packed := compression_of(path)):
        with reading(path), open_bytes(path, packed) as stream:
            inside = bytearray(4)
            stream.readinto(memoryview(inside))
        if inside == b"PAR1":
            raise DecodeError("is compressed Parquet", where=where, remedy="decompress it first")
    return promised
