"""Placing of a weight in a module: a parameter, a buffer or a quantized weight, by its dotted name."""

from torch import Tensor, nn

from ..ops.linear.quantized import QuantizedWeight


def assign(model: nn.Module, name: str, value: Tensor | QuantizedWeight) -> None:
    """Makes `value` the weight called `name`, without copying it."""
    path, _, leaf = name.rpartition(".")
    module = model.get_submodule(path)
    if isinstance(value, QuantizedWeight):
        delattr(module, leaf)  # a parameter's place is only a parameter's
        setattr(module, leaf, value)
    elif leaf in module._buffers:
        setattr(module, leaf, value)
    else:
        setattr(module, leaf, nn.Parameter(value, requires_grad=False))
