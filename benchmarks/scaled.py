"""Scaled sets for cost figures: rule G1 of the data's scaling page (tables: row bootstrap with noise).

    python benchmarks/scaled.py flights 10 -o FILE.parquet [--csv] [--seed 20240229]

Replica 0 is the base, unchanged; every later replica uses each base row once, in another order, with
noise on the measures and 2 % of the category cells redrawn. Any row can be made alone, so the set is
made and written in chunks of 131,072 rows. Rows stand in file order, replica after replica, not shuffled.

A scaled set carries costs only (time, memory, bytes): its rows are not independent, so no detection
rate and no false-positive rate may be read from it.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

SEED = 20240229
CHUNK = 131_072
"""Rows per row group; also what is in memory at a time beside the base."""
CHANGED = 0.02  # share of category cells that are redrawn (rule 4)
Columns = dict[str, pa.Array]
PICK, NOISE, CATEGORY = 1, 2, 3  # random streams


def mix(x: Any) -> np.ndarray:
    """Return the SplitMix64 step of x: uint64, at least one dimension (arrays wrap without a warning)."""
    z = np.array(x, np.uint64, ndmin=1)
    z += np.uint64(0x9E3779B97F4A7C15)
    z ^= z >> np.uint64(30)
    z *= np.uint64(0xBF58476D1CE4E5B9)
    z ^= z >> np.uint64(27)
    z *= np.uint64(0x94D049BB133111EB)
    z ^= z >> np.uint64(31)
    return z


class Draws:
    """h, u and n of one stream for some made rows `i`, by counter c; all but the last mix is done once."""

    def __init__(self, seed: int, stream: int, i: Any):
        self.rows = mix(mix(mix(np.uint64(seed)) ^ np.uint64(stream)) ^ np.asarray(i, np.uint64))

    def h(self, c: int, only: Any = slice(None)) -> np.ndarray:
        """Return 64 random bits per row (uint64), for all rows or only some."""
        return mix(self.rows[only] ^ np.uint64(c))

    def u(self, c: int) -> np.ndarray:
        """Return a float64 in [0, 1) per row."""
        return (self.h(c) >> np.uint64(11)) * 2.0**-53

    def n(self, c: int) -> np.ndarray:
        """Return a float64 per row: mean 0, variance 1, |n| < 6. The order of the sum is part of it."""
        total = self.u(16 * c)
        for j in range(1, 12):
            total += self.u(16 * c + j)
        return total - 6.0


def step(rows: int, replica: int, seed: int = SEED) -> tuple[int, int]:
    """Return (a, b) of a replica: place p shows base row (p * a + b) mod rows; gcd(a, rows) = 1."""
    pick = Draws(seed, PICK, replica)
    a, b = int(pick.h(0)[0]) % rows, int(pick.h(1)[0]) % rows
    while math.gcd(a, rows) != 1:
        a = (a + 1) % rows
    return a, b


def source_rows(rows: int, replica: int, start: int, stop: int, seed: int = SEED) -> np.ndarray:
    """Return the base rows (int64) that the places start..stop-1 of a replica show."""
    assert rows < 2**31, "place * a + b must stay below 2^63 to be exact"
    places = np.arange(start, stop, dtype=np.int64)
    if replica == 0:
        return places
    a, b = step(rows, replica, seed)
    return (places * np.int64(a) + np.int64(b)) % np.int64(rows)


def clock(scheduled: pa.Array, delay: pa.Array, before: pa.Array) -> pa.Array:
    """Return scheduled + delay on the HHMM clock, midnight as 2400 like the base.

    Where the delay is missing there is nothing to add: the cell stays as it was (717 base rows have
    an arrival time without an arrival delay; all others are missing on both sides).
    """
    planned, late = scheduled.to_numpy(), delay.fill_null(0).to_numpy()
    minute = (planned // 100 * 60 + planned % 100 + late) % 1440
    hhmm = minute // 60 * 100 + minute % 60
    made = pa.array(np.where(hhmm == 0, 2400, hhmm).astype(np.int32))
    return pc.if_else(delay.is_valid(), made, before)


def derive_flights(columns: Columns, replica: int) -> None:
    """Recompute what follows from other columns (rule 5), in place."""
    columns["year"] = pc.add(columns["year"], pa.scalar(replica, pa.int32()))
    stamp = columns["time_hour"]  # coded, so only the 6,936 different stamps are rewritten
    moved = [f"{int(s[:4]) + replica:04d}{s[4:]}" for s in stamp.dictionary.to_pylist()]
    columns["time_hour"] = pa.DictionaryArray.from_arrays(stamp.indices, moved)
    for side in ("dep", "arr"):
        columns[f"{side}_time"] = clock(
            columns[f"sched_{side}_time"], columns[f"{side}_delay"], columns[f"{side}_time"]
        )


@dataclass(frozen=True)
class Recipe:
    """What rule G1 does with each column of a base; columns named nowhere are copied.

    Without a list of measures rule 3 decides: numeric, more than 20 distinct values.
    """

    name: str
    measures: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    derive: Callable[[Columns, int], None] | None = None


RECIPES = {
    # `flight` is an integer code, `distance`, `hour`, `minute` and the schedule are copied (rule 5:
    # "jitter ... only"); every text column that is not a date is a category, `tailnum` among them.
    "flights": Recipe(
        "nycflights13_flights",
        measures=("dep_delay", "arr_delay", "air_time"),
        categories=("carrier", "tailnum", "origin", "dest"),
        derive=derive_flights,
    ),
    "covertype": Recipe("covertype_100k"),  # its ten measures; binary columns and label are copied
}
RECIPES |= {recipe.name: recipe for recipe in list(RECIPES.values())}


def name(base: str, k: int, seed: int = SEED) -> str:
    """Return the name every figure of the set carries, as `nycflights13_flights*10@20240229/G1`."""
    return f"{RECIPES[base].name}*{k}@{seed}/G1"


@dataclass(frozen=True)
class Measure:
    """A measure column of the base: its number c, the noise's scale, the base's least and largest value."""

    c: int
    scale: float
    least: int
    largest: int

    def jitter(self, values: pa.Array, noise: Draws) -> pa.Array:
        """Return round_half_even(x + scale * n) within the base's range; missing stays missing."""
        x = values.fill_null(self.least).to_numpy()
        moved = np.rint(x + self.scale * noise.n(self.c)).clip(self.least, self.largest)
        return pa.array(moved.astype(x.dtype), mask=~values.is_valid().to_numpy(zero_copy_only=False))


