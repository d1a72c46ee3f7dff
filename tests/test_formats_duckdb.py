"""DuckDB files: types, order, shut doors, damaged files, and a copy in which only the planned cells differ."""

import contextlib
import io
import random
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest

duckdb = pytest.importorskip("duckdb")

from dataguard.errors import DataguardError, DecodeError, UsageError  # noqa: E402
from dataguard.formats import duckdb_file  # noqa: E402
from dataguard.formats.duckdb_file import DuckdbSource, deciphered, shut_in  # noqa: E402
from dataguard.formats.duckdb_write import write_duckdb  # noqa: E402
from dataguard.formats.edits import Moves, apply_moves  # noqa: E402

ROWS = 5000
SCHEMA = """
CREATE TYPE mood AS ENUM ('sad', 'glad');
CREATE SEQUENCE seq START 5; SELECT nextval('seq');
CREATE TABLE t AS SELECT i::INTEGER AS i, i * 2 AS v, CASE WHEN i % 9 THEN '値' || (i % 40) END AS s,
    (i % 7)::DECIMAL(9, 2) AS d, ['sad', 'glad'][1 + i % 2]::mood AS m,
    ('00000000-0000-0000-0000-' || lpad(i::VARCHAR, 12, '0'))::UUID AS u, i::HUGEINT AS h, [i, NULL] AS l,
    {'a': i} AS st, MAP {'k': i} AS mp, [i::HUGEINT] AS hl, TIMESTAMPTZ '2020-01-01 00:00:00+09' AS tz,
    INTERVAL 3 DAY AS iv, 'x'::BLOB AS b, CASE WHEN i % 3 THEN 'NaN'::DOUBLE ELSE i / 3 END AS f,
    DATE '2020-01-01' + (i % 30)::INTEGER AS dd, TIMESTAMP_NS '2020-01-01' AS ns, i % 2 = 0 AS ok, '{}'::JSON AS js
    FROM range(5003) r(i);
DELETE FROM t WHERE i IN (7, 8, 4000);
CREATE INDEX ix ON t(v); CREATE INDEX ix2 ON t(s, d);
CREATE VIEW vv AS SELECT * FROM t;
CREATE MACRO twice(x) AS x * 2;
COMMENT ON TABLE t IS 'hello'; COMMENT ON COLUMN t.v IS 'vee';
CREATE TABLE k(id INTEGER PRIMARY KEY, e VARCHAR UNIQUE, w INTEGER DEFAULT nextval('seq') CHECK (w < 1000),
    g INTEGER GENERATED ALWAYS AS (w + 1) VIRTUAL, z INTEGER NOT NULL, CHECK (w <= z + 100));
INSERT INTO k(id, e, w, z) SELECT i, 'k' || i, i % 9, i FROM range(1000) r(i);
CREATE TABLE child(a INTEGER REFERENCES k(id), x INTEGER);
INSERT INTO child SELECT i, i FROM range(10) r(i);
CREATE SCHEMA sc; CREATE TABLE sc."we ""ird"("a'b" INTEGER); INSERT INTO sc."we ""ird" VALUES (1), (2);
CREATE INDEX "i'x" ON sc."we ""ird"("a'b");
"""


def make(tmp_path, script, name="in.duckdb"):
    file = tmp_path / name
    with contextlib.closing(duckdb.connect(str(file))) as con:
        con.execute(script)
    return file


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return make(tmp_path_factory.mktemp("duck"), SCHEMA)


def source_of(path, table="t"):
    return DuckdbSource(path, "duckdb", path.name, table)


def written(source, moves):
    out = io.BytesIO()
    return write_duckdb(source, moves, out), out.getvalue()


def swaps(columns, rows, count=200):
    rng = np.random.default_rng(5)
    moves = []
    for column in columns:
        chosen = rng.permutation(rows)[: 2 * count]
        moves.append(Moves(column, chosen, np.roll(chosen, count)))
    return moves


def same(a, b):
    """Equality of tables that counts NaN equal to NaN."""
    if a.schema != b.schema:
        return False
    return all(
        x.combine_chunks().to_pandas().equals(y.combine_chunks().to_pandas())
        if pa.types.is_floating(x.type)
        else x.equals(y)
        for x, y in zip(a.columns, b.columns, strict=True)
    )


