"""Any supported file to and from Arrow, streaming, and edits that keep untouched text as it was."""
