"""Encodings: Japanese comes out right, or is refused with a reason; never mojibake in silence."""

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataguard.errors import DecodeError, UsageError
from dataguard.formats import csv as formats_csv
from dataguard.formats import csv_scan
from dataguard.formats.csv import CsvSource
from dataguard.formats.edits import Moves, as_block
from dataguard.formats.encodings import codec_errors, encoding_named, sniff_encoding
from dataguard.formats.splice import splice_csv
from dataguard.formats.transcode import Utf16Stream, Utf16Writer, decode_cells

QUIET = settings(max_examples=200, deadline=None, derandomize=True)

PHRASES = """氏名,住所,電話
山田太郎,東京都千代田区丸の内1-2-3
﨑山 髙子,大阪府堺市
株式会社日立製作所
㈱山本商店,①
ﾔﾏﾀﾞ ﾀﾛｳ
ﾊﾝｶｸ ﾃｽﾄ
東京ﾀﾜｰ
ﾃｽﾄ用
ABCﾃｽﾄ
トヨタ自動車
こんにちは、世界。
渡邊 齋藤 濱口
北海道札幌市中央区北1条西2丁目
ソニー,表示,能力,十分
ポイント|タブ
品番,数量,単価(円),備考
センサー1,温度(℃),湿度(％)
高橋,佐藤,鈴木,伊藤
愛
山
東京
はい,いいえ
男,女
カ)ﾔﾏﾀﾞｼｮｳﾃﾝ
〒100-0001
京都府京都市左京区吉田本町
ｱ
ﾄｳｷｮｳﾄ ﾁﾖﾀﾞｸ
ｶﾌﾞｼｷｶﾞｲｼｬ
令和6年4月1日,平成
売上高¥1,200
データ№3～5""".splitlines()

LATIN = """Amélie,Zürich
José García,Málaga
Müller,Köln,Straße
ESPAÑA
25 °C
µm ±5
£5
“quoted” – text
l’été à Paris
«École»
Ørsted,Århus
Françoise
naïve café
São Paulo
Citroën
François,Noël
€ 5
façade,Señor
½""".splitlines()

TABLE = [
    ["氏名", "住所", "ｶﾅ", "備考"],
    ["山田 太郎", "東京都千代田区丸の内１丁目２番　一号", "ﾔﾏﾀﾞ ﾀﾛｳ", "表示・能力"],
    ["鈴木 花子", '大阪府堺市"堺区"', "ｽｽﾞｷ ﾊﾅｺ", ""],
    ["佐藤, 一郎", "北海道札幌市\n中央区北1条", "ｻﾄｳ ｲﾁﾛｳ", "plain"],
    ["渡邊 薫", "京都府京都市左京区吉田本町", "ﾜﾀﾅﾍﾞ ｶｵﾙ", "こんにちは、ソニー"],
]
EXTENDED = [*TABLE, ["髙橋 﨑", "㈱山本商店①", "ﾀｶﾊｼ", "№3"]]

WAYS = {
    "utf-8": ("utf-8", EXTENDED),
    "utf-8-sig": ("utf-8", EXTENDED),
    "utf-16": ("utf-16-le", [*EXTENDED, ["𠮷野", "x", "y", "z"]]),
    "utf-16-le": ("utf-16-le", EXTENDED),
    "utf-16-be": ("utf-16-be", EXTENDED),
    "cp932": ("cp932", EXTENDED),
    "euc_jp": ("euc_jp", TABLE),
}


def as_csv(table, newline="\r\n"):
    cells = [['"' + c.replace('"', '""') + '"' if set(c) & set('",\n') else c for c in row] for row in table]
    return "".join(",".join(row) + newline for row in cells)


def opened(tmp_path, data, **options):
    path = tmp_path / "t.csv"
    path.write_bytes(data)
    return CsvSource(path, "csv", "t.csv", **options)


def columns_of(table):
    return {name: [row[k] or None for row in table[1:]] for k, name in enumerate(table[0])}


