"""Adapters as files that peft reads and writes: `adapter_config.json` and `adapter_model.safetensors`.

Tensors have the names of the published model. Where that stores several of our weights as one, stacked by rows, the
adapters of ours become one of theirs: with a common A as it is, otherwise with both A one above the other and zeros
in B where they do not meet. Of experts' weights, A and B of all experts lie in one matrix each.

Legend: I = inputs, O = outputs, K = rank, X = experts, V = vocabulary, D = width.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from ..errors import CheckpointError, InputError
from ..model.model import Model
from ..system.files import whole_directory
from ..system.safetensors_file import read_safetensors
from .attach import Adapters
from .low_rank import LowRank, OnEmbedding, OnExperts, OnLinearDora, OnRouter, row_lengths
from .origin import origin_of, require_origin
from .published import PeftConfig, read_config, write_config
from .targets import Group, module_of, target_groups

WEIGHTS_FILE = "adapter_model.safetensors"
_ROOT = "base_model.model."


def save_adapter(adapters: Adapters, directory: str | Path) -> None:
    """Writes adapters to a directory, which appears whole or not at all; `InputError` while they are merged."""
    adapters.require_apart()
    model, tensors, sizes, bare = adapters.model, {}, {}, set()
    found = [g for g in target_groups(model, adapters.format) if any(p.name in adapters.by_target for p in g.targets)]
    for group, prefix in zip(found, _prefixes(found), strict=True):
        parts = [adapters.by_target.get(target.name) for target in group.targets]
        first = next(part for part in parts if part is not None)
        written = _written(group, parts, first)
        tensors.update({f"{prefix}.{name}": t.detach().float().contiguous() for name, t in written.items()})
        name = _target(group)
        sizes[name] = (_rank(written, group), first.scale)
        if group.targets[0].kind in (OnExperts, OnRouter):
            bare.add(name)
    with whole_directory(Path(directory)) as temporary:
        write_config(temporary, adapters.config, sizes, bare)
        try:
            save_file(tensors, temporary / WEIGHTS_FILE, {"format": "pt", **origin_of(model)})
        except (OSError, SafetensorError) as error:
            raise InputError(f"cannot write the adapter: {error}") from None


def load_adapter(model: Model, directory: str | Path, format: str | None = None) -> Adapters:
    """Adapters from a directory, for `model` but not put on it yet.

    `format` names the model's published format (see `attach`). Raises `CheckpointError` for an adapter of another
    model, for tensors that are missing or too many, and for what is not supported of peft's format. Warns if the
    adapter was made for other weights of the same model, or for the same in another format.
    """
    directory = Path(directory)
    peft = read_config(directory)
    metadata, tensors = read_safetensors(
        directory / WEIGHTS_FILE, CheckpointError, missing=f"{directory} is no adapter: it has no {WEIGHTS_FILE}"
    )
    require_origin(metadata, model, f"the adapter {directory}")
    every = target_groups(model, format)
    sizes, values = _read(every, peft, tensors, directory)
    _require_targets(every, peft, set(sizes), directory)
    adapters = Adapters(model, peft.lora, format, sizes)
    adapters.fill(values)
    return adapters


def _target(group: Group) -> str:
    """Name of a group in peft's config: that of a module, or of a bare parameter."""
    return group.source if group.targets[0].kind in (OnExperts, OnRouter) else module_of(group.source)


def _prefixes(found: list[Group]) -> list[str]:
    """Prefixes of the names of each group's tensors: bare parameters of one module lie one inside the other."""
    bare = [g.targets[0].kind in (OnExperts, OnRouter) for g in found]
    modules = [g.source.rpartition(".")[0] if b else module_of(g.source) for g, b in zip(found, bare, strict=True)]
    inside = [modules[i + 1 :].count(name) if bare[i] else 0 for i, name in enumerate(modules)]
    return [_ROOT + name + ".base_layer" * depth for name, depth in zip(modules, inside, strict=True)]


# --- one group ---


