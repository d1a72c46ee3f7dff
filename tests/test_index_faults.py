"""Index folders after kills, power cuts, flipped bits and forgeries: whole or refused, never wrong, never a crash."""

from __future__ import annotations

import json
import os
import shutil
import signal
import struct
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import xxhash

from dataguard.canonical import canonical_json
from dataguard.errors import DataguardError, DecodeError, SchemeMismatch, UsageError
from dataguard.fingerprints.index.container import BLOCK
from dataguard.fingerprints.index.containment import ContainmentIndex
from dataguard.fingerprints.index.lsh import LshIndex

FIXED, ENTRY = 112, 16
ROWS, SIZE, CUT = 3000, 16, (4, 4)


def corpus() -> np.ndarray:
    rng = np.random.default_rng(1)
    sig = rng.integers(0, 1 << 32, (ROWS, SIZE), dtype=np.uint64).astype(np.uint32)
    sig[ROWS // 2 :] = sig[: ROWS - ROWS // 2]
    sig[ROWS // 2 :, 12:] ^= 5
    return sig


def sets() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(2)
    return rng.integers(0, 1 << 64, 6000, dtype=np.uint64), np.arange(0, 6001, 20)


def build_bands(path: Path) -> None:
    LshIndex.build(corpus(), bands=CUT, path=path, memory=1 << 16).close()  # two segments


def build_sets(path: Path) -> None:
    ContainmentIndex.build(*sets(), path=path).close()


def change_bands(path: Path) -> None:
    with LshIndex.open(path, write=True) as index:
        index.remove(np.arange(0, 1000, 3))
        index.add(corpus()[:100] ^ 9)
        index.flush()
        index.merge()


def content(path: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted(path.iterdir()) if p.name != "lock"}


def killed_after(writes: int, work: Callable[[], object]) -> bool:
    """Run work in a child that is killed within its n-th write to an index file; return whether it was."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        left, real, rename = writes, os.pwrite, Path.replace

        def step() -> bool:
            nonlocal left
            left -= 1
            return left == 0

        def pwrite(file: int, data: memoryview, at: int) -> int:
            if step():
                real(file, memoryview(data)[: len(data) // 2], at)
                os.kill(os.getpid(), signal.SIGKILL)
            return real(file, data, at)

        def replace(self: Path, target: Path) -> Path:
            if step():
                os.kill(os.getpid(), signal.SIGKILL)
            return rename(self, target)

        os.pwrite, Path.replace = pwrite, replace  # type: ignore[method-assign]
        try:
            work()
        finally:
            os._exit(0)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


# --- kills and power cuts -------------------------------------------------------------------------------


@pytest.mark.parametrize("build", [build_bands, build_sets])
def test_a_killed_build_goes_on(build: Callable[[Path], None], tmp_path: Path) -> None:
    build(tmp_path / "whole")
    whole = content(tmp_path / "whole")
    kills, at = 0, 1
    while True:
        path = tmp_path / f"i{at}"
        if not killed_after(at, lambda path=path: build(path)):
            break
        kills += 1
        with pytest.raises(UsageError, match="no finished index"):
            LshIndex.open(path)
        # A second kill on the way, then the end: whatever was there, the bytes are those of an undisturbed build.
        killed_after(3, lambda path=path: build(path))
        if not (path / "index.json").exists():
            build(path)
        assert content(path) == whole
        shutil.rmtree(path)
        at += 1 if at < 5 else 7
    assert content(tmp_path / f"i{at}") == whole
    assert kills > 4


def test_finished_parts_are_not_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build_bands(tmp_path / "warm")
    assert killed_after(40, lambda: build_bands(tmp_path / "i"))
    written: list[int] = []
    real = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda f, d, at: (written.append(len(d)), real(f, d, at))[1])
    build_bands(tmp_path / "i")
    again = sum(written)
    written.clear()
    build_bands(tmp_path / "j")
    assert again < 0.7 * sum(written)
    assert content(tmp_path / "i") == content(tmp_path / "j")


def test_power_cuts(tmp_path: Path) -> None:
    """What was not synced may be anything: the unfinished file cut, zeroed or garbled anywhere is made good."""
    build_bands(tmp_path / "whole")
    whole, rng = content(tmp_path / "whole"), np.random.default_rng(4)
    for case in range(24):
        path = tmp_path / f"i{case}"
        assert killed_after(int(rng.integers(2, 40)), lambda path=path: build_bands(path))
        for left in path.glob("*.part"):
            data = bytearray(left.read_bytes())
            if data and case % 4 == 0:
                data = data[: int(rng.integers(0, len(data)))]
            elif data:
                low = int(rng.integers(0, len(data)))
                high = min(len(data), low + int(10 ** rng.uniform(0, 5)))
                data[low:high] = bytes(high - low) if case % 4 == 1 else rng.bytes(high - low)
            left.write_bytes(bytes(data))
        build_bands(path)
        assert content(path) == whole


def test_other_input_is_not_mixed_in(tmp_path: Path) -> None:
    killed_after(20, lambda: build_bands(tmp_path / "i"))
    other = corpus()[::-1].copy()
    LshIndex.build(other, bands=CUT, path=tmp_path / "i", memory=1 << 16).close()
    LshIndex.build(other, bands=CUT, path=tmp_path / "j", memory=1 << 16).close()
    assert content(tmp_path / "i") == content(tmp_path / "j")


def test_a_killed_change_is_done_or_not(tmp_path: Path) -> None:
    build_bands(tmp_path / "start")
    queries = corpus()[::50]

    def answer(path: Path) -> list[bytes]:
        matches = LshIndex.open(path, verify=True).query(queries, 0.5)
        return [matches.offsets.tobytes(), matches.ids.tobytes(), matches.estimates.tobytes()]

    before = answer(tmp_path / "start")
    shutil.copytree(tmp_path / "start", tmp_path / "end")
    change_bands(tmp_path / "end")
    after, seen, at = answer(tmp_path / "end"), [], 1
    while True:
        path = tmp_path / f"i{at}"
        shutil.copytree(tmp_path / "start", path)
        if not killed_after(at, lambda path=path: change_bands(path)):
            break
        seen.append(answer(path) == after)
        assert answer(path) in (before, after)
        with LshIndex.open(path, write=True) as index:  # the next writer clears what was left
            index.flush()
        assert not list(path.glob("*.part"))
        shutil.rmtree(path)
        at += 3
    assert set(seen) == {False, True}
    assert len(seen) > 8


# --- damage ---------------------------------------------------------------------------------------------


def folders(tmp_path: Path) -> list[tuple[Path, Callable[[Path], object]]]:
    build_bands(tmp_path / "b")
    with LshIndex.open(
        tmp_path / "b", write=True, memory=1 << 16
    ) as index:  # too little to merge the segments
        index.remove(np.arange(50))
    build_sets(tmp_path / "s")
    with ContainmentIndex.open(tmp_path / "s", write=True) as other:
        hashes, offsets = sets()
        other.add(hashes[:400], offsets[:21], np.arange(20)[::-1] + 1000)
        other.remove(np.array([3, 1007]))

    def ask_bands(path: Path) -> list[bytes]:
        matches = LshIndex.open(path).query(corpus()[::7], 0.5)
        return [matches.offsets.tobytes(), matches.ids.tobytes(), matches.estimates.tobytes()]

    def ask_sets(path: Path) -> list[bytes]:
        found = ContainmentIndex.open(path).query(*sets(), 0.5)
        return [
            found.offsets.tobytes(),
            found.ids.tobytes(),
            found.shared.tobytes(),
            found.set_sizes.tobytes(),
        ]

    return [(tmp_path / "b", ask_bands), (tmp_path / "s", ask_sets)]


def opened(path: Path, *, verify: bool) -> object:
    return (LshIndex if path.name == "b" else ContainmentIndex).open(path, verify=verify)


def test_flipped_bits_and_cuts_are_refused(tmp_path: Path) -> None:
    rng, lazily = np.random.default_rng(5), 0
    for path, ask in folders(tmp_path):
        right = ask(path)
        files = [p for p in sorted(path.iterdir()) if p.name != "lock"]
        assert {p.name.split("-")[0] for p in files} == {"index.json", "segment", "removed"}
        for file in files:
            data = file.read_bytes()
            places = [
                *range(0, min(len(data), 300), 9),
                *rng.integers(0, len(data), 40).tolist(),
                len(data) - 1,
            ]
            for at in places:
                wrong = bytearray(data)
                wrong[at] ^= 1 << int(rng.integers(0, 8))
                file.write_bytes(bytes(wrong))
                with pytest.raises(DataguardError) as caught:
                    opened(path, verify=True)
                assert "\n" not in str(caught.value)
                try:
                    assert ask(path) == right  # damage where nobody looked
                except (DecodeError, SchemeMismatch):
                    lazily += 1
            for size in (0, 1, 50, FIXED, len(data) // 2, len(data) - 1):
                file.write_bytes(data[:size])
                with pytest.raises(DataguardError):
                    opened(path, verify=False)
            file.write_bytes(data + b"\0")
            if file.name != "index.json":
                with pytest.raises(DecodeError, match="bytes instead of"):
                    opened(path, verify=False)
            file.unlink()
            with pytest.raises(DataguardError):
                opened(path, verify=False)
            file.write_bytes(data)
        assert ask(path) == right
    assert lazily > 300


def test_swapped_segments_are_refused(tmp_path: Path) -> None:
    build_bands(tmp_path / "b")
    one, two = tmp_path / "b" / "segment-000001.dgx", tmp_path / "b" / "segment-000002.dgx"
    shutil.copy(two, one)
    with pytest.raises(DecodeError, match="not the file the manifest names"):
        LshIndex.open(tmp_path / "b")


# --- forgeries: every check sum fits --------------------------------------------------------------------


def forge(path: Path, name: str, change: Callable[[bytearray], None]) -> None:
    """Change a segment, then make all sums in it and in the manifest fit again."""
    file = path / name
    data = bytearray(file.read_bytes())
    change(data)
    data[104:112] = xxhash.xxh3_64_intdigest(bytes(data[:104])).to_bytes(8, "little")
    parts = struct.unpack_from("<I", data, 16)[0]
    numbers = struct.unpack_from("<8Q", data, 24)
    kind = struct.unpack_from("<H", data, 8)[0]
    lengths = shapes(kind, numbers)
    at = -(-(FIXED + ENTRY * parts) // 64) * 64
    if len(lengths) == parts and sum(lengths) < len(data):
        for number, length in enumerate(lengths):
            blocks = [data[at + i : at + min(i + BLOCK, length)] for i in range(0, length, BLOCK)]
            table = b"".join(xxhash.xxh3_64_intdigest(bytes(b)).to_bytes(8, "little") for b in blocks)
            at += -(-length // 64) * 64
            data[at : at + len(table)] = table
            at += -(-len(table) // 64) * 64
            total = xxhash.xxh3_64_intdigest(table)
            check = xxhash.xxh3_64_intdigest(struct.pack("<QQ", total, number) + bytes(data[:FIXED]))
            struct.pack_into("<QQ", data, FIXED + ENTRY * number, total, check)
    file.write_bytes(bytes(data))
    manifest = json.loads((path / "index.json").read_bytes())
    for entry in manifest["segments"]:
        if entry[0] == name:
            entry[1] = f"{xxhash.xxh3_64_intdigest(bytes(data[: FIXED + ENTRY * parts])):016x}"
    forge_manifest(path, manifest)


def forge_manifest(path: Path, manifest: dict) -> None:  # type: ignore[type-arg]
    manifest.pop("check")
    manifest["check"] = f"{xxhash.xxh3_64_intdigest(canonical_json(manifest)):016x}"
    (path / "index.json").write_bytes(canonical_json(manifest) + b"\n")


def shapes(kind: int, n: tuple[int, ...]) -> list[int]:
    """Section "Index" of docs/formats.md."""
    if kind == 1:
        starts = 4 * ((1 << max(1, (n[0] // 2).bit_length() - 1)) + 1) if n[0] < 1 << 30 else 1 << 60
        return [4 * n[0] * n[1], 0 if n[4] else 8 * n[0]] + [starts, 4 * n[0], 2 * n[0] + 64] * min(
            n[2], 9000
        )
    bits = max(1, (n[1] // 2).bit_length() - 1, max(0, n[0] - 1).bit_length())
    starts = 4 * ((1 << bits) + 1) if bits < 40 else 1 << 60
    return [4 * n[0], 0 if n[3] else 8 * n[0], starts, 8 * (n[1] + 8)]


def test_forgeries_do_no_harm(tmp_path: Path) -> None:
    """Sizes, directories, rows and words of an enemy: refused, or a wrong answer of his own making; no crash."""
    rng, refused = np.random.default_rng(6), 0
    for path, ask in folders(tmp_path):
        name = "segment-000001.dgx"
        keep = {p.name: p.read_bytes() for p in path.iterdir()}
        size = len(keep[name])

        def attacks(size: int = size) -> list[Callable[[bytearray], None]]:
            made: list[Callable[[bytearray], None]] = []
            for value in (0, 1, 5, 1 << 20, 1 << 31, 1 << 40, (1 << 64) - 1):
                made += [
                    lambda d, f=field, v=value: struct.pack_into("<Q", d, 24 + 8 * f, v) for field in range(8)
                ]
            made += [
                lambda d, v=parts: struct.pack_into("<I", d, 16, v) for parts in (0, 1, 5000, (1 << 32) - 1)
            ]
            for _ in range(120):
                at, length = int(rng.integers(256, size - 64)) & ~3, int(10 ** rng.uniform(0.7, 4.5)) & ~3
                value = rng.choice([b"\xff\xff\xff\xff", b"\0\0\0\0", b"\xb8\x0b\0\0", b"\x7f\0\0\x80"])
                made.append(
                    lambda d, a=at, n=length, v=value: d.__setitem__(
                        slice(a, a + n), (bytes(v) * n)[:n][: len(d) - a]
                    )
                )
            return made

        for attack in attacks():
            forge(path, name, attack)
            for act in (ask, lambda p: opened(p, verify=True), merged):
                try:
                    act(path)
                except DataguardError as error:
                    refused += 1
                    assert "\n" not in str(error)  # noqa: PT017
            for gone in path.iterdir():
                gone.unlink()
            for file, data in keep.items():
                (path / file).write_bytes(data)
    assert refused > 250


def merged(path: Path) -> None:
    index = (LshIndex if path.name == "b" else ContainmentIndex).open(path, write=True)
    try:
        index.merge()
    finally:
        index._store.abandon()


def test_forged_manifests(tmp_path: Path) -> None:
    build_bands(tmp_path / "b")
    path = tmp_path / "b"
    data = json.loads((path / "index.json").read_bytes())
    for field, values in {
        "format": ["dataguard-index/2", "x", None],
        "numbers": [
            [1, 1, 1],
            [0, 0, 0, 0],
            [16, 5, 4, 0],
            [16, 4, 4, 2_000_000],
            ["16", 4, 4, 0],
            [16, 4, 4, -1],
            None,
        ],
        "segments": [
            [["../b/segment-000001.dgx", "", "", ""]],
            [["segment-000001.dgx"]],
            [1],
            {},
            [["lock", "", "", ""]],
        ],
        "next_id": ["-1", 5, "1" * 30],
        "hash_scheme": [1 << 20, True, 1],
        "next_file": [None, -3],
        "kind": ["postings", 4],
    }.items():
        for value in values:
            forge_manifest(path, data | {field: value})
            with pytest.raises((DecodeError, SchemeMismatch, UsageError)) as caught:
                LshIndex.open(path)
            assert "\n" not in str(caught.value)
    for raw in (b"", b"[]", b"{", b"\xff", b'{"check":1}', b"[" * 100_000):
        (path / "index.json").write_bytes(raw)
        with pytest.raises(DecodeError):
            LshIndex.open(path)
