"""The investigator's shell, second part: whose copy does a suspect correspond to.

A trace freezes its votes and logs their digest before any mark key is loaded; every run
is kept, whatever it says.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dataguard import keys
from dataguard._version import VERSION
from dataguard.carrier import Alignment, Carrier
from dataguard.errors import UsageError
from dataguard.fingerprints.engines import default_engines
from dataguard.formats.source import Source, open_source
from dataguard.holdings import Holding, OpenVault
from dataguard.investigate import matches, newest
from dataguard.modalities.discovery import carrier
from dataguard.model import COMPARE_ALPHA, TRACE_ALPHA, Outcome, Shown
from dataguard.registry import ledger
from dataguard.registry.commitments import Tree
from dataguard.registry.store import Dataset, MarkKey, Run
from dataguard.slots import Slots, Votes, tally
from dataguard.trees import suspect_tree
from dataguard.watermarking.accusation import Accusation, Candidate, accuse

__all__ = ["MAX_ROWS", "TraceResult", "Traced", "trace", "trace_case"]

MAX_ROWS = 5000
"""Matched suspect rows that vote. More would add nothing: the reported bound has reached its
floor of 1e-30 long before, and every voting row is opened in a bundle. The rows are chosen by
their leaf hashes, before any key is loaded."""

FIRST_LOOK = 4 * MAX_ROWS
"""Rows of a large suspect that are aligned at first: a full copy of 336,776 flights takes about a minute
to align whole, the whole command 6 s like this (CPU)."""

DECOYS = 999


@dataclass(frozen=True, slots=True)
class TraceResult(Shown):
    """Which copies a suspect corresponds to.

    Attributes
    ----------
    dataset, version : str, int
    accusation : Accusation
    aligned_rows : int
        Suspect rows matched to a row of the original.
    suspect_rows : int
        Rows of the suspect.
    examined_rows : int
        Suspect rows that were looked at: all, or of a large suspect as many as are needed.
    voting_rows : int
        Of these, rows that may vote; at most MAX_ROWS.
    alignment_digest : str
        SHA-256 over which suspect row is which original row, logged with the votes.
    alpha : float
        Family-wise error of all runs on the dataset.
    votes_digest : str
    run : int
        Sequence number of the ledger entry made before any key was loaded.
    repeated : bool
        Same votes, same committed keys as an earlier run: nothing new is tested or spent.
    """

    dataset: str
    version: int
    accusation: Accusation
    aligned_rows: int
    suspect_rows: int
    examined_rows: int
    voting_rows: int
    alignment_digest: str
    alpha: float
    votes_digest: str
    run: int
    repeated: bool

    @property
    def outcome(self) -> Outcome:
        """What the trace says."""
        return self.accusation.outcome

    @property
    def corresponding(self) -> tuple[str, ...]:
        """Recipients whose copy the suspect corresponds to."""
        return tuple(dict.fromkeys(r.recipient for r in self.accusation.corresponding))

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON document of `dataguard trace`."""
        a = self.accusation
        return {
            "schema": "dataguard.trace/1",
            "dataset": self.dataset,
            "version": self.version,
            "outcome": str(a.outcome),
            "corresponding": list(self.corresponding),
            "recipients": [
                {
                    "recipient": r.recipient, "generation": r.generation, "agreeing": r.agreeing,
                    "log10_p": r.log10_p, "log10_p_adjusted": r.log10_p_adjusted,
                }
                for r in a.recipients
            ],
            "hypotheses": a.hypotheses,
            "aligned_rows": self.aligned_rows,
            "suspect_rows": self.suspect_rows,
            "examined_rows": self.examined_rows,
            "voting_rows": self.voting_rows,
            "max_rows": MAX_ROWS,
            "alignment_digest": self.alignment_digest,
            "votes": a.votes,
            "votes_digest": self.votes_digest,
            "alpha": self.alpha,
            "k": a.spent,
            "run": self.run,
            "repeated": self.repeated,
            "method": a.method,
            "decoys": {"n": a.decoys, "best_log10_p": a.best_decoy_log10_p},
            "canaries": {"expected": 0, "found": 0, "log10_p": None},
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Traced:
    """A trace with everything a report needs to open it.

    Attributes
    ----------
    result : TraceResult
    dataset : Dataset
    handler : Carrier
    held : Holding
    original, suspect : content of the kind
    alignment : Alignment
        Of the rows that may vote.
    votes : Votes
    tree : Tree
        Over the suspect's units, as logged before any key was loaded.
    suspect_sha256 : str
    """

    result: TraceResult
    dataset: Dataset
    handler: Carrier[Any]
    held: Holding
    original: Any
    suspect: Any
    alignment: Alignment
    votes: Votes
    tree: Tree
    suspect_sha256: str


def trace(
    vault: OpenVault,
    suspect: str | os.PathLike[str] | object,
    *,
    dataset: str | None = None,
    alpha: float = TRACE_ALPHA,
) -> TraceResult:
    """Return which recipients' copies a suspect corresponds to.

    Parameters
    ----------
    vault : OpenVault
    suspect : path or Arrow stream object
    dataset : str, optional
        Name of the registered dataset; found by content when not given.
    alpha : float
        Family-wise error over all committed keys and all runs on the dataset.
    """
    return trace_case(vault, suspect, dataset=dataset, alpha=alpha).result


def trace_case(
    vault: OpenVault,
    suspect: str | os.PathLike[str] | object,
    *,
    dataset: str | None = None,
    alpha: float = TRACE_ALPHA,
) -> Traced:
    """Trace, and return the alignment and votes as well (see :func:`trace`)."""
    if not 0 < alpha < 1:
        raise UsageError(f"alpha {alpha} is no probability", remedy="use a small number such as 1e-9")
    source = open_source(suspect)
    name = dataset if dataset is not None else _dataset_of(vault, source)
    versions = vault.store.list_datasets(name=name)
    if not versions:
        known = ", ".join(d.name for d in newest(vault.store.list_datasets())[:10]) or "none yet"
        raise UsageError(f"no dataset {name!r} is registered", remedy=f"registered are: {known}")
    if not vault.store.list_mark_keys(lineage=versions[0].lineage):
        raise UsageError(
            "nobody has received a copy of it yet", where=name, remedy="run `dataguard protect` first"
        )
    handler = carrier(versions[0].kind)
    content = handler.decode(source)
    tree = suspect_tree(handler.leaves(content))
    record, held, original, aligned = _best_version(vault, _exported(vault, versions), handler, content, tree)
    used = _voting_rows(aligned, tree)
    readings = handler.votes(original, content, held.slots, used)
    votes = tally(held.slots, readings)
    digest = source.sha256()
    pairs = pairing(handler, original, used)
    look = Look(aligned.n_suspect, len(aligned.suspect_row), len(pairs), MAX_ROWS, alignment_digest(pairs))
    entry, k, repeated, committed = _log_run(vault, record, tree, votes, digest, look, alpha)
    accusation = _load_keys_and_accuse(vault, committed, record, held.slots, votes, alpha=alpha, spent=k)
    result = TraceResult(
        dataset=record.name,
        version=record.version,
        accusation=accusation,
        aligned_rows=look.aligned_rows,
        suspect_rows=tree.size,
        examined_rows=look.examined_rows,
        voting_rows=look.voting_rows,
        alignment_digest=look.alignment_digest,
        alpha=alpha,
        votes_digest=votes.digest(),
        run=entry,
        repeated=repeated,
    )
    _log_outcome(vault, record, result)
    return Traced(result, record, handler, held, original, content, used, votes, tree, digest)


def _exported(vault: OpenVault, versions: list[Dataset]) -> list[Dataset]:
    """Return the versions that anybody has received, oldest first; all of them if none was handed out.

    A copy can only come from a version that was handed out, and a plan made after a suspect
    was seen must not be the one it is read by.
    """
    handed_out = [v for v in versions if vault.store.list_exports(dataset_id=v.id)]
    return handed_out or versions


def _best_version(
    vault: OpenVault, versions: list[Dataset], handler: Carrier[Any], content: Any, tree: Tree
) -> tuple[Dataset, Holding, Any, Alignment]:
    """Return the registered version that most rows of the suspect align to; a choice without any key.

    A large suspect is looked at through FIRST_LOOK of its rows; only if these do not give
    the rows that may vote, all rows are aligned.
    """
    engines = default_engines()
    rows = _smallest(tree, np.arange(tree.size), FIRST_LOOK)
    look = content if len(rows) == tree.size else handler.take(content, rows)
    best = None
    for record in versions:
        held = vault.holding(record)
        original = handler.decode(held.source, held.ids)
        found = handler.align(original, look, engines)
        if best is None or len(found.suspect_row) > len(best[3].suspect_row):
            best = (record, held, original, found)
    assert best is not None
    record, held, original, found = best
    if len(rows) == tree.size:
        return best
    if len(found.suspect_row) < MAX_ROWS:
        return record, held, original, handler.align(original, content, engines)
    return record, held, original, replace(found, suspect_row=rows[found.suspect_row])


def _dataset_of(vault: OpenVault, source: Source) -> str:
    datasets = newest(vault.store.list_datasets())
    found = sorted(
        matches(vault, source, datasets, COMPARE_ALPHA), key=lambda m: -m["containment_suspect"]["estimate"]
    )
    if not found:
        raise UsageError(
            "no registered dataset occurs in it",
            where=source.name,
            remedy="name one with --dataset to trace it anyway",
        )
    return str(found[0]["dataset"])


def _voting_rows(aligned: Alignment, tree: Tree) -> Alignment:
    """Return at most MAX_ROWS of the aligned rows, those with the smallest leaf hashes."""
    chosen = _smallest(tree, aligned.suspect_row, MAX_ROWS)
    keep = np.isin(aligned.suspect_row, chosen)
    return replace(
        aligned,
        suspect_row=aligned.suspect_row[keep],
        original_row=aligned.original_row[keep],
        equal=aligned.equal[keep],
    )


def _smallest(tree: Tree, rows: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Return the `count` rows with the smallest leaf hashes, in row order: a choice by content alone."""
    if len(rows) <= count:
        return rows
    head = tree.levels[0][rows, :8].copy().view(">u8").ravel()
    return np.sort(rows[np.argsort(head, kind="stable")[:count]])


@dataclass(frozen=True, slots=True)
class Look:
    """How the suspect was looked at, logged before any key is loaded.

    Attributes
    ----------
    examined_rows, aligned_rows, voting_rows, max_rows : int
    alignment_digest : str
    """

    examined_rows: int
    aligned_rows: int
    voting_rows: int
    max_rows: int
    alignment_digest: str


def pairing(handler: Carrier[Any], original: Any, used: Alignment) -> NDArray[np.uint64]:
    """Return the (pairs, 2) uint64 voting pairs (suspect unit, original unit id) in order of the suspect."""
    order = np.argsort(used.suspect_row, kind="stable")
    ids = handler.ids(original)[used.original_row[order]]
    return np.stack([used.suspect_row[order].astype(np.uint64), ids.astype(np.uint64)], axis=1)


def alignment_digest(pairs: NDArray[np.uint64]) -> str:
    """Return the SHA-256 (hex) of voting pairs; it is logged before any mark key is loaded."""
    return hashlib.sha256(b"dataguard/alignment/1" + pairs.astype("<u8").tobytes()).hexdigest()


def _log_run(
    vault: OpenVault,
    record: Dataset,
    tree: Tree,
    votes: Votes,
    suspect_sha256: str,
    look: Look,
    alpha: float,
) -> tuple[int, int, bool, list[MarkKey]]:
    """Log the frozen votes, before any key is loaded; return (ledger sequence, k, repeated, committed keys).

    The same suspect with the same votes against the same committed keys is the same test,
    and spends nothing again: the earlier entry stands.
    """
    secret = keys.dataset_secret(vault.master, record.lineage)
    scope = keys.scope_pseudonym(secret)
    with vault.store.transaction():
        committed = vault.store.list_mark_keys(lineage=record.lineage)
        test = {
            "mark_keys": len(committed),
            "alpha": repr(alpha),
            "suspect_sha256": suspect_sha256,
            "suspect_rows_root": tree.root.hex(),
            "alignment_digest": look.alignment_digest,
        }
        for run in vault.store.list_runs(dataset_id=record.id):
            if run.votes_digest == votes.digest() and all(run.meta.get(k) == v for k, v in test.items()):
                return int(run.meta["seq"]), run.k, True, committed
        k = ledger.count(vault.store, "trace-run", scope) + 1
        payload = {
            "dataset": record.name,
            "lineage": record.lineage,
            "version": record.version,
            **test,
            "suspect_rows": tree.size,
            "examined_rows": look.examined_rows,
            "aligned_rows": look.aligned_rows,
            "voting_rows": look.voting_rows,
            "max_rows": look.max_rows,
            "votes_digest": votes.digest(),
            "votes": len(votes),
            "tool": VERSION,
        }
        entry = vault.append("trace-run", scope, payload)
        meta = {"seq": entry.seq, **test}
        vault.store.add_run(Run(f"run-{entry.seq}", record.id, entry.time, votes.digest(), k, "", meta))
    return entry.seq, k, False, committed


def _load_keys_and_accuse(
    vault: OpenVault,
    committed: list[MarkKey],
    record: Dataset,
    slots: Slots,
    votes: Votes,
    *,
    alpha: float,
    spent: int,
) -> Accusation:
    candidates = [
        Candidate(
            m.recipient, m.generation, keys.mark_key(vault.master, m.lineage, m.recipient, m.generation)
        )
        for m in committed
    ]
    seed = keys.decoy_seed(keys.dataset_secret(vault.master, record.lineage))
    decoys = [keys.decoy_mark_key(seed, i) for i in range(DECOYS)]
    return accuse(votes, candidates, slots.channel, alpha=alpha, spent=spent, decoys=decoys)


def _log_outcome(vault: OpenVault, record: Dataset, result: TraceResult) -> None:
    scope = keys.scope_pseudonym(keys.dataset_secret(vault.master, record.lineage))
    run_id = f"run-{result.run}"
    with vault.store.transaction():
        run = vault.store.get_run(run_id)
        if run.outcome:
            return
        payload = {
            "run": result.run, "outcome": str(result.outcome), "corresponding": list(result.corresponding),
            "tool": VERSION,
        }  # fmt: skip
        vault.append("trace-outcome", scope, payload)
        meta = {**run.meta, "corresponding": list(result.corresponding), "votes": result.accusation.votes}
        vault.store.finish_run(run_id, str(result.outcome), meta)
