"""The vault from Python: what is logged when, what stays private, what earlier runs cost."""

from __future__ import annotations

import math
import stat
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import dataguard
from conftest import shared
from dataguard.errors import CapacityError, DataguardError, EvidenceError, UsageError
from dataguard.model import ONE, Outcome
from dataguard.slots import Votes
from dataguard.watermarking.accusation import Candidate, accuse
from dataguard.watermarking.symbols import symbols

CHANNEL = b"swap/1\0\0"


@pytest.fixture
def vault(tmp_path, flights_january):
    with dataguard.Vault.create(tmp_path / "vault") as made:
        made.register(pq.read_table(flights_january).slice(0, 5000), name="flights")
        yield made


def size(vault) -> int:
    return len(vault.ledger_headers())


def leak(copy: Path, rows: int = 80, seed: int = 1) -> pa.Table:
    table = pq.read_table(copy)
    return table.take(np.random.default_rng(seed).permutation(table.num_rows)[:rows])


@pytest.mark.parametrize("out", ["none/x.parquet", "x.xyz", "x.parquet.gz", "folder.parquet", "afile/x.csv"])
def test_a_refused_export_leaves_the_ledger_alone(vault, tmp_path, out) -> None:
    (tmp_path / "folder.parquet").mkdir()
    (tmp_path / "afile").write_text("x")
    before = size(vault)
    for force in (False, True):
        with pytest.raises(UsageError) as refused:
            vault.protect("flights", recipient="acme", out=tmp_path / out, force=force)
        assert "partial" not in str(refused.value)
    assert size(vault) == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["afile", "folder.parquet", "vault"]


def test_mark_key_and_export_leaf_stand_before_the_file_has_its_name(vault, tmp_path, monkeypatch) -> None:
    def stop(_self: Path, target: Path) -> None:
        """Die where the finished file would get its name."""
        if Path(target).name == "acme.parquet":
            raise KeyboardInterrupt

    def link(_source: object, target: object) -> None:
        stop(Path(), Path(str(target)))

    monkeypatch.setattr(Path, "replace", stop)
    monkeypatch.setattr("os.link", link)
    with pytest.raises(KeyboardInterrupt):
        vault.protect("flights", recipient="acme", out=tmp_path / "acme.parquet")
    assert [e.type for e in vault.ledger_entries()][-2:] == ["mark-key", "export"]
    assert [p.name for p in tmp_path.iterdir()] == ["vault"], "no marked byte is left behind"


def test_an_opened_key_is_not_used_again(vault, tmp_path) -> None:
    vault.protect("flights", recipient="acme", out=tmp_path / "a1.parquet")
    vault.report(leak(tmp_path / "a1.parquet"), dataset="flights", out=tmp_path / "b1")
    assert [e.type for e in vault.ledger_entries()][-1] == "key-opened"
    again = vault.protect("flights", recipient="acme", out=tmp_path / "a2.parquet")
    assert again.generation == 2
    assert not pq.read_table(tmp_path / "a1.parquet").equals(pq.read_table(tmp_path / "a2.parquet"))
    for copy, generation in (("a1", 1), ("a2", 2)):
        traced = vault.trace(leak(tmp_path / f"{copy}.parquet", seed=7), dataset="flights")
        assert [(r.recipient, r.generation) for r in traced.accusation.corresponding] == [
            ("acme", generation)
        ]
    vault.report(leak(tmp_path / "a2.parquet", seed=7), dataset="flights", out=tmp_path / "b2")
    assert dataguard.verify(tmp_path / "b2").trusted


def test_another_file_with_the_same_rows_is_another_run_and_can_be_reported(vault, tmp_path) -> None:
    vault.protect("flights", recipient="acme", out=tmp_path / "a.parquet")
    first = leak(tmp_path / "a.parquet")
    vault.trace(first, dataset="flights")
    turned = first.take(np.arange(first.num_rows)[::-1])
    vault.report(turned, dataset="flights", out=tmp_path / "b")
    assert dataguard.verify(tmp_path / "b").trusted
    runs = [e.payload for e in vault.ledger_entries() if e.type == "trace-run"]
    assert len({r["suspect_sha256"] for r in runs}) == len(runs) == 2


def test_unrelated_suspects_are_each_kept_in_the_ledger(vault, tmp_path) -> None:
    vault.protect("flights", recipient="acme", out=tmp_path / "a.parquet")
    for n in (3, 4):
        nothing = pa.table({"x": [f"word {i} of {n}" for i in range(20)]})
        assert vault.trace(nothing, dataset="flights").outcome is Outcome.INCONCLUSIVE
    assert sum(e.type == "trace-outcome" for e in vault.ledger_entries()) == 2


