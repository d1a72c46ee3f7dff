"""What is measured once the relation is known: derivation, selection, order, rare values, errors, direction."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from dataguard.carrier import Alignment
from dataguard.fingerprints.changes.change import Change
from dataguard.fingerprints.changes.composed import composed_columns
from dataguard.fingerprints.comparison.derived import find_aggregation
from dataguard.fingerprints.comparison.direction import hint_direction
from dataguard.fingerprints.comparison.order import name_order
from dataguard.fingerprints.comparison.rarity import weigh_rarity
from dataguard.fingerprints.comparison.selection import name_selection
from dataguard.fingerprints.comparison.shared_errors import share_errors
from dataguard.model import Finding, Relation, plain, without_nan
from dataguard.values import CanonicalTable

__all__ = ["More", "further_parts"]

_COUNTS = {"count", "count-distinct"}
_OF_ROWS = {Relation.IDENTICAL, Relation.SAME_ROWS, Relation.SUBSET, Relation.SUPERSET, Relation.OVERLAP}


@dataclass(frozen=True, slots=True)
class More:
    """What the parts add to a comparison: changes of the table, and the finding its relation rests on."""

    changes: tuple[Change, ...] = ()
    finding: Finding | None = None


def further_parts(
    original: CanonicalTable,
    suspect: CanonicalTable,
    folded: tuple[CanonicalTable, CanonicalTable],
    alignment: Alignment,
    relation: Relation,
    alpha: float,
    *,
    sampled: bool = False,
) -> tuple[Mapping[str, Any], More]:
    """Return further measurements by name, and what they say was done.

    Parameters
    ----------
    original, suspect : CanonicalTable
        As read.
    folded : tuple of CanonicalTable
        Both, folded.
    alignment : Alignment
    relation : Relation
        As far as rows tell.
    alpha : float
        Half of it may be spent on a derivation.
    sampled : bool
        Whether the tables are samples: nothing is said of what needs all rows.
    """
    if relation not in _OF_ROWS:
        if sampled:
            return {}, More()
        found = find_aggregation(original, suspect, alpha / 2)
        # Row counts per key are the same for any table with these keys.
        if found is None or (found.unexplained and all(f.function in _COUNTS for f in found.functions)):
            return {}, More()
        derived = found.to_dict(original.names, suspect.names)
        return {"derived": derived}, More((Change("aggregated", derived),), found.finding)
    if relation is Relation.IDENTICAL:
        return {}, More()
    evidence = {"rarity": weigh_rarity(*folded, alignment), "errors": share_errors(*folded, alignment)}
    told = without_nan(plain({"evidence": evidence, "direction": hint_direction(*folded, alignment)}))
    assert isinstance(told, dict)
    changes = _composed(original, suspect, alignment)
    return told, More(changes if sampled else (*_rows(original, suspect, alignment, alpha), *changes))


def _rows(
    original: CanonicalTable, suspect: CanonicalTable, alignment: Alignment, alpha: float
) -> tuple[Change, ...]:
    """Return which rows were kept, if a predicate says it, and what they were sorted by."""
    found = np.zeros(original.rows, np.bool_)
    found[alignment.original_row] = True
    found[alignment.tied_original] = True
    selection = name_selection(original, found, alpha)
    changes = []
    if selection is not None:
        detail = selection.to_dict(original.names)
        changes.append(Change("selected", {"where": detail.pop("words"), **detail}))
    origin = np.full(suspect.rows, -1, np.int64)
    origin[alignment.suspect_row] = alignment.original_row
    origin[alignment.tied_suspect] = alignment.tied_original
    order = name_order(suspect, range(len(suspect.columns)), origin)
    if order:
        keys = [{"column": suspect.names[c], "ascending": up} for c, up in order]
        changes.append(Change("sorted", {"columns": keys}))
    return tuple(changes)


def _composed(original: CanonicalTable, suspect: CanonicalTable, alignment: Alignment) -> tuple[Change, ...]:
    """Return which of the columns that match none are made of original ones."""
    known = {c.suspect for c in alignment.columns}
    open_ = [i for i in range(len(suspect.columns)) if i not in known]
    made = composed_columns(original, suspect, open_, alignment.original_row, alignment.suspect_row)
    return tuple(Change(c.kind, {"column": suspect.names[s], **c.detail}) for s, _, c in made)
