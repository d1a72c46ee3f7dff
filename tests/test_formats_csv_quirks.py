"""Files as they are met in the field: copied byte for byte, and changed in the moved cells only.

The expected bytes are made without the scanner under test: the byte-at-a-time `twin` of
``test_formats_csv.py`` says where the cells lie, and the cells are exchanged there.
"""

import contextlib
import gzip
import io
import re
import tracemalloc
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from dataguard.errors import DataguardError, DecodeError, UsageError
from dataguard.formats import csv_scan, splice
from dataguard.formats.chunks import Chunk
from dataguard.formats.csv import CsvSource
from dataguard.formats.dialect import Dialect, sniff_dialect, sniff_separator
from dataguard.formats.edits import BlockMoves, Moves, as_block
from dataguard.formats.splice import splice_csv, splice_text
from test_formats_csv import twin

DATA = Path(__file__).resolve().parents[1].parent / "shared" / "data"

QUIRKS = {
    "leading zeros": b"a,b\n007,00\n012,1\n",
    "exponents": b"a,b\n1e5,1E-03\n1.0e+2,2E3\n",
    "trailing zeros of decimals": b"a,b\n1.50,2.000\n3.10,.5\n",
    "NA, null, None": b"a,b\nNA,null\nNone,n/a\nnan,-\n",
    "booleans": b"a,b\ntrue,FALSE\nT,0\n",
    "plus sign and phone numbers": b"a,b\n+81-3-1234-5678,+1\n+81,-0\n",
    "some cells quoted": b'a,"b"\n"1",2\n3,"4"\n',
    "all cells quoted": b'"a","b"\n"1","2"\n"3","4"\n',
    "crlf": b"a,b\r\n1,2\r\n3,4\r\n",
    "bare cr": b"a,b\r1,2\r3,4\r",
    "mixed newlines": b"a,b\n1,2\r\n3,4\r5,6\n",
    "bom": b"\xef\xbb\xbfa,b\n1,2\n3,4\n",
    "no final newline": b"a,b\n1,2\n3,4",
    "blank lines": b"\n\r\na,b\n\n1,2\n\r\n3,4\n\n\n",
    "tabs": b"a\tb\n1,5\t2\n3,5\t4\n",
    "semicolons and decimal commas": b"a;b\n1,5;2,5\n3,5;4,5\n",
    "bars": b"a|b\n1|2,2\n3|4\n",
    "spaces behind separators": b"a, b\n1, 2\n3,  4 \n",
    "quotes behind spaces": b'a, b\n1, "2"\n3, "4"\n',
    "embedded newlines": b'a,b\n"1\n\n2",x\n"3\n4","5"\n',
    "embedded crlf among lf": b'a,b\n"1\r\n2",x\n"\r",y\n',
    "embedded separators": b'a,b\n"1,2",3\n4,"5,"\n',
    "doubled quotes": b'a,b\n"he said ""no""",2\n"""",""\n',
    "quotes inside unquoted cells": b'a,b\n5" pipe,2\nx"y"z,"1"2"3\n',
    "trailing separators": b"a,b,\n1,2,\n3,4,\n",
    "trailing spaces": b"a,b \n1 ,2  \n3,4\t\n",
    "empty and quoted empty": b'a,b\n,""\n"",\n',
    "last row cut short": b"a,b,c\n1,2,3\n4,5,6\n7,8",
    "last row cut short, newlines": b"a,b,c\n1,2,3\n4,5,6\n7\r\n\n",
    "no header": b"1,x,5\n2,x,5\n3,y,5\n",
    "comment on top": b"# made by hand\na,b\n1,2\n3,4\n",
    "separator named on top": b"sep=;\r\na;b\r\n1;2\r\n3;4\r\n",
    "row names": b'"a","b"\n"1",5,6\n"2",7,8\n',
    "one column": b"a\n1\n22\n333\n",
    "vertical tab, form feed, line separators": "a,b\n1\x0b2,\x0c\n3\u2028,\u0085\n".encode(),
    "formulas": b"a,b\n=1+1,@x\n-2,'3\n",
    "long digits": b"a,b\n12345678901234567890,0.1000000000000000055\n1,2\n",
    "utf-8": '名前,値\n東京,１２\n"大阪,堺",𠮷\n'.encode(),
    "cp932": "名前,値\n髙橋表,①\n﨑山能,㈱\nｱｲｳ,ソ\n".encode("cp932"),
    "euc-jp": "名前,値\n高橋表,東京都\n山崎,こんにちは\n".encode("euc_jp"),
    "utf-16-le": "\ufeff名前,値\r\n髙橋,①\r\n𠮷野,2\r\n".encode("utf-16-le"),
    "utf-16-be": "\ufeff名前\t値\n髙橋\t①\n𠮷野\t2\n".encode("utf-16-be"),
    "utf-16 without bom": "name,値\nabc,①\ndef,2\n".encode("utf-16-le"),
    "cp1252": "name,town\nAmélie,Zürich\nJosé,Málaga\n".encode("cp1252"),
}


