"""Whatever comes in: one clear line, exit 2, nothing changed; and nothing but DataguardError out of any bytes."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import sqlite3
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import dataguard
from dataguard.errors import DataguardError
from dataguard.formats.source import open_source
from dataguard.investigate import compare
from kinds import PART, STEERING, WRITERS, as_csv, command, flights, one_line

ROWS = 600
RNG = np.random.default_rng(20)


def _noise(count: int = 4000) -> bytes:
    return RNG.bytes(count)


def _wide(rows: int) -> bytes:
    lines = [",".join(f"c{i}" for i in range(10_000))]
    lines += [",".join(str((7 * i + 13 * j) % 97) for i in range(10_000)) for j in range(rows)]
    return "\n".join(lines).encode()


def _numbers(header: str, rows: int = 300) -> bytes:
    columns = header.count(",") + 1
    lines = [",".join(str((i * 7 + j * 31) % 101) for j in range(columns)) for i in range(rows)]
    return "\n".join([header, *lines]).encode()


def _mixed() -> bytes:
    draw = np.random.default_rng(4)
    rows = (f"{draw.integers(40)},{draw.normal():.2f},{draw.normal():.1f}" for _ in range(400))
    return "\n".join(["a,,x", *rows]).encode()


BAD: dict[str, tuple[bytes, str]] = {
    "empty.csv": (b"", "is empty"),
    "empty.parquet": (b"", "is empty"),
    "empty.xlsx": (b"", "is empty"),
    "header.csv": (b"a,b\n", "no rows"),
    "blank.csv": (b"\n\n\n", "is empty"),
    "noise.csv": (_noise(), "not UTF-8"),
    "noise.parquet": (_noise(), "not Parquet"),
    "noise.xlsx": (_noise(), "no spreadsheet"),
    "noise.feather": (_noise(), "Arrow IPC"),
    "noise.jsonl": (_noise(), "not UTF-8"),
    "noise.sqlite": (_noise(), "SQLite"),
    "noise.duckdb": (_noise(), "DuckDB"),
    "noise.csv.gz": (b"\x1f\x8b" + _noise(), "damaged gzip"),
    "noise.csv.zst": (b"\x28\xb5\x2f\xfd" + _noise(), "damaged zstd"),
    "nul.csv": (b"a,b\n1,2\n3,\x00\n", "NUL byte"),
    "ragged.csv": (b"a,b\n1\n2,3\n", "line 2 has 1 cells"),
    "quote.csv": (b'a,b\n1,2\n3,"4\n5,6\n', "opens a quote"),
    "twice.csv": (_numbers("a,a"), "duplicate column names 'a'"),
    "nameless.csv": (_numbers(",,x"), "duplicate column names ''"),
    "steer.csv": ("a\x1b[31m,a\x1b[31m,\u202ec\n1,2,3\n".encode(), "duplicate column names"),
    "\x1b[31mred\u202e.csv": (b"a,b\n1\n2,3\n", "line 2 has 1 cells"),
    "manytwice.csv": (b",".join([b"n" * 200] * 1500) + b"\n" + b"1," * 1499 + b"1\n", "duplicate"),
    "wide.csv": (_wide(3), "10,000 columns"),
    "array.jsonl": (b"[1,2]\n", "expected an object"),
    "deep.jsonl": (b'{"a":' + b"[" * 99_999 + b"]" * 99_999 + b"}\n", "nested deeper"),
    "csv.parquet": (b"a,b\n1,2\n", "not Parquet"),
    "csv.xlsx": (b"a,b\n1,2\n", "no spreadsheet"),
    "csv.sqlite": (b"a,b\n1,2\n", "SQLite"),
    "picture.jpg": (b"\xff\xd8\xff\xe0" + _noise(99), "unknown kind of file '.jpg'"),
    "nothing": (b"a,b\n1,2\n", "unknown kind of file 'nothing'"),
    "utf32.csv": ("a,b\n1,2\n".encode("utf-32"), "UTF-32"),
}
"""File name -> content that no command can read, and what is said."""

NO_ROOM: dict[str, tuple[bytes, str]] = {
    "onecolumn.csv": (b"a\n" + b"\n".join(b"%d" % i for i in range(500)), "no column has room"),
    "onerow.csv": (b"a,b,c\n1,2,3\n", "no column has room"),
    "nulls.csv": (b"a,b\n" + b",\n" * 300, "a, b (empty)"),
    "constant.csv": (b"a,b\n" + b"1,x\n" * 300, "a, b (constant)"),
}
"""Readable, but without room for marks."""


@pytest.fixture(scope="module")
def prepared(tmp_path_factory, flights_january_path):
    """A vault with one dataset and one copy, made once; each test works on its own copy of the folder."""
    folder = tmp_path_factory.mktemp("prepared")
    with contextlib.chdir(folder):
        Path("flights.csv").write_bytes(as_csv(flights(flights_january_path, ROWS)))
        for args in (
            ("init",),
            ("register", "flights.csv", "--name", "flights"),
            ("protect", "flights", "--recipient", "acme", "-o", "acme.csv"),
        ):
            done = command(*args)
            assert done.code == 0, done
    return folder


@pytest.fixture(scope="module")
def flights_january_path() -> Path:
    from conftest import PACKAGED

    return PACKAGED


@pytest.fixture
def here(prepared, tmp_path, monkeypatch):
    folder = tmp_path / "work"
    shutil.copytree(prepared, folder)
    monkeypatch.chdir(folder)
    return folder


def digest(folder: Path) -> dict[str, str]:
    """Every file and folder below, with content, mode and nothing left out."""
    return {
        str(p.relative_to(folder)): f"{p.stat().st_mode:o} "
        + (hashlib.sha256(p.read_bytes()).hexdigest() if p.is_file() else "folder")
        for p in sorted(folder.rglob("*"))
    }


def refused(here: Path, *args: object) -> str:
    """Run a command that must be refused and change nothing; return its line."""
    before = digest(here)
    line = one_line(command(*args))
    assert digest(here) == before
    assert not STEERING.search(line)
    return line


@pytest.mark.parametrize("name", BAD)
def test_unreadable_input(here, name) -> None:
    data, says = BAD[name]
    (here / name).write_bytes(data)
    for args in (
        ("register", name, "--name", "x"),
        ("compare", "flights.csv", name),
        ("compare", name, "flights.csv", "--json"),
        ("trace", name, "--dataset", "flights"),
        ("trace", name),
        ("report", name, "-o", "bundle"),
        ("protect", name, "--recipient", "a", "-o", "out.csv"),
        ("protect", name, "--recipient", "a", "-o", "out.csv", "--vault", "fresh"),
    ):
        if args[-1] == "fresh" and name == "wide.csv":
            continue  # seen only once it is decoded: a new vault, which is announced, stays
        line = refused(here, *args)
        assert says in line or (args[0] == "protect" and "cannot name a dataset" in line)
        assert "; " in line, "no remedy"
        assert "red" in line or name in line
    done = command("scan", name, "--json")
    assert done.code == 4
    assert says in json.loads(done.out)["skipped"]
    assert not STEERING.search(done.out + done.err)


@pytest.mark.parametrize("name", NO_ROOM)
def test_input_without_room_for_marks(here, name) -> None:
    data, says = NO_ROOM[name]
    (here / name).write_bytes(data)
    for args in (("register", name, "--name", "x"), ("protect", name, "--recipient", "a", "-o", "o.csv")):
        line = refused(here, *args)
        assert name in line
        assert says in line
    for args in (
        ("compare", name, name),
        ("compare", "flights.csv", name),
        ("trace", name, "--dataset", "flights"),
    ):
        done = command(*args, "--exit-zero")
        assert (done.code, done.err.count("\n")) == (0, 1), done


def test_an_empty_column_name_is_a_name(here) -> None:
    (here / "gap.csv").write_bytes(_mixed())
    assert command("register", "gap.csv", "--name", "gap").code == 0
    assert command("protect", "gap", "--recipient", "a", "-o", "gap2.csv").code == 0


@pytest.mark.parametrize("name", [n for n in WRITERS if n != "parts"])
@pytest.mark.parametrize("how", ["cut", "flipped"])
def test_damaged_files_of_every_format(here, name, how) -> None:
    if how == "cut" and name.endswith((".csv", ".tsv")):
        pytest.skip("rows that end early are rows: the last one may be cut short")
    path = here / name
    WRITERS[name](
        flights(Path(__file__).parent.parent / "src/dataguard/data/flights_2013_01.parquet", 200), path
    )
    data = bytearray(path.read_bytes())
    if how == "cut":
        data = data[: len(data) * 2 // 3]
    else:
        for at in np.random.default_rng(3).integers(0, len(data), 40):
            data[at] ^= 0x80
    path.write_bytes(data)
    for args in (("register", name + PART.get(name, ""), "--name", "x"), ("trace", name, "--dataset", "flights"),
                 ("compare", "flights.csv", name)):  # fmt: skip
        assert name in refused(here, *args)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"a,b\n1," + b"x" * 100_000_000 + b"\n2,3\n", "line 2 is longer than 64 MiB"),
        (b"a" * 100_000_000 + b",b\n1,2\n", "line 1 is longer than 64 MiB"),
    ],
    ids=["cell", "header"],
)
def test_gigantic_cells(here, content, says) -> None:
    (here / "big.csv").write_bytes(content)
    line = refused(here, "register", "big.csv", "--name", "x")
    assert says in line
    assert "big.csv" in line


# --- arguments ------------------------------------------------------------------------------------

ARGUMENTS = [
    (["register", "none.csv", "--name", "x"], "none.csv: no such file"),
    (["register", ".", "--name", "x"], "holds no Parquet files"),
    (["register", "flights.csv::Sheet1", "--name", "x"], "has no part 'Sheet1'"),
    (["register", "flights.csv", "--name", ""], "cannot name a dataset"),
    (["register", "flights.csv", "--name", "a\x1b[2Jb"], "cannot name a dataset"),
    (["register", "flights.csv", "--name", "n" * 300], "cannot name a dataset"),
    (["register", "flights.csv", "--name", "x", "--memory", "lots"], "'lots' is no amount of memory"),
    (["register", "flights.csv", "--name", "x", "--memory", "1M"], "too little"),
    (["register", "flights.csv", "--name", "x", "--memory", "nan"], "no amount of memory"),
    (["register", "flights.csv", "--name", "x", "--memory", "-2G"], "no amount of memory"),
    (["register", "flights.csv", "--name", "x", "--kind", "smell"], "smell"),
    (["register", "flights.csv", "--name", "x", "--tolerance", "dep_delay=nan"], "--tolerance"),
    (["register", "flights.csv", "--name", "x", "--protect-columns", "\x1b[31m"], "no column"),
    (["register", "flights.csv", "--nome", "x"], "--nome"),
    (["register", "gopher://x/y.csv", "--name", "x"], "unknown kind of address"),
    (["register", "https://example.org/y.csv", "--name", "x"], "download it first"),
    (["register", "s3://", "--name", "x"], "no bucket"),
    (["register", "file:///none/x.csv", "--name", "x"], "no such file"),
    (["register", "postgresql://u:hunter2@127.0.0.1:9/db::t", "--name", "x"], "127.0.0.1:9"),
    (["compare", "flights.csv", "s3://k:hunter2@none/x.csv?endpoint_override=127.0.0.1:9&scheme=http&region=x"], "s3://none/x.csv"),
    (["protect", "nothing", "--recipient", "a", "-o", "o.csv"], "no dataset of this name"),
    (["protect", "flights", "--recipient", "", "-o", "o.csv"], "recipient must be"),
    (["protect", "flights", "--recipient", "r" * 201, "-o", "o.csv"], "recipient must be"),
    (["protect", "flights", "--recipient", "a\x07b", "-o", "o.csv"], "recipient must be"),
    (["protect", "flights", "--recipient", "a\u202eb", "-o", "o.csv"], "recipient must be"),
    (["protect", "flights", "--recipient", "a", "-o", "none/o.csv"], "no such folder"),
    (["protect", "flights", "--recipient", "a", "-o", "o.xyz"], "cannot write '.xyz' files"),
    (["protect", "flights", "--recipient", "a", "-o", "o.parquet.gz"], "cannot write"),
    (["protect", "flights", "--recipient", "a", "-o", "o.xlsx"], "cannot be written as .xlsx"),
    (["protect", "flights", "--recipient", "a", "-o", "acme.csv"], "--force"),
    (["protect", "flights", "--recipient", "a", "-o", "flights.csv", "--force"], "original"),
    (["protect", "flights", "--recipient", "a", "-o", "o.csv", "--expires", "soon"], "'soon' is no date"),
    (["protect", "flights", "--recipient", "a", "-o", "o.csv", "--terms", "none.pdf"], "none.pdf"),
    (["protect", "flights", "--recipient", "a", "-o", "o.csv", "--profile", "odd"], "odd"),
    (["protect", "flights", "--recipient", "a", "-o", "o" * 300 + ".csv"], "oooo"),
    (["protect", "flights.csv", "--recipient", "a", "-o", "o.csv"], "registered already"),
    (["compare", "flights.csv", "acme.csv", "--alpha", "0"], "--alpha"),
    (["compare", "flights.csv", "acme.csv", "--alpha", "1"], "--alpha"),
    (["compare", "flights.csv", "acme.csv", "--alpha", "nan"], "--alpha"),
    (["scan", "flights.csv", "--alpha", "nan"], "--alpha"),
    (["trace", "acme.csv", "--alpha", "nan"], "nan"),
    (["trace", "acme.csv", "--alpha", "1e-8"], "--alpha"),
    (["trace", "acme.csv", "--dataset", "none\x1b[31m"], "is registered"),
    (["compare", "flights.csv"], "SUSPECT"),
    (["report", "acme.csv", "-o", "none/bundle"], "none"),
    (["report", "acme.csv", "-o", "flights.csv"], "flights.csv"),
    (["scan"], "PATHS"),
    (["verify", "none"], "none"),
    (["verify", "flights.csv"], "flights.csv"),
    (["frobnicate"], "frobnicate"),
    (["ledger", "show", "--vault", "none"], "is no vault"),
    (["register", "flights.csv", "--name", "x", "--vault", "none"], "is no vault"),
    (["trace", "acme.csv", "--vault", "flights.csv"], "is no vault"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("args", "says"), ARGUMENTS, ids=lambda v: ascii(" ".join(v))[:60] if isinstance(v, list) else ""
)
def test_wrong_arguments(here, args, says) -> None:
    line = refused(here, *args)
    assert says in line
    assert "hunter2" not in line


def test_a_nul_byte_in_a_name(here) -> None:
    """No shell can pass one, a program can."""
    with pytest.raises(DataguardError, match="NUL byte"):
        open_source("a\0b.csv")
    with dataguard.Vault.open(".dataguard") as vault, pytest.raises(DataguardError, match="NUL byte"):
        vault.protect("flights", recipient="a", out="o\0.csv")
    for alpha in (0, 1, float("nan")):
        with pytest.raises(DataguardError, match="alpha"):
            dataguard.compare("flights.csv", "acme.csv", alpha=alpha)


def test_part_names(here) -> None:
    table = flights(Path(__file__).parent.parent / "src/dataguard/data/flights_2013_01.parquet", 50)
    for name in PART:
        WRITERS[name](table, here / name)
        assert "::" in refused(here, "register", name, "--name", "x")
        assert "'nope'" in refused(here, "register", f"{name}::nope", "--name", "x")


@pytest.mark.skipif(os.name != "posix", reason="modes")
def test_outputs_that_cannot_be_written(here, monkeypatch) -> None:
    locked = here / "locked"
    locked.mkdir()
    if os.geteuid() == 0:  # root may write anywhere: say what the system would say to others
        real = os.access
        monkeypatch.setattr(os, "access", lambda p, mode, **k: str(p) != "locked" and real(p, mode, **k))
    else:
        locked.chmod(0o500)
    assert "locked" in refused(here, "protect", "flights", "--recipient", "a", "-o", "locked/o.csv")


# --- vaults that are not as they should be -----------------------------------------------------------


def _edit_json(path: Path, **changes: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def _only(folder: Path, pattern: str) -> Path:
    return next(folder.rglob(pattern))


VAULTS = {
    "newer": (lambda v: _edit_json(v / "vault.json", format="dataguard-vault/9"), "unknown format"),
    "settings damaged": (lambda v: (v / "vault.json").write_text("{"), "vault.json"),
    "settings empty": (lambda v: (v / "vault.json").write_text(""), "vault.json"),
    "registry gone": (lambda v: (v / "registry.sqlite").unlink(), "registry.sqlite"),
    "registry empty": (lambda v: (v / "registry.sqlite").write_bytes(b""), "registry.sqlite"),
    "registry noise": (lambda v: (v / "registry.sqlite").write_bytes(_noise(9000)), "registry.sqlite"),
    "registry cut": (
        lambda v: (v / "registry.sqlite").write_bytes((v / "registry.sqlite").read_bytes()[:9000]),
        "registry.sqlite",
    ),
    "key gone": (lambda v: (v / "keys" / "master.key").unlink(), "master.key"),
    "key open": (lambda v: (v / "keys" / "master.key").chmod(0o644), "chmod 600"),
    "key empty": (lambda v: (v / "keys" / "master.key").write_text(""), "master.key"),
    "key noise": (lambda v: (v / "keys" / "signing.key").write_bytes(_noise(80)), "signing.key"),
    "reference gone": (lambda v: _only(v, "original.csv").unlink(), "reference copy"),
    "reference changed": (
        lambda v: _only(v, "original.csv").write_bytes(_only(v, "original.csv").read_bytes()[:-9]),
        "original.csv",
    ),
    "reference empty": (lambda v: _only(v, "original.csv").write_bytes(b""), "original.csv"),
    "plan cut": (
        lambda v: _only(v, "plan.parquet").write_bytes(_only(v, "plan.parquet").read_bytes()[:-50]),
        "slot plan",
    ),
    "plan gone": (lambda v: _only(v, "plan.parquet").unlink(), "slot plan"),
    "ids noise": (lambda v: _only(v, "ids.parquet").write_bytes(_noise()), "slot plan"),
}


@pytest.mark.parametrize("what", VAULTS)
def test_vaults_that_are_not_as_they_should_be(here, what) -> None:
    spoil, says = VAULTS[what]
    spoil(here / ".dataguard")
    for args in (
        ("protect", "flights", "--recipient", "b", "-o", "b.csv"),
        ("trace", "acme.csv", "--dataset", "flights"),
        ("report", "acme.csv", "--dataset", "flights", "-o", "bundle"),
    ):
        line = refused(here, *args)
        assert says in line
        assert "; " in line, "no remedy"


def test_a_locked_vault(here, monkeypatch) -> None:
    shutil.rmtree(here / ".dataguard")
    monkeypatch.setenv("DATAGUARD_PASSPHRASE", "open sesame, please")
    assert command("init", "--passphrase").code == 0
    for secret in ("wrong", ""):
        monkeypatch.setenv("DATAGUARD_PASSPHRASE", secret)
        for args in (
            ("register", "flights.csv", "--name", "x"),
            ("protect", "flights.csv", "--recipient", "a", "-o", "o.csv"),
            ("trace", "flights.csv"),
        ):
            assert "passphrase" in refused(here, *args)
    given = here / "given"
    given.write_text("open sesame, please\n")
    given.chmod(0o644)
    assert "open to others" in refused(here, "trace", "flights.csv", "--passphrase-file", "given")
    given.chmod(0o600)
    done = command("protect", "flights.csv", "--recipient", "a", "-o", "o.csv", "--passphrase-file", "given")
    assert done.code == 0, done


@pytest.mark.long  # the other program is waited for, 30 s
def test_a_registry_in_use_by_another_program(here) -> None:
    con = sqlite3.connect(here / ".dataguard" / "registry.sqlite", isolation_level=None)
    con.execute("BEGIN EXCLUSIVE")
    try:
        done = command("protect", "flights", "--recipient", "b", "-o", "b.csv")
    finally:
        con.close()
    one_line(done)
    assert not (here / "b.csv").exists()


def test_text_in_parquet_that_is_not_utf8(here) -> None:
    """Parquet's reader lets it pass; found by the fuzzer below."""
    text = pa.array([b"a", b"\xff\xfe", b"c"] * 100).view(pa.string())
    pq.write_table(pa.table({"a": text, "b": range(300)}), "latin.parquet")
    for args in (("register", "latin.parquet", "--name", "x"), ("compare", "flights.csv", "latin.parquet")):
        assert "latin.parquet: damaged or truncated Parquet" in refused(here, *args)


