"""What comes in: dispatch, Arrow objects, moves on every type, refusals, conversions, atomic output."""

import datetime as dt
import errno
import gzip
import os
import stat

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from dataguard.errors import DataguardError, DecodeError, UsageError
from dataguard.formats import edits
from dataguard.formats.atomic import atomic_directory, atomic_write
from dataguard.formats.edits import Moves, apply_moves, as_block
from dataguard.formats.source import open_source
from dataguard.formats.write import write_marked

INDEX = [2, 1, 0, 3]
SWAP = (np.array([0, 2]), np.array([2, 0]))

BAD = {
    "empty.csv": (b"", DecodeError, "is empty"),
    "bom.csv": (b"\xef\xbb\xbf", DecodeError, "is empty"),
    "newlines.csv": (b"\n\r\n\n", DecodeError, "is empty"),
    "header.csv": (b"a,b\n", DecodeError, "no rows"),
    "blank.csv": (b"a,b\n\n\n", DecodeError, "no rows"),
    "data.xyz": (b"a,b\n1,2\n", UsageError, "unknown kind of file '.xyz'"),
    "data": (b"a,b\n1,2\n", UsageError, "unknown kind of file 'data'"),
    "data.gz": (gzip.compress(b"a,b\n1,2\n"), UsageError, "unknown kind of file"),
    "t.parquet": (b"a,b\n1,2\n", DecodeError, "not Parquet"),
    "g.parquet": (gzip.compress(b"PAR1"), DecodeError, "gzip-compressed"),
    "p.csv.gz": (gzip.compress(b"PAR1..."), DecodeError, "compressed Parquet"),
    "utf16.csv": ("a,b\n1,2\n".encode("utf-16")[:-1], DecodeError, r"row 1 \(line 2\) is not UTF-16"),
    "utf32.csv": ("a,b\n1,2\n".encode("utf-32"), DecodeError, "is UTF-32 text"),
    "latin.csv": (b'a,b\n"1\n1",2\n3,\xe94\n', DecodeError, r"row 2 \(line 4\) is not UTF-8"),
    "cut.csv": (
        ("a,b\n" + "1,値\n" * 9 + "1,値").encode()[:-1],
        DecodeError,
        r"row 10 \(line 11\) is not UTF-8",
    ),
    "nul.csv": (b"a,b\n1,2\n3,\x004\n", DecodeError, "line 3 holds a NUL byte"),
    "nulq.csv": (b'a,b\n1,2\n3,"\n\x004"\n', DecodeError, "line 4 holds a NUL byte"),
    "ragged.csv": (b'a,b\n1,"2\n"\n3\n4,5\n', DecodeError, "line 4 has 1 cells where the header has 2"),
    "long.csv": (b"a,b\n1,2\n3,4,5\n6,7\n", DecodeError, "line 3 has 3 cells"),
    "last.csv": (b"a,b\n1,2\n3,4,5", DecodeError, "line 3 has 3 cells"),
    "quote.csv": (b'a,b\n1,2\n3,"4\n5,6\n', DecodeError, "line 3 opens a quote"),
    "twice.csv": (b"a,b,a,b\n1,2,3,4\n", DecodeError, "duplicate column names 'a', 'b'"),
    "short.csv.gz": (
        gzip.compress(b"a,b\n" + b"1,2\n" * 50)[:-12],
        DecodeError,
        "damaged gzip",
    ),
    "crc.csv.gz": (gzip.compress(b"a,b\n1,2\n")[:-8] + b"\0" * 8, DecodeError, "damaged gzip"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_files_give_one_line_and_leave_nothing(tmp_path, name):
    data, kind, message = BAD[name]
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(kind, match=message) as caught:
        marked(open_source(path), [], tmp_path / "out.csv")
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    assert [p.name for p in tmp_path.iterdir()] == [name]


def marked(source, moves, out, *, force=False):
    return write_marked(source, as_block(moves, source.rows()), out, force=force)


def test_an_error_far_into_the_file_leaves_nothing(tmp_path):
    path = tmp_path / "in.csv"
    path.write_bytes(b"a,b\n" + b"1,2\n" * 1_500_000 + b"3\n1,2\n")  # behind the first block
    source = open_source(path)
    with pytest.raises(DecodeError, match="line 1500002 has 1 cells"):
        marked(source, [Moves("a", *SWAP)], tmp_path / "out.csv")
    assert [p.name for p in tmp_path.iterdir()] == ["in.csv"]


def test_missing_directory_and_wrong_objects(tmp_path):
    with pytest.raises(UsageError, match="no such file"):
        open_source(tmp_path / "missing.csv")
    with pytest.raises(UsageError, match="holds no Parquet files"):
        open_source(tmp_path)
    with pytest.raises(UsageError, match="from a list"):
        open_source([1, 2])
    with pytest.raises(UsageError, match="is not a table"):
        open_source(pa.chunked_array([[1, 2]]))
    with pytest.raises(DecodeError, match="duplicate column names 'a'"):
        open_source(pa.table([[1], [2]], names=["a", "a"]))
    with pytest.raises(DecodeError, match="no rows"):
        open_source(pa.table({"a": pa.array([], pa.int64())}))
    with pytest.raises(DecodeError, match="no columns"):
        open_source(pa.table({}))


def test_what_used_to_be_refused_is_read(tmp_path):
    for name, data, wanted in (
        ("utf16.csv", "a,b\n1,2\n".encode("utf-16"), {"a": ["1"], "b": ["2"]}),
        ("sjis.csv", "名前,b\n値段,2\n".encode("cp932"), {"名前": ["値段"], "b": ["2"]}),
        ("last.csv", b"a,b\n1,2\n3", {"a": ["1", "3"], "b": ["2", None]}),
        ("cut.csv", b'a,b\n1,"2\n"\n3\n', {"a": ["1", "3"], "b": ["2\n", None]}),
    ):
        (tmp_path / name).write_bytes(data)
        source = open_source(tmp_path / name)
        assert source.table().to_pydict() == wanted
        assert marked(source, [], tmp_path / "out.csv", force=True).path.read_bytes() == data
    folder = tmp_path / "parts"
    folder.mkdir()
    pq.write_table(pa.table({"a": [1, 2]}), folder / "0.parquet")
    assert open_source(folder).table().to_pydict() == {"a": [1, 2]}


def test_content_decides_before_the_suffix(tmp_path):
    path = tmp_path / "renamed.csv"
    pq.write_table(pa.table({"a": [1]}), path)
    assert open_source(str(path)).format == "parquet"
    tsv = tmp_path / "t.TAB"
    tsv.write_bytes(b"a,b\tc\n1\t2\n")
    source = open_source(tsv, name="short")
    assert (source.format, source.name, source.column_names, source.path) == (
        "tsv",
        "short",
        ("a,b", "c"),
        tsv,
    )
    assert open_source(source) is source


TYPES = {
    "string_view": pa.array(["a", None, "c" * 30, "d"], pa.string_view()),
    "binary_view": pa.array([b"a", None, b"c" * 30, b"d"], pa.binary_view()),
    "run ends": pc.run_end_encode(pa.array([1, 1, 2, None])),
    "list of view": pa.array([["a"], None, ["b", None], []], pa.list_(pa.string_view())),
    "list": pa.array([[1], None, [2, 3], []]),
    "large list view": pa.array([[1], None, [2, 3], []], pa.large_list_view(pa.int8())),
    "fixed list": pa.array([[1, 2], None, [2, 3], [4, 5]], pa.list_(pa.int32(), 2)),
    "struct": pa.array([{"a": 1}, None, {"a": 3}, {"a": None}]),
    "map": pa.array([[("a", 1)], None, [("b", 2)], []], pa.map_(pa.string(), pa.int32())),
    "null": pa.nulls(4),
    "bool": pa.array([True, None, False, True]),
    "half": pa.array(np.array([1, 2, 3, 4], np.float16)),
    "interval": pa.array([(1, 2, 3), None, (4, 5, 6), (0, 0, 0)], pa.month_day_nano_interval()),
    "fixed binary": pa.array([b"ab", None, b"cd", b"ef"], pa.binary(2)),
    "ordered dictionary": pa.DictionaryArray.from_arrays(
        pa.array([1, None, 0, 1], pa.int8()), ["lo", "hi"], ordered=True
    ),
    "union": pa.UnionArray.from_dense(
        pa.array([0, 1, 0, 1], pa.int8()),
        pa.array([0, 0, 1, 1], pa.int32()),
        [pa.array([1, 2]), pa.array(["x", "y"])],
    ),
    "uuid": pa.array([b"0" * 16, None, b"1" * 16, b"2" * 16], pa.uuid()),
    "time": pa.array([dt.time(1), None, dt.time(2), dt.time(3)], pa.time64("ns")),
}


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("split", [0, 1, 2])
def test_moves_keep_every_type(kind, split):
    array = TYPES[kind]
    column = pa.chunked_array([array.slice(0, split), array.slice(split)])
    field = pa.field("x", array.type, metadata={"k": "v"})
    table = pa.table(
        [column, [1, 2, 3, 4]], schema=pa.schema([field, ("y", pa.int64())], metadata={"t": "m"})
    )
    moved = apply_moves(table, [Moves("x", *SWAP)])
    assert moved.schema.equals(table.schema, check_metadata=True)
    moved.validate(full=True)
    assert moved["x"].to_pylist() == [array.to_pylist()[i] for i in INDEX]
    assert moved["y"].equals(table["y"])


@pytest.mark.parametrize("kind", [pa.string(), pa.binary()])
def test_text_beyond_32_bit_offsets_takes_the_long_way(kind, monkeypatch):
    monkeypatch.setattr(edits, "_PIECE", 2)
    column = pa.chunked_array([["a", None], ["", "長", "b"]], pa.string()).cast(kind)
    taken = edits._take_large(column, np.array([4, 3, 2, 1, 0]))
    assert taken.equals(column.take(pa.array([4, 3, 2, 1, 0])))
    assert (taken.type, taken.num_chunks) == (kind, 3)


def test_dictionaries_that_differ_per_chunk():
    column = pa.chunked_array([pa.array(v).dictionary_encode() for v in (["a", "b"], ["c", "a"])])
    moved = apply_moves(pa.table({"x": column}), [Moves("x", *SWAP)])
    assert moved["x"].type == column.type
    assert moved["x"].to_pylist() == ["c", "b", "a", "a"]


@pytest.mark.parametrize(
    ("moves", "message"),
    [
        ([Moves("z", *SWAP)], "no such column"),
        ([Moves("x", *SWAP), Moves("x", np.array([2]), np.array([1]))], "named twice"),
        ([Moves("x", np.array([0, 1]), np.array([1]))], "differ in length"),
        ([Moves("x", np.array([-1]), np.array([0]))], "outside"),
        ([Moves("x", np.array([0]), np.array([-1]))], "outside"),
        ([Moves("x", np.array([4]), np.array([0]))], "outside"),
        ([Moves("x", np.array([0]), np.array([4]))], "outside"),
    ],
)
def test_moves_that_make_no_sense(tmp_path, moves, message):
    table = pa.table({"x": ["1", "2", "3", "4"]})
    with pytest.raises(UsageError, match=message):
        apply_moves(table, moves)
    (tmp_path / "in.csv").write_bytes(b"x\n1\n2\n3\n4\n")
    pq.write_table(table, tmp_path / "in.parquet")
    for source, suffix in (
        (table, "csv"),
        (tmp_path / "in.csv", "csv"),
        (tmp_path / "in.parquet", "parquet"),
    ):
        with pytest.raises(UsageError, match=message):
            marked(open_source(source), moves, tmp_path / f"out.{suffix}")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.csv", "in.parquet"]


def test_two_sets_of_moves_in_one_column_add_up():
    table = pa.table({"x": [1, 2, 3, 4]})
    moves = [Moves("x", np.array([3, 0]), np.array([0, 3])), Moves("x", np.array([1, 2]), np.array([2, 2]))]
    assert apply_moves(table, moves)["x"].to_pylist() == [4, 3, 3, 1]


class Frame:
    """What pandas and polars look like from here."""

    def __init__(self, table):
        self.table = table

    def __arrow_c_stream__(self, requested_schema=None):
        return self.table.__arrow_c_stream__(requested_schema)


def test_arrow_objects_in_any_wrapping_are_one_table():
    table = pa.table(
        {
            "a": range(100_000),
            "d": pa.array(["x", "y"] * 50_000).dictionary_encode(),
            "b": pa.array([True, None] * 50_000),
        }
    )
    padded = pa.concat_tables([table.slice(0, 3), table]).slice(3)
    chunked = pa.concat_tables([table.slice(0, 7), table.slice(7)])
    reader = pa.RecordBatchReader.from_batches(table.schema, table.to_batches(max_chunksize=999))
    sources = [open_source(x) for x in (table, Frame(table), padded, chunked, reader)]
    assert len({source.sha256() for source in sources}) == 1
    assert all(source.table().equals(table) for source in sources)
    assert sources[1].name == "Frame"
    assert open_source(table.slice(1)).sha256() != sources[0].sha256()
    batches = list(sources[0].batches(["b"]))
    assert [len(batch) for batch in batches] == [65_536, 34_464]
    assert batches[0].schema.names == ["b"]
    with pytest.raises(UsageError, match="no column 'q'"):
        sources[0].table(["q"])


def test_views_arrive_as_plain_text():
    source = open_source(pa.table({"s": TYPES["string_view"], "b": TYPES["binary_view"], "l": TYPES["list"]}))
    assert [field.type for field in source.table().schema][:2] == [pa.large_string(), pa.large_binary()]
    assert source.nested_columns == ("l",)


def test_conversions(tmp_path):
    rows = b'id,name,x\n01,"a,b",1.50\n02,,2\n03,"",3\n04,"\xe5\x80\xa4\n",4\n'
    (tmp_path / "in.csv").write_bytes(rows)
    source = open_source(tmp_path / "in.csv")
    moves = [Moves("name", *SWAP), Moves("x", *SWAP)]
    wanted = apply_moves(source.table(), moves)
    for name in ("out.parquet", "out.tsv"):
        report = marked(source, moves, tmp_path / name)
        assert report.cells_changed == 4
        assert open_source(report.path).table().to_pydict() == wanted.to_pydict()
    # and back: Parquet and Arrow to text
    for again in (tmp_path / "out.parquet", Frame(wanted)):
        out = marked(open_source(again), moves, tmp_path / "back.csv", force=True).path
        assert open_source(out).table().to_pydict() == source.table().to_pydict()
    tabs = tmp_path / "tabs.csv"
    tabs.write_bytes(b"a\tb\r\n1,5\t2\r\n")  # a TSV by another name stays as it is
    assert marked(open_source(tabs), [], tmp_path / "tabs.tsv").path.read_bytes() == tabs.read_bytes()


def test_conversion_refuses_what_text_cannot_hold(tmp_path):
    with pytest.raises(UsageError, match="cannot be written as text") as caught:
        marked(open_source(pa.table({"l": [[1], [2]]})), [], tmp_path / "out.csv")
    assert "choose a .parquet output" in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_output_rules(tmp_path):
    path = tmp_path / "in.csv"
    path.write_bytes(b"a,b\n1,2\n3,4\n")
    source = open_source(path)
    for name in ("out.gz", "out.parquet.gz", "out.xyz", "out"):
        with pytest.raises(UsageError, match=r"cannot write '[^']+' files; choose one of \.parquet"):
            marked(source, [], tmp_path / name)
    packed = marked(source, [], tmp_path / "out.csv.gz").path
    assert gzip.decompress(packed.read_bytes()) == path.read_bytes()
    with pytest.raises(UsageError, match="is the original itself"):
        marked(source, [], path, force=True)
    with pytest.raises(UsageError, match="no such folder"):
        marked(source, [], tmp_path / "no" / "out.csv")
    (tmp_path / "d.csv").mkdir()
    with pytest.raises(UsageError, match="is a directory"):
        marked(source, [], tmp_path / "d.csv", force=True)
    out = tmp_path / "out.csv"
    out.write_text("kept")
    with pytest.raises(UsageError, match="--force"):
        marked(source, [], out)
    assert out.read_text() == "kept"
    marked(source, [], out, force=True)
    assert out.read_bytes() == path.read_bytes()


def test_mode_follows_the_umask(tmp_path):
    for mask, mode in ((0o022, 0o644), (0o077, 0o600)):
        before = os.umask(mask)
        try:
            with atomic_write(tmp_path / "f", force=True) as file:
                file.write(b"x")
        finally:
            os.umask(before)
        assert stat.S_IMODE((tmp_path / "f").stat().st_mode) == mode


def write_then(path, action):
    with atomic_write(path, force=path.exists()) as file:
        file.write(b"mine")
        action()


def fill_then(path, action, *, force=False):
    with atomic_directory(path, force=force) as made:
        (made / "y").write_text("mine")
        action()


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError, DataguardError])
def test_interrupted_output_leaves_what_was_there(tmp_path, error):
    def stop():
        raise error("stop")

    (tmp_path / "f").write_text("old")
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "x").write_text("old")
    with pytest.raises(error):
        write_then(tmp_path / "f", stop)
    with pytest.raises(error):
        fill_then(tmp_path / "d", stop, force=True)
    assert (tmp_path / "f").read_text() == "old"
    assert sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*")) == ["d", "d/x", "f"]


