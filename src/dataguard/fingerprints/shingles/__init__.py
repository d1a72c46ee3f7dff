"""Overlapping groups of words or characters of texts: the elements by which documents are compared."""
