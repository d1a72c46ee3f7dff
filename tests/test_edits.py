"""The edit cases and their score: every truth is checked against the tables themselves, every scorer on toys."""

from __future__ import annotations

import importlib
import json
import sys
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from conftest import shared

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture(scope="module")
def bench() -> Iterator[Any]:
    """Modules of the benchmarks by name."""
    sys.path.insert(0, str(BENCHMARKS))
    try:
        yield importlib.import_module
    finally:
        sys.path.remove(str(BENCHMARKS))


@pytest.fixture(scope="module")
def edits(bench: Any) -> ModuleType:
    return bench("edits")


@pytest.fixture(scope="module")
def adult(edits: ModuleType) -> Any:
    shared("tables/adult.data.csv.gz")
    return edits.adult(2_000)


@pytest.fixture(scope="module")
def made(edits: ModuleType, adult: Any) -> dict[str, Any]:
    return {case.name: case for case in edits.cases(adult)}


# --- truths ------------------------------------------------------------------------------------------


def test_truth_of_rows_and_columns_is_in_the_tables(adult: Any, made: dict[str, Any]) -> None:
    """Where nothing was done to a column, every row shows what its original row shows."""
    for case in made.values():
        known = case.rows >= 0
        source = adult.original.take(pa.array(case.rows[known]))
        for suspect, original in case.columns.items():
            if suspect not in case.steps and known.any() and case.name != "e14":
                assert (
                    case.suspect[suspect].filter(pa.array(known)).to_pylist() == source[original].to_pylist()
                ), case.name


def test_every_step_is_what_was_done(edits: ModuleType, adult: Any, made: dict[str, Any]) -> None:
    seen = set()
    for case in made.values():
        for suspect, step in case.steps.items():
            kind, *rest = step.split()
            if kind not in {"affine", "rounded", "noise"}:
                continue
            seen.add((case.name, kind))
            x = edits.numbers(adult.original, case.columns[suspect])[case.rows]
            y = edits.numbers(case.suspect, suspect)
            if kind == "affine":
                assert (
                    np.abs(x * float(rest[0]) + float(rest[1]) - y).max()
                    <= 0.5 * 10.0 ** -int(rest[2]) + 1e-9
                )
            elif kind == "rounded":
                assert np.abs(x - y).max() <= float(rest[0]) / 2
                assert (np.abs(y / float(rest[0]) - np.rint(y / float(rest[0]))) < 1e-9).all()
            else:  # 2,000 normal errors: 8 % are five standard errors of their spread
                assert abs(np.std(y - x) / float(rest[0]) - 1) < 0.08
    assert seen == {("e06", "affine"), ("e07", "affine"), ("e08", "rounded"), ("e09", "rounded"), ("e10", "noise"),
                    ("e11", "noise")}  # fmt: skip


def test_a_step_that_changes_nothing_is_no_step(made: dict[str, Any]) -> None:
    """Ages have no thousands, no case and no gaps: as text they read as before."""
    assert "age" not in made["e14"].steps
    assert made["e14"].steps["education"] == "format"


def test_a_case_is_the_same_alone_and_among_the_others(
    edits: ModuleType, adult: Any, made: dict[str, Any]
) -> None:
    for name in ("e02", "e10", "e13"):
        alone = next(edits.cases(adult, names=(name,)))
        assert alone.suspect.equals(made[name].suspect)
        assert (alone.rows == made[name].rows).all()


def test_groups_and_control(adult: Any, made: dict[str, Any]) -> None:
    case = made["e15"]
    row = case.suspect.slice(3, 1).to_pylist()[0]
    ages = [r["age"] for r in adult.original.to_pylist() if r["occupation"] == row["occupation"]]
    assert row["age_mean"] == pytest.approx(np.mean(ages))
    assert row["count_all"] == len(ages)
    assert case.steps["age_mean"] == "mean age"
    assert (made["e16"].rows == -1).all()
    assert made["e16"].suspect.num_rows == 2_000


