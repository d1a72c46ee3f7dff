"""Fast Similarity Sketching: the definition, exact merging, accuracy, bytes."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataguard.errors import DataguardError, DecodeError, SchemeMismatch, UsageError
from dataguard.fingerprints.sketches import resemblance
from dataguard.fingerprints.sketches.resemblance import Resemblance, compare_rows, multipliers, sketch_sets


def plain(hashes: np.ndarray, size: int) -> list[int]:
    """The three rounds as the module's docstring says them, in Python integers."""
    z = [int(x) for x in hashes]
    slots = []
    for j in range(size):
        one = [x >> 34 for x in z if x % size == j]
        two = [2**30 + ((x << 30) % 2**64 >> 34) for x in z if (x >> 12) % size == j]
        three = [3 * 2**30 + (int(multipliers(size)[j]) * (x >> 32) % 2**32 >> 2) for x in z]
        slots.append(min(one or two or three or [2**32 - 1]))
    return slots


@pytest.mark.parametrize("size", [64, 128, 256, 1024])
@pytest.mark.parametrize("n", [0, 1, 2, 10, 55, 56, 57, 100, 300])
def test_sketches_are_what_the_definition_says(size: int, n: int) -> None:
    hashes = np.random.default_rng(n).integers(0, 1 << 64, n, dtype=np.uint64)
    assert sketch_sets(hashes, np.array([0, n]), size)[0].tolist() == plain(hashes, size)


@pytest.mark.parametrize("n", [4 * 64, 4 * 64 + 1, 32 * 64, 32 * 64 + 1, 32 * 64 + 63, 20_000])
def test_the_paths_of_large_sets_agree_with_the_definition(n: int) -> None:
    hashes = np.random.default_rng(n).integers(0, 1 << 64, n, dtype=np.uint64)
    assert sketch_sets(hashes, np.array([0, n]), 64)[0].tolist() == plain(hashes, 64)


@pytest.mark.parametrize("n", [0, 1, 10, 100, 600, 5000])
def test_the_way_without_compiled_code_gives_the_same(n: int) -> None:
    hashes = np.random.default_rng(n).integers(0, 1 << 64, 3 * n, dtype=np.uint64)
    ends = np.arange(4) * n
    out = np.empty((3, 128), np.uint32)
    resemblance._sketch_few(hashes, ends, 128, out)
    assert (out == sketch_sets(hashes, ends)).all()


def test_a_few_small_sets_do_not_start_the_compiler() -> None:
    code = (
        "import sys, numpy as np\n"
        "from dataguard.fingerprints.sketches.resemblance import Resemblance\n"
        "z = np.random.default_rng(1).integers(0, 1 << 64, 300, dtype=np.uint64)\n"
        "print(Resemblance.of(z).jaccard(Resemblance.of(z)).value, 'numba' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["1.0", "False"]


@pytest.mark.parametrize("distinct", [1, 3, 60, 500])
def test_large_sets_of_few_different_elements(distinct: int) -> None:
    z = np.random.default_rng(distinct).integers(0, 1 << 64, distinct, dtype=np.uint64)
    z[0] = 2**64 - 1
    assert Resemblance.of(np.resize(z, 50_000), 64).values.tolist() == plain(z, 64)


def test_many_sets_at_once_are_the_sets_one_by_one() -> None:
    rng = np.random.default_rng(2)
    lengths = rng.choice([0, 1, 7, 56, 57, 200, 700, 5000], 200)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    hashes = rng.integers(0, 1 << 64, int(offsets[-1]), dtype=np.uint64)
    together = sketch_sets(hashes, offsets)
    for i in range(200):
        assert (Resemblance.of(hashes[offsets[i] : offsets[i + 1]]).values == together[i]).all()


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 600), st.integers(0, 600), st.integers(0, 300), st.integers(0, 2**32))
def test_merged_parts_are_the_sketch_of_the_whole(a: int, b: int, shared: int, seed: int) -> None:
    z = np.random.default_rng(seed).integers(0, 1 << 64, a + b + shared, dtype=np.uint64)
    one, other = z[: a + shared], z[a:]
    assert Resemblance.of(one).merge(Resemblance.of(other)) == Resemblance.of(z)
    assert Resemblance.of(z[::-1]) == Resemblance.of(np.concatenate([z, z]))


def pairs(n: int, shared: int, count: int, seed: int) -> tuple[np.ndarray, np.ndarray, float]:
    z = np.random.default_rng(seed).integers(0, 1 << 64, (count, 2 * n - shared), dtype=np.uint64)
    ends = np.arange(count + 1) * n
    one = sketch_sets(np.ascontiguousarray(z[:, :n]).ravel(), ends)
    other = sketch_sets(np.ascontiguousarray(np.concatenate([z[:, :shared], z[:, n:]], 1)).ravel(), ends)
    return one, other, shared / (2 * n - shared)


