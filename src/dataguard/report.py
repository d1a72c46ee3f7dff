"""From a trace to a bundle: gather what is opened, and nothing else.

Opened are the matched rows that voted, their partners, the slots that voted with their
biases, and the one mark key of the copy the suspect corresponds to. Everything goes
through the evidence wing as plain bytes and integers.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dataguard import keys
from dataguard._version import VERSION
from dataguard.budget import DEFAULT_BUDGET, Budget
from dataguard.errors import DecodeError, EvidenceError, UsageError
from dataguard.evidence.bundle import BundleWritten, compose, write_bundle
from dataguard.evidence.case import (
    Case,
    LedgerView,
    MarkKeyOpening,
    NamedCopy,
    OpenBias,
    Opened,
    OpenRow,
    OpenSlot,
    Reading,
)
from dataguard.evidence.words import words
from dataguard.fingerprints.comparison.tables import Comparison
from dataguard.formats.arrow import ArrowSource
from dataguard.formats.atomic import remove_leftovers
from dataguard.holdings import OpenVault
from dataguard.investigate import compare_sources
from dataguard.model import COMPARE_ALPHA, TRACE_ALPHA, Finding, plain
from dataguard.reading import some_units
from dataguard.registry import ledger
from dataguard.registry.commitments import Tree
from dataguard.runs import pairing, relied_exports
from dataguard.tracing import Traced, trace_case
from dataguard.trees import Trees, TreesBuilder
from dataguard.watermarking.accusation import RecipientScore, coins, ones

__all__ = ["report"]


def report(
    vault: OpenVault,
    suspect: str | os.PathLike[str] | object,
    *,
    out: Path,
    dataset: str | None = None,
    alpha: float = TRACE_ALPHA,
    force: bool = False,
    budget: Budget = DEFAULT_BUDGET,
) -> BundleWritten:
    """Trace a suspect and write the evidence bundle, status DRAFT.

    Parameters
    ----------
    vault : OpenVault
    suspect : path or Arrow stream object
    out : Path
        Folder to make.
    dataset : str, optional
    alpha : float
    force : bool
        Replace an existing bundle.

    Raises
    ------
    UsageError, DecodeError, EvidenceError
    """
    _check_out(out, force)
    remove_leftovers(out.absolute().parent)
    traced = trace_case(vault, suspect, dataset=dataset, alpha=alpha, budget=budget)
    compared = compare_sources(
        traced.handler, traced.held.source, traced.suspect.source, COMPARE_ALPHA, budget
    )
    named = traced.result.accusation.corresponding
    best = _reportable(vault, traced, named) if named else None
    opening = _named(vault, traced, best, budget) if best is not None else None
    case = Case(
        tool=VERSION,
        created=vault.now(),
        dataset=_dataset(vault, traced),
        suspect={
            "name": _suspect_name(suspect),
            "sha256": traced.suspect.source.sha256(),
            "rows": traced.suspect.tree.size,
            "columns": list(traced.suspect.source.column_names),
            "rows_root": traced.suspect.tree.root.hex(),
        },
        comparison=_known_words(compared),
        trace=traced.result.to_dict(),
        findings=_tests(compared),
        scheme={
            "channel": traced.held.frame.channel.hex(),
            "rule": traced.held.frame.legend["rule"],
            "law": plain(traced.held.frame.law),
            "place_names": list(traced.held.frame.place_names),
            "groups": {k: list(v) for k, v in traced.held.frame.legend["groups"].items()},
        },
        named=opening,
        ledger=_ledger(vault, traced, best),
        limits=_limits(vault, traced, best),
    )
    if best is not None:
        compose(case, vault.signing)  # raises if the bundle would not verify: then no key leaves
        _log_opening(vault, traced, best)
    return write_bundle(case, out, vault.signing, force=force)


def _tests(compared: Comparison) -> tuple[Finding, ...]:
    """Return the findings a bundle has words for: those a relation of rows rests on."""
    methods = {f["method"] for f in words()["comparison_findings"]}
    return tuple(f for f in compared.findings if f.method in methods)


def _known_words(compared: Comparison) -> dict[str, Any]:
    """Return a comparison with the changes and details that a bundle has words for, and its tests alone."""
    said, document = words()["vocabulary"], compared.to_dict()
    kept = ("schema", "relation", "containment_original", "containment_suspect", "rows", "columns")
    out = {name: document[name] for name in kept}
    out["changes"] = _known(document["changes"], said["table_changes"])
    out["columns"] = [
        {
            "original": c["original"],
            "suspect": c["suspect"],
            "agreement": c["agreement"],
            "changes": _known(c["changes"], said["column_changes"]),
        }
        for c in document["columns"]
    ]
    tests = _tests(compared)
    worst = max(tests, key=lambda f: f.log10_p or 0.0, default=None)
    out["log10_p"] = None if worst is None else worst.log10_p
    out["null_hypothesis"] = said["not_computed"] if worst is None else worst.null_hypothesis
    return out


def _known(changes: list[dict[str, Any]], known: Mapping[str, Sequence[str]]) -> list[dict[str, Any]]:
    return [
        {name: value for name, value in c.items() if name == "kind" or name in known[c["kind"]]}
        for c in changes
        if c["kind"] in known
    ]


def _check_out(out: Path, force: bool) -> None:
    """Refuse a place that cannot be written, or that holds anything but a bundle, before a run is spent."""
    if out.exists():
        if not force:
            raise UsageError("exists already", where=str(out), remedy="choose another name or pass --force")
        is_bundle = (out / "statement.dsse.json").is_file() and (out / "report.json").is_file()
        is_empty = out.is_dir() and not any(out.iterdir())
        if not is_bundle and not is_empty:
            raise UsageError(
                "is no bundle, and is not replaced", where=str(out), remedy="choose another --out"
            )
    parent = out.absolute().parent
    if not parent.is_dir() or not os.access(parent, os.W_OK):
        raise UsageError(
            "is no folder that can be written to", where=str(parent), remedy="choose another place"
        )


def _limits(vault: OpenVault, traced: Traced, best: RecipientScore | None) -> tuple[str, ...]:
    """Return the keys of the limits that are special to this case; the sentences are the evidence wing's."""
    found = ["public-rows", "scope"]
    if traced.result.examined_rows < traced.suspect.tree.size:
        found.append("sampled")
    opened = best is not None and vault.is_opened(
        traced.dataset.lineage, best.recipient, best.generation, traced.result.run
    )
    return (*found, "opened-before") if opened else tuple(found)


