"""Granite 4.0 Tiny's memory: how much less than Granite 3.3 2B's, by concurrent sessions; and how many fit in what."""

import argparse

import torch

from braidlm.families.presets import preset
from braidlm.model import footprint
from braidlm.quant.policy import policy_of
from braidlm.spec import ModelSpec

from .claim import Claim, Found, Row, Table
from .progress import Progress

TOKENS = 131072
PUBLISHED = 0.72
SESSIONS = range(1, 17)
_MODELS = {"tiny": "granite-4.0-tiny-preview", "other": "granite-3.3-2b"}
# Weights (None: bfloat16) and keys and values; the first is the one that the announcement names.
_PRECISIONS: dict[str, tuple[str | None, str]] = {
    "weights fp8, keys and values bfloat16": ("fp8", "bfloat16"),
    "weights and keys and values fp8": ("fp8", "fp8"),
    "weights and keys and values bfloat16": (None, "bfloat16"),
}
_SMALLEST: tuple[str | None, str] = ("int4", "fp8")
_MEMORIES = (8, 12, 16, 24, 32)  # GiB


def _bytes(spec: ModelSpec, weights: str | None, kv_dtype: str) -> dict[str, int]:
    kinds = policy_of(footprint.skeleton(spec), weights) if weights else {}
    return {
        "weights": footprint.weight_bytes(spec, torch.bfloat16, kinds),
        "session": spec.state_bytes(TOKENS, dtype="bfloat16", kv_dtype=kv_dtype),
    }


def find(given: argparse.Namespace, progress: Progress) -> Found:
    """Bytes of weights and of one session of each model, by precision."""
    specs = {side: preset(name).spec for side, name in _MODELS.items()}
    precisions = _PRECISIONS | {"weights int4, keys and values fp8": _SMALLEST}
    return {name: {side: _bytes(spec, *how) for side, spec in specs.items()} for name, how in precisions.items()}


def reduction(found: dict[str, dict[str, int]], sessions: int) -> float:
    """Share of memory that is saved with so many sessions."""
    tiny, other = (found[side]["weights"] + sessions * found[side]["session"] for side in ("tiny", "other"))
    return 1 - tiny / other


def fitting(found: dict[str, int], memory: float) -> int:
    """Number of sessions that fit beside the weights into a memory, in bytes."""
    return max(0, int((memory - found["weights"]) // found["session"]))


def rows(found: Found) -> list[Row]:
    """The reduction in each precision, and sessions on a consumer machine."""
    made = []
    for name in _PRECISIONS:
        item = found[name]
        passed = next(n for n in SESSIONS if reduction(item, n) >= PUBLISHED)
        shares = ", ".join(f"{reduction(item, n):.1%} with {n}" for n in (1, passed - 1, passed, SESSIONS[-1]))
        published = f"roughly {PUBLISHED:.0%} less memory than Granite 3.3 2B Instruct"
        ours = f"{PUBLISHED:.0%} is passed at {passed} sessions: {shares}"
        why = "a claim about concurrent sessions: with one, the weights decide, of which Tiny has more"
        made.append(Row(published, ours, f"{name}; sessions of {TOKENS:,} tokens; weights and states alone", why))
    for name in ("weights and keys and values fp8", "weights int4, keys and values fp8"):
        tiny = found[name]["tiny"]
        published = "at FP8 several concurrent sessions of 128K on consumer hardware"
        ours = ", ".join(f"{fitting(tiny, memory * 2**30)} in {memory} GiB" for memory in _MEMORIES)
        sizes = f"weights {tiny['weights'] / 1e9:.2f} GB, a session {tiny['session'] / 1e9:.3f} GB"
        why = "the process and its activations come on top"
        made.append(Row(published, ours, f"{name}: {sizes}", why))
    return made


def tables(found: Found) -> list[Table]:
    """The curve from 1 to 16 sessions."""
    lines = [[str(n), *(f"{reduction(found[name], n):.1%}" for name in _PRECISIONS)] for n in SESSIONS]
    return [Table(f"Memory saved, by sessions of {TOKENS:,} tokens", ["sessions", *_PRECISIONS], lines)]


CLAIM = Claim(
    name="granite-sessions",
    title="Granite 4.0 Tiny Preview: 72% less memory, and several sessions of 128K on a consumer machine",
    source="[IBM, 2 May 2025](https://www.ibm.com/new/announcements/ibm-granite-4-0-tiny-preview-sneak-peek)",
    find=find,
    rows=rows,
    tables=tables,
)
