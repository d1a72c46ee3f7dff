"""XXH3 with 64 bits, seed 0, inside compiled loops."""
