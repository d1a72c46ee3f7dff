"""The facts of a statement with their types checked: the only thing sentences and pages are made from.

Writing and verifying read the same statement through this file, so a report that could be
written can be checked, and one that was tampered with cannot steer the renderer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from dataguard.evidence.fields import Node
from dataguard.model import ONE, BiasLaw, Outcome

__all__ = [
    "ChangeFacts",
    "ColumnFacts",
    "ComparisonFacts",
    "CopyFacts",
    "DatasetFacts",
    "Facts",
    "FindingFacts",
    "SchemeFacts",
    "Share",
    "SuspectFacts",
    "TraceFacts",
    "read_facts",
]


_LARGEST = 1.7976931348623157e308


@dataclass(frozen=True, slots=True)
class DatasetFacts:
    """The registered original; attributes as in `Case.dataset`."""

    name: str
    version: int
    kind: str
    rows: int
    columns: tuple[str, ...]
    sha256: str
    scope: str
    lineage: str


@dataclass(frozen=True, slots=True)
class SuspectFacts:
    """The suspect file; attributes as in `Case.suspect`."""

    name: str
    sha256: str
    rows: int
    columns: tuple[str, ...]
    rows_root: str


@dataclass(frozen=True, slots=True)
class Share:
    """A containment: estimate, lower and upper limit, each between 0 and 1 or None."""

    estimate: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class ChangeFacts:
    """One change: its kind, and particulars by name: numbers, or names of columns."""

    kind: str
    detail: tuple[tuple[str, int | float | tuple[str, ...]], ...]


@dataclass(frozen=True, slots=True)
class ColumnFacts:
    """One line of the column map."""

    original: str
    suspect: str
    changes: tuple[ChangeFacts, ...]
    agreement: float | None


@dataclass(frozen=True, slots=True)
class ComparisonFacts:
    """What the comparison measured; not recomputable from a bundle, which does not hold both files."""

    relation: str
    changes: tuple[ChangeFacts, ...]
    of_original: Share
    of_suspect: Share
    rows_original: int
    rows_suspect: int
    matched: int
    columns: tuple[ColumnFacts, ...]
    log10_p: float | None
    null_hypothesis: str


@dataclass(frozen=True, slots=True)
class TraceFacts:
    """What the trace measured.

    `recipients` are (recipient, log10_p, log10_p_adjusted), and `lines`, in the same order,
    (recipient, generation, agreeing votes): asserted only, but for the named copy's.
    """

    dataset: str
    version: int
    run: int
    lines: tuple[tuple[str, int, int], ...]
    outcome: Outcome
    corresponding: tuple[str, ...]
    recipients: tuple[tuple[str, float, float], ...]
    hypotheses: int
    suspect_rows: int
    examined_rows: int
    aligned_rows: int
    voting_rows: int
    max_rows: int
    alignment_digest: str
    votes: int
    votes_digest: str
    alpha: float
    k: int
    method: str
    decoys: int
    decoys_best: float | None


@dataclass(frozen=True, slots=True)
class SchemeFacts:
    """How the mark is read; attributes as in `Case.scheme`."""

    channel: bytes
    rule: str
    law: BiasLaw
    groups: Mapping[int, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class CopyFacts:
    """The named copy's figures; attributes as in `NamedCopy`.

    `log10_p_all_scopes` counts keys and runs of all groups of the ledger.
    """

    recipient: str
    generation: int
    commitment: str
    histogram: tuple[tuple[int, int, int, int], ...]
    score: int
    log10_p: float
    log10_p_adjusted: float
    log10_p_all_scopes: float
    alpha: float
    draws: int

    @property
    def agreeing(self) -> int:
        """Votes that agree with the copy's symbol."""
        return sum(ones if weight > 0 else count - ones for _, weight, count, ones in self.histogram)


@dataclass(frozen=True, slots=True)
class FindingFacts:
    """One finding as the shell stated it."""

    subject: str
    method: str
    null_hypothesis: str
    counts: tuple[tuple[str, int], ...]
    log10_p: float | None


@dataclass(frozen=True, slots=True)
class Facts:
    """All facts of one statement.

    `entries` are (seq, type, time) of the opened ledger entries; `all_keys` and `all_runs` are N and
    k counted over all groups of the ledger.
    """

    tool: str
    created: str
    keyid: str
    dataset: DatasetFacts
    suspect: SuspectFacts
    comparison: ComparisonFacts
    trace: TraceFacts
    findings: tuple[FindingFacts, ...]
    scheme: SchemeFacts
    copy: CopyFacts | None
    ledger_size: int
    all_keys: int
    all_runs: int
    entries: tuple[tuple[int, str, str], ...]
    limits: tuple[str, ...]


def read_facts(statement: Node) -> Facts:
    """Return the facts of a statement.

    Raises
    ------
    EvidenceError
        A field that is missing or of the wrong form; the message names it.
    """
    ledger, copy, trace = statement["ledger"], statement.get("copy"), _trace(statement["trace"])
    if (trace.outcome is Outcome.CORRESPONDS) != (copy is not None):
        raise statement.fail(
            f"outcome is {trace.outcome}, but a copy is {'not ' if copy is None else ''}named"
        )
    return Facts(
        statement["tool"].text(),
        statement["created"].text(),
        statement["signer"]["keyid"].hex(32).hex(),
        _dataset(statement["dataset"]),
        _suspect(statement["suspect"]),
        _comparison(statement["comparison"]),
        trace,
        tuple(_finding(item) for item in statement["findings"].items()),
        _scheme(statement["scheme"]),
        None if copy is None else _copy(copy),
        ledger["size"].integer(1),
        ledger["mark_keys"].integer(0),
        ledger["trace_runs"].integer(0),
        tuple((e["seq"].integer(0), e["type"].text(), e["time"].text()) for e in ledger["entries"].items()),
        statement["limits"].texts(),
    )


