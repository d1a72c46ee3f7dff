"""Facts mined from real tables, swaps that keep them, and swaps that do not."""

from __future__ import annotations

import json
import time
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pc
import pyarrow.parquet as pq
import pytest

from dataguard.constraints.facts import Facts, SwapGroup
from dataguard.constraints.groups import pairable
from dataguard.constraints.mine import mine, violations
from dataguard.values import CanonicalTable, canonical_column, canonical_table

DATA = Path(__file__).resolve().parents[1].parent / "shared" / "data"
ADULT = [
    "age", "workclass", "fnlwgt", "education", "education-num", "marital-status", "occupation", "relationship",
    "race", "sex", "capital-gain", "capital-loss", "hours-per-week", "native-country", "income",
]  # fmt: skip
FILES = {
    "flights": "tables/nycflights13_flights.parquet",
    "cover": "tables/covertype_first30k.csv.gz",
    "adult": "tables/adult.data.csv.gz",
    "nursery": "tables/nursery.csv.gz",
    "german": "tables/german_credit.csv.gz",
    "taxis": "tables/nyc_taxis.csv.gz",
    "ai4i": "tables/ai4i2020.csv.gz",
    "diamonds": "tables/diamonds.csv.gz",
    "beijing": "sensors/beijing_pm25_2010_2014.csv.gz",
    "retail": "tables/online_retail.parquet",
    "tennessee": "sensors/tennessee_eastman.parquet",
    "weather": "tables/nycflights13_weather.csv.gz",
    "appliances": "sensors/appliances_energy_testing.csv.gz",
}
pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="shared data folder is not there")


@cache
def table(name: str) -> CanonicalTable:
    path = DATA / FILES[name]
    if path.suffix == ".parquet":
        whole = pq.read_table(path)
        # Parts of two of them, for time: 180,000 invoice lines, 41 of 52 process variables.
        parts = {"retail": whole.slice(0, 180_000), "tennessee": whole.select(whole.column_names[:44])}
        return canonical_table(parts.get(name, whole))
    names = ADULT if name == "adult" else None
    headless = name == "german"
    return canonical_table(
        pc.read_csv(path, read_options=pc.ReadOptions(column_names=names, autogenerate_column_names=headless))
    )


@cache
def mined(name: str) -> tuple[Facts, float]:
    original = table(name)
    start = time.process_time()
    return mine(original), time.process_time() - start


def facts(name: str) -> Facts:
    return mined(name)[0]


def group_of(found: Facts, column: str) -> SwapGroup | None:
    return next((g for g in found.groups if column in g.members), None)


def labels(found: Facts) -> set[str]:
    return {f.label for f in (*found.keys, *found.dependencies, *found.identities)}


# --- what is found in real tables ----------------------------------------------------------------


def test_flights_are_mined_in_time() -> None:
    # Budget 8 s; 4 s measured. Twice the budget here, for machines that are busy.
    assert mined("flights")[1] < 16


def test_flights_clock_identities_give_joint_groups() -> None:
    found = facts("flights")
    clocks = {i.label: i for i in found.identities if i.kind == "clock"}
    assert set(clocks) == {
        "dep_time = sched_dep_time + dep_delay (HHMM)",
        "arr_time = sched_arr_time + arr_delay (HHMM)",
    }
    assert all(i.hold_rate > 0.999 and i.rows > 320_000 for i in clocks.values())
    departure, arrival = group_of(found, "dep_delay"), group_of(found, "arr_delay")
    assert departure is not None
    assert arrival is not None
    assert set(departure.members) == {"dep_time", "dep_delay"}
    assert (departure.driver, departure.equal_on) == ("dep_delay", ("sched_dep_time",))
    assert set(arrival.members) == {"arr_time", "arr_delay"}
    assert (arrival.driver, arrival.equal_on) == ("arr_delay", ("sched_arr_time",))
    assert group_of(found, "air_time") is not None
    assert "dep_time" in found.monotone


def test_flights_dependencies() -> None:
    found = labels(facts("flights"))
    assert {"sched_dep_time -> hour", "sched_dep_time -> minute", "origin, dest -> distance"} <= found
    assert "sched_dep_time = 100 * hour + minute" in found
    assert {"distance", "origin", "dest", "carrier", "flight", "tailnum", "time_hour", "hour"} <= set(
        facts("flights").guarded
    )


def test_cover_type_measures_are_ten_groups() -> None:
    found = facts("cover")
    assert set(found.guarded) == {"Id", "Cover_Type"}
    assert found.columns["Id"].name == "key"
    assert found.columns["Cover_Type"].name == "label"
    assert len(found.groups) == 10
    assert all(len(g.members) == 1 and g.equal_on == () and g.kind == "number" for g in found.groups)
    elevation = group_of(found, "Elevation")
    assert elevation is not None
    assert elevation.tolerance["Elevation"] == np.floor(0.1 * 312)  # winsorised sd 312 m
    assert {1863.0, 3849.0} <= set(elevation.atoms)


