"""Tensors between files and models: reading, a table of names both ways, a strict account of coverage.

Safetensors files are memory-mapped and a tensor whose dtype is wanted as it is becomes a parameter
without being copied. Every tensor of a checkpoint must be used exactly once and every parameter
filled exactly once, else the load is refused with the tensor's name. Pickles are read only when
asked for, and then with `weights_only=True`.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple, Protocol
from zipfile import is_zipfile

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from .describe import parameter_dtypes
from .errors import CheckpointError, InputError
from .families import Alias, Drop, NameRule, Rule
from .model import Model
from .ops.linear.packed import PackedWeight

INDEX_FILE = "model.safetensors.index.json"
SHARD_BYTES = 2 << 30

Progress = Callable[[int, int], None]

_DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


class Source(Protocol):
    """Named tensors somewhere on disk."""

    def names(self) -> set[str]:
        """The names of all tensors."""
        ...

    def get(self, name: str) -> Tensor:
        """One tensor, in its stored dtype."""
        ...


class SafetensorsSource:
    """One or several memory-mapped safetensors files."""

    def __init__(self, files: Sequence[Path]) -> None:
        self._handles: dict[str, Any] = {}
        for file in files:
            try:
                handle = safe_open(file, framework="pt")
            except FileNotFoundError:
                raise CheckpointError(f"the weights file {file} does not exist") from None
            except (OSError, SafetensorError) as error:
                raise CheckpointError(f"{file} is damaged or no safetensors file: {error}") from None
            for name in handle.keys():  # noqa: SIM118 (a safetensors file is no dictionary)
                if name in self._handles:
                    raise CheckpointError(f"tensor {name} is in more than one file of {file.parent}")
                self._handles[name] = handle

    def names(self) -> set[str]:
        """See `Source`."""
        return set(self._handles)

    def get(self, name: str) -> Tensor:
        """A view into the mapped file."""
        return self._handles[name].get_tensor(name)


class PickleSource:
    """A pickled state dict, read without running code that it may contain."""

    def __init__(self, file: Path) -> None:
        try:
            # Before torch 1.6 a checkpoint was no zip file, which cannot be mapped.
            loaded = torch.load(file, map_location="cpu", weights_only=True, mmap=is_zipfile(file))
        except Exception as error:  # a damaged pickle may end in any exception
            reason = str(error).split("\n")[0]
            raise CheckpointError(f"{file} is damaged or holds more than tensors: {reason}") from None
        if not isinstance(loaded, dict):
            raise CheckpointError(f"{file} holds a {type(loaded).__name__}, but must hold a dictionary of tensors")
        for name, tensor in loaded.items():
            if not isinstance(name, str):
                raise CheckpointError(f"{file} calls a tensor {name!r}, but names must be texts")
            if not isinstance(tensor, Tensor):
                raise CheckpointError(
                    f"{file} holds a {type(tensor).__name__} called {name}, but must hold only tensors"
                )
            if tensor.layout != torch.strided:
                raise CheckpointError(f"tensor {name} is sparse in {file}, but must be dense")
        self._tensors: dict[str, Tensor] = loaded

    def names(self) -> set[str]:
        """See `Source`."""
        return set(self._tensors)

    def get(self, name: str) -> Tensor:
        """See `Source`."""
        return self._tensors[name]


def open_directory(path: Path, *, allow_pickle: bool) -> Source:
    """The weights of a Hugging Face or braidlm directory."""
    index, single = path / INDEX_FILE, path / "model.safetensors"
    if index.exists():
        return SafetensorsSource([path / file for file in _indexed_files(index)])
    if single.exists():
        return SafetensorsSource([single])
    pickles = sorted([*path.glob("*.bin"), *path.glob("*.pt"), *path.glob("*.pth")])
    if not pickles:
        raise CheckpointError(f"{path} holds no weights: neither model.safetensors nor {INDEX_FILE}")
    if not allow_pickle:
        raise CheckpointError(
            f"{path} holds only pickled weights ({pickles[0].name}); allow_pickle=True (--allow-pickle) loads them, "
            "without running code from them"
        )
    if len(pickles) > 1:
        raise CheckpointError(
            f"{path} holds several pickles ({', '.join(p.name for p in pickles)}); convert them first"
        )
    return PickleSource(pickles[0])


def _indexed_files(index: Path) -> list[str]:
    """The files that an index names, all of them in its own directory."""
    try:
        named = list(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise CheckpointError(f"{index} is damaged: it should hold a 'weight_map' of tensor names to files") from None
    for file in named:
        if not isinstance(file, str) or not _is_inside(file) or (index.parent / file).is_dir():
            raise CheckpointError(f"{index} is damaged: it names {file!r}, which is no file of its directory")
    return sorted(set(named))


def _is_inside(file: str) -> bool:
    # By its name alone: files in a cache are links to elsewhere.
    return "\0" not in file and not PurePosixPath(file).is_absolute() and ".." not in PurePosixPath(file).parts


@dataclass(frozen=True)
class Bound:
    """A rule at one block: which of their tensors hold which of our parameters."""

    rule: Rule
    theirs: tuple[str, ...]
    ours: tuple[str, ...]


def bind(rules: Sequence[NameRule], ours: Mapping[str, torch.Size], blocks: int) -> list[Bound]:
    """The rules that apply to a model with parameters `ours`; each parameter is named exactly once."""
    bound: list[Bound] = []
    filled: dict[str, str] = {}
    for rule in rules:
        if not isinstance(rule, Rule):
            continue
        for i in _numbers(rule.theirs[0], blocks):
            names = tuple(name for name in _at(rule.ours, i) if name in ours)
            if not names:
                continue
            bound.append(Bound(rule, _at(rule.theirs, i), names))
            for name in names:
                if name in filled:
                    raise CheckpointError(
                        f"parameter {name} is filled by both {filled[name]} and {bound[-1].theirs[0]}"
                    )
                filled[name] = bound[-1].theirs[0]
    unfilled = sorted(set(ours) - set(filled))
    if unfilled:
        raise CheckpointError(f"this format has no tensor for the parameter {unfilled[0]}")
    return bound


class Packing(Protocol):
    """How weights are quantized while they are read."""

    def kept(self, entry: Bound, theirs: Sequence[str], shapes: Sequence[torch.Size]) -> list[PackedWeight] | None:
        """The weights of an entry as the file has them packed; None if it has not, or they must not be."""
        ...

    def packed(self, name: str, tensor: Tensor) -> PackedWeight | None:
        """A tensor as the packed weight `name`; None if that weight stays plain."""
        ...


def _numbers(pattern: str, blocks: int) -> range:
    return range(blocks) if "{i}" in pattern else range(1)


def _at(patterns: Sequence[str], i: int) -> tuple[str, ...]:
    return tuple(pattern.replace("{i}", str(i)) for pattern in patterns)


def fill(
    model: Model,
    source: Source,
    rules: Sequence[NameRule],
    dtype: torch.dtype,
    *,
    device: str | torch.device = "cpu",
    optional_prefix: str = "",
    progress: Progress | None = None,
    packing: Packing | None = None,
) -> None:
    """Gives every weight of `model` (on the meta device) its values from `source`.

    `packing` quantizes as the tensors come, so that the whole never exists unquantized.
    """
    shapes = {name: weight.shape for name, weight in model.named_weights()}
    bound = bind(rules, shapes, len(model.spec.blocks))
    resolve = _resolver(source.names(), optional_prefix)
    dtypes = parameter_dtypes(model, dtype)
    used: set[str] = set()
    for done, entry in enumerate(bound):
        theirs = [resolve(name) for name in entry.theirs]
        used.update(theirs)
        wanted = {name: (dtypes[name], shapes[name]) for name in entry.ours}
        for name, weight in _read(entry, theirs, source, wanted, packing):
            assign(model, name, weight.to(device))
        if progress is not None:
            progress(done + 1, len(bound))
    used |= _check_others(model, source, rules, resolve, packing)
    extra = sorted(source.names() - used)
    if extra:
        raise CheckpointError(f"tensor {extra[0]} belongs to no parameter of this model ({len(extra)} such tensors)")


def _read(
    entry: Bound,
    theirs: Sequence[str],
    source: Source,
    wanted: Mapping[str, tuple[torch.dtype, torch.Size]],
    packing: Packing | None,
) -> Iterator[tuple[str, Any]]:
    """An entry's weights by name, tensors of the wanted dtype or packed."""
    shapes = [shape for _, shape in wanted.values()]
    kept = packing.kept(entry, theirs, shapes) if packing is not None else None
    if kept is not None:
        yield from zip(entry.ours, kept, strict=True)
        return
    parts = entry.rule.read([source.get(name) for name in theirs], shapes)
    for name, part in zip(entry.ours, parts, strict=True):
        _check_tensor(theirs[0], part, *wanted[name])
        packed = packing.packed(name, part) if packing is not None else None
        yield name, part.to(wanted[name][0]).contiguous() if packed is None else packed


