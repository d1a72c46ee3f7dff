"""Shingles of texts: the definition, every border of pieces and buffers, languages, hostile text."""

from __future__ import annotations

import re
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataguard.errors import DecodeError, UsageError
from dataguard.fingerprints.hashing.columns import hash_column
from dataguard.fingerprints.hashing.schemes import HashScheme
from dataguard.fingerprints.shingles.texts import character_shingles, sketch_texts, word_shingles
from dataguard.fingerprints.sketches.resemblance import sketch_sets

BASE, LAST, TOP = 0x9FB21C651E98DF25, 0xD6E8FEB86659FD93, 2**64
LIMIT = 32_768


def mum(parts: list[bytes]) -> list[int]:
    return [int(x) for x in hash_column(pa.array(parts, pa.binary()), HashScheme.DGMUM_1)] if parts else []


def words_of(text: bytes) -> list[bytes]:
    found = []
    for run in re.findall(rb"[a-z0-9_\x80-\xff]+", text.lower()):
        found += [run[i : i + LIMIT] for i in range(0, len(run), LIMIT)]
    return found


def plain_words(text: bytes, n: int) -> list[int]:
    words = mum(words_of(text))
    out = []
    for i in range(max(1, len(words) - n + 1) if words else 0):
        x = 0
        for w in words[i : i + n]:
            x = (x * BASE + w) % TOP
        product = x * LAST
        out.append((product >> 64) ^ product % TOP ^ x)
    return out


def plain_characters(text: str, n: int) -> list[int]:
    parts = [text[i : i + n].encode() for i in range(max(1, len(text) - n + 1) if text else 0)]
    return mum(parts)


def split(hashes: np.ndarray, offsets: np.ndarray) -> list[list[int]]:
    return [hashes[a:b].tolist() for a, b in pairwise(offsets)]


TEXTS = [
    "", " ", "one", "The QUICK brown fox_1 jumps over the lazy dog again and again", "a b c d e f g h i",
    "x" * 63, "x" * 64, "x" * 65, "y " * 31 + "zz", " " * 64 + "w", "w" + " " * 64,
    "日本語の文と English words、混ざる 文",
    "tab\tnew\nline\r\nnul\x00end", "a-b.c,d;e", "Ünïcödé straße ÀÉ",
]  # fmt: skip


@pytest.mark.parametrize("n", [1, 2, 5])
@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.string_view()])
def test_word_shingles_are_what_the_definition_says(n: int, kind: pa.DataType) -> None:
    found = split(*word_shingles(pa.array(TEXTS, kind), n))
    assert found == [plain_words(t.encode(), n) for t in TEXTS]


@pytest.mark.parametrize("n", [1, 3, 5])
def test_character_shingles_are_what_the_definition_says(n: int) -> None:
    found = split(*character_shingles(pa.array(TEXTS), n))
    assert found == [plain_characters(t, n) for t in TEXTS]


@settings(max_examples=80, deadline=None)
@given(st.lists(st.binary(max_size=300), max_size=6), st.integers(1, 6))
def test_any_bytes(texts: list[bytes], n: int) -> None:
    column = pa.array(texts, pa.binary())
    hashes, offsets = word_shingles(column, n)
    assert split(hashes, offsets) == [plain_words(t, n) for t in texts]
    assert (sketch_texts(column, n) == sketch_sets(hashes, offsets)).all()
    assert len(character_shingles(column, n)[1]) == len(texts) + 1