class Base:
    """The untouched file in memory (text coded by a dictionary) with the figures the noise needs."""

    def __init__(self, recipe: Recipe, table: pa.Table):
        self.recipe = recipe
        self.table = table.combine_chunks()
        self.rows: int = table.num_rows
        self.number = {column: c for c, column in enumerate(table.column_names)}
        self.coded: Columns = {}
        for field, column in zip(self.table.schema, self.table.columns, strict=True):
            text = pa.types.is_string(field.type)
            self.coded[field.name] = column.chunk(0).dictionary_encode() if text else column.chunk(0)
        measures = recipe.measures or [
            field.name
            for field in self.table.schema
            if pa.types.is_integer(field.type) and pc.count_distinct(self.coded[field.name]).as_py() > 20
        ]
        self.measures = {column: self._measure(column) for column in measures}

    def _measure(self, column: str) -> Measure:
        values = self.coded[column].drop_null().to_numpy()
        assert values.dtype.kind == "i", f"{column}: decimals are not laid down here, both bases have none"
        low, high = np.quantile(values, (0.25, 0.75))
        scale = max(1.0, 0.02 * float(high - low))
        return Measure(self.number[column], scale, int(values.min()), int(values.max()))

    def piece(self, replica: int, start: int, stop: int, seed: int) -> pa.Table:
        """Return the places start..stop-1 of one replica, typed as the base."""
        if replica == 0:
            return self.table.slice(start, stop - start)
        source = source_rows(self.rows, replica, start, stop, seed)
        made = np.arange(start, stop, dtype=np.uint64) + np.uint64(replica * self.rows)
        columns = {column: values.take(pa.array(source)) for column, values in self.coded.items()}
        noise, change = Draws(seed, NOISE, made), Draws(seed, CATEGORY, made)
        for column, measure in self.measures.items():
            columns[column] = measure.jitter(columns[column], noise)
        for column in self.recipe.categories:
            c, taken = self.number[column], source.copy()
            hit = np.flatnonzero(change.u(2 * c) < CHANGED)
            taken[hit] = (change.h(2 * c + 1, hit) % np.uint64(self.rows)).astype(np.int64)
            columns[column] = self.coded[column].take(pa.array(taken))
        if self.recipe.derive:
            self.recipe.derive(columns, replica)
        schema = self.table.schema
        return pa.table([columns[f.name].cast(f.type) for f in schema], schema=schema)


