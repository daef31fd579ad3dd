"""Table of the commands: each is imported from the file of its name when it is asked for.

Files of commands import at their top only what their help needs; what does the work is imported by what runs.
"""

import importlib
from collections.abc import Iterator, Mapping
from typing import Any

import typer.main

# In the order of the help.
_SINGLE = (
    "demo",
    "info",
    "plan",
    "generate",
    "chat",
    "serve",
    "convert",
    "quantize",
    "data",
    "train",
    "finetune",
    "merge",
    "verify",
    "doctor",
    "bench",
    "lm-eval",
)
_GROUPS = ("eval", "graft", "session", "tokenizer")


class CommandTable(Mapping[str, Any]):
    """Commands by name, in the order of the help; to list the names imports nothing."""

    def __getitem__(self, name: str) -> Any:
        if name not in tuple(self):
            raise KeyError(name)
        module = importlib.import_module(f".{name.replace('-', '_')}", __package__)
        holder = typer.Typer(rich_markup_mode="rich")
        if name in _GROUPS:
            holder.add_typer(module.app)
        else:
            context = getattr(module, "CONTEXT", None)  # how its arguments are read, if not as usual
            holder.command(name, epilog=module.EXAMPLE, context_settings=context)(module.command)
        return typer.main.get_group(holder).commands[name]

    def __iter__(self) -> Iterator[str]:
        return iter((*_SINGLE, *_GROUPS))

    def __len__(self) -> int:
        return len(_SINGLE) + len(_GROUPS)
