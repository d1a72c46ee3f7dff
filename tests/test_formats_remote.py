"""Cloud paths, against small fake services on this machine: no test leaves it."""

import contextlib
import http.server
import json
import os
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dataguard.errors import UsageError
from dataguard.formats import remote
from dataguard.formats.parquet_folder import ParquetFolderSource
from dataguard.formats.remote import fetch, is_uri

SRC = Path(__file__).resolve().parents[1] / "src"
DATE = "Wed, 01 Jan 2025 00:00:00 GMT"


class Store(http.server.BaseHTTPRequestHandler):
    """What the three fakes share: objects by key, and ways to misbehave."""

    protocol_version = "HTTP/1.1"
    objects: dict[str, bytes]
    fault = ""

    def log_message(self, *args):
        pass

    def answer(self, status, body=b"", kind="application/xml", **headers):
        self.send_response(status)
        self.send_header("Content-Length", headers.pop("length", str(len(body))))
        self.send_header("Content-Type", kind)
        self.send_header("Last-Modified", DATE)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def ranged(self, body):
        """The bytes asked for, with the status that says so."""
        wanted = self.headers.get("Range") or self.headers.get("x-ms-range")
        if wanted is None:
            return 200, body, {}
        first, last = wanted.removeprefix("bytes=").split("-")
        stop = min(int(last) + 1, len(body)) if last else len(body)
        piece = body[int(first) : stop]
        return 206, piece, {"Content_Range": f"bytes {first}-{int(first) + len(piece) - 1}/{len(body)}"}

    def misbehaves(self):
        if self.fault == "hang":
            time.sleep(60)
        if self.fault == "denied":
            kind = "text/plain" if self.command == "HEAD" else "application/xml"
            self.answer(403, b"<Error><Code>AccessDenied</Code><Message>no SECRETKEY</Message></Error>", kind)
        if self.fault == "cut" and self.command == "GET" and self.headers.get("Range"):
            self.answer(206, b"PAR", length="100")
            self.close_connection = True
        if self.fault == "broken":
            self.answer(500, b"<Error><Code>InternalError</Code></Error>")
        return bool(self.fault) and (self.fault != "cut" or bool(self.headers.get("Range")))


class S3(Store):
    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        if self.misbehaves():
            return
        parts = urlsplit(self.path)
        query = parse_qs(parts.query)
        bucket, _, key = unquote(parts.path).lstrip("/").partition("/")
        if "list-type" in query:
            self.listing(bucket, query)
        elif bucket == "bucket" and key in self.objects:
            status, body, headers = self.ranged(self.objects[key])
            self.answer(status, body, "application/octet-stream", ETag='"x"', **headers)
        elif bucket == "bucket" and not key:
            self.answer(200)
        else:
            self.answer(404, b"<Error><Code>NoSuchKey</Code></Error>")

    def listing(self, bucket, query):
        prefix = query.get("prefix", [""])[0]
        keys = [k for k in sorted(self.objects) if k.startswith(prefix) and bucket == "bucket"]
        entries, common = [], set()
        for key in keys:
            rest = key[len(prefix) :]
            if "delimiter" in query and "/" in rest:
                common.add(prefix + rest.split("/")[0] + "/")
            else:
                entries.append(
                    f"<Contents><Key>{escape(key)}</Key><Size>{len(self.objects[key])}</Size>"
                    "<LastModified>2025-01-01T00:00:00.000Z</LastModified></Contents>"
                )
        folders = "".join(
            f"<CommonPrefixes><Prefix>{escape(p)}</Prefix></CommonPrefixes>" for p in sorted(common)
        )
        self.answer(
            200,
            (
                '<?xml version="1.0"?><ListBucketResult><IsTruncated>false</IsTruncated>'
                f"<KeyCount>{len(entries) + len(common)}</KeyCount>{''.join(entries)}{folders}</ListBucketResult>"
            ).encode(),
        )


