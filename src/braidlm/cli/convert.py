"""`braid convert`: rewrite a checkpoint in another format or dtype."""

from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer

from ..errors import InputError
from ..system.files import check_free, check_no_file
from ..system.progress_bar import progress
from .common import AllowPickle, Json, ModelArgument, out, print_json
from .load_options import LoadOptions

EXAMPLE = "Example: braid convert smollm2-135m ./smollm2.gguf --quantize int8"

_AUTO = "auto"


class _Wanted(NamedTuple):
    """The options, as they were given."""

    format: str
    dtype: str
    quantize: str | None
    tokenizer: bool
    allow_pickle: bool


def command(
    model: ModelArgument,
    target: Annotated[
        Path,
        typer.Argument(
            metavar="DIRECTORY|FILE.gguf", help="A directory or GGUF file that does not exist yet.", show_default=False
        ),
    ],
    format: Annotated[
        str, typer.Option(help="Layout of the directory: hf, braidlm, mamba-original or mamba2-original.")
    ] = "hf",
    dtype: Annotated[
        str,
        typer.Option(
            help="Dtype of the written weights: auto (as stored), float32, bfloat16, float16 (GGUF only) or float64."
        ),
    ] = _AUTO,
    quantize: Annotated[
        str | None,
        typer.Option(
            help="Dtype of quantized weights in a GGUF file: int8, int4, or keep (as MODEL has them).",
            show_default=False,
        ),
    ] = None,
    no_tokenizer: Annotated[
        bool, typer.Option("--no-tokenizer", help="Write a GGUF file without a tokenizer.")
    ] = False,
    allow_pickle: AllowPickle = False,
    json: Json = False,
) -> None:
    """Write MODEL to a directory, or with its tokenizer to a GGUF file; either appears whole or not at all."""
    from .gguf_file import SUFFIX

    wanted = _Wanted(format, dtype, quantize, not no_tokenizer, allow_pickle)
    facts = _to_file(model, target, wanted) if target.suffix == SUFFIX else _to_directory(model, target, wanted)
    if json:
        print_json(facts)
        return
    out.print(f"{facts['directory']}: {', '.join(facts['files'])}", markup=False, highlight=False)


def _to_directory(model: str, target: Path, wanted: _Wanted) -> dict[str, Any]:
    from ..checkpoints.saving import check_format

    check_format(wanted.format)
    if wanted.quantize is not None or not wanted.tokenizer:
        raise InputError(
            f"--quantize and --no-tokenizer are for GGUF files, but {target} is to be a directory; "
            "braid quantize writes one with quantized weights"
        )
    check_free(target)
    language = LoadOptions(dtype=wanted.dtype, allow_pickle=wanted.allow_pickle).load(model)
    with progress(f"writing {target.name}") as step:
        language.save(target, wanted.format, step)
    files = sorted(file.name for file in target.iterdir())
    total = sum((target / file).stat().st_size for file in files)
    return {"directory": str(target), "format": wanted.format, "files": files, "bytes": total}


def _to_file(model: str, target: Path, wanted: _Wanted) -> dict[str, Any]:
    """Writes a GGUF file; with neither dtype nor quantize given, weights stay as they are stored."""
    from ..checkpoints.quantizing import KEEP
    from .gguf_file import check_dtype, note_rounding, stored_as, write_gguf

    choices = ("int8", "int4", KEEP)
    if wanted.quantize not in (None, *choices):
        raise InputError(f"--quantize is {wanted.quantize!r}, but GGUF files can have {', '.join(choices)}")
    as_stored = wanted.dtype == _AUTO
    given = None if as_stored else check_dtype(wanted.dtype)
    check_no_file(target)
    stored = stored_as(model, allow_pickle=wanted.allow_pickle)
    quantize = wanted.quantize or (KEEP if as_stored and stored.quantized else None)
    if quantize == KEEP:
        note_rounding(stored, target)
    dtype = stored.dtype if as_stored else given
    # float16 is a format of files, not of activations; what is written in it is read without loss in float32.
    loaded = "float32" if dtype == "float16" else dtype or _AUTO
    language = LoadOptions(dtype=loaded, quantize=quantize, allow_pickle=wanted.allow_pickle).load(model)
    return write_gguf(
        language,
        target,
        stored,
        dtype=dtype,
        dequantize=not as_stored and quantize is None,
        with_tokenizer=wanted.tokenizer,
    )
