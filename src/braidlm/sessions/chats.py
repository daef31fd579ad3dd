"""Turns of conversations on an engine: their prompts, the snapshots they begin with, what is kept afterwards."""

import functools
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, NamedTuple

from ..api.language_model import LanguageModel
from ..engine import BASE, Engine, Grammar, ReasoningFirst, Request, RequestHandle, Snapshot
from ..errors import InputError
from ..generation.continuation import Token
from ..generation.sampling import Sampling
from ..text.answer import AnswerReader, Part, read_answer
from ..text.reasoning import FIELD, ReasoningSplitter, Tags, begun_by, tags_of, thinks
from .chat_memory import ChatMemory
from .naming import Stamp
from .session import Session, StoredSession
from .store import SessionStore
from .transcripts import Known, Message, MessageEnd, Prompt, Transcripts, known_of, nothing


@dataclass(frozen=True)
class Turn:
    """One turn of a chat: the handle of its answer, and the messages before it."""

    handle: RequestHandle
    messages: tuple[Message, ...]
    prompt: Prompt
    splitter: Callable[[], ReasoningSplitter]  # of this answer's text
    session: Session | None  # in which it is written


class _Reasoning(NamedTuple):
    """The reasoning that may come after a prompt: its tags, and whether the prompt begins it."""

    tags: Tags
    begun: bool
    expected: bool


