"""A changed byte, a changed field, an odd file: never trusted, and the step is named."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path

import pytest

from dataguard.errors import EvidenceError
from dataguard.evidence.bundle import compose, write_bundle
from dataguard.evidence.layout import MAX_FILE_BYTES, REQUIRED
from dataguard.evidence.verify import verify
from test_evidence_world import SIGNER, STRANGER, World, check, failures, resign


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    return compose(World().case(), SIGNER)


@pytest.fixture
def folder(files: dict[str, bytes], tmp_path: Path) -> Path:
    for name, data in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(data)
    return tmp_path


def test_any_flipped_byte_is_noticed(files: dict[str, bytes]) -> None:
    # 300 positions, drawn over all files by size, and the first and last byte of each; every bit equally likely.
    rng = random.Random(20)
    names, sizes = list(files), [len(files[n]) for n in files]
    places = [(n, rng.randrange(len(files[n]))) for n in rng.choices(names, sizes, k=300 - 2 * len(names))]
    places += [(n, i) for n in names for i in (0, len(files[n]) - 1)]
    assert len(places) == 300
    for name, position in places:
        changed = bytearray(files[name])
        changed[position] ^= 1 << rng.randrange(8)
        found = check(files | {name: bytes(changed)})
        assert not found.trusted
        steps = [n for n, _ in failures(found)]
        expected = {"report.json": {1, 2}, "statement.dsse.json": {2}}.get(name, {1})
        assert set(steps) & expected, (name, position, failures(found))


def test_every_field_of_the_statement_signed_again_by_a_stranger(files: dict[str, bytes]) -> None:
    statement = json.loads(files["report.json"])
    del statement["files"]
    for name, value in statement.items():
        other = {**statement, name: value + 1 if isinstance(value, int) else "changed"}
        for pinned in (SIGNER.public_bytes, None):
            found = check(resign(files, other, STRANGER), pinned)
            assert not found.trusted
            assert failures(found)[0][0] in (1, 2, 3)


def test_a_bundle_signed_anew_by_a_stranger_is_refused_with_or_without_a_pinned_key(
    files: dict[str, bytes],
) -> None:
    statement = json.loads(files["report.json"])
    public = STRANGER.public_bytes
    own = statement | {"signer": {"public_key": public.hex(), "keyid": STRANGER.verify_key.keyid}}
    assert failures(check(resign(files, own, STRANGER)))[0][0] == 2
    # Without a pinned key the statement's own key is used; but the checkpoint is not signed by it.
    assert failures(check(resign(files, own, STRANGER), None)) == [
        (3, failures(check(resign(files, own, STRANGER), None))[0][1])
    ]


def test_without_a_pinned_key_a_note_says_so(files: dict[str, bytes]) -> None:
    found = check(files, None)
    assert found.trusted
    assert "named in the bundle" in found.notes[0]
    assert "named in the bundle" not in " ".join(check(files).notes)


def test_second_signature_other_key_id_or_other_layout_is_refused(files: dict[str, bytes]) -> None:
    envelope = json.loads(files["statement.dsse.json"])
    double = {**envelope, "signatures": envelope["signatures"] * 2}
    renamed = {**envelope, "signatures": [{**envelope["signatures"][0], "keyid": "0" * 64}]}
    extra = {**envelope, "more": 1}
    for other in (double, renamed, extra):
        raw = json.dumps(other, sort_keys=True, separators=(",", ":")).encode()
        assert [n for n, _ in failures(check(files | {"statement.dsse.json": raw}))] == [2]
    spaced = json.dumps(envelope).encode()
    assert [n for n, _ in failures(check(files | {"statement.dsse.json": spaced}))] == [2]


# --- on disk -------------------------------------------------------------------------------------


def test_a_bundle_on_disk_verifies(folder: Path) -> None:
    found = verify(folder, public_key=SIGNER.public_bytes)
    assert found.trusted
    assert found.key_id == SIGNER.verify_key.keyid
    document = found.to_dict()
    assert document["schema"] == "dataguard.verify/1"
    assert [s["n"] for s in document["steps"]] == list(range(1, 17))
    assert set(document["steps"][0]) == {"n", "name", "ok", "detail"}


@pytest.mark.parametrize("stray", ["more.txt", "annex/more.json", ".hidden", "deep/er/file"])
def test_an_unlisted_file_fails_step_1(folder: Path, stray: str) -> None:
    (folder / stray).parent.mkdir(parents=True, exist_ok=True)
    (folder / stray).write_bytes(b"")
    found = verify(folder)
    assert [n for n, _ in failures(found)] == [1]
    assert stray in failures(found)[0][1]


@pytest.mark.skipif(os.name != "posix", reason="links and pipes")
def test_links_and_pipes_are_not_followed(folder: Path) -> None:
    (folder / "link").symlink_to(folder / "report.json")
    assert [n for n, _ in failures(verify(folder))] == [1]
    (folder / "link").unlink()
    os.mkfifo(folder / "pipe")
    assert [n for n, _ in failures(verify(folder))] == [1]
    (folder / "pipe").unlink()
    (folder / "README.txt").unlink()
    (folder / "README.txt").symlink_to("/dev/zero")
    with pytest.raises(EvidenceError, match=r"no README\.txt"):
        verify(folder)


@pytest.mark.parametrize("name", REQUIRED)
def test_a_missing_file_is_no_bundle(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(EvidenceError, match=f"no {name}"):
        verify(folder)


def test_what_is_no_bundle_at_all_is_an_error(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(EvidenceError, match="not a bundle directory"):
        verify(folder / "report.json")
    with pytest.raises(EvidenceError, match="not a bundle directory"):
        verify(tmp_path / "nowhere")
    with (folder / "ledger.json").open("wb") as file:
        file.truncate(MAX_FILE_BYTES + 1)  # sparse
    with pytest.raises(EvidenceError, match="512 MiB"):
        verify(folder)


@pytest.mark.parametrize("name", ["report.json", "ledger.json", "annex/openings.json"])
def test_json_nested_too_deeply_is_no_bundle(files: dict[str, bytes], name: str) -> None:
    deep = b'{"copy":' * 100 + b"1" + b"}" * 100
    statement = json.loads(files["report.json"])
    hostile = files | {name: deep}
    if name != "report.json":
        hostile = resign(hostile, statement)
    with pytest.raises(EvidenceError, match="nested too deeply"):
        check(hostile)


# --- writing -------------------------------------------------------------------------------------


def test_a_bundle_is_written_whole_and_never_over_another(tmp_path: Path) -> None:
    case, out = World().case(), tmp_path / "bundle"
    written = write_bundle(case, out, SIGNER)
    assert (written.path, written.status, written.findings) == (out, "DRAFT", 3)
    on_disk = sorted(p.relative_to(out).as_posix() for p in out.rglob("*") if p.is_file())
    assert written.files == tuple(on_disk) == tuple(sorted(REQUIRED))
    assert verify(out, public_key=SIGNER.public_bytes).trusted
    before = {p: p.read_bytes() for p in out.rglob("*") if p.is_file()}
    with pytest.raises(Exception, match="already exists"):
        write_bundle(case, out, SIGNER)
    assert {p: p.read_bytes() for p in out.rglob("*") if p.is_file()} == before
    write_bundle(World().case("no-mark"), out, SIGNER, force=True)
    assert verify(out, public_key=SIGNER.public_bytes).trusted
    assert [p.name for p in tmp_path.iterdir()] == ["bundle"]


def test_a_case_that_contradicts_itself_is_not_written(tmp_path: Path) -> None:
    case = World(alpha=1e-3).case()  # the ledger says 1e-9
    with pytest.raises(EvidenceError, match=r"step 6 .*alpha"):
        write_bundle(case, tmp_path / "bundle", SIGNER)
    incomplete = World().case()
    del incomplete.comparison["relation"]
    with pytest.raises(EvidenceError, match="no field 'relation'"):
        write_bundle(incomplete, tmp_path / "bundle", SIGNER)
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = Path.write_bytes

    def fail_on_annex(path: Path, data: bytes) -> int:
        if path.name == "openings.json":
            raise KeyboardInterrupt
        return written(path, data)

    monkeypatch.setattr(Path, "write_bytes", fail_on_annex)
    with pytest.raises(KeyboardInterrupt):
        write_bundle(World().case(), tmp_path / "bundle", SIGNER)
    assert list(tmp_path.iterdir()) == []
