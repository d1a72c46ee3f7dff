"""The wing that an expert's machine runs: no numpy, no other wing, no network, no clock."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

from dataguard.evidence.bundle import write_bundle
from test_evidence_world import SIGNER, World

WING = Path(__file__).resolve().parents[1] / "src" / "dataguard" / "evidence"

SCRIPT = """
import sys
sys.modules["numpy"] = sys.modules["numba"] = sys.modules["pyarrow"] = None  # an import would fail
import dataguard.evidence.verify as verify
light = {name for name in sys.modules}
assert "jinja2" not in light, "pages are rendered only when asked for"
for folder in sys.argv[2:]:
    found = verify.verify(folder, public_key=bytes.fromhex(sys.argv[1]))
    assert found.trusted, found.steps
import dataguard.evidence.bundle
heavy = ("numpy", "numba", "pyarrow", "scipy", "pandas", "datasketch", "xxhash", "socket", "urllib.request")
wings = ("registry", "fingerprints", "watermarking", "modalities", "carrier", "constraints", "cli", "vault")
loaded = [n for n, m in sys.modules.items() if m is not None]
print([n for n in loaded if n.split(".")[0] in heavy or n in heavy
       or n.startswith(tuple("dataguard." + w for w in wings))])
"""


def test_verify_runs_where_numpy_cannot_be_imported(tmp_path: Path) -> None:
    for outcome in ("corresponds", "inconclusive"):
        write_bundle(World().case(outcome), tmp_path / outcome, SIGNER)
    result = subprocess.run(
        [
            sys.executable, "-W", "error", "-c", SCRIPT, SIGNER.public_bytes.hex(),
            tmp_path / "corresponds", tmp_path / "inconclusive",
        ],
        capture_output=True, text=True, check=False, cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(WING.parents[1])},
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() in ("[]", "['socket']"), result.stdout  # jinja2 may load asyncio


def test_imports_stay_within_the_wing_and_the_floors_below() -> None:
    floors = {
        "canonical",
        "cells",
        "dsse",
        "errors",
        "keys",
        "merkle",
        "model",
        "stats",
        "succession",
        "evidence",
    }
    for path in WING.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            names = []
            if isinstance(node, ast.ImportFrom) and node.module:
                names = [f"{node.module}.{a.name}" for a in node.names]
            elif isinstance(node, ast.Import):
                names = [a.name for a in node.names]
            for name in names:
                parts = name.split(".")
                if parts[0] == "dataguard":
                    assert parts[1] in floors or name.startswith("dataguard.formats.atomic."), (
                        path.name,
                        name,
                    )
                assert parts[0] not in {
                    "numpy",
                    "numba",
                    "pyarrow",
                    "time",
                    "random",
                    "secrets",
                    "datetime",
                }, name


def test_the_wing_has_no_import_circle() -> None:
    arrows: dict[str, set[str]] = {}
    for path in WING.glob("*.py"):
        tree = ast.parse(path.read_text("utf-8"))
        targets = set()
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module == "dataguard.evidence":
                targets |= {a.name for a in node.names}
            elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("dataguard.evidence."):
                targets.add(node.module.split(".")[2])
        arrows[path.stem] = targets
    while arrows:
        bottom = {name for name, targets in arrows.items() if not targets & arrows.keys()}
        assert bottom, f"circle among {sorted(arrows)}"
        arrows = {name: targets for name, targets in arrows.items() if name not in bottom}
