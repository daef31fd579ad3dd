"""Export of a training checkpoint as the model or adapter that the run would leave; the run stays as it is."""

from dataclasses import replace
from pathlib import Path

from ..errors import InputError
from ..system.files import check_free, check_no_file, whole_directory
from . import checkpoints, outcome, plan, report, results, training_log
from .base import base_of
from .config import Config, Data
from .data.manifest import Manifest
from .equip import equip
from .outcome import Outcome
from .run import build_language, whole_weights
from .run_data import source_names
from .world import World


def export(asked: Config, target: Path, step: int | None = None) -> int:
    """Writes the last checkpoint of the run in `asked.run.out`, or that of `step`, to `target`; returns its step.

    A whole model or an adapter (with the initial state that was trained with it) becomes a directory, an initial state
    alone a file.
    """
    report.require()
    place, found, config = _stored(asked, step)
    alone = outcome.names(config) == [results.INITIAL]
    (check_no_file if alone else check_free)(target)
    made = _load(config, place, found, asked.data)
    if alone:
        target.parent.mkdir(parents=True, exist_ok=True)
        outcome.write_initial(made, target)
        return found
    with whole_directory(target) as temporary:
        if made.adapters is None:
            outcome.write_model(made, temporary)
        else:
            outcome.write_adapter(made, temporary, results.INITIAL)
        if config.initial_state is not None:
            outcome.write_initial(made, temporary / results.INITIAL)
    return found


def load_outcome(asked: Config, step: int | None = None) -> Outcome:
    """Outcome of the run in `asked.run.out` at its last checkpoint, or at that of `step`, in memory."""
    place, found, config = _stored(asked, step)
    return _load(config, place, found, asked.data)


def _stored(asked: Config, step: int | None) -> tuple[Path, int, Config]:
    """A checkpoint of a run, its step, and the configuration that it was made with."""
    place = _checkpoint(plan.directory(asked), step)
    found, before = plan.stored(place)
    plan.require_same_model(asked, before, place)
    model = replace(before.model, checkpoint=asked.model.checkpoint, tokenizer=asked.model.tokenizer)
    return place, found, replace(before, model=model, run=replace(before.run, out=asked.run.out))


def _checkpoint(directory: Path, step: int | None) -> Path:
    every = {int(place.name.removeprefix("step-")): place for place in checkpoints.every(directory)}
    if not every:
        raise InputError(f"{directory} holds no checkpoint; a run stores one when it is stopped, and at its end")
    if step is None:
        return every[max(every)]
    if step not in every:
        raise InputError(f"{directory} has no checkpoint of step {step}; it has those of {_and(sorted(every))}")
    return every[step]


def _and(steps: list[int]) -> str:
    return ", ".join(map(str, steps[-8:]))


def _load(config: Config, place: Path, step: int, data: Data) -> Outcome:
    """Outcome of the run at a checkpoint."""
    language = build_language(config)
    network, made_from = language.network, dict[str, str]()
    base = base_of(config.model, network)
    if base is not None and not outcome.trains_all(config):
        made_from["model.checkpoint"] = base.fingerprint
    adapters = equip(network, config, World(), language.origin.format)
    checkpoints.load_checkpoint(place, network, None, range(0), World(), made_from)
    log = [line for line in training_log.read_log(Path(config.run.out) / training_log.FILE) if line["step"] <= step]
    weights = whole_weights(network) if outcome.is_whole(config) else {}
    return Outcome(config, language, base, network, adapters, weights, log, _sources(data))


def _sources(data: Data) -> list[str]:
    """Sources of the shards, and recall tasks; none where shards are gone, which a model does not need."""
    try:
        manifests = [Manifest.read(Path(component.shards)) for component in data.components if component.shards]
    except InputError:
        return []
    return source_names(data, manifests)
