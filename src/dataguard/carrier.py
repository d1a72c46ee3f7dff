"""The contract of a kind of data: everything that differs between kinds, nothing that does not.

A carrier turns an original into *slots*, writes one symbol into each, and turns a suspect,
aligned to the original only, into *votes*. It sees no key, no recipient, no clock and no
file path: keyed choices arrive as functions, heavy engines are handed in by the shells.
One file under ``modalities/`` implements it for one kind; the contract tests run on all.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from dataguard.cells import Cell
from dataguard.formats.edits import Moves
from dataguard.formats.source import Source
from dataguard.model import VOTE_LIMIT, BiasLaw
from dataguard.values import CanonicalTable

__all__ = [
    "Alignment",
    "Carrier",
    "ColumnMatch",
    "Content",
    "Distortion",
    "DistortionRow",
    "Engines",
    "Exhibit",
    "Opening",
    "Readings",
    "SlotBrief",
    "Slots",
    "Votes",
    "tally",
]

I64 = NDArray[np.int64]
I16 = NDArray[np.int16]
U64 = NDArray[np.uint64]
U8 = NDArray[np.uint8]

Content = TypeVar("Content")
"""What a kind decodes a source into (a table, a signal, a picture)."""


# --- slots -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SlotBrief:
    """What a carrier may know when it lists slots: keyed functions, but no key.

    Attributes
    ----------
    address : callable
        ``address(place, channel) -> (n,) uint64``: keyed hash of (n, k) int64 place columns
        that name a slot by ids given at registration, never by position or value.
    draw : callable
        ``draw(label, ids) -> (n,) uint64``: keyed pseudo-random words for (n,) uint64 ids.
        Partners are drawn with it, the same for all recipients.
    level : callable
        ``level(address) -> (n,) uint8``: the keyed bias level of each address.
    protect : frozenset of str
        Parts (columns, channels, layers) the user keeps unmarked.
    tolerance : mapping of str to float
        Largest change per part, in the part's own unit.
    frozen : Slots or None
        Slots of an earlier version of the lineage: they stay as they are.
    """

    address: Callable[[I64, bytes], U64]
    draw: Callable[[str, U64], U64]
    level: Callable[[U64], U8]
    protect: frozenset[str] = frozenset()
    tolerance: Mapping[str, float] = field(default_factory=dict)
    frozen: Slots | None = None


@dataclass(frozen=True, slots=True)
class Slots:
    """The slot plan of one version of a dataset.

    Attributes
    ----------
    law : BiasLaw
        Meaning of `level`.
    channel : bytes
        Eight bytes: scheme and channel, part of the PRF input of every symbol.
    address : (n,) uint64
        Distinct. Stays put when rows are appended or deleted.
    level : (n,) uint8
        Index into ``law.levels``.
    place : (n, k) int64
        Where each slot sits, in ids given at registration; meaning in `place_names`.
    place_names : tuple of str
        Names of the `place` columns.
    legend : mapping
        JSON-ready description that `place` refers to (column groups and the like).
    """

    law: BiasLaw
    channel: bytes
    address: U64
    level: U8
    place: I64
    place_names: tuple[str, ...]
    legend: Mapping[str, Any]

    def __len__(self) -> int:
        return len(self.address)

    @property
    def bias(self) -> NDArray[np.int64]:
        """(n,) int64: numerator P of each slot's bias, over 65536."""
        return np.asarray(self.law.levels, np.int64)[self.level]

    def take(self, index: I64) -> Slots:
        """Return the plan restricted to some slots."""
        return Slots(
            self.law, self.channel, self.address[index], self.level[index], self.place[index],
            self.place_names, self.legend,
        )  # fmt: skip


# --- votes -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Readings:
    """Single readings of slots in a suspect, before they are summed.

    Attributes
    ----------
    slot : (m,) int64
        Index into the slot plan; repeats where a slot was read more than once.
    unit : (m,) int64
        The unit of the suspect it was read from (row, window, block).
    weight : (m,) int16
        Log-likelihood ratio of symbol 1 against symbol 0 in 1/64 nat, symmetric in the symbol.
    """

    slot: I64
    unit: I64
    weight: I16


