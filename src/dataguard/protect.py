"""The provider's shell: register an original, hand out marked copies.

Order is the point here. What is used later is committed first: roots at registration,
the mark key's commitment and the export leaf before any marked byte has its name.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import hashlib
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from dataguard import keys
from dataguard._version import VERSION
from dataguard.canonical import canonical_json
from dataguard.carrier import Alignment, ColumnMatch, Distortion, Slots, tally
from dataguard.errors import CapacityError, UsageError, WeakMarkError
from dataguard.fingerprints.engines import default_engines
from dataguard.formats.source import Source, open_source
from dataguard.formats.write import write_marked
from dataguard.holdings import OpenVault, save
from dataguard.modalities.discovery import carrier, detect
from dataguard.model import LEVELS, TRACE_ALPHA, plain
from dataguard.registry import ledger
from dataguard.registry.store import Dataset, Export, Fingerprint, MarkKey, Recipient
from dataguard.stats import NullLaw
from dataguard.trees import build_trees
from dataguard.watermarking.accusation import coins, scores
from dataguard.watermarking.forecast import Forecast, forecast
from dataguard.watermarking.symbols import SlotKeys, brief, symbols

__all__ = ["Exported", "Registered", "commit_recipient", "protect", "register"]


@dataclass(frozen=True, slots=True)
class Registered:
    """A registered dataset version.

    Attributes
    ----------
    dataset, version, kind, rows, columns, sha256
        As in the registry.
    capacity : mapping
        Slots in all and per column group, guarded columns with reasons, and the forecast.
    """

    dataset: str
    version: int
    kind: str
    rows: int
    columns: int
    sha256: str
    capacity: Mapping[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON document of `dataguard register`."""
        return {"schema": "dataguard.register/1", **_object(self)}


@dataclass(frozen=True, slots=True)
class Exported:
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
        return {"schema": "dataguard.protect/1", **_object(self)}


def _object(value: object) -> dict[str, Any]:
    """Return a result as a JSON object; what is not a number (a category's spread) becomes null."""
    shown = _without_nan(plain(value))
    assert isinstance(shown, dict)
    return shown


