"""Shared fixtures: where the real data lies, and a clock that can be told."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

# One kernel cache for all tests and workers, kept out of the checkout.
os.environ.setdefault("DATAGUARD_NUMBA_CACHE", "1")
os.environ.setdefault("NUMBA_CACHE_DIR", str(Path.home() / ".cache" / "dataguard" / "test-kernels"))

SHARED = Path(__file__).resolve().parents[1].parent / "shared" / "data"
PACKAGED = Path(__file__).resolve().parents[1] / "src" / "dataguard" / "data" / "flights_2013_01.parquet"


def shared(name: str) -> Path:
    """Return a file of the development data, or skip where it is not laid out."""
    path = SHARED / name
    if not path.exists():
        pytest.skip(f"development data {name} is not here")
    return path


@pytest.fixture
def flights_january() -> Path:
    """The packaged table: 27,004 flights, 19 columns."""
    return PACKAGED
