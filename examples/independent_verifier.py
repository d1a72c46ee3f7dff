"""A second verifier of evidence bundles, written from docs/formats.md alone; it imports nothing of dataguard.

python examples/independent_verifier.py BUNDLE [PUBLIC_KEY_HEX]     exit 0 trusted, 3 not trusted, 2 not a bundle

Notes
-----
It does not render report.html and README.txt again, nor derive prose, limits and findings of the comparison:
digest and signature cover them, `dataguard verify` checks them. As there, times, figures of other keys and the
choice of aligned rows rest on the provider's word; a key read from the bundle shows only that it is of one piece.
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
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

Json = dict[str, Any]
REPORT, STATEMENT, LEDGER, ANNEX = "report.json", "statement.dsse.json", "ledger.json", "annex/openings.json"
HEADER, INT64 = {"v", "seq", "type", "scope", "body"}, (-(2**63), 2**63)


def need(holds: object, why: str) -> None:
    """Raise where a condition of the specification does not hold."""
    if not holds:
        raise ValueError(why)


def same(names: str, a: Json, b: Json) -> None:
    """Demand that two documents agree in each of the names."""
    for n in names.split():
        need(a[n] == b[n], f"{n} differs: {a[n]!r:.80} and {b[n]!r:.80}")


def integer(text: str, low: int = 0, high: int = 2**64) -> int:
    """Read an integer from decimal text, low <= it < high."""
    good = re.fullmatch(r"0|-?[1-9][0-9]{0,19}", text) and low <= int(text) < high
    need(good, f"{text!r:.80} is no such integer")
    return int(text)


def words(*values: int) -> bytes:
    """Write integers as 64-bit little-endian words, negative ones in two's complement."""
    return b"".join((v % 2**64).to_bytes(8, "little") for v in values)


def digest(*parts: bytes) -> str:
    """Return the SHA-256 of the joined parts, in hex."""
    return sha256(b"".join(parts)).hexdigest()


def parse(data: bytes) -> Any:
    """Read I-JSON: no repeated key, no NaN, no integer beyond 2^53 - 1."""

    def unique(items: list[tuple[str, Any]]) -> Json:
        need(len(dict(items)) == len(items), "a JSON key is repeated")
        return dict(items)

    small: Json = {"parse_int": lambda text: integer(text, 1 - 2**53, 2**53), "parse_constant": integer}
    return json.loads(data.decode(), object_pairs_hook=unique, **small)


