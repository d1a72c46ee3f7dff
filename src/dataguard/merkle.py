"""Merkle trees as in RFC 9162 section 2.1, with proofs for one leaf, many leaves, and growth.

Pure Python over hashlib, for the ledger and for verifiers on any machine; bulk trees over
hundreds of thousands of rows are built by ``registry.commitments`` with the same shape.
A tree is given as the list of its leaf hashes; proofs are lists of 32-byte hashes.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TypeAlias, cast

from dataguard.errors import UsageError

__all__ = [
    "EMPTY_ROOT",
    "HASH_BYTES",
    "Levels",
    "consistency_proof",
    "inclusion_proof",
    "leaf_hash",
    "levels",
    "multiproof",
    "multiproof_nodes",
    "node_hash",
    "root",
    "roots",
    "verify_consistency",
    "verify_inclusion",
    "verify_multiproof",
]

HASH_BYTES = 32
EMPTY_ROOT = hashlib.sha256(b"").digest()
"""Root of the tree without leaves (RFC 9162 section 2.1.1)."""

_MAX_SIZE = 2**63
_CLOSED, _OPENED, _JOINED = 0, 1, 2

Levels: TypeAlias = Sequence[Sequence[bytes]]
"""Level 0 holds the leaf hashes; node i of level k + 1 joins nodes 2i and 2i + 1 of level k."""


def leaf_hash(data: bytes) -> bytes:
    """Return SHA-256(0x00 || data), RFC 9162 section 2.1.1. A salted leaf is ``salt + data``."""
    return hashlib.sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return SHA-256(0x01 || left || right), RFC 9162 section 2.1.1."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def levels(leaf_hashes: Sequence[bytes]) -> list[list[bytes]]:
    """Return all levels of the tree, leaves first; a lone last node moves up unchanged.

    This pairing gives the same root as the recursive definition of RFC 9162: the split point
    is always a power of two, so every left part is a complete tree.
    """
    built = [list(leaf_hashes)]
    while len(built[-1]) > 1:
        below = built[-1]
        above = [node_hash(below[i], below[i + 1]) for i in range(0, len(below) - 1, 2)]
        if len(below) % 2:
            above.append(below[-1])
        built.append(above)
    return built


def root(leaf_hashes: Sequence[bytes]) -> bytes:
    """Return the tree head over `leaf_hashes`, MTH of RFC 9162 section 2.1.1."""
    return levels(leaf_hashes)[-1][0] if leaf_hashes else EMPTY_ROOT


def roots(leaf_hashes: Iterable[bytes], sizes: Iterable[int]) -> dict[int, bytes]:
    """Return the roots of several prefixes, ``{size: root}``, in one pass over the leaves.

    Sizes beyond the number of leaves are left out. Cost: one node hash per leaf and
    log2(size) per wanted size.
    """
    wanted = set(sizes)
    found = {0: EMPTY_ROOT} if 0 in wanted else {}
    stack: list[bytes] = []  # complete subtrees, largest first: the binary digits of the size
    for index, leaf in enumerate(leaf_hashes):
        size, node = index + 1, leaf
        while index & 1:
            node, index = node_hash(stack.pop(), node), index >> 1  # noqa: PLW2901 - consumed bit by bit
        stack.append(node)
        if size in wanted:
            head = stack[-1]
            for left in reversed(stack[:-1]):
                head = node_hash(left, head)
            found[size] = head
    return found


def inclusion_proof(leaf_hashes: Sequence[bytes], index: int) -> list[bytes]:
    """Return the audit path of leaf `index`, bottom up (RFC 9162 section 2.1.3.1).

    Raises
    ------
    UsageError
        No such leaf.
    """
    if not 0 <= index < len(leaf_hashes):
        raise UsageError(f"no leaf {index} in a tree of {len(leaf_hashes)}", remedy="count leaves from 0")
    path = []
    for level in levels(leaf_hashes)[:-1]:
        sibling = index ^ 1
        if sibling < len(level):
            path.append(level[sibling])
        index >>= 1
    return path


def verify_inclusion(size: int, index: int, leaf: bytes, proof: Sequence[bytes], head: bytes) -> bool:
    """Return whether `leaf` is leaf number `index` of the tree of `size` leaves with root `head`.

    Parameters
    ----------
    size, index : int
        Number of leaves, and position counted from 0. Trust the size with the root (one signature
        over both): a root alone does not fix it, and some sizes share an audit path.
    leaf : bytes
        Leaf hash, as `leaf_hash` returns it.
    proof : sequence of bytes
        From `inclusion_proof`.
    head : bytes
        Trusted root.

    Notes
    -----
    RFC 9162 section 2.1.3.2.
    """
    if not 0 <= index < size or not _are_hashes(leaf, head, *proof):
        return False
    fn, sn, node = index, size - 1, leaf
    for sibling in proof:
        if sn == 0:
            return False
        if fn & 1 or fn == sn:
            node = node_hash(sibling, node)
            while not fn & 1 and fn:
                fn, sn = fn >> 1, sn >> 1
        else:
            node = node_hash(node, sibling)
        fn, sn = fn >> 1, sn >> 1
    return sn == 0 and node == head


def consistency_proof(leaf_hashes: Sequence[bytes], first: int) -> list[bytes]:
    """Return the proof that the first `first` leaves are a prefix (RFC 9162 section 2.1.4.1).

    Raises
    ------
    UsageError
        `first` is not within 0..number of leaves. Zero gives the empty proof.
    """
    size = len(leaf_hashes)
    if not 0 <= first <= size:
        raise UsageError(f"no prefix of {first} in a tree of {size}", remedy="give an earlier size")
    if first in (0, size):
        return []
    built = levels(leaf_hashes)
    proof: list[bytes] = []
    start, stop, whole = 0, size, True  # SUBPROOF(m, D[start:stop], b) of the RFC, unrolled
    while first != stop:
        middle = start + _split(stop - start)
        if first <= middle:
            proof.append(_subtree(built, middle, stop))
            stop = middle
        else:
            proof.append(_subtree(built, start, middle))
            start, whole = middle, False
    if not whole:
        proof.append(_subtree(built, start, stop))
    return proof[::-1]


def verify_consistency(
    first: int, second: int, first_head: bytes, second_head: bytes, proof: Sequence[bytes]
) -> bool:
    """Return whether the tree of `second` leaves extends the tree of `first` leaves.

    Parameters
    ----------
    first, second : int
        Numbers of leaves, ``0 <= first <= second``. From zero leaves only the empty proof holds.
    first_head, second_head : bytes
        Roots of the two trees.
    proof : sequence of bytes
        From `consistency_proof`.

    Notes
    -----
    RFC 9162 section 2.1.4.2.
    """
    if not 0 <= first <= second or not _are_hashes(first_head, second_head, *proof):
        return False
    if first == second:
        return not proof and first_head == second_head and (first > 0 or first_head == EMPTY_ROOT)
    if first == 0:
        return not proof and first_head == EMPTY_ROOT
    path = list(proof) if first & (first - 1) else [first_head, *proof]
    if not path:
        return False
    fn, sn = first - 1, second - 1
    while fn & 1:
        fn, sn = fn >> 1, sn >> 1
    old = new = path[0]
    for sibling in path[1:]:
        if sn == 0:
            return False
        if fn & 1 or fn == sn:
            old, new = node_hash(sibling, old), node_hash(sibling, new)
            while not fn & 1 and fn:
                fn, sn = fn >> 1, sn >> 1
        else:
            new = node_hash(new, sibling)
        fn, sn = fn >> 1, sn >> 1
    return sn == 0 and old == first_head and new == second_head


def multiproof_nodes(size: int, indices: Iterable[int]) -> list[tuple[int, int]]:
    """Return which nodes, as (level, position), prove the leaves `indices` of a tree of `size`.

    They are the largest subtrees without an opened leaf, from left to right.

    Raises
    ------
    UsageError
        No index, or one outside the tree.
    """
    opened = sorted(set(indices))
    if not opened or opened[0] < 0 or opened[-1] >= size:
        raise UsageError(f"leaves to open are not within a tree of {size}", remedy="count leaves from 0")
    return [_node(start, stop) for start, stop, part in _parts(size, opened) if part == _CLOSED]


def multiproof(levels_or_hashes: Levels | Sequence[bytes], indices: Iterable[int]) -> list[bytes]:
    """Return one proof for many leaves at once: the hashes named by `multiproof_nodes`.

    Parameters
    ----------
    levels_or_hashes : sequence of bytes, or what `levels` returns
        Leaf hashes; or all levels, when several proofs are drawn from one tree.
    indices : iterable of int
        Leaves to open; order and repetition do not matter.

    Raises
    ------
    UsageError
        No index, or one outside the tree.
    """
    if levels_or_hashes and isinstance(levels_or_hashes[0], bytes | bytearray):
        built: Levels = levels(cast("Sequence[bytes]", levels_or_hashes))
    else:
        built = cast("Levels", levels_or_hashes)
    size = len(built[0]) if built else 0
    return [built[level][i] for level, i in multiproof_nodes(size, indices)]


def verify_multiproof(size: int, opened: Mapping[int, bytes], proof: Sequence[bytes], head: bytes) -> bool:
    """Return whether all `opened` leaves stand at their places in the tree with root `head`.

    Parameters
    ----------
    size : int
        Number of leaves of the tree, trusted together with the root.
    opened : mapping of int to bytes
        Leaf hash by position; at least one.
    proof : sequence of bytes
        From `multiproof`; a missing or left-over hash fails.
    head : bytes
        Trusted root.
    """
    indices = sorted(opened)
    if not indices or indices[0] < 0 or indices[-1] >= size or size > _MAX_SIZE:
        return False
    if not _are_hashes(head, *proof, *opened.values()):
        return False
    supply = iter(proof)
    stack: list[bytes] = []  # hashes of finished subtrees, left to right
    for start, _, part in _parts(size, indices):
        if part == _JOINED:
            right = stack.pop()
            stack.append(node_hash(stack.pop(), right))
            continue
        node = opened[start] if part == _OPENED else next(supply, None)
        if node is None:
            return False
        stack.append(node)
    return next(supply, None) is None and stack == [head]


def _split(size: int) -> int:
    """Return the largest power of two smaller than `size`, k of RFC 9162 section 2.1.1."""
    return 1 << ((size - 1).bit_length() - 1)


def _node(start: int, stop: int) -> tuple[int, int]:
    """Return (level, position) of the subtree over leaves start..stop-1 of the RFC's tree."""
    level = (stop - start - 1).bit_length()
    return level, start >> level


def _parts(size: int, opened: Sequence[int]) -> Iterator[tuple[int, int, int]]:
    """Yield (start, stop, part) of the RFC's tree in post-order, left to right.

    Only subtrees with an opened leaf are entered, so the walk takes at most
    len(opened) * log2(size) steps. `opened` is sorted and without repetition.
    """
    stack = [(0, size, False)]
    while stack:
        start, stop, is_joined = stack.pop()
        if is_joined:
            yield start, stop, _JOINED
            continue
        first = bisect_left(opened, start)
        if first == len(opened) or opened[first] >= stop:
            yield start, stop, _CLOSED
        elif stop - start == 1:
            yield start, stop, _OPENED
        else:
            middle = start + _split(stop - start)
            stack += [(start, stop, True), (middle, stop, False), (start, middle, False)]


def _subtree(built: Levels, start: int, stop: int) -> bytes:
    level, position = _node(start, stop)
    return built[level][position]


def _are_hashes(*values: object) -> bool:
    return all(isinstance(value, bytes) and len(value) == HASH_BYTES for value in values)
