"""Columns computed from others: sums, differences, products, quotients, clock readings, parts of dates."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from dataguard.fingerprints.changes.calendars import start_of
from dataguard.fingerprints.changes.grids import grids_of
from dataguard.fingerprints.changes.lines import rank_correlation

__all__ = ["computed_from", "date_part"]

B = NDArray[np.bool_]
F64 = NDArray[np.float64]

_MOST = 0.6
"""Least share of rows that keep a formula: up to a third of the pairs may be wrong."""
_ABOVE_CHANCE = 0.5
_COLUMNS = 40
_FIRST = 48
_WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_MONTHS = ("january", "february", "march", "april", "may", "june", "july", "august", "september", "october",
           "november", "december")  # fmt: skip

_OPERATIONS: dict[str, tuple[Callable[[F64, F64], F64], bool]] = {
    "{a} + {b}": (lambda a, b: a + b, True),
    "{a} - {b}": (lambda a, b: a - b, False),
    "{a} * {b}": (lambda a, b: a * b, True),
    "{a} / {b}": (lambda a, b: a / b, False),
    "60 * {a} + {b}": (lambda a, b: 60 * a + b, False),
    "100 * {a} + {b}": (lambda a, b: 100 * a + b, False),
}
"""Formula -> its function, and whether a and b may change places."""


def computed_from(columns: F64, y: F64, names: Sequence[str]) -> tuple[tuple[int, ...], str] | None:
    """Return the two columns and the formula that a column was computed by; None if there is none.

    Parameters
    ----------
    columns : (c, m) float64
        The original's numbers, nan where there are none. The 40 that go with `y` most are looked at.
    y : (m,) float64
    names : sequence of str
        Of the columns.
    """
    known = np.isfinite(y)
    if known.sum() < 16 or len(np.unique(y[known])) < 4:
        return None
    columns, y = columns[:, known], y[known]
    chosen = _related(columns, y)
    if len(chosen) < 2:
        return None
    step = grids_of(y)[0]
    slack = 0.5 * step * (1 + 1e-6) if step < 1 else 0.0
    first = np.arange(min(len(y), _FIRST)) * len(y) // min(len(y), _FIRST)
    x = columns[chosen]
    best: tuple[float, tuple[int, int], str] | None = None
    with np.errstate(all="ignore"):
        for formula, (function, swaps) in _OPERATIONS.items():
            made = function(x[:, None, first], x[None, :, first])
            share = (np.abs(made - y[first]) <= slack + 1e-9 * np.abs(y[first])).mean(axis=2)
            np.fill_diagonal(share, 0.0)
            share = np.triu(share) if swaps else share
            for place in np.argsort(-share, axis=None, kind="stable")[:3]:
                i, j = divmod(int(place), len(chosen))
                if share[i, j] < _MOST - 0.15:
                    break
                weight = _holds(function, x[i], x[j], y, slack)
                if weight and (best is None or weight > best[0] + 1e-9):
                    best = weight, (chosen[i], chosen[j]), formula
    if best is None:
        return None
    a, b = best[1]
    return (a, b), best[2].format(a=names[a], b=names[b])


def _related(columns: F64, y: F64) -> list[int]:
    """Return the numeric columns that vary, those that go with y most first, at most `_COLUMNS`."""
    going = []
    for position, column in enumerate(columns):
        known = np.isfinite(column)
        if known.sum() >= max(16, 0.3 * len(y)) and column[known].min() < column[known].max():
            going.append((-abs(rank_correlation(column[known], y[known])), position))
    return [position for _, position in sorted(going)[:_COLUMNS]]


def _holds(function: Callable[[F64, F64], F64], a: F64, b: F64, y: F64, slack: float) -> float:
    """Return the share of rows that keep a formula, 0 where chance or one column alone would do."""
    near = slack + 1e-9 * np.abs(y)
    hits = np.abs(function(a, b) - y) <= near
    share = float(hits.mean())
    if share < _MOST or min(len(np.unique(v[hits])) for v in (a, b, y)) < 3:
        return 0.0
    # Each operand must matter: with its values in other rows the formula fails.
    turns = (1, 7, len(y) // 2, len(y) // 3)
    others = [function(np.roll(a, t), b) for t in turns], [function(a, np.roll(b, t)) for t in turns]
    chance = max(float(np.mean([(np.abs(z - y) <= near).mean() for z in side])) for side in others)
    return share if chance < 1 and (share - chance) / (1 - chance) >= _ABOVE_CHANCE else 0.0


def date_part(seconds: F64, y: F64, texts: Sequence[str], *, time: bool) -> str:
    """Return which part of a date a column shows; empty if none.

    Parameters
    ----------
    seconds : (m,) float64
        Moments of the original.
    y : (m,) float64
        Numbers of the suspect, nan where there are none; seconds where it holds moments.
    texts : sequence of str
        The suspect's cells as printed.
    time : bool
        Whether the suspect holds moments.
    """
    known = np.isfinite(seconds) & (np.abs(seconds) < 2.5e11)
    if known.sum() < 16:
        return ""
    if time:
        day = np.floor(seconds / 86_400) * 86_400
        parts = {"date": day, **{p: start_of(seconds, p) for p in ("week", "month", "quarter", "year")}}
        return _part_of(parts, y, known)
    if np.isfinite(y[known]).mean() < 0.5:
        return _named_part(seconds, texts, known)
    at = np.where(known, seconds, 0.0).astype("datetime64[s]")
    days = at.astype("datetime64[D]")
    month = days.astype("datetime64[M]").astype(np.int64) % 12 + 1
    weekday = (days.astype(np.int64) + 3) % 7
    parts = {
        "year": days.astype("datetime64[Y]").astype(np.int64) + 1970,
        "month": month,
        "day": (days - days.astype("datetime64[M]")).astype(np.int64) + 1,
        "hour": np.where(known, seconds, 0) // 3600 % 24,
        "minute": np.where(known, seconds, 0) // 60 % 60,
        "second": np.where(known, seconds, 0) // 1 % 60,
        "weekday (Monday 0)": weekday,
        "weekday (Monday 1)": weekday + 1,
        "weekday (Sunday 0)": (weekday + 1) % 7,
        "weekday (Sunday 1)": (weekday + 1) % 7 + 1,
        "quarter": (month - 1) // 3 + 1,
        "day of year": (days - days.astype("datetime64[Y]")).astype(np.int64) + 1,
    }
    return _part_of({k: v.astype(np.float64) for k, v in parts.items()}, y, known)


def _part_of(parts: dict[str, F64], y: F64, known: B) -> str:
    for name, values in parts.items():
        x, shown = values[known], y[known]
        hits = x == shown
        if hits.mean() < _MOST or len(np.unique(x[hits])) < 2:
            continue
        chance = float(np.mean([(np.roll(x, t) == shown).mean() for t in (1, 7, len(x) // 2, len(x) // 3)]))
        sure = chance < 1 and (hits.mean() - chance) / (1 - chance) >= _ABOVE_CHANCE
        # Ordered files hold one year for thousands of rows: then shuffle by value.
        other = float((np.sort(x) == shown).mean())
        if sure or (hits.mean() >= 0.95 and other < 0.7):
            return name
    return ""


def _named_part(seconds: F64, texts: Sequence[str], known: B) -> str:
    at = np.where(known, seconds, 0.0).astype("datetime64[s]").astype("datetime64[D]")
    weekday = (at.astype(np.int64) + 3) % 7
    month = at.astype("datetime64[M]").astype(np.int64) % 12
    low = [t.casefold() for t in texts]
    for name, words, index in (("weekday", _WEEKDAYS, weekday), ("month", _MONTHS, month)):
        for length in (3, 32):
            hits = np.array([t == words[i][:length] for t, i in zip(low, index, strict=True)])[known]
            if hits.mean() >= _MOST and len(np.unique(index[known][hits])) >= 2:
                return f"{name} name"
    japanese = np.array([t[:1] == "月火水木金土日"[i] for t, i in zip(low, weekday, strict=True)])[known]
    return "weekday name" if japanese.mean() >= _MOST and len(np.unique(weekday[known])) >= 2 else ""
