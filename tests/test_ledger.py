"""The ledger: what it proves to an outsider, what tampering it shows, and that a crash loses nothing."""

from __future__ import annotations

import hashlib
import json
import signal
import subprocess
import sys
import time

import pytest

from dataguard import canonical, dsse, merkle
from dataguard.errors import EvidenceError, LedgerError, UsageError
from dataguard.keys import SigningKey
from dataguard.registry import ledger
from dataguard.registry.sqlite import SqliteStore
from dataguard.registry.store import CheckpointRow
from dataguard.registry.verification import verify
from registry_stores import place, postgres_server, postgres_url  # noqa: F401 - fixtures

KEY = SigningKey(bytes(range(32)))
PUBLIC = KEY.public_bytes
SCOPE, OTHER_SCOPE = "00112233aabbccdd", "ffffffffffffffff"
TIME = "2026-01-31T09:00:00Z"


def salt(i):
    return hashlib.sha256(b"salt %d" % i).digest()


def fill(store, n=9):
    """A vault's first day: init, one registration, mark keys of two scopes, exports, a run."""
    kinds = [
        "vault-init",
        "registration",
        "mark-key",
        "export",
        "mark-key",
        "export",
        "trace-run",
        "mark-key",
    ]
    for i in range(n):
        kind = kinds[i % len(kinds)]
        scope = "" if kind == "vault-init" else OTHER_SCOPE if i == 7 else SCOPE
        ledger.append(store, kind, scope, {"recipient": f"r{i}", "名": i}, salt=salt(i), time=TIME)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "registry.db"


@pytest.fixture
def store(place):  # noqa: F811
    with place.open() as store:
        yield store


def tamper(place, statement):  # noqa: F811
    """Edit the registry as someone with full access would: without our triggers."""
    if place.kind == "postgres":
        for ours, theirs in IN_POSTGRES:
            statement = statement.replace(ours, theirs)
    place.outsider(statement, off=True)


IN_POSTGRES = (
    ("zeroblob(32)", "decode(repeat('00', 32), 'hex')"),
    ("zeroblob(31)", "decode(repeat('00', 31), 'hex')"),
    ("CAST(replace(CAST(payload AS TEXT),", "convert_to(replace(convert_from(payload, 'UTF8'),"),
    (") AS BLOB)", "), 'UTF8')"),
    ("x'ff'", r"'\xff'::bytea"),
    ("x'5b5d'", r"'\x5b5d'::bytea"),
    ("x'7b7d'", r"'\x7b7d'::bytea"),
    ("number + 2 * (number = 0)", "2 WHERE number = 0"),
)
"""What SQLite writes, and PostgreSQL."""


def failed(steps):
    return [step.n for step in steps if not step.ok]


def test_an_entry_comes_back_and_its_leaf_is_the_documented_one(store):
    fill(store)
    entry = ledger.entries(store)[3]
    assert (entry.seq, entry.type, entry.scope, entry.time) == (3, "export", SCOPE, TIME)
    assert entry.payload == {"recipient": "r3", "名": 3, "time": TIME}
    text = '{"recipient":"r3","time":"2026-01-31T09:00:00Z","名":3}'.encode()
    body = hashlib.sha256(salt(3) + text).hexdigest()
    leaf = f'{{"body":"{body}","scope":"{SCOPE}","seq":3,"type":"export","v":1}}'.encode()
    assert entry.leaf_hash == hashlib.sha256(b"\0" + leaf).digest()
    assert salt(3).hex() not in repr(entry)
    assert [e.seq for e in ledger.entries(store, 2, 5)] == [2, 3, 4]


def test_append_returns_what_is_stored(store):
    entry = ledger.append(store, "export", SCOPE, {"a": 1}, salt=salt(0), time=TIME)
    assert ledger.entries(store) == [entry]


