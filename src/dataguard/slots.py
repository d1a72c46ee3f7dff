"""Slots and votes: what everything that can carry a mark, and everything that can be seen, is reduced to.

The same for every kind of data; a carrier (see :mod:`dataguard.carrier`) makes them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dataguard.model import VOTE_LIMIT, BiasLaw

__all__ = ["Readings", "SlotBrief", "Slots", "Votes", "join_slots", "tally"]

I64 = NDArray[np.int64]
I16 = NDArray[np.int16]
U64 = NDArray[np.uint64]
U8 = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class SlotBrief:
    """What a carrier may know when it lists slots: keyed functions, but no key.

    Attributes
    ----------
    address : callable
        ``address(place, channel) -> (n,) uint64``: keyed hash of (n, k) int64 place columns
        that name a slot by ids given at registration, never by position or value.
    draw : callable
        ``draw(label, ids) -> (n,) uint64``: keyed pseudo-random words for (n,) uint64 ids.
        Partners are drawn with it, the same for all recipients.
    level : callable
        ``level(address) -> (n,) uint8``: the keyed bias level of each address.
    protect : frozenset of str
        Parts (columns, channels, layers) the user keeps unmarked.
    tolerance : mapping of str to float
        Largest change per part, in the part's own unit.
    frozen : Slots or None
        Slots of an earlier version of the lineage: they stay as they are.
    first_new : int
        Ids from here on are new in this version, and only they are paired anew: a row delivered
        before must not start to differ between two deliveries to one recipient.
    study : mapping or None
        What `Carrier.study` found out about the whole, for a block of it; then a block without
        any slot is no error.
    """

    address: Callable[[I64, bytes], U64]
    draw: Callable[[str, U64], U64]
    level: Callable[[U64], U8]
    protect: frozenset[str] = frozenset()
    tolerance: Mapping[str, float] = field(default_factory=dict)
    frozen: Slots | None = None
    first_new: int = 0
    study: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Slots:
    """The slot plan of one version of a dataset.

    Attributes
    ----------
    law : BiasLaw
        Meaning of `level`.
    channel : bytes
        Eight bytes: scheme and channel, part of the PRF input of every symbol.
    address : (n,) uint64
        Distinct. Stays put when rows are appended or deleted.
    level : (n,) uint8
        Index into ``law.levels``.
    place : (n, k) int64
        Where each slot sits, in ids given at registration; meaning in `place_names`.
    place_names : tuple of str
        Names of the `place` columns.
    legend : mapping
        JSON-ready description that `place` refers to (column groups and the like).
    """

    law: BiasLaw
    channel: bytes
    address: U64
    level: U8
    place: I64
    place_names: tuple[str, ...]
    legend: Mapping[str, Any]

    def __len__(self) -> int:
        return len(self.address)

    @property
    def bias(self) -> NDArray[np.int64]:
        """(n,) int64: numerator P of each slot's bias, over 65536."""
        return np.asarray(self.law.levels, np.int64)[self.level]

    def take(self, index: I64) -> Slots:
        """Return the plan restricted to some slots."""
        return Slots(
            self.law, self.channel, self.address[index], self.level[index], self.place[index],
            self.place_names, self.legend,
        )  # fmt: skip


def join_slots(parts: Sequence[Slots]) -> Slots:
    """Return the slots of several blocks of one plan; at least one part."""
    return replace(
        parts[0],
        address=np.concatenate([p.address for p in parts]),
        level=np.concatenate([p.level for p in parts]),
        place=np.concatenate([p.place for p in parts]),
    )


@dataclass(frozen=True, slots=True)
class Readings:
    """Single readings of slots in a suspect, before they are summed.

    Attributes
    ----------
    slot : (m,) int64
        Index into the slot plan; repeats where a slot was read more than once.
    unit : (m,) int64
        The unit of the suspect it was read from (row, window, block).
    weight : (m,) int16
        Log-likelihood ratio of symbol 1 against symbol 0 in 1/64 nat, symmetric in the symbol.
    """

    slot: I64
    unit: I64
    weight: I16


@dataclass(frozen=True, slots=True)
class Votes:
    """What a suspect says about the slots: one vote per address.

    Attributes
    ----------
    slot : (n,) int64
        Index into the slot plan, in order of `address`.
    address : (n,) uint64
        Strictly ascending, so no address can vote twice.
    bias : (n,) int64
        Numerator P over 65536.
    weight : (n,) int16
        Non-zero, at most 256 in size (four nats).
    """

    slot: I64
    address: U64
    bias: I64
    weight: I16

    def __len__(self) -> int:
        return len(self.address)

    def digest(self) -> str:
        """Return the SHA-256 (hex) of the votes; it is logged before any mark key is loaded."""
        rows = np.empty((len(self), 3), np.uint64)
        rows[:, 0], rows[:, 1] = self.address, self.bias.view(np.uint64)
        rows[:, 2] = self.weight.astype(np.int64).view(np.uint64)
        return hashlib.sha256(b"dataguard/votes/1" + rows.astype("<u8").tobytes()).hexdigest()


def tally(slots: Slots, readings: Readings) -> Votes:
    """Return one vote per address: the readings summed and clipped to +-256.

    Parameters
    ----------
    slots : Slots
    readings : Readings
        Both ends of a pair, a row that stands twice, jointly moved columns: each is one
        reading of the same slot, and they count once.
    """
    total = np.bincount(readings.slot, weights=readings.weight.astype(np.float64), minlength=len(slots))
    clipped = np.clip(np.rint(total), -VOTE_LIMIT, VOTE_LIMIT).astype(np.int16)
    slot = np.flatnonzero(clipped)
    # Two slots of different blocks share an address with a chance below n**2 / 2**65: the first one votes.
    slot = slot[np.unique(slots.address[slot], return_index=True)[1]]
    return Votes(slot, slots.address[slot], slots.bias[slot], clipped[slot])
