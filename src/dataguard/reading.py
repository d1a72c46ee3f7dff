"""Data of any size as the shells read it: block by block, or the few rows that matter.

Nothing here knows a key. What is chosen is chosen by public hashes, so that anyone who holds
the same files chooses the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dataguard.budget import Budget
from dataguard.carrier import Carrier, Large
from dataguard.fingerprints.engines import default_engines
from dataguard.formats.arrow import ArrowSource
from dataguard.formats.blocks import block_rows, planned_edges, read_blocks, row_cost, spread, take_positions
from dataguard.formats.source import Source
from dataguard.registry.commitments import Tree
from dataguard.trees import suspect_tree

__all__ = ["Suspect", "decoded", "edges_of", "large", "narrowed", "some_units"]

I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]

BACKGROUND = 1 << 16
"""Rows of a large original that are read besides the candidates: they tell what is frequent in it."""

MEMORY_PER_LOOK = 12
"""Rows of a large original that must fit in memory for each suspect row looked for: eight candidates, and room."""


def edges_of(source: Source, budget: Budget) -> tuple[int, ...]:
    """Return where a source is cut into blocks that fit the budget."""
    return planned_edges(source, budget.memory)


def decoded(handler: Carrier[Any], source: Source, edges: Sequence[int]) -> Iterator[Any]:
    """Yield the contents of the blocks of a source, units numbered through."""
    if len(edges) == 2:
        yield handler.decode(source)
        return
    first = 0
    for table in read_blocks(source, edges):
        ids = np.arange(first, first + table.num_rows, dtype=np.uint64)
        first += table.num_rows
        yield handler.decode(ArrowSource(table, source.name), ids)
        del table  # or it would live on while the next block is read


def some_units(handler: Carrier[Any], source: Source, rows: I64, ids: U64 | None = None) -> Any:
    """Return some units (ascending positions) of a source, with their ids or else their positions."""
    table = take_positions(source, rows)
    own = rows.astype(np.uint64) if ids is None else ids
    return handler.decode(ArrowSource(table, source.name, empty=True), own)


def narrowed(
    handler: Carrier[Any], original: Source, edges: Sequence[int], suspect: Any, budget: Budget
) -> tuple[Any, I64]:
    """Return what of a large original matters to a suspect: candidates and a background, and their positions.

    Parameters
    ----------
    handler : Carrier
    original : Source
    edges : sequence of int
        Where it is cut.
    suspect : content
    budget : Budget
    """
    whole = large(handler, original, edges, budget)
    background = spread(whole.units, min(BACKGROUND, whole.room // 4))
    found = handler.gather(whole, whole.take(background), suspect, default_engines())
    positions = np.union1d(background, found)
    return whole.take(positions), positions


def large(handler: Carrier[Any], source: Source, edges: Sequence[int], budget: Budget) -> Large[Any]:
    """Return a source as something to be read block by block, with progress."""

    def blocks() -> Iterator[Any]:
        done = 0
        for content in decoded(handler, source, edges):
            yield content
            done += handler.extent(content)[0]
            budget.watch(f"search {source.name}", done, edges[-1])
            del content

    # What is one block could be larger: a quarter of the two rows of a small file would be nothing.
    room = edges[1] if len(edges) > 2 else max(edges[1], block_rows(row_cost(source), budget.memory))
    return Large(edges[-1], room, blocks, lambda rows: some_units(handler, source, rows))


@dataclass(frozen=True, slots=True)
class Suspect:
    """A suspect of any size: all of its rows hashed, some of them at hand.

    Attributes
    ----------
    source : Source
    handler : Carrier
    tree : Tree
        Over all its units; nothing opened.
    rows : (k,) int64
        The units that fit in memory, ascending: all, or those with the smallest leaf hashes.
    heads : (k,) uint64
        First eight bytes of their leaf hashes.
    """

    source: Source
    handler: Carrier[Any]
    tree: Tree
    rows: I64
    heads: U64
    _whole: Any = field(default=None, repr=False)

    @classmethod
    def read(cls, source: Source, handler: Carrier[Any], budget: Budget, least: int) -> Suspect:
        """Hash all units of a source, in one pass; keep `least` of them at hand whatever the memory."""
        edges = edges_of(source, budget)
        tree, room, first = suspect_tree(), max(edges[1], least), 0
        rows, heads, whole = np.empty(0, np.int64), np.empty(0, np.uint64), None
        for content in decoded(handler, source, edges):
            leaves = tree.add(*handler.leaves(content))
            head = np.frombuffer(b"".join(leaf[:8] for leaf in leaves), ">u8").astype(np.uint64)
            rows = np.concatenate([rows, np.arange(first, first + len(head))])
            heads = np.concatenate([heads, head])
            keep = _smallest(heads, room)
            rows, heads, first = rows[keep], heads[keep], first + len(head)
            budget.watch("read suspect", first, edges[-1])
            whole = content if len(edges) == 2 else None
            del content
        return cls(source, handler, tree.finish(), rows, heads, whole)

    def look(self, count: int) -> Any:
        """Return the content of the `count` units at hand with the smallest leaf hashes, ids their positions."""
        keep = _smallest(self.heads, count)
        if self._whole is None:
            return some_units(self.handler, self.source, self.rows[keep])
        return self._whole if len(keep) == self.tree.size else self.handler.take(self._whole, self.rows[keep])

    def smallest(self, units: U64, count: int) -> I64:
        """Return which of some units (ascending positions, all at hand) have the `count` smallest leaf hashes."""
        return _smallest(self.heads[np.searchsorted(self.rows, units.astype(np.int64))], count)

    def open(self, units: Sequence[int], budget: Budget) -> Tree:
        """Return the tree with some units opened; one pass over the source."""
        builder = suspect_tree(self.tree.size, units)
        for content in decoded(self.handler, self.source, edges_of(self.source, budget)):
            builder.add(*self.handler.leaves(content))
            del content
        return builder.finish()


def _smallest(heads: U64, count: int) -> I64:
    """Return the positions of the `count` smallest heads, ascending: a choice without any key."""
    if len(heads) <= count:
        return np.arange(len(heads))
    return np.sort(np.argsort(heads, kind="stable")[:count])
