"""Sections of the page on what was measured: text, recall, checked answers, state and speed, answers side by side."""

import statistics
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

from ...eval.tasks import TASKS
from ...system.units import size
from .markup import answers, figures, paragraph, remarks, section, table
from .plots import Axis, Line, line_plot
from .speed import ratios
from .subjects import DONOR, GRAFT, TITLES
from .summary import recalled
from .words import NONE, number, percent, ratio, times

Measured = Mapping[str, Any]

_RECALL = (
    "A model reads a long text with facts in it and is asked for them. Counted are answers whose every token the model "
    "finds most likely. In brackets the interval that holds the true share 95 times in 100. Nats a token show how far "
    "off an answer is that is not exact: 0 is sure."
)


def quality_sections(measured: Measured) -> Iterator[str]:
    """Sections of the parts that were measured."""
    yield _text(measured.get("text", {}))
    yield _recall(measured.get("recall", {}))
    yield _generation(measured.get("generation", {}))
    yield _cost(measured.get("state", {}), measured.get("speed", []))


def left_out(results: Mapping[str, Mapping[str, Any]]) -> str:
    """Remarks on what subjects could not do."""
    return remarks((TITLES[name], one["left_out"]) for name, one in results.items() if "left_out" in one)


def _text(by_name: Mapping[str, Any]) -> str:
    known = {name: result for name, result in by_name.items() if "left_out" not in result}
    donor = known.get(DONOR, {}).get("perplexity")
    rows = [
        [
            TITLES[name],
            number(one["perplexity"]),
            times(ratio(one["perplexity"], donor)),
            number(one.get("divergence"), 3),
            percent(one.get("agreement")),
        ]
        for name, one in known.items()
    ]
    heads = ["model", "perplexity", "times the donor's", "divergence, nats a token", "same most likely token"]
    tokens = next((one["tokens"] for one in known.values()), 0)
    x = Axis("position in the text, tokens", log=True)

    def lines(field: str) -> list[Line]:
        return [Line(TITLES[name], name, _by_position(one, field)) for name, one in known.items()]

    return section(
        "Held-out text",
        paragraph(
            f"{tokens:,} tokens kept apart from all training of the graft. Perplexity says how unsure a model is of "
            "the next token; divergence and the share of places with the same most likely token compare a model with "
            "the donor."
        )
        if known
        else "",
        table(heads, rows),
        left_out(by_name),
        figures(
            line_plot("Perplexity by position", x, Axis("perplexity", log=True), lines("perplexity")),
            line_plot("Divergence by position", x, Axis("nats a token", zero=True), lines("divergence")),
        ),
    )


def _by_position(result: Mapping[str, Any], field: str) -> list[tuple[float, float]]:
    """Values by the last position of each bucket, counted from one."""
    buckets = [bucket for bucket in result["buckets"] if bucket.get(field) is not None]
    return [(bucket["last"] + 1, bucket[field]) for bucket in buckets]


