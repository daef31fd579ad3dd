"""Tokenizer: text to token ids and back, and chat messages to text.

A thin layer over the `tokenizers` library. It does not know models: which ids end a text is
only what the tokenizer's own files say. Padding and truncation that a file asks for are not done.
"""

import copy
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import tokenizers

from ..errors import BraidError, CheckpointError, InputError
from ..system.files import is_there, read_object
from . import chat_guard, chat_template, gguf_tokenizer
from .chat_templates import ChatTemplates, read_templates, write_templates
from .directory import read_vocabulary
from .gguf_vocabulary import Special, gguf_tables, gguf_templates
from .library import by_parts, checked, guarded
from .long_text import decoded, encoded, most_bytes, require_tokens

_HALF = "the text is no valid Unicode: it holds half of a surrogate pair"


@dataclass(frozen=True)
class Settings:
    """Settings beside a vocabulary: named special tokens, chat templates, more ids that end a text.

    `chat_template` is for chats; `other_templates` are those by name, "tool_use" for chats with tools among them. `pre`
    is what a GGUF file calls its rule to cut words.
    """

    special: Mapping[str, str]
    chat_template: str | None = None
    ends: tuple[int, ...] = ()
    other_templates: Mapping[str, str] = field(default_factory=dict)
    pre: str | None = None

    @property
    def templates(self) -> ChatTemplates:
        """All chat templates."""
        return ChatTemplates(self.chat_template, self.other_templates)


