"""Encryption under a passphrase: of the few lines of a key file, and of a backup of any size.

A passphrase is first made expensive to guess (Argon2id), then used as an AES-256-GCM key. The
cost stands in the file, so it can rise later; it is bounded, because a file may be hostile.
"""

from __future__ import annotations

import re
import struct
import unicodedata
from dataclasses import dataclass
from typing import BinaryIO

from dataguard.errors import KeyringError, UsageError

__all__ = [
    "CHUNK_BYTES",
    "DEFAULT_COST",
    "PREFIX_BYTES",
    "SALT_BYTES",
    "TAG_BYTES",
    "Cost",
    "SealedReader",
    "SealedWriter",
    "passphrase_bytes",
    "seal",
    "sealed_bytes",
    "unseal",
]

SALT_BYTES = 16
NONCE_BYTES = 12
TAG_BYTES = 16
PREFIX_BYTES = 7
"""Random part of a stream's nonces; a 4-byte counter and one byte for the last chunk follow it."""
CHUNK_BYTES = 64 * 1024
"""Plaintext bytes of one chunk of a stream; a flipped byte is noticed before its chunk is used."""
MAX_PASSPHRASE = 4096
_COST = re.compile(r"argon2id ([1-9][0-9]{0,9}) ([1-9][0-9]{0,9}) ([1-9][0-9]{0,9})")


def passphrase_bytes(text: str) -> bytes:
    """Return a passphrase as the bytes that are stretched: UTF-8 of its NFC form, so that keyboards agree.

    Raises
    ------
    UsageError
        It is empty, or longer than 4,096 characters.
    """
    if not text or len(text) > MAX_PASSPHRASE:
        raise UsageError("passphrase is empty or too long", remedy="give 1 to 4,096 characters")
    return unicodedata.normalize("NFC", text).encode("utf-8", "surrogateescape")


@dataclass(frozen=True, slots=True)
class Cost:
    """What one guess of a passphrase costs: Argon2id, RFC 9106.

    Attributes
    ----------
    memory : int
        KiB.
    passes, lanes : int
        The t and p of the RFC.
    """

    memory: int
    passes: int
    lanes: int

    def __post_init__(self) -> None:
        # A hostile file must neither fill the memory (1 GiB) nor take longer than some ten seconds.
        fits = 1 <= self.lanes <= 16 and 8 * self.lanes <= self.memory <= 2**20 and 1 <= self.passes <= 64
        if not fits or self.memory * self.passes > 2**22:
            raise KeyringError(
                f"Argon2id cost m={self.memory} KiB, t={self.passes}, p={self.lanes} is out of bounds",
                remedy="do not trust this file; restore a backup",
            )

    def __str__(self) -> str:
        return f"argon2id {self.memory} {self.passes} {self.lanes}"

    @classmethod
    def parse(cls, text: str) -> Cost:
        """Read what ``str`` wrote; KeyringError for another form, or a cost out of bounds."""
        match = _COST.fullmatch(text)
        if match is None:
            raise KeyringError("not an Argon2id cost", remedy="restore a backup")
        return cls(*(int(part) for part in match.groups()))

    def stretch(self, passphrase: bytes, salt: bytes) -> bytes:
        """Return the 32-byte key of a passphrase; 64 MiB and 3 passes took 0.18 CPU seconds."""
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

        try:
            made = Argon2id(
                salt=salt, length=32, iterations=self.passes, lanes=self.lanes, memory_cost=self.memory
            )
        except UnsupportedAlgorithm:
            raise KeyringError(
                "this build of `cryptography` lacks Argon2id", remedy="install its wheel, or OpenSSL 3.2"
            ) from None
        return made.derive(passphrase)


DEFAULT_COST = Cost(64 * 1024, 3, 1)
"""Memory and passes of RFC 9106 section 4, second recommended option (64 MiB, t = 3), but one lane instead
of four: the library computes lanes one after the other, so more of them would only help a guesser."""