# --- score -------------------------------------------------------------------------------------------


@pytest.fixture
def toy(edits: ModuleType) -> Any:
    """Five rows, two of them alike; `a` and `c` hold the same in the rows that were copied (0, 1, 2)."""
    original = pa.table({"a": [1, 2, 3, 3, 9], "b": ["x", "y", "z", "z", "w"], "c": [1, 2, 3, 3, 5]})
    others = pa.table({"a": [3, 7], "b": ["z", "q"], "c": [3, 7]})
    base = edits.Base("toy", original, others, (), (), {}, {}, (), ("b", {}))
    suspect = pa.table({"f0": ["z", "x", "y", "z", "q"], "f1": [3, 1, 2, 3, 7], "f2": [3, 1, 2, 3, 7]})
    case = edits.Case("e13", suspect, np.array([2, 0, 1, -1, -1]), {"f0": "b", "f1": "a", "f2": "c"})
    return base, case


def test_alike_rows_may_be_mistaken_and_twins_are_not_judged(bench: Any, toy: Any) -> None:
    score = bench("compare_score")
    base, case = toy
    alike = score.Alike(base, case)
    pairs = (np.array([0, 1, 2, 3, 4]), np.array([3, 0, 4, 2, 4]))
    rows = score.score_rows(alike, case, pairs)
    # row 0 has its twin, row 2 another row; row 3 is foreign and looks like row 2 of the original; row 4 is wrong
    assert (rows["right"], rows["true"], rows["twins"], rows["claimed"]) == (2, 3, 1, 5)
    assert rows["recall"] == pytest.approx(2 / 3)
    assert rows["precision"] == pytest.approx(2 / 4)


def test_columns_that_show_the_same_may_be_swapped(bench: Any, toy: Any) -> None:
    score = bench("compare_score")
    base, case = toy
    assert score.score_columns(base, case, {"f0": "b", "f1": "c", "f2": "a"})["f1"] == 1
    assert score.score_columns(base, case, {"f0": "a", "f1": "c"}) == {
        "right": 1,
        "said": 2,
        "true": 3,
        "f1": 0.4,
    }


def test_rounded_rows_are_alike(bench: Any, edits: ModuleType) -> None:
    score = bench("compare_score")
    original = pa.table({"a": [11, 12, 29]})
    base = edits.Base("toy", original, original, (), (), {}, {}, (), ("a", {}))
    case = edits.Case(
        "e09", pa.table({"a": [30, 10, 10]}), np.array([2, 0, 1]), {"a": "a"}, {"a": "rounded 10"}
    )
    rows = score.score_rows(score.Alike(base, case), case, (np.array([0, 1, 2]), np.array([0, 1, 0])))
    assert rows["right"] == 2


@pytest.mark.parametrize(
    ("step", "change", "right"),
    [
        ("affine 2.54 0 2", {"kind": "affine", "scale": 2.54, "offset": 0}, True),
        ("affine 2.54 0 2", {"kind": "affine", "scale": 2.55, "offset": 0}, False),
        ("affine 2.54 0 2", {"kind": "affine", "scale": 2.54, "offset": 3}, False),
        ("affine 2.54 0 2", {"kind": "rounded", "step": 2.54}, False),
        ("rounded 0.5", {"kind": "rounded", "step": 0.5}, True),
        ("rounded 0.5", {"kind": "rounded", "step": 0.25}, False),
        ("noise 3", {"kind": "noise", "sd": 3.5}, True),
        ("noise 3", {"kind": "noise", "sd": 3.7}, False),
        ("format", {"kind": "format", "from": "a", "to": "b"}, True),
        ("format", {"kind": "recoded"}, False),
    ],
)
def test_steps_are_named_right_or_not(bench: Any, step: str, change: dict[str, Any], right: bool) -> None:
    assert bench("compare_score").named_right(step, [change], np.array([1.0, 250.0])) is right


