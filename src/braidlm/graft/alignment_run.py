"""Run of the alignment: the library's trainer over a bank of new mixers, which goes on where it was killed."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch

from ..errors import CheckpointError
from ..layers.layer import Mixer as MixerLayer
from ..model.assign import assign
from ..spec.json import encode
from ..system.files import whole_file
from ..train.config import Config, Run, Source
from ..train.loop import Trainer
from .align import Alignment, aligned_blocks, slow_groups, with_slow
from .compose import bank_of
from .finished import begin, finish, finished
from .prepared import Prepared
from .watch import Watch

MIXERS = "mixers.safetensors"


def align(prepared: Prepared, mixers: Mapping[int, MixerLayer], watch: Watch) -> int:
    """Aligns `mixers` in place, or reads what an earlier run has made of them; 0, or the signal that ended it."""
    recipe, blocks = prepared.recipe, aligned_blocks(prepared.found)
    place = Path(recipe.run.out) / "align"
    if not blocks:
        watch.said("no block has a mixer with parameters of its own: nothing to align")
        return 0
    asked = settings(prepared)
    result = finished(place, asked)
    if result is None:
        begin(place, asked)
        trainer = trainer_of(prepared, {index: mixers[index] for index in blocks}, place)
        with watch.training("align", trainer) as hooks:
            signal = trainer.run(hooks)
        if signal:
            return signal
        with whole_file(place / MIXERS) as temporary:
            safetensors.torch.save_file(_weights(mixers, blocks), temporary)
        objective = trainer.objective
        assert isinstance(objective, Alignment)
        result = {"steps": trainer.step, "errors": objective.best()}
        finish(place, asked, result)
    else:
        _read(place / MIXERS, mixers)
    watch.said(_sentence(result["errors"]))
    return 0


def _sentence(errors: Mapping[str, float]) -> str:
    worst = max(errors, key=errors.__getitem__)
    mean = sum(errors.values()) / len(errors)
    return f"aligned: relative errors {mean:.3f} in the mean, {errors[worst]:.3f} at worst (block {worst})"


def trainer_of(prepared: Prepared, mixers: Mapping[int, MixerLayer], place: Path) -> Trainer:
    """Trainer of the new mixers of some blocks, in the directory `place`."""
    recipe, donor = prepared.recipe, prepared.language.network
    bank, kinds = bank_of(mixers, donor.spec), [prepared.found.options[index].kind for index in mixers]
    config = config_of(prepared, place)
    checkpointing = recipe.run.activation_checkpointing

    def objective(model: Any) -> Alignment:
        return Alignment(model, donor, list(mixers), kinds, recipe.align, activation_checkpointing=checkpointing)

    return Trainer(
        config, bank, prepared.data.packing, prepared.data.eval_packs,
        made_from=prepared.made_from, objective=objective,
    )  # fmt: skip


def config_of(prepared: Prepared, place: Path) -> Config:
    """Configuration of the trainer."""
    recipe, slow = prepared.recipe, slow_groups(prepared.found, aligned_blocks(prepared.found))
    run = Run(
        out=str(place), dtype=recipe.run.dtype, seed=recipe.run.seed, tensorboard=False,
        evaluate=recipe.align.evaluate, checkpoint=recipe.align.checkpoint,
    )  # fmt: skip
    return Config(
        model=Source(checkpoint=recipe.donor), data=recipe.data, stages=recipe.align.stages,
        optimizer=with_slow(recipe.align.optimizer, slow), schedule=recipe.align.schedule, run=run,
    )  # fmt: skip


def settings(prepared: Prepared) -> dict[str, Any]:
    """Settings that the outcome of the alignment depends on, as plain data."""
    recipe = prepared.recipe
    named = {"align": recipe.align, "data": recipe.data}
    mixers = {str(index): encode(mixer) for index, mixer in prepared.found.mixers.items()}
    own = {"made_from": prepared.made_from, "seed": recipe.run.seed, "dtype": recipe.run.dtype, "mixers": mixers}
    found: dict[str, Any] = own | {name: encode(value) for name, value in named.items()}
    if recipe.transplants:
        found["transplants"] = encode(recipe.transplants)
    for part in (found["data"], *found["data"].get("mixture", ())):
        part.pop("shards", None)  # known by their digests, so that they may be moved
    return found


def _weights(mixers: Mapping[int, MixerLayer], blocks: list[int]) -> dict[str, Any]:
    return {
        f"{index}.{name}": weight.detach().contiguous()
        for index in blocks
        for name, weight in mixers[index].named_parameters()
    }


def _read(place: Path, mixers: Mapping[int, MixerLayer]) -> None:
    try:
        weights = safetensors.torch.load_file(place)
        for name, weight in weights.items():
            index, _, parameter = name.partition(".")
            assign(mixers[int(index)], parameter, weight)
    except (OSError, safetensors.SafetensorError, KeyError, ValueError) as error:
        raise CheckpointError(f"{place} is damaged: {error}; remove {place.parent} to align again") from None