def test_types_and_order(path):
    source = source_of(path)
    assert source.rows() == ROWS == source.table().num_rows
    types = {field.name: field.type for field in source.table().schema}
    text = pa.large_string()
    plain = {"i": pa.int32(), "v": pa.int64(), "s": text, "d": pa.decimal128(9, 2), "m": text, "u": text}
    assert {name: types[name] for name in plain} == plain
    assert types["h"] == types["iv"] == types["hl"] == text
    assert types["b"] == pa.large_binary()
    assert types["tz"] == pa.timestamp("us", "UTC")
    assert source.nested_columns == ("h", "l", "st", "mp", "hl", "iv", "b", "js")
    table = source.table(["s", "i"])
    assert table.column_names == ["s", "i"]
    assert table["i"].to_pylist() == [i for i in range(5003) if i not in (7, 8, 4000)]
    assert table["s"][10].as_py() == "値12"
    assert [b.num_rows for b in source.batches(["l"])] == [ROWS]
    with pytest.raises(UsageError, match="no column 'q'"):
        source.table(["q"])
    assert source_of(path, "k").nested_columns == ("id", "e", "g")
    assert source_of(path, "child").nested_columns == ("a",)


def test_passes_may_overlap(path):
    first, second = source_of(path), source_of(path)
    one, two = first.batches(["i"]), second.batches(["v"])
    assert next(one).num_rows == next(two).num_rows == ROWS
    _, data = written(first, [Moves("v", np.array([0, 1]), np.array([1, 0]))])
    assert data
    assert (list(one), list(two)) == ([], [])
    assert duckdb_file._OPEN == {}
    next(first.batches(["i"])).validate()
    with pytest.raises(DecodeError), source_of(path).decoding(), first.open() as con:
        con.execute("SELECT * FROM missing")
    assert duckdb_file._OPEN == {}


def test_batches_are_bounded(tmp_path):
    file = make(tmp_path, "CREATE TABLE t AS SELECT i FROM range(200000) r(i)")
    batches = list(source_of(file).batches())
    assert [b.num_rows for b in batches] == [65536, 65536, 65536, 3392]
    assert pa.Table.from_batches(batches)["i"].to_pylist() == list(range(200000))
    wide = make(
        tmp_path, "CREATE TABLE t AS SELECT repeat('x', 20000) || i AS s FROM range(9000) r(i)", "w.duckdb"
    )
    assert max(b.nbytes for b in source_of(wide).batches()) < 120_000_000
    assert sum(b.num_rows for b in source_of(wide).batches()) == 9000


def test_the_copy_differs_in_the_planned_cells_only(path, tmp_path):
    source = source_of(path)
    moves = swaps(["v", "s", "d", "m", "u", "tz", "f", "dd", "ok"], ROWS)
    (changed, lost), data = written(source, moves)
    assert (changed, lost) == (9 * 400, ())
    out = tmp_path / "out.duckdb"
    out.write_bytes(data)
    after = source_of(out)
    assert same(after.table(), apply_moves(source.table(), moves))
    assert not same(after.table(), source.table())
    for other in ("k", "child", 'sc.we "ird'):
        assert source_of(out, other).table().equals(source_of(path, other).table())
    with contextlib.closing(duckdb.connect(str(out))) as con:
        assert con.execute("SELECT comment FROM duckdb_tables() WHERE table_name = 't'").fetchall() == [
            ("hello",)
        ]
        indexes = con.execute("SELECT index_name FROM duckdb_indexes() ORDER BY 1").fetchall()
        assert indexes == [("i'x",), ("ix",), ("ix2",)]
        assert con.execute("SELECT twice(2), nextval('seq')").fetchall() == [(4, 6)]
        assert con.execute("SELECT count(*) FROM vv WHERE v = 84").fetchall() == [(1,)]
        with pytest.raises(duckdb.ConstraintException):
            con.execute("INSERT INTO k(id, z) VALUES (3, 1)")


