"""How many tokens two sequences have in common at their beginnings."""

from collections.abc import Sequence


def common_length(one: Sequence[int], other: Sequence[int], begin: int = 0) -> int:
    """Number of first tokens of `one` that are those of `other` from `begin` on; both of one type, tuples or lists.

    Slices are compared, halved where they differ: a loop over long prompts would be Python's.
    """
    if other[begin : begin + len(one)] == one:
        return len(one)
    low, high = 0, min(len(one), len(other) - begin)
    while low < high:
        middle = (low + high + 1) // 2
        if one[low:middle] == other[begin + low : begin + middle]:
            low = middle
        else:
            high = middle - 1
    return low
