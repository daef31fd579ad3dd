"""Schemathesis: requests made from the server's own OpenAPI document, right ones and wrong ones."""

from collections.abc import Iterator

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error

from braidlm.engine import Limits
from braidlm.server import ModelHost, Settings, create_app

from .local import NAME, Local, model, serving

document = create_app(ModelHost(model, Settings(name=NAME))).openapi()
OPERATIONS = {op.label: op for op in (r.ok() for r in schemathesis.openapi.from_dict(document).get_all_operations())}


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Local]:
    # Answers are short and few at a time, so that a thousand of them do not take long.
    with serving(model(), tmp_path_factory.mktemp("sessions"), Limits(memory=1 << 20), max_tokens=2) as made:
        yield made


@pytest.mark.parametrize("label", OPERATIONS)
@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
def test_no_server_error(label: str, mode: GenerationMode, local: Local) -> None:
    """Oracle: the status: whatever is sent, it is not the server's fault."""

    @settings(max_examples=30, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(case=OPERATIONS[label].as_strategy(generation_mode=mode))
    def check(case: schemathesis.Case) -> None:
        case.call_and_validate(base_url=local.url, checks=[not_a_server_error], timeout=60)

    try:
        check()
    except Unsatisfiable:  # nothing can be sent wrongly to what takes nothing
        assert mode is GenerationMode.NEGATIVE
    assert local.get("/health").status_code == 200
