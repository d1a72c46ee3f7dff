"""Directories of Parquet files: order, partitions, what is refused, and moves across files."""

import hashlib
import os
import subprocess

import duckdb
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dataguard.errors import DecodeError, UsageError
from dataguard.formats.edits import Moves, apply_moves
from dataguard.formats.moved import gather
from dataguard.formats.parquet_folder import ParquetFolderSource, write_parquet_folder


def part(first, rows=3, **columns):
    return pa.table(
        {
            "id": pa.array(range(first, first + rows), pa.int64()),
            "t": pa.array([f"t{i}" for i in range(first, first + rows)], pa.string()),
            **columns,
        }
    )


def fill(folder, files, **options):
    for name, table in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(table, bytes):
            path.write_bytes(table)
        else:
            pq.write_table(table, path, **options)
    return folder


def opened(folder):
    return ParquetFolderSource(folder, folder.name)


def rewritten(source, moves, out):
    moved = gather(source, moves)
    return moved.changed, write_parquet_folder(source, moved, out)


@pytest.fixture
def folder(tmp_path):
    return fill(
        tmp_path / "in",
        {
            "part-10.parquet": part(6),
            "part-2.parquet": part(0),
            "part-2a": part(3).select(["t", "id"]),  # no suffix, other order of columns
            "_SUCCESS": b"",
            "_metadata": b"anything",
            ".part-2.parquet.crc": b"crc",
            "part-2.parquet.crc": b"crc",
            ".hidden/x.csv": b"a\n1\n",
        },
    )


def test_files_in_natural_order_are_one_table(folder):
    source = opened(folder)
    assert (source.format, source.name, source.path) == ("parquet-folder", "in", folder)
    assert source.column_names == ("id", "t")
    assert source.rows() == 9
    assert source.table().to_pydict() == part(0, 9).to_pydict()
    batches = list(source.batches(["t"]))
    assert pa.Table.from_batches(batches).to_pydict() == {"t": part(0, 9)["t"].to_pylist()}
    assert {batch.schema for batch in batches} == {pa.schema([("t", pa.string())])}
    assert len(list(source.batches())) == len(list(source.batches())) == 3
    for ask in (source.table, lambda c: list(source.batches(c))):
        with pytest.raises(UsageError, match="no column 'x'"):
            ask(["x"])


def test_natural_order():
    from dataguard.formats.parquet_folder import _natural

    names = ["a", "a2", "a02", "a10", "b/1", "b/1a", "b/2", "b/10", "ä", "10", "9", "b"]
    wanted = ["9", "10", "a", "a02", "a2", "a10", "b", "b/1", "b/1a", "b/2", "b/10", "ä"]
    assert sorted(names, key=_natural) == wanted


def test_the_digest_is_that_of_sha256sum(folder, tmp_path):
    fill(folder, {"sub/長い 名.parquet": part(9)})
    source = opened(folder)
    names = ["part-10.parquet", "part-2.parquet", "part-2a", "sub/長い 名.parquet"]
    printed = subprocess.run(["sha256sum", *names], cwd=folder, capture_output=True, check=True).stdout
    assert source.sha256() == hashlib.sha256(printed).hexdigest()
    before = source.sha256()
    (folder / "_SUCCESS").write_bytes(b"x")
    assert opened(folder).sha256() == before
    (folder / "part-2a").rename(folder / "part-2b")
    assert opened(folder).sha256() != before


HIVE = {
    "year=2024/month=1/b.parquet": part(3),
    "year=2024/month=10/a.parquet": part(9),
    "year=2024/month=2/a.parquet": part(6),
    "year=2023/month=__HIVE_DEFAULT_PARTITION__/a%3Ab=.parquet": part(0),
}


def test_partitions_become_text_columns_that_are_never_marked(tmp_path):
    source = opened(fill(tmp_path / "in", HIVE))
    assert source.column_names == ("id", "t", "year", "month")
    assert source.nested_columns == ("year", "month")
    assert source.table().to_pydict() == {
        "id": list(range(12)),
        "t": [f"t{i}" for i in range(12)],
        "year": ["2023"] * 3 + ["2024"] * 9,
        "month": [None] * 3 + ["1"] * 3 + ["2"] * 3 + ["10"] * 3,
    }
    assert source.table(["month", "id"]).schema.names == ["month", "id"]
    only = pa.Table.from_batches(source.batches(["year"]))
    assert only.to_pydict() == {"year": ["2023"] * 3 + ["2024"] * 9}
    escaped = opened(fill(tmp_path / "e", {"a%20b=x%2Fy%3D1/f.parquet": part(0)}))
    assert escaped.table(["a b"]).to_pydict() == {"a b": ["x/y=1"] * 3}


