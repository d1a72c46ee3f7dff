"""Contents joined, ties matched in order, profiles seen through maps, rows held out: against slow twins.

Error budget: one statistical test (half of the rows are held out), at an exact binomial quantile of 1e-6 on each
side; the seeds are fixed, so that a run is deterministic.
"""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dataguard.carrier import ColumnMatch
from dataguard.fingerprints.alignment import _kernels as kernels
from dataguard.fingerprints.alignment.contents import Contents, assign_in_order, join_contents
from dataguard.fingerprints.alignment.profiles import ColumnProfile, profile_column, seen_through
from dataguard.fingerprints.alignment.sides import Sides, held_out, make_sides
from dataguard.maps import Recoding, ValueMap
from dataguard.values import Canonical, canonical_column, canonical_table

UNSEEN = int(kernels.UNSEEN)


def sides_of(original: dict[str, list[object]], suspect: dict[str, list[object]]) -> Sides:
    a, b = canonical_table(pa.table(original)), canonical_table(pa.table(suspect))
    columns = [ColumnMatch(i, i, "name", 1.0) for i in range(len(a.columns))]
    return make_sides([profile_column(c) for c in a.columns], b, columns)


def drawn(rng: np.random.Generator, rows: int, values: int) -> dict[str, list[object]]:
    """Three columns of few values, gaps among them."""
    words = [None if i == 0 else f"w{i}" for i in range(values)]
    return {
        "a": [words[i] for i in rng.integers(0, values, rows)],
        "b": [None if x < 1 else float(x) for x in rng.integers(0, values, rows)],
        "c": rng.integers(0, 2, rows).tolist(),
    }


# --- contents ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(8))
def test_joined_contents_equal_a_dictionary(seed: int) -> None:
    rng = np.random.default_rng(seed)
    original, suspect = drawn(rng, 200, 6), drawn(rng, 150, 8)  # w6, w7, 6, 7 are not in the original
    contents = join_contents(sides_of(original, suspect))
    twin: dict[tuple[object, ...], list[int]] = defaultdict(list)
    for row, cells in enumerate(zip(*original.values(), strict=True)):
        twin[cells].append(row)
    expected = [twin.get(cells, []) for cells in zip(*suspect.values(), strict=True)]
    assert contents.count.tolist() == [len(rows) for rows in expected]
    assert contents.first.tolist() == [rows[0] if rows else -1 for rows in expected]
    for group, rows in zip(contents.group.tolist(), expected, strict=True):
        if group >= 0:
            assert contents.members[contents.start[group] : contents.start[group + 1]].tolist() == rows
    assert sorted(contents.members.tolist()) == list(range(200))
    assert len(contents.start) == len(twin) + 1
    assert 0 < sum(map(bool, expected)) < 150


@pytest.mark.parametrize(("n", "m"), [(0, 0), (0, 3), (3, 0), (1, 1)])
def test_empty_sides_have_no_contents(n: int, m: int) -> None:
    contents = join_contents(sides_of({"a": [1] * n}, {"a": [1] * m}))
    assert contents.count.tolist() == [n] * m
    assert contents.first.tolist() == [0 if n else -1] * m


def test_content_hashes_equal_their_twin() -> None:
    rng = np.random.default_rng(3)
    ids = rng.integers(0, 3, (4, 300)).astype(np.uint32)
    ids[2, rng.random(300) < 0.2] = kernels.UNSEEN
    hashes, known = np.empty(300, np.uint64), np.empty(300, np.bool_)
    kernels.content_hashes(ids, hashes, known)
    step, mask = 0x9E3779B97F4A7C15, 2**64 - 1
    seen: dict[tuple[int, ...], int] = {}
    for row in range(300):
        cells = tuple(ids[:, row].tolist())
        h = step
        for cell in cells:
            h = ((h ^ cell) * step) & mask
            h ^= h >> 32
        assert int(hashes[row]) == h == seen.setdefault(cells, h)
        assert bool(known[row]) == (UNSEEN not in cells)
    assert len(set(seen.values())) == len(seen) > 50


# --- ties --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(20))
def test_assigned_ties_equal_their_twin(seed: int) -> None:
    rng = np.random.default_rng(seed)
    of_row = rng.integers(0, 6, 60)
    members = np.argsort(of_row, kind="stable").astype(np.int64)
    start = np.concatenate([[0], np.cumsum(np.bincount(of_row, minlength=6))]).astype(np.int64)
    group = np.sort(rng.integers(0, 6, 50)).astype(np.int64)
    least = rng.integers(-1, 70, 50).astype(np.int64)
    used = rng.random(60) < 0.2
    out, taken = np.empty(50, np.int64), used.copy()
    kernels.assign_ties(group, least, start, members, taken, out)
    free = set(np.flatnonzero(~used).tolist())
    last = dict.fromkeys(range(6), -1)
    for i, g in enumerate(group.tolist()):
        rows = [r for r in free if of_row[r] == g and r > last[g] and r >= least[i]]
        expected = min(rows, default=-1)
        last[g] = expected if rows else 60  # a row that found none leaves nothing for those behind it
        free -= {expected}
        assert out[i] == expected
    assert np.flatnonzero(~taken).tolist() == sorted(free)


