"""For users of datasketch: the index you have stays, signatures go both ways, new ones come faster.

python examples/datasketch_users.py [FOLDER]
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import datasketch
import pyarrow as pa
import pyarrow.parquet as pq

from dataguard.fingerprints import (
    MinHash,
    from_datasketch_lsh,
    lean_from_bytes,
    lean_to_bytes,
    signatures,
    to_datasketch_lsh,
)


def aircraft() -> dict[str, list[bytes]]:
    """Return, for every aircraft of the packaged table, the flights it flew: carrier, number, day."""
    with as_file(files("dataguard") / "data" / "flights_2013_01.parquet") as path:
        table = pq.read_table(path, columns=["tailnum", "carrier", "flight", "day"])
    flown: dict[str, list[bytes]] = {}
    for row in table.to_pylist():
        flown.setdefault(row["tailnum"] or "?", []).append(
            f"{row['carrier']}{row['flight']} {row['day']}".encode()
        )
    return flown


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    """Return a result and the processor time it took, after one run to warm up."""
    work()
    start = time.process_time()
    return work(), time.process_time() - start


def main(folder: Path) -> None:
    """Keep an old index, add to it, bring it home."""
    # Compiled loops are kept on disk, as the command line does: the first run of all compiles them.
    os.environ.setdefault("DATAGUARD_NUMBA_CACHE", "1")
    flown = aircraft()
    keys, sets = list(flown), list(flown.values())
    half = len(keys) // 2

    # What you have: an index of datasketch, and signatures in a file.
    old = datasketch.MinHashLSH(threshold=0.5, num_perm=128)
    theirs = datasketch.MinHash.bulk(sets[:half], num_perm=128)
    for key, one in zip(keys, theirs, strict=False):
        old.insert(key, one)
    lean = datasketch.LeanMinHash(theirs[0])
    room = bytearray(lean.bytesize("<"))
    lean.serialize(room, "<")
    (folder / "signature.bin").write_bytes(room)

    # New signatures from here have the same values, and go into the same index (Redis and Cassandra as well).
    ours = MinHash.bulk(sets, num_perm=128)
    added = to_datasketch_lsh(keys[half:], ours[half:], old)
    same = all((one.hashvalues == other.hashvalues).all() for one, other in zip(ours, theirs, strict=False))
    print(f"old index kept: {half} signatures of datasketch, {added} of ours; values equal: {same}")

    # A signature in a file is read without datasketch, and written back as it was.
    frozen = lean_from_bytes((folder / "signature.bin").read_bytes(), "<")
    print(
        f"file: equal {frozen == ours[0].sketch()}, written back equal {lean_to_bytes(frozen, '<') == room}"
    )

    # The whole index comes home from its stored bands; answers carry estimates.
    home = from_datasketch_lsh(old)
    agree = all(sorted(home.query(one)) == sorted(old.query(one)) for one in ours[::10])
    print(f"index at home: {len(home)} keys, answers equal: {agree}")
    print(f"like {keys[5]}: {home.ranked(ours[5])[:2]}")

    # Speed: from Python lists with the same SHA-1 values, then with the fast scheme from an Arrow column.
    many = sets * 4
    column = pa.array(many, pa.large_list(pa.large_binary()))
    for scheme in ("affine32", "fss"):  # the first run compiles, for some seconds each
        signatures(column, scheme=scheme)
    _, slow = timed(lambda: datasketch.MinHash.bulk(many[: len(sets)]))
    _, lists = timed(lambda: MinHash.bulk(many))
    _, arrow = timed(lambda: signatures(column))
    _, fast = timed(lambda: signatures(column, scheme="fss"))
    slow *= 4
    print(
        f"speed against datasketch: lists {slow / lists:.0f}x, Arrow {slow / arrow:.0f}x (both bit for bit), "
        f"Arrow with scheme fss {slow / fast:.0f}x"
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(tempfile.mkdtemp()))
