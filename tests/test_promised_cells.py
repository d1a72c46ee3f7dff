"""Exactly the promised cells: decode, protect, decode again by other readers; the difference is the plan.

The work is done by ``benchmarks/promised.py``, which runs over the whole files.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from conftest import shared
from dataguard.model import TRACE_ALPHA
from dataguard.watermarking.forecast import votes_needed

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))

import promised

FILES = promised.files()
FORMATS = list(promised.WRITERS)
ROWS = 1200
WIDE = ("covertype_100k", "tennessee_eastman")
"""55 columns: 10 to 20 s of mining each."""
QUICK = [
    pytest.param(
        path, FORMATS[number % len(FORMATS)], marks=[pytest.mark.long] if path.name.startswith(WIDE) else []
    )
    for number, path in enumerate(FILES)
]
"""Each file in one format; the slow test has all."""


def name_of(value: object) -> str:
    return value.name.split(".")[0] if isinstance(value, Path) else str(value)


def test_there_are_tables_to_try() -> None:
    shared("tables")
    assert len(FILES) >= 25


@pytest.mark.parametrize(("path", "form"), QUICK, ids=name_of)
def test_exactly_the_promised_cells(tmp_path, path, form) -> None:
    found = promised.examine(path, form, ROWS, tmp_path)
    if found.outcome == "exact":
        assert found.slots >= votes_needed(TRACE_ALPHA, 1)
        assert found.changed > 0
    else:
        assert found.outcome.startswith("refused: ")
        assert found.changed == 0


@pytest.mark.long
@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_all_tables_in_all_formats(tmp_path, path, form) -> None:
    found = promised.examine(path, form, 6000, tmp_path)
    assert found.outcome == "exact" or found.outcome.startswith("refused: ")


def test_the_check_sees_a_cell_too_many_or_too_few(tmp_path) -> None:
    """The judge is judged: one exchange more or less, or one bit of a float, is noticed."""
    names, index = ["a", "b"], np.array([1, 0, 2, 3])
    for make in (list, lambda cells: pa.chunked_array([cells])):
        a, b = (
            [make([1.0, 2.0, float("nan") if make is not list else 0.0, 4.0]), make([1.5, 2.5, 3.5, 4.5])],
            None,
        )
        swapped = make([2.0, 1.0, float("nan") if make is not list else 0.0, 4.0])
        b = [swapped, a[1]]
        assert promised.check(a, b, names, {"a": index})[0] == 2
        for wrong in (
            [a[0], a[1]],
            [swapped, make([2.5, 1.5, 3.5, 4.5])],
            [make([2.0, 1.0, 0.5, 4.0]), a[1]],
        ):
            with pytest.raises(AssertionError):
                promised.check(a, wrong, names, {"a": index})
    one, two = tmp_path / "1", tmp_path / "2"
    one.write_bytes(b"a,b\n1,2\n3,4\n")
    for text in (b"a,b\n1,2\n3,5\n", b"a,b\n1,4\n3,2\n", b"a,b\n1,2\n3,4"):
        two.write_bytes(text)
        with pytest.raises(AssertionError):
            promised.check_bytes(one, two, np.zeros(2, bool))