def _dataset(node: Node) -> DatasetFacts:
    return DatasetFacts(
        node["name"].text(), node["version"].integer(0), node["kind"].text(), node["rows"].integer(0),
        _columns(node["columns"]), node["sha256"].hex(32).hex(), node["scope"].hex(8).hex(),
        node["lineage"].text(),
    )  # fmt: skip


def _suspect(node: Node) -> SuspectFacts:
    return SuspectFacts(
        node["name"].text(), node["sha256"].hex(32).hex(), node["rows"].integer(0), _columns(node["columns"]),
        node["rows_root"].hex(32).hex(),
    )  # fmt: skip


def _columns(node: Node) -> tuple[str, ...]:
    columns = node.texts()
    if len(set(columns)) != len(columns):
        raise node.fail("column names are not distinct")
    return columns


def _comparison(node: Node) -> ComparisonFacts:
    rows = node["rows"]
    return ComparisonFacts(
        node["relation"].text(), _changes(node.get("changes")),
        _share(node["containment_original"]), _share(node["containment_suspect"]),
        rows["original"].integer(0), rows["suspect"].integer(0), rows["matched"].integer(0),
        tuple(_column(item) for item in node["columns"].items()),
        _log10(node.get("log10_p")), _text(node.get("null_hypothesis")),
    )  # fmt: skip


def _share(node: Node) -> Share:
    values = (node.get(name) for name in ("estimate", "low", "high"))
    return Share(*(None if value is None else value.number(0.0, 1.0) for value in values))


def _column(node: Node) -> ColumnFacts:
    agreement = node.get("agreement")
    return ColumnFacts(
        _text(node.get("original")), _text(node.get("suspect")), _changes(node.get("changes")),
        None if agreement is None else agreement.number(0.0, 1.0),
    )  # fmt: skip


def _changes(node: Node | None) -> tuple[ChangeFacts, ...]:
    return () if node is None else tuple(_change(item) for item in node.items())


def _change(node: Node) -> ChangeFacts:
    return ChangeFacts(
        node["kind"].text(), tuple((name, _detail(n)) for name, n in node.pairs() if name != "kind")
    )


def _detail(node: Node) -> int | float | tuple[str, ...]:
    if isinstance(node.value, str):
        return (node.value,)
    if isinstance(node.value, list):
        return node.texts()
    number = node.number(-_LARGEST, _LARGEST)
    return int(number) if isinstance(node.value, int) else number


def _trace(node: Node) -> TraceFacts:
    outcome, decoys = node["outcome"].text(), node["decoys"]
    if outcome not in set(Outcome):
        raise node.fail(f"unknown outcome {outcome[:40]!r}")
    return TraceFacts(
        node["dataset"].text(), node["version"].integer(1), node["run"].integer(0),
        tuple(
            (r["recipient"].text(), r["generation"].integer(1), r["agreeing"].integer(0))
            for r in node["recipients"].items()
        ),
        Outcome(outcome), node["corresponding"].texts(),
        tuple(
            (r["recipient"].text(), r["log10_p"].log10(), r["log10_p_adjusted"].log10())
            for r in node["recipients"].items()
        ),
        node["hypotheses"].integer(0), node["suspect_rows"].integer(0), node["examined_rows"].integer(0),
        node["aligned_rows"].integer(0), node["voting_rows"].integer(0), node["max_rows"].integer(0),
        node["alignment_digest"].hex(32).hex(), node["votes"].integer(0),
        node["votes_digest"].hex(32).hex(), node["alpha"].probability(), node["k"].integer(1),
        node["method"].text(), decoys["n"].integer(0), _log10(decoys.get("best_log10_p")),
    )  # fmt: skip


def _scheme(node: Node) -> SchemeFacts:
    law = node["law"]
    levels = tuple(p.integer(1, ONE - 1) for p in law["levels"].items())
    shares = tuple(p.integer(0, ONE) for p in law["shares"].items(len(levels)))
    if len(levels) > 256 or sum(shares) != ONE:
        raise law.fail("shares of the bias law do not add up")
    groups = {}
    for number, members in node["groups"].pairs():
        group = Node(number, members.where).decimal()
        groups[group] = members.texts()
        if len(set(groups[group])) != len(groups[group]):
            raise members.fail("a swap group names a column twice")
    return SchemeFacts(
        node["channel"].hex(8), node["rule"].text(), BiasLaw(law["name"].text(), levels, shares), groups
    )


def _copy(node: Node) -> CopyFacts:
    histogram = tuple(
        (b.integer(1, ONE - 1), w.integer(-256, 256), n.integer(1), ones.integer(0))
        for b, w, n, ones in (row.items(4) for row in node["histogram"].items())
    )
    return CopyFacts(
        node["recipient"].text(), node["generation"].integer(0), node["commitment"].hex(32).hex(), histogram,
        node["score"].integer(), node["log10_p"].log10(), node["log10_p_adjusted"].log10(),
        node["log10_p_all_scopes"].log10(), node["alpha"].probability(), node["draws"].integer(1),
    )  # fmt: skip


def _finding(node: Node) -> FindingFacts:
    return FindingFacts(
        node["subject"].text(), node["method"].text(), node["null_hypothesis"].text(),
        tuple((name, count.integer()) for name, count in node["counts"].pairs()), _log10(node.get("log10_p")),
    )  # fmt: skip


def _log10(node: Node | None) -> float | None:
    return None if node is None else node.log10()


def _text(node: Node | None) -> str:
    return "" if node is None else node.text()
