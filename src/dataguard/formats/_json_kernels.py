"""Compiled loops over JSON Lines bytes: where keys and values lie, and the text of a column.

Every byte is checked against the grammar of RFC 8259, nested values included, so that what is
accepted here is what any JSON reader accepts; values are located, never interpreted, so that a
write-back moves the very bytes that were read. The slow twin (the ``json`` module) lives in ``tests``.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dataguard._jit import kernel

__all__ = ["MAX_DEPTH", "STATE_SIZE", "Keys", "add_key", "last_newline", "scan_rows"]

U8 = NDArray[np.uint8]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]

# Slots of the int64 state array shared with the callers.
ROWS = 0  # in/out: complete rows found in these bytes
CONSUMED = 1  # out: offset behind the last complete row
LINE = 2  # in/out: number of the line at the offset reached (first line = 1)
INSIDE = 3  # in/out: 1 = the scan (re)starts at a key inside an object
ROW = 4  # in/out: number of the row in the file, from zero
ERROR = 5  # out: one of the codes below, 0 = none
ERROR_AT = 6  # out: offset of the error, or of the key that is not known yet
KEY_END = 7  # out: offset behind that key
STATE_SIZE = 8

NEW_KEY = 1  # not an error while the keys are still being collected
NOT_OBJECT, NO_KEY, NO_COLON, NO_VALUE, NO_COMMA, OPEN_STRING, CONTROL = range(2, 9)
BAD_ESCAPE, BAD_NUMBER, NOT_A_NUMBER, TOO_DEEP, TEXT_BEHIND, TWICE = range(9, 15)

MAX_DEPTH = 64
"""Depth of nested values: the bits of one uint64."""

TAB, LF, CR, SPACE, QUOTE, BACKSLASH = 9, 10, 13, 32, 34, 92
PLUS, MINUS, POINT, ZERO, NINE = 43, 45, 46, 48, 57
ESCAPES = (34, 47, 92, 98, 102, 110, 114, 116)  # what may follow a backslash, except u: "/\\bfnrt
COMMA, COLON, OPEN_LIST, CLOSE_LIST, OPEN_MAP, CLOSE_MAP = 44, 58, 91, 93, 123, 125


class Keys(NamedTuple):
    """The spellings of keys known so far, as an open-addressing hash table.

    Parameters
    ----------
    slots : int32 array, a power of two long
        Spelling number, -1 = free.
    starts, ends : int64 arrays
        Extent of each spelling in `text`, quotes included.
    columns : int32 array
        Column of each spelling.
    text : uint8 array
    seed : np.uint64
        Start of the hash; differs between processes so that no file can be made to collide.
    """

    slots: I32
    starts: I64
    ends: I64
    columns: I32
    text: U8
    seed: np.uint64


@kernel
def last_newline(data: U8, begin: int, size: int) -> int:
    """Offset behind the last LF of ``data[begin:size]``; `begin` where there is none."""
    i = size
    while i > begin and data[i - 1] != LF:
        i -= 1
    return i


@kernel
def _same(data: U8, start: int, end: int, keys: Keys, spelling: int) -> bool:
    """Whether ``data[start:end]`` is the spelling of that number."""
    at = keys.starts[spelling]
    if keys.ends[spelling] - at != end - start:
        return False
    for j in range(end - start):  # noqa: SIM110 - compiled as a loop
        if data[start + j] != keys.text[at + j]:
            return False
    return True


@kernel
def _slot(data: U8, start: int, end: int, keys: Keys) -> int:
    """Slot that holds the spelling ``data[start:end]``, or the free one where it belongs."""
    h = keys.seed
    for j in range(start, end):  # FNV-1a
        h = (h ^ np.uint64(data[j])) * np.uint64(0x100000001B3)
    h ^= h >> np.uint64(32)
    mask = keys.slots.size - 1
    slot = int(np.int64(h & np.uint64(mask)))
    while keys.slots[slot] >= 0 and not _same(data, start, end, keys, keys.slots[slot]):
        slot = (slot + 1) & mask
    return slot


@kernel
def add_key(keys: Keys, spelling: int) -> None:
    """Enter the spelling of that number, whose text is in place, into the slots."""
    slot = _slot(keys.text, keys.starts[spelling], keys.ends[spelling], keys)
    keys.slots[slot] = spelling


@kernel
def _fail(state: I64, code: int, at: int) -> int:
    """Leave an error in the state; -1."""
    state[ERROR] = code
    state[ERROR_AT] = at
    return -1


@kernel
def _skip(data: U8, i: int) -> int:
    """Offset of the first byte from `i` on that is no white space; LF counts as none."""
    while data[i] == SPACE or data[i] == TAB or data[i] == CR:
        i += 1
    return i


@kernel
def _is_hex(b: int) -> bool:
    return (ZERO <= b <= NINE) or (65 <= b <= 70) or (97 <= b <= 102)


@kernel
def _string(data: U8, i: int, state: I64) -> int:
    """Offset behind the string (RFC 8259 section 7) whose quote is at `i`; -1 = error."""
    opened = i
    i += 1
    while True:
        b = data[i]
        if b == QUOTE:
            return i + 1
        if b == BACKSLASH:
            b = data[i + 1]
            if b == 117:  # u
                for j in range(i + 2, i + 6):
                    if not _is_hex(data[j]):
                        return _fail(state, BAD_ESCAPE, i)
                i += 6
            elif b in ESCAPES:
                i += 2
            else:
                return _fail(state, BAD_ESCAPE, i)
        elif b < SPACE:
            return _fail(state, OPEN_STRING, opened) if b == LF else _fail(state, CONTROL, i)
        else:
            i += 1


@kernel
def _digits(data: U8, i: int) -> int:
    """Offset behind the digits at `i`."""
    while ZERO <= data[i] <= NINE:
        i += 1
    return i


@kernel
def _number(data: U8, i: int, state: I64) -> int:
    """Offset behind the number (RFC 8259 section 6) at `i`; -1 = error."""
    start = i
    if data[i] == MINUS:
        i += 1
        if data[i] == 73:  # -Infinity
            return _fail(state, NOT_A_NUMBER, start)
    after = i + 1 if data[i] == ZERO else _digits(data, i)
    if not ZERO <= data[i] <= NINE:
        return _fail(state, BAD_NUMBER, start)
    i = after
    if data[i] == POINT:
        after = _digits(data, i + 1)
        if after == i + 1:
            return _fail(state, BAD_NUMBER, start)
        i = after
    if data[i] == 101 or data[i] == 69:  # e E
        i += 1
        if data[i] == PLUS or data[i] == MINUS:
            i += 1
        after = _digits(data, i)
        if after == i:
            return _fail(state, BAD_NUMBER, start)
        i = after
    b = data[i]
    if (ZERO <= b <= NINE) or b in (POINT, PLUS, MINUS) or 97 <= (b | 32) <= 122:
        return _fail(state, BAD_NUMBER, start)  # 01, 1.2.3, 0x10, 1abc
    return i


@kernel
def _scalar(data: U8, i: int, state: I64) -> int:
    """Offset behind the string, number or literal at `i`; -1 = error."""
    b = data[i]
    if b == QUOTE:
        return _string(data, i, state)
    if b == MINUS or (ZERO <= b <= NINE):
        return _number(data, i, state)
    if b == 116 and data[i + 1] == 114 and data[i + 2] == 117 and data[i + 3] == 101:
        return i + 4  # true
    if b == 110 and data[i + 1] == 117 and data[i + 2] == 108 and data[i + 3] == 108:
        return i + 4  # null
    if b == 102 and data[i + 1] == 97 and data[i + 2] == 108 and data[i + 3] == 115 and data[i + 4] == 101:
        return i + 5  # false
    if b == 73 or (b == 78 and data[i + 1] == 97):  # Infinity, NaN
        return _fail(state, NOT_A_NUMBER, i)
    return _fail(state, NO_VALUE, i)


@kernel
def _key(data: U8, i: int, state: I64) -> int:
    """Offset behind the key at `i`; -1 = error."""
    if data[i] != QUOTE:
        return _fail(state, NO_KEY, i)
    return _string(data, i, state)


@kernel
def _colon(data: U8, i: int, state: I64) -> int:
    """Offset of the value behind the colon at `i` or behind blanks; -1 = error."""
    i = _skip(data, i)
    if data[i] != COLON:
        return _fail(state, NO_COLON, i)
    return _skip(data, i + 1)


@kernel
def _member(data: U8, i: int, state: I64) -> int:
    """Offset of the value of the member of a nested object whose key is at `i` or behind blanks; -1 = error."""
    i = _key(data, _skip(data, i), state)
    return i if i < 0 else _colon(data, i, state)


@kernel
def _nested(data: U8, i: int, state: I64) -> int:
    """Offset behind the object or array at `i`; -1 = error."""
    maps = np.uint64(0)  # one bit for each open level, the innermost lowest: 1 = object
    depth = 0
    while True:
        b = data[i]
        if b in (OPEN_MAP, OPEN_LIST):
            if depth == MAX_DEPTH:
                return _fail(state, TOO_DEEP, i)
            depth += 1
            maps = (maps << np.uint64(1)) | np.uint64(b == OPEN_MAP)
            i = _skip(data, i + 1)
            if data[i] != (CLOSE_MAP if b == OPEN_MAP else CLOSE_LIST):
                i = _member(data, i, state) if b == OPEN_MAP else i
                if i < 0:
                    return -1
                continue
        else:
            i = _scalar(data, i, state)
            if i < 0:
                return -1
            i = _skip(data, i)
        while data[i] == (CLOSE_MAP if maps & np.uint64(1) else CLOSE_LIST):
            maps >>= np.uint64(1)
            depth -= 1
            if depth == 0:
                return i + 1
            i = _skip(data, i + 1)
        if data[i] != COMMA:
            return _fail(state, NO_COMMA, i)
        i = _member(data, i + 1, state) if maps & np.uint64(1) else _skip(data, i + 1)
        if i < 0:
            return -1


@kernel
def _members(
    data: U8, i: int, keys: Keys, first: int, starts: I32, ends: I32, stamps: I64, nested: U8, state: I64
) -> int:
    """Offset behind the object whose next key is at `i`; -1 = error or new key. See `scan_rows`.

    `first` is the cell number of the row's first cell, -1 = store nothing.
    """
    guess = 0
    while True:
        key = i
        i = _key(data, key, state)
        if i < 0:
            return -1
        if guess >= keys.columns.size or not _same(data, key, i, keys, guess):
            guess = keys.slots[_slot(data, key, i, keys)]
            if guess < 0:
                state[KEY_END] = i
                return _fail(state, NEW_KEY, key)
        column = keys.columns[guess]
        guess += 1  # members mostly come in the same order
        if stamps[column] == state[ROW]:
            return _fail(state, TWICE, key)
        i = _colon(data, i, state)
        if i < 0:
            return -1
        start = i
        if data[i] == OPEN_MAP or data[i] == OPEN_LIST:
            i = _nested(data, i, state)
            nested[column] = 1
        else:
            i = _scalar(data, i, state)
        if i < 0:
            return -1
        stamps[column] = state[ROW]
        if first >= 0:
            starts[first + column] = start
            ends[first + column] = i
        i = _skip(data, i)
        if data[i] == CLOSE_MAP:
            return i + 1
        if data[i] != COMMA:
            return _fail(state, NO_COMMA, i)
        i = _skip(data, i + 1)


@kernel
def scan_rows(
    data: U8,
    begin: int,
    size: int,
    max_rows: int,
    keys: Keys,
    width: int,
    starts: I32,
    ends: I32,
    stamps: I64,
    nested: U8,
    state: I64,
) -> None:
    """Find the values of all rows in ``data[begin:size]``.

    Parameters
    ----------
    data : uint8 array
        Whole lines: ``data[size - 1]`` or, behind a last line without newline, ``data[size]`` is
        LF, so no loop needs to look for the end of the bytes.
    begin, size : int
        Start of a line (or of a key, see INSIDE) and end of the lines.
    max_rows : int
        Stop after so many rows.
    keys : Keys
        Spellings known.
    width : int
        Columns, for `starts` and `ends`.
    starts, ends : int32 arrays, shape (max_rows * width,) or (0,)
        Out: extent of each value, row by row, -1 = absent; stored only where there is room.
    stamps : int64 array, shape (columns,)
        In/out: last row in which each column had a value; -1 at first.
    nested : uint8 array, shape (columns,)
        In/out: 1 for columns that held an object or array.
    state : int64 array, shape (STATE_SIZE,)
        See the constants above.
    """
    i = begin
    state[ERROR] = 0
    while i < size and state[ROWS] < max_rows:
        first = state[ROWS] * width if starts.size else -1
        if state[INSIDE] == 0:
            i = _skip(data, i)
            if data[i] == LF:
                i += 1
                state[LINE] += 1
                state[CONSUMED] = min(i, size)
                continue
            if data[i] != OPEN_MAP:
                _fail(state, NOT_OBJECT, i)
                return
            if first >= 0:
                starts[first : first + width] = -1
                ends[first : first + width] = -1
            i = _skip(data, i + 1)
        if state[INSIDE] == 0 and data[i] == CLOSE_MAP:
            i += 1
        else:
            i = _members(data, i, keys, first, starts, ends, stamps, nested, state)
            if i < 0:
                return
        state[INSIDE] = 0
        i = _skip(data, i)
        if data[i] != LF:
            _fail(state, TEXT_BEHIND, i)
            return
        i += 1
        state[LINE] += 1
        state[ROW] += 1
        state[ROWS] += 1
        state[CONSUMED] = min(i, size)
