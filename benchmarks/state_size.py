"""What a sequence holds as it grows: bytes of state beside the plan's, and the process's memory.

    python -m benchmarks.state_size mamba-130m mamba2-130m
    python -m benchmarks.state_size stripedhyena-7b --only Hyena --layers 2

Models have random weights, in bfloat16. `--only` keeps the first blocks with that mixer and leaves the others
out, as many as `--layers` says, so that one kind of layer is measured alone. The last line is one JSON object.
"""

import argparse
import json
from dataclasses import replace

import torch

import braidlm
from braidlm.bench.sides.serve import memory
from braidlm.families.presets import preset
from braidlm.spec import ModelSpec

LENGTHS = (1024, 8192, 32768, 131072)
CHUNK = 1024


def part_of(spec: ModelSpec, mixer: str | None, layers: int | None) -> ModelSpec:
    """The first `layers` blocks, of those with the given mixer; without a limit of positions."""
    blocks = [block for block in spec.blocks if mixer is None or type(block.mixer).__name__ == mixer]
    return replace(spec, blocks=tuple(blocks[:layers]), max_positions=None)


def grown(spec: ModelSpec) -> list[dict[str, int]]:
    """What is held after each of `LENGTHS` tokens, in bytes."""
    model = braidlm.build(spec, dtype="bfloat16")
    state, found = model.new_state(), []
    for part in torch.randint(spec.vocab, (LENGTHS[-1],)).split(CHUNK):
        model.forward(part[None], state=state, logits=None)
        (length,) = state.lengths
        if length in LENGTHS:
            planned = spec.state_bytes(length, dtype="bfloat16")
            found.append({"tokens": length, "state": state.nbytes, "planned": planned, "process": memory()["now"]})
    return found


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", help="presets")
    parser.add_argument("--only", help="a mixer's name, as in braidlm.spec")
    parser.add_argument("--layers", type=int)
    given = parser.parse_args()
    print("| model | tokens | state, bytes | planned | process |\n| --- | --- | --- | --- | --- |")
    found = {}
    for name in given.models:
        found[name] = grown(part_of(preset(name).spec, given.only, given.layers))
        for row in found[name]:
            tokens, state, planned, process = row.values()
            print(f"| {name} | {tokens} | {state} | {planned} | {process / 2**20:.0f} MiB |", flush=True)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
