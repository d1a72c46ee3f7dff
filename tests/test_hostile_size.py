"""Inputs made to fill memory: each ends in one clear line, within the bound the command was given.

In CI 80 MiB at `--memory 512M` (the limits of the readers, 64 MiB a row and 65,536 cells, are those of every
run, so a larger file meets the same checks); the long suite writes 1 GiB each, at 512M and the default 2G.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from conftest import PACKAGED

MIB = 1 << 20
GIB = 1 << 30

CHILD = """
import atexit, resource, sys
def tell():
    with open("/proc/self/status") as status:
        own = next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
    with open(sys.argv.pop(), "w") as out:
        out.write(str(own))
arguments, sys.argv = sys.argv, sys.argv[:-1]
atexit.register(lambda: (setattr(sys, "argv", arguments), tell()))
from dataguard.cli.main import main
main()
"""
"""The peak is read by the process itself: what wait4 reports holds that of the parent before exec, too."""


@dataclass(frozen=True)
class Ended:
    code: int
    out: str
    err: str
    peak: int


def dataguard(folder: Path, *arguments: str | Path) -> Ended:
    """Run a command; peak memory in bytes."""
    told = folder / "peak"
    told.unlink(missing_ok=True)
    done = subprocess.run(
        [sys.executable, "-c", CHILD, *map(str, arguments), str(told)],
        capture_output=True,
        text=True,
        timeout=900,
    )
    return Ended(done.returncode, done.stdout, done.stderr, int(told.read_text()) << 10)


# --- the files -----------------------------------------------------------------------------------


def fill(file: IO[bytes], piece: bytes, size: int) -> None:
    block = piece * (MIB // len(piece) + 1)
    for _ in range(-(-size // len(block))):
        file.write(block)


def text(name: str, head: bytes, piece: bytes, tail: bytes = b"") -> tuple[str, Callable[[Path, int], None]]:
    def write(path: Path, size: int) -> None:
        with path.open("wb") as file:
            file.write(head)
            fill(file, piece, size)
            file.write(tail)

    return name, write


def nul(path: Path, size: int) -> None:
    with path.open("wb") as file:
        file.truncate(size)


def long_rows(path: Path, size: int) -> None:
    """Rows just below the longest that is read, behind many short ones."""
    with path.open("wb") as file:
        file.write(b"a,b\n" + b"".join(b"%d,x\n" % i for i in range(200_000)))
        for i in range(size // (59 * MIB)):
            file.write(b"%d," % i)
            fill(file, b"y", 58 * MIB)
            file.write(b"\n")


def gzip_line(path: Path, size: int) -> None:
    with gzip.open(path, "wb", 6) as file:
        file.write(b"a,b\n1,2\n")
        fill(file, b"x", size)


def gzip_rows(path: Path, _size: int) -> None:
    """More than 1 GiB of sound rows in a megabyte, as one member behind the other."""
    member = gzip.compress(b"12,34\n" * (16 * MIB), 6)
    path.write_bytes(gzip.compress(b"a,b\n") + member * 12)


def zstd_rows(path: Path, _size: int) -> None:
    block = b"12,34\n" * (MIB // 4)
    with pa.CompressedOutputStream(str(path), "zstd") as file:
        file.write(b"a,b\n")
        for _ in range(800):
            file.write(block)


def many_keys(path: Path, _size: int) -> None:
    with path.open("wb") as file:
        for start in range(0, 20_000, 500):
            file.write(b"{" + b",".join(b'"k%d":1' % i for i in range(start, start + 500)) + b"}\n")


def one_long_entry(path: Path, _size: int) -> None:
    """A million rows that name one text of 8 MiB: 8 TiB in a file of 5 MB."""
    long = pa.DictionaryArray.from_arrays(pa.array(np.zeros(1_000_000, np.int32)), ["z" * (8 * MIB)])
    table = pa.table({"a": np.arange(1_000_000), "t": long})
    pq.write_table(table, path, store_schema=False)


def claimed_rows(path: Path, _size: int) -> None:
    """160 million rows of one value: run lengths of a few bytes each."""
    schema = pa.schema([("a", pa.int64()), ("b", pa.int64())])
    with pq.ParquetWriter(path, schema, compression="zstd") as out:
        group = pa.table({name: np.zeros(2_000_000, np.int64) for name in "ab"}, schema)
        for _ in range(80):
            out.write_table(group, row_group_size=2_000_000)


def late_texts(path: Path, size: int) -> None:
    """Row groups of one long text each behind a group of short ones."""
    rng = np.random.default_rng(1)
    with pq.ParquetWriter(
        path, pa.schema([("a", pa.int64()), ("t", pa.string())]), use_dictionary=False
    ) as out:
        out.write_table(pa.table({"a": np.arange(200_000), "t": ["x"] * 200_000}))
        for i in range(size // (48 * MIB)):
            out.write_table(pa.table({"a": [i], "t": [rng.bytes(24 * MIB).hex()]}))


_SHEETS = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
_OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_PACKAGE = "http://schemas.openxmlformats.org/package/2006"


def sheet(path: Path, size: int) -> None:
    """A worksheet that unpacks to more than 1 GiB, or to 400 times its size."""

    def relation(kind: str, target: str) -> str:
        return (
            f'<Relationships xmlns="{_PACKAGE}/relationships"><Relationship Id="rId1" Type="{_OFFICE}/{kind}" '
            f'Target="{target}"/></Relationships>'
        )  # fmt: skip

    kind = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet.main+xml"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as book:
        book.writestr(
            "[Content_Types].xml",
            f'<Types xmlns="{_PACKAGE}/content-types"><Override PartName="/xl/workbook.xml" '
            f'ContentType="{kind}"/></Types>',
        )
        book.writestr("_rels/.rels", relation("officeDocument", "xl/workbook.xml"))
        book.writestr(
            "xl/workbook.xml",
            f'<workbook xmlns="{_SHEETS}" xmlns:r="{_OFFICE}"><sheets><sheet name="s" sheetId="1" r:id="rId1"/>'
            "</sheets></workbook>",
        )
        book.writestr("xl/_rels/workbook.xml.rels", relation("worksheet", "worksheets/sheet1.xml"))
        with book.open("xl/worksheets/sheet1.xml", "w", force_zip64=True) as out:
            out.write(f'<worksheet xmlns="{_SHEETS}"><sheetData>'.encode())
            fill(out, b"<row><c><v>1</v></c></row>", size + 64 * MIB)
            out.write(b"</sheetData></worksheet>")


HEADER = b",".join(b"c%d" % i for i in range(1_000_000)) + b"\n"
WIDE = b",".join(b"c%d" % i for i in range(9_999)) + b"\n"
PLAIN = b"12345678901234567890,abcdefghijklmnopqrstuvwxyz0123456789\n"

CASES: dict[str, tuple[tuple[str, Callable[[Path, int], None]], str]] = {
    "one line": (text("line.csv", b"a,b\n1,2\n", b"x"), "the row on line 3 is longer than 64 MiB"),
    "one line, no header": (text("alone.csv", b"", b"x"), "the row on line 1 is longer than 64 MiB"),
    "commas": (text("commas.csv", b"", b","), "the row on line 1 is longer|more than 65536 cells"),
    "a million columns": (text("columns.csv", HEADER, b"1," * 999_999 + b"1\n"), "more than 65536 cells"),
    "quotes": (text("quotes.csv", b"a,b\n", b'"'), "line 2 is longer than 64 MiB"),
    "open quote": (text("open.csv", b'a,b\n1,2\n3,"', b"4,5\n"), "line 3 is longer than 64 MiB"),
    "no UTF-8 at the end": (text("bad.csv", b"a,b\n", PLAIN, b"1,\xff\xfe\n"), r"row \d+ \(line \d+\) is not UTF-8"),
    "UTF-8 cut off at the end": (
        text("cut.csv", "列,値\n".encode(), "東京都千代田区,一二三四五六七八九十\n".encode(), b"1,\xe6\x97"),
        r"row \d+ \(line \d+\) is not UTF-8",
    ),
    "NUL bytes": (("nul.csv", nul), "holds a NUL byte"),
    "newlines": (text("blank.csv", b"", b"\n"), "is empty"),
    "long rows behind short ones": (("rows.csv", long_rows), r"of its rows take up to [\d.]+ GiB"),
    "9,999 columns": (
        text("wide.csv", WIDE, b",".join(b"%d" % (i % 10) for i in range(9_999)) + b"\n"),
        r"4,096 of its rows take up to [\d.]+ GiB",
    ),
    "gzip bomb, one line": (("line.csv.gz", gzip_line), "line 3 is longer than 64 MiB"),
    "gzip bomb, rows": (("rows.csv.gz", gzip_rows), "unpacks to more than 1 GiB and 200 times its size"),
    "zstd bomb, rows": (("rows.csv.zst", zstd_rows), "unpacks to more than 1 GiB and 200 times its size"),
    "JSON line": (text("line.jsonl", b'{"a":1}\n{"a":"', b"x", b'"}\n'), "line 2 is longer than 64 MiB"),
    "JSON nested on one line": (text("deep.jsonl", b'{"a":1}\n', b'{"a":'), "line 2 is longer than 64 MiB"),
    "JSON nested on all lines": (
        text("nested.jsonl", b'{"a":1}\n', b'{"a":' * 99 + b"1" + b"}" * 99 + b"\n"),
        "line 2, byte 32[0-9]: nested deeper than 64",
    ),
    "JSON brackets": (text("array.jsonl", b"", b"["), "line 1 is longer than 64 MiB"),
    "JSON keys": (("keys.jsonl", many_keys), "more than 9,999 different keys"),
    "xlsx bomb": (("bomb.xlsx", sheet), "unpacks to"),
    "Parquet, one long entry": (("entry.parquet", one_long_entry), r"of its rows take up to [\d.]+ GiB"),
    "Parquet, rows claimed": (("claimed.parquet", claimed_rows), "claims 160,000,000 rows in [0-9,]+ bytes"),
    "Parquet, long texts late": (("late.parquet", late_texts), r"of its rows take up to [\d.]+ GiB"),
}  # fmt: skip


@contextlib.contextmanager
def written(name: str, folder: Path, size: int) -> Iterator[Path]:
    """The file of a case, while it is needed: two dozen of a gigabyte would fill a disk."""
    (file, write), _ = CASES[name]
    path = folder / file
    write(path, size)
    try:
        yield path
    finally:
        path.unlink()


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A folder with a vault that holds January's flights, and two small files."""
    folder = tmp_path_factory.mktemp("hostile")
    (folder / "small.csv").write_text("a,b\n1,2\n3,4\n")
    assert dataguard(folder, "init", "--vault", folder / "v").code == 0
    made = dataguard(folder, "register", PACKAGED, "--name", "flights", "--vault", folder / "v")
    assert made.code == 0, made.err
    return folder


