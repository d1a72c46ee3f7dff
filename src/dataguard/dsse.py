"""Signed envelopes: DSSE v1 (Dead Simple Signing Envelope) with Ed25519.

One envelope carries the bytes, their type and the signatures, so that nothing has to be
canonicalised again before a signature is checked. Written by hand because it is short;
the tests compare it with an independent implementation.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from dataguard.errors import EvidenceError, UsageError

__all__ = [
    "MAX_ENVELOPE_BYTES",
    "MAX_SIGNATURES",
    "Envelope",
    "Signature",
    "Signer",
    "from_json",
    "keyid",
    "pae",
    "sign",
    "to_json",
    "verify",
]

MAX_ENVELOPE_BYTES = 96 * 1024 * 1024
"""Largest envelope read, bytes: a 64 MiB payload grows by 4/3 in base64."""
MAX_SIGNATURES = 16
"""Most signatures read from one envelope; a bound on the work a hostile file can cause."""
_PUBLIC_BYTES = 32


class Signer(Protocol):
    """What signs: `dataguard.keys.SigningKey`, or a hardware token with the same two members."""

    @property
    def public_bytes(self) -> bytes:
        """The raw 32-byte Ed25519 public key."""
        ...

    def sign(self, message: bytes) -> bytes:
        """Return the 64-byte Ed25519 signature of `message`."""
        ...


@dataclass(frozen=True, slots=True)
class Signature:
    """One signature over the pre-authentication encoding.

    Attributes
    ----------
    keyid : str
        Hint which key signed (hex SHA-256 of the raw public key); not authenticated.
    sig : bytes
        64-byte Ed25519 signature.
    """

    keyid: str
    sig: bytes


@dataclass(frozen=True, slots=True)
class Envelope:
    """A payload with its type and signatures. Holding one proves nothing: call `verify`.

    Attributes
    ----------
    payload : bytes
        The signed bytes.
    payload_type : str
        Media type or URI of the payload; covered by the signature.
    signatures : tuple of Signature
        At least one.
    """

    payload: bytes
    payload_type: str
    signatures: tuple[Signature, ...]


def keyid(public_key: bytes) -> str:
    """Return the key id: hex SHA-256 of the raw 32-byte Ed25519 public key."""
    return hashlib.sha256(public_key).hexdigest()


def pae(payload_type: str, payload: bytes) -> bytes:
    """Return the pre-authentication encoding, the bytes that are signed (DSSE v1 protocol).

    ``"DSSEv1" SP len(type) SP type SP len(payload) SP payload``, lengths in decimal bytes.
    """
    kind = payload_type.encode("utf-8")
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def sign(payload: bytes, payload_type: str, signer: Signer) -> Envelope:
    """Return `payload` in an envelope signed by `signer`.

    Raises
    ------
    UsageError
        An empty payload type, or one that is not printable ASCII.
    """
    if not payload_type or not payload_type.isascii() or not payload_type.isprintable():
        raise UsageError("payload type is not printable ASCII", remedy="use a media type")
    signature = Signature(keyid(signer.public_bytes), signer.sign(pae(payload_type, payload)))
    return Envelope(payload, payload_type, (signature,))


def verify(envelope: Envelope, public_key: bytes, *, payload_type: str | None = None) -> bytes:
    """Return the payload if one of the signatures is valid under `public_key`.

    The key id is only a hint and decides nothing (DSSE v1: it is not authenticated).

    Parameters
    ----------
    envelope : Envelope
        As read by `from_json` or made by `sign`.
    public_key : bytes
        Raw 32-byte Ed25519 public key, obtained from somewhere trusted.
    payload_type : str, optional
        The type the caller is about to interpret the payload as. Pass it: a valid signature
        over a document of another type must not count.

    Raises
    ------
    EvidenceError
        No valid signature, another payload type, or a malformed key.
    """
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    if len(public_key) != _PUBLIC_BYTES:
        raise EvidenceError(f"public key of {len(public_key)} bytes", remedy="pass the raw 32 bytes")
    if payload_type is not None and envelope.payload_type != payload_type:
        raise EvidenceError(
            f"signed document is of type {envelope.payload_type!r}", remedy=f"expected {payload_type!r}"
        )
    message = pae(envelope.payload_type, envelope.payload)
    key = Ed25519PublicKey.from_public_bytes(public_key)
    for signature in envelope.signatures[:MAX_SIGNATURES]:
        try:
            key.verify(signature.sig, message)
        except InvalidSignature:
            continue
        return envelope.payload
    raise EvidenceError(
        f"no valid signature by key {keyid(public_key)[:16]}",
        remedy="the document was changed, or another key signed it; do not rely on it",
    )


def to_json(envelope: Envelope) -> bytes:
    """Return the envelope as JSON: sorted keys, no white space, standard base64.

    All text is ASCII, so this is also the RFC 8785 form.
    """
    document = {
        "payload": base64.b64encode(envelope.payload).decode(),
        "payloadType": envelope.payload_type,
        "signatures": [
            {"keyid": s.keyid, "sig": base64.b64encode(s.sig).decode()} for s in envelope.signatures
        ],
    }
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode("ascii")


def from_json(data: bytes, *, where: str = "") -> Envelope:
    """Return the envelope written in `data`; its signatures are not checked yet.

    Both base64 alphabets are read, as DSSE v1 demands, but only in canonical form: every
    changed byte of a stored envelope is to be noticed, unused padding bits included.
    Repeated keys are refused, unknown fields ignored (DSSE v1 allows more of them).

    Raises
    ------
    EvidenceError
        Not an envelope.
    """
    if len(data) > MAX_ENVELOPE_BYTES:
        raise EvidenceError(
            f"envelope of {len(data)} bytes", where=where, remedy=f"limit {MAX_ENVELOPE_BYTES}"
        )
    try:
        # RecursionError: a hostile file of brackets. ValueError: bad JSON, bad UTF-8, a repeated
        # key, bad base64 (binascii.Error). The rest: a value of the wrong type or a missing one.
        document = json.loads(data.decode("utf-8"), object_pairs_hook=_unique)
        signatures = _signatures(document["signatures"])
        payload_type = _text(document["payloadType"])
        payload = _base64(document["payload"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        detail = f"missing {error}" if isinstance(error, KeyError) else type(error).__name__
        raise EvidenceError(
            f"not a signed envelope ({detail})", where=where, remedy="export the document again"
        ) from None
    return Envelope(payload, payload_type, signatures)


def _signatures(rows: object) -> tuple[Signature, ...]:
    if not isinstance(rows, list) or not 1 <= len(rows) <= MAX_SIGNATURES:
        raise ValueError
    if not all(isinstance(row, dict) for row in rows):
        raise TypeError
    return tuple(Signature(_text(row.get("keyid", "")), _base64(row["sig"])) for row in rows)


def _unique(pairs: Iterable[tuple[str, object]]) -> dict[str, object]:
    pairs = list(pairs)
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError
    return value


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError
    value.encode("utf-8")  # a lone surrogate raises UnicodeEncodeError, a ValueError
    return value


def _base64(value: object) -> bytes:
    text = _text(value)
    if ("-" in text or "_" in text) and ("+" in text or "/" in text):
        raise ValueError
    standard = text.translate(str.maketrans("-_", "+/"))
    data = base64.b64decode(standard, validate=True)
    if base64.b64encode(data).decode() != standard:
        raise binascii.Error
    return data
