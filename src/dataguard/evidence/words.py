"""The words of a report as counsel can read them: ``templates/sentences.toml``, loaded once.

Sentences are filled in by ``prose``; what a statement may say in words of its own is
compared with the same file by ``vocabulary``.
"""

from __future__ import annotations

import tomllib
from functools import cache
from importlib import resources
from typing import Any

__all__ = ["words"]


@cache
def words() -> dict[str, Any]:
    """Return all sentences and fixed words, by section."""
    text = resources.files("dataguard.evidence").joinpath("templates", "sentences.toml").read_text("utf-8")
    return tomllib.loads(text)
