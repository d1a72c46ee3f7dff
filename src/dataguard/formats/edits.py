"""Moves of cells within a column, and their effect on an Arrow table.

A move says where a cell's content comes from, never what it is: so it can be carried out
on raw bytes (CSV), on Arrow arrays of any type (Parquet) and checked one against the other.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dataguard.errors import UsageError

__all__ = ["BlockMoves", "Moves", "apply_moves", "as_block", "merge_moves", "move_column", "take_rows"]

_LARGE = {pa.string(): pa.large_string(), pa.binary(): pa.large_binary()}
_PIECE = 1 << 16


@dataclass(frozen=True, slots=True, eq=False)
class Moves:
    """Cell ``(rows[k], column)`` takes what stood in the original cell ``(from_rows[k], column)``.

    Parameters
    ----------
    column : str
        Name of the column.
    rows : NDArray[np.int64], shape (k,)
        Zero-based data rows that change; each at most once.
    from_rows : NDArray[np.int64], shape (k,)
        Zero-based data rows of the *original* whose content moves there.
    """

    column: str
    rows: NDArray[np.int64]
    from_rows: NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class BlockMoves:
    """All moves within some consecutive rows; nothing moves in or out.

    Parameters
    ----------
    first, rows : int
        Number of the first row, and count of rows.
    moves : tuple of Moves
        Rows counted from `first`.
    table : pa.Table or None
        The rows themselves, where they are at hand: a writer then need not read them again.
    """

    first: int
    rows: int
    moves: tuple[Moves, ...]
    table: pa.Table | None = None

    def in_place(self) -> list[Moves]:
        """Return the moves with rows counted from the beginning of the table."""
        return [Moves(m.column, m.rows + self.first, m.from_rows + self.first) for m in self.moves]


def as_block(moves: Iterable[Moves], rows: int) -> list[BlockMoves]:
    """Return moves anywhere in a table of `rows` rows as one block."""
    return [BlockMoves(0, rows, tuple(moves))]


def merge_moves(
    moves: Iterable[Moves], columns: Sequence[str], rows: int | None = None
) -> dict[str, tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Check moves and gather them per column.

    Parameters
    ----------
    moves : iterable of Moves
        Several for one column are allowed as long as no row is named twice.
    columns : sequence of str
        Column names of the table.
    rows : int, optional
        Number of rows, when known.

    Returns
    -------
    dict
        Column -> (rows, from_rows), int64, sorted by rows; moves onto themselves are left out,
        columns without moves too.

    Raises
    ------
    UsageError
        Unknown column, row outside the table, a row named twice, lengths that differ.
    """
    gathered: dict[str, list[Moves]] = {}
    for move in moves:
        if move.column not in columns:
            raise UsageError("no such column to edit", where=repr(move.column))
        gathered.setdefault(move.column, []).append(move)
    merged = {}
    for column, parts in gathered.items():
        where = f"moves of column {column!r}"
        if any(part.rows.shape != part.from_rows.shape or part.rows.ndim != 1 for part in parts):
            raise UsageError("rows and from_rows differ in length", where=where)
        target = np.concatenate([np.asarray(part.rows, np.int64) for part in parts])
        origin = np.concatenate([np.asarray(part.from_rows, np.int64) for part in parts])
        order = np.argsort(target, kind="stable")
        target, origin = target[order], origin[order]
        if np.any(target[1:] == target[:-1]):
            raise UsageError("a row is named twice", where=where)
        if target.size and (
            min(target[0], origin.min()) < 0 or (rows is not None and max(target[-1], origin.max()) >= rows)
        ):
            raise UsageError(f"a row lies outside the table of {rows} rows", where=where)
        real = target != origin
        if real.any():
            merged[column] = (target[real], origin[real])
    return merged


def move_column(
    column: pa.ChunkedArray, rows: NDArray[np.int64], from_rows: NDArray[np.int64]
) -> pa.ChunkedArray:
    """Return `column` with ``column[rows] = original[from_rows]``; type and nulls are kept exactly.

    Parameters
    ----------
    column : pa.ChunkedArray
        Any Arrow type.
    rows, from_rows : NDArray[np.int64], shape (k,)
        Checked as by `merge_moves`.

    Returns
    -------
    pa.ChunkedArray
        Chunking may differ.
    """
    index = np.arange(len(column), dtype=np.int64)
    index[rows] = from_rows
    return take_rows(column, index)


def take_rows(column: pa.ChunkedArray, index: NDArray[np.int64]) -> pa.ChunkedArray:
    """Return ``column[index]`` for any Arrow type; `index` int64, not empty, within the column."""
    try:
        return column.take(pa.array(index))
    except pa.ArrowNotImplementedError:
        return _take_by_slices(column, index)
    except pa.ArrowInvalid:  # text beyond the 2 GiB that 32-bit offsets reach
        if column.type not in _LARGE:
            raise
        return _take_large(column, index)


def _take_large(column: pa.ChunkedArray, index: NDArray[np.int64]) -> pa.ChunkedArray:
    """`take` by way of 64-bit offsets, handed back in chunks that 32-bit offsets can address."""
    taken = column.cast(_LARGE[column.type]).take(pa.array(index))
    every = pa.array(np.arange(len(taken)))  # slices share the large buffer, taken rows do not
    pieces = (taken.take(every.slice(first, _PIECE)) for first in range(0, len(taken), _PIECE))
    return pa.chunked_array([chunk for piece in pieces for chunk in piece.cast(column.type).chunks])


def _take_by_slices(column: pa.ChunkedArray, index: NDArray[np.int64]) -> pa.ChunkedArray:
    """`take` for types without a take kernel (view and run-end types): zero-copy slices per run of rows."""
    breaks = np.flatnonzero(np.diff(index) != 1) + 1
    first = np.concatenate([[0], breaks]).tolist()
    last = np.concatenate([breaks, [index.size]]).tolist()
    chunks = [
        chunk
        for begin, end in zip(first, last, strict=True)
        for chunk in column.slice(int(index[begin]), end - begin).chunks
    ]
    return pa.chunked_array([pa.concat_arrays(chunks)], column.type)


def apply_moves(table: pa.Table, moves: Sequence[Moves]) -> pa.Table:
    """Carry out moves on a table.

    Parameters
    ----------
    table : pa.Table
        The original.
    moves : sequence of Moves
        All read from the original, so two moves exchange two cells.

    Returns
    -------
    pa.Table
        Same schema (types, nullability, metadata) and row order; untouched columns are shared.

    Raises
    ------
    UsageError
        See `merge_moves`.
    """
    for name, (rows, from_rows) in merge_moves(moves, table.column_names, table.num_rows).items():
        position = table.column_names.index(name)
        moved = move_column(table.column(position), rows, from_rows)
        table = table.set_column(position, table.schema.field(position), moved)
    return table
