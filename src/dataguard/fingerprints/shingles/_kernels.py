"""Compiled loops from the bytes of a text column to shingle hashes and sketches.

A text goes through in pieces, and each piece through three short loops whose buffers stay in the cache: borders
of words, hashes of words, hashes of shingles. What they compute is defined in
:mod:`dataguard.fingerprints.shingles.texts`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dataguard._jit import inlined, kernel
from dataguard._simd import lower_words, mul_high, ones, trailing_zeros
from dataguard.fingerprints.hashing._kernels import mum_bytes
from dataguard.fingerprints.sketches._kernels import sketch_one

__all__ = ["PIECE", "WORD_LIMIT", "char_hashes", "sketch_texts", "text_hashes"]

I64 = NDArray[np.int64]
U8 = NDArray[np.uint8]
U32 = NDArray[np.uint32]
U64 = NDArray[np.uint64]

WORD_LIMIT = 1 << 15
"""Bytes of one word at most: a longer run of word bytes counts as several words."""

PIECE = 1 << 16
"""Bytes of text taken at a time; twice the longest word."""

_BASE = np.uint64(0x9FB21C651E98DF25)
_LAST = np.uint64(0xD6E8FEB86659FD93)
_ONE = np.uint64(1)
_TWO = np.uint64(2)
_EIGHT = np.uint64(8)
_NONE = np.uint64(0)
_TOP = np.uint64(63)
_GROUPS = 512
_USUAL = 5
_BASE2, _BASE3, _BASE4 = (np.uint64(pow(0x9FB21C651E98DF25, k, 1 << 64)) for k in (2, 3, 4))
_SHORT_GROUP = 12


@inlined
def _signed(x: Any) -> Any:
    # Indices that are added to and subtracted from; an unsigned one among them would make a float.
    return np.int64(x)


@inlined
def _finish(x: np.uint64) -> np.uint64:
    return mul_high(x, _LAST) ^ (x * _LAST) ^ x


@inlined
def _note(change: np.uint64, position: np.uint64, found: np.uint64, borders: U32) -> np.uint64:
    """Write the places of the bits of `change`, eight at a time whether they are there or not: few branches."""
    k = found
    found += ones(change)
    while k < found:
        for step in range(8):
            borders[k + np.uint64(step)] = np.uint32(position + trailing_zeros(change))
            change &= change - _ONE
        k += _EIGHT
    return found


@inlined
def _last_block(data: U8, at: int, left: int, text: U8, to: int, tail: U8) -> np.uint64:
    """Copy fewer than 64 bytes in lower case and return which belong to words; nothing beyond `data` is read."""
    if at <= len(data) - 64:
        mask = lower_words(data, np.int64(at), text, np.int64(to))
    else:
        for j in range(64):
            tail[j] = data[at + j] if j < left else np.uint8(0)
        mask = lower_words(tail, np.int64(0), text, np.int64(to))
    return mask & ((_ONE << np.uint64(left)) - _ONE)


@inlined
def _borders(data: U8, start: int, n: int, text: U8, to: int, tail: U8, borders: U32) -> np.uint64:
    """Note where words begin and end, in turn, in `to` bytes of an open word and `n` more; returns the count."""
    found, inside, whole = _NONE, _NONE, n // 64 * 64
    if to > 0:
        borders[0] = np.uint32(0)
        found, inside = _ONE, _ONE
    for i in range(0, whole, 64):
        mask = lower_words(data, np.int64(start + i), text, np.int64(to + i))
        found = _note(mask ^ ((mask << _ONE) | inside), np.uint64(to + i), found, borders)
        inside = mask >> _TOP
    if whole < n:
        # Here the zero bits behind the text close a word that may go on; `_take` opens it again.
        mask = _last_block(data, start + whole, n - whole, text, to + whole, tail)
        found = _note(mask ^ ((mask << _ONE) | inside), np.uint64(to + whole), found, borders)
    return found


@inlined
def _take(
    data: U8, start: int, stop: int, text: U8, kept: int, tail: U8, borders: U32
) -> tuple[int, int, int]:
    """Take one piece of a text; returns words found, bytes taken and where the open word at its end begins."""
    n = min(stop - start, PIECE - kept)
    found = _borders(data, start, n, text, kept, tail, borders)
    end = kept + n
    begin = end
    if (found & _ONE) == _NONE and found > _NONE and np.int64(borders[found - _ONE]) == end:
        found -= _ONE  # closed by the end of the piece: the word may go on
    if (found & _ONE) == _ONE:
        begin = _signed(borders[found - _ONE])
        if start + n >= stop:
            borders[found] = np.uint32(end)
            found += _ONE
            begin = end
        elif end - begin >= WORD_LIMIT:
            begin += WORD_LIMIT
            borders[found] = np.uint32(begin)
            found += _ONE
        else:
            found -= _ONE
    return _signed(found // _TWO), n, begin


@inlined
def _hash_words(text: U8, borders: U32, count: int, words: U64, at: int) -> int:
    """Hash the words between `count` pairs of borders into ``words[at:]``; returns how many they are."""
    made = np.uint64(at)
    for i in range(np.uint64(count)):
        start, end = np.int64(borders[_TWO * i]), np.int64(borders[_TWO * i + _ONE])
        while end - start > WORD_LIMIT:
            words[made] = mum_bytes(text, start, np.int64(WORD_LIMIT))
            start += WORD_LIMIT
            made += _ONE
        words[made] = mum_bytes(text, start, end - start)
        made += _ONE
    return _signed(made) - at


@inlined
def _count_words(borders: U32, count: int) -> int:
    made = 0
    for i in range(np.uint64(count)):
        length = np.int64(borders[_TWO * i + _ONE]) - np.int64(borders[_TWO * i])
        made += _signed((length + WORD_LIMIT - 1) // WORD_LIMIT)
    return made


@inlined
def _side_by_side(words: U64, made: int, n: int, out: U64, at: int) -> None:
    """Hash `made` groups of `n` words by Horner's rule, word by word for a block of groups: lanes do not wait."""
    for first in range(0, made, _GROUPS):
        m = min(_GROUPS, made - first)
        part = out[at + first : at + first + m]
        source = words[first : first + m + n - 1]
        if n == _USUAL:
            # The default in one pass: half the time of five.
            for i in range(m):
                x = source[i] * _BASE4 + source[i + 1] * _BASE3 + source[i + 2] * _BASE2
                part[i] = _finish(x + source[i + 3] * _BASE + source[i + 4])
        else:
            for i in range(m):
                part[i] = source[i]
            for k in range(1, n):
                later = source[k : k + m]
                for i in range(m):
                    part[i] = part[i] * _BASE + later[i]
            for i in range(m):
                part[i] = _finish(part[i])


