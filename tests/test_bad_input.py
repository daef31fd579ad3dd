"""Wrong input ends in one sentence that names what was wrong, and loses nothing."""

import errno
import json
import resource
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import braidlm
from braidlm import BraidError
from braidlm.api import LanguageModel
from braidlm.errors import CheckpointError, ContextLengthError, InputError, SpecError, StateError, UnavailableError
from tests.families.tiny import tiny

GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A copy of the tiny Llama."""
    return Path(shutil.copytree(GOLDEN / "llama", tmp_path / "model"))


@pytest.fixture(scope="module")
def model() -> LanguageModel:
    return braidlm.load(GOLDEN / "bamba", dtype="float32")


def edit_config(directory: Path, **changes: Any) -> None:
    config = json.loads((directory / "config.json").read_text()) | changes
    kept = {key: value for key, value in config.items() if value is not ...}
    (directory / "config.json").write_text(json.dumps(kept))


def edit_weights(directory: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> None:
    tensors = {name: tensor.clone() for name, tensor in load_file(directory / "model.safetensors").items()}
    change(tensors)
    save_file(tensors, directory / "model.safetensors")


def refused(path: str | Path, kind: type[BraidError], *words: str, **options: Any) -> None:
    """Loading ends in one sentence with these words."""
    with pytest.raises(kind) as caught:
        braidlm.load(path, **options)
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message, message


def test_missing_file(tmp_path: Path) -> None:
    """Oracle: the message names the path and says what else there is."""
    refused(tmp_path / "nowhere" / "model", InputError, "nowhere", "preset")
    refused("no-such-preset", InputError, "no-such-preset", "mamba-130m")
    refused(tmp_path, CheckpointError, "config.json")


def test_directory_without_weights(checkpoint: Path) -> None:
    """Oracle: the message names the file that is missing."""
    (checkpoint / "model.safetensors").unlink()
    refused(checkpoint, CheckpointError, "model.safetensors")


def test_truncated_safetensors(checkpoint: Path) -> None:
    """Oracle: any cut of the file is refused with its name."""
    file = checkpoint / "model.safetensors"
    whole = file.read_bytes()
    for cut in (0, 4, 100, len(whole) // 2, len(whole) - 1):
        file.write_bytes(whole[:cut])
        refused(checkpoint, CheckpointError, "model.safetensors")


def test_missing_tensor(checkpoint: Path) -> None:
    """Oracle: the tensor's published name."""
    edit_weights(checkpoint, lambda tensors: tensors.pop("model.layers.2.mlp.up_proj.weight"))
    refused(checkpoint, CheckpointError, "model.layers.2.mlp.up_proj.weight", "missing")


def test_extra_tensor(checkpoint: Path) -> None:
    """Oracle: the tensor's name."""
    edit_weights(checkpoint, lambda tensors: tensors.update(surprise=torch.ones(2)))
    refused(checkpoint, CheckpointError, "surprise")


def test_misshapen_tensor(checkpoint: Path) -> None:
    """Oracle: the tensor's name, its shape and the right one."""
    edit_weights(checkpoint, lambda tensors: tensors.update({"model.norm.weight": torch.ones(63)}))
    refused(checkpoint, CheckpointError, "model.norm.weight", "[63]", "[64]")


def test_misshapen_fused_tensor(tmp_path: Path) -> None:
    """Oracle: a stacked tensor is named as a whole."""
    directory = Path(shutil.copytree(GOLDEN / "stripedhyena", tmp_path / "model"))
    name = "backbone.blocks.1.inner_mha_cls.Wqkv.weight"
    edit_weights(directory, lambda tensors: tensors.update({name: torch.ones(120, 64)}))
    refused(directory, CheckpointError, name, "[120, 64]")


def test_tied_head_that_differs(tmp_path: Path) -> None:
    """Oracle: a repetition that does not repeat is an error, not a silent choice."""
    directory = Path(shutil.copytree(GOLDEN / "mamba", tmp_path / "model"))
    edit_weights(directory, lambda tensors: tensors.update({"lm_head.weight": torch.ones(200, 48)}))
    refused(directory, CheckpointError, "lm_head.weight", "differ")


def test_damaged_index(checkpoint: Path) -> None:
    """Oracle: the index file is named."""
    (checkpoint / "model.safetensors.index.json").write_text('{"weight_map": 3}')
    refused(checkpoint, CheckpointError, "index.json")
    (checkpoint / "model.safetensors.index.json").write_text('{"weight_map": {"a": "gone.safetensors"}}')
    refused(checkpoint, CheckpointError, "gone.safetensors")


def test_unknown_model_type(checkpoint: Path) -> None:
    """Oracle: the list of what is supported."""
    edit_config(checkpoint, model_type="rwkv")
    refused(checkpoint, SpecError, "'rwkv'", "bamba", "granitemoehybrid", "hymba", "llama", "mamba2", "stripedhyena")
    edit_config(checkpoint, model_type=...)
    refused(checkpoint, SpecError, "None")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("hidden_size", ...),
        ("hidden_size", -64),
        ("hidden_size", "64"),
        ("hidden_size", 6.5),
        ("hidden_size", 10**12),
        ("num_hidden_layers", 0),
        ("num_hidden_layers", 10**9),
        ("num_attention_heads", 5),
        ("num_key_value_heads", 3),
        ("rms_norm_eps", float("nan")),
        ("rms_norm_eps", -1.0),
        ("rope_scaling", {"rope_type": "yarn", "factor": 2.0}),
        ("rope_scaling", {"rope_type": "llama3", "factor": 8.0}),
        ("hidden_act", "relu"),
        ("attention_bias", "no"),
        ("vocab_size", True),
    ],
)
def test_missing_or_absurd_config_value(checkpoint: Path, key: str, value: Any) -> None:
    """Oracle: the message names the key or the field that it became."""
    edit_config(checkpoint, **{key: value})
    fields = {"num_key_value_heads": "kv_heads", "num_attention_heads": "heads", "rms_norm_eps": "eps"}
    refused(checkpoint, SpecError, fields.get(key, key))


