"""How values are written: the format change of cells that say the same in other words.

Only what is visible in the texts is named. A number that a file holds by type has no way of being written,
unless the other side shows one that no program would choose by itself.
"""

from __future__ import annotations

import re
from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from dataguard.cells import ISO_TIME, NULL, NULL_WORDS, NUMBER_PATTERN
from dataguard.cells import TIME as MOMENT
from dataguard.fingerprints.changes.change import Change
from dataguard.fingerprints.changes.printing import is_typed, printed, texts_at
from dataguard.folding.meaning import Ways
from dataguard.values import Canonical

__all__ = ["format_changes", "written_as"]

B = NDArray[np.bool_]

_LOOK = 400
_SEVERAL = 0.05
"""Least share of the rewritten cells for a second way to be named."""
_PLAIN_NUMBER = re.compile(NUMBER_PATTERN, re.ASCII)
_PLAIN_TIME = re.compile(ISO_TIME, re.ASCII)
_ERA = re.compile(r"(令和|平成|昭和|大正|明治|㋿|㍻|㍼|㍽|㍾|^[RHSTMrhstm]\.?\d)")
_MONTH_NAME = re.compile(r"[A-Za-z]{3,9}")


def format_changes(a: Canonical, b: Canonical, same: B, ways: tuple[Ways, Ways]) -> tuple[Change, ...]:
    """Return how cells that mean the same came to be written otherwise.

    Parameters
    ----------
    a, b : Canonical
        The original's and the suspect's cells of the same rows.
    same : (m,) bool
        Which rows mean the same, missing cells included.
    ways : (Ways, Ways)
        How the two columns write: the order of day and month.
    """
    left, right = printed(a), printed(b)
    typed = is_typed(a.source), is_typed(b.source)
    if all(typed):
        return ()
    unlike = pc.not_equal(pc.fill_null(left, ""), pc.fill_null(right, "")).to_numpy(zero_copy_only=False)
    rows = np.flatnonzero(same & unlike)
    if not len(rows):
        return ()
    if any(typed):
        plain = _plainly(right if typed[0] else left, a if typed[0] else b)
        rows = rows[~plain[rows]]
    few = rows[:: max(1, len(rows) // _LOOK)][:_LOOK]
    tags = a.tag[few].tolist(), b.tag[few].tolist()
    texts = texts_at(left, few), texts_at(right, few)
    ways_of = [
        _pair(x, y, ways, typed, missing=NULL in {s, t}, moment=MOMENT in {s, t})
        for x, y, s, t in zip(*texts, *tags, strict=True)
    ]
    counted = Counter(p for p in ways_of if p[0] != p[1])
    total = max(1, sum(counted.values()))
    share = len(rows) / max(1, len(same))
    return tuple(
        Change("format", {"from": x, "to": y, "share": round(share * n / len(few), 4)})
        for i, ((x, y), n) in enumerate(counted.most_common(3))
        if i == 0 or n >= _SEVERAL * total
    )


def _plainly(texts: pa.Array, typed: Canonical) -> B:
    """Which cells of a column of texts are written as any program writes the typed value."""
    filled = pc.fill_null(texts, "")
    number = pc.match_substring_regex(filled, NUMBER_PATTERN).to_numpy(zero_copy_only=False)
    moment = pc.match_substring_regex(filled, ISO_TIME).to_numpy(zero_copy_only=False)
    truth = pc.is_in(filled, pa.array(["true", "false"], filled.type)).to_numpy(zero_copy_only=False)
    empty = pc.equal(filled, "").to_numpy(zero_copy_only=False)
    plain: B = np.where(typed.tag == NULL, empty, number | moment | truth)
    return plain


def _pair(
    x: str, y: str, ways: tuple[Ways, Ways], typed: tuple[bool, bool], missing: bool, moment: bool
) -> tuple[str, str]:
    if missing:
        return _nothing(x), _nothing(y)
    names = [
        _kept_by_type(t, moment) if by_type else written_as(t, w.order, w.decimal)
        for t, w, by_type in zip((x, y), ways, typed, strict=True)
    ]
    if names[0] != names[1]:
        return names[0], names[1]
    return _spelling(x, y)


def _kept_by_type(text: str, moment: bool) -> str:
    if moment or _PLAIN_TIME.match(text):
        return "timestamp"
    return "number" if _PLAIN_NUMBER.match(text) else "value"


def _nothing(text: str) -> str:
    if text == "":
        return "empty"
    if not text.strip():
        return "blank"
    return text.strip() if text.strip() in NULL_WORDS or len(text) <= 16 else "word for missing"


def written_as(text: str, order: str = "", decimal: str = ".") -> str:
    """Return a short pattern of how a number or a date is written; "text" for anything else.

    Parameters
    ----------
    text : str
    order : str
        "dmy" or "mdy" where the column decides how 05/01/2013 is read.
    decimal : str
        The column's decimal mark.
    """
    width = "full-width " if re.search(r"[\uff10-\uff19]", text) else ""
    plain = text.translate({c: c - 0xFEE0 for c in range(0xFF01, 0xFF5F)}).strip()
    if date := _date_pattern(plain, order):
        return width + date
    if not re.search(r"[0-9〇一二三四五六七八九十]", plain):
        return "text"
    return width + _number_pattern(plain, decimal)


def _number_pattern(text: str, decimal: str) -> str:
    marks = []
    if re.search(r"[万億兆千百十〇一二三四五六七八九]", text):
        marks.append("万/億" if re.search(r"\d", text) else "kanji numerals")
    if text.endswith("%"):
        marks.append("percent")
    if re.search(r"[¥$€£₩₹円\\]|\b(?:USD|EUR|JPY|GBP)\b", text):
        marks.append("currency sign")
    if re.search(r"^\(.*\)$|[▲△▼▽]|\d-$", text):
        marks.append("accounting negative")
    digits = "1234,5" if decimal == "," else "1234.5" if "." in text else "1234"
    group = re.search(r"\d([,.' \u00a0])\d{3}(?!\d)", text)
    if group and group[1] != decimal:
        digits = digits.replace("234", f"{group[1]}234", 1)
    elif re.match(r"^0\d", text):
        digits = "001234"
    elif re.search(r"\d[eE][+-]?\d", text):
        digits = "1.2e3"
    elif re.search(r"\.\d*0$", text):
        digits = "1234.50"
    elif not re.match(r"^[-+]?[\d.,]+$", text) and not marks:
        return "text"
    return " ".join([digits, *marks])


def _date_pattern(text: str, order: str) -> str:
    """Return YYYY-MM-DD and the like; empty for what is no date."""
    day, clock = text, ""
    if found := re.search(
        r"(T| |, )?(\d{1,2}):(\d{2})(:\d{2})?(\.\d+)?( ?[AaPp][Mm])?( ?(?:Z|UTC|GMT|JST|[-+]\d{2}:?\d{2}))?$",
        text,
    ):
        day = text[: found.start()]
        mark, _, _, second, fraction, half, zone = found.groups()
        clock = (mark or "") + "HH:MM" + (":SS" if second else "") + (".f" if fraction else "")
        clock += (" AM" if half else "") + ("Z" if zone == "Z" else " +HH:MM" if zone else "")
    if _ERA.search(day) and re.search(r"[年./-]", day):
        return f"{'令和Y年M月D日' if '年' in day else 'R Y.M.D'}{clock}"
    if "年" in day:
        return f"YYYY年M月D日{clock}"
    if found := re.match(r"^\d{4}([-/.])(\d{1,2})[-/.]\d{1,2}$", day):
        return f"YYYY{found[1]}MM{found[1]}DD{clock}"
    if found := re.match(r"^\d{1,2}([-/.])\d{1,2}[-/.]\d{4}$", day):
        first, second = ("MM", "DD") if order == "mdy" else ("DD", "MM")
        return f"{first}{found[1]}{second}{found[1]}YYYY{clock}"
    if re.match(r"^(?:1[89]|20|21)\d{6}(?:\d{6})?$", day) and not clock:
        return "YYYYMMDD" if len(day) == 8 else "YYYYMMDDHHMMSS"
    if _MONTH_NAME.search(day) and re.search(r"\d{4}$", day) and len(day) <= 32:
        return ("Month D, YYYY" if day[0].isalpha() else "D Mon YYYY") + clock
    return ""


def _spelling(x: str, y: str) -> tuple[str, str]:
    """Return what differs between two spellings of one text."""
    if x.strip() == y.strip():
        return "text", "text with blanks around" if len(y) > len(x) else "text without blanks around"
    if x.casefold() == y.casefold():
        return _case(x), _case(y)
    half = y.translate({c: c - 0xFEE0 for c in range(0xFF01, 0xFF5F)} | {0x3000: 0x20})
    other = x.translate({c: c - 0xFEE0 for c in range(0xFF01, 0xFF5F)} | {0x3000: 0x20})
    if half.casefold() == other.casefold():
        return ("half-width", "full-width") if half != y else ("full-width", "half-width")
    if any("\uff61" <= c <= "\uff9f" for c in x + y):
        narrow = any("\uff61" <= c <= "\uff9f" for c in y)
        return ("full-width kana", "half-width kana") if narrow else ("half-width kana", "full-width kana")
    if re.search(r"会社|法人|\(株\)|㈱|(株)|㈲", x + y):
        return _company(x), _company(y)
    if " ".join(x.split()).casefold() == " ".join(y.split()).casefold():
        return "blanks", "other blanks"
    return "text", "respelt text"


def _case(text: str) -> str:
    if text.isupper():
        return "UPPER CASE"
    if text.islower():
        return "lower case"
    return "Title Case" if text.istitle() else "Mixed case"


def _company(text: str) -> str:
    return next(
        (w for w in ("株式会社", "(株)", "㈱", "(株)", "有限会社", "㈲") if w in text), "company form"
    )
