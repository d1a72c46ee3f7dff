"""Signatures and indexes to and from datasketch: every bit, every scheme, and what hostile bytes do."""

from __future__ import annotations

import hashlib
import pickle
import struct

import datasketch
import numba  # noqa: F401 - loaded, it makes a few thousand elements enough for the compiled loops
import numpy as np
import pyarrow as pa
import pytest

from dataguard.errors import DataguardError, DecodeError, SchemeMismatch, UsageError
from dataguard.fingerprints.interop import (
    from_datasketch,
    from_datasketch_lsh,
    lean_from_bytes,
    lean_to_bytes,
    to_datasketch,
    to_datasketch_lsh,
)
from dataguard.fingerprints.minhash import MinHash
from dataguard.fingerprints.minhash_lsh import MinHashLSH
from dataguard.fingerprints.sketches import permutations as perms
from dataguard.fingerprints.sketches.kmins import KMins
from dataguard.fingerprints.sketches.permutations import SCHEMES, kmins_sets, permutations, value_type
from dataguard.fingerprints.sketches.tokens import SHA1, XXH3, hash_lists, hash_tokens

RNG = np.random.default_rng(4)
SEEDS = [0, 1, 2, 42, 2**31, 2**32 - 1, *map(int, RNG.integers(0, 2**32, 12))]


def elements(count: int, salt: int = 0) -> list[bytes]:
    return [b"element %d %d" % (salt, i) for i in range(count)]


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("size", [1, 2, 7, 16, 100, 128, 256])
def test_permutations_are_those_datasketch_draws(scheme: str, size: int) -> None:
    for seed in SEEDS:
        theirs = datasketch.MinHash(size, seed=seed, scheme=scheme).permutations
        ours = permutations(scheme, size, seed)
        assert np.array_equal(theirs[0], ours[0])
        assert np.array_equal(theirs[1], ours[1])


def by_hand(scheme: str, size: int, hashes: list[int]) -> list[int]:
    """The definition in Python integers, without numpy."""
    a, b = (x.tolist() for x in permutations(scheme, size, 1))
    least = []
    for j in range(size):
        if scheme == "legacy":
            values = [(a[j] * h + b[j]) % 2**64 % (2**61 - 1) % 2**32 for h in hashes]
        else:
            w, steps = (32, (16, 0x85EBCA6B, 13, 0xC2B2AE35, 16))
            if scheme == "affine64":
                w, steps = 64, (33, 0xFF51AFD7ED558CCD, 33, 0xC4CEB9FE1A85EC53, 33)
            values = []
            for h in hashes:
                x = (h ^ h >> steps[0]) * steps[1] % 2**w
                x = (x ^ x >> steps[2]) * steps[3] % 2**w
                values.append((a[j] * (x ^ x >> steps[4]) + b[j]) % 2**w)
        least.append(min(values, default=int(np.iinfo(value_type(scheme)).max)))
    return least


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("size", [3, 128])
def test_sets_in_bulk_follow_the_definition(scheme: str, size: int) -> None:
    width = 64 if scheme == "affine64" else 32
    hashes = RNG.integers(0, 2**width, 9_000, dtype=np.uint64)
    ends = np.sort(np.concatenate([[3, 3, 9_000, 8_999, 8_999], RNG.integers(3, 300, 40)]))
    rows = kmins_sets(hashes, ends, num_perm=size, scheme=scheme)
    for i in [*range(0, 44, 5), 41, 42, 43]:
        held = hashes[ends[i] : ends[i + 1]].tolist()[:400]
        if ends[i + 1] - ends[i] <= 400:
            assert rows[i].tolist() == by_hand(scheme, size, held)
    large = datasketch.MinHash(size, scheme=scheme, hashfunc=int)
    at = int(np.argmax(np.diff(ends)))
    large.update_batch(hashes[ends[at] : ends[at + 1]].tolist())
    assert np.array_equal(rows[at], large.hashvalues)


