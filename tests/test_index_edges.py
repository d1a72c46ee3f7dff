"""Edges of the indexes: thresholds between slots, the last id, wide bands, hot bands, bounds kept by changes, links."""

from __future__ import annotations

import json
import os
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import xxhash

from dataguard.canonical import parse_json
from dataguard.errors import DecodeError, UsageError
from dataguard.fingerprints.index import _kernels as kernels
from dataguard.fingerprints.index.containment import ContainmentIndex
from dataguard.fingerprints.index.folder import Entry, Folder, write_removed
from dataguard.fingerprints.index.lsh import LshIndex
from test_index_faults import forge_manifest


def signatures(rows: int, size: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 1 << 32, (rows, size), dtype=np.uint64).astype(np.uint32)


@pytest.mark.parametrize(("equal", "size"), [(127, 128), (91, 128), (64, 96), (1, 3)])
def test_a_threshold_between_two_millionths_outlives_the_folder(
    equal: int, size: int, tmp_path: Path
) -> None:
    sig = signatures(2, size)
    sig[1, :equal] = sig[0, :equal]
    built = LshIndex.build(sig, threshold=equal / size, bands=(size, 1), path=tmp_path / "i")
    built.close()
    for index in (built, LshIndex.open(tmp_path / "i")):
        assert index.query(sig[:1]).ids.tolist() == [0, 1]
        assert index.query(sig[:1], (equal + 0.5) / size).ids.tolist() == [0]


def test_the_ends_of_the_threshold_choose_bands() -> None:
    sig = signatures(40, 16)
    sig[1], sig[2, :15] = sig[0], sig[0, :15]
    exact, all_that_meet = LshIndex.build(sig, threshold=1.0), LshIndex.build(sig, threshold=0.0)
    assert exact.query(sig[:1]).ids.tolist() == [0, 1]
    assert all_that_meet.query(sig[:1]).ids.tolist() == [0, 1, 2]


def test_the_last_id_is_given_once(tmp_path: Path) -> None:
    sig = signatures(2, 8)
    last = np.array([2**64 - 1], np.uint64)
    LshIndex.build(sig[:1], bands=(2, 4), ids=last, path=tmp_path / "i").close()
    with LshIndex.open(tmp_path / "i", write=True) as index:
        with pytest.raises(UsageError, match="no numbers are left"):
            index.add(sig[1:])
        index.add(sig[1:], np.array([5]))
        index.remove(np.zeros(0))  # nothing, of whatever type
    assert len(LshIndex.open(tmp_path / "i")) == 2


def test_a_scheme_has_16_bits(tmp_path: Path) -> None:
    for scheme in (-1, 1 << 16):
        with pytest.raises(UsageError, match="hash scheme"):
            LshIndex.build(signatures(2, 8), scheme=scheme, path=tmp_path / "i")
        with pytest.raises(UsageError, match="hash scheme"):
            ContainmentIndex.build(np.zeros(1, np.uint64), np.array([0, 1]), scheme=scheme)


def test_bands_of_a_thousand_slots() -> None:
    """The compiler refuses tuples of 1,000; wide bands hash to the same as narrow ones do."""
    sig = signatures(12, 1301)
    sig[1, 5:] = sig[0, 5:]
    sig[2, :1200] = sig[0, :1200]
    keys = np.arange(1302, dtype=np.uint32)
    one, other = np.zeros((1, 12), np.uint64), np.zeros((1, 12), np.uint64)
    kernels.hash_bands(sig[:, :5].copy(), keys[:6], 0, (0,) * 5, 0, one)
    kernels.hash_bands(sig[:, :5].copy(), keys[:6], 0, np.zeros(5, np.uint8), 0, other)
    assert (one == other).all()
    index = LshIndex.build(sig, bands=(1, 1200))
    assert index.query(sig[:1], 0.5).ids.tolist() == [0, 2]


