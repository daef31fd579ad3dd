"""Types and names of what tokenizer_config.json says, checked before anything of it is believed."""

from collections.abc import Mapping
from typing import Any

from ..errors import quoted
from ..suggest import misspelt

NAMED = ("bos_token", "eos_token", "unk_token", "pad_token", "sep_token", "cls_token", "mask_token")
_FLAGS = ("add_bos_token", "add_eos_token", "add_prefix_space", "legacy")
_READ = (*NAMED, *_FLAGS, "additional_special_tokens", "added_tokens_decoder", "chat_template", "tokenizer_class")
# Published names that are like those above: tokens around images and sounds.
_LIKE = ("boi_token", "eoi_token", "boa_token", "eoa_token")


def check_settings(settings: Mapping[str, Any]) -> None:
    """`ValueError` for a value of a type that it cannot have, and for a misspelt name of one that is not there."""
    for name in NAMED:
        _require_token(name, settings.get(name))
    for name in _FLAGS:
        if not isinstance(settings.get(name), bool | None):
            raise ValueError(f"{name!r} is {quoted(settings[name])}, but must be true, false or null")
    more = settings.get("additional_special_tokens")
    if not isinstance(more, list | dict | None):
        raise ValueError(f"'additional_special_tokens' are {quoted(more)}, but must be a list of tokens")
    for token in more if isinstance(more, list) else ():
        _require_token("additional_special_tokens", token)
    if not isinstance(settings.get("added_tokens_decoder"), dict | None):
        raise ValueError(f"'added_tokens_decoder' is {quoted(settings['added_tokens_decoder'])}, but must be an object")
    found = misspelt(settings, (*_READ, *_LIKE))
    if found is not None and found[1] in _READ:
        raise ValueError(f"it says {quoted(found[0])}, which is not known; should it be {found[1]!r}?")


def _require_token(name: str, value: Any) -> None:
    text = value.get("content") if isinstance(value, dict) else value
    if not isinstance(text, str) and value is not None:
        raise ValueError(f"{name!r} is {quoted(value)}, but must be a token's text, or an object with its content")
