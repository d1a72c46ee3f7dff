"""A comparison on a terminal, eighty columns wide or any other width, in English or Japanese.

Returns what ``rich`` prints and prints nothing itself. Data is text, never markup: a suspect's column
name must not style our output; control characters of it are shown by their numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from dataguard.fingerprints.comparison.foreign import shown
from dataguard.fingerprints.comparison.sentences import (
    SHARES,
    agreement_words,
    column_change,
    estimate_words,
    finding_words,
    log10_text,
    probability,
    relation_name,
    relation_words,
    row_words,
    table_done,
)
from dataguard.fingerprints.comparison.words import Words, interval_words, joined, matched_by

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

__all__ = ["MOST_COLUMNS", "comparison_screen"]

MOST_COLUMNS = 60
"""Columns that are listed, changed ones first."""

_BAR = 20
_COLUMNS = (
    Words("original", "原本"), Words("suspect", "対象"), Words("matched by", "根拠"), Words("equal", "等しい"),
    Words("what was done", "変更"),
)  # fmt: skip


def comparison_screen(
    document: Mapping[str, Any], *, lang: str = "en", is_plain: bool = True
) -> list[RenderableType]:
    """Return a comparison as things to print, one after the other.

    Parameters
    ----------
    document : mapping
        JSON document of a comparison.
    lang : str
        ``ja``, else English.
    is_plain : bool
        No block characters and no lines: for pipes, files and terminals that cannot show them.
    """
    from rich.text import Text

    name, sentence = relation_name(document).of(lang), relation_words(document).of(lang)
    out: list[RenderableType] = [Text.assemble((name, "bold"), "  ", sentence)]
    out += [Text(w.of(lang)) for w in row_words(document)]
    out += [Text(""), _shares(document, lang, is_plain=is_plain)]
    columns = document.get("columns") or ()
    if columns:
        out += [Text(""), *_columns(columns, lang, is_plain=is_plain)]
    done = table_done(document)
    if done:
        out += [Text(""), Text(Words("done to the table:", "表全体の変更:").of(lang), "bold")]
        out += [Text(f"  {w.of(lang)}") for w in done[:24]]
    out.append(Text(""))
    findings = document.get("findings") or ()
    if findings:
        out.append(_findings(findings, lang, is_plain=is_plain))
    out.append(Text(probability(document).of(lang)))
    return out


def _table(*, is_plain: bool, header: bool = True) -> Table:
    from rich import box
    from rich.table import Table

    shape = None if is_plain else box.SIMPLE_HEAD
    return Table(
        box=shape,
        show_header=header,
        pad_edge=False,
        show_edge=False,
        header_style="" if is_plain else "bold",
    )


def _shares(document: Mapping[str, Any], lang: str, *, is_plain: bool) -> Table:
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 2))
    for field, what in SHARES:
        c = document.get(field) or {}
        if c.get("estimate") is None:
            continue
        low, high = (c["estimate"] if c.get(k) is None else c[k] for k in ("low", "high"))
        limits = interval_words(c).of(lang)
        grid.add_row(
            Text(_bar(low, high, is_plain=is_plain), "" if is_plain else "cyan"),
            Text(estimate_words(c).of(lang), "bold", justify="right"),
            Text(what.of(lang) + (f" ({limits})" if limits else "")),
        )
    return grid


def _bar(low: float, high: float, *, is_plain: bool) -> str:
    """Return a share as characters: full up to its lower limit, shaded up to its upper limit."""
    full, half, empty = ("#", "+", ".") if is_plain else ("█", "▒", "·")
    # One row of a million is not nothing, and all but one are not all.
    a = 0 if low <= 0 else _BAR if low >= 1 else min(_BAR - 1, max(1, int(low * _BAR)))
    b = a if high <= low else _BAR if high >= 1 else min(_BAR, max(a + 1, round(high * _BAR)))
    return full * a + half * (b - a) + empty * (_BAR - b)


def _columns(columns: Any, lang: str, *, is_plain: bool) -> list[RenderableType]:
    from rich.text import Text

    held = list(columns)
    kept = sorted(sorted(range(len(held)), key=lambda i: (not held[i].get("changes"), i))[:MOST_COLUMNS])
    has_by = any(c.get("by") for c in held)
    table = _table(is_plain=is_plain)
    for at, heading in enumerate(_COLUMNS):
        if at == 2 and not has_by:
            continue
        table.add_column(heading.of(lang), overflow="fold", ratio=None)
    for i in kept:
        c = held[i]
        changes = joined(column_change(c)).of(lang)
        cells = [shown(str(c.get("original", ""))), shown(str(c.get("suspect", "")))]
        cells += [matched_by(c.get("by")).of(lang)] if has_by else []
        cells += [agreement_words(c).of(lang), changes or "–"]
        table.add_row(*map(Text, cells))
    out: list[RenderableType] = [table]
    more = len(held) - len(kept)
    if more:
        said = Words(
            f"... and {more:,} more columns (--json lists all)", f"... 他{more:,}列(--json にはすべて記載)"
        )
        out.append(Text(said.of(lang)))
    return out


def _findings(findings: Any, lang: str, *, is_plain: bool) -> Table:
    from rich.text import Text

    table = _table(is_plain=is_plain)
    for heading in (Words("finding", "測定結果"), Words("counts", "件数"), Words("log10 p", "log10 p")):
        table.add_column(heading.of(lang), overflow="fold")
    for f in list(findings)[:24]:
        said = finding_words(f)
        p = log10_text(f.get("log10_p"))
        table.add_row(Text(said["subject"].of(lang)), Text(said["counts"].of(lang)), Text(p))
    return table
