"""The GPU implementation of attention, run uncompiled on the CPU: its mask, its results, its gradients."""

import pytest
import torch
from torch import Tensor
from torch.nn.attention import flex_attention
from torch.nn.attention.flex_attention import create_mask

from braidlm.ops import Past, Visible, dispatch
from braidlm.ops.attention import gpu, reference
from tests.ops.carried import close
from tests.ops.packed import Packed
from tests.tolerances import RELATIVE_OP

DOUBLE = torch.float64
VISIBLE = [Visible(None, 0), Visible(1, 0), Visible(30, 2), Visible(200, 5)]
# One row, rows without tokens, rows with pasts that have gaps; lengths around FlexAttention's blocks of 128.
BATCHES = [((1,), (0,)), ((127, 0, 129), (0, 0, 0)), ((70, 0, 1, 130), (0, 5, 40, 3))]


@pytest.fixture
def _backward_on_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch has the uncompiled backward, but allows it on GPUs only, since on CPUs there is no compiled one."""
    monkeypatch.setattr(flex_attention, "_validate_device", lambda *_: None)


def batch(lengths: tuple[int, ...], held: tuple[int, ...], visible: Visible) -> Packed:
    return Packed(lengths, held, visible, (4, 2, 16, 24))


def attend(packed: Packed, tensors: list[Tensor], attention) -> Tensor:
    rest = iter(tensors[3:])
    past = tuple(None if at is None else Past(next(rest), next(rest), at) for at in packed.positions)
    given = (*tensors[:3], past, tuple(packed.starts), packed.segments)
    return attention(*given, scale=0.4, visible=packed.visible)


@pytest.mark.parametrize("visible", VISIBLE)
@pytest.mark.parametrize(("lengths", "held"), BATCHES)
def test_mask(lengths: tuple[int, ...], held: tuple[int, ...], visible: Visible) -> None:
    """Oracle: the rule, written out for each row; and a block is left out only if nothing in it is seen."""
    packed, device = batch(lengths, held, visible), torch.device("cpu")
    new = [range(start, start + length) for start, length in zip(packed.starts, lengths, strict=True)]
    blocks = gpu.block_mask(packed.segments, tuple(packed.starts), tuple(packed.positions), visible, device)
    keys = [
        (row, at)
        for row, earlier in enumerate(packed.positions)
        for at in ([] if earlier is None else earlier.tolist()) + [*new[row]]
    ]

    def seen(row: int, at: int, other: int, key: int) -> bool:
        near = visible.window is None or at - key < visible.window or key < visible.sink_tokens
        return row == other and key <= at and near

    queries = [(row, at) for row, of_row in enumerate(new) for at in of_row]
    expected = torch.tensor([[seen(*query, *key) for key in keys] for query in queries])
    assert torch.equal(create_mask(blocks.mask_mod, 1, 1, len(queries), len(keys), "cpu")[0, 0], expected)
    size = blocks.BLOCK_SIZE[0]
    present = torch.tensor([[bool(part.any()) for part in row.split(size, 1)] for row in expected.split(size)])
    assert torch.equal(blocks.to_dense()[0, 0].bool(), present)


@pytest.mark.usefixtures("_backward_on_cpu")
@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
@pytest.mark.parametrize("visible", VISIBLE)
@pytest.mark.parametrize(("lengths", "held"), BATCHES)
def test_outputs_and_gradients(lengths: tuple[int, ...], held: tuple[int, ...], visible: Visible) -> None:
    """Oracle: the reference in float64, forward and backward, past keys and values included."""
    packed, results = batch(lengths, held, visible), []
    for implementation in (gpu.attend, reference.attention):
        leaves = [t.clone().requires_grad_() for t in packed.tensors]
        y = attend(packed, leaves, implementation)
        (y * torch.arange(y.numel(), dtype=DOUBLE).view(y.shape).cos()).sum().backward()
        results.append([y.detach(), *(torch.zeros_like(t) if t.grad is None else t.grad for t in leaves)])
    for found, expected in zip(*results, strict=True):
        assert found.shape == expected.shape
        # A query that sees one key has no gradient but rounding: relative to what comes in, which is one.
        assert close(found, expected, RELATIVE_OP[DOUBLE]) or (found - expected).abs().max() < RELATIVE_OP[DOUBLE]


def test_what_is_not_trained_goes_to_the_reference() -> None:
    """Oracle: the reference, bit for bit: nothing recorded, heads too small, no tokens."""
    cases = (((9,), (4, 2, 16, 24), False), ((9,), (4, 2, 8, 8), True), ((0,), (1, 1, 16, 16), True))
    for lengths, heads, record in cases:
        packed = Packed(lengths, (0,), Visible(4, 0), heads)
        tensors = [t.float().requires_grad_(record) for t in packed.tensors]
        assert torch.equal(attend(packed, tensors, gpu.attention), attend(packed, tensors, reference.attention))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_a_device_it_says_so() -> None:
    """Oracle: the reason, in the report of a GPU's operations too."""
    assert "CUDA" in (dispatch.why_not("attention", "gpu") or "")
    assert any(
        op == "attention" and implementation == "reference" and "CUDA" in why
        for op, implementation, why in dispatch.report("cuda")
    )
