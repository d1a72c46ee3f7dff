"""The face of a provider's vault: keys, registry and ledger in one folder, and what can be done with them.

The only place where clock and entropy enter. Everything it does is a function of the
shells below; this file opens the parts and hands them down.
"""

from __future__ import annotations

import datetime as dt
import os
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from dataguard import investigate, protect, register, report, tracing
from dataguard._version import VERSION
from dataguard.canonical import canonical_json, parse_json
from dataguard.errors import LedgerError, SchemeMismatch, UsageError
from dataguard.evidence.bundle import BundleWritten
from dataguard.holdings import OpenVault
from dataguard.keys import KeyFiles
from dataguard.model import COMPARE_ALPHA, TRACE_ALPHA
from dataguard.registry import ledger
from dataguard.registry.sqlite import SqliteStore

__all__ = ["Vault", "utc_now"]

_FORMAT = "dataguard-vault/1"
_SETTINGS, _KEYS, _REGISTRY = "vault.json", "keys", "registry.sqlite"
_UNFINISHED = ".init-unfinished"
Data = str | os.PathLike[str] | object


def utc_now() -> str:
    """Return the time as RFC 3339 text in UTC, to the second."""
    return dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class Vault:
    """An open vault. Make one with :meth:`create`, open it with :meth:`open`; use it in a ``with`` block.

    Parameters
    ----------
    parts : OpenVault
    """

    def __init__(self, parts: OpenVault) -> None:
        self._parts = parts

    @classmethod
    def create(cls, folder: str | os.PathLike[str], *, now: Callable[[], str] = utc_now) -> Vault:
        """Make a vault: signing key, master secret (mode 0600), empty registry, first ledger entry.

        Raises
        ------
        UsageError
            The folder already holds a vault, or cannot be written.
        """
        root = Path(folder)
        if (root / _SETTINGS).exists():
            raise UsageError(
                "holds a vault already", where=str(root), remedy="use it, or choose another --vault"
            )
        try:
            # The slot plan in here undoes every mark, the keys make them: nobody else may look.
            root.mkdir(parents=True, exist_ok=True, mode=0o700)
            _clear_unfinished(root)
            (root / _UNFINISHED).touch()
            if not (root / ".gitignore").exists():
                (root / ".gitignore").write_text("*\n")
            _, signing = KeyFiles(root / _KEYS).create(secrets.token_bytes)
            public = signing.public_bytes.hex()
            with SqliteStore(root / _REGISTRY, create=True) as store:
                payload = {"public_key": public, "tool": VERSION}
                ledger.append(store, "vault-init", "", payload, salt=secrets.token_bytes(32), time=now())
            # The settings come last: a vault without them was never finished.
            settings = {"format": _FORMAT, "created": now(), "public_key": public}
            _write_durably(root / _SETTINGS, canonical_json(settings))
            (root / _UNFINISHED).unlink()
        except OSError as error:
            raise UsageError(
                f"cannot be written ({error.strerror})", where=str(root), remedy="choose another --vault"
            ) from None
        return cls.open(root, now=now)

    @classmethod
    def open(cls, folder: str | os.PathLike[str], *, now: Callable[[], str] = utc_now) -> Vault:
        """Open an existing vault.

        Raises
        ------
        UsageError
            No vault there.
        SchemeMismatch
            A vault of a newer version.
        KeyringError
            Keys missing, damaged, or readable by others.
        """
        root = Path(folder)
        settings = root / _SETTINGS
        if not settings.is_file():
            raise UsageError(
                "is no vault", where=str(root), remedy="make one with `dataguard init`, or pass --vault"
            )
        found = parse_json(settings.read_bytes(), where=str(settings))
        if not isinstance(found, dict) or found.get("format") != _FORMAT:
            raise SchemeMismatch(
                "vault of an unknown format", where=str(root), remedy=f"this version reads {_FORMAT}"
            )
        files = KeyFiles(root / _KEYS)
        master, signing = files.load_master(), files.load_signing()
        if signing.public_bytes.hex() != found["public_key"]:
            raise LedgerError(
                "signing key and vault do not belong together", where=str(root), remedy="restore both"
            )
        store = SqliteStore(root / _REGISTRY)
        return cls(OpenVault(root, store, master, signing, now, secrets.token_bytes))

    def close(self) -> None:
        """Release the registry."""
        self._parts.store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def folder(self) -> Path:
        """Where the vault lies."""
        return self._parts.folder

    @property
    def registry(self) -> Path:
        """The registry's file."""
        return self._parts.folder / _REGISTRY

    @property
    def public_key(self) -> bytes:
        """32 bytes: checks this vault's checkpoints and bundles."""
        return self._parts.signing.public_bytes

    # --- the three journeys ----------------------------------------------------------------------

    def register(
        self,
        data: Data,
        *,
        name: str,
        kind: str | None = None,
        keep: bool = True,
        protect_columns: Iterable[str] = (),
        tolerance: Mapping[str, float] | None = None,
    ) -> register.Registered:
        """Register an original or its next version (:func:`dataguard.register.register`)."""
        return register.register(
            self._parts, data, name=name, kind=kind, keep=keep,
            protect_columns=frozenset(protect_columns), tolerance=tolerance,
        )  # fmt: skip

    def protect(
        self,
        name: str,
        *,
        recipient: str,
        out: str | os.PathLike[str],
        force: bool = False,
        terms: str | os.PathLike[str] | None = None,
        expires: str | None = None,
    ) -> protect.Exported:
        """Write one marked export for one recipient (:func:`dataguard.protect.protect`)."""
        return protect.protect(
            self._parts, name, recipient=recipient, out=out, force=force, terms=terms, expires=expires
        )

    def commit_recipients(self, name: str, recipients: Iterable[str]) -> int:
        """Commit mark keys for recipients ahead of their first export; return how many there are now."""
        dataset = self._parts.store.latest_dataset(name)
        with self._parts.store.transaction():
            for recipient in recipients:
                protect.commit_recipient(self._parts, dataset, recipient)
        return len(self._parts.store.list_mark_keys(lineage=dataset.lineage))

    def is_registered(self, name: str) -> bool:
        """Return whether a dataset of this name is registered."""
        return bool(self._parts.store.list_datasets(name=name))

    def scan(
        self, paths: Iterable[str | os.PathLike[str]], *, alpha: float = COMPARE_ALPHA
    ) -> Iterator[investigate.ScanResult]:
        """Yield which registered datasets occur in which files (:func:`dataguard.investigate.scan`)."""
        return investigate.scan(self._parts, investigate.expand(paths), alpha=alpha)

    def trace(
        self, suspect: Data, *, dataset: str | None = None, alpha: float = TRACE_ALPHA
    ) -> tracing.TraceResult:
        """Return whose copy a suspect corresponds to (:func:`dataguard.tracing.trace`)."""
        return tracing.trace(self._parts, suspect, dataset=dataset, alpha=alpha)

    def report(
        self,
        suspect: Data,
        *,
        out: str | os.PathLike[str],
        dataset: str | None = None,
        alpha: float = TRACE_ALPHA,
        force: bool = False,
    ) -> BundleWritten:
        """Write the evidence bundle of a suspect (:func:`dataguard.report.report`)."""
        return report.report(self._parts, suspect, out=Path(out), dataset=dataset, alpha=alpha, force=force)

    # --- the ledger ------------------------------------------------------------------------------

    def ledger_entries(self) -> list[ledger.Entry]:
        """Return all ledger entries, opened."""
        return ledger.entries(self._parts.store)

    def ledger_headers(self) -> list[dict[str, Any]]:
        """Return the headers: enough to recompute the root and count entries, and nothing more."""
        return ledger.headers(self._parts.store)

    def ledger_root(self) -> str:
        """Return the root of the whole ledger in hex."""
        return ledger.root(self._parts.store).hex()

    def ledger_checkpoint(self) -> ledger.Checkpoint:
        """Sign the ledger's size and root, and keep the statement."""
        return ledger.checkpoint(
            self._parts.store, self._parts.signing, self._parts.origin, self._parts.now()
        )

    def ledger_verify(self) -> list[ledger.Step]:
        """Check the whole ledger (:func:`dataguard.registry.ledger.verify`)."""
        return ledger.verify(self._parts.store, self.public_key)


def _clear_unfinished(root: Path) -> None:
    """Remove what an `init` that was cut short has left: only where its own marker says so, and only its files."""
    if not (root / _UNFINISHED).exists():
        return
    for name in ("master.key", "signing.key"):
        (root / _KEYS / name).unlink(missing_ok=True)
    for left in root.glob(_REGISTRY + "*"):
        left.unlink()


def _write_durably(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