class Gcs(Store):
    def do_GET(self):
        if self.misbehaves():
            return
        parts = urlsplit(self.path)
        query = parse_qs(parts.query)
        bucket, _, rest = parts.path.partition("/b/")[2].partition("/")
        key = unquote(rest.removeprefix("o/")) if rest.startswith("o/") else ""
        if rest == "o":
            prefix = query.get("prefix", [""])[0]
            items = [
                self.item(k) for k in sorted(self.objects) if k.startswith(prefix) and bucket == "bucket"
            ]
            self.answer(
                200, json.dumps({"kind": "storage#objects", "items": items}).encode(), "application/json"
            )
        elif key not in self.objects or bucket != "bucket":
            self.answer(404, b'{"error": {"code": 404, "message": "No such object"}}', "application/json")
        elif query.get("alt") == ["media"]:
            status, body, headers = self.ranged(self.objects[key])
            self.answer(status, body, "application/octet-stream", **headers)
        else:
            self.answer(200, json.dumps(self.item(key)).encode(), "application/json")

    def item(self, key):
        return {
            "kind": "storage#object",
            "bucket": "bucket",
            "name": key,
            "size": str(len(self.objects[key])),
            "generation": "1",
            "metageneration": "1",
            "updated": "2025-01-01T00:00:00Z",
        }


class Azure(Store):
    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        if self.misbehaves():
            return
        parts = urlsplit(self.path)
        query = parse_qs(parts.query)
        _account, container, key = (*unquote(parts.path).lstrip("/").split("/", 2), "", "")[:3]
        if "action" in query:  # is there a hierarchical namespace? as the emulator answers
            self.answer(400, kind="text/plain", x_ms_error_code="InvalidUri")
        elif query.get("comp") == ["list"]:
            prefix = query.get("prefix", [""])[0]
            found = {}
            for key in sorted(k for k in self.objects if k.startswith(prefix)):
                name, slash, _ = key[len(prefix) :].partition("/")
                if slash and "delimiter" in query:
                    found[prefix + name + slash] = "<BlobPrefix><Name>{}</Name></BlobPrefix>"
                else:
                    found[key] = (
                        f"<Blob><Name>{{}}</Name><Properties><Last-Modified>{DATE}</Last-Modified>"
                        f"<Content-Length>{len(self.objects[key])}</Content-Length>"
                        "<BlobType>BlockBlob</BlobType></Properties></Blob>"
                    )
            blobs = "".join(entry.format(escape(name)) for name, entry in found.items())
            head = '<?xml version="1.0"?><EnumerationResults><Blobs>'
            self.answer(200, f"{head}{blobs}</Blobs><NextMarker/></EnumerationResults>".encode())
        elif key in self.objects and container == "bucket":
            status, body, headers = self.ranged(self.objects[key])
            headers |= {
                "x_ms_blob_type": "BlockBlob",
                "x_ms_creation_time": DATE,
                "x_ms_server_encrypted": "true",
            }
            self.answer(status, body, "application/octet-stream", ETag='"x"', **headers)
        else:
            self.answer(404, kind="text/plain", x_ms_error_code="BlobNotFound")


@contextlib.contextmanager
def serving(handler, objects, fault=""):
    served = type("Served", (handler,), {"objects": objects, "fault": fault})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), served) as server:
        server.daemon_threads = True
        server.block_on_close = False
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(autouse=True)
def no_network(monkeypatch, tmp_path):
    """Credentials of nowhere, and no service of the cloud that could be asked for some."""
    for name in [n for n in os.environ if n.startswith(("AWS_", "AZURE_", "GOOGLE_", "STORAGE_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setattr(remote, "_ATTEMPTS", 1)
    monkeypatch.setattr(remote, "_CONNECT_SECONDS", 2.0)
    monkeypatch.setattr(remote, "_REQUEST_SECONDS", 2.0)


def parquet(first=0):
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"a": range(first, first + 3), "b": ["x", "y", "z"]}), sink)
    return sink.getvalue().to_pybytes()


def s3(host, key, extra=""):
    return f"s3://KEYID:SECRETKEY@bucket/{key}?endpoint_override={host}&scheme=http{extra}"


