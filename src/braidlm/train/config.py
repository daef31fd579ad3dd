"""Configuration of a training run: one TOML file, every field of it known and checked before anything is loaded."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from ..adapters import Lora, StateTuning
from ..errors import InputError, SpecError
from ..spec import ModelSpec
from ..spec.json import decode, encode
from ..system.setting_files import read_toml, set_value
from ..system.settings import Setting, check_settings, require_value
from .data.recall import RecallTask

# Least share of a mixture's sequences: far below one sequence of any run, far above what a float64 near 1 loses.
_LEAST_SHARE = 1e-12


def _are_betas(betas: tuple[float, ...]) -> bool:
    return len(betas) == 2 and all(0 <= beta < 1 for beta in betas)


def _given(settings: Any, *names: str) -> list[str]:
    """Those of some settings that have a value."""
    return [name for name in names if getattr(settings, name)]


def _are_once(names: tuple[str, ...]) -> bool:
    return len(set(names)) == len(names)


@dataclass(frozen=True, kw_only=True)
class Source:
    """Source of the model: a spec or a preset's shape with random weights, or a checkpoint."""

    spec: ModelSpec | None = None
    preset: Annotated[str | None, Setting("Name of a published shape, which gets random weights.")] = None
    checkpoint: Annotated[str | None, Setting("Model to train further: a path or a name.")] = None
    tokenizer: Annotated[
        str | None,
        Setting("Directory or model whose tokenizer goes with new weights; a checkpoint brings its own."),
    ] = None
    quantize: Annotated[
        str | None,
        Setting("Dtype of a checkpoint's frozen weights, for adapters and initial states: int8, int4 or fp8."),
    ] = None
    filters: Annotated[
        Literal["modal", "implicit"],
        Setting("Filters of Hyena blocks: implicit trains a network of the position, to which modes are fitted."),
    ] = "modal"
    filter_frequency: Annotated[
        float, Setting("Frequency of the sines of implicit filters when training begins: higher, rougher.", above=0)
    ] = 1.0
    seed: Annotated[int, Setting("Seed of new weights.")] = 0

    def __post_init__(self) -> None:
        check_settings(self, "model")
        given = _given(self, "spec", "preset", "checkpoint")
        require_value(len(given) == 1, "model", given or "nothing", "one of spec, preset or checkpoint")
        new = self.checkpoint is None or self.filters == "modal"
        require_value(new, "model.filters", self.filters, '"modal" for a checkpoint, which has its modes')


@dataclass(frozen=True, kw_only=True)
class Component:
    """Component of a mixture of data: shards or a recall task, and the share of packed sequences that come from it."""

    shards: Annotated[str | None, Setting("Directory of the shards.")] = None
    task: RecallTask | None = None
    share: Annotated[float, Setting("Share of the packed sequences, relative to the other components'.", above=0)]
    packing: Annotated[
        Literal["stream", "whole"],
        Setting("Packing of documents: stream cuts one where a sequence is full, whole never."),
    ] = "stream"
    on_too_long: Annotated[
        Literal["error", "skip", "truncate"],
        Setting("Treatment of documents longer than a sequence, where they are packed whole."),
    ] = "error"

    def __post_init__(self) -> None:
        check_settings(self, "mixture")
        given = _given(self, "shards", "task")
        require_value(len(given) == 1, "data.mixture", given or "nothing", "one of shards or task in each")