def test_generated_columns_follow_and_are_told(path, tmp_path):
    source = source_of(path, "k")
    moves = [Moves("w", np.array([1, 500]), np.array([500, 1]))]
    (changed, lost), data = written(source, moves)
    assert changed == 2
    assert lost == ("generated columns were computed anew ('g')",)
    out = tmp_path / "out.duckdb"
    out.write_bytes(data)
    table = source_of(out, "k").table()
    assert table["g"].to_pylist() == [w + 1 for w in table["w"].to_pylist()]
    plain = ["id", "e", "w", "z"]
    assert table.select(plain).equals(apply_moves(source.table(plain), moves))


def test_odd_names_in_another_schema(path, tmp_path):
    source = source_of(path, 'sc.we "ird')
    (changed, lost), data = written(source, [Moves("a'b", np.array([0, 1]), np.array([1, 0]))])
    assert (changed, lost) == (2, ())
    (tmp_path / "out.duckdb").write_bytes(data)
    assert source_of(tmp_path / "out.duckdb", 'we "ird').table().to_pydict() == {"a'b": [2, 1]}


def test_no_original_block_stays_in_the_file(tmp_path):
    """A cell that moved must not be found a second time, in a block left over from the original."""
    script = (
        "CREATE TABLE t AS SELECT i, CASE WHEN i = 5 THEN 'NEEDLE-IN-THE-HAY' ELSE md5(i::VARCHAR) END AS s"
        " FROM range(3000) r(i)"
    )
    file = make(tmp_path, f"PRAGMA force_compression='uncompressed'; {script}")
    assert file.read_bytes().count(b"NEEDLE-IN-THE-HAY") == 1
    _, data = written(source_of(file), [Moves("s", np.array([5, 2900]), np.array([2900, 5]))])
    assert data.count(b"NEEDLE-IN-THE-HAY") <= 1
    (tmp_path / "out.duckdb").write_bytes(data)
    assert source_of(tmp_path / "out.duckdb").table()["s"][2900].as_py() == "NEEDLE-IN-THE-HAY"


def test_no_moves_is_the_file_and_the_storage_version_stays(path, tmp_path):
    assert written(source_of(path), [])[1] == path.read_bytes()
    old = tmp_path / "old.duckdb"
    with contextlib.closing(duckdb.connect()) as con:
        con.execute(f"ATTACH '{old}' AS o (STORAGE_VERSION 'v1.0.0')")
        con.execute("CREATE TABLE o.t AS SELECT i FROM range(10) r(i)")
    _, data = written(source_of(old), [Moves("i", np.array([0, 1]), np.array([1, 0]))])
    assert data[8:20] == old.read_bytes()[8:20]


def test_refusals(path, tmp_path, monkeypatch):
    with pytest.raises(UsageError, match=r"holds 4 tables \(.*'sc.we \"ird'.*\); name it as FILE::TABLE"):
        source_of(path, None)
    with pytest.raises(UsageError, match="'VV' is a view"):
        source_of(path, "VV")
    with pytest.raises(UsageError, match="has no table"):
        source_of(path, "t\"; DROP TABLE t; --'")
    swap = (np.array([0, 999]), np.array([999, 0]))
    for name in source_of(path, "k").nested_columns:
        with pytest.raises(UsageError, match=f"'{name}' is never changed"):
            written(source_of(path, "k"), [Moves(name, *swap)])
    with pytest.raises(UsageError, match="constraint forbids exchanging cells of column 'z'"):
        written(source_of(_tight(tmp_path)), [Moves("z", np.array([0, 1]), np.array([1, 0]))])
    log = tmp_path / "log.duckdb"
    log.write_bytes(path.read_bytes())
    (tmp_path / "log.duckdb.wal").write_bytes(b"x")
    with pytest.raises(UsageError, match="has rows in a log beside it"):
        source_of(log)
    with pytest.raises(UsageError, match="cannot be opened"):
        source_of(tmp_path / "missing.duckdb")
    empty = make(tmp_path, "CREATE TABLE t(a INT)", "e.duckdb")
    with pytest.raises(DecodeError, match="no rows"):
        source_of(empty)
    monkeypatch.setitem(sys.modules, "duckdb", None)
    with pytest.raises(UsageError, match=r'pip install "dataguard\[duckdb\]"'):
        source_of(path)


def _tight(tmp_path):
    return make(
        tmp_path,
        "CREATE TABLE t(w INT, z INT, CHECK (w <= z)); INSERT INTO t VALUES (1, 1), (2, 2)",
        "c.duckdb",
    )