def opened(tmp_path, data, name="t.csv", **options):
    path = tmp_path / name
    path.write_bytes(data)
    return CsvSource(path, "tsv" if name.endswith("tsv") else "csv", name, **options)


def spliced(source, moves):
    out = io.BytesIO()
    changed = splice_csv(source, as_block(moves, source.rows()), out)
    return out.getvalue(), changed


def scanned(source, data):
    """The bytes in which cells are looked for, and the codec that leads back."""
    if source.encoding.startswith("utf-16"):
        return data.decode(source.encoding).encode(), source.encoding
    return data, None


def cells_of(source, text):
    """Extents of the data cells by the twin, (rows x columns); (-1, -1) for those that are missing."""
    head = len(source.preamble())
    rows, error = twin(b"x" + source.separator * (len(source.column_names) - 1) + b"\n" + text[head:],
                       source.separator, len(source.column_names) == 1)  # fmt: skip
    assert error is None
    shift = head - len(source.column_names) - 1
    return [[(a + shift, b + shift) if a >= 0 else (a, b) for a, b, _ in row] for row in rows[1:]]


def replaced(text, places):
    """`text` with stretches replaced; places = {(start, end): new bytes}."""
    out, at = b"", 0
    for (start, end), new in sorted(places.items()):
        out, at = out + text[at:start] + new, end
    return out + text[at:]


@pytest.mark.parametrize("block", [8, 1 << 20])
@pytest.mark.parametrize("quirk", QUIRKS)
def test_a_copy_is_the_same_bytes(tmp_path, monkeypatch, quirk, block):
    monkeypatch.setattr(csv_scan, "_BLOCK", block)
    monkeypatch.setattr(splice, "_BLOCK", block)
    source = opened(tmp_path, QUIRKS[quirk])
    assert spliced(source, []) == (QUIRKS[quirk], 0)


@pytest.mark.parametrize("block", [8, 1 << 20])
@pytest.mark.parametrize("quirk", QUIRKS)
def test_exactly_the_moved_cells_change(tmp_path, monkeypatch, quirk, block):
    monkeypatch.setattr(csv_scan, "_BLOCK", block)
    monkeypatch.setattr(splice, "_BLOCK", block)
    data = QUIRKS[quirk]
    source = opened(tmp_path, data)
    text, codec = scanned(source, data)
    cells = cells_of(source, text)
    assert len(cells) == source.rows() >= 2
    before = source.table().to_pydict()
    for column, name in enumerate(source.column_names):
        places = {}
        (a, b), (c, d) = cells[0][column], cells[1][column]
        places = {(a, b): text[c:d], (c, d): text[a:b]}
        swap = Moves(name, np.array([0, 1]), np.array([1, 0]))
        expected = replaced(text, places)
        written, changed = spliced(source, [swap])
        assert written == (expected.decode().encode(codec) if codec else expected)
        assert changed == 2 * (text[a:b] != text[c:d])
        after = opened(tmp_path, written, "after.csv", header=source.header, encoding=source.encoding)
        before[name][:2] = reversed(before[name][:2])
        assert after.table().to_pydict() == before
        before[name][:2] = reversed(before[name][:2])


