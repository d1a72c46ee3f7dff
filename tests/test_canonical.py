"""Canonical JSON, the strict reader, and the bytes of a ledger leaf."""

from __future__ import annotations

import json
import struct
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataguard import merkle
from dataguard.canonical import (
    MAX_DEPTH,
    body_digest,
    canonical_json,
    check_headers,
    check_opening,
    leaf_bytes,
    parse_json,
)
from dataguard.errors import EvidenceError, UsageError

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.text()
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


def nested(depth, bracket="[]"):
    return (bracket[0] * depth + bracket[1] * depth).encode()


def test_example_of_rfc_8785_section_3_2():
    text = r"""{
      "numbers": [333333333.33333329, 1E30, 4.50, 2e-3, 0.000000000000000000000000001],
      "string": "\u20ac$\u000F\u000aA'\u0042\u0022\u005c\\\"\/",
      "literals": [null, true, false]
    }"""
    expected = (
        '{"literals":[null,true,false],"numbers":[333333333.3333333,1e+30,4.5,0.002,1e-27],'
        '"string":"€$\\u000f\\nA\'B\\"\\\\\\\\\\"/"}'
    )
    assert canonical_json(parse_json(text.encode())) == expected.encode()


def test_key_order_of_rfc_8785_section_3_2_3():
    keys = ["\u20ac", "\r", "\ufb33", "1", "\U0001f600", "\u0080", "\u00f6"]
    data = canonical_json(dict.fromkeys(keys, 0))
    assert list(json.loads(data)) == ["\r", "1", "\u0080", "\u00f6", "\u20ac", "\U0001f600", "\ufb33"]


def test_numbers_of_rfc_8785_appendix_b():
    for bits, text in (
        ("0000000000000000", "0"),
        ("8000000000000000", "0"),
        ("0000000000000001", "5e-324"),
        ("7fefffffffffffff", "1.7976931348623157e+308"),
        ("4340000000000000", "9007199254740992"),
        ("4430000000000000", "295147905179352830000"),
        ("44b52d02c7e14af5", "9.999999999999997e+22"),
        ("44b52d02c7e14af6", "1e+23"),
        ("444b1ae4d6e2ef4e", "999999999999999700000"),
        ("444b1ae4d6e2ef50", "1e+21"),
        ("3eb0c6f7a0b5ed8c", "9.999999999999997e-7"),
        ("3eb0c6f7a0b5ed8d", "0.000001"),
        ("41b3de4355555555", "333333333.3333333"),
    ):
        value = struct.unpack(">d", bytes.fromhex(bits))[0]
        assert canonical_json(value) == text.encode()
        assert canonical_json(parse_json(text.encode())) == text.encode()


@settings(max_examples=300, deadline=None)
@given(JSON)
def test_what_is_written_reads_back_and_is_written_alike(value):
    data = canonical_json(value)
    back = parse_json(data)
    assert back == value
    assert canonical_json(back) == data


@pytest.mark.parametrize(
    "value",
    [
        float("nan"),
        float("inf"),
        2**53,
        -(2**53),
        [10**30],
        10**5000,
        {1: 2},
        {"a": b"x"},
        {"a": {1, 2}},
        "\ud800",
        {"\udfff": 1},
        object(),
        json.loads(nested(MAX_DEPTH + 1)),
        json.loads(nested(900)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_values_without_a_canonical_form(value):
    with pytest.raises(UsageError) as caught:
        canonical_json(value)
    assert caught.value.remedy


def test_a_circle_has_no_canonical_form():
    circle: list[object] = []
    circle.append(circle)
    with pytest.raises(UsageError, match="nested"):
        canonical_json(circle)


def test_an_error_does_not_quote_the_value():
    with pytest.raises(UsageError) as caught:
        canonical_json({"secret": 2**60 + 12345})
    assert "12345" not in str(caught.value)


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (b'{"a":1,"a":2}', "repeated key"),
        (b'[{"x":{"a":1,"b":2,"a":1}}]', "repeated key"),
        (b"[NaN]", "NaN"),
        (b"[-Infinity]", "NaN or infinity"),
        (b"1e999", "too large"),
        (b"9007199254740993", "2\\^53"),
        (b"9007199254740991000001", "2\\^53"),
        (b"1" * 5000, "2\\^53"),
        (b'"\xff"', "UTF-8"),
        (b'"\xed\xa0\x80"', "UTF-8"),
        (b'"\\ud800"', "surrogate"),
        (b'{"\\uDFFF":1}', "surrogate"),
        (b'[["\\uD83D\\uD83D\\uDE00"]]', "surrogate"),
        (b"", "not valid"),
        (b"\xef\xbb\xbf{}", "not valid"),
        (b"{} {}", "not valid"),
        (b"{'a':1}", "not valid"),
        (b"[01]", "not valid"),
        (b"[1,]", "not valid"),
        (nested(MAX_DEPTH + 1), "nested"),
        (nested(200_000), "nested"),
        (b'{"a":' * 100_000, "nested"),
    ],
    ids=lambda x: x[:24].decode("latin1") if isinstance(x, bytes) else "",
)
def test_texts_that_two_readers_could_read_differently(data, match):
    with pytest.raises(EvidenceError, match=match) as caught:
        parse_json(data, where="report.json")
    assert str(caught.value).startswith("report.json: ")


def test_limits_are_inclusive():
    assert parse_json(nested(MAX_DEPTH)) == json.loads(nested(MAX_DEPTH))
    assert parse_json(b"[1234]", max_bytes=6) == [1234]
    with pytest.raises(EvidenceError, match="limit"):
        parse_json(b"[12345]", max_bytes=6)


def test_a_proper_surrogate_pair_is_one_character():
    assert parse_json(b'"\\ud83d\\ude00"') == "\U0001f600"


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=40) | st.text(alphabet='{}[]",:\\u0dD8e+-1 Nnaltrufs', max_size=40).map(str.encode))
def test_only_evidence_errors_leave_the_reader(data):
    try:
        value = parse_json(data)
    except EvidenceError:
        return
    assert value == parse_json(canonical_json(value))


