"""Moved cells in a stream: two passes give what one table gives."""

import datetime as dt
import decimal

import numpy as np
import pyarrow as pa
import pytest

from dataguard.errors import UsageError
from dataguard.formats.edits import Moves, apply_moves
from dataguard.formats.moved import moved_batches

ROWS = 6000
ORIGINS = np.array([0, 1, 1500, 5000, 5999])
SWAP = (ORIGINS, ORIGINS[::-1].copy())


def table():
    number = np.arange(ROWS)
    price = [decimal.Decimal(int(i)) / 100 if i % 9 else None for i in number]
    return pa.table(
        {
            "tiny": pa.array(number % 200, pa.uint8()),
            "int": pa.array(number, pa.int32(), mask=number % 7 == 3),
            "unsigned": pa.array(number, pa.uint32()),
            "long": pa.array(number * 10**12),
            "float": pa.array(number / 3, pa.float32()),
            "double": pa.array(number / 3),
            "text": pa.array([f"値{i % 40}" if i % 5 else None for i in number]),
            "free": pa.array([f"{i}·{i * 7919 % 10007}" for i in number]),
            "bin": pa.array([bytes([i % 256, 0]) for i in number]),
            "dec4": pa.array(price, pa.decimal128(7, 2)),
            "dec8": pa.array(price, pa.decimal128(16, 2)),
            "dec16": pa.array(price, pa.decimal128(30, 2)),
            "stamp": pa.array(number * 10**6 + 1, pa.timestamp("us")),
            "zoned": pa.array(number * 10**6 + 1, pa.timestamp("us", "UTC")),
            "nanos": pa.array(number * 10**9 + 1, pa.timestamp("ns")),
            "day": pa.array([dt.date(2020, 1, 1) + dt.timedelta(int(i) % 999) for i in number]),
            "clock": pa.array(number * 1000, pa.time64("us")),
            "flag": pa.array(number % 3 == 0),
            "list": pa.array([[int(i), None] for i in number]),
        }
    )


class Chopped:
    """A table in batches of few rows."""

    def __init__(self, whole, size):
        self.whole, self.size = whole, size
        self.column_names = tuple(whole.column_names)

    def rows(self):
        return self.whole.num_rows

    def batches(self, columns=None):
        chosen = self.whole if columns is None else self.whole.select(columns)
        for first in range(0, chosen.num_rows, self.size):
            yield from chosen.slice(first, self.size).to_batches()


@pytest.mark.parametrize("size", [1, 7, 64, 6000])
def test_moved_batches_are_the_moved_table(size):
    whole = table().slice(0, 200).append_column("code", table()["text"].slice(0, 200).dictionary_encode())
    rng = np.random.default_rng(size)
    moves = []
    for name in ("int", "text", "dec16", "list", "flag", "code"):
        rows = np.sort(rng.choice(200, 60, replace=False))
        moves.append(Moves(name, rows, rng.permutation(rows)))
    changed, batches = moved_batches(Chopped(whole, size), moves)
    got = pa.Table.from_batches(list(batches))
    assert got.schema == whole.schema
    assert got.to_pydict() == apply_moves(whole, moves).to_pydict()
    assert changed == sum(int((m.rows != m.from_rows).sum()) for m in moves)
    with pytest.raises(UsageError, match="no such column"):
        moved_batches(Chopped(whole, size), [Moves("z", *SWAP)])
    none, batches = moved_batches(Chopped(whole, size), [])
    assert (none, pa.Table.from_batches(list(batches)).to_pydict()) == (0, whole.to_pydict())


def test_a_dictionary_of_few_codes_stays_and_grows_only_as_far_as_it_can():
    words = [f"w{i}" for i in range(127)]
    shared = pa.array(words)
    codes = pa.DictionaryArray.from_arrays(pa.array(range(100), pa.int8()), shared, ordered=True)
    _, batches = moved_batches(
        Chopped(pa.table({"x": codes}), 10), [Moves("x", np.array([0, 99]), np.array([99, 0]))]
    )
    columns = [batch.column(0) for batch in batches]
    assert all(column.dictionary.equals(shared) for column in columns)  # no entry added, order kept
    assert columns[0].type == pa.dictionary(pa.int8(), pa.string(), ordered=True)
    assert columns[0].to_pylist()[0] == "w99"
    # 128 entries per batch, other ones in each: no room for one more, none to drop
    parts = [
        pa.DictionaryArray.from_arrays(
            pa.array(range(128), pa.int8()), pa.array([f"{k}-{i}" for i in range(128)])
        )
        for k in "ab"
    ]
    full = Chopped(pa.table({"x": pa.chunked_array(parts)}), 128)
    _, batches = moved_batches(full, [Moves("x", np.array([0]), np.array([200]))])
    assert next(batches).column(0).to_pylist()[0] == "b-72"  # the entry that moved out makes room
    _, batches = moved_batches(full, [Moves("x", np.array([127]), np.array([255]))])
    values = [batch.column(0).to_pylist() for batch in batches]
    assert (values[0][127], values[1][127]) == ("b-127", "b-127")
    twice = pa.DictionaryArray.from_arrays(pa.array([*range(128), 5], pa.int8()), parts[0].dictionary)
    tight = Chopped(pa.table({"x": pa.chunked_array([twice, parts[1]])}), 129)
    _, batches = moved_batches(tight, [Moves("x", np.array([128]), np.array([129]))])
    with pytest.raises(UsageError, match="a dictionary of int8 codes has no room"):
        list(batches)


def test_dictionaries_of_structs_move():
    entries = pa.array([{"a": 1}, {"a": 2}, {"a": 3}])
    column = pa.DictionaryArray.from_arrays(pa.array([0, 1, None, 2], pa.int16()), entries)
    _, batches = moved_batches(
        Chopped(pa.table({"x": column}), 2), [Moves("x", np.array([0, 2]), np.array([2, 0]))]
    )
    got = [value for batch in batches for value in batch.column(0).to_pylist()]
    assert got == [None, {"a": 2}, {"a": 1}, {"a": 3}]
