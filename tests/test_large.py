"""Tables that do not fit the memory bound: worked on in blocks, searched by samples, with the same answers."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest

from conftest import PACKAGED, shared
from dataguard import budget, reading
from dataguard.budget import Budget, parse_memory
from dataguard.carrier import Large
from dataguard.errors import DataguardError, UsageError
from dataguard.evidence.verify import verify
from dataguard.fingerprints.alignment.gather import candidates
from dataguard.fingerprints.comparison.sampled import compare_sampled
from dataguard.fingerprints.sketch import merge_sketches, parse_sketch, sketch_table
from dataguard.fingerprints.sketches.estimate import binomial_limits
from dataguard.formats import blocks as blocks_module
from dataguard.formats.blocks import block_edges, read_blocks, spread, take_positions
from dataguard.formats.source import open_source
from dataguard.modalities.moments import Moments, correlation_change
from dataguard.values import canonical_table
from dataguard.vault import Vault


@pytest.fixture
def small(monkeypatch):
    """A budget of which hardly any is left for rows: January's flights are cut into about seven blocks."""
    monkeypatch.setattr(blocks_module, "BASE_BYTES", budget.LEAST_MEMORY - 90 * 19 * 4096)
    monkeypatch.setattr(blocks_module, "_MEASURED_SHARE", 0.0)  # or so tight a bound would be refused
    return Budget(budget.LEAST_MEMORY)


def as_large(table, room=3000, rows=1000):
    """A table handed out in blocks of 1,000 rows."""
    pieces = [table.slice(i, rows) for i in range(0, table.num_rows, rows)]
    return Large(
        table.num_rows,
        room,
        lambda: (canonical_table(piece) for piece in pieces),
        lambda at: canonical_table(table.take(at)),
    )


@pytest.fixture(scope="module")
def flights():
    return pq.read_table(PACKAGED)


# --- blocks ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("rows", "most"), [(1, 5), (5, 5), (6, 5), (27_004, 4096), (100, 1)])
def test_blocks_cover_all_rows_evenly(rows, most):
    edges = block_edges(rows, most)
    sizes = np.diff(edges)
    assert edges[0] == 0
    assert edges[-1] == rows
    assert sizes.max() <= most
    assert sizes.max() - sizes.min() <= 1


@pytest.mark.parametrize("suffix", ["parquet", "csv"])
def test_blocks_hold_the_rows_in_order(tmp_path, flights, suffix):
    path = tmp_path / f"a.{suffix}"
    pq.write_table(flights, path, row_group_size=5000) if suffix == "parquet" else pacsv.write_csv(
        flights, path
    )
    source = open_source(path)
    whole = source.table()
    for most in (999, 4096, 30_000):
        edges = block_edges(whole.num_rows, most)
        tables = list(read_blocks(source, edges))
        assert [t.num_rows for t in tables] == np.diff(edges).tolist()
        assert pa.concat_tables(tables).equals(whole)


def test_positions_are_taken_across_batches(tmp_path, flights):
    path = tmp_path / "a.csv"
    pacsv.write_csv(flights, path)
    source = open_source(path)
    whole = source.table()
    for positions in ([0], [27_003], [], sorted(np.random.default_rng(2).choice(27_004, 500, replace=False))):
        at = np.array(positions, np.int64)
        assert take_positions(source, at).equals(whole.take(at))
    assert spread(2, 3).tolist() == [0, 1]
    for rows, count in ((10, 3), (100_000, 1000), (1001, 1000)):
        at = spread(rows, count)
        edges = np.arange(count + 1) * rows // count
        assert ((edges[:-1] <= at) & (at < edges[1:])).all()
    assert np.unique(spread(100_000, 1000) % 100).size > 80  # no period is met at one place


@pytest.mark.parametrize(
    ("text", "size"), [("2G", 2 << 30), ("800M", 800 << 20), ("1.5 GiB", 3 << 29), ("5", 5)]
)
def test_amounts_of_memory(text, size):
    assert parse_memory(text) == size


@pytest.mark.parametrize("text", ["", "G", "-1G", "nan", "inf", "2 GM", "1e30T", "２Ｇx"])
def test_amounts_that_are_none(text):
    with pytest.raises(UsageError):
        parse_memory(text)


def test_too_little_memory():
    with pytest.raises(UsageError, match="at least 512M"):
        Budget(1 << 20)


