"""Texts that were hashed, cut short or masked: what the suspect shows is made from the original's text alone."""

from __future__ import annotations

import hashlib
import re
import zlib
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from dataguard.fingerprints.changes.change import Change

__all__ = ["cut_length", "disguise_of", "disguised_alike", "hash_name", "looks_like_tokens", "mask_of"]

_HEX = re.compile(r"^[0-9a-fA-F]{8,128}$", re.ASCII)
_TOKEN = re.compile(r"^(?=.*\d)(?=.*[A-Za-z])[A-Za-z0-9+/=_-]{8,128}$", re.ASCII)
_MASK = "*＊xX●■◯○×#•"
_MOST = 0.6
"""Least share of the pairs: up to a third may be wrong."""
_TRIED = 48
_SEVERAL = 4
"""Least number of different beginnings: 0.02 and 0.1 begin alike."""

_HASHES: dict[str, Callable[[bytes], str]] = {
    "md5": lambda t: hashlib.md5(t, usedforsecurity=False).hexdigest(),
    "sha1": lambda t: hashlib.sha1(t, usedforsecurity=False).hexdigest(),
    "sha256": lambda t: hashlib.sha256(t).hexdigest(),
    "sha512": lambda t: hashlib.sha512(t).hexdigest(),
    "blake2b": lambda t: hashlib.blake2b(t).hexdigest(),
    "crc32": lambda t: f"{zlib.crc32(t):08x}",
}


def disguise_of(pairs: Sequence[tuple[str, str]]) -> Change | None:
    """Return how texts were hashed, cut or masked; None if they were not.

    Parameters
    ----------
    pairs : sequence of (original, suspect)
        Printed texts of paired rows that differ, of which up to a third may be wrong.
    """
    if len(pairs) < 8 or len({b for _, b in pairs}) < 2:
        return mask_of(pairs) if len(pairs) >= 8 else None
    if algorithm := hash_name(pairs):
        return Change("hashed", {"algorithm": algorithm, "values": len({a for a, _ in pairs})})
    others = [(a, b) for (a, _), (_, b) in zip(pairs, [*pairs[1:], pairs[0]], strict=True)]
    # Short numbers begin alike in any pair of rows.
    several = len({b for _, b in pairs}) >= _SEVERAL
    if several and (characters := cut_length(pairs)) and not cut_length(others):
        return Change("truncated", {"characters": characters})
    return mask_of(pairs)


def disguised_alike(change: Change, left: Sequence[str], right: Sequence[str]) -> NDArray[np.bool_]:
    """Return which of some pairs of texts are as the change says.

    Parameters
    ----------
    change : Change
        As `disguise_of` returns it.
    left, right : sequence of str
    """
    if change.kind == "hashed":
        digest = _HASHES[str(change.detail["algorithm"])]
        held = [_digested(digest, x, y) for x, y in zip(left, right, strict=True)]
    elif change.kind == "truncated":
        held = [bool(cut_length([pair])) for pair in zip(left, right, strict=True)]
    else:
        held = [mask_of([pair]) is not None for pair in zip(left, right, strict=True)]
    return np.array(held, np.bool_)


def _digested(digest: Callable[[bytes], str], original: str, token: str) -> bool:
    return len(token) >= 8 and any(digest(v.encode()).startswith(token.lower()) for v in _variants(original))


def _variants(text: str) -> list[str]:
    bare = text.strip()
    numbers = [f"{bare}.0"] if re.fullmatch(r"-?\d+", bare) else []
    return list(dict.fromkeys([text, bare, bare.lower(), bare.upper(), *numbers]))


def hash_name(pairs: Sequence[tuple[str, str]]) -> str:
    """Return the hash function whose digest, or the beginning of it, the suspect shows; empty if none."""
    tried = [p for p in pairs[:: max(1, len(pairs) // _TRIED)][:_TRIED] if _HEX.match(p[1])]
    if len(tried) < max(4, _MOST * min(len(pairs), _TRIED)):
        return ""
    found: Counter[str] = Counter()
    for original, token in tried:
        for name, digest in _HASHES.items():
            if _digested(digest, original, token):
                found[name] += 1
                break
    name, count = found.most_common(1)[0] if found else ("", 0)
    return name if count >= _MOST * len(tried) else ""


def cut_length(pairs: Sequence[tuple[str, str]]) -> int:
    """Return the length that longer texts were cut to; 0 if they were not."""
    lengths: Counter[int] = Counter()
    for original, shown in pairs:
        kept = re.sub(r"(?:…|\.\.\.)$", "", shown)
        if 0 < len(kept) < len(original) and original.startswith(kept):
            lengths[len(kept)] += 1
    if not lengths:
        return 0
    # A cut may end on a blank, which is then lost: the longest of the frequent lengths is the limit.
    total = sum(lengths.values())
    limit = max(n for n, count in lengths.items() if count >= 0.05 * total)
    near = sum(count for n, count in lengths.items() if limit - 2 <= n <= limit)
    return limit if near >= _MOST * len(pairs) else 0


def mask_of(pairs: Sequence[tuple[str, str]]) -> Change | None:
    """Return the change of texts most characters of which were covered by one sign; None if they were not."""
    patterns: Counter[str] = Counter()
    for original, shown in pairs:
        signs = Counter(c for c in shown if c in _MASK)
        if not signs:
            continue
        sign, count = signs.most_common(1)[0]
        if original.count(sign) >= count or count < 2:
            continue
        kept = [(i, c) for i, c in enumerate(shown) if c != sign]
        aligned = len(shown) == len(original) and all(original[i] == c for i, c in kept)
        ends = re.split(re.escape(sign) + "+", shown)
        outer = original.startswith(ends[0]) and original.endswith(ends[-1]) and len(ends) == 2
        if not (aligned or outer) or count < 0.3 * len(shown):
            continue
        runs = re.sub(re.escape(sign) + "{3,}", sign * 3, shown)
        patterns[
            "".join(c if c == sign else "A" if c.isalpha() else "9" if c.isdigit() else c for c in runs)
        ] += 1
    if sum(patterns.values()) < _MOST * len(pairs):
        return None
    return Change("masked", {"pattern": patterns.most_common(1)[0][0][:64]})


def looks_like_tokens(texts: Sequence[str]) -> bool:
    """Whether texts look like pseudonyms made by a machine: of one length, letters and digits mixed."""
    seen = [t for t in texts if t]
    if len(seen) < 4:
        return False
    lengths = Counter(len(t) for t in seen)
    alike = lengths.most_common(1)[0][1] >= 0.9 * len(seen)
    return alike and sum(1 for t in seen if _TOKEN.match(t)) >= 0.8 * len(seen)
