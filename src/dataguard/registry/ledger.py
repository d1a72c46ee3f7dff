"""The tamper-evident ledger: what was registered, committed, handed out and traced, in order.

A Merkle tree (RFC 9162) over headers that hide their payloads: an outsider who holds the
headers recomputes the root and counts entries, and sees a payload only when it is opened.
Pure functions over any `Store`; clock and entropy come as arguments.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from dataguard import dsse, merkle
from dataguard.canonical import body_digest, canonical_json, leaf_bytes, parse_json
from dataguard.errors import EvidenceError, LedgerError, UsageError
from dataguard.registry.store import CheckpointRow, Json, LedgerRow, Store

__all__ = [
    "CHECKPOINT_TYPE",
    "TYPES",
    "Checkpoint",
    "Entry",
    "Step",
    "append",
    "checkpoint",
    "consistency",
    "count",
    "entries",
    "headers",
    "inclusion",
    "opening",
    "read_checkpoint",
    "root",
    "verify",
]

TYPES = ("vault-init", "registration", "mark-key", "export", "trace-run", "trace-outcome", "key-opened")
"""Kinds of entries this program writes; others (of later programs) are read and verified all the same."""
CHECKPOINT_TYPE = "application/vnd.dataguard.checkpoint.v1+json"
"""DSSE payload type of a signed tree head."""

_UTC = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?Z")


@dataclass(frozen=True, slots=True)
class Entry:
    """One ledger entry with its payload open.

    Attributes
    ----------
    seq : int
        Position, from 0.
    time : str
        RFC 3339 UTC; also inside `payload`, where the leaf commits to it.
    type, scope : str
        As in the header: one of `TYPES`, and the pseudonym of a lineage or ``""``.
    payload : mapping
        What was recorded.
    salt : bytes
        32 bytes; secret until the entry is opened.
    leaf_hash : bytes
        32 bytes, RFC 9162 leaf hash of the header.
    """

    seq: int
    time: str
    type: str
    scope: str
    payload: Json
    salt: bytes = field(repr=False)
    leaf_hash: bytes


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A signed statement of the ledger's size and root at a time.

    Attributes
    ----------
    origin : str
        Name of the ledger.
    size : int
        Number of entries covered.
    root : str
        Hex root over them.
    time : str
        RFC 3339 UTC by the signer's clock; only an outside time-stamp makes it more than that.
    envelope : bytes
        The signed DSSE envelope, JSON.
    """

    origin: str
    size: int
    root: str
    time: str
    envelope: bytes = field(repr=False)


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


def append(store: Store, type: str, scope: str, payload: Json, *, salt: bytes, time: str) -> Entry:  # noqa: A002
    """Append an entry and return it; durable on return, or with the transaction around it.

    Parameters
    ----------
    store : Store
        Where to.
    type, scope : str
        One of `TYPES`; ``keys.scope_pseudonym`` of the dataset, or ``""``.
    payload : mapping
        JSON fields. The key ``time`` is added, so that the leaf commits to it.
    salt : bytes
        32 fresh random bytes.
    time : str
        RFC 3339 UTC, ending in Z.

    Raises
    ------
    UsageError
        An unknown type, malformed scope, salt or time, or a payload without canonical form.
    """
    if type not in TYPES:
        raise UsageError(f"unknown kind of ledger entry {type!r}", remedy=f"use one of {', '.join(TYPES)}")
    _require_utc(time)
    if "time" in payload:
        raise UsageError("ledger payload brings its own time", remedy="pass it as the argument")
    document = {**payload, "time": time}
    body = body_digest(salt, document)
    with store.transaction():
        seq = store.ledger_size()
        leaf_hash = merkle.leaf_hash(leaf_bytes(seq, type, scope, body))
        store.append_ledger(LedgerRow(seq, type, scope, canonical_json(document), salt, leaf_hash))
    return Entry(seq, time, type, scope, document, salt, leaf_hash)


def entries(store: Store, start: int = 0, stop: int | None = None) -> list[Entry]:
    """Return entries start..stop-1 in order.

    Raises
    ------
    LedgerError
        A row that cannot be read; `verify` tells more.
    """
    return [_entry(row) for row in store.ledger_rows(start, stop)]


def headers(store: Store, upto: int | None = None) -> list[dict[str, Any]]:
    """Return the publishable headers ``{v, seq, type, scope, body}`` of the first `upto` entries.

    ``canonical.check_headers`` turns them into leaf hashes on the reader's side.
    """
    return [_header(row) for row in store.ledger_rows(0, upto)]


