"""Every sentence of a report, made from facts alone, in English and Japanese at once.

The words lie in ``templates/sentences.toml``, where counsel can read them; here the figures go
in. A verifier makes the same sentences from recomputed figures and compares, so a report
cannot say more than its numbers.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Iterable, Mapping
from functools import cache
from importlib import resources
from typing import Any

from dataguard.evidence.display import log10_text, odds_en, odds_ja, share_text, shown
from dataguard.evidence.facts import Facts

__all__ = ["Pair", "prose"]

Pair = dict[str, str]
"""A sentence as {"en": ..., "ja": ...}."""


def prose(facts: Facts) -> dict[str, list[Any]]:
    """Return all sentences of a report by section, as pairs; `alternatives` have more fields."""
    words, figures = _words(), _figures(facts)
    copy = facts.copy is not None
    result = ["extent", "corresponds", "probability"] if copy else ["extent", str(facts.trace.outcome)]
    if len(facts.trace.corresponding) > 1:
        result.append("further")
    limits = [*(words["limits_of_a_copy"] if copy else []), *words["standing_limits"]]
    return {
        "question": _filled([words["question"]], figures),
        "result": _filled((words[name] for name in result), figures),
        "arithmetic": _filled(words["arithmetic"], figures) if copy else [],
        "not_said": _filled(words["not_said"], figures),
        "standing_limits": _filled(limits, figures),
        "alternatives": [_alternative(row, figures, is_named=copy) for row in words["alternatives"]],
    }


@cache
def _words() -> dict[str, Any]:
    text = resources.files("dataguard.evidence").joinpath("templates", "sentences.toml").read_text("utf-8")
    return tomllib.loads(text)


def _filled(pairs: Iterable[Mapping[str, str]], figures: Mapping[str, str]) -> list[Pair]:
    return [{"en": pair["en"].format_map(figures), "ja": pair["ja"].format_map(figures)} for pair in pairs]


def _alternative(row: Mapping[str, str], figures: Mapping[str, str], *, is_named: bool) -> dict[str, str]:
    """Return one other explanation; the mark speaks to it only where a copy is named."""
    by_mark = row["by"] == "mark"
    tested = by_mark and is_named
    remark = {"en": [row["remark_en"].format_map(figures)], "ja": [row["remark_ja"].format_map(figures)]}
    if by_mark:
        general = _words()["chance" if is_named else "nothing_to_explain"]
        remark = {language: [general[language], *remark[language]] for language in remark}
    return {
        "id": row["id"],
        "status": "tested" if tested else "not tested",
        "en": row["en"],
        "ja": row["ja"],
        "remark_en": " ".join(filter(None, remark["en"])),
        "remark_ja": "".join(remark["ja"]),
    }


def _figures(facts: Facts) -> dict[str, str]:
    """Return every figure a sentence may hold, already as text."""
    t, c, copy = facts.trace, facts.comparison, facts.copy
    limit = math.log10(t.alpha)
    figures = {
        "suspect": shown(facts.suspect.name),
        "dataset": shown(facts.dataset.name),
        "version": str(facts.dataset.version),
        "matched": f"{c.matched:,}",
        "rows_suspect": f"{c.rows_suspect:,}",
        "rows_original": f"{c.rows_original:,}",
        "of_suspect": share_text(c.of_suspect.estimate),
        "of_original": share_text(c.of_original.estimate),
        "votes": f"{t.votes:,}",
        "keys": f"{t.hypotheses:,}",
        "k": f"{t.k:,}",
        "limit_en": odds_en(limit),
        "limit_ja": odds_ja(limit),
        "log_limit": f"{limit:.4f}",
        "log_keys": f"{math.log10(max(1, t.hypotheses)):.4f}",
        "log_runs": f"{t.k * math.log10(2):.4f}",
    }
    if copy is not None:
        figures |= {
            "recipient": shown(copy.recipient),
            "others": f"{len(t.corresponding) - 1:,}",
            "generation": str(copy.generation),
            "agreeing": f"{copy.agreeing:,}",
            "score": f"{copy.score:,}",
            "own": log10_text(copy.log10_p),
            "own_en": odds_en(copy.log10_p),
            "own_ja": odds_ja(copy.log10_p),
            "adjusted": log10_text(copy.log10_p_adjusted),
            "odds_en": odds_en(copy.log10_p_adjusted),
            "odds_ja": odds_ja(copy.log10_p_adjusted),
        }
    return figures
