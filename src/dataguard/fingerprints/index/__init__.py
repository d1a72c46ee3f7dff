"""Sketches searchable by band, and sets searchable by what they share: in memory or in a folder of checked files.

``lsh`` finds near-duplicates of signatures, ``containment`` finds which sets hold which; ``bands`` chooses the cut.
"""
