"""Learned initial states."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

import braidlm
from braidlm.adapters import (
    InitialState,
    Lora,
    StateTuning,
    attach,
    attach_initial,
    detach_initial,
    load_initial,
    put_on,
    save_initial,
)
from braidlm.errors import BraidError
from braidlm.model.model import Model
from braidlm.ops import Segments
from braidlm.spec import Block, Mamba2, ModelSpec, Norm
from braidlm.state.batch import BatchState
from braidlm.state.sequence import LayerState, SequenceState
from tests.adapters.models import close, logits, small
from tests.families.tiny import tiny
from tests.tolerances import RELATIVE_GRADIENT, RELATIVE_LOGITS

RECURRENT = ["mamba", "mamba2", "stripedhyena", "hymba", "bamba", "granitemoehybrid"]
# With attention, all of it without a window.
ATTENDING = ["llama", "bamba", "granitemoehybrid", "stripedhyena"]
KEYS = StateTuning(positions=5)
LINE = torch.tensor(list(b"Wood would chuck.")) - 32


def stirred(initial: InitialState) -> InitialState:
    """As if trained."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in initial.parameters():
            parameter += 0.3 * torch.randn(parameter.shape, generator=generator)
    return initial


@pytest.mark.parametrize("family", RECURRENT)
def test_gradients(family: str) -> None:
    """Oracle: a derivative along a random direction by central differences; at first nothing is changed."""
    model = small(family)
    with torch.no_grad():
        plain = logits(model)
    initial = attach_initial(model, StateTuning())
    assert torch.equal(logits(model).detach(), plain)
    stirred(initial)
    logits(model).sin().sum().backward()
    generator = torch.Generator().manual_seed(1)
    parameters = list(initial.parameters())
    directions = [torch.randn(p.shape, generator=generator, dtype=p.dtype) for p in parameters]
    slope, sides = 0.0, []
    for parameter, direction in zip(parameters, directions, strict=True):
        assert parameter.grad is not None
        assert bool((parameter.grad != 0).any())
        slope += float((parameter.grad * direction).sum())
    with torch.no_grad():
        for step in (1e-6, -2e-6):
            for parameter, direction in zip(parameters, directions, strict=True):
                parameter += step * direction
            sides.append(float(logits(model).sin().sum()))
    assert slope == pytest.approx((sides[0] - sides[1]) / 2e-6, rel=1e3 * RELATIVE_GRADIENT, abs=1e-6)
    assert not any(weight.requires_grad for _, weight in model.named_weights())


@pytest.mark.parametrize("family", ATTENDING)
def test_learned_keys_and_values(family: str) -> None:
    """Oracle: at first the model with that many tokens read before, recurrences apart; then central differences."""
    model = small(family)
    ids = torch.linspace(0, model.spec.vocab - 1, 5).long()
    with torch.no_grad():
        read = model(ids, Segments((5,)), model.training_state(1)).state.sequences[0]
        begun = model.training_state(1)
        layers = zip(read.layers, begun.sequences[0].layers, strict=True)
        begun.set_sequence(0, SequenceState(0, tuple(LayerState(empty.recurrent, layer.kv) for layer, empty in layers)))
        line = torch.arange(9) % model.spec.vocab
        wanted = model(line, Segments((9,)), begun).logits
    initial = attach_initial(model, KEYS)
    close(model(line, Segments((9,)), model.training_state(1)).logits, wanted, RELATIVE_LOGITS[torch.float64])
    assert model.training_state(1).lengths == (0,)
    stirred(initial)
    logits(model).sin().sum().backward()
    keys, values = ([p for name, p in initial.tensors.items() if name.endswith(end)] for end in ("_k", "_v"))
    assert keys and all(p.shape[0] == 5 and bool(p.grad.any()) for p in (*keys, *values))
    with torch.no_grad():
        sides = []
        for step in (1e-6, -2e-6):
            keys[-1][0] += step
            sides.append(float(logits(model).sin().sum()))
    slope = float(keys[-1].grad[0].sum())
    assert slope == pytest.approx((sides[0] - sides[1]) / 2e-6, rel=1e3 * RELATIVE_GRADIENT, abs=1e-6)


@pytest.mark.parametrize("family", ATTENDING)
def test_learned_keys_token_by_token_and_in_files(family: str, tmp_path: Path) -> None:
    """Oracle: one pass over the whole text, past a page of keys; states are stored and taken up again."""
    language = braidlm.build(tiny(family, 3))
    model = language.network
    stirred(attach_initial(model, StateTuning(positions=120)))
    text = [token % model.spec.vocab for token in range(20)]
    with torch.no_grad():
        wanted = language.forward([text])[0]
        save_initial(model, tmp_path / "task.safetensors")
        detach_initial(model)
        put_on(model, load_initial(model, tmp_path / "task.safetensors"))
        assert torch.equal(language.forward([text])[0], wanted)
        state = language.new_state()
        for at in range(len(text)):
            close(language.forward([text[at : at + 1]], state=state)[0][0], wanted[at], RELATIVE_LOGITS[torch.float32])
            if at == 10:
                state.save(tmp_path / "there.state")
                state = language.load_state(tmp_path / "there.state")
        assert state.lengths == (20,)
    greedy = language.generate(text[:12], max_tokens=4)  # a decode plan
    for number, token in enumerate(greedy):
        at = [*text[:12], *greedy[:number]]
        assert int(language.forward([at])[0][-1].argmax()) == token


