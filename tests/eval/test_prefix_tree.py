"""Tree of common beginnings, and log-likelihoods and completions that are made with it."""

from random import Random

import pytest
import torch

from braidlm.api.language_model import LanguageModel
from braidlm.api.loading import read_tokenizer
from braidlm.checkpoints import embedded
from braidlm.errors import InputError
from braidlm.eval.completions import complete
from braidlm.eval.continuations import Continuation, score_continuations
from braidlm.eval.prefix_tree import Branch, PrefixTree
from braidlm.eval.reader import Reader
from braidlm.generation.sampling import Sampling
from tests.checkpoints.gguf_files import refused
from tests.quant.small import model_of
from tests.tolerances import RELATIVE_LOGITS


def walked(tree: PrefixTree) -> list[Branch]:
    found, waiting = [], list(tree.roots())
    while waiting:
        branch = waiting.pop()
        found.append(branch)
        waiting += tree.after(branch)
    return found


@pytest.mark.parametrize("least", [1, 2, 4])
@pytest.mark.parametrize("seed", range(50))
def test_every_sequence_is_covered_once(seed: int, least: int) -> None:
    """Oracle: each sequence's branches laid end to end; a branch of several is as long as asked and common to all."""
    rng = Random(seed)
    sequences = sorted({tuple(rng.choices(range(3), k=rng.randint(1, 9))) for _ in range(rng.randint(1, 12))})
    branches = walked(PrefixTree(sequences, least))
    for place, sequence in enumerate(sequences):
        parts = sorted(one for one in branches if one.first <= place < one.last and one.end <= len(sequence))
        parts.sort(key=lambda one: one.begin)
        assert [part.begin for part in parts] == [0, *(part.end for part in parts)][:-1]
        assert parts[-1].end == len(sequence)
    for one in branches:
        group = sequences[one.first : one.last]
        assert len({sequence[: one.end] for sequence in group}) == 1
        assert len(group) == 1 or one.end - one.begin >= least
    if least == 1:  # then no token is read twice
        prefixes = {sequence[:end] for sequence in sequences for end in range(1, len(sequence) + 1)}
        assert sum(one.end - one.begin for one in branches) == len(prefixes)


def questions(vocab: int) -> list[Continuation]:
    """Questions after common examples, with several answers each, one of them a long one; and one alone."""
    rng = Random(0)

    def draw(count: int) -> tuple[int, ...]:
        return tuple(rng.randrange(vocab) for _ in range(count))

    examples, found = draw(700), []
    for _ in range(3):
        context = examples + draw(30)
        stem = draw(20)
        found += [Continuation(context, stem + draw(count)) for count in (1, 1, 4)]
        found.append(Continuation(context, draw(2)))
    return [*found, Continuation(draw(1), draw(600)), found[0]]


@pytest.mark.parametrize("family", ["llama", "mamba", "hymba", "stripedhyena"])
def test_log_likelihoods(family: str) -> None:
    """Oracle: each context with its continuation in one pass of its own; every common part is run once."""
    model = model_of(family)
    asked, told = questions(model.spec.vocab), []
    reader = Reader(model)
    found = score_continuations(reader, asked, 5, lambda *counts: told.append(counts))
    for one, score in zip(asked, found, strict=True):
        ids = one.context + one.ids
        logs = model.forward([ids])[0].detach().double().log_softmax(-1)[len(one.context) - 1 : -1]
        target = torch.tensor(one.ids)
        expected = float(logs.gather(-1, target[:, None]).sum())
        assert score.log_likelihood == pytest.approx(expected, rel=RELATIVE_LOGITS[torch.float32])
        assert score.greedy == bool((logs.argmax(-1) == target).all())
    distinct = {one.input for one in asked}
    assert told[-1] == (len(distinct), len(distinct))
    # The examples, and for each question its rest, the stem of three answers and their ends; the text alone.
    assert reader.computed == 700 + 3 * (30 + 20 + 3 + 1) + 600
    assert sum(map(len, distinct)) > 4 * reader.computed


def test_greedy_answers() -> None:
    """Oracle: what the model itself writes."""
    model = model_of("bamba")
    ids = tuple(range(40))
    written = tuple(token.id for token in model.stream(list(ids), max_tokens=6))
    (right, wrong) = score_continuations(
        Reader(model), [Continuation(ids, written), Continuation(ids, (*written[:-1], written[-1] ^ 1))], 4
    )
    assert (right.greedy, wrong.greedy) == (True, False)
    assert right.log_likelihood > wrong.log_likelihood
    refused(lambda: score_continuations(Reader(model), [Continuation((), ids)], 4), InputError, "no context")


@pytest.mark.parametrize("family", ["llama", "bamba"])
def test_completions(family: str) -> None:
    """Oracle: each prompt's own greedy generation; what prompts begin with in common is run once."""
    plain = model_of(family)
    rng = Random(1)
    examples = [rng.randrange(plain.spec.vocab) for _ in range(300)]
    prompts = [examples + [rng.randrange(plain.spec.vocab) for _ in range(20)] for _ in range(5)]
    prompts.append([1, 2, 3])
    model = LanguageModel(plain.network, read_tokenizer(embedded.NAME), plain.origin)
    told: list[tuple[int, int]] = []
    samplings = [Sampling(max_tokens=4 + number) for number in range(6)]
    found = complete(model, prompts, samplings, parallel=3, progress=lambda *counts: told.append(counts))
    expected = [model.generate(one, max_tokens=how.max_tokens) for one, how in zip(prompts, samplings, strict=True)]
    assert found.texts == expected
    assert told == [(done, 6) for done in range(1, 7)]
    assert found.computed < 300 + 5 * 20 + 3 + sum(how.max_tokens for how in samplings) + 60
