"""Configuration of a training run: one TOML file, every field of it known and checked before anything is loaded."""

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ..adapters import Lora, StateTuning
from ..errors import InputError, SpecError
from ..spec import ModelSpec
from ..spec.json import decode, encode


def _require(ok: bool, name: str, value: Any, right: str) -> None:
    if not ok:
        raise InputError(f"{name} is {value!r}, but must be {right}")


def _at_least(holder: Any, least: int, *names: str) -> None:
    table = type(holder).__name__.lower()
    for name in names:
        value = getattr(holder, name)
        _require(value >= least, f"{table}.{name}", value, f"{least} or more")


@dataclass(frozen=True, kw_only=True)
class Source:
    """Source of the model: a spec or a preset's shape with random weights, or a checkpoint.

    tokenizer: a directory or model whose tokenizer goes with new weights; a checkpoint brings its own. quantize: a
    checkpoint's weights in few bits ("int8", "int4", "fp8"), for adapters and initial states, which leave them alone.
    filters: of Hyena blocks, "implicit" trains a network of the position, to which modes are fitted at the end.
    """

    spec: ModelSpec | None = None
    preset: str | None = None
    checkpoint: str | None = None
    tokenizer: str | None = None
    quantize: str | None = None
    filters: Literal["modal", "implicit"] = "modal"
    seed: int = 0

    def __post_init__(self) -> None:
        given = [name for name in ("spec", "preset", "checkpoint") if getattr(self, name) is not None]
        _require(len(given) == 1, "model", given or "nothing", "one of spec, preset or checkpoint")
        new = self.checkpoint is None or self.filters == "modal"
        _require(new, "model.filters", self.filters, '"modal" for a checkpoint, which has its modes')


