"""The zip file around a workbook: hostile until checked, and copied raw afterwards.

The directory is read here and not by `zipfile`, because what counts is that no reader behind
(calamine, Excel) can see another archive than the one that was checked, and because a copy
keeps every untouched entry as it lies in the file, compressed bytes included.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import IO

from dataguard.errors import DecodeError

__all__ = ["MAX_RATIO", "MAX_UNPACKED", "Entry", "Package", "read_package"]

MAX_UNPACKED = 1 << 30
"""Bytes all parts may unpack to: 1 GiB is a sheet of 1,048,576 rows x 20 columns."""
MAX_RATIO = 200
"""Unpacked over packed beyond 64 MiB. Sheets measured 5 to 60, constant columns included; deflate
reaches 1,032, which only bombs come near."""
_RATIO_FROM = 1 << 26
_MAX_ENTRIES = 10_000
_BLOCK = 1 << 20

_LOCAL = struct.Struct("<4s5H3I2H")
_CENTRAL = struct.Struct("<4s6H3I5H2I")
_END = struct.Struct("<4s4H2IH")
_SENTINEL = 0xFFFFFFFF
_STREAMED = 1 << 3
"""General purpose bit 3: sizes stand behind the data, not in the local header."""
_REFUSED_FLAGS = 1 << 0 | 1 << 5 | 1 << 6 | 1 << 13
_RENAMING_EXTRAS = (0x7075, 0x9901)
"""Unicode path (some readers take that name instead) and AES encryption (APPNOTE 4.6.9, WinZip)."""
_DECLARATION = re.compile(rb"<!(?:DOCTYPE|ENTITY)")
_ENCODING = re.compile(rb"""<\?xml[^>]*?\sencoding\s*=\s*["']([^"'>]*)""")
_AGAIN = "open it in Excel or LibreOffice and save it again, or save the sheet as CSV"


@dataclass(frozen=True, slots=True)
class Entry:
    """One file in the archive.

    Parameters
    ----------
    name : str
        Part name, "/" between folders.
    flags, method : int
        As in the directory; method 0 (stored) or 8 (deflate).
    crc, packed, unpacked : int
        CRC-32 and sizes in bytes, as declared.
    offset, data, end : int
        File offsets of the local header, of the packed bytes, and of what follows the entry.
    record : int
        Offset of the directory record.
    """

    name: str
    flags: int
    method: int
    crc: int
    packed: int
    unpacked: int
    offset: int
    data: int
    end: int
    record: int


@dataclass(frozen=True, slots=True)
class Package:
    """A checked archive.

    Parameters
    ----------
    path : Path
        The file.
    entries : tuple of Entry
        In the order of the directory.
    directory, tail : int
        File offsets of the directory and of the end record.
    """

    path: Path
    entries: tuple[Entry, ...]
    directory: int
    tail: int

    def entry(self, name: str) -> Entry | None:
        """Return the entry called `name` (part names ignore case, ECMA-376 part 2, 6.2.2.3), or None."""
        wanted = name.casefold()
        return next((entry for entry in self.entries if entry.name.casefold() == wanted), None)

    def blocks(self, entry: Entry) -> Iterator[bytes]:
        """Unpack an entry in blocks of about 1 MiB.

        Raises
        ------
        DecodeError
            The stream does not hold exactly the declared bytes, or its CRC differs. The last
            block arrives before the CRC is compared.
        """
        inflate = zlib.decompressobj(-15) if entry.method else None
        size, crc, left = 0, 0, entry.packed
        with self.path.open("rb") as file:
            file.seek(entry.data)
            packed = b""
            while True:
                if not packed and left:
                    packed = file.read(min(_BLOCK, left))
                    left -= len(packed)
                    if not packed:
                        raise self._damaged(entry, "ends early")
                if inflate is None:
                    block, packed = packed, b""
                else:
                    try:
                        block = inflate.decompress(packed, _BLOCK)
                    except zlib.error as error:
                        raise self._damaged(entry, "cannot be unpacked") from error
                    packed = inflate.unconsumed_tail
                size, crc = size + len(block), zlib.crc32(block, crc)
                if size > entry.unpacked or (inflate and inflate.unused_data):
                    raise self._damaged(entry, "holds more than it declares")
                if block:
                    yield block
                elif not left and not packed:
                    break
        if size != entry.unpacked or (inflate and not inflate.eof):
            raise self._damaged(entry, "holds less than it declares")
        if crc != entry.crc:
            raise self._damaged(entry, "has another checksum than it declares")

    def read(self, entry: Entry, limit: int = 1 << 24) -> bytes:
        """Unpack a small part (16 MiB by default) whole."""
        if entry.unpacked > limit:
            raise DecodeError(f"part {entry.name!r} is too large", where=str(self.path), remedy=_AGAIN)
        return b"".join(self.blocks(entry))

    def check(self) -> None:
        """Unpack everything once: sizes and checksums must hold, and no XML may declare a document type.

        Raises
        ------
        DecodeError
            See `blocks`; a document type or entity declaration; XML in another encoding than UTF-8.
        """
        for entry in self.entries:
            is_xml = entry.name.casefold().endswith((".xml", ".rels"))
            is_ours = is_xml and not entry.name.casefold().startswith("customxml/")
            last = None
            for block in self.blocks(entry):
                if is_ours and last is None:
                    self._check_encoding(entry, block[:1024])
                if is_xml and _DECLARATION.search((last or b"") + block):
                    raise DecodeError(
                        f"part {entry.name!r} declares a document type, which no spreadsheet needs",
                        where=str(self.path),
                        remedy="do not trust this file",
                    )
                last = block[-9:]

    def _check_encoding(self, entry: Entry, head: bytes) -> None:
        declared = _ENCODING.search(head)
        encoding = declared[1].decode("latin-1").lower() if declared else "utf-8"
        if b"\0" in head or head[:2] in (b"\xff\xfe", b"\xfe\xff"):
            encoding = "utf-16"
        if encoding not in ("utf-8", "utf8", "us-ascii", "ascii"):
            raise DecodeError(
                f"part {entry.name!r} is {encoding[:40]!r} text, not UTF-8",
                where=str(self.path),
                remedy=_AGAIN,
            )

    def _damaged(self, entry: Entry, what: str) -> DecodeError:
        return DecodeError(f"part {entry.name!r} {what}", where=str(self.path), remedy="fetch it again")

    def rewrite(self, entry: Entry, blocks: Iterable[bytes], out: IO[bytes]) -> None:
        """Write the archive with the content of one entry replaced.

        All other bytes are copied as they lie: local headers, packed data, gaps, directory
        records (their offsets shifted), comment. The replaced entry keeps name, time, attributes,
        method and place; its sizes move into the local header (bit 3 cleared).

        Parameters
        ----------
        entry : Entry
            One of `entries`.
        blocks : iterable of bytes
            New unpacked content.
        out : IO[bytes]
            Empty, seekable.
        """
        with self.path.open("rb") as file:
            _copy(file, out, entry.offset)
            header = bytearray(file.read(entry.data - entry.offset))
            out.write(header)
            crc, packed, unpacked = _pack(blocks, entry.method, out)
            struct.pack_into("<H", header, 6, entry.flags & ~_STREAMED)
            struct.pack_into("<3I", header, 14, crc, packed, unpacked)
            out.seek(entry.offset)
            out.write(_without_zip64(header))
            end = out.seek(0, 2)
            rest = entry.end if entry.flags & _STREAMED else entry.data + entry.packed
            file.seek(rest)
            _copy(file, out, self.directory - rest)
            tail = bytearray(file.read())
        shift = end - rest
        for other in self.entries:
            at = other.record - self.directory
            if other.offset > entry.offset:
                struct.pack_into("<I", tail, at + 42, other.offset + shift)
            elif other is entry or other == entry:
                struct.pack_into("<H", tail, at + 8, entry.flags & ~_STREAMED)
                struct.pack_into("<3I", tail, at + 16, crc, packed, unpacked)
        struct.pack_into("<I", tail, self.tail - self.directory + 16, self.directory + shift)
        out.write(tail)


def _without_zip64(header: bytearray) -> bytes:
    """Blank the zip64 field of a local header (type 0x0001 -> 0xFFFF, ignored): its sizes are outdated."""
    name, extra = struct.unpack_from("<2H", header, 26)
    at, last = 30 + name, 30 + name + extra
    while at + 4 <= last:
        kind, size = struct.unpack_from("<2H", header, at)
        if kind == 1:
            struct.pack_into("<H", header, at, 0xFFFF)
        at += 4 + size
    return bytes(header)


def _copy(file: IO[bytes], out: IO[bytes], size: int) -> None:
    while size:
        block = file.read(min(_BLOCK, size))
        if not block:
            raise DecodeError("changed while it was read", where=file.name, remedy="run again")
        out.write(block)
        size -= len(block)


def _pack(blocks: Iterable[bytes], method: int, out: IO[bytes]) -> tuple[int, int, int]:
    """Write packed `blocks`; return CRC-32, packed and unpacked size."""
    deflate = zlib.compressobj(6, zlib.DEFLATED, -15) if method else None
    crc = packed = unpacked = 0
    for block in blocks:
        crc, unpacked = zlib.crc32(block, crc), unpacked + len(block)
        packed += out.write(deflate.compress(block) if deflate else block)
    return crc, packed + (out.write(deflate.flush()) if deflate else 0), unpacked


def read_package(path: Path) -> Package:
    """Read and check the directory of an archive, without unpacking anything.

    Parameters
    ----------
    path : Path
        A zip file (APPNOTE 6.3.10, without zip64).

    Returns
    -------
    Package
        Its `check` is still to be called before another reader gets the file.

    Raises
    ------
    DecodeError
        No or an ambiguous directory, zip64, several disks, entries that overlap, are encrypted,
        packed by another method than deflate, named twice or outside the archive, or that unpack
        to more than `MAX_UNPACKED` bytes or `MAX_RATIO` times their size.
    """
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - 65_557))
        ending = file.read()
        at = ending.rfind(b"PK\x05\x06")
        if at < 0 or at + _END.size > len(ending):
            raise _refusal(path, "is a truncated zip file: its directory is missing", "fetch it again")
        _, disk, first_disk, here, count, length, directory, comment = _END.unpack_from(ending, at)
        tail = size - len(ending) + at
        if ending[max(0, at - 20) : at].startswith(b"PK\x06\x07") or _SENTINEL in (length, directory):
            raise _refusal(path, "is a zip64 archive")
        if disk or first_disk or here != count or at + _END.size + comment != len(ending):
            raise _refusal(path, "is a damaged zip file: its end record does not fit", "fetch it again")
        if directory + length != tail or count > _MAX_ENTRIES:
            raise _refusal(path, "is a damaged zip file: its directory does not fit", "fetch it again")
        file.seek(directory)
        entries = _entries(path, file, file.read(length), directory, count)
    names = [entry.name.casefold() for entry in entries]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise _refusal(path, f"holds {twice!r} twice", "do not trust this file")
    unpacked, packed = sum(e.unpacked for e in entries), sum(e.packed for e in entries)
    if unpacked > MAX_UNPACKED:
        raise _refusal(path, f"unpacks to {unpacked:,} bytes, more than 1 GiB", "split it, or save it as CSV")
    if unpacked > max(_RATIO_FROM, MAX_RATIO * packed):
        raise _refusal(
            path, f"unpacks to {unpacked // max(packed, 1)} times its size", "do not trust this file"
        )
    return Package(path, entries, directory, tail)


