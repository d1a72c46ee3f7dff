"""What people see of a comparison: exhibits, words, page, terminal and notebook; no measurement is made here."""

from __future__ import annotations

import io
import re
from html import unescape

import numpy as np
import pyarrow as pa
import pytest

from dataguard.carrier import Alignment, ColumnMatch
from dataguard.errors import UsageError
from dataguard.evidence.wording import lint, lint_html
from dataguard.fingerprints.changes.change import Change
from dataguard.fingerprints.comparison.change_words import change_words
from dataguard.fingerprints.comparison.exhibits import Exhibits, make_exhibits
from dataguard.fingerprints.comparison.foreign import number_text, shown
from dataguard.fingerprints.comparison.personal import covered, personal_kind
from dataguard.fingerprints.comparison.printed import few, printed
from dataguard.fingerprints.comparison.sentences import log10_text, relation_words, undecided
from dataguard.fingerprints.comparison.summary import summary_html
from dataguard.fingerprints.comparison.tables import ColumnComparison
from dataguard.fingerprints.comparison.words import share_words
from dataguard.maps import Recoding, ValueMap
from dataguard.model import Relation
from dataguard.pages.comparison import LANGUAGES, comparison_page
from dataguard.pages.plots import scatter, ticks, time_ticks
from dataguard.pages.terminal import comparison_screen
from dataguard.values import canonical_column, canonical_table
from test_wording import Page

EVIL = "\u202e<img src=x onerror=alert(1)>{{7*7}}“stolen”\x1b[31m\x00\n100%\u0301\u0301\u0301\u0301"


def aligned(n: int, through: list, by: str = "values") -> Alignment:
    """Row i is row n - 1 - i of the suspect, column j column j."""
    columns = tuple(ColumnMatch(i, i, by, 1.0, m) for i, m in enumerate(through))
    return Alignment(columns, np.arange(n)[::-1].copy(), np.arange(n), np.full(n, len(columns)), n, n, 0)


def compared(name: str, *kinds: str) -> ColumnComparison:
    return ColumnComparison(name, name, "name", tuple(Change(k) for k in kinds), 0.5, None)


def tables(n: int = 500, seed: int = 3):
    """Inches turned to rounded centimetres, a renamed category, noise on a few numbers, a text in other case."""
    rng = np.random.default_rng(seed)
    inch, kind = rng.uniform(1, 90, n).round(2), rng.choice(["small", "large", "huge"], n)
    size = rng.normal(1000, 50, n).round(1)
    noised = np.where(np.arange(n) % 50 == 0, size + 1, size)
    original = pa.table({"inch": inch, "kind": kind, "size": size, "word": [f"w{i}" for i in range(n)]})
    through = ValueMap(scale=2.54, step=0.5)
    renamed = {"small": "S", "large": "L", "huge": "H"}
    suspect = pa.table({
        "inch": through.apply(inch), "kind": [renamed[k] for k in kind], "size": noised,
        "word": [f"W{i}" for i in range(n)],
    })  # fmt: skip
    a, b = canonical_table(original), canonical_table(suspect.take(pa.array(np.arange(n)[::-1])))
    keys = {x: int(canonical_column(pa.array([x])).key[0]) for pair in renamed.items() for x in pair}
    order = sorted(renamed, key=keys.__getitem__)
    recoding = Recoding(
        *(np.array([keys[x] for x in names], np.uint64) for names in (order, [renamed[o] for o in order]))
    )
    return a, b, aligned(n, [through, recoding, None, None])


def document(relation: str = "subset", **more) -> dict:
    share = {"estimate": 0.98765, "low": 0.97, "high": 1.0, "exact": False}
    return {
        "schema": "dataguard.compare/1", "relation": relation, "changes": [{"kind": "reordered"}],
        "containment_original": share, "containment_suspect": {"estimate": 1.0, "low": 1.0, "high": 1.0, "exact": True},
        "rows": {"original": 1000, "suspect": 500, "examined": 500, "matched": 480, "tied": 7, "undecided": 13},
        "columns": [
            {"original": "inch", "suspect": "cm", "by": "values", "agreement": 0.0, "explained": 1.0, "changes": [
                {"kind": "affine", "scale": 2.54, "offset": 0.0, "unit": "inch -> cm", "residual": 0.0},
                {"kind": "rounded", "step": 0.1, "rule": "nearest"}]},
            {"original": "kind", "suspect": "kind", "by": "name", "agreement": 1.0, "explained": 1.0, "changes": []},
        ],
        "log10_p": -12.34561, "null_hypothesis": "the two halves of the suspect's columns are paired at random",
        "findings": [{
            "subject": "rows of the suspect found in the original", "method": "m/1",
            "null_hypothesis": "the two halves of the suspect's columns are paired at random",
            "counts": {"rows": 500, "found": 480}, "log10_p": -12.34561}],
        **more,
    }  # fmt: skip


