"""Bloom filter, FracMinHash, HyperLogLog, ProbMinHash: slow twins, exact merging, accuracy, limits, hostile bytes.

Error budget of a statistical test: a right program fails it with a chance of at most 1e-6 per assertion (exact
binomial quantile for counts, 5 standard errors for means); seeds are fixed, so a pass stays a pass.
"""

from __future__ import annotations

import contextlib
import math
import struct
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import xxhash
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from dataguard.errors import DecodeError, SchemeMismatch, UsageError
from dataguard.fingerprints.sketches import envelope
from dataguard.fingerprints.sketches.bloom import Bloom, BloomBuilder, blocks_for, share_inside
from dataguard.fingerprints.sketches.elements import checked_offsets, distinct
from dataguard.fingerprints.sketches.estimate import binomial_lower, binomial_upper
from dataguard.fingerprints.sketches.frac import Frac
from dataguard.fingerprints.sketches.hyperloglog import HyperLogLog
from dataguard.fingerprints.sketches.inclusion import InclusionTest, bytes_needed
from dataguard.fingerprints.sketches.weighted import Weighted, sketch_weighted

BUDGET = 1e-6
SALT = (0x47B6137B, 0x44974D91, 0x8824AD5B, 0xA2B7289D, 0x705495C7, 0x2DF1424B, 0x9EFC4947, 0x5C6BFB31)


def hashes(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 2**64, count, dtype=np.uint64)


def at_most(misses: int, trials: int, chance: float) -> bool:
    """Whether so many misses are compatible with a chance of at most this."""
    return binomial_upper(misses, trials, chance) > BUDGET


def near(hits: int, trials: int, chance: float) -> bool:
    return at_most(hits, trials, chance) and binomial_lower(hits, trials, chance) > BUDGET


def small_sketches() -> list:
    some = hashes(300)
    return [
        Bloom.build(some, hash_scheme=1),
        Frac.build(some, 10, hash_scheme=1),
        HyperLogLog.build(some, 5, hash_scheme=1),
        Weighted.build(some, np.linspace(0.1, 3, 300), 16, hash_scheme=1),
    ]


SKETCHES = pytest.mark.parametrize("sketch", small_sketches(), ids=lambda s: type(s).__name__)

# --- Bloom --------------------------------------------------------------------------------------------


def slow_bloom(elements: np.ndarray, blocks: int) -> list[list[int]]:
    words = [[0] * 8 for _ in range(blocks)]
    for h in elements.tolist():
        block = words[((h >> 32) * blocks) >> 32]
        for i, salt in enumerate(SALT):
            block[i] |= 1 << (((h & 0xFFFFFFFF) * salt & 0xFFFFFFFF) >> 27)
    return words


@pytest.mark.parametrize("count", [0, 1, 5, 31, 32, 33, 100, 3000])
@pytest.mark.parametrize("blocks", [1, 7, 190])
def test_bloom_equals_its_slow_twin(count: int, blocks: int) -> None:
    some, others = hashes(count), hashes(2000, 1)
    made = Bloom.build(some, expected=16 * blocks)
    words = slow_bloom(some, blocks)
    assert made.words.tolist() == words
    single = [slow_bloom(np.array([h], np.uint64), blocks) for h in others[:200]]
    truth = [
        all(w & ~v == 0 for a, b in zip(one, words, strict=True) for w, v in zip(a, b, strict=True))
        for one in single
    ]
    assert made.contains(others)[:200].tolist() == truth
    assert made.contains(some).all()
    assert made.count(others) == made.contains(others).sum()


def test_bloom_is_that_of_parquet_files(tmp_path: Path) -> None:
    """A filter written by another program (DuckDB, xxh64 of the plain value) has the same bits."""
    duckdb = pytest.importorskip("duckdb")
    path = tmp_path / "values.parquet"
    base = duckdb.connect()
    base.execute(
        f"copy (select (i * i % 5003)::bigint v from range(20000) t(i)) to '{path}' "
        "(format parquet, bloom_filter_false_positive_ratio 0.01)"
    )
    query = f"select bloom_filter_offset, bloom_filter_length from parquet_metadata('{path}')"
    at, length = base.execute(query).fetchall()[0]
    if at is None:
        pytest.skip("this DuckDB writes no Bloom filter")
    raw = path.read_bytes()[at : at + length]
    # The compact Thrift header begins with field 1, an i32: the number of bytes as a zigzag varint.
    assert raw[0] == 0x15
    digits = [raw[1] & 127]
    while raw[len(digits)] & 128:
        digits.append(raw[len(digits) + 1] & 127)
    size = sum(d << 7 * i for i, d in enumerate(digits)) >> 1
    bits = np.frombuffer(raw[-size:], "<u4").reshape(-1, 8)
    values = np.unique(np.arange(20000) ** 2 % 5003).tolist()
    digests = np.array([xxhash.xxh64_intdigest(v.to_bytes(8, "little")) for v in values], np.uint64)
    assert np.array_equal(Bloom(np.zeros_like(bits)).add(digests).words, bits)


