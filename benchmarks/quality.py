"""What weights in few bits lose on a text, beside llama.cpp's own quantization of the same weights.

    python -m benchmarks.quality DIRECTORY --text DIRECTORY/eval.txt

DIRECTORY is a checkpoint off every grid (examples/off_grid.py makes one, and the text). Everything is run
by braidlm, so that only the weights differ: llama.cpp's files are kept as they are stored. Bytes are
those of all weights. The last line is one JSON object.
"""

import argparse
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch

import braidlm
from braidlm import LanguageModel
from braidlm.api.self_calibration import sample_calibration_text
from braidlm.bench.weights import Weights
from braidlm.eval.divergence import DivergenceReport, divergence
from braidlm.eval.sequences import WINDOW, windows

ROW = 512  # tokens of a row of calibration


def variants(given: argparse.Namespace) -> Iterator[tuple[str, LanguageModel]]:
    """Each way to store the weights, one in memory at a time."""
    source = str(given.directory)
    for weight_format in ("int8", "int4"):
        yield f"braidlm {weight_format}, nearest", braidlm.load(source, dtype="bfloat16", quantize=weight_format)
        model = braidlm.load(source, dtype="bfloat16")
        model.quantize(weight_format, calibration=sample_calibration_text(model))
        yield f"braidlm {weight_format}, rounded by its own text", model
        if given.calibration:
            model = braidlm.load(source, dtype="bfloat16")
            ids = model.encode(given.calibration.read_text(encoding="utf-8"))
            model.quantize(weight_format, calibration=windows(ids, given.tokens, ROW))
            yield f"braidlm {weight_format}, rounded by {given.calibration.name}", model
    with tempfile.TemporaryDirectory(prefix="braidlm-quality-") as place:
        weights = Weights(source, Path(place), llama_python=given.llama_python)
        for weight_format, name in (("int8", "Q8_0"), ("int4", "Q4_0")):
            path = weights.files("llama.cpp", weight_format)
            assert path is not None
            weights.forget()
            yield f"llama.cpp {name}", braidlm.load(path, dtype="bfloat16", quantize="keep")


def line(name: str, nbytes: int, found: DivergenceReport) -> str:
    """One row of the table."""
    whole = found.whole
    change = whole.perplexity / whole.reference_perplexity - 1
    return (
        f"| {name} | {nbytes / 1e6:.1f} | {whole.divergence:.4f} | {whole.perplexity:.3f} | {change:+.2%} "
        f"| {whole.agreement:.1%} |"
    )


def main() -> None:
    """Measures every variant."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--text", type=Path, required=True)
    parser.add_argument("--tokens", type=int, default=8192, help="of the text, and of the calibration text")
    parser.add_argument("--calibration", type=Path, help="another text to round by")
    parser.add_argument("--llama-python", help="an interpreter that has llama-cpp-python")
    given = parser.parse_args()
    reference = braidlm.load(given.directory, dtype="bfloat16")
    rows = windows(reference.encode(given.text.read_text(encoding="utf-8")), given.tokens, WINDOW)
    print("| weights | MB | divergence | perplexity | | same token |\n| --- | --- | --- | --- | --- | --- |")
    found = {}
    with torch.no_grad():
        for name, model in variants(given):
            nbytes = sum(weight.nbytes for _, weight in model.network.named_weights())
            measured = divergence(model, reference, rows)
            found[name] = {"bytes": nbytes} | measured.whole._asdict()
            print(line(name, nbytes, measured), flush=True)
    print(f"\nbfloat16: perplexity {measured.whole.reference_perplexity:.3f} of {sum(map(len, rows))} tokens")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
