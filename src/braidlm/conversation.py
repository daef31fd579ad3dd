"""A chat that never re-reads itself: messages on one side, a state that has seen them on the other.

Each turn is rendered by the model's chat template as a whole; if it begins with the text that the
state has seen, only the rest is run, else the conversation is run again from its start.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from .api import LanguageModel
from .continuation import Token
from .errors import InputError, StateError
from .files import whole_file

_FORMAT = "braidlm-conversation-1"


class Turn(NamedTuple):
    """What the last reply cost: prompt tokens run, of them run again, and tokens made."""

    prompt: int
    repeated: int
    made: int


class Conversation:
    """Messages with one model. `state` has seen `seen_text` and nothing else, but for `_pending` ids."""

    def __init__(self, model: LanguageModel, system: str | None = None, kv_dtype: str | None = None) -> None:
        if model.tokenizer is None or model.tokenizer.chat_template is None:
            raise InputError("this model has no chat template; use generate instead of chat")
        self._model = model
        self._tokenizer = model.tokenizer
        self._system = system
        self._kv_dtype = kv_dtype
        self.reset()

    def reset(self) -> None:
        """Forgets everything but the system message."""
        self.messages: list[dict[str, Any]] = [{"role": "system", "content": self._system}] if self._system else []
        self.turn = Turn(0, 0, 0)
        self._forget()

    def _forget(self) -> None:
        self.state = self._model.new_state(kv_dtype=self._kv_dtype)
        self._seen_text = ""
        self._pending: list[int] = []

    @property
    def tokens(self) -> int:
        """Tokens of the conversation so far."""
        return self.state.lengths[0] + len(self._pending)

    def reply(self, text: str, **options: Any) -> Iterator[Token]:
        """Streams the answer to `text`; when the caller stops early, what was made so far is the answer."""
        messages = [*self.messages, {"role": "user", "content": text}]
        before = (self.state.fork(), self._seen_text, self._pending)
        made: list[Token] = []
        try:
            ids, repeated = self._unseen(self._tokenizer.render_marked(messages))
            start = self.state.lengths[0]
            for token in self._model.stream(ids, state=self.state, **options):
                made.append(token)
                yield token
        finally:
            if made:
                self.turn = Turn(len(ids), repeated, len(made))
                # An interruption may come before or after the last token was run.
                unseen = start + len(ids) + len(made) - self.state.lengths[0]
                self._pending = [token.id for token in made[len(made) - unseen :]]
                self._remember(messages, made)
            else:  # refused, or interrupted while the prompt was read: as if nothing had been said
                self.state, self._seen_text, self._pending = before

    def _unseen(self, rendered: str) -> tuple[list[int], int]:
        """The ids to run for `rendered`, and how many of them were run before."""
        if self._seen_text and rendered.startswith(self._seen_text):
            more = self._tokenizer.encode_marked(rendered[len(self._seen_text) :])
            ids = [*self._pending, *more]
            self._seen_text = rendered
            return ids, 0
        before = self.tokens
        self._forget()
        self._seen_text = rendered
        ids = self._tokenizer.encode_marked(rendered)
        return ids, min(before, len(ids))

    def _remember(self, messages: list[dict[str, Any]], made: list[Token]) -> None:
        answer = "".join(token.text for token in made)
        self.messages = [*messages, {"role": "assistant", "content": answer}]
        self._seen_text += self._tokenizer.decode([token.id for token in made], skip_special=False)

    def save(self, path: str | Path) -> None:
        """Writes messages to `path` and the state beside it, so that `load` goes on without running anything."""
        path = Path(path)
        about = {
            "format": _FORMAT,
            "messages": self.messages,
            "seen_text": self._seen_text,
            "pending": self._pending,
            "kv_dtype": self._kv_dtype,
            "length": self.state.lengths[0],
        }
        self.state.save(_state_path(path))
        with whole_file(path) as temporary:
            temporary.write_text(json.dumps(about, indent=1))

    def load(self, path: str | Path) -> None:
        """Takes up the conversation that `save` wrote; on an error this conversation stays as it is."""
        path = Path(path)
        try:
            about = json.loads(path.read_text(encoding="utf-8"))
            if about["format"] != _FORMAT:
                raise KeyError("format")
            messages, seen, pending = about["messages"], about["seen_text"], about["pending"]
            kv_dtype, length = about["kv_dtype"], about["length"]
            kinds = ((messages, list), (seen, str), (pending, list), (kv_dtype, str | None), (length, int))
            if not all(isinstance(value, kind) for value, kind in kinds):
                raise ValueError("a part of it is of another kind")
        except FileNotFoundError:
            raise StateError(f"there is no saved conversation {path}") from None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise StateError(f"{path} is no saved conversation of this version ({error})") from None
        state = self._model.load_state(_state_path(path), kv_dtype)
        if state.lengths != (length,):
            raise StateError(f"{_state_path(path)} does not belong to {path}: it has seen {state.lengths} tokens")
        self.state = state
        self.messages, self._seen_text, self._pending, self._kv_dtype = messages, seen, list(pending), kv_dtype


def _state_path(path: Path) -> Path:
    return path.with_name(path.name + ".state")
