"""A table of an SQLite file, read without trusting the file.

A database file is a program as much as a document: views, triggers, virtual tables and
generated columns run when touched. Only ordinary tables are read here, through a read-only
connection on which nothing stored in the schema may call anything unsafe.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import sqlite3
import tempfile
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import pyarrow as pa

from dataguard.errors import DataguardError, DecodeError, UsageError
from dataguard.formats.selection import selected
from dataguard.formats.sql import quoted, undecided

__all__ = ["WAL_VERSIONS", "SqliteSource", "harden"]

_BATCH = 1 << 16
_BATCH_BYTES = 1 << 26
_MAX_CELL = 1 << 26
"""Bytes of a cell, and of a row: 64 MiB. SQLite's own limit is 1 GB, and overflow pages of a forged
file may be shared by all its rows."""
_COLUMNS_A_PASS = 500
"""Columns that one scan types: SQLite returns at most 2,000 values a row, and a column needs two."""
_EXACT = 1 << 53
_ARROW_TYPES = {
    "integer": pa.int64(),
    "real": pa.float64(),
    "text": pa.large_string(),
    "blob": pa.large_binary(),
}
WAL_VERSIONS = slice(18, 20)
"""Bytes of the header that say "uses a write-ahead log" (SQLite file format, section 1.3.3)."""
_PATIENCE = 2.0
"""Seconds to wait for a lock of another program."""
_ROWID_NAMES = ("rowid", "_rowid_", "oid")


@dataclass(frozen=True, slots=True)
class _Column:
    """A column as found: its Arrow type by content, and whether it may never be marked."""

    name: str
    kind: pa.DataType
    mixed: bool
    fixed: bool


class SqliteSource:
    """One table of an SQLite 3 file.

    Rows come in rowid order, of WITHOUT ROWID tables in order of the primary key. SQLite types
    cells, not columns, so columns are typed by what they hold: integers int64; integers and
    reals float64 where no integer exceeds 2^53; text large_string; blobs large_binary. Anything
    else is mixed and shown as text. All null gives large_string.

    `nested_columns` are those never to be marked: blobs, mixed and generated columns, the
    primary key, and a column that alone is UNIQUE.

    A file with a write-ahead log (``-wal``) beside it is first copied, log included, to a
    private temporary file, which is read from then on; the digest is that of this copy.

    Parameters
    ----------
    path : Path
        The database file.
    format : str
        "sqlite".
    name : str
        Short display name.
    table : str, optional
        Table wanted; a database with one table needs none.

    Attributes
    ----------
    table_name : str
        The table read.
    key : list of str
        What finds a row again, as SQL: the rowid, or the primary key of a WITHOUT ROWID table.
    generated : tuple of str
        Generated columns.

    Raises
    ------
    UsageError
        No, or several tables and none named; a view or virtual table; a locked file.
    DecodeError
        A damaged or encrypted file, a table without rows, a cell or row above 64 MiB.
    """

    def __init__(self, path: Path, format: str, name: str, table: str | None = None) -> None:  # noqa: A002 - the word of the protocol
        self.path: Path | None = path
        self.name, self.format = name, format
        self._where = str(path)
        self._file = path
        self._immutable = False
        with self.decoding():
            self._settle()
            self._stamp = _stamp(self._file)
            with self.open() as con:
                self.table_name = _choose(con, table, self._where)
                self._where = f"{path}::{self.table_name}"
                names, hidden, key, self.generated = _layout(con, self.table_name, self._where)
                self.key = [quoted(column) for column in key]
                self._rows, self._columns, self._width = _typed(con, self.table_name, names, hidden)
            self._check_unchanged()
        if not self._rows:
            raise DecodeError("no rows", where=self._where)
        self.column_names: tuple[str, ...] = tuple(column.name for column in self._columns)
        self.nested_columns: tuple[str, ...] = tuple(c.name for c in self._columns if c.fixed)

    def _settle(self) -> None:
        """Decide how the file can be read without leaving anything beside it.

        A file in WAL mode makes SQLite create ``-wal`` and ``-shm``, even to read. Without a
        ``-wal`` nobody has such a file open, so ``immutable=1`` (no locks, no such files) is
        safe; with one it would hide the committed rows in the log: they are copied out first.
        """
        with self._file.open("rb") as file:
            uses_log = 2 in file.read(100)[WAL_VERSIONS]
        if not Path(f"{self._file}-wal").exists():
            self._immutable = uses_log
            return
        handle, spool = tempfile.mkstemp(prefix="dataguard-", suffix=".sqlite")
        os.close(handle)
        self._gone = weakref.finalize(self, Path(spool).unlink, missing_ok=True)
        with self.open() as con, contextlib.closing(sqlite3.connect(spool)) as copy:
            con.backup(copy)
        self._file, self._immutable = Path(spool), True

    @contextlib.contextmanager
    def open(self) -> Iterator[sqlite3.Connection]:
        """Open the file read-only, with everything switched off that its schema could make run."""
        mode = "?mode=ro&immutable=1" if self._immutable else "?mode=ro"
        con = sqlite3.connect(
            self._file.resolve().as_uri() + mode,
            timeout=_PATIENCE,
            uri=True,
            isolation_level=None,
            check_same_thread=False,
        )
        with contextlib.closing(con):
            harden(con)
            con.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
            con.execute("PRAGMA query_only=ON")
            yield con

    @contextlib.contextmanager
    def decoding(self) -> Iterator[None]:
        """Turn what SQLite says about this file into one line."""
        try:
            yield
        except sqlite3.Error as error:
            raise _explained(error, self._where) from error
        except OSError as error:
            if error.errno == errno.ENOSPC:
                remedy = "set TMPDIR to a larger disk"
                raise UsageError("no space for a temporary copy", where=self._where, remedy=remedy) from error
            raise UsageError(f"cannot be read ({error.strerror})", where=self._where) from error
        except (UnicodeError, OverflowError) as error:
            raise DecodeError("damaged SQLite file (a name is not text)", where=self._where) from error

    def _check_unchanged(self) -> None:
        if _stamp(self._file) != self._stamp:
            raise DecodeError(
                "has changed since it was opened",
                where=self._where,
                remedy="close the program that writes it",
            )

    def cells(self, columns: Sequence[str], *, with_key: bool = False) -> Iterator[list[tuple[Any, ...]]]:
        """Stream rows as Python values, a few at a time; the key first where `with_key`.

        Raises
        ------
        DecodeError
            Damaged file, text that is not UTF-8 (with the row), a file that changed meanwhile.
        """
        chosen = [*self.key, *map(quoted, columns)] if with_key else [quoted(c) for c in columns]
        step = max(1, min(1024, _BATCH_BYTES // max(1, self._width)))
        with self.decoding(), self.open() as con:
            self._check_unchanged()
            cursor = con.execute(self._select(", ".join(chosen)))
            try:
                while rows := cursor.fetchmany(step):
                    yield rows
            except sqlite3.OperationalError as error:
                if "decode to UTF-8" in str(error):  # its text quotes the cell
                    self._name_bad_text(con, columns)
                raise
            self._check_unchanged()

    def _select(self, what: str) -> str:
        return f"SELECT {what} FROM {quoted(self.table_name)} ORDER BY {', '.join(self.key)}"  # noqa: S608

    def _name_bad_text(self, con: sqlite3.Connection, columns: Sequence[str]) -> None:
        """Find the first cell whose text is not UTF-8, and say where it is."""
        con.text_factory = bytes
        texts = [f"iif(typeof({c}) = 'text', {c}, NULL)" for c in map(quoted, columns)]
        for row, cells in enumerate(con.execute(self._select(", ".join(texts))), 1):
            for column, cell in zip(columns, cells, strict=True):
                try:
                    (cell or b"").decode()
                except UnicodeDecodeError:
                    raise DecodeError(
                        f"row {row}, column {column!r} is not UTF-8",
                        where=self._where,
                        remedy="store such bytes as a blob",
                    ) from None

    def batches(self, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
        """Stream record batches of at most 65,536 rows and about 64 MiB.

        Parameters
        ----------
        columns : sequence of str, optional
            Columns wanted, in this order; all by default.

        Raises
        ------
        UsageError
            Unknown column.
        DecodeError
            See `cells`.
        """
        by_name = {column.name: column for column in self._columns}
        wanted = [by_name[column] for column in selected(by_name, columns, self._where)]
        schema = pa.schema([(column.name, column.kind) for column in wanted])
        held: list[pa.RecordBatch] = []
        for rows in self.cells([column.name for column in wanted]):
            held.append(self._arrow(rows, wanted, schema))
            full = sum(batch.num_rows for batch in held) + len(rows) > _BATCH
            if full or sum(batch.nbytes for batch in held) >= _BATCH_BYTES:
                yield _joined(held)
                held = []
        if held:
            yield _joined(held)

    def _arrow(
        self, rows: list[tuple[Any, ...]], columns: list[_Column], schema: pa.Schema
    ) -> pa.RecordBatch:
        cells = list(zip(*rows, strict=True))
        try:
            arrays = [
                pa.array(map(_shown, values) if column.mixed else values, column.kind)
                for column, values in zip(columns, cells, strict=True)
            ]
        except (pa.ArrowException, OverflowError) as error:
            raise DecodeError("has changed while it was read", where=self._where) from error
        return pa.record_batch(arrays, schema=schema)

    def table(self, columns: Sequence[str] | None = None) -> pa.Table:
        """Collect `batches`."""
        return pa.Table.from_batches(list(self.batches(columns)))

    def rows(self) -> int:
        """Return the number of rows, counted on opening."""
        return self._rows

    def sha256(self) -> str:
        """Digest of the file's bytes, hex; with a write-ahead log, of the copy that includes it."""
        with self.decoding(), self._file.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        self._check_unchanged()
        return digest

    def copy_to(self, out: IO[bytes]) -> None:
        """Copy the whole database, the rows of a write-ahead log included; `sha256` is its digest."""
        with contextlib.ExitStack() as stack:
            with self.decoding():
                self._check_unchanged()
                file = stack.enter_context(self._file.open("rb"))
            shutil.copyfileobj(file, out, 1 << 20)  # what goes wrong with `out` concerns its owner
        self._check_unchanged()


