"""CSV: the scanner against two slow oracles, and edits on raw bytes."""

import csv
import gzip
import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dataguard.errors import DecodeError, UsageError
from dataguard.formats import csv as formats_csv
from dataguard.formats import csv_scan, dialect
from dataguard.formats.edits import Moves, apply_moves, as_block
from dataguard.formats.source import open_source
from dataguard.formats.splice import splice_csv

DATA = Path(__file__).resolve().parents[1].parent / "shared" / "data"
QUIET = settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    derandomize=True,
)

QUIRKS = {
    "plain": b"a,b\n1,2\n3,4\n",
    "bom": b"\xef\xbb\xbfa,b\n1,2\n3,4\n",
    "bom quoted header": b'\xef\xbb\xbf"a","b"\r\n1,2\r\n3,4\r\n',
    "crlf": b"a,b\r\n1,2\r\n3,4\r\n",
    "cr": b"a,b\r1,2\r3,4\r",
    "mixed newlines": b"a,b\n1,2\r\n3,4\r5,6\n",
    "no final newline": b"a,b\n1,2\n3,4",
    "no final newline, last cell empty": b"a,b\n1,2\n3,",
    "crlf, no final newline": b"a,b\r\n1,2\r\n3,4",
    "quotes": b'a,b\n"1",2\n3,"4"\n',
    "doubled quotes": b'a,b\n"he said ""no""",2\n"""",""\n',
    "embedded newlines": b'a,b\n"1\n\n2",x\r\n"3\r\n4","\r"\n',
    "embedded separator": b'a,b\n"1,2",3\n4,"5,"\n',
    "quote inside an unquoted cell": b'a,b\n5" pipe,2\nx"y"z,""\n',
    "text after a closing quote": b'a,b\n"1"2,3\n4,"5"" "6\n',
    "japanese": '名前,値\n東京,１２\n"大阪,堺",𠮷\n'.encode(),
    "leading zeros, exponents": b"a,b\n007,1e5\n+81,1E-03\n 1 ,1.50\n",
    "empty and quoted empty": b'a,b\n,""\n"",\n',
    "blank lines": b"\n\na,b\n\n1,2\n\r\n3,4\n\n\n",
    "one column": b"a\n1\n2\n",
    "one column crlf": b"a\r\n1\r\n\r\n22\r\n\r\n",
    "one column with nulls": b'a\n1\n\n""\n2',
    "tabs": b"a\tb\n1,5\t2\n3,5\t4\n",
    "semicolons": b"a;b\n1,5;2,5\n3,5;4,5\n",
    "no name for the index": b",a\n0,1\n1,2\n",
    "trailing separator": b"a,b,\n1,2,\n3,4,\n",
}


def twin(data: bytes, separator: bytes, one_column: bool):
    """All rows as [(start, end, text)], or the first error as (kind, line). One byte at a time."""
    rows, row, line, i = [], [], 1, 0
    while i < len(data):
        row_line = line
        while True:  # one cell
            start, text, quoted, quote_line = i, b"", data[i : i + 1] == b'"', line
            i += quoted
            while quoted:
                if i >= len(data):
                    return rows, ("quote", quote_line)
                if data[i : i + 2] == b'""':
                    text, i = text + b'"', i + 2
                elif data[i : i + 1] == b'"':
                    quoted, i = False, i + 1
                elif data[i] == 0:
                    return rows, ("nul", line)
                else:
                    line += data[i] == 10
                    text, i = text + data[i : i + 1], i + 1
            while i < len(data) and data[i : i + 1] not in (separator, b"\r", b"\n"):
                if data[i] == 0:
                    return rows, ("nul", line)
                text, i = text + data[i : i + 1], i + 1
            row.append((start, i, None if start == i else text))
            if data[i : i + 1] != separator:
                break
            i += 1
        if i < len(data):
            i += 2 if data[i : i + 2] == b"\r\n" else 1
            line += 1
        if len(row) > 1 or row[0][2] is not None or (one_column and rows):
            if len(row) < len(rows[0] if rows else row) and not data[i:].strip(b"\r\n"):
                row += [(-1, -1, None)] * (len(rows[0]) - len(row))  # a last row cut short
            rows.append(row)
            if len(row) != len(rows[0]):
                return rows, ("ragged", row_line)
        row = []
    return rows, None


