"""The band index against brute force: kernels beside plain twins, queries beside comparing all with all."""

from __future__ import annotations

import math
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from dataguard.errors import UsageError
from dataguard.fingerprints.index import _kernels as kernels
from dataguard.fingerprints.index.bands import Bands, bands_within, choose_bands, expected, fewest_bands
from dataguard.fingerprints.index.lsh import LshIndex, Matches
from dataguard.fingerprints.index.segment import bits_for, hash_keys

MASK = (1 << 64) - 1
VECTOR_EVEN, VECTOR_ODD = "6e73a520be4b921f", "b774b5ddf2c5c595"


def corpus(n: int, k: int = 32, seed: int = 1) -> np.ndarray:
    """Signatures of which a third are copies of others with some slots redrawn."""
    rng = np.random.default_rng(seed)
    sig = rng.integers(0, 1 << 32, (n, k), dtype=np.uint64).astype(np.uint32)
    copies = n // 3
    kept = rng.random((copies, k)) < rng.uniform(0.4, 1, copies)[:, None]
    sig[n - copies :][kept] = sig[rng.integers(0, n - copies, copies)][kept]
    return sig[rng.permutation(n)]


def brute(
    items: np.ndarray, ids: np.ndarray, queries: np.ndarray, cut: Bands, threshold: float | None
) -> list[list[tuple[int, float]]]:
    """Compare all with all."""
    used = cut.count * cut.width
    found = []
    for query in queries:
        same = items == query
        met = same[:, :used].reshape(len(items), cut.count, cut.width).all(2).any(1)
        share = same.mean(1)
        if threshold is not None:
            met &= share >= threshold - 1e-12
        found.append(sorted((int(ids[i]), float(share[i])) for i in np.flatnonzero(met)))
    return found


def listed(matches: Matches) -> list[list[tuple[int, float]]]:
    return [[(int(i), float(e)) for i, e in zip(*matches[q], strict=True)] for q in range(len(matches))]


# --- kernels beside their twins -------------------------------------------------------------------------


def band_hash(slots: list[int], keys: list[int]) -> int:
    """Section "Index" of docs/formats.md, in whole numbers."""
    total = 0
    for i in range(0, len(slots) - 1, 2):
        total += ((slots[i] + keys[i]) % 2**32) * ((slots[i + 1] + keys[i + 1]) % 2**32)
    if len(slots) % 2:
        total += ((slots[-1] + keys[len(slots) - 1]) % 2**32) * keys[len(slots)]
    total &= MASK
    mixed = (total ^ (total >> 32)) * 0x9FB21C651E98DF25 & MASK
    return (mixed ^ (mixed >> 29)) * 0xD6E8FEB86659FD93 & MASK


def splitmix(count: int) -> list[int]:
    out = []
    for i in range(1, count + 1):
        z = i * 0x9E3779B97F4A7C15 & MASK
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 & MASK
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB & MASK
        out.append((z ^ (z >> 31)) >> 32)
    return out


@pytest.mark.parametrize(("count", "width"), [(4, 8), (10, 3)])
def test_band_hashes(count: int, width: int) -> None:
    sig, keys = corpus(20), hash_keys(32)
    assert keys.tolist() == splitmix(33)
    hashes = np.zeros((count - 1, 25), np.uint64)
    kernels.hash_bands(sig, keys, 1, (0,) * width, 5, hashes)
    for row in range(20):
        for band in range(1, count):
            span = slice(band * width, (band + 1) * width)
            own_keys = keys[band * width : (band + 1) * width + 1].tolist()
            assert int(hashes[band - 1, 5 + row]) == band_hash(sig[row, span].tolist(), own_keys)


def test_band_hash_vector() -> None:
    """The vector of docs/formats.md."""
    keys = splitmix(9)
    assert f"{band_hash(list(range(1, 9)), keys):016x}" == VECTOR_EVEN
    assert f"{band_hash([1, 2, 3], keys):016x}" == VECTOR_ODD


def buckets(hashes: list[int], bits: int) -> tuple[list[int], list[int], list[int]]:
    """Plain twin of `fill_buckets`."""
    starts, rows, tags = [0], [], []
    for bucket in range(1 << bits):
        members = [(h >> (48 - bits) & 0xFFFF, i) for i, h in enumerate(hashes) if h >> (64 - bits) == bucket]
        members.sort(key=(lambda m: m) if len(members) > 32 else (lambda m: m[1]))
        tags += [m[0] for m in members]
        rows += [m[1] for m in members]
        starts.append(len(rows))
    return starts, rows, tags