def _refusal(path: Path, what: str, remedy: str = _AGAIN) -> DecodeError:
    return DecodeError(what, where=str(path), remedy=remedy)


def _entries(path: Path, file: IO[bytes], records: bytes, directory: int, count: int) -> tuple[Entry, ...]:
    """Parse the directory records and the local headers they point to."""
    found: list[Entry] = []
    at = 0
    while at < len(records):
        if at + _CENTRAL.size > len(records) or records[at : at + 4] != b"PK\x01\x02":
            raise _refusal(path, "is a damaged zip file: bad directory record", "fetch it again")
        fields = _CENTRAL.unpack_from(records, at)
        flags, method = fields[3], fields[4]
        crc, packed, unpacked, name_size, extra_size, comment_size = fields[7:13]
        offset = fields[16]
        raw = records[at + 46 : at + 46 + name_size]
        extra = records[at + 46 + name_size : at + 46 + name_size + extra_size]
        name = raw.decode("utf-8" if flags & 1 << 11 else "cp437", errors="replace")
        _check_record(path, name, fields, extra)
        file.seek(offset)
        local = file.read(_LOCAL.size)
        if len(local) < _LOCAL.size or local[:4] != b"PK\x03\x04" or file.read(len(raw)) != raw:
            raise _refusal(
                path, f"is a damaged zip file: no entry {name!r} where it should be", "fetch it again"
            )
        _, _, local_flags, local_method, *_, local_name, local_extra = _LOCAL.unpack(local)
        data = offset + _LOCAL.size + local_name + local_extra
        if (local_method, local_name, local_flags & 1) != (method, name_size, 0):
            raise _refusal(path, f"describes its entry {name!r} in two ways", "do not trust this file")
        found.append(Entry(name, flags, method, crc, packed, unpacked, offset, data, 0, directory + at))
        at += 46 + name_size + extra_size + comment_size
    if at != len(records) or len(found) != count:
        raise _refusal(path, "is a damaged zip file: its directory does not fit", "fetch it again")
    return _with_ends(path, found, directory)


