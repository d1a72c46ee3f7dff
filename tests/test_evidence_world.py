"""A small provider made up from nothing: rows, slots, keys, ledger, suspect; and that its bundles verify.

Pure Python, so that these tests run where only the evidence wing does. Other evidence tests
import `World` from here.
"""

from __future__ import annotations

import hashlib
import math
import random
from dataclasses import dataclass, field, replace

from dataguard import dsse, merkle
from dataguard.canonical import body_digest, canonical_json, leaf_bytes
from dataguard.cells import Cell, canonical_cell, row_bytes
from dataguard.evidence import recount
from dataguard.evidence.bundle import compose
from dataguard.evidence.case import (
    Case,
    LedgerView,
    MarkKeyOpening,
    NamedCopy,
    OpenBias,
    Opened,
    OpenRow,
    OpenSlot,
    Reading,
)
from dataguard.evidence.layout import REQUIRED, Contents
from dataguard.evidence.verify import check_contents
from dataguard.keys import SigningKey, commit, symbols
from dataguard.model import Finding, bias_leaf, slot_leaf
from dataguard.stats import Coins, NullLaw, round_up, score

COLUMNS = ("id", "a", "b", "c", "place")
SUSPECT_COLUMNS = ("Stelle", "C!", "a", "extra", "B")
COLUMN_MAP = {"a": "a", "b": "B", "c": "C!", "place": "Stelle"}
GROUPS = {0: ("a",), 1: ("b", "c")}
LAW = {"name": "three", "levels": [22938, 32768, 42598], "shares": [16384, 32768, 16384]}
CHANNEL = b"ps/1\0\0\0a"
SCOPE, OTHER_SCOPE = "00112233445566aa", "ffeeddccbbaa9988"
CHECKPOINT_TYPE = "application/vnd.dataguard.checkpoint.v1+json"
SIGNER = SigningKey(bytes(range(32)))
STRANGER = SigningKey(bytes(range(1, 33)))


FINDINGS = (
    Finding(
        "rows of the suspect found in the original",
        "controls taken out of the original, Fisher's exact test/2",
        "the suspect's rows come from the same source as the original's, but are other rows",
        {"rows": 66, "found": 64, "controls": 100, "controls_found": 0},
        -30.0,
    ),
    Finding(
        "agreement of the other columns in rows found by half of the columns",
        "random re-pairing, Chatterjee 2007 and factorial moments/1",
        "the two halves of the suspect's columns are paired at random",
        {"rows": 133, "found": 128, "agreeing": 120, "agreeing_pairs": 900},
        -29.5,
    ),
)
"""As ``dataguard compare`` words them; the worse of the two is the comparison's."""


