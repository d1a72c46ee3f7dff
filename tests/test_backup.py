"""Backup and restore: everything comes back, nothing is left of a file that was changed, cut or made to harm."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import sqlite3
import stat
import struct

import pyarrow.parquet as pq
import pytest
import rfc8785

import dataguard
from dataguard import backup, sealing
from dataguard.errors import DataguardError, EvidenceError, KeyringError, UsageError
from dataguard.registry.address import Address
from postgres_server import PASSWORD, postgres_server, postgres_url  # noqa: F401 - fixtures

LINE = b"dataguard-backup/1 plain\n"


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A vault with two versions, an export and a run, and its plain and its encrypted backup."""
    folder = tmp_path_factory.mktemp("world")
    packaged = pq.read_table(dataguard.__path__[0] + "/data/flights_2013_01.parquet").slice(0, 2500)
    pq.write_table(packaged, folder / "outside.parquet")
    with dataguard.Vault.create(folder / "vault") as vault:
        vault.register(packaged, name="flights")
        vault.register(packaged.slice(50), name="flights")
        vault.register(folder / "outside.parquet", name="kept outside", keep=False)
        vault.protect("flights", recipient="acme", out=folder / "a.parquet")
        vault.trace(pq.read_table(folder / "a.parquet").slice(0, 90), dataset="flights")
        vault.ledger_checkpoint()
        vault.backup(folder / "plain.dgvault", plain_keys=True)
        vault.backup(folder / "sealed.dgvault", passphrase="of the backup")
    return folder


def restore(world, name, folder, **options):
    return dataguard.Vault.restore(world / name, folder, **options)


def failed(steps):
    return [step.n for step in steps if not step.ok]


@pytest.mark.parametrize("name", ["plain", "sealed"])
def test_everything_comes_back(world, tmp_path, name):
    steps = restore(world, f"{name}.dgvault", tmp_path / "v", backup_passphrase="of the backup")
    assert failed(steps) == []
    assert [s.n for s in steps] == list(range(1, 11))
    with dataguard.Vault.open(tmp_path / "v") as copy, dataguard.Vault.open(world / "vault") as original:
        assert copy.ledger_root() == original.ledger_root()
        assert copy.public_key == original.public_key
        for records in (
            "datasets",
            "recipients",
            "mark_keys",
            "exports",
            "fingerprints",
            "runs",
            "checkpoints",
        ):
            ask = f"list_{records}"
            assert getattr(copy._parts.store, ask)() == getattr(original._parts.store, ask)()
        traced = copy.trace(pq.read_table(world / "a.parquet").slice(200, 90), dataset="flights")
        assert traced.corresponding == ("acme",)
        assert failed(original.check()) == []

    def held(root):
        kept = [p for p in root.rglob("*") if p.is_file() and not p.name.startswith("registry.")]
        return {p.relative_to(root).as_posix(): p.read_bytes() for p in kept}

    assert held(tmp_path / "v") == held(world / "vault")
    assert list(tmp_path.iterdir()) == [tmp_path / "v"]


def test_modes_are_private(world, tmp_path):
    restore(world, "plain.dgvault", tmp_path / "v")
    assert stat.S_IMODE((world / "plain.dgvault").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "v").stat().st_mode) == 0o700
    for path in (tmp_path / "v").rglob("*"):
        if path.is_file():
            assert stat.S_IMODE(path.stat().st_mode) == 0o600, path


def test_the_same_vault_gives_the_same_bytes(world, tmp_path):
    with dataguard.Vault.open(world / "vault", now=lambda: "2026-01-31T09:00:00Z") as vault:
        for name in ("a", "b"):
            vault.backup(tmp_path / name, plain_keys=True)
        with pytest.raises(UsageError, match="already exists"):
            vault.backup(tmp_path / "a", plain_keys=True)
        vault.backup(tmp_path / "a", plain_keys=True, force=True)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert {p.name for p in (world / "vault").iterdir()} == {
        ".gitignore", "datasets", "keys", "registry.sqlite", "vault.json",
    }  # fmt: skip


def test_open_keys_need_a_word(world, tmp_path):
    with dataguard.Vault.open(world / "vault") as vault, pytest.raises(UsageError, match="--encrypt"):
        vault.backup(tmp_path / "x")
    assert list(tmp_path.iterdir()) == []


