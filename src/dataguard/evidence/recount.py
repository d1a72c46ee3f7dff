"""From opened rows to votes, and from votes to a score: the two recomputations of a bundle.

The rule that turns a cell into a reading is written out here a second time, in plain
Python, so that nothing a report claims rests on the program that found it.
"""

from __future__ import annotations

import hashlib
import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dataguard import merkle
from dataguard.cells import cell_bytes, row_bytes
from dataguard.errors import EvidenceError
from dataguard.evidence.case import OpenBias, Opened, OpenRow, OpenSlot
from dataguard.evidence.openings import Annex
from dataguard.keys import symbols
from dataguard.model import VOTE_LIMIT, bias_leaf, slot_leaf
from dataguard.stats import Coins, NullLaw, round_up, score

__all__ = [
    "RULE",
    "Columns",
    "Recount",
    "Vote",
    "adjusted",
    "check_biases",
    "check_rows",
    "check_slots",
    "count_votes",
    "recount",
    "votes_digest",
    "weigh",
]

RULE = "pair-swap/1"
"""The only reading rule this version knows."""

Histogram = tuple[tuple[int, int, int, int], ...]
"""(bias, weight, count, ones), ascending."""

Vote = tuple[int, int, int]
"""(address, bias, weight); a sorted list of them is what a suspect says."""