def _recall(by_name: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    kinds = dict.fromkeys((one["task"], one["length"]) for results in by_name.values() for one in results)
    tables, plots, absent = list[str](), list[str](), list[tuple[str, str]]()
    for task, length in kinds:
        found = {
            name: next(one for one in results if (one["task"], one["length"]) == (task, length))
            for name, results in by_name.items()
        }
        known = {name: one for name, one in found.items() if "left_out" not in one}
        absent += [(TITLES[name], found[name]["left_out"]) for name in found if name not in known]
        tables.append(_recall_table(f"{task}: {TASKS[task].summary}, {length:,} tokens", known))
        lines = [Line(TITLES[name], name, _by_depth(one)) for name, one in known.items()]
        depth = Axis("depth of the fact, from 0 (beginning) to 1 (end)")
        plots.append(line_plot(f"{task}, {length:,} tokens", depth, Axis("share of exact answers", zero=True), lines))
    whole = [[TITLES[name], percent(recalled(results))] for name, results in by_name.items()]
    return section(
        "Recall",
        paragraph(_RECALL) if kinds else "",
        table(["model", "exact answers, all tasks and lengths"], whole),
        *tables,
        remarks(absent),
        figures(*plots),
    )


def _recall_table(caption: str, known: Mapping[str, Mapping[str, Any]]) -> str:
    depths = dict.fromkeys(one["depth"] for result in known.values() for one in result["depths"])
    heads = ["model", "all depths", "nats a token", *(_depth(depth) for depth in depths)]
    rows = [
        [TITLES[name], _share(one, "exact"), number(one["nats"]), *(percent(part["exact"]) for part in one["depths"])]
        for name, one in known.items()
    ]
    return table(heads, rows, caption)


def _depth(depth: float | None) -> str:
    return "whole text" if depth is None else f"depth {depth:g}"


def _by_depth(result: Mapping[str, Any]) -> list[tuple[float, float]]:
    return [(one["depth"], one["exact"]) for one in result["depths"] if one["depth"] is not None]


def _share(one: Mapping[str, Any], field: str) -> str:
    low, high = one["interval"]
    return f"{percent(one[field])} [{percent(low)}, {percent(high)}]"


def _generation(by_name: Mapping[str, Mapping[str, Any]]) -> str:
    known = {name: one for name, one in by_name.items() if "left_out" not in one}
    kinds = dict.fromkeys(kind for one in known.values() for kind in one["kinds"])
    rows = [["all", *(_share(one, "passed") for one in known.values())]] if known else []
    rows += [[_kind(kind), *(_passed(one, kind) for one in known.values())] for kind in kinds]
    count = next((one["answers"] for one in known.values()), 0)
    return section(
        "Checked answers",
        paragraph(
            f"Each model writes answers to {count} prompts by itself, always with the most likely token. Each prompt "
            "has a rule that a program checks, or a question with one right answer. The share that passes is shown."
        )
        if known
        else "",
        table(["rule", *(TITLES[name] for name in known)], rows),
        left_out(by_name),
    )


def _kind(kind: str) -> str:
    return kind.replace("_", " ")


def _passed(one: Mapping[str, Any], kind: str) -> str:
    score = one["kinds"].get(kind)
    return NONE if score is None else f"{round(score['passed'] * score['answers'])} of {score['answers']}"


def _cost(states: Mapping[str, Sequence[Mapping[str, Any]]], speeds: Sequence[Mapping[str, Any]]) -> str:
    sizes = {name: {one["length"]: one["bytes"] for one in found if "bytes" in one} for name, found in states.items()}
    absent = [(name, one["left_out"]) for name, found in states.items() for one in found if "bytes" not in one]
    absent += [(name, why) for one in speeds for name, why in one["left_out"].items()]
    lengths = Axis("tokens before", log=True)
    speed_lines = [Line(TITLES[name], name, _speeds(name, speeds)) for name in TITLES]
    state_lines = [
        Line(TITLES[name], name, [(length, count / 2**20) for length, count in found.items()])
        for name, found in sizes.items()
    ]
    return section(
        "State and speed",
        paragraph(
            "The state is what a model keeps of a sequence from token to token. Speed is that of writing one token "
            "after the other for one sequence; all models took turns in one run, and a ratio is one of the same round."
        )
        if states or speeds
        else "",
        _state_table(sizes),
        _speed_table(speeds),
        remarks((TITLES[name], why) for name, why in absent),
        figures(
            line_plot("State of one sequence", lengths, Axis("MiB", log=True), state_lines),
            line_plot("Decode speed", lengths, Axis("tokens a second", zero=True), speed_lines),
        ),
    )


def _state_table(sizes: Mapping[str, Mapping[int, int]]) -> str:
    rows = []
    for length in sorted({length for found in sizes.values() for length in found}):
        cells = [size(found[length]) if length in found else NONE for found in sizes.values()]
        won = ratio(sizes.get(DONOR, {}).get(length), sizes.get(GRAFT, {}).get(length))
        rows.append([f"{length:,} tokens", *cells, times(won)])
    return table(["context", *(TITLES[name] for name in sizes), "donor over graft"], rows, "State of one sequence")


def _speed_table(speeds: Sequence[Mapping[str, Any]]) -> str:
    names = [name for name in TITLES if any(name in one["rates"] for one in speeds)]
    rows = []
    for one in speeds:
        rates = one["rates"]
        if not rates:
            continue
        won = ratios(rates, GRAFT, DONOR)
        said = NONE if won is None else f"{times(won['median'])} ({number(won['least'])} to {number(won['most'])})"
        cells = [number(statistics.median(rates[name]), 1) if rates.get(name) else NONE for name in names]
        rows.append([f"{one['length']:,} tokens", *cells, said])
    threads = " or ".join(dict.fromkeys(str(one["threads"]) for one in speeds if one["rates"]))
    heads = ["context", *(TITLES[name] for name in names), "graft over donor (least to most)"]
    return table(heads, rows, f"Decode speed in tokens a second; threads: {threads}")


def _speeds(name: str, speeds: Sequence[Mapping[str, Any]]) -> list[tuple[float, float]]:
    found = [(one["length"], one["rates"].get(name)) for one in speeds]
    return [(length, statistics.median(rates)) for length, rates in found if rates]


def answers_section(by_name: Mapping[str, Mapping[str, Any]]) -> str:
    """Section of the answers of all models to some prompts, side by side."""
    known = {name: one["answers"] for name, one in by_name.items() if "left_out" not in one}
    prompts = [one["prompt"] for one in next(iter(known.values()), [])]
    parts = [
        f"<h3>{escape(prompt)}</h3>" + answers([(TITLES[name], made[index]["answer"]) for name, made in known.items()])
        for index, prompt in enumerate(prompts)
    ]
    return section("Answers side by side", *parts, left_out(by_name))
