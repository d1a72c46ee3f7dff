"""How a vault stands on disk: its settings, which registry it has, which of its keys count today.

Below the face, so that making, opening and restoring a vault are plain functions; clock, entropy and
environment are handed in.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dataguard._version import VERSION
from dataguard.canonical import canonical_json, parse_json
from dataguard.dsse import keyid
from dataguard.errors import EvidenceError, KeyringError, LedgerError, SchemeMismatch, UsageError
from dataguard.formats.atomic import atomic_write, sync_folder
from dataguard.keyfile import KeyFiles, KeyRing
from dataguard.keys import Entropy, MasterRing, MasterSecret, SigningKey
from dataguard.registry import ledger
from dataguard.registry.address import Address, find_password
from dataguard.registry.postgres import PostgresStore
from dataguard.registry.sql import SqlStore
from dataguard.registry.sqlite import SqliteStore
from dataguard.registry.store import Store
from dataguard.sealing import passphrase_bytes

__all__ = [
    "KEYS",
    "REGISTRY",
    "Ask",
    "Settings",
    "current_signing",
    "make",
    "master_of",
    "open_store",
    "read_settings",
    "settled",
]

FORMAT = "dataguard-vault/1"
SETTINGS, KEYS, REGISTRY = "vault.json", "keys", "registry.sqlite"
PASSPHRASE = "DATAGUARD_PASSPHRASE"  # noqa: S105 - the name of a variable
_UNFINISHED = ".init-unfinished"


class Ask:
    """Where a passphrase comes from, asked only when keys turn out to be locked, and at most once.

    Parameters
    ----------
    given : str, callable or None
        The passphrase, or what asks for it.
    environ : mapping
        Looked up for ``DATAGUARD_PASSPHRASE`` where nothing is given.
    """

    __slots__ = ("_given", "answer")

    def __init__(self, given: str | Callable[[], str] | None, environ: Mapping[str, str]) -> None:
        self._given = environ.get(PASSPHRASE) if given is None else given
        self.answer: bytes | None = None

    @classmethod
    def known(cls, answer: bytes | None) -> Ask:
        """Return one that has its answer."""
        made = cls(None, {})
        made.answer = answer
        return made

    def __call__(self) -> bytes:
        """Return the passphrase as bytes; KeyringError where there is none."""
        if self.answer is None:
            text = self._given() if callable(self._given) else self._given
            if not text:
                raise KeyringError(
                    "a passphrase is needed", remedy=f"set {PASSPHRASE}, pass a file, or use a terminal"
                )
            self.answer = passphrase_bytes(text)
        return self.answer

    def __repr__(self) -> str:
        return "Ask(...)"


@dataclass(frozen=True, slots=True)
class Settings:
    """What ``vault.json`` says.

    Attributes
    ----------
    created : str
        RFC 3339 UTC.
    identity : bytes
        The first public signing key, 32 bytes; it names the vault for good.
    registry : Address or None
        The server its registry is on; None for the SQLite file in the folder.
    """

    created: str
    identity: bytes
    registry: Address | None = None

    def document(self) -> dict[str, Any]:
        """Return the JSON document; a password is never in it."""
        found: dict[str, Any] = {"format": FORMAT, "created": self.created, "public_key": self.identity.hex()}
        return found if self.registry is None else {**found, "registry": str(self.registry)}

    def with_registry(self, url: str) -> Settings:
        """Return the settings of the same vault with its registry at `url`."""
        return replace(self, registry=Address.parse(url))

    def write(self, root: Path) -> None:
        """Write them durably."""
        with atomic_write(root / SETTINGS, force=True) as file:
            file.write(canonical_json(self.document()))


def read_settings(root: Path) -> Settings:
    """Return the settings of the vault in a folder; what marks its `init` as unfinished goes.

    Raises
    ------
    UsageError
        There is none.
    SchemeMismatch
        Of another format.
    LedgerError
        Damaged.
    """
    path = root / SETTINGS
    if not path.is_file():
        raise UsageError(
            "is no vault", where=str(root), remedy="make one with `dataguard init`, or pass --vault"
        )
    try:
        found = parse_json(path.read_bytes(), where=str(path))
    except EvidenceError as error:
        raise LedgerError(error.what, where=str(path), remedy="restore a backup") from None
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise SchemeMismatch(
            "vault of an unknown format",
            where=str(root),
            remedy=f"this version reads {FORMAT}; use a newer dataguard",
        )
    try:
        identity = bytes.fromhex(found["public_key"])
        registry = Address.parse(found["registry"]) if found.get("registry") else None
        created = str(found["created"])
    except (KeyError, TypeError, ValueError, AttributeError):
        identity, registry, created = b"", None, ""
    if len(identity) != 32:
        raise LedgerError("settings are damaged", where=str(path), remedy="restore a backup")
    with contextlib.suppress(OSError):  # an `init` killed at its last step; no later one may clear its keys
        if (root / _UNFINISHED).exists():
            (root / _UNFINISHED).unlink(missing_ok=True)
    return Settings(created, identity, registry)


def open_store(
    root: Path,
    settings: Settings,
    environ: Mapping[str, str],
    *,
    create: bool = False,
    abandoned: frozenset[str] = frozenset(),
) -> SqlStore:
    """Open, or make, the registry that the settings name; `environ` is looked up for a server's password."""
    if settings.registry is None:
        return SqliteStore(root / REGISTRY, create=create)
    password = find_password(settings.registry, environ)
    return PostgresStore(
        settings.registry,
        vault=keyid(settings.identity),
        password=password,
        create=create,
        abandoned=abandoned,
    )


