"""How one signing key hands over to the next, so that readers who know any earlier key can follow.

The old key signs the new one, bound to the ledger and to the place in it; the ledger entry
holds that signature, and every later checkpoint carries the opened entries. Nothing else is
needed to get from the key a reader was once given to the key that signed what lies before him.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from dataguard import dsse
from dataguard.canonical import canonical_json, check_opening
from dataguard.errors import EvidenceError
from dataguard.keys import VerifyKey

__all__ = ["ENTRY", "MAX_LINKS", "Link", "acknowledge", "follow", "key_at", "read_link", "read_links"]

ENTRY = "key-rotated"
"""Type of the ledger entry of a hand-over; its scope is empty."""
MAX_LINKS = 1000
"""Most hand-overs read from one checkpoint; a bound on the work a hostile file can cause."""
_TYPE = "application/vnd.dataguard.key-rotation.v1+json"


@dataclass(frozen=True, slots=True)
class Link:
    """One hand-over whose signature holds.

    Attributes
    ----------
    seq : int
        Its place in the ledger: checkpoints of more entries than this are signed by `new`.
    old, new : bytes
        Raw public keys.
    origin : str
        Name of the ledger.
    leaf_hash : bytes
        32 bytes, of the entry.
    """

    seq: int
    old: bytes
    new: bytes
    origin: str
    leaf_hash: bytes


def acknowledge(old: dsse.Signer, new: bytes, origin: str, seq: int) -> dict[str, Any]:
    """Return the fields of the ledger entry: both public keys and the old one's signature, all in hex.

    Signed is the DSSE encoding (type ``application/vnd.dataguard.key-rotation.v1+json``) of canonical
    JSON ``{"new", "old", "origin", "seq"}``.
    """
    fields = {"old": old.public_bytes.hex(), "new": new.hex(), "origin": origin}
    return {**fields, "signature": old.sign(_message(fields, seq)).hex()}


def _message(fields: Mapping[str, Any], seq: int) -> bytes:
    document = {name: fields[name] for name in ("old", "new", "origin")}
    return dsse.pae(_TYPE, canonical_json({**document, "seq": seq}))


def read_link(opening: Mapping[str, Any]) -> Link:
    """Return the hand-over in an opened ledger entry, its signature checked.

    Raises
    ------
    EvidenceError
        Not such an entry, malformed, or not signed by the old key.
    """
    leaf = check_opening(opening)
    payload, seq, where = opening["payload"], opening["seq"], f"ledger entry {opening['seq']}"
    texts = (
        [payload.get(n) for n in ("old", "new", "origin", "signature")] if isinstance(payload, dict) else []
    )
    if (opening["type"], opening["scope"]) != (ENTRY, "") or not all(isinstance(t, str) for t in texts):
        raise EvidenceError("is no hand-over of the signing key", where=where, remedy="do not rely on it")
    try:
        old, new, signature = (bytes.fromhex(payload[name]) for name in ("old", "new", "signature"))
    except (KeyError, ValueError):
        raise EvidenceError("malformed keys", where=where, remedy="do not rely on it") from None
    if len(old) != 32 or len(new) != 32 or (old.hex(), new.hex()) != (payload["old"], payload["new"]):
        raise EvidenceError("malformed keys", where=where, remedy="do not rely on it")
    VerifyKey(old).verify(signature, _message(payload, seq))
    return Link(seq, old, new, payload["origin"], leaf)


def read_links(openings: Iterable[object], origin: str) -> tuple[Link, ...]:
    """Return an unbroken chain of hand-overs within the ledger `origin`.

    Raises
    ------
    EvidenceError
        As `read_link`; or the chain is broken, goes back to an earlier key, or is of another ledger.
    """
    listed = list(openings)
    if len(listed) > MAX_LINKS or not all(isinstance(opening, Mapping) for opening in listed):
        raise EvidenceError("malformed list of key rotations", where="checkpoint", remedy="do not rely on it")
    links = tuple(read_link(opening) for opening in listed if isinstance(opening, Mapping))
    used = [*(link.old for link in links[:1]), *(link.new for link in links)]
    for before, after in pairwise(links):
        if before.new != after.old or before.seq >= after.seq:
            raise EvidenceError("key rotations are no chain", where="checkpoint", remedy="do not rely on it")
    if len(set(used)) != len(used) or any(link.origin != origin for link in links):
        raise EvidenceError(
            "key rotations of another ledger, or back to an earlier key",
            where="checkpoint",
            remedy="do not rely on it",
        )
    return links


def key_at(links: Sequence[Link], first: bytes, size: int) -> bytes:
    """Return the public key that signs a checkpoint of `size` entries, if the ledger began with `first`."""
    return next((link.new for link in reversed(links) if link.seq < size), first)


def follow(links: Sequence[Link], known: bytes) -> bytes:
    """Return the last key of the chain if `known` stands anywhere in it, else `known`."""
    return links[-1].new if any(link.old == known for link in links) else known
