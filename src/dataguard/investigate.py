"""The investigator's shell, first part: compare two datasets, scan files for registered ones. No key is loaded."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dataguard.errors import DataguardError
from dataguard.fingerprints.compare import Comparison
from dataguard.fingerprints.engines import default_engines
from dataguard.fingerprints.sketch import overlap
from dataguard.formats.source import Source, open_source
from dataguard.holdings import OpenVault
from dataguard.modalities.discovery import carrier, detect
from dataguard.model import COMPARE_ALPHA, Relation, Shown
from dataguard.registry.store import Dataset

__all__ = ["ScanResult", "compare", "expand", "matches", "newest", "scan"]

# --- compare -------------------------------------------------------------------------------------


def compare(
    original: str | os.PathLike[str] | object,
    suspect: str | os.PathLike[str] | object,
    *,
    alpha: float = COMPARE_ALPHA,
) -> Comparison:
    """Return how two datasets are related; no vault, no key.

    Parameters
    ----------
    original, suspect : path or Arrow stream object
    alpha : float
        Largest log10_p at which a relation is stated is log10(alpha).
    """
    first, second = open_source(original), open_source(suspect)
    handler = detect(first)
    engines = default_engines()
    a, b = handler.decode(first), handler.decode(second)
    found: Comparison = handler.compare(a, b, handler.align(a, b, engines), engines, alpha)
    return found


# --- scan ----------------------------------------------------------------------------------------


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
    """

    path: str
    matches: tuple[Mapping[str, Any], ...]
    skipped: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON document of one line of `dataguard scan`."""
        return {
            "schema": "dataguard.scan/1",
            "path": self.path,
            "matches": [dict(m) for m in self.matches],
            "skipped": self.skipped or None,
        }


def scan(
    vault: OpenVault, paths: Iterable[str | os.PathLike[str]], *, alpha: float = COMPARE_ALPHA
) -> Iterator[ScanResult]:
    """Yield, per file, the registered datasets that occur in it.

    The error `alpha` is shared by all datasets the registry holds, for each file.
    """
    datasets = newest(vault.store.list_datasets())
    for path in paths:
        try:
            source = open_source(path)
            yield ScanResult(str(path), tuple(matches(vault, source, datasets, alpha)))
        except DataguardError as error:
            yield ScanResult(str(path), (), str(error))


def newest(datasets: Iterable[Dataset]) -> list[Dataset]:
    """Return the newest version of each dataset, in order of first registration."""
    by_name: dict[str, Dataset] = {}
    for dataset in datasets:
        by_name[dataset.name] = dataset
    return list(by_name.values())


def matches(
    vault: OpenVault, source: Source, datasets: list[Dataset], alpha: float
) -> Iterator[dict[str, Any]]:
    """Yield the registered datasets that occur in a source, each at its share of `alpha`."""
    engines = default_engines()
    decoded: dict[str, Any] = {}
    for dataset in datasets:
        handler = carrier(dataset.kind)
        if dataset.kind not in decoded:
            decoded[dataset.kind] = handler.decode(source)
        suspect = decoded[dataset.kind]
        print_ = vault.store.get_fingerprint(dataset.id, "columns/1").blob
        if overlap(print_, handler.fingerprint(suspect, engines)) <= 0:
            continue
        held = vault.holding(dataset)
        original = handler.decode(held.source, held.ids)
        share = alpha / max(1, len(datasets))
        found = handler.compare(original, suspect, handler.align(original, suspect, engines), engines, share)
        if found.relation not in (Relation.SAME_SCHEMA, Relation.UNRELATED):
            document = found.to_dict()
            yield {
                "dataset": dataset.name, "version": dataset.version, "relation": document["relation"],
                "containment_original": document["containment_original"],
                "containment_suspect": document["containment_suspect"], "log10_p": document["log10_p"],
            }  # fmt: skip


def expand(paths: Iterable[str | os.PathLike[str]]) -> Iterator[Path]:
    """Yield the files below folders, and files as they are, in a stable order; hidden ones are left out.

    A name with ``* ? [`` that is no file is a pattern, as a shell would expand it.
    """
    for path in map(Path, paths):
        if not path.is_dir():
            is_pattern = not path.exists() and any(c in str(path) for c in "*?[")
            # Path.glob wants a folder and a relative pattern; what a user types is one string.
            names = sorted(glob.glob(str(path), recursive=True)) if is_pattern else [str(path)]  # noqa: PTH207
            yield from map(Path, names)
            continue
        for found in sorted(path.rglob("*")):
            inside = found.relative_to(path).parts
            if found.is_file() and not any(part.startswith(".") for part in inside):
                yield found
