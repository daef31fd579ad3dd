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
    [
        ("    return 2 * x\n", 1.0),
        ("    print(input)\n    return 2 * x\n", 1.0),
        ("    return x + 3\n", 0.0),
        ("    return 2 * x)\n", 0.0),
        ("", 0.0),
        ("    return 0\n\nexit()\n", 0.0),
        ("    import os\n    os._exit(0)\n", 0.0),
        ("    return 2 * x + len(input())\n", 0.0),
        ("    return 2 * x\n\0", 0.0),
    ],
)
def test_answers(answer: str, passed: float) -> None:
    """Oracle: by hand: right answers; a wrong one; no Python; none; exits before the tests; a wait for input; a zero.

    An exit, at import or in a call, ends the process with the code of success.
    """
    assert EXAMPLE["process_results"](PROBLEM, [answer]) == {"pass@1": passed}


def test_a_program_that_does_not_end() -> None:
    """Oracle: the time limit; what is printed all the time goes nowhere."""
    assert not EXAMPLE["passes"]("while True: pass", 0.5)
    assert not EXAMPLE["passes"]("while True: print('on and on')", 0.5)


def test_a_long_output_does_not_matter() -> None:
    """Oracle: a program that ends after more output than a pipe holds, and one whose text is longer than a command."""
    assert EXAMPLE["passes"]("print('x' * 1_000_000)")
    assert EXAMPLE["passes"]("x = 1\n" * 50_000)
