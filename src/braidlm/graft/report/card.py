"""Model card of a graft: README.md in the model's directory."""

from collections.abc import Mapping
from typing import Any

from ...system.units import amount
from .page import replaced_in_words
from .summary import summary
from .words import duration


def card(facts: Mapping[str, Any]) -> str:
    """Model card in Markdown: donor, blocks, training, the summary's figures, use, licence."""
    donor, graft = facts["donor"], facts["graft"]
    rows = [
        ("donor", f"`{donor['name']}`, {amount(donor['parameters'])} parameters, digest `{donor['digest'][:16]}`"),
        ("parameters", f"{graft['parameters']:,}"),
        ("replaced", replaced_in_words(facts)),
        ("meta tokens", str(graft["meta_tokens"])),
        *((f"stage {one['stage']}", _stage(one)) for one in facts["stages"]),
    ]
    figures = [(one.name, one.text, one.meaning) for one in summary(facts["measured"])]
    return (
        f"# {facts['name']}\n\nA hybrid model, grafted with braidlm {facts['braidlm']}: blocks of a trained model "
        f"got other mixers, which learned to do the same.\n\n{_table(('', ''), rows)}\n\n"
        f"## What was lost and won\n\n{_table(('', 'measured', 'meaning'), figures)}\n\n"
        "Perplexity, divergence and agreement are of held-out text.\n\n"
        "## Use\n\nIn this directory:\n\n```sh\nbraid chat .\nbraid serve .\n```\n\n"
        '```python\nimport braidlm\n\nmodel = braidlm.load(".")\n```\n\n'
        "## Licence\n\nThis model is made of the donor's weights: the donor's licence applies.\n"
    )


def _stage(stage: Mapping[str, Any]) -> str:
    return f"{stage['steps']:,} steps, {stage['tokens']:,} tokens, {duration(stage['seconds'])}"


def _table(heads: tuple[str, ...], rows: list[Any]) -> str:
    lines = [heads, tuple("---" for _ in heads), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)
