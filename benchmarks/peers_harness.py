"""Paired timing on a shared machine: rotation in one process, CPU clock, median of per-round ratios.

Other work on the machine moves absolute rates by a factor of two, but hits everyone who runs within the
same second alike. So every candidate runs once unmeasured, then ROUNDS times in rotating order, and what
counts is the median over the rounds of (time of the peer) / (time of ours), with its quartiles.
Nothing here knows a peer; the clock can be handed in, so the logic is tested on toys.
"""

from __future__ import annotations

import gc
import importlib
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

OURS = "dataguard"


@dataclass(frozen=True)
class Candidate:
    """One way to do the work.

    `share` is the part of the work that `run` does (a slow peer gets a part); its time is divided by it.
    `other` says in words that the candidate does something else than the rest (samples, does not verify).
    """

    name: str
    run: Callable[[], object]
    share: float = 1.0
    other: str = ""

    @property
    def ours(self) -> bool:
        return self.name.startswith(OURS)


@dataclass(frozen=True)
class Target:
    """A bar of the target list: ours must be at least `factor` times as fast as the peer."""

    number: int
    peer: str
    factor: float
    ours: str = OURS


@dataclass(frozen=True)
class Task:
    """One piece of work, its candidates and its bars. `size` units of work are done by a whole run."""

    key: str
    part: str
    title: str
    size: float
    unit: str
    candidates: Sequence[Candidate]
    targets: Sequence[Target] = ()
    corpus: str = ""
    facts: dict[str, Any] = field(default_factory=dict)
    rounds: int | None = None


class Peers:
    """Imports peers by name; remembers who is missing and why, and the versions of the rest."""

    def __init__(self, without: Sequence[str] = ()):
        self.without = set(without)
        self.missing: dict[str, str] = {}
        self.versions: dict[str, str] = {}

    def get(self, name: str, distribution: str | None = None) -> ModuleType | None:
        """Return the module, or None if it cannot be imported (noted in `missing`)."""
        if name in self.without:
            self.missing[name] = "left out on request"
            return None
        try:
            module = importlib.import_module(name)
        except Exception as error:  # noqa: BLE001  any failure of a foreign module leaves it out
            self.missing[name] = type(error).__name__ + ": " + str(error).splitlines()[0][:100]
            return None
        self.versions[distribution or name] = version(distribution or name.split(".", maxsplit=1)[0])
        return module


def version(distribution: str) -> str:
    """Return the installed version of a distribution, or "?"."""
    from importlib import metadata

    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "?"


def measure(
    candidates: Sequence[Candidate],
    rounds: int,
    clock: Callable[[], float] = time.process_time,
    collect: Callable[[], object] = gc.collect,
) -> tuple[dict[str, list[float]], dict[str, str]]:
    """Return the seconds of every round by candidate, and who failed in the unmeasured run with the reason.

    Round r starts with candidate r mod n, so nobody always runs after the same neighbour. What a run
    returns is let go after the clock has stopped.
    """
    able, failed = [], {}
    for candidate in candidates:
        try:
            candidate.run()
        except Exception as error:  # noqa: BLE001  a peer that fails is left out and said so
            failed[candidate.name] = f"{type(error).__name__}: {str(error)[:160]}"
        else:
            able.append(candidate)
    seconds: dict[str, list[float]] = {c.name: [] for c in able}
    for number in range(rounds if able else 0):
        first = number % len(able)
        for candidate in [*able[first:], *able[:first]]:
            collect()
            started = clock()
            kept = candidate.run()
            used = clock() - started
            del kept
            seconds[candidate.name].append(max(used, 1e-9) / candidate.share)
    return seconds, failed


def spread(values: Sequence[float]) -> dict[str, float]:
    """Return the median and the quartiles (inclusive method; one value is its own quartiles)."""
    low, middle, high = (
        statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else values * 3
    )
    return {"median": rounded(middle), "q1": rounded(low), "q3": rounded(high)}


def rounded(value: float, digits: int = 4) -> float:
    """Keep four significant digits: more would be noise in a file under version control."""
    return float(f"{value:.{digits}g}")


def ratios(over: Sequence[float], under: Sequence[float]) -> list[float]:
    """Pair the rounds: over[r] / under[r]."""
    return [a / b for a, b in zip(over, under, strict=True)]


def verdict(number: int, what: str, value: dict[str, float], bar: float, *, at_least: bool = True) -> dict:
    """Return one line of the target list; the median decides."""
    met = value["median"] >= bar if at_least else value["median"] <= bar
    return {"target": number, "what": what, "value": value, "bar": bar, "at_least": at_least, "met": met}


def settle(task: Task, seconds: dict[str, list[float]]) -> list[dict]:
    """Return the verdicts of a task's bars; a bar whose peer or whose own candidate is missing gets none."""
    made = []
    for target in task.targets:
        mine, theirs = seconds.get(target.ours), seconds.get(target.peer)
        if mine and theirs:
            value = spread(ratios(theirs, mine))
            what = f"{task.title}: {target.ours} against {target.peer}"
            made.append(
                {**verdict(target.number, what, value, target.factor), "task": task.key, "peer": target.peer}
            )
    return made


def run(task: Task, rounds: int, clock: Callable[[], float] = time.process_time) -> dict[str, Any]:
    """Measure a task and return its record: rates, ratios to our first candidate, verdicts, who failed."""
    # Peers of Python objects leave millions of them: frozen, they are not walked again before every run, by
    # nobody's collector (300,000 signatures in dictionaries: 1 to 2 s each time).
    gc.collect()
    gc.freeze()
    try:
        seconds, failed = measure(task.candidates, task.rounds or rounds, clock)
    finally:
        gc.unfreeze()
    by_name = {c.name: c for c in task.candidates}
    base = next((name for name in seconds if by_name[name].ours), next(iter(seconds), None))
    rows = []
    for name, used in seconds.items():
        rows.append(
            {
                "name": name,
                "rate": rounded(task.size / statistics.median(used)),
                "seconds": rounded(statistics.median(used)),
                "base_is": spread(ratios(used, seconds[base])) if base else None,
                "share": rounded(by_name[name].share),
                "other": by_name[name].other,
            }
        )
    return {
        "key": task.key, "part": task.part, "title": task.title, "corpus": task.corpus, "unit": task.unit,
        "size": rounded(task.size, 8), "rounds": task.rounds or rounds, "base": base, "rows": rows,
        "verdicts": settle(task, seconds), "failed": failed, "facts": task.facts,
    }  # fmt: skip


def table(record: dict[str, Any]) -> str:
    """Return a record as text for the terminal."""
    lines = [f"\n{record['title']}  [{record['corpus']}; {record['size']:,.6g} {record['unit']}]"]
    for row in sorted(record["rows"], key=lambda r: -r["rate"]):
        ratio = row["base_is"]
        lines.append(
            f"  {row['name']:<44} {row['rate']:>12,.4g} {record['unit']}/s   {record['base']} is "
            f"{ratio['median']:.4g}x ({ratio['q1']:.4g} to {ratio['q3']:.4g})  {row['other']}"
        )
    lines += [f"  left out: {name}: {reason}" for name, reason in record["failed"].items()]
    for v in record["verdicts"]:
        lines.append(
            f"  target {v['target']}: {v['value']['median']:.4g}, bar {v['bar']:g}: "
            f"{'met' if v['met'] else 'MISSED'} ({v['peer']})"
        )
    return "\n".join(lines)
