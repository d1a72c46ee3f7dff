"""Plots drawn as plain SVG by our own code: no library, no script, the same bytes everywhere.

A page with twenty-four plots must stay small and must not trust what it draws: points that fall on one
pixel are drawn once, axes hold against values of any size, every text is escaped.
"""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Sequence
from html import escape

from dataguard.fingerprints.comparison.exhibits import ColumnPlot
from dataguard.fingerprints.comparison.foreign import number_text, quoted, shown

__all__ = ["pairs_plot", "scatter", "share_bar", "ticks", "time_ticks"]

_W, _H = 340.0, 250.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 58.0, 12.0, 10.0, 40.0
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_BEYOND = 8.0
"""Axes that are more than this many times as long as the middle 98 % of the values leave the rest out."""

_ROOM = 0.06
"""Room at either end of an axis, of half its length: no point lies on the frame."""

Axis = tuple[float, float, list[tuple[float, str]]]


def scatter(plot: ColumnPlot, name_x: str, name_y: str) -> tuple[str, int]:
    """Return values against values as SVG, and how many points lie beyond its axes.

    Parameters
    ----------
    plot : ColumnPlot
        With numbers.
    name_x, name_y : str
        What stands at the axes; foreign text.
    """
    x_axis = _axis(plot.x, is_time=plot.times[0])
    y_axis = _axis(plot.y, is_time=plot.times[1])
    inside, beyond = set(), 0
    for x, y in zip(plot.x, plot.y, strict=True):
        if x_axis[0] <= x <= x_axis[1] and y_axis[0] <= y <= y_axis[1]:
            inside.add((round(_across(x, x_axis), 1), round(_up(y, y_axis), 1)))
        else:
            beyond += 1
    title = escape(f"{shown(name_x)} / {shown(name_y)}")
    parts = [
        f'<svg class="plot" viewBox="0 0 {_W:.0f} {_H:.0f}" role="img" aria-label="{title}">',
        *_frame(x_axis, y_axis, name_x, name_y),
        _line(plot, x_axis, y_axis),
        # A point is a stroke of no length with round ends: nine bytes instead of forty.
        f'<path class="dots" d="{"".join(f"M{a:g} {b:g}h0" for a, b in sorted(inside))}"/></svg>',
    ]
    return "".join(parts), beyond


def _frame(x_axis: Axis, y_axis: Axis, name_x: str, name_y: str) -> list[str]:
    right, bottom = _W - _RIGHT, _H - _BOTTOM
    parts = [f'<path class="axis" d="M{_LEFT:g} {_TOP:g}V{bottom:g}H{right:g}"/>']
    for value, label in x_axis[2]:
        at = _across(value, x_axis)
        parts.append(f'<path class="grid" d="M{at:.1f} {_TOP:g}V{bottom:g}"/>')
        parts.append(f'<text x="{at:.1f}" y="{bottom + 13:g}" text-anchor="middle">{escape(label)}</text>')
    for value, label in y_axis[2]:
        at = _up(value, y_axis)
        parts.append(f'<path class="grid" d="M{_LEFT:g} {at:.1f}H{right:g}"/>')
        parts.append(f'<text x="{_LEFT - 5:g}" y="{at + 3.5:.1f}" text-anchor="end">{escape(label)}</text>')
    middle = (_LEFT + right) / 2
    parts.append(
        f'<text class="name" x="{middle:g}" y="{_H - 6:g}" text-anchor="middle">{escape(quoted(name_x, 40))}</text>'
    )
    half = (_TOP + bottom) / 2
    parts.append(
        f'<text class="name" transform="translate(11 {half:g}) rotate(-90)" text-anchor="middle">'
        f"{escape(quoted(name_y, 28))}</text>"
    )
    return parts


def _line(plot: ColumnPlot, x_axis: Axis, y_axis: Axis) -> str:
    held = [(x, y) for x, y in plot.line if x_axis[0] <= x <= x_axis[1] and y_axis[0] <= y <= y_axis[1]]
    if len(held) < 2:
        return ""
    steps = "L".join(f"{_across(x, x_axis):.1f} {_up(y, y_axis):.1f}" for x, y in held)
    return f'<path class="{"fit" if plot.fitted else "same"}" d="M{steps}"/>'


def _across(value: float, axis: Axis) -> float:
    return _LEFT + _part(value, axis) * (_W - _LEFT - _RIGHT)


def _up(value: float, axis: Axis) -> float:
    return _H - _BOTTOM - _part(value, axis) * (_H - _TOP - _BOTTOM)


def _part(value: float, axis: Axis) -> float:
    # Halves: the width of [-1e308, 1e308] is no number.
    width = axis[1] / 2 - axis[0] / 2
    return 0.5 if width <= 0 else (value / 2 - axis[0] / 2) / width


# --- axes ------------------------------------------------------------------------------------------


