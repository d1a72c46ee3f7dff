"""The peers of `compare`, each run as a careful user would, in the environment that holds them.

    PYTHON benchmarks/compare_peers.py TOOL ORIGINAL SUSPECT OUT [KEY,KEY...]

PYTHON has duckdb, scipy, pandas, polars, datacompy, splink and valentine; nothing of dataguard is imported.
A tool is given the key where the suspect still has it unchanged. Its time and memory are taken before the
pairs of rows are fetched for the score. A tool that has no use for the input says so and ends.
"""

from __future__ import annotations

import importlib.metadata
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from compare_child import used, write_found

NONE = (np.empty(0, np.int64), np.empty(0, np.int64))
Answer = tuple[dict[str, str], Callable[[], tuple[np.ndarray, np.ndarray]], dict[str, Any]]
"""Column map (suspect to original), what fetches the pairs of rows, and anything else it said."""


def nothing() -> tuple[np.ndarray, np.ndarray]:
    """Return no pairs of rows."""
    return NONE


def quoted(name: str) -> str:
    """Return a name as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def as_text(name: str, kind: str) -> str:
    """Return a column as text in SQL: 5 and 5.0 the same."""
    numeric = any(word in kind for word in ("INT", "DOUBLE", "FLOAT", "DECIMAL"))
    return f"CAST({f'CAST({quoted(name)} AS DOUBLE)' if numeric else quoted(name)} AS VARCHAR)"


# --- DIY: what one writes in an afternoon ------------------------------------------------------------


def diy(original: str, suspect: str, _: list[str]) -> Answer:
    """Map columns by the overlap of their values, then intersect the rows on the mapped columns as text.

    Overlap: mean of the share of suspect cells whose value the original column has, and of the common area
    of both distributions; columns are assigned at their largest sum and kept where the former is at least
    one half.
    """
    import duckdb
    from scipy.optimize import linear_sum_assignment

    con = duckdb.connect()
    names, text = {}, {}
    for side, path in (("a", original), ("b", suspect)):
        con.execute(f"CREATE TABLE {side} AS SELECT * FROM read_parquet(?, file_row_number=true)", [path])
        types = {d[0]: d[1] for d in con.execute(f"DESCRIBE {side}").fetchall() if d[0] != "file_row_number"}
        names[side] = list(types)
        text[side] = {n: as_text(n, types[n]) for n in names[side]}
        cells = ", ".join(f"{text[side][n]} AS c{i}" for i, n in enumerate(names[side]))
        con.execute(
            f"CREATE TABLE v{side} AS SELECT c, v, count(*) / sum(count(*)) OVER (PARTITION BY c) AS p "
            f"FROM (UNPIVOT (SELECT {cells} FROM {side}) ON COLUMNS(*) INTO NAME c VALUE v) GROUP BY c, v"
        )
    pairs = con.execute(
        "SELECT a.c, b.c, sum(b.p), sum(least(a.p, b.p)) FROM va a JOIN vb b USING (v) GROUP BY a.c, b.c"
    ).fetchall()
    held, common = np.zeros((2, len(names["b"]), len(names["a"])))
    for a, b, h, c in pairs:
        held[int(b[1:]), int(a[1:])], common[int(b[1:]), int(a[1:])] = h, c
    at = linear_sum_assignment(held + common, maximize=True)
    kept = [(names["b"][i], names["a"][j]) for i, j in zip(*at, strict=True) if held[i, j] >= 0.5]
    if not kept:
        return {}, nothing, {}
    right = ", ".join(f"{text['b'][b]} AS k{i}" for i, (b, _) in enumerate(kept))
    left = ", ".join(f"{text['a'][a]} AS k{i}" for i, (_, a) in enumerate(kept))
    count = con.execute(
        f"SELECT count(*) FROM (SELECT {right} FROM b INTERSECT ALL SELECT {left} FROM a)"
    ).fetchall()[0][0]

    def fetch() -> tuple[np.ndarray, np.ndarray]:
        # The same multiset with the rows that are in it: the nth of a content here is the nth of it there.
        keys = ", ".join(f"k{i}" for i in range(len(kept)))
        ranked = (
            "SELECT *, row_number() OVER (PARTITION BY {k} ORDER BY row) AS nth "
            "FROM (SELECT file_row_number AS row, {c} FROM {t})"
        )
        same = " AND ".join(f"x.k{i} IS NOT DISTINCT FROM y.k{i}" for i in range(len(kept)))
        found = con.execute(
            f"SELECT x.row AS s, y.row AS o FROM ({ranked.format(k=keys, c=right, t='b')}) x JOIN "
            f"({ranked.format(k=keys, c=left, t='a')}) y ON x.nth = y.nth AND {same}"
        ).fetchnumpy()
        return np.asarray(found["s"], np.int64), np.asarray(found["o"], np.int64)

    return dict(kept), fetch, {"said_rows": count}


# --- datacompy -------------------------------------------------------------------------------------


def datacompy(original: str, suspect: str, key: list[str]) -> Answer:
    """Join on the key, or else on all columns that both have; polars, with the report."""
    import polars as pl
    from datacompy import PolarsCompare

    a, b = pl.read_parquet(original), pl.read_parquet(suspect)
    shared = [c for c in b.columns if c in a.columns]
    if not shared:
        return {}, nothing, {"refused": "no column name in common"}
    casts: dict[str, Any] = {}
    for c in shared:
        if a[c].dtype != b[c].dtype:
            casts[c] = pl.Float64 if a[c].dtype.is_numeric() and b[c].dtype.is_numeric() else pl.String
    a, b = a.cast(casts), b.cast(casts)
    a, b = a.with_row_index("row__a"), b.with_row_index("row__b")
    made = PolarsCompare(a, b, join_columns=key or shared, cast_column_names_lower=False)
    made.report()

    def fetch() -> tuple[np.ndarray, np.ndarray]:
        rows = made.intersect_rows
        found = [next(c for c in rows.columns if c.startswith(f"row__{side}")) for side in "ba"]
        return rows[found[0]].to_numpy().astype(np.int64), rows[found[1]].to_numpy().astype(np.int64)

    return (
        {c: c for c in shared},
        fetch,
        {"joined_on": key or shared, "said_rows": made.intersect_rows.height},
    )


# --- splink ----------------------------------------------------------------------------------------

PAIRS = 50
"""Largest number of candidate pairs of a blocking rule, per row of the suspect."""


def splink(original: str, suspect: str, _: list[str]) -> Answer:
    """Link by up to eleven shared columns, three blocking rules, EM; the best partner above 0.9 of each row.

    Texts are compared exactly and by Jaro-Winkler, numbers exactly and within 5 % of a standard deviation.
    Where training then fails on a level that no pair reaches: six columns whose values survived, exactly.
    """
    import duckdb

    con = duckdb.connect()
    tables = {}
    for side, path in (("a", original), ("b", suspect)):
        con.execute(
            f"CREATE TABLE {side} AS SELECT file_row_number AS unique_id, * EXCLUDE (file_row_number) "
            "FROM read_parquet(?, file_row_number=true)", [path],
        )  # fmt: skip
        tables[side] = {d[0]: d[1] for d in con.execute(f"DESCRIBE {side}").fetchall() if d[0] != "unique_id"}
    shared = [c for c in tables["b"] if c in tables["a"]]
    if len(shared) < 2:
        return {}, nothing, {"refused": "fewer than two column names in common"}
    for c in shared:
        if tables["a"][c] != tables["b"][c]:
            texts = "VARCHAR" in (tables["a"][c], tables["b"][c])
            for side in "ab":
                con.execute(f"ALTER TABLE {side} ALTER {quoted(c)} TYPE {'VARCHAR' if texts else 'DOUBLE'}")
                tables[side][c] = "VARCHAR" if texts else "DOUBLE"
    distinct = {c: con.execute(f"SELECT count(DISTINCT {quoted(c)}) FROM a").fetchall()[0][0] for c in shared}
    rules = blocking(con, shared, distinct)
    if not rules:
        return {}, nothing, {"refused": "no blocking rule with few enough pairs"}
    chosen = sorted((c for c in shared if distinct[c] > 1), key=lambda c: -distinct[c])[:11]
    try:
        found = linked(con, [comparison(con, c, tables["a"][c], distinct[c]) for c in chosen], rules)
    except ValueError:
        import splink.comparison_library as cl

        found = linked(con, [cl.ExactMatch(c) for c in chosen if in_common(con, c) >= 0.8][:6], rules)
    return {c: c for c in shared}, lambda: found, {"blocked_on": rules}


def linked(con: Any, comparisons: list[Any], rules: list[list[str]]) -> tuple[np.ndarray, np.ndarray]:
    """Return the best partner above 0.9 of each row of the suspect."""
    from splink import DuckDBAPI, Linker, SettingsCreator, block_on

    api = DuckDBAPI(connection=con)
    settings = SettingsCreator(
        link_type="link_only",
        comparisons=comparisons,
        blocking_rules_to_generate_predictions=[block_on(*r) for r in rules],
        retain_matching_columns=False,
    )
    linker = Linker([api.register(side, dataset_display_name=f"side_{side}") for side in "ab"], settings)
    linker.training.estimate_probability_two_random_records_match([block_on(*rules[0])], recall=0.8)
    linker.training.estimate_u_using_random_sampling(max_pairs=1e6, seed=1)
    for rule in rules[:2]:
        linker.training.estimate_parameters_using_expectation_maximisation(block_on(*rule))
    made = linker.inference.predict(threshold_match_probability=0.9).physical_name
    best = con.execute(
        f"SELECT unique_id_r AS s, arg_max(unique_id_l, match_weight) AS o FROM {made} GROUP BY unique_id_r"
    ).fetchnumpy()
    return np.asarray(best["s"], np.int64), np.asarray(best["o"], np.int64)


def in_common(con: Any, name: str) -> float:
    """Return the share of the suspect's cells of a column whose value the original's column has."""
    column = quoted(name)
    return (
        con.execute(f"SELECT avg(({column} IN (SELECT {column} FROM a))::INT) FROM b").fetchall()[0][0] or 0.0
    )


def blocking(con: Any, shared: list[str], distinct: dict[str, int]) -> list[list[str]]:
    """Return up to three lists of columns to block on, no column twice.

    Columns whose values survived, the most varied first, as many as it takes to have few enough pairs.
    """
    left = sorted((c for c in shared if in_common(con, c) >= 0.8), key=lambda c: -distinct[c])
    chosen: list[list[str]] = []
    rule: list[str] = []
    rows = con.execute("SELECT count(*) FROM b").fetchall()[0][0]
    for name in left:
        rule = [*rule, name]
        cells = ", ".join(map(quoted, rule))
        pairs = con.execute(
            f"SELECT coalesce(sum(x.n * y.n), 0) FROM (SELECT {cells}, count(*) n FROM a GROUP BY ALL) x "
            f"JOIN (SELECT {cells}, count(*) n FROM b GROUP BY ALL) y USING ({cells})"
        ).fetchall()[0][0]
        if pairs <= PAIRS * rows:
            chosen.append(rule)
            rule = []
    return chosen[:3]


def comparison(con: Any, name: str, kind: str, distinct: int) -> Any:
    """Return how splink compares one column."""
    import splink.comparison_library as cl

    if kind == "VARCHAR":
        return cl.JaroWinklerAtThresholds(name, [0.9]) if distinct > 50 else cl.ExactMatch(name)
    if kind.startswith(("DATE", "TIME")):
        return cl.ExactMatch(name)
    sd = con.execute(f"SELECT stddev({quoted(name)}) FROM a").fetchall()[0][0] or 1.0
    left, right = f'"{name}_l"', f'"{name}_r"'
    return cl.CustomComparison(
        output_column_name=name,
        comparison_levels=[
            {"sql_condition": f"{left} IS NULL OR {right} IS NULL", "label_for_charts": "missing",
             "is_null_level": True},
            {"sql_condition": f"{left} = {right}", "label_for_charts": "equal"},
            {"sql_condition": f"abs({left} - {right}) <= {0.05 * sd}", "label_for_charts": "near"},
            {"sql_condition": "ELSE", "label_for_charts": "other"},
        ],
    )  # fmt: skip


# --- Valentine -------------------------------------------------------------------------------------


def valentine(original: str, suspect: str, which: str) -> Answer:
    """Match columns, one for one; rows are none of its business.

    Coma reads names and, where the NLTK corpora it wants are at hand, values.
    """
    import pandas as pd
    from nltk.corpus import stopwords
    from valentine import valentine_match
    from valentine.algorithms import Coma, JaccardDistanceMatcher

    said: dict[str, Any] = {}
    matcher = JaccardDistanceMatcher()
    if which == "coma":
        try:
            stopwords.words("english")
            matcher = Coma(use_instances=True)
        except LookupError:
            matcher, said = Coma(), {"note": "names only: its NLTK corpora are not here"}
    a, b = pd.read_parquet(original), pd.read_parquet(suspect)
    found = valentine_match([a, b], matcher, df_names=["a", "b"]).one_to_one_hungarian()
    columns = {}
    for pair in found:
        sides = {pair.source_table: pair.source_column, pair.target_table: pair.target_column}
        columns[sides["b"]] = sides["a"]
    return columns, nothing, said


TOOLS: dict[str, tuple[str, Callable[[str, str, list[str]], Answer]]] = {
    "DIY SQL": ("duckdb", diy),
    "datacompy": ("datacompy", datacompy),
    "splink": ("splink", splink),
    "Valentine Jaccard": ("valentine", lambda a, b, _: valentine(a, b, "jaccard")),
    "Valentine Coma": ("valentine", lambda a, b, _: valentine(a, b, "coma")),
}
"""Name, distribution, function."""


def main() -> None:
    """Run one tool, or say which versions are here."""
    if sys.argv[1] == "--versions":
        for tool, (distribution, _) in TOOLS.items():
            try:
                print(f"{tool}\t{distribution} {importlib.metadata.version(distribution)}")
            except importlib.metadata.PackageNotFoundError:
                print(f"{tool}\t")
        return
    started = time.perf_counter()
    tool, original, suspect, out = sys.argv[1:5]
    key = [c for c in (sys.argv[5] if len(sys.argv) > 5 else "").split(",") if c]
    columns, fetch, said = TOOLS[tool][1](original, suspect, key)
    cost = used(started)
    write_found(Path(out), fetch(), {"columns": columns, **cost, **said})


if __name__ == "__main__":
    main()
