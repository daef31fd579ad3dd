"""Bytes that a sequence holds: as braidlm holds them, part by part, and as Hymba's paper counts them.

The tables' captions say that a cache is that of 8k tokens in FP16. The count below gives their figures, of the 300M
designs and of Hymba-1.5B, to the last digit, so it is taken to be the paper's: 8,000 tokens and two bytes for every
number; a layer with a window holds the window alone; where layers with windows share keys and values, half of all of
them hold some, also where their number is odd; meta tokens stand in the layers that see all tokens; states of scans are
there, the tails of convolutions not (but where there is no attention).
"""

from dataclasses import dataclass

from braidlm.spec import ModelSpec, attention_of
from braidlm.spec.state import FullKV, RecurrentState, WindowKV

PAPER_TOKENS, HELD_TOKENS = 8000, 8192
MB = 1e6
_TAIL = "conv"
PARTS = (
    "layers that see all tokens",
    "layers with a window",
    "meta tokens",
    "states of scans",
    "tails of convolutions",
)


@dataclass(frozen=True, kw_only=True)
class Cache:
    """What a design's cache consists of: numbers of layers, and numbers (K and V) of a token in a layer."""

    full: int = 0
    windows: int = 0
    window: int = 0
    numbers: int = 0
    shared: bool = False
    meta: int = 0
    scans: int = 0
    tails: int = 0

    def counted(self, *, tails: bool = False) -> dict[str, float]:
        """Bytes of each of `PARTS` by the paper's count (see the module)."""
        share = 0.5 if self.shared else 1.0
        windows = share * self.windows * self.window
        counts = (self.full * PAPER_TOKENS * self.numbers, windows * self.numbers, self.full * self.meta * self.numbers)
        return dict(zip(PARTS, (2.0 * count for count in (*counts, self.scans, self.tails * tails)), strict=True))

    @property
    def terms(self) -> dict[str, str]:
        """Arithmetic of each of `PARTS` by the paper's count, for people."""
        half = " / 2 that share" if self.shared else ""
        return {
            PARTS[0]: f"{self.full} layers x {PAPER_TOKENS:,} tokens x {self.numbers:,} x 2 B",
            PARTS[1]: f"{self.windows} layers{half} x {self.window:,} tokens x {self.numbers:,} x 2 B",
            PARTS[2]: f"{self.full} layers x {self.meta} tokens x {self.numbers:,} x 2 B",
            PARTS[3]: f"{self.scans:,} of scans x 2 B",
            PARTS[4]: f"{self.tails:,} of tails x 2 B",
        }


def cache_of(spec: ModelSpec) -> Cache:
    """What the cache of a model consists of; its layers of attention are of one size."""
    attentions = [part for block in spec.blocks if (part := attention_of(block.mixer)) is not None]
    recurrent = [state for states in spec.state_specs for state in states if isinstance(state, RecurrentState)]
    sizes = {state.name: 0 for state in recurrent} | {"ssm": 0, _TAIL: 0}
    for state in recurrent:
        sizes[state.name] += state.nbytes(0, "float16", "float16") // (2 if state.dtype == "activation" else 4)
    return Cache(
        full=sum(part.window is None for part in attentions),
        windows=sum(part.window is not None for part in attentions),
        window=max((part.window or 0 for part in attentions), default=0),
        numbers=max((part.kv_heads * (part.head_dim + part.v_dim) for part in attentions), default=0),
        shared=any(part.kv_from is not None for part in attentions),
        meta=spec.meta_tokens,
        scans=sizes["ssm"],
        tails=sizes[_TAIL],
    )


def held(spec: ModelSpec, tokens: int = HELD_TOKENS) -> dict[str, int]:
    """Bytes of each of `PARTS` as braidlm holds them after `tokens` tokens in float16; their sum is `state_bytes`."""
    parts = dict.fromkeys(PARTS, 0)
    positions = spec.meta_tokens + tokens
    for states in spec.state_specs:
        for state in states:
            nbytes = state.nbytes(positions, "float16", "float16")
            match state:
                case FullKV():
                    meta = state.nbytes(spec.meta_tokens, "float16", "float16")
                    parts[PARTS[0]] += nbytes - meta
                    parts[PARTS[2]] += meta
                case WindowKV():
                    meta = state.nbytes(min(state.sink_tokens, spec.meta_tokens), "float16", "float16")
                    parts[PARTS[1]] += nbytes - meta
                    parts[PARTS[2]] += meta
                case RecurrentState(name=name):
                    parts[PARTS[4] if name == _TAIL else PARTS[3]] += nbytes
    return parts
