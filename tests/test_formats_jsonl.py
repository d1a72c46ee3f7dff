"""JSON Lines: the scanner against the json module, cell by cell and in what it refuses; edits on raw bytes."""

import datetime as dt
import decimal
import gzip
import hashlib
import io
import json
import random
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dataguard.errors import DataguardError, DecodeError, UsageError
from dataguard.formats import jsonl_scan
from dataguard.formats.edits import Moves, as_block
from dataguard.formats.jsonl import JsonLinesSource, write_jsonl
from dataguard.formats.jsonl_write import write_json_lines

DATA = Path(__file__).resolve().parents[1].parent / "shared" / "data"
QUIET = settings(
    max_examples=120,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    derandomize=True,
)
BOM = b"\xef\xbb\xbf"

QUIRKS = {
    "plain": b'{"a":1,"b":"x"}\n{"a":2,"b":"y"}\n',
    "no final newline": b'{"a":1}\n{"a":2}',
    "trailing blanks, no final newline": b'{"a":1}\n  \t',
    "crlf": b'{"a":1}\r\n{"a":2}\r\n',
    "bom": BOM + b'{"a":1}\n{"a":2}\n',
    "blank lines": b'\n\r\n{"a":1}\n  \n\n{"a":2}\n\n',
    "white space": b'  { "a" :\t1 , "b"\r: "x" }  \n{\t}\n',
    "numbers as written": b'{"a":1.50,"b":-0,"c":1E+05,"d":12345678901234567890123,"e":0.10}\n',
    "literals": b'{"a":true,"b":false,"c":null}\n{"a":null,"c":true,"b":"null"}\n',
    "absent keys": b'{"b":1}\n{}\n{"a":2,"c":3}\n{"c":4,"b":5}\n',
    "escapes": b'{"a":"q\\"\\\\\\/\\b\\f\\n\\r\\t\\u0041"}\n{"a":"plain"}\n{"a":"q\\"\\\\\\/\\b\\f\\n\\r\\t\\u0041"}\n',
    "japanese": '{"名前":"東京","値":"𠮷"}\n{"値":"大阪","名前":"é"}\n'.encode(),
    "japanese escaped": b'{"\\u540d":"\\u6771\\u4eac","k":"\\ud842\\uDFB7"}\n{"k":"\\u6771 plain"}\n',
    "one key, two spellings": '{"\\u540d":1}\n{"名":2}\n'.encode(),
    "half surrogate pairs": b'{"a":"\\ud842"}\n{"a":"x\\udfb7\\ud842\\udfb7"}\n{"\\ud800":1}\n',
    "escaped nul": b'{"a":"\\u0000","b":""}\n',
    "braces inside strings": b'{"a":"}{][,:","b":1}\n',
    "nested": b'{"a":{"x":[1,{"y":"]}"}],"z":{}},"b":1}\n{"a":[ ],"b":2}\n{"a":"text","b":3}\n{"a":null}\n{"a":7}\n',
    "empty key": b'{"":1}\n{"":2,"a":3}\n',
    "separators of other languages": '{"a":"\u2028\u2029\x7f\x85"}\n'.encode(),
}