def test_report_replaces_a_bundle_and_nothing_else(vault, tmp_path) -> None:
    vault.protect("flights", recipient="acme", out=tmp_path / "a.parquet")
    suspect = leak(tmp_path / "a.parquet")
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "thesis.txt").write_text("years")
    before = size(vault)
    with pytest.raises(UsageError, match="no bundle"):
        vault.report(suspect, dataset="flights", out=precious, force=True)
    assert (precious / "thesis.txt").read_text() == "years"
    assert size(vault) == before, "no run is spent on a report that has no place"
    vault.report(suspect, dataset="flights", out=tmp_path / "b")
    with pytest.raises(UsageError, match="--force"):
        vault.report(suspect, dataset="flights", out=tmp_path / "b")
    vault.report(suspect, dataset="flights", out=tmp_path / "b", force=True)
    assert dataguard.verify(tmp_path / "b").trusted


def test_a_committed_copy_that_was_never_handed_out_is_not_reported(vault, tmp_path) -> None:
    """The provider can compute any recipient's copy; without an export in the ledger it names nobody."""
    from dataguard import keys
    from dataguard.modalities.table import CARRIER

    vault.commit_recipients("flights", ["ghost", "acme"])
    vault.protect("flights", recipient="acme", out=tmp_path / "a.parquet")
    parts = vault._parts
    record = parts.store.latest_dataset("flights")
    held = parts.holding(record)
    ids, slots = held.everything()
    original = CARRIER.decode(held.source, ids)
    key = keys.mark_key(parts.master, record.lineage, "ghost", 1)
    own = symbols(key, slots.address, slots.bias, slots.channel)
    forged = CARRIER.mark(original, CARRIER.embed(original, slots, own)).table.slice(0, 90)
    assert vault.trace(forged, dataset="flights").corresponding == ("ghost",)
    with pytest.raises(EvidenceError, match="no export"):
        vault.report(forged, dataset="flights", out=tmp_path / "b")
    assert not (tmp_path / "b").exists()


def test_nobody_else_can_read_the_plan_or_the_keys(vault, tmp_path) -> None:
    assert stat.S_IMODE((tmp_path / "vault").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "vault" / "registry.sqlite").stat().st_mode) == 0o600
    for path in (tmp_path / "vault" / "keys").iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_an_init_that_was_cut_short_can_be_repeated(tmp_path, monkeypatch) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("dataguard.housing.Settings.write", stop)
        with pytest.raises(KeyboardInterrupt):
            dataguard.Vault.create(tmp_path / "v")
    with dataguard.Vault.create(tmp_path / "v") as made:
        assert size(made) == 1
    with pytest.raises(UsageError, match="already"):
        dataguard.Vault.create(tmp_path / "v")


def test_a_table_that_cannot_be_marked_is_refused_at_registration(vault) -> None:
    """683 rows of correlated scores from 1 to 10: exchanging them would move correlations too far."""
    before = size(vault)
    with pytest.raises(CapacityError, match="correlation of"):
        vault.register(shared("tables/breast_cancer_wisconsin.csv.gz"), name="cells")
    assert size(vault) == before


def test_arrow_objects_and_files_give_the_same_trace(vault, tmp_path) -> None:
    vault.protect("flights", recipient="acme", out=tmp_path / "a.parquet")
    table = leak(tmp_path / "a.parquet")
    pq.write_table(table, tmp_path / "leak.parquet")
    from_memory, from_file = (vault.trace(x, dataset="flights") for x in (table, tmp_path / "leak.parquet"))
    assert from_memory.votes_digest == from_file.votes_digest
    reader = pa.RecordBatchReader.from_batches(table.schema, table.to_batches(max_chunksize=13))
    assert vault.trace(reader, dataset="flights").votes_digest == from_file.votes_digest


def test_results_show_in_a_notebook_and_equal_their_json(vault, tmp_path) -> None:
    made = vault.protect("flights", recipient="<b>acme</b>", out=tmp_path / "a.parquet")
    traced = vault.trace(leak(tmp_path / "a.parquet"), dataset="flights")
    for result in (made, traced):
        page = result._repr_html_()
        assert "<table>" in page
        assert "<b>acme" not in page
    compared = dataguard.compare(tmp_path / "a.parquet", tmp_path / "a.parquet")
    assert compared.to_dict()["relation"] == "identical"
    assert "identical" in compared._repr_html_()


# --- what many runs cost ---------------------------------------------------------------------------


