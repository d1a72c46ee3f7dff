"""What was done to a column, named from rows that belong together: hand-made columns and the edit cases."""

import datetime as dt
import hashlib
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from conftest import PACKAGED, shared
from dataguard.fingerprints.changes.naming import ColumnChanges, name_changes
from dataguard.maps import Recoding, ValueMap
from dataguard.values import canonical_column

N = 1500
RNG = np.random.default_rng(5)
IDS = RNG.integers(10_000, 99_999, N)
WORDS = [
    f"{a} {b}" for a in ("Alpha", "Beta", "Gamma", "Delta") for b in ("Works", "Lines", "Tools", "Foods")
]
NAMES = [WORDS[i] for i in RNG.integers(0, len(WORDS), N)]
LONG = [f"{name} {i} in the Street" for name, i in zip(NAMES, IDS, strict=True)]
TIMES = np.datetime64("2023-01-01T00:00:00") + RNG.integers(0, 30_000_000, N).astype("timedelta64[s]")
DAYS = [str(t)[:10] for t in TIMES]
GAPS = [None if i % 10 == 0 else int(v) for i, v in enumerate(IDS)]
SECONDS = TIMES.astype("datetime64[s]").astype(np.int64)
SUMMER = np.abs(SECONDS - SECONDS.mean()) < 7_000_000


def changes(x: Any, y: Any, wrong: float = 0.0) -> ColumnChanges:
    a, b = (canonical_column(v if isinstance(v, pa.Array) else pa.array(v)) for v in (x, y))
    rows = np.arange(len(a))
    paired = rows.copy()
    some = np.random.default_rng(1).permutation(len(rows))[: int(wrong * len(rows))]
    paired[some] = np.random.default_rng(2).permutation(rows)[: len(some)]
    return name_changes(a, b, paired, rows)


def named(found: ColumnChanges) -> dict[str, dict[str, Any]]:
    return {c.kind: dict(c.detail) for c in found.changes if c.kind not in {"near-values", "far-values"}}


def sha(text: str, salt: str = "") -> str:
    return hashlib.sha256((salt + text).encode()).hexdigest()


