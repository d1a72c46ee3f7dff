"""A case written down as a bundle: signed statement, pages, ledger view, sealed annex; all or nothing.

Everything is composed in memory first and put through the verifier; a bundle its own
verifier would not trust is never written.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from dataguard import dsse
from dataguard.canonical import canonical_json
from dataguard.errors import EvidenceError
from dataguard.evidence.case import Case
from dataguard.evidence.chain import write_ledger
from dataguard.evidence.layout import ANNEX, LEDGER, PAGE, README, REPORT, REQUIRED, STATEMENT, Contents
from dataguard.evidence.openings import write_annex
from dataguard.evidence.render import readme, report_html
from dataguard.evidence.statement import PAYLOAD_TYPE, STATUS, build_statement
from dataguard.evidence.verify import NOT_REACHED, check_contents
from dataguard.formats.atomic import atomic_directory

__all__ = ["BundleWritten", "compose", "write_bundle"]


@dataclass(frozen=True, slots=True)
class BundleWritten:
    """A bundle on disk.

    Attributes
    ----------
    path : Path
    status : str
        ``DRAFT``: no bundle is final before people have reviewed and signed it.
    findings : int
        Number of findings in the statement, that of the trace included.
    files : tuple of str
        Names below `path`, sorted.
    """

    path: Path
    status: str
    findings: int
    files: tuple[str, ...]

    def to_dict(self) -> dict[str, object]:
        """Return the JSON document of ``dataguard report``."""
        return {
            "schema": "dataguard.report/1",
            "bundle": str(self.path),
            "status": self.status,
            "findings": self.findings,
            "files": list(self.files),
        }


def compose(case: Case, signer: dsse.Signer) -> dict[str, bytes]:
    """Return the files of a bundle by name; the same bytes for the same case and key.

    Raises
    ------
    EvidenceError
        A field of the case that is missing or of the wrong form.
    UsageError
        A value without a canonical JSON form.
    """
    statement, facts = build_statement(case, signer.public_bytes)
    files = {
        PAGE: report_html(facts, statement["prose"]),
        README: readme(facts),
        LEDGER: canonical_json(write_ledger(case.ledger)),
        ANNEX: canonical_json(write_annex(case.named)),
    }
    digests = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    payload = canonical_json(statement | {"files": digests})
    return files | {REPORT: payload, STATEMENT: dsse.to_json(dsse.sign(payload, PAYLOAD_TYPE, signer))}


def write_bundle(case: Case, out: Path, signer: dsse.Signer, *, force: bool = False) -> BundleWritten:
    """Write the bundle of a case to the directory `out`, whole or not at all.

    Parameters
    ----------
    case : Case
    out : Path
        Must not exist, or be empty, unless `force`.
    signer : Signer
        The provider's signing key, the one that signs the ledger's checkpoints.
    force : bool
        Replace an existing directory.

    Raises
    ------
    EvidenceError
        The case contradicts itself: the message names the step of verification that fails.
    UsageError
        `out` exists or cannot be written.
    """
    files = compose(case, signer)
    _check(files, signer.public_bytes)
    with atomic_directory(out, force=force) as folder:
        for name, data in files.items():
            target = folder / name
            target.parent.mkdir(exist_ok=True)
            # The annex holds a mark key and rows: for its owner's eyes, whatever the umask allows.
            mode = 0o600 if name == ANNEX else 0o644
            os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode))
            target.write_bytes(data)
    return BundleWritten(Path(out), STATUS, len(case.findings) + 1, tuple(sorted(files)))


def _check(files: Mapping[str, bytes], public_key: bytes) -> None:
    digests = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    found = check_contents(
        Contents({name: files[name] for name in REQUIRED}, digests, ()), public_key=public_key
    )
    for step in found.steps:
        if not step.ok and step.detail != NOT_REACHED:
            raise EvidenceError(
                f"step {step.n} ({step.name}): {step.detail}",
                where="bundle would not verify",
                remedy="nothing was written; run `dataguard ledger verify`",
            )
