"""Tables handed over by the libraries people use: pandas, polars, DuckDB, pyarrow."""

import datetime as dt
import decimal

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
import pytest

from dataguard.errors import DecodeError, UsageError
from dataguard.formats.arrow import ArrowSource, nested_names
from dataguard.formats.edits import Moves, apply_moves
from dataguard.formats.moved import moved_batches

SWAP = (np.array([0, 2]), np.array([2, 0]))


def wrapped(data):
    return ArrowSource(data, type(data).__name__)


def swapped(source, name):
    """The column with two cells exchanged, by a stream and by the table."""
    moves = [Moves(name, *SWAP)]
    changed, batches = moved_batches(source, moves)
    streamed = pa.Table.from_batches(list(batches))
    whole = apply_moves(source.table(), moves)
    assert changed == 2
    assert streamed.schema == whole.schema == source.table().schema
    assert streamed[name].to_pylist() == whole[name].to_pylist()
    return whole[name].to_pylist()


PANDAS = {
    "numbers": (pd.Series([1, 2, 3]), "int64", [1, 2, 3]),
    "nullable": (pd.array([1, None, 3], "Int64"), "int64", [1, None, 3]),
    "floats": (pd.Series([1.5, np.nan, 2.0]), "double", [1.5, None, 2.0]),
    "nullable flags": (pd.array([True, None, False], "boolean"), "bool", [True, None, False]),
    "text": (pd.Series(["a", None, "長"]), "large_string", ["a", None, "長"]),
    "old text": (pd.Series(["a", None, "c"], dtype=object), "string", ["a", None, "c"]),
    "views": (
        pd.Series(["a", None, "c"], dtype=pd.ArrowDtype(pa.string_view())),
        "large_string",
        ["a", None, "c"],
    ),
    "days": (
        pd.Series([dt.date(2020, 1, i) for i in (1, 2, 3)]),
        "date32[day]",
        [dt.date(2020, 1, i) for i in (1, 2, 3)],
    ),
    "decimals": (
        pd.Series([decimal.Decimal("1.50"), None, decimal.Decimal("2.25")]),
        "decimal128(3, 2)",
        [decimal.Decimal("1.50"), None, decimal.Decimal("2.25")],
    ),
    "nothing": (pd.Series([None, None, None]), "null", [None, None, None]),
}


@pytest.mark.parametrize("kind", PANDAS)
def test_pandas_columns(kind):
    column, arrow, values = PANDAS[kind]
    source = wrapped(pd.DataFrame({"x": column, "y": [0, 1, 2]}))
    assert (source.name, source.format, source.path) == ("DataFrame", "arrow", None)
    assert str(source.table().schema.field("x").type) == arrow
    assert source.table()["x"].to_pylist() == values
    assert swapped(source, "x") == values[::-1]
    assert source.sha256() == wrapped(pd.DataFrame({"x": column, "y": [0, 1, 2]})).sha256()


def test_pandas_categories_times_and_zones():
    stamps = pd.date_range("2020-03-29", periods=3, freq="h", tz="Europe/Berlin")
    frame = pd.DataFrame(
        {
            "c": pd.Categorical(["x", "y", "x"], categories=["y", "x"], ordered=True),
            "n": pd.Categorical([1, None, 3]),
            "zoned": stamps,
            "span": pd.to_timedelta([1, 2, 3], "s"),
            "month": pd.period_range("2020-01", periods=3, freq="M"),
            "between": pd.interval_range(0, 3),
        }
    )
    source = wrapped(frame)
    table = source.table()
    assert table["c"].type == pa.dictionary(pa.int8(), pa.large_string(), ordered=True)
    assert table["zoned"].type == pa.timestamp("us", "Europe/Berlin")
    assert [stamp.isoformat() for stamp in table["zoned"].to_pylist()] == [
        stamp.isoformat() for stamp in stamps
    ]
    assert source.nested_columns == ("between",)
    assert swapped(source, "c") == ["x", "y", "x"]
    assert swapped(source, "n") == [3, None, 1]
    assert swapped(source, "zoned")[0] == stamps[2].to_pydatetime()
    assert swapped(source, "span") == [dt.timedelta(seconds=i) for i in (3, 2, 1)]


