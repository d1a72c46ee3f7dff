"""The registry in one SQLite file, the default: no server, nothing to install.

WAL with full synchronisation: in simulated power cuts it lost no acknowledged commit and tore
no transaction, while any weaker setting did. The settings are not stored in the file, so
they are made on every connection. Not for network shares, which lack the locks WAL needs.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from dataguard.canonical import canonical_json, parse_json
from dataguard.errors import DataguardError, EvidenceError, LedgerError, SchemeMismatch, UsageError
from dataguard.registry.migration import packaged_migrations, statements
from dataguard.registry.store import (
    CheckpointRow,
    Dataset,
    Export,
    Fingerprint,
    Json,
    LedgerRow,
    MarkKey,
    Recipient,
    Run,
)

__all__ = ["APPLICATION_ID", "BUSY_SECONDS", "SqliteStore"]

APPLICATION_ID = 0x64677261
"""``dgra`` in the file header tells a registry from any other SQLite file."""
BUSY_SECONDS = 30
"""How long a writer waits for another one."""

_TABLES: Mapping[type, str] = {
    Dataset: "datasets",
    Recipient: "recipients",
    MarkKey: "mark_keys",
    Export: "exports",
    Fingerprint: "fingerprints",
    Run: "runs",
    LedgerRow: "ledger",
}
_JSON_COLUMNS = frozenset({"roots", "meta"})
_NOUNS = {"datasets": "dataset", "recipients": "recipient", "mark_keys": "mark key", "exports": "export"}

_SETTINGS = ("foreign_keys = ON", "synchronous = FULL", "recursive_triggers = ON")

R = TypeVar("R")


class SqliteStore:
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

    def __init__(self, path: Path, *, create: bool = False, migrations: Sequence[str] | None = None) -> None:
        self._path, self._depth = Path(path), 0
        scripts = packaged_migrations() if migrations is None else tuple(migrations)
        with self._errors():
            self._db = _connect(self._path, create=create)
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

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing for what happens inside; nested ones are savepoints.

        Raises
        ------
        LedgerError
            Another writer held the lock for longer than `BUSY_SECONDS`, or the disk is full.
        """
        name = f"level_{self._depth}"
        begin, end, undo = "BEGIN IMMEDIATE", "COMMIT", ["ROLLBACK"]
        if self._depth:
            begin, end, undo = (
                f"SAVEPOINT {name}",
                f"RELEASE {name}",
                [f"ROLLBACK TO {name}", f"RELEASE {name}"],
            )
        with self._errors():
            self._db.execute(begin)
        self._depth += 1
        try:
            yield
            with self._errors():
                self._db.execute(end)
        except BaseException:
            # SQLite has already rolled back by itself after a full disk or an I/O error.
            for statement in undo if self._db.in_transaction else ():
                self._db.execute(statement)
            raise
        finally:
            self._depth -= 1

    # --- records -----------------------------------------------------------------------------

    def add_dataset(self, dataset: Dataset) -> None:
        """Add a dataset version; its id and (name, version) must be new."""
        self._insert(dataset)

    def get_dataset(self, id: str) -> Dataset:  # noqa: A002
        """Return the dataset with this id."""
        return self._one(Dataset, id=id)

    def latest_dataset(self, name: str) -> Dataset:
        """Return the highest version registered under `name`."""
        found = self.list_datasets(name=name)
        if not found:
            known = sorted({dataset.name for dataset in self.list_datasets()})
            raise UsageError(
                "no dataset of this name is registered",
                where=name,
                remedy=f"registered are: {', '.join(known)}" if known else "register it first",
            )
        return max(found, key=lambda dataset: dataset.version)

    def list_datasets(self, *, name: str | None = None, lineage: str | None = None) -> list[Dataset]:
        """Return all datasets, or those of one name or lineage."""
        return self._select(Dataset, name=name, lineage=lineage)

    def add_recipient(self, recipient: Recipient) -> None:
        """Add a recipient; its id must be new."""
        self._insert(recipient)

    def get_recipient(self, id: str) -> Recipient:  # noqa: A002
        """Return the recipient with this id."""
        return self._one(Recipient, id=id)

    def list_recipients(self) -> list[Recipient]:
        """Return all recipients."""
        return self._select(Recipient)

    def add_mark_key(self, mark_key: MarkKey) -> None:
        """Add a mark-key commitment of a known recipient; (lineage, recipient, generation) must be new."""
        self._insert(mark_key)

    def get_mark_key(self, lineage: str, recipient: str, generation: int) -> MarkKey:
        """Return one mark-key commitment."""
        return self._one(MarkKey, lineage=lineage, recipient=recipient, generation=generation)

    def list_mark_keys(self, *, lineage: str | None = None, recipient: str | None = None) -> list[MarkKey]:
        """Return the mark-key commitments, all or of one lineage or recipient."""
        return self._select(MarkKey, lineage=lineage, recipient=recipient)

    def add_export(self, export: Export) -> None:
        """Add an export of a known dataset to a known recipient."""
        self._insert(export)

    def get_export(self, id: str) -> Export:  # noqa: A002
        """Return the export with this id."""
        return self._one(Export, id=id)

    def list_exports(self, *, dataset_id: str | None = None, recipient: str | None = None) -> list[Export]:
        """Return the exports, all or of one dataset or recipient."""
        return self._select(Export, dataset_id=dataset_id, recipient=recipient)

    def add_fingerprint(self, fingerprint: Fingerprint) -> None:
        """Add a fingerprint of a known dataset; one per scheme."""
        self._insert(fingerprint)

    def get_fingerprint(self, dataset_id: str, scheme: str) -> Fingerprint:
        """Return one fingerprint."""
        return self._one(Fingerprint, dataset_id=dataset_id, scheme=scheme)

    def list_fingerprints(
        self, *, dataset_id: str | None = None, scheme: str | None = None
    ) -> list[Fingerprint]:
        """Return the fingerprints, all or of one dataset or scheme."""
        return self._select(Fingerprint, dataset_id=dataset_id, scheme=scheme)

    def add_run(self, run: Run) -> None:
        """Add a trace run; its id and (dataset, k) must be new."""
        self._insert(run)

    def finish_run(self, id: str, outcome: str, meta: Json) -> None:  # noqa: A002
        """Write the outcome of an unfinished run, once."""
        if not outcome:
            raise UsageError("run without an outcome", where=id, remedy="say 'inconclusive' where that is so")
        sql = "UPDATE runs SET outcome = ?, meta = ? WHERE id = ? AND outcome = ''"
        with self.transaction(), self._errors():
            if self._db.execute(sql, (outcome, _encode("meta", meta), id)).rowcount != 1:
                raise UsageError("no unfinished run of this id", where=id, remedy="start a new run")

    def get_run(self, id: str) -> Run:  # noqa: A002
        """Return the run with this id."""
        return self._one(Run, id=id)

    def list_runs(self, *, dataset_id: str | None = None) -> list[Run]:
        """Return the runs, all or of one dataset."""
        return self._select(Run, dataset_id=dataset_id)

    # --- ledger ------------------------------------------------------------------------------

    def append_ledger(self, row: LedgerRow) -> None:
        """Append a ledger row; its seq must be the current size (a trigger checks it)."""
        self._insert(row)

    def ledger_size(self) -> int:
        """Return the number of ledger rows."""
        with self._errors():
            return int(self._db.execute("SELECT COALESCE(MAX(seq) + 1, 0) FROM ledger").fetchone()[0])

    def ledger_rows(self, start: int = 0, stop: int | None = None) -> list[LedgerRow]:
        """Return rows start..stop-1 in order."""
        sql = (
            "SELECT seq, type, scope, payload, salt, leaf_hash FROM ledger "
            "WHERE seq >= ? AND seq < COALESCE(?, 9223372036854775807) ORDER BY seq"
        )
        with self._errors():
            return self._typed(LedgerRow, self._db.execute(sql, (start, stop)))

    def append_checkpoint(self, row: CheckpointRow) -> None:
        """Append a signed tree head; it can never change afterwards."""
        sql = "INSERT INTO checkpoints SELECT COALESCE(MAX(number) + 1, 0), ?, ?, ? FROM checkpoints"
        with self.transaction(), self._errors():
            self._db.execute(sql, (row.size, row.time, row.envelope))

    def list_checkpoints(self) -> list[CheckpointRow]:
        """Return all checkpoints in order."""
        with self._errors():
            rows = self._db.execute("SELECT size, time, envelope FROM checkpoints ORDER BY number")
            return self._typed(CheckpointRow, rows)

    # --- inside ------------------------------------------------------------------------------

    def _insert(self, record: Any) -> None:
        names = [column.name for column in fields(record)]
        columns = ", ".join(f'"{name}"' for name in names)
        sql = f"INSERT INTO {_TABLES[type(record)]} ({columns}) VALUES ({', '.join('?' * len(names))})"  # noqa: S608
        with self.transaction(), self._errors():
            self._db.execute(sql, [_encode(name, getattr(record, name)) for name in names])

    def _select(self, kind: type[R], **where: object) -> list[R]:
        names = [column.name for column in fields(kind)]  # type: ignore[arg-type]
        asked = {name: value for name, value in where.items() if value is not None}
        columns = ", ".join(f'"{name}"' for name in names)
        condition = " AND ".join(f'"{name}" = ?' for name in asked) or "1"
        sql = f"SELECT {columns} FROM {_TABLES[kind]} WHERE {condition} ORDER BY rowid"  # noqa: S608
        with self._errors():
            rows = self._db.execute(sql, list(asked.values())).fetchall()
            return [
                kind(*(_decode(name, value) for name, value in zip(names, row, strict=True))) for row in rows
            ]

    def _typed(self, kind: type[R], rows: Iterable[tuple[object, ...]]) -> list[R]:
        # SQLite columns hold any type: a row edited by another program must not pass for a record.
        expected = [column.type for column in fields(kind)]  # type: ignore[arg-type]
        records = []
        for i, row in enumerate(rows):
            if [type(value).__name__ for value in row] != expected:
                raise LedgerError(
                    f"{kind.__name__} {i} is damaged", where=str(self._path), remedy="restore a backup"
                )
            records.append(kind(*row))
        return records

    def _one(self, kind: type[R], **key: object) -> R:
        found = self._select(kind, **key)
        if not found:
            noun = _NOUNS.get(_TABLES[kind], _TABLES[kind].removesuffix("s"))
            where = " ".join(str(part) for part in key.values())
            raise UsageError(f"no such {noun} in the registry", where=where, remedy="check the name")
        return found[0]

    def _check_file(self, newest: int, *, is_new_allowed: bool) -> None:
        application = self._pragma("application_id")
        version = self._pragma("user_version")
        n_objects = self._db.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()[0]
        is_fresh = not application and not version and not n_objects
        if application != APPLICATION_ID and not (is_fresh and is_new_allowed):
            raise LedgerError(
                "not a dataguard registry", where=str(self._path), remedy="check the vault's path"
            )
        if version > newest:
            raise SchemeMismatch(
                f"registry has schema version {version}, this program knows {newest}",
                where=str(self._path),
                remedy="use a newer dataguard",
            )
        mode = self._db.execute("PRAGMA journal_mode = WAL").fetchone()[0]
        if mode != "wal":
            raise LedgerError(
                f"journal mode is {mode}, not WAL",
                where=str(self._path),
                remedy="move the vault to a local disk",
            )

    def _migrate(self, scripts: Sequence[str]) -> None:
        version = self._pragma("user_version")
        if 0 < version < len(scripts):
            self._back_up(version)
        for number, script in enumerate(scripts, start=1):
            if number <= version:
                continue
            with self.transaction():
                if self._pragma("user_version") >= number:  # another process was faster
                    continue
                for statement in statements(script):
                    self._db.execute(statement)
                self._db.execute(f"PRAGMA user_version = {number}")

    def _back_up(self, version: int) -> None:
        copy = self._path.with_name(f"{self._path.name}.v{version}.bak")
        if not copy.exists():
            os.close(os.open(copy, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
            self._db.execute("VACUUM INTO ?", (str(copy),))

    def _pragma(self, name: str) -> int:
        return int(self._db.execute(f"PRAGMA {name}").fetchone()[0])

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.ProgrammingError, sqlite3.InterfaceError):
            raise  # a bug of ours, not a state of the file
        except (sqlite3.Error, OSError, OverflowError, UnicodeEncodeError) as error:
            raise _translated(error, str(self._path)) from None


def _connect(path: Path, *, create: bool) -> sqlite3.Connection:
    if create:
        path.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))  # SQLite gives -wal and -shm the same mode
    elif not path.is_file():
        raise UsageError("no registry here", where=str(path), remedy="run: dataguard init")
    return sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None)


def _encode(name: str, value: object) -> object:
    return canonical_json(value).decode() if name in _JSON_COLUMNS else value


def _decode(name: str, value: Any) -> Any:
    if name not in _JSON_COLUMNS:
        return value
    try:
        return parse_json(str(value).encode())
    except EvidenceError as error:
        raise LedgerError(f"damaged field {name} ({error.what})", remedy="restore the registry") from None


def _translated(error: Exception, where: str) -> DataguardError:
    text = str(error)
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
        return UsageError(
            "value the registry cannot hold", where=where, remedy="use valid text, integers < 2^63"
        )
    if "locked" in text or "busy" in text:
        return LedgerError(
            "registry is in use", where=where, remedy="try again when the other process is done"
        )
    return LedgerError(
        f"registry cannot be used ({text})", where=where, remedy="check the disk, restore a backup"
    )
