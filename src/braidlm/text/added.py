"""Tokens that are added to a vocabulary beside it: in tokenizer_config.json, or in added_tokens.json."""

from collections.abc import Mapping
from typing import Any

from tokenizers import AddedToken

# Four times the largest published vocabulary: ids between it and an added token are filled.
_MOST_IDS = 1 << 20
_FLAGS = ("lstrip", "rstrip", "single_word", "normalized", "special")


def added_tokens(config: Mapping[str, Any], plain: Mapping[str, Any], special: set[str]) -> dict[int, AddedToken]:
    """Added tokens by id: `config` is tokenizer_config.json, `plain` added_tokens.json, `special` what is named.

    `ValueError` if an id is none, or two tokens have the same one.
    """
    found = {}
    for token, i in plain.items():
        control = token in special
        found[_id(i)] = AddedToken(token, special=control, normalized=not control)
    for i, entry in (config.get("added_tokens_decoder") or {}).items():
        if not isinstance(entry, Mapping) or not isinstance(entry.get("content"), str):
            raise ValueError(f"the added token {i} must be an object with a content")
        flags = {name: bool(entry.get(name, False)) for name in _FLAGS}
        found[_id(i)] = AddedToken(entry["content"], **flags)
    names = [token.content for token in found.values()]
    if len(set(names)) < len(names):
        raise ValueError("an added token has two ids")
    return found


def _id(value: Any) -> int:
    text = str(value)
    if not text.isdecimal() or len(text) > 8 or int(text) >= _MOST_IDS:
        raise ValueError(f"the added token's id {text[:40]!r} must be a number below {_MOST_IDS}")
    return int(text)
