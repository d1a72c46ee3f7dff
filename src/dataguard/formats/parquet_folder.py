"""A directory of Parquet files read as one table, and written again file by file.

Query engines leave tables as such folders, often split into ``year=2024/month=1/``. Moves
may cross files; each file is then rewritten with its own share of them.
"""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pyarrow as pa

from dataguard.errors import DecodeError, UsageError
from dataguard.formats.moved import Cells, MovedCells
from dataguard.formats.parquet import ParquetSource, rewrite_parquet
from dataguard.formats.selection import selected

__all__ = ["ParquetFolderSource", "write_parquet_folder"]

_HIVE_NULL = "__HIVE_DEFAULT_PARTITION__"
_KEPT = ("_SUCCESS", "_common_metadata")
"""Small files that stay true when cells move; ``_metadata`` and checksums do not."""
_KEPT_BYTES = 1 << 20
_FOREIGN = {"_delta_log": "Delta Lake", ".hoodie": "Hudi"}
"""Table formats whose folders also hold rows that were deleted."""


@dataclass(frozen=True, slots=True)
class _Part:
    """One data file: where it is, and which rows of the table it holds."""

    relative: str
    source: ParquetSource
    first: int
    values: tuple[str | None, ...]


class ParquetFolderSource:
    """A directory whose data files are Parquet.

    Hidden files and folders (names that start with ``.`` or ``_``) and ``*.crc`` are ignored.
    Rows are those of the files in natural order of their relative paths (part-2 before
    part-10). Folders named ``key=value`` give text columns behind the others, listed in
    `nested_columns` because they are never marked; one that the files hold themselves is read
    from the files. Files without rows are allowed. Memory: see `ParquetSource`; all footers stay.

    Parameters
    ----------
    path : Path
        The directory.
    name : str
        Short display name.

    Raises
    ------
    UsageError
        No Parquet in it, other kinds of files among it, links, a Delta Lake or Hudi table, files
        that differ in columns, types, nullability or partition keys.
    DecodeError
        A file that `ParquetSource` refuses; no rows in any.
    """

    format = "parquet-folder"

    def __init__(self, path: Path, name: str) -> None:
        self.path: Path | None = path
        self.name = name
        self._folder = path
        files = _data_files(path)
        sources = [ParquetSource(path / file, file, empty=True) for file in files]
        if any(source.int96_unit == "us" for source in sources):
            for source in sources:
                source.int96_unit = source.int96_unit and "us"
        schema = sources[0].schema()
        for source in sources[1:]:
            _check_alike(schema, source, files[0])
        keys, values = _partitions(path, files)
        own = [i for i, key in enumerate(keys) if key not in schema.names]
        self.parts: tuple[_Part, ...] = ()
        first = 0
        for file, source, given in zip(files, sources, values, strict=True):
            self.parts += (_Part(file, source, first, tuple(given[i] for i in own)),)
            first += source.rows()
        if not first:
            raise DecodeError("no rows", where=str(path))
        self._rows = first
        self.partition_columns = tuple(keys[i] for i in own)
        self._schema = pa.schema([*schema, *(pa.field(key, pa.string()) for key in self.partition_columns)])
        self.column_names: tuple[str, ...] = tuple(self._schema.names)
        self.nested_columns: tuple[str, ...] = sources[0].nested_columns + self.partition_columns

    def batches(self, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
        """Stream the rows of one file after the other; `columns` selects and orders.

        Raises
        ------
        UsageError
            Unknown column.
        DecodeError
            Damaged data.
        """
        schema = self._selected(columns)
        stored = self._stored(schema)
        for part in self.parts:
            for batch in part.source.batches(stored) if part.source.rows() else ():
                arrays = [self._column(batch, part, name) for name in schema.names]
                yield pa.RecordBatch.from_arrays(arrays, schema=schema)

    def table(self, columns: Sequence[str] | None = None) -> pa.Table:
        """Collect whole columns; see `batches` and `ParquetSource.table`."""
        schema = self._selected(columns)
        stored = self._stored(schema)
        tables = []
        for part in self.parts:
            table = part.source.table(stored)
            arrays = [self._column(table, part, name) for name in schema.names]
            tables.append(pa.Table.from_arrays(arrays, schema=schema))
        return pa.concat_tables(tables)

    def _selected(self, columns: Sequence[str] | None) -> pa.Schema:
        wanted = selected(self.column_names, columns, str(self._folder))
        return self._schema if columns is None else pa.schema([self._schema.field(c) for c in wanted])

    def _stored(self, schema: pa.Schema) -> list[str]:
        """Columns to read from the files: one at least, which counts the rows."""
        stored = [name for name in schema.names if name not in self.partition_columns]
        return stored or [self.column_names[0]]

    def _column(self, rows: Any, part: _Part, name: str) -> Any:
        if name not in self.partition_columns:
            return rows.column(name)
        value = part.values[self.partition_columns.index(name)]
        return pa.repeat(pa.scalar(value, pa.string()), rows.num_rows)

    def rows(self) -> int:
        """Return the number of rows, from the footers."""
        return self._rows

    def sha256(self) -> str:
        """Digest, hex, of the data files and their names.

        SHA-256 over one line per data file: its own hex digest, two spaces, its relative path (``/``
        between folders, UTF-8), a line feed; lines sorted by the bytes of the path. That is what
        ``sha256sum`` prints for the files in that order. Ignored files do not count.
        """
        named = sorted((part.relative.encode(), part.source) for part in self.parts)
        lines = [f"{source.sha256()}  ".encode() + relative + b"\n" for relative, source in named]
        return hashlib.sha256(b"".join(lines)).hexdigest()


def write_parquet_folder(source: ParquetFolderSource, moved: Cells, folder: Path) -> tuple[str, ...]:
    """Write the folder again with cells moved, under the same relative names.

    Files without moved cells are copied byte for byte, the others written as by
    `rewrite_parquet`; small `_SUCCESS` and `_common_metadata` files come along, nothing else.
    Memory: the moved cells and one column of one row group.

    Parameters
    ----------
    source : ParquetFolderSource
        The original.
    moved : Cells
        What `gather` collected from it; may cross files. Never of partition columns, whose values
        are the folders' names.
    folder : Path
        An empty folder, filled here.

    Returns
    -------
    tuple of str
        Traits and files that could not be kept.

    Raises
    ------
    UsageError
        Moved cells of a partition column; a folder that is not empty.
    DecodeError
        Damaged file.
    """
    for column in moved.columns:
        if column in source.partition_columns:
            raise UsageError("a partition column cannot be edited", where=repr(column))
    if any(folder.iterdir()):
        raise UsageError("is not empty", where=str(folder), remedy="name an empty folder")
    lost: dict[str, None] = {}
    for part in source.parts:
        target = folder / part.relative
        target.parent.mkdir(parents=True, exist_ok=True)
        share = _Share(moved, part.first)
        with target.open("x+b") as out:
            if share.moves(part.source):
                lost.update(dict.fromkeys(rewrite_parquet(part.source, share, out)))
            else:
                rewrite_parquet(part.source, MovedCells({}), out)
    assert source.path is not None
    lost.update(dict.fromkeys(_copy_companions(source.path, folder)))
    return tuple(lost)


@dataclass(frozen=True, slots=True)
class _Share:
    """The moved cells of one file, numbered from its first row."""

    moved: Cells
    first: int

    @property
    def columns(self) -> tuple[str, ...]:
        return self.moved.columns

    def part(self, first: int, count: int) -> MovedCells:
        return self.moved.part(self.first + first, count)

    def moves(self, source: ParquetSource) -> bool:
        """Whether any cell of the file moves; looks at one row group after the other."""
        first = 0
        for rows in source.footer.rows.tolist():
            if self.part(first, rows).cells:
                return True
            first += rows
        return False


def _copy_companions(source: Path, folder: Path) -> list[str]:
    """Copy the ignored files that stay true; name the others."""
    lost = []
    for path in sorted(source.rglob("*")):
        relative = path.relative_to(source)
        if path.is_dir() or not any(_ignored(part) for part in relative.parts):
            continue
        kept = path.name in _KEPT and not path.is_symlink() and path.stat().st_size <= _KEPT_BYTES
        if kept and not any(_ignored(part) for part in relative.parts[:-1]):
            (folder / relative).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, folder / relative)
        else:
            lost.append("checksum files (.crc)" if path.suffix == ".crc" else f"file {relative.as_posix()}")
    return lost


