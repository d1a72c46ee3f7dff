"""The folder of an index on disk: segment files that never change, and one small manifest that names them.

The manifest is replaced in one step after the files it names are on disk, so a reader sees the index before or after a
change, never between, and whatever a killed writer leaves is no part of it. One writer at a time holds the lock;
readers need none.
"""

from __future__ import annotations

import contextlib
import os
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import xxhash
from numpy.typing import NDArray

from dataguard.canonical import canonical_json, parse_json
from dataguard.errors import DecodeError, EvidenceError, SchemeMismatch, UsageError
from dataguard.fingerprints.index.container import Head, PartShape, Reader, Writer
from dataguard.formats.atomic import atomic_write, remove_leftovers

__all__ = ["MANIFEST", "Entry", "Folder", "Manifest", "load_manifest", "read_removed", "write_removed"]

U32 = NDArray[np.uint32]

MANIFEST = "index.json"
_LOCK = "lock"
_FORMAT = "dataguard-index/1"
_FAMILY = "dataguard-index/"
_OURS = re.compile(r"(segment|removed)-[0-9]{6,}\.dgx(\.part)?")
_NAME = re.compile(r"(segment|removed)-[0-9]{6,9}\.dgx")
_SUM = re.compile(r"[0-9a-f]{16}")
_FILES = 10**9
"""Files an index may write in its life."""

_MAX_BYTES = 16 << 20
_REMOVED = 3
_REMEDY = "restore the folder from a copy, or build the index anew"


@dataclass(frozen=True, slots=True)
class Entry:
    """One segment of an index: its file, the check sum of the file's head, and its removed rows, if any."""

    file: str
    check: str
    removed: str = ""
    removed_check: str = ""


@dataclass(frozen=True, slots=True)
class Manifest:
    """What an index consists of.

    Attributes
    ----------
    kind : str
        ``bands`` or ``postings``.
    scheme : int
        Hash scheme of the elements.
    numbers : tuple of 4 int
        Sizes, by kind.
    next_file : int
        Number of the next file.
    next_id : int
        Id of the next item without one of its own.
    segments : tuple of Entry
    """

    kind: str
    scheme: int
    numbers: tuple[int, int, int, int]
    next_file: int
    next_id: int
    segments: tuple[Entry, ...]

    def to_json(self) -> dict[str, Any]:
        """Return all but the check sum; ids as text, because they exceed what JSON keeps exactly."""
        return {
            "format": _FORMAT,
            "hash_scheme": self.scheme,
            "kind": self.kind,
            "next_file": self.next_file,
            "next_id": str(self.next_id),
            "numbers": list(self.numbers),
            "segments": [[e.file, e.check, e.removed, e.removed_check] for e in self.segments],
        }


def load_manifest(folder: Path, kind: str) -> Manifest:
    """Return the manifest of an index.

    Raises
    ------
    UsageError
        There is no finished index.
    DecodeError
        A damaged manifest, or one of another kind of index.
    SchemeMismatch
        A version this program does not know.
    """
    path = folder / MANIFEST
    if path.exists() and not path.is_file():
        raise DecodeError("is no file", where=str(path), remedy=_REMEDY)
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_BYTES + 1)
    except FileNotFoundError:
        raise UsageError(
            "holds no finished index", where=str(folder), remedy="build it, or name its folder"
        ) from None
    except OSError as error:
        raise UsageError(
            f"cannot be read ({error.strerror})", where=str(path), remedy="look at its rights"
        ) from None
    try:
        content = parse_json(data, max_bytes=_MAX_BYTES, where=str(path))
    except EvidenceError as error:
        raise DecodeError(f"is damaged ({error.what})", where=str(path), remedy=_REMEDY) from None
    if not isinstance(content, dict):
        raise DecodeError("is no manifest of an index", where=str(path), remedy=_REMEDY)
    is_as_written = data == canonical_json(content) + b"\n"
    check = content.pop("check", None)
    if not is_as_written or check != _check(content):
        raise DecodeError("is damaged: its check sum does not fit", where=str(path), remedy=_REMEDY)
    form = content.get("format")
    if form != _FORMAT and isinstance(form, str) and form.startswith(_FAMILY):
        raise SchemeMismatch(
            f"is of version {form}", where=str(path), remedy="update dataguard, or build it anew"
        )
    manifest = _manifest(content)
    if manifest is None or manifest.kind != kind:
        raise DecodeError(f"is no manifest of an index of {kind}", where=str(path), remedy=_REMEDY)
    return manifest


def _check(content: dict[str, Any]) -> str:
    return f"{xxhash.xxh3_64_intdigest(canonical_json(content)):016x}"


