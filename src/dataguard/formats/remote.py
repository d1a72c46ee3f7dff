"""Objects in cloud storage, fetched to a private temporary place and read from there.

Every reader asks for a file more than once and some for its end first; one download serves
them all, and its digest is that of a file.
"""

from __future__ import annotations

import atexit
import errno
import os
import re
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import SplitResult, parse_qsl, unquote, urlencode, urlsplit, urlunsplit

import pyarrow as pa

from dataguard.errors import UsageError

__all__ = ["SCHEMES", "fetch", "is_uri", "shown_uri"]

SCHEMES = ("s3", "gs", "abfs", "abfss", "file")
"""What `fetch` knows."""

_BLOCK = 1 << 23
_OBJECTS = 100_000
_CONNECT_SECONDS = 10.0
_REQUEST_SECONDS = 30.0
_ATTEMPTS = 3
_S3_OPTIONS = ("region", "scheme", "endpoint_override", "tls_ca_file_path", "anonymous")
_CREDENTIALS = {
    "s3": "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or add ?anonymous=true for public data",
    "gs": "set GOOGLE_APPLICATION_CREDENTIALS, or write gs://anonymous@bucket for public data",
    "abfs": "log in with the Azure command line, or set AZURE_CLIENT_ID and AZURE_CLIENT_SECRET",
}
_REASONS: tuple[tuple[str, str, str], ...] = (
    (
        (
            r"NETWORK_CONNECTION|CURL|[Cc]urlCode|[Cc]ould not (connect|resolve)|[Tt]imed? ?out|UNAVAILABLE"
            r"|new connection"
        ),
        "cannot be reached",
        "check the network, the region and the endpoint",
    ),
    (r"NO_SUCH|NOT_FOUND|NotFound|does not exist|\b404\b", "no such object", "check the name"),
    (
        (
            r"ACCESS_DENIED|[Aa]ccess ?[Dd]enied|[Cc]redential|ACCESS_KEY|SIGNATURE|UNAUTHENTICATED"
            r"|PERMISSION_DENIED|[Aa]uthenti|[Ff]orbidden|\b40[13]\b"
        ),
        "access is refused, or credentials are missing",
        "",
    ),
)
"""Found in the service's answer -> what is wrong, remedy; empty: how to log in."""


@dataclass(frozen=True, slots=True)
class _Place:
    """Where an object lies: an opened file system, the path in it, and how to speak of it."""

    system: Any
    path: str
    shown: str
    kind: str
    secrets: tuple[str, ...] = field(repr=False)


