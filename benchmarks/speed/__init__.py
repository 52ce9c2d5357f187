"""How fast, and at what cost: of preprocessing, of scoring, and of a million faces."""
