"""Keyed: symbols, accusation."""
