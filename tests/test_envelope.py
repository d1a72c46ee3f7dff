"""The frame of sketches under hostile bytes, and the exact laws behind the limits of estimates."""

from __future__ import annotations

import math
import struct
from fractions import Fraction

import pytest
import xxhash

from dataguard.errors import DecodeError, SchemeMismatch, UsageError
from dataguard.fingerprints.sketches.envelope import (
    BLOOM,
    FRAC,
    MAGIC,
    kind_of,
    pack,
    same_scheme,
    unpack,
)
from dataguard.fingerprints.sketches.estimate import (
    Estimate,
    binomial_limits,
    binomial_lower,
    binomial_upper,
    first,
    hypergeometric_limits,
    log10_binomial_tail,
    miss,
)

VECTOR = bytes.fromhex("6467667004010100020000006162030000000000000078797a121d35723f07943c")
"""docs/formats.md: kind 4, version 1, hash scheme 1, parameters "ab", payload "xyz"."""


def sealed(body: bytes) -> bytes:
    return body + struct.pack("<Q", xxhash.xxh3_64_intdigest(body))


def test_vector_both_ways() -> None:
    assert pack(BLOOM, 1, 1, b"ab", b"xyz") == VECTOR
    parts = unpack(VECTOR, BLOOM, 1)
    assert (parts.version, parts.hash_scheme, parts.params, bytes(parts.payload)) == (1, 1, b"ab", b"xyz")
    assert parts.payload.readonly
    assert kind_of(VECTOR) == BLOOM


@pytest.mark.parametrize("kind_of_bytes", [bytes, bytearray, memoryview])
def test_any_bytes_like_input(kind_of_bytes: type) -> None:
    assert unpack(kind_of_bytes(VECTOR), BLOOM, 1).params == b"ab"


def test_an_older_version_stays_readable_and_a_newer_one_is_named() -> None:
    assert unpack(pack(FRAC, 2, 0, b"", b""), FRAC, 3).version == 2
    with pytest.raises(SchemeMismatch, match="version 2 is not known here"):
        unpack(pack(FRAC, 2, 0, b"", b""), FRAC, 1)
    with pytest.raises(SchemeMismatch, match="version 0"):
        unpack(pack(FRAC, 0, 0, b"", b""), FRAC, 1)


def test_another_kind_is_named() -> None:
    with pytest.raises(SchemeMismatch, match="the sketch is Bloom filter"):
        unpack(VECTOR, FRAC, 1)


@pytest.mark.parametrize("length", range(len(VECTOR)))
def test_every_cut_is_refused(length: int) -> None:
    with pytest.raises(DecodeError):
        unpack(VECTOR[:length], BLOOM, 1)


