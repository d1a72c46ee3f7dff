"""Parquet files that are damaged, or out to do harm; and how much memory honest ones take."""

import datetime as dt
import decimal
import json
import os
import subprocess
import sys
from pathlib import Path

import duckdb
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dataguard.errors import DecodeError
from dataguard.formats import parquet, parquet_footer
from dataguard.formats.edits import Moves
from dataguard.formats.moved import gather
from dataguard.formats.parquet import ParquetSource, rewrite_parquet
from dataguard.formats.parquet_footer import read_content
from dataguard.formats.thrift import read_struct, write_struct

SRC = Path(__file__).resolve().parents[1] / "src"
ROWS = 6000
ORIGINS = np.array([0, 1, 1500, 5000, 5999])
SWAP = (ORIGINS, ORIGINS[::-1].copy())


def table():
    number = np.arange(ROWS)
    price = [decimal.Decimal(int(i)) / 100 if i % 9 else None for i in number]
    return pa.table(
        {
            "tiny": pa.array(number % 200, pa.uint8()),
            "int": pa.array(number, pa.int32(), mask=number % 7 == 3),
            "unsigned": pa.array(number, pa.uint32()),
            "long": pa.array(number * 10**12),
            "float": pa.array(number / 3, pa.float32()),
            "double": pa.array(number / 3),
            "text": pa.array([f"値{i % 40}" if i % 5 else None for i in number]),
            "free": pa.array([f"{i}·{i * 7919 % 10007}" for i in number]),
            "bin": pa.array([bytes([i % 256, 0]) for i in number]),
            "dec4": pa.array(price, pa.decimal128(7, 2)),
            "dec8": pa.array(price, pa.decimal128(16, 2)),
            "dec16": pa.array(price, pa.decimal128(30, 2)),
            "stamp": pa.array(number * 10**6 + 1, pa.timestamp("us")),
            "zoned": pa.array(number * 10**6 + 1, pa.timestamp("us", "UTC")),
            "nanos": pa.array(number * 10**9 + 1, pa.timestamp("ns")),
            "day": pa.array([dt.date(2020, 1, 1) + dt.timedelta(int(i) % 999) for i in number]),
            "clock": pa.array(number * 1000, pa.time64("us")),
            "flag": pa.array(number % 3 == 0),
            "list": pa.array([[int(i), None] for i in number]),
        }
    )


def rewritten(source, moves, path):
    moved = gather(source, moves)
    with path.open("w+b") as out:
        return moved.changed, rewrite_parquet(source, moved, out)


def in_child(code, *arguments, timeout=120):
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=timeout,
        env={**os.environ, "PYTHONPATH": str(SRC)},
    )
    assert done.returncode == 0, (done.returncode, done.stdout[-2000:], done.stderr[-2000:])
    return json.loads(done.stdout.splitlines()[-1])


STREAM = """
import json, sys
from pathlib import Path
import numpy as np, pyarrow as pa
from dataguard.formats.edits import Moves
from dataguard.formats.moved import gather, moved_batches
from dataguard.formats.parquet import ParquetSource, rewrite_parquet
source = ParquetSource(Path(sys.argv[1]), "x")
rows = sum(batch.num_rows for batch in source.batches())
streamed = pa.default_memory_pool().max_memory()
moves = [Moves("x", np.array([0, 999_999]), np.array([999_999, 0]))]
changed, batches = moved_batches(source, moves)
assert sum(batch.num_rows for batch in batches) == rows
moved = pa.default_memory_pool().max_memory()
with open(sys.argv[2], "w+b") as out:
    rewrite_parquet(source, gather(source, moves), out)
print(json.dumps([rows, streamed, moved, pa.default_memory_pool().max_memory()]))
"""


def test_streaming_holds_pages_not_row_groups(tmp_path):
    """A row group of 1,000,000 rows x 4 columns is 38 MB of Arrow data."""
    rng = np.random.default_rng(0)
    whole = pa.table({name: rng.integers(0, 1 << 60, 1_000_000) for name in "xyzw"})
    path = tmp_path / "in.parquet"
    pq.write_table(whole, path, row_group_size=1_000_000, use_dictionary=False, compression="NONE")
    rows, streamed, moved, rewrote = in_child(STREAM, path, tmp_path / "out.parquet")
    assert rows == 1_000_000
    assert streamed < 16e6
    assert moved < 16e6
    assert rewrote < 60e6  # one column of the row group, as it is, as an index and encoded


def test_wide_rows_come_in_small_batches(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet, "_BATCH_BYTES", 1 << 24)
    path = tmp_path / "in.parquet"
    wide = pa.table({"x": [bytes(100_000)] * 600})
    pq.write_table(wide, path, use_dictionary=False)
    sizes = [batch.nbytes for batch in ParquetSource(path, "x").batches()]
    assert len(sizes) >= 4
    assert max(sizes) < 18e6


