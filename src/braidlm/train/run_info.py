"""Facts of a training run from its files, without its weights: `braid info` of a TOML, a run or a checkpoint."""

import shlex
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..api.loading import read_spec
from ..errors import BraidError, InputError
from ..families.presets import preset
from ..model import footprint
from ..spec import ModelSpec, mixer_kinds
from . import checkpoints, plan, report, results, training_log
from .config import Config, read_config


@dataclass(frozen=True, kw_only=True)
class RunInfo:
    """Facts of a run.

    what: "configuration", "run" or "checkpoint". step: of the last checkpoint, or of the one asked for. log_step: last
    step in the log. evaluations: last losses on documents not trained on, by name. checkpoints: their steps. written:
    time of the last change in seconds since 1970, None if nothing is written. results: files that the run left at its
    end. commands: command lines that go on with it.
    """

    what: str
    path: Path
    config: Config
    step: int
    log_step: int
    tokens: int
    planned_tokens: int
    loss: float | None
    evaluations: dict[str, float]
    checkpoints: tuple[int, ...]
    parameters: int | None
    written: float | None
    results: tuple[Path, ...]
    commands: tuple[str, ...]


def read_run_info(path: Path) -> RunInfo | None:
    """Facts of the run that a path names; None if it is no TOML file, no run's directory and no checkpoint."""
    try:
        path.lstat()
    except (OSError, ValueError):  # a preset, say, or a name that no file can have
        return None
    if path.suffix == ".toml" and path.is_file():
        config = plan.resolve_plan(read_config(path))
        return _run_info("configuration", path, config, _steps(config))
    if checkpoints.is_checkpoint(path):
        step, _ = plan.stored(path)
        config = plan.read_any(path.parent.parent)
        return _run_info("checkpoint", path, config, [step])
    if checkpoints.latest(path / checkpoints.DIRECTORY) is not None:
        config = plan.read_any(path)
        return _run_info("run", path, config, _steps(config))
    if path.is_dir() and training_log.read_log(path / training_log.FILE):
        raise InputError(
            f"{path} holds the log of a run but no checkpoint; name the TOML file of the run, which begins it anew"
        )
    return None


def _steps(config: Config) -> list[int]:
    return [plan.stored(place)[0] for place in checkpoints.every(plan.directory(config))]


def _run_info(what: str, path: Path, config: Config, kept: Sequence[int]) -> RunInfo:
    out, step = Path(config.run.out), kept[-1] if kept else 0
    log = training_log.read_log(out / training_log.FILE)
    until = [line for line in log if line["step"] <= step]
    losses = [line for line in until if "loss" in line]
    spec = _spec(config)
    files = [file for file in (out / training_log.FILE, *checkpoints.every(plan.directory(config))) if file.exists()]
    return RunInfo(
        what=what,
        path=path,
        config=config,
        step=step,
        log_step=max((line["step"] for line in log), default=0),
        tokens=sum(line.get("tokens", 0) for line in losses),
        planned_tokens=sum(stage.steps * stage.batch_size * stage.seq_len for stage in config.stages),
        loss=losses[-1]["loss"] if losses else None,
        evaluations=report.last_losses(until),
        checkpoints=tuple(kept),
        parameters=None if spec is None else footprint.size(spec).total,
        written=max((file.stat().st_mtime for file in files), default=None),
        results=tuple(_results(out)),
        commands=tuple(_commands(what, path, config, step)),
    )


def _results(out: Path) -> list[Path]:
    names = (results.MODEL, results.ADAPTER, results.INITIAL) if results.written_at(out) is not None else ()
    return [out / name for name in names if (out / name).exists()]


def _spec(config: Config) -> ModelSpec | None:
    """Spec of the model; None for a base model that is not at hand, which is no fault of the run."""
    source = config.model
    if source.spec is not None:
        return source.spec
    try:
        return preset(source.preset).spec if source.preset is not None else read_spec(source.checkpoint or "")
    except BraidError:
        return None


def _commands(what: str, path: Path, config: Config, step: int) -> list[str]:
    """Command lines that go on with a run."""
    run = shlex.quote(str(path.parent.parent if what == "checkpoint" else path))
    if what == "checkpoint":
        return [f"braid train {run} --step {step} --export DIRECTORY"]
    if not step:
        return [f"braid train {run}"]
    return [
        f"braid train {run}{' --extra-steps STEPS' if step >= config.steps else ''}",
        f"braid train {run} --export DIRECTORY",
    ]


def info_lines(info: RunInfo) -> list[tuple[str, str]]:
    """Facts of a run for people: pairs of name and text."""
    config = info.config
    size = "" if info.parameters is None else f", {info.parameters:,} parameters"
    said = [
        (info.what, str(info.path)),
        *([("run", config.run.out)] if info.what != "run" else []),
        ("model", _model(config) + size),
        ("trained", _trained(config)),
        ("data", _data(config)),
        ("steps", f"{info.step} of {config.steps}" + _ahead(info)),
        ("tokens", f"{info.tokens:,} of {info.planned_tokens:,} planned"),
    ]
    if info.loss is not None:
        said.append(("loss", f"{info.loss:.4f} at step {info.step}"))
    for name, value in info.evaluations.items():
        said.append((report.title(name), f"loss {value:.4f} (perplexity {report.perplexity(value):.2f})"))
    if info.checkpoints:
        said.append(("checkpoints", "steps " + ", ".join(map(str, info.checkpoints))))
    if info.written is not None:
        said.append(("last written", time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(info.written))))
    said += [("result", str(place)) for place in info.results]
    return said + [("to go on" if number == 0 else "or", command) for number, command in enumerate(info.commands)]


def info_json(info: RunInfo) -> dict[str, object]:
    """Facts of a run as plain JSON data."""
    return {
        "kind": info.what,
        "path": str(info.path),
        "run": info.config.run.out,
        "step": info.step,
        "steps": info.config.steps,
        "log_step": info.log_step,
        "tokens": info.tokens,
        "planned_tokens": info.planned_tokens,
        "loss": info.loss,
        "evaluations": info.evaluations,
        "checkpoints": list(info.checkpoints),
        "parameters": info.parameters,
        "written": info.written,
        "results": [str(place) for place in info.results],
        "commands": list(info.commands),
        "config": info.config.to_json(),
    }


def _ahead(info: RunInfo) -> str:
    ahead = 0 if info.what == "checkpoint" else info.log_step - info.step
    return f" (the log tells of {ahead} more, after the last checkpoint)" if ahead > 0 else ""


def _model(config: Config) -> str:
    source = config.model
    if source.spec is None:
        return source.checkpoint or source.preset or ""
    kinds = ", ".join(f"{count} {kind}" for kind, count in mixer_kinds(source.spec.blocks).items())
    return f"{kinds}, width {source.spec.width}, vocabulary {source.spec.vocab}"


def _trained(config: Config) -> str:
    parts = []
    if config.adapter is not None:
        parts.append(f"an adapter of rank {config.adapter.rank}")
    if config.initial_state is not None:
        parts.append("an initial state")
    return " and ".join(parts) or "every weight"


def _data(config: Config) -> str:
    apart = f", without {', '.join(config.data.eval_files)}" if config.data.eval_files else ""
    return f"{', '.join(component.shards or str(component.task) for component in config.data.components)}{apart}"
