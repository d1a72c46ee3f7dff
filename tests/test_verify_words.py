"""No words of one's own in a trusted bundle: keys, vocabularies and figures only; names are quoted."""

from __future__ import annotations

import ast
import json
import os
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from dataguard.evidence.bundle import compose, write_bundle
from dataguard.evidence.case import Case
from dataguard.evidence.facts import read_facts
from dataguard.evidence.fields import Node
from dataguard.evidence.prose import prose
from dataguard.evidence.render import readme, report_html
from dataguard.evidence.verify import verify
from dataguard.evidence.wording import lint
from dataguard.evidence.words import words
from dataguard.model import Finding
from test_evidence_world import FINDINGS, SIGNER, World, check, failures, resign

SRC = Path(__file__).resolve().parents[1] / "src" / "dataguard"


@pytest.fixture(scope="module")
def case() -> Case:
    return World().case()


def compared(case: Case, **changes) -> Case:
    return replace(case, comparison={**case.comparison, **changes})


def finding(case: Case, number: int = 0, **changes) -> Case:
    found = list(case.findings)
    found[number] = replace(found[number], **changes)
    return replace(case, findings=tuple(found))


def column(case: Case, change: dict) -> Case:
    head, *rest = case.comparison["columns"]
    return compared(case, columns=[{**head, "changes": [change]}, *rest])


OWN = "This file was stolen by acme."
FORGERIES: dict[str, Callable[[Case], Case]] = {
    "a limit of one's own": lambda c: replace(c, limits=(OWN,)),
    "an unknown key of a limit": lambda c: replace(c, limits=("public-rows", "harmless")),
    "a limit twice": lambda c: replace(c, limits=("scope", "scope")),
    "subject of a finding": lambda c: finding(c, subject=OWN),
    "harmless subject of a finding": lambda c: finding(c, subject="rows of the suspect"),
    "method of a finding": lambda c: finding(c, method="by eye"),
    "null hypothesis of a finding": lambda c: finding(c, null_hypothesis="none"),
    "parts of two findings mixed": lambda c: finding(c, method=c.findings[1].method),
    "name of a count": lambda c: finding(c, counts={**c.findings[0].counts, "stolen rows": 5}),
    "a count left out": lambda c: finding(c, counts={"rows": 5}),
    "a negative count": lambda c: finding(c, counts={**c.findings[0].counts, "found": -1}),
    "a finding twice": lambda c: replace(c, findings=(*c.findings, c.findings[0])),
    "a finding more": lambda c: replace(c, findings=(*c.findings, Finding(OWN, "m", "n", {}, -30.0))),
    "relation": lambda c: compared(c, relation="stolen"),
    "null hypothesis of the comparison": lambda c: compared(c, null_hypothesis="nobody would believe it"),
    "null hypothesis of the better finding": lambda c: compared(c, null_hypothesis=FINDINGS[0].null_hypothesis),
    "probability of the comparison": lambda c: compared(c, log10_p=-30.0),
    "findings left out": lambda c: replace(c, findings=()),
    "kind of a change": lambda c: compared(c, changes=[{"kind": "disguised to hide its origin"}]),
    "kind of a column's change": lambda c: column(c, {"kind": "falsified"}),
    "kind of the table at a column": lambda c: column(c, {"kind": "mixed", "share": 0.1}),
    "detail of a change": lambda c: column(c, {"kind": "far-values", "share": 0.1, "purpose": "to hide"}),
    "text for a number": lambda c: column(c, {"kind": "far-values", "share": "all of it"}),
    "number for a name": lambda c: compared(c, changes=[{"kind": "renamed", "from": 1, "to": 2}]),
    "method of the trace": lambda c: replace(c, trace={**c.trace, "method": OWN}),
    "program": lambda c: replace(c, tool="dataguard 0.1.0 " + OWN),
    "time": lambda c: replace(c, created=OWN),
}  # fmt: skip


@pytest.mark.parametrize("name", FORGERIES)
def test_words_of_one_s_own_are_found(case: Case, name: str) -> None:
    forged = FORGERIES[name](case)
    assert forged != case
    # With a named copy other steps would find some of these; a report that names none must hold as well.
    without = FORGERIES[name](World().case("no-mark"))
    steps = {failures(check(compose(c, SIGNER)))[0][0] for c in (forged, without)}
    assert 15 in steps
    assert steps <= {6, 14, 15}


@pytest.mark.parametrize("kind", ["stolen-table", "Table", "a table", "", "leaked"])
def test_the_kind_of_data_is_one_plain_word(kind: str) -> None:
    world = World()
    payloads = world.payloads("corresponds")
    payloads[1][2]["kind"] = kind
    case = world.case(payloads=payloads)
    case = replace(case, dataset={**case.dataset, "kind": kind})
    assert failures(check(compose(case, SIGNER)))[0][0] == 15


FINDING_OF_THE_TRACE: dict[str, dict] = {
    "subject": {"subject": OWN},
    "method": {"method": "pair swap, symmetric score; by eye"},
    "null hypothesis": {"null_hypothesis": "it is innocent"},
    "votes": {"counts": {"votes": 1000, "agreeing": 30, "committed_keys": 3, "run": 2}},
    "bound": {"log10_p": -25.0},
    "no bound": {"log10_p": None},
}