@inlined
def _roll(words: U64, count: int, n: int, shed: np.uint64, out: U64, at: int) -> int:
    """Hash every `n` words in a row, a polynomial in ``_BASE``; ``shed`` is its n-th power. Returns how many.

    A step of the rolling sum waits for the one before: 1.9 ns a word; short groups go without it, 0.6 ns at 5 words.
    """
    made = max(0, count - n + 1)
    if n <= _SHORT_GROUP:
        _side_by_side(words, made, n, out, at)
        return made
    if made > 0:
        back, to = np.uint64(n - 1), np.uint64(at)
        x, gone = _NONE, _NONE
        for i in range(back):
            x = x * _BASE + words[i]
        for i in range(np.uint64(made)):
            x = x * _BASE + words[i + back] - gone
            gone = words[i] * shed
            out[to + i] = _finish(x)
    return made


@inlined
def _all_words(words: U64, count: int, out: U64, at: int) -> int:
    """Hash the one shingle of a text of fewer words than a shingle has."""
    if count == 0:
        return 0
    x = _NONE
    for i in range(count):
        x = x * _BASE + words[i]
    out[at] = _finish(x)
    return 1


@inlined
def _power(n: int) -> np.uint64:
    x = _ONE
    for _ in range(n):
        x *= _BASE
    return x


