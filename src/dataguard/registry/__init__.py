"""Datasets, recipients, exports, fingerprints, runs, and the tamper-evident ledger over them."""
