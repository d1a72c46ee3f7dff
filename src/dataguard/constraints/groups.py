"""From facts to permission: which columns two rows may exchange, and which stay as they are.

A column that no fact touches moves alone. The two moving columns of a sum or a clock
identity move together, between rows equal in the third. Everything else is guarded,
with its reason.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from dataguard.cells import NULL
from dataguard.constraints.arithmetic import holds
from dataguard.constraints.columns import Codes, Column, finite, floor_to, partnered
from dataguard.constraints.facts import Dependency, Identity, Key, Role, SwapGroup
from dataguard.constraints.roles import MARKABLE, MOST_LEVELS
from dataguard.constraints.ties import binned, cramers_v, is_tied
from dataguard.errors import UsageError
from dataguard.values import CanonicalTable

__all__ = ["Nature", "Permission", "Wishes", "pairable", "permit"]

B1 = NDArray[np.bool_]

SHARE_OF_SD = 0.1
"""Default largest move, in standard deviations."""

SHARE_OF_NOISE = 0.5
"""Nor more than this share of what the other columns leave open: a mark hides in that noise."""

LARGEST_SHARE = 0.2
"""Never more than this many standard deviations, even where values lie far apart."""

LARGEST_STEP = 0.35
"""A grid coarser than this many standard deviations leaves no small move."""

_ATOM_SHARE = 0.3
_ASSOCIATED = 0.1  # Cramer's V from which a category is worth keeping fixed
_CLOSE = 0.4  # from here on two categories must not both move (adult: race and native-country)
_MOST_FIXED = 2


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the user asks.

    Attributes
    ----------
    protect : frozenset of str
        Columns to leave as they are.
    tolerance : mapping of str to float
        Largest move per column, in its own unit (times: seconds); 0 protects.
    """

    protect: frozenset[str]
    tolerance: Mapping[str, float]

    def __post_init__(self) -> None:
        for name, amount in self.tolerance.items():
            if not 0 <= amount < float("inf"):
                raise UsageError(
                    f"tolerance {amount} is not a finite number >= 0", where=f"column {name!r}",
                    remedy="give the largest allowed move in the column's own unit, or 0 to protect it",
                )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Nature:
    """What is known of the columns one by one.

    Attributes
    ----------
    roles : mapping of str to Role
    unexplained : mapping of str to float
        Share of the sd that the other columns do not predict.
    monotone : frozenset of str
        Columns that run one way from row to row.
    """

    roles: Mapping[str, Role]
    unexplained: Mapping[str, float]
    monotone: frozenset[str]


@dataclass(slots=True)
class Permission:
    """Groups and guards while they are worked out.

    Attributes
    ----------
    columns : mapping of str to Column
    nature : Nature
    wishes : Wishes
    guarded : dict of str to str
        The first reason stays.
    groups : list of SwapGroup
    """

    columns: Mapping[str, Column]
    nature: Nature
    wishes: Wishes
    guarded: dict[str, str] = field(default_factory=dict)
    groups: list[SwapGroup] = field(default_factory=list)

    def guard(self, names: Iterable[str], reason: str) -> None:
        """Protect columns, unless they are protected already."""
        for name in names:
            self.guarded.setdefault(name, reason)

    def free(self) -> list[str]:
        """Columns neither guarded nor in a group."""
        grouped = {m for g in self.groups for m in g.members}
        return [n for n in self.columns if n not in self.guarded and n not in grouped]

    def move(self, name: str) -> float | None:
        """Return the largest move of a numeric column, or None (and guard it) where there is none."""
        column = self.columns[name]
        wished = self.wishes.tolerance.get(name)
        step = column.step if column.step > 0 else 1e-9 * max(column.sd, 1e-300)
        if wished is not None and wished < step:
            self.guard([name], f"tolerance {wished:g} is below one step of {step:g}")
        elif wished is None and step > LARGEST_STEP * column.sd:
            self.guard([name], f"one step would be more than {LARGEST_STEP} sd")
        left = self.nature.unexplained.get(name, 1.0) * column.sd
        if wished is None and step > left:
            self.guard([name], "other columns predict it to within one step")
        if name in self.guarded:
            return None
        if wished is not None:
            return max(step, floor_to(wished, step))
        amount = max(step, floor_to(min(SHARE_OF_SD * column.sd, SHARE_OF_NOISE * left), step))
        return _widened(column, amount, min(LARGEST_SHARE * column.sd, left))


