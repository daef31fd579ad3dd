"""Wrong tokens, prompts, options, states and places end in one sentence that names what was wrong, and lose nothing."""

import errno
import re
import resource
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import braidlm
from braidlm import BraidError
from braidlm.api.language_model import LanguageModel
from braidlm.bench.verify import verify
from braidlm.errors import ContextLengthError, InputError, StateError
from tests.families.tiny import tiny

GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.fixture(scope="module")
def model() -> LanguageModel:
    return braidlm.load(GOLDEN / "bamba", dtype="float32")


def test_token_out_of_range(model: LanguageModel) -> None:
    """Oracle: the id and the range."""
    with pytest.raises(InputError, match="whole numbers"):
        model.forward([[2**80]])
    with pytest.raises(InputError, match="out of range"):
        model.generate([2**80])
    for wrong in (-1, 200, 10**6):
        with pytest.raises(InputError, match=f"{wrong}.*0 to 199"):
            model.forward(torch.tensor([[1, wrong]]))
        with pytest.raises(InputError, match=f"{wrong}.*0 to 199"):
            model.generate([1, wrong])


@pytest.mark.parametrize("ids", [torch.zeros(1, 0, dtype=torch.int64), [], [[]], [torch.zeros(0, dtype=torch.int64)]])
def test_no_tokens(model: LanguageModel, ids: Any) -> None:
    """Oracle: an error instead of an empty result."""
    with pytest.raises(InputError, match="no token"):
        model.forward(ids)


def test_empty_prompt(model: LanguageModel) -> None:
    """Oracle: an error instead of text from nothing."""
    with pytest.raises(InputError, match="empty"):
        model.generate([])
    with pytest.raises(InputError, match="empty"):
        list(model.stream([]))


def test_wrong_shapes(model: LanguageModel) -> None:
    """Oracle: the message says what would be right."""
    with pytest.raises(InputError, match=r"\[B, L\]"):
        model.forward(torch.tensor([1, 2]))
    with pytest.raises(InputError, match="whole numbers"):
        model.forward([torch.tensor([0.5])])
    with pytest.raises(InputError, match="2 sequences"):
        model.forward(torch.ones(2, 3, dtype=torch.int64), state=model.new_state(1))
    with pytest.raises(InputError, match="increasing"):
        model.forward(torch.ones(1, 3, dtype=torch.int64), state_at=[[2, 1]])
    with pytest.raises(InputError, match=r"blocks\.9"):
        model.forward(torch.ones(1, 3, dtype=torch.int64), hidden_states=["blocks.9"])


def test_prompt_without_tokenizer(model: LanguageModel) -> None:
    """Oracle: token ids still work, text is refused in a sentence."""
    with pytest.raises(InputError, match="no tokenizer"):
        model.generate("hello")
    assert len(model.generate([1, 2], max_tokens=2)) <= 2


def test_longer_than_declared() -> None:
    """Oracle: refused before anything is run, and generation stops at the declared length."""
    short = braidlm.build(tiny("hymba", 0))
    limit = short.spec.max_positions
    assert limit == 1024
    ids = torch.ones(1, limit + 1, dtype=torch.int64)
    with pytest.raises(ContextLengthError, match=f"{limit + 1}.*{limit}"):
        short.forward(ids)
    state = short.new_state()
    short.forward(ids[:, :-2], state=state)
    with pytest.raises(ContextLengthError):
        short.forward(ids[:, :2], state=state)
    assert state.lengths == (limit - 1,)
    short.forward(ids[:, :1], state=state)
    assert state.lengths == (limit,)
    tokens = list(short.stream([1] * (limit - 2), max_tokens=50))
    assert tokens[-1].finish == "length"
    assert len(tokens) == 2  # the last one is never run


