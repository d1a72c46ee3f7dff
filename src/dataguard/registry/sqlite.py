"""The registry in one SQLite file, the default: no server, nothing to install.

WAL with full synchronisation: in simulated power cuts it lost no acknowledged commit and tore
no transaction, while any weaker setting did. The settings are not stored in the file, so
they are made on every connection. Not for network shares, which lack the locks WAL needs.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dataguard.errors import DataguardError, LedgerError, SchemeMismatch, UsageError
from dataguard.registry.migration import packaged_migrations, statements
from dataguard.registry.sql import BUSY_SECONDS, SqlStore

__all__ = ["APPLICATION_ID", "SqliteStore"]

APPLICATION_ID = 0x64677261
"""``dgra`` in the file header tells a registry from any other SQLite file."""

_SETTINGS = ("foreign_keys = ON", "synchronous = FULL", "recursive_triggers = ON", "trusted_schema = OFF")


class SqliteStore(SqlStore):
    """A `dataguard.registry.store.Store` in one SQLite file; use it in the thread that made it.

    Parameters
    ----------
    path : Path
        The file; ``-wal`` and ``-shm`` files appear beside it while it is open.
    create : bool
        Make the file (mode 0600) if it is missing.
    migrations : sequence of str, optional
        Schema scripts, for tests.

    Raises
    ------
    UsageError
        The file is missing and `create` is false.
    LedgerError
        Not a registry, damaged, locked, or on a file system without WAL.
    SchemeMismatch
        Written by a newer program.
    """

    _order = "rowid"

    def __init__(self, path: Path, *, create: bool = False, migrations: Sequence[str] | None = None) -> None:
        super().__init__(str(path))
        self._path = Path(path)
        scripts = packaged_migrations() if migrations is None else tuple(migrations)
        with self._errors():
            self._db = self._connect(create=create)
        try:
            with self._errors():
                for setting in _SETTINGS:
                    self._db.execute(f"PRAGMA {setting}")
                self._check_file(len(scripts), is_new_allowed=create)
                self._migrate(scripts)
        except BaseException:
            self._db.close()
            raise

    def close(self) -> None:
        """Close the connection."""
        self._db.close()

    def snapshot(self, path: Path) -> None:
        """Write all of it, as it is at one moment, to a new SQLite file of mode 0600, durably.

        Raises
        ------
        UsageError
            The file exists already, or a transaction is open.
        """
        if self._depth or os.path.lexists(path):
            raise UsageError("no snapshot there or now", where=str(path), remedy="name a new file")
        with self._errors():
            self._vacuum_into(path)

    def damage(self) -> list[str]:
        """Return what ``PRAGMA quick_check`` finds; nothing if the file is sound."""
        return [str(row[0]) for row in self._ask("PRAGMA quick_check(10)") if row[0] != "ok"]

    # --- inside ------------------------------------------------------------------------------

    def _connect(self, *, create: bool) -> sqlite3.Connection:
        if create:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            # SQLite gives -wal and -shm the same mode.
            os.close(os.open(self._path, os.O_CREAT | os.O_RDWR, 0o600))
        elif not self._path.is_file():
            raise UsageError("no registry here", where=self._where, remedy=self._remedy_for_none())
        return sqlite3.connect(self._path, timeout=BUSY_SECONDS, isolation_level=None)

    def _remedy_for_none(self) -> str:
        """Say what helps where there is no file: keys beside its place tell a vault that has lost it."""
        is_vault = (self._path.parent / "keys").is_dir()
        return "restore a backup (dataguard vault restore)" if is_vault else "run: dataguard init"

    def _ask(self, sql: str, values: Sequence[object] = ()) -> list[Sequence[Any]]:
        with self._errors():
            return list(self._db.execute(sql, values).fetchall())

    def _change(self, sql: str, values: Sequence[object] = ()) -> int:
        with self._errors():
            return self._db.execute(sql, values).rowcount

    def _begin(self) -> None:
        self._change("BEGIN IMMEDIATE")

    def _undo(self, statements: Sequence[str], error: BaseException) -> None:
        del error
        # SQLite has already rolled back by itself after a full disk or an I/O error.
        for statement in statements if self._db.in_transaction else ():
            self._db.execute(statement)

    def _check_file(self, newest: int, *, is_new_allowed: bool) -> None:
        self._db.execute("BEGIN")  # one snapshot: another process may be making the same file
        application = self._pragma("application_id")
        version = self._pragma("user_version")
        n_objects = self._db.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()[0]
        self._db.execute("COMMIT")
        is_fresh = not application and not version and not n_objects
        if application != APPLICATION_ID and not (is_fresh and is_new_allowed):
            raise LedgerError("not a dataguard registry", where=self._where, remedy="check the vault's path")
        if version > newest:
            raise SchemeMismatch(
                f"registry has schema version {version}, this program knows {newest}",
                where=self._where,
                remedy="use a newer dataguard",
            )
        mode = self._db.execute("PRAGMA journal_mode").fetchone()[0]
        if mode != "wal":  # the switch needs the file for itself; not on every opening
            mode = self._db.execute("PRAGMA journal_mode = WAL").fetchone()[0]
        if mode != "wal":
            raise LedgerError(
                f"journal mode is {mode}, not WAL", where=self._where, remedy="move the vault to a local disk"
            )

    def _migrate(self, scripts: Sequence[str]) -> None:
        version = self._pragma("user_version")
        if 0 < version < len(scripts):
            copy = self._path.with_name(f"{self._path.name}.v{version}.bak")
            if not copy.exists():
                self._vacuum_into(copy)
        for number, script in enumerate(scripts, start=1):
            if number <= version:
                continue
            with self.transaction():
                if self._pragma("user_version") >= number:  # another process was faster
                    continue
                for statement in statements(script):
                    self._db.execute(statement)
                self._db.execute(f"PRAGMA user_version = {number}")

    def _vacuum_into(self, path: Path) -> None:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        self._db.execute("VACUUM INTO ?", (str(path),))
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def _pragma(self, name: str) -> int:
        return int(self._db.execute(f"PRAGMA {name}").fetchone()[0])

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.ProgrammingError, sqlite3.InterfaceError):
            raise  # a bug of ours, not a state of the file
        except (sqlite3.Error, OSError, OverflowError, UnicodeEncodeError) as error:
            raise self._translated(error) from None

    def _translated(self, error: Exception) -> DataguardError:
        text, where = str(error), self._where
        if isinstance(error, sqlite3.IntegrityError):
            if text.startswith("UNIQUE"):
                columns = text.partition(": ")[2]
                return UsageError(
                    f"already in the registry ({columns})", where=where, remedy="choose another name"
                )
            if text.startswith("FOREIGN KEY"):
                return UsageError("unknown dataset or recipient", where=where, remedy="add it first")
            return LedgerError(text, where=where, remedy="nothing was changed; append a new entry instead")
        if isinstance(error, OverflowError | UnicodeEncodeError):
            return self._unfit()
        if "locked" in text or "busy" in text:
            return LedgerError(
                "registry is in use", where=where, remedy="try again when the other process is done"
            )
        folder = self._path.parent
        if "readonly" in text or (folder.is_dir() and not os.access(folder, os.W_OK)):
            return LedgerError(
                f"registry cannot be written ({text})", where=where, remedy=f"make {folder} writable"
            )
        return LedgerError(
            f"registry cannot be used ({text})", where=where, remedy="check the disk, restore a backup"
        )