def _without_nan(value: object) -> object:
    if isinstance(value, dict):
        return {k: _without_nan(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_without_nan(v) for v in value]
    return None if isinstance(value, float) and math.isnan(value) else value


# --- register ------------------------------------------------------------------------------------


def register(
    vault: OpenVault,
    data: str | os.PathLike[str] | object,
    *,
    name: str,
    kind: str | None = None,
    keep: bool = True,
    protect_columns: frozenset[str] = frozenset(),
    tolerance: Mapping[str, float] | None = None,
    profile: str = "single",
) -> Registered:
    """Register an original, or a new version of one: fingerprint, reference copy, commitment.

    Parameters
    ----------
    vault : OpenVault
    data : path or Arrow stream object
    name : str
    kind : str, optional
        Kind of data; found out when not given.
    keep : bool
        Keep a reference copy in the vault, rather than the path and digest only.
    protect_columns : frozenset of str
        Columns that must never carry a mark.
    tolerance : mapping of str to float, optional
        Largest change per column.
    profile : str
        Bias law, ``single`` today.

    Raises
    ------
    UsageError, DecodeError, CapacityError
    """
    _check_name(name)
    source = open_source(data)
    handler = carrier(kind) if kind else detect(source)
    _check_columns(source, protect_columns | set(tolerance or {}))
    earlier = vault.store.list_datasets(name=name)
    lineage = earlier[-1].lineage if earlier else vault.entropy(16).hex()
    version = earlier[-1].version + 1 if earlier else 1
    secret = keys.dataset_secret(vault.master, lineage)
    content = handler.decode(source)
    frozen, next_id = None, 0
    if earlier:
        held = vault.holding(earlier[-1])
        next_id = int(earlier[-1].meta["next_id"])
        content = handler.inherit(handler.decode(held.source, held.ids), content, next_id)
        frozen = held.slots
    law = LEVELS[profile]
    plan = handler.slots(
        content,
        brief(_slot_keys(secret), law, protect=protect_columns, tolerance=tolerance, frozen=frozen),
        law,
    )
    ids = handler.ids(content)
    next_id = max(next_id, int(ids.max()) + 1)
    digest = source.sha256()
    folder = vault.version_folder(lineage, version)
    reference = save(folder, source, ids, plan, keep=keep)
    trees = build_trees(handler.leaves(content), plan, secret, version)
    seed, salt = keys.decoy_seed(secret), vault.entropy(32)
    roots = trees.roots() | {"decoys_commitment": keys.commit("decoys", seed, salt)}
    rows, names = handler.extent(content)
    payload = {
        "dataset": name, "lineage": lineage, "version": version, "kind": handler.kind,
        "rows": rows, "columns": list(names), "sha256": digest, **roots,
        "slots": len(plan), "law": plain(law), "channel": plan.channel.hex(),
        "groups": plan.legend["groups"], "facts_sha256": _facts_digest(plan), "tool": VERSION,
    }  # fmt: skip
    record = Dataset(
        f"{name}@{version}", name, lineage, version, handler.kind, rows, len(names), digest, reference,
        vault.now(), roots, {"next_id": next_id, "decoys_salt": salt.hex(), "profile": profile},
    )  # fmt: skip
    stored = _stored_digest(reference, source, digest)
    with vault.store.transaction():
        vault.store.add_dataset(_with_digest(record, stored))
        vault.store.add_fingerprint(
            Fingerprint(record.id, "columns/1", handler.fingerprint(content, default_engines()))
        )
        _append(vault, "registration", keys.scope_pseudonym(secret), payload)
    return Registered(name, version, handler.kind, rows, len(names), digest, _capacity(plan, rows))


def _stored_digest(reference: str, source: Source, digest: str) -> str:
    # An Arrow object has no bytes of its own; its reference copy is a Parquet file with its own digest.
    return digest if source.path is not None else open_source(reference).sha256()


def _with_digest(record: Dataset, digest: str) -> Dataset:
    return replace(record, sha256=digest)


def _check_name(name: str) -> None:
    if not name or len(name) > 200 or any(c in name for c in "/\\@\0\n") or name.startswith("."):
        raise UsageError(
            f"{name[:60]!r} cannot name a dataset", remedy="use letters, digits, spaces, - and _ (no / \\ @)"
        )


def _check_columns(source: Source, names: frozenset[str] | set[str]) -> None:
    unknown = sorted(set(names) - set(source.column_names))
    if unknown:
        raise UsageError(
            f"no column {unknown[0]!r}",
            where=source.name,
            remedy=f"columns are: {', '.join(source.column_names[:30])}",
        )


def _slot_keys(secret: bytes) -> SlotKeys:
    return SlotKeys(keys.address_key(secret), keys.pairing_key(secret), keys.bias_key(secret))


def _append(vault: OpenVault, kind: str, scope: str, payload: Mapping[str, Any]) -> ledger.Entry:
    return ledger.append(vault.store, kind, scope, payload, salt=vault.entropy(32), time=vault.now())


def _capacity(plan: Slots, rows: int) -> dict[str, Any]:
    group = plan.place[:, 0]
    facts = plan.legend["facts"]
    return {
        "slots": len(plan),
        "groups": [
            {"columns": members, "slots": int((group == int(number)).sum())}
            for number, members in plan.legend["groups"].items()
        ],
        "guarded": dict(facts["guarded"]),
        "forecast": plain(forecast(len(plan), rows)),
    }


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

    1. commit the recipient's mark key, if it is new;
    2. embed, and measure the distortion contract;
    3. write beside the final place and read the mark back from those bytes (its own mark only);
    4. append the export leaf; only then does the file get its name.

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
    if target.exists() and not force:
        raise UsageError("exists already", where=str(target), remedy="choose another name or pass --force")
    if expires is not None:
        _check_date(expires)
    terms_digest = _file_digest(terms) if terms is not None else None
    dataset = vault.store.latest_dataset(name)
    handler = carrier(dataset.kind)
    held = vault.holding(dataset)
    original = handler.decode(held.source, held.ids)
    secret = keys.dataset_secret(vault.master, dataset.lineage)
    committed = commit_recipient(vault, dataset, recipient)
    key = keys.mark_key(vault.master, dataset.lineage, recipient, committed.generation)
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
        export_id = vault.entropy(8).hex()
        scope = keys.scope_pseudonym(secret)
        payload = {
            "export": export_id, "sequence": len(vault.store.list_exports()) + 1, "recipient": recipient,
            "generation": committed.generation, "dataset": dataset.name, "lineage": dataset.lineage,
            "version": dataset.version, **{k: dataset.roots[k] for k in ("rows_root", "slots_root", "bias_root")},
            "mark_key_commitment": committed.commitment, "scheme": held.slots.channel.hex(),
            "profile": held.slots.law.name, "alpha": repr(TRACE_ALPHA), "canary_commitments": [], "draws": 1,
            "sha256": written.sha256, "terms_sha256": terms_digest, "expires": expires, "tool": VERSION,
        }  # fmt: skip
        with vault.store.transaction():
            entry = _append(vault, "export", scope, payload)
            vault.store.add_export(
                Export(
                    export_id,
                    dataset.id,
                    recipient,
                    committed.generation,
                    entry.seq,
                    entry.time,
                    written.sha256,
                    str(target),
                    {"terms_sha256": terms_digest, "expires": expires},
                )  # fmt: skip
            )
        partial.replace(target)
    return Exported(
        dataset.name, dataset.version, recipient, export_id, str(target), written.sha256,
        len(held.slots), distortion, forecast(len(held.slots), dataset.rows), generation=committed.generation,
    )  # fmt: skip


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
        known = vault.store.list_mark_keys(lineage=dataset.lineage, recipient=recipient)
        if known:
            return max(known, key=lambda k: k.generation)
        if all(r.id != recipient for r in vault.store.list_recipients()):
            vault.store.add_recipient(Recipient(recipient, vault.now()))
        salt = vault.entropy(32)
        commitment = keys.commit("mark-key", keys.mark_key(vault.master, dataset.lineage, recipient, 1), salt)
        payload = {
            "lineage": dataset.lineage,
            "recipient": recipient,
            "generation": 1,
            "commitment": commitment,
        }
        entry = _append(vault, "mark-key", keys.scope_pseudonym(secret), payload)
        made = MarkKey(dataset.lineage, recipient, 1, commitment, salt, entry.time)
        vault.store.add_mark_key(made)
        return made


@contextlib.contextmanager
def _unnamed(target: Path) -> Iterator[Path]:
    """Yield a hidden path beside `target`, of the same suffix; nothing stays behind on failure."""
    if not target.parent.is_dir():
        raise UsageError("no such folder", where=str(target.parent), remedy="make it first")
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


def _facts_digest(plan: Slots) -> str:
    """Return the SHA-256 of the mined facts a plan rests on."""
    return hashlib.sha256(canonical_json(plan.legend["facts"])).hexdigest()
