"""`braid generate`: continue one prompt."""

import sys
import time
from typing import Annotated

import typer

from ..errors import InputError
from .common import (
    Adapter,
    AllowPickle,
    Deterministic,
    Device,
    Dtype,
    InitialState,
    Json,
    KvDtype,
    ModelArgument,
    Ops,
    Quantize,
    Threads,
    load_model,
    print_json,
    with_beside,
)

EXAMPLE = 'Example: braid generate smollm2-135m "The capital of France is" --max-tokens 20'

MaxTokens = Annotated[int, typer.Option(min=1, help="At most this many tokens.")]
Temperature = Annotated[float, typer.Option(help="0 takes the most likely token.")]
TopP = Annotated[float, typer.Option(help="Smallest set of tokens with this probability.")]
TopK = Annotated[int, typer.Option(help="Only the k most likely tokens (0: all).")]
MinP = Annotated[float, typer.Option(help="Only tokens with this share of the most likely one's probability.")]
Penalty = Annotated[float, typer.Option(help="Above 1 makes tokens that were seen less likely.")]
PresencePenalty = Annotated[
    float, typer.Option(help="Taken off the logit of each token that was generated, once; -2 to 2.")
]
FrequencyPenalty = Annotated[
    float, typer.Option(help="Taken off the logit of a token each time that it was generated; -2 to 2.")
]
Seed = Annotated[int | None, typer.Option(help="The same seed gives the same text.", show_default=False)]


def command(
    model: ModelArgument,
    prompt: Annotated[str, typer.Argument(help="Text to continue; - reads standard input.", show_default=False)],
    ids: Annotated[bool, typer.Option("--ids", help="PROMPT is token ids separated by spaces or commas.")] = False,
    chat: Annotated[bool, typer.Option("--chat", help="Put PROMPT through the model's chat template.")] = False,
    max_tokens: MaxTokens = 128,
    temperature: Temperature = 0.0,
    top_p: TopP = 1.0,
    top_k: TopK = 0,
    min_p: MinP = 0.0,
    repetition_penalty: Penalty = 1.0,
    presence_penalty: PresencePenalty = 0.0,
    frequency_penalty: FrequencyPenalty = 0.0,
    stop: Annotated[
        list[str] | None, typer.Option(help="End before this text (may be repeated).", show_default=False)
    ] = None,
    seed: Seed = None,
    adapter: Adapter = None,
    state: InitialState = None,
    dtype: Dtype = "auto",
    quantize: Quantize = None,
    kv_dtype: KvDtype = None,
    device: Device = "cpu",
    ops: Ops = "auto",
    threads: Threads = None,
    deterministic: Deterministic = False,
    allow_pickle: AllowPickle = False,
    json: Json = False,
) -> None:
    """Continue PROMPT with MODEL; the text appears as it is made."""
    from ..engine import Limits, Request
    from ..generation.generate import PREFILL_CHUNK
    from ..generation.sampling import Sampling

    if ids and chat:
        raise InputError("--ids and --chat exclude each other: a chat template takes text, not token ids")
    text = _standard_input() if prompt == "-" else prompt
    language = load_model(
        model,
        dtype=dtype,
        device=device,
        ops=ops,
        allow_pickle=allow_pickle,
        threads=threads,
        quantize=quantize,
        deterministic=deterministic,
    )
    language = with_beside(language, adapter, state)
    wanted: str | list[int] | list[dict[str, str]] = _ids(text) if ids else text
    if chat:
        wanted = [{"role": "user", "content": text}]
    sampling = Sampling(
        max_tokens=max_tokens,
        temperature=temperature,
        top_p=top_p,
        top_k=top_k,
        min_p=min_p,
        repetition_penalty=repetition_penalty,
        presence_penalty=presence_penalty,
        frequency_penalty=frequency_penalty,
        stop=tuple(stop or ()),
        seed=seed,
    )
    begun = time.perf_counter()
    tokens, first = [], 0.0
    request = Request(ids=tuple(language.encode(wanted)), sampling=sampling)
    # One sequence has the machine to itself, and nothing comes after it.
    alone = Limits(
        parallel=1, memory=sys.maxsize, cache_memory=0, prefill_chunk=PREFILL_CHUNK, max_prompt_tokens=sys.maxsize
    )
    with language.engine(kv_dtype, alone) as engine:
        for _, token in engine.submit(request):
            first = first or time.perf_counter() - begun
            tokens.append(token)
            if not json:
                typer.echo(token.text if language.tokenizer else f"{token.id} ", nl=False)
                sys.stdout.flush()
    if not json:
        typer.echo()
        return
    print_json(
        {
            "text": "".join(token.text for token in tokens) if language.tokenizer else None,
            "ids": [token.id for token in tokens],
            "logprobs": [token.logprob for token in tokens],
            "finish": tokens[-1].finish,
            "first_token_s": first,
            "total_s": time.perf_counter() - begun,
        }
    )


def _standard_input() -> str:
    try:
        return sys.stdin.read()
    except UnicodeDecodeError as error:
        raise InputError(f"standard input is no text in {error.encoding}: {error.reason}") from None


def _ids(text: str) -> list[int]:
    try:
        return [int(part) for part in text.replace(",", " ").split()]
    except ValueError:
        raise InputError(f"--ids needs whole numbers separated by spaces or commas, not {text!r}") from None
