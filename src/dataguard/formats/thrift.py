"""A reader of Thrift's compact protocol, for what pyarrow does not tell about a Parquet file.

pyarrow names neither page versions nor statistics without decoding them. Grammar: Thrift
compact protocol specification.
"""

from __future__ import annotations

from typing import Any

__all__ = ["read_struct"]

_TRUE, _FALSE, _BYTE, _I16, _I32, _I64, _DOUBLE, _BINARY, _LIST, _SET, _MAP, _STRUCT = range(1, 13)


def read_struct(data: bytes, offset: int = 0) -> tuple[dict[int, Any], int]:
    """Read one struct.

    Parameters
    ----------
    data : bytes
        Encoded struct, perhaps with more behind it.
    offset : int
        Where it starts.

    Returns
    -------
    (dict, int)
        Field number -> value (bool, int, bytes, list, dict); offset behind the struct.

    Raises
    ------
    ValueError
        `data` ends within the struct or holds an unknown type.
    """
    fields: dict[int, Any] = {}
    number = 0
    try:
        while data[offset]:
            step, kind = data[offset] >> 4, data[offset] & 15
            offset += 1
            if step:
                number += step
            else:
                number, offset = _signed(data, offset)
            fields[number], offset = _value(data, offset, kind)
    except IndexError:
        raise ValueError("ends within a Thrift struct") from None
    return fields, offset + 1


def _varint(data: bytes, offset: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[offset]
        offset += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, offset
        shift += 7


def _signed(data: bytes, offset: int) -> tuple[int, int]:
    """Zigzag: 0, -1, 1, -2, ..."""
    value, offset = _varint(data, offset)
    return (value >> 1) ^ -(value & 1), offset


def _value(data: bytes, offset: int, kind: int) -> tuple[Any, int]:
    if kind in {_TRUE, _FALSE}:  # a field keeps its truth value in the type
        return kind == _TRUE, offset
    if kind in {_I16, _I32, _I64}:
        return _signed(data, offset)
    if kind == _BYTE:
        return data[offset], offset + 1
    if kind == _DOUBLE:
        return data[offset : offset + 8], offset + 8
    if kind == _BINARY:
        size, offset = _varint(data, offset)
        return data[offset : offset + size], offset + size
    if kind in {_LIST, _SET}:
        return _list(data, offset)
    if kind == _STRUCT:
        return read_struct(data, offset)
    raise ValueError(f"unknown Thrift type {kind}")  # Parquet has no maps


def _list(data: bytes, offset: int) -> tuple[list[Any], int]:
    size, kind = data[offset] >> 4, data[offset] & 15
    offset += 1
    if size == 15:
        size, offset = _varint(data, offset)
    values = []
    for _ in range(size):
        if kind in {_TRUE, _FALSE}:  # in a list it is a byte of its own
            value: Any = data[offset] == _TRUE
            offset += 1
        else:
            value, offset = _value(data, offset, kind)
        values.append(value)
    return values, offset