@pytest.mark.parametrize("scheme", perms.COMPILED)
@pytest.mark.parametrize("size", [1, 16, 65, 128])
def test_compiled_loops_equal_the_plain_ones(scheme: str, size: int) -> None:
    hashes = RNG.integers(0, 2**32, 20_000, dtype=np.uint64).astype(
        np.uint32 if scheme == "affine32" else np.uint64
    )
    ends = np.sort(np.concatenate([[0, 0, 5, 6, 20_000], RNG.integers(0, 9_000, 30)])).astype(np.int64)
    plain, fast = (np.full((len(ends) - 1, size), 2**32 - 1, np.uint32) for _ in range(2))
    pair = permutations(scheme, size, 9)
    perms._plain(hashes, ends, *pair, scheme, plain)
    perms._compiled(hashes, ends, *pair, scheme, fast)
    assert np.array_equal(plain, fast)


def test_sha1_of_many_is_sha1() -> None:
    lengths = [*range(200), *RNG.integers(0, 3_000, 1_900).tolist()]
    strings = [RNG.bytes(n) for n in lengths]
    many = hash_tokens(strings + [b"x"] * 5_000, SHA1)
    expected = [struct.unpack("<Q", hashlib.sha1(s).digest()[:8])[0] for s in strings]
    assert many[: len(strings)].tolist() == expected
    assert np.all(many[len(strings) :] == hash_tokens([b"x"], SHA1)[0])


def test_arrow_strings_hash_as_python_ones() -> None:
    words = [[f"w{i}", "ü" * (i % 50)] for i in range(3_000)]
    for kind in (pa.string(), pa.large_string(), pa.binary(), pa.large_binary()):
        plain = [[w.encode() for w in pair] if "binary" in str(kind) else pair for pair in words]
        column = pa.array(plain, pa.list_(kind))
        for scheme in (SHA1, XXH3):
            hashes, ends = hash_lists(column[7:], scheme)
            assert ends[-1] == len(hashes) == 2 * 2_993
            assert np.array_equal(hashes, hash_tokens([w for pair in words[7:] for w in pair], scheme))


@pytest.mark.parametrize("ends", [[0, 2**28, 3], [0, 3, 1], [0, -1, 3]])
def test_lists_that_leave_their_elements_are_refused(ends: list[int]) -> None:
    offsets = pa.py_buffer(np.array(ends, np.int32))
    for mask in (None, pa.py_buffer(b"\x01")):
        wild = pa.Array.from_buffers(
            pa.list_(pa.string()), 2, [mask, offsets], children=[pa.array(["a", "b", "c"])]
        )
        with pytest.raises(DecodeError, match="list column"):
            hash_lists(wild, SHA1)


def test_a_column_with_wrong_offsets_is_refused() -> None:
    ends = np.arange(4_001, dtype=np.int32)
    ends[2_000] = 2**30
    strings = pa.StringArray.from_buffers(4_000, pa.py_buffer(ends), pa.py_buffer(b"x" * 4_000))
    column = pa.ListArray.from_arrays(pa.array([0, 4_000], pa.int32()), strings)
    for scheme in (SHA1, XXH3):
        with pytest.raises(DecodeError):
            hash_lists(column, scheme)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_signatures_go_there_and_back_and_grow_on(scheme: str) -> None:
    ours = KMins.of(elements(40), num_perm=64, seed=5, scheme=scheme)
    theirs = to_datasketch(ours)
    own = datasketch.MinHash(64, seed=5, scheme=scheme)
    own.update_batch(elements(40))
    assert theirs == own
    assert theirs.hashvalues.dtype == own.hashvalues.dtype
    assert theirs.jaccard(own) == 1.0
    theirs.update(b"more")
    own.update(b"more")
    assert theirs == own
    assert from_datasketch(own) == KMins.of([*elements(40), b"more"], num_perm=64, seed=5, scheme=scheme)
    grown = MinHash(64, 5, scheme=scheme, hashfunc="xxh3")
    grown.update_batch(elements(9))
    exported = to_datasketch(grown)
    exported.update(b"last")
    grown.update(b"last")
    assert from_datasketch(exported) == grown.sketch()
    by_own = MinHash(64, 5, scheme=scheme, hashfunc=len)
    by_own.update(b"four")
    assert from_datasketch(to_datasketch(by_own)) == by_own.sketch()


