"""LSH build, batch query and memory, containment search: targets 10, 11, 12 and 16."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import peers_ours as ours
from peers_corpora import Sets, disturbed, near_sets
from peers_harness import OURS, Candidate, Peers, Target, Task, rounded, verdict

K, BANDS, ROWS, THRESHOLD = 128, 16, 8, 0.7
UNVERIFIED = "candidates only: nothing is verified"


def signatures(sets: Sets) -> np.ndarray:
    """Return signatures of the sets; without our sketch, made values with the same equalities."""
    if sketch := ours.sketcher(K):
        return np.asarray(sketch(sets))
    each = int(sets.offsets[1])
    with np.errstate(over="ignore"):
        salt = np.arange(1, K + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        made = [((row[:, None] ^ salt) * np.uint64(0xBF58476D1CE4E5B9) >> np.uint64(32)).min(0)
                for row in sets.hashes.reshape(-1, each)]  # fmt: skip
    return np.array(made, np.uint32)


def lsh(peers: Peers, *, quick: bool) -> Iterator[Task]:
    """Targets 10 and 11, k=128, 16 bands of 8; every engine gets signatures of the same sets, made before."""
    for count in (5_000,) if quick else (100_000, 300_000):
        sets = near_sets(count)
        asked = disturbed(sets, min(20_000, count // 4))
        made, queries = signatures(sets), signatures(asked)
        corpus = f"{count:,} made sets, 30 % near copies"
        builds, finds = _datasketch(peers, made, queries)
        for other in (_fast(peers, made, queries), _rensa(peers, sets, asked), _minhashlib(peers, made)):
            builds += other[0]
            finds += other[1]
        mine_build, mine_query = ours.lsh(made, queries, BANDS, ROWS, THRESHOLD)
        yield Task(
            f"lsh-build-{count}", "lsh", f"LSH build, {count:,} signatures", count / 1e3, "k signatures",
            [*mine_build, *builds],
            [Target(10, "datasketch", 200.0), Target(10, "rensa insert_matrix", 8.0),
             Target(10, "FastSketchLSH", 25.0)],
            corpus, {"count": count},
        )  # fmt: skip
        yield Task(
            f"lsh-query-{count}", "lsh", f"LSH batch query, index of {count:,}", asked.count / 1e3, "k queries",
            [*mine_query, *finds],
            [Target(11, "datasketch", 35.0), Target(11, "rensa query_all", 3.0), Target(11, "FastSketchLSH", 20.0)],
            f"{asked.count:,} disturbed sets against {corpus}", {"count": count},
        )  # fmt: skip


Two = tuple[list[Candidate], list[Candidate]]


def _datasketch(peers: Peers, made: np.ndarray, queries: np.ndarray) -> Two:
    module = peers.get("datasketch")
    if module is None:
        return [], []
    few, asked = min(len(made), 20_000), min(len(queries), 3_000)
    permutations = module.MinHash(num_perm=K).permutations

    def objects(rows: np.ndarray) -> list[Any]:
        return [module.MinHash(hashvalues=s, permutations=permutations, scheme="affine32") for s in rows]

    def build(sketches: list[Any]) -> Any:
        index = module.MinHashLSH(num_perm=K, params=(BANDS, ROWS))
        with index.insertion_session() as session:
            for i, sketch in enumerate(sketches):
                session.insert(i, sketch, check_duplication=False)
        return index

    first, wanted = objects(made[:few]), objects(queries[:asked])
    whole = build(objects(made))
    return (
        [Candidate("datasketch", lambda: build(first), few / len(made))],
        [Candidate("datasketch", lambda: [whole.query(m) for m in wanted], asked / len(queries), UNVERIFIED)],
    )


def _fast(peers: Peers, made: np.ndarray, queries: np.ndarray) -> Two:
    module = peers.get("FastSketchLSH")
    if module is None:
        return [], []
    wide, asked = made.astype(np.uint64), queries.astype(np.uint64)

    def build() -> Any:
        index = module.LSH(num_perm=K, num_bands=BANDS, num_threads=1)
        index.insert(wide)
        return index

    whole = build()
    return (
        [Candidate("FastSketchLSH", build)],
        [Candidate("FastSketchLSH", lambda: whole.query(asked, format="csr"), other=UNVERIFIED)],
    )


def _rensa(peers: Peers, sets: Sets, asked: Sets) -> Two:
    """It indexes its own digests only: of the same sets, made before the clock."""
    module = peers.get("rensa")
    if module is None:
        return [], []
    digests = module.RMinHash.digest_matrix_from_flat_token_hashes(
        sets.hashes, sets.offsets.astype(np.uint64), num_perm=K, seed=42
    )

    def build() -> Any:
        index = module.RMinHashLSH(threshold=THRESHOLD, num_perm=K, num_bands=BANDS)
        index.insert_matrix(digests)
        return index

    def flags() -> Any:
        return module.RMinHashLSH(
            threshold=THRESHOLD, num_perm=K, num_bands=BANDS
        ).query_duplicate_flags_matrix_one_shot(digests)

    def objects(some: Sets) -> Any:
        each, found = int(some.offsets[1]), []
        for start in range(0, some.count, 20_000):
            rows = some.hashes[start * each : (start + 20_000) * each].reshape(-1, each)
            tokens = [list(map(str, row)) for row in rows.tolist()]
            found += module.RMinHash.from_token_sets(tokens, num_perm=K, seed=42)
        return found

    whole = module.RMinHashLSH(threshold=THRESHOLD, num_perm=K, num_bands=BANDS)
    whole.insert_many(objects(sets))
    wanted = objects(asked)
    return (
        [Candidate("rensa insert_matrix", build), Candidate("rensa one-shot flags", flags, other="keeps no index")],
        [Candidate("rensa query_all", lambda: whole.query_all(wanted), other=UNVERIFIED)],
    )  # fmt: skip


def _minhashlib(peers: Peers, made: np.ndarray) -> Two:
    module = peers.get("minhashlib")
    if module is None:
        return [], []
    few = made[:20_000].astype(np.int64)

    def build() -> Any:
        index = module.MinHashLSH(num_perm=K, bands=BANDS, rows=ROWS)
        for i, row in enumerate(few):
            index.insert(i, row)
        return index

    return [Candidate("minhashlib", build, len(few) / len(made))], []


# --- memory ------------------------------------------------------------------------------------------

MEMORY = ("datasketch", "rensa", "FastSketchLSH", OURS)


def memory(peers: Peers, *, quick: bool) -> dict[str, Any]:
    """Target 12: bytes per item that an index adds to a fresh process, each in one of its own."""
    count = 5_000 if quick else 100_000
    rows, failed = [], {}
    with tempfile.TemporaryDirectory() as folder:
        for name in MEMORY:
            if name in peers.without:
                continue
            words = [
                sys.executable,
                str(Path(__file__).with_name("peers_memory.py")),
                name,
                str(count),
                folder,
            ]
            if name == OURS:
                subprocess.run([*words, "build"], capture_output=True, check=False)
            done = subprocess.run(words, capture_output=True, text=True, check=False)
            if done.returncode:
                failed[name] = done.stderr.strip().splitlines()[-1][:160]
                continue
            found = json.loads(done.stdout.splitlines()[-1])
            rows.append({"name": name, **{k: round(v / count) for k, v in found.items()}})
    size = {row["name"]: row for row in rows}
    verdicts = []
    for peer, bar in (("datasketch", 30.0), ("rensa", 5.0)):
        if OURS in size and peer in size:
            # Like with like: no peer keeps the signatures, so ours count without those that verified queries read.
            value = rounded(size[peer]["index"] / max(1, size[OURS]["index"]))
            same = {"median": value, "q1": value, "q3": value}
            title = f"resident bytes per item: {OURS} against {peer}"
            verdicts.append({**verdict(12, title, same, bar), "task": "memory", "peer": peer})
    return {
        "key": "memory", "part": "memory", "title": f"Memory of an LSH index of {count:,} signatures",
        "rows": rows, "verdicts": verdicts, "failed": failed, "facts": {"count": count},
    }  # fmt: skip


# --- containment search ------------------------------------------------------------------------------


def search(peers: Peers, *, quick: bool) -> Iterator[Task]:
    """Target 16: which of 2,000 registered sets of 10 to 10,000 elements contains the query? Threshold 0.7."""
    count = 200 if quick else 2_000
    rng = np.random.default_rng(4)
    sizes = (10 ** rng.uniform(1, 4, count)).astype(np.int64)
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    sets = Sets(rng.integers(0, 1 << 64, int(offsets[-1]), dtype=np.uint64), offsets)
    asked = _samples(sets, rng, 200)
    builds, finds = ours.containment(sets, asked, THRESHOLD)
    if module := peers.get("datasketch"):
        built, found = _ensemble(module, sets, asked)
        builds.append(built)
        finds.append(found)
    if module := peers.get("SetSimilaritySearch"):
        lists, wanted = sets.lists(sets.count), asked.lists(asked.count)
        few = lists[: count // 5]
        share = sum(map(len, few)) / int(offsets[-1])
        options = {"similarity_func_name": "containment", "similarity_threshold": THRESHOLD}
        index = module.SearchIndex(lists, **options)
        builds.append(Candidate("SetSimilaritySearch", lambda: module.SearchIndex(few, **options), share))
        finds.append(Candidate("SetSimilaritySearch", lambda: [index.query(s) for s in wanted]))
    corpus = f"{count:,} made sets, {int(offsets[-1]):,} elements"
    yield Task(
        "containment-build", "search", f"containment index of {count:,} sets", count / 1e3, "k sets", builds,
        [Target(16, "datasketch LSHEnsemble", 200.0)], corpus, rounds=3,
    )  # fmt: skip
    yield Task(
        "containment-query", "search", f"containment search among {count:,} sets", asked.count / 1e3, "k queries",
        finds,
        [Target(16, "datasketch LSHEnsemble", 10.0), Target(16, "SetSimilaritySearch", 100.0)],
        f"{asked.count} queries, 80 % of each from one of {corpus}",
    )  # fmt: skip


def _samples(sets: Sets, rng: np.random.Generator, count: int) -> Sets:
    """Return queries: four fifths of a registered set and as many strangers as make it its size again."""
    pieces = []
    for i in rng.integers(0, sets.count, count).tolist():
        own = sets.hashes[sets.offsets[i] : sets.offsets[i + 1]]
        kept = rng.permutation(own)[: max(1, len(own) * 4 // 5)]
        pieces.append(np.concatenate([kept, rng.integers(0, 1 << 64, len(own) - len(kept), dtype=np.uint64)]))
    offsets = np.concatenate([[0], np.cumsum([len(p) for p in pieces])]).astype(np.int64)
    return Sets(np.concatenate(pieces), offsets)


def _ensemble(module: Any, sets: Sets, asked: Sets) -> tuple[Candidate, Candidate]:
    def sketches(some: Sets) -> Any:
        return module.MinHash.bulk(some.lists(some.count, 32), num_perm=K, hashfunc=int)

    made, wanted = sketches(sets), sketches(asked)
    sizes, lengths = np.diff(sets.offsets).tolist(), np.diff(asked.offsets).tolist()

    def build() -> Any:
        index = module.MinHashLSHEnsemble(threshold=THRESHOLD, num_perm=K, num_part=16)
        index.index(zip(range(len(made)), made, sizes, strict=True))
        return index

    whole = build()

    def find() -> Any:
        return [list(whole.query(m, n)) for m, n in zip(wanted, lengths, strict=True)]

    name = "datasketch LSHEnsemble"
    return (
        Candidate(name, build, other="sketches made before the clock"),
        Candidate(name, find, other=f"{UNVERIFIED}; sketches made before the clock"),
    )


def tasks(part: str, peers: Peers, *, quick: bool) -> Iterator[Task]:
    """Return the tasks of one part."""
    yield from {"lsh": lsh, "search": search}[part](peers, quick=quick)
