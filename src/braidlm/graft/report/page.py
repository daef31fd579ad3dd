"""Page of a report: one HTML file that needs nothing else, for people who know no line of the code."""

from collections.abc import Mapping
from html import escape
from typing import Any

from ...system.units import amount
from .made_sections import made_sections
from .markup import notes, paragraph, table
from .quality_sections import answers_section, quality_sections
from .style import STYLE
from .subjects import DONOR, GRAFT, TITLES, TRAINED, WINDOWS
from .summary import Figure, summary

_SUBJECTS = {
    DONOR: "the model that the graft was made of, as it was given",
    TRAINED: "the donor after training on the same data as the graft, to tell what the data alone change",
    WINDOWS: "the donor with attention to the last tokens alone in the same blocks as the graft, without training",
    GRAFT: "the result",
}


def page(facts: Mapping[str, Any]) -> str:
    """HTML of the whole report."""
    measured, title = facts["measured"], f"Graft {facts['name']}"
    body = [
        f"<h1>{escape(title)}</h1>", paragraph(_made(facts)), _summary(summary(measured)), _models(facts),
        *quality_sections(measured), answers_section(measured.get("answers", {})), *made_sections(facts),
        f"<footer>Made by braidlm {escape(facts['braidlm'])}. The same numbers stand in report.json.</footer>",
    ]  # fmt: skip
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body>{''.join(body)}</body></html>\n"
    )


def _made(facts: Mapping[str, Any]) -> str:
    return f"{facts['donor']['name']} with another mixer in {replaced_in_words(facts)}. {trained_in_words(facts)}"


def replaced_in_words(facts: Mapping[str, Any]) -> str:
    """Which blocks have another mixer: "15 of 30 blocks: window of 256 beside mamba2 in 0, 2"."""
    by_mixer: dict[str, list[str]] = {}
    for block in facts["blocks"]:
        if block["replaced"]:
            by_mixer.setdefault(block["candidate"], []).append(str(block["block"]))
    parts = "; ".join(f"{mixer} in {', '.join(blocks)}" for mixer, blocks in by_mixer.items())
    return f"{sum(map(len, by_mixer.values()))} of {len(facts['blocks'])} blocks: {parts}"


def trained_in_words(facts: Mapping[str, Any]) -> str:
    """How much the graft has read in each stage."""
    stages = [f"{amount(stage['tokens'])} in stage {stage['stage']}" for stage in facts["stages"]]
    return f"Tokens read in training: {', '.join(stages)}." if stages else "It was not trained."


def _summary(figures: list[Figure]) -> str:
    cards = [
        f"<div><dt>{escape(one.name)}</dt>"
        f'<dd class="value{" absent" if one.value is None else ""}">{escape(one.text)}</dd>'
        f'<dd class="meaning">{escape(one.meaning)}</dd></div>'
        for one in figures
    ]
    return f'<dl class="summary">{"".join(cards)}</dl>'


def _models(facts: Mapping[str, Any]) -> str:
    there = facts["measured"]["subjects"]
    rows = [[TITLES[name], _SUBJECTS[name] + ("" if there[name] else " (not made for this report)")] for name in TITLES]
    sizes = [
        f"{name}: {amount(facts[name]['parameters'])} parameters, {facts[name]['blocks']} blocks, "
        f"width {facts[name]['width']}, declared length {facts[name]['max_positions'] or 'unlimited'}"
        for name in (DONOR, GRAFT)
    ]
    return f"<section><h2>Models</h2>{table(['model', 'what it is'], rows, text=[1])}{notes(sizes)}</section>"
