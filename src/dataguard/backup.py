"""A vault in one file, and back: every file with its digest, nothing compressed, nothing optional.

The archive format is our own because it is small enough to be read strictly: names come from a short
list, sizes must add up to the file's length before a byte is written, and the whole either
appears or does not. It can be encrypted as a whole; docs/formats.md, section 12.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import re
import shutil
import struct
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol, TypeVar

from dataguard import sealing
from dataguard.canonical import canonical_json, parse_json
from dataguard.errors import EvidenceError, KeyringError, UsageError
from dataguard.formats.atomic import atomic_directory, atomic_write
from dataguard.registry.store import Store

__all__ = ["BackupWritten", "is_sealed", "read_backup", "write_backup"]

FORMAT = "dataguard-backup/1"
_MAX_MANIFEST = 64 * 1024 * 1024
_MAX_NAME = 1024
_PIECE = 1 << 20
_SETTINGS, _REGISTRY = "vault.json", "registry.sqlite"
_ALLOWED = re.compile(
    r"vault\.json|registry\.sqlite|\.gitignore|keys/[a-z0-9-]{1,40}\.key|datasets/.+", re.DOTALL
)
_LINE = re.compile(
    rf"{FORMAT} (?:plain|locked ([^ ]+ [^ ]+ [^ ]+ [^ ]+) ([0-9a-f]{{32}}) ([0-9a-f]{{14}}))\n"
)


R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class BackupWritten:
    """A backup that lies on disk.

    Attributes
    ----------
    out : str
    files, bytes : int
        What it holds.
    encrypted : bool
        As a whole; keys that were locked stay locked either way.
    """

    out: str
    files: int
    bytes: int
    encrypted: bool

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON document of ``dataguard vault backup``."""
        fields = {"out": self.out, "files": self.files, "bytes": self.bytes, "encrypted": self.encrypted}
        return {"schema": "dataguard.backup/1", **fields}


class _Sink(Protocol):
    def write(self, data: bytes, /) -> object: ...


class _Source(Protocol):
    def read(self, size: int, /) -> bytes: ...


@dataclass(frozen=True, slots=True)
class _File:
    path: str
    size: int
    sha256: str


# --- writing ---------------------------------------------------------------------------------------


def write_backup(
    folder: Path,
    store: Store,
    settings: Mapping[str, Any],
    out: Path,
    *,
    passphrase: bytes | None,
    entropy: Callable[[int], bytes],
    time: str,
    cost: sealing.Cost = sealing.DEFAULT_COST,
    force: bool = False,
) -> BackupWritten:
    """Write everything of a vault to one file, which appears whole or not at all, mode 0600.

    Parameters
    ----------
    folder : Path
        The vault.
    store : Store
        Its registry, of which a snapshot is taken: others may go on writing.
    settings : mapping
        What ``vault.json`` is to hold.
    out : Path
    passphrase : bytes or None
        Encrypts the whole (``sealing.passphrase_bytes``).
    entropy : callable
        Random bytes, by count.
    time : str
        RFC 3339 UTC.
    cost : Cost
        Of the passphrase.
    force : bool
        Replace an existing file.

    Raises
    ------
    UsageError
        `out` exists or cannot be written; a link in the vault; keys that keep changing.
    """
    with _stage(folder) as stage:
        # Keys stay in memory: a backup that is killed leaves at most a snapshot of the registry, mode 0600.
        keys = _snapshot(folder, store, stage)
        sources: dict[str, Path | bytes] = {
            _SETTINGS: canonical_json(settings), _REGISTRY: stage / _REGISTRY,
            **{f"keys/{name}": data for name, data in keys.items()}, **_datasets(folder),
        }  # fmt: skip
        if (folder / ".gitignore").is_file():
            sources[".gitignore"] = folder / ".gitignore"
        listed = [_described(name, sources[name]) for name in sorted(sources)]
        manifest = canonical_json({
            "format": FORMAT, "created": time,
            "files": [{"path": f.path, "size": f.size, "sha256": f.sha256} for f in listed],
        })  # fmt: skip
        with atomic_write(out, force=force, private=True) as file:
            _write(file, manifest, [(f, sources[f.path]) for f in listed], passphrase, entropy, cost)
    return BackupWritten(str(out), len(listed), sum(f.size for f in listed), passphrase is not None)


@contextlib.contextmanager
def _stage(folder: Path) -> Iterator[Path]:
    """Make a private folder for the time being."""
    try:
        held = tempfile.TemporaryDirectory(prefix=".backup-", dir=folder)
    except OSError as error:
        raise UsageError(
            f"cannot be written ({error.strerror})", where=str(folder), remedy="a backup needs some room here"
        ) from None
    with held as stage:
        yield Path(stage)


