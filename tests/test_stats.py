"""The law of the score: exact against brute force, bounds against exact, Holm against its definition."""

from __future__ import annotations

import itertools
import math
import random
from collections import Counter

import pytest

from dataguard.model import ONE
from dataguard.stats import BENTKUS, Coins, NullLaw, holm, round_up, score


def law_by_enumeration(votes: list[tuple[int, int]]) -> dict[int, float]:
    """Slow twin: every outcome of every coin."""
    law: dict[int, float] = {}
    for symbols in itertools.product((0, 1), repeat=len(votes)):
        s = sum(w * (ONE * x - b) for (b, w), x in zip(votes, symbols, strict=True))
        p = math.prod((b if x else ONE - b) / ONE for (b, _), x in zip(votes, symbols, strict=True))
        law[s] = law.get(s, 0.0) + p
    return law


def coins_of(votes: list[tuple[int, int]]) -> list[Coins]:
    return [Coins(b, w, n) for (b, w), n in sorted(Counter(votes).items())]


@pytest.mark.parametrize("seed", range(40))
def test_exact_tail_equals_enumeration(seed: int) -> None:
    rng = random.Random(seed)
    biases = rng.choice([[ONE // 2], [7400, ONE - 7400], [ONE // 2, 10000, 60000]])
    votes = [(rng.choice(biases), rng.choice([-256, -64, -3, 1, 2, 64, 256])) for _ in range(9)]
    truth = law_by_enumeration(votes)
    law = NullLaw(coins_of(votes))
    for s in sorted(truth):
        for threshold in (s, s + 1):
            want = sum(p for value, p in truth.items() if value >= threshold)
            got = law.log10_exact(threshold)
            assert got == pytest.approx(math.log10(want), abs=1e-9) if want > 0 else got == -math.inf


def test_bound_is_never_below_the_exact_tail_down_to_1e_15() -> None:
    """1,000 random histograms with mixed biases and unequal weights, each at several depths."""
    rng = random.Random(20261124)
    checked = deepest = 0
    for _ in range(1000):
        n = rng.randint(20, 160)
        levels = rng.sample([ONE // 2, 7400, 13828, 21626, 43910, 51708, 58136], rng.randint(1, 3))
        weights = rng.sample([-256, -128, -64, 32, 64, 128, 192, 256], rng.randint(1, 4))
        law = NullLaw(coins_of([(rng.choice(levels), rng.choice(weights)) for _ in range(n)]))
        for z in (1, 2, 3, 4, 5, 6, 7, 7.9):
            s = int(z * math.sqrt(law.variance))
            exact, bound = law.log10_exact(s), law.log10_bound(s)
            if exact < -15.0:
                continue
            assert bound >= exact - 1e-12
            checked += 1
            deepest = min(deepest, exact)
    assert checked > 6000
    assert deepest < -13


def test_bentkus_constant_bound_holds_for_fair_coins_and_beats_hoeffding() -> None:
    for n in (10, 41, 100, 400):
        law = NullLaw([Coins(ONE // 2, 256, n)])
        for agree in range(n // 2 + 1, n + 1):
            s = score([Coins(ONE // 2, 256, n)], [agree])
            assert law.log10_bound(s) >= law.log10_exact(s) - 1e-12
    z = 6.0
    assert math.log(BENTKUS) + math.log(math.erfc(z / math.sqrt(2)) / 2) < -z * z / 2


def test_threshold_of_negative_weights_counts_agreement_with_symbol_zero() -> None:
    coins = [Coins(ONE // 2, -256, 10)]
    law = NullLaw(coins)
    assert law.log10_exact(score(coins, [0])) == pytest.approx(-10 * math.log10(2))
    assert law.log10_p(score(coins, [10])) == 0.0


def test_forty_one_clean_votes_name_one_of_a_thousand_in_a_first_run() -> None:
    from dataguard.watermarking.forecast import votes_needed

    assert votes_needed(1e-9, 1000) == 41
    coins = [Coins(ONE // 2, 256, 41)]
    adjusted = NullLaw(coins).log10_p(score(coins, [41])) + math.log10(2000)
    assert adjusted <= -9 < adjusted + math.log10(2)


def test_reported_value_is_rounded_towards_the_innocent_and_floored() -> None:
    assert round_up(-12.34567) == -12.3456
    assert round_up(-200.0) == -30.0
    assert round_up(-math.inf) == -30.0
    assert round_up(0.2) == 0.0
    assert NullLaw([]).log10_p(0) == 0.0


def test_impossible_scores_do_not_break() -> None:
    coins = [Coins(ONE // 2, 256, 3)]
    law = NullLaw(coins)
    assert law.log10_exact(score(coins, [3]) + 1) == -math.inf
    assert law.log10_p(score(coins, [3]) + 1) <= 0


def test_holm_by_its_definition() -> None:
    p = [-3.0, -1.0, -8.0, -2.5]
    got = holm(p, extra=0.3)
    # Sorted: -8 (x4), -3 (x3), -2.5 (x2), -1 (x1), running maximum, plus the factor.
    want = [-3 + math.log10(3) + 0.3, max(-2.5 + math.log10(2), -1) + 0.3, -8 + math.log10(4) + 0.3, None]
    assert got[2] == pytest.approx(want[2])
    assert got[0] == pytest.approx(want[0])
    assert got[3] == pytest.approx(-2.5 + math.log10(2) + 0.3)
    assert got[1] == pytest.approx(min(0, max(-2.5 + math.log10(2), -1.0) + 0.3))
    assert all(a >= b for a, b in zip(got, p, strict=True))
