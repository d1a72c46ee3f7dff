"""Shared errors: planted ones are found in the original alone, and counted as copied, corrected or otherwise.

Every planted error stands in a real or made table at a fixed seed; counts are exact unless a comment
says what else the real table holds.
"""

from __future__ import annotations

import time

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from conftest import shared
from dataguard.carrier import Alignment
from dataguard.fingerprints.comparison.flaws import KINDS, find_flaws
from dataguard.fingerprints.comparison.shared_errors import share_errors
from dataguard.fingerprints.comparison.spelling import is_one_edit, misspelt
from dataguard.fingerprints.engines import default_engines
from dataguard.maps import Recoding, ValueMap
from dataguard.values import canonical_table
from test_rarity import ODD, aligned, by_truth

CITIES = ["Amsterdam", "Barcelona", "Copenhagen", "Düsseldorf", "Edinburgh", "Frankfurt"]
COUNTRIES = ["Netherlands", "Spain", "Denmark", "Germany", "Scotland", "Germany"]


@pytest.fixture(scope="module")
def orders() -> pa.Table:
    """3,000 orders without an error: city -> country, total = net + tax, prices in cents."""
    rng = np.random.default_rng(7)
    n = 3000
    city = rng.integers(0, 6, n)
    net = np.round(rng.uniform(5, 500, n), 2)
    tax = np.round(rng.uniform(0, 100, n), 2)
    return pa.table({
        "order": rng.permutation(n) + 10_000,
        "city": [CITIES[c] for c in city],
        "country": [COUNTRIES[c] for c in city],
        "net": net,
        "tax": tax,
        "total": np.round(net + tax, 2),
        "pieces": rng.integers(1, 40, n),
        "on": pa.array(np.datetime64("2024-01-01") + rng.integers(0, 300, n)),
    })  # fmt: skip


def put(table: pa.Table, name: str, values: dict[int, object]) -> pa.Table:
    cells = table[name].to_pylist()
    for row, value in values.items():
        cells[row] = value
    column = pa.array(cells, table[name].type)
    return table.set_column(table.column_names.index(name), name, column)


PLANTED = {
    "dependency": ("country", {10: "Spain", 700: "Spain", 2000: "Scotland"}),
    "identity": ("total", {11: 1234.5, 701: 1.25, 2001: 777.0}),
    "misspelt": ("city", {12: "", 702: "", 2002: ""}),
    "sign": ("pieces", {13: -7, 703: -3}),
    "grid": ("tax", {14: 0.002, 704: 0.003}),
    "range": ("pieces", {15: 4000, 705: 39_000}),
}


def planted(table: pa.Table, kind: str) -> tuple[pa.Table, int, set[int]]:
    name, values = PLANTED[kind]
    if kind == "grid":
        values = {r: round(table[name][r].as_py() + v, 3) for r, v in values.items()}
    if kind == "misspelt":
        values = {r: table[name][r].as_py()[:-1] for r in values}
    values = {r: v for r, v in values.items() if v != table[name][r].as_py()}
    return put(table, name, values), table.column_names.index(name), set(values)


def test_a_table_without_errors_has_none(orders: pa.Table) -> None:
    assert find_flaws(canonical_table(orders)) == ()


@pytest.mark.parametrize("kind", PLANTED)
def test_planted_errors_are_found_and_nothing_else(orders: pa.Table, kind: str) -> None:
    table, column, rows = planted(orders, kind)
    found = find_flaws(canonical_table(table))
    mine = [f for f in found if f.kind == kind]
    assert {int(r) for f in mine for r in f.rows} == rows
    assert {f.column for f in mine} == {column}
    # A misspelt city may break a rule between columns as well, but it is one cell.
    cells = [(f.column, int(r)) for f in found for r in f.rows]
    assert len(cells) == len(set(cells))
    assert {r for _, r in cells} == rows


@pytest.mark.parametrize("kind", PLANTED)
def test_copied_corrected_and_otherwise(orders: pa.Table, kind: str) -> None:
    table, column, rows = planted(orders, kind)
    name = table.column_names[column]
    order = np.random.default_rng(8).permutation(table.num_rows)

    flaws = find_flaws(canonical_table(table))

    def outcome(suspect: pa.Table) -> tuple[int, int, int]:
        found = share_errors(*aligned(table, suspect.take(pa.array(order)), order), flaws)
        (counts,) = [c for c in found.kinds if c.kind == kind]
        return counts.shared, counts.corrected, counts.other

    whole = (len(rows), 0, 0)
    assert outcome(table) == whole
    # Out of range nobody knows what was meant: another value is another value.
    right = outcome(orders)
    assert sum(right) == len(rows)
    assert right == ((0, 0, len(rows)) if kind in {"range", "sign"} else (0, len(rows), 0))
    third = dict.fromkeys(rows, "Atlantis" if pa.types.is_string(table[name].type) else 5)
    assert outcome(put(table, name, third)) == (0, 0, len(rows))