# --- hostile files ------------------------------------------------------------------------------


def with_footer(path, change):
    """Change the FileMetaData of a file."""
    raw = path.read_bytes()
    with path.open("rb") as file:
        content, start = read_content(file, "")
    change(content)
    footer = write_struct(content)
    path.write_bytes(raw[:start] + footer + len(footer).to_bytes(4, "little") + b"PAR1")


def small(path):
    pq.write_table(table().select(["int", "text", "list"]).slice(0, 100), path, row_group_size=50)
    return path


def meta(content, group=0, column=0):
    return content[4][group][1][column][3]


LIES = {
    "offset": (lambda c: meta(c).put(9, 1 << 40), "lie outside their column chunk"),
    "negative offset": (lambda c: meta(c).put(9, -5), "lies outside the file"),
    "size": (lambda c: meta(c).put(7, 1 << 40), "lies outside the file"),
    "negative size": (lambda c: meta(c).put(7, -1), "lie outside their column chunk"),
    "before the file": (lambda c: (meta(c).put(9, 2), meta(c).pop(11, 0)), "lies outside the file"),
    "overlap": (lambda c: (meta(c, 0, 1).put(9, meta(c)[9]), meta(c, 0, 1).pop(11, 0)), "overlap"),
    "rows": (lambda c: c.put(3, 99), "other rows than the file"),
    "group rows": (
        lambda c: (c[4][0].put(3, 1 << 50), c.put(3, (1 << 50) + 50)),
        "other rows than its row group",
    ),
    "negative rows": (lambda c: (c[4][0].put(3, -50), c.put(3, 0)), "other rows"),
    "values": (lambda c: meta(c).put(5, 51), "other rows than its row group"),
    "type": (lambda c: meta(c).put(1, 2, short=True), "not that of 'int'"),
    "unknown type": (lambda c: meta(c).put(1, 77, short=True), "damaged"),
    "codec": (lambda c: meta(c).put(4, 77, short=True), "unknown codec"),
    "negative codec": (lambda c: meta(c).put(4, -1, short=True), "unknown codec"),
    "encoding": (lambda c: meta(c).__setitem__(2, [5, 9, 6]), "encoded as DELTA_LENGTH"),
    "path": (lambda c: meta(c).__setitem__(3, [b"text"]), "not that of 'int'"),
    "columns": (lambda c: c[4][0][1].pop(), "2 column chunks for 3 columns"),
    "children": (lambda c: c[2][0].put(5, 1 << 30, short=True), "not a tree"),
    "too few children": (lambda c: c[2][0].put(5, 1, short=True), "not a tree"),
    "no children": (lambda c: c[2].clear(), "damaged"),
    "elsewhere": (
        lambda c: (c[4][0][1][0].__setitem__(1, b"/etc/passwd"), c[4][0][1][0].kinds.__setitem__(1, 8)),
        "not that of",
    ),
    "sorted": (
        lambda c: (
            c[4][0].__setitem__(4, [read_struct(b"\x15\x08\x12\x12\x00")[0]]),
            c[4][0].kinds.__setitem__(4, 9 | 12 << 4),
        ),
        "sorted by a column that is not there",
    ),
    "nothing": (lambda c: None, ""),
}


@pytest.mark.parametrize("lie", LIES)
def test_footers_that_contradict_themselves(tmp_path, lie):
    change, message = LIES[lie]
    path = small(tmp_path / "in.parquet")
    with_footer(path, change)
    if not message:
        assert ParquetSource(path, "x").rows() == 100
        return
    with pytest.raises(DecodeError, match=message) as caught:
        ParquetSource(path, "x")
    assert "\n" not in str(caught.value)
    assert "in.parquet: damaged or truncated Parquet (" in str(caught.value)


def test_a_schema_that_nests_without_end(tmp_path):
    path = small(tmp_path / "in.parquet")

    def deepen(content):
        element = content[2][-1]
        group = read_struct(write_struct(content[2][0]))[0]
        group.put(5, 1, short=True)
        content[2][1:] = [group] * 100_000 + [element]
        content[2][0].put(5, 1, short=True)

    with_footer(path, deepen)
    with pytest.raises(DecodeError, match="not a tree"):
        ParquetSource(path, "x")


