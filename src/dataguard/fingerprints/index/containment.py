"""Which of many registered sets hold this one, and which lie within it: exact counts, both ways.

An inverted index of element hashes. With `scale` 1 every element is looked up; with a greater one, elements whose hash
is below 2**64 / scale stand for all (FracMinHash, see ``sketches.frac``), and shares come with binomial intervals.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from dataguard.budget import Watch, unwatched
from dataguard.errors import DecodeError, UsageError
from dataguard.fingerprints.arguments import as_path, is_number, is_whole
from dataguard.fingerprints.index.folder import Folder, Manifest, load_manifest
from dataguard.fingerprints.index.plan import DEFAULT_MEMORY
from dataguard.fingerprints.index.postings.segment import (
    MAX_SETS,
    PostingMaker,
    PostingSegment,
    Sets,
    as_sets,
)
from dataguard.fingerprints.index.store import Live, Store, check_ids, check_scheme

__all__ = ["ContainmentIndex", "Direction", "Overlaps"]

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
U32 = NDArray[np.uint32]
U64 = NDArray[np.uint64]

Direction = Literal["query", "set", "either"]
"""Whose share must reach the threshold: the query's, the registered set's, or one of them."""

_ELEMENTS = 1 << 18
"""Elements of queries handled at a time."""

_NEVER = 2.0
_SLACK = 1e-12


@dataclass(frozen=True, slots=True)
class Overlaps:
    """What queries share with registered sets; ids ascend within a query.

    Attributes
    ----------
    offsets : (queries + 1,) int64
        Query i has entries ``offsets[i]`` to ``offsets[i + 1] - 1``.
    ids : (m,) uint64
    shared : (m,) int64
        Distinct (sampled) elements in both.
    query_sizes : (queries,) int64
        Distinct (sampled) elements of each query.
    set_sizes : (m,) int64
        Distinct (sampled) elements of each set that was found.
    scale : int
        1: all counts are exact.
    """

    offsets: I64
    ids: U64
    shared: I64
    query_sizes: I64
    set_sizes: I64
    scale: int

    def __len__(self) -> int:
        return len(self.query_sizes)

    def __getitem__(self, query: int) -> tuple[U64, I64]:
        if not 0 <= query < len(self):
            raise IndexError(query)
        span = slice(int(self.offsets[query]), int(self.offsets[query + 1]))
        return self.ids[span], self.shared[span]

    @property
    def _of_queries(self) -> I64:
        return np.repeat(self.query_sizes, np.diff(self.offsets))

    @property
    def query_shares(self) -> F64:
        """(m,) share of the query found in the set, |Q & X| / |Q|."""
        return self.shared / self._of_queries

    @property
    def set_shares(self) -> F64:
        """(m,) share of the set found in the query, |Q & X| / |X|."""
        return self.shared / self.set_sizes

    def query_limits(self, confidence: float = 0.998) -> tuple[F64, F64]:
        """Return limits (low, high) of `query_shares`: the shares themselves where counts are exact.

        Clopper and Pearson, "The use of confidence or fiducial limits", Biometrika 26, 1934; they hold for each
        pair by itself, not for the largest of many.
        """
        return _limits(self.shared, self._of_queries, self.scale, confidence)

    def set_limits(self, confidence: float = 0.998) -> tuple[F64, F64]:
        """Return limits (low, high) of `set_shares`, as `query_limits`."""
        return _limits(self.shared, self.set_sizes, self.scale, confidence)


def _limits(hits: I64, sizes: I64, scale: int, confidence: float) -> tuple[F64, F64]:
    if not (is_number(confidence) and 0 < confidence < 1):
        raise UsageError(f"a confidence of {confidence} is none", remedy="give a number between 0 and 1")
    if scale == 1:
        return hits / sizes, hits / sizes
    from scipy.special import betaincinv

    miss = (1 - confidence) / 2
    low = np.where(hits > 0, betaincinv(np.maximum(hits, 1), sizes - hits + 1, miss), 0.0)
    high = np.where(hits < sizes, betaincinv(hits + 1, np.maximum(sizes - hits, 1), 1 - miss), 1.0)
    return np.asarray(low, np.float64), np.asarray(high, np.float64)


class ContainmentIndex:
    """Sets searchable by what they share; made by `build` or `open`, a context manager when it writes to a folder.

    The rules of ``lsh.LshIndex`` about numbers, writers, readers and threads hold here too.

    Examples
    --------
    >>> import numpy as np
    >>> hashes = np.random.default_rng(1).integers(0, 2**64, 3000, np.uint64)
    >>> index = ContainmentIndex.build(hashes, np.array([0, 1000, 2000, 3000]))
    >>> found = index.query(hashes[950:1000], np.array([0, 50]), threshold=0.9, direction="query")
    >>> found.ids.tolist(), found.query_shares.tolist(), found.set_shares.tolist()
    ([0], [1.0], [0.05])
    """

    def __init__(self, store: Store[Sets, PostingSegment], maker: PostingMaker) -> None:
        self._store, self._maker = store, maker

    @classmethod
    def build(
        cls,
        hashes: U64,
        offsets: NDArray[Any],
        *,
        scale: int = 1,
        ids: NDArray[Any] | None = None,
        path: str | os.PathLike[str] | None = None,
        scheme: int = 0,
        memory: int = DEFAULT_MEMORY,
        progress: Watch = unwatched,
    ) -> Self:
        """Index sets, in memory or in a folder.

        A build that was killed goes on behind the last finished segment when called again with the same arguments.

        Parameters
        ----------
        hashes : (m,) uint64
            Elements of the sets, end to end; repeated ones count once.
        offsets : (n + 1,) integers
            Set i has hashes ``offsets[i]`` to ``offsets[i + 1] - 1``.
        scale : int
            One of so many elements is kept, on average; needs hashes of good quality where it is not 1.
        ids : (n,) integers, optional
            Distinct; numbers of the sets by default.
        path : path, optional
            Folder, made if need be.
        scheme : int
            How the elements were hashed.
        memory : int
            Bytes to stay within besides the input: 24 for each posting of a segment.
        progress : function

        Raises
        ------
        UsageError
            Arguments that do not fit, or a folder that cannot be used.
        """
        if not (is_whole(scale) and 1 <= scale < 1 << 53):
            raise UsageError(f"a scale of {scale} keeps nothing", remedy="give 1 or more")
        check_scheme(scheme)
        sets, maker = as_sets(hashes, offsets), PostingMaker(scale, scheme, memory)
        own_ids, next_id = check_ids(ids, len(sets), 0)
        groups = _groups(Sets(sets.hashes, sets.offsets, own_ids), maker.postings_at_most)
        folder = None if path is None else Folder(as_path(path))
        store = Store(maker, folder, None if folder is None else folder.path)
        try:
            store.build([[group] for group in groups], next_id, progress)
        except BaseException:
            store.abandon()
            raise
        return cls(store, maker)

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        *,
        write: bool = False,
        verify: bool = False,
        memory: int = DEFAULT_MEMORY,
    ) -> Self:
        """Open the index of a folder, to read by default; checks and errors as for ``lsh.LshIndex.open``."""
        folder = Folder(as_path(path)) if write else None
        try:
            manifest = load_manifest(as_path(path), PostingMaker.kind)
            maker = _maker_of(manifest, as_path(path), memory)
            store = Store(maker, folder, as_path(path))
            store.load(manifest)
            if verify:
                store.verify()
        except BaseException:
            if folder is not None:
                folder.release()
            raise
        return cls(store, maker)

    def __len__(self) -> int:
        return len(self._store)

    @property
    def scale(self) -> int:
        """One of so many elements is kept."""
        return self._maker.scale

    @property
    def scheme(self) -> int:
        """Hash scheme of the elements."""
        return self._maker.scheme

    @property
    def segments(self) -> tuple[PostingSegment, ...]:
        """The segments: postings sorted within buckets, for a join of all sets with all."""
        return tuple(live.segment for live in self._store.lives)

    def add(self, hashes: U64, offsets: NDArray[Any], ids: NDArray[Any] | None = None) -> U64:
        """Add sets, searchable at once, lasting from `flush` or `close` on; return their ids.

        Raises
        ------
        UsageError
            Arguments that do not fit, an id that is known, an index open to be read only.
        """
        sets, base = as_sets(hashes, offsets), self._store.next_id
        own_ids, next_id = check_ids(ids, len(sets), base)
        if own_ids is not None:
            self._store.refuse_known(own_ids)
        for group in _groups(Sets(sets.hashes, sets.offsets, own_ids, base), self._maker.postings_at_most):
            self._store.add(group, next_id)
        return np.arange(len(sets), dtype=np.uint64) + np.uint64(base) if own_ids is None else own_ids

    def remove(self, ids: NDArray[Any]) -> None:
        """Remove sets; all of them, or none when an id is unknown (UsageError). `merge` frees their room."""
        own, _ = check_ids(ids, np.size(ids), 0)
        if own is None:
            raise UsageError("no ids are given", remedy="give an array of the ids to be removed")
        self._store.remove(own)

    def flush(self) -> None:
        """Make changes last."""
        self._store.flush()

    def merge(self, progress: Watch = unwatched) -> None:
        """Drop removed sets and merge segments into as few as the memory allows; lasting."""
        self._store.merge(progress)

    def verify(self, progress: Watch = unwatched) -> None:
        """Check every byte on disk and every count; DecodeError at the first that is wrong."""
        self._store.verify(progress)

    def close(self) -> None:
        """Flush and let others write. The index can still be read."""
        self._store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self._store.abandon()

    def query(
        self, hashes: U64, offsets: NDArray[Any], threshold: float = 0.7, *, direction: Direction = "either"
    ) -> Overlaps:
        """Return the registered sets that share enough with each query.

        Parameters
        ----------
        hashes, offsets
            Queries, as for `build`. Strictly ascending hashes within a query are taken up twice as fast.
        threshold : float
            Least share, above 0 and up to 1.
        direction : {"query", "set", "either"}
            ``query``: so much of the query lies in the set (who holds this?). ``set``: so much of the set lies in
            the query (what does this hold?).

        Raises
        ------
        UsageError
            Arguments that do not fit.
        DecodeError
            Damage in what was looked at.
        """
        if not (is_number(threshold) and 0 < threshold <= 1):
            raise UsageError(
                f"a threshold of {threshold} finds all or nothing", remedy="give a number above 0, up to 1"
            )
        if direction not in ("query", "set", "either"):
            raise UsageError(f"direction {direction!r} is not known", remedy="give query, set or either")
        queries = as_sets(hashes, offsets)
        of_query = threshold - _SLACK if direction != "set" else _NEVER
        of_set = threshold - _SLACK if direction != "query" else _NEVER
        sizes, counts, ids, shared, set_sizes = [], [], [], [], []
        for chunk in _groups(queries, _ELEMENTS, most_sets=_ELEMENTS):
            keys, ends = _distinct(chunk, self._maker.most)
            found = [_search(live, keys, ends, of_query, of_set) for live in self._store.lives]
            number, own_ids, own_shared, own_sizes = (
                np.concatenate(arrays) for arrays in zip(_NOTHING, *found, strict=True)
            )
            order = np.lexsort((own_ids, number))
            sizes.append(np.diff(ends))
            counts.append(np.bincount(number, minlength=len(chunk)))
            ids.append(own_ids[order])
            shared.append(own_shared[order].astype(np.int64))
            set_sizes.append(own_sizes[order].astype(np.int64))
        every = np.zeros(len(queries) + 1, np.int64)
        np.cumsum(np.concatenate(counts) if counts else [], out=every[1:])
        return Overlaps(
            every,
            np.concatenate([_NOTHING[1], *ids]),
            np.concatenate([_NOTHING[0], *shared]),
            np.concatenate([_NOTHING[0], *sizes]),
            np.concatenate([_NOTHING[0], *set_sizes]),
            self.scale,
        )


def _maker_of(manifest: Manifest, path: Path, memory: int) -> PostingMaker:
    scale, *rest = manifest.numbers
    if scale < 1 or any(rest) or manifest.scheme > 0xFFFF:
        raise DecodeError("announces sizes that cannot be", where=str(path), remedy="build the index anew")
    return PostingMaker(scale, manifest.scheme, memory)


_Found = tuple[I64, U64, U32, U32]
_NOTHING: _Found = (
    np.zeros(0, np.int64),
    np.zeros(0, np.uint64),
    np.zeros(0, np.uint32),
    np.zeros(0, np.uint32),
)


def _distinct(queries: Sets, most: np.uint64) -> tuple[U64, I64]:
    """Return the keys of each query, each once, and where they end."""
    from dataguard.fingerprints.index.postings._kernels import distinct_keys

    longest = int(np.diff(queries.offsets).max(initial=1))
    table = np.empty(1 << (2 * longest).bit_length(), np.uint64)
    keys, ends = np.empty(len(queries.hashes) + 1, np.uint64), np.zeros(len(queries) + 1, np.int64)
    distinct_keys(queries.hashes, queries.offsets, most, table, keys, ends)
    return keys[: ends[-1]], ends


def _search(live: Live[PostingSegment], keys: U64, ends: I64, of_query: float, of_set: float) -> _Found:
    """Return query, id, shared elements and size of all sets that share enough."""
    from dataguard.fingerprints.index.postings._kernels import count_shared

    segment = live.segment
    segment.check_for(keys)
    room = max(1 << 16, len(segment))
    rows, shared = np.empty(room, np.uint32), np.empty(room, np.uint32)
    scratch, found, first = np.zeros(2 * len(segment) + 1, np.uint32), [], 0
    while first < len(ends) - 1:
        offsets = np.zeros(len(ends), np.int64)
        done, at = count_shared(
            keys, ends, first, segment.bits, segment.starts, segment.words, segment.sizes, live.dead,
            of_query, of_set, scratch, rows, shared, offsets,
        )  # fmt: skip
        if done < 0:
            raise segment.broken()
        number = np.repeat(np.arange(first, done), np.diff(offsets[first : done + 1]))
        found.append((number, segment.ids(rows[:at]), shared[:at].copy(), segment.sizes[rows[:at]]))
        first = done
    one, two, three, four = (np.concatenate(arrays) for arrays in zip(_NOTHING, *found, strict=True))
    return one, two, three, four


def _groups(sets: Sets, most: int, most_sets: int = MAX_SETS) -> list[Sets]:
    """Cut sets into runs of at most so many elements, or one set that has more by itself."""
    groups, begin = [], 0
    while begin < len(sets):
        limit = int(sets.offsets[begin]) + most
        end = int(np.searchsorted(sets.offsets, limit, side="right")) - 1
        end = min(max(end, begin + 1), begin + most_sets, len(sets))
        groups.append(sets.part(begin, end))
        begin = end
    return groups
