"""Secrets and what is derived from them; where they lie is the business of ``keyfile``.

Every derived key is HKDF-SHA256 over an unambiguous encoding of its purpose, so that a
key opened in court tells nothing about any other. No type here shows its secret in a
repr, an error or a pickle. numpy is not needed: an expert re-computes the symbols of an
opened mark key with this file alone.
"""

from __future__ import annotations

import hashlib
import hmac
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NoReturn, Self, TypeAlias

from dataguard.errors import EvidenceError, KeyringError, UsageError

__all__ = [
    "KEY_BYTES",
    "MIN_SALT_BYTES",
    "PREFIX",
    "TAG_BYTES",
    "Entropy",
    "MasterRing",
    "MasterSecret",
    "SigningKey",
    "VerifyKey",
    "address_key",
    "bias_key",
    "check_commitment",
    "commit",
    "dataset_secret",
    "decoy_mark_key",
    "decoy_seed",
    "encode_parts",
    "hkdf",
    "mark_key",
    "pairing_key",
    "salt_key",
    "scope_pseudonym",
    "symbol_blocks",
    "symbols",
]

PREFIX = "dataguard/1"
"""First part of every derivation and commitment; a new scheme gets a new prefix."""
KEY_BYTES = 32
TAG_BYTES = 8
MIN_SALT_BYTES = 16
_BLOCK_BYTES = 16
_MAX_UINT64 = 2**64 - 1

Entropy: TypeAlias = Callable[[int], bytes]
"""Source of secret random bytes, by count; the shells pass `os.urandom`."""


class _Secret:
    """32 secret bytes that show up nowhere by accident."""

    __slots__ = ("_value",)

    def __init__(self, value: bytes) -> None:
        if not isinstance(value, bytes) or len(value) != KEY_BYTES:
            raise KeyringError(f"{type(self).__name__} is not {KEY_BYTES} bytes", remedy="restore a backup")
        self._value = value

    @classmethod
    def generate(cls, entropy: Entropy) -> Self:
        """Return a new secret of 32 bytes drawn from `entropy`."""
        return cls(entropy(KEY_BYTES))

    def reveal(self) -> bytes:
        """Return the 32 secret bytes; the caller must not store, print or log them."""
        return self._value

    def __repr__(self) -> str:
        return f"{type(self).__name__}(...)"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, type(self)) and hmac.compare_digest(self._value, other._value)

    __hash__ = None  # type: ignore[assignment]  # a hash would be a fact about the secret

    def __reduce_ex__(self, _protocol: object) -> NoReturn:
        raise TypeError(f"{type(self).__name__} is not to be copied or pickled")


class MasterSecret(_Secret):
    """The one secret of a vault, 32 bytes, from which all keys but the signing key derive."""

    __slots__ = ()


class MasterRing(MasterSecret):
    """The masters of a vault whose master secret was replaced: each lineage keeps the one it began with.

    Which one that is needs no record of its own: the ledger's registration carries the lineage's
    `scope_pseudonym`, and only the right master derives it.

    Parameters
    ----------
    masters : sequence of MasterSecret
        By number; the last one is for new lineages.
    scope_of : callable
        Returns the scope a lineage was registered under, or None if it is not registered yet.
    """

    __slots__ = ("_masters", "_scope_of")

    def __init__(self, masters: Sequence[MasterSecret], scope_of: Callable[[str], str | None]) -> None:
        super().__init__(masters[-1].reveal())
        self._masters, self._scope_of = tuple(masters), scope_of

    def of(self, lineage: str) -> MasterSecret:
        """Return the master of a lineage.

        Raises
        ------
        KeyringError
            The lineage is registered under a scope that none of the masters derives.
        """
        scope = self._scope_of(lineage)
        if scope is None:
            return self._masters[-1]
        for master in reversed(self._masters):
            if hmac.compare_digest(scope_pseudonym(dataset_secret(master, lineage)), scope):
                return master
        raise KeyringError("no master secret here is that of the dataset", remedy="restore the key files")


class SigningKey(_Secret):
    """An Ed25519 private key (RFC 8032): the 32-byte seed."""

    __slots__ = ()

    @property
    def public_bytes(self) -> bytes:
        """The raw 32-byte public key."""
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        return Ed25519PrivateKey.from_private_bytes(self._value).public_key().public_bytes_raw()

    @property
    def verify_key(self) -> VerifyKey:
        """The public half."""
        return VerifyKey(self.public_bytes)

    def sign(self, message: bytes) -> bytes:
        """Return the 64-byte Ed25519 signature of `message` (deterministic, RFC 8032 section 5.1.6)."""
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        return Ed25519PrivateKey.from_private_bytes(self._value).sign(message)


