"""The sixteen checks of a bundle, one function each; their numbers are those of ``verify``.

Each returns one line about what it found, or raises the error that says what is wrong.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from functools import cached_property

from dataguard import dsse
from dataguard.canonical import canonical_json, parse_json
from dataguard.errors import EvidenceError
from dataguard.evidence import agreement, alignment, chain, recount
from dataguard.evidence.facts import CopyFacts, Facts, read_facts
from dataguard.evidence.fields import Node
from dataguard.evidence.layout import (
    ANNEX,
    LEDGER,
    MAX_FILE_BYTES,
    PAGE,
    README,
    REPORT,
    REQUIRED,
    STATEMENT,
    Contents,
)
from dataguard.evidence.openings import Annex, read_annex
from dataguard.evidence.prose import prose
from dataguard.evidence.statement import PAYLOAD_TYPE, RENDERER, SCHEMA, STATUS
from dataguard.evidence.vocabulary import check_words
from dataguard.keys import check_commitment

__all__ = [
    "NO_COPY",
    "Desk",
    "TooDeepError",
    "step_agreement",
    "step_bound",
    "step_digest",
    "step_entries",
    "step_files",
    "step_ledger",
    "step_mark_key",
    "step_order",
    "step_pages",
    "step_rows",
    "step_score",
    "step_sentences",
    "step_signature",
    "step_slots",
    "step_suspect",
    "step_votes",
]

NO_COPY = "nothing to check: no copy is named"

_TOLERANCE = 2e-4
"""Two machines may round the fourth digit of a logarithm differently; stated values may differ by this."""


class TooDeepError(EvidenceError):
    """JSON nested beyond what any bundle needs: not a bundle."""


class Desk:
    """What lies on the examiner's desk: contents, and what earlier steps have established."""

    record: agreement.Record
    chain: chain.Chain
    remarks: tuple[str, ...]
    votes: list[recount.Vote]
    found: recount.Recount

    def __init__(self, contents: Contents, public_key: bytes | None) -> None:
        self.contents = contents
        self.pinned = public_key

    def parse(self, name: str) -> Node:
        """Return a file's JSON; EvidenceError if it is not JSON that every reader reads alike."""
        data = self.contents.files[name]
        try:
            value = parse_json(data, max_bytes=MAX_FILE_BYTES, where=name)
        except EvidenceError as error:
            if "nested too deeply" in error.what:
                raise TooDeepError(error.what, where=error.where, remedy=error.remedy) from None
            raise
        return Node(value, name)

    @cached_property
    def statement(self) -> Node:
        """The parsed statement, not trusted before step 2."""
        return self.parse(REPORT)

    @cached_property
    def ledger(self) -> Node:
        """The parsed ledger view."""
        return self.parse(LEDGER)

    @cached_property
    def facts(self) -> Facts:
        """The statement's facts, types checked."""
        return read_facts(self.statement)

    @property
    def copy(self) -> CopyFacts:
        """The named copy's figures; only where one is named."""
        assert self.facts.copy is not None
        return self.facts.copy

    @cached_property
    def annex(self) -> Annex | None:
        """The openings; None where no copy is named."""
        annex = read_annex(self.parse(ANNEX))
        if (annex is None) != (self.facts.copy is None):
            raise EvidenceError("statement and annex differ on whether a copy is named", where=ANNEX)
        return annex

    @property
    def openings(self) -> Annex:
        """The openings; only where a copy is named."""
        assert self.annex is not None
        return self.annex

    @cached_property
    def key(self) -> bytes:
        """The public key in use, raw: the one given, or the one it has handed over to (checked in step 3)."""
        if self.pinned is None:
            return self.statement["signer"]["public_key"].hex(32)
        with contextlib.suppress(EvidenceError):
            if self.statement["signer"]["public_key"].hex(32) != self.pinned:
                return chain.current_key(self.ledger, self.pinned)
        return self.pinned

    @property
    def key_id(self) -> str:
        """Its id, or an empty text when the bundle names none."""
        try:
            return dsse.keyid(self.key)
        except EvidenceError:
            return ""


def _for_copies(check: Callable[[Desk], str]) -> Callable[[Desk], str]:
    """Answer a step about the named copy when none is named."""

    def checked(desk: Desk) -> str:
        return NO_COPY if desk.annex is None else check(desk)

    return checked


# --- the steps --------------------------------------------------------------------------------------


