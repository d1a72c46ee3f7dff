"""Key-free fingerprints: hash, sketch, search, and tell whether one table is inside another.

A tour. Everything starts from 64-bit hashes of values, rows or pieces of text, made from Arrow columns:

>>> import numpy as np
>>> import pyarrow as pa
>>> from dataguard.fingerprints import (
...     Bloom, ContainmentIndex, HyperLogLog, InclusionTest, LshIndex, MinHash, MinHashLSH, Resemblance,
...     hash_column, hash_meanings, hash_rows, sketch_texts,
... )
>>> plane = pa.array([f"N{i}" for i in range(3000)])
>>> hashes = hash_column(plane)

**How alike are two sets?** Estimates come with limits, sketches of parts merge to the sketch of the whole,
and become bytes and come back:

>>> half, whole = Resemblance.of(hashes[:1500], size=1024), Resemblance.of(hashes, size=1024)
>>> alike = half.jaccard(whole)
>>> round(alike.value, 2), round(alike.low, 2), round(alike.high, 2), alike.confidence
(0.48, 0.43, 0.53, 0.998)
>>> half.merge(Resemblance.of(hashes[1500:], size=1024)) == whole == Resemblance.from_bytes(whole.to_bytes())
True
>>> round(HyperLogLog.build(hashes).cardinality().value, -2)
3000.0

**Near-duplicates among many texts**: 5-word shingles, one row of the matrix per text; the index finds rows.
With ``path=`` it is a folder, which ``LshIndex.open`` maps; ids are row numbers unless you give your own:

>>> plain = " ".join(f"word{i}" for i in range(200))
>>> pages = pa.array([plain, plain.replace("word99 ", ""), "another text " * 40])
>>> index = LshIndex.build(sketch_texts(pages), threshold=0.7)
>>> found = index.query(sketch_texts(pages)[:1])
>>> found.ids.tolist(), found.estimates.round(2).tolist()
([0, 1], [1.0, 0.95])

**Which of many columns hold this one?** Sets lie end to end, set i at ``offsets[i]`` to ``offsets[i + 1]``:

>>> columns = [plane, pa.array(range(500))]
>>> borders = np.cumsum([0, *map(len, columns)])
>>> held = ContainmentIndex.build(np.concatenate([hash_column(c) for c in columns]), borders)
>>> answer = held.query(hashes[70:90], [0, 20], threshold=0.7, direction="query")
>>> answer.ids.tolist(), answer.shared.tolist(), answer.query_shares.tolist()
([0], [20], [1.0])

**Are rows of my table in that one?** A hundred rows among ten thousand are found at 2 bytes a row. Rows
meet if they have the same columns, in one order, with values of the same types (see `hash_rows`):

>>> mine = pa.table({"plane": plane, "day": [i % 31 for i in range(3000)]})
>>> theirs = pa.table({"plane": [f"X{i}" for i in range(9900)], "day": [1] * 9900})
>>> suspect = pa.concat_tables([theirs, mine.slice(700, 100)])
>>> test = InclusionTest.build(hash_rows(mine))
>>> test.decide(hash_rows(suspect)).answer, test.decide(hash_rows(theirs)).answer
('found', 'not-found')
>>> bool(Bloom.build(hashes).contains(hashes).all())
True

A table that has been through a CSV file or pandas has other types; hashes of meanings do not see that:

>>> def rows_by_meaning(table):
...     return hash_rows([pa.array(hash_meanings(column)) for column in table.columns])
>>> typed, written = pa.table({"price": [1000, 25]}), pa.table({"price": ["1,000.0", "25.00"]})
>>> (rows_by_meaning(typed) == rows_by_meaning(written)).tolist()
[True, True]

**Coming from datasketch**: `MinHash` and `MinHashLSH` are called as there, with the same values bit for bit;
`to_datasketch`, `from_datasketch_lsh` and their like carry what you have over, and back:

>>> one, other = MinHash(), MinHash()
>>> one.update_batch([b"a", b"b", b"c"])
>>> other.update_batch([b"a", b"b", b"d"])
>>> lsh = MinHashLSH(threshold=0.4)
>>> lsh.insert("one", one)
>>> lsh.query(other)
['one']

=============================  ==========================================================================
of datasketch and others       here
=============================  ==========================================================================
MinHash, bulk, LeanMinHash     `MinHash`; frozen: `KMins` (the same values) or `Resemblance` (faster)
MinHashLSH                     `MinHashLSH` (any keys, in memory) or `LshIndex` (arrays, on disk, verified)
MinHashLSHForest               `LshIndex.query` with a low threshold, sorted by its estimates
MinHashLSHEnsemble             `ContainmentIndex`: exact counts, both directions
HyperLogLog, HyperLogLog++     `HyperLogLog`
WeightedMinHashGenerator       `Weighted`: another similarity, J_P, the same for scaled weights
sourmash's FracMinHash         `Frac`
=============================  ==========================================================================

Arguments: hashes are flat uint64 arrays of all 64 bits (`hash_column`, `hash_rows`, `hash_values` for numpy and
lists, `word_shingles`), columns are Arrow's. `hash_scheme` is a number that says how elements were hashed; sketches
of different ones refuse each other. Wrong input raises `dataguard.errors.DataguardError`, in one line.

Loops are compiled at the first call, which takes seconds, in every process anew. With the environment variable
``DATAGUARD_NUMBA_CACHE=1``, set before the first call, they are kept on disk and start in a fraction of a second.
Names are imported when first used, so that ``import dataguard.fingerprints`` stays cheap. Bytes and folders are
specified in ``docs/formats.md``, sections 15 to 17.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__all__ = [
    "Bands",
    "Bloom",
    "BloomBuilder",
    "ContainmentIndex",
    "Estimate",
    "FileDigest",
    "Frac",
    "HashScheme",
    "Hits",
    "HyperLogLog",
    "Inclusion",
    "InclusionTest",
    "KMins",
    "LshIndex",
    "Matches",
    "MinHash",
    "MinHashLSH",
    "Needs",
    "Overlaps",
    "Resemblance",
    "Weighted",
    "bands_and_rows",
    "bands_within",
    "character_shingles",
    "choose_bands",
    "compare_rows",
    "digest_file",
    "from_datasketch",
    "from_datasketch_lsh",
    "hash_bytes",
    "hash_column",
    "hash_meanings",
    "hash_rows",
    "hash_values",
    "kmins_lists",
    "kmins_sets",
    "lean_from_bytes",
    "lean_to_bytes",
    "signatures",
    "sketch_sets",
    "sketch_texts",
    "sketch_weighted",
    "to_datasketch",
    "to_datasketch_lsh",
    "word_shingles",
]

_HOMES = {
    "Bands": "index.bands",
    "Bloom": "sketches.bloom",
    "BloomBuilder": "sketches.bloom",
    "ContainmentIndex": "index.containment",
    "Estimate": "sketches.estimate",
    "FileDigest": "hashing.files",
    "Frac": "sketches.frac",
    "HashScheme": "hashing.schemes",
    "Hits": "sketches.bloom",
    "HyperLogLog": "sketches.hyperloglog",
    "KMins": "sketches.kmins",
    "InclusionTest": "sketches.inclusion",
    "LshIndex": "index.lsh",
    "Matches": "index.lsh",
    "MinHash": "minhash",
    "MinHashLSH": "minhash_lsh",
    "Needs": "index.lsh",
    "Overlaps": "index.containment",
    "Resemblance": "sketches.resemblance",
    "Inclusion": "sketches.inclusion",
    "Weighted": "sketches.weighted",
    "bands_and_rows": "minhash_lsh",
    "bands_within": "index.bands",
    "character_shingles": "shingles.texts",
    "choose_bands": "index.bands",
    "compare_rows": "sketches.resemblance",
    "digest_file": "hashing.files",
    "from_datasketch": "interop",
    "from_datasketch_lsh": "interop",
    "hash_bytes": "hashing.schemes",
    "hash_column": "hashing.columns",
    "hash_meanings": "hashing.meanings",
    "hash_rows": "hashing.rows",
    "hash_values": "hashing.columns",
    "kmins_lists": "sketches.permutations",
    "kmins_sets": "sketches.permutations",
    "lean_from_bytes": "interop",
    "lean_to_bytes": "interop",
    "signatures": "minhash_schemes",
    "sketch_sets": "sketches.resemblance",
    "sketch_texts": "shingles.texts",
    "sketch_weighted": "sketches.weighted",
    "to_datasketch": "interop",
    "to_datasketch_lsh": "interop",
    "word_shingles": "shingles.texts",
}

if TYPE_CHECKING:
    from dataguard.fingerprints.hashing.columns import hash_column, hash_values
    from dataguard.fingerprints.hashing.files import FileDigest, digest_file
    from dataguard.fingerprints.hashing.meanings import hash_meanings
    from dataguard.fingerprints.hashing.rows import hash_rows
    from dataguard.fingerprints.hashing.schemes import HashScheme, hash_bytes
    from dataguard.fingerprints.index.bands import Bands, bands_within, choose_bands
    from dataguard.fingerprints.index.containment import ContainmentIndex, Overlaps
    from dataguard.fingerprints.index.lsh import LshIndex, Matches, Needs
    from dataguard.fingerprints.interop import (
        from_datasketch,
        from_datasketch_lsh,
        lean_from_bytes,
        lean_to_bytes,
        to_datasketch,
        to_datasketch_lsh,
    )
    from dataguard.fingerprints.minhash import MinHash
    from dataguard.fingerprints.minhash_lsh import MinHashLSH, bands_and_rows
    from dataguard.fingerprints.minhash_schemes import signatures
    from dataguard.fingerprints.shingles.texts import character_shingles, sketch_texts, word_shingles
    from dataguard.fingerprints.sketches.bloom import Bloom, BloomBuilder, Hits
    from dataguard.fingerprints.sketches.estimate import Estimate
    from dataguard.fingerprints.sketches.frac import Frac
    from dataguard.fingerprints.sketches.hyperloglog import HyperLogLog
    from dataguard.fingerprints.sketches.inclusion import Inclusion, InclusionTest
    from dataguard.fingerprints.sketches.kmins import KMins
    from dataguard.fingerprints.sketches.permutations import kmins_lists, kmins_sets
    from dataguard.fingerprints.sketches.resemblance import Resemblance, compare_rows, sketch_sets
    from dataguard.fingerprints.sketches.weighted import Weighted, sketch_weighted


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
