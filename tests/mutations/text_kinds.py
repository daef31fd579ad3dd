"""Kinds of files that hold a vocabulary or a chat template."""

from pathlib import Path

from braidlm.api.loading import read_tokenizer

from . import small
from .kind import Kind, digest, plain_values


def _build(place: Path) -> None:
    small.tokenizer().save(place)


def _read(place: Path) -> str:
    return digest(*small.use_tokenizer(read_tokenizer(place)))


def _tokenizer_lawful(name: str, intact: bytes, changed: bytes | None) -> bool:
    """Values may be others of their type, the vocabulary, its merges and added tokens may have other entries.

    A tokenizer's parts may be missing, as they are null in other files; so may all settings beside it.
    """
    parts = {"normalizer", "pre_tokenizer", "post_processor", "decoder", "padding", "truncation", "added_tokens"}
    settings = {"eos_token", "chat_template", "clean_up_tokenization_spaces", "tokenizer_class"}
    options = {"dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix", "fuse_unk", "byte_fallback"}
    options |= {"ignore_merges", "type", "version", "add_prefix_space", "trim_offsets", "use_regex"}
    tables = ("vocab", "merges", "added_tokens")
    return plain_values(intact, changed, tables=tables, optional=parts | settings | options)


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
