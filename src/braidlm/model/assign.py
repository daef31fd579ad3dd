"""Assignment of a weight to a module by its dotted name: a parameter, a buffer or a quantized weight."""

from torch import Tensor, nn

from ..ops.linear.quantized import QuantizedWeight


def assign(model: nn.Module, name: str, value: Tensor | QuantizedWeight) -> None:
    """Assigns `value` to the weight called `name`, without copying it."""
    path, _, leaf = name.rpartition(".")
    module = model.get_submodule(path)
    if isinstance(value, QuantizedWeight):
        delattr(module, leaf)  # torch refuses other modules where a parameter is
        setattr(module, leaf, value)
    elif leaf in module._buffers:
        setattr(module, leaf, value)
    else:
        setattr(module, leaf, nn.Parameter(value, requires_grad=False))
