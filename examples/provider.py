"""The provider's journey: make a vault, register a real table, hand out marked copies.

python examples/provider.py [FOLDER]
"""

from __future__ import annotations

import sys
import tempfile
from importlib.resources import as_file, files
from pathlib import Path

import dataguard


def main(folder: Path) -> None:
    """Register January's flights and write copies for two recipients into `folder`."""
    with (
        as_file(files("dataguard") / "data" / "flights_2013_01.parquet") as original,
        dataguard.Vault.create(folder / "vault") as vault,
    ):
        registered = vault.register(original, name="flights", protect_columns=["air_time"])
        print(f"registered {registered.rows:,} rows; marks go into:")
        for group in registered.capacity["groups"]:
            print(f"  {' + '.join(group['columns'])}: {group['slots']:,} slots")
        for recipient in ("acme", "birch"):
            done = vault.protect("flights", recipient=recipient, out=folder / f"{recipient}.csv")
            print(
                f"{done.out}: {done.distortion.cells_changed:,} cells exchanged, every column keeps its values"
            )
        print("the ledger now says:")
        for entry in vault.ledger_entries():
            print(f"  {entry.seq} {entry.type} {entry.payload.get('recipient', '')}")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(tempfile.mkdtemp()))
