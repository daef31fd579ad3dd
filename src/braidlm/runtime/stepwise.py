"""Runs a model token by token through its decode plan, whatever the number of tokens.

A decode step computes each sequence's numbers in the same way whoever else is in the step and however
many threads there are. So logits and states come out bit for bit the same for every way of cutting a
text into calls, for every batch and every number of threads. The cost: a prompt is read at the speed
of decoding.
"""

from collections.abc import Collection

import torch
from torch import Tensor

from ..errors import InputError, UnavailableError
from ..model import Logits, Model, Output
from ..ops import Segments
from ..state import State
from .decode import Decoder, available
from .slots import put_all, take_all


class Stepwise:
    """Called as the model itself is."""

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
        state: State,
        *,
        logits: Logits = "all",
        taps: Collection[str] = (),
    ) -> Output:
        """See `Model.forward`; without `taps`."""
        if taps:
            raise InputError("hidden states cannot be tapped in deterministic runs")
        decoder = Decoder(self._model, state.precision, len(state))
        put_all(decoder, state)
        marks = [segments.marks_of(slot) for slot in range(len(state))]
        marked = [state.take([slot] * len(wanted)) for slot, wanted in enumerate(marks)]
        made = torch.empty(segments.total if logits else 0, self._model.spec.vocab)
        for offset in range(max(segments.lengths, default=0)):
            slots = [slot for slot, length in enumerate(segments.lengths) if offset < length]
            places = [segments.starts[slot] + offset for slot in slots]
            found = decoder.step(ids_T[places], slots)
            if logits:
                made[places] = found
            for slot in slots:
                if offset + 1 in marks[slot]:
                    marked[slot].put(marks[slot].index(offset + 1), decoder.take(slot))
        after = state.fork()
        take_all(decoder, after)
        if logits == "last":
            made = made[[end - 1 for end, length in zip(segments.starts[1:], segments.lengths, strict=True) if length]]
        return Output(made if logits else None, {}, after, tuple(marked))