@dataclass(frozen=True, kw_only=True)
class Data:
    """Training and evaluation data: a directory of shards that `braid data` made.

    packing: how documents are packed into sequences of `seq_len` tokens: "stream" cuts a document where a sequence is
    full, "whole" never cuts one. on_too_long: what happens, with "whole", to documents longer than `seq_len`. seed: of
    the documents' shuffle. eval_tokens: tokens of the held-out documents, and of each of the eval files, that one
    evaluation reads. eval_files: sources of the shards that are not trained on, but evaluated each by itself: their
    names, or the ends of these.
    """

    shards: str
    packing: Literal["stream", "whole"] = "stream"
    seed: int = 0
    on_too_long: Literal["error", "skip", "truncate"] = "error"
    eval_tokens: int = 65_536
    eval_files: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _at_least(self, 1, "eval_tokens")
        once = len(set(self.eval_files)) == len(self.eval_files)
        _require(once, "data.eval_files", list(self.eval_files), "names that are given once each")


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A part of the run: `steps` optimizer steps, each over `batch_size` sequences of `seq_len` tokens."""

    steps: int
    batch_size: int
    seq_len: int

    def __post_init__(self) -> None:
        _at_least(self, 1, "steps", "batch_size", "seq_len")


@dataclass(frozen=True, kw_only=True)
class Optimizer:
    """AdamW (Loshchilov and Hutter 2019); gradients are clipped to the norm `max_grad_norm` (0: never)."""

    lr: float
    betas: tuple[float, ...] = (0.9, 0.95)
    eps: float = 1e-8
    weight_decay: float = 0.1
    max_grad_norm: float = 1.0

    def __post_init__(self) -> None:
        _require(self.lr > 0, "optimizer.lr", self.lr, "above 0")
        fits = len(self.betas) == 2 and all(0 <= beta < 1 for beta in self.betas)
        _require(fits, "optimizer.betas", list(self.betas), "two numbers from 0 to below 1")
        for name in ("eps", "weight_decay", "max_grad_norm"):
            _require(getattr(self, name) >= 0, f"optimizer.{name}", getattr(self, name), "0 or more")


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """Learning rate schedule: up over `warmup` steps, then down to the share `final` of the peak.

    kind: "cosine" falls from the peak to the end; "wsd" (warm-up, stable, decay: Hu et al. 2024) stays until the last
    `decay` of the steps and then falls in a straight line. warmup: steps, or a share of `steps` below 1. steps: length
    of the schedule, after which the rate stays `final`; by default the steps of all stages when a run begins.
    """

    kind: Literal["cosine", "wsd"] = "cosine"
    warmup: float = 100
    final: float = 0.1
    decay: float = 0.2
    steps: int | None = None

    def __post_init__(self) -> None:
        _at_least(self, 0, "warmup")
        whole = self.warmup < 1 or self.warmup == int(self.warmup)
        _require(whole, "schedule.warmup", self.warmup, "a whole number of steps, or a share below 1")
        if self.steps is not None:
            _at_least(self, 1, "steps")
        for name in ("final", "decay"):
            _require(0 <= getattr(self, name) <= 1, f"schedule.{name}", getattr(self, name), "from 0 to 1")


@dataclass(frozen=True, kw_only=True)
class Loss:
    """Terms added to the cross-entropy, and how it is computed.

    z_loss: weight of the squared logarithm of the softmax's sum (Chowdhery et al. 2022, section 5). router_aux_loss:
    weight of the load-balancing loss of routers (Fedus et al. 2021, eq. 4). chunk: tokens whose logits exist at a time.
    """

    z_loss: float = 0.0
    router_aux_loss: float = 0.01
    chunk: int = 1024

    def __post_init__(self) -> None:
        _at_least(self, 1, "chunk")
        for name in ("z_loss", "router_aux_loss"):
            _require(getattr(self, name) >= 0, f"loss.{name}", getattr(self, name), "0 or more")


@dataclass(frozen=True, kw_only=True)
class Run:
    """Execution of a run, and its directory `out`.

    dtype: of the activations; weights, gradients and moments are float32. activation_checkpointing: a block's
    activations are computed again for its gradient instead of kept. parallelism: "fsdp" shards weights over processes,
    "ddp" keeps a copy on each (see `world`). context_parallel: number of processes that share the tokens of a sequence
    (see `context_parallel`). carry_state: the next piece of a document begins with the state of the one before.
    checkpoint, evaluate, sample: interval in steps, 0 for never. keep: number of checkpoints kept. prompt,
    sample_tokens: what a sample continues, and its length in tokens. skips: most steps in a row that are left out
    because their loss or gradient is not finite.
    """

    out: str
    dtype: Literal["bfloat16", "float32"] = "bfloat16"
    seed: int = 0
    activation_checkpointing: bool = False
    parallelism: Literal["fsdp", "ddp"] = "fsdp"
    context_parallel: int = 1
    carry_state: bool = False
    checkpoint: int = 100
    keep: int = 2
    evaluate: int = 100
    sample: int = 0
    prompt: str = "\n"
    sample_tokens: int = 64
    skips: int = 0
    tensorboard: bool = True

    def __post_init__(self) -> None:
        _at_least(self, 0, "checkpoint", "evaluate", "sample", "skips")
        _at_least(self, 1, "keep", "sample_tokens", "context_parallel")
        alone = self.context_parallel == 1 or not self.carry_state
        _require(alone, "run.carry_state", self.carry_state, "false where run.context_parallel is above 1")


@dataclass(frozen=True, kw_only=True)
class Config:
    """Configuration of a whole run. With `adapter` or `initial_state` these alone are trained; the weights stay."""

    model: Source
    data: Data
    stages: tuple[Stage, ...]
    optimizer: Optimizer
    run: Run
    schedule: Schedule = Schedule()
    loss: Loss = Loss()
    adapter: Lora | None = None
    initial_state: StateTuning | None = None

    def __post_init__(self) -> None:
        _require(bool(self.stages), "stages", [], "at least one stage")
        beside = self.adapter is not None or self.initial_state is not None
        _require(
            beside or self.model.quantize is None, "model.quantize", self.model.quantize, "left out of full training"
        )
        if self.model.filters == "implicit":  # they leave no state
            for name, value in (("carry_state", False), ("context_parallel", 1), ("sample", 0)):
                found = getattr(self.run, name)
                _require(found == value, f"run.{name}", found, f'{value} where model.filters is "implicit"')

    @property
    def steps(self) -> int:
        """Steps of all stages."""
        return sum(stage.steps for stage in self.stages)

    @property
    def max_seq_len(self) -> int:
        """Sequence length of the stage with the longest sequences, in tokens."""
        return max(stage.seq_len for stage in self.stages)

    def to_json(self) -> dict[str, Any]:
        """Configuration as plain data, for logs and checkpoints."""
        return encode(self)


def read_config(path: Path, changes: Sequence[str] = ()) -> Config:
    """Configuration in a file with `changes` ("optimizer.lr=1e-3") made; paths in it are relative to the file.

    `InputError` names the first field that is unknown, missing or wrong.
    """
    try:
        return _read(path, changes)
    except RecursionError:
        raise InputError(f"{path}, or a change to it, is nested too deep") from None


def encode_config(config: Config) -> dict[str, Any]:
    """Configuration as plain data with absolute paths, which mean the same from any directory."""
    data = config.to_json()
    _resolve(data, Path.cwd())
    return data


def _read(path: Path, changes: Sequence[str]) -> Config:
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read {path}: {error}") from None
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{path} is no TOML: {error}") from None
    return decode_config(data, changes, path.parent, path.name)


def decode_config(data: dict[str, Any], changes: Sequence[str], here: Path, name: str) -> Config:
    """Configuration from plain data that `name` held, with `changes` made; paths in it are relative to `here`."""
    for change in changes:
        _set(data, change)
    _resolve(data, here)
    try:
        config: Config = decode(Config, data, name)
    except SpecError as error:
        raise InputError(str(error)) from None
    return config


def _set(data: dict[str, Any], change: str) -> None:
    name, equals, text = change.partition("=")
    *way, last = name.strip().split(".")
    if not (equals and last):
        raise InputError(f"--set {change!r} is not of the form key=value, such as optimizer.lr=1e-3")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text  # a word without quotation marks
    place: Any = data
    for part in way:
        place = place.setdefault(part, {}) if isinstance(place, dict) else _item(place, part, name)
    if isinstance(place, list):
        raise InputError(f"--set {name!r} names a list; name one of its fields, such as stages.0.steps")
    place[last] = value


def _item(place: Any, part: str, name: str) -> Any:
    if isinstance(place, list) and part.isdigit() and int(part) < len(place):
        return place[int(part)]
    raise InputError(f"--set {name!r} names no field: there is no {part!r} in it")


def _resolve(data: dict[str, Any], here: Path) -> None:
    """Makes paths absolute; a value that is no path here may be a preset's name or a hub id."""
    for table, key, must in (
        ("run", "out", True), ("data", "shards", True), ("model", "checkpoint", False), ("model", "tokenizer", False),
    ):  # fmt: skip
        value = data.get(table, {}).get(key) if isinstance(data.get(table), dict) else None
        if isinstance(value, str) and (must or (here / value).exists()):
            data[table][key] = str(here / value)