def _ignored(name: str) -> bool:
    return name.startswith((".", "_")) or name.endswith(".crc")


def _data_files(root: Path) -> list[str]:
    """Relative paths, in natural order, of the data files; refuses a folder that is no table."""
    found, others, folders = [], [], [root]
    while folders:
        for path in _entries(folders.pop()):
            relative = path.relative_to(root).as_posix()
            if path.name in _FOREIGN:
                raise UsageError(
                    f"is a {_FOREIGN[path.name]} table, with deleted rows in its files",
                    where=str(root),
                    remedy="export its current version as plain Parquet first",
                )
            if _ignored(path.name):
                continue
            if path.is_symlink():
                raise UsageError(f"holds a link, {relative!r}", where=str(root), remedy="copy what it names")
            if path.is_dir():
                folders.append(path)
            elif path.is_file() and _looks_parquet(path):
                found.append(relative)
            else:
                others.append(relative)
    if not found:
        raise UsageError("holds no Parquet files", where=str(root), remedy="name a file in it")
    if others:
        raise UsageError(
            f"holds more than Parquet: {min(others, key=_natural)!r}",
            where=str(root),
            remedy="move the other files elsewhere",
        )
    if any("\n" in file or "\\" in file for file in found):
        raise UsageError("holds a file with a line break or backslash in its name", where=str(root))
    return sorted(found, key=_natural)


