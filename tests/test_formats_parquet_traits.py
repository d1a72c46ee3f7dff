"""Files of other writers, and every trait of them."""

import datetime as dt
import decimal
import io
from pathlib import Path

import duckdb
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dataguard.errors import DecodeError
from dataguard.formats import parquet
from dataguard.formats.edits import Moves, apply_moves
from dataguard.formats.moved import gather
from dataguard.formats.parquet import ParquetSource, rewrite_parquet
from dataguard.formats.parquet_footer import read_content, read_footer
from dataguard.formats.parquet_options import writer_options
from dataguard.formats.thrift import write_struct

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


def duck(path, options):
    con = duckdb.connect()
    con.execute("set timezone = 'UTC'")
    con.register("source", table())
    extra = "interval (tiny) day as span, uuid() as id, tiny::hugeint as huge, text::json as doc"
    extra = extra.replace("text::json", "to_json(tiny)")
    con.execute(f"copy (select *, {extra} from source) to '{path}' (format parquet, {options})")


def polar(path, **options):
    pl.from_arrow(table()).write_parquet(path, **options)


WRITERS = {
    "duckdb": lambda p: duck(p, "row_group_size 2048"),
    "duckdb v2": lambda p: duck(p, "parquet_version v2, row_group_size 2048, compression zstd"),
    "duckdb gzip": lambda p: duck(p, "compression gzip"),
    "duckdb lz4": lambda p: duck(p, "compression lz4_raw"),
    "polars": polar,
    "polars groups": lambda p: polar(p, row_group_size=2000, compression="lz4", data_page_size=4096),
    "polars bare": lambda p: polar(p, compression="uncompressed", statistics=False),
    "pyarrow old": lambda p: pq.write_table(
        table(),
        p,
        version="1.0",
        store_schema=False,
        row_group_size=2500,
        use_deprecated_int96_timestamps=True,
    ),
    "pyarrow ints": lambda p: pq.write_table(
        table(),
        p,
        store_decimal_as_integer=True,
        data_page_size=2000,
        write_page_index=True,
        write_page_checksum=True,
    ),
    "pyarrow split": lambda p: pq.write_table(
        table(),
        p,
        use_dictionary=False,
        column_encoding={
            "int": "DELTA_BINARY_PACKED",
            "free": "DELTA_BYTE_ARRAY",
            "text": "DELTA_LENGTH_BYTE_ARRAY",
            "double": "BYTE_STREAM_SPLIT",
        },
        compression={"int": "brotli", "free": "gzip", "double": "zstd"},
        data_page_version="2.0",
    ),
}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("written")
    paths = {}
    for name, write in WRITERS.items():
        paths[name] = folder / f"{name}.parquet"
        write(paths[name])
    return paths


def rewritten(source, moves, path):
    moved = gather(source, moves)
    with path.open("w+b") as out:
        return moved.changed, rewrite_parquet(source, moved, out)


def footer_of(path):
    with path.open("rb") as file:
        return read_content(file, "")[0]


POSITIONS = {"chunk": (2, 4, 6), "meta": (9, 10, 11, 14)}


def without_positions(column):
    """A ColumnChunk with everything but where it stands."""
    chunk = {k: v for k, v in column.items() if k not in (*POSITIONS["chunk"], 3)}
    return chunk, {k: v for k, v in column[3].items() if k not in POSITIONS["meta"]}


def pieces(path, column):
    """Bytes of the pages, column index and bloom filter of a chunk."""
    meta = column[3]
    start = min(meta.get(11, 0) or meta[9], meta[9])
    raw = path.read_bytes()
    found = [raw[start : start + meta[7]]]
    if 6 in column:
        found.append(raw[column[6] : column[6] + column[7]])
    if 14 in meta:
        found.append(raw[meta[14] : meta[14] + meta[15]])
    return found


