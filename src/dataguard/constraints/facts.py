"""What a table says about itself: keys, dependencies, identities, and what may be marked.

Facts are mined once, at registration, committed and stored: they are plain frozen
values with a JSON form. A mark must leave every one of them as it found it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dataguard.errors import SchemeMismatch
from dataguard.model import plain

__all__ = ["SCHEMA", "Dependency", "Facts", "Identity", "Key", "Role", "SwapGroup"]

SCHEMA = "dataguard.facts/1"


@dataclass(frozen=True, slots=True)
class Role:
    """What a column is for.

    Attributes
    ----------
    name : str
        ``key, identifier, label, constant, empty, text, dummy, coordinate, date-part,
        held, sorted, category, score, number`` or ``time``.
    reason : str
        What the decision rests on, in one phrase.
    """

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Key:
    """Columns whose values, together, name a row.

    Attributes
    ----------
    columns : tuple of str
    filled : float
        Rows over the product of the columns' levels; 1.0 is a full grid (every combination once).
    """

    columns: tuple[str, ...]
    filled: float

    @property
    def label(self) -> str:
        """Name of the fact in reports."""
        return f"key({', '.join(self.columns)})"


@dataclass(frozen=True, slots=True)
class Dependency:
    """A functional dependency: rows equal in the determinants are equal in the dependent.

    Attributes
    ----------
    determinants : tuple of str
        One or two columns.
    dependent : str
    exceptions : int
        Rows that differ from the majority of their group.
    part : str
        What of the determinant counts: empty = its value; ``prefix`` = the letters before its
        first digit; ``date``, ``clock`` (time of day), ``weekday`` of a time.
    of : str
        What of the dependent is determined: empty = its value, ``sign`` = its sign only.
    partial : bool
        Only some levels of the determinant fix the dependent (Husband -> Male).
    """

    determinants: tuple[str, ...]
    dependent: str
    exceptions: int
    part: str = ""
    of: str = ""
    partial: bool = False

    @property
    def label(self) -> str:
        """Name of the fact in reports."""
        left = ", ".join(self.determinants)
        left = f"{self.part}({left})" if self.part else left
        right = f"{self.of}({self.dependent})" if self.of else self.dependent
        return f"{left} {'~>' if self.partial else '->'} {right}"

    @property
    def columns(self) -> tuple[str, ...]:
        """All columns of the fact."""
        return (*self.determinants, self.dependent)


@dataclass(frozen=True, slots=True)
class Identity:
    """Row-wise arithmetic between numeric columns.

    Attributes
    ----------
    kind : str
        ``sum``: target = sum of coefficient x input (a difference is written as a sum).
        ``few``: as ``sum``, up to one of a few residuals (fees, surcharges).
        ``clock``: target = input 0 + input 1 minutes, the first two as HHMM, modulo 24 hours.
        ``scaled``: target = coefficient x input + residual, one to one.
        ``product``: target = input 0 x input 1.
        ``order``: target >= input.
    target : str
    inputs : tuple of str
    coefficients : tuple of float
        One per input.
    residuals : tuple of float
        Values that target minus the right side may take.
    tolerance : float
        Half a unit of the last decimal printed.
    rows : int
        Rows complete in all columns.
    exceptions : int
        Complete rows for which it does not hold; they stay as they are.
    slack : float
        ``order`` only: distance a pairable row must keep, so that moves within tolerance cannot break it.
    """

    kind: str
    target: str
    inputs: tuple[str, ...]
    coefficients: tuple[float, ...]
    residuals: tuple[float, ...]
    tolerance: float
    rows: int
    exceptions: int
    slack: float = 0.0

    @property
    def label(self) -> str:
        """Name of the fact in reports."""
        if self.kind == "order":
            return f"{self.target} >= {self.inputs[0]}"
        if self.kind == "product":
            return f"{self.target} = {' * '.join(self.inputs)}"
        terms = [
            f"{'-' if c < 0 else '+'} {'' if abs(c) == 1 else f'{abs(c):g} * '}{x}"
            for c, x in zip(self.coefficients, self.inputs, strict=True)
        ]
        right = " ".join(terms).removeprefix("+ ")
        tail = {"clock": " (HHMM)", "few": " + fee"}.get(self.kind, "")
        if self.kind == "scaled" and self.residuals[0]:
            tail = f" + {self.residuals[0]:g}"
        return f"{self.target} = {right}{tail}"

    @property
    def columns(self) -> tuple[str, ...]:
        """All columns of the fact."""
        return (self.target, *self.inputs)

    @property
    def hold_rate(self) -> float:
        """Share of complete rows for which it holds."""
        return 1.0 - self.exceptions / self.rows if self.rows else 0.0


@dataclass(frozen=True, slots=True)
class SwapGroup:
    """Columns that two rows may exchange, all together, without breaking a fact.

    Attributes
    ----------
    members : tuple of str
        They move together.
    equal_on : tuple of str
        The two rows must be equal in these columns; none of them is a member of any group.
    driver : str
        The member by which near values are found.
    kind : str
        ``number``, ``time`` (driver in seconds since 1970) or ``category``.
    tolerance : mapping of str to float
        Largest move per member, in the driver's unit; empty for categories.
    step : float
        Grid of the driver's values; 0 for categories.
    atoms : tuple of float
        Values of the driver with a meaning of their own (0, least, greatest, very frequent).
    guards : tuple of Identity or Dependency
        Facts that only their satisfied rows may take part in (see ``groups.pairable``).
    """

    members: tuple[str, ...]
    equal_on: tuple[str, ...]
    driver: str
    kind: str
    tolerance: Mapping[str, float]
    step: float
    atoms: tuple[float, ...]
    guards: tuple[Identity | Dependency, ...] = ()


@dataclass(frozen=True, slots=True)
class Facts:
    """All that was mined from a table.

    Attributes
    ----------
    columns : mapping of str to Role
        Every column, in order.
    keys : tuple of Key
    dependencies : tuple of Dependency
    identities : tuple of Identity
    groups : tuple of SwapGroup
        No column is in two groups.
    guarded : mapping of str to str
        Columns that must stay as they are, with the reason. Every column is in a group or here.
    monotone : tuple of str
        Columns that run one way from row to row almost everywhere: the order of the rows betrays
        a swap in them. Alone they are guarded; as members of a group they ask for sorting anew.
    """

    columns: Mapping[str, Role]
    keys: tuple[Key, ...]
    dependencies: tuple[Dependency, ...]
    identities: tuple[Identity, ...]
    groups: tuple[SwapGroup, ...]
    guarded: Mapping[str, str]
    monotone: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the facts as JSON types."""
        body = plain(self)
        assert isinstance(body, dict)
        return {"schema": SCHEMA, **body}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Facts:
        """Return the facts that :meth:`to_dict` wrote.

        Raises
        ------
        SchemeMismatch
            When `data` is not of schema ``dataguard.facts/1``.
        """
        if data.get("schema") != SCHEMA:
            raise SchemeMismatch(
                f"facts of schema {data.get('schema')!r}, not {SCHEMA}",
                remedy="use the program version that wrote them",
            )
        try:
            return cls(
                columns={k: Role(**v) for k, v in data["columns"].items()},
                keys=tuple(Key(tuple(k["columns"]), float(k["filled"])) for k in data["keys"]),
                dependencies=tuple(_dependency(d) for d in data["dependencies"]),
                identities=tuple(_identity(i) for i in data["identities"]),
                groups=tuple(_group(g) for g in data["groups"]),
                guarded=dict(data["guarded"]),
                monotone=tuple(data["monotone"]),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise SchemeMismatch(
                f"facts with a missing or unknown part ({error})", remedy="mine them again from the original"
            ) from error


def _dependency(data: Mapping[str, Any]) -> Dependency:
    return Dependency(**{**data, "determinants": tuple(data["determinants"])})


def _identity(data: Mapping[str, Any]) -> Identity:
    lists = {k: tuple(data[k]) for k in ("inputs", "coefficients", "residuals")}
    return Identity(**{**data, **lists})


def _group(data: Mapping[str, Any]) -> SwapGroup:
    lists = {k: tuple(data[k]) for k in ("members", "equal_on", "atoms")}
    guards = tuple(_identity(g) if "inputs" in g else _dependency(g) for g in data["guards"])
    return SwapGroup(**{**data, **lists, "tolerance": dict(data["tolerance"]), "guards": guards})