def test_pandas_indexes():
    """A range says nothing and stays out; any other index is data and comes along as a column."""
    frame = pd.DataFrame({"a": [1, 2, 3]})
    assert wrapped(frame).column_names == ("a",)
    assert wrapped(frame.iloc[::-1]).table()["a"].to_pylist() == [3, 2, 1]
    named = frame.set_index(pd.Index(["x", "y", "z"], name="key"))
    assert wrapped(named).table().to_pydict() == {"a": [1, 2, 3], "key": ["x", "y", "z"]}
    assert wrapped(frame.set_axis(["x", "y", "z"])).column_names == ("a", "__index_level_0__")
    double = frame.set_index(pd.MultiIndex.from_tuples([(1, "x"), (2, "y"), (3, "z")], names=["p", "q"]))
    assert wrapped(double).column_names == ("a", "p", "q")
    assert wrapped(pd.DataFrame(np.zeros((2, 2)))).column_names == ("0", "1")


@pytest.mark.parametrize(
    ("column", "message"),
    [
        ([1, "x", 2.5], "column 'm' holds values that have no common type .*'x'.*; give it one type"),
        ([1, {"a": 1}], "column 'm' holds values that have no common type"),
        ([object()], "column 'm' holds values that have no common type"),
        ([1 + 2j], "column 'm' holds values that have no common type"),
    ],
)
def test_pandas_columns_of_no_type(column, message):
    with pytest.raises(UsageError, match=message) as caught:
        wrapped(pd.DataFrame({"m": pd.Series(column)}))
    assert "\n" not in str(caught.value)


def test_pandas_frames_that_are_no_table():
    with pytest.raises(UsageError, match=r"Duplicate column names found: .*; rename them"):
        wrapped(pd.DataFrame(np.zeros((2, 2)), columns=["a", "a"]))
    with pytest.raises(UsageError, match="Sparse pandas data"):
        wrapped(pd.DataFrame({"m": pd.arrays.SparseArray([0, 0, 1])}))
    with pytest.raises(DecodeError, match="DataFrame: no rows"):
        wrapped(pd.DataFrame({"m": []}))
    with pytest.raises(DecodeError, match="DataFrame: no columns"):
        wrapped(pd.DataFrame())
    with pytest.raises(UsageError, match="make it a frame"):
        wrapped(pd.Series([1, 2], name="a"))


def test_polars_frames():
    frame = pl.DataFrame(
        {
            "i": [1, None, 3],
            "s": ["x", None, "長い名前の長い名前の長い名前"],
            "b": [b"x", None, b"y" * 40],
            "c": pl.Series(["a", "b", None], dtype=pl.Categorical),
            "e": pl.Series(["a", "b", "a"], dtype=pl.Enum(["b", "a"])),
            "d": pl.Series(["1.5", None, "2.5"]).cast(pl.Decimal(10, 2)),
            "t": [dt.datetime(2020, 1, i) for i in (1, 2, 3)],
            "clock": [dt.time(1), dt.time(2), None],
            "nothing": [None, None, None],
            "l": [[1], [2], []],
            "r": [{"x": 1}] * 3,
        }
    )
    source = wrapped(frame)
    schema = source.table().schema
    assert source.nested_columns == ("l", "r")
    assert schema.field("s").type == pa.large_string()
    assert schema.field("b").type == pa.large_binary()
    assert schema.field("c").type == pa.dictionary(pa.uint32(), pa.large_string())
    assert schema.field("e").type == pa.dictionary(pa.uint8(), pa.large_string(), ordered=True)
    for name in frame.columns[:9]:
        assert swapped(source, name) == frame[name].to_list()[::-1]
    assert wrapped(pl.concat([frame[:1], frame[1:]], rechunk=False)).sha256() == source.sha256()


def test_polars_objects_that_are_no_table():
    frame = pl.DataFrame({"a": [1, 2]})
    with pytest.raises(
        UsageError, match=r"cannot read a table from a LazyFrame; call \.collect\(\) on it first"
    ):
        wrapped(frame.lazy())
    with pytest.raises(UsageError, match="make it a frame"):
        wrapped(frame["a"])
    with pytest.raises(UsageError, match="column 'o' holds Python objects"):
        wrapped(pl.DataFrame({"o": pl.Series([object()], dtype=pl.Object)}))
    with pytest.raises(UsageError, match="is not a table"):
        wrapped(pl.DataFrame({"i": pl.Series([1], dtype=pl.Int128)}))
    with pytest.raises(DecodeError, match="no rows"):
        wrapped(frame[:0])


