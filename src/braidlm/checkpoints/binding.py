"""Binding of tensors in files to weights of models, both ways: by name rules, with strict coverage.

A tensor whose dtype is wanted as it is becomes a parameter without being copied. Every tensor of a source
must be used exactly once and every parameter filled exactly once, else the load is refused with the tensor's name.
Where tensors come from (`directory`, `gguf`) is not known here.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from ..errors import CheckpointError, InputError
from ..families import Alias, NameRule, Rule
from ..families.names import rename
from ..model.assign import assign
from ..model.footprint import parameter_dtypes
from ..model.model import Model
from ..ops.linear.quantized import QuantizedWeight
from ..system.progress import ProgressFunction

INDEX_FILE = "model.safetensors.index.json"
SHARD_BYTES = 2 << 30


_DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


class Source(Protocol):
    """Source of named tensors: a directory or a file."""

    def names(self) -> set[str]:
        """The names of all tensors."""
        ...

    def get(self, name: str) -> Tensor:
        """One tensor, in its stored dtype."""
        ...


@dataclass(frozen=True)
class Bound:
    """A name rule at one block: the file's tensors (`source`) that hold the model's weights (`target`)."""

    rule: Rule
    source: tuple[str, ...]
    target: tuple[str, ...]


def bind(rules: Sequence[NameRule], weights: Mapping[str, torch.Size], blocks: int) -> list[Bound]:
    """Binds name rules to a model's weights (shapes by name) at each block; every weight is named exactly once."""
    bound: list[Bound] = []
    filled: dict[str, str] = {}
    for rule in rules:
        if not isinstance(rule, Rule):
            continue
        for i in _numbers(rule.source[0], blocks):
            names = tuple(name for name in _at(rule.target, i) if name in weights)
            if not names:
                continue
            bound.append(Bound(rule, _at(rule.source, i), names))
            for name in names:
                if name in filled:
                    raise CheckpointError(
                        f"parameter {name} is filled by both {filled[name]} and {bound[-1].source[0]}"
                    )
                filled[name] = bound[-1].source[0]
    unfilled = sorted(set(weights) - set(filled))
    if unfilled:
        raise CheckpointError(f"this format has no tensor for the parameter {unfilled[0]}")
    return bound


class WeightReader(Protocol):
    """Reader of weights in another way than from a source's tensors by a rule: quantized, or straight into place."""

    def read_entry(self, entry: Bound, shapes: Sequence[torch.Size]) -> Sequence[Tensor | QuantizedWeight] | None:
        """Weights of an entry, complete; None if the rule is to make them of the source's tensors."""
        ...

    def quantized(self, name: str, tensor: Tensor) -> QuantizedWeight | None:
        """Quantizes the weight `name`; None if it stays plain."""
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
    progress: ProgressFunction | None = None,
    reader: WeightReader | None = None,
) -> None:
    """Fills every weight of `model` (on the meta device) with its values from `source`.

    `reader` quantizes as the tensors come, say, so that the whole never exists unquantized.
    """
    shapes = {name: weight.shape for name, weight in model.named_weights()}
    bound = bind(rules, shapes, len(model.spec.blocks))
    present = source.names()
    dtypes = parameter_dtypes(model, dtype)
    used: set[str] = set()
    for done, entry in enumerate(bound):
        for name in entry.source:
            if name not in present:
                raise CheckpointError(f"tensor {name} is missing from the checkpoint")
        used.update(entry.source)
        wanted = {name: (dtypes[name], shapes[name]) for name in entry.target}
        for name, weight in _read(entry, source, wanted, reader):
            assign(model, name, weight.to(device))
        if progress is not None:
            progress(done + 1, len(bound))
    used |= _check_others(model, source, rules, reader)
    extra = sorted(present - used)
    if extra:
        raise CheckpointError(f"tensor {extra[0]} belongs to no parameter of this model ({len(extra)} such tensors)")


