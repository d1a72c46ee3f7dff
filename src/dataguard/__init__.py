"""Recipient-specific marks, fingerprints and re-checkable evidence for shared industrial data.

>>> import dataguard
>>> sorted(dataguard.__all__)
['DataguardError', 'Vault', '__version__', 'compare', 'verify']

Names are imported when first used, so that ``import dataguard`` stays cheap.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__all__ = ["DataguardError", "Vault", "__version__", "compare", "verify"]

__version__ = "0.1.0"

_HOMES = {
    "DataguardError": "dataguard.errors",
    "Vault": "dataguard.vault",
    "compare": "dataguard.investigate",
    "verify": "dataguard.evidence.verify",
}

if TYPE_CHECKING:
    from dataguard.errors import DataguardError
    from dataguard.evidence.verify import verify
    from dataguard.investigate import compare
    from dataguard.vault import Vault


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
