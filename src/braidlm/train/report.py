"""What is left of a run for people: the curve of its losses, and a card beside the model."""

import importlib.util
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..describe import size
from ..errors import UnavailableError
from ..spec import ModelSpec, mixer_kinds
from .config import Config

Line = Mapping[str, Any]


def require() -> None:
    """`UnavailableError` unless the curve can be drawn: known before a run, not after it."""
    if importlib.util.find_spec("matplotlib") is None:
        raise UnavailableError("the loss curve is drawn by matplotlib: pip install 'braidlm[train]'")


def draw(log: Sequence[Line], file: Path) -> None:
    """The losses of a log over the tokens read, as a PNG: each step, their running mean, held-out text."""
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
    held_out = [(tokens[line["step"]], line["held_out"]) for line in log if "held_out" in line]
    if held_out:
        axes.plot(*zip(*held_out), "o-", color="tab:orange", markersize=3, label="held-out text")
    axes.set(xlabel="million tokens", ylabel="cross-entropy, nats a token")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(file, dpi=150)


def sentence(name: str, value: float | str) -> str:
    """An evaluation or a sample for people."""
    if isinstance(value, str):
        return f"writes {value!r}"
    what = "held-out text" if name == "held_out" else name
    return f"{what}: loss {value:.4f} (perplexity {math.exp(min(value, 700)):.2f})"


def _running_mean(values: Sequence[float], share: float = 0.02) -> list[float]:
    """Exponential, over a share of all values; those that are not finite are passed over."""
    keep = 1 - 1 / max(1.0, share * len(values))
    mean, found = next((v for v in values if math.isfinite(v)), math.nan), []
    for value in values:
        mean = keep * mean + (1 - keep) * value if math.isfinite(value) else mean
        found.append(mean)
    return found


def card(
    config: Config, spec: ModelSpec, log: Sequence[Line], sources: Sequence[str], lost: float | None = None
) -> str:
    """A model card in Markdown: what the model is, what it has read, how it was made, how good it is.

    `lost` is the part of implicit filters that their modes do not have.
    """
    steps = [line for line in log if "loss" in line]
    held_out = [line["held_out"] for line in log if "held_out" in line]
    kinds = ", ".join(f"{count} {kind}" for kind, count in mixer_kinds(spec.blocks).items())
    counted = size(spec)
    facts = [
        ("parameters", f"{counted.total:,} ({counted.active:,} a token)"),
        ("blocks", kinds),
        ("width, vocabulary", f"{spec.width}, {spec.vocab}"),
        ("steps", f"{len(steps)}, {sum(line['tokens'] for line in steps):,} tokens"),
        ("optimizer", f"AdamW, learning rate {config.optimizer.lr:g}, {config.schedule.form} schedule"),
        ("activations", config.run.dtype),
        ("time", f"{sum(line['seconds'] for line in steps) / 60:.0f} minutes"),
    ]
    if held_out:
        last = held_out[-1]
        facts.append(("held-out text", f"{last:.4f} nats a token (perplexity {math.exp(last):.2f})"))
    if lost is not None:
        facts.append(("filters", f"modes fitted to implicit filters, {lost:.1%} of whose norm they leave out"))
    rows = "\n".join(f"| {name} | {value} |" for name, value in facts)
    learned = "\n".join(f"- {source}" for source in sources)
    return (
        f"# {Path(config.run.out).name}\n\nTrained with braidlm.\n\n|  |  |\n| --- | --- |\n{rows}\n\n"
        f"![losses](loss.png)\n\n## Learned from\n\n{learned}\n\n## Use\n\n"
        '```sh\nbraid generate . "..."\n```\n'
    )
