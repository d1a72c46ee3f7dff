"""Whether a vault would still do its work: keys, ledger, registry, reference copies, committed roots.

Run on a live vault and on one just restored, so that a backup is known to be good on the day
it is made and not on the day it is needed. Nothing is changed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from dataguard import keys
from dataguard.errors import DataguardError, LedgerError
from dataguard.formats.arrow import ArrowSource
from dataguard.holdings import OpenVault
from dataguard.modalities.discovery import carrier
from dataguard.registry import ledger
from dataguard.registry.store import Dataset
from dataguard.registry.verification import Step, step, verify
from dataguard.trees import TreesBuilder

__all__ = ["audit"]

_OF_DATASET = ("lineage", "version", "kind", "rows")


def audit(
    vault: OpenVault, key_problems: Sequence[str], masters: int, *, is_moved: bool = False
) -> list[Step]:
    """Check a vault and return the numbered steps; it is sound if all are ``ok``.

    1-5. The ledger (`dataguard.registry.verification.verify`).
    6. The database's own check of its pages.
    7. Keys: modes and leftovers; as many master secrets as the ledger tells of, and one that derives the
       scope of every registered lineage.
    8. Registry records say what the ledger says: datasets, mark keys, exports.
    9. Reference copies have their registered digests, plans and ids can be read.
    10. Roots over rows, slots and biases, computed again from reference copies, plans and keys.

    Parameters
    ----------
    vault : OpenVault
    key_problems : sequence of str
        What ``KeyFiles.problems`` says.
    masters : int
        Number of master secrets found.
    is_moved : bool
        The vault has just been restored: originals kept outside of it may be elsewhere.
    """
    steps: list[Step] = []
    try:
        steps += verify(vault.store, vault.identity)
        entries, datasets = ledger.entries(vault.store), vault.store.list_datasets()
    except LedgerError as error:
        return [*steps, step(6, "database", [str(error), *vault.store.damage()], "")]
    present = [d for d in datasets if not (is_moved and _is_elsewhere(vault, d))]
    away = (
        f", {len(datasets) - len(present)} kept outside and not here" if len(present) < len(datasets) else ""
    )
    copies = _problems(present, lambda record: _copy_problem(vault, record))
    sound = [record for record in present if record.id not in copies]
    roots = _problems(sound, lambda record: _root_problem(vault, record))
    kept = [*key_problems, *_master_problems(vault, entries, datasets, masters)]
    return [
        *steps,
        step(6, "database", vault.store.damage(), "sound"),
        step(7, "keys", kept, f"fit all {len({d.lineage for d in datasets})} lineages"),
        step(8, "records", list(_record_problems(vault, entries, datasets)), "as in the ledger"),
        step(9, "reference copies", list(copies.values()), f"{len(present)} as registered{away}"),
        step(10, "committed roots", list(roots.values()), f"{len(sound)} versions recomputed"),
    ]


def _is_elsewhere(vault: OpenVault, record: Dataset) -> bool:
    reference = vault.folder / record.path  # an absolute path stays as it is
    return not reference.is_relative_to(vault.folder) and not reference.exists()


def _problems(records: Iterable[Dataset], check: Callable[[Dataset], str]) -> dict[str, str]:
    """Return what is wrong, by dataset id."""
    found = {}
    for record in records:
        try:
            problem = check(record)
        except DataguardError as error:
            problem = str(error)
        except (ArithmeticError, LookupError, TypeError, ValueError) as error:
            # A record or plan that says something impossible: damaged, or made to mislead.
            problem = f"malformed record or plan ({type(error).__name__})"
        if problem:
            found[record.id] = f"{record.name} version {record.version}: {problem}"
    return found


def _copy_problem(vault: OpenVault, record: Dataset) -> str:
    held = vault.holding(record)
    return "" if held.edges[-1] == record.rows else f"{held.edges[-1]} row ids for {record.rows} rows"


def _root_problem(vault: OpenVault, record: Dataset) -> str:
    builder = TreesBuilder(keys.dataset_secret(vault.master, record.lineage), record.version)
    handler = carrier(record.kind)
    held = vault.holding(record)
    for block in held.blocks():
        content = handler.decode(ArrowSource(block.table, held.source.name), block.ids)
        builder.add(handler.leaves(content), block.slots)
    found = builder.finish().roots()
    wrong = [name for name, root in found.items() if record.roots.get(name) != root]
    return f"{wrong[0]} is another than the committed one" if wrong else ""


def _master_problems(
    vault: OpenVault, entries: Sequence[ledger.Entry], datasets: Sequence[Dataset], masters: int
) -> Iterator[str]:
    needed = 1 + sum(entry.type == "master-added" for entry in entries)
    if masters < needed:
        yield f"{masters} master secrets, the ledger tells of {needed}"
    scopes = ledger.lineage_scopes(vault.store)
    for lineage, name in {d.lineage: d.name for d in datasets}.items():
        try:
            own = keys.scope_pseudonym(keys.dataset_secret(vault.master, lineage))
        except DataguardError as error:
            yield f"{name}: {error}"
            continue
        if scopes.get(lineage) != own:
            yield f"{name}: the master secret is not that of the dataset"


def _record_problems(
    vault: OpenVault, entries: Sequence[ledger.Entry], datasets: Sequence[Dataset]
) -> Iterator[str]:
    """Yield where registry and ledger differ, either way."""
    registered = {
        (e.payload.get("dataset"), e.payload.get("version")): e.payload
        for e in entries
        if e.type == "registration"
    }
    for d in datasets:
        payload = registered.pop((d.name, d.version), {})
        told = {**{n: getattr(d, n) for n in _OF_DATASET}, **d.roots, "sha256": d.meta.get("source_sha256")}
        if any(payload.get(name) != value for name, value in told.items()):
            yield f"dataset {d.id} is not as in the ledger"
    yield from (f"dataset {name} version {version} is missing" for name, version in registered)
    committed = {
        (p["lineage"], p["recipient"], p["generation"], p["commitment"])
        for p in (e.payload for e in entries if e.type == "mark-key")
    }
    known = {(m.lineage, m.recipient, m.generation, m.commitment) for m in vault.store.list_mark_keys()}
    yield from (
        f"mark key of {key[1]} is in only one of registry and ledger" for key in sorted(committed ^ known)
    )
    released = {(e.seq, e.payload.get("sha256")) for e in entries if e.type == "export"}
    exports = {(x.sequence, x.sha256) for x in vault.store.list_exports()}
    yield from (
        f"export {seq} is in only one of registry and ledger" for seq, _ in sorted(released ^ exports)
    )
