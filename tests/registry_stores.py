"""The registry stores under test: SQLite in a folder, PostgreSQL in a schema of its own on one server."""

from __future__ import annotations

import sqlite3

import pytest

from dataguard.registry.address import Address
from dataguard.registry.postgres import PostgresStore
from dataguard.registry.sqlite import SqliteStore
from postgres_server import postgres_server, postgres_url  # noqa: F401 - fixtures

VAULT = "ab" * 32
"""Key id of the vault all stores of these tests belong to."""
STORES = ("sqlite", "postgres")


class Place:
    """Where one test's registry lies, and how it is opened; the first opening makes it."""

    def __init__(self, kind, folder, url=""):
        self.kind, self.path, self.url = kind, folder / "registry.db", url
        self._is_made = False

    def open(self, **options):
        create, self._is_made = not self._is_made, True
        if self.kind == "sqlite":
            return SqliteStore(self.path, create=create, **options)
        address = Address.parse(self.url)
        return PostgresStore(
            address, password=address.password, **{"vault": VAULT, "create": create, **options}
        )

    def outsider(self, *statements, off=False):
        """Run statements as another program would, or (off) as one that first switches our triggers off."""
        if self.kind == "sqlite":
            db = sqlite3.connect(self.path, isolation_level=None)
            triggers = (
                db.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall() if off else []
            )
            statements = [*(f"DROP TRIGGER {name}" for (name,) in triggers), *statements]
            run = db.execute
        else:
            import pg8000.native

            at = Address.parse(self.url)
            db = pg8000.native.Connection(
                at.user, host=at.host, port=at.port, database=at.database, password=at.password
            )
            db.run(f"SET search_path = {at.schema}")
            if off:
                db.run("SET session_replication_role = replica")
            run = db.run
        try:
            for statement in statements:
                run(statement)
        finally:
            db.close()


@pytest.fixture(params=STORES)
def place(request, tmp_path):
    url = request.getfixturevalue("postgres_url") if request.param == "postgres" else ""
    return Place(request.param, tmp_path, url)