@dataclass
class World:
    """One registered dataset, three recipients, one suspect made from the first one's copy.

    Attributes that tests twist before asking for a case are plain fields.
    """

    seed: int = 1
    n_rows: int = 140
    n_slots: int = 40
    recipient: str = "acme"
    alpha: float = 1e-9
    ledger_alpha: str = "1e-09"
    export_alpha: str = "1e-09"
    draws: int = 1
    max_rows: int = 5000
    twist_readings: int = 0
    rng: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self.rng = random.Random(self.seed)
        self.rows = [self._row(i) for i in range(self.n_rows)]
        self.ids = [1000 + 7 * i for i in range(self.n_rows)]
        self.places = self._places()
        self.address = [self.rng.getrandbits(64) for _ in self.places]
        self.bias = [self.rng.choice(LAW["levels"]) for _ in self.places]
        self.keys = {name: self.rng.randbytes(32) for name in (self.recipient, "beta", "gamma")}
        self.key_salt = self.rng.randbytes(32)
        self.salts = {what: self.rng.randbytes(16) for what in ("rows", "slots", "biases")}
        self.suspect, self.aligned = self._suspect()

    # --- original, mark, suspect ---

    def _row(self, i: int) -> tuple[Cell, ...]:
        values = (i, self.rng.gauss(0, 1), self.rng.randrange(10**6), round(self.rng.random(), 3))
        return tuple(canonical_cell(v) for v in (*values, f"場所{self.rng.randrange(9)}"))

    def _places(self) -> list[tuple[int, int, int]]:
        places = []
        for group in GROUPS:
            order = self.rng.sample(self.ids, len(self.ids))
            pairs = zip(order[0::2], order[1::2], strict=True)
            places += [(group, *sorted(pair)) for pair in list(pairs)[: self.n_slots // 2]]
        return places

    def marked(self, key: bytes) -> list[list[Cell]]:
        """Return the copy that carries the mark of `key`."""
        copy = [list(row) for row in self.rows]
        position = {row_id: i for i, row_id in enumerate(self.ids)}
        hits = symbols(key, self.address, self.bias, CHANNEL)
        for (group, low, high), hit in zip(self.places, hits, strict=True):
            for name in GROUPS[group] if hit else ():
                c = COLUMNS.index(name)
                i, j = position[low], position[high]
                copy[i][c], copy[j][c] = copy[j][c], copy[i][c]
        return copy

    def _suspect(self) -> tuple[list[tuple[Cell, ...]], dict[int, int]]:
        """Return shuffled, renamed, partly dropped and changed rows, and which original row each is."""
        copy = self.marked(self.keys[self.recipient])
        kept = self.rng.sample(range(self.n_rows), self.n_rows - 12)
        rows, aligned = [], {}
        for number, i in enumerate(kept):
            cells = {COLUMN_MAP[n]: copy[i][COLUMNS.index(n)] for n in COLUMN_MAP}
            if self.rng.random() < 0.05:
                cells["B"] = Cell(1, str(self.rng.randrange(10**6)))  # neither own nor partner
            cells["extra"] = canonical_cell("<script>alert(1)</script>")
            rows.append(tuple(cells[n] for n in SUSPECT_COLUMNS))
            aligned[number] = self.ids[i]
        rows += [tuple(canonical_cell(self.rng.random()) for _ in SUSPECT_COLUMNS) for _ in range(5)]
        return rows, aligned

    # --- trees ---

    def salt(self, what: str, index: int) -> bytes:
        return hashlib.sha256(self.salts[what] + index.to_bytes(8, "little")).digest()[:16]

    def tree(self, what: str) -> list[bytes]:
        """Return the leaf hashes of one committed tree."""
        data = {
            "rows": lambda: [row_bytes(i, r) for i, r in zip(self.ids, self.rows, strict=True)],
            "slots": lambda: [slot_leaf(a, p) for a, p in zip(self.address, self.places, strict=True)],
            "biases": lambda: [bias_leaf(a, b) for a, b in zip(self.address, self.bias, strict=True)],
            "suspect": lambda: [row_bytes(i, r) for i, r in enumerate(self.suspect)],
        }[what]()
        salted = what != "suspect"
        return [merkle.leaf_hash((self.salt(what, i) if salted else b"") + d) for i, d in enumerate(data)]

    def opened(self, what: str, indices: list[int]) -> Opened:
        tree, indices = self.tree(what), sorted(set(indices))
        make = {
            "rows": lambda i: OpenRow(i, self.ids[i], self.salt(what, i), self.rows[i]),
            "slots": lambda i: OpenSlot(i, self.address[i], self.places[i], self.salt(what, i)),
            "biases": lambda i: OpenBias(i, self.address[i], self.bias[i], self.salt(what, i)),
            "suspect": lambda i: OpenRow(i, i, b"", self.suspect[i]),
        }[what]
        proof = tuple(merkle.multiproof(tree, indices))
        return Opened(len(tree), merkle.root(tree), tuple(make(i) for i in indices), proof)

    # --- votes, by an independent and slower path than the verifier's ---

    def readings(self) -> list[tuple[int, Reading, int]]:
        """Return (slot, reading, weight) of everything that says something."""
        position = {row_id: i for i, row_id in enumerate(self.ids)}
        found = []
        for slot, (group, low, high) in enumerate(self.places):
            for number, own in self.aligned.items():
                if own not in (low, high):
                    continue
                partner = high if own == low else low
                for name in GROUPS[group]:
                    c = COLUMNS.index(name)
                    seen = self.suspect[number][SUSPECT_COLUMNS.index(COLUMN_MAP[name])]
                    mine, other = self.rows[position[own]][c], self.rows[position[partner]][c]
                    if mine == other or seen not in (mine, other):
                        continue
                    reading = Reading(self.address[slot], number, COLUMN_MAP[name], own, name)
                    found.append((slot, reading, 256 if seen == other else -256))
        return found

    def votes(self) -> dict[int, int]:
        """Return weight by slot."""
        total: dict[int, int] = {}
        for slot, _, weight in self.readings():
            total[slot] = total.get(slot, 0) + weight
        return {slot: max(-256, min(256, w)) for slot, w in total.items() if w}

    def digest(self) -> str:
        votes = sorted((self.address[s], self.bias[s], w) for s, w in self.votes().items())
        data = b"".join(
            a.to_bytes(8, "little") + b.to_bytes(8, "little") + (w % 2**64).to_bytes(8, "little")
            for a, b, w in votes
        )
        return hashlib.sha256(b"dataguard/votes/1" + data).hexdigest()

    def alignment_digest(self) -> str:
        data = b"".join(
            r.to_bytes(8, "little") + own.to_bytes(8, "little") for r, own in sorted(self.aligned.items())
        )
        return hashlib.sha256(b"dataguard/alignment/1" + data).hexdigest()

    def counts(self) -> dict:
        """Return the numbers of rows, as trace and ledger state them."""
        return {
            "suspect_rows": len(self.suspect), "examined_rows": len(self.suspect),
            "aligned_rows": len(self.aligned), "voting_rows": len(self.aligned), "max_rows": self.max_rows,
            "alignment_digest": self.alignment_digest(),
        }  # fmt: skip

    def named(self) -> NamedCopy:
        votes, key = self.votes(), self.keys[self.recipient]
        counts: dict[tuple[int, int], list[int]] = {}
        for slot, weight in votes.items():
            hit = symbols(key, [self.address[slot]], [self.bias[slot]], CHANNEL)[0]
            row = counts.setdefault((self.bias[slot], weight), [0, 0])
            row[0] += 1
            row[1] += hit
        histogram = tuple((b, w, n, k) for (b, w), (n, k) in sorted(counts.items()))
        coins = [Coins(b, w, n) for b, w, n, _ in histogram]
        total = score(coins, [k for *_, k in histogram])
        raw = NullLaw(coins).log10_raw(total)
        readings = [r for slot, r, _ in self.readings() if slot in votes]
        units = {row_id for slot in votes for row_id in self.places[slot][1:]} | set(self.aligned.values())
        return NamedCopy(
            MarkKeyOpening(self.recipient, 1, key, self.key_salt, commit("mark-key", key, self.key_salt)),
            histogram,
            total,
            max(-30.0, raw),
            round_up(raw + math.log10(3) + 2 * math.log10(2) + math.log10(self.draws)),
            self.opened("rows", [self.ids.index(u) for u in units]),
            self.opened("slots", list(votes)),
            self.opened("biases", list(votes)),
            self.opened("suspect", list(self.aligned)),
            tuple(readings),
            tuple(sorted(self.aligned.items())),
            min(self.alpha, float(self.export_alpha)),
            self.draws,
        )

    # --- ledger ---

    def payloads(self, outcome: str) -> list[tuple[str, str, dict]]:
        """Return (type, scope, payload) of every entry, in order."""
        roots = {
            "rows_root": merkle.root(self.tree("rows")).hex(),
            "slots_root": merkle.root(self.tree("slots")).hex(),
            "bias_root": merkle.root(self.tree("biases")).hex(),
        }
        base = {"dataset": "flights", "lineage": "ab" * 16, "version": 1}
        commitment = commit("mark-key", self.keys[self.recipient], self.key_salt)
        run = {
            **base, "suspect_sha256": "5" * 64, "suspect_rows_root": merkle.root(self.tree("suspect")).hex(),
            "votes_digest": self.digest(), "votes": len(self.votes()), "alpha": self.ledger_alpha, "mark_keys": 3,
            **self.counts(),
        }  # fmt: skip
        return [
            ("vault-init", "", {"tool": "t"}),
            (
                "registration", SCOPE,
                {
                    **base, "kind": "table", "rows": self.n_rows, "columns": list(COLUMNS), "sha256": "d" * 64,
                    **roots, "slots": len(self.places), "law": LAW, "channel": CHANNEL.hex(),
                    "groups": {str(g): list(m) for g, m in GROUPS.items()}, "decoys_commitment": "e" * 64,
                },
            ),
            ("mark-key", SCOPE, self._key_entry(self.recipient, commitment)),
            ("mark-key", SCOPE, self._key_entry("beta", "b" * 64)),
            ("mark-key", OTHER_SCOPE, self._key_entry("beta", "c" * 64)),
            (
                "export", SCOPE,
                {
                    **base, "sequence": 1, "recipient": self.recipient, "generation": 1, **roots,
                    "mark_key_commitment": commitment, "scheme": CHANNEL.hex(), "profile": "three",
                    "alpha": self.export_alpha, "canary_commitments": [], "draws": self.draws,
                    "sha256": "f" * 64, "terms_sha256": None,
                },
            ),
            ("mark-key", SCOPE, self._key_entry("gamma", "a" * 64)),
            ("trace-run", SCOPE, run | {"votes_digest": "7" * 64}),
            ("trace-outcome", SCOPE, {"run": 7, "outcome": "no-mark", "corresponding": []}),
            ("trace-run", OTHER_SCOPE, run),
            ("trace-run", SCOPE, run),
            ("mark-key", SCOPE, self._key_entry("delta", "9" * 64)),
            (
                "trace-outcome", SCOPE,
                {"run": 10, "outcome": outcome, "corresponding": [self.recipient] if outcome == "corresponds" else []},
            ),
        ]  # fmt: skip

    @staticmethod
    def _key_entry(recipient: str, commitment: str) -> dict:
        return {"lineage": "ab" * 16, "recipient": recipient, "generation": 1, "commitment": commitment}

    def opening(self, seq: int, payloads: list) -> dict:
        """Return one opened entry."""
        kind, scope, payload = payloads[seq]
        salt = hashlib.sha256(b"salt%d" % seq).digest()
        time = f"2026-0{1 + seq // 5}-0{1 + seq % 5}T09:00:00Z"
        document = {**payload, "time": time}
        header = {"v": 1, "seq": seq, "type": kind, "scope": scope, "body": body_digest(salt, document)}
        return {**header, "payload": document, "salt": salt.hex(), "time": time}

    def ledger(self, outcome: str, payloads: list | None = None) -> LedgerView:
        payloads = payloads or self.payloads(outcome)
        openings = [self.opening(seq, payloads) for seq in range(len(payloads))]
        headers = [{k: o[k] for k in ("v", "seq", "type", "scope", "body")} for o in openings]
        hashes = [merkle.leaf_hash(leaf_bytes(h["seq"], h["type"], h["scope"], h["body"])) for h in headers]
        statement = {
            "origin": "test", "size": len(headers), "root": merkle.root(hashes).hex(), "time": "2026-05-01T00:00:00Z"
        }  # fmt: skip
        envelope = dsse.sign(canonical_json(statement), CHECKPOINT_TYPE, SIGNER)
        wanted = [1, 2, 5, 10, 12] if outcome == "corresponds" else [1, 10, 12]
        return LedgerView(
            len(headers), tuple(headers), tuple(openings[i] for i in wanted), dsse.to_json(envelope)
        )

    # --- case ---

    def case(self, outcome: str = "corresponds", *, payloads: list | None = None) -> Case:
        named = self.named() if outcome == "corresponds" else None
        mine = (named.log10_p, named.log10_p_adjusted) if named else (-1.2, 0.0)
        agreeing = sum(k if w > 0 else n - k for _, w, n, k in named.histogram) if named else 3
        trace = {
            "schema": "dataguard.trace/1", "dataset": "flights", "version": 1, "run": 10, "outcome": outcome,
            "corresponding": [self.recipient] if named else [],
            "recipients": [
                {
                    "recipient": self.recipient, "generation": 1, "agreeing": agreeing,
                    "log10_p": mine[0], "log10_p_adjusted": mine[1],
                },
                {"recipient": "beta", "generation": 1, "agreeing": 9, "log10_p": -0.3, "log10_p_adjusted": 0.0},
                {"recipient": "gamma", "generation": 1, "agreeing": 7, "log10_p": 0.0, "log10_p_adjusted": 0.0},
            ],
            "hypotheses": 3, **self.counts(), "votes": len(self.votes()), "k": 2,
            "votes_digest": self.digest(), "alpha": self.alpha, "method": "exact integer law",
            "decoys": {"n": 999, "best_log10_p": -2.9}, "canaries": {"expected": 0, "found": 0, "log10_p": None},
        }  # fmt: skip
        return Case(
            "dataguard 0.1.0", "2026-06-01T00:00:00Z",
            {
                "name": "flights", "version": 1, "kind": "table", "rows": self.n_rows, "columns": list(COLUMNS),
                "sha256": "d" * 64, "scope": SCOPE, "lineage": "ab" * 16,
            },
            {
                "name": "x.csv", "sha256": "5" * 64, "rows": len(self.suspect), "columns": list(SUSPECT_COLUMNS),
                "rows_root": merkle.root(self.tree("suspect")).hex(),
            },
            self.comparison(), trace, FINDINGS,
            {
                "channel": CHANNEL.hex(), "rule": "pair-swap/1", "law": LAW, "place_names": ["group", "low", "high"],
                "groups": {str(g): list(m) for g, m in GROUPS.items()},
            },
            named, self.ledger(outcome, payloads), ("public-rows", "scope"),
        )  # fmt: skip

    def comparison(self) -> dict:
        matched = len(self.aligned)
        near = {"kind": "near-values", "share": 0.02, "max": 3}
        return {
            "schema": "dataguard.compare/1", "relation": "overlap",
            "changes": [
                {"kind": "reordered"}, {"kind": "columns-dropped", "columns": ["id"]},
                {"kind": "renamed", "from": "b", "to": "B"}, {"kind": "mixed", "share": 0.04},
            ],
            "containment_original": {"estimate": matched / self.n_rows, "low": 0.9, "high": 1.0, "exact": True},
            "containment_suspect": {"estimate": 0.96, "low": None, "high": None, "exact": True},
            "rows": {"original": self.n_rows, "suspect": len(self.suspect), "matched": matched},
            "columns": [
                {"original": o, "suspect": s, "agreement": 0.98, "changes": [near]}
                for o, s in COLUMN_MAP.items()
            ],
            "log10_p": -29.5, "null_hypothesis": FINDINGS[1].null_hypothesis,
        }  # fmt: skip


def check(files: dict[str, bytes], public_key: bytes | None = SIGNER.public_bytes):
    """Verify files in memory."""
    digests = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    return check_contents(Contents({n: files[n] for n in REQUIRED}, digests, ()), public_key=public_key)


def failures(found) -> list[tuple[int, str]]:
    """Return the steps that were reached and do not hold."""
    return [(s.n, s.detail) for s in found.steps if not s.ok and s.detail != "not reached"]


def resign(files: dict[str, bytes], statement: dict, signer=SIGNER) -> dict[str, bytes]:
    """Return the files with another statement, digests brought up to date, signed again."""
    others = {n: d for n, d in files.items() if n not in ("report.json", "statement.dsse.json")}
    listed = {n: hashlib.sha256(d).hexdigest() for n, d in others.items()}
    payload = canonical_json(statement | {"files": listed})
    envelope = dsse.sign(payload, "application/vnd.dataguard.bundle.v1+json", signer)
    return others | {"report.json": payload, "statement.dsse.json": dsse.to_json(envelope)}


# --- the world itself ---


def test_a_bundle_of_every_outcome_verifies() -> None:
    for outcome in ("corresponds", "inconclusive", "no-mark"):
        found = check(compose(World().case(outcome), SIGNER))
        assert failures(found) == []
        assert found.trusted
        assert len(found.steps) == 16


def test_without_a_named_copy_the_steps_about_it_say_so() -> None:
    found = check(compose(World().case("inconclusive"), SIGNER))
    assert [s.n for s in found.steps if s.detail == "nothing to check: no copy is named"] == list(
        range(7, 15)
    )


def test_digest_of_an_independent_count_equals_the_verifier_s() -> None:
    world = World(seed=5)
    named = world.named()
    columns = recount.Columns(COLUMNS, SUSPECT_COLUMNS, GROUPS)
    votes = recount.count_votes(named, columns)
    assert {(a, w) for a, _, w in votes} == {(world.address[s], w) for s, w in world.votes().items()}
    assert recount.votes_digest(votes) == world.digest()
    assert len(votes) > 30


def test_worlds_with_other_seeds_verify() -> None:
    for seed in range(2, 6):
        assert check(compose(World(seed=seed, n_slots=60).case(), SIGNER)).trusted


def test_same_case_gives_the_same_bytes() -> None:
    case = World().case()
    assert compose(case, SIGNER) == compose(replace(case), SIGNER)
    assert compose(World().case(), SIGNER) == compose(case, SIGNER)
