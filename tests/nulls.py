"""Real leaks of somebody else's copy, and innocent keys to score against them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import pyarrow as pa

from conftest import shared
from dataguard import keys
from dataguard.fingerprints.engines import default_engines
from dataguard.formats.source import open_source
from dataguard.modalities.table import CARRIER, TableContent
from dataguard.model import LEVELS
from dataguard.slots import Readings, Slots, Votes, tally
from dataguard.values import canonical_table
from dataguard.watermarking.symbols import SlotKeys, brief, symbols

MASTER = bytes(range(32))
TABLES = {
    "flights": ("tables/nycflights13_flights.parquet", 40_000, 700),
    "covertype": ("tables/covertype_first30k.csv.gz", 1_500, 300),
    "beijing": ("sensors/beijing_pm25_2010_2014.csv.gz", 1_500, 400),
}
"""Table -> file, rows registered, rows leaked: dense enough that both ends of some pairs leak."""


@dataclass(frozen=True)
class Leaked:
    plan: Slots
    readings: Readings
    votes: Votes


def content(table: pa.Table) -> TableContent:
    return TableContent(table, canonical_table(table), np.arange(table.num_rows, dtype=np.uint64))


@cache
def leaked(name: str) -> Leaked:
    """A shuffled leak of recipient "guilty", aligned and read by the product's own code."""
    file, registered, rows = TABLES[name]
    original = content(open_source(shared(file)).table().slice(0, registered))
    secret = keys.dataset_secret(MASTER, name)
    made = brief(
        SlotKeys(*(f(secret) for f in (keys.address_key, keys.pairing_key, keys.bias_key))), LEVELS["single"]
    )
    plan = CARRIER.slots(original, made, LEVELS["single"])
    own = symbols(keys.mark_key(MASTER, name, "guilty", 1), plan.address, plan.bias, plan.channel)
    copy = CARRIER.mark(original, CARRIER.embed(original, plan, own))
    picked = np.random.default_rng(3).permutation(registered)[:rows]
    suspect = content(copy.table.take(picked))
    readings = CARRIER.votes(original, suspect, plan, CARRIER.align(original, suspect, default_engines()))
    return Leaked(plan, readings, tally(plan, readings))


def innocent_keys(name: str, n: int) -> list[bytes]:
    """Keys of the same derivation as recipients', never used to mark anything."""
    seed = keys.decoy_seed(keys.dataset_secret(MASTER, name))
    return [keys.decoy_mark_key(seed, i) for i in range(n)]
