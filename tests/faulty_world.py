"""A vault whose commands are cut short, what must hold of it and its outputs at any time, and a schedule of cuts."""

from __future__ import annotations

import hashlib
import random
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from faulty import SRC, Done, Shell

FLIGHTS = SRC / "dataguard" / "data" / "flights_2013_01.parquet"
COLUMNS = ["month", "dep_time", "dep_delay", "arr_delay", "flight", "origin", "dest", "air_time"]
LEAKED = 60
"""Rows of an export that are traced: some 80 votes."""
KINDS = ("init", "register", "protect", "trace", "report")


@dataclass
class World:
    """A vault, a folder of outputs, and what has been acknowledged so far.

    Attributes
    ----------
    shell : Shell
    root : Path
        Holds ``vault``, ``out``, the tables ``a.csv`` and ``b.csv``, and ``leak0.csv``, ``leak1.csv``.
    files : dict
        Output -> (recipient, sha256) of acknowledged exports.
    bundles : set of Path
    datasets : dict
        Name -> versions acknowledged.
    replaced : set of Path
        Outputs that a command with ``--force`` may have replaced since.
    leaves : list of bytes
        Leaf hashes of the ledger as last seen: a later ledger begins with them.
    traced : dict
        Digest -> recipient of files that were traced already, or problems of bundles.
    """

    shell: Shell
    root: Path
    files: dict[Path, tuple[str, str]] = field(default_factory=dict)
    bundles: set[Path] = field(default_factory=set)
    datasets: Counter[str] = field(default_factory=Counter)
    replaced: set[Path] = field(default_factory=set)
    leaves: list[bytes] = field(default_factory=list)
    traced: dict[str, str] = field(default_factory=dict)

    @property
    def vault(self) -> Path:
        return self.root / "vault"

    @property
    def out(self) -> Path:
        return self.root / "out"

    def run(self, *argv: object, **more: Any) -> Done:
        """Run a command; what it acknowledged is remembered."""
        if "--force" in argv:
            self.replaced.add(Path(argv[argv.index("-o") + 1]))
        done = self.shell.run(*self.full(*argv), **more)
        if done.is_done:
            self.acknowledge(*argv)
        return done

    def full(self, *argv: object) -> tuple[object, ...]:
        """Return the arguments with ``--vault``, where they do not name one."""
        return argv if "--vault" in argv else (*argv, "--vault", self.vault)

    def acknowledge(self, command: object, *argv: object) -> None:
        """Remember what a command that is done has promised."""
        if command == "protect":
            path = Path(argv[argv.index("-o") + 1])
            self.files[path] = (str(argv[argv.index("--recipient") + 1]), sha256(path))
            self.replaced.discard(path)
        elif command == "report":
            self.bundles.add(Path(argv[argv.index("-o") + 1]))
        elif command == "register":
            self.datasets[str(argv[argv.index("--name") + 1])] += 1

    def leftovers(self) -> list[str]:
        """Return what lies about: hidden names beside outputs and in the vault, version folders nobody names."""
        from dataguard.vault import Vault

        found = [p.name for p in self.out.iterdir() if p.name.startswith(".")]
        found += [p.name for p in self.vault.glob(".*") if p.name != ".gitignore"]
        with Vault.open(self.vault) as opened:
            named = {self.vault / d.meta["folder"] for d in opened._parts.store.list_datasets()}
        for version in (self.vault / "datasets").glob("*/*"):
            if version not in named:
                found.append(f"{version.parent.name}/{version.name}")
            found += [f"{version.name}/{p.name}" for p in version.glob(".*")]
        return found

    def violations(self) -> list[str]:
        """Return everything that must not be: half-written outputs, lost promises, a vault out of order."""
        from dataguard.errors import DataguardError
        from dataguard.vault import Vault

        try:
            with Vault.open(self.vault) as opened:
                steps = [*opened.ledger_verify(), *opened.check()]
                entries = opened.ledger_entries()
                versions = Counter(d.name for d in opened._parts.store.list_datasets())
        except DataguardError as error:
            return [f"vault: {error}"]
        found = [f"{s.name}: {s.detail}" for s in steps if not s.ok]
        leaves = [e.leaf_hash for e in entries]
        if leaves[: len(self.leaves)] != self.leaves:
            found.append("ledger entries are lost")
        self.leaves = leaves
        found += [f"dataset {name} is gone" for name, n in self.datasets.items() if versions[name] < n]
        exports = [e.payload for e in entries if e.type == "export"]
        if [p["sequence"] for p in exports] != list(range(1, len(exports) + 1)):
            found.append(f"export numbers {[p['sequence'] for p in exports]}")
        logged = {p["sha256"]: p["recipient"] for p in exports}
        return found + self._lost() + [w for p in sorted(self.out.iterdir()) for w in self._wrong(p, logged)]

    def _lost(self) -> list[str]:
        found = [f"{path.name} is gone" for path in [*self.files, *self.bundles] if not path.exists()]
        return found + [
            f"{path.name} is another than acknowledged"
            for path, (_, digest) in self.files.items()
            if path.exists() and path not in self.replaced and sha256(path) != digest
        ]

    def _wrong(self, path: Path, logged: dict[str, str]) -> list[str]:
        if path.name.startswith("."):
            return []
        if path.is_dir():
            seen = hashlib.sha256(
                "".join(sha256(p) for p in sorted(path.rglob("*.*")) if p.is_file()).encode()
            )
            if seen.hexdigest() not in self.traced:
                self.traced[seen.hexdigest()] = "; ".join(bundle_problems(path))
            problems = self.traced[seen.hexdigest()]
            return [problems] if problems else []
        digest = sha256(path)
        if digest not in logged:
            return [f"{path.name} has no export leaf"]
        if digest not in self.traced:
            self.traced[digest] = traced(self.vault, path, self.root / "scratch")
        named = self.traced[digest]
        return [] if named == logged[digest] else [f"{path.name} traces to {named!r}, not {logged[digest]!r}"]


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def bundle_problems(path: Path) -> list[str]:
    from dataguard.evidence.verify import verify

    return [f"{path.name}: {s.name}: {s.detail}" for s in verify(path).steps if not s.ok]


