"""Bodies of responses, as the OpenAI API has them, with what this server adds."""

from typing import Any, Literal

from pydantic import BaseModel


class PromptDetails(BaseModel):
    """Tokens of a prompt: covered by a snapshot, seen before but run again, or new; and why no more were covered."""

    cached_tokens: int
    recomputed_tokens: int
    computed_tokens: int
    why: str


class UsageReply(BaseModel):
    """Tokens of prompts and of answers."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptDetails


class TopLogprob(BaseModel):
    """One of the most likely tokens; `bytes` is null where a token is no whole character."""

    token: str
    logprob: float
    bytes: list[int] | None


class TokenLogprob(TopLogprob):
    """A token that was chosen, among the most likely ones."""

    top_logprobs: list[TopLogprob]


class ChatLogprobs(BaseModel):
    """Log probabilities of an answer's tokens."""

    content: list[TokenLogprob]


class FunctionReply(BaseModel):
    """A call's function, and its arguments as the text of a JSON object."""

    name: str
    arguments: str


class ToolCallReply(BaseModel):
    """A call that the model wants to be made."""

    id: str
    type: Literal["function"] = "function"
    function: FunctionReply


class MessageReply(BaseModel):
    """Message of an answer."""

    role: Literal["assistant"] = "assistant"
    content: str | None
    reasoning_content: str | None = None
    tool_calls: list[ToolCallReply] | None = None
    refusal: None = None


class ChatChoice(BaseModel):
    """One of the answers."""

    index: int
    message: MessageReply
    logprobs: ChatLogprobs | None
    finish_reason: Literal["stop", "length", "tool_calls"]


class ChatReply(BaseModel):
    """`POST /v1/chat/completions` without stream."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[ChatChoice]
    usage: UsageReply


class CompletionLogprobs(BaseModel):
    """Log probabilities of a completion's tokens, in parallel lists; a prompt's first token has none."""

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None] | None
    text_offset: list[int]


class CompletionChoice(BaseModel):
    """One of the completions."""

    index: int
    text: str
    logprobs: CompletionLogprobs | None
    finish_reason: Literal["stop", "length"]


class CompletionReply(BaseModel):
    """`POST /v1/completions` without stream."""

    id: str
    object: Literal["text_completion"] = "text_completion"
    created: int
    model: str
    choices: list[CompletionChoice]
    usage: UsageReply


class ModelReply(BaseModel):
    """A model that is served."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str


class ModelList(BaseModel):
    """`GET /v1/models`."""

    object: Literal["list"] = "list"
    data: list[ModelReply]


class EmbeddingReply(BaseModel):
    """One text's vector, as numbers or as base64 of little-endian float32."""

    object: Literal["embedding"] = "embedding"
    index: int
    embedding: list[float] | str


class EmbeddingUsage(BaseModel):
    """Tokens of the inputs."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingList(BaseModel):
    """`POST /v1/embeddings`."""

    object: Literal["list"] = "list"
    data: list[EmbeddingReply]
    model: str
    usage: EmbeddingUsage


class TokenizeReply(BaseModel):
    """`POST /tokenize`."""

    ids: list[int]
    count: int


class DetokenizeReply(BaseModel):
    """`POST /detokenize`."""

    text: str


class SessionReply(BaseModel):
    """A stored conversation; times in seconds since 1970, `bytes` of its file, `messages` is how many there are."""

    id: str
    object: Literal["session"] = "session"
    title: str
    created: float
    updated: float
    model: str
    tokens: int
    bytes: int
    messages: int


class SessionWhole(SessionReply):
    """A stored conversation with its messages."""

    messages: list[dict[str, Any]]  # type: ignore[assignment]


class UnreadableSession(BaseModel):
    """A session whose file cannot be read, and why."""

    id: str
    reason: str


class SessionList(BaseModel):
    """`GET /v1/sessions`: those changed last first, and what cannot be read."""

    object: Literal["list"] = "list"
    data: list[SessionReply]
    unreadable: list[UnreadableSession] = []


class SessionDeleted(BaseModel):
    """`DELETE /v1/sessions/{id}`."""

    id: str
    object: Literal["session.deleted"] = "session.deleted"
    deleted: Literal[True] = True


class StateInfo(BaseModel):
    """Bytes that a conversation's state takes, and those of a transformer of the same width and depth."""

    fixed_bytes: int
    bytes_per_token: float
    transformer_bytes_per_token: float


class InfoReply(BaseModel):
    """`GET /info`: the model and its memory; `replicas` is the number of processes that serve it."""

    model: str
    chat: bool
    sessions: bool
    max_positions: int | None
    replicas: int
    state: StateInfo


class StatusReply(BaseModel):
    """`GET /health` and `GET /ready`."""

    status: str


class ErrorBody(BaseModel):
    """Error: one sentence, a kind, the field that it is about, a code."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorReply(BaseModel):
    """Body of every error."""

    error: ErrorBody
