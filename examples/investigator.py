"""The investigator's journey: whether it is our data, how much of it, and whose copy it was.

python examples/investigator.py [FOLDER]
"""

from __future__ import annotations

import sys
import tempfile
from importlib.resources import as_file, files
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import dataguard


def found_table(copy: Path) -> pa.Table:
    """Return what somebody made of a copy: 120 shuffled rows, some columns gone, one renamed."""
    table = pq.read_table(copy)
    rows = np.random.default_rng(1).permutation(table.num_rows)[:120]
    kept = table.take(rows).select(
        ["day", "dep_time", "dep_delay", "arr_delay", "tailnum", "dest", "air_time"]
    )
    return kept.rename_columns(["d", "dep_time", "late", "arr_delay", "plane", "dest", "minutes"])


def main(folder: Path) -> None:
    """Compare, scan and trace a suspect table; it may be a file, or live in memory as here."""
    with (
        as_file(files("dataguard") / "data" / "flights_2013_01.parquet") as original,
        dataguard.Vault.create(folder / "vault") as vault,
    ):
        vault.register(original, name="flights")
        for recipient in ("acme", "birch", "cedar"):
            vault.protect("flights", recipient=recipient, out=folder / f"{recipient}.parquet")
        suspect = found_table(folder / "cedar.parquet")

        compared = dataguard.compare(original, suspect)
        print(f"compare: {compared.relation}, log10 p {compared.log10_p}")

        (folder / "inbox").mkdir()
        pq.write_table(suspect, folder / "inbox" / "found.parquet")
        for result in vault.scan([folder / "inbox"]):
            print(f"scan: {Path(result.path).name} holds {[m['dataset'] for m in result.matches]}")

        traced = vault.trace(suspect, dataset="flights")
        best = traced.accusation.recipients[0]
        print(f"trace: {traced.outcome} {list(traced.corresponding)}, log10 p {best.log10_p_adjusted}")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(tempfile.mkdtemp()))
