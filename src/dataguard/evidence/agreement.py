"""Whether ledger entries, statement and openings speak of the same things, in the right order.

What was used later must have been committed before (DESIGN 6.2); these are the comparisons
that make sure of it, apart from the hashing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from dataguard.errors import EvidenceError
from dataguard.evidence.chain import Entry
from dataguard.evidence.facts import CopyFacts, Facts
from dataguard.evidence.fields import Node
from dataguard.evidence.openings import Annex
from dataguard.model import LEVELS, BiasLaw, plain

__all__ = ["Record", "check_annex", "check_fields", "check_order", "check_outcome", "sort_entries"]


@dataclass(frozen=True, slots=True)
class Record:
    """The opened entries by role.

    Attributes
    ----------
    registration : Entry
        Of the traced version.
    registrations : tuple of Entry
        All opened ones, in ledger order.
    mark_key : Entry or None
        Of the named copy.
    exports : tuple of Entry
    run : Entry
    outcome : Entry or None
    """

    registration: Entry
    registrations: tuple[Entry, ...]
    mark_key: Entry | None
    exports: tuple[Entry, ...]
    run: Entry
    outcome: Entry | None

    def paired(self) -> list[tuple[Entry, Entry]]:
        """Return (export, registration of its version) of the exports before the run, where both are opened."""
        by_version = {e.payload["version"].integer(0): e for e in self.registrations}
        before = [
            (e, by_version.get(e.payload["version"].integer(0))) for e in self.exports if e.seq < self.run.seq
        ]
        return [(export, registration) for export, registration in before if registration is not None]

    def relied(self) -> list[Entry]:
        """Return the exports of the traced version before the run: what a named copy rests on."""
        return [export for export, registration in self.paired() if registration is self.registration]

    def draws(self) -> int:
        """Return the largest number of draws committed with a relied-on export; it multiplies the bound."""
        return max((e.payload["draws"].integer(1) for e in self.relied()), default=1)

    def limit(self) -> float:
        """Return the least of the run's alpha and those committed with the relied-on exports."""
        return min(e.payload["alpha"].probability() for e in (self.run, *self.relied()))

    @property
    def late_plan(self) -> bool:
        """Whether the traced version was registered after the mark key, as later ones of a lineage are."""
        return self.mark_key is not None and self.mark_key.seq < self.registration.seq


def sort_entries(entries: Sequence[Entry], facts: Facts) -> Record:
    """Return the opened entries by role; all must carry the dataset's scope.

    Raises
    ------
    EvidenceError
        An entry that is missing, repeated, or of another scope.
    """
    by_type: dict[str, list[Entry]] = {}
    for entry in entries:
        if entry.scope != facts.dataset.scope:
            raise _refuse(entry, "is of another dataset's scope")
        by_type.setdefault(entry.type, []).append(entry)
    registrations = by_type.get("registration", [])
    traced = [e for e in registrations if e.payload["version"].integer(0) == facts.dataset.version]
    runs, outcomes = by_type.get("trace-run", []), by_type.get("trace-outcome", [])
    keys, exports = by_type.get("mark-key", []), by_type.get("export", [])
    _count("registration entry of this version", traced, 1, 1)
    _count("trace-run entry", runs, 1, 1)
    _count("trace-outcome entry", outcomes, 0, 1)
    if facts.copy is not None:
        _count("mark-key entry", keys, 1, 1)
        _count("export entry", exports, 1, None)
    else:
        _count("mark-key entry without a named copy", keys, 0, 0)
    return Record(
        traced[0], tuple(registrations), keys[0] if keys else None, tuple(exports), runs[0],
        outcomes[0] if outcomes else None,
    )  # fmt: skip


def _count(what: str, found: Sequence[Entry], low: int, high: int | None) -> None:
    if len(found) < low or (high is not None and len(found) > high):
        wanted = f"{low} or more" if high is None else f"{low} to {high}"
        raise EvidenceError(f"{len(found)} opened: {what}", where="ledger", remedy=f"there must be {wanted}")


def check_order(record: Record) -> str:
    """Return a summary if registration < mark key < export < trace run < outcome, by sequence number.

    A named copy rests on exports of the *traced* version to it before the run: each comes after
    that version's registration and after the mark key. The first opened registration precedes the
    mark key. Exports of other versions, or after the run, are not relied on.
    """
    chain = [("trace-run", record.run)]
    if record.outcome is not None:
        chain.append(("trace-outcome", record.outcome))
    _ascending([("registration", record.registration), *chain])
    if record.mark_key is not None:
        relied = record.relied()
        if not relied:
            where = f"ledger entry {record.run.seq} (trace-run)"
            raise EvidenceError(
                "no export of the traced version to the named copy comes before it", where=where,
                remedy="open that export; what was committed for another version says nothing of this one",
            )  # fmt: skip
        first, key = ("registration", record.registrations[0]), ("mark-key", record.mark_key)
        for export in relied:
            _ascending([("registration", record.registration), ("export", export), *chain])
            _ascending([first, key, ("export", export), *chain])
    numbers = [
        e.seq
        for e in (*record.registrations, record.mark_key, *record.exports, record.run, record.outcome)
        if e
    ]
    return "entries " + ", ".join(map(str, sorted(numbers))) + " in order"


def _ascending(chain: Sequence[tuple[str, Entry]]) -> None:
    for (first, a), (second, b) in pairwise(chain):
        if a.seq >= b.seq:
            raise _refuse(b, f"{second} does not come after {first} (entry {a.seq})")


