"""Who exchanges values with whom: the pair-swap plan of a table.

Partners are drawn by the dataset secret from a window of near, unequal values (never by a
plain sort: a leaker could sort too and rebuild the pairs), and are the same for every
recipient. Keyed rank swapping: rank swapping itself is Dalenius and Reiss (J. Stat.
Planning Inference 6, 1982) and Moore (1996); the key, the facts of the table as guards
and the stable addresses are what is added here.
"""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

from dataguard.constraints.facts import Facts, SwapGroup
from dataguard.constraints.groups import pairable
from dataguard.errors import CapacityError
from dataguard.model import BiasLaw
from dataguard.slots import SlotBrief, Slots
from dataguard.values import CanonicalTable

__all__ = ["CHANNEL", "PLACE_NAMES", "RULE", "group_id", "positions", "swap_plan"]

B = NDArray[np.bool_]
I64 = NDArray[np.int64]
F64 = NDArray[np.float64]
U64 = NDArray[np.uint64]

CHANNEL = b"swap/1\x00\x00"
"""Scheme and channel: pair swap, version 1."""
RULE = "pair-swap/1"
PLACE_NAMES = ("group", "low", "high")
"""A slot's place: group id, then the two row ids in ascending order."""


def group_id(group: SwapGroup) -> int:
    """Return the 63-bit id of a swap group: a hash of its member names, whatever their order."""
    name = "\x1f".join(sorted(group.members)).encode()
    return int.from_bytes(hashlib.sha256(b"dataguard/group/1" + name).digest()[:8], "little") >> 1


def positions(ids: U64, wanted: I64) -> I64:
    """Return the position in `ids` of each wanted id, -1 where it is absent."""
    order = np.argsort(ids, kind="stable")
    ranked = ids[order]
    at = np.minimum(np.searchsorted(ranked, wanted.astype(np.uint64)), len(ids) - 1)
    return np.where(ranked[at] == wanted.astype(np.uint64), order[at], -1).astype(np.int64)


def swap_plan(table: CanonicalTable, ids: U64, facts: Facts, brief: SlotBrief, law: BiasLaw) -> Slots:
    """Return the slot plan of a table.

    Parameters
    ----------
    table : CanonicalTable
    ids : (rows,) uint64
        Row ids given at registration.
    facts : Facts
        Mined facts; their swap groups say what may move, and between whom.
    brief : SlotBrief
    law : BiasLaw

    Raises
    ------
    CapacityError
        When no two rows may exchange anything, and this is not one block of several.
    """
    places = [np.empty((0, 3), np.int64)]
    for group in facts.groups:
        kept = _still_allowed(table, ids, group, brief.frozen)
        places += [kept, _pairs(table, ids, group, brief)]
    place = np.concatenate(places)
    if len(place) == 0 and brief.study is None:
        raise CapacityError(
            "no column has room for a mark: " + _why(facts),
            remedy="such a table cannot be marked by exchanging values; protect fewer columns if you protected any",
        )
    address = brief.address(place, CHANNEL)
    # A collision of 64-bit addresses has a chance below n**2 / 2**65; the later slot is left out.
    _, first = np.unique(address, return_index=True)
    keep = np.sort(first)
    place, address = place[keep], address[keep]
    legend = {
        "rule": RULE,
        "groups": {str(group_id(g)): list(g.members) for g in facts.groups},
        "facts": facts.to_dict(),
    }
    return Slots(law, CHANNEL, address, brief.level(address), place, PLACE_NAMES, legend)


def _why(facts: Facts) -> str:
    """Return the commonest reasons for which columns are left alone, in one line."""
    reasons: dict[str, list[str]] = {}
    for column, reason in facts.guarded.items():
        reasons.setdefault(reason.split(":")[0], []).append(column)
    most = sorted(reasons.items(), key=lambda item: -len(item[1]))[:3]
    shown = [
        f"{', '.join(columns[:3])}{', ...' if len(columns) > 3 else ''} ({reason})"
        for reason, columns in most
    ]
    return "; ".join(shown) or "too few rows differ by little"


