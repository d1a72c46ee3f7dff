"""Every format through the whole command line: register, protect, leak, trace; compare, scan and stdin."""

from __future__ import annotations

import gzip
import io
import json
import sqlite3
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest

import dataguard
from dataguard.formats.source import open_source
from kinds import PART, STEERING, WRITERS, as_csv, as_json_lines, command, flights, one_line, write_stream
from postgres_server import postgres_server, postgres_url  # noqa: F401 - fixtures

ROWS, LEAKED = 2000, 300
CONVERTED = ("csv", "tsv", "csv.gz", "csv.zst", "jsonl", "parquet", "feather")
MARKED = {"dep_time", "dep_delay", "arr_time", "arr_delay", "air_time", "distance", "flight"}


@pytest.fixture
def table(flights_january):
    return flights(flights_january, ROWS)


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert command("init").code == 0
    return tmp_path


def ok(*args: object) -> dict:
    done = command(*args, "--json", *(["--exit-zero"] if args[0] in ("trace", "compare") else []))
    assert done.code == 0, done
    return done.json


def leak_of(copy: str, path: Path) -> None:
    """Some rows of a copy, shuffled, in another format."""
    whole = open_source(copy).table()
    part = whole.take(np.random.default_rng(7).permutation(whole.num_rows)[:LEAKED])
    if path.suffix == ".parquet":
        pq.write_table(part, path)
    elif path.suffix == ".jsonl":
        path.write_bytes(as_json_lines(part))
    else:
        pacsv.write_csv(part, path)


def changed_cells(source: str, copy: str) -> set[str]:
    """Names of the columns that differ; of each, the values and their number must not."""
    a, b = open_source(source).table(), open_source(copy).table()
    assert a.schema.equals(b.schema, check_metadata=True)
    found = set()
    for name in a.column_names:
        x, y = a[name].to_pylist(), b[name].to_pylist()
        if x != y:
            found.add(name)
            assert sorted(map(repr, x)) == sorted(map(repr, y))
    return found


@pytest.mark.parametrize("name", WRITERS)
def test_each_format_from_register_to_trace(here, table, name) -> None:
    WRITERS[name](table, here / name)
    given = name + PART.get(name, "")
    assert ok("register", given, "--name", "flights")["rows"] == ROWS
    suffix = "".join(Path(name).suffixes)
    assert ok("protect", "flights", "--recipient", "acme", "-o", f"acme{suffix}")["traits_lost"] == []
    copy = "acme" + suffix + PART.get(name, "")
    assert changed_cells(given, copy)
    leak_of(copy, here / ("leak.csv" if "parquet" in name or name == "parts" else "leak.parquet"))
    found = str(next(here.glob("leak.*")))
    traced = ok("trace", found, "--dataset", "flights")
    assert (traced["outcome"], traced["corresponding"]) == ("corresponds", ["acme"])
    assert traced["aligned_rows"] == LEAKED
    CHECKS.get(name.partition(".")[2] or name, lambda *_: None)(here / name, here / f"acme{suffix}")


def check_text(source: Path, copy: Path) -> None:
    a, b = source.read_bytes(), copy.read_bytes()
    assert len(a) == len(b)
    assert a.count(b"\n") == b.count(b"\n")
    assert sum(x != y for x, y in zip(a.split(b"\n"), b.split(b"\n"), strict=True)) > ROWS / 2


def check_packed(source: Path, copy: Path) -> None:
    a, b = gzip.decompress(source.read_bytes()), gzip.decompress(copy.read_bytes())
    assert (len(a), a[:20], a != b) == (len(b), b[:20], True)


def check_parquet(source: Path, copy: Path) -> None:
    a, b = pq.ParquetFile(source), pq.ParquetFile(copy)
    assert a.schema.equals(b.schema)
    assert a.metadata.metadata == b.metadata.metadata
    for i in range(a.metadata.num_row_groups):
        x, y = a.metadata.row_group(i), b.metadata.row_group(i)
        assert x.num_rows == y.num_rows
        for j in range(x.num_columns):
            assert x.column(j).compression == y.column(j).compression


