"""Report of a run for people: the loss curve, and a model card."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..model.footprint import size
from ..spec import ModelSpec, mixer_kinds
from ..system.pictures import check_matplotlib, save_picture
from .base import Base, command_of
from .config import Config

Line = Mapping[str, Any]


CARD, CURVE = "README.md", "loss.png"


def require() -> None:
    """`UnavailableError` unless the loss curve can be drawn; checked before a run, not after it."""
    check_matplotlib("the loss curve")


def draw(log: Sequence[Line], file: Path) -> None:
    """Draws the losses of a log over the tokens read as a PNG: of each step, their running mean, of evaluations."""
    require()
    from matplotlib.figure import Figure  # noqa: PLC0415  (optional, and slow to import)

    steps = [line for line in log if "loss" in line]
    read, tokens = 0, {}
    for line in steps:
        read += line["tokens"]
        tokens[line["step"]] = read / 1e6
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.add_subplot()
    millions = list(tokens.values())
    losses = [line["loss"] for line in steps]
    axes.plot(millions, losses, color="0.75", linewidth=0.7, label="step")
    axes.plot(millions, _running_mean(losses), color="tab:blue", label="running mean")
    for name in last_losses(log):
        found = [(tokens[line["step"]], line[name]) for line in log if name in line and line["step"] in tokens]
        axes.plot(*zip(*found), "o-", markersize=3, label=title(name))
    axes.set(xlabel="million tokens", ylabel="cross-entropy, nats a token")
    axes.grid(alpha=0.3)
    axes.legend()
    save_picture(figure, file)


def sentence(name: str, value: float | str, *, in_nats: bool = True) -> str:
    """Sentence that tells people of an evaluation or a sample; a loss that is `in_nats` has a perplexity."""
    if isinstance(value, str):
        return f"the model writes {value!r}"
    if not _is_loss(name):
        return f"{name.removeprefix('eval_')}: {value:.4f}"
    return f"{title(name)}: loss {value:.4f}" + (f" (perplexity {perplexity(value):.2f})" if in_nats else "")


def _running_mean(values: Sequence[float], share: float = 0.02) -> list[float]:
    """Exponential running mean over a share of all values; those that are not finite are passed over."""
    keep = 1 - 1 / max(1.0, share * len(values))
    mean, found = next((v for v in values if math.isfinite(v)), math.nan), []
    for value in values:
        mean = keep * mean + (1 - keep) * value if math.isfinite(value) else mean
        found.append(mean)
    return found


def card(
    config: Config,
    spec: ModelSpec,
    log: Sequence[Line],
    sources: Sequence[str],
    base: Base | None,
    options: Sequence[str] = (),
    lost: float | None = None,
) -> str:
    """Model card in Markdown: what the model is, what it has read, how it was made, how good it is, how to use it.

    `base` is what training began with. `options` make `braid generate` use what lies beside a frozen one. `lost` is
    the part of implicit filters that their modes do not have.
    """
    facts = [*(base.facts if base else []), *_facts(config, spec, log, lost)]
    rows = "\n".join(f"| {name} | {value} |" for name, value in facts)
    learned = "\n".join(f"- {source}" for source in sources) or "- data that are not there any more"
    use = command_of(base if options else None, options)
    return (
        f"# {Path(config.run.out).name}\n\nTrained with braidlm.\n\n|  |  |\n| --- | --- |\n{rows}\n\n"
        f"![losses]({CURVE})\n\n## Learned from\n\n{learned}\n\n## Use\n\nIn this directory:\n\n"
        f"```sh\n{use}\n```\n"
    )


def _facts(config: Config, spec: ModelSpec, log: Sequence[Line], lost: float | None) -> list[tuple[str, str]]:
    steps = [line for line in log if "loss" in line]
    kinds = ", ".join(f"{count} {kind}" for kind, count in mixer_kinds(spec.blocks).items())
    counted = size(spec)
    facts = [
        ("parameters", f"{counted.total:,} ({counted.active:,} a token)"),
        ("blocks", kinds),
        ("width, vocabulary", f"{spec.width}, {spec.vocab}"),
        ("steps", f"{len(steps)}, {sum(line['tokens'] for line in steps):,} tokens"),
        ("optimizer", f"AdamW, learning rate {config.optimizer.lr:g}, {config.schedule.kind} schedule"),
        ("activations", config.run.dtype),
        ("time", f"{sum(line['seconds'] for line in steps) / 60:.0f} minutes"),
    ]
    for name, value in last_losses(log).items():
        facts.append((title(name), f"{value:.4f} nats a token (perplexity {perplexity(value):.2f})"))
    facts += [(name.removeprefix("eval_"), f"{value:.4f}") for name, value in _last_metrics(log).items()]
    if config.teacher is not None:
        facts.append(("teacher", config.teacher.checkpoint))
    if lost is not None:
        facts.append(("filters", f"modes fitted to implicit filters; they leave out {lost:.1e} of the norm"))
    return facts


def last_losses(log: Sequence[Line]) -> dict[str, float]:
    """Last loss on the held-out documents and on each eval file, by its name in the log."""
    named = [(name, value) for line in log for name, value in line.items()]
    return {name: value for name, value in named if _is_loss(name)}


def _last_metrics(log: Sequence[Line]) -> dict[str, float]:
    """Last of what else evaluations have measured, by its name in the log."""
    named = [(name, value) for line in log for name, value in line.items()]
    return {name: value for name, value in named if name.startswith("eval_") and not _is_loss(name)}


def _is_loss(name: str) -> bool:
    """Whether a log field is the loss of an evaluation."""
    return name == "eval_loss" or name.startswith("eval/")


def title(name: str) -> str:
    """Title of a log field for people."""
    return "held-out text" if name == "eval_loss" else name


def perplexity(loss: float) -> float:
    """Perplexity of a cross-entropy in nats a token."""
    return math.exp(min(loss, 700.0))
