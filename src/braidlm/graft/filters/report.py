"""Report of a distillation: Hankel singular values by order, errors by layer, as JSON and as tables for people."""

from collections.abc import Mapping
from typing import Any

import torch

from ... import __version__
from .distill import Distilled, Settings

_QUANTILES = {"best": 0.0, "median": 0.5, "p90": 0.9, "p99": 0.99, "worst": 1.0}


def facts(source: str, kind: str, layers: Mapping[str, Distilled], settings: Settings) -> dict[str, Any]:
    """What was done and what it leaves out, as plain JSON data."""
    return {
        "braidlm": __version__,
        "source": source,
        "kind": kind,
        "settings": settings._asdict(),
        "layers": {name: _facts(layer) for name, layer in layers.items()},
    }


def _facts(layer: Distilled) -> dict[str, Any]:
    modes, values_FK = layer.modes, layer.values_FK
    relative_FK = values_FK / values_FK[:, :1].clamp(min=torch.finfo(torch.float64).tiny)
    relative_F = modes.relative_F
    return {
        "filters": len(relative_F),
        "length": layer.length,
        "order": modes.poles_FM.shape[1],
        "largest_pole": float(modes.poles_FM.abs().max()),
        "error": float(modes.error_F.norm() / modes.norm_F.norm().clamp(min=torch.finfo(torch.float64).tiny)),
        "errors": {name: float(relative_F.quantile(part)) for name, part in _QUANTILES.items()},
        "error_of_each_filter": relative_F.tolist(),
        "singular_values": {
            name: relative_FK.quantile(part, dim=0).tolist() for name, part in _QUANTILES.items() if name != "p99"
        },
    }


def card(found: Mapping[str, Any], title: str) -> str:
    """Model card in Markdown: what the model was made of, what its filters lost, how to use it."""
    heads, rows = error_rows(found)
    table = "\n".join(f"| {' | '.join(cells)} |" for cells in (heads, ["---"] * len(heads), *rows))
    return (
        f"# {title}\n\nLong convolutions of {found['source']} ({found['kind']}) as recurrences, made with braidlm "
        f"{found['braidlm']}.\n\nRelative errors of a layer, and of its filters:\n\n{table}\n\n"
        '## Use\n\nIn this directory:\n\n```sh\nbraid generate . "Once upon a time"\n```\n'
    )


def hankel_rows(found: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Heads and rows of a table: what the states beyond an order would add, by layer (the worst filter's)."""
    most = max(len(layer["singular_values"]["worst"]) for layer in found["layers"].values())
    states = 2 if not found["settings"]["real"] else 1
    orders = [order for order in (1, 2, 4, 8, 16, 32, 64, 128) if states * order < most]
    rows = []
    for name, layer in found["layers"].items():
        values = layer["singular_values"]["worst"]
        cells = [f"{values[states * order]:.1e}" if states * order < len(values) else "" for order in orders]
        rows.append([name, *cells])
    return ["layer", *map(str, orders)], rows


def error_rows(found: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Heads and rows of a table: order and errors of each layer."""
    rows = [
        [name, str(layer["filters"]), str(layer["length"]), str(layer["order"]), f"{layer['error']:.1e}"]
        + [f"{layer['errors'][part]:.1e}" for part in ("median", "p90", "p99", "worst")]
        + [f"{layer['largest_pole']:.6f}"]
        for name, layer in found["layers"].items()
    ]
    heads = ["layer", "filters", "positions", "order", "error", "median", "90%", "99%", "worst", "largest pole"]
    return heads, rows
