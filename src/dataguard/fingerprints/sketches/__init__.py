"""Sketches of sets of hashes: resemblance, membership, containment, cardinality, weights.

Each is immutable, merges exactly, carries the scheme of its hashes in its bytes, and answers with an interval.
"""
