"""What was done to a column or a table, in words.

Works on the changes of the JSON document (CONTRACT; ``fingerprints/changes``), so that a report, a
script or a later version can be worded too: a kind that is not known is shown by its name, with its
particulars.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from dataguard.fingerprints.comparison.foreign import count_text, number_text, quoted
from dataguard.fingerprints.comparison.words import MOST_NAMES, Words, names_words, share_of, value_words

__all__ = ["change_words", "functions_text"]

_PLAIN = re.compile(r"[A-Za-z0-9万億坪 /+:>()²³µ°-]{1,80}")
_MOST_PAIRS = 4
"""Renamed values that are written out."""

_FUNCTIONS = {
    "log": Words("natural logarithm", "自然対数"),
    "log10": Words("decimal logarithm", "常用対数"),
    "log2": Words("binary logarithm", "2を底とする対数"),
    "log1p": Words("logarithm of 1 + x", "1 + x の対数"),
    "exp": Words("exponential", "指数関数"),
    "sqrt": Words("square root", "平方根"),
    "square": Words("square", "2乗"),
    "reciprocal": Words("reciprocal", "逆数"),
    "rank": Words("rank", "順位"),
    "monotone": Words("a monotone map, by table", "単調な写像(数表による)"),
    "table": Words("a monotone map, by table", "単調な写像(数表による)"),
}

_RULES = {
    "half-away": Words("halves away from zero", "0.5は零から遠い方へ"),
    "floor": Words("downwards", "切り捨て"),
    "ceil": Words("upwards", "切り上げ"),
    "truncate": Words("towards zero", "零方向へ切り捨て"),
}

Detail = Mapping[str, Any]


def change_words(change: Detail) -> Words:
    """Return what was done to a column or a table, in words.

    Parameters
    ----------
    change : mapping
        ``kind`` and particulars, as in the JSON document (CONTRACT); particulars may be missing.
    """
    kind = str(change.get("kind", ""))
    make = _CHANGES.get(kind)
    if make is not None:
        return make(change)
    name = quoted(kind.replace("-", " "))
    rest = ", ".join(f"{quoted(str(k))} {value_words(v)}" for k, v in change.items() if k != "kind")
    return Words(f"{name} ({rest})" if rest else name, f"{name}({rest})" if rest else name)


def _number(change: Detail, name: str) -> float | None:
    value = change.get(name)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return value if is_number and not math.isnan(value) else None  # type: ignore[arg-type]


def _of_cells(change: Detail) -> Words:
    share = _number(change, "share")
    if share is None:
        return Words("", "")
    w = share_of(share, "cells", "セル")
    return Words(f", {w.en}", f"({w.ja})")


def _affine(change: Detail) -> Words:
    scale, offset = _number(change, "scale"), _number(change, "offset")
    en, unit = [], change.get("unit")
    if scale is not None and scale != 1:
        en.append(f"x {number_text(scale)}")
    if offset:
        en.append(f"{'+' if offset > 0 else '-'} {number_text(abs(offset))}")
    ja = [part.replace("x ", "× ", 1) for part in en]
    plain = " ".join(en) or "scaled", " ".join(ja) or "換算"
    if not unit:
        tail = Words(", a constant factor", "(一定の係数)") if change.get("said") else Words("", "")
        return Words(plain[0] + tail.en, plain[1] + tail.ja)
    said = _unit(unit)
    if said.startswith("UTC"):
        return Words(f"times shifted, {said}", f"時刻をずらす({said.replace(' -> ', ' → ')})")
    return Words(f"{plain[0]}, {said}", f"{plain[1]}({said.replace(' -> ', ' → ')})")


def _unit(unit: object) -> str:
    """Return a recognised unit as it is, and anything else quoted."""
    if isinstance(unit, Mapping):
        unit = [unit.get("from", ""), unit.get("to", "")]
    if isinstance(unit, Sequence) and not isinstance(unit, str):
        return " -> ".join(_ours(str(u)) for u in unit[:2])
    return _ours(str(unit))


def _ours(text: str) -> str:
    """Return a word of this program as it is; what cannot be one is quoted."""
    return text if _PLAIN.fullmatch(text) else quoted(text)


def _function(change: Detail) -> Words:
    name = str(change.get("name", ""))
    w = _FUNCTIONS.get(name, Words(quoted(name), quoted(name)))
    scale, offset = _number(change, "scale"), _number(change, "offset")
    if (scale is None or scale == 1) and not offset:
        return w
    a = _affine(change)
    return Words(f"{w.en}, then {a.en}", f"{w.ja}、さらに {a.ja}")


def _rounded(change: Detail) -> Words:
    step, digits, to = change.get("step"), _number(change, "digits"), change.get("to")
    rule = _RULES.get(str(change.get("rule", "")))
    tail = Words(f", {rule.en}" if rule else "", f"({rule.ja})" if rule else "")
    if to is not None:
        return Words(f"held as {value_words(to)}", f"{value_words(to)} 型による丸め")
    if isinstance(step, str):  # part of a time
        part = _CLOCK.get(step, Words(quoted(step), quoted(step)))
        return Words(f"rounded to {part.en}{tail.en}", f"{part.ja}単位に丸め{tail.ja}")
    if _number(change, "step"):
        n = value_words(step)
        return Words(f"rounded to {n}{tail.en}", f"{n} 単位に丸め{tail.ja}")
    if digits is not None:
        n = number_text(digits)
        noun = "digit" if digits == 1 else "digits"
        return Words(f"rounded to {n} significant {noun}{tail.en}", f"有効数字{n}桁に丸め{tail.ja}")
    return Words(f"rounded{tail.en}", f"丸め{tail.ja}")


_CLOCK = {
    "second": Words("the second", "秒"), "minute": Words("the minute", "分"), "15 minutes": Words("15 minutes", "15分"),
    "30 minutes": Words("30 minutes", "30分"), "hour": Words("the hour", "時"), "day": Words("the day", "日"),
    "date": Words("the day", "日"), "week": Words("the week", "週"), "month": Words("the month", "月"),
    "quarter": Words("the quarter", "四半期"), "year": Words("the year", "年"),
}  # fmt: skip


def _noise(change: Detail) -> Words:
    sd, relative = _number(change, "sd"), _number(change, "relative_sd")
    cells = _of_cells(change)
    en, ja = "noise", "雑音"
    if sd is not None:
        en, ja = f"noise of sd {number_text(sd)}", f"標準偏差 {number_text(sd)} の雑音"
    if relative is not None:
        en, ja = f"{en} ({relative:.2g} of the column's sd)", f"{ja}(列の標準偏差の {relative:.2g})"
    return Words(en + cells.en, ja + cells.ja)


def _clipped(change: Detail) -> Words:
    low, high, cells = _number(change, "low"), _number(change, "high"), _of_cells(change)
    en, ja = [], []
    if low is not None and math.isfinite(low):
        en.append(f"below {number_text(low)}")
        ja.append(f"{number_text(low)} 未満")
    if high is not None and math.isfinite(high):
        en.append(f"above {number_text(high)}")
        ja.append(f"{number_text(high)} 超")
    values = " and ".join(en)
    return Words(f"values {values} set to the limit{cells.en}".replace("values  ", "values "),
                 f"{'及び'.join(ja)}の値を限界値に変更{cells.ja}" if ja else f"限界値で打切り{cells.ja}")  # fmt: skip


def _format(change: Detail) -> Words:
    a, b, cells = change.get("from"), change.get("to"), _of_cells(change)
    if change.get("share") == 1:
        cells = Words("", "")
    if a is None and b is None:
        return Words(f"written in another format{cells.en}", f"表記の変更{cells.ja}")
    pair = value_words(a), value_words(b)
    return Words(
        f"written as {pair[1]} instead of {pair[0]}{cells.en}",
        f"表記を {pair[0]} から {pair[1]} に変更{cells.ja}",
    )


def _recoded(change: Detail) -> Words:
    pairs, values = change.get("map"), _number(change, "values")
    listed = list(pairs.items()) if isinstance(pairs, Mapping) else pairs
    held = (
        [p for p in listed if isinstance(p, Sequence) and len(p) == 2] if isinstance(listed, Sequence) else []
    )
    count = int(values) if values is not None else len(held)
    some = ", ".join(f"{value_words(a)} -> {value_words(b)}" for a, b in held[:_MOST_PAIRS])
    more = ", …" if some and count > _MOST_PAIRS else ""
    head = count_text(count, "value") + " renamed" if count else "values renamed"
    return Words(
        f"{head}: {some}{more}" if some else head,
        (f"{count:,}種の値を読み替え" if count else "値の読み替え")
        + (f":{some.replace(' -> ', ' → ')}{more}" if some else ""),
    )


def _hashed(change: Detail) -> Words:
    name, values = change.get("algorithm"), _number(change, "values")
    how = "" if not name or name == "unknown tokens" else f" ({_ours(str(name))})"
    n = "" if values is None else f", {int(values):,} values"
    return Words(f"each value replaced by one token{how}{n}",
                 f"値ごとに一つの符号に置換{how.replace(' (', '(').replace(')', ')')}")  # fmt: skip


def _truncated(change: Detail) -> Words:
    n = _number(change, "characters")
    if n is None:
        return Words("texts cut short", "文字列の切詰め")
    return Words(f"cut after {count_text(int(n), 'character')}", f"先頭{int(n):,}文字で切詰め")


def _masked(change: Detail) -> Words:
    pattern = change.get("pattern")
    tail = "" if pattern is None else f": {value_words(pattern)}"
    return Words(f"characters covered{tail}", f"文字の伏せ字{tail}")


def _blanked(change: Detail) -> Words:
    w = share_of(_number(change, "share"), "cells", "セル")
    return Words(f"{w.en} emptied", f"{w.ja}が空白化")


def _filled(change: Detail) -> Words:
    w, value = share_of(_number(change, "share"), "empty cells", "空白セル"), change.get("value")
    en, ja = ("", "") if value is None else (f" with {value_words(value)}", f" {value_words(value)} で")
    return Words(f"{w.en} filled{en}", f"{w.ja}が{ja}補完")


def _merged(change: Detail) -> Words:
    names, separator = names_words(change.get("from")), change.get("separator")
    tail = "" if separator is None else f", separated by {value_words(separator)}"
    tail_ja = "" if separator is None else f"(区切り {value_words(separator)})"
    return Words(f"{names.en} joined{tail}", f"{names.ja} を結合{tail_ja}")


def _split(change: Detail) -> Words:
    names, part = names_words(change.get("from")), change.get("part")
    one = (
        Words("a part", "一部")
        if part is None
        else Words(f"part {value_words(part)}", f"部分 {value_words(part)}")
    )
    return Words(f"{one.en} of {names.en}", f"{names.ja} の{one.ja}")


def _computed(change: Detail) -> Words:
    names, formula = names_words(change.get("from")), change.get("formula")
    tail = "" if formula is None else f": {value_words(formula)}"
    return Words(f"computed from {names.en}{tail}", f"{names.ja} から計算{tail}")


def _near(change: Detail) -> Words:
    w, most = share_of(_number(change, "share"), "cells", "セル"), _number(change, "max")
    if most is None:
        return Words(f"{w.en} differ a little", f"{w.ja}がわずかに相違")
    n = number_text(most)
    return Words(f"{w.en} differ a little, by {n} at most", f"{w.ja}がわずかに相違(差は最大 {n})")


def _far(change: Detail) -> Words:
    w = share_of(_number(change, "share"), "cells", "セル")
    return Words(f"{w.en} differ", f"{w.ja}が相違")


# --- changes of a table ----------------------------------------------------------------------------


def _plain(en: str, ja: str) -> Callable[[Detail], Words]:
    return lambda _: Words(en, ja)


def _with_columns(en: str, ja: str) -> Callable[[Detail], Words]:
    def make(change: Detail) -> Words:
        names = names_words(change.get("columns"))
        return Words(en.format(names.en), ja.format(names.ja))

    return make


def _renamed(change: Detail) -> Words:
    a, b = value_words(change.get("from")), value_words(change.get("to"))
    return Words(f"{a} renamed to {b}", f"列名 {a} を {b} に変更")


def _mixed(change: Detail) -> Words:
    w = share_of(_number(change, "share"), "the suspect's rows", "対象の行")
    return Words(f"{w.en} are not rows of the original", f"{w.ja}は原本の行でない")


def _duplicated(change: Detail) -> Words:
    n = _number(change, "rows")
    if n is None:
        return Words("rows repeated", "行の重複")
    return Words(f"{count_text(int(n), 'row')} repeated", f"{int(n):,}行が重複")


def _selected(change: Detail) -> Words:
    where = change.get("where")
    if where is None:
        return Words("rows selected", "行の抽出")
    return Words(f"rows selected where {value_words(where)}", f"条件 {value_words(where)} による行の抽出")


def _aggregated(change: Detail) -> Words:
    by, functions = names_words(change.get("by")), change.get("functions")
    tail = "" if not functions else f": {functions_text(functions)}"
    return Words(f"grouped by {by.en}{tail}", f"{by.ja} ごとに集計{tail}")


def functions_text(functions: object) -> str:
    """Return functions of columns in words: a mapping column -> function(s), or a list of pairs or of objects."""
    if isinstance(functions, Mapping):
        pairs: list[tuple[object, object]] = list(functions.items())
    elif isinstance(functions, Sequence) and not isinstance(functions, str):
        pairs = [_pair(f) for f in functions]
    else:
        return value_words(functions)
    some = ", ".join(
        f"{_bare(f)} of {quoted(str(c))}" if c is not None else _bare(f) for c, f in pairs[:MOST_NAMES]
    )
    return some + (f" … +{len(pairs) - MOST_NAMES:,}" if len(pairs) > MOST_NAMES else "")


def _pair(entry: object) -> tuple[object, object]:
    if isinstance(entry, Mapping):
        return entry.get("original", entry.get("column")), entry.get("function", entry.get("name", ""))
    if isinstance(entry, Sequence) and not isinstance(entry, str) and len(entry) == 2:
        return entry[0], entry[1]
    return None, entry


def _bare(function: object) -> str:
    several = function if isinstance(function, Sequence) and not isinstance(function, str) else [function]
    return "/".join(str(f) if str(f) in _AGGREGATES else quoted(str(f)) for f in several[:MOST_NAMES])


_AGGREGATES = frozenset({
    "count", "sum", "mean", "min", "max", "median", "std", "population-std", "count-distinct", "first", "last",
})  # fmt: skip

_CHANGES: Mapping[str, Callable[[Detail], Words]] = {
    "affine": _affine,
    "function": _function,
    "rounded": _rounded,
    "noise": _noise,
    "clipped": _clipped,
    "format": _format,
    "recoded": _recoded,
    "hashed": _hashed,
    "truncated": _truncated,
    "masked": _masked,
    "blanked": _blanked,
    "filled": _filled,
    "merged": _merged,
    "split": _split,
    "computed": _computed,
    "near-values": _near,
    "far-values": _far,
    "reordered": _plain("rows in another order", "行の並べ替え"),
    "sorted": _with_columns("rows sorted by {}", "{} による行の並べ替え"),
    "columns-reordered": _plain("columns in another order", "列の並べ替え"),
    "columns-dropped": _with_columns("columns left out: {}", "除かれた列:{}"),
    "columns-added": _with_columns("columns not of the original: {}", "原本にない列:{}"),
    "renamed": _renamed,
    "mixed": _mixed,
    "duplicated": _duplicated,
    "selected": _selected,
    "aggregated": _aggregated,
}