def traced(vault: Path, suspect: Path, scratch: Path) -> str:
    """Return whom a file traces to, asked of a copy of the vault: a trace is logged, and the real one not touched."""
    from dataguard.formats.source import open_source
    from dataguard.vault import Vault

    shutil.rmtree(scratch, ignore_errors=True)
    shutil.copytree(vault, scratch)
    whole = open_source(suspect).table()
    with Vault.open(scratch) as opened:
        if whole.num_rows != opened._parts.store.latest_dataset("f").rows:
            return "a part of the rows"
        found = opened.trace(whole.slice(0, LEAKED), dataset="f").corresponding
    shutil.rmtree(scratch)
    return "+".join(found)


# --- making worlds ---------------------------------------------------------------------------------------


def small_table(root: Path, rows: int = 1000) -> Path:
    """Write the table a world begins with, ``a.csv``, and a later version of it, ``b.csv``; return the first."""
    import pyarrow.compute as pc
    import pyarrow.csv as pacsv
    import pyarrow.parquet as pq

    root.mkdir(parents=True, exist_ok=True)
    table = pq.read_table(FLIGHTS).slice(2000, rows).select(COLUMNS)
    table = table.filter(pc.is_valid(table.column("air_time")))
    pacsv.write_csv(table, root / "a.csv")
    pacsv.write_csv(table.slice(0, table.num_rows - 100), root / "b.csv")
    return root / "a.csv"


