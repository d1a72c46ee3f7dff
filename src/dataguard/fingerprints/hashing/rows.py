"""Hashes of table rows, a tile at a time.

Hash of a row = hash, under the same scheme, of its cells at 8 bytes each, low one first, in the order of
the columns: a number, date or boolean by the 8 bytes that :mod:`~dataguard.fingerprints.hashing.columns`
would hash, a string or decimal by its hash there, a missing value by the constant. So names do not
enter, the order of the columns does. dgmum-1 takes its keys in by 16 bytes: here two columns at a time,
with one state per row of the tile, and numbers of 8 bytes are read where Arrow keeps them.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dataguard.errors import UsageError
from dataguard.fingerprints.arguments import arrow_table
from dataguard.fingerprints.hashing.columns import Column, open_column
from dataguard.fingerprints.hashing.schemes import HashScheme, plain_hash, scheme_of

__all__ = ["hash_rows"]

Pair = tuple[int, int]
U64 = NDArray[np.uint64]

_TILE = 1 << 16
"""Rows of a tile: three or four columns of words, 2 MiB. A quarter of it takes 16 to 26 % more time, in calls;
twice as much saves 3 to 5 % here, where the cache is large (measured)."""

_SMALL = 20_000


def hash_rows(
    table: pa.Table | pa.RecordBatch | Sequence[pa.Array | pa.ChunkedArray],
    scheme: HashScheme | int | str = HashScheme.DGMUM_1,
) -> U64:
    """Return the hash of every row.

    Two tables meet only if their columns stand in one order and hold the same types: integers of any width and
    booleans meet, but 1 and 1.0, a number and its text, a date and its text, and times of different units do
    not. Bring the suspect into shape first, ``suspect.select(mine.column_names).cast(mine.schema)``, or hash both
    tables by meaning: ``hash_rows([pa.array(hash_meanings(c)) for c in table.columns])``.

    Parameters
    ----------
    table : pyarrow.Table, RecordBatch, or a sequence of columns of one length
        Or a frame of pandas or polars, without its index. pandas keeps integers with gaps as reals.
    scheme : HashScheme, int or str
        ``"dgmum-1"`` or ``"xxh3-64"``.

    Returns
    -------
    (rows,) uint64

    Raises
    ------
    UsageError
        For nested types, unknown schemes, and columns of different lengths.
    DecodeError
        If a buffer is too short or an offset points outside of it.
    """
    known = scheme_of(scheme)
    whole = arrow_table(table)
    if whole is not None:
        columns, rows = [open_column(c, known, plain=True) for c in whole.columns], int(whole.num_rows)
    elif not isinstance(table, Sequence) or isinstance(table, (str, bytes)):
        raise UsageError(
            f"a table is needed, not a {type(table).__name__}",
            remedy="give a pyarrow table, or a list of Arrow columns",
        )
    else:
        columns = [open_column(c, known, plain=True) for c in table]
        rows = columns[0].size if columns else 0
    for i, column in enumerate(columns):
        if column.size != rows:
            raise UsageError(
                f"column {i} has {column.size} values, the first has {rows}",
                remedy="give columns of one length",
            )
    if not columns or not rows:
        return np.full(rows, plain_hash(known)(b""), np.uint64)
    out = np.empty(rows, np.uint64)
    if rows <= _SMALL and "numba" not in sys.modules:
        _fill_few(columns, known, out)
    elif known is HashScheme.XXH3_64:
        _fill_xxh3(columns, out)
    else:
        _fill_mum(columns, out)
    return out


def _tiles(rows: int, step: int) -> Iterator[tuple[int, int]]:
    for first in range(0, rows, step):
        yield first, min(first + step, rows)


def _fill_few(columns: Sequence[Column], scheme: HashScheme, out: U64) -> None:
    cells = np.empty((len(out), len(columns)), "<u8")
    room = np.empty(len(out), np.uint64)
    for i, column in enumerate(columns):
        column.fill(0, len(out), room, plain=True)
        cells[:, i] = room
    raw, width, function = cells.tobytes(), 8 * len(columns), plain_hash(scheme)
    out[:] = [function(raw[k : k + width]) for k in range(0, len(raw), width)]


def _fill_xxh3(columns: Sequence[Column], out: U64) -> None:
    from dataguard.fingerprints.hashing.xxh3._kernels import xxh3_rows

    width = len(columns)
    step = max((1 << 17) // width, 64)
    # Two cells more than are used: a row of one or two cells is read as 16 bytes.
    cells, room = np.zeros(step * width + 2, np.uint64), np.empty(step, np.uint64)
    for first, last in _tiles(len(out), step):
        tile = cells[: (last - first) * width].reshape(last - first, width)
        for i, column in enumerate(columns):
            tile[:, i] = column.cells(first, last, room)
        xxh3_rows(cells.view(np.uint8), np.int64(8 * width), out[first:last])


def _fill_mum(columns: Sequence[Column], out: U64) -> None:
    from dataguard.fingerprints.hashing._kernels import CONSTANTS, STATE, mum_absorb, mum_last, mum_merge

    step = min(_TILE, len(out))
    lanes, pairs = _plan(len(columns))
    key, length = [np.uint64(k) for k in CONSTANTS], np.uint64(8 * len(columns))
    others = [np.empty(step, np.uint64) for _ in range(3 if lanes else 0)]
    rooms: list[U64] = []
    for first, last in _tiles(len(out), step):
        state = out[first:last]
        states = [state, *(s[: len(state)] for s in others)]
        for k, one in enumerate(states):
            one.fill(STATE ^ CONSTANTS[k] if lanes else STATE)
        for turn, (low, high) in enumerate(_taken(columns, [*lanes, *pairs], first, last, rooms)):
            if turn < len(lanes):
                mum_absorb(low, high, key[4 + turn % 4], states[turn % 4])
                if turn == len(lanes) - 1:
                    mum_merge(*states)
            elif turn < len(lanes) + len(pairs) - 1:
                mum_absorb(low, high, key[5], state)
            else:
                mum_last(low, high, length, state)


def _plan(width: int) -> tuple[list[Pair], list[Pair]]:
    """Return which cells dgmum-1 takes in together, of rows of `width` cells.

    First those of its four lanes, by turns; then those of one lane, of which the last pair ends the key. Cell
    -1 stands for zeros.
    """
    if width == 1:
        return [], [(0, -1)]
    last = [(width - 2, width - 1)]
    if width > 32:
        lanes = [(i, i + 1) for i in range(0, (width - 1) // 8 * 8, 2)]
        return lanes, [(i, i + 1) for i in range(width - 8, width, 2)]
    if width > 8:
        return [], [(i, i + 1) for i in range(0, width - 2, 2)] + last
    if width > 4:
        return [], [(0, 1), (2, 3), (width - 4, width - 3), *last]
    return [], [(0, 1), *last] if width > 2 else last


def _taken(
    columns: Sequence[Column], plan: Sequence[Pair], first: int, last: int, rooms: list[U64]
) -> Iterator[tuple[U64, U64]]:
    """Yield the cells of the rows `first` to `last` (not included), two columns at a time.

    A column that comes up twice is kept until then: its strings are hashed once. `rooms` are arrays to write
    into, handed on from tile to tile; the first tile is the longest.
    """
    until = {column: turn for turn, pair in enumerate(plan) for column in pair}
    kept: dict[int, tuple[U64, U64]] = {}
    for turn, pair in enumerate(plan):
        for i in pair:
            if i not in kept:
                room = rooms.pop() if rooms else np.empty(last - first, np.uint64)
                kept[i] = (columns[i].cells(first, last, room) if i >= 0 else _zeros(last - first), room)
        yield kept[pair[0]][0], kept[pair[1]][0]
        rooms += [kept.pop(i)[1] for i in pair if until[i] == turn]


def _zeros(rows: int) -> U64:
    zeros = np.zeros(rows, np.uint64)
    zeros.flags.writeable = False
    return zeros
