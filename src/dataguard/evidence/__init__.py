"""Statement, bundle, rendering, verification; free of numpy and numba."""
