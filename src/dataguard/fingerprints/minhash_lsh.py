"""`MinHashLSH` as users of datasketch know it: same bands, same answers, in plain dictionaries.

For an index that grows and shrinks item by item in one process, without compiled code. Millions of
signatures, on disk, belong into the sorted bands of ``dataguard.fingerprints.index``; a Redis or Cassandra
index of datasketch stays where it is, see :mod:`dataguard.fingerprints.interop`.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, Final, Protocol

import numpy as np

from dataguard.fingerprints.arguments import is_number, is_whole
from dataguard.fingerprints.minhash_schemes import MinHashError, MinHashMismatch, scheme_type
from dataguard.fingerprints.sketches.kmins import KMins
from dataguard.fingerprints.sketches.permutations import Values
from dataguard.fingerprints.sketches.resemblance import Resemblance

__all__ = ["MinHashLSH", "Signature", "bands_and_rows", "signature_of"]

_NODES: Final = 257
"""Most nodes of a quadrature; exact for polynomials up to degree 513."""


class Signature(Protocol):
    """What an index reads of a signature; datasketch's own classes have it too."""

    @property
    def hashvalues(self) -> Any:
        """(k,) unsigned integers."""

    @property
    def scheme(self) -> str:
        """Name of the scheme."""

    @property
    def seed(self) -> int:
        """Seed of the permutations."""


