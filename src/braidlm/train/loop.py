"""Training loop: batches to gradients to steps, with checkpoints, evaluations and samples on the way.

Everything about a step follows from its number: its batch, its learning rate and its random numbers. A run that is
killed goes on from its last checkpoint with the same losses, bit for bit on a CPU.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..errors import InputError, TrainingError
from ..model.model import Model
from ..system.memory import keep_all_freed_memory
from . import checkpoints, diagnose, optim, plan
from .branch_dropout import DroppedBranches
from .config import Config, encode_config
from .data.pack import Pack, Packing, targets_of
from .data.pack import Stage as Packs
from .equip import equip
from .evaluation import HELD_OUT, Evaluations
from .language_model import LanguageModelObjective
from .objective import States, TrainingObjective
from .passes import passes_of
from .room import require_room
from .training_log import TrainingLog
from .world import World, all_reduce_gradients, loss_scale, parallelize


class StepMetrics(NamedTuple):
    """Metrics of one step, written to the log.

    number: from 1. loss: cross-entropy in nats a token. norm: of all gradients, before clipping. rate: learning rate.
    router_aux_loss: mean over the batch, None without experts. skipped: why the step was left out, None if it was made.
    metrics: means over the targets of what else the objective measures, by name.
    """

    number: int
    loss: float
    norm: float
    rate: float
    tokens: int
    seconds: float
    router_aux_loss: float | None
    skipped: str | None
    metrics: Mapping[str, float]


class Hooks(NamedTuple):
    """Callbacks of a run.

    stepped: called after each step. found: called with the evaluations and samples of a step, by name. sample: makes a
    text that shows what the model generates. stop: number of the signal that asks for an end, or 0.
    """

    stepped: Callable[[StepMetrics], None] = lambda _: None
    found: Callable[[int, Mapping[str, float | str]], None] = lambda _, __: None
    sample: Callable[[Model], str] | None = None
    stop: Callable[[], int] = lambda: 0


class Trainer:
    """Training run: a model, its data, its optimizer and the step it has reached."""

    def __init__(
        self,
        config: Config,
        model: Model,
        packing: Packing,
        eval_packs: Sequence[Pack],
        world: World | None = None,
        format: str | None = None,
        made_from: Mapping[str, str] | None = None,
        eval_files: Mapping[str, Sequence[Pack]] | None = None,
        objective: Callable[[Model], TrainingObjective] | None = None,
    ) -> None:
        """Goes on from the last checkpoint in `config.run.out` if there is one.

        `eval_packs` are the held-out documents, whose loss is `eval_loss` in the log; `eval_files` are evaluated as
        `eval/NAME`. `format` names the model's published format, whose names adapters get; `made_from` has digests of
        what the configuration names by path, which must be the same when the run goes on.
        `objective` makes what is minimised, once the model is equipped for training; the default is the cross-entropy.
        """
        self.config = config = plan.resolve_plan(config)
        self.world = world or World()
        self.step = 0
        self._packing = packing
        self._carried: dict[int, States] = {}
        self._evaluated = 0  # the last step whose evaluations the objective has seen
        self._skipped = 0
        self.directory = plan.directory(config)
        self._made_from = dict(made_from or {})
        for stage in config.stages:
            self.world.batch_share(stage.batch_size)  # refuses a batch that cannot be shared evenly
        self._sections()  # and documents that fit into no sequence of a later stage
        self.adapters = equip(model, config, self.world, format)
        if self.world.device == "cpu":
            keep_all_freed_memory()
        self.objective = (objective or self._language_model)(model)
        self._dropped = self._drop_branches(model)
        self._evaluations = Evaluations(self.objective, eval_packs, eval_files or {}, self.world)
        parallelize(self.objective, self.world, config.run.parallelism)
        self._optimizer = optim.optimizer(model, config.optimizer)
        self._resume()
        optim.hold_frozen(self._optimizer, self.step)

    @property
    def model(self) -> Model:
        """Model that is trained, in float32, or that adapters and initial state are attached to."""
        return self.objective.model

    def _language_model(self, model: Model) -> TrainingObjective:
        if self.config.teacher is not None:
            raise InputError("a run with a teacher needs its objective; give the trainer a DistillationObjective")
        return LanguageModelObjective(model, self.config.loss, passes_of(self.config.run, self.world))

    def _drop_branches(self, model: Model) -> DroppedBranches | None:
        asked, steps = self.config.branch_dropout, self.config.schedule.steps or self.config.steps
        return None if asked is None else DroppedBranches(model, asked, self.config.run.seed, steps)

    def _resume(self) -> None:
        place = checkpoints.latest(self.directory)
        if place is None:
            return
        indices = self.world.batch_share(max(stage.batch_size for stage in self.config.stages))
        models = self.objective.state_models
        found = checkpoints.load_checkpoint(
            place, self.model, self._optimizer, indices, self.world, self._made_from, models
        )
        self.step, self._evaluated, self._carried = found.step, found.evaluated, found.states
        self.objective.resume(found.objective)

    def run(self, hooks: Hooks | None = None, *, until: int | None = None) -> int:
        """Makes all steps that are left, or those up to step `until`; 0, or the number of the signal that ended it.

        After a signal the step in hand is finished and a checkpoint is stored, by all processes at the same step.
        """
        hooks = hooks or Hooks()
        log = self._open_log()
        self._make_up(log, hooks)
        if self.objective.done:
            return 0
        for packs, local in self._positions():
            made = self._advance(packs, local)
            if log is not None:
                log.add_line(**_facts(made))
                hooks.stepped(made)
            signal = self.world.most(hooks.stop()) or self._look(log, hooks)
            done = self.objective.done
            if signal or done or _due(self.step, self.config.run.checkpoint, self._last):
                self._store()
            if signal or done or self.step == until:
                return signal
        return 0

    @property
    def _last(self) -> bool:
        return self.step == self.config.steps

    def _open_log(self) -> TrainingLog | None:
        """The log, which the first process writes."""
        if self.world.rank > 0:
            return None
        out = Path(self.config.run.out)
        try:
            out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"cannot write {out}: {error.strerror}") from None
        return TrainingLog(out, self.step, tensorboard=self.config.run.tensorboard)

    def _make_up(self, log: TrainingLog | None, hooks: Hooks) -> None:
        """Makes the evaluations of the step a run goes on from, where a signal cut them short."""
        names = self._evaluations.names
        missing = log is not None and not all(log.has_field(name, self.step) for name in names)
        if self.step > 0 and (self._evaluated < self.step or self.world.most(int(missing))):
            self._look(log, hooks, sampled=False)

    def _look(self, log: TrainingLog | None, hooks: Hooks, *, sampled: bool = True) -> int:
        """Evaluates and samples where that is due; the number of a signal that ended it, or 0."""
        run, found = self.config.run, dict[str, float | str]()
        if _due(self.step, run.evaluate, self._last):
            measured = self._evaluate_all(hooks.stop)
            if measured is None:
                return self.world.most(hooks.stop())
            found |= measured
        if sampled and hooks.sample is not None and self.world.size == 1 and _due(self.step, run.sample, self._last):
            found["sample"] = hooks.sample(self.model)
        if found and log is not None:
            for name, value in found.items():
                if not log.has_field(name, self.step):
                    log.add_line(self.step, **{name: value})
            hooks.found(self.step, found)
        return self.world.most(hooks.stop())

    def _evaluate_all(self, stop: Callable[[], int]) -> dict[str, float] | None:
        """Every evaluation of this step, which the objective then sees; None if `stop` asked for an end before."""
        found: dict[str, float] = {}
        for name in self._evaluations.names:
            measured = self._evaluations.measure(name, stop)
            if measured is None:
                return None
            found |= measured
        if self._evaluated < self.step:
            self._evaluated = self.step
            self.objective.after_evaluation(self.step, found)
        return found

    def _store(self) -> None:
        progress = checkpoints.Progress(
            step=self.step,
            states=self._carried,
            config=encode_config(self.config),
            made_from=self._made_from,
            evaluated=self._evaluated,
            objective=self.objective.progress(),
        )
        models, keep = self.objective.state_models, self.config.run.keep
        checkpoints.save_checkpoint(self.directory, self.model, self._optimizer, progress, self.world, keep, models)

    def _sections(self) -> list[Packs]:
        """Each stage's section of the packing."""
        begin, found = 0, []
        for stage in self.config.stages:
            found.append(self._packing.stage(begin, stage.batch_size, stage.seq_len, stage.steps))
            begin = found[-1].end
        return found

    def _positions(self) -> Iterator[tuple[Packs, int]]:
        """Section of the packing and step in its stage, for each step that is left."""
        done = 0
        for stage, packs in zip(self.config.stages, self._sections(), strict=True):
            if self.step == done:  # sequences of another stage go through other documents
                self._carried = {}
            for local in range(max(0, self.step - done), stage.steps):
                self._mine = self.world.batch_share(stage.batch_size)
                yield packs, local
            done += stage.steps

    def _advance(self, packs: Packs, local: int) -> StepMetrics:
        begun = time.perf_counter()
        torch.manual_seed(hash((self.config.run.seed, self.step, self.world.rank)))
        if optim.release_frozen(self._optimizer, self.step):
            self.objective.resume(self.objective.progress())  # which may have stopped some of them
        self.objective.begin_step(self.step, self.config.schedule.steps or self.config.steps)
        rate = optim.rate(self.step, self.config.schedule)
        mine = {index: packs.pack(local, index) for index in self._mine}
        counts = torch.tensor([sum(map(targets_of, mine.values())), sum(map(_size, mine.values()))])
        counts *= self.world.context_rank == 0  # other parts of the same sequences are not counted again
        targets, read = self.world.sum(counts).tolist()
        sums = self._gradients(mine, max(1, targets))
        plain, aux_loss, *metrics = self.world.sum(sums).tolist()
        why, norm = self._finite(plain, list(mine.values())), math.nan
        if why is None:
            all_reduce_gradients(self.model.parameters(), self.world, self.config.run.parallelism)
            norm = optim.norm(self.model.parameters())
            why = None if math.isfinite(norm) else f"gradients are not finite: {diagnose.of_gradients(self.model)}"
        if why is None:
            optim.clip_gradients(self.model.parameters(), self.config.optimizer.max_grad_norm, norm)
            optim.set_rate(self._optimizer, self.config.optimizer.lr * rate)
            self._optimizer.step()
            optim.project_parameters(self.model)
            # Fused steps leave versions as they were, by which fingerprints, prefixes and plans know of changes.
            torch.autograd.graph.increment_version([p for p in self.model.parameters() if p.requires_grad])
            self._skipped = 0
        else:
            self._skip(why, list(mine.values()))
        self._optimizer.zero_grad()
        self.step += 1
        seconds = time.perf_counter() - begun
        mean = aux_loss / self.world.size / len(mine) if self.objective.has_experts else None
        means = dict(zip(self.objective.metric_names, (value / max(1, targets) for value in metrics), strict=True))
        peak = self.config.optimizer.lr
        return StepMetrics(self.step, plain / max(1, targets), norm, peak * rate, read, seconds, mean, why, means)

    def _gradients(self, packs: dict[int, Pack], targets: int) -> Tensor:
        """Adds up the gradients of the mean loss over all targets; sums of plain and routers' losses, and metrics."""
        carry = self.config.run.carry_state
        scale = loss_scale(self.world, self.config.run.parallelism) / targets
        found = torch.zeros(2 + len(self.objective.metric_names), dtype=torch.float64)
        for index, pack in packs.items():
            before = self._carried.get(index) if carry and pack.continues else None
            require_room(self.objective, pack, before)
            with self._dropped.drawn(self.step, index) if self._dropped is not None else nullcontext():
                sums = self.objective(pack, before, carry=carry)
                if sums.loss.requires_grad:  # else nothing in it is trained any more
                    (sums.loss * scale).backward()
            found[0] += sums.plain.double()
            if sums.aux_loss is not None:
                found[1] += sums.aux_loss.detach().double()
            if sums.metrics is not None:
                found[2:] += sums.metrics.double()
            if sums.after is not None:
                self._carried[index] = sums.after
        return found

    def _finite(self, plain: float, packs: list[Pack]) -> str | None:
        """Sentence that says why the loss cannot be used, or None."""
        return None if math.isfinite(plain) else f"the loss is not finite: {diagnose.of_loss(self.objective, packs)}"

    def _skip(self, why: str, packs: list[Pack]) -> None:
        """Leaves a step out, if so many in a row may be."""
        self._skipped += 1
        self._carried = {}
        if self._skipped > self.config.run.skips:
            documents = ", ".join(str(number) for pack in packs for number in pack.documents)
            raise TrainingError(f"at step {self.step + 1} {why}; the step's documents are {documents}")

    def evaluate(self, stop: Callable[[], int] = lambda: 0, name: str = HELD_OUT) -> float | None:
        """Loss a target on documents not trained on; None if `stop` asked for an end before."""
        found = self._evaluations.measure(name, stop)
        return None if found is None else found[name]


def _due(step: int, every: int, last: bool) -> bool:
    return last or (every > 0 and step % every == 0)


def _size(pack: Pack) -> int:
    return len(pack.ids_T)


def _facts(step: StepMetrics) -> dict[str, Any]:
    facts = {
        "step": step.number, "loss": step.loss, "norm": step.norm, "lr": step.rate,
        "tokens": step.tokens, "seconds": step.seconds, "router_aux_loss": step.router_aux_loss,
        "skipped": step.skipped, **step.metrics,
    }  # fmt: skip
    return {name: value for name, value in facts.items() if value is not None}