@pytest.mark.parametrize(("bits_per_row", "rows"), [(4, 20_000), (8, 20_000), (16, 100_000), (8, 40)])
def test_bloom_rate_of_false_positives_is_that_of_the_fill(bits_per_row: int, rows: int) -> None:
    made, absent = Bloom.build(hashes(rows), bits_per_row=bits_per_row), hashes(3_000_000, 9)
    assert near(made.count(absent), len(absent), made.false_positive_rate)


def test_bloom_rates_that_the_page_states() -> None:
    rates = {
        bits: Bloom.build(hashes(100_000), bits_per_row=bits).false_positive_rate for bits in (8, 16, 24)
    }
    assert rates[8] == pytest.approx(0.033, rel=0.1)
    assert rates[16] == pytest.approx(0.0013, rel=0.1)
    assert rates[24] == pytest.approx(0.00014, rel=0.2)
    assert Bloom.build(hashes(0)).false_positive_rate == 0.0


@pytest.mark.parametrize("drawn", [False, True])
@pytest.mark.parametrize("confidence", [0.9, 0.998])
@pytest.mark.parametrize("inside", [0, 1, 30, 200])
def test_bloom_containment_covers(inside: int, confidence: float, drawn: bool) -> None:
    """500 suspects of 200 rows, 8 bits a row (3.3 % found by chance): no side misses too often."""
    table = hashes(20_000)
    made, rng = Bloom.build(table, bits_per_row=8), np.random.default_rng(inside)
    misses, values, trials = [0, 0], [], 500
    for trial in range(trials):
        count = int(rng.binomial(200, inside / 200)) if drawn else inside
        suspect = np.concatenate([rng.choice(table, count, replace=False), hashes(200 - count, 1000 + trial)])
        seen = made.containment(suspect, confidence, drawn=drawn)
        misses[0] += seen.low > inside / 200
        misses[1] += seen.high < inside / 200
        values.append(seen.value - inside / 200)
        assert seen.low <= seen.value <= seen.high
    assert at_most(misses[0], trials, (1 - confidence) / 2)
    assert at_most(misses[1], trials, (1 - confidence) / 2)
    # The value is cut at 0, so without shared rows it lies above the truth by less than half the rate.
    assert abs(np.mean(values)) <= 5 * np.std(values) / math.sqrt(trials) + (0.017 if inside < 2 else 1e-12)


def test_bloom_interval_of_a_filter_without_false_positives_is_a_point() -> None:
    assert share_inside(3, 10, 0.0) == share_inside(3, 10, 1e-15)
    assert (share_inside(3, 10, 0.0).low, share_inside(3, 10, 0.0).high) == (0.3, 0.3)
    nothing = share_inside(0, 0, 0.1)
    assert (nothing.low, nothing.high) == (0.0, 1.0)


def test_bloom_p_values_hold_under_the_null() -> None:
    """2,000 unrelated suspects: P(p <= t) <= t for several t."""
    made, trials = Bloom.build(hashes(5000), bits_per_row=6), 2000
    p = np.array([10 ** made.hits(hashes(50, 5000 + i)).log10_p for i in range(trials)])
    for t in (0.3, 0.1, 0.03, 0.01, 0.001):
        assert at_most(int((p <= t).sum()), trials, t)
    assert (p <= 0.3).sum() > 0.05 * trials


def test_bloom_repeated_rows_count_once() -> None:
    table = hashes(1000)
    made = Bloom.build(table)
    once, often = made.hits(table[:5]), made.hits(np.repeat(table[:5], 100))
    assert once == often
    assert once.rows == once.hits == 5


def test_bloom_builder_streams_and_ends() -> None:
    some = hashes(5000)
    builder = BloomBuilder(5000)
    for part in np.array_split(some, 7):
        builder.add(part)
    assert builder.finish().to_bytes() == Bloom.build(some).to_bytes()
    with pytest.raises(UsageError, match="finished"):
        builder.add(some)
    with pytest.raises(UsageError, match="finished"):
        builder.finish()


def test_bloom_sizes() -> None:
    assert blocks_for(0) == 1
    assert blocks_for(16) == 1
    assert blocks_for(17) == 2
    assert Bloom.build(hashes(1000), expected=3000).words.shape == (188, 8)
    for bad in ({"expected": -1}, {"bits_per_row": 0}, {"bits_per_row": math.nan}, {"expected": 2**60}):
        with pytest.raises(UsageError):
            Bloom.build(hashes(3), **bad)
    assert bytes_needed(10_000_000) == (80_000, 20_000_000)