def opening(entry: Entry) -> dict[str, Any]:
    """Return what an outsider needs to check one entry: header, payload, salt (hex) and time.

    ``canonical.check_opening`` turns it into the leaf hash; the root comes from `inclusion`.
    """
    return {
        "v": 1,
        "seq": entry.seq,
        "type": entry.type,
        "scope": entry.scope,
        "body": body_digest(entry.salt, entry.payload),
        "payload": dict(entry.payload),
        "salt": entry.salt.hex(),
        "time": entry.time,
    }


def root(store: Store, size: int | None = None) -> bytes:
    """Return the root over the first `size` entries, by default all.

    Raises
    ------
    UsageError
        The ledger has fewer entries.
    """
    return merkle.root(_leaf_hashes(store, size))


def inclusion(store: Store, seqs: Iterable[int], size: int | None = None) -> list[bytes]:
    """Return one proof, for ``merkle.verify_multiproof``, of entries `seqs` in the tree of `size`."""
    return merkle.multiproof(_leaf_hashes(store, size), seqs)


def consistency(store: Store, first: int, second: int | None = None) -> list[bytes]:
    """Return the proof that the ledger of `second` entries extends the one of `first`."""
    return merkle.consistency_proof(_leaf_hashes(store, second), first)


def count(store: Store, type: str, scope: str | None = None, upto: int | None = None) -> int:  # noqa: A002
    """Return how many of the first `upto` entries have this type and scope (None: any scope)."""
    return sum(
        row.type == type and (scope is None or row.scope == scope) for row in store.ledger_rows(0, upto)
    )


def checkpoint(store: Store, signer: dsse.Signer, origin: str, time: str) -> Checkpoint:
    """Sign the current size and root, store the statement, and return it.

    Raises
    ------
    UsageError
        An empty ledger, or a malformed time.
    LedgerError
        The ledger no longer extends its last checkpoint: a fork is never signed.
    """
    _require_utc(time)
    with store.transaction():
        hashes = _leaf_hashes(store, None)
        if not hashes:
            raise UsageError("ledger is empty", remedy="nothing to sign yet")
        earlier = [_statement(row.envelope) for row in store.list_checkpoints()[-1:]]
        heads = merkle.roots(hashes, [len(hashes), *(one.size for one in earlier)])
        if any(heads.get(one.size, b"").hex() != one.root for one in earlier):
            raise LedgerError(
                "ledger does not extend its last checkpoint", remedy="run: dataguard ledger verify"
            )
        head = heads[len(hashes)].hex()
        document = canonical_json({"origin": origin, "size": len(hashes), "root": head, "time": time})
        envelope = dsse.to_json(dsse.sign(document, CHECKPOINT_TYPE, signer))
        store.append_checkpoint(CheckpointRow(len(hashes), time, envelope))
    return Checkpoint(origin, len(hashes), head, time, envelope)


def read_checkpoint(envelope: bytes, public_key: bytes) -> Checkpoint:
    """Return the checkpoint in a signed envelope after checking its signature and form.

    Raises
    ------
    EvidenceError
        Not an envelope, another type, a bad signature, or malformed fields.
    """
    dsse.verify(dsse.from_json(envelope), public_key, payload_type=CHECKPOINT_TYPE)
    return _statement(envelope)


