"""Strict reading of parsed JSON that may be hostile: right type, right range, or EvidenceError.

A verifier must neither crash on nor be talked round by a field of the wrong kind, so no
other file of this wing touches a parsed value directly.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import cast

from dataguard.errors import EvidenceError
from dataguard.model import LOG10_FLOOR

__all__ = ["MAX_INT64", "MAX_SAFE", "MAX_UINT64", "Node"]

MAX_SAFE = 2**53 - 1
MAX_UINT64 = 2**64 - 1
MAX_INT64 = 2**63 - 1
_DECIMAL = re.compile(r"0|-?[1-9][0-9]{0,19}")
_HEX = re.compile(r"(?:[0-9a-f]{2})*")


@dataclass(frozen=True, slots=True)
class Node:
    """A parsed JSON value and where it stands; every method returns what it promises or raises EvidenceError.

    Attributes
    ----------
    value : object
        As ``canonical.parse_json`` returns it.
    where : str
        File and path, for messages.
    """

    value: object
    where: str

    def fail(self, what: str) -> EvidenceError:
        """Return the error that says `what` is wrong with this value."""
        return EvidenceError(what, where=self.where[:200], remedy="the bundle must be written again")

    def __getitem__(self, name: str) -> Node:
        fields = self.mapping()
        if name not in fields:
            raise self.fail(f"no field {name!r}")
        return Node(fields[name], f"{self.where}.{name}")

    def get(self, name: str) -> Node | None:
        """Return a field, or None if it is missing or null."""
        value = self.mapping().get(name)
        return None if value is None else Node(value, f"{self.where}.{name}")

    def mapping(self) -> dict[str, object]:
        """Return the object's fields."""
        if not isinstance(self.value, dict):
            raise self.fail("not an object")
        return cast("dict[str, object]", self.value)

    def pairs(self) -> list[tuple[str, Node]]:
        """Return the object's fields as (name, node)."""
        return [(name, Node(value, f"{self.where}.{name}")) for name, value in self.mapping().items()]

    def sequence(self, length: int | None = None) -> list[object]:
        """Return the array's raw items, of which there must be `length` if given."""
        if not isinstance(self.value, list) or (length is not None and len(self.value) != length):
            raise self.fail("not an array" if length is None else f"not an array of {length}")
        return self.value

    def items(self, length: int | None = None) -> list[Node]:
        """Return the array's items as nodes; they share the array's place, to keep big arrays cheap."""
        return [Node(value, self.where) for value in self.sequence(length)]

    def text(self) -> str:
        """Return the text."""
        if not isinstance(self.value, str):
            raise self.fail("not a text")
        return self.value

    def texts(self) -> tuple[str, ...]:
        """Return an array of texts."""
        return tuple(item.text() for item in self.items())

    def integer(self, low: int = -MAX_SAFE, high: int = MAX_SAFE) -> int:
        """Return an integer within [low, high]; a number with a fraction part never counts as one."""
        value = self.value
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise self.fail(f"not an integer from {low} to {high}")
        return value

    def decimal(self, low: int = 0, high: int = MAX_UINT64) -> int:
        """Return an integer sent as a decimal text, within [low, high]."""
        text = self.value
        if not isinstance(text, str) or _DECIMAL.fullmatch(text) is None or not low <= int(text) <= high:
            raise self.fail(f"not a decimal text from {low} to {high}")
        return int(text)

    def hex(self, size: int | None = None) -> bytes:
        """Return bytes sent as lower-case hex, `size` of them if given."""
        text = self.value
        if (
            not isinstance(text, str)
            or _HEX.fullmatch(text) is None
            or (size is not None and len(text) != 2 * size)
        ):
            raise self.fail("not lower-case hex" if size is None else f"not {size} bytes of lower-case hex")
        return bytes.fromhex(text)

    def number(self, low: float, high: float) -> float:
        """Return a number within [low, high]."""
        value = self.value
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            raise self.fail(f"not a number from {low:g} to {high:g}")
        return float(value)

    def log10(self) -> float:
        """Return a log10 probability within [-30, 0]."""
        return self.number(LOG10_FLOOR, 0.0)

    def probability(self) -> float:
        """Return a probability strictly between 0 and 1, sent as a number or as its shortest decimal text."""
        value = self.value
        if isinstance(value, str) and re.fullmatch(r"[0-9.]{1,20}(?:e-[0-9]{1,3})?", value):
            try:
                value = float(value)
            except ValueError:
                raise self.fail("not a probability") from None
        p = Node(value, self.where).number(0.0, 1.0)
        if not 0 < p < 1:
            raise self.fail("not a probability between 0 and 1")
        return p
