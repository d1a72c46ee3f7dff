"""What every registry store must do, run over all implementations, and what is SQLite's own."""

from __future__ import annotations

import dataclasses
import os
import sqlite3
import stat
import subprocess
import sys

import pytest

from dataguard.errors import LedgerError, SchemeMismatch, UsageError
from dataguard.registry import ledger
from dataguard.registry import sql as sql_module
from dataguard.registry import sqlite as sqlite_module
from dataguard.registry.migration import packaged_migrations, statements
from dataguard.registry.sqlite import APPLICATION_ID, SqliteStore
from dataguard.registry.store import (
    CheckpointRow,
    Dataset,
    Export,
    Fingerprint,
    LedgerRow,
    MarkKey,
    Recipient,
    Run,
    Store,
)
from dataguard.registry.verification import verify
from registry_stores import VAULT, place, postgres_server, postgres_url  # noqa: F401 - fixtures

TIME = "2026-01-31T09:00:00Z"


def dataset(version=1, **changes):
    roots, meta = {"rows": "ab" * 32}, {"note": "総数", "grid": [0.5, None, True], "nested": {"z": 1, "a": 2}}
    fields = {
        "id": f"flights@{version}",
        "name": "flights",
        "lineage": "l-1",
        "version": version,
        "kind": "table",
        "rows": 336776,
        "columns": 19,
        "sha256": "cd" * 32,
        "path": "flights.parquet",
        "created": TIME,
        "roots": roots,
        "meta": meta,
    }
    return Dataset(**{**fields, **changes})


def mark_key(recipient="acme", generation=0, lineage="l-1"):
    return MarkKey(lineage, recipient, generation, "ef" * 32, bytes(range(32)), TIME)


def export(name="e1", **changes):
    fields = {
        "id": name,
        "dataset_id": "flights@1",
        "recipient": "acme",
        "generation": 0,
        "sequence": 4,
        "created": TIME,
        "sha256": "01" * 32,
        "out": "acme.parquet",
        "meta": {"channels": ["pair-swap"]},
    }
    return Export(**{**fields, **changes})


def run(k=1, **changes):
    fields = {"id": f"r{k}", "dataset_id": "flights@1", "created": TIME, "votes_digest": "02" * 32, "k": k}
    return Run(**{**fields, **changes})


class InterruptionError(Exception):
    """What a transaction must survive."""


def row(seq, payload=b"{}"):
    return LedgerRow(seq, "export", "", payload, bytes(32), bytes(32))


@pytest.fixture
def reopen(place):  # noqa: F811
    """A function that closes the store and opens it again: what it says then was really kept."""
    opened = []

    def again() -> Store:
        for store in opened:
            store.close()
        opened.append(place.open())
        return opened[-1]

    yield again
    for store in opened:
        store.close()


@pytest.fixture
def store(reopen):
    return reopen()


