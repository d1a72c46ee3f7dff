"""What is PostgreSQL's own: addresses, passwords, whose registry it is, what other programs cannot do to it."""

from __future__ import annotations

import os

import pytest

import dataguard
from dataguard.errors import DataguardError, LedgerError, SchemeMismatch, UsageError
from dataguard.registry import postgres as module
from dataguard.registry.address import Address, find_password, is_postgres
from dataguard.registry.migration import packaged_migrations
from dataguard.registry.postgres import PostgresStore
from dataguard.registry.store import CheckpointRow, LedgerRow, Recipient
from postgres_server import PASSWORD, postgres_server, postgres_url  # noqa: F401 - fixtures
from registry_stores import VAULT, Place

TIME = "2026-01-31T09:00:00Z"


def row(seq, payload=b"{}"):
    return LedgerRow(seq, "export", "", payload, bytes(32), bytes(32))


@pytest.fixture
def place(tmp_path, postgres_url):  # noqa: F811
    return Place("postgres", tmp_path, postgres_url)


# --- addresses ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://me@db.example/data", "postgresql://me@db.example:5432/data"),
        ("postgres://me:secret@db.example:6000/data", "postgresql://me@db.example:6000/data"),
        ("postgresql://m%40e:s%3Ae@[::1]/da%20ta?schema=x", "postgresql://m%40e@[::1]:5432/da%20ta?schema=x"),
        ("postgresql://me@/data?host=/run/pg&port=99", "postgresql://me@:99/data?host=/run/pg"),
        ("postgresql://me@h/d?sslmode=verify-full", "postgresql://me@h:5432/d?sslmode=verify-full"),
    ],
)
def test_addresses_are_shown_and_stored_without_the_password(url, shown):
    address = Address.parse(url)
    assert str(address) == shown
    again = Address.parse(shown)
    assert (again.user, again.host, again.port, again.database, again.schema, again.sslmode) == (
        address.user, address.host, address.port, address.database, address.schema, address.sslmode,
    )  # fmt: skip
    assert "secret" not in repr(address)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://", "postgresql://h/d", "postgresql://me@h", "postgresql://me:pw@h/", "postgresql://me:pw@h/a/b",
        "mysql://me:pw@h/d", "postgresql://me:pw@h:x/d", "postgresql://me:pw@h/d?schema=a;drop",
        "postgresql://me:pw@h/d?schema=", "postgresql://me:pw@h/d?sslmode=no", "postgresql://me:pw@h/d?other=1",
        "postgresql://me:pw@[::1/d", "postgresql://me:pw@h/d?schema=A", "postgresql://me:pw@h/d?port=x", "",
    ],
)  # fmt: skip
def test_other_texts_are_refused_without_showing_them(url):
    with pytest.raises(UsageError) as caught:
        Address.parse(url)
    assert "pw" not in str(caught.value)


def test_where_the_password_comes_from(tmp_path):
    at = Address.parse("postgresql://me@db/data")
    assert find_password(Address.parse("postgresql://me:in-url@db/data"), {"PGPASSWORD": "env"}) == "in-url"
    assert find_password(at, {"PGPASSWORD": "env"}) == "env"
    assert find_password(at, {"HOME": str(tmp_path)}) is None
    file = tmp_path / ".pgpass"
    file.write_text(
        "# a comment\nother:*:*:*:no\ndb:5432:data:you:no\ndb:*:data:me:a\\:b\\\\c\n*:*:*:*:last\n"
    )
    file.chmod(0o600)
    assert find_password(at, {"HOME": str(tmp_path)}) == "a:b\\c"
    assert find_password(Address.parse("postgresql://x@y/z"), {"PGPASSFILE": str(file)}) == "last"
    file.chmod(0o644)
    assert find_password(at, {"HOME": str(tmp_path)}) is None
    file.chmod(0o600)
    file.write_bytes(b"\xff")
    assert find_password(at, {"HOME": str(tmp_path)}) is None


def test_what_is_a_url():
    assert is_postgres("postgresql://x")
    assert not is_postgres("postgres.sqlite")


# --- connections -------------------------------------------------------------------------------


def test_every_connection_is_durable_and_stays_in_its_schema(place):
    for _ in range(2):
        with place.open() as store:
            for name, value in (("synchronous_commit", "on"), ("lock_timeout", "30s")):
                assert store._ask(f"SHOW {name}")[0][0] == value
            assert store._ask("SELECT current_schema()")[0][0] == "dataguard"
            assert store._ask("SELECT version, vault FROM registry") == [
                [len(packaged_migrations("postgres")), VAULT]
            ]


