"""What a table of groups may be grouped by: suspect columns that name groups of the original's rows.

An aggregation keeps no row, and its names may be gone; but its key is distinct per row, and its values
are those of an original column that repeats them. Such pairs are found by looking up a sample of the
original's rows, so that two wide tables cost one sorted look-up per suspect column, not one join per pair.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from dataguard.cells import NULL, NUMBER, TIME
from dataguard.folding.columns import fold_column
from dataguard.values import Canonical, CanonicalTable, canonical_column, mix64

__all__ = [
    "CONTAINED",
    "MOST_COLUMNS",
    "PARTS",
    "Folding",
    "GroupKey",
    "Pair",
    "Pairs",
    "candidate_keys",
    "distinct",
    "find_pairs",
    "has_own_rows",
    "joint_keys",
    "part_keys",
    "places",
]

B = NDArray[np.bool_]
F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]

PARTS = ("year", "month", "day", "hour", "date")
"""What of a time rows may be grouped by; ``date`` is the day itself."""

UNIQUE = 0.99
"""Share of the suspect's rows whose key must be distinct: a table of groups has one row per group."""

CONTAINED = 0.5
"""Share of a key's distinct values that must occur in the original column."""

SEEN = 0.02
"""Share of the original's sampled rows that must belong to groups of the suspect."""

MOST_COLUMNS = 256
"""Suspect columns, and original columns, that are looked at."""

_BEST = 8
_LOOKUPS = 8_000_000
_MOST_TEXTS = 200_000
"""Columns with more distinct texts are not folded (5 microseconds a text): they are taken as they are written."""


@dataclass(frozen=True, slots=True, order=True)
class GroupKey:
    """One column of a key.

    Attributes
    ----------
    original, suspect : int
        Column positions.
    part : str
        One of `PARTS`, where the suspect's column is a part of the original's times; else empty.
    """

    original: int
    suspect: int
    part: str = ""


@dataclass(frozen=True, slots=True)
class Folding:
    """A table whose columns are folded when they are asked for, once each.

    Attributes
    ----------
    table : CanonicalTable
    written : bool
        Whether keys are those of the cells as they are written: 2 % of a shop's article codes differ by case only,
        and are groups of their own. Numbers are read from folded cells in any case.
    """

    table: CanonicalTable
    written: bool = True
    _folded: dict[int, Canonical] = field(default_factory=dict)
    _numeric: dict[int, bool] = field(default_factory=dict)
    _keys: dict[tuple[int, str], U64] = field(default_factory=dict)
    _values: dict[tuple[int, str, bool], pa.Array] = field(default_factory=dict)

    def column(self, position: int) -> Canonical:
        """Return a folded column."""
        if position not in self._folded:
            column = self.table.columns[position]
            self._folded[position] = column if len(column.texts) > _MOST_TEXTS else fold_column(column).column
        return self._folded[position]

    def key(self, position: int, part: str = "") -> U64:
        """Return the (rows,) uint64 cell keys of a column, or of a part of its times."""
        if not part:
            return self.table.columns[position].key if self.written else self.column(position).key
        if (position, part) not in self._keys:
            self._keys[position, part] = part_keys(self.column(position), part)
        return self._keys[position, part]

    def sampled_key(self, position: int, part: str, rows: I64) -> U64:
        """Return the keys of some rows: parts of times are worked out for those only."""
        if not part or (position, part) in self._keys:
            return self.key(position, part)[rows]
        return part_keys(self.column(position).take(rows), part)

    def values(self, position: int, part: str = "") -> pa.Array:
        """Return the distinct keys of a column, as an Arrow array of uint64."""
        as_written = self.written and not part and self.column(position) is not self.table.columns[position]
        at = position, part, as_written
        if at not in self._values:
            self._values[at] = pc.unique(pa.array(self.key(position, part)))
        return self._values[at]

    def number(self, position: int) -> F64:
        """Return the (rows,) float64 numbers of a column; nan where there is no finite one."""
        x = self.column(position).number
        return np.where(np.isfinite(x), x, np.nan)

    def missing(self, position: int) -> B:
        """Return which of a column's cells say nothing, (rows,) bool."""
        missing: B = self.column(position).tag == NULL
        return missing

    def is_numeric(self, position: int) -> bool:
        """Return whether a column's cells are numbers or times, all but one in a hundred."""
        if position not in self._numeric:
            tag = self.column(position).tag
            present = tag[tag != NULL]
            head = bool(np.isin(present[:64], (NUMBER, TIME)).any())
            inside = head and float(np.isin(present, (NUMBER, TIME)).mean()) >= 0.99
            self._numeric[position] = inside
        return self._numeric[position]

    def folded(self) -> Folding:
        """Return the table with keys of what cells mean, not of how they are written."""
        return replace(self, written=False)


