"""Loading of models by name: a directory, a GGUF file, a preset, a hub id.

Never runs code that comes with a checkpoint. Messages of what goes wrong are one sentence each.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch

from .. import families
from ..checkpoints import binding
from ..checkpoints.directory import open_directory
from ..checkpoints.fp8 import Fp8Tensors, KeepFp8
from ..checkpoints.gguf import GgufFile
from ..checkpoints.gguf_dequantized import DequantizedRows
from ..checkpoints.names import TextTensors
from ..checkpoints.published import CONFIG_FILE, read_published
from ..checkpoints.quantizing import KEEP, KeepQuantized, RoundToNearest, check_choice, prepare, read_quantized
from ..checkpoints.saving import OWN_FILE, OWN_VERSION, Origin, own_names
from ..checkpoints.usable_length import usable_length_of
from ..errors import CheckpointError, InputError, SpecError, UnavailableError, quoted
from ..families.presets import preset
from ..model import footprint
from ..model.initialisation import randomise
from ..model.model import Model
from ..ops import dispatch
from ..ops.linear.quantized import WEIGHT_FORMATS
from ..quant.policy import policy_of
from ..spec import ModelSpec, is_whole
from ..system.dtypes import long_name, torch_dtype
from ..system.files import is_there, read_object
from ..system.progress import ProgressFunction
from ..system.progress_bar import shown
from ..text.tokenizer import Tokenizer
from .language_model import LanguageModel
from .places import is_preset, resolve, resolve_description

_DTYPES = ("float32", "fp32", "bfloat16", "bf16", "float64")


def load(
    path_or_name: str | Path,
    dtype: str = "auto",
    device: str = "cpu",
    ops: str = "auto",
    allow_pickle: bool = False,
    *,
    quantize: str | None = None,
    deterministic: bool = False,
    progress: ProgressFunction | Literal[False] | None = None,
) -> LanguageModel:
    """Loads a published or saved checkpoint.

    `path_or_name` is a directory in Hugging Face or braidlm layout or its config file, a GGUF file, "braid-6m" (the
    model that comes with braidlm), a preset's name (`presets.PRESETS`), or a hub id such as
    "state-spaces/mamba-130m-hf". `dtype` "auto" keeps bfloat16 and float32 weights as stored (memory-mapped, not
    copied) and takes float32 for everything else. `allow_pickle` permits pickled weights, which are then read as
    tensors only. `quantize` "int8", "int4" or "fp8" quantizes the weights while they are read, tensor by tensor; "keep"
    leaves the weights of a GGUF file, or of a checkpoint in fp8 with scales, quantized as they are there; of such a
    checkpoint "fp8" keeps those too, and rounds anew what has scales of blocks. Without it they are dequantized. What
    braidlm has saved quantized needs neither. With quantized weights `dtype` is that of the activations, and "auto" is
    bfloat16. `deterministic` makes logits bit-equal for every way of cutting a text into calls, every batch and number
    of threads, and after a restored state; prompts are then read token by token, at the speed of decoding.
    `progress(done, total)` is called for each tensor; None shows a bar on a terminal and in a notebook once it takes a
    second, False or the environment's BRAIDLM_PROGRESS=0 none. What is left out of a checkpoint is told by a
    `LoadingWarning`.
    """
    path = resolve(path_or_name, allow_pickle=allow_pickle)
    read = _load_directory if path.is_dir() else _load_gguf
    _check_device(device)
    check_choice(quantize)
    with shown(f"loading {Path(path_or_name).name}", progress) as step:
        network, tokenizer, origin = read(path, _How(dtype, device, allow_pickle, quantize, step))
    if quantize not in (None, KEEP):
        origin = origin.without_measurements()
    return LanguageModel(network.eval(), tokenizer, origin, ops=ops, deterministic=deterministic)


def check_loadable(
    path_or_name: str | Path, dtype: str, ops: str, allow_pickle: bool, *, quantize: str | None = None
) -> None:
    """Raises the error of `load` that is found before a weight is read: of a name, an option, a config or a header."""
    path = resolve(path_or_name, allow_pickle=allow_pickle)
    check_choice(quantize)
    dispatch.checked(ops)
    if dtype != "auto":
        dtype_of(dtype)
    read_spec(path)


def read_spec(path_or_name: str | Path) -> ModelSpec:
    """Reads the spec alone: of a preset, of a config file, or of a checkpoint whose weights are not read.

    Of a hub id only the config is downloaded.
    """
    if is_preset(path_or_name):
        return preset(str(path_or_name)).spec
    return _spec_of(resolve_description(path_or_name))


def _spec_of(place: Path) -> ModelSpec:
    """Spec of what is at a place of `resolve`."""
    if place.is_file():
        return _read_gguf(GgufFile(place))[1]
    if is_there(place / OWN_FILE):
        return _read_own(_read_own_file(place), place)[0]
    published = read_published(place)
    return published.family.read(published.config)


def read_tokenizer(path_or_name: str | Path) -> Tokenizer:
    """Reads the tokenizer alone: of a checkpoint, whose weights are not read, or of a directory without weights."""
    path = resolve(path_or_name)
    found = Tokenizer.from_gguf(GgufFile(path).fields) if path.is_file() else Tokenizer.from_directory(path)
    if found is None:
        raise InputError(f"{path} has no tokenizer; a directory needs a tokenizer.json, or another file that holds one")
    return found


class Described(NamedTuple):
    """A model as its description says it.

    kinds: kinds of quantized weights by name. usable_length: up to how many tokens it was measured to be usable.
    """

    spec: ModelSpec
    kinds: dict[str, str]
    usable_length: int | None


def read_described(path_or_name: str | Path, quantize: str | None = None) -> Described:
    """Reads what is known of a model before its weights; `quantize` is the format that its weights are to get."""
    place = None if is_preset(path_or_name) else resolve_description(path_or_name)
    spec = read_spec(path_or_name) if place is None else _spec_of(place)
    if quantize is not None:  # a length that was measured holds for the weights as they are stored
        return Described(spec, policy_of(footprint.skeleton(spec), quantize), None)
    if place is None:
        return Described(spec, {}, None)
    return Described(spec, _kinds_of(place), _usable_length_of(place))


def _kinds_of(place: Path) -> dict[str, str]:
    """Kinds of quantized weights, by name, of a directory in braidlm's own layout; none of any other."""
    if not is_there(place / OWN_FILE):
        return {}
    metadata = _read_own_file(place)
    quantized = metadata.get("quantization")
    if quantized is None:
        return {}
    return read_quantized(quantized, footprint.skeleton(_read_own(metadata, place)[0]), str(place / OWN_FILE))


