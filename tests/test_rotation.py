"""New keys take over: readers who know an old key can follow, nobody else can pretend, a crash loses nothing."""

from __future__ import annotations

import hashlib
import json
import runpy
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import rfc8785

import dataguard
from dataguard import canonical, dsse, keys, succession
from dataguard.errors import EvidenceError, KeyringError, LedgerError
from dataguard.keyfile import KeyFiles
from dataguard.keys import MasterRing, MasterSecret, SigningKey
from dataguard.registry import ledger
from dataguard.registry.verification import verify
from registry_stores import place, postgres_server, postgres_url  # noqa: F401 - fixtures

K = [SigningKey(bytes([i]) * 32) for i in range(4)]
STRANGER = SigningKey(b"\xaa" * 32)
TIME, ORIGIN = "2026-01-31T09:00:00Z", "vault"
SALT = bytes(32)
INDEPENDENT = runpy.run_path(
    str(Path(__file__).resolve().parents[1] / "examples" / "independent_verifier.py")
)["main"]


def failed(steps):
    return [step.n for step in steps if not step.ok]


def add(store, n=3):
    for _ in range(n):
        ledger.append(store, "export", "", {"n": store.ledger_size()}, salt=SALT, time=TIME)


def rotate(store, old, new):
    return ledger.rotate(store, old, new, ORIGIN, salt=SALT, time=TIME, tool="test")


@pytest.fixture
def store(place):  # noqa: F811
    with place.open() as opened:
        yield opened


@pytest.fixture
def rotated(store):
    """K0, three entries, K1, three entries, K2, three entries, and a checkpoint by each."""
    add(store)
    points = [ledger.checkpoint(store, K[0], ORIGIN, TIME)]
    for i in (1, 2):
        rotate(store, K[i - 1], K[i])
        add(store)
        points.append(ledger.checkpoint(store, K[i], ORIGIN, TIME))
    return store, points


# --- the ledger ------------------------------------------------------------------------------


def test_a_rotated_ledger_verifies_from_its_first_key(rotated):
    store, points = rotated
    assert failed(verify(store, K[0].public_bytes, witnessed=[p.envelope for p in points])) == []
    for other in (K[1], K[2], STRANGER):
        assert 4 in failed(verify(store, other.public_bytes))
    assert [e.type for e in ledger.entries(store)].count("key-rotated") == 2
    assert [link.new for link in ledger.rotations(store)] == [K[1].public_bytes, K[2].public_bytes]


def test_each_rotation_is_framed_by_a_checkpoint_of_either_key(rotated):
    store, _ = rotated
    sizes = [c.size for c in store.list_checkpoints()]
    assert sizes == [3, 3, 4, 7, 7, 8, 11]
    for row, key in zip(store.list_checkpoints(), (K[0], K[0], K[1], K[1], K[1], K[2], K[2]), strict=True):
        dsse.verify(dsse.from_json(row.envelope), key.public_bytes)


def test_whoever_knows_an_earlier_key_can_follow_and_nobody_goes_back(rotated):
    _, points = rotated
    for i, point in enumerate(points):
        for j, key in enumerate(K[:3]):
            if j <= i:
                assert ledger.read_checkpoint(point.envelope, key.public_bytes).size == point.size
            else:
                with pytest.raises(EvidenceError):
                    ledger.read_checkpoint(point.envelope, key.public_bytes)
        with pytest.raises(EvidenceError):
            ledger.read_checkpoint(point.envelope, STRANGER.public_bytes)


def test_a_checkpoint_before_any_rotation_is_as_it_always_was(store):
    add(store)
    point = ledger.checkpoint(store, K[0], ORIGIN, TIME)
    assert set(json.loads(dsse.from_json(point.envelope).payload)) == {"origin", "root", "size", "time"}


def test_a_replaced_key_signs_nothing_more(rotated):
    store, _ = rotated
    for old in (K[0], K[1], STRANGER):
        with pytest.raises(LedgerError, match="replaced"):
            ledger.checkpoint(store, old, ORIGIN, TIME)
        with pytest.raises(LedgerError, match="replaced"):
            rotate(store, old, K[3])
    assert store.ledger_size() == 11


def forged_link(old, new, *, signer=None, origin=ORIGIN, seq=3):
    fields = succession.acknowledge(signer or old, new.public_bytes, origin, seq)
    return {**fields, "old": old.public_bytes.hex()}


