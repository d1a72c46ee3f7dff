"""Which columns look personal, and how their cells are shown then: first character, dots, length.

A page that compares two tables is passed around; what identifies people is covered in it unless
asked for. The rules lean towards covering: a column of product names that is covered costs a glance.
"""

from __future__ import annotations

import itertools
import re
import unicodedata

import numpy as np
import pyarrow as pa

from dataguard.fingerprints.comparison.foreign import LONGEST_CELL
from dataguard.fingerprints.comparison.printed import few
from dataguard.values import Canonical

__all__ = ["covered", "personal_kind"]

_LOOKED_AT = 200
"""Distinct values of a column that are looked at, evenly spaced."""

_MOST_DOTS = 8

_TOKENS: dict[str, frozenset[str]] = {
    "mail": frozenset({"mail", "email", "emails", "mails", "mailto"}),
    "phone": frozenset({"phone", "tel", "telephone", "mobile", "fax", "cellphone", "phonenumber", "msisdn"}),
    "address": frozenset({
        "address", "addresses", "addr", "street", "zip", "zipcode", "postcode", "postal", "residence",
    }),
    "birth": frozenset({"birth", "birthday", "birthdate", "dob", "born", "dateofbirth"}),
    "id number": frozenset({
        "ssn", "passport", "mynumber", "nin", "taxid", "nationalid", "licence", "driverlicense", "imei", "imsi",
        "iban", "userid", "customerid", "patientid", "memberid", "employeeid", "personid", "clientid", "cookie",
    }),
    "card": frozenset({"card", "creditcard", "cardnumber", "ccnumber", "cvv"}),
    "IP address": frozenset({"ip", "ipaddress", "ipv4", "ipv6", "ipaddr"}),
    "person": frozenset({
        "fullname", "firstname", "lastname", "surname", "forename", "givenname", "familyname", "nickname", "username",
        "customername", "realname", "login", "middlename",
    }),
}  # fmt: skip
"""Words of a column name that say what is in it."""

_OF_A_PERSON = frozenset({
    "user", "customer", "client", "person", "patient", "employee", "member", "student", "driver", "passenger", "owner",
    "staff", "subscriber", "visitor", "national", "tax", "resident", "citizen", "license", "account",
})  # fmt: skip
_NOT_OF_A_PERSON = frozenset({
    "file", "column", "table", "product", "item", "species", "model", "brand", "station", "airport", "airline",
    "city", "country", "company", "carrier", "dataset", "feature", "field", "class", "category", "color",
    "colour", "department", "event", "course", "region", "state", "road", "vessel", "ship", "layer", "sheet",
    "host", "domain", "group", "type", "tag", "entity", "issuer", "fund", "bank", "shop", "store", "project",
    "common", "scientific", "short", "time", "zone",
})  # fmt: skip

_JAPANESE: dict[str, str] = {
    "person": "氏名|姓名|名前|お名前|フリガナ|ふりがな|姓$|苗字|本名|ユーザ名|ユーザー名",
    "mail": "メール|Eメール",
    "phone": "電話|携帯|ファックス|FAX",
    "address": "住所|所在地|番地|郵便番号|居所|町名",
    "birth": "生年月日|誕生日|出生",
    "id number": (
        "マイナンバー|個人番号|免許証|旅券|パスポート|保険証|社員番号|職員番号|会員番号|顧客番号|患者番号|患者ID|"
        "顧客ID|会員ID|社員ID|口座|学籍番号|ユーザID|ユーザーID"
    ),
    "card": "カード番号|クレジット",
    "IP address": "IPアドレス",
}

_SHAPES: dict[str, re.Pattern[str]] = {
    "mail": re.compile(r"[^@\s]{1,64}@[^@\s.]+(?:\.[^@\s.]+)+"),
    "IP address": re.compile(r"(?:\d{1,3}\.){3}\d{1,3}|(?=[0-9a-fA-F:]*::|(?:[^:]*:){7})[0-9a-fA-F:]{3,39}"),
    "phone": re.compile(
        r"\+\d{1,3}[ \-.(]*\d[\d \-.()]{5,16}|0\d{1,4}-\d{1,4}-\d{3,4}|\(?[2-9]\d{2}\)?[ \-.]\d{3}[ \-.]\d{4}"
        r"|0\d{9,10}"
    ),
    "card": re.compile(r"(?:\d{4}[ \-]?){3}\d{1,7}"),
    "id number": re.compile(r"\d{3}-\d{2}-\d{4}"),
}  # fmt: skip
_NAME = re.compile(
    r"(?:[A-Z]\.? )?[A-Z][a-z'’À-ž-]+(?:[A-Z][a-z]+)?(?:,? (?:[A-Z][a-zA-Z'’À-ž-]*\.?|de|van|von|der|la|bin)){1,4}"
    r"|[々一-鿿]{1,4} [々一-鿿ぁ-んァ-ヶー]{1,5}|[ァ-ヶー]{2,8} [ァ-ヶー]{2,8}"
)
_FIRM = re.compile(
    r"\b(?:Inc|Corp|Ltd|LLC|Co|Group|Holdings|Bank|Fund|Trust|Company|Airport|Street|Road)\b|株式会社"
)
_MOST_SHARE, _MOST_NAMES = 0.5, 0.6
_DISTINCT = 0.8