def test_state_of_another_model(model: LanguageModel, tmp_path: Path) -> None:
    """Oracle: same description, other weights; same weights, other precision of keys and values."""
    twin = braidlm.build(model.spec, seed=1)
    with pytest.raises(StateError, match="another model"):
        twin.forward(torch.tensor([[1]]), state=model.new_state())
    model.new_state().save(tmp_path / "state")
    with pytest.raises(StateError, match="another model"):
        twin.load_state(tmp_path / "state")
    with pytest.raises(StateError, match="int8"):
        model.load_state(tmp_path / "state", kv_dtype="int8")
    with pytest.raises(InputError, match="kv_dtype"):
        model.new_state(kv_dtype="int2")


def test_unknown_option(model: LanguageModel) -> None:
    """Oracle: the option's name, and the range of those that exist."""
    with pytest.raises(InputError, match="warmth"):
        model.generate([1], warmth=1)
    for option in (
        {"temperature": -1},
        {"top_p": 0},
        {"top_k": -1},
        {"min_p": 2},
        {"max_tokens": 0},
        {"stop": [""]},
    ):
        with pytest.raises(InputError, match=next(iter(option))):
            model.generate([1], **option)


def _full_disk(*_: Any, **__: Any) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("layout", ["hf", "braidlm"])
def test_disk_full_while_saving(
    model: LanguageModel, layout: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Oracle: nothing stands under the final name, and nothing temporary is left."""
    monkeypatch.setattr("braidlm.checkpoints.binding.save_file", _full_disk)
    with pytest.raises(InputError, match="No space left"):
        model.save(tmp_path / "out", layout)
    assert list(tmp_path.iterdir()) == []


def test_disk_full_while_saving_a_state(model: LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: the state that was saved before is still there, whole."""
    path = tmp_path / "state"
    state = model.new_state()
    state.save(path)
    before = path.read_bytes()
    model.forward(torch.tensor([[1, 2, 3]]), state=state)
    monkeypatch.setattr("braidlm.state.state_file.save_file", _full_disk)
    with pytest.raises(InputError, match="No space left"):
        state.save(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_really_full_disk(model: LanguageModel, tmp_path: Path) -> None:
    """Oracle: a file-size limit of the operating system, hit in the middle of writing the weights."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, before[1]))
    try:
        with pytest.raises(BraidError):
            model.save(tmp_path / "out")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert list(tmp_path.iterdir()) == []


def test_existing_directory_is_kept(model: LanguageModel, tmp_path: Path) -> None:
    """Oracle: a directory with anything in it is never written to."""
    (tmp_path / "mine").write_text("precious")
    with pytest.raises(InputError, match="not empty"):
        model.save(tmp_path)
    assert (tmp_path / "mine").read_text() == "precious"


def test_rows_that_share_a_tensor_can_be_saved(model: LanguageModel, tmp_path: Path) -> None:
    """Oracle: the state that was saved: new rows and forks share their tensors in memory."""
    state = model.new_state(2)
    state.append(state.fork())
    state.save(tmp_path / "state")
    assert model.load_state(tmp_path / "state").lengths == (0, 0, 0, 0)


@pytest.mark.parametrize("place", [".", "a/b", "x" * 300, "nul\0"])
def test_places_that_cannot_be_written(
    model: LanguageModel, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Oracle: one sentence that says so."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="cannot write"):
        model.new_state().save(place)


def test_logits_of_another_name(model: LanguageModel) -> None:
    """Oracle: one sentence that names the value."""
    with pytest.raises(InputError, match="'lst'"):
        model.forward([[1]], logits="lst")


def test_state_file_with_other_tensors(model: LanguageModel, tmp_path: Path) -> None:
    """Oracle: keys of another dtype or shape, or lengths that are no numbers, are refused."""
    state = model.new_state(kv_dtype="int8")
    model.forward([[1, 2, 3]], state=state)
    path = tmp_path / "state"
    state.save(path)
    tensors = load_file(path)
    with safe_open(path, framework="pt") as file:
        about = file.metadata()
    wrong = [
        ({name: t for name, t in tensors.items() if "scale" not in name}, about),
        ({name: t.float() if name.endswith(".k") else t for name, t in tensors.items()}, about),
        (tensors, about | {"lengths": '["a"]'}),
        (tensors | {"0.0.surprise": torch.ones(1)}, about),
    ]
    for changed, header in wrong:
        save_file(changed, path, header)
        with pytest.raises(StateError, match="damaged"):
            model.load_state(path, kv_dtype="int8")


@pytest.mark.parametrize("batch", [0, -1, 1.5, "2", None, True])
def test_rows_of_a_new_state(model: LanguageModel, batch: Any) -> None:
    """Oracle: the value and what would be right."""
    with pytest.raises(InputError, match=re.escape(f"batch is {batch!r}, but must be a whole number")):
        model.new_state(batch)


@pytest.mark.parametrize("marks", [[None], [3], 5, [["a"]], [[1.5]], [[1], [2]]])
def test_marks_of_another_kind(model: LanguageModel, marks: Any) -> None:
    """Oracle: one sentence that names the argument."""
    with pytest.raises(InputError, match="state_at") as caught:
        model.forward([[1, 2, 3]], state_at=marks)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"])
def test_ids_of_numpy(model: LanguageModel, dtype: str) -> None:
    """Oracle: the same ids as lists and tensors, also from memory that cannot be written to."""
    ids = np.array([[5, 6, 7], [1, 2, 3]], dtype)
    ids.flags.writeable = False
    expected = model.forward(torch.tensor(ids.tolist()))
    assert torch.equal(model.forward(ids), expected)
    assert torch.equal(model.forward(ids[:, ::-1]), model.forward(torch.tensor(ids[:, ::-1].tolist())))
    assert all(torch.equal(a, b) for a, b in zip(model.forward(list(ids)), expected))
    whole = {"max_tokens": 3}
    expected_ids = model.generate([5, 6, 7], **whole)
    assert model.generate(ids[0], **whole) == model.generate(list(ids[0]), **whole) == expected_ids
    assert model.generate(ids, **whole)[0] == expected_ids


def test_numpy_ids_that_are_wrong(model: LanguageModel) -> None:
    """Oracle: the sentences that tensors get."""
    with pytest.raises(InputError, match=r"\[B, L\]"):
        model.forward(np.array([1, 2]))
    with pytest.raises(InputError, match="whole numbers"):
        model.forward(np.array([[0.5]]))
    with pytest.raises(InputError, match="whole numbers"):
        model.forward(np.array([[1j]]))
    with pytest.raises(InputError, match="whole numbers"):
        model.forward(np.array([["a"]]))
    with pytest.raises(InputError, match="200"):
        model.forward(np.array([[200]], "uint16"))
    with pytest.raises(InputError, match="out of range"):
        model.forward(np.array([[2**64 - 1]], "uint64"))


@pytest.mark.parametrize(
    "prompt",
    [{"role": "user", "content": "x"}, 5, None, 0.5, b"hi", [0.5], {1, 2}, [True], torch.tensor([0.5]), [["a"]]],
)
def test_prompts_of_another_kind(model: LanguageModel, prompt: Any) -> None:
    """Oracle: what was given, and what a prompt may be."""
    for act in (model.generate, model.encode, model.stream):
        with pytest.raises(InputError, match="must be text, token ids, or a list of chat messages") as caught:
            act(prompt)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("seed", [-1, 2**64, 10**30, 1.5])
def test_seeds_that_no_generator_takes(model: LanguageModel, seed: Any) -> None:
    """Oracle: the value and the range; the last seed of the range is one."""
    for act in (lambda: verify(model, 8, seed), lambda: model.generate([1], seed=seed)):
        with pytest.raises(InputError, match=re.escape(f"seed is {seed!r}, but must be a whole number from 0")):
            act()
    assert all(check.passed for check in verify(model, 8, 2**63))


def test_formats_that_do_not_exist(model: LanguageModel, tmp_path: Path) -> None:
    """Oracle: the names of those that do, before anything is written."""
    with pytest.raises(InputError, match=r"'nope'.*hf, braidlm, .*mamba-original"):
        model.save(tmp_path / "out", "nope")
    assert list(tmp_path.iterdir()) == []