def _check_record(path: Path, name: str, fields: tuple[int, ...], extra: bytes) -> None:
    """Refuse entries that only some readers understand, and names that lead elsewhere."""
    flags, method = fields[3], fields[4]
    if flags & _REFUSED_FLAGS:
        raise _refusal(path, "is an encrypted zip file", "decrypt it first")
    if method not in (0, 8):
        raise _refusal(path, f"packs its entry {name!r} by method {method}, which is not deflate")
    if _SENTINEL in (fields[8], fields[9], fields[16]) or fields[13]:
        raise _refusal(path, "is a zip64 archive or spans several disks")
    folders = name.split("/")
    if not name or name.startswith("/") or "\\" in name or ":" in name or "\0" in name or ".." in folders:
        raise _refusal(path, f"holds an entry named {name!r}, outside the archive", "do not trust this file")
    at = 0
    while at + 4 <= len(extra):
        kind, size = struct.unpack_from("<2H", extra, at)
        if kind in _RENAMING_EXTRAS:
            raise _refusal(path, f"gives its entry {name!r} a second name or encryption")
        at += 4 + size


def _with_ends(path: Path, found: list[Entry], directory: int) -> tuple[Entry, ...]:
    """Fill in where each entry ends, which is where the next one begins; none may overlap."""
    ordered = sorted(found, key=lambda entry: entry.offset)
    ends = (
        {a.offset: b.offset for a, b in pairwise(ordered)} | {ordered[-1].offset: directory} if found else {}
    )
    for entry in found:
        if entry.data + entry.packed > ends[entry.offset]:
            raise _refusal(path, f"overlaps or cuts its entry {entry.name!r}", "do not trust this file")
    return tuple(
        Entry(
            e.name, e.flags, e.method, e.crc, e.packed, e.unpacked, e.offset, e.data, ends[e.offset], e.record
        )
        for e in found
    )
