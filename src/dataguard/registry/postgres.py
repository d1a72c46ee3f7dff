"""The registry on a PostgreSQL server, for vaults that several machines use at once.

The same statements as for SQLite, in a schema of its own. Writers wait for each other on one
advisory lock, taken before anything is read, so that a sequence number is never given twice and
never missed. ``synchronous_commit`` is set on each connection: what is acknowledged is on disk.
"""

from __future__ import annotations

import hashlib
import ssl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from dataguard.errors import DataguardError, LedgerError, SchemeMismatch, UsageError
from dataguard.registry.address import Address
from dataguard.registry.migration import packaged_migrations
from dataguard.registry.sql import BUSY_SECONDS, SqlStore, copy_records
from dataguard.registry.sqlite import SqliteStore

__all__ = ["PostgresStore"]

_SILENCE_SECONDS = BUSY_SECONDS + 30
"""How long a server may say nothing, while connecting or answering; longer than it waits for a lock."""
_TABLES = (
    "registry", "datasets", "recipients", "mark_keys", "exports", "fingerprints", "runs", "ledger", "checkpoints",
)  # fmt: skip
_FUNCTIONS = ("ledger_next", "checkpoints_next", "append_only")


class PostgresStore(SqlStore):
    """A `dataguard.registry.store.Store` in one schema of a PostgreSQL database.

    Parameters
    ----------
    address : Address
        Server, database and schema.
    vault : str
        Key id of the vault's first signing key: a registry belongs to one vault.
    password : str, optional
    create : bool
        Make schema and tables; they must not belong to a vault yet.
    abandoned : frozenset of str
        Key ids of vaults whose making was cut short: their registry is made anew. Only with `create`.
    migrations : sequence of str, optional
        Schema scripts, for tests.

    Raises
    ------
    UsageError
        No ``pg8000``, no such server, database, user or registry, or one of another vault.
    LedgerError
        Damaged or locked.
    SchemeMismatch
        Written by a newer program.
    """

    _order = "added"

    def __init__(
        self,
        address: Address,
        *,
        vault: str,
        password: str | None = None,
        create: bool = False,
        abandoned: frozenset[str] = frozenset(),
        migrations: Sequence[str] | None = None,
    ) -> None:
        super().__init__(str(address))
        self._schema, self._lock = address.schema, _lock_number(address.schema)
        scripts = packaged_migrations("postgres") if migrations is None else tuple(migrations)
        self._db = self._connect(address, password)
        try:
            self._change("SET synchronous_commit = on")
            self._change(f"SET lock_timeout = '{1000 * BUSY_SECONDS:.0f}ms'")
            self._change(f"SET search_path = {self._schema}, pg_temp")
            self._migrate(vault, scripts, create=create, abandoned=abandoned)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the connection."""
        with suppress(OSError, self._pg.Error):
            self._db.close()

    def snapshot(self, path: Path) -> None:
        """Write all of it, as it is at one moment, to a new SQLite file of mode 0600, durably."""
        with SqliteStore(path, create=True) as target:
            copy_records(self, target)

    def damage(self) -> list[str]:
        """Return nothing: a server's pages are its administrator's to check."""
        return []

    # --- inside ------------------------------------------------------------------------------

    def _connect(self, address: Address, password: str | None) -> Any:
        try:
            import pg8000.exceptions
            import pg8000.native
        except ImportError:
            raise UsageError(
                "a PostgreSQL registry needs pg8000",
                where=self._where,
                remedy="pip install 'dataguard[postgres]'",
            ) from None
        self._pg: Any = pg8000.exceptions
        place: dict[str, Any] = {"host": address.host, "port": address.port}
        if address.host.startswith("/"):
            place = {"unix_sock": f"{address.host}/.s.PGSQL.{address.port}"}
        with self._errors():
            return pg8000.native.Connection(
                address.user, database=address.database, password=password or "", timeout=_SILENCE_SECONDS,
                ssl_context=_ssl_context(address.sslmode), application_name="dataguard", **place,
            )  # fmt: skip

    def _ask(self, sql: str, values: Sequence[object] = ()) -> list[Sequence[Any]]:
        with self._errors():
            return list(self._run(sql, values) or [])

    def _change(self, sql: str, values: Sequence[object] = ()) -> int:
        with self._errors():
            self._run(sql, values)
            return int(self._db.row_count)

    def _run(self, sql: str, values: Sequence[object]) -> Any:
        for value in values:
            # Both would fail half-way through a message, and leave the connection out of step.
            if isinstance(value, str) and "\0" in value:
                raise self._unfit()
            if isinstance(value, int) and not -(2**63) <= value < 2**63:
                raise self._unfit()
        named = {f"v{i}": value for i, value in enumerate(values)}
        parts = sql.split("?")
        return self._db.run(
            "".join(p + (f":v{i}" if i < len(values) else "") for i, p in enumerate(parts)), **named
        )

    def _begin(self) -> None:
        self._change("BEGIN ISOLATION LEVEL READ COMMITTED")
        try:
            # Taken in a statement of its own: what is read afterwards sees all that others have committed.
            self._ask("SELECT pg_advisory_xact_lock(?)", [self._lock])
        except BaseException as error:
            self._undo(["ROLLBACK"], error)
            raise

    def _undo(self, statements: Sequence[str], error: BaseException) -> None:
        if not isinstance(error, Exception):
            # Interrupted, perhaps within a message: the connection is of no more use, the server rolls back.
            self.close()
            return
        with suppress(OSError, self._pg.Error):
            for statement in statements:
                self._db.run(statement)

    def _migrate(
        self, vault: str, scripts: Sequence[str], *, create: bool, abandoned: frozenset[str]
    ) -> None:
        owner, version = self._owner()
        self._check_owner(owner, vault, abandoned if create else frozenset())
        if not owner and not create:
            raise UsageError(
                "no registry here", where=self._where, remedy="run: dataguard init --registry URL"
            )
        if owner == vault and create:
            raise UsageError(
                "holds a registry already", where=self._where, remedy="add ?schema=NAME to the URL"
            )
        if owner == vault and version > len(scripts):
            raise SchemeMismatch(
                f"registry has schema version {version}, this program knows {len(scripts)}",
                where=self._where,
                remedy="use a newer dataguard",
            )
        if owner == vault and version == len(scripts):
            return
        if self._ask("SELECT to_regnamespace(?) IS NULL", [self._schema])[0][0]:
            # Asked first: who may not make schemas can still use one that was made for him.
            self._change(f"CREATE SCHEMA IF NOT EXISTS {self._schema}")
        with self.transaction():
            owner, version = self._owner()  # another process may have been faster
            self._check_owner(owner, vault, abandoned if create else frozenset())
            if owner in abandoned:
                self._drop()
                owner, version = "", 0
            for number, script in enumerate(scripts, start=1):
                if number > version:
                    self._script(script)
            if owner:
                self._change("UPDATE registry SET version = ?", [len(scripts)])
            else:
                self._change("INSERT INTO registry (version, vault) VALUES (?, ?)", [len(scripts), vault])

    def _owner(self) -> tuple[str, int]:
        """Return key id and schema version of the registry in this schema; empty where there is none."""
        exists = self._ask("SELECT to_regclass(?) IS NOT NULL", [f"{self._schema}.registry"])[0][0]
        rows = self._ask("SELECT vault, version FROM registry") if exists else []
        return (str(rows[0][0]), int(rows[0][1])) if rows else ("", 0)

    def _check_owner(self, owner: str, vault: str, abandoned: frozenset[str]) -> None:
        if owner and owner != vault and owner not in abandoned:
            raise UsageError(
                f"registry belongs to another vault (key {owner[:16]})",
                where=self._where,
                remedy="add ?schema=NAME to the URL, or name another database",
            )

    def _script(self, script: str) -> None:
        with self._errors():
            self._db.run(script)

    def _drop(self) -> None:
        for table in _TABLES:
            self._change(f"DROP TABLE IF EXISTS {table} CASCADE")
        for function in _FUNCTIONS:
            self._change(f"DROP FUNCTION IF EXISTS {function}()")

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except self._pg.DatabaseError as error:
            raise self._translated(error) from None
        except (self._pg.InterfaceError, OSError, EOFError) as error:
            raise LedgerError(
                f"server cannot be reached or went away ({_first_line(error)})",
                where=self._where,
                remedy="check host, port and network",
            ) from None

    def _translated(self, error: Exception) -> DataguardError:
        told: Any = error.args[0] if error.args and isinstance(error.args[0], dict) else {}
        state, text, where = str(told.get("C", "")), str(told.get("M", _first_line(error))), self._where
        if state == "23505":
            name = str(told.get("n", "a unique field"))
            return UsageError(f"already in the registry ({name})", where=where, remedy="choose another name")
        if state == "23503":
            return UsageError("unknown dataset or recipient", where=where, remedy="add it first")
        if state.startswith("23"):
            return LedgerError(text, where=where, remedy="nothing was changed; append a new entry instead")
        if state.startswith("22"):
            return self._unfit()
        if state in ("55P03", "40P01", "40001", "57014"):
            return LedgerError(
                "registry is in use", where=where, remedy="try again when the other process is done"
            )
        if state.startswith(("28", "3D", "42501", "3F")):
            return UsageError(text, where=where, remedy="check user, password (PGPASSWORD) and database")
        return LedgerError(
            f"registry cannot be used ({text})", where=where, remedy="check the server, restore a backup"
        )


def _lock_number(schema: str) -> int:
    """Return the advisory lock of a schema: an int64 no other program is likely to use."""
    return int.from_bytes(
        hashlib.sha256(b"dataguard/registry/1" + schema.encode()).digest()[:8], "big", signed=True
    )


def _first_line(error: BaseException) -> str:
    return str(error).partition("\n")[0][:200]


def _ssl_context(mode: str) -> ssl.SSLContext | bool | None:
    if mode in ("disable", "prefer"):
        return False if mode == "disable" else None  # None: encrypted if the server can
    context = ssl.create_default_context()
    if mode == "require":
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context
