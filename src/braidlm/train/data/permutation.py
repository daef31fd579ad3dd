"""Permutations that are the same with every version of a library and on every machine."""

import hashlib

import numpy as np


def permutation(count: int, seed: int, epoch: int) -> np.ndarray:
    """Permutation of the numbers below `count` by (seed, epoch), int64.

    They are sorted by a 64-bit hash: the sequence of splitmix64 (Steele, Lea and Flood 2014, "Fast splittable
    pseudorandom number generators"), which never repeats a value, from a place that seed and epoch give.
    """
    start = hashlib.sha256(f"{seed} {epoch}".encode()).digest()[:8]
    key_N = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    key_N += np.uint64(int.from_bytes(start, "little"))
    key_N = (key_N ^ (key_N >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    key_N = (key_N ^ (key_N >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.argsort(key_N ^ (key_N >> np.uint64(31)), kind="stable")
