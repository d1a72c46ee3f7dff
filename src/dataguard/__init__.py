"""Recipient-specific marks, fingerprints and re-checkable evidence for shared industrial data."""