def test_duckdb_relations():
    con = duckdb.connect()
    relation = con.sql(
        "select i, i::varchar s, (i / 4)::decimal(9, 2) d, ('a' || i % 3)::varchar e, [i] l, {'x': i} r, "
        "map {'k': i} m, interval (i) day span, timestamptz '2020-01-01' z, uuid() u from range(200000) t(i)"
    )
    source = wrapped(relation)
    assert source.rows() == 200_000
    assert source.nested_columns == ("l", "r", "m")
    assert source.column_names == tuple(relation.columns)
    assert swapped(source, "s")[:3] == ["2", "1", "0"]
    assert swapped(source, "d")[:3] == [
        decimal.Decimal("0.50"),
        decimal.Decimal("0.25"),
        decimal.Decimal("0.00"),
    ]
    assert swapped(source, "span")[0].days == 2
    kinds = con.sql("select ('x')::enum('y', 'x') e, 1::hugeint h from range(3)")
    assert wrapped(kinds).table()["e"].to_pylist() == ["x"] * 3


def test_duckdb_objects_that_are_no_table():
    con = duckdb.connect()
    with pytest.raises(UsageError, match=r"pass a relation, such as connection\.sql"):
        wrapped(con)
    with pytest.raises(DecodeError, match="duplicate column names 'a'"):
        wrapped(con.sql("select 1 as a, 2 as a"))
    with pytest.raises(UsageError, match=r"is not a table \(Conversion Error.*'0x'") as caught:
        wrapped(con.sql("select (i::varchar || 'x')::int as a from range(3) t(i)"))
    assert "\n" not in str(caught.value)
    with pytest.raises(DecodeError, match="no rows"):
        wrapped(con.sql("select 1 as a where false"))


def test_pyarrow_objects():
    table = pa.table({"a": [1, 2, 3], "s": ["x", None, "z"]})
    given = [
        table,
        table.to_batches()[0],
        table.to_reader(),
        ds.dataset(table),
        ds.dataset(table).scanner(columns=["a", "s"]),
        pa.array(table.to_pylist()),
    ]
    sources = [wrapped(data) for data in given]
    assert all(source.table().equals(table) for source in sources)
    assert len({source.sha256() for source in sources}) == 1
    assert ArrowSource(table[:0], "part", empty=True).rows() == 0


def broken(message):
    def batches():
        yield pa.record_batch({"a": [1]})
        raise RuntimeError(message)

    return pa.RecordBatchReader.from_batches(pa.schema([("a", pa.int64())]), batches())


class Raises:
    def __arrow_c_stream__(self, requested_schema=None):
        raise ValueError("no\nway")


class NoCapsule:
    def __arrow_c_stream__(self, requested_schema=None):
        return 5


def used():
    reader = pa.table({"a": [1]}).to_reader()
    reader.read_all()
    return reader


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: broken("source\nbroke"), r"is not a table \(Unknown error: source\)"),
        (used, "no rows; a stream that was read before is empty"),
        (Raises, r"is not a table \(no\)"),
        (NoCapsule, "is not a table"),
        (lambda: pa.array([1]), "is not a table"),
        (lambda: pa.chunked_array([[1]]), "is not a table"),
        (lambda: np.zeros((2, 2)), "cannot read a table from a ndarray; pass a path or an object"),
        (lambda: [{"a": 1}], "cannot read a table from a list"),
        (lambda: {"a": [1]}, "cannot read a table from a dict"),
        (lambda: 7, "cannot read a table from a int"),
        (lambda: None, "cannot read a table from a NoneType"),
    ],
)
def test_anything_else_is_one_line(make, message):
    with pytest.raises((UsageError, DecodeError), match=message) as caught:
        wrapped(make())
    assert "\n" not in str(caught.value)


def test_nested_under_other_names():
    tensor = pa.fixed_shape_tensor(pa.int8(), (2, 2))
    schema = pa.schema(
        [
            ("tensor", tensor),
            ("id", pa.uuid()),
            ("coded", pa.dictionary(pa.int8(), pa.struct([("a", pa.int8())]))),
            ("plain", pa.dictionary(pa.int8(), pa.string())),
        ]
    )
    assert nested_names(schema) == ("tensor", "coded")
