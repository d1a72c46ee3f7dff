"""SQLite files: content types, order, hostile files, and a copy in which only the planned cells differ."""

import io
import random
import sqlite3
from contextlib import closing

import numpy as np
import pyarrow as pa
import pytest

from dataguard.errors import DataguardError, DecodeError, UsageError
from dataguard.formats.edits import Moves, apply_moves
from dataguard.formats.sqlite_file import SqliteSource
from dataguard.formats.sqlite_write import write_sqlite

ROWS = 300
SCHEMA = """
PRAGMA application_id=77; PRAGMA user_version=5;
CREATE TABLE t(id INTEGER PRIMARY KEY, n INT, r REAL, s TEXT NOT NULL, b BLOB, m, e TEXT UNIQUE, x,
               g AS (n + 1), h TEXT AS (upper(s)) STORED, "we ""ird" TEXT CHECK (length("we ""ird") < 9));
CREATE INDEX ix ON t(n, s); CREATE INDEX part ON t(r) WHERE r > 3; CREATE INDEX expr ON t(lower(s));
CREATE TABLE log(what TEXT); INSERT INTO log VALUES ('a'), ('b'); DELETE FROM log WHERE what = 'a';
CREATE VIEW v AS SELECT * FROM t;
CREATE TRIGGER tr AFTER UPDATE ON t BEGIN INSERT INTO log VALUES ('fired ' || new.id); END;
CREATE TRIGGER other AFTER DELETE ON log BEGIN SELECT 1; END;
CREATE VIRTUAL TABLE words USING fts5(body); INSERT INTO words VALUES ('hello world');
CREATE TABLE w(a TEXT, b INT, c REAL, PRIMARY KEY (b, a)) WITHOUT ROWID;
"""


