"""Parquet: streaming reader, and a rewrite that changes the moved columns and nothing else.

A rewrite with library defaults silently changes decimals, old timestamps, codecs, page
versions and row groups; untouched column chunks are therefore copied as bytes, the others
encoded like the original ones, and what cannot be kept is named in the result.
"""

from __future__ import annotations

import contextlib
import hashlib
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from dataguard.errors import DecodeError
from dataguard.formats.arrow import nested_names
from dataguard.formats.chunks import Density
from dataguard.formats.moved import Cells, compacted
from dataguard.formats.parquet_footer import Footer, read_footer, too_large
from dataguard.formats.parquet_options import column_options, writer_options
from dataguard.formats.parquet_pages import check_pages
from dataguard.formats.parquet_splice import splice_parquet
from dataguard.formats.selection import selected

__all__ = ["ParquetSource", "rewrite_parquet"]

_NS_YEARS = (-9_223_372_036_854_775, 9_223_372_036_854_775)
"""Microseconds since 1970 that still fit int64 nanoseconds: years 1677 to 2262."""
_BATCH = 1 << 16
_BATCH_BYTES = 1 << 26
"""A batch has fewer rows when the average row would make it larger than 64 MiB."""
_WORST_BYTES = 1 << 26
"""And fewer still when its rows could all name the longest entries of their dictionaries."""
_BUFFERS = 1 << 26
_SHORT_ENTRY = 1 << 8
_TEXT = (pa.string(), pa.binary(), pa.large_string(), pa.large_binary())


