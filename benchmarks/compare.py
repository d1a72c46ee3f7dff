"""`dataguard compare` on the seventeen edit cases of eight real tables, scored against the truth, beside its peers.

    python benchmarks/compare.py --peers-python PYTHON --json docs/compare.json  # all cases; hours, mostly of peers
    python benchmarks/compare.py --bases ships,adult --cases e02,e09             # some, without peers
    python benchmarks/compare.py --page                                          # only the page, from docs/compare.json

Every program compares two Parquet files in a process of its own, one after the other, within 240 s and 8 GB.
CPU seconds are user and system of the whole process (start and imports included; compiled kernels come from
the cache), memory its VmHWM. With --json a case measured again replaces its own figures only.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

import compare_page
from compare_child import GIB, SECONDS, read_found, run_ours, watched
from compare_marks import RELATIONS, facts, marks
from compare_score import Alike, score_aggregate, score_columns, score_rows, score_steps
from edits import BASES, SEED, Base, Case, cases

ROOT = Path(__file__).resolve().parents[1]
FIGURES = ROOT / "docs" / "compare.json"
CASES = [f"e{i:02d}" for i in range(17)]
OURS = "dataguard"
PEERS = Path(__file__).with_name("compare_peers.py")
SPLINK_ROWS = 20_000
"""Largest table splink is given: beyond, it takes longer than the limit (landscape 2.3)."""


# --- one case --------------------------------------------------------------------------------------


def cost(found: Mapping[str, Any]) -> dict[str, Any]:
    """Return time and memory, rounded as they are shown."""
    return {"cpu_s": found["cpu_s"], "wall_s": found["wall_s"], "peak_mib": round(found["peak_mib"])}


def ours(base: Base, case: Case, alike: Alike, limit: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Return what dataguard finds, scored, with the marks it meets."""
    found = run_ours(folder / "original.parquet", folder / "suspect.parquet", folder / OURS)
    if "failed" in found:
        return found
    document = found["document"]
    is_aggregate = case.name == "e15"
    scored = {
        "rows": score_rows(alike, case, found["pairs"]),
        "columns": score_columns(base, case, found["columns"]),
        "steps": score_aggregate(base, case, document) if is_aggregate else score_steps(case, document["columns"]),
        "relation": document["relation"], "relation_right": document["relation"] in RELATIONS[case.name],
        "log10_p": document["log10_p"], "sampled": found["sampled"],
    }  # fmt: skip
    return {**scored, **cost(found), "marks": marks(case.name, scored, limit)}


def beside(python: str, tool: str, base: Base, case: Case, alike: Alike, folder: Path) -> dict[str, Any]:
    """Return what a peer finds, scored."""
    rows = max(base.original.num_rows, case.suspect.num_rows)
    if tool == "splink" and rows > SPLINK_ROWS:
        return {"skipped": f"more than {SPLINK_ROWS:,} rows"}
    there = all(case.columns.get(c) == c and c not in case.steps for c in base.key)
    key = ",".join(base.key) if there else ""
    out = folder / tool.replace(" ", "-")
    words = [
        python,
        str(PEERS),
        tool,
        str(folder / "original.parquet"),
        str(folder / "suspect.parquet"),
        str(out),
        key,
    ]
    if failed := watched(words):
        return failed
    found = read_found(out)
    scored: dict[str, Any] = {"columns": score_columns(base, case, found["columns"])}
    if not tool.startswith("Valentine"):
        scored["rows"] = score_rows(alike, case, found["pairs"])
    said = {k: found[k] for k in ("refused", "note", "said_rows") if k in found}
    return {**scored, **cost(found), **said}


def measure(base: Base, case: Case, tools: list[str], python: str, folder: Path) -> dict[str, Any]:
    """Return the record of one case: what can be known at best, and what each program found."""
    pq.write_table(case.suspect, folder / "suspect.parquet")
    alike = Alike(base, case)
    limit = facts(base, case, alike)
    made = {OURS: ours(base, case, alike, limit, folder)} if OURS in tools else {}
    for tool in tools:
        if tool != OURS:
            made[tool] = beside(python, tool, base, case, alike, folder)
    return {"base": base.name, "case": case.name, "facts": limit, "tools": made}