def test_a_file_open_elsewhere_is_refused(path, tmp_path):
    busy = tmp_path / "busy.duckdb"
    busy.write_bytes(path.read_bytes())
    code = f"import duckdb, sys; c = duckdb.connect({str(busy)!r}); print('up', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout.readline() == b"up\n"
        with pytest.raises(UsageError, match="open in another program"):
            source_of(busy)
        other.stdin.close()
    with (
        contextlib.closing(duckdb.connect(str(busy))),
        pytest.raises(UsageError, match="open in another program"),
    ):
        source_of(busy)


def test_the_doors_are_shut(path, tmp_path):
    source = source_of(path)
    with source.open() as con:
        for sql in (
            "SELECT * FROM read_csv('/etc/passwd')",
            f"ATTACH '{tmp_path / 'x.duckdb'}' AS x",
            f"COPY (SELECT 1) TO '{tmp_path / 'x.csv'}'",
            "INSTALL httpfs",
            "SET enable_external_access=true",
            "SET memory_limit='10GB'",
            "INSERT INTO k(id, z) VALUES (-1, 1)",
        ):
            with pytest.raises(duckdb.Error):
                con.execute(sql)
    with contextlib.closing(shut_in([tmp_path / "s"], "1GB", tmp_path / "spill")) as con:
        for sql in (
            "SELECT * FROM read_csv('/etc/passwd')",
            "SET enable_external_access=true",
            f"ATTACH '{tmp_path / 'y'}'",
        ):
            with pytest.raises(duckdb.Error):
                con.execute(sql)
    assert not (tmp_path / "x.csv").exists()


def test_bombs_are_refused(tmp_path, monkeypatch):
    """Compression hides size: 250 MB in a file of 1 MB, read within the limit or not at all."""
    text = make(tmp_path, "CREATE TABLE t AS SELECT repeat('x', 100000) AS s FROM range(2500)", "s.duckdb")
    assert text.stat().st_size < 2_000_000
    monkeypatch.setattr(duckdb_file, "_MEMORY", "100MB")
    with pytest.raises(DecodeError, match="needs more memory than is allowed"):
        source_of(text).table()


@pytest.mark.parametrize("cases", [60, pytest.param(600, marks=pytest.mark.long)])
def test_damaged_files_give_one_line(tmp_path, cases):
    """Damaged files, half of them with their block checksums made right again as an attacker would."""
    data = make(
        tmp_path, "CREATE TABLE t AS SELECT i, 'x' || i AS s, [i] AS l FROM range(3000) r(i)"
    ).read_bytes()
    rnd = random.Random(11)
    busy = [i for i, byte in enumerate(data) if byte]
    file, refused, read = tmp_path / "f.duckdb", [], 0
    for case in range(cases):
        bad = bytearray(data)
        for _ in range(rnd.choice([1, 4, 30])):
            bad[rnd.choice(busy)] ^= 1 << rnd.randrange(8)
        if case % 2:
            _repair(bad)
        elif case % 5 == 0:
            bad = bad[: rnd.randrange(len(bad))]
        file.write_bytes(bad)
        try:
            read += source_of(file).table().num_rows >= 0
        except DataguardError as error:
            refused.append(str(error))
    assert len(refused) > cases // 6
    assert read > cases // 6
    assert not [line for line in refused if "\n" in line]


def _repair(data):
    """Recompute the checksum of every 256 KiB block: 5381 xor the xor of words times a constant."""
    for first in range(3 * 4096, len(data), 1 << 18):
        words = np.frombuffer(bytes(data[first + 8 : first + (1 << 18)]), "<u8")
        value = np.bitwise_xor.reduce(words * np.uint64(0xBF58476D1CE4E5B9)) ^ np.uint64(5381)
        data[first : first + 8] = int(value).to_bytes(8, "little")


def test_errors_are_one_line():
    for error in (
        duckdb.IOException("IO Error: a\nb"),
        MemoryError(),
        RuntimeError(""),
        OSError(28, "No space"),
    ):
        line = str(deciphered(error, "f"))
        assert "\n" not in line
        assert line.startswith("f: ")
