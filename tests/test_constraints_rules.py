"""The rules one by one, on small made tables with known facts; and what must not be found."""

from __future__ import annotations

from collections import Counter, defaultdict

import numpy as np
import pyarrow as pa
import pytest

from dataguard.constraints.arithmetic import clock_minutes
from dataguard.constraints.columns import dense, examine, partnered, view
from dataguard.constraints.dependencies import fit
from dataguard.constraints.facts import Facts
from dataguard.constraints.groups import pairable
from dataguard.constraints.mine import mine, violations
from dataguard.constraints.roles import words
from dataguard.constraints.ties import binned, cramers_v, is_tied
from dataguard.errors import SchemeMismatch, UsageError
from dataguard.values import CanonicalTable, canonical_column, canonical_table

N = 3000


def made(**columns: object) -> CanonicalTable:
    return canonical_table(pa.table({k.replace("__", " "): v for k, v in columns.items()}))


def rng(seed: int = 1) -> np.random.Generator:
    return np.random.default_rng(seed)


def labels(found: Facts) -> set[str]:
    return {f.label for f in (*found.keys, *found.dependencies, *found.identities)}


# --- what must not be found ------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(12))
def test_independent_columns_have_no_facts(seed: int) -> None:
    g = rng(seed)
    table = made(
        a=g.integers(0, 1000, N), b=g.normal(0, 5, N).round(2), c=g.integers(0, 8, N), d=g.choice(list("pqr"), N),
        e=(g.random(N) < 0.01).astype(int) * 3, f=g.exponential(20, N).round(1), i=g.integers(0, 4000, N),
        h=g.choice(["u", "v"], N, p=[0.97, 0.03]),
    )  # fmt: skip
    # Error budget: Fit.holds e^-20, pure_levels 5e-7, mine_keys e^-20 per candidate. Measured apart from
    # this test: 0 of 1000 random tables of 4 to 11 independent columns of seven kinds had a fact.
    found = mine(table)
    assert [f.label for f in (*found.keys, *found.dependencies) if "key" not in f.label] == []
    assert [i.label for i in found.identities if i.kind != "order"] == []


def test_a_nearly_unique_column_determines_nothing() -> None:
    g = rng()
    table = made(
        code=[f"c{v}" for v in g.integers(0, 20_000, N)],
        rare=(g.random(N) < 0.02).astype(int) * 7,
        z=g.normal(size=N),
    )
    assert mine(table).dependencies == ()


def test_few_rows_and_empty_tables_are_no_accident() -> None:
    assert mine(made(a=[1, 2, 3], b=["x", "y", "z"])).dependencies == ()
    empty = mine(canonical_table(pa.table({"a": pa.array([], pa.int64()), "b": pa.array([], pa.string())})))
    assert empty.groups == ()
    assert set(empty.guarded) == {"a", "b"}
    assert mine(canonical_table(pa.table({"n": pa.nulls(5, pa.float64())}))).guarded["n"].startswith("empty")


# --- identities ------------------------------------------------------------------------------------


def test_sum_moves_two_columns_between_rows_equal_in_the_third() -> None:
    g = rng()
    base, extra = g.integers(1, 20, N) * 50, g.integers(0, 300, N)
    found = mine(made(net=base, tax=extra, gross=base + extra))
    assert "gross = net + tax" in labels(found)
    (group,) = found.groups
    assert (set(group.members), group.driver, group.equal_on) == ({"gross", "tax"}, "tax", ("net",))
    assert group.tolerance["gross"] == group.tolerance["tax"]


def test_sum_with_a_protected_target_moves_the_inputs_together() -> None:
    g = rng()
    base, extra = g.integers(1, 20, N) * 50, g.integers(0, 300, N)
    found = mine(made(net=base, tax=extra, gross=base + extra), protect=frozenset({"gross"}))
    (group,) = found.groups
    assert (set(group.members), group.equal_on) == ({"net", "tax"}, ("gross",))
    assert found.guarded == {"gross": "protected by the user"}