def show(record: Mapping[str, Any]) -> None:
    """Print a case in a line per program."""
    print(f"{record['base']} {record['case']}")
    for tool, found in record["tools"].items():
        reason = found.get("failed") or found.get("skipped")
        if reason:
            print(f"  {tool:18} {reason}")
            continue
        rows, columns = found.get("rows", {}), found["columns"]
        recall, precision = (compare_page.share(rows.get(k)) for k in ("recall", "precision"))
        shown = f"rows found {recall}, right {precision}"
        print(f"  {tool:18} {shown:34} columns {columns['right']}/{columns['said']}/{columns['true']}  "
              f"{found['cpu_s']:.1f} s {found['peak_mib']} MiB {found.get('relation', '')}")  # fmt: skip
        for m in found.get("marks", ()):
            if not m["met"]:
                print(
                    f"    {'beyond the data' if m['beyond'] else 'MISSED'}: {m['what']} {m['value']}, bar {m['bar']}"
                )
    sys.stdout.flush()


# --- all of them -----------------------------------------------------------------------------------


def peers(python: str | None) -> dict[str, str]:
    """Return the peers an interpreter holds, with version; empty for one that is not there."""
    if python is None:
        return {}
    done = subprocess.run([python, str(PEERS), "--versions"], capture_output=True, text=True, check=True)
    return dict(line.split("\t") for line in done.stdout.splitlines())


def merged(path: Path, record: Mapping[str, Any], head: Mapping[str, Any]) -> None:
    """Write a record into a file of figures, in place of the same programs' record of the same case."""
    figures = json.loads(path.read_text()) if path.exists() else {"cases": []}
    place = {(r["base"], r["case"]): r for r in figures["cases"]}
    before = place.get((record["base"], record["case"]), {"tools": {}})
    place[record["base"], record["case"]] = {**record, "tools": {**before["tools"], **record["tools"]}}
    order = {name: i for i, name in enumerate(BASES)}
    kept = sorted(place.values(), key=lambda r: (order[r["base"]], r["case"]))
    head = {**head, "versions": {**figures.get("versions", {}), **head["versions"]}}
    path.write_text(json.dumps({**figures, **head, "cases": kept}, indent=1) + "\n")


def heading(found: Mapping[str, str], *, trial: bool) -> dict[str, Any]:
    """Return what the figures depend on; no name, no path."""
    return {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        "versions": {OURS: version("dataguard"), **{k: v for k, v in found.items() if v}},
        "left_out": [k for k, v in found.items() if not v],
        "seed": SEED, "seconds": SECONDS, "gib": GIB, "trial": trial,
    }  # fmt: skip


def main() -> None:
    """Run the cases asked for, write the figures and the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--bases", default=",".join(BASES), help=f"some of {', '.join(BASES)}")
    parser.add_argument("--cases", default=",".join(CASES), help="some of e00 to e16")
    parser.add_argument("--tools", help="some of dataguard and the peers; all by default")
    parser.add_argument(
        "--peers-python", help="the interpreter that holds the peers; without it they are left out"
    )
    parser.add_argument("--json", type=Path, help="write the figures here, case by case, and with docs/compare.json "
                        "the page")  # fmt: skip
    parser.add_argument(
        "--trial", action="store_true", help="say on the page that figures are of a trial run"
    )
    parser.add_argument("--page", action="store_true", help="only write the page and the plots")
    given = parser.parse_args()
    if given.page:
        compare_page.write(ROOT, json.loads(FIGURES.read_text()))
        return
    found = peers(given.peers_python)
    there = [OURS, *(k for k, v in found.items() if v)]
    tools = given.tools.split(",") if given.tools else there
    for name in [*(k for k, v in found.items() if not v), *(t for t in tools if t not in there)]:
        print(f"left out, not installed: {name}")
    head = heading(found, trial=given.trial)
    with tempfile.TemporaryDirectory() as place:
        for name in given.bases.split(","):
            base = BASES[name]()
            pq.write_table(base.original, Path(place) / "original.parquet")
            for case in cases(base, names=tuple(given.cases.split(","))):
                record = measure(
                    base, case, [t for t in tools if t in there], given.peers_python or "", Path(place)
                )
                show(record)
                if given.json:
                    merged(given.json, record, head)
    if given.json and given.json.resolve() == FIGURES:
        compare_page.write(ROOT, json.loads(FIGURES.read_text()))


if __name__ == "__main__":
    main()
