"""The embedded model with a chat template: quick to start, and it never ends an answer by itself."""

import json
import shutil
from pathlib import Path

from braidlm.checkpoints.embedded import DIRECTORY

_TEMPLATE = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}assistant:"


def write_chatty(directory: Path) -> Path:
    """Writes the model as a directory of its own, which is returned."""
    shutil.copytree(DIRECTORY, directory)
    config = directory / "tokenizer_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "chat_template": _TEMPLATE}))
    return directory
