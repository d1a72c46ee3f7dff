"""Public rows: what anybody can have is left out, all of it where it is the only source, and nothing else.

Deterministic: fixed seeds. A claim of the contrasts is made at alpha over the number of public tables.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from conftest import PACKAGED, shared
from dataguard.carrier import Alignment
from dataguard.fingerprints.comparison.public import chance_of, public_rows
from dataguard.fingerprints.engines import default_engines
from dataguard.values import CanonicalTable, canonical_table
from test_rarity import ODD, by_truth

ALIGN = default_engines().align


@pytest.fixture(scope="module")
def flights() -> pa.Table:
    return pq.read_table(PACKAGED).slice(0, 9000)


def some(table: pa.Table, rows: np.ndarray, seed: int) -> CanonicalTable:
    order = np.random.default_rng(seed).permutation(len(rows))
    return canonical_table(table.take(pa.array(rows[order])))


def renamed(table: CanonicalTable) -> CanonicalTable:
    return CanonicalTable(tuple(f"f{i}" for i in range(len(table.names))), table.columns)


def test_a_suspect_that_is_public_as_a_whole_leaves_nothing(flights: pa.Table) -> None:
    public = canonical_table(flights)
    suspect = renamed(some(flights, np.arange(0, 9000, 5), 1))
    found = public_rows(suspect, [public], ALIGN)
    assert found.public.all()
    assert len(found.kept) == 0
    (file,) = found.files
    assert file.beyond_chance
    assert (file.rows, file.found, file.new) == (9000, 1800, 1800)


def test_a_rounded_copy_of_public_data_leaves_nothing(flights: pa.Table) -> None:
    table = flights
    for name in ("dep_delay", "arr_delay", "air_time"):
        value = flights[name].combine_chunks().cast(pa.float64()).to_numpy(zero_copy_only=False)
        at = table.column_names.index(name)
        table = table.set_column(at, name, pa.array(np.round(value / 5) * 5, from_pandas=True))
    found = public_rows(some(table, np.arange(0, 9000, 6), 2), [canonical_table(flights)], ALIGN)
    assert found.public.all()
    assert found.files[0].same < 300  # only what rounding left as it was


def test_rows_of_other_origin_are_kept(flights: pa.Table) -> None:
    public, secret = flights.slice(0, 4000), flights.slice(4000)
    rows = np.concatenate([np.arange(0, 4000, 8), np.arange(4000, 9000, 5)])
    order = np.random.default_rng(3).permutation(len(rows))
    suspect = canonical_table(flights.take(pa.array(rows[order])))
    found = public_rows(suspect, [canonical_table(public)], ALIGN)
    assert found.files[0].beyond_chance
    assert (found.public == (rows[order] < 4000)).all()
    left = suspect.take(found.kept)
    assert left.rows == 1000
    engines = default_engines()
    original = canonical_table(secret)
    alignment = engines.align(original, left)
    assert str(engines.compare(original, left, alignment, 1e-6).relation) == "subset"


def test_sibling_data_take_nothing_away() -> None:
    table = pyarrow.csv.read_csv(shared("tables/covertype_first30k.csv.gz")).drop_columns(["Id"])
    sibling, suspect = canonical_table(table.slice(0, 6000)), canonical_table(table.slice(6000, 1500))
    found = public_rows(suspect, [sibling], ALIGN)
    assert not found.files[0].beyond_chance
    assert found.files[0].found == found.files[0].same == found.public.sum()
    assert found.public.sum() <= 15  # rows of this table that stand in it twice


def test_several_files_share_alpha_and_count_their_own(flights: pa.Table) -> None:
    tables = [canonical_table(flights.slice(0, 3000)), canonical_table(flights.slice(2000, 3000))]
    suspect = some(flights, np.arange(0, 6000, 4), 4)
    found = public_rows(suspect, iter(tables), ALIGN)
    # Whatever is measured, the rows are aligned as above.
    known = {id(t): ALIGN(t, suspect) for t in tables}
    assert [f.found for f in found.files] == [750, 750]
    assert [f.new for f in found.files] == [750, 500]
    assert found.public.sum() == 1250

    def again(public: CanonicalTable, _: CanonicalTable) -> Alignment:
        return known[id(public)]

    def chance(value: float):
        return lambda *_: value

    limit = -6 - np.log10(2)
    assert all(f.beyond_chance for f in public_rows(suspect, tables, again, 1e-6, chance(limit - 1e-9)).files)
    late = public_rows(suspect, tables, again, 1e-6, chance(limit + 1e-9))
    assert not any(f.beyond_chance for f in late.files)
    # Rows that stand there as they are need no such ground.
    assert [f.found for f in late.files] == [f.same for f in late.files] == [750, 750]


def test_rows_that_several_public_rows_equal_are_public_too() -> None:
    public = canonical_table(pa.table({"a": [1, 1, 2, 2, 3], "b": ["x", "x", "y", "y", "z"]}))
    suspect = canonical_table(pa.table({"a": [1, 3, 2], "b": ["x", "y", None]}))

    def none_matched(original: CanonicalTable, other: CanonicalTable) -> Alignment:
        whole = by_truth(original, other, np.arange(3))
        empty = np.empty(0, np.int64)
        return Alignment(whole.columns, empty, empty, empty, 3, 5, 1)

    found = public_rows(suspect, [public], none_matched)
    assert found.public.tolist() == [True, False, False]
    assert found.files[0].log10_p is None


def test_a_column_of_its_own_is_not_public_without_an_alignment(flights: pa.Table) -> None:
    rows = np.arange(0, 900, 3)
    extra = flights.take(pa.array(rows)).append_column("secret", pa.array(np.arange(300) * 7 + 0.5))
    never = public_rows(canonical_table(extra), [canonical_table(flights)], ALIGN, 1e-6, lambda *_: 0.0)
    assert (never.files[0].same, never.public.sum()) == (0, 0)
    assert public_rows(canonical_table(extra), [canonical_table(flights)], ALIGN).public.all()


def test_no_public_tables_and_empty_ones(flights: pa.Table) -> None:
    suspect = canonical_table(flights.slice(0, 50))
    assert len(public_rows(suspect, [], ALIGN).kept) == 50
    nothing = canonical_table(flights.slice(0, 0))
    assert public_rows(suspect, [nothing], ALIGN).public.sum() == 0
    assert len(public_rows(nothing, [suspect], ALIGN).kept) == 0
    assert chance_of(suspect, nothing, by_truth(suspect, nothing, np.arange(0))) is None


def test_odd_columns_do_no_harm() -> None:
    table = canonical_table(pa.Table.from_arrays(list(ODD.values()), names=list(ODD)))
    calm = {k: v for k, v in ODD.items() if k not in {"odd", "huge"}}
    suspect = canonical_table(pa.Table.from_arrays([*calm.values(), *calm.values()], names=[*calm, *calm]))
    found = public_rows(suspect, [table], lambda a, b: by_truth(a, keep_columns(b, 4), np.arange(40)))
    assert found.public.shape == (40,)


def keep_columns(table: CanonicalTable, count: int) -> CanonicalTable:
    return CanonicalTable(table.names[:count], table.columns[:count])