def test_an_object_arrives_whole_and_private():
    big = np.random.default_rng(0).bytes((1 << 23) + 12345)  # more than one block
    with serving(S3, {"in/data.csv.gz": big, "a b+c.parquet": parquet()}) as host:
        path, shown = fetch(s3(host, "in/data.csv.gz", "&region=eu-west-1"))
        assert path.read_bytes() == big
        assert path.suffixes == [".csv", ".gz"]
        assert shown == "s3://bucket/in/data.csv.gz"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        again, _ = fetch(s3(host, "a%20b+c.parquet"))
        assert pq.read_table(again).num_rows == 3
        public, _ = fetch(f"s3://bucket/in/data.csv.gz?endpoint_override={host}&scheme=http&anonymous=true")
        assert public.read_bytes() == big


def test_a_prefix_arrives_as_a_folder():
    objects = {
        "t/year=2024/part-2.parquet": parquet(3),
        "t/year=2024/part-10.parquet": parquet(6),
        "t/year=2023/part-1.parquet": parquet(0),
        "t/_SUCCESS": b"",
        "tt/other.parquet": parquet(100),
    }
    with serving(S3, objects) as host:
        for form in ("t", "t/"):
            path, shown = fetch(s3(host, form))
            assert shown.rstrip("/") == "s3://bucket/t"
            source = ParquetFolderSource(path, shown)
            assert source.table().to_pydict() == {
                "a": list(range(9)),
                "b": ["x", "y", "z"] * 3,
                "year": ["2023"] * 3 + ["2024"] * 6,
            }


@pytest.mark.parametrize("key", ["t/../../evil.parquet", "t//evil.parquet", "t/C:evil", "t/a\\..\\b"])
def test_names_that_would_leave_the_folder(key):
    with (
        serving(S3, {"t/ok.parquet": parquet(), key: b"x"}) as host,
        pytest.raises(
            UsageError, match=r"^s3://bucket/t: (an object with the unsafe name|cannot be fetched)"
        ),
    ):
        fetch(s3(host, "t"))


def left_behind():
    return {p for p in Path(os.environ.get("TMPDIR", "/tmp")).glob("dataguard-*") if p.is_dir()}


@pytest.mark.parametrize(
    ("key", "fault", "message"),
    [
        ("none.csv", "", "no such object; check the name"),
        ("t.parquet", "denied", "access is refused, or credentials are missing; set AWS_ACCESS_KEY_ID"),
        ("t.parquet", "cut", "cannot be"),
        ("t.parquet", "broken", "cannot be fetched"),
        ("t.parquet", "hang", "cannot be reached"),
    ],
)
def test_faults_of_the_service_are_one_line_without_secrets(key, fault, message):
    before = left_behind()
    started = time.monotonic()
    with (
        serving(S3, {"t.parquet": parquet()}, fault) as host,
        pytest.raises(UsageError, match=message) as caught,
    ):
        fetch(s3(host, key))
    assert time.monotonic() - started < 20
    text = str(caught.value)
    assert text.startswith(f"s3://bucket/{key}: ")
    assert "\n" not in text
    assert "SECRETKEY" not in text
    assert "KEYID" not in text
    assert left_behind() == before


def test_nobody_listens():
    with pytest.raises(UsageError, match="cannot be reached; check the network"):
        fetch(s3("127.0.0.1:1", "t.parquet"))


def test_the_size_limit_holds_whatever_the_service_says():
    before = left_behind()
    objects = {"t/1.parquet": parquet(), "t/2.parquet": parquet()}
    size = len(objects["t/1.parquet"])
    with serving(S3, objects) as host:
        for key, limit in (("t/1.parquet", size - 1), ("t", 2 * size - 1)):
            with pytest.raises(UsageError, match=f"is larger than {limit:,} bytes"):
                fetch(s3(host, key), limit=limit)
        assert left_behind() == before
        assert fetch(s3(host, "t/1.parquet"), limit=size)[0].stat().st_size == size
        assert fetch(s3(host, "t"), limit=2 * size)[0].is_dir()


