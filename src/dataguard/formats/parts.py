"""Files that hold more than one table: which part is meant, and what there is to choose from."""

from __future__ import annotations

from collections.abc import Sequence

from dataguard.errors import UsageError

__all__ = ["SeveralTablesError"]


class SeveralTablesError(UsageError):
    """A file holds several tables and none was named.

    Parameters
    ----------
    what : str
        What is wrong.
    parts : sequence of str
        The sheets or tables, each a name that ``FILE::PART`` takes.
    where, remedy : str
        As in `DataguardError`.
    """

    def __init__(self, what: str, parts: Sequence[str], *, where: str, remedy: str) -> None:
        super().__init__(what, where=where, remedy=remedy)
        self.parts = tuple(parts)