def step_files(desk: Desk) -> str:
    """Step 1: check that all files but the statement are listed with their digests."""
    contents, listed = desk.contents, desk.statement["files"]
    if contents.strays:
        raise EvidenceError(
            "neither file nor folder", where=contents.strays[0][:100], remedy="copy the bundle again"
        )
    expected = {name: digest.hex(32).hex() for name, digest in listed.pairs()}
    actual = {name: digest for name, digest in contents.digests.items() if name not in (REPORT, STATEMENT)}
    for name in sorted(actual.keys() | expected.keys() | set(REQUIRED[2:])):
        if name not in expected:
            raise EvidenceError(
                "not listed in the statement", where=name[:100], remedy="remove it, or distrust it"
            )
        if name not in actual:
            raise EvidenceError("listed but missing", where=name[:100], remedy="obtain the whole bundle")
        if actual[name] != expected[name]:
            raise EvidenceError(
                "digest differs from the listed one", where=name[:100], remedy="the file was changed"
            )
    return f"{len(actual)} files as listed"


def step_signature(desk: Desk) -> str:
    """Step 2: check the statement's signature and that ``report.json`` is its payload."""
    raw = desk.contents.files[STATEMENT]
    envelope = dsse.from_json(raw, where=STATEMENT)
    keyid = dsse.keyid(desk.key)
    if dsse.to_json(envelope) != raw or [s.keyid for s in envelope.signatures] != [keyid]:
        raise EvidenceError(
            f"not one signature by key {keyid[:16]} in its one written form",
            where=STATEMENT,
            remedy="distrust it",
        )
    payload = dsse.verify(envelope, desk.key, payload_type=PAYLOAD_TYPE)
    if payload != desk.contents.files[REPORT]:
        raise EvidenceError("differs from the signed payload", where=REPORT, remedy="the file was changed")
    statement = desk.statement
    if canonical_json(statement.value) != payload:
        raise EvidenceError("not in canonical form", where=REPORT, remedy="the bundle must be written again")
    for name, expected in (("schema", SCHEMA), ("status", STATUS)):
        if statement[name].value != expected:
            raise statement[name].fail(f"not {expected!r}")
    signer = statement["signer"]
    if signer["public_key"].hex(32) != desk.key or signer["keyid"].text() != keyid:
        raise signer.fail("names another key than the one that signed")
    return f"{STATUS} of {desk.facts.created[:40]}, signed by key {keyid[:16]}"


def step_ledger(desk: Desk) -> str:
    """Step 3: recompute the ledger's root and check the checkpoint over it."""
    desk.chain = chain.read_chain(desk.ledger, desk.key)
    if desk.facts.ledger_size != len(desk.chain.headers):
        raise desk.statement["ledger"].fail("size differs from the checkpoint")
    root, time = desk.chain.root[:16], desk.chain.time[:40]
    rotated = f", signing key {desk.chain.rotations + 1} of this ledger" if desk.chain.rotations else ""
    return f"{len(desk.chain.headers)} entries, root {root}, checkpoint of {time}{rotated}"


def step_entries(desk: Desk) -> str:
    """Step 4: check the opened entries against their headers."""
    entries = chain.open_entries(desk.ledger, desk.chain)
    desk.record = agreement.sort_entries(entries, desk.facts)
    if desk.facts.entries != tuple((e.seq, e.type, e.time) for e in entries):
        raise desk.statement["ledger"].fail("entries differ from those opened")
    return f"{len(entries)} opened entries fit their headers"


def step_order(desk: Desk) -> str:
    """Step 5: check the order of the opened entries."""
    return agreement.check_order(desk.record)


def step_agreement(desk: Desk) -> str:
    """Step 6: compare statement and entries field by field; count keys and runs in the headers."""
    record, facts = desk.record, desk.facts
    agreement.check_fields(record, facts)
    keys = chain.count_keys(desk.chain.headers, facts.dataset.scope, record.run.seq)
    runs = chain.count_runs(desk.chain.headers, facts.dataset.scope, record.run.seq)
    all_keys = chain.count_keys(desk.chain.headers, None, record.run.seq)
    all_runs = chain.count_runs(desk.chain.headers, None, record.run.seq)
    for where, name, stated, counted in (
        ("trace", "hypotheses", facts.trace.hypotheses, keys),
        ("trace", "k", facts.trace.k, runs),
        ("ledger", "mark_keys", facts.all_keys, all_keys),
        ("ledger", "trace_runs", facts.all_runs, all_runs),
    ):
        if stated != counted:
            raise desk.statement[where][name].fail(f"is {stated}, but the ledger counts {counted}")
    c = facts.comparison
    if (c.rows_original, c.rows_suspect) != (facts.dataset.rows, facts.suspect.rows):
        raise desk.statement["comparison"]["rows"].fail("differ from dataset and suspect")
    desk.remarks = tuple(_remarks(record, facts))
    return f"ledger, statement and trace agree; {keys} mark keys, run {runs}"