def text_rows(source):
    return list(zip(*(column.to_pylist() for column in source.table().columns), strict=True))


def decoded(row):
    return tuple(None if text is None else text.decode() for _, _, text in row)


def write_file(tmp_path, data, name="t.csv"):
    path = tmp_path / name
    path.write_bytes(data)
    return path


def spliced(source, moves):
    """Bytes written, and cells changed."""
    out = io.BytesIO()
    changed = splice_csv(source, as_block(moves, source.rows()), out)
    return out.getvalue(), changed


@pytest.mark.parametrize("quirk", QUIRKS)
def test_quirks_decode_like_the_twin_and_the_csv_module(tmp_path, monkeypatch, quirk):
    data = QUIRKS[quirk]
    source = open_source(write_file(tmp_path, data))
    body = data.removeprefix(b"\xef\xbb\xbf")
    rows, error = twin(body, source.separator, quirk.startswith("one column"))
    assert error is None
    assert source.column_names == tuple(text or "" for text in decoded(rows[0]))
    assert text_rows(source) == [decoded(row) for row in rows[1:]]
    reader = csv.reader(io.StringIO(body.decode(), newline=""), delimiter=source.separator.decode())
    expected = [tuple(row) for row in reader if row or (quirk.startswith("one column") and rows)]
    got = [tuple(text or "" for text in row) for row in [source.column_names, *text_rows(source)]]
    assert got == [row or ("",) for row in expected]
    assert source.rows() == len(rows) - 1
    for block in range(4, len(data) + 1):  # every byte is the last of a block once
        monkeypatch.setattr(csv_scan, "_BLOCK", block)
        assert text_rows(source) == [decoded(row) for row in rows[1:]]


@pytest.mark.parametrize("block", [8, 1 << 22])
@pytest.mark.parametrize("quirk", QUIRKS)
def test_no_moves_gives_the_same_bytes(tmp_path, monkeypatch, quirk, block):
    monkeypatch.setattr(csv_scan, "_BLOCK", block)
    source = open_source(write_file(tmp_path, QUIRKS[quirk]))
    assert spliced(source, []) == (QUIRKS[quirk], 0)


@pytest.mark.parametrize("compressed", [False, True])
def test_gzip_reads_the_same_and_is_written_plain(tmp_path, compressed):
    data = QUIRKS["embedded newlines"]
    raw = gzip.compress(data) if compressed else data
    source = open_source(write_file(tmp_path, raw, "t.csv.gz"))
    assert (source.format, source.name, source.compressed) == ("csv", "t.csv.gz", compressed)
    assert text_rows(source) == [("1\n\n2", "x"), ("3\r\n4", "\r")]
    assert spliced(source, []) == (data, 0)


def open_utf8(path):
    return formats_csv.CsvSource(path, "csv", path.name, encoding="utf-8")


ALPHABET = st.sampled_from([b"a", b'"', b'"', b",", b",", b"\n", b"\r", b"\r\n", "é".encode(), b"\0"])


@QUIET
@given(
    body=st.lists(ALPHABET, max_size=40).map(b"".join), columns=st.integers(1, 3), block=st.integers(4, 30)
)
def test_any_bytes_scan_like_the_twin(tmp_path, monkeypatch, body, columns, block):
    monkeypatch.setattr(csv_scan, "_BLOCK", block)
    monkeypatch.setattr(formats_csv, "sniff_dialect", lambda sample, **_: dialect.Dialect(b",", False, True))
    data = b",".join([b"x", b"y", b"z"][:columns]) + b"\n" + body
    rows, error = twin(data, b",", columns == 1)
    path = write_file(tmp_path, data)
    if error is None and len(rows) > 1:
        assert text_rows(open_utf8(path)) == [decoded(row) for row in rows[1:]]
        return
    with pytest.raises(DecodeError) as caught:
        open_utf8(path).table()
    if error is None:
        assert "no rows" in str(caught.value)
    else:
        kind = {"quote": "never closed", "nul": "NUL", "ragged": "cells where the header has"}[error[0]]
        assert f"line {error[1]} " in str(caught.value)
        assert kind in str(caught.value)


