"""Adapter of lm-eval beside lm-eval's own adapter of transformers, on the same files."""

import json
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest

import braidlm
from braidlm.api.language_model import LanguageModel
from braidlm.checkpoints import embedded
from braidlm.checkpoints.saving import Origin
from braidlm.errors import ContextLengthError, InputError, LengthWarning
from tests.checkpoints.gguf_files import refused
from tests.eval.lm_eval_models import without_special, write_model

pytest.importorskip("lm_eval", reason="lm-eval is not installed (pip install '.[eval]')")

from lm_eval.api.instance import Instance
from lm_eval.api.registry import get_model
from lm_eval.models.huggingface import HFLM

from braidlm.eval.lm_eval import BraidLM

# Of sums of log-likelihoods in nats, in float32; `rel` counts beyond 500 nats.
CLOSE = {"abs": 1e-4, "rel": 2e-7}
FAMILIES = ("llama", "mamba", "bamba")
WORDS = "the earth was without form and void and darkness upon face of deep God said let there be light".split()


class Counted(HFLM):
    """lm-eval's adapter, counting the tokens that it gives to the model, padding among them."""

    def __init__(self, place: Path, **options: Any) -> None:
        super().__init__(str(place), device="cpu", dtype="float32", batch_size=4, **options)
        self.computed = 0
        self.model.register_forward_pre_hook(self._count, with_kwargs=True)

    def _count(self, _: Any, args: tuple, more: dict[str, Any]) -> None:
        self.computed += (args[0] if args else more["input_ids"]).numel()


@pytest.fixture(scope="module", params=FAMILIES)
def both(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Counted, BraidLM]]:
    place = write_model(request.param, tmp_path_factory.mktemp("lm_eval") / "model", start=request.param == "bamba")
    return Counted(place), BraidLM(str(place))


def words(rng: Random, count: int) -> str:
    return " ".join(rng.choice(WORDS) for _ in range(count))


def asked(kind: str, arguments: list[tuple]) -> list[Instance]:
    return [Instance(request_type=kind, doc={}, arguments=one, idx=number) for number, one in enumerate(arguments)]


def choices() -> list[tuple[str, str]]:
    """Questions after common examples, four answers each; an answer without a question; spaces before an answer."""
    rng = Random(0)
    examples, found = words(rng, 150), []
    for _ in range(4):
        question = f"{examples}\nQuestion: {words(rng, 12)}\nAnswer:"
        found += [(question, f" {words(rng, count)}") for count in (1, 1, 3, 5)]
    return [*found, ("", "the earth"), ("the earth  ", "was void")]


def limited(monkeypatch: pytest.MonkeyPatch, both: tuple[Counted, BraidLM], length: int) -> None:
    """Gives both a maximum length for one test."""
    theirs, ours = both
    monkeypatch.setattr(theirs, "_max_length", length)
    monkeypatch.setattr(ours, "max_length", length)


def test_log_likelihoods(both: tuple[Counted, BraidLM]) -> None:
    """Oracle: lm-eval's own `hf` on the same weights; it runs every context for each of its answers."""
    theirs, ours = both
    before = theirs.computed, ours.computed
    expected, found = (one.loglikelihood(asked("loglikelihood", choices()), disable_tqdm=True) for one in both)
    assert [value for value, _ in found] == pytest.approx([value for value, _ in expected], **CLOSE)
    assert [greedy for _, greedy in found] == [greedy for _, greedy in expected]
    assert 0 < ours.computed - before[1] < (theirs.computed - before[0]) / 3


def test_greedy_answers(both: tuple[Counted, BraidLM]) -> None:
    """Oracle: `hf` again, on answers that the model writes itself."""
    context = "the earth was"
    (written,) = both[1].generate_until(asked("generate_until", [(context, {"until": [], "max_gen_toks": 3})]), True)
    requests = asked("loglikelihood", [(context, written), (context, f"{written} light")])
    expected, found = (one.loglikelihood(requests, disable_tqdm=True) for one in both)
    assert [greedy for _, greedy in found] == [greedy for _, greedy in expected]
    assert [value for value, _ in found] == pytest.approx([value for value, _ in expected], **CLOSE)


