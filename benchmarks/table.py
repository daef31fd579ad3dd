"""The comparisons of docs/benchmarks.md: every family, beside the baselines that have it, on the same weights.

    python -m benchmarks.table --rounds 5

Prints what `braid bench` prints, and one JSON object on the last line. A model that is too large
for this machine's memory is cut to its first blocks, as many as fit.
"""

import argparse
import json
import tempfile
from dataclasses import replace
from pathlib import Path

import torch

from braidlm.bench import table
from braidlm.bench.run import Decode, Prefill, Runner, Task
from braidlm.bench.weights import Weights
from braidlm.families.presets import preset
from braidlm.model import footprint
from braidlm.planner import probe
from braidlm.system.memory import available_memory

MODELS = "mamba-130m mamba2-130m granite-4.0-h-350m smollm2-135m hymba-1.5b granite-4.0-tiny stripedhyena-7b".split()
PEERS = ("transformers", "llama.cpp")

# The largest model, as a part of free memory: while its files are written it is there as a whole, with a shard's copy.
_SHARE = 0.7


def fitting(name: str) -> int | None:
    """How many blocks of a preset fit; None for all of them."""
    spec = preset(name).spec
    room = _SHARE * available_memory()
    for layers in range(len(spec.blocks), 1, -1):
        if footprint.weight_bytes(replace(spec, blocks=spec.blocks[:layers]), torch.bfloat16) < room:
            return layers if layers < len(spec.blocks) else None
    return 1


def main() -> None:
    """Runs the comparisons."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", nargs="*", default=MODELS, choices=MODELS)
    parser.add_argument("--precision", nargs="*", default=["bf16"])
    parser.add_argument("--llama-python", help="an interpreter that has llama-cpp-python")
    given = parser.parse_args()
    machine = probe.machine() | {"busy": probe.busy_share()}
    threads = torch.get_num_threads()
    runner = Runner(PEERS, given.rounds, threads, given.llama_python)
    tasks: list[Task] = [Prefill(512), Prefill(2048), Decode(32, 1, 128), Decode(32, 16, 128)]
    found = []
    for name in given.only:
        with tempfile.TemporaryDirectory(prefix="braidlm-bench-") as place:
            weights = Weights(name, Path(place), layers=fitting(name), llama_python=given.llama_python)
            found += [runner.compare(weights, precision, tasks) for precision in given.precision]
    print(table.conditions(machine, found, threads, given.rounds))
    print("\n" + table.markdown(found, PEERS) + "\n")
    print(json.dumps(table.to_json(found, machine, threads=threads, rounds=given.rounds)))


if __name__ == "__main__":
    main()
