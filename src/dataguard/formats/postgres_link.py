"""Where a PostgreSQL server is and how to reach it, with the password in one place that never prints.

The rules are those of the PostgreSQL client library (manual, sections 34.1 and 34.16), as far as
pg8000 can follow them: URL first, then environment, then the password file.
"""

from __future__ import annotations

import contextlib
import getpass
import os
import re
import stat
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from dataguard.errors import DataguardError, DecodeError, UsageError

__all__ = ["Address", "link", "masked", "parse_postgres_url", "speaking"]

_TIMEOUT = 600.0
"""Seconds without a byte from the server before it counts as gone; sorting a large table is silent."""
_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
_SCHEMES = ("postgresql", "postgres")
_URL_PASSWORD = re.compile(r"(?<=://)([^/@?#]*?):[^/?#]*@")
_QUERY_PASSWORD = re.compile(r"(?<=[?&])(password|sslpassword)=[^&#]*", re.IGNORECASE)
_SENTENCES = {
    "28": "the server refuses the login",
    "3D000": "no such database",
    "42501": "permission denied",
    "42P01": "no such table",
    "53300": "the server has no free connection",
    "57P03": "the server is starting up or shutting down",
}


@dataclass(frozen=True, slots=True)
class Address:
    """One database on one server.

    Parameters
    ----------
    host : str
        Name or address; a folder, starting with "/", for a Unix socket in it.
    port : int
    database, user : str
    password : str or None
        Never part of `repr`.
    sslmode : str
        "disable", "prefer" (also for "allow"), "require", "verify-ca" or "verify-full".
    """

    host: str
    port: int
    database: str
    user: str
    password: str | None = field(repr=False)
    sslmode: str

    @property
    def shown(self) -> str:
        """URL without password, for people."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        if self.host.startswith("/"):
            return f"postgresql://{self.user}@/{self.database}?host={self.host}&port={self.port}"
        return f"postgresql://{self.user}@{host}:{self.port}/{self.database}"


def masked(text: str) -> str:
    """Return `text` with the password of a URL in it replaced by ``***``."""
    return _QUERY_PASSWORD.sub(r"\1=***", _URL_PASSWORD.sub(r"\1:***@", text))


def parse_postgres_url(url: str) -> Address:
    """Read ``postgresql://user:password@host:port/database?sslmode=...&host=/socket/folder``.

    What the URL leaves out comes from PGHOST, PGPORT, PGUSER, PGDATABASE, PGPASSWORD and
    PGSSLMODE, then from the password file (PGPASSFILE or ``~/.pgpass``), then from the defaults
    localhost, 5432, the name of the user, and his name as database.

    Raises
    ------
    UsageError
        Not such a URL, an option that is not known, a password file that others may read.
    """
    where = masked(url)
    try:
        parts = urlsplit(url)
        port, host = parts.port, unquote(parts.hostname or "")
    except ValueError:  # whose text may quote a part of the password
        raise UsageError("is no PostgreSQL URL", where=where, remedy=_remedy()) from None
    if parts.scheme not in _SCHEMES or parts.fragment:
        raise UsageError("is no PostgreSQL URL", where=where, remedy=_remedy())
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    unknown = sorted(set(options) - {"sslmode", "host", "port", "user", "password", "dbname"})
    if unknown:
        raise UsageError(f"unknown option {unknown[0]!r}", where=where, remedy="known are sslmode and host")

    def pick(given: str | None, option: str, variable: str, default: str) -> str:
        return options.get(option) or given or os.environ.get(variable) or default

    user = pick(unquote(parts.username or ""), "user", "PGUSER", "") or _login(where)
    database = pick(unquote(parts.path[1:]), "dbname", "PGDATABASE", user)
    number = pick(str(port or ""), "port", "PGPORT", "5432")
    mode = pick("", "sslmode", "PGSSLMODE", "prefer")
    if mode not in _MODES:
        raise UsageError(f"unknown sslmode {mode!r}", where=where, remedy=f"choose {', '.join(_MODES)}")
    if not number.isascii() or not number.isdigit() or not 0 < int(number) < 1 << 16:
        raise UsageError(f"{number!r} is no port", where=where, remedy="it is a number below 65,536")
    host = pick(host, "host", "PGHOST", "localhost")
    for word in (user, database, host):
        if "\0" in word:
            raise UsageError("holds a NUL byte", where=where)
    password = pick(unquote(parts.password or ""), "password", "PGPASSWORD", "")
    if not password:
        password = _from_file(host, number, database, user) or ""
    return Address(host, int(number), database, user, password or None, mode.replace("allow", "prefer"))


def _remedy() -> str:
    return "write postgresql://user@host:5432/database, special characters as %XX"


def _login(where: str) -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        raise UsageError("names no user", where=where, remedy="put it before the host: user@host") from None


def _from_file(host: str, port: str, database: str, user: str) -> str | None:
    """Password from the first line of the password file that fits (manual, section 34.16)."""
    path = Path(os.environ.get("PGPASSFILE") or Path.home() / ".pgpass")
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            return None
        if os.name == "posix" and status.st_mode & 0o077:
            raise UsageError("may be read by others", where=str(path), remedy="chmod 600 it")
        lines = path.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return None
    wanted = ("localhost" if host.startswith("/") else host, port, database, user)
    for line in lines:
        if line.startswith("#"):
            continue
        fields = [re.sub(r"\\(.)", r"\1", part) for part in re.findall(r"(?:^|:)((?:[^:\\]|\\.)*)", line)]
        if len(fields) >= 5 and all(f in ("*", w) for f, w in zip(fields, wanted, strict=False)):
            return fields[4]
    return None


@contextlib.contextmanager
def link(address: Address) -> Iterator[Any]:
    """Connect, and close at the end.

    Yields
    ------
    pg8000.native.Connection

    Raises
    ------
    UsageError
        No package pg8000, no server, login refused, no such database; see `speaking`.
    """
    try:
        from pg8000 import native
    except ImportError:
        raise UsageError(
            "PostgreSQL needs the package pg8000", remedy='pip install "dataguard[postgres]"'
        ) from None
    socket = f"{address.host}/.s.PGSQL.{address.port}" if address.host.startswith("/") else None
    with speaking(address):
        con = native.Connection(
            address.user,
            host=None if socket else address.host,
            port=address.port,
            database=address.database,
            password=address.password,
            unix_sock=socket,
            ssl_context=False if socket else _ssl(address.sslmode),
            timeout=_TIMEOUT,
            application_name="dataguard",
        )
    try:
        yield con
    finally:
        with contextlib.suppress(native.Error, OSError):
            con.close()


def _ssl(mode: str) -> Any:
    """Translate libpq's word into pg8000's: False never, None if offered, a context always."""
    import ssl

    if mode == "disable":
        return False
    if mode == "prefer":
        return None
    context = ssl.create_default_context()
    context.check_hostname = mode == "verify-full"
    if mode == "require":
        context.verify_mode = ssl.CERT_NONE
    return context


@contextlib.contextmanager
def speaking(address: Address) -> Iterator[None]:
    """Turn what goes wrong between us and the server into one line, without the password.

    Raises
    ------
    UsageError
        No server, login, database, table or permission.
    DecodeError
        Whatever answers is no PostgreSQL server, or went away.
    """
    from pg8000.exceptions import DatabaseError, InterfaceError

    try:
        yield
    except DatabaseError as error:
        raise _refusal(error, address) from None
    except InterfaceError as error:
        reason = str(error).splitlines()[0] if str(error) else "no answer"
        if "create a connection" in reason or reason == "communication error":
            cause = error.__cause__
            reason = getattr(cause, "strerror", None) or str(cause or reason)
            what = f"no server answers ({reason})"
            raise UsageError(what, where=address.shown, remedy="check host and port") from None
        if "password" in reason:
            raise _wants_password(address) from None
        if "SSL" in reason:
            remedy = "pass ?sslmode=disable if that is right"
            raise UsageError("the server refuses SSL", where=address.shown, remedy=remedy) from None
        raise DecodeError(f"the connection broke ({reason})", where=address.shown) from None
    except (OSError, struct.error, LookupError, ValueError, AttributeError) as error:
        if isinstance(error, AttributeError) and address.password is None:
            raise _wants_password(address) from None
        # A machine that speaks another protocol makes pg8000 stumble over its own messages.
        reason = type(error).__name__ if not isinstance(error, OSError) else str(error.strerror or error)
        raise DecodeError(
            f"does not answer as a PostgreSQL server does ({reason})",
            where=address.shown,
            remedy="check host and port, or try again",
        ) from None


def _wants_password(address: Address) -> UsageError:
    return UsageError(
        "the server wants a password", where=address.shown, remedy="put it into PGPASSWORD or ~/.pgpass"
    )


def _refusal(error: BaseException, address: Address) -> DataguardError:
    """One line for an error message of the server (manual, section 55.8 and appendix A)."""
    fields = error.args[0] if error.args and isinstance(error.args[0], dict) else {}
    code, reason = str(fields.get("C", "")), str(fields.get("M", "unknown error")).splitlines()[0]
    if address.password:
        reason = reason.replace(address.password, "***")
    what = _SENTENCES.get(code) or _SENTENCES.get(code[:2]) or "the server reports an error"
    return UsageError(f"{what} ({reason})", where=address.shown)