def perfect_votes(n: int, key: bytes) -> Votes:
    address = np.arange(n, dtype=np.uint64)
    bias = np.full(n, ONE // 2, np.int64)
    weight = np.where(symbols(key, address, bias, CHANNEL) == 1, 256, -256).astype(np.int16)
    return Votes(np.arange(n), address, bias, weight)


def test_a_strong_leak_is_named_however_many_runs_came_before() -> None:
    key = b"k" * 32
    candidates = [Candidate("acme", 1, key), *(Candidate(f"r{i}", 1, bytes([i]) * 32) for i in range(99))]
    for run in (1, 64, 200):
        result = accuse(perfect_votes(800, key), candidates, CHANNEL, alpha=1e-9, spent=run)
        assert [r.recipient for r in result.corresponding] == ["acme"], run
    late = accuse(perfect_votes(45, key), candidates, CHANNEL, alpha=1e-9, spent=30)
    assert late.outcome is Outcome.INCONCLUSIVE


def test_no_mark_is_not_said_because_of_earlier_runs() -> None:
    """A key at about 1e-8 is suspicious in the first run and stays so in the fortieth."""
    key = b"k" * 32
    votes = perfect_votes(600, key)
    weight = votes.weight.copy()
    weight[:230] = -weight[:230]
    mixed = Votes(votes.slot, votes.address, votes.bias, weight)
    candidates = [Candidate("acme", 1, key), Candidate("birch", 1, b"b" * 32)]
    for run in (1, 40):
        result = accuse(mixed, candidates, CHANNEL, alpha=1e-9, spent=run)
        assert -9 < result.recipients[0].log10_p + math.log10(2) < -5
        assert result.outcome is Outcome.INCONCLUSIVE


def test_expected_errors_are_all_of_one_family() -> None:
    assert issubclass(UsageError, DataguardError)


def test_init_touches_nothing_it_has_not_made(tmp_path) -> None:
    foreign = tmp_path / "proj" / "keys"
    foreign.mkdir(parents=True)
    (foreign / "id_ed25519").write_text("mine")
    (tmp_path / "proj" / ".gitignore").write_text("*.log\n")
    dataguard.Vault.create(tmp_path / "proj").close()
    assert (foreign / "id_ed25519").read_text() == "mine"
    assert (tmp_path / "proj" / ".gitignore").read_text() == "*.log\n"


def test_a_recipient_of_the_second_version_is_found_by_rows_both_versions_have(
    vault, tmp_path, flights_january
) -> None:
    """Every leaked row stands in both versions; only the second was handed to birch, only the first to acme."""
    vault.protect("flights", recipient="acme", out=tmp_path / "a.parquet")
    vault.register(pq.read_table(flights_january).slice(0, 5600), name="flights")
    vault.protect("flights", recipient="birch", out=tmp_path / "b.parquet")
    for name, file, version in (("birch", "b", 2), ("acme", "a", 1)):
        copy = pq.read_table(tmp_path / f"{file}.parquet").slice(0, 5000)
        suspect = copy.take(np.random.default_rng(3).permutation(5000)[:90])
        traced = vault.trace(suspect, dataset="flights")
        assert (traced.corresponding, traced.version) == ((name,), version)
        vault.report(suspect, dataset="flights", out=tmp_path / f"bundle-{file}")
        assert dataguard.verify(tmp_path / f"bundle-{file}").trusted


def test_force_never_overwrites_a_registered_original(vault, tmp_path, flights_january) -> None:
    mine = tmp_path / "mine.parquet"
    mine.write_bytes(flights_january.read_bytes())
    vault.register(mine, name="whole")
    with pytest.raises(UsageError, match="registered original"):
        vault.protect("whole", recipient="acme", out=mine, force=True)
    assert mine.read_bytes() == flights_january.read_bytes()


def test_a_looser_alpha_than_the_committed_one_is_refused(vault, tmp_path) -> None:
    vault.protect("flights", recipient="acme", out=tmp_path / "a.parquet")
    before = size(vault)
    with pytest.raises(UsageError, match="stricter"):
        vault.trace(leak(tmp_path / "a.parquet"), dataset="flights", alpha=0.05)
    assert size(vault) == before


def test_a_version_that_shares_few_rows_is_refused_with_the_remedy(vault, flights_january) -> None:
    """Only new rows are paired anew: a cut of the first version has next to no slots of its own."""
    before = size(vault)
    with pytest.raises(CapacityError, match="a name of its own"):
        vault.register(pq.read_table(flights_january).slice(0, 250), name="flights")
    assert size(vault) == before
