"""Canonical columns against canonical cells, one by one."""

from __future__ import annotations

import dataclasses
import datetime as dt
import itertools
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataguard.cells import BIG, NULL, NUMBER, TEXT, TIME, Cell, canonical_cell, cell_bytes, row_bytes
from dataguard.errors import EvidenceError
from dataguard.values import CanonicalTable, canonical_column, canonical_table, encode_rows

TEXTS = [
    "517", "517.0", "５１７", " 517 ", "+517", "NA", "", "null", "2013-01-01", "2013-01-01 00:00:00", "x", "Ｘ",
    "9007199254740993", "1e400", "-0", "0", "0.1", ".1", "1e-1", "123456789012345678901", "2013-13-01", "true", "inf",
    "カナ", "ｶﾅ", "a\u3000", "1.5e3", "1500", None,
]  # fmt: skip


def twin(column: pa.ChunkedArray) -> list[Cell]:
    return [canonical_cell(v) for v in column.to_pylist()]


def check(array: pa.Array, cells: list[Cell] | None = None) -> None:
    column = canonical_column(array)
    cells = twin(column.source) if cells is None else cells
    assert column.cells(range(len(column))) == cells
    assert [c.tag for c in cells] == column.tag.tolist()
    for (i, a), (j, b) in itertools.combinations(enumerate(cells), 2):
        assert (a == b) == (column.key[i] == column.key[j]), (a, b)
        same = column.equals(np.array([i]), column, np.array([j]))
        assert bool(same[0]) == (a == b and a.tag != NULL)
    assert ((column.key == 0) == (column.tag == NULL)).all()
    data, offsets = encode_rows(CanonicalTable(("c",), (column,)), np.arange(len(column), dtype=np.uint64))
    for i, cell in enumerate(cells):
        assert data[offsets[i] : offsets[i + 1]].tobytes() == row_bytes(i, (cell,))


@pytest.mark.parametrize(
    "array",
    [
        pa.array(TEXTS),
        pa.array(TEXTS).dictionary_encode(),
        pa.array([1, 2, None, 2**53, 2**53 + 1, -(2**60)]),
        pa.array([2**63 + 5, 1, None], pa.uint64()),
        pa.array([1.0, -0.0, 0.0, 1.5, None, float("nan"), float("inf"), 1e300, 0.1]),
        pa.array([Decimal("1.50"), Decimal("1.5"), None, Decimal(-2)], pa.decimal128(10, 2)),
        pa.array([True, False, None]),
        pa.array([dt.date(2013, 1, 1), None, dt.date(1969, 12, 31)]),
        pa.array([dt.datetime(2013, 1, 1, 5), dt.datetime(2013, 1, 1, 5, 0, 0, 250), None]),
        pa.array([dt.datetime(2013, 1, 1, 5)], pa.timestamp("us", tz="Asia/Tokyo")),
        pa.array([None, None], pa.null()),
        pa.array([], pa.string()),
    ],
    ids=str,
)
def test_columns_equal_cells(array: pa.Array) -> None:
    check(array)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.one_of(st.none(), st.text(max_size=12), st.sampled_from(TEXTS)), max_size=12))
def test_any_text_column_equals_its_cells(texts: list[str | None]) -> None:
    check(pa.array(texts, pa.string()))


@settings(max_examples=80, deadline=None)
@given(st.lists(st.one_of(st.none(), st.floats(allow_nan=False)), max_size=10))
def test_any_float_column_equals_its_cells(values: list[float | None]) -> None:
    check(pa.array(values, pa.float64()))


def test_the_same_value_meets_across_types() -> None:
    spellings = [
        pa.array([517]), pa.array([517.0]), pa.array(["517.0"]), pa.array(["５１７"]),
        pa.array([Decimal("517.00")], pa.decimal128(8, 2)), pa.array([517], pa.uint16()),
    ]  # fmt: skip
    assert len({int(canonical_column(a).key[0]) for a in spellings}) == 1
    moments = [
        pa.array(["2013-01-01T05:00:00Z"]), pa.array([dt.datetime(2013, 1, 1, 5)]),
        pa.array([dt.datetime(2013, 1, 1, 5, tzinfo=dt.UTC)], pa.timestamp("ms", tz="UTC")),
    ]  # fmt: skip
    assert len({int(canonical_column(a).key[0]) for a in moments}) == 1


def test_kinds_and_numbers() -> None:
    assert canonical_column(pa.array(["1", "2", ""])).kind == "number"
    assert canonical_column(pa.array(["2013-01-01"])).kind == "time"
    assert (
        canonical_column(pa.array(["2013-01-01"])).number[0]
        == dt.datetime(2013, 1, 1, tzinfo=dt.UTC).timestamp()
    )
    assert canonical_column(pa.array(["1", "a"])).kind == "text"
    assert canonical_column(pa.array([None], pa.string())).kind == "empty"
    assert {NULL, NUMBER, BIG, TIME, TEXT} == {0, 1, 2, 3, 4}


@pytest.mark.parametrize(
    "cell", [Cell(1, "x"), Cell(2, "1.5"), Cell(3, "yesterday"), Cell(9, ""), Cell(2, "9" * 30)]
)
def test_cells_that_lie_about_their_tag_are_refused(cell: Cell) -> None:
    with pytest.raises(EvidenceError):
        cell_bytes(cell)


def test_real_table_rows_encode_as_single_rows(flights_january) -> None:
    import pyarrow.parquet as pq

    table = canonical_table(pq.read_table(flights_january).slice(100, 500))
    data, offsets = encode_rows(table, np.arange(500, dtype=np.uint64) + np.uint64(7))
    columns = [c.cells(range(500)) for c in table.columns]
    for i, cells in enumerate(zip(*columns, strict=True)):
        assert data[offsets[i] : offsets[i + 1]].tobytes() == row_bytes(i + 7, cells)


def test_decimals_are_rounded_as_python_rounds_them() -> None:
    rng = np.random.default_rng(4)
    values = [Decimal(int(v)) / 100 for v in rng.integers(-(10**9), 10**9, 3000)]
    column = canonical_column(pa.array(values, pa.decimal128(12, 2)))
    assert column.word.view(np.float64).tolist() == [float(v) for v in values]


def test_times_finer_than_microseconds_and_beyond_the_calendar_can_be_opened() -> None:
    fine = canonical_column(pa.array([1_357_016_400_123_456_789], pa.timestamp("ns")))
    assert fine.cells([0]) == [Cell(TIME, "2013-01-01T05:00:00.123456Z")]
    far = canonical_column(pa.array([-(10**6), 10**7], pa.date32()))
    data, offsets = encode_rows(CanonicalTable(("d",), (far,)), np.arange(2, dtype=np.uint64))
    for i, cell in enumerate(far.cells([0, 1])):
        assert cell.tag == BIG
        assert data[offsets[i] : offsets[i + 1]].tobytes() == row_bytes(i, (cell,))


def test_string_views_are_texts() -> None:
    assert canonical_column(pa.array(["a", "1", None], pa.string_view())).tag.tolist() == [TEXT, NUMBER, NULL]


def test_equal_hashes_are_not_equality() -> None:
    """SplitMix64 can be inverted: whoever wants two cells with one key can have them, so votes never use keys."""
    a, b = canonical_column(pa.array([1.5, 2.5])), canonical_column(pa.array([1.5, 3.5]))
    forged = dataclasses.replace(b, key=a.key)
    assert a.equals(np.array([0, 1]), forged, np.array([0, 1])).tolist() == [True, False]
