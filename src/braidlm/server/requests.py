"""Bodies of requests, as the OpenAI API writes them, checked strictly (see `fields`)."""

import re
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from ..generation.sampling import Sampling
from .fields import Body, Unserved, unserved

MAX_N = 128
# What OpenAI's API allows of one request's inputs; a chat has fewer messages than any context has room for.
MOST_INPUTS = 2048
_MOST_MESSAGES, _MOST_TOOLS, _MOST_STOPS = 4096, 128, 64
# Only the first wrong entry is reported; checking thousands more would keep others waiting.
_FirstWrong = Field(fail_fast=True)

# Parts of messages that are no text, by their names in the OpenAI API and its likes.
_OTHER_PARTS = {
    "image_url": "images",
    "image": "images",
    "input_image": "images",
    "input_audio": "sounds",
    "audio": "sounds",
    "file": "files",
    "video_url": "videos",
    "refusal": "refusals",
}
_TOKEN_ID = re.compile("0|[1-9][0-9]{0,9}")
_NO_EFFECT = "Accepted without effect: "


_Ids = Annotated[list[int], _FirstWrong]
_Input = str | Annotated[list[str], _FirstWrong] | _Ids | Annotated[list[_Ids], _FirstWrong]
_Stop = Annotated[str, Field(max_length=1000)]
_Stops = _Stop | Annotated[list[_Stop], _FirstWrong]


class StreamOptions(Body):
    """Options of a stream."""

    unserved: ClassVar = {"include_obfuscation": Unserved("nothing is added to hide the length of texts", (False,))}

    include_usage: bool = False


class Sampled(Body):
    """Sampling and other fields that chats and completions have in common."""

    most: ClassVar = {"messages": _MOST_MESSAGES, "tools": _MOST_TOOLS, "stop": _MOST_STOPS, "prompt": MAX_N}

    model: str | None = Field(None, description="Name of a served model.")
    temperature: float = Field(1.0, ge=0, le=1000, description="0 takes the most likely token.")
    top_p: float = Field(1.0, gt=0, le=1)
    top_k: int = Field(0, ge=0, le=2**31, description="Number of most likely tokens to choose among; 0 for all.")
    min_p: float = Field(0.0, ge=0, le=1)
    repetition_penalty: float = Field(1.0, ge=1e-6, le=1e6)
    presence_penalty: float = Field(0.0, ge=-2, le=2, description="Subtracted from the logit of each generated token.")
    frequency_penalty: float = Field(0.0, ge=-2, le=2, description="The same, times how often it was generated.")
    logit_bias: dict[str, Annotated[float, Field(ge=-100, le=100)]] = Field(
        {}, description="Added to the logits of these token ids: -100 in effect bans one, 100 forces it."
    )
    seed: int | None = Field(None, ge=0, le=2**63, description="The same seed gives the same answer.")
    stop: _Stops = Field([], description="Stop texts: they end the answer and are no part of it.")
    n: int = Field(1, ge=1, le=MAX_N, description="Answers to the same prompt, each by a seed of its own.")
    max_tokens: int | None = Field(None, ge=1, le=2**31)
    stream: bool = False
    stream_options: StreamOptions | None = None
    user: str | None = Field(None, description="Users of one client get equal shares of the machine.")
    metadata: dict[str, Any] | None = Field(None, description=_NO_EFFECT + "nothing is kept of it.")
    service_tier: str | None = Field(None, description=_NO_EFFECT + "there is one.")
    safety_identifier: str | None = Field(None, description=_NO_EFFECT + "it is passed to nobody.")
    store: bool = Field(False, description=_NO_EFFECT + "sessions are what is stored.")
    prompt_cache_key: str | None = Field(None, description=_NO_EFFECT + "every prompt is sought in the cache.")
    prompt_cache_retention: str | None = Field(None, description=_NO_EFFECT + "states stay while memory lasts.")
    prompt_cache_options: dict[str, Any] | None = Field(None, description=_NO_EFFECT + "see prompt_cache_key.")

    @field_validator("logit_bias")
    @classmethod
    def _names_tokens(cls, biases: dict[str, float]) -> dict[str, float]:
        wrong = next((token for token in biases if not _TOKEN_ID.fullmatch(token)), None)
        if wrong is not None:
            raise ValueError(f"{wrong!r} is no token id")
        return biases

    @property
    def wants_usage(self) -> bool:
        """Whether a stream ends with what it cost."""
        return self.stream_options is not None and self.stream_options.include_usage

    def sampling(self, most: int, top_logprobs: int = 0) -> Sampling:
        """Sampling of at most `most` tokens."""
        return Sampling(
            max_tokens=most,
            temperature=self.temperature,
            top_p=self.top_p,
            top_k=self.top_k,
            min_p=self.min_p,
            repetition_penalty=self.repetition_penalty,
            presence_penalty=self.presence_penalty,
            frequency_penalty=self.frequency_penalty,
            logit_bias={int(token): bias for token, bias in self.logit_bias.items()},
            stop=(self.stop,) if isinstance(self.stop, str) else tuple(self.stop),
            seed=self.seed,
            top_logprobs=top_logprobs,
        )


