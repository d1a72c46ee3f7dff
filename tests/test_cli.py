"""The command line as a user meets it: the three journeys, exit codes, one-line errors."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest

from dataguard.cli.main import main


@dataclass
class Done:
    code: int
    out: str
    err: str

    @property
    def json(self) -> dict:
        return json.loads(self.out)


@pytest.fixture
def run(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)

    def call(*args: object) -> Done:
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", ["dataguard", *map(str, args)])
        with pytest.raises(SystemExit) as stop:
            main()
        shown = capsys.readouterr()
        return Done(stop.value.code or 0, shown.out, shown.err)

    return call


@pytest.fixture
def small(flights_january, tmp_path) -> Path:
    """6,000 real flights, as CSV."""
    path = tmp_path / "flights.csv"
    pacsv.write_csv(pq.read_table(flights_january).slice(0, 6000), path)
    return path


@pytest.fixture
def shared_out(run, small, tmp_path):
    """A vault, a registered table, copies for two recipients, and a leak of the second."""
    assert run("init").code == 0
    assert run("register", small, "--name", "flights").code == 0
    for who in ("acme", "birch"):
        assert run("protect", "flights", "--recipient", who, "-o", f"{who}.csv").code == 0
    copy = pacsv.read_csv("birch.csv")
    rows = np.random.default_rng(5).permutation(copy.num_rows)[:90]
    leak = copy.take(rows).drop_columns(["year", "month", "time_hour"])
    names = [{"dep_delay": "late", "tailnum": "plane"}.get(n, n) for n in leak.column_names]
    pq.write_table(leak.rename_columns(names), "found.parquet")
    return Path("found.parquet")


def one_line(done: Done) -> str:
    lines = [x for x in done.err.strip().splitlines() if x.startswith("dataguard: error: ")]
    assert len(lines) == 1, done
    assert "Traceback" not in done.err
    assert done.code == 2
    return lines[0]


# --- journeys -----------------------------------------------------------------------------------


def test_three_journeys_end_to_end(run, shared_out, small) -> None:
    compared = run("compare", small, shared_out, "--json")
    assert compared.code == 1
    assert compared.json["schema"] == "dataguard.compare/1"
    assert compared.json["relation"] == "subset"
    assert compared.json["rows"]["matched"] == 90
    for field in (
        "changes",
        "containment_original",
        "containment_suspect",
        "columns",
        "log10_p",
        "null_hypothesis",
    ):
        assert field in compared.json
    assert {"estimate", "low", "high", "exact"} <= compared.json["containment_suspect"].keys()

    scanned = run("scan", ".", "--json")
    lines = {Path(d["path"]).name: d for d in map(json.loads, scanned.out.splitlines())}
    assert scanned.code == 1
    assert [m["dataset"] for m in lines["found.parquet"]["matches"]] == ["flights"]

    traced = run("trace", shared_out, "--dataset", "flights", "--json")
    assert traced.code == 1
    assert traced.json["outcome"] == "corresponds"
    assert traced.json["corresponding"] == ["birch"]
    assert traced.json["hypotheses"] == 2
    assert traced.json["recipients"][0]["log10_p_adjusted"] < -9
    assert traced.json["decoys"]["n"] == 999
    assert run("trace", shared_out, "--exit-zero").code == 0

    reported = run("report", shared_out, "--dataset", "flights", "-o", "bundle", "--json")
    assert reported.code == 0
    assert reported.json["status"] == "DRAFT"
    assert run("verify", "bundle").code == 0
    checked = run("verify", "bundle", "--json")
    assert checked.json["trusted"] is True
    assert {"n", "name", "ok", "detail"} <= checked.json["steps"][0].keys()

    data = bytearray(Path("bundle/annex/openings.json").read_bytes())
    data[len(data) // 2] ^= 1
    Path("bundle/annex/openings.json").write_bytes(bytes(data))
    assert run("verify", "bundle").code == 3

    assert run("ledger", "verify").code == 0
    shown = run("ledger", "show", "--json").json
    types = [e["type"] for e in shown["entries"]]
    assert types.count("mark-key") == types.count("export") == 2
    assert (
        types.index("registration")
        < types.index("mark-key")
        < types.index("export")
        < types.index("trace-run")
    )


def test_same_trace_again_spends_nothing(run, shared_out) -> None:
    first = run("trace", shared_out, "--json").json
    again = run("trace", shared_out, "--json").json
    assert (first["k"], again["k"], again["repeated"]) == (1, 1, True)
    assert first["recipients"] == again["recipients"]


def test_another_suspect_spends_half_of_what_is_left(run, shared_out) -> None:
    run("trace", shared_out)
    pq.write_table(pq.read_table(shared_out).slice(0, 60), "part.parquet")
    assert run("trace", "part.parquet", "--json").json["k"] == 2


def test_unmarked_original_is_no_mark_and_nobody_is_named(run, shared_out, small) -> None:
    done = run("trace", small, "--dataset", "flights", "--json")
    assert done.code == 0
    assert done.json["outcome"] == "no-mark"
    assert done.json["corresponding"] == []
    assert run("report", small, "--dataset", "flights", "-o", "clean").code == 0
    assert run("verify", "clean").code == 0


def test_a_handful_of_rows_is_inconclusive(run, shared_out) -> None:
    pq.write_table(pq.read_table(shared_out).slice(0, 4), "few.parquet")
    done = run("trace", "few.parquet", "--dataset", "flights", "--json")
    assert (done.code, done.json["outcome"]) == (0, "inconclusive")


def test_csv_copy_differs_from_its_source_in_marked_cells_only(run, shared_out, small) -> None:
    source, copy = small.read_bytes().split(b"\n"), Path("acme.csv").read_bytes().split(b"\n")
    assert len(source) == len(copy)
    marked = {"dep_time", "dep_delay", "arr_time", "arr_delay", "air_time"}
    names = [n.strip(b'"').decode() for n in source[0].split(b",")]
    changed = 0
    for a, b in zip(source, copy, strict=True):
        for name, x, y in zip(names, a.split(b","), b.split(b","), strict=False):
            if x != y:
                assert name in marked
                changed += 1
    assert changed > 1000


def test_second_version_traces_old_and_new_copies(run, shared_out, small) -> None:
    table = pacsv.read_csv(small)
    pacsv.write_csv(
        table.slice(300).take(np.random.default_rng(0).permutation(table.num_rows - 300)), "v2.csv"
    )
    again = run("register", "v2.csv", "--name", "flights", "--json")
    assert (again.code, again.json["version"]) == (0, 2)
    assert run("trace", shared_out, "--json").json["corresponding"] == ["birch"]
    assert run("protect", "flights", "--recipient", "birch", "-o", "birch2.csv").code == 0
    pacsv.write_csv(pacsv.read_csv("birch2.csv").slice(100, 90), "late.csv")
    assert run("trace", "late.csv", "--dataset", "flights", "--json").json["corresponding"] == ["birch"]
    assert run("report", "late.csv", "--dataset", "flights", "-o", "b2").code == 0
    assert run("verify", "b2").code == 0


def test_rows_delivered_twice_to_one_recipient_are_the_same(run, shared_out, small) -> None:
    """Two deliveries of one lineage must not differ where the original does not: else they betray the mark."""
    run("register", small, "--name", "flights")
    run("protect", "flights", "--recipient", "birch", "-o", "again.csv")
    assert Path("again.csv").read_bytes() == Path("birch.csv").read_bytes()


def test_protecting_a_file_registers_it_and_makes_the_vault(run, small) -> None:
    done = run("protect", small, "--recipient", "acme", "-o", "out.parquet")
    assert done.code == 0
    assert "made a new vault" in done.err
    assert Path(".dataguard/.gitignore").read_text() == "*\n"
    assert run("protect", small, "--recipient", "birch", "-o", "two.parquet").code == 2


def test_keys_are_private_and_never_shown(run, shared_out) -> None:
    everything = run("ledger", "show", "--json").out + run("trace", shared_out, "--json").out
    for name in ("master", "signing"):
        path = Path(".dataguard/keys") / f"{name}.key"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert path.read_text().split()[2] not in everything
    os.chmod(".dataguard/keys/master.key", 0o644)
    assert "chmod 600" in one_line(run("ledger", "show"))


def test_demo_tells_the_story_and_its_json(run) -> None:
    done = run("demo", "-o", "demo", "--json")
    assert done.code == 0
    by_step = {s["step"]: s for s in done.json["steps"]}
    assert by_step["trace"]["corresponding"] == ["birch"]
    assert by_step["trace"]["log10_p_adjusted"] < -9
    assert by_step["verify"]["trusted"] is True
    assert by_step["verify-flipped"]["trusted"] is False
    assert "is not empty" in one_line(run("demo", "-o", "demo"))


# --- bad input: one clear line, exit 2, nothing changed -------------------------------------------


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["register", "none.csv", "--name", "x"], "none.csv"),
        (["register", "empty.csv", "--name", "x"], "empty.csv"),
        (["register", "small.csv", "--name", "a/b"], "cannot name a dataset"),
        (["register", "small.csv", "--name", "x", "--protect-columns", "nope"], "no column 'nope'"),
        (["register", "small.csv", "--name", "x", "--tolerance", "dep_delay"], "--tolerance"),
        (["register", "small.csv", "--name", "x", "--kind", "smell"], "unknown kind"),
        (["register", "one.csv", "--name", "x"], "no column has room for a mark"),
        (["protect", "nothing", "--recipient", "a", "-o", "o.csv"], "nothing"),
        (["trace", "small.csv", "--dataset", "nothing"], "no dataset 'nothing'"),
        (["trace", "small.csv"], "no dataset is registered yet"),
        (["report", "small.csv", "-o", "b"], "no dataset is registered yet"),
        (["compare", "small.csv", "none.csv"], "none.csv"),
        (["compare", "small.csv", "bad.parquet"], "bad.parquet"),
        (["verify", "."], "."),
        (["verify", "b", "--public-key", "12"], "--public-key"),
        (["init"], "holds a vault already"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_input_is_one_line(run, small, args, says) -> None:
    run("init")
    small.rename("small.csv")
    Path("empty.csv").touch()
    Path("one.csv").write_text("a\n1\n1\n1\n")
    Path("bad.parquet").write_bytes(b"PAR1garbagePAR1")
    before = sorted(p.name for p in Path().iterdir())
    assert says in one_line(run(*args))
    assert sorted(p.name for p in Path().iterdir()) == before
    assert [e["type"] for e in run("ledger", "show", "--json").json["entries"]] == ["vault-init"]


def test_existing_output_is_kept_without_force(run, shared_out) -> None:
    before = Path("acme.csv").read_bytes()
    assert "--force" in one_line(run("protect", "flights", "--recipient", "zeta", "-o", "acme.csv"))
    assert Path("acme.csv").read_bytes() == before
    assert "zeta" not in run("ledger", "show").out
    assert run("protect", "flights", "--recipient", "zeta", "-o", "acme.csv", "--force").code == 0
    assert Path("acme.csv").read_bytes() != before


def test_no_vault_is_one_line(run, small) -> None:
    assert "dataguard init" in one_line(run("scan", small))


def test_scan_reports_unread_files_and_exits_4(run, small) -> None:
    run("init")
    Path("sub").mkdir()
    Path("sub/readme.txt").write_text("hello")
    done = run("scan", "sub", "--json")
    assert done.code == 4
    assert json.loads(done.out)["skipped"]


def test_reference_copy_that_changed_is_refused(run, shared_out) -> None:
    original = next(Path(".dataguard/datasets").rglob("original.csv"))
    original.write_bytes(original.read_bytes() + b"\n")
    assert "differs from what was registered" in one_line(
        run("protect", "flights", "--recipient", "z", "-o", "z.csv")
    )
    assert not Path("z.csv").exists()


def test_module_entry_point_and_fast_help() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "dataguard", "--help"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0
    assert "dataguard demo" in done.stdout


# --- pipes --------------------------------------------------------------------------------------


def piped(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    line = command.replace("dataguard", f"{sys.executable} -m dataguard")
    return subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=120, cwd=folder)


def test_stdin_is_read_as_what_it_is(run, shared_out, small, tmp_path) -> None:
    done = piped(f"cat {shared_out} | dataguard compare {small} - --json", tmp_path)
    assert done.returncode == 1, done.stderr
    assert json.loads(done.stdout)["rows"]["matched"] == 90
    empty = piped(f"dataguard compare {small} - < /dev/null", tmp_path)
    assert (empty.returncode, "stdin is empty" in empty.stderr) == (2, True)


def test_a_reader_that_goes_away_is_no_finding(run, small, tmp_path) -> None:
    run("init")
    done = piped("dataguard ledger show | true; echo ${PIPESTATUS[0]}", tmp_path)
    assert done.stdout.strip() == "0"
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a full disk")
def test_a_full_disk_is_one_line(run, small, tmp_path) -> None:
    run("init")
    done = piped("dataguard ledger show > /dev/full", tmp_path)
    assert done.returncode == 2
    assert done.stderr.strip().splitlines() == [done.stderr.strip()]


def test_patterns_are_expanded_and_hidden_folders_left_out(run, shared_out) -> None:
    done = run("scan", "fou*.parquet", "--json")
    assert [Path(json.loads(line)["path"]).name for line in done.out.splitlines()] == ["found.parquet"]
    everything = run("scan", ".", "--json")
    assert ".dataguard" not in everything.out


def test_foreign_names_cannot_steer_the_terminal(run) -> None:
    run("init")
    done = run("register", "na\x1b[31m.csv", "--name", "x")
    assert "\x1b" not in done.err
    assert "\x1b" not in run("register", "x.csv", "--name", "x\x1b[2J").err
