"""What the tests of training share."""

from pathlib import Path

import pytest

from tests.train.small import make


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A directory with a tokenizer, shards and a configuration."""
    make(tmp_path)
    return tmp_path
