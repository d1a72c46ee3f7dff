"""The fingerprints section of docs/performance.md, its plots and the README's table, from docs/peers.json.

Nothing is typed by hand: whether a bar is met, and by how much, follows from the figures.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import peers_plots
from peers_harness import OURS
from peers_missed import REASONS

TARGETS = {
    0: "accuracy of the signatures",
    1: "short documents from Python lists",
    2: "short prehashed sets (10 to 100)",
    3: "medium prehashed sets (300 to 3,000)",
    4: "big prehashed sets (1,000,000)",
    5: "raw text to 5-word signatures",
    6: "datasketch's own values, bit for bit",
    7: "hash of a column of words",
    8: "xxh3_64 of large buffers",
    9: "hash of the rows of a mixed table",
    10: "LSH build",
    11: "LSH batch query, verified",
    12: "LSH memory",
    16: "containment search, exact counts",
    17: "leak test",
    18: "weighted signatures",
}
PARTS = {
    "lists": "Python lists of strings", "sets": "Prehashed sets", "big": "Big prehashed sets",
    "identical": "datasketch's own values", "weighted": "Weighted signatures", "text": "Raw text",
    "columns": "Columns of strings", "buffers": "Large buffers", "rows": "Rows of a table", "lsh": "LSH index",
    "memory": "Memory of an index", "search": "Containment search", "leak": "Leak test: speed",
    "errors": "Leak test: error", "accuracy": "Accuracy", "tails": "Largest errors",
}  # fmt: skip


def settled(figures: dict[str, Any]) -> list[dict[str, Any]]:
    """Return one line per target, peer and direction over all its tasks: least and largest ratio, met or not.

    The worst task decides. Ratios to read: how many times ours is faster (or smaller); for a bar that must
    not be passed (`at_least` false) the value itself.
    """
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for record in figures["records"]:
        for v in record["verdicts"]:
            alone = v["peer"] in ("absolute", "theory") or v["target"] in (16, 17)
            exact = v["what"].partition(f": {OURS} against")[0] if alone else ""
            groups.setdefault((v["target"], v["peer"], v["bar"], v["at_least"], exact), []).append(v)
    made = []
    for (target, peer, bar, at_least, exact), members in sorted(
        groups.items(), key=lambda g: (g[0][0], g[1][0]["what"])
    ):
        values = [m["value"]["median"] for m in members]
        made.append(
            {"target": target, "task": exact or TARGETS[target], "peer": peer, "bar": bar, "at_least": at_least,
             "least": min(values), "largest": max(values), "met": all(m["met"] for m in members), "tasks": len(members)}
        )  # fmt: skip
    return made


def span(low: float, high: float) -> str:
    """Return "3.1 to 4.5", or one figure."""
    a, b = short(low), short(high)
    return a if a == b else f"{a} to {b}"


def short(value: float) -> str:
    """Three significant digits, thousands with a comma."""
    return f"{float(f'{value:.3g}'):,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def targets(figures: dict[str, Any]) -> list[str]:
    """Return the target list as a Markdown table."""
    lines = ["| target | task | against | ours is, times | bar | |", "|---|---|---|---|---|---|"]
    for s in settled(figures):
        bar = f"{'>=' if s['at_least'] else '<='} {s['bar']:g}"
        done = "met" if s["met"] else "**missed**"
        number = s["target"] or "-"
        lines.append(
            f"| {number} | {s['task']} | {s['peer']} | {span(s['least'], s['largest'])} | {bar} | {done} |"
        )
    return lines


def missed(figures: dict[str, Any]) -> list[str]:
    """Return the reasons of what is missed."""
    found = []
    for s in settled(figures):
        reason = REASONS.get((s["target"], s["peer"]))
        if not s["met"] and reason:
            found.append(f"- Target {s['target']}, {s['task']}, against {s['peer']}: {reason}")
    if not found:
        return []
    source = (
        "Missed bars. The ratios above are printed by the script; the parts of a step named here (ns, us) were "
        "measured by hand, alone, on the same machine."
    )
    return [source, "", *found, ""]


def rates(record: dict[str, Any]) -> list[str]:
    """Return one measured task as a table, fastest first."""
    bits = ", bit-identical" if record["facts"].get("bit_identical") else ""
    lines = [
        f"**{record['title']}** ({record['corpus']}; {record['size']:,.4g} {record['unit']}{bits})", "",
        f"| | {record['unit']}/s | {record['base']} is, times | quartiles | |", "|---|---|---|---|---|",
    ]  # fmt: skip
    for row in sorted(record["rows"], key=lambda r: -r["rate"]):
        ratio = row["base_is"]
        lines.append(
            f"| {row['name']} | {short(row['rate'])} | {short(ratio['median'])} "
            f"| {short(ratio['q1'])} to {short(ratio['q3'])} | {row['other']} |"
        )
    lines += ["", *(f"Left out: {name} ({reason})." for name, reason in record["failed"].items()), ""]
    return lines


def accuracy(record: dict[str, Any]) -> list[str]:
    """Return RMSE by n and J, a column per sketch; bias in brackets where it is large."""
    names = list(dict.fromkeys(r["name"] for r in record["rows"]))
    cells = {(r["k"], r["n"], r["j"], r["name"]): r for r in record["rows"]}
    lines = [
        ("Root mean square error over sqrt(J (1 - J) / k), order of the elements shuffled; mean error in brackets "
        "where it is beyond 0.01."), "",
        "| k | n | J | " + " | ".join(names) + " |", "|---" * (3 + len(names)) + "|",
    ]  # fmt: skip
    for k, n, j in dict.fromkeys((r["k"], r["n"], r["j"]) for r in record["rows"]):
        shown = []
        for name in names:
            r = cells.get((k, n, j, name))
            wide = f" ({r['bias']:+.2f})" if r and abs(r["bias"]) > 0.01 else ""
            shown.append(f"{r['rmse']:.2f}{wide}" if r else "-")
        lines.append(f"| {k} | {n:,} | {j:.3g} | " + " | ".join(shown) + " |")
    return [*lines, ""]


def plain(record: dict[str, Any], columns: Iterable[tuple[str, str]]) -> list[str]:
    """Return the rows of a record as a table of some columns."""
    columns = list(columns)
    lines = [
        f"**{record['title']}**",
        "",
        "| " + " | ".join(c for c, _ in columns) + " |",
        "|---" * len(columns) + "|",
    ]
    for row in record["rows"]:
        cells = [f"{row[key]:,}" if isinstance(row[key], int) else str(row[key]) for _, key in columns]
        lines.append("| " + " | ".join(cells) + " |")
    lines += ["", *(f"Left out: {name} ({reason})." for name, reason in record["failed"].items()), ""]
    return lines


def leaks(record: dict[str, Any]) -> list[str]:
    """Return the error by size of the leak."""
    sizes = [str(m) for m in record["facts"]["sizes"]]
    flat = {**record, "rows": [{**r, **{m: r["rmse"][m] for m in sizes}} for r in record["rows"]]}
    columns = [("", "name"), ("bytes kept", "bytes"), *((f"m = {int(m):,}", m) for m in sizes)]
    return [
        "m rows, half of them from the registered table; error of the share that is inside.", "",
        *plain(flat, columns),
    ]  # fmt: skip


def section(figures: dict[str, Any]) -> list[str]:
    """Return the fingerprints section of the performance page, as lines."""
    m = figures["machine"]
    lines = [
        "## Fingerprints beside their peers", "",
        ("Made by `make bench` (`python benchmarks/peers.py --json docs/peers.json`); figures in `peers.json`. "
         f"Machine: {m['architecture']}, {m['cpu']}, {m['cores']} cores, {m['memory_gib']} GiB, Python {m['python']}. "
         "One thread, CPU time. Every candidate runs once unmeasured, then in rotating order in one process; a "
         "ratio is the median over the rounds of the peer's time over ours in the same round. Compilation does "
         "not count."), "",
        ("To know when reading: our sketches of up to 256 MiB go into the memory of an earlier result that nobody "
         "holds any more, so fresh memory is paid for in the unmeasured run only, as by peers whose allocator keeps "
         "theirs. datasketch hashes with SHA-1, its default; told to use xxh32 it takes half the time on texts. Our "
         "weighted sketches estimate J_P, datasketch's J_W. Memory of an index (target 12) is that after queries for "
         "candidates; the page of the part gives it after verified ones too."), "",
        "Versions: " + ", ".join(f"{k} {v}" for k, v in figures["versions"].items()) + ".", "",
    ]  # fmt: skip
    if figures["quick"]:
        lines += ["These are figures of a quick run on small input: not to be quoted.", ""]
    if figures["left_out"]:
        lines += ["Left out: " + "; ".join(f"{k} ({v})" for k, v in figures["left_out"].items()) + ".", ""]
    lines += ["### Targets", "", *targets(figures), "", *missed(figures)]
    lines += [f"![{title}]({name})\n" for name, title in (("peers-targets.svg", "ratios and bars"),)]
    pictures = {"sets": "peers-sets.svg", "accuracy": "peers-accuracy.svg", "errors": "peers-leaks.svg"}
    for part, title in PARTS.items():
        records = [r for r in figures["records"] if r["part"] == part]
        if not records:
            continue
        lines += [f"### {title}", ""]
        if part in pictures:
            lines += [f"![{title}]({pictures[part]})", ""]
        for record in records:
            lines += _record(record)
    return lines


def _record(record: dict[str, Any]) -> list[str]:
    if "unit" in record:
        return rates(record)
    if record["key"] == "accuracy":
        return accuracy(record)
    if record["key"] == "tails":
        return plain(record, [("n", "n"), ("J", "j"), ("", "name"), ("largest error, sigma", "largest")])
    if record["key"] == "containment":
        return leaks(record)
    return plain(
        record,
        [("", "name"), ("bytes per item, own memory", "own"), ("with mapped pages of the index", "index"),
         ("and of signatures, after verified queries", "verified")],
    )  # fmt: skip


# --- plots -------------------------------------------------------------------------------------------


def plots(figures: dict[str, Any]) -> dict[str, str]:
    """Return the pictures by file name; one without figures is left out."""
    by_key = {r["key"]: r for r in figures["records"]}
    made = {}
    rows = [(f"{s['task'][:42]}: {s['peer']}"[:62], s["least"], s["largest"], s["bar"])
            for s in settled(figures) if s["at_least"] and s["peer"] != "absolute"]  # fmt: skip
    if rows:
        made["peers-targets.svg"] = peers_plots.ranges(
            "How many times ours is faster (leak: more exact; memory: smaller)", rows,
            "ratio over all tasks of the target, paired; the upright stroke is the bar; hollow: missed",
        )  # fmt: skip
    speed: dict[str, list[tuple[float, float]]] = {}
    for record in figures["records"]:
        if record["facts"].get("k") == 128 and record["part"] in ("sets", "big"):
            for row in record["rows"]:
                if row["other"] != "yardstick" and "kept" not in row["name"]:
                    speed.setdefault(row["name"], []).append((record["facts"]["n"], row["rate"]))
    if speed:
        made["peers-sets.svg"] = peers_plots.lines(
            "Prehashed sets to signatures, k=128, one thread", "elements per set", "million elements per second",
            _ours_first({k: sorted(v) for k, v in speed.items()}),
        )  # fmt: skip
    if record := by_key.get("accuracy"):
        errors: dict[str, list[tuple[float, float]]] = {}
        for row in record["rows"]:
            if row["k"] == 128 and 0.4 < row["j"] < 0.6:
                errors.setdefault(row["name"], []).append((row["n"], row["rmse"]))
        made["peers-accuracy.svg"] = peers_plots.lines(
            "Error of the estimated Jaccard over theory, k=128, J=0.5", "elements per set",
            "RMSE over sqrt(J (1 - J) / k); 1 = independent slots", _ours_first(errors),
        )  # fmt: skip
    if record := by_key.get("containment"):
        series = {
            f"{r['name']} ({r['bytes']:,} B)": [(int(m), max(e, 1e-4)) for m, e in r["rmse"].items()]
            for r in record["rows"]
        }
        made["peers-leaks.svg"] = peers_plots.lines(
            "How well a leak's share inside a registered table is seen", "rows leaked", "RMSE of the share (truth 0.5)",
            series,
        )  # fmt: skip
    return made


def _ours_first(series: dict[str, Any]) -> dict[str, Any]:
    return dict(sorted(series.items(), key=lambda item: not item[0].startswith(OURS)))


# --- README, files -----------------------------------------------------------------------------------


def readme(figures: dict[str, Any]) -> str:
    """Return the README's table: targets, ratio, peer."""
    lines = [
        "One thread, CPU time, paired in one process; least and largest median ratio over the tasks of a target.",
        "More, with plots: [docs/performance.md](docs/performance.md). Made by `benchmarks/peers.py`.", "",
        "| task | against | ours is, times | bar | |", "|---|---|---|---|---|",
    ]  # fmt: skip
    for s in settled(figures):
        if s["at_least"]:
            done = "met" if s["met"] else "missed"
            lines.append(
                f"| {s['task']} | {s['peer']} | {span(s['least'], s['largest'])} | {s['bar']:g} | {done} |"
            )
    limits = [
        f"{s['task']}: {s['largest']:g} (at most {s['bar']:g})" for s in settled(figures) if not s["at_least"]
    ]
    return "\n".join([*lines, *(["", _sentence("; ".join(limits))] if limits else [])])


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


def write(root: Path, figures: dict[str, Any]) -> None:
    """Write the plots and docs/performance.md."""
    import json

    import performance

    for name, picture in plots(figures).items():
        (root / "docs" / name).write_text(picture)
    own = json.loads(performance.FIGURES.read_text()) if performance.FIGURES.exists() else None
    if own is not None:
        performance.PAGE.write_text(performance.page(own, figures))
