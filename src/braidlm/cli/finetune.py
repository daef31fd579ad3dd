"""`braid finetune`: a model further, whole or by a small change beside it, with the usual settings."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from .common import ModelArgument, Threads, set_threads
from .train import carry_out

EXAMPLE = "Example: braid finetune smollm2-135m shards runs/poems --how lora --rank 16 --steps 200"

# Usual heights of the learning rate: what is small and begins at nothing moves faster.
_RATES = {"full": 1e-5, "lora": 2e-4, "dora": 2e-4, "state": 1e-2}


class How(StrEnum):
    """What is trained."""

    full = "full"
    lora = "lora"
    dora = "dora"
    state = "state"


def command(
    model: ModelArgument,
    shards: Annotated[Path, typer.Argument(metavar="SHARDS", help="Made by braid data with MODEL's tokenizer.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Directory of the run.")],
    how: Annotated[How, typer.Option(help="Every weight, adapters of low rank, or an initial state alone.")] = How.lora,
    rank: Annotated[int, typer.Option(help="Rank of adapters.")] = 8,
    alpha: Annotated[float, typer.Option(help="Adapters are scaled by alpha / rank.")] = 16.0,
    target: Annotated[
        list[str] | None, typer.Option(help="Projections to adapt; may be repeated. [default: all]", show_default=False)
    ] = None,
    positions: Annotated[
        int | None,
        typer.Option(
            min=0, help="Of learned keys and values in a state. [default: 16 without recurrences]", show_default=False
        ),
    ] = None,
    lr: Annotated[
        float | None, typer.Option(help="Learning rate. [default: 1e-5, 2e-4 or 1e-2, by --how]", show_default=False)
    ] = None,
    steps: Annotated[int, typer.Option(min=1, help="Steps.")] = 200,
    lanes: Annotated[int, typer.Option(min=1, help="Packs a step.")] = 1,
    tokens: Annotated[int, typer.Option(min=1, help="Tokens a pack.")] = 1024,
    cut: Annotated[bool, typer.Option("--cut", help="Cut documents where a pack is full, instead of never.")] = False,
    quantize: Annotated[str | None, typer.Option(help="The frozen weights in int8, int4 or fp8.")] = None,
    threads: Threads = None,
) -> None:
    """Fine-tune MODEL on SHARDS; of conversations the assistant's words are learned. A stopped run goes on."""
    from ..adapters import Lora, StateTuning
    from ..train.config import Config, Data, Optimizer, Run, Schedule, Source, Stage
    from ..train.world import join

    set_threads(threads)
    adapted = how in (How.lora, How.dora)
    asked = Config(
        model=Source(checkpoint=model, quantize=quantize),
        data=Data(shards=str(shards), order="stream" if cut else "whole"),
        stages=(Stage(steps=steps, lanes=lanes, tokens=tokens),),
        optimizer=Optimizer(lr=_RATES[how] if lr is None else lr, weight_decay=0.0),
        schedule=Schedule(warmup=0.05),
        run=Run(out=str(out), tensorboard=False),
        adapter=Lora(rank=rank, alpha=alpha, targets=tuple(target or ["all"]), dora=how is How.dora)
        if adapted
        else None,
        initial_state=StateTuning(positions=positions) if how is How.state else None,
    )
    carry_out(asked, join("cpu"))
