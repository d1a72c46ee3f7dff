"""RFC 9162 trees against the reference vectors of Certificate Transparency and brute-force twins."""

from __future__ import annotations

import hashlib
import itertools
import random

import pytest

from dataguard import merkle
from dataguard.errors import UsageError

# Inputs, roots and proofs of the reference test of Certificate Transparency logs (same tree in RFC 6962).
INPUTS = [bytes.fromhex(x) for x in (
    "", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f",
)]  # fmt: skip
ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
INCLUSION_0_OF_8 = [
    "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
    "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
    "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
]
CONSISTENCY_6_TO_8 = [
    "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
    "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
]


def mth(leaves):
    """RFC 9162 section 2.1.1 word for word: the slow twin."""
    n = len(leaves)
    if n == 0:
        return hashlib.sha256(b"").digest()
    if n == 1:
        return leaves[0]
    k = max(2**i for i in range(n) if 2**i < n)
    return hashlib.sha256(b"\x01" + mth(leaves[:k]) + mth(leaves[k:])).digest()


def path(m, leaves):
    """RFC 9162 section 2.1.3.1, PATH."""
    n = len(leaves)
    if n == 1:
        return []
    k = max(2**i for i in range(n) if 2**i < n)
    if m < k:
        return [*path(m, leaves[:k]), mth(leaves[k:])]
    return [*path(m - k, leaves[k:]), mth(leaves[:k])]


def subproof(m, leaves, b):
    """RFC 9162 section 2.1.4.1, SUBPROOF."""
    n = len(leaves)
    if m == n:
        return [] if b else [mth(leaves)]
    k = max(2**i for i in range(n) if 2**i < n)
    if m <= k:
        return [*subproof(m, leaves[:k], b), mth(leaves[k:])]
    return [*subproof(m - k, leaves[k:], False), mth(leaves[:k])]


def closed_parts(leaves, start, opened):
    """The multi-proof by its definition: hashes of the largest subtrees without an opened leaf."""
    if not any(start <= i < start + len(leaves) for i in opened):
        return [mth(leaves)]
    if len(leaves) == 1:
        return []
    k = max(2**i for i in range(len(leaves)) if 2**i < len(leaves))
    return closed_parts(leaves[:k], start, opened) + closed_parts(leaves[k:], start + k, opened)


def leaf_hashes(n):
    return [merkle.leaf_hash(b"leaf %d" % i) for i in range(n)]


