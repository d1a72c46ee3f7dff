"""The pages people read, made from facts and sentences only, the same bytes every time.

Self-contained HTML without scripts or network, and a short README; a verifier renders both
again and compares, so neither can say anything the signed statement does not.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any

from dataguard.evidence.display import change_text, log10_text, share_text, shown
from dataguard.evidence.facts import Facts
from dataguard.evidence.figure import rank_figure

if TYPE_CHECKING:
    from jinja2 import Template

__all__ = ["readme", "report_html"]

_MOST_ROWS = 200
"""Rows of one table shown on the page; the rest is in report.json."""


def report_html(facts: Facts, sentences: Mapping[str, Any]) -> bytes:
    """Return ``report.html``.

    Parameters
    ----------
    facts : Facts
    sentences : mapping
        As ``prose.prose`` returns them for the same facts.
    """
    style = _text("report.css")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    page = _template().render(
        f=facts,
        prose=sentences,
        style=_safe(style),
        policy=f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'",
        figure=_safe(rank_figure(facts)),
        most=_MOST_ROWS,
    )
    return page.encode()


def readme(facts: Facts) -> bytes:
    """Return ``README.txt``: what the files are and how to check them, in Japanese and English."""
    lines = _text("README.txt").replace("@KEYID@", facts.keyid).replace("@TOOL@", shown(facts.tool))
    return lines.encode()


@cache
def _template() -> Template:
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["shown"] = shown
    environment.filters["change"] = change_text
    environment.filters["log10"] = log10_text
    environment.filters["share"] = share_text
    environment.filters["count"] = lambda number: f"{number:,}"
    return environment.from_string(_text("report.html.j2"))


def _safe(own: str) -> Any:
    """Mark text of our own making as markup; nothing from outside goes through here unescaped."""
    from markupsafe import Markup

    return Markup(own)  # noqa: S704 - style sheet and figure of this package


def _text(name: str) -> str:
    return resources.files("dataguard.evidence").joinpath("templates", name).read_text("utf-8")