def page(doc: dict, exhibits: Exhibits | None = None, **more) -> str:
    return comparison_page(doc, exhibits or Exhibits(), original="a.csv", suspect="b.csv", **more)


# --- exhibits --------------------------------------------------------------------------------------


def test_states_say_how_cells_meet() -> None:
    a, b, alignment = tables()
    made = make_exhibits(a, b, alignment, [compared("inch", "affine"), compared("kind", "recoded")], rows=20)
    assert len(made.rows) == 20
    assert [r.original for r in made.rows] == sorted({r.original for r in made.rows})
    for row in made.rows:
        assert row.suspect == 499 - row.original
        # Nine of ten rounded values differ from the original's; all are what the map says.
        assert row.cells[0].state == "mapped"
        assert row.cells[1].state == "mapped"
        assert row.cells[2].state == ("near" if row.original % 50 == 0 else "equal")
        assert row.cells[3].state == "mapped", "another case is another spelling"
    # Ten of 500 rows differ in "size": one is shown whatever the hashes say.
    assert any(row.cells[2].state == "near" for row in made.rows)
    again = make_exhibits(a, b, alignment, [compared("inch", "affine"), compared("kind", "recoded")], rows=20)
    assert again == made


def test_a_wrong_map_shows_as_different() -> None:
    a, b, _ = tables()
    wrong = aligned(500, [ValueMap(scale=3.0), None, None, None])
    made = make_exhibits(a, b, wrong, [])
    assert {row.cells[0].state for row in made.rows} <= {"near", "different"}
    assert {row.cells[1].state for row in made.rows} == {"different"}
    assert made.plots == ()


def test_rows_do_not_depend_on_the_order_of_the_suspect() -> None:
    a, b, alignment = tables()
    shuffle = np.random.default_rng(1).permutation(500)
    other = type(b)(b.names, tuple(c.take(shuffle) for c in b.columns))
    place = np.argsort(shuffle)
    moved = Alignment(
        alignment.columns, place[alignment.suspect_row], alignment.original_row, alignment.equal, 500, 500, 0
    )
    changed = [compared("size", "noise")]
    one, two = make_exhibits(a, b, alignment, changed), make_exhibits(a, other, moved, changed)
    assert [(r.original, r.cells) for r in one.rows] == [(r.original, r.cells) for r in two.rows]


def test_plots_hold_values_line_and_pairs() -> None:
    a, b, alignment = tables()
    made = make_exhibits(a, b, alignment, [compared(n, "x") for n in a.names], points=100)
    numbers, kinds, size, words = made.plots
    assert len(numbers.x) == len(numbers.y) == 100
    assert numbers.fitted
    assert all(y == pytest.approx(2.54 * x, abs=0.2501) for x, y in numbers.line)
    assert [(p, q) for p, q, _ in sorted(kinds.pairs)] == [("huge", "H"), ("large", "L"), ("small", "S")]
    assert sum(n for *_, n in kinds.pairs) == 500
    assert kinds.others == 0
    assert not size.fitted
    assert size.line[0][0] == size.line[0][1]
    assert words.others == 500 - len(words.pairs)


def test_ties_are_shown_where_there_is_nothing_else() -> None:
    table = canonical_table(pa.table({"x": ["a"] * 6}))
    none = np.empty(0, np.int64)
    tied = Alignment((ColumnMatch(0, 0, "name", 1.0),), none, none, none, 6, 6, 6, np.arange(6), np.arange(6))
    made = make_exhibits(table, table, tied, [compared("x")])
    assert [r.tied for r in made.rows] == [True] * 6
    assert "several rows of the original are like" in page(document(), made)


