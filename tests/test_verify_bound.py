"""What the bound of a named copy pays for: the stricter limit, draws, and values below the floor."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest

from dataguard.evidence import recount
from dataguard.evidence.bundle import compose
from dataguard.evidence.case import Case
from dataguard.stats import Coins, NullLaw
from test_evidence_world import SIGNER, World, check, failures, resign


def named(case: Case, **changes) -> Case:
    return replace(case, named=replace(case.named, **changes))


def raw(case: Case) -> float:
    coins = [Coins(b, w, n) for b, w, n, _ in case.named.histogram]
    return NullLaw(coins).log10_raw(case.named.score)


def strong() -> World:
    """A suspect whose agreement is far below 1e-30 by chance."""
    return World(n_rows=400, n_slots=200)


# --- limits ----------------------------------------------------------------------------------------


def test_a_looser_run_is_noted_and_held_to_the_committed_limit() -> None:
    loose = check(compose(World(alpha=1e-6, ledger_alpha="1e-06").case(), SIGNER))
    assert loose.trusted
    assert any("looser" in note for note in loose.notes)
    assert "limit -9.0000" in loose.steps[13].detail
    strict = check(compose(World(alpha=1e-12, ledger_alpha="1e-12").case(), SIGNER))
    assert failures(strict)[0][0] == 14


def test_a_copy_not_below_the_committed_limit_is_not_trusted() -> None:
    """The run allows 1e-9, which is met; the export had promised 1e-12, which is not."""
    world = World(export_alpha="1e-12")
    case = world.case()
    assert -12 < case.named.log10_p_adjusted < -9
    assert failures(check(compose(case, SIGNER)))[0][0] == 14
    hidden = failures(check(compose(named(case, alpha=1e-9), SIGNER)))
    assert hidden[0][0] == 6
    assert "limit 1e-09" in hidden[0][1]


def test_the_page_states_the_limit_that_was_applied() -> None:
    statement = json.loads(compose(World(alpha=1e-6, ledger_alpha="1e-06").case(), SIGNER)["report.json"])
    assert "1 in 10^9" in statement["prose"]["result"][-1]["en"]
    assert statement["copy"]["alpha"] == 1e-9


# --- draws -----------------------------------------------------------------------------------------


def test_draws_multiply_the_bound_and_are_spelled_out() -> None:
    once, often = World().case(), World(draws=7).case()
    paid = often.named.log10_p_adjusted - once.named.log10_p_adjusted
    assert paid == pytest.approx(math.log10(7), abs=2e-4)
    files = compose(often, SIGNER)
    assert check(files).trusted
    said = " ".join(pair["en"] for pair in json.loads(files["report.json"])["prose"]["arithmetic"])
    assert "drawn 7 times" in said
    assert "+ 0.8451" in said
    assert "drawn" not in " ".join(
        pair["en"] for pair in json.loads(compose(once, SIGNER)["report.json"])["prose"]["arithmetic"][1:]
    )


def test_draws_left_out_or_too_many_are_found() -> None:
    case = World(draws=7).case()
    assert failures(check(compose(named(case, draws=1), SIGNER)))[0][0] == 6
    unpaid = named(case, log10_p_adjusted=World().case().named.log10_p_adjusted)
    assert failures(check(compose(unpaid, SIGNER)))[0][0] == 14
    assert failures(check(compose(World(draws=10**6).case(), SIGNER)))[0][0] == 14


@pytest.mark.parametrize("draws", [0, -1, 1.5, "1", True, None])
def test_draws_are_a_positive_integer(draws: object) -> None:
    world = World()
    payloads = world.payloads("corresponds")
    payloads[5][2]["draws"] = draws
    found = failures(check(compose(world.case(payloads=payloads), SIGNER)))
    assert found[0][0] == 6
    assert "draws: not an integer" in found[0][1]


# --- the floor -------------------------------------------------------------------------------------


def test_keys_and_runs_are_paid_on_the_value_and_not_on_the_floor() -> None:
    case = strong().case()
    assert raw(case) < -40
    assert (case.named.log10_p, case.named.log10_p_adjusted) == (-30.0, -30.0)
    files = compose(case, SIGNER)
    assert check(files).trusted
    said = json.loads(files["report.json"])["prose"]["arithmetic"]
    assert any("full value" in pair["en"] and "-30.0000" in pair["en"] for pair in said)
    assert not any("Together: -30" in pair["en"] for pair in said)


def test_paying_on_the_floor_is_found_as_another_number() -> None:
    case = strong().case()
    floored = -30.0 + math.log10(3) + 2 * math.log10(2)
    forged = named(case, log10_p_adjusted=round(floored, 4))
    assert failures(check(compose(forged, SIGNER)))[0][0] == 14


def test_adjustment_starts_below_the_floor_and_ends_on_it() -> None:
    assert recount.adjusted(-40.0, 1, 0, 1) == -30.0
    assert recount.adjusted(-40.0, 1000, 30, 1) == pytest.approx(-40 + 3 + 30 * math.log10(2), abs=2e-4)
    assert recount.adjusted(-40.0, 10, 0, 10**20) == pytest.approx(-19.0, abs=2e-4)
    assert recount.adjusted(-1.0, 1000, 3, 1) == 0.0


# --- all groups of the ledger ----------------------------------------------------------------------


def test_keys_and_runs_of_all_groups_are_stated_with_their_bound() -> None:
    case = World().case()
    files = compose(case, SIGNER)
    statement = json.loads(files["report.json"])
    # By hand: mark-key entries 2, 3, 4, 6 and runs 7, 9, 10 of the world's ledger.
    assert (statement["ledger"]["mark_keys"], statement["ledger"]["trace_runs"]) == (4, 3)
    expected = raw(case) + math.log10(4) + 3 * math.log10(2)
    assert statement["copy"]["log10_p_all_scopes"] == pytest.approx(expected, abs=2e-4)
    assert f"{statement['copy']['log10_p_all_scopes']:.4f}" in files["report.html"].decode()
    assert "all 4 keys and 3 runs" in check(files).steps[13].detail


@pytest.mark.parametrize(
    ("place", "name", "value", "step"),
    [
        ("ledger", "mark_keys", 3, 6),
        ("ledger", "trace_runs", 2, 6),
        ("copy", "log10_p_all_scopes", -28.0, 14),
        ("trace", "method", "upper bound", 14),
    ],
)
def test_a_figure_of_all_groups_that_is_not_so_is_found(
    place: str, name: str, value: object, step: int
) -> None:
    files = compose(World().case(), SIGNER)
    statement = json.loads(files["report.json"])
    assert statement[place][name] != value
    statement[place][name] = value
    assert failures(check(resign(files, statement)))[0][0] == step