def _check_tensor(name: str, tensor: Tensor, dtype: torch.dtype, shape: torch.Size) -> None:
    """Refuses what cannot become a weight of this dtype and shape; packed numbers are never converted."""
    if tensor.dtype != dtype and not (tensor.dtype in _DTYPES and dtype in _DTYPES):
        raise CheckpointError(f"tensor {name} is stored as {tensor.dtype}, which is no plain number format")
    if tensor.shape != shape:
        raise CheckpointError(f"tensor {name} has the shape {list(tensor.shape)}, but the config needs {list(shape)}")


def _resolver(present: set[str], optional_prefix: str) -> Callable[[str], str]:
    def resolve(name: str) -> str:
        for candidate in (name, name.removeprefix(optional_prefix)):
            if candidate in present:
                return candidate
        raise CheckpointError(f"tensor {name} is missing from the checkpoint")

    return resolve


def _check_others(
    model: Model,
    source: Source,
    rules: Sequence[NameRule],
    resolve: Callable[[str], str],
    packing: Packing | None,
) -> set[str]:
    """Tensors that fill nothing but are known: dropped buffers, and repetitions, which must repeat."""
    known: set[str] = set()
    weights = dict(model.named_weights())
    for rule in rules:
        if isinstance(rule, Rule):
            continue
        for i in _numbers(rule.theirs, len(model.spec.blocks)):
            try:
                name = resolve(*_at((rule.theirs,), i))
            except CheckpointError:
                continue
            known.add(name)
            if isinstance(rule, Alias):
                ours, theirs = weights.get(rule.ours), source.get(name)
                if ours is None:  # packed: so must its repetition be
                    packed = packing.packed(rule.ours, theirs) if packing is not None else None
                    ours = weights[f"{rule.ours}.data"]
                    theirs = theirs if packed is None else packed.data
                if theirs.shape != ours.shape or not torch.equal(theirs.to(ours.device, ours.dtype), ours):
                    raise CheckpointError(
                        f"the config says that {name} is tied to the embedding, but its values differ"
                    )
            else:
                assert isinstance(rule, Drop)
    return known


