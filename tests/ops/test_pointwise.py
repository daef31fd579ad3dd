"""The operations without a carried state: attention, norms, experts; and the seam that chooses implementations."""

from itertools import accumulate

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from braidlm import ops
from braidlm.errors import UnavailableError
from braidlm.ops import Past, Segments, Visible, dispatch
from tests.ops import definitions
from tests.ops.carried import close, randn
from tests.tolerances import RELATIVE_OP, RELATIVE_ROUNDED


def attend(
    lengths: tuple[int, ...],
    held: list[list[int]],
    window: int | None,
    sink_tokens: int,
    heads: tuple[int, int, int, int],
) -> tuple[Tensor, Tensor]:
    """Attention over packed rows whose pasts are at positions `held`, and its definition."""
    queries, groups, key, value = heads
    segments, scale = Segments(lengths), 0.3
    q, k, v = (randn(segments.total, n, d) for n, d in ((queries, key), (groups, key), (groups, value)))
    starts = tuple(positions[-1] + 1 if positions else 0 for positions in held)
    pasts = [(randn(len(p), groups, key), randn(len(p), groups, value), torch.tensor(p)) if p else None for p in held]
    rows = []
    for row, (past, start, length) in enumerate(zip(pasts, starts, lengths, strict=True)):
        part = slice(segments.starts[row], segments.starts[row + 1])
        new = list(range(start, start + length))
        keys, values = (t[part] for t in (k, v))
        if past is not None:
            keys, values = torch.cat([past[0], keys]), torch.cat([past[1], values])
        if length:
            rows.append(definitions.attention(q[part], keys, values, new, held[row] + new, scale, window, sink_tokens))
    narrow = tuple(None if p is None else Past(p[0].float(), p[1].float(), p[2]) for p in pasts)
    visible = Visible(window, sink_tokens)
    found = ops.attention(q.float(), k.float(), v.float(), narrow, starts, segments, scale=scale, visible=visible)
    return found, torch.cat(rows)


@pytest.mark.parametrize("heads", [(1, 1, 4, 4), (4, 2, 8, 8), (6, 2, 4, 10)])
@pytest.mark.parametrize(("window", "sink_tokens"), [(None, 0), (1, 0), (7, 0), (7, 3), (300, 5)])
@pytest.mark.parametrize("lengths", [(1,), (2, 63), (65, 65), (0, 3, 130), (300,)])
def test_attention_without_past(
    lengths: tuple[int, ...], window: int | None, sink_tokens: int, heads: tuple[int, int, int, int]
) -> None:
    """Oracle: softmax over the visible keys, one query and head at a time, in float64."""
    found, expected = attend(lengths, [[] for _ in lengths], window, sink_tokens, heads)
    assert close(found, expected, RELATIVE_OP[torch.float32])


@pytest.mark.parametrize(("window", "sink_tokens"), [(None, 0), (7, 0), (9, 3)])
@pytest.mark.parametrize("lengths", [(1, 1, 1), (5, 0, 2), (300, 1, 70)])
def test_attention_with_past(lengths: tuple[int, ...], window: int | None, sink_tokens: int) -> None:
    """Oracle: the definition, over keys of which a ring has let some go between prefix and window."""
    ring = [0, 1, 2, *range(40, 60)]
    held = [list(range(20)) if window is None else ring, [], ring[:3]]
    found, expected = attend(lengths, held, window, sink_tokens, (4, 2, 4, 6))
    assert close(found, expected, RELATIVE_OP[torch.float32])


def test_long_sequences_take_the_fused_square() -> None:
    """Oracle: the definition, at a length where the whole square goes to the fused kernel at once."""
    found, expected = attend((1030,), [[]], None, 0, (2, 1, 4, 4))
    assert close(found, expected, RELATIVE_OP[torch.float32])


class Largest(TorchFunctionMode):
    """Records the largest tensor that any torch function returns."""

    def __init__(self) -> None:
        super().__init__()
        self.numel = 0

    def __torch_function__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if isinstance(result, Tensor):
            self.numel = max(self.numel, result.numel())
        return result


