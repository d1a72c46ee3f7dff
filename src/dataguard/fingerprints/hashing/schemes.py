"""Hash schemes: which function made a 64-bit hash, in plain words and in plain Python.

A sketch carries the number of its scheme, and sketches of different schemes never meet. The
functions here are the definitions, one key at a time; they serve small inputs, for which
starting compiled code would cost more than the work.

dgmum-1
-------
All arithmetic on 64-bit words, modulo 2**64; words of a key are read with the low byte first.
``p, q`` are the lower and the upper word of ``a * b``; ``fold(a, b) = (p ^ q) + a + b``.
K0 ... K7 are the first 64 binary digits of the fractions of the square roots of the primes 2 to 19.
::

    state = fold(seed ^ K6, K7)                                  seed 0 unless said otherwise
    absorb(s, at) = fold(word(at) ^ K5, word(at + 8) ^ s)
    n > 256:  s_i = state ^ K_i for i = 0..3; for each of the (n - 1) // 64 blocks of 64 bytes from the front:
              s_i = fold(word(block + 16 i) ^ K_(4+i), word(block + 16 i + 8) ^ s_i)
              state = fold(fold(s_0 ^ K4, s_1) ^ K6, fold(s_2 ^ K5, s_3)); absorb n - 64, n - 48, n - 32
    65 to 256: absorb 0, 16, 32, ... as long as less than n - 16
    33 to 64: absorb 0, 16, n - 32
    17 to 32: absorb 0
    last 16 bytes (a shorter key with zeros behind) as words low, high:
    a = low + K0;  b = high + n K4 + state;  p, q = a * b;  result = fold((p + a) ^ K2, (q + b) ^ K3)

A factor of zero wipes nothing out, because the factors stay beside their product. Neither
function is secret or collision-resistant against somebody who looks for collisions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import IntEnum
from math import isqrt

import xxhash

from dataguard.errors import UsageError

__all__ = ["NULL_HASH", "HashScheme", "dgmum", "hash_bytes", "plain_hash", "scheme_of"]

NULL_HASH = 0x5BE0CD19137E2179
"""Hash of a missing value, under every scheme: a constant with no pattern, so that sketches may contain it."""

_ALL = 2**64 - 1
_K = tuple(isqrt(prime << 128) & _ALL for prime in (2, 3, 5, 7, 11, 13, 17, 19))


class HashScheme(IntEnum):
    """Which function made the hashes; the number is written into every sketch."""

    GIVEN = 0
    """Hashed by the user, in a way this program does not know."""
    XXH3_64 = 1
    """XXH3 with 64 bits and seed 0 (xxHash specification): the same in every language."""
    DGMUM_1 = 2
    """The internal mixer, about three times as fast on short keys."""
    FOLDED_1 = 3
    """What a cell means, whatever its format: made by ``hashing.meanings``, not by a function of bytes."""
    SHA1 = 16
    """First 8 bytes of SHA-1, little-endian; the lower half is what datasketch hashes with by default."""

    @property
    def label(self) -> str:
        """Name in messages, files and options."""
        return _LABELS[self]


_LABELS = {
    HashScheme.GIVEN: "given",
    HashScheme.XXH3_64: "xxh3-64",
    HashScheme.DGMUM_1: "dgmum-1",
    HashScheme.FOLDED_1: "folded-1",
    HashScheme.SHA1: "sha1",
}


def scheme_of(scheme: HashScheme | int | str) -> HashScheme:
    """Return a scheme that can be computed, by itself, its number or its label.

    Raises
    ------
    UsageError
        For "given" (its hashes cannot be made here) and for anything unknown.
    """
    for known in (HashScheme.XXH3_64, HashScheme.DGMUM_1):
        if scheme in (known, known.label):
            return known
    raise UsageError(
        f"no hash scheme {scheme!r}", remedy="use 'xxh3-64' (the same everywhere) or 'dgmum-1' (fastest)"
    )


def hash_bytes(key: bytes, scheme: HashScheme | int | str = HashScheme.XXH3_64) -> int:
    """Return the hash of one key, without compiled code."""
    return plain_hash(scheme)(key)


def plain_hash(scheme: HashScheme | int | str) -> Callable[[bytes], int]:
    """Return the function of bytes behind a scheme, without compiled code."""
    if scheme_of(scheme) is HashScheme.XXH3_64:
        function: Callable[[bytes], int] = xxhash.xxh3_64_intdigest
        return function
    return dgmum


def dgmum(key: bytes, seed: int = 0) -> int:
    """Return dgmum-1 of one key, as the module's docstring defines it."""
    n, state = len(key), _fold(seed ^ _K[6], _K[7])

    def word(at: int) -> int:
        return int.from_bytes(key[at : at + 8], "little")

    def absorb(state: int, at: int) -> int:
        return _fold(word(at) ^ _K[5], word(at + 8) ^ state)

    if n > 256:
        lanes = [state ^ _K[i] for i in range(4)]
        for block in range(0, n - 64, 64):
            for i in range(4):
                at = block + 16 * i
                lanes[i] = _fold(word(at) ^ _K[4 + i], word(at + 8) ^ lanes[i])
        state = _fold(_fold(lanes[0] ^ _K[4], lanes[1]) ^ _K[6], _fold(lanes[2] ^ _K[5], lanes[3]))
        starts: Sequence[int] = (n - 64, n - 48, n - 32)
    elif n > 64:
        starts = range(0, n - 16, 16)
    else:
        starts = (0, 16, n - 32) if n > 32 else (0,) if n > 16 else ()
    for at in starts:
        state = absorb(state, at)
    last = max(n - 16, 0)
    a = (word(last) + _K[0]) & _ALL
    b = (word(last + 8) + n * _K[4] + state) & _ALL
    product = a * b
    return _fold(((product + a) & _ALL) ^ _K[2], ((product >> 64) + b & _ALL) ^ _K[3])


def _fold(a: int, b: int) -> int:
    product = a * b
    return ((product & _ALL ^ product >> 64) + a + b) & _ALL