def _usable_length_of(place: Path) -> int | None:
    """Usable length that the metadata of a directory say; None for what is no directory."""
    file = next((place / name for name in (OWN_FILE, CONFIG_FILE) if is_there(place / name)), None)
    return None if file is None else usable_length_of(read_object(file, CheckpointError), file)


def build(spec_or_preset: ModelSpec | str, seed: int = 0, dtype: str = "float32", device: str = "cpu") -> LanguageModel:
    """Builds a model with random weights, from a spec or a preset's name; the same seed gives the same weights.

    No weight requires gradients, as after `load`: forward passes record none. To train it call
    `model.network.train().requires_grad_()`, after `train.initial.initialise(model.network, seed)` for the values that
    layers of each kind are begun with; "A loop of your own" in docs/training.md shows the rest.
    """
    spec = preset(spec_or_preset).spec if isinstance(spec_or_preset, str) else spec_or_preset
    network = footprint.skeleton(spec)
    randomise(network, seed, dtype_of(dtype), device)
    return LanguageModel(network.eval(), None, Origin(), ops="auto")


def _check_device(device: str) -> None:
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UnavailableError(f"device {device!r} cannot be used: {str(error).splitlines()[0]}") from None


def dtype_of(name: str) -> torch.dtype:
    """Dtype of a name, short or long."""
    if name not in _DTYPES:
        raise InputError(f"dtype is {name!r}, but must be one of {', '.join(_DTYPES)} (or 'auto' for a checkpoint)")
    return torch_dtype(long_name(name))


