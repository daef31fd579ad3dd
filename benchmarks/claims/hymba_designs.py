"""Hymba's table of designs: the cache of every design, and the shapes that give the published bytes.

The table says neither widths nor numbers of layers of its 300M designs. Those below are fitted to its bytes: with 12
layers of width 1,024 (scans of 2,048 channels and 16 states, 4 heads of keys and values, 64 numbers a key and 128 a
value, a window of 256), 24 layers of scans alone, and 15 heads of 72 for attention alone, all thirteen figures come out
to the last digit. The feed-forward layers are as wide as 300 million parameters make them; they hold no cache.
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass, replace

from braidlm.model import footprint
from braidlm.spec import Attention, Block, Mamba, Mixer, Mlp, ModelSpec, Norm, Parallel, Rope

from .cache_bytes import HELD_TOKENS, MB, Cache, cache_of
from .claim import Claim, Found, Row
from .progress import Progress

PARAMETERS = 300e6
_VOCAB, _LAYERS, _WIDTH, _WINDOW, _META = 32001, 12, 1024, 256, 128
_LLAMA_HEADS, _LLAMA_HEAD = 15, 72
_GLOBAL = (0, 5, 11)
# Layers that use the keys and values of an earlier one, by its index; three together where a run of layers is odd.
_OWNERS = {2: 1, 4: 3, 7: 6, 9: 8, 10: 8}


@dataclass(frozen=True, kw_only=True)
class Design:
    """Line of the published table. `build` makes its model, where braidlm has such layers."""

    name: str
    megabytes: float
    tokens_per_second: float
    cache: Cache
    build: Callable[[], ModelSpec] | None = None

    @property
    def counts_tails(self) -> bool:
        """Whether the paper counts tails of convolutions: in models without attention."""
        return self.cache.numbers == 0


def _model(width: int, mixers: list[Mixer], meta: int = 0) -> ModelSpec:
    """A model with these mixers, whose feed-forward layers make it one of `PARAMETERS`."""

    def with_hidden(hidden: int) -> ModelSpec:
        blocks = tuple(Block(mixer=mixer, ffn=Mlp(hidden=hidden)) for mixer in mixers)
        norm = Norm(eps=1e-6)
        return ModelSpec(vocab=_VOCAB, width=width, blocks=blocks, norm=norm, tied=True, meta_tokens=meta)

    few, more = (footprint.size(with_hidden(hidden)).total for hidden in (64, 128))
    return with_hidden(64 * max(1, round(1 + (PARAMETERS - few) / (more - few))))


def _windowed(layer: int, attention: Attention, *, full: tuple[int, ...], shared: bool, meta: int) -> Attention:
    if layer in full:
        return attention
    owner = _OWNERS.get(layer) if shared else None
    return replace(attention, window=_WINDOW, sink_tokens=meta, kv_from=owner)


def _parallel(full: tuple[int, ...] = tuple(range(_LAYERS)), shared: bool = False, meta: int = 0) -> ModelSpec:
    """Attention and scan in parallel; layers outside `full` have a window."""
    attention = Attention(heads=16, kv_heads=4, head_dim=64, value_dim=128, rope=Rope(base=10000.0, dims=64))
    scan = Mamba(inner=2048, d_state=16, dt_rank=64, inner_norms=True)
    mixers: list[Mixer] = [
        Parallel(attention=_windowed(layer, attention, full=full, shared=shared, meta=meta), ssm=scan)
        for layer in range(_LAYERS)
    ]
    return _model(_WIDTH, mixers, meta)


def _mamba() -> ModelSpec:
    return _model(_WIDTH, [Mamba(inner=2048, d_state=16, dt_rank=64)] * 24)


def _llama() -> ModelSpec:
    heads, size = _LLAMA_HEADS, _LLAMA_HEAD
    attention = Attention(heads=heads, kv_heads=heads, head_dim=size, rope=Rope(base=10000.0, dims=size))
    return _model(heads * size, [attention] * _LAYERS)


def _small_llama() -> ModelSpec:
    attention = Attention(heads=16, kv_heads=4, head_dim=72, rope=Rope(base=10000.0, dims=72))
    mixers: list[Mixer] = [_windowed(layer, attention, full=_GLOBAL, shared=True, meta=0) for layer in range(_LAYERS)]
    return _model(1152, mixers)


def _heads(count: int) -> Cache:
    """Cache of scans beside `count` heads of attention of 64 numbers a key and 64 a value."""
    return Cache(full=_LAYERS, numbers=128 * count, scans=_LAYERS * 2048 * 16, tails=_LAYERS * 2048 * 3)


def designs() -> list[Design]:
    """Lines of the published table, in its order."""

    def line(name: str, megabytes: float, speed: float, build: Callable[[], ModelSpec]) -> Design:
        cache = cache_of(build())
        return Design(name=name, megabytes=megabytes, tokens_per_second=speed, cache=cache, build=build)

    def cached(name: str, megabytes: float, speed: float, cache: Cache) -> Design:
        return Design(name=name, megabytes=megabytes, tokens_per_second=speed, cache=cache)

    shared = cache_of(_parallel(_GLOBAL, shared=True))
    return [
        line("1) Mamba heads only", 1.87, 4720.8, _mamba),
        cached("2) Mamba and 4 attention heads", 99.09, 3278.1, _heads(4)),
        cached("3) Mamba and 8 attention heads", 197.39, 1816.5, _heads(8)),
        cached("4) Mamba and 16 attention heads", 394.00, 656.6, _heads(16)),
        line("5) 4) with grouped queries", 148.24, 876.7, _parallel),
        line("6) attention heads only (Llama)", 414.72, 721.1, _llama),
        line("7) 5) with windows everywhere", 5.51, 4485.09, lambda: _parallel(())),
        line("8) 5) with windows and full attention", 41.19, 2399.7, lambda: _parallel(_GLOBAL)),
        line("9) 8) with shared keys and values", 39.42, 2756.5, lambda: _parallel(_GLOBAL, shared=True)),
        line("10) 6) compressed as 9)", 28.98, 3710.0, _small_llama),
        cached("11) 9) joined by concatenation", 39.42, 1413.9, shared),
        cached("12) 1) with meta tokens", 1.87, 4712.8, cache_of(_mamba())),
        line("13) 9) with meta tokens", 40.01, 2695.8, lambda: _parallel(_GLOBAL, shared=True, meta=_META)),
    ]


def find(given: argparse.Namespace, progress: Progress) -> Found:
    """Bytes of every design: by the paper's count, and as braidlm holds them."""
    found: Found = {}
    for design in designs():
        spec = design.build() if design.build else None
        counted = design.cache.counted(tails=design.counts_tails)
        found[design.name] = {
            "published_mb": design.megabytes,
            "counted": sum(counted.values()),
            "terms": [term for part, term in design.cache.terms.items() if counted[part]],
            "held": spec.state_bytes(HELD_TOKENS, dtype="float16") if spec else None,
        }
    return found


def rows(found: Found) -> list[Row]:
    """A row for every design."""
    made = []
    for name, item in found.items():
        published, ours = (f"{number:.2f} MB" for number in (item["published_mb"], item["counted"] / MB))
        why = "the same" if ours == published else "not known"
        if item["held"]:
            why += f"; braidlm holds {item['held'] / MB:.2f} MB, for the reasons named above for Hymba-1.5B"
        made.append(Row(f"{name}: {published}", ours, " + ".join(item["terms"]), why))
    return made


CLAIM = Claim(
    name="hymba-designs",
    title="Hymba's table of designs: the cache of each",
    source="Dong et al. 2024, [arXiv:2411.13676](https://arxiv.org/abs/2411.13676), table of designs (Table 1, design "
    "roadmap) in its thirteen lines: 300M parameters, cache at 8k tokens in FP16. The table has no shapes; those here "
    f"({_LAYERS} layers of width {_WIDTH:,}, for Llama {_LLAMA_HEADS} heads of {_LLAMA_HEAD}) are fitted to the "
    "thirteen figures: what agrees is the count",
    find=find,
    rows=rows,
)
