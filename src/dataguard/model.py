"""The nouns every part of dataguard speaks: plain, frozen, and free of numpy.

An expert's machine can import this file with nothing but Python. Numbers carry their
unit or meaning in the attribute's description; log10 values are already rounded towards
the innocent (upwards).
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from enum import StrEnum
from html import escape
from typing import Any

__all__ = [
    "COMPARE_ALPHA",
    "LEVELS",
    "LOG10_FLOOR",
    "ONE",
    "TRACE_ALPHA",
    "VOTE_LIMIT",
    "VOTE_UNIT",
    "BiasLaw",
    "Finding",
    "Outcome",
    "Relation",
    "Shown",
    "bias_leaf",
    "document",
    "html_table",
    "plain",
    "slot_leaf",
    "without_nan",
]

ONE = 65536
"""Denominator of every bias: symbol 1 has probability P / ONE (DESIGN 4.2)."""

VOTE_UNIT = 64
"""Votes are counted in 1/64 nat of log-likelihood ratio (DESIGN 4.3)."""

VOTE_LIMIT = 4 * VOTE_UNIT
"""Largest vote of one address. Four nats: a clean reading of one cell is worth no more,
so that both ends of a pair, or a row that stands twice, cannot count twice."""

LOG10_FLOOR = -30.0
"""Reported log10 p is never below this: beyond it, process errors rule, not chance."""


TRACE_ALPHA = 1e-9
"""Default family-wise error of tracing, over all committed keys and all runs on a dataset (CONTRACT)."""

COMPARE_ALPHA = 1e-6
"""Default error of `compare` and `scan`, over all they try (CONTRACT)."""


class Outcome(StrEnum):
    """What a trace can say."""

    CORRESPONDS = "corresponds"
    INCONCLUSIVE = "inconclusive"
    NO_MARK = "no-mark"


class Relation(StrEnum):
    """What a comparison can say of two tables' rows, after undoing changes (CONTRACT)."""

    IDENTICAL = "identical"
    SAME_ROWS = "same-rows"
    SUBSET = "subset"
    SUPERSET = "superset"
    OVERLAP = "overlap"
    DERIVED = "derived"
    SAME_SCHEMA = "same-schema"
    UNRELATED = "unrelated"


@dataclass(frozen=True, slots=True)
class BiasLaw:
    """The small table of biases a profile draws from.

    Attributes
    ----------
    name : str
        Profile it belongs to; part of the committed scheme.
    levels : tuple of int
        Numerators P over 65536, each strictly between 0 and 65536.
    shares : tuple of int
        Share of slots at each level, over 65536; they add up to 65536.
    """

    name: str
    levels: tuple[int, ...]
    shares: tuple[int, ...]

    def __post_init__(self) -> None:
        assert len(self.levels) == len(self.shares) <= 256, "one byte holds a level"
        assert all(0 < p < ONE for p in self.levels), "a bias of 0 or 1 carries no symbol"
        assert sum(self.shares) == ONE, "shares add up to one"


LEVELS: Mapping[str, BiasLaw] = {"single": BiasLaw("single", (ONE // 2,), (ONE,))}
"""Bias laws by profile. ``single`` (all one half) is best against one leaker, noise and averages."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One statement of measurement.

    Attributes
    ----------
    subject : str
        What was measured.
    method : str
        Name and version of the method.
    null_hypothesis : str
        What is assumed in the probability.
    counts : mapping of str to int
        The integers everything else is computed from.
    log10_p : float or None
        Base-10 logarithm of an upper bound on the probability under the null hypothesis;
        None where it was not computed.
    """

    subject: str
    method: str
    null_hypothesis: str
    counts: Mapping[str, int] = field(default_factory=dict)
    log10_p: float | None = None


def plain(value: object) -> object:
    """Return `value` as JSON types: dataclasses become objects, tuples lists, enums their text."""
    if isinstance(value, StrEnum):
        return str(value)
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(v) for v in value]
    if hasattr(value, "__dataclass_fields__"):
        shown = {f.name: plain(getattr(value, f.name)) for f in fields(value)}  # type: ignore[arg-type]
        return {k: v for k, v in shown.items() if not k.startswith("_")}
    return value


def document(schema: str, value: object) -> dict[str, Any]:
    """Return a result as the JSON object scripts rely on; what is not a number (nan) becomes null.

    Parameters
    ----------
    schema : str
        Name and version, e.g. ``dataguard.trace/1``.
    value : dataclass
    """
    shown = without_nan(plain(value))
    assert isinstance(shown, dict)
    return {"schema": schema, **shown}


def without_nan(value: object) -> object:
    """Return JSON types with null for every number that is none."""
    if isinstance(value, dict):
        return {k: without_nan(v) for k, v in value.items()}
    if isinstance(value, list):
        return [without_nan(v) for v in value]
    return None if isinstance(value, float) and math.isnan(value) else value


class Shown:
    """Gives a result a notebook display made from its JSON document."""

    __slots__ = ()

    def _repr_html_(self) -> str:
        return html_table(self.to_dict())  # type: ignore[attr-defined]


def html_table(value: object) -> str:
    """Return a JSON document as nested HTML tables; all text is escaped."""
    if isinstance(value, Mapping):
        rows = "".join(
            f"<tr><th>{escape(str(k))}</th><td>{html_table(v)}</td></tr>" for k, v in value.items()
        )
        return f"<table>{rows}</table>"
    if isinstance(value, list):
        shown = value[:_MOST_SHOWN]
        more = f"<li>and {len(value) - len(shown)} more</li>" if len(value) > len(shown) else ""
        return "<ul>" + "".join(f"<li>{html_table(v)}</li>" for v in shown) + more + "</ul>"
    return escape("" if value is None else str(value))


_MOST_SHOWN = 20


def slot_leaf(address: int, place: Sequence[int]) -> bytes:
    """Return the committed bytes of one slot: address (uint64), then its place (int64 each), little-endian."""
    return struct.pack("<Q", address) + b"".join(struct.pack("<q", p) for p in place)


def bias_leaf(address: int, bias: int) -> bytes:
    """Return the committed bytes of one bias: address (uint64), numerator P over 65536 (uint64), little-endian."""
    return struct.pack("<QQ", address, bias)