def fill(con, rows=ROWS):
    con.execute("PRAGMA synchronous=OFF")
    con.executescript(SCHEMA)
    con.execute("BEGIN")
    mixed = [1, "one", None, b"\x01", 2.5]
    for i in range(rows):
        values = (i * 3, None if i % 7 == 0 else i % 50, i / 4, f"値{i % 20}", b"\xff\x00", mixed[i % 5])
        con.execute(
            'INSERT INTO t(id, n, r, s, b, m, e, x, "we ""ird") VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)',
            (*values, f"e{i}", None, f"w{i % 9}" * (1 + i % 3)),
        )
        con.execute("INSERT INTO w VALUES (?, ?, ?)", (f"k{i % 10}", -(i // 10), i / 2))
    con.execute("COMMIT")


@pytest.fixture
def path(tmp_path):
    file = tmp_path / "in.sqlite"
    with closing(sqlite3.connect(file, isolation_level=None)) as con:
        fill(con)
    return file


def make(tmp_path, script, name="x.db"):
    file = tmp_path / name
    with closing(sqlite3.connect(file, isolation_level=None)) as con:
        con.executescript(script)
    return file


def source_of(path, table="t"):
    return SqliteSource(path, "sqlite", path.name, table)


def dump(path):
    """Schema and stored cells, rowids and storage classes included, of every ordinary table."""
    with closing(sqlite3.connect(path)) as con:
        schema = sorted(
            con.execute("SELECT type, name, tbl_name, sql FROM sqlite_master").fetchall(), key=repr
        )
        tables = [row[1] for row in schema if row[0] == "table" and row[1] not in ("words", "sqlite_stat1")]
        cells = {}
        for table in tables:
            names = [r[1] for r in con.execute(f'PRAGMA table_xinfo("{table}")')]
            key = (
                "" if table == "w" or "WITHOUT" in next(r[3] for r in schema if r[1] == table) else "rowid, "
            )
            shown = ", ".join(f'quote("{n}")' for n in (name.replace('"', '""') for name in names))
            cells[table] = con.execute(f'SELECT {key}{shown} FROM "{table}" ORDER BY 1').fetchall()
        pragmas = [
            con.execute(f"PRAGMA {p}").fetchone() for p in ("application_id", "user_version", "page_size")
        ]
    return schema, cells, pragmas


def written(source, moves):
    out = io.BytesIO()
    result = write_sqlite(source, moves, out)
    return result, out.getvalue()


def swaps(columns, rows=ROWS, seed=3, count=40):
    rng = np.random.default_rng(seed)
    moves = []
    for column in columns:
        chosen = rng.permutation(rows)[: 2 * count]
        moves.append(Moves(column, chosen, np.roll(chosen, count)))
    return moves


def test_types_by_content_and_order(path):
    source = source_of(path)
    assert source.format == "sqlite"
    assert source.rows() == ROWS == source.table().num_rows
    types = {field.name: field.type for field in source.table().schema}
    text, binary = pa.large_string(), pa.large_binary()
    assert types == {
        "id": pa.int64(), "n": pa.int64(), "r": pa.float64(), "s": text, "b": binary, "m": text, "e": text,
        "x": text, "g": pa.int64(), "h": text, 'we "ird': text,
    }  # fmt: skip
    assert source.nested_columns == ("id", "b", "m", "e", "g", "h")
    table = source.table(["m", "id"])
    assert table.column_names == ["m", "id"]
    assert table["m"].to_pylist()[:6] == ["1", "one", None, "X'01'", "2.5", "1"]
    assert table["id"].to_pylist() == [3 * i for i in range(ROWS)]
    assert source.table().equals(source.table())
    with pytest.raises(UsageError, match="no column 'q'"):
        source.table(["q"])


def test_numbers_stay_exact(tmp_path):
    big = 2**53 + 1
    script = f"CREATE TABLE t(a, b, c, d); INSERT INTO t VALUES (1, {big}, {big}, 9e999), (2.5, 3, 1.5, -1)"
    source = source_of(make(tmp_path, script))
    assert source.table().to_pydict() == {
        "a": [1.0, 2.5], "b": [big, 3], "c": [str(big), "1.5"], "d": [float("inf"), -1.0],
    }  # fmt: skip
    assert source.nested_columns == ("c",)


def test_batches_stream_with_one_schema(tmp_path):
    file = make(
        tmp_path,
        "CREATE TABLE t(a, b); WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c LIMIT 150000)"
        " INSERT INTO t SELECT i, CASE WHEN i > 140000 THEN 'x' || i END FROM c",
    )
    batches = list(SqliteSource(file, "sqlite", "x").batches())
    assert [b.num_rows for b in batches[:-1]] == [1 << 16, 1 << 16]
    assert len({str(b.schema) for b in batches}) == 1
    assert sum(b.num_rows for b in batches) == 150_000
    big = make(
        tmp_path,
        "CREATE TABLE t(a); WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c LIMIT 12)"
        " INSERT INTO t SELECT zeroblob(16000000) FROM c",
        "big.db",
    )
    sizes = [b.nbytes for b in SqliteSource(big, "sqlite", "x").batches()]
    assert len(sizes) >= 2
    assert max(sizes) < 144_000_000


def test_the_copy_differs_in_the_planned_cells_only(path, tmp_path):
    source = source_of(path)
    moves = swaps(["n", "r", "s", 'we "ird'])
    (changed, lost), data = written(source, moves)
    assert changed == 320
    assert lost == (
        "triggers of the table did not run ('tr')",
        "generated columns were computed anew ('g', 'h')",
    )
    out = tmp_path / "out.sqlite"
    out.write_bytes(data)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.sqlite", "out.sqlite"]
    before, after = dump(path), dump(out)
    assert before[0] == after[0]
    assert before[2] == after[2]
    assert {k: v for k, v in before[1].items() if k != "t"} == {k: v for k, v in after[1].items() if k != "t"}
    plain = ["id", "n", "r", "s", "b", "m", "e", "x", 'we "ird']
    table = source_of(out).table(plain)
    assert table.equals(apply_moves(source.table(plain), moves))
    assert not table.equals(source.table(plain))
    stored, generated = source_of(out).table(["n", "s"]), source_of(out).table(["g", "h"])
    assert generated["h"].to_pylist() == [s.upper() for s in stored["s"].to_pylist()]
    with closing(sqlite3.connect(out)) as con:
        assert con.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        used = con.execute("SELECT id FROM t INDEXED BY ix WHERE n = 9 ORDER BY id").fetchall()
        assert used == con.execute("SELECT id FROM t NOT INDEXED WHERE n = 9 ORDER BY id").fetchall()
        con.execute("UPDATE t SET n = n WHERE id = 3")
        assert con.execute("SELECT what FROM log").fetchall() == [("b",), ("fired 3",)]
    assert dump(path) == before


def test_the_file_does_not_show_where_it_was_edited(path, tmp_path):
    """A file edited there and back again has the same bytes as one whose table was never touched."""
    moves = swaps(["s", "n"])
    there = tmp_path / "there.sqlite"
    there.write_bytes(written(source_of(path), moves)[1])
    _, back = written(source_of(there), [Moves(m.column, m.from_rows, m.rows) for m in moves])
    (tmp_path / "back.sqlite").write_bytes(back)
    still = [Moves("r", np.array([4, 8]), np.array([8, 4])), Moves("r", np.array([5, 9]), np.array([9, 5]))]
    (tmp_path / "r.sqlite").write_bytes(written(source_of(path), still)[1])
    _, never = written(source_of(tmp_path / "r.sqlite"), still)
    assert dump(tmp_path / "back.sqlite") == dump(path)
    differ = [i for i, (a, b) in enumerate(zip(back, never, strict=True)) if a != b]
    assert all(24 <= i < 44 or 92 <= i < 100 for i in differ), differ[:9]  # counters in the header


def test_storage_classes_travel(tmp_path):
    script = "CREATE TABLE t(a INT, b TEXT, c NUMERIC); INSERT INTO t VALUES (1, '1', 2), (2, '02', 2.5), (3, NULL, 7)"
    source = source_of(make(tmp_path, script))
    (changed, lost), data = written(source, [Moves(c, np.arange(3), np.array([1, 2, 0])) for c in "abc"])
    assert (changed, lost) == (9, ())
    out = tmp_path / "out.db"
    out.write_bytes(data)
    with closing(sqlite3.connect(out)) as con:
        rows = con.execute("SELECT quote(a), quote(b), quote(c) FROM t ORDER BY rowid").fetchall()
    assert rows == [("2", "'02'", "2.5"), ("3", "NULL", "7"), ("1", "'1'", "2")]


def test_without_rowid_goes_by_primary_key(path, tmp_path):
    source = source_of(path, "W")
    assert source.table_name == "w"
    assert source.nested_columns == ("a", "b")
    keys = source.table(["b", "a"]).to_pylist()
    assert [(r["b"], r["a"]) for r in keys] == sorted((r["b"], r["a"]) for r in keys)
    moves = swaps(["c"])
    (changed, _), data = written(source, moves)
    (tmp_path / "out.db").write_bytes(data)
    assert changed == 80
    assert source_of(tmp_path / "out.db", "w").table().equals(apply_moves(source.table(), moves))


def test_gaps_and_hidden_rowids(tmp_path):
    script = (
        "CREATE TABLE t(rowid TEXT, _ROWID_ TEXT); INSERT INTO t VALUES ('a', 'z'), ('b', 'y'), ('c', 'x');"
        "DELETE FROM t WHERE rowid = 'b'; UPDATE t SET oid = 99 WHERE rowid = 'a';"
    )
    source = source_of(make(tmp_path, script))
    assert source.table()["rowid"].to_pylist() == ["c", "a"]
    _, data = written(source, [Moves("rowid", np.array([0, 1]), np.array([1, 0]))])
    out = tmp_path / "o.db"
    out.write_bytes(data)
    with closing(sqlite3.connect(out)) as con:
        assert con.execute("SELECT oid, * FROM t ORDER BY oid").fetchall() == [(3, "a", "x"), (99, "c", "z")]
    hidden = make(tmp_path, "CREATE TABLE t(rowid, _rowid_, oid); INSERT INTO t VALUES (1, 2, 3)", "h.db")
    with pytest.raises(UsageError, match="columns hide the row number"):
        source_of(hidden)


def test_no_moves_is_the_file(path):
    source = source_of(path)
    assert written(source, [])[1] == path.read_bytes()
    assert written(source, [Moves("s", np.array([1]), np.array([1]))])[1] == path.read_bytes()


@pytest.mark.parametrize("encoding", ["UTF-16le", "UTF-8"])
def test_page_size_encoding_and_wal_are_kept(tmp_path, encoding):
    script = (
        f"PRAGMA encoding='{encoding}'; PRAGMA page_size=1024; PRAGMA auto_vacuum=1; PRAGMA journal_mode=WAL;"
        "CREATE TABLE t(s); INSERT INTO t VALUES ('ä'), ('日本'), ('𝄞' || char(0) || 'x');"
    )
    file = make(tmp_path, script)
    source = source_of(file)
    assert source.table()["s"].to_pylist() == ["ä", "日本", "𝄞\0x"]
    _, data = written(source, [Moves("s", np.array([0, 2]), np.array([2, 0]))])
    assert data[18:20] == b"\x02\x02"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["x.db"]
    out = tmp_path / "o.db"
    out.write_bytes(data)
    with closing(sqlite3.connect(out)) as con:
        found = [con.execute(f"PRAGMA {p}").fetchone()[0] for p in ("encoding", "page_size", "auto_vacuum")]
        assert found == [encoding, 1024, 1]
        assert con.execute("SELECT s FROM t ORDER BY rowid").fetchall() == [("𝄞\0x",), ("日本",), ("ä",)]


def test_rows_still_in_the_log_are_read_and_written(tmp_path):
    file = tmp_path / "live.db"
    with closing(sqlite3.connect(file, isolation_level=None)) as con:
        con.executescript("PRAGMA journal_mode=WAL; CREATE TABLE t(s); INSERT INTO t VALUES ('a'), ('b');")
        con.executescript("PRAGMA wal_checkpoint(TRUNCATE); INSERT INTO t VALUES ('c')")
        source = source_of(file)
        spool = source._file
        assert spool != file
        assert spool.stat().st_mode & 0o77 == 0
        assert source.path == file
        con.execute("INSERT INTO t VALUES ('later')")
        assert source.table()["s"].to_pylist() == ["a", "b", "c"]
        _, plain = written(source, [])
        _, data = written(source, [Moves("s", np.array([0, 2]), np.array([2, 0]))])
    (tmp_path / "p.db").write_bytes(plain)
    copied = source_of(tmp_path / "p.db")
    assert copied.table()["s"].to_pylist() == ["a", "b", "c"]
    assert copied.sha256() == source.sha256()
    (tmp_path / "o.db").write_bytes(data)
    assert source_of(tmp_path / "o.db").table()["s"].to_pylist() == ["c", "b", "a"]
    beside = set(spool.parent.glob(f"{spool.name}*"))
    assert beside == {spool}
    del source
    assert not spool.exists()


def test_reading_a_wal_file_leaves_nothing_beside_it(tmp_path):
    file = make(tmp_path, "PRAGMA journal_mode=WAL; CREATE TABLE t(s); INSERT INTO t VALUES ('a');")
    before = file.read_bytes()
    source_of(file).table()
    assert [p.name for p in tmp_path.iterdir()] == ["x.db"]
    assert file.read_bytes() == before


def test_choosing_a_table(path, tmp_path):
    with pytest.raises(UsageError, match=r"holds 3 tables \('t', 'log', 'w'\); name it as FILE::TABLE"):
        source_of(path, None)
    with pytest.raises(UsageError, match="has no table 'nope'"):
        source_of(path, "nope")
    with pytest.raises(UsageError, match="'v' is a view"):
        source_of(path, "v")
    with pytest.raises(UsageError, match="'words' is a virtual table"):
        source_of(path, "words")
    with pytest.raises(UsageError, match="has no table"):
        source_of(path, 't"; DROP TABLE t; --')
    many = make(tmp_path, "".join(f"CREATE TABLE t{i}(a);" for i in range(40)), "many.db")
    with pytest.raises(UsageError) as caught:
        source_of(many, None)
    assert str(caught.value).count("'t") == 30
    with pytest.raises(UsageError, match="holds no table"):
        source_of(make(tmp_path, "CREATE VIEW v AS SELECT 1 AS a", "v.db"), None)
    odd = make(
        tmp_path,
        """CREATE TABLE 'a"b; DROP TABLE x' (":c" TEXT); INSERT INTO "a""b; DROP TABLE x" VALUES ('1')""",
        "q.db",
    )
    assert source_of(odd, None).table().to_pydict() == {":c": ["1"]}
    with pytest.raises(DecodeError, match="no rows"):
        source_of(make(tmp_path, "CREATE TABLE t(a)", "e.db"), None)


def test_refusals_of_the_writer(path, tmp_path):
    source = source_of(path)
    swap = (np.array([0, 1]), np.array([1, 0]))
    for column in source.nested_columns:
        with pytest.raises(UsageError, match=f"column '{column}' is never changed"):
            written(source, [Moves(column, *swap)])
    with pytest.raises(UsageError, match="outside the table"):
        written(source, [Moves("s", np.array([ROWS]), np.array([0]))])
    unique = make(
        tmp_path, "CREATE TABLE t(a, b, UNIQUE (a, b)); INSERT INTO t VALUES (1, 1), (2, 1), (1, 2)", "u.db"
    )
    with pytest.raises(UsageError, match=r"constraint forbids exchanging cells of column 'a' \(UNIQUE"):
        written(source_of(unique), [Moves("a", np.array([1, 2]), np.array([2, 1]))])
    check = make(
        tmp_path, "CREATE TABLE t(a, b, CHECK (a <= b)); INSERT INTO t VALUES (1, 1), (2, 2)", "c.db"
    )
    with pytest.raises(UsageError, match="CHECK constraint failed") as caught:
        written(source_of(check), [Moves("a", *swap)])
    assert "\n" not in str(caught.value)


def test_hostile_schemas_run_nothing(tmp_path):
    file = make(
        tmp_path,
        "CREATE TABLE t(a TEXT, b INT); INSERT INTO t VALUES ('x', 1), ('y', 2);"
        "CREATE TABLE gone(a); INSERT INTO gone VALUES (1);"
        "CREATE TRIGGER tr BEFORE UPDATE OF b ON t BEGIN DELETE FROM gone; SELECT raise(ABORT, 'no'); END;",
    )
    _, data = written(source_of(file), [Moves("b", np.array([0, 1]), np.array([1, 0]))])
    (tmp_path / "o.db").write_bytes(data)
    assert source_of(tmp_path / "o.db", "gone").rows() == 1
    assert source_of(tmp_path / "o.db").table()["b"].to_pylist() == [2, 1]
    evil = make(
        tmp_path,
        "CREATE TABLE t(a, b AS (abs(a))); INSERT INTO t(a) VALUES ('/x.so'); PRAGMA writable_schema=ON;"
        "UPDATE sqlite_master SET sql = replace(sql, 'abs', 'load_extension')",
        "e.db",
    )
    with pytest.raises(DecodeError, match="malformed database schema"):
        source_of(evil)


def test_bad_text_is_named(tmp_path):
    file = make(
        tmp_path, "CREATE TABLE t(a, b); INSERT INTO t VALUES ('x', 'y'), ('z', CAST(x'61ff' AS TEXT));"
    )
    with pytest.raises(DecodeError, match="row 2, column 'b' is not UTF-8"):
        source_of(file).table()
    assert source_of(file).table(["a"]).num_rows == 2


def test_gigantic_cells_are_refused(tmp_path):
    file = make(tmp_path, "CREATE TABLE t(a); INSERT INTO t VALUES (zeroblob(68000000))")
    with pytest.raises(DecodeError, match="above 64 MiB"):
        source_of(file)


def test_locked_unreadable_and_unfinished_files(tmp_path):
    file = make(tmp_path, "CREATE TABLE t(a); INSERT INTO t VALUES (1), (2)")
    with closing(sqlite3.connect(file, isolation_level=None)) as con:
        con.execute("PRAGMA cache_spill=ON")
        con.execute("BEGIN EXCLUSIVE")
        con.execute("UPDATE t SET a = a + 1")
        with pytest.raises(UsageError, match="locked by another program"):
            source_of(file)
        journal = (tmp_path / "x.db-journal").read_bytes()
        con.execute("COMMIT")
    source = source_of(file)
    with closing(sqlite3.connect(file, isolation_level=None)) as con:
        con.execute("INSERT INTO t VALUES (3)")
    with pytest.raises(DecodeError, match="changed since it was opened"):
        source.table()
    with pytest.raises(DecodeError, match="changed since it was opened"):
        source.sha256()
    assert journal  # a crash leaves one behind, which only a writer may roll back
    (tmp_path / "x.db-journal").write_bytes(b"\xd9\xd5\x05\xf9\x20\xa1\x63\xd7" + journal[8:])
    before = file.read_bytes()
    with pytest.raises(UsageError, match="cannot be opened without changing it"):
        source_of(file)
    assert file.read_bytes() == before
    with pytest.raises(UsageError, match="No such file"):
        source_of(tmp_path / "missing.db")
    (tmp_path / "text.db").write_bytes(b"a,b\n1,2\n" * 200)
    with pytest.raises(DecodeError, match="no SQLite file"):
        source_of(tmp_path / "text.db")


def test_damaged_files_give_one_line(tmp_path):
    """500 damaged files: each is read, or refused with one line; writing never leaves an inconsistent file."""
    base = tmp_path / "in.db"
    with closing(sqlite3.connect(base, isolation_level=None)) as con:
        con.execute("PRAGMA page_size=512")
        fill(con, 40)
    data = base.read_bytes()
    rnd = random.Random(7)
    file, refused, wrote = tmp_path / "f.db", [], 0
    for case in range(500):
        bad = bytearray(data)
        for _ in range(rnd.choice([1, 4, 30])):
            place = rnd.randrange(100) if rnd.random() < 0.1 else rnd.randrange(len(bad))
            bad[place] ^= 1 << rnd.randrange(8)
        if case % 5 == 0:
            bad = bad[: rnd.randrange(len(bad))]
        file.write_bytes(bad)
        try:
            source = source_of(file)
            table = source.table()
            _, out = written(source, swaps(["n"], source.rows(), case, min(5, source.rows() // 2)))
            wrote += 1
        except DataguardError as error:
            refused.append(str(error))
            continue
        (tmp_path / "o.db").write_bytes(out)
        assert source_of(tmp_path / "o.db").rows() == table.num_rows
    assert len(refused) > 100
    assert not [line for line in refused if "\n" in line]
    assert wrote > 10
    assert {p.name for p in tmp_path.iterdir()} <= {"in.db", "f.db", "o.db"}