BAD = {
    "array file": (b'[{"a":1}]\n', "line 1, byte 1: expected an object"),
    "scalar line": (b'{"a":1}\n\n17\n', "line 3, byte 1: expected an object"),
    "cut": (b'{"a":1}\n{"a":', "line 2, byte 6: expected a value, found its end"),
    "cut string": (b'{"a":"x\n"}\n', "line 1, byte 6: a string is not closed"),
    "cut escape": (b'{"a":"x\\', "no such escape"),
    "cut literal": (b'{"a":tr', "expected a value"),
    "cut number": (b'{"a":-', "no JSON number"),
    "two objects": (b'{"a":1} {"a":2}\n', "byte 9: expected the end of the line"),
    "old mac newline": (b'{"a":1}\r{"a":2}\r', "expected the end of the line"),
    "trailing comma": (b'{"a":1,}\n', "byte 8: expected a key"),
    "no quotes": (b"{a:1}\n", "expected a key"),
    "no colon": (b'{"a" 1}\n', "expected ':'"),
    "no comma": (b'{"a":1 "b":2}\n', "expected ','"),
    "nan": (b'{"a":1}\n{"a":NaN}\n', "line 2, byte 6: NaN and Infinity"),
    "infinity": (b'{"a":-Infinity}\n', "NaN and Infinity"),
    "leading zero": (b'{"a":01}\n', "no JSON number"),
    "bare point": (b'{"a":1.}\n', "no JSON number"),
    "plus": (b'{"a":+1}\n', "expected a value"),
    "hex": (b'{"a":0x1F}\n', "no JSON number"),
    "python literal": (b'{"a":True}\n', "expected a value"),
    "escape": (b'{"a":"\\x41"}\n', "no such escape"),
    "short unicode escape": (b'{"a":"\\u12"}\n', "no such escape"),
    "tab in string": (b'{"a":"x\ty"}\n', "a control character"),
    "nul": (b'{"a":"x\0y"}\n', "a control character"),
    "key twice": (b'{"a":1}\n{"a":1,"b":2,"a":3}\n', "line 2, byte 14: a key that this object already has"),
    "key twice, spelled differently": (b'{"a":1,"\\u0061":3}\n', "already has"),
    "broken inside": (b'{"a":[1,{"b":2,}]}\n', "expected a key"),
    "brackets crossed": (b'{"a":[1}]}\n', "expected ','"),
    "too deep": (b'{"a":' + b"[" * 65 + b"]" * 65 + b"}\n", "nested deeper than 64"),
    "not utf-8": (b'{"a":1}\n{"a":"\xff"}\n', "line 2 is not UTF-8"),
    "utf-16": ('{"a":1}\n'.encode("utf-16"), "is UTF-16"),
    "empty": (b"", "no rows"),
    "blank": (BOM + b"\n \n", "no rows"),
    "no columns": (b"{}\n{}\n", "no columns"),
}


def twin(data):
    """Names, nested columns and [{name: (raw, text, start)}] by the json module; ValueError where it refuses."""

    def no_constant(text):
        raise ValueError(text)

    decoder = json.JSONDecoder(parse_int=str, parse_float=str, parse_constant=no_constant)
    blank = re.compile(r"[ \t\r]*")
    names, nested, rows, at = [], set(), [], 0
    if data.startswith(BOM):
        at = 3
    for line in data[at:].decode().split("\n"):
        found, i = {}, blank.match(line).end()
        first, at = at, at + len(line.encode()) + 1
        if i == len(line):
            continue
        if line[i] != "{" or "\n" in line:
            raise ValueError("object")
        i = blank.match(line, i + 1).end()
        while line[i : i + 1] != "}" or found:
            if line[i : i + 1] != '"':
                raise ValueError("key")
            key, i = decoder.raw_decode(line, i)
            key = whole(key)
            i = blank.match(line, i).end()
            if line[i : i + 1] != ":" or key in found:
                raise ValueError("colon")
            i = blank.match(line, i + 1).end()
            value, end = decoder.raw_decode(line, i)
            if key not in names:
                names.append(key)
            if isinstance(value, dict | list):
                nested.add(key)
            text = whole(value) if isinstance(value, str) else line[i:end]
            found[key] = (line[i:end], None if value is None else text, first + len(line[:i].encode()))
            i = blank.match(line, end).end()
            if line[i : i + 1] == "}":
                break
            if line[i : i + 1] != ",":
                raise ValueError("comma")
            i = blank.match(line, i + 1).end()
        if line[i : i + 1] != "}" or blank.match(line, i + 1).end() != len(line):
            raise ValueError("end")
        rows.append(found)
    if not names:
        raise ValueError("empty")
    return names, nested, rows


