"""What a comparison says as a whole: its relation, its rows, its probabilities.

Sentences in both languages made from the JSON document (CONTRACT); fields that a document does not
have are passed over. Measurements only: no sentence says who did what.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from dataguard.fingerprints.comparison.change_words import change_words, functions_text
from dataguard.fingerprints.comparison.foreign import count_text, quoted
from dataguard.fingerprints.comparison.words import Words, names_words, share_words

__all__ = [
    "SHARES",
    "agreement_words",
    "column_change",
    "estimate_words",
    "finding_words",
    "is_sampled",
    "log10_text",
    "null_words",
    "probability",
    "relation_name",
    "relation_words",
    "row_words",
    "table_done",
    "undecided",
]

Document = Mapping[str, Any]

SHARES = (
    ("containment_suspect", Words("of the suspect is in the original", "対象の行のうち原本にあるもの")),
    ("containment_original", Words("of the original is in the suspect", "原本の行のうち対象にあるもの")),
)
"""The two shares: field of the document, and what it is a share of."""

_RELATIONS = {
    "identical": Words("identical", "同一"),
    "same-rows": Words("same rows", "同じ行"),
    "subset": Words("subset", "部分集合"),
    "superset": Words("superset", "上位集合"),
    "overlap": Words("overlap", "重なり"),
    "derived": Words("derived", "派生"),
    "same-schema": Words("same schema", "同じ形式"),
    "unrelated": Words("unrelated", "対応なし"),
}

_SENTENCES = {
    "identical": Words(
        "The two tables agree in every cell, in the same order.",
        "二つの表は、すべてのセルとその順序が一致する。",
    ),
    "same-rows": Words(
        "The suspect holds the rows of the original, and no others.",
        "対象は原本の行からなり、それ以外の行をもたない。",
    ),
    "subset": Words(
        "The suspect holds rows of the original, and no others; the original has more.",
        "対象は原本の行の一部からなり、それ以外の行をもたない。",
    ),
    "superset": Words(
        "The suspect holds all rows of the original, and further rows.",
        "対象は原本のすべての行と、それ以外の行とからなる。",
    ),
    "overlap": Words("overlap", "重なり"),
    "derived": Words("derived", "派生"),
    "same-schema": Words("same schema", "同じ形式"),
    "unrelated": Words("unrelated", "対応なし"),
}

_SENTENCES = {
    "identical": Words("The two tables agree in every cell, in the same order.",
                       "二つの表は、すべてのセルとその順序が一致する。"),
    "same-rows": Words("The suspect holds the rows of the original, and no others.",
                       "対象は原本の行からなり、それ以外の行をもたない。"),
    "subset": Words("The suspect holds rows of the original, and no others; the original has more.",
                    "対象は原本の行の一部からなり、それ以外の行をもたない。"),
    "superset": Words("The suspect holds the rows of the original, and further rows.",
                      "対象は原本の行と、それ以外の行とからなる。"),
    "overlap": Words("The suspect and the original share rows; each also has rows of its own.",
                     "対象と原本は行を共有し、それぞれ固有の行ももつ。"),
    "derived": Words("The suspect's values can be computed from the original.", "対象の値は原本から計算できる。"),
    "same-schema": Words(
        "Same schema, different rows: the columns correspond, the rows do not beyond what chance gives.",
        "同じ形式、異なる行:列は対応するが、行の対応は偶然の範囲を超えない。"),
    "unrelated": Words("No correspondence of rows was found.", "行の対応は見いだされなかった。"),
}  # fmt: skip

_NEARLY = {
    "same-rows": Words(
        "The suspect holds the rows of the original: {suspect} of its rows were found there, and {original} of the "
        "original's in it.",
        "対象は原本の行からなる:対象の行の{suspect}が原本に、原本の行の{original}が対象に見いだされた。"),
    "subset": Words(
        "The suspect holds rows of the original: {suspect} of its rows were found there; the original has more.",
        "対象は原本の行の一部からなる:対象の行の{suspect}が原本に見いだされた。"),
    "superset": Words("The suspect holds {original} of the rows of the original, and further rows.",
                      "対象は原本の行の{original}と、それ以外の行とからなる。"),
}  # fmt: skip
"""Where not every row was examined and found."""

_JAPANESE = {
    "rows of the suspect found in the original": "原本に見いだされた対象の行",
    "agreement of the other columns in rows found by half of the columns":
        "半数の列によって見いだされた行における、残りの列の一致",
    "the suspect's rows come from the same source as the original's, but are other rows":
        "対象の行は原本と同じ出所から得られた別の行である",
    "the two halves of the suspect's columns are paired at random": "対象の列の二つの半分は無作為に組み合わされている",
    "not computed: fewer than two columns that vary, or no rows, in common":
        "共通する行がないか、値の変わる共通の列が2列に満たない",
    "controls taken out of the original, Fisher's exact test/2": "原本から取り除いた対照行、Fisherの正確確率検定/1",
    "random re-pairing, Chatterjee 2007 and factorial moments/1":
        "無作為な組み直し、Chatterjee 2007 及び階乗モーメント/1",
    "rows": "行", "found": "発見", "controls": "対照行", "controls_found": "対照行の発見", "agreeing": "一致",
    "agreeing_pairs": "一致する組",
}  # fmt: skip
"""What findings say, in Japanese; anything else is passed on as it stands."""


# --- relation --------------------------------------------------------------------------------------


def relation_name(document: Document) -> Words:
    """Return the relation as a word."""
    relation = str(document.get("relation", ""))
    return _RELATIONS.get(relation, Words(quoted(relation), quoted(relation)))


def relation_words(document: Document) -> Words:
    """Return the relation as a sentence; where the suspect is derived, by what."""
    relation = str(document.get("relation", ""))
    if relation == "derived":
        return _derived(document)
    if relation in _NEARLY and not _is_whole(document, relation):
        shares = [
            estimate_words(document.get(field) or {})
            for field in ("containment_suspect", "containment_original")
        ]
        en, ja = (
            {"suspect": w[0], "original": w[1]} for w in zip(*((w.en, w.ja) for w in shares), strict=True)
        )
        return Words(_NEARLY[relation].en.format(**en), _NEARLY[relation].ja.format(**ja))
    name = relation_name(document)
    return _SENTENCES.get(relation, Words(f"Relation: {name.en}.", f"関係:{name.ja}。"))


def _is_whole(document: Document, relation: str) -> bool:
    """Whether the lower limits of the shares that a relation speaks of are all of the rows."""
    fields = {"subset": ("containment_suspect",), "superset": ("containment_original",)}
    both = ("containment_suspect", "containment_original")
    return all((document.get(f) or {}).get("low", 0) == 1 for f in fields.get(relation, both))


def estimate_words(containment: Mapping[str, Any]) -> Words:
    """Return the estimate of a share; where limits leave rows open, all and none are those examined."""
    estimate, low, high = (containment.get(k) for k in ("estimate", "low", "high"))
    if estimate is not None and estimate >= 1 and low is not None and low < 1:
        return Words("all, as far as examined,", "検査した範囲ですべて")
    if estimate is not None and estimate <= 0 and high is not None and high > 0:
        return Words("none, as far as examined,", "検査した範囲でなし")
    return share_words(estimate)


def _derived(document: Document) -> Words:
    held = document.get("derived")
    changes = [c for c in document.get("changes") or () if c.get("kind") == "aggregated"]
    detail = held if isinstance(held, Mapping) else changes[0] if changes else {}
    first = _SENTENCES["derived"]
    if not detail.get("by"):
        return first
    by, functions = names_words(detail["by"]), detail.get("functions")
    some = f", {functions_text(functions)}" if functions else ""
    en, ja = f"one row for each {by.en}{some}", f"{by.ja} ごとに1行{some}"
    groups = detail.get("groups")
    agreeing = next(
        (detail[k] for k in ("agreeing", "agree", "agreeing_groups", "matched") if k in detail), None
    )
    if isinstance(groups, int) and isinstance(agreeing, int):
        en += f"; {agreeing:,} of {count_text(groups, 'group')} agree"
        ja += f"。{groups:,}群のうち{agreeing:,}群が一致"
    return Words(f"{first.en[:-1]}: {en}.", f"{first.ja[:-1]}({ja})。")


# --- rows ------------------------------------------------------------------------------------------


def is_sampled(document: Document) -> bool:
    """Whether only some rows of the suspect were looked for."""
    rows = document.get("rows") or {}
    return bool(rows.get("examined", rows.get("suspect")) != rows.get("suspect"))


def undecided(document: Document) -> int:
    """Return how many suspect rows were left open: said by the document, or by limits that are not of a sample."""
    rows, share = document.get("rows") or {}, document.get("containment_suspect") or {}
    for name in ("undecided", "ambiguous"):
        if isinstance(rows.get(name), int):
            return int(rows[name])
    low, high = share.get("low"), share.get("high")
    if is_sampled(document) or share.get("exact") or low is None or high is None:
        return 0
    return round(float(high - low) * int(rows.get("suspect") or 0))


def row_words(document: Document) -> list[Words]:
    """Return what is said of rows: found, tied and left open."""
    rows = document.get("rows") or {}
    suspect, original, matched = (int(rows.get(k) or 0) for k in ("suspect", "original", "matched"))
    examined = int(rows.get("examined", suspect))
    drawn = (
        Words(f", drawn from {suspect:,},", f"({suspect:,}行から抽出)")
        if is_sampled(document)
        else Words("", "")
    )
    found = "corresponds to a row" if matched == 1 else "correspond to rows"
    said = [Words(
        f"{matched:,} of {count_text(examined, 'suspect row')}{drawn.en} {found} of the original "
        f"({count_text(original, 'row')}).",
        f"対象の{examined:,}行{drawn.ja}のうち{matched:,}行が原本({original:,}行)の行に対応する。",
    )]  # fmt: skip
    tied, left = int(rows.get("tied") or 0), undecided(document)
    if tied:
        said.append(Words(
            f"{count_text(tied, 'row')} tied: their content is that of several rows of the original, or one that "
            "chance would give; which is which cannot be told.",
            f"同順位 {tied:,}行:共通の列がすべて等しい原本の行が複数ある。数には含むが、どの行かは区別できない。",
        ))  # fmt: skip
    if left:
        said.append(Words(
            f"{count_text(left, 'row')} undecided: the lower limits of the shares count them as not "
            "found, the upper ones as found.",
            f"未決定 {left:,}行:割合の下限では未発見、上限では発見として数える。",
        ))  # fmt: skip
    return said


# --- changes ---------------------------------------------------------------------------------------


def table_done(document: Document) -> list[Words]:
    """Return what was done to the table, one statement each; renamed columns are counted."""
    changes = document.get("changes") or ()
    said = [change_words(c) for c in changes if c.get("kind") != "renamed"]
    renamed = [c for c in changes if c.get("kind") == "renamed"]
    if len(renamed) == 1:
        said.append(change_words(renamed[0]))
    elif renamed:
        said.append(Words(f"{len(renamed):,} columns renamed", f"{len(renamed):,}列の列名を変更"))
    return said


def column_change(column: Mapping[str, Any]) -> list[Words]:
    """Return what was done to one column, one statement each."""
    return [change_words(c) for c in column.get("changes") or ()]


# --- probabilities ---------------------------------------------------------------------------------


def log10_text(log10_p: float | None) -> str:
    """Return a log10 probability with two digits, rounded upwards; a dash where none was computed."""
    if log10_p is None or math.isnan(log10_p):
        return "–"
    return f"{math.ceil(log10_p * 100 - 1e-6) / 100 + 0.0:.2f}"


def null_words(text: str) -> Words:
    """Return something a finding says (subject, method, null hypothesis, name of a count) in both languages."""
    return Words(text.replace("_", " "), _JAPANESE.get(text, text.replace("_", " ")))


def probability(document: Document) -> Words:
    """Return the sentence about chance: what is assumed, and how probable the result is then."""
    p, assumed = document.get("log10_p"), null_words(str(document.get("null_hypothesis") or "not stated"))
    if p is None:
        why = assumed.en.removeprefix("not computed: ")
        return Words(f"No probability was computed: {why}.", f"確率は計算されていない:{assumed.ja}。")
    if p > -math.log10(2):
        return Words(
            f"If {assumed.en}, a result like this is to be expected (log10 p = {log10_text(p)}).",
            f"「{assumed.ja}」と仮定すると、このような結果は通常生じる(log10 p = {log10_text(p)})。",
        )
    exponent = log10_text(p).removeprefix("-").removesuffix(".00")
    return Words(
        f"If {assumed.en}, a result at least this strong would occur with a probability of at most "
        f"10^-{exponent} (log10 p = {log10_text(p)}).",
        f"「{assumed.ja}」と仮定すると、これ以上の結果が生じる確率は高くとも 10^-{exponent} である"
        f"(log10 p = {log10_text(p)})。",
    )


def finding_words(finding: Mapping[str, Any]) -> dict[str, Words]:
    """Return subject, method, null hypothesis, counts and log10 p of a finding."""
    counts = finding.get("counts") or {}
    named = [(null_words(str(k)), f"{v:,}" if isinstance(v, int) else str(v)) for k, v in counts.items()]
    p = log10_text(finding.get("log10_p"))
    return {
        "subject": null_words(str(finding.get("subject", ""))),
        "method": null_words(str(finding.get("method", ""))),
        "null": null_words(str(finding.get("null_hypothesis", ""))),
        "counts": Words(
            ", ".join(f"{n.en} {v}" for n, v in named), "、".join(f"{n.ja} {v}" for n, v in named)
        ),
        "log10_p": Words(p, p),
    }


def agreement_words(column: Mapping[str, Any]) -> Words:
    """Return the share of matched rows in which a column agrees, as it stands or after the named changes."""
    plain, explained = share_words(column.get("agreement")), column.get("explained")
    if not isinstance(explained, int | float) or explained == column.get("agreement"):
        return plain
    after = share_words(explained)
    return Words(f"{plain.en}; {after.en} after the changes", f"{plain.ja}、変更を考慮すると{after.ja}")
