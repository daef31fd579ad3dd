"""`braid finetune`: a model trained further, whole or by an adapter or initial state, with the usual settings."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

import typer

from .common import ModelArgument, Threads
from .load_options import set_threads
from .train import carry_out

EXAMPLE = "Example: braid finetune smollm2-135m shards runs/poems --method lora --rank 16 --steps 200"

# Usual peaks of the learning rate: what is small and begins at zero moves faster.
_RATES = {"full": 1e-5, "lora": 2e-4, "dora": 2e-4, "state": 1e-2}


class Method(StrEnum):
    """Methods of fine-tuning."""

    full = "full"
    lora = "lora"
    dora = "dora"
    state = "state"


def command(
    model: ModelArgument,
    shards: Annotated[
        Path, typer.Argument(metavar="SHARDS", help="Directory that braid data made with MODEL's tokenizer.")
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Directory of the run: log, checkpoints, result.")],
    method: Annotated[
        Method, typer.Option(help="What is trained: all weights, a LoRA or DoRA adapter, or an initial state.")
    ] = Method.lora,
    rank: Annotated[int, typer.Option(min=1, help="Rank of the adapter.")] = 8,
    alpha: Annotated[float, typer.Option(help="Scale of the adapter: its change counts alpha / rank.")] = 16.0,
    target_modules: Annotated[
        list[str] | None,
        typer.Option(help=r"Projection to adapt, by name; may be repeated. \[default: all]", show_default=False),
    ] = None,
    positions: Annotated[
        int | None,
        typer.Option(
            min=0,
            help=r"Number of learned keys and values in a state. \[default: 16 without recurrences]",
            show_default=False,
        ),
    ] = None,
    lr: Annotated[
        float | None,
        typer.Option(help=r"Peak learning rate. \[default: 1e-5, 2e-4 or 1e-2, by --method]", show_default=False),
    ] = None,
    steps: Annotated[int, typer.Option(min=1, help="Number of optimizer steps.")] = 200,
    batch_size: Annotated[int, typer.Option(min=1, help="Number of packed sequences in a step.")] = 1,
    seq_len: Annotated[int, typer.Option(min=1, help="Length of a packed sequence in tokens.")] = 1024,
    packing: Annotated[
        Literal["stream", "whole"],
        typer.Option(help="Packing of documents: stream cuts one where a sequence is full, whole never."),
    ] = "whole",
    quantize: Annotated[
        str | None, typer.Option(help=r"Dtype of the frozen weights: int8, int4 or fp8. \[default: as they are]")
    ] = None,
    threads: Threads = None,
) -> None:
    """Fine-tune MODEL on SHARDS, in conversations on the assistant's tokens alone. A stopped run goes on."""
    from ..adapters import Lora, StateTuning
    from ..train.config import Config, Data, Optimizer, Run, Schedule, Source, Stage
    from ..train.world import join

    set_threads(threads)
    names = tuple(target_modules or ["all"])
    adapter = Lora(rank=rank, alpha=alpha, target_modules=names, dora=method is Method.dora)
    asked = Config(
        model=Source(checkpoint=model, quantize=quantize),
        data=Data(shards=str(shards), packing=packing),
        stages=(Stage(steps=steps, batch_size=batch_size, seq_len=seq_len),),
        optimizer=Optimizer(lr=_RATES[method] if lr is None else lr, weight_decay=0.0),
        schedule=Schedule(warmup=0.05),
        run=Run(out=str(out), tensorboard=False),
        adapter=adapter if method in (Method.lora, Method.dora) else None,
        initial_state=StateTuning(positions=positions) if method is Method.state else None,
    )
    carry_out(asked, join("cpu"))
