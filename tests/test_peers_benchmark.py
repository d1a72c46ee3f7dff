"""The paired benchmark's own logic on toys: rotation, pairing, verdicts, page, plots. No peer is needed."""

from __future__ import annotations

import importlib
import json
import runpy
import subprocess
import sys
import tomllib
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]
BENCHMARKS = ROOT / "benchmarks"


@pytest.fixture(scope="module")
def on_path() -> Iterator[None]:
    sys.path.insert(0, str(BENCHMARKS))
    try:
        yield
    finally:
        sys.path.remove(str(BENCHMARKS))


@pytest.fixture(scope="module")
def harness(on_path: None) -> ModuleType:
    return importlib.import_module("peers_harness")


@pytest.fixture(scope="module")
def page(on_path: None) -> ModuleType:
    return importlib.import_module("peers_page")


class Toy:
    """A clock that only moves when a candidate works, and a diary of who ran."""

    def __init__(self) -> None:
        self.now = 0.0
        self.ran: list[str] = []
        self.load = 1.0

    def work(self, name: str, seconds: float) -> Any:
        def run() -> None:
            self.ran.append(name)
            self.now += seconds * self.load

        return run


def broken() -> None:
    raise RuntimeError("no such peer here")


def toy_task(harness: ModuleType, toy: Toy, **more: Any) -> Any:
    candidates = [
        harness.Candidate("dataguard", toy.work("dataguard", 0.5)),
        harness.Candidate("slow", toy.work("slow", 1.0), share=0.25),
        harness.Candidate("sampler", toy.work("sampler", 0.25), other="samples"),
        harness.Candidate("broken", broken),
    ]
    bars = [
        harness.Target(2, "slow", 8.0),
        harness.Target(2, "sampler", 0.6),
        harness.Target(2, "broken", 1.0),
    ]
    return harness.Task("toy", "sets", "toy work", 10.0, "M things", candidates, bars, "made", **more)


def test_every_candidate_runs_once_unmeasured_and_then_in_rotation(harness: ModuleType) -> None:
    toy = Toy()
    made = [harness.Candidate(n, toy.work(n, 1.0)) for n in "abc"]
    collected: list[int] = []
    seconds, failed = harness.measure(made, 4, lambda: toy.now, lambda: collected.append(1))
    assert "".join(toy.ran) == "abc" + "abc" + "bca" + "cab" + "abc"
    assert len(collected) == 12  # before every measured run, and not on its clock
    assert not failed
    assert {n: len(s) for n, s in seconds.items()} == {"a": 4, "b": 4, "c": 4}


