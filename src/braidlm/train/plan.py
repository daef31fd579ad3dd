"""Plan of a run that goes on: what was begun stays as it was planned, what was not may be changed.

A run that was extended makes the same steps as one that was planned so from the beginning, with the same
`schedule.steps`: stages follow each other, and the learning rate is a function of a step's number alone.
"""

from collections.abc import Sequence
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

from ..errors import CheckpointError, InputError, SpecError, quoted
from ..spec.json import decode
from . import checkpoints, optim
from .config import Config, Schedule, Stage, decode_config, read_config

# Fields that may differ when a run goes on: they change no step, or only the order of sums over processes.
_FREE = {
    "data": {"shards", "mixture.shards", "eval_tokens"},
    "model": {"checkpoint", "tokenizer"},
    "teacher": {"checkpoint"},
    "run": {
        "out", "activation_checkpointing", "parallelism", "context_parallel", "checkpoint", "keep", "evaluate",
        "sample", "prompt", "sample_tokens", "skips", "tensorboard",
    },
}  # fmt: skip


def directory(config: Config) -> Path:
    """Directory of a run's checkpoints."""
    return Path(config.run.out) / checkpoints.DIRECTORY


def read_any(path: Path, changes: Sequence[str] = ()) -> Config:
    """Configuration in a TOML file, or of the run in a directory, with `changes` made."""
    if not path.is_dir():
        return read_config(path, changes)
    found = checkpoints.latest(path / checkpoints.DIRECTORY)
    if found is None:
        raise InputError(f"{path} holds no checkpoint of a run; name the TOML file of one, or a run's directory")
    _, told = checkpoints.read_progress(found)
    try:
        config = decode_config(told, changes, Path.cwd(), str(found))
    except RecursionError:
        raise CheckpointError(f"{found} is damaged: its configuration is nested too deep") from None
    return replace(config, run=replace(config.run, out=str(path)))


def resolve_plan(config: Config, extra_steps: int = 0) -> Config:
    """Resolved configuration: the schedule's steps filled in, the stages that its checkpoints have begun as planned.

    `extra_steps` like the last ones are added. `InputError` names the first field that does not fit what was begun.
    """
    found = checkpoints.latest(directory(config))
    if found is None:
        steps = config.schedule.steps or config.steps
        return _with(config, config.stages, replace(config.schedule, steps=steps), extra_steps)
    done, before = stored(found)
    require_same_model(config, before, found)
    for table in ("data", "optimizer", "loss", "teacher", "branch_dropout", "run"):
        _require_same(getattr(config, table), getattr(before, table), table, _FREE.get(table, set()), found)
    stages = _stages(config.stages, _begun(before.stages, done), found)
    resolved = _with(config, stages, _schedule(config.schedule, before, done, found), extra_steps)
    if config.model.filters == "implicit" and resolved.max_seq_len != before.max_seq_len:
        raise InputError(
            f"the longest stages.seq_len is {resolved.max_seq_len}, but implicit filters have the {before.max_seq_len} "
            f"positions that {found} was begun with"
        )
    return resolved


def stored(place: Path) -> tuple[int, Config]:
    """Step of a checkpoint, and the configuration of its run."""
    step, told = checkpoints.read_progress(place)
    try:
        config: Config = decode(Config, told, "config")
    except (SpecError, InputError) as error:
        raise CheckpointError(f"{place} is damaged or was made by another version: {error}") from None
    steps = config.schedule.steps or config.steps
    return step, replace(config, schedule=replace(config.schedule, steps=steps))


def require_same_model(asked: Config, before: Config, place: Path) -> None:
    """`InputError` unless a configuration trains the same of the same model as the run of a checkpoint."""
    for table in ("model", "adapter", "initial_state"):
        _require_same(getattr(asked, table), getattr(before, table), table, _FREE.get(table, set()), place)


def _with(config: Config, stages: Sequence[Stage], schedule: Schedule, extra_steps: int) -> Config:
    last = stages[-1]
    added = (replace(last, steps=extra_steps),) if extra_steps else ()
    resolved = replace(config, stages=(*stages, *added), schedule=schedule)
    if resolved.steps > (schedule.steps or 0) and not optim.rate(resolved.steps - 1, schedule):
        raise InputError(
            f"steps after {schedule.steps} have the learning rate 0, since schedule.final is {schedule.final}; "
            "set schedule.steps to all steps before a run begins, or begin another run with the model of this one"
        )
    return resolved


def _begun(stages: Sequence[Stage], done: int) -> list[Stage]:
    first, begun = 0, []
    for stage in stages:
        if first < done:
            begun.append(stage)
        first += stage.steps
    return begun


def _stages(asked: Sequence[Stage], begun: Sequence[Stage], place: Path) -> list[Stage]:
    """The begun stages, then what is asked for beyond them: more steps of the last one are a stage of their own."""
    rest, planned = list(begun), []
    for number, stage in enumerate(asked):
        left, expected = stage.steps, rest[0] if rest else stage
        for name in ("batch_size", "seq_len"):
            _require(f"stages.{number}.{name}", getattr(stage, name), getattr(expected, name), place)
        while rest and left and (rest[0].batch_size, rest[0].seq_len) == (stage.batch_size, stage.seq_len):
            if left < rest[0].steps:
                hint = "; its last checkpoint becomes a model with --export"
                _require(f"stages.{number}.steps", stage.steps, stage.steps - left + rest[0].steps, place, hint)
            left -= rest[0].steps
            planned.append(rest.pop(0))
        if left:
            if rest:
                _require(f"stages.{number}.steps", stage.steps, stage.steps - left, place)
            planned.append(replace(stage, steps=left))
    return [*planned, *rest]


def _schedule(asked: Schedule, before: Config, done: int, place: Path) -> Schedule:
    """Schedule as planned, or another one in which the steps that were made are the same ones."""
    planned = before.schedule
    wanted = replace(asked, steps=asked.steps or planned.steps)
    dropped = before.branch_dropout is not None and wanted.steps != planned.steps
    if dropped or any(optim.rate(step, wanted) != optim.rate(step, planned) for step in range(done)):
        _require_same(wanted, planned, "schedule", set(), place)
    return wanted


def _require_same(asked: Any, planned: Any, name: str, free: set[str], place: Path) -> None:
    if isinstance(asked, tuple) and isinstance(planned, tuple) and len(asked) == len(planned):
        for number, (one, other) in enumerate(zip(asked, planned, strict=True)):
            _require_same(one, other, f"{name}.{number}", free, place)
        return
    if not (is_dataclass(asked) and type(asked) is type(planned)):
        _require(name, asked, planned, place)
        return
    for item in fields(asked):
        if item.init and item.name not in free:
            inside = {field.removeprefix(f"{item.name}.") for field in free if field.startswith(f"{item.name}.")}
            _require_same(getattr(asked, item.name), getattr(planned, item.name), f"{name}.{item.name}", inside, place)


def _require(name: str, asked: Any, planned: Any, place: Path, hint: str = "") -> None:
    if asked != planned:
        raise InputError(
            f"{name} is {_said(asked)}, but the run of {place} was begun with {_said(planned)}; go on with that, or "
            f"choose another run.out{hint}"
        )


def _said(value: Any) -> str:
    return "not there" if value is None else quoted(value)
