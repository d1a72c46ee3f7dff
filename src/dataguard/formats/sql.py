"""What the database sources share: names quoted for SQL, and the choice of one table among many.

Table and column names come from files and command lines that nobody vouches for; this is the
only place that puts them into SQL.
"""

from __future__ import annotations

from collections.abc import Sequence

from dataguard.errors import UsageError
from dataguard.formats.parts import SeveralTablesError

__all__ = ["quoted", "undecided"]

_LISTED = 30


def quoted(name: str) -> str:
    """Return `name` as an SQL identifier (SQL:2016 part 2, 5.2: quotes inside are doubled)."""
    return '"' + name.replace('"', '""') + '"'


def undecided(tables: Sequence[str], wanted: str | None, where: str) -> UsageError:
    """Error for a table that was not named, or does not exist.

    Parameters
    ----------
    tables : sequence of str
        Tables there are; the first 30 are listed.
    wanted : str or None
        What was asked for.
    where : str
        The database.
    """
    if not tables:
        return UsageError("holds no table", where=where, remedy="views and virtual tables are not read")
    listed = ", ".join(map(repr, tables[:_LISTED])) + (", ..." if len(tables) > _LISTED else "")
    remedy = "name it as FILE::TABLE"
    if wanted is None:
        return SeveralTablesError(
            f"holds {len(tables)} tables ({listed})", tables, where=where, remedy=remedy
        )
    return UsageError(f"has no table {wanted!r} ({listed})", where=where, remedy=remedy)
