"""A small made-up table with every trait the table carrier must respect.

Used by the contract tests only; the demo and the examples use real data.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

__all__ = ["sample_table"]


def sample_table(seed: int, rows: int) -> pa.Table:
    """Return a table with a key, measures, a clock identity, a category, a dependency and missing cells.

    Parameters
    ----------
    seed : int
    rows : int
    """
    rng = np.random.default_rng(seed)
    temperature = np.round(rng.normal(20, 5, rows), 1)
    pressure = np.round(1000 + 2 * temperature + rng.normal(0, 8, rows), 1)
    planned = rng.choice(np.arange(6 * 60, 22 * 60, 15), rows)
    late = np.round(rng.gamma(2.0, 9.0, rows)).astype(np.int64) - 5
    actual = (planned + late) % 1440
    site = rng.choice(["Kawasaki", "Kobe", "横浜", "Sakai"], rows)
    region = {"Kawasaki": "East", "横浜": "East", "Kobe": "West", "Sakai": "West"}
    missing = rng.random(rows) < 0.03
    return pa.table(
        {
            "record_id": [f"R{seed:03d}{i:07d}" for i in range(rows)],
            "site": site.tolist(),
            "region": [region[s] for s in site],
            "temperature": pa.array(temperature, mask=missing),
            "pressure": pressure,
            "planned": _clock(planned),
            "late": late,
            "actual": _clock(actual),
            "count": rng.poisson(140, rows),
        }
    )


def _clock(minutes: np.ndarray[tuple[int], np.dtype[np.int64]]) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return minutes // 60 * 100 + minutes % 60
