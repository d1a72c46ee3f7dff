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
from dataguard.budget import DEFAULT_BUDGET, Budget
from dataguard.carrier import Alignment, Carrier
from dataguard.errors import UsageError
from dataguard.fingerprints.engines import default_engines
from dataguard.formats.source import Source, open_source
from dataguard.holdings import Holding, OpenVault
from dataguard.investigate import matches, newest
from dataguard.modalities.discovery import carrier
from dataguard.model import COMPARE_ALPHA, TRACE_ALPHA, Outcome, Shown
from dataguard.reading import MEMORY_PER_LOOK, Suspect, narrowed, some_units
from dataguard.registry.store import Dataset, MarkKey
from dataguard.runs import Look, alignment_digest, log_outcome, log_run, pairing, relied_exports
from dataguard.slots import Slots, Votes, tally
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

MOST_NAMES = 30
"""Registered datasets an error lists."""


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
    also_found, unavailable : tuple of str, optional
        Where no dataset was named: others that occur in the suspect, and those that could not be looked
        for, with the reason. Never in a bundle: what else is registered is not the other side's business.
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
    also_found: tuple[str, ...] | None = None
    unavailable: tuple[str, ...] | None = None

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
        choice = {"also_found": self.also_found, "unavailable": self.unavailable}
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
            **{name: list(found) for name, found in choice.items() if found is not None},
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Choice:
    """Which dataset a suspect is traced on; what else was seen while it was looked for (see `TraceResult`)."""

    dataset: str
    also_found: tuple[str, ...] | None = None
    unavailable: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Traced:
    """A trace with everything a report needs to open it.

    Attributes
    ----------
    result : TraceResult
    dataset : Dataset
    handler : Carrier
    held : Holding
    suspect : Suspect
    original, look : content of the kind
        The units of the original that voted with their partners, and the units of the suspect that
        were looked at.
    alignment : Alignment
        Of these two, restricted to units that may vote.
    slots : Slots
        Those that the units could speak of.
    slot_index : (n,) int64
        Their positions in the plan.
    votes : Votes
        On `slots`.
    choice : Choice, optional
    """

    result: TraceResult
    dataset: Dataset
    handler: Carrier[Any]
    held: Holding
    suspect: Suspect
    original: Any
    look: Any
    alignment: Alignment
    slots: Slots
    slot_index: NDArray[np.int64]
    votes: Votes
    choice: Choice | None = None


@dataclass(frozen=True, slots=True)
class _Read:
    """A version the suspect may be read by; rows of the alignment are positions in the whole original."""

    record: Dataset
    held: Holding
    look: Any
    aligned: Alignment


