"""`dataguard compare` as people call it: the page, what is covered, languages, refusals."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pytest

from dataguard import investigate
from dataguard.cli.main import main
from dataguard.fingerprints.comparison.exhibits import Exhibits, make_exhibits
from dataguard.fingerprints.engines import default_engines
from dataguard.formats.source import open_source
from dataguard.modalities.discovery import detect


def compare_with_exhibits(original, suspect, *, alpha, budget, public=()):
    """The shell's function in the plainest form, so that this test stands on what the command calls."""
    compare_with_exhibits.public = public
    first, second = open_source(original), open_source(suspect)
    handler, engines = detect(first), default_engines()
    a, b = handler.decode(first), handler.decode(second)
    aligned = handler.align(a, b, engines)
    result = handler.compare(a, b, aligned, engines, alpha)
    return result, make_exhibits(a.canonical, b.canonical, aligned, result.columns)


@pytest.fixture
def run(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(investigate, "compare_with_exhibits", compare_with_exhibits, raising=False)

    def call(*args: object) -> tuple[int, str, str]:
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", ["dataguard", "compare", *map(str, args)])
        with pytest.raises(SystemExit) as stop:
            main()
        shown = capsys.readouterr()
        return stop.value.code or 0, shown.out, shown.err

    return call


@pytest.fixture
def pair(tmp_path) -> tuple[Path, Path]:
    """400 customers, and 150 of them in another order, with a little noise on what they paid."""
    rng = np.random.default_rng(11)
    n = 400
    table = pa.table({
        "customer_name": [f"Customer{i:03d} Surname" for i in range(n)],
        "paid": rng.normal(5000, 900, n).round(2),
        "visits": rng.integers(1, 10_000, n),
        "city": rng.choice(["Kyoto", "Osaka", "Kobe"], n),
    })  # fmt: skip
    pacsv.write_csv(table, tmp_path / "a.csv")
    found = table.take(pa.array(rng.permutation(n)[:150]))
    found = found.set_column(1, "paid", pa.array(np.asarray(found["paid"]) + 1.0))
    pacsv.write_csv(found, tmp_path / "b.csv")
    return Path("a.csv"), Path("b.csv")


def refused(done: tuple[int, str, str]) -> str:
    assert done[0] == 2, done
    assert "Traceback" not in done[2]
    return done[2]


def test_page_is_written_and_covers_people(run, pair) -> None:
    code, out, err = run(*pair, "--html", "page.html")
    assert code == 1
    assert "subset" in out
    assert "page: page.html" in err
    text = Path("page.html").read_text("utf-8")
    assert "Surname" not in text
    assert "C•••••••• (19)" in text
    assert "Kyoto" in text
    assert "dataguard compare a.csv b.csv --html page.html" in text
    assert open_source("b.csv").sha256() in text
    assert oct(Path("page.html").stat().st_mode & 0o777) == oct(0o644 & ~_umask())
    assert sorted(p.name for p in Path().iterdir()) == ["a.csv", "b.csv", "page.html"]


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_mask_adds_and_no_mask_shows(run, pair) -> None:
    assert run(*pair, "--html", "p.html", "--mask", "city")[0] == 1
    text = Path("p.html").read_text("utf-8")
    assert "Kyoto" not in text
    assert "Surname" not in text
    assert run(*pair, "--html", "q.html", "--no-mask", "--lang", "en")[0] == 1
    text = Path("q.html").read_text("utf-8")
    assert "Kyoto" in text
    assert "Surname" in text


def test_an_existing_page_is_kept_without_force(run, pair) -> None:
    Path("page.html").write_text("mine")
    assert "already exists" in refused(run(*pair, "--html", "page.html"))
    assert Path("page.html").read_text() == "mine"
    assert run(*pair, "--html", "page.html", "--force")[0] == 1
    assert Path("page.html").read_text("utf-8").startswith("<!DOCTYPE html>")
    assert "no such folder" in refused(run(*pair, "--html", "none/page.html"))
    Path("folder").mkdir()
    assert "is a directory" in refused(run(*pair, "--html", "folder", "--force"))


def test_slips_are_refused_and_leave_no_page(run, pair) -> None:
    assert "no matched column is called 'citty'" in refused(run(*pair, "--html", "p.html", "--mask", "citty"))
    assert "--html FILE" in refused(run(*pair, "--mask", "city"))
    assert "--html FILE" in refused(run(*pair, "--no-mask"))
    assert "contradicts" in refused(run(*pair, "--html", "p.html", "--mask", "city", "--no-mask"))
    assert "is not one of" in refused(run(*pair, "--lang", "de"))
    assert sorted(p.name for p in Path().iterdir()) == ["a.csv", "b.csv"]


def test_public_files_are_passed_on(run, pair) -> None:
    assert run(*pair, "--public", "a.csv", "--public", "b.csv")[0] == 1
    assert list(compare_with_exhibits.public) == ["a.csv", "b.csv"]
    assert run(*pair, "--html", "p.html", "--public", "a.csv")[0] == 1
    assert "--public a.csv" in Path("p.html").read_text("utf-8")


def test_exhibits_are_made_only_for_a_page(run, pair, monkeypatch) -> None:
    monkeypatch.setattr(investigate, "compare_with_exhibits", None)
    assert run(*pair)[0] == 1
    assert run(*pair, "--json", "--exit-zero")[0] == 0


def test_a_page_without_exhibits_still_says_what_was_measured(run, pair, monkeypatch) -> None:
    plain = investigate.compare
    monkeypatch.setattr(
        investigate, "compare_with_exhibits",
        lambda a, b, *, alpha, budget, public: (plain(a, b, alpha=alpha, budget=budget), Exhibits()),
    )  # fmt: skip
    assert run(*pair, "--html", "p.html", "--mask", "city")[0] == 1
    text = Path("p.html").read_text("utf-8")
    assert "Rows side by side" not in text
    assert "log10 p" in text


def test_terminal_text_is_plain_in_a_pipe_and_speaks_japanese(run, pair) -> None:
    code, out, _ = run(*pair)
    assert code == 1
    assert "\x1b" not in out
    assert "150 of 150 suspect rows correspond to rows of the original (400 rows)." in out
    assert "####################" in out
    code, out, _ = run(*pair, "--lang", "ja")
    assert "部分集合" in out
    assert "対象の150行のうち150行が原本(400行)の行に対応する。" in out


def test_json_and_page_together(run, pair) -> None:
    code, out, err = run(*pair, "--html", "p.html", "--json")
    assert code == 1
    assert out.startswith('{"schema": "dataguard.compare/1"')
    assert err == ""
    assert Path("p.html").exists()
