"""What the native entries refuse: no wrong shape, dtype or stride reaches a pointer."""

from typing import Any

import pytest
import torch
from torch import Tensor

from braidlm.ops import native_loader

pytestmark = pytest.mark.skipif(native_loader.why_not() is not None, reason="the native extension is not built")

R, L, E, N, K = 2, 5, 6, 3, 4
HEADS, SIZE, GROUPS = 3, 2, 1


def zeros(*shape: int) -> Tensor:
    return torch.zeros(shape)


# Entry by entry: arguments that are right, and by name of the argument what is wrong and what is said.
CONV = {
    "x": zeros(R, L, E),
    "weight": zeros(K, E),
    "bias": zeros(E),
    "tail": zeros(R, K - 1, E),
    "silu": True,
    "y": zeros(R, L, E),
    "threads": 1,
}
SCAN = {
    "x": zeros(R, L, E),
    "dt": zeros(R, L, E),
    "dt_bias": zeros(E),
    "a": zeros(E, N),
    "b": zeros(R, L, N),
    "c": zeros(R, L, N),
    "d": zeros(E),
    "gate": zeros(R, L, E),
    "before": zeros(R, E, N),
    "y": zeros(R, L, E),
    "after": zeros(R, E, N),
    "borders": zeros(R, 1, 1, N, 64),
    "threads": 1,
}
SSD = {
    "x": zeros(R, L, HEADS * SIZE),
    "dt": zeros(R, L, HEADS),
    "a": zeros(HEADS),
    "b": zeros(R, L, N),
    "c": zeros(R, L, N),
    "d": zeros(HEADS),
    "before": zeros(R, HEADS, SIZE, N),
    "y": zeros(R, L, HEADS * SIZE),
    "after": zeros(R, HEADS, SIZE, N),
    "groups": GROUPS,
    "threads": 1,
}
MODAL = {
    "u": zeros(R, L, E),
    "gate": zeros(R, L, E),
    "poles": zeros(3, N, 2),
    "residues": zeros(3, N, 2),
    "d": zeros(E),
    "before": zeros(R, E, N, 2),
    "y": zeros(R, L, E),
    "after": zeros(R, E, N, 2),
    "threads": 1,
}
ATTENTION = {
    "q": zeros(L, 4 * 3),
    "k": zeros(L, 2 * 3),
    "v": zeros(L, 2 * 5),
    "past_k": zeros(2, 2 * 3),
    "past_v": zeros(2, 2 * 5),
    "positions": torch.tensor([0, 1]),
    "start": 2,
    "groups": 2,
    "key": 3,
    "value": 5,
    "scale": 1.0,
    "window": None,
    "sink_tokens": 0,
    "y": zeros(L, 4 * 5),
    "lse": zeros(4, L),
    "threads": 1,
}
NORM = {
    "x": zeros(L, E),
    "weight": zeros(E),
    "eps": 1e-5,
    "eps_outside_root": False,
    "out": zeros(L, E),
    "threads": 1,
}
GATED_NORM = {
    "y": zeros(L, E),
    "gate": zeros(L, E),
    "weight": zeros(E),
    "eps": 1e-5,
    "groups": 2,
    "out": zeros(L, E),
    "threads": 1,
}


def backward(forward: dict[str, Any], without: tuple[str, ...], **gradients: Tensor) -> dict[str, Any]:
    """The arguments of an operation's backward: the operation's but for what it gives, and gradients."""
    return {name: value for name, value in forward.items() if name not in without} | gradients


ENTRIES = {
    "rms_norm": NORM,
    "rms_norm_backward": backward(NORM, ("out",), dy=zeros(L, E), dx=zeros(L, E), dweight=zeros(E)),
    "gated_rms_norm": GATED_NORM,
    "gated_rms_norm_backward": backward(
        GATED_NORM, ("out",), dout=zeros(L, E), dy=zeros(L, E), dgate=zeros(L, E), dweight=zeros(E)
    ),
    "causal_conv1d": CONV,
    "causal_conv1d_backward": backward(
        CONV, ("y",), dy=zeros(R, L, E), dx=zeros(R, L, E), dtail=zeros(R, K - 1, E), dweight=zeros(K + 1, E)
    ),
    "selective_scan": SCAN,
    "selective_scan_backward": backward(
        SCAN,
        ("y", "after"),
        dy=zeros(R, L, E),
        dafter=zeros(R, E, N),
        dx=zeros(R, L, E),
        ddt=zeros(R, L, E),
        ddt_bias=zeros(R, E),
        da=zeros(R, E, N),
        db=zeros(R, 1, L, N),
        dc=zeros(R, 1, L, N),
        dd=zeros(R, E),
        dgate=zeros(R, L, E),
        dbefore=zeros(R, E, N),
    ),
    "ssd": SSD,
    "ssd_backward": backward(
        SSD,
        ("y", "after"),
        dy=zeros(R, L, HEADS * SIZE),
        dafter=zeros(R, HEADS, SIZE, N),
        dx=zeros(R, L, HEADS * SIZE),
        ddt=zeros(R, L, HEADS),
        da=zeros(HEADS),
        db=zeros(R, GROUPS, L, N),
        dc=zeros(R, GROUPS, L, N),
        dd=zeros(HEADS),
        dbefore=zeros(R, HEADS, SIZE, N),
    ),
    "gated_conv": MODAL,
    "gated_conv_backward": backward(
        MODAL,
        ("y", "after"),
        dy=zeros(R, L, E),
        dafter=zeros(R, E, N, 2),
        du=zeros(R, L, E),
        dgate=zeros(R, L, E),
        dpoles=zeros(R, E, N, 2),
        dresidues=zeros(R, E, N, 2),
        dd=zeros(R, E),
        dbefore=zeros(R, E, N, 2),
    ),
    "attention": ATTENTION,
    "attention_backward": backward(
        ATTENTION,
        (),
        dy=zeros(L, 4 * 5),
        dq=zeros(L, 4 * 3),
        dk=zeros(2, L, 2 * 3),
        dv=zeros(2, L, 2 * 5),
        past_dk=zeros(2, 2, 2 * 3),
        past_dv=zeros(2, 2, 2 * 5),
    ),
    "glu_backward": dict.fromkeys(("gate", "up", "dout", "dgate", "dup"), zeros(L, E)) | {"gelu": False, "threads": 1},
}
TENSORS = [(entry, name) for entry, given in ENTRIES.items() for name, value in given.items() if torch.is_tensor(value)]


