"""Quality of the 64-bit mixers: can their hashes be told from random ones?

    python benchmarks/mixer_quality.py [--mixer dgmum-1] [--size 1.0]

The families of tests are those that public suites for hash functions agree on: avalanche, bit
independence, sparse, cyclic and two-byte keys, texts, permutations, windows of bits, seeds. Every
limit is an exact quantile (binomial for bits; Poisson for colliding pairs, whose variance is their
mean) at ALPHA divided by the number of comparisons, so that a random function passes the whole run
with probability above 1 - ALPHA. ``polynomial`` (times 31 plus byte) is there to fail;
XXH3 is as it is specified, and its known failures are listed. Exit code 0: all as expected.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dataguard._jit import kernel
from dataguard.fingerprints.hashing import _kernels as dgmum
from dataguard.fingerprints.hashing.xxh3 import _kernels as xxh3

U8, I64, U64 = NDArray[np.uint8], NDArray[np.int64], NDArray[np.uint64]

ALPHA = 1e-3
RESULTS = 4000
"""Upper bound of the number of results in a run of all mixers."""


@kernel
def polynomial_strings(data: U8, offsets: I64, out: U64) -> None:
    """Times 31 plus byte: the deliberately bad mixer."""
    for i in range(len(out)):
        h = np.uint64(0)
        for k in range(offsets[i], offsets[i + 1]):
            h = h * np.uint64(31) + np.uint64(data[k])
        out[i] = h


@kernel
def dgmum_seeded(data: U8, offsets: I64, seeds: U64, out: U64) -> None:
    """dgmum-1, each key under a seed of its own; 16 bytes must follow the last key."""
    for i in range(len(out)):
        state = dgmum.mum_seed(seeds[i])
        out[i] = dgmum.mum_seeded(data, np.int64(offsets[i]), np.int64(offsets[i + 1] - offsets[i]), state)


def xxh3_seeded(data: U8, offsets: I64, seeds: U64, out: U64) -> None:
    """XXH3 under seeds, from the xxhash package."""
    import xxhash

    raw = data.tobytes()
    for i, seed in enumerate(seeds.tolist()):
        out[i] = xxhash.xxh3_64_intdigest(raw[offsets[i] : offsets[i + 1]], seed)


@dataclass(frozen=True, slots=True)
class Mixer:
    """A hash of many keys: ``strings(data, offsets, out)``, and one with a seed per key.

    `constants` are those that meet the key before a multiplication; tests whose names start with
    `known` are known to fail.
    """

    name: str
    strings: Callable[[U8, I64, U64], object]
    good: bool = True
    seeded: Callable[[U8, I64, U64, U64], object] | None = None
    constants: tuple[int, ...] = ()
    known: str = "none"

    def __call__(self, keys: U8, seeds: U64 | None = None) -> U64:
        """Return the hashes of (n, length) bytes."""
        n, width = keys.shape
        data = np.concatenate([keys.reshape(-1), np.zeros(16, np.uint8)])
        offsets, out = np.arange(n + 1) * width, np.empty(n, np.uint64)
        if seeds is None:
            self.strings(data, offsets, out)
        elif self.seeded is not None:
            self.seeded(data, offsets, seeds, out)
        return out

    def texts(self, texts: list[str]) -> U64:
        """Return the hashes of texts."""
        raw = [t.encode() for t in texts]
        offsets = np.concatenate([[0], np.cumsum([len(t) for t in raw])])
        out = np.empty(len(raw), np.uint64)
        self.strings(np.frombuffer(b"".join(raw) + bytes(16), np.uint8), offsets, out)
        return out


MIXERS = (
    Mixer(
        "dgmum-1", dgmum.mum_strings, seeded=dgmum_seeded,
        constants=(*dgmum.CONSTANTS, *((n * 0x510E527FADE682D1 + dgmum.STATE) % 2**64 for n in (16, 24))),
    ),
    Mixer("xxh3-64", xxh3.xxh3_strings, seeded=xxh3_seeded, known="bit independence"),
    Mixer("polynomial", polynomial_strings, good=False),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Result:
    """One comparison: what was seen, and the limits a random function stays within."""

    test: str
    seen: float
    low: float
    high: float

    @property
    def passed(self) -> bool:
        """Whether the statistic lies within its limits."""
        return self.low <= self.seen <= self.high


def worst_bias(name: str, counts: NDArray[np.int64], trials: int) -> Result:
    """Compare the worst of many counts with half of the trials; the statistic is the worst bias in percent."""
    from scipy.stats import binom

    limit = binom.isf(ALPHA / RESULTS / 2 / counts.size, trials, 0.5) - trials / 2
    worst = float(np.abs(counts - trials / 2).max())
    return Result(name, 200 * worst / trials, 0.0, 200 * float(limit) / trials)


def collisions(name: str, hashes: U64, bits: tuple[int, ...] = (64, 32, 28, 24)) -> Iterator[Result]:
    """Compare the number of colliding pairs in all bits, and in the highest and lowest ones."""
    from scipy.stats import poisson

    n = len(hashes)
    for width in bits:
        for end in ("low",) if width == 64 else ("low", "high"):
            part = hashes << np.uint64(64 - width) if end == "low" else hashes >> np.uint64(64 - width)
            part = np.sort(part)
            edges = np.flatnonzero(np.concatenate([[True], part[1:] != part[:-1], [True]]))
            runs = np.diff(edges)
            pairs = int((runs * (runs - 1) // 2).sum())
            mean = n * (n - 1) / 2 / 2.0**width
            low, high = poisson.ppf(ALPHA / RESULTS / 2, mean), poisson.isf(ALPHA / RESULTS / 2, mean)
            yield Result(f"{name}: pairs in {end} {width} of {n}", pairs, float(low), float(high))


def bits_set(hashes: U64) -> NDArray[np.float32]:
    """Return the (n, 64) bits as +1 and -1."""
    bits = np.unpackbits(hashes.view(np.uint8).reshape(len(hashes), 8), axis=1)
    return bits.astype(np.float32) * 2 - 1


LENGTHS = (1, 2, 3, 4, 6, 7, 8, 9, 12, 15, 16, 17, 24, 32, 33, 48, 64, 65, 80, 100, 128, 200, 256, 257, 300)


def avalanche(
    mixer: Mixer, rng: np.random.Generator, size: float, lengths: tuple[int, ...] = LENGTHS
) -> Iterator[Result]:
    """Flip each input bit: every output bit, and every pair of them, must flip independently half of the time."""
    for length in lengths:
        n = max(256, int(size * 400_000 / length))
        keys = rng.integers(0, 256, (n, length), dtype=np.uint8)
        plain = mixer(keys)
        places = (
            range(8 * length) if length <= 33 else sorted(rng.choice(8 * length, 256, replace=False).tolist())
        )
        flips, pairs = [], []
        for bit in places:
            keys[:, bit // 8] ^= np.uint8(1 << bit % 8)
            changed = bits_set(plain ^ mixer(keys))
            keys[:, bit // 8] ^= np.uint8(1 << bit % 8)
            flips.append((n + changed.sum(0, dtype=np.float64)) / 2)
            pairs.append(((n + changed.T @ changed) / 2)[np.triu_indices(64, 1)])
        if 256**length > 100 * n:  # short keys repeat, and their counts are not binomial
            yield worst_bias(f"avalanche, {length} bytes", np.rint(np.array(flips)).astype(np.int64), n)
            yield worst_bias(
                f"bit independence, {length} bytes", np.rint(np.array(pairs)).astype(np.int64), n
            )


def sparse_keys(mixer: Mixer, size: float) -> Iterator[Result]:
    """All keys of so many bits with at most so many of them set."""
    for bits, most in (
        (16, 6),
        (32, 4),
        (48, 3),
        (64, 3),
        (96, 3),
        (128, 3),
        (160, 2),
        (256, 2),
        (512, 2),
        (1024, 2),
    ):
        ones = most if size >= 1 else min(most, 3)
        rows = [np.zeros((1, bits // 8), np.uint8)]
        for k in range(1, ones + 1):
            places = np.array(list(itertools.combinations(range(bits), k)))
            keys = np.zeros((len(places), bits // 8), np.uint8)
            for column in places.T:
                keys[np.arange(len(places)), column // 8] |= (1 << (column % 8)).astype(np.uint8)
            rows.append(keys)
        yield from collisions(f"sparse, {bits} bits, up to {ones}", mixer(np.concatenate(rows)))


def patterned_keys(mixer: Mixer, rng: np.random.Generator, size: float) -> Iterator[Result]:
    """Cyclic keys, keys with two bytes other than zero, combinations of few words, zeros of many lengths."""
    n = int(size * 1_000_000)
    for cycle in (4, 5, 6, 7, 8, 12):
        seeds = rng.integers(0, 256, (n, cycle), dtype=np.uint8)
        seeds = np.unique(seeds, axis=0) if cycle < 6 else seeds
        yield from collisions(f"cyclic, {cycle} x 8", mixer(np.tile(seeds, (1, 8))))
    for length in (4, 8, 12, 16, 20, 24, 48)[: 7 if size >= 0.1 else 4]:
        found = []
        for i, j in itertools.combinations(range(length), 2):
            step = max(1, round(length * length / 2 * 65025 / (size * 2e6)))
            both = np.arange(0, 65025, step)
            keys = np.zeros((len(both), length), np.uint8)
            keys[:, i], keys[:, j] = both // 255 + 1, both % 255 + 1
            found.append(keys)
        yield from collisions(f"two bytes, {length}", mixer(np.concatenate(found)))
    words = np.array([0, 1, 2, 0x80000000, 0xE0000000, 0xFFFFFFFF], np.uint32)
    for count in (4, 5, 7)[: 3 if size >= 0.1 else 2]:
        picks = np.array(list(itertools.product(range(6), repeat=count)))
        yield from collisions(
            f"combinations, {count} words", mixer(words[picks].view(np.uint8).reshape(len(picks), -1))
        )
    ends = np.array([0, 2**63, 1, 2**64 - 1], np.uint64)
    for count in (2, 4, 8, 9)[: 4 if size >= 0.1 else 2]:
        picks = np.array(list(itertools.product(range(4), repeat=count)))
        yield from collisions(
            f"combinations, {count} long words", mixer(ends[picks].view(np.uint8).reshape(len(picks), -1))
        )
    yield from collisions("zeros", mixer.texts(["\0" * k for k in range(3000)]), (64, 24, 16))


def texts(mixer: Mixer, size: float) -> Iterator[Result]:
    """Numbers as text, padded or not, words around a counter, words joined, permutations."""
    n = int(size * 1_000_000)
    yield from collisions("numbers", mixer.texts([str(k) for k in range(n)]))
    for width in (8, 12, 16, 20, 40, 70):
        yield from collisions(f"padded numbers, {width}", mixer.texts([f"{k:0{width}d}" for k in range(n)]))
    yield from collisions("decimals", mixer.texts([f"{k / 100:.2f}" for k in range(n)]))
    for front, back in (("foo", "bar"), ("", "@example.com"), ("customer-", ""), ("a" * 30, "z" * 30)):
        keys = [
            f"{front}{a}{b}{c}{back}"
            for a, b, c in itertools.product(_LETTERS[: int(90 * size ** (1 / 3))], repeat=3)
        ]
        yield from collisions(f"{front[:9]}...{back[:9]}", mixer.texts(keys))
    vocabulary = [
        f"{a}{b}"
        for a, b in itertools.product(
            ("ab", "con", "de", "ex", "in", "pro", "sub"), ("tain", "ply", "ceed", "fer", "act")
        )
    ]
    yield from collisions(
        "words joined",
        mixer.texts(
            [" ".join(p) for p in itertools.product(vocabulary[: max(8, int(35 * size))], repeat=4)][:n]
        ),
    )
    yield from collisions(
        "permutations",
        mixer.texts(["".join(p) for p in itertools.permutations("0123456789"[: 9 if size >= 1 else 8])]),
    )


_LETTERS = "".join(chr(c) for c in range(33, 127))


def counters(mixer: Mixer, rng: np.random.Generator, size: float) -> Iterator[Result]:
    """Consecutive integers and floats: every window of the hash, and every bit, must be even."""
    n = int(size * 2_000_000)
    for name, words in (
        ("counter", np.arange(n, dtype=np.uint64)),
        ("counter in high half", np.arange(n, dtype=np.uint64) << np.uint64(32)),
        ("multiples", np.arange(n, dtype=np.uint64) * np.uint64(1 << 12)),
        ("floats", (np.arange(n) / 100).view(np.uint64)),
        ("random", rng.integers(0, 2**64, n, dtype=np.uint64)),
    ):
        hashes = mixer(words.view(np.uint8).reshape(n, 8))
        for turn in range(0, 64, 4 if size >= 1 else 16):
            turned = (hashes << np.uint64(turn)) | (hashes >> np.uint64(64 - turn) if turn else np.uint64(0))
            found = list(collisions("", turned, (24,)))[1]
            yield Result(f"window of 24 bits at {turn}, {name}", found.seen, found.low, found.high)
        ones = (n + bits_set(hashes).sum(0, dtype=np.float64)) / 2
        yield worst_bias(f"ones per bit, {name}", np.rint(ones).astype(np.int64), n)
        apart = (n - 1 + bits_set(hashes[1:] ^ hashes[:-1]).sum(0, dtype=np.float64)) / 2
        yield worst_bias(f"changes between neighbours, {name}", np.rint(apart).astype(np.int64), n - 1)


def bad_factors(mixer: Mixer, size: float) -> Iterator[Result]:
    """Keys in which one word makes a factor 0, 1, -1 and the like: the others must still count.

    No multiplication keeps everything for every factor (-2 leaves 10 of 15 bits in a lane of
    dgmum-1), so what is asked is that at least 8 bits are left; a bare product leaves none.
    """
    n = int(size * 300_000)
    factors = (0, 1, 2, 2**64 - 1, 2**64 - 2, 2**32, 2**63)
    every = {v for c in mixer.constants for f in factors for v in (f ^ c, (f - c) % 2**64)}
    for constant, place, words in itertools.product(sorted(every), (0, 1), (2, 3, 5, 10)):
        keys = np.zeros((n, words), np.uint64)
        keys[:, 1 - place] = np.arange(n)
        keys[:, place] = constant
        found = max(r.seen for r in collisions("", mixer(keys.view(np.uint8).reshape(n, -1)), (64, 28)))
        yield Result(f"{constant:016x} as word {place} of {words}", found, 0.0, n * (n - 1) / 2**9)


def seeds(mixer: Mixer, rng: np.random.Generator, size: float) -> Iterator[Result]:
    """One key under many seeds, many keys under near seeds, and flips of the bits of the seed."""
    if mixer.seeded is None:
        return
    n = int(size * 300_000)
    for length in (3, 8, 16, 40, 100):
        key = rng.integers(0, 256, (1, length), dtype=np.uint8)
        yield from collisions(
            f"seeds 0.., {length} bytes", mixer(np.repeat(key, n, 0), np.arange(n, dtype=np.uint64))
        )
        few = np.arange(64, dtype=np.uint64)
        counter = np.zeros((n // 64, length), np.uint8)
        counter[:, :3] = np.arange(n // 64, dtype=np.uint32).view(np.uint8).reshape(-1, 4)[:, :3]
        both = mixer(np.repeat(counter, 64, 0), np.tile(few, n // 64))
        yield from collisions(f"counters under 64 seeds, {length} bytes", both)
        m = n // 30
        keys, start = (
            rng.integers(0, 256, (m, length), dtype=np.uint8),
            rng.integers(0, 2**64, m, dtype=np.uint64),
        )
        plain = mixer(keys, start)
        flips = [
            (m + bits_set(plain ^ mixer(keys, start ^ np.uint64(1 << b))).sum(0, dtype=np.float64)) / 2
            for b in range(64)
        ]
        yield worst_bias(
            f"avalanche of the seed, {length} bytes", np.rint(np.array(flips)).astype(np.int64), m
        )


def examine(mixer: Mixer, size: float = 1.0, *, quick: bool = False) -> Iterator[Result]:
    """Run all families on one mixer; `size` scales the number of keys, `quick` leaves out most lengths."""
    rng = np.random.default_rng(20)
    yield from avalanche(mixer, rng, size, (3, 4, 8, 9, 16, 17, 40, 65) if quick else LENGTHS)
    if quick:
        yield from patterned_keys(mixer, rng, size)
        yield from texts(mixer, size)
        yield from counters(mixer, rng, size)
        return
    yield from sparse_keys(mixer, size)
    yield from patterned_keys(mixer, rng, size)
    yield from texts(mixer, size)
    yield from counters(mixer, rng, size)
    yield from bad_factors(mixer, size)
    yield from seeds(mixer, rng, size)


def main() -> int:
    """Print every failure, and a line per mixer."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mixer", choices=[m.name for m in MIXERS])
    parser.add_argument("--size", type=float, default=1.0)
    parser.add_argument("--all", action="store_true", help="print every result")
    chosen = parser.parse_args()
    wrong = 0
    for mixer in MIXERS:
        if chosen.mixer not in (None, mixer.name):
            continue
        found = list(examine(mixer, chosen.size))
        failed = [r for r in found if not r.passed]
        unknown = [r for r in failed if not r.test.startswith(mixer.known)]
        for r in found if chosen.all else failed[:20]:
            print(
                f"  {'ok  ' if r.passed else 'FAIL'} {r.test}: {r.seen:.6g}, limits {r.low:.6g} to {r.high:.6g}"
            )
        aim = "fail" if not mixer.good else f"pass (known failures: {mixer.known})"
        print(f"{mixer.name}: {len(found) - len(failed)} of {len(found)} passed; expected to {aim}")
        wrong += bool(unknown) == mixer.good
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