def _written(group: Group, parts: list[LowRank | None], first: LowRank) -> dict[str, Tensor]:
    """Published tensors of a group, of which some targets may have no adapter."""
    if isinstance(first, OnEmbedding):
        return {"lora_embedding_A": first.up.t(), "lora_embedding_B": first.down.t()}
    if isinstance(first, OnExperts):
        up_OKX = first.up.permute(1, 2, 0)
        return {"lora_A.weight": first.down.flatten(0, 1), "lora_B.weight": up_OKX.flatten(1)}
    present = [part for part in parts if part is not None]
    common = all(torch.equal(part.down, first.down) for part in present)
    width = first.rank if common else sum(part.rank for part in present)
    ups, begin = [], 0
    for target, part in zip(group.targets, parts, strict=True):
        up = first.up.new_zeros(target.weight.shape[0], width)
        if part is not None:
            up[:, begin : begin + part.rank] = part.up.detach()
            begin += 0 if common else part.rank
        ups.append(up)
    down = first.down if common else torch.cat([part.down for part in present])
    written = {"lora_A.weight": down, "lora_B.weight": group.rule.write(ups)[0]}
    if isinstance(first, OnLinearDora):
        pairs = zip(group.targets, parts, strict=True)
        lengths = [p.magnitude if isinstance(p, OnLinearDora) else row_lengths(w.weight) for w, p in pairs]
        written["lora_magnitude_vector"] = group.rule.write([length[:, None] for length in lengths])[0][:, 0]
    return written


def _rank(written: Mapping[str, Tensor], group: Group) -> int:
    rows = next(t.shape[0] for name, t in written.items() if name in ("lora_A.weight", "lora_embedding_A"))
    target = group.targets[0]
    return rows // target.weight.shape[0] if target.kind is OnExperts else rows


Values = dict[str, dict[str, Tensor]]


def _read(
    every: list[Group], peft: PeftConfig, tensors: dict[str, Tensor], directory: Path
) -> tuple[dict[str, tuple[int, float]], Values]:
    """Rank and scale, and the parameters, of each target that the tensors tell of; all of them are used."""
    left, sizes, values = dict(tensors), {}, {}
    bare = [g for g in every if g.targets[0].kind in (OnExperts, OnRouter)]
    chosen = [g for g in every if g not in bare or any(_ends(_target(g), name) for name in peft.parameters)]
    for group, prefix in zip(chosen, _prefixes(chosen), strict=True):
        names = [name for name in left if name.startswith(f"{prefix}.") and _is_own(name.removeprefix(f"{prefix}."))]
        if not names:
            continue
        parts = {name.removeprefix(f"{prefix}."): left.pop(name) for name in names}
        _require_base(parts, group, prefix)
        rank, scale = peft.size(_target(group))
        expected = _shapes(group, rank, dora=peft.lora.dora)
        _check(parts, expected, prefix, directory)
        for name, found in _cut(group, parts, peft):
            sizes[name], values[name] = (found["down"].shape[-2], scale), found
    if left:
        raise CheckpointError(
            f"tensor {min(left)} of {directory} belongs to no projection of this model ({len(left)} such tensors); "
            "the adapter is for another model, or changes what cannot be changed here"
        )
    return sizes, values


_OWN = ("lora_A.weight", "lora_B.weight", "lora_embedding_A", "lora_embedding_B", "lora_magnitude_vector")


def _is_own(rest: str) -> bool:
    """Whether the end of a tensor's name is of the module that it begins with, and of none inside."""
    return rest in (*_OWN, "base_layer.weight")


def _require_base(parts: dict[str, Tensor], group: Group, prefix: str) -> None:
    """Takes out the copy of the base's weight that peft adds to embeddings and heads: it must be one."""
    copy = parts.pop("base_layer.weight", None)
    weight = group.targets[0].weight
    if copy is not None and not (isinstance(weight, Tensor) and torch.equal(copy.to(weight.dtype), weight)):
        raise CheckpointError(f"tensor {prefix}.base_layer.weight is not this model's, which an adapter cannot change")