def whole(text):
    return re.sub("[\ud800-\udfff]", "\ufffd", text)


def expected(data):
    names, nested, rows = twin(data)
    cells = []
    for row in rows:
        found = [row.get(name, (None, None, -1)) for name in names]
        raw = [name in nested for name in names]
        cells.append([v[0] if r and v[1] is not None else v[1] for v, r in zip(found, raw, strict=True)])
    return names, tuple(n for n in names if n in nested), cells


def write_file(tmp_path, data, name="t.jsonl"):
    path = tmp_path / name
    path.write_bytes(data)
    return path


def opened(tmp_path, data, name="t.jsonl"):
    return JsonLinesSource(write_file(tmp_path, data, name), "jsonl", name)


def cells(source):
    return [list(row.values()) for row in source.table().to_pylist()]


def check(tmp_path, data):
    source = opened(tmp_path, data)
    names, nested, rows = expected(data)
    assert source.column_names == tuple(names)
    assert source.nested_columns == nested
    assert cells(source) == rows
    assert source.rows() == len(rows)
    source.table().validate(full=True)


def tiny_blocks(monkeypatch, block=16, most=3):
    monkeypatch.setattr(jsonl_scan, "_BLOCK", block)
    monkeypatch.setattr(jsonl_scan, "_CELLS", most)


@pytest.mark.parametrize("block", [1 << 22, 16])
@pytest.mark.parametrize("quirk", QUIRKS)
def test_quirks_decode_like_the_json_module(tmp_path, monkeypatch, quirk, block):
    tiny_blocks(monkeypatch, block, 1 << 21 if block > 16 else 3)
    check(tmp_path, QUIRKS[quirk])


@pytest.mark.parametrize("case", BAD)
def test_refusals_say_line_byte_and_what_was_expected(tmp_path, case):
    data, words = BAD[case]
    with pytest.raises(DecodeError, match=re.escape(words)) as caught:
        opened(tmp_path, data)
    assert "\n" not in str(caught.value)
    if case not in ("utf-16", "too deep"):
        with pytest.raises(ValueError):
            twin(data)


BLANKS = st.sampled_from(["", " ", "\t", " \r "])
TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\n"), max_size=6)
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), TEXT
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=5,
)
KEYS = st.sampled_from(["a", "b", "値", 'q"', "", "\\n", "long key"])


@st.composite
def documents(draw):
    lines = []
    for _ in range(draw(st.integers(1, 6))):
        members = []
        for key, value in draw(st.dictionaries(KEYS, VALUES, max_size=4)).items():
            texts = [json.dumps(one, ensure_ascii=draw(st.booleans())) for one in (key, value)]
            members.append(draw(BLANKS) + (draw(BLANKS) + ":" + draw(BLANKS)).join(texts) + draw(BLANKS))
        lines.append(draw(BLANKS) + "{" + ",".join(members) + "}" + draw(BLANKS))
    newline = draw(st.sampled_from(["\n", "\r\n", "\n\n"]))
    return (newline.join(lines) + draw(st.sampled_from(["", newline]))).encode()


@QUIET
@given(documents(), st.sampled_from([1, 7, 64, 1 << 22]), st.integers(1, 40))
def test_random_documents_decode_like_the_json_module(tmp_path, data, block, most):
    with pytest.MonkeyPatch.context() as patch:
        tiny_blocks(patch, block, most)
        try:
            expected(data)
        except ValueError:
            with pytest.raises(DecodeError):
                opened(tmp_path, data)
        else:
            check(tmp_path, data)