def make_base(root: Path) -> None:
    """Make, in this process, a vault with a registered table `f`, two exports, a leak of each, and a bundle."""
    from dataguard.vault import Vault

    small_table(root)
    (root / "out").mkdir()
    with Vault.create(root / "vault") as vault:
        vault.register(root / "a.csv", name="f")
        for i in range(2):
            vault.protect("f", recipient=f"r{i}", out=root / "out" / f"r{i}.csv")
            lines = (root / "out" / f"r{i}.csv").read_bytes().splitlines(keepends=True)
            (root / f"leak{i}.csv").write_bytes(b"".join(lines[: 1 + LEAKED]))
        vault.report(root / "leak0.csv", dataset="f", out=root / "out" / "b0")


def base_world(shell: Shell, root: Path) -> World:
    """Return the world that the shell has made at `root`."""
    world = World(shell, root, bundles={root / "out" / "b0"}, datasets=Counter(["f"]))
    for i in range(2):
        path = root / "out" / f"r{i}.csv"
        world.files[path] = (f"r{i}", sha256(path))
    return world


def copy_world(world: World, root: Path) -> World:
    """Return a copy of a world somewhere else."""
    shutil.copytree(world.root, root)
    moved = {root / p.relative_to(world.root): found for p, found in world.files.items()}
    bundles = {root / p.relative_to(world.root) for p in world.bundles}
    return World(world.shell, root, moved, bundles, Counter(world.datasets), set(), [], dict(world.traced))


# --- cutting commands short ------------------------------------------------------------------------------


@dataclass
class Tally:
    """What a number of cuts has shown.

    Attributes
    ----------
    cuts, missed, leftovers : Counter
        By command: how many were cut, how many were done before the cut came, and after how many cuts
        something lay about that the next run took away.
    violations : list of str
    """

    cuts: Counter[str] = field(default_factory=Counter)
    missed: Counter[str] = field(default_factory=Counter)
    leftovers: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)


class Commands:
    """Commands for a world, each with names not used before.

    Parameters
    ----------
    world : World
    draw : Random
    """

    def __init__(self, world: World, draw: random.Random) -> None:
        self._world, self._draw, self._n = world, draw, 0

    def make(self, kind: str, *, force: bool | None = None) -> tuple[object, ...]:
        """Return a command of a kind; with `force` it replaces an output, by default now and then."""
        self._n += 1
        n, world, draw = f"n{self._n}", self._world, self._draw
        force = draw.random() < 0.25 if force is None else force
        if kind == "init":
            return ("init", "--vault", world.root / n)
        if kind == "register":
            if force and world.datasets["g"]:
                return ("register", world.root / draw.choice(["a.csv", "b.csv"]), "--name", "g")
            return ("register", world.root / "a.csv", "--name", draw.choice(["g", n]))
        if kind == "protect":
            if force:
                return ("protect", "f", "--recipient", "r1", "-o", world.out / "r1.csv", "--force")
            suffix = draw.choice(["csv", "parquet", "csv.gz"])
            return ("protect", "f", "--recipient", n, "-o", world.out / f"{n}.{suffix}")
        suspect = world.root / f"leak{draw.randrange(2)}.csv"
        if kind == "trace":
            return ("trace", suspect, "--dataset", "f")
        if force:
            return ("report", suspect, "--dataset", "f", "-o", world.out / "b0", "--force")
        return ("report", suspect, "--dataset", "f", "-o", world.out / n)


