"""The choice of implementations, over the operations that really exist."""

import pytest
import torch

from braidlm import ops
from braidlm.errors import UnavailableError
from braidlm.ops import dispatch
from braidlm.system.choices import IMPLEMENTATIONS

EVERY = [
    "add_scaled",
    "attention",
    "causal_conv1d",
    "cross_entropy",
    "gated_conv",
    "gated_rms_norm",
    "gated_selective_scan",
    "glu",
    "linear",
    "moe",
    "rms_norm",
    "selective_scan",
    "ssd",
]


@pytest.fixture(autouse=True)
def _no_choice_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BRAIDLM_OPS", raising=False)


def test_every_operation_has_a_reference() -> None:
    """Oracle: the list of operations above; what is exported is what is registered."""
    assert sorted(dispatch._table) == EVERY
    assert set(EVERY) <= set(ops.__all__)
    for op in EVERY:
        assert dispatch.why_not(op, "reference") is None


@pytest.mark.parametrize("op", EVERY)
@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_an_implementation_is_there_or_says_why_not(op: str, implementation: str) -> None:
    """Oracle: the recorded reason: named in the error and in the report, or else that very implementation is chosen."""
    reason = dispatch.why_not(op, implementation)
    with dispatch.using(implementation):
        if reason is None:
            assert dispatch.resolve(op, "cpu") == implementation
            assert dispatch.select(op, "cpu") is dispatch._table[op][implementation].function
            return
        with pytest.raises(UnavailableError) as caught:
            dispatch.select(op, "cpu")
    assert reason in str(caught.value)
    assert repr(implementation) in str(caught.value)


def test_the_environment_chooses_for_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: the variable's value; a block of `using` inside it wins, and ends."""
    monkeypatch.setenv("BRAIDLM_OPS", "reference")
    assert [(op, implementation) for op, implementation, _ in dispatch.report("cpu")] == [
        (op, "reference") for op in EVERY
    ]
    x, weight = torch.ones(1, 2), torch.ones(3, 2)
    assert ops.linear(x, weight).tolist() == [[2.0, 2.0, 2.0]]
    monkeypatch.setenv("BRAIDLM_OPS", "gpu")
    with dispatch.using("reference"):
        assert dispatch.resolve("linear", "cpu") == "reference"
    assert dispatch.choice() == "gpu"
    monkeypatch.setenv("BRAIDLM_OPS", "fast")
    with pytest.raises(UnavailableError, match=r"'fast'.*reference, native, gpu, auto"):
        ops.linear(x, weight)


def test_a_choice_ends_with_its_block() -> None:
    """Oracle: the choice before it, also when the block fails; an unknown name changes nothing."""
    with pytest.raises(KeyError), dispatch.using("reference"):
        raise KeyError
    assert dispatch.choice() == "auto"
    with pytest.raises(UnavailableError, match="magic"), dispatch.using("magic"):
        pass
    assert dispatch.choice() == "auto"


@pytest.mark.parametrize("device", ["cpu", "cuda", "mps"])
def test_the_report_names_every_operation_once(device: str) -> None:
    """Oracle: the list of operations; each with an implementation that could run and a reason in words."""
    report = dispatch.report(device)
    assert [op for op, _, _ in report] == EVERY
    for op, implementation, reason in report:
        assert dispatch.why_not(op, implementation) is None
        assert reason