def _snapshot(folder: Path, store: Store, stage: Path) -> dict[str, bytes]:
    """Put the registry into `stage` and return the key files by name, both as they are at one moment."""
    for _ in range(5):
        before = _key_files(folder)
        store.snapshot(stage / _REGISTRY)
        if _key_files(folder) == before:  # else keys were changed meanwhile: the two might not fit
            return before
        (stage / _REGISTRY).unlink()
    raise UsageError("keys keep changing", where=str(folder), remedy="try again when no one rotates them")


def _key_files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((folder / "keys").glob("*.key"))}


def _datasets(folder: Path) -> dict[str, Path]:
    """Return the files of the datasets, without those of a registration that is under way."""
    found: dict[str, Path] = {}
    for place, folders, files in os.walk(folder / "datasets"):
        folders[:] = sorted(name for name in folders if not _is_unfinished(name))
        for name in [*folders, *files]:
            path = Path(place, name)
            if path.is_symlink() or not (path.is_dir() or path.is_file()):
                raise UsageError("a link or device in the vault", where=str(path), remedy="put a file there")
        found |= {
            Path(place, name).relative_to(folder).as_posix(): Path(place, name)
            for name in files
            if not _is_unfinished(name)
        }
    return found


def _is_unfinished(name: str) -> bool:
    return name.startswith(".") and name.endswith((".part", ".old"))


def _described(name: str, source: Path | bytes) -> _File:
    with _reading(source) as file:
        size, digest = 0, hashlib.sha256()
        while piece := file.read(_PIECE):
            size += len(piece)
            digest.update(piece)
    return _File(name, size, digest.hexdigest())


def _reading(source: Path | bytes) -> BinaryIO:
    return io.BytesIO(source) if isinstance(source, bytes) else source.open("rb")


def _write(
    file: BinaryIO,
    manifest: bytes,
    files: Sequence[tuple[_File, Path | bytes]],
    passphrase: bytes | None,
    entropy: Callable[[int], bytes],
    cost: sealing.Cost,
) -> None:
    line, sink, seal = f"{FORMAT} plain\n".encode(), _as_sink(file), None
    if passphrase is not None:
        salt, prefix = entropy(sealing.SALT_BYTES), entropy(sealing.PREFIX_BYTES)
        line = f"{FORMAT} locked {cost} {salt.hex()} {prefix.hex()}\n".encode()
        seal = sealing.SealedWriter(file, cost.stretch(passphrase, salt), prefix, line)
        sink = seal
    file.write(line)
    sink.write(struct.pack("<Q", len(manifest)) + manifest + hashlib.sha256(line + manifest).digest())
    for expected, held in files:
        size, digest = 0, hashlib.sha256()
        with _reading(held) as source:
            while piece := source.read(_PIECE):
                size += len(piece)
                digest.update(piece)
                sink.write(piece)
        if (size, digest.hexdigest()) != (expected.size, expected.sha256):
            raise UsageError("changed while it was read", where=expected.path, remedy="try again")
    if seal is not None:
        seal.finish()


def _as_sink(file: BinaryIO) -> _Sink:
    return file


# --- reading ---------------------------------------------------------------------------------------


def is_sealed(path: Path) -> bool:
    """Return whether a backup is encrypted as a whole.

    Raises
    ------
    UsageError
        No such file.
    EvidenceError
        Not a backup.
    """
    with _opened(path) as file:
        return _header(file, path)[1][1] is not None


