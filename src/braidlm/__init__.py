"""braidlm: hybrid language models (state-space layers, gated convolutions, attention) on the computer you have.

import braidlm

model = braidlm.load("smollm2-135m")
print(model.generate("The capital of France is", max_tokens=16))
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .api import LanguageModel
    from .errors import BraidError
    from .loading import build, load
    from .spec import ModelSpec
    from .state import State

__version__ = "0.1.0"

_PUBLIC = {
    "BraidError": ".errors",
    "LanguageModel": ".api",
    "ModelSpec": ".spec",
    "State": ".state",
    "build": ".loading",
    "load": ".loading",
}
__all__ = ["BraidError", "LanguageModel", "ModelSpec", "State", "__version__", "build", "load"]


def __getattr__(name: str) -> Any:
    """Imports public names when they are first used, so that `import braidlm` costs nothing."""
    if name not in _PUBLIC:
        raise AttributeError(f"module 'braidlm' has no attribute {name!r}")
    return getattr(importlib.import_module(_PUBLIC[name], __name__), name)