def _axis(values: Sequence[float], *, is_time: bool) -> Axis:
    """Return where an axis begins and ends, and its ticks; far outliers do not squeeze the rest."""
    ordered = sorted(values)
    low, high = ordered[0], ordered[-1]
    a, b = ordered[len(ordered) // 100], ordered[-1 - len(ordered) // 100]
    if b > a and high / 2 - low / 2 > _BEYOND * (b / 2 - a / 2):
        margin = (b / 2 - a / 2) / 2
        low, high = max(low, a - margin), min(high, b + margin)
    margin = (high / 2 - low / 2) * _ROOM if low < high else abs(low) / 2 or 1.0
    low, high = low - margin, high + margin
    if not (math.isfinite(low) and math.isfinite(high)):  # around the largest number there is
        low, high = max(low, -1e308), min(high, 1e308)
    return low, high, time_ticks(low, high) if is_time else ticks(low, high)


def ticks(low: float, high: float, about: int = 5) -> list[tuple[float, str]]:
    """Return some five round numbers between two numbers, with their labels.

    Steps are 1, 2 or 5 times a power of ten, the usual choice (Heckbert, "Nice numbers for graph
    labels", Graphics Gems, 1990).
    """
    width = high / 2 - low / 2
    if not width > 0:
        return []
    rough = width / about * 2
    if rough < 1e-300:
        return []
    power = 10.0 ** math.floor(math.log10(rough))
    step = next((power * m for m in (1, 2, 5, 10) if power * m >= rough), power * 10)
    first = math.ceil(low / step)
    at = [k * step for k in range(first, first + 12)] if abs(first) < 1e15 else [low, high]
    return [(v, _label(v, step)) for v in at if low <= v <= high]


def _label(value: float, step: float) -> str:
    if value == 0:
        return "0"
    if abs(value) >= 1e6 or abs(value) < 1e-4:
        return f"{value:.3g}"
    digits = max(0, -math.floor(math.log10(step)))
    return f"{value:,.{digits}f}" if digits <= 6 else number_text(value)


_SECONDS = (
    1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200, 21600, 43200, 86400, 2 * 86400, 7 * 86400, 14 * 86400,
)  # fmt: skip


def time_ticks(low: float, high: float, about: int = 4) -> list[tuple[float, str]]:
    """Return some four round times between two times in seconds since 1970, with their labels."""
    width = high - low
    if not 0 < width < 1e12 or not -6.2e10 < low < high < 2.5e11:
        return ticks(low, high)
    rough = width / about
    if rough < 1:
        return ticks(low, high)
    step = next((s for s in _SECONDS if s >= rough), None)
    if step is None:
        return _months(low, high, max(1, round(rough / 2_629_800)))
    first = math.ceil(low / step) * step
    pattern = "%Y-%m-%d" if step >= 86400 else "%m-%d %H:%M" if step >= 60 else "%H:%M:%S"
    at = range(first, math.floor(high) + 1, step)
    return [(float(s), _moment(s).strftime(pattern)) for s in at][:12]


def _months(low: float, high: float, months: int) -> list[tuple[float, str]]:
    months = next(
        (m for m in (1, 2, 3, 6, 12, 24, 60, 120, 240, 600, 1200, 2400, 6000) if m >= months), 12_000
    )
    moment, out = _moment(low), []
    first = -(-(moment.year * 12 + moment.month - 1) // months) * months
    for k in range(first, first + 12 * months, months):
        year, month = divmod(k, 12)
        if not 1 <= year <= 9999:
            continue
        seconds = (dt.datetime(year, month + 1, 1, tzinfo=dt.UTC) - _EPOCH).total_seconds()
        if low <= seconds <= high:
            out.append((seconds, f"{year:04d}" if months >= 12 else f"{year:04d}-{month + 1:02d}"))
    return out


def _moment(seconds: float) -> dt.datetime:
    return _EPOCH + dt.timedelta(seconds=seconds)


# --- texts and shares ------------------------------------------------------------------------------


def pairs_plot(plot: ColumnPlot) -> list[tuple[str, str, str, int]]:
    """Return the most frequent pairs of cells: both texts, an SVG bar, and the count."""
    total = sum(n for _, _, n in plot.pairs) + plot.others
    return [(shown(a, 40), shown(b, 40), _bar(n / max(1, total)), n) for a, b, n in plot.pairs]


def _bar(share: float) -> str:
    return (
        '<svg class="bar" viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true">'
        f'<rect class="track" width="100" height="8"/><rect class="full" width="{100 * share:.2f}" height="8"/></svg>'
    )


def share_bar(low: float, estimate: float, high: float) -> str:
    """Return a share as an SVG bar: up to `low` full, up to `high` shaded, `estimate` marked.

    Parameters
    ----------
    low, estimate, high : float
        Between 0 and 1.
    """
    a, m, b = (100 * min(1.0, max(0.0, v)) for v in (low, estimate, high))
    mark = (
        f'<rect class="mark" x="{max(0.0, min(99.4, m - 0.3)):.2f}" width="0.6" height="8"/>' if b > a else ""
    )
    return (
        '<svg class="bar" viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true">'
        f'<rect class="track" width="100" height="8"/><rect class="open" x="{a:.2f}" width="{max(0.0, b - a):.2f}" '
        f'height="8"/><rect class="full" width="{a:.2f}" height="8"/>'
        f"{mark}</svg>"
    )
