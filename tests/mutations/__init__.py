"""Harness that damages valid files by chance and by plan, and judges what their readers make of them.

`python -m tests.mutations --kind gguf --seed 0 --count 500`. A case is (kind, seed, number): it builds the same file
every time. What readers may do with it is said in `verdicts`.
"""