def _resolve_dtype(name: str, stored: torch.dtype) -> torch.dtype:
    if name != "auto":
        return dtype_of(name)
    return torch.bfloat16 if stored == torch.bfloat16 else torch.float32


Loaded = tuple[Model, Tokenizer | None, Origin]


class _How(NamedTuple):
    """Options of `load`."""

    dtype: str
    device: str
    allow_pickle: bool
    quantize: str | None
    progress: ProgressFunction | None


def _load_directory(path: Path, how: _How) -> Loaded:
    return _load_own(path, how) if is_there(path / OWN_FILE) else _load_published(path, how)


def _load_own(path: Path, how: _How) -> Loaded:
    metadata = _read_own_file(path)
    spec, origin = _read_own(metadata, path)
    quantized = metadata.get("quantization")
    if quantized is not None and how.quantize not in (None, KEEP):
        raise InputError(f"{path} is quantized already; load it as it is, or quantize the original to {how.quantize}")
    source = open_directory(path, allow_pickle=how.allow_pickle)
    network = footprint.skeleton(spec)
    kinds = {} if quantized is None else read_quantized(quantized, network, str(path / OWN_FILE))
    dtype = _dtype_of_own(source, how, None if quantized is None else quantized["dtype"])
    prepare(network, kinds, dtype)
    reader = None if quantized is not None else _quantizer(path, network, how, dtype)
    binding.fill(network, source, own_names(network), dtype, device=how.device, progress=how.progress, reader=reader)
    return _with_tokenizer(path, metadata, network, origin)


def _load_published(path: Path, how: _How) -> Loaded:
    published = read_published(path)
    spec = published.family.read(published.config)
    network = footprint.skeleton(spec)
    stored = Fp8Tensors(open_directory(path, allow_pickle=how.allow_pickle), published.fp8)
    rules = list(published.family.names(spec))
    text = TextTensors(stored, rules, len(spec.blocks), ahead=published.ahead, nested=published.nested)
    dtype = _dtype_of(how, stored.dtype(text.stored_names()))
    keeping = None
    if stored.any_fp8() and how.quantize in (KEEP, "fp8"):
        keeping = KeepFp8(network, text, stored, dtype, anew=how.quantize == "fp8")
    reader = keeping or _quantizer(path, network, how, dtype)
    binding.fill(network, text, rules, dtype, device=how.device, progress=how.progress, reader=reader)
    if keeping is not None:
        keeping.tell()
    origin = Origin(published.family.name, published.config, (), published.usable_length)
    return _with_tokenizer(path, published.config, network, origin)


def _quantizer(path: Path, network: Model, how: _How, dtype: torch.dtype) -> binding.WeightReader | None:
    """Quantizer of plain weights while they are read; None if they stay as they are."""
    if how.quantize == KEEP:
        raise InputError(f"{path} has no quantized weights to keep; quantize can be {', '.join(WEIGHT_FORMATS)}")
    return None if how.quantize is None else RoundToNearest(network, how.quantize, dtype)


def _with_tokenizer(path: Path, config: Mapping[str, Any], network: Model, origin: Origin) -> Loaded:
    tokenizer = Tokenizer.from_directory(path)
    ends = origin.ends or _ends(path, config, tokenizer)
    return network, tokenizer, replace(origin, ends=ends)


def _dtype_of_own(source: binding.Source, how: _How, quantized: str | None) -> torch.dtype:
    """The dtype of activations and plain weights; `quantized` is the one with which quantized weights were saved."""
    if quantized is not None:
        return dtype_of(quantized if how.dtype == "auto" else how.dtype)
    return _dtype_of(how, Fp8Tensors(source, None).dtype(source.names()))


