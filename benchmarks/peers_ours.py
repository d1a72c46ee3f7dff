"""dataguard's side of the paired benchmark: public functions only, each looked up when it is asked for.

Every function returns candidates; an empty list when a part of the package is not there, which `MISSING`
remembers for the report. Everything that has to be compiled or loaded is done in the unmeasured first run.
"""

from __future__ import annotations

import importlib
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numba  # noqa: F401  loaded: while it is not, small inputs take plain paths, which are not what is timed
import numpy as np
import pyarrow as pa

from peers_corpora import Sets
from peers_harness import OURS, Candidate

MISSING: dict[str, str] = {}
"""Functions of the package that could not be imported, with the reason."""

PACKAGE = "dataguard.fingerprints"


def find(path: str) -> Any:
    """Return `module:name` below the fingerprints package, or None (noted in `MISSING`)."""
    module, _, name = path.partition(":")
    try:
        return getattr(importlib.import_module(f"{PACKAGE}.{module}"), name)
    except (ImportError, AttributeError) as error:
        MISSING[path] = f"{type(error).__name__}: {error}"
        return None


# --- hashing -----------------------------------------------------------------------------------------


def hash_strings(array: pa.Array) -> list[Candidate]:
    """Hash an Arrow string column: the internal mixer first, then the interoperable xxh3_64."""
    hash_column, scheme = find("hashing.columns:hash_column"), find("hashing.schemes:HashScheme")
    if hash_column is None or scheme is None:
        return []
    return [
        Candidate(f"{OURS} dgmum", lambda: hash_column(array, scheme=scheme.DGMUM_1)),
        Candidate(f"{OURS} xxh3", lambda: hash_column(array, scheme=scheme.XXH3_64)),
    ]


def hash_buffers(pieces: Sequence[bytes]) -> list[Candidate]:
    """Hash large buffers with xxh3_64: one Arrow binary column that holds them."""
    hash_column, scheme = find("hashing.columns:hash_column"), find("hashing.schemes:HashScheme")
    if hash_column is None or scheme is None:
        return []
    array = pa.array(pieces, pa.large_binary())
    return [Candidate(f"{OURS} xxh3", lambda: hash_column(array, scheme=scheme.XXH3_64))]


def hash_table_rows(table: pa.Table) -> list[Candidate]:
    """Hash the rows of a table."""
    hash_rows = find("hashing.rows:hash_rows")
    return [Candidate(OURS, lambda: hash_rows(table))] if hash_rows else []


# --- signatures --------------------------------------------------------------------------------------


def sketcher(k: int) -> Callable[[Sets], np.ndarray] | None:
    """Return sets -> (n, k) uint32 resemblance signatures."""
    sketch = find("sketches.resemblance:sketch_sets")
    return None if sketch is None else lambda sets: sketch(sets.hashes, sets.offsets, size=k)


def sketch_sets(sets: Sets, k: int) -> list[Candidate]:
    """Sketch prehashed sets; the second candidate writes into a matrix that is there already."""
    sketch = find("sketches.resemblance:sketch_sets")
    if sketch is None:
        return []
    out = np.empty((sets.count, k), np.uint32)
    return [
        Candidate(OURS, lambda: sketch(sets.hashes, sets.offsets, size=k)),
        Candidate(f"{OURS} into a matrix kept", lambda: sketch(sets.hashes, sets.offsets, size=k, out=out)),
    ]


def sketch_lists(lists: Sequence[Sequence[str]], k: int) -> list[Candidate]:
    """Sketch Python lists of strings by way of one Arrow list column."""
    sketch, hash_column = find("sketches.resemblance:sketch_sets"), find("hashing.columns:hash_column")
    if sketch is None or hash_column is None:
        return []

    def run() -> Any:
        column = pa.array(lists, pa.large_list(pa.large_string()))
        return sketch(hash_column(column.values), column.offsets.to_numpy(), size=k)

    return [Candidate(OURS, run)]


def sketch_texts(array: pa.Array, words: int, k: int) -> list[Candidate]:
    """Sketch a column of documents by their word shingles."""
    sketch = find("shingles.texts:sketch_texts")
    return [Candidate(OURS, lambda: sketch(array, words=words, size=k))] if sketch else []


def like_datasketch(sets: Sets, k: int, scheme: str) -> list[Candidate]:
    """Compute datasketch's own values (seed 1) of the upper 32 bits of the hashes."""
    kmins = find("sketches.permutations:kmins_sets")
    if kmins is None:
        return []
    values = sets.hashes >> np.uint64(32)
    return [
        Candidate(f"{OURS} {scheme}", lambda: kmins(values, sets.offsets, num_perm=k, seed=1, scheme=scheme))
    ]


