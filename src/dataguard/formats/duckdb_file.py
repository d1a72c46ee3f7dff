"""A table of a DuckDB file, through the optional package duckdb with every door of the engine shut.

A DuckDB connection can read any file, reach the network and load native code; a file to be
examined gets none of that: external access off, extensions off, memory bounded, settings locked.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import re
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from dataguard.errors import DataguardError, DecodeError, UsageError
from dataguard.formats.selection import selected
from dataguard.formats.sql import quoted, undecided

__all__ = ["DuckdbSource", "as_text", "deciphered", "load_duckdb", "shut_in"]

_BATCH = 1 << 16
_BATCH_BYTES = 1 << 26
_VECTOR = 2048
"""Rows of one DuckDB vector, the least it reads; `memory_limit` bounds it, compressed bombs included."""
_MEMORY = "1GB"
_SETTINGS = (
    "preserve_insertion_order=true",
    "arrow_large_buffer_size=true",
    "autoinstall_known_extensions=false",
    "autoload_known_extensions=false",
    "TimeZone='UTC'",
)
_OPEN: dict[Path, tuple[Any, int]] = {}
"""Files open at the moment: the instance that holds each, and by how many passes it is used."""
_LOCK = threading.Lock()
_PLAIN = re.compile(
    r"U?(TINYINT|SMALLINT|INTEGER|BIGINT)|FLOAT|DOUBLE|DECIMAL\(.*\)|VARCHAR|BOOLEAN|DATE|TIME"
    r"|TIMESTAMP(_S|_MS|_NS)?|TIMESTAMP WITH TIME ZONE"
)
_AS_TEXT = re.compile(r"UUID|ENUM\(.*\)", re.DOTALL)
"""Markable, but read as text: pyarrow has no plain type for them."""
_ARROW_HAS = re.compile(r"BLOB|(STRUCT|MAP)\(.*\)|.*\[\d*\]", re.DOTALL)
_ARROW_LACKS = re.compile(
    r"\b(U?HUGEINT|BIT|INTERVAL|UNION|UUID|ENUM|JSON|VARIANT|GEOMETRY|BIGNUM|VARINT|TIME WITH|NULL)\b"
)


@dataclass(frozen=True, slots=True)
class _Column:
    """A column: how it is selected, and whether it may never be marked."""

    name: str
    select: str
    fixed: bool


class DuckdbSource:
    """One table of a DuckDB file.

    Rows come in rowid order, which is checked. Types are DuckDB's as Arrow; UUID and ENUM are
    read as text. `nested_columns` are those never to be marked: blobs, lists, structs, maps and
    types that Arrow lacks (read as text), generated columns, and columns of a primary key,
    UNIQUE or foreign key constraint.

    Memory: 1 GB for DuckDB, plus a batch.

    Parameters
    ----------
    path : Path
        The database file.
    format : str
        "duckdb".
    name : str
        Short display name.
    table : str, optional
        Table wanted, with its schema where that is not "main"; a database with one table needs
        none.

    Attributes
    ----------
    schema_name, table_name : str
        The table read.
    generated : tuple of str
        Generated columns.

    Raises
    ------
    UsageError
        No package duckdb; no, or several tables and none named; a view; a write-ahead log
        beside the file; a locked file.
    DecodeError
        A damaged file, a version this DuckDB cannot read, a table without rows.
    """

    def __init__(self, path: Path, format: str, name: str, table: str | None = None) -> None:  # noqa: A002 - the word of the protocol
        self.path: Path | None = path
        self.name, self.format = name, format
        self._where = str(path)
        self._file = path
        log = Path(f"{path}.wal")
        if log.exists() and log.stat().st_size:
            raise UsageError(
                "has rows in a log beside it", where=str(log), remedy="run CHECKPOINT in DuckDB and close it"
            )
        with self.decoding():
            path.open("rb").close()  # says better than DuckDB what is missing
        with self.decoding(), self.open() as con:
            self.schema_name, self.table_name = _choose(con, table, self._where)
            shown = self.table_name if self.schema_name == "main" else f"{self.schema_name}.{self.table_name}"
            self._where = f"{path}::{shown}"
            self._from = f"{quoted(self.schema_name)}.{quoted(self.table_name)}"
            self._columns, self.generated = _layout(con, self.schema_name, self.table_name)
            self._rows = int(con.execute(f"SELECT count(*) FROM {self._from}").fetchall()[0][0])  # noqa: S608
        if not self._rows:
            raise DecodeError("no rows", where=self._where)
        self.column_names: tuple[str, ...] = tuple(self._columns)
        self.nested_columns: tuple[str, ...] = tuple(c.name for c in self._columns.values() if c.fixed)

    @contextlib.contextmanager
    def open(self) -> Iterator[Any]:
        """Open the file read-only, as the database `origin`, with every door shut.

        DuckDB refuses a second instance on one file, so passes that overlap share theirs.
        """
        key = self._file.resolve()
        with _LOCK:
            if key not in _OPEN:
                _OPEN[key] = _attached(key), 0
            con, users = _OPEN[key]
            _OPEN[key] = con, users + 1
        try:
            with contextlib.closing(con.cursor()) as cursor:
                cursor.execute("USE origin")
                yield cursor
        finally:
            with _LOCK:
                con, users = _OPEN.pop(key)
                if users > 1:
                    _OPEN[key] = con, users - 1
                else:
                    con.close()

    @contextlib.contextmanager
    def decoding(self) -> Iterator[None]:
        """Turn what DuckDB says about this file into one line."""
        duckdb = load_duckdb()
        try:
            yield
        except (duckdb.Error, pa.ArrowException, OSError, RuntimeError, ValueError, MemoryError) as error:
            raise deciphered(error, self._where) from error

    def batches(self, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
        """Stream record batches of at most 65,536 rows, and about 64 MiB where rows are wide.

        Parameters
        ----------
        columns : sequence of str, optional
            Columns wanted, in this order; all by default.

        Raises
        ------
        UsageError
            Unknown column.
        DecodeError
            Damaged data, rows that need more than the memory allowed, rows out of order.
        """
        wanted = selected(self.column_names, columns, self._where)
        chosen = ", ".join(["rowid", *(self._columns[column].select for column in wanted)])
        held: list[pa.RecordBatch] = []
        rows = size = 0
        last = -1
        with self.decoding(), self.open() as con:
            relation = con.sql(f"SELECT {chosen} FROM {self._from}")  # noqa: S608
            read = getattr(relation, "to_arrow_reader", None) or relation.fetch_arrow_reader
            for batch in read(_VECTOR):
                ids = batch.column(0).to_numpy()
                if ids.size and (ids[0] <= last or np.any(ids[1:] <= ids[:-1])):
                    raise DecodeError("rows came out of order", where=self._where)
                last = int(ids[-1]) if ids.size else last
                if held and (rows + batch.num_rows > _BATCH or size >= _BATCH_BYTES):
                    yield _joined(held, wanted)
                    held, rows, size = [], 0, 0
                held.append(batch)
                rows, size = rows + batch.num_rows, size + batch.nbytes
        if rows:
            yield _joined(held, wanted)

    def table(self, columns: Sequence[str] | None = None) -> pa.Table:
        """Collect `batches`."""
        return pa.Table.from_batches(list(self.batches(columns)))

    def rows(self) -> int:
        """Return the number of rows, counted on opening."""
        return self._rows

    def sha256(self) -> str:
        """Digest of the file, hex."""
        with self.decoding(), self._file.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()


def shut_in(files: Sequence[Path], memory: str, spill: Path | None = None) -> Any:
    """Connect to an empty DuckDB that may attach `files` and reach nothing else.

    Parameters
    ----------
    files : sequence of Path
        Database files; their logs are allowed too.
    memory : str
        Limit, such as "1GB".
    spill : Path, optional
        Folder for what exceeds it; without one, exceeding it is an error.

    Returns
    -------
    duckdb.DuckDBPyConnection
        To be closed by the caller.
    """
    beside = ("", ".wal", ".wal.checkpoint", ".wal.recovery")
    allowed = [as_text(f"{path.resolve()}{end}") for path in files for end in beside]
    con = load_duckdb().connect(":memory:", config={"threads": "1"})  # one keeps rows in order
    for setting in (
        *_SETTINGS,
        f"memory_limit={as_text(memory)}",
        f"temp_directory={as_text(spill or '')}",
        f"allowed_paths=[{', '.join(allowed)}]",
        "enable_external_access=false",
        "lock_configuration=true",
    ):
        con.execute(f"SET GLOBAL {setting}")
    return con


def _attached(path: Path) -> Any:
    con = shut_in([path], _MEMORY)
    try:
        # The absolute path: a name such as ":memory:" or "md:x" means something else to DuckDB.
        con.execute(f"ATTACH {as_text(path)} AS origin (TYPE duckdb, READ_ONLY)")
    except BaseException:
        con.close()
        raise
    return con


def as_text(value: str | Path) -> str:
    """Return a path or word as an SQL string."""
    return "'" + str(value).replace("'", "''") + "'"


def load_duckdb() -> Any:
    """Import duckdb, or say how to install it."""
    try:
        import duckdb
    except ImportError:
        raise UsageError(
            "DuckDB files need the package duckdb", remedy='pip install "dataguard[duckdb]"'
        ) from None
    return duckdb


def deciphered(error: BaseException, where: str) -> DataguardError:
    """One line for an error of DuckDB, or of Arrow reading from it."""
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    kind = type(error).__name__
    if "Could not set lock" in reason or "already attached" in reason:
        return UsageError("is open in another program", where=where, remedy="close it and try again")
    if kind in ("OutOfMemoryException", "MemoryError") or "Out of Memory" in reason:
        return DecodeError(
            "needs more memory than is allowed", where=where, remedy="export its rows to Parquet first"
        )
    if isinstance(error, FileNotFoundError | PermissionError):
        return UsageError("cannot be opened", where=where, remedy="check the name and its permissions")
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return UsageError("no space for a temporary copy", where=where, remedy="set TMPDIR to a larger disk")
    return DecodeError(f"damaged or unusual DuckDB file ({reason})", where=where, remedy="fetch it again")


def _joined(batches: list[pa.RecordBatch], columns: list[str]) -> pa.RecordBatch:
    table = pa.Table.from_batches(batches).combine_chunks()
    whole = pa.RecordBatch.from_arrays(
        [column.chunk(0) for column in table.columns[1:]], schema=pa.schema(list(table.schema)[1:])
    )
    return whole.rename_columns(columns)


def _choose(con: Any, table: str | None, where: str) -> tuple[str, str]:
    """Return schema and name of the table to read, as the catalogue spells them."""
    mine = "database_name = 'origin' AND NOT internal"
    found = con.execute(
        f"SELECT schema_name, table_name FROM duckdb_tables() WHERE {mine} AND NOT temporary"  # noqa: S608
    ).fetchall()
    shown = {(name if schema == "main" else f"{schema}.{name}"): (schema, name) for schema, name in found}
    if table is None:
        if len(found) == 1:
            return next(iter(shown.values()))
        raise undecided(list(shown), None, where)
    if table in shown:
        return shown[table]
    same = [pair for pair in found if table.lower() in (pair[1].lower(), f"{pair[0]}.{pair[1]}".lower())]
    if len(same) == 1:
        return (str(same[0][0]), str(same[0][1]))
    views = con.execute(f"SELECT schema_name, view_name FROM duckdb_views() WHERE {mine}").fetchall()  # noqa: S608
    if any(table.lower() in (name.lower(), f"{schema}.{name}".lower()) for schema, name in views):
        raise UsageError(f"{table!r} is a view", where=where, remedy="copy its rows to a table first")
    raise undecided(list(shown), table, where)


def _layout(con: Any, schema: str, table: str) -> tuple[dict[str, _Column], tuple[str, ...]]:
    """Columns by name, and which of them are generated."""
    duckdb = load_duckdb()
    here = "WHERE database_name = 'origin' AND schema_name = ? AND table_name = ?"
    query = "SELECT column_name, data_type, {} FROM duckdb_columns() " + here + " ORDER BY column_index"  # noqa: S608
    try:
        found = con.execute(query.format("is_generated"), [schema, table]).fetchall()
    except duckdb.BinderException:  # DuckDB 1 does not tell; its UPDATE refuses them
        found = con.execute(query.format("false"), [schema, table]).fetchall()
    bound = con.execute(
        "SELECT unnest(constraint_column_names) FROM duckdb_constraints() "  # noqa: S608
        + here
        + " AND constraint_type IN ('PRIMARY KEY', 'UNIQUE', 'FOREIGN KEY')",
        [schema, table],
    ).fetchall()
    generated = tuple(name for name, _, made in found if made)
    fixed = {*generated, *(row[0] for row in bound)}
    columns = {}
    for name, kind, _ in found:
        markable = _PLAIN.fullmatch(kind) or _AS_TEXT.fullmatch(kind)
        kept = _PLAIN.fullmatch(kind) or (_ARROW_HAS.fullmatch(kind) and not _ARROW_LACKS.search(kind))
        select = quoted(name) if kept else f"CAST({quoted(name)} AS VARCHAR)"
        columns[name] = _Column(name, select, not markable or name in fixed)
    return columns, generated
