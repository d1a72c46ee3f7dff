"""The byte frame that all sketches share.

A sketch outlives the program that wrote it: every one carries its kind, its version, the scheme of its
element hashes and a check sum, so that another kind, a cut or a flipped bit is refused in one line.

Layout, little-endian: ``dgfp``, uint8 kind, uint8 version, uint16 hash scheme, uint32 length of the parameter
block, parameter block, uint64 length of the payload, payload, uint64 xxh3_64 (seed 0) of all bytes before.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from dataguard.errors import DecodeError, SchemeMismatch, UsageError
from dataguard.fingerprints.arguments import is_whole

__all__ = [
    "BLOOM",
    "FRAC",
    "HYPERLOGLOG",
    "KMINS_AFFINE32",
    "KMINS_LEGACY",
    "MAGIC",
    "NAMES",
    "RESEMBLANCE",
    "WEIGHTED",
    "Unpacked",
    "kind_of",
    "pack",
    "same_scheme",
    "unpack",
]

MAGIC = b"dgfp"

RESEMBLANCE, KMINS_AFFINE32, KMINS_LEGACY, BLOOM, FRAC, HYPERLOGLOG, WEIGHTED = range(1, 8)
"""Kinds of sketches. A number is never given twice."""

NAMES = {
    RESEMBLANCE: "resemblance",
    KMINS_AFFINE32: "k-mins (affine32)",
    KMINS_LEGACY: "k-mins (legacy)",
    BLOOM: "Bloom filter",
    FRAC: "FracMinHash",
    HYPERLOGLOG: "HyperLogLog",
    WEIGHTED: "weighted",
}
"""Kind -> the name used in messages."""

_HEAD, _LENGTH, _SUM = struct.Struct("<4sBBHI"), struct.Struct("<Q"), struct.Struct("<Q")
_LEAST = _HEAD.size + _LENGTH.size + _SUM.size
_AGAIN = "sketch the data again, or restore the file from a copy"


@dataclass(frozen=True, slots=True)
class Unpacked:
    """What a frame held.

    Attributes
    ----------
    version : int
        Version of the kind; 1 or more, at most the one asked for.
    hash_scheme : int
        How the elements were hashed, see ``dataguard.fingerprints.hashing.schemes``.
    params : bytes
        Parameter block.
    payload : memoryview
        Read-only view of the payload, not copied.
    """

    version: int
    hash_scheme: int
    params: bytes
    payload: memoryview


def pack(kind: int, version: int, hash_scheme: int, params: bytes, payload: bytes | memoryview) -> bytes:
    """Return one sketch as bytes.

    Parameters
    ----------
    kind : int
        1-255, see :data:`NAMES`.
    version : int
        1-255.
    hash_scheme : int
        0-65535.
    params, payload : bytes

    Raises
    ------
    UsageError
        A hash scheme that two bytes do not hold.
    """
    import xxhash

    if not (is_whole(hash_scheme) and 0 <= hash_scheme <= 0xFFFF):
        raise UsageError(
            f"hash scheme {hash_scheme}", where=f"{NAMES.get(kind, kind)} sketch", remedy="use 0 to 65535"
        )
    body = b"".join(
        (
            _HEAD.pack(MAGIC, kind, version, hash_scheme, len(params)),
            params,
            _LENGTH.pack(memoryview(payload).nbytes),
            payload,
        )
    )
    return body + _SUM.pack(xxhash.xxh3_64_intdigest(body))


def _bytes_of(data: bytes | bytearray | memoryview) -> memoryview:
    try:
        return memoryview(data).cast("B")
    except TypeError as wrong:
        raise UsageError(
            f"a sketch is read from bytes, not from a {type(data).__name__}", remedy="give what to_bytes gave"
        ) from wrong


def kind_of(data: bytes | bytearray | memoryview) -> int:
    """Return the kind of sketch that some bytes claim to hold.

    Raises
    ------
    DecodeError
        Not a sketch.
    """
    view = _bytes_of(data)
    if view.nbytes < _LEAST or view[:4] != MAGIC:
        raise DecodeError("this is not a sketch", where=f"{view.nbytes} bytes", remedy="check the input")
    return int(view[4])


def unpack(data: bytes | bytearray | memoryview, kind: int, version: int) -> Unpacked:
    """Return the parts of one sketch, after checking frame, lengths and check sum.

    Parameters
    ----------
    data : bytes-like
        Exactly one sketch.
    kind : int
        The kind that is expected.
    version : int
        The newest version the caller can read; older ones are accepted.

    Raises
    ------
    DecodeError
        Not a sketch, cut, too long, or altered.
    SchemeMismatch
        A sketch of another kind, or of a newer version.
    """
    import xxhash

    view = _bytes_of(data).toreadonly()
    found = kind_of(view)
    where = f"{NAMES.get(kind, f'kind {kind}')} sketch"
    _, _, written, scheme, params_length = _HEAD.unpack_from(view)
    if found != kind:
        name = NAMES.get(found, f"of unknown kind {found}")
        raise SchemeMismatch(f"the sketch is {name}", where=where, remedy="read it as what it is")
    if not 1 <= written <= version:
        raise SchemeMismatch(
            f"version {written} is not known here",
            where=where,
            remedy=f"this program reads versions 1 to {version}; use a newer one",
        )
    # Python integers: no length, however large, can wrap around.
    payload_at = _HEAD.size + params_length + _LENGTH.size
    if payload_at + _SUM.size > view.nbytes:
        raise DecodeError("cut short", where=where, remedy=_AGAIN)
    (payload_length,) = _LENGTH.unpack_from(view, payload_at - _LENGTH.size)
    end = payload_at + payload_length
    if end + _SUM.size != view.nbytes:
        raise DecodeError(f"{view.nbytes} bytes instead of {end + _SUM.size}", where=where, remedy=_AGAIN)
    (check,) = _SUM.unpack_from(view, end)
    if check != xxhash.xxh3_64_intdigest(view[:end]):
        raise DecodeError("the check sum does not fit: altered bytes", where=where, remedy=_AGAIN)
    params = bytes(view[_HEAD.size : payload_at - _LENGTH.size])
    return Unpacked(written, scheme, params, view[payload_at:end])


def same_scheme(where: str, **pairs: tuple[object, object]) -> None:
    """Refuse to join sketches that do not speak about the same thing.

    Parameters
    ----------
    where : str
        Name of the sketch, for the message.
    **pairs : (object, object)
        Name of a property -> its value on either side.

    Raises
    ------
    SchemeMismatch
        Some property differs.
    """
    for name, (mine, other) in pairs.items():
        if mine != other:
            raise SchemeMismatch(
                f"{name.replace('_', ' ')} {mine} and {other} differ",
                where=where,
                remedy="sketch both sides with the same settings",
            )
