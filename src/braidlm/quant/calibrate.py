"""Calibrated quantization of a model's weights, block by block, on the inputs that a text gives them.

The text runs through blocks that are quantized already, so that each layer is quantized for the inputs
that it will really get, and beside them through the original ones, whose outputs it shall come close
to. Only one layer's sums of products exist at a time, two residual streams of the text between two
blocks, and the original of one block.

Legend: T = tokens of one row, D = width, I = inputs of a layer, X = experts.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..layers import Batch, Layer, RoutedFeedForward
from ..layers.linear import Linear
from ..model.hooks import removed_after
from ..model.model import Block, Model
from ..ops import Segments
from ..ops.linear.quantized import QuantizedWeight, empty_quantized
from ..ops.numerics import widened
from ..spec import attention_of
from ..state.batch import BatchLayerState, BatchState
from .gptq import Products, quantize_calibrated

Assign = Callable[[str, QuantizedWeight], None]


@torch.no_grad()
def calibrate_blocks(
    model: Model, weight_formats: Mapping[str, str], rows: Sequence[Tensor], assign_quantized: Assign
) -> None:
    """Quantizes weights of the blocks to `weight_formats`, by name; `assign_quantized` puts each in its place.

    `rows` are token ids, [T] each; a few thousand tokens of the kind of text that the model is for.
    """
    state = model.new_state(1)
    sequences = [_Sequence(model, state, ids.to(model.device)) for ids in rows]
    originals = [_Sequence(model, state, ids.to(model.device)) for ids in rows]
    for index, block in enumerate(model.blocks):
        assert isinstance(block, Block)
        sides = _Side(block, sequences), _Side(deepcopy(block), originals)
        for group in _in_order(block, f"blocks.{index}", weight_formats, sequences[0]):
            _quantize_group(model, index, sides, group, weight_formats, assign_quantized)
        for side in sides:
            for sequence in side.sequences:
                sequence.advance(side.block)


class _Sequence:
    """Calibration sequence on its way through the blocks: its residual stream and its states."""

    def __init__(self, model: Model, state: BatchState, ids_T: Tensor) -> None:
        self._model = model
        self._state = state
        self._batch = Batch(Segments((len(ids_T),)), (model.spec.meta_tokens,), model.device)
        self._x = widened(model.embed(ids_T)) * model.spec.embed_scale
        self._layers: list[BatchLayerState] = []
        attentions = (attention_of(block.mixer) for block in model.spec.blocks)
        self._shared = {attention.kv_from for attention in attentions if attention is not None}

    def through(self, block: Block) -> tuple[Tensor, BatchLayerState]:
        """Residual stream after the next block, and the block's state."""
        layer = self._model.layer_state(len(self._layers), self._state, self._layers)
        return block(self._x, layer, self._batch, self._model.dtype)

    def advance(self, block: Block) -> None:
        """Runs the next block; of states only those are kept that a later block reads."""
        index = len(self._layers)
        self._x, layer = self.through(block)
        self._layers.append(layer if index in self._shared else self._state.layer(index))


class _Side(NamedTuple):
    """One block, quantized or original, and the sequences before it."""

    block: Block
    sequences: list[_Sequence]

    def inputs(self, layer: str) -> Iterator[Tensor]:
        """Inputs of the block's layer of this name, [T, I] for each sequence."""
        return (_inputs(self.block.get_submodule(layer), self.block, sequence) for sequence in self.sequences)


class _ReachedError(Exception):
    """Ends a pass at the layer whose inputs are wanted."""


def _inputs(layer: nn.Module, block: Block, sequence: _Sequence) -> Tensor:
    """Inputs of `layer` for one sequence, [T, I]."""
    found: list[Tensor] = []

    def stop(_: nn.Module, arguments: tuple[Any, ...]) -> None:
        found.append(arguments[0])
        raise _ReachedError

    handle = layer.register_forward_pre_hook(stop)
    try:
        sequence.through(block)
    except _ReachedError:
        pass
    finally:
        handle.remove()
    return found[0]


Layers = list[tuple[str, nn.Module]]


