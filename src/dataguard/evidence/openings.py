"""The sealed annex: every opened row, slot, bias and reading, and the one mark key, as JSON.

Integers of 64 bits travel as decimal texts, bytes as hex. Reading is as strict as writing,
for the other side's file arrives here too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeVar

from dataguard.cells import Cell
from dataguard.evidence.case import MarkKeyOpening, NamedCopy, OpenBias, Opened, OpenRow, OpenSlot, Reading
from dataguard.evidence.fields import MAX_INT64, MAX_SAFE, Node
from dataguard.keys import KEY_BYTES
from dataguard.model import ONE

__all__ = ["MARKING", "SCHEMA", "Annex", "read_annex", "write_annex"]

SCHEMA = "dataguard.openings/1"
MARKING = {
    "en": "sealed annex: for the court's expert",
    "ja": "封緘添付書類：裁判所の選任する専門家に限る",
}
_SALT_BYTES = 16
_HASH_BYTES = 32

Leaf = TypeVar("Leaf", OpenRow, OpenSlot, OpenBias)


@dataclass(frozen=True, slots=True)
class Annex:
    """The openings of a named copy, as read back from a bundle; the attributes of `NamedCopy`."""

    mark_key: MarkKeyOpening
    rows: Opened[OpenRow]
    slots: Opened[OpenSlot]
    biases: Opened[OpenBias]
    suspect_rows: Opened[OpenRow]
    readings: tuple[Reading, ...]
    pairs: tuple[tuple[int, int], ...]


# --- writing -------------------------------------------------------------------------------------


def write_annex(named: NamedCopy | None) -> dict[str, Any]:
    """Return the annex as JSON values; without a named copy it opens nothing."""
    head: dict[str, Any] = {"schema": SCHEMA, "marking": MARKING}
    if named is None:
        return head | {"copy": None}
    key = named.mark_key
    return head | {
        "copy": {
            "mark_key": {
                "recipient": key.recipient,
                "generation": key.generation,
                "key": key.key.hex(),
                "salt": key.salt.hex(),
                "commitment": key.commitment,
            },
            "rows": _opened(named.rows, _row),
            "suspect_rows": _opened(named.suspect_rows, _row),
            "slots": _opened(named.slots, _slot),
            "biases": _opened(named.biases, _bias),
            "readings": [
                [str(r.address), r.suspect_row, r.suspect_column, str(r.own), r.column]
                for r in named.readings
            ],
            "pairs": [[row, str(own)] for row, own in named.pairs],
        }
    }


def _opened(opened: Opened[Leaf], leaf: Callable[[Leaf], list[Any]]) -> dict[str, Any]:
    return {
        "size": opened.size,
        "root": opened.root.hex(),
        "leaves": [leaf(one) for one in opened.leaves],
        "proof": [node.hex() for node in opened.proof],
    }


def _row(row: OpenRow) -> list[Any]:
    return [row.index, str(row.row_id), row.salt.hex(), [[cell.tag, cell.text] for cell in row.cells]]


def _slot(slot: OpenSlot) -> list[Any]:
    return [slot.index, str(slot.address), [str(p) for p in slot.place], slot.salt.hex()]


def _bias(bias: OpenBias) -> list[Any]:
    return [bias.index, str(bias.address), bias.bias, bias.salt.hex()]


# --- reading -------------------------------------------------------------------------------------


def read_annex(node: Node) -> Annex | None:
    """Return what the annex opens; None if no copy is named.

    Raises
    ------
    EvidenceError
        A field of the wrong form.
    """
    if node["schema"].text() != SCHEMA:
        raise node.fail(f"not of schema {SCHEMA}")
    if node["marking"].value != MARKING:
        raise node.fail("not marked as a sealed annex")
    copy = node.get("copy")
    if copy is None:
        return None
    return Annex(
        _read_key(copy["mark_key"]),
        _read_opened(copy["rows"], lambda leaf: _read_row(leaf, _SALT_BYTES)),
        _read_opened(copy["slots"], _read_slot),
        _read_opened(copy["biases"], _read_bias),
        _read_opened(copy["suspect_rows"], lambda leaf: _read_row(leaf, 0)),
        tuple(_read_reading(item) for item in copy["readings"].items()),
        tuple(_read_pair(item) for item in copy["pairs"].items()),
    )


def _read_key(node: Node) -> MarkKeyOpening:
    return MarkKeyOpening(
        node["recipient"].text(),
        node["generation"].integer(0),
        node["key"].hex(KEY_BYTES),
        node["salt"].hex(),
        node["commitment"].hex(_HASH_BYTES).hex(),
    )


def _read_opened(node: Node, leaf: Callable[[Node], Leaf]) -> Opened[Leaf]:
    size = node["size"].integer(1)
    leaves = tuple(leaf(item) for item in node["leaves"].items())
    if not leaves or any(a.index >= b.index for a, b in pairwise(leaves)):
        raise node.fail("leaves are missing, repeated or out of order")
    if leaves[-1].index >= size:
        raise node.fail("a leaf lies outside its tree")
    proof = tuple(item.hex(_HASH_BYTES) for item in node["proof"].items())
    return Opened(size, node["root"].hex(_HASH_BYTES), leaves, proof)


def _parts(node: Node, length: int) -> Sequence[Node]:
    return node.items(length)


def _read_row(node: Node, salt_bytes: int) -> OpenRow:
    index, row_id, salt, cells = _parts(node, 4)
    return OpenRow(
        index.integer(0),
        row_id.decimal(),
        salt.hex(salt_bytes),
        tuple(_read_cell(c, node) for c in cells.sequence()),
    )


def _read_cell(raw: object, node: Node) -> Cell:
    # By hand: there are as many cells as in the opened part of the table.
    if isinstance(raw, list) and len(raw) == 2:
        tag, text = raw
        if type(tag) is int and type(text) is str:
            return Cell(tag, text)
    raise node.fail("a cell is not [tag, text]")


def _read_slot(node: Node) -> OpenSlot:
    index, address, place, salt = _parts(node, 4)
    where = tuple(p.decimal(-MAX_INT64 - 1, MAX_INT64) for p in place.items())
    return OpenSlot(index.integer(0), address.decimal(), where, salt.hex(_SALT_BYTES))


def _read_bias(node: Node) -> OpenBias:
    index, address, bias, salt = _parts(node, 4)
    return OpenBias(index.integer(0), address.decimal(), bias.integer(1, ONE - 1), salt.hex(_SALT_BYTES))


def _read_reading(node: Node) -> Reading:
    address, row, suspect_column, own, column = _parts(node, 5)
    return Reading(
        address.decimal(), row.integer(0, MAX_SAFE), suspect_column.text(), own.decimal(), column.text()
    )


def _read_pair(node: Node) -> tuple[int, int]:
    row, own = _parts(node, 2)
    return row.integer(0, MAX_SAFE), own.decimal()
