"""Two tables measured: relation, shares, what was done, and what chance would give."""