# --- the leak test ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def registered() -> tuple[np.ndarray, InclusionTest]:
    table = hashes(1_000_000, 77)
    return table, InclusionTest.build(table)


@pytest.mark.parametrize(
    ("inside", "outside", "answer"),
    [
        (100, 0, "found"),  # a hundred rows of a million
        (100, 9_900, "found"),  # a hundred rows, 1 % of the suspect
        (6, 94, "found"),
        (0, 1_000, "not-found"),
        (0, 300_000, "not-found"),
        (3_000, 297_000, "found"),
        (0, 2_000_000, "not-found"),
        (0, 3, "not-found"),  # none of their bits are all set: certain
        (1, 99, "undecided"),
        (0, 0, "undecided"),
    ],
)
def test_inclusion_test_decides(
    registered: tuple[np.ndarray, InclusionTest], inside: int, outside: int, answer: str
) -> None:
    table, test = registered
    suspect = np.concatenate([table[5000 : 5000 + inside], hashes(outside, 3)])
    said = test.decide(np.random.default_rng(1).permutation(suspect))
    assert said.answer == answer
    if len(suspect):
        assert said.containment.low <= inside / len(suspect) <= said.containment.high
    assert said.tier == ("frac" if (inside, outside) == (0, 2_000_000) else "bloom")


def test_inclusion_test_never_finds_in_unrelated_suspects(
    registered: tuple[np.ndarray, InclusionTest],
) -> None:
    _, test = registered
    answers = [test.decide(hashes(100, 10_000 + i)).answer for i in range(300)]
    assert "found" not in answers


def test_inclusion_test_is_no_match_for_rows_made_for_it(
    registered: tuple[np.ndarray, InclusionTest],
) -> None:
    """The limit that its page states: rows chosen by their hashes are "found" although none is shared."""
    table, test = registered
    others = hashes(1_000_000, 78)
    made = others[test.bloom.contains(others)]
    assert not np.isin(made, table).any()
    assert test.decide(made).answer == "found"


def test_inclusion_test_merges(registered: tuple[np.ndarray, InclusionTest]) -> None:
    table, whole = registered
    parts = [InclusionTest.build(p, expected=len(table)) for p in np.array_split(table, 3)]
    merged = parts[2].merge(parts[0]).merge(parts[1])
    assert merged.bloom.to_bytes() == whole.bloom.to_bytes()
    assert merged.frac.to_bytes() == whole.frac.to_bytes()
    with pytest.raises(UsageError):
        whole.decide(table[:5], alpha=0.0)
    with pytest.raises(UsageError, match="hashed differently"):
        InclusionTest(whole.frac, Bloom.build(table[:5], hash_scheme=1))


# --- FracMinHash --------------------------------------------------------------------------------------


@pytest.mark.parametrize("scaled", [1, 2, 7, 1000, 10**6])
@pytest.mark.parametrize("count", [0, 1, 63, 64, 65, 20_000])
def test_frac_keeps_what_the_definition_says(count: int, scaled: int) -> None:
    edge = (2**64 - 1) // scaled
    some = np.concatenate([hashes(count), np.array([edge, min(edge + 1, 2**64 - 1), 0, 0], np.uint64)])
    made = Frac.build(some, scaled)
    assert made.hashes.tolist() == sorted({h for h in some.tolist() if h * scaled < 2**64})


def test_frac_of_hashes_that_are_all_small() -> None:
    some = np.arange(30_000, dtype=np.uint64) << np.uint64(34)
    assert len(Frac.build(some, 1000).hashes) == 30_000


def test_frac_downsampled_is_that_of_the_coarser_scale() -> None:
    some = hashes(50_000)
    assert Frac.build(some, 10).downsample(70).to_bytes() == Frac.build(some, 70).to_bytes()
    with pytest.raises(UsageError, match="finer"):
        Frac.build(some, 70).downsample(10)


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 1.0])
def test_frac_containment_covers_and_is_unbiased(share: float, known: bool) -> None:
    misses, values, trials, rows = [0, 0], [], 400, 1000
    for trial in range(trials):
        suspect = hashes(rows, trial)
        table = np.concatenate([suspect[: int(share * rows)], hashes(3000, 5000 + trial)])
        seen = Frac.build(table, 20).containment(
            Frac.build(suspect, 20), rows if known else None, confidence=0.9
        )
        misses[0] += seen.low > share
        misses[1] += seen.high < share
        values.append(seen.value)
    assert at_most(misses[0], trials, 0.05)
    assert at_most(misses[1], trials, 0.05)
    assert abs(np.mean(values) - share) <= 5 * np.std(values) / math.sqrt(trials) + 1e-12


