"""What the shell hands over when a report is to be written: a suspect with all its findings.

Plain frozen values, so that a case can be built from any registry, or by hand in a test,
and so that everything a bundle opens is visible in one place.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from dataguard.cells import Cell
from dataguard.model import Finding

__all__ = [
    "Case",
    "LedgerView",
    "MarkKeyOpening",
    "NamedCopy",
    "OpenBias",
    "OpenRow",
    "OpenSlot",
    "Opened",
    "Reading",
]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class OpenRow:
    """One opened row of the original, or one row of the suspect.

    Attributes
    ----------
    index : int
        Position of its leaf in the tree.
    row_id : int
        Id given at registration (uint64); for a suspect the row number, equal to `index`.
    salt : bytes
        16 bytes; empty for a suspect, which is no secret of the provider.
    cells : tuple of Cell
        All cells of the row, in column order.
    """

    index: int
    row_id: int
    salt: bytes
    cells: tuple[Cell, ...]


@dataclass(frozen=True, slots=True)
class OpenSlot:
    """One opened slot: leaf `index`, 64-bit `address`, `place` as signed 64-bit ids, 16-byte `salt`."""

    index: int
    address: int
    place: tuple[int, ...]
    salt: bytes


@dataclass(frozen=True, slots=True)
class OpenBias:
    """One opened bias: leaf `index`, 64-bit `address`, numerator `bias` over 65536, 16-byte `salt`."""

    index: int
    address: int
    bias: int
    salt: bytes


@dataclass(frozen=True, slots=True)
class Opened(Generic[T]):
    """Some leaves of a committed tree, with one proof for all of them.

    Attributes
    ----------
    size : int
        Number of leaves of the tree.
    root : bytes
        32 bytes.
    leaves : tuple
        What is opened, in ascending order of ``index``.
    proof : tuple of bytes
        As ``merkle.verify_multiproof`` takes it.
    """

    size: int
    root: bytes
    leaves: tuple[T, ...]
    proof: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Reading:
    """One cell of the suspect, read as one end of a slot.

    Attributes
    ----------
    address : int
        Of the slot.
    suspect_row : int
        Row number in the suspect, from 0.
    suspect_column : str
        Where the cell stands.
    own : int
        Id of the original row that the suspect row is aligned to.
    column : str
        The original column it is read against.
    """

    address: int
    suspect_row: int
    suspect_column: str
    own: int
    column: str


@dataclass(frozen=True, slots=True)
class MarkKeyOpening:
    """The one mark key a bundle opens.

    Attributes
    ----------
    recipient : str
    generation : int
    key : bytes
        32 bytes. Once opened, the recipient's next delivery starts a new generation.
    salt : bytes
        Of the commitment.
    commitment : str
        Hex, as ``keys.commit("mark-key", key, salt)`` returns it.
    """

    recipient: str
    generation: int
    key: bytes = field(repr=False)
    salt: bytes = field(repr=False)
    commitment: str


@dataclass(frozen=True, slots=True)
class LedgerView:
    """What an outsider sees of the ledger.

    Attributes
    ----------
    size : int
        Number of entries under the checkpoint.
    headers : tuple of mapping
        Headers 0..size-1: ``seq, type, scope, body`` (``v`` is added when missing).
    openings : tuple of mapping
        Opened entries, see ``canonical.check_opening``: the registration of the traced version (and
        of every version an opened export is of), the trace-run, its trace-outcome; for a named copy also
        its mark-key entry and its exports.
    checkpoint : bytes or mapping
        Signed DSSE envelope over ``{origin, size, root, time}``, JSON bytes or the parsed object.
    """

    size: int
    headers: tuple[Mapping[str, Any], ...]
    openings: tuple[Mapping[str, Any], ...]
    checkpoint: bytes | Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class NamedCopy:
    """The copy a suspect corresponds to, with all that is needed to recompute its score.

    Attributes
    ----------
    mark_key : MarkKeyOpening
    histogram : tuple of (bias, weight, count, ones)
        Ascending; `ones` of the `count` votes meet symbol 1.
    score : int
        S, see ``stats.score``.
    log10_p, log10_p_adjusted : float
        Bound for this key alone; and with keys, runs and draws paid for. Each is floored at -30 when
        everything is added up, not before.
    rows, slots, biases, suspect_rows : Opened
        Exactly the slots that voted, their biases, both rows of each, and both rows of every pair.
    readings : tuple of Reading
        Every reading of an opened slot that says something.
    pairs : tuple of (int, int)
        (suspect row, id of the original row it is aligned to) of *every* row that may vote, silent ones
        included, ascending by suspect row. Exactly these suspect rows are opened.
    alpha : float
        The limit that counts: the least of the run's and of those committed with the exports of the
        traced version to this copy that precede the run.
    draws : int
        Largest number of draws committed with one of these exports; it multiplies the bound.
    """

    mark_key: MarkKeyOpening
    histogram: tuple[tuple[int, int, int, int], ...]
    score: int
    log10_p: float
    log10_p_adjusted: float
    rows: Opened[OpenRow]
    slots: Opened[OpenSlot]
    biases: Opened[OpenBias]
    suspect_rows: Opened[OpenRow]
    readings: tuple[Reading, ...]
    pairs: tuple[tuple[int, int], ...]
    alpha: float
    draws: int = 1


@dataclass(frozen=True, slots=True)
class Case:
    """A suspect with all its findings.

    Attributes
    ----------
    tool, created : str
        Name and version of the program; RFC 3339 UTC time of the report.
    dataset : mapping
        ``name, version, kind, rows, columns`` (list of names), ``sha256, scope, lineage``.
    suspect : mapping
        ``name, sha256, rows, columns`` (list of names), ``rows_root`` (hex).
    comparison : mapping
        The ``dataguard compare`` document.
    trace : mapping
        The ``dataguard trace`` document with ``k, alpha, votes_digest, method, suspect_rows,
        examined_rows, aligned_rows, voting_rows, max_rows, alignment_digest``.
    findings : tuple of Finding
        Of the comparison; that of the trace is made from the figures.
    scheme : mapping
        ``channel`` (16 hex digits), ``rule`` ("pair-swap/1"), ``law`` ({name, levels, shares}),
        ``place_names``, ``groups`` ({group id: [member columns]}).
    named : NamedCopy or None
        None when the outcome is ``inconclusive`` or ``no-mark``.
    ledger : LedgerView
    limits : tuple of str
        Limits of this case, by their keys in ``templates/sentences.toml``: ``public-rows, scope,
        opened-before, sampled``; standing limits are added by the report.
    """

    tool: str
    created: str
    dataset: Mapping[str, Any]
    suspect: Mapping[str, Any]
    comparison: Mapping[str, Any]
    trace: Mapping[str, Any]
    findings: tuple[Finding, ...]
    scheme: Mapping[str, Any]
    named: NamedCopy | None
    ledger: LedgerView
    limits: tuple[str, ...] = ()
