"""Where a vault's keys lie: one line each in files nobody else may read, or all in one locked file.

Plain files suit a disk that is encrypted anyway and can be printed on paper; the locked file
needs a passphrase. Every change is a new file that takes its name when it is on disk, so a
power cut leaves the old keys or the new ones, never half of one.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from dataguard import sealing
from dataguard.errors import KeyringError
from dataguard.keys import Entropy, MasterSecret, SigningKey

__all__ = ["KeyFiles", "KeyRing", "Passphrase"]

Passphrase = Callable[[], bytes]
"""Asked only when keys turn out to be locked; returns ``sealing.passphrase_bytes`` of what the user gives."""

_PLAIN, _LOCKED = "dataguard-key/1", "dataguard-locked/1"
_LOCK = "locked"
_MAX_BYTES = 1 << 20
_NAME = re.compile(r"master(?:-[1-9][0-9]{0,3})?|signing|signing-next")


@dataclass(frozen=True, slots=True, repr=False)
class KeyRing:
    """All keys of one vault.

    Attributes
    ----------
    masters : tuple of MasterSecret
        By number, from 0; new datasets use the last one, older ones stay readable by theirs.
    signing : SigningKey
        What signs the ledger and bundles.
    successor : SigningKey or None
        The next signing key while a rotation is under way; the ledger says which of the two counts.
    """

    masters: tuple[MasterSecret, ...]
    signing: SigningKey
    successor: SigningKey | None = None

    def lines(self) -> dict[str, bytes]:
        """Return each key's line by the name of its file."""
        names = ["master", *(f"master-{i}" for i in range(1, len(self.masters)))]
        found = {n: _key_line(n, m.reveal()) for n, m in zip(names, self.masters, strict=True)}
        found["signing"] = _key_line("signing", self.signing.reveal())
        if self.successor is not None:
            found["signing-next"] = _key_line("signing-next", self.successor.reveal())
        return found

    @classmethod
    def of(cls, lines: dict[str, bytes], where: str) -> KeyRing:
        """Return the keys that `lines` hold; KeyringError if one is damaged or a number is missing."""
        values = {name: _value(name, line, where) for name, line in lines.items()}
        masters = [values.pop("master", b"")]
        while (name := f"master-{len(masters)}") in values:
            masters.append(values.pop(name))
        signing, successor = values.pop("signing", b""), values.pop("signing-next", None)
        if values or not masters[0] or not signing:
            raise KeyringError("a key is missing", where=where, remedy="restore it from a backup")
        return cls(
            tuple(MasterSecret(m) for m in masters),
            SigningKey(signing),
            None if successor is None else SigningKey(successor),
        )