def _entries(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError as error:
        raise UsageError(f"cannot be read ({error.strerror})", where=str(folder)) from error


def _looks_parquet(path: Path) -> bool:
    """By content, as engines write names without suffix; by suffix too, so that damage is named."""
    if path.suffix.lower() in {".parquet", ".pq"}:
        return True
    try:
        with path.open("rb") as file:
            return file.read(4) == b"PAR1"
    except OSError as error:
        raise UsageError(f"cannot be opened ({error.strerror})", where=str(path)) from error


def _natural(relative: str) -> tuple[Any, ...]:
    """Sort key: folder by folder, digits as numbers; the name itself decides between 1 and 01."""
    folders = [
        [
            (0, int(piece), "") if piece.isdigit() else (1, 0, piece)
            for piece in re.split(r"([0-9]+)", name)
            if piece
        ]
        for name in relative.split("/")
    ]
    return folders, relative


def _partitions(root: Path, files: list[str]) -> tuple[list[str], list[list[str | None]]]:
    """Keys of the ``key=value`` folders, the same for all files, and the values for each file."""
    keys: list[str] = []
    values: list[list[str | None]] = []
    for file in files:
        pairs = [folder.split("=", 1) for folder in file.split("/")[:-1] if "=" in folder]
        names = [unquote(key) for key, _ in pairs]
        if not values:
            keys = names
        if names != keys or len(set(names)) < len(names):
            raise UsageError(
                f"{file!r} lies in partitions {names}, {files[0]!r} in {keys}",
                where=str(root),
                remedy="keep one table per folder",
            )
        values.append([None if value == _HIVE_NULL else unquote(value) for _, value in pairs])
    return keys, values


def _check_alike(schema: pa.Schema, source: ParquetSource, model: str) -> None:
    other = source.schema()
    for name in [*schema.names, *other.names]:
        here, there = (s.field(name) if name in s.names else None for s in (other, schema))
        if here is None or there is None:
            problem = f"column {name!r} is {'missing' if here is None else 'not in ' + repr(model)}"
        elif here.type != there.type:
            problem = f"column {name!r} is {here.type}, in {model!r} {there.type}"
        elif here.nullable != there.nullable:
            words = ("required", "optional")
            problem = f"column {name!r} is {words[here.nullable]}, in {model!r} {words[there.nullable]}"
        else:
            continue
        raise UsageError(problem, where=str(source.path), remedy="keep one table per folder")
