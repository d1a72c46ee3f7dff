"""Functional dependencies and keys: what equal rows must stay equal in.

A sample proposes (rows sorted by the determinant: are neighbours of one group equal?),
all rows confirm. A dependency must say something: it has to remove nearly all of the
variety that its dependent has in the same rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dataguard.constraints.columns import CLOCK_PARTS, Codes, Column, dense, spread, view
from dataguard.constraints.facts import Dependency, Key, Role
from dataguard.constraints.roles import MOST_LEVELS
from dataguard.values import mix64

__all__ = [
    "Fit",
    "conformity",
    "fit",
    "joined",
    "mine_dependencies",
    "mine_keys",
    "mine_partial",
    "pure_levels",
    "usual_values",
]

I64 = NDArray[np.int64]
B1 = NDArray[np.bool_]

_SAMPLE = 20_000
_NEAR = 0.99
_PAIR_LEVELS = 512
_PAIR_COLUMNS = 14
_CODED_ROLES = frozenset({"category", "date-part", "identifier", "label", "text", "score"})


@dataclass(frozen=True, slots=True)
class Fit:
    """How well groups of a determinant agree in a dependent.

    Attributes
    ----------
    rows : int
        Rows in groups of two and more, complete in both.
    exceptions : int
        Rows that differ from the majority of their group.
    variety : int
        Rows that differ from the majority of all rows counted: what is left to explain.
    """

    rows: int
    exceptions: int
    variety: int

    @property
    def holds(self) -> bool:
        """Whether it is a (nearly) exact dependency and not the work of chance.

        In groups of two a value that is rare anyway is repeated by chance; with 40 rows to
        explain at least 20 exceptions are expected, none allowed below 50: e^-20.
        """
        share = 0.1 if self.variety >= 400 else 0.02
        near = self.exceptions <= (1 - _NEAR) * self.rows
        return self.rows >= 30 and self.variety >= 40 and near and self.exceptions <= share * self.variety


@dataclass(frozen=True, slots=True)
class _Side:
    name: str
    part: str
    coded: Codes
    coding: bool = True  # a code or category, not a measurement

    @property
    def of_sign(self) -> bool:
        return self.part == "sign"


def joined(codes: Sequence[Codes]) -> Codes:
    """Return the codes of the combinations of several columns; missing where any is."""
    total = codes[0]
    for other in codes[1:]:
        missing = (total.codes < 0) | (other.codes < 0)
        total = dense(total.codes * other.levels + other.codes, missing)
    return total


def _cells(x: Codes, y: Codes) -> tuple[I64, I64, I64]:
    """Return group, value and count of every combination that occurs."""
    both = (x.codes >= 0) & (y.codes >= 0)
    pair = x.codes[both] * y.levels + y.codes[both]
    size = x.levels * y.levels
    if size <= 4 * len(pair) + 4096:
        count = np.bincount(pair, minlength=size)
        seen = np.flatnonzero(count)
        count = count[seen]
    else:
        seen, count = np.unique(pair, return_counts=True)
    return seen // y.levels, seen % y.levels, count


def conformity(x: Codes, y: Codes) -> tuple[I64, I64]:
    """Return, per group of `x`, its rows and the rows of its most frequent value of `y`; each (x.levels,)."""
    group, _, count = _cells(x, y)
    rows = np.bincount(group, weights=count, minlength=x.levels).astype(np.int64)
    most = np.zeros(x.levels, np.int64)
    np.maximum.at(most, group, count)
    return rows, most


def fit(x: Codes, y: Codes) -> Fit:
    """Return how well `x` determines `y`, over all rows."""
    group, value, count = _cells(x, y)
    rows = np.bincount(group, weights=count, minlength=x.levels)
    most = np.zeros(x.levels, np.int64)
    np.maximum.at(most, group, count)
    several = rows >= 2
    counted = int(rows[several].sum())
    shared = np.bincount(value, weights=count * several[group], minlength=y.levels)
    return Fit(counted, counted - int(most[several].sum()), counted - int(shared.max(initial=0)))


def usual_values(x: Codes, y: Codes) -> I64:
    """Return the most frequent value of `y` per group of `x`, (x.levels,): -1 if empty, ties to the lower."""
    group, value, count = _cells(x, y)
    order = np.lexsort((value, -count, group))
    usual = np.full(x.levels, -1, np.int64)
    found, first = np.unique(group[order], return_index=True)
    usual[found] = value[order[first]]
    return usual


def mine_dependencies(columns: Sequence[Column], given: Mapping[str, Role]) -> tuple[Dependency, ...]:
    """Return the (nearly) exact dependencies of one and of two determinants.

    Parameters
    ----------
    columns : sequence of Column
    given : mapping of str to Role
        Trivial ones are left out: a constant or empty dependent, a key as determinant.
    """
    usable = [c for c in columns if c.coded.levels >= 2]
    right = [_Side(c.name, "", c.coded) for c in usable] + [
        _Side(c.name, "sign", view(c, "sign")) for c in usable if _both_signs(c, given[c.name])
    ]
    left = [s for c in usable for s in _left_sides(c, given[c.name])]
    singles = list(_singles(left, right))
    pairs = _pairs([s for s in left if _pairable(s, given[s.name])], right, singles)
    return (*_without_signs(singles), *pairs)


def _both_signs(column: Column, role: Role) -> bool:
    if column.kind != "number" or role.name != "number":
        return False
    return bool((column.value < 0).sum() >= 40 and (column.value > 0).sum() >= 40)


def _left_sides(column: Column, role: Role) -> Iterable[_Side]:
    coded = column.coded
    # A flag fixes only another flag, and then the other way round shows it too.
    if role.name not in {"key", "dummy"} and coded.levels < 0.98 * coded.present:
        yield _Side(column.name, "", coded, role.name in _CODED_ROLES)
    if column.kind == "text" and coded.levels > MOST_LEVELS:
        parts = ["prefix"]
    else:
        parts = list(CLOCK_PARTS) if column.kind == "time" else []
    for part in parts:
        seen = view(column, part)
        if 2 <= seen.levels <= coded.levels / 2:
            yield _Side(column.name, part, seen)


def _pairable(side: _Side, role: Role) -> bool:
    return not side.part and side.coded.levels <= _PAIR_LEVELS and role.name in _CODED_ROLES


def _singles(left: Sequence[_Side], right: Sequence[_Side]) -> Iterable[Dependency]:
    matrix = np.stack([s.coded.codes for s in right]) if right else np.empty((0, 0), np.int64)
    chance = np.array([1 - s.coded.collision for s in right])
    for x in left:
        for j in _proposals(x.coded, matrix, chance):
            y = right[j]
            if y.name == x.name or (y.of_sign and not x.coding):
                continue
            measured = fit(x.coded, y.coded)
            if measured.holds:
                yield Dependency((x.name,), y.name, measured.exceptions, part=x.part, of=y.part)


def _proposals(x: Codes, matrix: I64, chance: NDArray[np.float64]) -> I64:
    """Return the dependents that a sample of whole groups does not rule out."""
    n = len(x.codes)
    if x.levels * 8 <= _SAMPLE:
        rows = spread(n, _SAMPLE)
    else:
        mixed = mix64(np.arange(x.levels, dtype=np.uint64)) >> np.uint64(32)
        kept = mixed < np.uint64(int(min(1.0, _SAMPLE / n) * 2**32))
        rows = np.flatnonzero(kept[x.codes] & (x.codes >= 0))
    return _agreeing(x.codes[rows], matrix[:, rows], chance)


def _agreeing(x: I64, sample: I64, chance: NDArray[np.float64]) -> I64:
    order = np.argsort(x, kind="stable")
    x, sample = x[order], sample[:, order]
    same = (x[1:] == x[:-1]) & (x[1:] >= 0)
    a, b = sample[:, 1:][:, same], sample[:, :-1][:, same]
    both = (a >= 0) & (b >= 0)
    seen = both.sum(axis=1)
    differ = ((a != b) & both).sum(axis=1) / np.maximum(seen, 1)
    # One exception makes up to two unequal neighbours.
    found: I64 = np.flatnonzero((seen >= 10) & (differ <= 0.04) & (differ <= 0.4 * chance))
    return found


def _pairs(
    left: Sequence[_Side], right: Sequence[_Side], known: Sequence[Dependency]
) -> Iterable[Dependency]:
    """Two determinants, where neither alone suffices and neither fixes the other."""
    left = sorted(left, key=lambda s: s.coded.levels)[:_PAIR_COLUMNS]
    right = [s for s in right if not s.part]
    fixed = {(d.determinants[0], d.dependent) for d in known if not d.part and not d.of}
    if len(left) < 2:
        return
    rows = spread(len(left[0].coded.codes), _SAMPLE)
    sample = np.stack([s.coded.codes[rows] for s in right])
    chance = np.array([1 - s.coded.collision for s in right])
    for i, a in enumerate(left):
        for b in left[i + 1 :]:
            if (a.name, b.name) in fixed or (b.name, a.name) in fixed:
                continue
            both = (a.coded.codes[rows] >= 0) & (b.coded.codes[rows] >= 0)
            x = np.where(both, a.coded.codes[rows] * b.coded.levels + b.coded.codes[rows], -1)
            for j in _agreeing(x, sample, chance):
                y = right[j]
                if y.name in {a.name, b.name} or (a.name, y.name) in fixed or (b.name, y.name) in fixed:
                    continue
                measured = fit(joined([a.coded, b.coded]), y.coded)
                if measured.holds:
                    yield Dependency((a.name, b.name), y.name, measured.exceptions)


def _without_signs(found: Sequence[Dependency]) -> list[Dependency]:
    """Leave out a sign that is determined because the value is, or by the whole where a part suffices."""
    whole = {(d.determinants, d.dependent) for d in found if not d.of}
    parts = {(d.determinants, d.dependent, d.of) for d in found if d.part}
    return [
        d for d in found
        if not (d.of and (d.determinants, d.dependent) in whole)
        and not (d.of and not d.part and (d.determinants, d.dependent, d.of) in parts)
    ]  # fmt: skip


def mine_partial(columns: Sequence[Column], given: Mapping[str, Role]) -> tuple[Dependency, ...]:
    """Return the pairs of categories where some levels of one fix the other (Husband -> Male).

    A level counts when 99.5 % of its rows agree, 20 or more others would be expected by chance, and
    at most a tenth of these are there (Poisson: 5e-7).
    """
    chosen = [
        c for c in columns if given[c.name].name in {"category", "label"} and c.coded.levels <= MOST_LEVELS
    ]
    found = []
    for x in chosen:
        for y in chosen:
            if x is y:
                continue
            pure, off = pure_levels(x.coded, y.coded)
            if pure.any():
                found.append(Dependency((x.name,), y.name, int(off[pure].sum()), partial=True))
    return tuple(found)


def pure_levels(x: Codes, y: Codes) -> tuple[B1, I64]:
    """Return which levels of `x` fix `y`, and the rows per level that deviate; each (x.levels,)."""
    rows, most = conformity(x, y)
    base = y.counts / max(y.present, 1)
    expected = rows * (1 - base[usual_values(x, y)])
    off = rows - most
    return (rows >= 30) & (off <= 0.005 * rows) & (expected >= 20) & (off <= 0.1 * expected), off


def mine_keys(columns: Sequence[Column], given: Mapping[str, Role]) -> tuple[Key, ...]:
    """Return single keys, and the smallest set of coded columns that names a row if there is one.

    Uniqueness of many columns together is no fact when chance gives it anyway: 20 equal
    pairs must be expected, columns taken as independent, where none is seen.
    """
    rows = len(columns[0].coded.codes) if columns else 0
    keys = [
        Key((c.name,), 1.0)
        for c in columns
        if given[c.name].name == "key" and c.coded.levels == c.coded.present == rows
    ]
    order = ("category", "label", "score", "identifier", "time", "text", "date-part")
    parts = [c for c in columns if given[c.name].name in order and c.coded.present == rows]
    # Columns that may carry a mark are dropped first: better that others make up the key.
    parts.sort(key=lambda c: (order.index(given[c.name].name), c.coded.levels))
    if len(parts) >= 2 and joined([c.coded for c in parts]).levels == rows:
        for part in list(parts):
            rest = [c for c in parts if c is not part]
            if rest and joined([c.coded for c in rest]).levels == rows:
                parts = rest
        expected = rows * rows / 2 * float(np.prod([c.coded.collision for c in parts]))
        if expected >= 20:
            names = tuple(c.name for c in columns if c in parts)
            keys.append(Key(names, rows / float(np.prod([float(c.coded.levels) for c in parts]))))
    return tuple(keys)
