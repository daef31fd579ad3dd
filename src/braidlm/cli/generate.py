"""`braid generate`: continue one prompt."""

import sys
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import InputError
from ..generation.sampling import Sampling
from ..system.memory import without_huge_pages
from ..system.setting_files import with_values
from .common import Adapter, InitialState, Json, ModelArgument, print_json, with_adapter
from .load_options import LoadOptions
from .options import with_options

if TYPE_CHECKING:
    from ..api.language_model import LanguageModel
    from ..generation.continuation import Token

EXAMPLE = 'Example: braid generate smollm2-135m "The capital of France is" --max-tokens 20'

_DEFAULTS = {"max_tokens": 128}
# Number of tokens from which on moving the weights to huge pages is worth its time.
_MANY_TOKENS = 32


@with_options({"Sampling": Sampling, "Model": LoadOptions}, defaults=_DEFAULTS, without=("logit_bias", "top_logprobs"))
def command(
    model: ModelArgument,
    prompt: Annotated[
        str, typer.Argument(metavar="PROMPT", help="Text to continue; - reads standard input.", show_default=False)
    ],
    ids: Annotated[bool, typer.Option("--ids", help="PROMPT is token ids separated by spaces or commas.")] = False,
    chat: Annotated[bool, typer.Option("--chat", help="Put PROMPT through the model's chat template.")] = False,
    adapter: Adapter = None,
    state: InitialState = None,
    json: Json = False,
    **given: Any,
) -> None:
    """Continue PROMPT with MODEL; the text appears as it is made."""
    if ids and chat:
        raise InputError("--ids and --chat exclude each other: a chat template takes text, not token ids")
    text = _standard_input() if prompt == "-" else prompt
    loading = LoadOptions(**with_values(LoadOptions, given))
    sampling = Sampling(**with_values(Sampling, _DEFAULTS | given))
    with without_huge_pages(sampling.max_tokens < _MANY_TOKENS):
        language = with_adapter(loading.load(model), adapter, state)
        wanted: str | list[int] | list[dict[str, str]] = _ids(text) if ids else text
        if chat:
            wanted = [{"role": "user", "content": text}]
        begun = time.perf_counter()
        tokens, first = _run(language, wanted, sampling, loading.kv_dtype, show=not json)
    if not json:
        typer.echo()
        return
    print_json(
        {
            "text": "".join(token.text for token in tokens) if language.tokenizer else None,
            "ids": [token.id for token in tokens],
            "logprobs": [token.logprob for token in tokens],
            "finish": tokens[-1].finish,
            "first_token_s": first - begun,
            "total_s": time.perf_counter() - begun,
        }
    )


def _run(
    language: "LanguageModel", prompt: Any, sampling: Sampling, kv_dtype: str | None, *, show: bool
) -> tuple[list["Token"], float]:
    """Tokens after a prompt, which are shown as they are made, and the time of the first."""
    from ..engine import Limits, Request
    from ..engine.generate import PREFILL_CHUNK

    request = Request(ids=tuple(language.encode(prompt)), sampling=sampling)
    # One sequence has the machine to itself, and nothing comes after it.
    alone = Limits(
        parallel=1, memory=sys.maxsize, cache_memory=0, prefill_chunk=PREFILL_CHUNK, max_prompt_tokens=sys.maxsize
    )
    tokens, first = [], 0.0
    with language.engine(kv_dtype, alone) as engine:
        for _, token in engine.submit(request):
            first = first or time.perf_counter()
            tokens.append(token)
            if show:
                typer.echo(token.text if language.tokenizer else f"{token.id} ", nl=False)
                sys.stdout.flush()
    return tokens, first


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