def _in_order(block: Block, prefix: str, names: Collection[str], sequence: _Sequence) -> list[Layers]:
    """Layers with a weight in `names`, in the order in which they run; those with the same input together."""
    groups: list[tuple[Tensor, Layers]] = []

    def note(name: str) -> Callable[[nn.Module, tuple[Any, ...]], None]:
        def hook(layer: nn.Module, arguments: tuple[Any, ...]) -> None:
            alike = next((group for x, group in groups if x is arguments[0] and _is_linear(layer, group)), None)
            if alike is None:
                groups.append((arguments[0], [(name, layer)]))
            else:
                alike.append((name, layer))

        return hook

    handles = []
    for name, layer in block.named_modules(prefix=prefix):
        if isinstance(layer, Layer) and any(f"{name}.{part}" in names for part in layer.QUANTIZABLE):
            handles.append(layer.register_forward_pre_hook(note(name)))
    with removed_after(handles):
        sequence.through(block)
    return [group for _, group in groups]


def _is_linear(layer: nn.Module, group: Layers) -> bool:
    """Whether `layer` and those of `group` can share one sum of products: experts see some of the tokens only."""
    return all(isinstance(other, Linear) for other in (layer, *(member for _, member in group)))


def _quantize_group(
    model: Model,
    index: int,
    sides: tuple[_Side, _Side],
    group: Layers,
    weight_formats: Mapping[str, str],
    assign_quantized: Assign,
) -> None:
    name, first = group[0]
    inputs, originals = (side.inputs(name.removeprefix(f"blocks.{index}.")) for side in sides)
    if isinstance(first, RoutedFeedForward):
        _quantize_experts(
            name,
            first,
            torch.cat(list(inputs)),
            torch.cat(list(originals)),
            weight_formats,
            assign_quantized,
            model.dtype,
        )
        return
    products = _products(inputs, originals)
    for name, layer in group:
        assert isinstance(layer, Linear) and isinstance(layer.weight, Tensor)
        weight = f"{name}.weight"
        assign_quantized(weight, quantize_calibrated(layer.weight, products, weight_formats[weight], dtype=model.dtype))


def _products(inputs: Iterable[Tensor], originals: Iterable[Tensor]) -> Products:
    """Sums over all tokens of x x^T, and of y x^T for the inputs y in the original model: float32."""
    sums: Products | None = None
    for x, y in zip(inputs, originals, strict=True):
        x, y = x.flatten(0, -2).float(), y.flatten(0, -2).float()
        if sums is None:
            sums = Products(x.T @ x, y.T @ x)
        else:
            sums.own.addmm_(x.T, x)
            sums.crossed.addmm_(y.T, x)
    assert sums is not None
    return sums


def _quantize_experts(
    name: str,
    moe: RoutedFeedForward,
    x_TD: Tensor,
    y_TD: Tensor,
    weight_formats: Mapping[str, str],
    assign_quantized: Assign,
    dtype: torch.dtype,
) -> None:
    """Quantizes each expert on the tokens that choose it; its second half sees outputs of the quantized first half.

    `y` are the inputs in the original model, of which an expert counts the same tokens.
    """
    chosen_TK = F.linear(widened(x_TD), widened(moe.router)).topk(moe.top_k, -1).indices
    made = {
        part: empty_quantized(
            getattr(moe, part).shape, weight_formats[f"{name}.{part}"], dtype=dtype, device=x_TD.device
        )
        for part in ("gate_up", "down")
        if f"{name}.{part}" in weight_formats
    }
    for expert in range(len(moe.router)):
        tokens = (chosen_TK == expert).any(-1)
        x, y = x_TD[tokens], y_TD[tokens]
        original: Tensor = moe.gate_up[expert]
        gate_up = original
        if "gate_up" in made:
            quantized = quantize_calibrated(original, _products([x], [y]), made["gate_up"].weight_format, dtype=dtype)
            gate_up = _put(made["gate_up"], expert, quantized).dequantize(x.dtype)
        if "down" in made:
            products = _products([_hidden(x, gate_up)], [_hidden(y, original)])
            _put(
                made["down"],
                expert,
                quantize_calibrated(moe.down[expert], products, made["down"].weight_format, dtype=dtype),
            )
    for part, quantized in made.items():
        assign_quantized(f"{name}.{part}", quantized)


def _hidden(x_TD: Tensor, gate_up_FD: Tensor) -> Tensor:
    gate, up = F.linear(x_TD, gate_up_FD).chunk(2, -1)
    return F.silu(gate) * up


def _put(whole: QuantizedWeight, expert: int, quantized: QuantizedWeight) -> QuantizedWeight:
    whole.data[expert], whole.scale[expert] = quantized.data, quantized.scale
    return quantized