def test_frac_containment_both_ways_and_across_scales() -> None:
    table = hashes(100_000)
    whole, part = Frac.build(table, 10), Frac.build(table[:20_000], 50)
    assert whole.containment(part).value == 1.0
    assert part.containment(whole).value == pytest.approx(0.2, abs=0.05)
    assert whole.jaccard(part).value == pytest.approx(0.2, abs=0.05)
    nothing = whole.containment(Frac.build(table[:0], 10))
    assert (nothing.value, nothing.low, nothing.high) == (0.0, 0.0, 1.0)
    with pytest.raises(SchemeMismatch):
        whole.containment(Frac.build(table, 10, hash_scheme=1))
    with pytest.raises(UsageError, match="count again"):
        whole.containment(part, elements=1)


@pytest.mark.parametrize("count", [0, 5, 3000])
def test_frac_cardinality_covers(count: int) -> None:
    misses, trials = [0, 0], 400
    for trial in range(trials):
        seen = Frac.build(hashes(count, trial), 50).cardinality(0.9)
        misses[0] += seen.low > count
        misses[1] += seen.high < count
    assert at_most(misses[0], trials, 0.05)
    assert at_most(misses[1], trials, 0.05)


# --- HyperLogLog --------------------------------------------------------------------------------------


def slow_registers(elements: np.ndarray, p: int) -> list[int]:
    registers = [0] * (1 << p)
    for h in elements.tolist():
        bits = f"{h % (1 << (64 - p)):0{64 - p}b}"
        rank = len(bits) - len(bits.rstrip("0")) + 1
        registers[h >> (64 - p)] = max(registers[h >> (64 - p)], rank)
    return registers


@pytest.mark.parametrize("p", [4, 11, 18])
def test_hyperloglog_equals_its_slow_twin(p: int) -> None:
    some = np.concatenate([hashes(3000), np.array([0, 2**64 - 1, 2**63, 1 << (63 - p)], np.uint64)])
    assert HyperLogLog.build(some, p).registers.tolist() == slow_registers(some, p)


def drawn_registers(count: int, p: int, rng: np.random.Generator) -> np.ndarray:
    """Registers of that many distinct elements, drawn from their law: places multinomial, then the largest rank."""
    m = 1 << p
    each = rng.multinomial(count, np.full(m, 1 / m))
    # P(largest of c ranks <= k) = (1 - 2**-k)**c; inverted at a uniform number, with all precision near 1.
    u = rng.random(m)
    with np.errstate(divide="ignore", invalid="ignore"):
        k = np.ceil(-np.log2(-np.expm1(np.log(u) / each)))
    return np.where(each > 0, np.clip(k, 1, 65 - p), 0).astype(np.uint8)


@pytest.mark.parametrize("p", [4, 8, 14])
@pytest.mark.parametrize("count", [1, 4, 60, 3_000, 40_000, 10**9, 10**15])
def test_hyperloglog_is_unbiased_calibrated_and_as_exact_as_theory(p: int, count: int) -> None:
    rng, trials = np.random.default_rng(count + p), 120
    seen = [HyperLogLog(drawn_registers(count, p, rng)).cardinality(0.95) for _ in range(trials)]
    values = np.array([e.value for e in seen]) / count
    theory = 1.04 / math.sqrt(1 << p)
    # What the correction of the bias leaves is of the order 1 / m**1.5. In small sets half of a collision is
    # taken off before one is likely to be seen: count / (2 m).
    left = 0.6 * count * 2.0**-p if count < 2 ** (p / 2) else 0.6 * 2.0 ** (-1.5 * p)
    assert abs(values.mean() - 1) <= 5 * values.std() / math.sqrt(trials) + left
    rmse = math.sqrt(np.mean((values - 1) ** 2))
    # A root mean square of 120 scatters by 6.5 %, by more for the skew law of 16 registers.
    assert rmse <= theory * (1.6 if p == 4 else 1.35)
    assert at_most(sum(e.low > count for e in seen), trials, 0.025)
    assert at_most(sum(e.high < count for e in seen), trials, 0.025)
    assert all(e.low <= e.value <= e.high for e in seen)


@pytest.mark.slow
@pytest.mark.parametrize("p", [6, 10, 14])
def test_hyperloglog_error_within_five_per_cent_of_theory(p: int) -> None:
    rng, count, trials = np.random.default_rng(p), 10**7, 8000
    values = np.array(
        [HyperLogLog(drawn_registers(count, p, rng)).cardinality().value for _ in range(trials)]
    )
    assert math.sqrt(np.mean((values / count - 1) ** 2)) <= 1.05 * 1.04 / math.sqrt(1 << p)


