"""The exact bytes that get hashed and signed: canonical JSON and the ledger leaf.

A hash is only re-checkable when everybody spells the hashed bytes alike, so the spelling
lives in this one file. The ledger leaf is here, not in ``registry``, because evidence
is verified on machines that hold neither the registry nor numpy.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from dataguard.errors import EvidenceError, UsageError

__all__ = [
    "LEAF_VERSION",
    "MAX_DEPTH",
    "MAX_JSON_BYTES",
    "body_digest",
    "canonical_json",
    "check_headers",
    "check_opening",
    "leaf_bytes",
    "parse_json",
]

MAX_JSON_BYTES = 64 * 1024 * 1024
"""Largest JSON document read unless the caller allows more (bytes)."""
MAX_DEPTH = 64
"""Deepest nesting of arrays and objects read or written."""
MAX_SAFE_INTEGER = 2**53 - 1
"""Largest integer that every JSON reader reads alike (RFC 8785 section 3.2.2.3, RFC 7493)."""

LEAF_VERSION = 1
SALT_BYTES = 32
_TYPE = re.compile(r"[a-z][a-z0-9-]{0,31}")
_SCOPE = re.compile(r"(?:[0-9a-f]{16})?")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_SURROGATE = re.compile(r"[\ud800-\udfff]")
_ESCAPED_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_HEADER_FIELDS = frozenset({"v", "seq", "type", "scope", "body"})
_OPENING_FIELDS = _HEADER_FIELDS | {"payload", "salt", "time"}


def canonical_json(value: object) -> bytes:
    """Return `value` as canonical JSON (RFC 8785, JCS).

    Parameters
    ----------
    value : None, bool, int, float, str, list, tuple or dict with string keys
        Integers beyond +-(2**53 - 1) must be sent as decimal strings.

    Returns
    -------
    bytes
        UTF-8, keys sorted by UTF-16 code units, no white space.

    Raises
    ------
    UsageError
        The value has no canonical form: NaN or infinity, an unsafe integer, another type,
        a lone surrogate, a key that is not text, nesting beyond `MAX_DEPTH`.
    """
    import rfc8785

    try:
        data = rfc8785.dumps(value)  # type: ignore[arg-type]
    except rfc8785.IntegerDomainError:
        raise UsageError("integer beyond 2^53 in JSON", remedy="send it as a decimal string") from None
    except rfc8785.FloatDomainError:
        raise UsageError("NaN or infinity in JSON", remedy="send null instead") from None
    except RecursionError:
        raise UsageError("JSON nested too deeply or circular", remedy="flatten the value") from None
    except ValueError:
        # The library's own message may quote the value, which may be confidential.
        raise UsageError(
            "value without a canonical JSON form",
            remedy="use text keys, valid Unicode and plain JSON types",
        ) from None
    if _depth(value) > MAX_DEPTH:
        raise UsageError("JSON nested too deeply", remedy=f"keep it within {MAX_DEPTH} levels")
    return data


def parse_json(data: bytes, *, max_bytes: int = MAX_JSON_BYTES, where: str = "") -> object:
    """Return the value of a JSON text that every reader must read alike (I-JSON, RFC 7493).

    Refused are: more than `max_bytes`, anything but UTF-8, repeated keys, NaN and infinity,
    numbers a double cannot hold exactly, lone surrogates, nesting beyond `MAX_DEPTH`.
    So ``canonical_json(parse_json(x)) == x`` for every canonical `x`.

    Parameters
    ----------
    data : bytes
        The JSON text.
    max_bytes : int
        Largest accepted length, bytes.
    where : str
        File name for the error message.

    Returns
    -------
    object
        None, bool, int, float, str, list or dict.

    Raises
    ------
    EvidenceError
        The text breaks one of the rules above.
    """
    if len(data) > max_bytes:
        raise EvidenceError(
            f"JSON of {len(data)} bytes exceeds the limit of {max_bytes}", where=where, remedy="split it"
        )
    try:
        value: object = json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_unique,
            parse_constant=_refuse_constant,
            parse_int=_safe_integer,
            parse_float=_finite,
        )
    except UnicodeDecodeError as error:
        raise EvidenceError("JSON is not UTF-8", where=where, remedy=f"see byte {error.start}") from None
    except json.JSONDecodeError as error:
        place = f"see line {error.lineno}, column {error.colno}"
        raise EvidenceError("not valid JSON", where=where, remedy=place) from None
    except RecursionError:
        raise EvidenceError("JSON nested too deeply", where=where, remedy=f"limit {MAX_DEPTH}") from None
    except _Refused as error:
        raise EvidenceError(str(error), where=where, remedy="the writer must correct it") from None
    if _depth(value) > MAX_DEPTH:
        raise EvidenceError("JSON nested too deeply", where=where, remedy=f"limit {MAX_DEPTH}")
    if _ESCAPED_SURROGATE.search(data) and _has_lone_surrogate(value):
        raise EvidenceError(
            "JSON text with a lone surrogate", where=where, remedy="the writer must correct it"
        )
    return value


def body_digest(salt: bytes, payload: object) -> str:
    """Return the salted commitment of a ledger payload: hex SHA-256(salt || canonical JSON).

    Parameters
    ----------
    salt : bytes
        32 secret random bytes; they keep a guessable payload from being guessed.
    payload : object
        Anything `canonical_json` accepts.

    Raises
    ------
    UsageError
        Wrong salt length, or no canonical form.
    """
    if len(salt) != SALT_BYTES:
        raise UsageError(f"ledger salt of {len(salt)} bytes", remedy=f"pass {SALT_BYTES}")
    return hashlib.sha256(salt + canonical_json(payload)).hexdigest()


def leaf_bytes(seq: int, type: str, scope: str, body: str) -> bytes:  # noqa: A002 - the field's name
    """Return the bytes of one ledger leaf, which RFC 9162 hashing then covers.

    Parameters
    ----------
    seq : int
        Position in the ledger, from 0.
    type : str
        Kind of entry, for example ``"export"``: lower-case letters, digits, hyphens.
    scope : str
        16 hex digits that stand for a dataset lineage, or ``""`` for the whole vault.
    body : str
        Hex digest of `body_digest`.

    Returns
    -------
    bytes
        Canonical JSON ``{"body":...,"scope":...,"seq":...,"type":...,"v":1}``.

    Raises
    ------
    UsageError
        A field out of form.
    """
    if isinstance(seq, bool) or not isinstance(seq, int) or not 0 <= seq <= MAX_SAFE_INTEGER:
        raise UsageError("ledger sequence number is not a small non-negative integer", remedy="count from 0")
    for name, pattern, text in (("type", _TYPE, type), ("scope", _SCOPE, scope), ("body", _DIGEST, body)):
        if not isinstance(text, str) or pattern.fullmatch(text) is None:
            raise UsageError(f"ledger leaf with a malformed {name}", remedy=f"write it as {pattern.pattern}")
    return canonical_json({"v": LEAF_VERSION, "seq": seq, "type": type, "scope": scope, "body": body})


def check_opening(opening: Mapping[str, Any]) -> bytes:
    """Return the leaf hash of an opened ledger entry, after checking that its parts agree.

    1. exactly the fields ``v, seq, type, scope, body, payload, salt, time``;
    2. ``body`` is the salted digest of ``payload``;
    3. ``time`` is the time inside ``payload`` (where the digest covers it);
    4. leaf hash = SHA-256(0x00 || leaf), RFC 9162 section 2.1.1.

    The caller must compare the returned hash, through an inclusion proof, with a root it trusts.

    Raises
    ------
    EvidenceError
        A check failed.
    """
    if not isinstance(opening, Mapping) or set(opening) != _OPENING_FIELDS:
        raise EvidenceError(
            "ledger opening without exactly the known fields", remedy="export the entry again"
        )
    salt_hex, payload = opening["salt"], opening["payload"]
    if not isinstance(salt_hex, str) or _DIGEST.fullmatch(salt_hex) is None:
        raise EvidenceError("ledger opening with a malformed salt", remedy="export the entry again")
    where = f"ledger entry {opening['seq']}" if isinstance(opening["seq"], int) else "ledger opening"
    try:
        digest = body_digest(bytes.fromhex(salt_hex), payload)
    except UsageError as error:
        raise EvidenceError(f"payload: {error.what}", where=where, remedy="export the entry again") from None
    if digest != opening["body"]:
        raise EvidenceError(
            "payload and salt do not match the body digest", where=where, remedy="do not rely on it"
        )
    if not isinstance(payload, Mapping) or payload.get("time") != opening["time"]:
        raise EvidenceError("time differs from the committed one", where=where, remedy="do not rely on it")
    return _header_hash({name: opening[name] for name in _HEADER_FIELDS}, where)


def check_headers(headers: Iterable[Mapping[str, Any]]) -> list[bytes]:
    """Return the leaf hashes of published ledger headers, numbered 0, 1, 2, ... without a gap.

    With them an outsider recomputes the root and counts entries of a type and scope
    without seeing any payload.

    Raises
    ------
    EvidenceError
        A malformed header or a gap in the sequence.
    """
    hashes = []
    for index, header in enumerate(headers):
        where = f"ledger header {index}"
        if not isinstance(header, Mapping) or set(header) != _HEADER_FIELDS:
            raise EvidenceError(
                "not exactly the fields v, seq, type, scope, body", where=where, remedy="export again"
            )
        if header["seq"] != index:
            raise EvidenceError(
                "sequence number out of order", where=where, remedy="supply every header in order"
            )
        hashes.append(_header_hash(header, where))
    return hashes


def _header_hash(header: Mapping[str, Any], where: str) -> bytes:
    if header["v"] is True or header["v"] != LEAF_VERSION:
        raise EvidenceError("unknown ledger leaf version", where=where, remedy="use a newer dataguard")
    try:
        leaf = leaf_bytes(header["seq"], header["type"], header["scope"], header["body"])
    except UsageError as error:
        raise EvidenceError(error.what, where=where, remedy="export the entry again") from None
    return hashlib.sha256(b"\x00" + leaf).digest()


class _Refused(Exception):  # noqa: N818 - never leaves this file
    """A rule of `parse_json` broken inside a decoder hook."""


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise _Refused("JSON object with a repeated key")
    return value


def _refuse_constant(_name: str) -> object:
    raise _Refused("NaN or infinity in JSON")


def _finite(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise _Refused("JSON number too large for a double")
    return value


def _safe_integer(text: str) -> int | float:
    # A double of 2^53 to 1e21 is written without a point in RFC 8785; it is accepted exactly
    # when it is that canonical text, so that no two readers can see different numbers.
    if len(text) <= 22:
        value = int(text)
        if abs(value) <= MAX_SAFE_INTEGER:
            return value
        if canonical_json(float(text)) == text.encode():
            return float(text)
    raise _Refused("integer beyond 2^53 in JSON that is not a decimal string")


def _depth(value: object) -> int:
    depth, level = 0, [value] if isinstance(value, dict | list | tuple) else []
    while level and depth <= MAX_DEPTH:
        depth += 1
        level = [
            child
            for node in level
            for child in (node.values() if isinstance(node, dict) else node)
            if isinstance(child, dict | list | tuple)
        ]
    return depth


def _has_lone_surrogate(value: object) -> bool:
    stack = [value]
    while stack:
        node = stack.pop()
        if isinstance(node, str):
            if _SURROGATE.search(node):
                return True
        elif isinstance(node, dict):
            stack += [*node.keys(), *node.values()]
        elif isinstance(node, list):
            stack += node
    return False
