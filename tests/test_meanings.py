"""The same values in other formats are the same elements."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dataguard.fingerprints.hashing.meanings import hash_meanings
from dataguard.fingerprints.hashing.schemes import NULL_HASH
from dataguard.fingerprints.sketches.resemblance import Resemblance

FLIGHTS = Path(__file__).resolve().parents[1] / "src" / "dataguard" / "data" / "flights_2013_01.parquet"


def test_numbers_meet_in_every_format() -> None:
    plain = hash_meanings(pa.array([1000, 2500.5, None, 12]))
    assert plain[2] == NULL_HASH
    for texts in (
        ["1,000.0", "2,500.50", "", "12"],
        ["１０００", "２５００．５", "NA", "１２"],
        ["¥1,000", "¥2,500.5", None, "¥12"],
    ):
        assert (hash_meanings(pa.array(texts)) == plain).all(), texts


def test_real_columns_written_otherwise_have_the_same_sketch() -> None:
    table = pq.read_table(FLIGHTS, columns=["distance", "tailnum"])
    distance, tail = table["distance"], table["tailnum"]
    shown = pa.array([None if v is None else f"{v:,.1f}" for v in distance.to_pylist()])
    narrow = pa.array([None if v is None else f" {v.lower()}" for v in tail.to_pylist()])
    for one, other in ((distance, shown), (tail, narrow)):
        a, b = (Resemblance.of(hash_meanings(c), hash_scheme=3) for c in (one, other))
        assert a == b
        assert a.jaccard(b).value == 1


def test_hashes_of_texts_use_all_their_bits() -> None:
    hashes = hash_meanings(pa.array([f"text {i}" for i in range(2000)]))
    share = ((hashes[:, None] >> np.arange(64, dtype=np.uint64)) & np.uint64(1)).mean(axis=0)
    # 64 bits at 2,000 draws: beyond 5 standard deviations has a chance of 4e-5 in all.
    assert np.abs(share - 0.5).max() < 5 * 0.5 / np.sqrt(2000)
