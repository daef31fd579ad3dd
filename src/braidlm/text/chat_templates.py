"""The chat templates that come with a model: one, or several by name, in every place where files keep them.

In a directory, as transformers has it: chat_template.jinja and additional_chat_templates/NAME.jinja count before
tokenizer_config.json's `chat_template` (a text, or a list of names and templates), and that before chat_template.json.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import CheckpointError, quoted
from ..system.files import is_there, read_object, regular_file

_DEFAULT, _TOOLS = "default", "tool_use"
# The longest published one has 30 KB; what is rendered is bounded apart from this.
_MOST_BYTES = 4 << 20


@dataclass(frozen=True)
class ChatTemplates:
    """Chat templates by name. `default` is for chats, "tool_use" among the `others` for chats with tools."""

    default: str | None = None
    others: Mapping[str, str] = field(default_factory=dict)

    def choose(self, *, tools: bool) -> str | None:
        """The template for a chat in which `tools` are given or not, or None if there is none."""
        return self.others.get(_TOOLS, self.default) if tools else self.default


def of_names(named: Mapping[str, str]) -> ChatTemplates:
    """Templates by their names; without a "default" the first one is it."""
    if not named:
        return ChatTemplates()
    default = named.get(_DEFAULT) or next(iter(named.values()))
    return ChatTemplates(default, {name: text for name, text in named.items() if name != _DEFAULT})


def read_templates(path: Path, config: Mapping[str, Any]) -> ChatTemplates:
    """The templates in a directory; `config` is its tokenizer_config.json. `CheckpointError` for other things."""
    main, more = path / "chat_template.jinja", sorted((path / "additional_chat_templates").glob("*.jinja"))
    files = ({_DEFAULT: main} if is_there(main) else {}) | {file.stem: file for file in more}
    if files:
        return of_names({name: _text(file) for name, file in files.items()})
    found = config.get("chat_template")
    if found is None and is_there(path / "chat_template.json"):
        found = read_object(path / "chat_template.json", CheckpointError).get("chat_template")
    if isinstance(found, list):
        return of_names(_listed(found, path))
    if not isinstance(found, str | None):
        raise CheckpointError(f"{path} has the chat_template {quoted(found)}, but it must be a text or a list of them")
    return ChatTemplates(found or None)


def _listed(items: Iterable[Any], path: Path) -> dict[str, str]:
    found = {}
    for item in items:
        name, text = (item.get("name"), item.get("template")) if isinstance(item, Mapping) else (None, None)
        if not isinstance(name, str) or not isinstance(text, str):
            raise CheckpointError(f"{path} lists {quoted(item)} as a chat template, which must have a name and a text")
        found[name] = text
    return found


def _text(file: Path) -> str:
    try:
        if regular_file(file).stat().st_size > _MOST_BYTES:
            raise ValueError(f"it has more than {_MOST_BYTES >> 20} MiB")
        return file.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{file} is no readable text: {error}") from None


def read_gguf_templates(fields: Mapping[str, Any]) -> ChatTemplates:
    """The templates in a GGUF file's metadata: `tokenizer.chat_template`, and `tokenizer.chat_template.NAME`."""
    prefix = "tokenizer.chat_template"
    keys = [key for key in fields if key == prefix or key.startswith(f"{prefix}.")]
    found = {key.removeprefix(prefix).removeprefix(".") or _DEFAULT: fields[key] for key in keys}
    for name, text in found.items():
        if not isinstance(text, str):
            raise CheckpointError(f"the chat template {quoted(name)} of this GGUF file is {quoted(text)}, but no text")
    return of_names(dict(sorted(found.items(), key=lambda item: item[0] != _DEFAULT)))


def write_templates(templates: ChatTemplates) -> dict[str, Any]:
    """Keys of tokenizer_config.json that hold the templates."""
    if templates.default is None:
        return {}
    if not templates.others:
        return {"chat_template": templates.default}
    named = {_DEFAULT: templates.default} | dict(templates.others)
    return {"chat_template": [{"name": name, "template": text} for name, text in named.items()]}