def test_a_sign_put_right_is_corrected(orders: pa.Table) -> None:
    table, _, rows = planted(orders, "sign")
    suspect = put(table, "pieces", {r: abs(table["pieces"][r].as_py()) for r in rows})
    found = share_errors(*aligned(table, suspect, np.arange(table.num_rows)))
    assert (found.shared, found.corrected, found.other) == (0, 2, 0)


def test_keys_with_conflicting_rows_and_impossible_days() -> None:
    rng = np.random.default_rng(9)
    n = 4000
    key = np.arange(n)
    key[17], key[3000] = 5, 6
    day = rng.integers(1, 29, n)
    day[100] = 31
    month = np.where(np.arange(n) == 100, 2, rng.integers(1, 13, n))
    table = pa.table({
        "key": key, "year": np.full(n, 2023), "month": month, "day": day, "a": rng.integers(0, 9, n),
        "b": rng.integers(0, 9, n), "c": rng.integers(0, 9, n),
    })  # fmt: skip
    for row, twin in ((17, 5), (3000, 6)):
        for name in ("month", "day", "b", "c"):
            table = put(table, name, {row: table[name][twin].as_py()})
        table = put(table, "a", {row: (table["a"][twin].as_py() + 1) % 9})
    found = {
        (f.kind, table.column_names[f.column]): f.rows.tolist() for f in find_flaws(canonical_table(table))
    }
    assert found == {("conflict", "a"): [17, 3000], ("date", "day"): [100]}


def test_a_thirtieth_of_february_among_dates() -> None:
    days = [f"2024-{1 + i % 12:02d}-{1 + i % 28:02d}" for i in range(3000)]
    days[77] = "2024-02-30"
    table = pa.table(
        {"on": days, "x": np.arange(3000) % 7, "y": np.arange(3000) % 5, "z": np.arange(3000) % 3}
    )
    (flaw,) = find_flaws(canonical_table(table))
    assert (flaw.kind, flaw.rows.tolist()) == ("type", [77])
    found = share_errors(*aligned(table, table, np.arange(3000)))
    assert found.shared == 1
    assert found.examples[0].shown == "2024-02-30"


def test_only_rows_with_three_other_equal_columns_count(orders: pa.Table) -> None:
    table, _, rows = planted(orders, "dependency")
    few = table.select(["order", "city", "country", "net"])
    found = share_errors(*aligned(few, few, np.arange(3000)))
    assert (found.shared, found.unsupported) == (len(rows), 0)
    blank = few.set_column(3, "net", pa.array([None] * 3000, pa.float64()))
    found = share_errors(*aligned(few, blank, np.arange(3000)))
    assert (found.shared, found.unsupported) == (0, len(rows))


def test_what_the_suspect_rounds_or_merges_away_is_hidden(orders: pa.Table) -> None:
    table, column, _ = planted(orders, "grid")
    suspect = table.set_column(column, "tax", pc.round(table["tax"], 1))
    found = share_errors(*aligned(table, suspect, np.arange(3000), {column: ValueMap(step=0.1)}))
    assert [(c.kind, c.shared, c.hidden) for c in found.kinds if c.kind == "grid"] == [("grid", 0, 2)]
    table, column, rows = planted(orders, "misspelt")
    original = canonical_table(table)
    names = dict(zip(table["city"].to_pylist(), original.columns[column].key, strict=True))
    source = np.array(sorted(names.values()), np.uint64)
    one = np.full(len(source), names["Amsterdam"], np.uint64)
    suspect = table.set_column(column, "city", pa.array(["Amsterdam"] * 3000))
    other = canonical_table(suspect)
    found = share_errors(
        original, other, by_truth(original, other, np.arange(3000), {column: Recoding(source, one)})
    )
    assert (found.shared, found.hidden) == (0, len(rows))


