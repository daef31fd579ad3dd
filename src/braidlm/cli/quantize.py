"""`braid quantize`: write a model with its weights in few bits."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.table import Table

from ..errors import InputError
from ..system.files import check_free, check_no_file
from ..system.progress_bar import progress
from ..system.units import size
from .common import AllowPickle, Json, ModelArgument, Threads, out, print_json, read_text
from .load_options import LoadOptions

if TYPE_CHECKING:
    from ..api.language_model import LanguageModel
    from ..eval.divergence import Divergence, DivergenceReport

EXAMPLE = "Example: braid quantize smollm2-135m ./smollm2-int4 --bits 4 --calibration self --report some.txt"

_FORMATS = {"4": "int4", "8": "int8", "fp8": "fp8"}
# Tokens of a sequence in calibration: long enough for states and attention to be as in use.
_SEQUENCE = 512
_SELF = "self"


def command(
    model: ModelArgument,
    target: Annotated[
        Path,
        typer.Argument(
            metavar="DIRECTORY|FILE.gguf", help="A directory or GGUF file that does not exist yet.", show_default=False
        ),
    ],
    bits: Annotated[
        Literal["4", "8", "fp8"], typer.Option(help="Bits of a weight without its scales: 4, 8 or fp8.")
    ] = "4",
    calibration: Annotated[
        str | None,
        typer.Option(
            metavar="FILE|self",
            help="Text to calibrate on, so that outputs on it stay close; self: text that MODEL generates.",
            show_default=False,
        ),
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Text on which the loss is measured, beside that of bfloat16.", show_default=False
        ),
    ] = None,
    tokens: Annotated[int, typer.Option(min=2, help="Maximum number of tokens of each text.")] = 16384,
    dtype: Annotated[str, typer.Option(help="Dtype of activations: bfloat16 or float32.")] = "bfloat16",
    threads: Threads = None,
    allow_pickle: AllowPickle = False,
    json: Json = False,
) -> None:
    """Quantize MODEL and write it to a directory in braidlm's own format, or to a GGUF file."""
    from ..eval.divergence import divergence
    from ..eval.sequences import WINDOW
    from .gguf_file import SUFFIX, stored_as, write_gguf

    weight_format = _FORMATS[bits]
    single = target.suffix == SUFFIX
    _check_format(weight_format, calibrated=calibration is not None, single=single)
    (check_no_file if single else check_free)(target)
    calibrating = None if calibration in (None, _SELF) else read_text(Path(str(calibration)))
    reporting = None if report is None else read_text(report)
    load: dict[str, Any] = {"allow_pickle": allow_pickle, "threads": threads}
    language = LoadOptions(dtype=dtype, quantize=weight_format if calibration is None else None, **load).load(model)
    if calibration is not None:
        _calibrate(language, weight_format, calibrating, tokens)
    if single:
        write_gguf(language, target, stored_as(model, allow_pickle=allow_pickle), dtype=None)
    else:
        with progress(f"writing {target.name}") as step:
            language.save(target, "braidlm", step)
    found = None
    if reporting is not None:
        reference = LoadOptions(dtype="bfloat16", **load).load(model)
        with progress("measuring") as step:
            found = divergence(language, reference, _windows(language, reporting, tokens, WINDOW), step)
    _tell(language, target, weight_format, found, json=json)


def _check_format(weight_format: str, *, calibrated: bool, single: bool) -> None:
    """Refuses a format that has no calibration, or that a GGUF file cannot have."""
    from ..quant.gptq import CALIBRATED_FORMATS

    if calibrated and weight_format not in CALIBRATED_FORMATS:
        raise InputError(
            f"--calibration is for 4 and 8 bits; weights in {weight_format} are rounded to the nearest number"
        )
    if single and weight_format == "fp8":
        raise InputError("GGUF files have no fp8; --bits can be 4 or 8 for them")


def _tell(
    language: "LanguageModel", target: Path, weight_format: str, found: "DivergenceReport | None", *, json: bool
) -> None:
    """Prints what was written, and how far it is from bfloat16 if that was measured."""
    weights = sum(weight.nbytes for _, weight in language.network.named_weights())
    if json:
        facts = {"directory": str(target), "format": weight_format, "weight_bytes": weights}
        print_json(facts | ({} if found is None else {"report": _facts(found)}))
        return
    out.print(f"{target}: {weight_format}, {size(weights)} of weights", markup=False, highlight=False)
    if found is not None:
        out.print(_table(found))


def _calibrate(language: "LanguageModel", weight_format: str, text: str | None, tokens: int) -> None:
    """Quantizes a model so that its outputs on a text stay close; without one, on a text that it writes itself."""
    sequences = _own(language) if text is None else _windows(language, text, tokens, _SEQUENCE)
    with progress("rounding") as step:
        language.quantize(weight_format, calibration=sequences, progress=step)


def _own(language: "LanguageModel") -> list[Any]:
    from ..api.self_calibration import sample_calibration_text

    with progress("writing a text to round by") as step:
        return sample_calibration_text(language, progress=step)


def _windows(language: "LanguageModel", text: str, tokens: int, length: int) -> list[Any]:
    """Windows of a text, no longer than the model can take."""
    from ..eval.sequences import windows

    return windows(language.encode(text), tokens, min(length, language.spec.max_positions or length))


def _facts(found: "DivergenceReport") -> dict[str, Any]:
    return {"whole": found.whole._asdict(), "buckets": [bucket._asdict() for bucket in found.buckets]}


def _table(found: "DivergenceReport") -> Table:
    columns = ("positions", "tokens", "perplexity", "of bfloat16", "divergence", "same first choice")
    table = Table(*columns, box=None, padding=(0, 2, 0, 0))
    for bucket in (*found.buckets, found.whole):
        table.add_row(*_cells(bucket))
    return table


def _cells(bucket: "Divergence") -> tuple[str, ...]:
    return (
        f"{bucket.first}-{bucket.last}",
        str(bucket.tokens),
        f"{bucket.perplexity:.3f}",
        f"{bucket.reference_perplexity:.3f}",
        f"{bucket.divergence:.4f}",
        f"{bucket.agreement:.1%}",
    )
