"""A real PostgreSQL server in a temporary folder, for tests: import the fixtures by name.

``from postgres_server import postgres_server, postgres_url  # noqa: F401``
"""

from __future__ import annotations

import itertools
import os
import shutil
import socket
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest

PASSWORD = "se:cr/et@1"
"""Full of what a URL must write as %XX."""
_URL_PASSWORD = "se%3Acr%2Fet%401"


@dataclass(frozen=True)
class Server:
    folder: Path
    port: int
    numbers: itertools.count

    def url(self, database="postgres", *, password=_URL_PASSWORD, user="tester", by_socket=False):
        if by_socket:
            return f"postgresql://{user}:{password}@/{database}?host={self.folder}&port={self.port}"
        return f"postgresql://{user}:{password}@127.0.0.1:{self.port}/{database}"

    def run(self, database, *statements):
        """Run statements as the owner of the server, each in its own transaction; rows of the last."""
        import pg8000.native

        path = f"{self.folder}/.s.PGSQL.{self.port}"
        con = pg8000.native.Connection(
            "tester", unix_sock=path, database=database, password=PASSWORD, ssl_context=False
        )
        try:
            for statement in statements:
                rows = con.run(statement)
        finally:
            con.close()
        return rows


def _as_nobody(folder):
    """Prefix of a command that PostgreSQL, which refuses to be root, accepts."""
    if os.geteuid() != 0:
        return []
    shutil.chown(folder, "nobody")
    return ["setpriv", "--reuid=nobody", "--clear-groups"]


@pytest.fixture(scope="session")
def postgres_server():
    """A server on a free port and a Unix socket; one for each worker of pytest-xdist."""
    pytest.importorskip("pg8000")
    needed = ["initdb", "pg_ctl", "postgres", *(["setpriv"] if os.geteuid() == 0 else [])]
    for command in needed:
        if shutil.which(command) is None:
            pytest.skip(f"no PostgreSQL server here: {command} is missing")
    folder = Path(tempfile.mkdtemp(prefix="dgpg"))  # a socket's path must be short
    prefix = _as_nobody(folder)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    secret = folder / "secret"
    secret.write_text(PASSWORD)
    secret.chmod(0o644)
    data, log = str(folder / "data"), str(folder / "log")
    quiet = {"check": True, "stdout": subprocess.DEVNULL, "cwd": "/", "timeout": 120}
    init = ["initdb", "-U", "tester", "-A", "scram-sha-256", "--pwfile", str(secret), "-N", "-E", "UTF8"]
    subprocess.run([*prefix, *init, "--locale=C.UTF-8", "-D", data], **quiet)
    options = f"-k {folder} -p {port} -c listen_addresses=127.0.0.1 -c fsync=off -c shared_buffers=16MB"
    subprocess.run([*prefix, "pg_ctl", "-D", data, "-l", log, "-w", "-o", options, "start"], **quiet)
    try:
        yield Server(folder, port, itertools.count())
    finally:
        subprocess.run([*prefix, "pg_ctl", "-D", data, "-m", "immediate", "stop"], **quiet)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def postgres_url(postgres_server):
    """URL, password included, of a fresh empty database."""
    name = f"fresh{next(postgres_server.numbers)}"
    postgres_server.run("postgres", f"CREATE DATABASE {name}")
    return postgres_server.url(name)
