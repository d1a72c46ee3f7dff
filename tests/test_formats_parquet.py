"""Parquet: what a rewrite keeps, column chunks compared as bytes."""

import datetime as dt
import decimal
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dataguard.errors import DataguardError, DecodeError, UsageError
from dataguard.formats.atomic import atomic_write
from dataguard.formats.edits import Moves, apply_moves
from dataguard.formats.moved import gather
from dataguard.formats.parquet import rewrite_parquet
from dataguard.formats.parquet_footer import read_footer
from dataguard.formats.source import open_source

DATA = Path(__file__).resolve().parents[1].parent / "shared" / "data"
SWAP = (np.array([0, 5, 11, 19]), np.array([19, 11, 5, 0]))
ROWS = 20


def wide_table():
    number = np.arange(ROWS)
    return pa.table(
        {
            "int": pa.array(number, pa.int32(), mask=number % 7 == 3),
            "unsigned": pa.array(number, pa.uint32()),
            "float": pa.array(number / 3),
            "text": [f"値{i % 4}" if i % 5 else None for i in number],
            "dict": pa.array([f"v{i}" for i in number]).dictionary_encode(),
            "dec": pa.array([decimal.Decimal(int(i)) / 100 for i in number], pa.decimal128(9, 2)),
            "stamp": pa.array(number * 10**6, pa.timestamp("us", "Asia/Tokyo")),
            "day": pa.array([dt.date(2020, 1, 1) + dt.timedelta(int(i)) for i in number]),
            "list": [[int(i), None] for i in number],
            "struct": [{"x": int(i), "y": str(i)} for i in number],
            "flag": pa.array(number % 2 == 0),
            "bin": [bytes([i]) for i in range(ROWS)],
            "dotted.name": number,
        }
    ).replace_schema_metadata({"owner": "acme", "note": "日本語"})


VARIANTS = {
    "defaults": {},
    "codecs": {"compression": {"int": "GZIP", "text": "NONE", "float": "ZSTD"}},
    "pages v2": {"data_page_version": "2.0", "write_page_index": True},
    "no dictionary": {"use_dictionary": False, "column_encoding": {"int": "DELTA_BINARY_PACKED"}},
    "some dictionary": {"use_dictionary": ["text", "dict"], "write_statistics": ["int"]},
    "integer decimals": {"store_decimal_as_integer": True},
    "int96": {"use_deprecated_int96_timestamps": True},
    "old version": {"version": "1.0"},
    "version 2.4": {"version": "2.4"},
    "foreign": {"store_schema": False},
    "old list names": {"use_compliant_nested_type": False},
    "sorted": {"sorting_columns": [pq.SortingColumn(1), pq.SortingColumn(2)]},
}


@dataclass
class Written:
    path: Path
    cells_changed: int
    traits_lost: tuple


def write_marked(source, moves, path, *, force=False):
    moved = gather(source, moves)
    with atomic_write(path, force=force) as out:
        return Written(path, moved.changed, rewrite_parquet(source, moved, out))


def plain(table):
    """Decode the dictionary column: equal text in unequal dictionaries does not compare equal."""
    position = table.column_names.index("dict")
    return table.set_column(position, "dict", table["dict"].cast(pa.string()))


def chunk_bytes(path, group, column):
    chunk = pq.read_metadata(path).row_group(group).column(column)
    start = chunk.dictionary_page_offset if chunk.has_dictionary_page else chunk.data_page_offset
    with path.open("rb") as file:
        file.seek(start)
        return file.read(chunk.total_compressed_size)


def traits(path):
    """Everything about a file that must survive, per row group and column."""
    metadata = pq.read_metadata(path)
    groups = [metadata.row_group(i) for i in range(metadata.num_row_groups)]
    return {
        "schema": str(metadata.schema).split("\n", 1)[1],
        "arrow": pq.read_schema(path).to_string(show_schema_metadata=True),
        "metadata": metadata.metadata,
        "version": metadata.format_version,
        "groups": [group.num_rows for group in groups],
        "chunks": [
            (c.compression, c.encodings, c.is_stats_set, c.has_column_index, c.has_dictionary_page)
            for group in groups
            for c in (group.column(i) for i in range(group.num_columns))
        ],
    }