def test_a_column_in_two_sums_is_guarded() -> None:
    g = rng()
    a, b, c = (g.integers(0, 300, N) for _ in range(3))
    found = mine(made(a=a, b=b, c=c, ab=a + b, abc=a + b + c))
    assert found.groups == ()
    assert found.guarded["ab"].startswith("tied by")


def test_the_tighter_tolerance_of_a_joint_move_counts() -> None:
    g = rng()
    base, extra = g.integers(1, 20, N) * 50, g.integers(0, 300, N)
    table = made(net=base, tax=extra, gross=base + extra)
    (group,) = mine(table, tolerance={"gross": 3.5}).groups
    assert group.tolerance == {"gross": 3.0, "tax": 3.0}
    none = mine(table, tolerance={"gross": 0.5})
    assert none.groups == ()
    assert none.guarded["tax"] == "tolerance 0.5 of gross is below one step"
    fixed = mine(table, tolerance={"tax": 0.0, "net": 0.0})
    assert fixed.groups == ()
    assert fixed.guarded["gross"].startswith("tied by")


def test_a_sum_without_equal_rows_is_guarded() -> None:
    g = rng()
    a, b = g.uniform(0, 900, N).round(2), g.uniform(0, 900, N).round(2)
    found = mine(made(a=a, b=b, total=(a + b).round(2)))
    assert found.groups == ()
    assert "hardly two rows are equal" in found.guarded["total"]


def test_levels_tied_to_more_than_two_columns_stay() -> None:
    g = rng()
    hub = g.integers(0, 8, N)
    noise = g.integers(0, 8, (3, N))
    others = {
        f"o{k}": [f"v{x if h > 1 else 9}" for x, h in zip(noise[k], hub, strict=True)] for k in range(3)
    }
    table = made(hub=[f"h{x}" for x in hub], **others)
    found = mine(table)
    assert {"hub ~> o0", "hub ~> o1", "hub ~> o2"} <= labels(found)
    assert "hub" in found.guarded
    free = [x for x in found.groups if x.driver.startswith("o")]
    assert all("hub" in x.equal_on for x in free)


def test_rounded_floats_sum_to_half_a_unit() -> None:
    g = rng()
    a, b = g.uniform(0, 50, N).round(2), g.integers(0, 40, N) * 0.25
    total = (a + b).round(2)
    total[:15] += 3  # half a per cent do not hold: exceptions
    found = mine(made(a=a, b=b, total=total))
    (identity,) = (i for i in found.identities if i.kind == "sum")
    assert (identity.label, identity.exceptions) == ("total = a + b", 15)
    assert not pairable(found.groups[0], made(a=a, b=b, total=total))[:15].any()


def test_products_conversions_and_weighted_sums_are_guarded() -> None:
    g = rng()
    price, count = g.uniform(1, 90, N).round(2), g.integers(1, 30, N)
    celsius = g.normal(15, 8, N).round(1)
    h, m = g.integers(0, 24, N), g.integers(0, 60, N)
    found = mine(
        made(
            price=price, count=count, amount=(price * count).round(2), c=celsius, f=(celsius * 1.8 + 32).round(2),
            h=h, m=m, at=60 * h + m,
        )
    )  # fmt: skip
    assert {"amount = price * count", "at = 60 * h + m"} <= labels(found)
    (scaled,) = (i for i in found.identities if i.kind == "scaled")
    assert scaled.exceptions == 0
    assert {"price", "count", "amount", "c", "f", "h", "m", "at"} <= set(found.guarded)


def test_shares_that_add_up_are_found_with_their_constant() -> None:
    g = rng()
    a, b = g.uniform(0, 40, N).round(1), g.uniform(0, 40, N).round(1)
    found = mine(made(a=a, b=b, rest=(100 - a - b).round(1)))
    (identity,) = (i for i in found.identities if i.kind == "few")
    assert identity.residuals == (100.0,)
    assert found.groups == ()


