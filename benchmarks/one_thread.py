"""Hold every library to one thread. Import this first: the variables are read when the libraries load."""

from __future__ import annotations

import os

for _name in (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "RAYON_NUM_THREADS",
    "POLARS_MAX_THREADS",
    "NUMBA_NUM_THREADS",
):
    os.environ[_name] = "1"
os.environ["DAFT_PROGRESS_BAR"] = "0"
os.environ["DAFT_ANALYTICS_ENABLED"] = "0"
os.environ["DO_NOT_TRACK"] = "true"
os.environ.setdefault("DATAGUARD_NUMBA_CACHE", "1")
