"""Settings of the report: how much of each measurement is made."""

from dataclasses import dataclass
from typing import Annotated

from ...eval.tasks import TASKS
from ...system.settings import Setting, check_settings, require_value

PARTS = ("text", "recall", "generation", "state", "speed", "answers")

PROMPTS = (
    "Who are you, and what can you help me with?",
    "Explain in three sentences why the sky is blue.",
    "Write a short letter to a neighbour who has found my cat.",
    "Give me a simple recipe for tomato soup.",
    "List four things to check before a long journey by bicycle.",
    "What is the difference between a planet and a star?",
    "Translate into French: Good morning, I would like two tickets to Paris.",
    "I have 12 apples, give away 5 and buy 8. How many are there now?",
    "Write a Python function that tells whether a word is a palindrome.",
    "Begin a story about a lighthouse keeper who hears music at night.",
)


def _are_positive(values: tuple[int, ...]) -> bool:
    return all(value > 0 for value in values)


@dataclass(frozen=True, kw_only=True)
class Report:
    """Settings of the report."""

    parts: Annotated[
        tuple[str, ...],
        Setting(
            f"Measurements that are made: {', '.join(PARTS)}.",
            valid=lambda parts: set(parts) <= set(PARTS),
            right=f"a list of {', '.join(PARTS)}",
        ),
    ] = PARTS
    tokens: Annotated[int, Setting("Number of held-out tokens that every model reads.", least=2)] = 32_768
    seq_len: Annotated[int, Setting("Length of their sequences in tokens.", least=2)] = 1024
    control_window: Annotated[
        int, Setting("Window of the untrained control in blocks whose new mixer has none, in tokens.", least=1)
    ] = 256
    recall_tasks: Annotated[
        tuple[str, ...],
        Setting(
            "Tasks of recall.",
            valid=lambda names: set(names) <= set(TASKS),
            right=f"a list of {', '.join(TASKS)}",
        ),
    ] = ("needle", "phonebook")
    recall_lengths: Annotated[
        tuple[int, ...],
        Setting("Lengths of haystacks in tokens.", valid=_are_positive, right="a list of whole numbers from 1"),
    ] = (1024, 4096)
    recall_depths: Annotated[
        tuple[float, ...],
        Setting(
            "Depths of facts in a haystack.",
            valid=lambda depths: len(depths) > 0 and all(0 <= depth <= 1 for depth in depths),
            right="a list of numbers from 0.0 (the beginning) to 1.0 (the end)",
        ),
    ] = (0.0, 0.25, 0.5, 0.75, 1.0)
    haystacks: Annotated[int, Setting("Number of haystacks of each task and length.", least=1)] = 8
    generation_prompts: Annotated[int, Setting("Number of prompts whose answers are checked.", least=1)] = 64
    lengths: Annotated[
        tuple[int, ...],
        Setting(
            "Lengths in tokens at which state and decode speed are measured.",
            valid=_are_positive,
            right="a list of whole numbers from 1",
        ),
    ] = (1024, 8192, 32_768)
    speed_tokens: Annotated[int, Setting("Number of tokens decoded at each length.", least=4)] = 32
    speed_rounds: Annotated[int, Setting("Number of rounds in which all models take turns.", least=1)] = 5
    speed_seconds: Annotated[
        float, Setting("Time in seconds that a model may take to read a context; it is left out beyond.", above=0)
    ] = 600.0
    prompts: Annotated[tuple[str, ...], Setting("Prompts whose answers stand side by side.", unset="ten of ours")] = (
        PROMPTS
    )
    answer_tokens: Annotated[int, Setting("Maximum number of tokens of an answer.", least=1)] = 128

    def __post_init__(self) -> None:
        check_settings(self, "report")
        for length in self.lengths:
            name, right = "report.lengths", f"lengths above report.speed_tokens + 1 = {self.speed_tokens + 1}"
            require_value(length > self.speed_tokens + 1 or "speed" not in self.parts, name, self.lengths, right)
