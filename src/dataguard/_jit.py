"""The one place that decides how kernels are compiled.

Kernels are plain loops in ``_kernels.py`` files. They compile lazily (no explicit
signatures: an import must stay cheap), release the GIL and run on one thread;
parallelism belongs to the callers, by chunks. Helpers and constants live in the same
file as their callers, because numba's cache does not see changes in other files; where
one file takes from another (``shingles`` from ``hashing`` and ``sketches``), clear the
cache after an edit. An installed upgrade replaces all of them.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TypeVar, cast

__all__ = ["CACHE_VARIABLE", "inlined", "kernel"]

F = TypeVar("F", bound=Callable[..., object])

CACHE_VARIABLE = "DATAGUARD_NUMBA_CACHE"
"""Environment variable that switches the on-disk cache on ("1"); the command line does so."""


def kernel(function: F) -> F:
    """Return `function` as a lazily compiled numba kernel.

    The on-disk cache is used only when asked for, and only when numba finds a place it
    can write to: with a read-only installation and no writable home, ``cache=True``
    raises at import time, so the fall-back is to compile without a cache.
    """
    import numba

    if os.environ.get(CACHE_VARIABLE) == "1":
        try:
            return cast("F", numba.njit(nogil=True, cache=True)(function))
        except RuntimeError:
            pass
    return cast("F", numba.njit(nogil=True)(function))


def inlined(function: F) -> F:
    """Return `function` as a part of the kernels that call it: no call is left in the machine code.

    For inner loops over few elements, where handing over the arrays would cost as much as the work.
    It is compiled and cached with its callers.
    """
    import numba

    return cast("F", numba.njit(nogil=True, forceinline=True)(function))
