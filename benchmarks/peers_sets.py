"""Signatures from sets: Python lists, prehashed short, medium and big sets, datasketch's own values, weights.

Targets 1 (through Arrow: reported, no bar), 2, 3, 4, 6 and 18.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

import peers_ours as ours
from peers_corpora import Sets, Texts, even_sets
from peers_harness import Candidate, Peers, Target, Task

RENSA, RHO, FAST, DATASKETCH = "rensa R-MinHash", "rensa rho", "FastSketchLSH", "datasketch"
SAMPLES = "reads a sample of the tokens: no full-set sketch"


def _datasketch(peers: Peers, sets: Sets, k: int, scheme: str, most: int) -> list[Candidate]:
    """Hand hashes over as Python integers and let `hashfunc` return them: its public way for hashed input."""
    module = peers.get("datasketch")
    if module is None:
        return []
    count = max(1, min(sets.count, most // max(1, int(sets.offsets[1]))))
    lists = sets.lists(count, 32)  # both schemes take 32-bit values

    def run() -> Any:
        return module.MinHash.bulk(lists, num_perm=k, hashfunc=_same, scheme=scheme)

    name = DATASKETCH if scheme == "affine32" else f"{DATASKETCH} {scheme}"
    return [Candidate(name, run, count / sets.count)]


def _same(value: int) -> int:
    return value


def _sketchers(peers: Peers, sets: Sets, k: int) -> list[Candidate]:
    """The peers that take a flat buffer of hashes."""
    made = []
    starts = sets.offsets.astype(np.uint64)
    if rensa := peers.get("rensa"):
        flat = rensa.RMinHash.digest_matrix_from_flat_token_hashes
        rho = rensa.RMinHash.digest_matrix_from_flat_token_hashes_rho
        made += [
            Candidate(RENSA, lambda: flat(sets.hashes, starts, num_perm=k, seed=42)),
            Candidate(RHO, lambda: rho(sets.hashes, starts, num_perm=k, seed=42), other=SAMPLES),
        ]
    if fast := peers.get("FastSketchLSH"):
        sketch = fast.FastSimilaritySketch(size=k, seed=42)
        made.append(
            Candidate(FAST, lambda: sketch.batch_csr(sets.hashes, starts, prehashed=True, num_threads=1))
        )
    return made


def prehashed(peers: Peers, *, quick: bool) -> Iterator[Task]:
    """Targets 2, 3 and 4."""
    total = 200_000 if quick else 2_000_000
    bars = {
        "short": ((2, DATASKETCH, 100.0), (2, RENSA, 4.0), (2, FAST, 8.0)),
        "medium": ((3, DATASKETCH, 150.0), (3, RENSA, 2.5), (3, FAST, 4.0)),
        "": (),
    }
    plan = ((10, "short"), (30, "short"), (100, "short"), (300, "medium"), (1000, "medium"), (3000, "medium"))
    for n, kind in (*plan, (10_000, "")):
        for k in (128, 256):
            sets = even_sets(total // n, n)
            yield Task(
                f"prehashed-{n}-{k}", "sets", f"prehashed sets of {n:,}, k={k}", total / 1e6, "M elements",
                [*ours.sketch_sets(sets, k), *_datasketch(peers, sets, k, "affine32", 100_000),
                 *_sketchers(peers, sets, k)],
                [Target(*bar) for bar in bars[kind]], f"{sets.count:,} made sets", {"n": n, "k": k},
            )  # fmt: skip


def big(peers: Peers, *, quick: bool) -> Iterator[Task]:
    """Target 4, with the speed of memory in the same rotation: reading is what the sketch cannot beat."""
    count = 4 if quick else 128
    sets = even_sets(count, 1_000_000)
    data, copy = sets.hashes, np.empty_like(sets.hashes)
    yardsticks = [
        Candidate("memory read (numpy sum)", lambda: np.add.reduce(data), other="yardstick"),
        Candidate("memory read (numpy xor)", lambda: np.bitwise_xor.reduce(data), other="yardstick"),
        Candidate("memory copy (numpy)", lambda: np.copyto(copy, data), other="yardstick"),
    ]
    for k in (128, 256):
        yield Task(
            f"prehashed-1000000-{k}", "big", f"prehashed sets of 1,000,000, k={k}", data.size / 1e6, "M elements",
            [*ours.sketch_sets(sets, k), *_big_datasketch(peers, sets, k), *_sketchers(peers, sets, k), *yardsticks],
            [Target(4, DATASKETCH, 200.0), Target(4, RENSA, 5.0), Target(4, yardsticks[0].name, 0.8)],
            f"{count} made sets, {data.nbytes / 1e9:.2f} GB", {"n": 1_000_000, "k": k, "bytes": data.nbytes},
        )  # fmt: skip


def _big_datasketch(peers: Peers, sets: Sets, k: int) -> list[Candidate]:
    """update_batch holds elements x k values at once: it gets pieces of 2,000, within the cache.

    200,000 elements, k=128: 36 ms in pieces of 2,000, 39 in 500, 50 in 10,000, 64 in 50,000.
    """
    module = peers.get("datasketch")
    if module is None:
        return []
    values = (sets.hashes[:1_000_000] >> np.uint64(32)).tolist()
    pieces = [values[i : i + 2_000] for i in range(0, 200_000, 2_000)]

    def run() -> Any:
        sketch = module.MinHash(num_perm=k, hashfunc=_same)
        for piece in pieces:
            sketch.update_batch(piece)
        return sketch

    return [Candidate(DATASKETCH, run, 200_000 / sets.hashes.size)]


def lists(peers: Peers, texts: list[Texts], *, quick: bool) -> Iterator[Task]:
    """Target 1, Python lists of strings (through Arrow; no bar), made tokens and the words of real lines."""
    total = 50_000 if quick else 400_000
    rng = np.random.default_rng(1)
    made = {
        n: [[f"tok{x:x}" for x in row] for row in rng.integers(0, 1 << 30, (total // n, n)).tolist()]
        for n in (10, 100)
    }
    named = [(f"made tokens, n={n}", tokens) for n, tokens in made.items()]
    if texts:
        lines = [line.split() for d in texts[0].documents for line in d.split("\n") if len(line.split()) >= 5]
        named.append((f"words of the lines of {texts[0].name}", lines[: total // 12]))
    for corpus, tokens in named:
        count = sum(map(len, tokens))
        candidates = ours.sketch_lists(tokens, 128)
        if module := peers.get("datasketch"):
            some = [[t.encode() for t in row] for row in tokens[: len(tokens) // 20]]
            share = sum(map(len, some)) / count
            candidates.append(Candidate(DATASKETCH, partial(module.MinHash.bulk, some, num_perm=128), share))
        if rensa := peers.get("rensa"):
            full, rho = (
                rensa.RMinHash.digest_matrix_from_token_sets,
                rensa.RMinHash.digest_matrix_from_token_sets_rho,
            )
            candidates += [
                Candidate(RENSA, partial(full, tokens, num_perm=128, seed=42)),
                Candidate(RHO, partial(rho, tokens, num_perm=128, seed=42), other=SAMPLES),
            ]
        if fast := peers.get("FastSketchLSH"):
            sketch = fast.FastSimilaritySketch(size=128, seed=42)
            candidates.append(Candidate(FAST, partial(sketch.batch, tokens, num_threads=1)))
        yield Task(
            f"lists-{len(tokens)}", "lists", f"Python lists of strings to signatures, k=128: {corpus}", count / 1e6,
            "M tokens", candidates, (), corpus, {"no_bar": 1},
        )  # fmt: skip


def identical(peers: Peers, *, quick: bool) -> Iterator[Task]:
    """Target 6: datasketch's own values, bit for bit (checked here before the clock)."""
    total = 100_000 if quick else 1_000_000
    for scheme, bar in (("affine32", 25.0), ("legacy", 10.0)):
        for n in (10, 100, 1000):
            sets = even_sets(total // n, n)
            theirs = _datasketch(peers, sets, 128, scheme, 50_000)
            mine = ours.like_datasketch(sets, 128, scheme)
            facts: dict[str, Any] = {"n": n, "k": 128}
            if mine and theirs:
                want = np.array([m.hashvalues for m in theirs[0].run()])  # type: ignore[attr-defined]
                got = np.asarray(mine[0].run())
                facts["bit_identical"] = bool(np.array_equal(got[: len(want)].astype(want.dtype), want))
            yield Task(
                f"{scheme}-{n}", "identical", f"datasketch {scheme} values, sets of {n:,}, k=128", total / 1e6,
                "M elements", [*mine, *theirs],
                [Target(6, c.name, bar, mine[0].name) for c in theirs for _ in mine[:1]],
                f"{sets.count:,} made sets", facts,
            )  # fmt: skip


def weighted(peers: Peers, *, quick: bool) -> Iterator[Task]:
    """Target 18. Ours estimates the probability Jaccard J_P, datasketch the weighted Jaccard J_W."""
    count, dim = (200, 1000) if quick else (2000, 1000)
    weights = np.random.default_rng(9).exponential(1.0, (count, dim))
    candidates = ours.weighted(weights, 128)
    if module := peers.get("datasketch"):
        generator = module.WeightedMinHashGenerator(dim, sample_size=128, seed=1)
        few = weights[: max(20, count // 20)]
        candidates += [
            Candidate(
                f"{DATASKETCH} WeightedMinHash", lambda: [generator.minhash(w) for w in few], len(few) / count
            ),
            Candidate(f"{DATASKETCH} minhash_many", lambda: generator.minhash_many(few), len(few) / count),
        ]
    yield Task(
        "weighted", "weighted", "weighted vectors of 1,000 components to signatures, k=128", count / 1e3, "k vectors",
        candidates, [Target(18, f"{DATASKETCH} WeightedMinHash", 30.0)], f"{count:,} made vectors", {"k": 128},
    )  # fmt: skip


def tasks(part: str, peers: Peers, texts: list[Texts], *, quick: bool) -> Iterator[Task]:
    """Return the tasks of one part."""
    if part == "lists":
        yield from lists(peers, texts, quick=quick)
    else:
        yield from {"sets": prehashed, "big": big, "identical": identical, "weighted": weighted}[part](
            peers, quick=quick
        )
