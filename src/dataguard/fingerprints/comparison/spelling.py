"""Rare texts that are one letter away from a frequent one.

Neighbours are found by leaving out one letter of either (Mor and Fraenkel, Commun. ACM 25, 1982): two words
at distance one share a word that is left, so that no pair of words needs to be compared.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dataguard.values import mix64

__all__ = ["is_one_edit", "misspelt"]

I64 = NDArray[np.int64]

_FREQUENT, _TIMES = 20, 20
"""Rows that a right spelling has at least, and how many times the rows of the wrong one."""

_SHORTEST, _LONGEST = 5, 64
"""Characters: in three-letter codes every code is a neighbour of others, and long prose is not compared."""

_MOST_RIGHT, _MOST_WRONG = 2000, 4000
"""Texts compared per column: the most frequent ones, and rare ones chosen by a public hash."""

_MOST_CODES = 0.2
"""Where more rare texts than that have a neighbour, one letter apart is how the column is made (codes)."""


def misspelt(texts: pa.Array, count: I64) -> dict[int, int]:
    """Return which rare texts are probably which frequent one.

    Parameters
    ----------
    texts : pyarrow.Array of string
        Distinct texts.
    count : (len(texts),) int64
        Rows with each.

    Returns
    -------
    dict of int to int
        Positions in `texts`. Texts that have two frequent neighbours, or differ from theirs in a digit, are left
        out.
    """
    frequent = np.flatnonzero(count >= _FREQUENT)
    if not len(frequent):
        return {}
    frequent = frequent[np.argsort(-count[frequent], kind="stable")][:_MOST_RIGHT]
    rare = np.flatnonzero((count > 0) & (count * _TIMES <= int(count[frequent].max())))
    if len(rare) > _MOST_WRONG:
        rare = rare[np.argsort(mix64(rare.astype(np.uint64)), kind="stable")[:_MOST_WRONG]]
    left: dict[str, list[int]] = {}
    right = _fitting(texts, frequent)
    for at, text in right.items():
        for form in _forms(text):
            left.setdefault(form, []).append(at)
    found: dict[int, int] = {}
    looked = {
        at: text
        for at, text in _fitting(texts, rare).items()
        if at not in right or count[at] < _FREQUENT * _TIMES
    }
    for at, text in looked.items():
        near = {b for form in _forms(text) for b in left.get(form, ()) if b != at}
        near = {b for b in near if count[at] * _TIMES <= count[b] and is_one_edit(text, right[b])}
        if len(near) == 1:
            found[at] = near.pop()
    return found if len(found) <= max(3, _MOST_CODES * len(looked)) else {}


def _fitting(texts: pa.Array, at: I64) -> dict[int, str]:
    taken = zip(at.tolist(), texts.take(pa.array(at)).to_pylist(), strict=True)
    return {i: t for i, t in taken if t is not None and _SHORTEST <= len(t) <= _LONGEST and _is_worded(t)}


def _is_worded(text: str) -> bool:
    """Whether a text is made of letters, but for one character in five: N449US and N449UA are two names."""
    letters = sum(c.isalpha() for c in text)
    return letters >= 4 and letters >= 0.8 * sum(not c.isspace() for c in text)


def _forms(text: str) -> Iterator[str]:
    yield text
    for i in range(len(text)):
        yield text[:i] + text[i + 1 :]


def is_one_edit(a: str, b: str) -> bool:
    """Return whether one letter put in, left out or replaced, or two neighbours exchanged, makes a into b.

    Changes of digits do not count: a number more or less is another number.
    """
    if a == b or abs(len(a) - len(b)) > 1:
        return False
    start = 0
    while start < min(len(a), len(b)) and a[start] == b[start]:
        start += 1
    end = 0
    while end < min(len(a), len(b)) - start and a[-1 - end] == b[-1 - end]:
        end += 1
    x, y = a[start : len(a) - end], b[start : len(b) - end]
    if any(c.isdigit() for c in x + y):
        return False
    return max(len(x), len(y)) == 1 or (len(x) == len(y) == 2 and x == y[::-1])