def _manifest(content: dict[str, Any]) -> Manifest | None:
    """Return a manifest whose every field has its type, else nothing."""
    numbers, entries, next_id = content.get("numbers"), content.get("segments"), content.get("next_id")
    counts = [
        content.get("hash_scheme"),
        content.get("next_file"),
        *(numbers if isinstance(numbers, list) else []),
    ]
    if content.get("format") != _FORMAT or len(counts) != 6 or not isinstance(entries, list):
        return None
    if not all(type(n) is int and 0 <= n < 1 << 53 for n in counts):
        return None
    if not isinstance(next_id, str) or not re.fullmatch("[0-9]{1,20}", next_id) or int(next_id) > 1 << 64:
        return None
    if any(not _is_entry(entry) for entry in entries):
        return None
    segments = [Entry(*entry) for entry in entries]
    names = [name for e in segments for name in (e.file, e.removed) if name]
    # A file twice, or the number of the next in use: a change would write over what is there.
    if len(set(names)) < len(names) or any(int(n[8:-4]) >= counts[1] for n in names) or counts[1] > _FILES:
        return None
    one, two, three, four = counts[2:]
    return Manifest(
        str(content.get("kind")), counts[0], (one, two, three, four), counts[1], int(next_id), tuple(segments)
    )


def _is_entry(entry: object) -> bool:
    if not isinstance(entry, list) or len(entry) != 4 or not all(isinstance(part, str) for part in entry):
        return False
    file, check, removed, removed_check = entry
    pairs = [(file, check), *([(removed, removed_check)] if removed or removed_check else [])]
    return all(_NAME.fullmatch(name) and _SUM.fullmatch(total) for name, total in pairs)


class Folder:
    """A folder held by its one writer.

    Parameters
    ----------
    path : Path
        Made if need be; its parent must exist.

    Raises
    ------
    UsageError
        Another process writes to it, or it cannot be written to.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            path.mkdir(exist_ok=True)
            self._lock = os.open(path / _LOCK, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o644)
        except OSError as error:
            raise UsageError(
                f"cannot be written ({error.strerror})", where=str(path), remedy="choose another folder"
            ) from None
        try:
            _lock(self._lock, path)
        except BaseException:
            self.release()
            raise

    @property
    def is_used(self) -> bool:
        """Whether it holds a finished index."""
        return os.path.lexists(self.path / MANIFEST)

    def file(self, what: str, number: int) -> Path:
        """Return the place of a numbered file."""
        return self.path / f"{what}-{number:06d}.dgx"

    def save(self, manifest: Manifest) -> None:
        """Make a manifest the present one, and remove files that are none of its own."""
        content = manifest.to_json()
        content["check"] = _check(content)
        with atomic_write(self.path / MANIFEST, force=True) as file:
            file.write(canonical_json(content) + b"\n")
        self.clean(manifest)

    def clean(self, manifest: Manifest) -> None:
        """Remove numbered files the manifest does not name; who has them mapped keeps them."""
        named = {name for e in manifest.segments for name in (e.file, e.removed)}
        for path in sorted(self.path.iterdir()):
            if _OURS.fullmatch(path.name) and path.name not in named:
                with contextlib.suppress(OSError):  # a folder, or not ours to remove: it does no harm there
                    path.unlink(missing_ok=True)
        remove_leftovers(self.path)

    def release(self) -> None:
        """Let others write."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


def _lock(file: int, path: Path) -> None:
    if os.name != "posix":
        return
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise UsageError(
            "another process writes to this index", where=str(path), remedy="wait for it, or open it to read"
        ) from None
    except OSError:  # a file system without locks: as without this check
        return


def write_removed(folder: Folder, number: int, entry: Entry, rows: U32) -> Entry:
    """Write which rows of a segment are removed; return its new entry."""
    path = folder.file("removed", number)
    head = Head(_REMOVED, 0, (len(rows), 0, 0, 0, 0, 0, 0, 0), int(entry.check, 16))
    writer = Writer(path, head, [PartShape("<u4", len(rows))])
    try:
        writer.put(0, [rows])
        check = writer.finish()
    finally:
        writer.close()
    return replace(entry, removed=path.name, removed_check=check)


def read_removed(folder: Path, entry: Entry, rows: int) -> U32:
    """Return the removed rows of a segment of a number of rows.

    Raises
    ------
    DecodeError
        Damaged, of another segment, or beyond its rows.
    """
    reader = Reader(folder / entry.removed, _REMOVED, entry.removed_check)
    count = reader.head.numbers[0]
    if count > rows or f"{reader.head.source:016x}" != entry.check:
        raise reader.damaged("does not belong to its segment")
    removed: U32 = reader.map([PartShape("<u4", count)])[0]
    for _ in reader.check_again():  # small, and needed whole
        pass
    if count and (int(removed[-1]) >= rows or not (removed[1:] > removed[:-1]).all()):
        raise reader.damaged("names rows its segment does not have, or one twice")
    return removed