@pytest.mark.parametrize("quirk", QUIRKS)
@pytest.mark.parametrize("kind", ["gzip", "zstd"])
def test_compressed_files_read_alike(tmp_path, quirk, kind):
    half = len(QUIRKS[quirk]) // 2
    parts = [QUIRKS[quirk][:half], QUIRKS[quirk][half:]]
    plain = opened(tmp_path, QUIRKS[quirk])
    source = opened(tmp_path, b"".join(compressed(part, kind) for part in parts), "t.bin")
    assert (source.compression, source.compressed, source.encoding) == (kind, True, plain.encoding)
    assert source.table().equals(plain.table())
    assert spliced(source, []) == (QUIRKS[quirk], 0)


def compressed(data, kind):
    if kind == "gzip":
        return gzip.compress(data)
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(data)
    return sink.getvalue().to_pybytes()


def test_there_are_more_quirks_than_in_the_survey():
    assert len(QUIRKS) >= 24


@pytest.mark.parametrize(
    ("quirk", "columns", "preamble"),
    [
        ("no header", ("column_1", "column_2", "column_3"), b""),
        ("comment on top", ("a", "b"), b"# made by hand\na,b\n"),
        ("separator named on top", ("a", "b"), b"sep=;\r\na;b\r\n"),
        ("row names", ("", "a", "b"), b'"a","b"\n'),
        ("trailing separators", ("a", "b", ""), b"a,b,\n"),
        ("blank lines", ("a", "b"), b"\n\r\na,b\n"),
        ("spaces behind separators", ("a", " b"), b"a, b\n"),
    ],
)
def test_layouts(tmp_path, quirk, columns, preamble):
    source = opened(tmp_path, QUIRKS[quirk])
    assert (source.column_names, source.preamble()) == (columns, preamble)


def test_cells_cut_off_are_null_and_cannot_move(tmp_path):
    source = opened(tmp_path, QUIRKS["last row cut short"])
    assert source.table().to_pydict() == {"a": ["1", "4", "7"], "b": ["2", "5", "8"], "c": ["3", "6", None]}
    written, _ = spliced(source, [Moves("b", np.array([0, 2]), np.array([2, 0]))])
    assert written == b"a,b,c\n1,8,3\n4,5,6\n7,2"
    for rows, origin in (([2], [0]), ([0], [2])):
        with pytest.raises(UsageError, match="row 3 has no cell in column 'c'"):
            spliced(source, [Moves("c", np.array(rows), np.array(origin))])


