"""The one figure of a report: how the opened key stands against decoys, other keys and the limit.

Drawn as plain SVG: no library, the same bytes everywhere, legible in grey print.
"""

from __future__ import annotations

import math

from dataguard.evidence.display import log10_text
from dataguard.evidence.facts import Facts

__all__ = ["rank_figure"]

_LEFT, _WIDTH, _MARGIN = 10.0, 600.0, 90.0
_TOP, _STEP, _BAR = 34.0, 42.0, 14.0
_TITLE = "Rank of the opened key / 開示された鍵の位置"
_LIMIT = "needed by one key / 1個の鍵に必要な値"
_AXIS = "longer = less likely by chance (−log10 p) / 長いほど偶然では生じにくい"


def rank_figure(facts: Facts) -> str:
    """Return the figure as SVG text, or "" when no copy is named.

    Bars grow with -log10 p of one key alone; the dashed line is what one key needs so that, with
    all keys, runs and draws counted, the limit is met.
    """
    copy, trace = facts.copy, facts.trace
    if copy is None:
        return ""
    paid = math.log10(max(1, trace.hypotheses)) + trace.k * math.log10(2) + math.log10(copy.draws)
    needed = math.log10(copy.alpha) - paid
    bars = [("opened key / 開示された鍵", copy.log10_p, "#222")]
    if trace.decoys_best is not None:
        label = f"best of {trace.decoys:,} decoys / 対照用の鍵{trace.decoys:,}個の最良"
        bars.append((label, trace.decoys_best, "#888"))
    others = [p for name, p, _ in trace.recipients if name != copy.recipient]
    if others:
        bars.append(("best other recipient (asserted) / 他の提供先の最良(申告値)", min(others), "#ccc"))
    scale = _WIDTH / max(1.0, -needed * 1.02, *(-p for _, p, _ in bars))
    return _svg(bars, -needed * scale, needed, scale)


def _svg(bars: list[tuple[str, float, str]], line: float, needed: float, scale: float) -> str:
    bottom = _TOP + _STEP * len(bars)
    x, anchor = _LEFT + line, "end" if line > _WIDTH / 2 else "start"
    # A needed value is cut downwards: towards the innocent, as every other figure is.
    need = f"{_LIMIT}: {math.floor(needed * 10_000 + 1e-9) / 10_000:.4f}"
    parts = [
        f'<svg viewBox="0 0 {_LEFT + _WIDTH + _MARGIN:.0f} {bottom + 24:.0f}" role="img" ',
        'aria-labelledby="rank" xmlns="http://www.w3.org/2000/svg" font-family="sans-serif" font-size="12">',
        f'<title id="rank">{_TITLE}</title>',
        f'<text x="{x:.1f}" y="14" text-anchor="{anchor}">{need}</text>',
    ]
    for number, (label, p, grey) in enumerate(bars):
        y, length = _TOP + _STEP * number, max(1.0, -p * scale)
        parts += [
            f'<text x="{_LEFT:.0f}" y="{y + 10:.0f}">{label}</text>',
            f'<rect x="{_LEFT:.0f}" y="{y + 15:.0f}" width="{length:.1f}" height="{_BAR:.0f}" ',
            f'fill="{grey}" stroke="#000"/>',
            f'<text x="{_LEFT + length + 5:.1f}" y="{y + 26:.0f}">{log10_text(p)}</text>',
        ]
    parts += [
        f'<line x1="{x:.1f}" y1="20" x2="{x:.1f}" y2="{bottom:.0f}" stroke="#000" stroke-dasharray="5 3"/>',
        f'<text x="{_LEFT:.0f}" y="{bottom + 16:.0f}">{_AXIS}</text></svg>',
    ]
    return "".join(parts)
