"""Which encoding a text is in, decided so that Japanese never turns into mojibake in silence.

Valid UTF-8 is UTF-8. Else CP932, EUC-JP and Windows-1252 must each decode the sample strictly
and are then compared by how odd the text would be; what is odd in all of them is refused later
as the damaged UTF-8 it mostly is, with row and line.
"""

from __future__ import annotations

import codecs
import functools
import re

import numpy as np
from numpy.typing import NDArray

from dataguard.errors import DecodeError, UsageError

__all__ = ["EUC_ERRORS", "LABELS", "codec_errors", "encoding_named", "sniff_encoding"]

EUC_ERRORS = "dataguard-cp51932"
"""Name of the error handler that adds NEC row 13 and the NEC-selected IBM rows to EUC-JP."""

_ALIASES = {
    "utf-8": "utf-8",
    "utf-8-sig": "utf-8",
    "utf-16-le": "utf-16-le",
    "utf-16-be": "utf-16-be",
    "cp932": "cp932",
    "shift_jis": "cp932",
    "euc_jp": "euc_jp",
    "cp1252": "cp1252",
    "iso8859-1": "iso8859-1",
}
"""Python's name of a codec -> the name used here (CP932 is what files called Shift_JIS hold)."""

LABELS = {
    "utf-8": "UTF-8",
    "utf-16-le": "UTF-16 (little-endian)",
    "utf-16-be": "UTF-16 (big-endian)",
    "cp932": "CP932 (Shift_JIS), the encoding assumed",
    "euc_jp": "EUC-JP, the encoding assumed",
    "cp1252": "Windows-1252, the encoding assumed",
    "iso8859-1": "ISO 8859-1",
}
"""Encoding -> its name in messages about what the text is not."""

_SAVE = "save it as UTF-8"
_JIS_ESCAPES = (b"\x1b$@", b"\x1b$B", b"\x1b(J", b"\x1b(I")
_MAX_ODDITY = 1.5
"""Per byte above 0x7F. Of 1,500 made-up samples of 15 to 20 phrases the right reading measured up to
1.0 (Japanese up to 0.7); damaged UTF-8 read as something else starts at 1.48."""
_FEW = 8
"""So few bytes above 0x7F may fit two encodings alike."""


def encoding_named(name: str) -> str:
    """Return the encoding a user asks for by any of Python's names for it.

    Raises
    ------
    UsageError
        A name Python does not know, or an encoding whose bytes cannot be scanned for separators.
    """
    try:
        known = _ALIASES.get(codecs.lookup(name).name)
    except LookupError:
        known = None
    if known is None:
        raise UsageError(
            f"cannot read text in the encoding {name!r}",
            remedy=f"choose one of {', '.join(_ALIASES)}, or save the file as UTF-8",
        )
    return known


def codec_errors(encoding: str) -> str:
    """Return the `errors` argument with which Python decodes this encoding as it is met in files."""
    return EUC_ERRORS if encoding == "euc_jp" else "strict"


def sniff_encoding(sample: bytes, *, cut: bool = False, where: str = "") -> str:
    """Decide the encoding of a text.

    Parameters
    ----------
    sample : bytes
        Beginning of the text, or the part of it from its first byte above 0x7F on.
    cut : bool
        The sample ends within the text, perhaps within a character.
    where : str
        Name of the file, for messages.

    Returns
    -------
    str
        "utf-8" (also where nothing fits: the reader then names the first bad byte), "utf-16-le",
        "utf-16-be", "cp932", "euc_jp" or "cp1252".

    Raises
    ------
    DecodeError
        UTF-32 or ISO-2022-JP; two encodings that fit a few bytes alike.
    """
    if sample[:4] in (b"\xff\xfe\0\0", b"\0\0\xfe\xff"):
        raise DecodeError("is UTF-32 text", where=where, remedy=_SAVE)
    wide = _utf16_order(sample)
    if wide:
        return wide
    if any(escape in sample for escape in _JIS_ESCAPES):
        raise DecodeError(
            "is ISO-2022-JP text", where=where, remedy="convert it: iconv -f ISO-2022-JP -t UTF-8"
        )
    if sample.isascii():
        return "utf-8"
    if cut:
        end = max(sample.rfind(stop) for stop in (b"\n", b"\r", b",", b"\t", b";", b" "))
        sample = sample[: end + 1] if end > 0 else sample[:-3]
    return "utf-8" if _mostly_utf8(sample) else _least_odd(sample, where)