def test_damaged_documents_are_refused_exactly_where_the_json_module_refuses(tmp_path):
    rng = random.Random(1)
    base = b"".join(
        QUIRKS[q] for q in ("plain", "numbers as written", "escapes", "japanese", "nested", "white space")
    )
    signs = b'{}[]:,"\\ntfu019.eE+-\n\r\t \x00\xff'
    accepted = 0
    for case in range(800):
        data = bytearray(base)
        for _ in range(rng.choice([1, 1, 2])):
            at = rng.randrange(len(data))
            kind = rng.randrange(4)
            if kind == 0:
                data[at] ^= 1 << rng.randrange(8)
            elif kind == 1:
                data[at] = rng.choice(signs)
            elif kind == 2:
                del data[at : at + rng.choice([1, 3, 10**6])]
            else:
                data.insert(at, rng.choice(signs))
            data = data or bytearray(b" ")
        data = bytes(data)
        try:
            twin(data)
        except (ValueError, RecursionError):
            with pytest.raises(DecodeError) as caught:
                opened(tmp_path, data, f"{case}.jsonl")
            assert "\n" not in str(caught.value)
        else:
            check(tmp_path, data)
            accepted += 1
    assert 100 < accepted < 700


def real_tables():
    for name in ("tables/online_retail.parquet", "records/historical_figures_50k.parquet"):
        if (DATA / name).exists():
            yield name, pq.read_table(DATA / name)
    for name in ("tables/nyc_taxis.csv.gz", "records/sec_companies.csv.gz", "records/febrl_dataset1.csv.gz"):
        if (DATA / name).exists():
            yield name, pacsv.read_csv(DATA / name)


def test_real_tables(tmp_path, flights_january):
    tables = [("flights", pq.read_table(flights_january)), *real_tables()]
    for name, table in tables:
        head = table.slice(0, 1500)
        out = io.BytesIO()
        write_json_lines(iter(head.to_batches()), out)
        source = opened(tmp_path, out.getvalue())
        assert source.column_names == tuple(head.column_names), name
        assert source.rows() == head.num_rows
        check(tmp_path, out.getvalue())
        ours = [json.loads(line) for line in out.getvalue().split(b"\n")[:-1]]
        assert ours == [plain(row) for row in head.to_pylist()], name
        # As the json module itself writes them: other blanks, everything beyond ASCII escaped.
        check(tmp_path, "".join(json.dumps(row) + "\n" for row in ours).encode())


def plain(value):
    if isinstance(value, dict):
        return {key: plain(one) for key, one in value.items()}
    if isinstance(value, dt.datetime) and value.tzinfo:
        return value.astimezone(dt.UTC).isoformat().replace("+00:00", "Z")
    return value.isoformat() if isinstance(value, dt.date | dt.datetime) else value


def spliced(data, moves):
    """The edit on raw tokens, by the twin."""
    _, _, rows = twin(data)
    edits = []
    for column, targets, origins in moves:
        for target, origin in zip(targets, origins, strict=True):
            old, new = rows[target][column], rows[origin][column]
            edits.append((old[2], len(old[0].encode()), new[0].encode()))
    for start, length, new in sorted(edits, reverse=True):
        data = data[:start] + new + data[start + length :]
    return data


def edited(source, moves):
    out = io.BytesIO()
    made = [Moves(c, np.array(t), np.array(o)) for c, t, o in moves]
    changed, lost = write_jsonl(source, as_block(made, source.rows()), out)
    assert lost == ()
    return changed, out.getvalue()


@pytest.mark.parametrize("block", [1 << 22, 40])
def test_moves_exchange_raw_tokens_and_touch_no_other_byte(tmp_path, monkeypatch, block):
    tiny_blocks(monkeypatch, block, 10)
    data = (
        BOM
        + (
            '{"id": 1, "v": 1.50 , "名":"\\u6771\\u4eac"}\r\n\n { "名" : "大阪\\n" ,"v":-2e5}\n'
            '{"v":null,"名":"","x":[1, 2]}\n{"名":"𠮷","v": true, "id":7}'
        ).encode()
    )
    source = opened(tmp_path, data)
    assert edited(source, []) == (0, data)
    moves = [("v", [0, 1, 2, 3], [3, 0, 1, 2]), ("名", [0, 3], [3, 0]), ("id", [0, 3], [3, 0])]
    changed, out = edited(source, moves)
    assert out == spliced(data, moves)
    assert changed == 8
    assert b'{"id": 7, "v": true , "\xe5\x90\x8d":"\xf0\xa0\xae\xb7"}\r\n\n' in out


