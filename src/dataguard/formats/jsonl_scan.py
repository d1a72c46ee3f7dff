"""One pass over the bytes of a JSON Lines file: whole lines in, located values out.

Around the kernels of ``_json_kernels.py``: the buffer, the table of keys, and what is said about
a line that is not what it should be.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dataguard.errors import DecodeError
from dataguard.formats.chunks import Chunk
from dataguard.formats.compression import ByteStream

__all__ = ["BOM", "KeyTable", "LineScanner", "changed_error", "without_surrogates"]

BOM = b"\xef\xbb\xbf"

_BLOCK = 1 << 22
"""Bytes read at a time."""
_MAX_LINE = 1 << 26
_MAX_COLUMNS = 9_999
_MAX_SPELLINGS = 2 * _MAX_COLUMNS
"""Spellings of keys: ``"a"`` and ``"\\u0061"`` are two of one key."""
_MAX_KEY_BYTES = 1 << 24
_SLOTS = 1 << 16
_CELLS = 1 << 21
"""Cells located at a time: a table of 9,999 columns comes in chunks of 209 rows."""
_SURROGATE = re.compile("[\ud800-\udfff]")


class KeyTable:
    """The keys of a file in order of first appearance, shared by all passes over it."""

    def __init__(self, where: str) -> None:
        from dataguard.formats import _json_kernels

        self.kernels = _json_kernels
        self.where = where
        self.names: dict[str, int] = {}
        self.spellings = 0
        # Python's string hash is seeded anew in every process, so no file can aim at collisions.
        seed = np.uint64(hash("keys of JSON Lines") & 0xFFFF_FFFF_FFFF_FFFF)
        empty = np.full(_SLOTS, -1, np.int32)
        starts, ends = (np.zeros(_MAX_SPELLINGS, np.int64) for _ in range(2))
        columns = np.zeros(_MAX_SPELLINGS, np.int32)
        self._all = _json_kernels.Keys(empty, starts, ends, columns, np.empty(1 << 12, np.uint8), seed)

    def view(self) -> Any:
        """Return the `Keys` for the kernel."""
        return self._all._replace(columns=self._all.columns[: self.spellings])

    def add(self, raw: bytes, line: int) -> None:
        """Enter a spelling, quotes included, seen first on `line`."""
        keys, n = self._all, self.spellings
        start = int(keys.ends[n - 1]) if n else 0
        name = without_surrogates(json.loads(raw))
        column = self.names.setdefault(name, len(self.names))
        if len(self.names) > _MAX_COLUMNS or n == _MAX_SPELLINGS or start + len(raw) > _MAX_KEY_BYTES:
            raise DecodeError(
                f"more than {_MAX_COLUMNS:,} different keys, or 16 MiB of them, up to line {line}",
                where=self.where,
                remedy="keys that are data belong into values",
            )
        if start + len(raw) > keys.text.size:
            text = np.empty(2 * (start + len(raw)), np.uint8)
            text[:start] = keys.text[:start]
            self._all = keys = keys._replace(text=text)
        keys.text[start : start + len(raw)] = np.frombuffer(raw, np.uint8)
        keys.starts[n], keys.ends[n], keys.columns[n] = start, start + len(raw), column
        self.kernels.add_key(keys, n)
        self.spellings += 1


class LineScanner:
    """One pass over an open file: a buffer of whole lines, refilled behind an unfinished last one."""

    def __init__(self, keys: KeyTable, file: ByteStream) -> None:
        from dataguard.formats import _json_kernels

        self.kernels = _json_kernels
        self.where = keys.where
        self.keys = keys
        self.file = file
        self.stamps = np.full(_MAX_COLUMNS + 1, -1, np.int64)
        self.nested = np.zeros(_MAX_COLUMNS + 1, np.uint8)
        self.state = np.zeros(_json_kernels.STATE_SIZE, np.int64)
        self.state[_json_kernels.LINE] = 1
        self.data = np.empty(0, np.uint8)
        self.begin = self.end = self.size = 0  # whole lines are data[begin:end], bytes read data[:size]
        self.final = False

    @property
    def rows(self) -> int:
        """Rows so far."""
        return int(self.state[self.kernels.ROW])

    def grow(self) -> None:
        """Keep the bytes from `end` on, read behind them, and find the end of the last whole line."""
        kept = self.size - self.end
        while True:
            size = max(_BLOCK, min(2 * kept, _MAX_LINE + _BLOCK))
            kept_bytes = self.data[self.end : self.size]
            if self.data.size == size + 1:
                data, kept_bytes = self.data, kept_bytes.copy()
            else:
                data = np.empty(size + 1, np.uint8)  # one byte of room for the newline of the last line
            data[:kept] = kept_bytes
            self.data, self.begin, self.end, self.size = data, 0, 0, kept
            view = data.data
            while self.size < size and not self.final:
                got = self.file.readinto(view[self.size : size]) or 0
                self.size += got
                self.final = not got
            if self.final:
                self.end = self.size
                data[self.end] = self.kernels.LF
                return
            self.end = self.kernels.last_newline(data, kept, self.size)
            if self.end > kept:
                return
            self.end, kept = 0, self.size
            if kept >= _MAX_LINE:
                raise DecodeError(
                    f"line {self.state[self.kernels.LINE]} is longer than {_MAX_LINE >> 20} MiB",
                    where=self.where,
                    remedy="write one object per line",
                )

    def chunks(self, *, check_text: bool, store: bool) -> Iterator[Chunk]:
        """Yield chunks up to the end of the file, without cells unless `store`."""
        width = len(self.keys.names)
        most = max(1, _CELLS // width) if store else _BLOCK << 8
        starts, ends = (np.empty(width * most if store else 0, np.int32) for _ in range(2))
        while not self.final:
            self.grow()
            if not self.state[self.kernels.CONSUMED]:
                self.step_over_bom()
            if check_text:
                self.check_text()
            while self.begin < self.end:
                rows = self.scan(most, starts, ends, store=store)
                end = int(self.state[self.kernels.CONSUMED])
                cells = rows * width if store else 0
                first = self.rows - rows
                yield Chunk(self.data, self.begin, end, starts[:cells], ends[:cells], first, rows)
                self.begin = end

    def step_over_bom(self) -> None:
        """Begin behind a BOM at the start of the file."""
        head = self.data[: min(len(BOM), self.size)].tobytes()
        if head[:2] in (b"\xff\xfe", b"\xfe\xff"):
            raise DecodeError("is UTF-16 text", where=self.where, remedy="save it as UTF-8")
        self.begin = len(BOM) if head == BOM else 0

    def scan(self, most: int, starts: NDArray[np.int32], ends: NDArray[np.int32], *, store: bool) -> int:
        """Scan up to `most` rows from `begin`; return their number. New keys are entered unless `store`."""
        k, state, begin = self.kernels, self.state, self.begin
        state[k.ROWS] = state[k.INSIDE] = 0
        while True:
            keys = self.keys.view()
            width = len(self.keys.names)
            k.scan_rows(
                self.data, begin, self.end, most, keys, width, starts, ends, self.stamps, self.nested, state
            )
            if not state[k.ERROR]:
                break
            begin = int(state[k.ERROR_AT])
            if state[k.ERROR] != k.NEW_KEY:
                self.fail(begin)
            if store:
                raise changed_error(self.where)
            self.keys.add(self.data[begin : state[k.KEY_END]].tobytes(), int(state[k.LINE]))
            state[k.INSIDE] = 1
        return int(state[k.ROWS])

    def fail(self, at: int) -> None:
        """Raise the error left in the state."""
        k, state = self.kernels, self.state
        line_start = k.last_newline(self.data, self.begin, at)
        rest = self.data[at : min(at + 40, self.end)].tobytes().decode(errors="replace")
        found = repr(rest.splitlines()[0][:16]) if rest.strip("\r\n") and rest[0] not in "\r\n" else "its end"
        what, remedy = _ERRORS[int(state[k.ERROR]) - k.NOT_OBJECT]
        if state[k.ERROR] == k.NOT_OBJECT and found.startswith("'["):
            remedy = "a JSON array is not JSON Lines: write one object per line"
        raise DecodeError(
            f"line {state[k.LINE]}, byte {at - line_start + 1}: {what}, found {found}",
            where=self.where,
            remedy=remedy,
        )

    def check_text(self) -> None:
        """Raise DecodeError naming the line of the first byte that is not UTF-8."""
        data = self.data[self.begin : self.end]
        whole = [None, pa.py_buffer(np.array([0, data.size], np.int64)), pa.py_buffer(data)]
        try:
            pa.Array.from_buffers(pa.large_string(), 1, whole).validate(full=True)
        except pa.ArrowInvalid:
            raw = data.tobytes()
            try:
                raw.decode()
            except UnicodeDecodeError as error:
                line = int(self.state[self.kernels.LINE]) + raw.count(b"\n", 0, error.start)
                raise DecodeError(
                    f"line {line} is not UTF-8", where=self.where, remedy="save the file as UTF-8"
                ) from None


_ERRORS = (
    ("expected an object '{'", "write one object per line"),
    ("expected a key in double quotes", "repair that line"),
    ("expected ':' behind the key", "repair that line"),
    ("expected a value", "repair that line"),
    ("expected ',' or the closing bracket", "repair that line"),
    ("a string is not closed on its line", "repair that line"),
    ("a control character inside a string", "write it as an escape"),
    ("no such escape in a string", "repair that line"),
    ("no JSON number", "repair that line"),
    ("NaN and Infinity are no JSON", "write null, or a string"),
    ("nested deeper than 64", "flatten it"),
    ("expected the end of the line behind the object", "write one object per line"),
    ("a key that this object already has", "rename one of the two"),
)
"""What was expected and the remedy, for the codes of ``_json_kernels.py`` from NOT_OBJECT on."""


def changed_error(where: str) -> DecodeError:
    """Return the error for a file that is not what it was at opening."""
    return DecodeError("changed while it was read", where=where, remedy="run again")


def without_surrogates(text: str) -> str:
    """Replace halves of surrogate pairs, which no UTF-8 text can hold, by U+FFFD; pairs are joined by now."""
    return _SURROGATE.sub("\ufffd", text)