@pytest.mark.parametrize("rows", [0, 1, 3])
def test_odd_columns_do_no_harm(rows: int) -> None:
    held = {
        "null": pa.array([None] * 3, pa.float64()), "inf": pa.array([np.inf, -np.inf, np.nan]),
        "wide": pa.array([1e308, -1e308, 5e-324]), "long": pa.array(["x" * 100_000, EVIL, ""]),
        "time": pa.array([-(2**62), 0, 2**62], pa.timestamp("us", tz="UTC")), "list": pa.array([[1], [], None]),
        "bytes": pa.array([b"\xff", b"", None]), "dict": pa.array(["a", "b", None]).dictionary_encode(),
        "ns": pa.array([1, 2, None], pa.timestamp("ns")), "same": pa.array([7, 7, 7]),
        "big": pa.array([2**63 - 1, 10**17, -1]), "flag": pa.array([True, None, False]),
        "const": pa.array([1e15 + 1] * 3), "part": pa.array([1e-310, 2e-310, 3e-310]),
    }  # fmt: skip
    table = canonical_table(pa.table(held).slice(0, rows))
    other = canonical_table(
        pa.table({k: pa.array([str(k)] * rows) if k == "null" else v[:rows] for k, v in held.items()})
    )
    for through in (None, ValueMap(scale=1e300), ValueMap(function="log"), ValueMap(step=1e-300)):
        alignment = aligned(rows, [through] * len(held))
        made = make_exhibits(table, other, alignment, [compared(n, "x") for n in held])
        assert all(len(c.original) <= 80 and len(c.suspect) <= 80 for r in made.rows for c in r.cells)
        assert "nan" not in re.findall(r'[MLVH" ](nan|inf)\b', page(document(), made))


def test_names_may_repeat() -> None:
    table = canonical_table(pa.Table.from_arrays([pa.array([1, 2]), pa.array([3, 4])], names=["a", "a"]))
    made = make_exhibits(table, table, aligned(2, [None, None]), [compared("a", "x"), compared("a", "x")])
    assert [p.column for p in made.plots] == [0, 1]


def test_cells_are_printed_as_in_the_source() -> None:
    column = canonical_column(pa.chunked_array([["007", " 1,000.0 "], ["ＡＢＣ", None]]))
    assert printed(column, 80) == ["007", " 1,000.0 ", "ＡＢＣ", ""]
    assert printed(few(column, np.array([3, 0, 2])), 80) == ["", "007", "ＡＢＣ"]
    assert few(column, np.array([3, 0, 2])).key.tolist() == column.take(np.array([3, 0, 2])).key.tolist()
    moments = pa.array([1_500_000, 10**6], pa.timestamp("us"))
    assert printed(canonical_column(moments), 80) == ["1970-01-01 00:00:01.5", "1970-01-01 00:00:01"]
    assert printed(canonical_column(pa.array(["x" * 99])), 10) == ["x" * 9 + "…"]


# --- what is personal ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("name", "person"), ("customer_name", "person"), ("氏名", "person"), ("フリガナ", "person"), ("E-Mail", "mail"),
        ("contactEmail", "mail"), ("電話番号", "phone"), ("mobile", "phone"), ("home_address", "address"),
        ("住所", "address"), ("生年月日", "birth"), ("DateOfBirth", "birth"), ("CustomerID", "id number"),
        ("マイナンバー", "id number"), ("creditCardNo", "card"), ("client_ip", "IP address"), ("LastName", "person"),
        ("product_name", ""), ("dep_delay", ""), ("carrier", ""), ("zone", ""), ("tailnum", ""), ("description", ""),
        ("shipment", ""), ("address", "address"), ("recipient", ""), ("distance", ""), ("station name", ""),
    ],
)  # fmt: skip
def test_names_tell_personal_columns(name: str, kind: str) -> None:
    assert personal_kind(name, canonical_column(pa.array([1.5, 2.5]))) == kind


def test_content_tells_personal_columns() -> None:
    first, last = (
        ("Anna", "Bela", "Carl", "Dora", "Emil"),
        ("Adler", "Brook", "Cole", "Diaz", "O'Neil", "Fischer"),
    )
    rows = [(f, s) for f in first for s in last]
    held = {
        "person": [f"{f} {s}" for f, s in rows], "mail": [f"{f}.{s}{i}@host.example" for i, (f, s) in enumerate(rows)],
        "phone": [f"03-{1000 + i}-{2000 + i}" for i in range(30)], "IP address": [f"10.0.{i}.7" for i in range(30)],
        "card": ["4111 1111 1111 1111", "5500-0000-0000-0004"],
    }  # fmt: skip
    for kind, values in held.items():
        assert personal_kind("x", canonical_column(pa.array(values))) == kind
    assert personal_kind("x", canonical_column(pa.array(["山田 太郎", "佐藤 花子", "鈴木 一郎"]))) == "person"
    assert personal_kind("x", canonical_column(pa.array([4111111111111111, 5500000000000004]))) == "card"
    for values in (
        ["2013-01-01", "2013-01-02"],
        ["Red", "Green"],
        [f"SKU-{i}" for i in range(30)],
        [1234567890123456],
    ):
        assert personal_kind("x", canonical_column(pa.array(values))) == "", values
    # A few repeated names of two words are a category.
    assert personal_kind("x", canonical_column(pa.array(["United Kingdom", "New Zealand"] * 20))) == ""


