"""`braid info`: what a model is, from its description alone; weights are not read."""

from collections import Counter
from typing import Annotated, Any

import typer
from rich.table import Table

from .. import describe, embedded
from ..loading import dtype_of, read_kinds, read_spec
from ..presets import PRESETS
from ..rows import Precision
from ..runtime.pack import policy_of
from ..spec import ModelSpec, Moe, attention_of, mixer_kinds
from .common import Json, ModelArgument, amount, out, print_json, size

EXAMPLE = "Example: braid info hymba-1.5b --lengths 1024,32768"


def command(
    model: ModelArgument = "",
    lengths: Annotated[
        str, typer.Option(help="Lengths, in tokens, for which to give the bytes of state.")
    ] = "1024,8192,32768",
    dtype: Annotated[str, typer.Option(help="Dtype of weights and activations: bfloat16 or float32.")] = "bfloat16",
    kv_dtype: Annotated[str | None, typer.Option(help="Format of keys and values.", show_default=False)] = None,
    quantize: Annotated[
        str | None, typer.Option(help="Form of quantized weights: int4, int8 or fp8.", show_default=False)
    ] = None,
    json: Json = False,
) -> None:
    """Describe MODEL: layers, parameters, bytes of weights and of state. Without MODEL, list the presets."""
    if not model:
        _list_presets(json)
        return
    wanted = _lengths(lengths)
    precision = Precision.of(dtype_of(dtype), kv_dtype)
    spec = read_spec(model)
    kinds = read_kinds(model) if quantize is None else policy_of(describe.skeleton(spec), quantize)
    facts = _facts(spec, wanted, precision, kinds)
    if json:
        print_json({"model": model, **facts, "spec": spec.to_json()})
        return
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    for name, value in _lines(spec, facts):
        table.add_row(name, value)
    out.print(table)


def _lengths(text: str) -> list[int]:
    try:
        lengths = [int(part) for part in text.split(",")]
    except ValueError:
        lengths = []
    if not lengths or min(lengths) < 0:
        raise typer.BadParameter("give whole numbers separated by commas, such as 1024,32768", param_hint="--lengths")
    return lengths


def _list_presets(json: bool) -> None:
    found = {name: make() for name, make in PRESETS.items()}
    if json:
        print_json({"embedded": embedded.NAME, "presets": {name: preset.hub for name, preset in found.items()}})
        return
    table = Table("preset", "layers", "parameters", "weights", box=None, padding=(0, 2, 0, 0))
    listed = [(embedded.NAME, read_spec(embedded.NAME), "comes with braidlm")]
    listed += [(name, preset.spec, preset.package or preset.hub) for name, preset in found.items()]
    for name, spec, place in listed:
        kinds = ", ".join(f"{count} {kind}" for kind, count in mixer_kinds(spec.blocks).items())
        table.add_row(name, kinds, amount(describe.size(spec).total), place)
    out.print(table)


def _facts(spec: ModelSpec, lengths: list[int], precision: Precision, kinds: dict[str, str]) -> dict[str, Any]:
    count = describe.size(spec)
    states = {str(n): spec.state_bytes(n, dtype=precision.name, kv_dtype=precision.kv) for n in lengths}
    return {
        "parameters": count.total,
        "active_parameters": count.active,
        "embedding_parameters": count.embedding,
        "weight_bytes": describe.weight_bytes(spec, precision.dtype, kinds),
        "quantized": dict(Counter(kinds.values())),
        "state_bytes": states,
        "dtype": precision.name,
        "kv_dtype": precision.kv,
    }


def _lines(spec: ModelSpec, facts: dict[str, Any]) -> list[tuple[str, str]]:
    kinds = ", ".join(f"{count} {kind}" for kind, count in mixer_kinds(spec.blocks).items())
    lines = [
        ("blocks", f"{len(spec.blocks)}: {kinds}"),
        ("width", str(spec.width)),
        ("vocabulary", f"{spec.vocab}{' (tied to the head)' if spec.tied else ''}"),
    ]
    attention = [a for a in (attention_of(block.mixer) for block in spec.blocks) if a is not None]
    if attention:
        windowed = sum(a.window is not None for a in attention)
        shared = sum(a.kv_from is not None for a in attention)
        text = f"{attention[0].heads} heads, {attention[0].kv_heads} key/value heads of {attention[0].head_dim}"
        text += f", {windowed} of {len(attention)} with a window" if windowed else ""
        lines.append(("attention", text + (f", {shared} share keys and values" if shared else "")))
    experts = next((block.ffn for block in spec.blocks if isinstance(block.ffn, Moe)), None)
    if experts is not None:
        lines.append(("experts", f"{experts.experts}, {experts.top_k} a token"))
    if spec.prefix_tokens:
        lines.append(("learned prefix", f"{spec.prefix_tokens} tokens"))
    lines.append(("declared length", str(spec.max_positions or "unlimited")))
    active = facts["active_parameters"]
    more = f" ({amount(active)} used by a token)" if active != facts["parameters"] else ""
    lines.append(("parameters", amount(facts["parameters"]) + more))
    forms = "".join(f", {count} in {kind}" for kind, count in facts["quantized"].items())
    lines.append((f"weights, {facts['dtype']}{forms}", size(facts["weight_bytes"])))
    for length, count in facts["state_bytes"].items():
        lines.append((f"state at {length} tokens", size(count)))
    return lines