def _widened(column: Column, amount: float, most: float) -> float:
    """Return a larger move where most rows would find no partner, if one up to `most` helps.

    Fahrenheit made from half degrees Celsius is printed to 0.01, yet values lie 0.9 apart.
    """
    wider = amount
    while wider <= most:
        if partnered(column, wider) >= 0.5:
            return wider
        wider = max(wider + column.step, floor_to(1.25 * wider, column.step))
        if wider <= 0:
            break
    return amount


def permit(
    columns: Sequence[Column],
    nature: Nature,
    facts: tuple[tuple[Key, ...], tuple[Dependency, ...], tuple[Identity, ...]],
    wishes: Wishes,
) -> Permission:
    """Return groups and guards; every column is in exactly one of the two.

    Parameters
    ----------
    columns : sequence of Column
    nature : Nature
    facts : keys, dependencies, identities
    wishes : Wishes
    """
    keys, dependencies, identities = facts
    state = Permission({c.name: c for c in columns}, nature, wishes)
    state.guard((n for n in state.columns if n in wishes.protect), "protected by the user")
    state.guard(
        (n for n in state.columns if wishes.tolerance.get(n) == 0), "protected by the user (tolerance 0)"
    )
    for name, role in nature.roles.items():
        if role.name not in MARKABLE:
            state.guard([name], f"{role.name}: {role.reason}")
    for key in keys:
        grid = ", every combination once" if key.filled == 1.0 and len(key.columns) > 1 else ""
        state.guard(key.columns, f"part of {key.label}{grid}")
    for fact in dependencies:
        if fact.of == "sign":
            state.guard(fact.determinants, f"determines {fact.of}({fact.dependent})")
        elif not fact.partial:
            state.guard(fact.columns, f"dependency {fact.label}")
    _joint_groups(state, [i for i in identities if i.kind != "order"])
    _numeric_groups(state)
    _category_groups(state, [d for d in dependencies if d.partial])
    _attach(state, dependencies, identities)
    return state


# --- columns tied by arithmetic ------------------------------------------------------------------


def _joint_groups(state: Permission, identities: Sequence[Identity]) -> None:
    ties = [c for i in identities for c in i.columns]
    pairs: list[tuple[str, str] | None] = []
    before = -1
    while before != len(state.guarded):  # a column guarded for one identity may decide another
        before = len(state.guarded)
        pairs = [_moving(state, i) if _joint(i) else None for i in identities]
        for identity, pair in zip(identities, pairs, strict=True):
            if pair is None or any(ties.count(m) > 1 for m in pair):
                state.guard(identity.columns, f"tied by {identity.label}")
    for identity, pair in zip(identities, pairs, strict=True):
        if pair is not None and not any(m in state.guarded for m in pair):
            _join(state, identity, pair)


def _joint(identity: Identity) -> bool:
    return identity.kind == "clock" or (identity.kind == "sum" and set(identity.coefficients) == {1.0})


def _moving(state: Permission, identity: Identity) -> tuple[str, str] | None:
    """Return (driver, other): the two that move; the third of the identity stays fixed."""
    fixed = [c for c in identity.columns if c in state.guarded]
    if len(fixed) > 1:
        return None
    target, base, other = identity.target, *identity.inputs
    if identity.kind == "clock":
        # A clock may only be driven by its minutes: they alone are on a plain scale.
        return (other, target) if fixed in ([], [base]) else None
    still = fixed[0] if fixed else min(identity.inputs, key=lambda c: state.columns[c].coded.levels)
    first, second = (c for c in (other, base, target) if c != still)
    return first, second