def corrupted(proof, rng):
    """Every kind of wrong proof: one flipped bit per hash, one hash less, one more, two swapped."""
    for i in range(len(proof)):
        bit = rng.randrange(256)
        flipped = bytearray(proof[i])
        flipped[bit // 8] ^= 1 << (bit % 8)
        yield [*proof[:i], bytes(flipped), *proof[i + 1 :]]
        yield proof[:i] + proof[i + 1 :]
        yield [*proof[:i], proof[i][:-1], *proof[i + 1 :]]
        if i:
            yield [*proof[: i - 1], proof[i], proof[i - 1], *proof[i + 1 :]]
    yield [*proof, bytes(32)]
    yield [bytes(32), *proof]


def test_reference_vectors():
    hashes = [merkle.leaf_hash(x) for x in INPUTS]
    assert [merkle.root(hashes[:n]).hex() for n in range(1, 9)] == ROOTS
    assert merkle.root([]).hex() == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert [h.hex() for h in merkle.inclusion_proof(hashes, 0)] == INCLUSION_0_OF_8
    assert [h.hex() for h in merkle.consistency_proof(hashes, 6)] == CONSISTENCY_6_TO_8


def test_roots_and_proofs_equal_the_twins_for_every_small_tree():
    for n in range(1, 34):
        leaves = leaf_hashes(n)
        assert merkle.root(leaves) == mth(leaves)
        for i in range(n):
            assert merkle.inclusion_proof(leaves, i) == path(i, leaves)
        for m in range(1, n + 1):
            assert merkle.consistency_proof(leaves, m) == subproof(m, leaves, True)


def test_roots_of_prefixes():
    leaves = leaf_hashes(40)
    assert merkle.roots(leaves, range(50)) == {n: mth(leaves[:n]) for n in range(41)}
    assert merkle.roots(leaves, [7]) == {7: mth(leaves[:7])}


def test_right_inclusion_proofs_hold_and_every_wrong_one_fails():
    rng = random.Random(1)
    for n in range(1, 20):
        leaves = leaf_hashes(n)
        head = merkle.root(leaves)
        for i in range(n):
            proof = merkle.inclusion_proof(leaves, i)
            assert merkle.verify_inclusion(n, i, leaves[i], proof, head)
            for wrong in corrupted(proof, rng):
                assert not merkle.verify_inclusion(n, i, leaves[i], wrong, head)
            for j in range(-1, n + 1):
                if j != i:
                    assert not merkle.verify_inclusion(n, j, leaves[i], proof, head)
            assert not merkle.verify_inclusion(n, i, merkle.leaf_hash(b"other"), proof, head)
            assert not merkle.verify_inclusion(n, i, leaves[i], proof, bytes(32))


def test_inclusion_under_a_wrong_size_holds_only_where_the_walk_is_the_same():
    # The path itself does not carry the size: a size with the same left-right walk and length gives
    # the same computation (so sizes must come from a signed checkpoint). All others must fail.
    def walk(size, index):
        steps, fn, sn = [], index, size - 1
        while sn:
            if fn & 1 or fn == sn:
                steps.append("L")
                while not fn & 1 and fn:
                    fn, sn = fn >> 1, sn >> 1
            else:
                steps.append("R")
            fn, sn = fn >> 1, sn >> 1
        return steps

    n_refused = 0
    for n, size in itertools.product(range(1, 18), repeat=2):
        leaves = leaf_hashes(n)
        for i in range(min(n, size)):
            held = merkle.verify_inclusion(size, i, leaves[i], merkle.inclusion_proof(leaves, i), mth(leaves))
            assert held == (walk(size, i) == walk(n, i))
            n_refused += not held
    assert n_refused > 500


def test_right_consistency_proofs_hold_and_every_wrong_one_fails():
    rng = random.Random(2)
    for n in range(1, 18):
        leaves = leaf_hashes(n)
        head = mth(leaves)
        for m in range(n + 1):
            proof, old = merkle.consistency_proof(leaves, m), mth(leaves[:m])
            assert merkle.verify_consistency(m, n, old, head, proof)
            for wrong in corrupted(proof, rng):
                assert not merkle.verify_consistency(m, n, old, head, wrong)
            assert not merkle.verify_consistency(m, n, bytes(32), head, proof)
            assert not merkle.verify_consistency(m, n, mth([*leaves[:m], bytes(32)]), head, proof)
            if m:
                assert not merkle.verify_consistency(m, n, old, bytes(32), proof)
                assert not merkle.verify_consistency(n + 1, m, head, old, proof)
            for k in range(1, n + 1):
                if k != m:  # another first size, with that tree's true root or with the old one
                    assert not merkle.verify_consistency(k, n, old, head, proof) or k == n == m


def test_consistency_detects_every_rewritten_leaf():
    leaves = leaf_hashes(13)
    for m in range(1, 13):
        for i in range(m):
            forged = [*leaves[:i], merkle.leaf_hash(b"forged"), *leaves[i + 1 :]]
            proof = merkle.consistency_proof(forged, m)
            assert not merkle.verify_consistency(m, 13, mth(leaves[:m]), mth(forged), proof)


def test_multiproof_equals_its_definition_for_every_subset_of_small_trees():
    for n in range(1, 9):
        leaves = leaf_hashes(n)
        for bits in range(1, 2**n):
            opened = [i for i in range(n) if bits >> i & 1]
            proof = merkle.multiproof(leaves, opened)
            assert proof == closed_parts(leaves, 0, opened)
            assert proof == merkle.multiproof(merkle.levels(leaves), reversed(opened + opened))
            assert merkle.verify_multiproof(n, {i: leaves[i] for i in opened}, proof, mth(leaves))


def test_every_wrong_multiproof_fails():
    rng = random.Random(3)
    for n in range(1, 24):
        leaves, head = leaf_hashes(n), mth(leaf_hashes(n))
        opened = {i: leaves[i] for i in rng.sample(range(n), rng.randint(1, n))}
        proof = merkle.multiproof(leaves, opened)
        for wrong in corrupted(proof, rng):
            assert not merkle.verify_multiproof(n, opened, wrong, head)
        for i in opened:
            assert not merkle.verify_multiproof(n, {**opened, i: merkle.leaf_hash(b"x")}, proof, head)
            moved = {(j + 1 if j == i else j): h for j, h in opened.items()}
            if len(moved) == len(opened):
                assert not merkle.verify_multiproof(n, moved, proof, head)
        assert not merkle.verify_multiproof(n, opened, proof, bytes(32))
        assert not merkle.verify_multiproof(n, {**opened, n: leaves[0]}, proof, head)
        assert not merkle.verify_multiproof(n, {**opened, -1: leaves[0]}, proof, head)
        assert not merkle.verify_multiproof(n, {}, [head], head)
    assert not merkle.verify_multiproof(0, {}, [], merkle.EMPTY_ROOT)


def test_multiproof_under_a_wrong_size_fails_where_the_last_leaf_is_open():
    n_refused = 0
    for n, size in itertools.product(range(1, 14), repeat=2):
        leaves = leaf_hashes(n)
        opened = {n - 1: leaves[-1], 0: leaves[0]}
        proof = merkle.multiproof(leaves, opened)
        if n != size:
            # 0 and n - 1 open fix the right edge; only sizes with the same shape of closed parts pass.
            same = [b - a for a, b in _closed(size, opened)] == [b - a for a, b in _closed(n, opened)]
            held = merkle.verify_multiproof(size, opened, proof, mth(leaves))
            assert not held or same
            n_refused += not held
    assert n_refused > 140


def _closed(size, opened):
    if max(opened) >= size:
        return [(0, 0)]
    parts = []

    def walk(a, b):
        if not any(a <= i < b for i in opened):
            parts.append((a, b))
        elif b - a > 1:
            k = 1 << (b - a - 1).bit_length() - 1
            walk(a, a + k)
            walk(a + k, b)

    walk(0, size)
    return parts


def test_a_hostile_size_costs_nothing():
    assert not merkle.verify_multiproof(2**62, {2**61: bytes(32)}, [bytes(32)] * 61, bytes(32))
    assert not merkle.verify_multiproof(10**4000, {10**3999: bytes(32)}, [], bytes(32))
    assert not merkle.verify_inclusion(2**62, 2**61, bytes(32), [bytes(32)] * 61, bytes(32))


def test_questions_about_leaves_that_do_not_exist():
    leaves = leaf_hashes(3)
    for ask in (
        lambda: merkle.inclusion_proof(leaves, 3),
        lambda: merkle.inclusion_proof([], 0),
        lambda: merkle.consistency_proof(leaves, 4),
        lambda: merkle.multiproof(leaves, []),
        lambda: merkle.multiproof(leaves, [3]),
        lambda: merkle.multiproof([], [0]),
        lambda: merkle.multiproof_nodes(3, [-1]),
    ):
        with pytest.raises(UsageError):
            ask()
