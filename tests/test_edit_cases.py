"""The edit cases of the benchmark, cut down to 4,000 rows, from Python: rows, columns, steps and relation are found.

Error budget: the cases are fixed by their seed, and nothing of the comparison is random: a run is deterministic. The
thresholds leave room below what was measured (the comments); the one claim that must not be made, of the other rows
of e16, has log10 alpha = -6 by contract.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conftest import shared
from dataguard.budget import DEFAULT_BUDGET
from dataguard.fingerprints.comparison.tables import Comparison
from dataguard.formats.source import open_source
from dataguard.investigate import compare, compare_sources
from dataguard.modalities.discovery import detect
from dataguard.model import COMPARE_ALPHA, Relation

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
ROWS = 4000
DATA = {
    "flights": "tables/nycflights13_flights.parquet",
    "ships": "trajectories/ais_us_2022-01-03.parquet",
    "cover": "tables/covertype_100k.parquet",
    "adult": "tables/adult.data.csv.gz",
}


@pytest.fixture(scope="module")
def bench() -> Iterator[Any]:
    """Modules of the benchmarks by name."""
    sys.path.insert(0, str(BENCHMARKS))
    try:
        yield importlib.import_module
    finally:
        sys.path.remove(str(BENCHMARKS))


@pytest.fixture(scope="module")
def base_of(bench: Any) -> Any:
    @cache
    def make(name: str) -> Any:
        shared(DATA[name])
        return bench("edits").BASES[name](rows=ROWS)

    return make


def case_of(bench: Any, base: Any, name: str) -> Any:
    return next(bench("edits").cases(base, names=(name,)))


def compared(base: Any, case: Any) -> Comparison:
    """As `dataguard.compare` does, but with the rows that were matched."""
    first, second = open_source(base.original), open_source(case.suspect)
    return compare_sources(detect(first), first, second, COMPARE_ALPHA, DEFAULT_BUDGET)


def rows_of(found: Comparison) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of suspect and original rows, tied ones among them, as the benchmark counts them."""
    assert found.basis is not None
    a = found.basis.alignment
    return np.concatenate([a.suspect_row, a.tied_suspect]), np.concatenate([a.original_row, a.tied_original])


def on(always: str, long: str = "") -> list[Any]:
    """Bases of a case; most are left to the long run: one comparison takes 0.5 to 4 CPU seconds."""
    return [*always.split(), *(pytest.param(b, marks=pytest.mark.long) for b in long.split())]


def each(*given: tuple[Any, ...]) -> list[Any]:
    """Cases with each of their bases."""
    out = []
    for *front, bases in given:
        out += [
            pytest.param(*front, *b.values, marks=b.marks) if hasattr(b, "values") else (*front, b)
            for b in bases
        ]
    return out


CASES = each(
    ("e03", Relation.SAME_ROWS, 0.99, 0.7, on("cover", "flights ships adult")),
    ("e05", Relation.SUBSET, 0.97, 0.7, on("flights adult", "ships cover")),
    ("e07", Relation.SAME_ROWS, 0.99, 0.9, on("adult", "flights ships cover")),
    ("e09", Relation.SAME_ROWS, 0.99, 0.99, on("ships", "flights cover adult")),
    ("e12", Relation.OVERLAP, 0.99, 0.99, on("adult", "flights ships cover")),
    ("e13", Relation.OVERLAP, 0.99, 0.7, on("flights ships", "cover adult")),
    ("e14", Relation.SAME_ROWS, 0.97, 0.99, on("adult", "flights ships")),
)
"""Case, relation, least recall of rows, least F1 of columns (forty flags of cover are alike in fifty rows). Measured:
recall 1 but for e14 of ships (0.989); precision 1 but for adult's e12 and e13 (0.998, 0.995: twins of another source);
F1 1 but for cover's e05, e07 and e13 (0.76, 0.97, 0.82)."""


