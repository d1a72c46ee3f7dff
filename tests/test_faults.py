"""Faults of the commands: killed, interrupted, out of space, without permission, several at once.

What must hold is in `faulty_world`: nothing half-written under its name, nothing acknowledged lost, ledger and
vault in order, the next run works and clears up. benchmarks/faults.py does the same some thousand times.
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from dataguard import housing, protect
from dataguard.errors import UsageError
from dataguard.formats import atomic
from dataguard.vault import Vault
from faulty import Shell
from faulty_world import (
    KINDS,
    Commands,
    Tally,
    base_world,
    copy_world,
    cut,
    cuts_at_calls,
    interesting,
    random_cuts,
)

QUICK = tuple((kind, False) for kind in KINDS)
ALL = tuple(
    (kind, force) for kind in KINDS for force in (False, True) if not (force and kind in ("init", "trace"))
)
NOBODY = 65534
slow = pytest.mark.long


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    root = tmp_path_factory.mktemp("faults")
    with Shell(root, root / "base") as shell:
        yield base_world(shell, root / "base")


@pytest.fixture
def world(base, tmp_path):
    made = copy_world(base, base.root.parent / tmp_path.name)
    yield made
    shutil.rmtree(made.root)


def some(draw, per_kind):
    """Return what picks a few of the calls at which a command may be cut, or all."""

    def choose(calls):
        found = list(interesting(calls))
        return found if per_kind is None else sorted(draw.sample(found, min(per_kind, len(found))))

    return choose


# --- kill -9 -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [5, pytest.param(30, marks=slow)])
def test_killed_at_any_time(base, tmp_path, count):
    tally = Tally()
    random_cuts(base, base.root.parent / f"at-any-time-{count}", count, count, tally)
    assert tally.violations == []
    assert sum(tally.missed.values()) < count / 2, "most kills come before the end"


@pytest.mark.parametrize(("per_kind", "kinds"), [(1, ALL[:-2]), pytest.param(6, ALL, marks=slow)])
def test_killed_between_two_calls(base, per_kind, kinds):
    draw, tally = random.Random(per_kind), Tally()
    folder = base.root.parent / f"at-calls-{per_kind}"
    cuts_at_calls(base, folder, draw, tally, some(draw, per_kind), kinds=kinds)
    assert tally.violations == []
    assert sum(tally.missed.values()) < sum(tally.cuts.values()) / 2
    assert sum(tally.leftovers.values()) > 0, "some kills leave something to clear up"


@pytest.mark.parametrize("step", ["rename", "remove"])
def test_init_killed_at_its_last_steps_can_be_used(base, tmp_path, step):
    """Before the settings have their name nothing counts; after, everything does."""
    calls = base.shell.calls("init", "--vault", base.root.parent / f"last-{step}")
    n = max(i for i, text in enumerate(calls, start=1) if text.startswith(step))
    vault = base.root.parent / f"killed-{step}"
    assert base.shell.run("init", "--vault", vault, at=n, what=signal.SIGKILL).code == -signal.SIGKILL
    again = base.shell.run("init", "--vault", vault)
    assert again.code == (0 if step == "rename" else 2), again.text
    assert base.shell.run("vault", "check", "--vault", vault).code == 0
    assert not (vault / housing._UNFINISHED).exists()


def test_a_finished_vault_is_not_cleared_by_a_later_init(tmp_path):
    """The mark of an unfinished `init` goes when the vault is opened: no later one may clear its keys."""
    Vault.create(tmp_path / "v").close()
    (tmp_path / "v" / housing._UNFINISHED).touch()
    Vault.open(tmp_path / "v").close()
    (tmp_path / "v" / "vault.json").unlink()
    with pytest.raises(Exception, match="never overwritten"):
        Vault.create(tmp_path / "v")


def test_a_folder_that_nobody_names_but_no_dead_process_made_stays(world):
    """The registry may have been restored from an older backup: then such folders are all that is left."""
    own = world.vault / "datasets" / ("0" * 32) / "v1-00000000"
    own.mkdir(parents=True)
    assert world.run("register", world.root / "b.csv", "--name", "g").code == 0
    assert own.exists()


# --- Ctrl-C and SIGTERM --------------------------------------------------------------------------------


@pytest.mark.parametrize(("per_kind", "kinds"), [(1, QUICK[2:3]), pytest.param(2, ALL, marks=slow)])
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_interrupted(base, signum, per_kind, kinds):
    draw, seen = random.Random(per_kind), []
    for kind, force in kinds:
        world = copy_world(base, base.root.parent / f"stop-{signum}-{per_kind}-{kind}-{force}")
        commands = Commands(world, draw)
        calls = world.shell.calls(*world.full(*commands.make(kind, force=force)))
        for n in some(draw, per_kind)(calls):
            argv = commands.make(kind, force=force)
            done = world.run(*argv, at=n, what=signum)
            seen.append(done.code)
            assert done.code in (128 + signum, 0, 1), (argv, n, done)
            assert "Traceback" not in done.text
            if kind != "init":
                assert world.violations() == []
                assert world.leftovers() == [], (argv, calls[n - 1])
        shutil.rmtree(world.root)
    assert 128 + signum in seen


def test_what_the_caller_ignores_stays_ignored(tmp_path):
    """As `nohup` does with SIGHUP."""
    code = "from dataguard.cli.main import main; import signal; signal.raise_signal(signal.SIGHUP); main()"
    done = subprocess.run(
        ["/bin/sh", "-c", f"trap '' HUP; exec {os.sys.executable} -c '{code}' --version"], capture_output=True
    )
    assert done.returncode == 0, done.stderr


# --- no room, no permission ------------------------------------------------------------------------------


def filled(world, place, free):
    """Mount a small disk over the vault or the outputs, with `free` bytes left; yield, then free some space."""
    folder = {"vault": world.vault, "out": world.out}[place]
    kept = folder.with_name("kept")
    folder.rename(kept)
    folder.mkdir(mode=0o700)
    mount = ["mount", "-t", "tmpfs", "-o", "size=3m,mode=0700", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("may not mount")
    shutil.copytree(kept, folder, dirs_exist_ok=True)
    shutil.rmtree(kept)
    room = os.statvfs(folder)
    (folder / "filler").write_bytes(bytes(max(0, room.f_bavail * room.f_frsize - free)))


@pytest.mark.parametrize(
    ("place", "free"),
    [
        ("vault", 0),
        pytest.param("out", 20_000, marks=slow),
        pytest.param("vault", 40_000, marks=slow),
        pytest.param("out", 0, marks=slow),
    ],
)
def test_full_disk(world, place, free):
    filled(world, place, free)
    try:
        commands, failed = Commands(world, random.Random(0)), []
        for kind, force in ALL[1:] if free else QUICK[1:]:
            argv = commands.make(kind, force=force)
            done = world.run(*argv)
            if not done.is_done:
                assert done.code == 2, done.text
                assert re.search("(?i)space|full", done.line())
                failed.append(argv)
        assert failed
        filler = world.vault / "filler" if place == "vault" else world.out / "filler"
        filler.unlink()
        assert world.violations() == []
        assert world.leftovers() == []
        for argv in failed:
            assert world.run(*argv).is_done
        assert world.violations() == []
    finally:
        subprocess.run(["umount", str(world.vault if place == "vault" else world.out)], check=True)


@pytest.mark.parametrize(("per_kind", "kinds"), [(1, QUICK[:2]), pytest.param(2, ALL, marks=slow)])
def test_no_room_from_some_call_on(base, per_kind, kinds):
    draw = random.Random(per_kind)
    for kind, force in kinds:
        world = copy_world(base, base.root.parent / f"full-{per_kind}-{kind}-{force}")
        commands = Commands(world, draw)
        calls = world.shell.calls(*world.full(*commands.make(kind, force=force)))
        places = [
            n
            for n, c in enumerate(calls, 1)
            if c.split(" ")[0] in ("open", "mkdir", "sync", "link", "rename")
        ]
        for n in draw.sample(places, min(per_kind, len(places))):
            argv = commands.make(kind, force=force)
            done = world.run(*argv, at=n, what="full")
            assert done.is_done or (done.code == 2 and done.line()), (argv, calls[n - 1], done)
            if kind != "init":
                assert world.violations() == []
                assert world.leftovers() == [], (argv, calls[n - 1])
            assert done.is_done or world.run(*argv).is_done
        shutil.rmtree(world.root)


def test_files_that_may_not_grow(world):
    """Without a disk to mount: no file may be larger than 20 kB."""
    for kind in ("register", "protect"):
        argv = Commands(world, random.Random(1)).make(kind, force=False)
        done = world.run(*argv, limit=20_000)
        assert done.code == 2, done.text
        assert done.line()
        assert world.leftovers() == []
        assert world.run(*argv).is_done
    assert world.violations() == []


@contextlib.contextmanager
def closed(world, folder):
    """Take the right to write away from a folder and all in it; yield the arguments that make it count."""
    is_root = os.getuid() == 0
    for path in [world.root, *world.root.rglob("*")]:
        if is_root:
            os.chown(path, NOBODY, NOBODY)  # permissions stop everybody but root
    for parent in [world.root, *world.root.parents][:-1]:
        if is_root and parent.stat().st_mode & 0o005 != 0o005:
            parent.chmod(0o755)
    shell_folder = world.root.parent
    shell_folder.chmod(0o777)
    paths = [folder, *folder.rglob("*")]
    modes = {path: path.stat().st_mode for path in paths}
    for path, mode in modes.items():
        path.chmod(mode & ~0o222)
    yield {"uid": NOBODY} if is_root else {}
    for path, mode in modes.items():
        path.chmod(mode)
    for path in [world.root, *world.root.rglob("*")]:
        if is_root:
            os.chown(path, 0, 0)


@pytest.mark.parametrize("place", ["vault", "out"])
def test_read_only(world, place):
    folder = world.vault if place == "vault" else world.out
    with closed(world, folder) as who:
        commands = Commands(world, random.Random(2))
        wanted = ALL[1:] if place == "vault" else [("protect", False), ("protect", True), ("report", False)]
        for kind, force in wanted:
            done = world.run(*commands.make(kind, force=force), **who)
            assert done.code == 2, done.text
            assert done.line()
        done = world.run("init", "--vault", folder / "inner", **who)
        assert done.code == 2, done.text
        assert done.line()
    assert world.violations() == []
    assert world.leftovers() == []


# --- several at once -----------------------------------------------------------------------------------------


def at_once(world, commands):
    """Run commands at the same time; return how each ended."""
    started = [(argv, world.shell.start(*world.full(*argv))) for argv in commands]
    ended = [(argv, world.shell.finish(one)) for argv, one in started]
    for argv, done in ended:
        if "--force" in argv:
            world.replaced.add(Path(argv[argv.index("-o") + 1]))
        if done.is_done:
            world.acknowledge(*argv)
        else:
            assert done.code == 2, done.text
            assert done.line()
    return [done.code for _, done in ended]


def everything_at_once(world, n):
    a, out = world.root / "a.csv", world.out
    return [
        ("register", a, "--name", f"p{n}"),
        ("register", a, "--name", f"p{n}"),
        ("register", world.root / "b.csv", "--name", f"q{n}"),
        ("protect", "f", "--recipient", f"new{n}", "-o", out / f"x{n}.csv"),
        ("protect", "f", "--recipient", f"new{n}", "-o", out / f"y{n}.csv"),
        ("protect", "f", "--recipient", f"u{n}", "-o", out / f"same{n}.csv"),
        ("protect", "f", "--recipient", f"v{n}", "-o", out / f"same{n}.csv"),
        ("trace", world.root / "leak1.csv", "--dataset", "f"),
        ("trace", world.root / "leak0.csv", "--dataset", "f"),
        ("report", world.root / "leak1.csv", "--dataset", "f", "-o", out / f"bundle{n}"),
    ]


@pytest.mark.parametrize("rounds", [1, pytest.param(4, marks=slow)])
def test_several_at_once(world, rounds):
    for n in range(rounds):
        codes = at_once(world, everything_at_once(world, n))
        assert codes[2] == codes[3] == codes[4] == codes[9] == 0
        assert codes[7] == codes[8] == 1
        assert sorted(codes[:2]) in ([0, 0], [0, 2])
        assert sorted(codes[5:7]) == [0, 2], "one output is one recipient's"
        assert world.violations() == []
        assert world.leftovers() == []
    with Vault.open(world.vault) as vault:
        store = vault._parts.store
        keys = store.list_mark_keys()
        runs = sorted(run.k for run in store.list_runs())
    # A report of r1 opens its key; nobody is handed another copy of r1 here.
    assert len(keys) == len({k.recipient for k in keys}) == 2 + 3 * rounds
    assert runs == list(range(1, len(runs) + 1))


def test_outputs_replaced_at_once(world):
    codes = at_once(world, [
        ("protect", "f", "--recipient", "r1", "-o", world.out / "r1.csv", "--force"),
        ("protect", "f", "--recipient", "r1", "-o", world.out / "r1.csv", "--force"),
        ("report", world.root / "leak0.csv", "--dataset", "f", "-o", world.out / "b0", "--force"),
        ("report", world.root / "leak0.csv", "--dataset", "f", "-o", world.out / "b0", "--force"),
    ])  # fmt: skip
    assert codes[:2] == [0, 0]
    assert 0 in codes[2:]
    assert world.violations() == []
    assert world.leftovers() == []


def test_init_twice_at_once(base):
    for n in range(5):
        vault = base.root.parent / f"twice{n}"
        started = [base.shell.start("init", "--vault", vault) for _ in range(3)]
        ended = [base.shell.finish(one) for one in started]
        assert sorted(done.code for done in ended) == [0, 2, 2], ended
        assert all(done.line() for done in ended if done.code)
        assert base.shell.run("vault", "check", "--vault", vault).code == 0


def test_a_key_opened_while_a_copy_is_marked_with_it(world, monkeypatch):
    """The copy would carry a generation that others know: it is not released, the next one carries the next."""
    read_back = protect._read_back

    def meanwhile(*args):
        with Vault.open(world.vault) as other:
            other.report(world.root / "leak1.csv", dataset="f", out=world.out / "meanwhile")
        return read_back(*args)

    monkeypatch.setattr(protect, "_read_back", meanwhile)
    with (
        Vault.open(world.vault) as vault,
        pytest.raises(UsageError, match="opened this recipient's mark key meanwhile"),
    ):
        vault.protect("f", recipient="r1", out=world.out / "late.csv")
    assert not (world.out / "late.csv").exists()
    monkeypatch.undo()
    with Vault.open(world.vault) as vault:
        assert vault.protect("f", recipient="r1", out=world.out / "late.csv").generation == 2
    assert world.violations() == []


# --- power cuts: what is on disk before what --------------------------------------------------------------------


def order(calls, *wanted):
    """Check that calls that match come in this order; a list of patterns stands for the last that matches."""
    at = -1
    for pattern in wanted:
        found = [i for i, text in enumerate(calls) if re.search(pattern, text)]
        assert found, (pattern, calls)
        assert found[0] > at, (pattern, calls)
        at = found[-1]


def test_an_export_is_logged_then_synced_then_named(world):
    calls = world.shell.calls(*world.full(*Commands(world, random.Random(3)).make("protect", force=False)))
    order(calls, "after COMMIT", r"sync .*/out/\..*\.part$", "^(link|rename) ", r"sync .*/out$")
    assert calls[-1].endswith("/out")
    calls = world.shell.calls(*world.full(*Commands(world, random.Random(3)).make("protect", force=True)))
    order(calls, "after COMMIT", r"sync .*/out/\..*\.part$", "^rename ", r"sync .*/out$")


def test_a_version_is_on_disk_before_the_ledger_names_it(world):
    calls = world.shell.calls(*world.full("register", world.root / "a.csv", "--name", "g"))
    lineage = r"datasets/[0-9a-f]{32}"
    order(
        calls, rf"^mkdir .*{lineage}$", r"sync .*/vault/datasets$", rf"sync .*{lineage}/\.v1.*(csv|parquet)$",
        r"^rename .*/v1", rf"sync .*{lineage}$", "before COMMIT", "after COMMIT", r"^remove .*/v1.*unfinished",
    )  # fmt: skip


def test_a_key_is_logged_as_opened_before_the_bundle_has_its_name(world):
    argv = ("report", world.root / "leak1.csv", "--dataset", "f", "-o", world.out / "b1")
    calls = world.shell.calls(*world.full(*argv))
    order(calls, "after COMMIT", r"sync .*/\.b1.*openings.json", "^rename ", r"sync .*/out$")


def test_settings_come_when_all_else_is_on_disk(base):
    calls = base.shell.calls("init", "--vault", base.root.parent / "ordered")
    order(calls, r"sync .*\.key$", r"sync .*/keys$", "after COMMIT", r"sync .*vault\.json.*part$", "^rename ")
    assert calls[-1] == f"sync {base.root.parent}"


def test_the_checks_bite(world, monkeypatch):
    """A half-written export, a lost one, and a leftover are seen."""
    path = world.out / "r0.csv"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert "r0.csv has no export leaf" in world.violations()
    path.unlink()
    assert "r0.csv is gone" in world.violations()
    path.write_bytes(whole)
    assert world.violations() == []
    (world.out / f"{atomic._stem(path)}1-0.part").touch()
    assert world.leftovers() != []


def test_a_tally_counts_violations(world, monkeypatch):
    monkeypatch.setattr(
        type(world), "leftovers", lambda _: ["x"] if world.out.joinpath("n1.csv").exists() else []
    )
    tally = Tally()
    cut(
        world,
        ("protect", "f", "--recipient", "n1", "-o", world.out / "n1.csv"),
        tally,
        at=1,
        what=signal.SIGKILL,
    )
    assert len(tally.violations) == 1
