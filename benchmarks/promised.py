"""Exactly the promised cells: every table of the development data, marked in every format, read by others.

python benchmarks/promised.py [--rows N] [--formats csv,parquet,...] [--files PATTERN]

Each table is written in each format, registered, protected, and original and copy are read without any
of dataguard's readers: by the csv, json and sqlite3 modules, pyarrow and openpyxl. Which cells must have
changed is worked out from the plan in the vault and AES alone. One line for each table and format.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import gzip
import io
import json
import os
import sqlite3
import struct
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

os.environ.setdefault("DATAGUARD_NUMBA_CACHE", "1")
os.environ.setdefault("NUMBA_CACHE_DIR", str(Path.home() / ".cache" / "dataguard" / "kernels"))

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from pyarrow import feather

import dataguard
from dataguard import keys
from dataguard.errors import CapacityError, DataguardError

DATA = Path(os.environ.get("DATAGUARD_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
FOLDERS = ("tables", "records", "sensors", "trajectories")
RECIPIENT = "acme"

Columns = list[Any]
"""The cells of a file: of text and databases lists, of Arrow formats arrays."""


def files() -> list[Path]:
    """Every file of the development data that may be a table."""
    return sorted(
        p for f in FOLDERS for p in (DATA / f).glob("*") if p.name.endswith((".csv.gz", ".parquet"))
    )


@dataclass(frozen=True)
class Outcome:
    """What became of one table in one format."""

    name: str
    form: str
    rows: int
    columns: int
    outcome: str
    slots: int = 0
    changed: int = 0
    seconds: float = 0.0

    def line(self) -> str:
        return (
            f"{self.name:<44} {self.form:<8} {self.rows:>9,} {self.columns:>5} {self.slots:>9,} "
            f"{self.changed:>10,} {self.seconds:>6.1f}  {self.outcome}"
        )


# --- writing a table in a format ------------------------------------------------------------------


def text_head(path: Path, rows: int | None) -> bytes:
    """The first records of a compressed CSV file, byte for byte."""
    data = gzip.decompress(path.read_bytes())
    if rows is None:
        return data
    lines = data.decode("latin-1").splitlines(keepends=True)
    reader = csv.reader(iter(lines))
    for _, _ in zip(range(rows + 1), reader, strict=False):
        pass
    return "".join(lines[: reader.line_num]).encode("latin-1")


def as_table(path: Path, rows: int | None) -> pa.Table:
    """The first rows, typed."""
    if path.suffix == ".parquet":
        table = pq.read_table(path)
        return table if rows is None else table.slice(0, rows)
    options, data = pacsv.ParseOptions(newlines_in_values=True), text_head(path, rows)
    with contextlib.suppress(pa.ArrowInvalid):
        table = pacsv.read_csv(io.BytesIO(data), parse_options=options)
        if len(set(table.column_names)) == table.num_columns:
            return table
    bare = pacsv.ReadOptions(
        skip_rows=1, autogenerate_column_names=True
    )  # no header, or one for fewer columns
    return pacsv.read_csv(io.BytesIO(data), bare, options)


def plain(table: pa.Table) -> pa.Table:
    """Without columns that text cannot hold."""
    keep = [f.name for f in table.schema if not pa.types.is_nested(f.type)]
    return table.select(keep)


def write_csv(path: Path, rows: int | None, out: Path) -> None:
    if path.suffix == ".parquet":
        pacsv.write_csv(plain(as_table(path, rows)), out)
    else:
        out.write_bytes(text_head(path, rows))


def write_jsonl(path: Path, rows: int | None, out: Path) -> None:
    table = as_table(path, rows)
    with out.open("w") as file:
        for batch in table.to_batches(max_chunksize=4096):
            for row in batch.to_pylist():
                file.write(json.dumps(row, default=str, ensure_ascii=False).replace("NaN", "null") + "\n")


def write_xlsx(path: Path, rows: int | None, out: Path) -> None:
    import openpyxl

    table = plain(as_table(path, rows))
    book = openpyxl.Workbook(write_only=True)
    sheet = book.create_sheet("data")
    sheet.append([str(n) for n in table.column_names])
    for row in zip(*(table.column(i).to_pylist() for i in range(table.num_columns)), strict=True):
        sheet.append([v.replace(tzinfo=None) if hasattr(v, "tzinfo") else _cell(v) for v in row])
    book.save(out)


def _cell(value: Any) -> Any:
    if isinstance(value, str):
        return "".join(c for c in value if c.isprintable() or c in "\n\t") or None
    return None if isinstance(value, float) and value != value else value  # noqa: PLR0124 - nan


def write_sqlite(path: Path, rows: int | None, out: Path) -> None:
    table = plain(as_table(path, rows))
    marks = ", ".join("?" * table.num_columns)
    listed = ", ".join(f'"c{i}"' for i in range(table.num_columns))
    with contextlib.closing(sqlite3.connect(out)) as con:
        con.execute(f"CREATE TABLE data ({listed})")
        columns = [
            [v if isinstance(v, int | float | str | None) else str(v) for v in c.to_pylist()] for c in table
        ]
        con.executemany(f"INSERT INTO data VALUES ({marks})", zip(*columns, strict=True))
        con.commit()


WRITERS: dict[str, Callable[[Path, int | None, Path], None]] = {
    "csv": write_csv,
    "parquet": lambda path, rows, out: pq.write_table(as_table(path, rows), out, row_group_size=50_000),
    "jsonl": write_jsonl,
    "feather": lambda path, rows, out: feather.write_feather(as_table(path, rows), str(out)),
    "xlsx": write_xlsx,
    "sqlite": write_sqlite,
}
HEAVY = {"xlsx": 20_000, "sqlite": 100_000}
"""Most rows of a whole file in these formats."""


# --- reading it without dataguard -------------------------------------------------------------------


def read_csv(path: Path, rows: int, columns: int) -> Columns:
    text = path.read_bytes().decode("utf-8-sig", "surrogateescape")
    csv.field_size_limit(1 << 30)
    for separator in (",", "\t", ";", "|"):
        found = [r for r in csv.reader(io.StringIO(text, newline=""), delimiter=separator) if r][-rows:]
        if len(found) == rows and all(len(r) == columns for r in found):
            return [list(c) for c in zip(*found, strict=True)]
    raise AssertionError(f"the csv module sees other rows in {path.name}")


def read_jsonl(path: Path, rows: int, _columns: int) -> Columns:
    """Cells as they are written: numbers stay text."""
    names: dict[str, list[Any]] = {}
    with path.open(encoding="utf-8") as file:
        lines = [
            json.loads(line, parse_float=lambda t: ("n", t), parse_int=lambda t: ("n", t)) for line in file
        ]
    assert len(lines) == rows
    for line in lines:
        for name in line:
            names.setdefault(name, [])
    for name, cells in names.items():
        cells.extend(line.get(name, "absent") for line in lines)
    return list(names.values())


def read_xlsx(path: Path, rows: int, columns: int) -> Columns:
    import openpyxl

    book = openpyxl.load_workbook(path, read_only=True)
    values = list(book["data"].iter_rows(values_only=True))[1 : rows + 1]
    book.close()
    values += [()] * (rows - len(values))  # openpyxl leaves out what is empty at the end of rows and sheet
    return [list(c) for c in zip(*((*r, *[None] * (columns - len(r))) for r in values), strict=True)]


def read_sqlite(path: Path, rows: int, _columns: int) -> Columns:
    with contextlib.closing(sqlite3.connect(path)) as con:
        found = con.execute("SELECT * FROM data ORDER BY rowid").fetchall()
    assert len(found) == rows
    return [list(c) for c in zip(*found, strict=True)]


READERS: dict[str, Callable[[Path, int, int], Columns]] = {
    "csv": read_csv,
    "parquet": lambda path, *_: list(pq.read_table(path).columns),
    "jsonl": read_jsonl,
    "feather": lambda path, *_: list(feather.read_table(path).columns),
    "xlsx": read_xlsx,
    "sqlite": read_sqlite,
}


# --- what must have changed -------------------------------------------------------------------------


def promised(vault_folder: Path, mark_key: bytes) -> tuple[dict[str, np.ndarray], int, list[str]]:
    """Work out, from the plan on disk and AES alone, where each row of each marked column takes its cell from."""
    folder = next((vault_folder / "datasets").glob("*/*"))
    ids = pq.read_table(folder / "ids.parquet").column("id").to_numpy()
    assert np.array_equal(ids, np.arange(len(ids))), "first version: ids are positions"
    plan = pq.read_table(folder / "plan.parquet")
    meta = json.loads(plan.schema.metadata[b"dataguard"])
    group, low, high = (plan.column(f"place.{n}").to_numpy() for n in meta["place_names"])
    channel = bytes.fromhex(meta["channel"])
    encryptor = Cipher(algorithms.AES(mark_key), modes.ECB()).encryptor()
    levels = np.array(meta["law"]["levels"])[plan.column("level").to_numpy()]
    blocks = encryptor.update(
        b"".join(struct.pack("<Q", a) + channel for a in plan.column("address").to_pylist())
    )
    drawn = np.frombuffer(blocks, "<u2")[::8].astype(np.int64)
    symbol = drawn < levels
    sources: dict[str, np.ndarray] = {}
    for number, members in meta["legend"]["groups"].items():
        chosen = symbol & (group == int(number))
        index = np.arange(len(ids))
        index[low[chosen]], index[high[chosen]] = high[chosen], low[chosen]
        touched = np.concatenate([low[group == int(number)], high[group == int(number)]])
        assert len(np.unique(touched)) == len(touched), "a cell in two slots"
        for name in members:
            assert name not in sources, "a column in two groups"
            sources[name] = index
    return sources, len(plan), list(meta["legend"]["facts"]["columns"])


def check(
    original: Columns, copy: Columns, names: list[str], sources: dict[str, np.ndarray]
) -> tuple[int, np.ndarray]:
    """Check that the copy is the original with the promised exchanges; return how many cells differ, and the rows."""
    assert len(original) == len(copy) == len(names), (len(original), len(copy), len(names))
    changed, rows = 0, np.zeros(len(original[0]), bool)
    for name, a, b in zip(names, original, copy, strict=True):
        index = sources.get(name, np.arange(len(a)))
        differs = _arrow(a, b, index, name) if isinstance(a, pa.ChunkedArray) else _lists(a, b, index, name)
        assert set(np.flatnonzero(differs)) <= set(np.flatnonzero(index != np.arange(len(a))))
        changed += int(differs.sum())
        rows |= differs
    return changed, rows


def _lists(a: list[Any], b: list[Any], index: np.ndarray, name: str) -> np.ndarray:
    wanted = [a[i] for i in index.tolist()]
    assert [(type(x), x) for x in wanted] == [(type(x), x) for x in b], name
    assert sorted(map(repr, a)) == sorted(map(repr, b)), name
    return np.array([x != y for x, y in zip(a, b, strict=True)])


def _arrow(a: pa.ChunkedArray, b: pa.ChunkedArray, index: np.ndarray, name: str) -> np.ndarray:
    assert a.type == b.type, name
    x, y = _bits(a), _bits(b)
    moved = np.array_equal(index, np.arange(len(a)))
    wanted = x if moved else x.take(pa.array(index))
    assert wanted.equals(y), name
    if moved:
        return np.zeros(len(a), bool)
    both = pa.concat_arrays([x, y]).dictionary_encode()
    codes = both.indices.fill_null(-1).to_numpy(zero_copy_only=False)
    different: np.ndarray = codes[: len(x)] != codes[len(x) :]
    return different


def _bits(column: pa.ChunkedArray) -> Any:
    """Floats as their bits, so that nan equals itself and -0.0 is not 0.0."""
    array = column.combine_chunks()
    array = pa.concat_arrays(array.chunks) if isinstance(array, pa.ChunkedArray) else array
    wide = {pa.float64(): pa.int64(), pa.float32(): pa.int32(), pa.float16(): pa.int16()}
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    return array.view(wide[array.type]) if array.type in wide else array


def check_bytes(original: Path, copy: Path, rows: np.ndarray) -> None:
    """Check that text kept its bytes: the same ones, and on lines without a changed cell in the same places."""
    a, b = original.read_bytes(), copy.read_bytes()
    counts = [np.bincount(np.frombuffer(data, np.uint8), minlength=256) for data in (a, b)]
    assert np.array_equal(*counts), "other bytes"
    lines = a.split(b"\n"), b.split(b"\n")
    assert len(lines[0]) == len(lines[1])
    body = len(a.rstrip(b"\r\n").split(b"\n"))
    if body - len(rows) in (0, 1):  # a line is a row
        first = body - len(rows)
        assert lines[0][:first] == lines[1][:first]
        for number in np.flatnonzero(~rows).tolist():
            assert lines[0][first + number] == lines[1][first + number], number


def seeded(seed: int = 1) -> Callable[[int], bytes]:
    """Entropy that is the same each time."""
    return np.random.default_rng(seed).bytes


@contextlib.contextmanager
def fixed_vault(folder: Path) -> Iterator[Any]:
    """A vault whose keys are the same each time."""
    with mock.patch("secrets.token_bytes", seeded()), dataguard.Vault.create(folder) as vault:
        yield vault


def one_line(error: DataguardError) -> str:
    """A refusal, which must be one line, without the name of a temporary file."""
    assert "\n" not in str(error)
    return error.what[:110]


def examine(path: Path, form: str, rows: int | None, work: Path) -> Outcome:
    """Mark one table in one format and check every cell."""
    started = time.perf_counter()
    limit = min(rows or 1 << 60, HEAVY.get(form, 1 << 60))
    original, copy = work / f"original.{form}", work / f"copy.{form}"
    WRITERS[form](path, None if limit == 1 << 60 else limit, original)
    name = str(path.relative_to(DATA))
    with fixed_vault(work / "vault") as vault:
        try:
            made = vault.register(original, name="data")
        except CapacityError as error:
            return Outcome(name, form, 0, 0, f"refused: {one_line(error)}")
        try:
            done = vault.protect("data", recipient=RECIPIENT, out=copy)
        except CapacityError as error:
            return Outcome(name, form, made.rows, made.columns, f"no copy: {one_line(error)}")
        lineage = vault.ledger_entries()[1].payload["lineage"]
        names = vault.ledger_entries()[1].payload["columns"]
        key = keys.mark_key(vault._parts.master, lineage, RECIPIENT, 1)  # noqa: SLF001 - the one secret needed
    sources, slots, _ = promised(work / "vault", key)
    assert slots == done.slots_marked
    a, b = (READERS[form](p, made.rows, made.columns) for p in (original, copy))
    if form == "sqlite":
        names = [f"c{i}" for i in range(len(names))]
    changed, touched = check(a, b, names, sources)
    if form in ("csv", "jsonl"):
        check_bytes(original, copy, touched)
    return Outcome(
        name, form, made.rows, made.columns, "exact", slots, changed, time.perf_counter() - started
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, help="at most so many rows of each file")
    parser.add_argument("--formats", default=",".join(WRITERS))
    parser.add_argument("--files", default="", help="only names that hold this")
    options = parser.parse_args()
    print(
        f"{'table':<44} {'format':<8} {'rows':>9} {'cols':>5} {'slots':>9} {'changed':>10} {'s':>6}  outcome"
    )
    failed = 0
    for path in files():
        if options.files not in path.name:
            continue
        for form in options.formats.split(","):
            with tempfile.TemporaryDirectory() as work:
                try:
                    print(examine(path, form, options.rows, Path(work)).line(), flush=True)
                except (AssertionError, DataguardError, pa.ArrowException) as error:
                    failed += 1
                    print(
                        f"{path.name:<44} {form:<8} FAILED {type(error).__name__}: {error}"[:300], flush=True
                    )
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
