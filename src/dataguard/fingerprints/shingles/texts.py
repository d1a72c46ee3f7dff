"""Texts as sets of shingles, straight from an Arrow column.

**Words.** A word is a run of ASCII letters, digits, underscores and bytes from 0x80 on, letters in lower case; a run
of more than 32,768 bytes counts as several words, cut from its beginning. The hash of a word is dgmum-1 of its bytes.
The hash of n words in a row is ``finish(w1 B**(n-1) + ... + wn mod 2**64)`` with B = 0x9FB21C651E98DF25 and
``finish(x) = high ^ low ^ x``, high and low being the halves of the 128-bit product ``x * 0xD6E8FEB86659FD93``.
A text of fewer than n words has one shingle, of all its words; a text without words has none.

**Characters.** For languages that put no blanks between words: dgmum-1 of the UTF-8 bytes of n characters in a row, as
they stand; a shorter text has one shingle.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from dataguard.errors import DecodeError, UsageError
from dataguard.fingerprints.arguments import arrow_column, is_whole
from dataguard.fingerprints.sketches.resemblance import DEFAULT_SIZE, EMPTY, multipliers, room_for

__all__ = ["character_shingles", "sketch_texts", "word_shingles"]

I64 = NDArray[np.int64]
U8 = NDArray[np.uint8]
U32 = NDArray[np.uint32]
U64 = NDArray[np.uint64]
Fill = Callable[[U8, I64, U64, I64], int]

_MOST = 64
"""Words or characters of a shingle at most."""


def sketch_texts(
    texts: pa.Array | pa.ChunkedArray, words: int = 5, size: int = DEFAULT_SIZE, out: U32 | None = None
) -> U32:
    """Return the resemblance sketch of every text's word shingles.

    Parameters
    ----------
    texts : pyarrow.Array or ChunkedArray of string or binary
        A missing text has no shingles.
    words : int
        Words per shingle, 1 to 64.
    size : int
        Slots, as :func:`~dataguard.fingerprints.sketches.resemblance.sketch_sets`.
    out : (n, size) uint32, optional
        Where to write.

    Returns
    -------
    (n, size) uint32
        The same as ``sketch_sets(*word_shingles(texts, words), size)``, without the hashes in between.

    Raises
    ------
    UsageError
        Another type of column, or numbers out of range.
    """
    from dataguard.fingerprints.shingles import _kernels as kernels

    _check(words)
    texts = arrow_column(texts)
    out = room_for(out, len(texts), size)
    text, borders, hashes = _scratch(words)
    room = np.full(6 * size, EMPTY, np.uint32)
    done = 0
    for data, offsets in _buffers(texts):
        part = out[done : done + len(offsets) - 1].reshape(-1)
        kernels.sketch_texts(
            data, offsets, words, text, borders, hashes[0], hashes[1], multipliers(size), room, part
        )
        done += len(offsets) - 1
    return out


def word_shingles(texts: pa.Array | pa.ChunkedArray, words: int = 5) -> tuple[U64, I64]:
    """Return the hashes of every text's word shingles.

    Parameters
    ----------
    texts : pyarrow.Array or ChunkedArray of string or binary
    words : int
        Words per shingle, 1 to 64.

    Returns
    -------
    hashes : (m,) uint64
        Text after text, in order, repeats kept.
    offsets : (n + 1,) int64
        Text i has ``hashes[offsets[i]:offsets[i + 1]]``.

    Raises
    ------
    UsageError
        Another type of column, or a number out of range.
    """
    from dataguard.fingerprints.shingles import _kernels as kernels

    _check(words)
    text, borders, hashes = _scratch(words)

    def fill(data: U8, offsets: I64, out: U64, ends: I64) -> int:
        return kernels.text_hashes(data, offsets, words, text, borders, hashes[0], out, ends)

    return _collected(texts, fill)


def character_shingles(texts: pa.Array | pa.ChunkedArray, characters: int = 5) -> tuple[U64, I64]:
    """Return the hashes of every text's character shingles; as :func:`word_shingles`."""
    from dataguard.fingerprints.shingles import _kernels as kernels

    _check(characters)
    pad = np.zeros(max(4 * characters, 64) + 16, np.uint8)

    def fill(data: U8, offsets: I64, out: U64, ends: I64) -> int:
        return kernels.char_hashes(data, offsets, characters, pad, out, ends)

    return _collected(texts, fill)