@pytest.mark.parametrize("split", [0, 3])
def test_buckets(split: int) -> None:
    rng = np.random.default_rng(split)
    hashes = rng.integers(0, 1 << 64, 3000, dtype=np.uint64)
    hashes[rng.integers(0, 3000, 400)] = hashes[7]  # a large bucket with one frequent tag
    hashes[rng.integers(0, 3000, 100)] = hashes[7] ^ np.uint64(1 << 45)
    bits = 8
    starts, rows, tags = np.zeros(257, np.uint32), np.zeros(3000, np.uint32), np.zeros(3000, np.uint16)
    cuts, keys = np.array([0, 3000]), hashes
    if split:
        cuts, keys = np.zeros(9, np.int64), np.empty(3000, np.uint64)
        kernels.split_keys(hashes, split, cuts, keys)
        assert cuts.tolist() == [int((hashes < np.uint64(p << 61)).sum()) for p in range(8)] + [3000]
    kernels.fill_buckets(keys, cuts, bits - split, split > 0, starts, rows, tags)
    assert (starts.tolist(), rows.tolist(), tags.tolist()) == buckets(hashes.tolist(), bits)
    assert kernels.is_well_formed(starts, 3000)
    assert not kernels.is_well_formed(starts, 2999)
    starts[4] = starts[5] + 1
    assert not kernels.is_well_formed(starts, 3000)


def test_probes_and_distinct_rows() -> None:
    rng = np.random.default_rng(5)
    hashes = rng.integers(0, 1 << 64, 2000, dtype=np.uint64)
    hashes[rng.integers(0, 2000, 300)] = hashes[3]
    starts, rows, tags = np.zeros(257, np.uint32), np.zeros(2000, np.uint32), np.zeros(2032, np.uint16)
    kernels.fill_buckets(hashes, np.array([0, 2000]), 8, False, starts, rows, tags[:2000])
    queries = np.concatenate([hashes[:50], rng.integers(0, 1 << 64, 100, dtype=np.uint64)])
    twin = [(q, r) for q, h in enumerate(queries) for r in range(2000) if hashes[r] >> 40 == h >> 40]
    found = np.zeros(5000, np.uint64)
    done, end = kernels.probe_band(queries, 0, 8, starts, rows, tags, found, 0)
    assert done == 150
    assert sorted((int(f) >> 32, int(f) & 0xFFFFFFFF) for f in found[:end]) == twin
    # With little room it stops before the query that may not fit, and goes on from there.
    found, at, first = np.zeros(700, np.uint64), 0, 0
    pieces = []
    while first < 150:
        then, at = kernels.probe_band(queries, first, 8, starts, rows, tags, found, 0)
        assert then > first
        pieces += found[:at].tolist()
        first = then
    assert sorted((f >> 32, f & 0xFFFFFFFF) for f in pieces) == twin

    several = rng.permutation(np.concatenate([np.array(pieces, np.uint64)] * 3))
    offsets, distinct = np.zeros(151, np.int64), np.zeros(len(several), np.uint32)
    count = kernels.distinct_rows(several, offsets, distinct)
    assert [(q, int(r)) for q in range(150) for r in distinct[offsets[q] : offsets[q + 1]]] == twin
    assert count == len(twin) == offsets[-1]

    rows[:] = 2000
    assert kernels.probe_band(queries, 0, 8, starts, rows, tags, np.zeros(5000, np.uint64), 0)[0] == -1
    starts[:] = 2001
    assert kernels.probe_band(queries, 0, 8, starts, rows, tags, np.zeros(5000, np.uint64), 0)[0] == -1


# --- the index beside brute force -----------------------------------------------------------------------

CUTS = [Bands(4, 8), Bands(10, 3), Bands(32, 1)]