def part_keys(column: Canonical, part: str) -> U64:
    """Return the keys of one of `PARTS` of a column's times; 0 for all other cells."""
    timed = column.tag == TIME
    micros = np.where(timed, column.word, np.uint64(0)).view(np.int64)
    moment = micros.view("datetime64[us]")
    day, month = moment.astype("datetime64[D]"), moment.astype("datetime64[M]")
    if part == "date":
        values = pa.array(day.astype("datetime64[us]").astype(np.int64), pa.timestamp("us"))
    else:
        parts = {
            "year": moment.astype("datetime64[Y]").astype(np.int64) + 1970,
            "month": month.astype(np.int64) % 12 + 1,
            "day": (day - month.astype("datetime64[D]")).astype(np.int64) + 1,
            "hour": micros // 3_600_000_000 % 24,
        }
        values = pa.array(parts[part])
    return np.where(timed, canonical_column(values).key, np.uint64(0))


def distinct(keys: U64) -> int:
    """Return how many distinct keys there are."""
    return int(pc.count_distinct(pa.array(keys)).as_py())


def places(keys: U64, known: U64) -> I64:
    """Return where each key stands first among the known ones; -1 where it does not."""
    at = pc.index_in(pa.array(keys), value_set=pa.array(known))
    found: I64 = pc.fill_null(at, -1).to_numpy(zero_copy_only=False).astype(np.int64)
    return found


def joint_keys(parts: Sequence[U64]) -> U64:
    """Return one (rows,) uint64 key for several columns of keys."""
    if len(parts) == 1:
        return parts[0]
    joint = np.zeros(len(parts[0]), np.uint64)
    for keys in parts:
        joint = mix64(joint ^ keys)
    return joint


@dataclass(frozen=True, slots=True)
class Pair:
    """A suspect column whose values occur in an original column.

    Attributes
    ----------
    key : GroupKey
    contained : float
        Share of the suspect's distinct values that occur in the original's.
    alike : float
        Values in common over all values of the two (Jaccard).
    common : float
        Overlap of the frequencies of values, in a sample: large where one column is a part of the other.
    named : bool
        Whether the columns have one name.
    size : int
        Distinct values of the original's column.
    """

    key: GroupKey
    contained: float
    alike: float
    common: float
    named: bool
    size: int

    @property
    def rank(self) -> tuple[bool, float, bool, int, GroupKey]:
        """What pairs are sorted by: values first, then equal names, then the smaller column."""
        return not self.contained >= 0.95, -self.alike, not self.named, self.size, self.key


Pairs = dict[int, list[Pair]]
"""By suspect column."""


def _sampled(rows: int, most: int) -> I64:
    return np.unique(np.linspace(0, max(0, rows - 1), min(rows, most)).astype(np.int64))


