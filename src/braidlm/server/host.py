"""Hosts of a model: load it in the background, answer with it, and close it."""

import asyncio
import logging
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Annotated, Any, TypeVar

from fastapi import Depends, Request

from ..api.language_model import LanguageModel
from ..engine import BASE, AdapterKey, Engine, Limits, RequestHandle, Snapshot
from ..errors import BraidError, ContextLengthError
from ..sessions import Chats, Session, SessionChangedError, SessionExistsError, SessionStore, Stamp
from ..text.tokenizer import Tokenizer
from .errors import RefusedError
from .metrics import Metrics
from .session_cache import SessionCache
from .settings import Settings
from .stream_chunks import Answer, Made

log = logging.getLogger("braidlm.server")

# Default bounds on the bytes of a request's body; and the bytes in JSON of a byte of text, which are three in "\u00e9".
_LEAST_BODY, _MOST_BODY, _IN_JSON = 1 << 20, 8 << 20, 3
# Requests for embeddings that are answered at the same time; each holds a state.
_EMBEDDINGS = 4

Opened = TypeVar("Opened")


class Served:
    """Loaded model, its engine, and the answers on their way."""

    def __init__(
        self, model: LanguageModel, engine: Engine, store: SessionStore | None, settings: Settings, metrics: Metrics
    ) -> None:
        """`store` None: no sessions are kept."""
        self.model = model
        self.engine = engine
        self._store = store
        self.settings = settings
        self.metrics = metrics
        self.session_cache = SessionCache()
        self.embedding = asyncio.Semaphore(_EMBEDDINGS)
        self._answers: set[Answer] = set()
        has_template = model.tokenizer is not None and model.tokenizer.chat_template is not None
        self._chats = Chats(model, engine, store, settings.name) if has_template else None
        metrics.watch(engine)

    @property
    def tokenizer(self) -> Tokenizer:
        """Tokenizer of the model; refuses if it has none."""
        if self.model.tokenizer is None:
            raise RefusedError(400, "this model has no tokenizer; give and take token ids")
        return self.model.tokenizer

    @property
    def sessions(self) -> SessionStore:
        """Store of sessions; refuses if there is none, or if the model cannot chat."""
        if self._store is None:
            raise RefusedError(400, "no sessions are kept here")
        if self._chats is None:
            raise RefusedError(400, "sessions are chats, and this model has no chat template; use /v1/completions")
        return self._store

    @property
    def keeps_sessions(self) -> bool:
        """Whether sessions are stored."""
        return self._store is not None and self._chats is not None

    @property
    def chats(self) -> Chats:
        """Chats with the model; refuses if it has no chat template."""
        if self._chats is None:
            raise RefusedError(400, "this model has no chat template; use /v1/completions")
        return self._chats

    @property
    def can_chat(self) -> bool:
        """Whether the model has a chat template."""
        return self._chats is not None

    def adapter_key_of(self, name: str | None) -> AdapterKey:
        """Adapter key of a model's name in the API; refuses names that are not served."""
        known = self.settings.models
        if name is not None and name not in known:
            raise RefusedError(
                404,
                f"there is no model {name!r} here, but {', '.join(map(repr, known))}",
                code="model_not_found",
                param="model",
            )
        return known[name or self.settings.name]

    def require_base(self, name: str | None) -> None:
        """Refuses requests for another model, or for one with an adapter or an initial state."""
        if self.adapter_key_of(name) != BASE:
            raise RefusedError(400, f"this is of the model itself; ask for {self.settings.name!r}", param="model")

    def ids_of(self, prompt: str | list[str] | list[int] | list[list[int]]) -> list[tuple[int, ...]]:
        """Token ids of one prompt or several."""
        single = isinstance(prompt, str) or (bool(prompt) and isinstance(prompt[0], int))
        several: Any = [prompt] if single else prompt
        if not several:
            raise RefusedError(400, "there is no prompt")
        return [self._ids_of_one(item) for item in several]

    def _ids_of_one(self, prompt: str | list[int]) -> tuple[int, ...]:
        most = self.engine.most_prompt_tokens
        if isinstance(prompt, str):
            self.tokenizer.require_tokens(prompt, most)
        elif len(prompt) > most:
            raise ContextLengthError(f"the prompt has {len(prompt)} tokens, but may have {most}")
        return tuple(self.model.encode(prompt))

    @cached_property
    def most_body(self) -> int:
        """Number of bytes that a request's body may have, if nothing else was set."""
        tokens, tokenizer = self.engine.most_prompt_tokens, self.model.tokenizer
        needed = _IN_JSON * (tokenizer.most_bytes(tokens) if tokenizer else 0)
        return min(max(needed, _LEAST_BODY), _MOST_BODY)

    def prefix_of(self, request: Request) -> str:
        """Prefix of the names of a client's sessions: clients with other keys see none of them."""
        return self.settings.owner(request.state.client)

    def name_of(self, request: Request, id: str) -> str:
        """The name under which a client's session is stored."""
        name = self.prefix_of(request) + id
        self.sessions.path(name)  # refuses what is no name
        return name

    def create_session(self, name: str, session: Session) -> None:
        """Stores a new session; `SessionExistsError` if there is one of this name."""
        self._store_session(name, session, (), new=True)

    def save_session(self, name: str, session: Session, snapshots: Sequence[Snapshot], instead_of: Stamp) -> None:
        """Stores a session in place of the one of this stamp; `SessionChangedError` if that is there no longer."""
        self._store_session(name, session, snapshots, instead_of=instead_of)

    def _store_session(self, name: str, session: Session, snapshots: Sequence[Snapshot], **how: Any) -> None:
        """Stores a session; that there is no room for it is the server's fault."""
        try:
            stamp = self.chats.save(name, session, snapshots, **how)
        except (SessionExistsError, SessionChangedError):
            raise
        except BraidError as error:
            raise RefusedError(507, f"the session could not be stored: {error}", code="not_stored") from None
        self.session_cache.keep_session(name, session, stamp)

    def delete_session(self, name: str) -> None:
        """Removes a session for good."""
        self.sessions.delete(name)
        self.session_cache.forget_session(name)

    def answer(
        self,
        handles: Sequence[RequestHandle],
        finish: Callable[[Made], None],
        release: Callable[[], None] = lambda: None,
    ) -> Answer:
        """Follows requests to their end; then calls `finish` in a thread, if there was no error, and `release`."""

        async def done(made: Made) -> None:
            await asyncio.to_thread(finish, made)

        def over() -> None:
            self.metrics.count_prompts([handle.usage for handle in handles if handle.usage is not None])
            self.metrics.count_answer(answer)
            self._answers.discard(answer)
            release()

        answer = Answer(handles, done, over)
        self._answers.add(answer)
        return answer

    def cut_answers(self) -> None:
        """Cuts all answers off."""
        for answer in self._answers:
            answer.cancel()

    async def close(self) -> None:
        """Cuts all answers off, waits until they are stored, and closes the engine."""
        self.cut_answers()
        await asyncio.gather(*(answer.task for answer in self._answers), return_exceptions=True)
        await asyncio.to_thread(self.engine.close)


