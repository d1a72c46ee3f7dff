"""Signatures and indexes to and from datasketch, so that nobody has to sketch a collection again.

datasketch is imported only where one of its objects is made; the byte format of its ``LeanMinHash`` is
written and read here. An index that datasketch keeps in Redis or Cassandra goes on working: what is added
from here has the same keys and the same bytes of bands.
"""

from __future__ import annotations

import operator
import struct
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any, Final

import numpy as np

from dataguard.errors import DecodeError, UsageError
from dataguard.fingerprints.minhash import MinHash
from dataguard.fingerprints.minhash_lsh import MinHashLSH, signature_of
from dataguard.fingerprints.minhash_schemes import MinHashError
from dataguard.fingerprints.sketches.kmins import KMins
from dataguard.fingerprints.sketches.permutations import MAX_PERM, Values
from dataguard.fingerprints.sketches.resemblance import Resemblance
from dataguard.fingerprints.sketches.tokens import GIVEN, SHA1, XXH3

__all__ = [
    "from_datasketch",
    "from_datasketch_lsh",
    "lean_from_bytes",
    "lean_to_bytes",
    "to_datasketch",
    "to_datasketch_lsh",
    "xxh3_32",
    "xxh3_64",
]

_CODES: Final = {"affine32": 1, "affine64": 2}
_ORDERS: Final = "@=<>!"


def xxh3_32(element: bytes) -> int:
    """Return the low 32 bits of xxh3_64: hash scheme 1 as a ``hashfunc`` of datasketch."""
    return xxh3_64(element) & 0xFFFFFFFF


def xxh3_64(element: bytes) -> int:
    """Return xxh3_64 with seed 0: hash scheme 1 as a ``hashfunc`` of datasketch's ``affine64``."""
    import xxhash

    return xxhash.xxh3_64_intdigest(element)


def _kmins(sketch: MinHash | KMins | Resemblance) -> KMins:
    frozen = sketch.sketch() if isinstance(sketch, MinHash) else sketch
    if not isinstance(frozen, KMins):
        raise MinHashError(
            "datasketch has no such scheme as fss", where="interop", remedy="sketch with affine32 or legacy"
        )
    return frozen


def _in_datasketch(values: Values, scheme: str) -> Values:
    """Return values in the type datasketch has them in: the bytes of its bands depend on it."""
    return values.astype(np.uint64) if scheme == "legacy" else values


def to_datasketch(sketch: MinHash | KMins, *, lean: bool = False) -> Any:
    """Return a signature as ``datasketch.MinHash``, or as ``LeanMinHash``.

    Parameters
    ----------
    sketch : MinHash or KMins
        Of scheme ``affine32``, ``affine64`` or ``legacy``.
    lean : bool
        Frozen, without permutations.

    Returns
    -------
    datasketch.MinHash or datasketch.LeanMinHash
        Its ``update`` hashes as the signature was hashed: SHA-1, xxh3, or by the function a `MinHash` was
        given. With hashes given to a `KMins` it takes hashes.

    Raises
    ------
    MinHashError
        An ``fss`` signature.
    """
    import datasketch

    frozen = _kmins(sketch)
    values = _in_datasketch(frozen.values, frozen.scheme)
    if lean:
        return datasketch.LeanMinHash(seed=frozen.seed, hashvalues=values, scheme=frozen.scheme)
    hashfunc: Callable[[Any], int] | None = None
    if frozen.hash_scheme == XXH3:
        hashfunc = xxh3_64 if frozen.scheme == "affine64" else xxh3_32
    elif frozen.hash_scheme == GIVEN:
        hashfunc = (sketch.hashfunc if isinstance(sketch, MinHash) else None) or operator.index
    elif frozen.hash_scheme != SHA1:
        raise MinHashError(
            f"datasketch cannot hash by scheme {frozen.hash_scheme}", where="interop", remedy="use lean=True"
        )
    return datasketch.MinHash(seed=frozen.seed, hashvalues=values, scheme=frozen.scheme, hashfunc=hashfunc)