def test_real_moves_and_back(tmp_path, flights_january):
    out = io.BytesIO()
    write_json_lines(iter(pq.read_table(flights_january).to_batches()), out)
    data = out.getvalue()
    source = opened(tmp_path, data)
    rng = np.random.default_rng(5)
    rows = rng.permutation(source.rows())[:3000]
    moves = [Moves(name, rows, np.roll(rows, 1)) for name in ("dep_delay", "carrier")]
    once = io.BytesIO()
    changed, _ = write_jsonl(source, as_block(moves, source.rows()), once)
    assert 3000 < changed <= 6000
    again = opened(tmp_path, once.getvalue(), "u.jsonl")
    for name in source.column_names:
        before, after = source.table([name]).column(0), again.table([name]).column(0)
        index = np.arange(source.rows())
        if name in ("dep_delay", "carrier"):
            index[rows] = np.roll(rows, 1)
        assert after.equals(before.take(pa.array(index))), name
    back = io.BytesIO()
    write_jsonl(again, as_block([Moves(m.column, m.from_rows, m.rows) for m in moves], again.rows()), back)
    assert back.getvalue() == data


def test_absent_values_cannot_move_and_bad_moves_are_refused(tmp_path):
    source = opened(tmp_path, b'{"a":1,"b":2}\n{"a":3}\n{"a":4,"b":5}\n')
    for moves in (
        [("b", [0, 1], [1, 0])],
        [("b", [1], [0])],
        [("c", [0], [1])],
        [("a", [0], [3])],
        [("a", [-1], [0])],
    ):
        with pytest.raises(UsageError) as caught:
            edited(source, moves)
        assert "\n" not in str(caught.value)
    assert edited(source, [("b", [0, 2], [2, 0])])[1] == b'{"a":1,"b":5}\n{"a":3}\n{"a":4,"b":2}\n'


class Full(io.BytesIO):
    def write(self, data):
        raise OSError(28, "No space left on device")


def test_a_full_disk_is_not_blamed_on_the_source(tmp_path):
    source = opened(tmp_path, b'{"a":1}\n{"a":2}\n')
    with pytest.raises(OSError, match="No space left"):
        write_jsonl(source, as_block([Moves("a", np.array([0]), np.array([1]))], source.rows()), Full())


def zstd(data):
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as file:
        file.write(data)
    return sink.getvalue().to_pybytes()


@pytest.mark.parametrize("pack", [gzip.compress, zstd])
def test_compressed_files(tmp_path, pack):
    data = b"".join(b'{"i":%d,"s":"v%d"}\n' % (i, i * i) for i in range(500))
    packed = pack(data)
    source = opened(tmp_path, packed, "t.jsonl.x")
    assert cells(source) == [[str(i), f"v{i * i}"] for i in range(500)]
    assert edited(source, [("i", [0, 499], [499, 0])])[1] == spliced(data, [("i", [0, 499], [499, 0])])
    refused = 0
    rng = random.Random(3)
    for case in range(150):
        bad = bytearray(packed[: rng.randrange(4, len(packed))] if case % 3 == 0 else packed)
        bad[rng.randrange(4, len(bad)) if len(bad) > 4 else 3] ^= 1 << rng.randrange(8)
        try:
            opened(tmp_path, bytes(bad), f"{case}.x")
        except DecodeError as error:
            assert "\n" not in str(error)  # noqa: PT017 - both outcomes are fine
            refused += 1
    assert refused > 120
    with pytest.raises(DecodeError):
        opened(tmp_path, packed[:-1], "cut.x")


