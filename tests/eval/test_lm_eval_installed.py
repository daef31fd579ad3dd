"""Whether lm-eval is there for the tests of its adapter, which are skipped without it."""

import importlib.util
import os

import pytest


@pytest.mark.skipif(os.environ.get("BRAIDLM_REQUIRE_NATIVE") != "1", reason="parts may be missing here")
def test_lm_eval_is_installed() -> None:
    """Oracle: the environment, which says that nothing may be left out."""
    assert importlib.util.find_spec("lm_eval") is not None, "lm-eval is not installed (pip install '.[eval]')"
