"""The editor of messages on a terminal: history, editing, and pasted text as one message, by prompt_toolkit."""

from collections.abc import Sequence

from prompt_toolkit import PromptSession
from prompt_toolkit.history import InMemoryHistory
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent

from .chat_input import BLOCK, MARK_PASTES, write_code


class Editor:
    """Editor of one message at a time, with history: Enter sends, Alt-Enter begins a line."""

    def __init__(self) -> None:
        self._history = InMemoryHistory()
        self._in_block = False
        self._session: PromptSession[str] = PromptSession(
            "> ", multiline=True, prompt_continuation=". ", history=self._history, key_bindings=self._keys(),
            reserve_space_for_menu=0,
        )  # fmt: skip

    def add_history(self, texts: Sequence[str]) -> None:
        """Adds texts to what the up arrow brings back."""
        for text in texts:
            self._history.append_string(text)

    def read_message(self) -> str:
        """The next message, without blank lines around it; its own indentation stays."""
        self._in_block = False
        try:
            text = self._session.prompt()
        finally:
            write_code(MARK_PASTES)  # also while the answer streams
        if self._in_block:
            text = text.strip().removeprefix(BLOCK).removesuffix(BLOCK)
        return text.strip("\n").rstrip()

    def _keys(self) -> KeyBindings:
        keys = KeyBindings()
        keys.add("enter")(self._enter)

        @keys.add("escape", "enter")
        @keys.add("c-j")
        def _(event: KeyPressEvent) -> None:
            event.current_buffer.newline(copy_margin=False)

        return keys

    def _enter(self, event: KeyPressEvent) -> None:
        """Sends the message, unless it goes on: after a backslash, and in a block between lines of quotation marks."""
        buffer = event.current_buffer
        if not self._in_block and buffer.text.strip() == BLOCK:
            self._in_block = True
            buffer.newline(copy_margin=False)
        elif self._in_block and buffer.text.splitlines()[-1].strip() != BLOCK:
            buffer.newline(copy_margin=False)
        elif not self._in_block and buffer.document.is_cursor_at_the_end and buffer.text.endswith("\\"):
            buffer.delete_before_cursor()
            buffer.newline(copy_margin=False)
        else:
            buffer.validate_and_handle()