def page_header(kind, unpacked, packed, values):
    """A PageHeader of a data page (0) or a dictionary page (2)."""
    head = read_struct(b"\x15\x00\x15\x00\x15\x00\x00")[0]
    for number, value in ((1, kind), (2, unpacked), (3, packed)):
        head.put(number, value, short=True)
    details = read_struct(b"\x15\x00\x15\x00\x15\x06\x15\x06\x00")[0]
    details.put(1, values, short=True)
    head[{0: 5, 2: 7}[kind]] = details
    head.kinds[{0: 5, 2: 7}[kind]] = 12
    return write_struct(head)


PAGES = {
    "past the chunk": (page_header(0, 200, 1 << 30, 100), "runs past its column chunk"),
    "negative": (page_header(0, 200, -1, 100), "runs past its column chunk"),
    "huge": (page_header(0, (1 << 31) - 1, 100, 100), "unpacks from 100 to 2,147,483,647 bytes"),
    "too many values": (page_header(0, 200, 100, 1 << 30), "holds other values than the footer says"),
    "dictionary of nothing": (page_header(2, 10, 10, 1 << 30), "holds more values than bits"),
    "no page": (b"\x00", "has no header"),
    "list for a number": (b"\x19\x0c\x15\x00\x15\x00\x00", "has no header"),
    "not thrift": (b"\xff" * 40, "damaged"),
}


@pytest.mark.parametrize("case", PAGES)
def test_pages_that_promise_too_much(tmp_path, case):
    header, message = PAGES[case]
    path = tmp_path / "in.parquet"
    pq.write_table(
        pa.table({"x": np.arange(100), "y": np.arange(100)}), path, compression="NONE", use_dictionary=False
    )
    raw = bytearray(path.read_bytes())
    raw[4 : 4 + len(header)] = header
    path.write_bytes(raw)
    source = ParquetSource(path, "x")
    assert sum(batch.num_rows for batch in source.batches(["y"])) == 100  # the other column is fine
    for read in (
        lambda: list(source.batches(["x"])),
        source.table,
        lambda: rewritten(source, [], tmp_path / "out"),
    ):
        with pytest.raises(DecodeError, match=message) as caught:
            read()
        assert "\n" not in str(caught.value)


def test_damaged_indexes_are_one_line(tmp_path):
    path = tmp_path / "in.parquet"
    pq.write_table(table(), path, write_page_index=True)
    raw = path.read_bytes()
    for field, value in ((4, 1 << 40), (6, 1 << 40), (5, 3), (7, (1 << 31) - 1)):
        path.write_bytes(raw)
        with_footer(path, lambda c, f=field, v=value: c[4][0][1][0].put(f, v, short=f in {5, 7}))
        with pytest.raises(DecodeError, match="damaged or truncated Parquet"):
            rewritten(ParquetSource(path, "x"), [Moves("long", *SWAP)], tmp_path / "out")


def test_bombs_of_constant_columns(tmp_path):
    path = tmp_path / "in.parquet"
    with pq.ParquetWriter(path, pa.schema([("x", pa.int64())]), compression="zstd") as writer:
        constant = pa.table({"x": pa.array(np.zeros(2_000_000, np.int64))})
        for _ in range(80):
            writer.write_table(constant, row_group_size=2_000_000)
    assert path.stat().st_size < 1e6
    with pytest.raises(DecodeError, match=r"claims 160,000,000 rows in [0-9,]+ bytes"):
        ParquetSource(path, "x")


ENTRY = """
import json, resource, sys
from pathlib import Path
import pyarrow as pa
from dataguard.errors import DecodeError
from dataguard.formats import parquet, parquet_footer
from dataguard.formats.parquet import ParquetSource
parquet._WORST_BYTES, parquet_footer._FREE_BYTES = 1 << 26, 1 << 26
source = ParquetSource(Path(sys.argv[1]), "x")
sizes = [batch.num_rows for batch in source.batches()]
try:
    source.table()
    message = ""
except DecodeError as error:
    message = str(error)
print(json.dumps([sum(sizes), max(sizes), pa.default_memory_pool().max_memory(), message]))
"""


def test_one_long_text_named_in_every_row(tmp_path):
    """2,000 rows that name one entry of 200 kB: as text 400 MB, where 64 MiB are allowed here."""
    path = tmp_path / "in.parquet"
    long = pa.DictionaryArray.from_arrays(pa.array(np.zeros(2_000, np.int32)), [os.urandom(100_000).hex()])
    pq.write_table(pa.table({"x": long}), path, store_schema=False)
    assert path.stat().st_size < 0.25e6
    rows, largest, memory, message = in_child(ENTRY, path)
    assert rows == 2_000
    assert largest < 400
    assert memory < 350e6
    assert "unpacks from" in message
    assert "choose fewer columns" in message


