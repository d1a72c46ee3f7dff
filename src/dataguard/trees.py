"""What is committed at registration: roots over rows, slot plan and biases, and how leaves open.

Built in one place, so that registration and report make the same trees from the same
vault years apart.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dataguard import keys
from dataguard.registry.commitments import Tree, build_tree
from dataguard.slots import Slots

__all__ = ["Trees", "build_trees", "suspect_tree"]

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


def build_trees(leaves: tuple[U8, I64], slots: Slots, secret: bytes, version: int) -> Trees:
    """Return the committed trees of a version.

    Parameters
    ----------
    leaves : (data, offsets)
        Canonical bytes of the original's units, as the carrier gives them.
    slots : Slots
    secret : bytes
        Secret of the dataset lineage.
    version : int
    """
    rows = build_tree(*leaves, salt_key=keys.salt_key(secret, "rows", version), tag=b"rows/1\0\0")
    plan = _words(np.column_stack([slots.address, slots.place.view(np.uint64)]))
    bias = _words(np.column_stack([slots.address, slots.bias.view(np.uint64)]))
    return Trees(
        rows,
        build_tree(*plan, salt_key=keys.salt_key(secret, "slots", version), tag=b"slots/1\0"),
        build_tree(*bias, salt_key=keys.salt_key(secret, "biases", version), tag=b"biases/1"),
    )


def _words(words: U64) -> tuple[U8, I64]:
    """Return fixed-width leaves: each row of uint64 words in little-endian order."""
    data = np.ascontiguousarray(words.astype("<u8")).view(np.uint8).ravel()
    return data, np.arange(len(words) + 1, dtype=np.int64) * (8 * words.shape[1])


def suspect_tree(leaves: tuple[U8, I64]) -> Tree:
    """Return the tree over a suspect's units, numbered from 0; without salts, for the suspect is no secret."""
    return build_tree(*leaves, salt_key=None, tag=b"")
