"""Run of a graft: its stages one after the other, each of which goes on where it was killed.

align/      new mixers that have learned the donor's outputs (stages 0 and 1)
probe/      what each block loses (stage 2)
hybrid/     the model put together of both
distil/, lengthen/, tune/   training runs of the whole model (stages 3 to 5)
control/    the donor itself trained on the same data, if asked for
model/      the result, with its card; beside it report.html and report.json
"""

import json
import shutil
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch

from ..api import loading
from ..api.language_model import LanguageModel
from ..checkpoints.saving import best_format, save
from ..errors import InputError
from ..eval.item_maker import ItemMaker
from ..eval.tasks import items
from ..layers.layer import Mixer as MixerLayer
from ..ops import Segments
from ..spec.json import encode
from ..system.files import whole_file
from ..train import run as training
from ..train.config import Run
from ..train.results import alone
from ..train.world import World
from . import alignment_run
from .align import new_names, slow_groups
from .chats import SHARDS, digest_of, make_chats
from .compose import compose, first_prefix, new_mixers, whole
from .finished import begin, digest, finish, finished, is_finished
from .layout import hybrid_spec
from .phases import New, Phase, config_of
from .prepared import Prepared, prepare
from .probe import Prober, probe, scores
from .recipe import Recipe
from .report.make import make_report
from .samples import take_samples
from .watch import Watch

Until = Literal["probe", "model"]

MODEL = "model"
# Tokens of held-out text on which new mixers take their measure.
_SAMPLE = 1024


class Made(NamedTuple):
    """Model that a stage has made: its directory or name, and the settings that it came from, as plain data."""

    model: str
    settings: dict[str, Any]


def graft(recipe: Recipe, watch: Watch, until: Until = "model") -> int:
    """Runs the stages that are left, up to `until`; 0, or the number of the signal that ended it earlier.

    `InputError` for a recipe that makes no sense, before anything is written, or one that differs from what a
    finished stage ran with.
    """
    prepared = prepare(recipe)
    out = Path(recipe.run.out)
    _require_own(out)
    with alone(out):
        mixers = _initialise(prepared)
        signal = alignment_run.align(prepared, mixers, watch)
        if signal:
            return signal
        chosen = _choose(prepared, mixers, watch, always=until == "probe")
        if until == "probe":
            return 0
        made = _put_together(prepared, mixers, chosen, watch)
        mixers.clear()  # they have taken their places, and are not needed in memory beside a model that is trained
        chats, new = _chats(prepared, watch), _new(prepared, chosen)
        for name, phase in recipe.phases.items():
            signal, made = _train(prepared, name, phase, made, chats, new, watch)
            if signal:
                return signal
        signal, trained = 0, None
        if recipe.control is not None:
            main = Made(recipe.donor, prepared.made_from)
            signal, trained = _train(prepared, "control", recipe.control, main, chats, New(), watch)
        if not signal:
            _write_model(prepared, made, watch)
            _report(prepared, chosen, trained, watch)
    return signal


def _require_own(out: Path) -> None:
    """Refuses a directory that holds a model which no graft has written."""
    if (out / MODEL).exists() and not (out / "align").exists() and not (out / "hybrid").exists():
        raise InputError(f"{out} holds a model, but no graft that it came from; choose another run.out")


def _initialise(prepared: Prepared) -> dict[int, MixerLayer]:
    """New mixers of all candidate blocks with their initial values."""
    ids_T = prepared.held_out_T[:_SAMPLE]
    donor, found = prepared.language.network, prepared.found
    samples = take_samples(donor, ids_T, Segments((len(ids_T),)), found.with_attention)
    return new_mixers(donor, found, samples, prepared.recipe.run.seed)


def _choose(prepared: Prepared, mixers: Mapping[int, MixerLayer], watch: Watch, *, always: bool) -> list[int]:
    """Blocks that are replaced, by the probe where the layout leaves it to that."""
    recipe, found, out = prepared.recipe, prepared.found, Path(prepared.recipe.run.out)
    if not (found.needs_probe or always):
        return found.chosen(None)
    # What is chosen may change without a new measurement.
    asked = {name: value for name, value in encode(recipe.probe).items() if name not in ("recall_weight", "kept")}
    place, settings = out / "probe", {"align": alignment_run.settings(prepared), "probe": asked}
    losses = probe(
        _prober(prepared), prepared.language.network, mixers, found, place, settings, watch.probed,
        kept=recipe.probe.kept,
    )  # fmt: skip
    worth = scores(losses, list(mixers), recipe.probe.recall_weight)
    result = {
        "losses": {name: loss._asdict() for name, loss in losses.items()},
        "worth": {str(index): value for index, value in worth.items()},
        "replaced": found.chosen(worth),
    }
    finish(place, settings, result)
    chosen = found.chosen(worth)
    watch.said(f"replaced: blocks {', '.join(map(str, chosen))}")
    return chosen


def _prober(prepared: Prepared) -> Prober:
    settings, language = prepared.recipe.probe, prepared.language
    ids_T = prepared.held_out_T[: settings.tokens]
    texts = [text for text in ids_T.split(settings.seq_len) if len(text) > 1]
    maker = ItemMaker(language.tokenizer, language.spec.vocab)
    asked = list(items("phonebook", maker, settings.haystack_tokens, settings.haystacks)) if settings.haystacks else []
    return Prober(language.network, texts, asked)


