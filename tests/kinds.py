"""One real table written in every format that is read, and the command line run in this process."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import re
import sqlite3
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
from pyarrow import feather

from dataguard.cli.main import main

COLUMNS = [
    "day", "dep_time", "dep_delay", "arr_time", "arr_delay", "carrier", "flight", "tailnum", "origin", "dest",
    "air_time", "distance",
]  # fmt: skip


@dataclass
class Done:
    """What a command did."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict:
        return json.loads(self.out)


def command(*args: object, stdin: bytes = b"") -> Done:
    """Run ``dataguard`` as a shell would; anything but an orderly exit comes out as it is."""
    out, err = io.TextIOWrapper(io.BytesIO(), "utf-8"), io.TextIOWrapper(io.BytesIO(), "utf-8")
    before = sys.argv, sys.stdin
    sys.argv, sys.stdin = ["dataguard", *map(str, args)], io.TextIOWrapper(io.BytesIO(stdin))
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                main()
            except SystemExit as stop:
                code = stop.code or 0
    finally:
        sys.argv, sys.stdin = before
    texts = [stream.buffer.getvalue().decode() for stream in (out, err) if not stream.flush()]
    return Done(code, *texts)


STEERING = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]"
)
"""What must never reach a terminal raw."""


def one_line(done: Done) -> str:
    """Return the single line of an error, which must be all there is."""
    assert done.code == 2, done
    assert done.out == "", done
    lines = [line for line in done.err.splitlines() if line.startswith("dataguard: error: ")]
    notes = [line for line in done.err.splitlines() if not line.startswith("dataguard: error: ")]
    assert len(lines) == 1, done
    assert all(note.startswith(("reading", "marking", "tracing", "comparing")) for note in notes), done
    assert not STEERING.search(done.err), done
    assert len(lines[0]) < 2000, len(lines[0])
    return lines[0]


def flights(path: Path, rows: int) -> pa.Table:
    return pq.read_table(path).slice(0, rows).select(COLUMNS)


def as_csv(table: pa.Table, separator: str = ",") -> bytes:
    sink = io.BytesIO()
    pacsv.write_csv(table, sink, pacsv.WriteOptions(delimiter=separator, quoting_style="needed"))
    return sink.getvalue()


def japanese(table: pa.Table) -> str:
    """The table as text with Japanese in its names and cells."""
    text = as_csv(table).decode()
    return (
        text.replace("carrier", "航空会社", 1)
        .replace(",UA,", ",ユナイテッド航空,")
        .replace(",B6,", ",ジェットブルー,")
    )


def as_json_lines(table: pa.Table) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in table.to_pylist())


def write_stream(table: pa.Table, path: Path) -> None:
    with pa.ipc.new_stream(str(path), table.schema) as stream:
        stream.write_table(table, max_chunksize=800)


def write_folder(table: pa.Table, path: Path) -> None:
    (path / "year=2013").mkdir(parents=True)
    half = table.num_rows // 2
    pq.write_table(table.slice(0, half), path / "year=2013" / "part-0.parquet")
    pq.write_table(table.slice(half), path / "year=2013" / "part-1.parquet")
    (path / "_SUCCESS").touch()


def write_workbook(table: pa.Table, path: Path, *, more: bool = False) -> None:
    import openpyxl

    book = openpyxl.Workbook(write_only=True)
    sheet = book.create_sheet("Flights")
    sheet.append(table.column_names)
    for row in zip(*table.to_pydict().values(), strict=True):
        sheet.append(row)
    if more:
        notes = book.create_sheet("メモ")
        notes.append(["a"])
        notes.append([1])
    book.save(path)


def write_sqlite(table: pa.Table, path: Path, *, more: bool = False) -> None:
    with contextlib.closing(sqlite3.connect(path)) as con:
        listed = ", ".join(f'"{name}"' for name in table.column_names)
        con.execute(f"CREATE TABLE flights ({listed})")
        marks = ", ".join("?" * table.num_columns)
        con.executemany(
            f"INSERT INTO flights VALUES ({marks})", zip(*table.to_pydict().values(), strict=True)
        )
        if more:
            con.execute("CREATE TABLE other (a)")
            con.execute("INSERT INTO other VALUES (1)")
        con.commit()


def write_duckdb(table: pa.Table, path: Path, *, more: bool = False) -> None:
    import duckdb

    with contextlib.closing(duckdb.connect(str(path))) as con:
        con.register("given", table)
        con.execute("CREATE TABLE flights AS SELECT * FROM given")
        if more:
            con.execute("CREATE TABLE other AS SELECT 1 AS a")


def _bytes(make: Callable[[pa.Table], bytes]) -> Callable[[pa.Table, Path], None]:
    return lambda table, path: path.write_bytes(make(table)) and None


def _packed(data: bytes, kind: str) -> bytes:
    return gzip.compress(data, mtime=0) if kind == "gzip" else pa.Codec("zstd").compress(data, asbytes=True)


WRITERS: dict[str, Callable[[pa.Table, Path], None]] = {
    "plain.csv": _bytes(as_csv),
    "tabs.tsv": _bytes(lambda t: as_csv(t, "\t")),
    "semicolons.csv": _bytes(lambda t: as_csv(t, ";")),
    "crlf.csv": _bytes(lambda t: b"\xef\xbb\xbf" + as_csv(t).replace(b"\n", b"\r\n")),
    "cp932.csv": _bytes(lambda t: japanese(t).encode("cp932")),
    "euc.csv": _bytes(lambda t: japanese(t).encode("euc_jp")),
    "utf16.csv": _bytes(lambda t: japanese(t).encode("utf-16")),
    "packed.csv.gz": _bytes(lambda t: _packed(as_csv(t), "gzip")),
    "packed.csv.zst": _bytes(lambda t: _packed(as_csv(t), "zstd")),
    "lines.jsonl": _bytes(as_json_lines),
    "lines.jsonl.gz": _bytes(lambda t: _packed(as_json_lines(t), "gzip")),
    "groups.parquet": lambda table, path: pq.write_table(table, path, row_group_size=700),
    "parts": write_folder,
    "table.feather": feather.write_feather,
    "stream.arrows": write_stream,
    "one.xlsx": write_workbook,
    "two.xlsx": lambda table, path: write_workbook(table, path, more=True),
    "one.sqlite": write_sqlite,
    "two.db": lambda table, path: write_sqlite(table, path, more=True),
    "one.duckdb": write_duckdb,
    "two.duckdb": lambda table, path: write_duckdb(table, path, more=True),
}
"""File name -> writer of a table to a path of that name."""

PART = {"two.xlsx": "::Flights", "two.db": "::flights", "two.duckdb": "::flights"}
"""What must stand behind the name of a file that holds several tables."""