def test_caps(tmp_path, monkeypatch):
    row = "{" + ",".join(f'"k{i}":{i}' for i in range(9_999)) + "}\n"
    source = opened(tmp_path, row.encode() + b'{"k9998":"x"}\n' * 500)
    assert len(source.column_names) == 9_999
    assert max(batch.num_rows for batch in source.batches()) <= 209
    assert source.table(["k9998"]).column(0).to_pylist() == ["9998"] + ["x"] * 500
    with pytest.raises(DecodeError, match="more than 9,999 different keys, or 16 MiB of them, up to line 2"):
        opened(tmp_path, row.encode() + b'{"one more":1}\n')
    spellings = [
        "".join(f"\\u{ord(c):04x}" if n >> k & 1 else c for k, c in enumerate("abcdefghijklmno"))
        for n in range(1 << 15)
    ]
    many = "".join(f'{{"{s}":1}}\n' for s in spellings)
    with pytest.raises(DecodeError, match="different keys"):
        opened(tmp_path, many.encode())
    monkeypatch.setattr(jsonl_scan, "_BLOCK", 64)
    monkeypatch.setattr(jsonl_scan, "_MAX_LINE", 1000)
    with pytest.raises(DecodeError, match="line 2 is longer than"):
        opened(tmp_path, b'{"a":1}\n{"a":"' + b"x" * 5000 + b'"}\n')


def test_a_key_like_another_of_the_same_length_is_not_taken_for_it(tmp_path):
    names = [f"{a}{b}{c}" for a in "abc" for b in "abc" for c in "abc"]
    rng = random.Random(2)
    lines = []
    for _ in range(200):
        some = rng.sample(names, rng.randrange(1, 20))
        lines.append(json.dumps({name: name.upper() for name in some}))
    check(tmp_path, "\n".join(lines).encode())


def test_the_protocol(tmp_path):
    data = b'{"a":1,"b":"x"}\n{"b":"y"}\n'
    source = opened(tmp_path, data)
    assert (source.name, source.format, source.path) == ("t.jsonl", "jsonl", tmp_path / "t.jsonl")
    assert source.table(["b", "a"]).to_pydict() == {"b": ["x", "y"], "a": ["1", None]}
    assert set(source.table().schema.types) == {pa.large_string()}
    assert source.sha256() == hashlib.sha256(data).hexdigest()
    assert [b.num_rows for b in source.batches()] == [b.num_rows for b in source.batches()]
    with pytest.raises(UsageError, match="no column 'z'"):
        source.table(["z"])
    for later in (b'{"a":1,"c":"x"}\n{"b":"y"}\n', b'{"a":1,"b":"x"}\n', b'{"a":[],"b":"x"}\n{"b":"y"}\n'):
        (tmp_path / "t.jsonl").write_bytes(later)
        with pytest.raises(DecodeError, match="changed while it was read"):
            source.table()
    (tmp_path / "t.jsonl").unlink()
    with pytest.raises(DecodeError, match="cannot be read"):
        source.table()


def converted(table):
    out = io.BytesIO()
    write_json_lines(iter(table.to_batches(max_chunksize=7)), out)
    return out.getvalue().decode()


