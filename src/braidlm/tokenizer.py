"""Text to token ids and back, and chat messages to text.

A thin layer over the `tokenizers` library. It does not know models: which ids end a text is
only what the tokenizer's own files say.
"""

import copy
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import tokenizers

from . import chat_guard, chat_template, gguf_tokenizer
from .errors import BraidError, CheckpointError, InputError

_NAMED = ("bos_token", "eos_token", "unk_token", "pad_token", "sep_token", "cls_token", "mask_token")
_HALF = "the text is no valid Unicode: it holds half of a surrogate pair"


@dataclass(frozen=True)
class Settings:
    """What stands beside a vocabulary: named special tokens, the chat template, more ids that end a text."""

    special: Mapping[str, str]
    chat_template: str | None = None
    ends: tuple[int, ...] = ()


class Tokenizer:
    """A vocabulary with its rules. `Tokenizer.from_directory` and `from_gguf` find one in a checkpoint."""

    def __init__(self, backend: tokenizers.Tokenizer, settings: Settings) -> None:
        self._backend = backend
        self._settings = settings
        self._special_ids = {i for i, token in backend.get_added_tokens_decoder().items() if token.special}

    @classmethod
    def from_directory(cls, path: Path) -> "Tokenizer | None":
        """The tokenizer in a Hugging Face directory, or None if there is none."""
        file = path / "tokenizer.json"
        if not file.exists():
            if (path / "tokenizer.model").exists():
                raise InputError(f"{path} has only a tokenizer.model; a tokenizer.json is needed")
            return None
        try:
            backend = tokenizers.Tokenizer.from_file(str(file))
        except Exception as error:  # the library raises nothing narrower
            raise CheckpointError(f"{file} is damaged or no tokenizer: {error}") from None
        config = _read_json(path / "tokenizer_config.json")
        named = _read_json(path / "special_tokens_map.json") | config
        special = {name: _content(named[name]) for name in _NAMED if _content(named.get(name))}
        return cls(backend, Settings(special, _template(path, config)))

    @classmethod
    def from_gguf(cls, fields: Mapping[str, Any]) -> "Tokenizer | None":
        """The tokenizer in a GGUF file's metadata, or None if there is none."""
        try:
            found = gguf_tokenizer.read(fields)
        except BraidError:
            raise
        except Exception as error:  # the library raises nothing narrower
            reason = str(error).split("\n")[0]
            raise CheckpointError(f"the tokenizer's tables in this GGUF file are damaged: {reason}") from None
        if found is None:
            return None
        return cls(found.backend, Settings(found.special, found.chat_template, found.ends))

    @property
    def vocab_size(self) -> int:
        """Number of ids, added tokens counted."""
        return int(self._backend.get_vocab_size())

    @property
    def chat_template(self) -> str | None:
        """The model's own chat template."""
        return self._settings.chat_template

    @cached_property
    def template_variables(self) -> frozenset[str]:
        """What the chat template asks for beside the messages: `tools`, say, if it has a place for them."""
        return chat_template.variables(self._settings.chat_template or "")

    @property
    def largest_id(self) -> int:
        """The largest id; a vocabulary may have gaps."""
        return max(self._backend.get_vocab().values())

    @property
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
    def _by_merges(self) -> tokenizers.Tokenizer:
        """`_plain` with words made by merges alone."""
        backend = copy.deepcopy(self._plain)
        backend.model.ignore_merges = False
        return backend

    def encode(self, text: str, *, special: bool = True, add_bos: bool = True) -> list[int]:
        """Token ids of `text`.

        `special` False reads control tokens in the text as plain text, so that a stranger's text
        cannot forge them. `add_bos` adds what the model wants around every text (start token).
        """
        backend = self._backend if special else self._plain
        try:
            found = backend.encode(text, add_special_tokens=add_bos)
            if not special and self._forged(found):
                # A vocabulary that takes whole words first found a control token that is a word.
                found = self._by_merges.encode(text, add_special_tokens=add_bos)
        except TypeError:
            raise InputError(_HALF) from None
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
        return str(self._backend.decode(list(ids), skip_special_tokens=skip_special))

    def stream(self) -> "Stream":
        """A decoder for ids that come one by one."""
        return Stream(self)

    def render(
        self, messages: Sequence[Mapping[str, Any]], *, add_generation_prompt: bool = True, **variables: Any
    ) -> str:
        """The text of chat `messages` by the model's template, ready for the assistant's answer."""
        if self._settings.chat_template is None:
            raise InputError("this model has no chat template; give the prompt as text")
        given: dict[str, Any] = {"tools": None, "documents": None} | dict(self._settings.special)
        given |= {"add_generation_prompt": add_generation_prompt} | variables
        return chat_template.render(self._settings.chat_template, messages, **given)

    def render_marked(self, messages: Sequence[Mapping[str, Any]], **variables: Any) -> str:
        """`render`, with a mark in each control token that is not the template's own; for `encode_marked`."""
        control = [token.content for token in self._backend.get_added_tokens_decoder().values() if token.special]
        return self.render(chat_guard.marked(messages, control), **variables)

    def encode_marked(self, text: str) -> list[int]:
        """Token ids of what `render_marked` gave, or of a part of it; marked control tokens are plain text."""
        if chat_guard.MARK not in text:
            return self.encode(text, add_bos=False)
        try:
            return self._marked_reader.encode(text)
        except TypeError:
            raise InputError(_HALF) from None

    @cached_property
    def _marked_reader(self) -> chat_guard.MarkedReader:
        return chat_guard.MarkedReader(self._backend)

    def to_json(self) -> str:
        """The vocabulary and its rules as the tokenizers library writes them."""
        return str(self._backend.to_str())

    def save(self, directory: Path) -> None:
        """Writes the files that `from_directory` and transformers read."""
        self._backend.save(str(directory / "tokenizer.json"))
        config: dict[str, Any] = {"tokenizer_class": "PreTrainedTokenizerFast", **self._settings.special}
        config["clean_up_tokenization_spaces"] = False
        if self._settings.chat_template is not None:
            config["chat_template"] = self._settings.chat_template
        (directory / "tokenizer_config.json").write_text(json.dumps(config, indent=2))


class Stream:
    """Incremental decoding: the pieces add up to the decoding of all ids at once.

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
        """What was held back, broken characters included."""
        rest = self._tokenizer.decode(self._ids)[len(self._shown) :]
        self._ids, self._shown = [], ""
        return rest


def _read_json(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is no readable JSON: {error}") from None
    return data if isinstance(data, dict) else {}


def _content(token: Any) -> str:
    """A special token's text: written plainly, or as an object with its properties."""
    text = token.get("content") if isinstance(token, Mapping) else token
    return text if isinstance(text, str) else ""


def _template(path: Path, config: Mapping[str, Any]) -> str | None:
    file = path / "chat_template.jinja"
    if file.exists():
        try:
            return file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise CheckpointError(f"{file} is no readable text: {error}") from None
    found = config.get("chat_template")
    if isinstance(found, list):  # several by name
        named = {item.get("name"): item.get("template") for item in found if isinstance(item, Mapping)}
        found = named.get("default") or next(iter(named.values()), None)
    return found if isinstance(found, str) else None