def _join(state: Permission, identity: Identity, pair: tuple[str, str]) -> None:
    driver, other = pair
    fixed = next(c for c in identity.columns if c not in pair)
    if state.columns[fixed].coded.levels > 0.5 * state.columns[fixed].coded.present:
        state.guard(identity.columns, f"tied by {identity.label}; hardly two rows are equal in {fixed}")
        return
    amount = state.move(driver)
    if amount is None:
        state.guard(identity.columns, f"tied by {identity.label} to a guarded column")
        return
    limit = state.wishes.tolerance.get(other)
    if limit is not None and limit < amount:
        step = state.columns[driver].step
        amount = floor_to(limit, step)
        if amount < step or amount <= 0:
            state.guard(identity.columns, f"tolerance {limit:g} of {other} is below one step")
            return
    state.guard([fixed], f"fixes the joint move of {' and '.join(sorted(pair))}")
    column = state.columns[driver]
    kind = "time" if column.kind == "time" else "number"
    members = tuple(c for c in identity.columns if c in pair)
    tolerance = dict.fromkeys(members, amount)
    state.groups.append(
        SwapGroup(members, (fixed,), driver, kind, tolerance, column.step, _atoms(column), (identity,))
    )


# --- columns alone -------------------------------------------------------------------------------


def _atoms(column: Column) -> tuple[float, ...]:
    """Return 0 (if it occurs), the least, the greatest and every value of more than 30 % of the rows."""
    value, count = np.unique(column.value[np.isfinite(column.value)], return_counts=True)
    often = value[count > _ATOM_SHARE * count.sum()].tolist()
    zero = [0.0] if 0.0 in value else []
    return tuple(sorted({*zero, float(value[0]), float(value[-1]), *often}))


def _numeric_groups(state: Permission) -> None:
    for name in state.free():
        if state.nature.roles[name].name not in {"number", "score", "time"}:
            continue
        if name in state.nature.monotone:
            state.guard([name], "it runs one way from row to row: a swap would show")
            continue
        amount = state.move(name)
        if amount is None:
            continue
        column = state.columns[name]
        kind = "time" if column.kind == "time" else "number"
        state.groups.append(SwapGroup((name,), (), name, kind, {name: amount}, column.step, _atoms(column)))


def _category_groups(state: Permission, partial: Sequence[Dependency]) -> None:
    ties: dict[str, set[str]] = {n: set() for n in state.columns}
    for fact in partial:
        ties[fact.determinants[0]].add(fact.dependent)
        ties[fact.dependent].add(fact.determinants[0])
    _hold_hubs(state, ties, "some levels are tied to those of")
    for name in state.free():
        if len(ties[name]) > _MOST_FIXED:
            state.guard([name], f"levels tied to those of {', '.join(sorted(ties[name]))}")
    _hold_hubs(state, _close(state), "strongly associated with")
    classes = {name: binned(column) for name, column in state.columns.items()}
    for name in state.free():
        fixed = _fixed_for(state, name, ties[name])
        tied = _tied(name, fixed, classes)
        if tied:
            state.guard([name], f"goes together with {', '.join(tied[:3])}")
            continue
        state.groups.append(SwapGroup((name,), fixed, name, "category", {}, 0.0, ()))


def _tied(name: str, fixed: Sequence[str], classes: Mapping[str, Codes | None]) -> list[str]:
    """Return the columns a category goes together with and that do not hold it fixed."""
    own = classes[name]
    assert own is not None, "a category has few levels"
    others = ((other, codes) for other, codes in classes.items() if other != name and other not in fixed)
    return [other for other, codes in others if codes is not None and is_tied(own, codes)]


