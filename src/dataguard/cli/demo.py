"""``dataguard demo``: the whole story on real data, told for people who know no statistics."""

from __future__ import annotations

import time
from collections.abc import Callable
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import click

from dataguard.cli import options, progress

__all__ = ["command", "leak", "run"]

RECIPIENTS = ("acme", "birch", "cedar")
LEAKER = "birch"
LEAKED_ROWS = 300


@click.command("demo", epilog="Example: dataguard demo -o demo/")
@click.option("-o", "--out", type=click.Path(), help="Folder for all files [default: a new dataguard-demo].")
@click.option(
    "--kind", type=click.Choice(["table"]), default="table", show_default=True, help="Kind of data."
)
@options.json_option
@options.quiet_option
def command(out: str | None, kind: str, as_json: bool, quiet: bool) -> None:
    """Register a real table, share it with three recipients, leak one copy, find and prove which."""
    del kind  # one so far
    folder = _folder(out)
    if not (as_json or quiet):
        progress.note_first_use()
    started = time.perf_counter()
    say = (lambda _text: None) if as_json or quiet else click.echo
    steps = run(folder, say)
    seconds = round(time.perf_counter() - started, 1)
    if as_json:
        options.print_json(
            {"schema": "dataguard.demo/1", "steps": steps, "seconds": seconds, "folder": str(folder)}
        )
        return
    say(
        f"\nDone in {seconds} s. Everything lies in {folder}; open {folder / 'bundle' / 'report.html'} in a browser."
    )


def _folder(out: str | None) -> Path:
    if out is not None:
        folder = Path(out)
    else:
        names = ["dataguard-demo", *(f"dataguard-demo-{i}" for i in range(2, 1000))]
        folder = next(Path(name) for name in names if not Path(name).exists())
    if folder.exists() and any(folder.iterdir()):
        from dataguard.errors import UsageError

        raise UsageError("is not empty", where=str(folder), remedy="choose another --out")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def run(folder: Path, say: Callable[[str], None]) -> list[dict[str, Any]]:
    """Play the story in `folder`, telling it line by line; return what each step found."""
    from dataguard.vault import Vault

    steps: list[dict[str, Any]] = []
    packaged = files("dataguard") / "data" / "flights_2013_01.parquet"
    with as_file(packaged) as original, Vault.create(folder / "vault") as vault:
        _provider(vault, original, folder, say, steps)
        say("\n-- somebody leaks --")
        found = leak(folder / f"{LEAKER}.parquet", folder / "found.csv")
        say(f"   found on the internet: found.csv, {LEAKED_ROWS} shuffled rows, columns renamed and dropped")
        say(f"   (it was cut from {LEAKER}'s copy; the tool is not told)")
        steps.append({"step": "leak", "rows": LEAKED_ROWS, "from": LEAKER})
        _investigator(vault, original, found, say, steps)
        say("\n$ dataguard report found.csv --dataset flights -o bundle")
        written = vault.report(found, dataset="flights", out=folder / "bundle")
        say(f"   {len(written.files)} files, signed, status {written.status}")
        steps.append({"step": "report", "bundle": str(written.path), "findings": written.findings})
    _counsel(folder / "bundle", say, steps)
    return steps


def _provider(
    vault: Any, original: Path, folder: Path, say: Callable[[str], None], steps: list[dict[str, Any]]
) -> None:
    say("$ dataguard init\n   a vault with fresh keys and an empty ledger")
    say("$ dataguard register flights.parquet --name flights")
    done = vault.register(original, name="flights")
    rows = done.capacity["forecast"]["rows"]
    say(
        f"   {done.rows:,} real flights x {done.columns} columns; {done.capacity['slots']:,} places can carry a mark"
    )
    say(f"   a leak of about {rows} unchanged rows will be enough to trace it")
    steps.append({"step": "register", "rows": done.rows, "slots": done.capacity["slots"]})
    for recipient in RECIPIENTS:
        say(f"$ dataguard protect flights --recipient {recipient} -o {recipient}.parquet")
        made = vault.protect("flights", recipient=recipient, out=folder / f"{recipient}.parquet")
        d = made.distortion
        largest = max(r.mean_sd for r in d.rows)
        say(
            f"   {d.cells_changed:,} cells exchanged with near ones; every column keeps exactly its values; "
            f"mean change at most {largest:.3f} sd"
        )
        steps.append({"step": "protect", "recipient": recipient, "slots": made.slots_marked})


