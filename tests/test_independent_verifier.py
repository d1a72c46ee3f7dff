"""The verifier that was written from the format page alone and `dataguard.verify` say the same (DESIGN 6.7)."""

from __future__ import annotations

import ast
import base64
import hashlib
import json
import random
import runpy
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import rfc8785
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

import dataguard
from dataguard.errors import EvidenceError

PROGRAM = Path(__file__).resolve().parents[1] / "examples" / "independent_verifier.py"
NAMES = ("named", "unmarked")
MAIN = runpy.run_path(str(PROGRAM))["main"]
FLIPS = 30
"""Of each bundle."""


class World:
    """A vault, and one bundle that names a copy and one that names none."""

    def __init__(self, folder: Path, packaged: Path) -> None:
        self.folder = folder
        table = pq.read_table(packaged).slice(0, 4000)
        pq.write_table(table, folder / "flights.parquet")
        with dataguard.Vault.create(folder / "vault") as vault:
            vault.register(folder / "flights.parquet", name="flights")
            for recipient in ("acme", "birch"):
                vault.protect("flights", recipient=recipient, out=folder / f"{recipient}.parquet")
            copy = pq.read_table(folder / "acme.parquet")
            pq.write_table(
                copy.take(np.random.default_rng(1).permutation(4000)[:60]), folder / "found.parquet"
            )
            vault.report(folder / "found.parquet", dataset="flights", out=folder / "named")
            vault.report(folder / "flights.parquet", dataset="flights", out=folder / "unmarked")
            self.public_key = vault.public_key
        line = (folder / "vault" / "keys" / "signing.key").read_text()
        self.signing = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(line.split()[2]))

    def copy(self, name: str, to: Path) -> Path:
        return Path(shutil.copytree(self.folder / name, to / name))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    packaged = Path(dataguard.__file__).parent / "data" / "flights_2013_01.parquet"
    return World(tmp_path_factory.mktemp("independent"), packaged)


def both(bundle: Path, key: bytes | None = None) -> int:
    """Return the exit code on which both verifiers agree."""
    try:
        first = 0 if dataguard.verify(bundle, public_key=key).trusted else 3
    except EvidenceError:
        first = 2
    second = MAIN(bundle, key.hex() if key else "")
    assert first == second
    return second


def forge(world: World, bundle: Path, file: str, path: str, value: Any) -> None:
    """Change one value of a document of the bundle and sign everything anew, as its provider could."""

    def write(name: str, document: Any) -> bytes:
        data = rfc8785.dumps(document)
        (bundle / name).write_bytes(data)
        return data

    document = json.loads((bundle / file).read_bytes())
    at = document
    *way, last = [int(k) if k.lstrip("-").isdigit() else k for k in path.split("/")]
    for key in way:
        at = at[key]
    last = str(last) if isinstance(at, dict) else last
    at[last] = value(at[last]) if callable(value) else value
    write(file, document)
    report = json.loads((bundle / "report.json").read_bytes())
    report["files"] = {n: hashlib.sha256((bundle / n).read_bytes()).hexdigest() for n in report["files"]}
    payload = write("report.json", report)
    kind = "application/vnd.dataguard.bundle.v1+json"
    signature = world.signing.sign(f"DSSEv1 {len(kind)} {kind} {len(payload)} ".encode() + payload)
    envelope = {
        "payload": base64.b64encode(payload).decode(),
        "payloadType": kind,
        "signatures": [
            {"keyid": report["signer"]["keyid"], "sig": base64.b64encode(signature).decode()},
        ],
    }
    write("statement.dsse.json", envelope)


def test_it_imports_nothing_of_ours() -> None:
    tree = ast.parse(PROGRAM.read_text())
    names = [a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names]
    names += [n.module or "" for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)]
    assert {n.split(".")[0] for n in names} <= {*sys.stdlib_module_names, "cryptography"}


@pytest.mark.parametrize("name", NAMES)
def test_originals_are_trusted(name: str, world: World, capsys: pytest.CaptureFixture[str]) -> None:
    assert both(world.folder / name) == 0
    assert both(world.folder / name, world.public_key) == 0
    assert "NO" not in capsys.readouterr().out


def test_as_a_command(world: World) -> None:
    command = [sys.executable, "-I", PROGRAM, world.folder / "named", world.public_key.hex()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "trusted"), done.stderr


