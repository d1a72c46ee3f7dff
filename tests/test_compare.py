"""Comparison: the two nulls are honest, relations are claimed only beyond them, changes are named.

Error budgets: bounds are checked against exact enumeration (no sampling); calibration runs over
fixed seeds state the number of checks and the level.
"""

from __future__ import annotations

import itertools
import json
import math

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from conftest import shared
from dataguard.fingerprints.alignment.rows import align
from dataguard.fingerprints.comparison.nulls import log10_more_hits, log10_pairing
from dataguard.fingerprints.comparison.tables import Comparison, compare
from dataguard.fingerprints.engines import default_engines
from dataguard.model import Relation
from dataguard.values import canonical_table
from test_rows import leak, swapped


def related(original: pa.Table, suspect: pa.Table, alpha: float = 1e-6) -> Comparison:
    a, b = canonical_table(original), canonical_table(suspect)
    return compare(a, b, align(a, b), alpha)


def kinds(found: Comparison) -> list[str]:
    return [c.kind for c in found.changes]


@pytest.fixture(scope="module")
def cover() -> pa.Table:
    table = pyarrow.csv.read_csv(shared("tables/covertype_first30k.csv.gz"))
    return table.drop_columns([table.column_names[0]]).slice(0, 6000)


# --- the laws --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("rows", "controls"), [(3, 5), (4, 4), (6, 3)])
def test_more_hits_equals_enumeration(rows: int, controls: int) -> None:
    for hits, control_hits in itertools.product(range(rows + 1), range(controls + 1)):
        total = hits + control_hits
        draws = list(itertools.combinations(range(rows + controls), total))
        tail = sum(sum(i < rows for i in d) >= hits for d in draws) / len(draws)
        assert log10_more_hits(hits, rows, control_hits, controls) == pytest.approx(
            math.log10(tail), abs=1e-12
        )


def test_more_hits_does_not_underflow() -> None:
    assert log10_more_hits(2000, 2000, 0, 2000) == pytest.approx(-math.log10(math.comb(4000, 2000)))
    assert log10_more_hits(0, 10, 5, 2000) == 0.0


@pytest.mark.parametrize("seed", range(12))
def test_pairing_bound_is_never_below_the_exact_law(seed: int) -> None:
    rng = np.random.default_rng(seed)
    m = 6
    a = rng.random((m, m)) < rng.choice([0.1, 0.3, 0.6])
    if seed == 0:
        a = np.eye(m, dtype=bool)
    law = np.bincount([a[range(m), p].sum() for p in itertools.permutations(range(m))], minlength=m + 1)
    for hits in range(m + 1):
        exact = law[hits:].sum() / math.factorial(m)
        bound = log10_pairing(hits, int(a.sum()), m)
        assert bound <= 0
        assert exact == 0 or bound >= math.log10(exact) - 1e-12


def test_pairing_bound_is_sharp_for_a_perfect_match() -> None:
    # Ones on the diagonal only: all m pairs agree in one of m! pairings.
    assert log10_pairing(8, 8, 8) == pytest.approx(-math.log10(math.factorial(8)))
    # Many chance agreements: Chatterjee's bound takes over.
    t, mean = 900 - 300.0, 300.0
    chatterjee = (math.log(2) - t * t / (4 * mean + 2 * t)) / math.log(10)
    assert log10_pairing(900, 300_000, 1000) <= chatterjee
    assert log10_pairing(0, 0, 0) == log10_pairing(300, 300_000, 1000) == 0.0


# --- what must not be claimed ----------------------------------------------------------------------


def halves(name: str, rows: int, drop: int) -> tuple[pa.Table, pa.Table]:
    path = shared(f"tables/{name}")
    if path.suffix == ".parquet":
        table = pq.read_table(path)
    else:
        options = pyarrow.csv.ReadOptions(autogenerate_column_names=name.startswith("adult"))
        table = pyarrow.csv.read_csv(path, read_options=options)
    table = table.select(table.column_names[drop:])
    order = np.random.default_rng(2).permutation(len(table))
    return table.take(pa.array(order[:rows])), table.take(pa.array(order[rows : rows + 800]))


@pytest.mark.parametrize(
    ("name", "drop"),
    [
        ("covertype_first30k.csv.gz", 1),
        ("nycflights13_flights.parquet", 0),
        ("online_retail.parquet", 0),
        ("adult.data.csv.gz", 0),
        ("diamonds.csv.gz", 0),
    ],
)
def test_disjoint_halves_of_one_source_share_a_schema_only(name: str, drop: int) -> None:
    original, suspect = halves(name, 6_000, drop)
    found = related(original, suspect)
    assert found.relation is Relation.SAME_SCHEMA
    # One p-value per source, under its null: five checks, each below 1e-4 with chance 1e-4 at most.
    assert found.log10_p is None or found.log10_p > -4
    assert found.containment_suspect.low <= 0.02