# --- sums over blocks --------------------------------------------------------------------------------


def test_sketches_of_blocks_merge_to_the_sketch_of_the_whole(flights):
    parts = [sketch_table(canonical_table(flights.slice(i, 5000))) for i in range(0, 27_004, 5000)]
    merged, whole = parse_sketch(merge_sketches(parts)), parse_sketch(sketch_table(canonical_table(flights)))
    assert merged.rows == whole.rows
    for one, other in zip(merged.columns, whole.columns, strict=True):
        assert np.array_equal(one.hashes, other.hashes)
        assert one.kind == other.kind
        # The relative standard error of the estimate is 1 / sqrt(254); 5 of them.
        assert abs(one.distinct - other.distinct) <= 5 * other.distinct / np.sqrt(254)
        if other.distinct <= 256:
            assert one.distinct == other.distinct


def test_moments_of_blocks_are_those_of_the_whole(flights):
    numeric = flights.select(["dep_delay", "arr_delay", "air_time", "distance", "carrier"])
    rng = np.random.default_rng(5)
    noised = numeric.set_column(
        0, "dep_delay", pa.array(numeric.column(0).to_numpy() + rng.normal(0, 30, numeric.num_rows))
    )
    sums = [Moments(), Moments()]
    for table, total in zip((numeric, noised), sums, strict=True):
        for i in range(0, table.num_rows, 4000):
            total.add(canonical_table(table.slice(i, 4000)))
    expected = []
    for table in (numeric, noised):
        matrix = np.stack([np.asarray(table.column(i).to_numpy(), np.float64) for i in range(4)])
        mean = np.nanmean(matrix, axis=1, keepdims=True)
        expected.append(np.corrcoef(np.where(np.isnan(matrix), mean, matrix)))
    assert np.allclose(sums[0].correlations([0, 1, 2, 3]), expected[0], atol=1e-12)
    change, pair = correlation_change(*sums, {"dep_delay"})
    assert change == pytest.approx(np.abs(expected[0] - expected[1]).max(), abs=1e-12)
    assert set(pair) == {"dep_delay", "arr_delay"}
    assert sums[0].spread()["distance"] == pytest.approx(np.std(numeric.column("distance").to_numpy()))
    assert "carrier" not in sums[0].spread()


# --- the journey -------------------------------------------------------------------------------------


@pytest.fixture
def vault(tmp_path, small):
    with Vault.create(tmp_path / "vault") as made:
        made.register(PACKAGED, name="flights", budget=small)
        yield made


def leak(path, rows, seed=3, columns=None):
    table = pq.read_table(path)
    rng = np.random.default_rng(seed)
    part = table.take(rng.permutation(table.num_rows)[:rows])
    return part if columns is None else part.select(columns)


