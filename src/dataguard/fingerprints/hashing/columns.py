"""Hashes of columns, straight from the buffers of Arrow: no Python object per value.

What is hashed, under every scheme: the bytes of a string or binary value; the 16 (or 4, 8, 32)
stored bytes of a decimal; the 8 bytes, low one first, of everything else: an integer or a boolean
widened with its sign, a date, time or duration as the integer that is stored (its unit does
not enter), a real number as binary64 with one zero and one NaN. A missing value has a constant of
its own. A dictionary is hashed once per entry, with the same result as its decoded column.
Values that mean the same but are written differently do not meet here: canonical
values are the business of :mod:`dataguard.values`.
"""

from __future__ import annotations

import sys
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from dataguard.errors import DecodeError, UsageError
from dataguard.fingerprints.arguments import arrow_column, elements_of
from dataguard.fingerprints.hashing.schemes import NULL_HASH, HashScheme, plain_hash, scheme_of

__all__ = ["Cells", "Column", "hash_column", "hash_values", "open_column"]

I64 = NDArray[np.int64]
U8 = NDArray[np.uint8]
U64 = NDArray[np.uint64]

_SMALL = {HashScheme.XXH3_64: 1_000_000, HashScheme.DGMUM_1: 100_000}
"""Keys (64 bytes of long ones count as one more) that are hashed without compiled code, as long as none is
loaded: starting it costs 0.5 s from the kernel cache and 1.7 s without, a key 0.2 us and 2 to 3 us (measured)."""

_done = dict.fromkeys(_SMALL, 0)
"""Keys hashed so far without it, in this process."""

_NONE = np.empty(0, np.uint8)
_TILE = 1 << 14
"""Numbers that are widened at a time."""


@dataclass(frozen=True, slots=True)
class Cells:
    """One stretch of a column, ready to be hashed; exactly one of the first three is there.

    Attributes
    ----------
    strings : (data (bytes,) uint8, offsets (n + 1,) int32 or int64) or None
        Value i is ``data[offsets[i]:offsets[i + 1]]``.
    numbers : (n,) integers or reals of 1 to 8 bytes, as they are stored, or None
        Hashed as words of eight bytes.
    entries : (hashes (e,) uint64, index (n,) int) or None
        Hashes of the entries of a dictionary, and which entry each value is.
    valid : (bits (b,) uint8, offset) or None
        Bit ``offset + i`` of a bitmap, lowest bits first, is 0 where value i is missing; None when none is.
    """

    size: int
    scheme: HashScheme
    strings: tuple[U8, NDArray[Any]] | None = None
    numbers: NDArray[Any] | None = None
    entries: tuple[U64, NDArray[Any]] | None = None
    valid: tuple[U8, int] | None = None

    def in_place(self) -> U64 | None:
        """Return all values, missing ones too, if they are words of eight bytes that can be read where they are."""
        numbers = self.numbers
        if numbers is None or numbers.dtype.kind == "f":
            return None
        return numbers.view(np.uint64) if numbers.itemsize == 8 and numbers.flags.aligned else None

    def fill(self, first: int, last: int, out: U64, *, plain: bool = False) -> None:
        """Write the hashes of the values `first` to `last` (not included) into `out`, of that length.

        With `plain`, numbers are written as the words of eight bytes that would be hashed.

        Raises
        ------
        DecodeError
            If an offset points outside of its buffer.
        """
        if self.entries is not None:
            hashes, index = self.entries
            # Looked at when it was opened; clipped is only what hides behind a missing value.
            np.take(hashes, index[first:last].astype(np.intp, copy=False), out=out, mode="clip")
        elif self.numbers is not None and plain:
            _widen(self.numbers[first:last], out)
        elif self.numbers is not None:
            self._fill_words(first, last, out)
        elif self.strings is not None:
            data, offsets = self.strings
            self._fill_strings(_read_only(data), _read_only(offsets[first : last + 1]), out)
        if self.valid is not None:
            _blank(*self.valid, first, out)

    def _fill_words(self, first: int, last: int, out: U64) -> None:
        words, numbers = self.in_place(), self.numbers
        if words is not None or numbers is None:
            self._hash_words(_read_only(words[first:last]), out)  # type: ignore[index]
            return
        # Not widened where the hashes go: in a loop that reads what it writes the compiler uses no lanes.
        room = np.empty(min(_TILE, last - first), np.uint64)
        for at in range(first, last, _TILE):
            part = out[at - first : min(at + _TILE, last) - first]
            _widen(numbers[at : at + len(part)], room[: len(part)])
            self._hash_words(_read_only(room[: len(part)]), part)

    def _hash_words(self, words: U64, out: U64) -> None:
        if _is_small(self.scheme, len(words), 0):
            raw = words.astype("<u8").tobytes()
            function = plain_hash(self.scheme)
            out[:] = [function(raw[k : k + 8]) for k in range(0, len(raw), 8)]
        elif self.scheme is HashScheme.XXH3_64:
            from dataguard.fingerprints.hashing.xxh3._kernels import xxh3_words

            xxh3_words(words, out)
        else:
            from dataguard.fingerprints.hashing._kernels import mum_words

            mum_words(words, out)

    def _fill_strings(self, data: U8, offsets: NDArray[Any], out: U64) -> None:
        if len(out) == 0:
            return
        total = int(offsets[-1]) - int(offsets[0])
        if _is_small(self.scheme, len(out), total):
            wrong = _hash_few(data, offsets, self.scheme, out)
        elif self.scheme is HashScheme.XXH3_64:
            from dataguard.fingerprints.hashing.xxh3._kernels import xxh3_strings

            wrong = int(xxh3_strings(data, offsets, out))
        else:
            from dataguard.fingerprints.hashing._kernels import mum_strings

            wrong = int(mum_strings(data, offsets, out))
        if wrong >= 0:
            raise DecodeError(
                f"text {wrong} of a column points outside of its buffer",
                remedy="the data is damaged; read it again from its source",
            )


