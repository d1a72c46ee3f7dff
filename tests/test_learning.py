"""What aligned rows teach: units, steps, other names for categories; guesses that rows do not back are dropped.

Real flights of January, fixed seeds; no statistical claim is made here.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from dataguard.carrier import ColumnMatch
from dataguard.fingerprints.alignment.learning import learn_columns
from dataguard.maps import Recoding, ValueMap
from dataguard.values import CanonicalTable, canonical_column, canonical_table

ROWS = 800
NAMES = ["day", "dep_time", "carrier", "flight", "dest", "air_time", "distance", "arr_delay"]


@pytest.fixture
def flights(flights_january) -> pa.Table:
    table = pq.read_table(flights_january).select(NAMES)
    return table.take(pa.array(np.random.default_rng(1).permutation(table.num_rows)[:ROWS]))


def numbers(table: pa.Table, name: str) -> np.ndarray:
    return table[name].combine_chunks().cast(pa.float64()).to_numpy(zero_copy_only=False)


def put(table: pa.Table, **made: object) -> pa.Table:
    for name, values in made.items():
        at = table.column_names.index(name)
        array = values if isinstance(values, pa.Array) else pa.array(values, from_pandas=True)
        table = table.set_column(at, name, array)
    return table


def learnt(
    original: pa.Table,
    suspect: pa.Table,
    columns: list[ColumnMatch],
    rows: int = ROWS,
    seed: int | None = None,
) -> dict[str, ColumnMatch]:
    """What rows teach of a suspect that holds the original's rows in their order; with a seed, of wrong pairs."""
    a, b = canonical_table(original), canonical_table(suspect)
    at = np.arange(rows)
    own = at if seed is None else np.random.default_rng(seed).permutation(rows)
    found = learn_columns(a, b, columns, at, own)
    assert [c.suspect for c in found] == sorted(c.suspect for c in found)
    assert len({c.original for c in found}) == len(found)
    return {suspect.column_names[c.suspect]: c for c in found}


def by_name(table: pa.Table, names: list[str], by: str = "name") -> list[ColumnMatch]:
    return [ColumnMatch(NAMES.index(n), table.column_names.index(n), by, 1.0) for n in names]


KNOWN = ["day", "dep_time", "flight", "dest"]


def test_columns_left_alone_stay_as_they_are(flights: pa.Table) -> None:
    found = learnt(flights, flights, by_name(flights, NAMES))
    assert list(found) == NAMES
    assert all(c.by == "name" and c.through is None for c in found.values())


def test_units_are_learnt_for_columns_that_names_match(flights: pa.Table) -> None:
    suspect = put(flights, distance=np.round(numbers(flights, "distance") * 1.609344, 2))
    found = learnt(flights, suspect, by_name(suspect, NAMES))
    through = found["distance"].through
    assert isinstance(through, ValueMap)
    assert through.scale == pytest.approx(1.609344, rel=1e-6)
    assert through.shift == pytest.approx(0, abs=0.01)
    assert [n for n, c in found.items() if c.through is not None] == ["distance"]


def test_units_are_learnt_for_columns_that_nothing_else_matches(flights: pa.Table) -> None:
    suspect = put(flights, distance=np.round(numbers(flights, "distance") * 1.609344, 2))
    suspect = suspect.rename_columns([n if n != "distance" else "f0" for n in NAMES])
    found = learnt(flights, suspect, by_name(suspect, KNOWN))
    assert found["f0"].original == NAMES.index("distance")
    assert found["f0"].by == "rows"
    through = found["f0"].through
    assert isinstance(through, ValueMap)
    assert through.scale == pytest.approx(1.609344, rel=1e-6)


def test_steps_are_learnt(flights: pa.Table) -> None:
    suspect = put(flights, air_time=np.round(numbers(flights, "air_time") / 5) * 5)
    through = learnt(flights, suspect, by_name(suspect, NAMES))["air_time"].through
    assert isinstance(through, ValueMap)
    assert (through.scale, through.shift, through.step) == (1.0, 0.0, 5.0)