def test_rolling(both: tuple[Counted, BraidLM], monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: `hf` again: texts longer than the maximum length go in windows, each token in one."""
    limited(monkeypatch, both, 64)
    texts = [(words(Random(1), 200),), (words(Random(2), 20),), ("light",)]
    expected, found = (one.loglikelihood_rolling(asked("loglikelihood_rolling", texts), True) for one in both)
    assert found == pytest.approx(expected, **CLOSE)


def test_contexts_longer_than_the_maximum(both: tuple[Counted, BraidLM], monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: `hf` again, which cuts on the left, too; we say so."""
    theirs, ours = both
    limited(monkeypatch, both, 40)
    requests = asked("loglikelihood", [(words(Random(1), 90), " light"), ("the", " earth")])
    expected = theirs.loglikelihood(requests, disable_tqdm=True)
    with pytest.warns(LengthWarning, match="1 of 2 texts lose their beginning: .* 40 tokens"):
        found = ours.loglikelihood(requests, disable_tqdm=True)
    assert [value for value, _ in found] == pytest.approx([value for value, _ in expected], **CLOSE)


def test_generation(both: tuple[Counted, BraidLM]) -> None:
    """Oracle: `hf` again: the same texts up to stop texts, the end token and the maximum number of tokens."""
    theirs, ours = both
    rng = Random(3)
    examples = words(rng, 120)
    plain = [(f"{examples}\nQ: {words(rng, 8)}\nA:", {"until": [], "max_gen_toks": 12}) for _ in range(4)]
    whole = theirs.generate_until(asked("generate_until", plain), True)
    # Stop texts that do come: a piece from the middle of each answer.
    stopped = [
        (prompt, {"until": [text[len(text) // 2 :][:3] or "x", "\n\n"], "max_gen_toks": 12, "do_sample": False})
        for (prompt, _), text in zip(plain, whole, strict=True)
    ]
    before = theirs.computed, ours.computed
    expected, found = (one.generate_until(asked("generate_until", plain + stopped), True) for one in both)
    assert found == expected
    assert len(set(expected)) > 4
    assert 0 < ours.computed - before[1] < theirs.computed - before[0]


def test_chat_template(both: tuple[Counted, BraidLM]) -> None:
    """Oracle: transformers' rendering, ready for an answer and open at the end of the last message."""
    theirs, ours = both
    chat = [{"role": "user", "content": "Light?"}, {"role": "assistant", "content": "Let there be"}]
    for ready in (True, False):
        assert ours.apply_chat_template(chat, ready) == theirs.apply_chat_template(chat, ready)
    assert ours.chat_template(True) == theirs.chat_template(True)
    assert ours.chat_template(False) is None
    assert ours.tokenizer_name and "/" not in ours.tokenizer_name
    assert ours.eot_token_id == theirs.eot_token_id and ours.prefix_token_id == theirs.prefix_token_id
    info = ours.get_model_info()
    assert info["model_num_parameters"] == theirs.get_model_info()["model_num_parameters"]
    assert json.dumps(info)


def test_registered(tmp_path: Path) -> None:
    """Oracle: lm-eval's own table, and the way in which its command line makes a model."""
    assert get_model("braid") is BraidLM
    given = {"pretrained": embedded.NAME, "max_length": 100}
    made = BraidLM.create_from_arg_obj(given, {"batch_size": 1, "device": None})
    assert (made.max_length, made.tokenizer_name) == (100, embedded.NAME)


def test_a_model_without_an_end_token() -> None:
    """Oracle: the same texts as of the engine's own tokens; without prefix_token_id the sentence says what to give."""
    model = braidlm.load(embedded.NAME)
    ids = model.encode("the earth was")
    bare = LanguageModel(model.network, without_special(model), Origin())
    requests = asked("generate_until", [("the earth was", {"until": [], "max_gen_toks": 5})])
    refused(lambda: BraidLM(bare).generate_until(requests), InputError, "no end token", "prefix_token_id")
    assert BraidLM(bare, prefix_token_id=0).generate_until(requests, True) == [bare.generate(ids, max_tokens=5)]


def test_parameters_of_a_quantized_model() -> None:
    """Oracle: the parameters of the same spec as a model in float32; quantized weights hold them all, too."""
    model = braidlm.load(embedded.NAME)
    plain = braidlm.build(model.spec).network
    count = BraidLM(model).get_model_info()["model_num_parameters"]
    assert count == sum(one.numel() for one in plain.parameters()) > 6_000_000


def test_refusals(tmp_path: Path) -> None:
    """Oracle: the sentences."""
    refused(lambda: BraidLM(embedded.NAME, dtyp="float32"), InputError, "no 'dtyp'", "mean 'dtype'?")
    for batch_size in ("many", "²", "00", "-1"):
        refused(lambda n=batch_size: BraidLM(embedded.NAME, batch_size=n), InputError, "batch_size is", "or auto")
    for name in ("max_length", "max_batch_size"):
        for value in (0, -3, "10"):
            refused(lambda n=name, v=value: BraidLM(embedded.NAME, **{n: v}), InputError, f"{name} is", "from 1")
    for token in (10**9, -5, "x"):
        refused(lambda n=token: BraidLM(embedded.NAME, prefix_token_id=n), InputError, "prefix_token_id is", "from 0")
    model = BraidLM(embedded.NAME, max_length=30)
    long = asked("loglikelihood", [("the", " earth was void" * 20)])
    refused(lambda: model.loglikelihood(long), InputError, "texts have at most 30", "max_length")
    many = asked("generate_until", [("the", {"until": ["x"], "max_gen_toks": 30})])
    refused(lambda: model.generate_until(many), InputError, "up to 30 tokens", "max_gen_toks")
    beams = asked("generate_until", [("the", {"until": ["x"], "max_gen_toks": 3, "num_beams": 4})])
    refused(lambda: model.generate_until(beams), InputError, "'num_beams'")
    refused(lambda: model.chat_template(True), InputError, "no chat template", "--apply_chat_template")
    refused(lambda: model.chat_template("tools"), InputError, "name 'tools'", "takes none")
    place = write_model("llama", tmp_path / "short")
    config = json.loads((place / "config.json").read_text()) | {"max_position_embeddings": 50}
    (place / "config.json").write_text(json.dumps(config))
    refused(lambda: BraidLM(str(place), max_length=60), ContextLengthError, "60", "50")
