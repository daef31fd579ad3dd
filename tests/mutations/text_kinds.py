"""Kinds of files that hold a vocabulary or a chat template."""

import json
from pathlib import Path

from braidlm.api.loading import read_tokenizer
from braidlm.system.suggest import near

from . import small
from .kind import Kind, digest, plain_values


def _build(place: Path) -> None:
    small.tokenizer().save(place)


def _read(place: Path) -> str:
    return digest(*small.use_tokenizer(read_tokenizer(place)))


def _tokenizer_lawful(name: str, intact: bytes, changed: bytes | None) -> bool:
    """Values may be others of their type, the vocabulary, its merges and added tokens may have other entries.

    A tokenizer's parts may be missing, as they are null in other files; so may all settings beside it, where what is
    there is not like one of them.
    """
    parts = {"normalizer", "pre_tokenizer", "post_processor", "decoder", "padding", "truncation", "added_tokens"}
    settings = {"eos_token", "chat_template", "clean_up_tokenization_spaces", "tokenizer_class"}
    options = {"dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix", "fuse_unk", "byte_fallback"}
    options |= {"ignore_merges", "type", "version", "add_prefix_space", "trim_offsets", "use_regex"}
    tables = ("vocab", "merges", "added_tokens")
    if name == "tokenizer_config.json" and changed is not None and _says_nothing(changed, settings):
        return True
    return plain_values(intact, changed, tables=tables, optional=parts | settings | options)


def _says_nothing(raw: bytes, settings: set[str]) -> bool:
    """Whether a file is an object without any of the settings, and without a name that may be meant for one."""
    try:
        data = json.loads(raw)
    except ValueError:
        return False
    return isinstance(data, dict) and not any(key in settings or near(key, settings) for key in data)


def _build_template(place: Path) -> None:
    _build(place)
    (place / "chat_template.jinja").write_text(small.TEMPLATE, encoding="utf-8")


def _template_lawful(name: str, intact: bytes, changed: bytes | None) -> bool:
    """A template is a text: whatever renders is one."""
    return changed is not None


KINDS = (
    Kind("tokenizer", _build, _read, ("tokenizer.json", "tokenizer_config.json"), _tokenizer_lawful),
    Kind("template", _build_template, _read, ("chat_template.jinja",), _template_lawful),
)
