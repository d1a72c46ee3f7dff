"""The contract of a kind of data: everything that differs between kinds, nothing that does not.

A carrier turns an original into *slots*, writes one symbol into each, and turns a suspect,
aligned to the original only, into *votes*. It sees no key, no recipient, no clock and no
file path: keyed choices arrive as functions, heavy engines are handed in by the shells.
One file under ``modalities/`` implements it for one kind; the contract tests run on all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from dataguard.cells import Cell
from dataguard.formats.edits import Moves
from dataguard.formats.source import Source
from dataguard.maps import Recoding, ValueMap
from dataguard.model import BiasLaw
from dataguard.slots import Readings, SlotBrief, Slots, Votes
from dataguard.values import CanonicalTable

__all__ = [
    "Alignment",
    "Carrier",
    "ColumnMatch",
    "Content",
    "Distortion",
    "DistortionMeter",
    "DistortionRow",
    "Engines",
    "Exhibit",
    "Large",
    "Opening",
]

I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]
U8 = NDArray[np.uint8]

Content = TypeVar("Content")
"""What a kind decodes a source into (a table, a signal, a picture)."""
Held_co = TypeVar("Held_co", covariant=True)


# --- alignment and comparison of tables: shared engines, handed in by the shells ------------------


@dataclass(frozen=True, slots=True)
class ColumnMatch:
    """A suspect column that holds an original column's values.

    Attributes
    ----------
    original, suspect : int
        Column positions.
    by : str
        ``name``, ``values`` or ``rows`` (settled by aligned rows): what the match rests on.
    overlap : float
        Share of the suspect column's distinct values that occur in the original column, as seen through
        the map.
    through : ValueMap or Recoding, optional
        How the suspect shows the original's values; None: as they are.
    """

    original: int
    suspect: int
    by: str
    overlap: float
    through: ValueMap | Recoding | None = None


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
    tied_suspect, tied_original : (t,) int64
        Of those, rows that fit nothing but indistinguishable original rows, matched one to one, in the
        order of both tables: counted, but never read for a mark.
    """

    columns: tuple[ColumnMatch, ...]
    suspect_row: I64
    original_row: I64
    equal: I64
    n_suspect: int
    n_original: int
    ambiguous: int
    tied_suspect: I64 = field(default_factory=lambda: np.empty(0, np.int64))
    tied_original: I64 = field(default_factory=lambda: np.empty(0, np.int64))


@dataclass(frozen=True, slots=True)
class Large(Generic[Held_co]):
    """Data that is read block by block, or a few units at a time.

    Attributes
    ----------
    units, room : int
        How many there are, and how many fit in memory at once.
    blocks : callable
        Starts a pass over all units, block by block.
    take : callable
        ``take(positions)`` returns some units, in the ascending order of (k,) int64 positions.
    """

    units: int
    room: int
    blocks: Callable[[], Iterator[Held_co]]
    take: Callable[[I64], Held_co]


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
    gather : callable
        ``gather(original, sample, suspect) -> (k,) int64``: rows of a large original that the
        suspect's rows may have been copied from; `sample` are some rows of the original.
    compare_large : callable
        ``compare_large(original, suspect, alpha) -> Comparison``: by samples of both.
    """

    align: Callable[[CanonicalTable, CanonicalTable], Alignment]
    compare: Callable[[CanonicalTable, CanonicalTable, Alignment, float], Any]
    sketch: Callable[[CanonicalTable], bytes]
    gather: Callable[[Large[CanonicalTable], CanonicalTable, CanonicalTable], I64]
    compare_large: Callable[[Large[CanonicalTable], Large[CanonicalTable], float], Any]


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
        Marked_contra parts only; every other part is untouched.
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


Marked_contra = TypeVar("Marked_contra", contravariant=True)


class DistortionMeter(Protocol[Marked_contra]):
    """Measures an export block by block."""

    def add(self, original: Marked_contra, edits: Sequence[Moves]) -> None:
        """Add one block and what is done to it."""
        ...

    def result(self) -> Distortion:
        """Return what was measured over all blocks."""
        ...


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

    def take(self, content: Content, positions: I64) -> Content:
        """Return some units of a content, in the order asked for, with their ids."""
        ...

    def leaves(self, content: Content) -> tuple[U8, I64]:
        """Return the canonical bytes of all units, end to end, and their (units + 1,) offsets: what is committed."""
        ...

    def open_units(self, content: Content, positions: Sequence[int]) -> list[tuple[Cell, ...]]:
        """Return the canonical cells of some units: what opens their leaves."""
        ...

    def study(self, original: Large[Content], brief: SlotBrief) -> Mapping[str, Any]:
        """Return what must be known of the whole before a block of it can be planned.

        JSON-ready; it comes back in ``brief.study``.
        """
        ...

    def slots(self, original: Content, brief: SlotBrief, law: BiasLaw) -> Slots:
        """Return the slot plan of a content, or of one block of it; the same for all recipients.

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

    def gather(self, original: Large[Content], sample: Content, suspect: Content, engines: Engines) -> I64:
        """Return the positions of the units of a large original that a suspect may have been copied from.

        `sample` holds some units of the original; no key and no copy is seen.
        """
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

    def compare_large(
        self, original: Large[Content], suspect: Large[Content], engines: Engines, alpha: float
    ) -> Any:
        """Return the comparison of data too large to be compared whole: by samples, with intervals."""
        ...

    def fingerprint(self, content: Content, engines: Engines) -> bytes:
        """Return the key-free summary, scheme id first."""
        ...

    def distortion(self, legend: Mapping[str, Any]) -> DistortionMeter[Content]:
        """Return a meter for what edits do, against the contract; `legend` is that of the slot plan."""
        ...

    def sample(self, seed: int, rows: int) -> Content:
        """Return a small content for the contract tests, made from `seed` alone."""
        ...

    def grow(self, content: Content, seed: int) -> Content:
        """Return a later delivery of a sample: some units gone, some new, the rest as they were, reordered."""
        ...
