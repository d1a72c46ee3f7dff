"""Accuracy of the signatures: RMSE against sqrt(J (1 - J) / k), and the largest error of 100,000 pairs.

A fast sketch that reads only some tokens, or whose errors have fat tails, shows here. The order of the
elements is shuffled. Bars of the issue: RMSE at most 1.05 times theory, no error beyond 6 sigma.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import peers_ours as ours
from peers_corpora import Sets
from peers_harness import OURS, Peers, rounded, verdict

Sketch = Callable[[Sets], np.ndarray]
CHUNK = 2_000_000
"""Elements per side made at a time."""


def pairs(n: int, j: float, count: int, seed: int) -> tuple[float, Iterator[tuple[Sets, Sets]]]:
    """Return the exact Jaccard (nearest to j with sets of n) and `count` pairs in chunks, shuffled."""
    common = min(n - 1, max(1, round(2 * n * j / (1 + j))))

    def chunks() -> Iterator[tuple[Sets, Sets]]:
        rng = np.random.default_rng(seed)
        done, most = 0, max(1, CHUNK // n)
        while done < count:
            some = min(most, count - done)
            every = rng.integers(0, 1 << 64, (some, 2 * n - common), dtype=np.uint64)
            left = rng.permuted(every[:, :n], axis=1)
            right = rng.permuted(np.concatenate([every[:, :common], every[:, n:]], axis=1), axis=1)
            starts = np.arange(some + 1, dtype=np.int64) * n
            yield Sets(left.reshape(-1), starts), Sets(right.reshape(-1), starts)
            done += some

    return common / (2 * n - common), chunks()


def sketches(peers: Peers, k: int, *, slow: bool = True) -> dict[str, Sketch]:
    """Return the ways to signatures: sets -> (n, k) values."""
    found: dict[str, Sketch] = {}
    if mine := ours.sketcher(k):
        found[OURS] = mine
    if rensa := peers.get("rensa"):

        def digest(kind: str) -> Sketch:
            function = getattr(rensa.RMinHash, f"digest_matrix_from_flat_token_hashes{kind}")
            return lambda s: np.asarray(
                function(s.hashes, s.offsets.astype(np.uint64), num_perm=k, seed=42).to_rows(), np.uint32
            )

        found["rensa R-MinHash"], found["rensa rho"] = digest(""), digest("_rho")
        if slow:
            many = rensa.CMinHash.digests64_from_token_hash_sets
            found["rensa C-MinHash"] = lambda s: np.asarray(many(s.lists(s.count), num_perm=k, seed=42))
    if fast := peers.get("FastSketchLSH"):
        sketch = fast.FastSimilaritySketch(size=k, seed=42)
        found["FastSketchLSH"] = lambda s: np.asarray(
            sketch.batch_csr(s.hashes, s.offsets.astype(np.uint64), prehashed=True, num_threads=1)
        )
    if slow and (module := peers.get("datasketch")):
        found["datasketch"] = lambda s: np.array(
            [m.hashvalues for m in module.MinHash.bulk(s.lists(s.count, 32), num_perm=k, hashfunc=int)]
        )
    return found


def deviations(sketch: Sketch, n: int, j: float, count: int, k: int, seed: int) -> tuple[float, np.ndarray]:
    """Return the true Jaccard and, of every pair, the error in units of sqrt(J (1 - J) / k)."""
    truth, made = pairs(n, j, count, seed)
    equal = np.concatenate([(sketch(a) == sketch(b)).mean(axis=1) for a, b in made])
    return truth, (equal - truth) / np.sqrt(truth * (1 - truth) / k)


def accuracy(peers: Peers, *, quick: bool) -> dict[str, Any]:
    """RMSE over theory by n, J and k."""
    plan = ((30, 200), (1000, 50)) if quick else ((30, 4000), (100, 4000), (1000, 2000), (10_000, 1000))
    rows = []
    for k in (128,) if quick else (128, 256):
        for n, count in plan:
            for name, sketch in sketches(peers, k).items():
                most = 1000 if n <= 100 else 300
                few = count if name in (OURS, "FastSketchLSH") else min(count, most)
                for j in (0.1, 0.5, 0.9):
                    truth, off = deviations(sketch, n, j, few, k, n)
                    bias = float(off.mean()) * np.sqrt(truth * (1 - truth) / k)
                    rows.append(
                        {"k": k, "n": n, "j": rounded(truth, 3), "name": name, "pairs": few,
                         "rmse": rounded(float(np.sqrt(np.mean(off**2))), 3), "bias": rounded(bias, 2)}
                    )  # fmt: skip
    worst = max((r["rmse"] for r in rows if r["name"] == OURS), default=None)
    verdicts = []
    if worst is not None:
        value = {"median": worst, "q1": worst, "q3": worst}
        title = "largest RMSE over theory of our signatures"
        verdicts = [{**verdict(0, title, value, 1.05, at_least=False), "task": "accuracy", "peer": "theory"}]
    return {
        "key": "accuracy", "part": "accuracy", "title": "RMSE over sqrt(J (1 - J) / k)", "rows": rows,
        "verdicts": verdicts, "failed": {}, "facts": {},
    }  # fmt: skip


def tails(peers: Peers, *, quick: bool) -> dict[str, Any]:
    """Largest error of 100,000 pairs in units of sigma, k=128."""
    count, rows = (2_000 if quick else 100_000), []
    for n in (5, 10, 30, 100):
        for name, sketch in sketches(peers, 128, slow=False).items():
            for j in (0.1, 0.5, 0.9) if name == OURS else (0.5,):
                truth, off = deviations(sketch, n, j, count, 128, 7)
                largest = rounded(float(abs(off).max()), 3)
                rows.append(
                    {"n": n, "j": rounded(truth, 3), "name": name, "pairs": count, "largest": largest}
                )
    worst = max((r["largest"] for r in rows if r["name"] == OURS), default=None)
    verdicts = []
    if worst is not None:
        value = {"median": worst, "q1": worst, "q3": worst}
        title = f"largest error of our signatures in {count:,} pairs, sigma"
        verdicts = [{**verdict(0, title, value, 6.0, at_least=False), "task": "tails", "peer": "theory"}]
    return {
        "key": "tails", "part": "tails", "title": f"Largest error of {count:,} pairs, sigma, k=128", "rows": rows,
        "verdicts": verdicts, "failed": {}, "facts": {"pairs": count},
    }  # fmt: skip
