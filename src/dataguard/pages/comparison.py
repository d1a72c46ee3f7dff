"""A comparison as one HTML file: no script, nothing loaded from anywhere, readable in twenty years.

Shows what was measured and lets people see for themselves: rows side by side, values against values.
The suspect is hostile: every text of it is made harmless, escaped and cut, and the page stays small
whatever the tables are.
"""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any

from dataguard.fingerprints.comparison.exhibits import ColumnPlot, Exhibits, ShownCell
from dataguard.fingerprints.comparison.foreign import shown
from dataguard.fingerprints.comparison.sentences import (
    SHARES,
    agreement_words,
    column_change,
    estimate_words,
    finding_words,
    is_sampled,
    log10_text,
    probability,
    relation_name,
    relation_words,
    row_words,
    table_done,
)
from dataguard.fingerprints.comparison.tables import Comparison
from dataguard.fingerprints.comparison.words import Words, interval_words, joined, matched_by
from dataguard.pages.covering import AUTO, covered_document, covered_exhibits, covered_names
from dataguard.pages.further import further
from dataguard.pages.plots import pairs_plot, scatter, share_bar

if TYPE_CHECKING:
    from jinja2 import Template

__all__ = ["LANGUAGES", "comparison_page"]

LANGUAGES = ("both", "ja", "en")

MOST_COLUMNS = 200
"""Columns of the table of columns, changed ones first."""

MOST_BESIDE = 24
"""Columns of the rows side by side, changed ones first."""

_MOST_PLOTS, _MOST_ROWS, _MOST_STATEMENTS, _MOST_FURTHER = 24, 40, 24, 24
_LONGEST = 240
"""Characters of a statement in a table."""

_MARKS = {"equal": "", "mapped": "→", "near": "≈", "different": "≠"}
"""What stands before a cell: colours alone do not survive grey print."""


def comparison_page(
    comparison: Comparison | Mapping[str, Any],
    exhibits: Exhibits,
    *,
    original: str,
    suspect: str,
    original_sha256: str = "",
    suspect_sha256: str = "",
    command: str = "",
    tool: str = "",
    alpha: float | None = None,
    mask: Sequence[str] = (AUTO,),
    lang: str = "both",
) -> str:
    """Return the page.

    Parameters
    ----------
    comparison : Comparison or mapping
        The result, or its JSON document.
    exhibits : Exhibits
        What is shown beside it; may be empty.
    original, suspect : str
        What the two are called.
    original_sha256, suspect_sha256 : str
        Digests of the files; empty: not stated.
    command, tool : str
        Command line and program that made it; empty: not stated.
    alpha : float, optional
        Error at which a relation of rows is stated.
    mask : sequence of str
        Columns to cover, and ``auto`` for those that look personal; empty: everything is shown.
    lang : str
        ``ja``, ``en`` or ``both``.

    Returns
    -------
    str
        The same for the same arguments; at most 2 MB.

    Raises
    ------
    UsageError
        A name in `mask` is of no matched column.
    """
    seen = covered_exhibits(exhibits, mask)
    document = comparison.to_dict() if isinstance(comparison, Comparison) else comparison
    document = covered_document(document, seen)
    style = _text("comparison.css")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return _template().render(
        style=_own(style),
        # Stricter than 'unsafe-inline': this one sheet, and no style attribute anywhere.
        policy=f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; base-uri 'none'; form-action 'none'",
        lang=lang if lang in LANGUAGES else "both",
        files=((Words("Original", "原本"), original, original_sha256),
               (Words("Suspect", "対象"), suspect, suspect_sha256)),
        command=command, tool=tool, relation=str(document.get("relation", "")),
        name_of_relation=relation_name(document), headline=relation_words(document), probability=probability(document),
        rows=row_words(document), shares=_shares(document), columns=_columns(document, seen),
        done=[_cut(w) for w in table_done(document)[:_MOST_STATEMENTS]], findings=_findings(document),
        further=further(document, covered_names(seen))[:_MOST_FURTHER],
        beside=_beside(seen), plots=_plots(seen), notes=_notes(document, seen, alpha),
    )  # fmt: skip


# --- parts -----------------------------------------------------------------------------------------


