"""Speed of the main steps on the packaged flights: `make bench`. Compilation is done before the clock starts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from common import marked
from dataguard.fingerprints.engines import default_engines
from dataguard.formats.source import open_source
from dataguard.modalities.table import CARRIER
from dataguard.slots import tally
from dataguard.values import canonical_table
from dataguard.watermarking.accusation import accuse

FLIGHTS = Path(__file__).resolve().parents[1] / "src" / "dataguard" / "data" / "flights_2013_01.parquet"


@pytest.fixture(scope="module")
def case():
    return marked("january", FLIGHTS)


@pytest.fixture(scope="module")
def suspect(case):
    return CARRIER.take(case.copy(3), np.random.default_rng(1).permutation(27_004)[:1000])


def test_canonical(benchmark) -> None:
    table = open_source(FLIGHTS).table()
    assert benchmark(canonical_table, table).rows == 27_004


def test_leaves(benchmark, case) -> None:
    assert len(benchmark(CARRIER.leaves, case.original)[1]) == 27_005


def test_embed_and_mark(benchmark, case) -> None:
    assert benchmark(case.copy, 3).canonical.rows == 27_004


def test_align_1000_rows(benchmark, case, suspect) -> None:
    CARRIER.align(case.original, suspect, default_engines())
    found = benchmark(CARRIER.align, case.original, suspect, default_engines())
    assert len(found.suspect_row) > 990


def test_score_1000_recipients(benchmark, case, suspect) -> None:
    alignment = CARRIER.align(case.original, suspect, default_engines())
    votes = tally(case.plan, CARRIER.votes(case.original, suspect, case.plan, alignment))
    result = benchmark(accuse, votes, case.candidates, case.plan.channel, alpha=1e-9, spent=1)
    assert [r.recipient for r in result.corresponding] == ["r3"]
