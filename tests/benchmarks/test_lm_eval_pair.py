"""The pair of lm-eval's adapters: which of their results are compared."""

import pytest

pytest.importorskip("lm_eval", reason="lm-eval is not installed (pip install '.[eval]')")

from benchmarks.lm_eval_pair import Side, greatest_difference


def side(*rounds: list[tuple[float, bool]]) -> Side:
    return Side(None, results={"choices": list(rounds)})


@pytest.mark.parametrize("batch", [0, 1])
@pytest.mark.parametrize("number", [0, 1, 2])
def test_every_round_and_batch_size_is_compared(batch: int, number: int) -> None:
    """Oracle: by hand: one log-likelihood is off by half a nat, in any round of any batch size of `hf`."""
    same = [(-1.0, True), (-2.0, False)]
    rounds = [[same] * 3, [same] * 3]
    rounds[batch][number] = [(-1.0, True), (-2.5, False)]
    others = {str(n): side(*several) for n, several in enumerate(rounds)}
    assert greatest_difference("choices", side(same, same, same), others) == 0.5
    assert greatest_difference("choices", others["0"], {"0": others["0"]}) == 0
