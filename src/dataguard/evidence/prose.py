"""Every sentence of a report, made from facts alone, in English and Japanese at once.

The words lie in ``templates/sentences.toml``, where counsel can read them; here the figures go
in. A verifier makes the same sentences from recomputed figures and compares, so a report
cannot say more than its numbers.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from dataguard.evidence.display import log10_text, odds_en, odds_ja, share_text, shown
from dataguard.evidence.facts import CopyFacts, Facts
from dataguard.evidence.words import words
from dataguard.model import LOG10_FLOOR

__all__ = ["Pair", "prose"]

Pair = dict[str, str]
"""A sentence as {"en": ..., "ja": ...}."""


def prose(facts: Facts) -> dict[str, list[Any]]:
    """Return all sentences of a report by section, as pairs; `alternatives` have more fields."""
    said, figures = words(), _figures(facts)
    copy = facts.copy is not None
    result = ["extent", "corresponds", "probability"] if copy else ["extent", str(facts.trace.outcome)]
    if len(facts.trace.corresponding) > 1:
        result.append("further")
    standing = [*(said["limits_of_a_copy"] if copy else []), *said["standing_limits"]]
    # An unknown key is not given a sentence; the verifier refuses it.
    limits = [said["limits"][key] for key in facts.limits if key in said["limits"]]
    return {
        "question": _filled([said["question"]], figures),
        "result": _filled((said[name] for name in result), figures),
        "arithmetic": _filled(_arithmetic(facts.copy), figures) if facts.copy else [],
        "not_said": _filled(said["not_said"], figures),
        "standing_limits": _filled(standing, figures),
        "limits": _filled(limits, figures),
        "alternatives": [_alternative(row, figures, is_named=copy) for row in said["alternatives"]],
    }


def _arithmetic(copy: CopyFacts) -> list[Mapping[str, str]]:
    """Return the sentences of the computation: draws only where there were some, the sum as far as it is stated."""
    said = words()
    is_floored = copy.log10_p <= LOG10_FLOOR
    return [
        *said["arithmetic"],
        *([said["draws"]] if copy.draws > 1 else []),
        said["sum_below_the_floor" if is_floored else "sum"],
        said["limit_rule"],
        said["all_scopes"],
    ]


def _filled(pairs: Iterable[Mapping[str, str]], figures: Mapping[str, str]) -> list[Pair]:
    return [{"en": pair["en"].format_map(figures), "ja": pair["ja"].format_map(figures)} for pair in pairs]


def _alternative(row: Mapping[str, str], figures: Mapping[str, str], *, is_named: bool) -> dict[str, str]:
    """Return one other explanation; the mark speaks to it only where a copy is named."""
    by_mark = row["by"] == "mark"
    tested = by_mark and is_named
    remark = {"en": [row["remark_en"].format_map(figures)], "ja": [row["remark_ja"].format_map(figures)]}
    if by_mark:
        general = words()["chance" if is_named else "nothing_to_explain"]
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
    alpha = t.alpha if copy is None else copy.alpha
    limit = math.log10(alpha)
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
        "all_keys": f"{facts.all_keys:,}",
        "all_runs": f"{facts.all_runs:,}",
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
            "draws": f"{copy.draws:,}",
            "log_draws": f" + {math.log10(copy.draws):.4f}" if copy.draws > 1 else "",
            "all_adjusted": log10_text(copy.log10_p_all_scopes),
            "all_en": odds_en(copy.log10_p_all_scopes),
            "all_ja": odds_ja(copy.log10_p_all_scopes),
            "odds_en": odds_en(copy.log10_p_adjusted),
            "odds_ja": odds_ja(copy.log10_p_adjusted),
        }
    return figures