@pytest.mark.parametrize(
    "payload",
    [
        forged_link(K[0], STRANGER, signer=STRANGER),
        forged_link(K[0], K[1], seq=4),
        {**forged_link(K[0], K[1]), "origin": "another"},
        {**forged_link(K[0], K[1]), "new": STRANGER.public_bytes.hex()},
        {**forged_link(K[0], K[1]), "new": K[1].public_bytes.hex().upper()},
        {**forged_link(K[0], K[1]), "signature": "zz"},
        {"old": K[0].public_bytes.hex()},
        {},
        forged_link(STRANGER, K[1]),
        forged_link(K[0], K[0]),
    ],
    ids=range(10),
)
def test_a_hand_over_nobody_signed_is_noticed(store, payload):
    add(store)
    ledger.append(store, "key-rotated", "", payload, salt=SALT, time=TIME)
    assert 4 in failed(verify(store, K[0].public_bytes))


def test_a_chain_must_not_skip_return_or_leave_its_ledger(rotated):
    store, _ = rotated
    openings = [ledger.opening(e) for e in ledger.entries(store) if e.type == "key-rotated"]
    assert len(succession.read_links(openings, ORIGIN)) == 2
    for bad in (openings[::-1], [openings[0], openings[0]], ["x"], openings * 501):
        with pytest.raises(EvidenceError):
            succession.read_links(bad, ORIGIN)
    with pytest.raises(EvidenceError):
        succession.read_links(openings, "another")
    with pytest.raises(LedgerError, match="earlier key"):
        rotate(store, K[2], K[0])
    assert len(ledger.rotations(store)) == 2, "nothing was written"


def test_golden_hand_over():
    """The vector of docs/formats.md, signed by hand."""
    fields = succession.acknowledge(K[1], K[2].public_bytes, ORIGIN, 3)
    assert fields["signature"] == (
        "0a8c033dee24434e3cae78f0ea2e8286b6ec233d9bba210c8cce4b23b8df4b80"
        "4bf4878fb0f90590e778086a7e95b09e4d9eeed5fe063f228d0b94a899d3670d"
    )


@pytest.mark.parametrize("damage", ["cut", "empty", "foreign"])
def test_a_checkpoint_that_lists_other_rotations_than_the_ledger(rotated, damage):
    store, points = rotated
    document = json.loads(dsse.from_json(points[2].envelope).payload)
    if damage == "cut":
        document["rotations"] = document["rotations"][:1]
    elif damage == "empty":
        del document["rotations"]
    else:
        payload = {**document["rotations"][0]["payload"], "tool": "another"}
        document["rotations"][0]["payload"] = payload
        document["rotations"][0]["body"] = canonical.body_digest(SALT, payload)
    envelope = dsse.to_json(dsse.sign(canonical.canonical_json(document), ledger.CHECKPOINT_TYPE, K[2]))
    steps = verify(store, K[0].public_bytes, witnessed=[envelope])
    assert failed(steps) == [6]
    assert "rotations" in steps[5].detail


# --- the vault -------------------------------------------------------------------------------


@pytest.fixture
def small(flights_january):
    return pq.read_table(flights_january).slice(0, 3000)


@pytest.fixture
def vault(tmp_path, small):
    with dataguard.Vault.create(tmp_path / "vault") as made:
        made.register(small, name="flights")
        made.protect("flights", recipient="acme", out=tmp_path / "a.parquet")
        yield made


def leak(path, seed=1):
    table = pq.read_table(path)
    return table.take(np.random.default_rng(seed).permutation(table.num_rows)[:70])


def trusted(bundle, key=None):
    """Both verifiers' one answer."""
    mine = dataguard.verify(bundle, public_key=key).trusted
    assert INDEPENDENT(bundle, key.hex() if key else "") == (0 if mine else 3)
    return mine


