"""Whether a ledger is what it says: every number, leaf, root and signature again, in numbered steps.

Apart from `ledger`, which writes, because an auditor reads only this.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dataguard import merkle, succession
from dataguard.canonical import body_digest, leaf_bytes
from dataguard.errors import EvidenceError, LedgerError
from dataguard.registry import ledger
from dataguard.registry.store import LedgerRow, Store

__all__ = ["Step", "step", "verify"]


@dataclass(frozen=True, slots=True)
class Step:
    """One numbered step of `verify`: what was checked, whether it held, and the first problem if not."""

    n: int
    name: str
    ok: bool
    detail: str

    def to_dict(self) -> dict[str, Any]:
        """Return the step as the command line's JSON shows it."""
        return {"n": self.n, "name": self.name, "ok": self.ok, "detail": self.detail}


def verify(store: Store, public_key: bytes, *, witnessed: Sequence[bytes] = ()) -> list[Step]:
    """Check the whole ledger and return the numbered steps; it is trusted if all are ``ok``.

    1. Sequence numbers run 0, 1, 2, ... without a gap.
    2. Every payload is canonical, carries its time, and header fields are well formed.
    3. Every stored leaf hash follows from header, payload and salt.
    4. Every stored checkpoint is signed by the key of its time, agrees with its row, and carries the
       hand-overs before it. The first key is `public_key`; each later one is signed by the one before.
    5. Every checkpoint's root is the root of that many first entries; sizes never shrink.
    6. The same for checkpoints kept outside (`witnessed`): only these reveal a ledger that its own
       key holder rewrote and signed anew.

    Parameters
    ----------
    store : Store
        The ledger.
    public_key : bytes
        Raw 32-byte Ed25519 key the ledger began with, from somewhere trusted.
    witnessed : sequence of bytes
        Checkpoint envelopes (JSON) that others kept.
    """
    rows = store.ledger_rows()
    gaps = [f"row {i} has number {row.seq}" for i, row in enumerate(rows) if row.seq != i]
    malformed, wrong, hashes = [], [], []
    for row in rows:
        try:
            computed = _leaf_hash(ledger.entry_of(row))
        except LedgerError as error:
            malformed.append(str(error))
            computed = row.leaf_hash
        if computed != row.leaf_hash:
            wrong.append(f"entry {row.seq}")
        hashes.append(computed)
    stored = store.list_checkpoints()
    links, broken = _hand_overs(rows, public_key)
    signed, unsigned = _signed([row.envelope for row in stored], public_key, links)
    unsigned = broken + unsigned
    unsigned += [
        f"checkpoint {i} differs from its row"
        for i, one in signed.items()
        if (one.size, one.time) != (stored[i].size, stored[i].time)
    ]
    covered = max((one.size for one in signed.values()), default=0)
    tail = f"{len(rows) - covered} entries after the last one" if signed else "no checkpoint yet"
    steps = [
        step(1, "sequence", gaps, f"{len(rows)} entries"),
        step(2, "entries", malformed, f"{len(rows)} entries well formed"),
        step(3, "leaf hashes", wrong, f"{len(rows)} hashes recomputed"),
        step(4, "checkpoint signatures", unsigned, f"{len(stored)} checkpoints, {len(links) + 1} keys"),
        step(5, "checkpoint roots", _misfits(hashes, list(signed.values())), tail),
    ]
    if witnessed:
        kept, bad = _signed(witnessed, public_key, links)
        by_size = sorted(kept.values(), key=lambda one: one.size)
        steps.append(step(6, "witnessed checkpoints", bad + _misfits(hashes, by_size), f"{len(kept)} agree"))
    return steps


def step(n: int, name: str, problems: Sequence[str], good: str) -> Step:
    """Return a step that holds if there are no problems, and tells the first of them if not."""
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return Step(n, name, not problems, problems[0] + more if problems else good)


def _hand_overs(rows: Sequence[LedgerRow], first: bytes) -> tuple[tuple[succession.Link, ...], list[str]]:
    """Return the hand-overs of the signing key, or none and what is wrong with them."""
    try:
        openings = [ledger.opening(ledger.entry_of(row)) for row in rows if row.type == succession.ENTRY]
        links = succession.read_links(openings, ledger.origin_of(openings))
    except (EvidenceError, LedgerError) as error:
        return (), [str(error)]
    if links and links[0].old != first:
        return (), [f"ledger entry {links[0].seq}: hands over from another key than the first"]
    return links, []


def _signed(
    envelopes: Sequence[bytes], first: bytes, links: Sequence[succession.Link]
) -> tuple[dict[int, ledger.Checkpoint], list[str]]:
    good, bad = {}, []
    for i, envelope in enumerate(envelopes):
        try:
            one = ledger.statement(envelope)
            ledger.check_signature(one, succession.key_at(links, first, one.size))
        except EvidenceError as error:
            bad.append(f"checkpoint {i}: {error.what}")
            continue
        if one.links != tuple(link for link in links if link.seq < one.size):
            bad.append(f"checkpoint {i}: lists other key rotations than the ledger")
        good[i] = one
    return good, bad


def _misfits(hashes: Sequence[bytes], checkpoints: Sequence[ledger.Checkpoint]) -> list[str]:
    heads = merkle.roots(hashes, (one.size for one in checkpoints))
    problems, last = [], 0
    for one in checkpoints:
        if one.size < last:
            problems.append(f"checkpoint of size {one.size} follows one of size {last}")
        elif one.size > len(hashes):
            problems.append(f"checkpoint covers {one.size} entries, the ledger has {len(hashes)}")
        elif heads[one.size].hex() != one.root:
            problems.append(f"checkpoint of size {one.size} has another root than the entries")
        last = max(last, one.size)
    return problems


def _leaf_hash(entry: ledger.Entry) -> bytes:
    body = body_digest(entry.salt, entry.payload)
    return merkle.leaf_hash(leaf_bytes(entry.seq, entry.type, entry.scope, body))
