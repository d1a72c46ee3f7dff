"""Which suspect row was read as which original row: the pairs opened, their logged digest, their likeness.

The pairs were fixed before any mark key was loaded, so the log says; a bundle cannot show that
they were made without the key. It can show that they are the logged ones, and that the
rows of a pair have something in common.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from itertools import pairwise

from dataguard.cells import cell_bytes
from dataguard.errors import EvidenceError
from dataguard.evidence.facts import ColumnFacts, TraceFacts
from dataguard.evidence.openings import Annex

__all__ = ["MOST_UNLIKE", "alignment_digest", "check_likeness", "check_pairs"]

MOST_UNLIKE = 20
"""At most one in this many pairs may agree in no matched column."""


def alignment_digest(pairs: Sequence[tuple[int, int]]) -> str:
    """Return the SHA-256 (hex) of the voting pairs, as it is logged before any mark key is loaded.

    Hashed are ``dataguard/alignment/1``, then of each pair, ascending by suspect row, the suspect
    row and the id of the original row as uint64 little-endian.
    """
    packed = (struct.pack("<QQ", *pair) for pair in sorted(pairs))
    return hashlib.sha256(b"dataguard/alignment/1" + b"".join(packed)).hexdigest()


def check_pairs(annex: Annex, trace: TraceFacts) -> None:
    """Return only if the pairs are those logged, each suspect row once, and all their rows are opened.

    Raises
    ------
    EvidenceError
        What differs.
    """
    pairs = annex.pairs
    if any(a >= b for (a, _), (b, _) in pairwise(pairs)):
        raise _refuse("a suspect row is aligned twice, or out of order")
    if not len(pairs) == trace.voting_rows <= trace.max_rows:
        raise _refuse(f"{len(pairs)} pairs, but {trace.voting_rows} of at most {trace.max_rows} are stated")
    if {row for row, _ in pairs} != {row.row_id for row in annex.suspect_rows.leaves}:
        raise _refuse("the opened suspect rows are not those of the pairs")
    if not {own for _, own in pairs} <= {row.row_id for row in annex.rows.leaves}:
        raise _refuse("an aligned original row is not opened")
    if alignment_digest(pairs) != trace.alignment_digest:
        raise _refuse("the pairs are not those logged before the keys were opened")


def check_likeness(
    annex: Annex, columns: Sequence[ColumnFacts], original: Sequence[str], suspect: Sequence[str]
) -> int:
    """Return how many pairs agree in no matched column; cells are compared by their committed bytes.

    Parameters
    ----------
    annex : Annex
    columns : sequence of ColumnFacts
        The column map of the comparison.
    original, suspect : sequence of str
        All column names, in order.

    Raises
    ------
    EvidenceError
        More than one pair in `MOST_UNLIKE`, or a column map of unknown columns.
    """
    ours, theirs = ({name: i for i, name in enumerate(names)} for names in (original, suspect))
    matched = [(c.original, c.suspect) for c in columns if c.original and c.suspect]
    if any(a not in ours or b not in theirs for a, b in matched):
        raise _refuse("the column map names an unknown column")
    places = [(ours[a], theirs[b]) for a, b in matched]
    rows = {row.row_id: row.cells for row in annex.rows.leaves}
    seen = {row.row_id: row.cells for row in annex.suspect_rows.leaves}
    unlike = sum(
        not any(cell_bytes(rows[own][i]) == cell_bytes(seen[row][j]) for i, j in places)
        for row, own in annex.pairs
    )
    if MOST_UNLIKE * unlike > len(annex.pairs):
        raise _refuse(
            f"aligned rows do not resemble each other: {unlike} of {len(annex.pairs)} agree nowhere"
        )
    return unlike


def _refuse(what: str) -> EvidenceError:
    return EvidenceError(what, where="alignment", remedy="do not rely on it")
