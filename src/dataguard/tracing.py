"""The investigator's shell, second part: whose copy does a suspect correspond to.

A trace freezes its votes and logs their digest before any mark key is loaded; every run
is kept, whatever it says.
"""

from __future__ import annotations

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
from dataguard.model import COMPARE_ALPHA, TRACE_ALPHA, Outcome
from dataguard.registry import ledger
from dataguard.registry.commitments import Tree
from dataguard.registry.store import Dataset, Run
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
class TraceResult:
    """Which copies a suspect corresponds to.

    Attributes
    ----------
    dataset, version : str, int
    accusation : Accusation
    aligned_rows : int
        Suspect rows matched to a row of the original.
    examined_rows : int
        Suspect rows that were looked at: all, or of a large suspect as many as are needed.
    voting_rows : int
        Of these, rows with at least one readable slot.
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
    examined_rows: int
    voting_rows: int
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
            "examined_rows": self.examined_rows,
            "voting_rows": self.voting_rows,
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

    def _repr_html_(self) -> str:
        from html import escape

        rows = "".join(
            f"<tr><td>{escape(r.recipient)}</td><td>{r.agreeing}</td><td>{r.log10_p_adjusted:.1f}</td></tr>"
            for r in self.accusation.recipients[:10]
        )
        return (
            f"<p><b>{escape(str(self.outcome))}</b>: {self.accusation.votes} votes from {self.voting_rows} rows</p>"
            f"<table><tr><th>recipient</th><th>agreeing</th><th>log10 p, adjusted</th></tr>{rows}</table>"
        )


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
    record, held, original, aligned = _best_version(vault, versions, handler, content, tree)
    used = _voting_rows(aligned, tree)
    readings = handler.votes(original, content, held.slots, used)
    votes = tally(held.slots, readings)
    digest = source.sha256()
    entry, k, repeated = _log_run(vault, record, tree, votes, digest, alpha)
    accusation = _load_keys_and_accuse(vault, record, held.slots, votes, alpha=alpha, spent=k)
    result = TraceResult(
        dataset=record.name,
        version=record.version,
        accusation=accusation,
        aligned_rows=len(aligned.suspect_row),
        examined_rows=aligned.n_suspect,
        voting_rows=len(np.unique(readings.unit)),
        alpha=alpha,
        votes_digest=votes.digest(),
        run=entry,
        repeated=repeated,
    )
    _log_outcome(vault, record, result)
    return Traced(result, record, handler, held, original, content, used, votes, tree, digest)


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
    for record in reversed(versions):
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


def _log_run(
    vault: OpenVault, record: Dataset, tree: Tree, votes: Votes, suspect_sha256: str, alpha: float
) -> tuple[int, int, bool]:
    """Log the frozen votes, before any key is loaded; return (ledger sequence, k, repeated).

    The same votes against the same committed keys are the same test, and spend nothing
    again: the earlier entry stands.
    """
    secret = keys.dataset_secret(vault.master, record.lineage)
    scope = keys.scope_pseudonym(secret)
    digest = votes.digest()
    with vault.store.transaction():
        committed = len(vault.store.list_mark_keys(lineage=record.lineage))
        runs = [
            r
            for d in vault.store.list_datasets(lineage=record.lineage)
            for r in vault.store.list_runs(dataset_id=d.id)
        ]
        for run in runs:
            same = (
                run.votes_digest == digest
                and run.meta["mark_keys"] == committed
                and run.dataset_id == record.id
            )
            if same and run.meta["alpha"] == repr(alpha):
                return int(run.meta["seq"]), run.k, True
        k = ledger.count(vault.store, "trace-run", scope) + 1
        payload = {
            "dataset": record.name, "lineage": record.lineage, "version": record.version,
            "suspect_sha256": suspect_sha256, "suspect_rows_root": tree.root.hex(), "suspect_rows": tree.size,
            "votes_digest": digest, "votes": len(votes), "alpha": repr(alpha), "mark_keys": committed, "tool": VERSION,
        }  # fmt: skip
        entry = vault.append("trace-run", scope, payload)
        meta = {
            "seq": entry.seq,
            "mark_keys": committed,
            "alpha": repr(alpha),
            "suspect_sha256": suspect_sha256,
        }
        vault.store.add_run(Run(f"run-{entry.seq}", record.id, entry.time, digest, k, "", meta))
    return entry.seq, k, False


def _load_keys_and_accuse(
    vault: OpenVault, record: Dataset, slots: Slots, votes: Votes, *, alpha: float, spent: int
) -> Accusation:
    candidates = [
        Candidate(
            m.recipient, m.generation, keys.mark_key(vault.master, m.lineage, m.recipient, m.generation)
        )
        for m in vault.store.list_mark_keys(lineage=record.lineage)
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