def is_one_line(ended: Ended, pattern: str) -> None:
    import re

    last = ended.err.splitlines()[-1]
    assert last.startswith("dataguard: error: "), ended.err
    assert re.search(pattern, last), last
    assert "Traceback" not in ended.err
    assert "Warning" not in ended.err
    assert "; " in last  # what to do


@pytest.mark.slow
def test_a_folder_of_hostile_files_is_scanned_within_the_bound(place, tmp_path):
    """One process meets them all, and goes on behind each: nothing found, some unread."""
    import re

    with contextlib.ExitStack() as stack:
        for name in CASES:
            stack.enter_context(written(name, tmp_path, 80 * MIB))
        (tmp_path / "small.csv").write_text("a,b\n1,2\n3,4\n")
        ended = dataguard(place, "scan", tmp_path, "--vault", place / "v", "--memory", "512M", "--json")
    assert ended.code == 4, ended.err
    results = {Path(line["path"]).name: line for line in map(json.loads, ended.out.splitlines())}
    assert len(results) == len(CASES) + 1
    assert results["small.csv"]["skipped"] is None
    for name, ((file, _), pattern) in CASES.items():
        assert re.search(pattern, results[file]["skipped"] or ""), (name, results[file]["skipped"])
        assert results[file]["matches"] == []
    assert ended.peak <= 512 * MIB, f"{ended.peak >> 20} MiB"


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["one line", "JSON line", "long rows behind short ones", "Parquet, long texts late"]
)
def test_a_hostile_file_ends_a_command_in_one_line(name, place, tmp_path):
    with written(name, tmp_path, 128 * MIB) as path:
        commands = (
            ("compare", path, place / "small.csv"),
            ("compare", place / "small.csv", path),
            ("register", path, "--name", "hostile", "--vault", place / "v"),
        )
        for command in commands:
            ended = dataguard(place, *command, "--memory", "512M")
            assert ended.code == 2, ended.err
            is_one_line(ended, CASES[name][1])
            assert ended.peak <= 512 * MIB, f"{command[0]}: {ended.peak >> 20} MiB"


