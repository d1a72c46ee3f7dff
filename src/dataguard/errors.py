"""The one tree of errors a user may meet.

::

    DataguardError
    ├── UsageError       wrong arguments, unknown names, refusal to overwrite
    ├── DecodeError      an input that cannot be read as what it claims to be
    ├── CapacityError    data without room for a mark, or a broken distortion contract
    ├── WeakMarkError    an export whose mark would not read back
    ├── SchemeMismatch   a format or scheme version this program does not know
    ├── LedgerError      registry or ledger that contradicts itself
    ├── EvidenceError    a bundle that cannot be built or read
    └── KeyringError     keys missing, unreadable, or with open permissions

Every message says what is wrong, where, and what to do, in one line. Anything else
that leaves the library is a bug and keeps its traceback.
"""

from __future__ import annotations

__all__ = [
    "CapacityError",
    "DataguardError",
    "DecodeError",
    "EvidenceError",
    "KeyringError",
    "LedgerError",
    "SchemeMismatch",
    "UsageError",
    "WeakMarkError",
]


class DataguardError(Exception):
    """Base of all expected errors.

    Parameters
    ----------
    what : str
        What is wrong.
    where : str, optional
        File, row, column or name concerned.
    remedy : str, optional
        What the reader can do about it.
    """

    def __init__(self, what: str, *, where: str = "", remedy: str = "") -> None:
        self.what, self.where, self.remedy = what, where, remedy
        message = f"{where}: {what}" if where else what
        super().__init__(f"{message}; {remedy}" if remedy else message)


class UsageError(DataguardError):
    """Wrong arguments, unknown names, refusal to overwrite."""


class DecodeError(DataguardError):
    """An input that cannot be read as what it claims to be."""


class CapacityError(DataguardError):
    """Data without room for a mark, or a broken distortion contract."""


class WeakMarkError(DataguardError):
    """An export whose mark would not read back."""


class SchemeMismatch(DataguardError):  # noqa: N818 - the established name in this field
    """A format or scheme version this program does not know."""


class LedgerError(DataguardError):
    """Registry or ledger that contradicts itself."""


class EvidenceError(DataguardError):
    """A bundle that cannot be built or read."""


class KeyringError(DataguardError):
    """Keys missing, unreadable, or with open permissions."""
