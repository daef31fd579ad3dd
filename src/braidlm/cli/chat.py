"""`braid chat`: a conversation in the terminal."""

from pathlib import Path
from typing import Annotated

import typer

from .chat_input import quiet_terminal
from .common import (
    Adapter,
    AllowPickle,
    Deterministic,
    Device,
    Dtype,
    InitialState,
    KvDtype,
    ModelArgument,
    Ops,
    Quantize,
    Threads,
    load_model,
    with_beside,
)
from .generate import MaxTokens, MinP, Penalty, Seed, Temperature, TopK, TopP
from .session import Sessions, store_at

EXAMPLE = "Example: braid chat smollm2-135m"


def command(
    model: ModelArgument,
    system: Annotated[str | None, typer.Option(help="System message.", show_default=False)] = None,
    session: Annotated[
        str | None,
        typer.Option(help="Name of a session to go on with, or to begin; each turn is saved.", show_default=False),
    ] = None,
    sessions: Sessions = None,
    max_tokens: MaxTokens = 512,
    temperature: Temperature = 0.2,
    top_p: TopP = 0.9,
    top_k: TopK = 0,
    min_p: MinP = 0.0,
    repetition_penalty: Penalty = 1.0,
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
) -> None:
    """Talk with MODEL. Earlier turns are not run again. Commands: /save /load /fork /reset /stats /help /quit."""
    from ..engine import Limits
    from ..generation.sampling import Sampling
    from ..sessions import Chats, Conversation
    from .chat_terminal import Terminal

    with quiet_terminal():
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
        sampling = Sampling(
            max_tokens=max_tokens,
            temperature=temperature,
            top_p=top_p,
            top_k=top_k,
            min_p=min_p,
            repetition_penalty=repetition_penalty,
            seed=seed,
        )
        with language.engine(kv_dtype, Limits(parallel=1)) as engine:
            store = store_at(sessions)
            chats = Chats(language, engine, store, Path(model).name)
            Terminal(Conversation(chats, system, session), store, sampling).run()
