"""The face of a provider's vault: keys, registry and ledger in one folder, and what can be done with them.

The only place where clock and entropy enter. Everything it does is a function of the
shells below; this file opens the parts and hands them down.
"""

from __future__ import annotations

import datetime as dt
import os
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from dataguard import backup, housing, investigate, protect, register, report, tracing
from dataguard._version import VERSION
from dataguard.audit import audit
from dataguard.budget import DEFAULT_BUDGET, Budget
from dataguard.errors import EvidenceError, KeyringError, LedgerError, UsageError
from dataguard.evidence.bundle import BundleWritten
from dataguard.holdings import OpenVault
from dataguard.housing import Ask, Settings
from dataguard.keyfile import KeyFiles
from dataguard.keys import MasterSecret, SigningKey
from dataguard.model import COMPARE_ALPHA, TRACE_ALPHA
from dataguard.registry import ledger
from dataguard.registry.sql import copy_records
from dataguard.registry.verification import Step, step, verify
from dataguard.sealing import passphrase_bytes

__all__ = ["Vault", "utc_now"]

Data = str | os.PathLike[str] | object
Phrase = str | Callable[[], str] | None


def utc_now() -> str:
    """Return the time as RFC 3339 text in UTC, to the second."""
    return dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class Vault:
    """An open vault. Make one with :meth:`create`, open it with :meth:`open`; use it in a ``with`` block.

    Parameters
    ----------
    parts : OpenVault
    settings : Settings
    ask : Ask
        Where its passphrase comes from.
    """

    def __init__(self, parts: OpenVault, settings: Settings, ask: Ask) -> None:
        self._parts, self._settings, self._ask = parts, settings, ask
        self._files = KeyFiles(parts.folder / housing.KEYS)

    @classmethod
    def create(
        cls,
        folder: str | os.PathLike[str],
        *,
        passphrase: str | None = None,
        registry: str | None = None,
        now: Callable[[], str] = utc_now,
    ) -> Vault:
        """Make a vault: signing key, master secret (mode 0600), empty registry, first ledger entry.

        Parameters
        ----------
        folder : path
        passphrase : str, optional
            Encrypts the key files.
        registry : str, optional
            URL of a PostgreSQL database; otherwise a SQLite file in the folder. The password is taken from
            the URL, ``PGPASSWORD`` or the password file, and not stored.
        now : callable
            The time as RFC 3339 text in UTC.

        Raises
        ------
        UsageError
            The folder already holds a vault, or cannot be written; the registry is another vault's.
        """
        root, secret = Path(folder), None if passphrase is None else passphrase_bytes(passphrase)
        settings = housing.make(root, secret, registry, now, secrets.token_bytes, os.environ)
        return cls._opened(root, settings, Ask(passphrase, os.environ), now)

    @classmethod
    def open(
        cls, folder: str | os.PathLike[str], *, passphrase: Phrase = None, now: Callable[[], str] = utc_now
    ) -> Vault:
        """Open an existing vault.

        Parameters
        ----------
        folder : path
        passphrase : str or callable, optional
            Used, or called, only if the keys are locked. The default is ``DATAGUARD_PASSPHRASE``.
        now : callable
            The time as RFC 3339 text in UTC.

        Raises
        ------
        UsageError
            No vault there.
        SchemeMismatch
            A vault of a newer version.
        KeyringError
            Keys missing, damaged, or readable by others; a missing or wrong passphrase.
        LedgerError
            Registry missing or damaged, or not that of the keys.
        """
        root = Path(folder)
        return cls._opened(root, housing.read_settings(root), Ask(passphrase, os.environ), now)

    @classmethod
    def _opened(cls, root: Path, settings: Settings, ask: Ask, now: Callable[[], str]) -> Vault:
        ring = KeyFiles(root / housing.KEYS).load(ask)
        store = housing.open_store(root, settings, os.environ)
        try:
            signing = housing.current_signing(ring, store, settings.identity, root)
            master = housing.master_of(ring, store)
        except BaseException:
            store.close()
            raise
        parts = OpenVault(root, store, master, signing, now, secrets.token_bytes, settings.identity)
        return cls(parts, settings, ask)

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
    def registry(self) -> str:
        """The registry's file, or its URL without a password."""
        return str(self._settings.registry or self._parts.folder / housing.REGISTRY)

    @property
    def public_key(self) -> bytes:
        """32 bytes: checks this vault's checkpoints and bundles."""
        return self._parts.signing.public_bytes

    @property
    def is_locked(self) -> bool:
        """Whether its keys need a passphrase."""
        return self._files.is_locked

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
        budget: Budget = DEFAULT_BUDGET,
    ) -> register.Registered:
        """Register an original or its next version (:func:`dataguard.register.register`)."""
        return register.register(
            self._parts, data, name=name, kind=kind, keep=keep,
            protect_columns=frozenset(protect_columns), tolerance=tolerance, budget=budget,
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
        budget: Budget = DEFAULT_BUDGET,
    ) -> protect.Exported:
        """Write one marked export for one recipient (:func:`dataguard.protect.protect`)."""
        return protect.protect(
            self._parts, name, recipient=recipient, out=out, force=force, terms=terms, expires=expires,
            budget=budget,
        )  # fmt: skip

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
        self,
        paths: Iterable[str | os.PathLike[str]],
        *,
        alpha: float = COMPARE_ALPHA,
        budget: Budget = DEFAULT_BUDGET,
    ) -> Iterator[investigate.ScanResult]:
        """Yield which registered datasets occur in which files (:func:`dataguard.investigate.scan`)."""
        return investigate.scan(self._parts, investigate.expand(paths), alpha=alpha, budget=budget)

    def trace(
        self,
        suspect: Data,
        *,
        dataset: str | None = None,
        alpha: float = TRACE_ALPHA,
        budget: Budget = DEFAULT_BUDGET,
    ) -> tracing.TraceResult:
        """Return whose copy a suspect corresponds to (:func:`dataguard.tracing.trace`)."""
        return tracing.trace(self._parts, suspect, dataset=dataset, alpha=alpha, budget=budget)

    def report(
        self,
        suspect: Data,
        *,
        out: str | os.PathLike[str],
        dataset: str | None = None,
        alpha: float = TRACE_ALPHA,
        force: bool = False,
        budget: Budget = DEFAULT_BUDGET,
    ) -> BundleWritten:
        """Write the evidence bundle of a suspect (:func:`dataguard.report.report`)."""
        return report.report(
            self._parts, suspect, out=Path(out), dataset=dataset, alpha=alpha, force=force, budget=budget
        )

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

    def ledger_verify(self) -> list[Step]:
        """Check the whole ledger (:func:`dataguard.registry.verification.verify`)."""
        return verify(self._parts.store, self._parts.identity)

    # --- keys ------------------------------------------------------------------------------------

    def set_passphrase(self, passphrase: str | None) -> None:
        """Encrypt the key files under a new passphrase, or leave them plain; atomic, the old ones are erased."""
        secret = None if passphrase is None else passphrase_bytes(passphrase)
        with self._parts.store.transaction():  # nobody rotates keys meanwhile
            ring = self._files.load(self._ask)
            self._files.save(ring, self._parts.entropy, secret)
        self._ask = Ask.known(secret)

    def rotate_signing_key(self) -> bytes:
        """Let a new signing key take over, acknowledged by the old one in the ledger; return its public key.

        The new key is on disk before the ledger names it, and the old one goes only afterwards: a crash at
        any point leaves a vault that opens.
        """
        parts = self._parts
        with parts.store.transaction():
            ring = housing.settled(self._files.load(self._ask), parts.store, parts.identity, parts.folder)
            new = SigningKey.generate(parts.entropy)
            self._files.save(replace(ring, successor=new), parts.entropy, self._ask.answer)
            ledger.rotate(
                parts.store, ring.signing, new, parts.origin,
                salt=parts.entropy(32), time=parts.now(), tool=VERSION,
            )  # fmt: skip
        with parts.store.transaction():
            ring = self._files.load(self._ask)
            ring = housing.settled(ring, parts.store, parts.identity, parts.folder)
            self._files.save(ring, parts.entropy, self._ask.answer)
        self._parts = replace(parts, signing=new)
        return new.public_bytes

    def rotate_master(self) -> int:
        """Add a master secret for lineages registered from now on, and return its number.

        Earlier lineages keep theirs: another one would give other marks.
        """
        parts = self._parts
        with parts.store.transaction():
            ring = self._files.load(self._ask)
            ring = replace(ring, masters=(*ring.masters, MasterSecret.generate(parts.entropy)))
            self._files.save(ring, parts.entropy, self._ask.answer)
            number = len(ring.masters) - 1
            parts.append("master-added", "", {"number": number, "tool": VERSION})
        self._parts = replace(parts, master=housing.master_of(ring, parts.store))
        return number

    # --- the vault as a whole ----------------------------------------------------------------------

    @classmethod
    def examine(cls, folder: str | os.PathLike[str], *, passphrase: Phrase = None) -> list[Step]:
        """Open and check a vault; one that does not open because it is damaged is a step that does not hold.

        Raises
        ------
        UsageError, SchemeMismatch, KeyringError
            As `open`, where nothing can be said about it.
        """
        problems = KeyFiles(Path(folder) / housing.KEYS).problems()
        try:
            opened = cls.open(folder, passphrase=passphrase)
        except LedgerError as error:
            return [step(0, "opening", [str(error)], "")]
        except KeyringError:
            if not problems:
                raise
            return [step(0, "opening", problems, "")]
        with opened:
            return opened.check()

    def check(self, *, is_moved: bool = False) -> list[Step]:
        """Check that the vault would still do its work (:func:`dataguard.audit.audit`)."""
        masters = len(self._files.load(self._ask).masters)
        return audit(self._parts, self._files.problems(), masters, is_moved=is_moved)

    def backup(
        self,
        out: str | os.PathLike[str],
        *,
        passphrase: str | None = None,
        plain_keys: bool = False,
        force: bool = False,
    ) -> backup.BackupWritten:
        """Write all of the vault to one file (:func:`dataguard.backup.write_backup`).

        Parameters
        ----------
        out : path
        passphrase : str, optional
            Encrypts the whole backup.
        plain_keys : bool
            Allow keys that are neither locked nor encrypted in a backup.
        force : bool
            Replace an existing file.

        Raises
        ------
        UsageError
            The keys would lie open; `out` exists or cannot be written.
        """
        if passphrase is None and not plain_keys and not self.is_locked:
            raise UsageError(
                "the keys would lie open in the backup",
                where=str(out),
                remedy="pass --encrypt, or --plain-keys if the file is kept as safe as the vault",
            )
        secret = None if passphrase is None else passphrase_bytes(passphrase)
        settings = replace(self._settings, registry=None).document()
        return backup.write_backup(
            self._parts.folder, self._parts.store, settings, Path(out), passphrase=secret,
            entropy=self._parts.entropy, time=self._parts.now(), force=force,
        )  # fmt: skip

    @classmethod
    def restore(
        cls,
        file: str | os.PathLike[str],
        folder: str | os.PathLike[str],
        *,
        passphrase: Phrase = None,
        backup_passphrase: Phrase = None,
        registry: str | None = None,
    ) -> list[Step]:
        """Unpack a backup into a new folder, check it as `check` does, and return the steps.

        Parameters
        ----------
        file, folder : path
        passphrase, backup_passphrase : str or callable, optional
            Of the keys, and of the backup as a whole.
        registry : str, optional
            URL of a PostgreSQL database to put the registry into.

        Raises
        ------
        UsageError, KeyringError
            As `open`; something in the folder.
        EvidenceError
            A damaged backup, or a vault that does not pass. Nothing is left in the folder.
        """

        def check(stage: Path) -> list[Step]:
            with cls.open(stage, passphrase=passphrase) as vault:
                steps = vault.check(is_moved=True)
                wrong = next((s for s in steps if not s.ok), None)
                if wrong is not None:
                    raise EvidenceError(
                        f"the vault in it does not pass: {wrong.name}: {wrong.detail}", where=str(file),
                        remedy="use another copy",
                    )  # fmt: skip
                if registry is not None:
                    settings = vault._settings.with_registry(registry)  # noqa: SLF001 - our own
                    with housing.open_store(stage, settings, os.environ, create=True) as server:
                        copy_records(vault._parts.store, server)  # noqa: SLF001
                    settings.write(stage)
            if registry is not None:
                (stage / housing.REGISTRY).unlink()
            return steps

        secret = Ask(backup_passphrase, {})() if backup.is_sealed(Path(file)) else None
        return backup.read_backup(Path(file), Path(folder), passphrase=secret, check=check)
