"""`braid lm-eval`: lm-eval's command line, with models of braidlm as `--model braid`."""

import importlib.util
from typing import Annotated

import typer

from ..errors import not_installed

EXAMPLE = "Example: braid lm-eval run --model braid --model_args pretrained=smollm2-135m --tasks arc_easy"
# What follows the first word is lm-eval's, help and all.
CONTEXT = {"ignore_unknown_options": True, "allow_interspersed_args": False}


def command(
    arguments: Annotated[
        list[str],
        typer.Argument(
            metavar="ARGS...",
            help="Arguments of lm-eval: run, ls or validate, with --help for each.",
            show_default=False,
        ),
    ],
) -> None:
    """Run lm-eval (EleutherAI's benchmarks) with models of braidlm: --model braid --model_args pretrained=MODEL,...

    model_args are max_length, batch_size, dtype, device, quantize, kv_dtype, ops, add_bos_token, prefix_token_id,
    max_gen_toks and think_end_token; everything is passed on to lm-eval's own command line.
    """
    if importlib.util.find_spec("lm_eval") is None:
        raise not_installed("braid lm-eval", "lm-eval", "eval")
    from ..eval.lm_eval_command import run_lm_eval

    run_lm_eval(arguments)