def test_a_full_product_against_a_sample_of_it_is_not_claimed() -> None:
    # Every combination of eight categories: any independent sample occurs in it entirely.
    nursery = pyarrow.csv.read_csv(shared("tables/nursery.csv.gz"))
    nursery = nursery.drop_columns([nursery.column_names[0]])
    sample = nursery.take(pa.array(np.random.default_rng(1).integers(0, len(nursery), 2000)))
    assert related(nursery, sample).relation is Relation.SAME_SCHEMA


def test_other_rows_null_is_calibrated(cover: pa.Table) -> None:
    """8 disjoint splits: p <= 1 % in more than 2 of them has chance below 6e-5 when p is honest."""
    small = 0
    for seed in range(8):
        order = np.random.default_rng(seed).permutation(6000)
        a = canonical_table(cover.take(pa.array(order[:2000])))
        b = canonical_table(cover.take(pa.array(order[2000:2200])))
        found = compare(a, b, align(a, b))
        small += bool(found.findings) and found.findings[0].log10_p <= -2
        assert found.relation is Relation.SAME_SCHEMA
    assert small <= 2


def test_foreign_tables_are_unrelated(cover: pa.Table) -> None:
    rng = np.random.default_rng(0)
    other = pa.table({"x": [f"t{i}" for i in range(300)], "y": rng.normal(1e7, 1, 300)})
    found = related(cover, other)
    assert found.relation is Relation.UNRELATED
    assert found.log10_p is None
    assert "not computed" in found.null_hypothesis


# --- what must be found ----------------------------------------------------------------------------


def test_identical_cells_are_identical(cover: pa.Table) -> None:
    found = related(cover, cover)
    assert found.relation is Relation.IDENTICAL
    assert found.changes == ()
    assert found.containment_original.estimate == found.containment_suspect.low == 1.0
    assert found.containment_original.exact


def test_shuffled_rows_and_columns(cover: pa.Table) -> None:
    suspect, _ = leak(cover, 6000, 1)
    found = related(cover, suspect)
    assert found.relation is Relation.SAME_ROWS
    assert kinds(found) == ["reordered", "columns-reordered"]
    assert found.log10_p == -30.0
    assert {c.agreement for c in found.columns} == {1.0}


def test_a_marked_leak_is_a_subset_with_near_values(cover: pa.Table) -> None:
    copy = swapped(cover, [[c] for c in cover.column_names[:10]], seed=4)
    names = cover.column_names[:9]
    suspect, _ = leak(copy, 200, 2, names)
    suspect = suspect.rename_columns(["Elevation (m)", *names[1:]])
    found = related(cover, suspect)
    assert found.relation is Relation.SUBSET
    assert found.log10_p is not None
    assert found.log10_p <= -12
    assert found.log10_p == max(f.log10_p for f in found.findings if f.log10_p is not None)
    changes = {c.kind: c.detail for c in found.changes}
    assert changes["columns-dropped"] == {"columns": list(cover.column_names[9:])}
    assert changes["renamed"] == {"from": "Elevation", "to": "Elevation (m)"}
    assert found.rows.suspect == 200
    assert found.rows.matched >= 180
    bounds = found.containment_suspect
    assert bounds.low <= bounds.estimate <= bounds.high
    by_name = {c.original: c for c in found.columns}
    near = {c.kind: c.detail for c in by_name["Elevation"].changes}["near-values"]
    sd = np.std(cover.column("Elevation").to_numpy())
    assert 0.3 < near["share"] < 0.7
    assert 0 < near["max"] <= 0.2 * sd
    assert by_name["Elevation"].agreement == pytest.approx(1 - near["share"], abs=0.02)


def test_a_mixture_is_an_overlap(cover: pa.Table) -> None:
    original, other = cover.slice(0, 4000), cover.slice(4000, 300)
    suspect = pa.concat_tables([original.slice(100, 300), other])
    found = related(original, suspect)
    assert found.relation is Relation.OVERLAP
    share = next(c for c in found.changes if c.kind == "mixed").detail["share"]
    assert share == pytest.approx(0.5, abs=0.02)
    assert found.containment_suspect.estimate == pytest.approx(0.5, abs=0.02)
    assert found.containment_original.estimate == pytest.approx(300 / 4000, abs=0.002)


