"""Likelihood of text: by its definition, by position, whatever the batches, and in bits a byte."""

import math

import pytest
import torch
import torch.nn.functional as F

import braidlm
from braidlm.api.loading import read_tokenizer
from braidlm.checkpoints import embedded
from braidlm.errors import ContextLengthError, InputError
from braidlm.eval.divergence import divergence
from braidlm.eval.likelihood import likelihood, text_bytes
from braidlm.eval.positions import buckets
from braidlm.eval.reader import Reader, RecordedReader
from braidlm.eval.sequences import batches, passes, windows
from tests.checkpoints.gguf_files import refused
from tests.quant.small import model_of
from tests.tolerances import RELATIVE_LOGITS

LENGTHS = (700, 300, 150, 2, 40)
CLOSE = {"rel": RELATIVE_LOGITS[torch.float32]}


def sequences_for(vocab: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randint(vocab, (length,), generator=generator) for length in LENGTHS]


@pytest.mark.parametrize("family", ["llama", "mamba", "hymba", "stripedhyena"])
def test_by_definition(family: str) -> None:
    """Oracle: torch's cross-entropy of whole sequences, each in one pass of its own, by position."""
    model = model_of(family)
    sequences = sequences_for(model.spec.vocab)
    told: list[tuple[int, int]] = []
    found = likelihood(model, sequences, lambda *counts: told.append(counts))
    nats = [F.cross_entropy(model.forward(row[None])[0].detach()[:-1], row[1:], reduction="none") for row in sequences]
    assert told == [(done, 5) for done in range(1, 6)]
    assert [(part.first, part.last) for part in found.buckets] == [(0, 31), (32, 127), (128, 511), (512, 698)]
    for part in (found.whole, *found.buckets):
        mean = float(torch.cat([row[part.first : part.last + 1] for row in nats]).mean())
        assert part.tokens == sum(len(row[part.first : part.last + 1]) for row in nats)
        assert part.nats == pytest.approx(mean, **CLOSE)
        assert part.perplexity == pytest.approx(math.exp(mean), rel=1e-3)


def test_a_network_is_read_as_its_language_model_is() -> None:
    """Oracle: the same call with the `LanguageModel` around the network, also after a change of weights."""
    model, other = model_of("bamba"), model_of("bamba")
    sequences = sequences_for(model.spec.vocab)[1:]
    assert likelihood(model.network, sequences) == likelihood(model, sequences)
    with torch.no_grad():
        next(iter(model.network.blocks[0].mixer.parameters())).mul_(1.5)
    changed = divergence(model.network, other.network, sequences).whole
    assert changed == divergence(model, other, sequences).whole
    assert changed.divergence > 0
    assert changed.reference_perplexity == likelihood(other, sequences).whole.perplexity


def test_divergence_has_a_direction() -> None:
    """Oracle: KL(reference || model) from whole logits; the other direction differs."""
    model, reference = model_of("mamba2"), braidlm.build(model_of("mamba2").spec, seed=2)
    row = torch.randint(model.spec.vocab, (60,), generator=torch.Generator().manual_seed(3))
    ours, theirs = (one.forward(row[None])[0, :-1].double().log_softmax(-1) for one in (model, reference))
    expected = F.kl_div(ours, theirs, log_target=True, reduction="none").sum(-1).mean()
    other = F.kl_div(theirs, ours, log_target=True, reduction="none").sum(-1).mean()
    found = divergence(model, reference, [row]).whole.divergence
    assert found == pytest.approx(float(expected), rel=1e-3)
    assert abs(found - float(other)) > 10 * abs(found - float(expected))


def test_a_reference_is_read_once() -> None:
    """Oracle: the same divergence without a record; the number of tokens that were run."""
    first, second, reference = (braidlm.build(model_of("hymba").spec, seed=seed) for seed in (1, 2, 3))
    sequences = sequences_for(reference.spec.vocab)
    recorded = RecordedReader(reference)
    for _ in range(2):
        assert divergence(first, recorded, sequences) == divergence(first, reference, sequences)
        assert divergence(second.network, recorded, sequences[1:]) == divergence(second, reference, sequences[1:])
    whole = sum(len(sequence) - 1 for sequence in sequences)
    # Without the long sequence the others are the same batch.
    assert recorded.computed == whole


