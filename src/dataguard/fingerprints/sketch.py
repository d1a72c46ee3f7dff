"""A small key-free summary of a table, to rule out tables that cannot share rows.

Per column the 256 smallest hashes of its distinct values (bottom-k: Cohen, "Size-estimation
framework", J. Comput. Syst. Sci. 55, 1997; Broder, "On the resemblance and containment of documents", 1997).
It errs on the side of keeping: what the sketch cannot see is assumed to be there.

Layout, little-endian: ``dgsk``, uint16 version, uint64 rows, uint32 columns; per column uint32
length and UTF-8 name, uint8 kind, uint64 distinct values, uint16 count, count x uint64 ascending hashes.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dataguard.errors import DecodeError, SchemeMismatch
from dataguard.values import CanonicalTable, mix64

__all__ = [
    "KEEP",
    "SCHEME",
    "ColumnSketch",
    "TableSketch",
    "merge_sketches",
    "overlap",
    "parse_sketch",
    "sketch_table",
]

U64 = NDArray[np.uint64]

SCHEME = b"dgsk"
VERSION = 1
SIZE = 256
"""Hashes kept per column."""

KEEP = 0.05
"""Least share that counts as an overlap."""

_DOMAIN = np.uint64(0x6467736B_00000001)
"""Public constant of version 1: hashes are mix64(cell key xor this)."""

_KINDS = ("empty", "number", "time", "text")
_TELLING = 16
"""Distinct values from which on a column can tell tables apart: small integers are everywhere."""

_UNSEEN = 3
"""Values assumed to be shared beyond those seen."""

_HEAD, _NAME, _COLUMN = struct.Struct("<4sHQI"), struct.Struct("<I"), struct.Struct("<BQH")


@dataclass(frozen=True, slots=True)
class ColumnSketch:
    """One column.

    Attributes
    ----------
    name : str
    kind : str
        ``empty, number, time`` or ``text``.
    distinct : int
        Number of distinct present values.
    hashes : (k,) uint64
        The smallest hashes of distinct values, ascending; all of them when there are at most 256.
    """

    name: str
    kind: str
    distinct: int
    hashes: U64


@dataclass(frozen=True, slots=True)
class TableSketch:
    """A table: its number of rows and its columns."""

    rows: int
    columns: tuple[ColumnSketch, ...]


def sketch_table(table: CanonicalTable) -> bytes:
    """Return the sketch of a table; the same for any order of its rows."""
    columns = []
    for name, column in zip(table.names, table.columns, strict=True):
        values = np.unique(column.key[column.key != 0])
        hashes = np.sort(mix64(values ^ _DOMAIN))[:SIZE]
        columns.append(ColumnSketch(name, column.kind, len(values), hashes))
    return _pack(TableSketch(table.rows, tuple(columns)))


def merge_sketches(parts: Sequence[bytes]) -> bytes:
    """Return the sketch of tables put one below the other; one part is returned as it is.

    The hashes are those of a sketch of the whole, bit for bit. Where a column has more distinct
    values than a sketch keeps, their number is estimated from the largest kept hash (k - 1) / U_k
    (Bar-Yossef et al., "Counting distinct elements in a data stream", RANDOM 2002).

    Parameters
    ----------
    parts : sequence of bytes
        At least one; the same columns in the same order.
    """
    if len(parts) == 1:
        return parts[0]
    tables = [parse_sketch(part) for part in parts]
    columns = tuple(_merged(same) for same in zip(*(t.columns for t in tables), strict=True))
    return _pack(TableSketch(sum(t.rows for t in tables), columns))


def _merged(parts: Sequence[ColumnSketch]) -> ColumnSketch:
    hashes = np.unique(np.concatenate([p.hashes for p in parts]))
    distinct = len(hashes)
    if max(p.distinct for p in parts) > SIZE or distinct > SIZE:
        kept = hashes[:SIZE]
        estimate = round((SIZE - 1) / ((float(kept[-1]) + 1) / 2.0**64))
        distinct = max(SIZE, estimate, *(p.distinct for p in parts))
        hashes = kept
    kinds = {p.kind for p in parts} - {"empty"}
    kind = kinds.pop() if len(kinds) == 1 else "text" if kinds else "empty"
    return ColumnSketch(parts[0].name, kind, distinct, hashes)


def _pack(sketch: TableSketch) -> bytes:
    out = [_HEAD.pack(SCHEME, VERSION, sketch.rows, len(sketch.columns))]
    for column in sketch.columns:
        label = column.name.encode()
        out += [_NAME.pack(len(label)), label]
        out += [
            _COLUMN.pack(_KINDS.index(column.kind), column.distinct, len(column.hashes)),
            column.hashes.astype("<u8").tobytes(),
        ]
    return b"".join(out)


def parse_sketch(data: bytes) -> TableSketch:
    """Return the sketch that some bytes hold.

    Raises
    ------
    SchemeMismatch
        When they are another kind or version of sketch.
    DecodeError
        When they are damaged.
    """
    if data[:4] != SCHEME:
        raise SchemeMismatch("not a table sketch", where="sketch", remedy="register the dataset again")
    try:
        _, version, rows, count = _HEAD.unpack_from(data)
        if version != VERSION:
            raise SchemeMismatch(
                f"sketch version {version} is not known", where="sketch", remedy="update dataguard"
            )
        columns, at = [], _HEAD.size
        for _ in range(count):
            column, at = _parse_column(data, at)
            columns.append(column)
    except (struct.error, UnicodeDecodeError) as error:
        raise DecodeError(
            "truncated or not UTF-8", where="sketch", remedy="register the dataset again"
        ) from error
    if at != len(data):
        raise DecodeError("bytes left over", where="sketch", remedy="register the dataset again")
    return TableSketch(rows, tuple(columns))


def _parse_column(data: bytes, at: int) -> tuple[ColumnSketch, int]:
    (length,) = _NAME.unpack_from(data, at)
    start = at + _NAME.size + length
    name = data[at + _NAME.size : start].decode()
    kind, distinct, count = _COLUMN.unpack_from(data, start)
    start += _COLUMN.size
    end = start + 8 * count
    if end > len(data):
        raise DecodeError("truncated", where="sketch", remedy="register the dataset again")
    hashes = np.frombuffer(data[start:end], "<u8").astype(np.uint64)
    if kind >= len(_KINDS) or count != min(distinct, SIZE) or (hashes[1:] <= hashes[:-1]).any():
        raise DecodeError(
            f"column {name[:40]!r} contradicts itself", where="sketch", remedy="register it again"
        )
    return ColumnSketch(name, _KINDS[kind], distinct, hashes), end


def overlap(one: bytes, other: bytes) -> float:
    """Return how much of a column of one table may lie within a column of the other, for the best pair.

    Parameters
    ----------
    one, other : bytes
        Sketches, in any order: a part in its whole and a whole in a mixture are both kept.

    Returns
    -------
    float
        Between 0 and 1, erring upwards: three more shared values are assumed than are seen
        in the range that both sketches cover, and everything where they cover nothing in
        common. Columns of fewer than 16 distinct values count only when there is no other.
        0 when that is below 5 %: the tables may be dismissed. Rows of an original, unchanged
        in one such column, never come out as 0.

    Raises
    ------
    SchemeMismatch, DecodeError
        As :func:`parse_sketch`.
    """
    a, b = parse_sketch(one), parse_sketch(other)
    best = max(_best(a, b), _best(b, a))
    return best if best >= KEEP else 0.0


def _best(part: TableSketch, whole: TableSketch) -> float:
    telling = [c for c in part.columns if c.distinct >= _TELLING]
    columns = telling or [c for c in part.columns if c.distinct]
    pairs = [(s, o) for s in columns for o in whole.columns if s.kind == o.kind or "text" in {s.kind, o.kind}]
    return max((_containment(s, o) for s, o in pairs if o.distinct), default=0.0)


def _containment(s: ColumnSketch, o: ColumnSketch) -> float:
    """Share of the values of s that may be in o, from the hashes below the largest of both."""
    seen = s.hashes
    if o.distinct > len(o.hashes):
        seen = seen[seen <= o.hashes[-1]]
    hits = int(np.isin(seen, o.hashes, assume_unique=True).sum())
    return min(1.0, (hits + _UNSEEN) / max(1, min(len(seen) + _UNSEEN, s.distinct)))
