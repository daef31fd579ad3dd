"""Claims that the makers of hybrid models published, run again: by exact arithmetic where bytes decide, measured here
where speed decides.

    python -m benchmarks.claims --list
    python -m benchmarks.claims hymba-cache

A command writes what it found into `results/` and then the page docs/claims.md, whose figures of braidlm are all from
there.
"""
