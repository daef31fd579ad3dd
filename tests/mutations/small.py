"""A small hybrid with its tokenizer and chat template, which the harness writes in every format."""

import json
from pathlib import Path

import tokenizers
import torch
from tokenizers import AddedToken, decoders, models, pre_tokenizers

import braidlm
from braidlm.api.language_model import LanguageModel
from braidlm.checkpoints.saving import Origin
from braidlm.spec import Attention, Block, Mamba2, Mlp, ModelSpec, Norm, Rope
from braidlm.text.tokenizer import Settings, Tokenizer

from .kind import digest

TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content | trim }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
CHAT = [{"role": "user", "content": "hello <b> & 'you' "}]
_MERGES = [("h", "e"), ("l", "l"), ("he", "ll"), ("hell", "o"), ("Ġ", "a")]


def tokenizer() -> Tokenizer:
    """Byte-level BPE with five merges."""
    tokens = sorted(pre_tokenizers.ByteLevel.alphabet()) + ["".join(pair) for pair in _MERGES]
    backend = tokenizers.Tokenizer(models.BPE({token: i for i, token in enumerate(tokens)}, _MERGES))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    control = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
    backend.add_tokens([AddedToken(text, special=True, normalized=False) for text in control])
    return Tokenizer(backend, Settings({"eos_token": "<|im_end|>"}, TEMPLATE))


def model() -> LanguageModel:
    """Mamba-2, attention, Mamba-2: what Granite's format and GGUF can both say."""
    text = tokenizer()
    rope = Rope(base=10000.0, dims=8)
    mixers = (
        Mamba2(heads=4, head_dim=16, d_state=8),
        Attention(heads=4, kv_heads=2, head_dim=8, rope=rope, scale=0.3),
        Mamba2(heads=4, head_dim=16, d_state=8),
    )
    spec = ModelSpec(
        vocab=text.vocab_size,
        width=32,
        blocks=tuple(Block(mixer=mixer, ffn=Mlp(hidden=48)) for mixer in mixers),
        norm=Norm(eps=1e-5),
    )
    built = braidlm.build(spec, seed=1)
    return LanguageModel(built.network, text, Origin(), ops="reference")


def use(path: Path) -> str:
    """What a user does with a model: load it, run it, write with it, chat with it."""
    found = braidlm.load(path, ops="reference")
    with torch.inference_mode():
        logits = found.forward([[1, 2, 3, 4, 5], [9, 8]])
        vocab = found.spec.vocab
        written = found.generate([3, 4, 5], max_tokens=3) if found.tokenizer else ""
    parts: list[object] = [vocab, *logits, written, found.origin.ends]
    if found.tokenizer is not None:
        parts += use_tokenizer(found.tokenizer)
    return digest(*parts)


def use_tokenizer(found: Tokenizer) -> list[object]:
    """Ids of texts and texts of ids, a stream, a chat."""
    ids = found.encode("hello all\u00e9 \U0001f600\n<|im_end|>")
    parts: list[object] = [found.vocab_size, found.eos_ids, found.bos_id, ids, found.decode(ids)]
    parts += [found.encode("a <|im_start|> hello", special=False), found.decode(ids, skip_special=False)]
    stream = found.stream()
    parts += ["".join(stream.push(i) for i in ids) + stream.flush()]
    if found.chat_template is not None:
        parts += [found.template_variables, found.render(CHAT), found.encode_marked(found.render_marked(CHAT))]
    return parts


def write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value), encoding="utf-8")
