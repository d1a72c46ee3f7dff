"""A copy of an SQLite file with cells of one table exchanged, and nothing that shows which.

An edited database file remembers: rewritten cells lie elsewhere on their page, and free space
keeps what stood there. The copy that leaves the house is therefore written afresh.
"""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from dataguard.errors import DecodeError, UsageError
from dataguard.formats.edits import Moves, merge_moves
from dataguard.formats.sql import quoted
from dataguard.formats.sqlite_file import WAL_VERSIONS, SqliteSource, harden

__all__ = ["write_sqlite"]

Merged = dict[str, tuple[NDArray[np.int64], NDArray[np.int64]]]


def write_sqlite(source: SqliteSource, moves: Sequence[Moves], out: IO[bytes]) -> tuple[int, tuple[str, ...]]:
    """Write the database again with cells of its table exchanged as stored.

    The edit is done on a private copy, whose content is then written into a fresh file
    (``VACUUM INTO``): cells that were updated in place lie elsewhere on their page than their
    neighbours, and pages keep remains of what stood there, so a plain edited copy would show
    its reader which cells carry the mark. Tables, rowids, indexes, views, triggers, page size
    and version numbers stay; free pages and deleted rows do not travel. Without moves the file
    is copied byte for byte.

    Parameters
    ----------
    source : SqliteSource
        The original.
    moves : sequence of Moves
        Not on `nested_columns`.
    out : IO[bytes]
        Receives the file.

    Returns
    -------
    (int, tuple of str)
        Cells that took another cell's content; traits that could not be kept: triggers not
        run, generated columns computed anew.

    Raises
    ------
    UsageError
        Moves outside the table or on columns never to be marked, an exchange that a UNIQUE or
        CHECK constraint forbids.
    DecodeError
        Damaged file; `PRAGMA quick_check` of the copy or `integrity_check` of the result fails.
    """
    merged = merge_moves(moves, source.column_names, source.rows())
    for column in merged:
        if column in source.nested_columns:
            remedy = "leave keys, blobs, mixed and generated columns out of the moves"
            raise UsageError(f"column {column!r} is never changed", where=source.table_name, remedy=remedy)
    if not merged:
        source.copy_to(out)
        return 0, ()
    with tempfile.TemporaryDirectory(prefix="dataguard-") as folder:
        copy, fresh = Path(folder, "copy.sqlite"), Path(folder, "fresh.sqlite")
        with source.decoding():
            with copy.open("wb") as file:
                source.copy_to(file)
            versions = _set_versions(copy, b"\x01\x01")  # no log beside the files worked on
            lost = _exchange(source, merged, copy, fresh)
            _set_versions(fresh, versions)
        with fresh.open("rb") as file:
            shutil.copyfileobj(file, out, 1 << 20)
    return sum(rows.size for rows, _ in merged.values()), lost


def _set_versions(path: Path, new: bytes) -> bytes:
    """Replace the two header bytes that choose between rollback journal and write-ahead log."""
    with path.open("r+b") as file:
        file.seek(WAL_VERSIONS.start)
        old = file.read(2)
        file.seek(WAL_VERSIONS.start)
        file.write(new)
    return old


def _exchange(source: SqliteSource, merged: Merged, copy: Path, fresh: Path) -> tuple[str, ...]:
    """Edit `copy`, write its content to `fresh`, check that, and say what the edit could not keep."""
    table = source.table_name
    picked = _picked(source, merged)
    keys = len(next(iter(picked.values()))) - len(merged)
    with contextlib.closing(sqlite3.connect(copy, isolation_level=None)) as con:
        harden(con)
        con.execute("PRAGMA journal_mode=OFF")  # a failure discards the copy
        _check(con, "quick_check", source)
        con.execute("BEGIN IMMEDIATE")
        triggers = con.execute(
            "SELECT name, sql FROM sqlite_master WHERE type = 'trigger' AND lower(tbl_name) = lower(?)",
            (table,),
        ).fetchall()
        for name, _ in triggers:  # Python cannot switch triggers off before 3.12
            con.execute(f"DROP TRIGGER {quoted(name)}")
        match = " AND ".join(f"{key} = ?" for key in source.key)
        for position, (column, (rows, from_rows)) in enumerate(merged.items(), keys):
            update = f"UPDATE {quoted(table)} SET {quoted(column)} = ? WHERE {match}"  # noqa: S608
            pairs = zip(rows.tolist(), from_rows.tolist(), strict=True)
            cells = ((picked[origin][position], *picked[row][:keys]) for row, origin in pairs)
            try:
                done = con.executemany(update, cells).rowcount
            except sqlite3.IntegrityError as error:
                raise UsageError(
                    f"a constraint forbids exchanging cells of column {column!r} ({error})",
                    where=table,
                    remedy="leave it out with --protect-columns, or write a .parquet file",
                ) from error
            if done != rows.size:
                raise DecodeError("a row was not found again by its key", where=table)
        for _, sql in triggers:
            con.execute(sql)
        con.execute("COMMIT")
        con.execute("VACUUM INTO ?", (str(fresh),))
    with contextlib.closing(sqlite3.connect(fresh, isolation_level=None)) as con:
        harden(con)
        _check(con, "integrity_check", source)
    names = ", ".join(repr(name) for name, _ in triggers)
    lost = [f"triggers of the table did not run ({names})"] if triggers else []
    if source.generated:
        lost.append(f"generated columns were computed anew ({', '.join(map(repr, source.generated))})")
    return tuple(lost)


def _picked(source: SqliteSource, merged: Merged) -> dict[int, tuple[Any, ...]]:
    """Key and stored values of every row that takes part: row number -> (key..., cells...)."""
    wanted = np.unique(np.concatenate([part for pair in merged.values() for part in pair]))
    picked: dict[int, tuple[Any, ...]] = {}
    first = 0
    for rows in source.cells(list(merged), with_key=True):
        begin, end = np.searchsorted(wanted, [first, first + len(rows)])
        picked.update((row, rows[row - first]) for row in wanted[begin:end].tolist())
        first += len(rows)
    return picked


def _check(con: sqlite3.Connection, pragma: str, source: SqliteSource) -> None:
    found = str(con.execute(f"PRAGMA {pragma}(1)").fetchone()[0])
    if found != "ok":
        reason = found.splitlines()[-1]
        raise DecodeError(
            f"{pragma} of the database says {reason!r}",
            where=source.table_name,
            remedy="repair it with the .recover command of sqlite3, or write a .parquet file",
        )
