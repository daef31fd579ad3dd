"""Ladder of the study: layouts that differ in their mixers alone, at several widths, with as many weights each."""

from braidlm.model import footprint
from braidlm.spec import Attention, Block, Mamba2, Mlp, ModelSpec, Norm, Rope

# Blocks from the input on: a = attention, w = attention in a window, m = Mamba-2.
LAYOUTS = {"attention": "aaaa", "window": "wwww", "mamba2": "mmmm", "hybrid": "mmam"}
WIDTHS = (16, 32, 48, 64, 96)
HEAD_DIM = 16
WINDOW = 128
D_STATE = 16


def spec(layout: str, width: int, vocab: int) -> ModelSpec:
    """Model of a layout at a width, a multiple of 16: about 12 width^2 weights a block, whatever its mixer."""
    blocks = tuple(_block(kind, width) for kind in LAYOUTS[layout])
    return ModelSpec(vocab=vocab, width=width, blocks=blocks, norm=Norm(eps=1e-5), tied=True)


def parameters(model: ModelSpec) -> int:
    """Number of parameters, the embedding among them: of small models it is too large a part to be left out.

    Pearce and Song 2024, "Reconciling Kaplan and Chinchilla Scaling Laws".
    """
    return footprint.size(model).total


def _block(kind: str, width: int) -> Block:
    heads = width // HEAD_DIM
    if kind == "m":  # 6 width^2 weights, and those of B and C, by which the feed-forward layer is smaller
        mamba2 = Mamba2(heads=heads, head_dim=2 * HEAD_DIM, d_state=D_STATE)
        return Block(mixer=mamba2, ffn=Mlp(hidden=2 * width - 2 * D_STATE // 3))
    attention = Attention(  # 4 width^2 weights
        heads=heads, kv_heads=heads, head_dim=HEAD_DIM, rope=Rope(base=10_000.0, dims=HEAD_DIM),
        window=WINDOW if kind == "w" else None,
    )  # fmt: skip
    return Block(mixer=attention, ffn=Mlp(hidden=8 * width // 3))
