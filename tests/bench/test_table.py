"""Comparisons for people and for programs."""

import json

from braidlm.bench import table
from braidlm.bench.run import Comparison, Decode, Measured, Prefill
from braidlm.planner.floor import Rates

RATES = Rates(bandwidth=34.4e9, dtype="bfloat16", products=418e9, float32=182e9)
MACHINE = {
    "processor": "Some CPU", "instructions": ["avx2"], "cores": 2, "braidlm": "0.1", "commit": None, "torch": "2",
    "python": "3", "busy": 0.25,
}  # fmt: skip


def comparison() -> Comparison:
    prompt = Measured(Prefill(100), 0.5, {"braidlm": [1.0, 2.0, 0.5], "transformers": [3.0, 2.0, 2.0]})
    decoding = Measured(Decode(8, 2, 16), 0.5, {"braidlm": [1.0, 1.0, 4.0], "transformers": [0.5, 1.0, 2.0]})
    about = {"braidlm": {"library": "braidlm 0.1", "setting": "bf16"}}
    memory = {"braidlm": {"now": 3 << 20, "peak": 4 << 20}}
    absent = {"llama.cpp": "llama.cpp has no format for this model"}
    return Comparison("tiny", "bf16", RATES, [prompt, decoding], about, memory, absent)


def test_markdown() -> None:
    """Oracle: medians, ratios and parts of the floor, worked out by hand."""
    assert table.markdown([comparison()], ["transformers", "llama.cpp"]).splitlines() == [
        "| model | weights | task | braidlm tok/s | of floor | transformers tok/s | braidlm is | llama.cpp tok/s "
        "| braidlm is |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
        "| tiny | bf16 | prompt of 100 | 100 | 50% | 50.0 | 3.00x (1.00-4.00) | - | - |",
        "| tiny | bf16 | decoding, 2 sequences | 16.0 | 50% | 16.0 | 0.50x (0.50-1.00) | - | - |",
        "",
        "| model | weights | side | setting | memory | at its peak |",
        "| --- | --- | --- | --- | --- | --- |",
        "| tiny | bf16 | braidlm 0.1 | bf16 | 3 MiB | 4 MiB |",
        "",
        "- tiny, bf16: llama.cpp has no format for this model",
    ]


def test_conditions() -> None:
    """Oracle: the sentence."""
    assert table.conditions(MACHINE, [comparison()], 1, 3) == (
        "Some CPU (avx2), 1 of 2 cores: 34.4 GB/s read, matrix products 418 GFLOP/s in bfloat16, 182 in float32. "
        "braidlm 0.1 (no checkout), torch 2, Python 3; 3 rounds, median (min-max). "
        "Other processes took 25% of the cores before it began."
    )


def test_json() -> None:
    """Oracle: what was measured."""
    found = json.loads(json.dumps(table.to_json([comparison()], MACHINE, threads=2)))
    assert found["machine"] == MACHINE and found["threads"] == 2
    first = found["comparisons"][0]
    assert first["rates"] == RATES._asdict()
    assert first["measured"][0]["task"] == {"kind": "prefill", "length": 100}
    assert first["measured"][1]["task"] == {"kind": "decode", "steps": 8, "batch": 2, "context": 16}
    assert first["measured"][1]["seconds"] == {"braidlm": [1.0, 1.0, 4.0], "transformers": [0.5, 1.0, 2.0]}