def test_what_has_no_place_in_datasketch_is_refused() -> None:
    with pytest.raises(UsageError, match="fss"):
        to_datasketch(MinHash(scheme="fss"))
    with pytest.raises(UsageError, match="scheme 2"):
        to_datasketch(KMins(np.zeros(4, np.uint32), hash_scheme=2))
    with pytest.raises(UsageError, match="not a MinHash"):
        from_datasketch(datasketch.HyperLogLog())


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("order", list("@=<>!"))
@pytest.mark.parametrize("size", [1, 3, 128])
def test_lean_bytes_are_those_of_datasketch(scheme: str, order: str, size: int) -> None:
    ours = KMins.of(elements(10), num_perm=size, seed=77, scheme=scheme)
    lean = datasketch.LeanMinHash(to_datasketch(ours))
    room = bytearray(lean.bytesize(order))
    lean.serialize(room, order)
    assert lean_to_bytes(ours, order) == bytes(room)
    assert lean_from_bytes(bytes(room) + b"and more", order) == ours
    assert datasketch.LeanMinHash.deserialize(lean_to_bytes(ours, order), order) == to_datasketch(
        ours, lean=True
    )
    for cut in range(len(room)):
        with pytest.raises(DecodeError):
            lean_from_bytes(bytes(room[:cut]), order)


def test_hostile_lean_bytes_end_in_a_clear_error() -> None:
    for head in (
        struct.pack("<qi", 1, 2**31 - 1),
        struct.pack("<qi", 1, -(2**31)) + b"\1",
        struct.pack("<qi", 1, 0),
        struct.pack("<qiB", 1, -5, 9),
    ):
        with pytest.raises(DecodeError):
            lean_from_bytes(head + bytes(64), "<")
    with pytest.raises(UsageError):
        lean_from_bytes(bytes(64), "<<")
    for _ in range(2_000):
        try:
            lean_from_bytes(RNG.bytes(int(RNG.integers(0, 80))), "<")
        except DataguardError:
            continue


@pytest.mark.parametrize("scheme", SCHEMES)
def test_sketch_bytes_hold_everything_and_refuse_the_rest(scheme: str) -> None:
    ours = KMins.of(elements(30), num_perm=20, seed=3, scheme=scheme)
    data = ours.to_bytes()
    assert data[4] == (3 if scheme == "legacy" else 2)
    assert KMins.from_bytes(data) == ours
    assert hash(KMins.from_bytes(data)) == hash(ours)
    for cut in range(len(data)):
        with pytest.raises((DecodeError, SchemeMismatch)):
            KMins.from_bytes(data[:cut])
    for at in range(len(data)):
        bad = bytearray(data)
        bad[at] ^= 1 << (at % 8)
        with pytest.raises((DecodeError, SchemeMismatch)):
            KMins.from_bytes(bad)


VECTORS = {
    "affine32": "64676670020110000d000000010000000000000004000000201000000000000000"
    "9ff3dc58a9be7e205692b80a78a074686846792e4ed859db",
    "affine64": "64676670020110000d000000010000000000000004000000402000000000000000"
    "ce647b685822777543fd5b8a5b66f9414dfb401b3959c6100fc66e4f3786698f86a0cc9c77c2c446",
    "legacy": "64676670030110000d000000010000000000000004000000201000000000000000"
    "d343bd1122fd0d2c8d5e0578b1cbaf75bce863dc124f8c95",
}


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_known_sketch_keeps_its_bytes(scheme: str) -> None:
    assert KMins.of([b"a", b"b"], num_perm=4, scheme=scheme).to_bytes().hex() == VECTORS[scheme]