def test_an_aggregate_is_named_or_not(bench: Any, adult: Any, made: dict[str, Any]) -> None:
    score, case = bench("compare_score"), made["e15"]
    functions = [
        {"suspect": "age_mean", "function": "mean", "original": "age"},
        {"suspect": "hours_mean", "function": "mean", "original": "age"},
        {"suspect": "hours_max", "function": "min", "original": "hours"},
        {"suspect": "count_all", "function": "count", "original": None},
    ]
    change = {
        "kind": "aggregated",
        "by": [{"original": "occupation", "suspect": "occupation"}],
        "functions": functions,
    }
    scored = score.score_aggregate(adult, case, {"changes": [change]})
    assert scored["by"]
    assert scored["missed"] == ["hours_mean: mean hours", "hours_max: max hours"]
    assert score.score_aggregate(adult, case, {"changes": []})["right"] == 0
    assert score._gives(adult, case, "count_all", {"function": "count", "original": "fnlwgt"})


# --- marks, limits, page -----------------------------------------------------------------------------


def test_limits_are_computed(bench: Any, toy: Any) -> None:
    compared = bench("compare_marks")
    base, case = toy
    limit = compared.facts(base, case, bench("compare_score").Alike(base, case))
    assert limit["single"] == pytest.approx(2 / 3)
    assert limit["twin_share"] == pytest.approx(2 / 3)  # one of two others, (k + 1) / (n + 1)
    assert limit["combination_share"] == pytest.approx(4 / 64)
    assert limit["best_log10_p"] == pytest.approx(3 * np.log10(2 / 3), abs=0.01)


def test_the_oracle_finds_rows_that_lie_far_apart_and_no_others(bench: Any, edits: ModuleType) -> None:
    score, compared = bench("compare_score"), bench("compare_marks")
    rng = np.random.default_rng(5)
    for apart, least, most in ((100.0, 1.0, 1.0), (1e-3, 0.0, 0.05)):
        original = pa.table({"a": np.arange(1000) * apart, "b": np.ones(1000)})
        base = edits.Base("toy", original, original, (), (), {}, {}, (), ("a", {}))
        suspect = pa.table({"a": np.arange(1000) * apart + rng.standard_normal(1000), "b": np.ones(1000)})
        case = edits.Case("e10", suspect, np.arange(1000), {"a": "a", "b": "b"}, {"a": "noise 1"})
        recall, log10_p = compared.oracle(base, case, score.Alike(base, case))
        assert least <= recall <= most
        assert log10_p > -5  # the other rows are the same rows


def _said(recall: float, relation: str = "overlap", p: float | None = -30.0) -> dict[str, Any]:
    return {
        "rows": {"recall": recall, "precision": 1.0, "claimed": 5, "twins": 0}, "columns": {"f1": 1.0, "right": 3,
        "said": 3, "true": 3}, "steps": {"right": 0, "true": 0, "missed": [], "wrong": []}, "relation": relation,
        "relation_right": relation == "overlap", "log10_p": p,
    }  # fmt: skip


def test_marks_tell_missed_from_beyond_the_data(bench: Any) -> None:
    marks = bench("compare_marks").marks
    free = {"true_rows": 10, "best_log10_p": -99.0, "oracle": None, "oracle_log10_p": None}
    assert all(m["met"] for m in marks("e13", _said(1.0), free))
    (recall,) = [m for m in marks("e13", _said(0.5), free) if not m["met"]]
    assert recall["what"] == "row recall"
    assert not recall["beyond"]
    by_chance = {**free, "best_log10_p": -1.0}
    assert [m["beyond"] for m in marks("e13", _said(0.5), by_chance) if not m["met"]] == [True]
    noisy = {**free, "oracle": 0.3, "oracle_log10_p": -2.0}
    assert not marks("e11", _said(0.25, p=None), {**noisy, "oracle_log10_p": -12.0})[0]["beyond"]
    assert marks("e11", _said(0.25, p=None), noisy)[0]["beyond"]
    assert marks("e11", _said(0.25, p=-12.0), noisy)[0]["met"]
    assert not marks("e16", _said(0.0, "overlap"), free)[0]["met"]
    assert marks("e16", _said(0.0, "same-schema"), free)[0]["met"]