@dataclass(frozen=True, slots=True)
class Votes:
    """What a suspect says about the slots: one vote per address.

    Attributes
    ----------
    slot : (n,) int64
        Index into the slot plan, in order of `address`.
    address : (n,) uint64
        Strictly ascending, so no address can vote twice.
    bias : (n,) int64
        Numerator P over 65536.
    weight : (n,) int16
        Non-zero, at most 256 in size (four nats).
    """

    slot: I64
    address: U64
    bias: I64
    weight: I16

    def __len__(self) -> int:
        return len(self.address)

    def digest(self) -> str:
        """Return the SHA-256 (hex) of the votes; it is logged before any mark key is loaded."""
        rows = np.empty((len(self), 3), np.uint64)
        rows[:, 0], rows[:, 1] = self.address, self.bias.view(np.uint64)
        rows[:, 2] = self.weight.astype(np.int64).view(np.uint64)
        return hashlib.sha256(b"dataguard/votes/1" + rows.astype("<u8").tobytes()).hexdigest()


def tally(slots: Slots, readings: Readings) -> Votes:
    """Return one vote per address: the readings summed and clipped to +-256.

    Parameters
    ----------
    slots : Slots
    readings : Readings
        Both ends of a pair, a row that stands twice, jointly moved columns: each is one
        reading of the same slot, and they count once.
    """
    total = np.bincount(readings.slot, weights=readings.weight.astype(np.float64), minlength=len(slots))
    clipped = np.clip(np.rint(total), -VOTE_LIMIT, VOTE_LIMIT).astype(np.int16)
    slot = np.flatnonzero(clipped)
    slot = slot[np.argsort(slots.address[slot], kind="stable")]
    return Votes(slot, slots.address[slot], slots.bias[slot], clipped[slot])


# --- alignment and comparison of tables: shared engines, handed in by the shells ------------------


@dataclass(frozen=True, slots=True)
class ColumnMatch:
    """A suspect column that holds an original column's values.

    Attributes
    ----------
    original, suspect : int
        Column positions.
    by : str
        ``name`` or ``values``: what the match rests on.
    overlap : float
        Share of the suspect column's distinct values that occur in the original column.
    """

    original: int
    suspect: int
    by: str
    overlap: float


@dataclass(frozen=True, slots=True)
class Alignment:
    """Which suspect column is which original column, and which suspect row which original row.

    Attributes
    ----------
    columns : tuple of ColumnMatch
    suspect_row, original_row : (m,) int64
        Positions of matched rows; each suspect row at most once.
    equal : (m,) int64
        Matched columns in which the two rows agree exactly.
    n_suspect, n_original : int
        Rows of the two tables.
    ambiguous : int
        Suspect rows left out because several original rows fit equally well.
    """

    columns: tuple[ColumnMatch, ...]
    suspect_row: I64
    original_row: I64
    equal: I64
    n_suspect: int
    n_original: int
    ambiguous: int


@dataclass(frozen=True, slots=True)
class Engines:
    """Heavy engines shared by all kinds.

    Attributes
    ----------
    align : callable
        ``align(original, suspect) -> Alignment`` for canonical tables.
    compare : callable
        ``compare(original, suspect, alignment, alpha) -> Comparison`` (fingerprints.compare).
    sketch : callable
        ``sketch(table) -> bytes``: the key-free fingerprint, scheme id first.
    """

    align: Callable[[CanonicalTable, CanonicalTable], Alignment]
    compare: Callable[[CanonicalTable, CanonicalTable, Alignment, float], Any]
    sketch: Callable[[CanonicalTable], bytes]


# --- evidence ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Opening:
    """What a verifier needs to recompute one reading.

    Attributes
    ----------
    slot : int
        Index into the plan.
    unit : int
        Unit of the suspect.
    part : str
        Where in that unit (suspect column).
    observed : Cell
        What the suspect shows.
    own : int
        Id of the original unit that the suspect's unit is aligned to.
    source_part : str
        The original part (column) it is read against.
    """

    slot: int
    unit: int
    part: str
    observed: Cell
    own: int
    source_part: str