@pytest.mark.parametrize("block", [8, 64, 1 << 20])
@pytest.mark.parametrize("codec", WAYS)
def test_japanese_tables_read_the_same_in_every_encoding(tmp_path, monkeypatch, codec, block):
    monkeypatch.setattr(csv_scan, "_BLOCK", block)
    encoding, table = WAYS[codec]
    data = as_csv(table).encode(codec)
    source = opened(tmp_path, data)
    assert source.encoding == encoding
    assert source.table().to_pydict() == columns_of(table)
    order = np.arange(len(table) - 1)
    moves = [Moves(name, order, np.roll(order, k)) for k, name in enumerate(table[0])]
    out = io.BytesIO()
    splice_csv(source, as_block(moves, source.rows()), out)
    body = np.array(table[1:], object)
    rolled = [table[0], *np.array([body[np.roll(order, k), k] for k in range(4)]).T.tolist()]
    assert out.getvalue() == as_csv(rolled).encode(codec)


@pytest.mark.parametrize("codec", ["cp932", "euc_jp"])
def test_every_phrase_alone_is_right_or_refused(codec):
    right = 0
    for phrase in PHRASES:
        try:
            raw = f"id,v\n1,{phrase}\n".encode(codec)
        except UnicodeEncodeError:
            continue
        try:
            found = sniff_encoding(raw, where="t.csv")
        except DecodeError as error:
            found = str(error)
        if "could be text in" in found:
            continue
        if found == "utf-8":
            assert phrase == "ﾃｽﾄ用"  # in CP932 it happens to be valid UTF-8
            continue
        assert found == codec
        right += 1
    assert right >= 25


@pytest.mark.parametrize("codec", ["cp932", "euc_jp"])
def test_many_small_files_are_never_read_in_the_wrong_encoding(codec):
    """Budget: none wrong of 400; fewer than 8 refused because they hold next to nothing."""
    rng = np.random.default_rng(5)
    refused = 0
    for _ in range(400):
        chosen = rng.choice(PHRASES, int(rng.integers(2, 6)), replace=False)
        text = "id,v\n" + "".join(f"{k},{phrase}\n" for k, phrase in enumerate(chosen))
        raw = text.encode(codec, "ignore")
        try:
            assert sniff_encoding(raw) == codec
        except DecodeError:
            refused += 1
    assert refused < 8


def test_western_text_is_windows_1252_or_refused(tmp_path):
    right = 0
    for phrase in LATIN:
        try:
            found = sniff_encoding(f"id,v\n1,{phrase}\n".encode("cp1252"))
        except DecodeError as error:
            found = str(error)
        assert found == "cp1252" or "could be text in" in found
        right += found == "cp1252"
    assert right >= len(LATIN) - 3
    whole = "\n".join(["id,v", *(f"{k},{phrase.replace(',', ' ')}" for k, phrase in enumerate(LATIN))])
    source = opened(tmp_path, whole.encode("cp1252"))
    assert source.encoding == "cp1252"
    assert source.table()["v"].to_pylist() == [phrase.replace(",", " ") for phrase in LATIN]


def test_damaged_utf8_is_named_not_guessed(tmp_path):
    """Every byte above 0x7F of a table destroyed in turn: no other encoding is taken for it."""
    good = as_csv(EXTENDED, "\n").encode()
    places = [k for k, byte in enumerate(good) if byte > 0x7F]
    for k in places:
        for broken in (
            good[:k] + b"\xff" + good[k + 1 :],
            good[:k] + good[k + 1 :],
            good[:k] + b"?" + good[k + 1 :],
        ):
            assert sniff_encoding(broken) == "utf-8"
    k = good.index("花".encode())
    with pytest.raises(DecodeError, match=r"row 2 \(line 3\) is not UTF-8; repair that line"):
        opened(tmp_path, good[:k] + good[k + 1 :]).table()
    with pytest.raises(DecodeError, match="the header is not UTF-8"):
        opened(tmp_path, good[1:])


