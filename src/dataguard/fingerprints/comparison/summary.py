"""A comparison in a notebook: what holds, how much, what was done, in a screenful.

Made from the JSON document, so that the result class can show itself without knowing how; the words
are those of the terminal and the page.
"""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from dataguard.fingerprints.comparison.foreign import shown
from dataguard.fingerprints.comparison.sentences import (
    SHARES,
    agreement_words,
    column_change,
    estimate_words,
    probability,
    relation_name,
    relation_words,
    row_words,
    table_done,
)
from dataguard.fingerprints.comparison.words import interval_words, joined

__all__ = ["summary_html"]

_MOST_COLUMNS = 30
_CELL = "text-align:left;vertical-align:top"


def summary_html(document: Mapping[str, Any]) -> str:
    """Return the summary as HTML; all foreign text is harmless, escaped and short.

    Parameters
    ----------
    document : mapping
        JSON document of a comparison (``Comparison.to_dict()``).
    """
    said = [f"<b>{escape(relation_name(document).en)}.</b> {escape(relation_words(document).en)}"]
    said += [escape(w.en) for w in row_words(document)]
    said += [escape(text) for text in _shares(document)]
    done = [w.en for w in table_done(document)[:12]]
    said += [escape("Done to the table: " + "; ".join(done) + ".")] if done else []
    said.append(escape(probability(document).en))
    lines = "".join(f"<p style='margin:0 0 .3em'>{s}</p>" for s in said)
    return f"<div style='max-width:60em'>{lines}{_columns(document)}</div>"


def _shares(document: Mapping[str, Any]) -> list[str]:
    out = []
    for field, what in SHARES:
        c = document.get(field) or {}
        if c.get("estimate") is not None:
            limits = interval_words(c).en
            share = estimate_words(c).en
            out.append(f"{share[:1].upper()}{share[1:]} {what.en}{f' ({limits})' if limits else ''}.")
    return out


def _columns(document: Mapping[str, Any]) -> str:
    """Return the columns as a table, changed ones first; further ones are counted."""
    held = list(document.get("columns") or ())
    if not held:
        return ""
    kept = sorted(range(len(held)), key=lambda i: (not held[i].get("changes"), i))[:_MOST_COLUMNS]
    body = "".join(_row(held[i]) for i in sorted(kept))
    head = "".join(
        f"<th style='{_CELL}'>{h}</th>" for h in ("original", "suspect", "what was done", "equal cells")
    )
    more = f"<p>and {len(held) - len(kept):,} more columns</p>" if len(held) > len(kept) else ""
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{more}"


def _row(column: Mapping[str, Any]) -> str:
    cells = (
        f"<code>{escape(shown(str(column.get('original', ''))))}</code>",
        f"<code>{escape(shown(str(column.get('suspect', ''))))}</code>",
        escape(joined(column_change(column)[:6]).en or "–"),
        escape(agreement_words(column).en),
    )
    return "<tr>" + "".join(f"<td style='{_CELL}'>{c}</td>" for c in cells) + "</tr>"
