"""Near-duplicates among millions of signatures: candidates by bands, every one compared before it is reported.

The index users of datasketch asked for: on disk and mapped by any number of readers, incremental, deletable, built
within a stated memory, and answering with estimates. See ``bands`` for what a cut misses.
"""

from __future__ import annotations

import math
import os
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from dataguard.budget import Watch, unwatched
from dataguard.errors import UsageError
from dataguard.fingerprints.arguments import as_path
from dataguard.fingerprints.index.bands import Bands, width_of
from dataguard.fingerprints.index.folder import Folder, load_manifest
from dataguard.fingerprints.index.plan import (
    DEFAULT_MEMORY,
    BandMaker,
    Needs,
    check_threshold,
    cut_for,
    groups,
    maker_of,
    needs_of,
    spans,
)
from dataguard.fingerprints.index.search import Matches, joined, search
from dataguard.fingerprints.index.segment import Piece, Segment, check_signatures, hash_keys
from dataguard.fingerprints.index.store import Store, check_ids, check_scheme

__all__ = ["DEFAULT_MEMORY", "LshIndex", "Matches", "Needs"]

U8 = NDArray[np.uint8]
U32 = NDArray[np.uint32]
U64 = NDArray[np.uint64]

_KIND = "bands"
_QUERIES = 1 << 15
"""Queries handled at a time: each band, once in the cache, is met by many (465 ns a query; 4,096 at a time 780)."""

_ROOM = 1 << 20
"""Candidates there is room for; more are worked off in halves."""