def _remarks(record: agreement.Record, facts: Facts) -> Iterator[str]:
    """Yield what is no fault but must be known to weigh a named copy."""
    if record.late_plan:
        yield (
            "the traced version was registered after the mark key; what counts is the time of its export "
            "to this copy, and that a time-stamp of it precedes the suspect"
        )
    if len(facts.trace.corresponding) > 1:
        yield "one of several corresponding copies is opened; the others are asserted"
    if facts.copy is not None and record.limit() < facts.trace.alpha:
        yield "the limit of this run is looser than the one committed with the export, which was applied"


@_for_copies
def step_mark_key(desk: Desk) -> str:
    """Step 7: open the mark key's commitment; compare sizes and roots of the openings."""
    opened, copy = desk.openings.mark_key, desk.copy
    named = (copy.recipient, copy.generation, copy.commitment)
    if (opened.recipient, opened.generation, opened.commitment) != named:
        raise EvidenceError("the opened key is not the named copy's", where=ANNEX, remedy="do not rely on it")
    if not check_commitment("mark-key", opened.key, opened.salt, copy.commitment):
        raise EvidenceError(
            "the opened key does not open its commitment", where=ANNEX, remedy="do not rely on it"
        )
    agreement.check_annex(desk.openings, desk.record, desk.facts)
    return f"key of generation {copy.generation} opens commitment {copy.commitment[:16]}"


@_for_copies
def step_rows(desk: Desk) -> str:
    """Step 8: check the opened original rows."""
    recount.check_rows(desk.openings.rows, desk.facts.dataset.columns, numbered=False)
    return f"{len(desk.openings.rows.leaves)} of {desk.openings.rows.size} rows opened"


@_for_copies
def step_slots(desk: Desk) -> str:
    """Step 9: check the opened slots and biases."""
    recount.check_slots(desk.openings.slots)
    recount.check_biases(desk.openings.biases, desk.openings.slots, desk.facts.scheme.law.levels)
    return f"{len(desk.openings.slots.leaves)} of {desk.openings.slots.size} slots opened"


@_for_copies
def step_suspect(desk: Desk) -> str:
    """Step 10: check the opened suspect rows, the pairs of aligned rows, and that they resemble each other."""
    opened, facts = desk.openings, desk.facts
    recount.check_rows(opened.suspect_rows, facts.suspect.columns, numbered=True)
    alignment.check_pairs(opened, facts.trace)
    unlike = alignment.check_likeness(
        opened, facts.comparison.columns, facts.dataset.columns, facts.suspect.columns
    )
    count = f"{len(opened.suspect_rows.leaves)} of {opened.suspect_rows.size} rows opened"
    return f"{count}; {unlike} of {len(opened.pairs)} pairs agree in no column; pairs as logged"


@_for_copies
def step_votes(desk: Desk) -> str:
    """Step 11: recompute the votes of the opened rows and slots; how these were chosen it cannot check."""
    scheme = desk.facts.scheme
    if scheme.rule != recount.RULE:
        raise EvidenceError(f"unknown reading rule {scheme.rule[:40]!r}", remedy="use a newer dataguard")
    columns = recount.Columns(desk.facts.dataset.columns, desk.facts.suspect.columns, scheme.groups)
    desk.votes = recount.count_votes(desk.openings, columns)
    if len(desk.votes) != desk.facts.trace.votes:
        raise EvidenceError(f"{len(desk.votes)} votes, but {desk.facts.trace.votes} are stated", where=REPORT)
    return f"{len(desk.votes)} votes from {len(desk.openings.readings)} readings within the opened rows and slots"


@_for_copies
def step_digest(desk: Desk) -> str:
    """Step 12: compare the votes' digest with the one logged."""
    digest, run = recount.votes_digest(desk.votes), desk.record.run
    if digest != run.payload["votes_digest"].text():
        raise EvidenceError(
            "the votes are not those logged before the keys were opened", where=f"ledger entry {run.seq}"
        )
    return f"digest {digest[:16]} as logged in entry {run.seq}"