def test_partitions_that_the_files_hold_too_are_read_from_the_files(tmp_path):
    files = {f"id={i}/f.parquet": part(i, 1) for i in range(3)}
    source = opened(fill(tmp_path / "in", files))
    assert (source.column_names, source.nested_columns) == (("id", "t"), ())
    assert source.table()["id"].to_pylist() == [0, 1, 2]


@pytest.mark.parametrize("engine", ["duckdb", "polars", "pyarrow"])
def test_folders_of_real_engines(tmp_path, engine):
    table = pa.table(
        {"x": range(1000), "day": [f"d{i % 3}" for i in range(1000)], "v": [i / 7 for i in range(1000)]}
    )
    folder = tmp_path / "in"
    if engine == "duckdb":
        con = duckdb.connect()
        con.register("source", table)
        con.execute(f"copy source to '{folder}' (format parquet, partition_by (day))")
    elif engine == "polars":
        pl.from_arrow(table).write_parquet(folder, partition_by="day")
    else:
        import pyarrow.dataset as ds

        ds.write_dataset(
            table,
            folder,
            format="parquet",
            partitioning=ds.partitioning(pa.schema([("day", pa.string())]), flavor="hive"),
        )
    source = opened(folder)
    got = source.table(["x", "day", "v"]).sort_by("x")
    assert got.to_pydict() == table.to_pydict()
    rows = np.arange(10, 900)
    out = tmp_path / "out"
    out.mkdir()
    moves = [Moves("x", rows, rows[::-1].copy())]
    changed, _ = rewritten(source, moves, out)
    assert changed == rows.size
    assert opened(out).table().equals(apply_moves(source.table(), moves))
    con = duckdb.connect()
    total = con.sql(
        f"select sum(x), count(*), count(distinct day) from read_parquet('{out}/**/*.parquet')"
    ).fetchall()
    assert total == [(sum(range(1000)), 1000, 3)]


def test_moves_cross_files(folder, tmp_path):
    source = opened(folder)
    rows, origins = np.array([0, 4, 8, 1]), np.array([8, 0, 4, 1])
    moves = [Moves("t", rows, origins), Moves("id", np.array([0, 1]), np.array([1, 0]))]
    out = tmp_path / "out"
    out.mkdir()
    changed, lost = rewritten(source, moves, out)
    assert changed == 5
    assert set(lost) == {"file _metadata", "checksum files (.crc)", "file .hidden/x.csv"}
    written = opened(out)
    assert written.table().equals(apply_moves(source.table(), moves))
    found = sorted(path.relative_to(out).as_posix() for path in out.rglob("*"))
    assert found == ["_SUCCESS", "part-10.parquet", "part-2.parquet", "part-2a"]
    assert pq.read_schema(out / "part-2a").names == ["t", "id"]


def test_files_without_moves_stay_as_they_are(tmp_path):
    source = opened(
        fill(tmp_path / "in", {**HIVE, "year=2024/month=2/empty": part(0, 0)}, compression="zstd")
    )
    out = tmp_path / "out"
    out.mkdir()
    assert rewritten(source, [Moves("id", np.array([0, 1]), np.array([1, 0]))], out) == (2, ())
    changed = [
        p.relative_to(out).as_posix()
        for p in out.rglob("*")
        if p.is_file() and p.read_bytes() != (tmp_path / "in" / p.relative_to(out)).read_bytes()
    ]
    assert changed == ["year=2023/month=__HIVE_DEFAULT_PARTITION__/a%3Ab=.parquet"]
    assert opened(out).rows() == 12


def test_old_timestamps_get_one_unit(tmp_path):
    def stamps(year):
        return pa.table({"t": pa.array([np.datetime64(f"{year}-01-02T03:04:05", "us").item()] * 2)})

    files = {"1.parquet": stamps(2020), "2.parquet": stamps(9999)}
    source = opened(fill(tmp_path / "in", files, use_deprecated_int96_timestamps=True, store_schema=False))
    assert [stamp.year for stamp in source.table()["t"].to_pylist()] == [2020, 2020, 9999, 9999]
    out = tmp_path / "out"
    out.mkdir()
    moves = [Moves("t", np.array([0, 2]), np.array([2, 0]))]
    assert rewritten(source, moves, out) == (2, ())
    assert [stamp.year for stamp in opened(out).table()["t"].to_pylist()] == [9999, 2020, 2020, 9999]


