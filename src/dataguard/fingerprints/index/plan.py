"""What a build of a band index takes, and how it is cut into segments; known before it begins."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dataguard.budget import Watch
from dataguard.errors import DecodeError, UsageError
from dataguard.fingerprints.arguments import is_number
from dataguard.fingerprints.index.bands import MAX_SLOTS, Bands, choose_bands
from dataguard.fingerprints.index.container import Writer, finished
from dataguard.fingerprints.index.folder import Manifest
from dataguard.fingerprints.index.segment import (
    MAX_ROWS,
    Memory,
    Piece,
    Rows,
    Segment,
    announced,
    disk_needed,
    fill,
    group_for,
    open_segment,
    row_needs,
)

__all__ = [
    "DEFAULT_MEMORY",
    "BandMaker",
    "Needs",
    "check_threshold",
    "cut_for",
    "groups",
    "maker_of",
    "needs_of",
    "spans",
]

I64 = NDArray[np.int64]
U32 = NDArray[np.uint32]
U64 = NDArray[np.uint64]

DEFAULT_MEMORY = 1 << 30
"""Bytes a build may take besides the signatures, and a merge."""

KIND = "bands"
_LEAST_ROWS = 1 << 10
_EDGE = 1e-3
"""Thresholds nearer to 0 or 1 get the bands of this one: at the ends themselves no error is left to weigh."""

_MISS_WEIGHT = 0.9
"""Of the default cut: what is missed is lost, what is looked at in vain costs 100 ns."""


@dataclass(frozen=True, slots=True)
class Needs:
    """What a build takes, known before it begins.

    Attributes
    ----------
    memory : int
        Bytes at its height, signatures not counted.
    resident : int
        Bytes of the finished bands in memory; on disk they are mapped, and the system keeps what it can.
    disk : int
        Bytes of the folder, signatures included.
    segments : int
        Pieces the rows are cut into, to stay within the memory allowed.
    """

    memory: int
    resident: int
    disk: int
    segments: int


class BandMaker:
    """How segments of bands are made."""

    def __init__(self, cut: Bands, size: int, scheme: int, threshold: float, memory: int) -> None:
        check_memory(memory)
        self.cut, self.size, self.scheme, self.memory = cut, size, scheme, memory
        self.threshold = threshold

    kind = KIND

    @property
    def numbers(self) -> tuple[int, int, int, int]:
        """Sizes, for the manifest."""
        # Down, never up: 91/128 rounded up would ask for 92 equal slots when the index is opened again.
        return self.size, self.cut.count, self.cut.width, int(self.threshold * 1e6 + 1e-6)

    @property
    def rows_at_most(self) -> int:
        """Rows of a segment that can be built within the memory, two bands at a time."""
        return min(MAX_ROWS, max(_LEAST_ROWS, self.memory // row_needs(2)))

    def fits(self, pieces: Sequence[Piece]) -> bool:
        """Whether pieces may become one segment."""
        return sum(map(len, pieces)) <= self.rows_at_most

    def _group(self, rows: Rows) -> int:
        return group_for(len(rows), self.cut, self.memory)

    def make(self, pieces: Sequence[Piece], watch: Watch) -> Segment:
        """Build a segment in memory."""
        rows, sink = Rows(tuple(pieces)), Memory()
        if len(pieces) == 1 and pieces[0].alive is None:
            sink.parts[0] = pieces[0].signatures.reshape(-1)  # kept, not copied
        fill(rows, self.cut, sink, self._group(rows), watch)
        parts = [sink.parts[number] for number in range(2 + 3 * self.cut.count)]
        return Segment(self.cut, pieces[0].base, self.size, parts)

    def write(self, pieces: Sequence[Piece], path: Path, watch: Watch) -> str:
        """Write a segment; return the check sum of its head. One that an earlier attempt finished is kept."""
        rows = Rows(tuple(pieces))
        head, shapes = announced(rows, self.cut, self.scheme)
        if (check := finished(path, head, shapes)) is not None:
            return check
        writer = Writer(path, head, shapes)
        try:
            fill(rows, self.cut, writer, self._group(rows), watch)
            return writer.finish()
        finally:
            writer.close()

    def open(self, path: Path, check: str) -> Segment:
        """Map a segment."""
        return open_segment(path, self.cut, self.size, self.scheme, check)

    def piece(self, segment: Segment, alive: I64 | None) -> Piece:
        """Return the rows of a segment that count."""
        return segment.piece(alive)


def needs_of(rows: int, cut: Bands, size: int, memory: int, *, ids: bool) -> Needs:
    """Return what a build takes, with ids of their own or without."""
    sizes = [end - begin for begin, end in spans(rows, BandMaker(cut, size, 0, 0.5, memory).rows_at_most)]
    disk = sum(disk_needed(n, size, cut, numbered=not ids) for n in sizes)
    without = sum(disk_needed(n, size, Bands(1, 1), numbered=not ids) for n in sizes)
    one = sum(disk_needed(n, size, Bands(2, 1), numbered=not ids) for n in sizes) - without
    top = max(sizes, default=0)
    return Needs(top * row_needs(group_for(top, cut, memory)), one * cut.count, disk, len(sizes))


def spans(rows: int, most: int) -> list[tuple[int, int]]:
    """Cut rows into as few spans of about one length as keep each within a bound."""
    pieces = -(-rows // most)
    edges = [rows * i // pieces for i in range(pieces + 1)] if pieces else [0]
    return list(itertools.pairwise(edges))


def groups(matrix: U32, ids: U64 | None, most: int) -> list[list[Piece]]:
    """Return what goes into each segment."""
    return [
        [Piece(matrix[begin:end], None if ids is None else ids[begin:end], begin)]
        for begin, end in spans(len(matrix), most)
    ]


def check_memory(memory: int) -> None:
    """Refuse anything but a number of bytes."""
    if not is_number(memory):
        raise UsageError(f"a memory of {memory!r} is no number", remedy="give bytes, such as 1 << 30")


def check_threshold(threshold: float) -> None:
    """Refuse anything but 0 to 1."""
    if not (is_number(threshold) and 0 <= threshold <= 1):
        raise UsageError(f"a threshold of {threshold} cannot be reached", remedy="give a number from 0 to 1")


def cut_for(bands: Bands | tuple[int, int] | None, threshold: float, size: int) -> Bands:
    """Return the cut that is asked for, or the default for a threshold."""
    check_threshold(threshold)
    if bands is None:
        inside = min(max(threshold, _EDGE), 1 - _EDGE)
        return choose_bands(inside, size, miss_weight=_MISS_WEIGHT, vain_weight=1 - _MISS_WEIGHT).bands
    if not isinstance(bands, Bands) and not (isinstance(bands, tuple) and len(bands) == 2):
        raise UsageError(
            f"bands {bands!r} are no pair", remedy="give (number of bands, slots of each), or Bands"
        )
    cut = bands if isinstance(bands, Bands) else Bands(*bands)
    if cut.count * cut.width > size:
        raise UsageError(
            f"{cut.count} bands of {cut.width} slots do not fit signatures of {size}",
            remedy="take fewer or narrower",
        )
    return cut


def maker_of(manifest: Manifest, path: Path, memory: int) -> BandMaker:
    """Return how segments of an index on disk are made; DecodeError where its sizes cannot be."""
    size, count, width, threshold = manifest.numbers
    is_possible = 1 <= size <= MAX_SLOTS and count >= 1 and width >= 1 and count * width <= size
    if not is_possible or threshold > 1_000_000 or manifest.scheme > 0xFFFF:
        raise DecodeError(
            "announces sizes that cannot be",
            where=str(path),
            remedy="restore the folder, or build the index anew",
        )
    return BandMaker(Bands(count, width), size, manifest.scheme, threshold / 1e6, memory)
