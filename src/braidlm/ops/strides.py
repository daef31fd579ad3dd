"""Memory layouts that native kernels take."""

from torch import Tensor


def channels_together(x_T: Tensor) -> Tensor:
    """Reshapes [T, ...] to [T, C], each token's numbers contiguous, tokens at any distance; a view where it can be."""
    x_TC = x_T.flatten(1)
    return x_TC if x_TC.shape[-1] < 2 or x_TC.stride(-1) == 1 else x_TC.contiguous()


def table(x_D: Tensor) -> Tensor:
    """Reshapes to two dimensions, all but the last as one, each row contiguous; a view where it can be."""
    rows = x_D.detach().reshape(-1, x_D.shape[-1])
    return rows if rows.stride(-1) == 1 else rows.contiguous()
