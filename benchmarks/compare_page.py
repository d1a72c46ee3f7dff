"""docs/compare.md and its plots, from docs/compare.json: nothing is typed by hand, no figure and no verdict."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape
from pathlib import Path
from typing import Any

import peers_plots

OURS = "dataguard"
TITLES = {
    "e00": "identical", "e01": "rows in another order", "e02": "columns renamed and reordered too",
    "e03": "some of the columns", "e04": "1 % of the rows", "e05": "1 %, renamed, no key",
    "e06": "other units", "e07": "other units, renamed, no key", "e08": "rounded", "e09": "rounded, no key",
    "e10": "1 % noise on numbers", "e11": "only the noisy numbers, renamed",
    "e12": "10 % of the rows among ten times other real rows", "e13": "the same, renamed, no key",
    "e14": "all texts: dates, separators, case, blanks", "e15": "one row per group", "e16": "control: other rows",
}  # fmt: skip

Figures = Mapping[str, Any]


def share(value: float | None) -> str:
    """Return a share as a percentage that is 100 only when it is; "-" for none."""
    if value is None:
        return "-"
    if value in (0, 1):
        return f"{100 * value:.0f} %"
    text = f"{100 * value:.1f}" if 0.001 <= value <= 0.999 else f"{100 * value:.3f}"
    return f"{text} %" if float(text) < 100 else "99.999 %"


def found(record: Figures | None) -> str:
    """Return rows and columns a program found, in one cell."""
    if record is None:
        return ""
    if "failed" in record:
        return record["failed"]
    if "skipped" in record:
        return "not run"
    if "refused" in record:
        return "refused"
    c = record["columns"]
    columns = f"{c['right']}/{c['said']}/{c['true']}"
    rows = record.get("rows")
    if rows is None:
        return columns
    if rows["recall"] is None:
        return f"{rows['claimed'] - rows['twins']:,} claimed; {columns}"
    wrong = "" if rows["precision"] in (None, 1) else f" ({share(1 - rows['precision'])} wrong)"
    return f"{share(rows['recall'])}{wrong}; {columns}"


def tools(cases: Iterable[Figures]) -> list[str]:
    """Return the programs that occur, ours first."""
    names = dict.fromkeys(name for r in cases for name in r["tools"])
    return sorted(names, key=lambda n: n != OURS)


def judged(cases: Iterable[Figures]) -> list[tuple[Figures, Figures]]:
    """Return each mark with its case."""
    return [(r, m) for r in cases for m in r["tools"].get(OURS, {}).get("marks", ())]


def verdict(record: Figures | None) -> str:
    """Return how a case stands against its marks: met, missed, or what data forbid."""
    if record is None:
        return ""
    own = record["tools"].get(OURS)
    if own is None:
        return ""
    if "failed" in own:
        return f"**{own['failed']}**"
    open_ = [m for m in own["marks"] if not m["met"]]
    if any(not m["beyond"] for m in open_):
        return "**missed**"
    return "beyond the data" if open_ else "met"


# --- tables ----------------------------------------------------------------------------------------


def grid(cases: list[Figures]) -> list[str]:
    """Return one cell per case and base."""
    bases = list(dict.fromkeys(r["base"] for r in cases))
    place = {(r["base"], r["case"]): r for r in cases}
    names = sorted({r["case"] for r in cases})
    lines = ["| case | " + " | ".join(bases) + " |", "|---" * (1 + len(bases)) + "|"]
    for name in names:
        cells = " | ".join(verdict(place.get((b, name))) for b in bases)
        lines.append(f"| {name} {TITLES[name]} | {cells} |")
    return [*lines, ""]


def _value(mark: Figures) -> str:
    return "none" if mark["value"] is None else f"{mark['value']:.4g}"


def missed(cases: list[Figures]) -> list[str]:
    """Return what is not met, with its figure, the bar, and what the data allow at best."""
    lines = ["| base | case | mark | reached | bar | at best | |", "|---|---|---|---|---|---|---|"]
    for r, m in judged(cases):
        if m["met"]:
            continue
        named = m["what"].startswith(("factors", "steps", "formats", "functions"))
        steps = r["tools"][OURS]["steps"]["missed"] if named else []
        names = "; ".join(steps[:3]) + (f" and {len(steps) - 3} more" if len(steps) > 3 else "")
        best = "-" if m["limit"] is None else f"{m['limit']:.4g}"
        what = "beyond the data" if m["beyond"] else "missed"
        lines.append(
            f"| {r['base']} | {r['case']} | {m['what']}{f': {names}' if names else ''} | {_value(m)} "
            f"| {m['bar']:g} | {best} | {what} |"
        )
    return [*lines, ""] if len(lines) > 2 else ["Every mark is met.", ""]


def relations(cases: list[Figures]) -> list[str]:
    """Return a sentence on the relations stated, and those that are not true."""
    own = [(r, r["tools"][OURS]) for r in cases if "relation" in r["tools"].get(OURS, {})]
    untrue = [f"{r['base']} {r['case']} ({t['relation']})" for r, t in own if not t["relation_right"]]
    said = f"The relation stated is the true one in {len(own) - len(untrue)} of {len(own)} cases."
    return [said + (f" Not in: {', '.join(untrue)}." if untrue else ""), ""]


def base_table(cases: list[Figures], names: list[str]) -> list[str]:
    """Return what every program found on one base."""
    lines = [
        "| case | rows to find | once | at best log10 p | " + " | ".join(names) + " |",
        "|---" * (4 + len(names)) + "|",
    ]
    for r in cases:
        f = r["facts"]
        cells = " | ".join(found(r["tools"].get(n)) for n in names)
        best = f"{f['best_log10_p']:,.0f}" if f["true_rows"] else "-"
        lines.append(
            f"| {r['case']} | {f['true_rows']:,} of {f['rows']:,} | {share(f['single'])} | {best} | {cells} |"
        )
    return [*lines, ""]


def steps_table(cases: list[Figures]) -> list[str]:
    """Return how many steps were named right, and where changes were seen in untouched columns."""
    lines = [
        "| base | case | named right | columns said changed where nothing was done |",
        "|---|---|---|---|",
    ]
    for r in cases:
        own = r["tools"].get(OURS, {})
        if "steps" in own and (own["steps"]["true"] or own["steps"]["wrong"]):
            s = own["steps"]
            lines.append(
                f"| {r['base']} | {r['case']} | {s['right']} of {s['true']} | {', '.join(s['wrong']) or 'none'} |"
            )
    return [*lines, ""]


def cost_table(cases: list[Figures], names: list[str]) -> list[str]:
    """Return least and largest CPU seconds and memory per base and program."""
    bases = list(dict.fromkeys(r["base"] for r in cases))
    lines = ["| base | " + " | ".join(names) + " |", "|---" * (1 + len(names)) + "|"]
    for base in bases:
        cells = []
        for name in names:
            done = [
                r["tools"][name] for r in cases if r["base"] == base and "cpu_s" in r["tools"].get(name, {})
            ]
            done = [d for d in done if "refused" not in d]
            if not done:
                cells.append("-")
                continue
            cpu, peak = [d["cpu_s"] for d in done], max(d["peak_mib"] for d in done)
            cells.append(f"{min(cpu):.1f} to {max(cpu):.1f} s, {peak:,} MiB")
        lines.append(f"| {base} | " + " | ".join(cells) + " |")
    return [*lines, ""]


def scale_table(records: list[Figures]) -> list[str]:
    """Return the costs by size."""
    lines = [
        "| set | rows | suspect | memory | CPU s | wall s | peak MiB | CPU us per row | compared | relation |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for r in records:
        head = f"| {r['set']} | {r['rows']:,} | {share(r['share'])} | {r['memory']} "
        if "failed" in r:
            lines.append(f"{head}| {r['failed']} | | | | | |")
            continue
        how = "by samples" if r["sampled"] else "whole"
        lines.append(
            f"{head}| {r['cpu_s']:.1f} | {r['wall_s']:.1f} | {r['peak_mib']:,} | {r['us_per_row']:.1f} | {how} "
            f"| {r['relation']} |"
        )
    return [*lines, ""]


# --- plots -----------------------------------------------------------------------------------------


def heat(cases: list[Figures]) -> str:
    """Return a grid of programs and cases: the share of rows found, mean over the bases, darker for more."""
    names = [n for n in tools(cases) if any("rows" in r["tools"].get(n, {}) for r in cases)]
    columns = sorted({r["case"] for r in cases if r["facts"]["true_rows"]})
    left, top, cell, high = 110, 48, 46, 26
    title = "Share of the copied rows that was found, mean over the bases (no answer counts 0)"
    parts = peers_plots.head(left + cell * len(columns) + 20, top + high * len(names) + 14, title)
    for j, case in enumerate(columns):
        parts.append(
            f'<text x="{left + cell * (j + 0.5):.0f}" y="{top - 6}" text-anchor="middle">{case}</text>'
        )
    for i, name in enumerate(names):
        y = top + high * i
        parts.append(f'<text x="{left - 8}" y="{y + 17}" text-anchor="end">{escape(name)}</text>')
        for j, case in enumerate(columns):
            got = [r["tools"][name] for r in cases if r["case"] == case and name in r["tools"]]
            got = [g for g in got if "skipped" not in g]
            if not got:
                continue
            value = sum((g.get("rows") or {}).get("recall") or 0.0 for g in got) / len(got)
            grey = round(255 - 175 * value)
            x = left + cell * j
            parts.append(
                f'<rect x="{x}" y="{y}" width="{cell - 2}" height="{high - 2}" fill="rgb({grey},{grey},{grey})" '
                'stroke="#bbb"/>'
            )
            ink = "#fff" if value > 0.6 else "#000"
            parts.append(
                f'<text x="{x + cell / 2 - 1:.0f}" y="{y + 17}" text-anchor="middle" fill="{ink}">'
                f"{100 * value:.0f}</text>"
            )
    return "\n".join([*parts, "</svg>"]) + "\n"


def scale_plot(records: list[Figures]) -> str:
    """Return CPU time per row of the original by size."""
    series: dict[str, list[tuple[float, float]]] = {}
    for r in records:
        if "failed" not in r:
            what = "all rows" if r["share"] == 1 else share(r["share"])
            label = f"{r['family']}, {what}, memory {r['memory']}"
            series.setdefault(label, []).append((r["rows"], r["us_per_row"]))
    ordered = {k: sorted(v) for k, v in sorted(series.items())}
    return peers_plots.lines(
        "Cost of dataguard compare by size",
        "rows of the original",
        "CPU microseconds per row of the original",
        ordered,
    )


def plots(figures: Figures) -> dict[str, str]:
    """Return the pictures by file name; one without figures is left out."""
    made = {}
    if any(r["facts"]["true_rows"] for r in figures["cases"]):
        made["compare-rows.svg"] = heat(figures["cases"])
    if any("failed" not in r for r in figures.get("scale", [])):
        made["compare-scale.svg"] = scale_plot(figures["scale"])
    return made


# --- the page --------------------------------------------------------------------------------------

READING = """\
Every program compares two Parquet files in a process of its own; time is user and system seconds of that process,
start and imports included, memory its largest resident size. Kernels come from the cache: compiling is paid once
per installation. Peers run as a careful user would run them: the key where the suspect still has it unchanged, else
all columns whose names survived. DIY SQL is the bar: value overlap, linear assignment, INTERSECT ALL in DuckDB.
splink is run on bases of up to 20,000 rows.

