"""Outputs and the faults of disks: killed writers, full disks, folders nobody may write."""

import errno
import os
import platform
import resource
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dataguard.errors import UsageError
from dataguard.formats import atomic
from dataguard.formats.atomic import atomic_directory, atomic_write
from dataguard.formats.edits import Moves
from dataguard.formats.moved import gather
from dataguard.formats.parquet import ParquetSource, rewrite_parquet

SRC = Path(__file__).resolve().parents[1] / "src"
KILLED = """
import sys, time
from dataguard.formats.atomic import atomic_directory, atomic_write
with atomic_write(sys.argv[1]) as file, atomic_directory(sys.argv[2], force=True) as folder:
    file.write(b"half")
    file.flush()
    (folder / "half").write_text("half")
    print("ready", flush=True)
    time.sleep(60)
"""


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def write(path, data=b"whole", *, force=False):
    with atomic_write(path, force=force) as file:
        file.write(data)


def start_writer(tmp_path):
    child = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(tmp_path / "f"), str(tmp_path / "d")],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(SRC)},
    )
    assert child.stdout.readline() == b"ready\n"
    return child


def test_what_a_killed_process_left_goes_with_the_next_write(tmp_path):
    with start_writer(tmp_path) as child:
        during = names(tmp_path)
        assert len(during) == 2
        write(tmp_path / "f", force=True)  # the other writer lives: its file stays
        assert names(tmp_path) == [*during, "f"]
        child.send_signal(signal.SIGKILL)
    assert names(tmp_path) == [*during, "f"]
    write(tmp_path / "other")
    assert len(names(tmp_path)) == 4  # leftovers of other targets are not touched
    write(tmp_path / "f", force=True)
    with atomic_directory(tmp_path / "d") as made:
        (made / "x").write_text("whole")
    assert names(tmp_path) == ["d", "f", "other"]
    assert names(tmp_path / "d") == ["x"]


def dead_process():
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    return child.pid


def test_a_folder_set_aside_by_a_killed_process_returns(tmp_path):
    target = tmp_path / "d"
    aside = tmp_path / f"{atomic._stem(target)}{dead_process()}-0.old"
    aside.mkdir()
    (aside / "old").write_text("kept")
    with pytest.raises(UsageError, match="already exists"), atomic_directory(target):
        pass
    assert names(tmp_path) == ["d"]
    assert names(target) == ["old"]
    aside.mkdir()
    (aside / "old").write_text("older")
    with atomic_directory(target, force=True) as made:
        (made / "new").write_text("x")
    assert names(tmp_path) == ["d"]
    assert names(target) == ["new"]


def test_names_that_are_not_ours_are_left_alone(tmp_path):
    target, dead = tmp_path / "f", dead_process()
    stem = atomic._stem(target)
    kept = [
        f".f.00000000-{dead}-0.part",  # of another host
        f"{stem}{os.getpid()}-0.part",  # of this process
        f"{stem}{os.getppid()}-0.part",
        f"{stem}{dead}-0.part.bak",
        f"{stem}{dead}-x.part",
        f"{stem}0-0.part",
        f".f.{dead}-0.part",
    ]
    for name in (*kept, f"{stem}{dead}-0.part", f"{stem}{dead}-17.part"):
        (tmp_path / name).write_text("x")
    link = tmp_path / f"{stem}{dead}-1.part"
    link.symlink_to(tmp_path / kept[0])
    write(target)
    assert names(tmp_path) == sorted([*kept, "f"])


def test_host_names_are_told_apart(tmp_path, monkeypatch):
    here = atomic._stem(tmp_path / "f")
    monkeypatch.setattr(platform, "node", lambda: "elsewhere")
    assert atomic._stem(tmp_path / "f") != here


def test_a_process_that_cannot_be_asked_counts_as_running(monkeypatch):
    def refuse(*_):
        raise PermissionError

    assert not atomic._alive(dead_process())
    monkeypatch.setattr(os, "kill", refuse)
    assert atomic._alive(1)
    monkeypatch.setattr(atomic.os, "name", "nt")
    assert atomic._alive(dead_process())


def test_without_force_nobody_is_overwritten_even_between_check_and_name(tmp_path, monkeypatch):
    target = tmp_path / "f"
    real = os.link

    def slow(*args):
        target.write_text("theirs")
        return real(*args)

    monkeypatch.setattr(os, "link", slow)
    with pytest.raises(UsageError, match="already exists"):
        write(target)
    assert target.read_text() == "theirs"
    assert names(tmp_path) == ["f"]