def _shares(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    out = []
    for field, what in SHARES:
        c = document.get(field) or {}
        if c.get("estimate") is None:
            continue
        low, high = (c["estimate"] if c.get(k) is None else c[k] for k in ("low", "high"))
        bar = share_bar(low, c["estimate"], high)
        out.append({"what": what, "share": estimate_words(c), "limits": interval_words(c), "bar": _own(bar)})
    return out


def _columns(document: Mapping[str, Any], exhibits: Exhibits) -> dict[str, Any]:
    held = list(document.get("columns") or ())
    masked = covered_names(exhibits)
    ordered = sorted(range(len(held)), key=lambda i: (not held[i].get("changes"), i))
    listed = [
        {
            "original": held[i].get("original", ""),
            "suspect": held[i].get("suspect", ""),
            "by": matched_by(held[i].get("by")),
            "changes": _cut(joined(column_change(held[i])[:6])),
            "agreement": agreement_words(held[i]),
            "masked": held[i].get("original") in masked or held[i].get("suspect") in masked,
        }
        for i in sorted(ordered[:MOST_COLUMNS])
    ]
    return {
        "listed": listed,
        "more": len(held) - len(listed),
        "has_by": any(c.get("by") for c in held),
        "count": len(held),
        "changed": sum(bool(c.get("changes")) for c in held),
    }


def _cut(words: Words) -> Words:
    """Return a statement that fits in a table; a quotation that is cut is closed, so that it stays one."""
    out = []
    for text in (words.en, words.ja):
        cut = text if len(text) <= _LONGEST else text[:_LONGEST] + "…"
        out.append(cut + "”" * (cut.count("“") - cut.count("”")))
    return Words(*out)


def _findings(document: Mapping[str, Any]) -> list[dict[str, Words]]:
    return [finding_words(f) for f in list(document.get("findings") or ())[:_MOST_STATEMENTS]]


def _beside(exhibits: Exhibits) -> dict[str, Any]:
    """Return the rows side by side, with the columns that differ somewhere first."""
    unlike = [0] * len(exhibits.columns)
    for row in exhibits.rows:
        for i, cell in enumerate(row.cells):
            unlike[i] += cell.state != "equal"
    kept = sorted(sorted(range(len(unlike)), key=lambda i: (unlike[i] == 0, i))[:MOST_BESIDE])
    return {
        "head": [exhibits.columns[i] for i in kept],
        "rows": [
            {
                "original": row.original + 1,
                "suspect": row.suspect + 1,
                "tied": row.tied,
                "cells": [_cell(row.cells[i]) for i in kept],
            }
            for row in exhibits.rows[:_MOST_ROWS]
        ],
        "more": len(unlike) - len(kept),
        "tied": any(row.tied for row in exhibits.rows[:_MOST_ROWS]),
    }


def _cell(cell: ShownCell) -> dict[str, str]:
    same = cell.state == "equal" and cell.original == cell.suspect
    return {
        "state": cell.state,
        "mark": _MARKS[cell.state],
        "original": "" if same else shown(cell.original, 80),
        "suspect": shown(cell.suspect, 80),
    }


def _plots(exhibits: Exhibits) -> dict[str, Any]:
    held = [_plot(p, exhibits) for p in exhibits.plots[:_MOST_PLOTS]]
    return {"held": held, "more": exhibits.unplotted + len(exhibits.plots) - len(held)}


def _plot(plot: ColumnPlot, exhibits: Exhibits) -> dict[str, Any]:
    column = exhibits.columns[plot.column]
    out: dict[str, Any] = {"original": column.original, "suspect": column.suspect, "fitted": plot.fitted}
    if plot.x:
        svg, beyond = scatter(plot, column.original, column.suspect)
        return out | {"svg": _own(svg), "points": len(plot.x), "beyond": beyond, "line": bool(plot.line)}
    pairs = [(a, b, _own(bar), n) for a, b, bar, n in pairs_plot(plot)]
    return out | {"svg": "", "pairs": pairs, "others": plot.others}


def _notes(document: Mapping[str, Any], exhibits: Exhibits, alpha: float | None) -> list[Words]:
    """Return what was examined, what is shown, and what the page does not say."""
    rows = document.get("rows") or {}
    suspect, examined = int(rows.get("suspect") or 0), int(rows.get("examined", rows.get("suspect")) or 0)
    said = []
    if is_sampled(document):
        said.append(Words(
            f"{examined:,} of the suspect's {suspect:,} rows were drawn evenly and looked for in all of the original, "
            "and rows of the original in all of the suspect; shares are estimates with limits.",
            f"対象の{suspect:,}行から{examined:,}行を等間隔に抽出して原本の全行と照合し、原本の行も同様に照合した。"
            "割合は上下限を伴う推定値である。",
        ))  # fmt: skip
    else:
        said.append(Words("All rows of both tables were examined.", "両方の表のすべての行を検査した。"))
    if alpha is not None:
        said.append(Words(
            f"A relation of rows is stated only where log10 p is at most {log10_text(math.log10(alpha))}.",
            f"行の関係は、log10 p が {log10_text(math.log10(alpha))} 以下の場合に限り示す。",
        ))  # fmt: skip
    said += [
        Words("Rows and points shown are a selection by a public rule (a hash of the original's row number; for each "
              "changed column a row that differs); shares and counts rest on all rows examined.",
              "表示した行と点は公開された規則(原本の行番号のハッシュ、変更のある列ごとに相違する行)による抜粋であり、"
              "割合と件数は検査したすべての行による。"),
        Words("Rows that both tables took from a third source correspond in the same way; rows known to be freely "
              "available can be subtracted (option --public).",
              "両方の表が第三の出所から得た行も同じように対応する。公開データと分かっている行は差し引くことができる(--public)。"),
        Words("The page states measurements of two tables. It does not say who made either, by what means or with what "
              "aim, and draws no legal conclusion.",
              "本書は二つの表についての測定を述べる。誰が、どのような手段や目的で作成したかは述べず、法的な結論も示さない。"),
    ]  # fmt: skip
    masked = [c for c in exhibits.columns if c.masked]
    if masked:
        said.append(Words(
            f"Covered columns: {len(masked):,}. They may identify people, or were asked to be covered; their cells are "
            "shown by first character and length, and not plotted.",
            f"個人を識別し得る列、又は指定された列({len(masked):,}列)は、先頭の文字と文字数のみを示し、図示しない。",
        ))  # fmt: skip
    return said


# --- template --------------------------------------------------------------------------------------


@cache
def _template() -> Template:
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["shown"] = shown
    environment.filters["count"] = lambda number: f"{number:,}"
    environment.globals["W"] = Words
    return environment.from_string(_text("comparison.html.j2"))


def _own(made_here: str) -> Any:
    """Mark text of our own making as markup; foreign text in it was escaped when it was made."""
    from markupsafe import Markup

    return Markup(made_here)  # noqa: S704 - style sheet and figures of this package


def _text(name: str) -> str:
    return resources.files("dataguard.pages").joinpath("templates", name).read_text("utf-8")
