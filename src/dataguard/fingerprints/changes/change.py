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
        duplicated, selected, aggregated``. Of a column: those below.
    detail : mapping
        JSON-ready particulars: column names, shares of cells or rows between 0 and 1, and
        distances in the column's own unit.

    Notes
    -----
    Of one column (`naming`): ``affine {scale, offset, unit, residual}``, with ``second_offset`` for daylight
    saving time, ``printed_to`` for the decimals it is printed to, and ``said`` where the factor is constant
    but of no known unit; ``function {name, residual}``, with scale and offset if any; ``rounded {step, rule}``
    or ``{digits, rule}``, the step of moments by name (day, month); ``clipped {low, high, share}``;
    ``noise {sd, relative_sd, share}``; ``format {from, to, share}``; ``recoded {map, values}``;
    ``hashed {algorithm, values}``; ``truncated {characters}``; ``masked {pattern}``; ``blanked {share}``;
    ``filled {share, value}``; ``near-values {share, max}`` and ``far-values {share}`` for what has no name.
    Of columns made of others (`composed`): ``merged {from, separator}``, ``split {from, part}``,
    ``computed {from, formula}``.
    """

    kind: str
    detail: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return the change as JSON types: kind and particulars side by side."""
        return {"kind": self.kind, **self.detail}