def _shapes(group: Group, rank: int, *, dora: bool) -> dict[str, tuple[int, ...]]:
    """Shapes of the published tensors of a group, by name."""
    target = group.targets[0]
    outputs, inputs = sum(p.weight.shape[-2] for p in group.targets), target.weight.shape[-1]
    if target.kind is OnEmbedding:
        return {"lora_embedding_A": (rank, outputs), "lora_embedding_B": (inputs, rank)}
    rows = rank * (target.weight.shape[0] if target.kind is OnExperts else 1)
    shapes: dict[str, tuple[int, ...]] = {"lora_A.weight": (rows, inputs), "lora_B.weight": (outputs, rows)}
    return shapes | ({"lora_magnitude_vector": (outputs,)} if dora else {})


def _check(parts: Mapping[str, Tensor], expected: Mapping[str, tuple[int, ...]], prefix: str, directory: Path) -> None:
    for name, shape in expected.items():
        if name not in parts:
            raise CheckpointError(f"tensor {prefix}.{name} is missing from {directory}")
        if tuple(parts[name].shape) != shape or not parts[name].is_floating_point():
            raise CheckpointError(
                f"tensor {prefix}.{name} of {directory} is {parts[name].dtype} {list(parts[name].shape)}, "
                f"but this model needs numbers of the shape {list(shape)}"
            )
    for name in parts:
        if name not in expected:
            raise CheckpointError(f"tensor {prefix}.{name} of {directory} is not part of what its config describes")


def _cut(group: Group, parts: Mapping[str, Tensor], peft: PeftConfig) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Parameters at each target of a group that is changed, from the published tensors."""
    target = group.targets[0]
    if target.kind is OnEmbedding:
        yield target.name, {"up": parts["lora_embedding_A"].t(), "down": parts["lora_embedding_B"].t()}
        return
    down, up = parts["lora_A.weight"], parts["lora_B.weight"]
    if target.kind is OnExperts:
        experts = target.weight.shape[0]
        yield (
            target.name,
            {"down": down.unflatten(0, (experts, -1)), "up": up.unflatten(1, (-1, experts)).permute(2, 0, 1)},
        )
        return
    ups = _rows(group, up)
    lengths = _rows(group, parts["lora_magnitude_vector"][:, None]) if peft.lora.dora else [None] * len(ups)
    for target, rows, length in zip(group.targets, ups, lengths, strict=True):
        # What only other targets of the group use came from adapters of their own.
        used = (rows != 0).any(0) | ~(up != 0).any(0)
        if not bool(used.any()) and (length is None or torch.equal(length[:, 0], row_lengths(target.weight).float())):
            continue
        used = used if bool(used.any()) else torch.ones_like(used)
        found = {"down": down[used].contiguous(), "up": rows[:, used].contiguous()}
        yield target.name, found if length is None else found | {"magnitude": length[:, 0].contiguous()}


def _rows(group: Group, stacked: Tensor) -> Sequence[Tensor]:
    """Rows of each target in a stacked tensor."""
    return group.rule.read([stacked], [torch.Size([p.weight.shape[0], stacked.shape[1]]) for p in group.targets])


def _require_targets(every: list[Group], peft: PeftConfig, made: set[str], directory: Path) -> None:
    """`CheckpointError` unless there is an adapter wherever the config says that there is one."""
    if not peft.every_layer:
        return
    for target in (*peft.modules, *peft.parameters):
        meant = [g for g in every if _ends(_target(g), target)]
        if not meant:
            raise CheckpointError(f"{directory} adapts {target!r}, which this model does not have")
        for group in meant:
            if not any(target.name in made for target in group.targets):
                raise CheckpointError(f"tensor {_ROOT}{_target(group)}.lora_A.weight is missing from {directory}")


def _ends(name: str, target: str) -> bool:
    return f".{name}".endswith(f".{target}")