def test_a_row_of_one_cell_cannot_become_blank(tmp_path):
    source = opened(tmp_path, b"a,b\n1,2\n,3\n4")
    swap = Moves("a", np.array([1, 2]), np.array([2, 1]))
    with pytest.raises(UsageError, match="row 3, cut short behind its first cell, would vanish"):
        spliced(source, [swap])
    assert spliced(source, [Moves("a", np.array([0, 2]), np.array([2, 0]))])[0] == b"a,b\n4,2\n,3\n1"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"a,b\n1,2\n3\n5,6\n", "line 3 has 1 cells where the header has 2; repair that row"),
        (b"a,b\n1,2\n3,4,5\n", "line 3 has 3 cells where the header has 2; repair that row"),
        (b'a,b\n1,2\n3,"4\n', "line 3 opens a quote that is never closed"),
        (b"a,b\n1,2\n3,\x004\n", "line 3 holds a NUL byte"),
        (b"a,b,a\n1,2,3\n4,5,6\n", "duplicate column names 'a'; rename them"),
        (b"a,b\n", "no rows below the header"),
        (b"\n\n\n", "is empty"),
        (b"," * 70_000 + b"\n1,2\n", "has more than 65536 cells"),
    ],
)
def test_what_is_refused(tmp_path, data, message):
    with pytest.raises(DecodeError) as caught:
        opened(tmp_path, data).table()
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("sample", "separator"),
    [
        (b"a;b\n1,5;2,5\n3,5;4,5\n", b";"),
        (b"Temp, C;RH, %\n1,5;2,5\n3,5;4,5\n", b";"),
        (b"1,5;2,5;3,5\n4,5;5,5;6,5\n7,5;8,5;9,5\n", b";"),
        (b"1,5\t2,5\t3,5\n4,5\t5,5\t6,5\n7,5\t8,5\t9,5\n", b"\t"),
        (b'id;note\n1;"x,\n,y"\n2;"a,b\n,"\n', b";"),
        (b'id,note\n1,"x;\n;y"\n2,"a;b\n;"\n', b","),
        (b'"a;b","c"\n"1;2","3"\n', b","),
        (b"a|b\n1|2,2\n3|4\n", b"|"),
        (b"time,v\n10:00:00,1\n11:00:00,2\n", b","),
        (b"name,tags\nx,a;b\ny,c;d\n", b","),
        (b"a,b\n1,2\n3", b","),
        (b"x\n12:30\n", b","),
    ],
)
def test_separators(sample, separator):
    assert sniff_separator(sample) == separator


@pytest.mark.parametrize(
    ("sample", "header"),
    [
        (b"name,town\nann,rome\nbob,rome\n", True),
        (b"ann,rome\nbob,rome\ncid,oslo\n", False),  # half of the cells come again
        (b"ann,rome,1\nbob,rome,2\ncid,oslo,3\n", True),  # a third: not enough
        (b"5,1,1,2\n3,2,4,1\n", False),  # names twice, and numbers
        (b"name,town\nann,rome\nname,town\n", True),  # files put together, header and all
        (b"a\nb\na\n", True),  # one column says nothing
        (b"0,1,2\n0,1,3\n4,1,2\n", True),  # a data frame without names
        (b",,\n1,,\n2,,\n", True),
    ],
)
def test_header_or_not(sample, header):
    assert sniff_dialect(sample).header is header
    assert sniff_dialect(sample, header=not header).header is not header


def test_a_comment_needs_rows_that_agree():
    assert sniff_dialect(b"remark\na,b\n1,2\n") == Dialect(b",", True, True)
    assert sniff_dialect(b"remark\na,b\n1,2,3\n").comment is False


def test_a_separator_line_above_a_row_that_fills_the_sample(tmp_path):
    source = opened(tmp_path, b"sep=;\na;" + b"b" * 70_000 + b"\n1;2\n")
    assert source.separator == b";"
    assert sniff_dialect(b"sep=;\na,b;c\n", cut=True).separator == b";"


def test_the_user_has_the_last_word_on_the_header(tmp_path):
    data = QUIRKS["no header"]
    assert opened(tmp_path, data).rows() == 3
    source = opened(tmp_path, b"\na,b\n1,2\n", header=False)
    assert source.table().to_pydict() == {"column_1": ["a", "1"], "column_2": ["b", "2"]}
    assert (source.preamble(), source.header) == (b"\n", False)
    with pytest.raises(DecodeError, match="line 4 has 3 cells where the first row has 2"):
        opened(tmp_path, b"\r\na,b\n1,2\n3,4,5\n6,7\n", header=False).table()


SHARED_HEADLESS = {"adult.data.csv.gz": 15, "adult.test.csv.gz": 15, "german_credit.csv.gz": 21}


@pytest.mark.parametrize(
    "path", sorted(DATA.rglob("*.csv*")) or [None], ids=lambda path: path.name if path else "none"
)
def test_headers_of_real_tables(path):
    if path is None:
        pytest.skip("the development data is not here")
    source = CsvSource(path, "csv", path.name)
    columns = SHARED_HEADLESS.get(path.name)
    assert source.header is (columns is None)
    assert source.comment is (path.name == "adult.test.csv.gz")
    assert source.encoding == "utf-8"
    if columns:
        assert source.column_names == tuple(f"column_{k}" for k in range(1, columns + 1))
    if source.comment:
        assert source.preamble() == b"|1x3 Cross validator\n"
        assert source.rows() == 16_281
    assert spliced(source, [])[0] == gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else True


