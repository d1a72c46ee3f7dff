"""Large tables a block at a time: consecutive rows, as many as a memory bound allows.

A table of any size is registered, marked, read back and searched block by block; pairs that
exchange values lie within one block, so a block can be marked knowing nothing of the others.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from dataguard.errors import UsageError
from dataguard.formats.chunks import WINDOW
from dataguard.formats.source import Source
from dataguard.values import mix64

__all__ = [
    "block_edges",
    "block_rows",
    "memory_for",
    "planned_edges",
    "read_blocks",
    "release",
    "row_cost",
    "spread",
    "take_positions",
]

I64 = NDArray[np.int64]

BASE_BYTES = 430 << 20
"""What a process holds before it reads a row: interpreter, libraries, compiled kernels, buffers."""

CELL_BYTES = 95
"""Bytes of memory per cell of a block, at the peak of registering it (measured on 30,000 to 336,776 rows
of flights, 19 columns: 82, and 372 MiB for the smallest table; the rest is margin)."""

TEXT_FACTOR = 5
"""And for each byte of text: it is held as read, as distinct values, and in the canonical rows
(measured on online retail, 500,000 x 8 with 72 bytes of text a row: 2.6 beside the cells)."""

_SMALL = 1 << 26
"""Bytes that a block may hold in any case."""

_MEASURED = ("csv", "tsv", "jsonl")
"""Formats that know the length of all their rows."""

_MEASURED_SHARE = 0.8
"""What was measured of what is planned for a cell: 82 of 95."""

_LEAST_ROWS = WINDOW
"""Rows of the smallest block: fewer would show too little of a table to plan it."""


def row_cost(source: Source) -> int:
    """Return the bytes of memory that a row of a source takes.

    Texts are measured where they are longest (in runs of `WINDOW` rows of a CSV or JSON Lines file, in row
    groups of a Parquet file): a file that begins with short rows may go on with long ones. What a file does
    not tell of itself is measured on the first batch.
    """
    text = getattr(source, "densest", 0)
    first = None if source.format in _MEASURED else next(iter(source.batches()), None)
    if first is not None and first.num_rows:
        text = max(text, sum(map(_content, first.columns)) // first.num_rows)
    return CELL_BYTES * len(source.column_names) + TEXT_FACTOR * text


def block_rows(cost: int, memory: int) -> int:
    """Return how many rows a block may have.

    Parameters
    ----------
    cost : int
        Bytes a row takes.
    memory : int
        Bytes the process may take.
    """
    return max(_LEAST_ROWS, (memory - BASE_BYTES) // max(1, cost))


def _content(column: pa.Array) -> int:
    """Return the bytes of the texts in a column, or of what is nested in it; 0 for cells of one size."""
    if pa.types.is_large_string(column.type) or pa.types.is_string(column.type):
        return pc.sum(pc.binary_length(column)).as_py() or 0
    return column.nbytes if pa.types.is_nested(column.type) or pa.types.is_large_binary(column.type) else 0


def planned_edges(source: Source, memory: int) -> tuple[int, ...]:
    """Return where a source is cut into blocks that fit a bound of memory.

    Parameters
    ----------
    source : Source
    memory : int
        Bytes the process may take.

    Raises
    ------
    UsageError
        Not even the smallest block fits.
    """
    rows, cost = source.rows(), row_cost(source)
    least = min(rows, _LEAST_ROWS)
    # Without the margins of the two factors: refused is what is known not to fit.
    if memory_for(int(least * cost * _MEASURED_SHARE)) > memory:
        raise UsageError(
            f"{least:,} of its rows take up to {least * cost / 2**30:,.1f} GiB, too much for {memory >> 20}M of memory",
            where=source.name,
            remedy=f"allow at least --memory {-(-memory_for(least * cost) >> 20)}M, or leave long texts out",
        )
    return block_edges(rows, block_rows(cost, memory))


def memory_for(size: int) -> int:
    """Return the bytes it takes to hold rows of so many bytes at once."""
    return BASE_BYTES + size


def block_edges(rows: int, most: int) -> tuple[int, ...]:
    """Return the first row of each block and the number of rows: blocks of nearly the same size, `most` at most."""
    count = max(1, -(-rows // most))
    return tuple(rows * i // count for i in range(count + 1))


def release() -> None:
    """Give back to the system what the allocator of Arrow keeps of tables that are gone.

    Between files, or what one of them took would stay beside what the next one takes (measured: 150 MiB of 592
    in a scan of two dozen hostile files).
    """
    pa.default_memory_pool().release_unused()


def read_blocks(
    source: Source, edges: Sequence[int], columns: Sequence[str] | None = None
) -> Iterator[pa.Table]:
    """Yield the rows of a source, cut at `edges`; one pass over the source.

    Parameters
    ----------
    source : Source
    edges : sequence of int
        Ascending, from 0 to the number of rows.
    columns : sequence of str, optional

    Raises
    ------
    UsageError
        A block that holds more than it was planned for, as a batch at the beginning of the file shows it.
    """
    if len(edges) == 2:
        yield source.table(columns)
        return
    planned, size = row_cost(source) * max(edges[1], _LEAST_ROWS), 0
    wanted = [last - first for first, last in itertools.pairwise(edges)]
    held: list[pa.RecordBatch] = []
    room = wanted.pop(0)
    for batch in source.batches(columns):
        rest = batch
        while rest.num_rows:
            part = rest.slice(0, room)
            held.append(part)
            size += part.nbytes
            if size > max(_SMALL, planned):
                raise UsageError(
                    "its rows are much longer further on than at its beginning: a block does not fit",
                    where=source.name,
                    remedy="allow more with --memory, or leave long texts out",
                )
            room -= part.num_rows
            rest = rest.slice(part.num_rows)
            if room == 0:
                yield pa.Table.from_batches(held)
                held, size = [], 0
                room = wanted.pop(0) if wanted else rest.num_rows + 1
    if held:
        yield pa.Table.from_batches(held)


def take_positions(source: Source, positions: I64, columns: Sequence[str] | None = None) -> pa.Table:
    """Return some rows of a source, in one pass; memory: these rows.

    Parameters
    ----------
    source : Source
    positions : (k,) int64
        Ascending row numbers.
    columns : sequence of str, optional
    """
    first, parts = 0, []
    for batch in source.batches(columns):
        low, high = np.searchsorted(positions, [first, first + batch.num_rows])
        if high > low:
            taken = pa.Table.from_batches([batch]).take(pa.array(positions[low:high] - first))
            parts.append(taken.combine_chunks())
        elif not parts:
            parts.append(pa.Table.from_batches([batch.slice(0, 0)]))
        first += batch.num_rows
        if high == len(positions):
            break
    return pa.concat_tables(parts)


def spread(rows: int, count: int) -> I64:
    """Return `count` row numbers (or all), one from each of as many equal stretches.

    Where in its stretch a row lies is decided by a public hash of `rows` and its rank: evenly spaced rows
    would meet every period of a file (stations, shops) at the same place.
    """
    if rows <= count:
        return np.arange(rows, dtype=np.int64)
    if count < 1:
        return np.empty(0, np.int64)
    edges = (np.arange(count + 1, dtype=np.int64) * rows) // count
    words = mix64(np.arange(count, dtype=np.uint64) ^ mix64(np.array([rows], np.uint64)))
    return edges[:-1] + (words % np.diff(edges).astype(np.uint64)).astype(np.int64)
