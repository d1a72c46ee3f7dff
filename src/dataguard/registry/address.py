"""Where a registry lies, when it lies on a PostgreSQL server: its URL, with the password kept out of sight.

The vault stores the URL without the password; that comes from ``PGPASSWORD`` or the password file,
as with every PostgreSQL client, so no copy of the vault opens the server.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from dataguard.errors import UsageError

__all__ = ["Address", "find_password", "is_postgres"]

_SCHEMES = ("postgresql", "postgres")
_SSL = ("disable", "prefer", "require", "verify-full")
_IDENTIFIER = re.compile(r"[a-z_][a-z0-9_]{0,62}")
_PORT, _SCHEMA, _MODE = 5432, "dataguard", "prefer"


def is_postgres(text: str) -> bool:
    """Return whether a text is the URL of a PostgreSQL server."""
    return text.startswith(tuple(f"{scheme}://" for scheme in _SCHEMES))


@dataclass(frozen=True, slots=True)
class Address:
    """A database on a server, and the schema in it that one vault has for itself.

    Attributes
    ----------
    user, host, port, database, schema : str, str, int, str, str
        A `host` that begins with ``/`` is the folder of a Unix socket.
    sslmode : str
        ``disable``, ``prefer`` (encrypted if the server can, never checked), ``require``, ``verify-full``.
    password : str
        Empty if the URL has none.
    """

    user: str
    host: str
    port: int
    database: str
    schema: str = _SCHEMA
    sslmode: str = _MODE
    password: str = field(default="", repr=False)

    @classmethod
    def parse(cls, url: str) -> Address:
        """Read ``postgresql://user[:password]@host[:port]/database[?schema=..&sslmode=..&host=/folder&port=..]``.

        Raises
        ------
        UsageError
            Another form. The message never holds the URL: there may be a password in it.
        """
        try:
            parts = urlsplit(url)
            options = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query)))
            port = int(options.pop("port", 0)) or parts.port or _PORT
            user, password = unquote(parts.username or ""), unquote(parts.password or "")
            host = options.pop("host", "") or unquote(parts.hostname or "localhost")
        except ValueError:
            raise _malformed("it cannot be read") from None
        database = unquote(parts.path.removeprefix("/"))
        schema, sslmode = options.pop("schema", _SCHEMA), options.pop("sslmode", _MODE)
        if parts.scheme not in _SCHEMES or not user or not database or "/" in database:
            raise _malformed("user or database is missing")
        if options or sslmode not in _SSL or _IDENTIFIER.fullmatch(schema) is None:
            raise _malformed("its options are schema=NAME, sslmode=MODE, host=FOLDER, port=NUMBER")
        return cls(user, host, port, database, schema, sslmode, password)

    def __str__(self) -> str:
        """Return the URL without the password: what a vault stores and messages show."""
        is_socket = self.host.startswith("/")
        host = "" if is_socket else f"[{self.host}]" if ":" in self.host else self.host
        options = [f"host={quote(self.host)}"] if is_socket else []
        options += [f"schema={self.schema}"] if self.schema != _SCHEMA else []
        options += [f"sslmode={self.sslmode}"] if self.sslmode != _MODE else []
        place = f"{quote(self.user, safe='')}@{host}:{self.port}/{quote(self.database, safe='')}"
        return f"postgresql://{place}" + ("?" + "&".join(options) if options else "")


def _malformed(why: str) -> UsageError:
    return UsageError(
        f"not a PostgreSQL URL ({why})",
        where="--registry",
        remedy="write postgresql://user@host:5432/database",
    )


def find_password(address: Address, environ: Mapping[str, str]) -> str | None:
    """Return the password for a server: of the URL, of ``PGPASSWORD``, or of the password file.

    The file is ``PGPASSFILE`` or ``~/.pgpass``; as PostgreSQL's own clients do, one that others can read is
    not used.
    """
    if address.password or environ.get("PGPASSWORD"):
        return address.password or environ["PGPASSWORD"]
    path = Path(environ.get("PGPASSFILE") or Path(environ.get("HOME", "~")).expanduser() / ".pgpass")
    try:
        if os.name == "posix" and path.stat().st_mode & 0o077:
            return None
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return None
    host = "localhost" if address.host.startswith("/") else address.host
    wanted = (host, str(address.port), address.database, address.user)
    for line in lines:
        fields = [re.sub(r"\\(.)", r"\1", part) for part in re.findall(r"((?:[^:\\]|\\.)*)(?::|$)", line)[:5]]
        if len(fields) == 5 and all(f in ("*", w) for f, w in zip(fields, wanted, strict=False)):
            return fields[4]
    return None