@pytest.mark.parametrize("writer", WRITERS)
def test_untouched_chunks_of_any_writer_are_copied_byte_for_byte(files, tmp_path, writer):
    path, out = files[writer], tmp_path / "out.parquet"
    source = ParquetSource(path, "x")
    changed, lost = rewritten(source, [Moves("long", *SWAP), Moves("dec4", *SWAP)], out)
    assert changed == 2 * 4  # the middle one stays
    assert lost == ()
    old, new = footer_of(path), footer_of(out)
    same = {k: v for k, v in old.items() if k != 4}  # version, schema, rows, metadata, writer, column orders
    assert {k: v for k, v in new.items() if k != 4} == same
    assert len(old[4]) == len(new[4])
    copied = encoded = 0
    for before, after in zip(old[4], new[4], strict=True):
        assert before[3] == after[3]
        for one, other in zip(before[1], after[1], strict=True):
            if one[3][3][0] in {b"long", b"dec4"} and pieces(path, one) != pieces(out, other):
                encoded += 1
                for field in (1, 3, 4, 5):  # type, path, codec, values
                    assert one[3][field] == other[3][field]
                assert ({6, 4} & set(one), 12 in one[3]) == ({6, 4} & set(other), 12 in other[3])
                continue
            copied += 1
            assert without_positions(one) == without_positions(other)
            assert pieces(path, one) == pieces(out, other)
        assert after[2] == sum(column[3][6] for column in after[1])
    assert encoded >= 2
    assert copied > len(old[4]) * (len(source.column_names) - 2) - 1


@pytest.mark.parametrize("writer", WRITERS)
def test_every_column_moves_and_three_readers_agree(files, tmp_path, writer):
    path, out = files[writer], tmp_path / "out.parquet"
    source = ParquetSource(path, "x")
    names = [name for name in source.column_names if name not in source.nested_columns]
    moves = [Moves(name, *SWAP) for name in names]
    _, lost = rewritten(source, moves, out)
    assert [trait for trait in lost if "bloom" not in trait] == []
    wanted = apply_moves(source.table(), moves)
    again = ParquetSource(out, "x")
    assert again.table().equals(wanted)
    assert str(again.schema()) == str(source.schema())
    types = [(leaf.path, leaf.physical_type, leaf.width) for leaf in source.footer.leaves]
    assert [(leaf.path, leaf.physical_type, leaf.width) for leaf in again.footer.leaves] == types
    assert writer_names(path) == writer_names(out)
    con = duckdb.connect()
    con.execute("set timezone = 'UTC'")
    index = np.arange(ROWS)
    index[SWAP[0]] = SWAP[1]
    rows = con.sql(f"select * from '{path}'").fetchall()
    flat = [name in names for name in source.column_names]
    expected = [
        tuple(rows[index[i]][k] if flat[k] else rows[i][k] for k in range(len(flat))) for i in range(ROWS)
    ]
    assert con.sql(f"select * from '{out}'").fetchall() == expected
    # statistics and bloom filters of the new chunks lead to the rows, not past them
    for name in ("long", "free", "dec4", "dec8", "day", "unsigned"):
        value = expected[SWAP[0][0]][source.column_names.index(name)]
        count = sum(row[source.column_names.index(name)] == value for row in expected)
        assert con.execute(f"select count(*) from '{out}' where {name} = $1", [value]).fetchone() == (count,)
        assert pq.read_table(out, filters=[(name, "=", value)]).num_rows == count
    if "span" not in names:  # polars does not read intervals
        frame = pl.read_parquet(out)
        assert frame["free"].to_list() == wanted["free"].to_pylist()
        assert frame["dec8"].to_list() == wanted["dec8"].to_pylist()
        assert frame["stamp"].cast(pl.Datetime("us")).to_list() == wanted["stamp"].to_pylist()


def writer_names(path):
    metadata = pq.read_metadata(path)
    return metadata.created_by, metadata.format_version, metadata.metadata


