"""Row ids across versions of a table: a row keeps its id while its content stays."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dataguard.values import CanonicalTable, mix64

__all__ = ["inherit_ids"]

I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]


def inherit_ids(old: CanonicalTable, old_ids: U64, new: CanonicalTable, next_id: int) -> U64:
    """Return row ids of a new version: rows found in the old one keep theirs, other rows get fresh ones.

    A row is found by a key column, one whose cells are all present and distinct in both
    versions, so that a corrected cell elsewhere does not make it another row. Without a key
    it is found by its content in all shared columns; among equal rows the first inherits
    from the first, and so on.

    Parameters
    ----------
    old : CanonicalTable
    old_ids : (old rows,) uint64
    new : CanonicalTable
    next_id : int
        First id never used in this lineage.
    """
    shared = [name for name in new.names if name in old.names]
    by = _key_column(old, new, shared)
    ids = np.zeros(new.rows, np.uint64)
    known = np.zeros(new.rows, np.bool_)
    if shared:
        names = [by] if by is not None else shared
        _, code = np.unique(np.concatenate([_row_hash(t, names) for t in (old, new)]), return_inverse=True)
        before, after = (_ranked(c) for c in (code[: old.rows], code[old.rows :]))
        order = np.lexsort(before.T[::-1])
        at = _search(before[order], after)
        known = at >= 0
        ids[known] = old_ids[order[at[known]]]
    ids[~known] = next_id + np.arange(int((~known).sum()), dtype=np.uint64)
    return ids


def _key_column(old: CanonicalTable, new: CanonicalTable, shared: list[str]) -> str | None:
    """Return the first shared column that is a key in both versions and names mostly the same rows."""
    for name in shared:
        a, b = old.column(name).key, new.column(name).key
        if (a == 0).any() or (b == 0).any():
            continue
        if len(np.unique(a)) == len(a) and len(np.unique(b)) == len(b):
            common = len(np.intersect1d(a, b, assume_unique=True))
            if common >= min(len(a), len(b)) / 2:
                return name
    return None


def _row_hash(table: CanonicalTable, names: list[str]) -> U64:
    """Return one 64-bit hash per row; unequal rows share one with a chance below n**2 / 2**65."""
    state = np.zeros(table.rows, np.uint64)
    for name in names:
        state = mix64(state ^ table.column(name).key)
    return state


def _ranked(code: I64) -> I64:
    """Return (n, 2): class of each row, and its rank among the rows of that class."""
    order = np.argsort(code, kind="stable")
    starts = np.r_[0, np.flatnonzero(np.diff(code[order])) + 1] if len(code) else np.empty(0, np.int64)
    rank = np.empty(len(code), np.int64)
    rank[order] = np.arange(len(code)) - np.repeat(starts, np.diff(np.r_[starts, len(code)]))
    return np.stack([code, rank], axis=1)


def _search(ranked: I64, wanted: I64) -> I64:
    """Return the position in `ranked` (sorted rows of two columns) of each wanted row, or -1."""
    width = int(max(ranked[:, 1].max(initial=0), wanted[:, 1].max(initial=0))) + 1
    have, want = (a[:, 0] * width + a[:, 1] for a in (ranked, wanted))
    at = np.minimum(np.searchsorted(have, want), max(0, len(have) - 1))
    return (
        np.where(have[at] == want, at, -1).astype(np.int64) if len(have) else np.full(len(want), -1, np.int64)
    )