def weighted(weights: np.ndarray, k: int) -> list[Candidate]:
    """Sketch weighted vectors (ProbMinHash, J_P)."""
    sketch = find("sketches.weighted:sketch_weighted")
    if sketch is None:
        return []
    count, dim = weights.shape
    elements = np.tile(np.arange(dim, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15), count)
    offsets = np.arange(count + 1, dtype=np.int64) * dim
    flat = weights.reshape(-1)
    return [Candidate(f"{OURS}", lambda: sketch(elements, flat, offsets, size=k))]


# --- leaks -------------------------------------------------------------------------------------------


def filters(hashes: np.ndarray, bits: float) -> tuple[int, Callable[[np.ndarray], float]] | None:
    """Return the bytes of a Bloom filter of a table, and suspect hashes -> share inside."""
    bloom = find("sketches.bloom:Bloom")
    if bloom is None:
        return None
    made = bloom.build(hashes, bits_per_row=bits)
    return len(made.to_bytes()), lambda suspect: float(made.containment(suspect).value)


def fractions(hashes: np.ndarray, scaled: int) -> tuple[int, Callable[[np.ndarray], float]] | None:
    """Return the bytes of a FracMinHash sketch of a table, and suspect hashes -> share inside (0 if none is kept)."""
    frac = find("sketches.frac:Frac")
    if frac is None:
        return None
    made = frac.build(hashes, scaled)

    def share(suspect: np.ndarray) -> float:
        return float(made.containment(frac.build(suspect, scaled)).value)

    return len(made.to_bytes()), share


def probe(hashes: np.ndarray, suspect: np.ndarray, bits: float) -> tuple[list[Candidate], list[Candidate]]:
    """Build a filter of a table; ask it for every row of a suspect."""
    bloom = find("sketches.bloom:Bloom")
    if bloom is None:
        return [], []
    made = bloom.build(hashes, bits_per_row=bits)
    name = f"{OURS} Bloom, {bits:g} bit per row"
    return (
        [Candidate(name, lambda: bloom.build(hashes, bits_per_row=bits))],
        [Candidate(name, lambda: made.count(suspect))],
    )


def keep(hashes: np.ndarray, scaled: int) -> list[Candidate]:
    """Make a FracMinHash sketch."""
    frac = find("sketches.frac:Frac")
    return [Candidate(f"{OURS} Frac 1/{scaled}", lambda: frac.build(hashes, scaled))] if frac else []


# --- indexes -----------------------------------------------------------------------------------------


class _Kept:
    """An index in a folder of its own, which goes when the index does (after the clock has stopped)."""

    def __init__(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name) / "index"

    def __del__(self) -> None:
        self.folder.cleanup()


def lsh(
    made: np.ndarray, queries: np.ndarray, bands: int, rows: int, threshold: float
) -> tuple[list[Candidate], list[Candidate]]:
    """Build a band index of signatures, in memory and on disk; ask it for all queries at once."""
    index = find("index.lsh:LshIndex")
    if index is None:
        return [], []

    def on_disk() -> Any:
        kept = _Kept()
        with index.build(made, threshold=threshold, bands=(bands, rows), path=kept.path):
            return kept

    whole = index.build(made, threshold=threshold, bands=(bands, rows))
    return (
        [
            Candidate(OURS, lambda: index.build(made, threshold=threshold, bands=(bands, rows))),
            Candidate(
                f"{OURS} into a folder", on_disk, other="writes index and signatures, mapped afterwards"
            ),
        ],
        [
            Candidate(OURS, lambda: whole.query(queries), other="verified, with estimates"),
            Candidate(
                f"{OURS} unverified", lambda: whole.query(queries, verify=False), other="candidates only"
            ),
        ],
    )


def lsh_write(made: np.ndarray, path: Path, bands: int, rows: int) -> None:
    """Write an index to a folder."""
    index = find("index.lsh:LshIndex")
    if index is not None:
        index.build(made, bands=(bands, rows), path=path).close()


def lsh_open(path: Path) -> Any:
    """Open an index that is on disk: it has `query(signatures, verify=)`."""
    index = find("index.lsh:LshIndex")
    return None if index is None else index.open(path)


def containment(sets: Sets, asked: Sets, threshold: float) -> tuple[list[Candidate], list[Candidate]]:
    """Index registered sets by their elements; ask which of them contains each query, with exact counts."""
    index = find("index.containment:ContainmentIndex")
    if index is None:
        return [], []

    def ask(made: Any) -> Any:
        return made.query(asked.hashes, asked.offsets, threshold, direction="query")

    whole = index.build(sets.hashes, sets.offsets)
    some = index.build(sets.hashes, sets.offsets, scale=16)
    sampled = f"{OURS} one element of 16"
    return (
        [
            Candidate(OURS, lambda: index.build(sets.hashes, sets.offsets)),
            Candidate(sampled, lambda: index.build(sets.hashes, sets.offsets, scale=16)),
        ],
        [
            Candidate(OURS, lambda: ask(whole), other="exact counts"),
            Candidate(sampled, lambda: ask(some), other="estimates with limits"),
        ],
    )
