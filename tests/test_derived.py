"""Aggregations: found without names or order, as printed; nothing said of rows, other rows or parts of them.

Error budget: laws are checked against exact enumeration; the calibration draws 200 unrelated tables at alpha 1e-2
and allows the binomial quantile of 200 at 1e-2 beyond which 1e-6 lies (10).
"""

from __future__ import annotations

import itertools
import math
import statistics
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from conftest import shared
from dataguard.fingerprints.comparison.derived import Aggregation, find_aggregation
from dataguard.fingerprints.comparison.derived_functions import FUNCTIONS, Groups, printed_step
from dataguard.fingerprints.comparison.derived_nulls import (
    log10_concentration,
    log10_regrouping,
    log10_repairing,
    log10_single_rows,
)
from dataguard.values import CanonicalTable, canonical_table

FLIGHTS = Path(__file__).resolve().parents[1] / "src" / "dataguard" / "data" / "flights_2013_01.parquet"


@pytest.fixture(scope="module")
def flights() -> pa.Table:
    return pq.read_table(FLIGHTS)


def grouped(table: pa.Table, by: list[str], wanted: list[tuple[object, ...]]) -> pa.Table:
    return table.group_by(by, use_threads=False).aggregate(wanted)


def anonymous(table: pa.Table, seed: int = 0) -> tuple[pa.Table, dict[str, str]]:
    """Rows and columns in another order, all names gone; new name -> old name."""
    rng = np.random.default_rng(seed)
    old = [table.column_names[i] for i in rng.permutation(table.num_columns)]
    new = [f"f{i:02d}" for i in range(len(old))]
    shuffled = table.take(rng.permutation(table.num_rows)).select(old).rename_columns(new)
    return shuffled, dict(zip(new, old, strict=True))


def rounded(table: pa.Table, decimals: int = 2) -> pa.Table:
    for i, name in enumerate(table.column_names):
        if pa.types.is_floating(table.schema.field(name).type):
            table = table.set_column(i, name, pc.round(table[name], decimals))
    return table


def found(original: pa.Table, suspect: pa.Table) -> Aggregation | None:
    return find_aggregation(canonical_table(original), canonical_table(suspect))


def told(
    original: pa.Table, suspect: pa.Table
) -> tuple[set[tuple[str, ...]], set[tuple[str, str, str | None]]]:
    """Return keys as (suspect, original, part) and functions as (suspect, function, original)."""
    aggregation = found(original, suspect)
    assert aggregation is not None
    shown = aggregation.to_dict(original.column_names, suspect.column_names)
    keys = {(k["suspect"], k["original"], k.get("part", "")) for k in shown["by"]}
    return keys, {(f["suspect"], f["function"], f["original"]) for f in shown["functions"]}


WANTED = [("arr_delay", "mean"), ("air_time", "sum"), ("distance", "max"), ([], "count_all")]
MEANT = {"arr_delay_mean": ("mean", "arr_delay"), "air_time_sum": ("sum", "air_time"),
         "distance_max": ("max", "distance"), "count_all": ("count", None)}  # fmt: skip