@pytest.mark.slow
def test_many_rows_against_two_are_compared(place, tmp_path):
    """A sound table far larger than the bound against a file of two rows."""
    path = tmp_path / "many.csv"
    with path.open("wb") as file:
        file.write(b"a,b\n")
        fill(file, b"1,2\n", 4 * MIB)
    for pair in ((path, place / "small.csv"), (place / "small.csv", path)):
        ended = dataguard(place, "compare", *pair, "--memory", "512M", "--json")
        assert ended.code in (0, 1), ended.err
        assert json.loads(ended.out)["schema"] == "dataguard.compare/1"
        assert "Warning" not in ended.err
        assert ended.peak <= 512 * MIB


@pytest.mark.long
@pytest.mark.parametrize("memory", ["512M", "2G"])
@pytest.mark.parametrize("name", CASES)
def test_a_gigabyte_of_it(name, memory, place, tmp_path):
    bound = {"512M": 512 * MIB, "2G": 2 * GIB}[memory]
    with written(name, tmp_path, GIB) as path:
        for command, code in (
            (("compare", path, place / "small.csv"), 2),
            (("register", path, "--name", "hostile", "--vault", place / "v"), 2),
            (("scan", path, "--vault", place / "v"), 4),
        ):
            before = os.times()
            ended = dataguard(place, *command, "--memory", memory)
            after = os.times()
            spent = (
                after.children_user + after.children_system - before.children_user - before.children_system
            )
            print(f"{name} | {command[0]} | {memory} | {ended.peak >> 20} MiB | {spent:.1f} s CPU")
            assert ended.code == code, ended.err
            if code == 2:
                is_one_line(ended, CASES[name][1])
            assert ended.peak <= bound, f"{command[0]}: {ended.peak >> 20} MiB"
