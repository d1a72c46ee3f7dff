"""The provider's shell, second part: hand out marked copies.

Order is the point here: the mark key's commitment and the export leaf are in the ledger
before any marked byte has its name.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import hashlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dataguard import keys
from dataguard._version import VERSION
from dataguard.carrier import Alignment, ColumnMatch, Distortion
from dataguard.errors import CapacityError, UsageError, WeakMarkError
from dataguard.formats.atomic import sync_folder
from dataguard.formats.source import FORMAT_OF_SUFFIX, open_source
from dataguard.formats.write import write_marked
from dataguard.holdings import OpenVault
from dataguard.modalities.discovery import carrier
from dataguard.model import TRACE_ALPHA, Shown, document
from dataguard.registry.store import Dataset, Export, MarkKey, Recipient
from dataguard.slots import Slots, tally
from dataguard.stats import NullLaw
from dataguard.watermarking.accusation import coins, scores
from dataguard.watermarking.forecast import Forecast, forecast
from dataguard.watermarking.symbols import symbols

__all__ = ["Exported", "check_target", "commit_recipient", "protect"]


@dataclass(frozen=True, slots=True)
class Exported(Shown):
    """One marked export.

    Attributes
    ----------
    dataset, version, recipient : str, int, str
    export : str
        Id of the export.
    out : str
        The released file.
    sha256 : str
    slots_marked : int
        Slots that carry a symbol (each is one exchange that happened or did not).
    rows_added, rows_omitted, canaries : int
        0 in this version: no channel adds or leaves out rows yet.
    distortion : Distortion
    forecast : Forecast
    """

    dataset: str
    version: int
    recipient: str
    export: str
    out: str
    sha256: str
    slots_marked: int
    distortion: Distortion
    forecast: Forecast
    rows_added: int = 0
    rows_omitted: int = 0
    canaries: int = 0
    generation: int = 1

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON document of `dataguard protect`."""
        return document("dataguard.protect/1", self)


# --- protect -------------------------------------------------------------------------------------


def protect(
    vault: OpenVault,
    name: str,
    *,
    recipient: str,
    out: str | os.PathLike[str],
    force: bool = False,
    terms: str | os.PathLike[str] | None = None,
    expires: str | None = None,
) -> Exported:
    """Write one marked export for one recipient.

    1. check what was asked for, the output's place and format included;
    2. embed, and measure the distortion contract;
    3. write beside the final place and read the mark back from those bytes (its own mark only);
    4. commit the recipient's mark key, if it is new, and append the export leaf, both or neither;
       only then does the file get its name.

    Whatever fails before 4 leaves the ledger as it was.

    Raises
    ------
    UsageError
        Unknown dataset, existing output, malformed recipient.
    CapacityError
        The distortion contract would be broken.
    WeakMarkError
        The mark does not read back from the written file.
    """
    target = Path(out)
    _check_recipient(recipient)
    check_target(target, force)
    if expires is not None:
        _check_date(expires)
    meta = {"terms_sha256": _file_digest(terms) if terms is not None else None, "expires": expires}
    dataset = vault.store.latest_dataset(name)
    handler = carrier(dataset.kind)
    held = vault.holding(dataset)
    original = handler.decode(held.source, held.ids)
    if held.source.path is not None and target.exists() and target.samefile(held.source.path):
        raise UsageError("is the registered original itself", where=str(target), remedy="name another output")
    if target.exists() and _file_digest(target) in {
        d.meta["source_sha256"] for d in vault.store.list_datasets(name=name)
    }:
        raise UsageError("is a registered original", where=str(target), remedy="name another output")
    generation = _generation(vault, dataset, recipient)
    key = keys.mark_key(vault.master, dataset.lineage, recipient, generation)
    own = symbols(key, held.slots.address, held.slots.bias, held.slots.channel)
    edits = handler.embed(original, held.slots, own)
    distortion = handler.distortion(original, held.slots, edits)
    if distortion.broken:
        raise CapacityError(
            f"the marked copy would break the distortion contract ({distortion.broken[0]})",
            where=name,
            remedy="register again with --protect-columns or a smaller --tolerance for that column",
        )
    with _unnamed(target) as partial:
        written = write_marked(held.source, edits, partial)
        _read_back(handler, original, held.slots, partial, key)
        with vault.store.transaction():
            committed = commit_recipient(vault, dataset, recipient)
            export = _log_export(vault, dataset, committed, held.slots, written.sha256, target, meta)
        partial.replace(target)
        sync_folder(target.parent)
    return Exported(
        dataset.name, dataset.version, recipient, export, str(target), written.sha256,
        len(held.slots), distortion, forecast(len(held.slots), dataset.rows), generation=generation,
    )  # fmt: skip


def _log_export(
    vault: OpenVault,
    dataset: Dataset,
    committed: MarkKey,
    slots: Slots,
    sha256: str,
    target: Path,
    meta: Mapping[str, str | None],
) -> str:
    """Append the export leaf and record; durable before the file gets its name."""
    export_id = vault.entropy(8).hex()
    roots = {k: dataset.roots[k] for k in ("rows_root", "slots_root", "bias_root")}
    with vault.store.transaction():
        payload = {
            "export": export_id, "sequence": len(vault.store.list_exports()) + 1,
            "recipient": committed.recipient, "generation": committed.generation, "dataset": dataset.name,
            "lineage": dataset.lineage, "version": dataset.version, **roots,
            "mark_key_commitment": committed.commitment, "scheme": slots.channel.hex(),
            "profile": slots.law.name, "alpha": repr(TRACE_ALPHA), "canary_commitments": [], "draws": 1,
            "sha256": sha256, **meta, "tool": VERSION,
        }  # fmt: skip
        scope = keys.scope_pseudonym(keys.dataset_secret(vault.master, dataset.lineage))
        entry = vault.append("export", scope, payload)
        vault.store.add_export(
            Export(
                export_id,
                dataset.id,
                committed.recipient,
                committed.generation,
                entry.seq,
                entry.time,
                sha256,
                str(target),
                meta,
            )
        )
    return export_id


