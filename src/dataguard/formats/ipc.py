"""Arrow IPC: Feather V2, Arrow files and streams, read in validated batches.

Nothing of such a file is used before the frame (`ipc_messages`) and the batch itself have been
checked: Arrow trusts offsets and lengths inside buffers, and a wild one can end the process.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from dataguard.errors import DecodeError
from dataguard.formats.ipc_messages import read_layout
from dataguard.formats.selection import selected

__all__ = ["IpcSource", "without_views"]

_BATCH = 1 << 16
_MAPPED = 1 << 28
"""Files with an uncompressed message above 256 MiB are memory-mapped instead of read."""
_MAX_SCALE = 1000
_PLAIN = {pa.string_view(): pa.large_string(), pa.binary_view(): pa.large_binary()}


class IpcSource:
    """An Arrow IPC file (Feather V2) or stream.

    Opening reads the headers of all messages and checks them (`read_layout`); every batch is
    fully validated before it is handed out. View types are read as large types. Memory: one
    batch of the columns asked for, however long its writer made it; a file with an uncompressed
    batch above 256 MiB is memory-mapped, and must not be truncated by others meanwhile.

    Parameters
    ----------
    path : Path
        The file.
    format : str
        "feather".
    name : str
        Short display name.

    Raises
    ------
    DecodeError
        Truncated or damaged file, Feather V1, duplicate column names, no rows, no columns.
    """

    def __init__(self, path: Path, format: str, name: str) -> None:  # noqa: A002 - the word of the protocol
        self.path: Path | None = path
        self.name = name
        self.format = format
        self._file = path
        with self.decoding(), path.open("rb") as file:
            self.layout = read_layout(file, str(path))
        with self.decoding(), self._open(None) as reader:
            schema = reader.schema
            names = list(schema.names)
            for field in schema:
                _check_type(field.type)
        twice = sorted({column for column in names if names.count(column) > 1})
        if twice:
            listed = ", ".join(map(repr, twice))
            raise DecodeError(f"duplicate column names {listed}", where=str(path), remedy="rename them")
        if not names or not self.rows():
            raise DecodeError("no rows" if names else "no columns", where=str(path))
        self.column_names: tuple[str, ...] = tuple(names)
        self.nested_columns: tuple[str, ...] = tuple(f.name for f in schema if _is_nested(f.type))

    @contextlib.contextmanager
    def decoding(self) -> Iterator[None]:
        """Turn what goes wrong in the block, which reads this file, into one line."""
        try:
            yield
        except (pa.ArrowException, OSError, ValueError, KeyError, TypeError, OverflowError) as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            if isinstance(error, KeyError):
                reason = "a type that pyarrow does not know"
            raise DecodeError(
                f"damaged or truncated Arrow IPC ({reason})", where=str(self._file), remedy="fetch it again"
            ) from error

    @contextlib.contextmanager
    def _open(self, fields: list[int] | None) -> Iterator[Any]:
        """Open the file with pyarrow, restricted to some top-level columns unless it is mapped."""
        frames = self.layout.dictionaries + self.layout.batches
        mapped = any(frame.codec is None and frame.body > _MAPPED for frame in frames)
        # Asked for some fields, pyarrow copies even out of a map: there all are had for nothing.
        options = pa.ipc.IpcReadOptions(included_fields=[] if mapped else fields or [])
        with pa.memory_map(str(self._file)) if mapped else pa.OSFile(str(self._file)) as file:
            opener = pa.ipc.open_file if self.layout.is_file else pa.ipc.open_stream
            with opener(file, options=options) as reader:
                yield reader

    def raw_batches(
        self, fields: list[int] | None = None, numbers: Sequence[int] | None = None
    ) -> Iterator[tuple[int, Any, Any]]:
        """Yield (number, validated record batch as stored, its custom metadata or None).

        Parameters
        ----------
        fields : list of int, optional
            Positions of the columns wanted; all by default.
        numbers : sequence of int, optional
            Batches wanted, for a stream in ascending order; all by default.

        Raises
        ------
        DecodeError
            Damaged data.
        """
        following = 0
        with self.decoding(), self._open(fields) as reader:
            for number in range(len(self.layout.batches)) if numbers is None else numbers:
                if self.layout.is_file:
                    batch, extra = reader.get_batch_with_custom_metadata(number)
                else:
                    for _ in range(number + 1 - following):
                        batch, extra = reader.read_next_batch_with_custom_metadata()
                    following = number + 1
                if fields is not None and batch.num_columns > len(fields):
                    batch = batch.select(fields)
                batch.validate(full=True)
                if batch.num_rows != self.layout.batches[number].rows:
                    raise DecodeError("changed while it was read", where=str(self._file), remedy="run again")
                yield number, batch, extra

    def batches(self, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
        """Stream record batches of at most 65,536 rows, types as in the file but for views.

        Parameters
        ----------
        columns : sequence of str, optional
            Columns wanted, in this order; all by default.

        Raises
        ------
        UsageError
            Unknown column.
        DecodeError
            Damaged data.
        """
        wanted = selected(self.column_names, columns, str(self._file))
        fields = sorted({self.column_names.index(column) for column in wanted} or {0})
        for _, batch, _ in self.raw_batches(fields):
            chosen = batch.select(wanted)
            for first in range(0, batch.num_rows, _BATCH):
                yield without_views(chosen.slice(first, _BATCH))

    def table(self, columns: Sequence[str] | None = None) -> pa.Table:
        """Collect `batches`."""
        return pa.Table.from_batches(list(self.batches(columns)))

    def rows(self) -> int:
        """Return the number of rows, from the headers."""
        return sum(frame.rows for frame in self.layout.batches)

    def sha256(self) -> str:
        """Digest of the file, hex."""
        with self.decoding(), self._file.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()


def _check_type(kind: pa.DataType) -> None:
    """Touch all that a damaged schema may leave unreadable: names, inner types, time zones, scales."""
    pa.nulls(0, kind)
    for i in range(kind.num_fields):
        field = kind.field(i)
        str(field.name)
        _check_type(field.type)
    if pa.types.is_dictionary(kind):
        _check_type(kind.value_type)
    elif pa.types.is_timestamp(kind) and kind.tz:
        pa.scalar(0, kind).cast(pa.string())
    elif pa.types.is_decimal(kind) and abs(kind.scale) > _MAX_SCALE:
        raise ValueError(f"a decimal with {kind.scale} digits behind the point")


def _is_nested(kind: pa.DataType) -> bool:
    """Whether a column is carried along only."""
    return bool(pa.types.is_nested(kind) or pa.types.is_run_end_encoded(kind))


def without_views(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Return `batch` with view types, which few Arrow functions know, as large types; in dictionaries, too."""
    for position, field in enumerate(batch.schema):
        column = batch.column(position)
        if field.type in _PLAIN:
            column = column.cast(_PLAIN[field.type])
        elif pa.types.is_dictionary(field.type) and field.type.value_type in _PLAIN:
            entries = column.dictionary.cast(_PLAIN[field.type.value_type])
            column = pa.DictionaryArray.from_arrays(column.indices, entries, ordered=field.type.ordered)
        else:
            continue
        batch = batch.set_column(position, field.with_type(column.type), column)
    return batch
