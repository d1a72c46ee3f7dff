"""The promise to the innocent, measured: 100,000 keys that never marked anything, scored against leaks of another copy.

    python benchmarks/null.py [--keys 100000]

Prints, per table: votes, the variance of the scores over its theory, the distance of the
randomised exact p-values from uniform with the probability of such a distance, and the
smallest p-value seen.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from dataguard.stats import NullLaw
from dataguard.watermarking.accusation import coins, scores
from dataguard.watermarking.calibration import calibrate
from nulls import TABLES, innocent_keys, leaked


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keys", type=int, default=100_000)
    options = parser.parse_args()
    for name in sorted(TABLES):
        case = leaked(name)
        total, _ = scores(case.votes, innocent_keys(name, options.keys), case.plan.channel)
        result = calibrate(NullLaw(coins(case.votes)), total, np.random.default_rng(11).random(options.keys))
        figures = {
            "table": name,
            "votes": len(case.votes),
            "keys": result.keys,
            "variance_ratio": round(result.variance_ratio, 4),
            "ks": round(result.ks, 5),
            "ks_log10_p": round(result.log10_p, 2),
            "smallest_log10_p": round(result.largest, 2),
        }
        print(json.dumps(figures), flush=True)


if __name__ == "__main__":
    main()