@dataclass(frozen=True, kw_only=True)
class Data:
    """Training and evaluation data: a directory of shards that `braid data` made, a recall task, or a mixture."""

    shards: Annotated[str | None, Setting("Directory of the shards.")] = None
    task: RecallTask | None = None
    mixture: tuple[Component, ...] = ()
    packing: Annotated[
        Literal["stream", "whole"],
        Setting("Packing of documents: stream cuts one where a sequence is full, whole never."),
    ] = "stream"
    seed: Annotated[int, Setting("Seed of the documents' shuffle.")] = 0
    on_too_long: Annotated[
        Literal["error", "skip", "truncate"],
        Setting("Treatment of documents longer than a sequence, where they are packed whole."),
    ] = "error"
    eval_tokens: Annotated[
        int, Setting("Number of tokens that one evaluation reads of held-out documents, and of each file.", least=1)
    ] = 65_536
    eval_files: Annotated[
        tuple[str, ...],
        Setting(
            "Sources of the shards that are evaluated, each by itself, and not trained on: names, or ends of names.",
            valid=_are_once,
            right="names that are given once each",
        ),
    ] = ()

    def __post_init__(self) -> None:
        check_settings(self, "data")
        given = _given(self, "shards", "task", "mixture")
        require_value(len(given) == 1, "data", given or "nothing", "one of shards, task or mixture")
        for name, usual in (("packing", "stream"), ("on_too_long", "error")):
            value = getattr(self, name)
            require_value(not self.mixture or value == usual, f"data.{name}", value, "set in each of data.mixture")
        least = _LEAST_SHARE * sum(component.share for component in self.mixture)
        for number, component in enumerate(self.mixture):
            name, right = f"data.mixture.{number}.share", f"at least {_LEAST_SHARE:g} of the sum of all shares"
            require_value(component.share >= least, name, component.share, right)

    @property
    def components(self) -> tuple[Component, ...]:
        """Components of the mixture, or the shards or the task as the only one."""
        if self.mixture:
            return self.mixture
        one = Component(shards=self.shards, task=self.task, share=1, packing=self.packing, on_too_long=self.on_too_long)
        return (one,)

    def shards_field(self, number: int) -> str:
        """Name of the field that names a component's directory."""
        return f"data.mixture.{number}.shards" if self.mixture else "data.shards"


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A part of the run: `steps` optimizer steps, each over `batch_size` sequences of `seq_len` tokens."""

    steps: Annotated[int, Setting("Number of optimizer steps.", least=1)]
    batch_size: Annotated[int, Setting("Number of packed sequences in a step.", least=1)]
    seq_len: Annotated[int, Setting("Length of a packed sequence in tokens.", least=1)]

    def __post_init__(self) -> None:
        check_settings(self, "stage")


@dataclass(frozen=True, kw_only=True)
class ParameterGroup:
    """Parameters with a learning rate or a weight decay of their own, or frozen; the first group that fits counts."""

    match: Annotated[
        tuple[str, ...],
        Setting("Parameters by name, as shell patterns: blocks.3.mixer.*", valid=bool, right="at least one pattern"),
    ]
    lr: Annotated[float, Setting("Learning rate as a multiple of optimizer.lr; 0 freezes them.", least=0)] = 1.0
    weight_decay: Annotated[
        float | None, Setting("Weight decay of what decays.", least=0, unset="optimizer.weight_decay")
    ] = None
    frozen_steps: Annotated[int, Setting("Number of steps at the beginning in which they are frozen.", least=0)] = 0

    def __post_init__(self) -> None:
        check_settings(self, "optimizer.groups")
        released = self.lr > 0 or not self.frozen_steps
        require_value(released, "optimizer.groups.frozen_steps", self.frozen_steps, "0 where lr is 0")


@dataclass(frozen=True, kw_only=True)
class Optimizer:
    """AdamW (Loshchilov and Hutter 2019)."""

    lr: Annotated[float, Setting("Peak learning rate.", above=0)]
    betas: Annotated[
        tuple[float, ...],
        Setting("Decays of the two moments.", valid=_are_betas, right="two numbers from 0 to below 1"),
    ] = (0.9, 0.95)
    eps: Annotated[float, Setting("Number added to the root of the second moment.", least=0)] = 1e-8
    weight_decay: Annotated[float, Setting("Weight decay.", least=0)] = 0.1
    max_grad_norm: Annotated[float, Setting("Norm that gradients are clipped to; 0 for never.", least=0)] = 1.0
    groups: tuple[ParameterGroup, ...] = ()

    def __post_init__(self) -> None:
        check_settings(self, "optimizer")


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """Learning rate schedule: up over `warmup` steps, then down to the share `final` of the peak.

    kind: "cosine" falls from the peak to the end; "wsd" (warm-up, stable, decay: Hu et al. 2024) stays until the last
    `decay` of the steps and then falls in a straight line. After its steps the rate stays `final`.
    """

    kind: Annotated[Literal["cosine", "wsd"], Setting("Kind of the schedule.")] = "cosine"
    warmup: Annotated[
        float,
        Setting("Steps of warm-up, or a share of the steps below 1.", least=0),
    ] = 100
    final: Annotated[float, Setting("Share of the peak at the end.", least=0, most=1)] = 0.1
    decay: Annotated[float, Setting("Share of the steps in which a wsd schedule falls.", least=0, most=1)] = 0.2
    steps: Annotated[
        int | None, Setting("Length in steps.", least=1, unset="the steps of all stages when a run begins")
    ] = None

    def __post_init__(self) -> None:
        check_settings(self, "schedule")
        whole = self.warmup < 1 or self.warmup == int(self.warmup)
        require_value(whole, "schedule.warmup", self.warmup, "a whole number of steps, or a share below 1")


@dataclass(frozen=True, kw_only=True)
class Loss:
    """Terms added to the cross-entropy, and how it is computed."""

    z_loss: Annotated[
        float,
        Setting("Weight of the squared logarithm of the softmax's sum (Chowdhery et al. 2022, section 5).", least=0),
    ] = 0.0
    router_aux_loss: Annotated[
        float, Setting("Weight of the load-balancing loss of routers (Fedus et al. 2021, eq. 4).", least=0)
    ] = 0.01
    chunk: Annotated[int, Setting("Number of tokens whose logits exist at a time.", least=1)] = 1024

    def __post_init__(self) -> None:
        check_settings(self, "loss")


@dataclass(frozen=True, kw_only=True)
class Teacher:
    """Teacher that the model is distilled from: its divergence takes the place of the cross-entropy, or of a part.

    loss = (1 - cross_entropy) temperature^2 KL(teacher || model) + cross_entropy * (cross-entropy of the targets).
    """

    checkpoint: Annotated[str, Setting("Model with the same tokens: a path or a name. It stays as it is.")]
    temperature: Annotated[float, Setting("Temperature of both models' probabilities.", above=0)] = 1.0
    cross_entropy: Annotated[float, Setting("Share of the targets' cross-entropy in the loss.", least=0, below=1)] = 0.0
    quantize: Annotated[str | None, Setting("Dtype of the teacher's weights: int8, int4 or fp8.")] = None

    def __post_init__(self) -> None:
        check_settings(self, "teacher")


@dataclass(frozen=True, kw_only=True)
class BranchDropout:
    """Dropout of attention beside a recurrence, of each parallel layer and packed sequence by itself."""

    start: Annotated[float, Setting("Probability at the first step; it falls in a straight line.", above=0, most=1)]
    until: Annotated[float, Setting("Share of the schedule's steps after which it is zero.", above=0, most=1)] = 1.0

    def __post_init__(self) -> None:
        check_settings(self, "branch_dropout")


@dataclass(frozen=True, kw_only=True)
class Run:
    """Execution of a run, and its directory."""

    out: Annotated[str, Setting("Directory of the run: log, checkpoints, result.")]
    dtype: Annotated[
        Literal["bfloat16", "float32"],
        Setting("Dtype of activations; weights, gradients and moments are float32."),
    ] = "bfloat16"
    seed: Annotated[int, Setting("Seed of what is random in training and samples.")] = 0
    activation_checkpointing: Annotated[
        bool, Setting("Whether a block's activations are computed again for its gradient instead of kept.")
    ] = False
    parallelism: Annotated[
        Literal["fsdp", "ddp"],
        Setting("Processes: fsdp shards weights over them, ddp keeps a copy on each (see `world`)."),
    ] = "fsdp"
    context_parallel: Annotated[
        int, Setting("Number of processes that share the tokens of a sequence (see `context_parallel`).", least=1)
    ] = 1
    carry_state: Annotated[
        bool, Setting("Whether a document's next piece begins with the state of the one before.")
    ] = False
    checkpoint: Annotated[int, Setting("Interval between checkpoints in steps; 0 for never.", least=0)] = 100
    keep: Annotated[int, Setting("Number of checkpoints kept.", least=1)] = 2
    evaluate: Annotated[int, Setting("Interval between evaluations in steps; 0 for never.", least=0)] = 100
    sample: Annotated[int, Setting("Interval between samples in steps; 0 for never.", least=0)] = 0
    prompt: Annotated[str, Setting("Prompt that a sample continues.")] = "\n"
    sample_tokens: Annotated[int, Setting("Length of a sample in tokens.", least=1)] = 64
    skips: Annotated[
        int,
        Setting("Maximum number of steps in a row left out because loss or gradient is not finite.", least=0),
    ] = 0
    tensorboard: Annotated[bool, Setting("Whether events for TensorBoard are written.")] = True

    def __post_init__(self) -> None:
        check_settings(self, "run")
        alone = self.context_parallel == 1 or not self.carry_state
        require_value(alone, "run.carry_state", self.carry_state, "false where run.context_parallel is above 1")


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
    teacher: Teacher | None = None
    branch_dropout: BranchDropout | None = None

    def __post_init__(self) -> None:
        require_value(bool(self.stages), "stages", [], "at least one stage")
        beside = self.adapter is not None or self.initial_state is not None
        require_value(
            beside or self.model.quantize is None, "model.quantize", self.model.quantize, "left out of full training"
        )
        alone = self.data.shards is not None or not self.run.carry_state
        require_value(alone, "run.carry_state", self.run.carry_state, "false unless data.shards gives the sequences")
        for number, group in enumerate(self.optimizer.groups):
            name = f"optimizer.groups.{number}.frozen_steps"
            require_value(group.frozen_steps < self.steps, name, group.frozen_steps, f"below the {self.steps} steps")
        plain = self.teacher is None or not self.loss.z_loss
        require_value(plain, "loss.z_loss", self.loss.z_loss, "0 where a teacher takes the place of the targets")
        if self.model.filters == "implicit":  # they leave no state
            for name, value in (("carry_state", False), ("context_parallel", 1), ("sample", 0)):
                found = getattr(self.run, name)
                require_value(found == value, f"run.{name}", found, f'{value} where model.filters is "implicit"')

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
        return decode_config(read_toml(path), changes, path.parent, path.name)
    except RecursionError:
        raise InputError(f"{path}, or a change to it, is nested too deep") from None


def encode_config(config: Config) -> dict[str, Any]:
    """Configuration as plain data with absolute paths, which mean the same from any directory."""
    data = config.to_json()
    _resolve(data, Path.cwd())
    return data


def decode_config(data: dict[str, Any], changes: Sequence[str], here: Path, name: str) -> Config:
    """Configuration from plain data that `name` held, with `changes` made; paths in it are relative to `here`."""
    for change in changes:
        set_value(data, change)
    _resolve(data, here)
    try:
        config: Config = decode(Config, data, name)
    except SpecError as error:
        raise InputError(str(error)) from None
    return config


def _resolve(data: dict[str, Any], here: Path) -> None:
    """Makes paths absolute; a value that is no path here may be a preset's name or a hub id."""
    for table, key, must in (
        ("run", "out", True), ("model", "checkpoint", False), ("model", "tokenizer", False),
        ("teacher", "checkpoint", False),
    ):  # fmt: skip
        value = data.get(table, {}).get(key) if isinstance(data.get(table), dict) else None
        if isinstance(value, str) and (must or (here / value).exists()):
            data[table][key] = str(here / value)
    resolve_shards(data.get("data"), here)


def resolve_shards(data: Any, here: Path) -> None:
    """Makes the directories that a table `data` names absolute."""
    mixture = data.get("mixture") if isinstance(data, dict) else None
    for place in (data, *(mixture if isinstance(mixture, list) else ())):
        if isinstance(place, dict) and isinstance(place.get("shards"), str):
            place["shards"] = str(here / place["shards"])