def _stamp(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns


def _shown(cell: object) -> str | None:
    """Text of a cell of a mixed column: numbers as Python prints them, blobs as SQL writes them."""
    if cell is None or isinstance(cell, str):
        return cell
    return f"X'{cell.hex().upper()}'" if isinstance(cell, bytes) else repr(cell)


def _joined(batches: list[pa.RecordBatch]) -> pa.RecordBatch:
    return pa.Table.from_batches(batches).combine_chunks().to_batches()[0]


def harden(con: sqlite3.Connection) -> None:
    """Bound cells, and forbid what a hostile schema could make a connection do."""
    con.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _MAX_CELL)
    con.setlimit(sqlite3.SQLITE_LIMIT_TRIGGER_DEPTH, 1)
    for pragma in ("trusted_schema=OFF", "cell_size_check=ON", "mmap_size=0", "foreign_keys=OFF"):
        con.execute(f"PRAGMA {pragma}")


def _explained(error: sqlite3.Error, where: str) -> DataguardError:
    """One line for an SQLite error, by its result code."""
    code = getattr(error, "sqlite_errorcode", 0)
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    if code & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return UsageError("is locked by another program", where=where, remedy="close it and try again")
    if code & 0xFF in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY):
        remedy = "copy it, with -wal or -journal beside it, to a folder you may write, and open it there once"
        return UsageError(f"cannot be opened without changing it ({reason})", where=where, remedy=remedy)
    if code & 0xFF == sqlite3.SQLITE_FULL:
        return UsageError("no space for a temporary copy", where=where, remedy="set TMPDIR to a larger disk")
    if code & 0xFF == sqlite3.SQLITE_TOOBIG:
        return DecodeError("holds a row above 64 MiB", where=where, remedy="leave such cells out")
    if code & 0xFF == sqlite3.SQLITE_NOTADB:
        return DecodeError("is damaged, encrypted or no SQLite file", where=where, remedy="fetch it again")
    return DecodeError(f"damaged or unusual SQLite file ({reason})", where=where, remedy="fetch it again")