def make(
    root: Path,
    secret: bytes | None,
    registry: str | None,
    now: Callable[[], str],
    entropy: Entropy,
    environ: Mapping[str, str],
) -> Settings:
    """Make a vault; the settings come last, so that a vault without them was never finished.

    Raises
    ------
    UsageError
        The folder already holds a vault, or cannot be written; the registry is another vault's.
    """
    _check_free(root)
    address = None if registry is None else Address.parse(registry)
    try:
        # The slot plan in here undoes every mark, the keys make them: nobody else may look.
        root.mkdir(parents=True, exist_ok=True, mode=0o700)
        with _alone(root) as abandoned:
            _check_free(root)  # another `init` may have been faster
            settings = _fill(root, secret, address, now, entropy, environ, abandoned)
        sync_folder(root.absolute().parent)
    except OSError as error:
        raise UsageError(
            f"cannot be written ({error.strerror})", where=str(root), remedy="choose another --vault"
        ) from None
    return settings


def _fill(
    root: Path,
    secret: bytes | None,
    address: Address | None,
    now: Callable[[], str],
    entropy: Entropy,
    environ: Mapping[str, str],
    abandoned: frozenset[str],
) -> Settings:
    if not (root / ".gitignore").exists():
        (root / ".gitignore").write_text("*\n")
    ring = KeyFiles(root / KEYS).create(entropy, secret)
    settings = Settings(now(), ring.signing.public_bytes, address)
    if address is not None:
        # A registry on a server outlives this folder: the next attempt must know it as its own.
        _append_durably(root / _UNFINISHED, f"\n{keyid(settings.identity)}".encode())
    with open_store(root, settings, environ, create=True, abandoned=abandoned) as store:
        payload = {"public_key": settings.identity.hex(), "tool": VERSION}
        ledger.append(store, "vault-init", "", payload, salt=entropy(32), time=settings.created)
    settings.write(root)
    return settings


def _check_free(root: Path) -> None:
    if (root / SETTINGS).exists():
        with contextlib.suppress(OSError):
            (root / _UNFINISHED).unlink(missing_ok=True)
        raise UsageError("holds a vault already", where=str(root), remedy="use it, or choose another --vault")


@contextlib.contextmanager
def _alone(root: Path) -> Iterator[frozenset[str]]:
    """Mark the folder as unfinished for the time being, and be the only one who does (POSIX).

    What an earlier `init` has left is cleared, where its mark says so and nobody is at work on it. Yielded
    are the key ids of vaults it began on a server.
    """
    marker = root / _UNFINISHED
    try:
        descriptor, is_new = os.open(marker, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600), True
    except FileExistsError:
        descriptor, is_new = os.open(marker, os.O_RDWR), False
    try:
        if os.name == "posix":
            import fcntl

            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UsageError("another `init` is at work here", where=str(root), remedy="wait") from None
            except OSError:  # a file system without locks: as without this check
                pass
        if not is_new:
            _check_free(root)
        yield frozenset() if is_new else _clear_unfinished(root)
        marker.unlink(missing_ok=True)
    finally:
        os.close(descriptor)


def _clear_unfinished(root: Path) -> frozenset[str]:
    """Remove what an `init` that was cut short has left, and only that."""
    for name in ("master.key", "signing.key", "locked.key"):
        (root / KEYS / name).unlink(missing_ok=True)
    for left in root.glob(REGISTRY + "*"):
        left.unlink()
    return frozenset((root / _UNFINISHED).read_text(encoding="ascii", errors="replace").split())


def _append_durably(path: Path, data: bytes) -> None:
    with path.open("ab") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


# --- which keys count ----------------------------------------------------------------------------


def settled(ring: KeyRing, store: Store, identity: bytes, root: Path) -> KeyRing:
    """Return the keys with the one as signing key that the ledger names, and no successor.

    Raises
    ------
    LedgerError
        None of them is.
    """
    links = ledger.rotations(store)
    current = links[-1].new if links else identity
    for key in (ring.signing, ring.successor):
        if key is not None and key.public_bytes == current and (not links or links[0].old == identity):
            return replace(ring, signing=key, successor=None)
    raise LedgerError(
        "signing key and vault do not belong together", where=str(root), remedy="restore both from a backup"
    )


def current_signing(ring: KeyRing, store: Store, identity: bytes, root: Path) -> SigningKey:
    """Return the signing key that the ledger names; LedgerError if it is not here."""
    return settled(ring, store, identity, root).signing


def master_of(ring: KeyRing, store: Store) -> MasterSecret:
    """Return the master secret, or the ring that finds each lineage's own."""
    if len(ring.masters) == 1:
        return ring.masters[0]
    known: dict[str, str] = {}

    def scope_of(lineage: str) -> str | None:
        if lineage not in known:
            known.update(ledger.lineage_scopes(store))
        return known.get(lineage)

    return MasterRing(ring.masters, scope_of)