def test_an_outsider_recomputes_the_root_and_counts_from_headers_alone(store):
    fill(store, 20)
    for upto in (1, 7, 20):
        published = canonical.parse_json(canonical.canonical_json(ledger.headers(store, upto)))
        assert merkle.root(canonical.check_headers(published)) == ledger.root(store, upto)
        counted = sum(h["type"] == "mark-key" and h["scope"] == SCOPE for h in published)
        assert counted == ledger.count(store, "mark-key", SCOPE, upto)
        assert "recipient" not in json.dumps(published)
    assert ledger.count(store, "mark-key", SCOPE) == 6
    assert ledger.count(store, "mark-key", OTHER_SCOPE) == 1
    assert ledger.count(store, "mark-key") == 7
    assert ledger.count(store, "vault-init", "") == 3
    assert ledger.root(store) == ledger.root(store, 20)


def test_opened_entries_prove_themselves_against_a_checkpoint(store):
    fill(store, 20)
    point = ledger.checkpoint(store, KEY, "vault", TIME)
    fill(store, 5)
    chosen = [ledger.entries(store)[i] for i in (2, 3, 17)]
    openings = canonical.parse_json(canonical.canonical_json([ledger.opening(e) for e in chosen]))
    hashes = {opening["seq"]: canonical.check_opening(opening) for opening in openings}
    proof = ledger.inclusion(store, hashes, point.size)
    assert merkle.verify_multiproof(point.size, hashes, proof, bytes.fromhex(point.root))
    openings[0]["payload"]["recipient"] = "somebody else"
    with pytest.raises(EvidenceError):
        canonical.check_opening(openings[0])


def test_growth_is_provable(store):
    fill(store, 6)
    old = ledger.checkpoint(store, KEY, "vault", TIME)
    fill(store, 7)
    new = ledger.checkpoint(store, KEY, "vault", TIME)
    proof = ledger.consistency(store, old.size, new.size)
    heads = bytes.fromhex(old.root), bytes.fromhex(new.root)
    assert merkle.verify_consistency(old.size, new.size, *heads, proof)
    assert not merkle.verify_consistency(old.size, new.size, bytes(32), heads[1], proof)


@pytest.mark.parametrize(
    "changes",
    [
        {"type": "gossip"},
        {"type": ""},
        {"scope": "acme"},
        {"scope": SCOPE.upper()},
        {"payload": {"x": float("nan")}},
        {"payload": {"x": b"bytes"}},
        {"payload": {"time": TIME}},
        {"salt": bytes(16)},
        {"time": "2026-01-31 09:00"},
        {"time": "2026-01-31T09:00:00+09:00"},
        {"time": ""},
    ],
    ids=str,
)
def test_malformed_entries_are_not_appended(store, changes):
    fields = {"type": "export", "scope": SCOPE, "payload": {"a": 1}, "salt": salt(0), "time": TIME, **changes}
    with pytest.raises(UsageError):
        ledger.append(store, **fields)
    assert store.ledger_size() == 0


def test_an_entry_and_its_record_stand_or_fall_together(store):
    def fail_after_append():
        with store.transaction():
            ledger.append(store, "export", SCOPE, {}, salt=salt(0), time=TIME)
            store.get_export("missing")

    with pytest.raises(UsageError, match="no such export"):
        fail_after_append()
    assert store.ledger_size() == 0


# --- checkpoints -----------------------------------------------------------------------------


def test_a_checkpoint_is_signed_stored_and_read_back(store):
    fill(store)
    point = ledger.checkpoint(store, KEY, "vault of example", TIME)
    assert ledger.read_checkpoint(point.envelope, PUBLIC) == point
    assert (point.size, point.root) == (9, ledger.root(store).hex())
    assert dsse.from_json(point.envelope).payload == (
        f'{{"origin":"vault of example","root":"{point.root}","size":9,"time":"{TIME}"}}'.encode()
    )
    assert store.list_checkpoints() == [CheckpointRow(9, TIME, point.envelope)]
    with pytest.raises(EvidenceError):
        ledger.read_checkpoint(point.envelope, SigningKey(bytes(32)).public_bytes)


@pytest.mark.parametrize(
    "document",
    [
        {},
        [],
        {"origin": "o", "size": 0, "root": "ab" * 32, "time": TIME},
        {"origin": "o", "size": True, "root": "ab" * 32, "time": TIME},
        {"origin": "o", "size": 1, "root": "ab" * 31, "time": TIME},
        {"origin": "o", "size": 1, "root": 5, "time": TIME},
        {"origin": "o", "size": 1, "root": "ab" * 32, "time": TIME, "more": 1},
    ],
    ids=str,
)
def test_a_signature_does_not_excuse_a_malformed_checkpoint(document):
    envelope = dsse.sign(canonical.canonical_json(document), ledger.CHECKPOINT_TYPE, KEY)
    with pytest.raises(EvidenceError, match="malformed"):
        ledger.read_checkpoint(dsse.to_json(envelope), PUBLIC)


