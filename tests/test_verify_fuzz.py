"""Whatever lies in the files, verification answers; it raises EvidenceError or nothing."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dataguard.errors import EvidenceError
from dataguard.evidence.bundle import compose
from dataguard.evidence.facts import read_facts
from dataguard.evidence.fields import Node
from dataguard.evidence.layout import REQUIRED
from test_evidence_world import SIGNER, World, check, resign

CASES = {outcome: compose(World(n_slots=34).case(outcome), SIGNER) for outcome in ("corresponds", "no-mark")}
JSON_FILES = ("report.json", "ledger.json", "annex/openings.json")

quick = settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))

odd = st.sampled_from(
    [
        None, True, False, 0, 1, -1, 2, 255, 65535, 65536, 2**53 - 1, -(2**53 - 1), 0.5, -0.0, 1e-300, 1e300, "", "0",
        "-1", "1e400", "9" * 5000, str(2**64), "18446744073709551615", "ab", "a" * 64, "0" * 64, "1e-09", "nan",
        "\u202e", "\x00", "<script>", "{recipient}", "corresponds", "no-mark", "registration", [], {}, [[]], [None],
        {"": None}, [1, 2, 3, 4], [[1, 2, 3, 4]], [[0, "0", "", []]], ["", ""], {"0": []},
    ]
)  # fmt: skip
values = st.recursive(
    odd | st.text(max_size=8) | st.floats(allow_nan=False, allow_infinity=False) | st.integers(-99, 99),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=8,
)


def places(value: Any) -> list[tuple]:
    """Return (container, key) of every place inside a JSON value."""
    found, stack = [], [value]
    while stack:
        node = stack.pop()
        children = list(node.items() if isinstance(node, dict) else enumerate(node))
        for key, child in children:
            found.append((node, key))
            if isinstance(child, dict | list):
                stack.append(child)
    return found


def answer(files: dict[str, bytes]) -> None:
    try:
        found = check(files)
    except EvidenceError:
        return
    # The guard against a forgotten kind of value must never be what saves us.
    assert not [s for s in found.steps if "malformed content" in s.detail]
    assert found.trusted == all(s.ok for s in found.steps)
    json.dumps(found.to_dict())


@quick
@given(st.sampled_from(REQUIRED), st.binary(max_size=60) | values.map(lambda v: json.dumps(v).encode()))
def test_random_content_in_any_file(name: str, content: bytes) -> None:
    answer(CASES["corresponds"] | {name: content})
    if name not in ("report.json", "statement.dsse.json"):
        statement = json.loads(CASES["corresponds"]["report.json"])
        answer(resign(CASES["corresponds"] | {name: content}, statement))


@quick
@given(values)
def test_random_statement_signed(content: Any) -> None:
    if isinstance(content, dict):
        answer(resign(CASES["corresponds"], content))


@settings(parent=quick, max_examples=500)
@given(
    st.sampled_from(list(CASES)),
    st.sampled_from(JSON_FILES),
    st.integers(0, 10**9),
    values,
    st.integers(0, 3),
)
def test_one_odd_value_anywhere_correctly_signed(
    outcome: str, name: str, place: int, value: Any, how: int
) -> None:
    files = CASES[outcome]
    document = json.loads(files[name])
    # Half of the draws fall on the few places near the top, the others on the many leaves.
    spots = places(document)
    container, key = spots[place % (len(spots) if how % 2 else min(60, len(spots)))]
    if how == 2:
        if isinstance(container, list):
            container.insert(key, value)
        else:
            del container[key]
    else:
        container[key] = value
    statement = document if name == "report.json" else json.loads(files["report.json"])
    if name != "report.json":
        files = files | {name: json.dumps(document, sort_keys=True, separators=(",", ":")).encode()}
    answer(resign(files, statement))


@pytest.mark.parametrize("wrong", [True, 1.5, "1", None, [], {}, math.inf, -1, 2**60])
def test_an_integer_is_nothing_else(wrong: object) -> None:
    with pytest.raises(EvidenceError, match=r"x\.y: not an integer"):
        Node({"y": wrong}, "x")["y"].integer(0)


@pytest.mark.parametrize("wrong", ["", "01", "+1", "1.0", " 1", "1_0", "٣", "-0", str(2**64), 5, None])
def test_a_decimal_text_has_one_spelling(wrong: object) -> None:
    with pytest.raises(EvidenceError, match="not a decimal text"):
        Node(wrong, "x").decimal()
    assert Node(str(2**64 - 1), "x").decimal() == 2**64 - 1


@pytest.mark.parametrize("wrong", ["AB", "a", "0x", "ab ", "a" * 65, 3, None])
def test_hex_has_one_spelling(wrong: object) -> None:
    with pytest.raises(EvidenceError, match="hex"):
        Node(wrong, "x").hex(32)
    assert Node("ab", "x").hex() == b"\xab"


@pytest.mark.parametrize("wrong", [0, 1, -0.1, 1.1, True, "0", "1", "1e", "..", "nan", "inf", None, "1e-999"])
def test_a_probability_is_strictly_inside(wrong: object) -> None:
    with pytest.raises(EvidenceError):
        Node(wrong, "x").probability()
    assert Node("1e-09", "x").probability() == Node(1e-9, "x").probability() == 1e-9


def test_facts_name_the_field_that_is_wrong() -> None:
    statement = json.loads(CASES["corresponds"]["report.json"])
    statement["trace"]["decoys"]["n"] = "many"
    with pytest.raises(EvidenceError, match=r"statement\.trace\.decoys\.n: not an integer"):
        read_facts(Node(statement, "statement"))
    statement["trace"]["decoys"]["n"] = 9
    statement["suspect"]["columns"] = ["a", "a"]
    with pytest.raises(EvidenceError, match="not distinct"):
        read_facts(Node(statement, "statement"))
