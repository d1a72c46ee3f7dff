"""Key files, plain and locked: private, never overwritten, never half written, and closed without the passphrase."""

from __future__ import annotations

import hashlib
import io
import os
import stat

import pytest

from dataguard import sealing
from dataguard.errors import DataguardError, KeyringError, UsageError
from dataguard.keyfile import KeyFiles, KeyRing
from dataguard.keys import MasterSecret, SigningKey

MASTER = bytes(range(32))
CHEAP = sealing.Cost(64, 1, 1)


def counting(name):
    """A repeatable source of "random" bytes."""
    state = [0]

    def draw(n):
        state[0] += 1
        return hashlib.shake_256(f"{name} {state[0]}".encode()).digest(n)

    return draw


def loaded(files, passphrase=None):
    ring = files.load(None if passphrase is None else lambda: passphrase)
    return ring.masters[0], ring.signing


# --- plain -----------------------------------------------------------------------------------


def test_keys_are_written_privately_and_read_back(tmp_path):
    files = KeyFiles(tmp_path / "vault" / "keys")
    old = os.umask(0)  # even under the most careless umask
    try:
        ring = files.create(counting("a"))
    finally:
        os.umask(old)
    assert files.load() == ring
    assert ring.masters[0].reveal() != ring.signing.reveal()
    assert stat.S_IMODE(files.folder.stat().st_mode) == 0o700
    assert sorted(p.name for p in files.folder.iterdir()) == ["master.key", "signing.key"]
    for path in files.folder.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_golden_key_file(tmp_path):
    for name, value in (("master", MASTER), ("signing", MASTER[::-1])):
        path = tmp_path / f"{name}.key"
        text = f"dataguard-key/1 {name} {value.hex()}"
        path.write_text(f"{text} {hashlib.sha256(text.encode()).hexdigest()[:8]}\n")
        path.chmod(0o600)
    assert loaded(KeyFiles(tmp_path)) == (MasterSecret(MASTER), SigningKey(MASTER[::-1]))


