"""Derivations, commitments, symbols against independently computed vectors; key files against mishandling."""

from __future__ import annotations

import copy
import hashlib
import hmac
import itertools
import pickle
import traceback

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataguard import dsse, keys
from dataguard.errors import EvidenceError, KeyringError, UsageError

MASTER = bytes(range(32))
SALT = bytes(range(100, 116))
TAG = b"dg1swap\0"
ADDRESSES = [0, 1, 2**63 + 5, 2**64 - 1, 1234567890123456789]
PARTS = st.lists(st.text(max_size=5) | st.binary(max_size=5) | st.integers(0, 2**64 - 1), max_size=4)


def counting(seed):
    """A repeatable source of bytes."""
    numbers = itertools.count()
    return lambda n: hashlib.shake_256(f"{seed} {next(numbers)}".encode()).digest(n)


def hkdf_twin(secret, info, length=32):
    """RFC 5869 with hmac alone."""
    pseudo = hmac.new(bytes(32), secret, hashlib.sha256).digest()
    block, out = b"", b""
    for i in range(1, -(-length // 32) + 1):
        block = hmac.new(pseudo, block + info + bytes([i]), hashlib.sha256).digest()
        out += block
    return out[:length]


# Golden vectors: computed by a separate program with hmac, hashlib and the openssl command.
MARK_KEY = "1f133c2256cb7e15061262b8b31881c7f1277f32d5c45834f42706555dd133f5"
DATASET_SECRET = "50143ac90bbc283fb7fdca483fdbce7edbc9c952bd833e80b38252af4dcaa347"


def test_golden_info_encoding():
    assert keys.encode_parts("dataguard/1", "mark", "flights", "acme", 0).hex() == (
        "730b0000006461746167756172642f31"  # s, 11 bytes, dataguard/1
        "73040000006d61726b"  # s, 4, mark
        "7307000000666c6967687473"  # s, 7, flights
        "730400000061636d65"  # s, 4, acme
        "69080000000000000000000000"  # i, 8, zero
    )


def test_golden_derivations():
    dataset = keys.dataset_secret(MASTER, "flights")
    seed = keys.decoy_seed(dataset)
    derived = {
        "mark": keys.mark_key(MASTER, "flights", "acme", 0),
        "mark, generation 1": keys.mark_key(MASTER, "flights", "acme", 1),
        "mark, Japanese": keys.mark_key(MASTER, "航空便", "株式会社アクメ", 0),
        "dataset": dataset,
        "address": keys.address_key(dataset),
        "pairing": keys.pairing_key(dataset),
        "bias": keys.bias_key(dataset),
        "salt": keys.salt_key(dataset, "rows", 1),
        "decoys": seed,
        "decoy 7": keys.decoy_mark_key(seed, 7),
    }
    assert {name: value.hex() for name, value in derived.items()} == {
        "mark": MARK_KEY,
        "mark, generation 1": "d1d6efdc822730e7224564944b663be30ae2f91fa754e7fdb310d0be1b2b7823",
        "mark, Japanese": "1168999b772b23cccc627e3e7d8768a595deb972710e6a0d9b41d99c1a877a31",
        "dataset": DATASET_SECRET,
        "address": "78f522575025f239b1b1d7b49a98181142d83764125602fa8099564f8cc39c9b",
        "pairing": "eb9d39333eb6a2b5334c4561ee0ee7ec3439375b380ffa1fc82b88a998f4dc6f",
        "bias": "268245f793218e2a4f505e17a2c1c1b54b05b6e9b2c118f8f50611d60312ed29",
        "salt": "8bc9e0b892d5533938e56607db051380b2f2c135215577f5faa31e3f67be35c7",
        "decoys": "e5a9b40e1c1a51e056b3d87b67aa61276c1f8ca270f2408b5f4fbebff1feceb7",
        "decoy 7": "161e512d2302d7dde541af7810d6cf3d30c98acc742d9ad75e6f5b3feff9e255",
    }
    assert len(set(derived.values())) == len(derived)
    assert keys.scope_pseudonym(dataset) == "2b55b5caa953d846"
    assert keys.mark_key(keys.MasterSecret(MASTER), "flights", "acme", 0).hex() == MARK_KEY


def test_golden_commitment():
    key = bytes.fromhex(MARK_KEY)
    commitment = keys.commit("mark-key", key, SALT)
    assert commitment == "50daf3f0afe33cb70a125efb68864f106b6e8eeba4c2a1cc9c3485e460cf3166"
    assert keys.check_commitment("mark-key", key, SALT, commitment)


def test_golden_symbols():
    key = bytes.fromhex(MARK_KEY)
    blocks = keys.symbol_blocks(key, ADDRESSES, TAG)
    assert [blocks[i : i + 16].hex() for i in range(0, 80, 16)] == [
        "e989711490e0a9021d6f5fdc4f02cc4a",
        "9cf469afbd0d523ea1311aa25bbe9fcd",
        "824dab26513dbcf731893db8e45c3283",
        "7156598194860e573ed51825c16f2e73",
        "96afbffd847d3c7acbaf12a7d62311ab",
    ]
    draws = [35305, 62620, 19842, 22129, 44950]
    assert keys.symbols(key, ADDRESSES, [32768] * 5, TAG) == [0, 0, 1, 1, 0]
    assert keys.symbols(key, ADDRESSES, draws, TAG) == [0] * 5, "the symbol is 1 strictly below the level"
    assert keys.symbols(key, ADDRESSES, [draw + 1 for draw in draws], TAG) == [1] * 5
    assert keys.symbols(key, [], [], TAG) == []


@settings(max_examples=300, deadline=None)
@given(PARTS, PARTS)
def test_different_parts_never_share_an_encoding(left, right):
    assert (keys.encode_parts(*left) == keys.encode_parts(*right)) == (
        [(type(x), x) for x in left] == [(type(x), x) for x in right]
    )


@settings(max_examples=50, deadline=None)
@given(st.binary(min_size=32, max_size=32), PARTS.filter(bool), st.integers(1, 100))
def test_hkdf_equals_rfc_5869_by_hand(secret, parts, length):
    expected = hkdf_twin(secret, keys.encode_parts("dataguard/1", *parts), length)
    assert keys.hkdf(secret, *parts, length=length) == expected


def test_the_twin_itself_gives_the_vector_of_rfc_5869_appendix_a3():
    assert hkdf_twin(b"\x0b" * 22, b"", 42).hex() == (
        "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8"
    )


@pytest.mark.parametrize("part", [-1, 2**64, True, 1.5, None, "\ud800"], ids=repr)
def test_parts_that_cannot_be_encoded(part):
    with pytest.raises(UsageError):
        keys.hkdf(MASTER, "mark", part)


def test_hkdf_refuses_misuse():
    for length in (0, 8161):
        with pytest.raises(UsageError):
            keys.hkdf(MASTER, "mark", length=length)
    with pytest.raises(UsageError):
        keys.hkdf(MASTER)
    with pytest.raises(KeyringError):
        keys.hkdf(MASTER[:31], "mark")


def test_commitments_bind_kind_secret_and_salt():
    commitment = keys.commit("mark-key", b"secret", SALT)
    other = bytes(16)
    assert not keys.check_commitment("bias-key", b"secret", SALT, commitment)
    assert not keys.check_commitment("mark-key", b"Secret", SALT, commitment)
    assert not keys.check_commitment("mark-key", b"secret", other, commitment)
    assert not keys.check_commitment("mark-key", b"secret", SALT, commitment.upper())
    assert not keys.check_commitment("mark-key", b"secret", SALT, "\udc80")
    assert not keys.check_commitment("mark-key", b"secret", SALT, None)
    assert not keys.check_commitment("mark-key", b"secret", SALT[:15], commitment)
    assert keys.commit("k", b"ab", SALT + b"c") != keys.commit("k", b"cab", SALT), "parts do not run together"
    with pytest.raises(UsageError):
        keys.commit("mark-key", b"secret", SALT[:15])


def test_symbols_refuse_what_does_not_fit():
    key = bytes(32)
    for bad in (
        lambda: keys.symbols(key, [1, 2], [5], TAG),
        lambda: keys.symbols(key, [1], [65536], TAG),
        lambda: keys.symbols(key, [1], [-1], TAG),
        lambda: keys.symbol_blocks(key, [1], b"short"),
        lambda: keys.symbol_blocks(key, [2**64], TAG),
        lambda: keys.symbol_blocks(key, [-1], TAG),
        lambda: keys.symbol_blocks(key, [1.5], TAG),
    ):
        with pytest.raises(UsageError):
            bad()
    with pytest.raises(KeyringError):
        keys.symbol_blocks(bytes(16), [1], TAG)


def test_symbol_frequency_follows_the_level():
    # Fixed key: 20,000 draws with P/65536 = 0.25. Null: binomial(20000, 1/4), sd 61; |z| < 6.1 has
    # probability 1 - 1e-9. The draw is deterministic, so this can only fail when the PRF is changed.
    ones = sum(keys.symbols(MASTER, range(20_000), [16384] * 20_000, TAG))
    assert abs(ones - 5000) < 6.1 * 61.3


# --- secrets ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [keys.MasterSecret, keys.SigningKey])
def test_secrets_do_not_show(kind):
    secret = kind(MASTER)
    for text in (repr(secret), str(secret), f"{secret}", f"{[secret]}"):
        assert text.strip("[]") == f"{kind.__name__}(...)"
    for leak in (
        lambda: pickle.dumps(secret),
        lambda: copy.copy(secret),
        lambda: copy.deepcopy(secret),
        lambda: hash(secret),
    ):
        with pytest.raises(TypeError):
            leak()
    with pytest.raises(TypeError):
        vars(secret)
    assert secret == kind(MASTER)
    assert secret != kind(bytes(32))
    assert secret != MASTER
    assert kind.generate(lambda n: b"\x07" * n).reveal() == b"\x07" * 32


def test_secrets_of_two_kinds_are_not_equal():
    assert keys.MasterSecret(MASTER) != keys.SigningKey(MASTER)


@pytest.mark.parametrize("kind", [keys.MasterSecret, keys.SigningKey, keys.VerifyKey])
@pytest.mark.parametrize("value", [b"", MASTER[:31], MASTER + b"\0", MASTER.hex(), None], ids=repr)
def test_keys_have_32_bytes(kind, value):
    with pytest.raises(KeyringError) as caught:
        kind(value)
    assert "0102" not in "".join(traceback.format_exception_only(caught.value))


def test_signatures_of_rfc_8032():
    # RFC 8032 section 7.1, test 2.
    key = keys.SigningKey(bytes.fromhex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb"))
    public = "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c"
    signature = (
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
        "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
    )
    assert key.public_bytes.hex() == public
    assert key.sign(b"\x72").hex() == signature
    assert (
        key.verify_key.keyid
        == hashlib.sha256(bytes.fromhex(public)).hexdigest()
        == dsse.keyid(key.public_bytes)
    )
    key.verify_key.verify(bytes.fromhex(signature), b"\x72")
    for wrong in (bytes(64), b"", bytes.fromhex(signature)[:-1]):
        with pytest.raises(EvidenceError):
            key.verify_key.verify(wrong, b"\x72")
    with pytest.raises(EvidenceError):
        key.verify_key.verify(bytes.fromhex(signature), b"\x73")