def _still_allowed(table: CanonicalTable, ids: U64, group: SwapGroup, frozen: Slots | None) -> I64:
    """Return the places of an earlier version's slots that this version keeps.

    Both rows must still be there, and may still exchange the group by its facts.
    """
    if frozen is None:
        return np.empty((0, 3), np.int64)
    place: I64 = frozen.place[frozen.place[:, 0] == group_id(group)]
    low, high = (positions(ids, place[:, c]) for c in (1, 2))
    fit = pairable(group, table)
    keep = (low >= 0) & (high >= 0) & fit[low] & fit[high]
    for name in group.equal_on:
        key = table.column(name).key
        keep &= key[low] == key[high]
    # A row found by its key may have been corrected: the two must still be unequal and near.
    driver = table.column(group.driver).key
    keep &= driver[low] != driver[high]
    for name, limit in group.tolerance.items():
        value = table.column(name).number
        keep &= np.abs(value[low] - value[high]) <= limit * (1 + 1e-9) + 1e-12
    kept: I64 = place[keep]
    return kept


def _pairs(table: CanonicalTable, ids: U64, group: SwapGroup, brief: SlotBrief) -> I64:
    """Return the (pairs, 3) places of one group."""
    from dataguard.modalities._kernels import draw_pairs

    free = pairable(group, table) & ~_atoms(table, group) & (ids >= np.uint64(brief.first_new))
    rows = np.flatnonzero(free)
    if len(rows) < 2:
        return np.empty((0, 3), np.int64)
    number = str(group_id(group))
    words = brief.draw(f"partner/{number}", ids[rows])
    stratum = _strata(table, group, rows)
    driver, members, tolerance = _values(table, group, rows)
    ordered = group.kind != "category"
    order = np.lexsort((words, driver, stratum) if ordered else (words, stratum))
    partner = np.full(len(rows), -1, np.int64)
    draw_pairs(
        stratum[order], driver[order], np.ascontiguousarray(members[:, order]), tolerance,
        words[order], ordered, partner,
    )  # fmt: skip
    left = np.flatnonzero(partner > np.arange(len(rows)))
    mine, other = ids[rows[order[left]]], ids[rows[order[partner[left]]]]
    place = np.empty((len(left), 3), np.int64)
    place[:, 0] = int(number)
    place[:, 1], place[:, 2] = np.minimum(mine, other), np.maximum(mine, other)
    return place


def _atoms(table: CanonicalTable, group: SwapGroup) -> B:
    """Rows whose driver sits on a value that must stay: 0, minimum, maximum, heavy spikes."""
    if group.kind == "category" or not group.atoms:
        return np.zeros(table.rows, np.bool_)
    return np.isin(table.column(group.driver).number, np.asarray(group.atoms, np.float64))


def _strata(table: CanonicalTable, group: SwapGroup, rows: I64) -> I64:
    """Return the class of each row: rows equal in all determining columns share one."""
    stratum = np.zeros(len(rows), np.int64)
    for name in group.equal_on:
        _, code = np.unique(table.column(name).key[rows], return_inverse=True)
        _, stratum = np.unique(stratum * (int(code.max()) + 1) + code, return_inverse=True)
    return stratum.astype(np.int64)


def _values(table: CanonicalTable, group: SwapGroup, rows: I64) -> tuple[F64, F64, F64]:
    """Return driver values (n,), member values (m, n) and tolerances (m,), driver first."""
    if group.kind == "category":
        _, code = np.unique(table.column(group.driver).key[rows], return_inverse=True)
        return code.astype(np.float64), np.zeros((1, len(rows))), np.zeros(1)
    names = [group.driver, *(m for m in group.members if m != group.driver)]
    members = np.stack([table.column(n).number[rows] for n in names])
    # A relative 1e-9 keeps a difference of exactly one decimal step inside a tolerance of one step.
    tolerance = np.array([group.tolerance[n] * (1 + 1e-9) + 1e-12 for n in names])
    return members[0], members, tolerance
