"""What the documents promise is executed: examples, README blocks, help texts, format vectors."""

from __future__ import annotations

import os
import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from dataguard.cells import canonical_cell, cell_bytes
from dataguard.cli.group import COMMANDS, cli

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()


JOURNEYS = sorted({p.stem for p in (ROOT / "examples").glob("*.py")} - {"independent_verifier"})


@pytest.mark.parametrize("name", JOURNEYS)
def test_examples_run(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    module = runpy.run_path(str(ROOT / "examples" / f"{name}.py"))
    module["main"](tmp_path)
    shown = capsys.readouterr().out
    expected = {
        "provider": "cells exchanged",
        "investigator": "trace: corresponds ['cedar']",
        "counsel": "trusted\nafter an edit: not trusted",
        "datasketch_users": "answers equal: True",
        "search": "leak: found",
    }
    assert expected[name] in shown


@pytest.mark.parametrize("name", list(COMMANDS))
def test_every_command_has_help_with_an_example(name: str) -> None:
    shown = CliRunner().invoke(cli, [name, "--help"])
    assert shown.exit_code == 0
    assert "Example" in shown.output
    assert "Usage:" in shown.output


def test_readme_commands_exist_with_their_options() -> None:
    """Every `dataguard ...` line in the README parses: command and options are real."""
    lines = re.findall(r"^\$? ?dataguard ([a-z].*?)(?:\s+#.*)?$", README, flags=re.MULTILINE)
    assert len(lines) >= 8
    for line in lines:
        words = shlex.split(line.split("   ")[0])
        command = cli.get_command(None, words[0])  # type: ignore[arg-type]
        assert command is not None, line
        known = {o for p in command.params for o in (*p.opts, *p.secondary_opts)}
        if words[0] == "ledger":
            assert words[1] in command.commands  # type: ignore[attr-defined]
            continue
        for word in words[1:]:
            if word.startswith("-"):
                assert word.split("=")[0] in known, (line, word)


def test_readme_python_block_runs(tmp_path: Path) -> None:
    blocks = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    assert blocks
    code = "\n".join(blocks)
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr


def test_readme_help_block_is_the_real_help() -> None:
    block = re.search(r"```text\n(Usage: dataguard \[OPTIONS\].*?)```", README, flags=re.DOTALL)
    assert block
    shown = subprocess.run(
        [sys.executable, "-m", "dataguard", "--help"],
        capture_output=True, text=True, timeout=60, env={**os.environ, "COLUMNS": "80"},
    )  # fmt: skip
    assert block[1].strip() == shown.stdout.strip()


def test_cell_vectors_of_the_format_page() -> None:
    page = (ROOT / "docs" / "formats.md").read_text()
    rows = re.findall(r"^\| (.+?) \| (\d) \| `(.*?)` \| `([0-9a-f]+)` \|$", page, flags=re.MULTILINE)
    assert len(rows) == 5
    for values, tag, text, data in rows:
        for value in (v.strip() for v in values.split(", ")):
            plain = value.strip("`")
            cell = canonical_cell(plain)
            assert (cell.tag, cell.text, cell_bytes(cell).hex()) == (int(tag), text, data), value


def test_readme_table_is_made_from_the_recorded_figures() -> None:
    import json

    module = runpy.run_path(str(ROOT / "benchmarks" / "readme.py"))
    block = module["tracing"](json.loads((ROOT / "docs" / "tracing.json").read_text()))
    assert block in README