@pytest.mark.parametrize("cut", CUTS, ids=str)
@pytest.mark.parametrize("place", ["memory", "disk"])
def test_queries(cut: Bands, place: str, tmp_path: Path) -> None:
    sig = corpus(2500)
    rng = np.random.default_rng(9)
    ids = rng.permutation(np.arange(2500, dtype=np.uint64) * np.uint64(7) + np.uint64(1 << 63))
    queries = np.concatenate([sig[:150], corpus(50, seed=77)])
    queries[rng.random(queries.shape) < 0.1] ^= 1
    path = tmp_path / "index" if place == "disk" else None
    plain = LshIndex.build(sig, bands=cut, threshold=0.6, path=path)
    assert listed(plain.query(queries)) == brute(sig, np.arange(2500), queries, cut, 0.6)
    assert listed(plain.query(queries, 0.0)) == brute(sig, np.arange(2500), queries, cut, None)
    named = LshIndex.build(sig, bands=cut, ids=ids, memory=1)  # three segments
    assert len(named.segments) == 3
    assert listed(named.query(queries, 0.85)) == brute(sig, ids, queries, cut, 0.85)
    loose = named.query(queries, verify=False)
    exact = brute(sig, ids, queries, cut, None)
    extra = sum(len(loose[q][0]) - len(exact[q]) for q in range(200))
    assert np.isnan(loose.estimates).all()
    assert all({i for i, _ in exact[q]} <= set(loose[q][0].tolist()) for q in range(200))
    # A stranger in a bucket passes its tag with 2**-16: 200 queries x 32 bands x 4 rows give 0.4 on average.
    assert 0 <= extra <= 8
    assert len(plain.query(queries[:0])) == 0


def test_a_life(tmp_path: Path) -> None:
    """Random additions, removals, merges and reopenings leave the index as brute force has it."""
    cut, rng = Bands(8, 4), np.random.default_rng(3)
    pool, queries = corpus(4000, seed=4), corpus(4000, seed=4)[::61]
    alive: dict[int, int] = dict(enumerate(range(800)))
    disk = LshIndex.build(pool[:800], bands=cut, threshold=0.5, path=tmp_path / "i")
    disk.close()
    disk = LshIndex.open(tmp_path / "i", write=True)
    memory = LshIndex.build(pool[:800], bands=cut, threshold=0.5)
    at = 800
    for step in range(40):
        what = rng.integers(0, 5)
        if what <= 1:
            size = int(rng.integers(1, 120))
            ids = None if what else rng.permutation(size) + 10_000 * (step + 1)
            for index in (disk, memory):
                named = index.add(pool[at : at + size], ids)
            alive |= {int(i): at + j for j, i in enumerate(named)}
            at += size
        elif what == 2:
            gone = rng.permutation(np.array(list(alive)))[: int(rng.integers(1, 60))]
            for index in (disk, memory):
                index.remove(gone)
            for i in gone.tolist():
                del alive[i]
        elif what == 3:
            disk.close()
            disk = LshIndex.open(tmp_path / "i", write=True, verify=True)
        elif step % 3 == 0:
            memory.merge()
            disk.merge()
        else:
            disk.flush()
        rows, ids_now = np.array(list(alive.values())), np.array(list(alive))
        assert len(disk) == len(memory) == len(alive)
        answer = memory.query(queries)
        assert listed(answer) == brute(pool[rows], ids_now, queries, cut, 0.5), step
        assert listed(disk.query(queries)) == listed(answer), step
    assert sum(len(s) for s, _ in disk.segments) < 2 * len(alive) + 200
    disk.remove(np.array(list(alive)))
    assert len(disk) == 0
    disk.merge()
    assert disk.segments == ()
    assert len(disk.query(queries).ids) == 0
    disk.close()
    assert len(LshIndex.open(tmp_path / "i")) == 0


def test_many_alike() -> None:
    """Thousands of equal signatures: all are found, and the room for candidates grows as it must."""
    sig = np.concatenate([np.tile(corpus(1), (30_000, 1)), corpus(1000, seed=2)])
    index = LshIndex.build(sig, bands=(4, 8))
    matches = index.query(np.concatenate([sig[:40], sig[-5:]]))
    for query in range(40):
        assert (matches[query][0] == np.arange(30_000)).all()
        assert (matches[query][1] == 1).all()
    assert all(len(matches[query][0]) < 50 for query in range(40, 45))


def test_a_large_corpus_is_bucketed_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    sig = corpus(3000)
    whole = LshIndex.build(sig, bands=(4, 8))
    monkeypatch.setattr("dataguard.fingerprints.index.segment._UNSPLIT", 3)
    monkeypatch.setattr("dataguard.fingerprints.index.segment._PART_BITS", 5)
    parted = LshIndex.build(sig, bands=(4, 8))
    for one, other in zip(whole.segments[0][0].bands, parted.segments[0][0].bands, strict=True):
        assert one.starts.tolist() == other.starts.tolist()
        assert one.rows.tolist() == other.rows.tolist()
        assert one.tags.tolist() == other.tags.tolist()
    assert [bits_for(n) for n in (1, 4, 7, 8, 100_000)] == [1, 1, 1, 2, 15]