def test_pairing_cancels_a_load_that_hits_a_whole_round(harness: ModuleType) -> None:
    """Rounds three and four times as slow move the rates, not the ratios."""
    toy, rounds = Toy(), 0

    def collect() -> None:
        nonlocal rounds
        toy.load = (1.0, 3.0, 4.0, 1.0, 1.5)[rounds // 2]
        rounds += 1

    made = [
        harness.Candidate("dataguard", toy.work("dataguard", 0.5)),
        harness.Candidate("peer", toy.work("peer", 2)),
    ]
    seconds, _ = harness.measure(made, 5, lambda: toy.now, collect)
    assert len(set(seconds["peer"])) == 4
    assert harness.spread(harness.ratios(seconds["peer"], seconds["dataguard"])) == {
        "median": 4,
        "q1": 4,
        "q3": 4,
    }


def test_a_part_of_the_work_counts_as_its_share(harness: ModuleType) -> None:
    record = harness.run(toy_task(harness, toy := Toy()), 3, lambda: toy.now)
    rows = {r["name"]: r for r in record["rows"]}
    assert record["base"] == "dataguard"
    assert rows["slow"]["seconds"] == 4.0
    assert rows["slow"]["rate"] == 2.5
    assert rows["slow"]["base_is"]["median"] == 8.0
    assert rows["sampler"]["base_is"]["median"] == 0.5


def test_verdicts_follow_from_the_ratios_and_a_failed_peer_is_named(harness: ModuleType) -> None:
    record = harness.run(toy_task(harness, toy := Toy()), 3, lambda: toy.now)
    assert [(v["peer"], v["met"]) for v in record["verdicts"]] == [("slow", True), ("sampler", False)]
    assert record["failed"] == {"broken": "RuntimeError: no such peer here"}
    assert "MISSED (sampler)" in harness.table(record)


def test_spread_is_the_median_with_its_quartiles(harness: ModuleType) -> None:
    assert harness.spread([5.0, 1.0, 4.0, 2.0, 3.0]) == {"median": 3.0, "q1": 2.0, "q3": 4.0}
    assert harness.spread([7.0]) == {"median": 7.0, "q1": 7.0, "q3": 7.0}


def test_a_peer_that_is_not_installed_is_left_out_and_said_so(harness: ModuleType) -> None:
    peers = harness.Peers(without=["numpy"])
    assert peers.get("no_such_peer_at_all") is None
    assert peers.get("numpy") is None
    assert peers.missing["numpy"] == "left out on request"
    assert peers.missing["no_such_peer_at_all"].startswith("ModuleNotFoundError")
    assert peers.get("json") is json


# --- page --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def figures(harness: ModuleType) -> dict[str, Any]:
    """Figures of two sizes of one target, and of the parts with tables of their own."""
    records = []
    for n in (10, 100):
        toy = Toy()
        task = toy_task(harness, toy, facts={"n": n, "k": 128})
        toy.load = n
        records.append({**harness.run(task, 3, lambda toy=toy: toy.now), "key": f"toy-{n}"})
    records[1]["verdicts"][0]["value"] = {"median": 9.5, "q1": 9.0, "q3": 9.9}
    one = {"median": 1.02, "q1": 1.02, "q3": 1.02}
    rmse = {"k": 128, "j": 0.5, "pairs": 10, "bias": 0.3}
    records.append(
        {"key": "accuracy", "part": "accuracy", "title": "RMSE", "failed": {}, "facts": {},
         "rows": [{**rmse, "n": n, "name": name, "rmse": 1.02} for n in (30, 100) for name in ("dataguard", "rho")],
         "verdicts": [{**harness.verdict(0, "largest RMSE", one, 1.05, at_least=False), "peer": "theory"}]}
    )  # fmt: skip
    records.append(
        {"key": "containment", "part": "errors", "title": "A leak", "failed": {"theta": "ImportError"},
         "rows": [{"name": "dataguard Bloom", "bytes": 2_000_032, "trials": [3], "rmse": {"100": 0.003, "1000": 0.0}}],
         "facts": {"sizes": [100, 1000]}, "verdicts": []}
    )  # fmt: skip
    machine = {"architecture": "x86_64", "cpu": "toy", "cores": 2, "memory_gib": 4, "python": "3.11.7"}
    left_out = {"gaoya": "ModuleNotFoundError"}
    made = {
        "machine": machine,
        "quick": False,
        "left_out": left_out,
        "versions": {"rensa": "1"},
        "records": records,
    }
    return json.loads(json.dumps(made))


def test_the_worst_task_of_a_target_decides(page: ModuleType, figures: dict[str, Any]) -> None:
    lines = page.targets(figures)
    assert "| 2 | short prehashed sets (10 to 100) | slow | 8 to 9.5 | >= 8 | met |" in lines
    assert "| 2 | short prehashed sets (10 to 100) | sampler | 0.5 | >= 0.6 | **missed** |" in lines
    assert "| - | largest RMSE | theory | 1.02 | <= 1.05 | met |" in lines


def test_a_reason_is_shown_only_while_its_bar_is_missed(
    page: ModuleType, figures: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page, "REASONS", {(2, "sampler"): "it reads less.", (2, "slow"): "not shown"})
    assert [line for line in page.missed(figures) if line.startswith("-")] == [
        "- Target 2, short prehashed sets (10 to 100), against sampler: it reads less."
    ]


def test_section_names_machine_method_versions_and_who_is_missing(
    page: ModuleType, figures: dict[str, Any]
) -> None:
    text = "\n".join(page.section(figures))
    for said in ("toy, 2 cores", "median over the rounds", "rensa 1", "gaoya (ModuleNotFoundError)",
                 "Left out: broken (RuntimeError", "| samples |", "2,000,032", "1.02 (+0.30)"):  # fmt: skip
        assert said in text, said
    assert "quick run" not in text
    assert "quick run" in "\n".join(page.section({**figures, "quick": True}))


def test_plots_are_well_formed_and_every_one_is_on_the_page(
    page: ModuleType, figures: dict[str, Any]
) -> None:
    made = page.plots(figures)
    text = "\n".join(page.section(figures))
    assert set(made) == {"peers-targets.svg", "peers-sets.svg", "peers-accuracy.svg", "peers-leaks.svg"}
    for name, picture in made.items():
        ET.fromstring(picture)
        assert f"]({name})" in text
    names = {e.text for e in ET.fromstring(made["peers-sets.svg"]).iter() if e.tag.endswith("text")}
    assert {"dataguard", "slow", "sampler"} <= names


def test_readme_block_is_the_page_s_targets(on_path: None, figures: dict[str, Any]) -> None:
    block = runpy.run_path(str(BENCHMARKS / "readme.py"))["peers"](figures)
    assert "| short prehashed sets (10 to 100) | slow | 8 to 9.5 | 8 | met |" in block
    assert "Largest RMSE: 1.02 (at most 1.05)." in block


def test_recorded_figures_are_what_page_and_readme_show(page: ModuleType) -> None:
    recorded = ROOT / "docs" / "peers.json"
    if not recorded.exists():
        pytest.skip("no run of the peers is recorded yet")
    figures = json.loads(recorded.read_text())
    assert not figures["quick"]
    assert "\n".join(page.section(figures)) in (ROOT / "docs" / "performance.md").read_text()
    assert page.readme(figures) in (ROOT / "README.md").read_text()
    for name, picture in page.plots(figures).items():
        assert (ROOT / "docs" / name).read_text() == picture, name


# --- inputs ------------------------------------------------------------------------------------------


def test_near_copies_and_disturbed_queries_are_as_near_as_they_say(on_path: None) -> None:
    corpora = importlib.import_module("peers_corpora")
    sets = corpora.near_sets(200, 50)
    rows = [set(r) for r in sets.hashes.reshape(200, 50).tolist()]
    shared = [max(len(a & b) for j, b in enumerate(rows) if j != i) for i, a in enumerate(rows)]
    near = sum(s >= 50 * 0.5 for s in shared)
    assert 60 <= near <= 120  # the 60 copies, and those they were taken from
    asked = corpora.disturbed(sets, 100).hashes.reshape(100, 50).tolist()
    kept = [max(len(set(q) & r) for r in rows) for q in asked]
    # 5,000 elements, each replaced with chance 0.05: 250 +- 15.4; 6 sigma.
    assert abs(5000 - sum(kept) - 250) < 93


def test_made_text_is_the_same_in_any_order_and_holds_its_planted_copies(on_path: None) -> None:
    corpora = importlib.import_module("peers_corpora")
    base = corpora.Texts(
        "toy", [f"Word{i} of page {i}. Next one? " + "many words here. " * 5 for i in range(30)], {}
    )
    made = corpora.made_texts([base], 60)
    assert made.documents[:20] == corpora.made_texts([base], 20).documents
    assert made.name == "toy*N=60@20240229/G6"
    planted = np.array(
        [corpora.Draws(corpora.SEED, corpora.PLANT, np.uint64(i)).u(0)[0] < 0.10 for i in range(1, 60)]
    )
    assert made.facts["planted_copies"] == planted.sum() > 0


def test_pairs_have_exactly_the_overlap_they_state(on_path: None) -> None:
    accuracy = importlib.import_module("peers_accuracy")
    truth, chunks = accuracy.pairs(10, 0.5, 7, 1)
    left, right = next(iter(chunks))
    assert left.count == right.count == 7
    for a, b in zip(left.hashes.reshape(7, 10).tolist(), right.hashes.reshape(7, 10).tolist(), strict=True):
        assert len(set(a) & set(b)) / len(set(a) | set(b)) == truth
        assert a[: len(set(a) & set(b))] != b[: len(set(a) & set(b))]  # shuffled


def test_one_part_of_the_benchmark_runs_without_any_peer(tmp_path: Path) -> None:
    out = tmp_path / "figures.json"
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / "peers.py"), "--quick", "--rounds", "1", "--parts", "leak,weighted",
         "--without", "datasketch,sourmash", "--json", str(out)],
        capture_output=True, text=True, timeout=300, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    figures = json.loads(out.read_text())
    assert {r["part"] for r in figures["records"]} == {"leak", "weighted"}
    assert all(row["name"].startswith("dataguard") for r in figures["records"] for row in r["rows"])
    assert figures["left_out"]["sourmash"] == "left out on request"
    assert str(ROOT) not in out.read_text()


def test_the_peers_are_an_extra_of_their_own() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert any(d.startswith("rensa") for d in extras["bench"])
    assert not any("bench]" in d or d.startswith("rensa") for name in ("dev", "all") for d in extras[name])
