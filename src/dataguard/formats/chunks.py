"""What a text format hands to the splicer: whole rows as bytes, and where each cell lies in them.

CSV and JSON Lines locate cells in ways of their own and share everything behind it: moving
raw bytes from cell to cell (``splice.py``) asks for no more than this protocol.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from dataguard.formats.compression import ByteStream

__all__ = ["ABSENT", "WINDOW", "Chunk", "Density", "Sink", "TextSource"]

ABSENT = -1
"""Start and end of a cell that does not stand in its row: a key left out, a row cut short."""

WINDOW = 4096
"""Rows of a run over which the length of rows is averaged."""


@dataclass(frozen=True, slots=True, eq=False)
class Chunk:
    """Whole rows of a text file, as bytes; valid until the next chunk is asked for.

    Parameters
    ----------
    data : NDArray[np.uint8]
        Buffer.
    begin, end : int
        The rows, blank lines among them included, are ``data[begin:end]``.
    starts, ends : NDArray[np.int32], shape (rows * columns,)
        Raw extent of each cell, quotes included, row by row in the order of the columns;
        `ABSENT` in both for a cell that is not there. The first cell of a CSV row always is.
    first_row, rows : int
        Number of the first data row (from zero) and count of rows.
    """

    data: NDArray[np.uint8]
    begin: int
    end: int
    starts: NDArray[np.int32]
    ends: NDArray[np.int32]
    first_row: int
    rows: int


class Density:
    """Where the rows of a text file are longest, found while its chunks pass by.

    A block is no smaller than `WINDOW` rows, so no more text than the densest run of so many is in any row's
    share of it.
    """

    def __init__(self) -> None:
        self._window: deque[tuple[int, int]] = deque()
        self._rows = self._size = 0
        self._most = 0.0

    def add(self, rows: int, size: int) -> None:
        """Take the rows of one chunk, and their bytes."""
        self._window.append((rows, size))
        self._rows, self._size = self._rows + rows, self._size + size
        while self._rows - self._window[0][0] >= WINDOW:
            gone, less = self._window.popleft()
            self._rows, self._size = self._rows - gone, self._size - less
        excess = self._rows - WINDOW
        if excess >= 0:
            first, size = self._window[0]
            self._most = max(self._most, (self._size - size * excess / first) / WINDOW)

    def densest(self) -> int:
        """Return the bytes a row takes in the densest run, on the average of the run."""
        return math.ceil(self._most or self._size / max(1, self._rows))


class TextSource(Protocol):
    """A text file whose cells are byte ranges.

    ``preamble()`` followed by ``data[begin:end]`` of every chunk is the whole text: nothing lies
    between two chunks or behind the last.
    """

    name: str

    @property
    def column_names(self) -> tuple[str, ...]:
        """Column names in order, each once."""

    def chunks(self, *, check_text: bool = True) -> Iterator[Chunk]:
        """Stream the rows; `check_text` False on a later pass, when the text is known to be sound."""

    def preamble(self) -> bytes:
        """Return the bytes before the first chunk."""

    def open_text(self) -> AbstractContextManager[ByteStream]:
        """Open the same text, preamble included."""

    def stamp(self) -> tuple[int, int]:
        """Return what changes when the file does: size and time of the last change."""


class Sink(Protocol):
    """Whatever takes bytes; every binary file does."""

    def write(self, data: bytes | memoryview, /) -> object:
        """Take all of `data`."""
