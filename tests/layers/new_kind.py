"""Checks that a new layer kind must pass, on that of CONTRIBUTING's worked example; `test_new_kind.py` runs them."""

import json
from pathlib import Path

import pytest
import torch
from braidlm.ops.gated_recurrence import gated_recurrence
from torch import Tensor

import braidlm
from braidlm.bench.verify import verify
from braidlm.decode.decode import Decoder
from braidlm.ops import Segments, dispatch
from braidlm.spec import Attention, Block, GatedRecurrence, Mlp, ModelSpec, Norm
from braidlm.state.batch import BatchState
from tests.ops.levels import LEVELS, at_level
from tests.tolerances import RELATIVE_GRADIENT, RELATIVE_LOGITS, RELATIVE_OP, RELATIVE_ROUNDED

VOCAB, WIDTH, CHANNELS = 50, 32, 77
MIXERS = (GatedRecurrence(inner=CHANNELS), Attention(heads=2, kv_heads=1, head_dim=16), GatedRecurrence(inner=48))
SPEC = ModelSpec(
    vocab=VOCAB,
    width=WIDTH,
    blocks=tuple(Block(mixer=mixer, ffn=Mlp(hidden=40)) for mixer in MIXERS),
    norm=Norm(eps=1e-5),
    meta_tokens=2,
)
LENGTHS = (1, 63, 0, 8)
SNAPSHOTS = ((), (7, 40), (), (8,))


