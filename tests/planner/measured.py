"""A calibration whose numbers are easy to reckon with."""

from braidlm.planner.calibration import ROWS, Calibration

FORMATS = ("float32", "bfloat16", "int8", "int4", "fp8")
# A weight takes 1 s for one row, 4 s for 4 and so on in bfloat16, a tenth of that in int8.
MEASURED = Calibration(
    weight_seconds={name: tuple(rows * (0.1 if name == "int8" else 1.0) for rows in ROWS) for name in FORMATS},
    mixer_rates={"Attention": 100.0},
    bandwidth=10.0,
    process_bytes=1000,
)