def long_texts() -> list[str]:
    rng = np.random.default_rng(5)
    words = [f"w{i}" for i in range(5000)]
    made = [" ".join(rng.choice(words, k)) for k in (9_000, 20_000, 40_000)]
    piece = 65_536
    made += [
        f"{'q' * (piece + d)} tail words here" for d in (-65, -64, -1, 0, 1, 63, 64, 32_768, 65_536, 70_000)
    ]
    made += ["a " * (piece // 2 + d) + "end" for d in (-1, 0, 1)]
    made += ["z" * LIMIT, "z" * (LIMIT + 1), "z" * (2 * LIMIT), " " * piece + "z" * LIMIT + " " * piece + "b"]
    made += ["v " * 3 + "." * (2 * piece) + " u"]  # words carried over pieces without any
    return made


@pytest.mark.parametrize("n", [1, 5])
def test_texts_of_many_pieces(n: int) -> None:
    texts = long_texts()
    column = pa.array(texts)
    hashes, offsets = word_shingles(column, n)
    assert split(hashes, offsets) == [plain_words(t.encode(), n) for t in texts]
    assert (sketch_texts(column, n) == sketch_sets(hashes, offsets)).all()


def test_missing_texts_slices_and_chunks() -> None:
    column = pa.chunked_array(
        [pa.array(["x y", None, "a b c d e f"]), pa.array([], pa.string()), pa.array(["q"])]
    )
    expected = [plain_words(t, 2) for t in (b"x y", b"", b"a b c d e f", b"q")]
    assert split(*word_shingles(column, 2)) == expected
    assert split(*word_shingles(column.slice(1, 2), 2)) == expected[1:3]
    assert split(*word_shingles(column.dictionary_encode(), 2)) == expected
    assert (sketch_texts(column, 2)[1] == 0xFFFFFFFF).all()
    assert sketch_texts(pa.chunked_array([], pa.string())).shape == (0, 128)


def test_nothing_beyond_the_column_is_read_or_needed() -> None:
    for cut in range(1, 130):
        raw = np.frombuffer(("word " * 26)[:cut].encode(), np.uint8).copy()
        column = pa.Array.from_buffers(
            pa.string(), 1, [None, pa.py_buffer(np.array([0, cut], np.int32)), pa.py_buffer(raw)]
        )
        assert split(*word_shingles(column, 2)) == [plain_words(raw.tobytes(), 2)]


def test_bad_columns_are_refused() -> None:
    with pytest.raises(UsageError, match="no texts"):
        sketch_texts(pa.array([1, 2]))
    with pytest.raises(UsageError, match="per shingle"):
        word_shingles(pa.array(["a"]), 0)
    ends = np.array([0, 1000, 5], np.int32)
    wild = pa.Array.from_buffers(pa.string(), 2, [None, pa.py_buffer(ends), pa.py_buffer(b"short")])
    with pytest.raises(UsageError, match="offsets"):
        sketch_texts(wild)
    with pytest.raises(UsageError, match="no texts"):
        word_shingles(pa.array([1, 2]).dictionary_encode())


def test_damaged_columns_are_refused_before_arrow_follows_them() -> None:
    ends, here = pa.py_buffer(np.array([0, 1000, 5], np.int32)), pa.py_buffer(b"\x01")
    missing = pa.Array.from_buffers(pa.string(), 2, [here, ends, pa.py_buffer(b"short")])
    with pytest.raises(UsageError, match="offsets"):
        word_shingles(missing)
    views = pa.py_buffer(np.array([20, 0, 0, 2**30], np.int32))  # 20 bytes from the middle of nowhere
    nowhere = pa.Array.from_buffers(pa.string_view(), 1, [None, views, pa.py_buffer(b"x" * 9)])
    with pytest.raises(DecodeError, match="damaged"):
        word_shingles(nowhere)
    for index in (7, -1):
        where = pa.array([0, index], pa.int8())
        coded = pa.DictionaryArray.from_arrays(where, pa.array(["a", "b"]), safe=False)
        with pytest.raises(DecodeError, match="damaged"):
            character_shingles(coded)


def test_views_may_hold_bytes_that_are_no_text() -> None:
    column = pa.array([b"\xff\xfe and a long tail of words", None], pa.binary()).cast(pa.binary_view())
    expected = [plain_words(b"\xff\xfe and a long tail of words", 2), []]
    assert split(*word_shingles(column, 2)) == expected
    assert split(*word_shingles(column.view(pa.string_view()), 2)) == expected