def tied(original: str, suspect: str) -> tuple[Contents, np.ndarray]:
    """Contents of rows that are letters, and which suspect rows have several original rows."""
    contents = join_contents(sides_of({"a": list(original)}, {"a": list(suspect)}))
    return contents, np.flatnonzero(contents.count > 1)


NONE = np.empty(0, np.int64)


def test_ties_are_one_to_one_and_surplus_rows_get_none() -> None:
    contents, rows = tied("ttxuu", "tuttu")
    assert assign_in_order(contents, rows, NONE, NONE).tolist() == [0, 3, 1, -1, 4]


def test_rows_that_are_taken_are_not_given_again() -> None:
    contents, rows = tied("ttt", "ttt")
    given = assign_in_order(contents, rows[1:], np.array([0]), np.array([1]))
    assert given.tolist() == [0, 2]


def test_where_order_was_kept_a_tied_row_goes_behind_the_one_before() -> None:
    contents, rows = tied("atbtct", "atct")
    matched = np.array([0, 2]), np.array([0, 4])
    assert assign_in_order(contents, rows, *matched).tolist() == [1, 5]
    # Another order says nothing: first come, first served.
    contents, rows = tied("atbtct", "ctat")
    assert assign_in_order(contents, rows, np.array([0, 2]), np.array([4, 0])).tolist() == [1, 3]


def test_a_tied_row_with_none_left_behind_takes_one_from_before() -> None:
    contents, rows = tied("tatbc", "abctt")
    matched = np.array([0, 1, 2]), np.array([1, 3, 4])
    assert assign_in_order(contents, rows, *matched).tolist() == [0, 2]


@pytest.mark.parametrize("seed", range(6))
def test_as_many_ties_are_matched_as_can_be(seed: int) -> None:
    """Nothing is left over on both sides of a content, none is used twice, contents agree."""
    rng = np.random.default_rng(seed)
    original = "".join(rng.choice(list("abcdefgh"), 60)) + "xyz"
    suspect = "".join(rng.choice(list("abcdefgh"), 50)) + "xyz"
    contents, rows = tied(original, suspect)
    single = np.flatnonzero(contents.count == 1)
    given = assign_in_order(contents, rows, single, contents.first[single])
    found = given[given >= 0]
    assert len(set(found.tolist())) == len(found)
    assert [original[o] for o in found] == [suspect[s] for s in rows[given >= 0]]
    for letter in "abcdefgh":
        both = original.count(letter), suspect.count(letter)
        assert sum(original[o] == letter for o in found) == (min(both) if both[0] > 1 else 0)


# --- profiles seen through maps ------------------------------------------------------------------------


def column(*values: object) -> Canonical:
    return canonical_column(pa.array(list(values)))


def profile(*values: object) -> ColumnProfile:
    return profile_column(column(*values))


def test_a_plain_map_changes_nothing() -> None:
    seen = profile(1, 2, 2)
    assert seen_through(seen, None) is seen
    assert seen_through(seen, ValueMap()) is seen


def test_an_affine_map_keeps_ids_and_finds_converted_cells() -> None:
    inches = profile(1, 2, 2, None, 7)
    cm = seen_through(inches, ValueMap("", 2.54, 1.0))
    assert cm.mapped
    assert cm.ids.tolist() == inches.ids.tolist() == [0, 1, 1, 2, 3]
    assert cm.counts.tolist() == [1, 2, 1, 1]
    assert cm.numbers[[0, 1, 3]].tolist() == pytest.approx([3.54, 6.08, 18.78])
    assert np.isnan(cm.numbers[2])
    shown = cm.find_cells(column(6.08, 3.54, None, 2.0, 18.78, 18.79))
    assert shown.tolist() == [1, 0, 2, UNSEEN, 3, UNSEEN]


def test_missing_cells_are_seen_only_where_the_original_has_some() -> None:
    seen = seen_through(profile(1, 2), ValueMap("", 2.0))
    assert seen.find_cells(column(None, 2.0)).tolist() == [UNSEEN, 0]


