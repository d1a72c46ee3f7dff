"""The statement: every fact and sentence of a report as one JSON value, which is what gets signed.

``report.json`` is its canonical form. Everything else in a bundle either is covered by its
digests or is made from it again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from dataguard.canonical import canonical_json, parse_json
from dataguard.dsse import keyid
from dataguard.errors import EvidenceError
from dataguard.evidence.case import Case, NamedCopy
from dataguard.evidence.chain import count_keys, count_runs
from dataguard.evidence.facts import Facts, FindingFacts, read_facts
from dataguard.evidence.fields import Node
from dataguard.evidence.prose import prose
from dataguard.evidence.recount import adjusted, weigh
from dataguard.evidence.vocabulary import trace_finding
from dataguard.model import Finding, plain

__all__ = ["PAYLOAD_TYPE", "RENDERER", "SCHEMA", "STATUS", "build_statement"]

SCHEMA = "dataguard.bundle/1"
PAYLOAD_TYPE = "application/vnd.dataguard.bundle.v1+json"
"""DSSE payload type of a signed statement."""
STATUS = "DRAFT"
"""A bundle is a draft until other people have reviewed and signed it."""
RENDERER = "report/2"
"""Version of template, sentences and README: a change that alters their bytes gets a new number."""


def build_statement(case: Case, public_key: bytes) -> tuple[dict[str, Any], Facts]:
    """Return the statement of a case, without the digests of other files, and its facts.

    Parameters
    ----------
    case : Case
    public_key : bytes
        Raw 32-byte Ed25519 key of whoever will sign.

    Raises
    ------
    EvidenceError
        A field of the case that is missing or of the wrong form.
    """
    statement: dict[str, Any] = {
        "schema": SCHEMA,
        "status": STATUS,
        "renderer": RENDERER,
        "tool": case.tool,
        "created": case.created,
        "signer": {"public_key": public_key.hex(), "keyid": keyid(public_key)},
        "dataset": plain(case.dataset),
        "suspect": _named(case.suspect),
        "comparison": plain(case.comparison),
        "trace": plain(case.trace),
        "findings": plain(case.findings),
        "scheme": plain(case.scheme),
        "copy": None,
        "ledger": {"size": case.ledger.size, "entries": _entries(case.ledger.openings)},
        "limits": list(case.limits),
    }
    run = max((e["seq"] for e in statement["ledger"]["entries"] if e["type"] == "trace-run"), default=0)
    counted = count_keys(case.ledger.headers, None, run), count_runs(case.ledger.headers, None, run)
    statement["ledger"] |= dict(zip(("mark_keys", "trace_runs"), counted, strict=True))
    if case.named is not None:
        statement["copy"] = _copy(case.named, *counted)
    statement["findings"].append(plain(_finding(trace_finding(_facts(statement)))))
    facts = _facts(statement)
    return statement | {"prose": prose(facts)}, facts


def _facts(statement: dict[str, Any]) -> Facts:
    # Facts are read from the bytes a verifier will read: order of fields, -30.0 or -30 and all.
    return read_facts(Node(parse_json(canonical_json(statement), where="case"), "case"))


def _finding(found: FindingFacts) -> Finding:
    return Finding(
        found.subject, found.method, found.null_hypothesis, dict(found.counts), log10_p=found.log10_p
    )


def _named(suspect: Mapping[str, Any]) -> dict[str, Any]:
    """Return the suspect with a file name that JSON can carry: bytes that are no UTF-8 become <U+DC..>."""
    plained = {name: plain(value) for name, value in suspect.items()}
    name = plained.get("name")
    if isinstance(name, str):
        plained["name"] = "".join(f"<U+{ord(c):04X}>" if "\ud800" <= c <= "\udfff" else c for c in name)
    return plained


def _copy(named: NamedCopy, all_keys: int, all_runs: int) -> dict[str, Any]:
    key, raw = named.mark_key, weigh(named.histogram).raw
    return {
        "recipient": key.recipient,
        "generation": key.generation,
        "commitment": key.commitment,
        "histogram": [list(row) for row in named.histogram],
        "score": named.score,
        "log10_p": named.log10_p,
        "log10_p_adjusted": named.log10_p_adjusted,
        "log10_p_all_scopes": adjusted(raw, all_keys, all_runs, named.draws),
        "alpha": named.alpha,
        "draws": named.draws,
    }


def _entries(openings: tuple[Mapping[str, Any], ...]) -> list[dict[str, Any]]:
    try:
        rows = [{name: opening[name] for name in ("seq", "type", "time")} for opening in openings]
        return sorted(rows, key=lambda row: cast("int", row["seq"]))
    except (KeyError, TypeError):
        raise EvidenceError(
            "a ledger opening without seq, type or time", remedy="export the entry again"
        ) from None
