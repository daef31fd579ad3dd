"""Adapters as peft's files: written here and read there, and the other way round."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModelForCausalLM

import braidlm
from braidlm.adapters import Lora, attach, load_adapter, save_adapter
from braidlm.errors import BraidError
from tests.adapters.models import SEEDS, close, logits, small, stirred
from tests.families.tiny import TINY, tiny
from tests.tolerances import RELATIVE_LOGITS

# Of functions that transformers renames, and embeddings whose copies peft saves.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore:Setting .save_embedding_layers. to:UserWarning"),
]

# What peft can adapt so that transformers computes it: it refuses out_proj of Mamba and Mamba-2, and their code takes
# the weight of Mamba's dt_proj as it is.
PEFT = {
    "mamba": ("in_proj", "x_proj"),
    "mamba2": ("in_proj",),
    "llama": ("lm_head", "embed_tokens", "q_proj", "v_proj", "o_proj", "gate_proj", "down_proj"),
    "bamba": ("in_proj", "out_proj", "k_proj", "o_proj", "up_proj"),
    "granitemoehybrid": ("in_proj", "out_proj", "q_proj", "input_linear", "output_linear"),
}
PARAMETERS = ("block_sparse_moe.experts.gate_up_proj", "block_sparse_moe.experts.down_proj")
IDS = torch.arange(40).reshape(2, 20) * 7 % 97


def published(family: str, place: Path) -> tuple[braidlm.LanguageModel, Any]:
    """The same model here and in transformers, in float32."""
    language = braidlm.build(tiny(family, SEEDS.get(family, 1)))
    language.save(place)
    return braidlm.load(place), AutoModelForCausalLM.from_pretrained(place, dtype=torch.float32).eval()


def logits_in_peft(model: Any) -> Tensor:
    """transformers' logits."""
    with torch.no_grad():
        found: Tensor = model(input_ids=IDS).logits
    return found


def logits_here(language: braidlm.LanguageModel) -> Tensor:
    """Our logits."""
    with torch.no_grad():
        found: Tensor = language.forward(IDS)
    return found


@pytest.mark.parametrize("dora", [False, True])
@pytest.mark.parametrize("family", PEFT)
def test_peft_reads_what_is_saved(family: str, dora: bool, tmp_path: Path) -> None:
    """Oracle: peft on transformers' model, from the files written here."""
    language, model = published(family, tmp_path / "base")
    plain = [name for name in PEFT[family] if not (dora and name in ("embed_tokens", "lm_head"))]
    bare = () if dora or family != "granitemoehybrid" else (*PARAMETERS, "router")
    config = Lora(rank=3, alpha=5.0, target_modules=(*plain, *bare), dora=dora, rslora=dora)
    adapters = stirred(attach(language.network, config))
    save_adapter(adapters, tmp_path / "adapter")
    wanted = logits_here(language)
    found = logits_in_peft(PeftModel.from_pretrained(model, tmp_path / "adapter"))
    close(found, wanted, RELATIVE_LOGITS[torch.float32])
    adapters.detach()
    assert float((logits_here(language) - wanted).abs().max()) > 0.01 * float(wanted.abs().max())


@pytest.mark.parametrize("dora", [False, True])
@pytest.mark.parametrize("family", PEFT)
def test_files_of_peft_are_read(family: str, dora: bool, tmp_path: Path) -> None:
    """Oracle: peft on transformers' model, which wrote the files."""
    language, model = published(family, tmp_path / "base")
    plain = [name for name in PEFT[family] if not (dora and name in ("embed_tokens", "lm_head"))]
    bare = list(PARAMETERS) if family == "granitemoehybrid" and not dora else None
    # Ranks of their own for some, by a pattern.
    config = LoraConfig(r=4, lora_alpha=6, target_modules=plain, use_dora=dora, target_parameters=bare)
    config.rank_pattern, config.alpha_pattern = {rf".*\.1\..*{plain[-1]}": 2, plain[0]: 5}, {plain[0]: 3}
    torch.manual_seed(0)
    tuned = get_peft_model(model, config).eval()
    for name, parameter in tuned.named_parameters():
        if "lora_" in name:
            parameter.data += 0.1 * torch.randn(parameter.shape)
    tuned.save_pretrained(tmp_path / "adapter")
    load_adapter(language.network, tmp_path / "adapter").put_on()
    close(logits_here(language), logits_in_peft(tuned), RELATIVE_LOGITS[torch.float32])


@pytest.mark.parametrize("dora", [False, True])
@pytest.mark.parametrize("family", TINY)
def test_round_trip(family: str, dora: bool, tmp_path: Path) -> None:
    """Oracle: the adapter that was saved, bit for bit in what it holds, with ranks as they were."""
    model = small(family, torch.float32)
    config = Lora(rank=3, dora=dora, target_modules=DORA[family] if dora else "all")
    adapters = stirred(attach(model, config))
    wanted = logits(model)
    save_adapter(adapters, tmp_path / "adapter")
    adapters.detach()
    again = load_adapter(model, tmp_path / "adapter")
    again.put_on()
    assert again.by_target.keys() == adapters.by_target.keys()
    for name, adapter in adapters.by_target.items():
        for part, values in adapter.state_dict().items():
            assert torch.equal(again.by_target[name].state_dict()[part], values), f"{name}.{part}"
    close(logits(model), wanted, RELATIVE_LOGITS[torch.float32])


