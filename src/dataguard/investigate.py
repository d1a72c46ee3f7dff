"""The investigator's shell, first part: compare two datasets, scan files for registered ones. No key is loaded."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from dataguard.budget import DEFAULT_BUDGET, Budget
from dataguard.carrier import Carrier
from dataguard.errors import DataguardError, UsageError
from dataguard.fingerprints.comparison.decomposition import Decomposition, Part, decompose
from dataguard.fingerprints.comparison.exhibits import Exhibits, make_exhibits
from dataguard.fingerprints.comparison.public import public_rows
from dataguard.fingerprints.comparison.tables import Comparison
from dataguard.fingerprints.engines import default_engines
from dataguard.fingerprints.sketch import merge_sketches, overlap
from dataguard.formats.blocks import memory_for, release, row_cost
from dataguard.formats.parts import SeveralTablesError
from dataguard.formats.source import PART, Source, open_source, shown
from dataguard.holdings import OpenVault
from dataguard.modalities.discovery import carrier, detect
from dataguard.model import COMPARE_ALPHA, Relation, Shown, plain, without_nan
from dataguard.reading import decoded, edges_of, large
from dataguard.registry.store import Dataset

__all__ = [
    "Found",
    "ScanResult",
    "compare",
    "compare_sources",
    "compare_with_exhibits",
    "expand",
    "matches",
    "newest",
    "scan",
]

# --- compare -------------------------------------------------------------------------------------


def compare(
    original: str | os.PathLike[str] | object,
    suspect: str | os.PathLike[str] | object,
    *,
    alpha: float = COMPARE_ALPHA,
    budget: Budget = DEFAULT_BUDGET,
) -> Comparison:
    """Return how two datasets are related; no vault, no key.

    Parameters
    ----------
    original, suspect : path or Arrow stream object
    alpha : float
        Largest log10_p at which a relation is stated is log10(alpha).
    budget : Budget
        Tables that do not fit its memory together are compared by samples.
    """
    return replace(_compared(original, suspect, (), alpha, budget), basis=None)


def compare_with_exhibits(
    original: str | os.PathLike[str] | object,
    suspect: str | os.PathLike[str] | object,
    *,
    alpha: float = COMPARE_ALPHA,
    budget: Budget = DEFAULT_BUDGET,
    public: Sequence[str | os.PathLike[str] | object] = (),
) -> tuple[Comparison, Exhibits]:
    """Return how two datasets are related, and rows and values to look at.

    Parameters
    ----------
    original, suspect, alpha, budget
        As for :func:`compare`.
    public : sequence of path or Arrow stream object
        Freely available data: suspect rows found in it are left out before the comparison.

    Raises
    ------
    UsageError
        `public` with tables that do not fit the memory.
    """
    found = _compared(original, suspect, public, alpha, budget)
    basis = found.basis
    shown = Exhibits() if basis is None else make_exhibits(
        basis.original, basis.suspect, basis.alignment, found.columns
    )  # fmt: skip
    return replace(found, basis=None), shown


def _compared(
    original: object, suspect: object, public: Sequence[object], alpha: float, budget: Budget
) -> Comparison:
    _check_alpha(alpha)
    first, second = open_source(original), open_source(suspect)
    return compare_sources(detect(first), first, second, alpha, budget, [open_source(p) for p in public])


def compare_sources(
    handler: Carrier[Any],
    original: Source,
    suspect: Source,
    alpha: float,
    budget: Budget,
    public: Sequence[Source] = (),
) -> Comparison:
    """Return how two sources of one kind are related (see :func:`compare`)."""
    engines = default_engines()
    size = sum(s.rows() * row_cost(s) for s in (original, suspect, *public))
    found: Comparison
    # Comparing takes about half of what registering does (measured: 48 bytes a cell of two flights files).
    if memory_for(size * 2 // 3) > budget.memory:
        if public:
            raise UsageError(
                "freely available rows can be left out only of tables that fit the memory", where=suspect.name,
                remedy="give more with --memory",
            )  # fmt: skip
        first, second = (large(handler, s, edges_of(s, budget), budget) for s in (original, suspect))
        found = handler.compare_large(first, second, engines, alpha)
        return found
    a, b = handler.decode(original), handler.decode(suspect)
    release()  # what reading took
    budget.watch("compare", 0, 2)
    left_out = None
    if public:
        known = (handler.decode(p).canonical for p in public)
        left_out = public_rows(b.canonical, known, engines.align, alpha)
        b = handler.take(b, left_out.kept)
    aligned = handler.align(a, b, engines)
    budget.watch("compare", 1, 2)
    found = handler.compare(a, b, aligned, engines, alpha)
    budget.watch("compare", 2, 2)
    if left_out is None:
        return found
    counted = [{"name": p.name, **told} for p, told in zip(public, _told(left_out.files), strict=True)]
    told = {"rows": int(left_out.public.sum()), "files": counted}
    rows = replace(found.rows, suspect=len(left_out.public), examined=found.rows.suspect)
    return replace(found, rows=rows, parts={**found.parts, "public": told})


def _told(files: Sequence[object]) -> list[dict[str, Any]]:
    shown = without_nan(plain(files))
    assert isinstance(shown, list)
    return shown


# --- scan ----------------------------------------------------------------------------------------

_MARKERS = {"_SUCCESS", "_metadata", "_common_metadata"}
"""What query engines leave beside the Parquet files of a folder; no rows are in it."""


@dataclass(frozen=True, slots=True)
class ScanResult(Shown):
    """Registered datasets found in one file.

    Attributes
    ----------
    path : str
    matches : tuple of mapping
        ``dataset, version, containment_original, containment_suspect, log10_p`` each.
    skipped : str
        Why the file was not read; empty if it was.
    unavailable : tuple of str
        Registered datasets it could not be compared with, each with the reason: their reference copy is
        gone or has changed.
    decomposition : Decomposition or None
        Which of these datasets and their versions explain how many of its rows; None where nothing was found, or
        the file was compared by samples.
    """

    path: str
    matches: tuple[Mapping[str, Any], ...]
    skipped: str = ""
    unavailable: tuple[str, ...] = ()
    decomposition: Decomposition | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON document of one line of `dataguard scan`."""
        return {
            "schema": "dataguard.scan/1",
            "path": self.path,
            "matches": [dict(m) for m in self.matches],
            "skipped": self.skipped or None,
            "unavailable": list(self.unavailable),
            "decomposition": None if self.decomposition is None else self.decomposition.to_dict(),
        }


