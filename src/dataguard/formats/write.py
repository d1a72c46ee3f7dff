"""Writing a marked copy: the same format keeps every untouched cell as it stands."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from dataguard.errors import UsageError
from dataguard.formats.atomic import atomic_write
from dataguard.formats.csv import CsvSource
from dataguard.formats.edits import Moves, merge_moves, move_column
from dataguard.formats.parquet import ParquetSource, rewrite_parquet
from dataguard.formats.source import FORMAT_OF_SUFFIX, Source
from dataguard.formats.splice import splice_csv

__all__ = ["WriteReport", "write_marked"]

_GROUP_BYTES = 1 << 26
"""Row groups of converted files: 64 MiB of Arrow data each."""


@dataclass(frozen=True, slots=True)
class WriteReport:
    """What was written.

    Parameters
    ----------
    path : Path
        The new file.
    format : str
        "parquet", "csv" or "tsv".
    sha256 : str
        Hex digest of its bytes.
    cells_changed : int
        Cells that hold another cell's content; of a CSV kept as CSV those whose bytes differ.
    traits_lost : tuple of str
        Traits of the source file that the copy could not keep; empty when all were kept, and
        for conversions, which promise values only.
    """

    path: Path
    format: str
    sha256: str
    cells_changed: int
    traits_lost: tuple[str, ...] = ()


def write_marked(
    source: Source, moves: Sequence[Moves], out: str | os.PathLike[str], *, force: bool = False
) -> WriteReport:
    """Write `source` with cells moved; the suffix of `out` decides the format.

    The same format as the source keeps every untouched cell: CSV and TSV byte for byte
    (`splice_csv`; a gzip-compressed source is written uncompressed), Parquet in types, row
    groups, codecs and metadata (`rewrite_parquet`). Another format is a plain conversion by
    pyarrow's writers: a CSV source gives Parquet string columns, text output quotes every
    string and writes numbers and times as pyarrow prints them.

    Parameters
    ----------
    source : Source
        The original.
    moves : sequence of Moves
        Cells to move; may be empty.
    out : path
        New file; appears whole or not at all.
    force : bool
        Replace an existing file; never the source itself.

    Returns
    -------
    WriteReport

    Raises
    ------
    UsageError
        Existing output without `force`, unknown suffix, moves outside the table, columns that
        the output format cannot hold, a place that cannot be written.
    DecodeError
        A source that turns out unreadable; nothing is left behind.
    """
    target = Path(out)
    form = FORMAT_OF_SUFFIX.get(target.suffix.lower())
    if form is None:
        raise UsageError(
            f"cannot write {target.suffix or target.name!r} files",
            where=str(target),
            remedy=f"choose one of {', '.join(FORMAT_OF_SUFFIX)}",
        )
    if source.path is not None and target.exists() and target.samefile(source.path):
        raise UsageError("is the original itself", where=str(target), remedy="name another output")
    with atomic_write(target, force=force) as file:
        lost: tuple[str, ...] = ()
        if form == "parquet" and isinstance(source, ParquetSource):
            changed, lost = rewrite_parquet(source, moves, file)
        elif isinstance(source, CsvSource) and (form == source.format or _is_tsv(source, form)):
            changed = splice_csv(source, moves, file)
        elif form == "parquet":
            changed = _convert_to_parquet(source, moves, file)
        else:
            changed = _convert_to_text(source, moves, file, "," if form == "csv" else "\t")
        file.flush()
        file.seek(0)
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return WriteReport(target, form, digest, changed, lost)


def _is_tsv(source: CsvSource, form: str) -> bool:
    """Whether a file called .csv is separated by tabs and becomes a .tsv."""
    return form == "tsv" and source.separator == b"\t"


def _moved_batches(source: Source, moves: Sequence[Moves]) -> tuple[int, Iterator[pa.RecordBatch]]:
    """Count of moved cells, and the rows with them moved; holds only the moved columns in memory."""
    merged = merge_moves(moves, source.column_names, source.rows())
    moved = {
        name: move_column(source.table([name]).column(0), rows, from_rows)
        for name, (rows, from_rows) in merged.items()
    }

    def stream() -> Iterator[pa.RecordBatch]:
        first = 0
        for batch in source.batches():
            table = pa.Table.from_batches([batch])
            for name, column in moved.items():
                position = table.column_names.index(name)
                cells = column.slice(first, batch.num_rows)
                table = table.set_column(position, table.schema.field(position), cells)
            yield from table.to_batches()
            first += batch.num_rows

    return sum(rows.size for rows, _ in merged.values()), stream()


def _convert_to_parquet(source: Source, moves: Sequence[Moves], out: IO[bytes]) -> int:
    """Plain pyarrow Parquet, in row groups of about 64 MiB of data."""
    changed, batches = _moved_batches(source, moves)
    first = next(batches)
    writer = pq.ParquetWriter(out, first.schema)
    with writer:
        group = [first]
        for batch in batches:
            if sum(part.nbytes for part in group) >= _GROUP_BYTES:
                _write_group(writer, group)
                group = []
            group.append(batch)
        _write_group(writer, group)
    return changed


def _write_group(writer: pq.ParquetWriter, batches: list[pa.RecordBatch]) -> None:
    table = pa.Table.from_batches(batches)
    writer.write_table(table, row_group_size=table.num_rows)


def _convert_to_text(source: Source, moves: Sequence[Moves], out: IO[bytes], separator: str) -> int:
    """Plain pyarrow CSV: strings quoted, nulls as nothing."""
    changed, batches = _moved_batches(source, moves)
    first = next(batches)
    options = pacsv.WriteOptions(delimiter=separator, quoting_style="needed")
    try:
        with pacsv.CSVWriter(out, first.schema, write_options=options) as writer:
            writer.write(first)
            for batch in batches:
                writer.write(batch)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UsageError(
            f"cannot be written as text ({reason})", where=source.name, remedy="choose a .parquet output"
        ) from error
    return changed
