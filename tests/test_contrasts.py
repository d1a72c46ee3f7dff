"""The contrasts that a claim of copied rows must survive: honest for a random split, and for neighbours.

Error budgets: a random split of a table is the null hypothesis itself. Of 40 splits with fixed seeds (16 where a
split costs more), the numbers of p-values at or below 0.3, 0.1 and 0.01 are held against exact binomial quantiles at
1e-4 (23, 12 and 4 of 40); no log10 p may be below -5 (4e-4 for 40 splits). In all, at most 1e-3 a test.
"""

from __future__ import annotations

import json
import math

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pytest
from scipy.stats import binom

from conftest import shared
from dataguard.carrier import Alignment, ColumnMatch
from dataguard.fingerprints.alignment.profiles import profile_column
from dataguard.fingerprints.comparison.contrasts import (
    Halves,
    by_hash,
    halves,
    other_rows,
    random_pairing,
    standing_out,
)
from dataguard.folding.columns import fold_table
from dataguard.investigate import compare as compare_tables
from dataguard.model import Finding, without_nan
from dataguard.values import CanonicalTable, canonical_table


def same_columns(table: CanonicalTable) -> list[ColumnMatch]:
    return [ColumnMatch(i, i, "name", 1.0) for i in range(len(table.columns))]


def taken(table: CanonicalTable, rows: np.ndarray) -> CanonicalTable:
    return CanonicalTable(table.names, tuple(c.take(rows) for c in table.columns))


def against_other_rows(original: CanonicalTable, suspect: CanonicalTable) -> Finding:
    found = other_rows([profile_column(c) for c in original.columns], suspect, same_columns(original))
    assert found is not None
    return found


@pytest.fixture(scope="module")
def weather() -> CanonicalTable:
    table = pyarrow.csv.read_csv(shared("tables/nycflights13_weather.csv.gz")).slice(0, 6000)
    names = ["temp", "dewp", "humid", "wind_dir", "wind_speed", "pressure", "time_hour"]
    return fold_table(canonical_table(table.select(names)))


# --- other rows of the same source ---------------------------------------------------------------------


def p_values(names: list[str], splits: int) -> np.ndarray:
    """Log10 p of random halves of the planes, by some of their columns: many planes are alike."""
    table = pyarrow.csv.read_csv(shared("tables/nycflights13_planes.csv.gz")).select(names)
    planes = fold_table(canonical_table(table))
    found = []
    for seed in range(splits):
        order = np.random.default_rng([seed, 7]).permutation(planes.rows)
        half = planes.rows // 2
        found.append(
            against_other_rows(taken(planes, np.sort(order[:half])), taken(planes, order[half:])).log10_p
        )
    return np.array(found)


def check_uniform(log10_p: np.ndarray) -> None:
    for level in (0.3, 0.1, 0.01):
        assert (log10_p <= math.log10(level)).sum() <= binom.ppf(1 - 1e-4, len(log10_p), level), level
    assert log10_p.min() > -5


def test_a_random_split_with_repeated_rows_is_not_small() -> None:
    """Distinct suspect rows against controls as they come: p was at most 0.1 in nine of ten splits."""
    check_uniform(p_values(["year", "type", "manufacturer", "model", "engines", "seats", "engine"], 16))


@pytest.mark.parametrize(
    "names",
    [
        ["manufacturer", "model", "engine"],
        pytest.param(["year", "model", "seats"], marks=pytest.mark.long),
        pytest.param(["type", "engines", "engine", "manufacturer"], marks=pytest.mark.long),
    ],
)
def test_a_random_split_with_few_distinct_rows_is_not_small(names: list[str]) -> None:
    check_uniform(p_values(names, 40))


def test_copied_rows_are_told_from_other_rows(weather: CanonicalTable) -> None:
    rng = np.random.default_rng(3)
    order = rng.permutation(weather.rows)
    original, others = np.sort(order[:1500]), order[1500:]
    copied = against_other_rows(taken(weather, original), taken(weather, rng.permutation(original)[:200]))
    assert copied.log10_p is not None
    assert copied.log10_p < -25
    other = against_other_rows(taken(weather, original), taken(weather, others[:200]))
    assert other.log10_p is not None
    assert other.log10_p > -3  # one split in a thousand; the seed is fixed
    assert set(copied.counts) == {"rows", "found", "controls", "controls_found"}


def test_a_row_repeated_a_thousand_times_is_one_row(weather: CanonicalTable) -> None:
    original = taken(weather, np.arange(1000))
    repeated = taken(weather, np.concatenate([np.full(1000, 7), np.arange(1000, 1300)]))
    found = against_other_rows(original, repeated)
    assert found.log10_p is not None
    assert found.log10_p > -3


@pytest.mark.parametrize("rows", [0, 1])
def test_too_little_to_test(weather: CanonicalTable, rows: int) -> None:
    profiles = [profile_column(c) for c in weather.columns]
    few = taken(weather, np.arange(rows))
    assert other_rows(profiles, few, same_columns(weather)) is None
    assert other_rows(profiles, taken(weather, np.arange(9)), same_columns(weather)[:1]) is None


