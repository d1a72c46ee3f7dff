"""The carrier contract: every kind of data, present and future, passes these tests."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from dataguard import keys
from dataguard.cells import row_bytes
from dataguard.fingerprints.engines import default_engines
from dataguard.formats.edits import Moves
from dataguard.modalities.discovery import carriers
from dataguard.model import LEVELS, VOTE_LIMIT
from dataguard.slots import tally
from dataguard.stats import NullLaw
from dataguard.watermarking.accusation import coins, scores
from dataguard.watermarking.symbols import SlotKeys, brief, symbols

SECRET = keys.dataset_secret(bytes(range(32)), "contract")
SLOT_KEYS = SlotKeys(keys.address_key(SECRET), keys.pairing_key(SECRET), keys.bias_key(SECRET))
LAW = LEVELS["single"]
MARK = keys.mark_key(bytes(range(32)), "contract", "acme", 1)
OTHER = keys.mark_key(bytes(range(32)), "contract", "birch", 1)


def measured(kind, content, plan, edits):
    meter = kind.distortion(plan.legend)
    meter.add(content, edits)
    return meter.result()


@pytest.fixture(params=sorted(carriers()), scope="module")
def case(request):
    kind = carriers()[request.param]
    original = kind.sample(7, 2000)
    plan = kind.slots(original, brief(SLOT_KEYS, LAW), LAW)
    own = symbols(MARK, plan.address, plan.bias, plan.channel)
    edits = kind.embed(original, plan, own)
    return kind, original, plan, own, edits


def test_kind_is_known_by_its_name(case) -> None:
    kind = case[0]
    assert kind.kind in {"table", "series", "track", "vector", "image", "raster", "sequence", "text"}


def test_plan_has_distinct_addresses_and_levels_of_the_law(case) -> None:
    _, _, plan, _, _ = case
    assert len(plan) > 100
    assert len(np.unique(plan.address)) == len(plan)
    assert plan.address.dtype == np.uint64
    assert int(plan.level.max()) < len(plan.law.levels)
    assert plan.place.shape == (len(plan), len(plan.place_names))
    assert len(plan.channel) == 8


def test_plan_is_a_function_of_original_and_dataset_secret(case) -> None:
    kind, original, plan, _, _ = case
    again = kind.slots(original, brief(SLOT_KEYS, LAW), LAW)
    assert np.array_equal(again.address, plan.address)
    assert np.array_equal(again.place, plan.place)
    other = kind.slots(original, brief(SlotKeys(b"x" * 32, b"y" * 32, b"z" * 32), LAW), LAW)
    assert not set(other.address.tolist()) & set(plan.address.tolist())


def test_every_symbol_reads_back_from_the_marked_content(case) -> None:
    kind, original, plan, own, edits = case
    marked = kind.mark(original, edits)
    alignment = kind.align(original, marked, default_engines())
    votes = tally(plan, kind.votes(original, marked, plan, alignment))
    assert len(votes) > 0.9 * len(plan)
    assert ((votes.weight > 0) == (own[votes.slot] == 1)).mean() > 0.999


def test_votes_are_one_per_address_bounded_and_sorted(case) -> None:
    kind, original, plan, _, edits = case
    marked = kind.mark(original, edits)
    votes = tally(plan, kind.votes(original, marked, plan, kind.align(original, marked, default_engines())))
    assert (np.diff(votes.address.astype(object)) > 0).all()
    assert votes.weight.dtype == np.int16
    assert (votes.weight != 0).all()
    assert int(np.abs(votes.weight).max()) <= VOTE_LIMIT


def test_reading_the_same_unit_twice_counts_once(case) -> None:
    kind, original, plan, _, edits = case
    marked = kind.mark(original, edits)
    readings = kind.votes(original, marked, plan, kind.align(original, marked, default_engines()))
    doubled = dataclasses.replace(
        readings,
        slot=np.concatenate([readings.slot] * 2),
        unit=np.concatenate([readings.unit] * 2),
        weight=np.concatenate([readings.weight] * 2),
    )
    assert tally(plan, doubled).digest() == tally(plan, readings).digest()


def test_own_key_is_found_and_another_is_not(case) -> None:
    kind, original, plan, _, edits = case
    marked = kind.mark(original, edits)
    votes = tally(plan, kind.votes(original, marked, plan, kind.align(original, marked, default_engines())))
    total, _ = scores(votes, [MARK, OTHER], plan.channel)
    law = NullLaw(coins(votes))
    assert law.log10_p(int(total[0])) == -30.0
    # One fixed key: P(log10 p < -6) <= 1e-6 by the bound itself.
    assert law.log10_p(int(total[1])) > -6


def test_unmarked_original_votes_symbol_zero_everywhere(case) -> None:
    kind, original, plan, _, _ = case
    votes = tally(
        plan, kind.votes(original, original, plan, kind.align(original, original, default_engines()))
    )
    assert (votes.weight < 0).mean() > 0.999


def test_symbols_of_all_zero_change_nothing(case) -> None:
    kind, original, plan, _, _ = case
    edits = kind.embed(original, plan, np.zeros(len(plan), np.uint8))
    same = kind.mark(original, edits)
    assert np.array_equal(kind.leaves(same)[0], kind.leaves(original)[0])


def test_distortion_contract_holds(case) -> None:
    kind, original, plan, _, edits = case
    report = measured(kind, original, plan, edits)
    assert report.broken == ()
    assert report.cells_changed > 0
    assert all(row.exact and row.ks == 0 for row in report.rows)
    assert not any(report.violations.values())


def test_a_forbidden_edit_breaks_the_contract(case) -> None:
    kind, original, plan, _, edits = case
    part = edits[0].column
    size = kind.extent(original)[0]
    rotated = Moves(part, np.arange(size, dtype=np.int64), np.roll(np.arange(size, dtype=np.int64), 1))
    assert measured(kind, original, plan, [rotated]).broken


def test_leaves_open_to_the_same_bytes(case) -> None:
    kind, original, _, _, _ = case
    data, offsets = kind.leaves(original)
    ids = kind.ids(original)
    at = [0, 5, len(ids) - 1]
    for i, cells in zip(at, kind.open_units(original, at), strict=True):
        assert data[offsets[i] : offsets[i + 1]].tobytes() == row_bytes(int(ids[i]), cells)


def test_addresses_stay_put_when_units_come_and_go(case) -> None:
    """The next version drops some units and gains others: old slots keep address, place and level."""
    kind, original, plan, _, _ = case
    later = kind.grow(original, 7)
    inherited = kind.inherit(original, later, next_id=2000)
    ids = set(kind.ids(inherited).tolist())
    assert 0 < len(ids & set(range(2000))) < 2000
    assert max(ids) >= 2000
    new = kind.slots(inherited, brief(SLOT_KEYS, LAW, frozen=plan, first_new=2000), LAW)
    alive = [i for i in range(len(plan)) if {int(v) for v in plan.place[i, 1:]} <= ids]
    assert set(plan.address[alive].tolist()) <= set(new.address.tolist())
    assert len(new) > len(alive)
    fresh = new.place[~np.isin(new.address, plan.address), 1:]
    assert (fresh >= 2000).all(), "only new units are paired anew"
    where = {int(a): i for i, a in enumerate(new.address)}
    for i in alive[:200]:
        assert new.place[where[int(plan.address[i])]].tolist() == plan.place[i].tolist()


def test_exhibit_recomputes_the_votes_by_its_published_rule(case) -> None:
    """Openings alone, with the opened units, give the same votes; nothing else is opened."""
    kind, original, plan, _, edits = case
    marked = kind.mark(original, edits)
    alignment = kind.align(original, marked, default_engines())
    votes = tally(plan, kind.votes(original, marked, plan, alignment))
    exhibit = kind.exhibit(original, marked, plan, alignment, votes)
    assert {o.slot for o in exhibit.openings} == set(votes.slot.tolist())
    ids = kind.ids(original).tolist()
    names = kind.extent(original)[1]
    opened = dict(
        zip(exhibit.units, kind.open_units(original, [ids.index(u) for u in exhibit.units]), strict=True)
    )
    total: dict[int, int] = {}
    for o in exhibit.openings:
        low, high = (int(v) for v in plan.place[o.slot, 1:])
        partner = high if o.own == low else low
        zero, one = (opened[u][names.index(o.source_part)] for u in (o.own, partner))
        total[o.slot] = total.get(o.slot, 0) + VOTE_LIMIT * ((o.observed == one) - (o.observed == zero))
    clipped = {s: max(-VOTE_LIMIT, min(VOTE_LIMIT, w)) for s, w in total.items() if w}
    assert clipped == dict(zip(votes.slot.tolist(), votes.weight.tolist(), strict=True))