def _dtype_of(how: _How, stored: torch.dtype) -> torch.dtype:
    if how.dtype == "auto" and how.quantize is not None:
        return torch.bfloat16
    return _resolve_dtype(how.dtype, stored)


def _read_own_file(path: Path) -> dict[str, Any]:
    return read_object(path / OWN_FILE, CheckpointError)


def _read_own(metadata: dict[str, Any], path: Path) -> tuple[ModelSpec, Origin]:
    if metadata.get("format") != OWN_VERSION:
        raise CheckpointError(
            f"{path / OWN_FILE} is of format {quoted(metadata.get('format'))}; this version reads {OWN_VERSION}"
        )
    origin = metadata.get("origin") or {}
    if not isinstance(origin, dict):
        raise CheckpointError(f"{path / OWN_FILE} has the origin {quoted(origin)}, but it must be an object")
    layout, config = origin.get("format"), origin.get("config") or {}
    if not isinstance(layout, str | None) or not isinstance(config, dict):
        raise CheckpointError(f"{path / OWN_FILE} has an origin whose format is no name or whose config is no object")
    ends = _checked_ends(origin.get("ends") or [], path / OWN_FILE)
    usable_length = usable_length_of(metadata, path / OWN_FILE)
    return ModelSpec.from_json(metadata.get("spec")), Origin(layout, config, ends, usable_length)


def _ends(path: Path, config: Mapping[str, Any], tokenizer: Tokenizer | None) -> tuple[int, ...]:
    """Ids that end a text: the generation config's, else the config's, else the tokenizer's."""
    generation = path / "generation_config.json"
    told = read_object(generation, CheckpointError) if is_there(generation) else {}
    for file, found in ((generation, told), (path, config)):
        value = found.get("eos_token_id")
        if value is not None:
            return _checked_ends(value, file)
    return tuple(tokenizer.eos_ids) if tokenizer is not None else ()


def _checked_ends(value: Any, where: Path) -> tuple[int, ...]:
    ends = value if isinstance(value, list) else [value]
    if not all(is_whole(end) for end in ends):
        raise CheckpointError(f"{where} has the end tokens {quoted(value)}, but they must be token ids")
    return tuple(ends)


def _load_gguf(path: Path, how: _How) -> Loaded:
    file = GgufFile(path)
    family, spec, config = _read_gguf(file)
    assert family.gguf is not None
    network = footprint.skeleton(spec)
    narrow = how.quantize is not None or file.quantization("token_embd.weight") == "BF16"
    dtype = _resolve_dtype(how.dtype, torch.bfloat16 if narrow else torch.float32)
    reader: binding.WeightReader
    if how.quantize is None:
        reader = DequantizedRows(network, file, dtype)
    elif how.quantize == KEEP:
        reader = KeepQuantized(network, file, dtype)
    else:
        reader = RoundToNearest(network, how.quantize, dtype)
    rules = family.gguf.names(spec)
    binding.fill(network, file, rules, dtype, device=how.device, progress=how.progress, reader=reader)
    tokenizer = Tokenizer.from_gguf(file.fields)
    return network, tokenizer, Origin(family.name, config, tuple(tokenizer.eos_ids) if tokenizer else ())


def _read_gguf(file: GgufFile) -> tuple[families.Family, ModelSpec, dict[str, Any]]:
    family = families.of_gguf(file.arch, file.model_fields())
    assert family.gguf is not None
    try:
        config = family.gguf.config(file.model_fields(), file)
    except SpecError:
        raise
    except KeyError as missing:
        raise CheckpointError(f"{file.path} lacks the metadata or tensor {missing}") from None
    except (TypeError, ValueError, ArithmeticError, IndexError) as error:
        raise CheckpointError(f"{file.path} has metadata of the wrong kind: {error}") from None
    return family, family.read(config), config
