"""Name rules: which tensors of a published file (source) are which weights of the model (target), both ways.

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
    """Rule that the tensors `source` of a file hold the weights `target`; `read` and `write` convert them, both ways.

    `read` also gets the shapes of the targets, so that it can cut and reshape; what it cannot make fit
    it returns as it is, and the shape check that follows names the tensor.
    """

    source: tuple[str, ...]
    target: tuple[str, ...]
    read: Read
    write: Write


@dataclass(frozen=True)
class Alias:
    """Rule that the file's tensor `source` repeats the weight `target`.

    It may be absent, must be equal, and is written only if `written`.
    """

    source: str
    target: str
    written: bool = False


@dataclass(frozen=True)
class Drop:
    """Rule that the file's tensor `source` is not needed: a saved buffer."""

    source: str


NameRule = Rule | Alias | Drop


def rename(source: str, target: str) -> Rule:
    """Rule for the same values under another name."""
    return Rule((source,), (target,), lambda tensors, _: tensors, lambda parts: parts)


def mapped(source: str, target: str, read: Callable[[Tensor], Tensor], write: Callable[[Tensor], Tensor]) -> Rule:
    """Rule for values converted by `read`, and back by `write`."""
    return Rule((source,), (target,), lambda tensors, _: [read(tensors[0])], lambda parts: [write(parts[0])])


def reshape(source: str, target: str, *shape: int) -> Rule:
    """Rule for the same values; the source has `shape`, where 0 keeps the target's size and -1 takes the rest."""

    def read(tensors: Sequence[Tensor], shapes: Sequence[torch.Size]) -> Sequence[Tensor]:
        tensor = tensors[0]
        return [tensor.reshape(shapes[0]) if tensor.numel() == shapes[0].numel() else tensor]

    def write(parts: Sequence[Tensor]) -> Sequence[Tensor]:
        return [parts[0].reshape([parts[0].shape[i] if size == 0 else size for i, size in enumerate(shape)])]

    return Rule((source,), (target,), read, write)


def split(source: str, *target: str) -> Rule:
    """Rule for a source that is its targets stacked by rows, in this order; reading gives views."""

    def read(tensors: Sequence[Tensor], shapes: Sequence[torch.Size]) -> Sequence[Tensor]:
        rows = [shape[0] for shape in shapes]
        fits = tensors[0].dim() > 0 and sum(rows) == tensors[0].shape[0]
        return tensors[0].split(rows) if fits else [tensors[0]] * len(rows)

    return Rule((source,), target, read, lambda parts: [torch.cat(list(parts))])


def joined(first: str, second: str, target: str, *, dim: int) -> Rule:
    """Rule for a target that is two equal source tensors side by side along `dim`."""

    def read(tensors: Sequence[Tensor], shapes: Sequence[torch.Size]) -> Sequence[Tensor]:
        return [torch.cat(list(tensors), dim)]

    return Rule((first, second), (target,), read, lambda parts: parts[0].chunk(2, dim))


def paired_rows(source: str, target: str, heads: int) -> Rule:
    """Rule for query or key rows: rotated pairs lie side by side in the source, half a head apart in the target."""

    def read(tensor: Tensor) -> Tensor:
        if tensor.dim() == 0 or tensor.shape[0] % (2 * heads):
            return tensor
        return tensor.unflatten(0, (heads, -1, 2)).transpose(1, 2).flatten(0, 2)

    def write(tensor: Tensor) -> Tensor:
        return tensor.unflatten(0, (heads, 2, -1)).transpose(1, 2).flatten(0, 2)

    return mapped(source, target, read, write)


def outer_names(spec: ModelSpec, norm: str) -> list[NameRule]:
    """Rules for embedding, final norm (called `norm`) and head, as most transformers models name them."""
    rules: list[NameRule] = [rename("model.embed_tokens.weight", "embed.weight"), rename(norm, "norm.weight")]
    head = "lm_head.weight"
    return [*rules, Alias(head, "embed.weight") if spec.tied else rename(head, "head.weight")]


def attention_names(source: str, target: str) -> list[NameRule]:
    """Rules for the four projections of attention, weights and biases."""
    parts = [f"{part}_proj.{kind}" for part in "qkvo" for kind in ("weight", "bias")]
    return [rename(f"{source}.{part}", f"{target}.{part}") for part in parts]


def gated_mlp_names(source: str, target: str) -> list[NameRule]:
    """Rules for the three projections of a gated MLP, weights and biases."""
    parts = [f"{part}_proj.{kind}" for part in ("gate", "up", "down") for kind in ("weight", "bias")]
    return [rename(f"{source}.{part}", f"{target}.{part}") for part in parts]


def gguf_outer_names(spec: ModelSpec) -> list[NameRule]:
    """Rules for embedding, norms of mixers, final norm and head in every GGUF file."""
    return [
        rename("token_embd.weight", "embed.weight"),
        rename("output_norm.weight", "norm.weight"),
        Alias("output.weight", "embed.weight") if spec.tied else rename("output.weight", "head.weight"),
        rename("blk.{i}.attn_norm.weight", "blocks.{i}.mixer_norm.weight"),
    ]
