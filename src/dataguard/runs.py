"""What the ledger is told of a trace: the frozen votes before any key is loaded, the outcome after.

Every run is kept, whatever it says; the same test again spends nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dataguard import keys
from dataguard._version import VERSION
from dataguard.carrier import Alignment, Carrier
from dataguard.holdings import OpenVault
from dataguard.registry import ledger
from dataguard.registry.commitments import Tree
from dataguard.registry.store import Dataset, MarkKey, Run
from dataguard.slots import Votes

__all__ = ["Look", "alignment_digest", "log_outcome", "log_run", "pairing", "relied_exports"]

_EXPORT_KEY = ("lineage", "version", "recipient", "generation")


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


def pairing(handler: Carrier[Any], original: Any, suspect: Any, used: Alignment) -> NDArray[np.uint64]:
    """Return the (pairs, 2) uint64 voting pairs (suspect unit, original unit id) in order of the suspect."""
    order = np.argsort(used.suspect_row, kind="stable")
    units = handler.ids(suspect)[used.suspect_row[order]]
    ids = handler.ids(original)[used.original_row[order]]
    return np.stack([units.astype(np.uint64), ids.astype(np.uint64)], axis=1)


def alignment_digest(pairs: NDArray[np.uint64]) -> str:
    """Return the SHA-256 (hex) of voting pairs; it is logged before any mark key is loaded."""
    return hashlib.sha256(b"dataguard/alignment/1" + pairs.astype("<u8").tobytes()).hexdigest()


def log_run(
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


def relied_exports(
    vault: OpenVault, record: Dataset, recipient: str, generation: int, run: int
) -> list[Mapping[str, Any]]:
    """Return the payloads of the exports of this very version to this copy that precede a run in the ledger."""
    wanted = (record.lineage, record.version, recipient, generation)
    return [
        e.payload
        for e in ledger.entries(vault.store, 0, run)
        if e.type == "export" and tuple(e.payload[k] for k in _EXPORT_KEY) == wanted
    ]


def log_outcome(
    vault: OpenVault, record: Dataset, seq: int, outcome: str, corresponding: Sequence[str], votes: int
) -> None:
    """Log what a run said, once; negatives are kept."""
    scope = keys.scope_pseudonym(keys.dataset_secret(vault.master, record.lineage))
    run_id = f"run-{seq}"
    with vault.store.transaction():
        run = vault.store.get_run(run_id)
        if run.outcome:
            return
        payload = {
            "run": seq, "outcome": outcome, "corresponding": list(corresponding),
            "tool": VERSION,
        }  # fmt: skip
        vault.append("trace-outcome", scope, payload)
        meta = {**run.meta, "corresponding": list(corresponding), "votes": votes}
        vault.store.finish_run(run_id, outcome, meta)