def test_covered_cells_show_first_character_and_length() -> None:
    assert covered("山田太郎") == "山••• (4)"
    assert covered("x") == "• (1)"
    assert covered("") == ""
    assert covered("0" * 80) == "0•••••••• (80+)"


def secret_tables():
    n = 60
    names = [f"Person{chr(65 + i % 26)}{chr(97 + i // 26)} Secretson" for i in range(n)]
    born = [f"19{40 + i % 60}-0{1 + i % 9}-1{i % 10}" for i in range(n)]
    original = pa.table({"full name": names, "birth": born, "pay": np.arange(n) * 1000.0, "town": ["t"] * n})
    suspect = pa.table(
        {"who": [x.upper() for x in names], "when": born, "pay": np.arange(n) * 1000.0 + 1, "town": ["u"] * n}
    )
    a, b = canonical_table(original), canonical_table(suspect)
    told = Change("recoded", {"map": [[names[0], names[0].upper()], [born[0], born[1]]], "values": n})
    changed = [
        ColumnComparison(
            x, y, "values", (told if i < 2 else Change("near-values", {"share": 1.0, "max": 1.0}),), 0.0, None
        )
        for i, (x, y) in enumerate(zip(a.names, b.names, strict=True))
    ]
    columns = tuple(ColumnMatch(i, i, "values", 1.0) for i in range(4))
    rows = np.arange(n)
    made = make_exhibits(a, b, Alignment(columns, rows, rows, np.full(n, 4), n, n, 0), changed)
    doc = document(
        columns=[
            {"original": c.original, "suspect": c.suspect, "agreement": 0.0,
             "changes": [x.to_dict() for x in c.changes]}
            for c in changed
            if c.original != "town"
        ],
        changes=[{"kind": "selected", "where": f"full name = {names[1]}"}],
        evidence={
            "rarity": {"total_bits": 12.5, "rarest": [
                {"original_row": 1, "column": "full name", "value": names[2], "held": 1},
                {"original_row": 1, "column": "pay", "value": "777000", "held": 1}]},
            "errors": {"examples": [
                {"column": "birth", "value": born[3], "expected": born[4], "rule": "x", "outcome": "shared"}]},
        },
    )  # fmt: skip
    return made, doc, names, born


def test_covered_cells_are_nowhere_in_the_page() -> None:
    made, doc, names, born = secret_tables()
    text = unescape(page(doc, made))
    for cell in (*names, *(x.upper() for x in names), *born):
        assert cell not in text
        assert cell[3:] not in text
    assert "Secretson" not in text.title()
    assert "777000" in text, "cells of other columns are shown"
    assert "P•••••••• (18)" in text
    assert "outcome" in text
    assert "full name" in text
    assert 'aria-label="pay / pay"' in text
    assert 'aria-label="full name' not in text


def test_no_mask_shows_all_and_names_add() -> None:
    made, doc, names, born = secret_tables()
    everything = unescape(page(doc, made, mask=()))
    assert names[0] in everything
    assert any(b in everything for b in born)
    more = unescape(page(document(), made, mask=("auto", "pay")))
    assert "Secretson" not in more
    assert 'aria-label="pay / pay"' not in more
    only = unescape(page(document(), made, mask=("when",)))
    assert "Secretson" in only
    assert not any(b in only for b in born)
    with pytest.raises(UsageError, match="no matched column is called 'pai'"):
        page(doc, made, mask=("pai",))


# --- words -----------------------------------------------------------------------------------------

