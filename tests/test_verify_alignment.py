"""The pairs of aligned rows: all opened, as logged, each once, and alike; what they cannot show is said."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import pytest

from dataguard.cells import canonical_cell
from dataguard.evidence.alignment import alignment_digest
from dataguard.evidence.bundle import compose
from dataguard.evidence.case import Case
from test_evidence_world import SIGNER, World, check, failures


def named(case: Case, **changes) -> Case:
    return replace(case, named=replace(case.named, **changes))


def first(case: Case) -> str:
    found = failures(check(compose(case, SIGNER)))
    return f"{found[0][0]}: {found[0][1]}"


def test_the_digest_is_that_of_the_formula() -> None:
    world = World()
    assert alignment_digest(tuple(world.aligned.items())) == world.alignment_digest()
    assert alignment_digest(((1, 5),)) != alignment_digest(((5, 1),))


def test_every_voting_row_is_opened_silent_ones_included() -> None:
    case = World().case()
    read = {r.suspect_row for r in case.named.readings}
    paired = {row for row, _ in case.named.pairs}
    assert read < paired, "the world has silent rows"
    assert {leaf.index for leaf in case.named.suspect_rows.leaves} == paired
    assert check(compose(case, SIGNER)).trusted


def exchanged(a: tuple[int, int], b: tuple[int, int], *rest: tuple[int, int]) -> tuple[tuple[int, int], ...]:
    return ((a[0], b[1]), (b[0], a[1]), *rest)


FORGERIES: dict[str, tuple[Callable[[World, Case], Case], str]] = {
    "a pair dropped": (lambda w, c: named(c, pairs=c.named.pairs[:-1]), "10: alignment: 127 pairs, but 128"),
    "a suspect row twice": (lambda w, c: named(c, pairs=(c.named.pairs[0], *c.named.pairs)), "10: alignment: a"),
    "pairs out of order": (lambda w, c: named(c, pairs=c.named.pairs[::-1]), "10: alignment: a suspect row"),
    "a suspect row closed": (
        lambda w, c: named(c, suspect_rows=w.opened("suspect", list(w.aligned)[1:])),
        "10: alignment: the opened suspect rows are not those",
    ),
    "a suspect row more": (
        lambda w, c: named(c, suspect_rows=w.opened("suspect", range(len(w.suspect)))),
        "10: alignment: the opened suspect rows are not those",
    ),
    "an original row closed": (
        lambda w, c: named(c, rows=replace(c.named.rows, leaves=c.named.rows.leaves[1:])), "8:"
    ),
    "two original rows exchanged": (
        lambda w, c: named(c, pairs=exchanged(*c.named.pairs)),
        "10: alignment: the pairs are not those logged",
    ),
    "other digest stated": (
        lambda w, c: replace(c, trace={**c.trace, "alignment_digest": "1" * 64}), "6: ledger entry 10"
    ),
    "fewer voting rows stated": (lambda w, c: replace(c, trace={**c.trace, "voting_rows": 100}), "6: ledger entry 10"),
    "more rows allowed": (lambda w, c: replace(c, trace={**c.trace, "max_rows": 9999}), "6: ledger entry 10"),
    "more rows examined": (lambda w, c: replace(c, trace={**c.trace, "examined_rows": 132}), "6: ledger entry 10"),
    "more suspect rows": (lambda w, c: replace(c, trace={**c.trace, "suspect_rows": 134}), "6: ledger entry 10"),
    "a map of unknown columns": (
        lambda w, c: replace(
            c, comparison={**c.comparison, "columns": [{**c.comparison["columns"][0], "suspect": "nowhere"}]}
        ),
        "10: alignment: the column map names an unknown column",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FORGERIES)
def test_forged_pairs_are_found(name: str) -> None:
    world = World()
    forge, expected = FORGERIES[name]
    assert first(forge(world, world.case())).startswith(expected)


def test_an_original_row_of_a_silent_pair_must_be_opened() -> None:
    world = World()
    case = world.case()
    ends = {row_id for slot in world.votes() for row_id in world.places[slot][1:]}
    rows = world.opened("rows", [world.ids.index(u) for u in ends])
    assert set(world.aligned.values()) - ends
    assert first(named(case, rows=rows)).startswith("10: alignment: an aligned original row is not opened")


def test_more_pairs_than_the_run_allows() -> None:
    world = World(max_rows=127)
    assert first(world.case()).startswith("10: alignment: 128 pairs, but 128 of at most 127")


@pytest.mark.parametrize("name", ["aligned_rows", "examined_rows"])
def test_numbers_of_rows_that_do_not_fit(name: str) -> None:
    world = World()
    counts = world.counts()
    world.counts = lambda: counts | {name: 5}
    assert "numbers of rows do not fit" in first(world.case())


def test_the_size_of_the_suspect_is_that_of_the_run() -> None:
    world = World()
    counts = world.counts()
    world.counts = lambda: counts | {"suspect_rows": len(world.suspect) + 1}
    assert first(world.case()).startswith("6: ledger entry 10")


def test_a_reading_against_a_row_of_no_pair() -> None:
    """The reading says the other end of the pair; the row is aligned elsewhere."""
    world = World()
    case = world.case()
    reading = case.named.readings[0]
    low, high = next(p[1:] for a, p in zip(world.address, world.places, strict=True) if a == reading.address)
    forged = replace(reading, own=high if reading.own == low else low)
    found = first(named(case, readings=(forged, *case.named.readings[1:])))
    assert found.startswith("11:")
    assert "not aligned to" in found


def test_a_suspect_row_left_out_of_all_readings_is_found() -> None:
    """Its pair is bound by the logged digest, so the row cannot be passed off as unaligned."""
    world = World()
    full = world.readings()
    # Slots read through two rows: without one of them the other still votes.
    rows: dict[int, set[int]] = {}
    for slot, reading, _ in full:
        rows.setdefault(slot, set()).add(reading.suspect_row)
    shared = {slot for slot, seen in rows.items() if len(seen) == 2}
    chosen = next(r.suspect_row for slot, r, _ in full if slot in shared)
    world.readings = lambda: [x for x in full if x[1].suspect_row != chosen]
    assert first(world.case()).startswith(f"11: a reading of suspect row {chosen} is left out")


# --- likeness --------------------------------------------------------------------------------------


def unlike(count: int) -> World:
    """Replace the cells of some aligned suspect rows by others."""
    world = World()
    for row in list(world.aligned)[:count]:
        world.suspect[row] = tuple(canonical_cell(f"other {row} {i}") for i in range(5))
    return world


def test_rows_that_have_nothing_in_common_are_counted_and_limited() -> None:
    found = check(compose(unlike(6).case(), SIGNER))
    assert found.trusted
    assert "6 of 128 pairs agree in no column" in found.steps[9].detail
    assert first(unlike(7).case()).startswith(
        "10: alignment: aligned rows do not resemble each other: 7 of 128"
    )


def test_without_a_column_map_nothing_resembles() -> None:
    case = World().case()
    case = replace(case, comparison={**case.comparison, "columns": []})
    assert first(case).startswith("10: alignment: aligned rows do not resemble")


# --- what it cannot show ---------------------------------------------------------------------------


def test_page_and_notes_say_that_the_choice_of_rows_is_not_shown() -> None:
    files = compose(World().case(), SIGNER)
    notes = " ".join(check(files).notes)
    assert "cannot show that it was done without the key" in notes
    standing = json.loads(files["report.json"])["prose"]["standing_limits"]
    assert any("cannot be shown that it was done without the key" in pair["en"] for pair in standing)
    assert any("本資料だけから示すことはできない" in pair["ja"] for pair in standing)
    plain = compose(World().case("no-mark"), SIGNER)
    assert "without the key" not in " ".join(check(plain).notes)
    assert "within the opened rows and slots" in check(files).steps[10].detail