DORA = {
    "mamba": ("in_proj", "dt_proj"),
    "falcon_mamba": ("in_proj", "dt_proj"),
    "mamba2": ("in_proj",),
    "stripedhyena": ("in_proj", "q_proj", "v_proj"),
    "hymba": ("k_proj", "ssm.in_proj"),
    "bamba": ("in_proj", "up_proj"),
    "granite": ("q_proj", "down_proj"),
    "granitemoehybrid": ("in_proj", "shared.gate_proj"),
    "llama": ("q_proj",),
    "mistral": ("q_proj",),
}


def test_for_other_weights(tmp_path: Path) -> None:
    """Oracle: a warning that names the adapter where only the weights differ."""
    save_adapter(stirred(attach(small("mamba"), Lora(target_modules="x_proj"))), tmp_path / "adapter")
    with pytest.warns(UserWarning, match="made for other weights"):
        load_adapter(small("mamba", torch.float32), tmp_path / "adapter")


Damage = Callable[[dict[str, Any], dict[str, Tensor]], object]
REFUSED: dict[str, tuple[Damage, str]] = {
    "unknown option": (lambda about, _: about.update(use_qalora=True), "use_qalora=True"),
    "modules to save": (lambda about, _: about.update(modules_to_save=["head"]), "modules_to_save"),
    "bias": (lambda about, _: about.update(bias="all"), "bias='all'"),
    "other method": (lambda about, _: about.update(peft_type="LOHA"), "type 'LOHA'"),
    "changed base": (lambda about, _: about.update(init_lora_weights="pissa"), "init_lora_weights='pissa'"),
    "rank": (lambda about, _: about.update(r=5), r"\[4, .*shape \[5, "),
    "no rank": (lambda about, _: about.pop("r"), "has a value that no adapter has"),
    "bad pattern": (lambda about, _: about.update(rank_pattern={"(": 3}), "has a value that no adapter has"),
    "a flag in words": (
        lambda about, _: about.update(use_dora="false"),
        "use_dora is 'false', but must be true or fal",
    ),
    "an empty flag": (lambda about, _: about.update(use_rslora=[]), r"use_rslora is \[\], but must be true or false"),
    "alpha in words": (lambda about, _: about.update(lora_alpha="8"), "lora_alpha is '8', but must be a finite number"),
    "true for a number": (lambda about, _: about.update(lora_dropout=True), "lora_dropout is True, but must be a fin"),
    "patterns in a list": (lambda about, _: about.update(rank_pattern=[]), r"rank_pattern is \[\], but must be an obj"),
    "a pattern without end": (
        lambda about, _: about.update(rank_pattern={"(a+)+$": 3}),
        "with at most 3 repetitions, none of them of a group",
    ),
    "many repetitions": (lambda about, _: about.update(alpha_pattern={".*.*.*.*x": 3}), "at most 3 repetitions"),
    "a long pattern": (lambda about, _: about.update(rank_pattern={"x" * 2000: 3}), "at most 1000 characters"),
    "missing part": (lambda _, tensors: tensors.pop(max(tensors)), "lora_B.weight is missing"),
    "missing place": (
        lambda _, tensors: [tensors.pop(name) for name in list(tensors) if ".1." in name],
        "layers.1.*lora_A.weight is missing",
    ),
    "extra tensor": (lambda _, tensors: tensors.update(more=torch.zeros(2)), "tensor more .*belongs to no projection"),
    "magnitude": (
        lambda _, tensors: tensors.update(
            {max(tensors).replace("lora_B.weight", "lora_magnitude_vector"): torch.ones(1)}
        ),
        "not part of what its config describes",
    ),
    "other target": (lambda about, _: about["target_modules"].append("gate"), "'gate', which this model does not"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refusals(case: str, tmp_path: Path) -> None:
    """Oracle: one sentence that names the option or the tensor."""
    model, place = small("mamba", torch.float32), tmp_path / "adapter"
    adapters = attach(model, Lora(rank=4, target_modules="x_proj"))
    save_adapter(adapters, place)
    damage, words = REFUSED[case]
    about = json.loads((place / "adapter_config.json").read_text())
    tensors = load_file(place / "adapter_model.safetensors")
    damage(about, tensors)
    (place / "adapter_config.json").write_text(json.dumps(about))
    save_file(tensors, place / "adapter_model.safetensors")
    with pytest.raises(BraidError, match=words) as refused:
        load_adapter(model, place)
    assert "\n" not in str(refused.value)


def test_refused_files(tmp_path: Path) -> None:
    """Oracle: one sentence for what is no adapter, is damaged, or is for another model."""
    model = small("mamba", torch.float32)
    with pytest.raises(BraidError, match="is no adapter"):
        load_adapter(model, tmp_path)
    adapters = attach(model, Lora(target_modules="x_proj"))
    save_adapter(adapters, tmp_path / "adapter")
    with pytest.raises(BraidError, match="another description"):
        load_adapter(small("mamba2", torch.float32), tmp_path / "adapter")
    (tmp_path / "adapter" / "adapter_model.safetensors").write_bytes(b"nothing")
    with pytest.raises(BraidError, match="damaged"):
        load_adapter(model, tmp_path / "adapter")
    adapters.merge()
    with pytest.raises(BraidError, match="unmerge them first"):
        save_adapter(adapters, tmp_path / "other")
