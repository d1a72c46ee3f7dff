"""Writing a marked copy: the same format keeps every untouched cell as it stands."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from dataguard.errors import UsageError
from dataguard.formats.atomic import atomic_directory, atomic_write
from dataguard.formats.csv import CsvSource
from dataguard.formats.edits import BlockMoves, Moves
from dataguard.formats.parquet import ParquetSource, rewrite_parquet
from dataguard.formats.source import FORMAT_OF_SUFFIX, Source, format_of_name, split_part
from dataguard.formats.splice import splice_csv
from dataguard.formats.spool import Spool

__all__ = ["WriteReport", "check_format", "write_marked"]

_GROUP_BYTES = 1 << 26
"""Row groups of converted files: 64 MiB of Arrow data each."""

CONVERTED = ("parquet", "csv", "tsv", "jsonl", "feather")
"""Formats that any source can be written as."""


@dataclass(frozen=True, slots=True)
class WriteReport:
    """What was written.

    Parameters
    ----------
    path : Path
        The new file, or folder.
    format : str
        As in `FORMAT_OF_SUFFIX`, or "parquet-folder".
    sha256 : str
        Hex digest of its bytes; of a folder as `ParquetFolderSource.sha256`.
    cells_changed : int
        Cells that hold another cell's content; of text kept as text those whose bytes differ.
    traits_lost : tuple of str
        Traits of the source file that the copy could not keep; empty when all were kept, and
        for conversions, which promise values only.
    """

    path: Path
    format: str
    sha256: str
    cells_changed: int
    traits_lost: tuple[str, ...] = ()


def check_format(source: Source | None, out: Path) -> str:
    """Return the format that a source is written in under a name.

    Parameters
    ----------
    source : Source or None
        None where it is not open yet: then only the name is checked.
    out : Path

    Raises
    ------
    UsageError
        The name promises nothing that can be written, or nothing this source can be written as.
    """
    if "\0" in str(out):
        raise UsageError("a NUL byte in the name", where=repr(str(out)), remedy="choose another name")
    form, packed = format_of_name(out.name)
    kept = source.format if source is not None else form
    if kept == "parquet-folder" and form is None and not out.suffix:
        return "parquet-folder"
    if form is None and source is None and not out.suffix:
        return ""
    choice = ", ".join(s for s, f in FORMAT_OF_SUFFIX.items() if f in CONVERTED)
    if form is None or (packed and form not in ("csv", "tsv", "jsonl")):
        raise UsageError(
            f"cannot write {out.suffix or out.name!r} files", where=str(out), remedy=f"choose one of {choice}"
        )
    if form in CONVERTED or source is None:
        return form
    # A workbook with macros under the name of one without is refused by Excel.
    if form != _family(source) or (form == "xlsx" and out.suffix.lower() != f".{source.format}"):
        raise UsageError(
            f"a source of format {source.format} cannot be written as {out.suffix}", where=str(out),
            remedy=f"choose one of {choice}",
        )  # fmt: skip
    return form


def _family(source: Source) -> str:
    return FORMAT_OF_SUFFIX.get(f".{source.format}", source.format)


def write_marked(
    source: Source,
    blocks: Iterable[BlockMoves],
    out: str | os.PathLike[str],
    *,
    force: bool = False,
    release: Callable[[Path, str], None] | None = None,
) -> WriteReport:
    """Write `source` with cells moved; the name of `out` decides the format.

    The same format as the source keeps every untouched cell: CSV, TSV and JSON Lines byte for
    byte, Parquet in types, row groups, codecs and metadata, Arrow in batches and codecs, Excel in all other
    parts, databases in all other tables. A name that ends in .gz or .zst is compressed. Another
    format is a plain conversion: a CSV source gives Parquet string columns, text output
    quotes where it must and writes numbers and times as pyarrow prints them.

    Parameters
    ----------
    source : Source
        The original.
    blocks : iterable of BlockMoves
        Cells to move, in ascending order of rows; may be empty.
    out : path
        New file or folder; appears whole or not at all.
    force : bool
        Replace an existing file; never the source itself.
    release : callable, optional
        ``release(path, sha256)`` is called when everything is written, under a name that nobody
        knows, and before it gets its own; if it raises, nothing is left behind.

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
    target, _ = split_part(Path(out))
    form = check_format(source, target)
    if source.path is not None and target.exists() and target.samefile(source.path):
        raise UsageError("is the original itself", where=str(target), remedy="name another output")
    if form == "parquet-folder":
        return _write_folder(source, blocks, target, force=force, release=release)
    with atomic_write(target, force=force) as file:
        with _packed(file, format_of_name(target.name)[1]) as sink:
            changed, lost = _write(source, blocks, form, sink)
        file.flush()
        file.seek(0)
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        if release is not None:
            release(Path(file.name), digest)
    return WriteReport(target, form, digest, changed, lost)