@pytest.mark.parametrize("window", [64, None])
def test_attention_makes_no_square(window: int | None) -> None:
    """Oracle: the size of an L x L mask, of which nothing may come near."""
    length = 4096
    q, k, v = (torch.randn(length, 2, 8) for _ in range(3))
    segments = Segments((length,))
    with Largest() as largest:
        ops.attention(q, k, v, (None,), (0,), segments, scale=1.0, visible=Visible(window, 0))
    assert largest.numel <= 256 * length
    assert largest.numel < length * length / 8


def test_attention_gradients() -> None:
    """Oracle: finite differences in float64, through queries, new and earlier keys and values."""
    shapes = [(3, 2, 3), (3, 1, 3), (3, 1, 4), (2, 1, 3), (2, 1, 4)]
    leaves = [randn(*shape).requires_grad_() for shape in shapes]

    def function(q: Tensor, k: Tensor, v: Tensor, old_k: Tensor, old_v: Tensor) -> Tensor:
        past = (Past(old_k, old_v, torch.tensor([0, 1])),)
        return ops.attention(q, k, v, past, (2,), Segments((3,)), scale=0.5, visible=Visible(2, 1))

    assert torch.autograd.gradcheck(function, leaves)


@pytest.mark.parametrize("outside", [False, True])
@pytest.mark.parametrize("size", [1, 3, 64, 100])
def test_rms_norm(size: int, outside: bool) -> None:
    """Oracle: the two published formulas in float64; a large eps tells them apart."""
    x, weight, eps = randn(5, size), randn(size), 0.1
    mean = x.square().mean(-1, keepdim=True)
    expected = weight * x / (mean.sqrt() + eps if outside else (mean + eps).sqrt())
    found = ops.rms_norm(x.float(), weight.float(), eps, eps_outside_root=outside, dtype=torch.float32)
    assert close(found, expected, RELATIVE_OP[torch.float32])
    narrow = ops.rms_norm(x.bfloat16(), weight.float(), eps, eps_outside_root=outside, dtype=torch.bfloat16)
    assert narrow.dtype == torch.bfloat16
    assert close(narrow.double(), expected, RELATIVE_ROUNDED[torch.bfloat16])


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_gated_rms_norm(groups: int) -> None:
    """Oracle: gate first, then a norm over each group, in float64."""
    y, gate, weight = randn(5, 24), randn(5, 24), randn(24)
    parts = (y * F.silu(gate)).unflatten(-1, (groups, -1))
    expected = (parts / (parts.square().mean(-1, keepdim=True) + 1e-3).sqrt()).flatten(-2) * weight
    found = ops.gated_rms_norm(y.float(), gate.float(), weight.float(), 1e-3, groups=groups, dtype=torch.float32)
    assert close(found, expected, RELATIVE_OP[torch.float32])


def test_norm_gradients() -> None:
    """Oracle: finite differences in float64."""
    leaves = [randn(3, 4).requires_grad_(), randn(3, 4).requires_grad_(), randn(4).requires_grad_()]

    def function(y: Tensor, gate: Tensor, weight: Tensor) -> Tensor:
        normed = ops.gated_rms_norm(y, gate, weight, 1e-3, groups=2, dtype=torch.float64)
        return ops.rms_norm(normed, weight, 1e-3, eps_outside_root=True, dtype=torch.float64)

    assert torch.autograd.gradcheck(function, leaves)


@pytest.mark.parametrize(("experts", "top_k"), [(1, 1), (4, 1), (5, 2), (3, 3), (32, 2)])
@pytest.mark.parametrize("tokens", [1, 7, 65])
def test_moe(tokens: int, experts: int, top_k: int) -> None:
    """Oracle: each token through its own experts in float64; some experts get none, one gets most."""
    x, router, gate_up, down = randn(tokens, 6), randn(experts, 6), randn(experts, 8, 6), randn(experts, 6, 4)
    router[0] *= 5
    expected = definitions.moe(x, router, gate_up, down, top_k)
    found = ops.moe(x.float(), router.float(), gate_up.float(), down.float(), top_k=top_k)
    assert close(found, expected, RELATIVE_OP[torch.float32])


