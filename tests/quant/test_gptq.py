"""Calibrated quantization: closer outputs than nearest steps, block by block, experts and shared keys among them."""

import gguf
import pytest
import torch
import torch.nn.functional as F
from gguf import GGMLQuantizationType as Kind
from torch import Tensor

import braidlm
from braidlm import ops
from braidlm.layers.feed_forward import Moe
from braidlm.layers.linear import Linear
from braidlm.ops.linear.quantized import GROUP, QuantizedWeight, steps
from braidlm.ops.linear.round_to_nearest import quantize_weight
from braidlm.quant import calibrate
from braidlm.quant.calibrate import calibrate_blocks
from braidlm.quant.gptq import Products, quantize_calibrated
from braidlm.quant.policy import policy_of, quantize, quantized_weights
from tests.families.tiny import TINY, tiny
from tests.quant.small import ids_for, model_of
from tests.tolerances import RELATIVE_LOGITS, RELATIVE_OP


def correlated(tokens: int, inputs: int, seed: int = 0) -> Tensor:
    """Inputs that share directions, as those of a trained network do."""
    generator = torch.Generator().manual_seed(seed)
    basis = torch.randn(inputs // 4, inputs, generator=torch.Generator().manual_seed(99))
    noise = torch.randn(tokens, inputs, generator=generator)
    return torch.randn(tokens, inputs // 4, generator=generator) @ basis + 0.3 * noise


def weight(outputs: int, inputs: int) -> Tensor:
    return torch.randn(outputs, inputs, generator=torch.Generator().manual_seed(7))


def alike(x: Tensor) -> Products:
    """The sums where nothing before the layer was rounded."""
    return Products(x.T @ x, x.T @ x)


def error(w: Tensor, quantized: QuantizedWeight, x: Tensor) -> float:
    return float((F.linear(x, quantized.dequantize(torch.float32)) - F.linear(x, w)).square().sum())


@pytest.mark.parametrize(("weight_format", "kind"), [("int4", Kind.Q4_0), ("int8", Kind.Q8_0)])
@pytest.mark.parametrize(("outputs", "inputs"), [(16, 32), (24, 96), (8, 256)])
def test_closer_outputs_than_nearest(outputs: int, inputs: int, weight_format: str, kind: Kind) -> None:
    """Oracle: nearest steps, and GGUF's quantization, on inputs that were not seen; in as many bytes."""
    w, x, unseen = weight(outputs, inputs), correlated(2000, inputs), correlated(500, inputs, seed=1)
    found, nearest = (
        quantize_calibrated(w, alike(x), weight_format, dtype=torch.float32),
        quantize_weight(w, weight_format),
    )
    raw = gguf.quantize(w.numpy(), kind)
    wanted = float((F.linear(unseen, torch.from_numpy(gguf.dequantize(raw, kind)) - w)).square().sum())
    assert error(w, found, unseen) < 0.5 * min(error(w, nearest, unseen), wanted)
    assert found.nbytes == raw.nbytes == nearest.nbytes
    assert (found.kind, found.shape, found.dtype) == (weight_format, (outputs, inputs), torch.float32)


def test_errors_before_are_made_up_for() -> None:
    """Oracle: rounding that does not know the original inputs, by the distance from the original outputs."""
    w, y = weight(16, 96), correlated(2000, 96)
    x = y @ (torch.eye(96) + 0.05 * weight(96, 96))  # what rounded layers before have made of them
    own = x.T @ x
    blind = quantize_calibrated(w, Products(own, own), "int4", dtype=torch.float32)
    found = quantize_calibrated(w, Products(own, y.T @ x), "int4", dtype=torch.float32)

    def distance(quantized: QuantizedWeight) -> float:
        return float((x @ quantized.dequantize(torch.float32).T - y @ w.T).square().sum())

    assert distance(found) < 0.3 * distance(blind)


def test_no_step_can_be_moved() -> None:
    """Oracle: after the sweeps hardly a single step to either side makes the outputs closer."""
    w, x = weight(6, 64), correlated(800, 64)
    h = x.T @ x
    found = quantize_calibrated(w, alike(x), "int4", dtype=torch.float32)
    damped = h + 0.1 * h.diagonal().mean() * torch.eye(64)
    left = w - found.dequantize(torch.float32)
    scale = found.scale.float().repeat_interleave(GROUP, -1)
    q = steps(found.data).int()
    better = 0
    for move in (-1, 1):
        # Moving one step changes the error by -2 d (left H) + d^2 H_ii.
        change = -2 * move * scale * (left @ damped) + scale.square() * damped.diagonal()
        better += int(((change < 0) & (q + move >= 0) & (q + move <= 15)).sum())
    assert better < 0.03 * q.numel()


def test_independent_inputs_change_little() -> None:
    """Oracle: where inputs do not hang together, nothing can be passed on, and nearest steps are best."""
    w = weight(16, 64)
    found = quantize_calibrated(w, alike(torch.eye(64)), "int4", dtype=torch.float32)
    squared = (found.dequantize(torch.float32) - w).square().sum()
    assert squared <= (quantize_weight(w, "int4").dequantize(torch.float32) - w).square().sum() * 1.001


@pytest.mark.parametrize("case", ["no input", "a dead input", "zero weights", "one token"])
def test_edges(case: str) -> None:
    """Oracle: finite numbers, and no worse than nearest steps on the weight itself by more than its inputs explain."""
    w, x = weight(5, 64), correlated(300, 64)
    if case == "no input":
        x = x[:0]
    elif case == "a dead input":
        x[:, 3] = 0
    elif case == "zero weights":
        w[:, 32:] = 0
        w[2] = 0
    else:
        x = x[:1]
    values = quantize_calibrated(w, alike(x), "int4", dtype=torch.float32).dequantize(torch.float32)
    assert bool(values.isfinite().all())
    if case == "zero weights":
        assert bool((values[2] == 0).all())
    assert float((values - w).square().mean()) < 0.1


@pytest.mark.parametrize("weight_format", ["int4", "int8"])
@pytest.mark.parametrize("family", TINY)
def test_models(family: str, weight_format: str) -> None:
    """Oracle: the policy's weights, each once; the original model, from which logits stray less than with nearest."""
    model, nearest, original = (model_of(family) for _ in range(3))
    generator = torch.Generator().manual_seed(5)
    rows = [torch.randint(model.spec.vocab, (length,), generator=generator) for length in (200, 133, 200, 1)]
    told: list[int] = []
    policy = policy_of(model.network, weight_format)
    quantize(model.network, weight_format, calibration=rows, progress=lambda done, total: told.append(done))
    quantize(nearest.network, weight_format)
    assert told == list(range(1, len(policy) + 1))
    assert {name: quantized.weight_format for name, quantized in quantized_weights(model.network).items()} == policy
    with torch.no_grad():
        a, b, c = (m.forward(rows[0][None]).log_softmax(-1) for m in (original, model, nearest))
    actual, wanted = ((a.exp() * (a - other)).sum(-1).mean() for other in (b, c))
    # Granite's multipliers leave so little of int8's steps in the logits that both are at the noise of float32.
    assert actual < wanted or max(actual, wanted) < 1e-5
    assert not any(parameter.requires_grad for parameter in model.network.parameters())


def test_inputs_are_those_of_the_rounded_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: what each layer of the finished model gets when the text runs through it."""
    spec = next(spec for spec in (tiny("hymba", seed) for seed in range(20)) if not spec.meta_tokens)
    model = braidlm.build(spec, seed=1)
    rows = [ids_for(model)[0], ids_for(model)[1, :17]]
    products: dict[int, Tensor] = {}

    def noted(w: Tensor, h: Products, weight_format: str, *, dtype: torch.dtype) -> QuantizedWeight:
        products[w.data_ptr()] = h.own.clone()
        return quantize_weight(w, weight_format, dtype=dtype)

    monkeypatch.setattr(calibrate, "quantize_calibrated", noted)
    network = model.network
    names = {
        name: weight_format for name, weight_format in policy_of(network, "int4").items() if weight_format == "int4"
    }
    originals = dict(network.named_parameters())  # kept, so that no address is used twice
    calibrate_blocks(
        network, names, rows, lambda name, quantized: braidlm.model.assign.assign(network, name, quantized)
    )
    got: dict[str, Tensor] = {}
    for name, layer in network.named_modules():
        if isinstance(layer, Linear) and f"{name}.weight" in names:

            def note(_: object, arguments: tuple[Tensor], name: str = f"{name}.weight") -> None:
                got[name] = got.get(name, 0) + arguments[0].T @ arguments[0]

            layer.register_forward_pre_hook(note)
    with torch.no_grad(), ops.dispatch.using("reference"):
        for row in rows:
            network(row, ops.Segments((len(row),)), network.new_state(1))
    assert got.keys() == set(names)
    for name in names:
        found, expected = products[originals[name].data_ptr()], got[name]
        assert (found - expected).abs().max() <= RELATIVE_LOGITS[torch.float32] * expected.abs().max()


def test_experts_by_their_own_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: by hand: which tokens the router sends to which expert."""
    model = next(m for m in (braidlm.build(tiny("granitemoehybrid", s)) for s in range(9)) if has_experts(m))
    seen: list[Products] = []

    def noted(w: Tensor, h: Products, weight_format: str, *, dtype: torch.dtype) -> QuantizedWeight:
        seen.append(h)
        return quantize_weight(w, weight_format, dtype=dtype)

    monkeypatch.setattr(calibrate, "quantize_calibrated", noted)
    moe = model.network.blocks[0].ffn
    x = torch.randn(50, model.spec.width, generator=torch.Generator().manual_seed(1))
    y = x + torch.randn(x.shape, generator=torch.Generator().manual_seed(2))
    calibrate._quantize_experts("moe", moe, x, y, {"moe.gate_up": "int4"}, lambda name, quantized: None, torch.float32)
    chosen = (x @ moe.router.T).topk(moe.top_k, -1).indices
    assert len(seen) == len(moe.router)
    for expert, products in enumerate(seen):
        mine = [expert in row for row in chosen.tolist()]
        for found, expected in ((products.own, x[mine].T @ x[mine]), (products.crossed, y[mine].T @ x[mine])):
            assert (found - expected).abs().max() <= RELATIVE_OP[torch.float32] * expected.abs().max()


def has_experts(model: braidlm.api.language_model.LanguageModel) -> bool:
    return isinstance(model.network.blocks[0].ffn, Moe) and model.spec.width % GROUP == 0
