"""The wiring of the heavy engines that the shells hand to the carriers."""

from __future__ import annotations

from dataguard.carrier import Engines
from dataguard.fingerprints.alignment.gather import candidates
from dataguard.fingerprints.alignment.rows import align
from dataguard.fingerprints.comparison.sampled import compare_sampled
from dataguard.fingerprints.comparison.tables import compare
from dataguard.fingerprints.sketch import sketch_table

__all__ = ["default_engines"]


def default_engines() -> Engines:
    """Return the engines of this package: alignment, comparison, sketching, and those for large tables."""
    return Engines(
        align=align,
        compare=compare,
        sketch=sketch_table,
        gather=candidates,
        compare_large=compare_sampled,
    )
