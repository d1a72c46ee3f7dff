"""The one question all sources answer alike: which columns are wanted, and are they there."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from dataguard.errors import UsageError

__all__ = ["selected"]


def selected(known: Iterable[str], columns: Sequence[str] | None, where: str) -> list[str]:
    """Return the columns wanted, all of `known` by default.

    Raises
    ------
    UsageError
        One of them is not known.
    """
    if columns is None:
        return list(known)
    there = set(known)
    for column in columns:
        if column not in there:
            raise UsageError(f"no column {column!r}", where=where)
    return list(columns)