def is_uri(text: str) -> bool:
    """Whether `text` is written as a URI: a scheme of two letters or more, then ``://``."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", text) is not None


def fetch(uri: str, *, limit: int | None = None) -> tuple[Path, str]:
    """Bring an object, or all objects below a prefix, into a temporary place.

    The place is readable by this user only and is removed when the process ends. ``file://`` is
    not copied. Connections are tried three times; a server that accepts and says nothing is
    given up after the storage library's own limits.

    Parameters
    ----------
    uri : str
        ``s3://bucket/key``, with ``?region=``, ``endpoint_override=``, ``scheme=``,
        ``tls_ca_file_path=`` or ``anonymous=true``; ``gs://bucket/key``;
        ``abfs://container@account.dfs.core.windows.net/key``; ``file:///path``. Credentials come
        from the environment, as usual for each service.
    limit : int, optional
        Largest size in bytes, of all objects together.

    Returns
    -------
    (Path, str)
        A file that keeps the object's suffixes, or a folder; the URI without credentials and
        query, for display.

    Raises
    ------
    UsageError
        Unknown scheme, no such object, refused access, no network, too large, no space, or
        objects whose names would leave the folder.
    """
    parts = _split(uri)
    shown = _shown(parts)
    if parts.scheme == "file":
        return _local(parts, shown), shown
    place = _place(parts, shown)
    folder = Path(tempfile.mkdtemp(prefix="dataguard-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    try:
        return _download(place, folder, limit), shown
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def shown_uri(uri: str) -> str:
    """Return a URI without credentials and query, for display; an unreadable one up to its scheme."""
    try:
        return _shown(urlsplit(uri))
    except ValueError:
        return f"{uri.partition('://')[0]}://..."


def _split(uri: str) -> SplitResult:
    try:
        parts = urlsplit(uri)
    except ValueError:
        raise UsageError(
            "an address that cannot be read", remedy="check its form, scheme://place/name"
        ) from None
    scheme = parts.scheme
    if scheme in {"http", "https", "ftp"}:
        raise UsageError(f"{scheme} is not read directly", where=_shown(parts), remedy="download it first")
    if scheme not in SCHEMES:
        known = ", ".join(f"{name}://" for name in SCHEMES)
        raise UsageError(f"unknown kind of address {scheme!r}", remedy=f"known are {known}")
    if scheme != "file" and not parts.hostname:
        raise UsageError(
            "no bucket or container named", where=_shown(parts), remedy=f"write {scheme}://NAME/KEY"
        )
    return parts


def _shown(parts: SplitResult) -> str:
    user, at, host = parts.netloc.rpartition("@")
    # The part before a colon is a container or account with Azure, a key elsewhere.
    container = user.partition(":")[0] if parts.scheme.startswith("abfs") else ""
    netloc = f"{container}@{host}" if at and container else host
    return urlunsplit((parts.scheme, netloc, parts.path, "", "")) or parts.scheme


def _local(parts: SplitResult, shown: str) -> Path:
    path = Path(unquote(parts.path))
    if parts.netloc not in {"", "localhost"}:
        raise UsageError("names another machine", where=shown, remedy="write file:///PATH")
    if not path.exists():
        raise UsageError("no such file", where=shown, remedy="check the name")
    return path


def _place(parts: SplitResult, shown: str) -> _Place:
    """Open the file system that a URI names; errors never quote its credentials."""
    kind = "abfs" if parts.scheme.startswith("abfs") else parts.scheme
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    hidden = [parts.username, parts.password] if kind != "abfs" else [parts.password]
    hidden += query.values()
    secrets = tuple(form for text in hidden if text for form in (text, unquote(text)))
    plain = _Place(None, "", shown, kind, secrets)
    opener = {"s3": _open_s3, "gs": _open_gcs, "abfs": _open_azure}[kind]
    system, path = _asking(plain, lambda: opener(parts, query))
    return _Place(system, path.rstrip("/"), shown, kind, secrets)


def _open_s3(parts: SplitResult, query: dict[str, str]) -> tuple[Any, str]:
    from pyarrow import fs

    unknown = sorted(set(query) - set(_S3_OPTIONS))
    if unknown:
        raise UsageError(
            f"unknown option {unknown[0]!r}",
            where=_shown(parts),
            remedy=f"known are {', '.join(_S3_OPTIONS)}",
        )
    bucket = parts.netloc.rpartition("@")[2]
    options: dict[str, Any] = {k: v for k, v in query.items() if k != "anonymous"}
    environment = os.environ
    elsewhere = "endpoint_override" in query or any(
        k in environment for k in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3")
    )
    region = query.get("region") or environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION")
    options["region"] = region or ("us-east-1" if elsewhere else fs.resolve_s3_region(bucket))
    if parts.username:
        options["access_key"] = unquote(parts.username)
        options["secret_key"] = unquote(parts.password or "")
    elif query.get("anonymous", "false").lower() in {"true", "1", "yes"}:
        options["anonymous"] = True
    system = fs.S3FileSystem(
        connect_timeout=_CONNECT_SECONDS,
        request_timeout=_REQUEST_SECONDS,
        retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=_ATTEMPTS),
        **options,
    )
    return system, bucket + unquote(parts.path)


def _open_gcs(parts: SplitResult, query: dict[str, str]) -> tuple[Any, str]:
    from pyarrow import fs

    query.setdefault("retry_limit_seconds", str(int(_REQUEST_SECONDS)))
    emulator = os.environ.get("STORAGE_EMULATOR_HOST")
    if emulator and "endpoint_override" not in query:
        scheme, _, host = emulator.rpartition("://")
        query |= {"endpoint_override": host.rstrip("/"), "scheme": scheme or "http"}
    uri = urlunsplit((parts.scheme, parts.netloc, parts.path, urlencode(query), ""))
    opened: tuple[Any, str] = fs.FileSystem.from_uri(uri)
    return opened


def _open_azure(parts: SplitResult, _query: dict[str, str]) -> tuple[Any, str]:
    from pyarrow import fs

    opened: tuple[Any, str] = fs.FileSystem.from_uri(urlunsplit(parts))
    return opened


def _asking(place: _Place, ask: Callable[[], Any]) -> Any:
    """Ask the service; whatever it answers instead becomes one line without secrets."""
    try:
        return ask()
    except (pa.ArrowException, OSError, ValueError, NotImplementedError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        for pattern, what, remedy in _REASONS:
            if re.search(pattern, reason):
                raise UsageError(what, where=place.shown, remedy=remedy or _CREDENTIALS[place.kind]) from None
        for secret in sorted(place.secrets, key=len, reverse=True):
            reason = reason.replace(secret, "***")
        raise UsageError(f"cannot be fetched ({reason[:200]})", where=place.shown) from None


def _download(place: _Place, folder: Path, limit: int | None) -> Path:
    from pyarrow import fs

    info = _asking(place, lambda: place.system.get_file_info(place.path))
    if info.type == fs.FileType.NotFound:
        raise UsageError("no such object", where=place.shown, remedy="check the name")
    if info.type == fs.FileType.File:
        suffixes = "".join(s for s in PurePosixPath(place.path).suffixes if re.fullmatch(r"\.\w{1,16}", s))
        objects = [(info, folder / f"object{suffixes}")]
        target = objects[0][1]
    else:
        target = folder / "objects"
        objects = _below(place, target)
    left = limit
    for source, path in objects:
        if left is not None and (source.size or 0) > left:
            raise _too_large(place, limit)
        taken = _copy(place, source.path, path, left)
        left = None if left is None else left - taken
        if left is not None and left < 0:
            raise _too_large(place, limit)
    return target


def _too_large(place: _Place, limit: int | None) -> UsageError:
    return UsageError(f"is larger than {limit:,} bytes", where=place.shown, remedy="raise the limit")


def _below(place: _Place, target: Path) -> list[tuple[Any, Path]]:
    """All objects below a prefix, with the paths they get below `target`."""
    from pyarrow import fs

    infos = _asking(place, lambda: place.system.get_file_info(fs.FileSelector(place.path, recursive=True)))
    files = [info for info in infos if info.type == fs.FileType.File]
    if not files:
        raise UsageError("no objects below it", where=place.shown, remedy="check the name")
    if len(files) > _OBJECTS:
        raise UsageError(f"{len(files):,} objects below it", where=place.shown, remedy="name a smaller part")
    found = []
    for info in files:
        relative = info.path.removeprefix(place.path).removeprefix("/")
        steps = relative.split("/")
        if any(step in {"", ".", ".."} or re.match(r"[A-Za-z]:|.*[\0\\]", step, re.DOTALL) for step in steps):
            raise UsageError(f"an object with the unsafe name {relative!r}", where=place.shown)
        found.append((info, target.joinpath(*steps)))
    return found


def _copy(place: _Place, key: str, path: Path, left: int | None) -> int:
    """Stream one object into a file of mode 0600; stops once it is larger than `left`."""
    taken = 0
    stream = _asking(place, lambda: place.system.open_input_stream(key, compression=None))
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with stream, os.fdopen(descriptor, "wb") as file:
            while block := _asking(place, lambda: stream.read(_BLOCK)):
                taken += len(block)
                if left is not None and taken > left:
                    break
                file.write(block)
    except OSError as error:
        full = error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
        raise UsageError(
            f"cannot be stored ({error.strerror or error})",
            where=place.shown,
            remedy="free space, or set TMPDIR to a place with more" if full else "",
        ) from None
    return taken