def _log_opening(vault: OpenVault, traced: Traced, best: RecipientScore) -> None:
    """Record that this key leaves the vault: the recipient's next delivery starts a new generation."""
    if vault.is_opened(traced.dataset.lineage, best.recipient, best.generation):
        return
    payload = {
        "lineage": traced.dataset.lineage,
        "recipient": best.recipient,
        "generation": best.generation,
        "run": traced.result.run,
        "tool": VERSION,
    }
    vault.append("key-opened", keys.scope_pseudonym(_secret(vault, traced)), payload)


def _suspect_name(suspect: object) -> str:
    return Path(suspect).name if isinstance(suspect, (str, os.PathLike)) else "table in memory"


def _secret(vault: OpenVault, traced: Traced) -> bytes:
    return keys.dataset_secret(vault.master, traced.dataset.lineage)


def _dataset(vault: OpenVault, traced: Traced) -> dict[str, Any]:
    d = traced.dataset
    return {
        "name": d.name, "version": d.version, "kind": d.kind, "rows": d.rows,
        "columns": list(traced.held.source.column_names), "sha256": d.meta["source_sha256"],
        "scope": keys.scope_pseudonym(_secret(vault, traced)), "lineage": d.lineage,
    }  # fmt: skip


# --- the opened copy -----------------------------------------------------------------------------


def _named(vault: OpenVault, traced: Traced, best: RecipientScore, budget: Budget) -> NamedCopy:
    slots, votes = traced.slots, traced.votes
    key = keys.mark_key(vault.master, traced.dataset.lineage, best.recipient, best.generation)
    committed = vault.store.get_mark_key(traced.dataset.lineage, best.recipient, best.generation)
    exhibit = traced.handler.exhibit(traced.original, traced.look, slots, traced.alignment, votes)
    histogram = tuple(
        (c.bias, c.weight, c.count, k)
        for c, k in zip(coins(votes), ones(votes, key, slots.channel), strict=True)
    )
    pairs = pairing(traced.handler, traced.original, traced.look, traced.alignment)
    units = np.array(sorted({*exhibit.units, *pairs[:, 1].tolist()}), np.uint64)
    # The slots that voted, by their place in the plan.
    order = np.argsort(traced.slot_index[votes.slot], kind="stable")
    voted = slots.take(votes.slot[order])
    at = traced.slot_index[votes.slot[order]].tolist()
    rows = np.sort(traced.held.positions(units))
    trees = _trees(vault, traced, rows.tolist(), at, budget)
    alpha, draws = _committed(vault, traced, best)
    return NamedCopy(
        mark_key=MarkKeyOpening(best.recipient, best.generation, key, committed.salt, committed.commitment),
        histogram=histogram,
        score=best.score,
        log10_p=best.log10_p,
        log10_p_adjusted=best.log10_p_adjusted,
        rows=_open_rows(traced, trees.rows, rows),
        slots=_opened(
            trees.slots,
            [
                OpenSlot(i, int(a), tuple(int(p) for p in place), trees.slots.salt(i))
                for i, a, place in zip(at, voted.address, voted.place, strict=True)
            ],
        ),
        biases=_opened(
            trees.biases,
            [
                OpenBias(i, int(a), int(bias), trees.biases.salt(i))
                for i, a, bias in zip(at, voted.address, voted.bias, strict=True)
            ],
        ),
        suspect_rows=_open_suspect(traced, pairs[:, 0].tolist(), budget),
        readings=tuple(
            Reading(int(slots.address[o.slot]), o.unit, o.part, o.own, o.source_part) for o in exhibit.openings
        ),
        pairs=tuple((int(unit), int(own)) for unit, own in pairs),
        alpha=alpha,
        draws=draws,
    )  # fmt: skip