def canonical(value: Any) -> bytes:
    """Write canonical JSON; headers, payloads and envelopes hold no fractions, and only ASCII names."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode()


def open_envelope(envelope: Json, kind: str, key: str) -> bytes:
    """Return the payload of a DSSE envelope with one signature, by the key."""
    kind, payload = f"application/vnd.dataguard.{kind}.v1+json", base64.b64decode(envelope["payload"])
    (signature,) = envelope["signatures"]
    need(envelope["payloadType"] == kind, "an envelope of another type")
    signed = f"DSSEv1 {len(kind)} {kind} {len(payload)} ".encode() + payload
    check_signature(key, base64.b64decode(signature["sig"]), signed)
    return payload


def check_signature(key: str, signature: bytes, signed: bytes) -> None:
    """Demand a valid Ed25519 signature."""
    Ed25519PublicKey.from_public_bytes(bytes.fromhex(key)).verify(signature, signed)


def open_entry(o: Json, headers: list[Json]) -> Json:
    """Return the payload of an opened ledger entry that fits its header."""
    need(set(o) == HEADER | {"payload", "salt", "time"} and len(o["salt"]) == 64, "malformed opening")
    body = digest(bytes.fromhex(o["salt"]), canonical(o["payload"]))
    need(o["body"] == body and o["time"] == o["payload"]["time"], f"body or time of entry {o['seq']}")
    need({name: o[name] for name in HEADER} == headers[o["seq"]], f"header of entry {o['seq']}")
    return dict(o["payload"])


def successor(known: str, rotations: list[Json], origin: str) -> str:
    """Return the key that a known one has handed over to, following signed hand-overs; else the known one."""
    keys = [o["payload"]["old"] for o in rotations[:1]]
    for o in rotations:
        p, kind = o["payload"], "application/vnd.dataguard.key-rotation.v1+json"
        document = canonical({"new": p["new"], "old": p["old"], "origin": origin, "seq": o["seq"]})
        signed = f"DSSEv1 {len(kind)} {kind} {len(document)} ".encode() + document
        check_signature(p["old"], bytes.fromhex(p["signature"]), signed)
        need(
            p["old"] == keys[-1] and p["new"] not in keys and p["origin"] == origin, "rotations are no chain"
        )
        keys.append(p["new"])
    return keys[-1] if known in keys else known


def cell(tag: int, text: str) -> bytes:
    """Return the committed bytes of a canonical cell."""
    if tag == 1:
        return b"\x01" + struct.pack("<d", float(text))
    if tag == 2:
        return b"\x02" + words(integer(text, *INT64))
    if tag == 3:
        since = datetime.fromisoformat(text) - datetime(1970, 1, 1, tzinfo=UTC)
        return b"\x03" + words(since // timedelta(microseconds=1))
    need(tag == 4 or (tag, text) == (0, ""), f"unknown cell ({tag}, {text!r})")
    return b"\x04" + struct.pack("<I", len(text.encode())) + text.encode() if tag else b"\x00"


def merkle_root(size: int, leaves: dict[int, bytes], proof: list[str]) -> str:
    """Return the root that opened leaves and a multi-proof give, in the recursive shape of RFC 9162."""
    order, left = list(leaves), iter([bytes.fromhex(h) for h in proof])
    need(order and order == sorted(order) and 0 <= order[0] <= order[-1] < size, "leaves: order or range")

    def node(low: int, high: int) -> bytes:
        if bisect_left(order, low) == bisect_left(order, high):
            return next(left, b"")
        if high - low == 1:
            return sha256(b"\x00" + leaves[low]).digest()
        middle = low + (1 << ((high - low - 1).bit_length() - 1))
        a, b = node(low, middle), node(middle, high)
        need(len(a) == len(b) == 32, "a hash of the proof is missing")
        return sha256(b"\x01" + a + b).digest()

    root = node(0, size)
    need(next(left, None) is None, "a hash of the proof is left over")
    return root.hex()


def open_tree(given: Json, size: int, root: str, salt: int = 16) -> dict[int, list[Any]]:
    """Return {identifier: content} of the opened leaves, whose tree is the committed one."""
    leaves, found = {}, {}
    for index, ident, *rest in given["leaves"]:
        raw, salted = rest if isinstance(rest[1], str) else rest[::-1]  # a place or bias, salt; salt, cells
        items = raw if isinstance(raw, list) else [raw]
        content = [cell(*x) if isinstance(x, list) else integer(str(x), *INT64) for x in items]
        data = words(integer(ident)) + b"".join(c if isinstance(c, bytes) else words(c) for c in content)
        need(len(salted) == 2 * salt and (salt or ident == str(index)), f"salt or number of leaf {index}")
        leaves[index], found[integer(ident)] = bytes.fromhex(salted) + data, content
    need(len(found) == len(leaves) == len(given["leaves"]), "a leaf is opened twice")
    same("size root", given, {"size": size, "root": root})
    need(merkle_root(size, leaves, given["proof"]) == root, "leaves do not hash to the root")
    return found


def log10_tail(n: int, k: int) -> tuple[float, str]:
    """Bound log10 P(k or more of n fair coins); votes of `pair-swap/1` under `single` are fair and equal."""
    if n * (n + 1) <= 12_000_000:
        ways = sum(math.comb(n, i) for i in range(k, n + 1))
        return math.log10(ways) - n * math.log10(2), "exact integer law"
    logs, z = [0.0], (2 * k - n) / math.sqrt(n)
    if z > 0:
        q = math.erfc(z / math.sqrt(2)) / 2  # is zero only far beyond what is ever stated
        logs += [-sum(x * math.log(2 * x / n) for x in (k, n - k) if x), -z * z / 2]
        logs += [math.log(3.1787 * q)] if q else []
    return min(logs) / math.log(10), "upper bound"


def files_and_signature(b: SimpleNamespace) -> None:
    """Check steps 1 and 2: every file is listed with its digest, and the key signed report.json."""
    report, envelope = parse(b.files[REPORT]), parse(b.files[STATEMENT])
    found = {name: digest(data) for name, data in b.files.items() if name not in (REPORT, STATEMENT)}
    need(not b.odd, f"neither file nor folder, or too large: {b.odd}")
    need(found == report["files"], f"not as listed: {found.items() ^ report['files'].items()}")
    key = b.key.lower() or report["signer"]["public_key"]
    if key != report["signer"]["public_key"]:
        point = parse(base64.b64decode(parse(b.files[LEDGER])["checkpoint"]["payload"]))
        key = successor(key, point.get("rotations", []), point["origin"])
    same("public_key keyid", report["signer"], {"public_key": key, "keyid": digest(bytes.fromhex(key))})
    need(open_envelope(envelope, "bundle", key) == b.files[REPORT], "report.json is not what was signed")
    sig = base64.b64encode(base64.b64decode(envelope["signatures"][0]["sig"])).decode()
    form: Json = {
        "payload": base64.b64encode(b.files[REPORT]).decode(),
        "payloadType": envelope["payloadType"],
    }
    form["signatures"] = [{"keyid": report["signer"]["keyid"], "sig": sig}]
    need(canonical(form) == b.files[STATEMENT], "the envelope is not in its one written form")
    same("schema status", report, {"schema": "dataguard.bundle/1", "status": "DRAFT"})
    b.key, b.report, b.copy = key, report, report["copy"]
    b.trace, b.dataset = report["trace"], report["dataset"]


def ledger(b: SimpleNamespace) -> None:
    """Check step 3: the headers hash to the root of a checkpoint that the same key signed."""
    view = parse(b.files[LEDGER])
    b.headers, b.openings = view["headers"], view["openings"]
    need(all(set(h) == HEADER and (h["seq"], h["v"]) == (n, 1) for n, h in enumerate(b.headers)), "header")
    point = parse(open_envelope(view["checkpoint"], "checkpoint", b.key))
    leaves = {n: canonical(h) for n, h in enumerate(b.headers)}
    need(point["root"] == merkle_root(len(leaves), leaves, []), "the headers do not hash to the signed root")
    need(len(leaves) == point["size"] == view["size"] == b.report["ledger"]["size"], "sizes of the ledger")
    same("schema", view, {"schema": "dataguard.ledger-view/1"})
    rotations = point.get("rotations", [])
    held = [h["seq"] for h in b.headers if h["type"] == "key-rotated"]
    need([o["seq"] for o in rotations] == held, "key rotations are not those of the ledger")
    need(all(open_entry(o, b.headers) and o["scope"] == "" for o in rotations), "a key rotation with a scope")
    if rotations:
        need(successor(rotations[0]["payload"]["old"], rotations, point["origin"]) == b.key, "another signer")


def entries(b: SimpleNamespace) -> None:
    """Check step 4: every opened entry fits its header and is of the dataset's scope."""
    b.opened = {kind: [] for kind in ("registration", "mark-key", "export", "trace-run", "trace-outcome")}
    for o in sorted(b.openings, key=lambda o: o["seq"]):
        need(o["scope"] == b.dataset["scope"], f"entry {o['seq']} is of another scope")
        b.opened[o["type"]].append((o["seq"], open_entry(o, b.headers)))
    stated = [(e["seq"], e["type"], e["time"]) for e in b.report["ledger"]["entries"]]
    found = sorted((n, kind, p["time"]) for kind, opened in b.opened.items() for n, p in opened)
    need(found == stated and len({n for n, *_ in found}) == len(found), "not the entries stated")


