"""A second verifier of evidence bundles, written from docs/formats.md alone.

python examples/independent_verifier.py BUNDLE [PUBLIC_KEY_HEX]

It shares no line with dataguard and imports nothing of it: the standard library and `cryptography` (Ed25519,
AES) are enough. That both programs agree is evidence that neither follows a private convention. Exit code: 0
trusted, 3 not trusted, 2 not a bundle.

Notes
-----
It does not render report.html and README.txt again and does not re-derive the prose, names of limits, or
findings of the comparison: those are covered by digest and signature here, and by `dataguard verify`. As there,
times, figures of other keys and the choice of the aligned rows rest on the provider's word, and a key that is
read from the bundle itself shows only that the bundle is of one piece.
"""

from __future__ import annotations

import base64
import json
import math
import re
import struct
import sys
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

STATEMENT, PAGES = "statement.dsse.json", ("report.html", "README.txt")
DATA = ("report.json", "ledger.json", "annex/openings.json")
TOLERANCE, FLOOR, EXACT_UP_TO, FILE_LIMIT = 2e-4, -30.0, 12_000_000, 512 << 20
FAULTS = (ArithmeticError, AttributeError, InvalidSignature, LookupError, RecursionError, TypeError, ValueError)


def need(holds: object, why: str) -> None:
    """Raise where a condition of the specification does not hold."""
    if not holds:
        raise ValueError(why)


def parse(data: bytes) -> Any:
    """Read I-JSON: no repeated key, no NaN, no integer beyond 2^53 - 1."""

    def unique(items: list[tuple[str, Any]]) -> dict[str, Any]:
        need(len(dict(items)) == len(items), "a JSON key is repeated")
        return dict(items)

    def small(text: str) -> int:
        need(len(text) < 18 and abs(int(text)) < 1 << 53, "a JSON integer is too large")
        return int(text)

    def refuse(text: str) -> None:
        raise ValueError(f"{text} is not JSON")

    text = data.decode("utf-8")
    return json.loads(text, object_pairs_hook=unique, parse_int=small, parse_constant=refuse)


def number(x: float) -> str:
    """Write a number as ECMAScript does (RFC 8785, 3.2.2.3)."""
    if x == int(x) and abs(x) < 1e21:
        return str(int(x))
    sign, digits, exponent = Decimal(repr(x)).normalize().as_tuple()
    text, point = "".join(map(str, digits)), len(digits) + int(exponent)
    if 0 < point <= 21:
        body = f"{text[:point]}.{text[point:]}"
    elif -6 < point <= 0:
        body = f"0.{'0' * -point}{text}"
    else:
        body = f"{text[0]}{'.' * (len(text) > 1)}{text[1:]}e{point - 1:+d}"
    return "-" * sign + body


def canonical(value: Any, depth: int = 0) -> str:
    """Write canonical JSON (RFC 8785), at most 64 deep."""
    need(depth <= 64, "JSON nested deeper than 64")
    if isinstance(value, dict):
        keys = sorted(value, key=lambda k: k.encode("utf-16-be"))
        return "{" + ",".join(f"{canonical(k)}:{canonical(value[k], depth + 1)}" for k in keys) + "}"
    if isinstance(value, list):
        return "[" + ",".join(canonical(v, depth + 1) for v in value) + "]"
    return number(value) if isinstance(value, float) else json.dumps(value, ensure_ascii=False)


def open_envelope(envelope: dict[str, Any], kind: str, raw: bytes) -> bytes:
    """Return the payload of a DSSE envelope that bears exactly one signature, by the key `raw`."""
    kind, (signature,) = f"application/vnd.dataguard.{kind}.v1+json", envelope["signatures"]
    payload, sig = (base64.b64decode(x, validate=True) for x in (envelope["payload"], signature["sig"]))
    named = {"keyid": sha256(raw).hexdigest(), "sig": base64.b64encode(sig).decode()}
    form = {"payload": base64.b64encode(payload).decode(), "payloadType": kind, "signatures": [named]}
    need(envelope == form, "the envelope is not in its one written form")
    signed = f"DSSEv1 {len(kind)} {kind} {len(payload)} ".encode() + payload
    Ed25519PublicKey.from_public_bytes(raw).verify(sig, signed)
    return payload


def integer(text: str, low: int = 0, high: int = 2**64) -> int:
    """Read an integer that travels as decimal text, low <= it < high."""
    need(re.fullmatch(r"0|-?[1-9][0-9]{0,19}", text), f"{text!r} is no decimal integer")
    need(low <= int(text) < high, f"{text} is out of range")
    return int(text)


def signed(text: str) -> int:
    """Read a signed 64-bit integer."""
    return integer(text, -(2**63), 2**63)


def words(*values: int) -> bytes:
    """Write integers as 64-bit little-endian words, negative ones in two's complement."""
    return b"".join((v % 2**64).to_bytes(8, "little") for v in values)


def cell(tag: int, text: str) -> bytes:
    """Return the committed bytes of a canonical cell."""
    if tag == 1:
        need(re.fullmatch(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)(e[+-]?[0-9]{1,3})?", text), f"{text!r}: no number")
        return b"\x01" + struct.pack("<d", float(text))
    if tag == 2:
        return b"\x02" + words(signed(text))
    if tag == 3:
        need(text.endswith("Z"), f"{text!r}: not UTC")
        elapsed = datetime.fromisoformat(text) - datetime(1970, 1, 1, tzinfo=UTC)
        return b"\x03" + words(elapsed // timedelta(microseconds=1))
    need(tag == 4 or (tag, text) == (0, ""), f"unknown cell ({tag}, {text!r})")
    return b"\x04" + struct.pack("<I", len(text.encode())) + text.encode() if tag else b"\x00"


def merkle_root(size: int, leaves: dict[int, bytes], proof: list[str]) -> str:
    """Return the root that opened leaf hashes and a multi-proof give, in the recursive shape of RFC 9162."""
    order, left = sorted(leaves), iter([bytes.fromhex(h) for h in proof])
    need(order and order[0] >= 0 and order[-1] < size, "no leaf opened, or one outside the tree")

    def node(low: int, high: int) -> bytes:
        if bisect_left(order, low) == bisect_left(order, high):
            return next(left, b"")
        if high - low == 1:
            return leaves[low]
        middle = low + (1 << ((high - low - 1).bit_length() - 1))
        a, b = node(low, middle), node(middle, high)
        need(len(a) == len(b) == 32, "a hash of the proof is missing")
        return sha256(b"\x01" + a + b).digest()

    root = node(0, size)
    need(next(left, None) is None, "a hash of the proof is left over")
    return root.hex()


def open_tree(given: dict[str, Any], size: int, root: str, read: Callable[..., tuple[Any, bytes]]) -> dict[int, Any]:
    """Return {identifier: content} of the opened leaves, whose tree must have the committed size and root."""
    leaves, found, last = {}, {}, -1
    for index, ident, *rest in given["leaves"]:
        need(index > last, "leaves are not ascending")
        content, data = read(index, *rest)
        last, leaves[index] = index, sha256(b"\x00" + data.replace(b"@ID", words(integer(ident)), 1)).digest()
        need(integer(ident) not in found, f"{ident} is opened twice")
        found[integer(ident)] = content
    need((given["size"], given["root"]) == (size, root), "not the committed size and root")
    need(merkle_root(size, leaves, given["proof"]) == root, "leaves do not hash to the root")
    return found
