"""Spellings of one text that people do not tell apart: widths, capitals, blanks, dashes, company forms.

Works on one text or on many joined by newlines, so that a column costs a few passes in C
and not one call per cell.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence

__all__ = ["MISSING", "MISSING_WORDS", "respell", "respell_all"]

MISSING = frozenset((
    "", "na", "n/a", "n.a.", "<na>", "#n/a", "#n/a n/a", "#na", "nan", "-nan", "nat", "null", "(null)", "[null]",
    "none", "\\n", "?", "??", ".", "...", "-", "--", "---", "ー",
))  # fmt: skip
"""Respelt texts that never say anything: missing in every column."""

MISSING_WORDS = frozenset((
    "nil", "missing", "unknown", "undefined", "not available", "not applicable", "#value!", "#ref!", "#div/0!",
    "不明", "なし", "無し", "無", "該当なし", "未定", "未入力", "空欄", "欠測", "欠損",
))  # fmt: skip
"""Words that can be a category of their own: missing only where all else in a column is numbers or times."""

_DASHES = "\u2010\u2011\u2012\u2013\u2014\u2015\u2212\u2043\u2500\u2501\u30a0"
_WAVES = "\u301c\u223c\u223e"
_SINGLE, _DOUBLE = "\u2018\u2019\u201b\u2032\u02bc", "\u201c\u201d\u201f\u2033"
_BLANKS = "\t\x0b\x0c\r\x1c\x1d\x1e\x1f\x85\u00a0\u1680\u2028\u2029\u3000"
_NO_GLYPH = (
    "\u00ad\u180e\u200b\u200c\u200d\u200e\u200f\u2060\ufeff"
    + "".join(map(chr, range(0xFE00, 0xFE10)))  # variation selectors
    + "".join(map(chr, range(0xE0100, 0xE01F0)))
)
_TABLE = {
    **dict.fromkeys(_DASHES, "-"), **dict.fromkeys(_WAVES, "~"), **dict.fromkeys(_SINGLE, "'"),
    **dict.fromkeys(_DOUBLE, '"'), **dict.fromkeys(_BLANKS, " "), **dict.fromkeys(_NO_GLYPH, ""),
}  # fmt: skip
_COMPANIES = {
    "株": "株式会社", "有": "有限会社", "同": "合同会社", "資": "合資会社", "名": "合名会社", "財": "財団法人",
    "社": "社団法人", "医": "医療法人", "学": "学校法人", "福": "社会福祉法人", "独": "独立行政法人",
}  # fmt: skip
_CONTROLS = {ord(blank): " " for blank in _BLANKS if blank.isascii()}
# All begin with a literal, which is found at the speed of memory; a class at the front costs 50 ns a character.
# The long-vowel mark stands behind kana; elsewhere it was typed for a dash (1ー2ー3), and a dash between
# katakana for it (コンピュ-タ).
_VOWEL = re.compile(r"ー(?<![ぁ-ゖァ-ヺー]ー)ー*")
_DASH_IN_KANA = re.compile(r"-(?<=[ァ-ヺー]-)(?=[ァ-ヺ])")
_SHORT = re.compile(rf"\( ?([{''.join(_COMPANIES)}]) ?\)")
_LONG = re.compile(rf" ?({'|'.join(_COMPANIES.values())}) ?")
_ROUNDS = 8
"""A form is reached after two rounds; eight are for texts made to resist."""
_BLOCK = 1 << 18
"""Characters worked on together: more do not stay in the cache."""


def respell(text: str) -> str:
    """Return the spelling that stands for all spellings of a text that people do not tell apart.

    Compatibility characters and capitals are folded (Unicode 3.13, NFKC and full case folding), characters
    without a glyph left out, blanks collapsed, dashes, quotes and wave dashes made one of each, and
    company forms written out (㈱ and (株) are 株式会社, without a blank beside it).
    """
    return respell_all([text])[0]


def respell_all(texts: Sequence[str]) -> list[str]:
    """Return `respell` of many texts; they are joined, worked on together and taken apart again."""
    out = [text.replace("\n", " ") for text in texts]
    open_ones = list(range(len(out)))
    for _ in range(_ROUNDS):
        open_ones = [i for part in _parts(out, open_ones) for i in _round(out, part)]
        if not open_ones:
            break
    return out


def _parts(texts: list[str], some: list[int]) -> Iterator[list[int]]:
    begin = size = 0
    for end, i in enumerate(some, 1):
        size += len(texts[i]) + 1
        if size >= _BLOCK or end == len(some):
            yield some[begin:end]
            begin, size = end, 0


def _round(texts: list[str], some: list[int]) -> list[int]:
    """Work on some texts once, in place; return those that changed and may change again."""
    changed = []
    for i, new in zip(some, _once("\n".join([texts[i] for i in some])).split("\n"), strict=True):
        if new != texts[i]:
            texts[i] = new
            if not new.isascii():
                changed.append(i)
    return changed


def _once(text: str) -> str:
    if text.isascii():
        return _trimmed(text.lower().translate(_CONTROLS))
    text = unicodedata.normalize("NFKC", text.casefold())
    # Few of the characters that matter occur in a text, and to replace one costs a pass at the speed of memory.
    for odd in sorted(_TABLE.keys() & set(text)):
        text = text.replace(odd, _TABLE[odd])
    text = _trimmed(text)
    if "ー" in text:
        text = _VOWEL.sub(_dashes, text)
    if "-" in text:
        text = _DASH_IN_KANA.sub("ー", text)
    if "(" in text:
        text = _SHORT.sub(_company, text)
    if "会社" in text or "法人" in text:
        text = _LONG.sub(r"\1", text)
    return text


def _trimmed(text: str) -> str:
    """Collapse blanks, and leave none beside a newline or at an end."""
    while "  " in text:
        text = text.replace("  ", " ")
    return text.replace(" \n", "\n").replace("\n ", "\n").strip(" ")


def _dashes(found: re.Match[str]) -> str:
    return "-" * len(found[0])


def _company(found: re.Match[str]) -> str:
    return _COMPANIES[found[1]]