def seal(key: bytes, nonce: bytes, plain: bytes, header: bytes) -> bytes:
    """Return AES-256-GCM of `plain`, bound to `header`; 16 bytes longer. `nonce`: 12 bytes, never used again."""
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    return AESGCM(key).encrypt(nonce, plain, header)


def unseal(key: bytes, nonce: bytes, sealed: bytes, header: bytes) -> bytes | None:
    """Return what was sealed, or None if key, header or a byte differs (compared in constant time)."""
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    try:
        return AESGCM(key).decrypt(nonce, sealed, header)
    except InvalidTag:
        return None


def sealed_bytes(size: int) -> int:
    """Return how many bytes a stream of `size` plaintext bytes takes."""
    return size + TAG_BYTES * max(1, -(-size // CHUNK_BYTES))


def _nonce(prefix: bytes, counter: int, *, last: bool) -> bytes:
    if counter >= 2**32:
        raise UsageError("stream of more than 256 TiB", remedy="back up in parts")
    return prefix + struct.pack(">IB", counter, last)


class SealedWriter:
    """Encrypts a stream: the STREAM construction (Hoang, Reyhanitabar, Rogaway, Vizar 2015).

    Chunk i has the nonce prefix || i (uint32 big-endian) || 1 if it is the last one, else 0. So chunks
    cannot be exchanged, repeated, dropped or added.

    Parameters
    ----------
    file : binary file
        Where to.
    key, prefix : bytes
        32 bytes; 7 random bytes that were never used with this key.
    header : bytes
        What the stream is bound to.
    """

    def __init__(self, file: BinaryIO, key: bytes, prefix: bytes, header: bytes) -> None:
        self._file, self._key, self._prefix, self._header = file, key, prefix, header
        self._held, self._counter = bytearray(), 0

    def write(self, data: bytes) -> None:
        """Take further bytes."""
        self._held += data
        while len(self._held) > CHUNK_BYTES:  # one byte stays, for a last chunk that is not empty
            self._emit(bytes(self._held[:CHUNK_BYTES]), last=False)
            del self._held[:CHUNK_BYTES]

    def finish(self) -> None:
        """Write the last chunk; without it the stream does not read back."""
        self._emit(bytes(self._held), last=True)

    def _emit(self, chunk: bytes, *, last: bool) -> None:
        nonce = _nonce(self._prefix, self._counter, last=last)
        self._file.write(seal(self._key, nonce, chunk, self._header))
        self._counter += 1


class SealedReader:
    """Reads what `SealedWriter` wrote; no byte comes out before its chunk is authenticated.

    Parameters are those of the writer.
    """

    def __init__(self, file: BinaryIO, key: bytes, prefix: bytes, header: bytes) -> None:
        self._file, self._key, self._prefix, self._header = file, key, prefix, header
        self._held, self._counter, self._ended = b"", 0, False
        self._ahead = file.read(CHUNK_BYTES + TAG_BYTES)

    def read(self, size: int) -> bytes:
        """Return up to `size` bytes, fewer only at the end.

        Raises
        ------
        KeyringError
            Another passphrase, or a stream that was changed or cut.
        """
        parts = [self._held]
        missing = size - len(self._held)
        while missing > 0 and not self._ended:
            parts.append(self._chunk())
            missing -= len(parts[-1])
        held = b"".join(parts)
        self._held = held[size:]
        return held[:size]

    def _chunk(self) -> bytes:
        sealed, self._ahead = self._ahead, self._file.read(CHUNK_BYTES + TAG_BYTES)
        self._ended = not self._ahead
        nonce = _nonce(self._prefix, self._counter, last=self._ended)
        plain = unseal(self._key, nonce, sealed, self._header)
        if plain is None:
            what = "wrong passphrase, or a changed file" if self._counter == 0 else "changed or cut short"
            raise KeyringError(what, remedy="check the passphrase, or use another copy")
        self._counter += 1
        return plain
