"""Hymba's cache beside Llama-3.2-3B's: 79 and 918 MB, 11.67 times less, at 8k tokens in FP16."""

import argparse

from braidlm.families.presets import preset
from braidlm.spec import ModelSpec, attention_of
from braidlm.spec.state import PAGE_TOKENS

from .cache_bytes import HELD_TOKENS, MB, PAPER_TOKENS, PARTS, cache_of, held
from .claim import Claim, Found, Row, Table
from .progress import Progress

_MODELS = {"Hymba-1.5B": "hymba-1.5b", "Llama-3.2-3B": "llama-3.2-3b"}
_PUBLISHED = "79 and 918 MB, 11.67x"


def find(given: argparse.Namespace, progress: Progress) -> Found:
    """Bytes of each part of both caches, counted both ways."""
    found = {}
    for name, of in _MODELS.items():
        spec = preset(of).spec
        cache = cache_of(spec)
        held_bytes = spec.state_bytes(HELD_TOKENS, dtype="float16")
        found[name] = {"counted": cache.counted(), "terms": cache.terms, "held": held(spec), "held_bytes": held_bytes}
        found[name]["windows"] = {"layers": cache.windows, "owners": _owners(spec)}
    return found


def _owners(spec: ModelSpec) -> int:
    """Number of layers with a window that own keys and values; the others use those of an earlier one."""
    attentions = [attention_of(block.mixer) for block in spec.blocks]
    return sum(part is not None and part.window is not None and part.kv_from is None for part in attentions)


def _totals(found: Found, way: str) -> tuple[float, float]:
    hymba, llama = (sum(found[name][way].values()) for name in _MODELS)
    return hymba, llama


def _ours(totals: tuple[float, float]) -> str:
    return f"{totals[0] / MB:.1f} and {totals[1] / MB:.1f} MB, {totals[1] / totals[0]:.2f}x"


def rows(found: Found) -> list[Row]:
    """What braidlm holds, and the paper's own count."""
    hymba = found["Hymba-1.5B"]
    more = {part: (hymba["held"][part] - hymba["counted"][part]) / MB for part in PARTS}
    windows = hymba["windows"]
    reasons = {
        PARTS[0]: f"{HELD_TOKENS - PAPER_TOKENS} more tokens",
        PARTS[1]: f"windows end at pages of {PAGE_TOKENS} tokens; {windows['owners']} layers own keys and values, "
        f"where {windows['layers']} / 2 are counted",
        PARTS[2]: "layers with a window hold meta tokens too",
        PARTS[3]: "states of scans are float32",
        PARTS[4]: "tails of convolutions are held",
    }
    why = "; ".join(f"{more[part]:+.1f} MB: {reason}" for part, reason in reasons.items())
    way = f"{HELD_TOKENS:,} tokens, float16: what `state_bytes` says, and a state's `nbytes` is"
    counted = f"{PAPER_TOKENS:,} tokens, two bytes a number, counted as the table below says"
    return [
        Row(_PUBLISHED, _ours(_totals(found, "held")), way, f"{why} (Hymba)"),
        Row(_PUBLISHED, _ours(_totals(found, "counted")), counted, "the same"),
    ]


def tables(found: Found) -> list[Table]:
    """Arithmetic of both caches."""
    lines = []
    for name in _MODELS:
        item = found[name]
        for part in PARTS:
            counted, kept = item["counted"][part], item["held"][part]
            if counted or kept:
                term = item["terms"][part] if counted else "not counted"
                lines.append([name, part, term, f"{counted / MB:.2f}", f"{kept / MB:.2f}"])
        total, kept = sum(item["counted"].values()), sum(item["held"].values())
        lines.append([name, "all", "", f"{total / MB:.2f}", f"{kept / MB:.2f}"])
    heads = ["model", "part", "the published count", "MB", "held by braidlm, MB"]
    return [Table("The arithmetic", heads, lines)]


CLAIM = Claim(
    name="hymba-cache",
    title="Hymba-1.5B: a cache 11.67 times smaller than Llama-3.2-3B's",
    source="Dong et al. 2024, [arXiv:2411.13676](https://arxiv.org/abs/2411.13676), abstract and Table 2; cache at 8k "
    "tokens, FP16",
    find=find,
    rows=rows,
    tables=tables,
)
