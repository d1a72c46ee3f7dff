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

from dataguard import dsse, merkle, succession
from dataguard.canonical import body_digest, canonical_json, leaf_bytes, parse_json
from dataguard.errors import EvidenceError, LedgerError, UsageError
from dataguard.registry.store import CheckpointRow, Json, LedgerRow, Store

__all__ = [
    "CHECKPOINT_TYPE",
    "TYPES",
    "Checkpoint",
    "Entry",
    "append",
    "check_signature",
    "checkpoint",
    "consistency",
    "count",
    "entries",
    "entry_of",
    "headers",
    "inclusion",
    "lineage_scopes",
    "opening",
    "origin_of",
    "read_checkpoint",
    "root",
    "rotate",
    "rotations",
    "statement",
]

TYPES = (
    "vault-init", "registration", "mark-key", "export", "trace-run", "trace-outcome", "key-opened",
    succession.ENTRY, "master-added",
)  # fmt: skip
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
    links : tuple of Link
        The hand-overs of the signing key up to here.
    """

    origin: str
    size: int
    root: str
    time: str
    envelope: bytes = field(repr=False)
    links: tuple[succession.Link, ...] = ()


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
    return [entry_of(row) for row in store.ledger_rows(start, stop)]


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
    return sum(scope is None or row.scope == scope for row in store.ledger_rows(0, upto, type=type))


def lineage_scopes(store: Store) -> dict[str, str]:
    """Return the scope of every registered lineage: what tells which master secret is its own."""
    rows = store.ledger_rows(type="registration")
    return {str(entry_of(row).payload.get("lineage")): row.scope for row in rows}


def checkpoint(store: Store, signer: dsse.Signer, origin: str, time: str) -> Checkpoint:
    """Sign the current size and root, store the statement, and return it.

    Raises
    ------
    UsageError
        An empty ledger, or a malformed time.
    LedgerError
        The ledger no longer extends its last checkpoint: a fork is never signed. Or the signer has been
        replaced since.
    """
    _require_utc(time)
    with store.transaction():
        hashes = _leaf_hashes(store, None)
        if not hashes:
            raise UsageError("ledger is empty", remedy="nothing to sign yet")
        earlier = [statement(row.envelope) for row in store.list_checkpoints()[-1:]]
        heads = merkle.roots(hashes, [len(hashes), *(one.size for one in earlier)])
        if any(heads.get(one.size, b"").hex() != one.root for one in earlier):
            raise LedgerError(
                "ledger does not extend its last checkpoint", remedy="run: dataguard ledger verify"
            )
        head = heads[len(hashes)].hex()
        document: dict[str, Any] = {"origin": origin, "size": len(hashes), "root": head, "time": time}
        links, openings = _rotations(store)
        if succession.key_at(links, signer.public_bytes, len(hashes)) != signer.public_bytes:
            raise LedgerError("signing key was replaced meanwhile", remedy="open the vault again")
        if openings:
            document["rotations"] = openings
        envelope = dsse.to_json(dsse.sign(canonical_json(document), CHECKPOINT_TYPE, signer))
        store.append_checkpoint(CheckpointRow(len(hashes), time, envelope))
    return Checkpoint(origin, len(hashes), head, time, envelope, links)


def rotate(
    store: Store, old: dsse.Signer, new: dsse.Signer, origin: str, *, salt: bytes, time: str, tool: str
) -> Entry:
    """Hand the ledger over from one signing key to the next, and return the entry that says so.

    One transaction: a last checkpoint by the old key, the entry with its signature over the new one, and
    a first checkpoint by the new key, which shows that somebody holds it.

    Raises
    ------
    LedgerError
        As `checkpoint`.
    """
    with store.transaction():
        checkpoint(store, old, origin, time)
        fields = succession.acknowledge(old, new.public_bytes, origin, store.ledger_size())
        entry = append(store, succession.ENTRY, "", {**fields, "tool": tool}, salt=salt, time=time)
        checkpoint(store, new, origin, time)
    return entry


def rotations(store: Store) -> tuple[succession.Link, ...]:
    """Return the hand-overs of the signing key, in order.

    Raises
    ------
    LedgerError
        They are no chain; `verify` tells more.
    """
    return _rotations(store)[0]


def _rotations(store: Store) -> tuple[tuple[succession.Link, ...], list[dict[str, Any]]]:
    openings = [opening(entry_of(row)) for row in store.ledger_rows(type=succession.ENTRY)]
    try:
        return succession.read_links(openings, origin_of(openings)), openings
    except EvidenceError as error:
        raise LedgerError(error.what, where=error.where, remedy="run: dataguard ledger verify") from None


def origin_of(openings: Sequence[Json]) -> str:
    """Return the ledger's name that the first of some hand-overs states; they must then agree on it."""
    return str(openings[0]["payload"].get("origin")) if openings else ""


def read_checkpoint(envelope: bytes, public_key: bytes) -> Checkpoint:
    """Return the checkpoint in a signed envelope after checking its signature and form.

    The key may be the one that signed, or any earlier one that has handed over to it.

    Raises
    ------
    EvidenceError
        Not an envelope, another type, a bad signature, or malformed fields.
    """
    one = statement(envelope)
    check_signature(one, succession.follow(one.links, public_key))
    return one


def _leaf_hashes(store: Store, size: int | None) -> list[bytes]:
    rows = store.ledger_rows(0, size)
    if size is not None and len(rows) != size:
        raise UsageError(f"ledger has {len(rows)} entries, not {size}", remedy="ask for an earlier size")
    return [row.leaf_hash for row in rows]


def _header(row: LedgerRow) -> dict[str, Any]:
    body = hashlib.sha256(row.salt + row.payload).hexdigest()
    return {"v": 1, "seq": row.seq, "type": row.type, "scope": row.scope, "body": body}


def entry_of(row: LedgerRow) -> Entry:
    """Return the entry in a stored row; LedgerError if it cannot be read (its leaf hash is not checked)."""
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


def check_signature(one: Checkpoint, public_key: bytes) -> None:
    """Return only if a checkpoint is signed by this key, else raise EvidenceError."""
    dsse.verify(dsse.from_json(one.envelope), public_key, payload_type=CHECKPOINT_TYPE)


def statement(envelope: bytes) -> Checkpoint:
    """Return the checkpoint in an envelope whose signature is not checked; EvidenceError if it is malformed."""
    document = parse_json(dsse.from_json(envelope).payload, where="checkpoint")
    names = {"origin", "size", "root", "time"}
    if isinstance(document, dict) and names <= set(document) <= names | {"rotations"}:
        origin, size, head, time = (document[name] for name in ("origin", "size", "root", "time"))
        listed = document.get("rotations", [])
        is_text = all(isinstance(text, str) for text in (origin, head, time))
        is_fit = is_text and type(size) is int and size > 0 and isinstance(listed, list)
        if is_fit and re.fullmatch(r"[0-9a-f]{64}", head):
            return Checkpoint(origin, size, head, time, envelope, succession.read_links(listed, origin))
    raise EvidenceError("malformed", where="checkpoint", remedy="export it again")


def _require_utc(time: str) -> None:
    if _UTC.fullmatch(time) is None:
        raise UsageError(f"time {time!r} is not RFC 3339 UTC", remedy="write 2026-01-31T09:00:00Z")
