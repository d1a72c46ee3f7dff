"""No way leads to the arrays inside a sketch, and copies of a sketch are sketches again."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest

from dataguard.fingerprints.sketches.bloom import Bloom
from dataguard.fingerprints.sketches.frac import Frac
from dataguard.fingerprints.sketches.hyperloglog import HyperLogLog
from dataguard.fingerprints.sketches.inclusion import InclusionTest
from dataguard.fingerprints.sketches.kmins import KMins
from dataguard.fingerprints.sketches.resemblance import Resemblance
from dataguard.fingerprints.sketches.weighted import Weighted

Z = np.random.default_rng(3).integers(0, 1 << 64, 3000, dtype=np.uint64)
SKETCHES = {
    "bloom": Bloom.build(Z, hash_scheme=2),
    "frac": Frac.build(Z, scaled=4),
    "hyperloglog": HyperLogLog.build(Z),
    "kmins": KMins.of_hashes(Z >> np.uint64(32)),
    "resemblance": Resemblance.of(Z),
    "weighted": Weighted.build(Z[:50], np.ones(50)),
}


@pytest.mark.parametrize("name", SKETCHES)
def test_copies_and_pickles_are_the_same_and_as_closed(name: str) -> None:
    sketch: Any = SKETCHES[name]
    for other in (copy.deepcopy(sketch), copy.copy(sketch), pickle.loads(pickle.dumps(sketch))):
        assert other.to_bytes() == sketch.to_bytes()
        arrays = [a for n in type(other).__slots__ if isinstance(a := getattr(other, n), np.ndarray)]
        assert arrays
        for array in arrays:
            assert not array.flags.writeable
            assert array.base is None or not array.base.flags.writeable


def test_the_array_a_sketch_was_cut_from_can_change() -> None:
    base = np.arange(10, dtype=np.uint64)
    sketch = Frac(base[2:6], 1)
    words = np.zeros((4, 8), np.uint32)
    bloom = Bloom(words[1:3])
    registers = np.zeros(64, np.uint8)
    counter = HyperLogLog(registers[:16])
    base[3], words[1, 1], registers[2] = 99, 7, 9
    assert sketch.hashes.tolist() == [2, 3, 4, 5]
    assert not bloom.words.any()
    assert not counter.registers.any()


def test_one_shared_row_does_not_become_found_by_adding_others() -> None:
    rng = np.random.default_rng(1)
    table = rng.integers(0, 1 << 64, 200_000, dtype=np.uint64)
    table[0] = 5  # kept by the first tier: small
    test = InclusionTest.build(table)
    for unrelated in (1_000, 50_000, 200_000):
        suspect = np.append(rng.integers(0, 1 << 64, unrelated, dtype=np.uint64), table[0])
        assert test.decide(suspect).answer != "found"


@pytest.mark.parametrize("kind", [Resemblance, KMins, Frac])
def test_of_two_empty_sets_nothing_is_said(kind: Any) -> None:
    nothing = np.empty(0, np.uint64)
    make = {Resemblance: Resemblance.of, KMins: KMins.of_hashes, Frac: Frac.build}[kind]
    one = make(nothing)
    answer = one.jaccard(make(nothing))
    assert (answer.value, answer.low, answer.high) == (0, 0, 1)