def check_folder(source: Path, copy: Path) -> None:
    names = [sorted(str(p.relative_to(root)) for p in root.rglob("*")) for root in (source, copy)]
    assert names[0] == names[1]
    check_parquet(source / "year=2013/part-1.parquet", copy / "year=2013/part-1.parquet")


def check_workbook(source: Path, copy: Path) -> None:
    with zipfile.ZipFile(source) as a, zipfile.ZipFile(copy) as b:
        assert a.namelist() == b.namelist()
        different = [n for n in a.namelist() if a.read(n) != b.read(n)]
    assert different == ["xl/worksheets/sheet1.xml"]


def check_sqlite(source: Path, copy: Path) -> None:
    dumps = []
    for path in (source, copy):
        con = sqlite3.connect(path)
        dumps.append(con.execute("SELECT type, name, sql FROM sqlite_master").fetchall())
        if len(dumps[0]) > 1:
            dumps[-1] += con.execute("SELECT * FROM other").fetchall()
        con.close()
    assert dumps[0] == dumps[1]


CHECKS = {
    "csv": check_text, "tsv": check_text, "jsonl": lambda a, b: None, "csv.gz": check_packed,
    "jsonl.gz": check_packed, "parquet": check_parquet, "parts": check_folder, "xlsx": check_workbook,
    "sqlite": check_sqlite, "db": check_sqlite,
}  # fmt: skip


@pytest.mark.parametrize(
    "name", ["plain.csv", "cp932.csv", "lines.jsonl", "groups.parquet", "parts", "stream.arrows", "two.xlsx",
             "two.db", "one.duckdb"]
)  # fmt: skip
def test_every_format_becomes_every_other(here, table, name) -> None:
    WRITERS[name](table.slice(0, 800), here / name)
    ok("register", name + PART.get(name, ""), "--name", "flights")
    first = None
    for kind in CONVERTED:
        ok("protect", "flights", "--recipient", "acme", "-o", f"out.{kind}")
        copy = open_source(f"out.{kind}")
        text = [[None if v is None or v == "" else str(v).removesuffix(".0") for v in copy.table()[n].to_pylist()]
                for n in copy.column_names]  # fmt: skip
        first = first or text
        assert text == first, kind
    pq.write_table(open_source("out.csv.zst").table().slice(200, 200), "leak.parquet")
    assert ok("trace", "leak.parquet", "--dataset", "flights")["corresponding"] == ["acme"]


def test_an_output_that_the_source_cannot_become_is_one_line(here, table) -> None:
    (here / "plain.csv").write_bytes(as_csv(table))
    ok("register", "plain.csv", "--name", "flights")
    before = ok("ledger", "show")["size"]
    for out in ("x.xlsx", "x.sqlite", "x.duckdb", "x", "x.parquet.gz", "x.csv::part", "x.jpg"):
        said = one_line(command("protect", "flights", "--recipient", "a", "-o", out))
        assert ".csv" in said
        assert "x" in said
    assert ok("ledger", "show")["size"] == before
    assert sorted(p.name for p in here.iterdir()) == [".dataguard", "plain.csv"]