@dataclass(frozen=True, slots=True)
class Columns:
    """Names that readings refer to.

    Attributes
    ----------
    original, suspect : tuple of str
        Column names in order; distinct.
    groups : mapping of int to tuple of str
        Member columns of each swap group.
    """

    original: tuple[str, ...]
    suspect: tuple[str, ...]
    groups: Mapping[int, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Recount:
    """A score recomputed from votes.

    Attributes
    ----------
    histogram : tuple of (bias, weight, count, ones)
    score : int
    raw : float
        log10 of the bound for the opened key alone, rounded towards the innocent, not floored.
    method : str
        What the bound rests on.
    """

    histogram: Histogram
    score: int
    raw: float
    method: str

    @property
    def log10_p(self) -> float:
        """The bound as it is shown: not below -30."""
        return round_up(self.raw)


# --- openings against committed roots ------------------------------------------------------------


def check_rows(opened: Opened[OpenRow], columns: Sequence[str], *, numbered: bool) -> None:
    """Return only if the rows stand in the tree with the stated root, each once and whole.

    Parameters
    ----------
    opened : Opened[OpenRow]
    columns : sequence of str
        A row has one cell for each.
    numbered : bool
        Whether the id of a row must be its position (suspects).
    """
    leaves = {
        row.index: merkle.leaf_hash(row.salt + row_bytes(row.row_id, row.cells)) for row in opened.leaves
    }
    _check_proof(opened, leaves, "opened rows")
    if len({row.row_id for row in opened.leaves}) != len(opened.leaves):
        raise EvidenceError("a row id is opened twice", remedy="do not rely on it")
    if any(len(row.cells) != len(columns) for row in opened.leaves):
        raise EvidenceError(f"an opened row has not {len(columns)} cells", remedy="do not rely on it")
    if numbered and any(row.row_id != row.index for row in opened.leaves):
        raise EvidenceError("a suspect row does not stand at its number", remedy="do not rely on it")


def check_slots(opened: Opened[OpenSlot]) -> None:
    """Return only if the slots stand in the tree with the stated root, each address and place once."""
    leaves = {
        slot.index: merkle.leaf_hash(slot.salt + slot_leaf(slot.address, slot.place))
        for slot in opened.leaves
    }
    _check_proof(opened, leaves, "opened slots")
    addresses, places = {s.address for s in opened.leaves}, {s.place for s in opened.leaves}
    if len(addresses) != len(opened.leaves) or len(places) != len(opened.leaves):
        raise EvidenceError("a slot is opened twice", remedy="one slot may say only one thing")


def check_biases(opened: Opened[OpenBias], slots: Opened[OpenSlot], levels: Sequence[int]) -> None:
    """Return only if there is one committed bias for each opened slot, and each is a level of the law."""
    leaves = {
        one.index: merkle.leaf_hash(one.salt + bias_leaf(one.address, one.bias)) for one in opened.leaves
    }
    _check_proof(opened, leaves, "opened biases")
    addresses = {one.address for one in opened.leaves}
    if len(addresses) != len(opened.leaves) or addresses != {slot.address for slot in slots.leaves}:
        raise EvidenceError("biases and slots do not pair up one to one", remedy="do not rely on it")
    if any(one.bias not in levels for one in opened.leaves):
        raise EvidenceError("a bias is no level of the committed law", remedy="do not rely on it")


def _check_proof(
    opened: Opened[OpenRow] | Opened[OpenSlot] | Opened[OpenBias], leaves: Mapping[int, bytes], what: str
) -> None:
    if not merkle.verify_multiproof(opened.size, leaves, opened.proof, opened.root):
        raise EvidenceError(f"{what} do not hash to the committed root", remedy="do not rely on them")


# --- votes from rows -----------------------------------------------------------------------------


def count_votes(annex: Annex, columns: Columns) -> list[Vote]:
    """Return the votes by rule pair-swap/1, ascending by address.

    A slot's place is (group, low row id, high row id). A suspect row aligned to one end shows, in a
    member column of the group, that row's own value (symbol 0, weight -256) or its partner's
    (symbol 1, +256); anything else, or two ends with equal values, says nothing. The readings of
    an address are summed and clipped to +-256; a sum of zero is no vote.

    The pairs give the alignment, the readings listed the column map; then *every* opened slot is read
    in every aligned row and mapped column, so that within the opened rows and slots none can be left
    out or counted twice. Which rows were aligned, and which slots there are to open, it cannot say.

    Raises
    ------
    EvidenceError
        A reading that is malformed, repeated, contradictory, or left out.
    """
    places = {slot.address: _ends(slot, columns) for slot in annex.slots.leaves}
    mapped, listed = _listed(annex, places, columns)
    rows_of: dict[int, list[int]] = {}
    for suspect_row, own in annex.pairs:
        rows_of.setdefault(own, []).append(suspect_row)
    reader = _Reader(annex, columns)
    totals = dict.fromkeys(places, 0)
    for address, (members, *ends) in places.items():
        for own, partner in (ends, ends[::-1]):
            for suspect_row in rows_of.get(own, ()):
                for column in members:
                    if column not in mapped:
                        continue
                    weight = reader.weight(own, partner, column, suspect_row, mapped[column])
                    if weight and (address, suspect_row, column) not in listed:
                        raise EvidenceError(
                            f"a reading of suspect row {suspect_row} is left out",
                            remedy="readings may not be chosen",
                        )
                    totals[address] += weight
    bias = {one.address: one.bias for one in annex.biases.leaves}
    clipped = {a: max(-VOTE_LIMIT, min(VOTE_LIMIT, total)) for a, total in totals.items()}
    return [(a, bias[a], clipped[a]) for a in sorted(clipped) if clipped[a]]


Place = tuple[tuple[str, ...], int, int]


def _ends(slot: OpenSlot, columns: Columns) -> Place:
    if len(slot.place) != 3 or slot.place[0] not in columns.groups or min(slot.place[1:]) < 0:
        raise EvidenceError("the place of a slot is not (group, row, row)", remedy="do not rely on it")
    group, low, high = slot.place
    if low == high:
        raise EvidenceError("a slot pairs a row with itself", remedy="do not rely on it")
    return columns.groups[group], low, high


def _listed(
    annex: Annex, places: Mapping[int, Place], columns: Columns
) -> tuple[dict[str, str], set[tuple[int, int, str]]]:
    """Return column -> suspect column, and the readings listed, each of an opened slot and an opened pair."""
    aligned = dict(annex.pairs)
    mapped: dict[str, str] = {}
    listed: set[tuple[int, int, str]] = set()
    for r in annex.readings:
        members, low, high = places.get(r.address, ((), -1, -1))
        if r.own not in (low, high) or r.column not in members:
            raise EvidenceError("a reading is not of an opened slot", remedy="do not rely on it")
        if aligned.get(r.suspect_row) != r.own:
            raise EvidenceError(
                f"suspect row {r.suspect_row} is read against a row it is not aligned to",
                remedy="do not rely on it",
            )
        if mapped.setdefault(r.column, r.suspect_column) != r.suspect_column:
            raise EvidenceError("a column is read from two suspect columns", remedy="do not rely on it")
        key = (r.address, r.suspect_row, r.column)
        if key in listed:
            raise EvidenceError("a reading is counted twice", remedy="do not rely on it")
        listed.add(key)
    if any(name not in columns.suspect for name in mapped.values()):
        raise EvidenceError("a reading names an unknown suspect column", remedy="do not rely on it")
    return mapped, listed


class _Reader:
    """Cells by row id and column name."""

    def __init__(self, annex: Annex, columns: Columns) -> None:
        self._rows = {row.row_id: row.cells for row in annex.rows.leaves}
        self._seen = {row.row_id: row.cells for row in annex.suspect_rows.leaves}
        self._original = {name: i for i, name in enumerate(columns.original)}
        self._suspect = {name: i for i, name in enumerate(columns.suspect)}

    def weight(self, own: int, partner: int, column: str, suspect_row: int, suspect_column: str) -> int:
        """Return -256, 0 or +256."""
        if own not in self._rows or partner not in self._rows or suspect_row not in self._seen:
            raise EvidenceError("a row that is read is not opened", remedy="do not rely on it")
        # Bytes are committed, texts are not: one number has many spellings.
        place = self._original[column]
        mine, other = cell_bytes(self._rows[own][place]), cell_bytes(self._rows[partner][place])
        seen = cell_bytes(self._seen[suspect_row][self._suspect[suspect_column]])
        return VOTE_LIMIT * ((seen == other) - (seen == mine))


def votes_digest(votes: Sequence[Vote]) -> str:
    """Return the SHA-256 (hex) of the votes, as it is logged before any mark key is loaded.

    Hashed are ``dataguard/votes/1``, then address, bias and weight of each vote as uint64
    little-endian (the weight in two's complement), in ascending order of address.
    """
    packed = (struct.pack("<QQq", *vote) for vote in sorted(votes))
    return hashlib.sha256(b"dataguard/votes/1" + b"".join(packed)).hexdigest()


# --- score from votes ----------------------------------------------------------------------------


def recount(votes: Sequence[Vote], key: bytes, channel: bytes) -> Recount:
    """Return histogram, score and bound of one mark key, given the votes (DESIGN 4.4)."""
    hits = symbols(key, [a for a, _, _ in votes], [p for _, p, _ in votes], channel)
    counts: dict[tuple[int, int], list[int]] = {}
    for (_, bias, weight), symbol in zip(votes, hits, strict=True):
        cell = counts.setdefault((bias, weight), [0, 0])
        cell[0] += 1
        cell[1] += symbol
    histogram = tuple((bias, weight, n, ones) for (bias, weight), (n, ones) in sorted(counts.items()))
    return weigh(histogram)


def weigh(histogram: Histogram) -> Recount:
    """Return score and bound of a histogram; see `recount`."""
    coins = [Coins(bias, weight, count) for bias, weight, count, _ in histogram]
    law, total = NullLaw(coins), score(coins, [ones for *_, ones in histogram])
    return Recount(histogram, total, law.log10_raw(total), law.method)


def adjusted(raw: float, keys: int, runs: int, draws: int) -> float:
    """Return log10 of p x N x 2^k x draws, within [-30, 0]: all keys, runs and draws paid for (DESIGN 4.5, 6.5).

    `raw` is not floored, so that nothing is paid on top of a floor.
    """
    return round_up(raw + math.log10(max(1, keys)) + runs * math.log10(2) + math.log10(draws))
