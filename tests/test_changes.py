"""Maps fitted to row pairs of which a third may be wrong; renamed categories."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from dataguard.fingerprints.changes.constants import near_constants
from dataguard.fingerprints.changes.fitting import fit_map, fit_recoding
from dataguard.fingerprints.changes.grids import digits_of, grids_of
from dataguard.fingerprints.changes.units import unit_of, zone_of
from dataguard.maps import ValueMap

F64 = NDArray[np.float64]
RNG = np.random.default_rng(20240229)
M = 3000
COUNTS = np.round(RNG.lognormal(5, 1, M))
MINUTES = RNG.integers(0, 60, M).astype(float)
NORMAL = RNG.normal(0, 1, M)
FAHRENHEIT = np.round(np.round(RNG.normal(12, 9, M), 1) * 1.8 + 32, 2)
MOSTLY_ZERO = np.where(RNG.random(M) < 0.92, 0.0, RNG.integers(1, 100, M) * 97.0)
SECONDS = 1.36e9 + RNG.integers(0, 31_000_000, M)


def with_wrong_pairs(y: F64, share: float) -> F64:
    y = y.copy()
    at = np.random.default_rng(7).permutation(len(y))[: int(share * len(y))]
    y[at] = np.random.default_rng(8).permutation(y)[: len(at)]
    return y


EXACT: dict[str, tuple[F64, Callable[[F64], F64], ValueMap]] = {
    "as it is": (COUNTS, lambda x: x, ValueMap()),
    "miles": (COUNTS, lambda x: np.round(x * 1.609344, 2), ValueMap(scale=1.609344, step=0.01)),
    "hours": (COUNTS, lambda x: x / 60, ValueMap(scale=1 / 60)),
    "hours, printed": (COUNTS, lambda x: np.round(x / 60, 4), ValueMap(scale=1 / 60, step=1e-4)),
    "fahrenheit": (FAHRENHEIT, lambda x: np.round(x * 5 / 9 - 160 / 9, 2),
                   ValueMap(scale=5 / 9, shift=-160 / 9, step=0.1)),
    "currency": (COUNTS, lambda x: np.round(x * 3.7281, 2), ValueMap(scale=3.7281, step=0.01)),
    "sign": (COUNTS, lambda x: -x, ValueMap(scale=-1.0, step=1.0)),
    "tens": (COUNTS, lambda x: np.round(x / 10) * 10, ValueMap(step=10.0)),
    "tens, halves up": (COUNTS, lambda x: np.floor(x / 10 + 0.5) * 10, ValueMap(step=10.0, rule="half-away")),
    "tens below": (COUNTS, lambda x: np.floor(x / 10) * 10, ValueMap(step=10.0, rule="floor")),
    "fives above": (MINUTES, lambda x: np.ceil(x / 5) * 5, ValueMap(step=5.0, rule="ceil")),
    "km, tens": (COUNTS, lambda x: np.round(x * 0.160934_4) * 10, ValueMap(scale=1.609344, step=10.0)),
    "two digits": (COUNTS, lambda x: np.array([float(f"{v:.1e}") for v in x]), ValueMap(digits=2)),
    "bounds": (COUNTS, lambda x: np.clip(x, 50, 400), ValueMap(low=50.0, high=400.0)),
    "log": (COUNTS, np.log, ValueMap("log")),
    "log1p": (COUNTS - 1, np.log1p, ValueMap("log1p")),
    "sqrt": (COUNTS, np.sqrt, ValueMap("sqrt")),
    "reciprocal": (COUNTS, lambda x: 1 / x, ValueMap("reciprocal")),
    "square": (NORMAL, lambda x: x * x, ValueMap("square")),
    "exp": (NORMAL, np.exp, ValueMap("exp")),
    "mostly nought": (MOSTLY_ZERO, lambda x: np.round(x * 0.92, 2), ValueMap(scale=0.92, step=0.01)),
    "zone": (SECONDS, lambda x: x - 9 * 3600, ValueMap(shift=-32_400.0, step=1.0)),
    "days": (SECONDS, lambda x: np.floor(x / 86_400) * 86_400, ValueMap(step=86_400.0, rule="floor")),
}  # fmt: skip


@pytest.mark.parametrize("wrong", [0.0, 0.3])
@pytest.mark.parametrize("name", EXACT)
def test_the_map_is_found_by_its_very_constants(name: str, wrong: float) -> None:
    x, function, true = EXACT[name]
    y = function(x)
    fit = fit_map(x, with_wrong_pairs(y, wrong))
    assert fit is not None
    found = fit.map
    assert (found.function, found.rule, found.digits) == (true.function, true.rule, true.digits)
    assert (found.scale, found.shift) == pytest.approx((true.scale, true.shift), rel=1e-12)
    assert found.noise == 0
    assert fit.explained >= 0.99 * (1 - wrong)
    # Whatever grid it is given, the map shows what the suspect shows.
    assert np.mean(np.abs(found.apply(x) - y) <= 1e-9 * np.abs(y) + 1e-12) >= 0.998
    if true.step or true.low > -np.inf:
        assert (found.low, found.high) == (true.low, true.high)
    if name != "mostly nought":
        assert found.step == pytest.approx(true.step)


def test_printed_numbers_come_out_bit_by_bit() -> None:
    x = np.arange(1, 2000) / 100
    y = np.array([float(f"{v * 1.17:.4f}") for v in x])
    fit = fit_map(x, y)
    assert fit is not None
    assert np.array_equal(fit.map.apply(x), y)


@pytest.mark.parametrize("wrong", [0.0, 0.3])
@pytest.mark.parametrize(("x", "sd"), [(COUNTS, 2.0), (MOSTLY_ZERO, 20.0), (FAHRENHEIT, 0.18)])
def test_noise_is_measured_in_spite_of_wrong_pairs(x: F64, sd: float, wrong: float) -> None:
    y = x + np.random.default_rng(9).normal(0, sd, len(x))
    fit = fit_map(x, with_wrong_pairs(y, wrong))
    assert fit is not None
    assert (fit.map.scale, fit.map.shift, fit.map.function) == (1.0, 0.0, "")
    # 2,100 right pairs: the sd of an estimated sd is 1.5 %; wrong pairs that come near add as much.
    assert fit.map.noise == pytest.approx(sd, rel=0.08)


def test_noise_on_converted_values() -> None:
    y = 3 * NORMAL + 5 + np.random.default_rng(9).normal(0, 0.2, M)
    fit = fit_map(NORMAL, y)
    assert fit is not None
    assert (fit.map.scale, fit.map.shift, fit.map.noise) == pytest.approx((3, 5, 0.2), rel=0.05)
    assert fit.explained > 0.999


def test_ranks_become_a_table() -> None:
    fit = fit_map(NORMAL, np.argsort(np.argsort(NORMAL)).astype(float))
    assert fit is not None
    assert fit.map.function == "table"
    assert len(fit.map.knots) <= 257


def test_marks_leave_a_column_as_it_is() -> None:
    x = np.sort(COUNTS + NORMAL / 10)
    y = x.copy()
    y[0::5], y[1::5] = x[1::5], x[0::5]
    fit = fit_map(x, y)
    assert fit is not None
    assert fit.map == ValueMap()
    assert fit.explained == pytest.approx(0.6)


@pytest.mark.parametrize(
    ("x", "y"),
    [
        (np.arange(7.0), np.arange(7.0)),
        (np.ones(50), np.arange(50.0)),
        (np.arange(50.0), np.ones(50)),
        (np.full(50, np.nan), np.arange(50.0)),
        (np.full(50, np.inf), np.arange(50.0)),
        (np.array([1e308, -1e308] * 20), np.array([-1e308, 1e308] * 20)),
        (np.empty(0), np.empty(0)),
        (COUNTS, np.roll(COUNTS, 1000)),
        (MINUTES, np.roll(MINUTES, 1000)),
        (COUNTS, MINUTES),
        (MOSTLY_ZERO, np.roll(MOSTLY_ZERO, 1000)),
    ],
)
def test_nothing_is_made_of_nothing(x: F64, y: F64) -> None:
    assert fit_map(x, y) is None


def test_extreme_numbers_are_survived() -> None:
    rng = np.random.default_rng(3)
    for x in (rng.normal(0, 1e-300, 100), rng.normal(0, 1e140, 100), rng.integers(0, 3, 100) * 5e-324):
        for y in (x, rng.permutation(x), x * 1e10, np.where(rng.random(100) < 0.5, np.inf, x)):
            fit_map(x.astype(float), y.astype(float))


def test_pairs_of_shuffled_columns_have_no_map() -> None:
    """200 fits, each false with 2e-5: more than one has a chance below 1e-5."""
    rng = np.random.default_rng(11)
    columns = [COUNTS, MINUTES, NORMAL, FAHRENHEIT, MOSTLY_ZERO, SECONDS, rng.integers(0, 4, M).astype(float)]
    false = 0
    for i in range(200):
        m = (12, 40, 150, 400)[i % 4]
        x, y = (columns[k][rng.integers(0, M, m)] for k in rng.integers(0, len(columns), 2))
        false += fit_map(x, y) is not None
    assert false <= 1


# --- renamed values -----------------------------------------------------------------------------


@pytest.mark.parametrize("wrong", [0.0, 0.3])
@pytest.mark.parametrize("values", [3, 20, 800])
def test_renamed_values_are_found(values: int, wrong: float) -> None:
    rng = np.random.default_rng(values)
    a = rng.integers(1, values + 1, M)
    names = rng.permutation(values + 1) + 10**6
    b = with_wrong_pairs(names[a].astype(float), wrong).astype(np.uint64)
    fit = fit_recoding(a.astype(np.uint64), b)
    assert fit is not None
    right = names[fit.map.source.astype(np.int64)] == fit.map.target
    assert right.mean() >= 0.97
    assert fit.explained >= 0.7


def test_what_is_not_a_renaming() -> None:
    rng = np.random.default_rng(5)
    a, b = rng.integers(1, 20, (2, M)).astype(np.uint64)
    assert fit_recoding(a, b) is None  # unrelated
    assert fit_recoding(a, a) is None  # as they were
    assert (
        fit_recoding(a, np.where(rng.random(M) < 0.95, 1, b).astype(np.uint64)) is None
    )  # a constant, nearly
    once = np.arange(1, M + 1, dtype=np.uint64)
    assert fit_recoding(once, once[::-1].copy()) is None  # values seen once
    assert fit_recoding(np.zeros(M, np.uint64), a) is None
    assert fit_recoding(a[:5], b[:5]) is None


def test_several_values_may_get_one_name() -> None:
    a = np.random.default_rng(6).integers(1, 41, M).astype(np.uint64)
    fit = fit_recoding(a, a // np.uint64(4) + np.uint64(1000))
    assert fit is not None
    assert not fit.one_to_one
    assert fit.explained == 1


# --- parts ---------------------------------------------------------------------------------------


def test_grids_and_digits() -> None:
    rng = np.random.default_rng(2)
    n = rng.integers(0, 500, 400)
    assert grids_of(n * 5.0)[0] == 5
    assert grids_of(n / 100)[0] == 0.01
    assert grids_of(n * 16.09344)[-1] == pytest.approx(16.09344)
    assert grids_of(n * 86_400.0)[0] == 86_400
    assert grids_of(rng.normal(size=400)) == [0.0]
    assert grids_of(np.zeros(5)) == [0.0]
    assert digits_of(np.array([1200.0, 34.0, 0.056])) == 2
    assert digits_of(rng.normal(size=50)) == 0


def test_constants_that_people_use_come_first() -> None:
    assert near_constants(2.5400003, 1e-5)[0] == 2.54
    assert near_constants(1 / 60 + 1e-9, 1e-8)[0] == 1 / 60
    assert near_constants(-17.7778, 1e-3, offsets=True)[0] == -160 / 9
    assert near_constants(1e-9, 1e-6, offsets=True)[0] == 0
    assert near_constants(float("nan"), 1.0) == []


def test_units() -> None:
    assert unit_of(2.54, 0, 10) == "inch -> cm"
    assert unit_of(5 / 9, -160 / 9, 10) == "degF -> degC"
    assert unit_of(1, 273.15, 10) == "degC -> K"
    assert "knot -> m/s" in str(unit_of(0.514444, 0, 10))
    assert "min -> s" in str(unit_of(60, 0, 10))
    assert unit_of(1.17, 0, 10) is None
    assert unit_of(2.54, 40, 10) is None
    assert unit_of(-1, 0, 10) == "sign reversed"
    assert zone_of(-32_400) == "UTC+9 -> UTC"
    assert zone_of(19_800) == "UTC -> UTC+5:30"
    assert zone_of(17) is None
    assert zone_of(18_000, 14_400) == "UTC -> UTC+5/+4 (daylight saving time)"
