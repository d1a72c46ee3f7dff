"""Text between encodings: UTF-16 files as UTF-8 streams and back, and cells of other encodings.

UTF-16 without lone surrogates and UTF-8 stand for the same code points one to one, byte order
mark included, so what is transcoded on reading and back on writing loses nothing.
"""

from __future__ import annotations

import codecs

import numpy as np
from numpy.typing import NDArray

from dataguard.formats.chunks import Sink
from dataguard.formats.compression import ByteStream
from dataguard.formats.encodings import codec_errors

__all__ = ["Utf16Stream", "Utf16Writer", "decode_cells"]

_READ = 1 << 20


class Utf16Stream:
    """A UTF-16 file read as UTF-8.

    Parameters
    ----------
    stream : ByteStream
        Left open.
    codec : str
        "utf-16-le" or "utf-16-be"; a byte order mark comes through as that of UTF-8.
    """

    def __init__(self, stream: ByteStream, codec: str) -> None:
        self._stream = stream
        self._codec = codec
        self._decoder = codecs.getincrementaldecoder(codec)()
        self._ready = b""
        self._bad: UnicodeDecodeError | None = None
        self._ended = False

    def readinto(self, buffer: memoryview, /) -> int:
        """Fill the front of `buffer`; return the bytes filled, 0 at the end.

        Raises
        ------
        UnicodeDecodeError
            At a lone surrogate or half a character, when everything before it has been read.
        """
        while not self._ready and not self._ended:
            self._refill()
        if not self._ready and self._bad is not None:
            raise self._bad
        size = min(len(buffer), len(self._ready))
        buffer[:size] = self._ready[:size]
        self._ready = self._ready[size:]
        return size

    def read(self, size: int = -1, /) -> bytes:
        """Return the next `size` bytes, fewer only at the end; all by default."""
        buffer = bytearray(size if size >= 0 else _READ)
        got = 0
        while got < len(buffer):
            more = self.readinto(memoryview(buffer)[got:])
            got += more
            if not more:
                break
            if size < 0 and got == len(buffer):
                buffer.extend(bytes(len(buffer)))
        return bytes(buffer[:got])

    def _refill(self) -> None:
        raw = self._stream.read(_READ) or b""
        self._ended = not raw
        try:
            text = self._decoder.decode(raw, final=self._ended)
        except UnicodeDecodeError as error:
            text = error.object[: error.start].decode(self._codec)
            self._bad, self._ended = error, True
        self._ready = text.encode()


class Utf16Writer:
    """A sink that takes UTF-8 and writes UTF-16.

    Parameters
    ----------
    out : Sink
    codec : str
        "utf-16-le" or "utf-16-be".
    """

    def __init__(self, out: Sink, codec: str) -> None:
        self._out = out
        self._codec = codec
        self._decoder = codecs.getincrementaldecoder("utf-8")()

    def write(self, data: bytes | memoryview, /) -> None:
        """Write `data`; a character may be spread over several calls."""
        self._out.write(self._decoder.decode(data).encode(self._codec))


def decode_cells(raw: NDArray[np.uint8], encoding: str) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Decode many cells at once: no loop over rows.

    Parameters
    ----------
    raw : NDArray[np.uint8]
        Every cell followed by one NUL; none holds a NUL itself. No encoding read here has NUL
        inside a character, so the marks stay between the cells while all are decoded together.
    encoding : str
        As found by `sniff_encoding`.

    Returns
    -------
    text : NDArray[np.uint8]
        UTF-8 without the marks.
    ends : NDArray[np.int64], shape (cells,)
        End of each cell in `text`.

    Raises
    ------
    UnicodeDecodeError
        Bytes that are no character; a text that was checked as a whole has none.
    """
    if raw.size and raw.max() >= 0x80:
        raw = np.frombuffer(raw.tobytes().decode(encoding, codec_errors(encoding)).encode(), np.uint8)
    marks = raw == 0
    ends = np.flatnonzero(marks)
    return raw[~marks], ends - np.arange(ends.size)