def _utf16_order(sample: bytes) -> str | None:
    """Tell UTF-16 by its byte order mark, or by NULs on one side of the pairs of bytes (few on the other)."""
    if sample[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return "utf-16-le" if sample[:1] == b"\xff" else "utf-16-be"
    pairs = np.frombuffer(sample, np.uint8, len(sample) // 2 * 2).reshape(-1, 2)
    low, high = np.count_nonzero(pairs == 0, axis=0)
    if max(low, high) < max(4, pairs.shape[0] // 10, 4 * min(low, high)):
        return None
    codec = "utf-16-le" if high > low else "utf-16-be"
    text = sample[: pairs.size].decode(codec, "replace")
    # No control characters, and none of the scripts that a newline between two letters would give.
    strange = re.search("[\0-\x08\x0b\x0c\x0e-\x1f\u0a00-\u0aff\u0d00-\u0dff]", text)
    return None if strange or not re.search("[\r\n]", text) else codec


def _mostly_utf8(sample: bytes) -> bool:
    """Whether the sample is UTF-8, or UTF-8 with damage: more good characters than bad places.

    In texts of the other encodings a fifth of the characters may look good by chance.
    """
    try:
        sample.decode()
    except UnicodeDecodeError:
        text = sample.decode(errors="replace")
        bad = text.count("\ufffd")
        good = sum(not char.isascii() for char in text) - bad
        return good > bad or (good == bad and any("\u0800" <= char < "\ufffd" for char in text))
    return True


def _least_odd(sample: bytes, where: str) -> str:
    """Choose among the encodings that are not UTF-8; "utf-8" if the text would be odd in all."""
    high = sum(byte > 0x7F for byte in sample)
    odd = {}
    for encoding in ("cp932", "euc_jp", "cp1252"):
        try:
            text = sample.decode(encoding, codec_errors(encoding))
        except UnicodeDecodeError:
            continue
        whole = _latin_oddity(sample) if encoding == "cp1252" else _japanese_oddity(text)
        odd[encoding] = whole / high
    likely = sorted((value, encoding) for encoding, value in odd.items() if value <= _MAX_ODDITY)
    if not likely:
        return "utf-8"
    if high <= _FEW and len(likely) > 1 and likely[1][0] < 2 * likely[0][0]:
        names = " and ".join(LABELS[encoding].partition(",")[0] for _, encoding in likely[:2])
        raise DecodeError(
            f"could be text in {names}: it holds only {high} bytes that are not ASCII",
            where=where,
            remedy="save it as UTF-8",
        )
    best = likely[0][1]
    # Windows-1252 gives almost every byte a meaning: it must be twice as plausible as Japanese.
    return likely[1][1] if best == "cp1252" and likely[1:] and likely[1][0] < 2 * likely[0][0] else best


_HALF_WIDTH = re.compile("[\uff61-\uff9f]+")
_SPOKEN = re.compile("(?:[\uff76-\uff84\uff8a-\uff8e\uff73]\uff9e|[\uff8a-\uff8e]\uff9f|[\uff66-\uff9d])+")
"""Half-width kana that could be said: voicing marks only behind the kana that take them."""
_HIGH_RUN = re.compile("[^\0-\x7f]+")


@functools.cache
def _oddity_of_char() -> NDArray[np.float64]:
    """Oddity of each character of the BMP in Japanese text, shape (65536,); half-width kana apart."""
    odd = np.full(1 << 16, 4.0)
    odd[:0x80] = 0
    odd[0x80:0xA1] = odd[0xE000:0xF900] = 8  # what CP932 makes of bytes that are no characters
    odd[0x2190:0x2194] = odd[0x25A0:0x2607] = odd[0x203B] = odd[0x2103] = 1  # arrows, shapes, signs
    odd[0x3001:0x3003] = odd[0x3005] = odd[0x3008:0x3013] = odd[0x3041:0x3097] = odd[0x30A1:0x30FF] = 0
    odd[0x3000] = odd[0xFF01:0xFF5F] = odd[0xFFE5] = 0.5  # full-width forms
    odd[0x2460:0x2474] = odd[0x3200:0x3400] = odd[0xFA0E:0xFA2E] = odd[0x2160:0x217A] = odd[0x2116] = odd[
        0x2121
    ] = 1.5
    odd[0x4E00:0xA000] = 2.5
    # JIS X 0208 rows 16 to 47 are the kanji of level 1, those in daily use.
    rows = (bytes((row, cell)) for row in range(0xB0, 0xD0) for cell in range(0xA1, 0xFF))
    odd[[ord(char) for pair in rows for char in pair.decode("euc_jp", "ignore")]] = 1
    return odd


def _japanese_oddity(text: str) -> float:
    """Sum over all characters of how little they belong into Japanese text."""
    whole = 0.0
    for run in _HIGH_RUN.finditer(text):
        chars = run.group()
        table = _oddity_of_char()
        whole += sum(table[ord(char)] if ord(char) < 1 << 16 else 4.0 for char in _HALF_WIDTH.sub("", chars))
        beside = text[max(run.start() - 1, 0) : run.start()] + text[run.end() : run.end() + 1]
        for kana in _HALF_WIDTH.findall(chars):
            pure = len(kana) == len(chars)
            whole += len(kana) * _half_width_oddity(kana, pure=pure, in_word=beside.isalpha())
    return whole


def _half_width_oddity(kana: str, *, pure: bool, in_word: bool) -> float:
    """Oddity per character: words of their own are common, single ones and soup with kanji are not."""
    said = kana.strip("\uff61\uff62\uff63")
    words = said.split("\uff65")
    if not all(_SPOKEN.fullmatch(word) and word[0] not in "\uff67\uff70\uff9d" for word in words):
        return 3.0
    if len(said) <= 2 and in_word:
        return 3.0
    if len(said) == 1:
        return 1.5 if pure else 3.0
    return 0.3 if pure else 1.0


_LATIN_LETTERS = frozenset(range(0xC0, 0x100)) - {0xD7, 0xF7}
_LATIN_RARE = frozenset(b"\x8a\x8c\x8e\x9a\x9c\x9e\x9f")
_LATIN_OPENING = frozenset(b"\x91\x92\x93\xab")
"""Quotation marks that stand before a letter; no character of UTF-8 begins with such a byte."""
_LATIN_SIGNS = frozenset("€„…‘’“”•–—™\u00a0¡£§©«®°±²³µ·º»¼½¾¿".encode("cp1252"))


def _latin_oddity(sample: bytes) -> float:
    """Sum over all bytes above 0x7F of how little they belong into text in Windows-1252."""
    whole = 0.0
    for run in re.finditer(rb"[\x80-\xff]+", sample):
        size = run.end() - run.start()
        if size == 2 and run.group()[0] in _LATIN_OPENING and run.group()[1] in _LATIN_LETTERS:
            whole += 1.4
            continue
        if size > 1:  # accents in a row are rare, and every character of UTF-8 looks like that
            whole += size * (2 if size == 2 else 4)
            continue
        beside = sample[max(run.start() - 1, 0) : run.start()] + sample[run.end() : run.end() + 1]
        byte = run.group()[0]
        if byte in _LATIN_LETTERS | _LATIN_RARE and re.search(rb"[A-Za-z]", beside):
            whole += 0.4 if byte in _LATIN_LETTERS else 1.5
        else:
            whole += 1.0 if byte in _LATIN_SIGNS else 3.0
    return whole


def _cp51932(error: UnicodeError) -> tuple[str, int]:
    """Decode two bytes that the codec does not know as the rows that CP932 adds to JIS X 0208."""
    if isinstance(error, UnicodeDecodeError):
        pair = error.object[error.start : error.start + 2]
        if len(pair) == 2 and min(pair) >= 0xA1 and (pair[0] == 0xAD or 0xF9 <= pair[0] <= 0xFC):
            row, cell = pair[0] - 0xA1, pair[1] - 0xA1
            lead = row // 2 + (0x81 if row < 62 else 0xC1)
            trail = cell + 0x9F if row % 2 else cell + 0x40 + (cell >= 63)
            return bytes((lead, trail)).decode("cp932"), error.start + 2
    raise error


codecs.register_error(EUC_ERRORS, _cp51932)
