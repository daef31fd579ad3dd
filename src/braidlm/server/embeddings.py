"""`POST /v1/embeddings`: vectors of texts."""

import asyncio
import base64

from fastapi import APIRouter, Request
from torch import Tensor

from ..api.embedding import embed
from .errors import RefusedError
from .host import Served, ServedModel
from .replies import EmbeddingList, EmbeddingReply, EmbeddingUsage
from .requests import EmbeddingRequest

# Of all inputs of a request: what OpenAI's API allows.
_MOST_TOKENS = 300_000

router = APIRouter(tags=["OpenAI API"])


@router.post("/v1/embeddings")
async def embeddings(body: EmbeddingRequest, request: Request, served: ServedModel) -> EmbeddingList:
    """The mean of the last hidden states over a text's tokens, of length 1; for each of the texts."""
    served.require_base(body.model)
    width = served.model.spec.width
    if body.dimensions not in (None, width):
        raise RefusedError(400, f"this model's vectors have {width} dimensions", param="dimensions")
    prompts = await asyncio.to_thread(served.ids_of, body.input)
    total = sum(map(len, prompts))
    if total > _MOST_TOKENS:
        raise RefusedError(400, f"the inputs have {total} tokens, but may have {_MOST_TOKENS}", param="input")
    request.state.log_fields["prompt_tokens"] = total
    data = []
    async with served.embedding:
        for index, ids in enumerate(prompts):
            if await request.is_disconnected():
                raise RefusedError(499, "the client has left")
            vector = await asyncio.to_thread(_vector, served, ids)
            data.append(EmbeddingReply(index=index, embedding=_written(vector, body.encoding_format)))
    usage = EmbeddingUsage(prompt_tokens=total, total_tokens=total)
    return EmbeddingList(data=data, model=served.settings.name, usage=usage)


def _vector(served: Served, ids: tuple[int, ...]) -> Tensor:
    return embed(served.model, ids, part=served.engine.limits.prefill_chunk, run=served.engine.run)


def _written(vector_D: Tensor, encoding_format: str) -> list[float] | str:
    if encoding_format == "float":
        return vector_D.tolist()
    return base64.b64encode(vector_D.numpy().astype("<f4").tobytes()).decode()
