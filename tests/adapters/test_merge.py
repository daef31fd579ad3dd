"""`braid merge`: a model with an adapter in its weights."""

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM
from typer.testing import CliRunner, Result

import braidlm
from braidlm.adapters import Lora, StateTuning, attach, attach_initial, detach_initial, save_adapter, save_initial
from braidlm.adapters.targets import target_weights
from braidlm.checkpoints.embedded import DIRECTORY
from braidlm.cli.main import app
from braidlm.text.tokenizer import Tokenizer
from tests.adapters.models import SEEDS, close, stirred
from tests.families.tiny import TINY, tiny
from tests.tolerances import RELATIVE_LOGITS

# Of a function that transformers renames.
pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")

IDS = torch.arange(40).reshape(2, 20) * 7 % 97


def braid(*arguments: Any) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def merged(*arguments: Any) -> dict[str, Any]:
    """What a command that succeeds reports."""
    done = braid("merge", *arguments, "--json")
    assert done.exit_code == 0, done.exception
    return json.loads(done.stdout.splitlines()[-1])


def adapted(family: str, place: Path, **options: Any) -> braidlm.LanguageModel:
    """A model in `place`/base, and an adapter for it that looks trained in `place`/adapter."""
    braidlm.build(tiny(family, SEEDS.get(family, 1))).save(place / "base")
    language = braidlm.load(place / "base")
    every = tuple(
        p.name for p in target_weights(language.network) if p.name != "embed" or language.network.head is not None
    )
    adapters = stirred(attach(language.network, Lora(**{"rank": 3, "alpha": 5.0, "target_modules": every} | options)))
    save_adapter(adapters, place / "adapter")
    adapters.detach()
    return language


@pytest.mark.parametrize("family", TINY)
def test_merged_is_base_and_adapter(family: str, tmp_path: Path) -> None:
    """Oracles: logits of the base with the adapter; W + scale B A in float32, bit for bit; the base's tensor names."""
    language = adapted(family, tmp_path)
    changed = merged(tmp_path / "base", tmp_path / "adapter", tmp_path / "out")["changed"]
    out = braidlm.load(tmp_path / "out")
    language.load_adapter("it", tmp_path / "adapter")
    close(out.forward(IDS), language.using("it").forward(IDS), RELATIVE_LOGITS[torch.float32])
    assert float((out.forward(IDS) - language.forward(IDS)).abs().max()) > 1e-3
    found, wanted = (load_file(tmp_path / name / "model.safetensors") for name in ("out", "base"))
    assert {name: t.shape for name, t in found.items()} == {name: t.shape for name, t in wanted.items()}
    weights, plain = dict(out.network.named_parameters()), dict(language.network.named_parameters())
    adapters = {p.full_name: p.adapter for p in target_weights(language.using("it").network) if p.adapter is not None}
    for name, weight in plain.items():
        adapter = adapters.get(name)
        expected = weight if adapter is None else weight + adapter.up @ adapter.down * adapter.scale
        assert torch.equal(weights[name], expected), name
    assert sum(changed.values()) == len(adapters)
    assert out.origin.config.keys() == language.origin.config.keys()


@pytest.mark.parametrize("dora", [False, True])
def test_merged_as_peft_merges(dora: bool, tmp_path: Path) -> None:
    """Oracle: peft's own merging, tensor by tensor, in transformers' model."""
    targets = ("q_proj", "o_proj", "down_proj", *(() if dora else ("lm_head", "embed_tokens")))
    adapted("llama", tmp_path, target_modules=targets, dora=dora, rslora=dora)
    merged(tmp_path / "base", tmp_path / "adapter", tmp_path / "out")
    reference = AutoModelForCausalLM.from_pretrained(tmp_path / "base", dtype=torch.float32)
    wanted = PeftModel.from_pretrained(reference, tmp_path / "adapter").merge_and_unload().state_dict()
    for name, tensor in load_file(tmp_path / "out" / "model.safetensors").items():
        torch.testing.assert_close(tensor, wanted[name])


