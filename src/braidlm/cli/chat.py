"""`braid chat`: a conversation in the terminal."""

from pathlib import Path
from typing import Annotated, Any

import typer

from ..generation.sampling import Sampling
from ..system.setting_files import with_values
from .chat_input import quiet_terminal
from .common import Adapter, InitialState, ModelArgument, with_adapter
from .load_options import LoadOptions
from .options import with_options
from .session import Sessions, store_at

EXAMPLE = "Example: braid chat smollm2-135m"

_DEFAULTS = {"max_tokens": 512, "temperature": 0.2, "top_p": 0.9}


@with_options({"Sampling": Sampling, "Model": LoadOptions}, defaults=_DEFAULTS, without=("logit_bias", "top_logprobs"))
def command(
    model: ModelArgument,
    system: Annotated[str | None, typer.Option(help="System message.", show_default=False)] = None,
    session: Annotated[
        str | None,
        typer.Option(help="Name of a session to go on with, or to begin; each turn is saved.", show_default=False),
    ] = None,
    sessions: Sessions = None,
    adapter: Adapter = None,
    state: InitialState = None,
    **given: Any,
) -> None:
    """Talk with MODEL. Earlier turns are not run again. Commands: /save /load /fork /reset /stats /help /quit."""
    from ..engine import Limits
    from ..sessions import Chats, Conversation
    from .chat_terminal import Terminal

    with quiet_terminal():
        loading = LoadOptions(**with_values(LoadOptions, given))
        language = with_adapter(loading.load(model), adapter, state)
        sampling = Sampling(**with_values(Sampling, _DEFAULTS | given))
        with language.engine(loading.kv_dtype, Limits(parallel=1)) as engine:
            store = store_at(sessions)
            chats = Chats(language, engine, store, Path(model).name)
            Terminal(Conversation(chats, system, session), store, sampling).run()
