"""Evaluations of a run: loss and metrics of the objective on packed documents that are not trained on."""

from collections.abc import Callable, Mapping, Sequence

import torch

from .data.pack import Pack, targets_of
from .objective import TrainingObjective
from .room import cut_to_room
from .world import World

HELD_OUT = "eval_loss"
_FILE = "eval/"


class Evaluations:
    """Evaluations by the name of their loss in the log: `eval_loss` of held-out documents, `eval/NAME` of each file.

    A metric of the objective lies beside it, as `eval_METRIC` or `eval_METRIC/NAME`. Documents longer than one of the
    objective's models can take are cut.
    """

    def __init__(
        self,
        objective: TrainingObjective,
        held_out: Sequence[Pack],
        files: Mapping[str, Sequence[Pack]],
        world: World,
    ) -> None:
        self._objective, self._world = objective, world
        given = ({HELD_OUT: held_out} if held_out else {}) | {f"{_FILE}{name}": packs for name, packs in files.items()}
        self._packs = {name: [cut_to_room(objective, pack) for pack in packs] for name, packs in given.items()}

    @property
    def names(self) -> list[str]:
        """Names of the losses."""
        return list(self._packs)

    @torch.no_grad()
    def measure(self, name: str, stop: Callable[[], int] = lambda: 0) -> dict[str, float] | None:
        """Mean loss and metrics a target, by their names in the log; None if `stop` asked for an end before."""
        packs, metrics = self._packs[name], self._objective.metric_names
        mine = self._world.share(len(packs))
        sums = torch.zeros(2 + len(metrics), dtype=torch.float64)
        for number in range(-(-len(packs) // mine.step)):
            if self._world.most(stop()):
                return None
            # All processes make as many passes: a pass gathers weights from all.
            pack = packs[mine[number] if number < len(mine) else 0]
            made = self._objective(pack)
            if number < len(mine):
                sums[0] += made.plain.double()
                sums[1] += targets_of(pack) * (self._world.context_rank == 0)
                if made.metrics is not None:
                    sums[2:] += made.metrics.double()
        plain, targets, *found = self._world.sum(sums).tolist()
        means = (value / max(1, targets) for value in (plain, *found))
        return dict(zip((name, *(_beside(name, metric) for metric in metrics)), means, strict=True))


def _beside(name: str, metric: str) -> str:
    """Name of a metric that was measured with the loss called `name`."""
    return f"eval_{metric}" + (f"/{name.removeprefix(_FILE)}" if name.startswith(_FILE) else "")
