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
from dataguard.fingerprints.hashing.columns import Column, open_column
from dataguard.fingerprints.hashing.schemes import HashScheme, plain_hash, scheme_of

__all__ = ["hash_rows"]

U8 = NDArray[np.uint8]
U64 = NDArray[np.uint64]

_TILE = 1 << 14
"""Rows of a tile. Smaller ones cost more in calls, larger ones leave the second-level cache (measured)."""

_SMALL = 20_000


def hash_rows(
    table: pa.Table | pa.RecordBatch | Sequence[pa.Array | pa.ChunkedArray],
    scheme: HashScheme | int | str = HashScheme.DGMUM_1,
) -> U64:
    """Return the hash of every row.

    Parameters
    ----------
    table : pyarrow.Table, RecordBatch, or a sequence of columns of one length
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
    if isinstance(table, (pa.Table, pa.RecordBatch)):
        columns, rows = [open_column(c, known, plain=True) for c in table.columns], int(table.num_rows)
    else:
        columns = [open_column(c, known, plain=True) for c in table]
        rows = columns[0].size if columns else 0
    for i, column in enumerate(columns):
        if column.size != rows:
            raise UsageError(
                f"column {i} has {column.size} values, the first has {rows}",
                remedy="give columns of one length",
            )
    if not columns:
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

    width, step = len(columns), min(_TILE, len(out))
    lanes, pairs = _plan(width)
    key = [np.uint64(k) for k in CONSTANTS]
    others = [np.empty(step, np.uint64) for _ in range(3 if lanes else 0)]
    reader = _Reader(columns, [*lanes, *pairs, _last(width)], step)
    for first, last in _tiles(len(out), step):
        state = out[first:last]
        reader.turn(first, last)
        if lanes:
            states = [state, *(s[: last - first] for s in others)]
            for k, one in enumerate(states):
                one.fill(STATE ^ CONSTANTS[k])
            for i in range(len(lanes)):
                mum_absorb(*reader.pair(), key[4 + i % 4], states[i % 4])
            mum_merge(*states)
        else:
            state.fill(STATE)
        for _ in pairs:
            mum_absorb(*reader.pair(), key[5], state)
        mum_last(*reader.pair(), np.uint64(8 * width), state)


def _plan(width: int) -> tuple[list[Pair], list[Pair]]:
    """Return which cells dgmum-1 absorbs together, of rows of `width` cells: into four lanes by turns; into one."""
    if width > 32:
        lanes = [(i, i + 1) for i in range(0, (width - 1) // 8 * 8, 2)]
        return lanes, [(width - 8, width - 7), (width - 6, width - 5), (width - 4, width - 3)]
    if width > 8:
        return [], [(i, i + 1) for i in range(0, width - 2, 2)]
    if width > 4:
        return [], [(0, 1), (2, 3), (width - 4, width - 3)]
    return [], [(0, 1)] if width > 2 else []


def _last(width: int) -> Pair:
    return max(width - 2, -1), width - 1


class _Reader:
    """Hands out the cells of a tile, two columns at a time in the order of a plan; -1 is a column of zeros.

    A column that comes up again in the same tile is kept, because its strings are hashed already.
    """

    def __init__(self, columns: Sequence[Column], plan: Sequence[Pair], step: int) -> None:
        self._columns, self._plan, self._step = columns, plan, step
        self._until = {column: turn for turn, pair in enumerate(plan) for column in pair}
        self._free: list[U64] = []
        self._kept: dict[int, tuple[U64, U64]] = {}
        self._turn = self._first = self._last = 0

    def turn(self, first: int, last: int) -> None:
        """Go to the beginning of the tile of the rows `first` to `last` (not included)."""
        self._turn, self._first, self._last = 0, first, last

    def pair(self) -> tuple[U64, U64]:
        """Return the next two columns; they are valid until the next call."""
        ...
