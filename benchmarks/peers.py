"""dataguard beside its peers, paired in one process: the figures of docs/peers.json and docs/performance.md.

python benchmarks/peers.py --json docs/peers.json     # everything, about 15 minutes on an idle machine
python benchmarks/peers.py --quick                    # every part on small input: does it run?
python benchmarks/peers.py --parts sets,lsh           # some parts; with --json they replace their own figures
python benchmarks/peers.py --page                     # only the page and the plots, from docs/peers.json

Every candidate runs once unmeasured, then ROUNDS times in rotating order in one process and on one thread;
CPU time; the figure is the median of the per-round ratios. A peer that is not installed is left out and
named (`pip install "dataguard[bench]"` brings them all).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import one_thread  # noqa: F401  first of all: read when the libraries load
import peers_accuracy
import peers_corpora
import peers_index
import peers_leaks
import peers_ours
import peers_page
import peers_sets
import peers_strings
from peers_harness import Peers, run, table, version

ROOT = Path(__file__).resolve().parents[1]
FIGURES = ROOT / "docs" / "peers.json"
ROUNDS = 5
PARTS = (
    "lists", "sets", "big", "identical", "weighted", "text", "columns", "buffers", "rows", "lsh", "memory", "search",
    "leak", "errors", "accuracy", "tails",
)  # fmt: skip
NEED_TEXT = {"lists", "text", "columns"}


def records(
    part: str, peers: Peers, texts: list[peers_corpora.Texts], rounds: int, *, quick: bool
) -> Iterator[Any]:
    """Yield the records of one part as they are measured."""
    if part in ("accuracy", "tails"):
        yield getattr(peers_accuracy, part)(peers, quick=quick)
    elif part == "memory":
        yield peers_index.memory(peers, quick=quick)
    elif part == "errors":
        yield peers_leaks.errors(peers, quick=quick)
    elif part == "leak":
        for task in peers_leaks.speed(peers, quick=quick):
            yield peers_leaks.with_bar(task, rounds)
    else:
        for task in _tasks(part, peers, texts, quick=quick):
            yield run(task, rounds)


def _tasks(part: str, peers: Peers, texts: list[peers_corpora.Texts], *, quick: bool) -> Iterable[Any]:
    if part in ("lsh", "search"):
        return peers_index.tasks(part, peers, quick=quick)
    if part in ("text", "columns", "buffers", "rows"):
        return peers_strings.tasks(part, peers, texts, quick=quick)
    return peers_sets.tasks(part, peers, texts, quick=quick)


def corpora(folder: Path | None, *, quick: bool, scaled: bool) -> list[peers_corpora.Texts]:
    """Return the text corpora: the real ones first, then a folder given, then the scaled one."""
    found = [peers_corpora.pages(name) for name in peers_corpora.TEXTS]
    if folder is not None:
        found.append(peers_corpora.folder(folder))
    if scaled:
        made = peers_corpora.made_texts(
            [t.part(40) for t in found[:2]] if quick else found[:2], 60 if quick else 2_000
        )
        found.append(made)
    return found


def machine() -> dict[str, Any]:
    """Return what the figures depend on; no name, no path."""
    cpu, memory = "?", 0.0
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = [line for line in info.read_text().splitlines() if line.startswith(("model name", "flags"))]
        names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
        flags = next((set(line.split()) for line in lines if line.startswith("flags")), set())
        wide = "AVX-512" if "avx512f" in flags else "AVX2" if "avx2" in flags else "no AVX2"
        cpu = f"{names[0] if names else '?'}, {wide}"
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "architecture": platform.machine(), "cpu": cpu, "cores": os.cpu_count(), "memory_gib": round(memory),
        "python": platform.python_version(),
    }  # fmt: skip


def show(record: dict[str, Any]) -> None:
    """Print a record."""
    if "unit" in record:
        print(table(record), flush=True)
        return
    print(f"\n{record['title']}")
    for row in record["rows"]:
        print("  " + ", ".join(f"{k} {v}" for k, v in row.items()))
    for name, reason in record["failed"].items():
        print(f"  left out: {name}: {reason}")
    for v in record["verdicts"]:
        done = "met" if v["met"] else "MISSED"
        print(f"  target {v['target']}: {v['what']}: {v['value']['median']:g}, bar {v['bar']:g}: {done}")
    sys.stdout.flush()


def main() -> None:
    """Measure the parts asked for, write the figures, say what was left out."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--parts", default=",".join(PARTS), help=f"some of {', '.join(PARTS)}")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument(
        "--corpus", type=Path, help="a folder of text files, measured beside the real corpora"
    )
    parser.add_argument("--json", type=Path, help="write the figures here; parts not measured keep theirs")
    parser.add_argument("--without", default="", help="modules to leave out, by comma")
    parser.add_argument("--quick", action="store_true", help="small input: checks that everything runs")
    parser.add_argument("--page", action="store_true", help="only write the page and the plots")
    given = parser.parse_args()
    if given.page:
        peers_page.write(ROOT, json.loads(FIGURES.read_text()))
        return
    parts = given.parts.split(",")
    if unknown := set(parts) - set(PARTS):
        sys.exit(f"unknown part {', '.join(sorted(unknown))}; parts are {', '.join(PARTS)}")
    peers = Peers([n for n in given.without.split(",") if n])
    texts = corpora(given.corpus, quick=given.quick, scaled="text" in parts) if NEED_TEXT & set(parts) else []
    found, seconds = [], {}
    for part in parts:
        started = time.perf_counter()
        for record in records(part, peers, texts, given.rounds, quick=given.quick):
            show(record)
            found.append(record)
        seconds[part] = round(time.perf_counter() - started, 1)
    print(f"\nseconds by part: {seconds}, {sum(seconds.values()):.0f} in all")
    left_out = {**peers.missing, **peers_ours.MISSING}
    for name, reason in left_out.items():
        print(f"left out: {name}: {reason}")
    if given.json:
        write(given.json, found, parts, peers.versions, left_out, quick=given.quick)


def write(
    path: Path, found: list[dict], parts: list[str], versions: dict, left_out: dict, *, quick: bool
) -> None:
    """Merge the figures of these parts into a file."""
    before = json.loads(path.read_text()) if path.exists() else {"records": [], "versions": {}}
    kept = [r for r in before["records"] if r["part"] not in parts]
    order = {part: i for i, part in enumerate(PARTS)}
    figures = {
        "machine": machine(), "quick": quick, "left_out": left_out,
        "versions": dict(sorted({**before["versions"], **versions, "numpy": version("numpy")}.items())),
        "records": sorted([*kept, *found], key=lambda r: order[r["part"]]),
    }  # fmt: skip
    path.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
