"""Recall: one prefill a haystack against whole texts, against greedy generation, and a planted weakness."""

from random import Random

import pytest
import torch

import braidlm
from braidlm.api.language_model import LanguageModel
from braidlm.checkpoints import embedded
from braidlm.errors import ContextLengthError, InputError
from braidlm.eval.item import Item, Question
from braidlm.eval.item_maker import ItemMaker
from braidlm.eval.recall import recall, score
from braidlm.eval.scores import grouped, wilson
from braidlm.eval.tasks import items
from tests.checkpoints.gguf_files import refused
from tests.eval.models import induction_model
from tests.quant.small import model_of
from tests.tolerances import RELATIVE_LOGITS


@pytest.fixture(scope="module")
def small() -> LanguageModel:
    """The embedded model in float32."""
    return braidlm.load(embedded.NAME, dtype="float32")


def bare(model: LanguageModel, tokens: int = 300, questions: int = 3) -> list[Item]:
    """Random items for a model without a tokenizer."""
    rng = Random(0)

    def draw(count: int) -> tuple[int, ...]:
        return tuple(rng.randrange(model.spec.vocab) for _ in range(count))

    return [
        Item(draw(tokens), tuple(Question(draw(2 + i), draw(1 + i), i / 2) for i in range(questions))) for _ in range(2)
    ]


@pytest.mark.parametrize("family", ["llama", "mamba2", "hymba", "stripedhyena"])
def test_naively(family: str) -> None:
    """Oracle: every question's whole text, haystack and all, in one pass of its own."""
    model = model_of(family)
    found = recall(model, bare(model))
    answers = iter(found.answers)
    for number, item in enumerate(bare(model)):
        for one in item.questions:
            answer = next(answers)
            logs = model.forward([item.haystack + one.prompt + one.answer])[0].detach().double().log_softmax(-1)
            logs = logs[-len(one.answer) - 1 : -1]
            target = torch.tensor(one.answer)
            nats = -logs.gather(-1, target[:, None]).mean()
            right = (logs.argmax(-1) == target).double()
            assert (answer.item, answer.depth, answer.accuracy) == (number, one.depth, float(right.mean()))
            assert answer.nats == pytest.approx(float(nats), rel=RELATIVE_LOGITS[torch.float32])
            assert answer.exact == bool(right.all())
    assert next(answers, None) is None


def test_each_haystack_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: tokens counted in the network itself: each haystack once, and each question without its last token."""
    model, counted = model_of("bamba"), []
    forward = type(model.network).forward

    def counting(self, ids_T, *args, **more):
        counted.append(len(ids_T))
        return forward(self, ids_T, *args, **more)

    monkeypatch.setattr(type(model.network), "forward", counting)
    told: list[tuple[int, int]] = []
    made = bare(model, tokens=1200, questions=5)
    found = recall(model, made, lambda *counts: told.append(counts))
    asked = sum(len(one.prompt) + len(one.answer) - 1 for item in made for one in item.questions)
    assert found.computed == sum(counted) == 2 * 1200 + asked
    assert told == [(1, 2), (2, 2)]


def test_questions_share_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: the same answers with passes of eight tokens, which hold two short questions or a long one."""
    model = model_of("bamba")
    made = bare(model, tokens=30, questions=5)
    expected = recall(model, made).answers
    monkeypatch.setattr("braidlm.eval.recall.PASS", 8)
    found = recall(model, made).answers
    assert [one[:-1] for one in found] == [one[:-1] for one in expected]
    assert [one.nats for one in found] == pytest.approx([one.nats for one in expected], rel=1e-4)


@pytest.mark.parametrize("task", ["needle", "phonebook", "multi_value", "induction"])
def test_exact_is_what_generation_writes(task: str, small: LanguageModel) -> None:
    """Oracle: greedy generation after the whole text, by tokens; questions whose answer is what the model writes."""
    made = next(items(task, ItemMaker(small.tokenizer, small.spec.vocab), 300, 1, depths=(0.2, 0.8)))
    written = [
        tuple(token.id for token in small.stream(made.haystack + one.prompt, max_tokens=len(one.answer)))
        for one in made.questions
    ]
    right = Item(made.haystack, tuple(Question(q.prompt, w, q.depth) for q, w in zip(made.questions, written)))
    for item in (made, right):
        exact = [one.exact for one in recall(small, [item]).answers]
        assert exact == [tuple(one.answer) == w for one, w in zip(item.questions, written)]
    assert recall(small, [right]).whole.exact == 1.0


def test_a_window_forgets_what_lies_before_it() -> None:
    """Oracle: a model that recalls by construction; a window of 64 keeps the end of a haystack alone."""
    vocab, rng = 500, Random(1)
    pairs = [(rng.sample(range(100, vocab), 2)) for _ in range(40)]
    keys = rng.sample(range(100), len(pairs))
    haystack = tuple(t for key, (value, other) in zip(keys, pairs) for t in (key, value, other, other))
    questions = tuple(
        Question((key,), (value,), place / len(pairs)) for place, (key, (value, _)) in enumerate(zip(keys, pairs))
    )
    item = [Item(haystack, questions)]
    whole, windowed = recall(induction_model(vocab), item), recall(induction_model(vocab, window=64), item)
    assert whole.whole.exact == 1.0
    near = score([one for one in windowed.answers if one.depth > 1 - 56 / 160])
    far = score([one for one in windowed.answers if one.depth < 1 - 64 / 160])
    assert near.exact == 1.0
    assert far.exact < 0.1 < far.nats


def test_scores() -> None:
    """Oracle: Wilson's interval of textbooks (R's binom.confint), and means by hand."""
    assert wilson(8, 10) == pytest.approx((0.4901625, 0.9433178), abs=1e-6)
    assert wilson(0, 20) == pytest.approx((0.0, 0.1611252), abs=1e-6)
    assert wilson(20, 20) == pytest.approx((0.8388748, 1.0), abs=1e-6)
    assert wilson(0, 0) == (0.0, 1.0)
    assert grouped([1, 2, 3, 4], lambda n: n % 2) == {1: [1, 3], 0: [2, 4]}
    model = model_of("mamba")
    found = recall(model, bare(model))
    assert list(found.by_depth) == [0.0, 0.5, 1.0]
    assert [one.questions for one in found.by_depth.values()] == [2, 2, 2]
    assert found.whole.questions == 6
    assert found.whole.nats == pytest.approx(sum(one.nats for one in found.answers) / 6)
    refused(lambda: score([]), InputError, "no answers")


def test_nothing_is_cut_off() -> None:
    """Oracle: the sentence, before any token is run."""
    spec = braidlm.ModelSpec.from_json(model_of("llama").spec.to_json() | {"max_positions": 304})
    model, told = braidlm.build(spec), []
    refused(lambda: recall(model, bare(model), lambda *c: told.append(c)), ContextLengthError, "307 tokens", "take 304")
    assert not told
