"""The numbered SQL scripts that bring a registry to the current schema.

They are plain files, ``migrations/NNNN_name.sql`` (``migrations/postgres/`` for that server), so that a
reviewer reads the schema as SQL. A released script never changes; a new schema is a new script.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from functools import cache
from importlib import resources

__all__ = ["packaged_migrations", "statements"]


@cache
def packaged_migrations(dialect: str = "") -> tuple[str, ...]:
    """Return the SQL scripts of this package; script number i leads to schema version i.

    Parameters
    ----------
    dialect : str
        ``""`` for SQLite, or ``"postgres"``.
    """
    folder = resources.files("dataguard.registry") / "migrations"
    if dialect:
        folder /= dialect
    scripts = sorted((file.name, file) for file in folder.iterdir() if file.name.endswith(".sql"))
    return tuple(file.read_text(encoding="utf-8") for _, file in scripts)


def statements(script: str) -> Iterator[str]:
    """Yield the statements of a SQLite `script`; triggers hold semicolons, so SQLite itself finds the ends.

    Unlike ``executescript`` this commits nothing, so a script runs inside the caller's transaction.
    """
    lines: list[str] = []
    for line in script.splitlines():
        lines.append(line)
        statement = "\n".join(lines)
        if line.split("--")[0].rstrip().endswith(";") and sqlite3.complete_statement(statement):
            yield statement
            lines.clear()
    if lines:  # unfinished: SQLite will say so
        yield "\n".join(lines)
