"""Models for tests of recall: one that recalls by construction, and a small vocabulary of words."""

import math
from typing import Any

import tokenizers
import torch

import braidlm
from braidlm.api.language_model import LanguageModel
from braidlm.eval import words
from braidlm.spec import Attention, Block, ModelSpec, Norm
from braidlm.text.tokenizer import Settings, Tokenizer

SHARPNESS = 48.0  # score of a match; chance overlaps of codes score a few sixteenths of it


def induction_model(vocab: int, code: int = 128, *, window: int | None = None, dtype: str = "float32") -> LanguageModel:
    """A model whose next token is the one that followed the last token's earlier occurrence (Olsson et al. 2022).

    The first layer adds each token's predecessor, the second attends where the predecessor is the last token, within
    `window` tokens. Codes, random vectors of length `code`, stand in the first half of the stream; the predecessor's
    and a token's own in the second.
    """
    attention: Any = {"heads": 1, "kv_heads": 1, "head_dim": code, "scale": 1.0}
    blocks = (Block(mixer=Attention(**attention, window=2)), Block(mixer=Attention(**attention, window=window)))
    spec = ModelSpec(vocab=vocab, width=2 * code, blocks=blocks, norm=Norm(eps=1e-6), tied=True)
    model = braidlm.build(spec, dtype=dtype)
    network: Any = model.network
    first, second = (block.mixer for block in network.blocks)
    codes = torch.randn(vocab, code, generator=torch.Generator().manual_seed(0))
    eye, none = torch.eye(code), torch.zeros(code, code)
    # What the norm before each layer divides by: the stream holds one code, then that and a sum of two.
    one, three = math.sqrt(1 / (2 * code)), math.sqrt(3 / (2 * code))
    weights = {
        network.embed.weight: torch.cat([codes / codes.norm(dim=-1, keepdim=True), torch.zeros_like(codes)], -1),
        first.q_proj.weight: torch.cat([none, none], -1),
        first.k_proj.weight: torch.cat([none, none], -1),
        first.v_proj.weight: torch.cat([one * eye, none], -1),
        first.o_proj.weight: torch.cat([none, 2 * eye]),
        second.q_proj.weight: torch.cat([SHARPNESS * three * eye, none], -1),
        second.k_proj.weight: torch.cat([-three * eye, three * eye], -1),
        second.v_proj.weight: torch.cat([three * eye, none], -1),
        second.o_proj.weight: torch.cat([4 * eye, none]),
    }
    with torch.no_grad():
        for place, value in weights.items():
            place.copy_(value)
        for norm in (network.norm, *(block.mixer_norm for block in network.blocks)):
            norm.weight.fill_(1)
    return model


def word_tokenizer(*, digits: bool = True, around: bool = False) -> Tokenizer:
    """A vocabulary of the words and signs of the tasks, spaces apart; without `digits` every number is unknown.

    `around`: a start token and an end token, the last two ids, are put around every text.
    """
    lists = (value for name, value in vars(words).items() if name.isupper() and name != "LANDMARKS")
    vocabulary = ["<unk>", *"\n .,:'", *dict.fromkeys(word for found in lists for word in found)]
    vocabulary += [f" {word}" for word in vocabulary if word.isalpha()]
    vocabulary += list("0123456789") if digits else []
    table = {word: index for index, word in enumerate(dict.fromkeys(vocabulary))}
    backend = tokenizers.Tokenizer(tokenizers.models.WordLevel(table, unk_token="<unk>"))
    pattern = tokenizers.Regex(r" ?[A-Za-z]+|[0-9]| |\n|.")
    backend.pre_tokenizer = tokenizers.pre_tokenizers.Split(pattern, "isolated")
    backend.decoder = tokenizers.decoders.Fuse()
    if around:
        backend.add_special_tokens(["<s>", "</s>"])
        ids = [(token, backend.token_to_id(token)) for token in ("<s>", "</s>")]
        backend.post_processor = tokenizers.processors.TemplateProcessing("<s> $A </s>", None, ids)
    return Tokenizer(backend, Settings({}))