def assign(model: nn.Module, name: str, value: Tensor | PackedWeight) -> None:
    """Makes `value` the weight called `name`, without copying it."""
    path, _, leaf = name.rpartition(".")
    module = model.get_submodule(path)
    if isinstance(value, PackedWeight):
        delattr(module, leaf)  # a parameter's place is only a parameter's
        setattr(module, leaf, value)
    elif leaf in module._buffers:
        setattr(module, leaf, value)
    else:
        setattr(module, leaf, nn.Parameter(value, requires_grad=False))


class Export(NamedTuple):
    """A tensor to write: its name, its bytes, and a function that makes it when its turn comes."""

    name: str
    nbytes: int
    make: Callable[[], Tensor]


def export(model: Model, rules: Sequence[NameRule]) -> Iterator[Export]:
    """Their tensors for our weights."""
    parameters = {name: weight.detach() for name, weight in model.named_weights()}
    shapes = {name: parameter.shape for name, parameter in parameters.items()}

    def written(entry: Bound, index: int) -> Tensor:
        return entry.rule.write([parameters[name] for name in entry.ours])[index].contiguous()

    for entry in bind(rules, shapes, len(model.spec.blocks)):
        size = sum(parameters[name].nbytes for name in entry.ours) // len(entry.theirs)
        for index, name in enumerate(entry.theirs):
            yield Export(name, size, partial(written, entry, index))
    for rule in rules:
        if isinstance(rule, Alias) and rule.written:
            yield Export(rule.theirs, parameters[rule.ours].nbytes, partial(parameters.__getitem__, rule.ours))


def write_safetensors(directory: Path, tensors: Sequence[Export], progress: Progress | None = None) -> None:
    """Writes one file, or shards of at most `SHARD_BYTES` with an index; one shard is in memory at a time."""
    shards: list[list[Export]] = [[]]
    room = SHARD_BYTES
    for entry in tensors:
        if entry.nbytes > room and shards[-1]:
            shards.append([])
            room = SHARD_BYTES
        shards[-1].append(entry)
        room -= entry.nbytes
    count, weight_map, done = len(shards), {}, 0
    for number, shard in enumerate(shards, 1):
        file = "model.safetensors" if count == 1 else f"model-{number:05d}-of-{count:05d}.safetensors"
        made = {entry.name: entry.make() for entry in shard}
        try:
            save_file(made, directory / file, {"format": "pt"})
        except (OSError, SafetensorError) as error:
            raise InputError(f"cannot write the weights: {error}") from None
        weight_map.update(dict.fromkeys(made, file))
        done += len(shard)
        if progress is not None:
            progress(done, len(tensors))
    if count > 1:
        total = sum(entry.nbytes for entry in tensors)
        index = {"metadata": {"total_size": total}, "weight_map": weight_map}
        (directory / INDEX_FILE).write_text(json.dumps(index, indent=2))


def write_pickle(directory: Path, tensors: Sequence[Export]) -> None:
    """Writes a state dict as the original state-spaces checkpoints have it."""
    try:
        torch.save({entry.name: entry.make() for entry in tensors}, directory / "pytorch_model.bin")
    except (OSError, RuntimeError) as error:
        raise InputError(f"cannot write the weights: {error}") from None