def personal_kind(name: str, column: Canonical) -> str:
    """Return what a column seems to hold of people; empty: nothing.

    Parameters
    ----------
    name : str
        Name of the column.
    column : Canonical
        Some 200 of its distinct values are looked at.

    Returns
    -------
    str
        ``person, mail, phone, address, birth, id number, card`` or ``IP address``.
    """
    return _by_name(name) or _by_content(column)


def _by_name(name: str) -> str:
    plain = unicodedata.normalize("NFKC", name[:200])
    for kind, pattern in _JAPANESE.items():
        if re.search(pattern, plain, re.IGNORECASE):
            return kind
    apart = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", plain)
    tokens = [t for t in re.split(r"[^a-z0-9]+", apart.lower()) if t]
    pairs = {a + b for a, b in itertools.pairwise(tokens)}
    held = set(tokens) | pairs
    for kind, words in _TOKENS.items():
        if held & words:
            return kind
    if held & {"id", "no", "number", "num", "code", "key"} and held & _OF_A_PERSON:
        return "id number"
    if held & {"name", "names"} and not held & _NOT_OF_A_PERSON:
        return "person"
    return ""


def _by_content(column: Canonical) -> str:
    texts = column.texts
    if not len(texts):
        return "card" if _are_card_numbers(column) else ""
    at = np.unique(np.linspace(0, len(texts) - 1, min(len(texts), _LOOKED_AT)).astype(np.int64))
    # Longer texts are prose; none of the shapes is longer than this.
    held = [t[:100] for t in texts.take(pa.array(at)).to_pylist() if t]
    if not held:
        return ""
    for kind, shape in _SHAPES.items():
        hits = [t for t in held if shape.fullmatch(t)]
        if kind == "card":
            hits = [t for t in hits if _luhn(re.sub(r"\D", "", t))]
        if len(hits) > _MOST_SHARE * len(held):
            return kind
    present = int((column.tag != 0).sum())
    names = sum(bool(_NAME.fullmatch(t)) and not _FIRM.search(t) for t in held)
    if len(texts) >= _DISTINCT * present and names > _MOST_NAMES * len(held):
        return "person"
    return ""


def _are_card_numbers(column: Canonical) -> bool:
    """Whether most numbers of a column of integers have 13 to 19 digits and a right check digit."""
    at = np.unique(np.linspace(0, max(0, len(column) - 1), min(len(column), _LOOKED_AT)).astype(np.int64))
    values = column.number[at] if len(column) <= _LOOKED_AT else few(column, at).number
    values = values[np.isfinite(values) & (values >= 10**12) & (values < 10**16)]
    # Chance gives one right check digit in ten.
    digits = [str(int(v)) for v in values]
    return 2 * len(digits) > len(at) > 0 and sum(map(_luhn, digits)) > 0.8 * len(digits)


def _luhn(digits: str) -> bool:
    """Check digit of payment cards (ISO/IEC 7812-1, annex B)."""
    if not digits.isascii() or not digits.isdigit():
        return False
    total = 0
    for place, d in enumerate(reversed(digits)):
        n = int(d) * (1 + place % 2)
        total += n - 9 * (n > 9)
    return total % 10 == 0


def covered(text: str) -> str:
    """Return a cell as it is shown where it is covered: its first character, dots and its length.

    A cell of one character is covered whole; a missing one stays missing.
    """
    if not text:
        return ""
    length = f"{len(text)}" if len(text) < LONGEST_CELL else f"{LONGEST_CELL}+"
    first = text[0] if len(text) > 1 else ""
    return f"{first}{'•' * max(1, min(len(text) - 1, _MOST_DOTS))} ({length})"
