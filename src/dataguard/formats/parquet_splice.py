"""A Parquet file written again from its own bytes, with some column chunks encoded anew.

What has no moved cells is copied as it stands, whoever wrote it: pages, bloom filters, page
indexes, and in the footer everything that says nothing about positions. Field numbers:
parquet.thrift of the Parquet format.
"""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import IO, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from dataguard.formats.moved import Cells, MovedCells, compacted
from dataguard.formats.parquet_footer import Footer, leaf_chunk, page_version, read_content
from dataguard.formats.parquet_options import chunk_options
from dataguard.formats.thrift import Kinds, read_struct, write_struct

__all__ = ["splice_parquet"]

_BLOCK = 1 << 20
_INDEX_BYTES = 1 << 27
_META = 3
_FILE_OFFSET, _OFFSET_INDEX, _COLUMN_INDEX = 2, 4, 6
"""Of ColumnChunk; the field behind an index is its length."""
_UNPACKED, _PACKED, _KEY_VALUE, _DATA_PAGE, _INDEX_PAGE, _DICTIONARY, _BLOOM = 6, 7, 8, 9, 10, 11, 14
"""Of ColumnMetaData."""

_BITS = {pa.float16(): pa.int16(), pa.float32(): pa.int32(), pa.float64(): pa.int64()}


@dataclass(frozen=True, slots=True)
class _Piece:
    """Pages to be copied: where they stand, and the footer entry for them."""

    origin: IO[bytes]
    start: int
    size: int
    column: Kinds


@dataclass(frozen=True, slots=True)
class _Placed:
    """A chunk in the output: its footer entry, its indexes (None: still in the original), its shift."""

    column: Kinds
    indexes: dict[int, bytes] | None
    shift: int


def splice_parquet(
    file: Any,
    raw: IO[bytes],
    footer: Footer,
    ends: NDArray[Any],
    moved: Cells,
    options: Mapping[str, tuple[pa.DataType, dict[str, Any]]],
    out: IO[bytes],
) -> tuple[str, ...]:
    """Copy a Parquet file, with the chunks that hold moved cells encoded anew.

    Memory: the moved cells and one column of one row group.

    Parameters
    ----------
    file : pyarrow.parquet.ParquetFile
        The original, opened.
    raw : IO[bytes]
        The same file's bytes.
    footer : Footer
        Of the same file.
    ends : NDArray[np.int64], shape (groups, leaves)
        Where the pages of each chunk end, see `check_pages`.
    moved : Cells
        Of flat columns; asked for one row group after the other.
    options : mapping
        Moved column -> see `column_options`.
    out : IO[bytes]
        Receives the file.

    Returns
    -------
    tuple of str
        Traits that could not be kept.

    Raises
    ------
    ValueError, pyarrow.ArrowException
        Damaged file.
    """
    content, _ = read_content(raw, "")
    tops = [leaf.top if leaf.flat else "" for leaf in footer.leaves]
    placed: list[_Placed] = []
    lost: dict[str, None] = {}
    out.write(b"PAR1")
    position, first = 4, 0
    for g, group in enumerate(content[4]):
        rows = int(footer.rows[g])
        share = moved.part(first, rows)
        first += rows
        for i, column in enumerate(group[1]):
            # Also where nothing moves in this row group: which groups were copied as bytes would tell
            # something of the recipient's symbols.
            if rows and tops[i] in options:
                piece, traits = _encoded(file, raw, g, tops[i], column, share, options[tops[i]])
                lost.update(dict.fromkeys(traits))
            else:
                start, size = footer.spans[g, i, :2].tolist()
                piece = _Piece(raw, start, max(size, int(ends[g, i]) - start), column)
            _copy(piece, out)
            group[1][i] = piece.column
            indexes = (
                None if piece.origin is raw else _indexes(piece.column, piece.origin, position - piece.start)
            )
            placed.append(_Placed(piece.column, indexes, position - piece.start))
            _shift(piece, position)
            position += piece.size
        _describe(group, {i for i, top in enumerate(tops) if rows and top in options})
    for chunk in placed:
        position = _put_indexes(chunk, raw, position, out)
    encoded = write_struct(content)
    out.write(encoded + len(encoded).to_bytes(4, "little") + b"PAR1")
    return tuple(lost)


def _encoded(
    file: Any,
    raw: IO[bytes],
    group: int,
    name: str,
    column: Kinds,
    share: MovedCells,
    storage: tuple[pa.DataType, dict[str, Any]],
) -> tuple[_Piece, list[str]]:
    """Encode a column of a row group, moved cells included, as a file of its own; also what gets lost."""
    kind, options = storage
    options = options | chunk_options(leaf_chunk(column), page_version(raw, column))
    table = file.read_row_group(group, columns=[name]).select([name])
    still_true = _BLOOM in column[_META] and (
        name not in share.cells or _all_known(share.cells[name][1], table.column(0))
    )
    table = share.scatter(table, 0)
    field = table.schema.field(0).with_type(kind)
    cells = compacted(table.column(0))
    sink = io.BytesIO()
    with pq.ParquetWriter(sink, pa.schema([field]), **options) as writer:
        if kind != cells.type:
            cells = cells.cast(kind)
        writer.write_table(pa.table([cells], schema=pa.schema([field])), row_group_size=table.num_rows)
    content, _ = read_content(sink, "")
    new = content[4][0][1][0]
    return _Piece(sink, 4, new[_META][_PACKED], new), list(_keep(column, new, still_true))