def test_locked_keys_stay_locked(tmp_path):
    with dataguard.Vault.create(tmp_path / "v", passphrase="one") as vault:
        vault.backup(tmp_path / "b")
    with pytest.raises(KeyringError, match="passphrase"):
        dataguard.Vault.restore(tmp_path / "b", tmp_path / "w")
    with pytest.raises(KeyringError, match="wrong passphrase"):
        dataguard.Vault.restore(tmp_path / "b", tmp_path / "w", passphrase="two")
    assert not (tmp_path / "w").exists()
    assert failed(dataguard.Vault.restore(tmp_path / "b", tmp_path / "w", passphrase="one")) == []


def test_never_into_something_that_exists(world, tmp_path):
    (tmp_path / "v").mkdir()
    (tmp_path / "v" / "mine").write_text("x")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    (tmp_path / "file").write_text("x")
    for name in ("v", "link", "file"):
        with pytest.raises(UsageError, match="exists already"):
            restore(world, "plain.dgvault", tmp_path / name)
    (tmp_path / "empty").mkdir()
    restore(world, "plain.dgvault", tmp_path / "empty")
    assert (tmp_path / "v" / "mine").read_text() == "x"


# --- damage ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """Backups of a vault without datasets: small enough to damage at many places."""
    folder = tmp_path_factory.mktemp("tiny")
    with dataguard.Vault.create(folder / "vault") as vault:
        vault.backup(folder / "plain", plain_keys=True)
        vault.backup(folder / "sealed", passphrase="x")
    return folder


def refused(file, folder, cheap=True):
    with pytest.raises(DataguardError) as caught:
        dataguard.Vault.restore(file, folder / "v", backup_passphrase="x")
    assert "\n" not in str(caught.value)
    assert [p.name for p in folder.iterdir() if p != file] == [], "nothing is left"
    return caught.value


@pytest.mark.parametrize("seed", range(40))
def test_a_flipped_byte_is_refused_with_nothing_left(tiny, tmp_path, seed):
    data = bytearray((tiny / "plain").read_bytes())
    draw = random.Random(seed)
    at = draw.randrange(3000) if seed % 2 else draw.randrange(len(data))
    data[at] ^= draw.randrange(1, 256)
    (tmp_path / "b").write_bytes(data)
    refused(tmp_path / "b", tmp_path)


