"""How much memory a command may take, and whom it tells how far it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from dataguard.errors import UsageError

__all__ = ["DEFAULT_BUDGET", "DEFAULT_MEMORY", "LEAST_MEMORY", "Budget", "Watch", "parse_memory", "unwatched"]

Watch = Callable[[str, int, int], None]
"""``watch(what, done, total)``: rows of a step that are done, and all of them."""

DEFAULT_MEMORY = 2 << 30
LEAST_MEMORY = 512 << 20
"""Below this, libraries and buffers alone would fill the bound."""

_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


def unwatched(what: str, done: int, total: int) -> None:
    """Tell nobody."""


@dataclass(frozen=True, slots=True)
class Budget:
    """What a command may take.

    Attributes
    ----------
    memory : int
        Bytes of main memory, interpreter and libraries included; larger tables are worked on in blocks.
    watch : Watch
        Told of progress.
    """

    memory: int = DEFAULT_MEMORY
    watch: Watch = unwatched

    def __post_init__(self) -> None:
        if self.memory < LEAST_MEMORY:
            raise UsageError(
                f"{self.memory >> 20} MiB of memory is too little",
                remedy=f"allow at least {LEAST_MEMORY >> 20}M",
            )


DEFAULT_BUDGET = Budget()


def parse_memory(text: str) -> int:
    """Return a number of bytes written like ``2G``, ``800M`` or ``1.5 GiB``.

    Raises
    ------
    UsageError
        Anything else.
    """
    folded = text.strip().upper().removesuffix("B").removesuffix("I").strip()
    number, unit = (folded[:-1], folded[-1]) if folded[-1:] in _UNITS and folded[-1:] else (folded, "")
    try:
        value = float(number) * _UNITS[unit]
    except ValueError:
        raise UsageError(f"{text!r} is no amount of memory", remedy="write it like 2G or 800M") from None
    if not 0 < value < 1 << 60:
        raise UsageError(f"{text!r} is no amount of memory", remedy="write it like 2G or 800M")
    return int(value)