def test_a_learned_state_stays_beside(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    """Oracles: the base with both; no warning of other weights, since the state is written anew for the merged ones."""
    language = adapted("mamba2", tmp_path)
    initial = attach_initial(language.network, StateTuning())
    with torch.no_grad():
        for parameter in initial.parameters():
            parameter += torch.randn(parameter.shape, generator=torch.Generator().manual_seed(2))
    save_initial(language.network, tmp_path / "initial.safetensors")
    detach_initial(language.network)
    told = braid("merge", tmp_path / "base", tmp_path / "adapter", tmp_path / "without")
    assert "initial.safetensors beside" in told.stderr and "--state keeps it" in told.stderr
    merged(tmp_path / "base", tmp_path / "adapter", tmp_path / "out", "--state", tmp_path / "initial.safetensors")
    language.load_adapter("it", tmp_path / "adapter")
    language.load_initial_state("it", tmp_path / "initial.safetensors")
    out = braidlm.load(tmp_path / "out")
    out.load_initial_state("it", tmp_path / "out" / "initial.safetensors")
    wanted = language.using("it", "it").forward(IDS)
    close(out.using(None, "it").forward(IDS), wanted, RELATIVE_LOGITS[torch.float32])
    assert not [str(note.message) for note in recwarn if "other weights" in str(note.message)]


def test_the_card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracles: the base's fingerprint; the card's command, run there, writes what the base does with both."""
    base, state = tmp_path / "base", tmp_path / "initial.safetensors"
    mamba = braidlm.spec.Block(mixer=braidlm.spec.Mamba2(heads=4, head_dim=8, d_state=4))
    language = braidlm.build(braidlm.ModelSpec(vocab=4096, width=32, blocks=(mamba,), norm=tiny("llama", 1).norm))
    language.tokenizer = Tokenizer.from_directory(DIRECTORY)
    language.save(base, "braidlm")
    adapters = stirred(attach(language.network, Lora(rank=2)))
    save_adapter(adapters, tmp_path / "adapter")
    adapters.detach()
    attach_initial(language.network, StateTuning())
    save_initial(language.network, state)
    detach_initial(language.network)
    monkeypatch.chdir(tmp_path)
    merged("base", "adapter", "out", "--state", state)
    monkeypatch.chdir(tmp_path / "out")
    card = Path("README.md").read_text()
    assert f"| base | {base} |" in card and f"| base weights | {language.network.weights.base_fingerprint()} |" in card
    (command,) = re.findall(r"```sh\nbraid (.*)\n```", card)
    found = braid(*shlex.split(command), "--max-tokens", 8)
    wanted = braid("generate", base, "Once upon a time", "--adapter", "../adapter", "--state", state, "--max-tokens", 8)
    assert found.exit_code == wanted.exit_code == 0
    assert found.stdout == wanted.stdout


def test_models_without_a_published_layout(tmp_path: Path) -> None:
    """Oracle: logits of the base with the adapter; a layout that cannot hold the model is refused."""
    block = braidlm.spec.Block(mixer=braidlm.spec.Hyena(d_state=2, filters=8))
    mamba = braidlm.spec.Block(mixer=braidlm.spec.Mamba2(heads=4, head_dim=8, d_state=4))
    language = braidlm.build(braidlm.ModelSpec(vocab=97, width=32, blocks=(block, mamba), norm=tiny("llama", 1).norm))
    language.save(tmp_path / "base", "braidlm")
    adapters = stirred(attach(language.network, Lora(rank=2)))
    save_adapter(adapters, tmp_path / "adapter")
    wanted = language.forward(IDS).detach()
    assert merged(tmp_path / "base", tmp_path / "adapter", tmp_path / "out")["format"] == "braidlm"
    close(braidlm.load(tmp_path / "out").forward(IDS), wanted, RELATIVE_LOGITS[torch.float32])
    refused = braid("merge", tmp_path / "base", tmp_path / "adapter", tmp_path / "hf", "--format", "hf")
    assert isinstance(refused.exception, braidlm.errors.BraidError)
    assert not (tmp_path / "hf").exists()


def test_what_cannot_be_merged(tmp_path: Path) -> None:
    """Oracle: one sentence each; nothing is written, and what was there stays."""
    language = adapted("llama", tmp_path)
    language.quantize("int8")
    language.save(tmp_path / "int8", "braidlm")
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "mine.txt").write_text("mine")
    (tmp_path / "state.safetensors").write_bytes(b"")
    base, adapter = tmp_path / "base", tmp_path / "adapter"
    tied = braidlm.build(next(spec for spec in (tiny("mamba2", n) for n in range(9)) if spec.tied))
    tied.save(tmp_path / "other")
    save_adapter(stirred(attach(tied.network, Lora(rank=2, target_modules="embed"))), tmp_path / "embed")
    for arguments, words in (
        ((base, adapter, tmp_path / "taken"), "exists already and is not empty"),
        ((base, tmp_path / "state.safetensors", tmp_path / "out"), "is a file, but an adapter is a directory"),
        ((base, tmp_path / "base", tmp_path / "out"), "is no adapter: it has no adapter_config.json"),
        ((tmp_path / "int8", adapter, tmp_path / "out"), "is quantized, and a change merged into its steps"),
        ((tmp_path / "other", adapter, tmp_path / "out"), "was made for a model of another description"),
        ((tmp_path / "other", tmp_path / "embed", tmp_path / "out"), "an embedding that is the head too"),
        ((base, adapter, tmp_path / "out", "--format", "ft"), "format is 'ft'"),
    ):
        refused = braid("merge", *arguments)
        assert isinstance(refused.exception, braidlm.errors.BraidError), arguments
        assert words in str(refused.exception)
        assert not (tmp_path / "out").exists()
    assert [file.name for file in (tmp_path / "taken").iterdir()] == ["mine.txt"]


def test_a_refused_merge_leaves_the_model(tmp_path: Path) -> None:
    """Oracle: the logits and fingerprint from before; the next adapter can be put on."""
    language = adapted("llama", tmp_path)
    language.quantize("int8")
    before, fingerprint = language.forward(IDS), language.network.weights.fingerprint()
    with pytest.raises(braidlm.errors.InputError, match="quantized"), pytest.warns(UserWarning, match="other weights"):
        language.merge_adapter(tmp_path / "adapter")
    assert torch.equal(language.forward(IDS), before)
    assert language.network.weights.fingerprint() == fingerprint
