"""Moved cells of data larger than memory: two passes, and only the moved cells are held.

The first pass collects the content of the cells that move, the second lets the rows pass by
and puts that content in its new place.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from dataguard.errors import UsageError
from dataguard.formats.edits import Moves, merge_moves, take_rows

__all__ = ["Cells", "MovedCells", "Rows", "compacted", "gather", "moved_batches", "plain_cells"]


class Rows(Protocol):
    """What is asked of a source: the part of `dataguard.formats.source.Source` used here."""

    @property
    def column_names(self) -> tuple[str, ...]:
        """Column names in order."""

    def batches(self, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
        """Stream the rows."""

    def rows(self) -> int:
        """Return the number of rows."""


class Cells(Protocol):
    """Moved cells of a whole source, handed out for some rows at a time."""

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns with moved cells."""

    def part(self, first: int, count: int) -> MovedCells:
        """Return the share of rows ``first .. first + count - 1``, numbered from 0."""


@dataclass(frozen=True, slots=True, eq=False)
class MovedCells:
    """The cells that change, with what they take.

    Parameters
    ----------
    cells : mapping of str to (NDArray[np.int64], pa.ChunkedArray)
        Column -> rows, ascending, and the content for each of them in the same order; of a
        dictionary column the plain values.
    """

    cells: Mapping[str, tuple[NDArray[np.int64], pa.ChunkedArray]]

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns with moved cells."""
        return tuple(self.cells)

    @property
    def changed(self) -> int:
        """Number of cells that take another cell's content."""
        return sum(rows.size for rows, _ in self.cells.values())

    def part(self, first: int, count: int) -> MovedCells:
        """Return the share of rows ``first .. first + count - 1``, numbered from 0; shares memory."""
        cells = {}
        for name, (rows, content) in self.cells.items():
            low, high = np.searchsorted(rows, [first, first + count]).tolist()
            if low < high:
                cells[name] = rows[low:high] - first, content.slice(low, high - low)
        return MovedCells(cells)

    def scatter(self, table: pa.Table, first: int) -> pa.Table:
        """Return the rows ``first ..`` of the data with the moved cells in their new places.

        Parameters
        ----------
        table : pa.Table
            Rows ``first .. first + table.num_rows - 1`` of the data; columns may be missing.
        first : int
            Number of its first row.

        Returns
        -------
        pa.Table
            Same schema; untouched columns are shared.

        Raises
        ------
        UsageError
            A dictionary column whose index type has no room for the content moved in.
        """
        for name, (rows, content) in self.part(first, table.num_rows).cells.items():
            if name not in table.column_names:
                continue
            position = table.column_names.index(name)
            field = table.schema.field(position)
            if pa.types.is_dictionary(field.type):
                column = _scatter_dictionary(table.column(position), rows, content, name)
            else:
                column = _scatter(table.column(position), rows, content)
            table = table.set_column(position, field, column)
        return table


def gather(source: Rows, moves: Sequence[Moves]) -> MovedCells:
    """Collect the content of the cells that move; reads only the columns concerned.

    Parameters
    ----------
    source : Rows
        A source, read once from start to end; not at all without moves.
    moves : sequence of Moves
        Checked by `merge_moves`.

    Returns
    -------
    MovedCells

    Raises
    ------
    UsageError
        See `merge_moves`.
    """
    merged = merge_moves(moves, source.column_names, source.rows())
    if not merged:
        return MovedCells({})
    origins = {name: np.unique(from_rows) for name, (_, from_rows) in merged.items()}
    found: dict[str, list[pa.Array]] = {name: [] for name in merged}
    types: dict[str, pa.DataType] = {}
    first = 0
    for batch in source.batches(list(merged)):
        for name, column in zip(batch.schema.names, batch.columns, strict=True):
            types[name] = _plain_type(column.type)
            low, high = np.searchsorted(origins[name], [first, first + batch.num_rows]).tolist()
            if low < high:
                index = origins[name][low:high] - first
                found[name] += plain_cells(take_rows(pa.chunked_array([column]), index)).chunks
        first += batch.num_rows
    cells = {}
    for name, (rows, from_rows) in merged.items():
        content = pa.chunked_array(found.pop(name), types[name])
        order = np.searchsorted(origins[name], from_rows).astype(np.int64)
        cells[name] = rows, take_rows(_joined(content), order)
    return MovedCells(cells)


