"""How well it works, and how fast: each module is one question, run as `python -m benchmarks.NAME`.

`benchmarks.speed` has those of time and cost.
"""
