"""Small models written out by hand: every kind of mixer alone, and all of them in one."""

from functools import cache

import torch
from torch import Tensor

import braidlm
from braidlm.api.language_model import LanguageModel
from braidlm.spec import Attention, Block, Hyena, Mamba, Mamba2, Mixer, Mlp, ModelSpec, Moe, Norm, Parallel, Rope
from braidlm.state.batch import BatchState
from braidlm.state.sequence import SequenceState

WIDTH, VOCAB = 16, 50

FULL = Attention(heads=4, kv_heads=2, head_dim=4, value_dim=6, rope=Rope(base=1e4, dims=2), qkv_bias=True)
PLAIN = Attention(heads=2, kv_heads=2, head_dim=8, out_bias=True)
MAMBA = Mamba(inner=24, d_state=3, dt_rank=2, conv=2, inner_norms=True)
MAMBA2 = Mamba2(heads=4, head_dim=6, d_state=3, groups=2, conv=3, dt_min=0.01, dt_max=0.9)
HYENA = Hyena(d_state=2, filters=4, conv=3, heads=2)


def windowed(window: int, sink_tokens: int = 0, kv_from: int | None = None) -> Attention:
    rope = Rope(base=1e4, dims=4)
    return Attention(
        heads=4, kv_heads=2, head_dim=4, rope=rope, window=window, sink_tokens=sink_tokens, kv_from=kv_from
    )


def spec(*mixers: Mixer, meta_tokens: int = 0, moe: bool = False) -> ModelSpec:
    ffn = Moe(experts=3, top_k=2, hidden=8, shared=Mlp(hidden=8, bias=True)) if moe else None
    blocks = tuple(Block(mixer=mixer, ffn=ffn, residual_scale=0.7) for mixer in mixers)
    return ModelSpec(vocab=VOCAB, width=WIDTH, blocks=blocks, norm=Norm(eps=1e-5), meta_tokens=meta_tokens)


KINDS: dict[str, ModelSpec] = {
    "attention": spec(FULL, PLAIN),
    "window of one": spec(windowed(1), PLAIN),
    "window": spec(windowed(5), windowed(127)),
    "window and sinks": spec(windowed(5, 3), windowed(2, 130)),
    "shared keys": spec(windowed(9, 2), windowed(5, 1, kv_from=0), PLAIN, windowed(9, kv_from=0)),
    "mamba": spec(MAMBA, MAMBA),
    "mamba2": spec(MAMBA2, MAMBA2),
    "hyena": spec(HYENA, Hyena(d_state=3, filters=16, conv=2)),
    "parallel, mamba": spec(Parallel(attention=FULL, ssm=MAMBA)),
    "parallel, mamba2": spec(Parallel(attention=FULL, ssm=MAMBA2)),
    "parallel, summed": spec(Parallel(attention=FULL, ssm=MAMBA2, combine="sum")),
    "everything": spec(
        HYENA, windowed(9, 3), MAMBA2, windowed(4, kv_from=1), FULL, MAMBA, Parallel(attention=FULL, ssm=MAMBA2),
        meta_tokens=3, moe=True,
    ),
}  # fmt: skip


def fresh(kind: str, dtype: str = "float64", seed: int = 0) -> LanguageModel:
    """A model whose biases, gains and skips are not the zeros and ones that new models start with."""
    model = braidlm.build(KINDS[kind], seed=seed, dtype=dtype)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.network.named_parameters():
            if parameter.dim() == 1 and not name.endswith("dt_bias"):
                parameter.add_(torch.randn(parameter.shape, generator=generator) / 4)
    return model


build = cache(fresh)


def tokens(length: int, seed: int = 0) -> Tensor:
    return torch.randint(VOCAB, (length,), generator=torch.Generator().manual_seed(seed))


def error(found: Tensor, expected: Tensor) -> float:
    """The largest difference over the largest number expected; infinite where there is NaN."""
    if not expected.numel():
        return 0.0 if found.shape == expected.shape else float("inf")
    scale = expected.abs().max().double().clamp_min(torch.finfo(torch.float64).tiny)
    return float(((found - expected).abs().max() / scale).nan_to_num(nan=float("inf")))


def tensors_of(row: SequenceState) -> dict[str, Tensor]:
    """Everything that a row holds, page by page, by name."""
    found: dict[str, Tensor] = {}
    for i, layer in enumerate(row.layers):
        found |= {f"{i}.{name}": tensor for name, tensor in layer.recurrent.items()}
        for page in layer.kv.pages if layer.kv else ():
            parts = {"k": page.k.data, "v": page.v.data, "k_scale": page.k.scale, "v_scale": page.v.scale}
            found |= {f"{i}.{page.start}.{name}": tensor for name, tensor in parts.items() if tensor is not None}
    return found


def bits(state: BatchState) -> list[tuple[int, dict[str, tuple[str, bytes]]]]:
    """Lengths and every number of every row, as dtype, shape and bytes (fp8 knows no comparison)."""
    return [(row.length, {name: _bits(t) for name, t in tensors_of(row).items()}) for row in state.sequences]


def _bits(t: Tensor) -> tuple[str, bytes]:
    plain = torch.view_as_real(t) if t.is_complex() else t
    return f"{t.dtype} {tuple(t.shape)}", plain.contiguous().view(torch.uint8).numpy().tobytes()


def difference(one: BatchState, other: BatchState) -> float:
    """The largest relative error of any tensor of two states that hold the same slots."""
    pairs = [(tensors_of(a), tensors_of(b)) for a, b in zip(one.sequences, other.sequences, strict=True)]
    assert one.lengths == other.lengths
    assert all(a.keys() == b.keys() for a, b in pairs)
    return max((error(a[name], b[name]) for a, b in pairs for name in a), default=0.0)


def memory(*states: BatchState) -> int:
    """Bytes of all distinct storages that the rows of these states keep alive."""
    tensors = [tensor for state in states for row in state.sequences for tensor in tensors_of(row).values()]
    storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}
    return sum(storages.values())
