"""Column matching: values decide, names tip the scales, look-alikes stay open until rows settle them."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from dataguard.carrier import ColumnMatch
from dataguard.fingerprints.alignment.columns import fold_name, match_columns, refine_columns
from dataguard.values import canonical_table

ROWS = 6000


@pytest.fixture(scope="module")
def original() -> pa.Table:
    """Machine log: a fine measure, two look-alike dummies, month and day, a code, a text, a nearly empty column."""
    rng = np.random.default_rng(3)
    return pa.table({
        "torque": rng.normal(40, 10, ROWS).round(1),
        "month": rng.integers(1, 13, ROWS),
        "day": rng.integers(1, 32, ROWS),
        "alarm": (rng.random(ROWS) < 0.30).astype(int),
        "fault": (rng.random(ROWS) < 0.31).astype(int),
        "serial": rng.permutation(ROWS) + 10_000,
        "plant": rng.choice(["Kobe", "Osaka", "Nagoya", "Sendai"], ROWS),
        "note": pa.array([None] * (ROWS - 5) + ["stopped"] * 5),
    })  # fmt: skip


def pick(table: pa.Table, n: int, seed: int = 1) -> tuple[pa.Table, np.ndarray]:
    rows = np.random.default_rng(seed).choice(len(table), n, replace=False)
    return table.take(pa.array(rows)), rows


def named(original: pa.Table, suspect: pa.Table, columns: tuple[ColumnMatch, ...]) -> dict[str, str]:
    return {suspect.column_names[c.suspect]: original.column_names[c.original] for c in columns}


def test_same_names_match_by_name(original: pa.Table) -> None:
    part, _ = pick(original, 50)
    columns = match_columns(canonical_table(original), canonical_table(part))
    assert named(original, part, columns) == {n: n for n in original.column_names}
    assert {c.by for c in columns} == {"name"}


def test_opaque_names_match_by_values_and_never_wrongly(original: pa.Table) -> None:
    part, _ = pick(original, 400)
    order = ["plant", "day", "serial", "fault", "torque", "alarm", "month"]
    suspect = part.select(order).rename_columns([f"f{i}" for i in range(7)])
    columns = match_columns(canonical_table(original), canonical_table(suspect))
    found = {order[c.suspect]: original.column_names[c.original] for c in columns}
    assert {k: found[k] for k in ("plant", "day", "serial", "torque", "month")} == {
        k: k for k in ("plant", "day", "serial", "torque", "month")
    }
    # 30 % against 31 % in 400 rows is no difference: both dummies stay open.
    assert "alarm" not in found
    assert "fault" not in found
    assert {c.by for c in columns} == {"values"}


def test_exchanged_names_do_not_mislead(original: pa.Table) -> None:
    part, _ = pick(original, 400)
    names = [{"month": "day", "day": "month"}.get(n, n) for n in part.column_names]
    suspect = part.rename_columns(names)
    found = named(original, suspect, match_columns(canonical_table(original), canonical_table(suspect)))
    assert found["month"] == "day"
    assert found["day"] == "month"


def test_names_fold_width_case_and_blanks(original: pa.Table) -> None:
    assert fold_name("Ｔｏｒｑｕｅ_ Nm") == fold_name("torque-nm")
    part, _ = pick(original, 30)
    suspect = part.select(["alarm", "fault"]).rename_columns(["Ａｌａｒｍ", " FAULT "])
    columns = match_columns(canonical_table(original), canonical_table(suspect))
    assert named(original, suspect, columns) == {"Ａｌａｒｍ": "alarm", " FAULT ": "fault"}


def test_constant_column_under_opaque_name_stays_open(original: pa.Table) -> None:
    # A slice of one day in January: every 0/1 and small-integer column could hold these values.
    suspect = pa.table({"a": np.ones(200, int), "b": np.ones(200, int)})
    assert match_columns(canonical_table(original), canonical_table(suspect)) == ()


def test_foreign_columns_stay_open(original: pa.Table) -> None:
    rng = np.random.default_rng(8)
    suspect = pa.table({"x": rng.normal(9e6, 1, 300), "y": [f"t{i}" for i in range(300)]})
    assert match_columns(canonical_table(original), canonical_table(suspect)) == ()


def test_rows_settle_look_alikes(original: pa.Table) -> None:
    part, rows = pick(original, 300)
    suspect = part.select(["fault", "serial", "alarm"]).rename_columns(["u", "v", "w"])
    a, b = canonical_table(original), canonical_table(suspect)
    before = match_columns(a, b)
    after = refine_columns(a, b, before, np.arange(300), rows)
    assert named(original, suspect, after) == {"u": "fault", "v": "serial", "w": "alarm"}
    assert {c.by for c in after if c.suspect != 1} == {"rows"}


def test_rows_correct_a_wrong_column(original: pa.Table) -> None:
    part, rows = pick(original, 300)
    a, b = canonical_table(original), canonical_table(part)
    names = part.column_names
    wrong = [ColumnMatch(i, i, "values", 1.0) for i in range(len(names))]
    i, j = names.index("alarm"), names.index("fault")
    wrong[i], wrong[j] = ColumnMatch(j, i, "values", 1.0), ColumnMatch(i, j, "values", 1.0)
    after = refine_columns(a, b, wrong, np.arange(300), rows)
    assert named(original, part, after)["alarm"] == "alarm"
    assert named(original, part, after)["fault"] == "fault"


def test_few_rows_settle_nothing(original: pa.Table) -> None:
    part, rows = pick(original, 8)
    before = (ColumnMatch(3, 4, "values", 1.0),)
    assert (
        refine_columns(canonical_table(original), canonical_table(part), before, np.arange(8), rows) == before
    )


def test_wrongly_aligned_rows_settle_nothing(original: pa.Table) -> None:
    part, rows = pick(original, 300)
    a, b = canonical_table(original), canonical_table(part.select(["alarm", "fault", "plant"]))
    before = match_columns(a, b)
    shuffled = np.random.default_rng(5).permutation(rows)
    assert refine_columns(a, b, before, np.arange(300), shuffled) == before


def test_empty_tables_match_nothing(original: pa.Table) -> None:
    a = canonical_table(original)
    assert match_columns(a, canonical_table(pa.table({}))) == ()
    assert match_columns(canonical_table(pa.table({})), a) == ()
    none = canonical_table(pa.table({"plant": pa.array([], pa.string())}))
    assert named(original, pa.table({"plant": []}), match_columns(a, none)) == {"plant": "plant"}