CHANGES = [
    ({"kind": "affine", "scale": 2.54, "offset": 0.0, "unit": "inch -> cm"}, "x 2.54, inch -> cm"),
    ({"kind": "affine", "scale": 1.8, "offset": 32.0, "unit": "degC -> degF"}, "x 1.8 + 32, degC -> degF"),
    ({"kind": "affine", "scale": 1.0, "offset": -3.5, "unit": None}, "- 3.5"),
    ({"kind": "affine", "scale": 7.1, "offset": 0, "unit": None, "said": "constant factor"},
     "x 7.1, a constant factor"),
    ({"kind": "affine", "scale": 1.0, "offset": 32400.0, "unit": "UTC -> UTC+9"}, "times shifted, UTC -> UTC+9"),
    ({"kind": "function", "name": "log10"}, "decimal logarithm"),
    ({"kind": "rounded", "step": 0.1, "rule": "nearest"}, "rounded to 0.1"),
    ({"kind": "rounded", "step": 10, "rule": "floor"}, "rounded to 10, downwards"),
    ({"kind": "rounded", "step": "hour", "rule": "floor"}, "rounded to the hour, downwards"),
    ({"kind": "rounded", "digits": 3}, "rounded to 3 significant digits"),
    ({"kind": "rounded", "digits": 7, "to": "float32"}, "held as “float32”"),
    ({"kind": "noise", "sd": 0.5, "relative_sd": 0.01, "share": 1.0},
     "noise of sd 0.5 (0.01 of the column's sd), all cells"),
    ({"kind": "clipped", "low": 0.0, "high": 9.5, "share": 0.02},
     "values below 0 and above 9.5 set to the limit, 2.00 % of cells"),
    ({"kind": "format", "from": "2013-01-31", "to": "31/01/2013", "share": 1.0},
     "written as “31/01/2013” instead of “2013-01-31”"),
    ({"kind": "recoded", "map": [["a", "x"], ["b", "y"]], "values": 2}, "2 values renamed: “a” -> “x”, “b” -> “y”"),
    ({"kind": "hashed", "algorithm": "sha256", "values": 5}, "each value replaced by one token (sha256), 5 values"),
    ({"kind": "truncated", "characters": 8}, "cut after 8 characters"),
    ({"kind": "masked", "pattern": "***-1"}, "characters covered: “***-1”"),
    ({"kind": "blanked", "share": 0.1}, "10.00 % of cells emptied"),
    ({"kind": "filled", "share": 1.0, "value": 0}, "all empty cells filled with 0"),
    ({"kind": "merged", "from": ["a", "b"], "separator": " "}, "“a”, “b” joined, separated by “ ”"),
    ({"kind": "split", "from": "a", "part": 1}, "part 1 of “a”"),
    ({"kind": "computed", "from": ["a", "b"], "formula": "a + b"}, "computed from “a”, “b”: “a + b”"),
    ({"kind": "near-values", "share": 0.00001, "max": 0.2}, "under 0.01 % of cells differ a little, by 0.2 at most"),
    ({"kind": "far-values", "share": 0.99999}, "99.99 % of cells differ"),
    ({"kind": "reordered"}, "rows in another order"),
    ({"kind": "sorted", "columns": ["a"]}, "rows sorted by “a”"),
    ({"kind": "columns-reordered"}, "columns in another order"),
    ({"kind": "columns-dropped", "columns": [f"c{i}" for i in range(15)]}, "and 3 more"),
    ({"kind": "columns-added", "columns": ["z"]}, "columns not of the original: “z”"),
    ({"kind": "renamed", "from": "a", "to": "b"}, "“a” renamed to “b”"),
    ({"kind": "mixed", "share": 0.9}, "90.00 % of the suspect's rows are not rows of the original"),
    ({"kind": "duplicated", "rows": 1}, "1 row repeated"),
    ({"kind": "selected", "where": "year = 2013"}, "rows selected where “year = 2013”"),
    ({"kind": "aggregated", "by": ["carrier"], "functions": {"dep_delay": "mean"}},
     "grouped by “carrier”: mean of “dep_delay”"),
    ({"kind": "from-the-future", "how": "so"}, "“from the future” (“how” “so”)"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "said"), CHANGES, ids=lambda c: c["kind"] if isinstance(c, dict) else "")
def test_changes_are_said_in_words(change: dict, said: str) -> None:
    words = change_words(change)
    assert words.en == said or (said.startswith("and") and words.en.endswith(said))
    assert lint(words.en) == lint(words.ja) == []
    if change["kind"] not in ("affine", "from-the-future"):
        assert re.search("[ぁ-んァ-ン一-龥]", words.ja)
    # What is left out of a change does no harm, nor does a wrong type.
    kind = {"kind": change["kind"]}
    for odd in (
        kind,
        *(dict.fromkeys(change, value) | kind for value in (None, [EVIL], EVIL, {EVIL: EVIL}, [[1, 2]], -1)),
    ):
        made = change_words(odd)
        assert not lint(made.en + made.ja)
        assert "\u202e" not in made.en + made.ja
        assert "\x1b" not in made.en + made.ja


