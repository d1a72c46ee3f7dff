"""SHA-1 of many short strings at once, for signatures that must equal datasketch's."""
