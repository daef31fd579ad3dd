"""Generation that can be checked: prompts with rules for the answer, and short questions, answered greedily.

Perplexity can flatter a changed model; what it writes by itself cannot.
"""

from collections.abc import Sequence
from random import Random
from typing import NamedTuple

from ..api.language_model import LanguageModel
from ..errors import InputError
from ..system.progress import ProgressFunction
from .rules import RULES, Rule, topic
from .scores import Interval, grouped, wilson
from .short_questions import short_questions

# Prompts that are answered at once.
_TOGETHER = 16


class Prompt(NamedTuple):
    """Prompt of a generation task, and the rule for its answer."""

    text: str
    rule: Rule


class CheckedAnswer(NamedTuple):
    """Prompt, its rule's kind, the answer, and whether it keeps the rule."""

    prompt: str
    kind: str
    text: str
    passed: bool


class GenerationScore(NamedTuple):
    """Share of answers that keep their rules, with its interval at 95%."""

    answers: int
    passed: float
    interval: Interval


class GenerationReport(NamedTuple):
    """Answers to all prompts."""

    answers: tuple[CheckedAnswer, ...]

    @property
    def whole(self) -> GenerationScore:
        """Score of all answers."""
        return _score(self.answers)

    @property
    def by_kind(self) -> dict[str, GenerationScore]:
        """Score of each kind of rule."""
        return {kind: _score(answers) for kind, answers in grouped(self.answers, lambda one: one.kind).items()}


def prompts(count: int, seed: int = 0) -> list[Prompt]:
    """Makes prompts: every fourth is a short question, the others ask for each kind of rule in turn."""
    made, questions = [], short_questions(Random(f"short questions {seed}"))
    for number in range(count):
        rng = Random(f"generation {seed} {number}")
        if number % 4 == 3:
            question, rule = next(questions)
        else:
            question, rule = topic(rng), RULES[(number - number // 4) % len(RULES)](rng)
        made.append(Prompt(f"{question} {rule.request}", rule))
    return made


def generation(
    model: LanguageModel, prompts: Sequence[Prompt], progress: ProgressFunction | None = None, *, max_tokens: int = 128
) -> GenerationReport:
    """Answers prompts greedily, some at a time in one batch, and checks the answers.

    Prompts go through the chat template if there is one. `progress(done, total)` is called for each batch.
    """
    answers: list[CheckedAnswer] = []
    for begin in range(0, len(prompts), _TOGETHER):
        part = prompts[begin : begin + _TOGETHER]
        for one, text in zip(part, answer(model, [one.text for one in part], max_tokens=max_tokens), strict=True):
            answers.append(CheckedAnswer(one.text, one.rule.kind, text, one.rule.holds(text.strip())))
        if progress is not None:
            progress(len(answers), len(prompts))
    return GenerationReport(tuple(answers))


def answer(model: LanguageModel, texts: Sequence[str], *, max_tokens: int = 128) -> list[str]:
    """Greedy answers to prompts in one batch, through the chat template if there is one."""
    if model.tokenizer is None:
        raise InputError("answers are texts, but the model has no tokenizer")
    stop = () if _chats(model) else ("\nQuestion:",)
    made: list[str] = model.generate([_ids(model, text) for text in texts], max_tokens=max_tokens, stop=stop)
    return made


def _ids(model: LanguageModel, text: str) -> list[int]:
    """Token ids of a prompt: of a chat, or of a text to go on with where there is no chat template."""
    if _chats(model):
        return model.encode([{"role": "user", "content": text}])
    return model.encode(f"Question: {text}\nAnswer:")


def _chats(model: LanguageModel) -> bool:
    return model.tokenizer is not None and model.tokenizer.chat_template is not None


def _score(answers: Sequence[CheckedAnswer]) -> GenerationScore:
    if not answers:
        raise InputError("there are no answers to score")
    passed = sum(one.passed for one in answers)
    return GenerationScore(len(answers), passed / len(answers), wilson(passed, len(answers)))
