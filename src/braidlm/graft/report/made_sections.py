"""Sections of the page on how the graft was made: the blocks, the initial values, the training, the settings."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from .markup import figures, notes, paragraph, section, table
from .plots import Axis, Bar, Line, bar_plot, line_plot
from .words import NONE, duration, number, percent

Facts = Mapping[str, Any]

_KINDS = (("replaced in the graft", "graft"), ("kept in the graft", "donor"))

# What is plotted of a stage: the field of its log, the title, the axis.
_ALIGN = (("loss", "relative error of outputs", Axis("squared error over square", log=True)),)
_PHASE = (
    ("kl", "divergence from the donor", Axis("nats a token", zero=True)),
    ("loss", "cross-entropy", Axis("nats a token")),
    ("agreement", "same most likely token as the donor", Axis("share")),
)


def made_sections(facts: Facts) -> Iterator[str]:
    """Sections on what was made, by which stages, with which settings."""
    yield _blocks(facts)
    yield _initial(facts["initial"])
    yield _training(facts["stages"])
    yield section("Every setting", table(["setting", "value"], list(_flat(facts["recipe"])), text=[1]))


def _blocks(facts: Facts) -> str:
    blocks, first = facts["blocks"], _first_errors(facts["stages"])
    probed = any(block["lost"] for block in blocks)
    heads = ["block", "donor", "candidate", "in the graft", "decided", "error at first", "error in the end"]
    if probed:
        heads += ["divergence lost", "perplexity lost", "recall lost, nats"]
    rows = []
    for block in blocks:
        row = [
            str(block["block"]), block["donor"], block["candidate"] or NONE,
            "replaced" if block["replaced"] else "kept", block["why"],
            number(first.get(block["block"]), 3), number(block["error"], 3),
        ]  # fmt: skip
        rows.append(row + (_lost(block["lost"]) if probed else []))
    if facts["all_replaced"]:
        rows.append(["all", *[NONE] * 6, *_lost(facts["all_replaced"])])
    return section(
        "Blocks",
        paragraph(
            "Which blocks of the donor have another mixer. Errors are those of the new mixer's output against the "
            "donor's on held-out text, squared and relative, when alignment was first and last evaluated: 1 is as bad "
            "as no output. What is lost is what the model loses when that block alone is replaced (last row: when all "
            "candidates are), as the probe found. Blocks are ranked by their share of all that is lost, in divergence "
            "and in recall; those of the first ranks are kept."
        ),
        table(heads, rows, text=[1, 2, 3, 4]),
        _kept_alone(blocks),
        figures(*_block_plots(blocks)),
    )


def _first_errors(stages: Sequence[Facts]) -> dict[int, float]:
    """Error of each block when it was first evaluated."""
    found: Facts = next((stage["evaluations"] for stage in stages if stage["stage"] == "align"), {})
    named = ((name.partition("eval_block_")[2], points) for name, points in found.items())
    return {int(block): points[0][1] for block, points in named if block and points}


def _lost(lost: Mapping[str, float] | None) -> list[str]:
    if lost is None:
        return [NONE] * 3
    return [number(lost["divergence"], 4), percent(lost["perplexity"]), number(lost["recall"], 3)]


def _kept_alone(blocks: Sequence[Facts]) -> str:
    heads = ["the only block that is kept", "divergence", "perplexity lost", "recall lost, nats"]
    rows = [[str(block["block"]), *_lost(block["kept_alone"])] for block in blocks if block["kept_alone"]]
    return table(heads, rows)


def _block_plots(blocks: Sequence[Facts]) -> Iterator[str]:
    yield _bars("Error of each new mixer", "relative error", blocks, [block["error"] for block in blocks])
    for field, title, unit in (
        ("divergence", "Divergence lost by replacing one block", "nats a token"),
        ("recall", "Recall lost by replacing one block", "nats a token of the answers"),
    ):
        yield _bars(title, unit, blocks, [block["lost"] and block["lost"][field] for block in blocks])


def _bars(title: str, unit: str, blocks: Sequence[Facts], values: Sequence[float | None]) -> str:
    bars = [
        Bar(str(block["block"]), "graft" if block["replaced"] else "donor", value)
        for block, value in zip(blocks, values, strict=True)
        if value is not None
    ]
    return bar_plot(title, "block", Axis(unit, zero=True), bars, _KINDS)


def _initial(initial: Mapping[str, str]) -> str:
    return section("Initial values", notes([f"{kind}: {sentence}." for kind, sentence in initial.items()]))


def _training(stages: Sequence[Facts]) -> str:
    rows = [
        [stage["stage"], f"{stage['steps']:,}", f"{stage['tokens']:,}", duration(stage["seconds"])] for stage in stages
    ]
    if len(stages) > 1:
        totals = [sum(stage[name] for stage in stages) for name in ("steps", "tokens", "seconds")]
        rows.append(["all", f"{totals[0]:,}", f"{totals[1]:,}", duration(totals[2])])
    drawn = [_curve(stage, *one) for stage in stages for one in (_ALIGN if stage["stage"] == "align" else _PHASE)]
    return section(
        "Training",
        table(["stage", "steps", "tokens read", "time in steps"], rows),
        figures(*drawn),
    )


def _curve(stage: Facts, field: str, title: str, y: Axis) -> str:
    lines = [
        Line("in training", "step", stage["curves"].get(field, [])),
        Line("on held-out text", "graft", stage["evaluations"].get(f"eval_{field}", [])),
    ]
    return line_plot(f"{stage['stage']}: {title}", Axis("tokens read"), y, lines)


def _flat(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """Settings as names with points and values."""
    parts = value.items() if isinstance(value, Mapping) else enumerate(value) if _has_tables(value) else ()
    for key, part in parts:
        yield from _flat(part, f"{name}.{key}" if name else str(key))
    if not isinstance(value, Mapping) and not _has_tables(value):
        yield name, "not set" if value is None else _value(value)


def _has_tables(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and any(isinstance(item, Mapping) for item in value)


def _value(value: Any) -> str:
    return ", ".join(map(str, value)) or "none" if isinstance(value, (list, tuple)) else str(value)
