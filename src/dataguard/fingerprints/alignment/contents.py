"""Rows whose content is there: the part of an alignment that needs no search.

Most rows of a plain copy equal an original row in every matched column. They are found by joining
contents; where several original rows have that content, nothing tells them apart but their place, so that
they are matched one to one, in order.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dataguard.fingerprints.alignment.sides import Sides

__all__ = ["Contents", "assign_in_order", "join_contents"]

B = NDArray[np.bool_]
I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]

_ORDERED = 0.9
"""Share of neighbouring matched rows in ascending order from which on the order of rows counts."""


@dataclass(frozen=True, slots=True)
class Contents:
    """Which original rows have the content of which suspect row.

    Attributes
    ----------
    members : (n,) int64
        Original rows, grouped by content; ascending within a group.
    start : (groups + 1,) int64
        Where each group begins among `members`.
    group : (m,) int64
        Group of each suspect row; -1 where no original row has its content.
    """

    members: I64
    start: I64
    group: I64

    @property
    def count(self) -> I64:
        """(m,) int64: original rows with the content of each suspect row."""
        size = np.append(np.diff(self.start), 0)  # group -1 takes the last place
        count: I64 = size[self.group]
        return count

    @property
    def first(self) -> I64:
        """(m,) int64: the first of them; -1 where there is none."""
        if not len(self.members):
            return np.full(len(self.group), -1, np.int64)
        return np.where(self.group >= 0, self.members[self.start[np.maximum(self.group, 0)]], -1)


def join_contents(sides: Sides) -> Contents:
    """Return which original rows equal which suspect rows in all columns."""
    from dataguard.fingerprints.alignment._kernels import content_hashes

    n, m = sides.original.shape[1], sides.rows
    left, right = np.empty(n, np.uint64), np.empty(m, np.uint64)
    known = np.empty(max(n, m), np.bool_)
    content_hashes(sides.original, left, known[:n])
    content_hashes(sides.suspect, right, known[:m])
    members = np.argsort(left, kind="stable").astype(np.int64)
    ordered = left[members]
    start = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]])[:n])
    values = ordered[start]
    at = np.minimum(np.searchsorted(values, right), max(0, len(values) - 1))
    found = known[:m] & (values[at] == right) if len(values) else np.zeros(m, np.bool_)
    return Contents(members, np.append(start, n).astype(np.int64), np.where(found, at, -1).astype(np.int64))


def assign_in_order(contents: Contents, rows: I64, suspect_row: I64, original_row: I64) -> I64:
    """Match tied rows one to one.

    Parameters
    ----------
    contents : Contents
    rows : (t,) int64
        Suspect rows, ascending, whose content several original rows have.
    suspect_row, original_row : (k,) int64
        Rows already matched, by ascending suspect row. Where they kept their order, a tied row goes behind
        the one before it.

    Returns
    -------
    (t,) int64
        Original rows; -1 where more suspect than original rows have a content.
    """
    from dataguard.fingerprints.alignment._kernels import assign_ties

    used = np.zeros(len(contents.members), np.bool_)
    used[original_row] = True
    least = np.full(len(rows), -1, np.int64)
    if len(original_row) > 1 and (np.diff(original_row) > 0).mean() >= _ORDERED:
        before = np.searchsorted(suspect_row, rows) - 1
        least = np.where(before >= 0, original_row[np.maximum(before, 0)], -1)
    out = np.full(len(rows), -1, np.int64)
    for floor in (least, np.full(len(rows), -1, np.int64)):
        left = np.flatnonzero(out < 0)
        group = contents.group[rows[left]]
        order = np.argsort(group, kind="stable")
        found = np.empty(len(left), np.int64)
        assign_ties(group[order], floor[left][order], contents.start, contents.members, used, found)
        out[left[order]] = found
        if (floor < 0).all():
            break
    return out
