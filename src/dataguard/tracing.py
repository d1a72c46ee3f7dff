"""The investigator's shell, second part: whose copy does a suspect correspond to.

A trace freezes its votes and logs their digest before any mark key is loaded; every run
is kept, whatever it says.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dataguard import keys
from dataguard.carrier import Alignment, Carrier
from dataguard.errors import UsageError
from dataguard.fingerprints.engines import default_engines
from dataguard.formats.source import Source, open_source
from dataguard.holdings import Holding, OpenVault
from dataguard.investigate import matches, newest
from dataguard.modalities.discovery import carrier
from dataguard.model import COMPARE_ALPHA, TRACE_ALPHA, Outcome, Shown
from dataguard.registry.commitments import Tree
from dataguard.registry.store import Dataset, MarkKey
from dataguard.runs import Look, alignment_digest, log_outcome, log_run, pairing, relied_exports
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
    opened_before : tuple of str
        Corresponding recipients whose mark key an earlier report has opened: since then others can mark so too.
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
    opened_before: tuple[str, ...] = ()

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
            "opened_before": list(self.opened_before),
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
    if not 0 < alpha <= TRACE_ALPHA:
        raise UsageError(
            f"alpha {alpha:g} is not within (0, {TRACE_ALPHA:g}]",
            remedy=f"every export commits to {TRACE_ALPHA:g}; only a stricter one may be asked for",
        )
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
    first = None
    for record, held, original, aligned in _readable_versions(
        vault, _exported(vault, versions), handler, content, tree
    ):
        traced = _trace_version(vault, source, handler, content, tree, record, held, original, aligned, alpha)
        relied = any(
            relied_exports(vault, record, r.recipient, r.generation, traced.result.run)
            for r in traced.result.accusation.corresponding
        )
        first = first or traced
        if relied:
            return traced
    assert first is not None
    return first


def _trace_version(
    vault: OpenVault,
    source: Source,
    handler: Carrier[Any],
    content: Any,
    tree: Tree,
    record: Dataset,
    held: Holding,
    original: Any,
    aligned: Alignment,
    alpha: float,
) -> Traced:
    """Trace by one version's plan: a run of its own, logged and paid."""
    used = _voting_rows(aligned, tree)
    readings = handler.votes(original, content, held.slots, used)
    votes = tally(held.slots, readings)
    digest = source.sha256()
    pairs = pairing(handler, original, used)
    look = Look(aligned.n_suspect, len(aligned.suspect_row), len(pairs), MAX_ROWS, alignment_digest(pairs))
    entry, k, repeated, committed = log_run(vault, record, tree, votes, digest, look, alpha)
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
        opened_before=tuple(
            dict.fromkeys(
                r.recipient
                for r in accusation.corresponding
                if vault.is_opened(record.lineage, r.recipient, r.generation, entry)
            )
        ),
    )
    log_outcome(vault, record, entry, str(result.outcome), result.corresponding, len(votes))
    return Traced(result, record, handler, held, original, content, used, votes, tree, digest)


def _exported(vault: OpenVault, versions: list[Dataset]) -> list[Dataset]:
    """Return the versions that anybody has received, oldest first; all of them if none was handed out.

    A copy can only come from a version that was handed out, and a plan made after a suspect
    was seen must not be the one it is read by.
    """
    handed_out = [v for v in versions if vault.store.list_exports(dataset_id=v.id)]
    return handed_out or versions


def _readable_versions(
    vault: OpenVault, versions: list[Dataset], handler: Carrier[Any], content: Any, tree: Tree
) -> Iterator[tuple[Dataset, Holding, Any, Alignment]]:
    """Yield the versions the suspect may be read by, those most of its rows align to first.

    A choice without any key. Versions with less than half of the best one's rows are left
    out; among equals the older comes first. A large suspect is looked at through FIRST_LOOK
    of its rows; only if these do not give the rows that may vote, all rows are aligned.
    """
    engines = default_engines()
    rows = _smallest(tree, np.arange(tree.size), FIRST_LOOK)
    look = content if len(rows) == tree.size else handler.take(content, rows)
    found = []
    for record in versions:
        held = vault.holding(record)
        original = handler.decode(held.source, held.ids)
        found.append((record, held, original, handler.align(original, look, engines)))
    found.sort(key=lambda item: -len(item[3].suspect_row))
    most = len(found[0][3].suspect_row)
    for record, held, original, aligned in found:
        matched = len(aligned.suspect_row)
        if 2 * matched < most:
            continue
        if len(rows) == tree.size:
            yield record, held, original, aligned
        elif matched < MAX_ROWS:
            yield record, held, original, handler.align(original, content, engines)
        else:
            yield record, held, original, replace(aligned, suspect_row=rows[aligned.suspect_row])


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
    """Return the `count` rows with the smallest leaf hashes, in row order: a choice without any key."""
    if len(rows) <= count:
        return rows
    head = tree.levels[0][rows, :8].copy().view(">u8").ravel()
    return np.sort(rows[np.argsort(head, kind="stable")[:count]])


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