def test_a_large_table_is_marked_and_traced_in_blocks(vault, tmp_path, small):
    held = vault._parts.holding(vault._parts.store.latest_dataset("flights"))
    assert len(held.counts) > 4
    made = vault.protect("flights", recipient="acme", out=tmp_path / "a.parquet", budget=small)
    vault.protect("flights", recipient="beta", out=tmp_path / "b.csv", budget=small)
    assert made.slots_marked == held.size
    assert made.distortion.broken == ()
    assert all(row.exact and row.ks == 0 for row in made.distortion.rows)
    assert not any(made.distortion.violations.values())
    for rows in (40, 300, 6000):
        part = leak(tmp_path / "a.parquet", rows)
        traced = vault.trace(part, dataset="flights", budget=small)
        assert traced.corresponding == ("acme",)
        assert traced.examined_rows == min(rows, held.edges[1] // reading.MEMORY_PER_LOOK)
        whole = vault.trace(part, dataset="flights")
        assert whole.corresponding == ("acme",)
    text = open_source(tmp_path / "b.csv").table()
    assert vault.trace(text, dataset="flights", budget=small).corresponding == ("beta",)


def test_slots_stay_within_blocks_and_what_moves_is_what_is_planned(vault, tmp_path, small):
    parts = vault._parts
    held = parts.holding(parts.store.latest_dataset("flights"))
    for block, (first, last) in zip(held.blocks(), itertools.pairwise(held.edges), strict=True):
        assert block.ids.tolist() == list(range(first, last))
        assert block.slots.place[:, 1:].min() >= first
        assert block.slots.place[:, 1:].max() < last
    ids, slots = held.everything()
    assert len(np.unique(slots.address)) == len(slots) == held.size
    wanted = np.array([5, 20_000, 27_003], np.uint64)
    found, index = held.slots_at(wanted)
    expected = np.flatnonzero(np.isin(slots.place[:, 1:], wanted.astype(np.int64)).any(1))
    assert np.array_equal(index, expected)
    assert np.array_equal(found.address, slots.address[expected])
    assert np.array_equal(held.positions(np.array([7, 10**9], np.uint64)), [7, -1])
    assert np.array_equal(held.ids_at(np.array([7, 26_000])), [7, 26_000])
    assert len(ids) == 27_004


def test_a_bundle_of_a_large_table_verifies(vault, tmp_path, small):
    vault.protect("flights", recipient="acme", out=tmp_path / "a.parquet", budget=small)
    vault.report(leak(tmp_path / "a.parquet", 250), dataset="flights", out=tmp_path / "bundle", budget=small)
    verdict = verify(tmp_path / "bundle")
    assert verdict.trusted, verdict
    case = json.loads((tmp_path / "bundle" / "report.json").read_text())
    assert "acme" in json.dumps(case)


def test_unrelated_and_foreign_suspects_name_nobody(vault, tmp_path, small):
    vault.protect("flights", recipient="acme", out=tmp_path / "a.parquet", budget=small)
    rng = np.random.default_rng(8)
    noise = pa.table({f"c{i}": rng.normal(size=500) for i in range(8)})
    assert vault.trace(noise, dataset="flights", budget=small).corresponding == ()
    february = shared("tables/nycflights13_flights.parquet")
    other = pq.read_table(february).slice(111_000, 600)
    assert vault.trace(other, dataset="flights", budget=small).corresponding == ()


def test_a_later_version_of_a_large_table_needs_the_memory_for_both(vault, tmp_path, small):
    later = pq.read_table(PACKAGED).slice(100)
    with pytest.raises(UsageError, match="pass --memory"):
        vault.register(later, name="flights", budget=small)
    assert vault.register(later, name="flights").version == 2
    vault.protect("flights", recipient="acme", out=tmp_path / "v2.parquet")
    assert vault.trace(leak(tmp_path / "v2.parquet", 200), dataset="flights").corresponding == ("acme",)


def test_a_block_that_differs_from_what_was_committed_is_no_evidence(vault, tmp_path, small):
    vault.protect("flights", recipient="acme", out=tmp_path / "a.parquet", budget=small)
    folder = next((tmp_path / "vault" / "datasets").glob("*/*"))
    plan = pq.ParquetFile(folder / "plan.parquet")
    groups = [plan.read_row_group(i) for i in range(plan.num_row_groups)]
    level = pa.array(np.ones(groups[0].num_rows, np.uint64)).cast(groups[0].schema.field("address").type)
    groups[0] = groups[0].set_column(0, groups[0].schema.field(0), pa.chunked_array([level]))
    with pq.ParquetWriter(folder / "plan.parquet", plan.schema_arrow) as writer:
        writer.add_key_value_metadata(plan.metadata.metadata)
        for group in groups:
            writer.write_table(group, row_group_size=group.num_rows)
    with pytest.raises(DataguardError):
        vault.report(leak(tmp_path / "a.parquet", 250), dataset="flights", out=tmp_path / "b", budget=small)
    assert not (tmp_path / "b").exists()


# --- search and comparison ---------------------------------------------------------------------------


def test_the_true_row_is_among_the_candidates(flights):
    rng = np.random.default_rng(11)
    at = np.sort(rng.choice(flights.num_rows, 400, replace=False))
    columns = ["dep_time", "arr_time", "carrier", "flight", "origin", "dest", "air_time", "distance"]
    part = flights.take(at).select(columns).rename_columns([f"x{i}" for i in range(len(columns))])
    sample = canonical_table(flights.take(spread(flights.num_rows, 750)))
    found = candidates(as_large(flights), sample, canonical_table(part))
    assert np.isin(at, found).mean() >= 0.99
    assert len(found) <= 8 * 400


def test_samples_find_a_subset_and_its_share(flights):
    rng = np.random.default_rng(12)
    part = flights.take(np.sort(rng.choice(flights.num_rows, 9000, replace=False)))
    found = compare_sampled(as_large(flights, room=24_000), as_large(part, room=24_000))
    assert found.relation == "subset"
    assert found.rows.examined == 2000
    assert not found.containment_original.exact
    assert found.containment_original.low <= 1 / 3 <= found.containment_original.high
    assert found.containment_suspect.low > 0.99


@pytest.mark.parametrize("seed", [0, 1, *(pytest.param(i, marks=pytest.mark.long) for i in range(2, 6))])
def test_other_rows_of_the_same_source_are_no_copy(flights, seed):
    """Two disjoint halves: both contrasts are promises, so six draws below 1e-3 would have a chance of 6e-3."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(flights.num_rows)
    one, other = (flights.take(np.sort(order[h::2][:9000])) for h in (0, 1))
    found = compare_sampled(as_large(one, room=24_000), as_large(other, room=24_000))
    assert found.relation == "same-schema"
    assert found.log10_p is None or found.log10_p > -3


@pytest.mark.parametrize(("hits", "rows"), [(0, 50), (50, 50), (7, 200), (1, 20_000)])
def test_intervals_are_exact_binomial_ones(hits, rows):
    from scipy.special import bdtr, bdtrc

    low, high = binomial_limits(hits, rows)
    assert low == 0 if hits == 0 else bdtrc(hits - 1, rows, low) == pytest.approx(1e-3)
    assert high == 1 if hits == rows else bdtr(hits, rows, high) == pytest.approx(1e-3)


# --- what a review found --------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, *(pytest.param(i, marks=pytest.mark.long) for i in (1, 2))])
def test_twins_at_the_beginning_of_the_files_are_no_copies(seed):
    """A fifth of both tables is drawn from the same templates, in front: controls must come from there too."""
    cover = pq.read_table(shared("tables/covertype_100k.parquet")).slice(0, 40_000)
    rng = np.random.default_rng(seed)
    templates = cover.slice(0, 800)
    rest = rng.permutation(np.arange(800, 40_000))
    sides = []
    for half in range(2):
        head = templates.take(rng.integers(0, 800, 2000))
        sides.append(pa.concat_tables([head, cover.take(rest[half::2][:8000])]))
    found = compare_sampled(as_large(sides[0], room=24_000), as_large(sides[1], room=24_000))
    counts = found.findings[0].counts
    assert found.relation == "same-schema"
    assert (
        counts["controls_found"] > 10
    )  # the twins are met on both sides; half of all contents fit the linkage


def test_a_period_of_the_file_does_not_mislead_the_sample(flights):
    """Every twentieth row is copied: rows spaced by twenty would all be."""
    own = flights.slice(0, 10_000)
    foreign = pq.read_table(shared("tables/nycflights13_flights.parquet")).slice(150_000, 9500)
    place = np.arange(10_000)
    copied = place[::20]
    order = np.empty(10_000, np.int64)
    order[copied] = copied
    order[np.setdiff1d(place, copied)] = 10_000 + np.arange(9500)
    mixed = pa.concat_tables([own, foreign.cast(own.schema)]).take(order)
    found = compare_sampled(as_large(own, room=6000), as_large(mixed, room=6000))
    assert found.rows.examined == 500
    assert found.relation in ("overlap", "same-schema")  # 25 rows of 500 are little to go by, and no subset
    assert found.containment_suspect.low <= 0.05
    assert found.containment_suspect.estimate < 0.15


@pytest.mark.long
def test_runs_and_groups_are_guarded_in_blocks_as_in_the_whole(tmp_path, monkeypatch):
    """Channels that hold their value for several samples show a swap between equal neighbours."""
    plant = pq.read_table(shared("sensors/tennessee_eastman.parquet"))
    with Vault.create(tmp_path / "vault") as vault:
        whole = vault.register(plant, name="whole")
        monkeypatch.setattr(blocks_module, "BASE_BYTES", budget.LEAST_MEMORY - 95 * 55 * 8192)
        parts = vault.register(plant, name="parts", budget=Budget(budget.LEAST_MEMORY))
    assert len(parts.capacity["groups"]) > 3
    held = {c for c, reason in whole.capacity["guarded"].items() if "held" in reason or "runs" in reason}
    assert held
    assert held <= set(parts.capacity["guarded"])
