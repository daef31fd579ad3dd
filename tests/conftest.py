"""Seeds, one thread a worker, and memory that is never accidentally zero."""

import os
from collections.abc import Callable
from typing import Any

import pytest
import torch

os.environ.setdefault("HF_HUB_OFFLINE", "1")

_POISONED = ("empty", "empty_like")


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture(autouse=True, scope="session")
def _threads() -> None:
    if "PYTEST_XDIST_WORKER" in os.environ:
        torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _poison(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fills fresh memory with NaN in the tests of operations and states: what is not written is seen."""
    if request.path.parent.name in ("ops", "state"):
        for name in _POISONED:
            monkeypatch.setattr(torch, name, _filled(getattr(torch, name)))
        monkeypatch.setattr(torch.Tensor, "new_empty", _filled(torch.Tensor.new_empty))


def _filled(make: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    def poisoned(*args: Any, **kwargs: Any) -> torch.Tensor:
        fresh = make(*args, **kwargs)
        floating = fresh.is_floating_point() or fresh.is_complex()
        return fresh.detach().fill_(float("nan")).requires_grad_(fresh.requires_grad) if floating else fresh

    return poisoned