@lru_cache(maxsize=256)
def bands_and_rows(
    threshold: float, num_perm: int, weights: tuple[float, float] = (0.5, 0.5)
) -> tuple[int, int]:
    """Return the number of bands b and of values in each, r, that datasketch would choose.

    Least w0 FP + w1 FN over all b r <= `num_perm`, FP the integral of P(s) = 1 - (1 - s^r)^b from 0 to the
    threshold, FN that of 1 - P from there to 1 (E. Zhu et al., "LSH Ensemble", VLDB 2016, eq. 22-25); of
    equals the smallest b, then r. P is a polynomial of degree b r, which Gauss-Legendre integrates exactly.

    Raises
    ------
    MinHashError
        A threshold or weights out of range, or a choice of a single band.
    """
    if not 0.0 <= threshold <= 1.0:
        raise MinHashError(
            f"threshold {threshold} is not in [0, 1]", where="MinHashLSH", remedy="use 0.5, say"
        )
    if not is_whole(num_perm) or num_perm < 2:
        raise MinHashError("too few permutations", where="MinHashLSH", remedy="use 128, say")
    if any(w < 0.0 or w > 1.0 for w in weights) or sum(weights) != 1.0:
        raise MinHashError(
            f"weights {weights} do not add up to 1", where="MinHashLSH", remedy="use (0.5, 0.5)"
        )
    nodes, shares = np.polynomial.legendre.leggauss(min(_NODES, num_perm // 2 + 1))
    unit, shares = (nodes + 1) / 2, shares / 2
    below, above = threshold * unit, threshold + (1 - threshold) * unit
    best, chosen = np.inf, (0, 0)
    for b in range(1, num_perm + 1):
        r = np.arange(1, num_perm // b + 1, dtype=np.float64)[:, None]
        positive = threshold * ((1 - (1 - below**r) ** b) @ shares)
        negative = (1 - threshold) * (((1 - above**r) ** b) @ shares)
        errors = weights[0] * positive + weights[1] * negative
        least = int(np.argmin(errors))
        if errors[least] < best:
            best, chosen = errors[least], (b, least + 1)
    return chosen


def signature_of(minhash: Signature | KMins | Resemblance) -> tuple[str, int, Values]:
    """Return scheme, seed and values of a signature of any make."""
    if isinstance(minhash, Resemblance):
        return "fss", 1, minhash.values
    if isinstance(minhash, KMins):
        return minhash.scheme, minhash.seed, minhash.values
    if not hasattr(minhash, "hashvalues") or not hasattr(minhash, "seed"):
        raise MinHashError(
            f"a signature is needed, not a {type(minhash).__name__}",
            where="MinHashLSH",
            remedy="give a MinHash, or its sketch()",
        )
    scheme, values = minhash.scheme, np.asarray(minhash.hashvalues)
    kind = scheme_type(scheme)
    return scheme, minhash.seed, values if values.dtype == kind else values.astype(kind)


def _is_pair(given: object) -> bool:
    return isinstance(given, (tuple, list)) and len(given) == 2 and all(map(is_number, given))


class MinHashLSH:
    """Keys of sets whose signatures share a band with the one asked for.

    Parameters
    ----------
    threshold : float
        Jaccard similarity from which sets should be found.
    num_perm : int
        Size of the signatures.
    weights : (float, float)
        Weight of false positives and of false negatives; they add up to 1.
    params : (int, int), optional
        Number of bands and values in each, instead of the choice by threshold and weights.

    Attributes
    ----------
    b, r : int
        Number of bands, values in each.
    h : int
        Size of the signatures.

    Raises
    ------
    MinHashError
        Parameters out of range (a UsageError and a ValueError).

    Notes
    -----
    Keys are any hashable objects. Signatures may be :class:`MinHash`, frozen sketches, or datasketch's own;
    all of one index have one scheme and seed. Answers come in the order of insertion.

    Examples
    --------
    >>> from dataguard.fingerprints.minhash import MinHash
    >>> lsh = MinHashLSH(threshold=0.5)
    >>> first, second = MinHash.bulk([[b"a", b"b", b"c"], [b"a", b"b", b"c", b"d"]])
    >>> lsh.insert("first", first)
    >>> lsh.query(second), lsh.ranked(second)
    (['first'], [('first', 0.808)])
    """

    __slots__ = ("_bands", "_ids", "_keys", "_kind", "_next", "_of", "_rows", "_spans", "b", "h", "r")

    def __init__(
        self,
        threshold: float = 0.9,
        num_perm: int = 128,
        weights: tuple[float, float] = (0.5, 0.5),
        params: tuple[int, int] | None = None,
    ) -> None:
        if not is_number(threshold):
            raise MinHashError(
                f"threshold {threshold!r} is no number", where="MinHashLSH", remedy="use 0.5, say"
            )
        if not is_whole(num_perm):
            raise MinHashError(
                f"num_perm {num_perm!r} is no number", where="MinHashLSH", remedy="use 128, say"
            )
        for pair, what in ((weights, "weights"), (params, "params")):
            if pair is not None and not _is_pair(pair):
                raise MinHashError(
                    f"{what} {pair!r} are no pair", where="MinHashLSH", remedy="give two numbers"
                )
        self.h = num_perm
        chosen = bands_and_rows(threshold, num_perm, (weights[0], weights[1]))
        self.b, self.r = chosen if params is None else params
        if self.b < 2 or self.r < 1 or self.b * self.r > num_perm:
            raise MinHashError(
                f"{self.b} bands of {self.r} values do not fit {num_perm} permutations",
                where="MinHashLSH",
                remedy="use two bands or more, b * r <= num_perm",
            )
        self._bands: list[dict[bytes, int | list[int]]] = [{} for _ in range(self.b)]
        self._ids: dict[Hashable, int] = {}
        self._keys: dict[int, Hashable] = {}
        self._rows: dict[int, bytes] = {}
        self._next = 0
        self._of: tuple[str, int] | None = None
        self._kind = np.dtype(np.uint32)
        self._spans: list[tuple[int, int]] = []

    def _row(self, minhash: Signature | KMins | Resemblance) -> bytes:
        """Return the banded part of a signature as bytes, after checking that it belongs here."""
        scheme, seed, values = signature_of(minhash)
        if len(values) != self.h:
            raise MinHashMismatch(
                f"{len(values)} values instead of {self.h}", where="MinHashLSH", remedy="sketch all alike"
            )
        if self._of is not None and self._of != (scheme, seed):
            raise MinHashMismatch(
                f"scheme and seed {(scheme, seed)} in an index of {self._of}",
                where="MinHashLSH",
                remedy="sketch all alike",
            )
        if self._of is None:
            self._kind = values.dtype
            width = self.r * values.dtype.itemsize
            self._spans = [(i * width, (i + 1) * width) for i in range(self.b)]
        return values[: self.b * self.r].tobytes()

    def insert(
        self, key: Hashable, minhash: Signature | KMins | Resemblance, check_duplication: bool = True
    ) -> None:
        """Add a key with the signature of its set.

        Raises
        ------
        MinHashError
            The key is there already. Without the check, its old signature goes on leading to it, as in
            datasketch.
        MinHashMismatch
            Another size, scheme or seed than the index has.
        """
        row = self._row(minhash)
        if check_duplication and key in self._ids:
            raise MinHashError(f"the key {key!r} exists", where="MinHashLSH", remedy="remove it first")
        if self._of is None:
            self._of = signature_of(minhash)[:2]
        self._add(key, row)

    def _add(self, key: Hashable, row: bytes) -> None:
        number = self._next
        self._next = number + 1
        self._ids[key] = number
        self._keys[number] = key
        self._rows[number] = row
        for table, (start, end) in zip(self._bands, self._spans, strict=True):
            band = row[start:end]
            held = table.setdefault(band, number)
            if held is not number:
                if isinstance(held, list):
                    held.append(number)
                else:
                    table[band] = [held, number]

    def _found(self, row: bytes) -> list[int]:
        found: set[int] = set()
        for table, (start, end) in zip(self._bands, self._spans, strict=False):
            held = table.get(row[start:end])
            if held is not None:
                if type(held) is int:
                    found.add(held)
                else:
                    found.update(held)  # type: ignore[arg-type]
        return sorted(found)

    def query(self, minhash: Signature | KMins | Resemblance) -> list[Hashable]:
        """Return the keys that share a band with a signature: the same as datasketch finds.

        Raises
        ------
        MinHashMismatch
            Another size, scheme or seed than the index has.
        """
        row = self._row(minhash)
        found = self._found(row)
        if len(self._ids) == len(self._keys):
            return [self._keys[number] for number in found]
        return list(dict.fromkeys(self._keys[number] for number in found))

    def ranked(
        self, minhash: Signature | KMins | Resemblance, at_least: float = 0.0
    ) -> list[tuple[Hashable, float]]:
        """Return keys with their estimated similarity, greatest first; over the b r values that are kept.

        Parameters
        ----------
        minhash : signature
        at_least : float
            Leave out keys with less.
        """
        row = self._row(minhash)
        found = self._found(row)
        if not found:
            return []
        mine = np.frombuffer(row, self._kind)
        rows = np.frombuffer(b"".join([self._rows[n] for n in found]), self._kind).reshape(len(found), -1)
        shares = np.count_nonzero(rows == mine, axis=1) / len(mine)
        order = np.argsort(-shares, kind="stable")
        return [(self._keys[found[i]], float(shares[i])) for i in order if shares[i] >= at_least]

    def __contains__(self, key: Hashable) -> bool:
        return key in self._ids

    def __len__(self) -> int:
        return len(self._ids)

    def __iter__(self) -> Iterator[Hashable]:
        return iter(self._ids)

    def is_empty(self) -> bool:
        """Return whether the index has no key."""
        return not self._ids

    def remove(self, key: Hashable) -> None:
        """Take a key out.

        Raises
        ------
        MinHashError
            There is no such key.
        """
        number = self._ids.pop(key, None)
        if number is None:
            raise MinHashError(f"there is no key {key!r}", where="MinHashLSH", remedy="ask with `in` first")
        twins = [number] if len(self._ids) + 1 == len(self._keys) else self._numbers(key)
        for each in twins:
            del self._keys[each]
            self._forget(each, self._rows.pop(each))

    def _numbers(self, key: Hashable) -> list[int]:
        return [number for number, held in self._keys.items() if held == key]

    def _forget(self, number: int, row: bytes) -> None:
        for table, (start, end) in zip(self._bands, self._spans, strict=True):
            held = table[row[start:end]]
            if isinstance(held, list):
                held.remove(number)
                if len(held) == 1:
                    table[row[start:end]] = held[0]
            else:
                del table[row[start:end]]

    def merge(self, other: MinHashLSH, check_overlap: bool = False) -> None:
        """Take all keys of another index in.

        Raises
        ------
        MinHashError
            Other parameters, or, if asked to check, a key that both have.
        MinHashMismatch
            Another scheme or seed.
        """
        if (self.h, self.b, self.r) != (other.h, other.b, other.r):
            raise MinHashError("the parameters differ", where="MinHashLSH", remedy="build both indexes alike")
        if other._of is None:
            return
        if self._of is not None and self._of != other._of:
            raise MinHashMismatch(
                f"scheme and seed {other._of} into an index of {self._of}",
                where="MinHashLSH",
                remedy="sketch all alike",
            )
        if check_overlap and any(key in self._ids for key in other._ids):
            raise MinHashError("the keys overlap", where="MinHashLSH", remedy="remove them first")
        self._of, self._kind, self._spans = other._of, other._kind, other._spans
        for number, key in list(other._keys.items()):
            self._add(key, other._rows[number])

    def get_counts(self) -> list[dict[bytes, int]]:
        """Return, for every band, how many keys share each of its values (little-endian bytes)."""
        return [
            {band: len(held) if isinstance(held, list) else 1 for band, held in table.items()}
            for table in self._bands
        ]

    def rows(self) -> Iterator[tuple[Hashable, Values]]:
        """Yield every key with the (b r,) values kept of its signature."""
        for number, key in self._keys.items():
            yield key, np.frombuffer(self._rows[number], self._kind)

    def fill(self, rows: Iterable[tuple[Hashable, Values]], scheme: str, seed: int) -> None:
        """Add keys with the (b r,) banded values of their signatures, as :meth:`rows` gives them.

        Raises
        ------
        MinHashError
            A key that is there already, or values of another number or type.
        MinHashMismatch
            Another scheme or seed than the index has.
        """
        kind = scheme_type(scheme)
        size = self.b * self.r
        for key, values in rows:
            if len(values) != size or values.dtype != kind:
                raise MinHashError(
                    f"{size} values of {kind} are needed", where="MinHashLSH", remedy="check scheme and bands"
                )
            padded = np.zeros(self.h, kind)
            padded[:size] = values
            self.insert(key, _Row(padded, scheme, seed))

    @contextmanager
    def insertion_session(self, buffer_size: int = 50_000) -> Iterator[_Session]:
        """Return a context whose ``insert`` adds to this index; for programs written for datasketch.

        Parameters
        ----------
        buffer_size : int
            Of no use here: nothing leaves the process.
        """
        del buffer_size
        yield _Session(self.insert, self.remove)

    deletion_session = insertion_session


class _Session:
    """The two methods of datasketch's sessions."""

    __slots__ = ("insert", "remove")

    def __init__(self, insert: Callable[..., None], remove: Callable[[Hashable], None]) -> None:
        self.insert, self.remove = insert, remove


class _Row:
    """A signature that has only values."""

    __slots__ = ("hashvalues", "scheme", "seed")

    def __init__(self, hashvalues: Values, scheme: str, seed: int) -> None:
        self.hashvalues, self.scheme, self.seed = hashvalues, scheme, seed
