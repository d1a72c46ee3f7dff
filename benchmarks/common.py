"""What the benchmark scripts share: data, a marked table, leaks cut from it."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

os.environ.setdefault("DATAGUARD_NUMBA_CACHE", "1")
os.environ.setdefault("NUMBA_CACHE_DIR", str(Path.home() / ".cache" / "dataguard" / "kernels"))

from dataguard import keys
from dataguard.formats.source import open_source
from dataguard.modalities.table import CARRIER, TableContent
from dataguard.model import LEVELS
from dataguard.slots import Slots
from dataguard.values import canonical_table
from dataguard.watermarking.accusation import Candidate
from dataguard.watermarking.symbols import SlotKeys, brief, symbols

MASTER = bytes(range(32))
"""A fixed master secret: every figure can be made again to the digit."""

DATA = Path(os.environ.get("DATAGUARD_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))


def data_file(name: str) -> Path:
    """Return a development data file; says where to get it if it is not here."""
    path = DATA / name
    if not path.exists():
        sys.exit(f"{name} is not in {DATA}; set DATAGUARD_DATA to the folder of the development data")
    return path


@dataclass(frozen=True)
class Marked:
    """A table with its slot plan and the committed keys of N recipients."""

    name: str
    original: TableContent
    plan: Slots
    candidates: tuple[Candidate, ...]

    def copy(self, recipient: int) -> TableContent:
        """Return the export of one recipient, in memory."""
        key = self.candidates[recipient].key
        own = symbols(key, self.plan.address, self.plan.bias, self.plan.channel)
        return CARRIER.mark(self.original, CARRIER.embed(self.original, self.plan, own))


def marked(name: str, path: Path, recipients: int = 1000) -> Marked:
    """Return a table of the development data, planned as `register` plans it."""
    original = CARRIER.decode(open_source(path))
    secret = keys.dataset_secret(MASTER, name)
    slot_keys = SlotKeys(keys.address_key(secret), keys.pairing_key(secret), keys.bias_key(secret))
    law = LEVELS["single"]
    plan = CARRIER.slots(original, brief(slot_keys, law), law)
    candidates = tuple(
        Candidate(f"r{i}", 1, keys.mark_key(MASTER, name, f"r{i}", 1)) for i in range(recipients)
    )
    return Marked(name, original, plan, candidates)


def leak(
    copy: TableContent, rows: int, rng: np.random.Generator, columns: list[str]
) -> tuple[TableContent, Any]:
    """Return `rows` random rows of a copy, shuffled, with some columns, and which rows they are."""
    picked = rng.choice(copy.table.num_rows, rows, replace=False)
    table: pa.Table = copy.table.select(columns).take(picked)
    return TableContent(table, canonical_table(table), np.arange(rows, dtype=np.uint64)), picked