class TestEveryStore:
    """Conformance: every store of ``registry_stores`` passes."""

    def test_records_come_back_equal_after_reopening(self, reopen):
        store = reopen()
        store.add_dataset(dataset())
        store.add_recipient(Recipient("acme", TIME))
        store.add_mark_key(mark_key())
        store.add_export(export())
        store.add_fingerprint(Fingerprint("flights@1", "minhash/1", b"\x00\xff"))
        store.add_run(run())
        store.append_ledger(row(0))
        store.append_checkpoint(CheckpointRow(1, TIME, b"{}"))
        store = reopen()
        assert store.get_dataset("flights@1") == dataset()
        assert store.get_recipient("acme") == Recipient("acme", TIME)
        assert store.get_mark_key("l-1", "acme", 0) == mark_key()
        assert store.get_export("e1") == export()
        assert store.get_fingerprint("flights@1", "minhash/1").blob == b"\x00\xff"
        assert store.get_run("r1") == run()
        assert store.ledger_rows() == [row(0)]
        assert store.list_checkpoints() == [CheckpointRow(1, TIME, b"{}")]

    def test_lists_filter_and_keep_the_order_of_addition(self, store):
        for version in (2, 10, 1):
            store.add_dataset(dataset(version))
        store.add_dataset(dataset(id="x", name="other", lineage="l-2"))
        for name in ("zeta", "acme", "海"):
            store.add_recipient(Recipient(name, TIME))
            store.add_mark_key(mark_key(name))
        store.add_mark_key(mark_key("zeta", generation=1))
        store.add_mark_key(mark_key("zeta", lineage="l-2"))
        store.add_export(export("e1", recipient="zeta"))
        store.add_export(export("e2", dataset_id="x"))
        store.add_fingerprint(Fingerprint("x", "b/1", b""))
        store.add_fingerprint(Fingerprint("x", "a/1", b""))
        store.add_fingerprint(Fingerprint("flights@1", "a/1", b""))
        assert [d.version for d in store.list_datasets(name="flights")] == [2, 10, 1]
        assert [d.id for d in store.list_datasets(lineage="l-2")] == ["x"]
        assert len(store.list_datasets()) == 4
        assert store.list_datasets(name="flights", lineage="l-2") == []
        assert [r.id for r in store.list_recipients()] == ["zeta", "acme", "海"]
        assert len(store.list_mark_keys()) == 5
        assert [m.generation for m in store.list_mark_keys(lineage="l-1", recipient="zeta")] == [0, 1]
        assert [e.id for e in store.list_exports()] == ["e1", "e2"]
        assert [e.id for e in store.list_exports(dataset_id="x")] == ["e2"]
        assert [e.id for e in store.list_exports(recipient="zeta")] == ["e1"]
        assert [f.scheme for f in store.list_fingerprints(dataset_id="x")] == ["b/1", "a/1"]
        assert [f.dataset_id for f in store.list_fingerprints(scheme="a/1")] == ["x", "flights@1"]

    def test_the_latest_version_is_the_highest_not_the_last(self, store):
        for version in (2, 10, 1):
            store.add_dataset(dataset(version))
        assert store.latest_dataset("flights").version == 10

    def test_unknown_names_say_what_is_known(self, store):
        with pytest.raises(UsageError, match="register it first"):
            store.latest_dataset("flights")
        store.add_dataset(dataset())
        with pytest.raises(UsageError, match="registered are: flights"):
            store.latest_dataset("fligths")
        for ask in (
            lambda: store.get_dataset("x"),
            lambda: store.get_recipient("x"),
            lambda: store.get_mark_key("l-1", "acme", 0),
            lambda: store.get_export("x"),
            lambda: store.get_fingerprint("flights@1", "x"),
            lambda: store.get_run("x"),
        ):
            with pytest.raises(UsageError, match="no such"):
                ask()

    def test_repeated_and_orphaned_records_are_refused(self, store):
        store.add_dataset(dataset())
        store.add_recipient(Recipient("acme", TIME))
        store.add_mark_key(mark_key())
        store.add_run(run())
        for again in (
            lambda: store.add_dataset(dataset(2, id="flights@1")),
            lambda: store.add_dataset(dataset(id="another id, same name and version")),
            lambda: store.add_recipient(Recipient("acme", "later")),
            lambda: store.add_mark_key(dataclasses.replace(mark_key(), commitment="00" * 32)),
            lambda: store.add_run(run(id="another id, same k")),
        ):
            with pytest.raises(UsageError, match="already"):
                again()
        for orphan in (
            lambda: store.add_export(export(dataset_id="x")),
            lambda: store.add_export(export(recipient="x")),
            lambda: store.add_fingerprint(Fingerprint("x", "a/1", b"")),
            lambda: store.add_run(run(7, dataset_id="x")),
            lambda: store.add_mark_key(mark_key("x")),
        ):
            with pytest.raises(UsageError, match="unknown"):
                orphan()
        assert store.list_exports() == []

    def test_a_run_is_finished_once(self, store):
        store.add_dataset(dataset())
        store.add_run(run())
        store.finish_run("r1", "no-mark", {"votes": 12})
        assert store.get_run("r1") == run(outcome="no-mark", meta={"votes": 12})
        for wrong in (
            lambda: store.finish_run("r1", "corresponds", {}),
            lambda: store.finish_run("r2", "no-mark", {}),
            lambda: store.finish_run("r1", "", {}),
        ):
            with pytest.raises(UsageError):
                wrong()
        assert [r.outcome for r in store.list_runs(dataset_id="flights@1")] == ["no-mark"]

    def test_ledger_rows_are_appended_in_sequence_only(self, store):
        assert store.ledger_size() == 0
        for seq in range(5):
            store.append_ledger(row(seq))
        for seq in (3, 4, 6, -1):
            with pytest.raises(LedgerError):
                store.append_ledger(row(seq, b'{"forged":1}'))
        assert store.ledger_size() == 5
        assert [r.seq for r in store.ledger_rows(1, 3)] == [1, 2]
        assert [r.seq for r in store.ledger_rows(3)] == [3, 4]
        assert store.ledger_rows(9) == []
        assert all(r.payload == b"{}" for r in store.ledger_rows())

    def test_a_failed_transaction_leaves_nothing(self, reopen):
        store = reopen()

        def fail_late():
            with store.transaction():
                store.add_dataset(dataset())
                store.append_ledger(row(0))
                raise InterruptionError

        with pytest.raises(InterruptionError):
            fail_late()
        assert (store.list_datasets(), store.ledger_size()) == ([], 0)
        with store.transaction():
            store.add_dataset(dataset())
        assert reopen().list_datasets() == [dataset()]

    def test_a_failed_inner_transaction_leaves_the_outer_one(self, store):
        def fail_late():
            with store.transaction():
                store.add_recipient(Recipient("dropped", TIME))
                with store.transaction():
                    store.add_recipient(Recipient("dropped too", TIME))
                raise InterruptionError

        with store.transaction():
            store.add_recipient(Recipient("kept", TIME))
            with pytest.raises(InterruptionError):
                fail_late()
            with pytest.raises(UsageError):
                store.add_recipient(Recipient("kept", TIME))
            store.add_recipient(Recipient("kept too", TIME))
        assert [r.id for r in store.list_recipients()] == ["kept", "kept too"]

    def test_rows_of_one_type(self, store):
        for seq, kind in enumerate(["a", "b", "a", "b", "a"]):
            store.append_ledger(dataclasses.replace(row(seq), type=kind))
        assert [r.seq for r in store.ledger_rows(type="a")] == [0, 2, 4]
        assert [r.seq for r in store.ledger_rows(1, 4, type="b")] == [1, 3]
        assert store.ledger_rows(type="c") == []

    def test_a_snapshot_is_a_registry_of_its_own(self, store, tmp_path):
        for version in (2, 1):
            store.add_dataset(dataset(version))
        for name in ("zeta", "acme"):
            store.add_recipient(Recipient(name, TIME))
        store.add_mark_key(mark_key())
        store.add_export(export())
        store.add_fingerprint(Fingerprint("flights@1", "minhash/1", b"\x00\xff"))
        store.add_run(run(1))
        store.finish_run("r1", "no-mark", {"votes": 12})
        store.append_ledger(row(0))
        store.append_checkpoint(CheckpointRow(1, TIME, b"{}"))
        store.snapshot(tmp_path / "copy")
        assert stat.S_IMODE((tmp_path / "copy").stat().st_mode) == 0o600
        store.append_ledger(row(1))
        with SqliteStore(tmp_path / "copy") as copy:
            for ask in (
                "datasets",
                "recipients",
                "mark_keys",
                "exports",
                "fingerprints",
                "runs",
                "checkpoints",
            ):
                assert getattr(copy, f"list_{ask}")() == getattr(store, f"list_{ask}")() != []
            assert copy.ledger_rows() == [row(0)]
            assert copy.damage() == store.damage() == []
        with pytest.raises((UsageError, LedgerError)):
            store.snapshot(tmp_path / "copy")

    def test_values_a_store_cannot_hold(self, store):
        for wrong in (
            dataset(name="\udcff"),
            dataset(rows=2**63),
            dataset(meta={"x": float("nan")}),
            dataset(meta={"x": 2**60}),
            dataset(roots={"x": b"bytes"}),
        ):
            with pytest.raises(UsageError):
                store.add_dataset(wrong)
        assert store.list_datasets() == []


