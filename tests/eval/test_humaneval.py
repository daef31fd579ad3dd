"""The example's HumanEval: what passes a problem's tests, and what does not."""

import runpy
from pathlib import Path

import pytest

EXAMPLE = runpy.run_path(str(Path(__file__).parents[2] / "examples" / "lm_eval" / "humaneval.py"))
PROBLEM = {
    "prompt": 'def double(x: int) -> int:\n    """Twice x."""\n',
    "test": "def check(candidate):\n    assert candidate(3) == 6\n    assert candidate(-1) == -2\n",
    "entry_point": "double",
}


@pytest.mark.parametrize(
    ("answer", "passed"),
    [("    return 2 * x\n", 1.0), ("    return x + 3\n", 0.0), ("    return 2 * x)\n", 0.0), ("", 0.0)],
)
def test_answers(answer: str, passed: float) -> None:
    """Oracle: by hand: a right answer, one that fails a test, one that is no Python, none."""
    assert EXAMPLE["process_results"](PROBLEM, [answer]) == {"pass@1": passed}


def test_a_program_that_does_not_end() -> None:
    """Oracle: the time limit."""
    assert not EXAMPLE["passes"]("while True: pass", 0.5)
