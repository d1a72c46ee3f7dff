"""Commands killed, interrupted and out of space, many times: what breaks a promise, and what is left lying about.

    python benchmarks/faults.py [--kills 500] [--calls kill,term,room] [--system-calls 100] [--workers 2] [--folder DIR]

Prints a JSON summary and a table. `--kills`: SIGKILL after a random share of a command's usual time. `--calls`:
SIGKILL, SIGTERM, or no room from there on, at every call of Python that can change the disk, and before
and after every statement of the registry. `--system-calls`: SIGKILL on entering a system call that writes, SQLite's
own included, of the command line started the usual way (needs strace). After each one everything is checked:
outputs whole, logged and traced to their recipient, bundles verified, ledger and vault trusted, nothing
acknowledged gone, the same command works again, and nothing is left lying about after that.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

import common  # noqa: F401 - sets the kernel cache
from faulty import SRC, Done, Shell
from faulty_world import (
    KINDS,
    Commands,
    Tally,
    World,
    base_world,
    copy_world,
    cut,
    cuts_at_calls,
    interesting,
    random_cuts,
)

ALL = tuple(
    (kind, force) for kind in KINDS for force in (False, True) if not (force and kind in ("init", "trace"))
)
NEEDS_ROOM = ("open", "mkdir", "sync", "link", "rename")
WRITES = (
    "write", "pwrite64", "fsync", "fdatasync", "ftruncate", "rename", "renameat2", "link", "unlink", "unlinkat",
    "mkdir", "rmdir",
)  # fmt: skip
"""System calls that change what is on disk; an `openat` that creates is seen through the first write."""
AT_CALLS = {
    "kill": "kill -9 at every call",
    "term": "SIGTERM at every call",
    "room": "no room from a call on",
}
MAIN = "from dataguard.cli.main import main; main()"
Job = tuple[str, str, int, Any]


def run(job: Job) -> tuple[str, Tally, float]:
    """Do one job in a process of its own: (what, folder, seed, more)."""
    what, folder, seed, more = job
    root, tally, start = Path(folder), Tally(), time.monotonic()
    shutil.rmtree(root, ignore_errors=True)
    with Shell(root, root / "base") as shell:
        base = base_world(shell, root / "base")
        draw = random.Random(seed)
        if what == "kill -9 at a random time":
            random_cuts(base, root / "worlds", seed, more, tally)
        elif what == "kill -9 on a system call":
            system_calls(base, root / "worlds", draw, more, tally)
        else:
            signum = {"kill -9 at every call": signal.SIGKILL, "SIGTERM at every call": signal.SIGTERM}.get(
                what, "full"
            )
            choose = needing_room if signum == "full" else lambda calls: list(interesting(calls))
            cuts_at_calls(base, root / "worlds", draw, tally, choose, kinds=(more,), what=signum)
    shutil.rmtree(root)
    return what, tally, time.monotonic() - start


def needing_room(calls: list[str]) -> list[int]:
    return [n for n, text in enumerate(calls, start=1) if text.split(" ")[0] in NEEDS_ROOM]


# --- system calls ----------------------------------------------------------------------------------------


class Traced(World):
    """A world whose command, when it is to be cut, is the command line under strace."""

    def run(self, *argv: object, inject: str = "", **more: Any) -> Done:
        if not inject:
            return super().run(*argv, **more)
        if "--force" in argv:
            self.replaced.add(Path(str(argv[argv.index("-o") + 1])))
        done = strace(self, argv, "-e", f"inject={inject}")
        if done.is_done:
            self.acknowledge(*argv)
        return done


def strace(world: World, argv: tuple[object, ...], *options: str) -> Done:
    """Run the command line under strace; its own trace goes to ``trace.txt``."""
    command = [
        "strace", "-f", "-y", "-o", str(world.root / "trace.txt"), "-e", f"trace={','.join(WRITES)}",
        *options, sys.executable, "-c", MAIN, *map(str, world.full(*argv)),
    ]  # fmt: skip
    done = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(SRC)}, check=False
    )
    return Done(done.returncode, done.stdout + done.stderr)


def system_calls(base: World, root: Path, draw: random.Random, count: int, tally: Tally) -> None:
    """Kill commands on entering a system call that writes below their world."""
    for kind, force in ALL:
        plain = copy_world(base, root / f"system-{kind}-{force}")
        world = Traced(**{name: getattr(plain, name) for name in plain.__dataclass_fields__})
        commands = Commands(world, draw)
        assert strace(world, commands.make(kind, force=force)).is_done
        seen: Counter[tuple[str, str]] = Counter()  # strace counts by thread
        places = []
        for line in (world.root / "trace.txt").read_text().splitlines():
            found = re.match(r"(\d+) +(\w+)\(", line)
            if found:
                seen[found[1], found[2]] += 1
                if str(world.root) in line:
                    places.append(f"{found[2]}:signal=KILL:when={seen[found[1], found[2]]}")
        share = max(1, round(count / len(ALL)))
        for inject in draw.sample(places, min(share, len(places))):
            cut(world, commands.make(kind, force=force), tally, inject=inject)
        shutil.rmtree(world.root)


# --- all of it ---------------------------------------------------------------------------------------------


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=500)
    parser.add_argument("--calls", default=",".join(AT_CALLS))
    parser.add_argument("--system-calls", type=int, default=100 if shutil.which("strace") else 0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="faults-") as made:
        jobs = plan(options, Path(options.folder or made))
        with ProcessPoolExecutor(options.workers, mp_context=get_context("spawn")) as pool:
            results = []
            for what, tally, took in pool.map(run, jobs):
                note = f"{what}: {dict(tally.cuts)}, {len(tally.violations)} violations, {took:.0f} s"
                print("\n".join([note, *tally.violations]), file=sys.stderr, flush=True)
                results.append((what, tally, took))
    show(results, options.seed)


def plan(options: argparse.Namespace, folder: Path) -> list[Job]:
    """Return the jobs, each with a folder of its own."""
    share = max(1, -(-options.kills // 10))
    rest = [min(share, options.kills - n) for n in range(0, options.kills, share)]
    jobs: list[tuple[str, Any]] = [("kill -9 at a random time", n) for n in rest]
    for name in filter(None, options.calls.split(",")):
        jobs += [(AT_CALLS[name], kind) for kind in ALL]
    if options.system_calls:
        jobs.append(("kill -9 on a system call", options.system_calls))
    return [(what, str(folder / f"job{i}"), options.seed + i, more) for i, (what, more) in enumerate(jobs)]


def show(results: list[tuple[str, Tally, float]], seed: int) -> None:
    """Print the summary as JSON and as a table."""
    rows: dict[tuple[str, str], Counter[str]] = {}
    violations, seconds = [], 0.0
    for what, tally, took in results:
        seconds += took
        violations += [f"{what}: {text}" for text in tally.violations]
        for kind in tally.cuts:
            row = rows.setdefault((what, kind), Counter())
            row["cuts"] += tally.cuts[kind]
            row["done before"] += tally.missed[kind]
            row["left something"] += tally.leftovers[kind]
            row["violations"] += sum(text.split(" ")[0] == kind for text in tally.violations)
    document = {
        "seed": seed, "seconds": round(seconds), "violations": violations,
        "rows": [{"fault": what, "command": kind, **row} for (what, kind), row in rows.items()],
    }  # fmt: skip
    print(json.dumps(document, indent=1))
    print(
        f"\n{'fault':<26}{'command':<10}{'cuts':>6}{'done before':>13}{'left something':>16}{'violations':>12}"
    )
    for (what, kind), row in rows.items():
        print(
            f"{what:<26}{kind:<10}{row['cuts']:>6}{row['done before']:>13}{row['left something']:>16}"
            f"{row['violations']:>12}"
        )
    print(
        f"{sum(r['cuts'] for r in rows.values())} cuts, {len(violations)} violations, {seconds:.0f} s of two workers"
    )


if __name__ == "__main__":
    main()