@dataclass(frozen=True, slots=True)
class Column:
    """A column in stretches; ``starts[i]`` is the row where stretch i begins."""

    size: int
    starts: tuple[int, ...]
    stretches: tuple[Cells, ...]

    def fill(self, first: int, last: int, out: U64, *, plain: bool = False) -> None:
        """Write the hashes of the rows `first` to `last` (not included) into `out`; see :meth:`Cells.fill`."""
        at, i = first, bisect_right(self.starts, first) - 1
        while at < last:
            start, cells = self.starts[i], self.stretches[i]
            end = min(last, start + cells.size)
            cells.fill(at - start, end - start, out[at - first : end - first], plain=plain)
            at, i = end, i + 1

    def cells(self, first: int, last: int, room: U64) -> U64:
        """Return what `fill` would write with `plain`: where it is stored, or in `room`; read-only."""
        i = bisect_right(self.starts, first) - 1
        start, cells = self.starts[i], self.stretches[i]
        words = cells.in_place() if last <= start + cells.size and cells.valid is None else None
        if words is not None:
            return _read_only(words[first - start : last - start])
        out = room[: last - first]
        self.fill(first, last, out, plain=True)
        return _read_only(out)


def hash_column(
    values: pa.Array | pa.ChunkedArray, scheme: HashScheme | int | str = HashScheme.DGMUM_1
) -> U64:
    """Return the hash of every value of an Arrow column; those of a list or numpy array: :func:`hash_values`.

    Parameters
    ----------
    values : pyarrow.Array or ChunkedArray
        Strings, binary, numbers, decimals, booleans, dates, times, or a dictionary of these; whole or sliced.
        Or a column of pandas or polars. Values of unlike types do not meet, see the module and `hash_rows`.
    scheme : HashScheme, int or str
        ``"dgmum-1"`` (fastest) or ``"xxh3-64"`` (the same in every language).

    Returns
    -------
    (n,) uint64
        ``NULL_HASH`` where a value is missing.

    Raises
    ------
    UsageError
        For nested types and unknown schemes.
    DecodeError
        If a buffer is too short or an offset points outside of it.
    """
    return _filled(open_column(values, scheme), plain=False)


def hash_values(
    values: NDArray[Any] | Sequence[str | bytes | float | None],
    scheme: HashScheme | int | str = HashScheme.DGMUM_1,
) -> U64:
    """Return the hash of every element of a numpy array, or of a list of texts, bytes or numbers.

    Texts are hashed by their UTF-8 bytes; everything else as in :func:`hash_column`.

    Raises
    ------
    UsageError
        If `values` mixes kinds, or holds something that is not a value of a table.
    """
    given = values.reshape(-1) if isinstance(values, np.ndarray) else elements_of(values)
    if isinstance(given, np.ndarray) and given.dtype.kind in "US":
        # Arrow ends the texts of such an array at their first zero character.
        given = given.tolist()
    try:
        array = pa.array(given)
    except (pa.ArrowException, OverflowError, UnicodeEncodeError) as error:
        raise UsageError(
            f"these values cannot be hashed together ({str(error).splitlines()[0]})",
            remedy="give texts, bytes or numbers, one kind at a time",
        ) from None
    return hash_column(array, scheme)