def load(base: str) -> Base:
    """Return a base of the development data."""
    from common import data_file

    recipe = RECIPES[base]
    return Base(recipe, pq.read_table(data_file(f"tables/{recipe.name}.parquet")))


def chunks(base: Base, k: int, seed: int = SEED) -> Iterator[pa.Table]:
    """Yield the scaled set, 131,072 rows at a time (the last chunk may be shorter), made as asked for."""
    total = k * base.rows
    for first in range(0, total, CHUNK):
        last, at, pieces = min(first + CHUNK, total), first, []
        while at < last:
            replica, start = divmod(at, base.rows)
            stop = min(base.rows, start + last - at)
            pieces.append(base.piece(replica, start, stop, seed))
            at += stop - start
        yield pa.concat_tables(pieces).combine_chunks()


@dataclass(frozen=True)
class ScaledSet:
    """A scaled set on disk."""

    name: str
    rows: int
    path: Path


def csv_writer(stack: ExitStack, path: Path, schema: pa.Schema) -> Any:
    """Open a CSV file: unquoted (no base cell holds a comma, quote or line end), missing cells empty."""
    sink = stack.enter_context(path.open("wb"))
    sink.write((",".join(schema.names) + "\n").encode())
    options = pa.csv.WriteOptions(include_header=False, quoting_style="none")
    return stack.enter_context(pa.csv.CSVWriter(sink, schema, write_options=options))


def write_scaled(base: str, k: int, out: str | Path, *, seed: int = SEED, csv: bool = False) -> ScaledSet:
    """Write a scaled set as Parquet to `out`; with `csv`, also as CSV beside it. `out` *.csv: CSV only."""
    if k < 1:
        raise ValueError(f"k is {k}; a scaled set holds its base at least once")
    out = Path(out)
    wanted = dict.fromkeys([out, out.with_suffix(".csv")] if csv else [out])
    # Files come into place when whole: an interrupted run leaves `.part` files, no short set.
    partial = {path: path.with_name(path.name + ".part") for path in wanted}
    loaded = load(base)
    schema = loaded.table.schema
    out.parent.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        writers = [
            csv_writer(stack, part, schema)
            if path.suffix == ".csv"
            else stack.enter_context(pq.ParquetWriter(part, schema, compression="zstd"))
            for path, part in partial.items()
        ]
        for chunk in chunks(loaded, k, seed):
            for writer in writers:
                writer.write_table(chunk, CHUNK)
    for path, part in partial.items():
        part.replace(path)
    return ScaledSet(name(base, k, seed), k * loaded.rows, out)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("base", choices=sorted(RECIPES))
    parser.add_argument("k", type=int, help="replicas, the base among them")
    parser.add_argument(
        "-o", "--out", type=Path, required=True, help="FILE.parquet, or FILE.csv for CSV only"
    )
    parser.add_argument("--csv", action="store_true", help="also write FILE.csv beside FILE.parquet")
    parser.add_argument("--seed", type=int, default=SEED)
    given = parser.parse_args()
    begun = time.perf_counter()
    try:
        made = write_scaled(given.base, given.k, given.out, seed=given.seed, csv=given.csv)
    except ValueError as error:
        sys.exit(str(error))
    seconds = time.perf_counter() - begun
    print(
        f"{made.name}: {made.rows:,} rows, {made.path.stat().st_size:,} bytes, {seconds:.1f} s, {made.path}"
    )


if __name__ == "__main__":
    main()
