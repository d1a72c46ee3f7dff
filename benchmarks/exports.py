"""What marking does: every mined fact, every column's distribution, measured on many exports.

python benchmarks/exports.py [--exports 20]
"""

from __future__ import annotations

import argparse
import json

from common import data_file, marked
from dataguard.modalities.table import CARRIER
from dataguard.watermarking.symbols import symbols

TABLES = {
    "flights": "tables/nycflights13_flights.parquet",
    "covertype": "tables/covertype_first30k.csv.gz",
    "beijing": "sensors/beijing_pm25_2010_2014.csv.gz",
    "ai4i": "tables/ai4i2020.csv.gz",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--exports", type=int, default=20)
    options = parser.parse_args()
    for name, file in TABLES.items():
        m = marked(name, data_file(file), recipients=options.exports)
        reports = []
        for candidate in m.candidates:
            own = symbols(candidate.key, m.plan.address, m.plan.bias, m.plan.channel)
            meter = CARRIER.distortion(m.plan.legend)
            meter.add(m.original, CARRIER.embed(m.original, m.plan, own))
            reports.append(meter.result())
        rows = [row for report in reports for row in report.rows]
        facts = m.plan.legend["facts"]
        figures = {
            "table": name,
            "exports": len(reports),
            "facts": sum(len(facts[k]) for k in ("keys", "dependencies", "identities")),
            "violations": sum(sum(r.violations.values()) for r in reports),
            "largest_ks": max(row.ks for row in rows),
            "columns_with_other_values": sum(not row.exact for row in rows),
            "mean_sd": round(max(row.mean_sd for row in rows if row.mean_sd == row.mean_sd), 4),
            "max_sd": round(max(row.max_sd for row in rows if row.max_sd == row.max_sd), 4),
            "correlation": round(max(r.correlation for r in reports), 5),
        }
        print(json.dumps(figures), flush=True)


if __name__ == "__main__":
    main()
