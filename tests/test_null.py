"""The promise to the innocent, tested where it is hardest: somebody else's copy really leaked.

Error budget: every threshold below is crossed by a correct program with probability at
most 1e-9 (Kolmogorov-Smirnov, by the DKW bound) or 1e-5 (variance band of 4.4 standard
deviations at 100,000 keys); seeds are fixed, nothing is retried. The seeded faults must
be caught by the same thresholds: a test that cannot fail is no test.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from dataguard.model import ONE
from dataguard.slots import Votes
from dataguard.stats import NullLaw
from dataguard.watermarking.accusation import coins, scores
from dataguard.watermarking.calibration import Calibration, calibrate
from dataguard.watermarking.symbols import symbols
from nulls import TABLES, innocent_keys, leaked

KS_BUDGET = -9.0
VARIANCE_BAND = 0.02
FAULT_KEYS = 20_000
FAULT_BAND = 0.06


def is_calibrated(result: Calibration, band: float = VARIANCE_BAND) -> bool:
    return result.log10_p > KS_BUDGET and abs(result.variance_ratio - 1) <= band


def uniform(n: int) -> np.ndarray:
    return np.random.default_rng(11).random(n)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(TABLES))
def test_hundred_thousand_innocent_keys_follow_the_exact_law(name: str) -> None:
    case = leaked(name)
    assert len(case.votes) > 300
    assert len(case.readings.slot) > len(case.votes), "both ends of some pairs leaked"
    law = NullLaw(coins(case.votes))
    assert law.is_exact_affordable
    total, _ = scores(case.votes, innocent_keys(name, 100_000), case.plan.channel)
    result = calibrate(law, total, uniform(100_000))
    assert is_calibrated(result), result


@pytest.mark.parametrize("name", ["covertype"])
def test_twenty_thousand_innocent_keys_follow_the_exact_law(name: str) -> None:
    case = leaked(name)
    total, _ = scores(case.votes, innocent_keys(name, FAULT_KEYS), case.plan.channel)
    assert is_calibrated(calibrate(NullLaw(coins(case.votes)), total, uniform(FAULT_KEYS)), FAULT_BAND)


# --- seeded faults: each must be caught ------------------------------------------------------------


def test_fault_a_slot_counted_twice_is_caught() -> None:
    """Both ends of a pair as two votes: their symbols are the same coin, the law takes them for two."""
    case = leaked("covertype")
    order = np.argsort(case.plan.address[case.readings.slot], kind="stable")
    slot, weight = case.readings.slot[order], case.readings.weight[order]
    naive = Votes(slot, case.plan.address[slot], case.plan.bias[slot], weight)
    total, _ = scores(naive, innocent_keys("covertype", FAULT_KEYS), case.plan.channel)
    assert not is_calibrated(calibrate(NullLaw(coins(naive)), total, uniform(FAULT_KEYS)), FAULT_BAND)


def test_fault_a_mask_per_recipient_is_caught() -> None:
    """Scoring only slots "really written" in the recipient's copy looks at his symbols twice."""
    case = leaked("covertype")
    votes = case.votes
    law = NullLaw(coins(votes))
    weight = votes.weight.astype(np.int64)
    total = np.empty(FAULT_KEYS, np.int64)
    for i, key in enumerate(innocent_keys("covertype", FAULT_KEYS)):
        s = symbols(key, votes.address, votes.bias, case.plan.channel)
        total[i] = int((weight * (ONE * s.astype(np.int64) - votes.bias))[s == 1].sum())
    assert not is_calibrated(calibrate(law, total, uniform(FAULT_KEYS)), FAULT_BAND)


def test_fault_a_silent_redraw_is_caught() -> None:
    """A key drawn again until it reads back well from the data at hand is no random key."""
    case = leaked("covertype")
    total, _ = scores(case.votes, innocent_keys("covertype", 2 * FAULT_KEYS), case.plan.channel)
    better = total.reshape(-1, 2).max(axis=1)
    law = NullLaw(coins(case.votes))
    assert not is_calibrated(calibrate(law, better, uniform(FAULT_KEYS)), FAULT_BAND)


def test_fault_a_repeated_codeword_is_caught() -> None:
    """A short codeword repeated over many slots: the votes on one code position are one coin."""
    case = leaked("covertype")
    code = case.votes.address % np.uint64(128)
    total = np.empty(FAULT_KEYS, np.int64)
    weight = case.votes.weight.astype(np.int64)
    for i, key in enumerate(innocent_keys("covertype", FAULT_KEYS)):
        s = symbols(key, code, case.votes.bias, case.plan.channel)
        total[i] = int((weight * (ONE * s.astype(np.int64) - case.votes.bias)).sum())
    assert not is_calibrated(calibrate(NullLaw(coins(case.votes)), total, uniform(FAULT_KEYS)), FAULT_BAND)


def test_fault_redrawing_is_paid_for_by_the_number_of_draws() -> None:
    """With the factor 2 for two draws the bound holds again: P(p <= t) <= t at every t tried."""
    case = leaked("covertype")
    total, _ = scores(case.votes, innocent_keys("covertype", 2 * FAULT_KEYS), case.plan.channel)
    law = NullLaw(coins(case.votes))
    best = total.reshape(-1, 2).max(axis=1)
    for log10_t in (-1.0, -2.0, -3.0):
        share = np.mean([law.log10_p(int(s)) + np.log10(2) <= log10_t for s in best])
        t = 10.0**log10_t
        # Six standard deviations of a binomial share: false alarm below 1e-8.
        assert share <= t + 6 * np.sqrt(t * (1 - t) / FAULT_KEYS)


def test_the_order_of_slots_and_the_digest_agree() -> None:
    votes = leaked("covertype").votes
    flipped = dataclasses.replace(votes, weight=-votes.weight)
    assert votes.digest() != flipped.digest()