@kernel
def text_hashes(
    data: U8, offsets: I64, n: int, text: U8, borders: U32, words: U64, out: U64, ends: I64
) -> int:
    """Hash the shingles of `n` words of every text, end to end into `out`; ``ends[i + 1]`` is where text i ends.

    ``text`` has 2 PIECE bytes of scratch, ``borders`` PIECE + 16, ``words`` PIECE + `n`. With an empty `out` the
    shingles are only counted. Returns the number of shingles.
    """
    tail, shed, at = np.empty(64, np.uint8), _power(n), 0
    ends[0] = 0
    for d in range(len(offsets) - 1):
        start, stop, kept, carried, made = offsets[d], offsets[d + 1], 0, 0, 0
        while start < stop:
            count, taken, begin = _take(data, start, stop, text, kept, tail, borders)
            start += taken
            if len(out) > 0:
                have = carried + _hash_words(text, borders, count, words, carried)
                made += _roll(words, have, n, shed, out, at + made)
            else:
                have = carried + _count_words(borders, count)
                made += max(0, have - n + 1)
            drop = max(0, have - (n - 1))
            carried = have - drop
            if start >= stop and made == 0 and have > 0:
                made = _all_words(words, have, out, at) if len(out) > 0 else 1
            elif start < stop:
                for j in range(carried):
                    words[j] = words[drop + j]
                end = kept + taken
                kept = end - begin
                for j in range(kept):
                    text[j] = text[begin + j]
        at += made
        ends[d + 1] = at
    return at


@kernel
def sketch_texts(
    data: U8,
    offsets: I64,
    n: int,
    text: U8,
    borders: U32,
    words: U64,
    hashes: U64,
    a: U32,
    room: U32,
    out: U32,
) -> None:
    """Sketch the shingles of `n` words of every text; scratch as in :func:`text_hashes`, ``hashes`` as ``words``.

    ``room`` has 6 sketches of scratch, the first two empty. A text of several pieces is merged from theirs.
    """
    tail, shed, size = np.empty(64, np.uint8), _power(n), len(a)
    first, second, part, rest = (
        room[:size],
        room[size : 2 * size],
        room[2 * size : 3 * size],
        room[3 * size :],
    )
    for d in range(len(offsets) - 1):
        start, stop, kept, carried, at, begun = offsets[d], offsets[d + 1], 0, 0, d * size, False
        while start < stop:
            count, taken, begin = _take(data, start, stop, text, kept, tail, borders)
            start += taken
            have = carried + _hash_words(text, borders, count, words, carried)
            made = _roll(words, have, n, shed, hashes, 0)
            drop = max(0, have - (n - 1))
            carried = have - drop
            if start >= stop:
                if made == 0 and not begun:
                    made = _all_words(words, have, hashes, 0)
            else:
                for j in range(carried):
                    words[j] = words[drop + j]
                end = kept + taken
                kept = end - begin
                for j in range(kept):
                    text[j] = text[begin + j]
            if not begun:
                sketch_one(hashes, 0, made, a, first, second, rest, out, at)
            elif made > 0:
                sketch_one(hashes, 0, made, a, first, second, rest, part, 0)
                for j in range(size):
                    out[at + j] = min(out[at + j], part[j])
            begun = begun or made > 0
        if not begun:
            sketch_one(hashes, 0, 0, a, first, second, rest, out, at)


@kernel
def char_hashes(data: U8, offsets: I64, n: int, pad: U8, out: U64, ends: I64) -> int:
    """Hash every `n` characters in a row of every text (UTF-8); as :func:`text_hashes`, an empty `out` counts only.

    ``pad`` has room for 4 `n` + 16 bytes: shingles near the end of `data` are copied there.
    """
    at = 0
    ends[0] = 0
    for d in range(len(offsets) - 1):
        start, stop, made = offsets[d], offsets[d + 1], 0
        head, seen = start, 0
        for i in range(start, stop):
            # A character ends where the next byte does not continue it.
            if i + 1 == stop or (data[i + 1] & np.uint8(0xC0)) != np.uint8(0x80):
                seen += 1
                if seen >= n or i + 1 == stop:
                    length = i + 1 - head
                    if len(out) > 0:
                        if i + 1 + 16 <= len(data) or length > len(pad) - 16:
                            out[at + made] = mum_bytes(data, np.int64(head), np.int64(length))
                        else:
                            for j in range(length):
                                pad[j] = data[head + j]
                            out[at + made] = mum_bytes(pad, np.int64(0), np.int64(length))
                    made += 1
                    head += 1
                    while head < stop and (data[head] & np.uint8(0xC0)) == np.uint8(0x80):
                        head += 1
        at += made
        ends[d + 1] = at
    return at