class BaseModelHost(ABC):
    """Host of what answers requests, which it loads in the background."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.metrics = Metrics()
        self.begun = int(time.time())
        self.on_failure: Callable[[], None] = lambda: None
        self.on_ready: Callable[[], None] = lambda: None
        self._failure: Exception | None = None
        self._closed = False
        # A daemon: whoever stops the server while it loads shall not wait for that.
        self._loading = threading.Thread(target=self._run, name="braidlm-load", daemon=True)

    def start(self) -> None:
        """Begins to load the model."""
        self._loading.start()

    def wait(self) -> None:
        """Waits until the model has been loaded, or could not be."""
        self._loading.join()

    def _run(self) -> None:
        try:
            self._open()
            self.on_ready()
            log.info("ready")
        except Exception as error:
            self._failure = error
            self.on_failure()

    @abstractmethod
    def _open(self) -> None:
        """Loads what answers requests; called in a thread of its own."""

    @property
    def failure(self) -> Exception | None:
        """Error that kept the model from loading."""
        return self._failure

    def require_health(self) -> None:
        """Refuses if the model could not be loaded."""
        if self._failure is not None:
            raise RefusedError(503, f"the model could not be loaded: {self._failure}", code="load_failed")

    def ready(self, opened: Opened | None) -> Opened:
        """`opened`, which answers requests; refuses while it is None."""
        self.require_health()
        if self._closed:
            raise RefusedError(503, "the server is shutting down", code="closing")
        if opened is None:
            raise RefusedError(503, "the model is being loaded; try again soon", code="loading", wait=2)
        return opened

    def most_body(self) -> int:
        """Number of bytes that a request's body may have."""
        return self.settings.max_body or _MOST_BODY

    @abstractmethod
    async def cut_answers(self) -> None:
        """Cuts all answers off."""

    @abstractmethod
    async def close(self) -> None:
        """Ends everything; unfinished answers are stored as far as they are."""


class ModelHost(BaseModelHost):
    """Host of a model in this process."""

    def __init__(
        self,
        load: Callable[[], LanguageModel],
        settings: Settings,
        *,
        store: SessionStore | None = None,
        limits: Limits | None = None,
        kv_dtype: str | None = None,
    ) -> None:
        super().__init__(settings)
        self._load = load
        self._store = store
        self._limits = limits
        self._kv_dtype = kv_dtype
        self._served: Served | None = None

    def _open(self) -> None:
        model = self._load()
        engine = model.engine(self._kv_dtype, self._limits)
        engine.prepare_rules()
        self._served = Served(model, engine, self._store, self.settings, self.metrics)

    def require_health(self) -> None:
        """Refuses if the model could not be loaded, or its engine has stopped."""
        super().require_health()
        if self._served is not None and self._served.engine.failure is not None:
            raise RefusedError(503, f"the engine has stopped: {self._served.engine.failure}", code="engine_stopped")

    def most_body(self) -> int:
        """Number of bytes that a request's body may have: by default, those of a prompt that fills the context."""
        if self.settings.max_body is None and self._served is not None:
            return self._served.most_body
        return super().most_body()

    @property
    def served(self) -> Served:
        """The loaded model; refuses while there is none."""
        return self.ready(self._served)

    async def cut_answers(self) -> None:
        """Cuts all answers off."""
        if self._served is not None:
            self._served.cut_answers()

    async def close(self) -> None:
        """Ends everything; unfinished answers are stored as far as they are."""
        self._closed = True
        if self._served is not None:
            await self._served.close()


def host_of(request: Request) -> ModelHost:
    """The application's host."""
    host: ModelHost = request.app.state.host
    return host


TheHost = Annotated[ModelHost, Depends(host_of)]


def served(host: TheHost) -> Served:
    """The model that is served."""
    return host.served


ServedModel = Annotated[Served, Depends(served)]
