"""Quality of a model beside its donor: likelihood of text, divergence, recall, checked generation, answers."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from ...api.language_model import LanguageModel
from ...eval.divergence import divergence
from ...eval.generation import GenerationScore, answer, generation, prompts
from ...eval.item_maker import ItemMaker
from ...eval.likelihood import likelihood
from ...eval.recall import RecallScore, recall
from ...eval.tasks import items
from .settings import Report


def text_of(model: LanguageModel, donor: LanguageModel, texts: Sequence[Tensor]) -> dict[str, Any]:
    """Perplexity of texts, whole and by position; of other models than the donor their divergence from it too."""
    if model is donor:
        likely = likelihood(model, texts)
        return {**likely.whole._asdict(), "buckets": [bucket._asdict() for bucket in likely.buckets]}
    found = divergence(model, donor, texts)
    return {**found.whole._asdict(), "buckets": [bucket._asdict() for bucket in found.buckets]}


def recall_of(model: LanguageModel, settings: Report, task: str, length: int) -> dict[str, Any]:
    """Recall of one task at one length, whole and by depth."""
    maker = ItemMaker(model.tokenizer, model.spec.vocab)
    asked = list(items(task, maker, length, settings.haystacks, depths=settings.recall_depths))
    found = recall(model, asked)
    depths = [{"depth": depth, **_recall(score)} for depth, score in found.by_depth.items()]
    return {**_recall(found.whole), "depths": depths}


def _recall(score: RecallScore) -> dict[str, Any]:
    return {**score._asdict(), "interval": list(score.interval)}


def generation_of(model: LanguageModel, settings: Report) -> dict[str, Any]:
    """Share of greedy answers that keep their prompt's rule, whole and by the kind of rule."""
    found = generation(model, prompts(settings.generation_prompts), max_tokens=settings.answer_tokens)
    kinds = {kind: _generation(score) for kind, score in found.by_kind.items()}
    return {**_generation(found.whole), "kinds": kinds}


def _generation(score: GenerationScore) -> dict[str, Any]:
    return {**score._asdict(), "interval": list(score.interval)}


def answers_of(model: LanguageModel, settings: Report) -> dict[str, Any]:
    """Greedy answers to the prompts that stand side by side."""
    texts = answer(model, settings.prompts, max_tokens=settings.answer_tokens)
    return {
        "answers": [{"prompt": prompt, "answer": text} for prompt, text in zip(settings.prompts, texts, strict=True)]
    }
