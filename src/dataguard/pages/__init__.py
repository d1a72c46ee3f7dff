"""Results shown to people: a page, a terminal. Renderers only; nothing is measured here."""
