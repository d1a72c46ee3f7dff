"""A copy of a DuckDB file with cells of one table exchanged, and nothing that shows which.

DuckDB writes changed column segments to new blocks and leaves the old ones in the file, to be
compared by whoever looks: the copy that leaves the house is therefore written afresh.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dataguard.errors import UsageError
from dataguard.formats.duckdb_file import DuckdbSource, as_text, load_duckdb, shut_in
from dataguard.formats.edits import Moves, merge_moves
from dataguard.formats.sql import quoted

__all__ = ["write_duckdb"]

Merged = dict[str, tuple[NDArray[np.int64], NDArray[np.int64]]]

_MEMORY = "2GB"
_REMEDY = "write a .parquet file instead"


def write_duckdb(source: DuckdbSource, moves: Sequence[Moves], out: IO[bytes]) -> tuple[int, tuple[str, ...]]:
    """Write the database again with cells of its table exchanged as stored.

    A private copy is edited by rowid; ``COPY FROM DATABASE`` writes its content to a fresh file
    of the same storage version, which is compared with the original, row by row for this table
    and by content hash for all others. Indexes on the table are dropped for the edit and made
    again, because DuckDB moves a row to the end when an indexed column of it changes. Gaps that
    deleted rows left in the rowids close. Without moves the file is copied byte for byte.

    Parameters
    ----------
    source : DuckdbSource
        The original.
    moves : sequence of Moves
        Not on `nested_columns`.
    out : IO[bytes]
        Receives the file.

    Returns
    -------
    (int, tuple of str)
        Cells that took another cell's content; traits that could not be kept: generated columns
        computed anew, catalogue entries that read differently.

    Raises
    ------
    UsageError
        Moves outside the table or on columns never to be marked, an exchange that a constraint
        forbids, a database that this DuckDB cannot write again without loss.
    DecodeError
        Damaged file.
    """
    merged = merge_moves(moves, source.column_names, source.rows())
    for column in merged:
        if column in source.nested_columns:
            remedy = "leave keys, blobs, nested and generated columns out of the moves"
            raise UsageError(f"column {column!r} is never changed", where=source.table_name, remedy=remedy)
    path = source.path
    assert path is not None
    if not merged:
        with path.open("rb") as file:
            shutil.copyfileobj(file, out, 1 << 20)
        return 0, ()
    with tempfile.TemporaryDirectory(prefix="dataguard-") as folder:
        files = [Path(folder, f"{name}.duckdb").resolve() for name in ("stage", "origin", "fresh")]
        with source.decoding():
            shutil.copyfile(path, files[0])
            shutil.copyfile(path, files[1])  # the source itself may be open for reading
            with contextlib.closing(shut_in(files, _MEMORY, Path(folder, "spill"))) as con:
                _attach(con, *files)
                _plan(con, source, merged)
                _exchange(con, source, list(merged))
                con.execute("COPY FROM DATABASE stage TO fresh")
                con.execute("CHECKPOINT fresh")
                _compare(con, source, list(merged))
                lost = _lost(con, source)
        with files[2].open("rb") as file:
            shutil.copyfileobj(file, out, 1 << 20)
    return sum(rows.size for rows, _ in merged.values()), lost


def _attach(con: Any, stage: Path, origin: Path, fresh: Path) -> None:
    """Attach the copy to edit, the original, and the file to be, in the original's storage version."""
    con.execute(f"ATTACH {as_text(stage)} AS stage (TYPE duckdb)")
    con.execute(f"ATTACH {as_text(origin)} AS origin (TYPE duckdb, READ_ONLY)")
    tags = con.execute("SELECT tags FROM duckdb_databases() WHERE database_name = 'origin'").fetchall()
    version = dict(tags[0][0] or {}).get("storage_version", "").rstrip("+")
    kept = f", STORAGE_VERSION {as_text(version)}" if version else ""
    con.execute(f"ATTACH {as_text(fresh)} AS fresh (TYPE duckdb{kept})")


def _named(database: str, source: DuckdbSource) -> str:
    return f"{database}.{quoted(source.schema_name)}.{quoted(source.table_name)}"


def _plan(con: Any, source: DuckdbSource, merged: Merged) -> None:
    """Make, per moved column k, the temporary table moved_k (target rowid, value to go there)."""
    relation = con.sql(f"SELECT rowid FROM {_named('origin', source)}")  # noqa: S608
    read = getattr(relation, "to_arrow_table", None) or relation.fetch_arrow_table
    rowids = read().column(0).to_numpy()
    for number, (column, (rows, from_rows)) in enumerate(merged.items()):
        pairs = pa.table({"target": rowids[rows], "origin": rowids[from_rows]})
        con.register("pairs", pairs)
        con.execute(
            f"CREATE TEMP TABLE moved_{number} AS SELECT p.target, t.{quoted(column)} AS value"  # noqa: S608
            f" FROM pairs p JOIN {_named('origin', source)} t ON t.rowid = p.origin"
        )
        con.unregister("pairs")


