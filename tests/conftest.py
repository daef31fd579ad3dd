"""Seeds, one thread a worker, and memory that is never accidentally zero."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
if "PYTEST_XDIST_WORKER" in os.environ:
    # Before torch reads it, and for the processes that tests start: two workers with two threads each, on two
    # processors, mostly wait for one another.
    os.environ["OMP_NUM_THREADS"] = "1"

import torch

from tests.chatty import write_chatty

# torch notes at its first use which functions a default device applies to; here they are still the real ones.
with torch.device("meta"):
    torch.empty(0)

_HERE = Path(__file__).parent
# Long files of few tests, longest first: begun last, they would keep one worker busy when the others have nothing left.
_LONGEST = (
    "server/test_replicas.py",
    "server/test_page_talks.py",
    "cli/test_chat_terminal.py",
    "train/test_stopping.py",
    "cli/test_cli.py",
    "api/test_smollm2.py",
    "server/test_page.py",
    "server/test_sessions.py",
    "server/test_openai.py",
    "train/test_world.py",
    "train/test_killed.py",
    "mutations/test_mutations.py",
    "eval/test_divergence.py",
    "quant/test_quantize.py",
    "server/test_faults.py",
    "test_readme.py",
    "checkpoints/test_embedded.py",
)
_POISONED_TESTS = ("ops", "layers", "state", "families")
_POISONED = (
    (torch, "empty"),
    (torch, "empty_like"),
    (torch, "empty_strided"),
    (torch.Tensor, "new_empty"),
    (torch.Tensor, "new_empty_strided"),
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    rank = {_HERE / file: number for number, file in enumerate(_LONGEST)}
    items.sort(key=lambda item: rank.get(item.path, len(rank)))


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def chatty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small trained model on disk that chats, for processes that tests start."""
    return write_chatty(tmp_path_factory.mktemp("models") / "chatty")


@pytest.fixture(autouse=True)
def _poison(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fills fresh memory with NaN in the tests of operations, states and families: what is not written is seen."""
    if request.path.relative_to(_HERE).parts[0] in _POISONED_TESTS:
        for owner, name in _POISONED:
            monkeypatch.setattr(owner, name, _filled(getattr(owner, name)))


def _filled(make: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    def poisoned(*args: Any, **kwargs: Any) -> torch.Tensor:
        fresh = make(*args, **kwargs)
        with torch.no_grad():
            return fresh.fill_(_poison_of(fresh.dtype))

    return poisoned


def _poison_of(dtype: torch.dtype) -> float | int | bool:
    """NaN; the largest number of an integer type, which is out of range as an index; true."""
    if dtype.is_floating_point or dtype.is_complex:
        return float("nan")
    return True if dtype == torch.bool else torch.iinfo(dtype).max