@pytest.mark.parametrize("count", [40, 5000])
def test_many_rows_of_one_query(count: int) -> None:
    """Beyond 32 rows by a heap, beyond 2,048 by counting digits: each row once, ascending."""
    rng = np.random.default_rng(count)
    rows = rng.integers(0, 1 << 28, count, dtype=np.uint64)
    rows[count // 2 :] = rows[: count - count // 2]
    found = np.concatenate([rows, np.array([1 << 32], np.uint64)])
    offsets, out = np.zeros(3, np.int64), np.zeros(count + 1, np.uint32)
    end = kernels.distinct_rows(found, offsets, out)
    assert out[:end].tolist() == [*np.unique(rows).tolist(), 0]
    assert offsets.tolist() == [0, end - 1, end]


def test_a_query_takes_the_room_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A row that meets all others in one band of 16 takes room for that band, not for all rows in every band."""
    monkeypatch.setattr("dataguard.fingerprints.index.lsh._ROOM", 1000)
    sig = signatures(150_000, 16)
    sig[:, 0] = 7
    index = LshIndex.build(sig, bands=(16, 1), threshold=0.5)
    index.query(sig[:1])
    tracemalloc.start()
    found = index.query(sig[:8])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.ids.tolist() == list(range(8))
    assert (
        peak < 8 << 20
    )  # 150,000 candidates in 8 bytes and once more in 4; every row in every band would be 18 MiB


def test_changes_keep_the_memory_bound(tmp_path: Path) -> None:
    """What is flushed or merged becomes segments within the bound, and removed rows are not copied at once."""
    sig, memory = signatures(60_000, 64), 1 << 20
    LshIndex.build(sig[:100], bands=(4, 8), path=tmp_path / "i").close()
    with LshIndex.open(tmp_path / "i", write=True, memory=memory) as index:
        most = memory // 34
        for begin in range(0, 60_000, 6000):
            index.add(sig[begin : begin + 6000])
        index.flush()
        assert len(index) == 60_100
        assert 2 < len(index.segments) < 8
        assert max(len(s) for s, _ in index.segments) <= most
    with LshIndex.open(tmp_path / "i", write=True, memory=1 << 26) as index:
        index.remove(np.arange(0, 60_100, 50))
        tracemalloc.start()
        index.merge()
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert len(index.segments) == 1
    # Signatures take 15 MiB; a copy of them all at once would come on top of hashes (2 MiB) and chunks (3 of 4 MiB).
    assert peak < (15 << 20) + (2 << 20)


def test_finished_segments_are_not_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of five segments the third is interrupted: the first two stay, even where a file of no sense lies behind them."""
    sig, written, steps = signatures(9000, 16), [0], [0]
    real = os.pwrite

    def counted(file: int, data: memoryview, at: int) -> int:
        done = real(file, data, at)
        written[0] += done
        return done

    def watch(_what: str, _done: int, _total: int) -> None:
        steps[0] += 1
        if steps[0] == 5:
            raise KeyboardInterrupt

    def build(name: str, **options: object) -> None:
        LshIndex.build(sig, bands=(4, 4), path=tmp_path / name, memory=1 << 16, **options).close()  # type: ignore[arg-type]

    monkeypatch.setattr(os, "pwrite", counted)
    build("whole")
    whole, written[0] = written[0], 0
    with pytest.raises(KeyboardInterrupt):
        build("i", progress=watch)
    before, written[0] = written[0], 0
    (tmp_path / "i" / "segment-000004.dgx").write_bytes(b"no sense")
    build("i")
    assert written[0] <= whole - before + whole // 100
    for file in (tmp_path / "whole").glob("*.*"):
        assert (tmp_path / "i" / file.name).read_bytes() == file.read_bytes()
    hashes, offsets = np.arange(50, dtype=np.uint64), np.array([0, 50])
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "segment-000001.dgx").write_bytes(b"no sense")
    ContainmentIndex.build(hashes, offsets, path=tmp_path / "s").close()
    assert len(ContainmentIndex.open(tmp_path / "s", verify=True)) == 1