def read_backup(path: Path, folder: Path, *, passphrase: bytes | None, check: Callable[[Path], R]) -> R:
    """Unpack a backup into a folder that must not hold anything yet, and return what `check` says.

    Parameters
    ----------
    path : Path
    folder : Path
        Appears when every byte has its digest and `check` has not raised; else nothing is left.
    passphrase : bytes or None
        For a backup that is encrypted as a whole.
    check : callable
        Called with the unpacked folder, before it takes its name.

    Raises
    ------
    UsageError
        No such file, something in `folder`, no room.
    EvidenceError
        Not a backup, or a damaged or hostile one.
    KeyringError
        Wrong passphrase, or an encrypted backup that was changed.
    """
    if os.path.lexists(folder) and (folder.is_symlink() or not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(
            "exists already", where=str(folder), remedy="restore into a new folder; nothing is overwritten"
        )
    with _opened(path) as file:
        line, match = _header(file, path)
        source, room = _plain(file, line, match, path, passphrase)
        files = _manifest(source, line, room, path)
        total = sum(one.size for one in files)
        if shutil.disk_usage(folder.absolute().parent).free < total:
            raise UsageError(f"no room for {total} bytes", where=str(folder), remedy="free some space")
        with atomic_directory(folder, private=True) as stage:
            for one in files:
                _extract(source, one, stage, path)
            if source.read(1):
                raise _damaged(path, "bytes after the end")
            return check(stage)


def _opened(path: Path) -> BinaryIO:
    if not path.is_file():
        raise UsageError("no such file", where=str(path), remedy="name a backup")
    return path.open("rb")


def _header(file: BinaryIO, path: Path) -> tuple[bytes, re.Match[str]]:
    line = file.readline(256)
    match = _LINE.fullmatch(line.decode("ascii", "replace"))
    if match is None:
        raise EvidenceError(
            "not a backup this program can read", where=str(path), remedy=f"it should begin with {FORMAT}"
        )
    return line, match


def _plain(
    file: BinaryIO, line: bytes, match: re.Match[str], path: Path, passphrase: bytes | None
) -> tuple[_Source, Callable[[int], bool]]:
    """Return a reader of the plain bytes, and whether a number of them is what the file's length says."""
    rest = os.fstat(file.fileno()).st_size - len(line)
    if match[1] is None:
        return file, lambda size: size == rest
    if passphrase is None:
        raise KeyringError("backup is encrypted", where=str(path), remedy="pass --backup-passphrase-file")
    key = sealing.Cost.parse(match[1]).stretch(passphrase, bytes.fromhex(match[2]))
    reader = sealing.SealedReader(file, key, bytes.fromhex(match[3]), line)
    return reader, lambda size: sealing.sealed_bytes(size) == rest


def _manifest(source: _Source, line: bytes, fits: Callable[[int], bool], path: Path) -> list[_File]:
    size = int.from_bytes(_exactly(source, 8, path), "little")
    if size > _MAX_MANIFEST:
        raise _damaged(path, "its list of files is too long")
    data = _exactly(source, size, path)
    if _exactly(source, 32, path) != hashlib.sha256(line + data).digest():
        raise _damaged(path, "its list of files does not have its digest")
    found = parse_json(data, where=str(path))
    listed = found.get("files") if isinstance(found, dict) and found.get("format") == FORMAT else None
    if not isinstance(listed, list):
        raise _damaged(path, "its list of files is malformed")
    files = [_listed(item, path) for item in listed]
    names = [one.path.casefold() for one in files]
    folders = {name[:i] for name in names for i, c in enumerate(name) if c == "/"}
    if len(set(names)) != len(names) or folders & set(names) or not {_SETTINGS, _REGISTRY} <= set(names):
        raise _damaged(path, "its list of files contradicts itself")
    if not fits(8 + size + 32 + sum(one.size for one in files)):
        raise _damaged(path, "it is cut short, or longer than its list of files")
    return files


def _listed(item: object, path: Path) -> _File:
    if not isinstance(item, dict) or set(item) != {"path", "size", "sha256"}:
        raise _damaged(path, "its list of files is malformed")
    name, size, digest = item["path"], item["size"], item["sha256"]
    is_typed = isinstance(name, str) and type(size) is int and size >= 0 and isinstance(digest, str)
    if not is_typed or re.fullmatch(r"[0-9a-f]{64}", digest) is None:
        raise _damaged(path, "its list of files is malformed")
    parts = name.split("/")
    is_plain = all(part not in ("", ".", "..") and len(os.fsencode(part)) <= 255 for part in parts)
    if not is_plain or len(name) > _MAX_NAME or not _ALLOWED.fullmatch(name) or not name.isprintable():
        raise _damaged(path, "a file name that no vault has")
    if "\\" in name or ":" in name:
        raise _damaged(path, "a file name that no vault has")
    return _File(name, size, digest)


def _extract(source: _Source, one: _File, stage: Path, path: Path) -> None:
    target = stage / one.path
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    digest = hashlib.sha256()
    with os.fdopen(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        for piece in _pieces(source, one.size, path):
            digest.update(piece)
            file.write(piece)
    if digest.hexdigest() != one.sha256:
        raise _damaged(path, f"{one.path[:100]} does not have its digest")


def _pieces(source: _Source, size: int, path: Path) -> Iterator[bytes]:
    while size:
        piece = _exactly(source, min(size, _PIECE), path)
        size -= len(piece)
        yield piece


def _exactly(source: _Source, size: int, path: Path) -> bytes:
    buffer = io.BytesIO()
    while (missing := size - buffer.tell()) > 0:
        piece = source.read(min(missing, _PIECE))
        if not piece:
            raise _damaged(path, "it is cut short")
        buffer.write(piece)
    return buffer.getvalue()


def _damaged(path: Path, why: str) -> EvidenceError:
    return EvidenceError(f"backup is damaged ({why})", where=str(path), remedy="use another copy")
