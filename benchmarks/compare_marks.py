"""The pass marks of `compare` (landscape 2.4) and, computed, what the data of a case allow at best."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from compare_score import Alike, codes, contents, visible
from edits import Base, Case, numbers

CLAIM = -6.0
"""log10 of the error at which `compare` states a relation of rows (its default)."""

SAMPLE = 4_000
"""Suspect rows, and other rows of the source, that a limit is computed on."""

EXACT = {"e00", "e01", "e02", "e03", "e04", "e05", "e06", "e07", "e12", "e13"}
RELATIONS = {
    **dict.fromkeys(("e01", "e02", "e03", "e06", "e07", "e08", "e09", "e10", "e11", "e14"), ("same-rows",)),
    "e00": ("identical",), "e04": ("subset",), "e05": ("subset",), "e12": ("overlap",), "e13": ("overlap",),
    "e15": ("derived",), "e16": ("same-schema", "unrelated"),
}  # fmt: skip
"""Relations that are true of a case."""


# --- what the data allow ---------------------------------------------------------------------------


def twin_share(base: Base, case: Case) -> float:
    """Return the share of other rows of the source whose visible content the original has too.

    (k + 1) / (n + 1) of up to 4,000 of them. A row like that is there by chance alone: n rows found are
    worth n times its logarithm at most.
    """
    names = visible(case)
    step = max(1, base.others.num_rows // SAMPLE)
    others = base.others.select(names).take(pa.array(np.arange(0, base.others.num_rows, step)))
    both = contents(
        pa.concat_tables([base.original.select(names), others.cast(base.original.select(names).schema)])
    )
    n = base.original.num_rows
    return (int(np.isin(both[n:], both[:n]).sum()) + 1) / (len(both) - n + 1)


def oracle_recall(base: Base, case: Case, alike: Alike) -> float | None:
    """Return the share of rows found by one who knows the column map and the noise of every column.

    The nearest original row, columns scaled by their noise (where nothing was done: one value is a world
    away from the next), on up to 4,000 rows; None for cases without noise. With equal noise in all rows this
    is the most likely row.
    """
    sds = {n: float(s.split()[1]) for n, s in case.steps.items() if s.startswith("noise")}
    if not sds:
        return None
    from scipy.spatial import cKDTree

    sides: list[tuple[np.ndarray, np.ndarray]] = []
    for suspect, original in case.columns.items():
        if suspect in sds:
            a, b = numbers(base.original, original), numbers(case.suspect, suspect)
            sides.append((np.nan_to_num(a / sds[suspect], nan=1e9), np.nan_to_num(b / sds[suspect], nan=1e9)))
        else:
            both = pa.chunked_array(
                [base.original[original].combine_chunks(), case.suspect[suspect].combine_chunks()]
            )
            coded = codes(both) * 1e3
            sides.append((coded[: base.original.num_rows], coded[base.original.num_rows :]))
    rows = np.flatnonzero(case.rows >= 0)
    rows = rows[:: max(1, len(rows) // SAMPLE)]
    tree = cKDTree(np.stack([a for a, _ in sides], axis=1), balanced_tree=False, compact_nodes=False)
    reach = 6 * math.sqrt(len(sds))
    _, nearest = tree.query(np.stack([b[rows] for _, b in sides], axis=1), distance_upper_bound=reach)
    found = nearest < base.original.num_rows
    return float(alike.right((rows[found], nearest[found])).sum() / len(rows))


def facts(base: Base, case: Case, alike: Alike) -> dict[str, Any]:
    """Return what can be known at best of a case.

    ``single``: share of the rows to be found whose visible content stands once in the original;
    ``best_log10_p``: of all of them found, against other rows of the same source; ``constant``: columns that
    show one value; ``oracle``: see :func:`oracle_recall`.
    """
    known = case.rows >= 0
    there = int(known.sum())
    counts = np.bincount(alike.original)
    share = twin_share(base, case)
    return {
        "rows": case.suspect.num_rows, "columns": case.suspect.num_columns, "true_rows": there,
        "single": float((counts[alike.original[case.rows[known]]] == 1).mean()) if there else None,
        "twin_share": share, "best_log10_p": round(there * math.log10(share), 2),
        "constant": sum(bool((c == c[:1]).all()) for c in map(codes, case.suspect.columns)),
        "oracle": oracle_recall(base, case, alike),
    }  # fmt: skip


# --- marks -----------------------------------------------------------------------------------------


def marks(case: str, found: Mapping[str, Any], limit: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the pass marks of a case: ``what, value, bar, met``, and ``limit`` where the data cap the value.

    ``beyond`` says that the cap lies below the bar: the mark cannot be met by anyone.
    """
    rows, columns, steps = found["rows"], found["columns"], found["steps"]
    # Rows of which every one is there by chance support no claim, however many are found.
    chance = 0.0 if limit["true_rows"] and limit["best_log10_p"] > CLAIM else None
    made: list[dict[str, Any]] = []

    def at_least(what: str, value: float | None, bar: float, cap: float | None = None) -> None:
        beyond = cap is not None and cap < bar
        met = value is not None and value >= bar
        made.append({"what": what, "value": value, "bar": bar, "met": met, "limit": cap, "beyond": beyond})

    if case in EXACT:
        at_least("row recall", rows["recall"], 0.99, chance)
        at_least("row precision", rows["precision"], 0.99, chance)
        at_least("column F1", columns["f1"], 0.97, chance)
    if case in {"e08", "e09", "e10"}:
        at_least("row recall", rows["recall"], 0.95, chance if chance is not None else limit["oracle"])
    if case == "e11":
        p = found["log10_p"]
        at_least("row recall, or p < 1e-9", 1.0 if p is not None and p < -9 else rows["recall"], 0.8,
                 chance if chance is not None else limit["oracle"])  # fmt: skip
    if case == "e14":
        at_least("row recall", rows["recall"], 0.99, chance)
    if case in {"e06", "e07", "e08", "e09", "e14"} and steps["true"]:
        what = {"e06": "factors named", "e07": "factors named", "e14": "formats listed"}.get(
            case, "steps named"
        )
        at_least(what, steps["right"] / steps["true"], 1.0, chance)
    if case == "e15":
        at_least("called derived", float(found["relation"] == "derived"), 1.0)
        at_least("key of the groups named", float(steps["by"]), 1.0)
        at_least("functions named", steps["right"] / steps["true"], 1.0)
    if case == "e16":
        at_least("no relation claimed", float(found["relation"] in RELATIONS["e16"]), 1.0)
    return made