def test_another_kind_of_signed_document_is_no_checkpoint():
    document = canonical.canonical_json({"origin": "o", "size": 1, "root": "ab" * 32, "time": TIME})
    with pytest.raises(EvidenceError, match="of type"):
        ledger.read_checkpoint(dsse.to_json(dsse.sign(document, "application/other", KEY)), PUBLIC)


def test_an_empty_ledger_is_not_signed(store):
    with pytest.raises(UsageError, match="empty"):
        ledger.checkpoint(store, KEY, "vault", TIME)


def test_a_fork_is_never_signed(place):  # noqa: F811
    with place.open() as store:
        fill(store)
        ledger.checkpoint(store, KEY, "vault", TIME)
    tamper(place, "UPDATE ledger SET leaf_hash = zeroblob(32) WHERE seq = 2")
    with place.open() as store, pytest.raises(LedgerError, match="last checkpoint"):
        ledger.checkpoint(store, KEY, "vault", TIME)
    with place.open() as store:
        assert len(store.list_checkpoints()) == 1


# --- verification ----------------------------------------------------------------------------


def signed_twice(place):  # noqa: F811
    """Nine entries, a checkpoint, nine more, a second checkpoint, two more. Returns the envelopes."""
    with place.open() as store:
        fill(store)
        first = ledger.checkpoint(store, KEY, "vault", TIME)
        fill(store)
        second = ledger.checkpoint(store, KEY, "vault", TIME)
        fill(store, 2)
        assert failed(verify(store, PUBLIC, witnessed=[second.envelope, first.envelope])) == []
    return first.envelope, second.envelope


def test_a_sound_ledger(store):
    assert failed(verify(store, PUBLIC)) == []
    fill(store)
    assert [step.detail for step in verify(store, PUBLIC)][-1] == "no checkpoint yet"
    ledger.checkpoint(store, KEY, "vault", TIME)
    fill(store, 2)
    steps = verify(store, PUBLIC)
    assert [step.n for step in steps] == [1, 2, 3, 4, 5]
    assert failed(steps) == []
    assert steps[-1].to_dict() == {
        "n": 5,
        "name": "checkpoint roots",
        "ok": True,
        "detail": "2 entries after the last one",
    }


EDIT = "UPDATE ledger SET payload = CAST(replace(CAST(payload AS TEXT), {}) AS BLOB) WHERE seq = "


@pytest.mark.parametrize(
    ("statement", "steps"),
    [
        ("DELETE FROM ledger WHERE seq = 4", [1, 5]),
        ("DELETE FROM ledger WHERE seq >= 15", [5]),
        ("UPDATE ledger SET seq = 99 WHERE seq = 19", [1, 3]),
        ("UPDATE ledger SET salt = zeroblob(32) WHERE seq = 4", [3, 5]),
        ("UPDATE ledger SET salt = zeroblob(31) WHERE seq = 19", [2]),
        ("UPDATE ledger SET type = 'registration' WHERE seq = 4", [3, 5]),
        ("UPDATE ledger SET type = 'Not A Type' WHERE seq = 19", [2]),
        ("UPDATE ledger SET scope = '' WHERE seq = 4", [3, 5]),
        ("UPDATE ledger SET scope = 'x' WHERE seq = 19", [2]),
        ("UPDATE ledger SET leaf_hash = zeroblob(32) WHERE seq = 19", [3]),
        (EDIT.format("'r4', 'r5'") + "4", [3, 5]),
        (EDIT.format("',', ', '") + "19", [2]),
        (EDIT.format("'time', 'tim'") + "19", [2]),
        ("UPDATE ledger SET payload = x'ff' WHERE seq = 19", [2]),
        ("UPDATE ledger SET payload = x'5b5d' WHERE seq = 19", [2]),
        ("UPDATE checkpoints SET size = 10 WHERE number = 0", [4]),
        ("UPDATE checkpoints SET time = '2025-01-31T09:00:00Z' WHERE number = 0", [4]),
        ("UPDATE checkpoints SET envelope = x'7b7d' WHERE number = 0", [4]),
        # Forgotten, not forged: a lost early checkpoint is missed only by who kept it.
        ("DELETE FROM checkpoints WHERE number = 0", []),
        ("UPDATE checkpoints SET number = number + 2 * (number = 0)", [5]),
    ],
)
def test_each_kind_of_tampering_fails_its_step(place, statement, steps):  # noqa: F811
    signed_twice(place)
    tamper(place, statement)
    with place.open() as store:
        assert failed(verify(store, PUBLIC)) == steps


