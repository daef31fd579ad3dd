"""Loader of the compiled extension: loads it once, keeps the reason if it cannot, and checks tensors for it."""

import functools
import importlib
import os
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from ..errors import NativeWarning, warn
from . import dispatch


@functools.cache
def native() -> tuple[ModuleType | None, str | None]:
    """Loads the extension: it and None, or None and the reason that it is missing."""
    try:
        module = importlib.import_module("braidlm._native")
    except ImportError as error:
        return None, f"the native extension was not built or does not load ({error})"
    asked = os.environ.get("BRAIDLM_LEVEL")
    if asked and asked not in module.levels():
        return None, f"BRAIDLM_LEVEL is {asked!r}, but this processor has the levels {', '.join(module.levels())}"
    if asked:
        module.set_level(asked)
    _share_threads(module)
    return module, None


def _share_threads(module: ModuleType) -> None:
    """Lets kernels run on the threads that torch's own operations run on."""
    for library in Path(torch.__file__).parent.glob("lib/libtorch_cpu.*"):
        module.share_threads(str(library))


def why_not() -> str | None:
    """Reason that native implementations cannot run here, or None if they can, as `dispatch.register` takes it."""
    return native()[1]


def tell_if_missing() -> None:
    """Warns once, with a `NativeWarning`, if native implementations would be chosen and cannot run."""
    sentence = if_missing()
    if sentence is not None and dispatch.choice() == "auto":
        _tell(sentence)


def if_missing() -> str | None:
    """One sentence if native implementations cannot run: what follows from it, why, and what would be right."""
    reason = why_not()
    if reason is None:
        return None
    return (
        f"without native kernels everything runs several times slower: {reason}; `pip install .` in a clone builds "
        "them with a C++20 compiler (g++ 12, say), and BRAIDLM_OPS=reference does without them unsaid"
    )


@functools.cache
def _tell(sentence: str) -> None:
    warn(sentence, NativeWarning)


def extension() -> Any:
    """The extension; only for code that runs where `why_not()` is None."""
    return native()[0]


def takes(*tensors: Tensor | None, gradients: bool = False) -> bool:
    """Whether native kernels take these tensors: float32 or bfloat16 (or complex64) on the CPU.

    Unless a kernel has `gradients`, nothing that autograd would record.
    """
    present = [tensor for tensor in tensors if tensor is not None]
    if not gradients and torch.is_grad_enabled() and any(tensor.requires_grad for tensor in present):
        return False
    return all(
        tensor.device.type == "cpu" and tensor.dtype in (torch.float32, torch.bfloat16, torch.complex64)
        for tensor in present
    )