def test_hyperloglog_drawn_registers_follow_the_real_ones() -> None:
    """The law above against hashed elements: the mean register, within 5 standard errors."""
    rng = np.random.default_rng(3)
    real = np.concatenate([HyperLogLog.build(hashes(3000, i), 8).registers for i in range(40)])
    law = np.concatenate([drawn_registers(3000, 8, rng) for _ in range(40)])
    error = math.sqrt((real.var() + law.var()) / len(law))
    assert abs(real.mean() - law.mean()) <= 5 * error


def test_hyperloglog_of_hashed_elements_and_of_nothing() -> None:
    seen = HyperLogLog.build(hashes(100_000)).cardinality()
    assert seen.low < 100_000 < seen.high
    assert seen.value == pytest.approx(100_000, rel=0.04)
    nothing = HyperLogLog.build(hashes(0)).cardinality()
    assert (nothing.value, nothing.low, nothing.high) == (0.0, 0.0, 0.0)
    full = HyperLogLog(np.full(16, 61, np.uint8)).cardinality()
    assert full.value > 2**60
    for p in (3, 19):
        with pytest.raises(UsageError):
            HyperLogLog.build(hashes(3), p)


# --- ProbMinHash --------------------------------------------------------------------------------------


def slow_points(elements: np.ndarray, weights: np.ndarray, size: int) -> tuple[list[int], list[float]]:
    """All points of all elements up to one that no slot can take any more, in plain Python numbers."""

    def series(y: float) -> float:
        total = 1 / 12
        for i in range(11, 0, -1):
            total = total * y + 1 / i
        return total * y

    best = [(math.inf, 2**64 - 1)] * size
    for h, w in zip(elements.tolist(), weights.tolist(), strict=True):
        j = 0
        while w and j / w <= max(best)[0]:
            z = (h + (j + 1) * 0xD1342543DE82EF95) % 2**64
            z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 % 2**64
            z = (z ^ z >> 27) * 0x94D049BB133111EB % 2**64
            z ^= z >> 31
            x = series((z >> 12) / 2**52 / size) * (1 / series(1 / size))
            best[z % size] = min(best[z % size], ((j + x) / w, h))
            j += 1
    return [h for _, h in best], [v for v, _ in best]


@pytest.mark.parametrize("size", [16, 128])
@pytest.mark.parametrize("count", [0, 1, 3, 100, 255, 256, 257, 700])
def test_weighted_equals_its_slow_twin(count: int, size: int) -> None:
    some, rng = hashes(count), np.random.default_rng(count)
    weights = rng.exponential(1, count) * 10.0 ** rng.integers(-3, 4, count)
    weights[::5] = 0.0
    made = Weighted.build(some, weights, size)
    slow = slow_points(some, weights, size)
    assert made.elements.tolist() == slow[0]
    assert made.points.tolist() == slow[1]


def test_weighted_in_bulk_is_that_of_each_set() -> None:
    some, weights = hashes(5000), np.random.default_rng(2).exponential(1, 5000)
    borders = np.array([0, 0, 10, 10, 3000, 5000])
    elements, points = sketch_weighted(some, weights, borders, 64)
    for i in range(5):
        one = Weighted.build(some[borders[i] : borders[i + 1]], weights[borders[i] : borders[i + 1]], 64)
        assert np.array_equal(one.elements, elements[i])
        assert np.array_equal(one.points, points[i])


def true_probability_jaccard(a: np.ndarray, b: np.ndarray) -> float:
    both = np.flatnonzero((a > 0) & (b > 0))
    return sum(1 / np.maximum(a / a[d], b / b[d]).sum() for d in both)