def defined(x: Tensor, forget: Tensor, bias: Tensor, gate: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
    """The definition, token by token, of one row."""
    outputs = []
    for t in range(len(x)):
        kept = torch.sigmoid(forget[t] + bias)
        h = kept * h + (1 - kept) * x[t]
        outputs.append(h * gate[t] * torch.sigmoid(gate[t]))
    return torch.stack(outputs) if outputs else x, h


def inputs(dtype: torch.dtype) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(1)
    packed = [torch.randn(sum(LENGTHS), CHANNELS, generator=generator).to(dtype) for _ in range(3)]
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    bias, state = torch.randn(CHANNELS, generator=generator), torch.randn(len(LENGTHS), CHANNELS, generator=generator)
    return packed[0], packed[1], bias.to(wide), packed[2], state.to(wide)


def relative(found: Tensor, expected: Tensor) -> float:
    return float((found.double() - expected.double()).abs().max() / expected.abs().max())


def check_operation(dtype: torch.dtype) -> None:
    given = inputs(dtype)
    x, forget, bias, gate, state = (t.double() for t in given)
    segments = Segments(LENGTHS, SNAPSHOTS)
    found = gated_recurrence(*given, segments)
    tolerance = RELATIVE_OP.get(dtype) or RELATIVE_ROUNDED[dtype]
    for row, (begin, length) in enumerate(zip(segments.starts, LENGTHS)):
        part = slice(begin, begin + length)
        y, h = defined(x[part], forget[part], bias, gate[part], state[row])
        if length:
            assert found.y_T.dtype == dtype
            assert relative(found.y_T[part], y) <= tolerance
        assert relative(found.state_R[row], h) <= RELATIVE_OP[found.state_R.dtype]
        for at, snapshot in zip(SNAPSHOTS[row], found.snapshots[row], strict=True):
            part = slice(begin, begin + at)
            assert relative(snapshot, defined(x[part], forget[part], bias, gate[part], state[row])[1]) <= 2e-5


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_reference(dtype: torch.dtype) -> None:
    """Oracle: the recurrence written out, token by token, in float64."""
    with dispatch.using("reference"):
        check_operation(dtype)


def test_gradients() -> None:
    """Oracle: the gradients of the recurrence written out, of every input."""
    given = [t.requires_grad_() for t in inputs(torch.float64)]
    segments = Segments(LENGTHS)
    found = gated_recurrence(*given, segments)
    rows = [
        defined(*(t[a : a + n] for t in given[:2]), given[2], given[3][a : a + n], given[4][row])
        for row, (a, n) in enumerate(zip(segments.starts, LENGTHS))
    ]
    expected = torch.cat([y for y, _ in rows]), torch.stack([h for _, h in rows])
    loss = sum((t.sin() * t).sum() for t in (found.y_T, found.state_R))
    for grad, wanted in zip(
        torch.autograd.grad(loss, given),
        torch.autograd.grad(sum((t.sin() * t).sum() for t in expected), given),
        strict=True,
    ):
        assert relative(grad, wanted) <= RELATIVE_GRADIENT


def test_spec_and_model_are_saved(tmp_path: Path) -> None:
    """Oracle: the same spec from its JSON; the same logits from the saved model."""
    assert ModelSpec.from_json(json.loads(json.dumps(SPEC.to_json()))) == SPEC
    model = braidlm.build(SPEC, seed=1)
    model.save(tmp_path / "saved", format="braidlm")
    again = braidlm.load(tmp_path / "saved")
    ids = torch.randint(VOCAB, (1, 20))
    assert again.spec == SPEC
    assert torch.equal(again.forward(ids), model.forward(ids))


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_every_way_of_running(dtype: str) -> None:
    """Oracle: one pass over the whole prompt; in chunks, token by token, ragged, forked, from snapshots and files."""
    for check in verify(braidlm.build(SPEC, seed=2, dtype=dtype), length=45):
        assert check.passed, check


def test_protocol() -> None:
    """Oracle: what the example's text says of its parameters and its sizes, by hand."""
    model = braidlm.build(SPEC, seed=0, dtype="bfloat16").network
    assert "blocks.0.mixer.forget_bias" in set(model.fp32_parameter_names())
    bias = model.blocks[0].mixer.forget_bias
    assert bias.dtype == torch.float32
    assert (float(bias[0]), float(bias[-1])) == (1, 6)
    assert SPEC.state_specs[0][0].nbytes(1000, "bfloat16", "bfloat16") == 4 * CHANNELS
    assert MIXERS[0].flops(WIDTH, 10) == 10 * 4 * CHANNELS


# What needs kernels.


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_native(level: str, dtype: torch.dtype) -> None:
    """Oracle: the recurrence written out, token by token, in float64."""
    with at_level(level), dispatch.using("native"):
        check_operation(dtype)


def decoded(model: braidlm.LanguageModel, state: BatchState, ids: Tensor) -> tuple[Tensor, BatchState]:
    """Logits of each row's tokens [R, L] through the decode plan, and the state after them."""
    decoder = Decoder(model.network, state.precision, len(state))
    for slot, row in enumerate(state.sequences):
        decoder.set_state(slot, row)
    logits = [decoder.step(ids[:, t].contiguous(), list(range(len(state)))) for t in range(ids.shape[1])]
    after = state.fork()
    for slot in range(len(state)):
        after.set_sequence(slot, decoder.state_of(slot))
    return torch.stack(logits, 1), after


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_decode_plan(level: str, dtype: str) -> None:
    """Oracle: a pass of the reference over the same tokens, logits and the state after them."""
    model = braidlm.build(SPEC, seed=3, dtype=dtype)
    prompts = [torch.randint(VOCAB, (length,)) for length in (9, 1, 30)]
    ids = torch.randint(VOCAB, (3, 12))
    state = model.new_state(3)
    with dispatch.using("reference"), torch.no_grad():
        model.forward(prompts, state=state)
        expected_state = state.fork()
        expected = model.forward(ids, state=expected_state)
    with at_level(level):
        found, after = decoded(model, state, ids)
    assert relative(found, expected) <= RELATIVE_LOGITS[model.network.dtype]
    for row, wanted in zip(after.sequences, expected_state.sequences, strict=True):
        for layer in (0, 2):
            h, right = row.layers[layer].recurrent["h"], wanted.layers[layer].recurrent["h"]
            assert relative(h, right) <= RELATIVE_LOGITS[model.network.dtype]


@pytest.mark.skipif(not LEVELS, reason="the native extension is not built")
def test_rollback() -> None:
    """Oracle: a decoder that never saw the tokens that are rolled back."""
    model = braidlm.build(SPEC, seed=4)
    state, ids = model.new_state(1), torch.randint(VOCAB, (6,))
    ahead, plain = (Decoder(model.network, state.precision, 1) for _ in range(2))
    for decoder in (ahead, plain):
        decoder.set_state(0, state.sequences[0])
    ahead.step(ids, [0] * 6, keep=[0])
    ahead.rollback({0: 4})
    plain.step(ids[:2], [0] * 2)
    assert torch.equal(ahead.step(ids[2:3], [0]), plain.step(ids[2:3], [0]))
