"""The moved cells of all blocks of a table, on disk where there is more than one block.

A writer asks for the moved cells of some rows at a time; those of one block are in memory then.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Self

import numpy as np
import pyarrow as pa

from dataguard.formats.edits import BlockMoves, merge_moves, take_rows
from dataguard.formats.moved import MovedCells, Rows, gather, plain_cells

__all__ = ["Spool"]


@dataclass(frozen=True, slots=True)
class _Kept:
    """One block: its rows, and where its cells lie: in memory, or in the file by column."""

    first: int
    rows: int
    cells: MovedCells | None
    places: tuple[tuple[str, int, int], ...] = ()


class Spool:
    """The cells that change, block by block; to be used in a ``with`` block.

    Parameters
    ----------
    source : Rows
        Read where a block does not bring its rows.
    blocks : iterable of BlockMoves
        Ascending.
    folder : Path, optional
        Where the file lies that holds the cells (without a name); the system's own place may be in memory.

    Raises
    ------
    UsageError
        See `merge_moves`.
    """

    def __init__(self, source: Rows, blocks: Iterable[BlockMoves], folder: Path | None = None) -> None:
        self._source, self._folder = source, folder
        self._blocks: list[_Kept] = []
        self._file: IO[bytes] | None = None
        self._loaded: tuple[int, MovedCells] | None = None
        self.changed = 0
        names: set[str] = set()
        for block in blocks:
            cells = _cells_of(source, block)
            self.changed += cells.changed
            names |= set(cells.cells)
            if self._blocks and self._blocks[-1].cells is not None:
                self._blocks[-1] = self._put(self._blocks[-1], self._blocks[-1].cells)
            self._blocks.append(_Kept(block.first, block.rows, cells))
        self.columns = tuple(name for name in source.column_names if name in names)
        self._firsts = np.array([block.first for block in self._blocks], np.int64)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()

    def part(self, first: int, count: int) -> MovedCells:
        """Return the share of rows ``first .. first + count - 1``, numbered from 0."""
        begin = max(0, int(np.searchsorted(self._firsts, first, side="right")) - 1)
        parts: list[tuple[int, MovedCells]] = []
        for number in range(begin, len(self._blocks)):
            block = self._blocks[number]
            if block.first >= first + count:
                break
            low, high = max(first, block.first), min(first + count, block.first + block.rows)
            if low < high:
                parts.append((low - first, self._cells(number).part(low - block.first, high - low)))
        return _joined(parts)

    def scatter(self, table: pa.Table, first: int) -> pa.Table:
        """Return the rows ``first ..`` of the data with the moved cells in their new places."""
        return self.part(first, table.num_rows).scatter(table, 0)

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Stream the source with its cells moved."""
        first = 0
        for batch in self._source.batches():
            if batch.num_rows:
                yield from self.scatter(pa.Table.from_batches([batch]), first).to_batches()
            first += batch.num_rows

    def _cells(self, number: int) -> MovedCells:
        block = self._blocks[number]
        if block.cells is not None:
            return block.cells
        if self._loaded is None or self._loaded[0] != number:
            self._loaded = (number, self._get(block))
        return self._loaded[1]

    def _put(self, block: _Kept, cells: MovedCells) -> _Kept:
        """Write the cells of a block behind those of the others."""
        if self._file is None:
            self._file = tempfile.TemporaryFile(prefix="dataguard-", dir=self._folder)  # noqa: SIM115 - lives as long as this object
        places = []
        for name, (rows, content) in cells.cells.items():
            start = self._file.tell()
            table = pa.table([pa.array(rows), content], names=["row", "content"])
            with pa.ipc.new_stream(self._file, table.schema) as stream:
                stream.write_table(table)
            places.append((name, start, self._file.tell() - start))
        return _Kept(block.first, block.rows, None, tuple(places))

    def _get(self, block: _Kept) -> MovedCells:
        assert self._file is not None
        cells = {}
        for name, start, size in block.places:
            self._file.seek(start)
            with pa.ipc.open_stream(pa.py_buffer(self._file.read(size))) as stream:
                table = stream.read_all()
            cells[name] = table.column("row").to_numpy().astype(np.int64), table.column("content")
        return MovedCells(cells)


def _cells_of(source: Rows, block: BlockMoves) -> MovedCells:
    """Return the moved cells of one block, rows numbered from its first."""
    if block.table is None:
        return gather(source, block.in_place()).part(block.first, block.rows)
    merged = merge_moves(block.moves, source.column_names, block.rows)
    return MovedCells(
        {
            name: (rows, plain_cells(take_rows(block.table.column(name), from_rows)))
            for name, (rows, from_rows) in merged.items()
        }
    )


def _joined(parts: list[tuple[int, MovedCells]]) -> MovedCells:
    if len(parts) == 1 and parts[0][0] == 0:
        return parts[0][1]
    names = dict.fromkeys(name for _, part in parts for name in part.cells)
    cells = {}
    for name in names:
        found = [(shift, part.cells[name]) for shift, part in parts if name in part.cells]
        rows = np.concatenate([own + shift for shift, (own, _) in found])
        content = pa.chunked_array([chunk for _, (_, column) in found for chunk in column.chunks])
        cells[name] = rows, content
    return MovedCells(cells)