def test_midnight_may_be_2400_or_0() -> None:
    assert clock_minutes(np.array([517.0, 2400.0, 0.0, 2359.0])).tolist() == [317.0, 0.0, 0.0, 1439.0]
    g = rng()
    base, late = g.integers(0, 96, N) * 15, g.integers(-20, 200, N)
    at = (base + late) % 1440
    hhmm = at // 60 * 100 + at % 60
    hhmm[hhmm == 0] = 2400
    planned = base // 60 * 100 + base % 60
    found = mine(made(planned=planned, late=late, real=hhmm))
    (clock,) = (i for i in found.identities if i.kind == "clock")
    assert (clock.target, clock.inputs, clock.exceptions) == ("real", ("planned", "late"), 0)
    (group,) = found.groups
    assert (group.driver, group.equal_on) == ("late", ("planned",))


def test_durations_between_times_are_guarded_with_them() -> None:
    g = rng()
    start = np.datetime64("2024-01-01T00:00:00") + g.integers(0, 10**7, N).astype("timedelta64[s]")
    minutes = g.integers(1, 500, N)
    table = made(
        start=start,
        minutes=minutes,
        stop=start + minutes.astype("timedelta64[m]"),
        w=g.normal(size=N).round(3),
    )
    found = mine(table)
    assert "stop = start + 60 * minutes" in labels(found)
    assert {"start", "stop", "minutes"} <= set(found.guarded)
    assert [g.driver for g in found.groups] == ["w"]


def test_order_bars_rows_too_close_to_the_limit() -> None:
    g = rng()
    low = g.normal(50, 10, N).round(1)
    gap = g.exponential(10, N).round(1)
    table = made(low=low, high=(low + gap).round(1))
    found = mine(table)
    group = next(x for x in found.groups if x.driver == "low")
    need = sum(x.tolerance[x.driver] for x in found.groups)
    assert group.guards[0].label == "high >= low"
    assert group.guards[0].slack == need
    room = table.column("high").number - table.column("low").number
    assert np.array_equal(pairable(group, table), room >= need)
    assert 0.05 < np.mean(room < need) < 0.4


# --- roles -----------------------------------------------------------------------------------------


def test_names_are_split_into_words() -> None:
    assert words("CustomerID") == ("customer", "id")
    assert words("Number_of doors") == ("number", "of", "doors")
    assert words("顧客番号") == ("顧客番号",)