CELL = st.sampled_from(
    [
        b"",
        b'""',
        b"1",
        b"007",
        b"1e5",
        b'"a,b"',
        b'"a\nb"',
        b'"a\r\nb"',
        b'"""x"""',
        'プ"'.encode(),
        "長い文字列".encode(),
    ]
)


@st.composite
def tables(draw):
    """Raw cells (rows x columns), the file made of them, and random swaps."""
    columns, count = draw(st.integers(1, 4)), draw(st.integers(1, 12))
    cells = draw(st.lists(st.lists(CELL, min_size=columns, max_size=columns), min_size=count, max_size=count))
    newline = draw(st.sampled_from([b"\n", b"\r\n"]))
    bom, final = draw(st.booleans()), draw(st.booleans())
    if columns == 1 and not cells[-1][0]:
        final = True  # otherwise the last row would not exist
    header = b",".join(b"c%d" % i for i in range(columns))
    data = newline.join([header, *(b",".join(row) for row in cells)]) + (newline if final else b"")
    moves = []
    for column in range(columns):
        order = draw(st.permutations(range(count)))
        rows = np.array(sorted(draw(st.sets(st.integers(0, count - 1)))), np.int64)
        moves.append(Moves(f"c{column}", rows, np.array(order, np.int64)[rows]))
    return cells, (b"\xef\xbb\xbf" if bom else b"") + data, moves


@QUIET
@given(case=tables(), block=st.integers(8, 64))
def test_splice_equals_apply_moves_and_keeps_other_bytes(tmp_path, monkeypatch, case, block):
    monkeypatch.setattr(csv_scan, "_BLOCK", block)
    cells, data, moves = case
    source = open_source(write_file(tmp_path, data))
    written, changed = spliced(source, moves)
    after = open_source(write_file(tmp_path, written, "out.csv"))
    assert after.table().equals(apply_moves(source.table(), moves))
    wanted = [row.copy() for row in cells]
    for column, move in enumerate(moves):
        for row, origin in zip(move.rows, move.from_rows, strict=True):
            wanted[row][column] = cells[origin][column]
    newline = b"\r\n" if b"\r\n" in data[: data.index(b"\n") + 1] else b"\n"
    head = data[: data.index(newline)]
    tail = data[len(newline.join([head, *map(b",".join, cells)])) :]
    if wanted[-1] == [b""]:
        tail = tail or b"\n"  # an empty last row of one column needs its newline
    assert written == newline.join([head, *map(b",".join, wanted)]) + tail
    assert changed == sum(
        a != b for r, w in zip(cells, wanted, strict=True) for a, b in zip(r, w, strict=True)
    )


def shuffled(rng, name, rows, share=0.2):
    """Moves that permute a random share of a column's cells among themselves."""
    chosen = np.sort(rng.choice(rows, max(2, int(rows * share)), replace=False)).astype(np.int64)
    return Moves(name, chosen, rng.permutation(chosen))


@pytest.mark.parametrize(
    "name", ["tables/nyc_taxis.csv.gz", "tables/ai4i2020.csv.gz", "tables/diamonds.csv.gz", "flights"]
)
def test_real_tables(tmp_path, monkeypatch, name):
    monkeypatch.setattr(csv_scan, "_BLOCK", 1 << 18)  # many chunks
    path = tmp_path / "in.csv"
    if name == "flights":
        pacsv.write_csv(
            pq.read_table(DATA / "tables" / "nycflights13_flights.parquet").slice(0, 60_000), path
        )
    else:
        path.write_bytes(gzip.decompress((DATA / name).read_bytes()))
    source = open_source(path)
    rng = np.random.default_rng(7)
    moves = [shuffled(rng, column, source.rows()) for column in source.column_names[::2]]
    written, changed = spliced(source, moves)
    copy = open_source(write_file(tmp_path, written, "out.csv"))
    before, after = source.table(), copy.table()
    assert after.equals(apply_moves(before, moves))
    for column in source.column_names:  # a permutation changes order, never content
        assert sorted(map(str, before[column].to_pylist())) == sorted(map(str, after[column].to_pylist()))
    old, new = raw_cells(source), raw_cells(copy)
    moved = np.zeros((source.rows(), len(source.column_names)), bool)
    for move in moves:
        moved[move.rows, source.column_names.index(move.column)] = True
    differs = np.array([a != b for a, b in zip(old, new, strict=True)]).reshape(moved.shape)
    assert not np.any(differs & ~moved)
    assert differs.sum() == changed > 0


