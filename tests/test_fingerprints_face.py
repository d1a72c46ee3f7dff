"""The face of the fingerprints: lazy, its tour runs, and every wrong argument is refused in one line."""

from __future__ import annotations

import doctest
import importlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import dataguard.fingerprints as face
from dataguard.errors import DataguardError, SchemeMismatch, UsageError
from dataguard.fingerprints.arguments import arrow_column, as_path, elements_of, is_number, is_whole

HASHES = face.hash_values(np.arange(1000))
BORDERS = np.array([0, 500, 1000])
SKETCHES = face.sketch_sets(HASHES, BORDERS)
SMALL = np.arange(1000, dtype=np.uint64)


def test_the_tour_runs() -> None:
    tried = doctest.testmod(face)
    assert tried.attempted > 20
    assert tried.failed == 0


@pytest.mark.parametrize("name", ["index.lsh", "index.containment"])
def test_examples_of_the_indexes_run(name: str) -> None:
    tried = doctest.testmod(importlib.import_module(f"dataguard.fingerprints.{name}"))
    assert tried.attempted > 3
    assert tried.failed == 0


def test_the_face_is_lazy_and_complete() -> None:
    code = (
        "import sys, dataguard.fingerprints as f\n"
        "print([m for m in ('numpy', 'pyarrow', 'numba', 'scipy', 'xxhash') if m in sys.modules])\n"
        "for n in f.__all__: assert getattr(f, n).__name__ == n and n in dir(f)\n"
        "print([m for m in ('numba', 'scipy', 'datasketch') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:2] == ["[]", "[]"]
    assert sorted(face.__all__) == sorted(set(face.__all__))


class Speaks:
    """A column or frame of another library: all that is known of it is the Arrow C interface."""

    def __init__(self, what: Any) -> None:
        self._what, self.columns = what, ()

    def __arrow_c_stream__(self, schema: object = None) -> object:
        return self._what.__arrow_c_stream__(schema)


def test_columns_and_frames_of_other_libraries_are_taken() -> None:
    column = pa.chunked_array([["a b c", None], ["d"]])
    assert (face.hash_column(Speaks(column)) == face.hash_column(column)).all()
    assert (face.sketch_texts(Speaks(column), 1) == face.sketch_texts(column, 1)).all()
    table = pa.table({"a": column, "b": [1, 2, 3]})
    assert (face.hash_rows(Speaks(table)) == face.hash_rows(table)).all()


def test_the_labels_of_a_pandas_frame_are_no_part_of_its_rows() -> None:
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame({"a": ["x", "y", "z"], "b": [1, 2, 3]})
    rows = face.hash_rows(pa.table({"a": ["x", "y", "z"], "b": [1, 2, 3]}))
    assert (face.hash_rows(frame) == rows).all()
    assert (face.hash_rows(frame.set_index(pd.Index([7, 5, 9], name="label"))) == rows).all()
    assert (face.hash_rows(frame.iloc[::-1]) == rows[::-1]).all()
    assert (face.hash_column(frame["a"]) == face.hash_column(pa.array(["x", "y", "z"]))).all()


def test_rows_meet_by_type_as_their_page_says() -> None:
    def rows(kind: pa.DataType) -> list[int]:
        return face.hash_rows(pa.table({"a": pa.array([1, 0]).cast(kind)})).tolist()

    assert rows(pa.int8()) == rows(pa.int64()) == rows(pa.bool_())
    assert len({tuple(rows(k)) for k in (pa.int64(), pa.float64(), pa.string())}) == 3


JUNK: list[Any] = [
    None,
    5,
    1.5,
    object(),
    [1, 2, 3],
    ["a", "b"],
    [],
    np.arange(5),
    np.arange(5, dtype=np.uint32),
    np.zeros((2, 2), np.uint64),
    np.array([1, "a"], object),
]
FRAC, BLOOM, HLL = face.Frac.build(HASHES, 10), face.Bloom.build(HASHES), face.HyperLogLog.build(HASHES)
SET, KMINS = face.Resemblance.of(HASHES), face.KMins.of([b"a"])
WEIGHTED, LEAK = face.Weighted.build(HASHES, np.ones(1000)), face.InclusionTest.build(HASHES)
COLUMNS = [face.hash_column, face.hash_rows, face.word_shingles, face.character_shingles, face.sketch_texts]
JOINS = [
    one
    for sketch in (FRAC, BLOOM, HLL, SET, KMINS, WEIGHTED, LEAK, face.MinHash())
    for name in ("merge", "jaccard", "containment", "probability_jaccard")
    # A filter is asked with hashes, the others with a sketch.
    if (one := getattr(sketch, name, None)) is not None and not (sketch is BLOOM and name == "containment")
]
READERS = [
    kind.from_bytes
    for kind in (face.Frac, face.Bloom, face.HyperLogLog, face.Resemblance, face.KMins, face.Weighted)
] + [face.lean_from_bytes]
FEEDS = [
    face.Frac.build, face.Bloom.build, face.HyperLogLog.build, face.InclusionTest.build, face.Resemblance.of,
    FRAC.add, BLOOM.add, HLL.add, BLOOM.contains, BLOOM.count, BLOOM.hits, BLOOM.containment, LEAK.decide,
]  # fmt: skip


def refused(call: Any, *given: Any) -> str:
    with pytest.raises(DataguardError) as caught:
        call(*given)
    message = str(caught.value)
    assert "\n" not in message
    assert 10 < len(message) < 250
    return message


@pytest.mark.parametrize("call", [*JOINS, *READERS, *FEEDS])
def test_what_is_no_sketch_no_bytes_and_no_hashes_is_refused(call: Any) -> None:
    for junk in JUNK:
        if call in READERS and isinstance(junk, np.ndarray):
            continue  # an array is bytes
        refused(call, junk)


@pytest.mark.parametrize("call", COLUMNS)
def test_what_is_no_column_is_refused_with_a_remedy(call: Any) -> None:
    for junk in JUNK:
        if call is face.hash_rows and isinstance(junk, list) and not junk:
            continue  # a table without columns
        assert "give" in refused(call, junk)


@pytest.mark.parametrize("call", FEEDS)
def test_hashes_of_32_bits_and_row_numbers_are_refused(call: Any) -> None:
    """They would be counted as one element, or "not found": answers that look like answers."""
    assert "lower bits" in refused(call, SMALL)


def test_sketches_of_other_classes_and_schemes_do_not_meet() -> None:
    for one, other in ((SET, KMINS), (FRAC, SET), (BLOOM, HLL), (HLL, FRAC), (KMINS, SET), (LEAK, BLOOM)):
        with pytest.raises(SchemeMismatch, match=type(one).__name__):
            one.merge(other)
    with pytest.raises(SchemeMismatch, match="hash scheme 0 and 2 differ"):
        SET.jaccard(face.Resemblance.of(HASHES, hash_scheme=2))


@pytest.mark.parametrize("given", ["x", None, -1])
@pytest.mark.parametrize(
    "call",
    [
        lambda n: face.sketch_sets(HASHES, BORDERS, n),
        lambda n: face.sketch_texts(pa.array(["a"]), n),
        lambda n: SET.jaccard(SET, n),
        lambda n: face.Resemblance.of(HASHES, hash_scheme=n).to_bytes(),
        lambda n: face.Frac.build(HASHES, n),
        FRAC.downsample,
        lambda n: face.HyperLogLog.build(HASHES, n),
        lambda n: face.Bloom.build(HASHES, 10, n),
        face.BloomBuilder,
        lambda n: LEAK.decide(HASHES, n),
        lambda n: LEAK.decide(HASHES, 0.01, n),
        lambda n: face.Weighted.build(HASHES, np.ones(1000), n),
        lambda n: face.LshIndex.build(SKETCHES, threshold=n),
        lambda n: face.LshIndex.build(SKETCHES, scheme=n),
        lambda n: face.Bands(n, 2),
        face.choose_bands,
        lambda n: face.bands_within(n, 0.1),
        lambda n: face.ContainmentIndex.build(HASHES, BORDERS, scale=n),
        lambda n: face.ContainmentIndex.build(HASHES, BORDERS).query(HASHES, BORDERS, n),
        face.MinHash,
        lambda n: face.MinHash(seed=n),
        face.MinHashLSH,
        lambda n: face.MinHashLSH(num_perm=n),
    ],
)
def test_numbers_that_are_none_are_refused(call: Any, given: Any) -> None:
    refused(call, given)


def test_indexes_refuse_what_cannot_be_indexed() -> None:
    index, held = face.LshIndex.build(SKETCHES), face.ContainmentIndex.build(HASHES, BORDERS)
    for junk in JUNK:
        refused(face.LshIndex.build, junk)
        refused(index.query, junk)
        refused(held.query, junk, BORDERS)
        if not isinstance(junk, list) or junk:  # nothing to remove
            refused(index.remove, junk)
            refused(held.remove, junk)
        if isinstance(junk, (type(None), int, float, list)):
            refused(held.query, HASHES, junk)
    for bands in ((1, 2, 3), 5, ("a", 4), (64, 4)):
        refused(lambda b: face.LshIndex.build(SKETCHES, bands=b), bands)
    refused(index.query, SET)
    assert held.query(HASHES, BORDERS.tolist()).ids.tolist() == [0, 1]
    index.remove([1])
    assert len(index) == 1


def test_folders_that_are_none_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for path in (tmp_path / "file", tmp_path / "file" / "x", tmp_path / "a" / "b", 5, "", "a\0b", b"x"):
        refused(lambda p: face.LshIndex.build(SKETCHES, path=p), path)
        refused(lambda p: face.ContainmentIndex.build(HASHES, BORDERS, path=p), path)
        refused(face.LshIndex.open, path)
    face.LshIndex.build(SKETCHES, path=tmp_path / "index").close()
    assert "already" in refused(lambda p: face.LshIndex.build(SKETCHES, path=p), tmp_path / "index")
    refused(face.ContainmentIndex.open, tmp_path / "index")


def test_a_text_is_no_set() -> None:
    for call in (face.MinHash.bulk, face.MinHash().update_batch, face.KMins.of, face.hash_values):
        assert "split" in refused(call, "abc")
    refused(face.MinHash.bulk, ["a text", "another"])
    assert len(face.MinHash.bulk([["a", "text"]])) == 1


def test_a_signature_is_asked_for_by_its_name() -> None:
    lsh = face.MinHashLSH()
    for junk in JUNK:
        assert "signature" in refused(lsh.query, junk)
        assert "signature" in refused(lambda j: face.MinHashLSH().insert("a", j), junk)
        refused(face.MinHash.from_sketch, junk)
        refused(face.MinHash.union, junk, junk)


def test_digests_need_a_file(tmp_path: Path) -> None:
    for junk in (None, 5, b"abc", tmp_path, tmp_path / "none"):
        refused(face.digest_file, junk)


def test_doors_let_through_what_is_right(tmp_path: Path) -> None:
    assert is_whole(np.int8(1))
    assert is_whole(3)
    assert not is_whole(3.0)
    assert is_number(np.float32(1))
    assert not is_number("1")
    assert as_path(tmp_path) == as_path(str(tmp_path)) == tmp_path
    assert elements_of({1}) == {1}
    column = pa.array([1])
    assert arrow_column(column) is column
    with pytest.raises(UsageError, match="hash_values"):
        arrow_column([1, 2])


def test_partitions_merge_to_the_whole_through_bytes() -> None:
    parts = np.array_split(HASHES, 3)
    for kind, settings in (
        (face.Frac, {"scaled": 10}), (face.HyperLogLog, {}), (face.Bloom, {"expected": 1000}),
    ):  # fmt: skip
        made = [kind.from_bytes(kind.build(p, **settings).to_bytes()) for p in parts]  # type: ignore[attr-defined]
        assert made[0].merge(made[1]).merge(made[2]).to_bytes() == kind.build(HASHES, **settings).to_bytes()  # type: ignore[attr-defined]
    sets = [face.Resemblance.from_bytes(face.Resemblance.of(p).to_bytes()) for p in parts]
    assert sets[0].merge(sets[1]).merge(sets[2]) == SET