def order(b: SimpleNamespace) -> None:
    """Check step 5: first registration < mark key < export < run < outcome, registration < export."""
    ((b.seq, b.run),), version, scope = b.opened["trace-run"], b.dataset["version"], b.dataset["scope"]
    b.versions = {p["version"]: (n, p) for n, p in b.opened["registration"]}
    registered, b.registration = b.versions[version]
    need(registered < b.seq == b.trace["run"], "another run, or a late registration")
    need(all(n > b.seq == p["run"] for n, p in b.opened["trace-outcome"]), "outcome before or of another run")
    if b.copy:
        ((made, b.committed),) = b.opened["mark-key"]
        first = next(h["seq"] for h in b.headers if (h["type"], h["scope"]) == ("registration", scope))
        relied = [(n, p) for n, p in b.opened["export"] if p["version"] == version and n < b.seq]
        need(first in [n for n, _ in b.opened["registration"]], "the first registration is not opened")
        need(first < made < relied[0][0] > registered, "registration, mark key and export are out of order")
        b.relied = [p for _, p in relied]


def agreement(b: SimpleNamespace) -> None:
    """Check step 6: the statement repeats what the opened entries and the headers say."""
    named = {f"suspect_{name}": value for name, value in b.report["suspect"].items()}
    same("version rows columns sha256 lineage kind", b.registration, b.dataset)
    same("channel groups law", b.registration, b.report["scheme"])
    same("dataset version votes votes_digest alignment_digest suspect_rows", b.run, b.trace)
    same("examined_rows aligned_rows voting_rows max_rows", b.run, b.trace)
    same("lineage suspect_sha256 suspect_rows suspect_rows_root", b.run, {**b.dataset, **named})
    need(b.registration["dataset"] == b.run["dataset"] == b.dataset["name"], "another dataset")
    for _, outcome in b.opened["trace-outcome"]:
        same("outcome corresponding", outcome, b.trace)
    for _, export in b.opened["export"]:
        of = {**b.versions[export["version"]][1], **b.committed}
        of |= {"scheme": of["channel"], "profile": of["law"]["name"], "mark_key_commitment": of["commitment"]}
        same("dataset lineage rows_root slots_root bias_root scheme profile", export, of)
        same("mark_key_commitment recipient generation", export, of)
    b.all = Counter(h["type"] for h in b.headers[: b.seq + 1])
    b.own = Counter(h["type"] for h in b.headers[: b.seq + 1] if h["scope"] == b.dataset["scope"])
    counted = {"hypotheses": b.own["mark-key"], "k": b.own["trace-run"], "alpha": float(b.run["alpha"])}
    same("hypotheses k alpha", b.trace, counted)
    same("mark_keys", b.run, {"mark_keys": b.own["mark-key"]})
    counted = {"mark_keys": b.all["mark-key"], "trace_runs": b.all["trace-run"]}
    same("mark_keys trace_runs", b.report["ledger"], counted)
    annex, named = parse(b.files[ANNEX]), b.trace["outcome"] == "corresponds"
    same("schema", annex, {"schema": "dataguard.openings/1"})
    b.annex = annex["copy"]
    need((b.copy is not None) == (b.annex is not None) == named, "a copy is named without that outcome")