def from_datasketch(minhash: Any, *, hash_scheme: int | None = None) -> KMins:
    """Return a ``datasketch.MinHash`` or ``LeanMinHash`` as a frozen signature.

    Parameters
    ----------
    minhash : datasketch.MinHash or datasketch.LeanMinHash
    hash_scheme : int, optional
        How its elements were hashed (16 SHA-1, 1 xxh3_64, 0 otherwise). By default this is told from its
        ``hashfunc``; a `LeanMinHash` has none, and is taken for SHA-1, datasketch's own default.

    Raises
    ------
    UsageError
        Not a signature of datasketch.
    """
    values, scheme = getattr(minhash, "hashvalues", None), getattr(minhash, "scheme", None)
    if values is None or not isinstance(scheme, str):
        raise UsageError(
            f"not a MinHash of datasketch 2 but {type(minhash).__name__}",
            where="interop",
            remedy="older objects: give their values to KMins(values, 'legacy', seed)",
        )
    if hash_scheme is None:
        hash_scheme = _told(getattr(minhash, "hashfunc", None))
    return KMins(np.asarray(values), scheme, int(minhash.seed), hash_scheme)


def _told(function: Any) -> int:
    if function is None:
        return SHA1
    if function in (xxh3_32, xxh3_64):
        return XXH3
    from datasketch.hashfunc import sha1_hash32, sha1_hash64

    return SHA1 if function in (sha1_hash32, sha1_hash64) else GIVEN


def _order(byteorder: str) -> str:
    if len(byteorder) != 1 or byteorder not in _ORDERS:
        raise UsageError(f"unknown byte order {byteorder!r}", where="interop", remedy="use one of @ = < > !")
    return byteorder


def lean_to_bytes(sketch: MinHash | KMins, byteorder: str = "@") -> bytes:
    """Return what ``LeanMinHash.serialize`` writes: seed int64, number of values int32, then the values.

    The number is negative for the affine schemes and followed by a byte, 1 for 32 and 2 for 64 bits. The
    element hash is not kept.

    Parameters
    ----------
    sketch : MinHash or KMins
    byteorder : {"@", "=", "<", ">", "!"}
        As of ``struct``; datasketch's default is "@", which pads.
    """
    frozen = _kmins(sketch)
    order, values = _order(byteorder), frozen.values.tolist()
    if frozen.scheme == "legacy":
        return struct.pack(f"{order}qi{len(values)}I", frozen.seed, len(values), *values)
    letter = "I" if frozen.scheme == "affine32" else "Q"
    code = _CODES[frozen.scheme]
    return struct.pack(f"{order}qiB{len(values)}{letter}", frozen.seed, -len(values), code, *values)


def lean_from_bytes(
    data: bytes | bytearray | memoryview, byteorder: str = "@", *, hash_scheme: int = SHA1
) -> KMins:
    """Return the signature at the beginning of what ``LeanMinHash.serialize`` wrote.

    Parameters
    ----------
    data : bytes-like
        May go on behind the signature, as with ``LeanMinHash.deserialize``.
    byteorder : {"@", "=", "<", ">", "!"}
    hash_scheme : int
        How the elements were hashed; the bytes do not tell.

    Raises
    ------
    DecodeError
        Cut short, an unknown scheme, or an unreasonable number of values.
    """
    try:
        order, view = _order(byteorder), memoryview(data).cast("B")
    except TypeError as wrong:
        raise UsageError(
            f"a signature is read from bytes, not from a {type(data).__name__}",
            remedy="give what serialize wrote",
        ) from wrong
    head = struct.calcsize(f"{order}qi")
    if view.nbytes < head:
        raise DecodeError("cut short", where="LeanMinHash", remedy="check the input")
    seed, number = struct.unpack_from(f"{order}qi", view)
    scheme, letter, at = "legacy", "I", head
    if number < 0:
        code = view[head] if view.nbytes > head else 0
        scheme = next((name for name, known in _CODES.items() if known == code), "")
        if not scheme:
            raise DecodeError(f"unknown scheme {code}", where="LeanMinHash", remedy="check the byte order")
        letter = "I" if scheme == "affine32" else "Q"
        at, number = struct.calcsize(f"{order}qiB0{letter}"), -number
    if not 1 <= number <= MAX_PERM:
        raise DecodeError(f"{number} values", where="LeanMinHash", remedy="check the byte order")
    if view.nbytes < at + struct.calcsize(f"{order}{number}{letter}"):
        raise DecodeError("cut short", where="LeanMinHash", remedy="check the input")
    values = struct.unpack_from(f"{order}{number}{letter}", view, at)
    kind = np.uint64 if letter == "Q" else np.uint32
    return KMins(np.array(values, kind), scheme, seed, hash_scheme)