@pytest.mark.parametrize("name", NAMES)
def test_flipped_bytes(name: str, world: World, tmp_path: Path) -> None:
    bundle, draw = world.copy(name, tmp_path), random.Random(7)
    files = sorted(p for p in bundle.rglob("*") if p.is_file())
    for i in range(FLIPS):
        file = files[i % len(files)]
        data = bytearray(whole := file.read_bytes())
        data[draw.randrange(len(data))] ^= draw.randrange(1, 256)
        file.write_bytes(data)
        assert both(bundle) == 3, (file.name, i)
        file.write_bytes(whole)
    assert both(bundle) == 0


@pytest.mark.parametrize("name", NAMES)
def test_files_removed_added_linked_and_a_wrong_key(name: str, world: World, tmp_path: Path) -> None:
    bundle = world.copy(name, tmp_path)
    for file in [p for p in bundle.rglob("*") if p.is_file()]:
        data = file.read_bytes()
        file.unlink()
        assert both(bundle) == 2, file.name
        file.write_bytes(data)
    added = bundle / "annex" / ".more"
    added.write_bytes(b"")
    assert both(bundle) == 3
    added.unlink()
    added.symlink_to("openings.json")
    assert both(bundle) == 3
    added.unlink()
    other = Ed25519PrivateKey.from_private_bytes(bytes(32)).public_key().public_bytes_raw()
    assert both(bundle, other) == 3
    assert both(bundle) == 0
    assert both(tmp_path) == 2


def test_signing_anew_changes_nothing(world: World, tmp_path: Path) -> None:
    bundle = world.copy("named", tmp_path)
    forge(world, bundle, "report.json", "status", "DRAFT")
    assert both(bundle, world.public_key) == 0


REPORT = {
    "trace/votes": lambda n: n + 1,
    "trace/k": lambda n: n + 1,
    "trace/voting_rows": lambda n: n - 1,
    "trace/alignment_digest": "00" * 32,
    "trace/alpha": 0.5,
    "trace/outcome": "no-mark",
    "copy/recipient": "birch",
    "copy/draws": 2,
    "copy/alpha": 0.5,
    "copy/score": lambda n: n + 1,
    "copy/log10_p": lambda x: x - 0.001,
    "copy/log10_p_adjusted": lambda x: x - 0.001,
    "copy/log10_p_all_scopes": lambda x: x - 0.001,
    "copy/histogram/0/3": lambda n: n + 1,
    "dataset/rows": lambda n: n + 1,
    "suspect/sha256": "00" * 32,
    "scheme/law/levels/0": 16384,
    "ledger/mark_keys": 1,
    "ledger/entries": lambda entries: entries[1:],
    "findings/-1/counts/votes": lambda n: n + 1,
    "copy": None,
}
LEDGER = {
    "headers": lambda headers: headers[:-1],
    "headers/4/type": "registration",
    "openings": lambda openings: openings[1:],
    "openings/0/payload/rows": lambda n: n + 1,
    "openings/0/salt": "00" * 32,
    "openings/0/body": "00" * 32,
    "openings/1/time": "2020-01-01T00:00:00Z",
    "checkpoint/signatures/0/sig": lambda sig: sig[::-1],
}
ANNEX = {
    "copy": None,
    "copy/mark_key/key": "11" * 32,
    "copy/rows/leaves": lambda leaves: leaves[1:],
    "copy/rows/leaves/0/3/3": lambda cell: [1, f"{int(cell[1]) + 1}"],
    "copy/rows/proof": lambda proof: [*proof, proof[0]],
    "copy/rows/size": lambda n: n - 1,
    "copy/suspect_rows/leaves/0/3/3": lambda cell: [1, f"{int(cell[1]) + 1}"],
    "copy/slots/leaves/0/2": lambda place: [place[0], place[2], place[1]],
    "copy/biases/leaves/0/2": 32767,
    "copy/biases/leaves": lambda leaves: leaves[::-1],
    "copy/readings": lambda readings: readings[1:],
    "copy/readings/0": lambda reading: [*reading[:2], "year", *reading[3:]],
    "copy/pairs/0/1": lambda own: str(int(own) ^ 1),
    "copy/pairs": lambda pairs: pairs[1:],
}
FORGERIES = [
    *(("report.json", path, value) for path, value in REPORT.items()),
    *(("ledger.json", path, value) for path, value in LEDGER.items()),
    *(("annex/openings.json", path, value) for path, value in ANNEX.items()),
]


@pytest.mark.parametrize(("file", "path", "value"), FORGERIES, ids=[f"{f}:{p}" for f, p, _ in FORGERIES])
def test_forgeries_of_the_signer(file: str, path: str, value: Any, world: World, tmp_path: Path) -> None:
    """Not one of these is caught by digest or signature: the arithmetic has to."""
    bundle = world.copy("named", tmp_path)
    forge(world, bundle, file, path, value)
    assert both(bundle, world.public_key) == 3