@_for_copies
def step_score(desk: Desk) -> str:
    """Step 13: recompute histogram and score from the votes."""
    copy = desk.copy
    desk.found = recount.recount(desk.votes, desk.openings.mark_key.key, desk.facts.scheme.channel)
    if desk.found.histogram != copy.histogram:
        raise EvidenceError(
            "histogram differs from the recomputed one", where=REPORT, remedy="do not rely on it"
        )
    if desk.found.score != copy.score:
        raise EvidenceError(f"score {copy.score}, recomputed {desk.found.score}", where=REPORT)
    return f"S = {copy.score}, {copy.agreeing} of {len(desk.votes)} votes agree"


def step_bound(desk: Desk) -> str:
    """Step 14: recompute the bound from the score, with keys, runs and draws paid for."""
    facts, trace = desk.facts, desk.facts.trace
    if facts.copy is None:
        return NO_COPY
    copy, found, draws = facts.copy, desk.found, desk.record.draws()
    adjusted = recount.adjusted(found.raw, trace.hypotheses, trace.k, draws)
    everything = recount.adjusted(found.raw, facts.all_keys, facts.all_runs, draws)
    if trace.method != found.method:
        raise EvidenceError(f"method is {found.method}, another is stated", where=REPORT)
    for name, stated, computed in (
        ("log10_p", copy.log10_p, found.log10_p),
        ("log10_p_adjusted", copy.log10_p_adjusted, adjusted),
        ("log10_p_all_scopes", copy.log10_p_all_scopes, everything),
    ):
        if abs(stated - computed) > _TOLERANCE:
            raise EvidenceError(
                f"{name} {stated}, recomputed {computed}", where=REPORT, remedy="do not rely on it"
            )
    limit = math.log10(desk.record.limit())
    if max(adjusted, copy.log10_p_adjusted) > limit:
        raise EvidenceError(
            f"log10 p {adjusted} is above the limit {limit:.4f}", where=REPORT, remedy="name no copy"
        )
    paid = f"{adjusted} with {trace.hypotheses} keys, 2^{trace.k} and {draws} draw(s)"
    whole = f"{everything} with all {facts.all_keys} keys and {facts.all_runs} runs of the ledger"
    return f"log10 p {found.log10_p} for the key, {paid}; {whole}; limit {limit:.4f}"


def step_sentences(desk: Desk) -> str:
    """Step 15: write the sentences again and compare; check every other word that is shown."""
    facts = desk.facts
    agreement.check_outcome(facts)
    if facts.copy is not None and not _listed(facts, facts.copy):
        raise EvidenceError("the list of recipients contradicts the opened copy", where=REPORT)
    check_words(facts)
    if desk.statement["prose"].value != prose(facts):
        raise EvidenceError(
            "a sentence is not what the figures say", where=REPORT, remedy="do not rely on it"
        )
    return f"outcome {facts.trace.outcome}; every sentence follows from the figures"


def _listed(facts: Facts, copy: CopyFacts) -> bool:
    """Return whether the opened copy stands in the list with its own bound (Holm may adjust it by less)."""
    agreeing = sum(k if weight > 0 else n - k for _, weight, n, k in copy.histogram)
    if (copy.recipient, copy.generation, agreeing) not in facts.trace.lines:
        return False
    return any(
        name == copy.recipient
        and abs(p - copy.log10_p) <= _TOLERANCE
        and p - _TOLERANCE <= adjusted <= copy.log10_p_adjusted + _TOLERANCE
        for name, p, adjusted in facts.trace.recipients
    )


def step_pages(desk: Desk) -> str:
    """Step 16: render the pages again and compare."""
    from dataguard.evidence.render import readme, report_html

    renderer = desk.statement["renderer"].text()
    if renderer != RENDERER:
        raise EvidenceError(
            f"rendered by {renderer[:40]!r}", where=PAGE, remedy="use the dataguard that made it"
        )
    sentences = desk.statement["prose"].mapping()
    for name, expected in ((PAGE, report_html(desk.facts, sentences)), (README, readme(desk.facts))):
        if desk.contents.files[name] != expected:
            raise EvidenceError(
                "not what the statement renders to", where=name, remedy="rely on report.json only"
            )
    return f"{PAGE} and {README} say what {REPORT} says"
