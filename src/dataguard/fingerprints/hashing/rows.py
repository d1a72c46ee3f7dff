"""Hashes of table rows, a tile at a time.

Hash of a row = hash, under the same scheme, of its cells at 8 bytes each, low one first, in the order of
the columns: a number, date or boolean by the 8 bytes that :mod:`~dataguard.fingerprints.hashing.columns`
would hash, a string or decimal by its hash there, a missing value by the constant. So names do not
enter, the order of the columns does. The cells of a tile stay in the cache between the column that
writes them and the row that reads them.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dataguard.errors import UsageError
from dataguard.fingerprints.hashing.columns import Column, open_column
from dataguard.fingerprints.hashing.schemes import HashScheme, plain_hash, scheme_of

__all__ = ["hash_rows"]

U8 = NDArray[np.uint8]
U64 = NDArray[np.uint64]

_TILE = 1 << 20
"""Bytes of a tile. Smaller ones cost more in calls, larger ones leave the second-level cache (measured)."""

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
    out = np.full(rows, plain_hash(known)(b""), np.uint64)
    if columns and rows:
        _fill(columns, known, out)
    return out


def _fill(columns: Sequence[Column], scheme: HashScheme, out: U64) -> None:
    width = len(columns)
    step = min(len(out), max(_TILE // (8 * width), 64))
    # Two cells more than are used: a row of one or two cells is read as 16 bytes.
    room = np.zeros(step * width + 2, np.uint64)
    for first in range(0, len(out), step):
        last = min(first + step, len(out))
        tile = room[: (last - first) * width].reshape(last - first, width)
        for i, column in enumerate(columns):
            column.fill(first, last, tile[:, i], plain=True)
        _hash_tile(room.view(np.uint8), 8 * width, scheme, out[first:last])


def _hash_tile(cells: U8, width: int, scheme: HashScheme, out: U64) -> None:
    if len(out) <= _SMALL and "numba" not in sys.modules:
        raw = cells[: width * len(out)].tobytes()
        function = plain_hash(scheme)
        out[:] = [function(raw[k : k + width]) for k in range(0, len(raw), width)]
    elif scheme is HashScheme.XXH3_64:
        from dataguard.fingerprints.hashing.xxh3._kernels import xxh3_rows

        xxh3_rows(cells, np.int64(width), out)
    else:
        from dataguard.fingerprints.hashing._kernels import mum_rows

        mum_rows(cells, np.int64(width), out)
