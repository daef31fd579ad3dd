"""braidlm: hybrid language models (state-space layers, gated convolutions, attention) on the computer you have.

import braidlm

model = braidlm.load("smollm2-135m")
print(model.generate("The capital of France is", max_tokens=16))
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .api.language_model import LanguageModel
    from .api.loading import build, load
    from .errors import BraidError
    from .spec import ModelSpec
    from .state.batch import BatchState

__version__ = "0.1.0"

_PUBLIC = {
    "BraidError": ".errors",
    "LanguageModel": ".api.language_model",
    "ModelSpec": ".spec",
    "BatchState": ".state.batch",
    "build": ".api.loading",
    "load": ".api.loading",
}
# Modules whose names are used beside them.
_MODULES = ("engine", "generation", "spec")
__all__ = ["BraidError", "LanguageModel", "ModelSpec", "BatchState", "__version__", "build", "load"]


def __getattr__(name: str) -> Any:
    """Imports public names when they are first used, so that `import braidlm` costs nothing."""
    if name in _MODULES:
        return importlib.import_module(f".{name}", __name__)
    if name not in _PUBLIC:
        meant = importlib.import_module(".system.suggest", __name__).did_you_mean(name, (*_PUBLIC, *_MODULES))
        raise AttributeError(f"module 'braidlm' has no attribute {name!r}{meant}")
    return getattr(importlib.import_module(_PUBLIC[name], __name__), name)


def __dir__() -> list[str]:
    return sorted({*__all__, *_MODULES, *(name for name in globals() if name.startswith("__"))})