def _put_indexes(chunk: _Placed, raw: IO[bytes], position: int, out: IO[bytes]) -> int:
    column = chunk.column
    indexes = _indexes(column, raw, chunk.shift) if chunk.indexes is None else chunk.indexes
    for field, data in indexes.items():
        column.put(field, position)
        column.put(field + 1, len(data), short=True)
        position += out.write(data)
    if _BLOOM in column[_META]:
        data = _bloom(column[_META], raw)
        column[_META].put(_BLOOM, position)
        position += out.write(data)
    return position


def _all_known(values: pa.ChunkedArray, before: pa.ChunkedArray) -> bool:
    """Whether all that moved in stood in the row group before: a bloom filter of it stays true."""
    if pa.types.is_dictionary(before.type):
        before = before.cast(values.type)
    if isinstance(values.type, pa.BaseExtensionType):
        values, before = (column.cast(values.type.storage_type) for column in (values, before))
    kind = values.type
    if kind in _BITS:  # bloom filters tell -0.0 from 0.0
        values, before = (
            pa.chunked_array([chunk.view(_BITS[kind]) for chunk in column.chunks], _BITS[kind])
            for column in (values, before)
        )
    try:
        return bool(pc.all(pc.is_in(values.drop_null(), value_set=before)).as_py() in {True, None})
    except pa.ArrowNotImplementedError:
        return False


def _keep(old: Kinds, new: Kinds, still_true: bool) -> Iterator[str]:
    """Take over what an encoder does not know of a ColumnMetaData; name what cannot be kept."""
    name = leaf_chunk(old).path
    if leaf_chunk(old).codec == "LZ4":
        yield f"codec LZ4 of {name} (becomes LZ4_RAW)"
    kept = [_KEY_VALUE]
    if _BLOOM in old[_META]:
        if still_true:
            kept += [_BLOOM, _BLOOM + 1]
        else:
            yield f"bloom filter of {name}"
    for field in kept:
        if field in old[_META]:
            new[_META][field] = old[_META][field]
            new[_META].kinds[field] = old[_META].kinds[field]


def _copy(piece: _Piece, out: IO[bytes]) -> None:
    piece.origin.seek(piece.start)
    left = piece.size
    while left:
        block = piece.origin.read(min(left, _BLOCK))
        if not block:
            raise ValueError("the file ends within a column chunk")
        out.write(block)
        left -= len(block)


def _shift(piece: _Piece, position: int) -> None:
    """Correct what a ColumnChunk says of positions in its pages, copied to `position`."""
    meta, start, end = piece.column[_META], piece.start, piece.start + piece.size
    for field in (_DATA_PAGE, _INDEX_PAGE, _DICTIONARY):
        if field in meta:
            meta.put(field, meta[field] - start + position if start <= meta[field] < end else 0)
    if not piece.size:
        meta.put(_DATA_PAGE, position)
    old = piece.column.get(_FILE_OFFSET, 0)  # deprecated; some writers repeat the first page's place
    piece.column.put(_FILE_OFFSET, old - start + position if start <= old < end else 0)


def _describe(group: Kinds, moved: set[int]) -> None:
    """Correct a RowGroup (2 total_byte_size, 4 sorting_columns, 5 file_offset, 6 total_compressed_size)."""
    metas = [column[_META] for column in group[1]]
    group.put(2, sum(meta[_UNPACKED] for meta in metas))
    if 4 in group:
        group[4] = list(itertools.takewhile(lambda s: s[1] not in moved, group[4]))
        if not group[4]:
            del group[4]
    if 5 in group and metas:
        group.put(5, min(metas[0].get(_DICTIONARY, 0) or metas[0][_DATA_PAGE], metas[0][_DATA_PAGE]))
    if 6 in group:
        group.put(6, sum(meta[_PACKED] for meta in metas))


def _indexes(column: Kinds, origin: IO[bytes], shift: int) -> dict[int, bytes]:
    """Column index and offset index of a chunk whose pages moved by `shift` bytes."""
    found = {}
    try:
        if _COLUMN_INDEX in column:
            found[_COLUMN_INDEX] = _read(origin, column[_COLUMN_INDEX], column[_COLUMN_INDEX + 1])
        if _OFFSET_INDEX in column:
            index, _ = read_struct(_read(origin, column[_OFFSET_INDEX], column[_OFFSET_INDEX + 1]))
            for page in index[1]:  # page_locations; 1 offset
                page.put(1, page[1] + shift)
            found[_OFFSET_INDEX] = write_struct(index)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError("an index of the wrong form") from error
    return found


def _bloom(meta: Kinds, raw: IO[bytes]) -> bytes:
    size = meta.get(_BLOOM + 1)
    if size is None:  # BloomFilterHeader: 1 numBytes
        header, length = read_struct(_read(raw, meta[_BLOOM], 64, short=True))
        if type(header.get(1)) is not int:
            raise ValueError("a bloom filter of the wrong form")
        size = length + header[1]
    return _read(raw, meta[_BLOOM], size)


def _read(origin: IO[bytes], start: int, size: int, *, short: bool = False) -> bytes:
    if start < 4 or not 0 <= size <= _INDEX_BYTES:
        raise ValueError("an index that lies outside the file")
    origin.seek(start)
    data = origin.read(size)
    if len(data) < size and not short:
        raise ValueError("an index that lies outside the file")
    return data
