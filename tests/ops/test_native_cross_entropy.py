"""Native cross-entropy of rows of logits, at every instruction-set level."""

import pytest
import torch
import torch.nn.functional as F

from braidlm import ops
from braidlm.ops import dispatch
from braidlm.ops.native_loader import extension
from tests.ops.carried import close
from tests.ops.levels import LEVELS, at_level
from tests.tolerances import RELATIVE_OP, RELATIVE_ROUNDED


def defined(logits: torch.Tensor, targets: torch.Tensor, scale: float, z: float) -> tuple[torch.Tensor, ...]:
    """Plain losses, log sum exp and gradient by torch's autograd in float64."""
    wide = logits.double().requires_grad_()
    plain = F.cross_entropy(wide * scale, targets, reduction="none")
    sums = (wide * scale).logsumexp(-1)
    (plain + z * sums.square()).sum().backward()
    return plain.detach(), sums.detach(), wide.grad


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("shape", [(1, 1), (3, 7), (2, 16), (5, 33), (3, 9001)], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("scale", "z"), [(1.0, 0.0), (0.125, 0.01)])
def test_rows(level: str, shape: tuple[int, int], dtype: torch.dtype, scale: float, z: float) -> None:
    """Oracle: the definition in float64; rows that lie apart; logits far from zero, the largest late in the row."""
    held = torch.randn(shape[0], shape[1] + 3) * 10 + 40
    held[:, shape[1] - 1] += 30
    logits, targets = held.to(dtype)[:, : shape[1]], torch.randint(shape[1], (shape[0],))
    plain, sums, dlogits = defined(logits, targets, scale, z)
    with at_level(level):
        alone = ops.cross_entropy(logits, targets, scale, z, gradient=False)
        assert alone.dlogits_CV is None and torch.equal(logits, held.to(dtype)[:, : shape[1]])
        found = ops.cross_entropy(logits, targets, scale, z, gradient=True)
    for made in (alone, found):
        assert close(made.sums_C.double(), sums, RELATIVE_OP[torch.float32])
        assert (made.plain_C.double() - plain).abs().max() <= RELATIVE_OP[torch.float32] * sums.abs().max().clamp_min(1)
    tolerance = RELATIVE_OP[dtype] if dtype in RELATIVE_OP else RELATIVE_ROUNDED[dtype]
    assert found.dlogits_CV.dtype == dtype
    # Against the target's share, as large as one: what is left of it where the model is sure is smaller than rounding.
    assert (found.dlogits_CV.double() - dlogits).abs().max() <= 2 * tolerance * scale


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_the_reference(dtype: torch.dtype) -> None:
    """Oracle: the definition in float64."""
    logits, targets = torch.randn(4, 19, dtype=torch.float64).to(dtype), torch.randint(19, (4,))
    plain, sums, dlogits = defined(logits, targets, 0.5, 0.1)
    with dispatch.using("reference"):
        found = ops.cross_entropy(logits, targets, 0.5, 0.1, gradient=True)
    assert close(found.plain_C.double(), plain, 1e-5) and close(found.sums_C.double(), sums, 1e-5)
    assert close(found.dlogits_CV.double(), dlogits, RELATIVE_ROUNDED[torch.bfloat16] if dtype.itemsize == 2 else 1e-5)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("place", [0, 20, 8000])
def test_what_is_not_finite_is_told(level: str, place: int) -> None:
    """Oracle: a NaN anywhere makes the row's loss one, and no other's; minus infinity is a word that never comes."""
    logits, targets = torch.randn(3, 9000), torch.tensor([1, 2, 3])
    logits[1, place] = torch.nan
    logits[2, 4:8500] = -torch.inf
    expected = F.cross_entropy(logits.double(), targets, reduction="none")
    with at_level(level):
        found = ops.cross_entropy(logits, targets, 1.0, 0.0, gradient=False).plain_C
    assert found.isnan().tolist() == [False, True, False]
    assert close(found[[0, 2]].double(), expected[[0, 2]], 1e-5)


@pytest.mark.skipif(not LEVELS, reason="no native extension")
@pytest.mark.parametrize("target", [-1, 5])
def test_targets_outside_a_row_are_refused(target: int) -> None:
    """Oracle: an error, and no memory that is not the row's is touched."""
    targets, told = torch.tensor([0, target]), torch.empty(2)
    with pytest.raises(ValueError, match="every target"):
        extension().cross_entropy(torch.randn(2, 5), targets, 1.0, 0.0, True, told, told, 1)