def _write_folder(
    source: Source,
    blocks: Iterable[BlockMoves],
    target: Path,
    *,
    force: bool,
    release: Callable[[Path, str], None] | None,
) -> WriteReport:
    from dataguard.formats.parquet_folder import ParquetFolderSource, write_parquet_folder

    assert isinstance(source, ParquetFolderSource)
    with atomic_directory(target, force=force) as folder:
        with Spool(source, blocks) as moved:
            lost = write_parquet_folder(source, moved, folder)
        digest = ParquetFolderSource(folder, target.name).sha256()
        if release is not None:
            release(folder, digest)
    return WriteReport(target, "parquet-folder", digest, moved.changed, lost)


def _write(
    source: Source, blocks: Iterable[BlockMoves], form: str, out: IO[bytes]
) -> tuple[int, tuple[str, ...]]:
    """Write by the format's own writer where source and output share it, else convert."""
    if form == "parquet" and isinstance(source, ParquetSource):
        with Spool(source, blocks) as cells:
            return cells.changed, rewrite_parquet(source, cells, out)
    if isinstance(source, CsvSource) and (form == source.format or _is_tsv(source, form)):
        return splice_csv(source, blocks, out), ()
    if form == _family(source):
        done: tuple[int, tuple[str, ...]] = _own_writer(form)(source, blocks, out)
        return done
    with Spool(source, blocks) as moved:
        _CONVERTERS[form](source, moved.batches(), out)
        return moved.changed, ()


def _own_writer(form: str) -> Any:
    """Return the writer of a format other than CSV and Parquet, imported when it is needed."""
    from dataguard.formats.duckdb_write import write_duckdb
    from dataguard.formats.excel_splice import write_xlsx
    from dataguard.formats.ipc_write import write_ipc
    from dataguard.formats.jsonl import write_jsonl
    from dataguard.formats.sqlite_write import write_sqlite

    def at_once(write: Any) -> Any:
        return lambda source, blocks, out: write(source, _everything(blocks), out)

    def spooled(write: Any) -> Any:
        def call(source: Any, blocks: Iterable[BlockMoves], out: IO[bytes]) -> tuple[int, tuple[str, ...]]:
            with Spool(source, blocks) as moved:
                return moved.changed, write(source, moved, out)

        return call

    return {
        "jsonl": write_jsonl,
        "feather": spooled(write_ipc),
        "xlsx": at_once(write_xlsx),
        "sqlite": at_once(write_sqlite),
        "duckdb": at_once(write_duckdb),
    }[form]


def _everything(blocks: Iterable[BlockMoves]) -> list[Moves]:
    """Return all moves, rows counted from the beginning of the table."""
    return [move for block in blocks for move in block.in_place()]


def _is_tsv(source: CsvSource, form: str) -> bool:
    """Whether a file called .csv is separated by tabs and becomes a .tsv."""
    return form == "tsv" and source.separator == b"\t"


@contextlib.contextmanager
def _packed(file: IO[bytes], packed: str | None) -> Iterator[IO[bytes]]:
    """Yield the file, or something that compresses into it; no time stamp or name goes in."""
    if packed == "gzip":
        with gzip.GzipFile(filename="", mode="wb", compresslevel=6, fileobj=file, mtime=0) as sink:
            yield sink  # type: ignore[misc]
    elif packed == "zstd":
        with pa.CompressedOutputStream(pa.PythonFile(_Unclosed(file), mode="w"), "zstd") as sink:
            yield sink
    else:
        yield file


class _Unclosed:
    """A file whose close does nothing: Arrow closes what it compresses into."""

    closed = False

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def write(self, data: bytes) -> int:
        return self._file.write(data)

    def flush(self) -> None:
        self._file.flush()

    def close(self) -> None:
        pass


def _to_parquet(_source: Source, batches: Iterator[pa.RecordBatch], out: IO[bytes]) -> None:
    """Plain pyarrow Parquet, in row groups of about 64 MiB of data."""
    first = next(batches)
    with pq.ParquetWriter(out, first.schema) as writer:
        group = [first]
        for batch in batches:
            if sum(part.nbytes for part in group) >= _GROUP_BYTES:
                _write_group(writer, group)
                group = []
            group.append(batch)
        _write_group(writer, group)


def _write_group(writer: pq.ParquetWriter, batches: list[pa.RecordBatch]) -> None:
    table = pa.Table.from_batches(batches)
    writer.write_table(table, row_group_size=table.num_rows)


def _to_text(source: Source, batches: Iterator[pa.RecordBatch], out: IO[bytes], separator: str) -> None:
    """Plain pyarrow CSV: strings quoted where they must be, nulls as nothing."""
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


def _to_json_lines(_source: Source, batches: Iterator[pa.RecordBatch], out: IO[bytes]) -> None:
    from dataguard.formats.jsonl_write import write_json_lines

    write_json_lines(batches, out)


def _to_feather(_source: Source, batches: Iterator[pa.RecordBatch], out: IO[bytes]) -> None:
    from dataguard.formats.ipc_write import write_feather

    first = next(batches)
    write_feather(first.schema, _chained(first, batches), out)


def _chained(first: pa.RecordBatch, rest: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    yield first
    yield from rest


_CONVERTERS: dict[str, Any] = {
    "parquet": _to_parquet,
    "csv": lambda source, batches, out: _to_text(source, batches, out, ","),
    "tsv": lambda source, batches, out: _to_text(source, batches, out, "\t"),
    "jsonl": _to_json_lines,
    "feather": _to_feather,
}
