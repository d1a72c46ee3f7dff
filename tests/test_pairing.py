"""The pair-swap plan: the drawing kernel against a slow twin, and what no plan may ever do."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import shared
from dataguard import keys
from dataguard.constraints.facts import Facts
from dataguard.errors import CapacityError
from dataguard.formats.source import open_source
from dataguard.modalities._kernels import draw_pairs
from dataguard.modalities.pairing import group_id, positions
from dataguard.modalities.row_ids import inherit_ids
from dataguard.modalities.table import CARRIER, TableContent
from dataguard.model import LEVELS
from dataguard.values import canonical_table, mix64
from dataguard.watermarking.symbols import SlotKeys, brief, symbols

LAW = LEVELS["single"]
MASK = 2**64 - 1


def measured(kind, content, plan, edits):
    meter = kind.distortion(plan.legend)
    meter.add(content, edits)
    return meter.result()


def slow_twin(stratum, driver, members, tolerance, words, ordered):
    """draw_pairs, obviously: for each free row list its window, then follow the draw."""
    n = len(stratum)
    partner = [-1] * n

    def fits(p, q):
        return driver[p] != driver[q] and all(
            abs(m[p] - m[q]) <= t for m, t in zip(members, tolerance, strict=True)
        )

    for p in range(n):
        if ordered:
            window = [q for q in range(p + 1, n) if stratum[q] == stratum[p] and driver[q] > driver[p]
                      and driver[q] - driver[p] <= tolerance[0]]  # fmt: skip
        else:
            window = [q for q in range(p + 1, n) if stratum[q] == stratum[p] and q - p <= 4096]
        if partner[p] >= 0 or not window:
            continue
        tries = [
            window[int(mix64(np.array([(int(words[p]) + t) & MASK], np.uint64))[0]) % len(window)]
            for t in range(24)
        ]
        for q in (*tries, *window[:256]):
            if partner[q] < 0 and fits(p, q):
                partner[p], partner[q] = q, p
                break
    return partner


@settings(max_examples=120, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 2), st.integers(0, 12), st.integers(0, 2**64 - 1)), min_size=1, max_size=50
    ),
    st.integers(0, 4),
    st.booleans(),
)
def test_kernel_equals_its_twin(rows, tolerance, ordered) -> None:
    rows = sorted(rows) if ordered else sorted(rows, key=lambda r: (r[0], r[2]))
    stratum = np.array([r[0] for r in rows], np.int64)
    driver = np.array([r[1] for r in rows], np.float64)
    words = np.array([r[2] for r in rows], np.uint64)
    members = np.stack([driver, driver * 2])
    limits = np.array([tolerance, 2 * tolerance], np.float64)
    partner = np.full(len(rows), -1, np.int64)
    draw_pairs(stratum, driver, members, limits, words, ordered, partner)
    assert partner.tolist() == slow_twin(stratum, driver, members, limits, words, ordered)


def test_kernel_is_compiled_once() -> None:
    args = (np.zeros(2, np.int64), np.arange(2.0), np.zeros((1, 2)), np.ones(1), np.zeros(2, np.uint64), True)
    draw_pairs(*args, np.full(2, -1, np.int64))
    assert len(draw_pairs.signatures) == 1


def slot_keys(name: str) -> SlotKeys:
    secret = keys.dataset_secret(bytes(range(32)), name)
    return SlotKeys(keys.address_key(secret), keys.pairing_key(secret), keys.bias_key(secret))


TABLES = {
    "flights": ("tables/nycflights13_flights.parquet", 30_000),
    "covertype": ("tables/covertype_first30k.csv.gz", 6_000),
    "adult": ("tables/adult.data.csv.gz", 8_000),
    "beijing": ("sensors/beijing_pm25_2010_2014.csv.gz", 8_000),
    "taxis": ("tables/nyc_taxis.csv.gz", 6_000),
    "weather": ("tables/nycflights13_weather.csv.gz", 8_000),
    "ai4i": ("tables/ai4i2020.csv.gz", 8_000),
}


@pytest.fixture(params=sorted(TABLES), scope="module")
def planned(request):
    file, rows = TABLES[request.param]
    table = open_source(shared(file)).table().slice(0, rows)
    if request.param == "adult":
        names = [f"c{i}" for i in range(table.num_columns)]
        table = table.rename_columns(names)
    content = TableContent(
        table, canonical_table(table), np.arange(table.num_rows, dtype=np.uint64) + np.uint64(100)
    )
    return content, CARRIER.slots(content, brief(slot_keys(request.param), LAW), LAW), request.param


def test_partners_are_near_unequal_and_equal_where_they_must(planned) -> None:
    content, plan, _ = planned
    facts = Facts.from_dict(plan.legend["facts"])
    table = content.canonical
    for group in facts.groups:
        place = plan.place[plan.place[:, 0] == group_id(group)]
        low, high = (positions(content.ids, place[:, c]) for c in (1, 2))
        ends = np.concatenate([low, high])
        assert (ends >= 0).all()
        assert len(np.unique(ends)) == len(ends), "a row is in at most one pair of a group"
        assert (table.column(group.driver).key[low] != table.column(group.driver).key[high]).all()
        for name in group.equal_on:
            assert (table.column(name).key[low] == table.column(name).key[high]).all()
        for name, limit in group.tolerance.items():
            x = table.column(name).number
            assert (np.abs(x[low] - x[high]) <= limit * (1 + 1e-9) + 1e-12).all()
        if group.kind != "category" and group.atoms:
            assert not np.isin(table.column(group.driver).number[ends], group.atoms).any()


def test_no_export_breaks_a_fact_or_a_multiset(planned) -> None:
    content, plan, name = planned
    for recipient in ("acme", "birch", "cedar"):
        key = keys.mark_key(bytes(range(32)), name, recipient, 1)
        own = symbols(key, plan.address, plan.bias, plan.channel)
        edits = CARRIER.embed(content, plan, own)
        report = measured(CARRIER, content, plan, edits)
        assert report.broken == (), report.broken
        assert sum(report.violations.values()) == 0
        assert all(r.ks == 0 and r.exact for r in report.rows)
        marked = CARRIER.mark(content, edits)
        for column in content.table.column_names:
            before, after = content.canonical.column(column).key, marked.canonical.column(column).key
            assert np.array_equal(np.sort(before), np.sort(after))


def test_a_sort_does_not_rebuild_the_pairs(planned) -> None:
    """A leaker may sort a column too: few pairs may be neighbours in sorted order."""
    content, plan, _ = planned
    facts = Facts.from_dict(plan.legend["facts"])
    for group in facts.groups:
        place = plan.place[plan.place[:, 0] == group_id(group)]
        if group.kind == "category" or len(place) < 500 or group.equal_on:
            continue
        rank = np.empty(len(content.ids), np.int64)
        rank[np.argsort(content.canonical.column(group.driver).number, kind="stable")] = np.arange(
            len(content.ids)
        )
        low, high = (positions(content.ids, place[:, c]) for c in (1, 2))
        assert (np.abs(rank[low] - rank[high]) == 1).mean() < 0.2


def test_pairs_depend_on_the_pairing_secret(planned) -> None:
    content, plan, name = planned
    other = CARRIER.slots(content, brief(slot_keys(name + "!"), LAW), LAW)
    ours, theirs = ({tuple(p) for p in q.place.tolist()} for q in (plan, other))
    assert len(ours & theirs) < 0.35 * len(ours)


def test_protected_columns_and_zero_tolerance_carry_nothing() -> None:
    content = CARRIER.sample(1, 1500)
    made = brief(
        slot_keys("p"), LAW, protect=frozenset({"pressure"}), tolerance={"temperature": 0.0, "late": 2.0}
    )
    plan = CARRIER.slots(content, made, LAW)
    members = {m for g in plan.legend["groups"].values() for m in g}
    assert "pressure" not in members
    assert "temperature" not in members
    edits = CARRIER.embed(content, plan, np.ones(len(plan), np.uint8))
    moved = {r.part: r.max_abs for r in measured(CARRIER, content, plan, edits).rows}
    assert moved["late"] <= 2.0


def test_table_without_room_is_refused() -> None:
    table = pa.table({"a": [1] * 50, "b": ["x"] * 50})
    content = TableContent(table, canonical_table(table), np.arange(50, dtype=np.uint64))
    with pytest.raises(CapacityError, match="room for a mark"):
        CARRIER.slots(content, brief(slot_keys("none"), LAW), LAW)


def test_full_grid_has_no_slack_and_is_refused() -> None:
    """Nursery holds every combination once: any exchange would make one row twice and lose another."""
    content = CARRIER.decode(open_source(shared("tables/nursery.csv.gz")))
    with pytest.raises(CapacityError):
        CARRIER.slots(content, brief(slot_keys("nursery"), LAW), LAW)


def test_ids_are_inherited_by_content_duplicates_in_order() -> None:
    old = canonical_table(pa.table({"a": [1, 2, 2, 3], "b": ["x", "y", "y", "z"]}))
    new = canonical_table(pa.table({"b": ["y", "z", "y", "y", "q"], "a": [2, 3, 2, 2, 9]}))
    ids = inherit_ids(old, np.array([10, 11, 12, 13], np.uint64), new, 50)
    assert ids.tolist() == [11, 13, 12, 50, 51]


def grown(seed: int = 3) -> tuple[TableContent, TableContent]:
    first = CARRIER.sample(seed, 1500)
    return first, CARRIER.inherit(first, CARRIER.grow(first, seed), 1500)


def test_same_columns_keep_every_old_slot_whose_rows_are_there() -> None:
    first, second = grown()
    old = CARRIER.slots(first, brief(slot_keys("v"), LAW), LAW)
    new = CARRIER.slots(second, brief(slot_keys("v"), LAW, frozen=old, first_new=1500), LAW)
    there = set(second.ids.tolist())
    alive = {int(a) for a, p in zip(old.address, old.place.tolist(), strict=True) if {p[1], p[2]} <= there}
    assert alive <= set(new.address.tolist())


def test_shared_rows_of_two_deliveries_differ_only_where_a_partner_is_gone() -> None:
    """One recipient holds both versions: rows whose partners are still there must read the same in both."""
    first, second = grown()
    old = CARRIER.slots(first, brief(slot_keys("v"), LAW), LAW)
    new = CARRIER.slots(second, brief(slot_keys("v"), LAW, frozen=old, first_new=1500), LAW)
    key = keys.mark_key(bytes(range(32)), "v", "acme", 1)
    copies = []
    for content, plan in ((first, old), (second, new)):
        own = symbols(key, plan.address, plan.bias, plan.channel)
        copies.append(CARRIER.mark(content, CARRIER.embed(content, plan, own)))
    whole = set(old.place[np.isin(old.address, new.address), 1:].ravel().tolist())
    broken = set(old.place[~np.isin(old.address, new.address), 1:].ravel().tolist())
    fresh = new.place[~np.isin(new.address, old.address), 1:]
    assert len(fresh) > 50
    assert (fresh >= 1500).all(), "new rows are paired among themselves"
    never = set(range(1500)) - set(old.place[:, 1:].ravel().tolist())
    stable = np.array(sorted(((whole | never) - broken) & set(second.ids.tolist())))
    assert len(stable) > 300
    rows = [positions(c.ids, stable) for c in copies]
    for name in first.canonical.names:
        a, b = (c.canonical.column(name).key[r] for c, r in zip(copies, rows, strict=True))
        assert np.array_equal(a, b), name


def test_a_new_column_that_ties_an_old_one_takes_its_slots_away() -> None:
    """Version 2 adds `gap` = planned + late: late may no longer move alone, so its group must change."""
    first, second = grown()
    old = CARRIER.slots(first, brief(slot_keys("v"), LAW), LAW)
    table = second.table.append_column("gap", pa.array(second.canonical.column("count").number * 3 + 1))
    content = TableContent(table, canonical_table(table), second.ids)
    new = CARRIER.slots(content, brief(slot_keys("v"), LAW, frozen=old, first_new=1500), LAW)
    edits = CARRIER.embed(content, new, np.ones(len(new), np.uint8))
    assert measured(CARRIER, content, new, edits).broken == ()
