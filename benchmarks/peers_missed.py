"""Why a bar of the target list is missed: what is reached, what the machine allows, what stands between.

Shown on the page beside the figure, and only while that bar is missed. Keys: (target, peer).
"""

from __future__ import annotations

REASONS: dict[tuple[int, str], str] = {}