def test_a_table_of_a_server(here, table, postgres_server, postgres_url) -> None:  # noqa: F811
    database = postgres_url.rpartition("/")[2]
    kinds = {"int64": "bigint", "double": "double precision"}
    listed = ", ".join(f'"{f.name}" {kinds.get(str(f.type), "text")}' for f in table.schema)
    rows = [
        "(" + ", ".join("NULL" if v is None else f"'{v}'" for v in row) + ")"
        for row in zip(*table.to_pydict().values(), strict=True)
    ]
    postgres_server.run(
        database, f"CREATE TABLE flights ({listed})", f"INSERT INTO flights VALUES {', '.join(rows)}",
        "CREATE TABLE other (a int)",
    )  # fmt: skip
    secret = postgres_url.partition("://")[2].partition("@")[0].partition(":")[2]
    several = command("register", postgres_url, "--name", "flights")
    assert "FILE::TABLE" in one_line(several)
    done = command("register", f"{postgres_url}::flights", "--name", "flights")
    assert done.code == 0, done
    assert secret
    assert secret not in several.err + done.err + done.out
    ok("protect", "flights", "--recipient", "acme", "-o", "acme.csv")
    ok("protect", "flights", "--recipient", "birch", "-o", "birch.parquet")
    leak_of("birch.parquet", here / "leak.csv")
    assert ok("trace", "leak.csv", "--dataset", "flights")["corresponding"] == ["birch"]
    assert ok("compare", f"{postgres_url}::flights", "acme.csv")["relation"] == "same-rows"
    assert "acme.sqlite" in one_line(command("protect", "flights", "--recipient", "c", "-o", "acme.sqlite"))
    scanned = command("scan", postgres_url, "--json")
    lines = {
        json.loads(line)["path"].rpartition("::")[2]: json.loads(line) for line in scanned.out.splitlines()
    }
    assert [m["dataset"] for m in lines["public.flights"]["matches"]] == ["flights"]
    assert "no rows" in lines["public.other"]["skipped"]
    assert secret not in scanned.out + scanned.err
    direct = command("protect", f"{postgres_url}::flights", "--recipient", "d", "-o", "d.csv")
    assert "registered already" in one_line(direct)
    assert secret not in direct.err


# --- objects ------------------------------------------------------------------------------------


def test_objects_of_other_libraries(tmp_path, table) -> None:
    duckdb, pandas, polars = (pytest.importorskip(n) for n in ("duckdb", "pandas", "polars"))
    con = duckdb.connect()
    con.register("given", table)
    given = {
        "pandas": pandas.DataFrame(table.to_pydict()),
        "polars": polars.from_arrow(table),
        "duckdb": con.sql("SELECT * FROM given"),
        "reader": pa.RecordBatchReader.from_batches(table.schema, table.to_batches(max_chunksize=777)),
        "arrow": table,
    }
    with dataguard.Vault.create(tmp_path / "vault") as vault:
        for name, data in given.items():
            assert vault.register(data, name=name).rows == ROWS
            for suffix in ("parquet", "csv"):
                vault.protect(name, recipient="acme", out=tmp_path / f"{name}.{suffix}")
            copy = pq.read_table(tmp_path / f"{name}.parquet")
            part = copy.take(np.random.default_rng(1).permutation(ROWS)[:LEAKED])
            leak = {"pandas": part.to_pandas(), "polars": polars.from_arrow(part)}.get(name, part)
            assert vault.trace(leak, dataset=name).corresponding == ("acme",)
    con.close()


# --- compare, scan, stdin ---------------------------------------------------------------------------


def test_compare_sees_one_table_in_all_formats(here, table) -> None:
    small = table.slice(0, 200)
    for name, write in WRITERS.items():
        write(small, here / name)
    for name in WRITERS:
        base = "utf16.csv" if name in ("cp932.csv", "euc.csv") else "plain.csv"
        found = ok("compare", base, name + PART.get(name, ""))
        if name in ("utf16.csv", "parts"):  # other words, one more column
            assert found["relation"] in ("same-rows", "identical"), name
        else:
            assert found["relation"] == "identical", name
    pq.write_table(small.take(np.arange(200)[::-1]), "turned.parquet")
    assert ok("compare", "one.xlsx", "turned.parquet")["relation"] == "same-rows"


def test_a_file_without_a_header(here, table) -> None:
    body = as_csv(table.slice(0, 1500).select([n for n in table.column_names if n != "carrier"])).partition(
        b"\n"
    )[2]
    (here / "bare.csv").write_bytes(body)
    source = open_source("bare.csv")
    assert source.rows() == 1500, source.column_names
    ok("register", "bare.csv", "--name", "bare")
    ok("protect", "bare", "--recipient", "acme", "-o", "acme.csv")
    assert len(Path("acme.csv").read_bytes()) == len(body)
    lines = Path("acme.csv").read_bytes().splitlines()[300:600]
    (here / "leak.csv").write_bytes(b"\n".join(lines))
    assert ok("trace", "leak.csv", "--dataset", "bare")["corresponding"] == ["acme"]


