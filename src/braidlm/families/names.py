"""Rules that say which of a file's tensors are which of target, in both directions.

One rule serves import and export, so that they cannot drift apart. "{i}" in a name stands for a
block's number. A rule whose parameters the model does not have at some block is not used there, so
one table serves mixed blocks.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..spec import ModelSpec

Read = Callable[[Sequence[Tensor], Sequence[torch.Size]], Sequence[Tensor]]
Write = Callable[[Sequence[Tensor]], Sequence[Tensor]]


@dataclass(frozen=True)
class Rule:
    """`source` hold `target`; `read` and `write` convert the tensors of one side to those of the other.

    `read` also gets the shapes of target, so that it can cut and reshape; what it cannot make fit
    it returns as it is, and the shape check that follows names the tensor.
    """

    source: tuple[str, ...]
    target: tuple[str, ...]
    read: Read
    write: Write


@dataclass(frozen=True)
class Alias:
    """A tensor of source that repeats target: may be absent, must be equal, written only if `written`."""

    source: str
    target: str
    written: bool = False


@dataclass(frozen=True)
class Drop:
    """A tensor of source that holds nothing needed: a saved buffer."""

    source: str


NameRule = Rule | Alias | Drop


def rename(source: str, target: str) -> Rule:
    """The same values under another name."""
    return Rule((source,), (target,), lambda tensors, _: tensors, lambda parts: parts)


def mapped(source: str, target: str, read: Callable[[Tensor], Tensor], write: Callable[[Tensor], Tensor]) -> Rule:
    """Values converted by `read`, and back by `write`."""
    return Rule((source,), (target,), lambda tensors, _: [read(tensors[0])], lambda parts: [write(parts[0])])


def reshape(source: str, target: str, *shape: int) -> Rule:
    """The same values; source has `shape`, in which 0 keeps our size at that place and -1 takes the rest."""

    def read(tensors: Sequence[Tensor], shapes: Sequence[torch.Size]) -> Sequence[Tensor]:
        tensor = tensors[0]
        return [tensor.reshape(shapes[0]) if tensor.numel() == shapes[0].numel() else tensor]

    def write(parts: Sequence[Tensor]) -> Sequence[Tensor]:
        return [parts[0].reshape([parts[0].shape[i] if size == 0 else size for i, size in enumerate(shape)])]

    return Rule((source,), (target,), read, write)


def split(source: str, *target: str) -> Rule:
    """Theirs is target stacked by rows, in this order; reading gives views."""

    def read(tensors: Sequence[Tensor], shapes: Sequence[torch.Size]) -> Sequence[Tensor]:
        rows = [shape[0] for shape in shapes]
        fits = tensors[0].dim() > 0 and sum(rows) == tensors[0].shape[0]
        return tensors[0].split(rows) if fits else [tensors[0]] * len(rows)

    return Rule((source,), target, read, lambda parts: [torch.cat(list(parts))])


def joined(first: str, second: str, target: str, *, dim: int) -> Rule:
    """Ours is two equal tensors of source side by side along `dim`."""

    def read(tensors: Sequence[Tensor], shapes: Sequence[torch.Size]) -> Sequence[Tensor]:
        return [torch.cat(list(tensors), dim)]

    return Rule((first, second), (target,), read, lambda parts: parts[0].chunk(2, dim))


def paired_rows(source: str, target: str, heads: int) -> Rule:
    """Query or key rows whose rotated pairs lie side by side in source and half a head apart in target."""

    def read(tensor: Tensor) -> Tensor:
        if tensor.dim() == 0 or tensor.shape[0] % (2 * heads):
            return tensor
        return tensor.unflatten(0, (heads, -1, 2)).transpose(1, 2).flatten(0, 2)

    def write(tensor: Tensor) -> Tensor:
        return tensor.unflatten(0, (heads, 2, -1)).transpose(1, 2).flatten(0, 2)

    return mapped(source, target, read, write)


def outer_names(spec: ModelSpec, norm: str) -> list[NameRule]:
    """Embedding, final norm (called `norm`) and head, as most transformers models name them."""
    rules: list[NameRule] = [rename("model.embed_tokens.weight", "embed.weight"), rename(norm, "norm.weight")]
    head = "lm_head.weight"
    return [*rules, Alias(head, "embed.weight") if spec.tied else rename(head, "head.weight")]


def attention_names(source: str, target: str) -> list[NameRule]:
    """The four projections, weights and biases."""
    parts = [f"{part}_proj.{kind}" for part in "qkvo" for kind in ("weight", "bias")]
    return [rename(f"{source}.{part}", f"{target}.{part}") for part in parts]


def gated_mlp_names(source: str, target: str) -> list[NameRule]:
    """The three projections, weights and biases."""
    parts = [f"{part}_proj.{kind}" for part in ("gate", "up", "down") for kind in ("weight", "bias")]
    return [rename(f"{source}.{part}", f"{target}.{part}") for part in parts]


def gguf_outer_names(spec: ModelSpec) -> list[NameRule]:
    """Embedding, norms of mixers, final norm and head in every GGUF file."""
    return [
        rename("token_embd.weight", "embed.weight"),
        rename("output_norm.weight", "norm.weight"),
        Alias("output.weight", "embed.weight") if spec.tied else rename("output.weight", "head.weight"),
        rename("blk.{i}.attn_norm.weight", "blocks.{i}.mixer_norm.weight"),
    ]