def moved_batches(source: Rows, moves: Sequence[Moves]) -> tuple[int, Iterator[pa.RecordBatch]]:
    """Stream a source with cells moved; only the moved cells are held in memory.

    Parameters
    ----------
    source : Rows
        Read twice: once here, for the columns concerned, once by the iterator.
    moves : sequence of Moves
        May cross batches.

    Returns
    -------
    (int, Iterator of pa.RecordBatch)
        Cells that take another cell's content; the rows, all batches of the source's schema.

    Raises
    ------
    UsageError
        See `merge_moves` and `MovedCells.scatter`.
    """
    moved = gather(source, moves)

    def stream() -> Iterator[pa.RecordBatch]:
        first = 0
        for batch in source.batches():
            if batch.num_rows:
                yield from moved.scatter(pa.Table.from_batches([batch]), first).to_batches()
            first += batch.num_rows

    return moved.changed, stream()


def compacted(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Drop unused entries of a dictionary column, which Parquet would store in each row group."""
    if not pa.types.is_dictionary(column.type):
        return column
    codes = column.type.index_type
    return pa.chunked_array([_compact(chunk, codes) for chunk in column.chunks], column.type)


def _compact(chunk: Any, index_type: pa.DataType) -> Any:
    used, codes = np.unique(chunk.indices.drop_null().to_numpy(), return_inverse=True)
    indices = np.zeros(len(chunk), np.int64)
    valid = chunk.indices.is_valid().to_numpy(zero_copy_only=False)
    indices[valid] = codes
    return pa.DictionaryArray.from_arrays(
        pa.array(indices, mask=~valid).cast(index_type),
        chunk.dictionary.take(pa.array(used)),
        ordered=chunk.type.ordered,
    )


def _plain_type(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def plain_cells(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Decode a dictionary column, so that a few cells do not hold on to all entries; others stay."""
    if not pa.types.is_dictionary(column.type):
        return column
    chunks = [chunk.dictionary.take(chunk.indices) for chunk in column.chunks]
    return pa.chunked_array(chunks, column.type.value_type)


def _joined(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Join the many small chunks, each of which costs time again and again; 2 GiB of text stay apart."""
    try:
        joined = column.combine_chunks()
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return column
    return joined if isinstance(joined, pa.ChunkedArray) else pa.chunked_array([joined], column.type)


def _scatter(column: pa.ChunkedArray, rows: NDArray[np.int64], content: pa.ChunkedArray) -> pa.ChunkedArray:
    index = np.arange(len(column), dtype=np.int64)
    index[rows] = len(column) + np.arange(rows.size)
    return take_rows(pa.chunked_array([*column.chunks, *content.chunks], column.type), index)


def _scatter_dictionary(
    column: pa.ChunkedArray, rows: NDArray[np.int64], content: pa.ChunkedArray, name: str
) -> pa.ChunkedArray:
    chunks, first = [], 0
    for chunk in column.chunks:
        low, high = np.searchsorted(rows, [first, first + len(chunk)]).tolist()
        replaced = chunk
        if low < high:
            values = pa.concat_arrays(content.slice(low, high - low).chunks)
            replaced = _with_values(chunk, rows[low:high] - first, values, name)
        chunks.append(replaced)
        first += len(chunk)
    return pa.chunked_array(chunks, column.type)


def _with_values(chunk: Any, rows: NDArray[np.int64], values: pa.Array, name: str) -> Any:
    """Change codes only; entries that the dictionary lacks replace those no longer used."""
    kind, entries = chunk.type, chunk.dictionary
    missing = values
    try:
        known = pc.index_in(values, entries)
        missing = values.filter(pc.and_(pc.is_null(known), pc.is_valid(values))).unique()
        if len(missing):
            entries = pa.concat_arrays([entries, missing])
            known = pc.index_in(values, entries)
    except pa.ArrowNotImplementedError:  # entries that cannot be looked up, such as structs
        known = pa.array(np.arange(len(entries), len(entries) + len(values)))
        entries = pa.concat_arrays([entries, values])
    codes = pc.fill_null(chunk.indices.cast(pa.int64()), -1).to_numpy().copy()
    codes[rows] = pc.fill_null(known.cast(pa.int64()), -1).to_numpy()
    wide = pa.DictionaryArray.from_arrays(pa.array(codes, mask=codes < 0), entries, ordered=kind.ordered)
    try:
        if len(missing):
            return _compact(wide, kind.index_type)
        return pa.DictionaryArray.from_arrays(
            wide.indices.cast(kind.index_type), entries, ordered=kind.ordered
        )
    except pa.ArrowInvalid as error:
        raise UsageError(
            f"a dictionary of {kind.index_type} codes has no room for the values moved into it",
            where=f"column {name!r}",
            remedy="store the column with wider codes or as plain values",
        ) from error
