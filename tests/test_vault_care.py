"""The vault's own commands as a user meets them, and vaults that are damaged, too new or open to others."""

from __future__ import annotations

import json
import os
import shutil
import stat
import sys

import pyarrow.parquet as pq
import pytest

import dataguard
from dataguard.cli.main import main
from dataguard.errors import DataguardError, KeyringError, UsageError
from dataguard.housing import PASSPHRASE
from postgres_server import PASSWORD, postgres_server, postgres_url  # noqa: F401 - fixtures


@pytest.fixture
def run(capsys, monkeypatch, tmp_path):
    """Run a command in a folder of its own; returns (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)
    for name in [
        n for n in os.environ if n.startswith(("DATAGUARD_PASS", "DATAGUARD_NEW", "DATAGUARD_BACK", "PG"))
    ]:
        monkeypatch.delenv(name)

    def call(*args, **env):
        capsys.readouterr()
        with monkeypatch.context() as patch:
            for name, value in env.items():
                patch.setenv(name, value)
            patch.setattr(sys, "argv", ["dataguard", *map(str, args)])
            with pytest.raises(SystemExit) as stop:
                main()
        shown = capsys.readouterr()
        return stop.value.code or 0, shown.out, shown.err

    return call


def one_line(done):
    code, out, err = done
    assert code == 2, done
    assert out == ""
    assert "Traceback" not in err
    lines = err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("dataguard: error: ")
    return lines[0]


def contents(folder):
    """Everything in a folder, but for the files SQLite keeps beside an open database."""
    return {
        p.relative_to(folder).as_posix(): (p.read_bytes(), stat.S_IMODE(p.stat().st_mode))
        for p in sorted(folder.rglob("*"))
        if p.is_file() and not p.name.endswith(("-wal", "-shm"))
    }


def secret_file(path, text="from a file\n", mode=0o600):
    path.write_text(text)
    path.chmod(mode)
    return path


# --- passphrases -------------------------------------------------------------------------------


def test_a_locked_vault_from_the_command_line(run, tmp_path):
    file = secret_file(tmp_path / "secret")
    code, out, _ = run("init", "--passphrase", "--passphrase-file", file, "--json")
    assert code == 0
    assert json.loads(out)["locked"] is True
    assert sorted(p.name for p in (tmp_path / ".dataguard" / "keys").iterdir()) == ["locked.key"]
    assert run("ledger", "show", "--passphrase-file", file)[0] == 0
    assert run("ledger", "show", **{PASSPHRASE: "from a file"})[0] == 0
    assert "wrong passphrase" in one_line(run("ledger", "show", **{PASSPHRASE: "from a fil"}))
    assert "DATAGUARD_PASSPHRASE" in one_line(run("ledger", "show"))


def test_a_passphrase_is_changed_and_removed_from_the_command_line(run, tmp_path):
    assert run("init")[0] == 0
    assert run("vault", "passphrase", DATAGUARD_NEW_PASSPHRASE="one")[1] == "keys are locked\n"
    new = secret_file(tmp_path / "new", "two")
    assert run("vault", "passphrase", "--new-passphrase-file", new, **{PASSPHRASE: "one"})[0] == 0
    assert "wrong passphrase" in one_line(run("ledger", "show", **{PASSPHRASE: "one"}))
    assert run("vault", "passphrase", "--remove", **{PASSPHRASE: "two"})[1] == "keys are plain files\n"
    assert run("ledger", "show")[0] == 0


def test_a_hidden_prompt_asks_once_or_twice(run, tmp_path, monkeypatch):
    asked = []

    def answer(text, **options):
        asked.append((text, options["hide_input"], options["confirmation_prompt"]))
        return "typed"

    monkeypatch.setattr("click.prompt", answer)
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    assert run("init", "--passphrase")[0] == 0
    assert run("ledger", "show")[0] == 0
    assert asked == [("New passphrase of the vault", True, True), ("Passphrase of the vault", True, False)]


@pytest.mark.parametrize(
    ("text", "mode", "told"),
    [
        ("x", 0o644, "chmod 600"),
        ("", 0o600, "one line"),
        ("a\nb\n", 0o600, "one line"),
        (None, 0, "cannot read"),
    ],
)
def test_passphrase_files_that_will_not_do(run, tmp_path, text, mode, told):
    run("init", **{PASSPHRASE: "x"})
    file = tmp_path / "secret"
    if text is not None:
        secret_file(file, text, mode)
    assert told in one_line(run("init", "--vault", "w", "--passphrase", "--passphrase-file", file))
    assert not (tmp_path / "w").exists()


def test_the_environment_alone_locks_nothing(run, tmp_path):
    assert run("init", **{PASSPHRASE: "x"})[0] == 0
    assert (tmp_path / ".dataguard" / "keys" / "master.key").exists()


# --- backup, restore, check, rotate --------------------------------------------------------------


def test_backup_and_restore_from_the_command_line(run, tmp_path):
    run("init")
    assert "--encrypt" in one_line(run("vault", "backup", "-o", "b.dgvault"))
    assert not (tmp_path / "b.dgvault").exists()
    code, out, _ = run(
        "vault", "backup", "-o", "b.dgvault", "--encrypt", "--json", DATAGUARD_BACKUP_PASSPHRASE="x"
    )
    assert code == 0
    assert json.loads(out)["encrypted"] is True
    assert "already exists" in one_line(run("vault", "backup", "-o", "b.dgvault", "--plain-keys"))
    assert "passphrase" in one_line(run("vault", "restore", "b.dgvault", "--vault", "w"))
    code, out, _ = run(
        "vault", "restore", "b.dgvault", "--vault", "w", "--json", DATAGUARD_BACKUP_PASSPHRASE="x"
    )
    assert code == 0
    assert json.loads(out)["trusted"] is True
    assert "exists already" in one_line(run("vault", "restore", "b.dgvault", DATAGUARD_BACKUP_PASSPHRASE="x"))
    assert run("vault", "check", "--vault", "w")[0] == 0


def test_check_says_what_is_wrong_with_exit_code_3(run, tmp_path):
    run("init")
    code, out, _ = run("vault", "check")
    assert code == 0
    assert len(out.splitlines()) == 10
    (tmp_path / ".dataguard" / "keys" / "master.key").chmod(0o644)
    code, out, _ = run("vault", "check", "--json")
    assert code == 3
    assert "chmod 600" in out
    (tmp_path / ".dataguard" / "keys" / "master.key").chmod(0o600)
    (tmp_path / ".dataguard" / "registry.sqlite").write_bytes(b"")
    code, out, _ = run("vault", "check")
    assert code == 3
    assert "not a dataguard registry" in out
    assert "no vault" in one_line(run("vault", "check", "--vault", "elsewhere"))


def test_keys_are_rotated_from_the_command_line(run):
    first = json.loads(run("init", "--json")[1])["public_key"]
    code, out, _ = run("key", "rotate", "--json")
    made = json.loads(out)
    assert code == 0
    assert (made["rotated"], made["previous_public_key"]) == ("signing", first)
    assert made["public_key"] != first
    assert json.loads(run("key", "rotate", "--master", "--json")[1])["master"] == 1
    assert run("ledger", "verify")[0] == 0
    assert run("vault", "check")[0] == 0


def test_a_registry_on_a_server_from_the_command_line(run, tmp_path, postgres_url):  # noqa: F811
    code, out, err = run("init", "--registry", postgres_url)
    assert code == 0
    assert "PGPASSWORD" in err
    assert "se%3A" not in out + err
    assert "PGPASSWORD" in one_line(run("ledger", "show"))
    assert run("ledger", "show", PGPASSWORD=PASSWORD)[0] == 0
    assert run("vault", "check", PGPASSWORD=PASSWORD)[0] == 0
    assert "another vault" in one_line(run("init", "--vault", "w", "--registry", postgres_url))
    bad = run("init", "--vault", "x", "--registry", "postgresql://me:hush@h/d?x=1")
    assert "hush" not in one_line(bad)


# --- damaged and newer vaults --------------------------------------------------------------------


@pytest.fixture(scope="module")
def sound(tmp_path_factory, packaged):
    folder = tmp_path_factory.mktemp("sound") / "v"
    with dataguard.Vault.create(folder) as vault:
        vault.register(pq.read_table(packaged).slice(0, 2000), name="flights")
    return folder


@pytest.fixture(scope="module")
def packaged():
    return dataguard.__path__[0] + "/data/flights_2013_01.parquet"


def settings_edit(**changes):
    def edit(root):
        path = root / "vault.json"
        document = {**json.loads(path.read_text()), **changes}
        path.write_text(json.dumps({k: v for k, v in document.items() if v is not None}))

    return edit


def newer_registry(root):
    import sqlite3

    db = sqlite3.connect(root / "registry.sqlite")
    db.execute("PRAGMA user_version = 999")
    db.commit()
    db.close()


def pages_of_noise(root):
    path = root / "registry.sqlite"
    data = bytearray(path.read_bytes())
    data[4096:] = bytes((i * 7) % 251 for i in range(len(data) - 4096))
    path.write_bytes(data)


def write(name, data):
    return lambda root: (root / name).write_bytes(data)


def remove(name):
    return lambda root: (root / name).unlink()


DAMAGE = {
    "newer format": (settings_edit(format="dataguard-vault/2"), "newer dataguard"),
    "newer registry": (newer_registry, "newer dataguard"),
    "settings empty": (write("vault.json", b""), "not valid JSON"),
    "settings no object": (write("vault.json", b"[]"), "unknown format"),
    "settings not text": (write("vault.json", b"\xff\xfe"), "UTF-8"),
    "settings deep": (write("vault.json", b"[" * 9999), "nested"),
    "settings without key": (settings_edit(public_key=None), "damaged"),
    "settings odd key": (settings_edit(public_key="zz"), "damaged"),
    "settings number key": (settings_edit(public_key=5), "damaged"),
    "settings short key": (settings_edit(public_key="00"), "damaged"),
    "settings odd registry": (settings_edit(registry="mysql://x"), "PostgreSQL URL"),
    "settings number registry": (settings_edit(registry=5), "damaged"),
    "settings other key": (settings_edit(public_key="00" * 32), "belong together"),
    "registry empty": (write("registry.sqlite", b""), "not a dataguard registry"),
    "registry gone": (remove("registry.sqlite"), "no registry here"),
    "registry garbage": (write("registry.sqlite", b"garbage" * 999), "not a database"),
    "registry noise": (pages_of_noise, "malformed"),
    "master gone": (remove("keys/master.key"), "cannot read key"),
    "signing gone": (remove("keys/signing.key"), "cannot read key"),
    "master garbage": (write("keys/master.key", b"\xff\0garbage"), "key file is damaged"),
    "master empty": (write("keys/master.key", b""), "key file is damaged"),
    "master open": (lambda root: (root / "keys/master.key").chmod(0o644), "chmod 600"),
    "keys gone": (lambda root: shutil.rmtree(root / "keys"), "cannot read key"),
    "locked garbage": (lambda root: secret_file(root / "keys/locked.key", "x"), "locked key file is damaged"),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_damaged_and_newer_vaults_are_one_clear_line_and_left_alone(sound, run, tmp_path, packaged, case):
    change, told = DAMAGE[case]
    root = tmp_path / "v"
    shutil.copytree(sound, root)
    change(root)
    before = contents(root)
    for command in (
        ["ledger", "show"],
        ["register", packaged, "--name", "flights"],
        ["protect", "flights", "--recipient", "acme", "-o", "a.parquet"],
        ["trace", packaged, "--dataset", "flights"],
        ["key", "rotate"],
        ["vault", "backup", "-o", "b", "--encrypt"],
    ):
        assert told in one_line(run(*command, "--vault", root, DATAGUARD_BACKUP_PASSPHRASE="x")), command
    assert contents(root) == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["v"]


def test_python_raises_the_same(sound, tmp_path):
    for case, (change, _) in DAMAGE.items():
        root = tmp_path / case
        shutil.copytree(sound, root)
        change(root)
        with pytest.raises(DataguardError):
            dataguard.Vault.open(root)


def test_a_passphrase_in_python(tmp_path):
    dataguard.Vault.create(tmp_path / "v", passphrase="one").close()
    with dataguard.Vault.open(tmp_path / "v", passphrase=lambda: "one") as vault:
        assert "one" not in repr(vault._ask)
        vault.set_passphrase("two")
        vault.rotate_signing_key()
        vault.rotate_master()
    for wrong in ("one", "", "\n"):
        with pytest.raises((KeyringError, UsageError)):
            dataguard.Vault.open(tmp_path / "v", passphrase=wrong)
    with dataguard.Vault.open(tmp_path / "v", passphrase="two") as vault:
        vault.set_passphrase(None)
    dataguard.Vault.open(tmp_path / "v").close()
