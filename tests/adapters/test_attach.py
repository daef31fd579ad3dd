"""Adapters on models of every family: where they go, what they compute, what merging does."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import braidlm
from braidlm.adapters import Lora, attach
from braidlm.adapters.low_rank import OnLinear
from braidlm.adapters.targets import target_weights
from braidlm.errors import InputError
from braidlm.model.assign import assign
from braidlm.ops.linear.quantized import QuantizedWeight
from braidlm.quant.policy import quantize
from tests.adapters.models import close, logits, small, stirred
from tests.families.tiny import TINY, tiny
from tests.tolerances import RELATIVE_GRADIENT, RELATIVE_LOGITS

FAMILIES = list(TINY)


@pytest.mark.parametrize("family", FAMILIES)
def test_gradients_reach_every_part(family: str) -> None:
    """Oracle: a derivative along a random direction by central differences, and that no part is left out."""
    model = small(family)
    adapters = stirred(
        attach(model, Lora(rank=3, target_modules=("all", *(["router"] if family == "granitemoehybrid" else []))))
    )
    generator = torch.Generator().manual_seed(1)

    def loss() -> Tensor:
        return (logits(model) / 8).sin().sum()

    loss().backward()
    slopes, sides = 0.0, []
    directions = [torch.randn(p.shape, generator=generator, dtype=p.dtype) for p in adapters.parameters()]
    for parameter, direction in zip(adapters.parameters(), directions, strict=True):
        assert parameter.grad is not None
        # An expert that no token chose has no gradient; any other part has.
        assert bool((parameter.grad != 0).any())
        slopes += float((parameter.grad * direction).sum())
    with torch.no_grad():
        for step in (1e-6, -2e-6):
            for parameter, direction in zip(adapters.parameters(), directions, strict=True):
                parameter += step * direction
            sides.append(float(loss()))
    assert slopes == pytest.approx((sides[0] - sides[1]) / 2e-6, rel=1e3 * RELATIVE_GRADIENT, abs=1e-6)
    trained = {id(parameter) for parameter in adapters.parameters()}
    assert all((id(p) in trained) == p.requires_grad for p in model.parameters())


@pytest.mark.parametrize("dora", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_merged_is_attached(family: str, dora: bool) -> None:
    """Oracle: the same model, its weights changed by the formula; nothing is changed at first or after unmerging."""
    model = small(family)
    plain = logits(model)
    linear = tuple(place.name for place in target_weights(model) if place.kind is OnLinear)
    targets = linear if dora else (*(place.name for place in target_weights(model) if place.name != "embed"),)
    adapters = attach(model, Lora(rank=2, target_modules=targets, dora=dora, rslora=True))
    with torch.no_grad():
        close(logits(model), plain, RELATIVE_LOGITS[torch.float64])
        attached = logits(stirred(adapters).model)
        assert float((attached - plain).abs().max()) > 1e-3 * float(plain.abs().max())
        before = model.weights.fingerprint()
        adapters.merge()
        close(logits(model), attached, RELATIVE_LOGITS[torch.float64])
        adapters.unmerge()
        assert torch.equal(logits(model), attached)
        assert model.weights.fingerprint() == before
        adapters.detach()
        assert torch.equal(logits(model), plain)
        assert model.weights.fingerprint() == model.weights.base_fingerprint() != before


@pytest.mark.parametrize("weight_format", ["int8", "int4"])
@pytest.mark.parametrize("dora", [False, True])
def test_on_quantized_weights(weight_format: str, dora: bool) -> None:
    """Oracle: the same adapter on a model whose plain weights are what the quantized ones stand for."""
    model, plain = small("llama", torch.float32), small("llama", torch.float32)
    quantize(model, weight_format)
    for name, weight in [(n, m) for n, m in model.named_modules() if isinstance(m, QuantizedWeight)]:
        assign(plain, name, weight.dequantize(torch.float32))
    config = Lora(rank=2, target_modules=("q_proj", "up_proj", "head", *(() if dora else ("embed",))), dora=dora)
    tuned, reference = (stirred(attach(m, config)) for m in (model, plain))
    results = [logits(m) for m in (model, plain)]
    close(*results, RELATIVE_LOGITS[torch.float32])
    for result in results:
        result.square().sum().backward()
    for one, other in zip(tuned.parameters(), reference.parameters(), strict=True):
        assert one.grad is not None
        close(one.grad, other.grad, RELATIVE_LOGITS[torch.float32])
    with pytest.raises(InputError, match="quantized"):
        tuned.merge()


def test_bfloat16_is_rounded_once() -> None:
    """Oracle: the sum in float32, rounded; and the attached adapter, within what bfloat16 rounds."""
    model = small("mamba2", torch.bfloat16)
    adapters = stirred(attach(model, Lora(rank=4)))
    first = adapters.by_target["blocks.0.mixer.in_proj"]
    weight = model.get_parameter("blocks.0.mixer.in_proj.weight")
    wanted = (weight.float() + 4.0 * first.up @ first.down).bfloat16()
    assert all(p.dtype == torch.float32 for p in adapters.parameters())
    with torch.no_grad():
        attached = logits(model)
        adapters.merge()
        assert torch.equal(model.get_parameter("blocks.0.mixer.in_proj.weight"), wanted)
        close(logits(model), attached, RELATIVE_LOGITS[torch.bfloat16])


def test_coverage_counts() -> None:
    """Oracle: the sizes of the description."""
    model = small("llama")
    spec, kinds = model.spec, attach(model, Lora(rank=3, target_modules="mlp.up_proj")).coverage()
    hidden, width = spec.blocks[0].ffn.hidden, spec.width  # type: ignore[union-attr]
    assert [(k.name, k.layers, k.trained, k.whole) for k in kinds] == [
        ("up_proj", 3, 9 * (hidden + width), 3 * hidden * width)
    ]
    matrices = sum(p.numel() for n, p in model.named_parameters() if p.dim() == 2 and "adapter" not in n)
    every = matrices + width - model.embed.weight.numel()  # of the embedding a token reads one row
    assert kinds[0].share == pytest.approx(3 * hidden * width / every)


def test_dropout_only_in_training() -> None:
    """Oracle: without training nothing is random; in training something is left out."""
    model = small("mamba")
    stirred(attach(model, Lora(rank=2, dropout=0.5)))
    assert torch.equal(logits(model), logits(model))
    model.train()
    assert not torch.equal(logits(model), logits(model))


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"target_modules": "qproj"}, "'qproj' is no projection of this model; there are .*down_proj.*q_proj"),
        ({"target_modules": ("q_proj", "conv1d")}, "depthwise convolution"),
        ({"target_modules": "embed", "dora": True}, "dora cannot be on embed"),
        ({"rank": 0}, "rank is 0"),
        ({"alpha": 0.0}, "alpha is 0.0"),
        ({"dropout": 1.0}, "dropout is 1.0"),
        ({"target_modules": ()}, "target_modules is"),
    ],
)
def test_refusals(config: dict[str, Any], words: str) -> None:
    """Oracle: one sentence that names what is wrong and what there is."""
    with pytest.raises(InputError, match=words) as refused:
        attach(small("llama"), Lora(**config))
    assert "\n" not in str(refused.value)


def test_two_adapters_at_one_place() -> None:
    """Oracle: the second is refused, and what is not attached cannot be merged or detached."""
    model = small("mamba")
    adapters = attach(model, Lora())
    with pytest.raises(InputError, match="has an adapter already"):
        attach(model, Lora(target_modules="x_proj"))
    with pytest.raises(InputError, match="nothing was merged"):
        adapters.unmerge()
    adapters.detach()
    with pytest.raises(InputError, match="not attached"):
        adapters.merge()


def test_a_model_with_adapters_is_not_saved_without_them(tmp_path: Path) -> None:
    """Oracle: a sentence instead of files that lack the change."""
    language = braidlm.build(tiny("mamba", 1))
    attach(language.network, Lora())
    with pytest.raises(InputError, match="adapters"):
        language.save(tmp_path / "out")