@dataclass(frozen=True, slots=True)
class KeyFiles:
    """The key files of one vault, in a private folder.

    Plain: ``master.key``, ``signing.key`` (and after rotations ``master-1.key``, ...), each one line:
    ``dataguard-key/1``, the name, 64 hex digits, and 8 hex digits of SHA-256 over what precedes them, so
    that a copying error on a paper backup is noticed. Locked: ``locked.key`` with all these lines, encrypted.

    Attributes
    ----------
    folder : Path
        Made with mode 0700; the files have 0600.
    cost : Cost
        Of a passphrase, when a locked file is written.
    """

    folder: Path
    cost: sealing.Cost = sealing.DEFAULT_COST

    @property
    def is_locked(self) -> bool:
        """Whether a passphrase is needed."""
        return os.path.lexists(self._path(_LOCK))

    def create(self, entropy: Entropy, passphrase: bytes | None = None) -> KeyRing:
        """Draw the first keys, write them durably, and return them.

        Raises
        ------
        KeyringError
            A key file exists already (none is ever overwritten), or the folder cannot be written.
        """
        ring = KeyRing((MasterSecret.generate(entropy),), SigningKey.generate(entropy))
        if any(os.path.lexists(self._path(name)) for name in ("master", "signing", _LOCK)):
            raise KeyringError(
                "keys exist and are never overwritten", where=str(self.folder), remedy="use them as they are"
            )
        with self._writing():
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._write_all(self._contents(ring, entropy, passphrase))
        return ring

    def load(self, passphrase: Passphrase | None = None) -> KeyRing:
        """Return all keys; `passphrase` is asked only where they are locked.

        Raises
        ------
        KeyringError
            A file is missing, damaged or readable by others; or the passphrase is missing or wrong.
        """
        if self.is_locked:
            return self._unlock(passphrase)
        lines = {name: self._read(name) for name in ("master", "signing")}
        for name in self._names() - set(lines):
            lines[name] = self._read(name)
        return KeyRing.of(lines, str(self.folder))

    def save(self, ring: KeyRing, entropy: Entropy, passphrase: bytes | None) -> None:
        """Replace what is kept by `ring`: plain files, or the locked one where a passphrase is given.

        What it replaces goes only when the new is on disk, and is overwritten first (which reaches the
        old blocks on a plain disk, not on a flash disk or a copy-on-write file system).

        Raises
        ------
        KeyringError
            The folder cannot be written; the old keys are still there.
        """
        wanted = self._contents(ring, entropy, passphrase)
        with self._writing():
            for name, data in wanted.items():
                self._replace(name, data)
            _sync(self.folder)
            for name in {*self._names(), _LOCK} - set(wanted):
                _erase(self._path(name))
            _sync(self.folder)

    def problems(self) -> list[str]:
        """Return what is wrong with the files themselves, read or not: modes, strangers, leftovers."""
        found = []
        if os.name == "posix" and self.folder.is_dir() and self.folder.stat().st_mode & 0o077:
            found.append(f"{self.folder} is open to others; chmod 700 {self.folder}")
        for path in sorted(self.folder.glob("*.key")):
            if os.name == "posix" and (path.is_symlink() or path.stat().st_mode & 0o077):
                found.append(f"{path.name} is a link or open to others; chmod 600 {path}")
            if path.stem != _LOCK and self.is_locked:
                found.append(f"{path.name} lies open beside the locked keys; run: dataguard vault passphrase")
        return found

    # --- inside ------------------------------------------------------------------------------

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.key"

    def _names(self) -> set[str]:
        return {path.stem for path in self.folder.glob("*.key") if _NAME.fullmatch(path.stem)}

    def _contents(self, ring: KeyRing, entropy: Entropy, passphrase: bytes | None) -> dict[str, bytes]:
        lines = ring.lines()
        if passphrase is None:
            return lines
        salt, nonce = entropy(sealing.SALT_BYTES), entropy(sealing.NONCE_BYTES)
        header = f"{_LOCKED} {self.cost} {salt.hex()} {nonce.hex()}".encode()
        key = self.cost.stretch(passphrase, salt)
        sealed = sealing.seal(key, nonce, b"".join(lines.values()), header)
        return {_LOCK: _checked(header.decode() + " " + sealed.hex())}

    def _write_all(self, contents: dict[str, bytes]) -> None:
        written: list[Path] = []
        try:
            for name, data in contents.items():
                _write_new(self._path(name), data)  # refused also when another process has made one since
                written.append(self._path(name))
            _sync(self.folder)
        except BaseException:
            for path in written:
                path.unlink()
            raise

    def _unlock(self, passphrase: Passphrase | None) -> KeyRing:
        data, where = self._read(_LOCK), str(self._path(_LOCK))
        text = data.decode("ascii", "replace")
        match = re.fullmatch(
            rf"({_LOCKED} ([^ ]+ [^ ]+ [^ ]+ [^ ]+) ([0-9a-f]{{32}}) ([0-9a-f]{{24}})) ((?:[0-9a-f]{{2}})+) \w{{8}}\n",
            text,
        )
        if match is None or not hmac.compare_digest(_checked(text[:-10]), data):
            raise KeyringError("locked key file is damaged", where=where, remedy="restore it from a backup")
        cost, salt, nonce = sealing.Cost.parse(match[2]), bytes.fromhex(match[3]), bytes.fromhex(match[4])
        if passphrase is None:
            raise KeyringError(
                "keys are locked", where=where, remedy="set DATAGUARD_PASSPHRASE or pass --passphrase-file"
            )
        key = cost.stretch(passphrase(), salt)
        plain = sealing.unseal(key, nonce, bytes.fromhex(match[5]), match[1].encode())
        if plain is None:
            raise KeyringError("wrong passphrase", where=where, remedy="try again; nothing was changed")
        lines = plain.splitlines(keepends=True)
        return KeyRing.of({line.split(b" ")[1].decode(): line for line in lines}, where)

    def _read(self, name: str) -> bytes:
        path = self._path(name)
        try:
            with path.open("rb") as file:
                mode = os.fstat(file.fileno()).st_mode  # of the file opened, not of a name swapped since
                data = file.read(_MAX_BYTES)
        except OSError as error:
            raise KeyringError(
                f"cannot read key ({error.strerror})", where=str(path), remedy="restore it from a backup"
            ) from None
        if os.name == "posix" and mode & 0o077:
            raise KeyringError("key file is open to others", where=str(path), remedy=f"chmod 600 {path}")
        if name != _LOCK:
            _value(name, data, str(path))  # said here with the path of the one file
        return data

    def _replace(self, name: str, data: bytes) -> None:
        path = self._path(name)
        if path.is_file() and path.read_bytes() == data:
            return
        fresh = path.with_name(f".{name}.key.part")
        fresh.unlink(missing_ok=True)
        _write_new(fresh, data)
        try:
            old = os.open(path, os.O_WRONLY)
        except FileNotFoundError:
            fresh.replace(path)
            return
        try:
            fresh.replace(path)
            _sync(self.folder)
            _overwrite(old)
        finally:
            os.close(old)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise KeyringError(
                f"cannot write keys ({error.strerror})",
                where=str(self.folder),
                remedy="choose another folder",
            ) from None


def _write_new(path: Path, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        path.unlink(missing_ok=True)  # half a key must not block the next attempt
        raise


def _erase(path: Path) -> None:
    try:
        old = os.open(path, os.O_WRONLY)
    except FileNotFoundError:
        return
    try:
        path.unlink()
        _overwrite(old)
    finally:
        os.close(old)


def _overwrite(descriptor: int) -> None:
    """Put zeros over a file that has lost its name; one that has another name (a backup) is left alone."""
    state = os.fstat(descriptor)
    if state.st_nlink == 0:
        os.write(descriptor, bytes(min(state.st_size, _MAX_BYTES)))
        os.fsync(descriptor)


def _sync(folder: Path) -> None:
    if os.name == "posix":  # a name survives a power cut only once the folder is on disk too
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _checked(text: str) -> bytes:
    return f"{text} {hashlib.sha256(text.encode()).hexdigest()[:8]}\n".encode()


def _key_line(name: str, value: bytes) -> bytes:
    return _checked(f"{_PLAIN} {name} {value.hex()}")


def _value(name: str, line: bytes, where: str) -> bytes:
    match = re.search(rb" ([0-9a-f]{64}) ", line)
    value = bytes.fromhex(match[1].decode()) if match else b""
    if not hmac.compare_digest(_key_line(name, value), line):
        raise KeyringError("key file is damaged", where=where, remedy="restore it from a backup")
    return value
