"""PostgreSQL tables: what the text says, order, names, refusals, and a password that never shows."""

import gc
import os
import socket
import threading
import traceback
from urllib.parse import urlsplit

import pytest

from dataguard.errors import DataguardError, DecodeError, UsageError
from dataguard.formats.postgres import PostgresSource
from dataguard.formats.postgres_link import masked, parse_postgres_url
from postgres_server import PASSWORD, postgres_server, postgres_url  # noqa: F401 - fixtures

URL_PASSWORD = "se%3Acr%2Fet%401"


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch, tmp_path):
    for name in [name for name in os.environ if name.startswith("PG")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.fixture
def database(postgres_server, postgres_url):  # noqa: F811
    def run(*statements):
        return postgres_server.run(urlsplit(postgres_url).path[1:], *statements)

    return run


def test_every_type_as_text(postgres_url, database):  # noqa: F811
    database(
        "CREATE DOMAIN code AS varchar(9) CHECK (value <> 'x')",
        "CREATE DOMAIN codes AS code",
        "CREATE DOMAIN ids AS int[]",
        "CREATE TYPE mood AS ENUM ('sad', 'glad')",
        "CREATE TYPE pair AS (a int, b text)",
        """CREATE TABLE t (i int, n numeric, f float8, f4 float4, s text, v codes, m mood, ok bool, d date,
           z timestamptz, ts timestamp, tm time, iv interval, u uuid, ip inet, j json, jb jsonb, a int[], b bytea,
           p pair, r int4range, pt point, da ids, x xml, mo money, q "char")""",
        """INSERT INTO t VALUES (-7, 1.50, 0.1::float8 + 0.2::float8, 0.1, E'a\\tb\\n"c", \\\\.', 'c1',
           'glad', true, '2020-02-03',
           '2020-02-03 04:05:06+09', '2020-02-03 04:05:06.7', '04:05', '1 day 2 hours', repeat('0', 32)::uuid,
           '10.0.0.1', '{"a": 1}', '{"a":1}', '{1,NULL}', '\\x00ff', '(1,x)', '[1,2)', '(1,2)', '{3}', '<a/>', 5, 'c'),
           (NULL, 'NaN', 'Infinity', '-0', '', NULL, NULL, false, '-infinity', NULL, NULL, NULL, NULL, NULL, NULL,
           NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)""",
        "INSERT INTO t (i) VALUES (1)",
    )  # fmt: skip
    database("ALTER DATABASE " + urlsplit(postgres_url).path[1:] + " SET datestyle = 'German'")
    source = PostgresSource(postgres_url, None, "t")
    assert (source.format, source.path, source.table_name, source.rows()) == ("postgres", None, "t", 3)
    first, second, third = source.table().to_pylist()
    assert first == {
        "i": "-7", "n": "1.50", "f": "0.30000000000000004", "f4": "0.1", "s": 'a\tb\n"c", \\.', "v": "c1",
        "m": "glad", "ok": "t", "d": "2020-02-03", "z": "2020-02-02 19:05:06+00",
        "ts": "2020-02-03 04:05:06.7", "tm": "04:05:00", "iv": "1 day 02:00:00",
        "u": "00000000-0000-0000-0000-000000000000", "ip": "10.0.0.1", "j": '{"a": 1}', "jb": '{"a": 1}',
        "a": "{1,NULL}", "b": "\\x00ff", "p": "(1,x)", "r": "[1,2)", "pt": "(1,2)", "da": "{3}", "x": "<a/>",
        "mo": "$5.00", "q": "c",
    }  # fmt: skip
    assert (second["n"], second["f"], second["f4"], second["s"]) == ("NaN", "Infinity", "-0", "")
    assert (second["i"], second["v"], third["s"], third["i"]) == (None, None, None, "1")
    assert source.nested_columns == ("j", "jb", "a", "b", "p", "r", "pt", "da", "x", "q")
    assert {str(field.type) for field in source.table().schema} == {"large_string"}
    assert source.table(["s", "i"]).column_names == ["s", "i"]
    with pytest.raises(UsageError, match="no column 'c0'"):
        source.table(["c0"])


def test_order_and_digest_do_not_depend_on_where_rows_lie(postgres_url, database):  # noqa: F811
    database(
        "CREATE TABLE t (c1 text, k text, c0 int, PRIMARY KEY (c0, k))",
        "INSERT INTO t SELECT 'v' || i, chr(64 + i % 26) || i, i % 3 FROM generate_series(1, 3000) i",
    )
    source = PostgresSource(postgres_url, "t", "t")
    rows = source.table().to_pylist()
    assert rows == sorted(rows, key=lambda row: (int(row["c0"]), row["k"].encode()))
    digest = source.sha256()
    database("UPDATE t SET c1 = c1 WHERE c0 = 1", "CLUSTER t USING t_pkey")
    assert PostgresSource(postgres_url, "t", "t").sha256() == digest
    database("ALTER TABLE t RENAME c1 TO c9")
    assert PostgresSource(postgres_url, "t", "t").sha256() != digest
    database("CREATE TABLE heap (a int)", "INSERT INTO heap VALUES (3), (1), (2)")
    assert PostgresSource(postgres_url, "heap", "t").table().to_pydict() == {"a": ["3", "1", "2"]}


@pytest.mark.parametrize(
    "cells",
    [
        ["a,b", "c,d"],
        [None, "", None],
        ["a;b", None],
        ["x"],
        ["\t"],
        ['"', "\\."],
        ["a|b\nc", "d|e"],
        ["1", "2"],
    ],
)
def test_one_column_leaves_nothing_to_guess(postgres_url, database, cells):  # noqa: F811
    shown = ", ".join("(NULL)" if c is None else "('" + c + "')" for c in cells)
    database('CREATE TABLE t ("sep=;" text)', f"INSERT INTO t VALUES {shown}")
    assert PostgresSource(postgres_url, "t", "t").table().to_pydict() == {"sep=;": cells}


NAMES = [
    'a"b',
    "x; DROP TABLE victim; --",
    ":name",
    "$1",
    "'",
    "E'\\",
    "q\") TO PROGRAM 'id' --",
    "é 日本",
    "%s",
    "\ufeffb",
]


def test_names_are_never_sql(postgres_url, database):  # noqa: F811
    def quote(name):
        return '"' + name.replace('"', '""') + '"'

    statements = ["CREATE TABLE victim (a int)", "INSERT INTO victim VALUES (1)"]
    for name in NAMES:
        table = f"{quote(name)}.{quote(name)}"
        statements += [
            f"CREATE SCHEMA {quote(name)}",
            f"CREATE TABLE {table} ({quote(name)} int PRIMARY KEY, o text)",
        ]
        statements += [f"INSERT INTO {table} VALUES (2, 'two'), (1, 'one')"]
    database("BEGIN; COMMIT")
    import pg8000.native

    address = parse_postgres_url(postgres_url)
    con = pg8000.native.Connection(
        address.user, "127.0.0.1", address.database, address.port, address.password
    )
    for statement in statements:
        con.execute_simple(statement)
    con.close()
    for name in NAMES:
        expected = {name: ["1", "2"], "o": ["one", "two"]}
        assert PostgresSource(postgres_url, name, "t").table().to_pydict() == expected
        assert PostgresSource(postgres_url, f"{name}.{name}", "t").table().to_pydict() == expected
    for attack in [
        "victim; DROP TABLE victim",
        'victim" UNION SELECT',
        "victim'--",
        "public.victim)",
        "vic\0tim",
        "",
    ]:
        with pytest.raises(UsageError):
            PostgresSource(postgres_url, attack, "t")
    assert PostgresSource(postgres_url, "public.victim", "t").rows() == 1


def test_choosing_a_table(postgres_url, database):  # noqa: F811
    with pytest.raises(UsageError, match="holds no table"):
        PostgresSource(postgres_url, None, "t")
    database(
        "CREATE SCHEMA a", "CREATE SCHEMA b", "CREATE TABLE a.t (x int)", "CREATE TABLE b.t (x int)",
        "CREATE TABLE lone (x int)", "CREATE VIEW v AS SELECT 1 AS x",
        "CREATE MATERIALIZED VIEW mv AS SELECT 5 AS x", "CREATE TABLE part (x int) PARTITION BY RANGE (x)",
        "CREATE TABLE part1 PARTITION OF part FOR VALUES FROM (0) TO (10)",
        "CREATE TABLE part2 PARTITION OF part FOR VALUES FROM (10) TO (20)", "INSERT INTO part VALUES (15), (3)",
        "CREATE TABLE none ()",
    )  # fmt: skip
    with pytest.raises(
        UsageError,
        match=r"holds 6 tables \('a.t', 'b.t', 'public.lone', 'public.mv', .*name it as FILE::TABLE",
    ):
        PostgresSource(postgres_url, None, "t")
    with pytest.raises(UsageError, match=r"'t' is in several schemas; name one of a.t, b.t"):
        PostgresSource(postgres_url, "t", "t")
    with pytest.raises(UsageError, match="'v' is a view"):
        PostgresSource(postgres_url, "v", "t")
    with pytest.raises(UsageError, match="has no table 'pg_authid'"):
        PostgresSource(postgres_url, "pg_authid", "t")
    for table in ("a.t", "lone"):
        with pytest.raises(DecodeError, match=f"{table}: no rows"):
            PostgresSource(postgres_url, table, "t")
    with pytest.raises(DecodeError, match="no columns"):
        PostgresSource(postgres_url, "none", "t")
    assert PostgresSource(postgres_url, "mv", "t").table().to_pydict() == {"x": ["5"]}
    assert PostgresSource(postgres_url, "part", "t").table().to_pydict() == {"x": ["3", "15"]}
    assert PostgresSource(postgres_url, "part2", "t").rows() == 1


def test_large_tables_stream_and_the_spool_is_private(postgres_url, database):  # noqa: F811
    database("CREATE TABLE t AS SELECT i, md5(i::text) AS h FROM generate_series(1, 200000) i")
    source = PostgresSource(postgres_url, None, "t")
    spool = source._spool
    assert spool.stat().st_mode & 0o777 == 0o600
    batches = list(source.batches(["i"]))
    assert len(batches) > 1
    assert sum(batch.num_rows for batch in batches) == source.rows() == 200000
    database("DELETE FROM t")
    assert source.rows() == 200000
    del source, batches
    gc.collect()
    assert not spool.exists()


def test_socket_password_file_and_environment(postgres_server, postgres_url, database, tmp_path, monkeypatch):  # noqa: F811
    database("CREATE TABLE t AS SELECT 1 AS a")
    name = urlsplit(postgres_url).path[1:]
    assert PostgresSource(postgres_server.url(name, by_socket=True), "t", "t").rows() == 1
    assert (
        PostgresSource(postgres_url.replace("postgresql", "postgres") + "?sslmode=disable", "t", "t").rows()
        == 1
    )
    bare = postgres_url.replace(f":{URL_PASSWORD}", "")
    with pytest.raises(UsageError, match="wants a password"):
        PostgresSource(bare, "t", "t")
    with pytest.raises(UsageError, match="refuses SSL"):
        PostgresSource(postgres_url + "?sslmode=require", "t", "t")
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    assert PostgresSource(bare, "t", "t").rows() == 1
    monkeypatch.delenv("PGPASSWORD")
    file = tmp_path / ".pgpass"
    escaped = PASSWORD.replace(":", "\\:")
    file.write_text(f"# a remark\nelsewhere:*:*:*:no\n127.0.0.1:{postgres_server.port}:*:tester:{escaped}\n")
    file.chmod(0o644)
    with pytest.raises(UsageError, match=r"\.pgpass: may be read by others; chmod 600 it"):
        PostgresSource(bare, "t", "t")
    file.chmod(0o600)
    assert PostgresSource(bare, "t", "t").rows() == 1


def test_errors_are_one_line_without_the_password(postgres_server, postgres_url, database):  # noqa: F811
    database(
        "CREATE TABLE t AS SELECT 1 AS a",
        "CREATE TABLE policed AS SELECT 1 AS a",
        "ALTER TABLE policed ENABLE ROW LEVEL SECURITY",
        "DROP ROLE IF EXISTS guest",
        "CREATE ROLE guest LOGIN PASSWORD '" + PASSWORD + "'",
        "GRANT SELECT ON policed TO guest",
        "CREATE TABLE broken (a int)",
    )
    name = urlsplit(postgres_url).path[1:]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        nobody = free.getsockname()[1]
    cases = {
        "refuses the login": (postgres_url.replace("401", "402"), "t"),
        "no such database": (postgres_server.url("nowhere"), "t"),
        "no server answers": (postgres_url.replace(f":{postgres_server.port}", f":{nobody}"), "t"),
        "no server answers (": (f"postgresql://u:{URL_PASSWORD}@/d?host=/nonexistent", "t"),
        "permission denied": (postgres_server.url(name, user="guest"), "t"),
        "row-level security": (postgres_server.url(name, user="guest"), "policed"),
        "has no table": (postgres_url, "nope"),
    }
    for sentence, (url, table) in cases.items():
        with pytest.raises(UsageError) as caught:
            PostgresSource(url, table, url)
        text = "".join(traceback.format_exception(caught.value)) + repr(caught.value)
        assert sentence in str(caught.value), str(caught.value)
        assert "\n" not in str(caught.value)
        for secret in (PASSWORD, URL_PASSWORD, "se:cr", "cr/et"):
            assert secret not in text
    source = PostgresSource(postgres_url, "t", postgres_url)
    assert URL_PASSWORD not in source.name
    assert "***" in source.name
    assert not [
        value for value in vars(source).values() if PASSWORD in str(value) or URL_PASSWORD in str(value)
    ]
    database("DROP TABLE policed, t", "DROP OWNED BY guest", "DROP ROLE guest")


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n" * 9,
        b"",
        b"N",
        b"S" * 99,
        b"N" + b"R\0\0\0\x08\0\0\0\xff",
        b"\0" * 64,
    ],
)
def test_what_is_no_server(answer):
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve():
            con, _ = listener.accept()
            with con:
                con.recv(4096)
                con.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        with pytest.raises(DataguardError) as caught:
            PostgresSource(f"postgresql://u:hush@127.0.0.1:{listener.getsockname()[1]}/d", "t", "t")
        thread.join()
    assert "\n" not in str(caught.value)
    assert "hush" not in str(caught.value)


