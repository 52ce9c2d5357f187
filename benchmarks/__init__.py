"""How well it works: each module is one question, run as ``python -m benchmarks.NAME``."""