def trace(
    vault: OpenVault,
    suspect: str | os.PathLike[str] | object,
    *,
    dataset: str | None = None,
    alpha: float = TRACE_ALPHA,
    budget: Budget = DEFAULT_BUDGET,
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
    budget : Budget
    """
    traced = trace_case(vault, suspect, dataset=dataset, alpha=alpha, budget=budget)
    choice = traced.choice or Choice(traced.result.dataset)
    return replace(traced.result, also_found=choice.also_found, unavailable=choice.unavailable)


def trace_case(
    vault: OpenVault,
    suspect: str | os.PathLike[str] | object,
    *,
    dataset: str | None = None,
    alpha: float = TRACE_ALPHA,
    budget: Budget = DEFAULT_BUDGET,
) -> Traced:
    """Trace, and return the alignment and votes as well (see :func:`trace`)."""
    if not 0 < alpha <= TRACE_ALPHA:
        raise UsageError(
            f"alpha {alpha:g} is not within (0, {TRACE_ALPHA:g}]",
            remedy=f"every export commits to {TRACE_ALPHA:g}; only a stricter one may be asked for",
        )
    source = open_source(suspect)
    choice = Choice(dataset) if dataset is not None else _choose(vault, source, budget)
    name = choice.dataset
    versions = vault.store.list_datasets(name=name)
    if not versions:
        known = ", ".join(d.name for d in newest(vault.store.list_datasets())[:10]) or "none yet"
        raise UsageError(f"no dataset {name!r} is registered", remedy=f"registered are: {known}")
    if not vault.store.list_mark_keys(lineage=versions[0].lineage):
        raise UsageError(
            "nobody has received a copy of it yet", where=name, remedy="run `dataguard protect` first"
        )
    handler = carrier(versions[0].kind)
    read = Suspect.read(source, handler, budget, FIRST_LOOK)
    digest = source.sha256()
    first = None
    for version in _readable_versions(vault, _exported(vault, versions), handler, read, budget):
        traced = _trace_version(vault, read, digest, version, alpha)
        relied = any(
            relied_exports(vault, traced.dataset, r.recipient, r.generation, traced.result.run)
            for r in traced.result.accusation.corresponding
        )
        first = first or traced
        if relied:
            return replace(traced, choice=choice)
    assert first is not None
    return replace(first, choice=choice)


def _trace_version(vault: OpenVault, suspect: Suspect, digest: str, version: _Read, alpha: float) -> Traced:
    """Trace by one version's plan: a run of its own, logged and paid."""
    handler, record, held, look = suspect.handler, version.record, version.held, version.look
    used = _voting_rows(version.aligned, suspect, handler.ids(look))
    original, used, slots, slot_index = _opened(handler, held, used)
    votes = tally(slots, handler.votes(original, look, slots, used))
    pairs = pairing(handler, original, look, used)
    aligned_rows = len(version.aligned.suspect_row)
    looked = Look(version.aligned.n_suspect, aligned_rows, len(pairs), MAX_ROWS, alignment_digest(pairs))
    entry, k, repeated, committed = log_run(vault, record, suspect.tree, votes, digest, looked, alpha)
    accusation = _load_keys_and_accuse(vault, committed, record, slots.channel, votes, alpha=alpha, spent=k)
    result = TraceResult(
        dataset=record.name,
        version=record.version,
        accusation=accusation,
        aligned_rows=looked.aligned_rows,
        suspect_rows=suspect.tree.size,
        examined_rows=looked.examined_rows,
        voting_rows=looked.voting_rows,
        alignment_digest=looked.alignment_digest,
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
    return Traced(result, record, handler, held, suspect, original, look, used, slots, slot_index, votes)


def _opened(
    handler: Carrier[Any], held: Holding, used: Alignment
) -> tuple[Any, Alignment, Slots, NDArray[np.int64]]:
    """Return the original's aligned units with their partners, the alignment to them, and the slots they touch."""
    matched = np.unique(used.original_row)
    slots, index = held.slots_at(held.ids_at(matched))
    ends = np.unique(slots.place[:, 1:]).astype(np.uint64)
    partners = held.positions(ends)
    rows = np.union1d(matched, partners[partners >= 0])
    original = some_units(handler, held.source, rows, held.ids_at(rows))
    return original, replace(used, original_row=np.searchsorted(rows, used.original_row)), slots, index


def _exported(vault: OpenVault, versions: list[Dataset]) -> list[Dataset]:
    """Return the versions that anybody has received, oldest first; all of them if none was handed out.

    A copy can only come from a version that was handed out, and a plan made after a suspect
    was seen must not be the one it is read by.
    """
    handed_out = [v for v in versions if vault.store.list_exports(dataset_id=v.id)]
    return handed_out or versions


def _readable_versions(
    vault: OpenVault, versions: list[Dataset], handler: Carrier[Any], suspect: Suspect, budget: Budget
) -> Iterator[_Read]:
    """Yield the versions the suspect may be read by, those most of its rows align to first.

    A choice without any key. Versions with less than half of the best one's rows are left
    out; among equals the older comes first. A large suspect is looked at through FIRST_LOOK
    of its rows; only if these do not give the rows that may vote, all rows that fit in memory are aligned.
    """
    at_hand, count = len(suspect.rows), FIRST_LOOK
    held_all = [vault.holding(record) for record in versions]
    large = [held for held in held_all if not held.is_whole]
    if large:  # of a large original only so many rows can be looked for at a time
        at_hand = count = min(FIRST_LOOK, *(held.edges[1] // MEMORY_PER_LOOK for held in large))
    look = suspect.look(count)
    found = []
    for record, held in zip(versions, held_all, strict=True):
        found.append(_Read(record, held, look, _align(handler, held, look, budget)))
    found.sort(key=lambda read: -len(read.aligned.suspect_row))
    most = len(found[0].aligned.suspect_row)
    for read in found:
        matched = len(read.aligned.suspect_row)
        if 2 * matched < most:
            continue
        if at_hand <= count or matched >= MAX_ROWS:
            yield read
        else:
            every = suspect.look(at_hand)
            yield replace(read, look=every, aligned=_align(handler, read.held, every, budget))


def _align(handler: Carrier[Any], held: Holding, look: Any, budget: Budget) -> Alignment:
    """Align to one version, given whole or narrowed down; original rows are positions in the whole."""
    engines = default_engines()
    if held.is_whole:
        return handler.align(handler.decode(held.source), look, engines)
    original, positions = narrowed(handler, held.source, held.edges, look, budget)
    aligned = handler.align(original, look, engines)
    return replace(aligned, original_row=positions[aligned.original_row], n_original=held.edges[-1])


def _choose(vault: OpenVault, source: Source, budget: Budget) -> Choice:
    """Return the dataset, handed out to somebody, that most of a suspect's rows are found in.

    Where only one is registered there is no choice, whatever the suspect is.
    """
    datasets = newest(vault.store.list_datasets())
    if len(datasets) == 1:
        return Choice(datasets[0].name, (), ())
    seen = matches(vault, source, datasets, COMPARE_ALPHA, budget)
    given = {d.name for d in datasets if vault.store.list_mark_keys(lineage=d.lineage)}
    names = [
        str(m["dataset"])
        for m in sorted(
            seen.matches, key=lambda m: (m["dataset"] not in given, -m["containment_suspect"]["estimate"])
        )
    ]
    if names:
        return Choice(names[0], tuple(names[1:]), seen.unavailable)
    if not datasets:
        raise UsageError("no dataset is registered yet", remedy="run `dataguard register` first")
    missing = f" (not looked for: {'; '.join(seen.unavailable[:3])})" if seen.unavailable else ""
    raise UsageError(
        f"too little to recognise a dataset by{missing}",
        where=source.name,
        remedy="name one with --dataset: " + ", ".join(d.name for d in datasets[:MOST_NAMES]),
    )


def _voting_rows(aligned: Alignment, suspect: Suspect, units: NDArray[np.uint64]) -> Alignment:
    """Return at most MAX_ROWS of the aligned rows, those with the smallest leaf hashes.

    `units` are the positions in the suspect of the rows looked at.
    """
    order = np.argsort(aligned.suspect_row, kind="stable")
    keep = np.sort(order[suspect.smallest(units[aligned.suspect_row[order]], MAX_ROWS)])
    return replace(
        aligned,
        suspect_row=aligned.suspect_row[keep],
        original_row=aligned.original_row[keep],
        equal=aligned.equal[keep],
    )


def _load_keys_and_accuse(
    vault: OpenVault,
    committed: list[MarkKey],
    record: Dataset,
    channel: bytes,
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
    return accuse(votes, candidates, channel, alpha=alpha, spent=spent, decoys=decoys)
