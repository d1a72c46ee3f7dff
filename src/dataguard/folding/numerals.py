"""Numbers as people write them: thousands, currencies, percent, accounting negatives, 万 and 億, kanji digits.

A reading is a plain decimal string, exact; the canonical form makes the number of it.
What cannot be decided from one text (is 1,234 one thousand or one point two?) is decided by
the column, see ``meaning.py``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal

from dataguard.cells import NUMBER_PATTERN

__all__ = ["CURRENCIES", "NUMBER_SHAPES", "Written", "is_plain", "read_number"]

CURRENCIES = {
    "¥": "jpy", "\\": "jpy", "円": "jpy", "jpy": "jpy", "yen": "jpy", "$": "usd", "us$": "usd", "usd": "usd",
    "ドル": "usd", "€": "eur", "eur": "eur", "ユーロ": "eur", "£": "gbp", "gbp": "gbp", "₩": "krw", "krw": "krw",
    "₹": "inr", "inr": "inr", "元": "cny", "cny": "cny", "rmb": "cny", "chf": "chf",
}  # fmt: skip
"""Respelt sign or word -> currency."""

_CURRENCY = "|".join(re.escape(sign) for sign in sorted(CURRENCIES, key=len, reverse=True))
_GROUPS = r"[1-9]\d{0,2}(?:,\d{3}){1,5}|[1-9]\d?(?:,\d{2}){1,6},\d{3}"
_SPACED = r"[1-9]\d{0,2}(?: \d{3}){1,5}|[1-9]\d{0,2}(?:'\d{3}){1,5}"
_POINT = rf"(?:\d{{1,18}}|{_GROUPS}|{_SPACED})(?:\.\d*)?|\.\d+"
_COMMA = rf"(?:\d{{1,18}}|[1-9]\d{{0,2}}(?:\.\d{{3}}){{1,5}}|{_SPACED})(?:,\d*)?|,\d+"
_KANJI = "〇零一二三四五六七八九壱弐参十拾百千万億兆"
_EAST = rf"[\d.,]*[{_KANJI}][\d.,{_KANJI}]*"
_BEFORE = rf"(\(?) ?([-+▲△▼▽]?) ?({_CURRENCY}|) ?([-+]?) ?"
_AFTER = rf" ?({_CURRENCY}|%|‰|) ?(-?) ?(\)?)"

NUMBER_SHAPES = tuple(rf"^{_BEFORE}({body}){_AFTER}$" for body in (_POINT, _COMMA, _EAST))
"""What a written number looks like, in the common part of Python's and RE2's languages: decimal point, decimal
comma, East Asian numerals."""

_PLAIN = re.compile(NUMBER_PATTERN, re.ASCII)
_SHAPES = tuple(re.compile(shape, re.ASCII) for shape in NUMBER_SHAPES)
_DIGITS = str.maketrans("〇零一二三四五六七八九壱弐参", "00123456789123")
_UNITS = {"千": 1000, "百": 100, "十": 10, "拾": 10}
_MYRIADS = {"兆": 10**12, "億": 10**8, "万": 10**4}
_SECTION = re.compile(r"^(?:([\d.,]*)千)?(?:([\d.,]*)百)?(?:([\d.,]*)[十拾])?([\d.,]*)$", re.ASCII)
_AMOUNT = re.compile(rf"^(?:{_POINT})$", re.ASCII)
_TOO_LONG = Decimal(10) ** 18


@dataclass(frozen=True, slots=True)
class Written:
    """A number as it was written.

    Attributes
    ----------
    decimal : str
        Its value as plain decimal digits.
    currency : str
        As in `CURRENCIES`; empty for none.
    bracketed, trailing : bool
        Negative by brackets, or by a minus behind it.
    triangle : str
        The triangle before it, if any.
    kanji : bool
        Written without a single Western digit.
    grouped : bool
        Brackets around it hold more than bare digits.
    """

    decimal: str
    currency: str = ""
    bracketed: bool = False
    trailing: bool = False
    triangle: str = ""
    kanji: bool = False
    grouped: bool = False


def is_plain(text: str) -> bool:
    """Whether the canonical form takes a text for a number as it stands."""
    return _PLAIN.match(text) is not None


def read_number(text: str, mark: str = ".") -> Written | None:
    """Return how a respelt text reads as a number.

    Parameters
    ----------
    text : str
        As `dataguard.folding.spelling.respell` returns it.
    mark : str
        Decimal mark: "." or ",".

    Returns
    -------
    Written or None
        None where it is no number, or one of more than 18 digits before the point (a code, as in
        `dataguard.cells`).
    """
    if mark == "." and _PLAIN.match(text):
        return Written(text)
    found = _SHAPES[mark == ","].match(text)
    value = _western(found[5], mark) if found else None
    if found is None and (found := _SHAPES[2].match(text)):
        value = _eastern(found[5])
    if found is None or value is None:
        return None
    opened, sign, before, inner, body, after, trailing, closed = found.groups()
    negatives = (sign in ("-", "▲", "△"), inner == "-", trailing == "-", bool(opened))
    is_money_twice = bool(before) and after in CURRENCIES
    if bool(opened) != bool(closed) or sum(negatives) + (sign == "+") + (inner == "+") > 1 or is_money_twice:
        return None
    if after in ("%", "‰"):
        value = value.scaleb(-2 if after == "%" else -3)
    if value >= _TOO_LONG:
        return None
    return Written(
        ("-" if any(negatives) else "") + f"{value:f}",
        CURRENCIES.get(before) or CURRENCIES.get(after, ""),
        bool(opened),
        trailing == "-",
        sign if sign in ("▲", "△", "▼", "▽") else "",
        not re.search(r"\d", body, re.ASCII),
        bool(opened) and (not body.isdecimal() or bool(before) or bool(after)),
    )


def _western(body: str, mark: str) -> Decimal:
    group = "," if mark == "." else "."
    return Decimal(body.replace(group, "").replace(" ", "").replace("'", "").replace(",", "."))


def _eastern(body: str) -> Decimal | None:
    """Return the value of 1億2,345万, 三千五百, 二〇一三; None where units are out of order."""
    text, total = body.translate(_DIGITS), Decimal(0)
    if body[0] in "〇零" and len(body) > 1:
        return None  # a code: numbers in kanji have no leading zeros
    for unit, factor in _MYRIADS.items():
        head, found, rest = text.partition(unit)
        if not found:
            continue
        value = _section(head)
        if value is None or ("." in head and rest):
            return None
        total += value * factor
        text = rest
        if not text:
            return total
    last = _section(text)
    return None if last is None else total + last


def _section(text: str) -> Decimal | None:
    """Return the value below the next myriad: digits, or digits before 千, 百 and 十; None for anything else."""
    found = _SECTION.match(text)
    if not text or found is None:
        return None
    total = Decimal(0)
    parts = list(zip(found.groups(), (1000, 100, 10, 1), strict=True))
    has_units = any(text.count(unit) for unit in _UNITS)
    for digits, factor in parts:
        if digits is None or (factor == 1 and not digits):
            continue
        if digits and not _AMOUNT.match(digits):
            return None
        value = Decimal(digits.replace(",", "")) if digits else Decimal(1)
        # 千 and below take one digit each, or one amount stands alone before a unit: 1.5千.
        if has_units and not (value < 10 and value == int(value)) and text != f"{digits}{text[-1]}":
            return None
        total += value * factor
    return total