# --- SQLite ----------------------------------------------------------------------------------


@pytest.fixture
def path(tmp_path):
    return tmp_path / "registry.db"


def outsider(path):
    """Another program's connection, with SQLite's careless defaults."""
    return sqlite3.connect(path, isolation_level=None)


def test_every_connection_is_durable_and_checked(path):
    for create in (True, False):
        with SqliteStore(path, create=create) as store:
            expected = {
                "journal_mode": "wal",
                "synchronous": 2,
                "foreign_keys": 1,
                "recursive_triggers": 1,
                "busy_timeout": 1000 * sql_module.BUSY_SECONDS,
                "application_id": APPLICATION_ID,
                "user_version": len(packaged_migrations()),
            }
            found = {name: store._db.execute(f"PRAGMA {name}").fetchone()[0] for name in expected}
            assert found == expected


@pytest.mark.skipif(os.name != "posix", reason="file modes are POSIX")
def test_the_file_is_private(path):
    old = os.umask(0)
    try:
        with SqliteStore(path, create=True) as store:
            store.append_ledger(row(0))
            for file in path.parent.iterdir():
                assert stat.S_IMODE(file.stat().st_mode) == 0o600
    finally:
        os.umask(old)


@pytest.mark.parametrize("table", ["ledger", "checkpoints"])
@pytest.mark.parametrize("verb", ["update", "delete", "replace", "insert or replace", "insert"])
def test_no_program_changes_the_ledger_by_accident(path, table, verb):
    with SqliteStore(path, create=True) as store:
        store.append_ledger(row(0))
        store.append_ledger(row(1))
        store.append_checkpoint(CheckpointRow(2, TIME, b"{}"))
        before = store.ledger_rows(), store.list_checkpoints()
    column = "payload" if table == "ledger" else "envelope"
    statement = {
        "update": f"UPDATE {table} SET {column} = x'00'",
        "delete": f"DELETE FROM {table}",
    }.get(verb, f"{verb} INTO {table} SELECT * FROM {table} LIMIT 1")
    db = outsider(path)
    with pytest.raises(sqlite3.IntegrityError, match=r"appended in sequence|never"):
        db.execute(statement)
    db.close()
    with SqliteStore(path) as store:
        assert (store.ledger_rows(), store.list_checkpoints()) == before