def test_urls():
    address = parse_postgres_url("postgres://us%40er:p%3Ax@[::1]:99/my%20db?sslmode=verify-full")
    assert (address.host, address.port, address.database, address.user) == ("::1", 99, "my db", "us@er")
    assert (address.password, address.sslmode) == ("p:x", "verify-full")
    assert "p:x" not in repr(address) + address.shown
    assert parse_postgres_url("postgresql://u@/d?host=/run/pg").host == "/run/pg"
    assert parse_postgres_url("postgresql://u@h").database == "u"
    for bad in (
        "mysql://u:hush@h/d", "postgresql://u:hush@h:99999/d", "postgresql://u:hush@h:x/d",
        "postgresql://u:hush@h/d?sslmode=maybe", "postgresql://u:hush@h/d?evil=1", "postgresql://u:hush@[h/d",
        "postgresql://u:hush@h/d?password=hush&port=0", "postgresql://u:hush@h/d%00", "postgresql://u:hush@h/d#x",
    ):  # fmt: skip
        with pytest.raises(UsageError) as caught:
            parse_postgres_url(bad)
        assert "hush" not in str(caught.value)
        assert "\n" not in str(caught.value)
    assert (
        masked("see postgresql://u:a@b:c@h:1/d?x=1&password=zz")
        == "see postgresql://u:***@h:1/d?x=1&password=***"
    )
    assert masked("orders") == "orders"


def test_a_missing_package_is_told(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pg8000", None)
    with pytest.raises(UsageError, match=r'pip install "dataguard\[postgres\]"'):
        PostgresSource("postgresql://u@127.0.0.1:1/d", "t", "t")