def _trees(vault: OpenVault, traced: Traced, rows: list[int], slots: list[int], budget: Budget) -> Trees:
    """Return the committed trees with some rows and slots opened; one pass over the version.

    Raises
    ------
    EvidenceError
        The vault holds something else than what was committed.
    """
    held, size = traced.held, traced.held.edges[-1]
    builder = TreesBuilder(
        _secret(vault, traced), traced.dataset.version,
        rows=size, slots=held.size, open_rows=rows, open_slots=slots,
    )  # fmt: skip
    for block in held.blocks():
        content = traced.handler.decode(ArrowSource(block.table, held.source.name), block.ids)
        builder.add(traced.handler.leaves(content), block.slots)
        budget.watch("open", block.first + len(block.ids), size)
        del block, content
    trees = builder.finish()
    if any(traced.dataset.roots[name] != value for name, value in trees.roots().items()):
        raise EvidenceError(
            "rows or plan differ from what was committed", where=traced.dataset.name,
            remedy="restore the vault from a backup",
        )  # fmt: skip
    return trees


def _opened(tree: Tree, leaves: Iterable[Any]) -> Opened[Any]:
    return Opened(tree.size, tree.root, tuple(leaves), tree.proof)


def _open_rows(traced: Traced, tree: Tree, rows: NDArray[np.int64]) -> Opened[OpenRow]:
    content = some_units(traced.handler, traced.held.source, rows, traced.held.ids_at(rows))
    cells = traced.handler.open_units(content, range(len(rows)))
    ids = traced.handler.ids(content)
    leaves = [OpenRow(int(i), int(u), tree.salt(int(i)), c) for i, u, c in zip(rows, ids, cells, strict=True)]
    return _opened(tree, leaves)


def _open_suspect(traced: Traced, units: list[int], budget: Budget) -> Opened[OpenRow]:
    looked = traced.handler.ids(traced.look)
    at = np.searchsorted(looked, np.array(units, np.uint64))
    cells = traced.handler.open_units(traced.look, at.tolist())
    leaves = [OpenRow(i, i, b"", c) for i, c in zip(units, cells, strict=True)]
    tree = traced.suspect.open(units, budget)
    if tree.root != traced.suspect.tree.root:
        raise DecodeError("changed while it was read", where=traced.suspect.source.name, remedy="run again")
    return _opened(tree, leaves)


def _reportable(vault: OpenVault, traced: Traced, named: Sequence[RecipientScore]) -> RecipientScore:
    """Return the first corresponding copy that was handed out in the version the suspect is read by.

    Raises
    ------
    EvidenceError
        There is none.
    """
    for r in named:
        if relied_exports(vault, traced.dataset, r.recipient, r.generation, traced.result.run):
            return r
    raise EvidenceError(
        f"read by version {traced.dataset.version}, the suspect corresponds to {named[0].recipient!r}, but no "
        "export of that version to that recipient precedes the run",
        where=traced.dataset.name,
        remedy="trace the rows of each version as a file of its own",
    )


def _committed(vault: OpenVault, traced: Traced, best: RecipientScore) -> tuple[float, int]:
    """Return the limit that counts and the number of draws, from the exports the case relies on."""
    relied = relied_exports(vault, traced.dataset, best.recipient, best.generation, traced.result.run)
    limits = [traced.result.alpha, *(float(p["alpha"]) for p in relied)]
    return min(limits), max(int(p["draws"]) for p in relied)


def _ledger(vault: OpenVault, traced: Traced, best: RecipientScore | None) -> LedgerView:
    """Return all headers, the few entries the case rests on, and a fresh signed checkpoint."""
    scope = keys.scope_pseudonym(_secret(vault, traced))
    checkpoint = ledger.checkpoint(vault.store, vault.signing, vault.origin, vault.now())
    wanted = []
    for entry in ledger.entries(vault.store, 0, checkpoint.size):
        if entry.scope != scope:
            continue
        p = entry.payload
        mine = best is not None and (p.get("recipient"), p.get("generation")) == (
            best.recipient,
            best.generation,
        )
        if (
            entry.type == "registration"
            or (entry.type in ("mark-key", "export") and mine)
            or (entry.type == "trace-run" and entry.seq == traced.result.run)
            or (entry.type == "trace-outcome" and p.get("run") == traced.result.run)
        ):
            wanted.append(ledger.opening(entry))
    headers = ledger.headers(vault.store, checkpoint.size)
    return LedgerView(checkpoint.size, tuple(headers), tuple(wanted), checkpoint.envelope)
