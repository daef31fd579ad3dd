"""What native kernels ask of a tensor's memory."""

from torch import Tensor


def channels_together(x_T: Tensor) -> Tensor:
    """[T, ...] as [T, C], each token's numbers contiguous, tokens at any distance; a view where it can be."""
    x_TC = x_T.flatten(1)
    return x_TC if x_TC.shape[-1] < 2 or x_TC.stride(-1) == 1 else x_TC.contiguous()


def plain(weight: Tensor) -> Tensor:
    """A weight as contiguous float32; itself where it is that already."""
    return weight.detach().float().contiguous()
