"""Columns guessed by the shape of their distributions: what survives noise and units, and what is no guess.

No probabilities are claimed by these guesses; every case is a fixed seed. Correlations are checked against scipy.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from scipy.stats import rankdata, spearmanr

from dataguard.carrier import ColumnMatch
from dataguard.fingerprints.alignment.shapes import guess_columns, rank_correlations, with_noise
from dataguard.maps import Recoding, ValueMap
from dataguard.values import canonical_table

ROWS = 2000


def shapes(seed: int = 0) -> dict[str, np.ndarray]:
    """Three independent columns of different shapes."""
    rng = np.random.default_rng(seed)
    two = np.where(rng.random(ROWS) < 0.3, rng.normal(-4, 0.5, ROWS), rng.normal(3, 1, ROWS))
    return {"skewed": rng.lognormal(0, 1, ROWS), "two": two, "flat": rng.uniform(10, 20, ROWS)}


def guessed(
    original: dict[str, np.ndarray], suspect: dict[str, np.ndarray], columns: tuple[ColumnMatch, ...] = ()
) -> dict[str, tuple[str, ValueMap | None]]:
    """Return the original column and map guessed for each suspect column, learnt from every row."""
    rows = len(next(iter(suspect.values())))
    a, b = canonical_table(pa.table(original)), canonical_table(pa.table(suspect))
    found = guess_columns(a, b, columns, np.arange(rows))
    assert all(c.by == "shape" for c in found)
    return {b.names[c.suspect]: (a.names[c.original], c.through) for c in found}


def shown(**made: np.ndarray) -> dict[str, np.ndarray]:
    """Other columns under names that say nothing, in another order of rows."""
    order = np.random.default_rng(9).permutation(ROWS)
    return {name: values[order] for name, values in made.items()}


def test_noise_leaves_the_shape() -> None:
    x, rng = shapes(), np.random.default_rng(1)
    noisy = {n: v + 0.02 * v.std() * rng.normal(size=ROWS) for n, v in x.items()}
    found = guessed(x, shown(f0=noisy["two"], f1=noisy["flat"], f2=noisy["skewed"]))
    assert {n: o for n, (o, _) in found.items()} == {"f0": "two", "f1": "flat", "f2": "skewed"}
    assert found["f0"][1] is None


def test_other_units_leave_the_shape_and_tell_the_map() -> None:
    x = shapes()
    found = guessed(x, shown(f0=1.8 * x["two"] + 32, f1=-2.5 * x["skewed"]))
    assert found["f0"][0] == "two"
    through = found["f0"][1]
    assert through is not None
    assert (through.function, through.scale, through.shift) == (
        "",
        pytest.approx(1.8, rel=1e-6),
        pytest.approx(32, rel=1e-6),
    )
    assert found["f1"][0] == "skewed"  # a falling map: small becomes large
    assert found["f1"][1] is not None
    assert found["f1"][1].scale == pytest.approx(-2.5, rel=1e-6)


@pytest.mark.parametrize("function", ["log", "square", "sqrt"])
def test_a_function_is_guessed(function: str) -> None:
    x = shapes()
    positive = {"skewed": x["skewed"] + 0.5, "flat": x["flat"], "two": x["two"]}
    made = ValueMap(function, 3.0, 1.0).apply(positive["skewed"])
    found = guessed(positive, shown(f0=made))
    assert found["f0"][0] == "skewed"
    through = found["f0"][1]
    assert through is not None
    # Roughly right is all that is asked: within 5 % of the standard deviation.
    assert np.abs(through.apply(positive["skewed"]) - made).mean() < 0.05 * made.std()


def test_an_unrelated_shape_is_no_guess() -> None:
    x = shapes()
    rng = np.random.default_rng(2)
    comb = rng.integers(0, 5, ROWS) * 10.0 + rng.normal(0, 0.3, ROWS)
    del x["flat"]  # five narrow teeth are, by their ranks, nearly flat
    assert guessed(x, {"f0": comb}) == {}


def test_few_values_constants_texts_and_gaps_have_no_shape() -> None:
    x = shapes()
    flags = (np.arange(ROWS) % 7).astype(float)
    odd = {
        "few": flags,
        "same": np.ones(ROWS),
        "gone": np.full(ROWS, np.nan),
        "words": np.array(["word"] * ROWS),
        "beyond": np.where(np.arange(ROWS) % 2, np.inf, -np.inf),
    }
    assert guessed(x, odd) == {}
    assert guessed(odd, {"f0": x["two"]}) == {}
    assert guessed({"a": np.empty(0)}, {"f0": np.empty(0)}) == {}


def test_gaps_speak_against_a_column_without_any() -> None:
    x = shapes()
    gaps = np.where(np.random.default_rng(3).random(ROWS) < 0.7, np.nan, x["two"])
    assert guessed({"two": x["two"]}, {"f0": gaps}) == {}
    assert guessed({"two": gaps}, {"f0": gaps[::-1]})["f0"][0] == "two"


def test_names_settle_columns_of_one_shape() -> None:
    rng = np.random.default_rng(4)
    x = {name: rng.normal(size=ROWS) for name in ("north", "south", "east")}
    y = {name: rng.normal(size=ROWS) for name in ("East", "north", "SOUTH")}
    found = guessed(x, y)
    assert {n: o for n, (o, _) in found.items()} == {"East": "east", "north": "north", "SOUTH": "south"}


def test_correlations_with_known_columns_settle_columns_of_one_shape() -> None:
    """Of two normal columns one rises with the column that is known, one falls with it."""
    rng = np.random.default_rng(5)

    def draw() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        known = rng.normal(size=ROWS)
        up, down = 0.8 * known + 0.6 * rng.normal(size=ROWS), 0.6 * rng.normal(size=ROWS) - 0.8 * known
        return known, up, down

    a, b = draw(), draw()
    original = dict(zip(("known", "up", "down"), a, strict=True))
    found = guessed(original, {"f0": b[2], "known": b[0], "f2": b[1]}, (ColumnMatch(0, 1, "name", 1.0),))
    # Normal columns are symmetric: a falling map of the wrong one would do as well, but costs a nat.
    assert {n: o for n, (o, _) in found.items()} == {"f0": "down", "f2": "up"}


def test_known_columns_are_left_out() -> None:
    x = shapes()
    found = guessed(x, {"f0": x["two"], "f1": x["flat"]}, (ColumnMatch(1, 0, "values", 1.0),))
    assert {n: o for n, (o, _) in found.items()} == {"f1": "flat"}


def test_noise_of_several_sizes_is_tried() -> None:
    x = shapes()
    table = canonical_table(pa.table({"f0": x["two"], "f1": x["flat"]}))
    empty = np.empty(0, np.uint64)
    guess = (
        ColumnMatch(1, 0, "shape", 0.0, ValueMap("", 2.0)),
        ColumnMatch(0, 1, "shape", 0.0, Recoding(empty, empty)),
    )
    sizes = []
    for columns in with_noise(table, guess):
        through = columns[0].through
        assert isinstance(through, ValueMap)
        assert through.scale == 2.0
        sizes.append(through.noise / x["two"].std())
        assert columns[1] == guess[1]  # categories have no noise
    assert sizes == pytest.approx(sorted(sizes, reverse=True))
    assert len(sizes) >= 2
    assert all(0 < s < 0.1 for s in sizes)


# --- correlations --------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_rank_correlations_equal_scipy(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(3, 80))
    y = np.round(x[[2, 0]] * 2 + rng.normal(size=(2, 80)))  # with ties
    found = rank_correlations(x, y)
    assert found.shape == (3, 2)
    for i in range(3):
        for j in range(2):
            assert found[i, j] == pytest.approx(spearmanr(x[i], y[j]).statistic, abs=1e-12)
    assert (np.abs(found) < 0.99).all()


def test_missing_cells_stand_at_the_mean_and_constants_correlate_with_nothing() -> None:
    rng = np.random.default_rng(6)
    x = rng.integers(0, 9, (2, 60)).astype(float)
    x[0, rng.random(60) < 0.3] = np.nan
    x[1, 3] = np.inf
    centred = np.zeros((2, 60))
    for i, row in enumerate(x):
        there = np.isfinite(row)
        ranks = rankdata(row[there])
        centred[i, there] = ranks - ranks.mean()
    expected = centred[0] @ centred[1] / np.sqrt((centred[0] ** 2).sum() * (centred[1] ** 2).sum())
    assert rank_correlations(x[:1], x[1:])[0, 0] == pytest.approx(expected, abs=1e-12)
    flat = np.stack([np.ones(60), np.full(60, np.nan)])
    assert rank_correlations(flat, x).tolist() == [[0.0, 0.0], [0.0, 0.0]]
