"""What each column is for, judged by its name, its values and the order of its rows.

Only ``category``, ``score``, ``number`` and ``time`` columns may ever carry a mark; every
other role protects a column. In doubt a column is protected: a mark lost costs a few
rows more, a broken identifier costs the recipient's trust.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from dataguard.constraints.columns import Column
from dataguard.constraints.facts import Role

__all__ = ["MARKABLE", "MOST_LEVELS", "one_way", "roles", "words"]

MARKABLE = frozenset({"category", "score", "number", "time"})
"""Roles that may carry a mark if no fact forbids it."""

MOST_LEVELS = 64
"""A text column with more levels is a code or prose, not a category."""

FEW_VALUES = 12
"""An integer column with fewer values is a category, unless its values are a scale 1, 2, 3, ..."""

_KEY_SHARE = 0.98
_ID_ANYWHERE = frozenset({
    "id", "ids", "uuid", "guid", "zip", "postcode", "phone", "tel", "fax", "mail", "email", "mobile",
    "tailnum", "serial", "isbn", "imo", "mmsi", "vin", "iban", "sku", "ssn", "ip", "url", "mac",
})  # fmt: skip
_ID_LAST = frozenset({
    "no", "nr", "code", "number", "key", "postal", "plate", "tail", "flight", "invoice", "account",
    "ticket", "barcode", "hash",
})  # fmt: skip
_ID_JAPANESE = ("番号", "コード", "電話", "郵便", "メール", "口座", "品番", "型番")
_LABEL = frozenset({"class", "label", "target", "outcome", "目的変数", "ラベル", "クラス", "判定"})
_LABEL_FEW = frozenset({
    "y", "income", "failure", "fault", "diagnosis", "species", "churn", "fraud", "survived", "default",
    "anomaly",
})  # fmt: skip
_LATITUDE = frozenset({"lat", "latitude", "緯度"})
_LONGITUDE = frozenset({"lon", "lng", "long", "longitude", "経度"})
_DATE_PARTS = {
    "year": (1000, 3000), "yr": (1000, 3000), "年": (1000, 3000), "month": (1, 12), "月": (1, 12),
    "day": (0, 366), "日": (1, 31), "hour": (0, 24), "時": (0, 24), "minute": (0, 60), "分": (0, 60),
    "second": (0, 60), "秒": (0, 60), "weekday": (0, 7), "dow": (0, 7), "week": (0, 53), "quarter": (1, 4),
}  # fmt: skip


def words(name: str) -> tuple[str, ...]:
    """Return the lower-case words of a column name (``CustomerID`` -> ``customer, id``)."""
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", name)
    return tuple(w.lower() for w in re.findall(r"[^\W\d_]+", spaced))


def one_way(column: Column) -> float:
    """Return the share of steps from row to row that go the more frequent way; 0 below 30 steps.

    Repeats are no steps. Random order gives one half.
    """
    steps = np.diff(column.value[np.isfinite(column.value)])
    steps = steps[steps != 0]
    up = float((steps > 0).mean()) if len(steps) >= 30 else 0.5
    return max(up, 1 - up) if len(steps) >= 30 else 0.0


def roles(columns: Sequence[Column]) -> dict[str, Role]:
    """Return the role of every column.

    Parameters
    ----------
    columns : sequence of Column
        All columns of the table, in order.
    """
    names = [words(c.name) for c in columns]
    located = any(set(w) & _LATITUDE for w in names) and any(set(w) & _LONGITUDE for w in names)
    found = {c.name: _role(c, w, located=located) for c, w in zip(columns, names, strict=True)}
    if len(columns) >= 4 and not any(r.name == "label" for r in found.values()):
        last = columns[-1]
        if 2 <= last.coded.levels <= 20 and found[last.name].name in MARKABLE | {"dummy"}:
            found[last.name] = Role("label", "last column, few values")
    return found


def _role(column: Column, name: tuple[str, ...], *, located: bool) -> Role:
    levels, present = column.coded.levels, column.coded.present
    if levels == 0:
        return Role("empty", "no values")
    if levels == 1:
        return Role("constant", "one value only")
    label = _label(column, name)
    if label:
        return label
    if located and column.kind == "number" and set(name) & (_LATITUDE | _LONGITUDE):
        return Role("coordinate", "latitude and longitude by name")
    part = _date_part(column, name)
    if part:
        return part
    whole = column.kind in {"text", "time"} or column.whole
    if column.big:
        return Role("identifier", "integers beyond 2**53")
    if whole and levels == present and present >= 2:
        return Role("key", "all values distinct")
    if whole and levels >= _KEY_SHARE * present and present >= 100:
        return Role("key", "nearly all values distinct")
    if whole and levels > FEW_VALUES and _id_name(column.name, name):
        return Role("identifier", "identifier by name")
    return _sequence(column, whole=whole) or _by_kind(column)


def _label(column: Column, name: tuple[str, ...]) -> Role | None:
    few = column.coded.levels <= 30
    if set(name) & _LABEL and column.kind != "time":
        return Role("label", "target column by name")
    if few and ((name and name[-1] in _LABEL_FEW) or name[-2:] == ("cover", "type")):
        return Role("label", "target column by name")
    return None


def _date_part(column: Column, name: tuple[str, ...]) -> Role | None:
    word = name[-1] if name else ""
    if word not in _DATE_PARTS or column.kind != "number" or not column.whole:
        return None
    low, high = _DATE_PARTS[word]
    distinct = column.distinct
    inside = distinct[0] >= low and distinct[-1] <= high
    return Role("date-part", f"{word} by name and range") if inside else None


def _id_name(name: str, parts: tuple[str, ...]) -> bool:
    if not parts:
        return False
    # "number of doors" counts, "phone number" names.
    return bool(set(parts) & _ID_ANYWHERE) or parts[-1] in _ID_LAST or any(j in name for j in _ID_JAPANESE)


def _sequence(column: Column, *, whole: bool) -> Role | None:
    """Roles that show in the order of the rows: counters, sort keys, blocks, held samples."""
    repeats, collision = column.coded.repeats, column.coded.collision
    if column.numeric:
        steps = np.diff(column.value[np.isfinite(column.value)])
        moved = steps[steps != 0]
        if (
            whole
            and len(moved) >= 30
            and float((moved == np.median(moved)).mean()) >= 0.9
            and column.coded.levels > 2
        ):
            return Role("identifier", "counts up row by row")
        if len(moved) >= 30 and bool((moved > 0).all() or (moved < 0).all()):
            return Role("sorted", "the rows are sorted by it")
    if whole and repeats >= 0.9 and collision <= 0.7 and column.coded.levels > 2:
        return Role("identifier", "the same over long runs of rows")
    if column.kind == "number" and repeats >= 0.4 and collision <= 0.005 and one_way(column) < 0.98:
        return Role("held", "a measured value is held over several rows")
    return None


def _by_kind(column: Column) -> Role:
    levels = column.coded.levels
    if column.kind == "time":
        days = column.step > 0 and column.step % 86_400 == 0
        if not days or levels >= 0.5 * column.coded.present or levels < FEW_VALUES or one_way(column) > 0.75:
            return Role("identifier", "times that index the rows")
        return Role("time", "dates in no order")
    if column.kind == "text":
        return _text(column)
    distinct = column.distinct
    if levels == 2 and distinct[0] == 0 and distinct[1] == 1:
        return Role("dummy", "zero or one")
    if not column.whole or levels >= FEW_VALUES:
        return Role("number", "a quantity")
    # Evenly spaced and nearly complete: 1, 2, 3, ... 10 even if nobody scored 9.
    full = levels >= 5 and levels >= 0.7 * ((distinct[-1] - distinct[0]) / column.step + 1)
    return Role("score", "an ordered scale") if full else Role("category", "few integer codes")


def _text(column: Column) -> Role:
    levels = column.coded.levels
    texts = column.canonical.texts.to_pylist() if levels <= MOST_LEVELS else []
    if levels == 2 and {t.lower() for t in texts if t} <= {"true", "false", "t", "f"}:
        return Role("dummy", "true or false")
    if levels <= MOST_LEVELS:
        return Role("category", "few levels of text")
    return Role("text", "many levels of text")
