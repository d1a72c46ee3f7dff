"""The headers of a Parquet file's pages, checked before pyarrow believes them.

A page may claim two gigabytes from a few bytes, and a dictionary of one long text may be
named in every row: both are found here from the headers, without unpacking anything.
"""

from __future__ import annotations

from typing import IO

from dataguard.formats.thrift import read_struct

__all__ = ["check_pages"]

_HEADER = 1 << 8
_LARGEST_HEADER = 1 << 24
"""What pyarrow accepts too, 16 MiB: statistics of long texts make headers long."""
_PAGE_BYTES = 1 << 30
_FREE_BYTES = 1 << 26
_RATIO = 5000
"""A page may unpack to 64 MiB whatever its size, else to at most 5000 times that, and 1 GiB."""
_DATA, _DICTIONARY, _DATA_V2 = 0, 2, 3
_DETAILS = {_DATA: 5, _DICTIONARY: 7, _DATA_V2: 8}
"""Page type -> field with its own header, whose field 1 is the number of values."""


def check_pages(file: IO[bytes], start: int, end: int, values: int) -> tuple[int, int, int]:
    """Walk the pages of one column chunk.

    Parameters
    ----------
    file : IO[bytes]
        The Parquet file.
    start, end : int
        First byte of the chunk; end of what may belong to it (old writers miscount by a header).
    values : int
        Values that the footer promises.

    Returns
    -------
    (int, int, int)
        Unpacked bytes of all pages, and of the dictionary page (0: none); where the last page ends.

    Raises
    ------
    ValueError
        Pages that lie outside the chunk, promise other values than the footer or unpack to
        more than 1 GiB, or 64 MiB and 5000 times their size.
    """
    at, seen, unpacked, dictionary = start, 0, 0, 0
    while seen < values:
        kind, large, small, count, body = _header(file, at, end)
        if small < 0 or large < 0 or body + small > end:
            raise ValueError(f"the page at byte {at:,} runs past its column chunk")
        if large > min(_PAGE_BYTES, max(_FREE_BYTES, _RATIO * small)):
            raise ValueError(f"the page at byte {at:,} unpacks from {small:,} to {large:,} bytes")
        if kind == _DICTIONARY:
            dictionary = large
            if not 0 <= count <= 8 * large:
                raise ValueError(f"the dictionary at byte {at:,} holds more values than bits")
        elif kind in {_DATA, _DATA_V2}:
            if not 0 <= count <= values - seen:
                raise ValueError(f"the page at byte {at:,} holds other values than the footer says")
            seen += count
        unpacked += large
        at = body + small
    return unpacked, dictionary, at


def _header(file: IO[bytes], at: int, end: int) -> tuple[int, int, int, int, int]:
    """Read a PageHeader: type, unpacked bytes, bytes, values (0 for unknown types), where it ends."""
    size = _HEADER
    while True:
        file.seek(at)
        data = file.read(max(min(size, end - at), 0))
        try:
            header, length = read_struct(data)
        except ValueError:
            if size >= _LARGEST_HEADER or len(data) < size:
                raise
            size <<= 4
            continue
        numbers = [header.get(1), header.get(2), header.get(3)]
        field = _DETAILS.get(numbers[0]) if type(numbers[0]) is int else None
        details = header.get(field) if field else {1: 0}
        numbers.append(details.get(1) if isinstance(details, dict) else None)
        if any(type(n) is not int for n in numbers):
            raise ValueError(f"the page at byte {at:,} has no header")
        return (*numbers, at + length)  # type: ignore[return-value]  # four numbers, as just checked