def test_bundles_before_and_after(vault, tmp_path):
    first = vault.public_key
    vault.report(leak(tmp_path / "a.parquet"), dataset="flights", out=tmp_path / "before")
    origin = vault.ledger_checkpoint().origin
    second = vault.rotate_signing_key()
    vault.protect("flights", recipient="acme", out=tmp_path / "b.parquet")
    vault.report(leak(tmp_path / "b.parquet"), dataset="flights", out=tmp_path / "after")
    third = vault.rotate_signing_key()
    vault.protect("flights", recipient="acme", out=tmp_path / "c.parquet")
    vault.report(leak(tmp_path / "c.parquet"), dataset="flights", out=tmp_path / "last")
    assert vault.public_key == third
    assert vault.ledger_checkpoint().origin == origin
    stranger = STRANGER.public_bytes
    for name, good in (("before", {first}), ("after", {first, second}), ("last", {first, second, third})):
        assert trusted(tmp_path / name)
        for key in (first, second, third, stranger):
            assert trusted(tmp_path / name, key) == (key in good), (name, key.hex())
    told = dataguard.verify(tmp_path / "last", public_key=first)
    assert "signing key 3 of this ledger" in told.steps[2].detail
    assert failed(vault.ledger_verify()) == []
    assert failed(vault.check()) == []


def resigned(vault, bundle, change):
    """Change the checkpoint of a bundle and sign everything anew, as its provider could."""
    signing = vault._parts.signing
    view = json.loads((bundle / "ledger.json").read_bytes())
    document = json.loads(dsse.from_json(rfc8785.dumps(view["checkpoint"])).payload)
    change(document)
    envelope = dsse.sign(canonical.canonical_json(document), ledger.CHECKPOINT_TYPE, signing)
    view["checkpoint"] = json.loads(dsse.to_json(envelope))
    (bundle / "ledger.json").write_bytes(rfc8785.dumps(view))
    report = json.loads((bundle / "report.json").read_bytes())
    report["files"]["ledger.json"] = hashlib.sha256((bundle / "ledger.json").read_bytes()).hexdigest()
    (bundle / "report.json").write_bytes(rfc8785.dumps(report))
    kind = "application/vnd.dataguard.bundle.v1+json"
    (bundle / "statement.dsse.json").write_bytes(
        dsse.to_json(dsse.sign(rfc8785.dumps(report), kind, signing))
    )


def test_a_bundle_must_tell_of_every_rotation_and_of_no_other(vault, tmp_path):
    first, second = vault.public_key, vault.rotate_signing_key()
    vault.report(leak(tmp_path / "a.parquet"), dataset="flights", out=tmp_path / "good")

    def foreign(document):
        document["rotations"][0]["payload"]["tool"] = "x"

    def unscoped(document):
        document["rotations"][0]["scope"] = "00" * 8

    changes = {
        "unchanged": lambda _: None,
        "dropped": lambda d: d.pop("rotations"),
        "emptied": lambda d: d.update(rotations=[]),
        "doubled": lambda d: d.update(rotations=d["rotations"] * 2),
        "null": lambda d: d.update(rotations=[None]),
        "text": lambda d: d.update(rotations="x"),
        "origin": lambda d: d.update(origin="another"),
        "foreign": foreign,
        "unscoped": unscoped,
    }
    for name, change in changes.items():
        bundle = Path(shutil.copytree(tmp_path / "good", tmp_path / name))
        resigned(vault, bundle, change)
        for key in (None, first, second):
            assert trusted(bundle, key) == (name == "unchanged"), name


def test_the_settings_keep_the_first_key_and_the_new_one_signs(vault, tmp_path):
    first = vault.public_key
    second = vault.rotate_signing_key()
    with dataguard.Vault.open(tmp_path / "vault") as again:
        assert again.public_key == second
        assert again._parts.identity == first
    assert json.loads((tmp_path / "vault" / "vault.json").read_text())["public_key"] == first.hex()
    assert sorted(p.name for p in (tmp_path / "vault" / "keys").iterdir()) == ["master.key", "signing.key"]


def test_who_has_the_vault_open_meanwhile_is_told(vault, tmp_path):
    with dataguard.Vault.open(tmp_path / "vault") as other:
        other.rotate_signing_key()
    with pytest.raises(LedgerError, match="open the vault again"):
        vault.ledger_checkpoint()
    # It rotates from the key the ledger names, not from the one it remembers.
    newest = vault.rotate_signing_key()
    with dataguard.Vault.open(tmp_path / "vault") as again:
        assert again.public_key == newest
        assert failed(again.check()) == []


