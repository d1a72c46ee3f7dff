"""Decomposition: hand truths, the same result in any order of parts, shares that add up."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest

from dataguard.fingerprints.comparison.decomposition import Decomposition, Part, PartName, decompose


def part(name: str, version: int, rows: range | list[int], exact: int = 5, **more: int) -> Part:
    at = np.array(list(rows), np.int64)
    return Part(
        name, version, at, np.full(len(at), exact), more.get("original_rows", 100), more.get("least", 1)
    )


def taken(found: Decomposition) -> list[tuple[str, int, int, int, int]]:
    return [(p.name, p.version, p.rows, p.added, p.unique) for p in found.parts]


def test_two_datasets_and_rows_of_neither() -> None:
    found = decompose([part("a", 1, range(30)), part("b", 1, range(25, 70))], 100)
    assert taken(found) == [("b", 1, 45, 45, 40), ("a", 1, 30, 25, 25)]
    assert (found.unexplained, found.unexplained_share) == (30, 0.3)
    assert found.parts[1].shared_with == (PartName("b", 1, 5),)
    assert [p.share for p in found.parts] == [0.45, 0.3]
    assert [p.added_share for p in found.parts] == [0.45, 0.25]
    assert [p.of_original for p in found.parts] == [0.45, 0.3]


def test_versions_of_one_lineage_share_rows() -> None:
    # v2 keeps 0-79 of v1 and adds 80-99; the suspect is all of v2 and ten rows that only v1 had.
    v1, v2 = part("a", 1, [*range(80), *range(100, 110)]), part("a", 2, range(100))
    found = decompose([v1, v2], 110)
    assert taken(found) == [("a", 2, 100, 100, 20), ("a", 1, 90, 10, 10)]
    assert found.parts[0].shared_with == (PartName("a", 1, 80),)
    assert found.unexplained == 0


def test_a_version_that_adds_too_little_is_listed_as_covered() -> None:
    found = decompose([part("a", 1, range(52)), part("a", 2, range(50, 150))], 150, minimum=60)
    assert taken(found) == [("a", 2, 100, 100, 98)]
    assert found.covered == (PartName("a", 1, 50),)
    assert found.unexplained == 50
    own = decompose([part("a", 1, range(52), least=51), part("a", 2, range(50, 150))], 150)
    assert own.covered == (PartName("a", 1, 50),)


def test_equal_counts_go_to_more_equal_cells_then_to_the_newer_version() -> None:
    better = decompose([part("a", 1, range(10), exact=7), part("a", 2, range(10), exact=6)], 10)
    assert taken(better) == [("a", 1, 10, 10, 0)]
    newer = decompose([part("a", 1, range(10)), part("a", 2, range(10))], 10)
    assert taken(newer) == [("a", 2, 10, 10, 0)]
    assert newer.covered == (PartName("a", 1, 0),)
    by_name = decompose([part("b", 1, range(10)), part("a", 1, range(10))], 10)
    assert taken(by_name)[0][0] == "a"


def test_only_rows_still_open_count_for_equal_cells() -> None:
    first = part("x", 1, [*range(20), 30])
    # Both add ten rows; b agrees better on rows that x has explained already.
    a, b = part("a", 1, range(20, 30), exact=4), part("b", 1, range(10, 30))
    b = Part("b", 1, b.rows, np.where(b.rows < 20, 9, 3), 100)
    assert [p.name for p in decompose([first, a, b], 31).parts] == ["x", "a"]


@pytest.mark.parametrize("seed", range(6))
def test_any_order_of_parts_gives_the_same_and_shares_add_up(seed: int) -> None:
    rng = np.random.default_rng(seed)
    parts = []
    for i in range(5):
        rows = np.flatnonzero(rng.random(60) < rng.choice([0.1, 0.3, 0.6]))
        parts.append(
            Part("ab"[i % 2], i // 2, rows, rng.integers(0, 3, len(rows)), 60, int(rng.integers(1, 4)))
        )
    results = [decompose(order, 60, 2) for order in itertools.permutations(parts)]
    assert all(r == results[0] for r in results)
    one = results[0]
    assert sum(p.added for p in one.parts) + one.unexplained == 60
    assert sum(p.added_share for p in one.parts) + one.unexplained_share == pytest.approx(1)
    # The slow twin: what is left after each turn, recounted.
    left = set(range(60))
    by_name = {(p.name, p.version): p for p in parts}
    for share in one.parts:
        own = by_name.pop((share.name, share.version))
        adds = {k: len(left & set(p.rows.tolist())) for k, p in by_name.items()}
        gain = len(left & set(own.rows.tolist()))
        assert share.added == gain
        assert all(n <= gain or n < by_name[k].least for k, n in adds.items())
        left -= set(own.rows.tolist())
    assert all(len(left & set(p.rows.tolist())) < max(2, p.least) for p in by_name.values())


def test_nothing_and_json() -> None:
    empty = decompose([], 0)
    assert (empty.parts, empty.unexplained, empty.unexplained_share) == ((), 0, 0.0)
    assert taken(decompose([part("a", 1, [])], 5)) == []
    shown = decompose([part("a", 1, range(3)), part("b", 1, range(2, 5))], 6).to_dict()
    assert json.loads(json.dumps(shown))["parts"][0]["shared_with"] == [
        {"name": "b", "version": 1, "rows": 1}
    ]