def test_moe_gradients() -> None:
    """Oracle: finite differences in float64."""
    leaves = [randn(5, 3), randn(4, 3), randn(4, 4, 3), randn(4, 3, 2)]
    leaves = [leaf.requires_grad_() for leaf in leaves]
    assert torch.autograd.gradcheck(lambda *t: ops.moe(*t, top_k=2), leaves)


def test_moe_gradients_of_experts_that_nobody_chose() -> None:
    """Oracle: finite differences in float64; two tokens choose one of five experts each, in a frozen router."""
    x, gate_up, down = (randn(*shape).requires_grad_() for shape in ((2, 3), (5, 4, 3), (5, 3, 2)))
    router = randn(5, 3)
    assert torch.autograd.gradcheck(lambda *t: ops.moe(t[0], router, *t[1:], top_k=1), (x, gate_up, down))


def test_moe_gradients_of_weights_wider_than_what_goes_in() -> None:
    """Oracle: the gradients of the same experts rounded beforehand; they come in the weights' own dtype."""
    x, router, dy = (randn(*shape).bfloat16() for shape in ((40, 16), (4, 16), (40, 16)))
    experts, grads = [randn(4, 8, 16).float(), randn(4, 16, 4).float()], []
    for dtype in (torch.float32, torch.bfloat16):
        leaves = [t.to(dtype, copy=True).requires_grad_() for t in experts]
        ops.moe(x, router, *leaves, top_k=2).backward(dy)
        assert all(leaf.grad.dtype == dtype for leaf in leaves)
        grads.append([leaf.grad.bfloat16() for leaf in leaves])
    assert all(torch.equal(*pair) for pair in zip(*grads, strict=True))


class Allocated(TorchDispatchMode):
    """Counts the tensors of one shape that operations return, views left out."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.shape, self.found = shape, set[int]()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if isinstance(result, Tensor) and result.shape == self.shape:
            self.found.add(result.untyped_storage().data_ptr())
        return result


def test_moe_gradients_of_experts_are_made_once() -> None:
    """Oracle: one gradient of the experts' shape, however many experts there are."""
    x, router, gate_up, down = (randn(*shape) for shape in ((40, 3), (16, 3), (16, 4, 3), (16, 3, 2)))
    y = ops.moe(x, router, gate_up.requires_grad_(), down, top_k=2)
    with Allocated((16, 4, 3)) as allocated:
        y.sum().backward()
    assert len(allocated.found) == 1


def test_segments() -> None:
    """Oracle: offsets added up by hand; gather and scatter undo each other."""
    lengths = (3, 1, 3, 0, 1)
    segments = Segments(lengths)
    assert segments.starts == (0, *accumulate(lengths))
    x = torch.arange(8.0)[:, None]
    parts = [segments.gather(x, group) for group in segments.groups]
    assert [tuple(part.shape) for part in parts] == [(2, 3, 1), (2, 1, 1)]
    assert torch.equal(segments.scatter(parts), x)


def test_dispatch_chooses_and_explains(monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: an operation of three implementations, of which one cannot run."""
    monkeypatch.setitem(dispatch._table, "test", {})
    dispatch.register("test", "reference", lambda: "reference")
    dispatch.register("test", "native", lambda: "native", lambda: "it is broken today")
    monkeypatch.delenv("BRAIDLM_OPS", raising=False)
    assert dispatch.select("test", "cpu")() == "reference"
    assert dispatch.why_not("test", "gpu") == "test has no gpu implementation"
    assert ("test", "reference", "it is broken today") in dispatch.report("cpu")
    with dispatch.using("native"):
        with pytest.raises(UnavailableError, match="broken today"):
            dispatch.select("test", "cpu")
        assert ("test", "none", "ops 'native' was asked for, but it is broken today") in dispatch.report("cpu")
    monkeypatch.setenv("BRAIDLM_OPS", "native")
    with dispatch.using("reference"):
        assert dispatch.select("test", "cpu")() == "reference"
        with dispatch.using("auto"):
            assert dispatch.choice() == "reference"
    assert dispatch.choice() == "native"
    monkeypatch.setenv("BRAIDLM_OPS", "magic")
    with pytest.raises(UnavailableError, match="reference, native, gpu, auto"):
        dispatch.choice()