@dataclass(frozen=True, slots=True)
class VerifyKey:
    """An Ed25519 public key: the raw 32 bytes."""

    public_bytes: bytes

    def __post_init__(self) -> None:
        if not isinstance(self.public_bytes, bytes) or len(self.public_bytes) != KEY_BYTES:
            raise KeyringError("public key is not 32 raw bytes", remedy="ask its owner for it again")

    @property
    def keyid(self) -> str:
        """Hex SHA-256 of the raw public key."""
        return hashlib.sha256(self.public_bytes).hexdigest()

    def verify(self, signature: bytes, message: bytes) -> None:
        """Return only if `signature` of `message` is valid under this key, else raise EvidenceError."""
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

        try:
            Ed25519PublicKey.from_public_bytes(self.public_bytes).verify(signature, message)
        except InvalidSignature:
            raise EvidenceError("no valid signature", where=self.keyid[:16], remedy="distrust it") from None


def encode_parts(*parts: str | bytes | int) -> bytes:
    """Return an encoding of `parts` from which they can be read back, so no two lists collide.

    Each part is: one letter (``s`` UTF-8 text, ``b`` bytes, ``i`` integer), its length in bytes as
    uint32 little-endian, its bytes (an integer as uint64 little-endian). Text is taken as it is: the
    caller normalises names before they come here.

    Raises
    ------
    UsageError
        Text with a lone surrogate, an integer outside 0..2**64-1, another type.
    """
    encoded = bytearray()
    for part in parts:
        if isinstance(part, str):
            try:
                letter, data = b"s", part.encode("utf-8")
            except UnicodeEncodeError:
                raise UsageError("name is not valid Unicode", remedy="use another name") from None
        elif isinstance(part, bytes):
            letter, data = b"b", part
        elif isinstance(part, int) and not isinstance(part, bool) and 0 <= part <= _MAX_UINT64:
            letter, data = b"i", struct.pack("<Q", part)
        else:
            raise UsageError(f"cannot derive from this {type(part).__name__}", remedy="pass 0..2^64-1")
        encoded += letter + struct.pack("<I", len(data)) + data
    return bytes(encoded)


def hkdf(secret: MasterSecret | bytes, *parts: str | bytes | int, length: int = KEY_BYTES) -> bytes:
    """Return HKDF-SHA256 (RFC 5869) of `secret`, no salt, info ``encode_parts("dataguard/1", *parts)``.

    The parts are the purpose, then what the key is for; `length` is in bytes, 1..8160.

    Raises
    ------
    UsageError
        No part, a part without encoding, a length out of range.
    KeyringError
        The secret is not 32 bytes.
    """
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    if not parts or not 1 <= length <= 255 * 32:
        raise UsageError("key derivation without a purpose or a possible length", remedy="name the purpose")
    material = secret.reveal() if isinstance(secret, MasterSecret) else secret
    _require_key(material)
    return HKDF(SHA256(), length, None, encode_parts(PREFIX, *parts)).derive(material)


def dataset_secret(master: MasterSecret | bytes, lineage: str) -> bytes:
    """Return the secret of a dataset lineage; it is shared by all recipients and versions."""
    return hkdf(_master_of(master, lineage), "dataset", lineage)


def mark_key(master: MasterSecret | bytes, lineage: str, recipient: str, generation: int) -> bytes:
    """Return the 32-byte AES key of a recipient's symbols, DESIGN 4.2."""
    return hkdf(_master_of(master, lineage), "mark", lineage, recipient, generation)


def _master_of(master: MasterSecret | bytes, lineage: str) -> MasterSecret | bytes:
    return master.of(lineage) if isinstance(master, MasterRing) else master


def address_key(dataset: bytes) -> bytes:
    """Return the key that turns row, column and channel ids into slot addresses."""
    return hkdf(dataset, "address")


def pairing_key(dataset: bytes) -> bytes:
    """Return the key that draws the partners of the pair-swap channel."""
    return hkdf(dataset, "pairing")