def _put_together(prepared: Prepared, mixers: Mapping[int, MixerLayer], chosen: list[int], watch: Watch) -> Made:
    """Writes the hybrid model of the donor and the chosen mixers."""
    recipe, donor = prepared.recipe, prepared.language
    place, meta = Path(recipe.run.out) / "hybrid", recipe.layout.meta_tokens
    made = Made(
        str(place / MODEL), {"align": alignment_run.settings(prepared), "replaced": chosen, "meta_tokens": meta}
    )
    if finished(place, made.settings) is None:
        spec = hybrid_spec(donor.spec, prepared.found.mixers, chosen, meta)
        prefix = first_prefix(donor.network, meta, recipe.run.seed) if meta else None
        model = compose(donor.network, {index: mixers[index] for index in chosen}, spec, prefix)
        _replace(donor, whole(model, torch.float32), place / MODEL)
        finish(place, made.settings, {"parameters": sum(weight.numel() for weight in model.parameters())})
        watch.said(f"{place / MODEL}: {len(chosen)} of {len(spec.blocks)} blocks replaced")
    return made


def _new(prepared: Prepared, chosen: Sequence[int]) -> New:
    """Parameters that the donor has not."""
    prefix = ["prefix"] if prepared.recipe.layout.meta_tokens else []
    return New((*new_names(prepared.found, chosen), *prefix), slow_groups(prepared.found, chosen))


def _chats(prepared: Prepared, watch: Watch) -> Path | None:
    """Shards of chats answered by the donor, if a phase learns from some."""
    recipe = prepared.recipe
    if recipe.chats is None or not any(phase.chats for phase in recipe.trained.values()):
        return None
    place, settings = Path(recipe.run.out) / "chats", _chats_settings(prepared)
    if finished(place, settings) is None:
        begin(place, settings)
        made = make_chats(prepared.main, recipe.chats, recipe.run.seed, place, watch)
        finish(place, settings, {"shards": made.name})
    return place / SHARDS


def _chats_settings(prepared: Prepared) -> dict[str, Any]:
    """Settings that chats depend on; prompts are known by what they are, so that their file may be moved."""
    recipe = prepared.recipe
    assert recipe.chats is not None
    asked = encode(recipe.chats) | {"prompts": digest_of(recipe.chats)}
    return {"chats": asked, "donor": prepared.donor_digest, "seed": recipe.run.seed}


def _train(
    prepared: Prepared, name: str, phase: Phase, before: Made, chats: Path | None, new: New, watch: Watch
) -> tuple[int, Made]:
    """Trains what was made before through one phase; the signal that ended it or 0, and what came out."""
    recipe, out = prepared.recipe, Path(prepared.recipe.run.out) / name
    shared = Run(
        out=str(out), dtype=recipe.run.dtype, seed=recipe.run.seed, tensorboard=False,
        activation_checkpointing=recipe.run.activation_checkpointing,
    )  # fmt: skip
    config = config_of(
        phase, model=before.model, donor=recipe.donor, data=recipe.data, chats=chats, new=new, run=shared
    )
    settings = {
        "phase": encode(phase),
        "before": digest(before.settings),
        "seed": recipe.run.seed,
        "new": list(new.names),
    }
    made = Made(str(out / ("merged" if phase.adapter else MODEL)), settings)
    if finished(out, settings) is not None:
        return 0, made
    begin(out, settings)
    world = World()
    run = training.prepare(config, world)
    with alone(out), watch.training(name, run.trainer) as hooks:
        signal = training.train(run, hooks)
    if signal:
        return signal, made
    written = training.finish(run, world)
    if phase.adapter:
        merged = loading.load(before.model, dtype="float32")
        merged.merge_adapter(written[0])
        _replace(merged, merged.network, Path(made.model))
    finish(out, settings, {"steps": run.trainer.step})
    return 0, made


def _write_model(prepared: Prepared, made: Made, watch: Watch) -> None:
    """Writes the result, in the dtype of the run, unless it is there."""
    recipe, out = prepared.recipe, Path(prepared.recipe.run.out)
    settings = {"made": digest(made.settings), "dtype": recipe.run.dtype}
    if not is_finished(out, settings):
        language = loading.load(made.model, dtype=recipe.run.dtype)
        _replace(language, language.network, out / MODEL)
        with whole_file(out / "recipe.json") as temporary:
            temporary.write_text(json.dumps(recipe.to_json(), indent=1))
        finish(out, settings, {"model": MODEL})
    watch.said(str(out / MODEL))


def _report(prepared: Prepared, chosen: list[int], donor_trained: Made | None, watch: Watch) -> None:
    """Measures the result beside the donor and the controls, and writes report and card."""
    recipe, place = prepared.recipe, Path(prepared.recipe.run.out) / MODEL
    load = partial(loading.load, dtype=recipe.run.dtype)
    trained = None if donor_trained is None else load(donor_trained.model)
    for figure in make_report(prepared, chosen, load(str(place)), trained, recipe.report, place, watch.said):
        watch.said(f"{figure.name}: {figure.text}")


def _replace(language: LanguageModel, network: Any, place: Path) -> None:
    """Writes a model to a directory of the graft's own, in the place of one that an earlier run has left there."""
    shutil.rmtree(place, ignore_errors=True)
    origin = language.origin.without_measurements()
    save(network, language.tokenizer, origin, place, best_format(network.spec))