def test_a_superset_and_repeated_rows(cover: pa.Table) -> None:
    original = cover.slice(0, 2000)
    suspect = pa.concat_tables([cover.slice(0, 5000), cover.slice(0, 40)])
    found = related(original, suspect)
    assert found.relation is Relation.SUPERSET
    assert "duplicated" in kinds(found)
    assert found.containment_original.estimate >= 0.98


def test_added_columns_are_named(cover: pa.Table) -> None:
    part = cover.slice(50, 100).append_column("id", pa.array([f"r{i}" for i in range(100)]))
    found = related(cover, part)
    assert found.relation is Relation.SUBSET
    assert next(c for c in found.changes if c.kind == "columns-added").detail == {"columns": ["id"]}


def test_twins_widen_the_bounds(cover: pa.Table) -> None:
    original = pa.concat_tables([cover.slice(0, 1000), cover.slice(0, 100)])
    found = related(original, cover.slice(0, 400))
    bounds = found.containment_suspect
    assert bounds.low == pytest.approx(300 / 400, abs=0.01)
    assert bounds.estimate == bounds.high == 1.0
    assert not bounds.exact
    assert found.relation is Relation.SUBSET


def test_alpha_decides(cover: pa.Table) -> None:
    # Twelve rows: p is about 2e-9.
    suspect, _ = leak(cover, 12, 3)
    assert related(cover, suspect, 1e-6).relation is Relation.SUBSET
    assert related(cover, suspect, 1e-12).relation is Relation.SAME_SCHEMA


def test_one_column_is_no_ground_for_a_claim(cover: pa.Table) -> None:
    found = related(cover, cover.select(["Elevation"]).slice(0, 500))
    assert found.log10_p is None
    assert found.relation is Relation.SAME_SCHEMA


def test_json_has_the_promised_fields(cover: pa.Table) -> None:
    suspect, _ = leak(cover, 50, 4)
    document = json.loads(json.dumps(related(cover, suspect).to_dict()))
    assert document["schema"] == "dataguard.compare/1"
    assert document["relation"] == "subset"
    assert set(document["rows"]) == {"original", "suspect", "examined", "matched", "tied"}
    assert set(document["containment_original"]) == {"estimate", "low", "high", "exact"}
    assert set(document["columns"][0]) == {"original", "suspect", "by", "changes", "agreement", "explained"}
    assert document["changes"][0] == {"kind": "reordered"}
    assert {"containment_suspect", "log10_p", "null_hypothesis", "findings"} <= set(document)
    for finding in document["findings"]:
        assert all(isinstance(v, int) for v in finding["counts"].values())


def test_findings_can_be_recomputed_from_their_counts(cover: pa.Table) -> None:
    suspect, _ = leak(cover, 40, 5)
    rows, pairing, condition = related(cover, suspect).findings
    assert condition.log10_p is None
    assert condition.counts["rows"] >= condition.counts["standing_out"] >= condition.counts["rows"] / 2
    c = rows.counts
    p = log10_more_hits(c["found"], c["rows"], c["controls_found"], c["controls"])
    assert rows.log10_p == pytest.approx(max(-30.0, p), abs=1e-4)
    assert rows.log10_p >= max(-30.0, p)
    c = pairing.counts
    p = log10_pairing(c["agreeing"], c["agreeing_pairs"], c["rows"])
    assert pairing.log10_p == pytest.approx(max(-30.0, p), abs=1e-4)


def test_engines_are_wired(cover: pa.Table) -> None:
    engines = default_engines()
    a, b = canonical_table(cover), canonical_table(cover.slice(0, 60))
    found = engines.compare(a, b, engines.align(a, b), 1e-6)
    assert found.relation is Relation.SUBSET
    assert engines.sketch(a)[:4] == b"dgsk"


def test_rows_not_found_in_an_altered_copy_are_left_open_not_called_foreign() -> None:
    """Half the cells of every measure are moved a little; rows whose match fails are still ours."""
    rng = np.random.default_rng(8)
    n = 3000
    names = [f"m{i}" for i in range(6)]
    base = {name: rng.integers(0, 40, n) for name in names}
    rows = rng.permutation(n)[:150]
    moved = {name: base[name][rows] + rng.choice([0, 1, -1], len(rows), p=[0.4, 0.3, 0.3]) for name in names}
    original, suspect = (canonical_table(pa.table(t)) for t in (base, moved))
    result = compare(original, suspect, align(original, suspect))
    assert 20 < result.rows.matched < 150
    assert result.containment_suspect.high == 1.0
    assert not result.containment_suspect.exact
    assert all(change.kind != "mixed" for change in result.changes)