def open_column(
    values: pa.Array | pa.ChunkedArray, scheme: HashScheme | int | str, *, plain: bool = False
) -> Column:
    """Return a column ready to be hashed; checks its type and the sizes of its buffers.

    With `plain`, values of eight bytes stay as they are (entries of a dictionary are settled here).
    """
    known, values = scheme_of(scheme), arrow_column(values)
    chunks = [c for c in (values.chunks if isinstance(values, pa.ChunkedArray) else [values]) if len(c)]
    if not chunks:
        _kind(values.type)
    stretches = tuple(_stretches(chunks, known, plain=plain))
    starts = np.cumsum([0, *(s.size for s in stretches)])
    return Column(int(starts[-1]), tuple(starts[:-1].tolist()), stretches)


def _stretches(chunks: Sequence[Any], scheme: HashScheme, *, plain: bool) -> Iterator[Cells]:
    # Chunks usually share one dictionary: its hashes are kept from one to the next.
    last: tuple[Any, U64] | None = None
    for chunk in chunks:
        _check(chunk, full=False)
        if pa.types.is_dictionary(chunk.type):
            if last is None or not _same_buffers(last[0], chunk.dictionary):
                last = (chunk.dictionary, _filled(open_column(chunk.dictionary, scheme), plain=plain))
            yield _entries(chunk, last[1], scheme)
        else:
            yield _cells(chunk, scheme)


def _filled(column: Column, *, plain: bool) -> U64:
    out = np.empty(column.size, np.uint64)
    if column.stretches and column.size > _SMALL[column.stretches[0].scheme]:
        # Loaded here, because every stretch alone may be small.
        from dataguard.fingerprints.hashing import _kernels  # noqa: F401
    column.fill(0, column.size, out, plain=plain)
    return out


def _check(chunk: Any, *, full: bool) -> None:
    try:
        chunk.validate(full=full)
    except (pa.ArrowInvalid, pa.ArrowIndexError) as error:
        raise DecodeError(
            f"a column of type {chunk.type} is damaged ({str(error).splitlines()[0]})",
            remedy="read it again from its source",
        ) from None


def _same_buffers(a: Any, b: Any) -> bool:
    def where(array: Any) -> list[int]:
        return [0 if x is None else int(x.address) for x in array.buffers()]

    return bool(a.type == b.type and len(a) == len(b) and a.offset == b.offset and where(a) == where(b))


def _kind(kind: Any) -> str:
    """Return how values of a type are laid out: ``strings``, ``fixed``, ``words`` or another way to get there."""
    t = pa.types
    if t.is_string(kind) or t.is_binary(kind) or t.is_large_string(kind) or t.is_large_binary(kind):
        return "strings"
    if t.is_string_view(kind) or t.is_binary_view(kind):
        return "view"
    if t.is_fixed_size_binary(kind) or t.is_decimal(kind) or t.is_interval(kind):
        return "fixed"
    if t.is_primitive(kind):
        return "words"
    if t.is_dictionary(kind) or t.is_run_end_encoded(kind):
        return _kind(kind.value_type) and ("dictionary" if t.is_dictionary(kind) else "runs")
    if t.is_null(kind):
        return "null"
    if isinstance(kind, pa.BaseExtensionType):
        return _kind(kind.storage_type) and "extension"
    raise UsageError(
        f"a column of type {kind} cannot be hashed", remedy="hash its fields or its items one by one"
    )