@pytest.mark.parametrize(
    ("codec", "bad", "name"),
    [
        ("cp932", b"\x81\x20", r"CP932 \(Shift_JIS\), the encoding assumed"),
        ("euc_jp", b"\xa4\x20", "EUC-JP, the encoding assumed"),
        ("euc_jp", b"\xa9\xa1", "EUC-JP, the encoding assumed"),
        ("cp1252", b"\x81", "Windows-1252, the encoding assumed"),
        ("utf-8", b"\xe3\x81", "UTF-8"),
        ("utf-16-le", b"\x00\xd8", r"UTF-16 \(little-endian\)"),
        ("utf-16-be", b"\xdc\x00", r"UTF-16 \(big-endian\)"),
    ],
)
@pytest.mark.parametrize("block", [64, 1 << 20])
def test_a_bad_byte_far_down_is_named_with_row_and_line(tmp_path, monkeypatch, codec, bad, name, block):
    monkeypatch.setattr(csv_scan, "_BLOCK", block)
    text = "Amélie,Müller\n" if codec == "cp1252" else '高橋,"東京都\n千代田区"\n'
    lines = 1 + text.count("\n") * 9000
    good = ("id,v\n" + text * 9000).encode(codec)
    with pytest.raises(DecodeError, match=rf"row 9001 \(line {lines + 1}\) is not {name}"):
        opened(tmp_path, good + "x,".encode(codec) + bad + "\n1,2\n".encode(codec)).table()


def test_half_a_character_at_the_end_of_utf16(tmp_path):
    data = "a,b\n1,東\n2,京\n".encode("utf-16-le")
    assert opened(tmp_path, data).rows() == 2
    with pytest.raises(DecodeError, match=r"row 3 \(line 4\) is not UTF-16 \(little-endian\)"):
        opened(tmp_path, data + b"1", encoding="utf-16-le").table()
    with pytest.raises(DecodeError, match="UTF-16"):
        opened(tmp_path, b"\xff\xfe\x00\xd8")


def test_what_cannot_be_scanned_is_refused_with_a_remedy(tmp_path):
    for codec in ("iso2022_jp", "utf-32"):
        with pytest.raises(DecodeError, match=r"is (ISO-2022-JP|UTF-32) text; .*UTF-8"):
            opened(tmp_path, as_csv(TABLE).replace("ﾔﾏﾀﾞ", "").encode(codec, "ignore"))
    late = b"a,b\n" + b"1,2\n" * 20_000 + "3,東京\n".encode("iso2022_jp") + b"4,5\n"
    with pytest.raises(DecodeError, match="line 20002 is ISO-2022-JP text"):
        opened(tmp_path, late).table()
    with pytest.raises(DecodeError, match="line 20002 is ISO-2022-JP text"):
        opened(tmp_path, late.replace(b"3,", b'3,"').replace(b"\x1b(B", b'\x1b(B"')).table()
    assert opened(tmp_path, b"a,b\n1,\x1b[31mred\n").table()["b"].to_pylist() == ["\x1b[31mred"]


def test_the_bar_is_a_byte_of_cp932_characters(tmp_path):
    with pytest.raises(DecodeError, match="CP932 text separated by bars"):
        opened(tmp_path, "名前|点\n東京|1\n大阪|2\n".encode("cp932"))
    source = opened(tmp_path, "名前,ポイント\n東京,ポ\n大阪,ポポ\n".encode("cp932"))
    assert source.table().to_pydict() == {"名前": ["東京", "大阪"], "ポイント": ["ポ", "ポポ"]}
    assert opened(tmp_path, "名前|点\n東京|1\n大阪|2\n".encode("euc_jp")).column_names == ("名前", "点")