def test_adult_keeps_levels_that_fix_others() -> None:
    found = facts("adult")
    assert {"education -> education-num", "education-num -> education"} <= labels(found)
    assert {"relationship ~> sex", "relationship ~> marital-status"} <= labels(found)
    assert {"education", "education-num", "income"} <= set(found.guarded)
    # Exchanged at random, "never married" would land on rows of the retired: age stays behind.
    assert "goes together with" in found.guarded["marital-status"]
    assert "age" in found.guarded["marital-status"]
    gains = group_of(found, "capital-gain")
    assert gains is not None
    assert 0.0 in gains.atoms


def test_nursery_is_a_full_grid_and_stays_as_it_is() -> None:
    found = facts("nursery")
    grid = next(k for k in found.keys if len(k.columns) == 8)
    assert grid.filled == 1.0
    assert found.groups == ()


def test_german_uniqueness_by_chance_is_no_key() -> None:
    found = facts("german")
    assert found.keys == ()
    assert found.dependencies == ()
    assert found.identities == ()
    assert {g.driver for g in found.groups if g.kind == "number"} >= {"f1", "f4", "f12"}
    assert 2 <= sum(g.kind == "category" for g in found.groups) <= 6, (
        "only categories that go with nothing else"
    )
    assert found.guarded["f20"].startswith("label")


def test_payment_in_cash_keeps_its_missing_tip() -> None:
    """In the taxi trips no cash row has a tip: an exchanged payment would make rows that cannot be."""
    found = facts("taxis")
    assert "goes together with" in found.guarded["payment"]
    assert "tip" in found.guarded["payment"]


def test_taxi_fares_are_tied_by_their_total() -> None:
    found = facts("taxis")
    sums = [i for i in found.identities if i.kind == "few"]
    assert [i.label for i in sums] == ["total = fare + tip + tolls + fee"]
    assert 0.98 <= sums[0].hold_rate < 0.99
    assert len(sums[0].residuals) <= 8
    assert {"total", "fare", "tip", "tolls", "pickup", "dropoff"} <= set(found.guarded)
    assert "pickup_zone -> pickup_borough" in labels(found)


def test_machine_table_guards_the_letter_of_the_product() -> None:
    found = facts("ai4i")
    assert "prefix(Product ID) -> Type" in labels(found)
    assert {"UDI", "Product ID", "Type", "Machine failure", "Tool wear [min]"} <= set(found.guarded)
    assert {g.driver for g in found.groups} == {
        "Air temperature [K]",
        "Process temperature [K]",
        "Rotational speed [rpm]",
        "Torque [Nm]",
    }


def test_sensor_and_business_tables() -> None:
    beijing, retail, tennessee = facts("beijing"), facts("retail"), facts("tennessee")
    assert "key(year, month, day, hour)" in labels(beijing)
    assert "TEMP >= DEWP" in labels(beijing)
    assert group_of(beijing, "pm2.5") is not None
    assert "InvoiceNo -> sign(Quantity)" in labels(retail)
    assert {"InvoiceNo", "StockCode", "Description", "CustomerID", "Country"} <= set(retail.guarded)
    assert {g.driver for g in retail.groups} == {"Quantity", "UnitPrice"}
    assert "key(fault, part, sample)" in labels(tennessee)
    assert {"fault", "part", "sample", "XMEAS_23", "XMEAS_41"} <= set(tennessee.guarded)
    assert {f"XMEAS_{k}" for k in (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 14, 16, 20)} <= {
        g.driver for g in tennessee.groups
    }


def test_time_stamps_fix_what_repeats_them() -> None:
    found = facts("appliances")
    assert {"clock(date) -> NSM", "weekday(date) -> Day_of_week", "rv1 = rv2"} <= labels(found)
    assert {"NSM", "Day_of_week", "rv1", "rv2", "date"} <= set(found.guarded)


def test_correlated_columns_move_within_their_common_noise() -> None:
    group = group_of(facts("diamonds"), "x")
    assert group is not None
    assert group.tolerance["x"] <= 0.02  # 0.1 sd would be 0.11 mm, but y tells x to within 0.03 mm
    assert "price" in facts("diamonds").guarded


@pytest.mark.parametrize("name", sorted(FILES))
def test_every_column_is_in_a_group_or_guarded_and_facts_survive_json(name: str) -> None:
    found = facts(name)
    moved = [m for g in found.groups for m in g.members]
    assert sorted([*moved, *found.guarded]) == sorted(table(name).names)
    assert list(found.columns) == list(table(name).names)
    for group in found.groups:
        assert group.driver in group.members
        assert not set(group.equal_on) & set(moved)
    assert Facts.from_dict(json.loads(json.dumps(found.to_dict()))) == found


