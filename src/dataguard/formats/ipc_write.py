"""Arrow IPC written back message by message, and the plain conversion to Feather.

A rewrite copies every message without a moved cell as it is, so that metadata, dictionaries, batch
boundaries and the peculiarities of other writers stay without being understood.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from struct import pack_into
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dataguard.errors import UsageError
from dataguard.formats.ipc import IpcSource, without_views
from dataguard.formats.ipc_messages import Frame, read_layout
from dataguard.formats.moved import Cells, MovedCells

__all__ = ["write_feather", "write_ipc"]

_COPY = 1 << 22
_MAX_ID = 4096


def write_ipc(source: IpcSource, moved: Cells, out: IO[bytes]) -> tuple[str, ...]:
    """Write the file or stream again with cells moved.

    Byte for byte as in the source: everything but the record batches that hold a moved cell
    and, in a file, the table of offsets in the footer. A touched batch is written anew with its
    rows, its custom metadata, its codec (default level) and its metadata version; its other
    columns are equal in value. In a stream, a cell may move to a batch whose dictionary
    lacks its value: that batch then gets a dictionary of its own, and the one before is
    put back behind it. Memory: the moved cells and one batch.

    Parameters
    ----------
    source : IpcSource
        The original.
    moved : Cells
        The cells that move; they may cross batches.
    out : IO[bytes]
        Receives the file.

    Returns
    -------
    tuple of str
        Traits of the file that could not be kept.

    Raises
    ------
    UsageError
        A big-endian file; a dictionary without room for the values moved in.
    DecodeError
        Damaged data.
    """
    layout, path = source.layout, source.path
    assert path is not None
    if moved.columns and layout.big_endian:
        raise UsageError("is big-endian Arrow", where=str(path), remedy="convert it to little-endian first")
    copy = _Copy(source, out)
    for touched in _touched(source, moved):
        copy.replace(touched)
    copy.finish()
    return (
        (f"dictionaries of {', '.join(map(repr, copy.extended))} in some batches",) if copy.extended else ()
    )


@dataclass(slots=True)
class _Touched:
    """The messages that take the place of `frame`: dictionaries before and behind, and the batch."""

    frame: Frame
    batch: Any
    before: list[Any] = field(default_factory=list)
    behind: list[Any] = field(default_factory=list)
    extended: list[str] = field(default_factory=list)


class _Copy:
    """The output, as far as it has been written."""

    def __init__(self, source: IpcSource, out: IO[bytes]) -> None:
        self.source, self.layout, self.out = source, source.layout, out
        assert source.path is not None
        self.path = source.path
        self.position = self.written = 0  # offsets in the source and in the output
        self.moved: dict[int, tuple[int, int, int]] = {}  # offset of a batch -> its new block
        self.shifts = [(0, 0)]  # from this offset of the source on, offsets grow by that much
        self.extended: list[str] = []

    def copy_to(self, end: int) -> None:
        """Copy the source up to `end`."""
        for piece in self.pieces(end):
            self.put(piece)
        self.position = max(self.position, end)

    def pieces(self, end: int) -> Iterator[bytes]:
        """Yield the source up to `end`; as a generator, so that trouble with the output is not laid at its door."""
        with self.source.decoding(), self.path.open("rb") as file:
            file.seek(self.position)
            for at in range(self.position, end, _COPY):
                piece = file.read(min(_COPY, end - at))
                if len(piece) != min(_COPY, end - at):
                    raise OSError("it ends too early")
                yield piece

    def put(self, piece: Any) -> None:
        """Write bytes or a buffer."""
        self.out.write(piece)
        self.written += len(piece)

    def replace(self, touched: _Touched) -> None:
        """Copy up to a touched batch and write what takes its place."""
        frame = touched.frame
        self.copy_to(frame.offset)
        for message in touched.before:
            self.put(message)
        head, body, message = touched.batch
        self.moved[frame.offset] = (self.written, head, body)
        self.put(message)
        for message in touched.behind:
            self.put(message)
        self.position = frame.end
        self.shifts.append((frame.end, self.written - frame.end))
        self.extended += [name for name in touched.extended if name not in self.extended]

    def finish(self) -> None:
        """Copy the rest; in a file with the new offsets of all messages."""
        self.copy_to(self.layout.footer)
        if not self.layout.is_file:
            return
        with self.source.decoding(), self.path.open("rb") as file:
            file.seek(self.layout.footer)
            footer = bytearray(file.read(self.layout.size - self.layout.footer))
        groups = (self.layout.dictionaries, self.layout.batches)
        starts = [start for start, _ in self.shifts]
        for at, frames in zip(self.layout.blocks, groups, strict=True):
            for i, frame in enumerate(frames):
                shift = self.shifts[int(np.searchsorted(starts, frame.offset, side="right")) - 1][1]
                block = self.moved.get(frame.offset, (frame.offset + shift, frame.head, frame.body))
                pack_into("<qi4xq", footer, at + 24 * i, *block)
        self.put(bytes(footer))


def _touched(source: IpcSource, moved: Cells) -> Iterator[_Touched]:
    """Yield the new messages of every batch with moved cells, in the order of their offsets."""
    frames = source.layout.batches
    firsts = np.concatenate([[0], np.cumsum([frame.rows for frame in frames])]).tolist()
    if not moved.columns:
        return
    in_order = sorted(range(len(frames)), key=lambda number: frames[number].offset)
    for number, batch, extra in source.raw_batches(None, in_order):
        part = moved.part(firsts[number], frames[number].rows)
        if part.cells:
            yield _rewritten(source, frames[number], batch, part, extra)


def _rewritten(source: IpcSource, frame: Frame, batch: Any, part: MovedCells, extra: Any) -> _Touched:
    """Put the moved cells into one batch and encode it."""
    plain = without_views(batch.select(list(part.cells)))
    scattered = part.scatter(pa.Table.from_batches([plain]), 0)
    touched = _Touched(frame, None)
    for name in part.cells:
        position = source.column_names.index(name)
        stored = batch.schema.field(position)
        new = scattered.column(name).combine_chunks()
        if isinstance(new, pa.ChunkedArray):
            new = pa.concat_arrays(new.chunks)
        if pa.types.is_dictionary(new.type):
            old = batch.column(position)
            if _same_entries(plain.column(name).dictionary, new.dictionary):
                entries = old.dictionary
            else:
                entries = new.dictionary.cast(stored.type.value_type)
                key = source.layout.dictionary_ids[position]
                touched.before.append(_dictionary_message(entries, key, frame, source))
                touched.behind.append(_dictionary_message(old.dictionary, key, frame, source))
                touched.extended.append(name)
            new = pa.DictionaryArray.from_arrays(new.indices, entries, ordered=stored.type.ordered)
        elif new.type != stored.type:
            new = new.cast(stored.type)  # back to views
        batch = batch.set_column(position, stored, new)
    touched.batch = _batch_message(batch, frame, extra)
    return touched


def _same_entries(old: Any, new: Any) -> bool:
    """Whether two dictionaries are the same memory (NaN is unequal to itself), or equal."""
    places = [[part and (part.address, part.size) for part in one.buffers()] for one in (old, new)]
    return (len(old) == len(new) and places[0] == places[1]) or bool(old.equals(new))


def _encoded(batch: Any, frame: Frame, extra: Any = None) -> tuple[Any, Any]:
    """Encode one batch as `frame` was; return the stream and its layout."""
    versions = {3: pa.ipc.MetadataVersion.V4, 4: pa.ipc.MetadataVersion.V5}
    options = pa.ipc.IpcWriteOptions(
        metadata_version=versions[frame.version], use_legacy_format=frame.legacy, compression=frame.codec
    )
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema, options=options) as writer:
        writer.write_batch(batch, custom_metadata=extra)
    buffer = sink.getvalue()
    return buffer, read_layout(pa.BufferReader(buffer), "the batch written")


def _batch_message(batch: Any, frame: Frame, extra: Any) -> tuple[int, int, Any]:
    """Return (header size, body size, message) of a record batch."""
    for position, column in enumerate(batch.schema):
        if pa.types.is_dictionary(column.type):
            # The message of a batch holds the codes only; so the entries need not be encoded each time.
            codes = batch.column(position).indices
            batch = batch.set_column(position, column.with_type(codes.type), codes)
    buffer, layout = _encoded(batch, frame, extra)
    found = layout.batches[0]
    return found.head, found.body, buffer.slice(found.offset, found.head + found.body)


def _dictionary_message(entries: Any, key: int, frame: Frame, source: IpcSource) -> Any:
    """Return the message of a whole dictionary with the id `key`.

    pyarrow numbers dictionaries by column, so this one is made that of column `key` of an empty batch.
    """
    if source.layout.is_file or not 0 <= key <= _MAX_ID:
        raise UsageError(
            "values cannot move between the dictionaries of this file",
            where=source.name,
            remedy="store the column as plain values, or choose a .parquet output",
        )
    dummy = pa.DictionaryArray.from_arrays(pa.array([], pa.int8()), pa.array([], pa.string()))
    last = pa.DictionaryArray.from_arrays(pa.array([], pa.int32()), entries)
    columns = [dummy] * key + [last]
    buffer, layout = _encoded(pa.record_batch(columns, [str(i) for i in range(key + 1)]), frame)
    found = next(one for one in layout.dictionaries if one.dictionary == key)
    return buffer.slice(found.offset, found.head + found.body)


def write_feather(schema: pa.Schema, batches: Iterator[pa.RecordBatch], out: IO[bytes]) -> None:
    """Write record batches as Feather V2 with LZ4, one batch each; types and metadata as in `schema`.

    A file has one dictionary for each column, known before the first batch. Batches with dictionary
    columns therefore go through a temporary file beside `out` until all entries are known. (Growing,
    "delta", dictionaries would do without, but polars refuses them.) Memory: one batch, and the entries.

    Parameters
    ----------
    schema : pa.Schema
    batches : iterator of pa.RecordBatch
        May be none.
    out : IO[bytes]
        Receives the file.

    Raises
    ------
    UsageError
        More entries than a dictionary column's codes can number, or nested dictionaries that differ.
    """
    categorical = [i for i, one in enumerate(schema) if pa.types.is_dictionary(one.type)]
    options = pa.ipc.IpcWriteOptions(compression="lz4")
    with contextlib.ExitStack() as stack:
        try:
            if categorical:
                folder = Path(out.name).parent if isinstance(getattr(out, "name", None), str) else None
                spool = stack.enter_context(tempfile.TemporaryFile(dir=folder))
                batches = _with_common_entries(batches, categorical, spool)
            with pa.ipc.new_file(out, schema, options=options) as writer:
                for batch in batches:
                    writer.write_batch(batch.replace_schema_metadata(schema.metadata))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            reason = str(error).strip().splitlines()[0]
            raise UsageError(
                f"cannot be written as Feather ({reason})", remedy="choose a .parquet output"
            ) from error


def _with_common_entries(
    batches: Iterator[pa.RecordBatch], categorical: list[int], spool: IO[bytes]
) -> Iterator[pa.RecordBatch]:
    """Yield the batches once more, with dictionary columns recoded to the entries of all of them."""
    entries: dict[int, Any] = {}
    fields: dict[int, pa.Field] = {}
    writer = None
    for batch in batches:
        coded = batch
        for position in categorical:
            fields[position] = batch.schema.field(position)
            codes, entries[position] = _recoded(batch.column(position), entries.get(position))
            coded = coded.set_column(position, fields[position].with_type(codes.type), codes)
        if writer is None:
            options = pa.ipc.IpcWriteOptions(compression="lz4")
            writer = pa.ipc.new_stream(spool, coded.schema, options=options)
        writer.write_batch(coded)
    if writer is None:
        return
    writer.close()
    spool.seek(0)
    for coded in pa.ipc.open_stream(spool):
        batch = coded
        for position, kept in fields.items():
            codes = coded.column(position)
            column = pa.DictionaryArray.from_arrays(codes, entries[position], ordered=kept.type.ordered)
            batch = batch.set_column(position, kept, column)
        yield batch


def _recoded(column: Any, known: Any) -> tuple[Any, Any]:
    """Codes of a dictionary column in the entries `known`, and these with what they lacked."""
    own = column.dictionary
    if known is None or _same_entries(known, own):
        return column.indices, own
    missing = own.filter(pc.and_(pc.is_null(pc.index_in(own, known)), pc.is_valid(own))).unique()
    known = pa.concat_arrays([known, missing]) if len(missing) else known
    return pc.index_in(own, known).take(column.indices).cast(column.type.index_type), known