def test_japanese_that_begins_late_is_found(tmp_path, monkeypatch):
    ascii_rows = b"id,v\n" + b"1,abc\n" * 200_000
    for codec in ("cp932", "euc_jp"):
        source = opened(tmp_path, ascii_rows + "2,東京都千代田区\n3,ひらがな\n".encode(codec))
        assert source.encoding == codec
        assert source.table()["v"].to_pylist()[-2:] == ["東京都千代田区", "ひらがな"]
    monkeypatch.setattr(formats_csv, "_SEARCH", 1 << 17)
    source = opened(tmp_path, ascii_rows + "2,東京都千代田区\n".encode("cp932"))
    assert source.encoding == "utf-8"
    with pytest.raises(DecodeError, match=r"row 200001 \(line 200002\) is not UTF-8"):
        source.table()


def test_euc_jp_with_the_rows_windows_adds(tmp_path):
    # CP51932: row 13 (NEC) and rows 89 to 92 (IBM, selected by NEC) of JIS X 0208.
    line = "東京,".encode("euc_jp") + b"\xad\xa1\xad\xea\xfc\xe2\n"
    assert opened(tmp_path, b"a,b\n" + line * 3).table()["b"].to_pylist() == ["①㈱髙"] * 3
    triple = "丂".encode("euc_jp")  # JIS X 0212, three bytes
    assert len(triple) == 3
    assert opened(tmp_path, b"a,b\n" + "東京,".encode("euc_jp") + triple + b"\n").table()[
        "b"
    ].to_pylist() == ["丂"]


def test_the_user_has_the_last_word(tmp_path):
    data = "id,v\n1,山\n".encode("euc_jp")
    with pytest.raises(DecodeError, match="could be text in"):
        opened(tmp_path, data)
    source = opened(tmp_path, data, encoding="EUC-JP")
    assert (source.encoding, source.table()["v"].to_pylist()) == ("euc_jp", ["山"])
    assert [encoding_named(name) for name in ("sjis", "ms932", "latin-1", "utf8", "U8")] == [
        "cp932", "cp932", "iso8859-1", "utf-8", "utf-8",
    ]  # fmt: skip
    for name in ("utf-7", "klingon", "big5"):
        with pytest.raises(UsageError, match="choose one of"):
            opened(tmp_path, data, encoding=name)


def test_text_with_nul_bytes_is_no_utf16():
    for sample in (b"a,b\n\x001,2\n", b"\0" * 50, b"id,v\n1,\0\0\0\0\n", b"ab\0\0cd\0\0\n\0\0\0"):
        assert sniff_encoding(sample) == "utf-8"
    assert sniff_encoding("表,値\n上,①\n東京都,②\n".encode("utf-16-be")) == "utf-16-be"


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)


@QUIET
@given(
    text=TEXT, bom=st.booleans(), codec=st.sampled_from(["utf-16-le", "utf-16-be"]), step=st.integers(1, 7)
)
def test_utf16_there_and_back_is_lossless(text, bom, codec, step):
    data = ("\ufeff" * bom + text).encode(codec)
    stream = Utf16Stream(io.BytesIO(data), codec)
    out, buffer, parts = io.BytesIO(), bytearray(step), b""
    sink = Utf16Writer(out, codec)
    while got := stream.readinto(memoryview(buffer)):
        parts += buffer[:got]
        sink.write(bytes(buffer[:got]))
    assert parts == data.decode(codec).encode()
    assert out.getvalue() == data
    assert Utf16Stream(io.BytesIO(data), codec).read() == parts
    assert Utf16Stream(io.BytesIO(data), codec).read(step) == parts[:step]


@QUIET
@given(
    cells=st.lists(st.text("aｱ髙東①ソ,\n", max_size=6), max_size=20),
    encoding=st.sampled_from(["cp932", "euc_jp", "cp1252"]),
)
def test_cells_decoded_together_equal_cells_decoded_alone(cells, encoding):
    raw = [cell.encode(encoding, "ignore") for cell in cells]
    text, ends = decode_cells(np.frombuffer(b"".join(cell + b"\0" for cell in raw), np.uint8), encoding)
    starts = [0, *ends[:-1]]
    got = [text[a:b].tobytes().decode() for a, b in zip(starts, ends, strict=True)] if cells else []
    assert got == [cell.decode(encoding, codec_errors(encoding)) for cell in raw]