def _exchange(con: Any, source: DuckdbSource, columns: list[str]) -> None:
    """Edit the staged copy, with the indexes of the table out of the way."""
    duckdb = load_duckdb()
    indexes = con.execute(
        "SELECT index_name, sql FROM duckdb_indexes() WHERE database_name = 'stage' AND schema_name = ?"
        " AND table_name = ? AND sql IS NOT NULL",
        [source.schema_name, source.table_name],
    ).fetchall()
    con.execute("USE stage")
    for name, _ in indexes:
        con.execute(f"DROP INDEX stage.{quoted(source.schema_name)}.{quoted(name)}")
    for number, column in enumerate(columns):
        try:
            con.execute(
                f"UPDATE {_named('stage', source)} AS t SET {quoted(column)} = m.value"  # noqa: S608
                f" FROM temp.moved_{number} m WHERE t.rowid = m.target"
            )
        except duckdb.ConstraintException as error:
            raise UsageError(
                f"a constraint forbids exchanging cells of column {column!r}",
                where=source.table_name,
                remedy="leave it out with --protect-columns, or write a .parquet file",
            ) from error
    for _, sql in indexes:
        try:
            con.execute(sql)
        except duckdb.ConstraintException as error:
            raise UsageError(
                "a UNIQUE index forbids this exchange", where=source.table_name, remedy=_REMEDY
            ) from error
    con.execute("CHECKPOINT stage")


def _compare(con: Any, source: DuckdbSource, moved: list[str]) -> None:
    """Check that the fresh file holds the original's rows in order, with the planned cells moved."""
    names = [name for name in source.column_names if name not in source.generated]
    select = ", ".join(f"o.{quoted(n)} AS o{i}, f.{quoted(n)} AS f{i}" for i, n in enumerate(names))
    joins, wrong = "", []
    for i, name in enumerate(names):
        expected = f"o{i}"
        if name in moved:
            m = f"m{moved.index(name)}"
            joins += f" LEFT JOIN temp.moved_{moved.index(name)} {m} ON {m}.target = p.id"
            expected = f"CASE WHEN {m}.target IS NULL THEN o{i} ELSE {m}.value END"
        wrong.append(f"f{i} IS DISTINCT FROM {expected}")
    count = con.execute(
        f"SELECT count(*), count(*) FILTER ({' OR '.join(wrong)} OR p.id IS NULL)"  # noqa: S608
        f" FROM (SELECT o.rowid AS id, {select} FROM {_named('origin', source)} o"
        f" POSITIONAL JOIN {_named('fresh', source)} f) p{joins}"
    ).fetchall()[0]
    if count != (source.rows(), 0):
        raise UsageError(
            f"DuckDB did not keep {count[1]} rows in place", where=source.table_name, remedy=_REMEDY
        )
    content = "SELECT schema_name, table_name FROM duckdb_tables() WHERE database_name = 'origin'"
    for schema, table in con.execute(content).fetchall():
        if (schema, table) != (source.schema_name, source.table_name):
            where = f"{quoted(schema)}.{quoted(table)}"
            sums = [
                con.execute(f"SELECT count(*), bit_xor(hash(t)) FROM {side}.{where} t").fetchall()  # noqa: S608
                for side in ("origin", "fresh")
            ]
            if sums[0] != sums[1]:
                raise UsageError("DuckDB did not copy another table", where=table, remedy=_REMEDY)


def _lost(con: Any, source: DuckdbSource) -> tuple[str, ...]:
    """Catalogue entries whose text differs between the original and the fresh file."""
    lost = []
    if source.generated:
        lost.append(f"generated columns were computed anew ({', '.join(map(repr, source.generated))})")
    for kind in ("table", "view", "index"):
        plural = "duckdb_indexes" if kind == "index" else f"duckdb_{kind}s"
        entries = [
            set(
                con.execute(
                    f"SELECT schema_name, {kind}_name, sql, comment FROM {plural}() WHERE database_name = ?",  # noqa: S608
                    [side],
                ).fetchall()
            )
            for side in ("origin", "fresh")
        ]
        lost += [
            f"{kind} {entry[1]!r} is not as it was" for entry in sorted(entries[0] - entries[1], key=repr)
        ]
    return tuple(lost)
