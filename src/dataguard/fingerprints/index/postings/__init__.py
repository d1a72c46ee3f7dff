"""The inverted index of sampled hashes: which sets hold which element."""