def test_shares_are_cut_and_all_means_all() -> None:
    said = [share_words(s).en for s in (1.0, 0.999999, 0.5, 0.0, 1e-9, None)]
    assert said == ["all", "99.99 %", "50.00 %", "none", "under 0.01 %", "–"]
    assert share_words(0.99991, upwards=True).en == "all"
    assert share_words(0.12341, upwards=True).en == "12.35 %"


def test_log10_is_rounded_upwards() -> None:
    assert [log10_text(p) for p in (-12.34561, -30.0, -0.0, None)] == ["-12.34", "-30.00", "0.00", "–"]


def test_numbers_are_for_people() -> None:
    values = (1234567, 1234567.0, 0.1234567, 10**400, float("inf"), 1e300, -0.0)
    assert [number_text(v) for v in values] == [
        "1,234,567",
        "1,234,567",
        "0.123457",
        "huge",
        "inf",
        "1e+300",
        "0",
    ]


def test_no_others_is_said_only_of_every_row() -> None:
    doc = document("subset")
    assert relation_words(doc).en.endswith("and no others; the original has more.")
    doc["containment_suspect"] = {"estimate": 0.985, "low": 0.985, "high": 1.0, "exact": False}
    assert "98.50 % of its rows were found there" in relation_words(doc).en
    doc["containment_suspect"] = {"estimate": 1.0, "low": 0.99, "high": 1.0, "exact": False}
    assert "no others" not in relation_words(doc).en


def test_derived_says_by_what() -> None:
    derived = {
        "by": [{"original": "time_hour", "suspect": "m", "part": "month"}, {"original": "carrier", "suspect": "c"}],
        "functions": [{"suspect": "d", "function": "mean", "original": "dep_delay", "agree": 3, "groups": 4},
                      {"suspect": "n", "function": "count", "original": None, "agree": 4, "groups": 4}],
        "groups": 185, "found": 185, "agree": 184, "unexplained": [],
    }  # fmt: skip
    said = relation_words(document("derived", derived=derived))
    assert said.en == (
        "The suspect's values can be computed from the original: one row for each month of “time_hour”, “carrier”, "
        "mean of “dep_delay”, count; 184 of 185 groups agree."
    )
    assert "185群のうち184群が一致" in said.ja
    change = {"kind": "aggregated", "by": ["x"], "functions": {"y": ["min", "max"]}}
    assert "min/max of “y”" in relation_words(document("derived", changes=[change])).en


def test_undecided_rows_are_told_or_worked_out() -> None:
    assert undecided(document()) == 13
    rows = {"original": 10, "suspect": 8, "examined": 8, "matched": 5}
    share = {"estimate": 0.625, "low": 0.625, "high": 0.875, "exact": False}
    assert undecided(document(rows=rows, containment_suspect=share)) == 2
    assert undecided(document(rows={**rows, "suspect": 90}, containment_suspect=share)) == 0


def test_foreign_text_is_made_harmless() -> None:
    made = shown(EVIL, 200)
    assert made.startswith("<U+202E><img")
    assert "<U+001B>[31m<U+0000><U+000A>" in made
    assert made.endswith("100%\u0301\u0301<U+0301><U+0301>")
    assert len(shown(EVIL * 100, 40)) <= 40
    assert shown("x" * 60) == "x" * 60
    assert shown("x" * 61) == "x" * 59 + "…"


# --- the page --------------------------------------------------------------------------------------


def hostile_document() -> dict:
    column = {
        "original": EVIL,
        "suspect": EVIL * 40,
        "by": EVIL,
        "agreement": 0.5,
        "changes": [c for c, _ in CHANGES],
    }
    changes = [{**c, **{k: EVIL for k in c if k != "kind"}} for c, _ in CHANGES]
    return document(
        columns=[column] * 9, changes=changes, extra={EVIL: EVIL, "list": [EVIL], "table": [{EVIL: EVIL}]}
    )


