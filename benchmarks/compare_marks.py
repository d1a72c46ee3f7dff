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


def combination_share(base: Base, case: Case) -> float:
    """Return the share of all combinations of the visible columns' values that stand in the original.

    Of a full Cartesian product of categories every combination is there: a row can be had by trying. Of one
    column there are no combinations: 0.
    """
    if len(visible(case)) < 2:
        return 0.0
    table = base.original.select(visible(case))
    product = math.prod(len(np.unique(codes(table[name]))) for name in table.column_names)
    return len(np.unique(contents(table))) / product


def _scaled(
    base: Base, case: Case, sds: Mapping[str, float], other: pa.Table
) -> tuple[np.ndarray, np.ndarray]:
    """Return original rows and rows of another table (columns named as the suspect's) as points.

    A noisy column counts in standard deviations of its noise; in the others one value is a world away from
    the next. Shapes (n, columns) and (m, columns), float64.
    """
    sides = []
    for suspect, original in case.columns.items():
        a, b = base.original[original], other[suspect]
        if suspect in sds:
            pair = numbers(base.original, original) / sds[suspect], numbers(other, suspect) / sds[suspect]
            sides.append(tuple(np.nan_to_num(x, nan=1e9) for x in pair))
        else:
            coded = codes(pa.chunked_array([a.combine_chunks(), b.combine_chunks()])) * 1e3
            sides.append((coded[: len(a)], coded[len(a) :]))
    return np.stack([a for a, _ in sides], axis=1), np.stack([b for _, b in sides], axis=1)


def oracle(base: Base, case: Case, alike: Alike) -> tuple[float | None, float | None]:
    """Return how far one gets who knows the column map and the noise of every column; None without noise.

    The share of up to 4,000 rows whose nearest original row is the right one (with equal noise in all rows the
    nearest is the likeliest), and log10 p of the two-sample Kolmogorov-Smirnov test between the distances of
    these rows to their nearest original row and those of as many other rows of the source with the same noise:
    p = 2 exp(-2 D^2 n m / (n + m)) (Smirnov 1948, first term).
    """
    sds = {n: float(s.split()[1]) for n, s in case.steps.items() if s.startswith("noise")}
    if not sds:
        return None, None
    from scipy.spatial import cKDTree
    from scipy.stats import ks_2samp

    rows = np.flatnonzero(case.rows >= 0)
    rows = rows[:: max(1, len(rows) // SAMPLE)]
    originals, suspects = _scaled(base, case, sds, case.suspect.take(pa.array(rows)))
    tree = cKDTree(originals, balanced_tree=False, compact_nodes=False)
    reach = 6 * math.sqrt(len(sds))
    distance, nearest = tree.query(suspects, distance_upper_bound=reach)
    found = nearest < len(originals)
    recall = float(alike.right((rows[found], nearest[found])).sum() / len(rows))
    others = _noised_others(base, case, sds)
    far, _ = tree.query(_scaled(base, case, sds, others)[1], distance_upper_bound=reach)
    n, m = len(distance), len(far)
    d = float(ks_2samp(np.minimum(distance, reach), np.minimum(far, reach), method="asymp").statistic)
    return recall, min(0.0, math.log10(2) - 2 * d * d * n * m / (n + m) * math.log10(math.e))


def _noised_others(base: Base, case: Case, sds: Mapping[str, float]) -> pa.Table:
    """Return up to 4,000 other rows of the source with a case's noise, columns named as the suspect's."""
    step = max(1, base.others.num_rows // SAMPLE)
    taken = base.others.take(pa.array(np.arange(0, base.others.num_rows, step)))
    table = taken.select(list(case.columns.values())).rename_columns(list(case.columns))
    rng = np.random.default_rng(1)
    for at, name in enumerate(table.column_names):
        if name in sds:
            values = numbers(table, name)
            noisy = values + sds[name] * rng.standard_normal(len(values))
            table = table.set_column(at, name, pa.array(noisy, from_pandas=True))
    return table


def facts(base: Base, case: Case, alike: Alike) -> dict[str, Any]:
    """Return what can be known at best of a case.

    ``single``: share of the rows to be found whose visible content stands once in the original;
    ``best_log10_p``: of all of them found, against rows that are there by chance: other rows of the same source
    or any combination of the values, whichever is likelier; ``constant``: columns that show one value;
    ``oracle`` and ``oracle_log10_p``: see :func:`oracle`.
    """
    known = case.rows >= 0
    there = int(known.sum())
    counts = np.bincount(alike.original)
    recall, log10_p = oracle(base, case, alike)
    twins, combinations = twin_share(base, case), combination_share(base, case)
    return {
        "rows": case.suspect.num_rows, "columns": case.suspect.num_columns, "true_rows": there,
        "single": float((counts[alike.original[case.rows[known]]] == 1).mean()) if there else None,
        "twin_share": twins, "combination_share": combinations,
        "best_log10_p": round(there * math.log10(max(twins, combinations)), 2) + 0.0,
        "constant": sum(bool((c == c[:1]).all()) for c in map(codes, case.suspect.columns)),
        "oracle": recall, "oracle_log10_p": None if log10_p is None else round(log10_p, 2),
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
        p, reached = found["log10_p"], limit["oracle_log10_p"]
        value = 1.0 if p is not None and p < -9 else rows["recall"]
        # Who knows all finds too few rows, but might still show that they are copies.
        cap = 1.0 if reached is not None and reached < -9 else limit["oracle"]
        at_least("row recall, or p < 1e-9", value, 0.8, chance if chance is not None else cap)
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
