"""Direction: hints point the right way on made copies, turn around with the tables, and stay silent in doubt.

Deterministic: fixed seeds, edits of real tables whose direction is known.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from conftest import PACKAGED, shared
from dataguard.carrier import Alignment, ColumnMatch
from dataguard.fingerprints.comparison.direction import BACKWARD, EITHER, FORWARD, Direction, hint_direction
from dataguard.fingerprints.comparison.traces import (
    decimal_step,
    has_residue,
    is_rounded,
    is_shortened,
    merges,
    on_foreign_grid,
)
from dataguard.values import CanonicalTable, canonical_table
from test_rarity import ODD, aligned

TURNED = {FORWARD: BACKWARD, BACKWARD: FORWARD, EITHER: EITHER}


def turned(alignment: Alignment) -> Alignment:
    """The same pairs of rows and columns with the tables exchanged."""
    columns = tuple(ColumnMatch(c.suspect, c.original, c.by, c.overlap) for c in alignment.columns)
    order = np.argsort(alignment.original_row, kind="stable")
    return Alignment(
        columns, alignment.original_row[order], alignment.suspect_row[order], alignment.equal[order],
        alignment.n_original, alignment.n_suspect, 0, alignment.tied_original, alignment.tied_suspect,
    )  # fmt: skip


def both_ways(a: CanonicalTable, b: CanonicalTable, alignment: Alignment) -> Direction:
    """The hints, after checking that exchanging the tables turns every one of them."""
    there, back = hint_direction(a, b, alignment), hint_direction(b, a, turned(alignment))
    names = {b.names[c.suspect]: a.names[c.original] for c in alignment.columns}
    mine = sorted((h.observation, h.column, h.points) for h in there.hints)
    assert mine == sorted((h.observation, names.get(h.column, ""), TURNED[h.points]) for h in back.hints)
    counted = {w: there.counts[w] for w in TURNED}
    assert counted == {w: back.counts[TURNED[w]] for w in TURNED}
    assert all(v >= 0 for h in there.hints for v in h.counts.values())
    assert there.statement in {
        "consistent with original -> suspect", "consistent with suspect -> original", "consistent with either direction"
    }  # fmt: skip
    return there


def seen(found: Direction) -> set[tuple[str, str]]:
    assert {h.points for h in found.hints} <= {FORWARD, EITHER}
    return {(h.observation, h.column) for h in found.hints}


@pytest.fixture(scope="module")
def flights() -> pa.Table:
    return pq.read_table(PACKAGED).slice(0, 8000)


def edited(table: pa.Table, name: str, values: pa.Array) -> pa.Table:
    return table.set_column(table.column_names.index(name), name, values)


def test_a_plain_copy_says_nothing(flights: pa.Table) -> None:
    order = np.random.default_rng(1).permutation(flights.num_rows)
    found = both_ways(*aligned(flights, flights.take(pa.array(order)), order))
    assert found.hints == ()
    assert found.statement == "consistent with either direction"


def test_part_of_the_rows_and_columns(flights: pa.Table) -> None:
    rows = np.sort(np.random.default_rng(2).permutation(flights.num_rows)[:900])
    suspect = flights.select(flights.column_names[:9]).take(pa.array(rows))
    found = both_ways(*aligned(flights, suspect, rows))
    assert seen(found) >= {("fewer-columns", ""), ("fewer-rows", "")}
    counts = {h.observation: h.counts for h in found.hints}
    assert counts["fewer-rows"] == {"rows": 900, "found": 900, "left_out": 7100}
    assert counts["fewer-columns"] == {"left_out": 10, "kept": 9}
    assert found.statement == "consistent with original -> suspect"


@pytest.mark.parametrize("rule", [np.round, np.floor, np.ceil])
def test_rounded_columns_are_coarser(flights: pa.Table, rule) -> None:
    suspect = flights
    for name, step in {"distance": 10, "air_time": 5, "dep_delay": 5}.items():
        value = flights[name].combine_chunks().cast(pa.float64()).to_numpy(zero_copy_only=False)
        suspect = edited(suspect, name, pa.array(rule(value / step) * step, from_pandas=True))
    found = both_ways(*aligned(flights, suspect, np.arange(8000)))
    # Distances are those of a hundred routes: what rounding takes from them need not be even.
    assert ("coarser", "air_time") in seen(found)
    assert found.statement == "consistent with original -> suspect"


def test_rounded_coordinates_in_another_unit() -> None:
    x = np.round(np.random.default_rng(3).uniform(20, 60, 3000), 5)
    found = both_ways(
        *aligned(pa.table({"x": x}), pa.table({"x": np.round(1.8 * x + 32, 1)}), np.arange(3000))
    )
    assert ("coarser", "x") in seen(found)


@pytest.mark.parametrize("share", [0.05, 0.2, 0.289, 0.5, 2.0])
def test_noise_on_whole_numbers_is_not_taken_for_rounding(share: float) -> None:
    rng = np.random.default_rng(4)
    x = rng.integers(0, 200, 4000).astype(float)
    suspect = pa.table({"x": x + rng.normal(0, share, 4000)})
    found = both_ways(*aligned(pa.table({"x": x}), suspect, np.arange(4000)))
    assert found.counts[FORWARD] == found.counts[BACKWARD] == 0


def test_converted_units_lie_on_the_original_grid(flights: pa.Table) -> None:
    inches = np.random.default_rng(5).integers(10, 90, 4000)
    table = pa.table({"x": inches})
    found = both_ways(*aligned(table, pa.table({"x": np.round(inches * 2.54, 2)}), np.arange(4000)))
    assert seen(found) == {("foreign-grid", "x")}
    # Minutes and seconds fill their grids alike.
    same = both_ways(*aligned(table, pa.table({"x": inches * 60}), np.arange(4000)))
    assert same.hints == ()


def test_residue_of_arithmetic() -> None:
    x = np.round(np.random.default_rng(6).uniform(-20, 40, 4000), 1)
    suspect = pa.table({"x": x * 1.8 + 32})
    found = both_ways(*aligned(pa.table({"x": x}), suspect, np.arange(4000)))
    assert ("residue", "x") in seen(found)
    assert found.statement == "consistent with original -> suspect"


def test_merged_and_shortened_texts() -> None:
    table = pq.read_table(shared("tables/online_retail.parquet")).slice(0, 6000)
    country = pc.if_else(pc.equal(table["Country"], "United Kingdom"), "home", "abroad")
    short = pc.utf8_slice_codeunits(table["Description"], 0, 12)
    suspect = edited(edited(table, "Country", country), "Description", short)
    found = both_ways(*aligned(table, suspect, np.arange(6000)))
    assert seen(found) >= {("merged", "Country"), ("shortened", "Description")}


def test_hashed_one_for_one_points_nowhere() -> None:
    names = np.random.default_rng(7).integers(0, 500, 4000)
    table, suspect = (
        pa.table({"n": [f"name {i}" for i in names]}),
        pa.table({"n": [f"{i * 7919:x}z" for i in names]}),
    )
    assert both_ways(*aligned(table, suspect, np.arange(4000))).hints == ()


def test_blanked_cells_and_gaps_in_running_numbers() -> None:
    rng = np.random.default_rng(8)
    table = pa.table({"id": np.arange(1, 5001), "v": rng.normal(size=5000)})
    rows = np.sort(rng.permutation(5000)[:2000])
    suspect = table.take(pa.array(rows))
    value = [None if rng.random() < 0.2 else v for v in suspect["v"].to_pylist()]
    found = both_ways(*aligned(table, edited(suspect, "v", pa.array(value)), rows))
    assert seen(found) == {("gaps", "id"), ("blanked", "v"), ("fewer-rows", "")}
    (gaps,) = [h for h in found.hints if h.observation == "gaps"]
    assert gaps.counts == {"for": int(rows[-1] - rows[0] + 1 - 2000), "against": 0}


def test_near_values_and_newer_content_point_neither_way(flights: pa.Table) -> None:
    rng = np.random.default_rng(9)
    delay = flights["dep_delay"].combine_chunks().cast(pa.float64()).to_numpy(zero_copy_only=False)
    moved = delay + rng.integers(-2, 3, 8000)
    stamps = pa.array(np.datetime64("2013-01-01T00:00:00") + np.arange(8000) * np.timedelta64(60, "s"))
    table = flights.append_column("stamp", stamps)
    rows = np.arange(7000)
    suspect = edited(table, "dep_delay", pa.array(moved, from_pandas=True)).slice(0, 7000)
    found = both_ways(*aligned(table, suspect, rows))
    either = {h.observation: h for h in found.hints if h.points == EITHER}
    assert set(either) == {"near-values", "newer-content"}
    assert either["newer-content"].counts == {"original": 1000, "suspect": 0}


def test_contradicting_hints_leave_it_open() -> None:
    rng = np.random.default_rng(10)
    x, y = np.round(rng.uniform(0, 100, 3000), 3), np.round(rng.uniform(0, 100, 3000), 3)
    table, suspect = pa.table({"x": np.round(x), "y": y}), pa.table({"x": x, "y": np.round(y)})
    found = both_ways(*aligned(table, suspect, np.arange(3000)))
    directed = {(h.observation, h.column, h.points) for h in found.hints if h.points != EITHER}
    assert directed == {("coarser", "x", BACKWARD), ("coarser", "y", FORWARD)}
    assert found.statement == "consistent with either direction"


def test_few_rows_say_nothing() -> None:
    table = pa.table({"x": np.arange(20) / 3})
    assert hint_direction(*aligned(table, table.slice(0, 5), np.arange(5))).hints == ()
    empty = canonical_table(table.slice(0, 0))
    none = np.empty(0, np.int64)
    assert hint_direction(empty, empty, Alignment((), none, none, none, 0, 0, 0)).hints == ()


def test_odd_columns_do_no_harm() -> None:
    table = pa.Table.from_arrays([*ODD.values(), *ODD.values()], names=[*ODD, *ODD])
    shifted = pa.Table.from_arrays(
        [*list(ODD.values())[1:], *list(ODD.values())], names=[*list(ODD)[1:], *ODD]
    )
    both_ways(*aligned(table, table, np.arange(40)))
    found = hint_direction(*aligned(table, shifted, np.arange(40)))
    assert found.statement.startswith("consistent with")


# --- the rules on their own ------------------------------------------------------------------------


def test_decimal_steps() -> None:
    assert decimal_step(np.array([0.1, 0.25, 3.0])) == 0.05
    assert decimal_step(np.array([100.0, 250.0])) == 50
    assert decimal_step(np.array([0.0, 0.0])) == 0
    assert decimal_step(np.array([1 / 3, 2 / 7, np.pi])) == 0


def test_rules_that_see_the_same_both_ways_say_nothing() -> None:
    rng = np.random.default_rng(11)
    x, y = rng.normal(size=500), rng.normal(size=500)
    for rule in (is_rounded, has_residue, on_foreign_grid):
        assert rule(x, y) is None
        assert rule(x, x) is None
    keys = rng.integers(1, 9, (2, 500)).astype(np.uint64)
    assert merges(keys[0], keys[1]) is None
    assert merges(keys[0], keys[0] * np.uint64(3)) is None
    assert is_shortened(["abc"] * 50, ["abc"] * 50) is None
    assert is_shortened(["abc"] * 50, ["xb"] * 50) is None
    assert is_shortened(["abc"] * 50, ["ab"] * 50) == {"for": 50, "against": 0}