def corpus() -> dict[str, str]:
    """Pages of every relation, in every language, plain and hostile: the lint of test_wording reads them too."""
    a, b, alignment = tables()
    made = make_exhibits(a, b, alignment, [compared(n, "x") for n in a.names])
    evil_table = canonical_table(pa.table({EVIL: [EVIL, "x"] * 9, "n": np.arange(18.0)}))
    evil_changes = [ColumnComparison(n, n, "name", (Change("noise"),), 0.0, None) for n in evil_table.names]
    evil = make_exhibits(evil_table, evil_table, aligned(18, [None, None]), evil_changes)
    out = {
        f"{r} {lang}": page(document(str(r)), made, lang=lang, alpha=1e-6)
        for r in Relation
        for lang in LANGUAGES
    }
    rows = {"original": 10**7, "suspect": 10**7, "examined": 20000, "matched": 19000}
    out["sampled"] = page(document(rows=rows), made)
    out["nothing"] = page({"relation": "unrelated", "log10_p": None, "null_hypothesis": "not computed: x"})
    out["everything"] = page(document(columns=[
        {"original": "c", "suspect": "d", "by": "rows", "agreement": 1.0, "changes": [c]} for c, _ in CHANGES
    ], changes=[c for c, _ in CHANGES], log10_p=0.0))  # fmt: skip
    out["hostile"] = comparison_page(
        hostile_document(), evil, original=EVIL, suspect=EVIL, command=EVIL, tool=EVIL, mask=()
    )
    return out


PAGES = corpus()


@pytest.mark.parametrize("name", PAGES)
def test_page_states_measurements_only(name: str) -> None:
    assert lint_html(PAGES[name]) == []


@pytest.mark.parametrize("name", PAGES)
def test_page_is_self_contained_and_nothing_foreign_is_markup(name: str) -> None:
    text = PAGES[name]
    read = Page()
    read.feed(text.replace("<!DOCTYPE html>", ""))
    assert read.open == []
    tags = {tag for tag, _ in read.tags}
    assert not tags & {"script", "img", "link", "iframe", "object", "a", "base", "form", "input"}
    for tag, attributes in read.tags:
        assert not [a for a in attributes if a.startswith("on") or a in ("src", "href", "style")], (
            tag,
            attributes,
        )
    policy = next(a["content"] for t, a in read.tags if t == "meta" and "http-equiv" in a)
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in policy
    assert "url(" not in text
    assert "@import" not in text
    assert not re.search("[\u202a-\u202e\u2066-\u2069\x00\x1b]", text)
    assert name != "hostile" or "{{7*7}}" in text


def test_languages_stand_alone_or_together() -> None:
    english, japanese, both = (PAGES[f"subset {lang}"] for lang in ("en", "ja", "both"))
    assert not re.search("[ぁ-んァ-ン]", english.split("</style>")[1])
    assert "rows of the original" not in japanese
    assert "Columns" not in japanese
    for words in ("Rows side by side", "行の対照", "What was examined", "検査の範囲と限界", "inch -&gt; cm"):
        assert words in both, words


def test_page_says_what_was_measured() -> None:
    text = unescape(PAGES["subset en"])
    for words in (
        "98.76 %", "97.00 % to all", "480 of 500 suspect rows", "7 rows tied", "13 rows undecided",
        "x 2.54, inch -> cm", "rounded to 0.1", "none; all after the changes", "log10 p = -12.34",
        "rows 500, found 480", "at most -6.00", "All rows of both tables were examined.", "paired at random",
    ):  # fmt: skip
        assert words in text, words
    assert "were drawn evenly" in PAGES["sampled"]


@pytest.mark.parametrize(
    "foreign",
    [
        "&<>\"'" * 40,
        *(pytest.param(x, marks=pytest.mark.slow) for x in ("plain", "\u202e" * 100, "漢" * 200)),
    ],
)
def test_page_of_two_thousand_columns_is_small(foreign: str) -> None:
    n, wide = 40, 2000
    rng = np.random.default_rng(5)
    columns = {
        f"{i} {foreign}": pa.array([foreign * 3] * n) if i % 2 else pa.array(rng.normal(size=n))
        for i in range(wide)
    }
    other = {
        k: pa.array([f"{foreign}{j}" for j in range(n)]) if i % 2 else v
        for i, (k, v) in enumerate(columns.items())
    }
    a, b = canonical_table(pa.table(columns)), canonical_table(pa.table(other))
    detail = {"map": [[foreign * 9, foreign * 8]] * 50, "values": 50}
    changed = [
        ColumnComparison(x, y, "values", (Change("recoded", detail),) * 5, 0.0, None)
        for x, y in zip(a.names, b.names, strict=True)
    ]
    made = make_exhibits(a, b, aligned(n, [None] * wide), changed)
    assert len(made.plots) == 24
    assert made.unplotted == wide - 24
    doc = document(
        columns=[{"original": c.original, "suspect": c.suspect, "agreement": 0.0,
                  "changes": [x.to_dict() for x in c.changes]} for c in changed],
        changes=[*[{"kind": "renamed", "from": foreign, "to": foreign}] * wide,
                 {"kind": "columns-added", "columns": [foreign] * wide}],
    )  # fmt: skip
    text = page(doc, made)
    assert len(text.encode()) < 2_000_000
    assert "1,976 more changed columns are not plotted" in text
    assert "1,800 more matched columns are not listed" in text
    assert "2,000 columns renamed" in text