def check_fields(record: Record, facts: Facts) -> None:
    """Return only if the opened entries and the statement agree field by field.

    Raises
    ------
    EvidenceError
        The first field that differs.
    """
    d, s, t = facts.dataset, facts.suspect, facts.trace
    for entry in record.registrations:
        _same(entry, {"dataset": d.name, "lineage": d.lineage})
    registration = record.registration
    _same(
        registration,
        {
            "kind": d.kind, "rows": d.rows, "columns": list(d.columns), "sha256": d.sha256,
            "channel": facts.scheme.channel.hex(),
            "groups": {str(number): list(members) for number, members in facts.scheme.groups.items()},
        },
    )  # fmt: skip
    _same_law(registration, facts.scheme.law)
    _same(
        record.run,
        {
            "dataset": d.name, "lineage": d.lineage, "version": d.version, "suspect_sha256": s.sha256,
            "suspect_rows_root": s.rows_root, "suspect_rows": s.rows, "votes_digest": t.votes_digest,
            "votes": t.votes, "mark_keys": t.hypotheses, "examined_rows": t.examined_rows,
            "aligned_rows": t.aligned_rows, "voting_rows": t.voting_rows, "max_rows": t.max_rows,
            "alignment_digest": t.alignment_digest,
        },
    )  # fmt: skip
    if (t.dataset, t.version) != (d.name, d.version):
        raise _refuse(record.run, "the trace speaks of another dataset or version")
    if t.run != record.run.seq:
        raise _refuse(record.run, f"the trace names run {t.run}")
    if not t.voting_rows <= t.aligned_rows <= t.examined_rows <= t.suspect_rows == s.rows:
        raise _refuse(record.run, "numbers of rows do not fit each other")
    if record.run.payload["alpha"].probability() != t.alpha:
        raise _refuse(record.run, "alpha differs from the statement")
    if record.outcome is not None:
        _same(
            record.outcome,
            {"run": record.run.seq, "outcome": str(t.outcome), "corresponding": list(t.corresponding)},
        )
    if facts.copy is not None:
        _check_copy_fields(record, facts, facts.copy)


def _check_copy_fields(record: Record, facts: Facts, copy: CopyFacts) -> None:
    assert record.mark_key is not None
    who = {"lineage": facts.dataset.lineage, "recipient": copy.recipient, "generation": copy.generation}
    _same(record.mark_key, who | {"commitment": copy.commitment})
    every = who | {"dataset": facts.dataset.name, "mark_key_commitment": copy.commitment}
    for export in record.exports:
        _same(export, every)
    for export, registration in record.paired():
        committed = registration.payload
        same = {name: committed[name].value for name in ("rows_root", "slots_root", "bias_root")}
        law = committed["law"]
        profile = law.value if isinstance(law.value, str) else law["name"].value
        _same(export, same | {"scheme": committed["channel"].value, "profile": profile})
    if copy.draws != record.draws():
        raise _refuse(record.mark_key, f"draws {copy.draws}, but {record.draws()} are committed")
    if copy.alpha != record.limit():
        raise _refuse(record.run, f"limit {copy.alpha}, but {record.limit()} follows from run and exports")


def check_annex(annex: Annex, record: Record, facts: Facts) -> None:
    """Return only if sizes and roots of the openings are those committed and logged."""
    registration, slots = record.registration.payload, record.registration.payload["slots"].integer(1)
    for what, opened, size, root in (
        ("rows", annex.rows, facts.dataset.rows, registration["rows_root"]),
        ("slots", annex.slots, slots, registration["slots_root"]),
        ("biases", annex.biases, slots, registration["bias_root"]),
        (
            "suspect rows",
            annex.suspect_rows,
            facts.trace.suspect_rows,
            record.run.payload["suspect_rows_root"],
        ),
    ):
        if opened.size != size or opened.root != root.hex(32):
            raise EvidenceError(f"opened {what} are not of the committed tree", remedy="do not rely on them")
    for members in facts.scheme.groups.values():
        if not set(members) <= set(facts.dataset.columns):
            raise EvidenceError("a swap group names an unknown column", remedy="do not rely on it")


def _same_law(registration: Entry, law: BiasLaw) -> None:
    """Compare the law; it is committed as {name, levels, shares}, or by the name of a known one."""
    committed = registration.payload["law"].value
    known = LEVELS.get(committed) if isinstance(committed, str) else None
    if (plain(known) if known else committed) != plain(law):
        raise _refuse(registration, "law differs from the statement")


def _same(entry: Entry, expected: dict[str, object]) -> None:
    for name, value in expected.items():
        if not _equal(entry.payload[name], value):
            raise _refuse(entry, f"{name} differs from the statement")


def _equal(node: Node, value: object) -> bool:
    # True == 1 in Python; in a commitment they are different values.
    return type(node.value) is type(value) and node.value == value


def _refuse(entry: Entry, what: str) -> EvidenceError:
    return EvidenceError(
        what, where=f"ledger entry {entry.seq} ({entry.type[:20]})", remedy="do not rely on it"
    )


def check_outcome(facts: Facts) -> None:
    """Return only if the corresponding copies are the named one, and further ones the list bears out.

    A suspect merged from several copies corresponds to several. One key is opened; the others
    are asserted, and must at least be below the limit by the statement's own figures.
    """
    stated, copy = facts.trace.corresponding, facts.copy
    limit = math.log10(facts.trace.alpha if copy is None else copy.alpha)
    below = {name for name, _, adjusted in facts.trace.recipients if adjusted <= limit}
    is_named = copy is None if not stated else copy is not None and copy.recipient in stated
    if not is_named or len(set(stated)) != len(stated) or not set(stated) <= below:
        raise EvidenceError(
            "the corresponding copies are not the opened one, or not below the limit", where="trace",
            remedy="do not rely on it",
        )  # fmt: skip
