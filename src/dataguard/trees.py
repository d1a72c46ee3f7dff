"""What is committed at registration: roots over rows, slot plan and biases, and how leaves open.

Built in one place, block by block, so that registration and report make the same trees from
the same vault years apart.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dataguard import keys
from dataguard.registry.commitments import Tree, TreeBuilder
from dataguard.slots import Slots

__all__ = ["Trees", "TreesBuilder", "suspect_tree"]

U8 = NDArray[np.uint8]
I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class Trees:
    """The three committed trees of one dataset version.

    Attributes
    ----------
    rows, slots, biases : Tree
        Leaves: canonical rows in file order; slots and biases in plan order.
    """

    rows: Tree
    slots: Tree
    biases: Tree

    def roots(self) -> dict[str, str]:
        """Return the three roots in hex, by the names the ledger uses."""
        return {
            "rows_root": self.rows.root.hex(),
            "slots_root": self.slots.root.hex(),
            "bias_root": self.biases.root.hex(),
        }


class TreesBuilder:
    """Builds the committed trees of a version from its blocks, in order.

    Parameters
    ----------
    secret : bytes
        Secret of the dataset lineage.
    version : int
    rows, slots : int
        How many are to come; needed only where some are opened.
    open_rows, open_slots : iterable of int
        Rows, and slots with their biases, to open.
    """

    def __init__(
        self,
        secret: bytes,
        version: int,
        *,
        rows: int = 0,
        slots: int = 0,
        open_rows: Iterable[int] = (),
        open_slots: Iterable[int] = (),
    ) -> None:
        def builder(name: str, tag: bytes, size: int, opened: Iterable[int]) -> TreeBuilder:
            salt_key = keys.salt_key(secret, name, version)
            return TreeBuilder(salt_key=salt_key, tag=tag, opened=opened, size=size)

        opened = list(open_slots)
        self._rows = builder("rows", b"rows/1\0\0", rows, open_rows)
        self._slots = builder("slots", b"slots/1\0", slots, opened)
        self._biases = builder("biases", b"biases/1", slots, opened)

    def add(self, leaves: tuple[U8, I64], slots: Slots) -> None:
        """Add one block: the canonical bytes of its units, as the carrier gives them, and its slots."""
        self._rows.add(*leaves)
        self._slots.add(*_words(np.column_stack([slots.address, slots.place.view(np.uint64)])))
        self._biases.add(*_words(np.column_stack([slots.address, slots.bias.view(np.uint64)])))

    def finish(self) -> Trees:
        """Return the trees."""
        return Trees(self._rows.finish(), self._slots.finish(), self._biases.finish())


def _words(words: U64) -> tuple[U8, I64]:
    """Return fixed-width leaves: each row of uint64 words in little-endian order."""
    data = np.ascontiguousarray(words.astype("<u8")).view(np.uint8).ravel()
    return data, np.arange(len(words) + 1, dtype=np.int64) * (8 * words.shape[1])


def suspect_tree(size: int = 0, opened: Iterable[int] = ()) -> TreeBuilder:
    """Return the builder of the tree over a suspect's units, numbered from 0; no salts: it is no secret."""
    return TreeBuilder(salt_key=None, tag=b"", opened=opened, size=size)
