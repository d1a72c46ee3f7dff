"""One LSH index in a process of its own: what it adds to the resident memory. Called by `peers_index.memory`.

python benchmarks/peers_memory.py NAME COUNT FOLDER [build]

Read from the process's own page tables (smaps): `own` counts its anonymous pages, `index` these and the
pages of mapped files that are resident, which the system can take back; `verified` these again after the
signatures were read, which no peer keeps. The largest resident size that
getrusage tells would count the parent's, and an input that is freed before would hide in it. One
thread: the variables come from the process that starts this one.
"""

from __future__ import annotations

import gc
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import peers_ours as ours
from peers_harness import OURS

K, BANDS, ROWS, THRESHOLD = 128, 16, 8, 0.7


def resident() -> tuple[int, int]:
    """Return (anonymous, all) resident bytes of this process."""
    found = {}
    for line in Path("/proc/self/smaps_rollup").read_text().splitlines()[1:]:
        name, value = line.split(":")
        found[name] = int(value.split()[0]) * 1024
    return found["Anonymous"], found["Rss"]


def made(count: int) -> np.ndarray:
    """Return (count, 128) uint32 signatures, 30 % of them near copies of others."""
    rng = np.random.default_rng(1)
    matrix = rng.integers(0, 1 << 30, (count, K), dtype=np.uint32)
    copies = count * 3 // 10
    for i in range(copies):  # row by row: no large array that would still count when the clock starts
        keep = rng.random(K) < rng.uniform(0.5, 1.0)
        matrix[count - 1 - i][keep] = matrix[i][keep]
    return matrix


def datasketch(matrix: np.ndarray) -> Callable[[], Any]:
    import datasketch

    permutations = datasketch.MinHash(num_perm=K).permutations
    datasketch.MinHashLSH(num_perm=K, params=(BANDS, ROWS))

    def build() -> Any:
        index = datasketch.MinHashLSH(num_perm=K, params=(BANDS, ROWS))
        with index.insertion_session() as session:
            for i, row in enumerate(matrix):
                sketch = datasketch.MinHash(hashvalues=row, permutations=permutations, scheme="affine32")
                session.insert(i, sketch, check_duplication=False)
        return index

    return build


def fast(matrix: np.ndarray) -> Callable[[], Any]:
    import FastSketchLSH

    def build() -> Any:
        index = FastSketchLSH.LSH(num_perm=K, num_bands=BANDS, num_threads=1)
        for start in range(0, len(matrix), 1000):
            index.insert(matrix[start : start + 1000].astype(np.uint64))
        return index

    return build


def rensa(matrix: np.ndarray) -> Callable[[], Any]:
    """Its own digests, of sets whose elements are the slots' values: equal slots, equal elements."""
    import rensa

    starts = np.arange(len(matrix) + 1, dtype=np.uint64) * np.uint64(K)
    elements = (matrix.astype(np.uint64) * np.uint64(K) + np.arange(K, dtype=np.uint64)).reshape(-1)
    elements *= np.uint64(0x9E3779B97F4A7C15)
    digest = rensa.RMinHash.digest_matrix_from_flat_token_hashes
    digests = digest(elements, starts, num_perm=K, seed=42)

    def build() -> Any:
        index = rensa.RMinHashLSH(threshold=THRESHOLD, num_perm=K, num_bands=BANDS)
        index.insert_matrix(digests)
        return index

    return build


def main(words: list[str]) -> None:
    name, count, folder = words[0], int(words[1]), Path(words[2])
    if words[3:] == ["build"]:
        ours.lsh_write(made(count), folder / "index", BANDS, ROWS)
        return
    if name == OURS:
        queries = made(2000)
        warm = ours.lsh_open(folder / "index")
        for verify in (False, True):
            warm.query(queries[:64], verify=verify)  # compiled before memory is counted
        del warm

        def build() -> Any:
            index = ours.lsh_open(folder / "index")
            index.query(
                queries, verify=False
            )  # touches every band, as a peer's index is touched by its build
            return index
    else:
        build = {"datasketch": datasketch, "FastSketchLSH": fast, "rensa": rensa}[name](made(count))
    gc.collect()
    own, every = resident()
    kept = build()
    gc.collect()
    after_own, after_every = resident()
    found = {"own": after_own - own, "index": max(after_every - every, after_own - own)}
    found["verified"] = found["index"]
    if name == OURS:
        kept.query(queries)
        found["verified"] = resident()[1] - every
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1:])
