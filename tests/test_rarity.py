"""Rarity: bits against enumeration, what depends is not counted twice, nothing from what is not there.

No test here is statistical: seeds are fixed and the thresholds are far from the measured values.
"""

from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from conftest import PACKAGED
from dataguard.carrier import Alignment, ColumnMatch
from dataguard.fingerprints.comparison.rarity import MOST_ROWS, weigh_rarity
from dataguard.maps import Recoding, ValueMap
from dataguard.values import CanonicalTable, canonical_table

Through = dict[int, ValueMap | Recoding]


def by_truth(
    original: CanonicalTable, suspect: CanonicalTable, rows: np.ndarray, through: Through | None = None
) -> Alignment:
    """The alignment of a suspect with the original's columns, in its order, made from the original's `rows`."""
    maps = through or {}
    columns = tuple(ColumnMatch(i, i, "name", 1.0, maps.get(i)) for i in range(len(suspect.columns)))
    mine = np.flatnonzero(rows >= 0)
    equal = np.full(len(mine), len(columns))
    return Alignment(columns, mine, rows[mine], equal, suspect.rows, original.rows, 0)


def aligned(table: pa.Table, suspect: pa.Table, rows: np.ndarray, through: Through | None = None):
    a, b = canonical_table(table), canonical_table(suspect)
    return a, b, by_truth(a, b, rows, through)


def slow_bits(columns: list[list[object]], order: list[int], rows: list[int], equal: list[set[int]]) -> float:
    """Every row and column in plain Python: the least over all earlier columns, and over none."""
    total = 0.0
    for k, row in enumerate(rows):
        for i, c in enumerate(order):
            value = columns[c][row]
            if c not in equal[k] or value is None:
                continue
            present = [v for v in columns[c] if v is not None]
            best = math.log2(len(present) / present.count(value))
            for p in order[:i]:
                group = [v for v, w in zip(columns[c], columns[p], strict=True) if w == columns[p][row]]
                best = min(best, math.log2(len(group) / group.count(value)))
            total += best
    return total


@pytest.fixture(scope="module")
def flights() -> pa.Table:
    return pq.read_table(PACKAGED)