REFUSED = {
    "empty": ({}, "holds no Parquet files"),
    "only hidden": ({"_SUCCESS": b"", ".x.parquet": part(0)}, "holds no Parquet files"),
    "csv": ({"a.csv": b"a\n1\n"}, "holds no Parquet files"),
    "mixed": ({"a.parquet": part(0), "b.csv": b"a\n1\n", "c.txt": b""}, r"holds more than Parquet: 'b\.csv'"),
    "delta": ({"a.parquet": part(0), "_delta_log/0.json": b"{}"}, "is a Delta Lake table"),
    "hudi": ({"a.parquet": part(0), ".hoodie/x": b""}, "is a Hudi table"),
    "no rows": ({"a.parquet": part(0, 0)}, "no rows"),
    "damaged": (
        {"a.parquet": part(0), "b.parquet": b"PAR1 and no more"},
        r"b\.parquet: damaged or truncated",
    ),
    "type": (
        {"a.parquet": part(0), "b.parquet": part(3).set_column(1, "t", pa.array([1, 2, 3]))},
        r"b\.parquet: column 't' is int64, in 'a\.parquet' string",
    ),
    "missing": (
        {"a.parquet": part(0), "b.parquet": part(3).select(["t"])},
        r"b\.parquet: column 'id' is missing",
    ),
    "more": (
        {"a.parquet": part(0), "b.parquet": part(3, extra=pa.array([1, 2, 3]))},
        r"b\.parquet: column 'extra' is not in 'a\.parquet'",
    ),
    "required": (
        {
            "a.parquet": part(0),
            "b.parquet": part(0).cast(
                pa.schema([pa.field("id", pa.int64(), nullable=False), ("t", pa.string())])
            ),
        },
        r"b\.parquet: column 'id' is required, in 'a\.parquet' optional",
    ),
    "partitions": (
        {"a.parquet": part(0), "y=1/a.parquet": part(3)},
        r"'y=1/a\.parquet' lies in partitions \['y'\]",
    ),
    "twice": ({"y=1/y=2/a.parquet": part(0)}, r"lies in partitions \['y', 'y'\]"),
    "line break": ({"a\nb.parquet": part(0)}, "line break"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_folders_that_are_no_table(tmp_path, case):
    files, message = REFUSED[case]
    (tmp_path / "in").mkdir()
    with pytest.raises((UsageError, DecodeError), match=message) as caught:
        opened(fill(tmp_path / "in", files))
    assert "\n" not in str(caught.value)
    assert str(tmp_path / "in") in str(caught.value)


def test_links_and_pipes_are_refused(folder, tmp_path):
    link = folder / "link.parquet"
    link.symlink_to(folder / "part-10.parquet")
    with pytest.raises(UsageError, match=r"holds a link, 'link\.parquet'"):
        opened(folder)
    link.unlink()
    (folder / "up").symlink_to(tmp_path)
    with pytest.raises(UsageError, match="holds a link, 'up'"):
        opened(folder)
    (folder / "up").unlink()
    os.mkfifo(folder / "pipe")
    with pytest.raises(UsageError, match="holds more than Parquet: 'pipe'"):
        opened(folder)


def test_writing_refuses(folder, tmp_path):
    source = opened(fill(folder / "y=1", {"a.parquet": part(0)}))
    with pytest.raises(UsageError, match="is not empty"):
        rewritten(source, [], folder)
    source = opened(fill(tmp_path / "hive", HIVE))
    out = tmp_path / "out"
    out.mkdir()
    swap = (np.array([0, 1]), np.array([1, 0]))
    with pytest.raises(UsageError, match="a partition column cannot be edited"):
        rewritten(source, [Moves("year", *swap)], out)
    with pytest.raises(UsageError, match="no such column"):
        rewritten(source, [Moves("z", *swap)], out)
    with pytest.raises(UsageError, match="outside the table of 12 rows"):
        rewritten(source, [Moves("id", np.array([12]), np.array([0]))], out)
    assert list(out.iterdir()) == []


def test_companions_that_stay_true_come_along(tmp_path):
    folder = fill(
        tmp_path / "in", {"x/a.parquet": part(0), "_SUCCESS": b"done", "x/_common_metadata": b"schema"}
    )
    fill(folder, {"_SUCCESS.crc": b"x", "_temporary/0/b.parquet": part(0), "_temporary/_SUCCESS": b""})
    (folder / "x" / "_SUCCESS").symlink_to(folder / "_SUCCESS")
    out = tmp_path / "out"
    out.mkdir()
    _, lost = rewritten(opened(folder), [], out)
    found = sorted(path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file())
    assert found == ["_SUCCESS", "x/_common_metadata", "x/a.parquet"]
    assert (out / "_SUCCESS").read_bytes() == b"done"
    assert set(lost) == {
        "checksum files (.crc)",
        "file _temporary/0/b.parquet",
        "file _temporary/_SUCCESS",
        "file x/_SUCCESS",
    }