def test_noise_is_learnt(flights: pa.Table) -> None:
    noise = 3.0 * np.random.default_rng(2).normal(size=ROWS)
    suspect = put(flights, distance=numbers(flights, "distance") + noise)
    through = learnt(flights, suspect, by_name(suspect, NAMES))["distance"].through
    assert isinstance(through, ValueMap)
    # 800 normal errors tell their spread to 2.5 %: 12 % are almost five standard errors.
    assert through.noise == pytest.approx(3.0, rel=0.12)
    assert through.scale == pytest.approx(1.0, abs=0.01)


def recoded(table: pa.Table, name: str) -> tuple[pa.Table, dict[str, str]]:
    """The table with other names for the values of a column, by order of the alphabet turned round."""
    values = sorted(pc.unique(table[name]).to_pylist())
    other = {v: f"k{len(values) - i}" for i, v in enumerate(values)}
    return put(table, **{name: [other[v] for v in table[name].to_pylist()]}), other


@pytest.mark.parametrize("named", [True, False])
def test_other_names_of_categories_are_learnt(flights: pa.Table, named: bool) -> None:
    suspect, other = recoded(flights, "carrier")
    columns = by_name(suspect, [*KNOWN, "carrier"] if named else KNOWN)
    match = learnt(flights, suspect, columns)["carrier"]
    assert match.original == NAMES.index("carrier")
    assert isinstance(match.through, Recoding)
    frequent = [c["values"] for c in pc.value_counts(flights["carrier"]).to_pylist() if c["counts"] >= 20]
    assert len(frequent) > 5
    keys = canonical_column(pa.array(frequent)).key
    expected = canonical_column(pa.array([other[v] for v in frequent])).key
    assert match.through.apply(keys).tolist() == expected.tolist()


def guesses(table: pa.Table) -> list[ColumnMatch]:
    """Known columns, and a right guess by shape."""
    return by_name(table, KNOWN) + by_name(table, ["arr_delay"], "shape")


def test_a_guess_by_shape_needs_rows(flights: pa.Table) -> None:
    names = list(learnt(flights, flights, guesses(flights), rows=15))
    assert names == KNOWN
    found = learnt(flights, flights, guesses(flights))
    assert found["arr_delay"].by == "rows"
    assert found["arr_delay"].through is None


def test_a_guess_that_rows_do_not_back_is_dropped(flights: pa.Table) -> None:
    """Rows that were aligned wrong back no guess, and no map."""
    suspect = put(flights, arr_delay=numbers(flights, "arr_delay") * 1.7 + 3)
    found = learnt(flights, suspect, guesses(suspect), seed=3)
    assert "arr_delay" not in found
    assert not any(c.by == "shape" for c in found.values())
    backed = learnt(flights, suspect, guesses(suspect))["arr_delay"]
    assert backed.by == "rows"
    assert isinstance(backed.through, ValueMap)
    assert backed.through.scale == pytest.approx(1.7, rel=1e-6)


def test_a_wrong_guess_is_corrected(flights: pa.Table) -> None:
    wrong = ColumnMatch(
        NAMES.index("air_time"), NAMES.index("arr_delay"), "shape", 0.0, ValueMap("", 0.5, 2.0)
    )
    found = learnt(flights, flights, [*by_name(flights, KNOWN), wrong])
    assert found["arr_delay"].original == NAMES.index("arr_delay")
    assert found["air_time"].original == NAMES.index("air_time")


def test_odd_columns_teach_nothing(flights: pa.Table) -> None:
    """All missing, constant, infinite, text: nothing is learnt of them, and nothing fails."""
    suspect = put(
        flights.select([*KNOWN, "carrier", "air_time", "distance", "arr_delay"]),
        air_time=pa.nulls(ROWS, pa.float64()),
        distance=np.ones(ROWS),
        arr_delay=np.where(np.arange(ROWS) % 2, np.inf, -np.inf),
        carrier=["same"] * ROWS,
    )
    assert list(learnt(flights, suspect, by_name(suspect, KNOWN))) == KNOWN
    empty = CanonicalTable((), ())
    assert learn_columns(empty, empty, [], np.empty(0, np.int64), np.empty(0, np.int64)) == ()
