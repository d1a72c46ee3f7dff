"""Compiled loops of the sketches that count: membership, containment, cardinality, weights."""
