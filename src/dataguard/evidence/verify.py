"""Verification of a bundle: every number again, offline, from public material and the bundle alone.

The steps, by number; the same numbers stand in the code and in the answer.

 1. Files: every file but the statement itself is listed with its SHA-256, none is missing or unlisted.
 2. Signature: the envelope is in its one written form, signed by the key; ``report.json`` is its
    payload, and every field of it is well formed.
 3. Ledger: the headers hash to the root of a checkpoint that the same key signed.
 4. Entries: every opened ledger entry fits its header, and all are of the dataset's scope.
 5. Order: registration < mark key < export < trace run < outcome; the export is of the traced version.
 6. Agreement: dataset, suspect, roots, law, channel and trace figures are those of the opened entries.
 7. Mark key: the opened key opens the commitment in the ledger.
 8. Rows: the opened original rows hash to the root committed at registration.
 9. Slots: the opened slots and biases hash to their roots, each address once, each bias a level of the law.
10. Suspect: the opened suspect rows hash to the root logged with the run; the pairs of aligned rows are
    those whose digest was logged before any key was opened, and resemble each other.
11. Votes: recomputed from suspect rows, original rows and slots; within the opened rows and slots no
    reading is left out or doubled. How rows and slots were chosen it does not check.
12. Digest: the votes are those whose digest was logged before any key was opened.
13. Score: histogram and S are recomputed from the votes and the key.
14. Bound: log10 p from the score, times the keys and runs counted in the ledger and the draws committed
    with the export, is within the stricter of the run's limit and that committed with the export.
15. Statement: outcome and every sentence are what the recomputed figures say; every other visible word
    is of a fixed vocabulary.
16. Pages: ``report.html`` and ``README.txt`` are what the statement renders to.

Without a named copy there is nothing to check in steps 7 to 14. A step that needs an earlier
one that failed is "not reached". Nothing here needs numpy, a vault, a clock or a network.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dataguard.errors import DataguardError
from dataguard.evidence import steps as do
from dataguard.evidence.layout import Contents, read_contents
from dataguard.evidence.steps import NO_COPY, Desk, TooDeepError

__all__ = ["NOT_REACHED", "NO_COPY", "Step", "Verification", "check_contents", "verify"]

NOT_REACHED = "not reached"


@dataclass(frozen=True, slots=True)
class Step:
    """One numbered step: what was checked, whether it held, and what was found or is wrong."""

    n: int
    name: str
    ok: bool
    detail: str


@dataclass(frozen=True, slots=True)
class Verification:
    """The answer to "can this bundle be trusted?".

    Attributes
    ----------
    trusted : bool
        Whether every step holds.
    steps : tuple of Step
        In order; always all of them.
    key_id : str
        Hex SHA-256 of the public key used; empty if none could be read.
    notes : tuple of str
        What the computation cannot answer, for the reader to weigh.
    """

    trusted: bool
    steps: tuple[Step, ...]
    key_id: str
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON document of ``dataguard verify``."""
        return {
            "schema": "dataguard.verify/1",
            "trusted": self.trusted,
            "steps": [{"n": s.n, "name": s.name, "ok": s.ok, "detail": s.detail} for s in self.steps],
            "key_id": self.key_id,
            "notes": list(self.notes),
        }


def verify(path: str | os.PathLike[str], *, public_key: bytes | None = None) -> Verification:
    """Check a bundle directory and return the numbered steps.

    Parameters
    ----------
    path : path
        The bundle directory.
    public_key : bytes, optional
        Raw 32-byte Ed25519 key of the provider, obtained by another way. Without it the key
        named in the bundle is used, and a note says so.

    Raises
    ------
    EvidenceError
        Not a bundle at all: no directory, a required file missing, a file too large, JSON too deep.
        Everything else that is wrong is a step that does not hold.
    """
    return check_contents(read_contents(Path(path)), public_key=public_key)


def check_contents(contents: Contents, *, public_key: bytes | None = None) -> Verification:
    """Check the contents of a bundle; see `verify`."""
    desk = Desk(contents, public_key)
    steps: list[Step] = []
    held: set[int] = set()
    for number, (name, needs, check) in enumerate(_STEPS, 1):
        if not needs <= held:
            steps.append(Step(number, name, ok=False, detail=NOT_REACHED))
            continue
        ok, detail = _run(check, desk)
        steps.append(Step(number, name, ok, detail))
        if ok:
            held.add(number)
    return Verification(all(step.ok for step in steps), tuple(steps), desk.key_id, _notes(desk, held))


def _run(check: Callable[[Desk], str], desk: Desk) -> tuple[bool, str]:
    try:
        return True, check(desk)
    except TooDeepError:
        raise
    except DataguardError as error:
        return False, str(error)
    except (ArithmeticError, LookupError, TypeError, ValueError, RecursionError) as error:
        # Every field is read strictly, so this is a gap in the checks; content that finds one is not trusted.
        return False, f"malformed content ({type(error).__name__})"


_STEPS: tuple[tuple[str, frozenset[int], Callable[[Desk], str]], ...] = (
    ("files and digests", frozenset(), do.step_files),  # 1
    ("signature and statement", frozenset(), do.step_signature),  # 2
    ("ledger root and checkpoint", frozenset({2}), do.step_ledger),  # 3
    ("opened ledger entries", frozenset({3}), do.step_entries),  # 4
    ("order of entries", frozenset({4}), do.step_order),  # 5
    ("agreement of entries and statement", frozenset({5}), do.step_agreement),  # 6
    ("mark key", frozenset({6}), do.step_mark_key),  # 7
    ("original rows", frozenset({7}), do.step_rows),  # 8
    ("slots and biases", frozenset({7}), do.step_slots),  # 9
    ("suspect rows and alignment", frozenset({8}), do.step_suspect),  # 10
    ("votes from rows", frozenset({9, 10}), do.step_votes),  # 11
    ("digest of votes", frozenset({11}), do.step_digest),  # 12
    ("score from votes", frozenset({12}), do.step_score),  # 13
    ("bound and number of tests", frozenset({13}), do.step_bound),  # 14
    ("sentences and figures", frozenset({14}), do.step_sentences),  # 15
    ("pages", frozenset({15}), do.step_pages),  # 16
)


def _notes(desk: Desk, held: set[int]) -> tuple[str, ...]:
    notes = []
    if desk.pinned is None:
        notes.append(
            "the key is the one named in the bundle; obtain the provider's key by another way and pass it"
        )
    notes.append(
        "times rest on the provider's clock, unless an external time-stamp of the checkpoint precedes "
        "the suspect; this bundle holds none"
    )
    if 6 in held and desk.facts.copy is not None:
        notes.append(
            "the provider holds the keys and could itself have made the copy; no computation excludes that"
        )
        notes.append(
            "rows were aligned by the program from suspect and original before the key was loaded, as the "
            "logged digest binds; an expert who has both files can align them again; this bundle alone "
            "cannot show that it was done without the key"
        )
        notes += desk.remarks
    notes.append(
        "scores of other recipients and of decoys are asserted: they cannot be recomputed from this bundle"
    )
    notes.append(
        "extent, column map and changes are measured from both files and not recomputed from this bundle"
    )
    return tuple(notes)
