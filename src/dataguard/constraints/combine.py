"""The facts of a table known in parts: what any part forbids is forbidden.

No single sample shows all facts of a large table. Rows spread over the whole show ranges and
identities, but tear runs and groups apart; neighbouring rows show runs and groups that stand
together; all rows of some values of a column show what that column determines.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from dataguard.constraints.facts import Dependency, Facts, Identity, Key, SwapGroup

__all__ = ["combine"]

Fact = TypeVar("Fact", Key, Dependency, Identity)


def combine(parts: Sequence[Facts], extremes: Mapping[str, tuple[float, float]]) -> Facts:
    """Return facts under which a mark breaks no fact of any part.

    Parameters
    ----------
    parts : sequence of Facts
        Of parts of one table; the first lends its roles and its groups.
    extremes : mapping of str to (float, float)
        Least and greatest value of columns in the whole table: atoms of the groups they drive.

    Returns
    -------
    Facts
        Keys, dependencies and identities of all parts. A group stays if every part has a group of
        the same members, with the strictest demands of all; other columns are guarded.
    """
    first, rest = parts[0], parts[1:]
    guarded, groups = dict(first.guarded), []
    for group in first.groups:
        others = [_same(part, group) for part in rest]
        if any(other is None for other in others):
            for member in group.members:
                guarded[member] = _reason(member, rest)
            continue
        joined = _joined(group, [other for other in others if other is not None])
        groups.append(replace(joined, atoms=_atoms(joined, extremes)))
    return Facts(
        first.columns,
        _union(part.keys for part in parts),
        _union(part.dependencies for part in parts),
        _union(part.identities for part in parts),
        tuple(groups),
        {name: guarded[name] for name in first.columns if name in guarded},
        tuple(dict.fromkeys(itertools.chain.from_iterable(part.monotone for part in parts))),
    )


def _same(part: Facts, group: SwapGroup) -> SwapGroup | None:
    for other in part.groups:
        if set(other.members) == set(group.members) and other.kind == group.kind:
            return other
    return None


def _reason(member: str, parts: Sequence[Facts]) -> str:
    for part in parts:
        if member in part.guarded:
            return f"{part.guarded[member]} (in a part of the table)"
    return "moves together with other columns in a part of the table"


def _joined(group: SwapGroup, others: Sequence[SwapGroup]) -> SwapGroup:
    """Return a group with the demands of all."""
    every = (group, *others)
    equal_on = dict.fromkeys(itertools.chain.from_iterable(g.equal_on for g in every))
    guards = {guard.label: guard for g in reversed(every) for guard in g.guards}
    tolerance = {
        name: min(g.tolerance.get(name, value) for g in every) for name, value in group.tolerance.items()
    }
    atoms = sorted({atom for g in every for atom in g.atoms})
    return replace(
        group,
        equal_on=tuple(equal_on),
        tolerance=tolerance,
        atoms=tuple(atoms),
        guards=tuple(guards.values()),
    )


def _atoms(group: SwapGroup, extremes: Mapping[str, tuple[float, float]]) -> tuple[float, ...]:
    if group.kind == "category" or group.driver not in extremes:
        return group.atoms
    return tuple(sorted({*group.atoms, *extremes[group.driver]}))


def _union(parts: Iterable[tuple[Fact, ...]]) -> tuple[Fact, ...]:
    """Return facts without repetition, those of earlier parts first."""
    known: dict[str, Fact] = {}
    for fact in itertools.chain.from_iterable(parts):
        known.setdefault(fact.label, fact)
    return tuple(known.values())
