"""A suspect made of several registered datasets and versions, split into shares.

Rows of a mixture are explained by the dataset that explains most, the rest by the next, and so on, as
metagenomes are split into known genomes ("gather": Irber et al., "Lightweight compositional analysis of
metagenomes with FracMinHash and minimum metagenome covers", bioRxiv 2022). Every row is counted once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dataguard.model import plain

__all__ = ["Decomposition", "Part", "PartName", "Share", "decompose"]

B = NDArray[np.bool_]
I64 = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Part:
    """What one version of a dataset explains of a suspect; handed in only if its own relation is claimed.

    Attributes
    ----------
    name : str
        Of the dataset.
    version : int
    rows : (k,) int64
        Suspect rows that correspond to rows of it, ascending and distinct.
    exact : (k,) int64
        How well each does: cells that are equal, or anything of which more is better.
    original_rows : int
        Rows of the dataset.
    least : int
        Fewest rows with which its own test would still have claimed a relation: it is left out where it adds
        fewer.
    """

    name: str
    version: int
    rows: I64
    exact: I64
    original_rows: int
    least: int = 1


@dataclass(frozen=True, slots=True)
class PartName:
    """A part, and how many rows are meant.

    Attributes
    ----------
    name : str
    version : int
    rows : int
    """

    name: str
    version: int
    rows: int


@dataclass(frozen=True, slots=True)
class Share:
    """One part of a decomposition.

    Attributes
    ----------
    name : str
    version : int
    rows, share : int, float
        Suspect rows that it explains, whether or not another part does, and their share of the suspect.
    added, added_share : int, float
        Of these, what no part before it explains: these add up over the parts.
    unique : int
        Of these, what no other part explains, listed or not.
    of_original : float
        `rows` over the dataset's rows; above 1 where the suspect repeats rows.
    shared_with : tuple of PartName
        Other parts that explain some of its rows, most first: other versions of it, as a rule.
    """

    name: str
    version: int
    rows: int
    share: float
    added: int
    added_share: float
    unique: int
    of_original: float
    shared_with: tuple[PartName, ...]


@dataclass(frozen=True, slots=True)
class Decomposition:
    """A suspect as a sum of parts.

    Attributes
    ----------
    rows : int
        Rows of the suspect.
    parts : tuple of Share
        In the order in which they were taken.
    covered : tuple of PartName
        Parts that add too little to those taken, with what they would add.
    unexplained, unexplained_share : int, float
        Rows that no part taken explains.
    minimum : int
        Fewest rows a part had to add.
    """

    rows: int
    parts: tuple[Share, ...]
    covered: tuple[PartName, ...]
    unexplained: int
    unexplained_share: float
    minimum: int

    def to_dict(self) -> dict[str, Any]:
        """Return the decomposition as JSON types."""
        shown = plain(self)
        assert isinstance(shown, dict)
        return shown


def decompose(parts: Sequence[Part], rows: int, minimum: int = 1) -> Decomposition:
    """Split a suspect into parts, greedily.

    Parameters
    ----------
    parts : sequence of Part
        In any order: the result is the same.
    rows : int
        Rows of the suspect.
    minimum : int
        Fewest rows that a part must add; each part's own `least` holds besides.

    Returns
    -------
    Decomposition

    Notes
    -----
    At each turn the part is taken that explains most rows not yet explained; among equals, the one with
    more equal cells in these rows, then the newer version, then the first by name, the one of the smaller
    dataset, and the one that explains more rows. Rows of two versions count for the one taken first.
    """
    explained = np.zeros(rows, np.bool_)
    open_parts = sorted(parts, key=_fixed)
    bound = [len(p.rows) for p in open_parts]
    taken: list[tuple[Part, int]] = []
    while open_parts:
        best = _best(open_parts, bound, explained, max(1, minimum))
        if best is None:
            break
        part = open_parts.pop(best)
        taken.append((part, bound.pop(best)))
        explained[part.rows] = True
    times = np.zeros(rows, np.int64)
    for part in parts:
        times[part.rows] += 1
    left = [PartName(p.name, p.version, int((~explained[p.rows]).sum())) for p in open_parts]
    rest = rows - int(explained.sum())
    return Decomposition(
        rows,
        tuple(_share(part, added, parts, times) for part, added in taken),
        tuple(left),
        rest,
        rest / max(1, rows),
        max(1, minimum),
    )


def _fixed(part: Part) -> tuple[int, str, int, int, bytes]:
    """Order parts by what does not change from turn to turn; equal ones are equal in all that is shown."""
    return -part.version, part.name, part.original_rows, -len(part.rows), part.rows.tobytes()


def _best(parts: list[Part], bound: list[int], explained: B, minimum: int) -> int | None:
    """Return which part to take next; what each adds is written to `bound`, which never rises (lazy greedy)."""
    best: int | None = None
    merit = (0, 0)
    for i, part in enumerate(parts):
        least = max(minimum, part.least)
        if bound[i] < max(merit[0], least):
            continue
        fresh = ~explained[part.rows]
        bound[i] = int(fresh.sum())
        found = bound[i], int(part.exact[fresh].sum())
        if bound[i] >= least and found > merit:
            best, merit = i, found
    return best


def _share(part: Part, added: int, parts: Sequence[Part], times: I64) -> Share:
    own = np.zeros(len(times), np.bool_)
    own[part.rows] = True
    others = [PartName(p.name, p.version, int(own[p.rows].sum())) for p in parts if p is not part]
    others = sorted((o for o in others if o.rows), key=lambda o: (-o.rows, o.name, -o.version))
    rows, whole = len(part.rows), max(1, len(times))
    return Share(
        part.name,
        part.version,
        rows,
        rows / whole,
        added,
        added / whole,
        int((times[part.rows] == 1).sum()),
        rows / max(1, part.original_rows),
        tuple(others),
    )