@dataclass(frozen=True, slots=True)
class Exhibit:
    """The opened readings behind some votes.

    Attributes
    ----------
    rule : str
        Versioned name of the rule that turns an opening into a weight.
    openings : tuple of Opening
    units : tuple of int
        Ids of the original units to open: matched ones and their partners.
    """

    rule: str
    openings: tuple[Opening, ...]
    units: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class DistortionRow:
    """What marking does to one column or channel.

    Attributes
    ----------
    part : str
    changed : float
        Largest possible share of changed cells.
    mean_sd, max_sd : float
        Mean and largest change, in standard deviations of the part; nan for categories.
    max_abs : float
        Largest change in the part's own unit; nan for categories.
    ks : float
        Kolmogorov-Smirnov distance between original and marked values.
    exact : bool
        Whether the multiset of values, nulls included, stays exactly as it was.
    """

    part: str
    changed: float
    mean_sd: float
    max_sd: float
    max_abs: float
    ks: float
    exact: bool


@dataclass(frozen=True, slots=True)
class Distortion:
    """The distortion contract of one export, measured.

    Attributes
    ----------
    rows : tuple of DistortionRow
        Marked parts only; every other part is untouched.
    cells_changed : int
    correlation : float
        Largest change of a Pearson correlation between numeric parts.
    violations : mapping of str to int
        New violations of every mined fact; all must be 0.
    broken : tuple of str
        Contract lines that do not hold; an export is refused unless empty.
    """

    rows: tuple[DistortionRow, ...]
    cells_changed: int
    correlation: float
    violations: Mapping[str, int]
    broken: tuple[str, ...]


class Carrier(Protocol[Content]):
    """A kind of data. Implementations are frozen, stateless values."""

    @property
    def kind(self) -> str:
        """Name of the kind: ``table, series, track, vector, image, raster, sequence, text``."""
        ...

    def detect(self, source: Source) -> bool:
        """Return whether a source holds this kind of data."""
        ...

    def decode(self, source: Source, ids: U64 | None = None) -> Content:
        """Return the decoded source; `ids` are the unit ids given at registration, else the positions."""
        ...

    def extent(self, content: Content) -> tuple[int, tuple[str, ...]]:
        """Return the number of units (rows, windows, blocks) and the names of the parts (columns, bands)."""
        ...

    def ids(self, content: Content) -> U64:
        """Return the (units,) uint64 ids given at registration."""
        ...

    def inherit(self, before: Content, after: Content, next_id: int) -> Content:
        """Return `after` with ids: units found in `before` keep theirs, others count up from `next_id`."""
        ...

    def leaves(self, content: Content) -> tuple[U8, I64]:
        """Return the canonical bytes of all units, end to end, and their (units + 1,) offsets: what is committed."""
        ...

    def open_units(self, content: Content, positions: Sequence[int]) -> list[tuple[Cell, ...]]:
        """Return the canonical cells of some units: what opens their leaves."""
        ...

    def slots(self, original: Content, brief: SlotBrief, law: BiasLaw) -> Slots:
        """Return the slot plan; the same for all recipients.

        Raises
        ------
        CapacityError
            When the data has no room for a mark.
        """
        ...

    def embed(self, original: Content, slots: Slots, symbols: U8) -> Sequence[Moves]:
        """Return the edits that write `symbols`, (n,) uint8 of 0 and 1, one per slot."""
        ...

    def mark(self, original: Content, edits: Sequence[Moves]) -> Content:
        """Return the content with the edits done."""
        ...

    def align(self, original: Content, suspect: Content, engines: Engines) -> Alignment:
        """Return the alignment of a suspect to the original; no key and no copy is seen."""
        ...

    def votes(self, original: Content, suspect: Content, slots: Slots, alignment: Alignment) -> Readings:
        """Return all readings of slots in the aligned suspect."""
        ...

    def exhibit(
        self, original: Content, suspect: Content, slots: Slots, alignment: Alignment, votes: Votes
    ) -> Exhibit:
        """Return the openings from which the votes can be recomputed without this program."""
        ...

    def compare(
        self, original: Content, suspect: Content, alignment: Alignment, engines: Engines, alpha: float
    ) -> Any:
        """Return the comparison of two contents."""
        ...

    def fingerprint(self, content: Content, engines: Engines) -> bytes:
        """Return the key-free summary, scheme id first."""
        ...

    def distortion(self, original: Content, slots: Slots, edits: Sequence[Moves]) -> Distortion:
        """Measure what the edits do, against the contract."""
        ...

    def sample(self, seed: int, rows: int) -> Content:
        """Return a small content for the contract tests, made from `seed` alone."""
        ...

    def grow(self, content: Content, seed: int) -> Content:
        """Return a later delivery of a sample: some units gone, some new, the rest as they were, reordered."""
        ...
