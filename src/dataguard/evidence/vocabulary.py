"""What a statement may say in words: nothing but what stands in ``sentences.toml``, and quoted names.

A signed statement is the provider's own; without this, a sentence of its own could travel
inside a trusted report. Findings of the trace are made from the figures again.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from dataguard.errors import EvidenceError
from dataguard.evidence.facts import ChangeFacts, ComparisonFacts, Facts, FindingFacts
from dataguard.evidence.wording import lint
from dataguard.evidence.words import words
from dataguard.model import Relation

__all__ = ["check_words", "trace_finding"]

_TOLERANCE = 2e-4
_TOOL = re.compile(
    r"dataguard [0-9]{1,4}(?:\.[0-9]{1,4}){1,3}(?:\.?(?:a|b|rc|dev|post)[0-9]{1,4})?", re.ASCII
)
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?Z", re.ASCII)
_TOKEN = re.compile(r"[a-z][a-z0-9]{0,15}(?:-[a-z0-9]{1,15}){0,2}")


def trace_finding(facts: Facts) -> FindingFacts:
    """Return the finding of the trace, made from the figures alone.

    With a named copy it is that copy's; without one, the best of the asserted list.
    """
    said, trace, copy = words()["trace_finding"], facts.trace, facts.copy
    counts = {"committed_keys": trace.hypotheses, "run": trace.k, "votes": trace.votes}
    best = min((adjusted for _, _, adjusted in trace.recipients), default=None)
    if copy is not None:
        counts["agreeing"], best = copy.agreeing, copy.log10_p_adjusted
    return FindingFacts(
        said["subject"],
        said["method"].format(method=trace.method),
        said["null_hypothesis"],
        tuple(sorted(counts.items())),
        best,
    )


def check_words(facts: Facts) -> None:
    """Return only if every visible word is of the vocabulary, and none is on the list of `wording`.

    Names of datasets, files, columns and recipients are foreign data; pages quote them.

    Raises
    ------
    EvidenceError
        The first word that is not.
    """
    _check_findings(facts)
    _check_comparison(facts.comparison, facts.findings[:-1])
    unknown = [key for key in facts.limits if key not in words()["limits"]]
    if unknown or len(set(facts.limits)) != len(facts.limits):
        raise _refuse("a limit", unknown[0] if unknown else "repeated")
    if facts.trace.method not in words()["vocabulary"]["trace_methods"]:
        raise _refuse("the method of the trace", facts.trace.method)
    if facts.scheme.rule not in words()["vocabulary"]["rules"]:
        raise _refuse("the reading rule", facts.scheme.rule)
    _match("the program's name", facts.tool, _TOOL)
    _match("the time of the report", facts.created, _TIME)
    for name in (facts.dataset.kind, facts.scheme.law.name):
        _match("a name of the scheme", name, _TOKEN)
    for _, kind, time in facts.entries:
        _match("a ledger entry", kind, _TOKEN)
        _match("a time in the ledger", time, _TIME)
    for text in _visible(facts):
        if lint(text):
            raise _refuse("a word on the list of wording", lint(text)[0].found)


def _visible(facts: Facts) -> Iterator[str]:
    """Yield the free texts of a page; they are of the vocabulary, and are linted all the same."""
    comparison = facts.comparison
    yield from (facts.tool, facts.created, facts.trace.method, facts.scheme.rule)
    yield from (name.replace("-", " ") for name in (facts.dataset.kind, facts.scheme.law.name))
    yield from (comparison.relation, comparison.null_hypothesis)
    yield from (change.kind for change in comparison.changes)
    yield from (change.kind for column in comparison.columns for change in column.changes)
    for item in facts.findings:
        yield from (item.subject, item.method, item.null_hypothesis, *(name for name, _ in item.counts))
    for _, kind, time in facts.entries:
        yield from (kind.replace("-", " "), time)


def _check_findings(facts: Facts) -> None:
    expected, stated = trace_finding(facts), facts.findings[-1:]
    if not stated or not _same(stated[0], expected):
        raise EvidenceError(
            "the finding of the trace is not what the figures say", where="findings",
            remedy="do not rely on it",
        )  # fmt: skip
    known = [
        (f["subject"], f["method"], f["null_hypothesis"], tuple(f["counts"]))
        for f in words()["comparison_findings"]
    ]
    found = [
        (f.subject, f.method, f.null_hypothesis, tuple(sorted(name for name, _ in f.counts)))
        for f in facts.findings[:-1]
    ]
    for one in found:
        if one not in known or found.count(one) > 1:
            raise _refuse("a finding of the comparison", one[0])
    if any(number < 0 for f in facts.findings for _, number in f.counts):
        raise _refuse("a count", "negative")


def _same(a: FindingFacts, b: FindingFacts) -> bool:
    return (
        (a.subject, a.method, a.null_hypothesis, dict(a.counts))
        == (b.subject, b.method, b.null_hypothesis, dict(b.counts))
        and (a.log10_p is None) == (b.log10_p is None)
        and abs((a.log10_p or 0.0) - (b.log10_p or 0.0)) <= _TOLERANCE
    )


def _check_comparison(comparison: ComparisonFacts, findings: Sequence[FindingFacts]) -> None:
    """Check the words of the comparison, and that its probability is the worse of its findings."""
    said = words()["vocabulary"]
    if comparison.relation not in set(Relation):
        raise _refuse("the relation of rows", comparison.relation)
    worst = max((f.log10_p or 0.0 for f in findings), default=None)
    worse = {f.null_hypothesis for f in findings if (f.log10_p or 0.0) == worst} or {said["not_computed"]}
    if comparison.null_hypothesis not in worse:
        raise _refuse("the null hypothesis of the comparison", comparison.null_hypothesis)
    if comparison.log10_p != worst:
        raise _refuse("the probability of the comparison", str(comparison.log10_p))
    for change in comparison.changes:
        _check_change(change, said["table_changes"])
    for column in comparison.columns:
        for change in column.changes:
            _check_change(change, said["column_changes"])


def _check_change(change: ChangeFacts, known: dict[str, list[str]]) -> None:
    if change.kind not in known:
        raise _refuse("a change", change.kind)
    for name, value in change.detail:
        wants_number = name in ("share", "max", "rows")
        if name not in known[change.kind] or wants_number != isinstance(value, int | float):
            raise _refuse(f"a detail of {change.kind}", name)


def _match(what: str, text: str, pattern: re.Pattern[str]) -> None:
    if pattern.fullmatch(text) is None:
        raise _refuse(what, text)


def _refuse(what: str, found: str) -> EvidenceError:
    return EvidenceError(
        f"{what} is not of the known words: {found[:60]!r}", where="statement", remedy="do not rely on it"
    )
