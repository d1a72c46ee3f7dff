"""Envelopes against the protocol's own example and an independent implementation."""

from __future__ import annotations

import base64
import json

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st
from securesystemslib.dsse import Envelope as OracleEnvelope
from securesystemslib.signer import CryptoSigner, SSlibKey

from dataguard import dsse
from dataguard.canonical import canonical_json, parse_json
from dataguard.errors import EvidenceError, UsageError
from dataguard.keys import SigningKey

KEY = SigningKey(bytes(range(32)))
OTHER = SigningKey(bytes(32))
TYPE = "application/vnd.dataguard.test.v1+json"


def oracle_key(public):
    return SSlibKey(dsse.keyid(public), "ed25519", "ed25519", {"public": public.hex()})


def test_encoding_of_the_protocol_example():
    assert dsse.pae("http://example.com/HelloWorld", b"hello world") == (
        b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    )
    assert dsse.pae("", b"") == b"DSSEv1 0  0 "
    assert dsse.pae("型", b"\0") == b"DSSEv1 3 \xe5\x9e\x8b 1 \0"


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=300))
def test_the_oracle_accepts_ours(payload):
    data = dsse.to_json(dsse.sign(payload, TYPE, KEY))
    oracle = OracleEnvelope.from_dict(json.loads(data))
    assert oracle.payload == payload
    assert oracle.pae() == dsse.pae(TYPE, payload)
    assert list(oracle.verify([oracle_key(KEY.public_bytes)], 1)) == [dsse.keyid(KEY.public_bytes)]


def test_we_accept_the_oracles():
    private = Ed25519PrivateKey.from_private_bytes(KEY.reveal())
    signer = CryptoSigner(private, oracle_key(KEY.public_bytes))
    oracle = OracleEnvelope(b'{"a":1}', TYPE, {})
    oracle.sign(signer)
    envelope = dsse.from_json(json.dumps(oracle.to_dict()).encode())
    assert dsse.verify(envelope, KEY.public_bytes, payload_type=TYPE) == b'{"a":1}'
    assert envelope == dsse.sign(b'{"a":1}', TYPE, KEY)


def test_round_trip_and_canonical_form():
    envelope = dsse.sign(b"\x00payload\xff", TYPE, KEY)
    data = dsse.to_json(envelope)
    assert dsse.from_json(data) == envelope
    assert data == canonical_json(parse_json(data))
    assert dsse.verify(envelope, KEY.public_bytes) == b"\x00payload\xff"


def test_every_changed_character_of_a_stored_envelope_is_noticed():
    data = dsse.to_json(dsse.sign(b"short", "t", KEY))
    ignored = set(range(data.index(b'"keyid"'), data.index(b',"sig"')))  # a hint, not authenticated
    n_changed = 0
    for i in set(range(len(data))) - ignored:
        for byte in (data[i] ^ 1, data[i] ^ 2, data[i] ^ 0x20):
            changed = data[:i] + bytes([byte]) + data[i + 1 :]
            with pytest.raises(EvidenceError):
                dsse.verify(dsse.from_json(changed), KEY.public_bytes)
            n_changed += 1
    assert n_changed > 300


def test_a_signature_counts_only_for_its_key_type_and_payload():
    envelope = dsse.sign(b"payload", TYPE, KEY)
    with pytest.raises(EvidenceError, match="no valid signature"):
        dsse.verify(envelope, OTHER.public_bytes)
    with pytest.raises(EvidenceError, match="of type"):
        dsse.verify(envelope, KEY.public_bytes, payload_type="application/other")
    for forged in (
        dsse.Envelope(b"payloae", TYPE, envelope.signatures),
        dsse.Envelope(b"payload", TYPE + "x", envelope.signatures),
        dsse.Envelope(b"payload", TYPE, ()),
        dsse.Envelope(b"payload", TYPE, (dsse.Signature(dsse.keyid(KEY.public_bytes), bytes(64)),)),
        dsse.Envelope(b"payload", TYPE, (dsse.Signature(dsse.keyid(KEY.public_bytes), b""),)),
    ):
        with pytest.raises(EvidenceError, match="no valid signature"):
            dsse.verify(forged, KEY.public_bytes)
    for key in (b"", KEY.public_bytes[:-1], KEY.public_bytes + b"\0"):
        with pytest.raises(EvidenceError, match="public key"):
            dsse.verify(envelope, key)


def test_the_key_id_decides_nothing():
    good = dsse.sign(b"p", TYPE, KEY).signatures[0]
    bad = dsse.Signature(dsse.keyid(KEY.public_bytes), dsse.sign(b"p", TYPE, OTHER).signatures[0].sig)
    renamed = dsse.Signature("another name", good.sig)
    assert dsse.verify(dsse.Envelope(b"p", TYPE, (bad, renamed)), KEY.public_bytes) == b"p"


def test_both_alphabets_are_read_and_unknown_fields_ignored():
    envelope = dsse.sign(b"\xfb\xff\xfe>>>", TYPE, KEY)
    document = json.loads(dsse.to_json(envelope))
    document["payload"] = base64.urlsafe_b64encode(envelope.payload).decode()
    document["signatures"][0]["sig"] = base64.urlsafe_b64encode(envelope.signatures[0].sig).decode()
    document |= {"future": [1]}
    document["signatures"][0]["cert"] = "x"
    assert dsse.from_json(json.dumps(document).encode()) == envelope
    del document["signatures"][0]["keyid"]
    assert dsse.from_json(json.dumps(document).encode()).signatures[0].keyid == ""


@pytest.mark.parametrize(
    "change",
    [
        {"payload": None},
        {"payload": 1},
        {"payload": "YQ"},
        {"payload": "YR=="},
        {"payload": "YQ==\n"},
        {"payload": "é"},
        {"payload": "-/=="},
        {"payloadType": 3},
        {"payloadType": "\ud800"},
        {"signatures": []},
        {"signatures": {}},
        {"signatures": [3]},
        {"signatures": [{}]},
        {"signatures": [{"sig": 1}]},
        {"signatures": [{"sig": "AA==", "keyid": 3}]},
        {"signatures": [["sig"]]},
        {"signatures": [{"sig": "AA=="}] * 17},
    ],
    ids=str,
)
def test_malformed_envelopes(change):
    document = {**json.loads(dsse.to_json(dsse.sign(b"a", TYPE, KEY))), **change}
    with pytest.raises(EvidenceError, match="not a signed envelope"):
        dsse.from_json(json.dumps(document).encode(), where="x.json")


@pytest.mark.parametrize(
    "data",
    [b"", b"[]", b"null", b"3", b"{", b"\xff", b"[" * 100_000, b'{"payload":"YQ==","payload":"Yg=="}', b"{}"],
    ids=lambda data: data[:20].decode("latin1"),
)
def test_texts_that_are_not_envelopes(data):
    with pytest.raises(EvidenceError):
        dsse.from_json(data)


def test_repeated_keys_are_refused():
    data = dsse.to_json(dsse.sign(b"a", TYPE, KEY))
    with pytest.raises(EvidenceError):
        dsse.from_json(data[:-1] + b',"payload":"Yg=="}')


def test_a_payload_type_is_printable_ascii():
    for bad in ("", "型", "a\n"):
        with pytest.raises(UsageError):
            dsse.sign(b"a", bad, KEY)
