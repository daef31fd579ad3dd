"""Training checkpoints: directories that appear whole or not at all, readable by any number of processes.

Weights and moments lie there as torch.distributed.checkpoint writes them, the carried states of a batch as state
files, and the rest in `progress.json`. Random numbers need none: each step's follow from the seed and its number.
"""

import contextlib
import itertools
import json
import shutil
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_state_dict,
    set_model_state_dict,
    set_state_dict,
)
from torch.optim import Optimizer

from ..errors import CheckpointError, InputError
from ..model.model import Model
from ..state import state_file
from ..state.sequence import Identity, Precision, SequenceState
from ..state.state_file import Owner
from ..system.files import flush, is_there, read_object
from .checkpoint_reader import CheckpointReader, PlainPlanner
from .objective import States
from .world import World

# Where a run has its checkpoints.
DIRECTORY = "checkpoints"
_STATES = "braidlm-training-states-1"
_PROGRESS = "progress.json"


class Progress(NamedTuple):
    """Progress of a run: steps done, states carried in the middle of a document, and the configuration.

    states: by index in the batch. made_from: digests of what the configuration names by path, by the field's name.
    evaluated: last step whose evaluations the objective has seen. objective: what it keeps (`progress`).
    """

    step: int
    states: dict[int, States]
    config: dict[str, Any]
    made_from: dict[str, str]
    evaluated: int
    objective: dict[str, Any]


def save_checkpoint(
    directory: Path,
    model: Model,
    optimizer: Optimizer,
    progress: Progress,
    world: World,
    keep: int,
    state_models: Sequence[Model],
) -> Path:
    """Writes the checkpoint of a step, then deletes all but the last `keep`; every process calls it.

    `state_models` are those whose states `progress` has, in their order.
    """
    place = _name(directory, progress.step)
    temporary = directory / f".{place.name}.part"
    try:
        if world.rank == 0:
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir(parents=True)
        world.wait()
        weights, moments = _trained(model, optimizer)
        with _quiet():
            dcp.save(  # type: ignore[attr-defined]
                {"model": weights, "optimizer": moments}, checkpoint_id=temporary, no_dist=world.size == 1
            )
        for index, rows in progress.states.items():
            for number, (own, row) in enumerate(zip(state_models, rows, strict=True)):
                state_file.write_states(temporary / _state_name(index, number), _STATES, _owner(own, row), [row])
        world.wait()
        if world.rank == 0:
            metadata = {name: value for name, value in progress._asdict().items() if name != "states"}
            (temporary / _PROGRESS).write_text(json.dumps(metadata, indent=1))
            _publish(temporary, place)
            for old in every(directory)[:-keep]:
                shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        raise InputError(f"cannot write the checkpoint {place}: {error.strerror or error}") from None
    except CheckpointException as error:
        reason = next(iter(error.failures.values()))[0]
        raise InputError(f"cannot write the checkpoint {place}: {reason}") from None
    world.wait()
    return place


def latest(directory: Path) -> Path | None:
    """Last checkpoint in a run's directory of checkpoints, or None."""
    found = every(directory)
    return found[-1] if found else None


def every(directory: Path) -> list[Path]:
    """All checkpoints that were written whole, by step."""
    return sorted(place for place in directory.glob("step-*") if is_checkpoint(place))


def is_checkpoint(place: Path) -> bool:
    """Whether a directory is a checkpoint that was written whole."""
    return is_there(place / _PROGRESS)


def read_progress(place: Path) -> tuple[int, dict[str, Any]]:
    """Steps done and the configuration of a checkpoint, without its weights."""
    metadata = read_object(place / _PROGRESS, CheckpointError)
    step, config = metadata.get("step"), metadata.get("config")
    if type(step) is not int or not isinstance(config, dict):
        raise CheckpointError(f"{place} is damaged: its {_PROGRESS} has no step or no config of the right kind")
    return step, config