@pytest.mark.parametrize("seed", range(6))
def test_bits_equal_enumeration(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = 60
    a = rng.integers(0, 20, n)
    data = {"a": a, "b": a // 3, "c": rng.integers(0, 6, n)}
    columns = [[None if rng.random() < 0.1 else int(v) for v in x] for x in data.values()]
    table = pa.table(dict(zip(data, columns, strict=True)))
    rows = rng.permutation(n)[:25]
    suspect = table.take(pa.array(rows))
    changed = [None if rng.random() < 0.2 else v for v in suspect["c"].to_pylist()]
    suspect = suspect.set_column(2, "c", pa.array(changed, pa.int64()))
    original, other, alignment = aligned(table, suspect, rows)
    found = weigh_rarity(original, other, alignment)
    equal = [
        {c for c in range(3) if suspect.column(c)[k].as_py() == columns[c][r]} for k, r in enumerate(rows)
    ]
    order = ["abc".index(c.column) for c in found.columns]
    slow = slow_bits(columns, order, rows.tolist(), equal)
    assert found.total_bits == pytest.approx(slow, abs=2e-3)
    unique = sum(columns[c].count(columns[c][r]) == 1 and columns[c][r] is not None and c in equal[k]
                 for k, r in enumerate(rows) for c in range(3))  # fmt: skip
    assert found.unique_cells == unique


def test_a_column_that_another_fixes_adds_nothing() -> None:
    rng = np.random.default_rng(1)
    x = rng.integers(0, 300, 4000)
    rows = np.arange(0, 4000, 7)
    alone = pa.table({"x": x})
    twice = pa.table({"x": x, "same": -3 * x, "coarse": x // 10})
    bits = [weigh_rarity(*aligned(t, t.take(pa.array(rows)), rows)).total_bits for t in (alone, twice)]
    assert bits[1] == pytest.approx(bits[0])
    free = pa.table({"x": x, "y": rng.integers(0, 300, 4000)})
    assert weigh_rarity(*aligned(free, free.take(pa.array(rows)), rows)).total_bits > 1.2 * bits[0]


def test_a_rounded_value_is_as_rare_as_what_is_left_of_it() -> None:
    rng = np.random.default_rng(2)
    x = rng.uniform(0, 100, 5000)
    rows = np.arange(0, 5000, 5)
    fine, coarse = pa.table({"x": x}), pa.table({"x": np.round(x[rows] / 10) * 10})
    whole = weigh_rarity(*aligned(fine, fine.take(pa.array(rows)), rows))
    part = weigh_rarity(*aligned(fine, coarse, rows, {0: ValueMap(step=10.0)}))
    assert whole.median_bits == pytest.approx(math.log2(5000), abs=1e-3)
    assert whole.unique_cells == 1000
    assert part.median_bits == pytest.approx(math.log2(10), abs=0.3)
    assert part.unique_cells == 0
    # Without the map no rounded value is the original's.
    assert weigh_rarity(*aligned(fine, coarse, rows)).total_bits == 0


def test_a_noised_value_weighs_less_than_an_exact_one_and_more_than_nothing() -> None:
    rng = np.random.default_rng(3)
    x = rng.uniform(0, 100, 5000)
    rows = np.arange(0, 5000, 5)
    noised = pa.table({"x": x[rows] + rng.normal(0, 0.1, 1000)})
    found = weigh_rarity(*aligned(pa.table({"x": x}), noised, rows, {0: ValueMap(noise=0.1)}))
    # Intervals of 0.8 in 100: log2(125) bits where both fall into one.
    assert 0.8 * math.log2(125) <= found.median_bits <= math.log2(125) + 0.3
    assert found.total_bits <= 1000 * math.log2(5000)


def test_recoded_categories_count_by_their_new_names() -> None:
    table = pa.table({"c": ["a"] * 50 + ["b"] * 40 + ["c"] * 10})
    suspect = pa.table({"c": ["X"] * 50 + ["Y"] * 50})
    original, other = canonical_table(table), canonical_table(suspect)
    source, target = original.columns[0].key, other.columns[0].key
    order = np.argsort(source[[0, 50, 99]])
    recoding = Recoding(source[[0, 50, 99]][order], target[[0, 50, 99]][order])
    found = weigh_rarity(original, other, by_truth(original, other, np.arange(100), {0: recoding}))
    assert found.total_bits == pytest.approx(100.0)  # two halves: one bit a row


def test_rare_cells_are_shown_with_their_place(flights: pa.Table) -> None:
    rows = np.sort(np.random.default_rng(4).permutation(flights.num_rows)[:3000])
    suspect = flights.take(pa.array(rows))
    original, other, alignment = aligned(flights, suspect, rows)
    found = weigh_rarity(original, other, alignment)
    assert 0 < len(found.rarest) <= 20
    for cell in found.rarest:
        values = flights[cell.column].to_pylist()
        assert values.count(values[cell.original_row]) == cell.held
        assert str(values[cell.original_row]).split("+")[0].replace(" ", "T") in {
            cell.value,
            cell.value + ".0",
        }
        assert suspect[cell.column][cell.suspect_row].as_py() == values[cell.original_row]
    assert [c.held for c in found.rarest] == sorted(c.held for c in found.rarest)
    assert max([c.column for c in found.rarest].count(c.column) for c in found.rarest) <= 4
    assert found.finding.log10_p is None
    assert found.finding.null_hypothesis.startswith("none:")
    assert found.unique_rows <= found.unique_cells


def test_more_rows_than_are_weighed(flights: pa.Table) -> None:
    original, other, alignment = aligned(flights, flights, np.arange(flights.num_rows))
    found = weigh_rarity(original, other, alignment)
    assert (found.matched, found.weighed) == (flights.num_rows, MOST_ROWS)
    assert found == weigh_rarity(original, other, alignment)


ODD = {
    "missing": pa.array([None] * 40, pa.float64()),
    "constant": pa.array([7] * 40),
    "odd": pa.array([float("nan"), float("inf"), -float("inf"), 1e308] * 10),
    "huge": pa.array([2**62 + i for i in range(40)]),
    "long": pa.array(["x" * 5000] * 40),
    "mixed": pa.array(["1", "b", None, "2024-01-01"] * 10),
}


@pytest.mark.parametrize("through", [None, ValueMap(scale=2.5, step=0.5), ValueMap("log", noise=1.0)])
def test_odd_columns_do_no_harm(through: ValueMap | None) -> None:
    table = pa.Table.from_arrays([*ODD.values(), *ODD.values()], names=[*ODD, *ODD])
    maps = {} if through is None else dict.fromkeys(range(12), through)
    found = weigh_rarity(*aligned(table, table, np.arange(40), maps))
    assert found.weighed == 40
    assert math.isfinite(found.total_bits)


@pytest.mark.parametrize("rows", [0, 1])
def test_empty_and_single_row(rows: int) -> None:
    table = pa.table({"a": [1, 2], "b": ["x", "y"]}).slice(0, rows)
    found = weigh_rarity(*aligned(table, table, np.arange(rows)))
    assert found.total_bits == 0
    assert found.finding.counts["matched"] == rows


def test_no_columns_in_common() -> None:
    table = canonical_table(pa.table({"a": [1, 2]}))
    empty = np.empty(0, np.int64)
    found = weigh_rarity(table, table, Alignment((), empty, empty, empty, 2, 2, 0))
    assert (found.total_bits, found.columns, found.rarest) == (0, (), ())


def test_two_thousand_columns_are_not_compared_pair_by_pair() -> None:
    rng = np.random.default_rng(5)
    table = pa.table({f"c{i}": rng.integers(0, 50, 200) for i in range(2000)})
    found = weigh_rarity(*aligned(table, table, np.arange(200)))
    assert len(found.columns) == 64
