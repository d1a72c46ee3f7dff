"""What a Parquet footer says about its column chunks, read without pyarrow's own objects.

They name neither page versions nor the kind of LZ4, and on a damaged footer they end the
whole process: ``RowGroupMetaData.column`` throws through C++ (pyarrow 26, seen when bits
were flipped). Field and enumeration numbers: parquet.thrift of the Parquet format.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dataguard.formats.thrift import read_struct

__all__ = ["Footer", "LeafChunk", "read_footer"]

_TYPES = ("BOOLEAN", "INT32", "INT64", "INT96", "FLOAT", "DOUBLE", "BYTE_ARRAY", "FIXED_LEN_BYTE_ARRAY")
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
_CODECS = ("NONE", "SNAPPY", "GZIP", "LZO", "BROTLI", "LZ4", "ZSTD", "LZ4_RAW")


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


@dataclass(frozen=True, slots=True)
class Footer:
    """Traits of a file, taken from its first row group that has rows.

    Parameters
    ----------
    chunks : tuple of LeafChunk
        In schema order.
    sorting : tuple of (int, bool, bool)
        Leaf index, descending, nulls first.
    page_version : str
        "1.0" or "2.0", of the first column.
    """

    chunks: tuple[LeafChunk, ...]
    sorting: tuple[tuple[int, bool, bool], ...]
    page_version: str


def read_footer(path: Path) -> Footer:
    """Read the traits of a Parquet file that pyarrow could open and that has rows.

    The file ends with the footer (FileMetaData), its length as uint32 little-endian, "PAR1".

    Raises
    ------
    ValueError
        Damaged footer.
    """
    with path.open("rb") as file:
        file.seek(-8, os.SEEK_END)
        size = int.from_bytes(file.read(4), "little")
        file.seek(-8 - size, os.SEEK_END)
        footer, _ = read_struct(file.read(size))
        try:
            group = next(group for group in footer[4] if group[3])  # row_groups, num_rows
            chunks = tuple(_leaf(column) for column in group[1])  # columns
            sorting = tuple((s[1], s[2], s[3]) for s in group.get(4, ()))  # sorting_columns
            file.seek(group[1][0][3][9])  # meta_data, data_page_offset
        except (KeyError, IndexError, TypeError, StopIteration) as error:
            raise ValueError("footer without column chunks") from error
        # PageHeader: field 1 (type) comes first, an i32; DATA_PAGE_V2 = 3, zigzag 6.
        version = "2.0" if file.read(2) == b"\x15\x06" else "1.0"
    return Footer(chunks, sorting, version)


def _leaf(column: dict[int, Any]) -> LeafChunk:
    """Translate a ColumnChunk: 3 meta_data, 6 column_index_offset; the rest is of ColumnMetaData."""
    meta = column[3]
    return LeafChunk(
        path=b".".join(meta[3]).decode(),
        physical_type=_TYPES[meta[1]],
        encodings=tuple(_ENCODINGS[code] for code in meta[2]),
        codec=_CODECS[meta[4]],
        statistics=12 in meta,
        page_index=6 in column,
        bloom_filter=14 in meta,
    )
