"""Scan splits a file into datasets and versions: every row is counted once, whoever else explains it.

Error budget: at 1e-6 a file of foreign rows is said to hold a dataset in one case of a million; the seeds are fixed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

import dataguard
from conftest import PACKAGED, shared
from dataguard.fingerprints.comparison.decomposition import Decomposition, PartName
from dataguard.investigate import ScanResult

BOTH, FIRST, SECOND, FOREIGN = 150, 120, 180, 60
"""Rows of a mixture that are in both versions, in the first only, in the second only, in neither."""


def some(table: pa.Table, rows: np.ndarray) -> pa.Table:
    return table.take(pa.array(rows))


@pytest.fixture(scope="module")
def flights() -> pa.Table:
    """Departures: 0-1,999 are of version 1, 800-2,799 of version 2, those from 3,000 on of nobody."""
    names = ["month", "day", "dep_time", "dep_delay", "arr_delay", "carrier", "flight", "tailnum", "air_time"]
    table = pq.read_table(PACKAGED, columns=names)
    order = np.random.default_rng(1).permutation(table.num_rows)
    return some(table, order[:4000])


@pytest.fixture(scope="module")
def diamonds() -> pa.Table:
    table = pyarrow.csv.read_csv(shared("tables/diamonds.csv.gz"))
    return some(table, np.random.default_rng(2).permutation(table.num_rows)[:1500])


@pytest.fixture(scope="module")
def vault(tmp_path_factory: pytest.TempPathFactory, flights: pa.Table, diamonds: pa.Table) -> Iterator[Any]:
    """Two versions of one dataset, and another dataset."""
    with dataguard.Vault.create(tmp_path_factory.mktemp("scan") / "vault") as made:
        made.register(flights.slice(0, 2000), name="flights")
        made.register(diamonds, name="diamonds")
        second = made.register(flights.slice(800, 2000), name="flights")
        assert second.version == 2
        yield made


def scanned(vault: Any, folder: Path, table: pa.Table) -> ScanResult:
    pq.write_table(table, folder / "suspect.parquet")
    (one,) = vault.scan([folder / "suspect.parquet"])
    assert one.skipped == ""
    assert one.unavailable == ()
    return one


def adds_up(found: Decomposition) -> None:
    assert sum(p.added for p in found.parts) + found.unexplained == found.rows
    assert sum(p.added_share for p in found.parts) + found.unexplained_share == pytest.approx(1)
    for part in found.parts:
        assert part.unique <= part.added <= part.rows
        assert part.share == part.rows / found.rows


def mixture(flights: pa.Table) -> pa.Table:
    rng = np.random.default_rng(3)
    rows = np.concatenate([
        800 + rng.permutation(1200)[:BOTH], rng.permutation(800)[:FIRST], 2000 + rng.permutation(800)[:SECOND],
        3000 + rng.permutation(1000)[:FOREIGN],
    ])  # fmt: skip
    return some(flights, rng.permutation(rows))


@pytest.fixture(scope="module")
def mixed(vault: Any, tmp_path_factory: pytest.TempPathFactory, flights: pa.Table) -> ScanResult:
    return scanned(vault, tmp_path_factory.mktemp("mixed"), mixture(flights))


def test_rows_of_two_versions_and_of_none_are_told_apart(mixed: ScanResult) -> None:
    # The newest version is what is searched for; the earlier one takes part in the split only.
    assert [(m["dataset"], m["version"]) for m in mixed.matches] == [("flights", 2)]
    whole = mixed.decomposition
    assert whole is not None
    adds_up(whole)
    second, first = whole.parts
    assert (second.name, second.version, second.rows, second.added) == (
        "flights", 2, BOTH + SECOND, BOTH + SECOND,
    )  # fmt: skip
    assert (first.name, first.version, first.rows, first.added) == ("flights", 1, BOTH + FIRST, FIRST)
    assert (second.unique, first.unique) == (SECOND, FIRST)
    assert second.shared_with == (PartName("flights", 1, BOTH),)
    assert first.shared_with == (PartName("flights", 2, BOTH),)
    assert second.of_original == (BOTH + SECOND) / 2000
    assert whole.unexplained == FOREIGN
    assert whole.covered == ()


def test_the_split_is_in_the_document(mixed: ScanResult) -> None:
    assert mixed.decomposition is not None
    document = json.loads(json.dumps(mixed.to_dict(), allow_nan=False))
    assert document["decomposition"] == mixed.decomposition.to_dict()
    assert document["decomposition"]["unexplained"] == FOREIGN
    assert sum(p["added"] for p in document["decomposition"]["parts"]) == BOTH + FIRST + SECOND


def test_rows_of_one_version_alone_leave_the_other_covered_or_out(
    vault: Any, tmp_path: Path, flights: pa.Table
) -> None:
    """All rows are in version 2; what version 1 shares with it adds nothing."""
    rows = 800 + np.random.default_rng(5).permutation(2000)[:400]
    whole = scanned(vault, tmp_path, some(flights, rows)).decomposition
    assert whole is not None
    adds_up(whole)
    assert [(p.version, p.added) for p in whole.parts] == [(2, 400)]
    assert whole.covered == (PartName("flights", 1, 0),)
    assert whole.unexplained == 0
    assert whole.parts[0].shared_with == (PartName("flights", 1, int((rows < 2000).sum())),)


def test_two_datasets_in_one_file(vault: Any, tmp_path: Path, flights: pa.Table, diamonds: pa.Table) -> None:
    """A file cannot hold rows of both under one schema: columns side by side, rows of each where the other has gaps."""
    left = mixture(flights).slice(0, 300)
    right = diamonds.slice(0, 200)
    file = pa.concat_tables([left, right], promote_options="default")
    found = scanned(vault, tmp_path, file)
    assert {m["dataset"] for m in found.matches} == {"flights", "diamonds"}
    whole = found.decomposition
    assert whole is not None
    adds_up(whole)
    of = {(p.name, p.version): p for p in whole.parts}
    assert of["diamonds", 1].rows <= 200
    assert of["diamonds", 1].added >= 190  # a few diamonds are twins of each other
    assert not any(s.name == "diamonds" for p in whole.parts if p.name == "flights" for s in p.shared_with)


def test_foreign_rows_are_split_into_nothing(vault: Any, tmp_path: Path, flights: pa.Table) -> None:
    found = scanned(vault, tmp_path, flights.slice(3000, 600))
    assert found.matches == ()
    assert found.decomposition is None
    assert found.to_dict()["decomposition"] is None


def test_rows_that_only_an_earlier_version_held_are_found(
    vault: Any, tmp_path: Path, flights: pa.Table
) -> None:
    """Every version pays its share of the error, looked at or not: looking costs no probability."""
    whole = scanned(vault, tmp_path, flights.slice(100, 400)).decomposition
    assert whole is not None
    assert [(p.version, p.added) for p in whole.parts] == [(1, 400)]