def cut(world: World, argv: tuple[object, ...], tally: Tally, **how: Any) -> Done:
    """Run a command, cut it short, look at everything, and run it again."""
    kind, label = str(argv[0]), " ".join(Path(str(a)).name for a in argv) + f" {how}"
    before = set() if kind == "init" else set(world.leftovers())
    done = world.run(*argv, **how)
    tally.cuts[kind] += 1
    tally.missed[kind] += done.is_done
    home = World(world.shell, world.root) if kind == "init" else world
    found = [] if kind == "init" else home.violations()
    left = [] if kind == "init" else [name for name in home.leftovers() if name not in before]
    again = world.run(*argv)
    if kind == "init":
        found += _init_problems(world, argv[-1], again, left)
    else:
        if again.code == 2 and "--force" not in argv and kind in ("protect", "report"):
            again.line()
            if not Path(str(argv[argv.index("-o") + 1])).exists():
                found.append(f"refused although nothing is there: {again.text}")
            again = world.run(*argv, "--force")
        if not again.is_done:
            found.append(f"the next run ends with {again.code}: {again.text[-300:]}")
        found += home.violations()
        stays = [name for name in home.leftovers() if name not in before]
        if kind in ("register", "protect", "report"):
            found += [f"still there after the next run: {name}" for name in stays]
        elif left != stays:
            found.append(f"leftovers changed: {left} {stays}")
    tally.leftovers[kind] += bool(left)
    tally.violations += [f"{label}: {text}" for text in found]
    return done


def _init_problems(world: World, vault: object, again: Done, left: list[str]) -> list[str]:
    """Return what is wrong with a vault whose `init` was cut short and then run again."""
    from dataguard.vault import Vault

    made = Path(str(vault))
    found = []
    if again.code == 2 and "holds a vault already" not in again.line():
        found.append(f"the next run says {again.text}")
    elif again.code not in (0, 2):
        found.append(f"the next run ends with {again.code}: {again.text[-300:]}")
    try:
        found += [f"{s.name}: {s.detail}" for s in Vault.examine(made) if not s.ok]
    except Exception as error:  # noqa: BLE001 - whatever it is, it is what we look for
        found.append(f"does not open: {error}")
    known = {"keys", "registry.sqlite", "vault.json", ".gitignore"}
    found += [f"still there after the next run: {p.name}" for p in made.iterdir() if p.name not in known]
    shutil.rmtree(made)
    return found


def durations(world: World, commands: Commands) -> dict[str, float]:
    """Return the seconds each kind of command takes in this world."""
    found = {}
    for kind in KINDS:
        start = time.monotonic()
        done = world.run(*commands.make(kind, force=False))
        assert done.is_done, done.text
        found[kind] = time.monotonic() - start
    return found


def random_cuts(
    base: World, root: Path, seed: int, count: int, tally: Tally, *, by: int = signal.SIGKILL
) -> None:
    """Cut `count` commands at random moments; a fresh copy of the world for every 25."""
    draw = random.Random(seed)
    seconds: dict[str, float] = {}
    for n in range(count):
        if n % 25 == 0:
            world = copy_world(base, root / f"world{n}")
            commands = Commands(world, draw)
            seconds = seconds or durations(world, commands)
        kind = draw.choices(KINDS, [1, 2, 3, 2, 2])[0]
        cut(world, commands.make(kind), tally, after=draw.uniform(0, seconds[kind]), by=by)
        if n % 25 == 24 or n == count - 1:
            shutil.rmtree(world.root)


def interesting(calls: list[str]) -> Iterator[int]:
    """Yield the numbers (from 1) of the calls between which something can be half done; nested steps are not."""
    for n, text in enumerate(calls, start=1):
        if "SAVEPOINT" not in text and "INSERT" not in text:
            yield n


def cuts_at_calls(
    base: World, root: Path, draw: random.Random, tally: Tally,
    choose: Callable[[list[str]], list[int]], *, kinds: tuple[tuple[str, bool], ...], what: object = signal.SIGKILL,
) -> None:  # fmt: skip
    """Cut commands at chosen calls; `choose` picks their numbers from the list of calls."""
    for kind, force in kinds:
        world = copy_world(base, root / f"calls-{kind}-{force}")
        commands = Commands(world, draw)
        calls = world.shell.calls(*world.full(*commands.make(kind, force=force)))
        for n in choose(calls):
            cut(world, commands.make(kind, force=force), tally, at=n, what=what)
        shutil.rmtree(world.root)