def test_the_ways_to_store_a_decimal_are_all_there(files):
    """As integers and in 16 bytes by DuckDB, as integers or in few bytes by pyarrow: see the moves above."""

    def stored(writer):
        leaves = {leaf.path: leaf for leaf in read_footer(files[writer]).leaves}
        return [(leaves[name].physical_type, leaves[name].width) for name in ("dec4", "dec8", "dec16")]

    fixed = "FIXED_LEN_BYTE_ARRAY"
    assert stored("duckdb") == [("INT32", 4), ("INT64", 8), (fixed, 16)]
    assert stored("pyarrow ints") == [("INT32", 4), ("INT64", 8), (fixed, 13)]
    assert stored("pyarrow split") == [(fixed, 4), (fixed, 7), (fixed, 13)]
    assert {kind for kind, _ in stored("polars")} <= {"INT32", "INT64", fixed}
    assert read_footer(files["pyarrow old"]).chunks[12].physical_type == "INT96"


def test_bloom_filters_stay_while_they_are_true(files, tmp_path):
    path, out = files["duckdb"], tmp_path / "out.parquet"
    source = ParquetSource(path, "x")
    filtered = {c.path for c in source.footer.chunks if c.bloom_filter}
    assert "text" in filtered
    inside = Moves("text", np.array([1, 2]), np.array([2, 1]))
    assert rewritten(source, [inside], out) == (2, ())
    assert {c.path for c in read_footer(out).chunks if c.bloom_filter} == filtered
    probe = "select bloom_filter_excludes from parquet_bloom_probe('{}', 'text', '{}') order by row_group_id"
    for value in ("値1", "値2", "nowhere"):
        answers = [duckdb.sql(probe.format(p, value)).fetchall() for p in (path, out)]
        assert answers[0] == answers[1]
        assert any(excluded for (excluded,) in answers[0]) == (value == "nowhere")
    con = duckdb.connect()
    con.execute(
        f"copy (select case when i < 3000 then i % 10 else 100 + i % 10 end as x from range({ROWS}) t(i)) "
        f"to '{path.with_name('two.parquet')}' (format parquet, row_group_size 2048)"
    )
    two = ParquetSource(path.with_name("two.parquet"), "x")
    changed, lost = rewritten(two, [Moves("x", np.array([0, 5999]), np.array([5999, 0]))], out)
    assert (changed, lost) == (2, ("bloom filter of x",))
    assert con.sql(f"select count(*) from '{out}' where x = 0").fetchall() == [(300,)]
    assert con.sql(f"select count(*) from '{out}' where x = 109").fetchall() == [(300,)]


def test_negative_zero_is_not_in_a_filter_of_zero():
    from dataguard.formats.parquet_splice import _all_known

    zero, minus = pa.chunked_array([[0.0, 1.0]]), pa.chunked_array([[-0.0]])
    assert not _all_known(minus, zero)
    assert _all_known(zero, pa.chunked_array([[1.0, None], [0.0]]))
    assert _all_known(pa.chunked_array([pa.array([None], pa.float64())]), zero)
    words = pa.chunked_array([pa.array(["a", "b"]).dictionary_encode()])
    assert _all_known(pa.chunked_array([["b"]]), words)
    assert not _all_known(pa.chunked_array([["c"]]), words)
    assert not _all_known(pa.chunked_array([[[1]]]), pa.chunked_array([[[1]]]))


def test_sort_order_ends_before_a_moved_column_in_all_row_groups(tmp_path):
    path, out = tmp_path / "in.parquet", tmp_path / "out.parquet"
    order = [pq.SortingColumn(3), pq.SortingColumn(7)]
    pq.write_table(table(), path, row_group_size=3000, sorting_columns=order)
    for column, kept in (("free", [order[:1]] * 2), ("long", [[], []]), ("int", [order, order])):
        rewritten(ParquetSource(path, "x"), [Moves(column, np.array([0, 1]), np.array([1, 0]))], out)
        metadata = pq.read_metadata(out)
        assert [list(metadata.row_group(i).sorting_columns or ()) for i in range(2)] == kept


