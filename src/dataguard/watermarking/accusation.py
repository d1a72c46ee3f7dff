"""From votes to named copies, at a family-wise error that holds whatever the suspect is.

The votes are frozen before a mark key is loaded. Then each committed key gets one score,
each score one p-value conditional on the votes, and Holm's step-down pays for all of
them; what earlier runs on the dataset have spent is paid on top.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from dataguard.model import ONE, Outcome
from dataguard.slots import Votes
from dataguard.stats import Coins, NullLaw, holm, round_up
from dataguard.watermarking.symbols import symbols

__all__ = ["Accusation", "Candidate", "RecipientScore", "accuse", "coins", "ones", "scores"]

I64 = NDArray[np.int64]

_LOG2 = math.log10(2)
_EXPECTED_AGREEMENT = 0.75
"""Agreement a marked suspect still shows after heavy handling; below it no power is claimed."""


_NOTHING = -2.0
"""log10 of the best key's chance, all keys counted, above which "no mark" may be said."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A committed mark key.

    Attributes
    ----------
    recipient : str
    generation : int
    key : bytes
        32 bytes, secret.
    """

    recipient: str
    generation: int
    key: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class RecipientScore:
    """What the votes say about one committed mark key.

    Attributes
    ----------
    recipient : str
    generation : int
    score : int
        S, see :func:`dataguard.stats.score`.
    agreeing : int
        Votes that agree with the key's symbol.
    log10_p : float
        Bound on P(S at least this large) if this copy was no source of the suspect.
    log10_p_adjusted : float
        The same after Holm over all committed keys and the factor of earlier runs.
    """

    recipient: str
    generation: int
    score: int
    agreeing: int
    log10_p: float
    log10_p_adjusted: float


@dataclass(frozen=True, slots=True)
class Accusation:
    """Result of one run over all committed keys.

    Attributes
    ----------
    outcome : Outcome
    corresponding : tuple of RecipientScore
        Copies the suspect corresponds to, best first.
    recipients : tuple of RecipientScore
        All committed keys, best first.
    hypotheses : int
        Number of committed keys: the factor an outsider can count in the ledger.
    spent : int
        k: this is the k-th run on the dataset, and its error budget is alpha / 2**k.
    votes : int
    method : str
        What the p-values rest on.
    decoys : int
    best_decoy_log10_p : float or None
        The never-issued keys illustrate a rank; they are no p-value.
    """

    outcome: Outcome
    corresponding: tuple[RecipientScore, ...]
    recipients: tuple[RecipientScore, ...]
    hypotheses: int
    spent: int
    votes: int
    method: str
    decoys: int
    best_decoy_log10_p: float | None


def coins(votes: Votes) -> tuple[Coins, ...]:
    """Return the votes as counts by bias and weight, in ascending order."""
    pairs, counts = np.unique(
        np.stack([votes.bias, votes.weight.astype(np.int64)], axis=1), axis=0, return_counts=True
    )
    return tuple(Coins(int(b), int(w), int(n)) for (b, w), n in zip(pairs, counts, strict=True))


def ones(votes: Votes, key: bytes, channel: bytes) -> tuple[int, ...]:
    """Return, per entry of :func:`coins`, how many votes meet symbol 1 of a key."""
    s = symbols(key, votes.address, votes.bias, channel)
    pairs, inverse = np.unique(
        np.stack([votes.bias, votes.weight.astype(np.int64)], axis=1), axis=0, return_inverse=True
    )
    return tuple(
        int(c) for c in np.bincount(inverse.ravel(), weights=s, minlength=len(pairs)).astype(np.int64)
    )


def scores(votes: Votes, keys: Sequence[bytes], channel: bytes) -> tuple[I64, I64]:
    """Return (scores, agreeing votes), (len(keys),) int64 each.

    Every planned slot that voted is scored with its PRF symbol; there is no mask of slots
    "really written": such a mask would depend on the recipient and void the bound.
    """
    weight = votes.weight.astype(np.int64)
    base = int((weight * votes.bias).sum())
    total, agreeing = np.empty(len(keys), np.int64), np.empty(len(keys), np.int64)
    positive = weight > 0
    for i, key in enumerate(keys):
        s = symbols(key, votes.address, votes.bias, channel)
        total[i] = ONE * int(weight[s == 1].sum()) - base
        agreeing[i] = int(((s == 1) == positive).sum())
    return total, agreeing


def accuse(
    votes: Votes,
    candidates: Sequence[Candidate],
    channel: bytes,
    *,
    alpha: float,
    spent: int,
    decoys: Sequence[bytes] = (),
) -> Accusation:
    """Return which copies the votes correspond to.

    Parameters
    ----------
    votes : Votes
        Frozen; their digest is already logged.
    candidates : sequence of Candidate
        All committed mark keys of the lineage, issued or not.
    channel : bytes
    alpha : float
        Family-wise error of all runs on the dataset together.
    spent : int
        k >= 1, the position of this run; it may spend alpha / 2**k.
    decoys : sequence of bytes
        Keys of the same derivation that were never issued.
    """
    law = NullLaw(coins(votes))
    total, agreeing = scores(votes, [c.key for c in candidates], channel)
    raw = [law.log10_raw(int(s)) for s in total]
    adjusted = [round_up(a) for a in holm(raw, spent * _LOG2)]
    rows = sorted(
        (
            RecipientScore(c.recipient, c.generation, int(s), int(g), round_up(p), a)
            for c, s, g, p, a in zip(candidates, total, agreeing, raw, adjusted, strict=True)
        ),
        key=lambda r: (r.log10_p, -r.score, r.recipient, r.generation),
    )
    named = tuple(r for r in rows if r.log10_p_adjusted <= math.log10(alpha))
    decoy_scores, _ = scores(votes, decoys, channel)
    best = law.log10_p(int(decoy_scores.max())) if len(decoys) else None
    outcome = (
        Outcome.CORRESPONDS if named else _negative(law, min(raw, default=0.0), len(candidates), alpha, spent)
    )
    return Accusation(
        outcome, named, tuple(rows), len(candidates), spent, len(votes), law.method, len(decoys), best
    )  # fmt: skip


def _negative(law: NullLaw, best: float, hypotheses: int, alpha: float, spent: int) -> Outcome:
    """Tell "no mark" from "cannot say": only a test with power may say that nothing is there.

    With three quarters of the votes agreeing a copy would have been named, and yet no
    committed key reaches even one in a hundred.
    """
    full = sum(abs(c.weight) * c.count * (c.bias if c.weight < 0 else ONE - c.bias) for c in law.coins)
    expected = int((2 * _EXPECTED_AGREEMENT - 1) * full)
    keys = math.log10(max(1, hypotheses))
    has_power = law.log10_raw(expected) <= math.log10(alpha) - spent * _LOG2 - keys
    # Earlier runs are not counted here: they make naming harder, and must not make "nothing there" easier.
    return Outcome.NO_MARK if has_power and best + keys > _NOTHING else Outcome.INCONCLUSIVE
