"""Whole run from its configuration: the model and data are loaded, the model is trained, results are written."""

import functools
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

from ..api import loading, places
from ..api.language_model import LanguageModel
from ..checkpoints.saving import Origin
from ..engine.generate import generate
from ..errors import InputError
from ..families.presets import preset
from ..generation.sampling import Sampling
from ..model.footprint import skeleton
from ..model.model import Model
from ..text.tokenizer import Tokenizer
from . import checkpoints, outcome, plan, report, results, training_log
from .base import Base, base_of
from .config import Config
from .distillation import DistillationObjective, load_teacher
from .initial import initialise
from .loop import Hooks, Trainer
from .outcome import Outcome
from .passes import passes_of
from .run_data import EVAL_PACK, open_data
from .world import World


class Prepared(NamedTuple):
    """Run that is ready to train: configuration, model, names of the data's sources, and trainer."""

    config: Config
    language: LanguageModel
    base: Base | None
    sources: list[str]
    trainer: Trainer


def prepare(config: Config, world: World, extra_steps: int = 0) -> Prepared:
    """Makes the model and opens the data, or finds how far a run has come and goes on with it, for `extra_steps`.

    What would stop the run later is refused here, before anything is written.
    """
    report.require()
    training_log.require_tensorboard(tensorboard=config.run.tensorboard)
    config = plan.resolve_plan(config, extra_steps)
    _check_place(config, world)
    language = build_language(config)
    longest = config.max_seq_len if config.model.filters == "implicit" else EVAL_PACK  # filters are as long as a pack
    data = open_data(config.data, language.tokenizer, language.spec.vocab, min(EVAL_PACK, longest))
    network = language.network.to(world.device)
    base = base_of(config.model, network)
    format, made_from = language.origin.format, dict(data.made_from)
    if base is not None and not outcome.trains_all(config):
        made_from["model.checkpoint"] = base.fingerprint
    objective = None
    if config.teacher is not None:
        teacher = load_teacher(config.teacher, language).to(world.device)
        made_from["teacher.checkpoint"] = teacher.weights.base_fingerprint()
        passes = passes_of(config.run, world)
        objective = functools.partial(
            DistillationObjective, teacher=teacher, asked=config.teacher, loss=config.loss, passes=passes
        )
    trainer = Trainer(
        config, network, data.packing, data.eval_packs, world, format, made_from, data.eval_files, objective
    )
    return Prepared(config, language, base, data.sources, trainer)


def train(prepared: Prepared, hooks: Hooks) -> int:
    """Makes all steps that are left, with samples if the run asks for them; 0, or the signal that ended it earlier."""
    tokenizer, run = prepared.language.tokenizer, prepared.config.run
    sample = None
    if tokenizer is not None and run.sample:
        prompt = tokenizer.encode(run.prompt)

        def sample(model: Model) -> str:
            return _continued(model, tokenizer, prompt, run.sample_tokens)

    return prepared.trainer.run(hooks._replace(sample=sample))


def finish(prepared: Prepared, world: World) -> list[Path]:
    """Writes what was trained, a card and the curve of losses; every process calls it, the first one writes.

    A whole model becomes `out/model`, in the published layout of its family where there is one; of a frozen one what is
    beside it is written, `out/adapter` in peft's layout and `out/initial.safetensors`.
    """
    config, trainer, out = prepared.config, prepared.trainer, Path(prepared.config.run.out)
    weights = whole_weights(trainer.model) if outcome.is_whole(config) else {}
    if world.rank == 0:
        log = training_log.read_log(out / training_log.FILE)
        language, base = prepared.language, prepared.base
        made = Outcome(config, language, base, trainer.model, trainer.adapters, weights, log, prepared.sources)
        with results.replaced(out, _results(config), trainer.step) as place:
            _write(made, place)
    return [out / name for name in outcome.names(config)]


def _write(made: Outcome, place: Path) -> None:
    written = outcome.names(made.config)
    if results.MODEL in written:
        outcome.write_model(made, place / results.MODEL)
    if results.ADAPTER in written:
        outcome.write_adapter(made, place / results.ADAPTER, f"../{results.INITIAL}")
    if results.INITIAL in written:
        outcome.write_initial(made, place / results.INITIAL)
    if written == [results.INITIAL]:
        outcome.describe(made, place, ["--state", results.INITIAL])


def _results(config: Config) -> list[str]:
    """Names of all results of a run: the card of a file lies beside it."""
    written = outcome.names(config)
    return [*written, report.CARD, report.CURVE] if written == [results.INITIAL] else written


def _check_place(config: Config, world: World) -> None:
    """Refuses a directory in which the results would take the place of something else."""
    out, names = Path(config.run.out), _results(config)
    if world.rank == 0:
        results.recover(out, names)
    world.wait()
    results.check(out, names)
    if results.written_at(out) is not None and checkpoints.latest(plan.directory(config)) is None:
        raise InputError(
            f"{out} has the results of an earlier run but none of its checkpoints to go on from, so that a new run "
            "would replace them; move them away, or choose another run.out"
        )
    world.wait()


def whole_weights(model: Model) -> dict[str, Any]:
    """Every weight by name, gathered on the CPU; every process calls it."""
    return get_model_state_dict(model, options=StateDictOptions(full_state_dict=True, cpu_offload=True))


def build_language(config: Config) -> LanguageModel:
    """Model that a run begins with."""
    source = config.model
    if source.checkpoint is not None:
        frozen = config.adapter is not None or config.initial_state is not None
        return loading.load(source.checkpoint, dtype="auto" if frozen else "float32", quantize=source.quantize)
    spec = source.spec or preset(source.preset or "").spec
    tokenizer = None if source.tokenizer is None else Tokenizer.from_directory(places.resolve(source.tokenizer))
    if tokenizer is not None and tokenizer.vocab_size > spec.vocab:
        raise InputError(f"the tokenizer has {tokenizer.vocab_size} ids, but the model only {spec.vocab}")
    network = skeleton(spec)
    initialise(network, source.seed)
    return LanguageModel(network, tokenizer, Origin(ends=tokenizer.eos_ids if tokenizer is not None else ()))


@torch.no_grad()
def _continued(model: Model, tokenizer: Tokenizer, prompt: list[int], tokens: int) -> str:
    """Prompt and the text that the model generates after it, sampled with seed 0."""
    sampling = Sampling(max_tokens=tokens, temperature=0.8, seed=0)
    made = generate(model, [prompt], model.training_state(1), [sampling], ends=tokenizer.eos_ids)
    return tokenizer.decode([*prompt, *(token.id for _, token in made)])