@dataclass(frozen=True, slots=True)
class Found:
    """Registered datasets that occur in a source.

    Attributes
    ----------
    matches : tuple of mapping
        As in `ScanResult`, with the ``relation``.
    unavailable : tuple of str
        As in `ScanResult`.
    parts : tuple of Part
        The rows that each match explains, where all rows were compared.
    """

    matches: tuple[Mapping[str, Any], ...]
    unavailable: tuple[str, ...]
    parts: tuple[Part, ...] = ()


def scan(
    vault: OpenVault,
    paths: Iterable[str | os.PathLike[str]],
    *,
    alpha: float = COMPARE_ALPHA,
    budget: Budget = DEFAULT_BUDGET,
) -> Iterator[ScanResult]:
    """Yield, per file, the registered datasets that occur in it.

    The error `alpha` is shared by all datasets the registry holds, for each file.
    """
    _check_alpha(alpha)
    datasets = vault.store.list_datasets()
    for path in paths:
        try:
            yield _scanned(vault, path, datasets, alpha, budget)
        except SeveralTablesError as error:  # a workbook or a database: all that is in it
            for part in error.parts:
                yield _scanned(vault, f"{path}{PART}{part}", datasets, alpha / len(error.parts), budget)
        release()


def _scanned(
    vault: OpenVault, path: str | os.PathLike[str], datasets: list[Dataset], alpha: float, budget: Budget
) -> ScanResult:
    """Look into one table.

    Raises
    ------
    SeveralTablesError
        It is several.
    """
    try:
        source, latest = open_source(path), newest(datasets)
        share = alpha / max(1, len(datasets))
        found = matches(vault, source, latest, share * len(latest), budget)
        names = {m["dataset"] for m in found.matches}
        earlier = [d for d in datasets if d not in latest]
        # Every version of a dataset pays its share of alpha, looked at or not.
        older = matches(vault, source, earlier, share * len(earlier), budget)
        parts = (*found.parts, *older.parts)
        whole = decompose(parts, source.rows()) if parts else None
        only_older = [m for m in older.matches if m["dataset"] not in names]
        occurring = (*found.matches, *only_older)
        return ScanResult(shown(path), occurring, unavailable=found.unavailable, decomposition=whole)
    except SeveralTablesError:
        raise
    except DataguardError as error:
        # In a folder full of other files the list of known suffixes would only tire.
        is_other = error.what.startswith("unknown kind of file")
        return ScanResult(shown(path), (), f"{error.where}: {error.what}" if is_other else str(error))