class Tokenizer:
    """Tokenizer, a vocabulary with its rules. `Tokenizer.from_directory` and `from_gguf` find one in a checkpoint."""

    def __init__(self, backend: tokenizers.Tokenizer, settings: Settings) -> None:
        self._backend = backend
        self._settings = settings
        self._special_ids = {i for i, token in backend.get_added_tokens_decoder().items() if token.special}

    @classmethod
    def from_directory(cls, path: Path) -> "Tokenizer | None":
        """The tokenizer in a directory, or None if there is none; which files count is said in `text.directory`."""
        file = path / "tokenizer_config.json"
        config = read_object(file, CheckpointError) if is_there(file) else {}
        found = read_vocabulary(path, config)
        if found is None:
            return None
        templates = read_templates(path, config)
        return cls(found.backend, Settings(found.special, templates.default, (), templates.others))

    @classmethod
    def from_gguf(cls, fields: Mapping[str, Any]) -> "Tokenizer | None":
        """The tokenizer in a GGUF file's metadata, or None if there is none."""
        with guarded(lambda reason: CheckpointError(f"the tokenizer's tables in this GGUF file are damaged: {reason}")):
            found = gguf_tokenizer.read(fields)
        if found is None:
            return None
        backend = checked(found.backend, "the tokenizer in this GGUF file", found.largest_id)
        templates = found.templates
        return cls(backend, Settings(found.special, templates.default, found.ends, templates.others, found.pre))

    @property
    def vocab_size(self) -> int:
        """Number of ids, added tokens counted."""
        return int(self._backend.get_vocab_size())

    @property
    def chat_template(self) -> str | None:
        """The model's own chat template, the one for chats without tools."""
        return self._settings.templates.default

    @property
    def tool_template(self) -> str | None:
        """The chat template that is taken where tools are given; often the same."""
        return self._settings.templates.choose(tools=True)

    @cached_property
    def template_variables(self) -> frozenset[str]:
        """Variables of the chat template beside the messages: `tools`, say, if it has a place for them."""
        templates = {self.chat_template, self.tool_template} - {None}
        return frozenset().union(*(chat_template.variables(template or "") for template in templates))

    @cached_property
    def largest_id(self) -> int:
        """The largest id; a vocabulary may have gaps."""
        return max(self._backend.get_vocab().values())

    @cached_property
    def special_ids(self) -> frozenset[int]:
        """Ids of control tokens."""
        return frozenset(self._special_ids)

    @property
    def bos_id(self) -> int | None:
        """The id that begins a text."""
        return self.id_of(self._settings.special.get("bos_token", ""))

    @property
    def eos_ids(self) -> tuple[int, ...]:
        """Ids that end a text."""
        own = self.id_of(self._settings.special.get("eos_token", ""))
        return tuple(dict.fromkeys([*([] if own is None else [own]), *self._settings.ends]))

    def id_of(self, token: str) -> int | None:
        """The id of one token, or None."""
        return self._backend.token_to_id(token)

    @cached_property
    def _plain(self) -> tokenizers.Tokenizer:
        """The same vocabulary, blind to control tokens written in a text."""
        plain = copy.deepcopy(self._backend)
        plain.encode_special_tokens = True
        return plain

    @cached_property
    def _by_parts(self) -> tokenizers.Tokenizer:
        """The vocabulary of `_plain` with words made of their parts alone."""
        return by_parts(self._plain, self._special_ids)

    def encode(self, text: str, *, special: bool = True, add_bos: bool = True) -> list[int]:
        """Token ids of `text`.

        `special` False reads control tokens in the text as plain text, so that a stranger's text
        cannot forge them. `add_bos` adds what the model wants around every text (start token).
        """
        backend = self._backend if special else self._plain
        with guarded(_unreadable):
            found = encoded(backend, text, around=add_bos)
            if not special and self._forged(found):
                # A vocabulary that takes whole words first found a control token that is a word.
                found = encoded(self._by_parts, text, around=add_bos)
        return list(found.ids)

    def _forged(self, found: tokenizers.Encoding) -> bool:
        """Whether there is a control token that the text gave, not what the model wants around every text."""
        if self._special_ids.isdisjoint(found.ids):
            return False
        return any(i in self._special_ids and not own for i, own in zip(found.ids, found.special_tokens_mask))

    def decode(self, ids: Sequence[int], *, skip_special: bool = True) -> str:
        """The text of `ids`; ids beyond the vocabulary (padding rows of the model) give nothing."""
        if any(token < 0 for token in ids):
            raise InputError(f"token id {min(ids)} is out of range: ids begin at 0")
        with guarded(_unwritable):
            return decoded(self._backend, ids, skip_special=skip_special)

    def require_tokens(self, text: str, most: int) -> None:
        """`ContextLengthError` if a text has certainly more than `most` tokens; long ones are not read whole for it."""
        require_tokens(text, most, self._longest_token, lambda part: len(self.encode_marked(part)))

    def most_bytes(self, tokens: int) -> int:
        """Number of bytes of text that so many tokens can stand for."""
        return most_bytes(tokens, self._longest_token)

    @cached_property
    def _longest_token(self) -> int:
        """Bytes of the longest token: of byte vocabularies, where a character stands for a byte, an upper bound."""
        return max(len(token.encode("utf-8", "surrogatepass")) for token in self._backend.get_vocab())

    def hides(self, token: int) -> bool:
        """Whether decoding leaves out an id: that of a control token, or one beyond the vocabulary."""
        return token in self._special_ids or (token >= 0 and self._backend.id_to_token(token) is None)

    def stream(self) -> "Stream":
        """A decoder for ids that come one by one."""
        return Stream(self)

    def render(
        self, messages: Sequence[Mapping[str, Any]], *, add_generation_prompt: bool = True, **variables: Any
    ) -> str:
        """The text of chat `messages` by the model's template, ready for the assistant's answer."""
        template = self._settings.templates.choose(tools=bool(variables.get("tools")))
        if template is None:
            raise InputError("this model has no chat template; give the prompt as text")
        given: dict[str, Any] = {"tools": None, "documents": None} | dict(self._settings.special)
        given |= {"add_generation_prompt": add_generation_prompt} | variables
        return chat_template.render(template, messages, **given)

    def render_marked(self, messages: Sequence[Mapping[str, Any]], **variables: Any) -> str:
        """Renders as `render` does, with a mark in each control token that is not the template's own.

        For `encode_marked`.
        """
        control = [token.content for token in self._backend.get_added_tokens_decoder().values() if token.special]
        (told,) = chat_guard.marked([variables], control)
        return self.render(chat_guard.marked(messages, control), **told)

    def encode_marked(self, text: str) -> list[int]:
        """Token ids of what `render_marked` gave, or of a part of it; marked control tokens are plain text."""
        if chat_guard.MARK not in text:
            return self.encode(text, add_bos=False)
        with guarded(_unreadable):
            return self._marked_reader.encode(text)

    @cached_property
    def _marked_reader(self) -> chat_guard.MarkedReader:
        return chat_guard.MarkedReader(self._backend)

    def to_json(self) -> str:
        """The vocabulary and its rules as the tokenizers library writes them."""
        return str(self._backend.to_str())

    def gguf_metadata(self, size: int, ends: Sequence[int] = ()) -> dict[str, Any]:
        """The metadata that describes this tokenizer in GGUF files, for a model with `size` rows of tokens.

        `ends` are further ids that end a text. `InputError` if it cannot be said.
        """
        special = Special(self._settings.special, [*self.eos_ids, *ends])
        with guarded(lambda reason: InputError(f"GGUF files cannot express this tokenizer: {reason}")):
            tables = gguf_tables(self._backend, special, size, self._settings.pre)
        return tables | gguf_templates(self._settings.templates)

    def save(self, directory: Path) -> None:
        """Writes the files that `from_directory` and transformers read."""
        self._backend.save(str(directory / "tokenizer.json"))
        config: dict[str, Any] = {"tokenizer_class": "PreTrainedTokenizerFast", **self._settings.special}
        config["clean_up_tokenization_spaces"] = False
        config |= write_templates(self._settings.templates)
        (directory / "tokenizer_config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")


