"""`braid demo`: the model that comes with braidlm, on this computer."""

import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer
from rich.table import Table

from ..checkpoints import embedded
from ..generation.sampling import Sampling
from ..system.units import amount, size
from .common import Json, Threads, out, print_json
from .load_options import LoadOptions
from .options import help_of

if TYPE_CHECKING:
    from ..api.language_model import LanguageModel
    from ..engine import RequestHandle, Usage
    from ..generation.continuation import Token
    from ..sessions import SessionStore

EXAMPLE = 'Example: braid demo "In the beginning"'

_LENGTHS = (1_000, 10_000, 100_000)
_SESSION = "demo"


class _Part(NamedTuple):
    """Text that was written in one go, after the tokens `seen`. `rate`: tokens a second after the first."""

    seen: tuple[int, ...]
    text: str
    tokens: int
    rate: float
    usage: "Usage"


def command(
    prompt: Annotated[str, typer.Argument(help="Text to continue.")] = "It is a truth universally acknowledged, that",
    max_tokens: Annotated[int, typer.Option(min=1, help=help_of(Sampling, "max_tokens"))] = 100,
    temperature: Annotated[float, typer.Option(help=help_of(Sampling, "temperature"))] = 0.8,
    seed: Annotated[int, typer.Option(help=help_of(Sampling, "seed"))] = 1,
    threads: Threads = None,
    json: Json = False,
) -> None:
    """Run the small hybrid that comes with braidlm: it writes, is stored, and goes on. Nothing is downloaded."""
    from ..sessions import SessionStore

    sampling = Sampling(max_tokens=max_tokens, temperature=temperature, min_p=0.02, seed=seed)
    begun = time.perf_counter()
    language = LoadOptions(threads=threads).load(embedded.NAME)
    told: dict[str, Any] = {"model": embedded.NAME, "load_s": time.perf_counter() - begun} | _sizes(language)
    if not json:
        out.print(
            f"{embedded.NAME}: {amount(told['parameters'])} parameters in {size(told['weight_bytes'])}, "
            f"loaded in {told['load_s']:.2f} s\n",
            style="dim", highlight=False,
        )  # fmt: skip
        typer.echo(prompt, nl=False)
    with tempfile.TemporaryDirectory() as directory:
        store = SessionStore(Path(directory))
        written = _write(language, prompt, sampling, store, show=not json)
        told["session_bytes"] = store.path(_SESSION).stat().st_size
        again = LoadOptions(threads=threads).load(embedded.NAME)  # as another process would
        resumed = _resume(again, store, show=not json)
    told |= {"text": prompt + written.text + resumed.text, "tokens_per_s": written.rate, "resumed": _facts(resumed)}
    if json:
        print_json(told)
        return
    out.print(
        f"\n\n{written.tokens} tokens at {written.rate:,.0f} a second, stored in {size(told['session_bytes'])}; loaded "
        f"again, {resumed.tokens} more; {resumed.usage.recomputed} of {len(resumed.seen)} tokens were read again\n",
        style="dim", highlight=False,
    )  # fmt: skip
    out.print(_table(told["state_bytes"], told["transformer_bytes"]))


def _write(language: "LanguageModel", prompt: str, sampling: Sampling, store: "SessionStore", *, show: bool) -> _Part:
    """Continues the prompt and stores what was written with its states."""
    from ..engine import Limits, Request
    from ..sessions import Session

    assert language.tokenizer is not None
    ids = tuple(language.encode(prompt))
    with language.engine(limits=Limits(parallel=1)) as engine:
        handle = engine.submit(Request(ids=ids, sampling=sampling, wants_snapshots=True))
        tokens, rate = _stream(handle, show=show)
        owner = engine.owner
    assert handle.usage is not None
    text = "".join(token.text for token in tokens)
    made = tuple(token.id for token in tokens)
    session = Session(text=prompt + text, ids=ids + made, sampling=sampling)
    store.save(_SESSION, session, handle.snapshots, owner, embedded.NAME)
    return _Part(ids, text, len(tokens), rate, handle.usage)


def _resume(language: "LanguageModel", store: "SessionStore", *, show: bool) -> _Part:
    """Goes on with what was stored."""
    from ..engine import Limits, Request

    with language.engine(limits=Limits(parallel=1)) as engine:
        session, snapshots = store.load(_SESSION, engine.owner)
        assert session.sampling is not None
        handle = engine.submit(Request(ids=session.ids, sampling=session.sampling, snapshots=snapshots))
        tokens, rate = _stream(handle, show=show)
    assert handle.usage is not None
    return _Part(session.ids, "".join(token.text for token in tokens), len(tokens), rate, handle.usage)


def _stream(handle: "RequestHandle", *, show: bool) -> "tuple[list[Token], float]":
    """All tokens, written to standard output as they come, and how many a second."""
    tokens: list[Token] = []
    first = last = 0.0
    for _, token in handle:
        last = time.perf_counter()
        first = first or last
        tokens.append(token)
        if show:
            typer.echo(token.text, nl=False)
            sys.stdout.flush()
    return tokens, (len(tokens) - 1) / (last - first) if len(tokens) > 1 else 0.0


def _sizes(language: "LanguageModel") -> dict[str, Any]:
    """Parameters, and bytes: of the weights, of the state, and of what a transformer would hold instead."""
    from ..model import footprint
    from ..system.dtypes import name_of

    spec, dtype = language.spec, name_of(language.network.dtype)
    a_token = footprint.transformer_bytes_per_token(spec, dtype)
    return {
        "parameters": footprint.size(spec).total,
        "weight_bytes": sum(weight.nbytes for _, weight in language.network.named_weights()),
        "state_bytes": {str(n): spec.state_bytes(n, dtype=dtype, kv_dtype=dtype) for n in _LENGTHS},
        "transformer_bytes": {str(n): round(n * a_token) for n in _LENGTHS},
    }


def _facts(part: _Part) -> dict[str, Any]:
    return {"tokens": part.tokens, "tokens_per_s": part.rate, **part.usage._asdict()}


def _table(hybrid: dict[str, int], transformer: dict[str, int]) -> Table:
    lengths = (f"{int(n):,} tokens" for n in hybrid)
    table = Table("memory of a sequence of", *lengths, box=None, padding=(0, 2, 0, 0))
    table.add_row(embedded.NAME, *(size(count) for count in hybrid.values()))
    table.add_row("a transformer of its width and depth", *(size(count) for count in transformer.values()))
    return table
