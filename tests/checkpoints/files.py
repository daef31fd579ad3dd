"""Small checkpoints as tools write them, made from tiny models that are exported by their own family."""

import json
import random
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

import braidlm
from tests.families.tiny import tiny

Tensors = dict[str, Tensor]


def tiny_checkpoint(directory: Path, family: str, seed: int = 0, dtype: str = "float32") -> Path:
    """A small random model of a family in its published layout."""
    braidlm.build(tiny(family, seed), seed=1, dtype=dtype).save(directory, _format_of(family))
    return directory


def _format_of(family: str) -> str:
    return "llama" if family == "mistral" else family


def edit_tensors(directory: Path, change: Callable[[Tensors], Mapping[str, Tensor] | None]) -> None:
    """Writes the weights anew: what `change` returns, or what it has made of the given ones."""
    file = directory / "model.safetensors"
    tensors = {name: tensor.clone() for name, tensor in load_file(file).items()}
    found = change(tensors)
    save_file({name: tensor.contiguous() for name, tensor in (tensors if found is None else found).items()}, file)


def edit_config(directory: Path, **changes: Any) -> None:
    """Changes keys of config.json; `...` removes one."""
    config = json.loads((directory / "config.json").read_text()) | changes
    kept = {key: value for key, value in config.items() if value is not ...}
    (directory / "config.json").write_text(json.dumps(kept))


def logits_of(path: Path, **options: Any) -> Tensor:
    """Logits of a loaded checkpoint for some fixed tokens, in float32."""
    loaded = braidlm.load(path, **options)
    rng = random.Random(0)
    ids = torch.tensor([[rng.randrange(loaded.spec.vocab) for _ in range(24)]])
    return loaded.forward(ids).float()


def digest_of(path: Path, **options: Any) -> str:
    """A digest of a loaded checkpoint's description and weights."""
    return braidlm.load(path, **options).network.weights.fingerprint()
