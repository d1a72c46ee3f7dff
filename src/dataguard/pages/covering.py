"""What a comparison says of covered columns: that they were changed and how, but no value of theirs.

Cells are covered in the exhibits; but a renamed category, a filler or a condition on rows is a cell
too, and stands among the changes.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from dataguard.errors import UsageError
from dataguard.fingerprints.comparison.exhibits import Exhibits, mask_exhibits

__all__ = ["AUTO", "covered_document", "covered_exhibits", "covered_names"]

AUTO = "auto"
"""Cover what looks personal."""

_KEPT = frozenset({
    "kind", "share", "relative_sd", "digits", "rule", "characters", "algorithm", "values", "unit", "name", "columns",
    "rows", "step", "scale", "residual", "by", "functions",
})  # fmt: skip
"""Particulars of a change that hold no value of a cell."""

_NAMING = frozenset({"renamed", "merged", "split", "computed"})
"""Changes whose ``from`` and ``to`` are column names."""


def covered_exhibits(exhibits: Exhibits, mask: Sequence[str]) -> Exhibits:
    """Return exhibits with columns covered.

    Parameters
    ----------
    exhibits : Exhibits
    mask : sequence of str
        Names of columns, of either table, and `AUTO`.

    Raises
    ------
    UsageError
        A name is of no matched column: a slip of the pen would show what was to be covered.
    """
    names = [m for m in mask if m != AUTO]
    known = {n for c in exhibits.columns for n in (c.original, c.suspect)}
    unknown = [n for n in names if n not in known]
    if unknown and exhibits.columns:
        raise UsageError(
            f"no matched column is called {unknown[0]!r}",
            where="--mask",
            remedy="name a column of either table",
        )
    return mask_exhibits(exhibits, names, auto=AUTO in mask)


def covered_names(exhibits: Exhibits) -> frozenset[str]:
    """Return the names, in both tables, of the covered columns."""
    return frozenset(n for c in exhibits.columns if c.masked for n in (c.original, c.suspect))


def covered_document(document: Mapping[str, Any], exhibits: Exhibits) -> dict[str, Any]:
    """Return the JSON document of a comparison without values of covered columns among its changes."""
    names = covered_names(exhibits)
    if not names:
        return dict(document)
    columns = [
        {**c, "changes": [_without_values(x) for x in c.get("changes") or ()]}
        if c.get("original") in names or c.get("suspect") in names else c
        for c in document.get("columns") or ()
    ]  # fmt: skip
    changes = [_without_condition(c, names) for c in document.get("changes") or ()]
    return {**document, "columns": columns, "changes": changes}


def _without_values(change: Mapping[str, Any]) -> dict[str, Any]:
    kept = _KEPT | {"from", "to", "part"} if change.get("kind") in _NAMING else _KEPT
    return {k: v for k, v in change.items() if k in kept}


def _without_condition(change: Mapping[str, Any], names: Collection[str]) -> dict[str, Any]:
    """Leave out a condition that speaks of a covered column; names and counts stay."""
    if change.get("kind") != "selected" or not any(n in str(change) for n in names):
        return dict(change)
    return _without_values(change)