@pytest.mark.parametrize("family", ["mamba", "mamba2"])
def test_begins_where_it_was_taken(family: str) -> None:
    """Oracle: the state after a text, learned as the initial one, goes on as that text does."""
    model = small(family)
    ids = torch.arange(9) % model.spec.vocab
    with torch.no_grad():
        after = model(ids, Segments((9,)), model.training_state(1)).state
        wanted = model(ids, Segments((9,)), after).logits
        initial = attach_initial(model, StateTuning())
        for key, parameter in initial.tensors.items():
            block, slot = key.split("_")
            value = after.sequences[0].layers[int(block)].recurrent[slot]
            parameter.copy_(torch.view_as_real(value) if value.is_complex() else value)
        close(model(ids, Segments((9,)), model.training_state(1)).logits, wanted, RELATIVE_LOGITS[torch.float64])


def loss_of(model: Model, state: BatchState) -> Tensor:
    """Cross-entropy a byte of a line of text."""
    found = model(LINE[:-1], Segments((len(LINE) - 1,)), state).logits
    return torch.nn.functional.cross_entropy(found, LINE[1:])


def test_learns_a_line() -> None:
    """Oracle: the line itself: a model with random weights says it once its initial state alone was trained."""
    mixer = Mamba2(heads=8, head_dim=16, d_state=32)
    spec = ModelSpec(vocab=96, width=64, blocks=(Block(mixer=mixer),), norm=Norm(eps=1e-5))
    language = braidlm.build(spec)
    initial = attach_initial(language.network, StateTuning())
    optimizer = torch.optim.Adam(initial.parameters(), lr=0.2)
    for _ in range(50):
        optimizer.zero_grad()
        loss = loss_of(language.network, language.network.training_state(1))
        loss.backward()
        optimizer.step()
    assert language.generate(LINE[:1].tolist(), max_tokens=len(LINE) - 1) == LINE[1:].tolist()


@pytest.mark.parametrize("family", RECURRENT)
def test_files(family: str, tmp_path: Path) -> None:
    """Oracle: the state that was saved; states begun with another one are refused."""
    language = braidlm.build(tiny(family, 1))
    model, ids = language.network, [list(range(8))]
    stirred(attach_initial(model, StateTuning(states=("ssm", "modes"))))
    with torch.no_grad():
        wanted, mine = language.forward(ids)[0], language.new_state()
        save_initial(model, tmp_path / "task.safetensors")
        detach_initial(model)
        with pytest.raises(BraidError, match="another model"):
            language.forward(ids, state=mine)
        put_on(model, load_initial(model, tmp_path / "task.safetensors"))
        assert torch.equal(language.forward(ids)[0], wanted)
        language.forward(ids, state=mine)


def test_beside_an_adapter() -> None:
    """Oracle: what requires gradients: both, and no weight; whichever came first."""
    for first in (True, False):
        model = small("mamba")
        steps = [lambda m: attach(m, Lora()), lambda m: attach_initial(m, StateTuning())]
        for step in steps if first else reversed(steps):
            step(model)
        trained = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
        assert {"adapter" in name or name.startswith("initial.") for name in trained} == {True}
        assert any("adapter" in name for name in trained)
        assert any(name.startswith("initial.") for name in trained)


def test_refusals(tmp_path: Path) -> None:
    """Oracle: one sentence each."""
    with pytest.raises(BraidError, match="no recurrent state to learn; give positions"):
        attach_initial(small("llama"), StateTuning(positions=0))
    with pytest.raises(BraidError, match="all of it without a window"):
        attach_initial(small("hymba"), KEYS)
    with pytest.raises(BraidError, match="positions is -1"):
        StateTuning(positions=-1)
    with pytest.raises(BraidError, match="must be some of"):
        StateTuning(states=("kv",))
    model = small("mamba", torch.float32)
    with pytest.raises(BraidError, match="of the kind modes to learn; it has conv, ssm"):
        attach_initial(model, StateTuning(states=("modes",)))
    attach_initial(model, StateTuning())
    with pytest.raises(BraidError, match="already"):
        attach_initial(model, StateTuning())
    save_initial(model, tmp_path / "task.safetensors")
    with pytest.raises(BraidError, match="another description"):
        load_initial(small("mamba2", torch.float32), tmp_path / "task.safetensors")
    with pytest.warns(UserWarning, match="other weights"):
        load_initial(small("mamba", torch.bfloat16), tmp_path / "task.safetensors")
    (tmp_path / "task.safetensors").write_bytes(b"no")
    with pytest.raises(BraidError, match="damaged"):
        load_initial(model, tmp_path / "task.safetensors")
    with pytest.raises(BraidError, match="there is no initial state"):
        load_initial(model, tmp_path / "none")
