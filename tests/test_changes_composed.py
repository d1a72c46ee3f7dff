"""Columns made of others: joined, taken apart, computed."""

import numpy as np
import pyarrow as pa
import pytest

from dataguard.fingerprints.changes.composed import composed_columns
from dataguard.values import CanonicalTable, canonical_table

N = 600
RNG = np.random.default_rng(8)
HOUR, MINUTE, QTY = RNG.integers(0, 24, N), RNG.integers(0, 60, N), RNG.integers(1, 50, N)
PRICE = np.round(RNG.lognormal(2, 1, N), 2)
FIRST, LAST = (
    RNG.choice(["Ann", "Bob", "Cid", "Dan", "Eve"], N),
    RNG.choice(["Smith", "Jones", "Sato", "Kato"], N),
)
MAIL = [f"{f.lower()}{i}@{l.lower()}.example" for f, l, i in zip(FIRST, LAST, range(N), strict=True)]
WHEN = np.datetime64("2021-01-01T00:00:00") + RNG.integers(0, 90_000_000, N).astype("timedelta64[s]")
CODE = [f"{i:05d}" for i in RNG.integers(0, 99_999, N)]
YEAR, MONTH, DAY = RNG.integers(2000, 2024, N), RNG.integers(1, 13, N), RNG.integers(1, 29, N)

ORIGINAL = pa.table({
    "hour": HOUR, "minute": MINUTE, "price": PRICE, "quantity": QTY, "first": FIRST, "last": LAST, "mail": MAIL,
    "when": WHEN, "code": CODE, "year": YEAR, "month": MONTH, "day": DAY,
})  # fmt: skip

MADE: dict[str, tuple[pa.Array, dict[str, object]]] = {
    "total": (pa.array(np.round(PRICE * QTY, 2)), {"from": ["price", "quantity"], "formula": "price * quantity"}),
    "minutes": (pa.array(60 * HOUR + MINUTE), {"from": ["hour", "minute"], "formula": "60 * hour + minute"}),
    "clock": (pa.array(100 * HOUR + MINUTE), {"formula": "100 * hour + minute"}),
    "less": (pa.array(QTY - HOUR), {"from": ["quantity", "hour"], "formula": "quantity - hour"}),
    "each": (pa.array(PRICE / QTY), {"formula": "price / quantity"}),
    "full": (pa.array([f"{l}, {f}" for f, l in zip(FIRST, LAST, strict=True)]),
             {"kind": "merged", "from": ["last", "first"], "separator": ", "}),
    "date": (pa.array([f"{y}-{m:02d}-{d:02d}" for y, m, d in zip(YEAR, MONTH, DAY, strict=True)]),
             {"kind": "merged", "from": ["year", "month", "day"], "separator": "-"}),
    "domain": (pa.array([m.split("@")[1] for m in MAIL]), {"kind": "split", "from": "mail", "part": "piece 2 by '@'"}),
    "area": (pa.array([c[:3] for c in CODE]), {"kind": "split", "from": "code", "part": "first 3 characters"}),
    "in month": (pa.array(WHEN.astype("datetime64[M]").astype(int) % 12 + 1), {"from": "when", "part": "month"}),
    "in year": (pa.array(WHEN.astype("datetime64[Y]").astype(int) + 1970), {"from": "when", "part": "year"}),
    "on hour": (pa.array(WHEN.astype("datetime64[s]").astype(int) // 3600 % 24), {"from": "when", "part": "hour"}),
    "weekday": (pa.array([d.strftime("%a") for d in WHEN.astype("datetime64[D]").tolist()]),
                {"from": "when", "part": "weekday name"}),
    "on day": (pa.array(WHEN.astype("datetime64[D]")), {"from": "when", "part": "date"}),
}  # fmt: skip


def composed(suspect: pa.Table, wrong: float, original: pa.Table = ORIGINAL) -> dict[str, dict[str, object]]:
    rows = np.arange(suspect.num_rows)
    paired = rows.copy()
    some = np.random.default_rng(1).permutation(len(rows))[: int(wrong * len(rows))]
    paired[some] = np.random.default_rng(2).permutation(rows)[: len(some)]
    found = composed_columns(
        canonical_table(original), canonical_table(suspect), range(suspect.num_columns), paired, rows
    )
    return {suspect.column_names[p]: change.to_dict() for p, _, change in found}


@pytest.mark.parametrize("wrong", [0.0, 0.25])
def test_columns_made_of_others_are_told_how(wrong: float) -> None:
    found = composed(pa.table({name: values for name, (values, _) in MADE.items()}), wrong)
    for name, (_, detail) in MADE.items():
        assert {k: found.get(name, {}).get(k) for k in detail} == detail, name


def test_columns_of_their_own_are_made_of_nothing() -> None:
    """Every column of the original in shuffled rows, and invented ones: a formula has to hold in 6 rows of 10."""
    order = np.random.default_rng(3).permutation(N)
    assert composed(ORIGINAL.take(pa.array(order)), 0.0) == {}
    rng = np.random.default_rng(4)
    invented = pa.table({
        "a": rng.normal(size=N), "b": rng.integers(0, 10, N), "c": rng.choice(["Smith A", "Ann", "B"], N),
        "d": pa.nulls(N), "e": ["x"] * N, "f": [float("inf"), float("nan")] * (N // 2),
    })  # fmt: skip
    assert composed(invented, 0.0) == {}


def test_few_rows_or_columns_are_left_alone() -> None:
    assert composed(pa.table({"total": PRICE * QTY}).slice(0, 15), 0.0, ORIGINAL.slice(0, 15)) == {}
    empty = CanonicalTable((), ())
    rows = np.arange(N)
    assert composed_columns(empty, canonical_table(ORIGINAL), [0], rows, rows) == ()


def test_odd_cells_are_survived() -> None:
    odd = pa.table({
        "long": ["a" * 100_000, "b-" * 9_000] * 20, "huge": [2**62, -(2**62)] * 20, "list": [[1], None] * 20,
        "bytes": [b"\xff", b"-"] * 20, "time": pa.array([0, 2**60] * 20, pa.timestamp("us")),
    })  # fmt: skip
    composed(odd, 0.0, odd)