def test_a_missing_registry_is_not_made_by_accident(path):
    with pytest.raises(UsageError, match="dataguard init"):
        SqliteStore(path)
    assert not path.exists()


@pytest.mark.parametrize("content", [b"not a database, but long enough to be looked at " * 50, b"short"])
def test_files_that_are_not_databases(path, content):
    path.write_bytes(content)
    for create in (False, True):
        with pytest.raises(LedgerError):
            SqliteStore(path, create=create)
    assert path.read_bytes() == content


def test_other_databases_and_empty_files(path):
    path.write_bytes(b"")
    with pytest.raises(LedgerError, match="not a dataguard registry"):
        SqliteStore(path)
    SqliteStore(path, create=True).close()  # an init that was interrupted can be repeated
    path.unlink()
    db = outsider(path)
    db.execute("CREATE TABLE theirs (x)")
    db.close()
    for create in (False, True):
        with pytest.raises(LedgerError, match="not a dataguard registry"):
            SqliteStore(path, create=create)


def test_a_folder_in_place_of_the_file(path):
    path.mkdir()
    with pytest.raises(UsageError):
        SqliteStore(path)
    with pytest.raises(LedgerError):
        SqliteStore(path, create=True)


def test_a_newer_registry_is_refused_untouched(path):
    SqliteStore(path, create=True).close()
    db = outsider(path)
    db.execute("PRAGMA user_version = 999")
    db.close()
    before = path.read_bytes()
    with pytest.raises(SchemeMismatch, match="999"):
        SqliteStore(path)
    assert path.read_bytes() == before


def test_an_older_registry_is_backed_up_and_migrated(path):
    scripts = packaged_migrations()
    with SqliteStore(path, create=True) as store:
        store.add_recipient(Recipient("acme", TIME))
        store.append_ledger(row(0))
    newer = (*scripts, "CREATE TABLE more (x TEXT);\nINSERT INTO more SELECT id FROM recipients;\n")
    with SqliteStore(path, migrations=newer) as store:
        assert store._db.execute("SELECT x FROM more").fetchall() == [("acme",)]
        assert store.ledger_size() == 1
    with SqliteStore(path.with_name("registry.db.v1.bak")) as backup:
        assert [r.id for r in backup.list_recipients()] == ["acme"]
    with pytest.raises(SchemeMismatch):
        SqliteStore(path)


