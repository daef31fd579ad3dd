"""Common beginnings of token sequences.

Oracle: tokens compared one by one.
"""

import random

from braidlm.text.common_prefix import common_length


def test_equals_tokens_one_by_one() -> None:
    """Short sequences of two tokens, from every place of the other."""
    drawn = random.Random(0)
    for _ in range(500):
        one, other = (tuple(drawn.choices((1, 2), k=drawn.randrange(9))) for _ in range(2))
        for begin in range(len(other) + 1):
            pairs = zip(one, other[begin:], strict=False)
            expected = next((place for place, (mine, its) in enumerate(pairs) if mine != its), None)
            if expected is None:
                expected = min(len(one), len(other) - begin)
            assert common_length(one, other, begin) == expected
            assert common_length(list(one), list(other), begin) == expected