# --- swaps ---------------------------------------------------------------------------------------


def with_moved(original: CanonicalTable, moves: dict[str, np.ndarray]) -> CanonicalTable:
    """Return the table with row i of some columns taken from row moves[column][i]."""
    columns = [
        canonical_column(c.source.take(pa.array(moves[n]))) if n in moves else c
        for n, c in zip(original.names, original.columns, strict=True)
    ]
    return CanonicalTable(original.names, tuple(columns))


def random_pairs(
    group: SwapGroup, original: CanonicalTable, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Disjoint pairs of rows that the group allows: near in the driver, equal where asked, unequal in it."""
    rows = rng.permutation(np.flatnonzero(pairable(group, original)))
    driver = original.column(group.driver)
    fixed = np.zeros(len(rows), np.uint64)
    for name in group.equal_on:
        fixed = fixed * np.uint64(1_000_003) ^ original.column(name).key[rows]
    value = rng.random(len(rows))  # equal values are shuffled among their neighbours
    if group.kind != "category":
        value = driver.number[rows] + value * group.tolerance[group.driver]
    rows = rows[order := np.lexsort((value, fixed))]
    fixed = fixed[order]
    gap = 3  # not always the nearest
    first = np.arange(len(rows) - gap)
    first = first[(first // gap) % 2 == 0]
    a, b = rows[first], rows[first + gap]
    good = (fixed[first] == fixed[first + gap]) & (driver.key[a] != driver.key[b])
    if group.kind != "category":
        good &= np.abs(driver.number[a] - driver.number[b]) <= group.tolerance[group.driver] * (1 + 1e-9)
    good &= rng.random(len(a)) < 0.7
    return a[good], b[good]


@pytest.mark.parametrize("name", sorted(FILES))
def test_allowed_swaps_break_nothing(name: str) -> None:
    original, found = table(name), facts(name)
    if not found.groups:
        pytest.skip("nothing may move in this table")
    rng = np.random.default_rng(20260101)
    moves: dict[str, np.ndarray] = {}
    swapped = 0
    for group in found.groups:
        a, b = random_pairs(group, original, rng)
        take = np.arange(original.rows)
        take[a], take[b] = b, a
        swapped += len(a)
        moves |= dict.fromkeys(group.members, take)
    assert swapped > 0.05 * original.rows
    marked = with_moved(original, moves)
    assert set(violations(found, original, marked)) == labels(found)
    assert not any(violations(found, original, marked).values())
    for column in moves:
        assert np.array_equal(np.sort(original.column(column).key), np.sort(marked.column(column).key))


BAD = [
    ("flights", ("dep_delay",), "dep_time = sched_dep_time + dep_delay (HHMM)"),
    ("flights", ("arr_time", "arr_delay"), "arr_time = sched_arr_time + arr_delay (HHMM)"),
    ("flights", ("distance",), "origin, dest -> distance"),
    ("flights", ("minute",), "sched_dep_time = 100 * hour + minute"),
    ("adult", ("sex",), "relationship ~> sex"),
    ("adult", ("education",), "education -> education-num"),
    ("taxis", ("tip",), "total = fare + tip + tolls + fee"),
    ("taxis", ("fare",), "total >= fare"),
    ("ai4i", ("Type",), "prefix(Product ID) -> Type"),
    ("nursery", ("health",), "key(parents, has_nurs, form, children, housing, finance, social, health)"),
    ("beijing", ("DEWP",), "TEMP >= DEWP"),
    ("retail", ("Quantity",), "InvoiceNo -> sign(Quantity)"),
    ("appliances", ("NSM",), "clock(date) -> NSM"),
]


@pytest.mark.parametrize(("name", "columns", "label"), BAD)
def test_careless_swaps_are_counted(name: str, columns: tuple[str, ...], label: str) -> None:
    original, found = table(name), facts(name)
    take = np.arange(original.rows)
    rows = np.random.default_rng(7).permutation(original.rows)[:4000] if original.rows > 4000 else take
    take[rows] = np.roll(rows, 1)
    count = violations(found, original, with_moved(original, dict.fromkeys(columns, take)))
    assert count[label] > 0


def test_a_key_that_repeats_is_counted_row_by_row() -> None:
    original = table("cover")
    take = np.arange(original.rows)
    take[:5] = 9  # row 9's Id now stands six times
    count = violations(facts("cover"), original, with_moved(original, {"Id": take}))
    assert count["key(Id)"] == 5


def test_one_broken_row_is_one_violation() -> None:
    original = table("flights")
    take = np.arange(original.rows)
    take[[0, 4]] = take[[4, 0]]  # delays 2 and -6 minutes
    count = violations(facts("flights"), original, with_moved(original, {"dep_delay": take}))
    assert count.pop("dep_time = sched_dep_time + dep_delay (HHMM)") == 2
    assert not any(count.values())
