"""What docs/evaluation.md shows."""

import re
from pathlib import Path

import pytest

from braidlm.eval.tasks import TASKS

PAGE = (Path(__file__).parents[2] / "docs" / "evaluation.md").read_text()


def test_the_example_runs(capsys: pytest.CaptureFixture[str]) -> None:
    """Oracle: the example runs from beginning to end, and prints a score of each kind."""
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    exec(code, {})  # our own text
    shown = capsys.readouterr().out
    assert all(word in shown for word in ("Divergence(", "RecallScore(", "GenerationScore("))


def test_every_task_is_described() -> None:
    """Oracle: the table of tasks."""
    assert re.findall(r"^\| `(\w+)` \| [a-z]", PAGE, re.MULTILINE) == list(TASKS)
