"""Speed of the fingerprint kernels: `make bench`. Compiled and warm before the clock.

Their own course over time; how they stand beside others is measured by `peers.py`, paired.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import peers_ours as ours
from peers_corpora import disturbed, even_sets, near_sets, pages, word_column
from peers_harness import Candidate


def timed(benchmark: Any, candidates: Sequence[Candidate], work: int, unit: str) -> Any:
    """Time the first candidate after a run that compiles it; `extra_info` carries the rate."""
    if not candidates:
        pytest.skip(f"not in this build: {', '.join(ours.MISSING)}")
    run: Callable[[], object] = candidates[0].run
    run()
    result = benchmark(run)
    if benchmark.stats is not None:
        benchmark.extra_info["rate"] = f"{work / benchmark.stats['median'] / 1e6:.4g} M {unit}/s"
    return result


@pytest.fixture(scope="module")
def texts() -> Any:
    try:
        return pages("PEPs").part(100)
    except FileNotFoundError:
        pytest.skip("the development data are not here")


@pytest.mark.parametrize("n", [10, 100, 1_000, 10_000])
@pytest.mark.parametrize("k", [128, 256])
def test_sketch_sets(benchmark: Any, n: int, k: int) -> None:
    sets = even_sets(1_000_000 // n, n)
    made = timed(benchmark, ours.sketch_sets(sets, k), 1_000_000, "elements")
    assert made.shape == (sets.count, k)


@pytest.mark.parametrize("scheme", ["affine32", "legacy"])
def test_like_datasketch(benchmark: Any, scheme: str) -> None:
    sets = even_sets(1_000, 100)
    made = timed(benchmark, ours.like_datasketch(sets, 128, scheme), 100_000, "elements")
    assert made.shape == (1_000, 128)


def test_sketch_texts(benchmark: Any, texts: Any) -> None:
    made = timed(benchmark, ours.sketch_texts(texts.arrow, 5, 128), texts.size, "bytes")
    assert made.shape == (100, 128)


@pytest.mark.parametrize("which", [0, 1], ids=["internal mixer", "xxh3"])
def test_hash_words(benchmark: Any, texts: Any, which: int) -> None:
    words = word_column([texts])
    found = ours.hash_strings(pa.array(words, pa.large_string()))[which : which + 1]
    assert len(timed(benchmark, found, len(words), "strings")) == len(words)


def test_hash_large_buffer(benchmark: Any) -> None:
    data = np.random.default_rng(2).integers(0, 256, 1 << 26, dtype=np.uint8).tobytes()
    assert len(timed(benchmark, ours.hash_buffers([data]), len(data), "bytes")) == 1


def test_hash_rows(benchmark: Any) -> None:
    rng = np.random.default_rng(3)
    columns: dict[str, Any] = {f"n{i}": rng.integers(0, 1 << 40, 100_000) for i in range(5)}
    columns |= {f"t{i}": [f"x{v}" for v in rng.integers(0, 1 << 20, 100_000).tolist()] for i in range(5)}
    table = pa.table(columns)
    assert len(timed(benchmark, ours.hash_table_rows(table), 1_000_000, "cells")) == 100_000


def test_weighted(benchmark: Any) -> None:
    weights = np.random.default_rng(9).exponential(1.0, (200, 1_000))
    timed(benchmark, ours.weighted(weights, 128), 200_000, "components")


@pytest.mark.parametrize("rows", [1_000_000, 10_000_000])
@pytest.mark.parametrize("what", [0, 1], ids=["build", "ask"])
def test_bloom(benchmark: Any, rows: int, what: int) -> None:
    hashes = np.random.default_rng(6).integers(0, 1 << 64, rows, dtype=np.uint64)
    timed(benchmark, ours.probe(hashes, hashes[::-1].copy(), 16)[what], rows, "rows")


def test_frac(benchmark: Any) -> None:
    hashes = np.random.default_rng(6).integers(0, 1 << 64, 10_000_000, dtype=np.uint64)
    timed(benchmark, ours.keep(hashes, 1000), 10_000_000, "rows")


@pytest.mark.parametrize("what", [0, 1], ids=["build", "query"])
def test_lsh(benchmark: Any, what: int) -> None:
    sketch = ours.sketcher(128)
    if sketch is None:
        pytest.skip("no sketch in this build")
    sets = near_sets(50_000)
    asked = disturbed(sets, 10_000)
    pair = ours.lsh(sketch(sets), sketch(asked), 16, 8, 0.7)
    timed(benchmark, pair[what], (sets, asked)[what].count, "signatures")