# --- halves of the columns -----------------------------------------------------------------------------


def columns_of_bits(*bits: float) -> CanonicalTable:
    """Columns of 4,096 rows with entropies close to these, in bits; 0: constant, below 1: a rare flag."""
    rng = np.random.default_rng(0)
    made = {}
    for i, b in enumerate(bits):
        values = rng.integers(0, 2 ** int(b), 4096) if b >= 1 else (rng.random(4096) < b / 8).astype(int)
        made[f"c{i}"] = values
    return canonical_table(pa.table(made))


def dealt(
    *bits: float, rows: int = 1000, fresh: bool = True, by: str = "name"
) -> tuple[list[int], list[int]]:
    table = columns_of_bits(*bits)
    columns = [ColumnMatch(i, i, by, 1.0) for i in range(len(bits))]
    suspect = taken(table, np.arange(rows))
    left, right = halves([profile_column(c) for c in table.columns], columns, suspect, fresh=fresh)
    assert not {c.original for c in left} & {c.original for c in right}
    return [c.original for c in left], [c.original for c in right]


def test_columns_are_dealt_by_entropy_until_enough_is_tested() -> None:
    # By entropy c2 c1 c3 c4 c0 c5: every second is tested until six bits are; c1 has hardly less than six.
    assert dealt(3, 6, 8, 5, 4, 2) == ([2, 3, 0, 5], [1, 4])
    assert dealt(3, 7, 8, 5, 4, 2) == ([2, 3, 0, 4, 5], [1])


def test_few_rows_are_tested_on_more_bits() -> None:
    bits = (9, 8, 7, 6, 5, 4, 3, 2)
    many, few = dealt(*bits, rows=256), dealt(*bits, rows=255)
    assert many == ([0, 2, 4, 6, 3, 5, 7], [1])
    assert few == ([0, 2, 4, 6, 7], [1, 3, 5])


def test_columns_settled_by_rows_take_part_only_where_rows_are_fresh() -> None:
    assert dealt(8, 7, 6, 5, fresh=False, by="rows") == ([], [])
    assert sum(map(len, dealt(8, 7, 6, 5, fresh=True, by="rows"))) == 4
    assert sum(map(len, dealt(8, 7, 6, 5, fresh=False, by="values"))) == 4


def test_columns_of_less_than_a_bit_are_used_only_where_there_are_few_others() -> None:
    used = [sorted(a + b) for a, b in (dealt(8, 7, 6, 5, 0.5, 0.5), dealt(8, 7, 6, 0.5, 0.5, 0))]
    assert used == [[0, 1, 2, 3], [0, 1, 2, 3, 4]]
    assert dealt(0, 0, 0) == ([], [])


# --- pairing -------------------------------------------------------------------------------------------


def test_pairing_tells_copied_rows_from_columns_shuffled_apart(weather: CanonicalTable) -> None:
    original = taken(weather, np.arange(3000))
    profiles = [profile_column(c) for c in original.columns]
    rows = np.random.default_rng(5).permutation(3000)[:400]
    suspect = taken(original, rows)
    columns = same_columns(weather)
    split: Halves = halves(profiles, columns, suspect, fresh=False)
    copied = random_pairing(profiles, suspect, columns)
    assert copied is not None
    assert copied.log10_p is not None
    assert copied.log10_p < -25
    shuffled = list(suspect.columns)
    for c in split[1]:
        shuffled[c.suspect] = shuffled[c.suspect].take(np.random.default_rng(6).permutation(400))
    apart = random_pairing(profiles, CanonicalTable(suspect.names, tuple(shuffled)), columns)
    assert apart is not None
    assert apart.log10_p is not None
    assert apart.log10_p > -3  # one shuffle in a thousand; the seed is fixed


def test_rows_are_ordered_by_their_cells_alone(weather: CanonicalTable) -> None:
    order = np.random.default_rng(8).permutation(500)
    table, turned = taken(weather, np.arange(500)), taken(weather, order)
    columns = same_columns(weather)
    a, b = by_hash(table, columns, np.arange(500)), by_hash(turned, columns, np.arange(500))
    assert order[b].tolist() == a.tolist()
    assert a.tolist() != list(range(500))


# --- standing out --------------------------------------------------------------------------------------


def stood_out(original: CanonicalTable, suspect: CanonicalTable, own: np.ndarray) -> tuple[int, int]:
    rows = np.arange(suspect.rows)
    columns = tuple(same_columns(original))
    equal = np.full(len(rows), len(columns))
    alignment = Alignment(columns, rows, own, equal, suspect.rows, original.rows, 0)
    found = standing_out([profile_column(c) for c in original.columns], suspect, alignment)
    assert found is not None
    assert found.log10_p is None  # a condition, not a test
    return found.counts["standing_out"], found.counts["rows"]