def test_another_key_is_not_the_ledgers_key(place):  # noqa: F811
    signed_twice(place)
    with place.open() as store:
        assert failed(verify(store, SigningKey(bytes(32)).public_bytes)) == [4]


def test_only_a_witnessed_checkpoint_reveals_a_ledger_rewritten_with_its_own_key(place, tmp_path):  # noqa: F811
    first, _ = signed_twice(place)
    rewritten = tmp_path / "rewritten.db"
    with SqliteStore(rewritten, create=True) as store:
        for i in range(12):
            ledger.append(store, "export", SCOPE, {"recipient": "invented"}, salt=salt(i), time=TIME)
        ledger.checkpoint(store, KEY, "vault", TIME)
        assert failed(verify(store, PUBLIC)) == []
        assert failed(verify(store, PUBLIC, witnessed=[first])) == [6]
        assert failed(verify(store, PUBLIC, witnessed=[b"garbage"])) == [6]
    with place.open() as store:
        assert failed(verify(store, PUBLIC, witnessed=[first])) == []


def test_a_thousand_entries_verify_quickly(store):
    with store.transaction():
        fill(store, 1000)
        for _ in range(20):
            ledger.checkpoint(store, KEY, "vault", TIME)
    assert failed(verify(store, PUBLIC)) == []
    assert ledger.root(store) == merkle.root([e.leaf_hash for e in ledger.entries(store)])


# --- crash -----------------------------------------------------------------------------------

CHILD = """
import hashlib, pathlib, sys
from dataguard.registry import ledger
from dataguard.registry.verification import verify
from dataguard.registry.sqlite import SqliteStore
from dataguard.registry.store import Recipient

store = SqliteStore(pathlib.Path(sys.argv[1]), create=True)
while True:
    with store.transaction():
        n = store.ledger_size()
        store.add_recipient(Recipient(f"r{n}", "t"))
        salt = hashlib.sha256(b"%d" % n).digest()
        entry = ledger.append(store, "export", "", {"n": n}, salt=salt, time="2026-01-31T09:00:00Z")
    sys.stdout.write(f"{entry.seq} {entry.leaf_hash.hex()}\\n")
    sys.stdout.flush()
"""


def test_kill_9_loses_no_acknowledged_commit_and_tears_none(path):
    acknowledged = {}
    for life in range(10):
        child = subprocess.Popen([sys.executable, "-c", CHILD, str(path)], stdout=subprocess.PIPE, text=True)
        with child.stdout:
            # Killed at a different moment each time: the first while it makes the file, the others
            # some commits and some milliseconds into the loop.
            lines = [child.stdout.readline() for _ in range(3 * life)]
            time.sleep(0.003 * life if life else 0.1)
            child.kill()
            lines += child.stdout.readlines()
        assert child.wait(30) == -signal.SIGKILL
        for line in lines:
            if line.endswith("\n"):  # the last one may be torn
                seq, leaf = line.split()
                acknowledged[int(seq)] = leaf
    assert len(acknowledged) >= 3 * sum(range(10)), "every child but the first committed something"
    with SqliteStore(path) as store:
        assert failed(verify(store, PUBLIC)) == []
        entries = ledger.entries(store)
        assert {seq: entries[seq].leaf_hash.hex() for seq in acknowledged} == acknowledged
        assert [r.id for r in store.list_recipients()] == [f"r{e.seq}" for e in entries], (
            "no torn transaction"
        )
        assert len(entries) - len(acknowledged) <= 10, "at most one commit per life was not yet acknowledged"
