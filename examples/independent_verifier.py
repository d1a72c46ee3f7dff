"""A second verifier of evidence bundles, written from docs/formats.md alone.

python examples/independent_verifier.py BUNDLE [PUBLIC_KEY_HEX]

It shares no line with dataguard and imports nothing of it: the standard library and `cryptography` (Ed25519,
AES) are enough. That both programs agree is evidence that neither follows a private convention. Exit code: 0
trusted, 3 not trusted, 2 not a bundle.

Notes
-----
It does not render report.html and README.txt again and does not re-derive the prose, names of limits, or
findings of the comparison: those are covered by digest and signature here, and by `dataguard verify`. As there,
times, figures of other keys and the choice of the aligned rows rest on the provider's word, and a key that is
read from the bundle itself shows only that the bundle is of one piece.
"""

from __future__ import annotations

import base64
import json
import math
import re
import struct
import sys
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

STATEMENT, PAGES = "statement.dsse.json", ("report.html", "README.txt")
DATA = ("report.json", "ledger.json", "annex/openings.json")
TOLERANCE, FLOOR, EXACT_UP_TO, FILE_LIMIT = 2e-4, -30.0, 12_000_000, 512 << 20
FAULTS = (ArithmeticError, AttributeError, InvalidSignature, LookupError, RecursionError, TypeError, ValueError)


def need(holds: object, why: str) -> None:
    """Raise where a condition of the specification does not hold."""
    if not holds:
        raise ValueError(why)


def parse(data: bytes) -> Any:
    """Read I-JSON: no repeated key, no NaN, no integer beyond 2^53 - 1."""

    def unique(items: list[tuple[str, Any]]) -> dict[str, Any]:
        need(len(dict(items)) == len(items), "a JSON key is repeated")
        return dict(items)

    def small(text: str) -> int:
        need(len(text) < 18 and abs(int(text)) < 1 << 53, "a JSON integer is too large")
        return int(text)

    def refuse(text: str) -> None:
        raise ValueError(f"{text} is not JSON")

    text = data.decode("utf-8")
    return json.loads(text, object_pairs_hook=unique, parse_int=small, parse_constant=refuse)


def number(x: float) -> str:
    """Write a number as ECMAScript does (RFC 8785, 3.2.2.3)."""
    if x == int(x) and abs(x) < 1e21:
        return str(int(x))
    sign, digits, exponent = Decimal(repr(x)).normalize().as_tuple()
    text, point = "".join(map(str, digits)), len(digits) + int(exponent)
    if 0 < point <= 21:
        body = f"{text[:point]}.{text[point:]}"
    elif -6 < point <= 0:
        body = f"0.{'0' * -point}{text}"
    else:
        body = f"{text[0]}{'.' * (len(text) > 1)}{text[1:]}e{point - 1:+d}"
    return "-" * sign + body


def canonical(value: Any, depth: int = 0) -> str:
    """Write canonical JSON (RFC 8785), at most 64 deep."""
    need(depth <= 64, "JSON nested deeper than 64")
    if isinstance(value, dict):
        keys = sorted(value, key=lambda k: k.encode("utf-16-be"))
        return "{" + ",".join(f"{canonical(k)}:{canonical(value[k], depth + 1)}" for k in keys) + "}"
    if isinstance(value, list):
        return "[" + ",".join(canonical(v, depth + 1) for v in value) + "]"
    return number(value) if isinstance(value, float) else json.dumps(value, ensure_ascii=False)


def open_envelope(envelope: dict[str, Any], kind: str, raw: bytes) -> bytes:
    """Return the payload of a DSSE envelope that bears exactly one signature, by the key `raw`."""
    kind, (signature,) = f"application/vnd.dataguard.{kind}.v1+json", envelope["signatures"]
    payload, sig = (base64.b64decode(x, validate=True) for x in (envelope["payload"], signature["sig"]))
    named = {"keyid": sha256(raw).hexdigest(), "sig": base64.b64encode(sig).decode()}
    form = {"payload": base64.b64encode(payload).decode(), "payloadType": kind, "signatures": [named]}
    need(envelope == form, "the envelope is not in its one written form")
    signed = f"DSSEv1 {len(kind)} {kind} {len(payload)} ".encode() + payload
    Ed25519PublicKey.from_public_bytes(raw).verify(sig, signed)
    return payload