def test_logits_are_made_of_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: the same likelihood with logits of three tokens at a time, and never more."""
    model = model_of("llama")
    sequences = sequences_for(model.spec.vocab)[:2]
    expected = likelihood(model, sequences)
    monkeypatch.setattr("braidlm.eval.reader._LOGITS", 3 * model.spec.vocab)
    sizes = [part.stop - part.start for part in Reader(model).slices(10)]
    assert sizes == [3, 3, 3, 1]
    assert likelihood(model, sequences).whole.nats == pytest.approx(expected.whole.nats, **CLOSE)


def test_batches_and_passes() -> None:
    """Oracle: by hand."""
    rows = [torch.arange(length) for length in (3, 4, 9, 2)]
    assert [[len(row) for row in batch] for batch in batches(rows, 8)] == [[3, 4], [9], [2]]
    long = list(passes([torch.arange(9)], 4))
    assert [part.rows[0].tolist() for part in long] == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert [part.targets_T.tolist() for part in long] == [[1, 2, 3, 4], [5, 6, 7, 8]]
    (both,) = passes([torch.tensor([5, 6]), torch.tensor([7, 8, 9])], 8)
    assert (both.targets_T.tolist(), both.positions_T.tolist()) == ([6, 8, 9], [0, 0, 1])
    assert list(buckets(200)) == [(0, 32), (32, 128), (128, 200)]


def test_bits_per_byte() -> None:
    """Oracle: a model without knowledge spends log2(vocabulary) bits on each token."""
    tokenizer = read_tokenizer(embedded.NAME)
    assert tokenizer is not None
    ids = tokenizer.encode("In the beginning God created the heaven and the earth. Naïve café.")
    sequences = windows(ids, None, 100)
    counted = text_bytes(tokenizer, sequences)
    assert counted == len(tokenizer.decode(ids[1:]).encode())
    spec = braidlm.ModelSpec.from_json(model_of("mamba").spec.to_json() | {"vocab": 4096, "tied": False})
    model = braidlm.build(spec, seed=0)
    with torch.no_grad():
        model.network.head.weight.zero_()
    found = likelihood(model, sequences)
    assert found.whole.perplexity == pytest.approx(4096, **CLOSE)
    assert found.bits_per_byte(counted) == pytest.approx(12 * (len(ids) - 1) / counted, **CLOSE)


def test_bytes_of_characters_in_pieces() -> None:
    """Oracle: the whole text decoded up to each token: a character's bytes are those of the token that completes it."""
    tokenizer = read_tokenizer(embedded.NAME)
    assert tokenizer is not None
    text = "天地玄黃,宇宙洪荒。日月盈昃,辰宿列張。" * 3
    ids = tokenizer.encode(text)
    assert len(ids) > len(text)  # most characters are several tokens
    sequences = windows(ids, None, 8)
    kept = ids[: 8 * len(sequences)]
    ends = [len(tokenizer.decode(kept[:end]).rstrip("\ufffd").encode()) for end in range(len(kept) + 1)]
    ends[-1] = len(tokenizer.decode(kept).encode())
    expected = sum(ends[n + 1] - ends[n] for n in range(len(kept)) if n % 8)
    assert text_bytes(tokenizer, sequences) == expected
    (whole,) = windows(ids, None, len(ids))
    assert text_bytes(tokenizer, [whole]) == len(text.encode()) - ends[1]


def test_refusals() -> None:
    """Oracle: the sentences."""
    model, other = model_of("mamba"), braidlm.ModelSpec.from_json(model_of("mamba").spec.to_json() | {"vocab": 77})
    row = torch.arange(9)
    refused(lambda: likelihood(model, [row, row[:1]]), InputError, "fewer than 2 tokens")
    refused(lambda: likelihood(model, []), InputError, "fewer than 2 tokens")
    refused(lambda: divergence(braidlm.build(other), model, [row]), InputError, "77", str(model.spec.vocab))
    refused(lambda: likelihood(model, [row]).bits_per_byte(0), InputError, "at least one byte")
    short = braidlm.ModelSpec.from_json(model.spec.to_json() | {"max_positions": 8})
    refused(lambda: likelihood(braidlm.build(short), [torch.arange(20)]), ContextLengthError, "19", "8")