Rows that look alike in the columns a suspect shows are not told apart, nor are columns that hold the same in
every copied row. A foreign row that looks like an original row counts neither as right nor as wrong. Rows of
dataguard are all pairs of its alignment, also where no relation is claimed from them. Marks are those of the
issue; "beyond the data" means that what can be reached at best, computed, lies below the bar: for noise the recall
of one who knows the column map and each column's noise and takes the nearest row; for claims the likelihood that
other rows of the same source, or any combination of the values, stand in the original by chance."""


def page(figures: Figures) -> str:
    """Return docs/compare.md."""
    cases = figures["cases"]
    names = tools(cases)
    marks = [m for _, m in judged(cases)]
    met = sum(m["met"] for m in marks)
    beyond = sum(m["beyond"] and not m["met"] for m in marks)
    failed = sum("failed" in r["tools"].get(OURS, {}) for r in cases)
    lines = [
        "# `dataguard compare`, measured", "",
        ("Made by `benchmarks/compare.py` and `benchmarks/compare_scale.py`; figures in `compare.json`. Machine: "
         f"{figures['machine']}. Limits of a program: {figures['seconds']:g} s, {figures['gib']:g} GB. Seed "
         f"{figures['seed']}. Versions: " + ", ".join(
             dict.fromkeys(f"{k} {v}" if k == OURS else v for k, v in figures["versions"].items())) + "."), "",
    ]  # fmt: skip
    if figures["trial"]:
        lines += [
            "**These are figures of a trial run: not all cases, other work on the machine. Not to be quoted.**",
            "",
        ]
    if figures.get("note"):
        lines += [figures["note"], ""]
    if figures["left_out"]:
        lines += [f"Left out, not installed: {', '.join(figures['left_out'])}.", ""]
    notes = sorted({f"{n} {t['note']}" for r in cases for n, t in r["tools"].items() if "note" in t})
    lines += [f"To know: {'; '.join(notes)}.", ""] if notes else []
    lines += [READING, "", "## Pass marks", ""]
    crashed = f" Cases that did not come to an end: {failed}." if failed else ""
    lines += [
        (f"{met} of {len(marks)} marks are met, {len(marks) - met - beyond} missed, {beyond} beyond the "
         f"data.{crashed}"), "",
        *grid(cases), "### Not met", "", *missed(cases), *relations(cases),
    ]  # fmt: skip
    lines += ["## Rows found", "", "![share of rows found](compare-rows.svg)", ""] if cases else []
    lines += [
        ("Share of the copied rows found; wrong pairs among those claimed; columns right/said/true. Once: share of "
        "the rows to find whose visible content stands once in the original. At best log10 p: of all rows found, "
        "against rows there by chance."), "",
    ]  # fmt: skip
    for base in dict.fromkeys(r["base"] for r in cases):
        lines += [f"### {base}", "", *base_table([r for r in cases if r["base"] == base], names)]
    lines += ["## Steps named", "", *steps_table(cases), "## Time and memory", ""]
    lines += ["Least and largest CPU seconds over the cases, largest memory.", "", *cost_table(cases, names)]
    if figures.get("scale"):
        lines += [
            "## Cost by size", "", "![cost per row](compare-scale.svg)", "",
            ("Scaled sets carry costs only: their rows are not independent. Suspect: that share of the rows, in "
             "another order, columns renamed and reordered. One run each; rows stand replica after replica in the "
             "original."), "", *scale_table(figures["scale"]),
        ]  # fmt: skip
    return "\n".join(lines).rstrip() + "\n"


def write(root: Path, figures: Figures) -> None:
    """Write the plots and docs/compare.md."""
    for name, picture in plots(figures).items():
        (root / "docs" / name).write_text(picture)
    (root / "docs" / "compare.md").write_text(page(figures))
