"""How numbers and foreign names are shown: rounded towards the innocent, and harmless.

Names of files, columns and recipients come from outside. A control or direction character
in one could make a printed report read differently from its bytes, so none is passed on.
"""

from __future__ import annotations

import math
import unicodedata

from dataguard.evidence.facts import ChangeFacts

__all__ = ["LONGEST_NAME", "change_text", "log10_text", "odds_en", "odds_ja", "share_text", "shown"]

LONGEST_NAME = 120
_HARMFUL = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
_QUOTES = "“”「」"
_MOST_NAMES = 20


def shown(text: str, longest: int = LONGEST_NAME) -> str:
    """Return `text` in at most `longest` characters, with control, format and quotation marks as U+XXXX."""
    cut = text if len(text) <= longest else text[: longest - 1] + "…"
    return "".join(
        f"<U+{ord(c):04X}>" if unicodedata.category(c) in _HARMFUL or c in _QUOTES else c for c in cut
    )


def change_text(change: ChangeFacts) -> str:
    """Return a change as text: its kind, then its particulars; names of columns are quoted."""
    detail = ", ".join(f"{shown(name)} {_detail_text(name, value)}" for name, value in change.detail)
    return shown(change.kind) + (f" ({detail})" if detail else "")


def _detail_text(name: str, value: float | tuple[str, ...]) -> str:
    if isinstance(value, tuple):
        more = "" if len(value) <= _MOST_NAMES else f" … {len(value) - _MOST_NAMES:,}"
        return ", ".join(f"“{shown(one)}”" for one in value[:_MOST_NAMES]) + more
    return share_text(value) if name == "share" else f"{value:,}"


def log10_text(log10_p: float | None) -> str:
    """Return a log10 probability with four digits, or a dash where none was computed."""
    return "–" if log10_p is None else f"{log10_p:.4f}"


def share_text(share: float | None) -> str:
    """Return a share between 0 and 1 with four digits, cut and not rounded, so that 1.0000 means all."""
    return "–" if share is None else f"{math.floor(share * 10_000 + 1e-9) / 10_000:.4f}"


def odds_en(log10_p: float) -> str:
    """Return a bound on a probability in words, never smaller than it is."""
    if log10_p > -math.log10(2):
        return "1 (that is, nothing can be said)"
    exponent = -log10_p
    if exponent < 6:
        return f"1 in {math.floor(10**exponent + 1e-6):,}"
    return f"1 in 10^{math.floor(exponent + 1e-9)} (a one with {math.floor(exponent + 1e-9)} zeros)"


def odds_ja(log10_p: float) -> str:
    """Return the same in Japanese."""
    if log10_p > -math.log10(2):
        return "1(すなわち何も言えない)"
    exponent = -log10_p
    if exponent < 6:
        return f"{math.floor(10**exponent + 1e-6):,}分の1"
    return f"10の{math.floor(exponent + 1e-9)}乗分の1"
