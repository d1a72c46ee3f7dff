"""Columns folded: the rules of ``meaning.py`` for whole columns, once per distinct text.

Numbers of Arrow types cost a look at one cell; texts are screened by a few regular expressions
in C, and only what looks like a written number or date is read by the rules.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from dataguard.cells import NUMBER, NUMBER_PATTERN, TEXT
from dataguard.folding.meaning import Clue, Evidence, Ways, rewrite
from dataguard.folding.moments import COMPACT, TIME_SHAPES
from dataguard.folding.numerals import NUMBER_SHAPES
from dataguard.folding.quick import as_micros, day_exists, grouped_numbers, lone_groups, matches, year_first
from dataguard.folding.spelling import MISSING, MISSING_WORDS, respell_all
from dataguard.values import Canonical, CanonicalTable, canonical_column

__all__ = ["Folded", "evidence_of", "fold_column", "fold_table"]

B = NDArray[np.bool_]
I64 = NDArray[np.int64]

_BOTH_WAYS = r"^[+-]?(?:\d{1,18}|[1-9]\d{0,2}\.\d{3})$"
"""Plain numbers that a decimal comma would leave numbers."""
_WRITTEN = "|".join(f"(?:{shape})" for shape in (*NUMBER_SHAPES, *TIME_SHAPES))
_DAY, _SECOND = (18_000_101, 21_991_231), (18_000_101_000_000, 21_991_231_235_959)


@dataclass(frozen=True, slots=True)
class Folded:
    """A folded column.

    Attributes
    ----------
    column : Canonical
        Cells that mean the same have equal tags and keys, and are equal by `Canonical.equals`, in all columns
        that are folded; never to be committed.
    ways : Ways
        What was decided for the column as a whole.
    """

    column: Canonical
    ways: Ways


def fold_column(column: Canonical, ways: Ways | None = None) -> Folded:
    """Return a canonical column with cells that mean the same made equal.

    Equal canonical cells stay equal, with one exception: in a column that writes the decimal comma, 1.000 is
    read as a thousand and 1 as one, where the canonical form takes both for one.

    Parameters
    ----------
    column : Canonical
    ways : Ways, optional
        How to read it; by default decided on all its texts. Parts of one column (blocks, samples) are to be
        folded by the ways of the whole: see `evidence_of`.
    """
    if not len(column.texts):
        decided = _evidence_of_numbers(column).ways() if ways is None else ways
        return Folded(_dated(column) if decided.compact else column, decided)
    plain = matches(column.texts, NUMBER_PATTERN)
    read = _Read.of(column.texts.filter(pa.array(~plain)))
    if ways is None:
        ways = (_evidence_of_plain(column.texts.filter(pa.array(plain))) + read.evidence()).ways()
    if ways.decimal == "," and _holds_texts(column.source):
        return Folded(_by_source(column.source, ways), ways)
    out = _by_texts(column, plain, read, ways)
    return Folded(_dated(out) if ways.compact else out, ways)


def fold_table(table: CanonicalTable) -> CanonicalTable:
    """Return a table with every column folded by what it decides itself."""
    return CanonicalTable(table.names, tuple(fold_column(c).column for c in table.columns))


def evidence_of(column: Canonical) -> Evidence:
    """Return what a column shows of how it is written: as `Evidence.of` its distinct texts."""
    if not len(column.texts):
        return _evidence_of_numbers(column)
    plain = matches(column.texts, NUMBER_PATTERN)
    numbers = column.texts.filter(pa.array(plain))
    return _evidence_of_plain(numbers) + _Read.of(column.texts.filter(pa.array(~plain))).evidence()


def _holds_texts(source: pa.ChunkedArray) -> bool:
    kind = source.type.value_type if pa.types.is_dictionary(source.type) else source.type
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _flags(array: pa.Array) -> B:
    flags: B = array.to_numpy(zero_copy_only=False)
    return flags


@dataclass(frozen=True, slots=True)
class _Read:
    """Texts respelt, and which of their spellings are what.

    Attributes
    ----------
    texts : pyarrow.Array of large_string
        Distinct spellings.
    place : (n,) int64
        Which of them each text has.
    grouped, dated, looked, missing : bool, one per spelling
        Thousands with commas; dates with the year first; anything else that may be a number, a date or a word
        for nothing; signs for nothing.
    micros : int64
        Of the dates, in order.
    """

    texts: pa.Array
    place: I64
    grouped: B
    dated: B
    looked: B
    missing: B
    micros: I64

    @classmethod
    def of(cls, texts: pa.Array) -> _Read:
        """Respell texts that are not missing and sort them out."""
        encoded = pa.array(respell_all(texts.to_pylist()), pa.large_string()).dictionary_encode()
        distinct = encoded.dictionary
        missing = _flags(pc.is_in(distinct, pa.array(list(MISSING), pa.large_string())))
        words = _flags(pc.is_in(distinct, pa.array(list(MISSING_WORDS), pa.large_string())))
        grouped = grouped_numbers(distinct)
        dated, micros = year_first(distinct)
        looked = (matches(distinct, _WRITTEN) | words) & ~grouped & ~dated & ~missing
        place = encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64)
        return cls(distinct, place, grouped, dated, looked, missing, micros)

    def evidence(self) -> Evidence:
        """Return what the spellings show, by the rules for those that are looked at."""
        thousands = self.texts.filter(pa.array(self.grouped))
        groups, both = len(thousands), int(lone_groups(thousands).sum())
        times = int(self.dated.sum())
        rest = int((~(self.missing | self.looked)).sum())
        seen = _evidence(
            rest,
            {
                Clue.NUMBER: groups,
                Clue.COMMA_NUMBER: both,
                Clue.NEEDS_POINT: groups - both,
                Clue.TIME: times,
            },
        )
        return seen + Evidence.of(self.texts.filter(pa.array(self.looked)).to_pylist())

    def rewritten(self, ways: Ways) -> Canonical:
        """Return the canonical form of the spellings, rewritten as what they mean."""
        by_rule = self.looked | self.missing
        quick = self.grouped
        if ways.decimal == ",":
            by_rule, quick = by_rule | self.grouped, np.zeros_like(quick)
        elif not ways.decimal:  # a lone comma stays
            quick = quick & matches(self.texts, r"\.")
        at = np.flatnonzero(by_rule)
        texts = [rewrite(text, ways) for text in self.texts.take(pa.array(at)).to_pylist()]
        timed = np.array([isinstance(text, dt.datetime) for text in texts], bool)
        plain = pa.array(["" if isinstance(text, dt.datetime) else text for text in texts], pa.large_string())
        whole = pc.replace_with_mask(self.texts, pa.array(by_rule), plain)
        digits = pc.replace_substring(whole.filter(pa.array(quick)), ",", "")
        whole = pc.replace_with_mask(whole, pa.array(quick), digits)
        whole = pc.if_else(
            pa.array(self.dated), "", whole
        )  # or the canonical form would read them one by one
        moments = pa.array(
            [text for text in texts if isinstance(text, dt.datetime)], pa.timestamp("us", tz="UTC")
        )
        out = _timed(canonical_column(whole), np.flatnonzero(self.dated), self.micros)
        return _timed(out, at[timed], moments.cast(pa.int64()).to_numpy(zero_copy_only=False))


def _timed(column: Canonical, at: I64, micros: I64) -> Canonical:
    """Return a column with some cells made times."""
    if not len(at):
        return column
    times = canonical_column(pa.array(micros, pa.timestamp("us")))
    tag, word, key = column.tag.copy(), column.word.copy(), column.key.copy()
    tag[at], word[at], key[at] = times.tag, times.word, times.key
    return Canonical(tag, word, key, column.texts, column.source)


# --- evidence ------------------------------------------------------------------------------------


def _evidence(cells: int, found: dict[Clue, int]) -> Evidence:
    return Evidence(cells, tuple(found.get(clue, 0) for clue in Clue))


def _evidence_of_numbers(column: Canonical) -> Evidence:
    """Numbers and times by type: only whether they are dates in digits is open."""
    numbers = column.number[column.tag == NUMBER] if _may_be_compact(column) else np.empty(0)
    if not len(numbers) or not _is_compact(numbers).all():
        return Evidence()
    distinct = pc.count_distinct(pa.array(numbers)).as_py()
    return _evidence(distinct, {Clue.NUMBER: distinct, Clue.COMMA_NUMBER: distinct, Clue.COMPACT: distinct})


def _may_be_compact(column: Canonical) -> bool:
    """Whether the first present cell looks like a date in digits: spares all other columns the search."""
    present = np.flatnonzero(column.tag[:4096])
    at = int(present[0]) if len(present) else 0
    if not len(column) or (len(present) and column.tag[at] != NUMBER):
        return False
    value = float(column.word[at : at + 1].view(np.float64)[0])
    inside = any(first <= value <= last for first, last in (_DAY, _SECOND))
    return (inside or not len(present)) and bool(np.isin(column.tag, (0, NUMBER)).all())


def _evidence_of_plain(texts: pa.Array) -> Evidence:
    """Evidence of distinct texts that are numbers as they stand."""
    cells = len(texts)
    both, compact = int(matches(texts, _BOTH_WAYS).sum()), matches(texts, COMPACT)
    dates = 0
    if compact.any():
        digits = pc.replace_substring_regex(texts.filter(pa.array(compact)), r"\.0*$", "")
        dates = int(_is_compact(digits.cast(pa.int64()).to_numpy().astype(np.float64)).sum())
    return _evidence(
        cells,
        {
            Clue.NUMBER: cells,
            Clue.COMMA_NUMBER: both,
            Clue.NEEDS_POINT: cells - both,
            Clue.COMPACT: dates,
        },
    )


# --- cells ---------------------------------------------------------------------------------------


def _by_texts(column: Canonical, plain: B, read: _Read, ways: Ways) -> Canonical:
    """Fold the cells that are texts; all others are what they are."""
    where = column.tag == TEXT
    if not where.any():
        return column
    # A number beyond binary64 (1e400) is of the shape of one, and a text.
    place = np.full(len(plain), -1, np.int64)
    place[~plain] = read.place
    at = column.word[where].astype(np.int64)
    folded, found = read.rewritten(ways), place[at]
    tag, word, key = column.tag.copy(), column.word.copy(), column.key.copy()
    tag[where], word[where], key[where] = folded.tag[found], folded.word[found], folded.key[found]
    beyond = np.flatnonzero(where)[found < 0]
    if not len(beyond):
        return Canonical(tag, word, key, folded.texts, column.source)
    texts = pa.concat_arrays(
        [folded.texts.cast(pa.string()), column.texts.take(pa.array(at[found < 0])).cast(pa.string())]
    )
    tag[beyond], key[beyond] = TEXT, column.key[beyond]
    word[beyond] = np.arange(len(folded.texts), len(texts)).astype(np.uint64)
    return Canonical(tag, word, key, texts, column.source)


def _by_source(source: pa.ChunkedArray, ways: Ways) -> Canonical:
    """Fold all cells from what they were read from: the canonical form has lost what 1.000 was."""
    flat = source.combine_chunks()
    if pa.types.is_dictionary(flat.type):
        flat = flat.cast(flat.type.value_type)
    encoded = pc.dictionary_encode(flat.cast(pa.large_string()))
    read = _Read.of(encoded.dictionary)
    folded = replace(read, looked=read.looked | matches(read.texts, NUMBER_PATTERN)).rewritten(ways)
    tag, word, key = (
        np.append(part[read.place], part.dtype.type(0)) for part in (folded.tag, folded.word, folded.key)
    )
    place = pc.fill_null(encoded.indices, len(read.place)).to_numpy(zero_copy_only=False).astype(np.int64)
    return Canonical(tag[place], word[place], key[place], folded.texts, source)


# --- dates in digits -----------------------------------------------------------------------------


def _parts(numbers: NDArray[np.float64]) -> tuple[I64, I64, I64, I64]:
    """Return year, month, day and hhmmss of numbers of 8 or 14 digits."""
    whole = numbers.astype(np.int64)
    is_day = whole < 10**8
    day, clock = np.where(is_day, whole, whole // 10**6), np.where(is_day, 0, whole % 10**6)
    return day // 10_000, day // 100 % 100, day % 100, clock


def _is_compact(numbers: NDArray[np.float64]) -> B:
    """Return which numbers are dates in digits, as `dataguard.folding.moments.compact_moment` says."""
    inside = np.zeros(len(numbers), bool)
    for first, last in (_DAY, _SECOND):
        inside |= (numbers >= first) & (numbers <= last)
    inside &= numbers == np.floor(numbers)
    year, month, day, clock = _parts(np.where(inside, numbers, _DAY[0]))
    on_clock = (clock // 10_000 < 24) & (clock // 100 % 100 < 60) & (clock % 100 < 60)
    found: B = inside & day_exists(year, month, day) & on_clock
    return found


def _dated(column: Canonical) -> Canonical:
    """Return a column with its numbers that are dates in digits made times."""
    at = np.flatnonzero(column.tag == NUMBER)
    at = at[_is_compact(column.word[at].view(np.float64))]
    year, month, day, clock = _parts(column.word[at].view(np.float64))
    seconds = clock // 10_000 * 3600 + clock // 100 % 100 * 60 + clock % 100
    return _timed(column, at, as_micros(year, month, day, seconds))
