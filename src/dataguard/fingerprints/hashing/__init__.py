"""Hashes of strings, numbers, rows and files: what every sketch and index is made from."""
