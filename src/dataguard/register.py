"""The provider's shell, first part: register an original, or the next version of one.

What is used later is committed first: roots over rows, slot plan and biases, and the
decoys' seed, go into the ledger before anything is handed out.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from dataguard import keys
from dataguard._version import VERSION
from dataguard.budget import DEFAULT_BUDGET, Budget
from dataguard.canonical import canonical_json
from dataguard.carrier import Carrier, DistortionMeter
from dataguard.errors import CapacityError, DecodeError, UsageError
from dataguard.fingerprints.engines import default_engines
from dataguard.fingerprints.sketch import merge_sketches
from dataguard.formats.blocks import memory_for, row_cost
from dataguard.formats.source import Source, is_fetched, open_source, part_of, shown
from dataguard.holdings import OpenVault, provisional, saving
from dataguard.modalities.discovery import carrier, detect
from dataguard.model import LEVELS, TRACE_ALPHA, BiasLaw, Shown, document, plain
from dataguard.reading import decoded, edges_of, large
from dataguard.registry.store import Dataset, Fingerprint
from dataguard.slots import SlotBrief, Slots
from dataguard.trees import TreesBuilder
from dataguard.watermarking.forecast import forecast, votes_needed
from dataguard.watermarking.symbols import SlotKeys, brief, symbols

__all__ = ["Registered", "check_name", "register"]


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
    budget: Budget = DEFAULT_BUDGET,
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
    budget : Budget
        A table too large for its memory is planned in blocks.

    Raises
    ------
    UsageError, DecodeError, CapacityError
    """
    check_name(name)
    if not keep and is_fetched(data):
        raise UsageError(
            "is fetched anew each time", where=shown(str(data)), remedy="keep a copy (without --no-keep)"
        )
    source = open_source(data)
    handler = carrier(kind) if kind else detect(source)
    _check_columns(source, protect_columns | set(tolerance or {}))
    earlier = vault.store.list_datasets(name=name)
    lineage = earlier[-1].lineage if earlier else vault.entropy(16).hex()
    version = earlier[-1].version + 1 if earlier else 1
    secret = keys.dataset_secret(vault.master, lineage)
    start = _start(vault, handler, source, earlier[-1] if earlier else None, budget)
    law = LEVELS[profile]
    made = brief(
        _slot_keys(secret), law, protect=protect_columns | set(source.nested_columns), tolerance=tolerance,
        frozen=start.frozen, first_new=start.next_id,
    )  # fmt: skip
    if len(start.edges) > 2:
        made = replace(made, study=handler.study(large(handler, source, start.edges, budget), made))
    folder = vault.fresh_folder(lineage, version)
    made_of = _Gathered(TreesBuilder(secret, version), keys.decoy_mark_key(keys.decoy_seed(secret), 0))
    with saving(folder, source, keep=keep) as writer:
        for content in start.contents:
            plan = _plan(handler, content, made, law, source.name)
            writer.add(handler.ids(content), plan)
            made_of.add(handler, content, plan)
            budget.watch("register", made_of.rows, start.edges[-1])
            del content, plan  # or they would live on while the next block is read
        made_of.check_room(name)
    salt = vault.entropy(32)
    with provisional(vault, folder, name):
        digest = source.sha256()
        meta = {
            "next_id": max(start.next_id, made_of.largest_id + 1), "decoys_salt": salt.hex(), "profile": profile,
            "folder": str(folder.relative_to(vault.folder)), "source_sha256": digest, "part": part_of(source),
        }  # fmt: skip
        record = Dataset(
            f"{name}@{version}", name, lineage, version, handler.kind, made_of.rows, len(source.column_names),
            _stored_digest(writer.reference, source, digest), _inside(writer.reference, vault.folder),
            vault.now(), made_of.roots(secret, salt), meta,
        )  # fmt: skip
        _enter(vault, record, source.column_names, law, made_of)
    return Registered(name, version, handler.kind, made_of.rows, record.columns, digest, made_of.capacity())


def _plan(handler: Carrier[Any], content: Any, made: SlotBrief, law: BiasLaw, name: str) -> Slots:
    try:
        return handler.slots(content, made, law)
    except CapacityError as error:
        raise CapacityError(error.what, where=error.where or name, remedy=error.remedy) from None


def _enter(vault: OpenVault, record: Dataset, names: tuple[str, ...], law: BiasLaw, made: _Gathered) -> None:
    """Put a version into registry and ledger, all of it or nothing.

    Raises
    ------
    UsageError
        Another process has registered this version meanwhile.
    """
    with vault.store.transaction():
        if any(d.version >= record.version for d in vault.store.list_datasets(name=record.name)):
            raise UsageError(
                f"version {record.version} was registered by another process meanwhile", where=record.name,
                remedy="run again, if this is to be the next version",
            )  # fmt: skip
        vault.store.add_dataset(record)
        vault.store.add_fingerprint(Fingerprint(record.id, "columns/1", merge_sketches(made.sketches)))
        scope = keys.scope_pseudonym(keys.dataset_secret(vault.master, record.lineage))
        vault.append("registration", scope, _payload(record, names, law, made))


def _stored_digest(reference: Path, source: Source, digest: str) -> str:
    """Return the digest of the reference copy, which is the source's where that is a file.

    Raises
    ------
    DecodeError
        The file was changed while it was registered.
    """
    stored = open_source(reference, part=part_of(source)).sha256()
    if source.path is not None and stored != digest:
        raise DecodeError("changed while it was read", where=source.name, remedy="run again")
    return stored