def mark_key(b: SimpleNamespace) -> None:
    """Check step 7: the opened key opens the commitment in the ledger."""
    salt, key = (bytes.fromhex(b.annex["mark_key"][name]) for name in ("salt", "key"))
    need(len(salt) >= 16 and len(key) == 32, "salt or key has another length")
    parts = zip(b"sssbb", (b"dataguard/1", b"commit", b"mark-key", salt, key), strict=True)
    commitment = digest(*(struct.pack("<BI", letter, len(part)) + part for letter, part in parts))
    for document in (b.committed, b.annex["mark_key"], b.copy):
        same("recipient generation commitment", document, {**b.committed, "commitment": commitment})
    need(b.committed["lineage"] == b.dataset["lineage"], "a key of another lineage")
    need(b.copy["recipient"] in b.trace["corresponding"], "the copy is not among the corresponding ones")
    b.secret = key


def trees(b: SimpleNamespace) -> None:
    """Check steps 8, 9 and 10: rows, slots, biases, suspect rows and alignment are the committed ones."""
    of, run, r = b.registration, b.run, b.report
    b.rows = open_tree(b.annex["rows"], of["rows"], of["rows_root"])
    b.slots = open_tree(b.annex["slots"], of["slots"], of["slots_root"])
    b.biases = open_tree(b.annex["biases"], of["slots"], of["bias_root"])
    need(len(set(map(tuple, b.slots.values()))) == len(b.slots), "a place is opened twice")
    need(set(b.slots) == set(b.biases), "slots and biases are of other addresses")
    need(all(p in of["law"]["levels"] for (p,) in b.biases.values()), "a bias is no level of the law")
    b.suspect = open_tree(b.annex["suspect_rows"], run["suspect_rows"], run["suspect_rows_root"], salt=0)
    b.pairs = [(s, integer(own)) for s, own in b.annex["pairs"]]
    need([s for s, _ in b.pairs] == list(b.suspect), "pairs and opened suspect rows differ")
    need(len(b.pairs) == run["voting_rows"] <= run["max_rows"], "another number of pairs")
    pairs = b"".join(words(*pair) for pair in b.pairs)
    same("alignment_digest", run, {"alignment_digest": digest(b"dataguard/alignment/1", pairs)})
    b.at, b.seen = ({c: i for i, c in enumerate(r[of]["columns"])} for of in ("dataset", "suspect"))
    matched = [(b.seen[c["suspect"]], b.at[c["original"]]) for c in r["comparison"]["columns"]]
    alien = sum(all(b.suspect[s][i] != b.rows[own][j] for i, j in matched) for s, own in b.pairs)
    need(20 * alien <= len(b.pairs), f"{alien} of {len(b.pairs)} pairs agree in no column")