@pytest.mark.parametrize("name", FINDING_OF_THE_TRACE)
@pytest.mark.parametrize("outcome", ["corresponds", "inconclusive"])
def test_the_finding_of_the_trace_is_made_from_the_figures(outcome: str, name: str) -> None:
    files = compose(World().case(outcome), SIGNER)
    statement = json.loads(files["report.json"])
    statement["findings"][-1] |= FINDING_OF_THE_TRACE[name]
    assert failures(check(rewritten(files, statement)))[0][0] == 15
    del statement["findings"][-1]
    assert failures(check(rewritten(files, statement)))[0][0] == 15
    del statement["findings"][:]
    assert failures(check(rewritten(files, statement)))[0][0] == 15


def rewritten(files: dict[str, bytes], statement: dict) -> dict[str, bytes]:
    """Return the files with sentences and pages that follow the forged statement."""
    facts = read_facts(Node(statement, "test"))
    said = prose(facts)
    pages = {"report.html": report_html(facts, said), "README.txt": readme(facts)}
    return resign(files | pages, statement | {"prose": said})


def test_the_finding_of_the_trace_states_the_opened_copy(case: Case) -> None:
    found = json.loads(compose(case, SIGNER)["report.json"])["findings"][-1]
    assert found["log10_p"] == case.named.log10_p_adjusted
    assert found["counts"]["votes"] == sum(n for _, _, n, _ in case.named.histogram)
    assert (found["counts"]["committed_keys"], found["counts"]["run"]) == (3, 2)


# --- the vocabulary itself -------------------------------------------------------------------------


def sentences_of(path: Path) -> list[dict[str, str]]:
    """Return the literal texts of every Finding(...) in a file."""
    calls = [
        node for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Finding"
    ]  # fmt: skip
    return [
        {
            **{k.arg: k.value.value for k in call.keywords if isinstance(k.value, ast.Constant)},
            "counts": sorted(
                key.value for k in call.keywords if isinstance(k.value, ast.Dict) for key in k.value.keys
            ),
        }
        for call in calls
    ]


def test_the_vocabulary_is_what_the_comparison_says_today() -> None:
    room = SRC / "fingerprints"
    made = sentences_of(room / "comparison" / "contrasts.py")
    assert all(sentence in made for sentence in words()["comparison_findings"])
    source = (room / "comparison" / "tables.py").read_text("utf-8")
    assert words()["vocabulary"]["not_computed"] in source
    sources = [source, *(p.read_text("utf-8") for p in sorted((room / "changes").glob("*.py")))]
    kinds = {
        node.args[0].value for text in sources for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Change" and node.args
        and isinstance(node.args[0], ast.Constant)
    }  # fmt: skip
    vocabulary = words()["vocabulary"]
    # A bundle leaves out changes it has no words for; none of its words may have lost its change.
    assert vocabulary["table_changes"].keys() | vocabulary["column_changes"].keys() <= kinds


def test_no_word_of_the_vocabulary_is_forbidden() -> None:
    def texts(value: object) -> list[str]:
        children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
        return [value] if isinstance(value, str) else [t for child in children for t in texts(child)]

    assert len(texts(words())) > 100
    assert [t for t in texts(words()) if lint(t)] == []


@pytest.mark.parametrize("key", ["public-rows", "scope", "opened-before", "sampled"])
def test_every_limit_of_a_case_is_said_in_both_languages(key: str) -> None:
    files = compose(replace(World().case(), limits=(key,)), SIGNER)
    assert check(files).trusted
    (pair,) = json.loads(files["report.json"])["prose"]["limits"]
    page = files["report.html"].decode()
    assert pair["ja"] in page
    assert pair["en"].split("'")[0] in page


def test_comparison_without_findings_is_trusted() -> None:
    empty = compared(World().case(), log10_p=None, null_hypothesis=words()["vocabulary"]["not_computed"])
    assert check(compose(replace(empty, findings=()), SIGNER)).trusted


# --- names and modes -------------------------------------------------------------------------------

STRANGE = (
    os.fsdecode(b"caf\xe9 \xff.csv"), "\ud800", "", "a\nb\x00c", "\u202eevil", "“stolen”", "{recipient}",
    "\uffff\ufdd0", "x" * 100_000, "列 名.csv",
)  # fmt: skip


@pytest.mark.parametrize("name", STRANGE)
def test_a_strange_name_of_a_suspect_breaks_nothing(name: str, tmp_path: Path) -> None:
    case = World().case()
    written = write_bundle(replace(case, suspect={**case.suspect, "name": name}), tmp_path / "b", SIGNER)
    assert verify(written.path, public_key=SIGNER.public_bytes).trusted


def test_bytes_that_are_no_text_are_shown_by_their_number() -> None:
    case = World().case()
    files = compose(replace(case, suspect={**case.suspect, "name": os.fsdecode(b"caf\xe9.csv")}), SIGNER)
    assert json.loads(files["report.json"])["suspect"]["name"] == "caf<U+DCE9>.csv"
    assert "caf&lt;U+DCE9&gt;.csv" in files["report.html"].decode()


@pytest.mark.skipif(os.name != "posix", reason="modes")
@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_the_annex_is_for_its_owner_alone(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        written = write_bundle(World().case(), tmp_path / "b", SIGNER)
    finally:
        os.umask(before)
    modes = {name: stat.S_IMODE((written.path / name).stat().st_mode) for name in written.files}
    assert modes.pop("annex/openings.json") == 0o600
    assert set(modes.values()) == {0o644 & ~umask}
