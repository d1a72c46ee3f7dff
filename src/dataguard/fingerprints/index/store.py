"""What changes about an index: pieces come, rows go, small segments are merged into larger ones.

Shared by the index of bands and that of postings, which differ only in what a segment holds. Segments never change;
what is added is searched at once from memory and lasts from `flush` on; what is removed is a bit until a merge drops
the row. Segments merge when the newer holds at least half as much as the older, so an item is rewritten log n times
(O'Neil, Cheng, Gawlick and O'Neil, "The log-structured merge-tree", 1996).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from dataguard.budget import Watch, unwatched
from dataguard.errors import DecodeError, UsageError
from dataguard.fingerprints.arguments import is_whole
from dataguard.fingerprints.index.folder import (
    Entry,
    Folder,
    Manifest,
    load_manifest,
    read_removed,
    write_removed,
)

__all__ = ["Live", "Maker", "SegmentLike", "Store", "check_ids", "check_scheme"]

I64 = NDArray[np.int64]
U8 = NDArray[np.uint8]
U32 = NDArray[np.uint32]
U64 = NDArray[np.uint64]

_RETRIES = 5
_NEVER = 1 << 64


class SegmentLike(Protocol):
    """What a store asks of a segment."""

    def __len__(self) -> int:
        """Return its rows."""

    def find(self, ids: U64) -> I64:
        """Return the row of each id, -1 where there is none."""

    def check_all(self) -> Iterator[int]:
        """Check everything; yield bytes done."""


P = TypeVar("P")
S = TypeVar("S", bound=SegmentLike)


class Maker(Protocol[P, S]):
    """How segments of one kind are made."""

    @property
    def kind(self) -> str:
        """Word of the manifest."""

    @property
    def scheme(self) -> int:
        """Hash scheme."""

    @property
    def numbers(self) -> tuple[int, int, int, int]:
        """Sizes, for the manifest."""

    def fits(self, pieces: Sequence[P]) -> bool:
        """Whether pieces may become one segment."""

    def make(self, pieces: Sequence[P], watch: Watch) -> S:
        """Build a segment in memory."""

    def write(self, pieces: Sequence[P], path: Path, watch: Watch) -> str:
        """Write a segment; return the check sum of its head."""

    def open(self, path: Path, check: str) -> S:
        """Map a segment."""

    def piece(self, segment: S, alive: I64 | None) -> P:
        """Return the rows of a segment that count, to make another of."""


@dataclass(slots=True)
class Live(Generic[S]):
    """A segment and which of its rows are removed.

    Attributes
    ----------
    segment : S
    dead : (rows + 7) // 8 uint8
        Bit ``row & 7`` of byte ``row >> 3``; empty as long as none is removed.
    removed : int
        How many.
    entry : Entry or None
        Where it lies; none in memory.
    is_changed : bool
        Removed rows are not on disk yet.
    """

    segment: S
    dead: U8
    removed: int = 0
    entry: Entry | None = None
    is_changed: bool = False

    @property
    def left(self) -> int:
        """Rows that count."""
        return len(self.segment) - self.removed

    def is_dead(self, rows: I64 | U32) -> NDArray[np.bool_]:
        """Return which rows are removed."""
        if len(self.dead) == 0:
            return np.zeros(len(rows), np.bool_)
        wide = rows.astype(np.int64)
        return np.asarray((self.dead[wide >> 3] >> (wide & 7).astype(np.uint8)) & 1, np.bool_)

    def bury(self, rows: I64) -> None:
        """Remove rows, each named once and alive so far."""
        dead = np.zeros((len(self.segment) + 7) // 8, np.uint8) if len(self.dead) == 0 else self.dead.copy()
        np.bitwise_or.at(dead, rows >> 3, (1 << (rows & 7)).astype(np.uint8))
        self.dead, self.removed, self.is_changed = dead, self.removed + len(rows), True

    def alive(self) -> I64 | None:
        """Return the rows that count; none: all of them."""
        if self.removed == 0:
            return None
        return np.flatnonzero(np.unpackbits(self.dead, bitorder="little")[: len(self.segment)] == 0)

    def gone(self) -> U32:
        """Return the rows that are removed."""
        return np.flatnonzero(np.unpackbits(self.dead, bitorder="little")).astype(np.uint32)


class Store(Generic[P, S]):
    """Segments in memory, and in a folder if there is one.

    Parameters
    ----------
    maker : Maker
    folder : Folder, optional
        Held for writing.
    path : Path, optional
        Where it lies, if on disk.
    """

    def __init__(self, maker: Maker[P, S], folder: Folder | None = None, path: Path | None = None) -> None:
        self.maker, self._folder, self.path = maker, folder, path
        self.lives: list[Live[S]] = []
        self._next_file, self.next_id = 1, 0

    def __len__(self) -> int:
        return sum(live.left for live in self.lives)

    # --- coming into being ------------------------------------------------------------------------------

    def build(self, groups: Sequence[Sequence[P]], next_id: int, watch: Watch) -> None:
        """Make one segment of each group; on disk, those that an earlier attempt finished are kept."""
        self.next_id = next_id
        if self._folder is None:
            self.lives = [self._live(self.maker.make(pieces, watch)) for pieces in groups]
            return
        if self._folder.is_used:
            raise UsageError(
                "holds an index already",
                where=str(self._folder.path),
                remedy="open it, or choose another folder",
            )
        entries = [self._write(pieces, watch) for pieces in groups]
        self._folder.save(self._manifest(entries))
        self._open(entries)

    def load(self, manifest: Manifest) -> None:
        """Take up what a manifest names; a reader that meets a merge reads the manifest again."""
        for attempt in range(_RETRIES):
            try:
                self._next_file, self.next_id = manifest.next_file, manifest.next_id
                self._open(manifest.segments)
            except DecodeError:
                assert self.path is not None
                newer = load_manifest(self.path, self.maker.kind)
                if attempt == _RETRIES - 1 or newer == manifest:
                    raise
                manifest = newer
            else:
                break
        if self._folder is not None:
            self._folder.clean(manifest)

    def _open(self, entries: Sequence[Entry]) -> None:
        assert self.path is not None
        lives = []
        for entry in entries:
            live = self._live(self.maker.open(self.path / entry.file, entry.check), entry)
            if entry.removed:
                live.bury(read_removed(self.path, entry, len(live.segment)).astype(np.int64))
                live.is_changed = False
            lives.append(live)
        self.lives = lives

    @staticmethod
    def _live(segment: S, entry: Entry | None = None) -> Live[S]:
        return Live(segment, np.zeros(0, np.uint8), entry=entry)

    # --- changes ----------------------------------------------------------------------------------------

    def locate(self, ids: U64) -> list[tuple[Live[S], I64]]:
        """Return for each segment the row of each id, -1 where it has none alive."""
        found = []
        for live in self.lives:
            rows = live.segment.find(ids)
            rows[live.is_dead(np.maximum(rows, 0)) & (rows >= 0)] = -1
            found.append((live, rows))
        return found

    def refuse_known(self, ids: U64) -> None:
        """Refuse ids that are in the index."""
        for _, rows in self.locate(ids):
            if (known := np.flatnonzero(rows >= 0)).size:
                raise UsageError(
                    f"id {int(ids[known[0]])} is in the index already",
                    remedy="remove it first, or give another id",
                )

    def add(self, piece: P, next_id: int) -> None:
        """Take in a piece; searched from now on, lasting from `flush` on."""
        self._check_writable()
        self.lives.append(self._live(self.maker.make([piece], unwatched)))
        self.next_id = max(self.next_id, next_id)
        while (two := self._due()) is not None and all(live.entry is None for live in two):
            self._replace(two, [self._live(self.maker.make(self._pieces(two), unwatched))])

    def remove(self, ids: U64) -> None:
        """Remove items; all of them, or none if one is not known."""
        self._check_writable()
        found = self.locate(ids)
        known = np.zeros(len(ids), np.bool_)
        for _, rows in found:
            known |= rows >= 0
        if not known.all():
            first = int(ids[int(np.argmin(known))])
            raise UsageError(
                f"id {first} is not in the index", remedy="remove ids that are; nothing was removed"
            )
        for live, rows in found:
            if (rows >= 0).any():
                live.bury(rows[rows >= 0])
        self.lives = [live for live in self.lives if live.entry is not None or live.left]

    def flush(self) -> None:
        """Write what is new to the folder, merge what is due, and make that the index."""
        self._check_writable()
        if self._folder is None or not self._is_changed():
            return
        tail = [live for live in self.lives if live.entry is None]
        for group in self._fitting(tail):
            self._rewrite(group)
        while (two := self._due()) is not None:
            self._rewrite(two)
        self._commit()

    def merge(self, watch: Watch = unwatched) -> None:
        """Drop removed rows and merge all segments into as few as memory allows."""
        self._check_writable()
        for group in self._fitting(self.lives):
            self._rewrite(group, watch)
        if self._folder is not None:
            self._commit()

    def _fitting(self, lives: Sequence[Live[S]]) -> list[list[Live[S]]]:
        """Cut neighbours into runs that may each become one segment."""
        groups: list[list[Live[S]]] = []
        for live in lives:
            if groups and self.maker.fits(self._pieces([*groups[-1], live])):
                groups[-1].append(live)
            else:
                groups.append([live])
        return groups

    def _is_changed(self) -> bool:
        return any(live.entry is None or live.is_changed for live in self.lives)

    def _due(self) -> list[Live[S]] | None:
        """Return the last two segments if they should be one."""
        if len(self.lives) < 2 or self.lives[-2].left > 2 * self.lives[-1].left:
            return None
        two = self.lives[-2:]
        return two if self.maker.fits(self._pieces(two)) else None

    def _pieces(self, lives: Sequence[Live[S]]) -> list[P]:
        return [self.maker.piece(live.segment, live.alive()) for live in lives if live.left]

    def _rewrite(self, lives: list[Live[S]], watch: Watch = unwatched) -> None:
        """Make one segment of some, on disk if there is a folder; nothing to do for one that is whole."""
        if len(lives) == 1 and not lives[0].removed and (lives[0].entry is not None or self._folder is None):
            return
        pieces, made = self._pieces(lives), []
        if pieces and self._folder is not None:
            entry = self._write(pieces, watch)
            made = [self._live(self.maker.open(self._folder.path / entry.file, entry.check), entry)]
        elif pieces:
            made = [self._live(self.maker.make(pieces, watch))]
        self._replace(lives, made)

    def _replace(self, old: Sequence[Live[S]], new: list[Live[S]]) -> None:
        at = next(i for i, live in enumerate(self.lives) if live is old[0])
        kept = [live for live in self.lives if not any(live is gone for gone in old)]
        self.lives = kept[:at] + new + kept[at:]

    def _write(self, pieces: Sequence[P], watch: Watch) -> Entry:
        assert self._folder is not None
        path = self._folder.file("segment", self._next_file)
        check = self.maker.write(pieces, path, watch)
        self._next_file += 1
        return Entry(path.name, check)

    def _commit(self) -> None:
        """Replace the manifest; only then are older files removed."""
        assert self._folder is not None
        for live in self.lives:
            assert live.entry is not None
            if live.is_changed:
                live.entry = write_removed(self._folder, self._next_file, replace(live.entry), live.gone())
                self._next_file += 1
        self._folder.save(self._manifest([live.entry for live in self.lives if live.entry is not None]))
        for live in self.lives:
            live.is_changed = False

    def _manifest(self, entries: Sequence[Entry]) -> Manifest:
        maker = self.maker
        return Manifest(
            maker.kind,
            maker.scheme,
            maker.numbers,
            self._next_file,
            self.next_id,
            tuple(entries),
        )

    def _check_writable(self) -> None:
        if self.path is not None and self._folder is None:
            raise UsageError(
                "is open to be read only", where=str(self.path), remedy="open it with write=True"
            )

    # --- care -------------------------------------------------------------------------------------------

    def verify(self, watch: Watch = unwatched) -> None:
        """Read and check every byte of every segment."""
        for number, live in enumerate(self.lives):
            done = 0
            for size in live.segment.check_all():
                done += size
                watch(f"segment {number + 1} of {len(self.lives)}", done, done)

    def close(self) -> None:
        """Flush, and let others write."""
        folder = self._folder
        if folder is None:
            return
        try:
            self.flush()
        finally:
            folder.release()
            self._folder = None

    def abandon(self) -> None:
        """Let others write; what was not flushed is lost."""
        if self._folder is not None:
            self._folder.release()
            self._folder = None


def check_scheme(scheme: int) -> None:
    """Refuse a hash scheme that has no room in a head."""
    if not (is_whole(scheme) and 0 <= scheme <= 0xFFFF):
        raise UsageError(f"hash scheme {scheme} is none", remedy="give a number from 0 to 65535")


def check_ids(ids: NDArray[Any] | None, count: int, next_id: int) -> tuple[U64 | None, int]:
    """Return ids as uint64, and the id after the greatest.

    Raises
    ------
    UsageError
        Not one for each item, not whole numbers from 0 to 2**64 - 1, or one twice.
    """
    if ids is None:
        if next_id + count > _NEVER:
            raise UsageError("no numbers are left for items without ids", remedy="give ids")
        return None, next_id + count
    ids = np.asarray(ids)
    if ids.shape != (count,) or (count and ids.dtype.kind not in "ui"):
        raise UsageError(
            f"ids of type {ids.dtype} and shape {ids.shape} do not fit {count} items",
            remedy="give one integer each",
        )
    if count and ids.dtype.kind == "i" and int(ids.min()) < 0:
        raise UsageError(f"id {int(ids.min())} is negative", remedy="give ids from 0 to 2**64 - 1")
    wide: U64 = ids.astype(np.uint64)
    if not (wide[1:] > wide[:-1]).all():
        ordered = np.sort(wide)
        if (twice := np.flatnonzero(ordered[1:] == ordered[:-1])).size:
            raise UsageError(
                f"id {int(ordered[twice[0]])} is given twice", remedy="give every item an id of its own"
            )
    return wide, max(next_id, int(wide.max(initial=np.uint64(0))) + 1 if count else 0)
