"""State files: what was saved comes back bit for bit; what does not belong is refused in one sentence."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from braidlm.api.language_model import LanguageModel
from braidlm.errors import StateError
from braidlm.state.batch import BatchState
from braidlm.state.state_file import digest_of
from tests.state.kinds import KINDS, bits, build, fresh, memory, tokens

KV_DTYPES = ("float32", "bfloat16", "float16", "fp8", "int8")
Tensors = dict[str, Tensor]


def refused(model: LanguageModel, path: Path, kv_dtype: str | None = None) -> str:
    """The one sentence in which loading is refused; it names the file."""
    with pytest.raises(StateError) as caught:
        model.load_state(path, kv_dtype)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    return message


def round_trip(model: LanguageModel, state: BatchState, path: Path) -> BatchState:
    state.save(path)
    again = model.load_state(path, state.precision.kv)
    assert bits(again) == bits(state)
    return again


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("length", [0, 1, 127, 128, 129, 256])
def test_one_row_round_trips(kind: str, length: int, tmp_path: Path) -> None:
    """Oracle: the state that was saved, bit for bit, and its next logits; at the ends of pages."""
    model, state = build(kind, "float32"), build(kind, "float32").new_state()
    if length:
        model.forward(tokens(length)[None], state=state)
    again = round_trip(model, state, tmp_path / "state")
    assert memory(again) <= again.nbytes == model.spec.state_bytes(length)
    token = torch.tensor([[1]])
    assert torch.equal(model.forward(token, state=again), model.forward(token, state=state))


@pytest.mark.parametrize("kv_dtype", KV_DTYPES)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float64"])
def test_rows_of_every_precision_round_trip(dtype: str, kv_dtype: str, tmp_path: Path) -> None:
    """Oracle: the state that was saved, bit for bit: ragged rows, one of them without tokens."""
    model = build("everything", dtype)
    state = model.new_state(3, kv_dtype)
    model.forward([tokens(140), tokens(0), tokens(9)], state=state)
    round_trip(model, state, tmp_path / "state")


@pytest.mark.parametrize("kind", KINDS)
def test_rows_that_share_memory_round_trip(kind: str, tmp_path: Path) -> None:
    """Oracle: the state that was saved, bit for bit: rows at their start, forks, a fork that has moved on."""
    model = build(kind, "float32")
    round_trip(model, model.new_state(2), tmp_path / "new")
    state = model.new_state(1)
    model.forward(tokens(130)[None], state=state)
    fork, moved = state.fork(), state.fork()
    model.forward(tokens(3)[None], state=moved)
    state.append(fork)
    state.append(moved)
    round_trip(model, state, tmp_path / "forked")


@pytest.fixture
def saved(tmp_path: Path) -> tuple[LanguageModel, Path]:
    """A model, and a file with one row of 10 tokens whose keys and values are stored as int8."""
    model = build("everything", "float32")
    state = model.new_state(kv_dtype="int8")
    model.forward(tokens(10)[None], state=state)
    state.save(tmp_path / "state")
    return model, tmp_path / "state"


def test_other_models_are_refused(saved: tuple[LanguageModel, Path]) -> None:
    """Oracle: other weights, other dtype of weights, other description, other format of keys and values."""
    model, path = saved
    assert "another model" in refused(build("everything", "float32", 1), path, "int8")
    assert "another model" in refused(build("everything", "bfloat16"), path, "int8")
    assert "another model" in refused(build("attention", "float32"), path, "int8")
    assert "int8" in refused(model, path, "fp8")
    assert "int8" in refused(model, path)


def test_one_other_weight_is_another_model(tmp_path: Path) -> None:
    """Oracle: a model with one weight of one matrix changed by hand, as a small fine-tuning step may."""
    model = build("attention", "float32")
    model.new_state().save(tmp_path / "state")
    other = fresh("attention", "float32")
    assert other.load_state(tmp_path / "state").lengths == (0,)
    with torch.no_grad():
        other.network.blocks[0].mixer.q_proj.weight[1, 3] += 0.5
    assert "another model" in refused(other, tmp_path / "state")


def test_whose_a_file_is(saved: tuple[LanguageModel, Path]) -> None:
    """Oracle: by hand: files of before there were labels are read, and what a label says stays within the sentence."""
    model, path = saved
    rewrite(path, label="")
    assert model.load_state(path, "int8").lengths == (10,)
    rewrite(path, label="adapter 'x'")  # people's word for it: what counts is the fingerprint
    assert model.load_state(path, "int8").lengths == (10,)
    rewrite(path, label="adapter 'x'\n" + "y" * 10_000, fingerprint="0" * 64)
    sentence = refused(model, path, "int8")
    assert "it is of adapter 'x' yyy" in sentence and "but this is the model itself (" in sentence
    assert len(sentence) < 1000 + len(str(path))


def test_states_of_other_models_are_refused() -> None:
    """Oracle: the rule for files, for rows that move between states in memory."""
    state, snapshot = build("mamba").new_state(2), build("mamba", "float64", 1).new_state()
    with pytest.raises(StateError, match="another model"):
        state.restore(0, snapshot)
    with pytest.raises(StateError, match="another model"):
        state.append(snapshot)
    model = build("attention", "float32")
    with pytest.raises(StateError, match="int8"):
        model.new_state().append(model.new_state(kv_dtype="int8"))
    with pytest.raises(StateError, match="one row, not 2"):
        state.restore(0, state.fork())
    for row in (2, -1):
        with pytest.raises(StateError, match=f"row {row} does not exist.*0 to 1"):
            state.select([row])


def test_cut_files_are_refused(saved: tuple[LanguageModel, Path]) -> None:
    """Oracle: the whole file; cut within its header, its tensors and just before its end."""
    model, path = saved
    whole = path.read_bytes()
    for cut in {0, 1, 7, 8, 9, 100, *range(1000, len(whole), 997), len(whole) - 1}:
        path.write_bytes(whole[:cut])
        refused(model, path, "int8")
    path.write_bytes(whole + b"\0")
    refused(model, path, "int8")


def test_a_flipped_bit_is_refused(saved: tuple[LanguageModel, Path]) -> None:
    """Oracle: the whole file; one bit changed in its header, in each eighth of its tensors, and in its last byte."""
    model, path = saved
    whole = path.read_bytes()
    for at in (12, *range(len(whole) // 4, len(whole), len(whole) // 8), len(whole) - 1):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :])
        refused(model, path, "int8")


@pytest.mark.parametrize("foreign", [b"", b"hello" * 100, b"PK\3\4" + bytes(500), bytes(8), bytes(500)])
def test_foreign_files_are_refused(saved: tuple[LanguageModel, Path], foreign: bytes) -> None:
    """Oracle: files that are something else altogether."""
    model, path = saved
    path.write_bytes(foreign)
    refused(model, path, "int8")


def test_what_is_no_state_file_is_refused(saved: tuple[LanguageModel, Path]) -> None:
    """Oracle: a safetensors file of something else, a directory, nothing."""
    model, path = saved
    save_file({"weight": torch.ones(3)}, path)
    assert "braidlm-state" in refused(model, path, "int8")
    refused(model, path.parent, "int8")
    refused(model, path.parent / "nothing", "int8")


def longer(tensors: Tensors, name: str) -> None:
    tensors[name] = tensors[name].repeat(2, *[1] * (tensors[name].dim() - 1))


# Block 4 is full attention: 13 positions of 2 heads, keys of 4 numbers, values of 6. Block 5 is a Mamba.
TAMPERINGS: dict[str, Callable[[Tensors], Any]] = {
    "keys missing": lambda t: t.pop("0.4.k"),
    "values missing": lambda t: t.pop("0.4.v"),
    "one scale missing": lambda t: t.pop("0.4.k_scale"),
    "both scales missing": lambda t: (t.pop("0.4.k_scale"), t.pop("0.4.v_scale")),
    "fewer keys": lambda t: t.update({"0.4.k": t["0.4.k"][:4].clone()}),
    "more keys": lambda t: longer(t, "0.4.k"),
    "fewer values": lambda t: t.update({"0.4.v": t["0.4.v"][:4].clone()}),
    "more values": lambda t: longer(t, "0.4.v"),
    "fewer scales": lambda t: t.update({"0.4.v_scale": t["0.4.v_scale"][:4].clone()}),
    "more scales": lambda t: longer(t, "0.4.v_scale"),
    "other heads": lambda t: t.update({"0.4.k": t["0.4.k"][:, :1].clone()}),
    "other head size": lambda t: t.update({"0.4.v": t["0.4.v"][..., :4].clone()}),
    "other dimensions": lambda t: t.update({"0.4.k": t["0.4.k"].flatten(1).clone()}),
    "other dtype of keys": lambda t: t.update({"0.4.k": t["0.4.k"].float()}),
    "other dtype of scales": lambda t: t.update({"0.4.v_scale": t["0.4.v_scale"].double()}),
    "recurrent state missing": lambda t: t.pop("0.5.ssm"),
    "other shape of a recurrent state": lambda t: longer(t, "0.5.ssm"),
    "other dtype of a recurrent state": lambda t: t.update({"0.5.ssm": t["0.5.ssm"].half()}),
    "other dtype of a complex state": lambda t: t.update({"0.0.modes": t["0.0.modes"].double()}),
    "complex state without its last dimension": lambda t: t.update({"0.0.modes": t["0.0.modes"][..., 0].clone()}),
    "more in a layer with keys": lambda t: t.update({"0.4.surprise": torch.ones(1)}),
    "more in a layer without keys": lambda t: t.update({"0.5.surprise": torch.ones(1)}),
    "keys in a layer that shares another's": lambda t: t.update({"0.3.k": t["0.1.k"].clone()}),
    "more rows than lengths": lambda t: t.update({"1.5.ssm": t["0.5.ssm"].clone()}),
    "more blocks": lambda t: t.update({"0.7.ssm": t["0.5.ssm"].clone()}),
    "a name of nothing": lambda t: t.update({"surprise": torch.ones(1)}),
}


def rewrite(path: Path, change: Callable[[Tensors], Any] = lambda tensors: None, **about: str) -> None:
    """Writes the file again, well formed, with changed tensors and another header."""
    with safe_open(path, framework="pt") as file:
        header = file.metadata() | about
        tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
    change(tensors)
    header = {name: value for name, value in header.items() if value}
    # With a digest that is right, so that a refusal is for what was changed.
    save_file(tensors, path, header | {"digest": digest_of(header, tensors)})


def test_rewriting_alone_changes_nothing(saved: tuple[LanguageModel, Path]) -> None:
    """Oracle: the state in the file; so that the refusals below are for what they change."""
    model, path = saved
    before = bits(model.load_state(path, "int8"))
    rewrite(path)
    assert bits(model.load_state(path, "int8")) == before


@pytest.mark.parametrize("what", TAMPERINGS)
def test_tensors_that_do_not_belong_are_refused(saved: tuple[LanguageModel, Path], what: str) -> None:
    """Oracle: the slots of the model's description: which tensors there are, their shapes and dtypes."""
    model, path = saved
    rewrite(path, TAMPERINGS[what])
    refused(model, path, "int8")


LENGTHS = [None, 10, 10.0, "10", {}, [], [9], [11], [-1], [10.5], ["10"], [[10]], [None], [True], [10, 10], [10**12]]


@pytest.mark.parametrize("lengths", LENGTHS, ids=str)
def test_lengths_that_do_not_belong_are_refused(saved: tuple[LanguageModel, Path], lengths: Any) -> None:
    """Oracle: the one row of 10 tokens that the file has."""
    model, path = saved
    rewrite(path, lengths=json.dumps(lengths))
    refused(model, path, "int8")


@pytest.mark.parametrize("field", ["format", "fingerprint", "dtype", "kv_dtype", "lengths"])
def test_a_header_that_does_not_belong_is_refused(saved: tuple[LanguageModel, Path], field: str) -> None:
    """Oracle: the header that `save` writes, without one of its fields, and with another value in it."""
    model, path = saved
    rewrite(path, **{field: "surprise"})
    refused(model, path, "int8")
    rewrite(path, **{field: ""})
    refused(model, path, "int8")