def _collected(texts: pa.Array | pa.ChunkedArray, fill: Fill) -> tuple[U64, I64]:
    """Count first, so that the hashes take the memory they need and no more."""
    none = np.empty(0, np.uint64)
    parts, ends, total = [], [np.zeros(1, np.int64)], 0
    for data, offsets in _buffers(texts):
        end = np.empty(len(offsets), np.int64)
        made = fill(data, offsets, none, end)
        hashes = np.empty(made, np.uint64)
        if made:
            fill(data, offsets, hashes, end)
        parts.append(hashes)
        ends.append(end[1:] + total)
        total += made
    return (parts[0] if len(parts) == 1 else np.concatenate([none, *parts])), np.concatenate(ends)


def _check(count: int) -> None:
    if not (is_whole(count) and 1 <= count <= _MOST):
        raise UsageError(f"{count} words or characters per shingle", remedy=f"use 1 to {_MOST}")


def _scratch(words: int) -> tuple[U8, U32, U64]:
    from dataguard.fingerprints.shingles._kernels import PIECE

    return (
        np.zeros(2 * PIECE, np.uint8),
        np.empty(PIECE + 64, np.uint32),
        np.empty((2, PIECE + words), np.uint64),
    )


def _buffers(texts: pa.Array | pa.ChunkedArray) -> Iterator[tuple[U8, I64]]:
    """Yield bytes and checked offsets of each chunk.

    Raises
    ------
    UsageError
        Not texts, or offsets that leave the bytes.
    DecodeError
        A damaged column: buffers too short, views or indices that point outside.
    """
    texts = arrow_column(texts)
    for chunk in texts.chunks if isinstance(texts, pa.ChunkedArray) else [texts]:
        plain = _plain(chunk)
        raw, offsets = _spans(plain)
        if plain.null_count:
            # Only now: Arrow copies along offsets that nobody has looked at.
            filled = pc.fill_null(plain, b"" if "binary" in str(plain.type) else "")
            raw, offsets = _spans(filled)
        yield raw, offsets


def _plain(chunk: pa.Array) -> pa.Array:
    """Return a chunk as strings or binary laid end to end: dictionaries repeat few texts, views are scattered."""
    kind = chunk.type
    try:
        if pa.types.is_dictionary(kind):
            entries = _plain(chunk.dictionary)
            _spans(entries)
            return pa.DictionaryArray.from_arrays(chunk.indices, entries, safe=True).cast(entries.type)
        if pa.types.is_string_view(kind) or pa.types.is_binary_view(kind):
            # As binary: views are followed without a look unless Arrow is asked, and not all bytes are UTF-8.
            views = chunk.view(pa.binary_view())
            views.validate(full=True)
            return views.cast(pa.large_binary())
        chunk.validate()
    except (pa.ArrowInvalid, pa.ArrowIndexError) as error:
        raise DecodeError(
            f"a column of type {kind} is damaged ({str(error).splitlines()[0]})",
            remedy="read it again from its source",
        ) from None
    return chunk


def _spans(chunk: pa.Array) -> tuple[U8, I64]:
    kind = chunk.type
    short = pa.types.is_string(kind) or pa.types.is_binary(kind)
    if not short and not pa.types.is_large_string(kind) and not pa.types.is_large_binary(kind):
        raise UsageError(f"a column of {kind} has no texts", remedy="cast it to string")
    _, ends, data = chunk.buffers()
    offsets = np.zeros(1, np.int64)
    if len(chunk):
        width = np.dtype(np.int32 if short else np.int64)
        offsets = np.frombuffer(ends, width)[chunk.offset : chunk.offset + len(chunk) + 1].astype(np.int64)
    raw = np.frombuffer(data, np.uint8) if data is not None else np.empty(0, np.uint8)
    if offsets[0] < 0 or offsets[-1] > len(raw) or (offsets[1:] < offsets[:-1]).any():
        raise UsageError(
            "text offsets leave the bytes of the column", remedy="the file is damaged: read it again"
        )
    return raw, offsets