def test_needs_are_kept(tmp_path: Path) -> None:
    sig = corpus(30_000, 64)
    for memory in (1 << 30, 1 << 20):
        needs = LshIndex.needs(30_000, (16, 4), size=64, memory=memory)
        LshIndex.build(sig[:2000], bands=(16, 4), path=tmp_path / f"compiled{memory}")
        tracemalloc.start()
        index = LshIndex.build(sig, bands=(16, 4), path=tmp_path / f"i{memory}", memory=memory)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        # On top come some chunks of signatures on their way to the disk.
        assert peak < needs.memory + (4 << 20)
        assert needs.memory <= memory
        files = [p for p in (tmp_path / f"i{memory}").iterdir() if p.suffix == ".dgx"]
        assert sum(p.stat().st_size for p in files) == needs.disk
        assert len(files) == len(index.segments) == needs.segments
        bands = [b for s, _ in index.segments for b in s.bands]
        resident = sum(b.starts.nbytes + b.rows.nbytes + b.tags.nbytes for b in bands)
        assert resident <= needs.resident <= 1.05 * resident + 4096


def test_one_writes_many_read(tmp_path: Path) -> None:
    sig = corpus(500)
    index = LshIndex.build(sig, bands=(4, 8), path=tmp_path / "i")  # holds the lock
    program = (
        "import numpy as np, sys\nfrom dataguard.errors import UsageError\n"
        "from dataguard.fingerprints.index.lsh import LshIndex\n"
        f"index = LshIndex.open({str(tmp_path / 'i')!r})\n"
        "print(len(index))\n"
        f"try:\n    LshIndex.open({str(tmp_path / 'i')!r}, write=True)\nexcept UsageError as e: print(e.what)\n"
        "try:\n    index.add(np.zeros((1, 32), np.uint32))\nexcept UsageError as e: print(e.what)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=100
    )
    assert done.stdout.split("\n")[:3] == [
        "500",
        "another process writes to this index",
        "is open to be read only",
    ]
    reader = LshIndex.open(tmp_path / "i")
    index.remove(np.arange(400))
    index.merge()
    assert len(reader.query(sig).offsets) == 501  # files it has mapped are gone from the folder, not from it
    assert reader.query(sig[:1])[0][0][0] == 0
    assert len(LshIndex.open(tmp_path / "i")) == 100
    index.close()
    index.query(sig)
    with pytest.raises(UsageError, match="read only"):
        index.flush()


def test_refusals(tmp_path: Path) -> None:
    sig = corpus(50)
    index = LshIndex.build(sig, bands=(4, 8), path=tmp_path / "i")
    cases = [
        (lambda: LshIndex.build(sig, bands=(5, 8)), "do not fit"),
        (lambda: LshIndex.build(sig, bands=(0, 8)), "cannot be made"),
        (lambda: LshIndex.build(sig, threshold=1.5), "threshold of 1.5"),
        (lambda: LshIndex.build(sig.astype(np.uint64)), "uint64"),
        (lambda: LshIndex.build(sig, ids=np.zeros(50, np.int64)), "id 0 is given twice"),
        (lambda: LshIndex.build(sig, ids=np.arange(50) - 1), "id -1 is negative"),
        (lambda: LshIndex.build(sig, ids=np.arange(49)), "do not fit 50"),
        (lambda: LshIndex.build(sig, path=tmp_path / "i"), "another process"),
        (lambda: LshIndex.build(sig, path=tmp_path / "no" / "i"), "cannot be written"),
        (lambda: LshIndex.open(tmp_path), "no finished index"),
        (lambda: index.query(sig[:, :16]), "16 slots"),
        (lambda: index.query(sig, -1.0), "threshold"),
        (lambda: index.add(sig[:1], np.array([7])), "id 7 is in the index"),
        (lambda: index.remove(np.array([7, 50])), "id 50 is not in the index"),
        (lambda: index.remove(np.array([7, 7])), "twice"),
        (lambda: LshIndex.build(sig, ids=np.full(1, 2**64 - 1, np.uint64).repeat(1)[:0]), "do not fit"),
    ]
    for call, message in cases:
        with pytest.raises(UsageError, match=message):
            call()
    index.close()
    with pytest.raises(UsageError, match="holds an index already"):
        LshIndex.build(sig, path=tmp_path / "i")
    last = LshIndex.build(sig[:1], bands=(4, 8), ids=np.array([2**64 - 1], np.uint64))
    with pytest.raises(UsageError, match="no numbers are left"):
        last.add(sig[1:2])
    assert last.query(sig[:1])[0][0].tolist() == [2**64 - 1]


