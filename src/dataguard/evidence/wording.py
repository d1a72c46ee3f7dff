"""What a report may never say, in English and Japanese, and the lint that looks for it.

The software states measurements; who did what, knowing what, and what the law makes of
it are for people to say. A word on this list in a report is a defect like a wrong number.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

__all__ = ["FORBIDDEN", "Violation", "lint", "lint_html", "lint_names", "names"]

FORBIDDEN: tuple[tuple[str, str], ...] = (
    # Acts and states of mind: the report speaks of copies, not of people.
    (r"\binfring\w*", "legal conclusion"),
    (r"\b(?:un|il)?lawful\w*|\billegal\w*|\bwrongful\w*", "legal conclusion"),
    (r"\bleak(?:s|ed|er|ers|ing|age)?\b", "act ascribed to somebody"),
    (r"\b(?:stole|stolen|steal\w*|theft|thie(?:f|ves)|pirat\w*|plagiari\w*)\b", "act ascribed to somebody"),
    (r"\b(?:misappropriat|embezzl)\w*", "act ascribed to somebody"),
    (r"\b(?:accus|guilt|culprit|perpetrat|offend|crim(?:e|inal)|defendant|convict)\w*", "accusation"),
    (r"\b(?:knew|knowingly|intentional(?:ly)?|deliberate(?:ly)?|malic\w*|bad faith)\b", "state of mind"),
    (r"\b(?:was|were|is|are) (?:copied|published|disclosed) by\b", "act ascribed to somebody"),
    # Overclaiming.
    (r"\bprove[nsd]?\b|\bproving\b|\bproof that\b", "overclaim"),
    (r"\bcertain(?:ly|ty)?\b|\bundoubted\w*|\b(?:no|without|beyond) (?:\w+ )?doubt\b", "overclaim"),
    (r"\b(?:impossible|infallibl\w*|irrefutabl\w*|conclusive(?:ly)?|definitive(?:ly)?)\b", "overclaim"),
    (r"(?<![\d.])(?:100|0)\s*(?:%|per ?cent\b)", "overclaim"),
    (r"\bprobability of (?:guilt|innocence)\b|\bprobability that \S+ (?:did|is responsible)\b", "overclaim"),
    (r"\b(?:is|are|as)\s+(?:限定提供データ|shared data with|trade secret)", "claim of a legal status"),
    (r"(?:限定提供データ|営業秘密)(?:である|に該当|にあたる|に当たる|として保護)", "claim of a legal status"),
    # Japanese.
    (r"侵害|違法|不法|不正(?:に|な|取得|使用|開示)", "legal conclusion"),
    (r"盗用|盗作|窃取|窃盗|盗(?:ん|み|ま|む)|横領|剽窃", "act ascribed to somebody"),
    (r"漏えい|漏洩|漏らし|流出させ|持ち出し", "act ascribed to somebody"),
    (r"犯人|犯罪|犯行|有罪|被告|告発|糾弾|首謀", "accusation"),
    (r"悪意|故意|知りながら|知っていた|知りつつ", "state of mind"),
    (r"証明され|立証され|断定(?:でき|する|した)|確実に|確実である|間違いな|疑いな|疑いの余地", "overclaim"),
    (r"(?:は|が)不可能|あり得ない|ありえない|(?<![\d.])(?:100|100|0)\s*(?:%|%|パーセント)", "overclaim"),
)  # fmt: skip
"""(pattern, reason); matched without regard to case, outside quotation marks (research, law-evidence 7.4)."""

_COMPILED = tuple((re.compile(pattern, re.IGNORECASE), reason) for pattern, reason in FORBIDDEN)
# What stands in typographic quotation marks is somebody else's word: a file, a column, a recipient.
# A name of 120 characters may be shown as eight times as many.
_QUOTED = re.compile(r"“[^“”]{0,1400}”|「[^「」]{0,1400}」")
_HIDDEN = re.compile(r"<(style|code|script)\b.*?</\1\s*>|<!--.*?-->", re.DOTALL | re.IGNORECASE)
_TAG = re.compile(r"<[^>]*>")


@dataclass(frozen=True, slots=True)
class Violation:
    """A forbidden expression.

    Attributes
    ----------
    found : str
        The words.
    reason : str
        Why they are forbidden.
    context : str
        Up to 40 characters on either side.
    """

    found: str
    reason: str
    context: str


def lint(text: str) -> list[Violation]:
    """Return the forbidden expressions in `text`, outside quotation marks “ ” and 「 」."""
    bare = _QUOTED.sub("“”", text)
    return [
        Violation(m.group(), reason, " ".join(bare[max(0, m.start() - 40) : m.end() + 40].split()))
        for pattern, reason in _COMPILED
        for m in pattern.finditer(bare)
    ]


def lint_html(page: str) -> list[Violation]:
    """Return the forbidden expressions in the visible text of a page, outside ``<code>`` (foreign data)."""
    return lint(html.unescape(_TAG.sub(" ", _HIDDEN.sub(" ", page))))


def names(value: object) -> Iterator[str]:
    """Yield every field name inside a JSON value."""
    if isinstance(value, dict):
        for name, child in value.items():
            yield name
            yield from names(child)
    elif isinstance(value, list):
        for child in value:
            yield from names(child)


def lint_names(field_names: Iterable[str]) -> list[Violation]:
    """Return the forbidden expressions among JSON field names."""
    return [v for name in field_names for v in lint(re.sub(r"[_\-.]|(?<=[a-z])(?=[A-Z])", " ", name))]
