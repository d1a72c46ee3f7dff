"""The provider's shell, first part: register an original, or the next version of one.

What is used later is committed first: roots over rows, slot plan and biases, and the
decoys' seed, go into the ledger before anything is handed out.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dataguard import keys
from dataguard._version import VERSION
from dataguard.canonical import canonical_json
from dataguard.carrier import Carrier
from dataguard.errors import CapacityError, UsageError
from dataguard.fingerprints.engines import default_engines
from dataguard.formats.source import Source, open_source
from dataguard.holdings import OpenVault, save
from dataguard.modalities.discovery import carrier, detect
from dataguard.model import LEVELS, TRACE_ALPHA, BiasLaw, Shown, document, plain
from dataguard.registry.store import Dataset, Fingerprint
from dataguard.slots import Slots
from dataguard.trees import build_trees
from dataguard.watermarking.forecast import forecast, votes_needed
from dataguard.watermarking.symbols import SlotKeys, brief, symbols

__all__ = ["Registered", "register"]


@dataclass(frozen=True, slots=True)
class Registered(Shown):
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
        return document("dataguard.register/1", self)


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
    content, frozen, next_id = _continue(vault, handler, source, earlier[-1] if earlier else None)
    law = LEVELS[profile]
    made = brief(
        _slot_keys(secret),
        law,
        protect=protect_columns,
        tolerance=tolerance,
        frozen=frozen,
        first_new=next_id,
    )
    plan = handler.slots(content, made, law)
    _try_out(handler, content, plan, secret, name)
    ids = handler.ids(content)
    folder = vault.fresh_folder(lineage, version)
    reference = save(folder, source, ids, plan, keep=keep)
    salt = vault.entropy(32)
    roots = build_trees(handler.leaves(content), plan, secret, version).roots()
    roots["decoys_commitment"] = keys.commit("decoys", keys.decoy_seed(secret), salt)
    rows, names = handler.extent(content)
    digest = source.sha256()
    # An Arrow object has no bytes of its own: its reference copy is a file with its own digest.
    stored = digest if source.path is not None else open_source(reference).sha256()
    meta = {
        "next_id": max(next_id, int(ids.max()) + 1), "decoys_salt": salt.hex(), "profile": profile,
        "folder": str(folder.relative_to(vault.folder)), "source_sha256": digest,
    }  # fmt: skip
    inside = (
        str(reference.relative_to(vault.folder)) if reference.is_relative_to(vault.folder) else str(reference)
    )
    record = Dataset(
        f"{name}@{version}", name, lineage, version, handler.kind, rows, len(names), stored, inside,
        vault.now(), roots, meta,
    )  # fmt: skip
    with vault.store.transaction():
        vault.store.add_dataset(record)
        print_ = handler.fingerprint(content, default_engines())
        vault.store.add_fingerprint(Fingerprint(record.id, "columns/1", print_))
        vault.append("registration", keys.scope_pseudonym(secret), _payload(record, names, law, plan))
    return Registered(name, version, handler.kind, rows, len(names), digest, _capacity(plan, rows))


def _try_out(handler: Carrier[Any], content: Any, plan: Slots, secret: bytes, name: str) -> None:
    """Mark a copy for nobody and measure it: a table that cannot be marked is refused now, not at each export."""
    least = votes_needed(TRACE_ALPHA, 1)
    if len(plan) < least:
        raise CapacityError(
            f"{len(plan)} slots cannot name a recipient at {TRACE_ALPHA:g}, {least} are needed",
            where=name,
            remedy="protect fewer columns or allow a larger --tolerance; a version that shares few rows "
            "with the earlier ones needs a name of its own",
        )
    key = keys.decoy_mark_key(keys.decoy_seed(secret), 0)
    own = symbols(key, plan.address, plan.bias, plan.channel)
    broken = handler.distortion(content, plan, handler.embed(content, plan, own)).broken
    if broken:
        raise CapacityError(
            f"marked copies would break the distortion contract: {broken[0]}",
            where=name,
            remedy="protect one of the columns named (--protect-columns), or lower its --tolerance",
        )


def _continue(
    vault: OpenVault, handler: Carrier[Any], source: Source, last: Dataset | None
) -> tuple[Any, Slots | None, int]:
    """Return the content with its unit ids, the slots that must stay as they are, and the first free id."""
    content = handler.decode(source)
    if last is None:
        return content, None, 0
    held = vault.holding(last)
    next_id = int(last.meta["next_id"])
    before = handler.decode(held.source, held.ids)
    return handler.inherit(before, content, next_id), held.slots, next_id


def _payload(record: Dataset, names: tuple[str, ...], law: BiasLaw, plan: Slots) -> dict[str, Any]:
    """Return what the ledger binds of a registration."""
    return {
        "dataset": record.name, "lineage": record.lineage, "version": record.version, "kind": record.kind,
        "rows": record.rows, "columns": list(names), "sha256": record.meta["source_sha256"], **record.roots,
        "slots": len(plan), "law": plain(law), "channel": plan.channel.hex(),
        "groups": plan.legend["groups"], "facts_sha256": _facts_digest(plan), "tool": VERSION,
    }  # fmt: skip


def _check_name(name: str) -> None:
    if not name or len(name) > 200 or not name.isprintable() or set(name) & set("/\\@") or name[0] == ".":
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
        # Neighbouring rows show what a swapped cell held before, where rows are sorted by a marked column.
        "sorted_by_marked": [c for c in facts["monotone"] if c not in facts["guarded"]],
        "forecast": plain(forecast(len(plan), rows)),
    }


def _facts_digest(plan: Slots) -> str:
    """Return the SHA-256 of the mined facts a plan rests on."""
    return hashlib.sha256(canonical_json(plan.legend["facts"])).hexdigest()
