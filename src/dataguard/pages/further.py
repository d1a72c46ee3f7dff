"""Parts of a comparison that no other part of a page words: facts and short tables, by their names.

A comparison grows fields (rarity, shared errors, direction, freely available rows); whatever a document
holds is shown here, and cells of covered columns stay covered.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dataguard.fingerprints.comparison.foreign import number_text, shown
from dataguard.fingerprints.comparison.personal import covered
from dataguard.fingerprints.comparison.words import Words

__all__ = ["Further", "further"]

_WORDED = frozenset({
    "schema", "relation", "changes", "containment_original", "containment_suspect", "rows", "columns", "log10_p",
    "null_hypothesis", "findings", "finding", "derived",
})  # fmt: skip
"""Fields with a place of their own; ``finding`` of a part stands among the findings."""

_COUNTS = frozenset({
    "original_row", "suspect_row", "held", "equal", "unique", "bits", "rows", "count", "cells", "agree", "groups",
})  # fmt: skip
"""Numbers that are no cells, and stay where a column is covered."""

_OURS = frozenset({
    "column", "original", "suspect", "given", "kind", "columns", "outcome", "points", "observation", "statement",
    "name",
})  # fmt: skip
"""Texts that are names or words of this program, and stay where a column is covered."""

_LABELS = {
    "evidence": Words("rare values and errors in common", "共通する希少値と誤り"),
    "rarity": Words("rare values in common", "共通する希少値"),
    "rarest": Words("the rarest", "最も希少な値"),
    "errors": Words("errors in common", "共通する誤り"),
    "shared_errors": Words("errors in common", "共通する誤り"),
    "direction": Words("hints of direction", "方向の手掛かり"),
    "public": Words("freely available rows", "公開データにある行"),
    "matched": Words("matched rows", "対応した行"),
    "weighed": Words("rows weighed", "評価した行"),
    "total_bits": Words("total, bits", "合計(ビット)"),
    "median_bits": Words("middle row, bits", "中央の行(ビット)"),
    "bits": Words("bits", "ビット"),
    "unique_cells": Words("cells whose value occurs once in the original", "原本に1回だけ現れる値のセル"),
    "unique_rows": Words("rows with such a cell", "そのようなセルのある行"),
    "column": Words("column", "列"),
    "columns": Words("columns", "列"),
    "value": Words("value", "値"),
    "held": Words("rows of the original with it", "その値をもつ原本の行"),
    "equal": Words("equal cells", "等しいセル"),
    "unique": Words("occurring once", "1回だけ現れる値"),
    "given": Words("held against", "比較した列"),
    "original_row": Words("original row", "原本の行"),
    "suspect_row": Words("suspect row", "対象の行"),
    "rows": Words("rows", "行"),
    "share": Words("share", "割合"),
    "kind": Words("kind", "種類"),
    "kinds": Words("by kind", "種類別"),
    "examples": Words("examples", "例"),
    "rule": Words("rule", "規則"),
    "expected": Words("expected", "期待される値"),
    "shown": Words("in the suspect", "対象の値"),
    "outcome": Words("outcome", "結果"),
    "found": Words("found", "発見"),
    "shared": Words("shared", "共通"),
    "corrected": Words("corrected", "訂正"),
    "other": Words("other", "その他"),
    "hidden": Words("cannot be told", "判別できない"),
    "unsupported": Words("without support", "裏付けなし"),
    "hints": Words("hints", "手掛かり"),
    "observation": Words("observation", "観察"),
    "points": Words("points", "方向"),
    "statement": Words("statement", "記述"),
    "counts": Words("counts", "件数"),
    "files": Words("files", "ファイル"),
    "same": Words("same as they stand", "そのまま同じ行"),
    "new": Words("not in a file before", "前のファイルにない行"),
}
_MOST_ROWS, _MOST_FACTS, _DEEPEST = 20, 24, 3


@dataclass(frozen=True, slots=True)
class Further:
    """Some facts, or a short table, of a part of a comparison.

    Attributes
    ----------
    title : Words
    facts : tuple of (Words, str)
    head : tuple of Words
        Of the table; empty: no table.
    rows : tuple of tuple of str
    more : int
        Rows that are left out.
    """

    title: Words
    facts: tuple[tuple[Words, str], ...] = ()
    head: tuple[Words, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()
    more: int = 0


def further(document: Mapping[str, Any], masked: Collection[str] = ()) -> list[Further]:
    """Return the parts of a document that have no place of their own.

    Parameters
    ----------
    document : mapping
        JSON document of a comparison.
    masked : collection of str
        Names of columns whose cells are covered.
    """
    out: list[Further] = []
    loose = {k: v for k, v in document.items() if k not in _WORDED and v not in (None, [], {}, "")}
    for name, value in loose.items():
        _collect(out, _label(name), value if isinstance(value, Mapping) else {name: value}, masked, 0)
    return out


def _collect(
    out: list[Further], title: Words, part: Mapping[str, Any], masked: Collection[str], depth: int
) -> None:
    plain = [
        (k, v) for k, v in part.items() if not _is_nested(v) and k not in _WORDED - {"rows"} and v is not None
    ]
    if plain:
        facts = tuple(
            (_label(k), _text(k, v, masked, is_foreign=bool(masked))) for k, v in plain[:_MOST_FACTS]
        )
        out.append(Further(title, facts))
    for key, value in part.items():
        if not _is_nested(value) or not value or key in ("finding", "findings") or depth > _DEEPEST:
            continue
        label = _label(key)
        joint = label if label == title else Words(f"{title.en}: {label.en}", f"{title.ja}:{label.ja}")
        if isinstance(value, Mapping):
            _collect(out, joint, value, masked, depth + 1)
        elif all(isinstance(v, Mapping) for v in value):
            out.append(_table(joint, value, masked))
        else:
            texts = tuple(
                (Words("", ""), _text(key, v, masked, is_foreign=bool(masked))) for v in value[:_MOST_ROWS]
            )
            out.append(Further(joint, texts, more=max(0, len(value) - _MOST_ROWS)))


def _is_nested(value: object) -> bool:
    return isinstance(value, Mapping) or (isinstance(value, Sequence) and not isinstance(value, str))


def _table(title: Words, rows: Sequence[Mapping[str, Any]], masked: Collection[str]) -> Further:
    keys = list(dict.fromkeys(k for row in rows[:_MOST_ROWS] for k in row))[:8]
    body = []
    for row in rows[:_MOST_ROWS]:
        hide = any(
            row.get(k) in masked for k in ("column", "original", "suspect") if isinstance(row.get(k), str)
        )
        body.append(tuple(_text(k, row.get(k), masked, is_foreign=hide) for k in keys))
    return Further(
        title, head=tuple(map(_label, keys)), rows=tuple(body), more=max(0, len(rows) - _MOST_ROWS)
    )


def _label(key: str) -> Words:
    plain = shown(key.replace("_", " "), 40)
    named = plain if key.isascii() and key.isidentifier() else f"“{plain}”"
    return _LABELS.get(key, Words(named, named))


def _text(key: str, value: object, masked: Collection[str], *, is_foreign: bool) -> str:
    """Return a fact as text; where columns are covered, so is every text that may come out of one."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        if (
            is_foreign
            and masked
            and key not in _COUNTS
            and not key.endswith(("bits", "rows", "cells", "share", "_p"))
        ):
            return covered(str(value))
        return f"{math.floor(value * 10_000 + 1e-9) / 10_000:.4f}" if key == "share" else number_text(value)
    if isinstance(value, Mapping) or not isinstance(value, str):
        held = list(value.values()) if isinstance(value, Mapping) else list(value)  # type: ignore[call-overload]
        return ", ".join(_text(key, v, masked, is_foreign=is_foreign) for v in held[:8])
    if is_foreign and key not in _OURS:
        return shown(covered(value))
    return shown(value, 80)