def check_target(target: Path, force: bool) -> None:
    """Refuse an output that could not be written, before anything is logged."""
    if target.suffix.lower() not in FORMAT_OF_SUFFIX:
        raise UsageError(
            f"cannot write {target.suffix or target.name!r} files",
            where=str(target),
            remedy=f"choose one of {', '.join(FORMAT_OF_SUFFIX)}",
        )
    if target.is_dir():
        raise UsageError("is a folder", where=str(target), remedy="name a file")
    if target.exists() and not force:
        raise UsageError("exists already", where=str(target), remedy="choose another name or pass --force")
    if not target.parent.is_dir():
        raise UsageError("no such folder", where=str(target.parent), remedy="make it first")
    if not os.access(target.parent, os.W_OK):
        raise UsageError(
            "folder cannot be written to", where=str(target.parent), remedy="choose another place"
        )


def _check_recipient(recipient: str) -> None:
    if not recipient or len(recipient) > 200 or not recipient.isprintable():
        raise UsageError(
            "recipient must be 1 to 200 printable characters", remedy="use the id of your contract"
        )


def _check_date(text: str) -> None:
    try:
        dt.date.fromisoformat(text)
    except ValueError:
        raise UsageError(f"{text!r} is no date", remedy="write --expires YYYY-MM-DD") from None


def _file_digest(path: str | os.PathLike[str]) -> str:
    try:
        with Path(path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UsageError(
            f"cannot be read ({error.strerror})", where=str(path), remedy="check --terms"
        ) from None


def _generation(vault: OpenVault, dataset: Dataset, recipient: str) -> int:
    """Return the generation the next delivery carries.

    The last one committed, or a new one if a report has opened that key: from then on
    others know its symbols, and the bound would no longer hold for later suspects.
    """
    known = vault.store.list_mark_keys(lineage=dataset.lineage, recipient=recipient)
    last = max((k.generation for k in known), default=0)
    return last + 1 if last == 0 or vault.is_opened(dataset.lineage, recipient, last) else last


def commit_recipient(vault: OpenVault, dataset: Dataset, recipient: str) -> MarkKey:
    """Return the recipient's current mark-key commitment for a dataset's lineage, made now if there is none.

    Raises
    ------
    UsageError
        A malformed recipient.
    """
    _check_recipient(recipient)
    secret = keys.dataset_secret(vault.master, dataset.lineage)
    with vault.store.transaction():
        generation = _generation(vault, dataset, recipient)
        known = vault.store.list_mark_keys(lineage=dataset.lineage, recipient=recipient)
        for mark_key in known:
            if mark_key.generation == generation:
                return mark_key
        if all(r.id != recipient for r in vault.store.list_recipients()):
            vault.store.add_recipient(Recipient(recipient, vault.now()))
        salt = vault.entropy(32)
        key = keys.mark_key(vault.master, dataset.lineage, recipient, generation)
        commitment = keys.commit("mark-key", key, salt)
        payload = {
            "lineage": dataset.lineage,
            "recipient": recipient,
            "generation": generation,
            "commitment": commitment,
        }
        entry = vault.append("mark-key", keys.scope_pseudonym(secret), payload)
        made = MarkKey(dataset.lineage, recipient, generation, commitment, salt, entry.time)
        vault.store.add_mark_key(made)
        return made


@contextlib.contextmanager
def _unnamed(target: Path) -> Iterator[Path]:
    """Yield a hidden path beside `target`, of the same suffix; nothing stays behind on failure."""
    partial = target.with_name(f".{target.stem}.{os.getpid()}.partial{target.suffix}")
    try:
        yield partial
    finally:
        partial.unlink(missing_ok=True)


def _read_back(handler: Any, original: Any, plan: Slots, written: Path, key: bytes) -> None:
    """Check that the written bytes carry this recipient's mark; no other key is looked at."""
    marked = handler.decode(open_source(written))
    count, names = handler.extent(original)
    rows = np.arange(count, dtype=np.int64)
    columns = tuple(ColumnMatch(i, i, "name", 1.0) for i in range(len(names)))
    in_place = Alignment(columns, rows, rows, np.full(len(rows), len(names)), len(rows), len(rows), 0)
    votes = tally(plan, handler.votes(original, marked, plan, in_place))
    total, agreeing = scores(votes, [key], plan.channel)
    if len(votes) < len(plan) or int(agreeing[0]) < len(votes):
        raise WeakMarkError(
            f"only {int(agreeing[0])} of {len(plan)} slots read back from the written file",
            where=str(written.name),
            remedy="nothing was released; check the output format, or protect the columns it changes",
        )
    if NullLaw(coins(votes)).log10_p(int(total[0])) > np.log10(TRACE_ALPHA):
        raise WeakMarkError(
            f"{len(plan)} slots cannot name a recipient at {TRACE_ALPHA:g}",
            remedy="nothing was released; protect fewer columns or allow a larger --tolerance",
        )
