"""Rule G1 as the benchmarks make it: check values, an obvious scalar twin, identities, chunks."""

from __future__ import annotations

import importlib
import math
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from types import GeneratorType, ModuleType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from conftest import shared

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
SEED = 20240229
ROWS = 336_776
MASK = 2**64 - 1


@pytest.fixture(scope="module")
def scaled() -> Iterator[ModuleType]:
    sys.path.insert(0, str(BENCHMARKS))
    try:
        yield importlib.import_module("scaled")
    finally:
        sys.path.remove(str(BENCHMARKS))


@pytest.fixture(scope="module")
def base(scaled: ModuleType) -> Any:
    path = shared("tables/nycflights13_flights.parquet")
    return scaled.Base(scaled.RECIPES["flights"], pq.read_table(path))


@pytest.fixture(scope="module")
def replicas(scaled: ModuleType, base: Any) -> list[pa.Table]:
    """Replicas 0, 1 and 2, cut again from the chunks of a set of three."""
    whole = pa.concat_tables(scaled.chunks(base, 3))
    assert whole.num_rows == 3 * ROWS
    return [whole.slice(r * ROWS, ROWS).combine_chunks() for r in range(3)]


# The page again, one Python number at a time.


def mix(x: int) -> int:
    z = (x + 0x9E3779B97F4A7C15) & MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return z ^ (z >> 31)


def h(stream: int, i: int, c: int) -> int:
    return mix(mix(mix(mix(SEED) ^ stream) ^ i) ^ c)


def u(stream: int, i: int, c: int) -> float:
    return (h(stream, i, c) >> 11) * 2.0**-53


def n(stream: int, i: int, c: int) -> float:
    total = 0.0
    for j in range(12):
        total += u(stream, i, 16 * c + j)
    return total - 6