def test_both_databases_hold_the_same_tables():
    def columns(script):
        found = {}
        for block in script.split("CREATE TABLE ")[1:]:
            name, _, rest = block.partition(" (")
            lines = [x.strip().split()[0].strip('"') for x in rest.partition("\n);")[0].strip().splitlines()]
            found[name] = [x for x in lines if x not in ("UNIQUE", "PRIMARY", "added")]
        return found

    ours, theirs = columns("".join(packaged_migrations())), columns("".join(packaged_migrations("postgres")))
    theirs.pop("registry")
    assert ours == theirs


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"port": 1}, "cannot be reached"),
        ({"database": "nowhere"}, "nowhere"),
        ({"user": "nobody"}, "nobody"),
        ({"host": "/nowhere"}, "cannot be reached"),
        ({"sslmode": "require"}, "SSL"),
    ],
)
def test_servers_that_cannot_be_used_are_one_line(postgres_url, change, told):  # noqa: F811
    import dataclasses

    address = dataclasses.replace(Address.parse(postgres_url), **change)
    with pytest.raises(DataguardError) as caught:
        PostgresStore(address, vault=VAULT, password=PASSWORD, create=True)
    assert told in str(caught.value)
    assert PASSWORD not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("password", [None, "", "wrong"])
def test_a_wrong_password(postgres_url, password):  # noqa: F811
    with pytest.raises(UsageError, match="PGPASSWORD"):
        PostgresStore(Address.parse(postgres_url), vault=VAULT, password=password)


def test_a_missing_registry_is_not_made_by_accident(place):
    place._is_made = True
    with pytest.raises(UsageError, match="dataguard init"):
        place.open()
    place._is_made = False
    place.open().close()


def test_one_registry_one_vault(place):
    with place.open() as store:
        store.append_ledger(row(0))
    other = "cd" * 32
    for create in (False, True):
        with pytest.raises(UsageError, match="another vault"):
            place.open(vault=other, create=create)
    with pytest.raises(UsageError, match="another vault"):
        place.open(vault=other, create=True, abandoned=frozenset({"ef" * 32}))
    with pytest.raises(UsageError, match="registry already"):
        place.open(create=True)
    beside = Address.parse(f"{place.url}?schema=beside")
    with PostgresStore(beside, vault=other, password=PASSWORD, create=True) as second:
        assert second.ledger_size() == 0
    with place.open() as store:
        assert store.ledger_size() == 1


def test_what_was_begun_and_abandoned_is_begun_anew(place):
    with place.open() as store:
        store.append_ledger(row(0))
    with place.open(vault="cd" * 32, create=True, abandoned=frozenset({VAULT})) as store:
        assert store.ledger_size() == 0
    with pytest.raises(UsageError, match="another vault"):
        place.open()


def test_a_newer_registry_is_refused_untouched(place):
    place.open().close()
    place.outsider("UPDATE registry SET version = 999")
    with pytest.raises(SchemeMismatch, match="999"):
        place.open()


def test_an_older_registry_is_migrated_in_one_transaction(place):
    scripts = packaged_migrations("postgres")
    with place.open() as store:
        store.add_recipient(Recipient("acme", TIME))
    with pytest.raises(LedgerError):
        place.open(migrations=(*scripts, "CREATE TABLE more (x TEXT); INSERT INTO nowhere VALUES (1);"))
    with place.open() as store:
        assert store._ask("SELECT to_regclass('more') IS NULL")[0][0]
    with place.open(migrations=(*scripts, "CREATE TABLE more AS SELECT id FROM recipients;")) as store:
        assert store._ask("SELECT id FROM more") == [["acme"]]
    with pytest.raises(SchemeMismatch):
        place.open()


# --- what others cannot do -----------------------------------------------------------------------


