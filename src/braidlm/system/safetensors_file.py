"""Safetensors files opened: memory-mapped, and what is wrong with one told in one sentence."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from ..errors import BraidError, one_line
from .files import regular_file


def open_safetensors(
    path: str | Path, failure: type[BraidError], *, missing: str, kind: str = "safetensors file"
) -> Any:
    """Opens a regular file (see `files.regular_file`); `failure` says that it is `missing`, or of no such `kind`."""
    with _told(path, failure, kind):
        try:
            return safe_open(regular_file(path), framework="pt")
        except FileNotFoundError:
            raise failure(missing) from None
        except ValueError as error:
            raise OSError(str(error)) from None


@contextmanager
def opened_safetensors(
    path: str | Path, failure: type[BraidError], *, missing: str, kind: str = "safetensors file"
) -> Iterator[Any]:
    """Context of an open file, as `open_safetensors`; what goes wrong while it is read ends in `failure` too."""
    file = open_safetensors(path, failure, missing=missing, kind=kind)
    with _told(path, failure, kind), file:
        yield file


def read_safetensors(
    path: str | Path, failure: type[BraidError], *, missing: str
) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Metadata and all tensors of a file."""
    with opened_safetensors(path, failure, missing=missing) as file:
        return file.metadata() or {}, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


@contextmanager
def _told(path: str | Path, failure: type[BraidError], kind: str) -> Iterator[None]:
    try:
        yield
    except (OSError, SafetensorError) as error:
        raise failure(f"{path} is damaged or no {kind}: {one_line(error)}") from None