def test_roles_by_name_value_and_order() -> None:
    g = rng()
    day = np.datetime64("1950-01-01") + g.integers(0, 800, N).astype("timedelta64[D]")
    table = made(
        row=np.arange(N), phone__number=g.integers(100, 999, N), number__of__doors=g.integers(2, 40, N),
        顧客番号=g.integers(0, 500, N), lat=g.uniform(30, 40, N), lon=g.uniform(130, 140, N),
        month=g.integers(1, 13, N), flag=g.integers(0, 2, N), okay=g.choice([True, False], N),
        same=np.full(N, 3), score=g.choice([1, 2, 3, 4, 5, 6, 7, 8, 10], N),
        code=g.choice([3, 7, 20], N), birth=day.astype("datetime64[s]"), batch=np.repeat(np.arange(30), N // 30),
        held=np.repeat(g.normal(size=N // 4).round(5), 4), note=[f"text {v}" for v in g.integers(0, 900, N)],
        big=2**55 + g.integers(0, 99, N), kind=g.choice(["a", "b", "c"], N), outcome=g.normal(size=N),
    )  # fmt: skip
    role = {k: v.name for k, v in mine(table).columns.items()}
    assert role == {
        "row": "key", "phone number": "identifier", "number of doors": "number", "顧客番号": "identifier",
        "lat": "coordinate", "lon": "coordinate", "month": "date-part", "flag": "dummy", "okay": "dummy",
        "same": "constant", "score": "score", "code": "category", "birth": "time", "batch": "identifier",
        "held": "held", "note": "text", "big": "identifier", "kind": "category", "outcome": "label",
    }  # fmt: skip


def test_unordered_dates_move_by_days() -> None:
    g = rng()
    day = np.datetime64("1950-01-01") + g.integers(0, 800, N).astype("timedelta64[D]")
    (group,) = mine(made(birth=day.astype("datetime64[s]"), z=np.full(N, 1))).groups
    assert (group.kind, group.members) == ("time", ("birth",))
    assert group.tolerance["birth"] % 86_400 == 0


def test_the_last_column_with_few_values_is_the_label() -> None:
    g = rng()
    columns = {c: g.normal(size=N).round(3) for c in "abc"}
    assert mine(made(**columns, verdict=g.integers(0, 2, N))).columns["verdict"].name == "label"
    assert mine(made(a=columns["a"], verdict=g.integers(0, 3, N))).columns["verdict"].name == "category"


# --- tolerance, steps, nulls -------------------------------------------------------------------------


def test_tolerance_follows_spread_grid_and_wish() -> None:
    g = rng()
    wide, narrow = g.normal(1000, 80, N).round() * 5, g.integers(20, 33, N)
    plain = mine(made(wide=wide, narrow=narrow))
    by_name = {x.driver: x for x in plain.groups}
    assert by_name["wide"].step == 5
    assert by_name["wide"].tolerance["wide"] % 5 == 0
    assert 0.08 * wide.std() < by_name["wide"].tolerance["wide"] <= 0.1 * wide.std()
    assert by_name["narrow"].tolerance["narrow"] == 1
    wished = mine(made(wide=wide, narrow=narrow), tolerance={"wide": 17.0, "narrow": 0.0})
    assert wished.groups[0].tolerance == {"wide": 15.0}
    assert wished.guarded["narrow"].startswith("protected by the user")
    assert "below one step" in mine(made(wide=wide, narrow=narrow), tolerance={"wide": 4.0}).guarded["wide"]


def test_one_absurd_value_does_not_widen_the_tolerance() -> None:
    values = rng().normal(0, 10, N).round(1)
    values[0] = 1e9
    (group,) = mine(made(v=values)).groups
    assert group.tolerance["v"] <= 1.0
    assert 1e9 in group.atoms


def test_sparse_grids_get_a_move_that_reaches_a_neighbour() -> None:
    celsius = np.round(rng().normal(15, 8, N) * 2) / 2
    fahrenheit = (celsius * 1.8 + 32).round(2)
    fahrenheit[:3] += 0.02  # a few odd readings make the printed grid 0.02
    (group,) = mine(made(f=fahrenheit, z=np.full(N, 1))).groups
    assert group.step == pytest.approx(0.02)
    assert 0.9 - 1e-9 <= group.tolerance["f"] <= 0.2 * fahrenheit.std()


@pytest.mark.parametrize("amount", [0.5, 1.0, 3.0])
def test_partners_agree_with_a_slow_count(amount: float) -> None:
    values = np.concatenate([rng(3).integers(0, 60, 150), np.full(120, 30), np.full(20, 90)]).astype(float)
    count = Counter(values.tolist())
    moving = [v for v in values.tolist() if count[v] <= 0.3 * len(values)]
    good = [v for v in moving if sum(abs(w - v) <= amount and w != v for w in values) >= count[v]]
    assert partnered(examine("v", canonical_column(pa.array(values))), amount) == len(good) / len(moving)


def test_frequent_values_are_atoms() -> None:
    g = rng()
    values = np.where(g.random(N) < 0.4, 40, g.integers(1, 99, N))
    (group,) = mine(made(v=values)).groups
    assert group.atoms == (1.0, 40.0, 98.0)


def test_missing_cells_do_not_move() -> None:
    g = rng()
    values = g.normal(size=N).round(2)
    table = made(v=pa.array(values, mask=g.random(N) < 0.3), w=g.normal(size=N).round(2))
    group = next(x for x in mine(table).groups if x.driver == "v")
    assert np.array_equal(pairable(group, table), table.column("v").tag != 0)


def test_infinite_numbers_are_left_alone() -> None:
    values = rng().normal(size=N).round(2)
    values[:3] = np.inf
    found = mine(made(v=values, w=rng(2).normal(size=N).round(2)))
    assert {x.driver for x in found.groups} == {"v", "w"}


# --- pieces ----------------------------------------------------------------------------------------


def slow_fit(x: list[int], y: list[int]) -> tuple[int, int, int]:
    groups: dict[int, list[int]] = defaultdict(list)
    for a, b in zip(x, y, strict=True):
        if a >= 0 and b >= 0:
            groups[a].append(b)
    several = [v for v in groups.values() if len(v) >= 2]
    rows = sum(map(len, several))
    wrong = rows - sum(max(Counter(v).values()) for v in several)
    return rows, wrong, rows - max(Counter(b for v in several for b in v).values(), default=0)


@pytest.mark.parametrize(("levels", "rows"), [(5, 400), (300, 400), (4000, 900)])
def test_fit_agrees_with_a_slow_count(levels: int, rows: int) -> None:
    g = rng(levels)
    x, y = g.integers(-1, levels, rows), g.integers(-1, levels // 2, rows)
    a, b = dense(x, x < 0), dense(y, y < 0)
    measured = fit(a, b)
    assert (measured.rows, measured.exceptions, measured.variety) == slow_fit(
        a.codes.tolist(), b.codes.tolist()
    )


def test_association_is_nought_for_independent_and_one_for_equal_columns() -> None:
    g = rng()
    x, y = g.integers(0, 6, N), g.integers(0, 4, N)
    a, b = dense(x, x < 0), dense(y, y < 0)
    assert cramers_v(a, b) < 0.05
    assert cramers_v(a, a) == pytest.approx(1.0)


def test_views_of_texts_and_times() -> None:
    text = examine("t", canonical_column(pa.array(["AB12", "AB7", "C5", "99", None])))
    assert view(text, "prefix").codes.tolist() == [0, 0, 1, 2, -1]
    times = examine(
        "d", canonical_column(pa.array(["2024-01-01T10:00:00", "2024-01-08T10:00:00", "2024-01-08 11:00"]))
    )
    assert view(times, "weekday").levels == 1
    assert view(times, "clock").codes.tolist() == [0, 0, 1]
    assert view(times, "date").codes.tolist() == [0, 1, 1]


# --- errors ----------------------------------------------------------------------------------------


def test_wrong_wishes_are_said_in_one_line() -> None:
    table = made(a=[1, 2, 3], b=[1, 2, 3])
    with pytest.raises(UsageError, match="column 'c': no such column"):
        mine(table, protect=frozenset({"c"}))
    for bad in (-1.0, float("nan"), float("inf")):
        with pytest.raises(UsageError, match="not a finite number"):
            mine(table, tolerance={"a": bad})
    twice = CanonicalTable(("a", "a"), table.columns)
    with pytest.raises(UsageError, match="occurs twice"):
        mine(twice)


def test_tables_of_other_shape_are_not_compared() -> None:
    table = made(a=[1, 2, 3], b=[1, 2, 3])
    found = mine(table)
    with pytest.raises(UsageError, match="2 rows instead of 3"):
        violations(found, table, made(a=[1, 2], b=[1, 2]))
    with pytest.raises(UsageError, match="no such column"):
        violations(found, table, made(a=[1, 2, 3]))


def test_foreign_facts_are_refused() -> None:
    good = mine(made(a=[1, 2, 3])).to_dict()
    with pytest.raises(SchemeMismatch, match="facts of schema"):
        Facts.from_dict({**good, "schema": "dataguard.facts/99"})
    with pytest.raises(SchemeMismatch, match="missing or unknown part"):
        Facts.from_dict({k: v for k, v in good.items() if k != "groups"})


def test_ties_are_seen_in_general_and_in_one_level_only() -> None:
    g = np.random.default_rng(9)
    n = 3000
    kind = g.choice(["a", "b", "c"], n, p=[0.6, 0.37, 0.03])
    amount = g.gamma(2, 10, n)
    free = [
        examine("x", canonical_column(pa.array(v)))
        for v in (kind, amount, np.where(kind == "c", 0.0, amount))
    ]
    classes = [binned(c) for c in free]
    assert all(c is not None for c in classes)
    own, loose, one_level = classes
    assert not is_tied(own, loose)
    assert is_tied(own, one_level), "every row of c has amount 0, and by far not all rows have"
    shifted = binned(examine("x", canonical_column(pa.array(amount + 15 * (kind == "a")))))
    assert is_tied(own, shifted)
