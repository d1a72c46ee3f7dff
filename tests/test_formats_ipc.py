"""Arrow IPC: what a rewrite leaves byte for byte, other writers' files, and files that lie."""

import decimal
import hashlib
import io
import struct
import subprocess
import sys

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from pyarrow import feather

from dataguard.errors import DecodeError, UsageError
from dataguard.formats.edits import Moves, apply_moves
from dataguard.formats.ipc import IpcSource
from dataguard.formats.ipc_messages import read_layout
from dataguard.formats.ipc_write import write_feather, write_ipc
from dataguard.formats.moved import gather

ROWS = 20
SWAP = (np.array([0, 5, 11, 19]), np.array([19, 11, 5, 0]))
V4, V5 = pa.ipc.MetadataVersion.V4, pa.ipc.MetadataVersion.V5


def wide_table(rows=ROWS):
    k = np.arange(rows)
    return pa.table(
        {
            "int": pa.array(k, pa.int32(), mask=k % 7 == 3),
            "float": k / 3,
            "text": [f"値{i % 4}" if i % 5 else None for i in k],
            "view": pa.array([f"a text longer than twelve bytes {i}" for i in k], pa.string_view()),
            "bytes": pa.array([b"x" * int(i) for i in k], pa.binary_view()),
            "dict": pa.array([f"v{i % 5}" if i % 6 else None for i in k]).dictionary_encode(),
            "dec": pa.array([decimal.Decimal(int(i)) / 100 for i in k], pa.decimal128(9, 2)),
            "stamp": pa.array(k * 10**6, pa.timestamp("us", "Asia/Tokyo")),
            "flag": pa.array(k % 2 == 0),
            "list": [[int(i), None] for i in k],
            "struct": [{"x": int(i)} for i in k],
            "dicts": pa.array([[f"q{i % 3}"] for i in k], pa.list_(pa.dictionary(pa.int32(), pa.string()))),
        }
    ).replace_schema_metadata({"owner": "acme", "note": "日本語"})


NESTED = ("list", "struct", "dicts")
MOVED = tuple(name for name in wide_table(1).column_names if name not in NESTED)


def write(path, table, opener=pa.ipc.new_file, step=6, extra=True, **options):
    with (
        path.open("wb") as file,
        opener(file, table.schema, options=pa.ipc.IpcWriteOptions(**options)) as writer,
    ):
        for first in range(0, table.num_rows, step):
            (batch,) = table.slice(first, step).combine_chunks().to_batches()
            writer.write_batch(batch, custom_metadata={"part": str(first)} if extra else None)
    return IpcSource(path, "feather", path.name)


def edited(source, moves, path):
    with path.open("w+b") as out:
        moved = gather(source, moves)
        result = moved.changed, write_ipc(source, moved, out)
    return result, IpcSource(path, "feather", path.name)


