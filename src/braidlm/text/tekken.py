"""Tokenizers from Mistral's `tekken.json`: control tokens first, then byte strings by rank."""

import base64
from collections.abc import Mapping
from typing import Any

from .backend import Vocabulary, put_around
from .byte_ranks import of_ranks
from .words import Words

# Files before version 7 do not list their control tokens.
_UNLISTED = (
    "<unk> <s> </s> [INST] [/INST] [AVAILABLE_TOOLS] [/AVAILABLE_TOOLS] [TOOL_RESULTS] [/TOOL_RESULTS] [TOOL_CALLS] "
    "[IMG] <pad> [IMG_BREAK] [IMG_END] [PREFIX] [MIDDLE] [SUFFIX] [SYSTEM_PROMPT] [/SYSTEM_PROMPT] [TOOL_CONTENT]"
).split()
# Eight times the published size.
_MOST_IDS = 1 << 20
_NAMED = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}


def read_tekken(data: Mapping[str, Any]) -> Vocabulary:
    """The tokenizer in the object of a `tekken.json`; `ValueError` and its like if it is none."""
    config = data["config"]
    size, reserved = int(config["default_vocab_size"]), int(config["default_num_special_tokens"])
    if not 0 <= reserved <= size <= _MOST_IDS:
        raise ValueError(f"of {size} tokens {reserved} are control tokens; there must be at most {_MOST_IDS} in all")
    special = _special(data.get("special_tokens"), reserved)
    entries = sorted(data["vocab"], key=lambda entry: entry["rank"])[: size - reserved]
    if [entry["rank"] for entry in entries] != list(range(size - reserved)):
        raise ValueError(f"the vocabulary must have the ranks 0 to {size - reserved - 1}")
    tokens = [base64.b64decode(entry["token_bytes"], validate=True) for entry in entries]
    backend = of_ranks(tokens, special, reserved, Words((config["pattern"],), whole=True))
    put_around(backend, ["<s>"] if "<s>" in special else [], [])
    return Vocabulary(backend, {name: token for name, token in _NAMED.items() if token in special})


def _special(listed: Any, count: int) -> dict[str, int]:
    """Control tokens with their ids; those that the file does not name are called by their number."""
    names = {i: f"<SPECIAL_{i}>" for i in range(count)}
    names |= {entry["rank"]: entry["token_str"] for entry in listed} if listed else dict(enumerate(_UNLISTED))
    if len(names) != count or len(set(names.values())) != count:
        raise ValueError(f"there must be {count} control tokens of different names, ranks 0 to {count - 1}")
    return {name: i for i, name in sorted(names.items())}
