"""Texts put together from several columns, and texts that are a part of one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

__all__ = ["TextColumn", "merged_from", "split_from"]

_MOST = 0.6
_ROWS = 64
_SEPARATORS = ("-", "/", "_", ", ", ",", ";", ":", "|", "@", ".", " ", "・", "、")
_LONGEST = 8
"""Characters of a separator."""
_ENDS = 24
"""Columns that are tried as beginning and as end."""


@dataclass(frozen=True, slots=True)
class TextColumn:
    """Printed cells of one column, of a few rows.

    Attributes
    ----------
    texts : tuple of str
        Empty where missing; at most 64 rows, evenly spaced.
    distinct : int
    """

    texts: tuple[str, ...]
    distinct: int

    @classmethod
    def of(cls, texts: Sequence[str]) -> TextColumn | None:
        """Return the texts of some rows; None where fewer than two differ."""
        step = max(1, len(texts) // _ROWS)
        some = tuple(texts[::step][:_ROWS])
        distinct = len(set(some) - {""})
        return cls(some, distinct) if distinct >= 2 else None


def _padded(text: str) -> tuple[str, ...]:
    return (text, text.zfill(2)) if text.isdecimal() and len(text) == 1 else (text,)


def _begin(whole: str, part: str) -> int:
    """Return how many characters of a text the part makes up at its beginning; -1 if it is not there."""
    return next((len(p) for p in _padded(part) if part and whole.startswith(p)), -1)


def _end(whole: str, part: str) -> int:
    return next((len(p) for p in reversed(_padded(part)) if part and whole.endswith(p)), -1)


def merged_from(
    columns: Sequence[TextColumn | None], shown: TextColumn
) -> tuple[tuple[int, ...], str] | None:
    """Return the two or three columns that were joined, and the separator; None if none were.

    Parameters
    ----------
    columns : sequence of TextColumn or None
        The original's.
    shown : TextColumn
        The suspect's, of the same rows.
    """
    whole = [t for t in shown.texts if t]
    if len(whole) < 16 or shown.distinct < 4:
        return None
    held = [(p, c) for p, c in enumerate(columns) if c is not None]
    heads = [(p, c) for p, c in held if _share(_begin, shown, c) >= _MOST][:_ENDS]
    tails = [(p, c) for p, c in held if _share(_end, shown, c) >= _MOST][:_ENDS]
    best: tuple[int, tuple[int, ...], str] | None = None
    for p, head in heads:
        for q, tail in tails:
            if p == q:
                continue
            middles = _middles(shown, head, tail)
            least = _MOST * len(whole)
            between = Counter(m for m in middles if m is not None)
            separator, count = between.most_common(1)[0] if between else ("", 0)
            if count >= least and len(separator) <= _LONGEST and (best is None or count > best[0]):
                best = count, (p, q), separator
            if best is None or best[0] < 0.95 * len(whole):
                three = _third(held, middles, {p, q}, least)
                if three is not None and (best is None or three[0] > best[0]):
                    best = three[0], (p, three[1], q), three[2]
    return None if best is None else (best[1], best[2])


def _share(found: Callable[[str, str], int], shown: TextColumn, column: TextColumn) -> float:
    hits = [found(t, c) >= 0 and len(t) > len(c) for t, c in zip(shown.texts, column.texts, strict=True) if t]
    return sum(hits) / max(1, len(hits))


def _middles(shown: TextColumn, head: TextColumn, tail: TextColumn) -> list[str | None]:
    middles: list[str | None] = []
    for t, a, b in zip(shown.texts, head.texts, tail.texts, strict=True):
        i, j = _begin(t, a), _end(t, b)
        middles.append(t[i : len(t) - j] if i >= 0 and j >= 0 and i + j <= len(t) else None)
    return middles


def _third(
    held: Sequence[tuple[int, TextColumn]], middles: Sequence[str | None], taken: set[int], least: float
) -> tuple[int, int, str] | None:
    """Return the column between two others, with how many rows it fits and the separator on both sides."""
    for position, column in held:
        if position in taken:
            continue
        around: Counter[str] = Counter()
        for middle, text in zip(middles, column.texts, strict=True):
            if middle is None or not text:
                continue
            for part in reversed(_padded(text)):
                left, found, right = middle.partition(part)
                if found and left == right and len(left) <= _LONGEST:
                    around[left] += 1
                    break
        if around and around.most_common(1)[0][1] >= least and column.distinct >= 2:
            separator, count = around.most_common(1)[0]
            return count, position, separator
    return None


def split_from(columns: Sequence[TextColumn | None], shown: TextColumn) -> tuple[int, str] | None:
    """Return the column that a part was taken of, and which part; None if none.

    Parameters
    ----------
    columns : sequence of TextColumn or None
        The original's.
    shown : TextColumn
        The suspect's, of the same rows.
    """
    if len([t for t in shown.texts if t]) < 16:
        return None
    best: tuple[int, int, str] | None = None
    for position, column in enumerate(columns):
        if column is None:
            continue
        pairs = [
            (a, b) for a, b in zip(column.texts, shown.texts, strict=True) if a and b and len(b) < len(a)
        ]
        if len(pairs) < 16 or len(pairs) < _MOST * len([b for b in shown.texts if b]):
            continue
        parts = Counter(part for a, b in pairs for part in _parts(a, b))
        if not parts:
            continue
        part, count = max(parts.items(), key=lambda p: (p[1], _simple(p[0])))
        # In other rows the same part must be another one: two values and one in all columns say nothing.
        other = sum(part in _parts(a, b) for (a, _), (_, b) in zip(pairs, pairs[1:] + pairs[:1], strict=True))
        sure = count - other >= 0.5 * (len(pairs) - other) and other < len(pairs)
        if count >= _MOST * len(pairs) and sure and (best is None or count > best[0]):
            best = count, position, part
    return None if best is None else best[1:]


def _simple(part: str) -> int:
    return 1 if part.startswith("piece") else 0


def _parts(whole: str, part: str) -> set[str]:
    """Return the ways in which a text is a part of another."""
    found = set()
    for separator in _SEPARATORS:
        pieces = whole.split(separator, 16)
        if len(pieces) < 2:
            continue
        found |= {f"piece {i + 1} by {separator!r}" for i, p in enumerate(pieces[:16]) if p.strip() == part}
        if pieces[-1].strip() == part:
            found.add(f"last piece by {separator!r}")
    n = len(part)
    if whole.startswith(part):
        found.add(f"first {n} characters")
    if whole.endswith(part):
        found.add(f"last {n} characters")
    at = whole.find(part, 1)
    if 0 < at < len(whole) - n:
        found.add(f"characters {at + 1} to {at + n}")
    return found
