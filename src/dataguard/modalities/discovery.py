"""Finds the kinds of data: every module here with a ``CARRIER`` is one.

A new kind is one file; nobody keeps a list.
"""

from __future__ import annotations

import importlib
import pkgutil
from typing import Any

from dataguard.carrier import Carrier
from dataguard.errors import UsageError
from dataguard.formats.source import Source

__all__ = ["carrier", "carriers", "detect"]


def carriers() -> dict[str, Carrier[Any]]:
    """Return all kinds by name."""
    package = importlib.import_module(__name__.rpartition(".")[0])
    found = {}
    for module in pkgutil.iter_modules(package.__path__):
        if not module.name.startswith("_"):
            kind = getattr(importlib.import_module(f"{package.__name__}.{module.name}"), "CARRIER", None)
            if kind is not None:
                found[kind.kind] = kind
    return found


def carrier(kind: str) -> Carrier[Any]:
    """Return the carrier of a kind.

    Raises
    ------
    UsageError
        No such kind.
    """
    known = carriers()
    if kind not in known:
        raise UsageError(f"unknown kind of data {kind!r}", remedy=f"use one of: {', '.join(sorted(known))}")
    return known[kind]


def detect(source: Source) -> Carrier[Any]:
    """Return the first carrier, by name, that can hold a source.

    Raises
    ------
    UsageError
        None can.
    """
    for _, kind in sorted(carriers().items()):
        if kind.detect(source):
            return kind
    raise UsageError("no kind of data fits", where=source.name, remedy="name it with --kind")