def _choose(con: sqlite3.Connection, table: str | None, where: str) -> str:
    """Name of the table to read, as the schema spells it.

    The catalogue is read directly: ``PRAGMA table_list`` would start every virtual table.
    """
    found = con.execute(
        "SELECT name, type, coalesce(rootpage, 0) FROM sqlite_master WHERE type IN ('table', 'view')"
    ).fetchall()
    virtual = [name for name, kind, page in found if kind == "table" and not page]
    plain = [name for name, kind, page in found if kind == "table" and page]
    users = [
        name
        for name in plain
        if not name.lower().startswith("sqlite_") and not name.startswith(tuple(f"{v}_" for v in virtual))
    ]
    if table is not None:
        same = [row for row in found if row[0] == table] or [
            row for row in found if row[0].lower() == table.lower()
        ]
        if same and same[0][0] in plain:
            return str(same[0][0])
        if same:
            kind = "view" if same[0][1] == "view" else "virtual table"
            raise UsageError(f"{table!r} is a {kind}", where=where, remedy="copy its rows to a table first")
    if table is None and len(users) == 1:
        return str(users[0])
    raise undecided(users, table, where)


def _layout(
    con: sqlite3.Connection, table: str, where: str
) -> tuple[list[str], set[str], list[str], tuple[str, ...]]:
    """Columns; those never to be marked for what they are; the key of a row; generated columns."""
    info = con.execute("SELECT name, pk, hidden FROM pragma_table_xinfo(?)", (table,)).fetchall()
    names = [row[0] for row in info]
    key = [row[0] for row in sorted((row for row in info if row[1]), key=lambda row: row[1])]
    generated = tuple(row[0] for row in info if row[2])
    fixed = {*key, *generated}
    for index, unique in con.execute('SELECT name, "unique" FROM pragma_index_list(?)', (table,)).fetchall():
        members = [r[0] for r in con.execute("SELECT name FROM pragma_index_info(?)", (index,)).fetchall()]
        if unique and len(members) == 1 and members[0] is not None:
            fixed.add(members[0])
    # Without an index of that name, this pragma lists the key of a WITHOUT ROWID table, else nothing.
    if con.execute("SELECT 1 FROM pragma_index_info(?)", (table,)).fetchone():
        return names, fixed, key, generated
    free = [name for name in _ROWID_NAMES if name not in {column.lower() for column in names}]
    if not free:
        raise UsageError("columns hide the row number", where=where, remedy="rename rowid, _rowid_ or oid")
    return names, fixed, [free[0]], generated