@pytest.mark.parametrize("seed", range(8))
def test_a_flipped_byte_of_an_encrypted_backup(tiny, tmp_path, seed):
    data = bytearray((tiny / "sealed").read_bytes())
    at = [0, 25, 40, 70, 90, 200, len(data) // 2, len(data) - 1][seed]
    data[at] ^= 1
    (tmp_path / "b").write_bytes(data)
    refused(tmp_path / "b", tmp_path)


@pytest.mark.parametrize("name", ["plain", "sealed"])
def test_cut_or_longer_backups(tiny, tmp_path, name):
    data = (tiny / name).read_bytes()
    lengths = [0, 1, 20, len(data) - 1] if name == "sealed" else [*range(0, 100, 7), 700, len(data) - 1]
    for length in lengths:
        (tmp_path / "b").write_bytes(data[:length])
        refused(tmp_path / "b", tmp_path)
    (tmp_path / "b").write_bytes(data + b"\0")
    refused(tmp_path / "b", tmp_path)


def test_other_files_are_no_backups(tmp_path):
    with pytest.raises(UsageError, match="no such file"):
        dataguard.Vault.restore(tmp_path / "none", tmp_path / "v")
    for data in (b"PK\x03\x04", b"\xff" * 3000, b"dataguard-backup/2 plain\n", LINE, LINE + b"\xff" * 8):
        (tmp_path / "b").write_bytes(data)
        assert isinstance(refused(tmp_path / "b", tmp_path), EvidenceError)


# --- malice ----------------------------------------------------------------------------------


def archive(files, *, sizes=None, digest=None, extra=b"", fields=None):
    """An archive as an attacker would write it: well formed but for what is asked."""
    listed = [
        {
            "path": name,
            "size": (sizes or {}).get(name, len(data)),
            "sha256": digest or hashlib.sha256(data).hexdigest(),
            **(fields or {}),
        }
        for name, data in files
    ]
    manifest = rfc8785.dumps({"format": "dataguard-backup/1", "created": "", "files": listed})
    head = struct.pack("<Q", len(manifest)) + manifest + hashlib.sha256(LINE + manifest).digest()
    return LINE + head + b"".join(data for _, data in files) + extra


GOOD = [("vault.json", b"{}"), ("registry.sqlite", b"x")]


@pytest.mark.parametrize(
    "name",
    [
        "../escaped", "/etc/escaped", "datasets/../../escaped", "datasets/./x", "datasets//x", "datasets/..",
        "keys/../../escaped.key", "keys/sub/x.key", "elsewhere", "vault.json/x", "datasets\\x", "datasets/a\\..\\b",
        "datasets/C:x", "datasets/a\0b", "datasets/a\nb", "datasets/" + "x" * 300, "datasets/" + "x/" * 600 + "x",
        "VAULT.JSON", "registry.sqlite-wal", "datasets/", ".git/hooks/pre-commit", "",
    ],
    ids=repr,
)  # fmt: skip
def test_names_no_vault_has(tmp_path, name):
    inner = tmp_path / "inner"
    inner.mkdir()
    (inner / "b").write_bytes(archive([*GOOD, (name, b"bad")]))
    assert "backup is damaged" in str(refused(inner / "b", inner))
    assert [p.name for p in tmp_path.iterdir()] == ["inner"]


@pytest.mark.parametrize(
    "data",
    [
        archive([*GOOD, ("datasets/a", b"1"), ("datasets/a", b"2")]),
        archive([*GOOD, ("datasets/a", b"1"), ("datasets/A", b"2")]),
        archive([*GOOD, ("datasets/a", b"1"), ("datasets/a/b", b"2")]),
        archive(GOOD[:1]),
        archive([]),
        archive(GOOD, sizes={"vault.json": 2**52}),
        archive(GOOD, sizes={"vault.json": -1}),
        archive(GOOD, sizes={"vault.json": 1.5}),
        archive(GOOD, sizes={"vault.json": True}),
        archive(GOOD, digest="00" * 32),
        archive(GOOD, digest="zz" * 32),
        archive(GOOD, digest=5),
        archive(GOOD, extra=b"more"),
        archive(GOOD, fields={"link": "/etc/passwd"}),
        LINE + struct.pack("<Q", 2**63) + b"x" * 100,
        LINE + struct.pack("<Q", 4) + b"null" + hashlib.sha256(LINE + b"null").digest(),
        LINE + struct.pack("<Q", 200000) + b"[" * 200000 + hashlib.sha256(LINE + b"[" * 200000).digest(),
        archive(GOOD),
    ],
    ids=range(18),
)
def test_archives_made_to_harm(tmp_path, data):
    (tmp_path / "b").write_bytes(data)
    refused(tmp_path / "b", tmp_path)


def test_a_sound_archive_of_an_unsound_vault(world, tmp_path):
    """Every digest is right, but a payload of the ledger, a plan or a record was changed before."""

    def ledger_edit(root):
        db = sqlite3.connect(root / "registry.sqlite", isolation_level=None)
        db.execute("DROP TRIGGER ledger_no_update")
        db.execute("UPDATE ledger SET payload = CAST(replace(CAST(payload AS TEXT), 'acme', 'acne') AS BLOB)")
        db.close()

    def record_edit(root):
        db = sqlite3.connect(root / "registry.sqlite", isolation_level=None)
        db.execute("UPDATE exports SET sha256 = ?", ["00" * 32])
        db.close()

    def copy_edit(root):
        path = next(root.glob("datasets/*/v1-*/original.parquet"))
        path.write_bytes(path.read_bytes() + b"x")

    def plan_swap(root):
        first, second = (next(root.glob(f"datasets/*/v{v}-*/plan.parquet")) for v in (1, 2))
        first.write_bytes(second.read_bytes())

    for change, told in (
        (ledger_edit, "leaf hashes"),
        (record_edit, "records"),
        (copy_edit, "reference copies"),
        (plan_swap, "committed roots"),
    ):
        root = tmp_path / "vault"
        shutil.copytree(world / "vault", root)
        change(root)
        with dataguard.Vault.open(root) as vault:
            assert told in {s.name for s in vault.check() if not s.ok}
            vault.backup(tmp_path / "b", plain_keys=True, force=True)
        shutil.rmtree(root)
        assert told in str(refused(tmp_path / "b", tmp_path))


def test_links_in_a_vault_are_not_followed_into_a_backup(tmp_path, flights_january):
    with dataguard.Vault.create(tmp_path / "v") as vault:
        (tmp_path / "v" / "datasets").mkdir()
        (tmp_path / "v" / "datasets" / "x").symlink_to("/etc/passwd")
        with pytest.raises(UsageError, match="link"):
            vault.backup(tmp_path / "b", plain_keys=True)
    assert not (tmp_path / "b").exists()


# --- while others work, and elsewhere ----------------------------------------------------------


def test_a_backup_of_a_vault_in_use_is_of_one_moment(tmp_path):
    """Between any two steps of the backup another process rotates keys: what comes back still opens."""
    with dataguard.Vault.create(tmp_path / "v") as vault, dataguard.Vault.open(tmp_path / "v") as other:
        real, turns = vault._parts.store.snapshot, [0]

        def busy(path):
            real(path)
            turns[0] += 1
            if turns[0] <= 2:
                other.rotate_signing_key()

        vault._parts.store.snapshot = busy
        vault.backup(tmp_path / "b", plain_keys=True)
        assert turns == [3]
    assert failed(dataguard.Vault.restore(tmp_path / "b", tmp_path / "w")) == []


def test_an_original_kept_outside_may_be_elsewhere(world, tmp_path):
    root = tmp_path / "w"
    shutil.copytree(world / "vault", root)
    moved = world / "outside.parquet"
    moved.rename(tmp_path / "aside")
    try:
        steps = restore(world, "plain.dgvault", tmp_path / "v")
        assert failed(steps) == []
        assert "1 kept outside and not here" in steps[8].detail
        with dataguard.Vault.open(root) as vault:
            assert failed(vault.check()) == [9]
    finally:
        (tmp_path / "aside").rename(moved)


def test_to_a_server_and_back(world, tmp_path, postgres_url, monkeypatch):  # noqa: F811
    url = postgres_url
    assert failed(restore(world, "plain.dgvault", tmp_path / "v", registry=url)) == []
    assert not (tmp_path / "v" / "registry.sqlite").exists()
    with pytest.raises(UsageError, match="PGPASSWORD"):
        dataguard.Vault.open(tmp_path / "v")
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    with dataguard.Vault.open(tmp_path / "v") as vault:
        assert vault.registry == str(Address.parse(url))
        assert failed(vault.check()) == []
        vault.protect("flights", recipient="birch", out=tmp_path / "b.parquet")
        vault.backup(tmp_path / "b", plain_keys=True)
        root = vault.ledger_root()
    with pytest.raises(UsageError, match="registry already"):
        restore(world, "plain.dgvault", tmp_path / "w", registry=url)
    assert not (tmp_path / "w").exists()
    assert failed(dataguard.Vault.restore(tmp_path / "b", tmp_path / "w")) == []
    with dataguard.Vault.open(tmp_path / "w") as back:
        assert back.ledger_root() == root
        assert back.registry == str(tmp_path / "w" / "registry.sqlite")
        assert "registry" not in json.loads((tmp_path / "w" / "vault.json").read_text())


def test_encrypted_backups_need_a_fresh_salt_and_prefix(tmp_path):
    with dataguard.Vault.create(tmp_path / "v") as vault:
        for name in "ab":
            vault.backup(tmp_path / name, passphrase="x")
    heads = [(tmp_path / name).read_bytes().partition(b"\n")[0].split() for name in "ab"]
    assert heads[0][:6] == [b"dataguard-backup/1", b"locked", b"argon2id", b"65536", b"3", b"1"]
    assert heads[0][6] != heads[1][6]
    assert heads[0][7] != heads[1][7]
    assert (tmp_path / "a").stat().st_size == (tmp_path / "b").stat().st_size


def test_a_disk_that_fills_up_leaves_nothing(tmp_path, monkeypatch):
    with dataguard.Vault.create(tmp_path / "v") as vault:
        vault.backup(tmp_path / "b", plain_keys=True)
        monkeypatch.setattr(
            shutil, "disk_usage", lambda _: os.statvfs_result([0] * 10) and type("U", (), {"free": 9})
        )
        with pytest.raises(UsageError, match="no room"):
            dataguard.Vault.restore(tmp_path / "b", tmp_path / "w")
        assert not (tmp_path / "w").exists()


def test_the_format_is_the_documented_one(tiny):
    data = (tiny / "plain").read_bytes()
    assert data.startswith(LINE)
    at = len(LINE)
    (size,) = struct.unpack_from("<Q", data, at)
    manifest = data[at + 8 : at + 8 + size]
    at += 8 + size
    assert data[at : at + 32] == hashlib.sha256(LINE + manifest).digest()
    at += 32
    listed = json.loads(manifest)["files"]
    assert [f["path"] for f in listed] == [
        ".gitignore", "keys/master.key", "keys/signing.key", "registry.sqlite", "vault.json",
    ]  # fmt: skip
    for f in listed:
        assert hashlib.sha256(data[at : at + f["size"]]).hexdigest() == f["sha256"]
        at += f["size"]
    assert at == len(data)
    assert backup.is_sealed(tiny / "sealed")
    assert not backup.is_sealed(tiny / "plain")
    assert sealing.CHUNK_BYTES == 65536
