"""One unchanging piece of a band index: signatures, their ids, and for each band the rows in buckets.

The same arrays whether they lie in memory or in a mapped file; only the answers to `add` and `remove` need more than
one piece. Buckets are those of the upper bits of a band's hash, 2 to 4 rows each; the next 16 bits, the tags, tell most
strangers apart, and whatever meets by chance is told apart when signatures are compared.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from dataguard.budget import Watch
from dataguard.errors import DecodeError, UsageError
from dataguard.fingerprints.index.bands import MAX_SLOTS, Bands, width_of
from dataguard.fingerprints.index.container import Head, PartShape, Reader, digest_of, file_size

__all__ = [
    "MAX_ROWS", "Band", "Memory", "Piece", "Rows", "Segment", "Sink", "announced", "bits_for", "check_signatures",
    "disk_needed", "fill", "group_for", "hash_keys", "open_segment", "row_needs",
]  # fmt: skip

I64 = NDArray[np.int64]
U16 = NDArray[np.uint16]
U32 = NDArray[np.uint32]
U64 = NDArray[np.uint64]

KIND = 1
MAX_ROWS = 1 << 28
"""Rows of a segment; more are cut into several."""

_CHUNK = 1 << 22
"""Bytes of signatures handled at a time."""

_PAD = 32
"""Tags behind the last, for loads of 32 at a time."""

_GROUP = 16
"""Bands hashed in one pass over the signatures; fewer touch less than the memory fetches: 16 at once 42 ns, 4 by 4
163 ns for a signature of 16 bands."""

_UNSPLIT = 18
"""Directory bits up to which one pass fills the buckets from within the cache (4 M rows: 317 ns, parted first 171)."""

_PART_BITS = 15
"""Directory bits of a part: 128 KiB, and their rows 384."""


@dataclass(frozen=True, slots=True)
class Band:
    """The rows of a segment by the hash of one band; also what a join of the corpus with itself walks along.

    Attributes
    ----------
    starts : (2**bits + 1,) uint32
        Where each bucket begins in `rows`; a bucket holds the rows whose band hash has its number as upper bits.
    rows : (n,) uint32
        Ascending in a bucket of up to 32 rows; in a larger one by (tag, row).
    tags : (n + 32,) uint16
        The 16 bits of the hash below the bucket, in step with `rows`. The last 32 mean nothing.
    """

    starts: U32
    rows: U32
    tags: U16


@dataclass(frozen=True, slots=True)
class Piece:
    """Signatures to be indexed: some rows of a matrix and their ids.

    Attributes
    ----------
    signatures : (n, k) uint32
    ids : (n,) uint64, optional
        By default ``base, base + 1, ..``.
    base : int
    alive : (m,) int64, optional
        Rows that count, ascending; all by default.
    """

    signatures: U32
    ids: U64 | None = None
    base: int = 0
    alive: I64 | None = None

    def __len__(self) -> int:
        return len(self.signatures) if self.alive is None else len(self.alive)

    def chunks(self) -> Iterator[U32]:
        """Yield the rows that count, some 4 MiB at a time."""
        step = max(1, _CHUNK // (4 * self.signatures.shape[1]))
        for begin in range(0, len(self), step):
            if self.alive is None:
                yield self.signatures[begin : begin + step]
            else:
                yield self.signatures[self.alive[begin : begin + step]]

    def own_ids(self) -> U64:
        """Return the ids of the rows that count."""
        if self.ids is not None:
            return self.ids if self.alive is None else self.ids[self.alive]
        rows = np.arange(len(self.signatures)) if self.alive is None else self.alive
        return rows.astype(np.uint64) + np.uint64(self.base)


@dataclass(frozen=True, slots=True)
class Rows:
    """All that goes into one segment."""

    pieces: tuple[Piece, ...]

    def __len__(self) -> int:
        return sum(len(piece) for piece in self.pieces)

    @property
    def size(self) -> int:
        """Slots of a signature."""
        return int(self.pieces[0].signatures.shape[1])

    @property
    def is_numbered(self) -> bool:
        """Whether the ids are consecutive and need not be kept."""
        first = self.pieces[0]
        return len(self.pieces) == 1 and first.ids is None and first.alive is None

    def chunks(self) -> Iterator[U32]:
        """Yield all signatures in order."""
        for piece in self.pieces:
            yield from piece.chunks()

    def ids(self) -> U64:
        """Return all ids in order, or none if they are consecutive."""
        if self.is_numbered:
            return np.zeros(0, np.uint64)
        return np.concatenate([piece.own_ids() for piece in self.pieces])


class Sink(Protocol):
    """Where the parts of a segment go."""

    def has(self, number: int) -> bool:
        """Whether a part is there already."""

    def put(self, number: int, arrays: Iterable[NDArray[Any]]) -> None:
        """Take a part, given as arrays to be laid end to end."""


class Memory:
    """A sink that keeps the arrays."""

    def __init__(self) -> None:
        self.parts: dict[int, NDArray[Any]] = {}

    def has(self, number: int) -> bool:
        """Whether a part is there already."""
        return number in self.parts

    def put(self, number: int, arrays: Iterable[NDArray[Any]]) -> None:
        """Keep a part."""
        several = list(arrays)
        self.parts[number] = several[0] if len(several) == 1 else np.concatenate(several)


def bits_for(rows: int) -> int:
    """Return the bits of the directory: the most for which a bucket holds 2 rows or more on average, at least 1."""
    return max(1, (rows // 2).bit_length() - 1)


def hash_keys(size: int) -> U32:
    """Return what is added to the slots before they are multiplied: upper halves of splitmix64 from 0.

    Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014.
    """
    state = np.arange(1, size + 2, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return ((state ^ (state >> np.uint64(31))) >> np.uint64(32)).astype(np.uint32)


def _shapes(rows: int, size: int, cut: Bands, *, numbered: bool) -> list[PartShape]:
    shapes = [PartShape("<u4", rows * size), PartShape("<u8", 0 if numbered else rows)]
    for _ in range(cut.count):
        shapes += [
            PartShape("<u4", (1 << bits_for(rows)) + 1), PartShape("<u4", rows), PartShape("<u2", rows + _PAD)
        ]  # fmt: skip
    return shapes


def disk_needed(rows: int, size: int, cut: Bands, *, numbered: bool) -> int:
    """Return the bytes of a segment file."""
    return file_size(_shapes(rows, size, cut, numbered=numbered))


def row_needs(group: int) -> int:
    """Return the bytes a build takes for one row, `group` bands hashed at a time, besides the signatures."""
    return 8 * group + 8 + 4 + 2 + 4  # hashes, split keys, rows, tags, directory


def group_for(rows: int, cut: Bands, memory: int) -> int:
    """Return how many bands can be hashed in one pass."""
    left = memory // max(1, rows) - row_needs(0)
    return max(1, min(_GROUP, cut.count, left // 8))


def fill(rows: Rows, cut: Bands, sink: Sink, group: int, watch: Watch) -> None:
    """Work out the parts of a segment that a sink does not have."""
    from dataguard.fingerprints.index._kernels import hash_bands

    count, keys, done = len(rows), hash_keys(rows.size), 0
    total = count * cut.count
    if not sink.has(0):
        sink.put(0, (chunk.reshape(-1) for chunk in rows.chunks()))
    if not sink.has(1):
        sink.put(1, [rows.ids()])
    hashes = np.empty((group, count), np.uint64)
    for first in range(0, cut.count, group):
        bands = range(first, min(first + group, cut.count))
        if not all(sink.has(2 + 3 * band + i) for band in bands for i in range(3)):
            at = 0
            for chunk in rows.chunks():
                hash_bands(chunk, keys, first, width_of(cut), at, hashes[: len(bands)])
                at += len(chunk)
            for band in bands:
                made = _bucket(hashes[band - first])
                parts: tuple[NDArray[Any], ...] = (made.starts, made.rows, made.tags)
                for i, array in enumerate(parts):
                    if not sink.has(2 + 3 * band + i):
                        sink.put(2 + 3 * band + i, [array])
        done += len(bands) * count
        watch("bands", done, total)


def _bucket(hashes: U64) -> Band:
    from dataguard.fingerprints.index._kernels import fill_buckets, split_keys

    count, bits = len(hashes), bits_for(len(hashes))
    split = 0 if bits <= _UNSPLIT else bits - _PART_BITS
    band = Band(
        np.zeros((1 << bits) + 1, np.uint32), np.empty(count, np.uint32), np.zeros(count + _PAD, np.uint16)
    )
    cuts, keys = np.array([0, count], np.int64), hashes
    if split:
        cuts, keys = np.zeros((1 << split) + 1, np.int64), np.empty(count, np.uint64)
        split_keys(hashes, split, cuts, keys)
    fill_buckets(keys, cuts, bits - split, split > 0, band.starts, band.rows, band.tags[:count])
    return band


class Segment:
    """Signatures, ids and bands; looked up, never changed.

    Attributes
    ----------
    cut : Bands
    signatures : (n, k) uint32
    bands : tuple of Band
        Unchecked as long as `check_all` was not called, when mapped.
    """

    def __init__(
        self, cut: Bands, base: int, size: int, parts: Sequence[NDArray[Any]], reader: Reader | None = None
    ) -> None:
        self.cut, self._base, self._reader = cut, base, reader
        parts = [_frozen(part) for part in parts]  # one type in memory and mapped: kernels compile once
        self.signatures: U32 = parts[0].reshape(-1, size)
        self._ids: U64 = parts[1]
        self.bands = tuple(Band(*parts[2 + 3 * band : 5 + 3 * band]) for band in range(cut.count))
        self._bits = bits_for(len(self.signatures))
        self._order: I64 | None = None

    def __len__(self) -> int:
        return len(self.signatures)

    @property
    def is_numbered(self) -> bool:
        """Whether ids are consecutive, and so ascend with the rows."""
        return len(self._ids) == 0

    def piece(self, alive: I64 | None) -> Piece:
        """Return it as what another segment can be made of; everything it needs is checked before."""
        if self._reader is not None:
            self._reader.check_part(0)
            self._reader.check_part(1)
        return Piece(self.signatures, None if self.is_numbered else self._ids, self._base, alive)

    def ids(self, rows: U32) -> U64:
        """Return the ids of rows."""
        if self.is_numbered:
            return rows.astype(np.uint64) + np.uint64(self._base)
        if self._reader is not None:
            self._reader.check(1, rows.astype(np.int64), rows.astype(np.int64))
        return self._ids[rows]

    def find(self, ids: U64) -> I64:
        """Return the row of each id, -1 where there is none."""
        count = len(self)
        if self.is_numbered:
            near = (ids >= np.uint64(self._base)) & (ids - np.uint64(self._base) < np.uint64(count))
            return np.where(near, (ids - np.uint64(self._base)).astype(np.int64), -1)
        if self._order is None:
            if self._reader is not None:
                self._reader.check_part(1)
            self._order = np.argsort(self._ids, kind="stable")
        place = np.searchsorted(self._ids, ids, sorter=self._order)
        row = self._order[np.minimum(place, count - 1)]
        return np.where(self._ids[row] == ids, row, -1)

    def probe(self, hashes: U64, found: U64) -> int:
        """Write (query, row) of all that meet in a band into `found`; return how many, or -1 for want of room.

        Parameters
        ----------
        hashes : (bands, queries) uint64
        found : (room,) uint64
        """
        from dataguard.fingerprints.index._kernels import probe_band

        at = 0
        for number, band in enumerate(self.bands):
            self._check_band(number, band, hashes[number])
            tags = band.tags
            done, at = probe_band(hashes[number], 0, self._bits, band.starts, band.rows, tags, found, at)
            if done < 0:
                raise self._broken(number)
            if done < hashes.shape[1]:
                return -1
        return int(at)

    def room_for(self, hashes: U64) -> int:
        """Return the room `probe` needs for hashes (bands, queries), their blocks checked before."""
        total = 1
        for band, own in zip(self.bands, hashes >> np.uint64(64 - self._bits), strict=True):
            sizes = band.starts[own + np.uint64(1)].astype(np.int64) - band.starts[own]
            total += int(np.clip(sizes, 0, len(self)).sum())
        return total

    def _broken(self, number: int) -> DecodeError:
        what = f"band {number} points to rows there are none of"
        return (
            DecodeError(what, remedy="build the index anew")
            if self._reader is None
            else self._reader.damaged(what)
        )

    def _check_band(self, number: int, band: Band, hashes: U64) -> None:
        """Check what the hashes will look at."""
        reader, part = self._reader, 2 + 3 * number
        if reader is None or all(reader.is_checked(part + i) for i in range(3)):
            return
        buckets = (hashes >> np.uint64(64 - self._bits)).astype(np.int64)
        reader.check(part, buckets, buckets + 1)
        lows, highs = band.starts[buckets].astype(np.int64), band.starts[buckets + 1].astype(np.int64)
        if (lows > highs).any() or (highs > len(self)).any():
            raise self._broken(number)
        filled = lows < highs
        for i in (1, 2):
            reader.check(part + i, lows[filled], highs[filled] - 1)

    def check_signatures(self, rows: U32) -> None:
        """Check the signatures of rows, where not done before."""
        if self._reader is not None and not self._reader.is_checked(0):
            size = self.signatures.shape[1]
            begin = np.unique(rows).astype(np.int64) * size
            self._reader.check(0, begin, begin + size - 1)

    def check_all(self) -> Iterator[int]:
        """Check everything again; yield bytes done."""
        from dataguard.fingerprints.index._kernels import is_well_formed

        if self._reader is not None:
            yield from self._reader.check_again()
        for number, band in enumerate(self.bands):
            if not is_well_formed(band.starts, len(self)) or int(band.rows.max()) >= len(self):
                raise self._broken(number)


def _frozen(array: NDArray[Any]) -> NDArray[Any]:
    view = array.view()
    view.flags.writeable = False
    return view


def announced(rows: Rows, cut: Bands, scheme: int) -> tuple[Head, list[PartShape]]:
    """Return head and parts of the file of some rows."""
    numbered = rows.is_numbered
    base = rows.pieces[0].base if numbered else 0
    numbers = (len(rows), rows.size, cut.count, cut.width, int(numbered), base, 0, 0)
    source = digest_of(itertools.chain(rows.chunks(), [rows.ids()]))  # a chunk at a time: they may be copies
    return Head(KIND, scheme, numbers, source), _shapes(len(rows), rows.size, cut, numbered=numbered)


def open_segment(path: Path, cut: Bands, size: int, scheme: int, check: str = "") -> Segment:
    """Map a segment file.

    Raises
    ------
    DecodeError
        Damaged, or not of the index it is named by.
    """
    reader = Reader(path, KIND, check)
    rows, own_size, count, width, numbered, base, *rest = reader.head.numbers
    if (
        not 1 <= rows <= MAX_ROWS
        or not 1 <= own_size <= MAX_SLOTS
        or count * width > own_size
        or numbered > 1
        or any(rest)
    ):
        raise reader.damaged("announces sizes that cannot be")
    if (own_size, count, width, reader.head.scheme) != (size, cut.count, cut.width, scheme):
        raise reader.damaged("belongs to another index")
    if base + rows > 1 << 64:
        raise reader.damaged("announces ids beyond 64 bits")
    return Segment(cut, base, size, reader.map(_shapes(rows, size, cut, numbered=bool(numbered))), reader)


def check_signatures(signatures: NDArray[Any], size: int | None = None) -> U32:
    """Return signatures as the kernels take them.

    Raises
    ------
    UsageError
        Not a (n, k) uint32 matrix, or of another k.
    """
    if not isinstance(signatures, np.ndarray):
        raise UsageError(
            f"a {type(signatures).__name__} cannot be indexed",
            remedy="give a (n, k) uint32 matrix, as sketch_texts and sketch_sets make it",
        )
    if signatures.ndim != 2 or signatures.dtype != np.uint32 or not 1 <= signatures.shape[1] <= MAX_SLOTS:
        raise UsageError(
            f"signatures of type {signatures.dtype} and shape {signatures.shape} cannot be indexed",
            remedy=f"give a (n, k) uint32 matrix of 1 to {MAX_SLOTS} slots",
        )
    if size is not None and signatures.shape[1] != size:
        raise UsageError(
            f"signatures of {signatures.shape[1]} slots do not fit an index of {size}",
            remedy="sketch them alike",
        )
    return _frozen(np.ascontiguousarray(signatures).view(np.ndarray))