def load_checkpoint(
    place: Path,
    model: Model,
    optimizer: Optimizer | None,
    indices: range,
    world: World,
    made_from: Mapping[str, str],
    state_models: Sequence[Model] = (),
) -> Progress:
    """Fills the model, and the optimizer if there is one; progress with the states carried at `indices` of a batch.

    `state_models` are the models that these are states of. `InputError` if the run was `made_from` something else,
    `CheckpointError` for a damaged checkpoint.
    """
    step, config = read_progress(place)
    evaluated, objective = _read_kept(place)
    _require_same(place, made_from)
    try:
        weights, moments = _trained(model, optimizer)
        with _quiet():
            dcp.load(  # type: ignore[attr-defined]
                {"model": weights, **({"optimizer": moments} if optimizer is not None else {})},
                storage_reader=CheckpointReader(place),
                planner=PlainPlanner(),
                no_dist=world.size == 1,
            )
        rest = StateDictOptions(strict=False)  # frozen weights are where the run found them
        if optimizer is None:
            set_model_state_dict(model, weights, options=rest)
        else:
            set_state_dict(model, optimizer, model_state_dict=weights, optim_state_dict=moments, options=rest)
    except CheckpointError:
        raise
    except (Exception, CheckpointException) as error:  # a damaged pickle may end in any exception
        raise CheckpointError(f"{place} is damaged or belongs to another model: {_short(error)}") from None
    states = {}
    for index in indices:
        files = [place / _state_name(index, number) for number in range(len(state_models))]
        if any(map(is_there, files)):
            states[index] = tuple(itertools.starmap(_read_state, zip(files, state_models, strict=True)))
    return Progress(step, states, config, dict(made_from), evaluated, objective)


def _read_kept(place: Path) -> tuple[int, dict[str, Any]]:
    """Last step whose evaluations the objective of a checkpoint has seen, and what it keeps."""
    metadata = read_object(place / _PROGRESS, CheckpointError)
    evaluated, objective = metadata.get("evaluated"), metadata.get("objective")
    if type(evaluated) is not int or not isinstance(objective, dict):
        raise CheckpointError(f"{place} is damaged: its {_PROGRESS} does not say what its objective had seen")
    return evaluated, objective


def _read_state(file: Path, model: Model) -> SequenceState:
    with torch.no_grad():
        owner = _owner(model, model.training_state(1).sequences[0])
    return state_file.read_states(file, _STATES, owner).sequences[0]


def _state_name(index: int, number: int) -> str:
    """File of a state that is carried at an index of the batch, of model `number` of those that carry states."""
    return f"state-{index}.safetensors" if number == 0 else f"state-{index}-{number}.safetensors"


def _require_same(place: Path, made_from: Mapping[str, str]) -> None:
    before = read_object(place / _PROGRESS, CheckpointError).get("made_from", {})
    if not isinstance(before, dict):
        raise CheckpointError(f"{place} is damaged: its {_PROGRESS} does not say what the run was made from")
    for name, digest in made_from.items():
        if before.get(name, digest) != digest:
            raise InputError(
                f"{name} holds something else than when the run of {place} was begun; go on with that, or choose "
                "another run.out"
            )


def _trained(model: Model, optimizer: Optimizer | None) -> tuple[dict[str, Any], dict[str, Any]]:
    """Weights that are trained, and their moments, by name."""
    moments: dict[str, Any] = {}
    if optimizer is None:
        weights = get_model_state_dict(model)
    else:
        weights, moments = get_state_dict(model, optimizer)
    # What an objective has stopped is still the optimizer's.
    asked = {id(p) for group in optimizer.param_groups for p in group["params"]} if optimizer is not None else None
    names = {name for name, p in model.named_parameters() if (p.requires_grad if asked is None else id(p) in asked)}
    return {name: weight for name, weight in weights.items() if name in names}, moments


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Context without torch's warning that there is one process."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "torch.distributed is disabled", UserWarning)
        yield


def _owner(model: Model, initial: SequenceState) -> Owner:
    # Weights change at every step, so that the directory and not a digest says whose states these are.
    precision = Precision.of(model.dtype)
    return Owner(Identity("", precision.name, precision.kv), precision, initial, model.device)


def _name(directory: Path, step: int) -> Path:
    return directory / f"step-{step:08d}"


def _publish(temporary: Path, place: Path) -> None:
    """Flushes a directory to disk and gives it its name."""
    for file in temporary.iterdir():
        flush(file)
    flush(temporary)
    if place.exists():  # of a run that went back behind it
        shutil.rmtree(place)
    temporary.rename(place)
    flush(place.parent)


def _short(error: BaseException) -> str:
    if isinstance(error, CheckpointException):
        error = next(iter(error.failures.values()))[0]
    return str(error).partition("\n")[0]
