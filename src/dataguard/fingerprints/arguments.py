"""What a caller may hand over, checked at the door: Arrow columns of any library, numbers, sketches of one class.

Users come with lists, pandas and polars. What can be taken without a copy of a value is taken; all else is
refused in one line that says what to give instead, before it fails somewhere inside.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from dataguard.errors import SchemeMismatch, UsageError

__all__ = ["arrow_column", "arrow_table", "as_path", "elements_of", "is_number", "is_whole", "same_class"]


def is_whole(value: object) -> bool:
    """Return whether a value is a whole number: of Python, or of numpy."""
    return isinstance(value, (int, np.integer))


def is_number(value: object) -> bool:
    """Return whether a value is a real number: of Python, or of numpy."""
    return isinstance(value, (int, float, np.integer, np.floating))


def as_path(path: str | os.PathLike[str]) -> Path:
    """Return a path; an empty one would be the present folder.

    Raises
    ------
    UsageError
        Not text and not a path, empty, or with a zero character.
    """
    if not isinstance(path, (str, os.PathLike)) or str(path) == "" or "\0" in str(path):
        raise UsageError(f"{path!r} is no path", remedy="give the path of a folder")
    return Path(path)


def elements_of(given: Any) -> Any:
    """Return a set of elements, or a list of sets; a text is neither, although Python walks along its characters.

    Raises
    ------
    UsageError
        A text, or nothing that has elements.
    """
    if isinstance(given, str) or not hasattr(given, "__iter__"):
        raise UsageError(f"a set of elements is needed, not {_name(given)}", remedy="split texts first")
    return given


def same_class(mine: object, other: object) -> None:
    """Refuse to join a sketch with anything that is no sketch of its class.

    Raises
    ------
    SchemeMismatch
        An object of another class.
    """
    if not isinstance(other, type(mine)):
        raise SchemeMismatch(
            f"cannot be compared or merged with {_name(other)}",
            where=type(mine).__name__,
            remedy=f"give another {type(mine).__name__}; build both sides alike",
        )


def arrow_column(values: Any) -> Any:
    """Return a column as Arrow's: pyarrow's own, or anything that speaks the Arrow C interface (pandas, polars).

    Returns
    -------
    pyarrow.Array or ChunkedArray

    Raises
    ------
    UsageError
        Something else, or a column that Arrow cannot take.
    """
    import pyarrow as pa

    if isinstance(values, (pa.Array, pa.ChunkedArray)):
        return values
    try:
        if hasattr(values, "__arrow_c_stream__"):
            return pa.chunked_array(values)
        if hasattr(values, "__arrow_c_array__"):
            return pa.array(values)
    except (pa.ArrowException, ValueError, TypeError) as wrong:
        raise UsageError(
            f"{_name(values)} does not become an Arrow column ({_first_line(wrong)})",
            remedy="give one kind of values",
        ) from wrong
    raise UsageError(
        f"an Arrow column is needed, not {_name(values)}",
        remedy="give pyarrow.array(values), or use hash_values for lists and numpy arrays",
    )


def arrow_table(table: Any) -> Any:
    """Return a table as Arrow's: pyarrow's own, or a frame that speaks the Arrow C interface, without its index.

    Returns
    -------
    pyarrow.Table, RecordBatch, or None where it is no table

    Raises
    ------
    UsageError
        A frame that Arrow cannot take.
    """
    import pyarrow as pa

    if isinstance(table, (pa.Table, pa.RecordBatch)):
        return table
    if not (hasattr(table, "__arrow_c_stream__") and hasattr(table, "columns")):
        return None
    try:
        made = pa.table(table)
    except (pa.ArrowException, ValueError, TypeError) as wrong:
        raise UsageError(
            f"{_name(table)} does not become an Arrow table ({_first_line(wrong)})",
            remedy="give columns of one kind of values each",
        ) from wrong
    # pandas sends the labels of its rows along as columns: they are no part of the data.
    index = (made.schema.pandas_metadata or {}).get("index_columns", [])
    return made.drop_columns([name for name in index if isinstance(name, str)])


def _name(value: object) -> str:
    if isinstance(value, np.ndarray):
        return f"a numpy array of {value.dtype}"
    kind = type(value)
    root = kind.__module__.split(".")[0]
    return f"a {kind.__name__}" if root in ("builtins", "dataguard") else f"a {root}.{kind.__name__}"


def _first_line(wrong: BaseException) -> str:
    return (str(wrong).splitlines() or [type(wrong).__name__])[0]
