"""The words of public names: modules, classes, functions, parameters, fields and options."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import click
import typer.main

from braidlm.cli.main import app

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "braidlm"

# Lawful uses of a word to avoid, where it has another meaning of the field: word, room or file, that meaning.
LAWFUL = (
    ("kept", "graft", "layers that a graft leaves as they are"),
    ("figures", "graft/report", "pictures of a page, with captions"),
    ("told", "graft", "called with what was measured"),
    ("variant", "graft/probe.py", "one graft of several that are compared"),
    ("taps", "graft/mixers", "values of a filter, as in signal processing"),
    ("growing", "layers/rotary.py", "the base of dynamic NTK scaling grows with the length"),
    ("growing", "ops/plan/plan_builder.py", "rotation by such a base"),
    ("job", "train/data", "the work that processes share, as batch systems call it"),
    ("kept", "spec/state.py", "positions that a KV cache of a window keeps"),
    ("marks", "text", "characters that stand for control tokens in a chat template's input"),
    ("pieces", "text", "SentencePiece's entries of a vocabulary"),
    ("pieces", "train/data", "parts of a document that is cut to fill sequences"),
    ("reading", "text/tool_calls", "one parser on its way through an answer"),
    ("reading", "train/data", "documents out of files"),
    ("spread", "bench", "range of repeated measurements"),
    ("taps", "layers/linear.py", "weights of a short convolution, as in signal processing"),
    ("taps", "train/modal", "values of a filter, as in signal processing"),
    ("writer", "server/answers.py", "writer of an answer's deltas"),
    ("writing", "server/connections.py", "asyncio's names of a protocol's methods"),
)


class Public(NamedTuple):
    """A public name and where it stands: a path from the package's directory, or a command."""

    name: str
    place: str


def avoided_words() -> list[str]:
    """Words in the glossary's last table."""
    table = (ROOT / "docs" / "glossary.md").read_text().partition("## Words to avoid")[2]
    return [
        word for row in table.splitlines() if row.startswith("| `") for word in re.findall("`(.*?)`", row.split("|")[1])
    ]


def parts_of(name: str) -> list[str]:
    """Words of a name: ["prompt", "lookup"] of PromptLookup, prompt_lookup and --prompt-lookup."""
    return re.findall("[A-Z]?[a-z0-9]+|[A-Z]+", name.replace("-", "_"))


def says(name: str, word: str) -> bool:
    """Whether a name has a word, or several in a row, among its own."""
    return f"_{word}_" in f"_{'_'.join(parts_of(name)).lower()}_"


def names_in(tree: ast.AST) -> Iterator[str]:
    """Public names that a module defines, at its top and in its public classes."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            if node.name.startswith("_") and node.name != "__init__":
                continue
            yield node.name
            if isinstance(node, ast.ClassDef):
                yield from names_in(node)
            else:
                arguments = node.args
                yield from (item.arg for item in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs))
        elif isinstance(node, ast.AnnAssign | ast.Assign):
            targets = [node.target] if isinstance(node, ast.AnnAssign) else node.targets
            yield from (item.id for item in targets if isinstance(item, ast.Name) and not item.id.startswith("_"))


def options_of(command: click.Command, way: str = "braid") -> Iterator[Public]:
    """Options and commands of the command line."""
    for parameter in command.params:
        yield from (Public(option, way) for option in parameter.opts)
    for name, inner in getattr(command, "commands", {}).items():
        yield Public(name, way)
        yield from options_of(inner, f"{way} {name}")


def public_names() -> Iterator[Public]:
    for file in sorted(SOURCE.rglob("*.py")):
        place = file.relative_to(SOURCE).as_posix()
        yield Public(file.stem, place)
        yield from (Public(name, place) for name in names_in(ast.parse(file.read_text())))
    yield from options_of(typer.main.get_command(app))


def lawful(word: str, place: str) -> bool:
    return any(word == other and f"{place}/".startswith(f"{room}/") for other, room, _ in LAWFUL)


def test_public_names_avoid_old_words() -> None:
    """Oracle: the words to avoid in docs/glossary.md, and the lawful uses above."""
    found = [
        f"{name} in {place} says {word!r}"
        for name, place in public_names()
        for word in avoided_words()
        if says(name, word) and not lawful(word, place)
    ]
    assert not found, found


def test_every_lawful_use_is_one() -> None:
    """Oracle: the public names; an entry that no name needs any more would hide the next one."""
    names = list(public_names())
    for word, room, _ in LAWFUL:
        assert word in avoided_words(), word
        assert any(says(name, word) and f"{place}/".startswith(f"{room}/") for name, place in names), (word, room)


def test_old_words_are_found() -> None:
    """Oracle: by hand: names in each position in which a reader meets them, some with an old word."""
    tree = ast.parse(
        "class TokenGuess:\n    lanes: int = 0\n    def settle(self, twin, *, ring=1): ...\n"
        "class _Desk:\n    pace: int\n    def replay(self): ...\n"
        "def _undo(wish): ...\nREPLAY_STEPS = 3\nasync def stream(hits): ...\n"
    )
    names = list(names_in(tree))
    assert names == ["TokenGuess", "lanes", "settle", "self", "twin", "ring", "REPLAY_STEPS", "stream", "hits"]
    assert avoided_words() and all(word == word.lower() for word in avoided_words())
    assert says("TokenGuess", "guess") and says("REPLAY_STEPS", "replay") and says("--own-text", "own_text")
    assert not says("planes", "lanes") and not says("Guessed", "guess") and not says("text_own", "own_text")
