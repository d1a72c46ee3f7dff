"""Searching without keys: near-duplicates, which table a column comes from, and a leak inside another table.

python examples/search.py [FOLDER]    (the first run of all compiles for half a minute)
"""

from __future__ import annotations

import os
import sys
import tempfile
from importlib.resources import as_file, files
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import csv

from dataguard.fingerprints import (
    ContainmentIndex,
    InclusionTest,
    LshIndex,
    hash_column,
    hash_meanings,
    hash_rows,
    sketch_texts,
)


def near_duplicates(flights: pa.Table, folder: Path) -> None:
    """Keep an index of texts on disk: every day's departures as a page; somebody has edited one of them."""
    days = flights.group_by("day", use_threads=False).aggregate([("tailnum", "list"), ("dest", "list")])
    pages = [
        " ".join(f"{plane} to {place}." for plane, place in zip(planes, places, strict=True))
        for planes, places in zip(*(days[c].to_pylist() for c in ("tailnum_list", "dest_list")), strict=True)
    ]
    # Words per shingle and size belong to the collection: queries are sketched alike.
    sketches = sketch_texts(pa.array(pages), words=5, size=128)
    with LshIndex.build(sketches[:25], threshold=0.6, path=folder / "pages") as index:
        index.add(sketches[25:])  # at once searchable; on disk when the block ends
        index.remove(np.array([3], np.uint64))

    edited = pages[11].replace("JFK", "ORD").replace(" to ATL.", " to BOS.")
    index = LshIndex.open(folder / "pages")  # any number of processes may read it
    found = index.query(sketch_texts(pa.array([edited]), words=5, size=128))
    print(
        f"near-duplicates: {len(index)} pages, the edited one resembles page {found.ids.tolist()}, ", end=""
    )
    print(f"Jaccard about {found.estimates[0]:.2f}")


def which_column(flights: pa.Table) -> None:
    """Ask which registered column holds the values of one that has lost its name."""
    columns = [flights[name] for name in flights.column_names]
    borders = np.cumsum([0, *map(len, columns)])
    index = ContainmentIndex.build(np.concatenate([hash_column(c) for c in columns]), borders)

    nameless = hash_column(flights["tailnum"].slice(9000, 400))
    answer = index.query(nameless, np.array([0, len(nameless)]), threshold=0.9, direction="query")
    for number, share, known in zip(answer.ids, answer.query_shares, answer.set_sizes, strict=True):
        print(f"containment: {share:.0%} of it is in column {flights.column_names[number]} ({known} values)")


def rows_by_meaning(table: pa.Table) -> np.ndarray:
    """Hash rows so that those of a Parquet and of a CSV file meet: types and formats do not enter."""
    return hash_rows([pa.array(hash_meanings(column)) for column in table.columns])


def leak(flights: pa.Table, folder: Path) -> None:
    """Test whether rows of a registered table are inside a suspect: 100 rows among 10,000 others, in a CSV file."""
    ours, theirs = flights.slice(0, 15_000), flights.slice(17_000, 9_900)
    test = InclusionTest.build(rows_by_meaning(ours))
    mixed = pa.concat_tables([theirs, ours.slice(4000, 100)])
    csv.write_csv(mixed.take(np.random.default_rng(1).permutation(mixed.num_rows)), folder / "suspect.csv")

    # Rows meet if their columns do: the same ones, in the order of the original.
    suspect = csv.read_csv(folder / "suspect.csv").select(ours.column_names)
    verdict = test.decide(rows_by_meaning(suspect))
    share = verdict.containment
    print(f"leak: {verdict.answer}, {share.low:.2%} to {share.high:.2%} of the rows are ours, ", end="")
    print(
        f"by chance at most 10^{verdict.log10_p:.0f}; without: {test.decide(rows_by_meaning(theirs)).answer}"
    )


def main(folder: Path) -> None:
    """Search in three ways; no vault, no key."""
    # Compiled loops are kept on disk, as the command line does: the first run of all compiles them.
    os.environ.setdefault("DATAGUARD_NUMBA_CACHE", "1")
    with as_file(files("dataguard") / "data" / "flights_2013_01.parquet") as path:
        flights = pq.read_table(path)
    near_duplicates(flights, folder)
    which_column(flights)
    leak(flights, folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(tempfile.mkdtemp()))