@pytest.mark.parametrize("variant", VARIANTS)
def test_rewrite_keeps_the_file(tmp_path, variant):
    path = tmp_path / "in.parquet"
    pq.write_table(wide_table(), path, row_group_size=7, **VARIANTS[variant])
    source = open_source(path)
    same = write_marked(source, [], tmp_path / "same.parquet")
    assert same.traits_lost == ()
    for group in range(3):
        for column in range(14):
            if variant == "foreign" and column == 4:
                continue  # read as text, so the unused dictionary entries of the other groups go
            assert chunk_bytes(path, group, column) == chunk_bytes(same.path, group, column), (group, column)
    moved = ["int", "text", "dict", "dec", "stamp", "dotted.name"]
    moves = [Moves(name, *SWAP) for name in moved]
    report = write_marked(source, moves, tmp_path / "out.parquet")
    assert report.cells_changed == 4 * len(moved)
    assert traits(report.path) == traits(path)
    assert plain(pq.read_table(report.path)).equals(plain(apply_moves(pq.read_table(path), moves)))
    names = [pq.read_metadata(path).schema.column(i).path for i in range(14)]
    untouched = [i for i, leaf in enumerate(names) if leaf not in moved]
    assert len(untouched) == 8
    for group in range(3):
        for column in untouched:
            assert chunk_bytes(path, group, column) == chunk_bytes(report.path, group, column)


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_footer_reads_as_pyarrow_reads_it(tmp_path, variant):
    path = tmp_path / "in.parquet"
    pq.write_table(wide_table(), path, **VARIANTS[variant])
    group = pq.read_metadata(path).row_group(0)
    footer = read_footer(path)
    for i, leaf in enumerate(footer.chunks):
        c = group.column(i)
        codec = "NONE" if c.compression == "UNCOMPRESSED" else c.compression
        assert (leaf.path, leaf.physical_type, leaf.codec) == (c.path_in_schema, c.physical_type, codec)
        assert sorted(leaf.encodings) == sorted(c.encodings)
        assert (leaf.statistics, leaf.page_index) == (c.is_stats_set, c.has_column_index)
    assert len(footer.chunks) == group.num_columns
    assert [pq.SortingColumn(*s) for s in footer.sorting] == list(group.sorting_columns or ())
    assert footer.page_version == VARIANTS[variant].get("data_page_version", "1.0")


def test_sort_order_is_declared_only_while_it_holds(tmp_path):
    path = tmp_path / "in.parquet"
    order = [pq.SortingColumn(1), pq.SortingColumn(2)]
    pq.write_table(wide_table(), path, sorting_columns=order)
    source = open_source(path)
    for column, kept in (("text", 2), ("float", 1), ("unsigned", 0)):
        out = write_marked(source, [Moves(column, *SWAP)], tmp_path / "out.parquet", force=True).path
        assert list(pq.read_metadata(out).row_group(0).sorting_columns or ()) == order[:kept]


def test_int96_far_dates_do_not_wrap(tmp_path):
    far = [
        np.datetime64(t, "us").item() if t else None
        for t in ("9999-12-31T01:02:03", "2020-01-01", "", "1066-10-14")
    ]
    path = tmp_path / "in.parquet"
    pq.write_table(
        pa.table({"t": pa.array(far, pa.timestamp("us")), "n": range(4)}),
        path,
        use_deprecated_int96_timestamps=True,
        store_schema=False,
    )
    source = open_source(path)
    assert source.table()["t"].to_pylist() == far
    out = write_marked(
        source, [Moves("n", np.array([0, 1]), np.array([1, 0]))], tmp_path / "out.parquet"
    ).path
    assert open_source(out).table()["t"].to_pylist() == far
    assert chunk_bytes(out, 0, 0) == chunk_bytes(path, 0, 0)


def test_moved_dictionary_column_stores_only_what_a_group_uses(tmp_path):
    path = tmp_path / "in.parquet"
    pq.write_table(wide_table().select(["dict"]), path, row_group_size=5)
    source = open_source(path)
    moves = [Moves("dict", *SWAP)]
    out = write_marked(source, moves, tmp_path / "out.parquet").path
    with pq.ParquetFile(out) as file:
        groups = [file.read_row_group(i)["dict"].combine_chunks() for i in range(4)]
    assert [len(group.dictionary) for group in groups] == [5, 5, 5, 5]
    assert pq.read_table(out).to_pydict() == apply_moves(wide_table().select(["dict"]), moves).to_pydict()