def integer(text: str, low: int = 0, high: int = 2**64) -> int:
    """Read an integer that travels as decimal text, low <= it < high."""
    need(re.fullmatch(r"0|-?[1-9][0-9]{0,19}", text), f"{text!r} is no decimal integer")
    need(low <= int(text) < high, f"{text} is out of range")
    return int(text)


def signed(text: str) -> int:
    """Read a signed 64-bit integer."""
    return integer(text, -(2**63), 2**63)


def words(*values: int) -> bytes:
    """Write integers as 64-bit little-endian words, negative ones in two's complement."""
    return b"".join((v % 2**64).to_bytes(8, "little") for v in values)


def cell(tag: int, text: str) -> bytes:
    """Return the committed bytes of a canonical cell."""
    if tag == 1:
        need(re.fullmatch(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)(e[+-]?[0-9]{1,3})?", text), f"{text!r}: no number")
        return b"\x01" + struct.pack("<d", float(text))
    if tag == 2:
        return b"\x02" + words(signed(text))
    if tag == 3:
        need(text.endswith("Z"), f"{text!r}: not UTC")
        elapsed = datetime.fromisoformat(text) - datetime(1970, 1, 1, tzinfo=UTC)
        return b"\x03" + words(elapsed // timedelta(microseconds=1))
    need(tag == 4 or (tag, text) == (0, ""), f"unknown cell ({tag}, {text!r})")
    return b"\x04" + struct.pack("<I", len(text.encode())) + text.encode() if tag else b"\x00"


def merkle_root(size: int, leaves: dict[int, bytes], proof: list[str]) -> str:
    """Return the root that opened leaf hashes and a multi-proof give, in the recursive shape of RFC 9162."""
    order, left = sorted(leaves), iter([bytes.fromhex(h) for h in proof])
    need(order and order[0] >= 0 and order[-1] < size, "no leaf opened, or one outside the tree")

    def node(low: int, high: int) -> bytes:
        if bisect_left(order, low) == bisect_left(order, high):
            return next(left, b"")
        if high - low == 1:
            return leaves[low]
        middle = low + (1 << ((high - low - 1).bit_length() - 1))
        a, b = node(low, middle), node(middle, high)
        need(len(a) == len(b) == 32, "a hash of the proof is missing")
        return sha256(b"\x01" + a + b).digest()

    root = node(0, size)
    need(next(left, None) is None, "a hash of the proof is left over")
    return root.hex()


def open_tree(given: dict[str, Any], size: int, root: str, read: Read, salt_at: int, salt: int = 16) -> Opened:
    """Return {identifier: content} of the opened leaves, after comparing their tree with the committed one."""
    need((given["size"], given["root"]) == (size, root), "not the committed size and root")
    leaves: dict[int, bytes] = {}
    found: Opened = {}
    for index, text, *rest in given["leaves"]:
        ident, salted, content = integer(text), bytes.fromhex(rest[salt_at]), read(rest[1 - salt_at])
        need(len(rest) == 2 and len(salted) == salt and ident not in found, f"form of the leaf of {ident}")
        need(index > max(leaves, default=-1) if len(leaves) < 2 else index > last, "leaves are not ascending")
        last, found[ident] = index, content
        data = b"".join(c if isinstance(c, bytes) else words(c) for c in content)
        leaves[index] = sha256(b"\x00" + salted + words(ident) + data).digest()
    need(merkle_root(size, leaves, given["proof"]) == root, "leaves do not hash to the root")
    return found


def same(a: dict[str, Any], b: dict[str, Any], names: str) -> None:
    """Demand that two documents have equal values under each of the names."""
    for name in names.split():
        need(a[name] == b[name], f"{name} is stated as {b[name]!r} and logged as {a[name]!r}")


def check_files(b: Case) -> str:
    """Files: listed with their digests, none missing or unlisted."""
    b.report = parse(b.files["report.json"])
    found = {name: sha256(data).hexdigest() for name, data in b.files.items()}
    need(not b.odd, f"neither file nor folder, or too large: {b.odd}")
    del found["report.json"], found[STATEMENT]
    need(found == b.report["files"], f"not as listed: {set(found.items()) ^ set(b.report['files'].items())}")
    return f"{len(found)} files as listed"


def check_signature(b: Case) -> str:
    """Signature: the envelope is signed by the key, and report.json is its payload."""
    raw, signer = bytes.fromhex(b.wanted or b.report["signer"]["public_key"]), b.report["signer"]
    need((signer["public_key"], signer["keyid"]) == (raw.hex(), sha256(raw).hexdigest()), "signer is another key")
    envelope, shown = parse(b.files[STATEMENT]), b.files["report.json"]
    need(b.files[STATEMENT] == canonical(envelope).encode(), "the envelope is not in its one written form")
    need(open_envelope(envelope, "bundle", raw) == shown, "report.json is not what was signed")
    need(shown == canonical(b.report).encode(), "report.json is not canonical JSON")
    need((b.report["schema"], b.report["status"]) == ("dataguard.bundle/1", "DRAFT"), "another schema or status")
    b.key = raw
    return f"signed by key {signer['keyid'][:16]}"


def check_ledger(b: Case) -> str:
    """Ledger: the headers hash to the root of a checkpoint that the same key signed."""
    b.ledger = parse(b.files["ledger.json"])
    headers, leaves = b.ledger["headers"], {}
    for n, h in enumerate(headers):
        need(set(h) == HEADER and (h["seq"], h["v"]) == (n, 1), f"header {n} is malformed")
        need(re.fullmatch("[0-9a-f]{64}", h["body"]) and re.fullmatch("([0-9a-f]{16})?", h["scope"]), f"header {n}")
        need(re.fullmatch("[a-z0-9-]{1,32}", h["type"]), f"header {n} has a malformed type")
        leaves[n] = sha256(b"\x00" + canonical(h).encode()).digest()
    point = parse(open_envelope(b.ledger["checkpoint"], "checkpoint", b.key))
    need(point["root"] == merkle_root(len(headers), leaves, []), "the headers do not hash to the signed root")
    sizes = {len(headers), point["size"], b.ledger["size"], b.report["ledger"]["size"]}
    need(len(sizes) == 1 and b.ledger["schema"] == "dataguard.ledger-view/1", "sizes or schema differ")
    b.headers = headers
    return f"{len(headers)} entries, root {point['root'][:16]}"


def check_entries(b: Case) -> str:
    """Entries: every opened one fits its header and is of the dataset's scope."""
    scope, opened = b.report["dataset"]["scope"], {}
    for o in b.ledger["openings"]:
        header = {name: o[name] for name in HEADER}
        need(set(o) == HEADER | {"payload", "salt", "time"} and o["seq"] not in opened, "malformed or twice")
        need(header == b.headers[o["seq"]] and o["scope"] == scope, f"entry {o['seq']} does not fit its header")
        need(o["time"] == o["payload"]["time"] and len(o["salt"]) == 64, f"entry {o['seq']}: time or salt")
        body = sha256(bytes.fromhex(o["salt"]) + canonical(o["payload"]).encode()).hexdigest()
        need(body == o["body"], f"entry {o['seq']} does not open its body")
        opened[o["seq"]] = o
    stated = [(e["seq"], e["type"], e["time"]) for e in b.report["ledger"]["entries"]]
    need(stated == [(n, opened[n]["type"], opened[n]["time"]) for n in sorted(opened)], "other entries are stated")
    b.opened = opened
    return f"{len(opened)} opened entries"


def check_order(b: Case) -> str:
    """Order: registration < mark key < export < run < outcome."""
    kinds: dict[str, list[Any]] = defaultdict(list)
    for n in sorted(b.opened):
        kinds[b.opened[n]["type"]].append((n, b.opened[n]["payload"]))
    (run, b.run), version = *kinds["trace-run"], b.report["dataset"]["version"]
    b.versions = {p["version"]: (n, p) for n, p in kinds["registration"]}
    registered, b.registration = b.versions[version]
    need(len(kinds["trace-run"]) == 1 and run == b.report["trace"]["run"], "not the run of the statement")
    need(registered < run and len(b.versions) == len(kinds["registration"]), "a registration is late, or twice")
    need(len(kinds["trace-outcome"]) < 2 and all(n > run == p["run"] for n, p in kinds["trace-outcome"]), "outcome")
    b.outcome, b.exports, b.relied = [p for _, p in kinds["trace-outcome"]], [p for _, p in kinds["export"]], []
    if b.report["copy"]:
        ((made, b.committed),) = kinds["mark-key"]
        relied = [(n, p) for n, p in kinds["export"] if n < run and p["version"] == version]
        first = next(h["seq"] for h in b.headers if (h["type"], h["scope"]) == ("registration", b.opened[run]["scope"]))
        need(first in b.opened and first < made, "the first registration is not opened, or after the mark key")
        need(relied and max(made, registered) < relied[0][0], "no export between mark key and run")
        b.relied = [p for _, p in relied]
    b.seq = run
    return f"run {run}, {len(b.relied)} export(s) relied on"


def check_agreement(b: Case) -> str:
    """Agreement: the statement repeats what the opened entries and the headers say."""
    r, run, registration, trace = b.report, b.run, b.registration, b.report["trace"]
    same(registration, r["dataset"], "version rows columns sha256 lineage kind")
    same(registration, r["scheme"], "channel groups law")
    same(run, {**r["dataset"], **trace}, "dataset version lineage suspect_rows examined_rows aligned_rows")
    same(run, trace, "voting_rows max_rows votes votes_digest alignment_digest")
    suspect = {f"suspect_{name}": r["suspect"][name] for name in ("sha256", "rows", "rows_root")}
    same(run, suspect, "suspect_sha256 suspect_rows suspect_rows_root")
    need(registration["dataset"] == run["dataset"] == r["dataset"]["name"], "another dataset")
    need(r["scheme"]["channel"] == b"swap/1\0\0".hex() and r["scheme"]["rule"] == "pair-swap/1", "another rule")
    for outcome in b.outcome:
        same(outcome, trace, "outcome corresponding")
    for e in b.exports:
        of = b.versions[e["version"]][1]
        want = {**of, **b.committed, "scheme": of["channel"], "profile": of["law"]["name"]}
        same(e, {**want, "mark_key_commitment": want["commitment"]}, EXPORT)
    before = [(h["type"], h["scope"] == r["dataset"]["scope"]) for h in b.headers[: b.seq + 1]]
    keys, runs = ([(kind, True), (kind, False)] for kind in ("mark-key", "trace-run"))
    b.tests = [(before.count(keys[0]), before.count(runs[0]))]
    b.tests.append((b.tests[0][0] + before.count(keys[1]), b.tests[0][1] + before.count(runs[1])))
    logged = {"hypotheses": b.tests[0][0], "k": b.tests[0][1], "alpha": float(run["alpha"])}
    same(logged, trace, "hypotheses k alpha")
    need(b.tests[0][0] == run["mark_keys"], "another number of mark keys was logged")
    same(dict(zip(("mark_keys", "trace_runs"), b.tests[1], strict=True)), r["ledger"], "mark_keys trace_runs")
    need((r["copy"] is not None) == (trace["outcome"] == "corresponds"), "a copy is named without that outcome")
    return f"{b.tests[0][0]} mark keys, run number {b.tests[0][1]}"


def check_key(b: Case) -> str:
    """Mark key: it opens the commitment in the ledger."""
    key, copy = b.annex["mark_key"], b.report["copy"]
    parts = (b"dataguard/1", b"commit", b"mark-key", bytes.fromhex(key["salt"]), bytes.fromhex(key["key"]))
    letters = zip("sssbb", parts, strict=True)
    encoded = b"".join(letter.encode() + struct.pack("<I", len(part)) + part for letter, part in letters)
    need(len(parts[3]) >= 16 and len(parts[4]) == 32, "salt or key has another length")
    need(sha256(encoded).hexdigest() == b.committed["commitment"], "the key does not open the commitment")
    same(b.committed, key, "recipient generation commitment")
    same(b.committed, copy, "recipient generation commitment")
    need(b.committed["lineage"] == b.run["lineage"], "a key of another lineage")
    need(copy["recipient"] in b.report["trace"]["corresponding"], "the copy is not among the corresponding")
    return f"opens {copy['commitment'][:16]}"


def check_rows(b: Case) -> str:
    """Rows: the opened original rows hash to the root of the registration."""
    committed = b.registration["rows"], b.registration["rows_root"]
    b.rows = open_tree(b.annex["rows"], *committed, read_row, 0)
    need({len(r) for r in b.rows.values()} == {len(b.registration["columns"])}, "a row of another width")
    return f"{len(b.rows)} of {committed[0]} rows opened"


def check_slots(b: Case) -> str:
    """Slots: slots and biases hash to their roots, each once, each bias a level."""
    size, levels = b.registration["slots"], b.registration["law"]["levels"]
    b.slots = open_tree(b.annex["slots"], size, b.registration["slots_root"], lambda p: tuple(map(signed, p)), 1)
    b.biases = open_tree(b.annex["biases"], size, b.registration["bias_root"], lambda p: (p,), 1)
    need(len(set(b.slots.values())) == len(b.slots) and set(b.slots) == set(b.biases), "a place twice, or no bias")
    need(all(p in levels for (p,) in b.biases.values()), "a bias is no level of the law")
    need(all(low < high for _, low, high in b.slots.values()), "the ends of a place are not ascending")
    return f"{len(b.slots)} of {size} slots opened"


def check_suspect(b: Case) -> str:
    """Suspect and alignment: suspect rows and pairs are the logged ones."""
    r, given = b.report, b.annex["suspect_rows"]
    b.suspect = open_tree(given, b.run["suspect_rows"], b.run["suspect_rows_root"], read_row, 0, 0)
    need([leaf[0] for leaf in given["leaves"]] == list(b.suspect), "a row number is not the index")
    b.pairs = [(s, integer(own)) for s, own in b.annex["pairs"]]
    need([s for s, _ in b.pairs] == list(b.suspect), "pairs and opened suspect rows differ")
    need(len(b.pairs) == b.run["voting_rows"] <= b.run["max_rows"], "another number of pairs was logged")
    data = b"dataguard/alignment/1" + b"".join(words(*pair) for pair in b.pairs)
    need(sha256(data).hexdigest() == b.run["alignment_digest"], "not the alignment whose digest was logged")
    b.at = {name: i for i, name in enumerate(r["dataset"]["columns"])}
    b.suspect_at = {name: i for i, name in enumerate(r["suspect"]["columns"])}
    matched = [(b.suspect_at[c["suspect"]], b.at[c["original"]]) for c in r["comparison"]["columns"]]
    alien = sum(all(b.suspect[s][i] != b.rows[own][j] for i, j in matched) for s, own in b.pairs)
    need(20 * alien <= len(b.pairs), f"{alien} of {len(b.pairs)} pairs agree in no column")
    return f"{len(b.pairs)} pairs as logged"


def check_votes(b: Case) -> str:
    """Votes: they follow from rows and slots, and no reading is missing."""
    listed = [(integer(a), s, column, integer(own), col) for a, s, column, own, col in b.annex["readings"]]
    source = {col: column for _, _, column, _, col in listed}
    ends, weights, derived = defaultdict(list), Counter(), set()
    for address, (group, low, high) in b.slots.items():
        ends[low].append((address, high, group))
        ends[high].append((address, low, group))
    for s, own in b.pairs:
        for address, partner, group in ends[own]:
            for col in filter(source.__contains__, b.report["scheme"]["groups"][str(group)]):
                shown, j = b.suspect[s][b.suspect_at[source[col]]], b.at[col]
                is_own, is_partner = shown == b.rows[own][j], shown == b.rows[partner][j]
                if is_own != is_partner:
                    derived.add((address, s, source[col], own, col))
                    weights[address] += -256 if is_own else 256
    need(len(listed) == len(derived) and set(listed) == derived, "readings are missing, false or repeated")
    need(set(weights) == set(b.slots), "an opened slot has no reading")
    b.votes = sorted((a, b.biases[a][0], max(-256, min(256, w))) for a, w in weights.items() if w)
    return f"{len(b.votes)} votes from {len(listed)} readings"


def check_digest(b: Case) -> str:
    """Digest: the votes are those logged before any key was opened."""
    data = b"dataguard/votes/1" + b"".join(words(*vote) for vote in b.votes)
    need(sha256(data).hexdigest() == b.run["votes_digest"], "not the votes whose digest was logged")
    need(len(b.votes) == b.run["votes"], "another number of votes was logged")
    return b.run["votes_digest"][:16]


def check_score(b: Case) -> str:
    """Score: histogram and S from votes and key."""
    key, channel = bytes.fromhex(b.annex["mark_key"]["key"]), bytes.fromhex(b.report["scheme"]["channel"])
    cipher = Cipher(algorithms.AES256(key), modes.ECB()).encryptor()  # one block each: a function, not a secret
    cells: dict[tuple[int, int], list[int]] = defaultdict(lambda: [0, 0])
    for address, p, weight in b.votes:
        block = cipher.update(words(address) + channel)
        cells[p, weight][0] += 1
        cells[p, weight][1] += int.from_bytes(block[:2], "little") < p
    b.histogram = [[p, w, *counts] for (p, w), counts in sorted(cells.items())]
    score = sum(w * (65536 * ones - n * p) for p, w, n, ones in b.histogram)
    need(b.histogram == b.report["copy"]["histogram"] and score == b.report["copy"]["score"], "another score")
    return f"S = {score}"
