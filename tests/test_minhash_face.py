"""`MinHash` and `MinHashLSH` against datasketch's own: same values, same answers, and no compiler for small jobs."""

from __future__ import annotations

import doctest
import importlib
import subprocess
import sys

import datasketch
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xxhash
from datasketch.lsh import _optimal_param

from conftest import shared
from dataguard.errors import SchemeMismatch, UsageError
from dataguard.fingerprints.minhash import MinHash
from dataguard.fingerprints.minhash_lsh import MinHashLSH, bands_and_rows
from dataguard.fingerprints.minhash_schemes import ALL_SCHEMES, MinHashError, MinHashMismatch, signatures
from dataguard.fingerprints.sketches.kmins import KMins
from dataguard.fingerprints.sketches.permutations import SCHEMES
from dataguard.fingerprints.sketches.resemblance import Resemblance

RNG = np.random.default_rng(20)


def random_sets(count: int, seed: int = 3) -> list[list[bytes]]:
    """Sets of 0 to 60 of 400 words: pairs of every similarity."""
    rng = np.random.default_rng(seed)
    words = [b"word%d" % i for i in range(400)]
    sets: list[list[bytes]] = [[]]
    while len(sets) < count:
        if len(sets) > 10 and rng.random() < 0.5:
            base = sets[int(rng.integers(len(sets)))]
            kept = [w for w in base if rng.random() < 0.9]
            sets.append([*kept, *(words[i] for i in rng.integers(0, 400, 3))])
        else:
            sets.append([words[i] for i in rng.integers(0, 400, int(rng.integers(1, 60)))])
    return sets


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("num_perm", [1, 17, 128])
def test_values_are_those_of_datasketch(scheme: str, num_perm: int) -> None:
    sets = random_sets(40)
    theirs = datasketch.MinHash.bulk(sets, num_perm=num_perm, seed=7, scheme=scheme)
    ours = MinHash.bulk(sets, num_perm=num_perm, seed=7, scheme=scheme)
    for one, other, elements in zip(ours, theirs, sets, strict=True):
        assert np.array_equal(one.hashvalues, other.hashvalues)
        grown = MinHash(num_perm, 7, scheme=scheme)
        for element in elements:
            grown.update(element)
        assert grown == one
        assert one.count() == pytest.approx(other.count(), rel=1e-12)
        assert one.is_empty() == other.is_empty()
    assert ours[1].jaccard(ours[2]) == theirs[1].jaccard(theirs[2])
    both = MinHash.union(ours[1], ours[2], ours[3])
    assert np.array_equal(both.digest(), datasketch.MinHash.union(*theirs[1:4]).digest())


@pytest.mark.parametrize("scheme", ALL_SCHEMES)
def test_a_signature_grows_copies_merges_and_clears(scheme: str) -> None:
    one, other, whole = (MinHash(scheme=scheme) for _ in range(3))
    elements = [f"element {i}" for i in range(300)]
    one.update_batch(elements[:150])
    other.update_batch(elements[100:])
    whole.update_batch(elements[::-1])
    kept = one.copy()
    one.merge(other)
    assert one == whole
    assert one != kept
    assert kept.jaccard(one) == pytest.approx(0.5, abs=0.2)
    kept.clear()
    assert kept.is_empty()
    assert kept == MinHash(scheme=scheme)
    with pytest.raises(ValueError, match="read-only"):
        one.hashvalues[0] = 0
    digest = one.digest()
    digest[0] ^= 1
    assert digest[0] != one.digest()[0]


@pytest.mark.parametrize("scheme", ALL_SCHEMES)
def test_the_frozen_signature_goes_there_and_back(scheme: str) -> None:
    grown = MinHash(64, scheme=scheme, hashfunc="xxh3")
    grown.update_batch(["a", "b"])
    frozen = grown.sketch()
    assert isinstance(frozen, Resemblance if scheme == "fss" else KMins)
    assert type(frozen).from_bytes(frozen.to_bytes()) == frozen
    again = MinHash.from_sketch(frozen)
    again.update("c")
    grown.update("c")
    assert again == grown
    assert frozen != grown.sketch()


def test_hash_functions_by_name_and_by_hand_agree() -> None:
    elements = [b"x%d" % i for i in range(50)]
    named = MinHash(hashfunc="xxh3")
    named.update_batch(elements)
    own = MinHash(hashfunc=lambda b: xxhash.xxh3_64_intdigest(b) & 0xFFFFFFFF)
    own.update_batch(elements)
    assert np.array_equal(named.hashvalues, own.hashvalues)
    wide = MinHash(hashfunc=xxhash.xxh3_64_intdigest, scheme="affine64")
    wide.update_batch(elements)
    given = MinHash(hashfunc="given", scheme="affine64")
    given.update_batch(map(xxhash.xxh3_64_intdigest, elements))
    assert np.array_equal(wide.hashvalues, given.hashvalues)


