"""Bridges: blocks of one model rewritten for the residual stream of another, of any width.

A bridge of a block is a pair of projections: P in front of each of its two layers and Q behind them. Both are folded
into the block's own weights, so that it is a block like any other and every part of it is trained on: where a layer
computes f(W g n) of the normed stream n with the norm's gains g, the new one computes Q f(W diag(g) P n'), and its own
norm has gains of one.

Where both models read the same tokens, the projections begin as ridge regressions on some text. P maps the normed
stream of the model that receives to that of the block's own model. Q maps what the block adds to its own stream to
what the block that makes room added to the other: of all maps the one that changes the receiving model least. The feed-
forward layer's P is fitted to the stream with Q's part of the mixer in it, as it will be. Otherwise the projections are
identities, cut or filled up with zeros, and training alone joins the models.

Legend: T = tokens, D = width of the model that receives, E = width of the block's own model.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from .. import ops
from ..errors import InputError
from ..model.footprint import skeleton
from ..model.hooks import removed_after
from ..model.model import Model
from ..ops import Segments
from ..spec import Block, ModelSpec, Norm
from ..train.data.pack import Pack


class Bridge(NamedTuple):
    """Projections of a block: before its mixer and its feed-forward layer [E, D], and behind both [D, E] each."""

    mixer_in_ED: Tensor
    mixer_out_DE: Tensor
    ffn_in_ED: Tensor
    ffn_out_DE: Tensor


class Streams(NamedTuple):
    """What a block did on some text: the stream before it, and what its layers and the whole block added, [T, D]."""

    before_TD: Tensor
    mixed_TD: Tensor
    added_TD: Tensor


def identity_bridge(width: int, own: int) -> Bridge:
    """Bridge from a block `own` wide to a stream of `width`, by identities; normed inputs keep their mean square."""
    inward_ED = torch.eye(own, width, dtype=torch.float64) * (own / min(own, width)) ** 0.5
    outward_DE = torch.eye(width, own, dtype=torch.float64)
    return Bridge(inward_ED, outward_DE, inward_ED, outward_DE)


def fitted_bridge(received: Streams, own: Streams, norms: tuple[Norm, Norm], penalty: float) -> Bridge:
    """Bridge fitted to what the block that makes room (`received`) and the one that comes (`own`) do on one text.

    `norms` are those of both models; `penalty` is relative to the mean square of the regressions' inputs.
    """
    norm, own_norm = norms
    mixer_in_ED = ridge(normed(received.before_TD, norm), normed(own.before_TD, own_norm), penalty)
    fed_TE = own.added_TD - own.mixed_TD
    # A layer that is not there adds zeros, and the penalty makes its part of the map zero.
    both = ridge(torch.cat([own.mixed_TD, fed_TE], 1), received.added_TD, penalty)
    mixer_out_DE, ffn_out_DE = both.chunk(2, 1)
    middle_TD = received.before_TD + own.mixed_TD @ mixer_out_DE.T
    ffn_in_ED = ridge(normed(middle_TD, norm), normed(own.before_TD + own.mixed_TD, own_norm), penalty)
    return Bridge(mixer_in_ED, mixer_out_DE, ffn_in_ED, ffn_out_DE)


def ridge(x_TA: Tensor, y_TB: Tensor, penalty: float) -> Tensor:
    """Map M [B, A] with the least |y - M x|^2 + penalty * (mean square of x) * tokens * |M|^2, in float64."""
    x_TA, y_TB = x_TA.double(), y_TB.double()
    gram_AA = x_TA.T @ x_TA
    gram_AA.diagonal().add_(penalty * gram_AA.diagonal().mean().clamp(min=1e-30))
    return torch.linalg.solve(gram_AA, x_TA.T @ y_TB).T


def normed(x_TD: Tensor, norm: Norm) -> Tensor:
    """Stream [T, D] after a norm with gains of one, in float64."""
    gains_D = torch.ones(x_TD.shape[-1], dtype=torch.float64)
    return ops.rms_norm(x_TD, gains_D, norm.eps, eps_outside_root=norm.eps_outside_root, dtype=torch.float64)


@torch.no_grad()
def record(model: Model, packs: Sequence[Pack], index: int) -> Streams:
    """What block `index` of a model does on packed sequences of text, in float64."""
    block: Any = model.blocks[index]
    found: dict[str, list[Tensor]] = {"before": [], "mixed": [], "after": []}

    def before(_: Any, arguments: tuple[Any, ...]) -> None:
        found["before"].append(arguments[0].double())

    def keep(name: str) -> Callable[..., None]:
        def hook(_: Any, __: Any, output: tuple[Tensor, Any]) -> None:
            found[name].append(output[0].double())

        return hook

    hooks = [
        block.register_forward_pre_hook(before),
        block.mixer.register_forward_hook(keep("mixed")),
        block.register_forward_hook(keep("after")),
    ]
    with removed_after(hooks):
        for pack in packs:
            model.hidden(pack.ids_T, Segments(pack.lengths), model.training_state(len(pack.lengths)))
    before_TD, mixed_TD, after_TD = (torch.cat(parts) for parts in found.values())
    return Streams(before_TD, block.scale * mixed_TD, after_TD - before_TD)


def folded(block: nn.Module, spec: Block, model: ModelSpec, bridge: Bridge, where: str) -> dict[str, Tensor]:
    """Weights by name, in float64, of a block of `model` with a bridge folded into them.

    `InputError`, which calls the block `where`, if a layer of it mixes its width with sizes of its own.
    """
    # What belongs to the width is what changes with it: other sizes may happen to be the same number.
    narrow, wide = (_shapes(spec, model, width) for width in (model.width, 2 * model.width))
    made = {}
    for name, shape in narrow.items():
        changed = [axis - len(shape) for axis, size in enumerate(shape) if size != wide[name][axis]]
        layer, _, parameter = name.partition(".")
        inward_ED, outward_DE = bridge[:2] if layer.startswith("mixer") else bridge[2:]
        one = [shape[axis] for axis in changed] == [model.width]
        if layer.endswith("_norm"):
            made[name] = torch.ones(len(outward_DE), dtype=torch.float64)
        elif not changed:
            made[name] = plain(block, name)
        elif one and changed == [-1] and len(shape) > 1:
            made[name] = plain(block, name) * plain(block, f"{layer}_norm.weight") @ inward_ED
        elif one and (changed == [-2] or name.endswith(".bias")):
            made[name] = outward_DE @ plain(block, name)
        else:
            kind = type(getattr(spec, layer)).__name__
            raise InputError(
                f"{where} cannot be bridged: {parameter} of its {kind} depends on the width of its model in more than "
                "what it reads or writes; leave the block out of the transplants"
            )
    return made


def plain(module: nn.Module, name: str) -> Tensor:
    """Weight of a module by its dotted name, in float64; quantized ones are dequantized."""
    path, _, leaf = name.rpartition(".")
    weight: Any = getattr(module.get_submodule(path), leaf)
    return (weight if isinstance(weight, Tensor) else weight.dequantize()).detach().double()


def _shapes(spec: Block, model: ModelSpec, width: int) -> dict[str, torch.Size]:
    """Shapes of the parameters of a block by name, in a model like `model`, but of `width`."""
    alone = skeleton(ModelSpec(vocab=1, width=width, blocks=(spec,), norm=model.norm))
    return {name: weight.shape for name, weight in alone.blocks[0].named_parameters()}