# --- how to cut -----------------------------------------------------------------------------------------


def test_chance_to_meet() -> None:
    """Simulated slots meet as often as the formula says (exact binomial bound, error budget 1e-6 each)."""
    rng, trials = np.random.default_rng(1), 20_000
    for cut, similarity in ((Bands(16, 8), 0.7), (Bands(20, 5), 0.5), (Bands(128, 1), 0.01)):
        same = rng.random((trials, cut.count, cut.width)) < similarity
        hits, p = int(same.all(2).any(1).sum()), float(cut.chance(similarity))
        assert abs(hits - trials * p) < 5.1 * math.sqrt(trials * p * (1 - p)) + 1
        assert math.isclose(1 - p, cut.miss(similarity), rel_tol=1e-9)
    assert Bands(3, 2).miss(1.0) == 0 and float(Bands(3, 2).chance(1.0)) == 1  # noqa: PT018


def test_expectations() -> None:
    """Errors as sums over a fine grid, and as the closed form where there is one."""
    grid = (np.arange(400_000) + 0.5) / 400_000
    for cut, threshold, prior in (
        (Bands(16, 8), 0.7, None),
        (Bands(128, 32), 0.93, None),
        (Bands(9, 14), 0.8, lambda s: np.exp(-9 * s)),
    ):
        weight = np.ones_like(grid) if prior is None else prior(grid)
        met, above = 1 - (1 - grid**cut.width) ** cut.count, grid >= threshold
        got = expected(cut, threshold, prior)
        assert math.isclose(got.missed, 1 - (weight * met)[above].sum() / weight[above].sum(), rel_tol=1e-4)
        assert math.isclose(got.candidates, (weight * met).sum() / weight.sum(), rel_tol=1e-4)
        assert math.isclose(got.vain, (weight * met)[~above].sum() / weight.sum(), rel_tol=1e-4)
    assert math.isclose(expected(Bands(1, 3), 0.5).candidates, 1 / 4, rel_tol=1e-12)


@pytest.mark.parametrize("weights", [(0.5, 0.5), (0.9, 0.1), (0.1, 0.9)])
def test_the_cut_chosen_is_the_best(weights: tuple[float, float]) -> None:
    def loss(cut: Bands, threshold: float) -> float:
        e = expected(cut, threshold)
        return weights[0] * e.missed * (1 - threshold) + weights[1] * e.vain

    for threshold in (0.3, 0.7, 0.95):
        best = choose_bands(threshold, 20, miss_weight=weights[0], vain_weight=weights[1])
        every = [Bands(b, r) for r in range(1, 21) for b in range(1, 20 // r + 1)]
        assert loss(best.bands, threshold) <= min(loss(cut, threshold) for cut in every) + 1e-12


def test_fewest_bands() -> None:
    for similarity, miss, width in ((0.8, 0.05, 8), (0.5, 1e-3, 4), (0.99, 0.5, 1), (0.7, 1e-9, 10)):
        count = fewest_bands(similarity, miss, width)
        assert (1 - similarity**width) ** count <= miss * (1 + 1e-9)
        assert count == 1 or (1 - similarity**width) ** (count - 1) > miss
    cut = bands_within(0.8, 0.05, 128)
    assert cut.miss(0.8) <= 0.05
    assert all(fewest_bands(0.8, 0.05, r) * r > 128 for r in range(cut.width + 1, 129))
    for call in (
        lambda: fewest_bands(0.8, 0.05, 0),
        lambda: fewest_bands(1.0, 0.05, 3),
        lambda: bands_within(0.1, 1e-9, 16),
        lambda: choose_bands(0.7, 0),
        lambda: choose_bands(0.7, miss_weight=0, vain_weight=0),
        lambda: expected(Bands(1, 1), 0.5, lambda s: -s),
        lambda: expected(Bands(1, 1), 0.5, lambda s: s * (s < 0.5)),
        lambda: Bands(1000, 1000),
    ):
        with pytest.raises(UsageError):
            call()