@pytest.mark.parametrize("table", ["ledger", "checkpoints"])
@pytest.mark.parametrize("verb", ["update", "delete", "truncate", "insert", "gap"])
def test_no_program_changes_the_ledger_by_accident(place, table, verb):
    import pg8000.exceptions

    with place.open() as store:
        store.append_ledger(row(0))
        store.append_ledger(row(1))
        store.append_checkpoint(CheckpointRow(2, TIME, b"{}"))
        before = store.ledger_rows(), store.list_checkpoints()
    column = "payload" if table == "ledger" else "envelope"
    gap = {
        "ledger": "INSERT INTO ledger VALUES (7, 'a', '', '', '', '')",
        "checkpoints": "INSERT INTO checkpoints VALUES (7, 1, '', '')",
    }
    statement = {
        "update": f"UPDATE {table} SET {column} = ''",
        "delete": f"DELETE FROM {table}",
        "truncate": f"TRUNCATE {table}",
        "insert": f"INSERT INTO {table} SELECT * FROM {table} LIMIT 1",
        "gap": gap[table],
    }[verb]
    with pytest.raises(pg8000.exceptions.DatabaseError, match=r"appended in sequence|never change"):
        place.outsider(statement)
    with place.open() as store:
        assert (store.ledger_rows(), store.list_checkpoints()) == before


def test_a_second_writer_waits_and_then_says_so(place, monkeypatch):
    monkeypatch.setattr(module, "BUSY_SECONDS", 0.05)
    with place.open() as first, place.open() as second:
        with first.transaction():
            first.append_ledger(row(0))
            assert second.ledger_size() == 0, "readers are not disturbed"
            with pytest.raises(LedgerError, match="in use"):
                second.append_ledger(row(0))
        second.append_ledger(row(1))
        assert first.ledger_size() == 2


def test_a_server_that_goes_away_is_one_line_and_loses_nothing(place):
    with place.open() as store:
        store.append_ledger(row(0))
        kill = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'dataguard'"
        place.outsider(kill)
        with pytest.raises(LedgerError) as caught:
            store.append_ledger(row(1))
        assert "\n" not in str(caught.value)
    with place.open() as store:
        assert store.ledger_size() == 1
        store.append_ledger(row(1))


def test_interrupted_within_a_transaction(place):
    with place.open() as store:

        def interrupted():
            with store.transaction():
                store.append_ledger(row(0))
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            interrupted()
    with place.open() as store:
        assert store.ledger_size() == 0


def test_text_a_server_cannot_hold_leaves_the_connection_usable(place):
    with place.open() as store:
        for bad in ("a\0b", "\udcff"):
            with pytest.raises(UsageError, match="cannot hold"):
                store.add_recipient(Recipient(bad, TIME))
        store.add_recipient(Recipient("a:b ? ' \" \\ 海 $1 :v0", TIME))
        assert [r.id for r in store.list_recipients()] == ["a:b ? ' \" \\ 海 $1 :v0"]


# --- a vault -------------------------------------------------------------------------------------


def test_a_vault_on_a_server(tmp_path, postgres_url, flights_january, monkeypatch):  # noqa: F811
    import pyarrow.parquet as pq

    table = pq.read_table(flights_january).slice(0, 3000)
    with dataguard.Vault.create(tmp_path / "v", registry=postgres_url) as vault:
        vault.register(table, name="flights")
        vault.protect("flights", recipient="acme", out=tmp_path / "a.parquet")
    for path in (tmp_path / "v").rglob("*"):
        if path.is_file():
            assert PASSWORD.encode() not in path.read_bytes()
            assert b"se%3Acr" not in path.read_bytes()
    assert not (tmp_path / "v" / "registry.sqlite").exists()
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    with dataguard.Vault.open(tmp_path / "v") as vault:
        leak = pq.read_table(tmp_path / "a.parquet").slice(100, 90)
        assert vault.trace(leak, dataset="flights").corresponding == ("acme",)
        vault.rotate_signing_key()
        assert all(step.ok for step in vault.check())
    with pytest.raises(UsageError, match="another vault"):
        dataguard.Vault.create(tmp_path / "w", registry=postgres_url)
    assert not (tmp_path / "w" / "vault.json").exists()


def test_an_init_on_a_server_that_was_cut_short_can_be_repeated(tmp_path, postgres_url, monkeypatch):  # noqa: F811
    from dataguard.housing import Settings

    def stop(*_):
        raise KeyboardInterrupt

    for _ in range(2):
        with monkeypatch.context() as patch:
            patch.setattr(Settings, "write", stop)
            with pytest.raises(KeyboardInterrupt):
                dataguard.Vault.create(tmp_path / "v", registry=postgres_url)
    with dataguard.Vault.create(tmp_path / "v", registry=postgres_url) as vault:
        assert len(vault.ledger_headers()) == 1
        assert all(step.ok for step in vault.check())
    assert sorted(os.listdir(tmp_path / "v")) == [".gitignore", "keys", "vault.json"]  # noqa: PTH208
