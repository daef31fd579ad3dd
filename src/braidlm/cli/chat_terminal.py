"""Terminal of `braid chat`: messages and commands in, answers and the state of the conversation out."""

from collections.abc import Callable
from dataclasses import replace

from ..errors import BraidError, quoted
from ..generation.sampling import Sampling
from ..sessions import Conversation, SessionChangedError, SessionExistsError, SessionStore
from ..system.suggest import did_you_mean
from .chat_answer import Answers, say
from .chat_input import messages, reader
from .common import err
from .session import print_sessions

HELP = """\
/save NAME   keep the conversation and its state      /load NAME   go on with a saved one
/fork NAME   go on in a copy of it, saved             /sessions    what is saved
/reset       start again                              /stats       tokens, speed, bytes of state
/limit N     at most N tokens an answer               /help        this text
/quit        leave (or Ctrl-D)                        Ctrl-C       ends an answer
/save and /fork replace a saved conversation only when told so: /save! NAME, /fork! NAME.
On a terminal Enter sends, Alt-Enter begins a line, the up arrow brings back earlier messages; what is pasted is one
message, and what is typed during an answer waits for its end. A message may begin with a blank, so that its / is none
of a command. A line that ends with \\ goes on in the next line; a line of three quotation marks begins and ends a
block of lines."""

_LAST_LINES, _LAST_CHARACTERS = 6, 400  # of what was said last, when a conversation is taken up


class Terminal:
    """Terminal of a conversation: reads messages, runs commands, and knows what is saved."""

    def __init__(self, conversation: Conversation, store: SessionStore, sampling: Sampling) -> None:
        self._conversation = conversation
        self._store = store
        self._sampling = sampling
        self._answers = Answers(conversation)
        self._reader = reader()
        self._saved = len(conversation.messages)  # messages that are saved, or need not be
        self._commands: dict[str, Callable[[str], None]] = {
            "/save": lambda name: self._save("/save", name),
            "/save!": lambda name: self._save("/save", name, replacing=True),
            "/fork": lambda name: self._save("/fork", name),
            "/fork!": lambda name: self._save("/fork", name, replacing=True),
            "/load": self._load,
            "/reset": lambda _: self._reset(),
            "/limit": self._limit,
            "/sessions": lambda _: print_sessions(self._store.all(), err),
            "/stats": lambda _: err.print(self._answers.stats()),
            "/help": lambda _: err.print(HELP, markup=False),
        }

    def run(self) -> None:
        """Runs until the user leaves."""
        say("Type a message, /help for commands, Ctrl-D to leave.")
        self._begin()
        for text in messages(self._reader):
            name, _, argument = text.partition(" ")
            if name in ("/quit", "/exit"):
                return
            try:
                if text.startswith("/") and "\n" not in text:
                    self._command(name, argument.strip())
                else:
                    self._answer(text)
            except BraidError as error:
                err.print(f"braid: {error}", markup=False)
            except KeyboardInterrupt:
                say("(stopped)")

    def _begin(self) -> None:
        """Prints what a session goes on with."""
        name = self._conversation.name
        if name is not None and name in self._store:
            self._take_up(name)
            system = self._conversation.system
            if system is not None and {"role": "system", "content": system} not in self._conversation.messages:
                say("This session keeps the system message that it began with; /reset begins with that of --system.")
        elif name is not None:
            say(f"{name} is a new session; each turn is saved.")

    def _take_up(self, name: str) -> None:
        """Prints the size of a saved conversation and its last message."""
        conversation = self._conversation
        self._saved = len(conversation.messages)
        kept = "each turn is saved" if conversation.name else f"further turns are saved by /save {name}"
        title = self._store.summary(name).title
        say(f"Going on with {name}{f' ({quoted(title)})' if title else ''}: {self._size()}; {kept}.")
        said = [message for message in conversation.messages if isinstance(message.get("content"), str)]
        for message in said[-2:]:
            say(("> " if message["role"] == "user" else "") + _end_of(message["content"]))
        self._reader.add_history([message["content"] for message in said if message["role"] == "user"])

    def _size(self) -> str:
        """The messages and tokens of the conversation."""
        return f"{_counted(len(self._conversation.messages))}, {self._conversation.tokens} tokens"

    def _command(self, name: str, argument: str) -> None:
        if name.rstrip("!") in ("/save", "/load", "/fork") and not argument:
            err.print(f"{name} needs a name", markup=False)
        elif name in self._commands:
            self._commands[name](argument)
        else:
            nearest = did_you_mean(name, [*self._commands, "/quit"])
            err.print(f"there is no command {quoted(name)}{nearest or ';'} /help lists them", markup=False)

    def _save(self, command: str, name: str, replacing: bool = False) -> None:
        """Saves the conversation; the session of another one is replaced only if the user says so."""
        write = self._conversation.fork if command == "/fork" else self._conversation.save
        try:
            write(name, replacing=replacing)
        except (SessionExistsError, SessionChangedError) as error:
            err.print(f"{error}; {command}! {name} replaces it", markup=False)
            return
        self._saved = len(self._conversation.messages)
        each = name == self._conversation.name
        later = "each turn is saved" if each else f"later turns are not in it until you /save {name} again"
        err.print(f"saved as {name}: {self._size()}; {later}", markup=False)

    def _load(self, name: str) -> None:
        lost = self._lost()
        self._conversation.load(name)
        self._take_up(name)
        if lost:
            say(f"Of the conversation before, {lost}.")

    def _reset(self) -> None:
        """Begins anew, and says where everything that was said is now."""
        lost = self._lost()
        stay = [self._standing(name) for name in self._conversation.saved_as]
        self._conversation.reset()
        system = ["the system message stays"] if self._conversation.messages else []
        self._saved = len(self._conversation.messages)
        parts = ["A new conversation begins", *system, *stay, *([lost] if lost else [])]
        say(f"{'; '.join(parts)}. It is not saved until you /save or /fork it.")

    def _lost(self) -> str:
        """Clause about messages that are in no session; "" if all are saved."""
        count = len(self._conversation.messages) - self._saved
        if count <= 0:
            return ""
        return f"{_counted(count)} {'was' if count == 1 else 'were'} not saved and {'is' if count == 1 else 'are'} gone"

    def _standing(self, name: str) -> str:
        """Clause about the size of a session of this conversation."""
        try:
            return f"{name} stays as it was saved ({_counted(len(self._store.summary(name).messages))})"
        except BraidError:  # deleted or damaged by somebody else: beginning anew needs nothing of it
            return f"{name} cannot be read any more"

    def _limit(self, argument: str) -> None:
        if not (argument.isdecimal() and len(argument) < 10 and int(argument)):
            err.print("/limit needs a number of tokens, 1 or more", markup=False)
            return
        self._sampling = replace(self._sampling, max_tokens=int(argument))
        say(f"Answers have at most {argument} tokens.")

    def _answer(self, text: str) -> None:
        self._answers.print_answer(text, self._sampling)
        if self._conversation.name is not None:
            self._saved = len(self._conversation.messages)


def _counted(messages: int) -> str:
    return f"{messages} message{'' if messages == 1 else 's'}"


def _end_of(text: str) -> str:
    """The last lines of a text, as they are shown when a conversation is taken up."""
    whole = text.strip()
    end = "\n".join(whole.splitlines()[-_LAST_LINES:])[-_LAST_CHARACTERS:]
    return end if end == whole else f"… {end}"