def test_errors_of_a_real_table_come_with_its_copy_and_not_with_other_rows() -> None:
    table = pq.read_table(shared("tables/online_retail.parquet")).slice(0, 40_000)
    part = np.sort(np.random.default_rng(10).permutation(40_000)[:8000])
    left = np.setdiff1d(np.arange(40_000), part)
    # The suspect holds other rows, too; the original is all of the table.
    found = share_errors(*aligned(table, table.take(pa.array(part)), part))
    assert found.shared >= 20  # 32 measured
    assert (found.corrected, found.other) == (0, 0)
    assert len(found.examples) == 20
    assert found.finding.log10_p is None
    for cell in found.examples:
        assert cell.outcome == "shared"
        assert cell.value == cell.shown != cell.expected
        assert part[cell.suspect_row] == cell.original_row
    original, suspect = (
        canonical_table(table.take(pa.array(left))),
        canonical_table(table.take(pa.array(part))),
    )
    engines = default_engines()
    alignment = engines.align(original, suspect)
    other = share_errors(original, suspect, alignment)
    # Some rows of this table stand in it twice.
    assert other.shared <= found.shared / 4


@pytest.mark.slow
def test_a_large_table_takes_seconds() -> None:
    table = canonical_table(pq.read_table(shared("tables/nycflights13_flights.parquet")))
    begin = time.process_time()
    found = find_flaws(table)
    assert time.process_time() - begin < 6  # 1.1 s measured, 3 s promised on the reference machine
    assert {(f.kind, f.rule) for f in found} >= {("dependency", "tailnum -> carrier")}


@pytest.mark.slow
def test_two_thousand_columns_take_seconds() -> None:
    rng = np.random.default_rng(11)
    table = canonical_table(pa.table({f"c{i}": rng.integers(0, 9, 1500) for i in range(2000)}))
    begin = time.process_time()
    find_flaws(table)
    assert time.process_time() - begin < 6


@pytest.mark.parametrize("rows", [0, 1, 40])
def test_odd_columns_do_no_harm(rows: int) -> None:
    table = pa.Table.from_arrays([*ODD.values(), *ODD.values()], names=[*ODD, *ODD]).slice(0, rows)
    found = share_errors(*aligned(table, table, np.arange(rows)))
    assert found.corrected == 0
    assert {c.kind for c in found.kinds} <= set(KINDS)


def test_without_matched_rows_nothing_is_looked_for(orders: pa.Table) -> None:
    original = canonical_table(planted(orders, "sign")[0])
    empty = np.empty(0, np.int64)
    alignment = Alignment(
        by_truth(original, original, np.arange(1)).columns, empty, empty, empty, 3000, 3000, 0
    )
    assert share_errors(original, original, alignment).found == 0


def test_the_same_table_gives_the_same_answer(orders: pa.Table) -> None:
    table, _, _ = planted(orders, "dependency")
    first, second = (find_flaws(canonical_table(t)) for t in (table, table.slice(0)))
    assert first
    assert [(f.kind, f.column, f.rows.tolist()) for f in first] == [
        (f.kind, f.column, f.rows.tolist()) for f in second
    ]


# --- spelling --------------------------------------------------------------------------------------


def slow_distance(a: str, b: str) -> int:
    """Edit distance with exchanges of neighbours, by the whole table (optimal string alignment)."""
    d = [[i + j if i * j == 0 else 0 for j in range(len(b) + 1)] for i in range(len(a) + 1)]
    for i in range(1, len(a) + 1):
        for j in range(1, len(b) + 1):
            d[i][j] = min(d[i - 1][j] + 1, d[i][j - 1] + 1, d[i - 1][j - 1] + (a[i - 1] != b[j - 1]))
            if i > 1 and j > 1 and a[i - 1] == b[j - 2] and a[i - 2] == b[j - 1]:
                d[i][j] = min(d[i][j], d[i - 2][j - 2] + 1)
    return d[len(a)][len(b)]


def test_one_edit_equals_the_whole_table() -> None:
    rng = np.random.default_rng(12)
    words = ["".join(rng.choice(list("abc"), rng.integers(1, 6))) for _ in range(120)]
    for a in words:
        for b in words:
            assert is_one_edit(a, b) == (slow_distance(a, b) == 1), (a, b)
    assert not is_one_edit("room 1", "room 2")


def test_codes_and_short_words_are_not_misspelt() -> None:
    texts = pa.array(["N449UA", "N449US", "EWR", "EWS", "London", "Londen", "Paris", "Parsi", "Parso"])
    count = np.array([500, 2, 900, 2, 800, 1, 700, 2, 3])
    assert misspelt(texts, count) == {5: 4, 7: 6}
    assert misspelt(pa.array([], pa.string()), np.zeros(0, np.int64)) == {}
