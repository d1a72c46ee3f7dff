"""From a trace to a bundle: gather what is opened, and nothing else.

Opened are the matched rows that voted, their partners, the slots that voted with their
biases, and the one mark key of the copy the suspect corresponds to. Everything goes
through the evidence wing as plain bytes and integers.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dataguard import keys
from dataguard._version import VERSION
from dataguard.errors import EvidenceError, UsageError
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
from dataguard.fingerprints.engines import default_engines
from dataguard.holdings import OpenVault
from dataguard.model import COMPARE_ALPHA, TRACE_ALPHA, plain
from dataguard.registry import ledger
from dataguard.registry.commitments import Tree
from dataguard.runs import pairing, relied_exports
from dataguard.tracing import Traced, trace_case
from dataguard.trees import build_trees
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
    traced = trace_case(vault, suspect, dataset=dataset, alpha=alpha)
    engines = default_engines()
    whole = traced.handler.align(traced.original, traced.suspect, engines)
    compared = traced.handler.compare(traced.original, traced.suspect, whole, engines, COMPARE_ALPHA)
    named = traced.result.accusation.corresponding
    best = _reportable(vault, traced, named) if named else None
    opening = _named(vault, traced, best) if best is not None else None
    case = Case(
        tool=VERSION,
        created=vault.now(),
        dataset=_dataset(vault, traced),
        suspect={
            "name": _suspect_name(suspect),
            "sha256": traced.suspect_sha256,
            "rows": traced.tree.size,
            "columns": list(traced.handler.extent(traced.suspect)[1]),
            "rows_root": traced.tree.root.hex(),
        },
        comparison=compared.to_dict(),
        trace=traced.result.to_dict(),
        findings=compared.findings,
        scheme={
            "channel": traced.held.slots.channel.hex(),
            "rule": traced.held.slots.legend["rule"],
            "law": plain(traced.held.slots.law),
            "place_names": list(traced.held.slots.place_names),
            "groups": {k: list(v) for k, v in traced.held.slots.legend["groups"].items()},
        },
        named=opening,
        ledger=_ledger(vault, traced, best),
        limits=_limits(vault, traced, best),
    )
    if best is not None:
        compose(case, vault.signing)  # raises if the bundle would not verify: then no key leaves
        _log_opening(vault, traced, best)
    return write_bundle(case, out, vault.signing, force=force)


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
    if traced.result.examined_rows < traced.tree.size:
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
        "columns": list(traced.handler.extent(traced.original)[1]), "sha256": d.meta["source_sha256"],
        "scope": keys.scope_pseudonym(_secret(vault, traced)), "lineage": d.lineage,
    }  # fmt: skip


# --- the opened copy -----------------------------------------------------------------------------


def _named(vault: OpenVault, traced: Traced, best: RecipientScore) -> NamedCopy:
    slots, votes = traced.held.slots, traced.votes
    key = keys.mark_key(vault.master, traced.dataset.lineage, best.recipient, best.generation)
    committed = vault.store.get_mark_key(traced.dataset.lineage, best.recipient, best.generation)
    exhibit = traced.handler.exhibit(traced.original, traced.suspect, slots, traced.alignment, votes)
    leaves = traced.handler.leaves(traced.original)
    trees = build_trees(leaves, slots, _secret(vault, traced), traced.dataset.version)
    histogram = tuple(
        (c.bias, c.weight, c.count, k)
        for c, k in zip(coins(votes), ones(votes, key, slots.channel), strict=True)
    )
    voted = [int(i) for i in np.sort(votes.slot)]
    pairs = pairing(traced.handler, traced.original, traced.alignment)
    units = {*exhibit.units, *pairs[:, 1].tolist()}
    alpha, draws = _committed(vault, traced, best)
    return NamedCopy(
        mark_key=MarkKeyOpening(best.recipient, best.generation, key, committed.salt, committed.commitment),
        histogram=histogram,
        score=best.score,
        log10_p=best.log10_p,
        log10_p_adjusted=best.log10_p_adjusted,
        rows=_open_rows(traced, trees.rows, units),
        slots=_opened(
            trees.slots, voted,
            [
                OpenSlot(i, int(slots.address[i]), tuple(int(p) for p in slots.place[i]), trees.slots.salt(i))
                for i in voted
            ],
        ),
        biases=_opened(
            trees.biases, voted,
            [OpenBias(i, int(slots.address[i]), int(slots.bias[i]), trees.biases.salt(i)) for i in voted],
        ),
        suspect_rows=_open_suspect(traced, pairs[:, 0].tolist()),
        readings=tuple(
            Reading(int(slots.address[o.slot]), o.unit, o.part, o.own, o.source_part) for o in exhibit.openings
        ),
        pairs=tuple((int(unit), int(own)) for unit, own in pairs),
        alpha=alpha,
        draws=draws,
    )  # fmt: skip


def _opened(tree: Tree, indices: Sequence[int], leaves: Iterable[Any]) -> Opened[Any]:
    return Opened(tree.size, tree.root, tuple(leaves), tuple(tree.multiproof(indices)))


def _open_rows(traced: Traced, tree: Tree, units: Iterable[int]) -> Opened[OpenRow]:
    ids = traced.handler.ids(traced.original)
    at = np.flatnonzero(np.isin(ids, np.array(sorted(units), np.uint64)))
    cells = traced.handler.open_units(traced.original, at.tolist())
    leaves = [OpenRow(int(i), int(ids[i]), tree.salt(int(i)), c) for i, c in zip(at, cells, strict=True)]
    return _opened(tree, at.tolist(), leaves)


def _open_suspect(traced: Traced, at: Sequence[int]) -> Opened[OpenRow]:
    cells = traced.handler.open_units(traced.suspect, at)
    return _opened(traced.tree, at, [OpenRow(i, i, b"", c) for i, c in zip(at, cells, strict=True)])


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