def _check_alpha(alpha: float) -> None:
    if not 0 < alpha < 1:
        raise UsageError(f"alpha {alpha:g} is not between 0 and 1", remedy="1e-6 is usual")


def newest(datasets: Iterable[Dataset]) -> list[Dataset]:
    """Return the newest version of each dataset, in order of first registration."""
    by_name: dict[str, Dataset] = {}
    for dataset in datasets:
        by_name[dataset.name] = dataset
    return list(by_name.values())


def matches(vault: OpenVault, source: Source, datasets: list[Dataset], alpha: float, budget: Budget) -> Found:
    """Return the registered datasets that occur in a source, each at its share of `alpha`.

    One whose reference copy is gone or has changed is left out, and said to be.
    """
    prints: dict[str, bytes] = {}
    occurring: list[Mapping[str, Any]] = []
    unavailable: list[str] = []
    parts: list[Part] = []
    for dataset in datasets:
        handler = carrier(dataset.kind)
        if dataset.kind not in prints:
            prints[dataset.kind] = _fingerprint(handler, source, budget)
        known = vault.store.get_fingerprint(dataset.id, "columns/1").blob
        if overlap(known, prints[dataset.kind]) <= 0:
            continue
        try:
            held = vault.holding(dataset)
        except DataguardError as error:
            unavailable.append(f"{dataset.name} (version {dataset.version}): {error.where}: {error.what}")
            continue
        found = compare_sources(handler, held.source, source, alpha / max(1, len(datasets)), budget)
        if found.relation not in (Relation.SAME_SCHEMA, Relation.UNRELATED):
            document = found.to_dict()
            occurring.append({
                "dataset": dataset.name, "version": dataset.version, "relation": document["relation"],
                "containment_original": document["containment_original"],
                "containment_suspect": document["containment_suspect"], "log10_p": document["log10_p"],
            })  # fmt: skip
            parts += _part(dataset, found, source.rows())
    return Found(tuple(occurring), tuple(unavailable), tuple(parts))


def _part(dataset: Dataset, found: Comparison, rows: int) -> list[Part]:
    """Return the rows that a dataset explains, if all rows were looked at."""
    basis = found.basis
    if basis is None or found.rows.examined != rows:
        return []
    alignment = basis.alignment
    at = np.concatenate([alignment.suspect_row, alignment.tied_suspect])
    exact = np.concatenate(
        [alignment.equal, np.full(len(alignment.tied_suspect), len(alignment.columns), np.int64)]
    )
    order = np.argsort(at, kind="stable")
    return [Part(dataset.name, dataset.version, at[order], exact[order], found.rows.original)]


def _fingerprint(handler: Carrier[Any], source: Source, budget: Budget) -> bytes:
    parts = decoded(handler, source, edges_of(source, budget))
    return merge_sketches([handler.fingerprint(content, default_engines()) for content in parts])


def expand(paths: Iterable[str | os.PathLike[str]]) -> Iterator[str | Path]:
    """Yield the files below folders, and files as they are, in a stable order; hidden ones are left out.

    A name with ``* ? [`` that is no file is a pattern, as a shell would expand it; a URI passes as it is.
    """
    for given in paths:
        if "://" in os.fspath(given):
            yield os.fspath(given)
            continue
        path = Path(given)
        if not path.is_dir():
            is_pattern = not path.exists() and any(c in str(path) for c in "*?[")
            # Path.glob wants a folder and a relative pattern; what a user types is one string.
            names = sorted(glob.glob(str(path), recursive=True)) if is_pattern else [str(path)]  # noqa: PTH207
            yield from map(Path, names)
            continue
        for found in sorted(path.rglob("*")):
            inside = found.relative_to(path).parts
            hidden = any(part.startswith(".") for part in inside) or found.name in _MARKERS
            if found.is_file() and not hidden:
                yield found
