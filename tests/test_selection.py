"""Selections and orders: hand truths on real tables, nothing named for rows at random, hostile columns.

Error budget: the calibration draws 300 random subsets; at alpha 1e-2 a bound that is valid names at most the
binomial quantile of 300 at 1e-2 (12 at 1e-6).
"""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dataguard.fingerprints.comparison.order import name_order
from dataguard.fingerprints.comparison.predicates import best_of_column, holds
from dataguard.fingerprints.comparison.selection import Selection, _log10_hypergeometric, name_selection
from dataguard.values import CanonicalTable, canonical_table


@pytest.fixture(scope="module")
def flights() -> CanonicalTable:
    path = Path(__file__).resolve().parents[1] / "src" / "dataguard" / "data" / "flights_2013_01.parquet"
    return canonical_table(pq.read_table(path))


def named(table: CanonicalTable, found: np.ndarray) -> list[dict[str, object]]:
    selection = name_selection(table, found)
    return [] if selection is None else selection.to_dict(table.names)["predicates"]


def number(table: CanonicalTable, name: str) -> np.ndarray:
    return table.column(name).number


def keyed(table: CanonicalTable, name: str, *values: str) -> np.ndarray:
    return np.isin(table.column(name).key, canonical_table(pa.table({"x": list(values)})).columns[0].key)


def test_one_value_is_named(flights: CanonicalTable) -> None:
    found = keyed(flights, "carrier", "UA")
    selection = name_selection(flights, found)
    assert isinstance(selection, Selection)
    count = int(found.sum())
    assert selection.words(flights.names) == f"rows where carrier = UA; {count:,} of {count:,}"
    assert (selection.selected, selection.found, selection.both) == (count, count, count)
    assert selection.finding.counts["rows"] == flights.rows
    assert selection.log10_p == -30


def test_some_values_an_interval_and_a_day_are_named(flights: CanonicalTable) -> None:
    assert named(flights, keyed(flights, "dest", "IAH", "ATL", "ORD")) == [
        {"kind": "in", "column": "dest", "values": ["ATL", "IAH", "ORD"]}
    ]
    distance = number(flights, "distance")
    inside = (distance >= 500) & (distance <= 1000)
    low, high = int(distance[inside].min()), int(distance[inside].max())
    assert named(flights, inside) == [{"kind": "between", "column": "distance", "low": low, "high": high}]
    assert named(flights, number(flights, "day") == 7) == [{"kind": "equal", "column": "day", "values": [7]}]


def test_missing_cells_are_a_value(flights: CanonicalTable) -> None:
    found = np.isnan(number(flights, "dep_time"))
    selection = name_selection(flights, found)
    assert selection is not None
    assert "is missing" in selection.words(flights.names)


def test_times_are_named_as_times() -> None:
    at = np.arange("2020-01-01", "2022-01-01", dtype="datetime64[h]")
    rng = np.random.default_rng(0)
    order = rng.permutation(len(at))
    table = canonical_table(
        pa.table({"at": at[order].astype("datetime64[us]"), "x": rng.standard_normal(len(at))})
    )
    found = (at[order] >= np.datetime64("2021-03-01")) & (at[order] < np.datetime64("2021-05-01"))
    assert named(table, found) == [
        {"kind": "between", "column": "at", "low": "2021-03-01T00:00:00Z", "high": "2021-04-30T23:00:00Z"}
    ]


def test_positions_are_named(flights: CanonicalTable) -> None:
    rows = np.arange(flights.rows)
    rng = np.random.default_rng(1)
    shuffled = CanonicalTable(
        flights.names, tuple(c.take(rng.permutation(flights.rows)) for c in flights.columns)
    )
    assert named(shuffled, rows < 1000) == [{"kind": "rows", "low": 0, "high": 999}]
    assert named(shuffled, (rows >= 5000) & (rows < 9000)) == [{"kind": "rows", "low": 5000, "high": 8999}]
    assert named(shuffled, rows % 10 == 3) == [{"kind": "every", "low": 3, "high": 10}]
    words = name_selection(shuffled, rows % 10 == 3)
    assert words is not None
    assert words.words(shuffled.names).startswith("rows where row is every 10th from 4;")


def test_two_conditions_are_named(flights: CanonicalTable) -> None:
    found = keyed(flights, "carrier", "UA") & (number(flights, "distance") >= 1400)
    predicates = named(flights, found)
    assert [(p["kind"], p["column"]) for p in predicates] == [("equal", "carrier"), ("between", "distance")]
    found = keyed(flights, "origin", "JFK") & (number(flights, "day") <= 9) & (number(flights, "day") >= 3)
    predicates = named(flights, found)
    assert len(predicates) == 2
    assert {"kind": "equal", "column": "origin", "values": ["JFK"]} in predicates


def test_a_few_rows_may_be_missed_or_matched_wrongly(flights: CanonicalTable) -> None:
    rng = np.random.default_rng(2)
    truth = keyed(flights, "carrier", "B6")
    found = truth.copy()
    found[rng.choice(np.flatnonzero(truth), 15, replace=False)] = False
    found[rng.choice(np.flatnonzero(~truth), 15, replace=False)] = True
    assert named(flights, found) == [{"kind": "equal", "column": "carrier", "values": ["B6"]}]
    found[rng.choice(np.flatnonzero(truth), 600, replace=False)] = False
    assert named(flights, found) == []


