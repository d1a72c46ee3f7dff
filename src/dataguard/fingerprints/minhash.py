"""`MinHash` as users of datasketch know it, on this package's engines.

The default scheme is ``affine32`` with SHA-1, because whoever moves an existing program expects the numbers
it stored before: same elements, same `num_perm` and `seed`, same values as datasketch 2.0. ``scheme="fss"``
is the fast path for new collections: several times faster, and about a quarter less error on small sets.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike

from dataguard.fingerprints.arguments import elements_of, same_class
from dataguard.fingerprints.minhash_schemes import (
    FSS,
    NAMED,
    MinHashError,
    MinHashMismatch,
    hash_scheme_of,
    hashes_of,
    known_seed,
    rows_of,
    scheme_type,
)
from dataguard.fingerprints.sketches.kmins import KMins
from dataguard.fingerprints.sketches.permutations import Values, empty_values, permutations
from dataguard.fingerprints.sketches.resemblance import Resemblance
from dataguard.fingerprints.sketches.tokens import GIVEN, as_bytes, load_compiled

__all__ = ["MinHash"]

_HELD = 8_192
"""Elements that wait to be worked in together."""
_SET, _ENOUGH = 10, 200_000
"""A set costs about as much as so many elements; and the elements after which compiled code pays.

Nobody knows how much is to come. Loading numba once plain work has cost as much (0.3 s) is never worse than
twice the best.
"""
_AHEAD = 4_096, 200_000
"""Sets, and elements, that bulk work takes together at most."""


@dataclass(frozen=True, slots=True)
class _Settings:
    """What signatures of one make share."""

    scheme: str
    seed: int
    hash_scheme: int
    function: Callable[[Any], int] | None


class MinHash:
    """A signature that grows with every element; ``sketch()`` gives the frozen one.

    Parameters
    ----------
    num_perm : int
        Number of values, 1 to 65,536 (``fss``: a power of two from 64 to 4,096).
    seed : int
        Of the permutations, 0 to 2**32 - 1.
    hashfunc : callable, {"sha1", "xxh3", "given"} or None
        From an element to an integer of 32 bits (``affine64``, ``fss``: 64). By default datasketch's
        SHA-1, and xxh3_64 for ``fss``; "given" takes elements that are hashes already.
    hashvalues : (num_perm,) integers, optional
        Start from these values; the scheme must then be named, values do not tell it.
    scheme : {"affine32", "affine64", "legacy", "fss"}, optional
        ``affine32`` unless told otherwise. The first three give datasketch's values bit for bit.

    Raises
    ------
    MinHashError
        Parameters out of range (a UsageError and a ValueError).

    Notes
    -----
    Named hashes take bytes or text (as UTF-8). Elements wait, hashed by a given function or as bytes, until
    a value is asked for, and are then worked in together: an `update` costs a fraction of a microsecond.

    Examples
    --------
    >>> m = MinHash()
    >>> m.update_batch([b"token1", b"token2"])
    >>> m.digest()[:2].tolist()
    [3367991148, 1332526273]
    """

    # Three slots: a bulk of short sets is mostly the making of these objects.
    __slots__ = ("_pending", "_settings", "_values")

    def __init__(
        self,
        num_perm: int = 128,
        seed: int = 1,
        *,
        hashfunc: Callable[[Any], int] | str | None = None,
        hashvalues: ArrayLike | None = None,
        scheme: str | None = None,
    ) -> None:
        if scheme is None:
            if hashvalues is not None:
                raise MinHashError(
                    "values do not tell their scheme", remedy="name it; 'legacy' before datasketch 2.0"
                )
            scheme = "affine32"
        kind = scheme_type(scheme)
        known_seed(scheme, seed)
        # Not `int`, which would read a text as a number.
        function = (
            hashfunc
            if callable(hashfunc)
            else _itself
            if isinstance(hashfunc, str) and hashfunc == "given"
            else None
        )
        self._settings = _Settings(scheme, seed, hash_scheme_of(hashfunc, scheme), function)
        self._pending: list[Any] | None = None
        if hashvalues is not None:
            self._values = _read_only(_fit(hashvalues, kind, scheme))
        elif scheme == FSS:
            # The sketch itself knows which sizes it can have.
            self._values = _read_only(
                rows_of(np.empty(0, np.uint64), np.zeros(2, np.int64), num_perm, seed, scheme, GIVEN)[0]
            )
        else:
            self._values = _read_only(empty_values(scheme, num_perm))

    @property
    def scheme(self) -> str:
        """Name of the scheme."""
        return self._settings.scheme

    @property
    def seed(self) -> int:
        """Seed of the permutations."""
        return self._settings.seed

    @property
    def num_perm(self) -> int:
        """Number of values."""
        return len(self._values)

    @property
    def hash_scheme(self) -> int:
        """How elements are hashed: 0 by a given function, 1 xxh3_64, 16 SHA-1."""
        return self._settings.hash_scheme

    def update(self, b: Any) -> None:
        """Add one element.

        Raises
        ------
        UsageError
            Neither bytes nor text, with a named hash.
        """
        function = self._settings.function
        if function is not None:
            made: Any = function(b)
        else:
            made = b if type(b) is bytes else as_bytes(b)
        if self._pending is None:
            self._pending = [made]
        else:
            self._pending.append(made)
            if len(self._pending) >= _HELD:
                self._work_in()

    def update_batch(self, b: Iterable[Any]) -> None:
        """Add many elements; as :meth:`update` of each."""
        function, b = self._settings.function, elements_of(b)
        if self._pending is None:
            self._pending = []
        if function is not None:
            self._pending.extend(map(function, b))
        else:
            self._pending.extend([x if type(x) is bytes else as_bytes(x) for x in b])
        if len(self._pending) >= _HELD:
            self._work_in()

    def _work_in(self) -> None:
        if not self._pending:
            return
        # Kept until they are worked in: a wrong hash among them is told again, not forgotten with its neighbours.
        hashes = hashes_of(self._pending, self.hash_scheme, self.scheme)
        ends = np.array([0, len(hashes)], np.int64)
        row = rows_of(hashes, ends, self.num_perm, self.seed, self.scheme, self.hash_scheme)[0]
        self._values, self._pending = _read_only(np.minimum(self._values, row)), None

    @property
    def hashvalues(self) -> Values:
        """(num_perm,) values so far; read-only."""
        self._work_in()
        return self._values

    @property
    def hashfunc(self) -> Callable[[Any], int] | None:
        """The function given for hashing; None with a named hash."""
        return self._settings.function

    @property
    def permutations(self) -> tuple[Values, Values]:
        """Factors and summands of the permutations, (num_perm,) each; not with ``fss``."""
        if self.scheme == FSS:
            raise MinHashError("the fss scheme has no permutations", remedy="use affine32")
        return permutations(self.scheme, self.num_perm, self.seed)

    def _like(self, other: MinHash) -> None:
        same_class(self, other)
        for name, mine, theirs in (
            ("scheme", self.scheme, other.scheme),
            ("seed", self.seed, other.seed),
            ("number of values", len(self), len(other)),
            ("element hash", self.hash_scheme, other.hash_scheme),
        ):
            if mine != theirs:
                raise MinHashMismatch(
                    f"{name} {mine} and {theirs} differ", where="MinHash", remedy="sketch both sides alike"
                )

    def jaccard(self, other: MinHash) -> float:
        """Return the estimated Jaccard similarity: the share of equal values.

        ``sketch().jaccard(...)`` gives its limits too.

        Raises
        ------
        MinHashMismatch
            Scheme, seed, size or element hash differ.
        """
        self._like(other)
        return int(np.count_nonzero(self.hashvalues == other.hashvalues)) / len(self)

    def merge(self, other: MinHash) -> None:
        """Make this the signature of the union; raises as :meth:`jaccard`."""
        self._like(other)
        self._values = _read_only(np.minimum(self.hashvalues, other.hashvalues))

    def count(self) -> float:
        """Return the estimated number of distinct elements, as datasketch does: k / sum(v / max) - 1.

        E. Cohen, "Estimating the size of the transitive closure in linear time", FOCS 1994.

        Raises
        ------
        MinHashError
            With ``fss``.
        """
        if self.scheme == FSS:
            raise MinHashError("fss signatures do not count", remedy="use HyperLogLog, or affine32")
        top = float(np.iinfo(scheme_type(self.scheme)).max)
        return float(len(self) / np.sum(self.hashvalues / top)) - 1.0

    def is_empty(self) -> bool:
        """Return whether nothing was added."""
        values = self.hashvalues
        return bool(np.all(values == np.iinfo(values.dtype).max))

    def digest(self) -> Values:
        """Return a copy of the values, (num_perm,)."""
        return self.hashvalues.copy()

    def clear(self) -> None:
        """Forget all elements."""
        self._pending = None
        kind = scheme_type(self.scheme)
        self._values = _read_only(np.full(self.num_perm, np.iinfo(kind).max, kind))

    def copy(self) -> Self:
        """Return a signature that grows apart from this one."""
        return self._with(self.hashvalues)

    def _with(self, values: Values) -> Self:
        other = object.__new__(type(self))
        other._settings, other._pending, other._values = self._settings, None, values
        return other

    def __len__(self) -> int:
        return self.num_perm

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, MinHash)
            and (self.scheme, self.seed, self.hash_scheme) == (other.scheme, other.seed, other.hash_scheme)
            and np.array_equal(self.hashvalues, other.hashvalues)
        )

    __hash__ = None  # type: ignore[assignment]  # it changes

    def sketch(self) -> KMins | Resemblance:
        """Return the frozen signature: it merges, compares with limits, and becomes bytes."""
        if self.scheme == FSS:
            return Resemblance(self.hashvalues, self.hash_scheme)
        return KMins(self.hashvalues, self.scheme, self.seed, self.hash_scheme)

    @classmethod
    def from_sketch(
        cls, sketch: KMins | Resemblance, hashfunc: Callable[[Any], int] | str | None = None
    ) -> Self:
        """Return a signature that goes on where a frozen one stands.

        Parameters
        ----------
        sketch : KMins or Resemblance
        hashfunc : callable, optional
            The function that hashed its elements, if it was none of the named ones.
        """
        if not isinstance(sketch, (KMins, Resemblance)):
            raise MinHashError(
                f"no frozen signature but a {type(sketch).__name__}", remedy="give a KMins or a Resemblance"
            )
        names = {scheme: name for name, scheme in NAMED.items()}
        if hashfunc is None:
            hashfunc = names.get(sketch.hash_scheme)
            if hashfunc is None:
                raise MinHashError(
                    f"hash scheme {sketch.hash_scheme} is not known here",
                    remedy="give its function as hashfunc",
                )
        if isinstance(sketch, KMins):
            made = cls(seed=sketch.seed, hashfunc=hashfunc, hashvalues=sketch.values, scheme=sketch.scheme)
        else:
            made = cls(hashfunc=hashfunc, hashvalues=sketch.values, scheme=FSS)
        made._settings = replace(made._settings, hash_scheme=sketch.hash_scheme)
        return made

    @classmethod
    def union(cls, *mhs: Self) -> Self:
        """Return the signature of the union of two or more; raises as :meth:`jaccard`."""
        if len(mhs) < 2:
            raise MinHashError("a union needs two signatures or more", remedy="use copy() for one")
        if not isinstance(mhs[0], cls):
            raise MinHashError(f"no signature but a {type(mhs[0]).__name__}", remedy="give MinHash objects")
        made = mhs[0].copy()
        for other in mhs[1:]:
            made.merge(other)
        return made

    @classmethod
    def bulk(cls, b: Iterable[Iterable[Any]], **settings: Any) -> list[Self]:
        """Return one signature per set, many worked out together.

        Parameters
        ----------
        b : iterable of iterables of elements
        **settings
            As for :class:`MinHash`.
        """
        return list(cls.generator(b, **settings))

    @classmethod
    def generator(cls, b: Iterable[Iterable[Any]], **settings: Any) -> Iterator[Self]:
        """Yield one signature per set, reading some sets ahead; as :meth:`bulk`."""
        model = cls(**settings)
        waiting: list[list[Any]] = []
        elements, ahead, work = 0, 16, 0
        for one in elements_of(b):
            waiting.append(list(elements_of(one)))
            elements += len(waiting[-1])
            if len(waiting) >= ahead or elements >= _AHEAD[1]:
                work += elements + _SET * len(waiting)
                if work >= _ENOUGH:
                    load_compiled()
                yield from model._many(waiting)
                waiting, elements, ahead = [], 0, min(4 * ahead, _AHEAD[0])
        yield from model._many(waiting)

    def _many(self, sets: list[list[Any]]) -> Iterator[Self]:
        if not sets:
            return
        ends = np.zeros(len(sets) + 1, np.int64)
        np.cumsum(np.fromiter(map(len, sets), np.int64, len(sets)), out=ends[1:])
        flat = chain.from_iterable(sets)
        made = list(flat) if self._settings.function is None else list(map(self._settings.function, flat))
        hashes = hashes_of(made, self.hash_scheme, self.scheme)
        rows = rows_of(hashes, ends, self.num_perm, self.seed, self.scheme, self.hash_scheme)
        if not self.is_empty():
            rows = np.minimum(rows, self.hashvalues)
        rows.flags.writeable = False
        for row in rows:
            yield self._with(row)


def _itself(element: Any) -> int:
    try:
        return operator.index(element)
    except TypeError as wrong:
        raise MinHashError(
            f"elements are hashes already, not {type(element).__name__}",
            where="hashfunc 'given'",
            remedy="give integers",
        ) from wrong


def _read_only(values: Values) -> Values:
    values.flags.writeable = False
    return values


def _fit(given: ArrayLike, kind: np.dtype[Any], scheme: str) -> Values:
    # An explicit type: numpy would read a list with values above 2**63 as floats, and round.
    try:
        values = np.asarray(given, None if isinstance(given, np.ndarray) else np.uint64)
    except (TypeError, ValueError, OverflowError) as wrong:
        raise MinHashError(
            "values are one row of unsigned integers", remedy="give an array of them"
        ) from wrong
    if values.ndim != 1 or values.dtype.kind not in "ui" or not len(values):
        raise MinHashError("values are one row of unsigned integers", remedy="give an array of them")
    if int(values.min()) < 0 or int(values.max()) > np.iinfo(kind).max:
        raise MinHashError(f"values do not fit {kind}", where=f"scheme {scheme}", remedy="check the scheme")
    return values.astype(kind)