def test_parts_merge_to_the_whole_and_unlike_ones_do_not() -> None:
    parts = [KMins.of(elements(50, salt)) for salt in range(4)]
    whole = KMins.of([e for salt in range(4) for e in elements(50, salt)])
    merged = parts[2].merge(parts[0]).merge(parts[3].merge(parts[1])).merge(parts[0])
    assert merged.to_bytes() == whole.to_bytes()
    shared = parts[0].jaccard(whole)
    assert shared.low < 0.25 < shared.high
    with pytest.raises(ValueError, match="read-only"):
        whole.values[0] = 0
    for other in (
        KMins.of([b"a"], seed=2),
        KMins.of([b"a"], num_perm=64),
        KMins.of([b"a"], scheme="legacy"),
        KMins.of([b"a"], hash_scheme=XXH3),
    ):
        with pytest.raises(SchemeMismatch):
            whole.merge(other)
        with pytest.raises(SchemeMismatch):
            whole.jaccard(other)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: KMins(np.zeros((2, 2), np.uint32)),
        lambda: KMins(np.zeros(0, np.uint32)),
        lambda: KMins(np.full(3, 1 << 40, np.uint64)),
        lambda: KMins(np.zeros(3), "legacy"),
        lambda: KMins(np.zeros(3, np.uint32), "affine"),
        lambda: KMins(np.zeros(3, np.uint32), seed=1 << 63),
        lambda: kmins_sets([1, 2], [0, 3]),
        lambda: kmins_sets([1, 2], [2, 0]),
        lambda: kmins_sets([1, 2], []),
        lambda: kmins_sets([-1, 2], [0, 2]),
        lambda: kmins_sets([1.0, 2.0], [0, 2]),
        lambda: kmins_sets([1 << 32], [0, 1]),
        lambda: kmins_sets([1], [0, 1], out=np.zeros((1, 128), np.uint64)),
        lambda: hash_tokens([b"a"], 2),
    ],
)
def test_wrong_use_is_one_clear_line(wrong: object) -> None:
    with pytest.raises(UsageError) as told:
        wrong()  # type: ignore[operator]
    assert "\n" not in str(told.value)


def collection(scheme: str, count: int = 200) -> list[list[bytes]]:
    return [elements(60)[i % 40 : i % 40 + 20] + elements(i % 7, i) for i in range(count)]


def storage(lsh: datasketch.MinHashLSH) -> tuple[dict[object, object], list[dict[object, object]]]:
    return ({k: lsh.keys.get(k) for k in lsh.keys}, [{k: set(t.get(k)) for k in t} for t in lsh.hashtables])


@pytest.mark.parametrize("scheme", SCHEMES)
def test_an_old_index_takes_our_signatures_byte_for_byte(scheme: str) -> None:
    sets = collection(scheme)
    theirs = datasketch.MinHash.bulk(sets, scheme=scheme)
    ours = MinHash.bulk(sets, scheme=scheme)
    pure, mixed, frozen = (datasketch.MinHashLSH(0.6) for _ in range(3))
    for key, one in enumerate(theirs):
        pure.insert(key, one)
        if key < 100:
            mixed.insert(key, one)
    rows = np.stack([m.hashvalues for m in ours[100:]])
    assert to_datasketch_lsh(range(100, 200), rows, mixed, scheme=scheme) == 100
    assert to_datasketch_lsh(range(200), [m.sketch() for m in ours], frozen) == 200
    assert storage(mixed) == storage(pure) == storage(frozen)
    assert mixed.query(theirs[150]) == pure.query(theirs[150])
    with pytest.raises(UsageError, match="signature 0 was refused"):
        to_datasketch_lsh([5], rows[:1], mixed, scheme=scheme)
    with pytest.raises(UsageError, match="signature 1 was refused"):
        to_datasketch_lsh(["new"], ours[:2], mixed)
    with pytest.raises(UsageError, match="length 128, got 64"):
        to_datasketch_lsh(["other"], [MinHash(64, scheme=scheme)], mixed)