def test_nothing_is_named_for_all_or_none(flights: CanonicalTable) -> None:
    assert named(flights, np.ones(flights.rows, bool)) == []
    assert named(flights, np.zeros(flights.rows, bool)) == []
    nearly = np.ones(flights.rows, bool)
    nearly[np.random.default_rng(0).permutation(flights.rows)[:50]] = False
    assert named(flights, nearly) == []


def test_random_rows_get_no_name() -> None:
    rng = np.random.default_rng(3)
    table = canonical_table(
        pa.table({"a": rng.integers(0, 4, 30), "b": rng.standard_normal(30), "c": rng.integers(0, 30, 30)})
    )
    claims = 0
    for _ in range(300):
        found = np.zeros(30, bool)
        found[rng.permutation(30)[: rng.integers(1, 30)]] = True
        claims += name_selection(table, found, alpha=1e-2) is not None
    assert claims <= 12


def test_the_tail_equals_enumeration() -> None:
    for rows, found, selected in ((7, 3, 4), (8, 4, 4), (6, 5, 2)):
        draws = [len({*d} & set(range(selected))) for d in itertools.combinations(range(rows), found)]
        for both in range(min(found, selected) + 1):
            exact = np.mean(np.array(draws) >= both)
            got = _log10_hypergeometric(both, selected, found, rows)
            assert got >= math.log10(exact) - 1e-12
            assert got == 0 or got == pytest.approx(math.log10(exact))


def test_the_best_interval_equals_all_intervals_tried() -> None:
    rng = np.random.default_rng(4)
    for _ in range(20):
        x, found = rng.integers(0, 12, 60), rng.random(60) < 0.4
        weight = np.where(found, 1.0, -1.0)
        table = canonical_table(pa.table({"x": x}))
        values = np.unique(x)
        best = max(weight[(x >= low) & (x <= high)].sum() for low in values for high in values if low <= high)
        (interval,) = [p for p in best_of_column(table, 0, np.arange(60), weight) if p.kind == "between"]
        assert weight[holds(table, interval)].sum() == best


def test_odd_columns_do_not_crash() -> None:
    n = 50
    table = canonical_table(
        pa.table({
            "none": pa.nulls(n, pa.float64()),
            "same": [1] * n,
            "inf": [float("inf"), float("-inf")] * (n // 2),
            "big": [2**62 + i for i in range(n)],
            "mixed": [str(i) if i % 2 else f"t{i}" for i in range(n)],
            "long": ["x" * 10_000 + str(i) for i in range(n)],
        })
    )  # fmt: skip
    for found in (np.arange(n) < 25, np.arange(n) % 2 == 0, np.arange(n) == 3):
        name_selection(table, found)
    assert (
        name_selection(canonical_table(pa.table({"x": pa.array([], pa.int64())})), np.zeros(0, bool)) is None
    )
    assert name_selection(CanonicalTable((), ()), np.zeros(0, bool)) is None
    twice = CanonicalTable(("x", "x"), (table.columns[3], table.columns[4]))
    assert named(twice, np.arange(n) < 25)[0]["kind"] == "rows"


# --- orders ----------------------------------------------------------------------------------------


def sorted_by(table: CanonicalTable, *keys: tuple[str, bool]) -> tuple[CanonicalTable, np.ndarray]:
    order = np.random.default_rng(5).permutation(table.rows)
    for name, ascending in reversed(keys):
        column = table.column(name)
        x = column.number
        if column.kind == "text":
            x = np.argsort(np.argsort(np.array([c.text for c in column.cells(np.arange(len(column)))])))
            x = (
                np.unique([c.text for c in column.cells(np.arange(len(column)))], return_inverse=True)[1]
                * 1.0
            )
        x = np.where(np.isnan(x), np.inf, x if ascending else -x)
        order = order[np.argsort(x[order], kind="stable")]
    return CanonicalTable(table.names, tuple(c.take(order) for c in table.columns)), order


def order_names(table: CanonicalTable, rows: np.ndarray | None) -> list[tuple[str, bool]]:
    return [(table.names[c], up) for c, up in name_order(table, range(len(table.columns)), rows)]


def test_orders_are_named(flights: CanonicalTable) -> None:
    part = CanonicalTable(flights.names, tuple(c.take(np.arange(4000)) for c in flights.columns))
    for keys in (
        [("distance", True)],
        [("carrier", True), ("arr_delay", False)],
        [("origin", False), ("dest", True), ("flight", True)],
    ):
        table, order = sorted_by(part, *keys)
        assert order_names(table, order)[: len(keys)] == keys
        assert order_names(table, None)[: len(keys)] == keys


def test_the_originals_order_is_not_named(flights: CanonicalTable) -> None:
    rows = np.arange(0, flights.rows, 7)
    part = CanonicalTable(flights.names, tuple(c.take(rows) for c in flights.columns))
    assert order_names(part, rows) == []
    unknown = rows.copy()
    unknown[::3] = -1
    assert order_names(part, unknown) == []


def test_rows_in_random_order_have_none(flights: CanonicalTable) -> None:
    rows = np.random.default_rng(6).permutation(2000)
    part = CanonicalTable(flights.names, tuple(c.take(rows) for c in flights.columns))
    assert order_names(part, rows) == []
    assert (
        order_names(CanonicalTable(part.names, tuple(c.take(np.arange(4)) for c in part.columns)), None) == []
    )
    odd = canonical_table(
        pa.table(
            {"none": pa.nulls(40, pa.int64()), "mixed": [1, "a"] * 0 + [str(i) for i in range(39)] + ["a"]}
        )
    )
    assert name_order(odd, (0, 1)) == ()
    assert name_order(CanonicalTable((), ()), ()) == ()
