"""A reader and writer of Thrift's compact protocol, for what pyarrow does not tell about a Parquet file.

pyarrow names neither page versions nor statistics without decoding them, and trusts damaged
footers. Grammar: Thrift compact protocol specification. Input is hostile: every length is
checked against the data, nesting is bounded, so time and memory stay linear in the input.
"""

from __future__ import annotations

from typing import Any

__all__ = ["Kinds", "read_struct", "write_struct"]

_TRUE, _FALSE, _BYTE, _I16, _I32, _I64, _DOUBLE, _BINARY, _LIST, _SET, _MAP, _STRUCT = range(1, 13)
_DEPTH = 32
_VARINT = 10
"""Bytes of the longest 64-bit varint."""


class Kinds(dict[int, Any]):
    """A struct as read: field number -> value (bool, int, bytes, list, Kinds), in the file's order.

    Attributes
    ----------
    kinds : dict of int to int
        Field number -> Thrift type; a list's is ``type | element type << 4``. It lets
        `write_struct` give back what was read, unknown fields included.
    """

    __slots__ = ("kinds",)

    def __init__(self) -> None:
        super().__init__()
        self.kinds: dict[int, int] = {}

    def put(self, number: int, value: int, *, short: bool = False) -> None:
        """Set a field to a 64-bit number, or a 32-bit one."""
        self[number] = value
        self.kinds[number] = _I32 if short else _I64


def read_struct(data: bytes, offset: int = 0, depth: int = 0) -> tuple[Kinds, int]:
    """Read one struct.

    Parameters
    ----------
    data : bytes
        Encoded struct, perhaps with more behind it.
    offset : int
        Where it starts.
    depth : int
        Structs and lists around it.

    Returns
    -------
    (Kinds, int)
        The fields; offset behind the struct.

    Raises
    ------
    ValueError
        `data` ends within the struct, holds an unknown type, or nests deeper than 32.
    """
    fields = Kinds()
    number = 0
    if depth > _DEPTH:
        raise ValueError("a Thrift struct nests too deep")
    try:
        while head := data[offset]:
            offset += 1
            if head >> 4:
                number += head >> 4
            else:
                number, offset = _signed(data, offset)
            kind = head & 15
            if kind in {_LIST, _SET}:
                kind |= (data[offset] & 15) << 4
            fields.kinds[number] = kind
            fields[number], offset = _value(data, offset, kind, depth)
    except IndexError:
        raise ValueError("ends within a Thrift struct") from None
    return fields, offset + 1


def _varint(data: bytes, offset: int) -> tuple[int, int]:
    value = data[offset]
    if value < 128:
        return value, offset + 1
    value &= 127
    for i in range(1, _VARINT):
        byte = data[offset + i]
        value |= (byte & 127) << 7 * i
        if byte < 128:
            return value, offset + i + 1
    raise ValueError("a Thrift number is longer than 64 bits")


def _signed(data: bytes, offset: int) -> tuple[int, int]:
    """Zigzag: 0, -1, 1, -2, ..."""
    value, offset = _varint(data, offset)
    return (value >> 1) ^ -(value & 1), offset


def _value(data: bytes, offset: int, kind: int, depth: int) -> tuple[Any, int]:
    if kind in {_I32, _I64, _I16}:
        return _signed(data, offset)
    if kind == _BINARY:
        size, offset = _varint(data, offset)
        return _bytes(data, offset, size)
    if kind == _STRUCT:
        return read_struct(data, offset, depth + 1)
    if kind in {_TRUE, _FALSE}:  # a field keeps its truth value in the type
        return kind == _TRUE, offset
    if kind & 15 in {_LIST, _SET}:
        return _list(data, offset, depth + 1)
    if kind == _BYTE:
        return data[offset], offset + 1
    if kind == _DOUBLE:
        return _bytes(data, offset, 8)
    raise ValueError(f"unknown Thrift type {kind}")  # Parquet has no maps


def _bytes(data: bytes, offset: int, size: int) -> tuple[bytes, int]:
    end = offset + size
    if end > len(data):
        raise ValueError("ends within a Thrift value")
    return data[offset:end], end


def _list(data: bytes, offset: int, depth: int) -> tuple[list[Any], int]:
    size, kind = data[offset] >> 4, data[offset] & 15
    offset += 1
    if size == 15:
        size, offset = _varint(data, offset)
    if size > len(data) - offset:  # every element takes a byte at least
        raise ValueError("a Thrift list is longer than the data")
    if depth > _DEPTH or kind in {_LIST, _SET}:
        raise ValueError("a Thrift list nests too deep")  # Parquet has no lists of lists
    values = []
    for _ in range(size):
        if kind in {_TRUE, _FALSE}:  # in a list it is a byte of its own
            value: Any = data[offset] == _TRUE
            offset += 1
        else:
            value, offset = _value(data, offset, kind, depth)
        values.append(value)
    return values, offset


def write_struct(fields: Kinds) -> bytes:
    """Encode a struct as `read_struct` decodes it; numbers may have been changed in between."""
    out = bytearray()
    before = 0
    for number, value in fields.items():
        kind = fields.kinds[number]
        if kind in {_TRUE, _FALSE}:
            kind = _TRUE if value else _FALSE
        if 0 < number - before < 16:
            out.append((number - before) << 4 | kind & 15)
        else:
            out.append(kind & 15)
            _put_varint(out, _zigzag(number))
        _put(out, kind, value)
        before = number
    out.append(0)
    return bytes(out)


def _zigzag(value: int) -> int:
    return value << 1 if value >= 0 else (-value << 1) - 1


def _put_varint(out: bytearray, value: int) -> None:
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)


def _put(out: bytearray, kind: int, value: Any) -> None:
    if kind in {_I16, _I32, _I64}:
        _put_varint(out, _zigzag(value))
    elif kind == _BINARY:
        _put_varint(out, len(value))
        out += value
    elif kind == _STRUCT:
        out += write_struct(value)
    elif kind == _BYTE:
        out.append(value)
    elif kind == _DOUBLE:
        out += value
    elif kind & 15 in {_LIST, _SET}:
        element = kind >> 4
        if len(value) < 15:
            out.append(len(value) << 4 | element)
        else:
            out.append(15 << 4 | element)
            _put_varint(out, len(value))
        for item in value:
            if element in {_TRUE, _FALSE}:
                out.append(_TRUE if item else _FALSE)
            else:
                _put(out, element, item)
