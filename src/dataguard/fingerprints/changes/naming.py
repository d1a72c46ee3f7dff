"""What was done to one column, read off rows that are known to belong together.

Each step looks only at the rows that the steps before it leave unexplained: other writing, emptied and filled
cells, maps of numbers, disguised texts, renamed categories. What remains is said to be near or far.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dataguard.cells import BIG, NULL, NUMBER, TIME
from dataguard.fingerprints.changes.calendars import cut_to, daylight_saving
from dataguard.fingerprints.changes.change import Change
from dataguard.fingerprints.changes.disguises import disguise_of, disguised_alike, looks_like_tokens
from dataguard.fingerprints.changes.fitting import Fit, fit_map
from dataguard.fingerprints.changes.mapped import explained_by, map_changes
from dataguard.fingerprints.changes.printing import printed, texts_at
from dataguard.fingerprints.changes.recodings import fit_recoding
from dataguard.fingerprints.changes.writings import format_changes
from dataguard.folding.columns import Folded, fold_column
from dataguard.maps import Recoding, ValueMap
from dataguard.values import Canonical, canonical_column

__all__ = ["LOOKED_AT", "ColumnChanges", "name_changes"]

B = NDArray[np.bool_]
F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

LOOKED_AT = 20_000
"""Row pairs that are looked at, evenly spaced: a share of 1 in 1,000 is then seen 20 times."""
_NEAR_SD = 0.2
_PAIRS = 400
_TRIED = 1000
_NUMERIC = 0.9
"""Least share of numbers for a column to be one of numbers."""
_EMPTIED = 0.01
"""Least share of emptied or filled cells to be named: wrong pairs leave a few on both sides."""
_CONSISTENT = 0.95
"""From here on a renaming one for one is believed of values seen once, too."""
_WORTH = 0.2
"""Least share of the unexplained rows that a change must explain to be named: a third may be wrong pairs, and
values that seem renamed because two cells changed places are a few in a thousand."""
_FEW = 8
_SECONDS = {
    1.0: "seconds since 1970", 1e3: "milliseconds since 1970", 1e-3: "milliseconds since 1970",
    1e6: "microseconds since 1970", 1e-6: "microseconds since 1970",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class ColumnChanges:
    """What was done to one column.

    Attributes
    ----------
    changes : tuple of Change
    through : ValueMap, Recoding or None
        How the suspect shows the original's values: of numbers and seconds, or of the keys of folded cells;
        None: as they are, or in a way that is no function of the value that could be written down.
    equal : float
        Share of the rows whose canonical cells are equal; two missing cells are.
    explained : float
        Share of the rows that are equal after undoing the changes that are named, other writing included.
        Emptied cells are not.
    """

    changes: tuple[Change, ...]
    through: ValueMap | Recoding | None
    equal: float
    explained: float


@dataclass(frozen=True, slots=True)
class _Found:
    """Changes, the map behind them, and the rows they explain."""

    changes: tuple[Change, ...]
    hits: B
    through: ValueMap | Recoding | None = None


def name_changes(
    original: Canonical, suspect: Canonical, original_row: I64, suspect_row: I64
) -> ColumnChanges:
    """Return what was done to one column.

    Parameters
    ----------
    original, suspect : Canonical
        The two columns as read, not folded.
    original_row, suspect_row : (m,) int64
        Rows that belong together; at most `LOOKED_AT`, evenly spaced, are looked at.
    """
    m = len(original_row)
    if m == 0:
        return ColumnChanges((), None, 1.0, 1.0)
    few = np.arange(min(m, LOOKED_AT)) * m // min(m, LOOKED_AT)
    a, b = (_part(c, r[few]) for c, r in ((original, original_row), (suspect, suspect_row)))
    equal = a.key == b.key
    return _named(a, b, _read_alike(a, b), equal)


def _part(column: Canonical, rows: I64) -> Canonical:
    """Return some rows with no other texts than their own: `Canonical.take` shares the texts of all."""
    return canonical_column(column.source.take(pa.array(rows)))


def _read_alike(a: Canonical, b: Canonical) -> tuple[Folded, Folded]:
    """Return both columns folded; where one leaves open how it writes, the other decides.

    03/01/2022 may be in March or in January, 1,234 a thousand or one and a bit: the rows tell.
    """
    read = fold_column(a), fold_column(b)
    if read[0].column.kind == read[1].column.kind == "text" or _alike(*read) >= 0.5:
        return read
    few = np.arange(0, len(a), max(1, len(a) // _TRIED))
    best = tuple(_part(c, few) for c in (a, b))
    ways = [r.ways for r in read]
    share = _alike(*(fold_column(c, w) for c, w in zip(best, ways, strict=True)))
    for side in (0, 1):
        if not len((a, b)[side].texts):
            continue
        tried = [replace(ways[side], order=o) for o in ("dmy", "mdy") if not ways[side].order]
        for other in tried + [replace(ways[side], decimal=d) for d in ".," if d != ways[side].decimal]:
            trial = [other if k == side else w for k, w in enumerate(ways)]
            if (found := _alike(*(fold_column(c, w) for c, w in zip(best, trial, strict=True)))) > share:
                share, ways = found, trial
    if ways == [r.ways for r in read]:
        return read
    return fold_column(a, ways[0]), fold_column(b, ways[1])


def _alike(one: Folded, other: Folded) -> float:
    present = (one.column.tag != NULL) | (other.column.tag != NULL)
    same = one.column.key[present] == other.column.key[present]
    return float(same.mean()) if len(same) else 1.0


def _named(a: Canonical, b: Canonical, folded: tuple[Folded, Folded], equal: B) -> ColumnChanges:
    fa, fb = folded[0].column, folded[1].column
    same: B = fa.key == fb.key
    if fa.kind == "time" and fb.kind == "time":
        same |= fa.number == fb.number
    changes = list(format_changes(a, b, same | equal, (folded[0].ways, folded[1].ways)))
    explained = same | equal
    through: ValueMap | Recoding | None = None
    steps = [_emptied(fa, fb, b)]
    both = (fa.tag != NULL) & (fb.tag != NULL)
    if not explained[both].all():
        steps.append(_altered(a, b, fa, fb, both, explained))
    for step in steps:
        changes += step.changes
        explained = explained | step.hits
        through = through if step.through is None else step.through
    named = any(c.kind == "blanked" for c in changes)
    rest = ~explained & ~((fa.tag != NULL) & (fb.tag == NULL) & named)
    changes += _remaining(fa, fb, rest, through)
    return ColumnChanges(tuple(changes), through, float(equal.mean()), float(explained.mean()))


def _emptied(fa: Canonical, fb: Canonical, b: Canonical) -> _Found:
    """Cells that were emptied, or empty ones that were filled with one value."""
    gone = (fa.tag != NULL) & (fb.tag == NULL)
    new = (fa.tag == NULL) & (fb.tag != NULL)
    changes, hits = [], np.zeros(len(gone), np.bool_)
    value, count = np.unique(fb.key[new], return_counts=True)
    if len(value) and count.max() >= max(3, 0.9 * new.sum()):
        filled = new & (fb.key == value[np.argmax(count)])
        elsewhere = (fa.tag != NULL) & (fb.tag != NULL)
        usual = float((fb.key[elsewhere] == value[np.argmax(count)]).mean()) if elsewhere.any() else 0.0
        # A value that most cells hold anyway fills the missing ones by wrong pairs, too.
        if filled.sum() >= (0.5 + 0.5 * usual) * new.sum() and usual < 0.5:
            text = texts_at(printed(b), np.flatnonzero(filled)[:1])[0]
            share = float(filled.sum() / (fa.tag == NULL).sum())
            changes.append(Change("filled", {"share": round(share, 4), "value": text[:64]}))
            hits |= filled
    present = max(1, int((fa.tag != NULL).sum()))
    others = int((new & ~hits).sum())
    if gone.sum() >= max(1, _EMPTIED * present) and gone.sum() >= 3 * others:
        changes.append(Change("blanked", {"share": round(float(gone.sum() / present), 4)}))
    return _Found(tuple(changes), hits)


def _altered(a: Canonical, b: Canonical, fa: Canonical, fb: Canonical, both: B, explained: B) -> _Found:
    """Values that are others: by a map of numbers, a disguise or a recoding, whichever explains most."""
    nothing = _Found((), np.zeros(len(both), np.bool_))
    if both.sum() < _FEW:
        return nothing
    ways = [_numbers(fa, fb, both, explained)] if _numeric(fa, both) and _numeric(fb, both) else []
    done = max((_gain(w, explained, both) for w in ways), default=0.0)
    if any(_is_cut(c) for w in ways for c in w.changes):
        # A postal code without its last digits is a text cut short sooner than a number divided by 100.
        cut = _disguised(a, b, both & ~explained, both)
        if cut.changes and _gain(cut, explained, both) >= 0.98 * done:
            return replace(cut, through=ways[0].through)
    if done < 0.95:
        ways += [_disguised(a, b, both & ~explained, both), _recoded(a, b, fa, fb, both)]
    best = max(ways, key=lambda w: _gain(w, explained, both), default=nothing)
    return best if _gain(best, explained, both) >= _WORTH else nothing


def _is_cut(change: Change) -> bool:
    scale = change.detail.get("scale")
    return change.kind == "affine" and scale in {0.1, 0.01, 1e-3, 1e-4} and change.detail.get("offset") == 0


def _gain(found: _Found, explained: B, both: B) -> float:
    rest = both & ~explained
    return float(found.hits[rest].mean()) if found.changes and rest.any() else 0.0


def _numeric(column: Canonical, both: B) -> bool:
    return float(np.isin(column.tag[both], (NUMBER, BIG, TIME)).mean()) >= _NUMERIC


# --- numbers and moments ---------------------------------------------------------------------------


def _numbers(fa: Canonical, fb: Canonical, both: B, explained: B) -> _Found:
    at = np.flatnonzero(both)
    x, y = fa.number[at], fb.number[at]
    known = np.isfinite(x) & np.isfinite(y)
    at, x, y = at[known], x[known], y[known]
    time = _mostly_times(fa, at) and _mostly_times(fb, at)
    hits = np.zeros(len(both), np.bool_)
    if time:
        for found in (cut_to(x, y), daylight_saving(x, y)):
            if found is not None and found[1].mean() > (x == y).mean():
                hits[at] = found[1]
                return _Found((found[0],), hits)
    if _single_precision(x, y, explained[at]):
        hits[at] = x.astype(np.float32).astype(np.float64) == y
        return _Found((Change("rounded", {"digits": 7, "rule": "nearest", "to": "float32"}),), hits)
    fit = fit_map(x, y)
    if fit is None:
        return _Found((), hits)
    in_seconds = _mostly_times(fa, at) != _mostly_times(fb, at) and fit.map.shift == 0 == fit.map.noise
    if in_seconds and fit.map.function == "" and fit.map.scale in _SECONDS:
        ends = ("timestamp", _SECONDS[fit.map.scale])
        ends = ends if _mostly_times(fa, at) else ends[::-1]
        change = Change("format", {"from": ends[0], "to": ends[1]})
        hits[at] = explained_by(fit.map, x, y)
        return _Found((change,), hits, None if fit.map.is_plain else fit.map)
    if (fit.map.is_plain and not fit.map.noise) or _is_exchange(fit, x, y):
        return _Found((), hits)
    hits[at] = explained_by(fit.map, x, y)
    return _Found(map_changes(fit.map, x, y, time), hits, fit.map)


def _mostly_times(column: Canonical, at: I64) -> bool:
    return len(at) > 0 and float((column.tag[at] == TIME).mean()) >= _NUMERIC


def _single_precision(x: F64, y: F64, same: B) -> bool:
    with np.errstate(over="ignore"):
        held = x.astype(np.float32).astype(np.float64) == y
    rest = ~same
    return len(x) > 0 and bool(rest.any()) and float(held[rest].mean()) >= 0.5


def _is_exchange(fit: Fit, x: F64, y: F64) -> bool:
    """Whether values only changed places, near by: all of the suspect's are values of the original's rows."""
    if not (fit.map.noise and replace(fit.map, noise=0.0).is_plain):
        return False
    changed = y[x != y]
    return len(changed) > 0 and float(np.isin(changed, x).mean()) >= 0.5


# --- texts and categories ---------------------------------------------------------------------------


def _disguised(a: Canonical, b: Canonical, rest: B, both: B) -> _Found:
    at = np.flatnonzero(rest)
    hits = np.zeros(len(both), np.bool_)
    few = at[:: max(1, len(at) // _PAIRS)][:_PAIRS]
    if len(few) < _FEW:
        return _Found((), hits)
    pairs = list(zip(texts_at(printed(a), few), texts_at(printed(b), few), strict=True))
    change = disguise_of(pairs)
    if change is None:
        return _Found((), hits)
    left, right = texts_at(printed(a), at), texts_at(printed(b), at)
    hits[at] = disguised_alike(change, left, right)
    if change.kind == "hashed":
        change = Change("hashed", {**change.detail, "values": len(set(left))})
    return _Found((change,), hits)


def _recoded(a: Canonical, b: Canonical, fa: Canonical, fb: Canonical, both: B) -> _Found:
    hits = np.zeros(len(both), np.bool_)
    fit = fit_recoding(np.where(both, fa.key, np.uint64(0)), np.where(both, fb.key, np.uint64(0)))
    if fit is None:
        return _Found((), hits)
    hits = both & (fit.map.apply(fa.key) == fb.key)
    if fit.one_to_one and fit.explained >= _CONSISTENT:
        hits |= both & _seen_once(fa.key, both) & _seen_once(fb.key, both)
    moved = hits & (fa.key != fb.key)
    source, first, count = np.unique(fa.key[moved], return_index=True, return_counts=True)
    rows = np.flatnonzero(moved)[first[np.argsort(-count, kind="stable")[:20]]]
    pairs = list(zip(texts_at(printed(a), rows), texts_at(printed(b), rows), strict=True))
    some = np.flatnonzero(moved)[np.sort(first)][:200]
    if fit.one_to_one and len(source) >= _FEW and looks_like_tokens(texts_at(printed(b), some)):
        change = Change("hashed", {"algorithm": "unknown tokens", "values": len(source)})
    else:
        held = [[x[:64], y[:64]] for x, y in pairs]
        change = Change("recoded", {"map": held, "values": len(source)})
    return _Found((change,), hits, fit.map)


def _seen_once(key: NDArray[np.uint64], both: B) -> B:
    _, group, count = np.unique(np.where(both, key, np.uint64(0)), return_inverse=True, return_counts=True)
    once: B = count[group] == 1
    return once


# --- what remains ------------------------------------------------------------------------------------


def _remaining(fa: Canonical, fb: Canonical, rest: B, through: ValueMap | Recoding | None) -> list[Change]:
    if not rest.any():
        return []
    x, y = fa.number, fb.number
    if isinstance(through, ValueMap):
        x = through.apply(x)
    known = x[np.isfinite(x)]
    near, distance = np.zeros(len(rest), np.bool_), np.abs(x - y)
    if len(known) >= 2:
        with np.errstate(all="ignore"):
            tau = _NEAR_SD * float(np.std(known)) * (1 + 1e-9)
            gaps = np.diff(np.unique(known))
        if len(gaps) and gaps.min() <= tau:
            near = rest & (distance <= tau)
    far = rest & ~near
    changes = []
    if near.any():
        share = round(float(near.mean()), 4)
        changes.append(Change("near-values", {"share": share, "max": float(distance[near].max())}))
    if far.any():
        changes.append(Change("far-values", {"share": round(float(far.mean()), 4)}))
    return changes
