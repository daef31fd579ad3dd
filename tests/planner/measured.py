"""A calibration whose numbers are easy to reckon with."""

from typing import get_args

from braidlm.planner.calibration import ROWS, STEP_ROWS, Calibration, PromptCost
from braidlm.spec.feed_forward import FeedForward

FORMATS = ("float32", "bfloat16", "int8", "int4", "fp8")
MIXERS = ("Attention", "Mamba", "Mamba2", "Hyena")
# A step takes 7 s, a mixer 5 s and a feed-forward 3 s for any number of rows. A weight takes 1 s for one row, 4 s for 4
# and so on in bfloat16, a tenth of that in int8; a byte of a row's state 0.2 s, of keys and values 0.1 s.
MEASURED = Calibration(
    step=(7.0,) * len(STEP_ROWS),
    blocks={name: (5.0,) * len(STEP_ROWS) for name in MIXERS}
    | {kind.__name__: (3.0,) * len(STEP_ROWS) for kind in get_args(FeedForward)},
    weights={name: tuple(rows * (0.1 if name == "int8" else 1.0) for rows in ROWS) for name in FORMATS},
    states={name: tuple(0.2 * rows for rows in STEP_ROWS) for name in MIXERS if name != "Attention"},
    kv={name: tuple(0.1 * rows for rows in STEP_ROWS) for name in ("float32", "bfloat16", "fp8", "int8")},
    prompts={name: PromptCost(channel=2.0, flop=0.01) for name in MIXERS},
    process_bytes=1000,
)
