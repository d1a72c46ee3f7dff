"""Rows that anybody can have: what a suspect shares with public data is left out before it is compared.

Leaving a row out can only help whoever holds the suspect. A row that stands in a public table as it is is
left out without further question; a changed one only when the alignment with that table is beyond
chance, or any table of the same kind could empty a suspect.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dataguard.carrier import Alignment
from dataguard.fingerprints.alignment.profiles import profile_column
from dataguard.fingerprints.alignment.sides import make_sides
from dataguard.fingerprints.comparison.contrasts import other_rows, random_pairing
from dataguard.values import CanonicalTable, mix64

__all__ = ["PublicFile", "PublicRows", "chance_of", "public_rows"]

B = NDArray[np.bool_]
I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]

Align = Callable[[CanonicalTable, CanonicalTable], Alignment]
Chance = Callable[[CanonicalTable, CanonicalTable, Alignment], float | None]


@dataclass(frozen=True, slots=True)
class PublicFile:
    """What a suspect shares with one public table.

    Attributes
    ----------
    rows : int
        Of the public table.
    columns : int
        Columns of the suspect that are columns of it.
    log10_p : float or None
        The worse of the two contrasts; None where they were not computed.
    beyond_chance : bool
        Whether that is at most log10 of alpha over the number of public tables.
    same : int
        Suspect rows that stand in it as they are: in all their columns.
    found : int
        Suspect rows that are left out because of it; with an alignment no better than chance, those of `same`.
    new : int
        Of these, rows that no table before it holds.
    """

    rows: int
    columns: int
    log10_p: float | None
    beyond_chance: bool
    same: int
    found: int
    new: int


@dataclass(frozen=True, slots=True)
class PublicRows:
    """Which rows of a suspect are freely available.

    Attributes
    ----------
    public : (m,) bool
    files : tuple of PublicFile
        In the order given.
    alpha : float
        Shared among all public tables.
    """

    public: B
    files: tuple[PublicFile, ...]
    alpha: float

    @property
    def kept(self) -> I64:
        """(k,) int64: the rows that are left."""
        return np.flatnonzero(~self.public)


@dataclass(frozen=True, slots=True)
class _Share:
    """Of one public table: the file without its verdict, and the rows either way."""

    rows: int
    columns: int
    log10_p: float | None
    same: B
    aligned: B


def public_rows(
    suspect: CanonicalTable,
    publics: Iterable[CanonicalTable],
    align: Align,
    alpha: float = 1e-6,
    chance: Chance | None = None,
) -> PublicRows:
    """Return which rows of a suspect occur in public tables.

    Parameters
    ----------
    suspect : CanonicalTable
    publics : iterable of CanonicalTable
        Held one at a time.
    align : callable
        ``align(original, suspect) -> Alignment``: the engine that the comparison itself uses.
    alpha : float
        Over all public tables: each is tested at `alpha` over their number.
    chance : callable, optional
        ``chance(public, suspect, alignment) -> log10 p``; by default :func:`chance_of`.
    """
    measure = chance_of if chance is None else chance
    shares = [_share(public, suspect, align, measure) for public in publics]
    limit = math.log10(alpha / max(1, len(shares)))
    taken, files = np.zeros(suspect.rows, np.bool_), []
    for share in shares:
        beyond = share.log10_p is not None and share.log10_p <= limit
        found = share.same | share.aligned if beyond else share.same
        new = int((found & ~taken).sum())
        taken |= found
        files.append(
            PublicFile(
                share.rows, share.columns, share.log10_p, beyond, int(share.same.sum()), int(found.sum()), new
            )
        )
    return PublicRows(taken, tuple(files), alpha)


def _share(public: CanonicalTable, suspect: CanonicalTable, align: Align, chance: Chance) -> _Share:
    alignment = align(public, suspect)
    aligned = np.zeros(suspect.rows, np.bool_)
    aligned[alignment.suspect_row] = True
    aligned[alignment.tied_suspect] = True
    there = _contained(public, suspect, alignment)
    whole = 0 < len(suspect.columns) == len(alignment.columns)
    plain = all(c.through is None for c in alignment.columns)
    same = there if whole and plain else np.zeros(suspect.rows, np.bool_)
    # Of several public rows that fit equally well none is matched; their content is public all the same.
    log10_p = chance(public, suspect, alignment) if len(alignment.suspect_row) else None
    return _Share(public.rows, len(alignment.columns), log10_p, same, aligned | there)


def _contained(public: CanonicalTable, suspect: CanonicalTable, alignment: Alignment) -> B:
    """Return which suspect rows equal some public row in all matched columns, as seen through their maps."""
    if not alignment.columns or not public.rows:
        return np.zeros(suspect.rows, np.bool_)
    profiles = {c.original: profile_column(public.columns[c.original]) for c in alignment.columns}
    listed = [profiles.get(i) or next(iter(profiles.values())) for i in range(len(public.columns))]
    sides = make_sides(listed, suspect, alignment.columns)
    left, right = np.zeros(public.rows, np.uint64), np.zeros(suspect.rows, np.uint64)
    known = np.ones(suspect.rows, np.bool_)
    for c, profile in enumerate(sides.profiles):
        left = mix64(left ^ sides.original[c])
        right = mix64(right ^ sides.suspect[c])
        known &= sides.suspect[c] < len(profile.values)
    found: B = known & np.isin(right, left)
    return found


def chance_of(public: CanonicalTable, suspect: CanonicalTable, alignment: Alignment) -> float | None:
    """Return the worse log10 p of the two contrasts; None where one of them cannot be had."""
    profiles = [profile_column(c) for c in public.columns]
    found = (
        other_rows(profiles, suspect, alignment.columns),
        random_pairing(profiles, suspect, alignment.columns),
    )
    known = [f.log10_p for f in found if f is not None and f.log10_p is not None]
    return max(known) if len(known) == len(found) else None