@pytest.mark.parametrize("last", ["INSERT INTO nowhere VALUES (1);", "CREATE TABLE unfinished (x"])
def test_a_failed_migration_changes_nothing(path, last):
    with SqliteStore(path, create=True) as store:
        store.add_recipient(Recipient("acme", TIME))
    with pytest.raises(LedgerError):
        SqliteStore(path, migrations=(*packaged_migrations(), f"CREATE TABLE more (x);\n{last}"))
    with SqliteStore(path) as store:
        assert [r.id for r in store.list_recipients()] == ["acme"]
        assert store._db.execute("SELECT COUNT(*) FROM sqlite_master WHERE name = 'more'").fetchone() == (0,)


def test_statements_keep_triggers_whole():
    script = (
        "-- a; comment\nCREATE TABLE a (x); -- b;\nCREATE TRIGGER t BEFORE INSERT ON a\n"
        "BEGIN SELECT 1; SELECT 2; END;\nSELECT ';\n';\n"
    )
    assert [s.strip().splitlines()[-1] for s in statements(script)] == [
        "CREATE TABLE a (x); -- b;",
        "BEGIN SELECT 1; SELECT 2; END;",
        "';",
    ]


def test_a_second_writer_waits_and_then_says_so(path, monkeypatch):
    monkeypatch.setattr(sqlite_module, "BUSY_SECONDS", 0.05)
    with SqliteStore(path, create=True) as first, SqliteStore(path) as second:
        with first.transaction():
            first.append_ledger(row(0))
            assert second.ledger_size() == 0, "readers are not disturbed"
            with pytest.raises(LedgerError, match="in use"):
                second.append_ledger(row(0))
        second.append_ledger(row(1))
        assert first.ledger_size() == 2


def test_a_row_edited_to_another_type_is_not_read_as_a_record(path):
    with SqliteStore(path, create=True) as store:
        store.append_ledger(row(0))
    db = outsider(path)
    db.execute("DROP TRIGGER ledger_no_update")
    db.execute("UPDATE ledger SET payload = 'text'")
    db.close()
    with SqliteStore(path) as store, pytest.raises(LedgerError, match="damaged"):
        store.ledger_rows()


def test_damaged_fields_are_errors_of_the_registry(path):
    with SqliteStore(path, create=True) as store:
        store.add_dataset(dataset())
    db = outsider(path)
    db.execute("""UPDATE datasets SET meta = '{"a":1,"a":2}'""")
    db.close()
    with SqliteStore(path) as store, pytest.raises(LedgerError, match="damaged field meta"):
        store.get_dataset("flights@1")


CHILD = """
import pathlib, sys
from dataguard.registry import ledger
from dataguard.registry.address import Address
from dataguard.registry.postgres import PostgresStore
from dataguard.registry.sqlite import SqliteStore

place, vault, me = sys.argv[1:]
if place.startswith("postgresql:"):
    address = Address.parse(place)
    store = PostgresStore(address, vault=vault, password=address.password)
else:
    store = SqliteStore(pathlib.Path(place), create=True)
for i in range(25):
    ledger.append(store, "export", "", {"by": me, "i": i}, salt=bytes(32), time="2026-01-31T09:00:00Z")
store.close()
"""


def test_processes_that_append_together_leave_no_gap(place):  # noqa: F811
    if place.kind == "postgres":
        place.open().close()
    where = place.url or str(place.path)
    command = [sys.executable, "-c", CHILD, where, VAULT]
    children = [subprocess.Popen([*command, str(i)], stderr=subprocess.PIPE, text=True) for i in range(4)]
    assert [child.communicate(timeout=60)[1] for child in children] == [""] * 4
    place._is_made = True
    with place.open() as store:
        entries = ledger.entries(store)
        assert [e.seq for e in entries] == list(range(100))
        assert all(step.ok for step in verify(store, bytes(32)))
        for me in "0123":
            assert [e.payload["i"] for e in entries if e.payload["by"] == me] == list(range(25))