def test_a_full_disk_here(monkeypatch):
    real = os.fdopen

    class Full:
        def __init__(self, file):
            self.file = file

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self.file.close()

        def write(self, _):
            raise OSError(28, "No space left on device")

    before = left_behind()
    with serving(S3, {"t.csv": b"a\n1\n"}) as host:
        monkeypatch.setattr(remote.os, "fdopen", lambda *a: Full(real(*a)))
        with pytest.raises(UsageError, match=r"cannot be stored \(No space left on device\); free space"):
            fetch(s3(host, "t.csv"))
    assert left_behind() == before


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        (
            "https://user:SECRETKEY@example.org/t.parquet?token=SECRETKEY",
            "https://example.org/t.parquet: https is not",
        ),
        ("hdfs://x/y", "unknown kind of address 'hdfs'; known are s3://"),
        ("az://x/y", "unknown kind of address 'az'"),
        ("s3:///key", "no bucket"),
        ("s3://bucket/key?colour=SECRETKEY", "unknown option 'colour'; known are region"),
        ("s3://a:SECRETKEY@bucket/key?endpoint_override=::&scheme=SECRETKEY", "cannot be fetched"),
        ("gs://bucket/k y?scheme=SECRETKEY&x=SECRETKEY", "cannot be fetched"),
        ("abfss://c:SECRETKEY@a/x y?q=SECRETKEY", "abfss://c@a/x y: cannot be fetched"),
        ("s3://[::1/x", "an address that cannot be read"),
        ("file://elsewhere/x", "names another machine"),
        ("file:///no/such/file", "no such file"),
    ],
)
def test_addresses_that_are_none(uri, message):
    with pytest.raises(UsageError, match=message) as caught:
        fetch(uri)
    assert "\n" not in str(caught.value)
    assert "SECRETKEY" not in str(caught.value)


def test_local_files_are_read_where_they_are(tmp_path):
    path = tmp_path / "a b.csv"
    path.write_text("a\n1\n")
    assert fetch(f"file://{tmp_path}/a%20b.csv") == (path, f"file://{tmp_path}/a%20b.csv")
    assert is_uri("s3://b/k")
    assert is_uri("gs://b")
    assert not is_uri("C://x")
    assert not is_uri("a/b.csv")


def test_nothing_stays_after_the_process():
    with serving(S3, {"t.parquet": parquet()}) as host:
        code = f"from dataguard.formats.remote import fetch\nprint(fetch({s3(host, 't.parquet')!r})[0])"
        done = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            timeout=60,
            env={**os.environ, "PYTHONPATH": str(SRC)},
        )
    assert (done.returncode, done.stderr) == (0, "")
    path = Path(done.stdout.strip())
    assert path.name == "object.parquet"
    assert not path.parent.exists()


def gcs(host, key):
    return f"gs://anonymous@bucket/{key}?endpoint_override={host}&scheme=http"


def azure(host, key):
    return f"abfs://account@{host}/bucket/{key}?enable_tls=false&credential_kind=anonymous"


@pytest.mark.parametrize(("handler", "uri"), [(Gcs, gcs), (Azure, azure)])
def test_the_other_clouds(handler, uri):
    big = np.random.default_rng(1).bytes((1 << 23) + 5)
    objects = {"x.csv.gz": big, "t/1.parquet": parquet(0), "t/2.parquet": parquet(3)}
    with serving(handler, objects) as host:
        path, shown = fetch(uri(host, "x.csv.gz"))
        assert (path.name, path.read_bytes()) == ("object.csv.gz", big)
        assert shown == uri(host, "x.csv.gz").split("?")[0].replace("anonymous@", "")
        folder, shown = fetch(uri(host, "t"))
        assert ParquetFolderSource(folder, shown).table()["a"].to_pylist() == list(range(6))
        with pytest.raises(UsageError, match="no such object"):
            fetch(uri(host, "none"))


@pytest.mark.parametrize(("handler", "uri"), [(Gcs, gcs), (Azure, azure)])
def test_the_other_clouds_refuse(handler, uri):
    with (
        serving(handler, {"x": b"x"}, "denied") as host,
        pytest.raises(UsageError, match="access is refused, or credentials are missing; "),
    ):
        fetch(uri(host, "x"))


def test_the_emulator_of_gcs(monkeypatch):
    with serving(Gcs, {"x.csv": b"a\n1\n"}) as host:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://{host}")
        assert fetch("gs://anonymous@bucket/x.csv")[0].read_bytes() == b"a\n1\n"
