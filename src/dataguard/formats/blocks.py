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

from dataguard.formats.source import Source
from dataguard.values import mix64

__all__ = [
    "block_edges",
    "block_rows",
    "memory_for",
    "read_blocks",
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

_LEAST_ROWS = 4096


def row_cost(source: Source) -> int:
    """Return the bytes of memory that a row of a source takes; texts are measured on the first batch."""
    first = next(iter(source.batches()), None)
    text = 0
    if first is not None and first.num_rows:
        texts = [c for c in first.columns if pa.types.is_large_string(c.type) or pa.types.is_string(c.type)]
        text = sum(pc.sum(pc.binary_length(c)).as_py() or 0 for c in texts) // first.num_rows
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


def memory_for(size: int) -> int:
    """Return the bytes it takes to hold rows of so many bytes at once."""
    return BASE_BYTES + size


def block_edges(rows: int, most: int) -> tuple[int, ...]:
    """Return the first row of each block and the number of rows: blocks of nearly the same size, `most` at most."""
    count = max(1, -(-rows // most))
    return tuple(rows * i // count for i in range(count + 1))


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
    """
    if len(edges) == 2:
        yield source.table(columns)
        return
    wanted = [last - first for first, last in itertools.pairwise(edges)]
    held: list[pa.RecordBatch] = []
    room = wanted.pop(0)
    for batch in source.batches(columns):
        rest = batch
        while rest.num_rows:
            part = rest.slice(0, room)
            held.append(part)
            room -= part.num_rows
            rest = rest.slice(part.num_rows)
            if room == 0:
                yield pa.Table.from_batches(held)
                held = []
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
    edges = (np.arange(count + 1, dtype=np.int64) * rows) // count
    words = mix64(np.arange(count, dtype=np.uint64) ^ mix64(np.array([rows], np.uint64)))
    return edges[:-1] + (words % np.diff(edges).astype(np.uint64)).astype(np.int64)
