"""Deterministic runs: a model run through its decode plan, a few tokens at a time, prompts too.

A decode step computes each token's numbers in the same way whoever else is in the step and however
many threads there are. So logits and states are bit for bit the same for every way of cutting a sequence
into calls, for every batch and every number of threads. The cost: prefill runs at the speed of decoding
many rows.
"""

from collections.abc import Collection

import torch
from torch import Tensor

from ..errors import InputError, UnavailableError
from ..model.model import Logits, Model, Output
from ..ops import Segments
from ..state.batch import BatchState
from .decode import Decoder, available
from .slots import copy_from_slots, copy_to_slots

# Tokens of a step, in all.
_TOGETHER = 32


class Stepwise:
    """Deterministic runner of a model; called as the model itself is."""

    def __init__(self, model: Model) -> None:
        if not available(model):
            raise UnavailableError(
                "deterministic runs need the native extension, the CPU, and float32 or bfloat16; "
                "braid doctor says what is missing"
            )
        self._model = model

    def __call__(
        self,
        ids_T: Tensor,
        segments: Segments,
        state: BatchState,
        *,
        logits: Logits = "all",
        hidden_states: Collection[str] = (),
    ) -> Output:
        """Runs as `Model.forward` does; raises `InputError` if hidden states are asked for."""
        if hidden_states:
            raise InputError("hidden states are not returned in deterministic runs")
        decoder = Decoder(self._model, state.precision, len(state))
        copy_to_slots(decoder, state)
        snapshot_positions = [segments.snapshot_positions_of(slot) for slot in range(len(state))]
        snapshots = [state.select([slot] * len(wanted)) for slot, wanted in enumerate(snapshot_positions)]
        made = torch.empty(segments.total if logits else 0, self._model.spec.vocab)
        done = [0] * len(state)
        while going := [slot for slot, length in enumerate(segments.lengths) if done[slot] < length]:
            slots: list[int] = []
            places: list[int] = []
            for slot in going:
                # A snapshot position ends a step, since the state is taken there.
                end = min((at for at in snapshot_positions[slot] if at > done[slot]), default=segments.lengths[slot])
                end = min(end, done[slot] + max(1, _TOGETHER // len(going)))
                places += range(segments.starts[slot] + done[slot], segments.starts[slot] + end)
                slots += [slot] * (end - done[slot])
                done[slot] = end
            found = decoder.step(ids_T[places], slots)
            if logits:
                made[places] = found
            for slot in going:
                if done[slot] in snapshot_positions[slot]:
                    snapshots[slot].set_sequence(snapshot_positions[slot].index(done[slot]), decoder.state_of(slot))
        after = state.fork()
        copy_from_slots(decoder, after)
        if logits == "last":
            made = made[[end - 1 for end, length in zip(segments.starts[1:], segments.lengths, strict=True) if length]]
        return Output(made if logits else None, {}, after, tuple(snapshots))