def leak(copy: Path, out: Path) -> Path:
    """Write the leak: some rows of a copy, shuffled, as CSV, columns renamed, dropped and reordered."""
    import numpy as np
    import pyarrow.csv as pacsv
    import pyarrow.parquet as pq

    table = pq.read_table(copy)
    rows = np.random.default_rng(20261124).permutation(table.num_rows)[:LEAKED_ROWS]
    kept = {
        "dep_delay": "delay_min", "carrier": "airline", "flight": "no", "tailnum": "tailnum", "dest": "to",
        "air_time": "minutes_in_air", "arr_time": "arr_time", "sched_arr_time": "planned", "day": "d", "hour": "h",
    }  # fmt: skip
    leaked = table.take(rows).select(list(kept)).rename_columns(list(kept.values()))
    pacsv.write_csv(leaked, out)
    return out


def _investigator(
    vault: Any, original: Path, found: Path, say: Callable[[str], None], steps: list[dict[str, Any]]
) -> None:
    from dataguard.investigate import compare

    say("\n$ dataguard compare flights.parquet found.csv")
    compared = compare(original, found).to_dict()
    matched, total = compared["rows"]["matched"], compared["rows"]["suspect"]
    say(f"   relation: {compared['relation']}; {matched} of {total} rows correspond to rows of the original")
    renamed = [
        f"{c['original']} -> {c['suspect']}" for c in compared["columns"] if c["original"] != c["suspect"]
    ]
    say(f"   columns recognised by their values: {', '.join(renamed[:4])}, ...")
    steps.append({"step": "compare", "relation": compared["relation"], "matched": matched})
    say("\n$ dataguard trace found.csv --dataset flights")
    traced = vault.trace(found, dataset="flights")
    a = traced.accusation
    for r in a.recipients:
        say(f"   {r.recipient:<6} {r.agreeing:>4} of {a.votes} marks agree: {_chance(r.log10_p_adjusted)}")
    say(f"   outcome: {traced.outcome}" + "".join(f", the copy handed to {n}" for n in traced.corresponding))
    say("   A copy that was no source agrees with about half of the marks, as tossed coins would. The chance")
    say("   is an upper bound whatever the file is, with everything that was tried paid for; a copy is named")
    say(f"   below 1 in {1 / traced.alpha:,.0f} only.")
    steps.append({
        "step": "trace", "outcome": str(traced.outcome), "corresponding": list(traced.corresponding),
        "log10_p_adjusted": a.recipients[0].log10_p_adjusted,
    })  # fmt: skip


def _chance(log10_p: float) -> str:
    """Return a bound in words: a power of ten, or that coins would do the same."""
    if log10_p > -2:
        return "as coins would"
    return f"by chance at most once in 10^{int(-log10_p)}"


def _counsel(bundle: Path, say: Callable[[str], None], steps: list[dict[str, Any]]) -> None:
    from dataguard.evidence.verify import verify

    say("\n$ dataguard verify bundle")
    checked = verify(bundle)
    say(
        f"   {sum(s.ok for s in checked.steps)} of {len(checked.steps)} steps hold: "
        + _verdict(checked.trusted)
    )
    steps.append({"step": "verify", "trusted": checked.trusted})
    target = bundle / "report.json"
    data = target.read_bytes()
    target.write_bytes(data[:100] + bytes([data[100] ^ 1]) + data[101:])
    say("\n$ dataguard verify bundle     (after one byte of report.json was flipped)")
    again = verify(bundle)
    broken = next(s for s in again.steps if not s.ok)
    say(f"   step {broken.n} fails ({broken.name}): " + _verdict(again.trusted))
    steps.append({"step": "verify-flipped", "trusted": again.trusted})
    target.write_bytes(data)


def _verdict(trusted: bool) -> str:
    return "trusted" if trusted else "NOT trusted"