def test_long_entries_that_few_rows_name_cost_nothing(tmp_path):
    path = tmp_path / "in.parquet"
    texts = [f"{i % 1000}" for i in range(200_000)]
    texts[7] = "x" * 100_000
    pq.write_table(pa.table({"x": texts, "y": texts}), path, store_schema=False)
    source = ParquetSource(path, "x")
    assert source.table().to_pydict() == {"x": texts, "y": texts}
    # 64 MiB if all rows of a batch named both: 335 rows.
    assert max(batch.num_rows for batch in source.batches()) > 300


FUZZ = """
import json, random, resource, sys, time
from pathlib import Path
import numpy as np
from dataguard.errors import DataguardError
from dataguard.formats.edits import Moves
from dataguard.formats.moved import gather
from dataguard.formats.parquet import ParquetSource, rewrite_parquet
resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30))
folder, path = Path(sys.argv[1]), Path(sys.argv[2])
originals = [p.read_bytes() for p in sorted(folder.glob("*.parquet"))]
rng = random.Random(5)
refused, slowest = [], 0.0
for case in range(int(sys.argv[3])):
    data = bytearray(rng.choice(originals))
    start = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    where = rng.randrange(start, len(data) - 8) if rng.random() < 0.6 else rng.randrange(4, len(data) - 8)
    kind = rng.randrange(4)
    if kind < 2:
        data[where] ^= 1 << rng.randrange(8)
    elif kind == 2:
        data[where : where + rng.randrange(1, 12)] = bytes(rng.choice([0, 127, 128, 255]) for _ in range(6))
    else:
        del data[where : rng.choice([where + 1, len(data) - 8, len(data)])]
    if where >= start and kind >= 2 and len(data) - 8 > start:
        data[-8:-4] = (len(data) - 8 - start).to_bytes(4, "little")
    path.write_bytes(data)
    began = time.monotonic()
    try:
        source = ParquetSource(path, "x")
        assert sum(batch.num_rows for batch in source.batches()) == source.rows()
        with open(str(path) + ".out", "w+b") as out:
            moves = [Moves("int", np.array([0, 9]), np.array([9, 0]))]
            rewrite_parquet(source, gather(source, moves), out)
    except DataguardError as error:
        refused.append(str(error))
    slowest = max(slowest, time.monotonic() - began)
status = Path("/proc/self/status").read_text()  # ru_maxrss would count the parent before the exec
peak = int(status.split("VmHWM:")[1].split()[0])
print(json.dumps([len(refused), sum("\\n" in line for line in refused), slowest, peak]))
"""


def test_damage_anywhere_is_one_line_and_no_crash(tmp_path):
    """In a process of its own, since libraries below have ended theirs on such files."""
    folder = tmp_path / "originals"
    folder.mkdir()
    few = table().slice(0, 300)
    con = duckdb.connect()
    con.register("source", few)
    con.execute(f"copy source to '{folder}/duck.parquet' (format parquet, parquet_version v2)")
    pl.from_arrow(few).write_parquet(folder / "polars.parquet", row_group_size=100)
    pq.write_table(few, folder / "arrow.parquet", row_group_size=100, write_page_index=True)
    pq.write_table(few, folder / "arrow2.parquet", compression="gzip", data_page_version="2.0")
    cases = 500
    refused, lines, slowest, peak = in_child(FUZZ, folder, tmp_path / "x.parquet", cases)
    assert cases // 2 < refused < cases
    assert lines == 0
    assert slowest < 20
    assert peak < 600_000  # kB


def test_truncation_at_every_place(tmp_path):
    raw = small(tmp_path / "in.parquet").read_bytes()
    path = tmp_path / "cut.parquet"
    for length in [*range(40), *range(40, len(raw) - 1, 37), len(raw) - 1]:
        path.write_bytes(raw[:length])
        with pytest.raises(DecodeError, match="damaged or truncated"):
            ParquetSource(path, "x")


@pytest.mark.parametrize(
    "data",
    [
        b"\x1c" * 100_000,  # structs in structs
        b"\x19\xfd\xff\xff\xff\xff\xff\xff\xff\x7f",  # a list of 2^62 doubles
        b"\x19\x19" * 50_000,  # lists of lists
        b"\x18\xff\xff\xff\x7f",  # text of 2^28 bytes
        b"\x15" + b"\xff" * 100_000,  # a number without end
        b"\x1b\x01",  # a map
        b"",
        b"\x15",
    ],
)
def test_thrift_that_never_ends(data):
    with pytest.raises(ValueError, match=r"Thrift"):
        read_struct(data)


def test_a_footer_too_large_to_read(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet_footer, "_FOOTER_BYTES", 100)
    with pytest.raises(DecodeError, match="footer of 0 MiB; write it with fewer"):
        ParquetSource(small(tmp_path / "in.parquet"), "x")