def test_config_is_no_json(checkpoint: Path) -> None:
    """Oracle: the file is named."""
    (checkpoint / "config.json").write_text("{")
    refused(checkpoint, CheckpointError, "config.json")
    (checkpoint / "config.json").write_text("[]")
    refused(checkpoint, CheckpointError, "config.json")


def test_pickle_needs_permission(tmp_path: Path) -> None:
    """Oracle: the option that permits it is named; code in a pickle is never run."""
    refused(GOLDEN / "mamba_original", CheckpointError, "allow_pickle")
    directory = Path(shutil.copytree(GOLDEN / "mamba_original", tmp_path / "model"))

    class Surprise:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "ran",))

    torch.save({"backbone.embedding.weight": Surprise()}, directory / "pytorch_model.bin")
    refused(directory, CheckpointError, "pytorch_model.bin", allow_pickle=True)
    assert not (tmp_path / "ran").exists()


def test_hub_without_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: one sentence that names the hub id."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    refused("nobody/no-such-model", UnavailableError, "nobody/no-such-model", "hub")


def test_unknown_dtype_and_ops(checkpoint: Path) -> None:
    """Oracle: the message lists what there is."""
    refused(checkpoint, InputError, "float32", "bfloat16", dtype="int3")
    refused(checkpoint, UnavailableError, "reference", ops="magic")


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
        model.forward(torch.ones(1, 3, dtype=torch.int64), taps=["blocks.9"])


def test_prompt_without_tokenizer(model: LanguageModel) -> None:
    """Oracle: token ids still work, text is refused in a sentence."""
    with pytest.raises(InputError, match="no tokenizer"):
        model.generate("hello")
    assert len(model.generate([1, 2], max_new_tokens=2)) <= 2


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
    tokens = list(short.stream([1] * (limit - 2), max_new_tokens=50))
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
        {"max_new_tokens": 0},
        {"stop": [""]},
    ):
        with pytest.raises(InputError, match=next(iter(option))):
            model.generate([1], **option)


def _full_disk(*_: Any, **__: Any) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("form", ["hf", "braidlm"])
def test_disk_full_while_saving(
    model: LanguageModel, form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Oracle: nothing stands under the final name, and nothing temporary is left."""
    monkeypatch.setattr("braidlm.checkpoint.save_file", _full_disk)
    with pytest.raises(InputError, match="No space left"):
        model.save(tmp_path / "out", form)
    assert list(tmp_path.iterdir()) == []


def test_disk_full_while_saving_a_state(model: LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: the state that was saved before is still there, whole."""
    path = tmp_path / "state"
    state = model.new_state()
    state.save(path)
    before = path.read_bytes()
    model.forward(torch.tensor([[1, 2, 3]]), state=state)
    monkeypatch.setattr("braidlm.state.save_file", _full_disk)
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


@pytest.mark.parametrize("name", ["x" * 300, "nul\0", "a b/c"])
def test_names_that_nothing_can_have(name: str) -> None:
    """Oracle: one sentence that says so."""
    refused(name, InputError, name[:20])


def test_devices_and_logits(checkpoint: Path, model: LanguageModel) -> None:
    """Oracle: one sentence that names the value."""
    refused(checkpoint, UnavailableError, "'abacus'", device="abacus")
    with pytest.raises(InputError, match="'lst'"):
        model.forward([[1]], logits="lst")


def test_numbers_of_a_strange_format(checkpoint: Path) -> None:
    """Oracle: the tensor's name: whole numbers are no weights."""
    edit_weights(checkpoint, lambda tensors: tensors.update({"model.norm.weight": torch.ones(64, dtype=torch.int8)}))
    refused(checkpoint, CheckpointError, "model.norm.weight", "int8")


def test_end_tokens_survive_saving(checkpoint: Path, tmp_path: Path) -> None:
    """Oracle: the generation config's end tokens, of which the config has only one."""
    (checkpoint / "generation_config.json").write_text('{"eos_token_id": [1, 2]}')
    loaded = braidlm.load(checkpoint)
    assert loaded.origin.ends == (1, 2)
    loaded.save(tmp_path / "out")
    assert braidlm.load(tmp_path / "out").origin.ends == (1, 2)


@pytest.mark.parametrize(
    ("family", "key", "value"),
    [
        ("bamba", "layer_types", ["attention", "foo", "mamba", "mamba", "mamba"]),
        ("granitemoehybrid", "logits_scaling", 0),
        ("hymba", "kv_reuse_group", 5),
        ("llama", "rope_scaling", {"type": "linear", "factor": "x"}),
    ],
)
def test_config_values_of_the_wrong_kind(family: str, key: str, value: Any, tmp_path: Path) -> None:
    """Oracle: one sentence, never a traceback or a silent choice."""
    directory = Path(shutil.copytree(GOLDEN / family, tmp_path / "model"))
    edit_config(directory, attn_layer_indices=..., **{key: value})
    refused(directory, SpecError)


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
