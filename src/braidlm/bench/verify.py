"""Verification, on a given model, that every way of running it gives the same numbers.

One prompt is run whole; in chunks, token by token, in a ragged batch, from a fork, and from a
saved and reloaded state, on another number of threads, it must give the same logits, within a
tolerance that the dtypes set; a deterministic model gives the same bits.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from ..api.language_model import LanguageModel
from ..errors import InputError
from ..generation.sampling import check_seed
from ..ops.threads import count, on_threads
from ..state.batch import BatchState
from ..state.sequence import Precision

# Largest difference of logits over their largest absolute value. In bfloat16 every matrix product
# rounds to 8 bits, and the order of sums differs with the number of sequences.
TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-4, torch.bfloat16: 8e-2}
# Keys and values stored small add a whole storage step wherever one falls to the other side.
KV_TOLERANCE = {"bfloat16": 5e-3, "float16": 5e-3, "fp8": 8e-2, "int8": 2e-2}
# A router next to a tie may choose another expert by such a step, which moves a token's logits at once.
EXPERT_FACTOR = 4.0


class Check(NamedTuple):
    """Result of a check, a way of running against the whole-sequence run: `error` is relative to the largest logit."""

    name: str
    error: float
    tolerance: float

    @property
    def passed(self) -> bool:
        """Whether the error is a number within tolerance."""
        return self.error <= self.tolerance


def verify(model: LanguageModel, length: int = 100, seed: int = 0, kv_dtype: str | None = None) -> list[Check]:
    """Runs every check on `length` random tokens; about eight times the cost of one pass over them."""
    if length < 8:
        raise InputError(f"length is {length}, but must be at least 8 for the splits to differ")
    check_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(model.spec.vocab, (length,), generator=generator)
    whole = _run(model, ids, [length], kv_dtype)
    scale = float(whole.abs().max())
    tolerance = tolerance_of(model, kv_dtype)

    def check(name: str, logits: Tensor) -> Check:
        return Check(name, float((logits - whole).abs().max()) / scale, tolerance)

    splits = {
        "two chunks": [length // 2, length - length // 2],
        "chunks of 7": [7] * (length // 7) + ([length % 7] if length % 7 else []),
        "one token, then the rest": [1, length - 1],
        "token by token": [1] * length,
    }
    checks = [check(name, _run(model, ids, split, kv_dtype)) for name, split in splits.items()]
    others: dict[str, Callable[[LanguageModel, Tensor, str | None], Tensor]] = {
        "ragged batch": _ragged,
        "forked": _forked,
        "saved and reloaded": _reloaded,
        "states inside one pass": _from_snapshot,
        "another number of threads": _on_other_threads,
    }
    return checks + [check(name, run(model, ids, kv_dtype)) for name, run in others.items()]


def tolerance_of(model: LanguageModel, kv_dtype: str | None = None) -> float:
    """Tolerance: how far two ways of running `model` may differ, relative to the largest logit."""
    if model.deterministic:
        return 0.0
    stored = Precision.of(model.network.dtype, kv_dtype).kv
    tolerance = max(TOLERANCE[model.network.dtype], KV_TOLERANCE.get(stored, 0.0))
    routed = any(block.ffn is not None and block.ffn.routed for block in model.spec.blocks)
    return tolerance * EXPERT_FACTOR if routed and tolerance > TOLERANCE[torch.float32] else tolerance


def _continue(model: LanguageModel, ids: Tensor, state: BatchState) -> Tensor:
    return model.forward(ids[None], state=state)[0]


def _run(model: LanguageModel, ids: Tensor, split: list[int], kv_dtype: str | None) -> Tensor:
    state = model.new_state(kv_dtype=kv_dtype)
    return torch.cat([_continue(model, part, state) for part in ids.split(split)])


def _ragged(model: LanguageModel, ids: Tensor, kv_dtype: str | None) -> Tensor:
    """The prompt as the middle sequence, between its reverse cut short and a single token."""
    sequences = [ids.flip(0)[: max(1, len(ids) // 3)], ids, ids[-1:]]
    return model.forward(sequences, state=model.new_state(3, kv_dtype))[1]


def _forked(model: LanguageModel, ids: Tensor, kv_dtype: str | None) -> Tensor:
    """Runs a fork while the original goes on with other tokens."""
    half = len(ids) // 2
    state = model.new_state(kv_dtype=kv_dtype)
    first = _continue(model, ids[:half], state)
    fork = state.fork()
    _continue(model, ids.flip(0), state)
    return torch.cat([first, _continue(model, ids[half:], fork)])


def _reloaded(model: LanguageModel, ids: Tensor, kv_dtype: str | None) -> Tensor:
    half = len(ids) // 2
    state = model.new_state(kv_dtype=kv_dtype)
    first = _continue(model, ids[:half], state)
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "state.safetensors"
        state.save(path)
        again = model.load_state(path, kv_dtype)
    return torch.cat([first, _continue(model, ids[half:], again)])


def _on_other_threads(model: LanguageModel, ids: Tensor, kv_dtype: str | None) -> Tensor:
    """Runs on one thread, or two where one is usual."""
    with on_threads(2 if count() == 1 else 1):
        return _run(model, ids, [len(ids)], kv_dtype)


def _from_snapshot(model: LanguageModel, ids: Tensor, kv_dtype: str | None) -> Tensor:
    """Goes on from a snapshot taken inside one pass over the whole prompt."""
    third = len(ids) // 3
    out = model.forward(ids[None], state=model.new_state(kv_dtype=kv_dtype), state_at=[[third, 2 * third]])
    again = _continue(model, ids[2 * third :], out.states[0].select([1]))
    return torch.cat([out.logits[0, : 2 * third], again])