class ParquetSource:
    """A Parquet file.

    Memory while streaming: a batch, a buffer of at most 1 MiB and a page per column. Of
    10,000,000 rows in one row group (209 MB on disk, three columns) `batches` holds 16 MB of
    Arrow memory at its peak; pyarrow's defaults, which read the row group first, 212 MB. The
    headers of all pages are read before the first batch, to find what would unpack without
    measure; the first streaming of a column pays for it, later ones do not.

    Parameters
    ----------
    path : Path
        The file.
    name : str
        Short display name.
    empty : bool
        Accept a file without rows, as a part of a folder.

    Attributes
    ----------
    footer : Footer
        Checked.
    int96_unit : str or None
        Unit in which INT96 timestamps are read; None without such columns.

    Raises
    ------
    DecodeError
        Truncated, damaged or encrypted file, one that unpacks without measure, duplicate column
        names, no rows, no columns.
    """

    format = "parquet"

    def __init__(self, path: Path, name: str, *, empty: bool = False) -> None:
        self.path: Path | None = path
        self.name = name
        self._file = path
        self.int96_unit: str | None = None
        with self.decoding():
            self.footer: Footer = read_footer(path)
            self._size = path.stat().st_size
        self._pages = np.full((*self.footer.spans.shape[:2], 3), -1, np.int64)
        self._longest: dict[int, int] = {}
        schema = self.schema()
        names = schema.names
        self.column_names: tuple[str, ...] = tuple(names)
        self.nested_columns: tuple[str, ...] = nested_names(schema)
        twice = sorted(name for name, count in Counter(names).items() if count > 1)
        if twice:
            listed = ", ".join(map(repr, twice))
            raise DecodeError(f"duplicate column names {listed}", where=str(path), remedy="rename them")
        if not names or not (self.rows() or empty):
            raise DecodeError("no rows" if names else "no columns", where=str(path))
        old = [leaf.top for leaf in self.footer.leaves if leaf.physical_type == "INT96" and leaf.flat]
        if old:
            self.int96_unit = self._widest_unit(old)

    def open(self, **options: Any) -> Any:
        """Open the file as a `pyarrow.parquet.ParquetFile`, to be closed by the caller."""
        columns = max(len(self.footer.leaves), 1)
        with self.decoding():
            return pq.ParquetFile(
                self._file,
                coerce_int96_timestamp_unit=self.int96_unit,
                pre_buffer=False,
                buffer_size=min(max(_BUFFERS // columns, 1 << 14), 1 << 20),
                page_checksum_verification=True,
                **options,
            )

    def schema(self) -> pa.Schema:
        """Return the Arrow schema that batches have."""
        with self.open() as file, self.decoding():
            return file.schema_arrow

    @contextlib.contextmanager
    def decoding(self) -> Iterator[None]:
        """Turn what goes wrong in the block, which reads this file, into one line."""
        try:
            yield
        except (pa.ArrowException, OSError, ValueError) as error:
            raise self._damaged(error) from error

    @contextlib.contextmanager
    def encoding(self) -> Iterator[None]:
        """As `decoding`, for a block that also writes: what the system says of files passes."""
        try:
            yield
        except (pa.ArrowException, OSError, ValueError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise
            raise self._damaged(error) from error

    def _damaged(self, error: BaseException) -> DecodeError:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        return DecodeError(
            f"damaged or truncated Parquet ({reason})", where=str(self._file), remedy="fetch it again"
        )

    def _widest_unit(self, columns: list[str]) -> str:
        """Return a unit in which INT96 timestamps fit: Spark's year 9999 would wrap around in nanoseconds."""
        self.int96_unit = "us"
        for batch in self.batches(columns):
            for column in batch.columns:
                micros = (
                    column.cast(pa.timestamp("us", column.type.tz)).cast(pa.int64()).drop_null().to_numpy()
                )
                if micros.size and (micros.min() < _NS_YEARS[0] or micros.max() > _NS_YEARS[1]):
                    return "us"
        return "ns"

    def batches(self, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
        """Stream record batches of at most 65,536 rows and about 64 MiB, types as in the file.

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
        with self.open() as file, self.decoding():
            self.check(wanted)
            for batch in file.iter_batches(batch_size=self._batch_rows(wanted), columns=wanted):
                batch.validate(full=True)  # text that is not UTF-8 passes the reader and stops others later
                yield batch.select(wanted)  # the reader keeps file order, and takes "a" for "a.b" too

    def table(self, columns: Sequence[str] | None = None) -> pa.Table:
        """Read whole columns; see `batches`.

        Raises
        ------
        DecodeError
            Also for rows that take more than 1 GiB and a thousand times the size of the file.
        """
        wanted = selected(self.column_names, columns, str(self._file))
        with self.open() as file, self.decoding():
            self.check(wanted)
            self._batch_rows(wanted)
            leaves = self._leaves(wanted)
            most = self._pages[:, leaves, 0].sum(dtype=np.float64) + sum(
                float(self.footer.spans[:, i, 2].sum()) * self._entry(i) for i in leaves
            )
            if not too_large(most, self._size):
                whole = file.read(columns=wanted).select(wanted)
                whole.validate(full=True)
                return whole
        batches, size = [], 0
        for batch in self.batches(wanted):
            batches.append(batch)
            size += batch.nbytes
            if too_large(size, self._size):
                raise DecodeError(
                    f"unpacks from {self._size:,} to more than {size:,} bytes",
                    where=str(self._file),
                    remedy="choose fewer columns",
                )
        return pa.Table.from_batches(batches, batches[0].schema)

    def check(self, columns: Sequence[str]) -> None:
        """Check the page headers of columns, once.

        Raises
        ------
        ValueError
            See `dataguard.formats.parquet_pages.check_pages`.
        """
        spans = self.footer.spans
        with self._file.open("rb") as raw:
            end = raw.seek(0, 2)
            for leaf in self._leaves(columns):
                for group in np.flatnonzero(self._pages[:, leaf, 0] < 0).tolist():
                    start, size, values, _ = spans[group, leaf].tolist()
                    slack = min(start + size + 128, end)  # parquet-mr before 1.2.9 forgot a header
                    self._pages[group, leaf] = check_pages(raw, start, slack, values)

    def ends(self) -> NDArray[np.int64]:
        """Return where the pages of each checked chunk end; int64, shape (groups, leaves)."""
        return self._pages[:, :, 2]

    def _leaves(self, columns: Sequence[str]) -> list[int]:
        wanted = set(columns)
        return [i for i, leaf in enumerate(self.footer.leaves) if leaf.top in wanted]

    def _batch_rows(self, columns: Sequence[str]) -> int:
        """Rows of a batch of checked columns."""
        leaves = self._leaves(columns)
        used = self.footer.rows > 0
        if not used.any():
            return _BATCH
        width = sum(self.footer.leaves[i].width for i in leaves)
        average = self._pages[used][:, leaves, 0].sum(axis=1) / self.footer.rows[used]
        rows = min(_BATCH, _BATCH_BYTES // (width + float(average.max()) + 1))
        if rows * sum(self._entry(i) for i in leaves) > _WORST_BYTES:
            self._measure_entries(leaves)
            rows = min(rows, _WORST_BYTES // (1 + sum(self._entry(i) for i in leaves)))
        return max(int(rows), 1)

    def _entry(self, leaf: int) -> int:
        """Upper bound of the longest text in the dictionaries of a leaf; 0 without any."""
        if self.footer.leaves[leaf].physical_type != "BYTE_ARRAY":
            return 0
        return self._longest.get(leaf, max(int(self._pages[:, leaf, 1].max(initial=0)), 0))

    def _measure_entries(self, leaves: list[int]) -> None:
        """Look into large dictionaries: one long text named in every row unpacks without measure."""
        large = [
            i
            for i in leaves
            if i not in self._longest and self.footer.leaves[i].flat and self._entry(i) > _SHORT_ENTRY
        ]
        names = [self.footer.leaves[i].top for i in large]
        longest = dict.fromkeys(large, 0)
        with self.open(read_dictionary=names) as file:
            for group in np.flatnonzero(self.footer.rows).tolist() if large else ():
                batch = next(file.iter_batches(batch_size=1, row_groups=[group], columns=names))
                for i, name in zip(large, names, strict=True):
                    column = batch.column(name)
                    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
                    if kind in _TEXT and kind is not column.type:
                        size = pc.max(pc.binary_length(column.dictionary)).as_py() or 0
                    else:
                        size = int(self._pages[group, i, 1])
                    longest[i] = max(longest[i], size)
        self._longest.update(longest)

    def rows(self) -> int:
        """Return the number of rows, from the footer."""
        return int(self.footer.rows.sum())

    @property
    def densest(self) -> int:
        """Bytes of text of a row in the row groups where rows are longest, as they are encoded; see `Density`."""
        texts = [i for i, leaf in enumerate(self.footer.leaves) if leaf.physical_type == "BYTE_ARRAY"]
        density = Density()
        for rows, size in zip(
            self.footer.rows.tolist(), self.footer.spans[:, texts, 3].sum(axis=1).tolist(), strict=True
        ):
            density.add(rows, size)
        return density.densest()

    def sha256(self) -> str:
        """Digest of the file, hex."""
        with self.decoding(), self._file.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()


def rewrite_parquet(source: ParquetSource, moved: Cells, out: IO[bytes]) -> tuple[str, ...]:
    """Write the file again with cells moved.

    Column chunks without moved cells are copied byte for byte, whoever wrote them, with their
    page indexes and bloom filters; the others are encoded anew like the original ones. Schema,
    key-value metadata, row groups and everything else in the footer stay. Memory: the moved
    cells and one column of one row group.

    Where this pyarrow cannot write a moved column as the file stores it, or the column is
    nested, all chunks are encoded anew, in memory one row group at a time.

    Parameters
    ----------
    source : ParquetSource
        The original.
    moved : Cells
        What `gather` collected from it; may cross row groups.
    out : IO[bytes]
        Receives the file.

    Returns
    -------
    tuple of str
        Traits of the file that could not be kept.

    Raises
    ------
    UsageError
        See `MovedCells.scatter`.
    DecodeError
        Damaged file.
    """
    path = source.path
    assert path is not None
    with source.open() as file, path.open("rb") as raw:
        with source.decoding():
            source.check(source.column_names)
            options = _storage(source, file, moved.columns)
        if not moved.columns:
            shutil.copyfileobj(raw, out, 1 << 20)
            return ()
        with source.encoding():
            if options is None:
                return _encode_all(source, file, moved, out)
            return splice_parquet(file, raw, source.footer, source.ends(), moved, options, out)


def _storage(
    source: ParquetSource, file: Any, names: tuple[str, ...]
) -> dict[str, tuple[pa.DataType, dict[str, Any]]] | None:
    """How to store each of the columns, see `column_options`; None if one of them has no way."""
    flat = {leaf.top: i for i, leaf in enumerate(source.footer.leaves) if leaf.flat}
    schema = file.schema_arrow
    found = {}
    for name in names:
        options = column_options(file, flat[name], schema.field(name)) if name in flat else None
        if options is None:
            return None
        found[name] = options
    return found


def _encode_all(source: ParquetSource, file: Any, moved: Cells, out: IO[bytes]) -> tuple[str, ...]:
    options, lost = writer_options(file, source.footer, frozenset(moved.columns))
    with pq.ParquetWriter(out, file.schema_arrow, **options) as writer:
        if file.metadata.metadata:
            writer.add_key_value_metadata(file.metadata.metadata)
        first = 0
        for group in range(file.num_row_groups):
            table = file.read_row_group(group)
            share = moved.part(first, table.num_rows)
            table = share.scatter(table, 0)
            for name in moved.columns:
                position = table.column_names.index(name)
                column = compacted(table.column(position))
                table = table.set_column(position, table.schema.field(position), column)
            writer.write_table(table, row_group_size=max(table.num_rows, 1))
            first += table.num_rows
    return lost
