"""Turns of conversations on an engine: which tokens to ask for, which states to bring, what to keep afterwards."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..api import LanguageModel
from ..continuation import Token
from ..engine import Engine, Grammar, Kept, Request, Ticket
from ..errors import InputError
from ..sampling import Sampling
from .session import Session, Stored
from .store import SessionStore
from .transcripts import Message, Place, Prompt, Transcripts


@dataclass(frozen=True)
class Turn:
    """An answer that is being written: its ticket, and what was said before it."""

    ticket: Ticket
    messages: tuple[Message, ...]
    prompt: Prompt


class Chats:
    """All conversations with one model. May be used from several threads, one turn of a session at a time."""

    def __init__(
        self, model: LanguageModel, engine: Engine, store: SessionStore | None = None, model_name: str = ""
    ) -> None:
        if model.tokenizer is None or model.tokenizer.chat_template is None:
            raise InputError("this model has no chat template; use generate instead of chat")
        self.engine = engine
        self.tokenizer = model.tokenizer
        self.store = store
        self.transcripts = Transcripts(model.tokenizer)
        self._model_name = model_name

    def begin(
        self,
        messages: Sequence[Message],
        sampling: Sampling,
        *,
        copies: int = 1,
        grammar: Grammar | None = None,
        client: str = "",
        states: Sequence[Kept] = (),
        wants_states: bool = False,
        adapter: str | None = None,
        initial: str | None = None,
        **variables: Any,
    ) -> Turn:
        """Asks for an answer to `messages`; `variables` are for the model's template, the rest as in `Request`."""
        prompt = self.transcripts.prompt(messages, **variables)
        request = Request(
            ids=prompt.ids, sampling=sampling, copies=copies, breaks=prompt.breaks, grammar=grammar, client=client,
            states=tuple(states), wants_states=wants_states, adapter=adapter, initial=initial,
        )  # fmt: skip
        return Turn(self.engine.submit(request), tuple(messages), prompt)

    def begin_in(
        self,
        session: Session,
        messages: Sequence[Message],
        sampling: Sampling,
        *,
        states: Sequence[Kept] | None = None,
        name: str | None = None,
        **more: Any,
    ) -> Turn:
        """Asks for an answer to all `messages` of a session, with its `states`, or those stored under `name`."""
        if session.text not in self.transcripts:  # taken up from disk, or long unused
            self.transcripts.remember_places(session.text, session.ids, session.places)
        if states is None:
            states = self._stored_states(session, name) if name is not None else ()
        return self.begin(messages, sampling, states=states, wants_states=True, **more)

    def finish(self, session: Session, turn: Turn, answer: Sequence[Token], message: Message | None = None) -> Session:
        """The session after an answer; `message` is the answer as it is to be kept, if not as plain text."""
        made = [token.id for token in answer]
        text, ids = turn.prompt.text + self.transcripts.text_of(made), (*turn.prompt.ids, *made)
        before = {place for place in session.places if session.text[: place.characters] == text[: place.characters]}
        # A model may end with another token than the template writes: what comes before it is known all the same.
        unended = turn.prompt.text + self.transcripts.text_of(made[:-1])
        ends = [Place(len(text), len(ids))]
        if len(unended) < len(text) and text.startswith(unended):
            ends.append(Place(len(unended), len(ids) - 1))
        places = sorted({*before, *turn.prompt.places, *ends})
        self.transcripts.remember_places(text, ids, ends)
        said = message or {"role": "assistant", "content": "".join(token.text for token in answer)}
        return Session(
            [*map(dict, turn.messages), dict(said)], text, ids, tuple(places), turn.ticket.request.sampling,
            session.created or time.time(), time.time(),
        )  # fmt: skip

    def save(self, name: str, session: Session, states: Sequence[Kept]) -> None:
        """Makes a session durable, with states of its text."""
        self._need_store().save(name, session, states, self.engine.owner, self._model_name)

    def open(self, name: str) -> Stored:
        """A stored session with its states."""
        return self._need_store().load(name, self.engine.owner)

    def fork(self, name: str, new: str, keep: int | None = None) -> None:
        """A copy of a stored session under another name, of its first `keep` messages if that is given."""
        store = self._need_store()
        if keep is None:
            store.fork(name, new)
            return
        store.require_new(new)
        session, states = store.load(name, self.engine.owner)
        if not 0 <= keep <= len(session.messages):
            raise InputError(f"keep is {keep}, but the session has {len(session.messages)} messages")
        now = time.time()
        self.save(new, replace(session, messages=session.messages[:keep], created=now, updated=now), states)

    def _stored_states(self, session: Session, name: str) -> tuple[Kept, ...]:
        """The states in a session's file, unless the engine has the last of them in memory."""
        store = self._need_store()
        if not session.ids or name not in store or self.engine.knows(session.ids[:-1]):
            return ()
        return store.load(name, self.engine.owner).states

    def _need_store(self) -> SessionStore:
        if self.store is None:
            raise InputError("sessions are not kept here: no directory was given for them")
        return self.store
