"""The provider's shell, second part: hand out marked copies.

Order is the point here: the mark key's commitment and the export leaf are in the ledger
before any marked byte has its name.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dataguard import keys
from dataguard._version import VERSION
from dataguard.budget import DEFAULT_BUDGET, Budget
from dataguard.carrier import Alignment, Carrier, ColumnMatch, Distortion
from dataguard.errors import CapacityError, UsageError, WeakMarkError
from dataguard.formats.arrow import ArrowSource
from dataguard.formats.atomic import remove_leftovers
from dataguard.formats.blocks import read_blocks
from dataguard.formats.edits import BlockMoves
from dataguard.formats.source import open_source, part_of
from dataguard.formats.write import check_format, write_marked
from dataguard.holdings import Holding, OpenVault
from dataguard.modalities.discovery import carrier
from dataguard.model import TRACE_ALPHA, Shown, document
from dataguard.registry.store import Dataset, Export, MarkKey, Recipient
from dataguard.slots import Slots, Votes, tally
from dataguard.stats import Coins, NullLaw
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
    generation : int
        Of the mark key.
    traits_lost : tuple of str
        What the file format could not keep of the original.
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
    traits_lost: tuple[str, ...] = ()

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
    budget: Budget = DEFAULT_BUDGET,
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
    _check_not_original(vault, held, target, name)
    remove_leftovers(target.absolute().parent)
    generation = _generation(vault, dataset, recipient)
    key = keys.mark_key(vault.master, dataset.lineage, recipient, generation)
    marking = _Marking(handler, held, key, budget)
    export = ""

    def release(partial: Path, sha256: str) -> None:
        nonlocal export
        distortion = marking.distortion()
        if distortion.broken:
            raise CapacityError(
                f"the marked copy would break the distortion contract ({distortion.broken[0]})",
                where=name,
                remedy="register again with --protect-columns or a smaller --tolerance for that column",
            )
        _read_back(handler, held, partial, target, key, budget)
        with vault.store.transaction():
            committed = commit_recipient(vault, dataset, recipient)
            if committed.generation != generation:
                raise UsageError(
                    "a report has opened this recipient's mark key meanwhile", where=name, remedy="run again"
                )
            export = _log_export(vault, dataset, committed, held.frame, sha256, target, meta)

    written = write_marked(held.source, marking.moves(), target, force=force, release=release)
    return Exported(
        dataset.name, dataset.version, recipient, export, str(target), written.sha256,
        held.size, marking.distortion(), forecast(held.size, dataset.rows), generation=generation,
        traits_lost=written.traits_lost,
    )  # fmt: skip


class _Marking:
    """Marks a version block by block while it is written, and measures what that does."""

    def __init__(self, handler: Carrier[Any], held: Holding, key: bytes, budget: Budget) -> None:
        self._handler, self._held, self._key, self._budget = handler, held, key, budget
        self._meter = handler.distortion(held.frame.legend)

    def moves(self) -> Iterator[BlockMoves]:
        """Yield the moves of each block, in order."""
        for block in self._held.blocks():
            content = self._handler.decode(ArrowSource(block.table, self._held.source.name), block.ids)
            own = symbols(self._key, block.slots.address, block.slots.bias, block.slots.channel)
            edits = self._handler.embed(content, block.slots, own)
            self._meter.add(content, edits)
            done = block.first + len(block.ids)
            yield BlockMoves(block.first, len(block.ids), tuple(edits), block.table)
            self._budget.watch("mark", done, self._held.edges[-1])
            del block, content, own, edits  # or they would live on while the next block is read

    def distortion(self) -> Distortion:
        """Return what was measured, once all blocks are written."""
        return self._meter.result()


def _check_not_original(vault: OpenVault, held: Holding, target: Path, name: str) -> None:
    """Refuse an output that would replace an original, the vault, or a folder that is no export."""
    registered = vault.store.list_datasets(name=name)
    place = target.resolve()
    kept = [vault.folder, *(vault.folder / d.path for d in registered)]
    if held.source.path is not None:
        kept.append(held.source.path)
        if target.exists() and target.samefile(held.source.path):
            raise UsageError(
                "is the registered original itself", where=str(target), remedy="name another output"
            )
    if any(path.resolve().is_relative_to(place) for path in kept):
        raise UsageError(
            "holds the vault or a registered original", where=str(target), remedy="name another output"
        )
    if place.is_relative_to(vault.folder.resolve()):
        raise UsageError("lies within the vault", where=str(target), remedy="name another output")
    digest = ""
    if target.is_file():
        digest = _file_digest(target)
    elif target.is_dir() and any(target.iterdir()):
        digest = open_source(target).sha256()  # refuses what is no folder of Parquet files and nothing else
    if digest and digest in {d.meta["source_sha256"] for d in registered}:
        raise UsageError("is a registered original", where=str(target), remedy="name another output")


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
    form = check_format(None, target)
    if target.is_dir() and form:
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
    if not 1 <= len(recipient.strip()) == len(recipient) <= 200 or not recipient.isprintable():
        raise UsageError(
            "recipient must be 1 to 200 printable characters, without blanks around them",
            remedy="use the id of your contract",
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


def _read_back(
    handler: Carrier[Any], held: Holding, written: Path, target: Path, key: bytes, budget: Budget
) -> None:
    """Check that the written bytes carry this recipient's mark; no other key is looked at."""
    copy = open_source(written, name=target.name, part=part_of(held.source, target.name), called=target.name)
    if copy.rows() != held.edges[-1]:
        raise WeakMarkError(f"{copy.rows()} rows read back instead of {held.edges[-1]}", where=target.name)
    agreed = total = 0
    found: Counter[tuple[int, int]] = Counter()
    tables = read_blocks(copy, held.edges)
    for block in held.blocks():
        table = next(tables)
        original = handler.decode(ArrowSource(block.table, held.source.name), block.ids)
        votes = _in_place(handler, original, handler.decode(ArrowSource(table, copy.name)), block.slots)
        score, agreeing = scores(votes, [key], held.frame.channel)
        agreed, total = agreed + int(agreeing[0]), total + int(score[0])
        found.update({(c.bias, c.weight): c.count for c in coins(votes)})
        budget.watch("read back", block.first + len(block.ids), held.edges[-1])
        del block, table, original, votes
    if agreed < held.size:
        raise WeakMarkError(
            f"only {agreed} of {held.size} slots read back from the written file",
            where=target.name,
            remedy="nothing was released; check the output format, or protect the columns it changes",
        )
    law = NullLaw([Coins(bias, weight, count) for (bias, weight), count in sorted(found.items())])
    if law.log10_p(total) > np.log10(TRACE_ALPHA):
        raise WeakMarkError(
            f"{held.size} slots cannot name a recipient at {TRACE_ALPHA:g}",
            remedy="nothing was released; protect fewer columns or allow a larger --tolerance",
        )


def _in_place(handler: Carrier[Any], original: Any, marked: Any, slots: Slots) -> Votes:
    """Return the votes of a copy whose rows and columns stand where the original's do."""
    count, names = handler.extent(original)
    rows = np.arange(count, dtype=np.int64)
    columns = tuple(ColumnMatch(i, i, "name", 1.0) for i in range(len(names)))
    in_place = Alignment(columns, rows, rows, np.full(count, len(names)), count, count, 0)
    return tally(slots, handler.votes(original, marked, slots, in_place))