@pytest.mark.parametrize(("name", "relation", "recall", "f1", "base"), CASES)
def test_rows_columns_and_steps_are_found(
    bench: Any, base_of: Any, name: str, relation: Relation, recall: float, f1: float, base: str
) -> None:
    score, made = bench("compare_score"), base_of(base)
    case = case_of(bench, made, name)
    found = compared(made, case)
    rows = score.score_rows(score.Alike(made, case), case, rows_of(found))
    assert rows["recall"] >= recall
    assert rows["precision"] >= 0.98
    said = found.to_dict()
    assert score.score_columns(made, case, {c["suspect"]: c["original"] for c in said["columns"]})["f1"] >= f1
    steps = score.score_steps(case, said["columns"])
    assert steps["missed"] == steps["wrong"] == []
    assert steps["right"] == steps["true"]
    assert (steps["true"] > 0) == (name in {"e07", "e09", "e14"})
    if (name, base) == ("e13", "ships"):
        pytest.xfail("ships that lie still look alike: no relation is claimed of a mixture of 4,000 rows")
    assert found.relation is relation
    assert found.log10_p is not None
    assert (
        found.log10_p <= -6.3
    )  # half of alpha; measured -10 (adult), -12 (flights), of mixtures of 4,000 rows
    assert (len(found.basis.alignment.suspect_row) + len(found.basis.alignment.tied_suspect)) == rows[
        "claimed"
    ]


@pytest.mark.parametrize(
    ("base", "least"), [("cover", 0.99), pytest.param("flights", 0.94, marks=pytest.mark.long)]
)
def test_rows_are_found_below_noise_on_every_cell(bench: Any, base_of: Any, base: str, least: float) -> None:
    """No cell is left as it was and no name. Measured: recall 1.00 and 0.97, precision 1, every size of noise named."""
    score, made = bench("compare_score"), base_of(base)
    case = case_of(bench, made, "e11")
    found = compared(made, case)
    rows = score.score_rows(score.Alike(made, case), case, rows_of(found))
    assert rows["recall"] >= least
    assert rows["precision"] >= 0.99
    steps = score.score_steps(case, found.to_dict()["columns"])
    assert (steps["missed"], steps["wrong"]) == ([], [])
    assert steps["true"] == len(made.noisy)
    assert found.relation in {Relation.SAME_ROWS, Relation.OVERLAP}


@pytest.mark.parametrize("base", on("flights adult cover", "ships"))
def test_an_aggregate_is_derived_and_its_functions_are_named(bench: Any, base_of: Any, base: str) -> None:
    score, made = bench("compare_score"), base_of(base)
    case = case_of(bench, made, "e15")
    found = compare(made.original, case.suspect)
    assert found.relation is Relation.DERIVED
    assert found.log10_p is not None
    assert found.log10_p <= np.log10(COMPARE_ALPHA / 2)
    scored = score.score_aggregate(made, case, found.to_dict())
    assert scored["by"]
    assert scored["missed"] == []
    assert scored["right"] == scored["true"] == len(case.steps) > 0


@pytest.mark.parametrize("base", on("flights adult", "ships cover"))
def test_other_rows_of_the_same_source_are_same_schema(bench: Any, base_of: Any, base: str) -> None:
    """Named by whoever claims: at most one such pair of tables in a million."""
    made = base_of(base)
    case = case_of(bench, made, "e16")
    found = compare(made.original, case.suspect)
    assert found.relation is Relation.SAME_SCHEMA
    assert found.changes == ()
    assert {(c.original, c.suspect) for c in found.columns} == {(n, n) for n in made.original.column_names}


def test_compare_says_what_its_parts_say(bench: Any, base_of: Any) -> None:
    made = base_of("adult")
    case = case_of(bench, made, "e05")
    found = compare(made.original, case.suspect)
    assert found.basis is None
    assert found.to_dict() == compared(made, case).to_dict()