CASES: dict[str, tuple[Any, Any, str, dict[str, Any]]] = {
    "md5 of numbers": (IDS, [hashlib.md5(str(i).encode()).hexdigest() for i in IDS], "hashed", {"algorithm": "md5"}),
    "sha256, lower": (NAMES, [sha(t.lower()) for t in NAMES], "hashed", {"algorithm": "sha256"}),
    "sha1, short": (LONG, [hashlib.sha1(t.encode()).hexdigest()[:12] for t in LONG], "hashed", {"algorithm": "sha1"}),
    "salted": (NAMES, [sha(t, "salt")[:20] for t in NAMES], "hashed", {"algorithm": "unknown tokens"}),
    "codes": (NAMES, [f"C{WORDS.index(t)}" for t in NAMES], "recoded", {"values": 16}),
    "cut": (LONG, [t[:12].rstrip() for t in LONG], "truncated", {"characters": 12}),
    "postal code": ([str(i) for i in IDS], [str(i)[:3] for i in IDS], "truncated", {"characters": 3}),
    "stars": ([str(i) for i in IDS], ["***" + str(i)[3:] for i in IDS], "masked", {"pattern": "***99"}),
    "first letters": (LONG, [t[:2] + "*" * (len(t) - 2) for t in LONG], "masked", {"pattern": "AA***"}),
    "zone": (TIMES, TIMES + np.timedelta64(9, "h"), "affine", {"unit": "UTC -> UTC+9", "offset": 32400.0}),
    "summer time": (TIMES, TIMES - np.where(SUMMER, 4, 5).astype("timedelta64[h]"), "affine",
                    {"unit": "UTC+4/+5 -> UTC (daylight saving time)"}),
    "day": (TIMES, TIMES.astype("datetime64[D]"), "rounded", {"step": "day", "rule": "floor"}),
    "month": (TIMES, TIMES.astype("datetime64[M]").astype("datetime64[D]"), "rounded", {"step": "month"}),
    "seconds": (TIMES, SECONDS, "format", {"from": "timestamp", "to": "seconds since 1970"}),
    "milliseconds": (TIMES, SECONDS * 1000, "format", {"to": "milliseconds since 1970"}),
    "day first": (DAYS, [f"{t[8:]}/{t[5:7]}/{t[:4]}" for t in DAYS], "format",
                  {"from": "YYYY-MM-DD", "to": "DD/MM/YYYY"}),
    "era": (DAYS, [f"令和{int(t[:4]) - 2018}年{int(t[5:7])}月{int(t[8:])}日" for t in DAYS], "format",
            {"to": "令和Y年M月D日"}),
    "capitals": (LONG, [t.upper() for t in LONG], "format", {"from": "Mixed case", "to": "UPPER CASE"}),
    "full width": (IDS, ["".join(chr(ord(c) + 0xFEE0) for c in str(i)) for i in IDS], "format",
                   {"to": "full-width 1234"}),
    "thousands": (IDS, [f"{i:,}" for i in IDS], "format", {"from": "number", "to": "1,234"}),
    "decimal comma": (IDS / 8, [f"{i / 8:.3f}".replace(".", ",") for i in IDS], "format", {"to": "1234,5"}),
    "percent": (IDS / 1e5, [f"{i / 1e3:.3f}%" for i in IDS], "format", {"to": "1234.5 percent"}),
    "万": (IDS * 10_000, [f"{i}万" for i in IDS], "format", {"to": "1234 万/億"}),
    "NA": (GAPS, ["NA" if v is None else str(v) for v in GAPS], "format", {"from": "empty", "to": "NA"}),
    "emptied": (LONG, [None if i % 10 == 0 else t for i, t in enumerate(LONG)], "blanked", {"share": 0.1}),
    "filled": (GAPS, [0 if v is None else v for v in GAPS], "filled", {"share": 1.0, "value": "0"}),
    "single precision": (IDS / 7, (IDS / 7).astype(np.float32), "rounded", {"digits": 7, "to": "float32"}),
    "inches": (IDS, np.round(IDS * 2.54, 1), "affine", {"unit": "inch -> cm", "scale": 2.54, "offset": 0.0}),
    "currency": (IDS, np.round(IDS * 1.17, 2), "affine", {"unit": None, "said": "constant factor"}),
    "logarithm": (IDS, np.log10(IDS), "function", {"name": "log10"}),
    "steps": (IDS, IDS // 50 * 50, "rounded", {"step": 50.0, "rule": "floor"}),
    "bounds": (IDS, np.clip(IDS, 20_000, 80_000), "clipped", {"low": 20_000.0, "high": 80_000.0}),
}  # fmt: skip


@pytest.mark.parametrize("wrong", [0.0, 0.25])
@pytest.mark.parametrize("name", CASES)
def test_one_change_is_named_alone_and_by_its_particulars(name: str, wrong: float) -> None:
    x, y, kind, detail = CASES[name]
    if wrong and kind in {"filled", "blanked"}:
        pytest.skip("wrong pairs empty and fill cells themselves")
    found = changes(x, y, wrong)
    if name != "capitals":  # several ways of writing are several changes of one kind
        assert list(named(found)) == [kind], found
    told = next(c.detail for c in found.changes if c.kind == kind)
    for key, value in detail.items():
        assert told[key] == (pytest.approx(value) if isinstance(value, float) else value), told
    if kind != "blanked":
        # Some wrong pairs hold the same value, and some shuffled rows stay where they are.
        assert found.explained >= 0.995 * (1 - wrong)
    if not wrong and kind != "blanked":
        assert not {c.kind for c in found.changes} & {"near-values", "far-values"}


def test_what_the_column_leaves_open_is_read_by_the_rows() -> None:
    texts = ["03/01/2022" if i % 2 else "04/01/2022" for i in range(200)]
    found = changes(["2022-01-03" if i % 2 else "2022-01-04" for i in range(200)], texts)
    assert found.explained == 1
    assert {c.kind for c in found.changes} == {"format"}


def test_marks_are_near_values_and_nothing_else() -> None:
    for x in (np.sort(IDS).astype(float), np.sort(IDS / 7)):
        y = x.copy()
        y[0::4], y[1::4] = x[1::4], x[0::4]
        found = changes(x, y)
        assert [c.kind for c in found.changes] == ["near-values"]
        assert found.through is None
        texts = changes(x, [f"{v:,}" for v in y])
        assert {c.kind for c in texts.changes} == {"format", "near-values"}


def test_noise_is_named_with_its_size() -> None:
    found = changes(IDS, IDS + np.random.default_rng(4).normal(0, 50, N))
    detail = named(found)["noise"]
    assert [c.kind for c in found.changes] == ["noise"]
    assert detail["sd"] == pytest.approx(50, rel=0.08)  # 1,500 values: the sd of the estimate is 1.8 %
    assert detail["relative_sd"] == pytest.approx(50 / np.std(IDS), rel=0.1)


def test_the_way_through_is_returned() -> None:
    through = changes(IDS, np.round(IDS * 2.54, 1)).through
    assert isinstance(through, ValueMap)
    assert through.scale == 2.54
    assert isinstance(changes(*CASES["codes"][:2]).through, Recoding)
    assert changes(IDS, IDS).through is None


def test_the_same_column_has_no_changes() -> None:
    for x in (IDS, NAMES, TIMES, GAPS, IDS / 7, [str(i) for i in IDS]):
        found = changes(x, x)
        assert (found.changes, found.equal, found.explained) == ((), 1.0, 1.0)


@pytest.mark.parametrize(
    "x",
    [
        pa.nulls(40),
        pa.array([None] * 40, pa.string()),
        pa.array([1] * 40),
        pa.array([float("inf"), float("-inf"), float("nan"), 1e308] * 10),
        pa.array([2**62, -(2**62), 0, 7] * 10),
        pa.array(["1", "x", None, "2023-01-05"] * 10),
        pa.array(["a" * 50_000, "\U0001f600" * 900, "*" * 5000, ""] * 10),
        pa.array([b"\xff\x00", b"", None, b"a"] * 10),
        pa.array([[1], [], None, [2, 3]] * 10),
        pa.array([dt.time(1, 2), None] * 20),
        pa.array([dt.date(1, 1, 1), dt.date(9999, 12, 31)] * 20),
        pa.array([True, False] * 20),
        pa.array(["x", "y"] * 20).dictionary_encode(),
        pa.array([5.0, 1e-320] * 20),
    ],
    ids=str,
)
def test_odd_columns_are_survived(x: pa.Array) -> None:
    others = [x, x.take(pa.array(np.arange(40)[::-1])), pa.array(range(40)),
              pa.array([sha(str(i)) for i in range(40)]), pa.array([None, "b"] * 20)]  # fmt: skip
    for y in others:
        for found in (changes(x, y), changes(y, x)):
            assert 0 <= found.equal <= found.explained <= 1
            for c in found.changes:
                assert isinstance(c.to_dict(), dict)


def test_no_rows_and_one_row() -> None:
    a = canonical_column(pa.array([1, 2, 3]))
    none = np.empty(0, np.int64)
    assert name_changes(a, a, none, none).changes == ()
    one = name_changes(a, a, np.array([0]), np.array([2]))
    assert one.equal == 0
    assert {c.kind for c in one.changes} <= {"near-values", "far-values"}


def test_unrelated_columns_get_no_name() -> None:
    """250 pairs of real columns in shuffled rows: a false name has a chance of some 2e-5 each, two of 1e-5 in all."""
    table = pq.read_table(PACKAGED)
    columns = [canonical_column(c) for c in table.columns]
    rng = np.random.default_rng(6)
    kinds: Counter[str] = Counter()
    for k in range(250):
        i, j = rng.integers(0, len(columns), 2)
        rows = [rng.permutation(table.num_rows)[: (15, 60, 400)[k % 3]] for _ in range(2)]
        kinds.update(c.kind for c in name_changes(columns[i], columns[i if k % 5 == 0 else j], *rows).changes)
    false = {"affine", "function", "rounded", "recoded", "hashed", "truncated", "masked", "clipped", "noise"}
    assert sum(kinds[k] for k in false) <= 1, kinds


@pytest.mark.parametrize("name", ["e01", "e06", "e08", "e10", "e14"])
def test_the_edit_cases_are_named(name: str) -> None:
    """All columns of flights as in benchmarks/edits.py: every change by its figures, and none that is not there."""
    shared("tables/nycflights13_flights.parquet")
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))
    import edits

    base = edits.flights(4000)
    case = next(edits.cases(base, names=(name,)))
    rows = np.flatnonzero(case.rows >= 0)
    for column, source in case.columns.items():
        a, b = canonical_column(base.original[source]), canonical_column(case.suspect[column])
        found = name_changes(a, b, case.rows[rows], rows)
        kind, *truth = case.steps.get(column, "none").split()
        kinds = {c.kind for c in found.changes}
        assert kinds == ({kind} if kind != "none" else set()), (column, found)
        assert found.explained >= 0.999
        detail = found.changes[0].detail if found.changes else {}
        if kind == "affine":
            assert (detail["scale"], detail["offset"]) == pytest.approx((float(truth[0]), float(truth[1])))
        if kind == "rounded":
            assert detail["step"] == float(truth[0])
        if kind == "noise":
            assert detail["sd"] == pytest.approx(float(truth[0]), rel=0.06)
