"""A table of a PostgreSQL server, taken down once as text and then read like any CSV file.

The server is asked once, in one snapshot: what is marked, fingerprinted and hashed afterwards is
the same set of rows, whatever happens in the database meanwhile. Outputs are files; nothing is
ever written to the server.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import pyarrow as pa

from dataguard.errors import DataguardError, DecodeError, UsageError
from dataguard.formats.csv import CsvSource
from dataguard.formats.postgres_link import Address, link, masked, parse_postgres_url, speaking
from dataguard.formats.selection import selected
from dataguard.formats.sql import quoted, undecided

__all__ = ["PostgresSource"]

_CANONICAL = {
    "client_encoding": "UTF8",
    "datestyle": "ISO, YMD",
    "intervalstyle": "postgres",
    "timezone": "UTC",
    "extra_float_digits": "3",
    "bytea_output": "hex",
    "xmlbinary": "base64",
    "lc_monetary": "C",
    "search_path": "pg_catalog",
    "row_security": "off",
    "synchronize_seqscans": "off",
    "statement_timeout": "0",
}
"""Settings that make one table one text. `row_security` off: a policy that would hide rows is an error."""
_MARKABLE = "NSBDTEI"
"""Categories (pg_type.typcategory): numeric, string, Boolean, date/time, interval, enum, network."""


@dataclass(frozen=True, slots=True)
class _Column:
    """A column: name, whether its text can be sorted by bytes, whether it may never be marked."""

    name: str
    collates: bool
    fixed: bool


class PostgresSource:
    """One table of a PostgreSQL database, as text.

    The rows are copied by ``COPY ... TO STDOUT`` in a REPEATABLE READ, READ ONLY transaction into
    a private temporary file (mode 0600, deleted with this object or at exit), in order of the
    primary key (text by bytes), else as they lie in the table. Every column is large_string, as
    PostgreSQL prints it with ISO dates, UTC and shortest exact floats; NULL and ``''`` differ.

    `nested_columns` are those never to be marked: json, arrays, bytea, composite, range,
    geometric and other special types. `path` is None. `sha256` is the digest of the column names
    and the canonical text.

    There is no writer: outputs are files.

    Parameters
    ----------
    url : str
        See `parse_postgres_url`.
    table : str or None
        Table wanted, ``schema.table`` or ``table``; a database with one table needs none.
        Tables, partitioned tables and materialized views.
    name : str
        Short display name; a password in it is masked.

    Raises
    ------
    UsageError
        No package pg8000; no server, login, database, table or permission; a view; several
        tables and none named; no space for the copy.
    DecodeError
        A table without rows or columns; a server that breaks off.
    """

    format = "postgres"
    path: Path | None = None

    def __init__(self, url: str, table: str | None, name: str) -> None:
        address = parse_postgres_url(url)
        self.name = masked(name)
        self._where = address.shown
        handle, spool = tempfile.mkstemp(prefix="dataguard-", suffix=".tsv")
        self._spool = Path(spool)
        self._gone = weakref.finalize(self, self._spool.unlink, missing_ok=True)
        with os.fdopen(handle, "wb") as file, link(address) as con, speaking(address):
            _prepare(con)
            schema, self.table_name = _choose(con, table, address)
            self._where = f"{address.shown}::{schema}.{self.table_name}"
            columns, key = _layout(con, schema, self.table_name)
            if not columns:
                raise DecodeError("no columns", where=self._where)
            con.run(_copy(schema, self.table_name, columns, key), stream=_Spool(file, self._where))
        with self._elsewhere():
            self._text = CsvSource(self._spool, "tsv", self.name, header=True, encoding="utf-8")
        self.column_names: tuple[str, ...] = tuple(column.name for column in columns)
        self.nested_columns: tuple[str, ...] = tuple(column.name for column in columns if column.fixed)
        aliases = [_alias(position) for position in range(len(columns))]
        self._alias_of = dict(zip(self.column_names, aliases, strict=True))
        if list(self._text.column_names) != aliases:
            raise DecodeError("the rows do not read back as text", where=self._where)

    @contextlib.contextmanager
    def _elsewhere(self) -> Iterator[None]:
        """Let errors about the temporary file speak of the table."""
        try:
            yield
        except DataguardError as error:
            raise type(error)(error.what, where=self._where, remedy=error.remedy) from None

    def batches(self, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
        """Stream record batches of large_string columns, about 4 MiB of text each.

        Parameters
        ----------
        columns : sequence of str, optional
            Columns wanted, in this order; all by default.

        Raises
        ------
        UsageError
            Unknown column.
        """
        wanted = selected(self.column_names, columns, self._where)
        with self._elsewhere():
            for batch in self._text.batches([self._alias_of[column] for column in wanted]):
                yield batch.rename_columns(wanted)

    def table(self, columns: Sequence[str] | None = None) -> pa.Table:
        """Collect `batches`."""
        return pa.Table.from_batches(list(self.batches(columns)))

    def rows(self) -> int:
        """Return the number of rows."""
        with self._elsewhere():
            return self._text.rows()

    def sha256(self) -> str:
        """Digest, hex, of the column names as a JSON list, a newline, and the canonical text."""
        digest = hashlib.sha256(json.dumps(self.column_names).encode() + b"\n")
        with self._spool.open("rb") as file:
            while part := file.read(1 << 20):
                digest.update(part)
        return digest.hexdigest()


class _Spool:
    """A file that says in one line when the disk is full."""

    def __init__(self, file: IO[bytes], where: str) -> None:
        self.file, self.where = file, where

    def write(self, data: bytes | bytearray) -> int:
        try:
            return self.file.write(data)
        except OSError as error:
            raise UsageError(
                f"the temporary copy cannot be written ({error.strerror})",
                where=self.where,
                remedy="set TMPDIR to a larger disk",
            ) from error


def _prepare(con: Any) -> None:
    """Begin one snapshot, with settings under which values have one spelling."""
    con.run("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY")
    con.run("SET LOCAL search_path = pg_catalog")
    for name, value in _CANONICAL.items():
        con.run("SELECT pg_catalog.set_config(:name, :value, true)", name=name, value=value)


def _choose(con: Any, table: str | None, address: Address) -> tuple[str, str]:
    """Return schema and name of the table to read, as the catalogue spells them."""
    if table is not None and "\0" in table:
        raise UsageError("the table's name holds a NUL byte", where=address.shown)
    found = con.run(
        "SELECT n.nspname, c.relname, c.relkind::text, c.relispartition FROM pg_class c"
        " JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind IN ('r', 'p', 'm', 'v', 'f')"
        " AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_' ORDER BY 1, 2"
    )
    readable = [(schema, name) for schema, name, kind, _ in found if kind in "rpm"]
    shown = [f"{row[0]}.{row[1]}" for row in found if row[2] in "rpm" and not row[3]]
    where = address.shown
    if table is None:
        if len(shown) == 1:
            return next(pair for pair in readable if f"{pair[0]}.{pair[1]}" == shown[0])
        raise undecided(shown, None, where)
    same = [pair for pair in readable if table in (pair[1], f"{pair[0]}.{pair[1]}")]
    if len(same) > 1:  # as the server itself would understand a bare name
        same = [pair for pair in same if pair[0] == "public"] or same
    if len(same) == 1:
        return same[0]
    if same:
        listed = ", ".join(f"{schema}.{name}" for schema, name in same)
        raise UsageError(f"{table!r} is in several schemas", where=where, remedy=f"name one of {listed}")
    if any(table in (name, f"{schema}.{name}") for schema, name, *_ in found):
        remedy = "make it a table or a materialized view"
        raise UsageError(f"{table!r} is a view or a foreign table", where=where, remedy=remedy)
    raise undecided(shown, table, where)


def _layout(con: Any, schema: str, table: str) -> tuple[list[_Column], list[str]]:
    """Columns in order, and the columns of the primary key in its order.

    A domain counts as the type below it, however many domains deep.
    """
    found = con.run(
        "WITH RECURSIVE base(att, oid, below) AS ("
        " SELECT a.attnum, t.oid, t.typbasetype FROM pg_attribute a"
        " JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace"
        " JOIN pg_type t ON t.oid = a.atttypid"
        " WHERE n.nspname = :schema AND c.relname = :table AND a.attnum > 0 AND NOT a.attisdropped"
        " UNION ALL SELECT att, t.oid, t.typbasetype FROM base JOIN pg_type t ON t.oid = base.below)"
        " SELECT a.attname, a.attcollation <> 0, t.typcategory::text, t.typname,"
        " coalesce(array_position(i.indkey::int2[], a.attnum), -1)"
        " FROM base b JOIN pg_type t ON t.oid = b.oid"
        " JOIN pg_class c ON c.relname = :table"
        " JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname = :schema"
        " JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = b.att"
        " LEFT JOIN pg_index i ON i.indrelid = c.oid AND i.indisprimary"
        " WHERE b.below = 0 ORDER BY a.attnum",
        schema=schema,
        table=table,
    )
    columns = [
        _Column(name, collates, category not in _MARKABLE and kind != "uuid")
        for name, collates, category, kind, _ in found
    ]
    key = sorted((row for row in found if row[4] >= 0), key=lambda row: row[4])
    return columns, [row[0] for row in key]


def _alias(position: int) -> str:
    """Name of a column in the temporary file: none of the user's, which may look like anything."""
    return f"c{position}"


def _copy(schema: str, table: str, columns: list[_Column], key: list[str]) -> str:
    """Return the COPY statement; names occur in it as quoted identifiers only."""
    collates = {column.name for column in columns if column.collates}
    by_bytes = [f"t.{quoted(name)}" + (' COLLATE "C"' if name in collates else "") for name in key]
    order = ", ".join(by_bytes or ["t.tableoid", "t.ctid"])
    chosen = ", ".join(f"t.{quoted(column.name)} AS {_alias(i)}" for i, column in enumerate(columns))
    # The reader must not have to guess the separator: tabs always stand in the header, except that
    # of a single column, where quotes leave nothing to guess.
    quotes = ", FORCE_QUOTE *" if len(columns) == 1 else ""
    return (
        f"COPY (SELECT {chosen} FROM {quoted(schema)}.{quoted(table)} AS t ORDER BY {order})"  # noqa: S608
        f" TO STDOUT WITH (FORMAT csv, HEADER, DELIMITER E'\\t'{quotes})"
    )