def test_a_tsv_without_tabs_is_sniffed(tmp_path):
    assert opened(tmp_path, b"a,b\n1,2\n", "t.tsv").separator == b","
    assert opened(tmp_path, b"a,b\tc,d\n1,2\t3\n", "t.tsv").column_names == ("a,b", "c,d")


class JsonLike:
    """A source with absent cells and no file behind it; rows 0 and 1 in one chunk, row 2 in another."""

    name = "memory"
    column_names = ("a", "b")
    text = b'{"a":1,"b":2}\n{"b":3}\n{"b":44,"a":55}\n'

    def preamble(self):
        return b""

    def stamp(self):
        return len(self.text), 0

    def open_text(self):
        return contextlib.nullcontext(io.BytesIO(self.text))

    def chunks(self, *, check_text=True):
        ends = np.cumsum([len(line) for line in self.text.splitlines(keepends=True)]).tolist()
        for lines in ([(0, ends[0]), (ends[0], ends[1])], [(ends[1], ends[2])]):
            cells = []
            for begin, end in lines:
                for name in ("a", "b"):
                    found = re.compile(rb'"%s":(\d+)' % name.encode()).search(self.text, begin, end)
                    cells.append(found.span(1) if found else (-1, -1))
            starts, stops = np.array(cells, np.int32).T
            data = np.array(bytearray(self.text))
            first = 0 if lines[0][0] == 0 else 2
            yield Chunk(data, lines[0][0], lines[-1][1], starts.copy(), stops.copy(), first, len(lines))


def test_any_source_of_chunks_can_be_spliced():
    source = JsonLike()
    out = io.BytesIO()
    moves = [Moves("b", np.array([0, 1, 2]), np.array([2, 0, 1]))]
    assert splice_text(source, as_block(moves, 3), out) == 3
    assert out.getvalue() == b'{"a":1,"b":44}\n{"b":2}\n{"b":3,"a":55}\n'
    with pytest.raises(UsageError, match="row 2 has no cell in column 'a'"):
        splice_text(source, as_block([Moves("a", np.array([1, 2]), np.array([2, 1]))], 3), out)
    with pytest.raises(UsageError, match="outside the table of 3 rows"):
        splice_text(source, as_block([Moves("a", np.array([0]), np.array([3]))], 3), out)
    with pytest.raises(UsageError, match="outside the table of 3 rows"):
        splice_text(source, as_block([Moves("a", np.array([0]), np.array([3]))], 4), out)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
def test_blocks_of_any_size_are_spliced_like_one(tmp_path, size, monkeypatch):
    """Blocks, chunks of the scanner and blocks of the copy all have edges of their own."""
    from dataguard.formats import splice

    monkeypatch.setattr(splice, "_BLOCK", 16)
    rows = [f"{i},{'x' * (i % 23)},{i * i}" for i in range(100)]
    source = opened(tmp_path, ("a,b,c\n" + "\n".join(rows)).encode())
    blocks, everywhere = [], []
    for first in range(0, 100, size):
        count = min(size, 100 - first)
        for column in ("b", "c"):
            move = Moves(column, np.arange(count), np.arange(count)[::-1].copy())
            blocks.append((first, count, move))
            everywhere.append(Moves(column, move.rows + first, move.from_rows + first))
    pairs = [BlockMoves(f, n, (m, blocks[2 * i + 1][2])) for i, (f, n, m) in enumerate(blocks[::2])]
    one, other = io.BytesIO(), io.BytesIO()
    assert splice_csv(source, pairs, one) == splice_csv(source, as_block(everywhere, 100), other)
    assert one.getvalue() == other.getvalue()


