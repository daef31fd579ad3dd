"""Summary of a spec in a few lines, for people."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from .feed_forward import Moe
from .mixers import attention_of

if TYPE_CHECKING:
    from .model import Block, ModelSpec


def lines(spec: "ModelSpec") -> list[tuple[str, str]]:
    """Summary of a spec as (name, value) pairs: blocks, width, vocabulary, attention, experts, lengths."""
    kinds = ", ".join(f"{count} {kind}" for kind, count in mixer_kinds(spec.blocks).items())
    found = [
        ("blocks", f"{len(spec.blocks)}: {kinds}"),
        ("width", str(spec.width)),
        ("vocabulary", f"{spec.vocab}{' (tied to the head)' if spec.tied else ''}"),
    ]
    found += [("attention", text) for text in _attention(spec)]
    experts = next((block.ffn for block in spec.blocks if isinstance(block.ffn, Moe)), None)
    if experts is not None:
        found.append(("experts", f"{experts.experts}, {experts.top_k} a token"))
    if spec.meta_tokens:
        found.append(("meta tokens", f"{spec.meta_tokens}"))
    return [*found, ("declared length", str(spec.max_positions or "unlimited"))]


def mixer_kinds(blocks: "Iterable[Block]") -> dict[str, int]:
    """Number of blocks of each kind of mixer, in order of first use."""
    counts: dict[str, int] = {}
    for block in blocks:
        name = type(block.mixer).__name__
        counts[name] = counts.get(name, 0) + 1
    return counts


def _attention(spec: "ModelSpec") -> list[str]:
    """Summary of all attention in one line, if there is any."""
    attention = [a for a in (attention_of(block.mixer) for block in spec.blocks) if a is not None]
    if not attention:
        return []
    windowed = sum(a.window is not None for a in attention)
    shared = sum(a.kv_from is not None for a in attention)
    text = f"{attention[0].heads} heads, {attention[0].kv_heads} key/value heads of {attention[0].head_dim}"
    text += f", {windowed} of {len(attention)} with a window" if windowed else ""
    return [text + (f", {shared} share keys and values" if shared else "")]