def _cells(chunk: Any, scheme: HashScheme) -> Cells:
    layout, n = _kind(chunk.type), len(chunk)
    if layout == "null":
        return Cells(n, scheme, numbers=np.zeros(n, np.uint8), valid=(np.zeros((n + 7) // 8, np.uint8), 0))
    if layout == "extension":
        return _cells(chunk.storage, scheme)
    if layout == "runs":
        _check(chunk, full=True)
        return _cells(pc.run_end_decode(chunk), scheme)
    if layout == "view":
        # Views may point anywhere, and Arrow follows them without a look unless asked.
        plain = chunk.view(pa.binary_view())
        _check(plain, full=True)
        return _cells(plain.cast(pa.large_binary()), scheme)
    valid = _valid(chunk)
    if layout == "words":
        return Cells(n, scheme, numbers=_numbers(chunk), valid=valid)
    return Cells(n, scheme, strings=_strings(chunk, layout), valid=valid)


def _entries(chunk: Any, hashes: U64, scheme: HashScheme) -> Cells:
    valid = _valid(chunk)
    index = _numbers(chunk.indices)
    if int(index.min()) < 0 or int(index.max()) >= len(hashes):
        outside = (index < 0) | (index >= len(hashes))
        if valid is None or (outside & (_bits(*valid, len(chunk)) != 0)).any():
            raise DecodeError(
                "a dictionary column points outside of its dictionary", remedy="the data is damaged"
            )
    hashes = hashes if len(hashes) else np.zeros(1, np.uint64)
    return Cells(len(chunk), scheme, entries=(hashes, index), valid=valid)


def _valid(chunk: Any) -> tuple[U8, int] | None:
    bitmap = chunk.buffers()[0]
    if bitmap is None or chunk.null_count == 0:
        return None
    return _bitmap(bitmap, chunk.offset, len(chunk))


def _bitmap(buffer: Any, offset: int, n: int) -> tuple[U8, int]:
    return np.frombuffer(buffer, np.uint8, (offset + n + 7) // 8 - offset // 8, offset // 8), offset % 8


def _bits(bitmap: U8, offset: int, n: int) -> U8:
    return np.unpackbits(bitmap[offset // 8 : (offset + n + 7) // 8], bitorder="little")[
        offset % 8 : offset % 8 + n
    ]


def _blank(bitmap: U8, offset: int, first: int, out: U64) -> None:
    """Write the constant of a missing value over hashes: bit ``offset + first`` belongs to ``out[0]``."""
    if "numba" in sys.modules:
        from dataguard.fingerprints.hashing._kernels import blank

        blank(_read_only(bitmap), np.uint64(offset + first), out)
    else:
        out[_bits(bitmap, offset + first, len(out)) == 0] = NULL_HASH


def _numbers(chunk: Any) -> NDArray[Any]:
    """Return the stored numbers of a chunk, without a copy; of booleans a byte each."""
    kind = chunk.type
    if pa.types.is_boolean(kind):
        return _bits(*_bitmap(chunk.buffers()[1], chunk.offset, len(chunk)), len(chunk))
    letter = "f" if pa.types.is_floating(kind) else "u" if pa.types.is_unsigned_integer(kind) else "i"
    width = kind.bit_width // 8
    return np.frombuffer(chunk.buffers()[1], f"<{letter}{width}", len(chunk), chunk.offset * width)


def _widen(numbers: NDArray[Any], out: U64) -> None:
    """Write numbers as the words of eight bytes that are hashed."""
    if numbers.dtype.kind != "f":
        # As signed words in both cases: every unsigned number of 8 bytes is only copied, bit for bit.
        out.view(np.int64)[:] = numbers.view(np.int64) if numbers.itemsize == 8 else numbers
        return
    reals = out.view(np.float64)
    with np.errstate(invalid="ignore"):  # a missing value may hide a signalling NaN
        np.add(numbers, 0.0, out=reals, dtype=np.float64)
    unknown = np.isnan(reals)
    if unknown.any():
        reals[unknown] = np.nan


def _strings(chunk: Any, layout: str) -> tuple[U8, NDArray[Any]]:
    n, buffers = len(chunk), chunk.buffers()
    if layout == "fixed":
        width = chunk.type.bit_width // 8
        data = np.frombuffer(buffers[1], np.uint8) if width else _NONE
        return data, (chunk.offset + np.arange(n + 1)) * width
    large = pa.types.is_large_string(chunk.type) or pa.types.is_large_binary(chunk.type)
    width = 8 if large else 4
    offsets = np.frombuffer(buffers[1], f"<i{width}", n + 1, chunk.offset * width)
    data = _NONE if buffers[2] is None or buffers[2].size == 0 else np.frombuffer(buffers[2], np.uint8)
    return data, offsets


def _read_only(array: NDArray[Any]) -> NDArray[Any]:
    # Arrow's buffers are; with writable ones beside them the kernels would be compiled twice.
    if not array.flags.writeable:
        return array
    view = array.view()
    view.flags.writeable = False
    return view


def _is_small(scheme: HashScheme, keys: int, size: int) -> bool:
    """Whether a job is done before compiled code would have started; it is then counted as done.

    Hundreds of small columns are one large job: measured, 31 s for the columns of 14 tables in plain Python.
    """
    if "numba" in sys.modules:
        return False
    work = _done[scheme] + keys + max(size, 0) // 64
    if work > _SMALL[scheme]:
        return False
    _done[scheme] = work
    return True


def _hash_few(data: U8, offsets: NDArray[Any], scheme: HashScheme, out: U64) -> int:
    """Fill `out` without compiled code; -1, or the row whose offsets are wrong."""
    wide = offsets.astype(np.int64)
    if wide[0] < 0 or wide[0] > len(data):
        return 0
    wrong = np.flatnonzero((wide[1:] < wide[:-1]) | (wide[1:] > len(data)))
    if len(wrong):
        return int(wrong[0])
    raw = data[wide[0] : wide[-1]].tobytes()
    at = (wide - wide[0]).tolist()
    function = plain_hash(scheme)
    out[:] = [function(raw[a:b]) for a, b in pairwise(at)]
    return -1
