"""Statements in English and Japanese, and how shares, lists and values are put in them.

One place for terminal, page and notebook. Shares are cut and not rounded, and "all" is said only
where it is all; the lint of ``evidence/wording.py`` runs over everything made here.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dataguard.fingerprints.comparison.foreign import number_text, quoted

__all__ = [
    "MOST_NAMES",
    "Words",
    "interval_words",
    "joined",
    "matched_by",
    "names_words",
    "share_of",
    "share_words",
    "value_words",
]

MOST_NAMES = 12
"""Names or values of one list that are written out; the others are counted."""


@dataclass(frozen=True, slots=True)
class Words:
    """One statement in both languages.

    Attributes
    ----------
    en, ja : str
    """

    en: str
    ja: str

    def of(self, lang: str) -> str:
        """Return the statement in ``en`` or ``ja``; any other language is taken for ``en``."""
        return self.ja if lang == "ja" else self.en


def joined(parts: Iterable[Words]) -> Words:
    """Return several statements as one: with semicolons, in Japanese with ``、``."""
    held = list(parts)
    return Words("; ".join(p.en for p in held), "、".join(p.ja for p in held))


# --- shares ----------------------------------------------------------------------------------------


def share_words(share: float | None, *, upwards: bool = False) -> Words:
    """Return a share between 0 and 1 in per cent, cut and not rounded: ``all`` means all, ``none`` none.

    Parameters
    ----------
    share : float or None
        None: not known.
    upwards : bool
        Round up instead: for upper limits.
    """
    if share is None or math.isnan(share):
        return Words("–", "–")
    if share >= 1:
        return Words("all", "すべて")
    if share <= 0:
        return Words("none", "なし")
    scaled = share * 10_000
    hundredths = math.ceil(scaled - 1e-9) if upwards else math.floor(scaled + 1e-9)
    if hundredths >= 10_000:
        return Words("all", "すべて")
    if hundredths == 0:
        return Words("under 0.01 %", "0.01%未満")
    return Words(f"{hundredths / 100:.2f} %", f"{hundredths / 100:.2f}%")


def share_of(share: float | None, en: str, ja: str) -> Words:
    """Return a share of something as a noun phrase: ``all cells``, ``2.50 % of cells``, ``no cells``."""
    w = share_words(share)
    if w.en in ("all", "none"):
        return Words(
            f"{'all' if w.en == 'all' else 'no'} {en}", f"{ja}の{'すべて' if w.en == 'all' else '0件'}"
        )
    return Words(f"{w.en} of {en}", f"{ja}の{w.ja}")


def interval_words(containment: Mapping[str, Any]) -> Words:
    """Return the limits of a share: empty where every row was decided."""
    low, high = containment.get("low"), containment.get("high")
    if containment.get("exact") or low is None or high is None:
        return Words("", "")
    a, b = share_words(low), share_words(high, upwards=True)
    return Words(f"{a.en} to {b.en}", f"{a.ja}~{b.ja}")


# --- columns ---------------------------------------------------------------------------------------

_BY = {
    "name": Words("name", "列名"),
    "values": Words("values", "値"),
    "rows": Words("aligned rows", "対応した行"),
    "distribution": Words("distribution", "分布"),
    "map": Words("values, converted", "換算後の値"),
    "recoding": Words("values, renamed", "読み替え後の値"),
}


def matched_by(by: str | None) -> Words:
    """Return what the match of two columns rests on."""
    if not by:
        return Words("–", "–")
    return _BY.get(by, Words(quoted(by), quoted(by)))


# --- values ----------------------------------------------------------------------------------------


def value_words(value: object) -> str:
    """Return a particular of a change: numbers for people, everything else quoted."""
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "–"}[value]
    if isinstance(value, int | float):
        return number_text(value)
    if isinstance(value, Mapping):
        return ", ".join(f"{quoted(str(k))}: {value_words(v)}" for k, v in list(value.items())[:MOST_NAMES])
    if isinstance(value, Sequence) and not isinstance(value, str):
        more = f" … +{len(value) - MOST_NAMES:,}" if len(value) > MOST_NAMES else ""
        return ", ".join(value_words(v) for v in value[:MOST_NAMES]) + more
    return quoted(str(value))


def names_words(value: object) -> Words:
    """Return one or several column names, quoted; further ones are counted.

    Parameters
    ----------
    value : str, or sequence of str or of mappings
        A mapping names a column as ``original``, and may name a ``part`` of it (the month of a time).
    """
    held = [value] if isinstance(value, str | Mapping) else list(value) if isinstance(value, Sequence) else []
    some = [_name(n) for n in held[:MOST_NAMES]]
    en, ja = ", ".join(w.en for w in some), "、".join(w.ja for w in some)
    more = len(held) - MOST_NAMES
    if more <= 0:
        return Words(en or "–", ja or "–")
    return Words(f"{en} and {more:,} more", f"{ja} 他{more:,}列")


def _name(entry: object) -> Words:
    if not isinstance(entry, Mapping):
        return Words(quoted(str(entry)), quoted(str(entry)))
    name = quoted(str(entry.get("original", entry.get("column", ""))))
    part = entry.get("part")
    if not part:
        return Words(name, name)
    known = _PARTS.get(str(part), Words(quoted(str(part)), quoted(str(part))))
    return Words(f"{known.en} of {name}", f"{name} の{known.ja}")


_PARTS = {
    "year": Words("year", "年"),
    "month": Words("month", "月"),
    "day": Words("day", "日"),
    "hour": Words("hour", "時"),
    "date": Words("date", "日付"),
}
