"""What the command line says: notes, summaries, remedies, and what it does about bugs and Ctrl-C."""

from __future__ import annotations

import json
import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dataguard.cli import options, trace
from dataguard.cli.group import COMMANDS, cli
from dataguard.cli.main import main
from dataguard.errors import DataguardError
from dataguard.registry.sqlite import SqliteStore


@dataclass
class Done:
    code: int
    out: str
    err: str


@pytest.fixture
def run(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    before = signal.getsignal(signal.SIGINT)

    def call(*args: object) -> Done:
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", ["dataguard", *map(str, args)])
        with pytest.raises(SystemExit) as stop:
            main()
        shown = capsys.readouterr()
        return Done(stop.value.code or 0, shown.out, shown.err)

    yield call
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def two(run, flights_january):
    """Two registered datasets of disjoint rows, a marked copy of each, and a file that holds rows of both."""
    flights = pq.read_table(flights_january)
    assert run("init").code == 0
    for number, name in enumerate(("one", "two")):
        pq.write_table(flights.slice(3000 * number, 3000), f"{name}.parquet")
        assert run("register", f"{name}.parquet", "--name", name).code == 0
        done = run("protect", name, "--recipient", f" of-{name} ", "-o", f"copy-{name}.parquet")
        assert done.code == 0, done
    copies = [pq.read_table(f"copy-{name}.parquet") for name in ("one", "two")]
    pq.write_table(pa.concat_tables([copies[0].slice(0, 400), copies[1].slice(0, 200)]), "both.parquet")
    pq.write_table(pa.table({"a": list(range(40)), "b": ["x", "y"] * 20}), "other.parquet")
    return run


def reference_of(name: str) -> Path:
    """Return the reference copy of one of the two."""
    wanted = Path(f"{name}.parquet").read_bytes()
    return next(p for p in Path(".dataguard/datasets").rglob("original*") if p.read_bytes() == wanted)


# --- datasets that are not at hand, not named, not recognised -------------------------------------


@pytest.mark.parametrize(
    ("harm", "why"),
    [
        (Path.unlink, "is gone"),
        (lambda p: p.write_bytes(Path("two.parquet").read_bytes()), "differs from what"),
    ],
    ids=["gone", "changed"],
)
def test_a_dataset_that_is_not_at_hand_does_not_stop_the_others(two, harm, why) -> None:
    harm(reference_of("one"))
    traced = two("trace", "copy-two.parquet")
    assert traced.code == 1
    assert "the copy of of-two" in traced.out
    assert len([x for x in traced.err.splitlines() if x.startswith("not looked for: one") and why in x]) == 1

    scanned = two("scan", "copy-one.parquet", "copy-two.parquet", "--json")
    first, second = map(json.loads, scanned.out.splitlines())
    assert scanned.code == 1
    assert (first["matches"], first["skipped"]) == ([], None)
    assert [m["dataset"] for m in second["matches"]] == ["two"]
    assert second["unavailable"][0].startswith("one (version 1): ")
    assert why in first["unavailable"][0]

    people = two("scan", "copy-one.parquet")
    assert people.code == 4, "nothing found, but not everything was looked for"
    assert "not read" not in people.err
    assert people.out.splitlines()[-1] == (
        "no registered dataset found in 1 file; 1 dataset could not be looked for"
    )
    told = two("trace", "copy-one.parquet")
    assert told.code == 2
    assert "too little to recognise a dataset by (not looked for: one" in told.err


def test_other_datasets_in_the_suspect_are_named(two) -> None:
    done = two("trace", "both.parquet")
    assert done.code == 1
    assert "the copy of of-one" in done.out
    assert "also found in it: two; trace them with --dataset" in done.err
    document = json.loads(two("trace", "both.parquet", "--json").out)
    assert (document["dataset"], document["also_found"]) == ("one", ["two"])
    assert "also_found" not in json.loads(two("trace", "both.parquet", "--dataset", "one", "--json").out)


def test_a_bundle_does_not_tell_what_else_is_registered(two) -> None:
    assert two("report", "both.parquet", "-o", "bundle").code == 0
    for path in Path("bundle").rglob("*.json"):
        assert b"also_found" not in path.read_bytes()
    assert two("verify", "bundle").code == 0


def test_a_suspect_that_tells_nothing(two, flights_january) -> None:
    done = two("trace", "other.parquet")
    assert done.code == 2
    assert "too little to recognise a dataset by; name one with --dataset: one, two" in done.err
    two("init", "--vault", "v2")
    assert two("register", "one.parquet", "--name", "only", "--vault", "v2").code == 0
    two("protect", "only", "--recipient", "a", "-o", "a.parquet", "--vault", "v2")
    pq.write_table(pq.read_table("a.parquet").slice(0, 4), "few.parquet")
    few = two("trace", "few.parquet", "--vault", "v2", "--json")
    assert few.code == 0, "the only dataset there is need not be named"
    assert json.loads(few.out)["dataset"] == "only"


# --- bugs, Ctrl-C, no arguments -------------------------------------------------------------------


def test_a_bug_is_one_line_and_exit_70(run, monkeypatch) -> None:
    def broken(**_: object) -> None:
        raise RuntimeError("no such\nthing")

    monkeypatch.setattr(cli, "main", broken)
    monkeypatch.delenv("DATAGUARD_DEBUG", raising=False)
    done = run("scan")
    assert done.code == 70
    assert done.err == (
        "dataguard: internal error: RuntimeError: no such\ufffdthing; "
        "set DATAGUARD_DEBUG=1 for the details and report it\n"
    )
    monkeypatch.setenv("DATAGUARD_DEBUG", "1")
    again = run("scan")
    assert (again.code, "Traceback" in again.err) == (70, True)


def test_an_interruption_that_a_library_turned_into_an_error_is_one(run, monkeypatch) -> None:
    def renamed(**_: object) -> None:
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            raise SystemError("returned a result with an exception set") from None

    monkeypatch.setattr(cli, "main", renamed)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    done = run("scan")
    assert done.code == 130
    assert done.err.startswith("dataguard: interrupted")

    def broken(**_: object) -> None:
        raise SystemError("a bug")

    monkeypatch.setattr(cli, "main", broken)
    assert run("scan").code == 70, "an earlier command's signal is not this one's"


@pytest.mark.parametrize("words", [(), ("vault",), ("ledger",), ("key",)], ids=str)
def test_no_arguments_is_help(run, words) -> None:
    done = run(*words)
    assert done.code == 2
    assert done.out.startswith("Usage: dataguard")
    assert done.err == ""


@pytest.mark.parametrize("name", [None, *COMMANDS])
def test_no_line_of_short_help_is_cut(run, monkeypatch, name) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    shown = run(*([name] if name else []), "--help")
    assert shown.code == 0
    commands = shown.out.partition("Commands:")[2]
    assert "..." not in commands


# --- words and figures ----------------------------------------------------------------------------


def test_figures_for_people() -> None:
    assert [options.decimal(x) for x in (-0.0, -0.04, -0.06, -30.0, 0.0)] == [
        "0.0",
        "0.0",
        "-0.1",
        "-30.0",
        "0.0",
    ]
    assert options.counted(1, "committed key") == "1 committed key"
    assert options.counted(7016, "suspect row") == "7,016 suspect rows"


def test_a_sampled_suspect_is_said_to_be(capsys) -> None:
    score = SimpleNamespace(recipient="a", agreeing=3, log10_p=-0.0, log10_p_adjusted=-0.0)
    accusation = SimpleNamespace(
        votes=9, hypotheses=1, recipients=[score], best_decoy_log10_p=-0.01, decoys=999, spent=1
    )
    result = SimpleNamespace(
        accusation=accusation, outcome="no-mark", corresponding=(), aligned_rows=7016, examined_rows=7016,
        suspect_rows=60000, dataset="std", repeated=False, alpha=1e-9,
    )  # fmt: skip
    trace.show(result)
    said = capsys.readouterr().out
    assert (
        "7,016 of 7,016 suspect rows examined, drawn from 60,000, aligned to 'std', "
        "9 slots read, 1 committed key scored"
    ) in said
    assert "-0.0" not in said


@pytest.mark.parametrize("who", ["", "  ", "\u3000", "a\tb", "a\x1bb", "x" * 201])
def test_recipients_that_are_none_are_refused(two, who) -> None:
    done = two("protect", "one", "--recipient", who, "-o", "out.parquet")
    assert done.code == 2
    assert "recipient must be" in done.err
    assert not Path("out.parquet").exists()


def test_recipients_are_stripped_and_past_permissions_noted(two) -> None:
    seen = json.loads(two("ledger", "show", "--json").out)["entries"]
    assert {e["recipient"] for e in seen if "recipient" in e} == {"of-one", "of-two"}
    past = two("protect", "one", "--recipient", "z", "-o", "z.parquet", "--expires", "2020-01-31")
    assert (past.code, "note: the permission ended on 2020-01-31" in past.err) == (0, True)
    later = two("protect", "one", "--recipient", "z", "-o", "y.parquet", "--expires", "9999-01-31")
    assert (later.code, "permission ended" in later.err) == (0, False)


@pytest.mark.parametrize("size", ["1M", "0.5k", "511MiB"])
def test_too_little_memory_echoes_what_was_typed(run, size) -> None:
    run("init")
    done = run("scan", "x.csv", "--memory", size)
    assert done.code == 2
    assert f"{size!r} is too little memory; allow at least 512M" in done.err


def test_scan_ends_with_a_summary(two) -> None:
    Path("notes.pdf").write_bytes(b"%PDF-1.7")
    done = two("scan", "copy-one.parquet", "notes.pdf", "other.parquet")
    assert done.code == 1
    assert done.out.splitlines()[-1] == "registered datasets found in 1 of 2 files; 1 could not be read"
    assert done.err.splitlines()[-1] == "not read: notes.pdf: unknown kind of file '.pdf'"
    assert "known suffixes are" in two("compare", "notes.pdf", "one.parquet").err
    assert "JSON Lines" in two("scan", "--help").out


# --- registry -------------------------------------------------------------------------------------


def test_a_vault_that_lost_its_registry_is_told_to_restore(run) -> None:
    run("init")
    Path(".dataguard/registry.sqlite").unlink()
    done = run("ledger", "show")
    assert done.code == 2
    assert "no registry here; restore a backup (dataguard vault restore)" in done.err


@pytest.mark.parametrize("by", ["file", "folder"])
def test_a_registry_that_cannot_be_written_says_what_to_change(tmp_path, monkeypatch, by) -> None:
    store = SqliteStore(tmp_path / "registry.sqlite", create=True)
    if by == "file":
        store._db.execute("PRAGMA query_only = ON")  # as on a read-only disk: root may write anywhere
    else:
        monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(DataguardError, match=r"cannot be written .*; make .* writable"):
        store._change("CREATE TABLE sqlite_master (a)" if by == "folder" else "CREATE TABLE x (a)")
    store.close()