def votes(b: SimpleNamespace) -> None:
    """Check steps 11 and 12: readings follow from rows and slots, none left out, and give the logged votes."""
    listed = [(integer(a), s, seen, integer(own), col) for a, s, seen, own, col in b.annex["readings"]]
    source = {col: seen for _, _, seen, _, col in listed}
    ends: dict[int, list[tuple[int, int, str]]] = defaultdict(list)
    derived, weights = set(), Counter[int]()
    for address, (group, low, high) in b.slots.items():
        columns = [col for col in b.report["scheme"]["groups"][str(group)] if col in source]
        ends[low] += [(address, high, col) for col in columns]
        ends[high] += [(address, low, col) for col in columns]
    for s, own in b.pairs:
        for address, partner, col in ends[own]:
            shown, j = b.suspect[s][b.seen[source[col]]], b.at[col]
            is_own = shown == b.rows[own][j]
            if is_own != (shown == b.rows[partner][j]):
                derived.add((address, s, source[col], own, col))
                weights[address] += -256 if is_own else 256
    need(len(listed) == len(derived) and set(listed) == derived, "readings are missing, false or repeated")
    need(set(weights) == set(b.slots), "an opened slot has no reading")
    b.votes = sorted((a, *b.biases[a], max(-256, min(256, w))) for a, w in weights.items() if w)
    found = digest(b"dataguard/votes/1", *(words(*vote) for vote in b.votes))
    same("votes votes_digest", b.run, {"votes": len(b.votes), "votes_digest": found})


def score(b: SimpleNamespace) -> None:
    """Check step 13: histogram and score follow from votes and key."""
    cipher = Cipher(algorithms.AES256(b.secret), modes.ECB()).encryptor()  # a function of one block, no mode
    channel, tally = b"swap/1\0\0", defaultdict[tuple[int, int], list[int]](lambda: [0, 0])
    for address, p, weight in b.votes:
        tally[p, weight][0] += 1
        tally[p, weight][1] += int.from_bytes(cipher.update(words(address) + channel)[:2], "little") < p
    b.histogram = [[p, w, *counts] for (p, w), counts in sorted(tally.items())]
    total = sum(w * (65536 * ones - n * p) for p, w, n, ones in b.histogram)
    same("histogram score", b.copy, {"histogram": b.histogram, "score": total})
    same("channel rule", b.report["scheme"], {"channel": channel.hex(), "rule": "pair-swap/1"})


