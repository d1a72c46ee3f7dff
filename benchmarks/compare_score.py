"""What a program said of an edit case, against the truth: rows, columns, steps. The same for every program.

Rows that look alike in the columns a suspect shows cannot be told apart by anyone, nor can columns that
hold the same in every row that was copied: mistaking one for the other is no mistake.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from edits import Base, Case, numbers

Pairs = tuple[np.ndarray, np.ndarray]


def codes(column: pa.ChunkedArray) -> np.ndarray:
    """Return a number per distinct value, (n,) int64; -1 for missing cells."""
    coded = column.combine_chunks().dictionary_encode()
    return pc.fill_null(coded.indices, -1).to_numpy(zero_copy_only=False).astype(np.int64)


def contents(table: pa.Table) -> np.ndarray:
    """Return the same number for rows that hold the same in all columns, (n,) int64; exact, no hashes."""
    group = np.zeros(table.num_rows, np.int64)
    for name in table.column_names:
        own = codes(table[name]) + 1
        _, group = np.unique(group * (own.max(initial=0) + 1) + own, return_inverse=True)
    return group


def visible(case: Case) -> list[str]:
    """Return the original columns that a suspect shows."""
    return list(dict.fromkeys(case.columns.values()))


class Alike:
    """Which suspect row looks like which original row.

    Attributes
    ----------
    original : (n,) int64
        Content of the original rows in the columns the suspect shows.
    suspect : (m,) int64 or None
        Content of the suspect's rows in the same numbering, where values were left as they are.
    shown : (n,) int64
        Content of the suspect row made of an original row (-1: none was): rounding makes rows alike.
    """

    def __init__(self, base: Base, case: Case):
        names = visible(case)
        n = base.original.num_rows
        left = base.original.select(names)
        self.suspect: np.ndarray | None = None
        if case.steps:
            self.original = contents(left)
        else:
            of = {original: suspect for suspect, original in case.columns.items()}
            right = case.suspect.select([of[name] for name in names]).rename_columns(names).cast(left.schema)
            both = contents(pa.concat_tables([left, right]))
            self.original, self.suspect = both[:n], both[n:]
        self.true = case.rows
        seen = contents(case.suspect.select(list(case.columns)))
        self.seen = seen
        self.shown = np.full(n, -1)
        known = case.rows >= 0
        self.shown[case.rows[known]] = seen[known]

    def right(self, pairs: Pairs) -> np.ndarray:
        """Return which pairs are right, (k,) bool."""
        s, o = pairs
        true = self.true[s]
        same = self.original[o] == self.original[np.maximum(true, 0)]
        return (true >= 0) & (same | (self.shown[o] == self.seen[s]))

    def twins(self, pairs: Pairs) -> np.ndarray:
        """Return which pairs join a foreign row to an original row of the same content, (k,) bool."""
        s, o = pairs
        if self.suspect is None:
            return np.zeros(len(s), bool)
        return (self.true[s] < 0) & (self.suspect[s] == self.original[o])


def score_rows(alike: Alike, case: Case, pairs: Pairs) -> dict[str, Any]:
    """Return recall and precision of pairs of rows.

    Pairs of a foreign row with its twin are neither right nor wrong: no one could know.
    """
    right, twins = alike.right(pairs), alike.twins(pairs)
    there = int((case.rows >= 0).sum())
    judged = len(right) - int(twins.sum())
    found = len(np.unique(pairs[0][right]))
    return {
        "claimed": len(right), "right": found, "twins": int(twins.sum()), "true": there,
        "recall": found / there if there else None, "precision": int(right.sum()) / judged if judged else None,
    }  # fmt: skip


def score_columns(base: Base, case: Case, said: Mapping[str, str]) -> dict[str, Any]:
    """Return precision, recall and F1 of a column map, suspect to original."""
    rows = pa.array(np.unique(case.rows[case.rows >= 0]))
    shown = base.original.take(rows)

    def same(a: str, b: str) -> bool:
        if a == b:
            return True
        if not len(rows) or a not in shown.column_names:
            return False
        return shown[a].cast(pa.string()).equals(shown[b].cast(pa.string()))

    right = sum(suspect in case.columns and same(o, case.columns[suspect]) for suspect, o in said.items())
    true = len(case.columns)
    f1 = 2 * right / (len(said) + true) if said or true else None
    return {"right": right, "said": len(said), "true": true, "f1": f1}


# --- steps -----------------------------------------------------------------------------------------

DONE = {"affine", "function", "rounded", "noise", "format", "recoded", "hashed", "truncated", "clipped", "split",
        "merged"}  # fmt: skip
"""Kinds of change that say what was done to a column."""

Changes = Sequence[Mapping[str, Any]]


def scale_tolerance(values: np.ndarray, decimals: int) -> float:
    """Return how exactly a factor can be read off rounded values, relative.

    Both ends of the range are known to half a unit of the last decimal: one unit over the range; never
    finer than 1e-6, never coarser than 1e-3.
    """
    width = float(np.nanmax(values) - np.nanmin(values)) if np.isfinite(values).any() else 0.0
    return float(np.clip(10.0**-decimals / width, 1e-6, 1e-3)) if width > 0 else 1e-3


def _affine(step: Sequence[str], changes: Changes, values: np.ndarray) -> bool:
    scale, shift, decimals = float(step[0]), float(step[1]), int(step[2])
    tolerance = scale_tolerance(values, decimals)
    reach = float(np.nanmax(np.abs(values), initial=0.0))
    for c in changes:
        if c["kind"] == "affine":
            off = abs(float(c.get("scale", 1.0)) - scale) / abs(scale)
            moved = abs(float(c.get("offset", 0.0)) - shift)
            return off <= tolerance and moved <= 10.0**-decimals + tolerance * reach
    return False


def named_right(step: str, changes: Changes, values: np.ndarray) -> bool:
    """Return whether the changes said of a column name the step; `values` are those of the suspect, (n,) float64."""
    kind, *rest = step.split()
    if kind == "affine":
        return _affine(rest, changes, values)
    if kind == "rounded":
        size = float(rest[0])
        said = [c.get("step", 0) for c in changes if c["kind"] == kind]
        # Steps of times are words.
        return any(not isinstance(s, str) and abs(float(s) / size - 1) <= 1e-9 for s in said)
    if kind == "noise":
        sd = float(rest[0])
        return any(c["kind"] == kind and abs(float(c.get("sd", 0)) / sd - 1) <= 0.2 for c in changes)
    return any(c["kind"] == kind for c in changes)


def tellable(case: Case, name: str, step: str) -> bool:
    """Return whether a step can be read off a column: of numbers, at least three values must be there.

    Any two values become any other two by some scale and shift.
    """
    return step.startswith("format") or pc.count_distinct(case.suspect[name]).as_py() >= 3


def score_steps(case: Case, columns: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return how many steps were named right, how many there were, and columns said changed where nothing was done.

    Parameters
    ----------
    case : Case
    columns : sequence of mapping
        ``original, suspect, changes`` of each matched pair, as the command prints them.
    """
    said = {c["suspect"]: c["changes"] for c in columns if case.columns.get(c["suspect"]) == c["original"]}
    steps = {n: s for n, s in case.steps.items() if tellable(case, n, s)}
    missed = []
    for name, step in steps.items():
        values = np.empty(0) if step == "format" else numbers(case.suspect, name)
        if not named_right(step, said.get(name, ()), values):
            missed.append(f"{case.columns[name]}: {step}")
    wrong = [
        case.columns[n] for n, changes in said.items()
        if n not in case.steps and any(c["kind"] in DONE for c in changes)
    ]  # fmt: skip
    return {"right": len(steps) - len(missed), "true": len(steps), "missed": missed, "wrong": wrong}