def test_somebody_else_was_faster(tmp_path):
    with pytest.raises(UsageError, match="already exists"):
        write_then(tmp_path / "f", lambda: (tmp_path / "f").write_text("theirs"))
    assert (tmp_path / "f").read_text() == "theirs"
    assert len(list(tmp_path.iterdir())) == 1


def test_two_writers_at_once_do_not_share_a_temporary(tmp_path):
    with atomic_write(tmp_path / "f") as one:
        with atomic_write(tmp_path / "f", force=True) as two:
            two.write(b"two")
        one.write(b"one")
        (tmp_path / "f").unlink()
    assert (tmp_path / "f").read_bytes() == b"one"


def test_full_disk_is_one_line(tmp_path):
    def full():
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(UsageError, match=r"f: cannot be written \(No space left on device\); free some"):
        write_then(tmp_path / "f", full)
    assert list(tmp_path.iterdir()) == []


def test_directory_appears_whole(tmp_path):
    target = tmp_path / "bundle"
    for force, content in ((False, "1"), (True, "2")):
        with atomic_directory(target, force=force) as made:
            (made / "sub").mkdir()
            (made / "sub" / "f").write_text(content)
            assert made.parent == tmp_path
        assert (target / "sub" / "f").read_text() == content
        assert [p.name for p in tmp_path.iterdir()] == ["bundle"]
    with pytest.raises(UsageError, match="--force"):
        fill_then(target, print)
    empty = tmp_path / "empty"
    empty.mkdir()
    with atomic_directory(empty) as made:
        (made / "f").write_text("x")
    assert (empty / "f").exists()


def test_directory_never_replaces_what_matters(tmp_path, monkeypatch):
    inside = tmp_path / "home" / "work"
    inside.mkdir(parents=True)
    monkeypatch.chdir(inside)
    for target in (tmp_path / "home", inside):
        (target / "keep").write_text("x")
        with pytest.raises(UsageError, match="holds"):
            fill_then(target, print, force=True)
        assert (target / "keep").exists()
    (tmp_path / "file").write_text("x")
    (tmp_path / "link").symlink_to(inside)
    for name in ("file", "link"):
        with (
            pytest.raises(UsageError, match="not a directory"),
            atomic_directory(tmp_path / name, force=True),
        ):
            pass