def test_without_hard_links(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    write(tmp_path / "f")
    assert (tmp_path / "f").read_bytes() == b"whole"
    assert names(tmp_path) == ["f"]


def test_names_as_long_as_the_file_system_allows(tmp_path):
    name = "長" * 85  # 255 bytes
    write(tmp_path / name)
    assert names(tmp_path) == [name]
    with pytest.raises(UsageError, match="cannot be written"):
        write(tmp_path / (name + "x"))


@pytest.fixture
def small_files():
    """No file may grow beyond 100 kB, which behaves like a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, handler)


def numbers(path, rows=100_000):
    values = np.random.default_rng(0).integers(0, 1 << 62, rows)
    pq.write_table(pa.table({"x": values}), path)
    return ParquetSource(path, path.name)


def rewrite(source, target, *, force=False):
    moved = gather(source, [Moves("x", np.array([0, 1]), np.array([1, 0]))])
    with atomic_write(target, force=force) as out:
        rewrite_parquet(source, moved, out)


def test_a_file_that_cannot_grow_is_one_line(tmp_path, request):
    source = numbers(tmp_path / "in.parquet")
    (tmp_path / "old").write_bytes(b"old")
    request.getfixturevalue("small_files")
    with pytest.raises(
        UsageError, match=r"f: cannot be written \(File too large\); free some space"
    ) as caught:
        write(tmp_path / "f", bytes(200_000))
    assert "\n" not in str(caught.value)
    with pytest.raises(UsageError, match="cannot be written") as caught:
        rewrite(source, tmp_path / "old", force=True)
    assert "\n" not in str(caught.value)
    assert names(tmp_path) == ["in.parquet", "old"]
    assert (tmp_path / "old").read_bytes() == b"old"


@pytest.fixture
def tiny_disk(tmp_path):
    """A disk of 64 kB, where this user may mount one."""
    place = tmp_path / "disk"
    place.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(place)], capture_output=True, check=False
    )
    if done.returncode:
        pytest.skip("may not mount")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_full_disk_is_one_line_and_nothing_is_left(tiny_disk, tmp_path):
    source = numbers(tmp_path / "in.parquet", 20_000)
    with pytest.raises(
        UsageError, match=r"f: cannot be written \(No space left on device\); free some space"
    ):
        write(tiny_disk / "f", bytes(100_000))
    with pytest.raises(UsageError, match=r"cannot be written \(No space left on device\)"):
        rewrite(source, tiny_disk / "out.parquet")

    def fill():
        with atomic_directory(tiny_disk / "d") as made:
            (made / "x").write_bytes(bytes(100_000))

    with pytest.raises(UsageError, match=r"d: cannot be written \(No space left on device\)"):
        fill()
    assert names(tiny_disk) == []
    write(tiny_disk / "f", bytes(30_000))


def test_a_folder_nobody_may_write(tmp_path):
    """As another user where the tests run as root, whom no permission stops."""
    folder = tmp_path / "closed"
    folder.mkdir()
    folder.chmod(0o555)
    code = (
        "import os, sys\n"
        "from dataguard.errors import UsageError\n"
        "from dataguard.formats.atomic import atomic_directory, atomic_write\n"
        "if os.getuid() == 0: os.setuid(65534)\n"
        "for opened in (atomic_write, atomic_directory):\n"
        "    try:\n"
        "        with opened(sys.argv[1]): pass\n"
        "    except UsageError as error: print(error)\n"
    )
    for parent in [folder, *folder.parents][:-1]:
        if parent.stat().st_uid == os.getuid() and parent.stat().st_mode & 0o005 != 0o005:
            parent.chmod(0o755)  # the other user has to get there
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder / "f")],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(SRC), "PYTHONDONTWRITEBYTECODE": "1"},
    )
    line = f"{folder / 'f'}: cannot be written (Permission denied)"
    assert done.stdout.splitlines() == [line, line]
    assert names(folder) == []


def test_two_processes_that_write_at_once_give_one_whole_file(tmp_path):
    code = (
        "import sys\n"
        "from dataguard.formats.atomic import atomic_write\n"
        "for i in range(20):\n"
        "    with atomic_write(sys.argv[1], force=True) as f:\n"
        "        f.write(sys.argv[2].encode() * 100000)\n"
    )
    children = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path / "f"), letter],
            env={**os.environ, "PYTHONPATH": str(SRC)},
            stderr=subprocess.PIPE,
        )
        for letter in "ab"
    ]
    assert [child.communicate(timeout=60)[1] for child in children] == [b"", b""]
    assert (tmp_path / "f").read_bytes() in (b"a" * 100_000, b"b" * 100_000)
    assert names(tmp_path) == ["f"]
