"""Value maps: grids, digits, functions, knots; recodings."""

import math
from decimal import ROUND_HALF_UP, Decimal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataguard.maps import FUNCTIONS, RULES, Recoding, ValueMap


@given(st.integers(-(10**9), 10**9), st.integers(0, 5))
def test_a_decimal_grid_gives_the_very_number_that_the_text_is_read_as(n: int, decimals: int) -> None:
    step = 10.0**-decimals
    x = np.array([n * step])
    assert ValueMap(step=step).apply(x)[0] == float(Decimal(n).scaleb(-decimals))


@given(st.integers(-(10**7), 10**7))
def test_half_away_rounds_as_decimal_arithmetic_does(n: int) -> None:
    shown = ValueMap(step=0.01, rule="half-away").apply(np.array([n / 1000]))[0]
    assert shown == float((Decimal(n) / 1000).quantize(Decimal("0.01"), ROUND_HALF_UP))


def test_each_rule_on_both_sides_of_nought() -> None:
    x = np.array([-2.5, -1.2, 0.0, 1.5, 2.5, 2.6])
    shown = {rule: ValueMap(step=1.0, rule=rule).apply(x).tolist() for rule in RULES}
    assert shown == {
        "nearest": [-2, -1, 0, 2, 2, 3],
        "half-away": [-3, -1, 0, 2, 3, 3],
        "floor": [-3, -2, 0, 1, 2, 2],
        "ceil": [-2, -1, 0, 2, 3, 3],
        "truncate": [-2, -1, 0, 1, 2, 2],
    }


def test_every_function_is_the_one_of_its_name_and_nan_stays_nan() -> None:
    x = np.array([0.5, 3.0, np.nan])
    true = {
        "": lambda v: v, "log": math.log, "log10": math.log10, "log2": math.log2, "log1p": math.log1p,
        "exp": math.exp, "sqrt": math.sqrt, "square": lambda v: v * v, "reciprocal": lambda v: 1 / v,
    }  # fmt: skip
    assert {*true, "table"} == set(FUNCTIONS)
    for name, f in true.items():
        shown = ValueMap(name, scale=2.0, shift=1.0).apply(x)
        assert shown[:2] == pytest.approx([2 * f(0.5) + 1, 2 * f(3.0) + 1], rel=1e-14)
        assert np.isnan(shown[2])
    assert np.isnan(ValueMap("log").apply(np.array([0.0, -1.0]))).all()


def test_bounds_digits_and_knots() -> None:
    assert ValueMap(low=1.0, high=2.0).apply(np.array([0.0, 1.5, 9.0])).tolist() == [1.0, 1.5, 2.0]
    assert ValueMap(digits=2).apply(np.array([1234.0, 0.0, -0.0456])).tolist() == pytest.approx(
        [1200, 0, -0.046]
    )
    table = ValueMap("table", knots=((0.0, 10.0), (1.0, 20.0)))
    assert table.apply(np.array([-5.0, 0.5, 7.0])).tolist() == [10.0, 15.0, 20.0]


def test_plain_means_that_nothing_but_noise_is_done() -> None:
    assert ValueMap().is_plain
    assert ValueMap(noise=3.0).is_plain
    assert not any(
        m.is_plain for m in (ValueMap(scale=2.0), ValueMap(step=1.0), ValueMap(high=4.0), ValueMap("log"))
    )


def test_recoding_knows_its_values_and_no_others() -> None:
    made = Recoding(np.array([3, 7], np.uint64), np.array([70, 30], np.uint64))
    assert made.apply(np.array([7, 3, 5, 0, 99], np.uint64)).tolist() == [30, 70, 0, 0, 0]
    empty = Recoding(np.empty(0, np.uint64), np.empty(0, np.uint64))
    assert empty.apply(np.array([1], np.uint64)).tolist() == [0]