class LshIndex:
    """Signatures searchable by similarity; made by `build` or `open`, a context manager when it writes to a folder.

    Items have numbers, not names: keep a list of names, and look an id up in it. One writer at a time; any number of
    processes may read a folder meanwhile, each seeing the index as of its
    opening. Queries may run in several threads; changes may not run beside anything.

    Examples
    --------
    >>> import numpy as np
    >>> from dataguard.fingerprints.sketches.resemblance import sketch_sets
    >>> hashes = np.random.default_rng(1).integers(0, 2**64, 3000, np.uint64)
    >>> signatures = sketch_sets(hashes, np.array([0, 1000, 2000, 3000]))
    >>> index = LshIndex.build(signatures, threshold=0.5)
    >>> query = sketch_sets(hashes[1100:2000], np.array([0, 900]))
    >>> found = index.query(query)
    >>> found.ids.tolist(), bool(found.estimates[0] > 0.8)
    ([1], True)
    """

    def __init__(self, store: Store[Piece, Segment], maker: BandMaker) -> None:
        self._store, self._maker = store, maker

    # --- coming into being ------------------------------------------------------------------------------

    @classmethod
    def build(
        cls,
        signatures: U32,
        *,
        threshold: float = 0.7,
        bands: Bands | tuple[int, int] | None = None,
        ids: NDArray[Any] | None = None,
        path: str | os.PathLike[str] | None = None,
        scheme: int = 0,
        memory: int = DEFAULT_MEMORY,
        progress: Watch = unwatched,
    ) -> Self:
        """Index signatures, in memory or in a folder.

        A build into a folder that was killed goes on behind the last finished band when called again with the same
        arguments; until it ends, the folder holds no index. In memory the matrix itself is kept, not a copy: it
        must not be changed.

        Parameters
        ----------
        signatures : (n, k) uint32
            May be a memory map.
        threshold : float
            Least estimate that is reported, in 0..1; chooses the bands where none are given, with misses weighing
            nine times as much as comparisons in vain.
        bands : Bands or (bands, width), optional
        ids : (n,) integers, optional
            Distinct, 0 to 2**64 - 1; row numbers by default.
        path : path, optional
            Folder, made if need be.
        scheme : int
            Hash scheme the signatures were made with (``hashing.schemes``).
        memory : int
            Bytes to stay within, besides the signatures and, in memory, the index itself.
        progress : function
            Told of bands times rows done.

        Raises
        ------
        UsageError
            Arguments that do not fit, a folder that holds an index, is being written to or cannot be written.
        """
        matrix = check_signatures(signatures)
        check_scheme(scheme)
        maker = BandMaker(
            cut_for(bands, threshold, matrix.shape[1]), matrix.shape[1], scheme, threshold, memory
        )
        own_ids, next_id = check_ids(ids, len(matrix), 0)
        folder = None if path is None else Folder(as_path(path))
        store = Store(maker, folder, None if folder is None else folder.path)
        try:
            store.build(groups(matrix, own_ids, maker.rows_at_most), next_id, progress)
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
        """Open the index of a folder, to read by default.

        Sizes, heads and tables of check sums are checked now, blocks of 64 KiB when first looked at, or all of them
        now with `verify` (as fast as the disk, up to some 10 GB/s).

        Raises
        ------
        UsageError
            No finished index there, or another process writes to it and `write` is asked for.
        DecodeError
            Damaged.
        SchemeMismatch
            Of a version this program does not know.
        """
        folder = Folder(as_path(path)) if write else None
        try:
            manifest = load_manifest(as_path(path), _KIND)
            maker = maker_of(manifest, as_path(path), memory)
            store = Store(maker, folder, as_path(path))
            store.load(manifest)
            if verify:
                store.verify()
        except BaseException:
            if folder is not None:
                folder.release()
            raise
        return cls(store, maker)

    @staticmethod
    def needs(
        rows: int,
        bands: Bands | tuple[int, int],
        *,
        size: int = 128,
        ids: bool = False,
        memory: int = DEFAULT_MEMORY,
    ) -> Needs:
        """Return what a build of so many signatures of `size` slots takes, with ids of their own or without."""
        return needs_of(rows, cut_for(bands, 0.5, size), size, memory, ids=ids)

    # --- what it is -------------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self._store)

    @property
    def bands(self) -> Bands:
        """How signatures are cut."""
        return self._maker.cut

    @property
    def size(self) -> int:
        """Slots of a signature."""
        return self._maker.size

    @property
    def scheme(self) -> int:
        """Hash scheme of the signatures."""
        return self._maker.scheme

    @property
    def threshold(self) -> float:
        """Least estimate that is reported when a query names none."""
        return self._maker.threshold

    @property
    def segments(self) -> tuple[tuple[Segment, U8], ...]:
        """Segments and the bits of their removed rows: bands for a join of the corpus with itself."""
        return tuple((live.segment, live.dead) for live in self._store.lives)

    # --- changes ----------------------------------------------------------------------------------------

    def add(self, signatures: U32, ids: NDArray[Any] | None = None) -> U64:
        """Add items, searchable at once, lasting from `flush` or `close` on; return their ids.

        Parameters
        ----------
        signatures : (n, k) uint32
            Copied.
        ids : (n,) integers, optional
            Not in the index; by default the numbers behind the greatest so far.

        Raises
        ------
        UsageError
            Arguments that do not fit, an id that is known, an index open to be read only.
        """
        matrix = check_signatures(signatures, self.size).copy()
        base = self._store.next_id
        own_ids, next_id = check_ids(ids, len(matrix), base)
        named = np.arange(len(matrix), dtype=np.uint64) + np.uint64(base) if own_ids is None else own_ids
        if own_ids is not None:
            self._store.refuse_known(own_ids)
        for begin, end in spans(len(matrix), self._maker.rows_at_most):
            part = None if own_ids is None else own_ids[begin:end]
            self._store.add(Piece(matrix[begin:end], part, base + begin), next_id)
        return named

    def remove(self, ids: NDArray[Any]) -> None:
        """Remove items; all of them, or none when an id is unknown. Their room is freed by `merge`.

        Raises
        ------
        UsageError
            An id that is not in the index or given twice, or an index open to be read only.
        """
        own, _ = check_ids(ids, np.size(ids), 0)
        if own is None:
            raise UsageError("no ids are given", remedy="give an array of the ids to be removed")
        self._store.remove(own)

    def flush(self) -> None:
        """Make changes last: new items become a segment on disk, small segments merge."""
        self._store.flush()

    def merge(self, progress: Watch = unwatched) -> None:
        """Drop removed items and merge segments into as few as the memory allows; lasting."""
        self._store.merge(progress)

    def verify(self, progress: Watch = unwatched) -> None:
        """Check every byte on disk, and that every row named exists.

        Raises
        ------
        DecodeError
            At the first block that is damaged.
        """
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

    # --- search -----------------------------------------------------------------------------------------

    def query(self, signatures: U32, threshold: float | None = None, *, verify: bool = True) -> Matches:
        """Return the items that resemble each query.

        Parameters
        ----------
        signatures : (q, k) uint32
        threshold : float, optional
            Least estimate, in 0..1; that of the index by default.
        verify : bool
            Compare all slots of each candidate and report those at or above the threshold. Else report all that
            share a band, and by chance (one in 65,536 of those in a bucket) one that does not.

        Returns
        -------
        Matches
            The same whatever the order of additions and merges.

        Raises
        ------
        UsageError
            Signatures of another shape, or a threshold out of range.
        DecodeError
            Damage in what was looked at.
        """
        from dataguard.fingerprints.index._kernels import hash_bands

        queries = check_signatures(signatures, self.size)
        share = self.threshold if threshold is None else threshold
        check_threshold(share)
        least = math.ceil(share * self.size - 1e-9) if verify else -1
        keys, found = hash_keys(self.size), np.empty(_ROOM, np.uint64)
        hashes = np.empty((self.bands.count, min(len(queries), _QUERIES)), np.uint64)
        counts, ids, equal = [], [], []
        for begin in range(0, len(queries), _QUERIES):
            chunk = queries[begin : begin + _QUERIES]
            own = hashes[:, : len(chunk)]
            hash_bands(chunk, keys, 0, width_of(self.bands), 0, own)
            several = [search(live, chunk, own, found, least) for live in self._store.lives]
            one = several[0] if len(several) == 1 else joined(several, len(chunk))
            counts.append(one[0])
            ids.append(one[1])
            equal.append(one[2])
        offsets = np.zeros(len(queries) + 1, np.int64)
        np.cumsum(np.concatenate(counts) if counts else [], out=offsets[1:])
        all_ids = np.concatenate(ids) if ids else np.zeros(0, np.uint64)
        shares = np.concatenate(equal) / self.size if equal and verify else np.full(len(all_ids), np.nan)
        return Matches(offsets, all_ids, shares)