@pytest.mark.parametrize(
    ("n", "shared"), [(3, 2), (10, 5), (30, 10), (100, 60), (300, 250), (1000, 300), (3000, 2800)]
)
def test_error_is_at_most_that_of_independent_slots(n: int, shared: int) -> None:
    count = min(20_000, 1_000_000 // n)
    one, other, truth = pairs(n, shared, count, n)
    error = compare_rows(one, other) - truth
    theory = np.sqrt(truth * (1 - truth) / 128)
    # Mean: 5 standard errors, 6e-7. Mean square: its standard error is below sqrt(3 / count) of it; 4 of them.
    assert abs(error.mean()) < 5 * theory / np.sqrt(count)
    assert np.sqrt((error**2).mean()) < 1.05 * theory * (1 + 2 * np.sqrt(3 / count))
    assert np.abs(error).max() < 6 * theory


def test_limits_cover_the_truth() -> None:
    one, other, truth = pairs(200, 100, 2000, 5)
    inside = 0
    for a, b in zip(one, other, strict=True):
        found = Resemblance(a).jaccard(Resemblance(b), confidence=0.95)
        inside += found.low <= truth <= found.high
    # A miss has a chance of at most 5 %: more than 146 of 2,000 would be a 1e-6 event.
    assert 2000 - inside <= 146


def test_bytes_come_back_and_keep_their_shape() -> None:
    sketch = Resemblance(np.arange(64, dtype=np.uint32), hash_scheme=2)
    data = sketch.to_bytes()
    assert Resemblance.from_bytes(data) == sketch
    assert hash(Resemblance.from_bytes(data)) == hash(sketch)
    assert data[:8] == b"dgfp\x01\x01\x02\x00"
    assert not sketch.values.flags.writeable


def test_damaged_bytes_are_refused() -> None:
    data = Resemblance.of(np.random.default_rng(1).integers(0, 1 << 64, 50, dtype=np.uint64)).to_bytes()
    for i in range(0, len(data), 7):
        with pytest.raises((DecodeError, SchemeMismatch)):
            Resemblance.from_bytes(data[:i] + bytes([data[i] ^ 4]) + data[i + 1 :])
        with pytest.raises((DecodeError, SchemeMismatch)):
            Resemblance.from_bytes(data[:i])


def test_sketches_of_different_kinds_are_not_mixed() -> None:
    z = np.random.default_rng(1).integers(0, 1 << 64, 50, dtype=np.uint64)
    with pytest.raises(SchemeMismatch):
        Resemblance.of(z).jaccard(Resemblance.of(z, 256))
    with pytest.raises(SchemeMismatch):
        Resemblance.of(z).merge(Resemblance.of(z, hash_scheme=1))


def test_empty_sets() -> None:
    nothing = Resemblance.of(np.empty(0, np.uint64))
    assert nothing.is_empty
    assert nothing.jaccard(nothing).value == 0
    assert Resemblance.from_bytes(nothing.to_bytes()) == nothing


def test_a_set_of_one_element_may_reach_the_empty_value() -> None:
    """An element made for it: A[0] times its upper half is 2**32 - 1, which the last round cuts to all ones."""
    upper = pow(int(multipliers(128)[0]), -1, 2**32) * (2**32 - 1) % 2**32
    one = Resemblance.of(np.array([upper << 32 | 3 << 12 | 5], np.uint64))
    assert one.values[0] == resemblance.EMPTY
    assert not one.is_empty
    assert Resemblance.from_bytes(one.to_bytes()) == one
    assert one.jaccard(one).value == 127 / 128


@pytest.mark.parametrize("values", [np.full(64, -1.5), np.full(64, -1), np.zeros((1, 64), np.uint32)])
def test_values_of_another_type_are_not_converted(values: np.ndarray) -> None:
    with pytest.raises(UsageError, match="one row of uint32"):
        Resemblance(values)


@pytest.mark.parametrize(
    ("hashes", "offsets", "size"),
    [
        (np.arange(100, dtype=np.uint64), [0, 100], 128),
        (np.arange(2**34 - 2, 2**34, dtype=np.uint64), [0, 2], 128),
        (np.arange(100, dtype=np.int64), [0, 100], 128),
        (np.full(10, 1 << 63, np.uint64), [0, 11], 128),
        (np.full(10, 1 << 63, np.uint64), [-1, 5], 128),
        (np.full(10, 1 << 63, np.uint64), [5, 3], 128),
        (np.full(10, 1 << 63, np.uint64), [], 128),
        (np.full(10, 1 << 63, np.uint64), [0, 10], 100),
        (np.full(10, 1 << 63, np.uint64), [0, 10], 8192),
    ],
)
def test_bad_input_is_refused_in_one_line(hashes: np.ndarray, offsets: list[int], size: int) -> None:
    with pytest.raises(DataguardError) as caught:
        sketch_sets(hashes, np.array(offsets), size)
    assert "\n" not in str(caught.value)


def test_room_must_fit() -> None:
    hashes = np.full(4, 1 << 63, np.uint64)
    room = np.empty((1, 128), np.uint32)
    assert sketch_sets(hashes, np.array([0, 4]), out=room) is room
    with pytest.raises(UsageError):
        sketch_sets(hashes, np.array([0, 4]), out=np.empty((2, 128), np.uint32))
    with pytest.raises(UsageError):
        resemblance.compare_rows(room, np.empty((2, 128), np.uint32))


def test_memory_is_used_again_only_when_nobody_holds_it() -> None:
    rng = np.random.default_rng(8)
    hashes = rng.integers(0, 1 << 64, 60_000, dtype=np.uint64)
    ends = np.arange(20_001) * 3
    first = sketch_sets(hashes, ends)
    kept, row = first.copy(), first[7]
    second = sketch_sets(hashes[::-1].copy(), ends)
    assert not np.shares_memory(first, second)
    assert (first == kept).all()
    del first, second
    third = sketch_sets(hashes[::-1].copy(), ends)
    assert not np.shares_memory(row, third)  # a view of the first is still held
    assert (row == kept[7]).all()
    address = third.ctypes.data
    del third
    assert sketch_sets(hashes, ends).ctypes.data == address


def test_memory_is_not_shared_between_threads() -> None:
    hashes = np.random.default_rng(9).integers(0, 1 << 64, 60_000, dtype=np.uint64)
    ends = np.arange(20_001) * 3
    expected = sketch_sets(hashes, ends).copy()
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda _: sketch_sets(hashes, ends), range(12)))
    for i, one in enumerate(results):
        assert (one == expected).all()
        assert not any(np.shares_memory(one, other) for other in results[i + 1 :])