def find_pairs(original: Folding, suspect: Folding) -> Pairs:
    """Return, per suspect column, the original columns that hold its values, best first.

    Only the first `MOST_COLUMNS` columns of either table are looked at, and of the original's rows as many,
    evenly spaced, as eight million look-ups allow (4,096 at most).
    """
    columns = range(min(len(original.table.columns), MOST_COLUMNS))
    timed = [o for o in columns if original.column(o).kind == "time"]
    sources = [(o, "") for o in columns] + [(o, part) for o in timed for part in PARTS]
    wanted = range(min(len(suspect.table.columns), MOST_COLUMNS))
    size = int(np.clip(_LOOKUPS // max(1, len(sources) * len(wanted)), 64, 4096))
    rows = _sampled(original.table.rows, size)
    sample = np.stack([original.sampled_key(o, part, rows) for o, part in sources])
    out: dict[int, list[Pair]] = {}
    for s in wanted:
        values, counts = np.unique(suspect.key(s), return_counts=True)
        if len(values) < 2:
            continue
        at = np.minimum(np.searchsorted(values, sample), len(values) - 1)
        met = np.sort(np.where(values[at] == sample, at, -1), axis=1)
        share = (met >= 0).mean(axis=1)
        # Flags hold 0 and 1, and so do most keys: how many values are met counts, too.
        many = (met[:, 0] >= 0) + ((met[:, 1:] != met[:, :-1]) & (met[:, 1:] >= 0)).sum(axis=1)
        common = _common(met, counts / max(1, suspect.table.rows))
        best = np.argsort(-share * many, kind="stable")[:_BEST].tolist()
        best += [i for i in np.argsort(-common, kind="stable")[:2].tolist() if i not in best]
        found = [
            _pair(original, suspect, GroupKey(sources[i][0], s, sources[i][1]), values, float(common[i]))
            for i in best
            if share[i] >= SEEN
        ]
        out[s] = sorted((p for p in found if p.contained >= CONTAINED), key=lambda p: p.rank)
    return out


def _common(met: I64, shares: F64) -> F64:
    """Return the overlap of the suspect's frequencies of values with those met in each source, (sources,)."""
    out = np.empty(len(met))
    for i, found in enumerate(met):
        seen = np.bincount(found[found >= 0], minlength=len(shares)) / met.shape[1]
        out[i] = np.minimum(seen, shares).sum()
    return out


def _pair(original: Folding, suspect: Folding, key: GroupKey, values: U64, common: float) -> Pair:
    known = original.values(key.original, key.part)
    size = len(known)
    inside = int(pc.is_in(pa.array(values), value_set=known).to_numpy(zero_copy_only=False).sum())
    named = original.table.names[key.original] == suspect.table.names[key.suspect]
    alike = inside / max(1, size + len(values) - inside)
    return Pair(key, inside / len(values), alike, common, named and not key.part, size)


def candidate_keys(
    original: Folding, suspect: Folding, pairs: Pairs, most: int
) -> list[tuple[GroupKey, ...]]:
    """Return what the suspect's rows may be grouped by, likely ones first.

    Parameters
    ----------
    original, suspect : Folding
    pairs : dict
        See `find_pairs`.
    most : int
        Largest number of candidates.

    Returns
    -------
    list of tuple of GroupKey
        One, two or three columns each; distinct in the suspect's rows, repeated in the original's. Values
        decide; equal names only break ties.
    """
    rows, half = suspect.table.rows, original.table.rows // 2
    single = {s for s in pairs if len(suspect.values(s)) >= UNIQUE * rows}
    alone = [p for s in single for p in pairs[s][:3] if p.size <= half]
    alone.sort(key=lambda p: p.rank)
    out: list[tuple[GroupKey, ...]] = [(p.key,) for p in alone]
    rest = [s for s in pairs if s not in single and any(p.size <= half for p in pairs[s])]
    rest.sort(key=lambda s: pairs[s][0].rank)
    rest = sorted(rest[: 10 if rows <= 50_000 else 6])
    known: list[set[int]] = []
    for count in (2, 3):
        for chosen in itertools.combinations(rest, count):
            if any(k <= set(chosen) for k in known):
                continue
            if distinct(joint_keys([suspect.key(s) for s in chosen])) < UNIQUE * rows:
                continue
            known.append(set(chosen))
            ways = itertools.product(*(pairs[s][:2] for s in chosen))
            joint = [way for way in ways if len({(p.key.original, p.key.part) for p in way}) == count]
            out += [tuple(p.key for p in way) for way in joint]
    return out[:most]


def has_own_rows(original: Folding, suspect: Folding, pairs: Pairs) -> bool:
    """Return whether most of the suspect's rows stand in the original, in nearly all of its columns.

    At most 2,000 evenly spaced rows are looked up. Such a table is a part of the original, however few rows it
    has: its rows need no group to come from.
    """
    rows = _sampled(suspect.table.rows, 2000)
    whole = {s: [p for p in found if not p.key.part and p.contained >= 0.9] for s, found in pairs.items()}
    best = {s: max(found, key=lambda p: p.common) for s, found in whole.items() if found}
    columns = min(len(suspect.table.columns), MOST_COLUMNS)
    if len(best) < 3 or len(best) < 0.8 * columns:
        return False
    # Flags are easily taken for one another; a few columns of many values tell rows apart.
    told = sorted(best, key=lambda s: (-len(suspect.values(s)), s))[:6]
    mine = joint_keys([suspect.key(s)[rows] for s in told])
    theirs = joint_keys([original.key(best[s].key.original) for s in told])
    found = pc.is_in(pa.array(mine), value_set=pa.array(theirs)).to_numpy(zero_copy_only=False)
    return bool(found.mean() >= 0.5)