def test_every_flipped_bit_is_refused() -> None:
    for bit in range(8 * len(VECTOR)):
        altered = bytearray(VECTOR)
        altered[bit // 8] ^= 1 << bit % 8
        with pytest.raises((DecodeError, SchemeMismatch)):
            unpack(altered, BLOOM, 1)


@pytest.mark.parametrize("params_length", [3, 2**31, 2**32 - 1])
@pytest.mark.parametrize("payload_length", [2, 4, 2**63, 2**64 - 1])
def test_lengths_that_lie_are_refused_even_under_a_good_check_sum(
    params_length: int, payload_length: int
) -> None:
    body = struct.pack("<4sBBHI", MAGIC, BLOOM, 1, 0, params_length) + b"ab"
    with pytest.raises(DecodeError):
        unpack(sealed(body + struct.pack("<Q", payload_length) + b"xyz"), BLOOM, 1)
    body = struct.pack("<4sBBHI", MAGIC, BLOOM, 1, 0, 2) + b"ab"
    with pytest.raises(DecodeError, match="bytes instead of"):
        unpack(sealed(body + struct.pack("<Q", payload_length) + b"xyz"), BLOOM, 1)


def test_something_behind_a_sketch_is_refused() -> None:
    with pytest.raises(DecodeError):
        unpack(VECTOR + b"\0", BLOOM, 1)


@pytest.mark.parametrize("scheme", [-1, 65_536])
def test_a_hash_scheme_must_fit_its_two_bytes(scheme: int) -> None:
    with pytest.raises(UsageError, match="use 0 to 65535"):
        pack(FRAC, 1, scheme, b"", b"")


def test_same_scheme_names_what_differs() -> None:
    same_scheme("Frac", scales=(10, 10))
    with pytest.raises(SchemeMismatch, match="Frac: hash schemes 0 and 1 differ"):
        same_scheme("Frac", scales=(10, 10), hash_schemes=(0, 1))


# --- laws ---------------------------------------------------------------------------------------------


def law(trials: int, chance: Fraction) -> list[Fraction]:
    return [math.comb(trials, k) * chance**k * (1 - chance) ** (trials - k) for k in range(trials + 1)]


@pytest.mark.parametrize("confidence", [0.9, 0.998])
@pytest.mark.parametrize("trials", [1, 7, 40])
def test_binomial_limits_cover_for_every_chance(trials: int, confidence: float) -> None:
    """Coverage is summed exactly: no simulation, no error budget."""
    limits = [binomial_limits(k, trials, confidence) for k in range(trials + 1)]
    for step in range(1, 60):
        chance = Fraction(step, 60)
        exact = law(trials, chance)
        assert (
            sum(p for p, (low, _) in zip(exact, limits, strict=True) if low > chance)
            <= miss(confidence) + 1e-12
        )
        assert (
            sum(p for p, (_, high) in zip(exact, limits, strict=True) if high < chance)
            <= miss(confidence) + 1e-12
        )


def test_binomial_limits_at_the_edges() -> None:
    assert binomial_limits(0, 0) == (0.0, 1.0)
    assert binomial_limits(0, 10)[0] == 0.0
    assert binomial_limits(10, 10)[1] == 1.0
    low, high = binomial_limits(0, 10, 0.95)
    assert low == 0.0
    assert (1 - high) ** 10 == pytest.approx(0.025)
    with pytest.raises(UsageError):
        binomial_limits(1, 10, 1.0)


@pytest.mark.parametrize(
    ("trials", "chance"), [(100, Fraction(13, 10_000)), (60, Fraction(1, 3)), (5, Fraction(1, 2))]
)
def test_binomial_tails_against_fractions(trials: int, chance: Fraction) -> None:
    exact = law(trials, chance)
    for k in range(trials + 1):
        upper, lower = sum(exact[k:]), sum(exact[: k + 1])
        assert binomial_upper(k, trials, float(chance)) == pytest.approx(float(upper), rel=1e-9)
        assert binomial_lower(k, trials, float(chance)) == pytest.approx(float(lower), rel=1e-9)
        stated = log10_binomial_tail(k, trials, float(chance))
        truth = math.log10(upper.numerator) - math.log10(upper.denominator)
        # An upper bound, and by less than two units of its fourth decimal.
        assert truth <= stated + 1e-12
        assert stated <= max(truth, -30.0) + 2e-4
    assert binomial_upper(trials + 1, trials, 0.5) == 0.0
    assert binomial_lower(-1, trials, 0.5) == 0.0


def test_binomial_tail_far_out() -> None:
    assert log10_binomial_tail(5000, 10_000, 1e-3) == -30.0
    assert log10_binomial_tail(3, 2, 0.1) == -30.0
    assert log10_binomial_tail(0, 10, 0.1) == 0.0
    assert log10_binomial_tail(1, 10, 0.0) == -30.0
    assert log10_binomial_tail(1, 10, 1.0) == 0.0


@pytest.mark.parametrize(("whole", "drawn"), [(30, 7), (12, 12), (40, 1)])
def test_hypergeometric_limits_cover_for_every_count(whole: int, drawn: int) -> None:
    limits = [hypergeometric_limits(k, drawn, whole, 0.9) for k in range(drawn + 1)]
    for marked in range(whole + 1):
        exact = [
            Fraction(math.comb(marked, k) * math.comb(whole - marked, drawn - k), math.comb(whole, drawn))
            for k in range(drawn + 1)
        ]
        above = sum(p for p, (low, _) in zip(exact, limits, strict=True) if low > marked)
        below = sum(p for p, (_, high) in zip(exact, limits, strict=True) if high < marked)
        assert above <= 0.05 + 1e-9
        assert below <= 0.05 + 1e-9
    if drawn == whole:
        assert all(hypergeometric_limits(k, drawn, whole, 0.9) == (k, k) for k in range(drawn + 1))


def test_hypergeometric_limits_lie_within_the_binomial_ones() -> None:
    low, high = hypergeometric_limits(20, 100, 150)
    wide_low, wide_high = binomial_limits(20, 100)
    assert wide_low < low / 150 < 0.2 < high / 150 < wide_high


@pytest.mark.parametrize("whole", [10**9 - 7, 10**9 + 7, 10**12, 10**15, 10**18])
def test_hypergeometric_limits_of_a_huge_whole_are_the_binomial_ones(whole: int) -> None:
    """Log-gammas have no digits left there: they gave 0.250 to 0.769 of 10**16 where 0.345 to 0.655 is right."""
    low, high = hypergeometric_limits(50, 100, whole)
    assert (low / whole, high / whole) == pytest.approx(binomial_limits(50, 100), abs=3e-7)


def test_first() -> None:
    for answer in range(12):
        assert first(0, 10, lambda k, a=answer: k >= a) == min(answer, 11)


def test_an_estimate_reads_well() -> None:
    assert str(Estimate(0.5, 0.25, 0.75)) == "0.5 (0.25 to 0.75, 0.998)"
