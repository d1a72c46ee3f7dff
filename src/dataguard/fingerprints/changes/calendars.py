"""Moments that were cut to days or months, or moved between time zones."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dataguard.fingerprints.changes.change import Change
from dataguard.fingerprints.changes.units import zone_of

__all__ = ["CLOCK_STEPS", "cut_to", "daylight_saving", "start_of"]

B = NDArray[np.bool_]
F64 = NDArray[np.float64]

CLOCK_STEPS: dict[float, str] = {
    1.0: "second", 60.0: "minute", 900.0: "15 minutes", 1800.0: "30 minutes", 3600.0: "hour", 86_400.0: "day",
}  # fmt: skip
_MOST = 0.6
_PARTS = ("week", "month", "quarter", "year")


def _moments(seconds: F64) -> NDArray[np.datetime64]:
    known = np.isfinite(seconds) & (np.abs(seconds) < 2.5e11)
    return np.where(known, seconds, 0.0).astype("datetime64[s]")


def start_of(seconds: F64, part: str) -> F64:
    """Return the first moment of the week (Monday), month, quarter or year of some moments; nan stays nan.

    Parameters
    ----------
    seconds : (m,) float64
        Since 1970.
    part : str
    """
    at = _moments(seconds)
    if part == "week":
        days = at.astype("datetime64[D]").astype(np.int64)
        begin = ((days + 3) // 7 * 7 - 3).astype("datetime64[D]")  # 1970 began on a Thursday
    elif part == "quarter":
        begin = (at.astype("datetime64[M]").astype(np.int64) // 3 * 3).astype("datetime64[M]")
    else:
        begin = at.astype("datetime64[M]" if part == "month" else "datetime64[Y]")
    out: F64 = np.where(np.isfinite(seconds), begin.astype("datetime64[s]").astype(np.float64), np.nan)
    return out


def cut_to(x: F64, y: F64) -> tuple[Change, B] | None:
    """Return the change of moments cut to week, month, quarter or year, and the rows it explains; else None.

    Parameters
    ----------
    x, y : (m,) float64
        Seconds since 1970 of the original and of the suspect, both present.
    """
    for part in _PARTS:
        hits: B = np.abs(y - start_of(x, part)) < 1
        if hits.mean() >= _MOST and hits.sum() >= 8 and len(np.unique(y[hits])) >= 2 and (x != y)[hits].any():
            return Change("rounded", {"step": part, "rule": "floor"}), hits
    return None


def daylight_saving(x: F64, y: F64) -> tuple[Change, B] | None:
    """Return the change of moments shifted by one of two amounts an hour apart, and the rows it explains.

    Parameters
    ----------
    x, y : (m,) float64
        Seconds since 1970 of the original and of the suspect, both present.
    """
    shift, count = np.unique(np.round(y - x, 3), return_counts=True)
    order = np.argsort(-count, kind="stable")[:2]
    if len(order) < 2 or abs(abs(shift[order[0]] - shift[order[1]]) - 3600) > 1e-3:
        return None
    first, second = (float(s) for s in shift[order])
    unit = zone_of(first, second)
    hits: B = np.isin(np.round(y - x, 3), shift[order])
    if unit is None or hits.mean() < _MOST or count[order[1]] < max(4, 0.02 * len(x)):
        return None
    detail = {"scale": 1.0, "offset": first, "second_offset": second, "unit": unit, "residual": 0.0}
    return Change("affine", detail), hits
