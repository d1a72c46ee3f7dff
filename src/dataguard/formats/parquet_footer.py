"""What a Parquet footer says about its column chunks, read without pyarrow's own objects.

They name neither page versions nor the kind of LZ4, and on a damaged footer they end the
whole process: ``RowGroupMetaData.column`` throws through C++ (pyarrow 26, seen when bits
were flipped). So this reader comes first and lets nothing past that contradicts itself.
Field and enumeration numbers: parquet.thrift of the Parquet format.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from dataguard.errors import DecodeError
from dataguard.formats.thrift import Kinds, read_struct

__all__ = [
    "Footer",
    "Leaf",
    "LeafChunk",
    "leaf_chunk",
    "page_version",
    "read_content",
    "read_footer",
    "too_large",
]

_TYPES = {
    0: "BOOLEAN",
    1: "INT32",
    2: "INT64",
    3: "INT96",
    4: "FLOAT",
    5: "DOUBLE",
    6: "BYTE_ARRAY",
    7: "FIXED_LEN_BYTE_ARRAY",
}
_WIDTHS = {"INT32": 4, "INT64": 8, "INT96": 8, "FLOAT": 4, "DOUBLE": 8, "BYTE_ARRAY": 4}
"""Bytes that one value takes in Arrow at least; of the other types a bit, or their length."""
_ENCODINGS = {
    0: "PLAIN",
    2: "PLAIN_DICTIONARY",
    3: "RLE",
    4: "BIT_PACKED",
    5: "DELTA_BINARY_PACKED",
    6: "DELTA_LENGTH_BYTE_ARRAY",
    7: "DELTA_BYTE_ARRAY",
    8: "RLE_DICTIONARY",
    9: "BYTE_STREAM_SPLIT",
}
_ENCODED = {
    "DELTA_BINARY_PACKED": ("INT32", "INT64"),
    "DELTA_LENGTH_BYTE_ARRAY": ("BYTE_ARRAY",),
    "DELTA_BYTE_ARRAY": ("BYTE_ARRAY", "FIXED_LEN_BYTE_ARRAY"),
    "BYTE_STREAM_SPLIT": ("FLOAT", "DOUBLE", "INT32", "INT64", "FIXED_LEN_BYTE_ARRAY"),
}
"""Types that an encoding is made for; the others take any."""
_CODECS = dict(enumerate(("NONE", "SNAPPY", "GZIP", "LZO", "BROTLI", "LZ4", "ZSTD", "LZ4_RAW")))

_FOOTER_BYTES = 1 << 27
"""Largest footer read, 128 MiB: about a million column chunks, half a minute."""
_DEPTH = 64
_FREE_BYTES = 1 << 30
_RATIO = 1000
"""A file may unpack to 1 GiB, or to a thousand times its size: constant columns reach a few hundred."""


@dataclass(frozen=True, slots=True)
class Leaf:
    """One column of values of the schema.

    Parameters
    ----------
    path : str
        Names from the top down, joined by dots, as pyarrow spells it.
    top : str
        Name of the top-level column it belongs to.
    flat : bool
        The top-level column itself, neither nested nor repeated.
    physical_type : str
    width : float
        Bytes that one value takes in Arrow, at least.
    """

    path: str
    top: str
    flat: bool
    physical_type: str
    width: float


@dataclass(frozen=True, slots=True)
class LeafChunk:
    """One column chunk of the first row group that has rows.

    Parameters
    ----------
    path : str
        Leaf path with dots, as pyarrow spells it.
    physical_type : str
    encodings : tuple of str
    codec : str
    statistics, page_index, bloom_filter : bool
        Whether the file has them.
    """

    path: str
    physical_type: str
    encodings: tuple[str, ...]
    codec: str
    statistics: bool
    page_index: bool
    bloom_filter: bool


@dataclass(frozen=True, slots=True, eq=False)
class Footer:
    """Traits of a file, taken from its first row group that has rows, and where its chunks lie.

    Parameters
    ----------
    leaves : tuple of Leaf
        In schema order.
    chunks : tuple of LeafChunk
        In schema order; empty when no row group has rows.
    sorting : tuple of (int, bool, bool)
        Leaf index, descending, nulls first.
    page_version : str
        "1.0" or "2.0", of the first column.
    rows : NDArray[np.int64], shape (groups,)
        Rows per row group.
    spans : NDArray[np.int64], shape (groups, leaves, 4)
        Of each chunk: first byte, bytes, values (rows, or elements of lists), bytes unpacked.
    """

    leaves: tuple[Leaf, ...]
    chunks: tuple[LeafChunk, ...]
    sorting: tuple[tuple[int, bool, bool], ...]
    page_version: str
    rows: NDArray[np.int64]
    spans: NDArray[np.int64]


def read_content(file: IO[bytes], where: str) -> tuple[Kinds, int]:
    """Read the FileMetaData of an opened Parquet file, and where it starts, without checking it.

    The file ends with the footer (FileMetaData), its length as uint32 little-endian, "PAR1".

    Raises
    ------
    ValueError
        No footer at the end of the file.
    DecodeError
        Encrypted file; footer above 128 MiB.
    """
    end = file.seek(0, os.SEEK_END)
    file.seek(max(end - 8, 0))
    tail = file.read(8)
    size = int.from_bytes(tail[:4], "little")
    if tail[4:] == b"PARE":
        raise _encrypted(where)
    if tail[4:] != b"PAR1" or size > end - 12:
        raise ValueError("it does not end with a footer and PAR1")
    if size > _FOOTER_BYTES:
        raise DecodeError(
            f"footer of {size >> 20:,} MiB", where=where, remedy="write it with fewer, larger row groups"
        )
    file.seek(end - 8 - size)
    content, _ = read_struct(file.read(size))
    if 8 in content:  # encryption_algorithm: the footer is readable, columns are not
        raise _encrypted(where)
    return content, end - 8 - size


def read_footer(path: Path) -> Footer:
    """Read and check the footer of a Parquet file.

    Checked: the schema is a tree; every row group has one chunk per leaf, of its name and
    type, that lies in the file, apart from the others; counts of rows and values agree.

    Raises
    ------
    ValueError
        Damaged footer; says what is wrong.
    DecodeError
        See `read_content`; rows that would take more than 1 GiB and more than a thousand times the
        file's size in memory.
    """
    where = str(path)
    with path.open("rb") as file:
        content, end = read_content(file, where)
        try:
            if any(8 in column for group in content[4] for column in group[1]):
                raise _encrypted(where)
            leaves, rows, spans = _layout(content, end)
            chunks: tuple[LeafChunk, ...] = ()
            sorting: tuple[tuple[int, bool, bool], ...] = ()
            version = "1.0"
            first = next((group for group in content[4] if group[3]), None)
            if first is not None:
                version = page_version(file, first[1][0])
                chunks = tuple(leaf_chunk(column) for column in first[1])
                sorting = tuple((s[1], s[2], s[3]) for s in first.get(4, ()))
        except (KeyError, IndexError, TypeError, AttributeError, OverflowError) as error:
            raise ValueError("a footer with parts missing") from error
    footer = Footer(leaves, chunks, sorting, version, rows, spans)
    if too_large(_memory(footer), end):
        raise DecodeError(
            f"claims {int(rows.sum()):,} rows in {end:,} bytes", where=where, remedy="fetch it again"
        )
    return footer


def page_version(file: IO[bytes], column: Kinds) -> str:
    """Return "1.0" or "2.0", from the first data page of a ColumnChunk."""
    file.seek(column[3][9])  # meta_data, data_page_offset
    # PageHeader: field 1 (type) comes first, an i32; DATA_PAGE_V2 = 3, zigzag 6.
    return "2.0" if file.read(2) == b"\x15\x06" else "1.0"


def too_large(unpacked: float, packed: int) -> bool:
    """Whether `packed` bytes of file should not unpack to so many bytes: above 1 GiB, and 1000-fold."""
    return unpacked > max(_FREE_BYTES, _RATIO * packed)


def _encrypted(where: str) -> DecodeError:
    return DecodeError("is encrypted Parquet", where=where, remedy="decrypt it first")


def _memory(footer: Footer) -> float:
    """Bytes that the values take in Arrow, at least."""
    widths = np.array([leaf.width for leaf in footer.leaves])
    values = footer.spans[:, :, 2].sum(axis=0, dtype=np.float64)
    return float(values @ widths)


def _layout(content: Kinds, end: int) -> tuple[tuple[Leaf, ...], NDArray[np.int64], NDArray[np.int64]]:
    """Check a FileMetaData (2 schema, 3 num_rows, 4 row_groups) whose chunks end before byte `end`."""
    leaves = _leaves(content[2])
    paths = [leaf.path.encode() for leaf in leaves]
    types = [leaf.physical_type for leaf in leaves]
    groups = content[4]
    rows = np.array([group[3] for group in groups], np.int64)
    spans = np.zeros((len(groups), len(leaves), 4), np.int64)
    for g, group in enumerate(groups):
        columns = group[1]
        if any(type(s[1]) is not int or not 0 <= s[1] < len(leaves) for s in group.get(4, ())):
            raise ValueError(f"row group {g} is sorted by a column that is not there")
        if len(columns) != len(leaves):
            raise ValueError(f"row group {g} has {len(columns)} column chunks for {len(leaves)} columns")
        for i, column in enumerate(columns):
            meta = column[3]
            if 1 in column or b".".join(meta[3]) != paths[i] or _TYPES[meta[1]] != types[i]:
                raise ValueError(f"column chunk {i} of row group {g} is not that of {leaves[i].path!r}")
            _check_indexes(column)
            start = meta[9]
            if 0 < meta.get(11, 0) < start:  # dictionary_page_offset; some writers put 0 for none
                start = meta[11]
            spans[g, i] = start, meta[7], meta[5], meta[6]
            if meta[5] and not start <= meta[9] < start + meta[7]:
                raise ValueError(f"the pages of {leaves[i].path!r} lie outside their column chunk")
    if rows.sum(dtype=object) != content[3] or (rows < 0).any():
        raise ValueError("the row groups have other rows than the file")
    _check_spans(rows, spans, leaves, end)
    return leaves, rows, spans


def _check_indexes(column: Kinds) -> None:
    """Statistics and page indexes must be of the kind that Parquet knows: pyarrow takes them as given."""
    meta = column[3]
    numbers = [column.get(k, 0) for k in (2, 4, 5, 6, 7)] + [meta.get(k, 0) for k in (10, 11, 14, 15)]
    if any(type(n) is not int or n < 0 for n in numbers) or meta[4] not in _CODECS:
        raise ValueError("a column chunk of unknown codec or with misplaced indexes")
    for code in meta[2]:
        if _TYPES[meta[1]] not in _ENCODED.get(_ENCODINGS[code], (_TYPES[meta[1]],)):
            raise ValueError(f"a column chunk of {_TYPES[meta[1]]} encoded as {_ENCODINGS[code]}")


def _check_spans(
    rows: NDArray[np.int64], spans: NDArray[np.int64], leaves: tuple[Leaf, ...], end: int
) -> None:
    start, size, values, unpacked = np.moveaxis(spans, 2, 0)
    used = (rows > 0)[:, None] & (size > 0)
    if (spans < 0).any() or (used & ((start < 4) | (start > end) | (size > end - start))).any():
        raise ValueError("a column chunk lies outside the file")
    order = np.argsort(start[used], kind="stable")
    first, length = start[used][order], size[used][order]
    if (first[1:] < (first + length)[:-1]).any():
        raise ValueError("two column chunks overlap")
    flat = np.array([leaf.flat for leaf in leaves], bool)
    if (values[:, flat] != rows[:, None]).any():
        raise ValueError("a column has other rows than its row group")
    if (unpacked < 0).any() or ((values > 0) & (size <= 0)).any():
        raise ValueError("a column chunk without bytes")


def _leaves(elements: list[Kinds]) -> tuple[Leaf, ...]:
    """Walk the schema, a tree listed depth first.

    SchemaElement: 1 type, 2 type_length, 3 repetition (2 = repeated), 4 name, 5 num_children.
    """
    if not 0 <= elements[0].get(5, 0) < len(elements):
        raise ValueError("the schema is not a tree")
    open_groups: list[list[Any]] = [[elements[0].get(5, 0), []]]  # children to come, path
    leaves = []
    for element in elements[1:]:
        while open_groups and not open_groups[-1][0]:
            open_groups.pop()
        if not open_groups or len(open_groups) > _DEPTH:
            raise ValueError("the schema is not a tree")
        open_groups[-1][0] -= 1
        path = [*open_groups[-1][1], element[4].decode()]
        if element.get(5):
            if not 0 < element[5] < len(elements):
                raise ValueError("the schema is not a tree")
            open_groups.append([element[5], path])
            continue
        physical = _TYPES[element[1]]
        width = _WIDTHS.get(physical, 1 / 8 if physical == "BOOLEAN" else element.get(2, 0))
        if not 0 <= width < 1 << 30:
            raise ValueError("a column of impossible width")
        flat = len(path) == 1 and element.get(3) != 2
        leaves.append(Leaf(".".join(path), path[0], flat, physical, float(width)))
    if any(left for left, _ in open_groups):
        raise ValueError("the schema is not a tree")
    return tuple(leaves)


def leaf_chunk(column: Kinds) -> LeafChunk:
    """Translate a ColumnChunk: 3 meta_data, 4 and 6 offset and column index; the rest of ColumnMetaData."""
    meta = column[3]
    return LeafChunk(
        path=b".".join(meta[3]).decode(),
        physical_type=_TYPES[meta[1]],
        encodings=tuple(_ENCODINGS[code] for code in meta[2]),
        codec=_CODECS[meta[4]],
        statistics=12 in meta,
        page_index=4 in column or 6 in column,
        bloom_filter=14 in meta,
    )
