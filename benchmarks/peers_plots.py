"""The pictures of the performance page, drawn as plain SVG: no library, the same bytes for the same figures.

Lines differ by dash and marker as well as by colour, and carry their names at their ends: they read in grey
print and without a legend.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

STYLES = (
    ("#000000", "", 2.5), ("#0072b2", "6 3", 1.5), ("#d55e00", "2 3", 1.5), ("#009e73", "8 3 2 3", 1.5),
    ("#cc79a7", "", 1.2), ("#56b4e9", "4 2", 1.2), ("#e69f00", "1 2", 1.5), ("#777777", "10 4", 1.2),
    ("#aa4499", "3 1", 1.2), ("#117733", "5 5", 1.2),
)  # fmt: skip
LEFT, TOP, WIDTH, HEIGHT, BOTTOM = 62, 40, 420, 270, 46
LEAST_GAP = 13
"""Pixels between two names at the right."""

Series = dict[str, Sequence[tuple[float, float]]]


def number(value: float) -> str:
    """Return an axis label: 1,000 and 0.01 as they are read, 1M above."""
    if value >= 1e6:
        return f"{value / 1e6:g}M"
    return f"{value:,.0f}" if value >= 1 else f"{value:g}"


class Log:
    """A logarithmic axis from `low` to `high`, drawn from pixel `start` to `end`."""

    def __init__(self, values: Sequence[float], start: float, end: float):
        self.low = 10 ** math.floor(math.log10(min(values)) + 1e-9)
        self.high = 10 ** math.ceil(math.log10(max(values)) - 1e-9)
        if self.high <= self.low:
            self.high = self.low * 10
        self.start, self.end = start, end

    def __call__(self, value: float) -> float:
        share = math.log10(value / self.low) / math.log10(self.high / self.low)
        return self.start + share * (self.end - self.start)

    def ticks(self) -> list[float]:
        """Return the powers of ten on the axis."""
        first, last = round(math.log10(self.low)), round(math.log10(self.high))
        return [10.0**e for e in range(first, last + 1)]


def head(width: int, height: int, title: str) -> list[str]:
    """Open a picture with a white ground: pages may be dark."""
    return [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
            'font-family="sans-serif" font-size="12" role="img">'
        ),
        f"<title>{escape(title)}</title>",
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
        f'<text x="10" y="20" font-weight="bold">{escape(title)}</text>',
    ]


def marker(kind: int, x: float, y: float, colour: str) -> str:
    """Return a circle, a square, a triangle or a diamond."""
    if kind % 4 == 0:
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{colour}"/>'
    if kind % 4 == 1:
        return f'<rect x="{x - 3:.1f}" y="{y - 3:.1f}" width="6" height="6" fill="{colour}"/>'
    shape = ((0, -4), (4, 3), (-4, 3)) if kind % 4 == 2 else ((0, -4.5), (4.5, 0), (0, 4.5), (-4.5, 0))
    points = " ".join(f"{x + dx:.1f},{y + dy:.1f}" for dx, dy in shape)
    return f'<polygon points="{points}" fill="{colour}"/>'


def apart(wanted: Sequence[float], gap: float = LEAST_GAP) -> list[float]:
    """Return places in the order given, moved down as far as needed to stand `gap` apart."""
    order = sorted(range(len(wanted)), key=lambda i: wanted[i])
    placed, last = [0.0] * len(wanted), -math.inf
    for i in order:
        last = max(wanted[i], last + gap)
        placed[i] = last
    return placed


def lines(title: str, across: str, up: str, series: Series) -> str:
    """Return a log-log plot of some lines; values must be above 0, empty lines are skipped."""
    series = {name: points for name, points in series.items() if points}
    xs = [x for points in series.values() for x, _ in points]
    ys = [y for points in series.values() for _, y in points]
    x_axis, y_axis = Log(xs, LEFT, LEFT + WIDTH), Log(ys, TOP + HEIGHT, TOP)
    names = 40 + 7 * max(map(len, series))
    parts = head(LEFT + WIDTH + names, TOP + HEIGHT + BOTTOM, title)
    for x in x_axis.ticks():
        at = x_axis(x)
        parts.append(f'<path d="M{at:.1f} {TOP}V{TOP + HEIGHT}" stroke="#ddd"/>')
        parts.append(f'<text x="{at:.1f}" y="{TOP + HEIGHT + 16}" text-anchor="middle">{number(x)}</text>')
    for y in y_axis.ticks():
        at = y_axis(y)
        parts.append(f'<path d="M{LEFT} {at:.1f}H{LEFT + WIDTH}" stroke="#ddd"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">{number(y)}</text>')
    middle = LEFT + WIDTH / 2
    parts.append(f'<text x="{middle}" y="{TOP + HEIGHT + 36}" text-anchor="middle">{escape(across)}</text>')
    parts.append(f'<text x="{LEFT}" y="{TOP - 6}">{escape(up)}</text>')
    ends = apart([y_axis(points[-1][1]) for points in series.values()])
    for i, (name, points) in enumerate(series.items()):
        colour, dash, wide = STYLES[i % len(STYLES)]
        path = "L".join(f"{x_axis(x):.1f} {y_axis(y):.1f}" for x, y in points)
        dashed = f' stroke-dasharray="{dash}"' if dash else ""
        parts.append(f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="{wide}"{dashed}/>')
        parts += [marker(i, x_axis(x), y_axis(y), colour) for x, y in points]
        last_x, last_y = x_axis(points[-1][0]), y_axis(points[-1][1])
        label = LEFT + WIDTH + 22
        parts.append(
            f'<path d="M{last_x + 5:.1f} {last_y:.1f}L{label - 3} {ends[i]:.1f}" stroke="{colour}" stroke-width="0.6"/>'
        )
        parts.append(f'<text x="{label}" y="{ends[i] + 4:.1f}" fill="{colour}">{escape(name)}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def ranges(title: str, rows: Sequence[tuple[str, float, float, float]], across: str) -> str:
    """Return one line per row: name, least and largest ratio, and its bar; hollow ends where it is missed."""
    named, step = 480, 19
    bottom = TOP + step * len(rows)
    axis = Log([v for _, low, high, bar in rows for v in (low, high, bar)] + [1.0], named, named + WIDTH)
    parts = head(named + WIDTH + 30, bottom + BOTTOM, title)
    for x in axis.ticks():
        at = axis(x)
        parts.append(f'<path d="M{at:.1f} {TOP - 8}V{bottom}" stroke="{"#888" if x == 1 else "#ddd"}"/>')
        parts.append(f'<text x="{at:.1f}" y="{bottom + 16}" text-anchor="middle">{number(x)}x</text>')
    for i, (name, low, high, bar) in enumerate(rows):
        y = TOP + step * i + 4
        colour, fill = ("#0072b2", "#0072b2") if low >= bar else ("#d55e00", "#fff")
        parts.append(f'<text x="{named - 8}" y="{y + 4}" text-anchor="end">{escape(name)}</text>')
        parts.append(f'<path d="M{axis(low):.1f} {y}H{axis(high):.1f}" stroke="{colour}" stroke-width="4"/>')
        for end in dict.fromkeys((low, high)):
            parts.append(
                f'<circle cx="{axis(end):.1f}" cy="{y}" r="4" fill="{fill}" stroke="{colour}" stroke-width="1.5"/>'
            )
        parts.append(f'<path d="M{axis(bar):.1f} {y - 7}V{y + 7}" stroke="#000" stroke-width="2"/>')
    parts.append(f'<text x="{named + WIDTH}" y="{bottom + 36}" text-anchor="end">{escape(across)}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"
