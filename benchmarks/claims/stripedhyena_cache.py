"""StripedHyena's cache: half of what an equally large transformer with grouped queries holds."""

import argparse

from braidlm.families.presets import preset
from braidlm.model import footprint
from braidlm.spec import attention_of
from braidlm.spec.state import RecurrentState

from .cache_bytes import MB
from .claim import Claim, Found, Row, Table
from .progress import Progress

LENGTHS = (2048, 8192, 32768, 131072)
_DTYPE = "bfloat16"


def find(given: argparse.Namespace, progress: Progress) -> Found:
    """Bytes of both at each length, and those of the Hyena layers' states."""
    spec = preset("stripedhyena-7b").spec
    token = footprint.transformer_bytes_per_token(spec, _DTYPE)
    states = [state for layer in spec.state_specs for state in layer if isinstance(state, RecurrentState)]
    return {
        "layers": len(spec.blocks),
        "attention_layers": sum(attention_of(block.mixer) is not None for block in spec.blocks),
        "states": sum(state.nbytes(0, _DTYPE, _DTYPE) for state in states),
        "lengths": {str(n): [spec.state_bytes(n, dtype=_DTYPE), int(token * n)] for n in LENGTHS},
    }


def _smaller(hybrid: int, transformer: int) -> str:
    return f"{1 - hybrid / transformer:.2%}"


def rows(found: Found) -> list[Row]:
    """A row for each of the two announcements."""
    lengths = found["lengths"]
    first, last = LENGTHS[0], LENGTHS[-1]
    ours = f"{_smaller(*lengths[str(first)])} smaller at {first:,} tokens, {_smaller(*lengths[str(last)])} at {last:,}"
    layers, attention = found["layers"], found["attention_layers"]
    conditions = f"bfloat16; the transformer has attention of the same grouped queries in all {layers} layers"
    why = (
        f"{attention} of {layers} layers hold keys and values, which is {attention / layers:.0%}; the states of the "
        f"others add {found['states'] / MB:.2f} MB at any length, so that a little less than "
        f"{1 - attention / layers:.0%} is saved"
    )
    return [
        Row("more than 50% smaller (Together)", ours, conditions, why),
        Row("50% smaller (hessian.AI)", ours, conditions, why),
    ]


def tables(found: Found) -> list[Table]:
    """Bytes by length."""
    lines = [
        [f"{int(n):,}", f"{hybrid / MB:.2f}", f"{other / MB:.2f}", _smaller(hybrid, other)]
        for n, (hybrid, other) in found["lengths"].items()
    ]
    return [Table("By length", ["tokens", "StripedHyena-7B, MB", "transformer, MB", "smaller"], lines)]


CLAIM = Claim(
    name="stripedhyena-cache",
    title="StripedHyena-7B: a cache of half the size",
    source="[Together, 8 December 2023](https://www.together.ai/blog/stripedhyena-7b) and "
    "[hessian.AI](https://hessian.ai/architectures-for-longer-sequences-and-efficient-inference-stripedhyena/): caches "
    "for autoregressive generation beside an equally large transformer with grouped-query attention",
    find=find,
    rows=rows,
    tables=tables,
)
