"""Key-free: sketches, column matching, row alignment, comparison."""
