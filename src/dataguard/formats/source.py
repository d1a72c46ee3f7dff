"""The one door through which data enters: a file or an object becomes a `Source`.

The content decides before the name does, so a renamed file is still read. A new format is
one file beside this one and one line in `_OPENERS`.
"""

from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

import pyarrow as pa

from dataguard.errors import DecodeError, UsageError
from dataguard.formats.arrow import ArrowSource
from dataguard.formats.csv import CsvSource
from dataguard.formats.parquet import ParquetSource

__all__ = ["FORMAT_OF_SUFFIX", "Source", "open_source"]

FORMAT_OF_SUFFIX = {
    ".parquet": "parquet",
    ".pq": "parquet",
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
}
"""Lower-case suffix -> format name, for reading and writing."""


class Source(Protocol):
    """A table somewhere, read as Arrow.

    Attributes
    ----------
    name : str
        Short display name.
    format : str
        "parquet", "csv", "tsv" or "arrow".
    path : Path or None
        The file; None for objects in memory.
    nested_columns : tuple of str
        Columns of list, struct or map type: carried along, never marked.
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


def _parquet(path: Path, _format: str, name: str) -> Source:
    return ParquetSource(path, name)


_OPENERS: dict[str, Callable[[Path, str, str], Source]] = {
    "parquet": _parquet,
    "csv": CsvSource,
    "tsv": CsvSource,
}


def open_source(data: str | os.PathLike[str] | object, *, name: str | None = None) -> Source:
    """Open a file, or wrap an object, as a table.

    Parameters
    ----------
    data : path or object
        A Parquet, CSV or TSV file (CSV and TSV also gzip-compressed), an object with the
        Arrow C stream interface, or a Source, which is returned as it is.
    name : str, optional
        Display name; by default the file name or the type of the object.

    Returns
    -------
    Source

    Raises
    ------
    UsageError
        No such file, a directory, an unknown suffix, an object that is no table.
    DecodeError
        A file that cannot be read as what it claims to be.
    """
    if isinstance(data, ParquetSource | CsvSource | ArrowSource):
        return data
    if not isinstance(data, str | os.PathLike):
        if not hasattr(data, "__arrow_c_stream__"):
            raise UsageError(
                f"cannot read a table from a {type(data).__name__}",
                where=name or "",
                remedy="pass a path or an object with __arrow_c_stream__",
            )
        return ArrowSource(data, name or type(data).__name__)
    path = Path(data)
    form = _format_of(path)
    return _OPENERS[form](path, form, name or path.name)


def _format_of(path: Path) -> str:
    """Decide the format of a file: magic bytes first, then the suffix."""
    where = str(path)
    if path.is_dir():
        raise UsageError("is a directory", where=where, remedy="name a file in it")
    try:
        with path.open("rb") as file:
            magic = file.read(4)
    except FileNotFoundError:
        raise UsageError("no such file", where=where, remedy="check the name") from None
    except OSError as error:
        raise UsageError(f"cannot be opened ({error.strerror})", where=where) from error
    if not magic:
        raise DecodeError("is empty", where=where)
    if magic == b"PAR1":
        return "parquet"
    compressed = magic[:2] == b"\x1f\x8b"
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes[-1:] == [".gz"]:
        suffixes.pop()
    form = FORMAT_OF_SUFFIX.get(suffixes[-1]) if suffixes else None
    if form is None:
        raise UsageError(
            f"unknown kind of file {path.suffix or path.name!r}",
            where=where,
            remedy=f"known suffixes are {', '.join(FORMAT_OF_SUFFIX)}, and .gz behind .csv and .tsv",
        )
    if form == "parquet":
        found = "gzip-compressed" if compressed else "not Parquet"
        raise DecodeError(f"{found}: it does not start with PAR1", where=where, remedy="fetch it again")
    if compressed and _starts_compressed_with(path, b"PAR1"):
        raise DecodeError("is compressed Parquet", where=where, remedy="decompress it first")
    return form


def _starts_compressed_with(path: Path, magic: bytes) -> bool:
    try:
        with gzip.open(path) as file:
            return file.read(len(magic)) == magic
    except (OSError, EOFError, zlib.error):
        return False  # the opener says what is wrong with it