def hhmm(scheduled: int, delay: int) -> int:
    minute = (scheduled // 100 * 60 + scheduled % 100 + delay) % 1440
    return minute // 60 * 100 + minute % 60 or 2400


def twin(table: pa.Table, scales: dict[str, tuple[float, int, int]], i: int) -> dict[str, Any]:
    """Return made row i of the flights, straight from the page."""
    r, p = divmod(i, ROWS)
    a, b = h(1, r, 0) % ROWS, h(1, r, 1) % ROWS
    while math.gcd(a, ROWS) != 1:
        a = (a + 1) % ROWS
    row = table.slice((p * a + b) % ROWS, 1).to_pylist()[0]
    names = table.column_names
    for column, (scale, low, high) in scales.items():
        if row[column] is not None:
            moved = round(row[column] + scale * n(2, i, names.index(column)))
            row[column] = min(max(moved, low), high)
    for column in ("carrier", "tailnum", "origin", "dest"):
        c = names.index(column)
        if u(3, i, 2 * c) < 0.02:
            row[column] = table[column][h(3, i, 2 * c + 1) % ROWS].as_py()
    for side in ("dep", "arr"):
        if row[f"{side}_delay"] is not None:
            row[f"{side}_time"] = hhmm(row[f"sched_{side}_time"], row[f"{side}_delay"])
    row["year"] += r
    row["time_hour"] = f"{int(row['time_hour'][:4]) + r}{row['time_hour'][4:]}"
    return row


def test_check_values_of_the_page(scaled: ModuleType) -> None:
    draws = scaled.Draws
    assert int(scaled.mix(0)[0]) == 0xE220A8397B1DCDAF == mix(0)
    assert int(draws(SEED, 1, 0).h(0)[0]) == 0x1F573B35C81753D1
    assert int(draws(SEED, 2, 0).h(3)[0]) == 0x9ABF0702D8FB37F1
    assert int(draws(SEED, 1, 9_999_999).h(0)[0]) == 0xFE1C5F2A6FAB8D91
    assert float(draws(SEED, 2, 336_776).n(5)[0]) == 0.7028341358135108 == n(2, 336_776, 5)
    assert scaled.step(ROWS, 1) == (303_225, 70_876)
    assert scaled.source_rows(ROWS, 1, 0, 3).tolist() == [70_876, 37_325, 3_774]


def test_names(scaled: ModuleType) -> None:
    assert scaled.name("flights", 10) == "nycflights13_flights*10@20240229/G1"
    assert scaled.name("covertype_100k", 100, 7) == "covertype_100k*100@7/G1"


@pytest.mark.parametrize("rows", [ROWS, 100_000])
def test_a_replica_uses_every_base_row_once(scaled: ModuleType, rows: int) -> None:
    for replica in (0, 1, 2, 29):
        source = scaled.source_rows(rows, replica, 0, rows)
        assert np.array_equal(np.bincount(source, minlength=rows), np.ones(rows, np.int64))
        middle = scaled.source_rows(rows, replica, 40_000, 40_010)
        assert np.array_equal(middle, source[40_000:40_010])


def test_replica_zero_is_the_base(base: Any, replicas: list[pa.Table]) -> None:
    assert replicas[0].equals(base.table)
    assert not replicas[1].equals(base.table)
    assert replicas[2].schema == base.table.schema


def test_made_rows_equal_the_scalar_twin(base: Any, replicas: list[pa.Table]) -> None:
    # Noise scales by hand: quartiles of the delays are -5, 11 and -17, 14, of the air time 82, 192.
    scales = {"dep_delay": (1.0, -43, 1301), "arr_delay": (1.0, -86, 1272), "air_time": (2.2, 20, 695)}
    rng = np.random.default_rng(5)
    for replica in (1, 2):
        for place in [0, 1, ROWS - 1, *rng.integers(0, ROWS, 400).tolist()]:
            row = replicas[replica].slice(place, 1).to_pylist()[0]
            assert row == twin(base.table, scales, replica * ROWS + place), (replica, place)


def test_identities_hold_in_every_replica(scaled: ModuleType, base: Any, replicas: list[pa.Table]) -> None:
    columns = base.table.column_names
    copied = [
        *("month", "day", "sched_dep_time", "sched_arr_time", "flight"),
        *("distance", "hour", "minute"),
    ]
    for r, table in enumerate(replicas):
        source = pa.array(scaled.source_rows(ROWS, r, 0, ROWS))
        before = base.table.take(source)
        assert table.select(copied).equals(before.select(copied))
        for column in set(columns) - {"tailnum"}:
            assert table[column].is_null().equals(before[column].is_null()), column
        assert pc.unique(table["year"]).to_pylist() == [2013 + r]
        stamps = pc.utf8_slice_codeunits(table["time_hour"], 4)
        assert stamps.equals(pc.utf8_slice_codeunits(before["time_hour"], 4))
        years = pc.unique(pc.utf8_slice_codeunits(table["time_hour"], 0, 4)).to_pylist()
        assert sorted(years) == [str(2013 + r), str(2014 + r)]  # the last evenings of a year, in UTC
        for side in ("dep", "arr"):
            known = table[f"{side}_delay"].is_valid()
            part, rest = table.filter(known), table.filter(pc.invert(known))
            assert rest[f"{side}_time"].equals(before.filter(pc.invert(known))[f"{side}_time"])
            real, planned = part[f"{side}_time"].to_numpy(), part[f"sched_{side}_time"].to_numpy()
            late = part[f"{side}_delay"].to_numpy()
            assert real.min() >= 1
            assert real.max() == 2400
            assert not (
                ((planned // 100 - real // 100) * 60 + planned % 100 - real % 100 + late) % 1440
            ).any()
        changed = pc.mean(pc.not_equal(table["dest"], before["dest"])).as_py()
        if r == 0:
            assert changed == 0
        else:  # five standard deviations: a wrong alarm once in 1.7 million seeds; this seed is fixed
            share = np.array([v["counts"] for v in pc.value_counts(base.table["dest"]).to_pylist()]) / ROWS
            expected = 0.02 * (1 - (share**2).sum())
            assert abs(changed - expected) < 5 * math.sqrt(expected / ROWS)


def test_a_set_is_made_chunk_by_chunk(scaled: ModuleType, base: Any) -> None:
    stream = scaled.chunks(base, 10**6)  # 3.4e11 rows: only a stream can begin to answer
    assert isinstance(stream, GeneratorType)
    before = pa.total_allocated_bytes()
    for chunk in islice(stream, 6):
        assert chunk.num_rows == scaled.CHUNK
        assert {column.num_chunks for column in chunk.columns} == {1}
    assert pa.total_allocated_bytes() - before < 100 * 2**20


@pytest.mark.parametrize("rows", [1_000, 70_001])
def test_chunks_do_not_depend_on_where_replicas_end(scaled: ModuleType, base: Any, rows: int) -> None:
    small = scaled.Base(scaled.RECIPES["flights"], base.table.slice(0, rows))
    whole = pa.concat_tables(scaled.chunks(small, 4))
    apart = pa.concat_tables([small.piece(r, 0, rows, SEED) for r in range(4)])
    assert whole.num_rows == 4 * rows
    assert whole.equals(apart)


def test_covertype_jitters_its_measures_only(scaled: ModuleType, tmp_path: Path) -> None:
    table = pq.read_table(shared("tables/covertype_100k.parquet"))
    made = scaled.write_scaled("covertype", 2, tmp_path / "c.parquet")
    assert (made.name, made.rows) == ("covertype_100k*2@20240229/G1", 200_000)
    meta = pq.read_metadata(made.path)
    assert [meta.row_group(g).num_rows for g in range(meta.num_row_groups)] == [131_072, 68_928]
    read = pq.read_table(made.path)
    assert read.slice(0, 100_000).equals(table)
    first = read.slice(100_000).to_pydict()
    source = table.take(pa.array(scaled.source_rows(100_000, 1, 0, 100_000))).to_pydict()
    moved = [c for c in table.column_names if first[c] != source[c]]
    assert moved == [c for c in table.column_names if table.schema.field(c).type == pa.int32()]
    assert len(moved) == 10
    assert all(min(first[c]) >= min(source[c]) and max(first[c]) <= max(source[c]) for c in moved)
    assert not list(tmp_path.glob("*.part"))


def test_csv_holds_the_same_rows(
    scaled: ModuleType, base: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = scaled.Base(scaled.RECIPES["flights"], base.table.slice(0, 2_000))
    monkeypatch.setattr(scaled, "load", lambda _: small)
    both = scaled.write_scaled("flights", 2, tmp_path / "f.parquet", csv=True)
    alone = scaled.write_scaled("flights", 2, tmp_path / "g.csv")
    text = (tmp_path / "f.csv").read_bytes()
    assert alone.path.read_bytes() == text
    assert '"' not in text.decode()
    types = pa.csv.ConvertOptions(column_types=base.table.schema, strings_can_be_null=True, null_values=[""])
    assert pa.csv.read_csv(alone.path, convert_options=types).equals(pq.read_table(both.path))
    with pytest.raises(ValueError, match="at least once"):
        scaled.write_scaled("flights", 0, tmp_path / "h.parquet")
