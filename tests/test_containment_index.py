"""The inverted index against Python sets: kernels beside plain twins, counts exact in both directions."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from dataguard.errors import UsageError
from dataguard.fingerprints.index.containment import ContainmentIndex, Overlaps
from dataguard.fingerprints.index.postings import _kernels as kernels

MASK = (1 << 64) - 1
EVERY = np.uint64(MASK)


def flat(sets: list[list[int]]) -> tuple[np.ndarray, np.ndarray]:
    offsets = np.concatenate([[0], np.cumsum([len(s) for s in sets], dtype=np.int64)])
    return np.array([h for s in sets for h in s], np.uint64), offsets


def world(count: int, seed: int = 1) -> list[list[int]]:
    """Sets with common parts, some frequent elements, some elements twice, in any order; hashes of no quality."""
    rng = np.random.default_rng(seed)
    sets: list[list[int]] = []
    for i in range(count):
        size = int(10 ** rng.uniform(0, 2.5))
        own = (
            rng.integers(0, 5000, size).tolist()
            if i % 3
            else rng.integers(0, 1 << 64, size, dtype=np.uint64).tolist()
        )
        if sets and i % 4 == 0:
            other = sets[int(rng.integers(0, len(sets)))]
            own += rng.permutation(np.array(other, np.uint64))[: int(len(other) * rng.random())].tolist()
        sets.append([int(h) for h in (*own, 7, 0)[: int(rng.integers(size, size + 3))]])
    sets[count // 2] = []
    return sets


def brute(
    sets: dict[int, list[int]], queries: list[list[int]], threshold: float, direction: str, scale: int = 1
) -> list[list[tuple[int, int]]]:
    kept = {i: {h for h in s if h * scale < 1 << 64} for i, s in sets.items()}
    found = []
    for query in queries:
        own = {h for h in query if h * scale < 1 << 64}
        hits = []
        for i, held in kept.items():
            both = len(own & held)
            ways = {"query": both >= threshold * len(own), "set": both >= threshold * len(held)}
            if both and (any(ways.values()) if direction == "either" else ways[direction]):
                hits.append((i, both))
        found.append(sorted(hits))
    return found


def listed(overlaps: Overlaps) -> list[list[tuple[int, int]]]:
    return [[(int(i), int(n)) for i, n in zip(*overlaps[q], strict=True)] for q in range(len(overlaps))]


# --- kernels beside their twins -------------------------------------------------------------------------


def mixed(h: int) -> int:
    """Section "Index" of docs/formats.md."""
    h = (h ^ h >> 32) * 0x9FB21C651E98DF25 & MASK
    h = (h ^ h >> 32) * 0xD6E8FEB86659FD93 & MASK
    return h ^ h >> 32


@pytest.mark.parametrize("frequent", [0, 300])
def test_postings(frequent: int) -> None:
    sets = world(120, seed=5)
    for i in range(frequent):  # a bucket with two long lists, one behind the other in every set
        sets.append([11, 11 + 2**60, i])
    hashes, offsets = flat(sets)
    split, bits = 3, 9
    counts = np.zeros(9, np.int64)
    kernels.count_keys(hashes, EVERY, split, counts)
    twin = [mixed(h) >> 61 for h in hashes.tolist()]
    assert counts.tolist() == [0] + [twin.count(p) for p in range(8)]
    cuts = np.cumsum(counts)
    keys, owners = np.zeros(len(hashes), np.uint64), np.zeros(len(hashes), np.uint32)
    kernels.place_keys(hashes, offsets, EVERY, 0, split, np.concatenate([[0], cuts[:-1]]), keys, owners)
    pairs = [(mixed(h), i) for i, s in enumerate(sets) for h in s]
    assert list(zip(keys.tolist(), owners.tolist(), strict=True)) == sorted(pairs, key=lambda p: p[0] >> 61)

    starts, words = np.zeros(513, np.uint32), np.zeros(len(hashes) + 8, np.uint64)
    assert kernels.fill_postings(keys, owners, cuts, split, bits, starts, words)
    count = kernels.drop_repeats(starts, words)
    distinct = sorted(set(pairs))
    assert words[:count].tolist() == [(k << bits & MASK) | i for k, i in distinct]
    assert starts.tolist() == [sum(k >> 55 < b for k, _ in distinct) for b in range(513)]
    assert not kernels.fill_postings(
        np.array([k for k, _ in distinct], np.uint64), np.array([i for _, i in distinct], np.uint32),
        np.array([0, sum(k < 1 << 63 for k, _ in distinct), count]), 1, bits, starts, words,
    )  # fmt: skip

    sizes = np.zeros(len(sets), np.uint32)
    assert kernels.count_sizes(words[:count], bits, sizes)
    assert sizes.tolist() == [len(set(s)) for s in sets]
    assert not kernels.count_sizes(words[:count], bits, np.zeros(5, np.uint32))
    own = np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.int64)
    ends, restored = own.copy(), np.zeros(count, np.uint64)
    ends[4] = -1
    assert kernels.restore_sets(starts, words[:count], bits, ends, restored)
    for i, s in enumerate(sets):
        expected = set() if i == 4 else set(s)
        assert set(restored[own[i] : own[i] + sizes[i]].tolist()) == (
            expected or ({0} if sizes[i] else set())
        )
    for wrong in ((starts, words[: count - 1], ends.copy()), (starts, words[:count], np.zeros(3, np.int64))):
        assert not kernels.restore_sets(wrong[0], wrong[1], bits, wrong[2], restored)


def test_distinct_keys() -> None:
    queries = [[5, 5, 3, 0, 0, 9], [1, 2, 3], [], [0], [1 << 62, 4, 4]]
    hashes, offsets = flat(queries)
    keys, ends = np.zeros(len(hashes) + 1, np.uint64), np.zeros(6, np.int64)
    kernels.distinct_keys(hashes, offsets, np.uint64(1 << 61), np.zeros(16, np.uint64), keys, ends)
    for i, query in enumerate(queries):
        kept = dict.fromkeys(h for h in query if h <= 1 << 61)
        assert keys[ends[i] : ends[i + 1]].tolist() == [mixed(h) for h in kept]


# --- the index beside brute force -----------------------------------------------------------------------


@pytest.mark.parametrize("place", ["memory", "disk"])
@pytest.mark.parametrize("scale", [1, 3])
def test_queries(place: str, scale: int, tmp_path: Path) -> None:
    sets = world(300)
    queries = world(40, seed=9) + sets[:30] + [sorted(set(s)) for s in sets[30:60]]
    path = tmp_path / "i" if place == "disk" else None
    index = ContainmentIndex.build(*flat(sets), scale=scale, path=path)
    for threshold in (0.001, 0.5, 1.0):
        for direction in ("query", "set", "either"):
            got = index.query(*flat(queries), threshold, direction=direction)
            assert listed(got) == brute(dict(enumerate(sets)), queries, threshold, direction, scale)
    got = index.query(*flat(queries), 0.3)
    sampled = [{h for h in s if h * scale < 1 << 64} for s in sets]
    assert got.set_sizes.tolist() == [len(sampled[i]) for i in got.ids.tolist()]
    assert got.query_sizes.tolist() == [len({h for h in q if h * scale < 1 << 64}) for q in queries]
    owner = np.repeat(np.arange(len(queries)), np.diff(got.offsets))
    assert np.allclose(got.query_shares, got.shared / got.query_sizes[owner])
    assert np.allclose(got.set_shares, got.shared / got.set_sizes)
    low, high = got.query_limits()
    if scale == 1:
        assert (low == got.query_shares).all()
        assert (high == got.query_shares).all()
    else:
        assert ((low <= got.query_shares) & (got.query_shares <= high) & (low < high)).all()
    low, high = got.set_limits(0.5)
    assert ((low <= got.set_shares) & (got.set_shares <= high)).all()


def test_a_frequent_element_fills_the_room() -> None:
    """More sets share an element with each query than are taken up at a time."""
    sets = [[1, i + 10] for i in range(70_000)]
    index = ContainmentIndex.build(*flat(sets))
    got = index.query(*flat([[1], [1, 10], [5], [1, 2, 3]]), 0.5)
    assert [len(got[q][0]) for q in range(4)] == [70_000, 70_000, 0, 70_000]
    assert got[1][1].tolist() == [2] + [1] * 69_999
    assert (got[3][0] == np.arange(70_000)).all()


def test_a_life(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    pool, queries = world(1200, seed=4), world(40, seed=6)
    alive = dict(enumerate(pool[:200]))
    disk = ContainmentIndex.build(*flat(pool[:200]), path=tmp_path / "i")
    memory = ContainmentIndex.build(*flat(pool[:200]))
    at = 200
    for step in range(25):
        what = rng.integers(0, 5)
        if what <= 1:
            size = int(rng.integers(1, 60))
            ids = None if what else rng.permutation(size) + 10_000 * (step + 1)
            for index in (disk, memory):
                named = index.add(*flat(pool[at : at + size]), ids)
            alive |= {int(i): pool[at + j] for j, i in enumerate(named)}
            at += size
        elif what == 2:
            gone = rng.permutation(np.array(list(alive)))[: int(rng.integers(1, 40))]
            for index in (disk, memory):
                index.remove(gone)
            for i in gone.tolist():
                del alive[i]
        elif what == 3:
            disk.close()
            disk = ContainmentIndex.open(tmp_path / "i", write=True, verify=True)
        else:
            disk.merge()
            memory.flush()
        assert len(disk) == len(memory) == len(alive)
        expected = brute(alive, queries, 0.2, "either")
        assert listed(memory.query(*flat(queries), 0.2)) == expected, step
        assert listed(disk.query(*flat(queries), 0.2)) == expected, step
    disk.remove(np.array(list(alive)))
    disk.merge()
    disk.close()
    assert len(ContainmentIndex.open(tmp_path / "i")) == 0


def test_a_bounded_memory_makes_more_segments(tmp_path: Path) -> None:
    rng = np.random.default_rng(8)
    hashes = rng.integers(0, 1 << 64, 300_000, dtype=np.uint64)
    offsets = np.arange(0, 300_001, 300)
    index = ContainmentIndex.build(hashes, offsets, memory=1, path=tmp_path / "i")
    assert len(index.segments) == 5
    got = index.query(hashes, offsets, 1.0)
    assert got.ids.tolist() == list(range(1000))
    assert (got.shared == 300).all()


def test_limits_hold() -> None:
    """Intervals of sampled counts cover the true share: at 0.9, of 400 pairs at most 65 miss (binomial, 1e-4)."""
    rng, size, missed = np.random.default_rng(2), 3000, 0
    for _ in range(20):
        whole = rng.integers(0, 1 << 64, size * 20, dtype=np.uint64)
        index = ContainmentIndex.build(whole, np.arange(0, size * 20 + 1, size), scale=20)
        for share in (0.35, 0.8):
            taken = int(size * share)
            parts = [whole[i * size : i * size + taken] for i in range(10)]
            fill = rng.integers(0, 1 << 64, (10, size - taken), dtype=np.uint64)
            queries = np.concatenate([np.concatenate([p, f]) for p, f in zip(parts, fill, strict=True)])
            got = index.query(queries, np.arange(0, size * 10 + 1, size), 0.05, direction="query")
            low, high = got.query_limits(0.9)
            assert got.ids.tolist() == list(range(10))
            missed += int(((low > taken / size) | (high < taken / size)).sum())
    assert missed <= 65


def test_refusals() -> None:
    hashes, offsets = flat([[1, 2], [3]])
    index = ContainmentIndex.build(hashes, offsets)
    cases = [
        (lambda: ContainmentIndex.build(hashes.astype(np.int64), offsets), "int64"),
        (lambda: ContainmentIndex.build(hashes, offsets[:-1]), "do not ascend"),
        (lambda: ContainmentIndex.build(hashes, offsets.astype(float)), "float64"),
        (lambda: ContainmentIndex.build(hashes, np.array([0, 3, 2, 3])), "do not ascend"),
        (lambda: ContainmentIndex.build(hashes, offsets, scale=0), "scale of 0"),
        (lambda: ContainmentIndex.build(hashes, offsets, ids=np.array([4, 4])), "twice"),
        (lambda: index.query(hashes, offsets, 0.0), "threshold"),
        (lambda: index.query(hashes, offsets, direction="up"), "direction"),
        (lambda: index.add(hashes, offsets, np.array([5, 1])), "id 1 is in the index"),
        (lambda: index.remove(np.array([9])), "id 9 is not"),
        (lambda: index.query(hashes, offsets).query_limits(1.0), "confidence"),
    ]
    for call, message in cases:
        with pytest.raises(UsageError, match=message):
            call()
    assert math.isclose(float(index.query(hashes, offsets).query_shares.sum()), 2)
    assert len(index.query(np.zeros(0, np.uint64), np.zeros(1, np.int64))) == 0
    assert len(ContainmentIndex.build(np.zeros(0, np.uint64), np.zeros(1, np.int64))) == 0