# --- ledger leaf -----------------------------------------------------------------------------

SALT = bytes(range(32))
PAYLOAD = {"recipient": "acme", "rows": 336776, "time": "2026-01-31T09:00:00Z", "総数": 1}


def an_opening(**changes):
    opening = {
        "v": 1,
        "seq": 3,
        "type": "export",
        "scope": "00112233aabbccdd",
        "body": body_digest(SALT, PAYLOAD),
        "payload": PAYLOAD,
        "salt": SALT.hex(),
        "time": "2026-01-31T09:00:00Z",
    }
    return {**opening, **changes}


# Computed with hashlib alone from canonical text typed by hand.
GOLDEN_BODY = "6531385e267c01a301163f16e92d353bfc0829cfdf481af3700f0bfdf333c266"
GOLDEN_LEAF_HASH = "e4257597b8fea7b56e64d3f19ddf879a85b4b27f590be223313f5c7e6cc97f8e"


def test_golden_leaf():
    assert body_digest(SALT, PAYLOAD) == GOLDEN_BODY
    assert leaf_bytes(3, "export", "00112233aabbccdd", GOLDEN_BODY) == (
        b'{"body":"' + GOLDEN_BODY.encode() + b'","scope":"00112233aabbccdd","seq":3,"type":"export","v":1}'
    )
    assert check_opening(an_opening()).hex() == GOLDEN_LEAF_HASH


def test_an_opening_gives_the_leaf_hash_of_its_header():
    opening = an_opening()
    leaf = leaf_bytes(opening["seq"], opening["type"], opening["scope"], opening["body"])
    assert check_opening(opening) == merkle.leaf_hash(leaf)
    assert check_opening(parse_json(canonical_json(opening))) == merkle.leaf_hash(leaf)


@pytest.mark.parametrize(
    "changes",
    [
        {"payload": {**PAYLOAD, "rows": 336777}},
        {"payload": [1]},
        {"payload": float("nan")},
        {"salt": bytes(32).hex()},
        {"salt": "00"},
        {"salt": SALT.hex().upper()},
        {"salt": None},
        {"body": "0" * 64},
        {"body": body_digest(SALT, PAYLOAD).upper()},
        {"time": "2026-01-31T09:00:01Z"},
        {"seq": -1},
        {"seq": True},
        {"seq": "3"},
        {"type": "Export"},
        {"type": 7},
        {"scope": "acme"},
        {"scope": None},
        {"v": 2},
        {"v": True},
        {"extra": 1},
    ],
    ids=str,
)
def test_a_changed_opening_is_refused(changes):
    with pytest.raises(EvidenceError):
        check_opening(an_opening(**changes))


def test_a_missing_field_is_refused():
    for name in an_opening():
        with pytest.raises(EvidenceError):
            check_opening({k: v for k, v in an_opening().items() if k != name})
    with pytest.raises(EvidenceError):
        check_opening(["not", "a", "mapping"])


def header(seq, **changes):
    return {"v": 1, "seq": seq, "type": "mark-key", "scope": "", "body": "ab" * 32, **changes}


def test_headers_give_their_leaf_hashes():
    hashes = check_headers([header(0), header(1)])
    assert hashes == [merkle.leaf_hash(leaf_bytes(i, "mark-key", "", "ab" * 32)) for i in range(2)]
    for wrong in (
        [header(1)],
        [header(0), header(2)],
        [header(0, v=2)],
        [header(0, x=1)],
        [{**header(0), "seq": False}],
        [3],
    ):
        with pytest.raises(EvidenceError):
            check_headers(wrong)


@pytest.mark.parametrize(
    "fields",
    [
        (-1, "export", "", "ab" * 32),
        (2**53, "export", "", "ab" * 32),
        (0, "", "", "ab" * 32),
        (0, "a b", "", "ab" * 32),
        (0, "export", "0" * 15, "ab" * 32),
        (0, "export", "", "ab" * 31),
        (0, "export\n", "", "ab" * 32),
    ],
)
def test_malformed_leaf_fields(fields):
    with pytest.raises(UsageError):
        leaf_bytes(*fields)


def test_body_salt_has_32_bytes():
    with pytest.raises(UsageError):
        body_digest(bytes(16), {})


def test_the_floor_needs_neither_numpy_nor_cryptography_to_be_imported():
    code = (
        "import sys, dataguard.keys, dataguard.canonical, dataguard.dsse, dataguard.merkle\n"
        "heavy = {'numpy', 'numba', 'pyarrow', 'scipy', 'cryptography', 'rfc8785'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