def test_empty_row_groups_stay(tmp_path):
    path = tmp_path / "in.parquet"
    table = wide_table()
    with pq.ParquetWriter(path, table.schema) as writer:
        for piece in (table.slice(0, 0), table.slice(0, 8), table.slice(0, 0), table.slice(8)):
            writer.write_table(piece)
    out = write_marked(open_source(path), [Moves("int", *SWAP)], tmp_path / "out.parquet").path
    assert traits(out)["groups"] == traits(path)["groups"] == [0, 8, 0, 12]


@pytest.mark.parametrize(
    "name",
    ["tables/nycflights13_flights", "trajectories/noaa_bearded_seals", "records/historical_figures_50k"],
)
def test_real_files(tmp_path, name):
    path = DATA / f"{name}.parquet"
    source = open_source(path)
    rng = np.random.default_rng(3)
    column = source.column_names[-1]
    rows = np.sort(rng.choice(source.rows(), 500, replace=False))
    moves = [Moves(column, rows, rng.permutation(rows))]
    report = write_marked(source, moves, tmp_path / "out.parquet")
    assert report.traits_lost == ()
    assert pq.read_table(report.path).equals(apply_moves(source.table(), moves))
    assert traits(report.path)["schema"] == traits(path)["schema"]
    assert traits(report.path)["metadata"] == traits(path)["metadata"]
    assert traits(report.path)["groups"] == traits(path)["groups"]


def test_batches_stream_select_and_report_nested(tmp_path):
    path = tmp_path / "in.parquet"
    table = pa.table({"a": [{"b": 1}, {"b": 2}], "a.b": [3, 4], "z": [5, 6]})
    pq.write_table(table, path)
    source = open_source(path)
    assert (source.column_names, source.nested_columns) == (("a", "a.b", "z"), ("a",))
    assert source.table(["z", "a.b"]).to_pydict() == {"z": [5, 6], "a.b": [3, 4]}
    assert pa.Table.from_batches(source.batches(["z", "a"])).to_pydict() == {
        "z": [5, 6],
        "a": [{"b": 1}, {"b": 2}],
    }
    with pytest.raises(UsageError, match="no column 'y'"):
        source.table(["y"])


def test_truncated_and_damaged_files(tmp_path):
    whole = tmp_path / "in.parquet"
    pq.write_table(wide_table(), whole, compression="NONE", use_dictionary=False)
    raw = whole.read_bytes()
    cut = tmp_path / "cut.parquet"
    for length in (4, 100, len(raw) - 1):
        cut.write_bytes(raw[:length])
        with pytest.raises(DecodeError, match="damaged or truncated Parquet"):
            open_source(cut)
    cut.write_bytes(raw[:4] + b"\xff" * 200 + raw[204:])  # the footer is fine, the first page is not
    source = open_source(cut)
    with pytest.raises(DecodeError, match="damaged or truncated Parquet") as caught:
        write_marked(source, [Moves("text", *SWAP)], tmp_path / "out.parquet")
    assert "\n" not in str(caught.value)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["cut.parquet", "in.parquet"]


def test_flipped_bytes_give_a_file_or_one_line(tmp_path):
    path, out = tmp_path / "in.parquet", tmp_path / "out.parquet"
    pq.write_table(wide_table(), path, row_group_size=7)
    raw = path.read_bytes()
    rng = np.random.default_rng(0)
    refused = []
    for _ in range(200):
        flipped = bytearray(raw)
        flipped[rng.integers(4, len(raw) - 8)] ^= 1 << rng.integers(8)
        path.write_bytes(flipped)
        try:
            write_marked(open_source(path), [Moves("int", *SWAP)], out, force=True)
        except DataguardError as error:
            refused.append(str(error))
    assert 50 < len(refused) < 200
    assert not any("\n" in message for message in refused)
    assert {p.name for p in tmp_path.iterdir()} == {"in.parquet", "out.parquet"}
