"""What clients may ask, as the OpenAI API writes it: checked strictly, so that no field is ignored in silence.

A field that is null counts as one that was left out. What is not known here is refused, and so are known fields with
a meaning that is not served.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from ..sampling import Sampling

MOST_COPIES = 128


# Fields that are not served, with the values that ask for nothing: clients send them without being told to.
_NOTHING: dict[str, Any] = {
    "best_of": 1,
    "echo": False,
    "frequency_penalty": 0,
    "include_obfuscation": False,
    "logit_bias": {},
    "presence_penalty": 0,
    "store": False,
    "suffix": "",
}


class Body(BaseModel):
    """A request's body: no other fields than those that are declared, no numbers written as texts."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _without_nothing(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        return {key: value for key, value in data.items() if value is not None and value != _NOTHING.get(key)}


class StreamOptions(Body):
    """What a stream holds beside the text."""

    include_usage: bool = False


class Sampled(Body):
    """How an answer is written: what chats and completions have in common."""

    model: str | None = Field(None, description="The served model's name; any other is refused.")
    temperature: float = Field(1.0, ge=0, le=1000, description="0 takes the most likely token.")
    top_p: float = Field(1.0, gt=0, le=1)
    top_k: int = Field(0, ge=0, le=2**31, description="Choose among the most likely so many tokens; 0: among all.")
    min_p: float = Field(0.0, ge=0, le=1)
    repetition_penalty: float = Field(1.0, ge=1e-6, le=1e6)
    seed: int | None = Field(None, ge=0, le=2**63, description="The same seed gives the same answer.")
    stop: str | list[str] = Field([], max_length=1000, description="Texts that end the answer, not part of it.")
    n: int = Field(1, ge=1, le=MOST_COPIES, description="Answers to the same prompt, each by a seed of its own.")
    max_tokens: int | None = Field(None, ge=1, le=2**31)
    stream: bool = False
    stream_options: StreamOptions | None = None
    user: str | None = Field(None, description="Users of one client get equal shares of the machine.")

    @property
    def wants_usage(self) -> bool:
        """Whether a stream ends with what it cost."""
        return self.stream_options is not None and self.stream_options.include_usage

    def sampling(self, most: int, top_logprobs: int = 0) -> Sampling:
        """How at most `most` tokens are chosen."""
        return Sampling(
            max_new_tokens=most,
            temperature=self.temperature,
            top_p=self.top_p,
            top_k=self.top_k,
            min_p=self.min_p,
            repetition_penalty=self.repetition_penalty,
            stop=(self.stop,) if isinstance(self.stop, str) else tuple(self.stop),
            seed=self.seed,
            top_logprobs=top_logprobs,
        )


class CompletionRequest(Sampled):
    """`POST /v1/completions`."""

    prompt: str | list[str] | list[int] | list[list[int]] = Field(
        description="A text, token ids, or several of one kind."
    )
    logprobs: int | None = Field(None, ge=0, le=20)


class TextPart(Body):
    """A part of a message."""

    type: Literal["text"]
    text: str


class CalledFunction(Body):
    """A function's name and its arguments, as the text of a JSON object."""

    name: str
    arguments: str


class ToolCall(Body):
    """A call that the model has made."""

    id: str
    type: Literal["function"] = "function"
    function: CalledFunction


class ChatMessage(Body):
    """One message of a chat."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[TextPart] | None = None
    name: str | None = None
    tool_calls: list[ToolCall] | None = None
    tool_call_id: str | None = None


class FunctionTool(Body):
    """A function that the model may call; `parameters` is a JSON schema."""

    name: str = Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")
    description: str | None = None
    parameters: dict[str, Any] = {}
    strict: bool = False


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

    messages: list[ChatMessage] = Field(description="With a session: what is new in it.")
    max_completion_tokens: int | None = Field(None, ge=1, le=2**31)
    logprobs: bool = False
    top_logprobs: int = Field(0, ge=0, le=20)
    response_format: ResponseFormat = Field(default_factory=lambda: PlainFormat(type="text"))
    tools: list[Tool] = []
    tool_choice: Literal["none", "auto", "required"] | ToolChoice = "auto"
    parallel_tool_calls: bool = True
    session: str | None = Field(None, description="A stored conversation that goes on; its answer is stored too.")
    session_keep: int | None = Field(None, ge=0, le=2**31, description="How many of the session's messages stay.")


class EmbeddingRequest(Body):
    """`POST /v1/embeddings`."""

    input: str | list[str] | list[int] | list[list[int]]
    model: str | None = None
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = Field(None, ge=1, le=2**31, description="Accepted if it is the model's width.")
    user: str | None = None


class TokenizeRequest(Body):
    """`POST /tokenize`: a text, or a chat as the model's template writes it."""

    text: str | None = None
    messages: list[ChatMessage] | None = None
    model: str | None = None
    add_special_tokens: bool = True


class DetokenizeRequest(Body):
    """`POST /detokenize`."""

    ids: list[Annotated[int, Field(ge=0, le=2**31)]]
    model: str | None = None


class NewSession(Body):
    """`POST /v1/sessions`."""

    id: str | None = Field(None, description="Its name; one is made up if none is given.")
    messages: list[ChatMessage] = []


class ForkRequest(Body):
    """`POST /v1/sessions/{id}/fork`."""

    id: str | None = Field(None, description="The new session's name; one is made up if none is given.")
    keep: int | None = Field(None, ge=0, le=2**31, description="How many messages it takes over; all by default.")
