"""The house rules that can be checked by a machine: layers, circles, the "never" list, sizes, start-up."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

SRC = Path(__file__).resolve().parents[1] / "src"
PACKAGE = SRC / "dataguard"
FILES = sorted(PACKAGE.rglob("*.py"))

FLOORS: list[list[str]] = [
    ["errors", "_jit", "_simd", "_version"],
    ["budget"],
    ["model"],
    ["keys", "sealing", "stats", "merkle", "dsse", "canonical", "cells"],
    ["keyfile", "succession"],
    ["values"],
    ["folding", "maps"],
    ["constraints"],
    ["formats"],
    ["slots"],
    ["carrier"],
    ["watermarking", "fingerprints", "modalities", "evidence", "registry"],
    ["pages"],
    ["holdings", "trees"],
    ["runs", "audit", "backup", "housing"],
    ["reading"],
    ["register", "protect", "investigate"],
    ["tracing"],
    ["report"],
    ["vault"],
    ["api"],
    ["cli"],
    ["__main__"],
]
"""From the ground up (DESIGN 5). A file imports from floors below, or from inside its own wing."""

PLAIN_FLOOR = {
    "errors", "_version", "keys", "sealing", "keyfile", "succession", "stats", "model", "merkle", "dsse", "canonical",
    "cells",
}  # fmt: skip
HEAVY = {"numpy", "numba", "scipy", "pyarrow", "datasketch", "xxhash"}
MAX_LINES = 450
MAX_FUNCTION = 80


def module_name(path: Path) -> str:
    parts = path.relative_to(SRC).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path) -> list[tuple[str, bool]]:
    """Every import of a file, TYPE_CHECKING ones and those inside functions included; (name, at top level)."""
    tree = ast.parse(path.read_text())
    top = {id(node) for node in tree.body}
    found: list[tuple[str, bool]] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(alias.name, id(node) in top) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            base = node.module or ""
            for alias in node.names:
                is_module = (SRC / Path(*base.split("."), f"{alias.name}.py")).exists() or (
                    SRC / Path(*base.split("."), alias.name, "__init__.py")
                ).exists()
                found.append((f"{base}.{alias.name}" if is_module else base, id(node) in top))
    return found


def wing(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def floor(module: str) -> int:
    name = wing(module)
    return next(i for i, names in enumerate(FLOORS) if name in names)


def edges() -> dict[str, set[str]]:
    return {
        module_name(p): {name for name, _ in imports(p) if name.split(".")[0] == "dataguard"} for p in FILES
    }


def test_every_file_has_a_floor() -> None:
    for path in FILES:
        if module_name(path) != "dataguard":
            assert floor(module_name(path)) >= 0


def test_no_import_points_upwards_or_sideways() -> None:
    wrong = []
    for module, targets in edges().items():
        if module == "dataguard":
            continue
        for target in targets:
            if target in ("dataguard", "dataguard._version"):
                if target == "dataguard":
                    wrong.append(f"{module} -> the face")
                continue
            inside = wing(module) == wing(target)
            if not inside and floor(target) >= floor(module):
                wrong.append(f"{module} -> {target}")
    assert not wrong, wrong


def test_no_circles() -> None:
    graph = edges()
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " -> ".join((*path, module))
        if module in done:
            return
        for target in graph.get(module, ()):
            visit(target, (*path, module))
        done.add(module)

    for module in graph:
        visit(module, ())


def test_faces_are_never_imported_from_inside() -> None:
    faces = {module_name(p) for p in FILES if p.name == "__init__.py"}
    for module, targets in edges().items():
        assert not targets & faces, f"{module} imports a face: {targets & faces}"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_never_list(path: Path) -> None:
    text = path.read_text()
    tree = ast.parse(text)
    module = module_name(path)
    in_cli = wing(module) in ("cli", "__main__")
    at_the_edge = in_cli or wing(module) == "vault"
    assert path.stem not in ("utils", "helpers", "misc")
    assert len(text.splitlines()) <= MAX_LINES
    for name, top in imports(path):
        root = name.split(".")[0]
        assert root not in ("pickle", "random"), name
        assert not name.startswith("scipy.stats"), name
        # _simd is made of numba's own parts; only kernels, which are imported inside functions, import it.
        at_start = top and module != "dataguard._simd"
        assert not (root in ("datasketch", "scipy", "numba", "rich", "jinja2") and at_start), (
            f"{name} at start-up"
        )
        assert name != "dataguard._simd" or path.name == "_kernels.py", f"{name} outside a kernel file"
        if wing(module) in PLAIN_FLOOR or wing(module) == "evidence" or in_cli:
            assert not (root in HEAVY and top), f"{name} on a plain floor"
        if wing(module) in PLAIN_FLOOR or wing(module) == "evidence":
            assert root not in HEAVY, name
        if not at_the_edge:
            assert root != "secrets", name
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            assert (node.end_lineno or 0) - node.lineno < MAX_FUNCTION, f"{node.name} is too long"
        if isinstance(node, ast.ExceptHandler):
            caught = ast.unparse(node.type) if node.type else "bare"
            assert caught not in ("bare", "Exception"), f"line {node.lineno}: except {caught}"
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            if not in_cli:
                assert called not in ("print", "sys.exit", "exit", "input"), f"line {node.lineno}: {called}"
            if not at_the_edge:
                assert not called.endswith((".now", "utcnow", "time.time", "os.urandom")) or called in (
                    "vault.now",
                    "self.now",
                    "now",
                ), f"line {node.lineno}: {called}"


def fresh(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    return done.stdout.strip()


def test_help_starts_without_anything_heavy() -> None:
    heavy = ["numpy", "pyarrow", "numba", "scipy", "rich", "cryptography", "datasketch", "xxhash", "jinja2"]
    code = (
        "import sys\nsys.argv=['dataguard','--help']\nfrom dataguard.cli.main import main\n"
        "try:\n    main()\nexcept SystemExit: pass\n"
        f"print('HEAVY', [m for m in {heavy} if m in sys.modules])"
    )
    assert fresh(code).endswith("HEAVY []")


def test_plain_floor_and_verifier_run_without_numpy() -> None:
    code = (
        "import sys\n"
        "import dataguard.keys, dataguard.stats, dataguard.model, dataguard.merkle, dataguard.dsse\n"
        "import dataguard.canonical, dataguard.cells, dataguard.evidence.verify\n"
        "print([m for m in ('numpy','numba','pyarrow','scipy') if m in sys.modules])"
    )
    assert fresh(code) == "[]"


def test_start_up_of_no_command_pulls_scipy_stats_or_datasketch() -> None:
    code = (
        "import sys, importlib\nfrom dataguard.cli.group import COMMANDS\n"
        "for c in COMMANDS: importlib.import_module('dataguard.cli.' + c)\n"
        "print([m for m in ('scipy.stats','datasketch','numpy','numba') if m in sys.modules])"
    )
    assert fresh(code) == "[]"


def test_kernel_files_are_imported_inside_functions_only() -> None:
    for path in FILES:
        if path.name != "_kernels.py":
            for name, top in imports(path):
                assert not (top and name.endswith("._kernels")), f"{path}: {name} at start-up"


def test_nothing_is_left_for_later() -> None:
    for path in FILES:
        for word in ("TODO", "FIXME", "raise NotImplementedError", "pragma: no cover"):
            assert word not in path.read_text(), f"{path}: {word}"
