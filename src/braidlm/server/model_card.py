"""Routes of the model and the server: info, health, metrics, models, tokenizer."""

import asyncio

from fastapi import APIRouter, Response

from ..model.footprint import transformer_bytes_per_token
from .errors import RefusedError
from .host import ModelHost, Served, ServedModel, TheHost
from .replies import (
    DetokenizeReply,
    InfoReply,
    ModelList,
    ModelReply,
    StateInfo,
    StatusReply,
    TokenizeReply,
)
from .requests import DetokenizeRequest, TokenizeRequest
from .tools import for_template

router = APIRouter()


@router.get("/health", tags=["Server"])
async def health(host: TheHost) -> StatusReply:
    """Whether the server can go on; a supervisor should restart it otherwise."""
    host.require_health()
    return StatusReply(status="ok")


@router.get("/ready", tags=["Server"])
async def ready(_: ServedModel) -> StatusReply:
    """Whether the model is loaded."""
    return StatusReply(status="ready")


@router.get("/metrics", tags=["Server"], response_class=Response)
async def metrics(host: TheHost) -> Response:
    """Prometheus metrics."""
    return Response(host.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


@router.get("/info", tags=["Server"])
async def info(served: ServedModel) -> InfoReply:
    """Model, abilities of the server, and memory of a conversation by its tokens."""
    return InfoReply(
        model=served.settings.name,
        chat=served.can_chat,
        sessions=served.keeps_sessions,
        max_positions=served.model.spec.max_positions,
        replicas=served.settings.replicas,
        state=_state_info(served),
    )


def _state_info(served: Served) -> StateInfo:
    """Bytes of a state by its two parts, measured between two lengths at which nothing is full or empty."""
    spec, precision, many = served.model.spec, served.engine.owner.precision, 1 << 20
    short, long = (spec.state_bytes(n, dtype=precision.name, kv_dtype=precision.kv) for n in (many, 2 * many))
    each = (long - short) / many
    return StateInfo(
        fixed_bytes=round(short - each * many),
        bytes_per_token=each,
        transformer_bytes_per_token=transformer_bytes_per_token(spec, precision.kv),
    )


@router.get("/v1/models", tags=["OpenAI API"])
async def models(host: TheHost) -> ModelList:
    """The model that is served, by itself and with each adapter and initial state."""
    return ModelList(data=[_model(host, name) for name in host.settings.models])


@router.get("/v1/models/{model:path}", tags=["OpenAI API"])
async def model(model: str, host: TheHost) -> ModelReply:
    """A model that is served, by its name."""
    if model not in host.settings.models:
        raise RefusedError(404, f"there is no model {model!r} here", code="model_not_found", param="model")
    return _model(host, model)


def _model(host: ModelHost, name: str) -> ModelReply:
    return ModelReply(id=name, created=host.begun, owned_by="braidlm")


@router.post("/tokenize", tags=["Server"])
async def tokenize(body: TokenizeRequest, served: ServedModel) -> TokenizeReply:
    """Token ids of a text, or of a chat ready for its answer."""
    served.adapter_key_of(body.model)
    if (body.text is None) == (body.messages is None):
        raise RefusedError(400, "give either a text or messages")
    if body.text is not None:
        ids = await asyncio.to_thread(_ids_of_text, served, body.text, body.add_special_tokens)
    else:
        plain = for_template(body.messages or [])
        ids = list((await asyncio.to_thread(served.chats.transcripts.prompt, plain)).ids)
    return TokenizeReply(ids=ids, count=len(ids))


def _ids_of_text(served: Served, text: str, around: bool) -> list[int]:
    served.tokenizer.require_tokens(text, served.engine.most_prompt_tokens)
    return served.tokenizer.encode(text, add_bos=around)


@router.post("/detokenize", tags=["Server"])
async def detokenize(body: DetokenizeRequest, served: ServedModel) -> DetokenizeReply:
    """The text of token ids, control tokens included."""
    served.adapter_key_of(body.model)
    return DetokenizeReply(text=await asyncio.to_thread(served.tokenizer.decode, body.ids, skip_special=False))
