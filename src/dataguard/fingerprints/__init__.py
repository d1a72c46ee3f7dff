"""Key-free: sketches, indexes, hashing; column matching, row alignment, comparison.

>>> import dataguard.fingerprints
>>> "MinHash" in dataguard.fingerprints.__all__
True

Names are imported when first used, so that ``import dataguard.fingerprints`` stays cheap.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__all__ = [
    "KMins",
    "MinHash",
    "MinHashLSH",
    "Resemblance",
    "bands_and_rows",
    "from_datasketch",
    "from_datasketch_lsh",
    "kmins_lists",
    "kmins_sets",
    "lean_from_bytes",
    "lean_to_bytes",
    "signatures",
    "sketch_sets",
    "to_datasketch",
    "to_datasketch_lsh",
]

_HOMES = {
    "KMins": "sketches.kmins",
    "MinHash": "minhash",
    "MinHashLSH": "minhash_lsh",
    "Resemblance": "sketches.resemblance",
    "bands_and_rows": "minhash_lsh",
    "from_datasketch": "interop",
    "from_datasketch_lsh": "interop",
    "kmins_lists": "sketches.permutations",
    "kmins_sets": "sketches.permutations",
    "lean_from_bytes": "interop",
    "lean_to_bytes": "interop",
    "signatures": "minhash_schemes",
    "sketch_sets": "sketches.resemblance",
    "to_datasketch": "interop",
    "to_datasketch_lsh": "interop",
}

if TYPE_CHECKING:
    from dataguard.fingerprints.interop import (
        from_datasketch,
        from_datasketch_lsh,
        lean_from_bytes,
        lean_to_bytes,
        to_datasketch,
        to_datasketch_lsh,
    )
    from dataguard.fingerprints.minhash import MinHash
    from dataguard.fingerprints.minhash_lsh import MinHashLSH, bands_and_rows
    from dataguard.fingerprints.minhash_schemes import signatures
    from dataguard.fingerprints.sketches.kmins import KMins
    from dataguard.fingerprints.sketches.permutations import kmins_lists, kmins_sets
    from dataguard.fingerprints.sketches.resemblance import Resemblance, sketch_sets


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