@pytest.mark.parametrize("wrong", [-1, 1.5, "7", None])
def test_a_wrong_hash_does_not_take_its_neighbours_with_it(wrong: object) -> None:
    made = MinHash(hashfunc=lambda element: element)
    made.update(5)
    made.update(wrong)
    for _ in range(2):
        with pytest.raises(MinHashError, match="no unsigned integer"):
            made.digest()
    made.clear()
    assert made.is_empty()


@pytest.mark.parametrize("scheme", ALL_SCHEMES)
def test_values_are_read_only_wherever_they_come_from(scheme: str) -> None:
    fresh = MinHash(64, scheme=scheme)
    model = MinHash.bulk([["a"]], num_perm=64, scheme=scheme)[0]
    grown = list(model._many([["b"], ["c"]]))
    for one in (fresh, fresh.copy(), model, *grown, MinHash.from_sketch(model.sketch())):
        assert not one.hashvalues.flags.writeable


def test_many_elements_take_another_path_to_the_same_values() -> None:
    elements = [b"%d" % i for i in range(9_000)]
    at_once = MinHash()
    at_once.update_batch(elements)
    theirs = datasketch.MinHash()
    theirs.update_batch(elements)
    assert np.array_equal(at_once.hashvalues, theirs.hashvalues)
    slowly = MinHash()
    for element in elements:
        slowly.update(element)
    assert slowly == at_once


@pytest.mark.parametrize("scheme", ALL_SCHEMES)
def test_arrow_columns(scheme: str) -> None:
    column = pa.array([["a", "bc", "a"], [], None, ["", "ü"]], pa.large_list(pa.string()))
    rows = signatures(column, num_perm=64, scheme=scheme)
    for row, elements in zip(rows, column.to_pylist(), strict=True):
        alone = MinHash(64, scheme=scheme)
        alone.update_batch(elements or [])
        assert np.array_equal(row, alone.hashvalues)
    sliced = signatures(pa.chunked_array([column, column]).slice(3, 2), num_perm=64, scheme=scheme)
    assert np.array_equal(sliced, rows[[3, 0]])


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: MinHash(0),
        lambda: MinHash(128, -1),
        lambda: MinHash(scheme="affine16"),
        lambda: MinHash(hashfunc="md5"),
        lambda: MinHash(hashfunc=3),
        lambda: MinHash(hashvalues=[1, 2]),
        lambda: MinHash(hashvalues=[1, 1 << 40], scheme="affine32"),
        lambda: MinHash(100, scheme="fss"),
        lambda: MinHash(seed=2, scheme="fss"),
        lambda: MinHash().update(3),
        lambda: MinHash().update("\ud800"),
        lambda: MinHash(hashfunc=lambda _: 1 << 33).update_batch(["a"] * 9_000),
        lambda: MinHash(hashfunc=lambda _: -1).update_batch(["a"] * 9_000),
        lambda: MinHash(scheme="fss").count(),
        lambda: MinHash.union(MinHash()),
        lambda: signatures(pa.array(["a"])),
        lambda: signatures(pa.array([["a", None]])),
        lambda: signatures(pa.array([[1.5]])),
        lambda: signatures([["a"]]),
        lambda: MinHash(hashfunc="given").update("12"),
        lambda: MinHash.bulk([["a"]], hashfunc=lambda _: 2**32 - 1, scheme="fss"),
        lambda: MinHash.bulk([[1.5]], hashfunc=float),
        lambda: MinHashLSH(1.5),
        lambda: MinHashLSH(0.5, 1),
        lambda: MinHashLSH(0.5, weights=(0.5, 0.6)),
        lambda: MinHashLSH(params=(16, 9)),
        lambda: MinHashLSH(params=(1, 9)),
    ],
)
def test_wrong_use_is_one_clear_line(wrong: object) -> None:
    with pytest.raises(UsageError) as told:
        wrong()  # type: ignore[operator]
    assert "\n" not in str(told.value)


def test_unlike_signatures_are_refused_as_value_errors_too() -> None:
    base = MinHash()
    for other in (MinHash(64), MinHash(seed=2), MinHash(scheme="legacy"), MinHash(hashfunc="xxh3")):
        with pytest.raises(MinHashMismatch) as told:
            base.jaccard(other)
        assert isinstance(told.value, SchemeMismatch)
        assert isinstance(told.value, ValueError)


@pytest.mark.parametrize("num_perm", [2, 16, 128])
def test_bands_are_those_datasketch_chooses(num_perm: int) -> None:
    for weights in ((0.5, 0.5), (0.1, 0.9), (0.8, 0.2)):
        for percent in range(3, 100, 12):
            theirs = _optimal_param(percent / 100, num_perm, *weights)
            assert bands_and_rows(percent / 100, num_perm, weights) == theirs


