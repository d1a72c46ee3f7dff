"""Elements of sets as Python or Arrow strings -> 64-bit hashes, bit-identical to datasketch's where asked for.

Few elements go through ``hashlib`` and ``xxhash`` one by one, so that a small job never starts the
compiler; many go through compiled loops. Both give the same numbers.
"""

from __future__ import annotations

import hashlib
import importlib
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dataguard.errors import DecodeError, UsageError
from dataguard.fingerprints.hashing.schemes import HashScheme

__all__ = [
    "GIVEN",
    "SHA1",
    "XXH3",
    "as_bytes",
    "hash_lists",
    "hash_one",
    "hash_tokens",
    "load_compiled",
    "starts_compiled",
]

I64 = NDArray[np.int64]
U8 = NDArray[np.uint8]
U64 = NDArray[np.uint64]

GIVEN: Final = int(HashScheme.GIVEN)
"""Scheme of hashes that the caller worked out."""
XXH3: Final = int(HashScheme.XXH3_64)
"""xxh3_64 with seed 0 of the bytes (text: UTF-8)."""
SHA1: Final = int(HashScheme.SHA1)
"""First 8 bytes of the SHA-1 of the bytes, little-endian; the low half is datasketch's default hash."""

_COLD, _WARM = 400_000, 2_000
"""Elements from which compiled loops pay, before and after numba is loaded."""


def starts_compiled(work: int, cold: int = _COLD, warm: int = _WARM) -> bool:
    """Return whether a job of `work` units is large enough for compiled code, loaded (`warm`) or not (`cold`)."""
    return work >= (warm if "numba" in sys.modules else cold)


def load_compiled() -> None:
    """Load numba: from here on `starts_compiled` says yes to much smaller jobs."""
    importlib.import_module("numba")


def as_bytes(element: object) -> bytes:
    """Return an element as the bytes that are hashed; text as UTF-8.

    Raises
    ------
    UsageError
        Neither bytes nor text, or text that UTF-8 cannot hold (lone surrogates).
    """
    if isinstance(element, str):
        try:
            return element.encode()
        except UnicodeEncodeError as wrong:
            raise UsageError(
                f"a text cannot be written as UTF-8 ({wrong.reason})",
                where="elements",
                remedy="give its bytes",
            ) from wrong
    if isinstance(element, (bytes, bytearray, memoryview)):
        return bytes(element)
    raise UsageError(
        f"elements are bytes or text, not {type(element).__name__}", remedy="encode them, or give a hashfunc"
    )


def _sha1(data: bytes) -> int:
    return int.from_bytes(hashlib.sha1(data, usedforsecurity=False).digest()[:8], "little")


def _function(scheme: int) -> Callable[[bytes], int]:
    if scheme == SHA1:
        return _sha1
    if scheme == XXH3:
        import xxhash

        return xxhash.xxh3_64_intdigest
    raise UsageError(f"elements cannot be hashed here by scheme {scheme}", remedy=f"use {SHA1} or {XXH3}")


def hash_one(element: object, scheme: int) -> int:
    """Return the 64-bit hash of one element (:data:`SHA1` or :data:`XXH3`)."""
    return _function(scheme)(as_bytes(element))


def hash_tokens(tokens: Iterable[object], scheme: int) -> U64:
    """Return the hashes of many elements.

    Parameters
    ----------
    tokens : iterable of bytes or str
    scheme : int
        :data:`SHA1` or :data:`XXH3`.

    Returns
    -------
    (n,) uint64
    """
    function = _function(scheme)
    listed = [t if type(t) is bytes else as_bytes(t) for t in tokens]
    # xxhash takes 0.06 us an element by itself: joining the bytes for a loop would cost as much.
    if scheme == SHA1 and starts_compiled(len(listed)):
        lengths = np.fromiter(map(len, listed), np.int64, len(listed))
        return _sha1_all(np.frombuffer(b"".join(listed) or b"\0", np.uint8), _ends(lengths))
    return np.fromiter(map(function, listed), np.uint64, len(listed))


def _ends(lengths: I64) -> I64:
    offsets = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets


def _sha1_all(data: U8, offsets: I64) -> U64:
    from dataguard.fingerprints.sketches.sha1._kernels import LANES, sha1_words

    if offsets[0] < 0 or offsets[-1] > len(data) or np.any(offsets[1:] < offsets[:-1]):
        raise DecodeError("offsets lead out of the buffer", where="strings", remedy="write the column again")
    out = np.empty(len(offsets) - 1, np.uint64)
    sha1_words(data, offsets, np.empty(80 * LANES, np.uint32), np.empty(5 * LANES, np.uint32), out)
    return out


def hash_lists(column: Any, scheme: int) -> tuple[U64, I64]:
    """Return the elements of an Arrow list column as hashed sets end to end.

    Parameters
    ----------
    column : pyarrow.ListArray, LargeListArray or a chunked array of them
        Lists of strings or binaries; lists of unsigned integers are taken as hashes with :data:`GIVEN`.
        A null list is an empty set.
    scheme : int

    Returns
    -------
    (m,) uint64, (n + 1,) int64
        Set i has hashes ``offsets[i]`` to ``offsets[i + 1]``.

    Raises
    ------
    UsageError
        Not a column of lists, a null element, or elements that do not fit the scheme.
    DecodeError
        Lists or strings that point outside of what they are made of.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    if isinstance(column, pa.ChunkedArray):
        try:
            column = column.combine_chunks()
        except pa.ArrowInvalid as wrong:
            raise UsageError(
                f"the chunks do not fit together ({str(wrong).splitlines()[0]})",
                remedy="cast to large lists of large strings, or give chunk by chunk",
            ) from wrong
    kind = getattr(column, "type", None)
    if kind is None or not (pa.types.is_list(kind) or pa.types.is_large_list(kind)):
        raise UsageError(
            f"an Arrow column of lists is needed, not {kind or type(column).__name__}",
            remedy="split the texts first",
        )
    _check_borders(column)
    lengths = pc.list_value_length(column).fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)
    values = column.flatten()
    if values.null_count:
        raise UsageError("a list holds a null element", where="list column", remedy="drop nulls first")
    if scheme == GIVEN and pa.types.is_unsigned_integer(values.type):
        return values.to_numpy(zero_copy_only=False).astype(np.uint64, copy=False), _ends(lengths)
    if scheme == GIVEN or not _is_text(values.type):
        raise UsageError(
            f"lists of {values.type} do not go with hash scheme {scheme}",
            where="list column",
            remedy="give strings, or hashes as uint64 with scheme 0",
        )
    return _hash_strings(values, scheme), _ends(lengths)


def _check_borders(column: Any) -> None:
    """Refuse lists that leave their elements: Arrow follows their offsets without a look."""
    import pyarrow as pa

    try:
        column.validate()
    except pa.ArrowInvalid as wrong:
        raise DecodeError(
            f"damaged ({str(wrong).splitlines()[0]})", where="list column", remedy="write the column again"
        ) from wrong
    ends = column.offsets.to_numpy()
    if len(column) and (ends[0] < 0 or ends[-1] > len(column.values) or np.any(ends[1:] < ends[:-1])):
        raise DecodeError(
            "offsets lead out of the lists", where="list column", remedy="write the column again"
        )


def _is_text(kind: Any) -> bool:
    import pyarrow as pa

    tests: Sequence[Callable[[Any], bool]] = (
        pa.types.is_string,
        pa.types.is_large_string,
        pa.types.is_binary,
        pa.types.is_large_binary,
    )
    return any(test(kind) for test in tests)


def _hash_strings(values: Any, scheme: int) -> U64:
    import pyarrow as pa

    if scheme == XXH3:
        from dataguard.fingerprints.hashing.columns import hash_column

        return hash_column(values, scheme)
    if scheme != SHA1 or not starts_compiled(len(values)):
        return hash_tokens(values.to_pylist(), scheme)
    wide = pa.types.is_large_string(values.type) or pa.types.is_large_binary(values.type)
    _, ends, data = values.buffers()
    kind = np.dtype(np.int64 if wide else np.int32)
    offsets = np.frombuffer(ends, kind, len(values) + 1, values.offset * kind.itemsize)
    room = np.frombuffer(data, np.uint8) if data is not None and data.size else np.zeros(1, np.uint8)
    return _sha1_all(room, offsets.astype(np.int64, copy=False))