@pytest.mark.parametrize("elements", [3, 30, 400])
@pytest.mark.parametrize("drift", [0.1, 1.0])
@pytest.mark.parametrize("size", [128, 256])
def test_weighted_estimates_the_probability_jaccard(elements: int, drift: float, size: int) -> None:
    """RMSE at most 1.05 x theory beyond the scatter of 1,000 trials; unbiased; limits cover."""
    rng, trials = np.random.default_rng(elements), 1000
    a = rng.exponential(1, elements)
    b = a * np.exp(rng.normal(0, drift, elements))
    a[: elements // 3], b[-(elements // 4) :] = 0.0, 0.0
    truth = true_probability_jaccard(a, b)
    some = hashes(elements * trials, 5)
    borders = np.arange(trials + 1) * elements
    left, left_points = sketch_weighted(some, np.tile(a, trials), borders, size)
    right, right_points = sketch_weighted(some, np.tile(7.5 * b, trials), borders, size)
    values = (left == right).mean(axis=1)
    deviation = math.sqrt(truth * (1 - truth) / size)
    assert abs(values.mean() - truth) <= 5 * deviation / math.sqrt(trials)
    rmse = math.sqrt(np.mean((values - truth) ** 2))
    assert rmse <= deviation * (1.05 + 3 / math.sqrt(2 * trials))
    assert np.abs(values - truth).max() <= 6 * deviation
    seen = [
        Weighted(*one).probability_jaccard(Weighted(*other), 0.9)
        for one, other in zip(
            zip(left, left_points, strict=True), zip(right, right_points, strict=True), strict=True
        )
    ]
    assert at_most(sum(e.low > truth for e in seen), trials, 0.05)
    assert at_most(sum(e.high < truth for e in seen), trials, 0.05)


@pytest.mark.parametrize("factor", [1, 0x9E3779B97F4A7C15, 0xD1342543DE82EF95 // 3 | 1, 2**32, 2**48])
def test_weighted_bears_hashes_that_follow_a_rule(factor: int) -> None:
    """Runs of numbers times a constant, as a user's own hash may give: unbiased, RMSE as for random ones."""
    elements, trials, size = 100, 600, 128
    some = np.arange(elements * trials, dtype=np.uint64) * np.uint64(factor)
    a = np.random.default_rng(1).exponential(1, elements)
    b = a * np.exp(np.random.default_rng(2).normal(0, 0.5, elements))
    truth, borders = true_probability_jaccard(a, b), np.arange(trials + 1) * elements
    left, _ = sketch_weighted(some, np.tile(a, trials), borders, size)
    right, _ = sketch_weighted(some, np.tile(b, trials), borders, size)
    values, deviation = (left == right).mean(axis=1), math.sqrt(truth * (1 - truth) / size)
    assert abs(values.mean() - truth) <= 5 * deviation / math.sqrt(trials)
    assert math.sqrt(np.mean((values - truth) ** 2)) <= deviation * (1.05 + 4 / math.sqrt(2 * trials))


def test_weighted_is_blind_to_the_unit_and_takes_the_larger_of_two_weights() -> None:
    some, weights = hashes(200), np.random.default_rng(1).exponential(1, 200)
    made = Weighted.build(some, weights)
    assert made.probability_jaccard(Weighted.build(some, 4.0 * weights)).value == 1.0
    other = np.random.default_rng(2).exponential(1, 200)
    larger = Weighted.build(some, np.maximum(weights, other))
    assert made.merge(Weighted.build(some, other)).to_bytes() == larger.to_bytes()
    twice = Weighted.build(np.tile(some, 2), np.concatenate([weights, other]))
    assert twice.to_bytes() == larger.to_bytes()


def test_weighted_refuses_bad_weights_and_knows_nothing_of_empty_sets() -> None:
    some = hashes(3)
    for bad in (-1.0, math.nan, math.inf, 1e-200, 1e200):
        with pytest.raises(UsageError, match="weight"):
            Weighted.build(some, np.array([1.0, bad, 1.0]))
    for size in (8, 100, 8192, 0):
        with pytest.raises(UsageError, match="size"):
            Weighted.build(some, np.ones(3), size)
    with pytest.raises(UsageError, match="3 hashes, 2 weights"):
        Weighted.build(some, np.ones(2))
    extreme = Weighted.build(some, np.array([1e-100, 1e100, 1.0]))
    assert (extreme.elements == some[1]).all()
    empty, full = Weighted.build(some, np.zeros(3)), Weighted.build(some, np.ones(3))
    assert empty.to_bytes() == Weighted.build(some[:0], np.ones(0)).to_bytes()
    assert (empty.probability_jaccard(full).value, empty.probability_jaccard(full).high) == (0.0, 0.0)
    assert (empty.probability_jaccard(empty).low, empty.probability_jaccard(empty).high) == (0.0, 1.0)
    assert empty.merge(full).to_bytes() == full.to_bytes()


# --- all of them --------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(
    count=st.integers(0, 600),
    cuts=st.lists(st.integers(0, 600), max_size=5),
    seed=st.integers(0, 2**32 - 1),
    overlap=st.integers(0, 50),
)
def test_parts_merge_to_the_whole_bit_for_bit(count: int, cuts: list[int], seed: int, overlap: int) -> None:
    """Any split, parts overlapping, merged in any order."""
    rng = np.random.default_rng(seed)
    some, weights = hashes(count, seed), rng.exponential(1, count)
    borders = [0, *sorted(min(c, count) for c in cuts), count]
    spans = [slice(max(0, a - overlap), b) for a, b in pairwise(borders)]
    builds = [
        lambda s: Bloom.build(some[s], expected=600),
        lambda s: Frac.build(some[s], 5),
        lambda s: HyperLogLog.build(some[s], 6),
        lambda s: Weighted.build(some[s], weights[s], 32),
    ]
    for build in builds:
        parts = [build(s) for s in spans]
        while len(parts) > 1:
            one = parts.pop(int(rng.integers(len(parts))))
            other = parts.pop(int(rng.integers(len(parts))))
            parts.append(one.merge(other))
        assert parts[0].to_bytes() == build(slice(0, count)).to_bytes()


@SKETCHES
def test_bytes_come_back_and_adding_is_merging(sketch) -> None:
    again = type(sketch).from_bytes(sketch.to_bytes())
    assert again.to_bytes() == sketch.to_bytes()
    assert again.hash_scheme == 1
    assert sketch.merge(again).to_bytes() == sketch.to_bytes()
    if not isinstance(sketch, Weighted):
        assert sketch.add(hashes(300)).to_bytes() == sketch.to_bytes()
        assert sketch.add(hashes(3000, 4)).to_bytes() != sketch.to_bytes()


@SKETCHES
def test_sketches_cannot_be_written_to(sketch) -> None:
    for name in ("words", "hashes", "registers", "elements", "points"):
        if hasattr(sketch, name):
            with pytest.raises(ValueError, match="read-only"):
                getattr(sketch, name)[0] = 0


@SKETCHES
def test_sketches_of_other_schemes_are_not_merged(sketch) -> None:
    with pytest.raises(SchemeMismatch, match="hash schemes 1 and 0 differ"):
        sketch.merge(
            type(sketch)(*(getattr(sketch, n) for n in sketch.__slots__ if n not in ("hash_scheme", "_rate")))
        )


def test_sketches_of_other_sizes_are_not_merged() -> None:
    some = hashes(100)
    for one, other in (
        (Bloom.build(some), Bloom.build(some, expected=999)),
        (Frac.build(some, 2), Frac.build(some, 3)),
        (HyperLogLog.build(some, 4), HyperLogLog.build(some, 5)),
        (Weighted.build(some, np.ones(100), 16), Weighted.build(some, np.ones(100), 32)),
    ):
        with pytest.raises(SchemeMismatch, match="differ"):
            one.merge(other)


@SKETCHES
@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_altered_bytes_are_refused(sketch, data) -> None:
    """Flipped, cut or lengthened bytes; and with a good check sum, so that the inner checks are reached."""
    raw = bytearray(sketch.to_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        raw[data.draw(st.integers(0, len(raw) - 1))] ^= data.draw(st.integers(1, 255))
    assume(raw != sketch.to_bytes())
    with pytest.raises((DecodeError, SchemeMismatch)):
        type(sketch).from_bytes(raw)
    body = bytes(raw[:-8])
    with contextlib.suppress(DecodeError, SchemeMismatch):
        type(sketch).from_bytes(body + struct.pack("<Q", xxhash.xxh3_64_intdigest(body)))
    cut = data.draw(st.integers(0, len(raw) - 1))
    with pytest.raises((DecodeError, SchemeMismatch)):
        type(sketch).from_bytes(sketch.to_bytes()[:cut])


@pytest.mark.parametrize(
    ("kind", "params", "payload"),
    [
        (envelope.BLOOM, struct.pack("<Q", 0), b""),
        (envelope.BLOOM, struct.pack("<Q", 2**63), bytes(32)),
        (envelope.BLOOM, struct.pack("<Q", 2), bytes(32)),
        (envelope.BLOOM, b"", bytes(32)),
        (envelope.FRAC, struct.pack("<Q", 0), bytes(8)),
        (envelope.FRAC, struct.pack("<Q", 2), struct.pack("<Q", 2**63)),
        (envelope.FRAC, struct.pack("<Q", 2), struct.pack("<2Q", 5, 5)),
        (envelope.FRAC, struct.pack("<Q", 2), struct.pack("<2Q", 6, 5)),
        (envelope.FRAC, struct.pack("<Q", 2), bytes(7)),
        (envelope.FRAC, b"", bytes(8)),
        (envelope.HYPERLOGLOG, bytes([3]), bytes(8)),
        (envelope.HYPERLOGLOG, bytes([255]), bytes(8)),
        (envelope.HYPERLOGLOG, bytes([4]), bytes(17)),
        (envelope.HYPERLOGLOG, bytes([4]), bytes([62]) + bytes(15)),
        (envelope.HYPERLOGLOG, b"", bytes(16)),
        (envelope.WEIGHTED, struct.pack("<I", 2**31), bytes(256)),
        (envelope.WEIGHTED, struct.pack("<I", 17), bytes(16 * 17)),
        (envelope.WEIGHTED, struct.pack("<I", 16), bytes(128) + struct.pack("<16d", *[-1.0] * 16)),
        (envelope.WEIGHTED, struct.pack("<I", 16), bytes(128) + struct.pack("<16d", *[math.nan] * 16)),
        (envelope.WEIGHTED, struct.pack("<I", 16), bytes(128) + struct.pack("<16d", *[math.inf] * 16)),
        (envelope.WEIGHTED, struct.pack("<I", 16), bytes(128) + struct.pack("<16d", math.inf, *[1.0] * 15)),
        (envelope.WEIGHTED, struct.pack("<I", 0), b""),
    ],
)
def test_well_sealed_nonsense_is_refused(kind: int, params: bytes, payload: bytes) -> None:
    reader = {
        envelope.BLOOM: Bloom,
        envelope.FRAC: Frac,
        envelope.HYPERLOGLOG: HyperLogLog,
        envelope.WEIGHTED: Weighted,
    }
    with pytest.raises(DecodeError):
        reader[kind].from_bytes(envelope.pack(kind, 1, 0, params, payload))


def test_what_is_not_hashes_is_refused() -> None:
    for bad in ([1, 2], np.arange(3), np.ones(3), np.zeros((2, 2), np.uint64)):
        for build in (Bloom.build, Frac.build, HyperLogLog.build, Bloom.build(hashes(3)).contains):
            with pytest.raises(UsageError, match="flat uint64 array"):
                build(bad)
    for bad in (
        np.array([0, 5, 3]),
        np.array([-1, 2]),
        np.array([0, 11]),
        np.array([0.0, 1.0]),
        np.array([0, 5, -(2**63), -1, 10]),  # whose differences wrap around to positive ones
        np.zeros(0, int),
    ):
        with pytest.raises(UsageError, match="offsets"):
            checked_offsets(bad, 10, "Weighted")


@pytest.mark.parametrize("kind", [np.uint8, np.float64, ">u4", np.int64])
def test_arrays_of_another_type_are_no_sketch(kind) -> None:
    """A block of uint8 words is a quarter as long: compiled loops would read and write behind it."""
    with pytest.raises(UsageError, match="uint32"):
        Bloom(np.zeros((4, 8), kind))
    with pytest.raises(UsageError, match="points float64"):
        Weighted(np.zeros(16, kind), np.ones(16))
    if kind is not np.uint8:
        with pytest.raises(UsageError, match="give uint8"):
            HyperLogLog(np.zeros(16, kind))


def test_hashes_of_every_layout_give_the_same() -> None:
    some = hashes(2000)
    assert Bloom.build(some[::2]).to_bytes() == Bloom.build(some[::2].copy()).to_bytes()
    frozen = some.copy()
    frozen.flags.writeable = False
    assert HyperLogLog.build(frozen).to_bytes() == HyperLogLog.build(some).to_bytes()
    assert Frac.build(frozen, 3).to_bytes() == Frac.build(some, 3).to_bytes()
    assert np.array_equal(distinct(np.repeat(some, 3)), np.unique(some))
    assert not hashes(1)[:0].size
    assert distinct(hashes(0)).size == 0


@pytest.mark.parametrize(
    ("make", "written"),
    [
        (
            lambda h: Bloom.build(h, hash_scheme=1),
            (
                "6467667004010100080000000100000000000000200000000000000000084004000084100080000800022000000010080080"
                "004080000110011000407cedaf1a6b546a69"
            ),
        ),
        (
            lambda h: Frac.build(h, 2, hash_scheme=1),
            "64676670050101000800000002000000000000001000000000000000f6299d6fbff7700041f6df977ffffa28f630852224d8aa1a",
        ),
        (
            lambda h: HyperLogLog.build(h, 4, hash_scheme=1),
            "64676670060101000100000004100000000000000002000100000000000000000200000000a837c38c18ecf663",
        ),
    ],
    ids=["bloom", "frac", "hyperloglog"],
)
def test_vectors_of_the_formats_page(make, written: str) -> None:
    assert make(words_of_the_page()).to_bytes().hex() == written


def test_vector_of_the_weighted_sketch() -> None:
    made = Weighted.build(words_of_the_page(), np.array([1.0, 2.0, 4.0]), 16, hash_scheme=1).to_bytes()
    assert len(made) == 288
    assert xxhash.xxh3_64_hexdigest(made) == "420f66e8ecc5f087"
    assert Weighted.from_bytes(made).points[:2].tolist() == [0.5135928573679812, 5.535595114651011]


def words_of_the_page() -> np.ndarray:
    return np.array([xxhash.xxh3_64_intdigest(w) for w in (b"alpha", b"beta", b"gamma")], np.uint64)