@pytest.mark.parametrize("edit", ["as it is", "rounded", "half of the groups", "texts"])
def test_an_aggregation_is_found_without_names_or_order(flights: pa.Table, edit: str) -> None:
    suspect, names = anonymous(grouped(flights, ["dest"], WANTED))
    if edit != "as it is":
        suspect = rounded(suspect)
    if edit == "half of the groups":
        suspect = suspect.slice(0, suspect.num_rows // 2)
    if edit == "texts":
        texts = [pa.array([None if v is None else f"{v:,}" if not isinstance(v, str) else v.lower()
                           for v in c.to_pylist()]) for c in suspect.columns]  # fmt: skip
        suspect = pa.table(dict(zip(suspect.column_names, texts, strict=True)))
    keys, functions = told(flights, suspect)
    assert keys == {(new, "dest", "") for new, old in names.items() if old == "dest"}
    assert functions == {(new, *MEANT[old]) for new, old in names.items() if old in MEANT}


def test_counts_say_what_agrees(flights: pa.Table) -> None:
    suspect = grouped(flights, ["dest"], WANTED)
    values = suspect["arr_delay_mean"].to_pylist()
    suspect = suspect.set_column(1, "arr_delay_mean", pa.array([99.0, 98.5, 97.25, *values[3:]]))
    suspect = suspect.append_column(
        "noise", pa.array(np.random.default_rng(0).standard_normal(suspect.num_rows))
    )
    aggregation = found(flights, suspect)
    assert aggregation is not None
    n = suspect.num_rows
    by_name = {suspect.column_names[f.suspect]: f for f in aggregation.functions}
    empty = sum(v is None for v in values)
    assert by_name["arr_delay_mean"].agree == n - empty - 3
    assert by_name["air_time_sum"].agree == by_name["air_time_sum"].groups == n - empty
    assert (aggregation.groups, aggregation.found, aggregation.agree) == (n, n, n - 3)
    assert [suspect.column_names[s] for s in aggregation.unexplained] == ["noise"]
    assert aggregation.log10_p == -30
    finding = aggregation.finding
    assert finding.log10_p == -30
    assert finding.counts["groups"] == n
    assert finding.null_hypothesis


def test_all_functions_are_told_apart(flights: pa.Table) -> None:
    x, by = flights["arr_delay"].to_numpy(zero_copy_only=False), flights["dest"].to_pylist()
    groups: dict[str, list[float]] = {}
    for value, key in zip(x, by, strict=True):
        if not math.isnan(value):
            groups.setdefault(key, []).append(float(value))
    several = {k: v for k, v in groups.items() if len(v) > 3}
    columns = {
        "sum": sum, "mean": statistics.fmean, "min": min, "max": max, "median": statistics.median,
        "std": statistics.stdev, "population-std": statistics.pstdev, "first": lambda v: v[0],
        "count-distinct": lambda v: len(set(v)), "count": len,
    }  # fmt: skip
    table = pa.table(
        {"key": list(several)} | {f: [g(v) for v in several.values()] for f, g in columns.items()}
    )
    _, functions = told(flights, table)
    assert {(s, f) for s, f, o in functions if o == "arr_delay"} >= {(f, f) for f in columns}


def test_joint_keys_and_parts_of_dates(flights: pa.Table) -> None:
    suspect, names = anonymous(
        grouped(flights, ["carrier", "origin"], [("arr_delay", "mean"), ("distance", "sum")])
    )
    keys, functions = told(flights, suspect)
    assert {(names[s], o, part) for s, o, part in keys} == {
        ("carrier", "carrier", ""),
        ("origin", "origin", ""),
    }
    assert {(names[s], f, o) for s, f, o in functions} == {
        ("arr_delay_mean", "mean", "arr_delay"), ("distance_sum", "sum", "distance")
    }  # fmt: skip
    rng = np.random.default_rng(1)
    at = np.datetime64("2021-01-01") + rng.integers(0, 730, 5000).astype("timedelta64[D]")
    original = pa.table({"day": at.astype("datetime64[us]"), "paid": rng.integers(100, 9999, 5000) / 100})
    month = pa.table({"m": at.astype("datetime64[M]").astype(int) % 12 + 1, "paid": original["paid"]})
    monthly = grouped(month, ["m"], [("paid", "sum"), ([], "count_all")])
    assert told(original, monthly) == (
        {("m", "day", "month")}, {("paid_sum", "sum", "paid"), ("count_all", "count", None)}
    )  # fmt: skip


def test_few_groups_are_enough_where_sums_are_of_many_rows() -> None:
    cover = pq.read_table(shared("tables/covertype_100k.parquet")).slice(0, 20_000)
    wanted = [("Elevation", "mean"), ("Elevation", "max"), ([], "count_all")]
    suspect, names = anonymous(rounded(grouped(cover, ["Cover_Type"], wanted)))
    aggregation = found(cover, suspect)
    assert aggregation is not None
    assert aggregation.groups == 7  # 5,040 pairings: the values' places speak
    assert "values of the original" in aggregation.null_hypothesis
    assert {(names[suspect.column_names[f.suspect]], f.function) for f in aggregation.functions} == {
        ("Elevation_mean", "mean"), ("Elevation_max", "max"), ("count_all", "count")
    }  # fmt: skip


def test_groups_differ_by_case_where_they_did() -> None:
    rng = np.random.default_rng(2)
    codes = np.array([f"{i:03d}{'aA'[i % 2]}" for i in range(300)] + [f"{i:03d}a" for i in range(1, 40, 2)])
    original = pa.table({"code": rng.choice(codes, 6000), "price": rng.integers(1, 10**6, 6000)})
    suspect = grouped(original, ["code"], [("price", "sum")])
    assert found(original, suspect).agree == suspect.num_rows


def test_extremes_beside_a_sum_are_an_aggregation() -> None:
    # The least x and the largest y of a group stand in one row, as in a table of picked rows; its sum does not.
    rng = np.random.default_rng(9)
    x = rng.permutation(4000)
    original = pa.table(
        {"key": rng.integers(0, 400, 4000), "x": x, "y": 9000 - 2 * x, "z": rng.integers(1, 10**6, 4000)}
    )
    suspect, names = anonymous(
        grouped(original, ["key"], [("x", "min"), ("y", "max"), ("z", "sum"), ([], "count_all")])
    )
    keys, functions = told(original, suspect)
    assert {names[s] for s, _, _ in keys} == {"key"}
    assert {(names[s], f, o) for s, f, o in functions} == {
        ("x_min", "min", "x"), ("y_max", "max", "y"), ("z_sum", "sum", "z"), ("count_all", "count", None)
    }  # fmt: skip
    picked = grouped(original, ["key"], [("x", "min"), ("y", "max")])
    assert found(original, picked) is None


# --- nothing is said -------------------------------------------------------------------------------


def test_other_rows_and_parts_of_the_rows_are_not_its_source(flights: pa.Table) -> None:
    rng = np.random.default_rng(3)
    first = rng.random(flights.num_rows) < 0.5
    original, others = flights.filter(pa.array(first)), flights.filter(pa.array(~first))
    assert found(original, grouped(others, ["dest"], WANTED)) is None
    assert found(flights, grouped(original, ["dest"], WANTED)) is None
    assert found(flights, grouped(original, ["carrier", "origin"], WANTED)) is None


@pytest.mark.parametrize("rows", [10, 300, 3000])
def test_the_originals_own_rows_are_not_an_aggregation(flights: pa.Table, rows: int) -> None:
    at = np.sort(np.random.default_rng(rows).permutation(flights.num_rows)[:rows])
    part = flights.take(at)
    few = ["dep_time", "sched_arr_time", "hour", "distance", "arr_delay"]
    for suspect in (part, anonymous(part)[0], part.select(few), anonymous(part.select(few))[0]):
        assert found(flights, suspect) is None


def test_one_row_of_each_group_is_not_an_aggregation(flights: pa.Table) -> None:
    whole = flights.filter(pc.is_valid(flights["arr_delay"]))
    latest = np.unique(np.array(whole["flight"].to_pylist()), return_index=True)[1]
    suspect = whole.take(pa.array(latest))
    assert found(whole, suspect) is None
    assert found(whole, anonymous(suspect.select(["flight", "arr_delay", "dep_time", "distance"]))[0]) is None


def test_as_many_rows_as_the_original_are_no_groups(flights: pa.Table) -> None:
    assert found(flights, flights) is None
    assert found(flights, flights.slice(0, flights.num_rows // 2 + 1)) is None


def test_unrelated_numbers_are_not_explained() -> None:
    rng = np.random.default_rng(4)
    original = canonical_table(pa.table({
        "key": rng.choice(list("abcdefgh"), 400), "x": rng.integers(0, 6, 400), "y": rng.standard_normal(400)
    }))  # fmt: skip
    claims = 0
    for _ in range(200):
        suspect = canonical_table(
            pa.table({"k": list("abcdefgh"), "u": rng.integers(0, 6, 8), "v": rng.integers(30, 70, 8)})
        )
        claims += find_aggregation(original, suspect, alpha=1e-2) is not None
    assert claims <= 10


def test_odd_tables_do_not_crash(flights: pa.Table) -> None:
    n = 40
    odd = pa.table({
        "none": pa.nulls(n, pa.float64()), "same": [1] * n, "inf": [float("inf"), -1e308] * (n // 2),
        "big": [2**62 + i for i in range(n)], "key": [f"k{i % 5}" for i in range(n)],
        "mixed": [str(i) if i % 2 else f"t{i}" for i in range(n)],
        "long": ["x" * 10_000 + str(i % 7) for i in range(n)],
    })  # fmt: skip
    small = pa.table(
        {"key": [f"k{i}" for i in range(5)], "inf": [float("inf")] * 5, "sum": [1e308, 2, 3, 4, 5]}
    )
    assert found(odd, small) is None
    assert found(odd, odd.slice(0, 10)) is None
    assert found(flights, odd) is None
    assert found(odd, odd.slice(0, 0)) is None
    assert found(odd.slice(0, 0), small) is None
    nothing = CanonicalTable((), ())
    assert find_aggregation(nothing, nothing) is None
    assert find_aggregation(canonical_table(flights), nothing) is None
    one = canonical_table(small.slice(0, 1))
    assert find_aggregation(canonical_table(odd), one) is None
    twice = CanonicalTable(("x", "x"), canonical_table(small).columns[:2])
    assert find_aggregation(canonical_table(odd), twice) is None


# --- functions and laws ----------------------------------------------------------------------------


def test_functions_of_groups_equal_the_slow_twins() -> None:
    rng = np.random.default_rng(5)
    group = rng.integers(-1, 6, 80)
    x = np.where(rng.random(80) < 0.2, np.nan, rng.integers(0, 9, 80).astype(float))
    x[group == 2] = np.nan
    slow = {
        "count": len, "sum": sum, "mean": statistics.fmean, "min": min, "max": max, "median": statistics.median,
        "std": lambda v: statistics.stdev(v) if len(v) > 1 else math.nan, "population-std": statistics.pstdev,
        "count-distinct": lambda v: len(set(v)), "first": lambda v: v[0],
    }  # fmt: skip
    values = Groups.of(group, 7).values(FUNCTIONS, x)
    for f in FUNCTIONS:
        for g in range(7):
            cells = [v for v in x[group == g].tolist() if not math.isnan(v)]
            expected = slow[f](cells) if cells else math.nan
            assert values[f][g] == pytest.approx(expected, nan_ok=True), (f, g)


def test_the_printed_step_is_the_last_decimal_place() -> None:
    assert printed_step(np.array([1.0, 250.0, np.nan])) == 1
    assert printed_step(np.array([1.5, 2.25])) == 0.01
    assert printed_step(np.array([1 / 3])) == 0


def test_concentration_is_never_below_the_exact_law() -> None:
    rng = np.random.default_rng(6)
    for trial in range(40):
        d = rng.integers(0, [3, 9, 40][trial % 3], 9).astype(float)
        width = float([0.5, 1.0, 3.0][trial % 3])
        sums = np.sort([float(d @ np.array(b)) for b in itertools.product((0, 1), repeat=9)])
        exact = max(np.searchsorted(sums, s + width, "right") - i for i, s in enumerate(sums)) / len(sums)
        assert log10_concentration(d, width) >= math.log10(exact) - 1e-12
    # Sharp for 1, 2, ..., k (Stanley): the largest coefficient of (1 + q) ... (1 + q^9) over 2^9.
    sums = np.bincount([sum(i + 1 for i in range(9) if b[i]) for b in itertools.product((0, 1), repeat=9)])
    assert log10_concentration(np.arange(1.0, 10.0), 0.5) == pytest.approx(
        math.log10(sums.max() / 512), abs=1e-6
    )


def test_regrouping_is_never_below_the_exact_law() -> None:
    rng = np.random.default_rng(7)
    group = np.array([0, 0, 0, 1, 1, -1, -1])
    for _ in range(8):
        x = rng.integers(0, 8, 7).astype(float)
        windows = [(x[group == g].sum() - 0.25, x[group == g].sum() + 0.25) for g in (0, 1)]
        counts = np.zeros(3)
        for order in itertools.permutations(range(7)):
            y = x[list(order)]
            counts[sum(low <= y[group == g].sum() <= high for g, (low, high) in enumerate(windows))] += 1
        for hits in (1, 2):
            exact = counts[hits:].sum() / counts.sum()
            hit = np.array([True, hits == 2])
            assert log10_regrouping(x, group, hit, np.full(2, 0.5)) >= math.log10(exact) - 1e-12
    assert (
        log10_regrouping(rng.random(4000), rng.integers(0, 4, 4000), np.ones(4, bool), np.full(4, 1e-6)) < -10
    )


def test_repairing_and_single_rows_are_never_below_the_exact_laws() -> None:
    rng = np.random.default_rng(8)
    s, v = rng.integers(0, 4, 6).astype(float), rng.integers(0, 4, 6).astype(float)
    law = [sum(abs(s[i] - v[j]) <= 0.5 for j, i in enumerate(p)) for p in itertools.permutations(range(6))]
    for hits in range(1, 7):
        exact = np.mean(np.array(law) >= hits)
        if exact > 0:
            assert log10_repairing(s, np.full(6, 0.5), v, hits) >= math.log10(exact) - 1e-12
    shares = np.array([0.0, 0.1, 0.4, 0.9, 0.5])
    for hits in range(5):
        exact = sum(
            math.prod(r if b else 1 - r for r, b in zip(shares, bits, strict=True))
            for bits in itertools.product((0, 1), repeat=5) if sum(bits) >= hits
        )  # fmt: skip
        assert log10_single_rows(shares, hits) >= math.log10(exact) - 1e-12
    assert log10_single_rows(shares, 5) == -math.inf
