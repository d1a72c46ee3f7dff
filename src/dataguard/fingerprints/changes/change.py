"""One thing that was done, as it is reported."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Change"]


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that was done on the way from the original to the suspect.

    Attributes
    ----------
    kind : str
        Of a table: ``reordered, sorted, columns-reordered, columns-dropped, columns-added, renamed, mixed,
        duplicated, selected, aggregated``. Of a column: ``affine, function, rounded, noise, format, recoded,
        hashed, truncated, clipped, blanked, split, merged, near-values, far-values``.
    detail : mapping
        JSON-ready particulars: column names, shares of cells or rows between 0 and 1, and
        distances in the column's own unit.
    """

    kind: str
    detail: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return the change as JSON types: kind and particulars side by side."""
        return {"kind": self.kind, **self.detail}
