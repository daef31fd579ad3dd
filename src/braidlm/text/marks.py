"""Marks of formats in a text: those that may be about to begin, and their spelling in grammars."""

import json
from collections.abc import Callable, Iterable


def partial(text: str, marks: Iterable[str]) -> int:
    """Length of the longest end of `text` that begins one of `marks` without being all of it."""
    return max((_overlap(text, mark) for mark in marks), default=0)


def _overlap(text: str, mark: str) -> int:
    return next((n for n in range(min(len(text), len(mark) - 1), 0, -1) if text.endswith(mark[:n])), 0)


def spelled_by(control_id_of: Callable[[str], int | None]) -> Callable[[str], str]:
    """Speller of texts in Lark's notation, given the ids of control tokens: those are named, other texts are quoted."""

    def spell(text: str) -> str:
        control = control_id_of(text)
        return json.dumps(text) if control is None else f"<[{control}]>"

    return spell
