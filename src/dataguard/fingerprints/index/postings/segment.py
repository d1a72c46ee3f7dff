"""One unchanging piece of an inverted index: for every sampled hash the sets that hold it.

A posting is one word: the part of the key its bucket does not tell, over the number of the set. That is exact, takes 8
bytes, and one line of memory answers a look-up. The hashes of a set can be restored from it, for merges.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dataguard.budget import Watch
from dataguard.errors import DecodeError, SchemeMismatch, UsageError
from dataguard.fingerprints.arguments import is_number
from dataguard.fingerprints.index.container import Head, PartShape, Reader, Writer, digest_of, file_size

__all__ = ["POSTING_NEEDS", "PostingMaker", "PostingSegment", "Sets", "as_sets", "disk_for"]

I64 = NDArray[np.int64]
U32 = NDArray[np.uint32]
U64 = NDArray[np.uint64]

KIND = 2
MAX_SETS = 1 << 27
MAX_POSTINGS = (1 << 32) - 1
POSTING_NEEDS = 8 + 4 + 8 + 4
"""Bytes a build takes for one posting: parted keys and sets, words, directory."""

_PAD = 8
_PART_BITS = 12
"""Directory bits of a part, bucketed within the cache."""

_EVERY = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class Sets:
    """Sets end to end: set i has hashes ``offsets[i]`` to ``offsets[i + 1] - 1``; ids as in a band index."""

    hashes: U64
    offsets: I64
    ids: U64 | None = None
    base: int = 0

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def part(self, begin: int, end: int) -> Sets:
        """Return some of the sets."""
        low, high = int(self.offsets[begin]), int(self.offsets[end])
        ids = None if self.ids is None else self.ids[begin:end]
        return Sets(self.hashes[low:high], self.offsets[begin : end + 1] - low, ids, self.base + begin)


def as_sets(hashes: NDArray[Any], offsets: NDArray[Any]) -> Sets:
    """Return hashes and offsets as the kernels take them.

    Raises
    ------
    UsageError
        Not uint64 hashes of one dimension, or offsets that do not ascend from 0 to their end.
    """
    if not isinstance(hashes, np.ndarray) or hashes.ndim != 1 or hashes.dtype != np.uint64:
        found = (
            f"of type {hashes.dtype} and shape {hashes.shape}"
            if isinstance(hashes, np.ndarray)
            else f"in a {type(hashes).__name__}"
        )
        raise UsageError(f"hashes {found}", remedy="give (m,) uint64, as hash_column makes them")
    offsets = np.asarray(offsets)
    if offsets.ndim != 1 or len(offsets) == 0 or offsets.dtype.kind not in "iu":
        raise UsageError(
            f"offsets of type {offsets.dtype} and shape {offsets.shape}", remedy="give (n + 1,) int64"
        )
    wide = offsets.astype(np.int64)
    if wide[0] != 0 or wide[-1] != len(hashes) or (wide[1:] < wide[:-1]).any():
        raise UsageError("offsets do not ascend from 0 to the number of hashes", remedy="give (n + 1,) int64")
    return Sets(_frozen(np.ascontiguousarray(hashes)), _frozen(wide))


def _frozen(array: NDArray[Any]) -> NDArray[Any]:
    view = array.view(np.ndarray)
    view.flags.writeable = False
    return view


def _bits_for(postings: int, sets: int) -> int:
    """Return the bits of the directory: 2 to 4 postings a bucket, and room for the number of a set in a word."""
    return max(1, (postings // 2).bit_length() - 1, (sets - 1).bit_length())


def _shapes(sets: int, postings: int, *, numbered: bool) -> list[PartShape]:
    return [
        PartShape("<u4", sets),
        PartShape("<u8", 0 if numbered else sets),
        PartShape("<u4", (1 << _bits_for(postings, sets)) + 1),
        PartShape("<u8", postings + _PAD),
    ]


def disk_for(sets: int, postings: int, *, numbered: bool) -> int:
    """Return the bytes of a segment file."""
    return file_size(_shapes(sets, postings, numbered=numbered))


class PostingSegment:
    """Postings in buckets; looked up, never changed.

    Attributes
    ----------
    sizes : (sets,) uint32
        Sampled elements of each set.
    starts : (2**bits + 1,) uint32
    words : (postings + 8,) uint64
        Ascending in a bucket; the last 8 mean nothing.
    """

    def __init__(self, base: int, parts: Sequence[NDArray[Any]], reader: Reader | None = None) -> None:
        self._base, self._reader = base, reader
        frozen = [_frozen(part) for part in parts]
        self.sizes: U32 = frozen[0]
        self._ids: U64 = frozen[1]
        self.starts: U32 = frozen[2]
        self.words: U64 = frozen[3]
        self.bits = _bits_for(len(self.words) - _PAD, len(self.sizes))
        self._order: I64 | None = None

    def __len__(self) -> int:
        return len(self.sizes)

    @property
    def is_numbered(self) -> bool:
        """Whether ids are consecutive."""
        return len(self._ids) == 0

    def own_ids(self) -> U64:
        """Return the ids of all sets."""
        if self.is_numbered:
            return np.arange(len(self), dtype=np.uint64) + np.uint64(self._base)
        if self._reader is not None:
            self._reader.check_part(1)
        return self._ids

    def ids(self, rows: U32) -> U64:
        """Return the ids of sets."""
        return rows.astype(np.uint64) + np.uint64(self._base) if self.is_numbered else self.own_ids()[rows]

    def find(self, ids: U64) -> I64:
        """Return the row of each id, -1 where there is none."""
        own = self.own_ids()
        if self._order is None:
            self._order = np.argsort(own, kind="stable")
        place = np.searchsorted(own, ids, sorter=self._order)
        row = self._order[np.minimum(place, len(own) - 1)]
        return np.where(own[row] == ids, row, -1)

    def check_for(self, keys: U64) -> None:
        """Check what keys will look at, where not done before."""
        reader = self._reader
        if reader is None:
            return
        reader.check_part(0)
        if reader.is_checked(2) and reader.is_checked(3):
            return
        buckets = (keys >> np.uint64(64 - self.bits)).astype(np.int64)
        reader.check(2, buckets, buckets + 1)
        lows, highs = self.starts[buckets].astype(np.int64), self.starts[buckets + 1].astype(np.int64)
        if (lows > highs).any() or (highs > len(self.words) - _PAD).any():
            raise self.broken()
        filled = lows < highs
        reader.check(3, lows[filled], highs[filled] - 1)

    def broken(self) -> DecodeError:
        """Return the refusal of postings that point nowhere."""
        what = "postings point to sets there are none of"
        return (
            DecodeError(what, remedy="build the index anew")
            if self._reader is None
            else self._reader.damaged(what)
        )

    def check_all(self) -> Iterator[int]:
        """Check everything again; yield bytes done."""
        from dataguard.fingerprints.index.postings._kernels import count_sizes

        if self._reader is not None:
            yield from self._reader.check_again()
        sizes = np.zeros(len(self), np.uint32)
        if not count_sizes(self.words[:-_PAD], self.bits, sizes) or (sizes != self.sizes).any():
            raise self.broken()
        self._restored(np.ones(len(self), np.bool_))

    def _restored(self, alive: NDArray[np.bool_]) -> tuple[U64, I64]:
        from dataguard.fingerprints.index.postings._kernels import restore_sets

        offsets = np.zeros(int(alive.sum()) + 1, np.int64)
        np.cumsum(self.sizes[alive], out=offsets[1:])
        if offsets[-1] > len(self.words):
            raise self.broken()
        ends = np.full(len(self), -1, np.int64)
        ends[alive] = offsets[:-1]
        hashes = np.empty(offsets[-1], np.uint64)
        if not restore_sets(self.starts, self.words[:-_PAD], self.bits, ends, hashes):
            raise self.broken()
        if (ends[alive] != offsets[1:]).any():
            raise self.broken()
        return hashes, offsets

    def sets(self, alive: I64 | None) -> Sets:
        """Return the sets that count, restored."""
        if self._reader is not None:
            for part in range(4):
                self._reader.check_part(part)
        kept = np.ones(len(self), np.bool_) if alive is None else np.zeros(len(self), np.bool_)
        if alive is not None:
            kept[alive] = True
        hashes, offsets = self._restored(kept)
        numbered = self.is_numbered and alive is None
        return Sets(_frozen(hashes), _frozen(offsets), None if numbered else self.own_ids()[kept], self._base)


class PostingMaker:
    """How segments of postings are made."""

    kind = "postings"

    def __init__(self, scale: int, scheme: int, memory: int) -> None:
        if not is_number(memory):
            raise UsageError(f"a memory of {memory!r} is no number", remedy="give bytes, such as 1 << 30")
        self.scale, self.scheme, self._memory = scale, scheme, memory
        self.most = np.uint64(_EVERY // scale)

    @property
    def numbers(self) -> tuple[int, int, int, int]:
        """Sizes, for the manifest."""
        return self.scale, 0, 0, 0

    @property
    def postings_at_most(self) -> int:
        """Postings of a segment that can be built within the memory."""
        return min(MAX_POSTINGS, max(1 << 16, self._memory // POSTING_NEEDS))

    def fits(self, pieces: Sequence[Sets]) -> bool:
        """Whether pieces may become one segment."""
        return (
            sum(len(p.hashes) for p in pieces) <= self.postings_at_most and sum(map(len, pieces)) <= MAX_SETS
        )

    def make(self, pieces: Sequence[Sets], watch: Watch) -> PostingSegment:
        """Build a segment in memory."""
        numbered = len(pieces) == 1 and pieces[0].ids is None
        ids = np.zeros(0, np.uint64) if numbered else np.concatenate([_ids_of(p) for p in pieces])
        starts, words, sizes = self._fill(pieces)
        watch("postings", len(words) - _PAD, len(words) - _PAD)
        return PostingSegment(pieces[0].base if numbered else 0, (sizes, ids, starts, words))

    def _fill(self, pieces: Sequence[Sets]) -> tuple[U32, U64, U32]:
        from dataguard.fingerprints.index.postings import _kernels as kernels

        sets, guess = sum(map(len, pieces)), sum(len(p.hashes) for p in pieces) // self.scale
        split = max(1, min(12, _bits_for(guess, sets) - _PART_BITS))
        counts = np.zeros((1 << split) + 1, np.int64)
        for piece in pieces:
            kernels.count_keys(piece.hashes, self.most, split, counts)
        cuts = np.cumsum(counts)
        ends, total, first = np.concatenate([[0], cuts[:-1]]), int(cuts[-1]), 0
        keys, owners = np.empty(total, np.uint64), np.empty(total, np.uint32)
        for piece in pieces:
            kernels.place_keys(piece.hashes, piece.offsets, self.most, first, split, ends, keys, owners)
            first += len(piece)
        bits = max(split, _bits_for(total, sets))
        starts, words = np.empty((1 << bits) + 1, np.uint32), np.zeros(total + _PAD, np.uint64)
        if kernels.fill_postings(keys, owners, cuts, split, bits, starts, words):
            words = words[: kernels.drop_repeats(starts, words) + _PAD]
            words[-_PAD:] = 0
        own = _bits_for(len(words) - _PAD, sets)
        if own != bits:  # far fewer than were guessed: the directory follows from the number that is left
            kernels.join_buckets(starts, words, bits, bits - own)
            starts = starts[:: 1 << (bits - own)].copy()
        sizes = np.zeros(sets, np.uint32)
        kernels.count_sizes(words[:-_PAD], own, sizes)
        return starts, words, sizes

    def write(self, pieces: Sequence[Sets], path: Path, watch: Watch) -> str:
        """Write a segment; return the check sum of its head. One that an earlier attempt finished is kept."""
        source = digest_of(
            a for p in pieces for a in (p.hashes, p.offsets, _ids_of(p), np.array([self.scale]))
        )
        if (known := self._finished(path, source)) is not None:
            return known
        made = self.make(pieces, watch)
        numbered, postings = made.is_numbered, len(made.words) - _PAD
        base = pieces[0].base if numbered else 0
        head = Head(
            KIND, self.scheme, (len(made), postings, self.scale, int(numbered), base, 0, 0, 0), source
        )
        writer = Writer(path, head, _shapes(len(made), postings, numbered=numbered))
        try:
            ids = made.own_ids() if not numbered else np.zeros(0, np.uint64)
            parts: tuple[NDArray[Any], ...] = (made.sizes, ids, made.starts, made.words)
            for number, part in enumerate(parts):
                if not writer.has(number):
                    writer.put(number, [part])
            return writer.finish()
        finally:
            writer.close()

    def _finished(self, path: Path, source: int) -> str | None:
        try:
            reader = Reader(path, KIND)
            if (reader.head.source, reader.head.scheme) != (source, self.scheme):
                return None
            reader.map(_head_shapes(reader))
        except (DecodeError, SchemeMismatch):  # none, or none of ours: it is replaced
            return None
        return reader.sum

    def open(self, path: Path, check: str) -> PostingSegment:
        """Map a segment; DecodeError where it is damaged, or not of the index it is named by."""
        reader = Reader(path, KIND, check)
        shapes = _head_shapes(reader)
        if (reader.head.numbers[2], reader.head.scheme) != (self.scale, self.scheme):
            raise reader.damaged("belongs to another index")
        return PostingSegment(reader.head.numbers[4], reader.map(shapes), reader)

    def piece(self, segment: PostingSegment, alive: I64 | None) -> Sets:
        """Return the sets that count."""
        return segment.sets(alive)


def _head_shapes(reader: Reader) -> list[PartShape]:
    """Return the parts a head announces."""
    sets, postings, _, numbered, base, *rest = reader.head.numbers
    if (
        not 1 <= sets <= MAX_SETS
        or postings > MAX_POSTINGS
        or numbered > 1
        or any(rest)
        or base + sets > 1 << 64
    ):
        raise reader.damaged("announces sizes that cannot be")
    return _shapes(sets, postings, numbered=bool(numbered))


def _ids_of(piece: Sets) -> U64:
    if piece.ids is not None:
        return piece.ids
    return np.arange(len(piece), dtype=np.uint64) + np.uint64(piece.base)