def _inside(path: Path, folder: Path) -> str:
    """Return a path relative to the vault where it lies in it, so that the vault can be moved."""
    return str(path.relative_to(folder)) if path.is_relative_to(folder) else str(path)


@dataclass(frozen=True, slots=True)
class _Start:
    """The blocks of a version, with their ids, and what an earlier version fixes."""

    edges: tuple[int, ...]
    contents: Iterable[Any]
    frozen: Slots | None = None
    next_id: int = 0


def _start(
    vault: OpenVault, handler: Carrier[Any], source: Source, last: Dataset | None, budget: Budget
) -> _Start:
    """Cut a new original into blocks; take a later version whole, for its rows may stand anywhere."""
    rows = source.rows()
    if last is None:
        edges = edges_of(source, budget)
        return _Start(edges, decoded(handler, source, edges))
    held = vault.holding(last)
    needed = memory_for((rows + last.rows) * row_cost(source))
    if needed > budget.memory:
        raise UsageError(
            f"a later version of a table of {last.rows:,} rows is matched with it in memory",
            where=source.name,
            remedy=f"pass --memory {-(-needed >> 30)}G, or register it under a name of its own",
        )
    before_ids, frozen = held.everything()
    next_id = int(last.meta["next_id"])
    content = handler.inherit(handler.decode(held.source, before_ids), handler.decode(source), next_id)
    return _Start((0, rows), [content], frozen, next_id)


class _Gathered:
    """What is summed up over the blocks of a version.

    A copy is marked for nobody and measured, so that a table that cannot be marked is refused now, not at
    each export.
    """

    def __init__(self, trees: TreesBuilder, nobody: bytes) -> None:
        self.trees = trees
        self.sketches: list[bytes] = []
        self.rows = self.slots = self.largest_id = 0
        self.channel, self.legend = b"", dict[str, Any]()
        self._nobody = nobody
        self._meter: DistortionMeter[Any] | None = None
        self._per_group: Counter[int] = Counter()

    def add(self, handler: Carrier[Any], content: Any, plan: Slots) -> None:
        """Add one block and its plan."""
        if self._meter is None:
            self.channel, self.legend = plan.channel, dict(plan.legend)
            self._meter = handler.distortion(plan.legend)
        own = symbols(self._nobody, plan.address, plan.bias, plan.channel)
        self._meter.add(content, handler.embed(content, plan, own))
        ids = handler.ids(content)
        self.trees.add(handler.leaves(content), plan)
        self.sketches.append(handler.fingerprint(content, default_engines()))
        self.rows, self.slots = self.rows + len(ids), self.slots + len(plan)
        self.largest_id = max(self.largest_id, int(ids.max()))
        groups, counts = np.unique(plan.place[:, 0], return_counts=True)
        self._per_group.update(dict(zip(groups.tolist(), counts.tolist(), strict=True)))

    def check_room(self, name: str) -> None:
        """Refuse a version that no mark fits into."""
        least = votes_needed(TRACE_ALPHA, 1)
        if self.slots < least:
            raise CapacityError(
                f"{self.slots} slots cannot name a recipient at {TRACE_ALPHA:g}, {least} are needed",
                where=name,
                remedy="protect fewer columns or allow a larger --tolerance; a version that shares few rows "
                "with the earlier ones needs a name of its own",
            )
        assert self._meter is not None
        broken = self._meter.result().broken
        if broken:
            raise CapacityError(
                f"marked copies would break the distortion contract: {broken[0]}",
                where=name,
                remedy="protect one of the columns named (--protect-columns), or lower its --tolerance",
            )

    def roots(self, secret: bytes, salt: bytes) -> dict[str, str]:
        """Return the roots over rows, slots and biases, and the commitment to the decoys' seed."""
        decoys = keys.commit("decoys", keys.decoy_seed(secret), salt)
        return {**self.trees.finish().roots(), "decoys_commitment": decoys}

    def capacity(self) -> dict[str, Any]:
        """Return slots in all and per column group, guarded columns, and the forecast."""
        facts = self.legend["facts"]
        return {
            "slots": self.slots,
            "groups": [
                {"columns": members, "slots": self._per_group[int(number)]}
                for number, members in self.legend["groups"].items()
            ],
            "guarded": dict(facts["guarded"]),
            # Neighbouring rows show what a swapped cell held before, where rows are sorted by a marked column.
            "sorted_by_marked": [c for c in facts["monotone"] if c not in facts["guarded"]],
            "forecast": plain(forecast(self.slots, self.rows)),
        }


def _payload(record: Dataset, names: tuple[str, ...], law: BiasLaw, made: _Gathered) -> dict[str, Any]:
    """Return what the ledger binds of a registration."""
    return {
        "dataset": record.name, "lineage": record.lineage, "version": record.version, "kind": record.kind,
        "rows": record.rows, "columns": list(names), "sha256": record.meta["source_sha256"], **record.roots,
        "slots": made.slots, "law": plain(law), "channel": made.channel.hex(),
        "groups": made.legend["groups"], "facts_sha256": _facts_digest(made.legend), "tool": VERSION,
    }  # fmt: skip


def check_name(name: str) -> None:
    """Refuse what cannot name a dataset: UsageError."""
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


def _facts_digest(legend: Mapping[str, Any]) -> str:
    """Return the SHA-256 of the mined facts a plan rests on."""
    return hashlib.sha256(canonical_json(legend["facts"])).hexdigest()
