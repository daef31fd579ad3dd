"""Did you mean: the nearest known name to one that is unknown."""

import pytest

from braidlm.suggest import did_you_mean, near

KNOWN = ("max_tokens", "temperature", "top_p", "smollm2-135m", "granite-4.0-h-350m", "granite-4.0-350m")


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("max_new_tokens", "max_tokens"),
        ("maxTokens", "max_tokens"),
        ("temprature", "temperature"),
        ("smollm2_135m", "smollm2-135m"),
        ("SmolLM2-135M", "smollm2-135m"),
        ("granite-40-h-350m", "granite-4.0-h-350m"),
        ("colour", ""),
        ("", ""),
        ("temperature" * 1000, ""),
    ],
)
def test_nearest_name(name: str, meant: str) -> None:
    """Oracle: the name that whoever wrote this meant; none where nothing is alike, or too long to be a name."""
    assert near(name, KNOWN) == meant
    assert did_you_mean(name, KNOWN) == (f"; did you mean {meant!r}?" if meant else "")