VARIANTS = {
    "file": (pa.ipc.new_file, {}),
    "file lz4": (pa.ipc.new_file, {"compression": "lz4"}),
    "file zstd": (pa.ipc.new_file, {"compression": "zstd"}),
    "file V4": (pa.ipc.new_file, {"metadata_version": V4, "extra": False}),
    "file legacy": (pa.ipc.new_file, {"metadata_version": V4, "use_legacy_format": True, "extra": False}),
    "stream": (pa.ipc.new_stream, {}),
    "stream lz4": (pa.ipc.new_stream, {"compression": "lz4"}),
    "stream zstd": (pa.ipc.new_stream, {"compression": "zstd"}),
    "stream V4": (pa.ipc.new_stream, {"metadata_version": V4, "extra": False}),
    "stream legacy": (pa.ipc.new_stream, {"use_legacy_format": True}),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_rewrite_keeps_everything_but_the_moved_cells(tmp_path, variant):
    opener, options = VARIANTS[variant]
    source = write(tmp_path / "in.arrow", wide_table(), opener, **options)
    assert source.nested_columns == NESTED
    assert (source.rows(), source.layout.is_file) == (ROWS, opener is pa.ipc.new_file)
    data = (tmp_path / "in.arrow").read_bytes()
    assert edited(source, [], tmp_path / "same.arrow")[0] == (0, ())
    assert (tmp_path / "same.arrow").read_bytes() == data
    for name in MOVED:
        moves = [Moves(name, *SWAP)]
        result, again = edited(source, moves, tmp_path / "out.arrow")
        assert result == (4, ())
        assert again.table().equals(apply_moves(source.table(), moves), check_metadata=True), name
        with source._open(None) as before, again._open(None) as after:
            assert before.schema.equals(after.schema, check_metadata=True)
        for old, new in zip(source.layout.batches, again.layout.batches, strict=True):
            assert (old.rows, old.codec, old.legacy, old.version) == (
                new.rows,
                new.codec,
                new.legacy,
                new.version,
            )
        extras = [extra for _, _, extra in again.raw_batches()]
        assert extras == [extra for _, _, extra in source.raw_batches()]


@pytest.mark.parametrize("opener", [pa.ipc.new_file, pa.ipc.new_stream])
def test_bytes_outside_the_touched_batch_and_the_table_of_offsets_stay(tmp_path, opener):
    source = write(tmp_path / "in.arrow", wide_table(), opener, compression="zstd")
    _, again = edited(source, [Moves("text", np.array([7, 8]), np.array([8, 7]))], tmp_path / "out.arrow")
    before, after = (tmp_path / "in.arrow").read_bytes(), (tmp_path / "out.arrow").read_bytes()
    old, new = source.layout, again.layout
    assert before[: old.batches[1].offset] == after[: new.batches[1].offset]
    assert before[old.batches[1].end : old.footer] == after[new.batches[1].end : new.footer]
    assert len(before) - old.footer == len(after) - new.footer
    for i in (0, 2, 3):
        a, b = old.batches[i], new.batches[i]
        assert before[a.offset : a.end] == after[b.offset : b.end]
    # A footer differs in the 24-byte entries of the table of offsets only.
    if old.is_file:
        changed = {
            i
            for i, (x, y) in enumerate(zip(before[old.footer :], after[new.footer :], strict=True))
            if x != y
        }
        entries = {
            at + k
            for at, f in zip(old.blocks, (old.dictionaries, old.batches), strict=True)
            for k in range(24 * len(f))
        }
        assert changed
        assert changed <= entries
        assert feather.read_table(tmp_path / "out.arrow").equals(
            again.table().cast(feather.read_table(tmp_path / "out.arrow").schema)
        )


@pytest.mark.parametrize("deltas", [False, True])
def test_cells_move_between_the_dictionaries_of_a_stream(tmp_path, deltas):
    values = (["a", "b", "a"], ["a", "b", "c"], ["x", None, "x"], ["x", "y", "z"])
    batches = [
        pa.record_batch(
            {"d": pa.array(v).dictionary_encode(), "n": [1, 2, 3], "e": pa.array(v).dictionary_encode()}
        )
        for v in values
    ]
    path = tmp_path / "in.arrows"
    with pa.ipc.new_stream(
        path, batches[0].schema, options=pa.ipc.IpcWriteOptions(emit_dictionary_deltas=deltas)
    ) as w:
        for batch in batches:
            w.write_batch(batch)
    source = IpcSource(path, "feather", "s")
    for name in ("d", "e"):
        moves = [Moves(name, np.array([0, 2, 5, 7, 8]), np.array([8, 7, 0, 5, 2]))]
        (changed, lost), again = edited(source, moves, tmp_path / "out.arrows")
        assert (changed, lost) == (5, (f"dictionaries of {name!r} in some batches",))
        assert again.table().to_pylist() == plain(apply_moves(plain_table(source), moves))
    moves = [Moves("d", np.array([0, 1]), np.array([1, 0]))]
    assert edited(source, moves, tmp_path / "out.arrows")[0] == (2, ())


def plain_table(source):
    """The table with dictionaries decoded: pyarrow's own take mixes up chunks of several dictionaries."""
    return pa.Table.from_pylist(source.table().to_pylist())


def plain(table):
    return table.to_pylist()


def polars_frame(rows=500):
    return pl.DataFrame(
        {
            "a": range(rows),
            "s": [f"a text longer than twelve bytes {i}" for i in range(rows)],
            "c": pl.Series([f"c{i % 9}" for i in range(rows)]).cast(pl.Categorical),
            "e": pl.Series(["u", "v"] * (rows // 2), dtype=pl.Enum(["u", "v"])),
            "l": [[1, 2]] * rows,
        }
    )


@pytest.mark.parametrize("codec", ["uncompressed", "lz4", "zstd"])
@pytest.mark.parametrize("form", ["file", "stream"])
def test_polars_files_are_read_and_stay_readable(tmp_path, codec, form):
    frame, path, out = polars_frame(), tmp_path / "in.arrow", tmp_path / "out.arrow"
    (frame.write_ipc if form == "file" else frame.write_ipc_stream)(path, compression=codec)
    source = IpcSource(path, "feather", "p")
    assert source.nested_columns == ("l",)
    assert source.table().to_pylist() == frame.to_arrow().to_pylist()
    assert not any("view" in str(kind) for kind in source.table().schema.types)
    for name in ("a", "s", "c", "e"):
        result, again = edited(source, [Moves(name, np.array([0, 499]), np.array([499, 0]))], out)
        assert result == (2, ())
        read = pl.read_ipc(out) if form == "file" else pl.read_ipc_stream(out)
        assert read.schema == frame.schema
        assert read.drop(name).equals(frame.drop(name))
        column = frame[name].to_list()
        assert read[name].to_list() == [column[499], *column[1:499], column[0]]
        assert {frame.codec for frame in again.layout.batches} == {None if codec == "uncompressed" else codec}


def test_the_protocol(tmp_path):
    table = pa.table({"a": np.arange(200_000), "b": ["x"] * 200_000})
    path = tmp_path / "t.feather"
    feather.write_feather(table, path, chunksize=150_000)
    source = IpcSource(path, "feather", "t")
    assert (source.name, source.format, source.path) == ("t", "feather", path)
    assert [b.num_rows for b in source.batches(["b"])] == [65_536, 65_536, 18_928, 50_000]
    assert source.table(["b", "a"]).equals(table.select(["b", "a"]))
    assert len({str(b.schema) for b in source.batches()}) == 1
    assert source.sha256() == hashlib.sha256(path.read_bytes()).hexdigest()
    with pytest.raises(UsageError, match="no column 'z'"):
        source.table(["z"])
    for moves in ([Moves("z", *SWAP)], [Moves("a", np.array([0]), np.array([200_000]))]):
        with pytest.raises(UsageError):
            write_ipc(source, gather(source, moves), io.BytesIO())
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(DecodeError):
        source.table()


def test_a_large_uncompressed_batch_is_mapped(tmp_path, monkeypatch):
    monkeypatch.setattr("dataguard.formats.ipc._MAPPED", 1000)
    before = pa.total_allocated_bytes()
    source = write(tmp_path / "in.arrow", pa.table({"a": np.arange(1_000_000)}), step=1_000_000)
    batches = source.batches()
    first = next(batches)
    assert first.num_rows == 65_536
    assert pa.total_allocated_bytes() - before < 1_000_000  # the batch has 8 MB
    batches.close()


def handed(schema, batches, path):
    with path.open("w+b") as out:
        write_feather(schema, iter(batches), out)
        assert not out.closed
    return IpcSource(path, "feather", path.name)


def test_plain_conversion(tmp_path):
    table = wide_table()
    path = tmp_path / "out.feather"
    source = handed(table.schema, table.to_batches(max_chunksize=7), path)
    assert feather.read_table(path).equals(table, check_metadata=True)
    assert {(frame.rows, frame.codec) for frame in source.layout.batches} == {(7, "lz4"), (6, "lz4")}
    handed_none = tmp_path / "none.feather"
    with handed_none.open("w+b") as out:
        write_feather(table.schema, iter([]), out)
    assert feather.read_table(handed_none).num_rows == 0


def test_plain_conversion_joins_dictionaries(tmp_path):
    values = (["a", "b"], ["b", "c"], ["a", None], ["c", "a"])
    batches = [pa.record_batch({"d": pa.array(v).dictionary_encode(), "n": [1, 2]}) for v in values]
    path = tmp_path / "out.feather"
    source = handed(batches[0].schema, batches, path)
    want = [value for part in values for value in part]
    assert source.table().column("d").to_pylist() == want
    assert pl.read_ipc(path)["d"].to_list() == want
    assert pd.read_feather(path)["d"].astype(object).where(lambda v: v.notna(), None).tolist() == want
    assert [p.name for p in tmp_path.iterdir()] == ["out.feather"]
    kind = pa.dictionary(pa.int8(), pa.string())
    wide = [
        pa.record_batch({"d": pa.array([str(i) for i in range(k, k + 100)]).cast(kind)}) for k in (0, 100)
    ]
    with pytest.raises(UsageError, match="cannot be written as Feather"):
        handed(wide[0].schema, wide, tmp_path / "no.feather")


class Full(io.BytesIO):
    def write(self, data):
        raise OSError(28, "No space left on device")


def test_a_full_disk_is_not_blamed_on_the_source(tmp_path):
    source = write(tmp_path / "in.arrow", wide_table())
    for moves in ([], [Moves("int", *SWAP)]):
        with pytest.raises(OSError, match="No space left"):
            write_ipc(source, gather(source, moves), Full())


def replaced(data, at, form, value):
    changed = bytearray(data)
    struct.pack_into(form, changed, at, value)
    return bytes(changed)


def refused(tmp_path, data, words="\\w"):
    path = tmp_path / "bad.arrow"
    path.write_bytes(data)
    with pytest.raises(DecodeError, match=words) as caught:
        IpcSource(path, "feather", "bad").table()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("opener", [pa.ipc.new_file, pa.ipc.new_stream])
@pytest.mark.parametrize("codec", ["lz4", "zstd"])
def test_claims_are_checked_before_arrow_believes_them(tmp_path, opener, codec):
    table = pa.table({"a": np.arange(1000), "s": ["text"] * 1000})
    source = write(tmp_path / "in.arrow", table, opener, step=500, compression=codec)
    data = (tmp_path / "in.arrow").read_bytes()
    frame = source.layout.batches[0]
    for claim in (1 << 40, (1 << 63) - 1, 1 << 29):
        refused(tmp_path, replaced(data, frame.offset + frame.head, "<q", claim), "claims to unpack")
    refused(tmp_path, replaced(data, frame.offset + frame.head, "<q", -2), "negative size")
    refused(tmp_path, replaced(data, frame.offset + 4, "<i", 1 << 30), "beyond the end")
    rows = data.index(struct.pack("<q", 500), frame.offset)
    for claim in (1 << 31, -1, (1 << 63) - 1):
        refused(tmp_path, replaced(data, rows, "<q", claim))
    if source.layout.is_file:
        first, second = (source.layout.footer + source.layout.blocks[1] + 24 * i for i in (0, 1))
        twice = data[:second] + data[first : first + 24] + data[second + 24 :]
        refused(tmp_path, twice, "over one another")
        refused(tmp_path, replaced(data, first, "<q", 1 << 40), "outside the file")
        refused(tmp_path, replaced(data, first, "<q", 12), "outside the file")
        refused(tmp_path, data[:-1], "no footer")
    else:
        refused(tmp_path, data + data, "several streams in a row")
        refused(tmp_path, data[: frame.end - 1], "beyond the end")
    for cut in range(0, len(data) - 8, 97):
        path = tmp_path / "cut.arrow"
        path.write_bytes(data[:cut])
        whole = [f for f in source.layout.batches if f.end == cut]
        if not whole:
            with pytest.raises(DecodeError):
                IpcSource(path, "feather", "cut").table()


def test_what_is_no_table_is_refused(tmp_path):
    refused(tmp_path, b"", "ends too early")
    refused(tmp_path, b"ARROW1\0\0", "ends too early")
    refused(tmp_path, b"FEA1" + bytes(100), "Feather V1.*write it again")
    refused(tmp_path, b"\xff\xff\xff\xff\0\0\0\0", "starts with no schema")
    refused(tmp_path, bytes(range(256)))
    sink = io.BytesIO()
    with pa.ipc.new_file(sink, pa.schema([("a", pa.int64())])):
        pass
    refused(tmp_path, sink.getvalue(), "no rows")
    batch = pa.RecordBatch.from_arrays([pa.array([1]), pa.array([2])], ["a", "a"])
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    refused(tmp_path, sink.getvalue(), "duplicate column names 'a'")
    deep = pa.int8()
    for _ in range(70):
        deep = pa.list_(deep)
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, pa.schema([("a", deep)])):
        pass
    refused(tmp_path, sink.getvalue(), "nested|deep")
    table = pa.table({"s": ["ab", "cd"]})
    source = write(tmp_path / "in.arrow", table, pa.ipc.new_stream)
    data = (tmp_path / "in.arrow").read_bytes()
    refused(tmp_path, data.replace(b"abcd", b"a\xffcd"), "UTF8|UTF-8|utf")
    frame = source.layout.batches[0]
    offsets = data.index(struct.pack("<3i", 0, 2, 4), frame.offset)
    refused(tmp_path, replaced(data, offsets + 4, "<i", 1 << 20))
    refused(tmp_path, replaced(data, offsets + 4, "<i", -4))


FUZZ = """
import io, random, sys
from collections import Counter
from pathlib import Path
import numpy as np
from dataguard.errors import DataguardError
from dataguard.formats.edits import Moves
from dataguard.formats.ipc import IpcSource
from dataguard.formats.moved import gather
from dataguard.formats.ipc_write import write_ipc
folder, cases = Path(sys.argv[1]), int(sys.argv[2])
bases = [path.read_bytes() for path in sorted(folder.glob("base*"))]
words = (b"\\xff\\xff\\xff\\xff", b"\\0\\0\\0\\0", b"\\xff\\xff\\xff\\x7f", b"\\x01\\0\\0\\0")
count = Counter()
for case in range(cases):
    rng = random.Random(case)
    data = bytearray(bases[case % len(bases)])
    kind = rng.randrange(10)
    if kind == 0:
        del data[rng.randrange(len(data)) :]
    elif kind < 8:
        for _ in range(rng.choice([1, 1, 2, 5])):
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    else:
        at = rng.randrange(len(data) // 4) * 4
        data[at : at + 4] = rng.choice(words)
    path = folder / "case"
    path.write_bytes(data)
    try:
        source = IpcSource(path, "feather", "case")
        source.table().validate(full=True)
        names = [name for name in source.column_names if name not in source.nested_columns]
        last = source.rows() - 1
        move = Moves(names[case % len(names)], np.array([0, last]), np.array([last, 0]))
        write_ipc(source, gather(source, [move] if last else []), io.BytesIO())
        count["read"] += 1
    except DataguardError as error:
        assert "\\n" not in str(error), error
        count["refused"] += 1
print(count["read"], count["refused"])
"""


def test_damaged_files_end_no_process(tmp_path):
    """Bit flips, cut files and wild lengths, in a process of its own: an abort would be seen here."""
    table = wide_table(40)
    number = 0
    for opener in (pa.ipc.new_file, pa.ipc.new_stream):
        for codec in (None, "lz4", "zstd"):
            for columns in (table.column_names, ["int", "text", "dict", "list", "view"]):
                write(tmp_path / f"base{number}", table.select(columns), opener, step=15, compression=codec)
                number += 1
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", FUZZ, str(tmp_path), "1500"],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    read, damaged = map(int, done.stdout.split())
    assert read + damaged == 1500
    assert read > 150
    assert damaged > 600


def test_layouts_tell_files_from_streams(tmp_path):
    for opener in (pa.ipc.new_file, pa.ipc.new_stream):
        source = write(tmp_path / "in.arrow", wide_table(), opener)
        data = (tmp_path / "in.arrow").read_bytes()
        layout = read_layout(io.BytesIO(data), "here")
        assert layout == source.layout
        assert layout.size == len(data)
        assert [frame.rows for frame in layout.batches] == [6, 6, 6, 2]
        assert sorted({frame.dictionary for frame in layout.dictionaries}) == [0, 1]
        position = wide_table(1).column_names.index("dict")
        assert [i for i, key in enumerate(layout.dictionary_ids) if key >= 0] == [position]