class _Carrier:
    """What datasketch's index reads of a signature."""

    __slots__ = ("hashvalues", "scheme")

    def __init__(self, hashvalues: Values, scheme: str) -> None:
        self.hashvalues, self.scheme = hashvalues, scheme

    def __len__(self) -> int:
        return len(self.hashvalues)


def to_datasketch_lsh(
    keys: Iterable[Hashable],
    signatures: Values | Sequence[MinHash | KMins | Resemblance],
    lsh: Any,
    *,
    scheme: str = "affine32",
    check_duplication: bool = True,
    buffer_size: int = 50_000,
) -> int:
    """Add signatures to a ``datasketch.MinHashLSH``, whatever it stores its bands in.

    With ``affine32``, ``affine64`` and ``legacy`` the stored bytes are those that datasketch's own signatures
    give, so an index may hold both. ``fss`` signatures may fill an index of their own.

    Parameters
    ----------
    keys : iterable
        As many as signatures; bytes where the index asks for bytes.
    signatures : (n, num_perm) array, or sequence of signatures
    lsh : datasketch.MinHashLSH
        Its ``storage_config`` may name dictionaries, Redis or Cassandra.
    scheme : str
        Of an array of values; signatures know theirs.
    check_duplication : bool
        Refuse a key that the index has.
    buffer_size : int
        Insertions held back before they go to the storage together.

    Returns
    -------
    int
        Signatures added.

    Raises
    ------
    UsageError
        More or fewer keys than signatures, another size than the index has, another scheme, or a key
        that exists. What went before stays in the index.
    """
    if len(signatures) and not isinstance(signatures, np.ndarray):
        scheme = signature_of(signatures[0])[0]
    added = 0
    with lsh.insertion_session(buffer_size=buffer_size) as session:
        try:
            for key, one in zip(keys, signatures, strict=True):
                values = one
                if not isinstance(one, np.ndarray):
                    scheme, _, values = signature_of(one)
                carrier = _Carrier(_in_datasketch(np.asarray(values), scheme), scheme)
                session.insert(key, carrier, check_duplication=check_duplication)
                added += 1
        except (ValueError, TypeError) as refused:
            raise MinHashError(
                f"signature {added} was refused ({refused})",
                where="datasketch index",
                remedy="see the reason",
            ) from refused
    return added


def from_datasketch_lsh(
    lsh: Any,
    *,
    scheme: str | None = None,
    seed: int = 1,
    decode: Callable[[bytes], Hashable] | None = None,
) -> MinHashLSH:
    """Return a copy of a ``datasketch.MinHashLSH`` as our index, from the bands it stores.

    Parameters
    ----------
    lsh : datasketch.MinHashLSH
        Without a ``hashfunc`` of its own, which would have made the bands unreadable.
    scheme : str, optional
        Scheme of its signatures; by default what the index learned when it was filled.
    seed : int
        Of its signatures; an index does not keep it.
    decode : callable, optional
        From a stored key to the key. An index in Redis or Cassandra keeps keys pickled, and unpickling runs
        what is written there: pass ``pickle.loads`` if you trust the storage, else keys stay bytes.

    Raises
    ------
    UsageError
        Bands that are hashed, or that do not fit the scheme, or a scheme that nobody told.
    """
    scheme = scheme or getattr(lsh, "_minhash_scheme", None)
    if scheme is None:
        raise MinHashError("the index does not tell its scheme", where="datasketch index", remedy="name it")
    if lsh.hashfunc is not None:
        raise MinHashError(
            "its bands are hashed", where="datasketch index", remedy="load the signatures instead"
        )
    stored = np.dtype(">u4" if scheme in ("affine32", "fss") else ">u8")
    kept = np.uint64 if scheme == "affine64" else np.uint32
    made = MinHashLSH(num_perm=lsh.h, params=(lsh.b, lsh.r))
    size = lsh.b * lsh.r * stored.itemsize
    for key in list(lsh.keys):
        bands = b"".join(lsh.keys.get(key))
        if len(bands) != size:
            raise MinHashError(
                f"{len(bands)} bytes of bands instead of {size}",
                where="datasketch index",
                remedy="check the scheme",
            )
        held = np.frombuffer(bands, stored)
        if int(held.max()) > np.iinfo(kept).max:
            raise MinHashError("values beyond 32 bits", where="datasketch index", remedy="check the scheme")
        values: Values = held.astype(kept)
        made.fill([(decode(key) if decode is not None else key, values)], scheme, seed)
    return made