def test_conversion_keeps_every_value():
    stamp = dt.datetime(2024, 2, 29, 23, 59, 59, 123456)
    table = pa.table(
        {
            "i": pa.array([2**63 - 1, None], pa.int64()),
            "u": pa.array([2**64 - 1, None], pa.uint64()),
            "f": [1.0, -0.0],
            "g": [1e300, 0.1],
            "h": pa.array([0.5, None], pa.float16()),
            "d": pa.array([decimal.Decimal("1.50"), None], pa.decimal128(38, 2)),
            "s": ['東京"\\\n\x01\u2028', None],
            "sv": pa.array(["v", None], pa.string_view()),
            "c": pa.array(["v", None]).dictionary_encode(),
            "t": pa.array([stamp, None], pa.timestamp("us")),
            "z": pa.array([stamp, None], pa.timestamp("ms", "Asia/Tokyo")),
            "day": pa.array([stamp.date(), None]),
            "time": pa.array([stamp.time(), None]),
            "b": [True, None],
            "n": pa.nulls(2),
            "l": [[[1, None], []], None],
            "fl": pa.array([[1, 2], None], pa.list_(pa.int8(), 2)),
            "lv": pa.array([[1], None], pa.list_view(pa.int8())),
            "st": [{"x": [{"y": 'q"'}], "z": None}, None],
            "m": pa.array([[("k", 1), ("j", None)], None], pa.map_(pa.string(), pa.int32())),
            "re": pa.RunEndEncodedArray.from_arrays(pa.array([1, 2], pa.int32()), pa.array(["x", None])),
            'キ"ー': [1, 2],
        }
    )
    first, second = converted(table)[:-1].split("\n")
    assert json.loads(first, parse_float=decimal.Decimal) == {
        "i": 2**63 - 1, "u": 2**64 - 1, "f": 1, "g": decimal.Decimal("1e300"), "h": decimal.Decimal("0.5"),
        "d": decimal.Decimal("1.50"), "s": '東京"\\\n\x01\u2028', "sv": "v", "c": "v",
        "t": "2024-02-29T23:59:59.123456", "z": "2024-02-29T23:59:59.123Z", "day": "2024-02-29",
        "time": "23:59:59.123456", "b": True, "n": None, "l": [[1, None], []], "fl": [1, 2], "lv": [1],
        "st": {"x": [{"y": 'q"'}], "z": None}, "m": [{"key": "k", "value": 1}, {"key": "j", "value": None}],
        "re": "x", 'キ"ー': 1,
    }  # fmt: skip
    assert {k: v for k, v in json.loads(second).items() if v is not None} == {"f": 0.0, "g": 0.1, 'キ"ー': 2}
    for literal in ('"f":1.0', '"d":1.50', "東京", '"u":18446744073709551615'):
        assert literal in first
    assert '"f":-0.0' in second
    assert converted(table.slice(1, 1)) == second + "\n"
    assert converted(pa.table({"a": ["x"] * 20, "b": list(range(20))})).count("\n") == 20
    out = io.BytesIO()
    write_json_lines(iter([]), out)
    assert out.getvalue() == b""


@pytest.mark.parametrize(
    ("column", "words"),
    [
        (pa.array([b"x"]), "bytes"),
        (pa.array([b"x"], pa.binary(1)), "bytes"),
        (pa.array([b"x"], pa.binary_view()), "bytes"),
        (pa.array([[{"y": b"x"}]]), "bytes"),
        (pa.array([1.0, float("nan")]), "NaN"),
        (pa.array([[{"y": float("inf")}]]), "NaN"),
        (pa.array([10**14], pa.timestamp("s")), "a time"),
        (pa.array([pa.MonthDayNano([1, 2, 3])]), "month_day_nano"),
        (pa.UnionArray.from_sparse(pa.array([0], pa.int8()), [pa.array([1])]), "union"),
    ],
)
def test_conversion_refuses_by_name_of_the_column(column, words):
    with pytest.raises(UsageError, match=f"'the column'.*{words}"):
        converted(pa.table({"a": pa.array([1] * len(column)), "the column": column}))


def test_nan_below_a_null_is_nobodys_business():
    inner = pa.array([1.5, float("nan")])
    column = pa.StructArray.from_arrays([inner], ["x"], mask=pa.array([False, True]))
    assert converted(pa.table({"a": column})) == '{"a":{"x":1.5}}\n{"a":null}\n'


def test_names_twice_are_refused():
    batch = pa.RecordBatch.from_arrays([pa.array([1]), pa.array([2])], ["a", "a"])
    with pytest.raises(DataguardError, match="twice"):
        write_json_lines(iter([batch]), io.BytesIO())