def refused(entry: str, **changes: Any) -> str:
    with pytest.raises((ValueError, TypeError)) as caught:
        getattr(native_loader.extension(), entry)(**ENTRIES[entry] | changes)
    return str(caught.value)


@pytest.mark.parametrize("entry", ENTRIES)
def test_what_is_right_is_taken(entry: str) -> None:
    """Oracle: no error."""
    getattr(native_loader.extension(), entry)(**ENTRIES[entry])


@pytest.mark.parametrize(("entry", "name"), TENSORS)
def test_another_dtype(entry: str, name: str) -> None:
    """Oracle: float64 is none of the kernels' dtypes."""
    assert refused(entry, **{name: ENTRIES[entry][name].double()})


@pytest.mark.parametrize(("entry", "name"), TENSORS)
@pytest.mark.parametrize("dimension", [0, -1])
def test_one_number_too_many_or_too_few(entry: str, name: str, dimension: int) -> None:
    """Oracle: a tensor that is longer or shorter in one dimension than the others say."""
    tensor = ENTRIES[entry][name]
    longer = torch.cat([tensor, tensor.narrow(dimension, 0, 1)], dimension)
    assert refused(entry, **{name: longer})
    assert refused(entry, **{name: tensor.narrow(dimension, 0, tensor.shape[dimension] - 1)})


@pytest.mark.parametrize(("entry", "name"), TENSORS)
def test_another_number_of_dimensions(entry: str, name: str) -> None:
    """Oracle: a tensor with one more dimension, and a flat one."""
    tensor = ENTRIES[entry][name]
    assert refused(entry, **{name: tensor[None]})
    if tensor.dim() > 1:
        assert refused(entry, **{name: tensor.flatten()})


@pytest.mark.parametrize(("entry", "name"), TENSORS)
def test_numbers_apart(entry: str, name: str) -> None:
    """Oracle: a tensor whose last dimension has gaps."""
    tensor = ENTRIES[entry][name]
    assert refused(entry, **{name: tensor.repeat_interleave(2, -1)[..., ::2]})


def test_sentences() -> None:
    """Oracle: what is said names the argument and what it must be."""
    assert "tail has the shape" in refused("causal_conv1d", tail=zeros(R, K, E))
    assert "y must have x's dtype" in refused("causal_conv1d", y=zeros(R, L, E).bfloat16())
    assert "at least one tap" in refused("causal_conv1d", weight=zeros(0, E))
    assert "groups must divide the heads" in refused("ssd", groups=2)
    assert "must divide the channels" in refused("gated_conv", poles=zeros(4, N, 2))
    assert "groups must divide the width" in refused("gated_rms_norm_backward", groups=4)
    assert "dx must have its input's dtype" in refused("rms_norm_backward", dx=zeros(L, E).bfloat16())
    assert "dgate must have its input's dtype" in refused("gated_rms_norm_backward", dgate=zeros(L, E).bfloat16())
    assert "positions must increase" in refused("attention", positions=torch.tensor([1, 1]))
    assert "queries' dtype" in refused("attention", k=zeros(L, 6).bfloat16())
    assert "must lie in" in refused("attention", start=2**31)
    assert "parts must divide" in refused("attention_backward", dk=zeros(3, L, 2 * 3))
    assert "y and dy must have the queries' dtype" in refused("attention_backward", dy=zeros(L, 4 * 5).bfloat16())
    assert "must have gradients" in refused("attention_backward", past_dv=None)
    assert "bias and a gate must have gradients" in refused("selective_scan_backward", dgate=None)
    assert "lse must be float32" in refused("attention", lse=zeros(4, L).bfloat16())
    assert "must have one dtype" in refused("glu_backward", dup=zeros(L, E).bfloat16())