def bias_key(dataset: bytes) -> bytes:
    """Return the key that gives each address its bias level."""
    return hkdf(dataset, "bias")


def salt_key(dataset: bytes, *context: str | bytes | int) -> bytes:
    """Return the AES key of the leaf salts of one committed tree; `context` names the tree and version."""
    return hkdf(dataset, "salt", *context)


def decoy_seed(dataset: bytes) -> bytes:
    """Return the seed of the decoy line-up; opening it opens nothing else."""
    return hkdf(dataset, "decoys")


def decoy_mark_key(seed: bytes, index: int) -> bytes:
    """Return the mark key of decoy number `index`, derived as a recipient's key is, from the seed."""
    return hkdf(seed, "decoy-mark", index)


def scope_pseudonym(dataset: bytes) -> str:
    """Return 16 hex digits that stand for the lineage in public ledger headers."""
    return hkdf(dataset, "scope", length=8).hex()


def commit(kind: str, secret: bytes, salt: bytes) -> str:
    """Return hex SHA-256(encode_parts("dataguard/1", "commit", kind, salt, secret)).

    A commitment of one `kind`, for example ``"mark-key"``, never opens as another. A salt of fewer
    than 16 bytes hides nothing and raises UsageError.
    """
    if not isinstance(salt, bytes) or len(salt) < MIN_SALT_BYTES:
        raise UsageError(f"commitment salt under {MIN_SALT_BYTES} bytes", remedy="draw a longer one")
    return hashlib.sha256(encode_parts(PREFIX, "commit", kind, salt, secret)).hexdigest()


def check_commitment(kind: str, secret: bytes, salt: bytes, commitment: str) -> bool:
    """Return whether `commitment` opens to `secret`, in time independent of where they differ.

    A salt too short or a commitment out of form gives False: both come from a file to be checked.
    """
    if not isinstance(salt, bytes) or len(salt) < MIN_SALT_BYTES or not isinstance(commitment, str):
        return False
    return hmac.compare_digest(commit(kind, secret, salt).encode(), commitment.encode("utf-8", "replace"))


def symbol_blocks(key: bytes, addresses: Sequence[int], tag: bytes) -> bytes:
    """Return AES-256 of one 16-byte block per address: the PRF of DESIGN 4.2, before the threshold.

    Plaintext block: the address as uint64 little-endian, then `tag`, 8 bytes that name scheme and
    channel. Returned are 16 bytes per address, in order.

    Raises
    ------
    KeyringError
        The key is not 32 bytes.
    UsageError
        A tag or address out of range.
    """
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

    _require_key(key)
    if not isinstance(tag, bytes) or len(tag) != TAG_BYTES:
        raise UsageError("scheme-and-channel tag is not 8 bytes", remedy="pad it with zero bytes")
    try:
        blocks = b"".join([struct.pack("<Q", address) + tag for address in addresses])
    except struct.error:
        raise UsageError("slot address outside 0..2^64-1", remedy="compute the addresses again") from None
    # ECB of distinct blocks is a keyed permutation, which is the PRF wanted here; nothing is encrypted.
    encryptor = Cipher(algorithms.AES(key), modes.ECB()).encryptor()  # noqa: S305
    return encryptor.update(blocks) + encryptor.finalize()


def symbols(key: bytes, addresses: Sequence[int], levels: Sequence[int], tag: bytes) -> list[int]:
    """Return the symbol, 0 or 1, that `key` gives each address.

    The symbol is 1 where the first two bytes of the block (`symbol_blocks`), read as uint16
    little-endian, are below the bias level P of that address, 0..65535: P(symbol = 1) = P / 65536.

    Raises
    ------
    KeyringError
        The key is not 32 bytes.
    UsageError
        Lengths differ, or a level, tag or address out of range.
    """
    if len(levels) != len(addresses) or not all(0 <= P < 65536 for P in levels):
        raise UsageError("bias levels do not fit the addresses", remedy="give one level 0..65535 per address")
    blocks = symbol_blocks(key, addresses, tag)
    draws = (blocks[i] | blocks[i + 1] << 8 for i in range(0, len(blocks), _BLOCK_BYTES))
    return [int(draw < P) for draw, P in zip(draws, levels, strict=True)]


def _require_key(key: object) -> None:
    if not isinstance(key, bytes) or len(key) != KEY_BYTES:
        raise KeyringError(f"key is not {KEY_BYTES} bytes", remedy="load it again")