@pytest.mark.parametrize("name", [n for n in WRITERS if n != "parts" and n not in PART])
def test_stdin_of_every_kind(here, table, name) -> None:
    WRITERS[name](table.slice(0, 300), here / name)
    done = command("compare", name, "-", "--json", "--exit-zero", stdin=(here / name).read_bytes())
    assert done.code == 0, done
    assert done.json["relation"] == "identical"


def test_stdin_is_registered_but_not_referred_to(here, table) -> None:
    data = as_json_lines(table)
    said = one_line(command("register", "-", "--name", "piped", "--no-keep", stdin=data))
    assert "--no-keep" in said
    assert command("register", "-", "--name", "piped", stdin=data).code == 0
    ok("protect", "piped", "--recipient", "acme", "-o", "acme.jsonl")
    assert len(Path("acme.jsonl").read_bytes().splitlines()) == ROWS
    assert "stdin is empty" in one_line(command("compare", "-", "acme.jsonl"))


def test_scan_of_a_folder_with_everything_in_it(here, table) -> None:
    (here / "plain.csv").write_bytes(as_csv(table.slice(0, 600)))
    ok("register", "plain.csv", "--name", "flights")
    mixed = here / "mixed"
    mixed.mkdir()
    kinds = [
        "utf16.csv",
        "packed.csv.zst",
        "lines.jsonl",
        "parts",
        "stream.arrows",
        "two.xlsx",
        "two.db",
        "one.duckdb",
    ]
    for name in kinds:
        WRITERS[name](table.slice(100, 150), mixed / name)
    (mixed / "readme.pdf").write_bytes(b"%PDF-1.7")
    (mixed / "\x1b[31m\u202efdp.csv").write_bytes(b"a,b\n1,2\n")
    done = command("scan", "mixed", "--json")
    assert done.code == 1, done
    assert not STEERING.search(done.out + done.err)
    lines = {Path(d["path"]).name: d for d in map(json.loads, done.out.splitlines())}
    found = {name for name, d in lines.items() if [m["dataset"] for m in d["matches"]] == ["flights"]}
    wanted = {name + PART.get(name, "") for name in kinds} - {"parts"}
    assert found == wanted | {"part-0.parquet", "part-1.parquet"}
    assert lines["two.xlsx::メモ"]["matches"] == []
    assert "unknown kind" in lines["readme.pdf"]["skipped"]
    assert lines["\x1b[31m\u202efdp.csv"]["skipped"] is None  # faithful once parsed
    assert "_SUCCESS" not in lines
    people = command("scan", "mixed")
    assert people.code == 1
    assert not STEERING.search(people.out + people.err)


def test_json_is_faithful_and_readable(here) -> None:
    name = "値\u3000段\x9b\u202e\x7f"
    sink = io.StringIO()
    sink.write(f'"{name}",b\n')
    sink.writelines(f"{i * 7 % 101},{i}\n" for i in range(300))
    Path("odd.csv").write_text(sink.getvalue(), encoding="utf-8")
    done = command("compare", "odd.csv", "odd.csv", "--json", "--exit-zero")
    assert done.json["columns"][0]["original"] == name
    assert "値\u3000段\\u009b\\u202e\\u007f" in done.out
    assert not STEERING.search(done.out)
    shown = command("compare", "odd.csv", "odd.csv", "--exit-zero")
    assert not STEERING.search(shown.out)
    assert "値" in shown.out


def test_stream_written_in_pieces_reads_whole(here, table) -> None:
    write_stream(table, here / "s.arrows")
    assert open_source(here / "s.arrows").table().equals(table)
