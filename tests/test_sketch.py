"""Table sketches: a format that withstands damage, and a filter that never drops a leak."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import shared
from dataguard.errors import DecodeError, SchemeMismatch
from dataguard.fingerprints.sketch import overlap, parse_sketch, sketch_table
from dataguard.values import canonical_table, mix64

TABLE = pa.table({
    "n": [3, 1, None, 3, 7],
    "名前": ["a", "b", "ａ", None, "c"],
    "empty": pa.array([None] * 5, pa.int64()),
})  # fmt: skip
SKETCH = sketch_table(canonical_table(TABLE))


def read(name: str) -> pa.Table:
    path = shared(f"tables/{name}")
    return pq.read_table(path) if path.suffix == ".parquet" else pyarrow.csv.read_csv(path)


def test_a_sketch_reads_back() -> None:
    found = parse_sketch(SKETCH)
    assert found.rows == 5
    assert [(c.name, c.kind, c.distinct) for c in found.columns] == [
        ("n", "number", 3), ("名前", "text", 3), ("empty", "empty", 0),
    ]  # fmt: skip
    keys = np.unique(canonical_table(TABLE).columns[0].key)[1:]
    assert found.columns[0].hashes.tolist() == sorted(mix64(keys ^ np.uint64(0x6467736B00000001)).tolist())


def test_row_order_and_repetition_do_not_matter() -> None:
    other = sketch_table(canonical_table(TABLE.take(pa.array([4, 2, 0, 1, 3]))))
    assert other == SKETCH


def test_large_columns_keep_the_smallest_hashes() -> None:
    table = canonical_table(pa.table({"x": np.arange(5000)}))
    column = parse_sketch(sketch_table(table)).columns[0]
    hashes = np.sort(mix64(table.columns[0].key ^ np.uint64(0x6467736B00000001)))
    assert column.distinct == 5000
    assert column.hashes.tolist() == hashes[:256].tolist()


@pytest.mark.parametrize("cut", range(len(SKETCH)))
def test_truncated_sketches_are_refused(cut: int) -> None:
    with pytest.raises((DecodeError, SchemeMismatch)):
        parse_sketch(SKETCH[:cut])


def test_foreign_and_future_sketches_are_refused() -> None:
    with pytest.raises(SchemeMismatch):
        parse_sketch(b"XXXX" + SKETCH[4:])
    with pytest.raises(SchemeMismatch, match="version 9"):
        parse_sketch(SKETCH[:4] + b"\x09\x00" + SKETCH[6:])
    with pytest.raises(DecodeError):
        parse_sketch(SKETCH + b"\x00")


@settings(max_examples=300, deadline=None)
@given(st.integers(6, len(SKETCH) - 1), st.binary(min_size=1, max_size=9))
def test_damaged_sketches_read_or_are_refused(at: int, patch: bytes) -> None:
    data = (SKETCH[:at] + patch + SKETCH[at + len(patch) :])[: len(SKETCH)]
    try:
        parse_sketch(data)
    except (DecodeError, SchemeMismatch):
        return
    assert len(data) == len(SKETCH)


NAMES = ["covertype_first30k.csv.gz", "diamonds.csv.gz", "ai4i2020.csv.gz", "online_retail.parquet"]


@pytest.mark.parametrize("name", NAMES)
def test_no_leak_of_100_rows_is_dismissed(name: str) -> None:
    table = read(name)
    whole = sketch_table(canonical_table(table))
    rng = np.random.default_rng(1)
    for _ in range(5):
        start = rng.integers(len(table) - 100)
        for rows in (rng.choice(len(table), 100, replace=False), np.arange(start, start + 100)):
            names = rng.choice(table.column_names, max(2, len(table.column_names) // 2), replace=False)
            part = table.select([str(n) for n in names]).take(pa.array(rows))
            sketch = sketch_table(canonical_table(part))
            assert overlap(whole, sketch) > 0.5
            assert overlap(sketch, whole) > 0.5


def test_a_dataset_within_a_large_mixture_is_kept() -> None:
    table = read("diamonds.csv.gz").select(["carat", "price"])
    mixture = pa.concat_tables([table.slice(0, 300), pa.table({
        "carat": np.arange(30_000) + 0.123, "price": np.arange(30_000) + 10_000_000,
    })])  # fmt: skip
    part = sketch_table(canonical_table(table.slice(0, 300)))
    assert overlap(part, sketch_table(canonical_table(mixture))) > 0


def test_tables_without_common_values_are_dismissed() -> None:
    a = sketch_table(canonical_table(pa.table({"x": np.arange(200), "y": [f"a{i}" for i in range(200)]})))
    b = sketch_table(
        canonical_table(pa.table({"x": np.arange(200) + 5000, "y": [f"b{i}" for i in range(200)]}))
    )
    assert overlap(a, b) == 0.0
    assert overlap(a, a) == 1.0
    nothing = sketch_table(canonical_table(pa.table({})))
    assert overlap(a, nothing) == overlap(nothing, a) == 0.0
