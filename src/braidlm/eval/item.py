"""Items of recall tasks: a long text and questions about it, as token ids."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Question:
    """Question that follows a haystack, its answer, and where the answer stands.

    `depth` is from 0, the beginning of the haystack, to 1, its end; None if the answer depends on the whole haystack.
    """

    prompt: tuple[int, ...]
    answer: tuple[int, ...]
    depth: float | None


@dataclass(frozen=True, slots=True)
class Item:
    """Haystack and its questions: each follows the haystack alone, and no question sees another."""

    haystack: tuple[int, ...]
    questions: tuple[Question, ...]

    @property
    def tokens(self) -> int:
        """Number of tokens of the haystack with the longest question and its answer."""
        return len(self.haystack) + max(len(one.prompt) + len(one.answer) for one in self.questions)
