"""Compiled loops from JSON values located by ``_json_kernels.py`` to the text of a column."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dataguard._jit import kernel

__all__ = ["json_text"]

QUOTE, BACKSLASH, SMALL_N = 34, 92, 110


@kernel
def json_text(
    data: NDArray[np.uint8],
    starts: NDArray[np.int32],
    ends: NDArray[np.int32],
    columns: int,
    column: int,
    rows: int,
    raw: bool,
    offsets: NDArray[np.int64],
    text: NDArray[np.uint8],
    validity: NDArray[np.uint8],
    escaped: NDArray[np.uint8],
) -> int:
    """Copy one column into the buffers of an Arrow large_string array.

    Parameters
    ----------
    data : uint8 array
    starts, ends : int32 arrays
        As filled by `scan_rows`; `columns` cells per row.
    columns, column, rows : int
    raw : bool
        Keep the quotes of strings.
    offsets : int64 array, shape (rows + 1,)
        Out.
    text : uint8 array
        Out; as long as the raw values together. Escapes stay as they are.
    validity : uint8 array, shape (ceil(rows / 8),), zero on entry
        Out; least significant bit first, 0 = null (absent, or the literal null).
    escaped : uint8 array, shape (rows,), zero on entry
        Out; 1 = a string with a backslash (never with `raw`).

    Returns
    -------
    int
        Number of nulls.
    """
    nulls = 0
    o = 0
    offsets[0] = 0
    k = column
    for row in range(rows):
        i = starts[k]
        end = ends[k]
        k += columns
        if i < 0 or data[i] == SMALL_N:  # only null starts with it
            nulls += 1
        else:
            validity[row >> 3] |= np.uint8(1 << (row & 7))
            if raw or data[i] != QUOTE:
                while i < end:
                    text[o] = data[i]
                    o += 1
                    i += 1
            else:
                i += 1
                while i < end - 1:
                    if data[i] == BACKSLASH:
                        escaped[row] = 1
                    text[o] = data[i]
                    o += 1
                    i += 1
        offsets[row + 1] = o
    return nulls
