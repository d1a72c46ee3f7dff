"""The ledger as a bundle shows it: headers of all entries, a signed checkpoint, and a few entries opened.

Counting is done on headers, which the checkpoint covers, so that neither the number of
keys nor the number of earlier runs is anybody's claim.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from dataguard import dsse, merkle, succession
from dataguard.canonical import LEAF_VERSION, canonical_json, check_headers, check_opening, parse_json
from dataguard.errors import EvidenceError
from dataguard.evidence.case import LedgerView
from dataguard.evidence.fields import Node

__all__ = [
    "CHECKPOINT_TYPE",
    "LEDGER_SCHEMA",
    "Chain",
    "Entry",
    "count_keys",
    "count_runs",
    "current_key",
    "open_entries",
    "read_chain",
    "write_ledger",
]

LEDGER_SCHEMA = "dataguard.ledger-view/1"
CHECKPOINT_TYPE = "application/vnd.dataguard.checkpoint.v1+json"
"""DSSE payload type of a signed tree head, as the ledger writes it (docs/formats.md)."""
_ROTATED = succession.ENTRY


@dataclass(frozen=True, slots=True)
class Entry:
    """An opened ledger entry that fits its header.

    Attributes
    ----------
    seq : int
    type : str
    scope : str
    time : str
    payload : Node
    """

    seq: int
    type: str
    scope: str
    time: str
    payload: Node


@dataclass(frozen=True, slots=True)
class Chain:
    """A ledger whose headers hash to the root of a signed checkpoint.

    Attributes
    ----------
    headers : tuple of mapping
        Well-formed headers 0, 1, 2, ...
    leaves : tuple of bytes
        Their leaf hashes.
    root : str
        Hex.
    time : str
        Of the checkpoint, by the signer's clock.
    rotations : int
        How often the signing key was replaced before.
    """

    headers: tuple[Mapping[str, Any], ...]
    leaves: tuple[bytes, ...]
    root: str
    time: str
    rotations: int


def write_ledger(view: LedgerView) -> dict[str, Any]:
    """Return the ledger view as JSON values.

    Raises
    ------
    EvidenceError
        A checkpoint that is not JSON.
    """
    raw = view.checkpoint
    return {
        "schema": LEDGER_SCHEMA,
        "size": view.size,
        "headers": [{"v": LEAF_VERSION, **header} for header in view.headers],
        "openings": sorted((dict(opening) for opening in view.openings), key=_position),
        "checkpoint": dict(raw) if isinstance(raw, Mapping) else parse_json(raw, where="checkpoint"),
    }


def _position(opening: Mapping[str, Any]) -> int:
    seq = opening.get("seq")
    return seq if isinstance(seq, int) else -1


def read_chain(ledger: Node, public_key: bytes) -> Chain:
    """Return the chain after recomputing its root and checking the checkpoint's signature.

    Raises
    ------
    EvidenceError
        Malformed headers, a bad signature, a root or size that differs, or rotations of the signing key
        that the headers do not hold or that do not lead to `public_key`.
    """
    if ledger["schema"].text() != LEDGER_SCHEMA:
        raise ledger.fail(f"not of schema {LEDGER_SCHEMA}")
    headers = tuple(item.mapping() for item in ledger["headers"].items())
    leaves = tuple(check_headers(headers))
    root = merkle.root(leaves).hex()
    checkpoint = ledger["checkpoint"]
    envelope = dsse.from_json(canonical_json(checkpoint.mapping()), where=checkpoint.where)
    payload = dsse.verify(envelope, public_key, payload_type=CHECKPOINT_TYPE)
    signed = Node(parse_json(payload, where=checkpoint.where), checkpoint.where)
    size = signed["size"].integer(1)
    if size != len(headers) or ledger["size"].integer(1) != size:
        raise ledger.fail(f"{len(headers)} headers under a checkpoint of {size} entries")
    if signed["root"].text() != root:
        raise ledger.fail("the headers do not hash to the root of the checkpoint")
    links = _links(signed)
    held = tuple((h["seq"], leaf) for h, leaf in zip(headers, leaves, strict=True) if h["type"] == _ROTATED)
    if held != tuple((link.seq, link.leaf_hash) for link in links):
        raise checkpoint.fail("key rotations are not those of the ledger")
    if links and links[-1].new != public_key:
        raise checkpoint.fail("key rotations lead to another key than the one that signed")
    return Chain(headers, leaves, root, signed["time"].text(), len(links))


def current_key(ledger: Node, known: bytes) -> bytes:
    """Return the key that `known` has handed over to, by the signatures in the checkpoint, else `known`.

    The hand-overs are signed, the checkpoint is not checked here: that is `read_chain`'s.

    Raises
    ------
    EvidenceError
        Not a checkpoint, or a hand-over without a valid signature.
    """
    checkpoint = ledger["checkpoint"]
    payload = dsse.from_json(canonical_json(checkpoint.mapping()), where=checkpoint.where).payload
    return succession.follow(
        _links(Node(parse_json(payload, where=checkpoint.where), checkpoint.where)), known
    )


def _links(signed: Node) -> tuple[succession.Link, ...]:
    listed = signed.get("rotations")
    return () if listed is None else succession.read_links(listed.sequence(), signed["origin"].text())


def open_entries(ledger: Node, chain: Chain) -> tuple[Entry, ...]:
    """Return the opened entries, each checked against its header.

    Raises
    ------
    EvidenceError
        An opening that contradicts itself or its header, or one entry opened twice.
    """
    entries: dict[int, Entry] = {}
    for item in ledger["openings"].items():
        leaf = check_opening(item.mapping())
        seq = item["seq"].integer(0)
        where = f"ledger entry {seq}"
        if seq >= len(chain.leaves) or chain.leaves[seq] != leaf:
            raise EvidenceError("does not fit its header", where=where, remedy="do not rely on it")
        if seq in entries:
            raise EvidenceError("opened twice", where=where, remedy="export the ledger view again")
        payload = Node(item["payload"].mapping(), where)
        entries[seq] = Entry(seq, item["type"].text(), item["scope"].text(), item["time"].text(), payload)
    return tuple(entries[seq] for seq in sorted(entries))


def count_keys(headers: Iterable[Mapping[str, Any]], scope: str | None, run: int) -> int:
    """Return N: the mark keys committed for `scope`, or for any, before entry `run` (DESIGN 4.5)."""
    return sum(h["type"] == "mark-key" and scope in (None, h["scope"]) and h["seq"] < run for h in headers)


def count_runs(headers: Iterable[Mapping[str, Any]], scope: str | None, run: int) -> int:
    """Return k: the trace-runs logged for `scope`, or for any, up to and including entry `run` (DESIGN 4.5)."""
    return sum(h["type"] == "trace-run" and scope in (None, h["scope"]) and h["seq"] <= run for h in headers)
