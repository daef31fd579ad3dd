"""Objective of several parts, which stops them one after the other, as tests of the trainer give it."""

from collections.abc import Mapping
from typing import Any

import torch

from braidlm.model.model import Model, run_block
from braidlm.ops import Segments
from braidlm.train.data.pack import Pack
from braidlm.train.objective import States, Sums, TrainingObjective

STOPPED_AFTER = 3


class BlockRegression(TrainingObjective):
    """Squared distance of each block's output from that of a donor's block with the same input.

    Block 0 is stopped by the evaluation after step `STOPPED_AFTER`, all of them by that after step `end`: left out of
    the graph, or `frozen`.
    """

    def __init__(self, student: Model, donor: Model, end: int = 1000, *, frozen: bool = False) -> None:
        super().__init__(student)
        self._donor, self._end, self._frozen = (donor,), end, frozen
        self.metric_names = tuple(f"block_{index}" for index in range(len(student.blocks)))
        self.stopped: set[int] = set()
        self.begun: list[tuple[int, int]] = []
        self.seen: list[tuple[int, dict[str, float]]] = []

    @property
    def done(self) -> bool:
        return len(self.stopped) == len(self.model.blocks)

    def begin_step(self, step: int, steps: int) -> None:
        self.begun.append((step, steps))

    def forward(self, pack: Pack, before: States | None = None, *, carry: bool = False) -> Sums:
        (donor,), errors = self._donor, []
        dtype = self.model.dtype

        def run(block: Any, x_TD: Any, state: Any, batch: Any, _: Any) -> Any:
            with torch.no_grad():
                wanted_TD, after = run_block(block, x_TD, state, batch, dtype)
            index = len(errors)
            left_out = index in self.stopped and not self._frozen
            with torch.set_grad_enabled(torch.is_grad_enabled() and not left_out):
                found_TD, _ = self.model.blocks[index](x_TD.detach(), state, batch, dtype)
                errors.append((found_TD - wanted_TD)[pack.targets_T >= 0].square().sum())
            return wanted_TD, after

        segments = Segments(pack.lengths)
        with torch.no_grad():
            state = donor.training_state(len(pack.lengths))
        donor.hidden(pack.ids_T, segments, state, run)
        total = torch.stack(errors)
        return Sums(total.sum(), total.sum().detach(), metrics=total.detach())

    def after_evaluation(self, step: int, found: Mapping[str, float]) -> None:
        self.seen.append((step, dict(found)))
        if step >= STOPPED_AFTER:
            self.stopped.add(0)
        if step >= self._end:
            self.stopped.update(range(len(self.model.blocks)))
        self._freeze()

    def _freeze(self) -> None:
        for index in self.stopped if self._frozen else ():
            self.model.blocks[index].requires_grad_(False)

    def progress(self) -> dict[str, Any]:
        return {"stopped": sorted(self.stopped)}

    def resume(self, progress: Mapping[str, Any]) -> None:
        self.stopped = set(progress["stopped"])
        self._freeze()