@pytest.mark.parametrize("passphrase", [None, "secret"])
@pytest.mark.parametrize("moment", range(6))
def test_a_rotation_cut_short_leaves_a_vault_that_opens(tmp_path, monkeypatch, moment, passphrase):
    """Cut before and after each of: keeping the successor, the ledger entry, keeping the new key."""
    with dataguard.Vault.create(tmp_path / "v", passphrase=passphrase) as vault:
        before, count = vault.public_key, [0]

        def cut(real):
            def call(*args, **kwargs):
                if count[0] == moment:
                    raise KeyboardInterrupt
                done = real(*args, **kwargs)
                count[0] += 2
                if count[0] == moment + 1:
                    raise KeyboardInterrupt
                return done

            return call

        monkeypatch.setattr(KeyFiles, "save", cut(KeyFiles.save))
        monkeypatch.setattr(ledger, "rotate", cut(ledger.rotate))
        with pytest.raises(KeyboardInterrupt):
            vault.rotate_signing_key()
        monkeypatch.undo()
    with dataguard.Vault.open(tmp_path / "v", passphrase=passphrase) as vault:
        # The entry and what surrounds it are one transaction: it is there once all of it has run.
        assert (vault.public_key != before) == (moment >= 4)
        assert failed(vault.check()) == []
        vault.ledger_checkpoint()
        vault.rotate_signing_key()
    with dataguard.Vault.open(tmp_path / "v", passphrase=passphrase) as vault:
        assert failed(vault.check()) == []
        assert vault._files.load(vault._ask).successor is None


# --- the master secret -----------------------------------------------------------------------


def test_a_ring_finds_each_lineages_own_master():
    masters = [MasterSecret(bytes([i]) * 32) for i in range(3)]
    known = {
        name: keys.scope_pseudonym(keys.dataset_secret(m, name))
        for name, m in zip("abc", masters, strict=True)
    }
    ring = MasterRing(masters, known.get)
    for name, master in zip("abc", masters, strict=True):
        assert keys.dataset_secret(ring, name) == keys.dataset_secret(master, name)
        assert keys.mark_key(ring, name, "acme", 1) == keys.mark_key(master, name, "acme", 1)
    assert keys.dataset_secret(ring, "new") == keys.dataset_secret(masters[-1], "new")
    known["d"] = "00" * 8
    with pytest.raises(KeyringError, match="master"):
        keys.dataset_secret(ring, "d")
    assert "0101" not in repr(ring)


def test_old_lineages_keep_their_marks_and_new_ones_get_the_new_master(vault, tmp_path, small):
    parts = vault._parts
    lineage = parts.store.latest_dataset("flights").lineage
    mark = keys.mark_key(parts.master, lineage, "acme", 1)
    assert vault.rotate_master() == 1
    vault.register(small.slice(0, 2000), name="other")
    vault.protect("other", recipient="acme", out=tmp_path / "o.parquet")
    vault.register(small.slice(100), name="flights")
    vault.protect("flights", recipient="birch", out=tmp_path / "b.parquet")
    with dataguard.Vault.open(tmp_path / "vault") as again:
        masters = again._files.load().masters
        assert keys.mark_key(again._parts.master, lineage, "acme", 1) == mark
        other = again._parts.store.latest_dataset("other").lineage
        assert keys.dataset_secret(again._parts.master, other) == keys.dataset_secret(masters[1], other)
        assert keys.dataset_secret(again._parts.master, lineage) == keys.dataset_secret(masters[0], lineage)
        for name, file, who in (("flights", "a", "acme"), ("flights", "b", "birch"), ("other", "o", "acme")):
            assert again.trace(leak(tmp_path / f"{file}.parquet"), dataset=name).corresponding == (who,)
        assert failed(again.check()) == []
        again.report(leak(tmp_path / "o.parquet", 3), dataset="other", out=tmp_path / "bundle")
    assert trusted(tmp_path / "bundle")


def test_a_lost_master_is_said_before_it_is_missed(vault, tmp_path, small):
    vault.rotate_master()
    vault.register(small.slice(0, 2000), name="other")
    (tmp_path / "vault" / "keys" / "master-1.key").unlink()
    with dataguard.Vault.open(tmp_path / "vault") as again:
        steps = again.check()
        assert 7 in failed(steps)
        assert "1 master secrets, the ledger tells of 2" in steps[6].detail