def raw_cells(source):
    """Raw bytes of every cell by the scanner (which the twin checks)."""
    cells = []
    for chunk in source.chunks():
        data = chunk.data.tobytes()
        cells += [data[a:b] for a, b in zip(chunk.starts.tolist(), chunk.ends.tolist(), strict=True)]
    return cells


def test_batches_stream_and_select(tmp_path, monkeypatch):
    monkeypatch.setattr(csv_scan, "_BLOCK", 64)
    lines = b"".join(b"%d,%d,%d\n" % (i, 2 * i, 3 * i) for i in range(100))
    source = open_source(write_file(tmp_path, b"a,b,c\n" + lines))
    batches = list(source.batches(["c", "a"]))
    assert len(batches) > 5
    assert pa.Table.from_batches(batches).to_pydict() == {
        "c": [str(3 * i) for i in range(100)],
        "a": [str(i) for i in range(100)],
    }
    assert batches[0].schema.field("a").type == pa.large_string()
    with pytest.raises(UsageError, match="no column 'z'"):
        next(source.batches(["z"]))


@pytest.mark.parametrize(
    ("sample", "separator"),
    [
        (b"a,b\n1,2\n", b","),
        (b"a;b;c\n1,5;2,5;3,5\n", b";"),
        (b"a\tb\n1,5\t2;5\n", b"\t"),
        (b'"a;b","c"\n"1;2","3"\n', b","),
        (b"text\nhello\n", b","),
        (b"a,b,c\n1,2\n", b","),
        (b"x;y\n1;2\n3\n", b";"),
    ],
)
def test_sniffing(sample, separator):
    assert dialect.sniff_separator(sample) == separator


def test_the_row_cut_by_the_sample_does_not_count():
    assert dialect.sniff_separator(b"a;b,c\n1;2,3\n4;5", cut=True) == b","


def test_single_column_row_emptied_at_the_end_survives(tmp_path):
    source = open_source(write_file(tmp_path, b"a\n\n2"))
    swap = [Moves("a", np.array([0, 1]), np.array([1, 0]))]
    assert spliced(source, swap) == (b"a\n2\n\n", 2)
    after = open_source(write_file(tmp_path, b"a\n2\n\n", "out.csv"))
    assert after.table().equals(apply_moves(source.table(), swap))


def test_single_column_with_bare_cr_refuses_to_lose_a_row(tmp_path):
    source = open_source(write_file(tmp_path, b"a\r1\r2\n\n"))
    swap = [Moves("a", np.array([1, 2]), np.array([2, 1]))]
    with pytest.raises(UsageError, match="bare CR"):
        spliced(source, swap)


def test_a_row_longer_than_the_block_and_one_without_end(tmp_path, monkeypatch):
    monkeypatch.setattr(csv_scan, "_BLOCK", 64)
    monkeypatch.setattr(csv_scan, "_MAX_ROW", 10_000)
    source = open_source(write_file(tmp_path, b'a,b\n1,"' + b"x" * 5000 + b'"\n3,4\n'))
    assert source.table()["b"].to_pylist() == ["x" * 5000, "4"]
    with pytest.raises(DecodeError, match="line 2 is longer"):
        open_source(write_file(tmp_path, b'a,b\n1,"' + b"x\n" * 50_000))