def test_what_pyarrow_cannot_store_alike_is_named(tmp_path, monkeypatch):
    """Then all chunks are encoded anew, and the columns that change are in the result."""
    monkeypatch.setattr(parquet, "column_options", lambda *_: None)
    for writer in ("duckdb", "pyarrow ints"):
        path, out = tmp_path / f"{writer}.parquet", tmp_path / "out.parquet"
        WRITERS[writer](path)
        source = ParquetSource(path, "x")
        _, lost = rewritten(source, [Moves("long", *SWAP)], out)
        expected = apply_moves(source.table(), [Moves("long", *SWAP)])
        assert (
            pq.read_table(out)
            .drop_columns(["list"])
            .cast(expected.drop_columns(["list"]).schema)
            .equals(expected.drop_columns(["list"]))
        )
        if writer == "duckdb":
            assert {"bloom filters", "physical type of unsigned"} <= set(lost)
        else:
            assert lost == ()


def test_nested_columns_move_too(tmp_path):
    path, out = tmp_path / "in.parquet", tmp_path / "out.parquet"
    pq.write_table(table(), path, row_group_size=2500)
    source = ParquetSource(path, "x")
    moves = [Moves("list", *SWAP), Moves("int", *SWAP)]
    assert rewritten(source, moves, out) == (8, ())
    assert pq.read_table(out).equals(apply_moves(table(), moves))


def legacy_lz4(path):
    """A file whose footer says LZ4, the codec of old Hadoop, which pyarrow reads but never writes."""
    pq.write_table(table(), path, compression="LZ4")
    raw = path.read_bytes()
    with path.open("rb") as file:
        content, start = read_content(file, "")
    for group in content[4]:
        for column in group[1]:
            assert column[3][4] == 7
            column[3].put(4, 5, short=True)
    footer = write_struct(content)
    path.write_bytes(raw[:start] + footer + len(footer).to_bytes(4, "little") + b"PAR1")


def test_the_old_lz4_is_named_where_it_goes(tmp_path):
    path, out = tmp_path / "in.parquet", tmp_path / "out.parquet"
    legacy_lz4(path)
    source = ParquetSource(path, "x")
    assert rewritten(source, [Moves("int", *SWAP)], out) == (4, ("codec LZ4 of int (becomes LZ4_RAW)",))
    codecs = {c.path: c.codec for c in read_footer(out).chunks}
    assert (codecs.pop("int"), set(codecs.values())) == ("LZ4_RAW", {"LZ4"})
    assert pq.read_table(out).equals(apply_moves(table(), [Moves("int", *SWAP)]))


def test_encrypted_files_are_refused(tmp_path):
    import base64

    import pyarrow.parquet.encryption as pe

    class Kms(pe.KmsClient):
        def __init__(self, _config):
            super().__init__()

        def wrap_key(self, key, _master):
            return base64.b64encode(key)

        def unwrap_key(self, key, _master):
            return base64.b64decode(key)

    for plain in (False, True):
        config = pe.EncryptionConfiguration(
            footer_key="f", column_keys={"c": ["int"]}, plaintext_footer=plain, double_wrapping=False
        )
        properties = pe.CryptoFactory(Kms).file_encryption_properties(pe.KmsConnectionConfig(), config)
        path = tmp_path / "in.parquet"
        with pq.ParquetWriter(path, table().schema, encryption_properties=properties) as writer:
            writer.write_table(table())
        with pytest.raises(DecodeError, match=r"in\.parquet: is encrypted Parquet; decrypt it first$"):
            ParquetSource(path, "x")


def test_thrift_comes_back_as_it_was(files):
    for path in files.values():
        with path.open("rb") as file:
            content, start = read_content(file, "")
            file.seek(start)
            assert write_struct(content) == file.read()[:-8], path


def test_no_writer_option_is_lost_on_the_way(files):
    """The options for a file as a whole, used where a column has no way of its own."""
    with pq.ParquetFile(files["pyarrow split"]) as file:
        options, lost = writer_options(file, read_footer(files["pyarrow split"]))
    assert lost == ()
    sink = io.BytesIO()
    pq.write_table(pq.read_table(files["pyarrow split"]), sink, **options)
    copied = Path(files["pyarrow split"]).with_name("copied.parquet")
    copied.write_bytes(sink.getvalue())
    assert read_footer(copied).chunks == read_footer(files["pyarrow split"]).chunks