def _typed(
    con: sqlite3.Connection, table: str, names: list[str], fixed: set[str]
) -> tuple[int, list[_Column], int]:
    """Count of rows, typed columns, and width in bytes of the widest cells together."""
    columns: list[_Column] = []
    rows = width = 0
    for first in range(0, len(names), _COLUMNS_A_PASS):
        part = names[first : first + _COLUMNS_A_PASS]
        seen = [
            f"group_concat(DISTINCT typeof({c})), max(length(CAST({c} AS BLOB)))" for c in map(quoted, part)
        ]
        rows, *found = con.execute(f"SELECT count(*), {', '.join(seen)} FROM {quoted(table)}").fetchone()  # noqa: S608
        for name, classes, widest in zip(part, found[::2], found[1::2], strict=True):
            width += 64 + (widest or 0)
            kinds = set((classes or "null").split(",")) - {"null"}
            if kinds == {"integer", "real"} and _beyond_floats(con, table, name):
                kinds.add("text")
            mixed = len(kinds) > 1 and kinds != {"integer", "real"}
            kind = pa.large_string() if mixed or not kinds else _ARROW_TYPES[max(kinds)]
            columns.append(_Column(name, kind, mixed, mixed or kinds == {"blob"} or name in fixed))
    return rows, columns, width


def _beyond_floats(con: sqlite3.Connection, table: str, column: str) -> bool:
    """Whether a column holds an integer that float64 might round."""
    c = quoted(column)
    where = f"typeof({c}) = 'integer' AND {c} NOT BETWEEN -{_EXACT} AND {_EXACT}"
    return con.execute(f"SELECT 1 FROM {quoted(table)} WHERE {where} LIMIT 1").fetchone() is not None  # noqa: S608