def series(rows: int) -> CanonicalTable:
    """A smooth series: four slow waves and a walk."""
    t = np.arange(rows)
    rng = np.random.default_rng(1)
    waves = {f"w{k}": 10 * np.sin(t / (40 + 17 * k) + k) for k in range(4)}
    return canonical_table(pa.table({**waves, "walk": np.cumsum(rng.normal(0, 0.01, rows))}))


def test_a_copy_stands_out() -> None:
    whole = series(1200)
    own = np.random.default_rng(2).permutation(1200)[:300]
    out, rows = stood_out(whole, taken(whole, own), own)
    assert rows == 300
    assert out == 300


def test_a_copy_with_less_noise_than_neighbours_differ_stands_out(weather: CanonicalTable) -> None:
    own = np.arange(400)
    named = ["temp", "dewp", "humid", "wind_speed", "pressure"]
    table = CanonicalTable(tuple(named), tuple(weather.column(n) for n in named))
    original = taken(table, np.arange(2000))
    rng = np.random.default_rng(4)
    noisy = canonical_table(
        pa.table({n: original.column(n).number[own] + 0.01 * rng.normal(size=400) for n in named})
    )
    out, rows = stood_out(original, noisy, own)
    assert out > 0.9 * rows


def test_every_second_row_of_a_smooth_series_does_not_stand_out() -> None:
    whole = series(1200)
    even, odd = np.arange(0, 1200, 2), np.arange(1, 1200, 2)
    out, rows = stood_out(taken(whole, even), taken(whole, odd), np.arange(600))
    assert rows == 500  # as many as are looked at
    assert 2 * out < rows


def test_without_matched_rows_there_is_no_condition() -> None:
    table = series(50)
    none = np.empty(0, np.int64)
    alignment = Alignment(tuple(same_columns(table)), none, none, none, 50, 50, 0)
    assert standing_out([profile_column(c) for c in table.columns], table, alignment) is None


# --- documents -----------------------------------------------------------------------------------------


def test_what_is_no_number_is_written_as_null() -> None:
    nan = float("nan")
    value = {"a": nan, "b": [1.5, nan, {"c": [nan], "d": "nan"}], "e": None, "f": True, "g": -30.0}
    shown = without_nan(value)
    assert shown == {"a": None, "b": [1.5, None, {"c": [None], "d": "nan"}], "e": None, "f": True, "g": -30.0}
    assert json.loads(json.dumps(shown, allow_nan=False)) == shown
    assert math.isnan(value["a"]), "what was given stays as it was"
    assert without_nan(nan) is None


def test_a_column_that_was_emptied_or_overwritten_is_not_what_is_tested(weather: CanonicalTable) -> None:
    """A leaker who blanks one column, or fills it with noise, must not end the test."""
    original = taken(weather, np.arange(3000))
    profiles = [profile_column(c) for c in original.columns]
    columns = same_columns(weather)
    suspect = taken(original, np.random.default_rng(5).permutation(3000)[:400])
    noise = np.random.default_rng(6).normal(size=400)
    for tested in halves(profiles, columns, suspect, fresh=False)[1]:
        for cells in (pa.nulls(400, pa.float64()), pa.array(noise)):
            spoilt = list(suspect.columns)
            spoilt[tested.suspect] = canonical_table(pa.table({"x": cells})).columns[0]
            found = random_pairing(profiles, CanonicalTable(suspect.names, tuple(spoilt)), columns)
            assert found is not None
            assert found.log10_p is not None
            assert found.log10_p < -20


def test_two_observers_of_the_same_days_share_no_rows() -> None:
    """Measurements of their own on shared keys: trends that happen to agree are no copied rows (a real false claim)."""
    days = np.arange(np.datetime64("2015-01-01"), np.datetime64("2015-01-01") + np.timedelta64(1000, "D"))
    for seed in range(6):
        rng = np.random.default_rng(seed)
        hour, site = rng.integers(0, 24, 1000), [f"s{i % 7}" for i in range(1000)]
        walks = [(np.cumsum(rng.normal(0, 1, 1000)) + base).round(2) for base in (100, 130, 100, 130)]
        keys = {"date": pa.array(days.astype("datetime64[s]")), "hour": hour, "site": site}
        first = pa.table({**keys, "usd": walks[0], "eur": walks[1]})
        second = pa.table({**keys, "usd": walks[2], "eur": walks[3]}).take(
            rng.choice(1000, 500, replace=False)
        )
        assert compare_tables(first, second).relation in {"same-schema", "unrelated"}


def test_rows_none_of_whose_values_are_known_are_many_contents() -> None:
    """With noise on every cell all ids are unseen: hashed by ids alone, every row was one and no test was left."""
    rng = np.random.default_rng(4)
    base = {f"m{i}": rng.normal(size=3000) for i in range(8)}
    rows = rng.permutation(3000)
    noisy = {k: v[rows] + rng.normal(0, 0.01, 3000) for k, v in base.items()}
    found = compare_tables(pa.table(base), pa.table(noisy))
    assert found.relation == "same-rows"
    assert found.log10_p is not None
    assert found.log10_p < -20