def _close(state: Permission) -> dict[str, set[str]]:
    """Return the strongly associated pairs of free categories, both ways."""
    free = state.free()
    near: dict[str, set[str]] = {n: set() for n in state.columns}
    for i, a in enumerate(free):
        for b in free[i + 1 :]:
            if cramers_v(state.columns[a].coded, state.columns[b].coded) >= _CLOSE:
                near[a].add(b)
                near[b].add(a)
    return near


def _hold_hubs(state: Permission, ties: Mapping[str, set[str]], reason: str) -> None:
    """Guard as few categories as needed so that of two tied ones one stays fixed.

    Of equally tied ones the one with less variety stays: it would carry less.
    """
    while True:
        free = set(state.free())
        degree = {n: (len(ties[n] & free), state.columns[n].coded.collision) for n in state.free()}
        hub = max(degree, key=lambda n: degree[n], default="")
        if not hub or degree[hub][0] == 0:
            return
        state.guard([hub], f"{reason} {', '.join(sorted(ties[hub] & free))}")


def _fixed_for(state: Permission, name: str, ties: set[str]) -> tuple[str, ...]:
    """Return the columns in which rows that exchange a category must be equal: tied, then associated ones."""
    coded = {n: c.coded for n, c in state.columns.items()}
    roles = state.nature.roles
    fixed = [
        n for n in coded
        if n in state.guarded and roles[n].name not in {"key", "constant", "empty"}
        and 2 <= coded[n].levels <= MOST_LEVELS
    ]  # fmt: skip
    strength = {n: cramers_v(coded[name], coded[n]) for n in fixed}
    chosen = sorted(ties)
    for other in sorted(fixed, key=lambda n: -strength[n]):
        # A second column that says the same as the first keeps nothing more.
        said = any(cramers_v(coded[c], coded[other]) > 0.95 for c in chosen)
        if len(chosen) < _MOST_FIXED and strength[other] >= _ASSOCIATED and not said and other not in chosen:
            chosen.append(other)
    return tuple(chosen) or tuple(n for n in coded if roles[n].name == "label")[:1]


# --- facts that only bar some rows -----------------------------------------------------------------


def _attach(state: Permission, dependencies: Sequence[Dependency], identities: Sequence[Identity]) -> None:
    moves = {m: t for g in state.groups for m, t in g.tolerance.items()}
    signs = [d for d in dependencies if d.of == "sign"]
    for k, group in enumerate(state.groups):
        guards: list[Identity | Dependency] = [d for d in signs if d.dependent in group.members]
        touching = [i for i in identities if i.kind == "order" and set(i.columns) & set(group.members)]
        # Both ends may move, in pairs of their own.
        guards += [replace(i, slack=sum(moves.get(c, 0.0) for c in i.columns)) for i in touching]
        state.groups[k] = replace(group, guards=(*group.guards, *guards))


def pairable(group: SwapGroup, table: CanonicalTable) -> B1:
    """Return the rows, (n,) bool, that may take part in a swap of a group.

    Left out are rows with a missing cell in a member or in `equal_on`, exceptions to an
    identity of the group, and rows so close to an inequality or to a sign change that
    moves within tolerance could break it. Atoms are the carrier's choice.

    Parameters
    ----------
    group : SwapGroup
    table : CanonicalTable
        The original.
    """
    present = [table.column(c).tag != NULL for c in (*group.members, *group.equal_on)]
    rows: B1 = np.logical_and.reduce(present)
    for guard in group.guards:
        if isinstance(guard, Dependency):
            value = finite(table.column(guard.dependent))
            rows &= np.abs(np.nan_to_num(value)) > group.tolerance[guard.dependent]
            continue
        values = {c: finite(table.column(c)) for c in guard.columns}
        free = (
            np.logical_or.reduce([np.isnan(v) for v in values.values()]) if guard.kind == "order" else False
        )
        rows &= holds(guard, values) | free
    return rows