def test_links_are_not_written_through(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_bytes(b"of somebody")
    (tmp_path / "i").mkdir()
    (tmp_path / "i" / "segment-000001.dgx.part").symlink_to(precious)
    with pytest.raises(UsageError, match="cannot be written"):
        LshIndex.build(signatures(9, 8), bands=(2, 4), path=tmp_path / "i")
    assert precious.read_bytes() == b"of somebody"


def test_pipes_and_folders_under_our_names(tmp_path: Path) -> None:
    """A pipe is refused without waiting for a writer; a folder with a segment's name is left alone."""
    path = tmp_path / "i"
    LshIndex.build(signatures(9, 8), bands=(2, 4), path=path).close()
    (path / "segment-000009.dgx").mkdir()
    with LshIndex.open(path, write=True) as index:
        index.add(signatures(3, 8, 2))
    assert len(LshIndex.open(path)) == 12
    for name in [p.name for p in path.glob("segment-*") if p.is_file()] + ["index.json"]:
        keep = (path / name).read_bytes()
        (path / name).unlink()
        os.mkfifo(path / name)
        with pytest.raises(DecodeError):
            LshIndex.open(path)
        (path / name).unlink()
        (path / name).write_bytes(keep)


def test_forged_removals_and_names(tmp_path: Path) -> None:
    """A row removed twice, a segment named twice, a next file that is in use, a check sum that is none: refused."""
    path = tmp_path / "b"
    with LshIndex.build(signatures(90, 8), bands=(2, 4), path=path) as index:
        index.remove(np.arange(4))
    data = parse_json((path / "index.json").read_bytes(), max_bytes=1 << 20, where="")
    assert isinstance(data, dict)
    (entry,) = data["segments"]
    forgeries: list[Callable[[dict], None]] = [  # type: ignore[type-arg]
        lambda d: d.update(segments=[entry, entry]),
        lambda d: d.update(next_file=1),
        lambda d: d.update(next_file=1 << 40),
        lambda d: d.update(segments=[[entry[0], "", "", ""]]),
        lambda d: d.update(segments=[[*entry[:3], "x"]]),
        lambda d: d.update(next_id=str(2**64 + 1)),
    ]
    for change in forgeries:
        made = dict(data)
        change(made)
        forge_manifest(path, made)
        with pytest.raises(DecodeError):
            LshIndex.open(path)
    forge_manifest(path, dict(data))
    assert len(LshIndex.open(path)) == 86
    folder = Folder(path)
    twice = write_removed(folder, 7, Entry(entry[0], entry[1]), np.array([3, 3], np.uint32))
    folder.release()
    named = [[twice.file, twice.check, twice.removed, twice.removed_check]]
    forge_manifest(path, {**data, "next_file": 8, "segments": named})
    with pytest.raises(DecodeError, match="twice"):
        LshIndex.open(path)


def test_hashes_made_to_collide_cost_no_square() -> None:
    """80,000 hashes whose keys all begin at one place of the table: 0.01 s where 3.2e9 steps take 1.8 s."""
    step, *factors = (
        np.uint64(pow(f, -1, 1 << 64)) for f in (0x9E3779B97F4A7C15, 0xD6E8FEB86659FD93, 0x9FB21C651E98DF25)
    )
    made = np.arange(1, 80_001, dtype=np.uint64) * step
    for factor in factors:
        made = (made ^ (made >> np.uint64(32))) * factor
    made ^= made >> np.uint64(32)
    made = np.concatenate([made[::-1], made[:7]])
    index = ContainmentIndex.build(made[:100], np.array([0, 100]))
    index.query(made[:200][::-1], np.array([0, 200]), 0.001)  # compiled before the clock
    started = time.process_time()
    found = index.query(made, np.array([0, len(made)]), 0.001)
    assert time.process_time() - started < 0.6
    assert found.query_sizes.tolist() == [80_000]
    assert found.shared.tolist() == [100]


def test_the_folder_of_the_formats_page(tmp_path: Path) -> None:
    """The vector of section 17 of docs/formats.md, and that the page says so."""
    sig = np.arange(64, dtype=np.uint32).reshape(4, 16)
    LshIndex.build(sig, bands=(2, 8), threshold=0.5, path=tmp_path / "i").close()
    data = (tmp_path / "i" / "segment-000001.dgx").read_bytes()
    manifest = json.loads((tmp_path / "i" / "index.json").read_bytes())
    sums = [xxhash.xxh3_64_hexdigest(data), manifest["segments"][0][1], manifest["check"]]
    assert len(data) == 1472
    assert sums == ["2eef63230b7d2771", "e3c4ef2795054e99", "023da862b7e08b44"]
    page = (Path(__file__).resolve().parents[1] / "docs" / "formats.md").read_text()
    assert all(total in page for total in sums)


@pytest.mark.parametrize("copies", [1, 2, 40])
def test_repeats_shrink_the_directory_where_it_is(copies: int) -> None:
    """Sets with repeats make the segment that distinct ones make, in the memory stated."""
    rng = np.random.default_rng(copies)
    once = rng.integers(0, 1 << 64, (512, 128), dtype=np.uint64)
    plain = ContainmentIndex.build(once.ravel(), np.arange(513) * 128).segments[0]
    many = rng.permuted(np.concatenate([once] * copies + [once[:, :1]], axis=1), axis=1)
    ContainmentIndex.build(np.zeros(9, np.uint64), np.array([0, 9]))
    ContainmentIndex.build(
        many[:2].ravel(), np.arange(3) * many.shape[1]
    )  # compiled before memory is counted
    tracemalloc.start()
    made = ContainmentIndex.build(many.ravel(), np.arange(513) * many.shape[1]).segments[0]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 24 * many.size + (1 << 18)
    assert made.bits == plain.bits
    for name in ("starts", "words", "sizes"):
        assert (getattr(made, name) == getattr(plain, name)).all()
