"""A whole run from its configuration: model and data are found, it is trained, and what came of it is written down."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

from .. import adapters, families, loading
from ..api import LanguageModel
from ..checkpoint import assign
from ..describe import parameter_dtypes, skeleton
from ..errors import InputError, SpecError
from ..generate import generate
from ..model import Model
from ..ops import dispatch
from ..presets import preset
from ..sampling import Sampling
from ..saving import Origin, save
from ..spec import ModelSpec
from ..tokenizer import Tokenizer
from . import checkpoints, implicit, plan, record, report, results
from .config import Config
from .data.pack import Order, Pack
from .data.shards import Shards
from .data.stream import Stream
from .data.whole import Whole
from .initial import initialise
from .loop import Hooks, Trainer
from .world import World

# What describes a result that is a file, beside it.
_BESIDE = ("README.md", "loss.png")
# Held-out text is read in packs of about this many tokens.
_PACK = 4096


class Prepared(NamedTuple):
    """What a run works on."""

    config: Config
    language: LanguageModel
    shards: Shards
    trainer: Trainer


def prepare(config: Config, world: World, more: int = 0) -> Prepared:
    """Makes the model and opens the data, or finds how far a run has come and goes on with it, for `more` steps.

    What would stop the run later is refused here, before anything is written.
    """
    report.require()
    config = plan.settle(config, more)
    _check_place(config, world)
    language = _language(config)
    if language.tokenizer is None:
        raise InputError("the model has no tokenizer; name one in model.tokenizer, the one that made the shards")
    shards = Shards(Path(config.data.shards), language.tokenizer)
    network = language.network.to(world.device)
    held_out = list(_held_out(shards, config))
    order, form = _order(config, shards), language.origin.format
    made_from = {"data.shards": shards.manifest.digest()}
    if config.adapter is not None or config.initial_state is not None:
        made_from["model.checkpoint"] = network.base_fingerprint()
    trainer = Trainer(config, network, order, held_out, world, form, made_from)
    return Prepared(config, language, shards, trainer)


def train(prepared: Prepared, hooks: Hooks) -> int:
    """All steps that are left, with samples if the run asks for them; 0, or the signal that ended it earlier."""
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
    names = _results(config)
    whole = names == ["model"]
    weights = _whole_weights(trainer.model) if whole else {}
    if world.rank == 0:
        with results.replaced(out, names, trainer.step) as place:
            _write(prepared, weights, place)
    return [out / name for name in names if name not in _BESIDE]


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


def _results(config: Config) -> list[str]:
    """What a run leaves in its directory."""
    if config.adapter is not None:
        return ["adapter", *(["initial.safetensors"] if config.initial_state is not None else [])]
    return ["initial.safetensors", *_BESIDE] if config.initial_state is not None else ["model"]


def _write(prepared: Prepared, weights: dict[str, Any], place: Path) -> None:
    """All results; the card and the curve lie in the first one, or beside it where that is a file."""
    config, trainer = prepared.config, prepared.trainer
    lost = implicit.settle(trainer.model, weights) if config.model.filters == "implicit" else None
    if weights:
        _save_whole(prepared, weights, place / "model")
    if trainer.adapters is not None:
        adapters.save(trainer.adapters, place / "adapter")
    if config.initial_state is not None:
        adapters.save_initial(trainer.model, place / "initial.safetensors")
    first = place / _results(config)[0]
    _describe(prepared, first if first.is_dir() else place, lost)


def _describe(prepared: Prepared, place: Path, lost: float | None) -> None:
    config = prepared.config
    log = record.read(Path(config.run.out) / record.FILE)
    report.draw(log, place / "loss.png")
    names = [source.name for source in prepared.shards.manifest.sources]
    card = report.card(config, prepared.trainer.model.spec, log, names, lost)
    (place / "README.md").write_text(card, encoding="utf-8")


def _whole_weights(model: Model) -> dict[str, Any]:
    return get_model_state_dict(model, options=StateDictOptions(full_state_dict=True, cpu_offload=True))


def _save_whole(prepared: Prepared, weights: dict[str, Any], place: Path) -> None:
    language, spec = prepared.language, prepared.trainer.model.spec
    model = skeleton(spec)
    dtypes = parameter_dtypes(model, getattr(torch, prepared.config.run.dtype))
    for name, value in weights.items():
        assign(model, name, value.to(dtypes[name]))
    save(model, language.tokenizer, language.origin, place, _form(spec))


def _language(config: Config) -> LanguageModel:
    source = config.model
    if source.checkpoint is not None:
        frozen = config.adapter is not None or config.initial_state is not None
        return loading.load(source.checkpoint, dtype="auto" if frozen else "float32", quantize=source.quantize)
    spec = source.spec or preset(source.preset or "").spec
    tokenizer = None if source.tokenizer is None else Tokenizer.from_directory(loading.resolve(source.tokenizer))
    if tokenizer is not None and tokenizer.vocab_size > spec.vocab:
        raise InputError(f"the tokenizer has {tokenizer.vocab_size} ids, but the model only {spec.vocab}")
    network = skeleton(spec)
    initialise(network, source.seed)
    return LanguageModel(network, tokenizer, Origin(ends=tokenizer.eos_ids if tokenizer is not None else ()))


def _order(config: Config, shards: Shards) -> Order:
    if config.data.order == "stream":
        return Stream(shards.training, config.data.seed)
    return Whole(shards.training, config.data.seed, config.data.too_long)


def _held_out(shards: Shards, config: Config) -> Iterator[Pack]:
    """The first tokens of the held-out part; none if there is no such part."""
    if not len(shards.held_out):
        return
    tokens, pack = min(config.data.held_out, shards.held_out.tokens), _PACK
    if config.model.filters == "implicit":  # which are as long as a pack
        pack = min(pack, config.longest)
    steps = max(1, tokens // pack)
    stage = Stream(shards.held_out, 0).stage(0, 1, min(tokens, pack), steps)
    for step in range(steps):
        yield stage.pack(step, 0)


@torch.no_grad()
def _continued(model: Model, tokenizer: Tokenizer, prompt: list[int], tokens: int) -> str:
    """What the model writes after a prompt, drawn with seed 0."""
    sampling = Sampling(max_tokens=tokens, temperature=0.8, seed=0)
    with dispatch.using("auto"):
        made = generate(model, [prompt], model.passing_state(1), [sampling], ends=tokenizer.eos_ids)
        return tokenizer.decode([*prompt, *(token.id for _, token in made)])


def _form(spec: ModelSpec) -> str:
    """The published layout that can hold such a model, or ours."""
    try:
        families.for_spec(spec, None)
    except SpecError:
        return "braidlm"
    return "hf"