@pytest.mark.parametrize("name", ["master.key", "signing.key"])
def test_keys_are_never_overwritten(tmp_path, name):
    (tmp_path / name).write_bytes(b"precious")
    with pytest.raises(KeyringError, match="never overwritten"):
        KeyFiles(tmp_path).create(counting("b"))
    assert [p.name for p in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_bytes() == b"precious"


def test_a_key_made_by_another_process_meanwhile_is_kept(tmp_path, monkeypatch):
    (tmp_path / "master.key").write_bytes(b"precious")
    monkeypatch.setattr(os.path, "lexists", lambda _path: False)  # as if it appeared after the look
    with pytest.raises(KeyringError, match="File exists"):
        KeyFiles(tmp_path).create(counting("race"))
    assert (tmp_path / "master.key").read_bytes() == b"precious"


def test_a_dangling_link_is_not_followed(tmp_path):
    (tmp_path / "master.key").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(KeyringError):
        KeyFiles(tmp_path).create(counting("c"))
    assert not (tmp_path / "elsewhere").exists()


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(KeyringError, match="cannot write"):
        KeyFiles(tmp_path / "file" / "keys").create(counting("d"))


def test_a_failed_write_leaves_no_half_key(tmp_path, monkeypatch):
    def full(_descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(KeyringError, match="No space left"):
        KeyFiles(tmp_path).create(counting("e"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o601, 0o644])
def test_keys_open_to_others_are_refused_with_the_remedy(tmp_path, mode):
    files = KeyFiles(tmp_path)
    files.create(counting("f"))
    path = tmp_path / "master.key"
    path.chmod(mode)
    with pytest.raises(KeyringError) as caught:
        files.load()
    assert caught.value.remedy == f"chmod 600 {path}"
    path.chmod(0o600)
    files.load()


def test_missing_and_damaged_keys(tmp_path):
    files = KeyFiles(tmp_path)
    with pytest.raises(KeyringError, match="cannot read key"):
        files.load()
    ring = files.create(counting("g"))
    master = ring.masters[0]
    path = tmp_path / "master.key"
    good = path.read_bytes()
    digit = good.index(b"master ") + 7
    flipped = good[:digit] + (b"0" if good[digit : digit + 1] != b"0" else b"1") + good[digit + 1 :]
    other_name = (tmp_path / "signing.key").read_bytes()
    for bad in (b"", good[:-1], good + b"\n", flipped, good.upper(), b"\xff" * 100, b"x" * 9000, other_name):
        path.write_bytes(bad)
        with pytest.raises(KeyringError, match="damaged") as caught:
            files.load()
        assert master.reveal().hex()[:16] not in str(caught.value)
    path.write_bytes(good)
    assert files.load() == ring


def test_entropy_of_the_wrong_length_is_refused(tmp_path):
    with pytest.raises(DataguardError):
        KeyFiles(tmp_path).create(lambda n: bytes(n - 1))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("n", [1, 2])
def test_a_create_that_fails_half_way_leaves_nothing(tmp_path, monkeypatch, n):
    real, left = os.fsync, [n]

    def full(descriptor):
        left[0] -= 1
        if left[0] < 0:
            raise OSError(28, "No space left on device")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(KeyringError, match="No space left"):
        KeyFiles(tmp_path).create(counting("e"))
    assert list(tmp_path.iterdir()) == []


# --- more than one ---------------------------------------------------------------------------


def test_numbered_masters_and_a_successor_come_back_in_order(tmp_path):
    files = KeyFiles(tmp_path)
    ring = files.create(counting("h"))
    more = tuple(MasterSecret(bytes([i]) * 32) for i in range(1, 12))
    ring = KeyRing((*ring.masters, *more), ring.signing, SigningKey(bytes(32)))
    for passphrase in (None, b"secret", None):
        KeyFiles(tmp_path, CHEAP).save(ring, counting("i"), passphrase)
        assert files.load(lambda: b"secret") == ring
    assert "signing-next.key" in {p.name for p in tmp_path.iterdir()}
    files.save(KeyRing(ring.masters, ring.signing), counting("j"), None)
    assert files.load().successor is None
    assert "signing-next.key" not in {p.name for p in tmp_path.iterdir()}
    (tmp_path / "master-3.key").unlink()
    with pytest.raises(KeyringError, match="missing"):
        files.load()


def test_a_key_under_another_name_is_not_taken_for_it(tmp_path):
    files = KeyFiles(tmp_path)
    files.create(counting("k"))
    os.link(tmp_path / "master.key", tmp_path / "master-1.key")
    with pytest.raises(KeyringError, match=r"master-1.key: key file is damaged"):
        files.load()


# --- locked ----------------------------------------------------------------------------------


@pytest.fixture
def locked(tmp_path):
    files = KeyFiles(tmp_path / "keys", CHEAP)
    files.create(counting("l"), b"correct horse")
    return files


def test_locked_keys_open_with_the_passphrase_only(locked):
    assert [p.name for p in locked.folder.iterdir()] == ["locked.key"]
    assert locked.is_locked
    ring = locked.load(lambda: b"correct horse")
    data = (locked.folder / "locked.key").read_bytes()
    for key in (*ring.masters, ring.signing):
        assert key.reveal() not in data
        assert key.reveal().hex().encode() not in data
    with pytest.raises(KeyringError, match="wrong passphrase"):
        locked.load(lambda: b"correct horsf")
    with pytest.raises(KeyringError, match="DATAGUARD_PASSPHRASE"):
        locked.load()


def test_plain_keys_never_ask(tmp_path):
    KeyFiles(tmp_path).create(counting("m"))

    def ask():
        raise AssertionError

    KeyFiles(tmp_path).load(ask)


def test_a_passphrase_is_set_changed_and_removed(tmp_path):
    files = KeyFiles(tmp_path, CHEAP)
    ring = files.create(counting("n"))
    plain = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    salts = set()
    for old, new in ((None, b"one"), (b"one", b"two"), (b"two", b"two"), (b"two", None)):
        files.save(files.load(lambda old=old: old), os.urandom, new)
        assert files.load(lambda new=new: new) == ring
        names = {p.name for p in tmp_path.iterdir()}
        if new is None:
            assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == plain
            continue
        assert names == {"locked.key"}
        assert stat.S_IMODE((tmp_path / "locked.key").stat().st_mode) == 0o600
        salts.add((tmp_path / "locked.key").read_bytes().split()[5])
        if old not in (None, new):
            with pytest.raises(KeyringError, match="wrong"):
                files.load(lambda old=old: old)
    assert len(salts) == 3, "each writing has a salt of its own"


def test_the_old_keys_are_overwritten_unless_they_have_another_name(tmp_path):
    files = KeyFiles(tmp_path / "keys", CHEAP)
    files.create(counting("o"))
    os.link(tmp_path / "keys" / "signing.key", tmp_path / "my-backup")
    kept = (tmp_path / "my-backup").read_bytes()
    with (tmp_path / "keys" / "master.key").open("rb") as old:
        files.save(files.load(), os.urandom, b"new")
        assert set(old.read()) == {0}
    assert (tmp_path / "my-backup").read_bytes() == kept


@pytest.mark.parametrize("passphrase", [None, b"old"])
@pytest.mark.parametrize("change", [None, b"new"])
def test_a_change_cut_short_anywhere_leaves_keys_that_open(tmp_path, monkeypatch, passphrase, change):
    """Every call to the system that changes something fails once; old or new passphrase opens what is left."""
    real = {name: getattr(os, name) for name in ("open", "fsync", "replace", "unlink", "write", "rename")}
    for stop in range(40):
        folder = tmp_path / str(stop)
        files = KeyFiles(folder, CHEAP)
        ring = files.create(counting("p"), passphrase)
        calls = [0]

        def counted(name, calls=calls, stop=stop):
            def call(*args, **kwargs):
                calls[0] += 1
                if calls[0] > stop:
                    raise OSError(5, "Input/output error")
                return real[name](*args, **kwargs)

            return call

        with monkeypatch.context() as patch:
            for name in real:
                patch.setattr(os, name, counted(name))
            try:
                files.save(ring, counting("q"), change)
                done = True
            except KeyringError:
                done = False
        found = []
        for phrase in (passphrase, change):
            try:
                found.append(files.load(lambda phrase=phrase: phrase or b""))
            except KeyringError:
                continue
        assert ring in found, stop
        if done:
            break
    assert done, "the last round ran through"


@pytest.mark.parametrize("at", range(0, 500, 7))
def test_a_flipped_byte_of_a_locked_file_is_one_clear_line(locked, at):
    path = locked.folder / "locked.key"
    data = bytearray(path.read_bytes())
    data[at % len(data)] ^= 1 + at % 255
    path.write_bytes(data)
    with pytest.raises(KeyringError) as caught:
        locked.load(lambda: b"correct horse")
    assert "\n" not in str(caught.value)


def relabelled(locked, **changes):
    """Return the locked file with another header, its check sum right: what an attacker can write."""
    path = locked.folder / "locked.key"
    words = path.read_text().split()[:-1]
    for position, value in changes.items():
        words[int(position[1:])] = value
    text = " ".join(words)
    path.write_text(f"{text} {hashlib.sha256(text.encode()).hexdigest()[:8]}\n")


@pytest.mark.parametrize(
    "cost",
    ["1048577 1 1", "1048576 64 1", "64 65 1", "64 1 17", "64 1 9", "4294967295 4294967295 1", "8 0 1"],
)
def test_a_hostile_cost_is_refused_before_it_is_paid(locked, cost):
    memory, passes, lanes = cost.split()
    relabelled(locked, w2=memory, w3=passes, w4=lanes)
    asked = []
    with pytest.raises(KeyringError) as caught:
        locked.load(lambda: asked.append(1) or b"x")
    assert not asked
    assert "\n" not in str(caught.value)


def test_the_header_is_bound_to_the_keys(locked):
    relabelled(locked, w3="2")
    with pytest.raises(KeyringError, match="wrong passphrase"):
        locked.load(lambda: b"correct horse")


def test_the_default_cost_is_the_documented_one(tmp_path):
    files = KeyFiles(tmp_path)
    files.create(os.urandom, b"x")
    assert (tmp_path / "locked.key").read_text().split()[:5] == [
        "dataguard-locked/1",
        "argon2id",
        "65536",
        "3",
        "1",
    ]
    files.load(lambda: b"x")


def test_golden_locked_file(tmp_path):
    """The file of docs/formats.md, made by a separate program (argon2-cffi, AES of openssl, GHASH by hand)."""
    (tmp_path / "locked.key").write_text(GOLDEN)
    (tmp_path / "locked.key").chmod(0o600)
    found = KeyFiles(tmp_path).load(lambda: sealing.passphrase_bytes("パスワード e\u0301"))
    assert (found.masters[0].reveal(), found.signing.reveal()) == (MASTER, MASTER[::-1])


GOLDEN = (
    "dataguard-locked/1 argon2id 65536 3 1 000102030405060708090a0b0c0d0e0f 6465666768696a6b6c6d6e6f "
    "4b82cd89cc0dfc356c6df8ad090907ea2628e4efb6cb08e51670b5f7dc0cadc0704427266de2406aa24ef255ed4129e3681e"
    "72043a4d40ae78613593c9c8aa675b5659c2a6c71bb74c9ca35458c6b36a197fd4c18c229534682d54ecbb483e27a57b6057"
    "7013d2b2d1013d297ff37ff13786b8c4eb2501f1d086ffab7804838b472aa12f2d2fcff715c74ef5612fec97d7d4e29058ff"
    "366f9d141e41a981a6db5b777fe3a722a98fba45f9b11ea6219b9819a22b8c3de8f659fb71612e15cec5f2fb69313902f174"
    "23460290f9ac429e592fc1"
    " 74550f87\n"
)


def test_problems_name_modes_links_and_leftovers(tmp_path):
    files = KeyFiles(tmp_path / "keys", CHEAP)
    ring = files.create(counting("r"))
    assert files.problems() == []
    plain = (tmp_path / "keys" / "master.key").read_bytes()
    (tmp_path / "keys" / "master.key").chmod(0o640)
    assert "chmod 600" in files.problems()[0]
    files.save(ring, os.urandom, b"x")
    (tmp_path / "keys" / "master.key").write_bytes(plain)
    (tmp_path / "keys" / "master.key").chmod(0o600)
    (tmp_path / "keys").chmod(0o755)
    told = files.problems()
    assert len(told) == 2
    assert "chmod 700" in told[0]
    assert "beside the locked keys" in told[1]


# --- passphrases and streams -----------------------------------------------------------------


def test_a_passphrase_is_the_same_on_every_keyboard():
    assert sealing.passphrase_bytes("\u00e9\u30ac") == sealing.passphrase_bytes("e\u0301\u30ab\u3099")
    for bad in ("", "x" * 4097):
        with pytest.raises(UsageError):
            sealing.passphrase_bytes(bad)


KEY, PREFIX, HEADER = bytes(32), bytes(7), b"header\n"
SIZES = [0, 1, 65535, 65536, 65537, 131072, 200000]


def stream(plain, key=KEY):
    file = io.BytesIO()
    writer = sealing.SealedWriter(file, key, PREFIX, HEADER)
    for i in range(0, len(plain), 5000):
        writer.write(plain[i : i + 5000])
    writer.finish()
    return file.getvalue()


def opened(data, header=HEADER, key=KEY, piece=7001):
    reader, parts = sealing.SealedReader(io.BytesIO(data), key, PREFIX, header), []
    while part := reader.read(piece):
        parts.append(part)
    return b"".join(parts)


@pytest.mark.parametrize("size", SIZES)
def test_a_stream_comes_back_and_has_the_stated_length(size):
    plain = hashlib.shake_256(b"s").digest(size)
    data = stream(plain)
    assert len(data) == sealing.sealed_bytes(size)
    assert opened(data) == plain


def test_the_construction_is_the_documented_one():
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    plain, data = bytes(70000), stream(bytes(70000))
    cut = 65536 + 16
    first = AESGCM(KEY).decrypt(PREFIX + bytes(4) + b"\0", data[:cut], HEADER)
    last = AESGCM(KEY).decrypt(PREFIX + bytes([0, 0, 0, 1]) + b"\1", data[cut:], HEADER)
    assert first + last == plain


def test_chunks_cannot_be_cut_exchanged_repeated_or_added():
    plain = hashlib.shake_256(b"t").digest(3 * 65536)
    data = stream(plain)
    size = 65536 + 16
    a, b, c = data[:size], data[size : 2 * size], data[2 * size :]
    for bad in (a + b, a, b"", a + c + b, b + a + c, a + b + b + c, a + b + c + c, data[:-1], data + b"x", c):
        with pytest.raises(KeyringError):
            opened(bad)
    for at in range(0, len(data), 9973):
        flipped = bytearray(data)
        flipped[at] ^= 1
        with pytest.raises(KeyringError):
            opened(bytes(flipped))
    for wrong in ({"header": b"headers\n"}, {"key": b"\1" * 32}):
        with pytest.raises(KeyringError):
            opened(data, **wrong)
    assert opened(data) == plain
