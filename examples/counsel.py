"""Counsel's journey: a signed bundle that the other side's expert can check offline.

python examples/counsel.py [FOLDER]
"""

from __future__ import annotations

import sys
import tempfile
from importlib.resources import as_file, files
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

import dataguard


def main(folder: Path) -> None:
    """Write a bundle about a leak, check it, tamper with it, check again."""
    with (
        as_file(files("dataguard") / "data" / "flights_2013_01.parquet") as original,
        dataguard.Vault.create(folder / "vault") as vault,
    ):
        vault.register(original, name="flights")
        for recipient in ("acme", "birch"):
            vault.protect("flights", recipient=recipient, out=folder / f"{recipient}.parquet")
        copy = pq.read_table(folder / "acme.parquet")
        pq.write_table(
            copy.take(np.random.default_rng(2).permutation(copy.num_rows)[:80]), folder / "found.parquet"
        )
        written = vault.report(folder / "found.parquet", dataset="flights", out=folder / "bundle")
        public_key = vault.public_key
    print(f"{written.status}: {', '.join(written.files)}")

    # From here on nothing but the bundle and the provider's public key is needed.
    checked = dataguard.verify(folder / "bundle", public_key=public_key)
    for step in checked.steps:
        print(f"{step.n:>2} {'ok' if step.ok else 'NO'} {step.name}")
    print("trusted" if checked.trusted else "not trusted")

    page = folder / "bundle" / "report.html"
    page.write_bytes(page.read_bytes().replace(b"DRAFT", b"FINAL", 1))
    print("after an edit:", "trusted" if dataguard.verify(folder / "bundle").trusted else "not trusted")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(tempfile.mkdtemp()))