@pytest.mark.parametrize("seed", range(4))
def test_rounding_merges_ids_and_adds_counts(seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = [None if x < -1.5 else float(x) for x in np.round(rng.normal(0, 1, 400), 2)]
    through = ValueMap(step=0.5, rule=("nearest", "floor", "half-away", "ceil")[seed])
    before = profile(*values)
    seen = seen_through(before, through)
    shown = [None if v is None else float(through.apply(np.array([v]))[0]) for v in values]
    twin: dict[float | None, int] = {}
    assert seen.ids.tolist() == [twin.setdefault(v, len(twin)) for v in shown]
    assert seen.counts.tolist() == [shown.count(v) for v in twin]
    assert seen.rows == sum(seen.counts) == 400
    assert len(seen.values) < len(before.values)
    assert seen.find_cells(canonical_column(pa.array(list(twin)))).tolist() == list(range(len(twin)))


def test_noise_alone_makes_near_of_equal() -> None:
    seen = seen_through(profile(1, 2, 30, 40), ValueMap(noise=0.5))
    assert seen.tau == 2.0  # four standard deviations
    assert seen.numbers.tolist() == [1, 2, 30, 40]


def test_recoded_values_are_found_and_the_unknown_are_not() -> None:
    original = column("red", "green", None, "blue", "grey")
    suspect = column("r", "g", None, "b", "grey", "red")
    key, target = original.key, suspect.key
    order = np.argsort(key[[0, 1, 3]])
    through = Recoding(key[[0, 1, 3]][order], target[[0, 1, 3]][order])
    seen = seen_through(profile_column(original), through)
    # "grey" is not in the map: what it became is not known, so that no cell is equal to it.
    assert seen.find_cells(suspect).tolist() == [0, 1, 2, 3, UNSEEN, UNSEEN]
    assert np.isnan(seen.numbers).all()
    assert seen.tau == -1


def test_values_recoded_into_one_share_an_id() -> None:
    original, suspect = column("cat", "dog", "oak", "cat"), column("animal", "plant")
    of = dict(zip(original.key.tolist(), suspect.key[[0, 0, 1, 0]].tolist(), strict=True))
    source = np.array(sorted(of), np.uint64)
    seen = seen_through(
        profile_column(original), Recoding(source, np.array([of[int(k)] for k in source], np.uint64))
    )
    assert seen.ids.tolist() == [0, 0, 1, 0]
    assert seen.counts.tolist() == [3, 1]
    assert seen.find_cells(suspect).tolist() == [0, 1]


def test_numbers_equal_but_for_arithmetic_are_found_and_no_others() -> None:
    seconds = np.arange(1.0, 500.0)
    seen = seen_through(profile(*seconds), ValueMap("", 1 / 60, 0.0))
    shown = column(*(seconds / 60))  # x / 60 is not x * (1 / 60) in the last bit of many
    assert (shown.number != seen.numbers).any()
    assert seen.find_cells(shown).tolist() == list(range(499))
    apart = column(*(seconds / 60 * (1 + 1e-8)))  # ten times the slack
    assert (seen.find_cells(apart) == UNSEEN).all()


def test_texts_among_numbers_stay_what_they_are() -> None:
    seen = seen_through(profile("1", "closed", "3", "closed"), ValueMap("", 10.0))
    assert seen.find_cells(column("closed", "30", "10", "open", "1")).tolist() == [1, 2, 0, UNSEEN, UNSEEN]
    assert seen.counts.tolist() == [1, 2, 1]


def test_a_number_that_the_function_is_not_defined_for_is_no_suspect_cell() -> None:
    seen = seen_through(profile(0, 1, 10), ValueMap("log10"))
    assert seen.find_cells(column(0.0, 1.0, -5.0)).tolist() == [1, 2, UNSEEN]


def test_infinite_cells_equal_no_number() -> None:
    seen = seen_through(profile(1, 2, 7), ValueMap("", 2.54))
    assert seen.find_cells(column(float("inf"), float("-inf"))).tolist() == [UNSEEN, UNSEEN]


# --- rows held out -------------------------------------------------------------------------------------


def numbered(rows: int, seed: int) -> pa.Table:
    rng = np.random.default_rng(seed)
    return pa.table({"id": rng.permutation(10**6)[:rows], "x": rng.normal(size=rows)})


def test_no_rows_of_a_small_table_are_held_out() -> None:
    assert not held_out(canonical_table(numbered(1023, 0))).any()
    assert held_out(canonical_table(numbered(1024, 0))).any()


@pytest.mark.parametrize("rows", [1024, 5000, 40_000])
def test_about_half_of_the_rows_are_held_out(rows: int) -> None:
    from scipy.stats import binom

    count = int(held_out(canonical_table(numbered(rows, rows))).sum())
    assert binom.ppf(1e-6, rows, 0.5) <= count <= binom.ppf(1 - 1e-6, rows, 0.5)


def test_the_same_rows_are_held_out_in_any_order() -> None:
    table = numbered(3000, 4)
    order = np.random.default_rng(5).permutation(3000)
    kept = held_out(canonical_table(table))
    assert held_out(canonical_table(table.take(pa.array(order)))).tolist() == kept[order].tolist()


def test_equal_rows_are_on_one_side(flights_january) -> None:
    table = pq.read_table(flights_january).select(["carrier", "origin", "dest"]).slice(0, 4000)
    kept = held_out(canonical_table(table)).tolist()
    side = dict(zip(map(str, table.to_pylist()), kept, strict=True))
    assert [side[str(row)] for row in table.to_pylist()] == kept
    assert 1 < len(side) < 4000
    assert len(set(kept)) == 2