def verify(store: Store, public_key: bytes, *, witnessed: Sequence[bytes] = ()) -> list[Step]:
    """Check the whole ledger and return the numbered steps; it is trusted if all are ``ok``.

    1. Sequence numbers run 0, 1, 2, ... without a gap.
    2. Every payload is canonical, carries its time, and header fields are well formed.
    3. Every stored leaf hash follows from header, payload and salt.
    4. Every stored checkpoint is signed by `public_key` and agrees with its row.
    5. Every checkpoint's root is the root of that many first entries; sizes never shrink.
    6. The same for checkpoints kept outside (`witnessed`): only these reveal a ledger that its own
       key holder rewrote and signed anew.

    Parameters
    ----------
    store : Store
        The ledger.
    public_key : bytes
        Raw 32-byte Ed25519 key, from somewhere trusted.
    witnessed : sequence of bytes
        Checkpoint envelopes (JSON) that others kept.
    """
    rows = store.ledger_rows()
    gaps = [f"row {i} has number {row.seq}" for i, row in enumerate(rows) if row.seq != i]
    malformed, wrong, hashes = [], [], []
    for row in rows:
        try:
            computed = _computed_hash(_entry(row))
        except LedgerError as error:
            malformed.append(str(error))
            computed = row.leaf_hash
        if computed != row.leaf_hash:
            wrong.append(f"entry {row.seq}")
        hashes.append(computed)
    stored = store.list_checkpoints()
    signed, unsigned = _signed([row.envelope for row in stored], public_key)
    unsigned += [
        f"checkpoint {i} differs from its row"
        for i, one in signed.items()
        if (one.size, one.time) != (stored[i].size, stored[i].time)
    ]
    covered = max((one.size for one in signed.values()), default=0)
    tail = f"{len(rows) - covered} entries after the last one" if signed else "no checkpoint yet"
    steps = [
        _step(1, "sequence", gaps, f"{len(rows)} entries"),
        _step(2, "entries", malformed, f"{len(rows)} entries well formed"),
        _step(3, "leaf hashes", wrong, f"{len(rows)} hashes recomputed"),
        _step(4, "checkpoint signatures", unsigned, f"{len(stored)} checkpoints"),
        _step(5, "checkpoint roots", _misfits(hashes, list(signed.values())), tail),
    ]
    if witnessed:
        kept, bad = _signed(witnessed, public_key)
        by_size = sorted(kept.values(), key=lambda one: one.size)
        steps.append(_step(6, "witnessed checkpoints", bad + _misfits(hashes, by_size), f"{len(kept)} agree"))
    return steps


def _step(n: int, name: str, problems: Sequence[str], good: str) -> Step:
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return Step(n, name, not problems, problems[0] + more if problems else good)


def _signed(envelopes: Sequence[bytes], public_key: bytes) -> tuple[dict[int, Checkpoint], list[str]]:
    good, bad = {}, []
    for i, envelope in enumerate(envelopes):
        try:
            good[i] = read_checkpoint(envelope, public_key)
        except EvidenceError as error:
            bad.append(f"checkpoint {i}: {error.what}")
    return good, bad


def _misfits(hashes: Sequence[bytes], checkpoints: Sequence[Checkpoint]) -> list[str]:
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


def _leaf_hashes(store: Store, size: int | None) -> list[bytes]:
    rows = store.ledger_rows(0, size)
    if size is not None and len(rows) != size:
        raise UsageError(f"ledger has {len(rows)} entries, not {size}", remedy="ask for an earlier size")
    return [row.leaf_hash for row in rows]


def _computed_hash(entry: Entry) -> bytes:
    body = body_digest(entry.salt, entry.payload)
    return merkle.leaf_hash(leaf_bytes(entry.seq, entry.type, entry.scope, body))


def _header(row: LedgerRow) -> dict[str, Any]:
    body = hashlib.sha256(row.salt + row.payload).hexdigest()
    return {"v": 1, "seq": row.seq, "type": row.type, "scope": row.scope, "body": body}


def _entry(row: LedgerRow) -> Entry:
    where = f"ledger entry {row.seq}"
    try:
        payload = parse_json(row.payload)
        if not isinstance(payload, dict) or canonical_json(payload) != row.payload:
            raise LedgerError("payload is not canonical", where=where, remedy="restore the registry")
        leaf_bytes(row.seq, row.type, row.scope, body_digest(row.salt, payload))
    except (EvidenceError, UsageError) as error:
        raise LedgerError(error.what, where=where, remedy="restore the registry") from None
    time = payload.get("time")
    if not isinstance(time, str) or _UTC.fullmatch(time) is None:
        raise LedgerError("payload without a UTC time", where=where, remedy="restore the registry")
    return Entry(row.seq, time, row.type, row.scope, payload, row.salt, row.leaf_hash)


def _statement(envelope: bytes) -> Checkpoint:
    document = parse_json(dsse.from_json(envelope).payload, where="checkpoint")
    if isinstance(document, dict) and set(document) == {"origin", "size", "root", "time"}:
        origin, size, head, time = (document[name] for name in ("origin", "size", "root", "time"))
        is_text = all(isinstance(text, str) for text in (origin, head, time))
        if is_text and type(size) is int and size > 0 and re.fullmatch(r"[0-9a-f]{64}", head):
            return Checkpoint(origin, size, head, time, envelope)
    raise EvidenceError("malformed", where="checkpoint", remedy="export it again")


def _require_utc(time: str) -> None:
    if _UTC.fullmatch(time) is None:
        raise UsageError(f"time {time!r} is not RFC 3339 UTC", remedy="write 2026-01-31T09:00:00Z")
