"""Writes the generated blocks of README.md: demo transcript, help text, smallest leaks, fingerprint peers.

python benchmarks/tracing.py --json docs/tracing.json     # the figures (about ten minutes)
python benchmarks/peers.py --json docs/peers.json         # the peers (about 15 minutes)
python benchmarks/readme.py                               # the blocks
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "benchmarks"))  # also when this file is run from elsewhere, as its test does


def command(*words: str, cwd: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "dataguard", *words], cwd=cwd, capture_output=True, text=True, check=True,
        env={**__import__("os").environ, "COLUMNS": "80"},
    )  # fmt: skip
    return done.stdout.strip()


def demo() -> str:
    with tempfile.TemporaryDirectory() as folder:
        text = command("demo", cwd=Path(folder))
    return "```text\n" + re.sub(r"\nDone in .*", "", text).rstrip() + "\n```"


def tracing(rows: list[dict]) -> str:
    lines = [
        "1,000 committed mark keys, family-wise error 1e-9, rows drawn at random and shuffled, no key column;",
        "100 leaks each.",
        "Found: the right copy named. Others named: 0 in all. Made by `benchmarks/tracing.py`.",
        "",
        "| table | rows leaked | columns kept | found | other copies named | rows aligned | aligned wrongly |",
        "|---|---|---|---|---|---|---|",
    ]
    for r in rows:
        half = (
            f" ({r['of_these_found']} of {r['leaks_with_80_slots']} with 80 readable slots)"
            if "leaks_with_80_slots" in r
            else ""
        )
        lines.append(
            f"| {r['table']} | {r['rows']} | {r['columns']} | {r['found']} of {r['leaks']}{half} | {r['others_named']} "
            f"| {100 * r['rows_aligned']:.1f} % | {100 * r['aligned_wrong']:.2f} % |"
        )
    return "\n".join(lines)


def peers(figures: dict) -> str:
    import peers_page

    return peers_page.readme(figures)


def compare(figures: dict) -> str:
    """Return rows found in the edit cases, by program: least and most over the tables."""
    tools = ("dataguard", "DIY SQL", "datacompy")
    wanted = {
        "e02": "renamed, shuffled", "e07": "other units, renamed, no key", "e09": "rounded, no key",
        "e11": "noise on every column, renamed", "e12": "mixed with 10 times foreign rows", "e14": "other formats",
    }  # fmt: skip
    lines = ["| edit | tables | " + " | ".join(tools) + " |", "|---|---|" + "---|" * len(tools)]
    for case, what in wanted.items():
        records = [r for r in figures["cases"] if r["case"] == case]
        cells = [_recalls([r["tools"].get(tool, {}) for r in records]) for tool in tools]
        lines.append(f"| {what} ({case}) | {len(records)} | " + " | ".join(cells) + " |")
    ours = [r["tools"]["dataguard"] for r in figures["cases"] if "marks" in r["tools"].get("dataguard", {})]
    marks = [m for r in ours for m in r["marks"]]
    met, beyond = sum(m["met"] for m in marks), sum(m["beyond"] and not m["met"] for m in marks)
    lines += [
        "",
        "Rows of the original that are found, of those that are in the suspect: least to most over the tables.",
        f"{met} of {len(marks)} marks are met on all cases and tables, {beyond} of the others are beyond the data",
        "(docs/compare.md; made by `benchmarks/compare.py`).",
    ]
    return "\n".join(lines)


def _recalls(found: list[dict]) -> str:
    shares = [f["rows"]["recall"] for f in found if f.get("rows") and f["rows"]["recall"] is not None]
    if not shares:
        return "no answer"
    low, high = (f"{100 * x:.4g}" for x in (min(shares), max(shares)))
    return f"{low} %" if low == high else f"{low} to {high} %"


def fill(text: str, name: str, block: str) -> str:
    begin, end = f"<!-- begin:{name} -->", f"<!-- end:{name} -->"
    pattern = re.compile(re.escape(begin) + ".*?" + re.escape(end), flags=re.DOTALL)
    assert pattern.search(text), f"README has no {name} block"
    return pattern.sub(lambda _: f"{begin}\n{block}\n{end}", text)


def main() -> None:
    readme = ROOT / "README.md"
    text = readme.read_text()
    text = fill(text, "demo", demo())
    text = fill(text, "help", "```text\n" + command("--help", cwd=ROOT) + "\n```")
    figures = ROOT / "docs" / "tracing.json"
    if figures.exists():
        text = fill(text, "tracing", tracing(json.loads(figures.read_text())))
    beside = ROOT / "docs" / "peers.json"
    if beside.exists():
        text = fill(text, "peers", peers(json.loads(beside.read_text())))
    edits = ROOT / "docs" / "compare.json"
    if edits.exists():
        text = fill(text, "compare", compare(json.loads(edits.read_text())))
    readme.write_text(text)


if __name__ == "__main__":
    main()