# --- plots -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("low", "high"), [(0, 1), (-3, 1e6), (1e-9, 2e-9), (-1e308, 1e308), (5, 5), (1e300, 1.1e300)]
)
def test_ticks_are_round_and_inside(low: float, high: float) -> None:
    found = ticks(low, high)
    assert all(low <= v <= high for v, _ in found)
    assert len(found) <= 12
    assert (len(found) >= 2) == (low < high)


def test_time_ticks_are_dates() -> None:
    day = 86_400
    assert [label for _, label in time_ticks(0, 10 * day)][:2] == ["1970-01-01", "1970-01-08"]
    assert [label for _, label in time_ticks(0, 4 * 3600)] == [f"01-01 0{h}:00" for h in range(5)]
    assert [label for _, label in time_ticks(0, 365.25 * 40 * day)][:2] == ["1970", "1980"]
    assert len(time_ticks(-6e10, 2.4e11)) >= 2
    assert time_ticks(-1e300, 1e300)


def test_an_outlier_does_not_squeeze_a_plot() -> None:
    a = canonical_table(pa.table({"x": [*range(200), 10**9]}))
    made = make_exhibits(a, a, aligned(201, [ValueMap()]), [compared("x", "noise")])
    svg, beyond = scatter(made.plots[0], "x", EVIL)
    assert beyond == 2, "the outlier stands once on either axis"
    places = {float(m) for m in re.findall(r"M([\d.]+) [\d.]+h0", svg)}
    assert len(places) > 100
    assert "<img" not in svg


# --- terminal and notebook -------------------------------------------------------------------------


def printed_screen(doc: dict, *, width: int, lang: str = "en", is_plain: bool = False) -> str:
    from rich.console import Console

    out = io.StringIO()
    console = Console(
        file=out, width=width, force_terminal=not is_plain, highlight=False, markup=False, no_color=is_plain
    )
    for part in comparison_screen(doc, lang=lang, is_plain=is_plain):
        console.print(part)
    return out.getvalue()


@pytest.mark.parametrize("lang", ["en", "ja"])
@pytest.mark.parametrize("width", [40, 80, 120])
def test_screen_fits_its_width(lang: str, width: int) -> None:
    from rich.cells import cell_len

    column = {"original": "列名の長い" * 9, "suspect": "x" * 70, "agreement": 0.5, "by": "values",
              "changes": [c for c, _ in CHANGES]}  # fmt: skip
    text = printed_screen(document(columns=[column]), width=width, lang=lang)
    bare = re.sub(r"\x1b\[[0-9;]*m", "", text)
    assert max(map(cell_len, bare.splitlines())) <= width
    assert not lint(bare.replace("\n", " "))


def test_plain_screen_has_no_colour_and_no_blocks() -> None:
    text = printed_screen(document(), width=100, is_plain=True)
    assert "\x1b" not in text
    assert not re.search("[█▒─]", text)
    for words in (
        "subset",
        "x 2.54, inch -> cm; rounded to 0.1",
        "7 rows tied",
        "13 rows undecided",
        "###",
        "-12.34",
    ):
        assert words in text, words
    assert "Same schema, different rows" in printed_screen(document("same-schema"), width=100)


@pytest.mark.parametrize("is_plain", [True, False])
def test_screen_passes_nothing_foreign_on(is_plain: bool) -> None:
    text = printed_screen(hostile_document(), width=100, is_plain=is_plain)
    assert not re.search("[\u202a-\u202e\x00\x07]|\x1b\\[31m", text)


def test_many_columns_are_counted_on_a_screen() -> None:
    column = {"original": "c", "suspect": "c", "agreement": 1.0, "changes": []}
    assert "and 1,940 more columns" in printed_screen(document(columns=[column] * 2000), width=80)


def test_notebook_summary() -> None:
    text = summary_html(document())
    assert "x 2.54, inch -&gt; cm; rounded to 0.1" in text
    assert "All of the suspect is in the original" in text
    assert not lint_html(text)
    evil = summary_html(hostile_document())
    assert "<img" not in evil
    assert not re.search("[\u202a-\u202e\x00\x1b]", evil)
    assert not lint_html(evil)
    assert len(summary_html(document(columns=hostile_document()["columns"] * 300))) < 400_000