def test_a_file_that_changes_between_the_passes_is_noticed(tmp_path, monkeypatch):
    source = opened(tmp_path, b"a,b\n1,2\n3,4\n")
    whole = source.chunks

    def meddling(**options):
        yield from whole(**options)
        source.path.write_bytes(b"a,b\n1,2\n3,45\n")

    monkeypatch.setattr(source, "chunks", meddling)
    with pytest.raises(DecodeError, match="changed while it was read"):
        spliced(source, [])


def test_a_full_disk_is_not_blamed_on_the_source(tmp_path):
    class Full(io.BytesIO):
        def write(self, data):
            raise OSError(28, "No space left on device")

    for kind in ("plain", "gzip", "zstd"):
        data = QUIRKS["crlf"]
        source = opened(tmp_path, data if kind == "plain" else compressed(data, kind))
        with pytest.raises(OSError, match="No space left"):
            splice_csv(source, [], Full())


@pytest.mark.parametrize("kind", ["gzip", "zstd"])
def test_truncated_compression_is_named(tmp_path, kind):
    packed = compressed(b"a,b\n" + b"1,2\n" * 50_000, kind)
    for cut in (1, 8, len(packed) // 2, len(packed) - 20):
        with pytest.raises(DecodeError, match=f"damaged {kind} .*; fetch it again"):
            opened(tmp_path, packed[:-cut]).table()
    with pytest.raises(DecodeError, match="cannot be read"):
        CsvSource(tmp_path / "none.csv", "csv", "none")


def test_cells_longer_than_a_block_move(tmp_path, monkeypatch):
    monkeypatch.setattr(csv_scan, "_BLOCK", 64)
    monkeypatch.setattr(splice, "_BLOCK", 16)
    long, text = b"x" * 3000, b'"' + b"y\n" * 500 + b'"'
    source = opened(tmp_path, b"a,b\n1," + long + b"\n2," + text + b"\n3,\n")
    moves = [Moves("b", np.array([0, 1, 2]), np.array([1, 2, 0]))]
    assert spliced(source, moves) == (b"a,b\n1," + text + b"\n2,\n3," + long + b"\n", 3)


def test_a_bomb_costs_no_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(csv_scan, "_MAX_ROW", 1 << 22)
    for body, message in ((b"x" * (1 << 26), "longer than 4 MiB"), (b"\n" * (1 << 26), "is empty")):
        for kind in ("gzip", "zstd"):
            packed = compressed(body, kind)
            assert len(packed) < 1 << 17
            tracemalloc.start()
            with pytest.raises(DecodeError) as caught:
                opened(tmp_path, packed)
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            assert message in str(caught.value)
            assert peak < 1 << 27


def test_hostile_bytes_give_one_line(tmp_path):
    """Seeded flips, cuts and repeats of every quirk, plain and compressed: only our own errors come out."""
    rng = np.random.default_rng(11)
    bases = [*QUIRKS.values()]
    bases += [compressed(data, kind) for data in bases[-8:] for kind in ("gzip", "zstd")]
    messages = []
    for trial in range(1200):
        data = bytearray(bases[trial % len(bases)])
        for _ in range(int(rng.integers(1, 4))):
            at = int(rng.integers(len(data)))
            kind = rng.integers(4)
            if kind == 0:
                data[at] ^= 1 << int(rng.integers(8))
            elif kind == 1:
                data[at] = int(rng.choice([0, 10, 13, 34, 44, 255, 27, 128]))
            elif kind == 2:
                del data[at + 1 :]
            else:
                data[at:at] = data[: int(rng.integers(len(data) + 1))]
        try:
            source = opened(tmp_path, bytes(data))
            names = source.column_names
            source.table()
            swap = Moves(names[0], np.array([0]), np.array([source.rows() - 1]))
            out, _ = spliced(source, [])
            if not source.compressed:
                assert out == bytes(data)
            spliced(source, [swap])
        except DataguardError as error:
            messages.append(str(error))
    assert 200 < len(messages) < 1100
    assert not any("\n" in message for message in messages)