def _read(
    entry: Bound,
    source: Source,
    wanted: Mapping[str, tuple[torch.dtype, torch.Size]],
    reader: WeightReader | None,
) -> Iterator[tuple[str, Any]]:
    """An entry's weights by name, tensors of the wanted dtype or quantized."""
    shapes = [shape for _, shape in wanted.values()]
    complete = reader.read_entry(entry, shapes) if reader is not None else None
    if complete is not None:
        yield from zip(entry.target, complete, strict=True)
        return
    parts = entry.rule.read([source.get(name) for name in entry.source], shapes)
    for name, part in zip(entry.target, parts, strict=True):
        _check_tensor(entry.source[0], part, *wanted[name])
        quantized = reader.quantized(name, part) if reader is not None else None
        yield name, part.to(wanted[name][0]).contiguous() if quantized is None else quantized


def _check_tensor(name: str, tensor: Tensor, dtype: torch.dtype, shape: torch.Size) -> None:
    """Refuses what cannot become a weight of this dtype and shape; quantized numbers are never converted."""
    if tensor.dtype != dtype and not (tensor.dtype in _DTYPES and dtype in _DTYPES):
        raise CheckpointError(f"tensor {name} is stored as {tensor.dtype}, which is no plain number format")
    if tensor.shape != shape:
        raise CheckpointError(f"tensor {name} has the shape {list(tensor.shape)}, but the config needs {list(shape)}")


def _check_others(model: Model, source: Source, rules: Sequence[NameRule], reader: WeightReader | None) -> set[str]:
    """Tensors that fill nothing but are known: dropped buffers, and repetitions, which must repeat."""
    known: set[str] = set()
    present = source.names()
    for rule in rules:
        if isinstance(rule, Rule):
            continue
        for i in _numbers(rule.source, len(model.spec.blocks)):
            (name,) = _at((rule.source,), i)
            if name not in present:
                continue
            known.add(name)
            if isinstance(rule, Alias) and not _repeats(model, source, name, rule.target, reader):
                raise CheckpointError(f"the config says that {name} is tied to the embedding, but its values differ")
    return known


def _repeats(model: Model, source: Source, name: str, target: str, reader: WeightReader | None) -> bool:
    """Whether tensor `name`, quantized as the weight `target` is, has the values of that weight."""
    path, _, leaf = target.rpartition(".")
    weight: Any = getattr(model.get_submodule(path), leaf)
    entry = Bound(rename(name, target), (name,), (target,))
    complete = reader.read_entry(entry, [weight.shape]) if reader is not None else None
    tensor: Any = source.get(name) if complete is None else complete[0]
    if isinstance(weight, QuantizedWeight):
        quantized = reader.quantized(target, tensor) if reader is not None and complete is None else None
        tensor, weight = tensor if quantized is None else quantized, weight.dequantize(torch.float32)
    if isinstance(tensor, QuantizedWeight):
        tensor = tensor.dequantize(torch.float32)
    return tensor.shape == weight.shape and torch.equal(tensor.to(weight.device, weight.dtype), weight)


class Export(NamedTuple):
    """A tensor to write: its name, its bytes, and a function that makes it when its turn comes."""

    name: str
    nbytes: int
    make: Callable[[], Tensor]


def export(model: Model, rules: Sequence[NameRule]) -> Iterator[Export]:
    """Tensors of a file for a model's weights, in the order of the rules; each is made when its turn comes."""
    parameters = {name: weight.detach() for name, weight in model.named_weights()}
    shapes = {name: parameter.shape for name, parameter in parameters.items()}

    def written(entry: Bound, index: int) -> Tensor:
        return entry.rule.write([parameters[name] for name in entry.target])[index].contiguous()

    for entry in bind(rules, shapes, len(model.spec.blocks)):
        size = sum(parameters[name].nbytes for name in entry.target) // len(entry.source)
        for index, name in enumerate(entry.source):
            yield Export(name, size, partial(written, entry, index))
    for rule in rules:
        if isinstance(rule, Alias) and rule.written:
            yield Export(rule.source, parameters[rule.target].nbytes, partial(parameters.__getitem__, rule.target))


def write_safetensors(directory: Path, tensors: Sequence[Export], progress: ProgressFunction | None = None) -> None:
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