def bound(b: SimpleNamespace) -> None:
    """Check steps 14 and 15: the probability with all that was tried is as stated and within the limit."""
    need(all((p, abs(w)) == (32768, 256) for p, w, *_ in b.histogram), "votes are not fair and equal")
    agreeing = sum(ones if w > 0 else n - ones for _, w, n, ones in b.histogram)
    draws, alpha = max(e["draws"] for e in b.relied), min(float(e["alpha"]) for e in (b.run, *b.relied))
    same("draws alpha", b.copy, {"draws": draws, "alpha": alpha})
    raw, method = log10_tail(len(b.votes), agreeing)
    figures = {"log10_p": raw}
    for name, tried in (("log10_p_adjusted", b.own), ("log10_p_all_scopes", b.all)):
        figures[name] = raw + math.log10(tried["mark-key"] * draws) + tried["trace-run"] * math.log10(2)
    for name, value in figures.items():
        figures[name] = max(-30.0, min(0.0, math.ceil(value * 1e4) / 1e4))
        need(abs(b.copy[name] - figures[name]) <= 2e-4, f"{name} is {figures[name]}")
    counts = {"agreeing": agreeing, "committed_keys": b.own["mark-key"], "run": b.own["trace-run"]}
    finding = {"counts": {**counts, "votes": len(b.votes)}, "log10_p": b.copy["log10_p_adjusted"]}
    finding["method"] = f"pair swap, symmetric score; {method}"
    same("counts log10_p method", b.report["findings"][-1], finding)
    same("method", b.trace, {"method": method})
    named = [e for e in b.trace["recipients"] if e["recipient"] == b.copy["recipient"]]
    named = [e for e in named if e["generation"] == b.copy["generation"]]
    need(len(named) == 1, "the trace has no single line of the copy")
    same("log10_p log10_p_adjusted agreeing", named[0], {**b.copy, **counts})
    worse = max(figures["log10_p_adjusted"], b.copy["log10_p_adjusted"])
    need(worse <= math.log10(alpha), f"{worse} is above the limit {math.log10(alpha)}")


def main(folder: Path, key: str = "") -> int:
    """Print every check of a bundle and return the exit code."""
    if not all(
        (folder / n).is_file() for n in (REPORT, STATEMENT, LEDGER, ANNEX, "report.html", "README.txt")
    ):
        print(f"{folder}: not a complete bundle")
        return 2
    paths = [p for p in folder.rglob("*") if p.is_symlink() or not p.is_dir()]
    odd = [p for p in paths if p.is_symlink() or not p.is_file() or p.stat().st_size > 512 << 20]
    files = {p.relative_to(folder).as_posix(): p.read_bytes() for p in paths if p not in odd}
    bundle, failed = SimpleNamespace(files=files, odd=odd, key=key), 0
    for n, check in enumerate((*GENERAL, *OF_A_COPY), 1):
        word, why = "ok", ""
        try:
            if check in GENERAL or bundle.copy:
                check(bundle)
            else:
                why = " (nothing to check: no copy is named)"
        except Exception as fault:  # noqa: BLE001 - whatever stops a check, it does not hold
            word, failed = "NO", failed + 1
            why = f" - {'not reached' if isinstance(fault, AttributeError) else fault}"
        print(f"{n:>2} {word} {(check.__doc__ or '')[6:-1]}{why}")
    print("not trusted" if failed else "trusted")
    return 3 if failed else 0


GENERAL = (files_and_signature, ledger, entries, order, agreement)
OF_A_COPY = (mark_key, trees, votes, score, bound)

if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), *sys.argv[2:3]) if len(sys.argv) > 1 else 2)