class CompletionRequest(Sampled):
    """`POST /v1/completions`."""

    unserved: ClassVar = {
        "suffix": Unserved("text is written after a prompt, not between two texts", ("",)),
    }

    prompt: _Input = Field(description="A text, token ids, or several of one kind.")
    logprobs: int | None = Field(None, ge=0, le=20)
    max_tokens: int | None = Field(None, ge=0, le=2**31, description="16 by default; 0 with echo alone.")
    echo: bool = Field(False, description="Begin with the prompt; with logprobs, those of its tokens too.")
    best_of: int | None = Field(None, ge=1, description="Accepted if it is n: all that is written is given.")


class TextPart(Body):
    """A part of a message."""

    type: Literal["text"]
    text: str
    prompt_cache_breakpoint: Any = Field(None, description=_NO_EFFECT + "see prompt_cache_key.")

    @model_validator(mode="before")
    @classmethod
    def _is_text(cls, data: Any) -> Any:
        kind = data.get("type") if isinstance(data, dict) else None
        if isinstance(kind, str) and kind in _OTHER_PARTS:
            raise unserved(f"{_OTHER_PARTS[kind]} are not supported here, messages are text")
        return data


class CalledFunction(Body):
    """A function's name and its arguments, as the text of a JSON object."""

    name: str
    arguments: str


class ToolCall(Body):
    """A call that the model has made."""

    id: str
    type: Literal["function"] = "function"
    function: CalledFunction
    index: int | None = Field(None, description=_NO_EFFECT + "calls of a stream have one.")


class ChatMessage(Body):
    """One message of a chat: one that is sent, or an answer's as the client got it."""

    unserved: ClassVar = {
        "refusal": Unserved("write it as content"),
        "audio": Unserved("messages are text"),
        "function_call": Unserved("it is deprecated; use tool_calls"),
    }

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | Annotated[list[TextPart], _FirstWrong] | None = None
    reasoning_content: str | None = Field(None, description="What the model reasoned before this answer.")
    name: str | None = None
    tool_calls: Annotated[list[ToolCall], _FirstWrong] | None = None
    tool_call_id: str | None = None
    annotations: list[Any] | None = Field(None, description=_NO_EFFECT + "templates have no place for them.")


_Messages = Annotated[list[ChatMessage], _FirstWrong]


class FunctionTool(Body):
    """A function that the model may call; `parameters` is a JSON schema."""

    name: str = Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")
    description: str | None = None
    parameters: dict[str, Any] = Field({})
    strict: bool = False

    @field_validator("parameters")
    @classmethod
    def _lists_arguments(cls, schema: dict[str, Any]) -> dict[str, Any]:
        """The schema without what is null; what forced calls and readers of calls look at is of its kind."""
        given = {key: value for key, value in schema.items() if value is not None}
        if not isinstance(given.get("properties", {}), dict):
            raise ValueError("properties must be an object of schemas")
        required = given.get("required", [])
        if not (isinstance(required, list) and all(isinstance(name, str) for name in required)):
            raise ValueError("required must be a list of names")
        return given


class Tool(Body):
    """A tool; there are functions only."""

    type: Literal["function"]
    function: FunctionTool


class FunctionName(Body):
    """The function that must be called."""

    name: str