# --- any bytes through the door ---------------------------------------------------------------------


def _mutants(data: bytes, rng: np.random.Generator, count: int):
    """Yield damaged variants of a file: cut, bits flipped, pieces repeated, dropped, overwritten."""
    for number in range(count):
        broken = bytearray(data)
        match number % 5:
            case 0:
                broken = broken[: int(rng.integers(0, len(data)))]
            case 1:
                for at in rng.integers(0, len(data), int(rng.integers(1, 20))):
                    broken[at] ^= 1 << int(rng.integers(8))
            case 2:
                at, size = int(rng.integers(0, len(data))), int(rng.integers(1, 99))
                broken[at:at] = broken[at : at + size]
            case 3:
                at, size = int(rng.integers(0, len(data))), int(rng.integers(1, 99))
                del broken[at : at + size]
            case _:
                at, size = int(rng.integers(0, len(data))), int(rng.integers(1, 9))
                broken[at : at + size] = rng.bytes(size) if number % 2 else b"\xff" * size
        yield bytes(broken)


def _fuzz(folder: Path, table, seeds: int, count: int, *, full: bool) -> int:
    """Read every mutant under its own suffix and under wrong ones; return how many were readable."""
    original = folder / "original.csv"
    original.write_bytes(as_csv(table))
    suffixes = sorted({"".join(Path(name).suffixes) for name in WRITERS if name != "parts"})
    readable = lines = 0
    for name, write in WRITERS.items():
        if name == "parts":
            continue
        whole = folder / f"whole{''.join(Path(name).suffixes)}"
        write(table, whole)
        data = whole.read_bytes()
        whole.unlink()
        for seed in range(seeds):
            rng = np.random.default_rng([seed, len(data)])
            for broken in _mutants(data, rng, count):
                suffix = (
                    "".join(Path(name).suffixes)
                    if rng.random() < 0.8
                    else suffixes[rng.integers(len(suffixes))]
                )
                path = folder / f"mutant{suffix}"
                path.write_bytes(broken)
                try:
                    source = open_source(f"{path}{PART.get(name, '')}" if rng.random() < 0.9 else path)
                    rows = sum(batch.num_rows for batch in source.batches())
                    assert rows == source.rows()
                    readable += 1
                    if full or readable % 12 == 0:
                        compare(original, source)
                except DataguardError as error:
                    lines += str(error).count("\n")
                finally:
                    path.unlink()
    assert lines == 0, "an error of several lines"
    return readable


def test_damaged_bytes_through_the_door(tmp_path, flights_january) -> None:
    assert _fuzz(tmp_path, flights(flights_january, 40), 1, 25, full=False) > 50


@pytest.mark.long
def test_many_damaged_bytes_through_the_door(tmp_path, flights_january) -> None:
    assert _fuzz(tmp_path, flights(flights_january, 40), 12, 60, full=True) > 1000
