"""Bulk salted trees equal the pure-Python tree leaf by leaf, on real rows and on awkward shapes."""

from __future__ import annotations

import gzip
import hashlib
import itertools
from pathlib import Path

import numpy as np
import pytest

from dataguard import keys, merkle
from dataguard.errors import KeyringError, UsageError
from dataguard.registry.commitments import TreeBuilder, build_tree, leaf_salts, pack

DATA = Path(__file__).resolve().parents[1].parent / "shared" / "data" / "tables"
KEY = bytes(range(32))
TAG = b"dg1rows\0"


def twin(leaves, key=KEY, tag=TAG):
    """Leaf hashes by the formula, one at a time."""
    salts = [keys.symbol_blocks(key, [i], tag) for i in range(len(leaves))]
    return [hashlib.sha256(b"\0" + s + leaf).digest() for s, leaf in zip(salts, leaves, strict=True)]


def real_rows():
    return gzip.decompress((DATA / "nycflights13_planes.csv.gz").read_bytes()).splitlines()


@pytest.mark.parametrize("size", [0, 1, 2, 3, 4, 5, 7, 8, 9, 33, 64, 65])
def test_every_shape_equals_the_twin(size):
    leaves = [bytes([i % 256]) * (i % 70) for i in range(size)]  # lengths 0..69 cross the SHA-256 block edge
    tree = build_tree(*pack(leaves), salt_key=KEY, tag=TAG, opened=range(size))
    hashes = twin(leaves)
    assert tree.size == size
    assert tree.root == merkle.root(hashes)
    for i in range(size):
        assert hashes[i] == merkle.leaf_hash(tree.salt(i) + leaves[i])


def test_real_rows_open_selectively():
    leaves = real_rows()
    assert len(leaves) > 3000
    rng = np.random.default_rng(5)
    for n_opened in (1, 2, 50, len(leaves)):
        indices = rng.choice(len(leaves), n_opened, replace=False)
        tree = build_tree(*pack(leaves), salt_key=KEY, tag=TAG, opened=indices)
        assert tree.root == merkle.root(twin(leaves))
        proof = list(tree.proof)
        assert proof == merkle.multiproof(twin(leaves), [int(i) for i in indices])
        opened = {int(i): merkle.leaf_hash(tree.salt(int(i)) + leaves[int(i)]) for i in indices}
        assert merkle.verify_multiproof(tree.size, opened, proof, tree.root)
        i = int(indices[0])
        forged = {**opened, i: merkle.leaf_hash(tree.salt(i) + leaves[i] + b" ")}
        assert not merkle.verify_multiproof(tree.size, forged, proof, tree.root)


def test_salts_are_the_pseudo_random_function_of_the_symbols():
    salts = leaf_salts(KEY, TAG, 1000)
    assert salts.shape == (1000, 16)
    assert salts.tobytes() == keys.symbol_blocks(KEY, range(1000), TAG)
    assert len({row.tobytes() for row in salts}) == 1000
    assert salts.tobytes() != leaf_salts(KEY, b"dg1bias\0", 1000).tobytes()


def test_a_slice_of_a_larger_buffer_is_a_tree_of_its_own():
    data, offsets = pack([b"a", b"bb", b"", b"ccc"])
    tree = build_tree(data, offsets[1:], salt_key=KEY, tag=TAG)
    assert tree.root == build_tree(*pack([b"bb", b"", b"ccc"]), salt_key=KEY, tag=TAG).root


def test_a_tree_without_salts_is_the_plain_tree():
    leaves = real_rows()[:100]
    tree = build_tree(*pack(leaves), salt_key=None, tag=b"", opened=[7])
    assert tree.root == merkle.root([merkle.leaf_hash(leaf) for leaf in leaves])
    assert tree.salt(7) == b""
    assert build_tree(*pack([]), salt_key=None, tag=b"").root == merkle.EMPTY_ROOT


def test_salts_do_not_show():
    tree = build_tree(*pack([b"a"]), salt_key=KEY, tag=TAG, opened=[0])
    assert tree.salt(0).hex()[:8] not in repr(tree)
    assert "salts" not in repr(tree)


@pytest.mark.parametrize("offsets", [[0, 3, 2], [-1, 2], [0, 5], [], [[0, 1]]], ids=str)
def test_offsets_that_do_not_fit(offsets):
    with pytest.raises(UsageError):
        build_tree(np.zeros(4, np.uint8), np.array(offsets, np.int64), salt_key=KEY, tag=TAG)


def test_questions_outside_the_tree():
    leaves = pack([b"a", b"b"])
    tree = build_tree(*leaves, salt_key=KEY, tag=TAG, opened=[1])
    for ask in (
        lambda: tree.salt(0),
        lambda: tree.salt(2),
        lambda: build_tree(*leaves, salt_key=KEY, tag=TAG, opened=[2]),
        lambda: build_tree(*leaves, salt_key=KEY, tag=TAG, opened=[-1]),
    ):
        with pytest.raises(UsageError):
            ask()
    with pytest.raises(KeyringError):
        leaf_salts(KEY[:16], TAG, 1)
    with pytest.raises(UsageError):
        leaf_salts(KEY, b"rows", 1)


@pytest.mark.parametrize("size", [4095, 4096, 4097, 8192, 12289, 20000])
def test_leaves_that_arrive_in_pieces_make_the_same_tree(size):
    leaves = [b"%d" % i for i in range(size)]
    hashes = twin(leaves)
    rng = np.random.default_rng(size)
    indices = sorted({0, size - 1, *rng.choice(size, 40, replace=False).tolist()})
    builder = TreeBuilder(salt_key=KEY, tag=TAG, opened=indices, size=size)
    cuts = [0, *sorted(rng.choice(size, 6, replace=False).tolist()), size]
    seen = []
    for first, last in itertools.pairwise(cuts):
        seen += builder.add(*pack(leaves[first:last]))
    tree = builder.finish()
    assert seen == hashes
    assert tree.root == merkle.root(hashes)
    assert list(tree.proof) == merkle.multiproof(hashes, indices)
    assert all(merkle.leaf_hash(tree.salt(i) + leaves[i]) == hashes[i] for i in indices)


def test_fewer_leaves_than_announced():
    builder = TreeBuilder(salt_key=KEY, tag=TAG, opened=[0], size=3)
    builder.add(*pack([b"a"]))
    with pytest.raises(UsageError, match="announced"):
        builder.finish()
