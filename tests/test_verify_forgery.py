"""Forgeries by whoever holds the signing key: consistent signatures, inconsistent content.

Each is signed and digested correctly, so only recomputation can find it; the step that must
find it is named in the table.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import pytest

from dataguard.canonical import canonical_json
from dataguard.cells import Cell
from dataguard.errors import EvidenceError
from dataguard.evidence.bundle import compose
from dataguard.evidence.case import Case, Opened
from dataguard.evidence.facts import read_facts
from dataguard.evidence.fields import Node
from dataguard.evidence.prose import prose
from test_evidence_world import GROUPS, LAW, SIGNER, World, check, failures, resign


@pytest.fixture(scope="module")
def case() -> Case:
    return World().case()


def named(case: Case, **changes) -> Case:
    return replace(case, named=replace(case.named, **changes))


def without(opened: Opened, index: int) -> Opened:
    return replace(opened, leaves=opened.leaves[:index] + opened.leaves[index + 1 :])


def trace(case: Case, **changes) -> Case:
    return replace(case, trace={**case.trace, **changes})


def first_leaf(opened: Opened, **changes) -> Opened:
    return replace(opened, leaves=(replace(opened.leaves[0], **changes), *opened.leaves[1:]))


def changed_row(case: Case, which: str) -> Case:
    """Give the first opened row a cell of other content."""
    opened = getattr(case.named, which)
    cells = (*opened.leaves[0].cells[:-1], Cell(4, "elsewhere"))
    return named(case, **{which: first_leaf(opened, cells=cells)})


def better_histogram(case: Case) -> Case:
    bias, weight, count, ones = case.named.histogram[-1]
    return named(case, histogram=(*case.named.histogram[:-1], (bias, weight, count + 1, ones + 1)))


def slot_twice(case: Case) -> Case:
    """Repeat a slot at a second index, with its bias."""
    slots, biases = case.named.slots, case.named.biases
    return named(
        case,
        slots=replace(slots, leaves=(*slots.leaves, replace(slots.leaves[0], index=slots.leaves[-1].index + 1))),
        biases=replace(biases, leaves=(*biases.leaves, replace(biases.leaves[0], index=biases.leaves[-1].index + 1))),
    )  # fmt: skip


def other_bias(case: Case) -> Case:
    return named(case, biases=first_leaf(case.named.biases, bias=60000))


def other_level(case: Case) -> Case:
    """Change the law in the statement so that a level vanishes."""
    levels = [LAW["levels"][0] - 1, *LAW["levels"][1:]]
    return replace(case, scheme={**case.scheme, "law": {**LAW, "levels": levels}})


def redundant_reading_dropped(case: Case) -> Case:
    """Drop one of two columns read in one row for one slot: the sum is clipped, so the vote stays the same."""
    seen = set()
    for i, r in enumerate(case.named.readings):
        if (r.address, r.suspect_row) in seen:
            return named(case, readings=case.named.readings[:i] + case.named.readings[i + 1 :])
        seen.add((r.address, r.suspect_row))
    raise AssertionError("the world moves two columns jointly")


def reading_elsewhere(case: Case) -> Case:
    """Read one cell from another suspect column."""
    first = case.named.readings[0]
    return named(case, readings=(replace(first, suspect_column="extra"), *case.named.readings[1:]))


def ledger_opening(case: Case, index: int, **payload) -> Case:
    """Change an opened payload without its header."""
    openings = list(case.ledger.openings)
    openings[index] = {**openings[index], "payload": {**openings[index]["payload"], **payload}}
    return replace(case, ledger=replace(case.ledger, openings=tuple(openings)))


FORGERIES: dict[str, tuple[Callable[[Case], Case], int]] = {
    "vote digest changed": (lambda c: trace(c, votes_digest="1" * 64), 6),
    "vote count changed": (lambda c: trace(c, votes=c.trace["votes"] + 1), 6),
    "fewer keys counted": (lambda c: trace(c, hypotheses=2), 6),
    "fewer runs counted": (lambda c: trace(c, k=1), 6),
    "alpha loosened": (lambda c: trace(c, alpha=1e-3), 6),
    "other suspect file": (lambda c: replace(c, suspect={**c.suspect, "sha256": "6" * 64}), 6),
    "fewer suspect rows": (lambda c: replace(c, suspect={**c.suspect, "rows": 100}), 6),
    "other dataset file": (lambda c: replace(c, dataset={**c.dataset, "sha256": "6" * 64}), 6),
    "columns renamed": (lambda c: replace(c, dataset={**c.dataset, "columns": list("edcba")}), 6),
    "another scope": (lambda c: replace(c, dataset={**c.dataset, "scope": "0" * 16}), 4),
    "law altered": (other_level, 6),
    "group widened": (lambda c: replace(c, scheme={**c.scheme, "groups": {"0": ["a", "id"], "1": ["b", "c"]}}), 6),
    "channel altered": (lambda c: replace(c, scheme={**c.scheme, "channel": "00" * 8}), 6),
    "unknown rule": (lambda c: replace(c, scheme={**c.scheme, "rule": "pair-swap/2"}), 11),
    "key of another recipient": (lambda c: named(c, mark_key=replace(c.named.mark_key, recipient="beta")), 6),
    "another key": (lambda c: named(c, mark_key=replace(c.named.mark_key, key=bytes(32))), 7),
    "another salt": (lambda c: named(c, mark_key=replace(c.named.mark_key, salt=bytes(32))), 7),
    "original row with other content": (lambda c: changed_row(c, "rows"), 8),
    "suspect row with other content": (lambda c: changed_row(c, "suspect_rows"), 10),
    "original row of another id": (lambda c: named(c, rows=first_leaf(c.named.rows, row_id=5)), 8),
    "rows of another tree": (lambda c: named(c, rows=replace(c.named.rows, root=bytes(32))), 7),
    "suspect rows of another tree": (lambda c: named(c, suspect_rows=replace(c.named.suspect_rows, size=9999)), 7),
    "bias not of the tree": (other_bias, 9),
    "slot counted twice": (slot_twice, 7),
    "slot left out": (lambda c: named(c, slots=without(c.named.slots, 3)), 9),
    "slot moved": (lambda c: named(c, slots=first_leaf(c.named.slots, place=(0, 1000, 1007))), 9),
    "proof shortened": (lambda c: named(c, rows=replace(c.named.rows, proof=c.named.rows.proof[:-1])), 8),
    "all readings of a slot dropped": (
        lambda c: named(c, readings=tuple(r for r in c.named.readings if r.address != c.named.readings[0].address)),
        11,
    ),
    "a redundant reading dropped": (redundant_reading_dropped, 11),
    "reading counted twice": (lambda c: named(c, readings=(*c.named.readings, c.named.readings[0])), 11),
    "reading from another column": (reading_elsewhere, 11),
    "histogram improved": (better_histogram, 13),
    "score improved": (lambda c: named(c, score=c.named.score + 1), 13),
    "bound improved": (lambda c: named(c, log10_p=-20.0, log10_p_adjusted=-18.9), 14),
    "adjusted bound improved": (lambda c: named(c, log10_p_adjusted=c.named.log10_p), 14),
    "another copy in the list": (lambda c: trace(c, corresponding=["beta"]), 6),
    "own bound in the list improved": (
        lambda c: trace(c, recipients=[{**c.trace["recipients"][0], "log10_p": -29.0}, *c.trace["recipients"][1:]]),
        15,
    ),
    "own agreement in the list changed": (
        lambda c: trace(c, recipients=[{**c.trace["recipients"][0], "agreeing": 1}, *c.trace["recipients"][1:]]), 15,
    ),
    "own generation in the list changed": (
        lambda c: trace(c, recipients=[{**c.trace["recipients"][0], "generation": 2}, *c.trace["recipients"][1:]]), 15,
    ),
    "another run named": (lambda c: trace(c, run=9), 6),
    "another version named in the trace": (lambda c: trace(c, version=2), 6),
    "payload of an entry changed": (lambda c: ledger_opening(c, 3, mark_keys=1), 4),
    "an entry opened twice": (
        lambda c: replace(c, ledger=replace(c.ledger, openings=(c.ledger.openings[0], *c.ledger.openings))), 4,
    ),
    "an entry left closed": (
        lambda c: replace(c, ledger=replace(c.ledger, openings=c.ledger.openings[1:])), 4,
    ),
    "ledger shortened": (
        lambda c: replace(c, ledger=replace(c.ledger, size=12, headers=c.ledger.headers[:-1])), 3,
    ),
    "a header changed": (
        lambda c: replace(
            c, ledger=replace(c.ledger, headers=({**c.ledger.headers[0], "scope": "0" * 16}, *c.ledger.headers[1:]))
        ),
        3,
    ),
}  # fmt: skip


def test_the_untouched_case_is_trusted(case: Case) -> None:
    assert check(compose(case, SIGNER)).trusted


@pytest.mark.parametrize("name", FORGERIES)
def test_forgery_signed_with_the_right_key_is_found(case: Case, name: str) -> None:
    forge, step = FORGERIES[name]
    forged = forge(case)
    assert forged != case
    try:
        files = compose(forged, SIGNER)
    except EvidenceError as error:
        pytest.fail(f"the forgery must reach the verifier: {error}")
    found = check(files)
    assert not found.trusted
    assert failures(found)[0][0] == step, failures(found)
    assert all("malformed content" not in detail for _, detail in failures(found))


# --- forgeries that rewrite the ledger as well: whoever signs it can -------------------------------


def forged_ledger(
    edit: Callable[[list], None], world: World | None = None, outcome: str = "corresponds"
) -> Case:
    world = world or World()
    payloads = world.payloads(outcome)
    edit(payloads)
    return world.case(outcome, payloads=payloads)


def test_digest_logged_differs_from_the_votes() -> None:
    case = forged_ledger(lambda p: p[10][2].update(votes_digest="1" * 64))
    found = check(compose(trace(case, votes_digest="1" * 64), SIGNER))
    assert failures(found)[0][0] == 12


def test_readings_dropped_before_the_digest_was_logged() -> None:
    """Leave out the readings of one suspect row in one slot only, and log the digest of what is left."""
    world = World()
    full = world.readings()
    # A row that is read for two slots: leaving it out of one only is choosing.
    rows: dict[int, set[int]] = {}
    for slot, reading, _ in full:
        rows.setdefault(reading.suspect_row, set()).add(slot)
    chosen = next(row for row, slots in rows.items() if len(slots) == 2)
    slot = min(rows[chosen])
    world.readings = lambda: [x for x in full if (x[0], x[1].suspect_row) != (slot, chosen)]
    assert failures(check(compose(world.case(), SIGNER)))[0][0] == 11


def test_mark_key_committed_after_the_export_or_the_run() -> None:
    def swap(payloads: list, i: int, j: int) -> None:
        payloads[i], payloads[j] = payloads[j], payloads[i]

    for i, j in ((1, 2), (2, 5), (1, 5)):
        case = forged_ledger(lambda p, i=i, j=j: swap(p, i, j))
        assert failures(check(compose(case, SIGNER)))[0][0] == 5
    late = World()
    payloads = late.payloads("corresponds")
    swap(payloads, 5, 12)  # the export after the run
    case = late.case(payloads=payloads)
    openings = {o["type"]: o for o in late.ledger("corresponds", payloads).openings}
    assert openings["export"]["seq"] == 12
    assert failures(check(compose(case, SIGNER)))[0][0] == 5


def test_bias_committed_but_no_level_of_the_law() -> None:
    world = World()
    world.bias[0] = 50000
    assert failures(check(compose(world.case(), SIGNER)))[0] == (
        9, "a bias is no level of the committed law; do not rely on it"
    )  # fmt: skip


def test_address_committed_twice() -> None:
    world = World()
    world.address[1] = world.address[0]
    found = failures(check(compose(world.case(), SIGNER)))
    assert found[0][0] == 9
    assert "twice" in found[0][1]


def test_same_place_under_two_addresses() -> None:
    world = World()
    world.places[1] = world.places[0]
    found = failures(check(compose(world.case(), SIGNER)))
    assert found[0][0] == 9
    assert "twice" in found[0][1]


def test_export_of_another_key_or_plan() -> None:
    for field in ("mark_key_commitment", "slots_root", "bias_root", "rows_root", "scheme", "profile"):
        case = forged_ledger(lambda p, f=field: p[5][2].update({f: "4" * 64}))
        found = failures(check(compose(case, SIGNER)))
        assert found[0][0] == 6
        assert field in found[0][1]


def two_copies(adjusted: float) -> Case:
    both = {"corresponding": ["acme", "beta"]}
    case = forged_ledger(lambda p: p[12][2].update(both))
    acme, beta, gamma = case.trace["recipients"]
    return trace(
        case, recipients=[acme, {**beta, "log10_p": adjusted, "log10_p_adjusted": adjusted}, gamma], **both
    )


def test_further_copies_are_asserted_and_must_be_below_the_limit() -> None:
    files = compose(two_copies(-9.5), SIGNER)
    found = check(files)
    assert found.trusted
    assert any("others are asserted" in note for note in found.notes)
    assert (
        "asserted and cannot be recomputed" in json.loads(files["report.json"])["prose"]["result"][-1]["en"]
    )
    assert failures(check(compose(two_copies(-8.9), SIGNER)))[0][0] == 15
    only_other = forged_ledger(lambda p: p[12][2].update(corresponding=["beta"]))
    assert failures(check(compose(trace(only_other, corresponding=["beta"]), SIGNER)))[0][0] == 15


def test_exports_after_the_run_are_not_relied_on() -> None:
    world = World()
    payloads = world.payloads("corresponds")
    payloads.append(("export", payloads[5][1], {**payloads[5][2], "rows_root": "0" * 64, "version": 2}))
    case = world.case(payloads=payloads)
    full = world.ledger("corresponds", payloads)
    opened = replace(full, openings=(*full.openings, world.opening(13, payloads)))
    assert check(compose(replace(case, ledger=opened), SIGNER)).trusted
    payloads[13] = (*payloads[13][:2], {**payloads[13][2], "recipient": "beta"})
    full = world.ledger("corresponds", payloads)
    opened = replace(full, openings=(*full.openings, world.opening(13, payloads)))
    assert failures(check(compose(replace(case, ledger=opened), SIGNER)))[0][0] == 6


def later_version(exported: int) -> Case:
    """Trace version 2, registered after the mark key; the copy was exported from version `exported`."""
    world = World()
    payloads = world.payloads("corresponds")
    other_plan = {"version": 1, "slots_root": "1" * 64, "bias_root": "2" * 64}
    # Version 1 has another plan: its export says nothing of where version 2 was marked.
    first = (*payloads[1][:2], {**payloads[1][2], **other_plan})
    second = (*payloads[1][:2], {**payloads[1][2], "version": 2})
    export = (
        *payloads[5][:2],
        {**payloads[5][2], **(other_plan if exported == 1 else {}), "version": exported},
    )
    run = (*payloads[10][:2], {**payloads[10][2], "version": 2})
    payloads[1], payloads[4], payloads[5], payloads[10] = first, second, export, run
    case = world.case(payloads=payloads)
    opened = replace(case.ledger, openings=tuple(world.opening(i, payloads) for i in (1, 2, 4, 5, 10, 12)))
    return replace(
        case, dataset={**case.dataset, "version": 2}, trace={**case.trace, "version": 2}, ledger=opened
    )


def test_a_late_plan_that_was_never_exported_names_no_copy() -> None:
    """The key is known, then a plan is made to fit; an export of an older version must not stand for it."""
    found = check(compose(later_version(exported=1), SIGNER))
    assert failures(found)[0][0] == 5
    assert "export of the traced version" in failures(found)[0][1]


def test_later_version_of_a_lineage_needs_its_own_export_and_is_noted() -> None:
    case = later_version(exported=2)
    found = check(compose(case, SIGNER))
    assert found.trusted
    assert any("after the mark key" in note for note in found.notes)
    alone = replace(
        case.ledger, openings=case.ledger.openings[1:]
    )  # first registration of the lineage closed
    assert failures(check(compose(replace(case, ledger=alone), SIGNER)))[0][0] == 5


def test_export_before_the_registration_of_its_version() -> None:
    world = World()
    payloads = world.payloads("corresponds")
    swapped = {"version": 2}
    first = (*payloads[1][:2], {**payloads[1][2], "version": 1})
    second = (*payloads[1][:2], {**payloads[1][2], **swapped})
    export = (*payloads[5][:2], {**payloads[5][2], **swapped})
    run = (*payloads[10][:2], {**payloads[10][2], **swapped})
    payloads[1], payloads[4], payloads[5], payloads[10] = first, export, second, run
    case = world.case(payloads=payloads)
    opened = replace(case.ledger, openings=tuple(world.opening(i, payloads) for i in (1, 2, 4, 5, 10, 12)))
    case = replace(case, dataset={**case.dataset, "version": 2}, ledger=opened)
    assert failures(check(compose(case, SIGNER)))[0][0] == 5


def test_outcome_in_the_ledger_differs() -> None:
    case = forged_ledger(lambda p: p[12][2].update(outcome="no-mark", corresponding=[]))
    assert failures(check(compose(case, SIGNER)))[0][0] == 6


def test_groups_of_another_shape_are_refused() -> None:
    case = forged_ledger(
        lambda p: p[1][2].update(groups={str(g): list(m) for g, m in GROUPS.items()} | {"2": ["a"]})
    )
    assert failures(check(compose(case, SIGNER)))[0][0] == 6


# --- forgeries of text -----------------------------------------------------------------------------


def test_outcome_without_a_copy_and_copy_without_an_outcome() -> None:
    world = World()
    case = world.case()
    for odd in (replace(case, named=None), trace(case, outcome="no-mark")):
        with pytest.raises(EvidenceError, match="named"):
            compose(odd, SIGNER)
    statement = json.loads(compose(case, SIGNER)["report.json"])
    for change in ({"copy": None}, {"trace": {**statement["trace"], "outcome": "no-mark"}}):
        assert failures(check(resign(compose(case, SIGNER), statement | change)))[0][0] == 2


def test_a_sentence_of_one_s_own_is_found(case: Case) -> None:
    files = compose(case, SIGNER)
    statement = json.loads(files["report.json"])
    for section in statement["prose"]:
        forged = json.loads(files["report.json"])
        forged["prose"][section][0]["en"] += " This is beyond question."
        assert failures(check(resign(files, forged)))[0][0] == 15
    del statement["prose"]["not_said"]
    assert failures(check(resign(files, statement)))[0][0] == 15


def test_a_page_of_one_s_own_is_found(case: Case) -> None:
    files = compose(case, SIGNER)
    statement = json.loads(files["report.json"])
    for name in ("report.html", "README.txt"):
        forged = files | {name: files[name].replace(b"DRAFT", b"FINAL")}
        assert forged != files
        assert failures(check(resign(forged, statement)))[0] == (
            16, f"{name}: not what the statement renders to; rely on report.json only"
        )  # fmt: skip


def test_figures_change_the_sentences(case: Case) -> None:
    """The comparison cannot be recomputed, but its sentence and page must follow it."""
    files = compose(case, SIGNER)
    statement = json.loads(files["report.json"])
    statement["comparison"]["rows"]["matched"] += 1
    assert failures(check(resign(files, statement)))[0][0] == 15
    statement["prose"] = prose(read_facts(Node(statement, "test")))
    assert failures(check(resign(files, statement)))[0][0] == 16


def test_status_schema_and_form_are_fixed(case: Case) -> None:
    files = compose(case, SIGNER)
    for change in ({"status": "FINAL"}, {"schema": "dataguard.bundle/2"}, {"renderer": "report/1"}):
        found = check(resign(files, json.loads(files["report.json"]) | change))
        assert failures(found)[0][0] == (16 if "renderer" in change else 2)
    listed = json.loads(files["report.json"])["files"]
    assert sorted(listed) == ["README.txt", "annex/openings.json", "ledger.json", "report.html"]
    assert canonical_json(json.loads(files["report.json"])) == files["report.json"]