class ToolChoice(Body):
    """A tool that must be used."""

    type: Literal["function"]
    function: FunctionName


class JsonSchema(Body):
    """A schema with a name."""

    name: str = "answer"
    description: str | None = None
    schema_: dict[str, Any] = Field({}, alias="schema")
    strict: bool = True


class PlainFormat(Body):
    """Any text, or any JSON object."""

    type: Literal["text", "json_object"]


class SchemaFormat(Body):
    """JSON that follows a schema."""

    type: Literal["json_schema"]
    json_schema: JsonSchema


class RegexFormat(Body):
    """Text that a regular expression matches as a whole."""

    type: Literal["regex"]
    regex: str


class GrammarFormat(Body):
    """Text that a grammar in Lark's notation makes."""

    type: Literal["grammar"]
    grammar: str


ResponseFormat = Annotated[
    PlainFormat | SchemaFormat | RegexFormat | GrammarFormat, Field(discriminator="type", description="A rule.")
]


class ChatRequest(Sampled):
    """`POST /v1/chat/completions`."""

    unserved: ClassVar = {
        "audio": Unserved("answers are text"),
        "functions": Unserved("it is deprecated; use tools", ([],)),
        "function_call": Unserved("it is deprecated; use tool_choice", ("none", "auto")),
        "moderation": Unserved("nothing is moderated"),
        "web_search_options": Unserved("nothing is searched; give the model a tool for it"),
    }

    messages: _Messages = Field(description="Messages of the chat; with a session, the new ones.")
    max_completion_tokens: int | None = Field(None, ge=1, le=2**31)
    logprobs: bool = False
    top_logprobs: int = Field(0, ge=0, le=20)
    response_format: ResponseFormat = Field(default_factory=lambda: PlainFormat(type="text"))
    tools: Annotated[list[Tool], _FirstWrong] = Field([])
    tool_choice: Literal["none", "auto", "required"] | ToolChoice = "auto"
    parallel_tool_calls: bool = True
    chat_template_kwargs: dict[str, Any] = Field({}, description="Variables of the model's chat template.")
    modalities: list[str] = Field(["text"], description=_NO_EFFECT + 'answers are text; ["text"] is accepted.')
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh"] | None = Field(
        None, description=_NO_EFFECT + "models here have no such levels."
    )
    verbosity: Literal["low", "medium", "high"] | None = Field(
        None, description=_NO_EFFECT + "models here have no such levels."
    )
    prediction: dict[str, Any] | None = Field(
        None, description=_NO_EFFECT + "it would change when tokens come, and never which."
    )
    session: str | None = Field(None, description="Id of a stored session that goes on; the answer is stored in it.")
    session_keep: int | None = Field(None, ge=0, le=2**31, description="Number of the session's messages that stay.")

    @field_validator("modalities")
    @classmethod
    def _are_text(cls, modalities: list[str]) -> list[str]:
        if modalities != ["text"]:
            raise ValueError('answers are text; it must be ["text"]')
        return modalities


class EmbeddingRequest(Body):
    """`POST /v1/embeddings`."""

    most: ClassVar = {"input": MOST_INPUTS}

    input: _Input
    model: str | None = None
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = Field(None, ge=1, le=2**31, description="Accepted if it is the model's width.")
    user: str | None = None


class TokenizeRequest(Body):
    """`POST /tokenize`: a text, or a chat as the model's template writes it."""

    most: ClassVar = {"messages": _MOST_MESSAGES}

    text: str | None = None
    messages: _Messages | None = None
    model: str | None = None
    add_special_tokens: bool = True


class DetokenizeRequest(Body):
    """`POST /detokenize`."""

    ids: Annotated[list[Annotated[int, Field(ge=0, le=2**31)]], _FirstWrong]
    model: str | None = None


class NewSession(Body):
    """`POST /v1/sessions`."""

    id: str | None = Field(None, description="Id of the session; made up if none is given.")
    most: ClassVar = {"messages": _MOST_MESSAGES}

    messages: _Messages = Field([])


class ForkRequest(Body):
    """`POST /v1/sessions/{id}/fork`."""

    id: str | None = Field(None, description="Id of the new session; made up if none is given.")
    keep: int | None = Field(None, ge=0, le=2**31, description="Number of messages that are copied; all by default.")