@pytest.mark.parametrize("scheme", [*SCHEMES, "fss"])
def test_an_old_index_becomes_ours(scheme: str) -> None:
    made = MinHash.bulk(collection(scheme), scheme=scheme)
    old = datasketch.MinHashLSH(0.6)
    to_datasketch_lsh([f"k{i}" for i in range(200)], made, old)
    ours, direct = from_datasketch_lsh(old), MinHashLSH(0.6)
    for i, one in enumerate(made):
        direct.insert(f"k{i}", one)
    for one in made[::9]:
        assert ours.query(one) == direct.query(one)
        assert ours.ranked(one) == direct.ranked(one)
    if scheme != "affine32":
        with pytest.raises(SchemeMismatch):
            ours.query(MinHash())


def test_indexes_that_do_not_tell_enough_are_refused() -> None:
    with pytest.raises(UsageError, match="scheme"):
        from_datasketch_lsh(datasketch.MinHashLSH())
    hashed = datasketch.MinHashLSH(hashfunc=lambda b: hashlib.sha1(b).digest())
    hashed.insert("a", datasketch.MinHash())
    with pytest.raises(UsageError, match="hashed"):
        from_datasketch_lsh(hashed)
    plain = datasketch.MinHashLSH()
    plain.insert("a", datasketch.MinHash())
    with pytest.raises(UsageError, match="bytes of bands"):
        from_datasketch_lsh(plain, scheme="legacy")


def test_bands_with_values_that_no_signature_has_are_refused() -> None:
    index = datasketch.MinHashLSH(0.5, num_perm=16)
    wide = datasketch.MinHash(16, scheme="legacy", hashvalues=np.full(16, 2**40, np.uint64))
    index.insert("key", wide)
    with pytest.raises(UsageError, match="beyond 32 bits"):
        from_datasketch_lsh(index)


def test_pickled_keys_are_undone_by_the_caller_only() -> None:
    old = datasketch.MinHashLSH(0.6, prepickle=True)
    made = MinHash.bulk(collection("affine32", 20))
    to_datasketch_lsh(range(20), made, old)
    assert all(isinstance(key, bytes) for key in from_datasketch_lsh(old))
    assert list(from_datasketch_lsh(old, decode=pickle.loads)) == list(range(20))


def test_a_redis_index_takes_our_signatures(monkeypatch: pytest.MonkeyPatch) -> None:
    fakeredis = pytest.importorskip("fakeredis")
    redis = pytest.importorskip("redis")
    server = fakeredis.FakeServer()
    monkeypatch.setattr(redis, "Redis", lambda **_: fakeredis.FakeStrictRedis(server=server))
    config = {"type": "redis", "basename": b"old", "redis": {"host": "nowhere", "port": 1}}
    sets = collection("legacy", 30)
    old = datasketch.MinHashLSH(0.6, storage_config=config)
    theirs = datasketch.MinHash.bulk(sets, scheme="legacy")
    for key in range(15):
        old.insert(f"k{key}", theirs[key])
    later = datasketch.MinHashLSH(0.6, storage_config=config)
    ours = MinHash.bulk(sets, scheme="legacy")
    to_datasketch_lsh([f"k{i}" for i in range(15, 30)], ours[15:], later)
    again = datasketch.MinHashLSH(0.6, storage_config=config)
    memory = datasketch.MinHashLSH(0.6)
    for key, one in enumerate(theirs):
        memory.insert(f"k{key}", one)
    for one in theirs:
        assert sorted(again.query(one)) == sorted(memory.query(one))
    home = from_datasketch_lsh(again, scheme="legacy", decode=pickle.loads)
    for one in ours:
        assert sorted(map(str, home.query(one))) == sorted(memory.query(to_datasketch(one)))
