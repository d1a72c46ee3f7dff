"""A plant's test runs start alike: rows with natural twins must not drown a real leak."""

from __future__ import annotations

import numpy as np

from conftest import shared
from dataguard import keys
from dataguard.fingerprints.engines import default_engines
from dataguard.formats.source import open_source
from dataguard.modalities.table import CARRIER
from dataguard.model import LEVELS
from dataguard.slots import tally
from dataguard.watermarking.accusation import Candidate, accuse
from dataguard.watermarking.symbols import SlotKeys, brief, symbols


def test_leak_of_twelve_rows_of_a_wide_plant_table_is_traced() -> None:
    """31,700 rows x 55; about one row in ten has a twin that differs in the fault number only."""
    original = CARRIER.decode(open_source(shared("sensors/tennessee_eastman.parquet")))
    secret = keys.dataset_secret(bytes(32), "plant")
    made = brief(
        SlotKeys(*(f(secret) for f in (keys.address_key, keys.pairing_key, keys.bias_key))), LEVELS["single"]
    )
    plan = CARRIER.slots(original, made, LEVELS["single"])
    mark = keys.mark_key(bytes(32), "plant", "acme", 1)
    own = symbols(mark, plan.address, plan.bias, plan.channel)
    copy = CARRIER.mark(original, CARRIER.embed(original, plan, own))
    rows = np.random.default_rng(2).permutation(31_700)[:12]
    suspect = CARRIER.take(copy, rows)
    alignment = CARRIER.align(original, suspect, default_engines())
    assert len(alignment.suspect_row) >= 11
    assert (rows[alignment.suspect_row] == alignment.original_row).all()
    votes = tally(plan, CARRIER.votes(original, suspect, plan, alignment))
    others = [Candidate(f"r{i}", 1, keys.mark_key(bytes(32), "plant", f"r{i}", 1)) for i in range(200)]
    result = accuse(votes, [Candidate("acme", 1, mark), *others], plan.channel, alpha=1e-9, spent=1)
    assert [r.recipient for r in result.corresponding] == ["acme"]
