"""Time and memory of whole commands, and of the CSV splice beside its peers: docs/performance.json and .md.

python benchmarks/performance.py                 # everything, about half an hour on an idle machine
python benchmarks/performance.py splice trace    # some of: protect, splice, trace, cold, memory
python benchmarks/performance.py --page          # only write docs/performance.md anew
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import peers_page
from common import data_file
from scaled import name as scaled_name
from scaled import write_scaled

ROOT = Path(__file__).resolve().parents[1]
FIGURES, PAGE = ROOT / "docs" / "performance.json", ROOT / "docs" / "performance.md"
BESIDE = ROOT / "docs" / "peers.json"
RUNS = 5
FLIGHTS = "tables/nycflights13_flights.parquet"


_WATCHED = """
import sys
path = sys.argv.pop(1)
from dataguard.cli.main import main
try:
    main()
finally:
    peak = [line for line in open("/proc/self/status") if line.startswith("VmHWM")]
    open(path, "w").write(peak[0].split()[1])
"""
"""The largest resident size of the command's own memory; ru_maxrss would count its parent's too."""


def run(*words: str, cwd: Path, cold: Path | None = None) -> dict[str, float]:
    """Run one dataguard command; wall and CPU seconds, peak memory in MiB of that process."""
    env = dict(os.environ, DATAGUARD_NUMBA_CACHE="1")
    if cold is not None:
        env["NUMBA_CACHE_DIR"] = str(cold)
    started, peak = time.perf_counter(), cwd / "peak.txt"
    child = subprocess.Popen(
        [sys.executable, "-c", _WATCHED, str(peak), *words], cwd=cwd, env=env,
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    )  # fmt: skip
    error = child.stderr.read() if child.stderr else b""
    _, status, used = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode not in (0, 1):
        sys.exit(f"dataguard {' '.join(words)} ended with {child.returncode}: {error.decode()[-500:]}")
    return {
        "wall_s": round(time.perf_counter() - started, 2),
        "cpu_s": round(used.ru_utime + used.ru_stime, 2),
        "peak_mib": round(int(peak.read_text()) / 1024),
    }


def several(make: Callable[[int], dict[str, float]], runs: int = RUNS) -> dict[str, Any]:
    """Return the median, least and largest of each figure; one run before does not count."""
    make(-1)
    made = [make(i) for i in range(runs)]
    return {
        key: {
            "median": round(statistics.median(m[key] for m in made), 2),
            "min": min(m[key] for m in made),
            "max": max(m[key] for m in made),
        }
        for key in made[0]
    }


# --- commands ----------------------------------------------------------------------------------------


def protect(folder: Path) -> list[dict[str, Any]]:
    """Flights: register once, protect to Parquet and (from CSV) to CSV."""
    rows = []
    source = data_file(FLIGHTS)
    text = folder / "flights.csv"
    from dataguard.formats.source import open_source
    from dataguard.formats.write import write_marked

    write_marked(open_source(source), [], text)
    for data, suffix in ((source, "parquet"), (text, "csv")):
        vault = folder / f"vault-{suffix}"
        run("init", "--vault", str(vault), cwd=folder)
        words = ("register", str(data), "--vault", str(vault), "--json", "--name")
        rows.append(
            {"step": f"register {suffix}", **several(lambda i, w=words: run(*w, f"f{i}", cwd=folder), 3)}
        )

        def once(i: int, vault: Path = vault, suffix: str = suffix) -> dict[str, float]:
            out = folder / f"{i}.{suffix}"
            done = run(
                "protect",
                "f0",
                "--vault",
                str(vault),
                "--recipient",
                "acme",
                "-o",
                str(out),
                "--json",
                cwd=folder,
            )
            out.unlink()
            return done

        rows.append({"step": f"protect to {suffix}", **several(once)})
    return rows


def trace(folder: Path) -> list[dict[str, Any]]:
    """Flights: 10,000 rows of a copy, 1,000 committed recipients."""
    from dataguard.vault import Vault

    vault = folder / "vault"
    with Vault.create(vault) as made:
        made.register(data_file(FLIGHTS), name="flights")
        made.commit_recipients("flights", [f"r{i}" for i in range(1000)])
        made.protect("flights", recipient="r7", out=folder / "copy.parquet")
    table = pq.read_table(folder / "copy.parquet")
    leak = table.take(np.random.default_rng(1).permutation(table.num_rows)[:10_000])
    pq.write_table(leak, folder / "leak.parquet")
    words = ("trace", "leak.parquet", "--dataset", "flights", "--vault", str(vault), "--json")
    return [{"step": "trace 10,000 rows, 1,000 recipients", **several(lambda _: run(*words, cwd=folder))}]


def cold(folder: Path) -> list[dict[str, Any]]:
    """First commands of a fresh install: no compiled kernel anywhere."""
    rows = []
    january = ROOT / "src" / "dataguard" / "data" / "flights_2013_01.parquet"
    from dataguard.formats.source import open_source
    from dataguard.formats.write import write_marked

    for suffix in ("csv", "jsonl"):
        write_marked(open_source(january), [], folder / f"january.{suffix}")
    for what, words in (
        ("demo", ("demo",)),
        ("compare two Parquet files", ("compare", str(january), str(january))),
        ("compare two CSV files", ("compare", "january.csv", "january.csv")),
        ("compare two JSON Lines files", ("compare", "january.jsonl", "january.jsonl")),
    ):
        made = []
        for i in range(3):
            cache = folder / f"cache-{i}"
            made.append(run(*words, cwd=folder, cold=cache))
            shutil.rmtree(cache)
            shutil.rmtree(folder / "dataguard-demo", ignore_errors=True)
        rows.append({"step": f"first command: {what}", "wall_s": _spread([m["wall_s"] for m in made])})
    return rows


def _spread(values: list[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def memory(folder: Path) -> list[dict[str, Any]]:
    """Scaled flights with --memory 1G: cost per row and peak memory of every step."""
    rows = []
    for k in map(int, os.environ.get("SCALES", "1,3,10,30").split(",")):
        made = write_scaled("flights", k, folder / f"flights{k}.parquet")
        data, vault = str(made.path), folder / f"v{k}"
        common = ("--vault", str(vault), "--memory", "1G", "--json")
        run("init", "--vault", str(vault), cwd=folder)
        steps = {
            "register": ("register", data, "--name", "f", *common),
            "protect": ("protect", "f", "--recipient", "acme", "-o", f"copy{k}.parquet", *common),
        }
        for step, words in steps.items():
            rows.append(
                {"set": scaled_name("flights", k), "rows": made.rows, "step": step, **run(*words, cwd=folder)}
            )
        _leak(folder / f"copy{k}.parquet", folder / f"leak{k}.parquet")
        for step, words in {
            "trace 1,000 rows": ("trace", f"leak{k}.parquet", "--dataset", "f", *common),
            "trace the whole copy": ("trace", f"copy{k}.parquet", "--dataset", "f", *common),
            "compare with the whole copy": ("compare", data, f"copy{k}.parquet", "--memory", "1G", "--json"),
        }.items():
            rows.append(
                {"set": scaled_name("flights", k), "rows": made.rows, "step": step, **run(*words, cwd=folder)}
            )
    return rows


def _leak(copy: Path, out: Path) -> None:
    file = pq.ParquetFile(copy)
    rng = np.random.default_rng(1)
    wanted = np.sort(rng.choice(file.metadata.num_rows, 1000, replace=False))
    parts, first = [], 0
    for batch in file.iter_batches():
        low, high = np.searchsorted(wanted, [first, first + batch.num_rows])
        parts.append(pa.Table.from_batches([batch]).take(wanted[low:high] - first))
        first += batch.num_rows
    pq.write_table(pa.concat_tables(parts).take(rng.permutation(1000)), out)


# --- the splice and its peers ------------------------------------------------------------------------

PEERS = ("dataguard", "csv", "pyarrow", "polars", "duckdb", "pandas")


def splice(folder: Path) -> list[dict[str, Any]]:
    """A CSV of about 100 MB written again: one cell in a hundred of six columns moved, or by a peer as it is."""
    write_scaled("flights", 3, folder / "x.parquet", csv=True)
    text = folder / "x.csv"
    size = text.stat().st_size
    made: dict[str, list[float]] = {peer: [] for peer in PEERS}
    peak = dict.fromkeys(PEERS, 0.0)
    for i in range(-1, RUNS):
        for peer in PEERS:
            done = subprocess.run(
                [sys.executable, __file__, "--peer", peer, str(text), str(folder / "out.csv")],
                capture_output=True, text=True, check=True,
            )  # fmt: skip
            if i >= 0:
                figure = json.loads(done.stdout)
                made[peer].append(figure["cpu_s"])
                peak[peer] = max(peak[peer], figure["peak_mib"])
    ours = statistics.median(made["dataguard"])
    return [
        {
            "peer": peer, "bytes": size, "cpu_s": _spread(made[peer]),
            "mb_per_cpu_s": round(size / 1e6 / statistics.median(made[peer]), 1),
            "times_ours": round(statistics.median(made[peer]) / ours, 1), "peak_mib": round(peak[peer]),
        }
        for peer in PEERS
    ]  # fmt: skip


def peer(kind: str, text: Path, out: Path) -> None:
    """One copy in a process of its own; imports and compilation do not count."""
    work = {"dataguard": _ours, "csv": _csv, "pyarrow": _pyarrow, "polars": _polars, "duckdb": _duckdb}.get(
        kind, _pandas
    )
    job = work(text, out)
    started = time.process_time()
    job()
    used = time.process_time() - started
    out.unlink()
    peak = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    print(json.dumps({"cpu_s": used, "peak_mib": int(peak[0].split()[1]) / 1024}))


def _ours(text: Path, out: Path) -> Callable[[], object]:
    from dataguard.formats.csv import CsvSource
    from dataguard.formats.edits import Moves, as_block
    from dataguard.formats.splice import splice_csv

    source = CsvSource(text, "csv", text.name)
    rows = source.rows()
    rng = np.random.default_rng(1)
    moves = []
    for column in ("dep_time", "dep_delay", "arr_time", "arr_delay", "air_time", "distance"):
        at = rng.choice(rows, rows // 100, replace=False)
        moves.append(Moves(column, at, np.roll(at, 1)))

    def copy() -> None:
        with out.open("wb") as file:
            splice_csv(source, as_block(moves, rows), file)

    small = out.with_suffix(".small.csv")
    small.write_bytes(text.read_bytes()[: 1 << 20].rpartition(b"\n")[0] + b"\n")
    with out.open("wb") as file:  # compiled before the clock starts
        some = CsvSource(small, "csv", "small")
        splice_csv(some, as_block([Moves("distance", np.array([0, 1]), np.array([1, 0]))], some.rows()), file)
    small.unlink()
    return copy


def _csv(text: Path, out: Path) -> Callable[[], object]:
    import csv

    def copy() -> None:
        with text.open(newline="") as source, out.open("w", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows(csv.reader(source))

    return copy


def _pyarrow(text: Path, out: Path) -> Callable[[], object]:
    import pyarrow.csv as pacsv

    def copy() -> None:
        reader = pacsv.open_csv(text, read_options=pacsv.ReadOptions(use_threads=False))
        with pacsv.CSVWriter(out, reader.schema) as writer:
            for batch in reader:
                writer.write(batch)

    return copy


def _polars(text: Path, out: Path) -> Callable[[], object]:
    import polars as pl

    return lambda: pl.scan_csv(text, infer_schema=False).sink_csv(out)


def _duckdb(text: Path, out: Path) -> Callable[[], object]:
    import duckdb

    query = f"COPY (SELECT * FROM read_csv('{text}', all_varchar=true)) TO '{out}' (HEADER)"
    return lambda: duckdb.connect().execute(query)


def _pandas(text: Path, out: Path) -> Callable[[], object]:
    import pandas as pd

    def copy() -> None:
        for i, chunk in enumerate(pd.read_csv(text, dtype=str, keep_default_na=False, chunksize=100_000)):
            chunk.to_csv(out, mode="a" if i else "w", header=not i, index=False)

    return copy


# --- the page ----------------------------------------------------------------------------------------


def page(figures: dict[str, Any], beside: dict[str, Any] | None = None) -> str:
    """Return docs/performance.md; `beside` are the figures of peers.py, for the fingerprints section."""
    lines = [
        "# Performance", "",
        ("Made by `python benchmarks/performance.py`; the figures stand in `performance.json`. "
        f"Machine: {figures['machine']}. Median of several runs, least and largest in brackets."), "",
    ]  # fmt: skip
    for title, key in (
        ("Marking flights (336,776 rows x 19 columns)", "protect"),
        ("Tracing", "trace"),
        ("First command of a fresh install (kernels are compiled)", "cold"),
    ):
        if key in figures:
            lines += [f"## {title}", "", "| step | wall s | CPU s | peak MiB |", "|---|---|---|---|"]
            for row in figures[key]:
                cells = (_cell(row.get(k)) for k in ("wall_s", "cpu_s", "peak_mib"))
                lines.append(f"| {row['step']} | {' | '.join(cells)} |")
            lines.append("")
    if "splice" in figures:
        size = figures["splice"][0]["bytes"] / 1e6
        lines += [
            "## A CSV file written again", "",
            (f"{size:.0f} MB of flights. Ours moves 1 % of the cells of six columns and leaves every other byte; "
            "the peers read the text and write it again as it is, cells as text where they can. CPU seconds of "
            "the copy alone, each in a process of its own, in rotation; polars and duckdb use both cores."), "",
            "| | CPU s | MB per CPU s | times ours | peak MiB |", "|---|---|---|---|---|",
        ]  # fmt: skip
        lines += [
            f"| {r['peer']} | {_cell(r['cpu_s'])} | {r['mb_per_cpu_s']} | {r['times_ours']} | {r['peak_mib']} |"
            for r in figures["splice"]
        ]
        lines.append("")
    if "memory" in figures:
        lines += [
            "## Larger than the bound: `--memory 1G`", "",
            "Scaled sets (row bootstrap with noise; cost only, no detection rates). One run each.", "",
            "| set | rows | step | wall s | CPU s | CPU us per row | peak MiB |", "|---|---|---|---|---|---|---|",
        ]  # fmt: skip
        lines += [
            f"| {r['set']} | {r['rows']:,} | {r['step']} | {r['wall_s']} | {r['cpu_s']} "
            f"| {1e6 * r['cpu_s'] / r['rows']:.1f} | {r['peak_mib']} |"
            for r in figures["memory"]
        ]
        lines.append("")
    if beside is not None:
        lines += peers_page.section(beside)
    return "\n".join(lines)


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value['median']:g} ({value['min']:.3g} to {value['max']:.4g})"


SECTIONS: dict[str, Callable[[Path], list[dict[str, Any]]]] = {
    "protect": protect, "splice": splice, "trace": trace, "cold": cold, "memory": memory,
}  # fmt: skip


def main(words: list[str]) -> None:
    """Run the sections named, all without a name."""
    if words[:1] == ["--peer"]:
        peer(words[1], Path(words[2]), Path(words[3]))
        return
    figures = json.loads(FIGURES.read_text()) if FIGURES.exists() else {}
    figures["machine"] = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    for section in [] if words == ["--page"] else words or list(SECTIONS):
        with tempfile.TemporaryDirectory() as folder:
            figures[section] = SECTIONS[section](Path(folder))
        FIGURES.write_text(json.dumps(figures, indent=1) + "\n")
        print(json.dumps(figures[section], indent=1))
    PAGE.write_text(page(figures, json.loads(BESIDE.read_text()) if BESIDE.exists() else None))


if __name__ == "__main__":
    main(sys.argv[1:])