def test_page_and_plots_from_figures(bench: Any, tmp_path: Path) -> None:
    page, compared = bench("compare_page"), bench("compare_marks")
    facts = {"rows": 10, "true_rows": 10, "single": 0.9, "best_log10_p": -99.0, "oracle": None}
    own = {**_said(0.5), "cpu_s": 1.0, "wall_s": 1.0, "peak_mib": 100}
    own["marks"] = compared.marks("e13", own, facts)
    tools = {
        "dataguard": own,
        "DIY SQL": {"failed": "over 240 s"},
        "splink": {"skipped": "more than 20,000 rows"},
    }
    scale = [
        {"key": "k", "set": "x", "family": "f", "rows": n, "share": 1.0, "memory": "1G", "cpu_s": n / 1e5,
         "wall_s": 1.0, "peak_mib": 5, "us_per_row": 10.0, "sampled": False, "relation": "same-rows"}
        for n in (1000, 10_000)
    ]  # fmt: skip
    figures = {
        "machine": "m", "versions": {"dataguard": "0"}, "left_out": ["datacompy"], "seed": 1, "seconds": 240, "gib": 8,
        "trial": True, "cases": [{"base": "toy", "case": "e13", "facts": facts, "tools": tools}], "scale": scale,
    }  # fmt: skip
    (tmp_path / "docs").mkdir()
    page.write(tmp_path, json.loads(json.dumps(figures)))
    text = (tmp_path / "docs" / "compare.md").read_text()
    assert "| toy | e13 | row recall | 0.5 | 0.99 | - | missed |" in text
    assert "2 of 3 marks are met, 1 missed" in text
    assert "over 240 s" in text
    assert "datacompy" in text
    for name in ("compare-rows.svg", "compare-scale.svg"):
        ET.parse(tmp_path / "docs" / name)


def test_a_child_beyond_its_limits_is_ended(bench: Any) -> None:
    watched = bench("compare_child").watched
    assert watched([sys.executable, "-c", "import time; time.sleep(60)"], seconds=0.3) == {
        "failed": "over 0.3 s"
    }
    hungry = "x = bytearray(300 << 20); import time; time.sleep(60)"
    assert watched([sys.executable, "-c", hungry], seconds=30, gib=0.1) == {"failed": "over 0.1 GB"}
    assert watched([sys.executable, "-c", "raise ValueError('no')"]) == {"failed": "ValueError: no"}
    assert watched([sys.executable, "-c", "pass"]) == {}


def test_a_shuffled_file_holds_the_same_rows(bench: Any, tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    scale = bench("compare_scale")
    table = pa.table({"a": np.arange(5000), "b": np.arange(5000) % 7})
    pq.write_table(table, tmp_path / "o.parquet")
    assert scale.shuffled(tmp_path / "o.parquet", tmp_path / "s.parquet", 1.0) == 5000
    shown = pq.read_table(tmp_path / "s.parquet")
    of = {name: shown[name].to_numpy() for name in shown.column_names}
    a = next(v for v in of.values() if v.max() == 4999)
    b = next(v for v in of.values() if v.max() == 6)
    assert sorted(a) == list(range(5000))
    assert (b == a % 7).all()
    assert (np.diff(a) < 0).sum() > 2000
    # binomial(5000, 0.1): between 400 and 600 but for one in 10^5 (the seed is fixed)
    assert 400 < scale.shuffled(tmp_path / "o.parquet", tmp_path / "p.parquet", 0.1) < 600