class Stream:
    """Incremental detokenizer: the pieces add up to the decoding of all ids at once.

    Only where a vocabulary spells characters in bytes and the bytes are broken may replacement
    characters differ in number: the library judges a whole run of bytes at once.

    Only the ids since the last certain text are decoded again, with one id before them, since
    some vocabularies drop the space at the start of a text.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._ids: list[int] = []
        self._shown = ""

    def push(self, token: int) -> str:
        """The text that is certain after `token`; an incomplete character is held back."""
        if self._tokenizer.hides(token):  # a model may write nothing else for long
            return ""
        self._ids.append(token)
        text = self._tokenizer.decode(self._ids)
        certain = text.rstrip("\ufffd")
        new = certain[len(self._shown) :]
        self._shown += new
        if new and certain == text:
            self._slide(token)
        return new

    def _slide(self, token: int) -> None:
        """Forgets all ids but the last, if that one stands for text by itself."""
        alone = self._tokenizer.decode([token])
        if alone and "\ufffd" not in alone:
            self._ids, self._shown = [token], alone

    def flush(self) -> str:
        """Text that was held back, broken characters included."""
        rest = self._tokenizer.decode(self._ids)[len(self._shown) :]
        self._ids, self._shown = [], ""
        return rest


def same_tokenizer(first: Tokenizer | None, second: Tokenizer | None) -> bool:
    """Whether every text is the same tokens for both; no tokenizer is the same as no tokenizer."""
    return first is second or (first is not None and second is not None and first.to_json() == second.to_json())


def _unreadable(reason: str) -> BraidError:
    # The library's own words for a text that is none are about its arguments.
    half = "TextInputSequence" in reason or "TextEncodeInput" in reason
    return InputError(_HALF if half else f"the tokenizer cannot read this text: {reason}")


def _unwritable(reason: str) -> BraidError:
    return InputError(f"the tokenizer cannot write these ids as text: {reason}")
