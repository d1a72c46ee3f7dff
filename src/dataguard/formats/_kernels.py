"""Compiled loops over CSV bytes: where rows and cells lie, their text, and splicing.

Readers and writers of CSV disagree in small ways, so reading and writing back go through
the one scanner below: what is decoded and what is moved are the same byte ranges by
construction. Grammar: RFC 4180 section 2, made lenient exactly where Python's ``csv``
module is (a quote inside an unquoted cell is text; text after a closing quote belongs to
the cell; CR, LF and CRLF all end a row). The slow twin lives in ``tests``.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dataguard._jit import kernel

__all__ = [
    "COLUMNS",
    "CONSUMED",
    "ERROR",
    "ERROR_COUNT",
    "ERROR_ESCAPE",
    "ERROR_LINE",
    "ERROR_NUL",
    "ERROR_QUOTE",
    "ERROR_RAGGED",
    "ERROR_WIDE",
    "LF",
    "LINE",
    "MAX_COLUMNS",
    "ROWS",
    "STATE_SIZE",
    "cell_text",
    "copy_cells",
    "scan_rows",
    "splice",
]

U8 = NDArray[np.uint8]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]

# Slots of the int64 state array shared with the callers.
ROWS = 0  # out: complete rows found
CONSUMED = 1  # out: offset behind the last complete row
LINE = 2  # in/out: number of the physical line at the offset CONSUMED (first line = 1)
COLUMNS = 3  # in/out: cells per row; 0 = take it from the first row
ERROR = 4  # out: one of the codes below, 0 = none
ERROR_LINE = 5  # out: physical line of the error
ERROR_COUNT = 6  # out: cells found in a ragged row
STATE_SIZE = 7

ERROR_RAGGED = 1
ERROR_NUL = 2
ERROR_QUOTE = 3
ERROR_WIDE = 4
ERROR_ESCAPE = 5

MAX_COLUMNS = 1 << 16
"""A header with more cells is no header."""

QUOTE = 34
LF = 10
CR = 13
ESC = 27

ZERO = np.uint64(0)
ONE = np.uint64(1)
SEVEN = np.uint64(7)
TOP_BYTE = np.uint64(56)
ALL_BITS = np.uint64(0xFFFFFFFFFFFFFFFF)
EVERY_BYTE = np.uint64(0x0101010101010101)
UPPER_BITS = np.uint64(0xE0E0E0E0E0E0E0E0)
LOWER_SEVEN = np.uint64(0x7F7F7F7F7F7F7F7F)
INDEX_OF_BYTE = np.uint64(0x0001020304050607)
QUOTES = np.uint64(0x2222222222222222)


@kernel
def _marks(word: np.uint64, pattern: np.uint64) -> np.uint64:
    """0x80 in every byte of `word` that is below 0x20, a quote, or the byte repeated in `pattern`.

    Eight bytes at a time: a byte b is zero exactly where ``((b & 0x7F) + 0x7F) | b`` has its top
    bit clear, and no carry leaves a byte.
    """
    a = word & UPPER_BITS  # zero where the byte is below 0x20
    b = word ^ QUOTES
    c = word ^ pattern
    a |= (a & LOWER_SEVEN) + LOWER_SEVEN
    b |= (b & LOWER_SEVEN) + LOWER_SEVEN
    c |= (c & LOWER_SEVEN) + LOWER_SEVEN
    return ~((a & b & c) | LOWER_SEVEN)


@kernel
def _first(marks: np.uint64) -> int:
    """Index (0 to 7) of the first marked byte: ``lowest >> 7`` is 256^k, and moves k to the top."""
    lowest = marks & (~marks + ONE)
    return int(((lowest >> SEVEN) * INDEX_OF_BYTE) >> TOP_BYTE)


@kernel
def _is_escape(data: U8, i: int, size: int) -> bool:
    """Whether ESC at `i` switches to Japanese as in ISO-2022-JP: ESC $ @, ESC $ B, ESC ( J, ESC ( I."""
    if i + 2 >= size:
        return False
    a = int(data[i + 1])
    b = int(data[i + 2])
    return (a == 36 and 64 <= b <= 66 and b != 65) or (a == 40 and 73 <= b <= 74)


@kernel
def _after_newline(data: U8, i: int, size: int, final: bool) -> int:
    """Offset behind the CR, LF or CRLF at `i`; -1 = the next byte decides."""
    if data[i] == LF:
        return i + 1
    if i + 1 < size:
        return i + 2 if data[i + 1] == LF else i + 1
    return i + 1 if final else -1


@kernel
def _row(
    data: U8,
    words: U64,
    start: int,
    size: int,
    separator: int,
    final: bool,
    columns: int,
    stored: int,
    starts: I32,
    ends: I32,
    line: int,
    state: I64,
) -> tuple[int, int, int]:
    """Store the cells of the row at `start`; return (offset behind it or -1, cells in it, line there).

    A quote opens at the start of a cell, closes, and opens again right behind its closing twin:
    doubled quotes need no look ahead.
    """
    pattern = np.uint64(separator) * EVERY_BYTE
    last = stored + (columns if columns > 0 else MAX_COLUMNS)
    k = stored
    inside = False
    closed = -1
    opened = line
    w = start >> 3
    marks = _marks(words[w], pattern) & (ALL_BITS << np.uint64((start & 7) << 3))
    while True:
        while marks == ZERO:
            w += 1
            marks = _marks(words[w], pattern)
        i = (w << 3) + _first(marks)
        marks &= marks - ONE
        b = data[i]
        if b == separator:
            if not inside:
                if k < last:
                    starts[k] = start
                    ends[k] = i
                k += 1
                start = i + 1
        elif b == QUOTE:
            if inside:
                inside = False
                closed = i
            elif i == start or i == closed + 1:
                inside = True
                opened = line
        elif i == size:  # where LF stands for the end of the bytes
            if not final:
                return -1, k - stored, line
            if inside:
                state[ERROR] = ERROR_QUOTE
                state[ERROR_LINE] = opened
                return -1, k - stored, line
            break
        elif not inside and ((b == LF) | (b == CR)):
            break
        elif b == LF:
            line += 1
        elif b == 0 or (b == ESC and _is_escape(data, i, size)):
            state[ERROR] = ERROR_NUL if b == 0 else ERROR_ESCAPE
            state[ERROR_LINE] = line
            return -1, k - stored, line
    if k < last:
        starts[k] = start
        ends[k] = i
    k += 1
    if i == size:
        return size, k - stored, line
    return _after_newline(data, i, size, final), k - stored, line + 1


@kernel
def _only_newlines(data: U8, i: int, size: int) -> bool:
    while i < size and (data[i] == LF or data[i] == CR):
        i += 1
    return i == size


@kernel
def scan_rows(
    data: U8,
    words: U64,
    begin: int,
    size: int,
    separator: int,
    final: bool,
    max_rows: int,
    starts: I32,
    ends: I32,
    state: I64,
) -> None:
    """Find the cells of all complete rows in ``data[begin:size]``.

    Parameters
    ----------
    data : uint8 array
        ``data[size]`` is LF, so that a search for the end of a cell always ends.
    words : uint64 array
        The same memory, eight bytes at a time.
    begin, size : int
        First byte to look at (it starts a row) and end of the valid bytes.
    separator : int
        The separator byte.
    final : bool
        No more bytes follow: the last row may end without a newline and before its last cells.
    max_rows : int
        Stop after so many rows.
    starts, ends : int32 arrays, shape (size - begin + 1 + MAX_COLUMNS,)
        Out: raw extent of each cell, quotes included, row by row; -1 for missing cells of the
        very last row.
    state : int64 array, shape (STATE_SIZE,)
        See the constants above.
    """
    i = begin
    rows = 0
    stored = 0
    line = state[LINE]
    columns = state[COLUMNS]
    state[ERROR] = 0
    while i < size and rows < max_rows:
        if columns != 1 and (data[i] == LF or data[i] == CR):
            # A blank line is no row, unless the table has one column: there it is an empty cell.
            after = _after_newline(data, i, size, final)
            if after < 0:
                break
            line += 1
            i = after
            continue
        after, cells, next_line = _row(
            data, words, i, size, separator, final, columns, stored, starts, ends, line, state
        )
        if after < 0:
            break
        if columns == 0 and cells <= MAX_COLUMNS:
            columns = cells
        short = cells < columns and _only_newlines(data, after, size)
        if short and not final:
            break
        if cells != columns and not short:
            state[ERROR] = ERROR_WIDE if columns == 0 else ERROR_RAGGED
            state[ERROR_LINE] = line
            state[ERROR_COUNT] = cells
            break
        for k in range(stored + cells, stored + columns):
            starts[k] = -1
            ends[k] = -1
        rows += 1
        stored += columns
        line = next_line
        i = after
    state[COLUMNS] = columns
    state[LINE] = line
    state[ROWS] = rows
    state[CONSUMED] = i


@kernel
def cell_text(
    data: U8,
    starts: I32,
    ends: I32,
    columns: int,
    column: int,
    rows: int,
    gap: int,
    offsets: I64,
    text: U8,
    validity: U8,
) -> int:
    """Unquote one column into the buffers of an Arrow large_string array.

    Parameters
    ----------
    data : uint8 array
    starts, ends : int32 arrays
        As filled by `scan_rows`; `columns` cells per row.
    columns, column, rows : int
    gap : int
        1 to put a NUL behind each cell, else 0.
    offsets : int64 array, shape (rows + 1,)
        Out.
    text : uint8 array
        Out; as long as the raw cells and gaps together.
    validity : uint8 array, shape (ceil(rows / 8),), zero on entry
        Out; least significant bit first, 0 = null (an empty cell without quotes).

    Returns
    -------
    int
        Number of nulls.
    """
    nulls = 0
    o = 0
    offsets[0] = 0
    k = column
    for row in range(rows):
        i = starts[k]
        end = ends[k]
        k += columns
        if i == end:  # empty, or -1 and -1: not there
            nulls += 1
        else:
            validity[row >> 3] |= np.uint8(1 << (row & 7))
            if data[i] == QUOTE:
                i += 1
                while i < end:
                    b = data[i]
                    i += 1
                    if b == QUOTE:
                        if i < end and data[i] == QUOTE:
                            i += 1
                        else:
                            break
                    text[o] = b
                    o += 1
            while i < end:
                text[o] = data[i]
                o += 1
                i += 1
        if gap == 1:
            text[o] = 0
            o += 1
        offsets[row + 1] = o
    return nulls


@kernel
def copy_cells(data: U8, starts: I64, ends: I64, out: U8) -> None:
    """Copy the bytes ``data[starts[k]:ends[k]]``, one stretch behind the other, into `out` (uint8)."""
    o = 0
    for k in range(starts.size):
        for i in range(starts[k], ends[k]):
            out[o] = data[i]
            o += 1


@kernel
def _copy(data: U8, out: U8) -> int:
    """Copy all of `data`; return its size. Compiles in 0.3 s, an assignment of slices in 2."""
    for i in range(data.size):
        out[i] = data[i]
    return data.size


@kernel
def splice(
    data: U8,
    size: int,
    base: int,
    starts: I64,
    ends: I64,
    pool: U8,
    pool_starts: I64,
    pool_ends: I64,
    out: U8,
) -> tuple[int, int]:
    """Copy ``data[:size]`` to `out` with some stretches replaced.

    The run of bytes since the last edit is copied as one slice: cell by cell was 4.4 times slower.

    Parameters
    ----------
    data : uint8 array
    size : int
    base : int
        Offset of ``data[0]`` in the text.
    starts, ends : int64 arrays, shape (k,), ascending
        Stretches of the text to replace; all lie within ``data[:size]``.
    pool : uint8 array
        Raw replacement bytes.
    pool_starts, pool_ends : int64 arrays, shape (k,)
        Extent of each replacement in `pool`.
    out : uint8 array
        Long enough for everything.

    Returns
    -------
    (int, int)
        Bytes written to `out`; stretches whose bytes differ from before.
    """
    position = 0
    o = 0
    changed = 0
    for k in range(starts.size):
        start = starts[k] - base
        stop = ends[k] - base
        o += _copy(data[position:start], out[o:])
        p = pool_starts[k]
        length = pool_ends[k] - p
        differs = length != stop - start
        for j in range(length):
            if not differs and pool[p + j] != data[start + j]:
                differs = True
            out[o + j] = pool[p + j]
        if differs:
            changed += 1
        o += length
        position = stop
    return o + _copy(data[position:size], out[o:]), changed