def same_answers(sets: list[list[bytes]], threshold: float, scheme: str) -> int:
    theirs = datasketch.MinHash.bulk(sets, scheme=scheme)
    ours = MinHash.bulk(sets, scheme=scheme)
    index, other = MinHashLSH(threshold), datasketch.MinHashLSH(threshold)
    assert (index.b, index.r) == (other.b, other.r)
    for key, (one, two) in enumerate(zip(ours, theirs, strict=True)):
        index.insert(key, one)
        other.insert(key, two)
    removed = range(0, len(sets), 7)
    for key in removed:
        index.remove(key)
        other.remove(key)
    found = 0
    for one, two in zip(ours, theirs, strict=True):
        answer = index.query(one)
        assert answer == sorted(other.query(two))
        assert index.query(two) == answer
        found += len(answer)
    # Bands as bytes differ in their order only.
    assert [sorted(c.values()) for c in index.get_counts()] == [
        sorted(c.values()) for c in other.get_counts()
    ]
    assert 0 not in index
    assert 1 in index
    return found


@pytest.mark.parametrize(("threshold", "scheme"), [(0.3, "affine32"), (0.5, "legacy"), (0.8, "affine64")])
def test_an_index_answers_as_datasketch_does(threshold: float, scheme: str) -> None:
    assert same_answers(random_sets(2_000), threshold, scheme) > 2_000


def test_an_index_of_real_pages_answers_as_datasketch_does() -> None:
    texts = pq.read_table(shared("text/python_peps.parquet")).to_pylist()
    name = max(texts[0], key=lambda k: len(str(texts[0][k])))
    words = [str(t[name]).encode().split()[:600] for t in texts[:400]]
    sets = [[b" ".join(w[i : i + 2]) for i in range(len(w) - 1)] for w in words]
    sets += [s[: len(s) * 9 // 10] for s in sets[::4]]
    assert same_answers(sets, 0.5, "affine32") > len(sets)


def test_an_index_keeps_its_rules() -> None:
    first, second = MinHash.bulk([["a", "b", "c"], ["a", "b", "c", "d"]])
    index = MinHashLSH(0.5)
    assert index.is_empty()
    assert index.query(first) == []
    with index.insertion_session() as session:
        session.insert(("any", "key"), first)
        session.insert(None, second.sketch())
    assert index.query(second) == [("any", "key"), None]
    (top, share), (_, less) = index.ranked(second)
    assert (top, share) == (None, 1.0)
    assert less == np.mean(first.hashvalues[:125] == second.hashvalues[:125])
    assert index.ranked(second, at_least=0.99) == [(None, 1.0)]
    with pytest.raises(ValueError, match="exists"):
        index.insert(None, first)
    with pytest.raises(ValueError, match="no key"):
        index.remove("other")
    for unlike in (MinHash(64), MinHash(seed=2), MinHash(scheme="legacy")):
        with pytest.raises(MinHashMismatch):
            index.insert("unlike", unlike)
        with pytest.raises(MinHashMismatch):
            index.query(unlike)
    assert list(index) == [("any", "key"), None]
    assert len(index) == 2


def test_indexes_merge_and_empty_without_a_trace() -> None:
    made = MinHash.bulk(random_sets(60))
    whole, left, right = (MinHashLSH(0.4) for _ in range(3))
    for key, one in enumerate(made):
        whole.insert(key, one)
        (left if key < 30 else right).insert(key, one)
    left.merge(right)
    assert all(left.query(one) == whole.query(one) for one in made)
    with pytest.raises(MinHashError, match="overlap"):
        left.merge(right, check_overlap=True)
    with pytest.raises(MinHashError, match="parameters"):
        left.merge(MinHashLSH(0.9))
    left.insert(3, made[4], check_duplication=False)
    with left.deletion_session() as session:
        for key in range(60):
            session.remove(key)
    assert left.is_empty()
    assert not any(left.get_counts())


def test_small_jobs_start_no_compiler_and_the_face_is_cheap() -> None:
    code = (
        "import sys, dataguard.fingerprints as fp\n"
        "cheap = 'numpy' not in sys.modules\n"
        "for scheme in ('affine32', 'affine64', 'legacy', 'fss'):\n"
        "    made = fp.MinHash.bulk([[f't{i}' for i in range(300)]] * 20, scheme=scheme)\n"
        "    lsh = fp.MinHashLSH(0.5); lsh.insert('k', made[0]); assert lsh.query(made[1]) == ['k']\n"
        "print(cheap, [m for m in ('numba', 'scipy', 'datasketch') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "True []"


@pytest.mark.parametrize("name", ["minhash", "minhash_lsh"])
def test_examples_in_docstrings(name: str) -> None:
    tried = doctest.testmod(importlib.import_module(f"dataguard.fingerprints.{name}"))
    assert tried.attempted > 0
    assert tried.failed == 0


def test_every_name_of_the_face_exists() -> None:
    face = importlib.import_module("dataguard.fingerprints")
    assert all(callable(getattr(face, name)) for name in face.__all__)
    with pytest.raises(AttributeError):
        _ = face.nothing