class Chats:
    """Conversations with one model. May be used from several threads, one turn of a session at a time."""

    def __init__(
        self, model: LanguageModel, engine: Engine, store: SessionStore | None = None, model_name: str = ""
    ) -> None:
        if model.tokenizer is None or model.tokenizer.chat_template is None:
            raise InputError("this model has no chat template; use generate instead of chat")
        self.engine = engine
        self.tokenizer = model.tokenizer
        self.store = store
        self.transcripts = Transcripts(model.tokenizer, engine.most_prompt_tokens)
        # What others wrote must not decide how a deterministic answer's prompt is cut into tokens.
        self._memory = None if model.deterministic else ChatMemory()
        self._model_name = model_name

    def begin(
        self,
        messages: Sequence[Message],
        sampling: Sampling,
        *,
        n: int = 1,
        grammar: Grammar | None = None,
        client: str = "",
        snapshots: Sequence[Snapshot] = (),
        wants_snapshots: bool = False,
        adapter: str | None = None,
        initial: str | None = None,
        cache_salt: str = "",
        session: Session | None = None,
        visible_tokens: Collection[str] = (),
        variables: Mapping[str, Any] = MappingProxyType({}),
    ) -> Turn:
        """Submits a request for an answer to `messages`; `variables` are for the model's template.

        `visible_tokens` are texts that are shown even where they are control tokens, beside the tags of reasoning; the
        rest is as in `Request`. A grammar describes what follows the reasoning, where the model may reason first.

        Earlier answers keep the token ids that they were generated with: in a session its own; elsewhere those of plain
        chats of the same `cache_salt`, or none if the model runs deterministically.
        """
        prompt = self.transcripts.prompt(messages, self._known(session, cache_salt), **variables)
        self._remember(session, cache_salt, prompt.text, prompt.ids, prompt.message_ends)
        tags, begun, expected = self._reasoning(messages, prompt.text, variables)
        first = self._reasoning_first(tags, begun) if expected and grammar is not None else None
        request = Request(
            ids=prompt.ids, sampling=sampling, n=n, message_boundaries=prompt.message_boundaries, grammar=grammar,
            client=client, snapshots=tuple(snapshots), wants_snapshots=wants_snapshots, adapter=adapter,
            initial=initial, reasoning=first, cache_salt=cache_salt,
            visible_tokens=self._visible({tags.begin, tags.end, *visible_tokens}),
        )  # fmt: skip
        splitter = functools.partial(ReasoningSplitter, tags, begun)
        return Turn(self.engine.submit(request), tuple(messages), prompt, splitter, session)

    def _known(self, session: Session | None, scope: str) -> Known:
        """Known token ids of earlier answers, of a session or of a scope of plain chats."""
        if session is not None:
            return known_of(session.text, session.ids, session.message_ends)
        return nothing if self._memory is None else self._memory.known(scope)

    def _remember(
        self, session: Session | None, scope: str, text: str, ids: Sequence[int], message_ends: Sequence[MessageEnd]
    ) -> None:
        """Remembers the token ids of a plain chat; a session does so itself."""
        if session is None and self._memory is not None:
            self._memory.add_chat(scope, text, ids, message_ends)

    def _reasoning(self, messages: Sequence[Message], text: str, variables: Mapping[str, Any]) -> _Reasoning:
        """Reasoning of an answer, by the template and the `text` of its prompt."""
        template = self.transcripts.template(variables)
        tags, knows = tags_of(template), thinks(template)
        opening = self.transcripts.generation_prompt(messages, text, variables) if knows else ""
        begun = begun_by(opening, tags)
        # A prompt in which reasoning has ended already asks for none.
        return _Reasoning(tags, begun, knows and (begun or tags.end not in opening))

    def _visible(self, texts: Collection[str]) -> dict[int, str]:
        """Control tokens among `texts`, by id."""
        found = [(self.tokenizer.id_of(text), text) for text in texts]
        control = self.tokenizer.special_ids
        return {token: text for token, text in found if token is not None and token in control}

    def _reasoning_first(self, tags: Tags, begun: bool) -> ReasoningFirst:
        """Form of the reasoning before what a grammar describes."""
        encode = functools.partial(self.tokenizer.encode, add_bos=False)
        gaps = [encode(text) for text in ("\n", "\n\n")]
        begin = () if begun else tuple(encode(tags.begin))
        gap = tuple(ids[0] for ids in gaps if len(ids) == 1)
        return ReasoningFirst(begin=begin, end=tags.end, gap=gap)

    def begin_in(
        self,
        session: Session,
        messages: Sequence[Message],
        sampling: Sampling,
        *,
        snapshots: Sequence[Snapshot] | None = None,
        name: str | None = None,
        **more: Any,
    ) -> Turn:
        """Submits a request for an answer to all `messages` of a session, with `snapshots` or those stored as `name`.

        `StateError` for states of another model, adapter, initial state or precision than the answer is made with.
        """
        if name is not None and (more.get("adapter"), more.get("initial")) != BASE:
            raise InputError(f"stored sessions are of the model itself; take {name!r} without adapter or initial state")
        if snapshots is None:
            snapshots = self._stored_snapshots(session, name, more.get("cache_salt", "")) if name is not None else ()
        return self.begin(messages, sampling, snapshots=snapshots, wants_snapshots=True, session=session, **more)

    def finish(self, session: Session, turn: Turn, answer: Sequence[Token], message: Message | None = None) -> Session:
        """The session after an answer; `message` is the answer as it is to be kept, if not as plain text."""
        made = [token.id for token in answer]
        text, ids = turn.prompt.text + self.transcripts.text_of(made), (*turn.prompt.ids, *made)
        before = {end for end in session.message_ends if session.text[: end.characters] == text[: end.characters]}
        # A model may end with another token than the template writes: what comes before it is known all the same.
        unended = turn.prompt.text + self.transcripts.text_of(made[:-1])
        ends = [MessageEnd(len(text), len(ids))]
        if len(unended) < len(text) and text.startswith(unended):
            ends.append(MessageEnd(len(unended), len(ids) - 1))
        message_ends = sorted({*before, *turn.prompt.message_ends, *ends})
        self._remember(turn.session, turn.handle.request.cache_salt, text, ids, ends)
        said = message or self._message(turn, answer)
        return Session(
            [*map(dict, turn.messages), dict(said)], text, ids, tuple(message_ends), turn.handle.request.sampling,
            session.created or time.time(), time.time(),
        )  # fmt: skip

    def _message(self, turn: Turn, answer: Sequence[Token]) -> Message:
        """An answer as it is to be kept."""
        part = read_answer(AnswerReader(turn.splitter()), [token.text for token in answer])
        return message_of(part)

    def save(
        self,
        name: str,
        session: Session,
        snapshots: Sequence[Snapshot],
        *,
        new: bool = False,
        instead_of: Stamp | None = None,
    ) -> Stamp:
        """Makes a session durable, with snapshots of it; the rest is as in `SessionStore.save`."""
        store, owner = self._need_store(), self.engine.owner
        return store.save(name, session, snapshots, owner, self._model_name, new=new, instead_of=instead_of)

    def open(self, name: str) -> StoredSession:
        """A stored session with its snapshots."""
        return self._need_store().load(name, self.engine.owner)

    def fork(self, name: str, new: str, keep: int | None = None) -> None:
        """A copy of a stored session under another name, of its first `keep` messages if that is given."""
        store = self._need_store()
        if keep is None:
            store.fork(name, new)
            return
        store.require_new(new)
        session, snapshots = store.load(name, self.engine.owner)
        if not 0 <= keep <= len(session.messages):
            raise InputError(f"keep is {keep}, but the session has {len(session.messages)} messages")
        now = time.time()
        self.save(
            new, replace(session, messages=session.messages[:keep], created=now, updated=now), snapshots, new=True
        )

    def _stored_snapshots(self, session: Session, name: str, cache_salt: str) -> tuple[Snapshot, ...]:
        """Snapshots in a session's file, unless the engine has the last of them in memory."""
        store = self._need_store()
        if not session.ids or name not in store or self.engine.has_snapshot(session.ids[:-1], cache_salt):
            return ()
        return store.load(name, self.engine.owner).snapshots

    def _need_store(self) -> SessionStore:
        if self.store is None:
            raise InputError("sessions are not kept here: no directory was given for them")
        return self.store


def message_of(part: Part) -> dict[str, Any]:
    """A whole answer's content and reasoning as a message."""
    return {"role": "assistant", "content": part.content, **({FIELD: part.reasoning} if part.reasoning else {})}