def score_aggregate(base: Base, case: Case, document: Mapping[str, Any]) -> dict[str, Any]:
    """Return whether the grouping column and each function of an aggregate were named.

    A function that gives the same values in every group (the largest and the mean of a constant) is right too.
    """
    by = base.group[0]
    change = next((c for c in document["changes"] if c["kind"] == "aggregated"), {})
    said = {f["suspect"]: f for f in change.get("functions", ())}
    missed = []
    for name, step in case.steps.items():
        function, *source = step.split(maxsplit=1)
        f = said.get(name, {})
        named = f.get("function") == function and (not source or f.get("original") == source[0])
        if not named and not _gives(base, case, name, f):
            missed.append(f"{name}: {step}")
    keys = [k["original"] for k in change.get("by", ())]
    right = len(case.steps) - len(missed)
    return {"by": keys == [by], "right": right, "true": len(case.steps), "missed": missed, "wrong": []}


def _gives(base: Base, case: Case, name: str, said: Mapping[str, Any]) -> bool:
    """Return whether a function said of an aggregated column gives its values."""
    function, source = said.get("function"), said.get("original")
    if function not in {"count", "max", "mean", "min", "sum"} or source not in base.original.column_names:
        return False
    groups = base.original.group_by(base.group[0], use_threads=False).aggregate([(source, function)])
    a, b = numbers(groups, f"{source}_{function}"), numbers(case.suspect, name)
    return bool(np.allclose(a, b, rtol=1e-9, atol=0, equal_nan=True))
